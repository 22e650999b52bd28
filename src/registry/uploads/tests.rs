use std::time::Duration;

use super::{super::testing::*, *};
use crate::registry::Taken;
use crate::storage::{BlobStore as _, MetaStore as _, Space, rows::SessionState};

/// Sends `content` in chunks that end at `cuts`, the last of them with the request that ends the session.
async fn chunked(
    registry: &Registry,
    repository: &RepoName,
    content: &[u8],
    cuts: &[usize],
    piece: usize,
) -> Digest {
    let upload = registry.start_upload(repository, None).await.unwrap();
    let mut done = 0;
    for cut in cuts {
        let range = (done < *cut).then(|| ChunkRange {
            first: done as u64,
            last: *cut as u64 - 1,
        });
        let bytes = body(&content[done..*cut], piece);
        let now = registry
            .append(repository, &upload.id, range, None, bytes)
            .await
            .unwrap();
        assert_eq!(now.offset, *cut as u64);
        assert_eq!(registry.upload(repository, &upload.id).await.unwrap(), now);
        done = *cut;
    }
    let digest = sha256(content);
    let rest = &content[done..];
    let length = Some(rest.len() as u64);
    registry
        .finish(repository, &upload.id, &digest, None, length, body(rest, piece))
        .await
        .unwrap();
    digest
}

pub(super) async fn session_row(world: &World, id: &UploadId) -> rows::Session {
    row::read(&world.meta.get(&keys::session(id)).await.unwrap().unwrap()).unwrap()
}

#[tokio::test]
async fn every_length_arrives_whole_however_it_is_cut() {
    let part = PART as usize;
    for (n, length) in [
        0,
        1,
        part - 1,
        part,
        part + 1,
        2 * part,
        2 * part + 1,
        7 * part + 13,
    ]
    .into_iter()
    .enumerate()
    {
        for (m, piece) in [1, 7, part, 1000].into_iter().enumerate() {
            let world = World::new();
            let (one, two, name) = (world.member(1), world.member(2), repo("a"));
            let mut pushed = Vec::new();
            let seed = |k: usize| (n * 1000 + m * 10 + k) as u64;
            let thirds = [length / 3, 2 * length / 3];
            for (k, cuts) in [
                &[][..],
                &[length],
                &thirds,
                &[length / 2, length],
                &[0, length, length],
            ]
            .iter()
            .enumerate()
            {
                let content = content(seed(k), length);
                pushed.push((chunked(&one, &name, &content, cuts, piece).await, content));
            }
            let whole = content(seed(9), length);
            pushed.push((push(&one, &name, &whole).await, whole));
            let mut digests: Vec<_> = pushed.iter().map(|(digest, _)| digest.clone()).collect();
            for (digest, content) in &pushed {
                assert_eq!(
                    pull(&two, &name, digest).await.unwrap(),
                    *content,
                    "{length} bytes, pieces of {piece}"
                );
            }
            digests.sort();
            digests.dedup();
            // What was superseded is gone: one object for every blob. (Equal ones, of no bytes, are in the trash.)
            if length > 1 {
                assert_eq!(world.blobs.objects().len(), digests.len());
            }
            assert_eq!(world.blobs.uploads().len(), 0);
        }
    }
}

#[tokio::test]
async fn ranges_of_a_blob_are_read() {
    let world = World::new();
    let (one, name, content) = (world.member(1), repo("a"), content(1, 555));
    let digest = push(&one, &name, &content).await;
    let blob = one.blob(&name, &digest).await.unwrap();
    assert_eq!((blob.size, &blob.digest), (555, &digest));
    let range = crate::oci::ResolvedRange { first: 99, last: 200 };
    let pieces: Vec<Bytes> =
        futures_util::TryStreamExt::try_collect(one.read(&blob, range, Taken::Whole).await.unwrap())
            .await
            .unwrap();
    assert_eq!(pieces.concat(), content[99..=200]);
}

