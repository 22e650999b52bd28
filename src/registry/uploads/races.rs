//! Requests that meet on one session or one digest, and stores that fail under them.

use futures_util::future::join_all;

use super::{super::testing::*, *};
use crate::{
    registry::{MountSource, Mounted},
    storage::{BlobStore as _, MetaStore as _, Outcome, Space, faulty::FaultRates},
};

/// Runs `racers` as if each were a request of its own.
async fn race<T>(racers: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    join_all(racers).await
}

fn one_wins<T: std::fmt::Debug>(results: &[Result<T>]) {
    let won = results.iter().filter(|result| result.is_ok()).count();
    let lost = |result: &Result<T>| {
        matches!(
            result,
            Err(RegistryError::RangeMismatch { .. } | RegistryError::UploadUnknown)
        )
    };
    let all = results.iter().all(|result| result.is_ok() || lost(result));
    assert!(won == 1 && all, "{results:?}");
}

#[tokio::test]
async fn one_chunk_sent_twice_at_once_counts_once() {
    for round in 0..300 {
        let length = [30, 100, 101, 730][round % 4];
        let world = World::new();
        let (one, two, name) = (world.member(1), world.member(2), repo("a"));
        let content = content(round as u64, 3 * length);
        let id = one.start_upload(&name, None).await.unwrap().id;
        let range = round % 2 == 0;
        for n in 0..3 {
            let (first, last) = ((n * length) as u64, ((n + 1) * length - 1) as u64);
            let chunk = &content[n * length..(n + 1) * length];
            let range = range.then_some(ChunkRange { first, last });
            let send = |registry| Registry::append(registry, &name, &id, range, None, body(chunk, 33));
            let sent = race([send(&one), send(&two)]).await;
            if range.is_some() || sent.iter().any(Result::is_err) {
                one_wins(&sent);
            } else {
                // Without a range, one after the other is two chunks: not what this is about.
                panic!("they did not meet");
            }
            assert_eq!(two.upload(&name, &id).await.unwrap().offset, last + 1);
        }
        one.finish(&name, &id, &sha256(&content), None, None, body(&[], 1))
            .await
            .unwrap();
        assert_eq!(pull(&two, &name, &sha256(&content)).await.unwrap(), content);
    }
}

#[tokio::test]
async fn of_different_chunks_at_once_one_counts() {
    for round in 0..300 {
        let lengths = [[30, 50], [30, 730], [730, 730], [101, 205]][round % 4];
        let world = World::new();
        let (one, two, name) = (world.member(1), world.member(2), repo("a"));
        let id = one.start_upload(&name, None).await.unwrap().id;
        let mut acknowledged = Vec::new();
        for n in 0..3 {
            let chunks = lengths.map(|length| content((round * 10 + n) as u64 * 3 + length as u64, length));
            let first = acknowledged.len() as u64;
            let send = |registry, chunk: &[u8]| {
                let range = Some(ChunkRange {
                    first,
                    last: first + chunk.len() as u64 - 1,
                });
                Registry::append(registry, &name, &id, range, None, body(chunk, 33))
            };
            let sent = race([send(&one, &chunks[0]), send(&two, &chunks[1])]).await;
            one_wins(&sent);
            acknowledged.extend_from_slice(&chunks[sent.iter().position(Result::is_ok).unwrap()]);
        }
        let digest = sha256(&acknowledged);
        two.finish(&name, &id, &digest, None, None, body(&[], 1))
            .await
            .unwrap();
        assert_eq!(pull(&one, &name, &digest).await.unwrap(), acknowledged);
    }
}

#[tokio::test]
async fn of_requests_that_end_or_carry_on_one_session_at_once_one_counts() {
    for round in 0..400 {
        let length = [30, 100, 150, 730][round % 4];
        let world = World::new();
        let (one, two, name) = (world.member(1), world.member(2), repo("a"));
        let content = content(round as u64, 2 * length);
        let (head, rest) = content.split_at(length);
        let other = [rest, b"!"].concat();
        let id = one.start_upload(&name, None).await.unwrap().id;
        one.append(&name, &id, None, None, body(head, 40)).await.unwrap();
        let digest = sha256(&content);
        let finish = |registry| Registry::finish(registry, &name, &id, &digest, None, None, body(rest, 33));
        if round % 3 == 0 {
            let ended = race([finish(&one), finish(&two)]).await;
            assert!(ended.iter().any(Result::is_ok), "{ended:?}");
            // The other is told the same, or that somebody was faster; not that there is no such upload.
            let fits =
                |ended: &Result<()>| matches!(ended, Ok(()) | Err(RegistryError::RangeMismatch { .. }));
            assert!(ended.iter().all(fits), "{ended:?}");
            finish(&two).await.unwrap();
        } else {
            let append = async {
                Registry::append(&two, &name, &id, None, None, body(&other, 33))
                    .await
                    .map(drop)
            };
            let (finished, appended) = tokio::join!(finish(&one), append);
            let is_finished = finished.is_ok();
            one_wins(&[finished, appended]);
            if !is_finished {
                assert!(matches!(
                    one.blob(&name, &digest).await,
                    Err(RegistryError::BlobUnknown)
                ));
                let all = [head, &other].concat();
                one.finish(&name, &id, &sha256(&all), None, None, body(&[], 1))
                    .await
                    .unwrap();
                assert_eq!(pull(&two, &name, &sha256(&all)).await.unwrap(), all);
                continue;
            }
        }
        assert_eq!(pull(&two, &name, &digest).await.unwrap(), content);
    }
}

