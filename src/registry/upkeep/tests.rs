//! Each kind of due-row: what is gone comes back, what is used stays, whoever crashes, races or has a wrong clock.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_util::future::join_all;

use super::{
    super::{changes::checks::is_of_changes, due, testing::*},
    *,
};
use crate::{
    clock,
    oci::Reference,
    storage::{
        BlobStore as _, MetaStore as _, ObjectKey, Payload, Version, faulty::FaultRates, rows::SessionState,
    },
};

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// What the clocks may differ by, and a little.
const MARGIN: u64 = 6 * MINUTE;

fn later(by_ms: u64) -> u64 {
    clock::now_ms() + by_ms
}

/// Every row of the partitions of due-rows.
async fn due_rows(world: &World) -> Vec<String> {
    rows_in(world, Queue::Upkeep).await
}

async fn rows_in(world: &World, queue: Queue) -> Vec<String> {
    let mut found = Vec::new();
    for n in 0..keys::DUE_PARTITIONS {
        let page = world
            .meta
            .range(Space::Blobs, &queue.partition(n), "", None, 1000)
            .await
            .unwrap();
        found.extend(page.entries.into_iter().map(|entry| entry.sort));
    }
    found
}

/// What is due at that time.
async fn due_at(world: &World, registry: &Registry, now_ms: u64) -> Vec<DueWork> {
    let mut found = Vec::new();
    let written: BTreeSet<String> = world.meta.keys().into_iter().map(|key| key.partition).collect();
    for n in (0..keys::DUE_PARTITIONS).filter(|n| written.contains(&Queue::Upkeep.partition(*n))) {
        let page = registry
            .due_work(Queue::Upkeep, n, None, 1000, now_ms)
            .await
            .unwrap();
        found.extend(page.work);
    }
    found
}

/// Does all that is due at that time, and says what that was.
async fn tend_all(world: &World, registry: &Registry, now_ms: u64) -> Vec<(&'static str, Tended)> {
    let mut done = Vec::new();
    for work in due_at(world, registry, now_ms).await {
        done.push((work.kind(), registry.tend(&work, now_ms).await.unwrap()));
    }
    done
}

/// Looks again and again until long after everything.
async fn tend_for_weeks(world: &World, registry: &Registry) {
    for hours in [25, 32, 57, 64, 24 * 9, 24 * 17, 24 * 20] {
        // What is due may leave something that is due.
        for _ in 0..2 {
            tend_all(world, registry, later(hours * HOUR)).await;
        }
    }
}

fn nothing_is_left(world: &World) {
    assert_eq!((world.blobs.objects(), world.blobs.uploads()), (vec![], vec![]));
    let mut keys = world.meta.keys();
    keys.retain(|key| !is_of_changes(key));
    assert!(keys.is_empty(), "{keys:?} are left");
}

async fn abandoned(registry: &Registry, length: usize) -> UploadId {
    let name = repo("a");
    let id = registry.start_upload(&name, None).await.unwrap().id;
    let content = content(1, length);
    registry
        .append(&name, &id, None, None, body(&content, 40))
        .await
        .unwrap();
    id
}

#[tokio::test]
async fn an_abandoned_session_leaves_nothing() {
    for length in [30, 450] {
        let world = World::new();
        let (one, two) = (world.member(1), world.member(2));
        let id = abandoned(&one, length).await;
        assert_eq!(tend_all(&world, &two, later(DAY - MINUTE)).await, []);
        // A member whose clock is ahead leaves it to those who may still use it.
        assert_eq!(tend_all(&world, &two, later(DAY + 4 * MINUTE)).await, []);
        let expired = tend_all(&world, &two, later(DAY + MARGIN)).await;
        assert_eq!(expired, [("session", Tended::Later)]);
        assert!(matches!(
            one.upload(&repo("a"), &id).await,
            Err(RegistryError::UploadUnknown)
        ));
        assert_eq!((world.blobs.objects(), world.blobs.uploads()), (vec![], vec![]));

        // What comes while it waits, and after it was swept, goes too.
        let late = |name: &str| ObjectKey::parse(&format!("uploads/{id}/{name}")).unwrap();
        world
            .blobs
            .put(&late("b"), Payload::from(Bytes::from_static(b"b")))
            .await
            .unwrap();
        world.blobs.begin(&late("c")).await.unwrap();
        let mut swept = tend_all(&world, &two, later(6 * HOUR + MARGIN)).await;
        swept.sort_unstable_by_key(|(kind, _)| *kind);
        assert_eq!(swept, [("session", Tended::Done), ("trash", Tended::Later)]);
        world
            .blobs
            .put(&late("d"), Payload::from(Bytes::from_static(b"d")))
            .await
            .unwrap();
        let again = tend_all(&world, &two, later(DAY + 7 * HOUR + MARGIN)).await;
        assert_eq!(again, [("trash", Tended::Done)]);
        nothing_is_left(&world);
    }
}

