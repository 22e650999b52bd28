//! Opening a bucket: whether it is there, and whether everything that is ever asked of it is allowed.

use std::time::Duration;

use aws_sdk_s3::{
    config::retry::RetryConfig,
    types::{BucketLocationConstraint, CreateBucketConfiguration},
};
use bytes::Bytes;
use tokio::time::sleep;

use super::{
    S3Blobs,
    bucket::Bucket,
    client,
    error::{Failed, failed},
    open_error::S3OpenError,
    parts,
    read::jittered,
};
use crate::{
    config::{Limits, S3Config},
    storage::{BlobStore as _, ObjectKey, Payload, StoreError, StoreErrorKind, Unnamed, bounds::random_name},
};

/// What a member writes when it starts, with a random number at the end. Not below a folder: where folders are real, it
/// would go away with one member's object while another's is written.
pub(super) const PROBE: &str = "probe-";

/// How often a bucket that is being created is looked for, by this member or by others at the same time.
const LOOKS: u32 = 10;
/// The longest pause between two looks.
const PAUSE: Duration = Duration::from_millis(500);

impl S3Blobs {
    /// Opens the bucket that `config` names, and makes it if it is missing and `create_bucket` says so.
    ///
    /// Writes, reads, lists and deletes one small object and begins and aborts an upload, so that a missing right is
    /// found now.
    ///
    /// # Errors
    /// [`S3OpenError`], which says what to change.
    pub async fn open(config: &S3Config, limits: &Limits) -> Result<Self, S3OpenError> {
        let bucket = client::bucket(config, limits).await?;
        let opening = Opening {
            bucket: &bucket,
            config,
        };
        opening.find().await?;
        let mut store = Self {
            bucket: bucket.into(),
            unnamed: Unnamed::Vanish,
        };
        let opening = Opening {
            bucket: &store.bucket,
            config,
        };
        opening.probe(&store).await?;
        let unnamed = opening.unnamed(&store).await?;
        store.unnamed = unnamed;
        Ok(store)
    }
}

struct Opening<'a> {
    bucket: &'a Bucket,
    config: &'a S3Config,
}

/// A right, and what needs it.
#[derive(Clone, Copy)]
struct Need {
    right: &'static str,
    action: &'static str,
}

const LIST: Need = Need {
    right: "s3:ListBucket",
    action: "list objects",
};
const WRITE: Need = Need {
    right: "s3:PutObject (with encryption also kms:GenerateDataKey and kms:Decrypt on the key; with an ACL also s3:PutObjectAcl)",
    action: "write an object",
};
const READ: Need = Need {
    right: "s3:GetObject",
    action: "read an object",
};
const DELETE: Need = Need {
    right: "s3:DeleteObject",
    action: "delete an object",
};
const ABORT: Need = Need {
    right: "s3:AbortMultipartUpload",
    action: "abort an upload",
};
const LIST_UPLOADS: Need = Need {
    right: "s3:ListBucketMultipartUploads",
    action: "list uploads",
};

