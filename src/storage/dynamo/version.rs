//! The number of the schema in the tables, one row of the table of the version: what a newer release wrote is refused
//! before anything of it is read. Absent on purpose: upgrades; there has been one schema so far.

use prost::Message as _;

use super::{
    client::Dynamo,
    items::Place,
    read,
    tables::TablesError,
    write::{self, Write},
};
use crate::storage::{
    Effect, Expect, Outcome, Row, StoreError, StoreErrorKind, Version,
    rows::{SCHEMA, Schema},
};

/// How often it is looked again, when others write it at the same time or an answer is lost.
const LOOKS: usize = 3;

/// Checks that this release may use the tables, and says so in `table` if nobody has yet.
pub(super) async fn agree(dynamo: &Dynamo, table: &str) -> Result<(), TablesError> {
    match read_or_write(dynamo, table).await {
        Ok(found) => allows(&found, table),
        Err(source) => Err(TablesError::Version {
            table: table.to_owned(),
            source,
        }),
    }
}

/// Checks that this release may use the tables, and writes nothing.
pub(super) async fn examine(dynamo: &Dynamo, table: &str) -> Result<(), TablesError> {
    let found = read::get(dynamo, place(table)).await;
    match found.and_then(|row| row.as_ref().map(decode).transpose()) {
        Ok(Some(found)) => allows(&found, table),
        Ok(None) => Ok(()),
        Err(source) => Err(TablesError::Version {
            table: table.to_owned(),
            source,
        }),
    }
}

fn place(table: &str) -> Place<'_> {
    Place {
        table,
        partition: "schema",
        sort: ".",
    }
}

async fn read_or_write(dynamo: &Dynamo, table: &str) -> Result<Schema, StoreError> {
    let place = place(table);
    let ours = Schema {
        number: SCHEMA,
        oldest_reader: SCHEMA,
        oldest_writer: SCHEMA,
    };
    for _ in 0..LOOKS {
        if let Some(row) = read::get(dynamo, place).await? {
            return decode(&row);
        }
        let put = Effect::Put(ours.encode_to_vec().into());
        let write = Write {
            index: 0,
            place,
            expect: Expect::Absent,
            effect: &put,
        };
        match write::all(dynamo, Version::random(), &[write]).await? {
            Outcome::Committed => return Ok(ours),
            Outcome::Refused { .. } | Outcome::Unknown => {}
        }
    }
    Err(StoreError::new(
        StoreErrorKind::Contended,
        "write the schema's number",
    ))
}

fn decode(row: &Row) -> Result<Schema, StoreError> {
    Schema::decode(row.bytes.clone())
        .map_err(|error| StoreError::with_source(StoreErrorKind::Corrupt, "read the schema's number", error))
}

fn allows(found: &Schema, table: &str) -> Result<(), TablesError> {
    let oldest = found.oldest_reader.max(found.oldest_writer);
    if oldest <= SCHEMA {
        return Ok(());
    }
    Err(TablesError::Newer {
        table: table.to_owned(),
        number: found.number,
        oldest,
        ours: SCHEMA,
    })
}
