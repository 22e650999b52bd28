//! Bodies that have to share what room there is. Parts and pieces are tiny.

use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _, future::join_all, stream};

use super::super::testing::*;
use crate::{admission::BodyError, registry::RegistryError};

/// A body that begins and then says nothing more.
fn stalled(content: &[u8]) -> TestBody {
    Box::pin(body(content, 64).chain(stream::pending::<Result<bytes::Bytes, BodyError>>()))
}

/// A body of which a byte comes now and then, once it has begun.
fn crawling(begin: &[u8], rest: &[u8]) -> TestBody {
    let rest = body(rest, 1).then(async |piece| {
        tokio::time::sleep(Duration::from_secs(3)).await;
        piece
    });
    Box::pin(body(begin, 50).chain(rest))
}

/// A world with room for so many pieces of 10 bytes; a quarter of them are first ones. A part has 100 bytes.
fn world(pieces: u64) -> World {
    let mut world = World::new();
    world.settings.limits.body_memory = pieces * 10;
    world.settings.limits.body_piece = 10;
    world.settings.limits.body_patience = Duration::from_secs(15);
    world
}

#[tokio::test(start_paused = true)]
async fn who_finds_no_room_for_a_first_piece_is_refused_until_somebody_is_done() {
    let world = world(8);
    let (registry, name) = (world.member(1), repo("a"));
    let bytes = content(1, 500);
    let digest = sha256(&bytes);
    {
        let stuck = [1, 2].map(|_| registry.push_blob(&name, &digest, None, stalled(&bytes[..5])));
        let stuck = join_all(stuck);
        let refused = async {
            // The two get theirs first.
            tokio::time::sleep(Duration::from_millis(20)).await;
            registry.push_blob(&name, &digest, None, body(&bytes, 64)).await
        };
        tokio::select! {
            biased;
            _ = stuck => panic!("they are stuck"),
            refused = refused => assert!(matches!(refused, Err(RegistryError::NoRoom)), "{refused:?}"),
        }
    }
    // A client that went away leaves its room.
    assert_eq!(push(&registry, &name, &bytes).await, digest);
}

#[tokio::test(start_paused = true)]
async fn what_is_announced_takes_no_room() {
    let world = world(80);
    let (registry, name) = (world.member(1), repo("a"));
    let stuck = (0..19).map(|seed| {
        let digest = sha256(&content(seed, 10));
        let (registry, name) = (&registry, &name);
        async move {
            registry
                .push_blob(name, &digest, Some(10 << 30), stalled(b"12345"))
                .await
        }
    });
    let mut stuck = Box::pin(join_all(stuck));
    assert!(stuck.as_mut().now_or_never().is_none());
    let bytes = content(77, 990);
    tokio::select! {
        biased;
        _ = stuck.as_mut() => panic!("they are stuck"),
        digest = push(&registry, &name, &bytes) => assert_eq!(digest, sha256(&bytes)),
    }
}

#[tokio::test(start_paused = true)]
async fn crawling_bodies_leave_memory_and_still_become_what_was_sent() {
    let world = world(40);
    let (registry, name) = (world.member(1), repo("a"));
    // Together they would hold 900 bytes of 400.
    let crawls = (0..9).map(async |seed| {
        let bytes = content(seed, 140);
        let digest = sha256(&bytes);
        let (begin, rest) = bytes.split_at(95);
        registry
            .push_blob(&name, &digest, Some(140), crawling(begin, rest))
            .await
            .unwrap();
        assert_eq!(pull(&registry, &name, &digest).await.unwrap(), bytes);
    });
    let others = async {
        for seed in 100..110 {
            // One that fits into a piece, and one of several parts.
            for length in [7, 330] {
                let bytes = content(seed, length);
                let digest = push(&registry, &name, &bytes).await;
                assert_eq!(pull(&registry, &name, &digest).await.unwrap(), bytes);
            }
        }
    };
    tokio::join!(join_all(crawls), others);
    // What lay in the store meanwhile is gone: every object is a blob's.
    assert_eq!(world.blobs.objects().len(), 9 + 20);
}

#[tokio::test(start_paused = true)]
async fn many_large_blobs_get_through_room_for_one_part() {
    let mut world = world(16);
    world.settings.limits.body_patience = Duration::from_secs(600);
    let (registry, name) = (world.member(1), repo("a"));
    let pushes = (0..10).map(async |seed| {
        let bytes = content(seed, 20 * PART as usize + 7);
        let digest = push(&registry, &name, &bytes).await;
        assert_eq!(pull(&registry, &name, &digest).await.unwrap(), bytes);
    });
    join_all(pushes).await;
}
