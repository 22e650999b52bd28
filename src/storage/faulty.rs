//! Wrappers that make a store fail, for tests and simulations: [`FaultyMeta`] and [`FaultyBlobs`], both steered by a
//! [`FaultPlan`].
//!
//! What they do stays within the contract of the store: an error means that nothing happened, but for objects, and a
//! transaction that may happen, or happens only later, is [`Outcome::Unknown`]. So whatever works above a store must
//! work above its faulty wrapper.
//!
//! The plan draws from its seed in the order of the calls: one thread that makes the same calls meets the same faults.
//!
//! One fault is beyond the contract: other bytes than were written ([`FaultRates::wrong_read`]), for what has to notice them.
//!
//! Absent on purpose: lost rows. A store that forgets isn't one that can be worked with.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio_util::task::TaskTracker;

use super::{
    BlobStore, ByteStream, Key, Link, MetaStore, Object, ObjectKey, Op, Opened, Outcome, Page, Part,
    PartNumber, Payload, Row, Space, StoreError, StoreErrorKind, Unnamed, Version, dice::Dice,
};

/// How often each fault happens: probabilities from 0 to 1, per call. Those of one call add up: together they should
/// stay at or below 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FaultRates {
    /// A transaction isn't applied, with [`StoreErrorKind::Contended`].
    pub contended: f64,
    /// A transaction is tried, and ends as [`Outcome::Unknown`].
    pub unknown_applied: f64,
    /// A transaction isn't tried, and ends as [`Outcome::Unknown`].
    pub unknown_dropped: f64,
    /// A transaction ends as [`Outcome::Unknown`], and is tried up to [`latest`](Self::latest) later.
    pub unknown_late: f64,
    /// A call fails with [`StoreErrorKind::Unavailable`] and has no effect.
    pub unavailable: f64,
    /// A call fails with [`StoreErrorKind::Throttled`] and has no effect.
    pub throttled: f64,
    /// A write of the blob store has its effect, and then fails with [`StoreErrorKind::Unavailable`].
    pub answer_lost: f64,
    /// A read of an object breaks somewhere.
    pub broken_read: f64,
    /// A read of an object gives one other byte, as if nothing was wrong. Not among [`all`](Self::all).
    pub wrong_read: f64,
    /// A call is delayed by up to [`longest_delay`](Self::longest_delay). Comes on top of the others.
    pub delayed: f64,
    /// Longest delay.
    pub longest_delay: Duration,
    /// Longest time after which a late transaction is tried.
    pub latest: Duration,
}

impl FaultRates {
    /// All kinds of faults, each in one call of fifty, with delays of milliseconds.
    pub fn all() -> Self {
        Self::each(0.02)
    }

    /// All kinds of faults with probability `rate` each, with delays of milliseconds.
    pub fn each(rate: f64) -> Self {
        Self {
            contended: rate,
            unknown_applied: rate,
            unknown_dropped: rate,
            unknown_late: rate,
            unavailable: rate,
            throttled: rate,
            answer_lost: rate,
            broken_read: rate,
            wrong_read: 0.0,
            delayed: rate,
            longest_delay: Duration::from_millis(5),
            latest: Duration::from_millis(20),
        }
    }
}

/// How often each fault happened; the fields are those of [`FaultRates`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "documented at the rates")]
pub struct FaultCounts {
    pub contended: u64,
    pub unknown_applied: u64,
    pub unknown_dropped: u64,
    pub unknown_late: u64,
    pub unavailable: u64,
    pub throttled: u64,
    pub answer_lost: u64,
    pub broken_read: u64,
    pub wrong_read: u64,
    pub delayed: u64,
    /// Calls that came by, while faults were on.
    pub calls: u64,
}

/// Decides which call meets which fault. Clones share everything; several stores may share one plan.
#[derive(Clone, Debug)]
pub struct FaultPlan {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    on: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    rates: FaultRates,
    dice: Dice,
    counts: FaultCounts,
}

/// The fault of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Error(StoreErrorKind),
    UnknownApplied,
    UnknownDropped,
    UnknownLate(Duration),
    AnswerLost,
    /// After that many thousandths of the bytes.
    BrokenRead(u64),
    /// At that many thousandths of the bytes.
    WrongRead(u64),
}

/// The kinds of calls: each can meet other faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Read,
    Transact,
    WriteObject,
    ReadObject,
}

