//! Objects: what was written, and whether that is still there.
//!
//! The row that names an object has its length and its ETag. An object that is missing, or another one, is damage that only
//! whoever has the content can mend: a push of it writes an object of its own, which takes the place of the damaged one
//! ([`links`](super::links), [`manifests`](super::manifests)).
//!
//! What is short enough to be in memory is compared with its digest whenever it is read, and a wrong read is tried again:
//! nothing else is ever kept or given out. A longer blob is hashed as it goes by where that is asked for
//! ([`Settings::verify_reads`](super::Settings::verify_reads)), or where its object isn't known to be the one that was written.
//!
//! Absent on purpose: which objects are looked at that nobody asks for (`fsck`).

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use tokio::time::{Instant, timeout};

use super::{
    Damage, Registry, RegistryError, Result,
    hash::{Hasher, Hashing},
};
use crate::{
    oci::Digest,
    storage::{BlobStore, ByteStream, Object, ObjectKey, StoreError, StoreErrorKind},
};

/// How often what is short is read before its bytes are held to be wrong.
pub(super) const READS: usize = 3;
/// Hashing more than this goes where it delays nobody.
const FEW: usize = 64 << 10;

/// In the place of an ETag: all of the object was read, and had other bytes than were written. No store gives such an ETag, so to
/// whoever looks, the object is another one than was written: a push replaces it, and it is hashed when it is read.
pub(super) const SUSPECT: &str = "suspect";

/// An object as it was when it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) key: ObjectKey,
    pub(super) size: u64,
    /// Empty if it isn't known, or [`SUSPECT`].
    pub(super) etag: String,
}

impl Damage {
    /// What a failed read says of the object; of the store's own troubles nothing.
    pub(super) fn of(error: &StoreError) -> Option<Self> {
        match error.kind() {
            StoreErrorKind::NotFound => Some(Self::Missing),
            StoreErrorKind::Corrupt => Some(Self::Length),
            StoreErrorKind::Unavailable
            | StoreErrorKind::Throttled
            | StoreErrorKind::Contended
            | StoreErrorKind::Full
            | StoreErrorKind::InvalidPart
            | StoreErrorKind::Denied
            | StoreErrorKind::Unsupported
            | StoreErrorKind::Misuse => None,
        }
    }
}

impl Written {
    pub(super) fn is_suspect(&self) -> bool {
        self.etag == SUSPECT
    }

    /// What is wrong with the object that is there now.
    pub(super) fn damage(&self, found: Option<&Object>) -> Option<Damage> {
        match found {
            None => Some(Damage::Missing),
            Some(found) if found.length != self.size => Some(Damage::Length),
            // A store without ETags doesn't tell.
            Some(_) if self.is_suspect() => Some(Damage::Replaced),
            Some(found) if !found.is(self.size, &self.etag) => Some(Damage::Replaced),
            Some(_) => None,
        }
    }
}

/// Objects that were looked at or read lately, as many as fit.
pub(super) struct Seen {
    objects: Cache<ObjectKey, Sighting>,
    fresh: Duration,
}

#[derive(Clone, Copy)]
struct Sighting {
    at: Instant,
    found: Found,
}

/// What no look from outside tells is remembered, too: that the bytes are wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Whole,
    WrongBytes,
}

impl Seen {
    /// Remembers `count` objects, each for the time `fresh`.
    pub(super) fn new(count: usize, fresh: Duration) -> Self {
        Self {
            objects: Cache::new(count),
            fresh,
        }
    }

    fn lately(&self, object: &Written) -> Option<Found> {
        let sighting = self.objects.get(&object.key).filter(|_| !object.is_suspect())?;
        (sighting.at.elapsed() < self.fresh).then_some(sighting.found)
    }

    fn note(&self, key: &ObjectKey, damage: Option<Damage>) {
        let found = match damage {
            None => Found::Whole,
            Some(Damage::Bytes) => Found::WrongBytes,
            // Looked at again whenever somebody asks.
            Some(Damage::Missing | Damage::Length | Damage::Replaced) => {
                self.objects.remove(key);
                return;
            }
        };
        let at = Instant::now();
        self.objects.insert(key.clone(), Sighting { at, found });
    }
}

