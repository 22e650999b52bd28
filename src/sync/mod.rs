//! The mirror: what isn't here and other registries have, fetched when somebody asks for it (`extensions.sync`).
//!
//! It runs where a repository is served, so at its owner: all who want a blob, through whichever member, read the one fetch of
//! it while it comes in ([`Growing`]), and all who ask for a tag share one question upstream. A fetch belongs to nobody: it
//! goes on when the client leaves that began it.
//!
//! What is fetched becomes content of the repository as if it had been pushed, through the registry, with its checks and its
//! quotas. A manifest comes first and alone: what it refers to may be absent here and is fetched when it is asked for, so a
//! link still implies a whole object. A name here decides about owner and rights; only [`rules`] know that it has another
//! one upstream.
//!
//! Deliberately absent: going on with the fetch of a member that died: the next one begins anew.

mod ahead;
mod blobs;
mod growing;
mod jobs;
mod manifests;
mod orders;
mod referrers;
mod remembered;
mod rules;
mod signed;
mod status;
mod whole;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;

pub use self::{growing::Growing, status::RuleStatus};
use self::{jobs::Jobs, remembered::Remembered, rules::Source};
use crate::{
    config::{
        Limits, Sync,
        limits::{MirrorLimits, UpstreamLimits},
    },
    net::Drain,
    oci::{Digest, Reference, RepoName},
    outbound::TrustError,
    registry::{Registry, RegistryError},
    telemetry::Metrics,
    upstream::{Budgets, Credentials, CredentialsError, UpstreamError},
};

/// Why something wasn't fetched.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// Upstream doesn't have it, or didn't give it.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// It isn't allowed here, or a store failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Only what is signed is to come (`onlySigned`).
    #[error("the upstream registry has no signature of {0}")]
    Unsigned(Digest),
    /// So are its signatures only when it is here itself (`onlySigned`).
    #[error("{0}, to which it belongs, isn't mirrored")]
    Alone(Digest),
    /// The fetch that it waited for failed.
    #[error(transparent)]
    Fetch(Arc<Self>),
    /// As many blobs are being fetched as there may be.
    #[error("too many blobs are being fetched from other registries")]
    Busy,
    /// It took longer than `syncTimeout`.
    #[error("the fetch took too long")]
    Late,
    /// This member is about to end.
    #[error("the member that fetched it is shutting down")]
    Ended,
}

impl SyncError {
    /// Whether it says that upstream doesn't have it, or not so that it may come.
    pub fn is_absent(&self) -> bool {
        match self {
            Self::Unsigned(_) | Self::Alone(_) => true,
            Self::Upstream(error) => matches!(error, UpstreamError::NotFound),
            Self::Fetch(error) => error.is_absent(),
            Self::Registry(_) | Self::Busy | Self::Late | Self::Ended => false,
        }
    }

    /// Whether the reason is what upstream did, or didn't do in time.
    fn is_of_upstream(&self) -> bool {
        match self {
            Self::Upstream(_) | Self::Unsigned(_) | Self::Alone(_) | Self::Late => true,
            Self::Fetch(error) => error.is_of_upstream(),
            Self::Registry(_) | Self::Busy | Self::Ended => false,
        }
    }

    /// Whether the reason is what upstream has, or hasn't, of this one thing.
    fn is_only_of_this(&self) -> bool {
        self.is_of_upstream() && !self.is_everywhere()
    }

    /// Whether upstream would say the same of everything else.
    fn is_everywhere(&self) -> bool {
        match self {
            Self::Upstream(error) => error.is_everywhere(),
            Self::Fetch(error) => error.is_everywhere(),
            Self::Registry(_)
            | Self::Unsigned(_)
            | Self::Alone(_)
            | Self::Busy
            | Self::Late
            | Self::Ended => false,
        }
    }
}

/// A mirror can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// Its logins can't be read.
    #[error("extensions.sync.credentialsFile")]
    Credentials(#[from] CredentialsError),
    /// Certificates can't be read.
    #[error("extensions.sync.registries[].certDir")]
    Trust(#[from] TrustError),
}

/// Something that somebody wants.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The repository here.
    pub repository: &'a RepoName,
    /// The host of the registry that they mean (containerd's `?ns=`), if they say it.
    pub of: Option<&'a str>,
    /// Who asks, for people to read.
    pub by: &'a str,
}

/// A [`Wanted`] that outlives its request.
struct OwnedWanted {
    repository: RepoName,
    of: Option<String>,
    by: String,
}

impl OwnedWanted {
    fn of(wanted: Wanted<'_>) -> Self {
        Self {
            repository: wanted.repository.clone(),
            of: wanted.of.map(str::to_owned),
            by: wanted.by.to_owned(),
        }
    }

