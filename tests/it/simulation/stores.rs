//! The stores as a member reaches them: over a network that may be cut, with answers that may not come. What was sent may
//! happen all the same, and whether the member still runs doesn't matter to it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use portolan::storage::{
    BlobStore, Effect, Expect, Key, MemoryBlobs, MemoryMeta, MetaStore, Object, ObjectKey, Op, Opened,
    Outcome, Page, Part, PartNumber, Payload, Row, Space, StoreError, StoreErrorKind, Unnamed, Version,
    faulty::{FaultyBlobs, FaultyMeta},
};
use tokio::{sync::oneshot, time::timeout};
use tokio_util::task::TaskTracker;

use super::{
    network::{Host, Net},
    trace::Trace,
};

/// How long a driver waits for an answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Where both stores are.
pub(super) const STORE: Host = Host::V4(std::net::Ipv4Addr::new(127, 0, 0, 100));

/// A fault of the store that no store may have, to see whether the simulation would notice a wrong rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weakness {
    None,
    /// A change of a repository is applied whatever its row's version is.
    IgnoresVersions,
    /// Reads give what was there at the last read of that row, once in a while.
    StaleReads,
}

/// The way from a member to a store.
#[derive(Clone)]
struct Way {
    net: Net,
    member: Host,
    calls: TaskTracker,
    trace: Trace,
}

impl Way {
    /// Lets `call` happen at the store. Gives nothing if no answer comes.
    async fn call<T: Send + 'static>(
        &self,
        what: &'static str,
        call: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        let way = self.clone();
        self.calls.spawn(async move {
            let host = super::number(way.member);
            way.passes(way.member, STORE).await;
            let result = call.await;
            way.trace.note(what, &[host]);
            way.passes(STORE, way.member).await;
            // Nobody may wait any more.
            let _ = answer.send(result);
        });
        timeout(PATIENCE, answered).await.ok()?.ok()
    }

    async fn passes(&self, from: Host, to: Host) {
        std::future::poll_fn(|cx| self.net.poll_way(from, to, cx)).await;
        tokio::time::sleep(self.net.latency()).await;
    }
}

fn no_answer(operation: &'static str) -> StoreError {
    StoreError::with_source(StoreErrorKind::Unavailable, operation, "no answer came")
}

/// Both stores, as all members reach them.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) meta: Arc<FaultyMeta<MemoryMeta>>,
    pub(super) blobs: Arc<FaultyBlobs<MemoryBlobs>>,
    pub(super) weakness: Weakness,
    pub(super) calls: TaskTracker,
}

impl Shared {
    /// As `member` reaches them.
    pub(super) fn of(&self, member: Host, net: &Net, trace: &Trace) -> portolan::app::Stores {
        let way = Way {
            net: net.clone(),
            member,
            calls: self.calls.clone(),
            trace: trace.clone(),
        };
        portolan::app::Stores {
            meta: Arc::new(RemoteMeta {
                way: way.clone(),
                inner: self.meta.clone(),
                weakness: self.weakness,
                old: Arc::default(),
            }),
            blobs: Arc::new(RemoteBlobs {
                way,
                inner: self.blobs.clone(),
            }),
        }
    }
}

struct RemoteMeta {
    way: Way,
    inner: Arc<FaultyMeta<MemoryMeta>>,
    weakness: Weakness,
    // What a stale read finds.
    old: Arc<parking_lot::Mutex<std::collections::BTreeMap<Key, Option<Row>>>>,
}

impl RemoteMeta {
    /// What the row was when it was last read, every other time.
    fn aged(&self, key: &Key, now: Option<Row>) -> Option<Row> {
        if self.weakness != Weakness::StaleReads {
            return now;
        }
        let mut old = self.old.lock();
        match old.remove(key) {
            Some(then) => then,
            None => {
                old.insert(key.clone(), now.clone());
                now
            }
        }
    }

    /// The transaction without the versions that fence repositories.
    fn weakened(&self, ops: &[Op]) -> Vec<Op> {
        let mut ops = ops.to_vec();
        for op in &mut ops {
            let is_fence = op.key.space == Space::Repositories && matches!(op.effect, Effect::Put(_));
            if is_fence && self.weakness == Weakness::IgnoresVersions {
                op.expect = Expect::Any;
            }
        }
        ops
    }
}