impl Registry {
    /// Looks at the object: what is wrong with it.
    pub(super) async fn inspect(&self, object: &Written) -> Result<Option<Damage>> {
        if self.seen.lately(object) == Some(Found::WrongBytes) {
            return Ok(Some(Damage::Bytes));
        }
        let damage = object.damage(self.blobs.head(&object.key).await?.as_ref());
        self.seen.note(&object.key, damage);
        Ok(damage)
    }

    /// What is wrong with the object, which is looked at if it wasn't seen for a while. When the store doesn't tell soon it
    /// counts as whole: the row says so.
    pub(super) async fn look(&self, object: &Written) -> Option<Damage> {
        match self.seen.lately(object) {
            Some(Found::Whole) => return None,
            Some(Found::WrongBytes) => return Some(Damage::Bytes),
            None => {}
        }
        match timeout(self.settings.limits.look_within, self.inspect(object)).await {
            Ok(Ok(damage)) => damage,
            Ok(Err(error)) => {
                tracing::debug!(key = %object.key, ?error, "an object can't be looked at");
                None
            }
            Err(_) => {
                tracing::debug!(key = %object.key, "an object can't be looked at in time");
                None
            }
        }
    }

    pub(super) fn noticed(&self, object: &Written, damage: Option<Damage>) {
        self.seen.note(&object.key, damage);
    }

    /// The bytes of `object`, which have `digest`, or what is wrong with it.
    pub(super) async fn whole(
        &self,
        object: &Written,
        digest: &Digest,
    ) -> Result<std::result::Result<Bytes, Damage>> {
        let (blobs, object, digest) = (self.blobs.clone(), object.clone(), digest.clone());
        let read = || {
            let (blobs, object, digest) = (blobs.clone(), object.clone(), digest.clone());
            async move { read_whole(&*blobs, &object, &digest).await }
        };
        let read = self.documents.wait(&object.key, "get", read).await?;
        self.seen.note(&object.key, read.as_ref().err().copied());
        Ok(read)
    }

    /// `bytes`, all those of `object`, hashed as they go by: without their last piece, and with an error in its place, if
    /// they don't have `digest`.
    pub(super) fn checked(&self, bytes: ByteStream, object: &Written, digest: &Digest) -> ByteStream {
        let checking = Checking {
            bytes,
            hashing: Some(Hashing::new(Hasher::new(digest.algorithm()))),
            held: None,
            digest: digest.clone(),
            key: object.key.clone(),
            seen: self.seen.clone(),
        };
        Box::pin(stream::try_unfold(checking, |mut checking| async move {
            Ok(checking.next().await?.map(|piece| (piece, checking)))
        }))
    }
}

impl Registry {
    /// The object as it is now, if all of its bytes have the digest, whatever its ETag, or what is wrong with it. Nothing of it is
    /// kept, and what is read wrongly is read again.
    pub(super) async fn rehash(
        &self,
        object: &Written,
        digest: &Digest,
        throttle: &Throttle,
    ) -> Result<std::result::Result<Object, Damage>> {
        let mut read = Err(Damage::Bytes);
        for _ in 0..READS {
            read = self.read_through(object, digest, throttle).await?;
            if read != Err(Damage::Bytes) {
                break;
            }
        }
        self.seen.note(&object.key, read.as_ref().err().copied());
        Ok(read)
    }

    async fn read_through(
        &self,
        object: &Written,
        digest: &Digest,
        throttle: &Throttle,
    ) -> Result<std::result::Result<Object, Damage>> {
        let damage = |error: StoreError| Damage::of(&error).map(Err).ok_or(RegistryError::from(error));
        let mut hashing = Hashing::new(Hasher::new(digest.algorithm()));
        let Some(last) = object.size.checked_sub(1) else {
            return match self.blobs.head(&object.key).await {
                Ok(Some(there)) if there.length == 0 => Ok(Ok(there)),
                Ok(Some(_)) => Ok(Err(Damage::Length)),
                Ok(None) => Ok(Err(Damage::Missing)),
                Err(error) => damage(error),
            };
        };
        let mut opened = match self.blobs.get(&object.key, 0, last).await {
            Ok(opened) => opened,
            Err(error) => return damage(error),
        };
        if opened.object.length != object.size {
            return Ok(Err(Damage::Length));
        }
        while let Some(piece) = opened.bytes.next().await {
            let piece = match piece {
                Ok(piece) => piece,
                Err(error) => return damage(error),
            };
            throttle.take(piece.len() as u64).await;
            hashing.update(piece).await?;
        }
        let actual = hashing.finish().await?.digest()?;
        Ok(match actual == *digest {
            true => Ok(opened.object),
            false => Err(Damage::Bytes),
        })
    }
}

