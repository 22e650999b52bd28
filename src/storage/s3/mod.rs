//! Objects in an S3 bucket: AWS, or what speaks like it (SeaweedFS, versitygw, Ceph).
//!
//! What the contract of [`BlobStore`] promises is S3's own promise; this says it in requests, bounds each of them in time
//! and attempts, and tells errors apart. Payloads go out unsigned and uncopied: they are hashed before they come here.
//!
//! Absent on purpose: copies inside the bucket and what a server lists of parts (nothing is written twice, and what was
//! acknowledged says which parts there are); conditional requests, about which servers differ.

mod body;
mod bucket;
mod client;
mod clock;
mod driver;
mod error;
mod http;
mod list;
mod open;
mod open_error;
mod parts;
mod presign;
mod read;
mod sweep;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_sdk_s3::types::{ChecksumType, CompletedMultipartUpload, CompletedPart};

pub use self::open_error::S3OpenError;
use self::{
    bucket::{Bucket, unquoted},
    error::failed,
};
use super::{
    BlobStore, Link, Object, ObjectKey, Opened, Part, PartNumber, Payload, StoreError, StoreErrorKind,
    Unnamed, bounds,
};

/// What S3 takes as a part that isn't the last, in bytes.
const MIN_PART: u64 = 5 << 20;

/// Between a part's ETag and its checksum, where S3 tells one: what names a part has to bring both again.
const WITH_SUM: &str = " crc64nvme=";

/// A bucket, or a prefix of one.
#[derive(Debug)]
pub struct S3Blobs {
    bucket: Arc<Bucket>,
    /// As it was found when the bucket was opened.
    unnamed: Unnamed,
}

#[async_trait]
impl BlobStore for S3Blobs {
    async fn put(&self, key: &ObjectKey, payload: Payload) -> Result<String, StoreError> {
        let (bucket, written) = (&self.bucket, &self.bucket.written);
        let put = bucket
            .client
            .put_object()
            .bucket(&bucket.name)
            .key(bucket.key(key))
            .body(body::stream(&payload))
            .set_server_side_encryption(written.encryption.clone())
            .set_ssekms_key_id(written.encryption_key.clone())
            .set_storage_class(written.class.clone())
            .set_acl(written.acl.clone())
            .set_checksum_algorithm(written.checksum.clone())
            .customize()
            .disable_payload_signing()
            .config_override(bucket.sending(payload.len()))
            .send()
            .await
            .map_err(|error| failed("put", error))?;
        Ok(unquoted(put.e_tag.as_deref()))
    }

    async fn begin(&self, key: &ObjectKey) -> Result<String, StoreError> {
        let (bucket, written) = (&self.bucket, &self.bucket.written);
        // Of the whole object: one over the checksums of its parts would be nothing that can be computed from its bytes.
        let kind = written.checksum.as_ref().map(|_| ChecksumType::FullObject);
        let begun = bucket
            .client
            .create_multipart_upload()
            .bucket(&bucket.name)
            .key(bucket.key(key))
            .set_server_side_encryption(written.encryption.clone())
            .set_ssekms_key_id(written.encryption_key.clone())
            .set_storage_class(written.class.clone())
            .set_acl(written.acl.clone())
            .set_checksum_algorithm(written.checksum.clone())
            .set_checksum_type(kind)
            .send()
            .await
            .map_err(|error| failed("begin", error))?;
        begun.upload_id.ok_or_else(|| nameless("begin"))
    }

    async fn part(
        &self,
        key: &ObjectKey,
        upload: &str,
        number: PartNumber,
        payload: Payload,
    ) -> Result<String, StoreError> {
        let bucket = &self.bucket;
        let part = bucket
            .client
            .upload_part()
            .bucket(&bucket.name)
            .key(bucket.key(key))
            .upload_id(upload)
            .part_number(sdk_number(number))
            .body(body::stream(&payload))
            .set_checksum_algorithm(bucket.written.checksum.clone())
            .customize()
            .disable_payload_signing()
            .config_override(bucket.sending(payload.len()))
            .send()
            .await
            .map_err(|error| failed("part", error))?;
        let etag = part.e_tag.ok_or_else(|| nameless("part"))?;
        Ok(match part.checksum_crc64_nvme {
            Some(sum) => [&etag, WITH_SUM, &sum].concat(),
            None => etag,
        })
    }

