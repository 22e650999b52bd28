//! What nothing references goes, what something references stays, whoever crashes or comes between.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;

use super::{
    super::{changes::checks::is_of_changes, testing::*},
    *,
};
use crate::{
    oci::Reference,
    registry::{MountSource, Mounted, RegistryError, upkeep::DueWork},
    storage::{MetaStore as _, faulty::FaultRates, keys::Queue},
};

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
/// What clocks may differ by, and a little.
const MARGIN: u64 = 6 * MINUTE;

fn world() -> World {
    let mut world = World::new();
    world.settings.limits.link_grace = Duration::from_secs(60 * 60);
    world
}

pub(in crate::registry) fn later(by_ms: u64) -> u64 {
    clock::now_ms() + by_ms
}

/// What is due in a queue at that time.
async fn due_in(world: &World, queue: Queue, now_ms: u64) -> Vec<DueWork> {
    let reader = world.settled().await;
    let rows: BTreeSet<String> = world.meta.keys().into_iter().map(|key| key.partition).collect();
    let mut found = Vec::new();
    for n in (0..keys::DUE_PARTITIONS).filter(|n| rows.contains(&queue.partition(*n))) {
        let page = reader.due_work(queue, n, None, 1000, now_ms).await.unwrap();
        found.extend(page.work);
    }
    found
}

/// Does all that is due at that time, in both queues, until nothing is.
pub(in crate::registry) async fn tend_all(
    world: &World,
    registry: &Registry,
    now_ms: u64,
) -> Vec<(&'static str, Tended)> {
    let mut done = Vec::new();
    for queue in [Queue::Upkeep, Queue::Collection] {
        // What is done may make more due.
        for _ in 0..2 {
            for work in due_in(world, queue, now_ms).await {
                if let Ok(tended) = registry.tend(&work, now_ms).await {
                    done.push((work.kind(), tended));
                }
            }
        }
    }
    done
}

/// Looks again and again until long after everything.
pub(in crate::registry) async fn tend_for_weeks(world: &World, registry: &Registry) {
    for hours in [2, 4, 9, 16, 33, 58, 24 * 9, 24 * 12] {
        tend_all(world, registry, later(hours * HOUR)).await;
    }
}

pub(in crate::registry) fn nothing_is_left(world: &World) {
    assert_eq!((world.blobs.objects(), world.blobs.uploads()), (vec![], vec![]));
    let mut keys = world.meta.keys();
    keys.retain(|key| !is_of_changes(key) && !key.partition.starts_with("_usage#"));
    assert!(keys.is_empty(), "{keys:?} are left");
}

pub(in crate::registry) async fn image_of(
    registry: &Registry,
    name: &RepoName,
    layers: &[&[u8]],
) -> (Bytes, Reference) {
    let config = push(registry, name, b"{}").await;
    let mut digests = vec![config];
    for layer in layers {
        digests.push(push(registry, name, layer).await);
    }
    let body = image(&digests.iter().collect::<Vec<_>>(), "");
    (body.clone(), Reference::Digest(sha256(&body)))
}

fn by_tag() -> Reference {
    Reference::Tag(tag("t"))
}

#[tokio::test]
async fn a_blob_that_nobody_references_goes_and_leaves_nothing() {
    let world = world();
    let (one, two, name) = (world.member(1), world.member(2), repo("a"));
    let digest = push(&one, &name, b"lonely").await;
    assert_eq!(tend_all(&world, &two, later(HOUR - MINUTE)).await, []);
    assert!(one.blob(&name, &digest).await.is_ok());

    let done = tend_all(&world, &two, later(HOUR + MARGIN)).await;
    assert!(done.contains(&("link", Tended::Done)), "{done:?}");
    assert!(matches!(
        one.blob(&name, &digest).await,
        Err(RegistryError::BlobUnknown)
    ));
    // Whoever still reads it finds its object.
    assert_eq!(world.blobs.objects().len(), 1);
    tend_all(&world, &two, later(6 * HOUR)).await;
    assert_eq!(world.blobs.objects().len(), 1);
    tend_for_weeks(&world, &two).await;
    nothing_is_left(&world);
}

#[tokio::test]
async fn five_requests_collect_a_blob_and_one_marks_what_is_used() {
    let world = world();
    let (one, two, name) = (world.member(1), world.member(2), repo("a"));
    push(&one, &name, b"lonely").await;
    let now_ms = later(HOUR + MARGIN);
    let [work] = due_in(&world, Queue::Collection, now_ms)
        .await
        .try_into()
        .unwrap();
    world.calls.take();
    assert_eq!(two.tend(&work, now_ms).await.unwrap(), Tended::Done);
    assert_eq!(world.calls.take(), "answered×2 get_many×1 range×2 transact×2");
}

