//! What has to be done when a due-row's time has come, so that what nobody needs gives its space back.
//!
//! - A row says where to look, never what to do: that is decided by what is there. So any member may do any row, twice
//!   or at the same time as another, and a crash between any two steps leaves a row that is looked at again.
//! - Each step is fenced by the version of the row that it takes away, and the due-row goes last, or in the same
//!   transaction.
//! - Clocks only say when to look. A row is looked at when it has been due for [`RegistryLimits::clock_margin`], and what it is
//!   about when that has; a member whose clock is further ahead than that ends sessions and makes others write again,
//!   and can't take away what a row names.
//!
//! What is done about links, digests and their objects is in [`collect`](super::collect). Absent on purpose: who looks when
//! (`maintenance`).
//!
//! [`RegistryLimits::clock_margin`]: crate::config::limits::RegistryLimits::clock_margin

#[cfg(test)]
mod tests;

use std::time::Duration;

use super::{Registry, RegistryError, Result, due::Expected, row};
use crate::{
    oci::{RepoName, UploadId},
    storage::{
        Expect, Key, MAX_PAGE, Op, Row, Space,
        keys::{self, Queue},
        rows,
        rows::DueKind,
    },
};

/// A due-row that was read: something to look at.
#[derive(Clone, Debug)]
pub struct DueWork {
    key: Key,
    row: Row,
    due_ms: u64,
}

impl DueWork {
    /// The name of the row among those of its partition.
    pub fn name(&self) -> &str {
        &self.key.sort
    }

    /// When it was to be looked at, in milliseconds since the Unix epoch.
    pub fn due_ms(&self) -> u64 {
        self.due_ms
    }

    /// Whether it is about an object that is to be deleted: many of them take one request
    /// ([`Registry::delete_objects`]).
    pub fn is_object(&self) -> bool {
        self.kind() == keys::due_kind(DueKind::Object)
    }

    /// The row, to be expected in a transaction.
    pub(super) fn as_read(&self) -> Expected {
        Expected {
            key: self.key.clone(),
            version: self.row.version,
        }
    }

    /// What it says, to be written anew.
    pub(super) fn due_to_rewrite(&self) -> Result<rows::Due> {
        row::read_to_rewrite(&self.row)
    }

    /// Bytes that come free once it is done, as far as that is known.
    pub fn bytes(&self) -> u64 {
        bytes(&self.row)
    }

    /// What it is about, in one word.
    pub fn kind(&self) -> &'static str {
        let due: Result<rows::Due> = row::read(&self.row);
        keys::due_kind(due.map_or(DueKind::Unspecified, |due| due.kind()))
    }
}

/// A piece of one partition of due-rows.
#[derive(Clone, Debug, Default)]
pub struct DuePage {
    /// In the order of their times.
    pub work: Vec<DueWork>,
    /// There may be more that are due: ask again after the last.
    pub more: bool,
    /// When the time of the one after these will have come, if there is one and it hasn't: milliseconds since the Unix epoch.
    pub next_ms: Option<u64>,
    /// What comes after these, as far as it was read.
    pub later: Later,
}

/// What in a partition of due-rows comes later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Later {
    /// Bytes that come free then, as far as they are known.
    pub bytes: u64,
    /// There is more after the row of this name.
    pub after: Option<String>,
}

/// What became of a due-row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tended {
    /// There is nothing to do any more, and no row.
    Done,
    /// It is to be looked at again later.
    Later,
    /// Another member came first.
    Outrun,
    /// It is for a newer release.
    NotOurs,
}

/// What has to become of a due-row.
pub(super) enum Next {
    /// It goes, together with these.
    Over(Vec<Op>),
    /// It is replaced by this one, at that time.
    Again { at_ms: u64, due: rows::Due },
    /// It went in a transaction of its own.
    Settled(Tended),
}