    async fn complete(&self, key: &ObjectKey, upload: &str, parts: &[Part]) -> Result<String, StoreError> {
        bounds::check_parts(parts, MIN_PART)?;
        let bucket = &self.bucket;
        let named = |part: &Part| {
            let (etag, sum) = match part.etag.split_once(WITH_SUM) {
                Some((etag, sum)) => (etag, Some(sum.to_owned())),
                None => (part.etag.as_str(), None),
            };
            CompletedPart::builder()
                .part_number(sdk_number(part.number))
                .e_tag(etag)
                .set_checksum_crc64_nvme(sum)
                .build()
        };
        let named = CompletedMultipartUpload::builder().set_parts(Some(parts.iter().map(named).collect()));
        let patient = bucket.within(bucket.limits.complete);
        let completed = bucket
            .client
            .complete_multipart_upload()
            .bucket(&bucket.name)
            .key(bucket.key(key))
            .upload_id(upload)
            .multipart_upload(named.build())
            .customize()
            .config_override(aws_sdk_s3::Config::builder().timeout_config(patient))
            .send()
            .await
            .map_err(|error| failed("complete", error))?;
        // Ceph's gateway answers with an empty one.
        Ok(unquoted(completed.e_tag.as_deref()))
    }

    async fn last_part(&self, key: &ObjectKey, upload: &str) -> Result<Option<PartNumber>, StoreError> {
        self.bucket.last_part(key, upload).await
    }

    fn unnamed(&self) -> Unnamed {
        self.unnamed
    }

    async fn abort(&self, key: &ObjectKey, upload: &str) -> Result<(), StoreError> {
        let bucket = &self.bucket;
        bucket.abort("abort", bucket.key(key), upload).await
    }

    async fn get(&self, key: &ObjectKey, first: u64, last: u64) -> Result<Opened, StoreError> {
        bounds::check_range(first, last)?;
        read::range(self.bucket.clone(), key, first, last).await
    }

    async fn presign(&self, key: &ObjectKey, lives: Duration) -> Result<Option<Link>, StoreError> {
        self.bucket.presign(key, lives).await.map(Some)
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<Object>, StoreError> {
        let bucket = &self.bucket;
        let head = bucket
            .client
            .head_object()
            .bucket(&bucket.name)
            .key(bucket.key(key))
            .send()
            .await;
        match head.map_err(|error| StoreError::from(failed("head", error))) {
            Ok(head) => {
                let length = head.content_length.and_then(|length| u64::try_from(length).ok());
                let etag = unquoted(head.e_tag.as_deref());
                let object = length.map(|length| Object { length, etag });
                object.map(Some).ok_or_else(|| nameless("head"))
            }
            Err(error) if error.kind() == StoreErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.bucket.delete("delete", self.bucket.key(key)).await
    }

    async fn delete_many(&self, keys: &[ObjectKey]) -> Result<(), StoreError> {
        let keys: Vec<_> = keys.iter().map(|key| self.bucket.key(key)).collect();
        self.bucket.delete_many(keys).await
    }

    async fn sweep(&self, prefix: &str, keep: &[ObjectKey]) -> Result<(), StoreError> {
        bounds::check_prefix(prefix)?;
        self.bucket.sweep(prefix, keep).await
    }

    fn min_part(&self) -> u64 {
        MIN_PART
    }
}

fn sdk_number(number: PartNumber) -> i32 {
    // At most 10,000.
    i32::try_from(number.get()).unwrap_or(i32::MAX)
}

/// An answer without what it is for.
fn nameless(operation: &'static str) -> StoreError {
    StoreError::with_source(
        StoreErrorKind::Unavailable,
        operation,
        "S3's answer lacks an id, an ETag or a length",
    )
}
