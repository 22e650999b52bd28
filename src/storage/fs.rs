//! Objects in a directory of the local disk, for `dev` and for a single embedded member.
//!
//! ```text
//! root/blobs/3f.s/3f9a….o                 an object that was put whole: a file
//! root/blobs/3f.s/3f9a….o/                an object that was made of parts: a directory
//!                         parts           which parts, one line each, with the offset of its end
//!                         00001.<etag>    the bytes
//! root/blobs/3f.s/3f9a….<id>.u/           a multipart upload: becomes the above by a rename
//! root/blobs/3f.s/3f9a….<random>.t        a file that is being written
//! root/blobs/3f.s/3f9a….<random>.x/       a directory that is being deleted
//! ```
//!
//! `/` in a key is a directory, and so are the first two characters of long segments (`3f.s`), so that none gets too
//! many entries. No name of ours can be a segment of a key, which has no dot: keys never meet, and whatever a crash
//! leaves behind lies under its own key, where `sweep` finds it.
//!
//! What a call acknowledged is on the disk: files are synced before they get their names, directories afterwards, new
//! directories in their parents. Completing an upload copies and moves no byte.
//!
//! All I/O is on the blocking pool, a bounded number of jobs at a time. A stream that is read holds at most two pieces
//! of 256 KiB: the one it gave away and the one it reads ahead.
//!
//! Absent on purpose: checksums (the caller hashes what it must trust), and sharing the directory between processes.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use tokio::sync::Semaphore;

pub(super) use self::driver::FileBlobs;
use self::{blocking::run, disk::Disk, read::Reading};
use super::{
    BlobStore, Object, ObjectKey, Opened, Part, PartNumber, Payload, StoreError, StoreErrorKind, Unnamed,
    bounds,
};

mod blocking;
mod disk;
mod driver;
mod layout;
mod list;
mod read;

#[cfg(test)]
mod tests;

/// Most reads at a time, over all streams.
const READS: usize = 32;
/// Most writes at a time. They wait for the disk, so they have places of their own.
const WRITES: usize = 32;
/// The same as S3's: what works here works there.
const MIN_PART: u64 = 5 << 20;

/// Objects in a directory.
pub struct FsBlobs {
    disk: Arc<Disk>,
    reads: Arc<Semaphore>,
    writes: Arc<Semaphore>,
    min_part: u64,
}

impl FsBlobs {
    /// Opens the directory `root`, or makes it.
    pub async fn open(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let root = root.into();
        let disk = tokio::task::spawn_blocking(move || Disk::open(&root))
            .await
            .map_err(|error| StoreError::with_source(StoreErrorKind::Unavailable, "open", error))?
            .map_err(|error| StoreError::io("open", error))?;
        Ok(Self {
            disk: Arc::new(disk),
            reads: Arc::new(Semaphore::new(READS)),
            writes: Arc::new(Semaphore::new(WRITES)),
            min_part: MIN_PART,
        })
    }

    /// With another least length of parts: tests make many small ones. At least 1.
    #[must_use]
    pub fn with_min_part(mut self, min_part: u64) -> Self {
        self.min_part = min_part.max(1);
        self
    }

    /// Runs `job` on the blocking pool, when it has a place among the writes.
    async fn write<T: Send + 'static>(
        &self,
        operation: &'static str,
        job: impl FnOnce(&Disk) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let disk = self.disk.clone();
        run(&self.writes, operation, move || job(&disk)).await
    }
}

/// A file has no ETag: what could stand for one (an inode, a time) doesn't survive a restored backup.
fn untagged(length: u64) -> Object {
    Object {
        length,
        etag: String::new(),
    }
}

#[async_trait]
impl BlobStore for FsBlobs {
    async fn put(&self, key: &ObjectKey, payload: Payload) -> Result<String, StoreError> {
        let key = key.clone();
        self.write("put", move |disk| disk.put(&key, &payload)).await?;
        Ok(String::new())
    }

    async fn begin(&self, key: &ObjectKey) -> Result<String, StoreError> {
        let key = key.clone();
        self.write("begin", move |disk| disk.begin(&key)).await
    }

    async fn part(
        &self,
        key: &ObjectKey,
        upload: &str,
        number: PartNumber,
        payload: Payload,
    ) -> Result<String, StoreError> {
        let (key, upload) = (key.clone(), upload.to_owned());
        self.write("part", move |disk| disk.part(&key, &upload, number, &payload))
            .await
    }

    async fn complete(&self, key: &ObjectKey, upload: &str, parts: &[Part]) -> Result<String, StoreError> {
        bounds::check_parts(parts, self.min_part)?;
        let (key, upload, parts) = (key.clone(), upload.to_owned(), parts.to_vec());
        self.write("complete", move |disk| disk.complete(&key, &upload, &parts))
            .await?;
        Ok(String::new())
    }

    async fn last_part(&self, key: &ObjectKey, upload: &str) -> Result<Option<PartNumber>, StoreError> {
        let (key, upload) = (key.clone(), upload.to_owned());
        self.write("last_part", move |disk| disk.last_part(&key, &upload))
            .await
    }

    fn unnamed(&self) -> Unnamed {
        Unnamed::Vanish
    }

    async fn abort(&self, key: &ObjectKey, upload: &str) -> Result<(), StoreError> {
        let (key, upload) = (key.clone(), upload.to_owned());
        self.write("abort", move |disk| disk.abort(&key, &upload)).await
    }

    async fn get(&self, key: &ObjectKey, first: u64, last: u64) -> Result<Opened, StoreError> {
        bounds::check_range(first, last)?;
        let (disk, key) = (self.disk.clone(), key.clone());
        // One job opens the object and reads the first piece: a small object costs one trip to the pool.
        let (length, reading, piece) = run(&self.reads, "get", move || {
            let (length, mut reading) = Reading::open(&disk.object(&key), first, last)?;
            let piece = reading.piece()?;
            Ok((length, reading, piece))
        })
        .await?;
        Ok(Opened {
            object: untagged(length),
            bytes: read::stream(reading, piece, self.reads.clone()),
        })
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<Object>, StoreError> {
        let (disk, key) = (self.disk.clone(), key.clone());
        let length = run(&self.reads, "head", move || read::length(&disk.object(&key))).await?;
        Ok(length.map(untagged))
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let key = key.clone();
        self.write("delete", move |disk| disk.delete(&key)).await
    }

    async fn sweep(&self, prefix: &str, keep: &[ObjectKey]) -> Result<(), StoreError> {
        bounds::check_prefix(prefix)?;
        let (prefix, keep) = (prefix.to_owned(), keep.to_vec());
        self.write("sweep", move |disk| disk.sweep(&prefix, &keep)).await
    }

    fn min_part(&self) -> u64 {
        self.min_part
    }
}
