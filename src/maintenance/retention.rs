//! The worker that lets go what retention policies don't keep.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{Share, upkeep::spacing};
use crate::{
    clock,
    config::{self, limits::RoundLimits},
    oci::{Page, RepoName},
    registry::{Registry, RegistryError, Retained, new_run},
    storage::{MAX_OPS, Version},
    telemetry::Metrics,
};

/// How often it is looked whether the time has come for rounds to begin.
const WINDOW_CHECK: Duration = Duration::from_secs(60);
/// Repositories that are remembered as they were left: they aren't looked at again before something in them may go.
const REMEMBERED: usize = 500_000;

/// Looks at the repositories of this member's share, round after round. A round reads the catalogue and the rows of the
/// repositories, a hundred at a time; only those that have changed, or in which something came of age, are looked at.
pub struct Retention {
    policies: config::Retention,
    registry: Arc<Registry>,
    share: Share,
    metrics: Arc<Metrics>,
    pace: RoundLimits,
    left: BTreeMap<RepoName, Left>,
    /// Since when pulls are recorded, as it was when those were looked at.
    pulls_since_ms: Option<u64>,
    /// Whether it was said that pulls aren't recorded for long enough.
    lacked_pulls: bool,
}

/// A repository as it was left.
struct Left {
    version: Version,
    again_ms: Option<u64>,
}

impl Retention {
    /// Not at work yet.
    pub fn new(
        policies: config::Retention,
        registry: Arc<Registry>,
        share: Share,
        metrics: Arc<Metrics>,
        pace: RoundLimits,
    ) -> Self {
        Self {
            policies,
            registry,
            share,
            metrics,
            pace,
            left: BTreeMap::new(),
            pulls_since_ms: None,
            lacked_pulls: false,
        }
    }

    /// Works until `end` is cancelled, then stops where it stands. `now_ms` is the time since the Unix epoch.
    pub async fn run(mut self, end: CancellationToken, now_ms: impl Fn() -> u64 + Send + Sync) {
        let work = async {
            let mut pause = clock::part_of(self.pace.interval);
            loop {
                tokio::time::sleep(pause).await;
                if self.pace.window.is_some_and(|window| !window.contains(now_ms())) {
                    pause = clock::part_of(WINDOW_CHECK);
                    continue;
                }
                if let Err(error) = self.round(&now_ms).await {
                    tracing::warn!(?error, "retention can't go on; it begins anew in the next round");
                }
                pause = self.pace.interval / 2 + clock::part_of(self.pace.interval);
            }
        };
        let _: Option<()> = end.run_until_cancelled(work).await;
    }

    /// Looks at every repository of the share that may have something to let go.
    pub(super) async fn round(
        &mut self,
        now_ms: &(impl Fn() -> u64 + Send + Sync),
    ) -> Result<(), RegistryError> {
        // Those of policies that aren't there any more, too.
        self.registry.forget_runs().await?;
        if self.policies.policies.is_empty() {
            return Ok(());
        }
        let pulls_since_ms = self.registry.pulls_since().await?;
        if pulls_since_ms != self.pulls_since_ms {
            self.left.clear();
            self.pulls_since_ms = pulls_since_ms;
        }
        let mut page = Page::default();
        let run = new_run();
        let mut lacks_pulls = false;
        loop {
            let names = self.registry.catalog(&page).await?;
            page.last = names.names.last().cloned();
            let named = names.names.iter().filter_map(|name| RepoName::parse(name).ok());
            let mine: Vec<_> = named
                .filter(|name| self.policies.policy(name).is_some() && self.share.has(name))
                .collect();
            for repositories in mine.chunks(MAX_OPS) {
                let versions = self.registry.versions(repositories).await?;
                for (repository, version) in repositories.iter().zip(versions) {
                    match version {
                        Some(version) if self.is_settled(repository, version, now_ms()) => {}
                        Some(_) => lacks_pulls |= self.visit(repository, &run).await,
                        None => drop(self.left.remove(repository)),
                    }
                }
            }
            if !names.more || page.last.is_none() {
                break;
            }
        }
        if lacks_pulls && !self.lacked_pulls {
            tracing::info!(
                "retention: pulls aren't recorded for as long as a rule asks for; until then it keeps everything"
            );
        }
        self.lacked_pulls = lacks_pulls;
        Ok(())
    }

    /// Whether nothing can have changed about it.
    fn is_settled(&self, repository: &RepoName, version: Version, now_ms: u64) -> bool {
        self.left.get(repository).is_some_and(|left| {
            left.version == version && left.again_ms.is_none_or(|again_ms| again_ms > now_ms)
        })
    }

    /// Gives whether pulls are missing.
    async fn visit(&mut self, repository: &RepoName, run: &str) -> bool {
        let retained = self.registry.retain(repository, &self.policies, run).await;
        let outcome = match &retained {
            Ok(Retained {
                is_unfinished: true, ..
            }) => "later",
            Ok(_) => "done",
            Err(_) => "failed",
        };
        self.metrics.upkeep_row("retention", outcome);
        self.left.remove(repository);
        let went = match retained {
            Ok(retained) => {
                if let (Some(version), false) = (retained.version, retained.is_unfinished) {
                    if self.left.len() >= REMEMBERED {
                        self.left.clear();
                    }
                    let again_ms = retained.again_ms;
                    self.left.insert(repository.clone(), Left { version, again_ms });
                }
                let deletions = u32::try_from(retained.tags + retained.manifests).unwrap_or(u32::MAX);
                tokio::time::sleep(spacing(&self.pace).saturating_mul(deletions.saturating_add(1))).await;
                return retained.lacks_pulls;
            }
            Err(error) => error,
        };
        tracing::warn!(%repository, error = ?went, "retention failed; it is tried again");
        false
    }
}