#[tokio::test]
async fn what_is_linked_is_what_was_hashed_also_when_two_finish_with_different_bytes() {
    for round in 0..400 {
        let (head, rest) = [(0, 30), (100, 30), (150, 90), (730, 90), (250, 200)][round % 5];
        let world = World::new();
        let (one, two, name) = (world.member(1), world.member(2), repo("a"));
        let seed = round as u64 * 3;
        let (head, first, second) = (
            content(seed, head),
            content(seed + 1, rest),
            content(seed + 2, rest),
        );
        let id = one.start_upload(&name, None).await.unwrap().id;
        one.append(&name, &id, None, None, body(&head, 40)).await.unwrap();
        let wholes = [[&*head, &*first].concat(), [&*head, &*second].concat()];
        let digests = wholes.each_ref().map(|whole| sha256(whole));
        let finish = |registry, rest, digest| {
            Registry::finish(registry, &name, &id, digest, None, None, body(rest, 33))
        };
        let ended = race([
            finish(&one, &first, &digests[0]),
            finish(&two, &second, &digests[1]),
        ])
        .await;
        one_wins(&ended);
        for ((whole, digest), ended) in wholes.iter().zip(&digests).zip(&ended) {
            match pull(&one, &name, digest).await {
                Ok(pulled) => assert!(ended.is_ok() && pulled == *whole),
                Err(error) => assert!(ended.is_err() && matches!(error, RegistryError::BlobUnknown)),
            }
        }
    }
}

#[tokio::test]
async fn a_chunk_acknowledged_beside_an_end_that_needs_no_more_bytes_is_kept() {
    let (mut ends, mut chunks) = (0, 0);
    for round in 0..300 {
        let world = World::new();
        let (one, two, name) = (world.member(1), world.member(2), repo("a"));
        // All of it in full parts: whoever ends this has nothing to send.
        let content = content(round, 330);
        let (head, rest) = content.split_at(300);
        let id = one.start_upload(&name, None).await.unwrap().id;
        one.append(&name, &id, None, None, body(head, 40)).await.unwrap();
        let digest = sha256(head);
        let finish = async {
            for _ in 0..round % 23 {
                tokio::task::yield_now().await;
            }
            Registry::finish(&one, &name, &id, &digest, None, None, body(&[], 33)).await
        };
        let append = Registry::append(&two, &name, &id, None, None, body(rest, 33));
        let (finished, appended) = tokio::join!(finish, append);
        if matches!(finished, Err(RegistryError::DigestMismatch { .. })) {
            // It began when the chunk was acknowledged.
            continue;
        }
        (ends, chunks) = (
            ends + u32::from(finished.is_ok()),
            chunks + u32::from(appended.is_ok()),
        );
        one_wins(&[finished, appended.map(drop)]);
        if let Ok(upload) = two.upload(&name, &id).await {
            assert_eq!(upload.offset, 330);
            let digest = sha256(&content);
            two.finish(&name, &id, &digest, None, None, body(&[], 1))
                .await
                .unwrap();
            assert_eq!(pull(&one, &name, &digest).await.unwrap(), content);
        } else {
            assert_eq!(pull(&one, &name, &digest).await.unwrap(), head);
        }
    }
    assert!(
        ends > 10 && chunks > 10,
        "they meet in all ways: {ends} and {chunks}"
    );
}

/// Collects a digest by the rules of G3: condemns the record, then looks for links, and removes what has none.
async fn collect(world: &World, digest: &Digest) {
    let meta = world.store();
    let find = async || {
        let found = meta.get(&keys::blob(digest)).await.unwrap()?;
        let record: rows::Blob = row::read(&found).unwrap();
        Some((record, found.version))
    };
    let replace = async |expect, row: Option<&rows::Blob>| {
        let key = keys::blob(digest);
        let op = match row {
            Some(row) => key.put(Expect::Version(expect), row::bytes(row)),
            None => key.delete(Expect::Version(expect)),
        };
        let version = Version::random();
        (meta.transact(version, &[op]).await.unwrap() == Outcome::Committed).then_some(version)
    };
    let Some((record, version)) = find().await else {
        return;
    };
    let condemned = rows::Blob {
        state: rows::BlobState::Condemned.into(),
        ..record.clone()
    };
    let Some(version) = replace(version, Some(&condemned)).await else {
        return;
    };
    let links = meta
        .range(Space::Links, digest.as_str(), "", None, 1)
        .await
        .unwrap();
    if !links.entries.is_empty() {
        replace(version, Some(&record)).await;
    } else if replace(version, None).await.is_some() {
        let object = row::object_key(&record.object_key).unwrap();
        world.blobs.delete(&object).await.unwrap();
    }
}

