//! `portolan scrub`: the content that a configuration's stores hold, read beside the members that run on them.

use std::pin::pin;

use tokio_util::sync::CancellationToken;

use super::{
    care::{CareError, registry_over},
    signals::Signals,
};
use crate::{
    clock,
    config::{Config, Limits},
    registry::{Result, Scrub, ScrubNews, ScrubPlace, ScrubSums, Throttle},
    storage::{self, WholeStores},
};

/// In whose name a run goes on where the last one ended.
const BY: &str = "command";

/// What is asked for beside the configuration.
pub struct ScrubRun<'a> {
    /// How fast content is read; 0 is as fast as it goes.
    pub bytes_per_second: u64,
    /// Hears how many repositories there are, and what an earlier run has come to that wasn't over: after what that found and is
    /// still so was told.
    pub begins: &'a (dyn Fn(u64, Option<ScrubSums>) + Send + Sync),
    /// Hears of everything that was looked at.
    pub tell: &'a (dyn Fn(ScrubNews<'_>) + Send + Sync),
}

/// Reads and hashes all that `config` holds, from where an earlier run ended that wasn't over. Gives what that came to, and whether
/// all was read: SIGINT and SIGTERM end it.
///
/// # Errors
/// [`CareError`]: asked for again, it goes on from there.
pub async fn scrub(
    config: &Config,
    run: &ScrubRun<'_>,
    limits: &Limits,
) -> std::result::Result<(ScrubSums, bool), CareError> {
    let mut signals = Signals::catch().map_err(CareError::Signals)?;
    let stores = storage::open_existing(&config.storage, limits).await?;
    let end = CancellationToken::new();
    let scrubbed = {
        let mut work = pin!(scrub_stores(&stores, config, run, limits, &end));
        tokio::select! {
            biased;
            scrubbed = &mut work => scrubbed,
            _ = signals.next() => {
                end.cancel();
                work.await
            }
        }
    };
    stores.close().await;
    Ok(scrubbed?)
}

async fn scrub_stores(
    stores: &WholeStores,
    config: &Config,
    run: &ScrubRun<'_>,
    limits: &Limits,
    end: &CancellationToken,
) -> Result<(ScrubSums, bool)> {
    let registry = registry_over(stores, config, limits).await?;
    let throttle = Throttle::new(run.bytes_per_second);
    let scrub = Scrub {
        throttle: &throttle,
        stride: limits.scrub.stride,
        end,
        tell: run.tell,
    };
    let mut places = registry.scrub_places(BY).await?;
    // The parts of a run have begun at one time.
    let newest_ms = places.iter().map(ScrubPlace::began_ms).max().unwrap_or_default();
    let is_of = |place: &ScrubPlace| place.began_ms() == newest_ms;
    let goes_on = !places.iter().all(|place| is_of(place) && !place.is_under_way());
    let began_ms = if goes_on { newest_ms } else { clock::now_ms() };
    for place in &mut places {
        if !goes_on || !is_of(place) {
            place.begin(began_ms);
        }
    }
    for place in &mut places {
        registry.scrub_again(place, scrub).await?;
    }
    let before = goes_on.then(|| sum(&places));
    (run.begins)(registry.count_repositories().await?, before);
    for place in &mut places {
        while place.is_under_way() && !end.is_cancelled() {
            registry.scrub(place, scrub).await?;
        }
    }
    Ok((sum(&places), !places.iter().any(ScrubPlace::is_under_way)))
}

fn sum(places: &[ScrubPlace]) -> ScrubSums {
    places.iter().fold(ScrubSums::default(), |mut sums, place| {
        let part = place.sums();
        sums.repositories += part.repositories;
        sums.read += part.read;
        sums.bytes += part.bytes;
        sums.damaged += part.damaged;
        sums.unread += part.unread;
        sums
    })
}
