//! One read for many waiters: [`Coalesced`].
//!
//! Ten thousand nodes pull one tag at once. Each answer must come from a read that *begins* after the request arrived
//! (rule R6), so a request can't share a read that is already on its way. It can share the next one:
//! of each row (and of each set of rows that is read at one moment) at most one read is in flight and one queued behind it,
//! and a request joins the queued one.
//!
//! There is no task behind it: whichever waiter is polled drives the reads, so when waiters go away the others carry
//! on, and a read that nobody waits for any more is dropped. The memory is that of the waiters.
//!
//! Absent on purpose: a cache. No answer is given twice.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
    sync::Arc,
};

use async_trait::async_trait;
use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};
use parking_lot::Mutex;

use super::{Key, MetaStore, Op, Outcome, Page, Row, Space, StoreError, Version};

type Answer<T> = Result<T, Arc<StoreError>>;
type Read<T> = Shared<BoxFuture<'static, Answer<T>>>;
type WeakRead<T> = WeakShared<BoxFuture<'static, Answer<T>>>;

/// The store `M`, with the concurrent [`get`](MetaStore::get)s of one row sharing their reads, and the concurrent
/// [`snapshot`](MetaStore::snapshot)s of the same rows.
pub struct Coalesced<M: MetaStore + ?Sized> {
    inner: Arc<M>,
    rows: Reads<Key, Option<Row>>,
    snapshots: Reads<Vec<Key>, Vec<Option<Row>>>,
}

impl<M: MetaStore + ?Sized> Coalesced<M> {
    /// Wraps `inner`.
    pub fn new(inner: Arc<M>) -> Self {
        Self {
            inner,
            rows: Reads::default(),
            snapshots: Reads::default(),
        }
    }
}

/// The reads that somebody waits for, by what they read.
pub(crate) struct Reads<K, T: Clone>(Arc<Mutex<HashMap<K, ReadsOf<T>>>>);

/// The reads of one thing.
struct ReadsOf<T: Clone> {
    /// It may have begun: nobody joins it.
    running: WeakRead<T>,
    /// It begins when the running one has ended. Alive here means that it hasn't begun.
    queued: Option<WeakRead<T>>,
}

impl<K, T: Clone> Default for Reads<K, T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K, T> Reads<K, T>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// What a read of `key` gives that begins now or later. `read` makes one, which must not begin before it is polled.
    pub(crate) async fn wait<F>(
        &self,
        key: &K,
        operation: &'static str,
        read: impl Fn() -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let waiter = Waiter {
            read: self.join(key, &read),
            reads: self,
            key,
        };
        match &waiter.read {
            Some(read) => read
                .clone()
                .await
                .map_err(|error| StoreError::with_source(error.kind(), operation, error)),
            // A read that was never polled can always be shared; if not, it is read alone.
            None => read().await,
        }
    }

    /// The read that a request for `key` which arrives now waits for.
    fn join<F>(&self, key: &K, read: impl Fn() -> F) -> Option<Read<T>>
    where
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let begin = || read().map(|answer| answer.map_err(Arc::new));
        let mut reads = self.0.lock();
        match reads.entry(key.clone()) {
            Entry::Vacant(entry) => {
                let read = begin().boxed().shared();
                entry.insert(ReadsOf {
                    running: read.downgrade()?,
                    queued: None,
                });
                Some(read)
            }
            Entry::Occupied(entry) => {
                let of = entry.into_mut();
                if let Some(queued) = of.queued.as_ref().and_then(WeakShared::upgrade) {
                    return Some(queued);
                }
                if let Some(running) = unfinished(&of.running) {
                    let read = self.after(running, key.clone(), begin());
                    of.queued = Some(read.downgrade()?);
                    return Some(read);
                }
                let read = begin().boxed().shared();
                of.running = read.downgrade()?;
                of.queued = None;
                Some(read)
            }
        }
    }

    fn after(
        &self,
        running: Read<T>,
        key: K,
        read: impl Future<Output = Answer<T>> + Send + 'static,
    ) -> Read<T> {
        let reads = Self(self.0.clone());
        let read = async move {
            // Its answer is for those who asked before.
            drop(running.await);
            reads.promote(&key);
            read.await
        };
        read.boxed().shared()
    }

    /// The queued read of `key` is about to begin: from here on nobody joins it.
    fn promote(&self, key: &K) {
        if let Some(of) = self.0.lock().get_mut(key)
            && let Some(queued) = of.queued.take()
        {
            of.running = queued;
        }
    }
}

