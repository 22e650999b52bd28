//! Replication: every change of names is carried on to other registries (`extensions.replicate`).
//!
//! What is carried is what was committed, and only that: the feeds of changes say what (rule R8), and the registry has the content.
//! [`maintenance::Following`](crate::maintenance::Following) carries the changes of each repository in their order, at least once,
//! by one member at a time. A manifest goes after all that it refers to, a tag after its manifest; what the other registry has
//! already isn't sent. A change that a later one undoes that is known already is passed over, so nothing is sent that nobody would see.
//!
//! A repository whose changes the other registry refuses, or hasn't taken for a day, holds up no other: it is noted as [`behind`],
//! and brought whole from time to time until that succeeds. So is at first every repository that was there before.
//!
//! Deliberately absent: comparing what only the other registry has.

mod behind;
mod sending;
mod status;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::watch, time::timeout};

use self::behind::CatchingUp;
pub use self::status::{Standing, Standings};
use crate::{
    causes, clock,
    config::{ContentRule, Limits, Replicate, ReplicateRegistry},
    maintenance::{Follower, Following, Share},
    oci::{Algorithm, Digest, ManifestError, RepoName},
    outbound::TrustError,
    ownership::Incarnation,
    placement::MemberId,
    registry::{
        Registry, RegistryError,
        changes::{Feed, NameChange},
    },
    storage::keys,
    telemetry::{Metrics, ReplicationOutcome},
    upstream::{Budget, Credentials, CredentialsError, Purpose, Upstream, UpstreamError},
};

/// Hexadecimal digits by which one who follows is told from others.
const NAME: usize = 32;

/// Carries changes on to all registries that get them.
pub struct Replication {
    following: Following<Arc<Target>>,
    catching_up: CatchingUp,
    standings: Standings,
}

