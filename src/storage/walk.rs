//! Walking a whole store, for who looks after it (`fsck`). The stores that serve requests are [`MetaStore`] and [`BlobStore`],
//! which can't: so nothing that a client or a worker asks for ever walks.

use std::time::SystemTime;

use async_trait::async_trait;

use super::{BlobStore, Key, MetaStore, Row, Space, StoreError};

/// A metadata store all of whose rows can be read.
#[async_trait]
pub trait AllRows: MetaStore {
    /// Up to `limit` rows (1 to [`MAX_PAGE`](super::MAX_PAGE)) of a space, those after the key `after`, in an order that is the
    /// store's own but always the same. Each row that is there all the time is met once; strongly consistent, but no snapshot.
    /// DynamoDB wants the right to `Scan`.
    async fn walk(&self, space: Space, after: Option<&Key>, limit: usize) -> Result<Walked, StoreError>;
}

/// A piece of a space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// Rows in the store's own order.
    pub rows: Vec<(Key, Row)>,
    /// There may be more, after the last row; never set without one.
    pub more: bool,
}

/// A blob store all of whose objects can be listed.
#[async_trait]
pub trait AllObjects: BlobStore {
    /// Up to 1,000 objects whose keys come after `after`, in the byte order of keys. Each that is there all the time is met once.
    async fn list(&self, after: Option<&str>) -> Result<Listing, StoreError>;

    /// Multipart uploads that are neither completed nor aborted, [`MAX_UNFINISHED`] of them at most: towards which keys, and
    /// when they were begun. As far as the server tells: some list them by whole keys only.
    async fn unfinished(&self) -> Result<Vec<Listed>, StoreError>;

    /// Whether any object's key begins with the segment `folder`. Costs the same whatever there is.
    async fn has_any(&self, folder: &str) -> Result<bool, StoreError>;
}

/// Objects of one [`Listing`], as S3 bounds them.
pub(super) const MAX_LISTED: usize = 1_000;

/// Most multipart uploads that [`AllObjects::unfinished`] gives.
pub const MAX_UNFINISHED: usize = 10_000;

/// What a listing says of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its key, which need not be one of ours.
    pub key: String,
    /// Its length in bytes.
    pub length: u64,
    /// When it was written, by the store's clock, if that is known.
    pub written: Option<SystemTime>,
}

/// A piece of the list of all objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// In the byte order of their keys.
    pub objects: Vec<Listed>,
    /// There may be more, after the last; never set without one.
    pub more: bool,
}
