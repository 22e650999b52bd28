//! The two stores every member shares: metadata (rows) and blobs (objects).
//!
//! Both are traits, cut for DynamoDB and S3. A driver knows nothing of registries: the domain logic is written once,
//! above. Each trait is a contract in words (its docs), a suite that every driver runs (`contract`) and a wrapper
//! that injects faults (`faulty`). [`open()`] opens what a configuration names; nothing outside knows which drivers there are.
//!
//! Absent on purpose: transactions across the two stores (an object becomes visible through a row, never by itself)
//! and, where requests are served, any walk of either: that is another trait ([`AllRows`], [`AllObjects`]), for `fsck` alone.

mod blob;
mod bounds;
mod coalesced;
mod confirmed;
pub mod contract;
mod dice;
mod driver;
mod dynamo;
mod error;
pub mod keys;
pub mod faulty;
mod fault;
mod fs;
mod memory;
mod meta;
mod metered;
mod open;
pub(crate) mod pause;
mod postgres;
mod redb;
mod redis;
mod s3;
mod server_date;
mod walk;

/// Rows of the metadata store, as protobuf messages (`proto/portolan/store/v1`).
#[allow(missing_docs, rustdoc::all, clippy::all, clippy::unwrap_used)]
pub mod rows {
    tonic::include_proto!("portolan.store.v1");

    /// The schema this release reads and writes; see `min_reader` in the proto file.
    pub const SCHEMA: u32 = 1;
}

pub(crate) use self::coalesced::Reads;
pub use self::{
    blob::{BlobStore, ByteStream, Link, Object, ObjectKey, Opened, Part, PartNumber, Payload, Unnamed},
    bounds::{MAX_PAGE, MAX_ROW, MAX_TRANSACTION},
    coalesced::Coalesced,
    driver::{Look, OpenError, Seen},
    dynamo::{DynamoMeta, ExaminedTable, TableState, TablesError},
    error::{StoreError, StoreErrorKind},
    fs::FsBlobs,
    memory::{MemoryBlobs, MemoryMeta},
    meta::{Effect, Entry, Expect, Key, MAX_OPS, MetaStore, Op, Outcome, Page, Row, Space, Version},
    metered::{MeteredBlobs, MeteredMeta},
    open::{
        Examined, OpenStores, Stores, WholeStores, directory, examine, examine_here, identity, open,
        open_existing, summary,
    },
    postgres::{DatabaseError, PostgresMeta},
    redb::RedbMeta,
    redis::{RedisError, RedisMeta},
    s3::{S3Blobs, S3OpenError},
    walk::{AllObjects, AllRows, Listed, Listing, MAX_UNFINISHED, Walked},
};
