//! When manifests were pulled last, and how often.
//!
//! Counted in memory by whoever served the pull, and written in batches ([`Registry::write_pulls`]) to rows of their own: never in
//! a pull, and never to the repository's row. A member that dies loses what it hasn't written.
//!
//! A row belongs to its manifest: it comes only while that lives, and goes with it. What a repository's pulls come to stands in one more, which
//! goes with the repository ([`Told::downloads`](super::Told::downloads)).

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;

use super::{
    Registry, RegistryError, Result,
    fence::{self, Fenced},
    row::{self, live},
};
use crate::{
    clock,
    oci::{Digest, RepoName},
    storage::{Expect, MAX_OPS, Op, Outcome, Version, keys, rows},
};

/// Manifests of a repository that are written at once: each takes two reads and, the first time, two operations. One is for all of the
/// repository's together.
const AT_ONCE: usize = (MAX_OPS - 1) / 2;

/// Pulls that aren't written yet, of a bounded number of manifests.
pub(super) struct Pulls {
    counts: Mutex<Counts>,
    most: usize,
}

#[derive(Default)]
struct Counts {
    by_repository: BTreeMap<RepoName, Pulled>,
    manifests: usize,
    /// That pulls are recorded is written.
    is_announced: bool,
}

type Pulled = BTreeMap<Digest, Count>;

#[derive(Clone, Copy, Default)]
struct Count {
    pulls: u64,
    last_ms: u64,
}

impl Count {
    fn and(self, other: Self) -> Self {
        Self {
            pulls: self.pulls.saturating_add(other.pulls),
            last_ms: self.last_ms.max(other.last_ms),
        }
    }
}

impl Pulls {
    /// Remembers at most so many manifests; pulls of further ones aren't counted until those are written.
    pub(super) fn new(most: usize) -> Self {
        Self {
            counts: Mutex::default(),
            most,
        }
    }

    fn add(&self, repository: &RepoName, digest: &Digest, count: Count) {
        let mut counts = self.counts.lock();
        let is_full = counts.manifests >= self.most;
        let known = counts
            .by_repository
            .get_mut(repository)
            .and_then(|pulled| pulled.get_mut(digest));
        match known {
            Some(known) => *known = known.and(count),
            None if is_full => {}
            None => {
                let pulled = counts.by_repository.entry(repository.clone()).or_default();
                pulled.insert(digest.clone(), count);
                counts.manifests += 1;
            }
        }
    }

    /// Some of what is counted of the first repository after that one.
    fn take(&self, after: Option<&RepoName>) -> Option<(RepoName, Pulled)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let mut counts = self.counts.lock();
        let first = after.map_or(Unbounded, |after| Excluded(after.clone()));
        let (repository, pulled) = counts.by_repository.range_mut((first, Unbounded)).next()?;
        let rest = match pulled.keys().nth(AT_ONCE).cloned() {
            Some(next) => pulled.split_off(&next),
            None => BTreeMap::new(),
        };
        let (repository, taken) = (repository.clone(), std::mem::replace(pulled, rest));
        if counts.by_repository[&repository].is_empty() {
            counts.by_repository.remove(&repository);
        }
        counts.manifests -= taken.len();
        Some((repository, taken))
    }
}

impl Registry {
    /// Counts a pull of a manifest.
    pub fn count_pull(&self, repository: &RepoName, digest: &Digest) {
        let count = Count {
            pulls: 1,
            last_ms: clock::now_ms(),
        };
        self.pulls.add(repository, digest, count);
    }

    /// Writes what was counted: one transaction for each repository. What can't be written now is kept for the next time.
    ///
    /// # Errors
    /// The last that the store said, of whichever repository.
    pub async fn write_pulls(&self) -> Result<()> {
        let (mut after, mut trouble, mut written) = (None, None, BTreeSet::new());
        while let Some((repository, pulled)) = self.pulls.take(after.as_ref()) {
            match self.write_pulled(&repository, &pulled).await {
                // Applied or not: twice would be wrong, and the next pull says when the last one was.
                Ok(Written::Yes) | Err(RegistryError::OutcomeUnknown) => {
                    written.insert(repository.clone());
                }
                Ok(Written::OthersCameFirst) => self.keep(&repository, pulled),
                Err(error) => {
                    self.keep(&repository, pulled);
                    trouble = Some(error);
                }
            }
            after = Some(repository);
        }
        if let Err(error) = self.announce_pulled(written).await {
            trouble = Some(error);
        }
        trouble.map_or(Ok(()), Err)
    }

