//! Finding and deleting what is below a prefix: the one place that lists.

use std::collections::HashSet;

use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{S3Blobs, bucket::Bucket, error::failed};
use crate::storage::{ObjectKey, StoreError, StoreErrorKind};

/// Deletes on their way at once.
const AT_ONCE: usize = 8;

/// Keys of one `DeleteObjects`, as S3 bounds them.
const KEYS: usize = 1_000;

impl Bucket {
    /// Deletes these objects. `DeleteObjects` wants a checksum that not every server agrees about: where it is refused they are
    /// deleted one by one.
    pub(super) async fn delete_many(&self, keys: Vec<String>) -> Result<(), StoreError> {
        const OPERATION: &str = "delete many";
        for keys in keys.chunks(KEYS) {
            let objects: Vec<_> = keys
                .iter()
                .map(|key| ObjectIdentifier::builder().key(key).build())
                .collect::<Result<_, _>>()
                .map_err(|error| StoreError::with_source(StoreErrorKind::Misuse, OPERATION, error))?;
            let wanted = Delete::builder().set_objects(Some(objects)).quiet(true).build();
            let wanted =
                wanted.map_err(|error| StoreError::with_source(StoreErrorKind::Misuse, OPERATION, error))?;
            let deleted = self
                .client
                .delete_objects()
                .bucket(&self.name)
                .delete(wanted)
                .send()
                .await;
            let failures = match deleted {
                Ok(deleted) => deleted.errors.unwrap_or_default(),
                Err(error) => {
                    let error: StoreError = failed(OPERATION, error).into();
                    tracing::debug!(?error, "S3 doesn't delete many at once: one by one");
                    stream::iter(keys.iter().cloned().map(Ok))
                        .try_for_each_concurrent(AT_ONCE, |key| self.delete(OPERATION, key))
                        .await?;
                    continue;
                }
            };
            if let Some(failure) = failures
                .into_iter()
                .find(|failure| failure.code() != Some("NoSuchKey"))
            {
                let reason = format!("{}: {failure:?}", failure.key().unwrap_or_default());
                return Err(StoreError::with_source(
                    StoreErrorKind::Unavailable,
                    OPERATION,
                    reason,
                ));
            }
        }
        Ok(())
    }

    /// Deletes the objects whose keys begin with `prefix`, and aborts the multipart uploads towards such keys, but for those
    /// of `keep`.
    pub(super) async fn sweep(&self, prefix: &str, keep: &[ObjectKey]) -> Result<(), StoreError> {
        let keep: HashSet<String> = keep.iter().map(|key| self.key(key)).collect();
        let prefix = self.full(prefix);
        objects(self, &prefix, &keep).await?;
        uploads(self, &prefix, &keep).await
    }
}

impl S3Blobs {
    /// Whether there is an object whose key begins with `prefix`.
    ///
    /// # Errors
    /// [`StoreError`]: it can't be listed.
    pub async fn has_any(&self, prefix: &str) -> Result<bool, StoreError> {
        let page = self
            .bucket
            .client
            .list_objects_v2()
            .bucket(&self.bucket.name)
            .prefix(self.bucket.full(prefix))
            .max_keys(1)
            .send()
            .await
            .map_err(|error| failed("list", error))?;
        Ok(!page.contents().is_empty())
    }
}

async fn objects(bucket: &Bucket, prefix: &str, keep: &HashSet<String>) -> Result<(), StoreError> {
    let mut next = None;
    loop {
        let page = bucket
            .client
            .list_objects_v2()
            .bucket(&bucket.name)
            .prefix(prefix)
            .set_continuation_token(next)
            .send()
            .await
            .map_err(|error| failed("sweep", error))?;
        let keys = page.contents.unwrap_or_default().into_iter();
        let keys = keys
            .filter_map(|object| object.key)
            .filter(|key| !keep.contains(key));
        stream::iter(keys.map(Ok))
            .try_for_each_concurrent(AT_ONCE, |key| bucket.delete("sweep", key))
            .await?;
        next = page.next_continuation_token;
        if next.is_none() {
            return Ok(());
        }
    }
}

async fn uploads(bucket: &Bucket, prefix: &str, keep: &HashSet<String>) -> Result<(), StoreError> {
    let (mut key, mut id) = (None, None);
    loop {
        let page = bucket
            .client
            .list_multipart_uploads()
            .bucket(&bucket.name)
            .prefix(prefix)
            .set_key_marker(key)
            .set_upload_id_marker(id)
            .send()
            .await
            .map_err(|error| failed("sweep", error))?;
        let found = page.uploads.unwrap_or_default().into_iter();
        let found = found
            .filter_map(|upload| upload.key.zip(upload.upload_id))
            // Not every server filters by the prefix.
            .filter(|(key, _)| key.starts_with(prefix) && !keep.contains(key));
        let mut aborts =
            stream::iter(found.map(|(key, id)| async move { bucket.abort("sweep", key, &id).await }))
                .buffer_unordered(AT_ONCE);
        while let Some(aborted) = aborts.next().await {
            aborted?;
        }
        if page.is_truncated != Some(true) {
            return Ok(());
        }
        (key, id) = (page.next_key_marker, page.next_upload_id_marker);
    }
}
