//! Bodies that stop and go on, or don't.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};

use super::super::super::testing::*;
use crate::{
    admission::BodyError,
    registry::RegistryError,
    storage::{Space, StoreError, StoreErrorKind},
};

/// A body that says nothing for longer than bytes are kept in memory, after each of its pieces.
fn halting(content: &[u8], piece: usize) -> TestBody {
    Box::pin(body(content, piece).then(async |piece| {
        tokio::time::sleep(Duration::from_secs(6)).await;
        piece
    }))
}

#[tokio::test(start_paused = true)]
async fn a_body_that_halts_anywhere_becomes_what_was_sent() {
    let mut world = World::new();
    world.settings.limits.park_bytes = 40;
    let (one, name) = (world.member(1), repo("a"));
    for (seed, length) in [39, 40, 99, 100, 101, 140, 200, 333, 1010]
        .into_iter()
        .enumerate()
    {
        for piece in [7, 41, 64, 150] {
            let content = content((seed * 1000 + piece) as u64, length);
            let digest = sha256(&content);
            let whole = one
                .push_blob(&name, &digest, None, halting(&content, piece))
                .await;
            whole.unwrap();
            assert_eq!(pull(&one, &name, &digest).await.unwrap(), content);

            // In two requests, each of which goes on after what is left of the one before.
            let content = [&content[..], b"other"].concat();
            let (head, rest) = content.split_at(content.len() / 3);
            let (digest, id) = (sha256(&content), one.start_upload(&name, None).await.unwrap().id);
            for part in [head, rest] {
                one.append(&name, &id, None, None, halting(part, piece))
                    .await
                    .unwrap();
            }
            one.finish(&name, &id, &digest, None, None, body(&[], 1))
                .await
                .unwrap();
            assert_eq!(pull(&one, &name, &digest).await.unwrap(), content);
        }
    }
    // What lay there meanwhile is gone: every object is a blob's.
    let links = world
        .meta
        .keys()
        .into_iter()
        .filter(|key| key.space == Space::Links);
    assert_eq!(world.blobs.objects().len(), links.count());
}

#[tokio::test(start_paused = true)]
async fn bytes_of_a_body_that_stands_still_go_out_once_and_come_back_once() {
    let mut world = World::new();
    (world.settings.limits.park_bytes, world.settings.limits.part_size) = (40, 1000);
    let (one, name) = (world.member(1), repo("a"));
    let content = content(1, 300);
    let digest = sha256(&content);
    let mut push = Box::pin(one.push_blob(&name, &digest, None, halting(&content, 30)));
    let stopped = tokio::time::timeout(Duration::from_secs(59), push.as_mut()).await;
    assert!(stopped.is_err());
    // Of pieces of 30 bytes two are worth it.
    let parked = world.blobs.objects();
    assert_eq!(parked.len(), 4, "{parked:?}");
    world.calls.take();
    push.await.unwrap();
    let calls = world.calls.take();
    assert!(calls.contains("read×4") && calls.contains("delete×4"), "{calls}");
    assert_eq!(pull(&one, &name, &digest).await.unwrap(), content);
    assert_eq!(world.blobs.objects().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_halts_and_breaks_leaves_nothing() {
    let mut world = World::new();
    world.settings.limits.park_bytes = 40;
    let (one, name) = (world.member(1), repo("a"));
    let content = content(1, 90);
    let broken = halting(&content, 45).chain(stream::once(async {
        Err(BodyError::Store(StoreError::new(
            StoreErrorKind::Unavailable,
            "test",
        )))
    }));
    let failed = one
        .push_blob(&name, &sha256(&content), None, Box::pin(broken))
        .await;
    assert!(matches!(failed, Err(RegistryError::Body(_))), "{failed:?}");
    assert_eq!(world.blobs.objects(), []);
}
