//! What is damaged is found, named and mended by a push; each blob is read once, by whoever goes on; nothing that goes is a fault.

use bytes::Bytes;
use parking_lot::Mutex;

use super::{super::testing::*, *};
use crate::{
    oci::{Reference, ResolvedRange},
    registry::{MountSource, Mounted, Taken},
    storage::{
        BlobStore as _, Expect, MAX_OPS, MetaStore as _, ObjectKey, Payload, Version, faulty::FaultRates,
        keys::CHANGE_PARTITIONS, rows,
    },
};

const ROUND: u64 = 1_000;

/// What was told.
#[derive(Default)]
pub(super) struct Told {
    pub(super) read: usize,
    repositories: usize,
    unread: usize,
    pub(super) damaged: Vec<Damaged>,
}

/// Goes on with all parts of a round until they are over, by the members in turn. Gives what was told, and the strides.
async fn goes_on(members: &[&Registry], stride: Duration, throttle: &Throttle) -> (Told, usize) {
    let (told, mut strides) = (Mutex::new(Told::default()), 0);
    let tell = |news: ScrubNews<'_>| {
        let mut told = told.lock();
        match news {
            ScrubNews::Whole(_) => told.read += 1,
            ScrubNews::Damaged(damaged, _) => {
                told.read += 1;
                told.damaged.push(damaged.clone());
            }
            ScrubNews::Unread(..) => told.unread += 1,
            ScrubNews::Repository => told.repositories += 1,
        }
    };
    let scrub = Scrub {
        throttle,
        stride,
        end: &CancellationToken::new(),
        tell: &tell,
    };
    for part in 0..CHANGE_PARTITIONS {
        loop {
            let registry = members[strides % members.len()];
            let mut place = registry
                .scrub_places("test")
                .await
                .unwrap()
                .swap_remove(part.into());
            if place.began_ms() == 0 {
                place.begin(ROUND);
            }
            if !place.is_under_way() {
                break;
            }
            registry.scrub(&mut place, scrub).await.unwrap();
            strides += 1;
        }
    }
    (told.into_inner(), strides)
}

/// Everything, once more.
pub(super) async fn all(registry: &Registry) -> Told {
    forget(registry).await;
    goes_on(&[registry], Duration::MAX / 4, &Throttle::unbounded())
        .await
        .0
}

/// Places are as if nothing had been read.
async fn forget(registry: &Registry) {
    let places = (0..CHANGE_PARTITIONS).map(|part| keys::scrub_place("test", part).delete(Expect::Any));
    let places: Vec<_> = places.collect();
    registry.meta.transact(Version::random(), &places).await.unwrap();
}

/// Two repositories with an image of the same layer, a third one with an image of its own, manifests too long for their rows.
/// Gives the layer, and the digest of the third one's manifest.
pub(super) async fn pushed(registry: &Registry) -> (Vec<u8>, Digest) {
    let layer = content(1, 350);
    let mut last = sha256(b"");
    for name in ["a/x", "a/y", "b"] {
        let name = repo(name);
        let config = push(registry, &name, b"{}").await;
        let held = match name.as_str() {
            "a/y" => {
                let (from, layer) = (repo("a/x"), sha256(&layer));
                let from = MountSource::Repository(&from);
                assert_eq!(
                    registry.mount(&name, &layer, from).await.unwrap(),
                    Mounted::Linked
                );
                layer
            }
            "b" => push(registry, &name, &content(2, 80)).await,
            _ => push(registry, &name, &layer).await,
        };
        let document = image(&[&config, &held], &"n".repeat(3000));
        let reference = Reference::Tag(tag("v1"));
        registry
            .put_manifest(put(&name, &reference, &document))
            .await
            .unwrap();
        last = sha256(&document);
    }
    (layer, last)
}

/// `{}`, two layers, and three manifests, two of which are the same.
pub(super) const EVERYTHING: usize = 6;

async fn object(world: &World, digest: &Digest) -> ObjectKey {
    let found = world.meta.get(&keys::blob(digest)).await.unwrap().unwrap();
    recorded(&row::read(&found).unwrap()).unwrap().key
}

async fn store(world: &World, key: &ObjectKey, bytes: &[u8]) {
    let bytes = Payload::from(Bytes::copy_from_slice(bytes));
    world.blobs.put(key, bytes).await.unwrap();
}

