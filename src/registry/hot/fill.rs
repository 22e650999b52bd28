//! A blob that comes from the store into a file, for all who read it meanwhile.
//!
//! Nobody is paid to fetch it: of those who read it, whoever is first at the end of what is there takes the next block from the store, and
//! the others find it in the file. So it comes as fast as the fastest of them takes it, costs the store one read, and ends when
//! nobody wants it any more. Any of them may be dropped at any await: what it had begun is the next one's.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use tokio::{
    runtime::Handle,
    sync::Mutex,
    task::{JoinHandle, spawn_blocking},
};

use super::{
    super::hash::Hasher,
    file::{self, BLOCK},
    folder::{Folder, Room},
};
use crate::{
    oci::Digest,
    storage::{ByteStream, StoreErrorKind},
};

/// Why no more comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The store or the disk failed.
    GivenUp,
    /// The store has other bytes than these were.
    Wrong,
}

/// See the module.
pub(super) struct Filling {
    folder: Arc<Folder>,
    digest: Digest,
    size: u64,
    room: Room,
    file: OnceLock<File>,
    /// Blocks that are there.
    there: AtomicU64,
    stage: Mutex<Stage>,
}

enum Stage {
    New,
    Coming(Box<Coming>),
    Whole,
    Ended(Ended),
}

/// What is being fetched.
struct Coming {
    source: ByteStream,
    /// What of the source's last piece belongs to later blocks.
    left: Bytes,
    /// The next block, as far as it is here.
    gathered: BytesMut,
    /// The same, complete and on its way into the file.
    writing: Option<JoinHandle<Result<Written, Failure>>>,
    /// What the blocks before it came to; away while one is written.
    sums: Option<Sums>,
}

struct Sums {
    hasher: Hasher,
    of_blocks: BytesMut,
}

/// A block that is in the file.
struct Written {
    block: Bytes,
    sums: Sums,
}