    fn borrowed(&self) -> Wanted<'_> {
        Wanted {
            repository: &self.repository,
            of: self.of.as_deref(),
            by: &self.by,
        }
    }
}

/// What is so of a manifest, now that upstream was asked where that was needed.
#[derive(Clone, Debug)]
pub enum Looked {
    /// Here is what there is to be had; or nothing, here and there.
    Here,
    /// It was fetched just now.
    Fetched,
    /// It is here, and it isn't known whether upstream has another by now.
    Stale(Arc<SyncError>),
}

/// What is asked of other registries: two who ask the same get the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Thing {
    kind: Kind,
    repository: RepoName,
    reference: Reference,
    /// The host of the registry that is meant, where one that is mirrored is.
    of: Option<String>,
}

/// A blob may be where no manifest of its digest is, and the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Manifest,
    Blob,
    /// What refers to it.
    Referrers,
}

/// For metrics.
fn told(outcome: &Result<Looked, Arc<SyncError>>) -> &'static str {
    match outcome {
        Ok(Looked::Here) => "hit",
        Ok(Looked::Fetched) => "fetched",
        Ok(Looked::Stale(_)) => "stale",
        Err(error) if error.is_absent() => "absent",
        Err(_) => "failed",
    }
}

/// The mirror of one member. Cheap to clone; clones are the same.
#[derive(Clone)]
pub struct Mirror {
    shared: Arc<Shared>,
}

struct Shared {
    registry: Arc<Registry>,
    sources: Vec<Source>,
    budgets: Arc<Budgets>,
    drain: Drain,
    metrics: Arc<Metrics>,
    limits: MirrorLimits,
    upstream: UpstreamLimits,
    /// For a manifest to be here.
    within: Duration,
    looks: Jobs,
    fetches: Mutex<BTreeMap<Thing, Arc<Growing>>>,
    /// What no registry has that was to be asked.
    absent: Remembered<Thing>,
    /// Tags that upstream was asked for, and digests whose referrers.
    looked: Remembered<Thing>,
}

impl Mirror {
    /// Mirrors into `registry` what `sync` says. Nothing is asked yet; files with logins and certificates are read now.
    ///
    /// # Errors
    /// [`MirrorError`].
    pub fn new(
        sync: &Sync,
        registry: Arc<Registry>,
        drain: Drain,
        metrics: Arc<Metrics>,
        limits: &Limits,
    ) -> Result<Self, MirrorError> {
        let budgets = Arc::default();
        let sources = sources(sync, &budgets, limits, &metrics)?;
        Ok(Self {
            shared: Arc::new(Shared {
                registry,
                sources,
                budgets,
                drain,
                metrics,
                limits: limits.mirror,
                upstream: limits.upstream,
                within: limits.front.deadline / 4 * 3,
                looks: Jobs::default(),
                fetches: Mutex::default(),
                absent: Remembered::new(limits.mirror.remembered),
                looked: Remembered::new(limits.mirror.remembered),
            }),
        })
    }

    /// What the registries may be asked, where the configuration says it.
    #[must_use]
    pub fn budgets(&self) -> &Arc<Budgets> {
        &self.shared.budgets
    }

    /// Whether something of `repository` comes from elsewhere.
    #[must_use]
    pub fn mirrors(&self, repository: &RepoName) -> bool {
        let wanted = Wanted {
            repository,
            of: None,
            by: "",
        };
        self.shared.candidates(wanted, None).next().is_some()
    }
}

/// Whether a mirror could be set up: reads what [`Mirror::new`] reads.
///
/// # Errors
/// [`MirrorError`].
pub fn examine(sync: &Sync, limits: &Limits) -> Result<(), MirrorError> {
    sources(sync, &Arc::default(), limits, &Arc::new(Metrics::new())).map(drop)
}

/// Whether something of `repository` comes from elsewhere by what `sync` says: then its manifests may be here without their blobs.
#[must_use]
pub fn mirrors(sync: &Sync, repository: &RepoName) -> bool {
    let mut registries = sync.registries.iter();
    registries.any(|registry| rules::upstream_name(&registry.content, repository).is_some())
}

fn sources(
    sync: &Sync,
    budgets: &Arc<Budgets>,
    limits: &Limits,
    metrics: &Arc<Metrics>,
) -> Result<Vec<Source>, MirrorError> {
    let credentials = match &sync.credentials {
        Some(path) => Credentials::read(path)?,
        None => Credentials::default(),
    };
    let source = |(n, registry)| Ok(Source::new(n, registry, &credentials, budgets, limits, metrics)?);
    sync.registries.iter().enumerate().map(source).collect()
}