#[tokio::test]
async fn a_session_that_was_carried_on_is_looked_at_when_it_expires() {
    let mut world = World::new();
    let one = world.member(1);
    let id = abandoned(&one, 150).await;
    world.settings.limits.session_ttl = Duration::from_millis(2 * DAY);
    let two = world.member(2);
    two.append(&repo("a"), &id, None, None, body(&[7; 10], 40))
        .await
        .unwrap();
    let moved = tend_all(&world, &one, later(DAY + MARGIN)).await;
    assert_eq!(moved, [("session", Tended::Later)]);
    assert_eq!(one.upload(&repo("a"), &id).await.unwrap().offset, 160);
    assert_eq!(tend_all(&world, &one, later(2 * DAY - MINUTE)).await, []);
    tend_for_weeks(&world, &one).await;
    nothing_is_left(&world);
}

#[tokio::test]
async fn a_blob_stays_when_its_session_goes() {
    let world = World::new();
    let (one, name) = (world.member(1), repo("a"));
    for length in [30, 450] {
        let content = content(length, length as usize);
        let id = one.start_upload(&name, None).await.unwrap().id;
        let (head, rest) = content.split_at(content.len() / 2);
        one.append(&name, &id, None, None, body(head, 40)).await.unwrap();
        let digest = sha256(&content);
        one.finish(&name, &id, &digest, None, None, body(rest, 40))
            .await
            .unwrap();
        // The same once more, which is trash.
        push(&one, &repo("b"), &content).await;
        tend_for_weeks(&world, &one).await;
        assert_eq!(pull(&one, &name, &digest).await.unwrap(), content);
        assert_eq!(pull(&one, &repo("b"), &digest).await.unwrap(), content);
        let session = world
            .meta
            .range(Space::Uploads, id.as_str(), "", None, 10)
            .await
            .unwrap();
        assert_eq!(session.entries, []);
    }
    assert_eq!((world.blobs.objects().len(), world.blobs.uploads()), (2, vec![]));
    assert_eq!(due_rows(&world).await, Vec::<String>::new());
}

/// However far it came: half of its parts, an object that is complete, a blob.
#[tokio::test]
async fn a_session_that_a_dead_member_was_finishing_ends() {
    let mut finishing = 0;
    at_every_await(async |polls| {
        let world = World::new();
        let (one, two, name) = (world.member(1), world.member(2), repo("a"));
        let content = content(2, 450);
        let digest = sha256(&content);
        let id = one.start_upload(&name, None).await.unwrap().id;
        one.append(&name, &id, None, None, body(&content[..200], 40))
            .await
            .unwrap();
        let ended = {
            let finish = one.finish(&name, &id, &digest, None, None, body(&content[200..], 40));
            let mut finish = std::pin::pin!(finish);
            let future = finish.as_mut();
            Polled { future, left: polls }.await
        };
        let found = world.meta.get(&keys::session(&id)).await.unwrap().unwrap();
        let session: rows::Session = row::read(&found).unwrap();
        finishing += u32::from(session.state() == SessionState::Finishing);
        tend_for_weeks(&world, &two).await;
        match two.blob(&name, &digest).await {
            Ok(_) => assert_eq!(pull(&two, &name, &digest).await.unwrap(), content),
            Err(_) => {
                assert!(ended.is_none());
                nothing_is_left(&world);
            }
        }
        ended.is_some()
    })
    .await;
    assert!(finishing > 3, "{finishing}");
}

