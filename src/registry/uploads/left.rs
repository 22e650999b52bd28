//! Uploads whose request died: over a store that completes none with parts that aren't named, as Ceph's gateway does.

use std::task::Poll;

use futures_util::{StreamExt as _, stream};

use super::{super::testing::*, *};
use crate::storage::{MemoryBlobs, Payload, Unnamed};

const CHUNK: usize = 3 * PART as usize;

fn world(unnamed: Unnamed) -> World {
    let mut world = World::new();
    world.blobs = std::sync::Arc::new(MemoryBlobs::new().with_unnamed(unnamed));
    world
}

/// A session with `CHUNK` acknowledged bytes of `content`, in which a member then dies after `sent` more: their full parts
/// are there.
async fn orphaned(world: &World, name: &RepoName, content: &[u8], sent: usize) -> UploadId {
    let dying = world.member(1);
    let id = dying.start_upload(name, None).await.unwrap().id;
    dying
        .append(name, &id, None, None, body(&content[..CHUNK], 50))
        .await
        .unwrap();
    let before = world.calls.parts();
    let bytes = &content[CHUNK..CHUNK + sent];
    let stalled = body(bytes, 50).chain(stream::pending::<std::result::Result<Bytes, BodyError>>());
    let mut append = Box::pin(dying.append(name, &id, None, None, Box::pin(stalled)));
    let wanted = before + (sent / PART as usize) as u64;
    std::future::poll_fn(|context| {
        assert!(append.as_mut().poll(context).is_pending());
        match world.calls.parts() >= wanted {
            true => Poll::Ready(()),
            false => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    })
    .await;
    drop(append);
    id
}

#[tokio::test]
async fn an_upload_whose_member_died_is_finished_by_another() {
    for unnamed in [Unnamed::Vanish, Unnamed::Overwrite] {
        // The same chunk again and then the end, all at once, and in chunks of other lengths.
        for cuts in [&[CHUNK][..], &[], &[PART as usize, 5 * PART as usize + 7]] {
            let world = world(unnamed);
            let (two, name, content) = (world.member(2), repo("a"), content(1, 4 * CHUNK));
            let id = orphaned(&world, &name, &content, CHUNK).await;
            let mut done = CHUNK;
            for cut in cuts {
                let bytes = &content[done..CHUNK + cut];
                two.append(&name, &id, None, None, body(bytes, 60)).await.unwrap();
                done = CHUNK + cut;
            }
            let digest = sha256(&content);
            let rest = &content[done..];
            let length = Some(rest.len() as u64);
            two.finish(&name, &id, &digest, None, length, body(rest, 60))
                .await
                .unwrap();
            assert_eq!(
                pull(&two, &name, &digest).await.unwrap(),
                content,
                "{unnamed:?} {cuts:?}"
            );
        }
    }
}

/// A body that nobody may read.
fn untouched() -> TestBody {
    Box::pin(stream::poll_fn(|_| panic!("the body was read")))
}

#[tokio::test]
async fn an_upload_that_cant_be_completed_ends_before_its_last_bytes_are_sent() {
    // Two parts fewer than the dead request sent, and a store that takes later bytes for earlier ones.
    for (unnamed, rest) in [(Unnamed::Overwrite, PART as usize), (Unnamed::Doom, 2 * CHUNK)] {
        let world = world(unnamed);
        let (two, name, content) = (world.member(2), repo("a"), content(2, 3 * CHUNK));
        let id = orphaned(&world, &name, &content, CHUNK).await;
        let content = &content[..CHUNK + rest];
        let ended = two
            .finish(&name, &id, &sha256(content), None, Some(rest as u64), untouched())
            .await;
        assert!(matches!(ended, Err(RegistryError::UploadLost)), "{ended:?}");
        assert!(matches!(
            two.upload(&name, &id).await,
            Err(RegistryError::UploadUnknown)
        ));
        assert_eq!(world.blobs.uploads(), []);
    }
    let world = world(Unnamed::Doom);
    let (two, name, content) = (world.member(2), repo("a"), content(2, 3 * CHUNK));
    let id = orphaned(&world, &name, &content, CHUNK).await;
    let refused = two.append(&name, &id, None, None, untouched()).await;
    assert!(matches!(refused, Err(RegistryError::UploadLost)), "{refused:?}");
}

/// A member that was only stopped wakes up: its part takes the place of one that was acknowledged since.
#[tokio::test]
async fn a_part_that_comes_late_never_becomes_part_of_the_blob() {
    let world = world(Unnamed::Overwrite);
    let (two, name, content) = (world.member(2), repo("a"), content(3, 3 * CHUNK));
    let id = orphaned(&world, &name, &content, CHUNK).await;
    let others = super::super::testing::content(4, 2 * CHUNK);
    two.append(&name, &id, None, None, body(&others[..CHUNK], 60))
        .await
        .unwrap();
    let session = two.session(&name, &id).await.unwrap();
    let key = row::object_key(&session.row.object_key).unwrap();
    let number = crate::storage::PartNumber::new(4).unwrap();
    let late = Bytes::copy_from_slice(&content[CHUNK..CHUNK + PART as usize]);
    let upload = &session.row.multipart_id;
    two.blobs
        .part(&key, upload, number, Payload::from(late))
        .await
        .unwrap();
    let whole = [&content[..CHUNK], &others].concat();
    let digest = sha256(&whole);
    let ended = two
        .finish(&name, &id, &digest, None, None, body(&others[CHUNK..], 60))
        .await;
    assert!(matches!(ended, Err(RegistryError::UploadLost)), "{ended:?}");
    assert!(matches!(
        two.blob(&name, &digest).await,
        Err(RegistryError::BlobUnknown)
    ));
    // Started again, it goes well.
    push(&two, &name, &whole).await;
    assert_eq!(pull(&two, &name, &digest).await.unwrap(), whole);
}
