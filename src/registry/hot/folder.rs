//! The folder of hot blobs: which files are in it, which go when there is no room, and whether its disk can be written to.
//!
//! A file has a name that no other ever had, so whoever deletes one deletes that one; who has it open reads on.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    hash::RandomState,
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter, sync::Cache};
use tokio::time::Instant;

use super::file;
use crate::{config::CacheConfig, entropy, oci::Digest, telemetry::Metrics};

/// Bytes of a blob that is usual, from which the index takes how many there may be.
const USUAL: u64 = 1 << 20;
/// This part of all bytes is for what is coming, and for one blob at most.
const COMING: u64 = 4;
/// In the folder, for this process alone.
const LOCK: &str = "lock";
/// How the names of files end that are not complete.
const UNFINISHED: &str = ".new";

/// Why the folder can't be used.
#[derive(Debug, thiserror::Error)]
pub enum HotError {
    /// It can't be made, read or written to.
    #[error("storage.cache.path: can't use {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process has it.
    #[error("storage.cache.path: {} is another process's: each member needs a folder of its own", .0.display())]
    InUse(PathBuf),
}

/// A file that is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: u64,
    /// Bytes of the file.
    pub(super) length: u64,
}

#[derive(Clone)]
struct Length;

impl Weighter<Digest, Entry> for Length {
    fn weight(&self, _: &Digest, entry: &Entry) -> u64 {
        entry.length.max(1)
    }
}

/// Gathers what had to go, to be deleted when nothing is locked any more.
#[derive(Clone)]
struct Gathered;

impl Lifecycle<Digest, Entry> for Gathered {
    type RequestState = Vec<(Digest, Entry)>;

    fn on_evict(&self, gone: &mut Self::RequestState, digest: Digest, entry: Entry) {
        gone.push((digest, entry));
    }
}

/// See the module.
pub(super) struct Folder {
    path: PathBuf,
    /// S3-FIFO: what is asked for once goes soon, and makes nothing go that is asked for again.
    index: Cache<Digest, Entry, Length, RandomState, Gathered>,
    /// Bytes that are coming, and how many may be.
    coming: AtomicU64,
    most_coming: u64,
    /// Until when nothing is written, since the disk failed.
    off: Mutex<Option<Instant>>,
    pause: Duration,
    pub(super) metrics: Arc<Metrics>,
    /// Locked for as long as it is open.
    _lock: File,
}

impl Folder {
    /// Opens it, or makes it, and looks what is in it. Blocks.
    pub(super) fn open(
        config: &CacheConfig,
        pause: Duration,
        metrics: Arc<Metrics>,
    ) -> Result<Self, HotError> {
        let path = &config.path;
        let failed = |source| HotError::Folder {
            path: path.clone(),
            source,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(failed)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join(LOCK))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(HotError::InUse(path.clone())),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let most_coming = config.bytes / COMING;
        let options = OptionsBuilder::new()
            // Of several shards each would have room for its part only, and refuse what is larger.
            .shards(1)
            .estimated_items_capacity(usize::try_from(config.bytes / USUAL).unwrap_or(usize::MAX).max(1))
            .weight_capacity(config.bytes - most_coming)
            .build();
        let options = options.map_err(|error| failed(io::Error::other(error.to_string())))?;
        let folder = Self {
            path: path.clone(),
            index: Cache::with_options(options, Length, RandomState::new(), Gathered),
            coming: AtomicU64::new(0),
            most_coming,
            off: Mutex::new(None),
            pause,
            metrics,
            _lock: lock,
        };
        folder.look().map_err(failed)?;
        Ok(folder)
    }