/// What a pull of the whole blob gives, if it ends as one.
async fn pulled_whole(registry: &Registry, name: &RepoName, digest: &Digest) -> Option<Vec<u8>> {
    use futures_util::TryStreamExt as _;
    let blob = registry.blob(name, digest).await.unwrap();
    let (first, last) = (0, blob.size - 1);
    let range = ResolvedRange { first, last };
    let bytes = registry.read(&blob, range, Taken::Whole).await.ok()?;
    let pieces: Vec<Bytes> = bytes.try_collect().await.ok()?;
    Some(pieces.concat())
}

#[tokio::test]
async fn each_blob_is_read_once_for_all_who_hold_it_however_short_the_strides_and_whoever_goes_on() {
    let world = World::new();
    let members = [world.member(1), world.member(2)];
    pushed(&members[0]).await;
    let members = members.each_ref();
    let (whole, strides) = goes_on(&members, Duration::MAX / 4, &Throttle::unbounded()).await;
    assert_eq!((whole.read, whole.repositories, strides), (EVERYTHING, 3, 8));
    assert!(whole.damaged.is_empty());
    let sums = |places: Vec<ScrubPlace>| -> (u64, u64) {
        let sums = places.iter().map(ScrubPlace::sums);
        sums.fold((0, 0), |(read, bytes), sums| {
            (read + sums.read, bytes + sums.bytes)
        })
    };
    let before = sums(members[1].scrub_places("test").await.unwrap());
    forget(members[0]).await;
    // A stride without time is one step.
    let (steps, strides) = goes_on(&members, Duration::ZERO, &Throttle::unbounded()).await;
    assert_eq!((steps.read, steps.repositories), (EVERYTHING, 3));
    assert!(strides > 8 + EVERYTHING, "{strides}");
    assert_eq!(sums(members[0].scrub_places("test").await.unwrap()), before);
    let (rests, strides) = goes_on(&members, Duration::ZERO, &Throttle::unbounded()).await;
    assert_eq!((rests.read, strides), (0, 0), "the round is over");
}

#[tokio::test]
async fn a_flipped_byte_a_short_object_and_a_lost_one_are_named_with_repositories_and_tags_and_mended_by_a_push()
 {
    let world = World::new();
    let (one, two) = (world.member(1), world.member(2));
    let (bytes, _) = pushed(&one).await;
    let layer = sha256(&bytes);
    let mut flipped = bytes.clone();
    flipped[200] ^= 1;
    for (stored, damage) in [
        (Some(flipped.as_slice()), Damage::Bytes),
        (Some(&bytes[..300]), Damage::Length),
        (None, Damage::Missing),
    ] {
        let key = object(&world, &layer).await;
        match stored {
            Some(stored) => store(&world, &key, stored).await,
            None => world.blobs.delete(&key).await.unwrap(),
        }
        let expected = Damaged {
            digest: layer.clone(),
            damage,
            repositories: vec![repo("a/x"), repo("a/y")],
            tags: vec![tag("v1")],
        };
        let told = all(&two).await;
        assert_eq!((told.read, told.damaged), (EVERYTHING, vec![expected]));
        push(&one, &repo("a/y"), &bytes).await;
        assert!(all(&two).await.damaged.is_empty(), "{damage}");
        assert_ne!(object(&world, &layer).await, key);
    }
}

/// Repositories without an image aren't gone through, whether or not their names come first.
#[tokio::test]
async fn a_blob_that_is_also_held_where_no_image_is_is_read_once() {
    let world = World::new();
    let one = world.member(1);
    let (layer, _) = pushed(&one).await;
    for n in 0..NAMED {
        push(&one, &repo(&format!("a/a{n}")), &layer).await;
    }
    push(&one, &repo("z"), &layer).await;
    store(&world, &object(&world, &sha256(&layer)).await, &layer[1..]).await;
    let told = all(&one).await;
    assert_eq!((told.read, told.damaged.len()), (EVERYTHING, 1));
}

