//! What the tests of this module share: registries over one pair of stores in memory, bodies, images, and stores that
//! count their calls and let others go first.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    DeleteManifest, Holder, MayBeAbsent, MayPush, PutManifest, Registry, Result, Settings, Stores, Taken,
    WhileListed, changes::Cause,
};
use crate::{
    admission::BodyError,
    oci::{Algorithm, Digest, MediaType, Preconditions, Reference, RepoName, ResolvedRange, Tag},
    ownership::Incarnation,
    storage::{
        BlobStore, Key, MemoryBlobs, MemoryMeta, MetaStore, Object, ObjectKey, Op, Opened, Outcome, Page,
        Part, PartNumber, Payload, Row, Space, StoreError, StoreErrorKind, Unnamed, Version,
        faulty::{FaultPlan, FaultRates, FaultyBlobs, FaultyMeta},
    },
};

/// Parts are tiny, so that a few bytes make many.
pub(super) const PART: u64 = 100;

/// Two stores that fail by one plan.
type Faulty = (Arc<FaultyMeta<Polite>>, Arc<FaultyBlobs<Polite>>);

/// Two stores in memory, and what came by.
pub(super) struct World {
    pub(super) meta: Arc<MemoryMeta>,
    pub(super) blobs: Arc<MemoryBlobs>,
    pub(super) calls: Arc<Calls>,
    pub(super) settings: Settings,
    faulty: Option<Faulty>,
    pub(super) faults: Option<FaultPlan>,
}

impl World {
    pub(super) fn new() -> Self {
        let mut settings = Settings::default();
        settings.limits.part_size = PART;
        settings.limits.inline_manifest = 2000;
        // Tests of what goes when; those of what comes back say how long it can.
        settings.limits.history = Duration::ZERO;
        Self {
            meta: Arc::default(),
            blobs: Arc::default(),
            calls: Arc::default(),
            settings,
            faulty: None,
            faults: None,
        }
    }

    /// A world whose stores fail by a plan.
    pub(super) fn with_faults(seed: u64, rates: FaultRates) -> Self {
        let mut world = Self::new();
        let plan = FaultPlan::new(seed, rates);
        let polite = Arc::new(world.polite());
        world.faulty = Some((
            Arc::new(FaultyMeta::new(polite.clone(), plan.clone())),
            Arc::new(FaultyBlobs::new(polite, plan.clone())),
        ));
        world.faults = Some(plan);
        world
    }

    /// The rows, as a member without faults sees them.
    pub(super) fn store(&self) -> impl MetaStore {
        self.polite()
    }

    fn polite(&self) -> Polite {
        Polite {
            meta: self.meta.clone(),
            blobs: self.blobs.clone(),
            calls: self.calls.clone(),
        }
    }

    /// The `n`-th member's registry.
    pub(super) fn member(&self, n: u8) -> Registry {
        let stores = match &self.faulty {
            Some((meta, blobs)) => Stores {
                meta: meta.clone(),
                blobs: blobs.clone(),
            },
            None => {
                let polite = Arc::new(self.polite());
                Stores {
                    meta: polite.clone(),
                    blobs: polite,
                }
            }
        };
        let member = format!("127.0.0.{n}:5000").parse().unwrap();
        let holder = Holder {
            member,
            incarnation: Incarnation::random(),
        };
        Registry::new(stores, holder, self.settings.clone())
    }

    /// A registry without faults, once everything late has happened.
    pub(super) async fn settled(&self) -> Registry {
        if let Some((meta, _)) = &self.faulty {
            meta.settle().await;
        }
        let polite = Arc::new(self.polite());
        let holder = Holder {
            member: "a:1".parse().unwrap(),
            incarnation: Incarnation::random(),
        };
        Registry::new(
            Stores {
                meta: polite.clone(),
                blobs: polite,
            },
            holder,
            self.settings.clone(),
        )
    }
}

/// How often each call came by.
#[derive(Default)]
pub(super) struct Calls {
    counts: Mutex<BTreeMap<&'static str, usize>>,
    random: AtomicU64,
}

impl Calls {
    /// The calls since the last time, as `name×count`.
    pub(super) fn take(&self) -> String {
        let counts = std::mem::take(&mut *self.counts.lock());
        let counts: Vec<_> = counts
            .iter()
            .map(|(name, count)| format!("{name}×{count}"))
            .collect();
        counts.join(" ")
    }

    /// How many parts were stored.
    pub(super) fn parts(&self) -> u64 {
        self.counts.lock().get("stored").copied().unwrap_or_default() as u64
    }

