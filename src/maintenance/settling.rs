//! The worker that settles changes of names: what this member has made, and what others left when they died.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::Share;
use crate::{
    clock,
    config::limits::ChangeLimits,
    registry::{Registry, RegistryError, changes::Settled},
};

/// How often it is looked whether members came or went, which costs no request.
const VIEW_CHECK: Duration = Duration::from_secs(2);
/// After which time what failed is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Settles queues of changes ([`registry::changes`](crate::registry::changes)) soon after this member has put something into
/// them; those for which it is ranked first also when members came or went, and now and then.
pub struct Settling {
    registry: Arc<Registry>,
    share: Share,
    limits: ChangeLimits,
    failed: BTreeSet<u8>,
    retry: Instant,
}

impl Settling {
    /// Not at work yet.
    pub fn new(registry: Arc<Registry>, share: Share, limits: ChangeLimits) -> Self {
        Self {
            registry,
            share,
            limits,
            failed: BTreeSet::new(),
            retry: Instant::now(),
        }
    }

    /// Works until `end` is cancelled, then stops where it stands.
    pub async fn run(mut self, end: CancellationToken) {
        let work = async {
            let (mut mine, mut look) = (Vec::new(), Instant::now());
            loop {
                if let Ok(marked) = timeout(VIEW_CHECK, self.registry.unsettled()).await {
                    for n in marked {
                        let settled = self.registry.settle_changes(n).await;
                        self.note(n, settled);
                    }
                    tokio::time::sleep(self.limits.pause / 2 + clock::part_of(self.limits.pause)).await;
                }
                let now = Instant::now();
                if !self.failed.is_empty() && now >= self.retry {
                    self.failed
                        .iter()
                        .for_each(|n| self.registry.look_for_changes(*n));
                    self.retry = now + RETRY;
                }
                let share = self.share.change_partitions();
                if share != mine || now >= look {
                    share.iter().for_each(|n| self.registry.look_for_changes(*n));
                    mine = share;
                    look = now + self.limits.interval / 2 + clock::part_of(self.limits.interval);
                }
            }
        };
        let _: Option<()> = end.run_until_cancelled(work).await;
    }

    fn note(&mut self, n: u8, settled: Result<Settled, RegistryError>) {
        match settled {
            Ok(settled) => {
                self.failed.remove(&n);
                if settled.outrun {
                    self.registry.look_for_changes(n);
                }
            }
            Err(error) => {
                if self.failed.is_empty() {
                    self.retry = Instant::now() + RETRY;
                }
                if self.failed.insert(n) {
                    tracing::warn!(
                        partition = n,
                        ?error,
                        "changes can't be settled; it is tried again"
                    );
                }
            }
        }
    }
}
