//! The stores that all members share: a bucket and a set of tables.
//!
//! Nothing is kept on this machine, and nothing is walked: opening takes the same few requests whatever the stores hold.

use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{StartError, Stores};
use crate::{
    config::{DynamoConfig, Limits, S3Config},
    storage::{
        DynamoMeta, MetaStore, S3Blobs, Space, StoreError,
        keys::{self, Queue},
    },
};

/// Where content lies in a bucket.
const CONTENT: [&str; 2] = ["uploads/", "manifests/"];
/// Partitions that are read at a time.
const AT_ONCE: usize = 16;

/// Opens both at the same time.
///
/// # Errors
/// [`StartError::Bucket`] or [`StartError::Tables`], which say what to change; the bucket's where both fail.
pub(super) async fn open(
    blobs: &S3Config,
    meta: &DynamoConfig,
    limits: &Limits,
) -> Result<Stores, StartError> {
    let (opened_blobs, opened_meta) =
        tokio::join!(S3Blobs::open(blobs, limits), DynamoMeta::open(meta, limits));
    let (opened_blobs, opened_meta) = (opened_blobs?, opened_meta?);
    match are_tables_lost(&opened_blobs, &opened_meta).await {
        Ok(false) => {}
        Ok(true) => tracing::error!(bucket = blobs.bucket, "{}", lost(blobs, meta)),
        Err(error) => tracing::warn!(%error, "can't see whether the tables belong to the bucket"),
    }
    Ok(Stores {
        blobs: Arc::new(opened_blobs),
        meta: Arc::new(opened_meta),
    })
}

/// What to say of tables that hold nothing beside a bucket that does.
pub(super) fn lost(blobs: &S3Config, meta: &DynamoConfig) -> String {
    format!(
        "the tables ({} and others) hold nothing, and the bucket {} holds content: nothing of it can be pulled. Name the \
         tables that belong to it, or restore them; if it is meant, give this registry a bucket or a rootdirectory of its \
         own",
        meta.tables.repo_meta, blobs.bucket
    )
}

/// Whether the bucket holds content and the tables know of nothing at all: no repository, and nothing that is due, as
/// there is for every upload and for every blob that no manifest uses.
///
/// # Errors
/// [`StoreError`]: one of them can't be read.
pub(super) async fn are_tables_lost(blobs: &S3Blobs, meta: &dyn MetaStore) -> Result<bool, StoreError> {
    // The cheap questions first; for a mesh in use the first one decides.
    if has_rows(meta, Space::Repositories, keys::CATALOG.to_owned()).await? {
        return Ok(false);
    }
    let mut holds_content = false;
    for prefix in CONTENT {
        holds_content = holds_content || blobs.has_any(prefix).await?;
    }
    if !holds_content {
        return Ok(false);
    }
    let partitions = (0..keys::DUE_PARTITIONS)
        .flat_map(|n| [Queue::Upkeep, Queue::Collection].map(|queue| queue.partition(n)));
    let looks = partitions.map(|partition| has_rows(meta, Space::Blobs, partition));
    let looks = stream::iter(looks).buffer_unordered(AT_ONCE);
    let known = looks.try_any(|has_rows| async move { has_rows }).await?;
    Ok(!known)
}

async fn has_rows(meta: &dyn MetaStore, space: Space, partition: String) -> Result<bool, StoreError> {
    let page = meta.range(space, &partition, "", None, 1).await?;
    Ok(!page.entries.is_empty())
}