#[tokio::test]
async fn any_algorithm_ends_any_session() {
    for length in [0, 50, 450] {
        for running in [None, Some(Algorithm::Sha256), Some(Algorithm::Sha512)] {
            for ending in [Algorithm::Sha256, Algorithm::Sha512] {
                for at_once in [false, true] {
                    let world = World::new();
                    let (one, name, content) = (world.member(1), repo("a"), content(2, length));
                    let upload = one.start_upload(&name, running).await.unwrap();
                    let digest = Digest::of(ending, &content);
                    let (chunk, rest) = if at_once {
                        content.split_at(0)
                    } else {
                        content.split_at(length)
                    };
                    one.append(&name, &upload.id, None, None, body(chunk, 30))
                        .await
                        .unwrap();
                    one.finish(&name, &upload.id, &digest, None, None, body(rest, 30))
                        .await
                        .unwrap();
                    assert_eq!(pull(&one, &name, &digest).await.unwrap(), content);
                }
            }
        }
    }
}

#[tokio::test]
async fn a_wrong_digest_ends_the_session_and_leaves_nothing() {
    for length in [0, 50, 450] {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            for acknowledged in [0, length / 2, length] {
                let world = World::new();
                let (one, name, content) = (world.member(1), repo("a"), content(3, length));
                let upload = one.start_upload(&name, Some(Algorithm::Sha256)).await.unwrap();
                let (chunk, rest) = content.split_at(acknowledged);
                one.append(&name, &upload.id, None, None, body(chunk, 30))
                    .await
                    .unwrap();
                let wrong = Digest::of(algorithm, b"something else");
                let ended = one
                    .finish(&name, &upload.id, &wrong, None, None, body(rest, 30))
                    .await;
                let right = Digest::of(algorithm, &content);
                assert!(
                    matches!(ended, Err(RegistryError::DigestMismatch { expected, actual }) if expected == wrong && actual == right)
                );
                assert!(matches!(
                    one.upload(&name, &upload.id).await,
                    Err(RegistryError::UploadUnknown)
                ));
                assert!(matches!(
                    one.blob(&name, &wrong).await,
                    Err(RegistryError::BlobUnknown)
                ));
                assert!(matches!(
                    one.blob(&name, &right).await,
                    Err(RegistryError::BlobUnknown)
                ));
                assert_eq!((world.blobs.objects(), world.blobs.uploads()), (vec![], vec![]));
            }
        }
    }
}

#[tokio::test]
async fn a_chunk_that_does_not_fit_changes_nothing() {
    let world = World::new();
    let (one, name, content) = (world.member(1), repo("a"), content(4, 500));
    let upload = one.start_upload(&name, None).await.unwrap();
    let id = &upload.id;
    one.append(&name, id, None, None, body(&content[..250], 90))
        .await
        .unwrap();
    let before = session_row(&world, id).await;
    let rest = || body(&content[250..], 90);

    for first in [0, 249, 251, 1000] {
        let range = Some(ChunkRange {
            first,
            last: first + 249,
        });
        let refused = one.append(&name, id, range, None, rest()).await;
        assert!(matches!(
            refused,
            Err(RegistryError::RangeMismatch { offset: 250 })
        ));
        let refused = one
            .finish(&name, id, &sha256(&content), range, None, rest())
            .await;
        assert!(matches!(
            refused,
            Err(RegistryError::RangeMismatch { offset: 250 })
        ));
    }
    for (last, length) in [(498, None), (500, None), (499, Some(249)), (498, Some(249))] {
        let range = Some(ChunkRange { first: 250, last });
        let refused = one.append(&name, id, range, length, rest()).await;
        assert!(
            matches!(refused, Err(RegistryError::SizeMismatch { .. })),
            "{last} {length:?}"
        );
    }
    for length in [0, 249, 251, 100_000] {
        let refused = one.append(&name, id, None, Some(length), rest()).await;
        assert!(matches!(refused, Err(RegistryError::SizeMismatch { .. })));
        let refused = one
            .finish(&name, id, &sha256(&content), None, Some(length), rest())
            .await;
        assert!(matches!(refused, Err(RegistryError::SizeMismatch { .. })));
    }
    let refused = one
        .append(&name, id, None, None, broken(&content[250..], 90))
        .await;
    assert!(matches!(refused, Err(RegistryError::Body(_))));
    let refused = one
        .finish(
            &name,
            id,
            &sha256(&content),
            None,
            None,
            broken(&content[250..], 90),
        )
        .await;
    assert!(matches!(refused, Err(RegistryError::Body(_))));

    // Not even part numbers are lost.
    let after = session_row(&world, id).await;
    assert_eq!(
        rows::Session {
            expires_ms: 0,
            ..after
        },
        rows::Session {
            expires_ms: 0,
            ..before
        }
    );
    one.finish(&name, id, &sha256(&content), None, Some(250), rest())
        .await
        .unwrap();
    assert_eq!(pull(&one, &name, &sha256(&content)).await.unwrap(), content);
}