#[tokio::test]
async fn everything_of_a_deleted_image_goes_and_what_others_use_stays() {
    let world = world();
    let (one, two) = (world.member(1), world.member(2));
    let (name, other) = (repo("a"), repo("b"));
    let (body, reference) = image_of(&one, &name, &[b"mine", b"shared"]).await;
    one.put_manifest(put(&name, &by_tag(), &body)).await.unwrap();
    let (theirs, _) = image_of(&one, &other, &[b"shared", b"theirs"]).await;
    one.put_manifest(put(&other, &by_tag(), &theirs)).await.unwrap();

    // While they are in use, nothing goes, and nobody looks at them again.
    tend_for_weeks(&world, &two).await;
    assert_eq!(two.manifest(&name, &by_tag()).await.unwrap().1, body);
    assert!(
        due_in(&world, Queue::Collection, later(1000 * HOUR))
            .await
            .is_empty()
    );

    one.delete_manifest(delete(&name, &reference)).await.unwrap();
    tend_for_weeks(&world, &two).await;
    let left = world.blobs.objects().len();
    assert_eq!(left, 3, "configuration, and two layers of the other image");
    assert_eq!(two.manifest(&other, &by_tag()).await.unwrap().1, theirs);
    for content in [&b"{}"[..], b"shared", b"theirs"] {
        assert_eq!(pull(&two, &other, &sha256(content)).await.unwrap(), content);
        assert!(two.blob(&name, &sha256(content)).await.is_err());
    }
    let theirs = Reference::Digest(sha256(&theirs));
    one.delete_manifest(delete(&other, &theirs)).await.unwrap();
    // The clock doesn't move, so what was armed again is looked at once more after weeks.
    tend_for_weeks(&world, &two).await;
    nothing_is_left(&world);
}

#[tokio::test]
async fn a_layer_of_two_images_goes_with_the_second() {
    let world = world();
    let (one, two, name) = (world.member(1), world.member(2), repo("a"));
    let (first, first_digest) = image_of(&one, &name, &[b"both", b"first"]).await;
    let (second, second_digest) = image_of(&one, &name, &[b"both", b"second"]).await;
    for (body, tagged) in [(&first, "1"), (&second, "2")] {
        let reference = Reference::Tag(tag(tagged));
        one.put_manifest(put(&name, &reference, body)).await.unwrap();
    }
    one.delete_manifest(delete(&name, &first_digest)).await.unwrap();
    tend_for_weeks(&world, &two).await;
    assert!(two.blob(&name, &sha256(b"first")).await.is_err());
    assert_eq!(pull(&two, &name, &sha256(b"both")).await.unwrap(), &b"both"[..]);
    one.delete_manifest(delete(&name, &second_digest)).await.unwrap();
    tend_for_weeks(&world, &two).await;
    nothing_is_left(&world);
}

#[tokio::test]
async fn references_of_a_push_that_failed_keep_nothing() {
    let world = world();
    let (one, two, name) = (world.member(1), world.member(2), repo("a"));
    let layer = push(&one, &name, b"layer").await;
    let body = image(&[&layer, &sha256(b"missing")], "");
    let mark = row::bytes(&rows::Mark {
        min_reader: rows::SCHEMA,
    });
    let op = [keys::reference(&name, &layer, &sha256(&body)).put(Expect::Any, mark)];
    world.meta.transact(Version::random(), &op).await.unwrap();
    tend_for_weeks(&world, &two).await;
    nothing_is_left(&world);
}

