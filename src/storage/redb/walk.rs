//! Walking a whole table, for who looks after it.

use std::ops::Bound;

use ::redb::{Database, ReadableDatabase as _};
use async_trait::async_trait;

use super::{ReadError, RedbMeta, Where, decode, table};
use crate::storage::{AllRows, Key, Space, StoreError, Walked, bounds};

#[async_trait]
impl AllRows for RedbMeta {
    async fn walk(&self, space: Space, after: Option<&Key>, limit: usize) -> Result<Walked, StoreError> {
        bounds::check_limit(limit)?;
        let after = after.cloned();
        self.read(Where::BlockingPool, "walk", move |database| {
            piece(database, space, after.as_ref(), limit)
        })
        .await
    }
}

fn piece(database: &Database, space: Space, after: Option<&Key>, limit: usize) -> Result<Walked, ReadError> {
    let read = database.begin_read()?;
    let table = read.open_table(table(space))?;
    let start = after.map_or(Bound::Unbounded, |after| {
        Bound::Excluded((after.partition.as_str(), after.sort.as_str()))
    });
    let mut walked = Walked::default();
    let mut size = 0;
    for row in table.range::<(&str, &str)>((start, Bound::Unbounded))? {
        let (key, value) = row?;
        if walked.rows.len() == limit || size >= bounds::PAGE_BYTES {
            walked.more = true;
            break;
        }
        let row = decode(value.value()).ok_or(ReadError::Corrupt)?;
        size += row.bytes.len();
        let (partition, sort) = key.value();
        let key = Key {
            space,
            partition: partition.to_owned(),
            sort: sort.to_owned(),
        };
        walked.rows.push((key, row));
    }
    Ok(walked)
}
