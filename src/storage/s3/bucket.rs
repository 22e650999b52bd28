//! The bucket, and how to ask for what is in it.

use std::{fmt, time::Duration};

use aws_sdk_s3::{
    Client,
    config::{Builder, timeout::TimeoutConfig},
    types::{ChecksumAlgorithm, ObjectCannedAcl, ServerSideEncryption, StorageClass},
};

use super::error::failed;
use crate::{
    config::limits::S3Limits,
    storage::{ObjectKey, StoreError, StoreErrorKind},
};

/// The bucket, and how to ask for what is in it.
pub(super) struct Bucket {
    pub(super) client: Client,
    /// Makes links: to where clients reach the bucket.
    pub(super) links: Client,
    pub(super) name: String,
    /// Of every key, with the slash that ends it; or empty.
    pub(super) prefix: String,
    /// What every new object is to be.
    pub(super) written: Written,
    pub(super) limits: S3Limits,
}

/// What the configuration says of new objects.
pub(super) struct Written {
    pub(super) encryption: Option<ServerSideEncryption>,
    pub(super) encryption_key: Option<String>,
    pub(super) class: Option<StorageClass>,
    pub(super) acl: Option<ObjectCannedAcl>,
    /// A checksum for S3 to compare with; `None` where the server may not know it.
    pub(super) checksum: Option<ChecksumAlgorithm>,
}

impl Bucket {
    /// One attempt takes at most `attempt`.
    pub(super) fn within(&self, attempt: Duration) -> TimeoutConfig {
        within(&self.limits, attempt)
    }

    /// For a request with a body of `length` bytes.
    pub(super) fn sending(&self, length: u64) -> Builder {
        let body = Duration::from_secs(length.div_ceil(self.limits.slowest.max(1)));
        aws_sdk_s3::Config::builder().timeout_config(self.within(self.limits.answer + body))
    }
}

/// One attempt of a request takes at most `attempt`.
pub(super) fn within(limits: &S3Limits, attempt: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(limits.connect)
        .operation_attempt_timeout(attempt)
        .operation_timeout(attempt + limits.retries)
        .build()
}

// The SDK's client would say a few pages about itself.
impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, prefix, .. } = self;
        f.debug_struct("Bucket")
            .field("name", name)
            .field("prefix", prefix)
            .finish_non_exhaustive()
    }
}

impl Bucket {
    /// The key in the bucket.
    pub(super) fn key(&self, key: &ObjectKey) -> String {
        self.full(key.as_str())
    }

    pub(super) fn full(&self, key: &str) -> String {
        [self.prefix.as_str(), key].concat()
    }

    pub(super) async fn delete(&self, operation: &'static str, key: String) -> Result<(), StoreError> {
        let deleted = self
            .client
            .delete_object()
            .bucket(&self.name)
            .key(key)
            .send()
            .await;
        missing_is_fine(deleted.map_err(|error| failed(operation, error).into()))
    }

    pub(super) async fn abort(
        &self,
        operation: &'static str,
        key: String,
        upload: &str,
    ) -> Result<(), StoreError> {
        let aborted = self
            .client
            .abort_multipart_upload()
            .bucket(&self.name)
            .key(key)
            .upload_id(upload)
            .send()
            .await;
        missing_is_fine(aborted.map_err(|error| failed(operation, error).into()))
    }
}

fn missing_is_fine<T>(result: Result<T, StoreError>) -> Result<(), StoreError> {
    match result {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == StoreErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// An ETag as it is compared: servers put it in quotes in some of their answers, and not in others.
pub(super) fn unquoted(etag: Option<&str>) -> String {
    etag.unwrap_or_default().trim_matches('"').to_owned()
}
