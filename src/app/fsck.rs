//! `portolan fsck`: the stores of a configuration, looked after beside the members that run on them.

use super::care::{CareError, registry_over};
use crate::{
    config::{Config, Limits},
    oci::RepoName,
    registry::{FsckOptions, FsckReport, MayBeAbsent, RegistryError},
    storage::{self, WholeStores},
    sync,
};

/// What is asked for beside the configuration.
pub struct FsckRun<'a> {
    /// Whether to repair what can be.
    pub repair: bool,
    /// Hears of what is looked at, and how many rows and objects were.
    pub tell: &'a (dyn Fn(&str, u64, u64) + Send + Sync),
}

/// Compares the rows of `config` with each other and with the bucket.
///
/// # Errors
/// [`CareError`].
pub async fn fsck(config: &Config, run: &FsckRun<'_>, limits: &Limits) -> Result<FsckReport, CareError> {
    let stores = storage::open_existing(&config.storage, limits).await?;
    let report = fsck_stores(&stores, config, run, limits).await;
    stores.close().await;
    Ok(report?)
}

async fn fsck_stores(
    stores: &WholeStores,
    config: &Config,
    run: &FsckRun<'_>,
    limits: &Limits,
) -> Result<FsckReport, RegistryError> {
    let may_be_absent = |repository: &RepoName| {
        let is_mirrored = config
            .sync
            .as_ref()
            .is_some_and(|sync| sync::mirrors(sync, repository));
        let mut sparse = config.sparse_indexes.iter();
        match is_mirrored {
            true => MayBeAbsent::Everything,
            false if sparse.any(|pattern| pattern.matches(repository)) => MayBeAbsent::Children,
            false => MayBeAbsent::Nothing,
        }
    };
    let options = FsckOptions {
        repair: run.repair,
        pause: limits.registry.fsck_pause,
        min_age: limits.registry.session_ttl + limits.registry.trash_delay + limits.registry.clock_margin,
        may_be_absent: &may_be_absent,
        tell: run.tell,
    };
    let registry = registry_over(stores, config, limits).await?;
    registry.fsck(&*stores.meta, &*stores.blobs, options).await
}
