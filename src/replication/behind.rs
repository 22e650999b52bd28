//! Repositories of which another registry lacks changes that aren't carried any more: each has a row, and is brought whole.
//!
//! While the row is there nothing of the feed is carried for the repository; each of its changes makes the row another one. Who
//! brings it takes the row away only as it read it before: so no change falls between the two.

use std::{ops::ControlFlow, sync::Arc};

use futures_util::future::join_all;
use tokio::time::{Duration, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Target, Unsent,
    sending::{Way, wants},
};
use crate::{
    causes, clock,
    config::ContentRule,
    maintenance::Share,
    oci::{Digest, Page, Reference, RepoName, Tag},
    registry::{Counts, RegistryError, Visit, Visited, changes::NameChange},
    storage::Version,
    telemetry::ReplicationOutcome,
};

/// How often it is looked at most whether somebody ordered to try again what failed.
const HEED: Duration = Duration::from_secs(5);
/// Changes of a repository that are read at once.
const CHANGES: usize = 1000;
/// How often somebody else may have written the same row meanwhile.
const TRIES: usize = 10;

/// Brings whole what is behind.
pub(super) struct CatchingUp {
    targets: Vec<Arc<Target>>,
    share: Arc<Share>,
}

impl CatchingUp {
    pub(super) fn new(targets: Vec<Arc<Target>>, share: Arc<Share>) -> Self {
        Self { targets, share }
    }

    /// Works until `end` is cancelled.
    pub(super) async fn run(&self, end: CancellationToken) {
        let all = join_all(
            self.targets
                .iter()
                .map(|target| async { tokio::join!(target.heed(), self.catch_up(target)) }),
        );
        let _: Option<_> = end.run_until_cancelled(all).await;
    }

    async fn catch_up(&self, target: &Target) {
        let mut ordered = target.retry_ms.subscribe();
        loop {
            let look = target.limits.replication.look_interval;
            let _ = timeout(look / 2 + clock::part_of(look), ordered.changed()).await;
            if let Err(error) = self.look(target).await {
                let to = &target.label;
                tracing::warn!(to, ?error, "what is behind can't be read; it is tried again");
            }
        }
    }

