//! Hot content: whole blobs on this machine's disk, as many as `storage.cache` has room for.
//!
//! A blob is a file by its digest ([`mod@file`]), in a folder that keeps what is asked for again ([`folder`]). One that isn't there comes
//! from the store once for all who read it at the time ([`fill`]); its digest is compared before its last block is given out, and the
//! file appears whole, under its name, or not at all. Whether a repository holds a blob is never asked here: who comes has just read
//! that. So a file that is missing, damaged or not ours costs a read of the store, and can't be an answer.
//!
//! Short blobs are in memory already ([`remembered`](super::remembered)). A range is read from here when the blob is, and doesn't make it
//! come: who asks for pieces may want few of them.
//!
//! Absent on purpose: any word to others about what is here, and time: only room ends what is kept.

mod file;
mod fill;
mod folder;
mod reading;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::task::spawn_blocking;

pub use self::folder::HotError;
pub(super) use self::reading::Rest;
use self::{
    file::Whole,
    fill::Filling,
    folder::{Entry, Folder},
    reading::{Disk, From, Reading},
};
use crate::{
    config::CacheConfig,
    files,
    oci::{Digest, ResolvedRange},
    storage::ByteStream,
    telemetry::Metrics,
};

/// See the module.
pub struct Hot {
    folder: Arc<Folder>,
    /// What is coming. Locked before the folder is asked: what is complete is in the folder before it is dropped here.
    fillings: Mutex<HashMap<Digest, Weak<Filling>>>,
}

/// What is to be read.
pub(super) struct Wanted<'a> {
    pub(super) digest: &'a Digest,
    /// Of the blob.
    pub(super) size: u64,
    pub(super) range: ResolvedRange,
    /// All of it, most likely: then it is kept.
    pub(super) is_all: bool,
    pub(super) rest: Rest,
}

enum Place {
    Here(Entry),
    Coming(Arc<Filling>),
    Begins(Arc<Filling>),
    Elsewhere,
}

impl Hot {
    /// Opens the folder of `config`, or makes it. After its disk failed nothing is written for the time `pause`. Blocks.
    ///
    /// # Errors
    /// [`HotError`].
    pub fn open(config: &CacheConfig, pause: Duration, metrics: Arc<Metrics>) -> Result<Self, HotError> {
        Ok(Self {
            folder: Arc::new(Folder::open(config, pause, metrics)?),
            fillings: Mutex::default(),
        })
    }

    /// Whether [`open`](Self::open) could do it, as far as can be said without doing it.
    ///
    /// # Errors
    /// [`HotError`].
    pub fn examine(config: &CacheConfig) -> Result<(), HotError> {
        files::may_make(&config.path).map_err(|source| HotError::Folder {
            path: config.path.clone(),
            source,
        })
    }

    fn place(&self, wanted: &Wanted<'_>) -> Place {
        let mut fillings = self.fillings.lock();
        if wanted.is_all
            && let Some(filling) = fillings.get(wanted.digest).and_then(Weak::upgrade)
        {
            return Place::Coming(filling);
        }
        if let Some(entry) = self.folder.find(wanted.digest) {
            return Place::Here(entry);
        }
        let room = wanted.is_all.then(|| self.folder.room(wanted.size)).flatten();
        let Some(room) = room else {
            return Place::Elsewhere;
        };
        let filling = Filling::new(self.folder.clone(), wanted.digest.clone(), wanted.size, room);
        let filling = Arc::new(filling);
        fillings.retain(|_, filling| filling.strong_count() > 0);
        fillings.insert(wanted.digest.clone(), Arc::downgrade(&filling));
        Place::Begins(filling)
    }

    /// The bytes that are wanted: from here, or as the store gives them.
    ///
    /// # Errors
    /// Those of `stored`.
    pub(super) async fn read<E, F>(&self, wanted: Wanted<'_>, stored: impl Fn() -> F) -> Result<ByteStream, E>
    where
        F: Future<Output = Result<ByteStream, E>>,
    {
        let (from, outcome) = match self.place(&wanted) {
            Place::Here(entry) => match self.opened(&wanted, entry).await {
                Some(whole) => (From::Disk(Disk::Whole(Arc::new(whole), entry)), "hit"),
                None => (From::Store(stored().await?), "miss"),
            },
            Place::Coming(filling) => match filling.open(stored()).await? {
                true => (From::Disk(Disk::Filling(filling)), "joined"),
                false => (From::Store(stored().await?), "miss"),
            },
            Place::Begins(filling) => match filling.open(stored()).await? {
                true => (From::Disk(Disk::Filling(filling)), "miss"),
                false => (From::Store(stored().await?), "miss"),
            },
            Place::Elsewhere => (From::Store(stored().await?), "miss"),
        };
        self.folder.metrics.cache_read(outcome);
        Ok(match from {
            From::Store(bytes) => bytes,
            from => Reading {
                folder: self.folder.clone(),
                digest: wanted.digest.clone(),
                from,
                range: wanted.range,
                rest: wanted.rest,
            }
            .stream(),
        })
    }

    async fn opened(&self, wanted: &Wanted<'_>, entry: Entry) -> Option<Whole> {
        let (folder, digest, size) = (self.folder.clone(), wanted.digest.clone(), wanted.size);
        let open = move || {
            let opened = Whole::open(&folder.whole(&digest, entry.id), size);
            opened.inspect_err(|error| folder.drop_wrong(&digest, entry, error))
        };
        spawn_blocking(open).await.ok()?.ok()
    }
}
