//! Wrappers that count what is asked of a store, and add what it took to the request it was asked for.
//!
//! The time of a stream is that of its first byte: the rest depends on who reads it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use tokio::time::Instant;

use super::{
    BlobStore, Key, Link, MetaStore, Object, ObjectKey, Op, Opened, Outcome, Page, Part, PartNumber, Payload,
    Row, Space, StoreError, StoreErrorKind, Unnamed, Version,
};
use crate::telemetry::{Metrics, Waited};

/// A metadata store, counted.
pub struct MeteredMeta {
    inner: Arc<dyn MetaStore>,
    meter: Meter,
}

/// A blob store, counted.
pub struct MeteredBlobs {
    inner: Arc<dyn BlobStore>,
    meter: Meter,
}

impl MeteredMeta {
    /// Counts what is asked of `inner`.
    pub fn new(inner: Arc<dyn MetaStore>, metrics: Arc<Metrics>) -> Self {
        Self {
            inner,
            meter: Meter {
                store: "meta",
                metrics,
            },
        }
    }
}

impl MeteredBlobs {
    /// Counts what is asked of `inner`.
    pub fn new(inner: Arc<dyn BlobStore>, metrics: Arc<Metrics>) -> Self {
        Self {
            inner,
            meter: Meter {
                store: "blobs",
                metrics,
            },
        }
    }
}

struct Meter {
    store: &'static str,
    metrics: Arc<Metrics>,
}

impl Meter {
    async fn count<T>(
        &self,
        operation: &'static str,
        request: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let started = Instant::now();
        let result = request.await;
        self.note(operation, outcome(&result), started.elapsed());
        result
    }

    fn note(&self, operation: &'static str, outcome: &'static str, took: Duration) {
        Waited::for_stores(took);
        self.metrics.store(self.store, operation, outcome, took);
    }
}

fn outcome<T>(result: &Result<T, StoreError>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(error) => match error.kind() {
            StoreErrorKind::Unavailable => "unavailable",
            StoreErrorKind::Throttled => "throttled",
            StoreErrorKind::Contended => "contended",
            StoreErrorKind::Full => "full",
            StoreErrorKind::NotFound => "not_found",
            StoreErrorKind::InvalidPart => "invalid_part",
            StoreErrorKind::Corrupt => "corrupt",
            StoreErrorKind::Denied => "denied",
            StoreErrorKind::Unsupported => "unsupported",
            StoreErrorKind::Misuse => "misuse",
        },
    }
}

#[async_trait]
impl MetaStore for MeteredMeta {
    async fn get(&self, key: &Key) -> Result<Option<Row>, StoreError> {
        self.meter.count("get", self.inner.get(key)).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Row>>, StoreError> {
        self.meter.count("get_many", self.inner.get_many(keys)).await
    }

    async fn snapshot(&self, keys: &[Key]) -> Result<Vec<Option<Row>>, StoreError> {
        self.meter.count("snapshot", self.inner.snapshot(keys)).await
    }

    async fn range(
        &self,
        space: Space,
        partition: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.meter
            .count("range", self.inner.range(space, partition, prefix, after, limit))
            .await
    }

    async fn transact(&self, version: Version, ops: &[Op]) -> Result<Outcome, StoreError> {
        let started = Instant::now();
        let result = self.inner.transact(version, ops).await;
        let outcome = match &result {
            Ok(Outcome::Committed) => "ok",
            Ok(Outcome::Refused { .. }) => "refused",
            Ok(Outcome::Unknown) => "unknown",
            Err(_) => outcome(&result),
        };
        self.meter.note("transact", outcome, started.elapsed());
        result
    }
}

#[async_trait]
impl BlobStore for MeteredBlobs {
    async fn put(&self, key: &ObjectKey, payload: Payload) -> Result<String, StoreError> {
        self.meter.count("put", self.inner.put(key, payload)).await
    }

    async fn begin(&self, key: &ObjectKey) -> Result<String, StoreError> {
        self.meter.count("begin", self.inner.begin(key)).await
    }

    async fn part(
        &self,
        key: &ObjectKey,
        upload: &str,
        number: PartNumber,
        payload: Payload,
    ) -> Result<String, StoreError> {
        self.meter
            .count("part", self.inner.part(key, upload, number, payload))
            .await
    }

    async fn complete(&self, key: &ObjectKey, upload: &str, parts: &[Part]) -> Result<String, StoreError> {
        self.meter
            .count("complete", self.inner.complete(key, upload, parts))
            .await
    }

    async fn last_part(&self, key: &ObjectKey, upload: &str) -> Result<Option<PartNumber>, StoreError> {
        self.meter
            .count("last_part", self.inner.last_part(key, upload))
            .await
    }

    fn unnamed(&self) -> Unnamed {
        self.inner.unnamed()
    }

    async fn abort(&self, key: &ObjectKey, upload: &str) -> Result<(), StoreError> {
        self.meter.count("abort", self.inner.abort(key, upload)).await
    }

    async fn get(&self, key: &ObjectKey, first: u64, last: u64) -> Result<Opened, StoreError> {
        let opened = self.meter.count("get", self.inner.get(key, first, last)).await?;
        let metrics = self.meter.metrics.clone();
        let read = move |chunk: &Bytes| metrics.store_read(chunk.len() as u64);
        Ok(Opened {
            bytes: Box::pin(opened.bytes.inspect_ok(read)),
            ..opened
        })
    }

    /// No request, so not counted.
    async fn presign(&self, key: &ObjectKey, lives: Duration) -> Result<Option<Link>, StoreError> {
        self.inner.presign(key, lives).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<Object>, StoreError> {
        self.meter.count("head", self.inner.head(key)).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.meter.count("delete", self.inner.delete(key)).await
    }

    async fn delete_many(&self, keys: &[ObjectKey]) -> Result<(), StoreError> {
        self.meter
            .count("delete many", self.inner.delete_many(keys))
            .await
    }

    async fn sweep(&self, prefix: &str, keep: &[ObjectKey]) -> Result<(), StoreError> {
        self.meter.count("sweep", self.inner.sweep(prefix, keep)).await
    }

    fn min_part(&self) -> u64 {
        self.inner.min_part()
    }
}
