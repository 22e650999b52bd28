//! Reads of which nobody knows how much will be taken: the store is asked for a little at a time.
//!
//! A store sends what it was asked for until the buffers of the network are full, and those hold megabytes: of a range that
//! somebody leaves after 64 KiB, 8 MB and more came from S3. Clients that fetch a blob in pieces ask for all from some byte on and
//! leave after their piece. So what they ask for is read as a row of short ranges, each asked for when the one before was taken:
//! at most 512 KiB more than the buffers on the way to the client took is read, or an eighth.
//!
//! Deliberately absent: reading ahead, which would be read in vain by those who leave.

use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::{
    oci::ResolvedRange,
    storage::{BlobStore, ByteStream, Object, ObjectKey, Opened, StoreError, StoreErrorKind},
};

/// Bytes of the shortest range that is asked for.
const LEAST: u64 = 512 << 10;

/// How many bytes are asked for next, when `taken` were.
fn next_length(taken: u64) -> u64 {
    (taken / 8).max(LEAST)
}

/// What [`BlobStore::get`] does, in pieces.
pub(super) async fn open(
    blobs: &Arc<dyn BlobStore>,
    key: &ObjectKey,
    range: ResolvedRange,
) -> Result<Opened, StoreError> {
    let last = range.last.min(range.first.saturating_add(next_length(0) - 1));
    let Opened { object, bytes } = blobs.get(key, range.first, last).await?;
    let rest = Rest {
        blobs: blobs.clone(),
        key: key.clone(),
        object: object.clone(),
        taken: last - range.first + 1,
        range,
    };
    let rest = stream::try_unfold(rest, Rest::next);
    let bytes = stream::iter([Ok(bytes)]).chain(rest).try_flatten();
    Ok(Opened {
        object,
        bytes: Box::pin(bytes),
    })
}

/// What is still to be asked for.
struct Rest {
    blobs: Arc<dyn BlobStore>,
    key: ObjectKey,
    object: Object,
    range: ResolvedRange,
    taken: u64,
}

impl Rest {
    async fn next(mut self) -> Result<Option<(ByteStream, Self)>, StoreError> {
        if self.taken == self.range.len() {
            return Ok(None);
        }
        let first = self.range.first + self.taken;
        let last = self
            .range
            .last
            .min(first.saturating_add(next_length(self.taken) - 1));
        let opened = self.blobs.get(&self.key, first, last).await?;
        // Keys are never used twice: then the store has lost what was written.
        if !opened.object.is(self.object.length, &self.object.etag) {
            return Err(StoreError::new(StoreErrorKind::Corrupt, "get"));
        }
        self.taken = last - self.range.first + 1;
        Ok(Some((opened.bytes, self)))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::storage::{MemoryBlobs, Payload};

    proptest! {
        #[test]
        fn little_more_is_asked_for_than_is_taken(taken in 0..=1_u64 << 32) {
            let mut asked = 0;
            while asked < taken.max(1) {
                asked += next_length(asked);
            }
            prop_assert!(asked <= (taken + LEAST).max(taken + taken / 8), "{asked} for {taken}");
        }
    }

    #[tokio::test]
    async fn the_pieces_are_what_was_asked_for() {
        let blobs: Arc<dyn BlobStore> = Arc::new(MemoryBlobs::new());
        let key = ObjectKey::parse("pieces").unwrap();
        let content: Vec<u8> = (0..7 * LEAST + 5).map(|n| (n % 251) as u8).collect();
        let mut payload = Payload::default();
        payload.push(Bytes::from(content.clone()));
        blobs.put(&key, payload).await.unwrap();
        let end = content.len() as u64 - 1;
        for (first, last) in [
            (0, end),
            (0, LEAST - 1),
            (0, LEAST),
            (3, end),
            (end, end),
            (LEAST + 1, 6 * LEAST),
        ] {
            let opened = open(&blobs, &key, ResolvedRange { first, last }).await.unwrap();
            assert_eq!(opened.object.length, content.len() as u64);
            let pieces: Vec<Bytes> = opened.bytes.try_collect().await.unwrap();
            assert!(
                pieces.concat() == content[first as usize..=last as usize],
                "{first}-{last}"
            );
        }
    }
}
