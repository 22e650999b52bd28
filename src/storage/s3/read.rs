//! Reading a range of an object, whatever becomes of the connections it comes by.

use std::{error::Error, sync::Arc, time::Duration};

use aws_sdk_s3::{operation::get_object::GetObjectOutput, primitives::ByteStream};
use bytes::Bytes;
use futures_util::stream;
use tokio::time::{sleep, timeout};

use super::{
    bucket::{Bucket, unquoted},
    error::failed,
};
use crate::storage::{Object, ObjectKey, Opened, StoreError, StoreErrorKind, bounds::short_object};

/// Bytes after which a connection was worth its while: what broke before it is forgotten.
const PROGRESS: u64 = 256 << 10;
/// Pause before the second fruitless attempt, doubled for each one after it, with jitter.
const PAUSE: Duration = Duration::from_millis(100);

/// A range that is being read.
struct Reading {
    bucket: Arc<Bucket>,
    key: ObjectKey,
    /// The next byte, and the last one.
    next: u64,
    last: u64,
    /// What the first answer called the object.
    etag: Option<String>,
    body: ByteStream,
    /// Bytes that this body gave.
    given: u64,
    /// Attempts in a row that brought next to nothing.
    fruitless: u32,
}

/// The bytes from `first` to `last`. Some stores drop readers that are slow, and connections break: then the rest is
/// asked for again, as long as it is the same object.
pub(super) async fn range(
    bucket: Arc<Bucket>,
    key: &ObjectKey,
    first: u64,
    last: u64,
) -> Result<Opened, StoreError> {
    let (length, answer) = ask(&bucket, key, first, last).await?;
    let object = Object {
        length,
        etag: unquoted(answer.e_tag.as_deref()),
    };
    let reading = Reading {
        bucket,
        key: key.clone(),
        next: first,
        last,
        etag: answer.e_tag,
        body: answer.body,
        given: 0,
        fruitless: 0,
    };
    let bytes = stream::try_unfold(reading, |mut reading| async move {
        Ok(reading.chunk().await?.map(|chunk| (chunk, reading)))
    });
    Ok(Opened {
        object,
        bytes: Box::pin(bytes),
    })
}

/// The answer, and how long the object is.
async fn ask(
    bucket: &Bucket,
    key: &ObjectKey,
    first: u64,
    last: u64,
) -> Result<(u64, GetObjectOutput), StoreError> {
    let answer = bucket
        .client
        .get_object()
        .bucket(&bucket.name)
        .key(bucket.key(key))
        .range(format!("bytes={first}-{last}"))
        .send()
        .await
        .map_err(|error| failed("get", error))?;
    let length = answer
        .content_length
        .and_then(|length| u64::try_from(length).ok());
    // A server that ignores ranges says nothing of them.
    let whole = match &answer.content_range {
        Some(range) => range
            .strip_prefix(&format!("bytes {first}-"))
            .and_then(|range| range.split_once('/'))
            .and_then(|(_, whole)| whole.parse().ok()),
        None => length.filter(|_| first == 0),
    };
    match (length, whole) {
        (Some(length), Some(whole)) if length == last - first + 1 => Ok((whole, answer)),
        (Some(length), Some(_)) if length < last - first + 1 => Err(short_object("get")),
        _ => Err(corrupt("S3 answered with another range")),
    }
}

fn corrupt(what: &'static str) -> StoreError {
    StoreError::with_source(StoreErrorKind::Corrupt, "get", what)
}

impl Reading {
    async fn chunk(&mut self) -> Result<Option<Bytes>, StoreError> {
        while self.next <= self.last {
            // The time a reader takes before it asks for more doesn't count: what has come meanwhile is looked at first.
            let broke: Box<dyn Error + Send + Sync> =
                match timeout(self.bucket.limits.read_stall, self.body.next()).await {
                    Ok(Some(Ok(chunk))) => {
                        if !chunk.is_empty() {
                            return self.took(chunk).map(Some);
                        }
                        continue;
                    }
                    Ok(Some(Err(error))) => error.into(),
                    Ok(None) => "the answer ended before its end".into(),
                    Err(stalled) => stalled.into(),
                };
            self.go_on(broke).await?;
        }
        Ok(None)
    }

    fn took(&mut self, chunk: Bytes) -> Result<Bytes, StoreError> {
        let length = chunk.len() as u64;
        if length > self.last - self.next + 1 {
            return Err(corrupt("S3 sent more than was asked for"));
        }
        self.next += length;
        self.given += length;
        if self.given >= PROGRESS {
            self.fruitless = 0;
        }
        Ok(chunk)
    }

    /// The body `broke`: asks for the rest.
    async fn go_on(&mut self, broke: Box<dyn Error + Send + Sync>) -> Result<(), StoreError> {
        self.fruitless += 1;
        if self.fruitless >= self.bucket.limits.read_attempts {
            return Err(StoreError::with_source(StoreErrorKind::Unavailable, "get", broke));
        }
        tracing::debug!(key = %self.key, at = self.next, error = %broke, "a read broke, and goes on");
        if let Some(doublings) = self.fruitless.checked_sub(2) {
            sleep(jittered(PAUSE * 2_u32.saturating_pow(doublings))).await;
        }
        let (_, answer) = ask(&self.bucket, &self.key, self.next, self.last).await?;
        // Not If-Match: Ceph refuses it even for the right one.
        if answer.e_tag != self.etag {
            return Err(corrupt("the object was replaced while it was read"));
        }
        self.body = answer.body;
        self.given = 0;
        Ok(())
    }
}

/// From nothing up to `pause`.
pub(super) fn jittered(pause: Duration) -> Duration {
    let mut bytes = [0; 2];
    // Without random numbers the pause is none.
    let _ = crate::entropy::fill(&mut bytes);
    pause.mul_f64(f64::from(u16::from_le_bytes(bytes)) / f64::from(u16::MAX))
}
