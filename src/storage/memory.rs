//! Both stores in memory, for tests and simulations: they obey the whole contract, and forget everything at the end.
//!
//! Absent on purpose: any bound on how much they hold, and faults (see [`faulty`](super::faulty)).

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use parking_lot::Mutex;

use super::{
    AllObjects, AllRows, BlobStore, Effect, Entry, Expect, Key, Listed, Listing, MAX_UNFINISHED, MetaStore,
    Object, ObjectKey, Op, Opened, Outcome, Page, Part, PartNumber, Payload, Row, Space, StoreError,
    StoreErrorKind, Unnamed, Version, Walked, bounds, walk::MAX_LISTED,
};

/// Rows in memory.
#[derive(Debug, Default)]
pub struct MemoryMeta {
    rows: Mutex<BTreeMap<Key, Row>>,
}

impl MemoryMeta {
    /// A store without rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// The keys of all its rows, in order, for tests that check what was left behind.
    pub fn keys(&self) -> Vec<Key> {
        self.rows.lock().keys().cloned().collect()
    }

    /// How many rows it holds, for tests that check what was left behind.
    pub fn len(&self) -> usize {
        self.rows.lock().len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Whether `expect` holds of `row`.
pub(super) fn holds(expect: Expect, row: Option<&Row>) -> bool {
    match expect {
        Expect::Any => true,
        Expect::Absent => row.is_none(),
        Expect::Version(version) => row.is_some_and(|row| row.version == version),
    }
}

#[async_trait]
impl MetaStore for MemoryMeta {
    async fn get(&self, key: &Key) -> Result<Option<Row>, StoreError> {
        Ok(self.rows.lock().get(key).cloned())
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Row>>, StoreError> {
        bounds::check_keys(keys)?;
        let rows = self.rows.lock();
        Ok(keys.iter().map(|key| rows.get(key).cloned()).collect())
    }

    async fn snapshot(&self, keys: &[Key]) -> Result<Vec<Option<Row>>, StoreError> {
        // All under one lock.
        self.get_many(keys).await
    }

    async fn range(
        &self,
        space: Space,
        partition: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        bounds::check_limit(limit)?;
        let key = |sort: &str| Key {
            space,
            partition: partition.to_owned(),
            sort: sort.to_owned(),
        };
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(key(after)),
            _ => Bound::Included(key(prefix)),
        };
        let rows = self.rows.lock();
        let found = rows
            .range((start, Bound::Unbounded))
            .take_while(|(key, _)| key.space == space && key.partition == partition)
            .take_while(|(key, _)| key.sort.starts_with(prefix));
        let mut page = Page::default();
        let mut size = 0;
        for (key, row) in found {
            if page.entries.len() == limit || size >= bounds::PAGE_BYTES {
                page.more = true;
                break;
            }
            size += row.bytes.len();
            page.entries.push(Entry {
                sort: key.sort.clone(),
                row: row.clone(),
            });
        }
        Ok(page)
    }

    async fn transact(&self, version: Version, ops: &[Op]) -> Result<Outcome, StoreError> {
        bounds::check_transaction(ops)?;
        let mut rows = self.rows.lock();
        for (index, op) in ops.iter().enumerate() {
            let current = rows.get(&op.key);
            if !holds(op.expect, current) {
                return Ok(Outcome::Refused {
                    index,
                    current: current.cloned(),
                });
            }
        }
        for op in ops {
            match &op.effect {
                Effect::Check => {}
                Effect::Put(bytes) => {
                    let row = Row {
                        bytes: bytes.clone(),
                        version,
                    };
                    rows.insert(op.key.clone(), row);
                }
                Effect::Delete => {
                    rows.remove(&op.key);
                }
            }
        }
        Ok(Outcome::Committed)
    }
}

#[async_trait]
impl AllRows for MemoryMeta {
    async fn walk(&self, space: Space, after: Option<&Key>, limit: usize) -> Result<Walked, StoreError> {
        bounds::check_limit(limit)?;
        let first = Key {
            space,
            partition: String::new(),
            sort: String::new(),
        };
        let start = after.map_or(Bound::Included(&first), Bound::Excluded);
        let rows = self.rows.lock();
        let mut found = rows
            .range((start, Bound::Unbounded))
            .take_while(|(key, _)| key.space == space);
        let some = found.by_ref().take(limit);
        let walked = some.map(|(key, row)| (key.clone(), row.clone())).collect();
        Ok(Walked {
            rows: walked,
            more: found.next().is_some(),
        })
    }
}

/// Objects in memory.
#[derive(Debug)]
pub struct MemoryBlobs {
    min_part: u64,
    unnamed: Unnamed,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<ObjectKey, (String, Payload)>,
    uploads: HashMap<String, Upload>,
}

#[derive(Debug)]
struct Upload {
    key: ObjectKey,
    parts: BTreeMap<PartNumber, (String, Payload)>,
}

impl MemoryBlobs {
    /// A store without objects, whose parts may have any length but 0: a small [`BlobStore::min_part`] lets tests
    /// make objects of many parts without many bytes.
    pub fn new() -> Self {
        Self::with_min_part(1)
    }

    /// A store without objects that has `min_part`.
    pub fn with_min_part(min_part: u64) -> Self {
        Self {
            min_part,
            unnamed: Unnamed::Vanish,
            state: Mutex::default(),
        }
    }

    /// With another way to treat parts that aren't named: as other servers do.
    #[must_use]
    pub fn with_unnamed(mut self, unnamed: Unnamed) -> Self {
        self.unnamed = unnamed;
        self
    }

    /// The keys of its objects, for tests that check what was left behind.
    pub fn objects(&self) -> Vec<ObjectKey> {
        self.state.lock().objects.keys().cloned().collect()
    }

    /// The keys of its multipart uploads, for tests that check what was left behind.
    pub fn uploads(&self) -> Vec<ObjectKey> {
        let state = self.state.lock();
        state.uploads.values().map(|upload| upload.key.clone()).collect()
    }
}

impl Default for MemoryBlobs {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    fn upload(
        &mut self,
        operation: &'static str,
        key: &ObjectKey,
        id: &str,
    ) -> Result<&mut Upload, StoreError> {
        self.uploads
            .get_mut(id)
            .filter(|upload| upload.key == *key)
            .ok_or(StoreError::new(StoreErrorKind::NotFound, operation))
    }
}

/// The pieces of `payload` that hold the bytes from `first` on, `length` of them.
fn slice(payload: &Payload, first: u64, length: u64) -> Option<Vec<Bytes>> {
    let (mut skip, mut left) = (first, length);
    let mut pieces = Vec::new();
    for chunk in payload.chunks() {
        let size = chunk.len() as u64;
        if left == 0 {
            break;
        }
        if skip >= size {
            skip -= size;
            continue;
        }
        let take = left.min(size - skip);
        let begin = usize::try_from(skip).ok()?;
        let end = usize::try_from(skip + take).ok()?;
        pieces.push(chunk.slice(begin..end));
        (skip, left) = (0, left - take);
    }
    (left == 0).then_some(pieces)
}

#[async_trait]
impl BlobStore for MemoryBlobs {
    async fn put(&self, key: &ObjectKey, payload: Payload) -> Result<String, StoreError> {
        let etag = bounds::random_name();
        self.state
            .lock()
            .objects
            .insert(key.clone(), (etag.clone(), payload));
        Ok(etag)
    }

    async fn begin(&self, key: &ObjectKey) -> Result<String, StoreError> {
        let id = bounds::random_name();
        let upload = Upload {
            key: key.clone(),
            parts: BTreeMap::new(),
        };
        self.state.lock().uploads.insert(id.clone(), upload);
        Ok(id)
    }

    async fn part(
        &self,
        key: &ObjectKey,
        upload: &str,
        number: PartNumber,
        payload: Payload,
    ) -> Result<String, StoreError> {
        let etag = bounds::random_name();
        let mut state = self.state.lock();
        let upload = state.upload("part", key, upload)?;
        upload.parts.insert(number, (etag.clone(), payload));
        Ok(etag)
    }

    async fn complete(&self, key: &ObjectKey, upload: &str, parts: &[Part]) -> Result<String, StoreError> {
        bounds::check_parts(parts, self.min_part)?;
        let mut state = self.state.lock();
        let unnamed = self.unnamed;
        let found = state.upload("complete", key, upload)?;
        let is_named = |number: &PartNumber| parts.iter().any(|part| part.number == *number);
        if unnamed != Unnamed::Vanish && !found.parts.keys().all(is_named) {
            return Err(StoreError::new(StoreErrorKind::InvalidPart, "complete"));
        }
        let mut object = Payload::default();
        for part in parts {
            let payload = found
                .parts
                .get(&part.number)
                .filter(|(etag, payload)| {
                    unnamed == Unnamed::Doom || (*etag == part.etag && payload.len() == part.length)
                })
                .map(|(_, payload)| payload)
                .ok_or(StoreError::new(StoreErrorKind::InvalidPart, "complete"))?;
            for chunk in payload.chunks() {
                object.push(chunk.clone());
            }
        }
        state.uploads.remove(upload);
        let etag = bounds::random_name();
        state.objects.insert(key.clone(), (etag.clone(), object));
        Ok(etag)
    }

    async fn last_part(&self, key: &ObjectKey, upload: &str) -> Result<Option<PartNumber>, StoreError> {
        let mut state = self.state.lock();
        let upload = state.upload("last_part", key, upload)?;
        Ok(upload.parts.keys().next_back().copied())
    }

    fn unnamed(&self) -> Unnamed {
        self.unnamed
    }

    async fn abort(&self, key: &ObjectKey, upload: &str) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        if state.upload("abort", key, upload).is_ok() {
            state.uploads.remove(upload);
        }
        Ok(())
    }

    async fn get(&self, key: &ObjectKey, first: u64, last: u64) -> Result<Opened, StoreError> {
        bounds::check_range(first, last)?;
        let state = self.state.lock();
        let (etag, payload) = state
            .objects
            .get(key)
            .ok_or(StoreError::new(StoreErrorKind::NotFound, "get"))?;
        if last >= payload.len() {
            return Err(bounds::short_object("get"));
        }
        let pieces = slice(payload, first, last - first + 1).ok_or_else(|| bounds::short_object("get"))?;
        Ok(Opened {
            object: Object {
                length: payload.len(),
                etag: etag.clone(),
            },
            bytes: Box::pin(stream::iter(pieces.into_iter().map(Ok))),
        })
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<Object>, StoreError> {
        let state = self.state.lock();
        Ok(state.objects.get(key).map(|(etag, payload)| Object {
            length: payload.len(),
            etag: etag.clone(),
        }))
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.state.lock().objects.remove(key);
        Ok(())
    }

    async fn sweep(&self, prefix: &str, keep: &[ObjectKey]) -> Result<(), StoreError> {
        bounds::check_prefix(prefix)?;
        let swept = |key: &ObjectKey| key.as_str().starts_with(prefix) && !keep.contains(key);
        let mut state = self.state.lock();
        state.objects.retain(|key, _| !swept(key));
        state.uploads.retain(|_, upload| !swept(&upload.key));
        Ok(())
    }

    fn min_part(&self) -> u64 {
        self.min_part
    }
}

#[async_trait]
impl AllObjects for MemoryBlobs {
    async fn list(&self, after: Option<&str>) -> Result<Listing, StoreError> {
        let state = self.state.lock();
        let mut rest = state
            .objects
            .iter()
            .filter(|(key, _)| after.is_none_or(|after| key.as_str() > after));
        let some = rest.by_ref().take(MAX_LISTED);
        let objects = some.map(|(key, (_, payload))| Listed {
            key: key.as_str().to_owned(),
            length: payload.len(),
            written: None,
        });
        Ok(Listing {
            objects: objects.collect(),
            more: rest.next().is_some(),
        })
    }

    async fn unfinished(&self) -> Result<Vec<Listed>, StoreError> {
        let uploads = self.uploads().into_iter().take(MAX_UNFINISHED);
        let listed = uploads.map(|key| Listed {
            key: key.as_str().to_owned(),
            length: 0,
            written: None,
        });
        Ok(listed.collect())
    }

    async fn has_any(&self, folder: &str) -> Result<bool, StoreError> {
        let state = self.state.lock();
        Ok(state.objects.keys().any(|key| key.as_str().starts_with(folder)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::storage::contract;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_rows_keep_the_contract() {
        let store = Arc::new(MemoryMeta::new());
        contract::run_meta(store.clone()).await;
        contract::run_walks(store).await;
    }

    #[tokio::test]
    async fn the_objects_keep_the_contract() {
        let store = Arc::new(MemoryBlobs::new());
        contract::run_blobs(store.clone()).await;
        contract::run_lists(store).await;
    }

    #[tokio::test]
    async fn the_objects_keep_the_contract_as_cephs_do() {
        let strict = MemoryBlobs::new().with_unnamed(Unnamed::Overwrite);
        contract::run_blobs(Arc::new(strict)).await;
    }

    #[tokio::test]
    async fn a_small_part_in_the_middle_is_misuse() {
        let store = MemoryBlobs::with_min_part(10);
        let key = ObjectKey::parse("a").unwrap();
        let id = store.begin(&key).await.unwrap();
        let mut parts = Vec::new();
        for n in 1..=2 {
            let number = PartNumber::new(n).unwrap();
            let payload = Payload::from(Bytes::from_static(b"123456789"));
            let etag = store.part(&key, &id, number, payload).await.unwrap();
            parts.push(Part {
                number,
                etag,
                length: 9,
            });
        }
        let error = store.complete(&key, &id, &parts).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Misuse);
        assert_eq!(store.uploads(), std::slice::from_ref(&key));
        store.complete(&key, &id, &parts[1..]).await.unwrap();
        assert_eq!((store.objects(), store.uploads()), (vec![key], vec![]));
    }
}
