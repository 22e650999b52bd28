//! Rows in Redis or Valkey, for any number of members.
//!
//! Two keys for each space: a hash of all its rows, `<prefix>:rows:<space>`, and a sorted set of their keys, `<prefix>:order:<space>`,
//! whose members all have the same score, so that they are in byte order. A member is the length of its partition, the
//! partition and the sort key. A row is its version, 16 bytes, and the message. `<prefix>:state` says which schema and which keyspace it is,
//! which process of a server has it and how many writes there were, `<prefix>:terms` how each process began.
//!
//! A request is one script and one round trip. Scripts run one after the other, so a transaction is one and a snapshot, too. Each is
//! declared to write, even if it only reads: a replica refuses it, and so does a server that lacks the replicas that it should have.
//!
//! A read is worth nothing from a server that isn't the one that takes writes any more. A connection is to a process, and each script
//! looks whether the keyspace is that one's; a server that knows of nothing is found out by what the member remembers (see [`ledger`]).
//! One that was isolated while a replica was promoted doesn't know. With `min-replicas-to-write` an answer counts once so many replicas
//! have a write that began after it (see [`Confirmed`]); they are more than half, so only one server at a time can have them.
//!
//! Absent on purpose: Cluster, reads from replicas, requests that share a connection, expiring keys.

mod connection;
mod driver;
mod error;
mod fault;
mod ledger;
mod pool;
mod protocol;
mod settings;
mod walk;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

pub use self::error::RedisError;
use self::{
    connection::Script,
    pool::{Call, Pool, Reply},
    protocol::Answer,
};
use super::{
    Effect, Entry, Expect, Key, MetaStore, Op, Outcome, Page, Row, Space, StoreError, StoreErrorKind,
    Version, bounds, confirmed::Confirmed, fault::Class,
};
use crate::config::{Durability, Limits, RedisConfig};

/// How often something is read whose answer another server than the one that takes writes gives.
const READS: usize = 3;
/// Digits of a partition's length, in hexadecimal.
const LENGTH: usize = 4;
/// Bytes of a version.
const VERSION: usize = 16;

/// Rows in Redis or Valkey.
pub struct RedisMeta {
    pool: Pool,
    prefix: String,
    durability: Durability,
    confirmed: Confirmed,
}

impl RedisMeta {
    /// Opens the keyspace of `config`, makes it if it is missing, and checks that its server keeps what it acknowledges.
    ///
    /// # Errors
    /// [`RedisError`], which says what to change.
    pub async fn open(config: &RedisConfig, limits: &Limits) -> Result<Self, RedisError> {
        let store = Self::over(config, Pool::new(config, limits, true)?);
        store.pool.open().await?;
        Ok(store)
    }

    /// Opens the keyspace of `config` if it is there.
    async fn open_existing(config: &RedisConfig, limits: &Limits) -> Result<Option<Self>, RedisError> {
        let store = Self::over(config, Pool::new(config, limits, false)?);
        Ok(store.pool.open().await?.then_some(store))
    }

    fn over(config: &RedisConfig, pool: Pool) -> Self {
        Self {
            pool,
            prefix: config.prefix.clone(),
            durability: config.durability,
            confirmed: Confirmed::default(),
        }
    }

    /// What a script answers that changes nothing, once it is known to be of the server that takes writes.
    async fn read(&self, operation: &'static str, call: &Call<'_>) -> Result<Vec<Answer>, StoreError> {
        let deadline = Instant::now() + self.pool.patience();
        for _ in 0..READS {
            let reply = self.pool.read(operation, call).await?;
            if self.is_confirmed(operation, &reply).await? {
                return listed(operation, reply.answer);
            }
            if Instant::now() > deadline {
                break;
            }
        }
        Err(not_the_primary(operation))
    }

    /// Whether the server that has answered is the one that takes writes still.
    async fn is_confirmed(&self, operation: &'static str, reply: &Reply) -> Result<bool, StoreError> {
        if !reply.is_fenced {
            return Ok(true);
        }
        let write = || self.pool.confirm(operation);
        let primary = self
            .confirmed
            .confirm(operation, self.pool.patience(), write)
            .await?;
        if primary != reply.run {
            self.pool.forget();
        }
        Ok(primary == reply.run)
    }

    async fn rows(&self, operation: &'static str, keys: &[Key]) -> Result<Vec<Option<Row>>, StoreError> {
        bounds::check_keys(keys)?;
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let hashes: Vec<String> = keys.iter().map(|key| self.hash(key.space)).collect();
        let members: Vec<Vec<u8>> = keys.iter().map(member).collect();
        let mut call = Call {
            script: Script::Read,
            keys: vec![self.pool.state()],
            arguments: members.iter().map(Vec::as_slice).collect(),
        };
        call.keys.extend(hashes.iter().map(String::as_bytes));
        let found = self.read(operation, &call).await?;
        if found.len() != keys.len() {
            return Err(corrupt(operation, "other rows than were asked for"));
        }
        found.into_iter().map(|row| stored(operation, row)).collect()
    }

