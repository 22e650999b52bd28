//! A bucket that was copied, object by object, has what was written under other ETags: whoever looks takes it for lost until it is read.

use futures_util::TryStreamExt as _;

use super::{
    super::testing::*,
    tests::{EVERYTHING, all, pushed},
    *,
};
use crate::{
    oci::Reference,
    storage::{BlobStore as _, MetaStore as _, Payload, rows},
};

/// Puts everything again, as it is.
async fn copy(world: &World) {
    for key in world.blobs.objects() {
        let length = world.blobs.head(&key).await.unwrap().unwrap().length;
        let opened = world.blobs.get(&key, 0, length - 1).await.unwrap();
        let pieces: Vec<bytes::Bytes> = opened.bytes.try_collect().await.unwrap();
        let bytes = bytes::Bytes::from(pieces.concat());
        world.blobs.put(&key, Payload::from(bytes)).await.unwrap();
    }
}

#[tokio::test]
async fn what_was_copied_counts_as_whole_again_once_it_was_read() {
    let mut world = World::new();
    world.settings.limits.seen_for = Duration::ZERO;
    let (one, two) = (world.member(1), world.member(2));
    let (layer, manifest) = pushed(&one).await;
    let (layer, b) = (sha256(&layer), repo("b"));
    let by_digest = Reference::Digest(manifest);
    copy(&world).await;
    for member in [&one, &two] {
        for name in ["a/x", "a/y"] {
            let asked = member.whole_blob(&repo(name), &layer).await;
            assert!(matches!(asked, Err(RegistryError::BlobUnknown)), "{asked:?}");
        }
        let asked = member.describe_manifest(&b, &by_digest).await;
        assert!(matches!(asked, Err(RegistryError::ManifestUnknown)), "{asked:?}");
    }
    let told = all(&two).await;
    assert_eq!((told.read, told.damaged.len()), (EVERYTHING, 0));
    for member in [&one, &two] {
        for name in ["a/x", "a/y"] {
            member.whole_blob(&repo(name), &layer).await.unwrap();
        }
        member.describe_manifest(&b, &by_digest).await.unwrap();
    }
    // It is known under this ETag, and no other.
    let found = world.meta.get(&keys::blob(&layer)).await.unwrap().unwrap();
    let record: rows::Blob = row::read(&found).unwrap();
    let object = row::object_key(&record.object_key).unwrap();
    assert_eq!(
        record.etag,
        world.blobs.head(&object).await.unwrap().unwrap().etag
    );
    let written = world
        .meta
        .get(&keys::blob(&layer))
        .await
        .unwrap()
        .unwrap()
        .version;
    all(&one).await;
    let again = world
        .meta
        .get(&keys::blob(&layer))
        .await
        .unwrap()
        .unwrap()
        .version;
    assert_eq!(written, again, "what is known isn't written again");
}

#[tokio::test]
async fn who_stops_in_the_middle_of_noting_it_is_gone_on_for() {
    at_every_await(async |polls| {
        let mut world = World::new();
        world.settings.limits.seen_for = Duration::ZERO;
        let (one, two) = (world.member(1), world.member(2));
        let (layer, _) = pushed(&one).await;
        let layer = sha256(&layer);
        copy(&world).await;
        let is_over = {
            let reading = all(&one);
            polled(std::pin::pin!(reading).as_mut(), polls).await.is_some()
        };
        assert!(all(&two).await.damaged.is_empty());
        let now_ms = clock::now_ms() + 60 * 60 * 1000;
        for n in 0..keys::DUE_PARTITIONS {
            let due = two
                .due_work(keys::Queue::Upkeep, n, None, crate::storage::MAX_OPS, now_ms)
                .await;
            for work in due.unwrap().work {
                two.tend(&work, now_ms).await.unwrap();
            }
        }
        for name in ["a/x", "a/y"] {
            two.whole_blob(&repo(name), &layer).await.unwrap();
        }
        is_over
    })
    .await;
}
