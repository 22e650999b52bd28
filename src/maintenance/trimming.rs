//! The worker that removes what is told of changes, and of what might go, and isn't kept any longer.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{Share, upkeep::spacing};
use crate::{
    clock,
    config::limits::{ChangeLimits, RoundLimits},
    registry::{
        Registry, RegistryError, Result,
        changes::{Feed, Trimmed},
    },
};

/// Looks at each partition of changes for which this member is ranked first, now and then.
pub struct Trimming {
    registry: Arc<Registry>,
    feed: Feed,
    share: Share,
    /// Who goes on in the feeds after a restart, by the names of their places.
    followers: Vec<String>,
    limits: ChangeLimits,
    pace: RoundLimits,
}

impl Trimming {
    /// Not at work yet; it removes as many rows a second as `pace` allows.
    pub fn new(
        registry: Arc<Registry>,
        share: Share,
        followers: Vec<String>,
        limits: ChangeLimits,
        pace: RoundLimits,
    ) -> Self {
        Self {
            feed: Feed::new(registry.clone()),
            registry,
            share,
            followers,
            limits,
            pace,
        }
    }

    /// Works until `end` is cancelled, then stops where it stands. `now_ms` is the time since the Unix epoch.
    pub async fn run(self, end: CancellationToken, now_ms: impl Fn() -> u64 + Send + Sync) {
        let work = async {
            let mut pause = clock::part_of(self.limits.trim_interval);
            loop {
                tokio::time::sleep(pause).await;
                let interval = match self.round(&now_ms).await {
                    Ok(()) => self.limits.trim_interval,
                    Err(error) => {
                        tracing::warn!(?error, "some of what is old can't be removed; it is tried again");
                        self.limits.trim_again
                    }
                };
                pause = interval / 2 + clock::part_of(interval);
            }
        };
        let _: Option<()> = end.run_until_cancelled(work).await;
    }

    /// Removes everything of the share that is too old. What can't be removed is in nobody's way; the first such failure is given.
    pub(super) async fn round(&self, now_ms: &(impl Fn() -> u64 + Send + Sync)) -> Result<()> {
        let mut failed = None::<RegistryError>;
        let mut note = |done: Result<()>| failed = failed.take().or(done.err());
        let share = self.share.change_partitions();
        // Plans are few: one member looks.
        if share.contains(&0) {
            note(self.registry.forget_plans(None).await);
        }
        for n in share {
            note(self.trim_feed(n, now_ms).await);
            note(self.trim_histories(n, now_ms).await);
        }
        failed.map_or(Ok(()), Err)
    }

    async fn trim_feed(&self, n: u8, now_ms: &(impl Fn() -> u64 + Send + Sync)) -> Result<()> {
        while self
            .rest(self.feed.trim(n, &self.followers, now_ms()).await?)
            .await
        {}
        Ok(())
    }

    async fn trim_histories(&self, n: u8, now_ms: &(impl Fn() -> u64 + Send + Sync)) -> Result<()> {
        let (mut after, mut failed) = (None, None);
        loop {
            let looked = self.registry.trim_histories(n, after, now_ms()).await?;
            after = looked.after;
            failed = failed.or(looked.failed);
            if !self.rest(looked.trimmed).await {
                return failed.map_or(Ok(()), Err);
            }
        }
    }

    /// Lets others have their turn. Gives whether there is more.
    async fn rest(&self, trimmed: Trimmed) -> bool {
        let rows = u32::try_from(trimmed.rows).unwrap_or(u32::MAX);
        tokio::time::sleep(spacing(&self.pace).saturating_mul(rows)).await;
        trimmed.more
    }
}