/// Whatever comes next, so that the client starts again instead of trying for ever.
#[tokio::test]
async fn an_upload_whose_last_bytes_the_store_lost_is_lost() {
    let part = PART as usize;
    for (n, acknowledged) in [1, part - 1, part + 1, 3 * part + 7].into_iter().enumerate() {
        let world = World::new();
        let (one, name, content) = (
            world.member(1),
            repo("a"),
            content(n as u64, acknowledged + 2 * part),
        );
        let (known, rest) = content.split_at(acknowledged);
        // What reads them back: all, but an end that has nothing to put behind them, where they are the whole upload.
        let mut requests = vec![
            (rest, false),
            (&rest[..1], false),
            (rest, true),
            (&rest[..1], true),
        ];
        requests.extend((acknowledged > part).then_some((&rest[..0], true)));
        for (rest, ends) in requests {
            let id = one.start_upload(&name, None).await.unwrap().id;
            one.append(&name, &id, None, None, body(known, 90)).await.unwrap();
            let tail = row::object_key(&session_row(&world, &id).await.tail_key).unwrap();
            world.blobs.delete(&tail).await.unwrap();
            let digest = sha256(&[known, rest].concat());
            let said = match ends {
                true => one
                    .finish(&name, &id, &digest, None, None, body(rest, 90))
                    .await
                    .map(drop),
                false => one.append(&name, &id, None, None, body(rest, 90)).await.map(drop),
            };
            assert!(
                matches!(said, Err(RegistryError::UploadLost)),
                "{acknowledged} and {}, {ends}: {said:?}",
                rest.len()
            );
        }
    }
}

#[tokio::test]
async fn an_unknown_closed_expired_or_foreign_session_is_unknown() {
    let mut world = World::new();
    let (one, name, content) = (world.member(1), repo("a"), content(5, 30));
    let digest = sha256(&content);
    let is_unknown = async |registry: &Registry, name: &RepoName, id: &UploadId| {
        let unknown = |result: Result<()>| assert!(matches!(result, Err(RegistryError::UploadUnknown)));
        unknown(registry.upload(name, id).await.map(drop));
        unknown(
            registry
                .append(name, id, None, None, body(&content, 9))
                .await
                .map(drop),
        );
        unknown(
            registry
                .finish(name, id, &digest, None, None, body(&content, 9))
                .await,
        );
        unknown(registry.cancel(name, id).await);
    };
    is_unknown(&one, &name, &UploadId::random()).await;

    let open = one.start_upload(&name, None).await.unwrap().id;
    is_unknown(&one, &repo("b"), &open).await;

    let cancelled = one.start_upload(&name, None).await.unwrap().id;
    one.append(&name, &cancelled, None, None, body(&[1; 450], 99))
        .await
        .unwrap();
    one.cancel(&name, &cancelled).await.unwrap();
    is_unknown(&one, &name, &cancelled).await;
    assert_eq!((world.blobs.objects(), world.blobs.uploads()), (vec![], vec![]));

    let finished = one.start_upload(&name, None).await.unwrap().id;
    one.finish(&name, &finished, &digest, None, None, body(&content, 9))
        .await
        .unwrap();
    let closed = session_row(&world, &finished).await;
    let kept: Vec<_> = world.blobs.objects().iter().map(ToString::to_string).collect();
    assert_eq!(
        (closed.state(), vec![closed.object_key]),
        (SessionState::Closed, kept)
    );

    // A member died while it was finishing.
    world.settings.limits.commit_within = Duration::from_millis(50);
    let one = world.member(1);
    let broken = one.start_upload(&name, None).await.unwrap().id;
    let mut session = one.session(&name, &broken).await.unwrap();
    let fixed = rows::Session {
        state: SessionState::Finishing.into(),
        ..session.row.clone()
    };
    one.replace_session(&mut session, fixed, Vec::new())
        .await
        .unwrap();
    is_unknown(&one, &name, &broken).await;

    world.settings.limits.session_ttl = Duration::ZERO;
    let hurried = world.member(2);
    let expired = hurried.start_upload(&name, None).await.unwrap().id;
    is_unknown(&one, &name, &expired).await;
}