impl FaultPlan {
    /// A plan whose faults are on.
    pub fn new(seed: u64, rates: FaultRates) -> Self {
        let state = State {
            rates,
            dice: Dice::new(seed),
            counts: FaultCounts::default(),
        };
        Self {
            shared: Arc::new(Shared {
                on: AtomicBool::new(true),
                state: Mutex::new(state),
            }),
        }
    }

    /// No fault from now on. (Late transactions that are under way still happen.)
    pub fn disable(&self) {
        self.shared.on.store(false, Ordering::SeqCst);
    }

    /// Faults again.
    pub fn enable(&self) {
        self.shared.on.store(true, Ordering::SeqCst);
    }

    /// Other rates from now on.
    pub fn set_rates(&self, rates: FaultRates) {
        self.shared.state.lock().rates = rates;
    }

    /// What it did so far.
    pub fn counts(&self) -> FaultCounts {
        self.shared.state.lock().counts
    }

    /// Draws what happens to a call, and waits out its delay.
    async fn meet(&self, call: Call) -> Option<Fault> {
        let (fault, delay) = {
            if !self.shared.on.load(Ordering::SeqCst) {
                return None;
            }
            self.shared.state.lock().draw(call)
        };
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
        fault
    }

    /// As `meet`, for calls that can only fail whole.
    async fn pass(&self, call: Call, operation: &'static str) -> Result<(), StoreError> {
        match self.meet(call).await {
            Some(Fault::Error(kind)) => Err(injected(kind, operation)),
            _ => Ok(()),
        }
    }
}

fn injected(kind: StoreErrorKind, operation: &'static str) -> StoreError {
    StoreError::with_source(kind, operation, "injected fault")
}

impl State {
    fn draw(&mut self, call: Call) -> (Option<Fault>, Option<Duration>) {
        let (rates, counts) = (self.rates, &mut self.counts);
        // As many draws for every call, so that one more rate doesn't shift all that follows.
        let (which, whether) = (self.dice.unit(), self.dice.unit());
        let (time, place) = (self.dice.unit(), self.dice.below(1_000));
        counts.calls += 1;
        let delay = (whether < rates.delayed).then(|| {
            counts.delayed += 1;
            rates.longest_delay.mul_f64(time)
        });
        let unavailable = Fault::Error(StoreErrorKind::Unavailable);
        let throttled = Fault::Error(StoreErrorKind::Throttled);
        let contended = Fault::Error(StoreErrorKind::Contended);
        let late = Fault::UnknownLate(rates.latest.mul_f64(time));
        let choices: [(f64, Fault, &mut u64, &[Call]); 9] = {
            use Call::{Read, ReadObject, Transact, WriteObject};
            let any = &[Read, Transact, WriteObject, ReadObject];
            [
                (rates.unavailable, unavailable, &mut counts.unavailable, any),
                (rates.throttled, throttled, &mut counts.throttled, any),
                (rates.contended, contended, &mut counts.contended, &[Transact]),
                (
                    rates.unknown_applied,
                    Fault::UnknownApplied,
                    &mut counts.unknown_applied,
                    &[Transact],
                ),
                (
                    rates.unknown_dropped,
                    Fault::UnknownDropped,
                    &mut counts.unknown_dropped,
                    &[Transact],
                ),
                (rates.unknown_late, late, &mut counts.unknown_late, &[Transact]),
                (
                    rates.answer_lost,
                    Fault::AnswerLost,
                    &mut counts.answer_lost,
                    &[WriteObject],
                ),
                (
                    rates.broken_read,
                    Fault::BrokenRead(place),
                    &mut counts.broken_read,
                    &[ReadObject],
                ),
                (
                    rates.wrong_read,
                    Fault::WrongRead(place),
                    &mut counts.wrong_read,
                    &[ReadObject],
                ),
            ]
        };
        let mut left = which;
        for (rate, fault, count, calls) in choices {
            if !calls.contains(&call) {
                continue;
            }
            if left < rate {
                *count += 1;
                return (Some(fault), delay);
            }
            left -= rate;
        }
        (None, delay)
    }
}

/// A metadata store that fails by plan.
pub struct FaultyMeta<M: MetaStore + ?Sized> {
    inner: Arc<M>,
    plan: FaultPlan,
    late: TaskTracker,
}

impl<M: MetaStore + ?Sized> FaultyMeta<M> {
    /// `inner`, failing by `plan`.
    pub fn new(inner: Arc<M>, plan: FaultPlan) -> Self {
        Self {
            inner,
            plan,
            late: TaskTracker::new(),
        }
    }