/// How fast objects are read that no client waits for, by all who share it.
#[derive(Debug, Default)]
pub struct Throttle {
    /// 0 is as fast as it goes.
    bytes_per_second: u64,
    /// When what was taken so far will have been worth its time.
    paid: Mutex<Option<Instant>>,
}

impl Throttle {
    /// As fast as it goes.
    #[must_use]
    pub fn unbounded() -> Self {
        Self::default()
    }

    /// So many bytes a second; 0 is as fast as it goes.
    #[must_use]
    pub fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second,
            paid: Mutex::default(),
        }
    }

    /// Waits until so many bytes have been worth their time.
    pub(super) async fn take(&self, bytes: u64) {
        if self.bytes_per_second == 0 {
            return;
        }
        let worth = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let until = {
            let (mut paid, now) = (self.paid.lock(), Instant::now());
            let until = paid.map_or(now, |paid| paid.max(now)) + worth;
            *paid = Some(until);
            until
        };
        tokio::time::sleep_until(until).await;
    }
}

async fn read_whole(
    blobs: &dyn BlobStore,
    object: &Written,
    digest: &Digest,
) -> std::result::Result<std::result::Result<Bytes, Damage>, StoreError> {
    let Some(last) = object.size.checked_sub(1) else {
        return Ok(Ok(Bytes::new()));
    };
    for read in 1..=READS {
        let opened = match blobs.get(&object.key, 0, last).await {
            Ok(opened) => opened,
            Err(error) => return Damage::of(&error).map(Err).ok_or(error),
        };
        if opened.object.length != object.size {
            return Ok(Err(Damage::Length));
        }
        let mut bytes = BytesMut::with_capacity(usize::try_from(object.size).unwrap_or_default());
        let mut pieces = opened.bytes;
        while let Some(piece) = pieces.next().await {
            bytes.extend_from_slice(&piece?);
        }
        let bytes = bytes.freeze();
        if is(&bytes, digest).await? {
            return Ok(Ok(bytes));
        }
        tracing::warn!(key = %object.key, %digest, read, "an object was read with other bytes than were written");
    }
    Ok(Err(Damage::Bytes))
}

/// Whether `bytes` have `digest`.
pub(super) async fn is(bytes: &Bytes, digest: &Digest) -> std::result::Result<bool, StoreError> {
    let algorithm = digest.algorithm();
    let actual = match bytes.len() {
        0..=FEW => Digest::of(algorithm, bytes),
        _ => {
            let bytes = bytes.clone();
            let hashed = tokio::task::spawn_blocking(move || Digest::of(algorithm, &bytes)).await;
            hashed.map_err(|error| StoreError::with_source(StoreErrorKind::Unavailable, "hash", error))?
        }
    };
    Ok(actual == *digest)
}

/// A blob's bytes on their way out, one piece behind their digest.
struct Checking {
    bytes: ByteStream,
    // None at the end.
    hashing: Option<Hashing>,
    held: Option<Bytes>,
    digest: Digest,
    key: ObjectKey,
    seen: Arc<Seen>,
}

impl Checking {
    async fn next(&mut self) -> std::result::Result<Option<Bytes>, StoreError> {
        let failed = |error| match error {
            RegistryError::Store(error) => error,
            other => StoreError::with_source(StoreErrorKind::Unavailable, "hash", other),
        };
        while let Some(hashing) = &mut self.hashing {
            if let Some(piece) = self.bytes.next().await.transpose()? {
                hashing.update(piece.clone()).await.map_err(failed)?;
                match self.held.replace(piece) {
                    Some(held) => return Ok(Some(held)),
                    None => continue,
                }
            }
            let Some(hashing) = self.hashing.take() else { break };
            let actual = hashing.finish().await.and_then(Hasher::digest).map_err(failed)?;
            if actual != self.digest {
                self.seen.note(&self.key, Some(Damage::Bytes));
                let what = format!(
                    "{} was read with the digest {actual}, not {}",
                    self.key, self.digest
                );
                return Err(StoreError::with_source(StoreErrorKind::Corrupt, "get", what));
            }
            return Ok(self.held.take());
        }
        Ok(None)
    }
}
