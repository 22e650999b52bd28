//! Why a bucket can't be used.

use std::{io, path::PathBuf};

use crate::{outbound::TrustError, storage::StoreError};

/// Why a bucket can't be used. Each says what to change.
#[derive(Debug, thiserror::Error)]
pub enum S3OpenError {
    /// The certificates that `AWS_CA_BUNDLE` names can't be read.
    #[error("AWS_CA_BUNDLE names {}, which can't be used: name a PEM file of certificates, or unset it", path.display())]
    Bundle {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// TLS can't be set up at all.
    #[error("TLS can't be set up")]
    Tls(#[source] rustls::Error),
    /// The configured user agent can't be sent.
    #[error("storage.storageDriver.useragent: expected visible ASCII characters")]
    UserAgent,
    /// The bucket doesn't exist.
    #[error(
        "the bucket {bucket} doesn't exist at {place}: create it, correct storage.storageDriver.bucket, or set storage.storageDriver.createbucket: true"
    )]
    NoBucket {
        /// Its name.
        bucket: String,
        /// The endpoint, or the region of AWS.
        place: String,
    },
    /// The bucket can't be created.
    #[error(
        "the bucket {bucket} doesn't exist at {place} and can't be created: create it by hand, or grant s3:CreateBucket"
    )]
    CantCreate {
        /// Its name.
        bucket: String,
        /// The endpoint, or the region of AWS.
        place: String,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// The bucket is elsewhere.
    #[error("the bucket {bucket} is in another region than {region}: correct storage.storageDriver.region")]
    OtherRegion {
        /// Its name.
        bucket: String,
        /// The configured region.
        region: String,
        /// What S3 says.
        #[source]
        source: StoreError,
    },
    /// There is nothing to sign requests with, or S3 doesn't know it.
    #[error(
        "no valid credentials for {place}: set storage.storageDriver.accesskey and secretkey, or give this process an environment, a profile or a role that AWS's tools understand"
    )]
    Credentials {
        /// The endpoint, or the region of AWS.
        place: String,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// A right is missing.
    #[error(
        "the credentials lack {right} in the bucket {bucket}: grant it (deploy/iam/s3.json has all that are needed)"
    )]
    Denied {
        /// What is missing, by AWS's names of rights.
        right: &'static str,
        /// The bucket.
        bucket: String,
        /// What S3 says.
        #[source]
        source: StoreError,
    },
    /// Anything else.
    #[error("the bucket {bucket} at {place} can't be used: to {action} failed")]
    Failed {
        /// Its name.
        bucket: String,
        /// The endpoint, or the region of AWS.
        place: String,
        /// What was tried.
        action: &'static str,
        /// Why.
        #[source]
        source: StoreError,
    },
}

impl From<TrustError> for S3OpenError {
    fn from(error: TrustError) -> Self {
        match error {
            TrustError::File { path, source } => Self::Bundle { path, source },
            TrustError::Tls(source) => Self::Tls(source),
        }
    }
}