/// Replication can't begin, as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum ReplicationError {
    /// Certificates can't be read.
    #[error("extensions.replicate.registries[].certDir")]
    Trust(#[from] TrustError),
    /// Logins can't be read.
    #[error("extensions.replicate.credentialsFile")]
    Credentials(#[from] CredentialsError),
}

/// One registry that gets changes.
struct Target {
    name: String,
    label: String,
    /// For people.
    address: String,
    upstream: Upstream,
    content: Vec<ContentRule>,
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    me: (MemberId, Incarnation),
    limits: Limits,
    /// When it was last ordered to try again what failed, in milliseconds since the Unix epoch.
    retry_ms: watch::Sender<u64>,
    /// A repository there that has a blob, so that another one mounts it from there.
    held: Mutex<BTreeMap<Digest, RepoName>>,
}

/// Why a change wasn't carried.
#[derive(Debug, thiserror::Error)]
enum Unsent {
    /// The other registry didn't take it.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// It can't be read here.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// It isn't understood here: an older release took it.
    #[error("{digest} can't be read as a manifest")]
    Manifest {
        /// Which.
        digest: Digest,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// Indexes in indexes.
    #[error("{0} lists manifests too deep below it")]
    Deep(Digest),
}

impl Unsent {
    /// Whether the other registry takes everything else, as far as one can tell.
    fn is_of_this(&self) -> bool {
        match self {
            Self::Upstream(error) => error.is_of_this(),
            Self::Registry(error) => matches!(error, RegistryError::ContentLost { .. }),
            Self::Manifest { .. } | Self::Deep(_) => true,
        }
    }
}

impl Replication {
    /// Not at work yet; `None` where nothing is replicated.
    ///
    /// # Errors
    /// [`ReplicationError`].
    pub fn new(
        config: Option<&Replicate>,
        registry: &Arc<Registry>,
        share: Share,
        metrics: &Arc<Metrics>,
        limits: &Limits,
    ) -> Result<Option<Self>, ReplicationError> {
        let Some(config) = config else { return Ok(None) };
        let share = Arc::new(share);
        let upstreams = upstreams(config, limits, metrics)?.into_iter();
        let targets = config.registries.iter().zip(upstreams).enumerate();
        let targets = targets.map(|(i, (target, upstream))| {
            Arc::new(Target {
                name: name(target),
                label: format!("registries[{i}]"),
                address: address(target),
                upstream,
                content: target.content.clone(),
                registry: registry.clone(),
                metrics: metrics.clone(),
                me: share.me(),
                limits: *limits,
                retry_ms: watch::Sender::default(),
                held: Mutex::default(),
            })
        });
        let targets: Vec<_> = targets.collect();
        let feed = Feed::new(registry.clone());
        let standings = Standings {
            targets: targets.clone().into(),
            feed: feed.clone(),
        };
        let catching_up = CatchingUp::new(targets.clone(), share.clone());
        let following = Following::new(targets, feed, share, limits.events);
        Ok(following.map(|following| Self {
            following,
            catching_up,
            standings,
        }))
    }

    /// Tells how it goes.
    #[must_use]
    pub fn standings(&self) -> Standings {
        self.standings.clone()
    }

    /// Works until `end` is cancelled, then stops where it stands.
    pub async fn run(self, end: tokio_util::sync::CancellationToken) {
        tokio::join!(self.following.run(end.clone()), self.catching_up.run(end));
    }
}

/// Whether changes could be carried, as far as this machine knows.
///
/// # Errors
/// As [`Replication::new`].
pub fn examine(config: &Replicate, limits: &Limits) -> Result<(), ReplicationError> {
    upstreams(config, limits, &Arc::new(Metrics::new())).map(drop)
}

/// The registries that get changes, in the order of the configuration.
fn upstreams(
    config: &Replicate,
    limits: &Limits,
    metrics: &Arc<Metrics>,
) -> Result<Vec<Upstream>, ReplicationError> {
    let credentials = match &config.credentials {
        Some(path) => Credentials::read(path)?,
        None => Credentials::default(),
    };
    let upstream = |target: &ReplicateRegistry| {
        let metrics = metrics.clone();
        Ok(Upstream::new(
            &target.remote,
            Purpose::Replicate,
            &credentials,
            Budget::own(&target.remote, limits.upstream.requests),
            limits,
            metrics,
        )?)
    };
    config.registries.iter().map(upstream).collect()
}

/// The names by which those who get changes follow the feeds.
#[must_use]
pub fn followers(config: Option<&Replicate>) -> Vec<String> {
    config
        .into_iter()
        .flat_map(|config| config.registries.iter().map(name))
        .collect()
}

/// The same as long as it is the same registry, whatever the order, the rules, certificates and passwords.
fn name(target: &ReplicateRegistry) -> String {
    let about = address(target);
    let digest = Digest::of(Algorithm::Sha256, format!("replicate {about}").as_bytes());
    let hex = digest.as_str().trim_start_matches("sha256:");
    hex.chars().take(NAME).collect()
}

fn address(target: &ReplicateRegistry) -> String {
    target
        .remote
        .urls
        .first()
        .map(ToString::to_string)
        .unwrap_or_default()
}

impl Target {
    /// The rule by which a repository is replicated, and what it is called there. Without rules everything is, under its own name.
    fn place_of(&self, repository: &RepoName) -> Option<(Option<&ContentRule>, RepoName)> {
        if self.content.is_empty() {
            return Some((None, repository.clone()));
        }
        let mut rules = self.content.iter();
        rules.find_map(|rule| Some((Some(rule), rule.target(repository)?)))
    }
}

impl Follower for Arc<Target> {
    type Line = ();
    type Untaken = Unsent;

    fn name(&self) -> &str {
        &self.name
    }

    fn label(&self) -> &str {
        &self.label
    }

    async fn take(&self, change: &NameChange, later: &[NameChange], (): &mut ()) -> Result<(), Unsent> {
        let Some((rule, there)) = self.place_of(&change.repository) else {
            return Ok(());
        };
        // What is behind is brought whole, which is to begin anew.
        if self.stays_behind(change).await? {
            return Ok(());
        }
        let sent = self.send(change, later, rule, &there).await;
        let outcome = match &sent {
            Ok(()) => ReplicationOutcome::Sent,
            Err(_) => ReplicationOutcome::Failed,
        };
        self.metrics.replicated(&self.label, outcome, 1);
        sent
    }

    fn is_refusal(untaken: &Unsent) -> bool {
        untaken.is_of_this()
    }

    async fn given_up(&self, changes: &[NameChange], why: &Unsent) -> Result<(), RegistryError> {
        let (to, error) = (&self.label, causes::in_a_line(why));
        let mut since = BTreeMap::new();
        let theirs = |change: &&NameChange| self.place_of(&change.repository).is_some();
        for change in changes.iter().filter(theirs) {
            since.entry(&change.repository).or_insert(change.at_ms);
            self.metrics.replicated(to, ReplicationOutcome::Behind, 1);
        }
        for (repository, since_ms) in since {
            tracing::error!(to, %repository, error, "a repository stays behind; it is brought whole later");
            self.put_behind(repository, since_ms, Some(why)).await?;
        }
        Ok(())
    }

    async fn begins(&self) -> Result<(), RegistryError> {
        // What went before isn't taken away there: nobody brought it.
        self.put_all_behind(|_| true, clock::now_ms()).await
    }

    async fn missed(&self, n: u8) -> Result<(), RegistryError> {
        let of_feed = |name: &RepoName| keys::change_partition(name) == n;
        self.put_all_behind(of_feed, 0).await
    }

    async fn pause(&self, time: Duration) {
        let mut ordered = self.retry_ms.subscribe();
        let _ = timeout(time, ordered.changed()).await;
    }

    fn waits(&self, age: Duration) {
        self.metrics.replication_waiting(&self.label, age);
    }
}
