//! Opening the two stores that a configuration names. The drivers are listed here and nowhere else.
//!
//! Nothing is walked: opening takes the same few requests whatever the stores hold.

use std::{path::Path, sync::Arc, time::SystemTime};

use futures_util::{StreamExt as _, TryStreamExt as _, future::BoxFuture, stream};

use super::{
    AllObjects, AllRows, BlobStore, MetaStore, Space, StoreError,
    driver::{BlobDriver, Look, MetaDriver, OpenError, OpenedMeta, Seen},
    fs::FileBlobs,
    keys::{self, Queue},
    redb::RedbFile,
};
use crate::{
    causes::in_a_line,
    config::{BlobStorage, Limits, MetaStorage, Storage},
};

/// Where content lies in a blob store.
const CONTENT: [&str; 2] = ["uploads/", "manifests/"];
/// Partitions that are read at a time.
const AT_ONCE: usize = 16;

/// The drivers of metadata.
fn meta_driver(storage: &Storage) -> Box<dyn MetaDriver + '_> {
    match &storage.meta {
        MetaStorage::Redb { root } => Box::new(RedbFile { root }),
        MetaStorage::Dynamo(config) => Box::new(config),
        MetaStorage::Postgres(config) => Box::new(config),
        MetaStorage::Redis(config) => Box::new(config),
    }
}

/// The drivers of blobs.
fn blob_driver(storage: &Storage) -> Box<dyn BlobDriver + '_> {
    match &storage.blobs {
        BlobStorage::Files { root } => Box::new(FileBlobs { root }),
        BlobStorage::S3(config) => Box::new(config),
    }
}

/// The two stores that all members share.
#[derive(Clone)]
pub struct Stores {
    /// Rows.
    pub meta: Arc<dyn MetaStore>,
    /// Objects.
    pub blobs: Arc<dyn BlobStore>,
}

/// Stores that are open. What only one process can have is this one's until this is dropped.
pub struct OpenStores {
    stores: Stores,
    close: BoxFuture<'static, ()>,
}

impl OpenStores {
    /// The stores, for any number of members of this process.
    pub fn stores(&self) -> Stores {
        self.stores.clone()
    }

    /// Writes what is queued and closes what has to be closed.
    pub async fn close(self) {
        self.close.await;
    }
}

/// Opens both, or makes them: services at the same time, a directory once its lock is had, which is the metadata's. Metadata
/// that knows of nothing beside content is logged as an error.
///
/// # Errors
/// [`OpenError`]; where both services fail, the blob store's.
pub async fn open(storage: &Storage, limits: &Limits) -> Result<OpenStores, OpenError> {
    let (blob_driver, meta_driver) = (blob_driver(storage), meta_driver(storage));
    let (blobs, OpenedMeta { store, close }) = match storage.is_shared() {
        true => {
            let (blobs, meta) = tokio::join!(blob_driver.open(limits), meta_driver.open(limits));
            (blobs?, meta?)
        }
        false => {
            let meta = meta_driver.open(limits).await?;
            (blob_driver.open(limits).await?, meta)
        }
    };
    match is_meta_lost(&*blobs, &*store).await {
        Ok(false) => {}
        Ok(true) => tracing::error!(blobs = blob_driver.named(), "{}", lost(storage)),
        Err(error) => tracing::warn!(%error, "can't see whether metadata and content belong together"),
    }
    Ok(OpenStores {
        stores: Stores { meta: store, blobs },
        close,
    })
}

/// Stores that are open to be looked at as a whole.
pub struct WholeStores {
    /// Rows.
    pub meta: Arc<dyn AllRows>,
    /// Objects.
    pub blobs: Arc<dyn AllObjects>,
    close: BoxFuture<'static, ()>,
}

impl WholeStores {
    /// As stores that serve requests.
    pub fn stores(&self) -> Stores {
        Stores {
            meta: self.meta.clone(),
            blobs: self.blobs.clone(),
        }
    }

    /// As [`OpenStores::close`].
    pub async fn close(self) {
        self.close.await;
    }
}

/// Opens both as they are, for who looks after them: nothing is made, and what isn't there is an error.
///
/// # Errors
/// [`OpenError`].
pub async fn open_existing(storage: &Storage, limits: &Limits) -> Result<WholeStores, OpenError> {
    let (blob_driver, meta_driver) = (blob_driver(storage), meta_driver(storage));
    if let Some(root) = directory(storage)
        && !root.join("blobs").is_dir()
        && !root.join("meta.redb").exists()
    {
        let said = format!("there is nothing in {}", root.display());
        return Err(OpenError::NotThere { said });
    }
    // A service is examined, which makes nothing; a directory has nothing to say.
    let (looks, meta) = meta_driver.examine(limits).await;
    let OpenedMeta { store: meta, close } = match meta {
        Some(store) => OpenedMeta {
            store,
            close: Box::pin(std::future::ready(())),
        },
        None if looks.is_empty() => meta_driver.open(limits).await?,
        None => return Err(not_there(looks)),
    };
    let (looks, blobs) = blob_driver.examine(limits).await;
    let blobs = match blobs {
        Some(blobs) => blobs,
        None if looks.is_empty() => blob_driver.open(limits).await?,
        None => return Err(not_there(looks)),
    };
    Ok(WholeStores { meta, blobs, close })
}