/// Wrong bytes under the same length and ETag can't be seen from outside.
#[tokio::test]
async fn bytes_that_rotted_are_known_to_all_members_until_a_push_or_a_right_reading() {
    for length in [350, 70_000] {
        let mut world = World::with_faults(5, FaultRates::default());
        world.settings.limits.part_size = 32 << 10;
        // Who read it remembers that it was wrong for a while.
        world.settings.limits.seen_for = Duration::ZERO;
        let (one, two, name) = (world.member(1), world.member(2), repo("a"));
        let faults = world.faults.clone().unwrap();
        let bytes = content(7, length);
        let layer = push(&one, &name, &bytes).await;
        let document = image(&[&layer], "n");
        let reference = Reference::Tag(tag("v1"));
        one.put_manifest(put(&name, &reference, &document)).await.unwrap();
        two.whole_blob(&name, &layer).await.unwrap();
        let former = object(&world, &layer).await;
        let rotten = FaultRates {
            wrong_read: 1.0,
            ..FaultRates::default()
        };
        for ends_by in ["a reading", "a push"] {
            faults.set_rates(rotten);
            faults.enable();
            let told = all(&one).await;
            assert_eq!(told.damaged.len(), 1, "{length}: {:?}", told.damaged);
            assert_eq!(all(&two).await.damaged, told.damaged, "also the second time");
            for member in [&one, &two] {
                let asked = member.whole_blob(&name, &layer).await;
                assert!(matches!(asked, Err(RegistryError::BlobUnknown)), "{asked:?}");
                let mounted = member.mount(&repo("b"), &layer, MountSource::Anywhere).await;
                assert_eq!(mounted.unwrap(), Mounted::NotHere);
                // An image that is here can be tagged; a new one has to bring the layer.
                let again = Reference::Tag(tag("again"));
                member.put_manifest(put(&name, &again, &document)).await.unwrap();
                let other = image(&[&layer], &format!("after {length}, before {ends_by}"));
                let new = member.put_manifest(put(&name, &reference, &other)).await;
                assert!(
                    matches!(&new, Err(RegistryError::ManifestBlobUnknown { digest }) if *digest == layer),
                    "{new:?}"
                );
                // A part of it can't be compared with anything.
                let blob = member.blob(&name, &layer).await.unwrap();
                let (first, last) = (1, blob.size - 1);
                let part = member
                    .read(&blob, ResolvedRange { first, last }, Taken::Whole)
                    .await;
                assert!(length == 350 || matches!(part, Err(RegistryError::ContentLost { .. })));
                // What is short may be remembered, with the right bytes.
                let came = pulled_whole(member, &name, &layer).await;
                let is_remembered = length == 350 && came.as_ref() == Some(&bytes);
                assert!(came.is_none() || is_remembered, "{length}");
            }
            faults.disable();
            match ends_by {
                "a push" => drop(push(&two, &name, &bytes).await),
                _ => assert!(all(&two).await.damaged.is_empty()),
            }
            for member in [&one, &two] {
                member.whole_blob(&name, &layer).await.unwrap();
                assert_eq!(pull(member, &name, &layer).await.unwrap(), bytes);
                let other = image(&[&layer], &format!("after {length} and {ends_by}"));
                member.put_manifest(put(&name, &reference, &other)).await.unwrap();
            }
            assert_eq!(object(&world, &layer).await == former, ends_by == "a reading");
        }
        assert!(all(&one).await.damaged.is_empty());
    }
}

