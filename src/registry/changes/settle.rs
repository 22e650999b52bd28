//! From the queue into histories and feeds.
//!
//! One transaction takes rows out of a queue, writes them where they stay, and appends them to the feed as one batch, whose
//! number the feed's head gives. Every such transaction replaces the head, so batches have no gaps and nothing settles twice.
//!
//! A range isn't a snapshot: it may show a repository's second change and not its first, if both came while it was read. So the
//! queue is read twice. What the first read shows was committed before the second began, and so was whatever came before it
//! in its repository: the second read shows that, or it is settled.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU8, Ordering},
};

use prost::Message as _;
use tokio::{sync::Notify, time::Instant};

use super::{
    super::{
        Registry, RegistryError, Result,
        fence::{self, Fenced},
        row,
    },
    PARTITIONS, numbered, tag,
};
use crate::{
    clock,
    oci::RepoName,
    storage::{Entry, Expect, MAX_OPS, Op, Page, Row, Space, StoreErrorKind, Version, keys, rows},
};

/// How many changes are read at once: what one transaction has room for if each moves no tag.
const AT_ONCE: usize = (MAX_OPS - 2) / 2;
/// How many bytes of changes a batch may have: a row has room for 350 KiB.
const BATCH_BYTES: usize = 256 << 10;

/// What came of one look at a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// How many changes were settled.
    pub changes: usize,
    /// Others settled at the same time: there may be more.
    pub outrun: bool,
}

/// Which queues may have something in them, as far as this member knows.
#[derive(Debug, Default)]
pub(in crate::registry) struct Unsettled {
    /// A bit for each partition.
    marked: AtomicU8,
    some: Notify,
}

// A bit each.
const _: () = assert!(PARTITIONS == 8);

impl Unsettled {
    /// There may be something in the `n`-th queue.
    pub(in crate::registry) fn mark(&self, n: u8) {
        self.marked.fetch_or(1 << n, Ordering::Relaxed);
        self.some.notify_one();
    }

    /// The same, when what this gives is dropped: after a transaction, whatever is known of it then.
    pub(in crate::registry) fn marking(&self, repository: &RepoName) -> Marking<'_> {
        let n = Some(keys::change_partition(repository));
        Marking { unsettled: self, n }
    }

    fn take(&self) -> impl Iterator<Item = u8> + use<> {
        let marked = self.marked.swap(0, Ordering::Relaxed);
        (0..PARTITIONS).filter(move |n| marked & (1 << n) != 0)
    }
}

/// A queue that is marked in the end.
pub(in crate::registry) struct Marking<'a> {
    unsettled: &'a Unsettled,
    n: Option<u8>,
}

impl Marking<'_> {
    /// Nothing was changed.
    pub(in crate::registry) fn not(mut self) {
        self.n = None;
    }
}

impl Drop for Marking<'_> {
    fn drop(&mut self) {
        if let Some(n) = self.n {
            self.unsettled.mark(n);
        }
    }
}

impl Registry {
    /// Says that the `n`-th queue is to be looked at: another member may have left something in it.
    pub fn look_for_changes(&self, n: u8) {
        self.unsettled.mark(n);
    }

    /// Waits until a queue is to be looked at, and says which are.
    pub async fn unsettled(&self) -> Vec<u8> {
        loop {
            let marked: Vec<_> = self.unsettled.take().collect();
            if !marked.is_empty() {
                return marked;
            }
            self.unsettled.some.notified().await;
        }
    }

    /// Settles what is in the `n`-th queue now. An error leaves the rest where it is.
    pub async fn settle_changes(&self, n: u8) -> Result<Settled> {
        let mut settled = Settled::default();
        let mut after: Option<String> = None;
        loop {
            let first = self.queued(n, after.as_deref()).await?;
            if first.entries.is_empty() {
                return Ok(settled);
            }
            let head = self.meta.get(&keys::feed_head(n)).await?;
            let second = self.queued(n, after.as_deref()).await?;
            let batch = Batch::of(n, &first.entries, second.entries)?;
            let Some(last) = batch.last.clone() else {
                // Others were here.
                settled.outrun = true;
                return Ok(settled);
            };
            let ops = batch.ops(head.as_ref(), clock::now_ms())?;
            let made = batch.changes.iter().filter_map(|(_, change)| {
                let repository = RepoName::parse(&change.repository).ok()?;
                Some((repository, change.at_ms))
            });
            self.note_days(n, made).await?;
            let deadline = Instant::now() + self.settings.limits.commit_within;
            match fence::transact(&*self.meta, Version::random(), &ops, deadline).await {
                Ok(Fenced::Committed) => {}
                Ok(Fenced::Refused { .. }) => {
                    settled.outrun = true;
                    return Ok(settled);
                }
                Err(RegistryError::Store(error)) if error.kind() == StoreErrorKind::Contended => {
                    settled.outrun = true;
                    return Ok(settled);
                }
                Err(error) => return Err(error),
            }
            settled.changes += batch.changes.len();
            after = Some(last);
        }
    }

