//! How a row lies in DynamoDB: an item of four attributes, all of whose names are written here.

use std::collections::HashMap;

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use bytes::Bytes;

use crate::storage::{Entry, Expect, Row, StoreError, StoreErrorKind, Version};

/// The partition key, a string.
pub(super) const PARTITION: &str = "pk";
/// The sort key, a string; DynamoDB orders strings by their UTF-8 bytes.
pub(super) const SORT: &str = "sk";
/// The version, 16 bytes.
const VERSION: &str = "v";
/// The row's message, bytes.
const DATA: &str = "d";

/// An item, or the key of one.
pub(super) type Item = HashMap<String, AttributeValue>;

/// Where an item is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) table: &'a str,
    pub(super) partition: &'a str,
    pub(super) sort: &'a str,
}

impl Place<'_> {
    /// The item's key.
    pub(super) fn key(&self) -> Item {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        [(PARTITION, text(self.partition)), (SORT, text(self.sort))]
            .map(|(name, value)| (name.to_owned(), value))
            .into()
    }

    /// The whole item.
    pub(super) fn item(&self, version: Version, bytes: &Bytes) -> Item {
        let mut item = self.key();
        item.insert(VERSION.to_owned(), of_version(version));
        let data = AttributeValue::B(Blob::new(bytes.as_ref()));
        item.insert(DATA.to_owned(), data);
        item
    }
}

fn of_version(version: Version) -> AttributeValue {
    AttributeValue::B(Blob::new(version.to_bytes()))
}

/// The condition that says `expect`, and the values it names.
pub(super) fn condition(expect: Expect) -> (Option<String>, Option<Item>) {
    match expect {
        Expect::Any => (None, None),
        Expect::Absent => (Some(format!("attribute_not_exists({PARTITION})")), None),
        Expect::Version(version) => {
            let expected = (":v".to_owned(), of_version(version));
            (Some(format!("{VERSION} = :v")), Some([expected].into()))
        }
    }
}

/// The row in `item`.
pub(super) fn row(operation: &'static str, mut item: Item) -> Result<Row, StoreError> {
    let mut bytes = |name| match item.remove(name) {
        Some(AttributeValue::B(blob)) => Ok(blob.into_inner()),
        _ => Err(corrupt(
            operation,
            "an item without our attributes v and d, two binaries",
        )),
    };
    let version = <[u8; 16]>::try_from(bytes(VERSION)?)
        .map_err(|_| corrupt(operation, "an item whose version hasn't 16 bytes"))?;
    Ok(Row {
        bytes: bytes(DATA)?.into(),
        version: Version::from_bytes(version),
    })
}

/// The row in `item` and its sort key.
pub(super) fn entry(operation: &'static str, mut item: Item) -> Result<Entry, StoreError> {
    match item.remove(SORT) {
        Some(AttributeValue::S(sort)) => Ok(Entry {
            sort,
            row: row(operation, item)?,
        }),
        _ => Err(corrupt(operation, "an item without our sort key, a string")),
    }
}

/// Partition and sort key of `item`.
pub(super) fn keys<'a>(operation: &'static str, item: &'a Item) -> Result<(&'a str, &'a str), StoreError> {
    match (item.get(PARTITION), item.get(SORT)) {
        (Some(AttributeValue::S(partition)), Some(AttributeValue::S(sort))) => Ok((partition, sort)),
        _ => Err(corrupt(operation, "an item without our keys, two strings")),
    }
}

pub(super) fn corrupt(operation: &'static str, what: &'static str) -> StoreError {
    StoreError::with_source(StoreErrorKind::Corrupt, operation, what)
}