#[tokio::test]
async fn a_manifest_whose_document_rotted_is_named_and_mended_by_a_push_through_another_member() {
    let world = World::with_faults(6, FaultRates::default());
    let (one, two, name) = (world.member(1), world.member(2), repo("a"));
    let faults = world.faults.clone().unwrap();
    let layer = push(&one, &name, b"layer").await;
    let document = image(&[&layer], &"n".repeat(3000));
    let (digest, reference) = (sha256(&document), Reference::Tag(tag("v1")));
    one.put_manifest(put(&name, &reference, &document)).await.unwrap();
    two.manifest(&name, &reference).await.unwrap();
    faults.set_rates(FaultRates {
        wrong_read: 1.0,
        ..FaultRates::default()
    });
    let told = all(&one).await;
    faults.disable();
    let damaged = told
        .damaged
        .iter()
        .find(|damaged| damaged.digest == digest)
        .unwrap();
    assert_eq!(
        (damaged.damage, &damaged.repositories[..], &damaged.tags[..]),
        (Damage::Bytes, &[name.clone()][..], &[tag("v1")][..])
    );
    let asked = two.describe_manifest(&name, &reference).await;
    assert!(matches!(asked, Err(RegistryError::ManifestUnknown)), "{asked:?}");
    two.put_manifest(put(&name, &reference, &document)).await.unwrap();
    for member in [&one, &two] {
        member.describe_manifest(&name, &reference).await.unwrap();
    }
    assert!(all(&one).await.damaged.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_run_found_is_told_again_unless_it_was_mended() {
    let world = World::new();
    let one = world.member(1);
    let (bytes, manifest) = pushed(&one).await;
    let key = object(&world, &sha256(&bytes)).await;
    store(&world, &key, &bytes[1..]).await;
    let found = world
        .meta
        .get(&keys::manifest(&repo("b"), &manifest))
        .await
        .unwrap()
        .unwrap();
    let found: rows::Manifest = row::read(&found).unwrap();
    let Some(rows::manifest::Body::ObjectKey(document)) = found.body else {
        panic!("it is too long for its row");
    };
    world
        .blobs
        .delete(&ObjectKey::parse(&document).unwrap())
        .await
        .unwrap();
    assert_eq!(all(&one).await.damaged.len(), 2);
    let again = async || {
        let told = Mutex::new(Vec::new());
        let tell = |news: ScrubNews<'_>| match news {
            ScrubNews::Damaged(damaged, _) => told.lock().push(damaged.digest.clone()),
            other => panic!("{other:?}"),
        };
        let scrub = Scrub {
            throttle: &Throttle::unbounded(),
            stride: Duration::ZERO,
            end: &CancellationToken::new(),
            tell: &tell,
        };
        let mut left = 0;
        for mut place in one.scrub_places("test").await.unwrap() {
            one.scrub_again(&mut place, scrub).await.unwrap();
            left += place.sums().damaged;
        }
        let mut told = told.into_inner();
        told.sort_by_key(|digest| *digest == manifest);
        (told, left)
    };
    assert_eq!(again().await, (vec![sha256(&bytes), manifest.clone()], 2));
    // Whoever has it ended meanwhile waits for none of it, and it stays named.
    let slowly = Throttle::new(1);
    for mut place in one.scrub_places("test").await.unwrap() {
        let (end, named) = (CancellationToken::new(), place.row.named.clone());
        let scrub = Scrub {
            throttle: &slowly,
            stride: Duration::ZERO,
            end: &end,
            tell: &|news| panic!("{news:?}"),
        };
        let begun = Instant::now();
        let ended = async {
            tokio::task::yield_now().await;
            end.cancel();
        };
        tokio::join!(one.scrub_again(&mut place, scrub), ended).0.unwrap();
        assert_eq!((place.row.named, begun.elapsed()), (named, Duration::ZERO));
    }
    push(&one, &repo("b"), &bytes).await;
    assert_eq!(again().await, (vec![manifest.clone()], 1));
}

/// At every await of the reading the blob is collected, or pushed again.
#[tokio::test]
async fn a_blob_that_goes_or_is_mended_while_it_is_read_is_no_fault() {
    for is_pushed in [false, true] {
        at_every_await(async |polls| {
            let world = World::new();
            let (one, two, name) = (world.member(1), world.member(2), repo("a"));
            let bytes = content(3, 150);
            let layer = push(&one, &name, &bytes).await;
            let document = image(&[&layer], "n");
            let reference = Reference::Tag(tag("v1"));
            one.put_manifest(put(&name, &reference, &document)).await.unwrap();
            let key = object(&world, &layer).await;
            let mut places = one.scrub_places("test").await.unwrap();
            let place = &mut places[usize::from(keys::change_partition(&name))];
            place.begin(ROUND);
            let told = Mutex::new(Vec::new());
            let tell = |news: ScrubNews<'_>| {
                if let ScrubNews::Damaged(damaged, _) = news {
                    told.lock().push(damaged.damage);
                }
            };
            let scrub = Scrub {
                throttle: &Throttle::unbounded(),
                stride: Duration::MAX / 4,
                end: &CancellationToken::new(),
                tell: &tell,
            };
            let meanwhile = async {
                if is_pushed {
                    world.blobs.delete(&key).await.unwrap();
                    push(&two, &name, &bytes).await;
                    return;
                }
                let rows = [
                    keys::link(&layer, &name),
                    keys::linked_blob(&name, &layer),
                    keys::blob(&layer),
                ];
                let rows = rows.map(|key| key.delete(Expect::Any));
                world.meta.transact(Version::random(), &rows).await.unwrap();
                world.blobs.delete(&key).await.unwrap();
            };
            let (scrubbed, was_over) = interrupted(polls, one.scrub(place, scrub), meanwhile).await;
            scrubbed.unwrap();
            assert_eq!(*told.lock(), [], "after {polls} polls");
            if is_pushed {
                two.whole_blob(&name, &layer).await.unwrap();
                assert_eq!(pull(&two, &name, &layer).await.unwrap(), bytes);
            }
            was_over
        })
        .await;
    }
}

