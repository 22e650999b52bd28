//! The stores that all members share: a bucket and a set of tables.
//!
//! Nothing is kept on this machine, and nothing is walked: opening takes the same few requests whatever the stores hold.

use std::sync::Arc;

use super::{StartError, Stores};
use crate::{
    config::{DynamoConfig, Limits, S3Config},
    storage::{DynamoMeta, S3Blobs},
};

/// Opens both at the same time.
///
/// # Errors
/// [`StartError::Bucket`] or [`StartError::Tables`], which say what to change; the bucket's where both fail.
pub(super) async fn open(
    blobs: &S3Config,
    meta: &DynamoConfig,
    limits: &Limits,
) -> Result<Stores, StartError> {
    let (blobs, meta) = tokio::join!(S3Blobs::open(blobs, limits), DynamoMeta::open(meta, limits));
    Ok(Stores {
        blobs: Arc::new(blobs?),
        meta: Arc::new(meta?),
    })
}
