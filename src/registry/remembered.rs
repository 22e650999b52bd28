//! What this member remembers of repositories, in memory (rule R9): manifests, links to blobs, and the bytes of short blobs.
//!
//! A document and a blob's bytes never change; whether the repository has them does. Whatever ends that, and whatever changes
//! the key in a link, replaces the repository's row (R2). So a manifest and a link are kept with the version which that
//! row had at the moment they were read, and are there as long as a strong read of the row finds the same version. That row
//! is one for everything in the repository, and whoever asks at the same time shares a read of it: a pull of ten layers costs a few
//! such reads, and a thousand pulls at once hardly more.
//!
//! The version and what is read under it come from one [`snapshot`](crate::storage::MetaStore::snapshot). Two reads won't do, in
//! either order: the former may be overtaken by a change, and a store may show what a transaction did to the repository's row
//! before what it did to another, so that what is gone would be kept under the version that says so. `tests/it/models/remembered.rs`
//! has both, and what else is needed.
//!
//! Absent on purpose:
//! - what isn't there: a link comes without replacing the row; and what is there while the repository has no row, for that
//!   it has none isn't a version: it may have had one in between;
//! - any answer without a read that began after the request (R6), and any time after which something ends;
//! - tags: to read one costs what it costs to read the row, whatever else changes in the repository; one that names a
//!   manifest says that it is there, so a pull by tag reads nothing else;
//! - lists: of tags and of referrers. No read of a range is of one moment with a row, and a list says what isn't there, too.

#[cfg(test)]
mod tests;

use std::{
    hash::{Hash, RandomState},
    sync::Arc,
};

use bytes::Bytes;
use quick_cache::{
    OptionsBuilder, Weighter,
    sync::{Cache, DefaultLifecycle},
};

use super::{Registry, Result, blobs::HeldLink, manifests::Held, noted::Noted};
use crate::{
    oci::{Digest, RepoName},
    storage::{Key, Row, StoreErrorKind, Version, keys},
};

/// What an entry takes beside its bytes, roughly: names, digests, and the cache's own.
const OVERHEAD: u64 = 512;

/// Something of a repository.
pub(super) type Name = (RepoName, Digest);

/// What is remembered.
pub(super) struct Remembered {
    pub(super) manifests: Kept<Name, Noted<Held>>,
    pub(super) links: Kept<Name, Noted<HeldLink>>,
    /// The bytes of short blobs, which have these digests, whoever holds them.
    pub(super) contents: Kept<Digest, Bytes>,
}

impl Remembered {
    /// Remembers what fits into `bytes`: half of it for manifests, most of the rest for blobs.
    pub(super) fn new(bytes: u64) -> Self {
        Self {
            manifests: Kept::new(bytes / 2, 8 * OVERHEAD),
            links: Kept::new(bytes / 8, OVERHEAD),
            contents: Kept::new(bytes / 8 * 3, 4 * OVERHEAD),
        }
    }
}

/// As much as fits.
pub(super) struct Kept<K, V>(Cache<K, V, Weight, RandomState>);

#[derive(Clone)]
pub(super) struct Weight;

/// What takes memory.
pub(super) trait Weighs {
    /// The bytes that are its own.
    fn bytes(&self) -> usize;
}

impl Weighs for Noted<Held> {
    fn bytes(&self) -> usize {
        self.value.document.len()
    }
}

impl Weighs for Noted<HeldLink> {
    fn bytes(&self) -> usize {
        0
    }
}

impl Weighs for Bytes {
    fn bytes(&self) -> usize {
        self.len()
    }
}

impl<K, V: Weighs> Weighter<K, V> for Weight {
    fn weight(&self, _: &K, value: &V) -> u64 {
        value.bytes() as u64 + OVERHEAD
    }
}

impl<K: Eq + Hash, V: Weighs + Clone> Kept<K, V> {
    /// Up to `bytes`, in entries of about `usual`.
    fn new(bytes: u64, usual: u64) -> Self {
        // Of one shard, so that the largest manifest fits into it.
        let options = OptionsBuilder::new()
            .shards(1)
            .weight_capacity(bytes)
            .estimated_items_capacity(usize::try_from(bytes / usual).unwrap_or(usize::MAX))
            .build();
        #[expect(clippy::expect_used, reason = "it wants both capacities, and has them")]
        let options = options.expect("complete options");
        let lifecycle = DefaultLifecycle::default();
        Self(Cache::with_options(
            options,
            Weight,
            RandomState::new(),
            lifecycle,
        ))
    }

    /// What was kept of it last. Whether a repository still has it is another question.
    pub(super) fn find(&self, name: &K) -> Option<V> {
        self.0.get(name)
    }

    pub(super) fn keep(&self, name: K, value: V) {
        self.0.insert(name, value);
    }
}

impl Registry {
    /// Whether nothing of the repository that may be remembered has changed since its row had this version: one read that begins
    /// now or later.
    pub(super) async fn is_unchanged(&self, repository: &RepoName, since: Version) -> Result<bool> {
        let row = self.meta.get(&keys::repository(repository)).await?;
        Ok(row.is_some_and(|row| row.version == since))
    }

    /// What is remembered, if it is as good as read.
    pub(super) async fn recall<T>(
        &self,
        repository: &RepoName,
        noted: Option<Noted<T>>,
    ) -> Result<Option<Arc<T>>> {
        match noted {
            Some(noted) if self.is_unchanged(repository, noted.version).await? => Ok(Some(noted.value)),
            Some(_) | None => Ok(None),
        }
    }

    /// The row at `key`, and the version of the repository's row at the same moment, if what the former says may be remembered.
    pub(super) async fn read_to_remember(
        &self,
        repository: &RepoName,
        key: Key,
    ) -> Result<(Option<Row>, Option<Version>)> {
        let wanted = [keys::repository(repository), key];
        match self.meta.snapshot(&wanted).await {
            Ok(rows) => {
                let mut rows = rows.into_iter();
                let (repository, found) = (rows.next().flatten(), rows.next().flatten());
                Ok((found, repository.map(|row| row.version)))
            }
            // Pushes never leave the repository alone. Nothing is known of it then, but the row can be read.
            Err(error) if error.kind() == StoreErrorKind::Contended => {
                let [_, key] = wanted;
                Ok((self.meta.get(&key).await?, None))
            }
            Err(error) => Err(error.into()),
        }
    }
}
