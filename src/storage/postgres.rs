//! Rows in PostgreSQL, for any number of members.
//!
//! One table in a schema of our own, keys as `bytea`, which compares by bytes whatever the database's collation. A request is
//! one statement and one round trip, without a name and without anything that a session keeps, so that PgBouncer may give each
//! another connection. A transaction is a call of a function that was made with the schema: it locks the rows in the order of their
//! keys, those that aren't there by rows that nobody else sees, looks at what is expected, and writes (see [`schema`]).
//!
//! A read is worth nothing from a server that isn't the primary any more. One in recovery says so with each answer. One that was
//! isolated doesn't know; where standbys are synchronous it can't commit either, so an answer counts once a write has been
//! acknowledged by the same server that began after it (see [`Confirmed`]).
//!
//! Absent on purpose: prepared statements with names, `LISTEN`, session settings; reads from standbys; a transaction that takes
//! several round trips.

mod driver;
mod error;
mod fault;
mod pool;
mod schema;
mod tls;
mod walk;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;
use tokio_postgres::{
    Row as SqlRow,
    types::{ToSql, Type},
};

pub use self::error::DatabaseError;
use self::{pool::Pool, schema::Statements};
use super::{
    Effect, Entry, Expect, Key, MetaStore, Op, Outcome, Page, Row, Space, StoreError, StoreErrorKind,
    Version, bounds,
    confirmed::Confirmed,
    fault::{Class, Fault},
};
use crate::config::{Limits, PostgresConfig};

/// How often something is read whose answer another server than the primary gives.
const READS: usize = 3;

/// A parameter of a statement.
type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// Rows in PostgreSQL.
pub struct PostgresMeta {
    pool: Pool,
    statements: Statements,
    confirmed: Confirmed,
}

impl PostgresMeta {
    /// Opens the schema of `config`, makes it if it is missing, and checks that its server keeps what it acknowledges.
    ///
    /// # Errors
    /// [`DatabaseError`], which says what to change.
    pub async fn open(config: &PostgresConfig, limits: &Limits) -> Result<Self, DatabaseError> {
        let pool = Pool::new(config, limits)?;
        schema::check_server(&pool).await?;
        schema::ensure(&pool, &config.schema).await?;
        Ok(Self::over(pool, &config.schema))
    }

    fn over(pool: Pool, schema: &str) -> Self {
        Self {
            pool,
            statements: Statements::new(schema),
            confirmed: Confirmed::default(),
        }
    }

