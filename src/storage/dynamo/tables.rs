//! The tables: told apart from others', and made when they are missing.
//!
//! Every table of ours has one schema: partition key `pk`, sort key `sk`, both strings, no index, no expiry, paid by the
//! request. Members that start at once may all try to make it; DynamoDB lets one of them.

use std::time::Duration;

use aws_sdk_dynamodb::{
    error::BuildError,
    types::{
        AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, TableDescription,
        TableStatus,
    },
};
use futures_util::future::join_all;
use tokio::time::{Instant, sleep_until};

use super::{
    client::Dynamo,
    fault::{Class, Fault},
    items::{PARTITION, SORT},
    write,
};
use crate::{config::DynamoTables, storage::StoreError};

/// How often a table that isn't usable yet is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// One table, as it was found.
#[derive(Debug)]
pub struct ExaminedTable {
    /// The configuration's key that names it.
    pub key: &'static str,
    /// Its name.
    pub table: String,
    /// What there is.
    pub state: Result<TableState, TablesError>,
}

/// Why the tables can't be used. None of these has changed anything in a table.
#[derive(Debug, thiserror::Error)]
pub enum TablesError {
    /// Somebody else's.
    #[error(
        "the table {table} (storage.cacheDriver.{key}) has the key {found}, ours has pk (HASH, S) and sk (RANGE, S): \
         it belongs to something else, zot perhaps, whose metadata is not ours, and was left as it is. Set \
         storage.cacheDriver.{key} to a name that is free; the table is made by itself"
    )]
    Foreign {
        /// The table.
        table: String,
        /// The configuration's key that names it.
        key: &'static str,
        /// Its key's attributes with their roles and types.
        found: String,
    },
    /// It doesn't exist and we can't make it.
    #[error(
        "the table {table} (storage.cacheDriver.{key}) doesn't exist and can't be made: allow dynamodb:CreateTable, or \
         make it with the partition key pk and the sort key sk, both of type String"
    )]
    Create {
        /// The table.
        table: String,
        /// The configuration's key that names it.
        key: &'static str,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// DynamoDB doesn't say what it is.
    #[error(
        "can't look at the table {table} (storage.cacheDriver.{key}): check region, endpoint and credentials, and allow dynamodb:DescribeTable"
    )]
    Describe {
        /// The table.
        table: String,
        /// The configuration's key that names it.
        key: &'static str,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// It doesn't become usable.
    #[error("the table {table} (storage.cacheDriver.{key}) is {status} and not usable after {} s", waited.as_secs())]
    NotActive {
        /// The table.
        table: String,
        /// The configuration's key that names it.
        key: &'static str,
        /// DynamoDB's word for its state.
        status: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// There are no transactions, or none that are allowed.
    #[error(
        "can't try a transaction (TransactWriteItems) in the table {table} (storage.cacheDriver.versionTablename), and every \
         push takes one: allow dynamodb:ConditionCheckItem, or use DynamoDB or a server that has them"
    )]
    Transactions {
        /// The table of the version.
        table: String,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// A newer release wrote what this one can't use.
    #[error(
        "the tables (storage.cacheDriver.versionTablename is {table}) have the schema {number}, which releases older than \
         schema {oldest} must not use; this one knows schema {ours}: run a newer release"
    )]
    Newer {
        /// The table of the version.
        table: String,
        /// The schema of the tables.
        number: u32,
        /// The oldest schema that may read and write them.
        oldest: u32,
        /// The schema of this release.
        ours: u32,
    },
    /// The version can't be read or written.
    #[error(
        "can't read or write the schema's number in the table {table} (storage.cacheDriver.versionTablename)"
    )]
    Version {
        /// The table of the version.
        table: String,
        /// Why.
        #[source]
        source: StoreError,
    },
}

/// Sees to it that all tables are there, ours and usable, within `patience`; asks for all at once.
pub(super) async fn ensure(
    dynamo: &Dynamo,
    tables: &DynamoTables,
    patience: Duration,
) -> Result<(), TablesError> {
    let tables = tables.by_key().map(|(key, table)| Table {
        dynamo,
        key,
        table,
        patience,
    });
    let ensured = join_all(tables.iter().map(Table::ensure)).await;
    ensured.into_iter().collect()
}

/// Sees that the tables' server knows transactions: one that doesn't makes tables, and then fails every push.
pub(super) async fn have_transactions(dynamo: &Dynamo, tables: &DynamoTables) -> Result<(), TablesError> {
    let table = &tables.version;
    let tried = write::try_transaction(dynamo, table).await;
    tried.map_err(|source| TablesError::Transactions {
        table: table.clone(),
        source,
    })
}

/// What there is under a table's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableState {
    /// A table of ours.
    Usable,
    /// Nothing: a start makes it.
    Missing,
    /// Something that is being made, deleted or otherwise not to be used now.
    Passing(TableStatus),
}