#[tokio::test]
async fn what_head_says_is_there_stays_for_a_manifest() {
    let world = world();
    let (one, two, name) = (world.member(1), world.member(2), repo("a"));
    let digest = push(&one, &name, b"layer").await;
    // Made long ago.
    let key = keys::link(&digest, &name);
    let age = |by_ms: u64| {
        let (key, meta) = (key.clone(), world.meta.clone());
        async move {
            let found = meta.get(&key).await.unwrap().unwrap();
            let link: rows::Link = row::read(&found).unwrap();
            let aged = rows::Link {
                armed_ms: link.armed_ms - by_ms,
                ..link
            };
            let op = key.put(Expect::Version(found.version), row::bytes(&aged));
            meta.transact(Version::random(), &[op]).await.unwrap();
        }
    };
    age(20 * MINUTE).await;
    world.calls.take();
    one.blob_to_rely_on(&name, &digest).await.unwrap();
    assert_eq!(world.calls.take(), "get×1", "it stays for long enough");
    age(40 * MINUTE).await;
    world.calls.take();
    one.blob_to_rely_on(&name, &digest).await.unwrap();
    assert_eq!(world.calls.take(), "answered×1 get×1 transact×1", "armed");
    let done = tend_all(&world, &two, later(HOUR - MINUTE)).await;
    assert!(!done.contains(&("link", Tended::Done)), "{done:?}");
    assert!(one.blob(&name, &digest).await.is_ok());

    // Once a manifest uses it, it costs nothing more.
    let body = image(&[&digest, &push(&one, &name, b"{}").await], "");
    one.put_manifest(put(&name, &by_tag(), &body)).await.unwrap();
    tend_all(&world, &two, later(3 * HOUR)).await;
    age(100 * HOUR).await;
    world.calls.take();
    one.blob_to_rely_on(&name, &digest).await.unwrap();
    assert_eq!(world.calls.take(), "get×1");
}

#[tokio::test]
async fn a_push_that_meets_the_collector_anywhere_is_whole_or_told_so() {
    let mut told = 0;
    at_every_await(async |polls| {
        let world = world();
        let (one, two, name) = (world.member(1), world.member(2), repo("a"));
        let config = push(&one, &name, b"{}").await;
        let layer = push(&one, &name, b"layer").await;
        let body = image(&[&config, &layer], "");
        let tag = by_tag();
        let manifest = one.put_manifest(put(&name, &tag, &body));
        let (pushed, early) = interrupted(polls, manifest, tend_all(&world, &two, later(2 * HOUR))).await;
        match pushed {
            Ok(_) => {
                tend_for_weeks(&world, &two).await;
                assert_eq!(two.manifest(&name, &by_tag()).await.unwrap().1, body);
                for (digest, content) in [(&config, &b"{}"[..]), (&layer, b"layer")] {
                    assert_eq!(pull(&two, &name, digest).await.unwrap(), content);
                }
            }
            Err(RegistryError::ManifestBlobUnknown { .. }) => {
                told += 1;
                tend_for_weeks(&world, &two).await;
                nothing_is_left(&world);
            }
            Err(error) => panic!("{error:?}"),
        }
        early
    })
    .await;
    assert!(told > 1, "{told}");
}

#[tokio::test]
async fn an_upload_or_a_mount_that_meets_the_collector_anywhere_is_whole() {
    let (mut there, mut collected) = (0, 0);
    at_every_await(async |polls| {
        let world = world();
        let (one, two) = (world.member(1), world.member(2));
        let (name, other) = (repo("a"), repo("b"));
        let digest = push(&one, &name, b"layer").await;
        let again = push(&one, &other, b"layer");
        let (again, early) = interrupted(polls, again, tend_all(&world, &two, later(2 * HOUR))).await;
        assert_eq!(again, digest);
        // Linked before the clock moved, it had its grace.
        match two.blob(&other, &digest).await {
            Ok(_) => {
                there += 1;
                assert_eq!(pull(&two, &other, &digest).await.unwrap(), &b"layer"[..]);
            }
            Err(error) => {
                collected += 1;
                assert!(matches!(error, RegistryError::BlobUnknown), "{error:?}");
            }
        }
        tend_for_weeks(&world, &two).await;
        nothing_is_left(&world);
        early
    })
    .await;
    assert!(there > 3 && collected > 0, "{there} and {collected}");
    let (mut linked, mut not_here) = (0, 0);
    at_every_await(async |polls| {
        let world = world();
        let (one, two) = (world.member(1), world.member(2));
        let (name, other) = (repo("a"), repo("b"));
        let digest = push(&one, &name, b"layer").await;
        let mount = one.mount(&other, &digest, MountSource::Repository(&name));
        let (mounted, early) = interrupted(polls, mount, tend_all(&world, &two, later(2 * HOUR))).await;
        match mounted.unwrap() {
            Mounted::Linked => {
                linked += 1;
                if two.blob(&other, &digest).await.is_ok() {
                    assert_eq!(pull(&two, &other, &digest).await.unwrap(), &b"layer"[..]);
                }
            }
            Mounted::NotHere => not_here += 1,
        }
        tend_for_weeks(&world, &two).await;
        nothing_is_left(&world);
        early
    })
    .await;
    assert!(linked > 0 && not_here > 0, "{linked} and {not_here}");
}

