//! The blob store: objects that are written once, under keys that are never used again.

use std::{fmt, pin::Pin, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;

use super::StoreError;

/// A store of objects.
///
/// Contract, checked for every driver by the suite in `storage::contract`:
/// - An object appears whole or not at all: when `put` or `complete` returned, it is durable and every later `get`
///   sees all of it.
/// - `complete` builds the object from exactly the parts it names, in that order, or fails and there is none. A part that
///   was never uploaded is [`InvalidPart`](super::StoreErrorKind::InvalidPart). Where servers differ: a part that was
///   overwritten, named by its older ETag, is `InvalidPart` or has the older bytes; parts that aren't named vanish, or
///   there being some is `InvalidPart`: [`unnamed`](Self::unnamed) says which. Part numbers ascend and may have gaps.
/// - A part that comes when its upload is over is [`NotFound`](super::StoreErrorKind::NotFound), or taken by a server that
///   asks for no upload (s3proxy); it is in no object either way.
/// - Every part but the last has at least [`min_part`](Self::min_part) bytes.
/// - `delete` and `abort` of what doesn't exist succeed.
#[async_trait]
pub trait BlobStore: Send + Sync + 'static {
    /// Stores `payload` as the object `key`; gives its ETag ([`Object::etag`]).
    async fn put(&self, key: &ObjectKey, payload: Payload) -> Result<String, StoreError>;

    /// Begins a multipart upload that will become the object `key`; gives the store's id of it.
    async fn begin(&self, key: &ObjectKey) -> Result<String, StoreError>;

    /// Uploads a part; gives its ETag, a text that `complete` wants back. A part of the same number replaces the former.
    async fn part(
        &self,
        key: &ObjectKey,
        upload: &str,
        number: PartNumber,
        payload: Payload,
    ) -> Result<String, StoreError>;

    /// Makes the object from `parts`; gives its ETag ([`Object::etag`]), where the store's answer has it. Repeating a
    /// `complete` that succeeded is either a success or [`NotFound`](super::StoreErrorKind::NotFound): the caller then asks
    /// `head`.
    async fn complete(&self, key: &ObjectKey, upload: &str, parts: &[Part]) -> Result<String, StoreError>;

    /// The highest number of the parts that are there: a hint, for parts may be on their way. Asked where
    /// [`unnamed`](Self::unnamed) parts don't vanish.
    async fn last_part(&self, key: &ObjectKey, upload: &str) -> Result<Option<PartNumber>, StoreError>;

    /// What becomes of parts that `complete` doesn't name.
    fn unnamed(&self) -> Unnamed;

    /// Drops a multipart upload and its parts.
    async fn abort(&self, key: &ObjectKey, upload: &str) -> Result<(), StoreError>;

    /// The bytes from `first` to `last`, both included, of the object. The caller knows the object's length from a row.
    /// The stream yields exactly that many bytes or ends with an error. What the object is said to be comes with it.
    async fn get(&self, key: &ObjectKey, first: u64, last: u64) -> Result<Opened, StoreError>;

    /// A link by which whoever has it reads the whole object for the time `lives`, from the store itself and with nothing but the
    /// link. Nothing is asked of the store, so there may be no such object. `None` where a store gives nothing out by itself.
    async fn presign(&self, _key: &ObjectKey, _lives: Duration) -> Result<Option<Link>, StoreError> {
        Ok(None)
    }

    /// What the object is, if there is one.
    async fn head(&self, key: &ObjectKey) -> Result<Option<Object>, StoreError>;

    /// Deletes the object.
    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError>;

    /// Deletes these objects, whether they exist or not, in as few requests as the store allows (S3: 1,000 keys in one
    /// `DeleteObjects`). After an error some of them may be deleted.
    async fn delete_many(&self, keys: &[ObjectKey]) -> Result<(), StoreError> {
        for key in keys {
            self.delete(key).await?;
        }
        Ok(())
    }

    /// Deletes every object whose key begins with `prefix` but those in `keep`, and aborts every multipart upload under
    /// it but those towards `keep`. For what a crash may have left behind: never called while a request is served.
    async fn sweep(&self, prefix: &str, keep: &[ObjectKey]) -> Result<(), StoreError>;

    /// Least length of a part that isn't the last, in bytes (S3: 5 MiB).
    fn min_part(&self) -> u64;
}

/// What a store says of an object. It is written once, so what it says never changes, unless someone else has been at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its length in bytes.
    pub length: u64,
    /// Its ETag, without quotes: the same for as long as the object is the one that was written. Empty where the store
    /// knows none (a directory), or doesn't tell.
    pub etag: String,
}

impl Object {
    /// Whether it can be the object that had this length and this ETag when it was written; an ETag that isn't known fits
    /// any.
    pub fn is(&self, length: u64, etag: &str) -> bool {
        self.length == length && (etag.is_empty() || self.etag.is_empty() || self.etag == etag)
    }
}

/// What a store does about parts that `complete` doesn't name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unnamed {
    /// They vanish.
    Vanish,
    /// As long as there are any, `complete` fails (Ceph). They can be overwritten: whoever then names the ETag of the former
    /// part fails, or gets the former bytes.
    Overwrite,
    /// As long as there are any, `complete` fails. To overwrite one isn't safe: whoever names the ETag of the former part
    /// gets the later bytes.
    Doom,
}

/// A range of an object, to be read.
pub struct Opened {
    /// The whole object.
    pub object: Object,
    /// The bytes of the range.
    pub bytes: ByteStream,
}

/// A URL that needs no credentials: it is as good as the object's bytes for as long as it lives, so `Debug` doesn't show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Link(String);

impl Link {
    /// Wraps a URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The URL, for the one client that may have it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[a link]")
    }
}

/// A stream of an object's bytes. An error ends it; a clean end means that all bytes were there.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, StoreError>> + Send>>;

/// Names an object: path segments of `[a-z0-9_-]`, joined by `/`, 1 to 200 bytes. Nobody may make a key of the first
/// segments of another: where stores are folders (versitygw), one of the two can't be written.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// `key`, if it has the form above.
    pub fn parse(key: &str) -> Option<Self> {
        let segment = |s: &str| {
            !s.is_empty()
                && s.bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
        };
        (key.len() <= 200 && key.split('/').all(segment)).then(|| Self(key.to_owned()))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Bytes to store, as they came from the socket: several pieces, so that nothing is copied together. It is bounded by
/// the part size and can be sent again when the store drops a request.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    chunks: Vec<Bytes>,
    length: u64,
}

impl Payload {
    /// Appends `chunk`.
    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.length += chunk.len() as u64;
            self.chunks.push(chunk);
        }
    }

    /// Number of bytes.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The pieces, in order.
    pub fn chunks(&self) -> &[Bytes] {
        &self.chunks
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        let mut payload = Self::default();
        payload.push(bytes);
        payload
    }
}

/// Number of a part, 1 to 10,000 (the range of S3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartNumber(u16);

impl PartNumber {
    /// The highest.
    pub const MAX: u32 = 10_000;

    /// `number`, if it is in range.
    pub fn new(number: u32) -> Option<Self> {
        (1..=Self::MAX)
            .contains(&number)
            .then(|| u16::try_from(number).ok())
            .flatten()
            .map(Self)
    }

    /// As a number.
    pub fn get(self) -> u32 {
        self.0.into()
    }
}

/// A part as `complete` names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its number.
    pub number: PartNumber,
    /// The ETag that `part` gave.
    pub etag: String,
    /// Its length in bytes.
    pub length: u64,
}