enum Failure {
    Disk(io::Error),
    Wrong,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl Filling {
    pub(super) fn new(folder: Arc<Folder>, digest: Digest, size: u64, room: Room) -> Self {
        Self {
            folder,
            digest,
            size,
            room,
            file: OnceLock::new(),
            there: AtomicU64::new(0),
            stage: Mutex::new(Stage::New),
        }
    }

    /// Sees to it that it comes: from `source`, unless somebody has begun. Whether it does.
    ///
    /// # Errors
    /// Those of `source`. Others who wait here then ask the store for themselves.
    pub(super) async fn open<E>(
        self: &Arc<Self>,
        source: impl Future<Output = Result<ByteStream, E>>,
    ) -> Result<bool, E> {
        let mut stage = self.stage.lock().await;
        match &*stage {
            Stage::New => {}
            Stage::Coming(_) | Stage::Whole => return Ok(true),
            Stage::Ended(_) => return Ok(false),
        }
        let filling = self.clone();
        let made = spawn_blocking(move || filling.make()).await;
        if let Err(error) = made.unwrap_or_else(|gone| Err(io::Error::other(gone))) {
            self.folder.failed(&error);
            *stage = Stage::Ended(Ended::GivenUp);
            return Ok(false);
        }
        match source.await {
            Ok(source) => {
                *stage = Stage::Coming(Box::new(Coming {
                    source,
                    left: Bytes::new(),
                    gathered: BytesMut::new(),
                    writing: None,
                    sums: Some(Sums {
                        hasher: Hasher::new(self.digest.algorithm()),
                        of_blocks: BytesMut::new(),
                    }),
                }));
                Ok(true)
            }
            Err(error) => {
                *stage = Stage::Ended(Ended::GivenUp);
                Err(error)
            }
        }
    }

    /// Makes the file, if whoever wanted to before hasn't.
    fn make(&self) -> io::Result<()> {
        if self.file.get().is_some() {
            return Ok(());
        }
        let file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(self.folder.unfinished(&self.digest, self.room.entry.id))?;
        // Only one at a time is here: the stage is locked, and who was dropped while it waited for this made the same.
        let _ = self.file.set(file);
        Ok(())
    }

    fn file(&self) -> io::Result<&File> {
        self.file
            .get()
            .ok_or_else(|| io::Error::other("there is no file yet"))
    }

    /// Block `n`, when it is there.
    pub(super) async fn block(self: &Arc<Self>, n: u64) -> Result<Bytes, Ended> {
        loop {
            if n < self.there.load(Ordering::Acquire) {
                let filling = self.clone();
                let read = spawn_blocking(move || file::read(filling.file()?, filling.size, n)).await;
                return read
                    .unwrap_or_else(|gone| Err(io::Error::other(gone)))
                    .map_err(|error| {
                        self.folder.failed(&error);
                        Ended::GivenUp
                    });
            }
            let mut stage = self.stage.lock().await;
            let there = self.there.load(Ordering::Acquire);
            match &mut *stage {
                Stage::Coming(coming) if n >= there => match self.next(coming, there).await {
                    Ok(block) => {
                        if there + 1 == file::blocks(self.size) {
                            *stage = Stage::Whole;
                        }
                        self.there.store(there + 1, Ordering::Release);
                        if n == there {
                            return Ok(block);
                        }
                    }
                    Err(ended) => {
                        *stage = Stage::Ended(ended);
                        return Err(ended);
                    }
                },
                Stage::Coming(_) | Stage::Whole if n < there => {}
                Stage::Ended(ended) => return Err(*ended),
                Stage::New | Stage::Coming(_) | Stage::Whole => return Err(Ended::GivenUp),
            }
        }
    }

    /// Fetches block `n`, the next one, and writes it. With the last of them the digest is compared, before anybody has it.
    async fn next(self: &Arc<Self>, coming: &mut Coming, n: u64) -> Result<Bytes, Ended> {
        if coming.writing.is_none() {
            let wanted = file::block_length(self.size, n);
            coming.gather(wanted, &self.digest).await?;
            let block = coming.gathered.split().freeze();
            let sums = coming.sums.take().ok_or(Ended::GivenUp)?;
            let filling = self.clone();
            coming.writing = Some(spawn_blocking(move || filling.write(n, block, sums)));
        }
        let Some(writing) = &mut coming.writing else {
            return Err(Ended::GivenUp);
        };
        let written = writing.await;
        coming.writing = None;
        match written.unwrap_or_else(|gone| Err(io::Error::other(gone).into())) {
            Ok(Written { block, sums }) => {
                coming.sums = Some(sums);
                Ok(block)
            }
            Err(Failure::Disk(error)) => {
                self.folder.failed(&error);
                Err(Ended::GivenUp)
            }
            Err(Failure::Wrong) => {
                self.folder.metrics.cache_failure("content");
                tracing::warn!(digest = %self.digest, "the store has other bytes than these were: they aren't kept");
                Err(Ended::Wrong)
            }
        }
    }

    fn write(&self, n: u64, block: Bytes, mut sums: Sums) -> Result<Written, Failure> {
        let file = self.file()?;
        sums.hasher.update(&block);
        sums.of_blocks.extend_from_slice(&file::sum(&block));
        file.write_all_at(&block, n * BLOCK)?;
        if n + 1 == file::blocks(self.size) {
            let actual = sums.hasher.clone().digest().map_err(|_| Failure::Wrong)?;
            if actual != self.digest {
                return Err(Failure::Wrong);
            }
            file.write_all_at(&sums.of_blocks, self.size)?;
            let (folder, entry) = (&self.folder, self.room.entry);
            fs::rename(
                folder.unfinished(&self.digest, entry.id),
                folder.whole(&self.digest, entry.id),
            )?;
            folder.keep(&self.digest, entry);
        }
        Ok(Written { block, sums })
    }
}

impl Coming {
    /// Takes from the source until the next block, of `wanted` bytes, is here.
    async fn gather(&mut self, wanted: usize, digest: &Digest) -> Result<(), Ended> {
        self.gathered.reserve(wanted - self.gathered.len().min(wanted));
        while self.gathered.len() < wanted {
            if self.left.is_empty() {
                self.left = match self.source.next().await {
                    Some(Ok(piece)) => piece,
                    Some(Err(error)) => {
                        tracing::debug!(%digest, ?error, "a blob for the cache broke off");
                        return Err(match error.kind() {
                            StoreErrorKind::Corrupt => Ended::Wrong,
                            _ => Ended::GivenUp,
                        });
                    }
                    None => return Err(Ended::GivenUp),
                };
            }
            let piece = self.left.len().min(wanted - self.gathered.len());
            self.gathered.extend_from_slice(&self.left.split_to(piece));
        }
        Ok(())
    }
}

impl Drop for Filling {
    /// What didn't become whole goes.
    fn drop(&mut self) {
        if self.file.get().is_none() || matches!(self.stage.get_mut(), Stage::Whole) {
            return;
        }
        let (folder, path) = (
            self.folder.clone(),
            self.folder.unfinished(&self.digest, self.room.entry.id),
        );
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || folder.delete(&path))),
            Err(_) => folder.delete(&path),
        }
    }
}