#[tokio::test]
async fn a_chunk_that_lands_while_its_session_expires_holds_or_is_unknown() {
    let (mut held, mut gone) = (0, 0);
    at_every_await(async |polls| {
        let mut world = World::new();
        world.settings.limits.session_ttl = Duration::from_millis(HOUR);
        let (upkeep, name) = (world.member(2), repo("a"));
        let id = abandoned(&upkeep, 150).await;
        world.settings.limits.session_ttl = Duration::from_millis(DAY);
        let one = world.member(1);
        let rest = content(9, 300);
        let append = one.append(&name, &id, None, None, body(&rest, 60));
        let (appended, early) = interrupted(polls, append, tend_all(&world, &upkeep, later(2 * HOUR))).await;
        // What was acknowledged isn't ended by those who look again.
        tend_all(&world, &upkeep, later(2 * HOUR)).await;
        let whole = [content(1, 150), rest].concat();
        match appended {
            Ok(upload) => {
                assert_eq!(upload.offset, 450);
                let digest = sha256(&whole);
                one.finish(&name, &id, &digest, None, None, body(&[], 1))
                    .await
                    .unwrap();
                tend_for_weeks(&world, &upkeep).await;
                assert_eq!(pull(&one, &name, &digest).await.unwrap(), whole);
                held += 1;
            }
            Err(RegistryError::UploadUnknown) => {
                tend_for_weeks(&world, &upkeep).await;
                nothing_is_left(&world);
                gone += 1;
            }
            Err(error) => panic!("{error:?}"),
        }
        early
    })
    .await;
    assert!(held > 3 && gone > 3, "they meet in all ways: {held} and {gone}");
}

#[tokio::test]
async fn an_upload_that_ends_while_its_session_expires_is_a_blob_or_unknown() {
    for (head, rest) in [(30, 30), (150, 300), (150, 0)] {
        let (mut held, mut gone) = (0, 0);
        at_every_await(async |polls| {
            let mut world = World::new();
            world.settings.limits.session_ttl = Duration::from_millis(HOUR);
            let (one, two, name) = (world.member(1), world.member(2), repo("a"));
            let id = abandoned(&one, head).await;
            let rest = content(9, rest);
            let whole = [content(1, head), rest.clone()].concat();
            let digest = sha256(&whole);
            let finish = one.finish(&name, &id, &digest, None, None, body(&rest, 60));
            let (ended, early) = interrupted(polls, finish, tend_all(&world, &two, later(2 * HOUR))).await;
            tend_for_weeks(&world, &two).await;
            match ended {
                Ok(()) => {
                    assert_eq!(pull(&one, &name, &digest).await.unwrap(), whole);
                    assert_eq!(world.blobs.objects().len(), 1);
                    held += 1;
                }
                Err(RegistryError::UploadUnknown) => {
                    nothing_is_left(&world);
                    gone += 1;
                }
                Err(error) => panic!("{error:?}"),
            }
            early
        })
        .await;
        assert!(held > 0 && gone > 1, "they meet in all ways: {held} and {gone}");
    }
}

fn by_tag() -> Reference {
    Reference::Tag(tag("t"))
}

/// An image, too long for its row or not.
async fn an_image(registry: &Registry, note: usize) -> Bytes {
    let name = repo("a");
    let config = push(registry, &name, b"{}").await;
    let layer = push(registry, &name, b"layer").await;
    image(&[&config, &layer], &"n".repeat(note))
}

#[tokio::test]
async fn the_body_of_a_push_that_was_cut_goes_and_that_of_another_stays() {
    at_every_await(async |polls| {
        let world = World::new();
        let (one, two, name) = (world.member(1), world.member(2), repo("a"));
        let body = an_image(&one, 3000).await;
        let tag = by_tag();
        let ended = {
            let push = one.put_manifest(put(&name, &tag, &body));
            let mut push = std::pin::pin!(push);
            let future = push.as_mut();
            Polled { future, left: polls }.await
        };
        tend_for_weeks(&world, &two).await;
        let bodies = world
            .blobs
            .objects()
            .iter()
            .filter(|key| key.as_str().starts_with("manifests/"))
            .count();
        match two.manifest(&name, &tag).await {
            Ok((_, read)) => assert_eq!((read, bodies), (body, 1)),
            Err(_) => assert!(ended.is_none() && bodies == 0),
        }
        ended.is_some()
    })
    .await;
}

