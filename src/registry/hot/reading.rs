//! The bytes of a hot blob on their way out.

use std::{io, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::task::spawn_blocking;

use super::{
    super::objects::Written,
    file::{BLOCK, Whole},
    fill::{Ended, Filling},
    folder::{Entry, Folder},
};
use crate::{
    oci::{Digest, ResolvedRange},
    storage::{BlobStore, ByteStream, StoreError, StoreErrorKind},
};

/// Where the rest is read when the disk doesn't give it.
#[derive(Clone)]
pub(in crate::registry) enum Rest {
    /// From this object, if it is still as it was written.
    Store(Arc<dyn BlobStore>, Written),
    /// Nowhere: what comes from there would have to be hashed from its beginning.
    Nowhere,
}

/// From where it is read.
pub(super) enum From {
    Disk(Disk),
    Store(ByteStream),
}

/// What is on this machine.
#[derive(Clone)]
pub(super) enum Disk {
    Whole(Arc<Whole>, Entry),
    Filling(Arc<Filling>),
}

pub(super) struct Reading {
    pub(super) folder: Arc<Folder>,
    pub(super) digest: Digest,
    pub(super) from: From,
    pub(super) range: ResolvedRange,
    pub(super) rest: Rest,
}

impl Reading {
    pub(super) fn stream(self) -> ByteStream {
        Box::pin(stream::try_unfold(self, |mut reading| async move {
            Ok(reading.next().await?.map(|piece| (piece, reading)))
        }))
    }

    /// The next bytes of the range, of which `first` is what is still to come.
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        loop {
            let disk = match &mut self.from {
                From::Store(bytes) => return bytes.next().await.transpose(),
                From::Disk(disk) => disk.clone(),
            };
            let ResolvedRange { first, last } = self.range;
            if first > last {
                return Ok(None);
            }
            let block = match disk {
                Disk::Whole(whole, entry) => self.of_file(whole, entry, first / BLOCK).await,
                Disk::Filling(filling) => filling.block(first / BLOCK).await,
            };
            match block {
                Ok(mut block) => {
                    let begin = first / BLOCK * BLOCK;
                    let within = |at: u64| usize::try_from(at - begin).unwrap_or(usize::MAX);
                    block.truncate(within(last.saturating_add(1)));
                    let piece = block.split_off(within(first).min(block.len()));
                    self.range.first += piece.len() as u64;
                    return Ok(Some(piece));
                }
                Err(Ended::Wrong) => {
                    let what = format!("{} was read with another digest", self.digest);
                    return Err(StoreError::with_source(StoreErrorKind::Corrupt, "get", what));
                }
                Err(Ended::GivenUp) => self.from = From::Store(self.rest().await?),
            }
        }
    }

    /// Block `n` of a file; one that isn't what it should be ends that.
    async fn of_file(&mut self, whole: Arc<Whole>, entry: Entry, n: u64) -> Result<Bytes, Ended> {
        let (folder, digest) = (self.folder.clone(), self.digest.clone());
        let read = move || {
            whole.block(n).map_err(|error: io::Error| {
                folder.drop_wrong(&digest, entry, &error);
                Ended::GivenUp
            })
        };
        spawn_blocking(read).await.unwrap_or(Err(Ended::GivenUp))
    }

    async fn rest(&mut self) -> Result<ByteStream, StoreError> {
        let ResolvedRange { first, last } = self.range;
        match &self.rest {
            Rest::Store(blobs, object) => {
                let opened = blobs.get(&object.key, first, last).await?;
                // What was given so far may have come from another one, and nobody compares the digest of both together.
                match object.damage(Some(&opened.object)) {
                    None => Ok(opened.bytes),
                    Some(damage) => {
                        let what = format!("{} was read in part when its object {damage}", self.digest);
                        Err(StoreError::with_source(StoreErrorKind::Corrupt, "get", what))
                    }
                }
            }
            Rest::Nowhere => Err(StoreError::with_source(
                StoreErrorKind::Unavailable,
                "get",
                "the cache gave up in the middle",
            )),
        }
    }
}
