//! When keys were last used: counted in memory by whoever was shown one, and written in batches to rows of their own, never in a
//! request's way. A member that dies loses what it hasn't written.
//!
//! A row belongs to its key: it comes only while that is there, and goes with it.

use std::{collections::BTreeMap, time::Duration};

use parking_lot::Mutex;
use prost::Message as _;
use tokio_util::sync::CancellationToken;

use super::{ApiKeys, corrupt};
use crate::{
    clock,
    storage::{Expect, MAX_OPS, Op, Outcome, Row, StoreError, Version, keys, rows},
};

/// Keys that are written at once: each takes two operations.
const AT_ONCE: usize = MAX_OPS / 2;

/// A key, by its user and its id.
type Named = (String, String);

/// Uses that aren't written yet, of a bounded number of keys.
pub(super) struct Uses {
    last_ms: Mutex<BTreeMap<Named, u64>>,
    most: usize,
}

impl Uses {
    /// Remembers at most so many keys; uses of further ones aren't told of until those are written.
    pub(super) fn new(most: usize) -> Self {
        Self {
            last_ms: Mutex::default(),
            most,
        }
    }

    /// A key was used just now.
    pub(super) fn add(&self, user: &str, id: &str) {
        self.at((user.to_owned(), id.to_owned()), clock::now_ms());
    }

    pub(super) fn at(&self, named: Named, when_ms: u64) {
        let mut last_ms = self.last_ms.lock();
        let is_full = last_ms.len() >= self.most;
        match last_ms.get_mut(&named) {
            Some(last_ms) => *last_ms = when_ms.max(*last_ms),
            None if is_full => {}
            None => drop(last_ms.insert(named, when_ms)),
        }
    }

    pub(super) fn take(&self) -> BTreeMap<Named, u64> {
        std::mem::take(&mut *self.last_ms.lock())
    }
}

impl ApiKeys {
    /// Writes when keys were used, every so often, until `end`, and then once more.
    pub(in crate::auth) async fn write_uses(&self, interval: Duration, end: CancellationToken) {
        loop {
            let pause = tokio::time::sleep(interval);
            let ended = end.run_until_cancelled(pause).await.is_none();
            if let Err(error) = self.write().await {
                tracing::warn!(
                    ?error,
                    "when API keys were used can't be written; it is kept for the next time"
                );
            }
            if ended {
                return;
            }
        }
    }

    /// What can't be written now is kept for the next time.
    pub(super) async fn write(&self) -> Result<(), StoreError> {
        let used: Vec<(Named, u64)> = self.uses.take().into_iter().collect();
        let mut trouble = None;
        for batch in used.chunks(AT_ONCE) {
            let written = match trouble {
                None => self.write_batch(batch).await,
                Some(_) => Ok(false),
            };
            if !matches!(written, Ok(true)) {
                for (named, when_ms) in batch {
                    self.uses.at(named.clone(), *when_ms);
                }
            }
            trouble = trouble.or(written.err());
        }
        trouble.map_or(Ok(()), Err)
    }

    /// Whether it is written; where others came first it isn't.
    async fn write_batch(&self, batch: &[(Named, u64)]) -> Result<bool, StoreError> {
        let of_keys: Vec<_> = batch
            .iter()
            .map(|((user, id), _)| keys::users_api_key(user, id))
            .collect();
        let of_uses: Vec<_> = batch
            .iter()
            .map(|((user, id), _)| keys::api_key_use(user, id))
            .collect();
        let (found, before) = (
            self.meta.get_many(&of_keys).await?,
            self.meta.get_many(&of_uses).await?,
        );
        let mut ops: Vec<Op> = Vec::new();
        let rows = of_keys
            .into_iter()
            .zip(found)
            .zip(of_uses.into_iter().zip(before));
        for (((key, found), (of_use, before)), (_, when_ms)) in rows.zip(batch) {
            let Some(found) = found else { continue };
            let known_ms = before.as_ref().map(read).transpose()?.unwrap_or_default();
            if known_ms >= *when_ms {
                continue;
            }
            let row = rows::ApiKeyUse {
                min_reader: 1,
                last_ms: *when_ms,
            };
            ops.push(key.check(Expect::Version(found.version)));
            ops.push(of_use.put(Expect::unchanged(before.as_ref()), row.encode_to_vec()));
        }
        if ops.is_empty() {
            return Ok(true);
        }
        match self.meta.transact(Version::random(), &ops).await? {
            // The same once more would be as right.
            Outcome::Committed | Outcome::Unknown => Ok(true),
            Outcome::Refused { .. } => Ok(false),
        }
    }
}

/// When a key was last used, in milliseconds since the Unix epoch.
pub(super) fn read(row: &Row) -> Result<u64, StoreError> {
    let row = rows::ApiKeyUse::decode(row.bytes.clone());
    row.map(|row| row.last_ms)
        .map_err(|error| corrupt("read when an API key was used", error))
}
