//! How replication goes, by what the stores say: the same through every member.

use std::sync::Arc;

use serde::Serialize;

use super::Target;
use crate::{
    admission::Visible,
    clock,
    oci::Timestamp,
    registry::{Order, RegistryError, changes::Feed},
};

/// Troubles of one registry that are named.
const TROUBLES: usize = 100;

/// Tells how replication goes.
#[derive(Clone)]
pub struct Standings {
    pub(super) targets: Arc<[Arc<Target>]>,
    pub(super) feed: Feed,
}

/// How one registry gets changes.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    /// Its first address.
    registry: String,
    /// When the oldest change was made that it hasn't got (RFC 3339); `null` if it has them all.
    waiting_since: Option<String>,
    /// Repositories that are to be brought whole.
    behind: u64,
    /// Why, in so many repositories at most, of those that the asker may read.
    troubles: Vec<Trouble>,
}

#[derive(Clone, Debug, Serialize)]
struct Trouble {
    repository: String,
    /// Since when it lacks changes.
    since: String,
    at: String,
    error: String,
}

impl Standings {
    /// How each registry gets changes; what went wrong, in those repositories that are to be seen.
    ///
    /// # Errors
    /// [`RegistryError`]: the rows can't be read.
    pub async fn tell(&self, sees: &Visible) -> Result<Vec<Standing>, RegistryError> {
        let mut all = Vec::new();
        for target in &*self.targets {
            all.push(self.standing(target, sees).await?);
        }
        Ok(all)
    }

    /// Orders that what is behind, or waits because it wasn't taken, be tried at once by whoever carries it. The first address of each
    /// registry that gets changes.
    ///
    /// # Errors
    /// [`RegistryError`]: the order can't be written.
    pub async fn retry(&self) -> Result<Vec<&str>, RegistryError> {
        for target in &*self.targets {
            target.registry.order(&target.rows(), &Order::Retry).await?;
        }
        Ok(self
            .targets
            .iter()
            .map(|target| target.address.as_str())
            .collect())
    }

    async fn standing(&self, target: &Target, sees: &Visible) -> Result<Standing, RegistryError> {
        let mut standing = Standing {
            registry: target.address.clone(),
            waiting_since: self.oldest_ms(target).await?.map(told),
            behind: 0,
            troubles: Vec::new(),
        };
        let (rows, mut after) = (target.rows(), None);
        loop {
            let page = target.registry.visits(&rows, after).await?;
            for (repository, _, behind, _) in &page.visits {
                standing.behind += 1;
                if let Some(error) = &behind.error
                    && standing.troubles.len() < TROUBLES
                    && sees.includes(repository)
                {
                    standing.troubles.push(Trouble {
                        repository: repository.to_string(),
                        since: told(behind.began_ms),
                        at: told(behind.ended_ms.unwrap_or_else(clock::now_ms)),
                        error: error.clone(),
                    });
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(standing);
            }
        }
    }

    /// When the oldest change was made that isn't noted as carried, in milliseconds since the Unix epoch.
    async fn oldest_ms(&self, target: &Target) -> Result<Option<u64>, RegistryError> {
        let (ends, mut oldest_ms) = (self.feed.ends().await?, None::<u64>);
        for (n, end) in (0_u8..).zip(ends) {
            let Some(noted) = self.feed.place(&target.name, n).await? else {
                continue;
            };
            let place = noted.place;
            if place.after >= end {
                continue;
            }
            let next = self.feed.read_batches(n, place.after, 1).await?;
            let within = usize::try_from(place.within).unwrap_or(usize::MAX);
            let waiting = next.changes.get(within..).unwrap_or_default().iter();
            let first_ms = waiting.map(|change| change.at_ms).min();
            oldest_ms = [oldest_ms, first_ms].into_iter().flatten().min();
        }
        Ok(oldest_ms)
    }
}

fn told(at_ms: u64) -> String {
    Timestamp::from_ms(at_ms).to_string()
}