#[tokio::test]
async fn who_stops_in_the_middle_of_marking_leaves_nothing_that_a_push_does_not_mend() {
    at_every_await(async |polls| {
        let world = World::with_faults(5, FaultRates::default());
        let (one, two, name) = (world.member(1), world.member(2), repo("a"));
        let faults = world.faults.clone().unwrap();
        let bytes = content(3, 150);
        let layer = push(&one, &name, &bytes).await;
        let document = image(&[&layer], "n");
        let reference = Reference::Tag(tag("v1"));
        one.put_manifest(put(&name, &reference, &document)).await.unwrap();
        faults.set_rates(FaultRates {
            wrong_read: 1.0,
            ..FaultRates::default()
        });
        let is_over = {
            let reading = all(&one);
            polled(std::pin::pin!(reading).as_mut(), polls).await.is_some()
        };
        faults.disable();
        push(&two, &repo("b"), &bytes).await;
        let now_ms = clock::now_ms() + 60 * 60 * 1000;
        for n in 0..keys::DUE_PARTITIONS {
            let due = two.due_work(keys::Queue::Upkeep, n, None, MAX_OPS, now_ms).await;
            for work in due.unwrap().work {
                two.tend(&work, now_ms).await.unwrap();
            }
        }
        for name in [name, repo("b")] {
            assert_eq!(pull(&two, &name, &layer).await.unwrap(), bytes);
            let found = two.whole_blob(&name, &layer).await;
            // Not begun, or noted: then the push has replaced it.
            found.unwrap();
        }
        is_over
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn bytes_and_rows_take_the_time_that_the_rate_gives_them() {
    let world = World::new();
    let one = world.member(1);
    pushed(&one).await;
    const RATE: u64 = 1 << 10;
    let begun = Instant::now();
    let (told, _) = goes_on(&[&one], Duration::MAX / 4, &Throttle::new(RATE)).await;
    let took = begun.elapsed();
    let bytes: u64 = one
        .scrub_places("test")
        .await
        .unwrap()
        .iter()
        .map(|place| place.sums().bytes)
        .sum();
    // Each repository holds two blobs and a manifest.
    let worth = Duration::from_secs_f64((9 * ROW + bytes) as f64 / RATE as f64);
    assert_eq!(told.read, EVERYTHING);
    // The clock of the runtime has milliseconds, each of the waits may be one longer.
    assert!(
        took >= worth && took < worth + Duration::from_millis(200),
        "{took:?} {worth:?}"
    );
}

#[tokio::test]
async fn a_store_that_fails_is_no_damage_and_what_always_fails_is_passed_over() {
    let failing = World::with_faults(3, FaultRates::each(0.1));
    let plan = failing.faults.clone().unwrap();
    plan.disable();
    let one = failing.member(1);
    pushed(&one).await;
    plan.enable();
    let told = Mutex::new(Told::default());
    let tell = |news: ScrubNews<'_>| match news {
        ScrubNews::Whole(_) => told.lock().read += 1,
        ScrubNews::Unread(..) => told.lock().unread += 1,
        ScrubNews::Repository => {}
        ScrubNews::Damaged(damaged, _) => panic!("{damaged:?}"),
    };
    let scrub = Scrub {
        throttle: &Throttle::unbounded(),
        stride: Duration::MAX / 4,
        end: &CancellationToken::new(),
        tell: &tell,
    };
    let mut failures = 0;
    let mut part = 0;
    while part < CHANGE_PARTITIONS {
        let Ok(mut places) = one.scrub_places("test").await else {
            failures += 1;
            continue;
        };
        let place = &mut places[usize::from(part)];
        if place.began_ms() == 0 {
            place.begin(ROUND);
        }
        match place.is_under_way() {
            true => failures += usize::from(one.scrub(place, scrub).await.is_err()),
            false => part += 1,
        }
    }
    let seen = {
        let told = told.lock();
        told.read + told.unread
    };
    assert!(seen >= EVERYTHING && failures > 0, "{seen} {failures}");
    plan.disable();
    // An object that can't be read at all.
    forget(&one).await;
    plan.set_rates(FaultRates {
        broken_read: 1.0,
        ..FaultRates::default()
    });
    plan.enable();
    let unread = Mutex::new(0);
    let tell = |news: ScrubNews<'_>| {
        if let ScrubNews::Unread(..) = news {
            *unread.lock() += 1;
        }
    };
    let scrub = Scrub { tell: &tell, ..scrub };
    for part in 0..usize::from(CHANGE_PARTITIONS) {
        let mut place = one.scrub_places("test").await.unwrap().swap_remove(part);
        place.begin(ROUND);
        let mut tries = 0;
        while place.is_under_way() {
            let _ = one.scrub(&mut place, scrub).await;
            tries += 1;
            assert!(tries < 100, "it goes on");
        }
    }
    assert_eq!(unread.into_inner(), EVERYTHING);
}