/// As if the clock of another member were hours ahead.
#[tokio::test]
async fn a_push_whose_body_was_taken_for_an_orphan_writes_it_again() {
    let mut repeated = 0;
    at_every_await(async |polls| {
        let world = World::new();
        let (one, two, name) = (world.member(1), world.member(2), repo("a"));
        let body = an_image(&one, 3000).await;
        let tag = by_tag();
        world.calls.take();
        let push = one.put_manifest(put(&name, &tag, &body));
        let hasty = async {
            tend_all(&world, &two, later(7 * HOUR)).await;
            tend_all(&world, &two, later(7 * HOUR + MARGIN)).await;
        };
        let (pushed, early) = interrupted(polls, push, hasty).await;
        pushed.unwrap();
        repeated += u32::from(world.calls.take().contains("put×2"));
        tend_for_weeks(&world, &two).await;
        assert_eq!(one.manifest(&name, &tag).await.unwrap().1, body);
        early
    })
    .await;
    assert!(repeated > 2, "{repeated}");
}

#[tokio::test]
async fn a_deleted_manifest_goes_with_its_references_and_body() {
    let world = World::new();
    let (one, two, name) = (world.member(1), world.member(2), repo("a"));
    let mut layers = Vec::new();
    for n in 0..200 {
        layers.push(push(&one, &name, format!("layer {n}").as_bytes()).await);
    }
    // Longer than what lies in its row, and more references than fit in one transaction.
    let body = image(&layers.iter().collect::<Vec<_>>(), "");
    let digest = Reference::Digest(sha256(&body));
    one.put_manifest(put(&name, &by_tag(), &body)).await.unwrap();
    one.delete_manifest(delete(&name, &digest)).await.unwrap();
    assert!(
        !tend_all(&world, &two, later(HOUR - MINUTE))
            .await
            .iter()
            .any(|(kind, _)| *kind == "manifest")
    );
    let done = tend_all(&world, &two, later(HOUR + MARGIN)).await;
    assert!(done.contains(&("manifest", Tended::Done)));
    let left = world
        .meta
        .range(Space::Manifests, name.as_str(), "", None, 1000)
        .await
        .unwrap();
    assert_eq!(left.entries, []);
    // Nobody asked the member that did it for anything.
    let row: rows::Repository =
        row::read(&world.meta.get(&keys::repository(&name)).await.unwrap().unwrap()).unwrap();
    assert_eq!(row.holder, "127.0.0.1:5000");
    tend_for_weeks(&world, &two).await;
    assert!(
        !world
            .blobs
            .objects()
            .iter()
            .any(|key| key.as_str().starts_with("manifests/"))
    );
    assert_eq!(due_rows(&world).await, Vec::<String>::new());
    assert!(world.meta.get(&keys::repository(&name)).await.unwrap().is_none());
}

#[tokio::test]
async fn a_manifest_pushed_again_while_it_is_collected_keeps_what_it_references() {
    for note in [10, 3000] {
        at_every_await(async |polls| {
            let world = World::new();
            let (one, two, name) = (world.member(1), world.member(2), repo("a"));
            let body = an_image(&one, note).await;
            let digest = Reference::Digest(sha256(&body));
            one.put_manifest(put(&name, &by_tag(), &body)).await.unwrap();
            one.delete_manifest(delete(&name, &digest)).await.unwrap();
            let tag = by_tag();
            let push = one.put_manifest(put(&name, &tag, &body));
            let (pushed, early) = interrupted(polls, push, tend_all(&world, &two, later(DAY + MARGIN))).await;
            pushed.unwrap();
            tend_for_weeks(&world, &two).await;
            assert_eq!(two.manifest(&name, &by_tag()).await.unwrap().1, body);
            for blob in [sha256(b"{}"), sha256(b"layer")] {
                let reference = keys::reference(&name, &blob, &sha256(&body));
                assert!(world.meta.get(&reference).await.unwrap().is_some());
            }
            early
        })
        .await;
    }
}