#[tokio::test]
async fn a_newer_releases_row_is_not_rewritten() {
    let world = World::new();
    let (one, name) = (world.member(1), repo("a"));
    let id = one.start_upload(&name, None).await.unwrap().id;
    let newer = rows::Session {
        min_reader: rows::SCHEMA + 1,
        ..session_row(&world, &id).await
    };
    let op = keys::session(&id).put(Expect::Any, row::bytes(&newer));
    world.meta.transact(Version::random(), &[op]).await.unwrap();
    let refused = one.append(&name, &id, None, None, body(b"x", 1)).await;
    assert!(matches!(
        refused,
        Err(RegistryError::NewerSchema { min_reader: 2 })
    ));
}

#[tokio::test]
async fn more_parts_than_a_block_and_a_row_hold_come_together() {
    let mut world = World::new();
    world.settings.limits.part_size = 3;
    let (one, name) = (world.member(1), repo("a"));
    let content = content(6, 3 * 2300 + 1);
    let digest = chunked(&one, &name, &content, &[1000, 1001, 6900], 700).await;
    assert_eq!(pull(&one, &name, &digest).await.unwrap(), content);
}

#[tokio::test]
async fn a_blob_longer_than_all_parts_is_refused() {
    let mut world = World::new();
    world.settings.limits.part_size = 1;
    let (one, name) = (world.member(1), repo("a"));
    let id = one.start_upload(&name, None).await.unwrap().id;
    let ended = one.append(&name, &id, None, None, body(&[0; 10_001], 5000)).await;
    assert!(matches!(
        ended,
        Err(RegistryError::BlobTooLarge { limit: 10_000 })
    ));
    let content = [0; 10_000];
    one.finish(&name, &id, &sha256(&content), None, None, body(&content, 5000))
        .await
        .unwrap();
}

#[tokio::test]
async fn equal_content_is_one_object_and_the_other_is_trash() {
    let world = World::new();
    let (one, two, content) = (world.member(1), world.member(2), content(7, 350));
    let first = push(&one, &repo("a"), &content).await;
    let second = push(&two, &repo("b"), &content).await;
    let blob = one.blob(&repo("a"), &first).await.unwrap();
    assert_eq!(blob, two.blob(&repo("b"), &second).await.unwrap());
    assert_eq!(world.blobs.objects().len(), 2);
    let trash = due_keys(&world, "#trash#").await;
    assert_eq!(trash.len(), 1);
    assert_ne!(trash[0], blob.object_key.as_str());
    assert!(world.blobs.objects().iter().any(|key| key.as_str() == trash[0]));
    let mut due = due_keys(&world, "#link#").await;
    due.sort();
    assert_eq!(due, [format!("{first}#a"), format!("{first}#b")]);
}

/// The subjects of the due-rows of one kind.
async fn due_keys(world: &World, kind: &str) -> Vec<String> {
    let mut found = Vec::new();
    let partitions = [keys::Queue::Upkeep, keys::Queue::Collection]
        .into_iter()
        .flat_map(|queue| (0..keys::DUE_PARTITIONS).map(move |n| queue.partition(n)));
    for partition in partitions {
        let page = world
            .meta
            .range(Space::Blobs, &partition, "", None, 1000)
            .await
            .unwrap();
        found.extend(
            page.entries
                .iter()
                .filter_map(|entry| Some(entry.sort.split_once(kind)?.1.to_owned())),
        );
    }
    found
}