    async fn queued(&self, n: u8, after: Option<&str>) -> Result<Page> {
        let queue = keys::unsettled_changes(n);
        let (space, limit) = (Space::Repositories, AT_ONCE);
        Ok(self.meta.range(space, &queue, "", after, limit).await?)
    }
}

/// What is settled by one transaction.
struct Batch {
    n: u8,
    /// With what takes each out of the queue.
    changes: Vec<(Op, rows::NameChange)>,
    /// The sort key of the last.
    last: Option<String>,
}

impl Batch {
    /// As many of the changes as fit that have no former one which isn't among them or settled.
    fn of(n: u8, first: &[Entry], second: Vec<Entry>) -> Result<Self> {
        let place = |sort: &str| sort.rsplit_once('#').map(|(name, _)| name.to_owned());
        // The last of each repository that the first read showed: keys are in the order of times.
        let mut known: BTreeMap<String, &str> = BTreeMap::new();
        for entry in first {
            let name = place(&entry.sort).ok_or_else(|| row::corrupt("read a change's key", "malformed"))?;
            known.insert(name, &entry.sort);
        }
        let mut batch = Self {
            n,
            changes: Vec::new(),
            last: None,
        };
        let (mut ops, mut bytes) = (2, 0);
        for entry in second {
            let known = place(&entry.sort).and_then(|name| known.get(&name).copied());
            if known.is_none_or(|last| entry.sort.as_str() > last) {
                continue;
            }
            let change: rows::NameChange = row::read_to_rewrite(&entry.row)?;
            ops += 2 + change.tags.len();
            bytes += change.encoded_len();
            if !batch.changes.is_empty() && (ops > MAX_OPS || bytes > BATCH_BYTES) {
                break;
            }
            let key = keys::unsettled_change_listed(n, entry.sort.clone());
            batch
                .changes
                .push((key.delete(Expect::Version(entry.row.version)), change));
            batch.last = Some(entry.sort);
        }
        Ok(batch)
    }

    /// The transaction, the feed's head first.
    fn ops(&self, found: Option<&Row>, now_ms: u64) -> Result<Vec<Op>> {
        let head: rows::FeedHead = found.map(row::read_to_rewrite).transpose()?.unwrap_or_default();
        let number = head.last + 1;
        let head = rows::FeedHead {
            min_reader: rows::SCHEMA,
            last: number,
        };
        let mut changes: Vec<_> = self.changes.iter().map(|(_, change)| change.clone()).collect();
        // Between repositories nothing depends on it; within one they are so already.
        changes.sort_by_key(|change| change.at_ms);
        let batch = rows::FeedBatch {
            min_reader: rows::SCHEMA,
            changes,
            at_ms: now_ms,
        };
        let mut ops = vec![
            keys::feed_head(self.n).put(Expect::unchanged(found), row::bytes(&head)),
            keys::feed_batch(self.n, number).put(Expect::Any, row::bytes(&batch)),
        ];
        for (taken, change) in &self.changes {
            ops.push(taken.clone());
            ops.extend(settled(change)?);
        }
        Ok(ops)
    }
}

/// Where a change stays: in the repository's history, and in that of each tag.
fn settled(change: &rows::NameChange) -> Result<Vec<Op>> {
    let repository = RepoName::parse(&change.repository)
        .map_err(|error| row::corrupt("read a repository's name in a change", error))?;
    let mut ops = vec![keys::settled_change(&repository, change.at_ms).put(Expect::Any, row::bytes(change))];
    for moved in &change.tags {
        let event = rows::TagEvent {
            min_reader: rows::SCHEMA,
            at_ms: change.at_ms,
            by: change.by.clone(),
            why: change.why,
            former: numbered(change, moved.former)?.cloned(),
            named: numbered(change, moved.named)?.cloned(),
        };
        let key = keys::tag_event(&repository, &tag(&moved.tag)?, change.at_ms);
        ops.push(key.put(Expect::Any, row::bytes(&event)));
    }
    Ok(ops)
}

/// The sort keys of what would be settled after these two reads.
#[cfg(test)]
pub(super) fn taken(first: &[Entry], second: Vec<Entry>) -> Result<Vec<String>> {
    let batch = Batch::of(0, first, second)?;
    Ok(batch.changes.into_iter().map(|(op, _)| op.key.sort).collect())
}