    /// Waits until every late transaction of the past has happened.
    pub async fn settle(&self) {
        self.late.close();
        self.late.wait().await;
        self.late.reopen();
    }
}

#[async_trait]
impl<M: MetaStore + ?Sized> MetaStore for FaultyMeta<M> {
    async fn get(&self, key: &Key) -> Result<Option<Row>, StoreError> {
        self.plan.pass(Call::Read, "get").await?;
        self.inner.get(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Row>>, StoreError> {
        self.plan.pass(Call::Read, "get_many").await?;
        self.inner.get_many(keys).await
    }

    async fn snapshot(&self, keys: &[Key]) -> Result<Vec<Option<Row>>, StoreError> {
        self.plan.pass(Call::Read, "snapshot").await?;
        self.inner.snapshot(keys).await
    }

    async fn range(
        &self,
        space: Space,
        partition: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.plan.pass(Call::Read, "range").await?;
        self.inner.range(space, partition, prefix, after, limit).await
    }

    async fn transact(&self, version: Version, ops: &[Op]) -> Result<Outcome, StoreError> {
        match self.plan.meet(Call::Transact).await {
            Some(Fault::Error(kind)) => Err(injected(kind, "transact")),
            Some(Fault::UnknownDropped) => Ok(Outcome::Unknown),
            Some(Fault::UnknownApplied) => {
                self.inner.transact(version, ops).await?;
                Ok(Outcome::Unknown)
            }
            Some(Fault::UnknownLate(after)) => {
                let (inner, ops) = (self.inner.clone(), ops.to_vec());
                self.late.spawn(async move {
                    tokio::time::sleep(after).await;
                    // However it ends: nobody was promised anything.
                    let _ = inner.transact(version, &ops).await;
                });
                Ok(Outcome::Unknown)
            }
            Some(Fault::AnswerLost | Fault::BrokenRead(_) | Fault::WrongRead(_)) | None => {
                self.inner.transact(version, ops).await
            }
        }
    }
}

/// A blob store that fails by plan.
pub struct FaultyBlobs<B: BlobStore + ?Sized> {
    inner: Arc<B>,
    plan: FaultPlan,
}

impl<B: BlobStore + ?Sized> FaultyBlobs<B> {
    /// `inner`, failing by `plan`.
    pub fn new(inner: Arc<B>, plan: FaultPlan) -> Self {
        Self { inner, plan }
    }

    /// Runs `call`, or not, or loses its answer.
    async fn write<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        match self.plan.meet(Call::WriteObject).await {
            Some(Fault::Error(kind)) => Err(injected(kind, operation)),
            Some(Fault::AnswerLost) => {
                call.await?;
                Err(injected(StoreErrorKind::Unavailable, operation))
            }
            _ => call.await,
        }
    }
}

#[async_trait]
impl<B: BlobStore + ?Sized> BlobStore for FaultyBlobs<B> {
    async fn put(&self, key: &ObjectKey, payload: Payload) -> Result<String, StoreError> {
        self.write("put", self.inner.put(key, payload)).await
    }

    async fn begin(&self, key: &ObjectKey) -> Result<String, StoreError> {
        self.write("begin", self.inner.begin(key)).await
    }

    async fn part(
        &self,
        key: &ObjectKey,
        upload: &str,
        number: PartNumber,
        payload: Payload,
    ) -> Result<String, StoreError> {
        self.write("part", self.inner.part(key, upload, number, payload))
            .await
    }

    async fn complete(&self, key: &ObjectKey, upload: &str, parts: &[Part]) -> Result<String, StoreError> {
        self.write("complete", self.inner.complete(key, upload, parts))
            .await
    }

    async fn last_part(&self, key: &ObjectKey, upload: &str) -> Result<Option<PartNumber>, StoreError> {
        self.plan.pass(Call::Read, "last_part").await?;
        self.inner.last_part(key, upload).await
    }

    fn unnamed(&self) -> Unnamed {
        self.inner.unnamed()
    }

    async fn abort(&self, key: &ObjectKey, upload: &str) -> Result<(), StoreError> {
        self.write("abort", self.inner.abort(key, upload)).await
    }