    async fn note(&self, name: &'static str) {
        *self.counts.lock().entry(name).or_default() += 1;
        // Lets others go first, differently each time.
        let random = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        for _ in 0..(random >> 61) {
            tokio::task::yield_now().await;
        }
    }
}

/// Counts, and yields before each call.
struct Polite {
    meta: Arc<MemoryMeta>,
    blobs: Arc<MemoryBlobs>,
    calls: Arc<Calls>,
}

#[async_trait]
impl MetaStore for Polite {
    async fn get(&self, key: &Key) -> std::result::Result<Option<Row>, StoreError> {
        self.calls.note("get").await;
        self.meta.get(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> std::result::Result<Vec<Option<Row>>, StoreError> {
        self.calls.note("get_many").await;
        self.meta.get_many(keys).await
    }

    async fn snapshot(&self, keys: &[Key]) -> std::result::Result<Vec<Option<Row>>, StoreError> {
        self.calls.note("snapshot").await;
        self.meta.snapshot(keys).await
    }

    async fn range(
        &self,
        space: Space,
        partition: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> std::result::Result<Page, StoreError> {
        self.calls.note("range").await;
        self.meta.range(space, partition, prefix, after, limit).await
    }

    async fn transact(&self, version: Version, ops: &[Op]) -> std::result::Result<Outcome, StoreError> {
        self.calls.note("transact").await;
        let outcome = self.meta.transact(version, ops).await;
        self.calls.note("answered").await;
        outcome
    }
}

#[async_trait]
impl BlobStore for Polite {
    async fn put(&self, key: &ObjectKey, payload: Payload) -> std::result::Result<String, StoreError> {
        self.calls.note("put").await;
        self.blobs.put(key, payload).await
    }

    async fn begin(&self, key: &ObjectKey) -> std::result::Result<String, StoreError> {
        self.calls.note("begin").await;
        self.blobs.begin(key).await
    }

    async fn part(
        &self,
        key: &ObjectKey,
        upload: &str,
        number: PartNumber,
        payload: Payload,
    ) -> std::result::Result<String, StoreError> {
        self.calls.note("part").await;
        let stored = self.blobs.part(key, upload, number, payload).await;
        self.calls.note("stored").await;
        stored
    }

    async fn complete(
        &self,
        key: &ObjectKey,
        upload: &str,
        parts: &[Part],
    ) -> std::result::Result<String, StoreError> {
        self.calls.note("complete").await;
        self.blobs.complete(key, upload, parts).await
    }

    async fn last_part(
        &self,
        key: &ObjectKey,
        upload: &str,
    ) -> std::result::Result<Option<PartNumber>, StoreError> {
        self.calls.note("last_part").await;
        self.blobs.last_part(key, upload).await
    }

    fn unnamed(&self) -> Unnamed {
        self.blobs.unnamed()
    }

    async fn abort(&self, key: &ObjectKey, upload: &str) -> std::result::Result<(), StoreError> {
        self.calls.note("abort").await;
        self.blobs.abort(key, upload).await
    }

    async fn get(&self, key: &ObjectKey, first: u64, last: u64) -> std::result::Result<Opened, StoreError> {
        self.calls.note("read").await;
        self.blobs.get(key, first, last).await
    }

    async fn head(&self, key: &ObjectKey) -> std::result::Result<Option<Object>, StoreError> {
        self.calls.note("head").await;
        self.blobs.head(key).await
    }

    async fn delete(&self, key: &ObjectKey) -> std::result::Result<(), StoreError> {
        self.calls.note("delete").await;
        self.blobs.delete(key).await
    }

    async fn sweep(&self, prefix: &str, keep: &[ObjectKey]) -> std::result::Result<(), StoreError> {
        self.calls.note("sweep").await;
        self.blobs.sweep(prefix, keep).await
    }

    fn min_part(&self) -> u64 {
        self.blobs.min_part()
    }
}

pub(super) type TestBody = Pin<Box<dyn Stream<Item = std::result::Result<Bytes, BodyError>> + Send>>;

/// A body that comes in pieces of `piece` bytes, with others at work between them.
pub(super) fn body(content: &[u8], piece: usize) -> TestBody {
    let pieces: Vec<_> = content.chunks(piece.max(1)).map(Bytes::copy_from_slice).collect();
    Box::pin(stream::iter(pieces).then(async |piece| {
        tokio::task::yield_now().await;
        Ok(piece)
    }))
}

/// As `body`, and then it breaks off.
pub(super) fn broken(content: &[u8], piece: usize) -> TestBody {
    let error = || BodyError::Store(StoreError::new(StoreErrorKind::Unavailable, "test"));
    Box::pin(body(content, piece).chain(stream::once(async move { Err(error()) })))
}

/// `length` bytes that differ by `seed`.
pub(super) fn content(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(byte).take(length).collect()
}

pub(super) fn sha256(content: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha256, content)
}

pub(super) fn repo(name: &str) -> RepoName {
    name.parse().unwrap()
}

pub(super) fn tag(name: &str) -> Tag {
    name.parse().unwrap()
}

pub(super) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// The whole blob, as the repository holds it.
pub(super) async fn pull(registry: &Registry, repository: &RepoName, digest: &Digest) -> Result<Vec<u8>> {
    let blob = registry.blob(repository, digest).await?;
    let range = ResolvedRange {
        first: 0,
        last: blob.size.saturating_sub(1),
    };
    let pieces: Vec<Bytes> = registry
        .read(&blob, range, Taken::Whole)
        .await?
        .try_collect()
        .await
        .unwrap();
    Ok(pieces.concat())
}

pub(super) async fn push(registry: &Registry, repository: &RepoName, content: &[u8]) -> Digest {
    let digest = sha256(content);
    registry
        .push_blob(repository, &digest, None, body(content, 64))
        .await
        .unwrap();
    digest
}

/// An image manifest of these blobs, the first of which is the config.
pub(super) fn image(blobs: &[&Digest], note: &str) -> Bytes {
    let descriptor = |digest: &Digest| serde_json::json!({ "mediaType": "application/vnd.test.v1+json", "digest": digest.as_str(), "size": 1 });
    let layers: Vec<_> = blobs[1..].iter().map(|digest| descriptor(digest)).collect();
    let document = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MediaType::IMAGE_MANIFEST,
        "config": descriptor(blobs[0]),
        "layers": layers,
        "annotations": { "note": note },
    });
    document.to_string().into()
}