    /// A piece of a space's order, between bounds as `ZRANGEBYLEX` has them; whether there may be more.
    async fn piece(
        &self,
        operation: &'static str,
        space: Space,
        bounds: [&[u8]; 2],
        limit: usize,
    ) -> Result<(Vec<(Key, Row)>, bool), StoreError> {
        bounds::check_limit(limit)?;
        let (hash, order) = (self.hash(space), self.order(space));
        let (limit, room) = (limit.to_string(), bounds::PAGE_BYTES.to_string());
        let [first, last] = bounds;
        let call = Call {
            script: Script::Range,
            keys: vec![self.pool.state(), hash.as_bytes(), order.as_bytes()],
            arguments: vec![first, last, limit.as_bytes(), room.as_bytes()],
        };
        let mut found = self.read(operation, &call).await?.into_iter();
        let more = found.next() == Some(Answer::Number(1));
        let mut rows = Vec::with_capacity(found.len() / 2);
        while let (Some(member), Some(row)) = (found.next(), found.next()) {
            let key = named(operation, space, &member)?;
            let row = stored(operation, row)?;
            rows.push((key, row.ok_or_else(|| corrupt(operation, "a key without a row"))?));
        }
        Ok((rows, more))
    }

    fn hash(&self, space: Space) -> String {
        format!("{}:rows:{}", self.prefix, space.as_str())
    }

    fn order(&self, space: Space) -> String {
        format!("{}:order:{}", self.prefix, space.as_str())
    }