    async fn get(&self, key: &ObjectKey, first: u64, last: u64) -> Result<Opened, StoreError> {
        match self.plan.meet(Call::ReadObject).await {
            Some(Fault::Error(kind)) => Err(injected(kind, "get")),
            Some(Fault::BrokenRead(place)) => {
                let Opened { object, bytes } = self.inner.get(key, first, last).await?;
                Ok(Opened {
                    object,
                    bytes: broken_after(bytes, at_thousandth(place, first, last)),
                })
            }
            Some(Fault::WrongRead(place)) => {
                let Opened { object, bytes } = self.inner.get(key, first, last).await?;
                Ok(Opened {
                    object,
                    bytes: wrong_at(bytes, at_thousandth(place, first, last)),
                })
            }
            _ => self.inner.get(key, first, last).await,
        }
    }

    async fn presign(&self, key: &ObjectKey, lives: Duration) -> Result<Option<Link>, StoreError> {
        self.inner.presign(key, lives).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<Object>, StoreError> {
        self.plan.pass(Call::Read, "head").await?;
        self.inner.head(key).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.write("delete", self.inner.delete(key)).await
    }

    async fn sweep(&self, prefix: &str, keep: &[ObjectKey]) -> Result<(), StoreError> {
        self.write("sweep", self.inner.sweep(prefix, keep)).await
    }

    fn min_part(&self) -> u64 {
        self.inner.min_part()
    }
}

/// The place in a range that lies after so many thousandths of it.
fn at_thousandth(place: u64, first: u64, last: u64) -> u64 {
    let length = u128::from(last.saturating_sub(first)) + 1;
    u64::try_from(length * u128::from(place) / 1_000).unwrap_or(0)
}

/// `stream` with another byte at `place`.
fn wrong_at(stream: ByteStream, place: u64) -> ByteStream {
    let wrong = stream.scan(place, |left, item| {
        let item = item.map(|bytes| match usize::try_from(*left) {
            Ok(at) if at < bytes.len() => {
                *left = u64::MAX;
                let mut wrong = bytes.to_vec();
                if let Some(byte) = wrong.get_mut(at) {
                    *byte ^= 0x10;
                }
                wrong.into()
            }
            _ => {
                *left = left.saturating_sub(bytes.len() as u64);
                bytes
            }
        });
        std::future::ready(Some(item))
    });
    Box::pin(wrong)
}

/// The first `left` bytes of `stream` and an error.
fn broken_after(stream: ByteStream, left: u64) -> ByteStream {
    let broken = futures_util::stream::once(async { Err(injected(StoreErrorKind::Unavailable, "get")) });
    let whole = stream.scan(left, |left, item| {
        let item = match item {
            Ok(_) if *left == 0 => None,
            Ok(mut bytes) => {
                bytes.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= bytes.len() as u64;
                Some(Ok(bytes))
            }
            Err(error) => Some(Err(error)),
        };
        std::future::ready(item)
    });
    Box::pin(whole.chain(broken))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::storage::{Expect, MemoryBlobs, MemoryMeta};

    fn key(sort: &str) -> Key {
        Key {
            space: Space::Blobs,
            partition: "p".to_owned(),
            sort: sort.to_owned(),
        }
    }

    async fn put(store: &dyn MetaStore, sort: &str) -> Result<Outcome, StoreError> {
        let op = key(sort).put(Expect::Any, "x");
        store.transact(Version::random(), &[op]).await
    }

    fn only(change: impl Fn(&mut FaultRates)) -> FaultPlan {
        let mut rates = FaultRates {
            latest: Duration::from_millis(100),
            ..FaultRates::default()
        };
        change(&mut rates);
        FaultPlan::new(1, rates)
    }

    async fn transact_under(plan: &FaultPlan) -> (Result<Outcome, StoreError>, bool) {
        let inner = Arc::new(MemoryMeta::new());
        let store = FaultyMeta::new(inner.clone(), plan.clone());
        let outcome = put(&store, "a").await;
        (outcome, !inner.is_empty())
    }

    #[tokio::test]
    async fn each_fault_of_a_transaction_does_what_it_says() {
        let (outcome, applied) = transact_under(&only(|rates| rates.contended = 1.0)).await;
        assert_eq!(outcome.unwrap_err().kind(), StoreErrorKind::Contended);
        assert!(!applied);
        let (outcome, applied) = transact_under(&only(|rates| rates.unknown_applied = 1.0)).await;
        assert_eq!((outcome.unwrap(), applied), (Outcome::Unknown, true));
        let (outcome, applied) = transact_under(&only(|rates| rates.unknown_dropped = 1.0)).await;
        assert_eq!((outcome.unwrap(), applied), (Outcome::Unknown, false));
        let (outcome, applied) = transact_under(&only(|rates| rates.throttled = 1.0)).await;
        assert_eq!(outcome.unwrap_err().kind(), StoreErrorKind::Throttled);
        assert!(!applied);
    }

    #[tokio::test]
    async fn a_late_transaction_lands_after_unknown_was_returned() {
        let inner = Arc::new(MemoryMeta::new());
        let plan = only(|rates| rates.unknown_late = 1.0);
        let store = FaultyMeta::new(inner.clone(), plan.clone());
        assert_eq!(put(&store, "a").await.unwrap(), Outcome::Unknown);
        assert!(inner.is_empty());
        store.settle().await;
        assert_eq!(inner.len(), 1);
        assert_eq!(plan.counts().unknown_late, 1);
    }

    #[tokio::test]
    async fn a_seed_gives_the_same_faults_to_the_same_calls() {
        let mut runs = Vec::new();
        for _ in 0..2 {
            let plan = FaultPlan::new(7, FaultRates::each(0.1));
            let store = FaultyMeta::new(Arc::new(MemoryMeta::new()), plan.clone());
            let mut outcomes = Vec::new();
            for n in 0..200 {
                let outcome = put(&store, &n.to_string()).await;
                outcomes.push(outcome.map_err(|error| error.kind()));
            }
            runs.push((outcomes, plan.counts()));
        }
        assert_eq!(runs[0], runs[1]);
        assert!(runs[0].1.unknown_late > 5 && runs[0].1.contended > 5);
    }

    #[tokio::test]
    async fn a_plan_can_be_switched_off_and_on() {
        let plan = only(|rates| rates.unavailable = 1.0);
        let store = FaultyMeta::new(Arc::new(MemoryMeta::new()), plan.clone());
        assert!(store.get(&key("a")).await.is_err());
        plan.disable();
        assert!(store.get(&key("a")).await.is_ok());
        plan.enable();
        assert!(store.get(&key("a")).await.is_err());
        assert_eq!(plan.counts().calls, 2);
    }

    #[tokio::test]
    async fn a_broken_read_ends_with_an_error_and_never_cleanly() {
        let object = ObjectKey::parse("a/b").unwrap();
        let inner = Arc::new(MemoryBlobs::new());
        let mut payload = Payload::default();
        for _ in 0..10 {
            payload.push(Bytes::from_static(b"0123456789"));
        }
        inner.put(&object, payload).await.unwrap();
        let store = FaultyBlobs::new(inner, only(|rates| rates.broken_read = 1.0));
        for _ in 0..20 {
            let mut stream = store.get(&object, 5, 94).await.unwrap().bytes;
            let mut bytes = Vec::new();
            let error = loop {
                match stream.next().await {
                    Some(Ok(chunk)) => bytes.extend_from_slice(&chunk),
                    Some(Err(error)) => break error,
                    None => panic!("ended as if whole after {} bytes", bytes.len()),
                }
            };
            assert_eq!(error.kind(), StoreErrorKind::Unavailable);
            assert!(b"0123456789".repeat(10)[5..].starts_with(&bytes) && bytes.len() < 90);
        }
    }

    #[tokio::test]
    async fn a_wrong_read_differs_in_one_byte() {
        let object = ObjectKey::parse("a/b").unwrap();
        let inner = Arc::new(MemoryBlobs::new());
        let mut payload = Payload::default();
        for _ in 0..10 {
            payload.push(Bytes::from_static(b"0123456789"));
        }
        inner.put(&object, payload).await.unwrap();
        let store = FaultyBlobs::new(inner, only(|rates| rates.wrong_read = 1.0));
        for _ in 0..20 {
            let mut stream = store.get(&object, 5, 94).await.unwrap().bytes;
            let mut bytes = Vec::new();
            while let Some(chunk) = stream.next().await {
                bytes.extend_from_slice(&chunk.unwrap());
            }
            let right = &b"0123456789".repeat(10)[5..95];
            assert_eq!(bytes.len(), right.len());
            assert_eq!(bytes.iter().zip(right).filter(|(a, b)| a != b).count(), 1);
        }
    }

    #[tokio::test]
    async fn a_write_whose_answer_is_lost_has_its_effect() {
        let object = ObjectKey::parse("a/b").unwrap();
        let inner = Arc::new(MemoryBlobs::new());
        let store = FaultyBlobs::new(inner.clone(), only(|rates| rates.answer_lost = 1.0));
        let payload = Payload::from(Bytes::from_static(b"x"));
        assert!(store.put(&object, payload).await.is_err());
        assert_eq!(
            inner.head(&object).await.unwrap().map(|object| object.length),
            Some(1)
        );
    }
}