#[tokio::test]
async fn a_condemned_record_lives_again_with_its_object() {
    let world = World::new();
    let (one, content) = (world.member(1), content(8, 30));
    let digest = push(&one, &repo("a"), &content).await;
    let key = one.blob(&repo("a"), &digest).await.unwrap().object_key;
    for n in 0..2 {
        let found = world.meta.get(&keys::blob(&digest)).await.unwrap().unwrap();
        let mut record: rows::Blob = row::read(&found).unwrap();
        record.set_state(rows::BlobState::Condemned);
        let op = keys::blob(&digest).put(Expect::Version(found.version), row::bytes(&record));
        world.meta.transact(Version::random(), &[op]).await.unwrap();
        if n == 0 {
            push(&one, &repo("b"), &content).await;
        } else {
            let from = super::super::MountSource::Anywhere;
            let mounted = one.mount(&repo("c"), &digest, from).await.unwrap();
            assert_eq!(mounted, super::super::Mounted::Linked);
        }
        let found = world.meta.get(&keys::blob(&digest)).await.unwrap().unwrap();
        let record: rows::Blob = row::read(&found).unwrap();
        assert_eq!(
            (record.state(), record.object_key.as_str()),
            (rows::BlobState::Live, key.as_str())
        );
    }
}

#[tokio::test]
async fn requests_are_counted() {
    let world = World::new();
    let (one, name) = (world.member(1), repo("a"));
    let small = content(9, 90);
    let counted = |expected: &str| {
        let calls = world.calls.take();
        let calls: Vec<_> = calls
            .split(' ')
            .filter(|call| !call.starts_with("answered") && !call.starts_with("stored"))
            .collect();
        assert_eq!(calls.join(" "), expected);
    };
    assert!(one.whole_blob(&name, &sha256(&small)).await.is_err());
    counted("get×1");
    let id = one.start_upload(&name, None).await.unwrap().id;
    counted("transact×1");
    one.finish(&name, &id, &sha256(&small), None, None, body(&small, 50))
        .await
        .unwrap();
    counted("get×1 put×1 transact×1");

    let small = content(10, 90);
    let id = one.start_upload(&name, None).await.unwrap().id;
    world.calls.take();
    one.append(&name, &id, None, None, body(&small, 50))
        .await
        .unwrap();
    counted("get×1 put×1 transact×1");
    one.finish(&name, &id, &sha256(&small), None, None, body(&[], 50))
        .await
        .unwrap();
    counted("get×1 transact×1");

    // Content that others have: their record is read out of the refusal, and its object is looked at.
    one.push_blob(&repo("b"), &sha256(&small), None, body(&small, 50))
        .await
        .unwrap();
    counted("get×1 head×1 put×1 transact×3");

    let large = content(11, 64 * PART as usize);
    let id = one.start_upload(&name, None).await.unwrap().id;
    world.calls.take();
    one.append(&name, &id, None, None, body(&large, 50))
        .await
        .unwrap();
    counted("begin×1 get×1 part×64 transact×2");
    one.finish(&name, &id, &sha256(&large), None, None, body(&[], 50))
        .await
        .unwrap();
    counted("complete×1 get×1 range×1 transact×2");
    let other = content(12, 64 * PART as usize);
    one.push_blob(&name, &sha256(&other), None, body(&other, 50))
        .await
        .unwrap();
    counted("begin×1 complete×1 part×64 transact×4");

    let from = super::super::MountSource::Repository(&name);
    one.mount(&repo("c"), &sha256(&small), from).await.unwrap();
    counted("get_many×1 transact×1");
}

#[tokio::test]
async fn memory_is_bounded_by_the_parts_on_their_way() {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use futures_util::StreamExt as _;

    let mut world = World::new();
    world.settings.limits.parts_in_flight = 3;
    let (one, name) = (world.member(1), repo("a"));
    let id = one.start_upload(&name, None).await.unwrap().id;
    // How many bytes were taken from the body.
    let taken = Arc::new(AtomicU64::new(0));
    let content = content(1, 5000);
    let counted = {
        let taken = taken.clone();
        body(&content, 10).inspect(move |_| {
            taken.fetch_add(10, Ordering::Relaxed);
        })
    };
    let mut append = Box::pin(one.append(&name, &id, None, None, counted));
    let mut most = 0;
    while futures_util::poll!(append.as_mut()).is_pending() {
        let stored = world.calls.parts() * PART;
        most = most.max(taken.load(Ordering::Relaxed).saturating_sub(stored));
        tokio::task::yield_now().await;
    }
    assert!(most <= (3 + 1) * PART, "{most} bytes in memory");
}
