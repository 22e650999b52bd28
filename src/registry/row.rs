//! Rows to values and back. What stands in a row was valid when it was written, so anything else is corruption.

use bytes::Bytes;
use prost::Message;

use super::{RegistryError, Result};
use crate::{
    oci::{Digest, MediaType},
    storage::{ObjectKey, Row, StoreError, StoreErrorKind, rows},
};

/// A message that is a whole row.
pub(super) trait Stored: Message + Default {
    /// The oldest schema that may rewrite the row.
    fn min_reader(&self) -> u32;
}

macro_rules! stored {
    ($($message:ident),*) => {
        $(impl Stored for rows::$message {
            fn min_reader(&self) -> u32 {
                self.min_reader
            }
        })*
    };
}

stored!(
    Blob,
    Downloads,
    Due,
    FeedBatch,
    FeedHead,
    FollowerPlace,
    Link,
    Manifest,
    Mark,
    NameChange,
    Order,
    Parts,
    Plan,
    PlanBlob,
    PlanItems,
    PlanPart,
    Preference,
    Pull,
    Pulled,
    PullsSince,
    Referrer,
    Repository,
    RunPart,
    ScrubPlace,
    Session,
    Stars,
    Summary,
    Tag,
    TagEvent,
    Usage,
    Visit
);

/// The row's message, to look at.
pub(super) fn read<M: Stored>(row: &Row) -> Result<M> {
    M::decode(row.bytes.clone()).map_err(|error| corrupt("decode a row", error))
}

/// The row's message, to be changed and written back: refused if that would lose what a newer release wrote.
pub(super) fn read_to_rewrite<M: Stored>(row: &Row) -> Result<M> {
    let message: M = read(row)?;
    match message.min_reader() {
        min_reader if min_reader > rows::SCHEMA => Err(RegistryError::NewerSchema { min_reader }),
        _ => Ok(message),
    }
}

/// The message as a row holds it.
pub(super) fn bytes(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

/// A digest out of a row.
pub(super) fn digest(text: &str) -> Result<Digest> {
    Digest::parse(text).map_err(|error| corrupt("read a digest in a row", error))
}

/// A media type out of a row.
pub(super) fn media_type(text: &str) -> Result<MediaType> {
    MediaType::parse(text).map_err(|error| corrupt("read a media type in a row", error))
}

/// An object's key out of a row.
pub(super) fn object_key(text: &str) -> Result<ObjectKey> {
    ObjectKey::parse(text).ok_or_else(|| corrupt("read an object's key in a row", "malformed"))
}

/// A row, or an object, isn't what was written.
pub(super) fn corrupt(
    operation: &'static str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> RegistryError {
    StoreError::with_source(StoreErrorKind::Corrupt, operation, source).into()
}

/// The manifest, unless it is absent or deleted.
pub(super) fn live(found: Option<&Row>) -> Result<Option<rows::Manifest>> {
    let manifest: Option<rows::Manifest> = found.map(read).transpose()?;
    Ok(manifest.filter(|manifest| manifest.deleted_ms == 0))
}