#[tokio::test]
async fn a_collector_never_takes_what_is_linked_meanwhile() {
    let (mut collected, mut kept) = (0, 0);
    for round in 0..300 {
        let world = World::new();
        let (one, two) = (world.member(1), world.member(2));
        let (a, b, c) = (repo("a"), repo("b"), repo("c"));
        let content = content(round, 60);
        let digest = push(&one, &a, &content).await;
        one.delete_blob(&a, &digest, soon()).await.unwrap();
        // Each gets ahead of the others in some rounds.
        let after = async |steps: u64| {
            for _ in 0..steps {
                tokio::task::yield_now().await;
            }
        };
        let pushed = async {
            if round % 2 == 0 {
                after(round * 7 % 41).await;
                push(&two, &b, &content).await;
            }
        };
        let mounted = async {
            after(round * 5 % 37).await;
            one.mount(&c, &digest, MountSource::Anywhere).await.unwrap()
        };
        let collector = async {
            for _ in 0..3 {
                collect(&world, &digest).await;
            }
        };
        let (mounted, (), ()) = tokio::join!(mounted, pushed, collector);
        match mounted {
            Mounted::Linked => {
                assert_eq!(pull(&two, &c, &digest).await.unwrap(), content);
                kept += 1;
            }
            Mounted::NotHere => collected += 1,
        }
        if round % 2 == 0 {
            assert_eq!(pull(&one, &b, &digest).await.unwrap(), content);
        }
    }
    assert!(
        collected > 10 && kept > 10,
        "they meet in all ways: {collected} and {kept}"
    );
}

#[tokio::test]
async fn equal_pushes_to_many_repositories_at_once_all_succeed() {
    for round in 0..60 {
        let world = World::new();
        let members = [world.member(1), world.member(2)];
        let content = content(round, if round % 2 == 0 { 30 } else { 430 });
        let names: Vec<_> = (0..6).map(|n| repo(&format!("r{}", n % 4))).collect();
        let pushes = names
            .iter()
            .enumerate()
            .map(|(n, name)| push(&members[n % 2], name, &content));
        for digest in race(pushes).await {
            for name in &names {
                assert_eq!(pull(&members[0], name, &digest).await.unwrap(), content);
            }
        }
        let mut keys: Vec<_> = Vec::new();
        for name in &names {
            keys.push(members[0].blob(name, &sha256(&content)).await.unwrap().object_key);
        }
        keys.dedup();
        assert_eq!(keys.len(), 1);
    }
}

#[tokio::test]
async fn what_is_acknowledged_in_spite_of_faults_is_whole() {
    for seed in 0..40 {
        let world = World::with_faults(seed, FaultRates::each(0.03));
        let members = [world.member(1), world.member(2)];
        let name = repo("a");
        let uploads = (0..12_u64).map(|n| {
            let (members, name) = (&members, &name);
            async move {
                let content = content(seed * 100 + n, [0, 40, 150, 620][n as usize % 4]);
                let digest = sha256(&content);
                let done = upload_with_retries(members, name, &content, &digest, n).await;
                (digest, content, done)
            }
        });
        let ended = race(uploads).await;
        world.faults.as_ref().unwrap().disable();
        let calm = world.settled().await;
        let mut acknowledged = 0;
        for (digest, content, done) in ended {
            // Whatever became of the request, what is there is whole.
            match pull(&calm, &name, &digest).await {
                Ok(pulled) => assert_eq!(pulled, content),
                Err(error) => assert!(matches!(error, RegistryError::BlobUnknown) && !done, "{error:?}"),
            }
            acknowledged += u32::from(done);
        }
        assert!(acknowledged >= 6, "{acknowledged} of 12 with seed {seed}");
    }
}

/// What a patient client does: asks where the session stands, goes on there, and starts again when it is gone.
async fn upload_with_retries(
    members: &[Registry; 2],
    name: &RepoName,
    content: &[u8],
    digest: &Digest,
    n: u64,
) -> bool {
    for start in 0..4_usize {
        let Ok(upload) = members[start % 2].start_upload(name, None).await else {
            continue;
        };
        for step in 0..12_usize {
            let member = &members[(step + n as usize) % 2];
            let offset = match member.upload(name, &upload.id).await {
                Ok(upload) => usize::try_from(upload.offset).unwrap(),
                Err(RegistryError::UploadUnknown) => break,
                Err(_) => continue,
            };
            let rest = &content[offset..];
            if rest.len() > 50 {
                let chunk = &rest[..rest.len().div_ceil(2)];
                let first = offset as u64;
                let range = Some(ChunkRange {
                    first,
                    last: first + chunk.len() as u64 - 1,
                });
                let _ = member
                    .append(name, &upload.id, range, None, body(chunk, 44))
                    .await;
            } else if member
                .finish(name, &upload.id, digest, None, None, body(rest, 44))
                .await
                .is_ok()
            {
                return true;
            }
        }
    }
    false
}