impl Registry {
    /// Rows of a queue's partition (the `n`-th of [`keys::DUE_PARTITIONS`]) whose time has come at `now_ms`, at most `limit`
    /// (1 to 1,000) of them, after the one of that name: one read.
    pub async fn due_work(
        &self,
        queue: Queue,
        n: u16,
        after: Option<&str>,
        limit: usize,
        now_ms: u64,
    ) -> Result<DuePage> {
        let (partition, ripe_ms) = (queue.partition(n), self.ripe(now_ms));
        let page = self
            .meta
            .range(Space::Blobs, &partition, "", after, limit)
            .await?;
        let last = page.entries.last().map(|entry| entry.sort.clone());
        let mut found = DuePage {
            more: page.more,
            later: Later {
                bytes: 0,
                after: last.filter(|_| page.more),
            },
            ..DuePage::default()
        };
        for entry in page.entries {
            // A name that isn't one sorts somewhere; it is reported when it is looked at.
            let due_ms = keys::due_parts(&entry.sort).map_or(0, |(due_ms, _)| due_ms);
            if due_ms > ripe_ms {
                found.more = false;
                let margin_ms = millis(self.settings.limits.clock_margin);
                found.next_ms.get_or_insert(due_ms.saturating_add(margin_ms));
                found.later.bytes += bytes(&entry.row);
                continue;
            }
            found.work.push(DueWork {
                key: keys::due_listed(queue, n, entry.sort),
                row: entry.row,
                due_ms,
            });
        }
        Ok(found)
    }

    /// Bytes of the objects that are to be deleted by what is after `later` in the `n`-th partition, and by that: a read for a thousand
    /// rows. Those that come later than any object can aren't read.
    pub async fn waiting(&self, queue: Queue, n: u16, later: Later, now_ms: u64) -> Result<u64> {
        let (partition, Later { mut bytes, mut after }) = (queue.partition(n), later);
        let last_ms = now_ms.saturating_add(millis(self.settings.limits.object_delay));
        let may_be_object =
            |after: &String| keys::due_parts(after).is_none_or(|(due_ms, _)| due_ms <= last_ms);
        while after.as_ref().is_some_and(may_be_object) {
            let page = self
                .meta
                .range(Space::Blobs, &partition, "", after.as_deref(), MAX_PAGE)
                .await?;
            bytes += page
                .entries
                .iter()
                .map(|entry| self::bytes(&entry.row))
                .sum::<u64>();
            let last = page.entries.into_iter().next_back();
            after = last.map(|entry| entry.sort).filter(|_| page.more);
        }
        Ok(bytes)
    }

    /// Looks at what a due-row is about, does what there is to do, and takes the row away or moves it. An error leaves the
    /// row, for another time.
    pub async fn tend(&self, work: &DueWork, now_ms: u64) -> Result<Tended> {
        let due = match work.due_to_rewrite() {
            Ok(due) => due,
            Err(RegistryError::NewerSchema { .. }) => return Ok(Tended::NotOurs),
            Err(error) => return Err(error),
        };
        match self.next(work, due, now_ms).await {
            Ok(Some(Next::Settled(tended))) => Ok(tended),
            Ok(Some(next)) => self.settle(work, next).await,
            Ok(None) | Err(RegistryError::NewerSchema { .. }) => Ok(Tended::NotOurs),
            Err(error) => Err(error),
        }
    }

    /// Does what there is to do before the due-row can go. Nothing comes of what this release doesn't know.
    async fn next(&self, work: &DueWork, due: rows::Due, now_ms: u64) -> Result<Option<Next>> {
        let ripe_ms = self.ripe(now_ms);
        let next = match due.kind() {
            DueKind::Session => self.end_session(due, ripe_ms).await?,
            DueKind::Trash => self.empty_trash(due, now_ms).await?,
            DueKind::Tombstone => self.forget_repository(due, ripe_ms).await?,
            // Without the row the manifest's transaction can't commit any more.
            DueKind::ManifestBody => Next::Over(vec![self.dues.trash(now_ms, &due.key, None)]),
            DueKind::Manifest => self.collect_manifest(due, ripe_ms).await?,
            DueKind::Relink => self.follow_record(&due, now_ms).await?,
            DueKind::Link => self.collect_link(work, due, ripe_ms).await?,
            DueKind::Digest => self.collect_digest(work, due).await?,
            DueKind::Object => {
                let tended = self.delete_objects(std::slice::from_ref(work), now_ms).await?;
                Next::Settled(tended.into_iter().next().unwrap_or(Tended::Outrun))
            }
            DueKind::Unspecified => return Ok(None),
        };
        Ok(Some(next))
    }

