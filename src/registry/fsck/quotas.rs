//! What is counted for quotas, against the sum of the links.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    FaultKind, Fsck,
    finding::{Finding, Mend},
};
use crate::{
    oci::RepoName,
    registry::{
        Result,
        quota::{Place, Share},
        row,
    },
    storage::{Expect, Key, Row, Space, keys, keys::Subject, rows},
};

/// How often what is counted is summed up until nothing was counted meanwhile.
const SUMS: usize = 3;

/// A prefix and the number of a row that counts for it.
type Counter = (RepoName, u32);

/// What links say is counted where, and what is counted there, in bytes.
#[derive(Default)]
pub(super) struct Sums {
    links: BTreeMap<Counter, u64>,
    counted: BTreeMap<Counter, u64>,
    /// Some link can't be read, so nobody knows where it is counted.
    is_unsure: bool,
}

impl Sums {
    /// A row that was met on a walk. One that can't be read is told of where it is looked at.
    pub(super) fn meet(&mut self, key: &Key, found: &Row) {
        match (key.space, Subject::of(key)) {
            (_, Some(Subject::Usage(prefix, shard))) => {
                if let Ok(usage) = row::read::<rows::Usage>(found) {
                    self.counted.insert((prefix, shard), usage.used);
                }
            }
            (Space::Links, _) => self.add(found),
            _ => {}
        }
    }

    fn add(&mut self, link: &Row) {
        let place = row::read::<rows::Link>(link).and_then(|link| Ok((Place::of(&link)?, link.size)));
        match place {
            Ok((Some(Place { prefix, shard }), size)) => {
                let sum: &mut u64 = self.links.entry((prefix, shard)).or_default();
                *sum = sum.saturating_add(size);
            }
            Ok((None, _)) => {}
            Err(_) => self.is_unsure = true,
        }
    }
}

impl Fsck<'_> {
    /// Each link is counted in its own transaction: so a count whose row is the same before and after all links were summed up
    /// has to be that sum.
    pub(super) async fn quotas(&mut self, sums: Sums) -> Result<()> {
        let of = |counts: &BTreeMap<Counter, u64>, counter: &Counter| {
            counts.get(counter).copied().unwrap_or_default()
        };
        let counters: BTreeSet<_> = sums.links.keys().chain(sums.counted.keys()).collect();
        let mut doubtful: Vec<Counter> = counters
            .into_iter()
            .filter(|counter| of(&sums.links, counter) != of(&sums.counted, counter))
            .cloned()
            .collect();
        for _ in 0..SUMS {
            if doubtful.is_empty() {
                return Ok(());
            }
            self.tell("quotas");
            let before = self.counted(&doubtful).await?;
            let mut sums = Sums::default();
            let mut piece = None;
            while self.walk(Space::Links, &mut piece).await? {
                for (_, found) in piece.iter().flat_map(|walked| &walked.rows) {
                    sums.add(found);
                }
            }
            let now = self.counted(&doubtful).await?;
            let mut moved = Vec::new();
            for ((counter, before), now) in doubtful.into_iter().zip(before).zip(now) {
                let (before, expect) = (
                    Expect::unchanged(before.as_ref()),
                    Expect::unchanged(now.as_ref()),
                );
                // One that can't be read was told of where it was looked at.
                let Ok(share) = Share::read(now.as_ref()) else {
                    continue;
                };
                let used = of(&sums.links, &counter);
                if before != expect {
                    moved.push(counter);
                } else if share.used != used {
                    let (prefix, shard) = counter;
                    let said = format!(
                        "{} bytes are counted in row {shard:02x}, the links have {used}",
                        share.used
                    );
                    // More than was granted is granted anew by the next push.
                    let put = share.put(&prefix, shard as usize, used, share.granted.max(used));
                    let finding = Finding::new(FaultKind::QuotaCount, Some(&prefix), said);
                    self.found(match sums.is_unsure {
                        true => finding,
                        false => finding.mend(Mend::Ops(vec![put])),
                    })
                    .await?;
                }
            }
            doubtful = moved;
        }
        for (prefix, shard) in doubtful {
            tracing::warn!(%prefix, shard, "what is counted changes all the time: look again when less is pushed");
        }
        Ok(())
    }

    async fn counted(&self, counters: &[Counter]) -> Result<Vec<Option<Row>>> {
        let keys: Vec<_> = counters
            .iter()
            .map(|(prefix, shard)| keys::usage(prefix, *shard))
            .collect();
        self.registry.get_all(&keys).await
    }
}
