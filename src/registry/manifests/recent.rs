//! Manifests that were pulled lately, in memory.
//!
//! A document never changes; whether the repository has it does. Whatever changes that replaces the repository's row
//! (rule R2), so each manifest is kept with the version which that row had at the moment of the read, and is there as long
//! as a strong read of the row finds the same version. That row is small and one for all manifests of the repository: when
//! everybody pulls a new image, the manifest itself is read once.
//!
//! Absent on purpose: what isn't there, and any answer without a read that began after the request (rule R6).

use std::{hash::RandomState, sync::Arc};

use bytes::Bytes;
use quick_cache::{
    OptionsBuilder, Weighter,
    sync::{Cache, DefaultLifecycle},
};

use super::super::objects::Written;
use crate::{
    oci::{Descriptor, Digest, RepoName},
    storage::Version,
};

/// What an entry takes beside the document, in bytes, roughly: names, digests, and the cache's own.
const OVERHEAD: u64 = 512;

/// A manifest that was read.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) descriptor: Descriptor,
    pub(super) document: Bytes,
    /// Where the document lies that is too long for its row.
    pub(super) object: Option<Written>,
    /// That of the repository's row at the moment of the read, if it was read with it.
    pub(super) repository: Option<Version>,
}

type Name = (RepoName, Digest);

/// As many of them as fit.
pub(in crate::registry) struct Recent(Cache<Name, Arc<Held>, Weight, RandomState>);

#[derive(Clone)]
struct Weight;

impl Weighter<Name, Arc<Held>> for Weight {
    fn weight(&self, _: &Name, held: &Arc<Held>) -> u64 {
        held.document.len() as u64 + OVERHEAD
    }
}

impl Recent {
    /// Holds up to `bytes`.
    pub(in crate::registry) fn new(bytes: u64) -> Self {
        // Of one shard, so that the largest manifest fits into it.
        let options = OptionsBuilder::new()
            .shards(1)
            .weight_capacity(bytes)
            .estimated_items_capacity(usize::try_from(bytes / (8 * OVERHEAD)).unwrap_or(usize::MAX))
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

    /// The manifest as it was read last. Whether it is still there is another question.
    pub(super) fn find(&self, repository: &RepoName, digest: &Digest) -> Option<Arc<Held>> {
        self.0.get(&(repository.clone(), digest.clone()))
    }

    pub(super) fn keep(&self, repository: &RepoName, held: Arc<Held>) {
        let name = (repository.clone(), held.descriptor.digest.clone());
        self.0.insert(name, held);
    }
}