/// What keeps a service from being used.
fn not_there(looks: Vec<Look>) -> OpenError {
    let faults = looks.into_iter().filter(|look| look.seen != Seen::Good);
    let said: Vec<_> = faults
        .map(|look| format!("{}: {}", look.subject, look.said))
        .collect();
    OpenError::NotThere {
        said: said.join("; "),
    }
}

/// What is stored where, for people.
#[must_use]
pub fn summary(storage: &Storage) -> String {
    format!(
        "{}, {}",
        blob_driver(storage).named(),
        meta_driver(storage).named()
    )
}

/// What must be the same on all members, by the keys of the configuration.
#[must_use]
pub fn identity(storage: &Storage) -> Vec<(String, String)> {
    let mut identity = blob_driver(storage).identity();
    identity.extend(meta_driver(storage).identity());
    identity
}

/// The directory of this machine in which something is kept, if there is one.
#[must_use]
pub fn directory(storage: &Storage) -> Option<&Path> {
    match (&storage.blobs, &storage.meta) {
        (BlobStorage::Files { root }, _) | (_, MetaStorage::Redb { root }) => Some(root),
        (BlobStorage::S3(_), MetaStorage::Dynamo(_) | MetaStorage::Postgres(_) | MetaStorage::Redis(_)) => {
            None
        }
    }
}

/// Whether this machine has what [`open`] needs of it. What isn't there isn't made.
///
/// # Errors
/// As `open`.
pub async fn examine_here(storage: &Storage) -> Result<(), OpenError> {
    meta_driver(storage).examine_here().await?;
    blob_driver(storage).examine_here().await
}

/// What was found of the stores, without changing anything.
#[derive(Default)]
pub struct Examined {
    /// Each thing that was looked at.
    pub looks: Vec<Look>,
    /// The clocks that tell the time, each with a name.
    pub clocks: Vec<(String, SystemTime)>,
    /// The rows, where they can be read.
    pub meta: Option<Arc<dyn MetaStore>>,
}

/// Asks once for everything that is ever asked of the services, with `limits.verify.timeout` for each answer.
pub async fn examine(storage: &Storage, limits: &Limits) -> Examined {
    let (blob_driver, meta_driver) = (blob_driver(storage), meta_driver(storage));
    let bound = limits.verify.timeout;
    let (of_blobs, of_meta, blobs_time, meta_time) = tokio::join!(
        tokio::time::timeout(bound, blob_driver.examine(limits)),
        tokio::time::timeout(bound, meta_driver.examine(limits)),
        tokio::time::timeout(bound, blob_driver.server_time(limits)),
        tokio::time::timeout(bound, meta_driver.server_time(limits)),
    );
    let silent = |name: &str| {
        let said = format!("no answer within {} s", bound.as_secs());
        vec![Look::new(Seen::Bad, name, said)]
    };
    let (mut looks, blobs) = of_blobs.unwrap_or_else(|_| (silent(&blob_driver.named()), None));
    let (of_meta, meta) = of_meta.unwrap_or_else(|_| (silent(meta_driver.kind()), None));
    looks.extend(of_meta);
    // A store that doesn't answer was named already.
    let times = [
        (blob_driver.kind(), blobs_time.ok().flatten()),
        (meta_driver.kind(), meta_time.ok().flatten()),
    ];
    let clocks = times
        .into_iter()
        .filter_map(|(kind, time)| Some((format!("clock, by the {kind}"), time?)))
        .collect();
    if let (Some(blobs), Some(meta)) = (blobs, &meta) {
        let subject = format!("{} and {}", blob_driver.kind(), meta_driver.kind());
        looks.extend(
            match tokio::time::timeout(bound, is_meta_lost(&*blobs, &**meta)).await {
                Ok(Ok(false)) => Vec::new(),
                Ok(Ok(true)) => vec![Look::new(Seen::Doubtful, subject, lost(storage))],
                Ok(Err(error)) => vec![Look::new(Seen::Bad, subject, in_a_line(&error))],
                Err(_) => silent(&subject),
            },
        );
    }
    Examined {
        looks,
        clocks,
        meta: meta.map(|meta| -> Arc<dyn MetaStore> { meta }),
    }
}

/// What to say of metadata that knows of nothing beside content.
fn lost(storage: &Storage) -> String {
    format!(
        "the {} ({}) hold nothing, and the {} ({}) holds content: nothing of it can be pulled. Name those that belong to \
         it, or restore them; if it is meant, give this registry a {} of its own",
        meta_driver(storage).kind(),
        meta_driver(storage).named(),
        blob_driver(storage).kind(),
        blob_driver(storage).named(),
        blob_driver(storage).kind(),
    )
}

/// Whether there is content and no row knows of anything at all: no repository, and nothing that is due, as there is for
/// every upload and for every blob that no manifest uses.
async fn is_meta_lost(blobs: &dyn AllObjects, meta: &dyn MetaStore) -> Result<bool, StoreError> {
    // The cheap questions first; for a registry in use the first one decides.
    if has_rows(meta, Space::Repositories, keys::CATALOG.to_owned()).await? {
        return Ok(false);
    }
    let mut holds_content = false;
    for folder in CONTENT {
        holds_content = holds_content || blobs.has_any(folder).await?;
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
