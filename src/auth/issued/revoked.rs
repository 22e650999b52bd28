//! What was revoked and may still be shown: a list in the metadata store, which every member follows. There is one of API keys, which
//! may have tokens, and one of sessions.
//!
//! Whoever revokes writes the entry in the same transaction. An entry is there for longer than what it ends would have lived: minutes
//! for a key's tokens, for a session up to `sessionLength`, so that the list of sessions can become long; each has its own bound, so
//! that one that is too long doesn't take the other down. A member that is asked about what may be in a list reads all of it every
//! few seconds: so long does a revocation take to count everywhere. One that couldn't read it for too long asks at once, and
//! where that fails knows of nothing whether it holds.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::RwLock;
use tokio::time::{Duration, Instant, MissedTickBehavior, interval};

use crate::{
    clock,
    config::Limits,
    storage::{MAX_PAGE, MetaStore, Space, StoreError, StoreErrorKind, keys},
};

pub(in crate::auth) struct Revocations {
    meta: Arc<dyn MetaStore>,
    partition: &'static str,
    list: RwLock<List>,
    /// One look at a time.
    looking: tokio::sync::Mutex<()>,
    /// Whether it was asked for since the last look.
    is_asked_for: AtomicBool,
    every: Duration,
    trusted: Duration,
    bound: usize,
    margin: Duration,
}

#[derive(Default)]
struct List {
    ids: HashSet<String>,
    /// Everything that was revoked before is in it.
    as_of: Option<Instant>,
}

impl Revocations {
    /// That in `partition`. Nothing is read yet.
    pub(in crate::auth) fn new(meta: Arc<dyn MetaStore>, partition: &'static str, limits: &Limits) -> Self {
        Self {
            meta,
            partition,
            list: RwLock::default(),
            looking: tokio::sync::Mutex::default(),
            is_asked_for: AtomicBool::default(),
            every: limits.tokens.revocations_every,
            trusted: limits.tokens.revocations_trusted,
            bound: limits.tokens.revocations,
            margin: limits.registry.clock_margin,
        }
    }

    /// Whether what has this id was revoked.
    ///
    /// # Errors
    /// The list couldn't be read for too long.
    pub(in crate::auth) async fn has(&self, id: &str) -> Result<bool, StoreError> {
        self.has_within(id, self.trusted).await
    }

    /// The same, of a list that isn't older than this, unless no newer one can be read.
    ///
    /// # Errors
    /// The list couldn't be read for too long.
    pub(in crate::auth) async fn has_within(&self, id: &str, age: Duration) -> Result<bool, StoreError> {
        self.is_asked_for.store(true, Ordering::Relaxed);
        if let Some(known) = self.known(id, age) {
            return Ok(known);
        }
        let _turn = self.looking.lock().await;
        if let Some(known) = self.known(id, age) {
            return Ok(known);
        }
        match self.look().await {
            Ok(()) => Ok(self.list.read().ids.contains(id)),
            Err(error) => self.known(id, self.trusted).ok_or(error),
        }
    }

    /// That this one was revoked, by this member, and everybody can read that.
    pub(in crate::auth) async fn learn(&self, id: &str) {
        // A look that is under way may have begun before.
        let _turn = self.looking.lock().await;
        self.list.write().ids.insert(id.to_owned());
    }

    /// What the list says, where it is young enough.
    fn known(&self, id: &str, age: Duration) -> Option<bool> {
        let list = self.list.read();
        let is_young = list.as_of?.elapsed() < age.min(self.trusted);
        is_young.then(|| list.ids.contains(id))
    }

    /// Reads the list every few seconds as long as it is asked for, for ever. Whoever asks for it after a pause waits for a look.
    pub(in crate::auth) async fn follow(&self) {
        let mut ticks = interval(self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if !self.is_asked_for.swap(false, Ordering::Relaxed) {
                continue;
            }
            let _turn = self.looking.lock().await;
            if let Err(error) = self.look().await {
                tracing::warn!(%error, list = self.partition, "a list of what was revoked can't be read");
            }
        }
    }

    async fn look(&self) -> Result<(), StoreError> {
        let began = Instant::now();
        let mut ids = HashSet::new();
        let margin = u64::try_from(self.margin.as_millis()).unwrap_or(u64::MAX);
        // What has ended before needn't be known.
        let mut after = keys::revoked_before(clock::now_ms().saturating_sub(margin));
        loop {
            let page = self
                .meta
                .range(Space::ApiKeys, self.partition, "", Some(&after), MAX_PAGE)
                .await?;
            let found = page
                .entries
                .iter()
                .filter_map(|entry| keys::revocation_parts(&entry.sort));
            ids.extend(found.map(|(_, id)| id.to_owned()));
            if ids.len() > self.bound {
                let kind = StoreErrorKind::Unavailable;
                return Err(StoreError::new(kind, "read so long a list of what was revoked"));
            }
            match page.entries.into_iter().last() {
                Some(last) if page.more => after = last.sort,
                Some(_) | None => break,
            }
        }
        *self.list.write() = List {
            ids,
            as_of: Some(began),
        };
        Ok(())
    }
}
