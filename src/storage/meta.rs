//! The metadata store: versioned rows in ordered partitions, and small conditional transactions.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

use super::StoreError;

/// Most operations in one transaction (the limit of DynamoDB's `TransactWriteItems`), and most keys in one `get_many`
/// (`BatchGetItem`).
pub const MAX_OPS: usize = 100;

/// A store of rows.
///
/// Contract, checked for every driver by the suite in `storage::contract`:
/// - Reads are strongly consistent: a read begun after a transaction was acknowledged sees it.
/// - `get_many` and `range` are not snapshots: rows in one answer may be of different moments. So may be two reads one
///   after the other: the first may show what a transaction did to one row, the second another row before it.
/// - A transaction happens whole or not at all, and only if every expectation holds at that moment.
/// - A committed `Put` stamps the row with the version of the transaction. Versions are 128 random bits that the caller
///   draws anew for every transaction it *means*; repeating one after [`Outcome::Unknown`] uses the same version.
/// - Row bytes are at most 350 KiB (DynamoDB: 400 KB with keys and attribute names).
#[async_trait]
pub trait MetaStore: Send + Sync + 'static {
    /// The row at `key`.
    async fn get(&self, key: &Key) -> Result<Option<Row>, StoreError>;

    /// The rows at `keys` (at most [`MAX_OPS`], distinct), in the order of `keys`.
    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Row>>, StoreError>;

    /// The rows at `keys` (at most [`MAX_OPS`], distinct), in the order of `keys`, as they were at one moment: of every
    /// transaction they show all that it did to them, or nothing. Dearer than `get_many` (DynamoDB: twice), and
    /// [`Contended`](super::StoreErrorKind::Contended) where transactions never leave the rows alone.
    async fn snapshot(&self, keys: &[Key]) -> Result<Vec<Option<Row>>, StoreError>;

    /// Up to `limit` rows (1 to [`MAX_PAGE`](super::MAX_PAGE)) of one partition whose sort key begins with `prefix` and is greater than `after`
    /// (which need not exist nor begin with `prefix`), in the byte order of sort keys.
    async fn range(
        &self,
        space: Space,
        partition: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page, StoreError>;

    /// Applies `ops` (1 to [`MAX_OPS`], distinct keys) if every expectation holds, else none of them.
    ///
    /// An `Err` means: not applied. Conflicts with other transactions are retried inside, with jitter and a bound.
    async fn transact(&self, version: Version, ops: &[Op]) -> Result<Outcome, StoreError>;

    /// What those who look after it should know of it while it is used all the same: a promise that it doesn't give, or has broken.
    fn caveat(&self) -> Option<String> {
        None
    }
}

/// The tables of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Space {
    /// Repository rows, tags, the catalogue (`repoMetaTablename`).
    Repositories,
    /// Manifests, references, referrers (`imageMetaTablename`).
    Manifests,
    /// Records of blobs, and due-rows (`cacheTablename`).
    Blobs,
    /// Which repository holds which blob (`repoBlobsInfoTablename`).
    Links,
    /// Upload sessions and their parts.
    Uploads,
    /// Leases.
    Members,
    /// Users' preferences and groups (`userDataTablename`).
    Users,
    /// API keys (`apiKeyTablename`).
    ApiKeys,
}

impl Space {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Repositories,
        Self::Manifests,
        Self::Blobs,
        Self::Links,
        Self::Uploads,
        Self::Members,
        Self::Users,
        Self::ApiKeys,
    ];

    /// A short stable name, for logs and for drivers that need one.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Repositories => "repositories",
            Self::Manifests => "manifests",
            Self::Blobs => "blobs",
            Self::Links => "links",
            Self::Uploads => "uploads",
            Self::Members => "members",
            Self::Users => "users",
            Self::ApiKeys => "api-keys",
        }
    }
}

/// Names one row. Built only by `storage::keys`, where the schema is written down.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The table.
    pub space: Space,
    /// Partition key.
    pub partition: String,
    /// Sort key.
    pub sort: String,
}

/// A row's version: the random id of the transaction that wrote it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version([u8; 16]);

impl Version {
    /// Draws a new one from the operating system's random numbers.
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        #[expect(
            clippy::expect_used,
            reason = "without random numbers nothing here is safe; Linux's never fail"
        )]
        crate::entropy::fill(&mut bytes).expect("the operating system has random numbers");
        Self(bytes)
    }

    /// The 16 bytes, for drivers.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// From the 16 bytes that a driver kept.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// A row as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The message, encoded.
    pub bytes: Bytes,
    /// The transaction that wrote it.
    pub version: Version,
}

/// One row of a [`Page`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its sort key.
    pub sort: String,
    /// The row.
    pub row: Row,
}

/// A piece of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Rows in the byte order of their sort keys.
    pub entries: Vec<Entry>,
    /// There may be more: ask again after the last entry. Never set with fewer entries than were asked for, unless
    /// the store bounds its answers by size (DynamoDB: 1 MiB).
    pub more: bool,
}

/// One operation of a transaction.
#[derive(Clone, Debug)]
pub struct Op {
    /// The row.
    pub key: Key,
    /// What must hold of it.
    pub expect: Expect,
    /// What becomes of it.
    pub effect: Effect,
}

/// What must hold of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// It doesn't exist.
    Absent,
    /// It has this version.
    Version(Version),
    /// Nothing.
    Any,
}

/// What becomes of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: the operation only checks.
    Check,
    /// It gets these bytes and the transaction's version.
    Put(Bytes),
    /// It is deleted; that it doesn't exist is no error.
    Delete,
}

/// How a transaction ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Applied, and durable.
    Committed,
    /// Not applied: the expectation of `ops[index]` doesn't hold (the lowest index, where several don't).
    Refused {
        /// Which operation.
        index: usize,
        /// The row as it is now.
        current: Option<Row>,
    },
    /// It may have been applied, may be applied later, or never.
    Unknown,
}

impl Key {
    /// An operation that puts `bytes` here if `expect` holds.
    pub fn put(self, expect: Expect, bytes: impl Into<Bytes>) -> Op {
        Op {
            key: self,
            expect,
            effect: Effect::Put(bytes.into()),
        }
    }

    /// An operation that deletes what is here if `expect` holds.
    pub fn delete(self, expect: Expect) -> Op {
        Op {
            key: self,
            expect,
            effect: Effect::Delete,
        }
    }

    /// An operation that only checks `expect`.
    pub fn check(self, expect: Expect) -> Op {
        Op {
            key: self,
            expect,
            effect: Effect::Check,
        }
    }
}

impl Expect {
    /// The row must be as it was read.
    pub fn unchanged(row: Option<&Row>) -> Self {
        row.map_or(Self::Absent, |row| Self::Version(row.version))
    }
}
