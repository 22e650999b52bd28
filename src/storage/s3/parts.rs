//! Parts of a multipart upload that nobody names: what the server does about them, and whether there are any.

use bytes::Bytes;
use futures_util::TryStreamExt as _;

use super::{S3Blobs, bucket::Bucket, error::failed};
use crate::storage::{
    BlobStore as _, ObjectKey, Opened, Part, PartNumber, Payload, StoreError, StoreErrorKind, Unnamed,
};

/// Two pieces of the same length that differ.
const FIRST: &[u8] = b"portolan 1";
const SECOND: &[u8] = b"portolan 2";

/// Tries once, below `key`, what the server does about parts that aren't named, and about a part that was overwritten.
/// What can't be told is the worst.
pub(super) async fn unnamed(store: &S3Blobs, key: &ObjectKey) -> Result<Unnamed, StoreError> {
    let [one, two] = [1, 2].map(|number| PartNumber::new(number).ok_or(misuse()));
    let (one, two) = (one?, two?);
    let upload = store.begin(key).await?;
    let named = part(store, key, &upload, one, FIRST).await;
    let tried = async {
        let named = named?;
        part(store, key, &upload, two, SECOND).await?;
        match store.complete(key, &upload, std::slice::from_ref(&named)).await {
            Ok(_) => return Ok(Unnamed::Vanish),
            Err(error) if is_refusal(&error) => {}
            Err(error) => return Err(error),
        }
        overwritten(store, key).await
    };
    let tried = tried.await;
    store.abort(key, &upload).await?;
    store.delete(key).await?;
    tried
}

/// Names the ETag of a part that was overwritten.
async fn overwritten(store: &S3Blobs, key: &ObjectKey) -> Result<Unnamed, StoreError> {
    let number = PartNumber::new(1).ok_or(misuse())?;
    let upload = store.begin(key).await?;
    let tried = async {
        let former = part(store, key, &upload, number, FIRST).await?;
        part(store, key, &upload, number, SECOND).await?;
        match store.complete(key, &upload, std::slice::from_ref(&former)).await {
            Ok(_) => {}
            Err(error) if is_refusal(&error) => return Ok(Unnamed::Overwrite),
            Err(error) => return Err(error),
        }
        let Opened { bytes, .. } = store.get(key, 0, FIRST.len() as u64 - 1).await?;
        let pieces: Vec<Bytes> = bytes.try_collect().await?;
        Ok(match pieces.concat() == FIRST {
            true => Unnamed::Overwrite,
            false => Unnamed::Doom,
        })
    };
    let tried = tried.await;
    store.abort(key, &upload).await?;
    tried
}

async fn part(
    store: &S3Blobs,
    key: &ObjectKey,
    upload: &str,
    number: PartNumber,
    bytes: &'static [u8],
) -> Result<Part, StoreError> {
    let payload = Payload::from(Bytes::from_static(bytes));
    let etag = store.part(key, upload, number, payload).await?;
    let length = bytes.len() as u64;
    Ok(Part { number, etag, length })
}

fn misuse() -> StoreError {
    StoreError::new(StoreErrorKind::Misuse, "part")
}

/// Servers have several names for it.
fn is_refusal(error: &StoreError) -> bool {
    matches!(error.kind(), StoreErrorKind::InvalidPart | StoreErrorKind::Misuse)
}

impl Bucket {
    /// The highest number of a part that the server lists.
    pub(super) async fn last_part(
        &self,
        key: &ObjectKey,
        upload: &str,
    ) -> Result<Option<PartNumber>, StoreError> {
        let (mut last, mut marker) = (None, None::<String>);
        loop {
            let listed = self
                .client
                .list_parts()
                .bucket(&self.name)
                .key(self.key(key))
                .upload_id(upload)
                .set_part_number_marker(marker.clone())
                .send()
                .await
                .map_err(|error| failed("last_part", error))?;
            let numbers = listed.parts().iter().filter_map(|part| part.part_number());
            let numbers = numbers.filter_map(|number| PartNumber::new(u32::try_from(number).ok()?));
            last = last.max(numbers.max());
            let next = listed.next_part_number_marker().map(str::to_owned);
            // One that doesn't move on would go on for ever.
            if listed.is_truncated() != Some(true) || next.is_none() || next == marker {
                return Ok(last);
            }
            marker = next;
        }
    }
}