#[tokio::test]
async fn a_manifest_deleted_again_is_collected_a_grace_after_that() {
    let world = World::new();
    let (one, name) = (world.member(1), repo("a"));
    let body = an_image(&one, 10).await;
    let digest = Reference::Digest(sha256(&body));
    one.put_manifest(put(&name, &by_tag(), &body)).await.unwrap();
    one.delete_manifest(delete(&name, &digest)).await.unwrap();
    let key = keys::manifest(&name, &sha256(&body));
    let found = world.meta.get(&key).await.unwrap().unwrap();
    let mut manifest: rows::Manifest = row::read(&found).unwrap();
    manifest.deleted_ms += 3 * HOUR;
    let op = key
        .clone()
        .put(Expect::Version(found.version), row::bytes(&manifest));
    world.meta.transact(Version::random(), &[op]).await.unwrap();
    let done = tend_all(&world, &one, later(HOUR + MARGIN)).await;
    assert!(done.contains(&("manifest", Tended::Later)), "{done:?}");
    assert!(world.meta.get(&key).await.unwrap().is_some());
    let done = tend_all(&world, &one, later(HOUR + 3 * HOUR + MARGIN)).await;
    assert!(done.contains(&("manifest", Tended::Done)), "{done:?}");
    assert!(world.meta.get(&key).await.unwrap().is_none());
}

#[tokio::test]
async fn a_repository_that_lives_again_keeps_its_row() {
    at_every_await(async |polls| {
        let world = World::new();
        let (one, two, name) = (world.member(1), world.member(2), repo("a"));
        let body = an_image(&one, 10).await;
        let digest = Reference::Digest(sha256(&body));
        one.put_manifest(put(&name, &by_tag(), &body)).await.unwrap();
        one.delete_manifest(delete(&name, &digest)).await.unwrap();
        let tag = by_tag();
        let push = one.put_manifest(put(&name, &tag, &body));
        let (pushed, early) = interrupted(polls, push, tend_for_weeks(&world, &two)).await;
        pushed.unwrap();
        tend_for_weeks(&world, &two).await;
        let found = world.meta.get(&keys::repository(&name)).await.unwrap().unwrap();
        let row: rows::Repository = row::read(&found).unwrap();
        assert_eq!(row.manifests, 1);
        assert_eq!(two.manifest(&name, &by_tag()).await.unwrap().1, body);
        early
    })
    .await;
}

/// A world with one due-row of each kind, or more.
async fn with_everything(world: &World) {
    let (one, name) = (world.member(1), repo("a"));
    abandoned(&one, 450).await;
    let cancelled = abandoned(&one, 150).await;
    one.cancel(&name, &cancelled).await.unwrap();
    let body = an_image(&one, 3000).await;
    let digest = Reference::Digest(sha256(&body));
    one.put_manifest(put(&name, &by_tag(), &body)).await.unwrap();
    one.delete_manifest(delete(&name, &digest)).await.unwrap();
    let orphan = ObjectKey::parse("manifests/orphan").unwrap();
    let op = one
        .dues
        .manifest_body(due::after(Duration::from_secs(60)), &name, &orphan);
    world.meta.transact(Version::random(), &[op]).await.unwrap();
    world
        .blobs
        .put(&orphan, Payload::from(Bytes::from_static(b"x")))
        .await
        .unwrap();
}

/// What is left of it: two blobs with their links.
async fn only_blobs_are_left(world: &World) {
    let calm = world.settled().await;
    for content in [&b"{}"[..], b"layer"] {
        assert_eq!(pull(&calm, &repo("a"), &sha256(content)).await.unwrap(), content);
    }
    assert_eq!((world.blobs.objects().len(), world.blobs.uploads()), (2, vec![]));
    assert_eq!(due_rows(world).await, Vec::<String>::new());
    let of_links = rows_in(world, Queue::Collection).await.len();
    // A link, its reverse and a record each.
    let of_blobs = world
        .meta
        .keys()
        .into_iter()
        .filter(|key| !is_of_changes(key))
        .count();
    assert_eq!(of_blobs, of_links + 6);
}