    /// The rows of a statement that changes nothing, once they are known to be the primary's. The first three columns of each
    /// say whether they come of a primary, whether it has synchronous standbys, and which server it is.
    async fn read(
        &self,
        operation: &'static str,
        statement: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<SqlRow>, StoreError> {
        let deadline = Instant::now() + self.pool.patience();
        for _ in 0..READS {
            let rows = self
                .pool
                .read(operation, statement, parameters, is_of_primary)
                .await?;
            let Some(first) = rows.first() else {
                return Ok(rows);
            };
            let (fenced, server) = (column(operation, first, 1)?, column(operation, first, 2)?);
            if self.is_confirmed(operation, fenced, server).await? {
                return Ok(rows);
            }
            if Instant::now() > deadline {
                break;
            }
        }
        Err(not_the_primary(operation))
    }

    /// Whether the server that has answered is the primary still.
    async fn is_confirmed(
        &self,
        operation: &'static str,
        fenced: bool,
        server: &str,
    ) -> Result<bool, StoreError> {
        if !fenced {
            return Ok(true);
        }
        let write = || self.pool.confirm(operation, &self.statements.confirm);
        let primary = self
            .confirmed
            .confirm(operation, self.pool.patience(), write)
            .await?;
        if primary != server {
            self.pool.forget();
        }
        Ok(primary == server)
    }

    async fn rows(&self, operation: &'static str, keys: &[Key]) -> Result<Vec<Option<Row>>, StoreError> {
        bounds::check_keys(keys)?;
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let columns = Columns::of(keys.iter());
        let found = self
            .read(operation, &self.statements.get_many, &columns.parameters())
            .await?;
        if found.len() != keys.len() {
            return Err(corrupt(operation, "other rows than were asked for"));
        }
        found.iter().map(|row| stored(operation, row, 3)).collect()
    }

    /// Asks once for everything that is ever asked. The write depends on what can't be, so it has no effect.
    async fn try_rights(&self) -> Result<(), StoreError> {
        let key = Key {
            space: Space::Members,
            partition: "_verify".to_owned(),
            sort: "a".to_owned(),
        };
        self.get(&key).await?;
        self.rows("get_many", std::slice::from_ref(&key)).await?;
        self.range(key.space, &key.partition, "", None, 1).await?;
        let impossible = key.put(Expect::Version(Version::random()), "verify");
        match self.transact(Version::random(), &[impossible]).await? {
            Outcome::Refused { .. } => Ok(()),
            Outcome::Committed | Outcome::Unknown => Err(StoreError::with_source(
                StoreErrorKind::Unsupported,
                "transact",
                "a transaction wasn't refused whose conditions don't hold",
            )),
        }
    }
}

#[async_trait]
impl MetaStore for PostgresMeta {
    async fn get(&self, key: &Key) -> Result<Option<Row>, StoreError> {
        let parameters: [Parameter<'_>; 3] = [
            (&key.space.as_str(), Type::TEXT),
            (&key.partition.as_bytes(), Type::BYTEA),
            (&key.sort.as_bytes(), Type::BYTEA),
        ];
        match &*self.read("get", &self.statements.get, &parameters).await? {
            [row] => stored("get", row, 3),
            _ => Err(corrupt("get", "not one row for one key")),
        }
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Row>>, StoreError> {
        self.rows("get_many", keys).await
    }

    /// One statement sees one moment.
    async fn snapshot(&self, keys: &[Key]) -> Result<Vec<Option<Row>>, StoreError> {
        self.rows("snapshot", keys).await
    }

    async fn range(
        &self,
        space: Space,
        partition: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        const OPERATION: &str = "range";
        bounds::check_limit(limit)?;
        // The next one in the order of bytes.
        let first = match after {
            Some(after) if after >= prefix => [after.as_bytes(), b"\0"].concat(),
            _ => prefix.as_bytes().to_vec(),
        };
        let one_more = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
        let parameters: [Parameter<'_>; 6] = [
            (&space.as_str(), Type::TEXT),
            (&partition.as_bytes(), Type::BYTEA),
            (&first, Type::BYTEA),
            (&end_of(prefix), Type::BYTEA),
            (&one_more, Type::INT8),
            (&(bounds::PAGE_BYTES as i64), Type::INT8),
        ];
        let found = self.read(OPERATION, &self.statements.range, &parameters).await?;
        let mut page = Page::default();
        let mut size = 0;
        for row in &found {
            let Some(row_found) = stored(OPERATION, row, 4)? else {
                continue;
            };
            if page.entries.len() == limit {
                page.more = true;
                break;
            }
            let sort = column::<&[u8]>(OPERATION, row, 3)?.to_vec();
            let sort =
                String::from_utf8(sort).map_err(|_| corrupt(OPERATION, "a sort key that is no text"))?;
            size += row_found.bytes.len();
            page.entries.push(Entry { sort, row: row_found });
        }
        // Then the server left off.
        page.more |= size >= bounds::PAGE_BYTES;
        Ok(page)
    }

    async fn transact(&self, version: Version, ops: &[Op]) -> Result<Outcome, StoreError> {
        const OPERATION: &str = "transact";
        bounds::check_transaction(ops)?;
        let asks_something = |op: &Op| (op.expect, &op.effect) != (Expect::Any, &Effect::Check);
        let asked: Vec<(usize, &Op)> = ops
            .iter()
            .enumerate()
            .filter(|(_, op)| asks_something(op))
            .collect();
        if asked.is_empty() {
            return Ok(Outcome::Committed);
        }
        let columns = Columns::of(asked.iter().map(|(_, op)| &op.key));
        let expected: Vec<Option<Vec<u8>>> = asked.iter().map(|(_, op)| expectation(op.expect)).collect();
        let (effects, values): (Vec<i16>, Vec<Option<&[u8]>>) =
            asked.iter().map(|(_, op)| effect(&op.effect)).unzip();
        let stamp = version.to_bytes();
        let stamp = &stamp[..];
        let mut parameters: Vec<Parameter<'_>> = vec![(&stamp, Type::BYTEA)];
        parameters.extend(columns.parameters());
        parameters.push((&expected, Type::BYTEA_ARRAY));
        parameters.push((&effects, Type::INT2_ARRAY));
        parameters.push((&values, Type::BYTEA_ARRAY));
        let answer = self
            .pool
            .write(&self.statements.transact, &parameters, Answer::of)
            .await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(fault) if fault.class == Class::Unsure => {
                tracing::warn!(?fault, ?version, "nobody knows yet whether a write was applied");
                return Ok(Outcome::Unknown);
            }
            Err(fault) => return Err(fault.into_store_error(OPERATION)),
        };
        let wrote = answer.refused.is_none() && effects.iter().any(|effect| *effect != CHECK);
        let asks = answer.is_fenced && !wrote;
        if !self.is_confirmed(OPERATION, asks, &answer.server).await? {
            return Err(not_the_primary(OPERATION));
        }
        let Some(number) = answer.refused else {
            return Ok(Outcome::Committed);
        };
        match asked.get(number) {
            Some((index, _)) => Ok(Outcome::Refused {
                index: *index,
                current: answer.current,
            }),
            None => Err(corrupt(OPERATION, "a refusal of what wasn't asked")),
        }
    }
}

/// Keys, column by column.
struct Columns<'a> {
    spaces: Vec<&'static str>,
    partitions: Vec<&'a [u8]>,
    sorts: Vec<&'a [u8]>,
}