    /// Since when pulls are recorded, in milliseconds since the Unix epoch, if any was.
    pub async fn pulls_since(&self) -> Result<Option<u64>> {
        let found = self.meta.get(&keys::pulls_since()).await?;
        let since: Option<rows::PullsSince> = found.as_ref().map(row::read).transpose()?;
        Ok(since.map(|since| since.since_ms))
    }

    fn keep(&self, repository: &RepoName, pulled: Pulled) {
        for (digest, count) in pulled {
            self.pulls.add(repository, &digest, count);
        }
    }

    async fn write_pulled(&self, repository: &RepoName, pulled: &Pulled) -> Result<Written> {
        self.announce_pulls().await?;
        let all = keys::downloads(repository);
        let mut wanted: Vec<_> = pulled
            .keys()
            .map(|digest| keys::pull(repository, digest))
            .collect();
        wanted.push(all.clone());
        let mut found = self.meta.get_many(&wanted).await?;
        let before = found.pop().flatten();
        let mut downloads: rows::Downloads = before
            .as_ref()
            .map(row::read_to_rewrite)
            .transpose()?
            .unwrap_or_default();
        let (mut ops, mut firsts) = (Vec::new(), Vec::new());
        for (((digest, count), key), found) in pulled.iter().zip(wanted).zip(found) {
            let Some(found) = found else {
                firsts.push((digest, *count, key));
                continue;
            };
            let row: rows::Pull = row::read_to_rewrite(&found)?;
            let now = count.and(Count {
                pulls: row.pulls,
                last_ms: row.last_ms,
            });
            ops.push(key.put(Expect::Version(found.version), row::bytes(&now.row())));
            downloads.pulls = downloads.pulls.saturating_add(count.pulls);
        }
        // Only of a manifest that lives, and that the transaction finds as it was.
        let manifests: Vec<_> = firsts
            .iter()
            .map(|(digest, ..)| keys::manifest(repository, digest))
            .collect();
        if !manifests.is_empty() {
            let found = self.meta.get_many(&manifests).await?;
            for ((manifest, found), (_, count, key)) in manifests.into_iter().zip(found).zip(firsts) {
                let Some(row) = found.filter(|row| matches!(live(Some(row)), Ok(Some(_)))) else {
                    continue;
                };
                ops.push(key.put(Expect::Absent, row::bytes(&count.row())));
                ops.push(manifest.check(Expect::Version(row.version)));
                downloads.pulls = downloads.pulls.saturating_add(count.pulls);
            }
        }
        if ops.is_empty() {
            return Ok(Written::Yes);
        }
        downloads.min_reader = rows::SCHEMA;
        ops.push(all.put(Expect::unchanged(before.as_ref()), row::bytes(&downloads)));
        let deadline = self.commit_deadline();
        match fence::transact(&*self.meta, Version::random(), &ops, deadline).await? {
            Fenced::Committed => Ok(Written::Yes),
            Fenced::Refused { .. } => Ok(Written::OthersCameFirst),
        }
    }

    /// Writes since when pulls are recorded, if nobody has.
    async fn announce_pulls(&self) -> Result<()> {
        if self.pulls.counts.lock().is_announced {
            return Ok(());
        }
        let row = rows::PullsSince {
            min_reader: rows::SCHEMA,
            since_ms: clock::now_ms(),
        };
        let ops: [Op; 1] = [keys::pulls_since().put(Expect::Absent, row::bytes(&row))];
        match self.meta.transact(Version::random(), &ops).await? {
            Outcome::Committed | Outcome::Refused { .. } => self.pulls.counts.lock().is_announced = true,
            Outcome::Unknown => {}
        }
        Ok(())
    }
}

impl Count {
    fn row(self) -> rows::Pull {
        rows::Pull {
            min_reader: rows::SCHEMA,
            pulls: self.pulls,
            last_ms: self.last_ms,
        }
    }
}

enum Written {
    Yes,
    OthersCameFirst,
}