impl Opening<'_> {
    /// Sees that the bucket is there. Not by HeadBucket, whose answers have no body that says what is wrong.
    async fn find(&self) -> Result<(), S3OpenError> {
        let Err(missing) = self.look().await else {
            return Ok(());
        };
        if !is_missing(&missing) {
            return Err(self.fault(LIST, missing));
        }
        if !self.config.create_bucket {
            return Err(S3OpenError::NoBucket {
                bucket: self.name(),
                place: self.place(),
            });
        }
        self.create().await
    }

    /// Creates the bucket, perhaps together with other members. Whoever made it, it is there once it can be listed.
    async fn create(&self) -> Result<(), S3OpenError> {
        let mut refused = None;
        for look in 0..LOOKS {
            if look > 0 {
                sleep(jittered(PAUSE)).await;
            }
            if let Err(failed) = self.request_bucket().await {
                refused = Some(failed.error);
            }
            match self.look().await {
                Ok(()) => return Ok(()),
                Err(missing) if is_missing(&missing) => {
                    refused.get_or_insert(missing.error);
                }
                Err(other) => return Err(self.fault(LIST, other)),
            }
            let is_final = |error: &StoreError| {
                matches!(
                    error.kind(),
                    StoreErrorKind::Denied | StoreErrorKind::Unsupported | StoreErrorKind::Misuse
                )
            };
            if refused.as_ref().is_some_and(is_final) {
                break;
            }
        }
        Err(S3OpenError::CantCreate {
            bucket: self.name(),
            place: self.place(),
            source: refused.unwrap_or_else(|| StoreError::new(StoreErrorKind::Unavailable, "create")),
        })
    }

    async fn request_bucket(&self) -> Result<(), Failed> {
        // AWS wants to be told the region, but for the first one; other servers have one only.
        let region = self.config.region.as_str();
        let elsewhere = self.config.endpoint.is_none() && region != "us-east-1";
        let place = elsewhere.then(|| {
            CreateBucketConfiguration::builder()
                .location_constraint(BucketLocationConstraint::from(region))
                .build()
        });
        // Whatever comes of one attempt, the bucket is looked for before the next.
        let once = aws_sdk_s3::Config::builder().retry_config(RetryConfig::disabled());
        let created = self
            .bucket
            .client
            .create_bucket()
            .bucket(&self.bucket.name)
            .set_create_bucket_configuration(place)
            .customize()
            .config_override(once)
            .send()
            .await;
        created.map(drop).map_err(|error| failed("create", error))
    }

    async fn look(&self) -> Result<(), Failed> {
        let listed = self
            .bucket
            .client
            .list_objects_v2()
            .bucket(&self.bucket.name)
            .prefix(self.bucket.full(PROBE))
            .max_keys(1)
            .send()
            .await;
        listed.map(drop).map_err(|error| failed("list", error))
    }

    /// Does once what is done later: write, read, list uploads, delete.
    async fn probe(&self, store: &S3Blobs) -> Result<(), S3OpenError> {
        let name = format!("{PROBE}{}", random_name());
        // Always a key: digits of a random number after a word.
        let Some(key) = ObjectKey::parse(&name) else {
            return Ok(());
        };
        let need = |need: Need| move |error: StoreError| self.fault(need, Failed { error, answer: None });
        store
            .put(&key, Payload::from(Bytes::from_static(b"portolan")))
            .await
            .map_err(need(WRITE))?;
        let (read, uploads) = tokio::join!(
            async { store.get(&key, 0, 0).await.map(drop).map_err(need(READ)) },
            self.probe_uploads(store, &key),
        );
        // Whatever came of it, nothing is to be left.
        let deleted = store.delete(&key).await.map_err(need(DELETE));
        read.and(uploads).and(deleted)
    }

    /// What becomes of parts that aren't named.
    async fn unnamed(&self, store: &S3Blobs) -> Result<Unnamed, S3OpenError> {
        let Some(key) = ObjectKey::parse(&format!("{PROBE}{}", random_name())) else {
            return Ok(Unnamed::Doom);
        };
        let unnamed = parts::unnamed(store, &key).await;
        let unnamed = unnamed.map_err(|error| self.fault(WRITE, Failed { error, answer: None }))?;
        if unnamed != Unnamed::Vanish {
            tracing::info!(
                ?unnamed,
                "the blob store completes no upload that has parts which aren't named"
            );
        }
        Ok(unnamed)
    }

    async fn probe_uploads(&self, store: &S3Blobs, key: &ObjectKey) -> Result<(), S3OpenError> {
        let need = |need: Need| move |error: StoreError| self.fault(need, Failed { error, answer: None });
        let upload = store.begin(key).await.map_err(need(WRITE))?;
        let listed = self
            .bucket
            .client
            .list_multipart_uploads()
            .bucket(&self.bucket.name)
            .prefix(self.bucket.key(key))
            .max_uploads(1)
            .send()
            .await;
        store.abort(key, &upload).await.map_err(need(ABORT))?;
        listed
            .map(drop)
            .map_err(|error| self.fault(LIST_UPLOADS, failed("list", error)))
    }

    fn fault(&self, need: Need, failed: Failed) -> S3OpenError {
        let Failed {
            error: source,
            answer,
        } = failed;
        let (status, code) = answer.as_ref().map_or((0, ""), |answer| {
            (answer.status, answer.code.as_deref().unwrap_or_default())
        });
        let (bucket, place) = (self.name(), self.place());
        match (source.kind(), code) {
            (
                _,
                "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException",
            ) => S3OpenError::OtherRegion {
                bucket,
                region: self.config.region.clone(),
                source,
            },
            (
                _,
                "InvalidAccessKeyId"
                | "SignatureDoesNotMatch"
                | "ExpiredToken"
                | "InvalidToken"
                | "InvalidClientTokenId"
                | "XAdminUserNotFound",
            ) => S3OpenError::Credentials { place, source },
            // Nothing could be signed, so nothing was answered.
            (StoreErrorKind::Denied, "") if status == 0 && need.right == LIST.right => {
                S3OpenError::Credentials { place, source }
            }
            (StoreErrorKind::Denied, _) => S3OpenError::Denied {
                right: need.right,
                bucket,
                source,
            },
            _ => S3OpenError::Failed {
                bucket,
                place,
                action: need.action,
                source,
            },
        }
    }

    fn name(&self) -> String {
        self.bucket.name.clone()
    }

    fn place(&self) -> String {
        match &self.config.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => format!("AWS in {}", self.config.region),
        }
    }
}

fn is_missing(failed: &Failed) -> bool {
    let code = failed.answer.as_ref().and_then(|answer| answer.code.as_deref());
    code == Some("NoSuchBucket")
}