impl<'a> Columns<'a> {
    fn of(keys: impl Iterator<Item = &'a Key>) -> Self {
        let mut columns = Self {
            spaces: Vec::new(),
            partitions: Vec::new(),
            sorts: Vec::new(),
        };
        for key in keys {
            columns.spaces.push(key.space.as_str());
            columns.partitions.push(key.partition.as_bytes());
            columns.sorts.push(key.sort.as_bytes());
        }
        columns
    }

    fn parameters(&self) -> [Parameter<'_>; 3] {
        [
            (&self.spaces, Type::TEXT_ARRAY),
            (&self.partitions, Type::BYTEA_ARRAY),
            (&self.sorts, Type::BYTEA_ARRAY),
        ]
    }
}

/// As the function of the schema knows them.
const CHECK: i16 = 0;
const PUT: i16 = 1;
const DELETE: i16 = 2;

fn effect(effect: &Effect) -> (i16, Option<&[u8]>) {
    match effect {
        Effect::Check => (CHECK, None),
        Effect::Put(bytes) => (PUT, Some(bytes)),
        Effect::Delete => (DELETE, None),
    }
}

/// Nothing, or the version that a row must have: that of a row that isn't there is empty.
fn expectation(expect: Expect) -> Option<Vec<u8>> {
    match expect {
        Expect::Any => None,
        Expect::Absent => Some(Vec::new()),
        Expect::Version(version) => Some(version.to_bytes().to_vec()),
    }
}

/// What a transaction is answered.
struct Answer {
    /// The operation whose expectation doesn't hold, from 0.
    refused: Option<usize>,
    current: Option<Row>,
    is_fenced: bool,
    /// Which server answers.
    server: String,
}

impl Answer {
    fn of(rows: &[SqlRow]) -> Result<Self, Fault> {
        let garbled = |error: StoreError| Fault::new(Class::Unsure, error);
        let [row] = rows else {
            return Err(Fault::new(Class::Unsure, "not one row in the answer"));
        };
        let number = column::<i32>("transact", row, 0).map_err(garbled)?;
        Ok(Self {
            refused: usize::try_from(number)
                .ok()
                .and_then(|number| number.checked_sub(1)),
            current: stored("transact", row, 1).map_err(garbled)?,
            is_fenced: column("transact", row, 3).map_err(garbled)?,
            server: column("transact", row, 4).map_err(garbled)?,
        })
    }
}

/// Whether rows of a read come of a primary, as their first column says.
fn is_of_primary(rows: &[SqlRow]) -> Result<(), Fault> {
    match rows.iter().all(|row| row.try_get(0).unwrap_or(false)) {
        true => Ok(()),
        false => Err(fault::standby()),
    }
}

/// Where the keys with `prefix` end. No text has a byte 255.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    match end.last_mut() {
        Some(last) => *last += 1,
        None => end.push(255),
    }
    end
}

/// The row in the columns `at` (its version) and the next (its message), if there is one.
fn stored(operation: &'static str, row: &SqlRow, at: usize) -> Result<Option<Row>, StoreError> {
    let Some(version) = column::<Option<&[u8]>>(operation, row, at)? else {
        return Ok(None);
    };
    let version = <[u8; 16]>::try_from(version)
        .map_err(|_| corrupt(operation, "a row whose version hasn't 16 bytes"))?;
    Ok(Some(Row {
        bytes: Bytes::copy_from_slice(column(operation, row, at + 1)?),
        version: Version::from_bytes(version),
    }))
}

fn column<'a, T: tokio_postgres::types::FromSql<'a>>(
    operation: &'static str,
    row: &'a SqlRow,
    at: usize,
) -> Result<T, StoreError> {
    row.try_get(at)
        .map_err(|error| StoreError::with_source(StoreErrorKind::Corrupt, operation, error))
}

fn not_the_primary(operation: &'static str) -> StoreError {
    let said =
        "another server acknowledges writes: perhaps the one that has answered isn't the primary any more";
    StoreError::with_source(StoreErrorKind::Unavailable, operation, said)
}

fn corrupt(operation: &'static str, what: &'static str) -> StoreError {
    StoreError::with_source(StoreErrorKind::Corrupt, operation, what)
}