    async fn look(&self, target: &Target) -> Result<(), RegistryError> {
        let rows = target.rows();
        let mut after = None;
        loop {
            let page = target.registry.visits(&rows, after).await?;
            for (repository, _, behind, version) in &page.visits {
                if self.share.serves(repository)
                    && target.is_due(behind)
                    && target.bring_whole(repository, behind, *version).await?.is_break()
                {
                    return Ok(());
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }
}

impl Target {
    /// Learns of orders to try again what failed, and has those know who wait.
    async fn heed(&self) {
        loop {
            match self.registry.orders(&self.rows()).await {
                Ok(orders) => {
                    self.retry_ms.send_if_modified(|known| {
                        let is_news = *known != orders.retry_ms;
                        *known = orders.retry_ms;
                        is_news
                    });
                }
                Err(error) => tracing::debug!(to = self.label, ?error, "orders can't be read"),
            }
            sleep(HEED.min(self.limits.replication.look_interval)).await;
        }
    }

    /// Whether it has waited long enough since it failed, twice as long each time, or was ordered to be tried since.
    fn is_due(&self, behind: &Visit) -> bool {
        let limits = self.limits.replication;
        let tries = u32::try_from(behind.counts.failed).unwrap_or(u32::MAX);
        let doubled = limits
            .look_interval
            .saturating_mul(2_u32.saturating_pow(tries.min(16)));
        let pause = doubled.min(limits.pause_max);
        behind.ended_ms.is_none_or(|ended_ms| {
            let age_ms = clock::now_ms().saturating_sub(ended_ms);
            u128::from(age_ms) >= pause.as_millis() || ended_ms < *self.retry_ms.borrow()
        })
    }

    /// Whether the change's repository is behind; then it is to be brought with that change, too.
    pub(super) async fn stays_behind(&self, change: &NameChange) -> Result<bool, RegistryError> {
        let behind = self
            .registry
            .visit(self.behind(&change.repository, &self.rows()))
            .await?;
        if behind.is_some() {
            self.put_behind(&change.repository, change.at_ms, None).await?;
        }
        Ok(behind.is_some())
    }

    /// Notes that what became of a repository since then isn't carried.
    pub(super) async fn put_behind(
        &self,
        repository: &RepoName,
        since_ms: u64,
        why: Option<&Unsent>,
    ) -> Result<(), RegistryError> {
        let (rows, error) = (self.rows(), why.map(|why| causes::in_a_line(why)));
        let behind = self.behind(repository, &rows);
        for _ in 0..TRIES {
            let found = self.registry.visit(behind).await?;
            let (former, version) =
                found.map_or((None, None), |(former, version)| (Some(former), Some(version)));
            let noted = match former {
                Some(former) => Visit {
                    by: self.me.clone(),
                    began_ms: former.began_ms.min(since_ms),
                    error: error.clone().or(former.error.clone()),
                    ..former
                },
                None => Visit {
                    by: self.me.clone(),
                    began_ms: since_ms,
                    ended_ms: None,
                    is_cut: true,
                    counts: Counts::default(),
                    error: error.clone(),
                },
            };
            if self.registry.note_visit(behind, &noted, version).await?.is_some() {
                return Ok(());
            }
        }
        Err(RegistryError::Contended)
    }

    /// Notes that nobody knows what of these repositories was carried, nor what they lost since then.
    pub(super) async fn put_all_behind(
        &self,
        which: impl Fn(&RepoName) -> bool + Send + Sync,
        since_ms: u64,
    ) -> Result<(), RegistryError> {
        let mut page = Page::default();
        loop {
            let names = self.registry.catalog(&page).await?;
            for name in names.names.iter().filter_map(|name| RepoName::parse(name).ok()) {
                if which(&name) && self.place_of(&name).is_some() {
                    self.put_behind(&name, since_ms, None).await?;
                }
            }
            page.last = names.names.last().cloned();
            if !names.more {
                return Ok(());
            }
        }
    }

    /// Brings all that is in a repository, and takes away what went since it is behind; then it isn't any more, unless something
    /// has become of it meanwhile. Breaks where the other registry takes nothing.
    async fn bring_whole(
        &self,
        repository: &RepoName,
        behind: &Visit,
        version: Version,
    ) -> Result<ControlFlow<()>, RegistryError> {
        let (to, rows) = (&self.label, self.rows());
        let visited = self.behind(repository, &rows);
        let error = match self.bring_all(repository, behind.began_ms).await {
            Ok(()) => {
                self.metrics.replicated(to, ReplicationOutcome::CaughtUp, 1);
                tracing::info!(to, %repository, "a repository that was behind is brought whole");
                self.registry.forget_visit(visited, version).await?;
                return Ok(ControlFlow::Continue(()));
            }
            Err(error) => error,
        };
        let line = causes::in_a_line(&error);
        tracing::warn!(to, %repository, error = line, "a repository stays behind; it is tried again");
        let mut counts = behind.counts;
        counts.failed += 1;
        let failed = Visit {
            by: self.me.clone(),
            ended_ms: Some(clock::now_ms()),
            counts,
            error: Some(line),
            ..behind.clone()
        };
        // What somebody wrote meanwhile is tried next.
        self.registry.note_visit(visited, &failed, Some(version)).await?;
        Ok(match error {
            Unsent::Upstream(error) if error.is_everywhere() => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        })
    }

    async fn bring_all(&self, here: &RepoName, since_ms: u64) -> Result<(), Unsent> {
        // The rules may be others by now.
        let Some((rule, there)) = self.place_of(here) else {
            return Ok(());
        };
        let way = Way { here, there: &there };
        let mut before_ms = None;
        loop {
            let (changes, more) = self.registry.history(here, before_ms, CHANGES).await?;
            for change in changes.iter().filter(|change| change.at_ms >= since_ms) {
                self.take_past(way, rule, change).await?;
            }
            before_ms = changes.iter().map(|change| change.at_ms).min();
            if !more || before_ms.is_none_or(|before_ms| before_ms < since_ms) {
                break;
            }
        }
        // Which of its manifests have no tag is known only where all tags go.
        if rule.is_none_or(|rule| rule.tags.is_all()) {
            self.bring_manifests(way).await?;
        }
        let mut page = Page::default();
        loop {
            let tags = match self.registry.tags(here, &page).await {
                Ok(tags) => tags,
                Err(RegistryError::NameUnknown) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let wanted = tags.names.iter().filter_map(|tag| Tag::parse(tag).ok());
            for by_tag in wanted.filter(|tag| wants(rule, tag)).map(Reference::Tag) {
                if let Some(digest) = self.named_here(here, &by_tag).await? {
                    self.bring(way, &digest, &by_tag, 0).await?;
                }
            }
            page.last = tags.names.last().cloned();
            if !tags.more {
                return Ok(());
            }
        }
    }

    async fn bring_manifests(&self, way: Way<'_>) -> Result<(), Unsent> {
        let mut after = None;
        loop {
            let part = self.registry.manifests(way.here, after.as_deref()).await?;
            for digest in part.digests {
                let by_digest = Reference::Digest(digest.clone());
                self.bring(way, &digest, &by_digest, 0).await?;
            }
            after = part.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Takes away there what a change took away here, unless it is here again by now.
    async fn take_past(
        &self,
        way: Way<'_>,
        rule: Option<&ContentRule>,
        change: &NameChange,
    ) -> Result<(), Unsent> {
        let went = change
            .went
            .iter()
            .map(|went| Reference::Digest(went.digest.clone()));
        let lost = change
            .tags
            .iter()
            .filter(|moved| moved.to.is_none() && wants(rule, &moved.tag));
        for gone in went.chain(lost.map(|moved| Reference::Tag(moved.tag.clone()))) {
            if self.named_here(way.here, &gone).await?.is_none() {
                self.take_away(way, &gone).await?;
            }
        }
        Ok(())
    }

    async fn named_here(
        &self,
        here: &RepoName,
        reference: &Reference,
    ) -> Result<Option<Digest>, RegistryError> {
        match self.registry.describe_manifest(here, reference).await {
            Ok(named) => Ok(Some(named.digest)),
            Err(RegistryError::ManifestUnknown | RegistryError::NameUnknown) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The partition of the rows of what is behind.
    pub(super) fn rows(&self) -> String {
        format!("replicate#{}", self.name)
    }

    fn behind<'a>(&self, repository: &'a RepoName, rows: &'a str) -> Visited<'a> {
        Visited {
            upstream: rows,
            repository,
            rule: "",
        }
    }
}