    /// Takes up what a former process left, the oldest first; what it didn't finish goes.
    fn look(&self) -> io::Result<()> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name();
            match name.to_str().and_then(Name::parse) {
                Some(Name {
                    digest,
                    id,
                    is_whole: true,
                }) => {
                    let metadata = entry.metadata()?;
                    let length = metadata.len();
                    found.push((metadata.modified()?, digest, Entry { id, length }));
                }
                Some(_) => fs::remove_file(entry.path())?,
                // Not ours.
                None => {}
            }
        }
        found.sort_by_key(|(modified, ..)| *modified);
        for (_, digest, entry) in found {
            self.keep(&digest, entry);
        }
        Ok(())
    }

    /// What is there.
    pub(super) fn find(&self, digest: &Digest) -> Option<Entry> {
        self.index.get(digest)
    }

    /// The file of `digest` that is complete.
    pub(super) fn whole(&self, digest: &Digest, id: u64) -> PathBuf {
        self.path.join(name(digest, id))
    }

    /// The file of `digest` that isn't yet.
    pub(super) fn unfinished(&self, digest: &Digest, id: u64) -> PathBuf {
        self.path.join(name(digest, id) + UNFINISHED)
    }

    /// Keeps a file that is complete, in the place of others. Blocks.
    pub(super) fn keep(&self, digest: &Digest, entry: Entry) {
        let mut gone = Vec::new();
        if let Some((_, former)) = self.index.remove(digest) {
            gone.push((digest.clone(), former));
        }
        self.index.insert_with_lifecycle(digest.clone(), entry, &mut gone);
        for (digest, entry) in gone {
            self.delete(&self.whole(&digest, entry.id));
        }
        self.measure();
    }

    /// A file turned out not to be what it should: it is one no more. Blocks.
    pub(super) fn drop_wrong(&self, digest: &Digest, entry: Entry, error: &io::Error) {
        self.metrics.cache_failure("content");
        tracing::warn!(%digest, %error, "a blob of the cache can't be used: it is read from the store");
        let is_it = |kept: &Entry| *kept == entry;
        if self.index.remove_if(digest, is_it).is_some() {
            self.delete(&self.whole(digest, entry.id));
        }
        self.measure();
    }

    pub(super) fn delete(&self, path: &Path) {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "a file of the cache can't be deleted");
            }
            Ok(()) | Err(_) => {}
        }
    }

    fn measure(&self) {
        self.metrics.cache_held(self.index.weight());
    }

    /// The disk failed: nothing is written for a while.
    pub(super) fn failed(&self, error: &io::Error) {
        self.metrics.cache_failure("disk");
        self.metrics.cache_off(true);
        let before = self.off.lock().replace(Instant::now() + self.pause);
        if before.is_none() {
            let (path, pause) = (self.path.display(), self.pause);
            tracing::error!(%path, %error, ?pause, "the cache's disk failed: nothing is put there for now, and all is served without it");
        }
    }

    /// Room for a blob of `size` bytes that is to come, if it may.
    pub(super) fn room(self: &Arc<Self>, size: u64) -> Option<Room> {
        {
            let mut off = self.off.lock();
            match *off {
                Some(until) if Instant::now() < until => return None,
                Some(_) => {
                    *off = None;
                    self.metrics.cache_off(false);
                    tracing::info!(path = %self.path.display(), "the cache's disk is tried again");
                }
                None => {}
            }
        }
        // Without random numbers there would be names that were used before.
        let mut id = [0; 8];
        entropy::fill(&mut id).ok()?;
        let bytes = file::length(size);
        let more = |coming: u64| {
            coming
                .checked_add(bytes)
                .filter(|coming| *coming <= self.most_coming)
        };
        self.coming
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()?;
        let entry = Entry {
            id: u64::from_le_bytes(id),
            length: bytes,
        };
        Some(Room {
            folder: self.clone(),
            entry,
        })
    }
}

/// Bytes of the folder that are taken up by something that is coming.
pub(super) struct Room {
    folder: Arc<Folder>,
    /// The file that it will be.
    pub(super) entry: Entry,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.folder.coming.fetch_sub(self.entry.length, Ordering::Relaxed);
    }
}

fn name(digest: &Digest, id: u64) -> String {
    format!("{}.{id:016x}", digest.to_string().replace(':', "-"))
}

/// What a file's name says.
#[derive(Debug, PartialEq, Eq)]
struct Name {
    digest: Digest,
    id: u64,
    is_whole: bool,
}

impl Name {
    fn parse(name: &str) -> Option<Self> {
        let (whole, is_whole) = match name.strip_suffix(UNFINISHED) {
            Some(name) => (name, false),
            None => (name, true),
        };
        let (digest, id) = whole.split_once('.')?;
        let parsed = Self {
            digest: Digest::parse(&digest.replacen('-', ":", 1)).ok()?,
            id: u64::from_str_radix(id, 16).ok()?,
            is_whole,
        };
        // No other spelling, or what is deleted would be something else.
        (self::name(&parsed.digest, parsed.id) == whole).then_some(parsed)
    }
}
