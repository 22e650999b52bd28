//! How often repositories were pulled, and who finds out that a count has changed.
//!
//! A count lies in a row of the repository's, and is written with those of its manifests. A change of it is no change of names, so no
//! feed tells of it. Who keeps counts of all repositories in memory follows [`Pulled`] instead: each time a member has written counts it
//! says of which repositories, in rows that are kept for a day.

use std::{collections::BTreeSet, time::Duration};

use super::{Registry, Result, pages::Pages, row};
use crate::{
    clock,
    oci::RepoName,
    storage::{Expect, MAX_PAGE, Space, Version, keys, rows},
};

/// Who hasn't followed for so long doesn't know which counts have changed.
pub const PULLED_KEPT: Duration = Duration::from_hours(24);
/// Repositories that one row names: 128 KiB where each name is as long as it may be.
const NAMED_TOGETHER: usize = 512;

/// Rows that are taken away with each that is added, where they are old enough.
const FORGOTTEN: usize = 16;

/// Repositories whose counts a member wrote at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// Where it stands among others: they are in the order of their times, as far as clocks agree.
    pub place: String,
    /// Which.
    pub repositories: Vec<RepoName>,
}

impl Registry {
    /// Which counts were written since `from_ms`, in milliseconds since the Unix epoch, by the clocks of those who wrote.
    ///
    /// # Errors
    /// The store's.
    pub async fn pulled_since(&self, from_ms: u64) -> Result<Vec<Pulled>> {
        let pages = Pages::of(Space::Manifests, keys::PULLED, "", MAX_PAGE);
        let (mut pages, mut found) = (pages.after(keys::pulled_from(from_ms)), Vec::new());
        while let Some(entries) = pages.next(&*self.meta).await? {
            for entry in entries {
                let row: rows::Pulled = row::read(&entry.row)?;
                let names = row.repositories.iter();
                found.push(Pulled {
                    repositories: names.filter_map(|name| RepoName::parse(name).ok()).collect(),
                    place: entry.sort,
                });
            }
        }
        Ok(found)
    }

    /// Says of which repositories counts were written, and takes away what was said too long ago.
    pub(super) async fn announce_pulled(&self, repositories: BTreeSet<RepoName>) -> Result<()> {
        if repositories.is_empty() {
            return Ok(());
        }
        let now_ms = clock::now_ms();
        let names: Vec<String> = repositories.iter().map(RepoName::to_string).collect();
        for some in names.chunks(NAMED_TOGETHER) {
            let version = Version::random();
            let said = rows::Pulled {
                min_reader: rows::SCHEMA,
                repositories: some.to_vec(),
            };
            let key = keys::pulled(now_ms, &hex::encode(version.to_bytes()));
            let ops = [key.put(Expect::Any, row::bytes(&said))];
            self.meta.transact(version, &ops).await?;
        }
        let kept_ms = u64::try_from(PULLED_KEPT.as_millis()).unwrap_or(u64::MAX);
        let end = keys::pulled_from(now_ms.saturating_sub(kept_ms));
        let (space, partition) = (Space::Manifests, keys::PULLED);
        let oldest = self
            .meta
            .range(space, partition, "", None, FORGOTTEN)
            .await?
            .entries;
        let old = oldest.into_iter().filter(|entry| entry.sort < end);
        let ops: Vec<_> = old
            .map(|entry| keys::pulled_listed(entry.sort).delete(Expect::Any))
            .collect();
        if !ops.is_empty() {
            self.meta.transact(Version::random(), &ops).await?;
        }
        Ok(())
    }
}