#[tokio::test]
async fn whoever_dies_anywhere_another_one_ends_the_work() {
    for hours in [25, 32, 57, 24 * 9] {
        at_every_await(async |polls| {
            let world = World::new();
            with_everything(&world).await;
            let (one, two) = (world.member(1), world.member(2));
            for earlier in [25, 32, 57] {
                if earlier < hours {
                    tend_all(&world, &one, later(earlier * HOUR)).await;
                }
            }
            let ended = {
                let tend = tend_all(&world, &one, later(hours * HOUR));
                let mut tend = std::pin::pin!(tend);
                let future = tend.as_mut();
                Polled { future, left: polls }.await
            };
            tend_for_weeks(&world, &two).await;
            only_blobs_are_left(&world).await;
            ended.is_some()
        })
        .await;
    }
}

#[tokio::test]
async fn two_members_at_one_row_do_it_once() {
    let mut outrun = 0;
    for _ in 0..30 {
        let world = World::new();
        with_everything(&world).await;
        let members = [world.member(1), world.member(2)];
        for hours in [25, 32, 57, 24 * 9, 24 * 17] {
            for _ in 0..2 {
                let now_ms = later(hours * HOUR);
                let work = due_at(&world, &members[0], now_ms).await;
                let both = work
                    .iter()
                    .map(|work| join_all(members.iter().map(|member| member.tend(work, now_ms))));
                for tended in join_all(both).await.into_iter().flatten() {
                    match tended {
                        Ok(tended) => outrun += u32::from(tended == Tended::Outrun),
                        Err(error) => assert!(matches!(error, RegistryError::Contended), "{error:?}"),
                    }
                }
            }
        }
        only_blobs_are_left(&world).await;
    }
    assert!(outrun > 30, "{outrun}");
}

#[tokio::test(start_paused = true)]
async fn failing_stores_delay_it() {
    for seed in 0..30 {
        let world = World::with_faults(seed, FaultRates::each(0.08));
        let plan = world.faults.clone().unwrap();
        plan.disable();
        with_everything(&world).await;
        let calm = world.settled().await;
        plan.enable();
        let (one, mut failures) = (world.member(1), 0);
        for hours in [25, 32, 57, 24 * 9, 24 * 17, 24 * 25] {
            for _ in 0..12 {
                let now_ms = later(hours * HOUR);
                for work in due_at(&world, &calm, now_ms).await {
                    failures += u32::from(one.tend(&work, now_ms).await.is_err());
                }
            }
        }
        plan.disable();
        let calm = world.settled().await;
        tend_for_weeks(&world, &calm).await;
        only_blobs_are_left(&world).await;
        assert!(failures > 0, "seed {seed}");
    }
}

#[tokio::test]
async fn rows_of_links_and_of_newer_releases_cost_nothing_and_stay() {
    let world = World::new();
    let (one, name) = (world.member(1), repo("a"));
    for n in 0..300 {
        push(&one, &name, format!("{n}").as_bytes()).await;
    }
    one.delete_blob(&name, &sha256(b"1"), soon()).await.unwrap();
    tend_for_weeks(&world, &one).await;
    assert_eq!(due_rows(&world).await, Vec::<String>::new());
    assert_eq!(rows_in(&world, Queue::Collection).await.len(), 301);

    let newer = rows::Due {
        min_reader: rows::SCHEMA + 1,
        kind: DueKind::Trash.into(),
        key: "uploads/".to_owned(),
        ..rows::Due::default()
    };
    let unknown = rows::Due {
        min_reader: rows::SCHEMA,
        kind: 99,
        ..rows::Due::default()
    };
    let ops = [
        one.dues.put(1, "newer", newer),
        one.dues.put(1, "unknown", unknown),
    ];
    world.meta.transact(Version::random(), &ops).await.unwrap();
    let done = tend_all(&world, &one, later(DAY)).await;
    assert_eq!(done.len(), 2);
    assert!(done.iter().all(|(_, tended)| *tended == Tended::NotOurs));
    assert_eq!(world.blobs.objects().len(), 300);
}
