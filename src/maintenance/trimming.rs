//! The worker that removes what is told of changes, and of what might go, and isn't kept any longer.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{Share, upkeep::spacing};
use crate::{
    clock,
    config::limits::RoundLimits,
    registry::{
        Registry, RegistryError,
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
    interval: Duration,
    pace: RoundLimits,
}

impl Trimming {
    /// Not at work yet; it looks about every `interval`, and removes as many rows a second as `pace` allows.
    pub fn new(
        registry: Arc<Registry>,
        share: Share,
        followers: Vec<String>,
        interval: Duration,
        pace: RoundLimits,
    ) -> Self {
        Self {
            feed: Feed::new(registry.clone()),
            registry,
            share,
            followers,
            interval,
            pace,
        }
    }

    /// Works until `end` is cancelled, then stops where it stands. `now_ms` is the time since the Unix epoch.
    pub async fn run(self, end: CancellationToken, now_ms: impl Fn() -> u64 + Send + Sync) {
        let work = async {
            let mut pause = clock::part_of(self.interval);
            loop {
                tokio::time::sleep(pause).await;
                if let Err(error) = self.round(&now_ms).await {
                    tracing::warn!(?error, "old changes can't be removed; it is tried again");
                }
                pause = self.interval / 2 + clock::part_of(self.interval);
            }
        };
        let _: Option<()> = end.run_until_cancelled(work).await;
    }

    /// Removes everything of the share that is too old.
    pub(super) async fn round(&self, now_ms: &(impl Fn() -> u64 + Send + Sync)) -> Result<(), RegistryError> {
        let share = self.share.change_partitions();
        // Plans are few: one member looks.
        if share.contains(&0) {
            self.registry.forget_plans().await?;
        }
        for n in share {
            while self
                .rest(self.feed.trim(n, &self.followers, now_ms()).await?)
                .await
            {}
            while self.rest(self.registry.trim_histories(n, now_ms()).await?).await {}
        }
        Ok(())
    }

    /// Lets others have their turn. Gives whether there is more.
    async fn rest(&self, trimmed: Trimmed) -> bool {
        let rows = u32::try_from(trimmed.rows).unwrap_or(u32::MAX);
        tokio::time::sleep(spacing(&self.pace).saturating_mul(rows)).await;
        trimmed.more
    }
}
