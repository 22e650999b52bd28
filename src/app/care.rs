//! What looks after the stores of a configuration, beside the members that run on them: what `fsck` and `scrub` share.

use std::io;

use crate::{
    config::{Config, Limits},
    ownership::Incarnation,
    placement::MemberId,
    registry::{Holder, Quotas, Registry, RegistryError, Settings},
    storage::{MetaStore, OpenError, Space, StoreError, StoreErrorKind, WholeStores, keys},
};

/// Why it isn't known how things are.
#[derive(Debug, thiserror::Error)]
pub enum CareError {
    /// The stores can't be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The stores can't be read.
    #[error("the stores can't be looked at")]
    Look(#[from] RegistryError),
    /// The operating system doesn't say when to end.
    #[error("can't ask the operating system for its signals")]
    Signals(#[source] io::Error),
}

/// The registry over the stores.
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