    /// Asks once for everything that is ever asked. The write depends on what can't be, so it has no effect.
    async fn try_rights(&self) -> Result<(), StoreError> {
        let key = Key {
            space: Space::Members,
            partition: "_verify".to_owned(),
            sort: "a".to_owned(),
        };
        self.get(&key).await?;
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
impl MetaStore for RedisMeta {
    async fn get(&self, key: &Key) -> Result<Option<Row>, StoreError> {
        let mut rows = self.rows("get", std::slice::from_ref(key)).await?;
        Ok(rows.pop().flatten())
    }

    /// One script sees one moment.
    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Row>>, StoreError> {
        self.rows("get_many", keys).await
    }

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
        let of = |sort: &str| member_of(partition, sort);
        let first = match after {
            Some(after) if after >= prefix => [b"(", &of(after)[..]].concat(),
            _ => [b"[", &of(prefix)[..]].concat(),
        };
        // Where the members end that begin so: no text has a byte 255.
        let mut last = [b"(", &of(prefix)[..]].concat();
        if let Some(byte) = last.last_mut() {
            *byte += 1;
        }
        let (rows, more) = self.piece("range", space, [&first, &last], limit).await?;
        let entries = rows
            .into_iter()
            .map(|(Key { sort, .. }, row)| Entry { sort, row });
        Ok(Page {
            entries: entries.collect(),
            more,
        })
    }

    async fn transact(&self, version: Version, ops: &[Op]) -> Result<Outcome, StoreError> {
        const OPERATION: &str = "transact";
        bounds::check_transaction(ops)?;
        let names: Vec<[String; 2]> = ops
            .iter()
            .map(|op| [self.hash(op.key.space), self.order(op.key.space)])
            .collect();
        let members: Vec<Vec<u8>> = ops.iter().map(|op| member(&op.key)).collect();
        let expected: Vec<Vec<u8>> = ops.iter().map(|op| expectation(op.expect)).collect();
        let stamp = version.to_bytes();
        let mut call = Call {
            script: Script::Transact,
            keys: vec![self.pool.state()],
            arguments: vec![&stamp],
        };
        call.keys.extend(names.iter().flatten().map(String::as_bytes));
        for ((op, member), expected) in ops.iter().zip(&members).zip(&expected) {
            let (effect, bytes): (&[u8], &[u8]) = match &op.effect {
                Effect::Check => (b"c", b""),
                Effect::Put(bytes) => (b"p", bytes),
                Effect::Delete => (b"d", b""),
            };
            call.arguments.extend([member, expected, effect, bytes]);
        }
        let reply = match self.pool.write(&call, || Some(rows_of(ops))).await {
            Ok(reply) => reply,
            Err(fault) if fault.class == Class::Unsure => {
                tracing::warn!(?fault, ?version, "nobody knows yet whether a write was applied");
                return Ok(Outcome::Unknown);
            }
            Err(fault) => return Err(fault.into_store_error(OPERATION)),
        };
        if pool::has_written(&reply.answer) {
            return Ok(Outcome::Committed);
        }
        if !self.is_confirmed(OPERATION, &reply).await? {
            return Err(not_the_primary(OPERATION));
        }
        let mut words = listed(OPERATION, reply.answer)?.into_iter();
        match (words.next(), words.next()) {
            (Some(Answer::Number(0)), _) => Ok(Outcome::Committed),
            (Some(Answer::Number(number)), Some(row)) => match usize::try_from(number - 1) {
                Ok(index) if index < ops.len() => Ok(Outcome::Refused {
                    index,
                    current: stored(OPERATION, row)?,
                }),
                Ok(_) | Err(_) => Err(corrupt(OPERATION, "a refusal of what wasn't asked")),
            },
            _ => Err(corrupt(OPERATION, "another answer than to a transaction")),
        }
    }

    fn caveat(&self) -> Option<String> {
        let relaxed = match self.durability {
            Durability::Strict => None,
            Durability::Relaxed => Some(RELAXED.to_owned()),
        };
        let said: Vec<String> = relaxed.into_iter().chain(self.pool.lost()).collect();
        (!said.is_empty()).then(|| said.join("; "))
    }
}

/// What is to be known of a server that isn't held to what it acknowledges.
const RELAXED: &str =
    "storage.cacheDriver.durability is relaxed: the Redis server may lose what was acknowledged";

/// What a transaction writes, for people.
fn rows_of(ops: &[Op]) -> String {
    let written = ops.iter().filter(|op| op.effect != Effect::Check);
    let names: Vec<_> = written
        .map(|Op { key, .. }| format!("{} {} {}", key.space.as_str(), key.partition, key.sort))
        .collect();
    names.join(", ")
}

/// As the sorted set of its space has it: keys of one partition are together, in the byte order of their sort keys.
fn member(key: &Key) -> Vec<u8> {
    member_of(&key.partition, &key.sort)
}

fn member_of(partition: &str, sort: &str) -> Vec<u8> {
    let length = partition.len();
    format!("{length:0LENGTH$x}{partition}{sort}").into_bytes()
}

/// The key that a member is.
fn named(operation: &'static str, space: Space, member: &Answer) -> Result<Key, StoreError> {
    let text = match member {
        Answer::Text(bytes) => std::str::from_utf8(bytes).ok(),
        _ => None,
    };
    let parts = text.and_then(|text| {
        let (length, rest) = text.split_at_checked(LENGTH)?;
        rest.split_at_checked(usize::from_str_radix(length, 16).ok()?)
    });
    let (partition, sort) = parts.ok_or_else(|| corrupt(operation, "a key that is none"))?;
    Ok(Key {
        space,
        partition: partition.to_owned(),
        sort: sort.to_owned(),
    })
}

/// As the script knows it.
fn expectation(expect: Expect) -> Vec<u8> {
    match expect {
        Expect::Any => b"*".to_vec(),
        Expect::Absent => Vec::new(),
        Expect::Version(version) => version.to_bytes().to_vec(),
    }
}

/// The row that is stored, if there is one.
fn stored(operation: &'static str, row: Answer) -> Result<Option<Row>, StoreError> {
    let bytes: Bytes = match row {
        Answer::Nil => return Ok(None),
        Answer::Text(bytes) => bytes,
        Answer::Number(_) | Answer::List(_) | Answer::Refusal(_) => {
            return Err(corrupt(operation, "a row that is none"));
        }
    };
    let Some(version) = bytes.first_chunk::<VERSION>().copied() else {
        return Err(corrupt(operation, "a row without a version"));
    };
    Ok(Some(Row {
        version: Version::from_bytes(version),
        bytes: bytes.slice(VERSION..),
    }))
}

fn listed(operation: &'static str, answer: Answer) -> Result<Vec<Answer>, StoreError> {
    match answer {
        Answer::List(words) => Ok(words),
        Answer::Nil | Answer::Number(_) | Answer::Text(_) | Answer::Refusal(_) => {
            Err(corrupt(operation, "another answer than a list"))
        }
    }
}

fn not_the_primary(operation: &'static str) -> StoreError {
    let said =
        "another server acknowledges writes: perhaps the one that has answered doesn't take them any more";
    StoreError::with_source(StoreErrorKind::Unavailable, operation, said)
}

fn corrupt(operation: &'static str, what: &'static str) -> StoreError {
    StoreError::with_source(StoreErrorKind::Corrupt, operation, what)
}