#[async_trait]
impl MetaStore for RemoteMeta {
    async fn get(&self, key: &Key) -> Result<Option<Row>, StoreError> {
        let (inner, wanted) = (self.inner.clone(), key.clone());
        let found = self
            .way
            .call("get", async move { inner.get(&wanted).await })
            .await;
        Ok(self.aged(key, found.ok_or_else(|| no_answer("get"))??))
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Row>>, StoreError> {
        let (inner, keys) = (self.inner.clone(), keys.to_vec());
        let found = self
            .way
            .call("get_many", async move { inner.get_many(&keys).await });
        found.await.ok_or_else(|| no_answer("get_many"))?
    }

    async fn snapshot(&self, keys: &[Key]) -> Result<Vec<Option<Row>>, StoreError> {
        let (inner, keys) = (self.inner.clone(), keys.to_vec());
        let found = self
            .way
            .call("snapshot", async move { inner.snapshot(&keys).await });
        found.await.ok_or_else(|| no_answer("snapshot"))?
    }

    async fn range(
        &self,
        space: Space,
        partition: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let inner = self.inner.clone();
        let (partition, prefix, after) = (partition.to_owned(), prefix.to_owned(), after.map(str::to_owned));
        let found = self.way.call("range", async move {
            inner
                .range(space, &partition, &prefix, after.as_deref(), limit)
                .await
        });
        found.await.ok_or_else(|| no_answer("range"))?
    }

    async fn transact(&self, version: Version, ops: &[Op]) -> Result<Outcome, StoreError> {
        let (inner, ops) = (self.inner.clone(), self.weakened(ops));
        let sent = self
            .way
            .call("transact", async move { inner.transact(version, &ops).await });
        sent.await.unwrap_or(Ok(Outcome::Unknown))
    }
}

struct RemoteBlobs {
    way: Way,
    inner: Arc<FaultyBlobs<MemoryBlobs>>,
}

#[async_trait]
impl BlobStore for RemoteBlobs {
    async fn put(&self, key: &ObjectKey, payload: Payload) -> Result<String, StoreError> {
        let (inner, key) = (self.inner.clone(), key.clone());
        let sent = self
            .way
            .call("put", async move { inner.put(&key, payload).await });
        sent.await.ok_or_else(|| no_answer("put"))?
    }

    async fn begin(&self, key: &ObjectKey) -> Result<String, StoreError> {
        let (inner, key) = (self.inner.clone(), key.clone());
        let sent = self.way.call("begin", async move { inner.begin(&key).await });
        sent.await.ok_or_else(|| no_answer("begin"))?
    }

    async fn part(
        &self,
        key: &ObjectKey,
        upload: &str,
        number: PartNumber,
        payload: Payload,
    ) -> Result<String, StoreError> {
        let (inner, key, upload) = (self.inner.clone(), key.clone(), upload.to_owned());
        let sent = self.way.call(
            "part",
            async move { inner.part(&key, &upload, number, payload).await },
        );
        sent.await.ok_or_else(|| no_answer("part"))?
    }

    async fn complete(&self, key: &ObjectKey, upload: &str, parts: &[Part]) -> Result<String, StoreError> {
        let (inner, key, upload, parts) =
            (self.inner.clone(), key.clone(), upload.to_owned(), parts.to_vec());
        let sent = self.way.call(
            "complete",
            async move { inner.complete(&key, &upload, &parts).await },
        );
        sent.await.ok_or_else(|| no_answer("complete"))?
    }

    async fn last_part(&self, key: &ObjectKey, upload: &str) -> Result<Option<PartNumber>, StoreError> {
        let (inner, key, upload) = (self.inner.clone(), key.clone(), upload.to_owned());
        let found = self
            .way
            .call("last part", async move { inner.last_part(&key, &upload).await });
        found.await.ok_or_else(|| no_answer("last_part"))?
    }

    fn unnamed(&self) -> Unnamed {
        self.inner.unnamed()
    }

    async fn abort(&self, key: &ObjectKey, upload: &str) -> Result<(), StoreError> {
        let (inner, key, upload) = (self.inner.clone(), key.clone(), upload.to_owned());
        let sent = self
            .way
            .call("abort", async move { inner.abort(&key, &upload).await });
        sent.await.ok_or_else(|| no_answer("abort"))?
    }

    async fn get(&self, key: &ObjectKey, first: u64, last: u64) -> Result<Opened, StoreError> {
        let (inner, key) = (self.inner.clone(), key.clone());
        let found = self
            .way
            .call("get object", async move { inner.get(&key, first, last).await });
        found.await.ok_or_else(|| no_answer("get"))?
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<Object>, StoreError> {
        let (inner, key) = (self.inner.clone(), key.clone());
        let found = self.way.call("head", async move { inner.head(&key).await });
        found.await.ok_or_else(|| no_answer("head"))?
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let (inner, key) = (self.inner.clone(), key.clone());
        let sent = self.way.call("delete", async move { inner.delete(&key).await });
        sent.await.ok_or_else(|| no_answer("delete"))?
    }

    async fn sweep(&self, prefix: &str, keep: &[ObjectKey]) -> Result<(), StoreError> {
        let (inner, prefix, keep) = (self.inner.clone(), prefix.to_owned(), keep.to_vec());
        let sent = self
            .way
            .call("sweep", async move { inner.sweep(&prefix, &keep).await });
        sent.await.ok_or_else(|| no_answer("sweep"))?
    }

    fn min_part(&self) -> u64 {
        self.inner.min_part()
    }
}
