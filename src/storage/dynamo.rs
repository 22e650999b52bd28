//! Rows in DynamoDB, or in what speaks its protocol, for any number of members.
//!
//! A table for each [`Space`], all of one shape: partition key `pk` and sort key `sk`, the row's version `v` and its
//! message `d`. A ninth table holds the number of the schema.
//!
//! Absent on purpose: secondary indexes, which are only eventually consistent; scans, which cost what the table holds;
//! DynamoDB's own expiry, which deletes late and unconditionally, when nobody looks; batch writes, which know no
//! condition; and retries by the SDK (see [`client`]).

mod client;
mod driver;
mod examine;
mod fault;
mod items;
mod read;
mod tables;
mod version;
mod walk;
mod write;

#[cfg(test)]
mod server;
#[cfg(test)]
mod tests;

use async_trait::async_trait;

pub use self::tables::{ExaminedTable, TableState, TablesError};
use self::{client::Dynamo, items::Place, write::Write};
use super::{Effect, Expect, Key, MetaStore, Op, Outcome, Page, Row, Space, StoreError, Version, bounds};
use crate::config::{DynamoConfig, DynamoTables, Limits};

/// Rows in DynamoDB.
pub struct DynamoMeta {
    dynamo: Dynamo,
    tables: DynamoTables,
}

impl DynamoMeta {
    /// Opens the tables of `config`, makes those that are missing, and checks that their server has transactions and that
    /// this release may use them. Looks at each table once, so it takes the same time whatever they hold. Credentials come by the AWS chain: environment,
    /// profile, web identity, container, instance.
    ///
    /// # Errors
    /// [`TablesError`], which says what to change; nothing was written to a table then.
    pub async fn open(config: &DynamoConfig, limits: &Limits) -> Result<Self, TablesError> {
        Self::open_with(Dynamo::new(config, limits).await, &config.tables, limits).await
    }

    async fn open_with(dynamo: Dynamo, tables: &DynamoTables, limits: &Limits) -> Result<Self, TablesError> {
        tables::ensure(&dynamo, tables, limits.dynamo.create).await?;
        tables::have_transactions(&dynamo, tables).await?;
        version::agree(&dynamo, &tables.version).await?;
        Ok(Self {
            dynamo,
            tables: tables.clone(),
        })
    }

    fn table(&self, space: Space) -> &str {
        match space {
            Space::Repositories => &self.tables.repo_meta,
            Space::Manifests => &self.tables.image_meta,
            Space::Blobs => &self.tables.cache,
            Space::Links => &self.tables.repo_blobs_info,
            Space::Uploads => &self.tables.uploads,
            Space::Members => &self.tables.members,
            Space::Users => &self.tables.user_data,
            Space::ApiKeys => &self.tables.api_key,
        }
    }

    fn place<'a>(&'a self, key: &'a Key) -> Place<'a> {
        Place {
            table: self.table(key.space),
            partition: &key.partition,
            sort: &key.sort,
        }
    }
}

#[async_trait]
impl MetaStore for DynamoMeta {
    async fn get(&self, key: &Key) -> Result<Option<Row>, StoreError> {
        read::get(&self.dynamo, self.place(key)).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Row>>, StoreError> {
        bounds::check_keys(keys)?;
        let places: Vec<Place<'_>> = keys.iter().map(|key| self.place(key)).collect();
        read::get_many(&self.dynamo, &places).await
    }

    async fn snapshot(&self, keys: &[Key]) -> Result<Vec<Option<Row>>, StoreError> {
        bounds::check_keys(keys)?;
        let places: Vec<Place<'_>> = keys.iter().map(|key| self.place(key)).collect();
        read::snapshot(&self.dynamo, &places).await
    }

    async fn range(
        &self,
        space: Space,
        partition: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        bounds::check_limit(limit)?;
        let range = read::Range {
            table: self.table(space),
            partition,
            prefix,
            after,
            limit,
        };
        read::page(&self.dynamo, range).await
    }

    async fn transact(&self, version: Version, ops: &[Op]) -> Result<Outcome, StoreError> {
        bounds::check_transaction(ops)?;
        let asks_something = |op: &Op| (op.expect, &op.effect) != (Expect::Any, &Effect::Check);
        let writes: Vec<Write<'_>> = ops
            .iter()
            .enumerate()
            .filter(|(_, op)| asks_something(op))
            .map(|(index, op)| Write {
                index,
                place: self.place(&op.key),
                expect: op.expect,
                effect: &op.effect,
            })
            .collect();
        write::all(&self.dynamo, version, &writes).await
    }
}