/// A push of `body` to `reference` by someone who may do anything.
pub(super) fn put<'a>(repository: &'a RepoName, reference: &'a Reference, body: &Bytes) -> PutManifest<'a> {
    PutManifest {
        repository,
        reference,
        tags: &[],
        media_type: None,
        body: body.clone(),
        cause: Cause::client("test"),
        may: MayPush {
            create: true,
            update: true,
        },
        absent: MayBeAbsent::Nothing,
        only_if: UNCONDITIONAL,
        deadline: soon(),
    }
}

pub(super) const UNCONDITIONAL: &Preconditions = &Preconditions {
    if_match: None,
    if_none_match: None,
};

/// The end of what `reference` names, as a client asks for it.
pub(super) fn delete<'a>(repository: &'a RepoName, reference: &'a Reference) -> DeleteManifest<'a> {
    DeleteManifest {
        repository,
        reference,
        only_if: UNCONDITIONAL,
        while_listed: WhileListed::Refuse,
        cause: Cause::client("test"),
        deadline: soon(),
    }
}

/// A future that is polled so often at most: `None` is a request that hangs there.
pub(super) struct Polled<'a, F> {
    pub(super) future: Pin<&'a mut F>,
    pub(super) left: usize,
}

impl<F: Future> Future for Polled<'_, F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        self.future.as_mut().poll(context).map(Some)
    }
}

/// Calls `round` with 0, 1, 2 and so on, until it says that what was to be interrupted ended before.
pub(super) async fn at_every_await(mut round: impl AsyncFnMut(usize) -> bool) {
    for polls in 0..2000 {
        if round(polls).await {
            assert!(polls > 3, "nothing was interrupted");
            return;
        }
    }
    panic!("it never ends");
}

/// Lets `request` come as far as `polls`, then does `meanwhile`, then lets it end. Says whether it had ended before.
pub(super) async fn interrupted<T>(
    polls: usize,
    request: impl Future<Output = T>,
    meanwhile: impl Future,
) -> (T, bool) {
    let mut request = std::pin::pin!(request);
    let first = Polled {
        future: request.as_mut(),
        left: polls,
    };
    let ended = first.await;
    meanwhile.await;
    match ended {
        Some(result) => (result, true),
        None => (request.await, false),
    }
}

/// Lets `future` come as far as `left` polls.
pub(super) async fn polled<F: Future>(future: Pin<&mut F>, left: usize) -> Option<F::Output> {
    Polled { future, left }.await
}
