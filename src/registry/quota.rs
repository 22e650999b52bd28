//! Quotas: how many bytes of blobs the repositories below a prefix hold together, and may.
//!
//! A link is counted in the transaction that makes it, and taken off in the one that removes it; its row says where. So
//! the count is the sum of the links whatever is answered late or never, and a change of the configuration takes nothing
//! off that wasn't added.
//!
//! One row for a prefix would make every push below it wait for every other. So there are [`SHARDS`] of them, each with a
//! share of the quota up to which it fills without the others being asked. Together they are granted at most the
//! quota, and whoever grants anew replaces them all at once: the quota is never exceeded. That is needed when no share
//! has room for a blob, so only for blobs of more than a sixteenth of what is left.
//!
//! A link that is shelved isn't counted: it was taken off when it was, and is counted anew when it comes back.
//!
//! Absent on purpose: bytes of manifests, and who may push at all.

#[cfg(test)]
mod tests;

use std::{array, collections::BTreeMap, num::NonZeroU64};

use super::{
    Registry, RegistryError, Result, row,
    shelf::{is_shelved, present},
};
use crate::{
    entropy,
    oci::{Digest, RepoName},
    storage::{Expect, MetaStore, Op, Row, Space, keys, rows},
};

/// Rows that one prefix is counted in.
const SHARDS: usize = 16;

/// Bytes that the repositories below each prefix may hold together; none is as many as there is space for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quotas(BTreeMap<RepoName, NonZeroU64>);

/// The quota that counts for a repository.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quota<'a> {
    prefix: &'a RepoName,
    allowed: u64,
}

impl Quotas {
    /// By prefix: a prefix is the repository of that name and all below it.
    #[must_use]
    pub fn new(by_prefix: BTreeMap<RepoName, NonZeroU64>) -> Self {
        Self(by_prefix)
    }

    /// That of the longest prefix of `repository`, alone.
    pub(super) fn of(&self, repository: &RepoName) -> Option<Quota<'_>> {
        let mut name = repository.as_str();
        loop {
            if let Some((prefix, allowed)) = self.0.get_key_value(name) {
                let allowed = allowed.get();
                return Some(Quota { prefix, allowed });
            }
            (name, _) = name.rsplit_once('/')?;
        }
    }
}

impl Quota<'_> {
    fn exceeded(&self, used: u64, asked: Option<u64>) -> RegistryError {
        RegistryError::QuotaExceeded {
            prefix: self.prefix.clone(),
            used,
            allowed: self.allowed,
            asked,
        }
    }
}

/// Where a link is counted, as its row says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) prefix: RepoName,
    pub(super) shard: u32,
}

impl Place {
    /// Where this link is counted, if it is.
    pub(super) fn of(link: &rows::Link) -> Result<Option<Self>> {
        if link.counted_under.is_empty() {
            return Ok(None);
        }
        let corrupt = |error| row::corrupt("read a quota's prefix in a link", error);
        let prefix = RepoName::parse(&link.counted_under).map_err(corrupt)?;
        let shard = link.counted_shard;
        Ok(Some(Self { prefix, shard }))
    }
}

/// What a link that is to be made has to do with quotas.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// What its row says of it.
    pub(super) place: Option<Place>,
    /// What counts it, in the same transaction: none where it is there already, or has no quota.
    pub(super) ops: Vec<Op>,
}

/// The rows of one prefix.
#[derive(Debug)]
struct Usage([Share; SHARDS]);

#[derive(Debug)]
pub(super) struct Share {
    pub(super) used: u64,
    pub(super) granted: u64,
    expect: Expect,
}

impl Share {
    pub(super) fn read(row: Option<&Row>) -> Result<Self> {
        let usage: rows::Usage = row.map(row::read_to_rewrite).transpose()?.unwrap_or_default();
        Ok(Self {
            used: usage.used,
            granted: usage.granted,
            expect: Expect::unchanged(row),
        })
    }

    fn room(&self) -> Option<u64> {
        self.granted.checked_sub(self.used)
    }

    pub(super) fn put(&self, prefix: &RepoName, shard: usize, used: u64, granted: u64) -> Op {
        let row = rows::Usage {
            min_reader: rows::SCHEMA,
            used,
            granted,
        };
        keys::usage(prefix, shard as u32).put(self.expect, row::bytes(&row))
    }
}

impl Usage {
    async fn read(meta: &dyn MetaStore, prefix: &RepoName) -> Result<Self> {
        let partition = keys::usage_partition(prefix);
        let page = meta
            .range(Space::Repositories, &partition, "", None, SHARDS)
            .await?;
        let mut found: [Option<Row>; SHARDS] = array::from_fn(|_| None);
        for entry in page.entries {
            let shard = keys::usage_shard(&entry.sort).and_then(|shard| found.get_mut(shard as usize));
            *shard.ok_or_else(|| row::corrupt("read a quota's usage", "no such shard"))? = Some(entry.row);
        }
        let mut usage = Self(array::from_fn(|_| Share {
            used: 0,
            granted: 0,
            expect: Expect::Absent,
        }));
        for (share, row) in usage.0.iter_mut().zip(&found) {
            *share = Share::read(row.as_ref())?;
        }
        Ok(usage)
    }

