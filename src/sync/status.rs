//! How mirroring ahead of time goes, by what the visits' rows say: the same through every member.

use std::time::Duration;

use serde::Serialize;

use super::{
    Mirror, Shared, SyncError,
    rules::{Rule, Source},
};
use crate::{
    admission::Visible,
    clock,
    oci::{RepoName, Timestamp},
    registry::{Counts, Visit},
};

/// Troubles of one rule that are named.
const TROUBLES: usize = 100;

/// How a rule goes.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleStatus {
    /// The host of the registry.
    upstream: String,
    /// The rule's own words.
    prefix: String,
    destination: String,
    /// Seconds.
    poll_interval: u64,
    /// Repositories that were visited, of which so many are being visited now.
    repositories: u64,
    running: u64,
    /// When the first and the last of their visits began (RFC 3339).
    oldest: Option<String>,
    newest: Option<String>,
    /// Of the last visit to each.
    tags: u64,
    moved: u64,
    failed: u64,
    manifests: u64,
    blobs: u64,
    bytes: u64,
    /// What went wrong, in so many repositories at most, of those that the asker may read.
    troubles: Vec<Trouble>,
}

#[derive(Clone, Debug, Serialize)]
struct Trouble {
    repository: String,
    at: String,
    error: String,
}

impl Mirror {
    /// How each rule goes by which something is mirrored ahead of time; what went wrong, in those repositories that are to be seen.
    ///
    /// # Errors
    /// [`SyncError`]: the rows can't be read.
    pub async fn status(&self, sees: &Visible) -> Result<Vec<RuleStatus>, SyncError> {
        let mut all = Vec::new();
        for source in &self.shared.sources {
            if let Some(interval) = source.poll_interval {
                all.extend(self.shared.status(source, interval, sees).await?);
            }
        }
        Ok(all)
    }
}

impl Shared {
    async fn status(
        &self,
        source: &Source,
        interval: Duration,
        sees: &Visible,
    ) -> Result<Vec<RuleStatus>, SyncError> {
        let begun = |rule: &Rule| RuleStatus::new(source.name(), rule, interval);
        let mut rules: Vec<_> = source.rules().iter().map(begun).collect();
        let marks: Vec<_> = source.rules().iter().map(|rule| rule.mark.as_str()).collect();
        let mut after = None;
        loop {
            let page = self.registry.visits(source.name(), after).await?;
            for (repository, mark, visit, _) in &page.visits {
                if let Some(n) = marks.iter().position(|of_rule| of_rule == mark) {
                    rules[n].add(repository, visit, sees);
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(rules);
            }
        }
    }
}

impl RuleStatus {
    fn new(upstream: &str, rule: &Rule, interval: Duration) -> Self {
        Self {
            upstream: upstream.to_owned(),
            prefix: rule.content.prefix.as_str().to_owned(),
            destination: rule.content.destination.clone(),
            poll_interval: interval.as_secs(),
            repositories: 0,
            running: 0,
            oldest: None,
            newest: None,
            tags: 0,
            moved: 0,
            failed: 0,
            manifests: 0,
            blobs: 0,
            bytes: 0,
            troubles: Vec::new(),
        }
    }

    fn add(&mut self, repository: &RepoName, visit: &Visit, sees: &Visible) {
        let Counts {
            tags,
            moved,
            failed,
            manifests,
            blobs,
            bytes,
        } = visit.counts;
        // Such texts sort as moments do.
        let began = Timestamp::from_ms(visit.began_ms).to_string();
        self.repositories += 1;
        self.running += u64::from(visit.ended_ms.is_none());
        self.oldest = Some(
            self.oldest
                .take()
                .map_or(began.clone(), |oldest| oldest.min(began.clone())),
        );
        self.newest = self.newest.take().max(Some(began));
        self.tags += tags;
        self.moved += moved;
        self.failed += failed;
        self.manifests += manifests;
        self.blobs += blobs;
        self.bytes += bytes;
        if let Some(error) = &visit.error
            && self.troubles.len() < TROUBLES
            && sees.includes(repository)
        {
            self.troubles.push(Trouble {
                repository: repository.to_string(),
                at: Timestamp::from_ms(visit.ended_ms.unwrap_or_else(clock::now_ms)).to_string(),
                error: error.clone(),
            });
        }
    }
}