#[tokio::test]
async fn whoever_dies_anywhere_another_one_ends_the_work() {
    at_every_await(async |polls| {
        let world = world();
        let (one, two, name) = (world.member(1), world.member(2), repo("a"));
        let (body, reference) = image_of(&one, &name, &[b"one", b"two"]).await;
        one.put_manifest(put(&name, &by_tag(), &body)).await.unwrap();
        push(&one, &repo("b"), b"one").await;
        tend_all(&world, &two, later(2 * HOUR)).await;
        one.delete_manifest(delete(&name, &reference)).await.unwrap();
        let ended = {
            let tend = tend_for_weeks(&world, &one);
            let mut tend = std::pin::pin!(tend);
            polled(tend.as_mut(), polls).await
        };
        tend_for_weeks(&world, &two).await;
        tend_for_weeks(&world, &two).await;
        nothing_is_left(&world);
        ended.is_some()
    })
    .await;
}

#[tokio::test]
async fn two_collectors_at_one_row_do_it_once() {
    for n in 0..60 {
        let world = world();
        let (one, two, name) = (world.member(1), world.member(2), repo("a"));
        let digest = push(&one, &name, format!("{n}").as_bytes()).await;
        push(&one, &repo("b"), format!("{n}").as_bytes()).await;
        let now_ms = later(2 * HOUR);
        for work in due_in(&world, Queue::Collection, now_ms).await {
            let both = tokio::join!(one.tend(&work, now_ms), two.tend(&work, now_ms));
            let done = [both.0.unwrap(), both.1.unwrap()];
            assert!(done.iter().filter(|tended| **tended == Tended::Done).count() <= 2);
        }
        tend_for_weeks(&world, &one).await;
        assert!(one.blob(&name, &digest).await.is_err());
        nothing_is_left(&world);
    }
}

#[tokio::test(start_paused = true)]
async fn failing_stores_delay_it() {
    for seed in 0..20 {
        let mut world = World::with_faults(seed, FaultRates::each(0.08));
        world.settings.limits.link_grace = Duration::from_secs(60 * 60);
        let plan = world.faults.clone().unwrap();
        plan.disable();
        let (one, name) = (world.member(1), repo("a"));
        let (body, reference) = image_of(&one, &name, &[b"one", b"two", b"three"]).await;
        one.put_manifest(put(&name, &by_tag(), &body)).await.unwrap();
        let kept = push(&one, &repo("b"), b"two").await;
        let whole = image(&[&kept, &push(&one, &repo("b"), b"{}").await], "");
        one.put_manifest(put(&repo("b"), &by_tag(), &whole))
            .await
            .unwrap();
        one.delete_manifest(delete(&name, &reference)).await.unwrap();
        plan.enable();
        for _ in 0..3 {
            tend_for_weeks(&world, &one).await;
        }
        plan.disable();
        let calm = world.settled().await;
        for _ in 0..2 {
            tend_for_weeks(&world, &calm).await;
        }
        assert_eq!(world.blobs.objects().len(), 2, "seed {seed}");
        assert_eq!(calm.manifest(&repo("b"), &by_tag()).await.unwrap().1, whole);
        assert_eq!(pull(&calm, &repo("b"), &kept).await.unwrap(), &b"two"[..]);
    }
}

#[tokio::test]
async fn objects_are_deleted_together_and_once_more_a_day_later() {
    let world = world();
    let (one, name) = (world.member(1), repo("a"));
    for n in 0..60 {
        push(&one, &name, format!("{n}").as_bytes()).await;
    }
    tend_all(&world, &one, later(2 * HOUR)).await;
    let now_ms = later(9 * HOUR);
    let objects = due_in(&world, Queue::Collection, now_ms).await;
    assert_eq!(objects.len(), 60);
    assert!(objects.iter().all(DueWork::is_object));
    assert_eq!(
        one.delete_objects(&objects, now_ms).await.unwrap(),
        [Tended::Later; 60]
    );
    assert_eq!(world.blobs.objects(), vec![]);
    // A second member that read the same rows changes nothing.
    let outrun = one.delete_objects(&objects, now_ms).await.unwrap();
    assert_eq!(outrun, [Tended::Outrun; 60]);
    let again = due_in(&world, Queue::Collection, now_ms + 25 * HOUR).await;
    let done = one.delete_objects(&again, now_ms + 25 * HOUR).await.unwrap();
    assert_eq!(done, [Tended::Done; 60]);
}