    fn used(&self) -> u64 {
        sum(self.0.iter().map(|share| share.used))
    }

    /// Whether `size` more bytes fit; where nobody knows how many, whether any do.
    fn check(&self, quota: &Quota<'_>, size: Option<u64>) -> Result<()> {
        let used = self.used();
        match used.checked_add(size.unwrap_or(1)) {
            Some(then) if then <= quota.allowed => Ok(()),
            Some(_) | None => Err(quota.exceeded(used, size)),
        }
    }

    /// Counts `size` more bytes.
    fn add(&self, quota: &Quota<'_>, size: u64) -> Result<Counted> {
        self.check(quota, Some(size))?;
        let granted = sum(self.0.iter().map(|share| share.granted));
        let first = any_shard();
        let mut from_first = (first..SHARDS).chain(0..first);
        let has_room = |shard: &usize| self.0[*shard].room().is_some_and(|room| room >= size);
        // More than the quota is granted when it was larger.
        let (shard, ops) = match from_first.find(has_room).filter(|_| granted <= quota.allowed) {
            Some(shard) => {
                let share = &self.0[shard];
                let op = share.put(quota.prefix, shard, share.used + size, share.granted);
                (shard, vec![op])
            }
            None => (first, self.grant_anew(quota, first, size)),
        };
        let (prefix, shard) = (quota.prefix.clone(), shard as u32);
        Ok(Counted {
            place: Some(Place { prefix, shard }),
            ops,
        })
    }

    /// Counts `size` more bytes, which fit, in one shard, and grants what is left to all in equal parts.
    fn grant_anew(&self, quota: &Quota<'_>, counted: usize, size: u64) -> Vec<Op> {
        let left = quota.allowed.saturating_sub(self.used()).saturating_sub(size);
        let each = left / SHARDS as u64;
        let shares = self.0.iter().enumerate().map(|(shard, share)| {
            let used = share.used + if shard == counted { size } else { 0 };
            share.put(quota.prefix, shard, used, used.saturating_add(each))
        });
        shares.collect()
    }
}

impl Registry {
    /// What counts a link of `size` bytes that is to be made. `held` is the link's row, as far as it is known; where the
    /// quota has no room it is looked up, for what is held already costs nothing.
    pub(super) async fn count(
        &self,
        repository: &RepoName,
        digest: &Digest,
        held: &mut Option<Row>,
        size: u64,
    ) -> Result<Counted> {
        let is_counted = held.as_ref().map(is_shelved).transpose()? == Some(false);
        if !is_counted && let Some(quota) = self.settings.quotas.of(repository) {
            match Usage::read(&*self.meta, quota.prefix).await?.add(&quota, size) {
                Ok(counted) => return Ok(counted),
                Err(error) => {
                    let now = present(self.held(repository, digest).await?)?;
                    *held = Some(now.ok_or(error)?);
                }
            }
        }
        let link: Option<rows::Link> = held.as_ref().map(row::read_to_rewrite).transpose()?;
        let place = link.as_ref().map(Place::of).transpose()?.flatten();
        let ops = Vec::new();
        Ok(Counted { place, ops })
    }

    /// Refuses an upload of `size` bytes that can't become a blob; where that isn't known yet, one that has no room for
    /// anything. What fits may fit no more when it has come: that is decided when it is linked.
    pub(super) async fn check_quota(
        &self,
        repository: &RepoName,
        digest: Option<&Digest>,
        size: Option<u64>,
    ) -> Result<()> {
        let Some(quota) = self.settings.quotas.of(repository) else {
            return Ok(());
        };
        let usage = Usage::read(&*self.meta, quota.prefix).await?;
        let checked = usage.check(&quota, size);
        match digest {
            Some(digest) if checked.is_err() => match present(self.held(repository, digest).await?)? {
                Some(_) => Ok(()),
                None => checked,
            },
            Some(_) | None => checked,
        }
    }

    /// The link's row, shelved or not.
    pub(super) async fn held(&self, repository: &RepoName, digest: &Digest) -> Result<Option<Row>> {
        Ok(self.meta.get(&keys::link(digest, repository)).await?)
    }
}

/// The operation that takes a link off again, which belongs into the transaction that removes it.
pub(super) async fn discount(meta: &dyn MetaStore, link: &Row) -> Result<Option<Op>> {
    let link: rows::Link = row::read(link)?;
    let Some(Place { prefix, shard }) = Place::of(&link)? else {
        return Ok(None);
    };
    // Whoever removes the rows to have everything counted anew mustn't keep blobs from being deleted.
    let Some(found) = meta.get(&keys::usage(&prefix, shard)).await? else {
        return Ok(None);
    };
    let share = Share::read(Some(&found))?;
    let used = share.used.saturating_sub(link.size);
    Ok(Some(share.put(&prefix, shard as usize, used, share.granted)))
}

fn sum(numbers: impl Iterator<Item = u64>) -> u64 {
    numbers.fold(0, u64::saturating_add)
}

fn any_shard() -> usize {
    let mut byte = [0];
    // Without random numbers any other will do.
    let _ = entropy::fill(&mut byte);
    usize::from(byte[0]) % SHARDS
}