    /// Takes the due-row away, if nobody else did.
    async fn settle(&self, work: &DueWork, next: Next) -> Result<Tended> {
        let corrupt = || row::corrupt("read a due-row's key", "malformed");
        let (_, subject) = keys::due_parts(&work.key.sort).ok_or_else(corrupt)?;
        let mut ops = vec![work.as_read().delete()];
        let tended = match next {
            Next::Settled(tended) => return Ok(tended),
            Next::Over(others) => {
                ops.extend(others);
                Tended::Done
            }
            Next::Again { at_ms, due } => {
                ops.push(self.dues.put(at_ms, subject, due));
                Tended::Later
            }
        };
        Ok(match self.settled(ops).await? {
            Tended::Done => tended,
            outrun => outrun,
        })
    }

    /// What was due before this time is due by everybody's clock.
    fn ripe(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(millis(self.settings.limits.clock_margin))
    }

    /// An upload session that may have expired, or is over.
    async fn end_session(&self, due: rows::Due, ripe_ms: u64) -> Result<Next> {
        let corrupt = |error| row::corrupt("read an upload's id in a due-row", error);
        let id = UploadId::parse(&due.key).map_err(corrupt)?;
        self.end_upload(&id, ripe_ms, due).await
    }

    /// Objects that no row names (rule G4).
    async fn empty_trash(&self, due: rows::Due, now_ms: u64) -> Result<Next> {
        let kept: Result<Vec<_>> = due.keep.iter().map(|key| row::object_key(key)).collect();
        self.blobs.sweep(&due.key, &kept?).await?;
        if due.passes > 0 {
            return Ok(Next::Over(Vec::new()));
        }
        let at_ms = now_ms.saturating_add(millis(self.settings.limits.trash_again));
        Ok(Next::Again {
            at_ms,
            due: rows::Due { passes: 1, ..due },
        })
    }

    /// Links to an object that was lost, and what may be left of that (rule G5); or to one whose bytes are wrong, which stays.
    async fn follow_record(&self, due: &rows::Due, now_ms: u64) -> Result<Next> {
        let (digest, former) = (row::digest(&due.key)?, row::object_key(&due.object_key)?);
        // As it was before the links were read: of one that was replaced meanwhile, some may name the former object still.
        let recorded = self.recorded(&digest).await?;
        self.relink(&digest, &former).await?;
        if recorded.is_some_and(|recorded| recorded.key == former) {
            return Ok(Next::Over(Vec::new()));
        }
        let at_ms = now_ms.saturating_add(millis(self.settings.limits.trash_delay));
        Ok(Next::Over(vec![self.dues.trash(at_ms, former.as_str(), None)]))
    }

    /// The row of a repository that has no manifest.
    async fn forget_repository(&self, due: rows::Due, ripe_ms: u64) -> Result<Next> {
        let repository = repository_of(&due)?;
        let key = keys::repository(&repository);
        let Some(found) = self.meta.get(&key).await? else {
            return Ok(Next::Over(Vec::new()));
        };
        let row: rows::Repository = row::read_to_rewrite(&found)?;
        Ok(match row {
            rows::Repository { manifests: 1.., .. } => Next::Over(Vec::new()),
            rows::Repository { ends_ms, .. } if ends_ms > ripe_ms => Next::Again { at_ms: ends_ms, due },
            // Still that tombstone, or the transaction is refused. What was found out about it is of no use without it.
            _ => Next::Over(vec![
                key.delete(Expect::Version(found.version)),
                keys::summary(&repository).delete(Expect::Any),
                keys::downloads(&repository).delete(Expect::Any),
            ]),
        })
    }

    /// A deleted manifest: its references, its row and its object.
    async fn collect_manifest(&self, due: rows::Due, ripe_ms: u64) -> Result<Next> {
        let (repository, digest) = (repository_of(&due)?, row::digest(&due.key)?);
        match self.collect_deleted(&repository, &digest, ripe_ms).await? {
            None => Ok(Next::Over(Vec::new())),
            Some(at_ms) => Ok(Next::Again { at_ms, due }),
        }
    }
}

/// Bytes that a due-row is about.
fn bytes(found: &Row) -> u64 {
    let due: Result<rows::Due> = row::read(found);
    due.map_or(0, |due| due.size)
}

pub(super) fn repository_of(due: &rows::Due) -> Result<RepoName> {
    RepoName::parse(&due.repository)
        .map_err(|error| row::corrupt("read a repository's name in a due-row", error))
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
