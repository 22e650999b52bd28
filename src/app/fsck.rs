//! `portolan fsck`: the stores of a configuration, looked after beside the members that run on them.

use crate::{
    config::{Config, Limits},
    oci::RepoName,
    ownership::Incarnation,
    placement::MemberId,
    registry::{FsckOptions, FsckReport, Holder, Quotas, Registry, RegistryError, Settings},
    storage::{self, MetaStore, OpenError, Space, StoreError, StoreErrorKind, WholeStores, keys},
    sync,
};

/// Why nothing is known.
#[derive(Debug, thiserror::Error)]
pub enum FsckError {
    /// The stores can't be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The stores can't be read.
    #[error("the stores can't be looked at")]
    Look(#[from] RegistryError),
    /// The operating system doesn't say when to end.
    #[error("can't ask the operating system for its signals")]
    Signals(#[source] std::io::Error),
}

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
/// [`FsckError`].
pub async fn fsck(config: &Config, run: &FsckRun<'_>, limits: &Limits) -> Result<FsckReport, FsckError> {
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
    let may_lack = |repository: &RepoName| {
        config
            .sync
            .as_ref()
            .is_some_and(|sync| sync::mirrors(sync, repository))
    };
    let options = FsckOptions {
        repair: run.repair,
        pause: limits.registry.fsck_pause,
        min_age: limits.registry.session_ttl + limits.registry.trash_delay + limits.registry.clock_margin,
        may_lack: &may_lack,
        tell: run.tell,
    };
    let registry = registry_over(stores, config, limits).await?;
    registry.fsck(&*stores.meta, &*stores.blobs, options).await
}

/// The registry over the stores, for who looks after them.
pub(super) async fn registry_over(
    stores: &WholeStores,
    config: &Config,
    limits: &Limits,
) -> Result<Registry, RegistryError> {
    let holder = Holder {
        member: a_member(&*stores.meta, config).await?,
        incarnation: Incarnation::random(),
    };
    let settings = Settings {
        quotas: Quotas::new(config.quotas.clone()),
        limits: limits.registry,
        net: limits.net,
        ..Settings::default()
    };
    Ok(Registry::new(stores.stores(), holder, settings))
}

/// A member that is there, if one is: where it looks for what is due, due-rows are written. Nothing is changed in its name.
async fn a_member(meta: &dyn MetaStore, config: &Config) -> Result<MemberId, StoreError> {
    let leases = meta.range(Space::Members, keys::MEMBERS, "", None, 1).await?;
    let leased = leases.entries.first().map(|lease| lease.sort.as_str());
    let alone = format!("127.0.0.1:{}", config.listen.port.max(1));
    let name = leased.unwrap_or(&alone);
    let corrupt = |error| StoreError::with_source(StoreErrorKind::Corrupt, "read the leases", error);
    MemberId::parse(name).map_err(corrupt)
}
