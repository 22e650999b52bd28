//! The worker that reads what is stored, to see whether it still has its digest.

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::Share;
use crate::{
    clock,
    config::limits::ScrubLimits,
    registry::{Damaged, Registry, Result, Scrub, ScrubNews, ScrubPlace, Throttle},
    telemetry::{Metrics, ScrubOutcome},
};

/// In whose name members go on where others were.
const BY: &str = "members";

/// Goes through the parts that are this member's ([`registry::scrub`](crate::registry)), each once an interval.
pub struct Scrubbing {
    registry: Arc<Registry>,
    share: Share,
    metrics: Arc<Metrics>,
    throttle: Throttle,
    interval: Duration,
    limits: ScrubLimits,
}

impl Scrubbing {
    /// Not at work yet. `interval` is from the begin of one round of a part to that of the next.
    pub fn new(
        interval: Duration,
        registry: Arc<Registry>,
        share: Share,
        metrics: Arc<Metrics>,
        limits: ScrubLimits,
    ) -> Self {
        // So the first damage is an increase.
        metrics.scrubs();
        Self {
            registry,
            share,
            metrics,
            throttle: Throttle::new(limits.bytes_per_second),
            interval,
            limits,
        }
    }

    /// Works until `end` is cancelled, then writes down where it stands. `now_ms` is the time since the Unix epoch.
    pub async fn run(self, end: CancellationToken, now_ms: impl Fn() -> u64 + Send + Sync) {
        let look = self.limits.look_interval;
        // Soon after the start, for whoever has just switched it on.
        let mut pause = clock::part_of(look / 10);
        while end.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
            if let Err(error) = self.round(&end, &now_ms).await {
                self.metrics.scrubbed(ScrubOutcome::Failed, 0);
                tracing::warn!(?error, "content can't be read; it is tried again from there");
            }
            pause = look / 2 + clock::part_of(look);
        }
    }

    /// Goes through the parts that are due, for as long as they are this member's.
    pub(super) async fn round(
        &self,
        end: &CancellationToken,
        now_ms: &(impl Fn() -> u64 + Send + Sync),
    ) -> Result<()> {
        let tell = |news: ScrubNews<'_>| self.note(&news);
        let scrub = Scrub {
            throttle: &self.throttle,
            stride: self.limits.stride,
            end,
            tell: &tell,
        };
        while let Some(mut place) = self.due(now_ms()).await? {
            while place.is_under_way() {
                if end.is_cancelled() {
                    return Ok(());
                }
                if !self.share.change_partitions().contains(&place.part()) {
                    break;
                }
                self.registry.scrub(&mut place, scrub).await?;
            }
        }
        Ok(())
    }

    /// A part of this member's that is due, if one is. One that was broken off is gone on with.
    async fn due(&self, now_ms: u64) -> Result<Option<ScrubPlace>> {
        let mine = self.share.change_partitions();
        if mine.is_empty() {
            return Ok(None);
        }
        let places = self.registry.scrub_places(BY).await?;
        for ended in places.iter().filter(|place| mine.contains(&place.part())) {
            if let Some(ended_ms) = ended.ended_ms() {
                let ended_s = i64::try_from(ended_ms / 1000).unwrap_or(i64::MAX);
                self.metrics.scrub_ended(ended.part(), ended_s);
            }
        }
        let interval_ms = u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX);
        let is_due = |place: &ScrubPlace| {
            place.is_under_way() || place.began_ms().saturating_add(interval_ms) <= now_ms
        };
        let place = places
            .into_iter()
            .find(|place| mine.contains(&place.part()) && is_due(place));
        Ok(place.map(|mut place| {
            if !place.is_under_way() {
                place.begin(now_ms);
            }
            place
        }))
    }

    fn note(&self, news: &ScrubNews<'_>) {
        match news {
            ScrubNews::Whole(bytes) => self.metrics.scrubbed(ScrubOutcome::Whole, *bytes),
            ScrubNews::Damaged(damaged, bytes) => {
                self.metrics.scrubbed(ScrubOutcome::Damaged, *bytes);
                log(damaged);
            }
            ScrubNews::Unread(repository, digest, error) => {
                self.metrics.scrubbed(ScrubOutcome::Failed, 0);
                tracing::error!(%digest, %repository, ?error, "stored content can't be read and is passed over");
            }
            ScrubNews::Repository => {}
        }
    }
}

fn log(damaged: &Damaged) {
    let (Damaged { digest, damage, .. }, [repositories, tags]) = (damaged, damaged.names(" "));
    tracing::error!(%digest, %damage, repositories, tags, "stored content is damaged: push it again");
}