impl<K: Eq + Hash, T: Clone> Reads<K, T> {
    /// Forgets the reads of `key` if nobody waits for one.
    fn tidy(&self, key: &K) {
        let mut reads = self.0.lock();
        let idle = reads.get(key).is_some_and(|of| {
            let queued = of.queued.as_ref().and_then(WeakShared::upgrade);
            queued.is_none() && unfinished(&of.running).is_none()
        });
        if idle {
            reads.remove(key);
        }
    }
}

/// The read behind `read`, if it hasn't ended and somebody waits for it.
fn unfinished<T: Clone>(read: &WeakRead<T>) -> Option<Read<T>> {
    read.upgrade().filter(|read| read.peek().is_none())
}

/// A request that waits for a read; tidies up after itself, also when it is dropped half-way.
struct Waiter<'a, K: Eq + Hash, T: Clone> {
    read: Option<Read<T>>,
    reads: &'a Reads<K, T>,
    key: &'a K,
}

impl<K: Eq + Hash, T: Clone> Drop for Waiter<'_, K, T> {
    fn drop(&mut self) {
        // First, so that the last waiter finds nobody waiting.
        self.read = None;
        self.reads.tidy(self.key);
    }
}

#[async_trait]
impl<M: MetaStore + ?Sized> MetaStore for Coalesced<M> {
    async fn get(&self, key: &Key) -> Result<Option<Row>, StoreError> {
        let read = || {
            let (inner, key) = (self.inner.clone(), key.clone());
            async move { inner.get(&key).await }
        };
        self.rows.wait(key, "get", read).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Row>>, StoreError> {
        self.inner.get_many(keys).await
    }

    async fn snapshot(&self, keys: &[Key]) -> Result<Vec<Option<Row>>, StoreError> {
        let keys = keys.to_vec();
        let read = || {
            let (inner, keys) = (self.inner.clone(), keys.clone());
            async move { inner.snapshot(&keys).await }
        };
        self.snapshots.wait(&keys, "snapshot", read).await
    }

    async fn range(
        &self,
        space: Space,
        partition: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.inner.range(space, partition, prefix, after, limit).await
    }

    async fn transact(&self, version: Version, ops: &[Op]) -> Result<Outcome, StoreError> {
        self.inner.transact(version, ops).await
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use futures_util::{future::join_all, poll};

    use super::*;
    use crate::storage::{
        Expect, MemoryMeta, contract,
        dice::Dice,
        faulty::{FaultPlan, FaultRates, FaultyMeta},
    };

    /// Takes its time for a read, and counts them.
    struct Slow {
        inner: MemoryMeta,
        reads: AtomicUsize,
        delay: Duration,
    }

    impl Slow {
        fn new(delay: Duration) -> Arc<Self> {
            Arc::new(Self {
                inner: MemoryMeta::new(),
                reads: AtomicUsize::new(0),
                delay,
            })
        }

        fn reads(&self) -> usize {
            self.reads.load(Ordering::SeqCst)
        }
    }

    #[async_trait]
    impl MetaStore for Slow {
        async fn get(&self, key: &Key) -> Result<Option<Row>, StoreError> {
            self.reads.fetch_add(1, Ordering::SeqCst);
            let row = self.inner.get(key).await;
            tokio::time::sleep(self.delay).await;
            row
        }

        async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Row>>, StoreError> {
            self.inner.get_many(keys).await
        }

        async fn snapshot(&self, keys: &[Key]) -> Result<Vec<Option<Row>>, StoreError> {
            self.reads.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(self.delay).await;
            self.inner.snapshot(keys).await
        }

        async fn range(
            &self,
            s: Space,
            p: &str,
            x: &str,
            a: Option<&str>,
            l: usize,
        ) -> Result<Page, StoreError> {
            self.inner.range(s, p, x, a, l).await
        }

        async fn transact(&self, version: Version, ops: &[Op]) -> Result<Outcome, StoreError> {
            self.inner.transact(version, ops).await
        }
    }

    fn key() -> Key {
        Key {
            space: Space::Repositories,
            partition: "r".to_owned(),
            sort: "t#latest".to_owned(),
        }
    }

    /// Much longer than anything here takes but a read.
    const SLOW: Duration = Duration::from_millis(100);

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn it_keeps_the_contract() {
        contract::run_meta(Arc::new(Coalesced::new(Arc::new(MemoryMeta::new())))).await;
    }

    #[tokio::test]
    async fn a_thousand_gets_cost_two_reads() {
        let slow = Slow::new(SLOW);
        let store = Coalesced::new(slow.clone());
        let (key, begun) = (key(), std::time::Instant::now());
        join_all((0..1_000).map(|_| store.get(&key))).await;
        assert_eq!(slow.reads(), 2, "one for the first, one for the rest");
        assert!(begun.elapsed() >= 2 * SLOW);
        assert!(store.rows.0.lock().is_empty());
    }

    #[tokio::test]
    async fn a_thousand_snapshots_cost_two_reads() {
        let slow = Slow::new(SLOW);
        let store = Coalesced::new(slow.clone());
        let keys = [key()];
        let found = join_all((0..1_000).map(|_| store.snapshot(&keys))).await;
        assert!(found.into_iter().all(|rows| rows.unwrap() == [None]));
        assert_eq!(slow.reads(), 2, "one for the first, one for the rest");
        assert!(store.snapshots.0.lock().is_empty());
    }

    #[tokio::test]
    async fn a_get_never_joins_a_read_that_began_before_it() {
        let slow = Slow::new(SLOW);
        let store = Coalesced::new(slow.clone());
        let key = key();
        let mut before = store.get(&key);
        assert!(poll!(&mut before).is_pending());
        let op = key.clone().put(Expect::Absent, "x");
        store.transact(Version::random(), &[op]).await.unwrap();
        let (old, new) = tokio::join!(before, store.get(&key));
        assert!(old.unwrap().is_none(), "it read before the transaction");
        assert_eq!(new.unwrap().unwrap().bytes, "x");
    }

    #[tokio::test]
    async fn waiters_survive_the_one_that_drove_their_read() {
        let slow = Slow::new(SLOW);
        let store = Coalesced::new(slow.clone());
        let key = key();
        let (mut first, mut second, mut third) = (store.get(&key), store.get(&key), store.get(&key));
        assert!(poll!(&mut first).is_pending());
        assert!(poll!(&mut second).is_pending());
        assert!(poll!(&mut third).is_pending());
        drop(first);
        drop(second);
        tokio::time::timeout(30 * SLOW, third).await.unwrap().unwrap();
        assert!(store.rows.0.lock().is_empty());
    }

    #[tokio::test]
    async fn gets_that_are_dropped_leave_nothing_behind() {
        let slow = Slow::new(SLOW);
        let store = Coalesced::new(slow.clone());
        let key = key();
        let (mut first, mut second) = (store.get(&key), store.get(&key));
        assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
        drop(first);
        drop(second);
        assert!(store.rows.0.lock().is_empty());
        store.get(&key).await.unwrap();
        assert_eq!(
            slow.reads(),
            2,
            "the one in flight was dropped, the queued one never began"
        );
    }

    #[tokio::test]
    async fn an_error_reaches_every_waiter_and_is_forgotten() {
        let rates = FaultRates {
            unavailable: 1.0,
            ..FaultRates::default()
        };
        let plan = FaultPlan::new(1, rates);
        let store = Coalesced::new(Arc::new(FaultyMeta::new(Slow::new(SLOW), plan.clone())));
        let key = key();
        for result in join_all((0..5).map(|_| store.get(&key))).await {
            assert!(result.is_err());
        }
        plan.disable();
        assert!(store.get(&key).await.is_ok());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_get_begun_after_an_acknowledged_write_sees_it() {
        let slow = Slow::new(Duration::from_micros(200));
        let store = Arc::new(Coalesced::new(slow.clone()));
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let tracker = tokio_util::task::TaskTracker::new();
        let mut tasks = Vec::new();
        for n in 0..40 {
            let (store, acknowledged) = (store.clone(), acknowledged.clone());
            tasks.push(tracker.spawn(async move {
                let (key, mut dice) = (key(), Dice::new(n));
                for _ in 0..200 {
                    let least = acknowledged.load(Ordering::SeqCst);
                    let get = store.get(&key);
                    // Some give up half-way.
                    let patience = Duration::from_micros(if dice.below(4) == 0 { 150 } else { 1_000_000 });
                    if let Ok(row) = tokio::time::timeout(patience, get).await {
                        let bytes = row.unwrap().map_or(b"0".to_vec(), |row| row.bytes.to_vec());
                        let seen: usize = String::from_utf8(bytes).unwrap().parse().unwrap();
                        assert!(seen >= least, "{seen} after {least} was acknowledged");
                    }
                }
            }));
        }
        for n in 1..=300 {
            let op = key().put(Expect::Any, n.to_string());
            store.transact(Version::random(), &[op]).await.unwrap();
            acknowledged.store(n, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
        join_all(tasks).await.into_iter().for_each(|task| task.unwrap());
        assert!(store.rows.0.lock().is_empty());
        assert!(slow.reads() < 40 * 200, "{}", slow.reads());
    }
}