/// What there is under each of the names; nothing is made.
pub(super) async fn examine(dynamo: &Dynamo, tables: &DynamoTables) -> Vec<ExaminedTable> {
    let looks = tables.by_key().map(|(key, table)| async move {
        let looked = Table {
            dynamo,
            key,
            table,
            patience: Duration::ZERO,
        };
        ExaminedTable {
            key,
            table: table.to_owned(),
            state: looked.look().await,
        }
    });
    join_all(looks).await
}

struct Table<'a> {
    dynamo: &'a Dynamo,
    key: &'static str,
    table: &'a str,
    patience: Duration,
}

impl Table<'_> {
    async fn ensure(&self) -> Result<(), TablesError> {
        let deadline = Instant::now() + self.patience;
        loop {
            let status = match self.look().await? {
                TableState::Usable => return Ok(()),
                TableState::Missing => {
                    self.create().await?;
                    TableStatus::Creating
                }
                TableState::Passing(status) => status,
            };
            if Instant::now() >= deadline {
                return Err(TablesError::NotActive {
                    table: self.table.to_owned(),
                    key: self.key,
                    status: status.as_str().to_owned(),
                    waited: self.patience,
                });
            }
            sleep_until(deadline.min(Instant::now() + LOOK)).await;
        }
    }

    async fn look(&self) -> Result<TableState, TablesError> {
        let asked = self
            .dynamo
            .repeat(async || {
                let request = self.dynamo.sdk().describe_table().table_name(self.table);
                request.send().await.map_err(Fault::of_read)
            })
            .await;
        let described = match asked {
            Ok(answer) => answer.table,
            Err(fault) if fault.class == Class::Missing => return Ok(TableState::Missing),
            Err(fault) => {
                return Err(TablesError::Describe {
                    table: self.table.to_owned(),
                    key: self.key,
                    source: fault.into_store_error("describe table"),
                });
            }
        };
        let Some(description) = described else {
            return Ok(TableState::Missing);
        };
        let found = keys(&description);
        if found != [(PARTITION, "HASH", "S"), (SORT, "RANGE", "S")] {
            let attributes: Vec<String> = found
                .iter()
                .map(|(name, role, kind)| format!("{name} ({role}, {kind})"))
                .collect();
            return Err(TablesError::Foreign {
                table: self.table.to_owned(),
                key: self.key,
                found: attributes.join(" and "),
            });
        }
        Ok(match description.table_status {
            Some(TableStatus::Active | TableStatus::Updating) | None => TableState::Usable,
            Some(status) => TableState::Passing(status),
        })
    }

    async fn create(&self) -> Result<(), TablesError> {
        let failed = |fault: Fault| TablesError::Create {
            table: self.table.to_owned(),
            key: self.key,
            source: fault.into_store_error("create table"),
        };
        let (schema, attributes) = schema().map_err(|error| failed(Fault::new(Class::Misuse, error)))?;
        let made = self
            .dynamo
            .repeat(async || {
                let request = self
                    .dynamo
                    .sdk()
                    .create_table()
                    .table_name(self.table)
                    .set_key_schema(Some(schema.to_vec()))
                    .set_attribute_definitions(Some(attributes.to_vec()))
                    .billing_mode(BillingMode::PayPerRequest);
                request.send().await.map_err(Fault::of_read)
            })
            .await;
        match made {
            Ok(_) => {
                tracing::info!(table = self.table, key = self.key, "made a table");
                Ok(())
            }
            // Another member came first, or an attempt of ours whose answer was lost.
            Err(fault) if fault.class == Class::Exists => Ok(()),
            Err(fault) => Err(failed(fault)),
        }
    }
}

/// The attributes of a table's key, with their roles and types.
fn keys(description: &TableDescription) -> Vec<(&str, &str, &str)> {
    let kind = |name: &str| {
        description
            .attribute_definitions()
            .iter()
            .find(|definition| definition.attribute_name() == name)
            .map_or("?", |definition| definition.attribute_type().as_str())
    };
    description
        .key_schema()
        .iter()
        .map(|element| {
            let name = element.attribute_name();
            (name, element.key_type().as_str(), kind(name))
        })
        .collect()
}

type Schema = ([KeySchemaElement; 2], [AttributeDefinition; 2]);

fn schema() -> Result<Schema, BuildError> {
    let element = |name, role| {
        KeySchemaElement::builder()
            .attribute_name(name)
            .key_type(role)
            .build()
    };
    let attribute = |name| {
        AttributeDefinition::builder()
            .attribute_name(name)
            .attribute_type(ScalarAttributeType::S)
            .build()
    };
    Ok((
        [element(PARTITION, KeyType::Hash)?, element(SORT, KeyType::Range)?],
        [attribute(PARTITION)?, attribute(SORT)?],
    ))
}
