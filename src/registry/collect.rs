//! Collection: what nothing needs any more gives its space back, online and exactly (rules G2 to G4).
//!
//! Nothing is walked. Three kinds of due-rows say what to look at, and what is there decides:
//!
//! - a *link* that isn't in use and that no manifest references goes, in a transaction that replaces the repository's row; the
//!   same transaction condemns the blob's record;
//! - a *digest* is looked for among the links after its record was condemned: the record goes, or lives again;
//! - an *object* that no record names any more is deleted, many in one request, and once more a day later.
//!
//! What only deleted manifests reference that can be brought back (`storage.history`) is *shelved*: its link stays, so its bytes
//! do, but it counts against no quota and nobody finds it. When the last of those manifests goes for good, so does the link.
//!
//! A link is *in use* once a live manifest was seen to reference it: then nobody looks at it again until that manifest's
//! references are collected, and a HEAD of it costs no write. A HEAD of any other link *arms* it for another grace, so that a
//! client that was told that a blob is there finds it when it pushes the manifest.
//!
//! Removing a blob that nobody uses takes five requests to the metadata store: the rows of repository, link and record at once;
//! the references; the transaction that unlinks and condemns; the links; the transaction that removes the record.

#[cfg(test)]
pub(super) mod tests;

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    Registry, RegistryError, Result,
    blobs::Blob,
    commit::{Change, Current, HeldBy, Plan},
    due::{self, Dues, Expected},
    quota,
    references::{User, user_of},
    row,
    shelf::{present, shelved},
    upkeep::{DueWork, Next, Tended, millis, repository_of},
};
use crate::{
    clock,
    oci::{Digest, RepoName},
    storage::{Expect, Key, ObjectKey, Op, Outcome, Row, Space, Version, keys, rows, rows::BlobState},
};

/// Rows of objects that move in one transaction, each of two operations.
const OBJECTS_AT_ONCE: usize = crate::storage::MAX_OPS / 2;

impl Registry {
    /// The blob, if the repository holds it, for a client that may push a manifest with it next: it stays for at least half a
    /// grace ([`RegistryLimits::link_grace`](crate::config::limits::RegistryLimits::link_grace)), whoever collects.
    pub(super) async fn blob_to_rely_on(&self, repository: &RepoName, digest: &Digest) -> Result<Blob> {
        if let Some(blob) = self.remembered_to_rely_on(repository, digest).await? {
            return Ok(blob);
        }
        let key = keys::link(digest, repository);
        for _ in 0..self.settings.limits.attempts {
            let found = present(self.meta.get(&key).await?)?.ok_or(RegistryError::BlobUnknown)?;
            let link: rows::Link = row::read(&found)?;
            if self.stays(link.in_use, link.armed_ms) {
                return Blob::linked(digest, &link);
            }
            let armed = rows::Link {
                armed_ms: clock::now_ms(),
                ..row::read_to_rewrite(&found)?
            };
            let op = key
                .clone()
                .put(Expect::Version(found.version), row::bytes(&armed));
            match self.meta.transact(Version::random(), &[op]).await? {
                Outcome::Committed => return Blob::linked(digest, &armed),
                // It was armed by others, came into use, or went.
                Outcome::Refused { .. } | Outcome::Unknown => {}
            }
        }
        Err(RegistryError::Contended)
    }

    /// Whether a link with these marks is one to rely on for a while.
    pub(super) fn stays(&self, in_use: bool, armed_ms: u64) -> bool {
        in_use || armed_ms.saturating_add(self.grace_ms() / 2) > clock::now_ms()
    }

    /// A link whose grace may be over.
    pub(super) async fn collect_link(&self, work: &DueWork, due: rows::Due, ripe_ms: u64) -> Result<Next> {
        let (repository, digest) = (repository_of(&due)?, row::digest(&due.key)?);
        // Link and record are expected in the transaction as they are now, so they may be read beside the repository's row; the
        // references are read after it.
        let wanted = [
            keys::repository(&repository),
            keys::link(&digest, &repository),
            keys::blob(&digest),
        ];
        let mut found = self.meta.get_many(&wanted).await?.into_iter();
        let mut next = || found.next().flatten();
        let (repository_row, link, record) = (next(), next(), next());
        let unlink = UnlinkUnused {
            registry: self,
            repository: &repository,
            digest: &digest,
            work,
            ripe_ms,
            read: Some((link, record)),
        };
        let deadline = Instant::now() + self.settings.limits.commit_within;
        let current = Current::of(repository_row.as_ref())?;
        let (ended, version) = self.commit_read(&repository, deadline, unlink, current).await?;
        match (ended, version) {
            (Unlinked::Over, _) => Ok(Next::Over(Vec::new())),
            (Unlinked::InUse(op), _) => Ok(Next::Over(vec![op])),
            (Unlinked::Shelved, _) => Ok(Next::Settled(Tended::Done)),
            (Unlinked::ArmedUntil(at_ms), _) => Ok(Next::Again { at_ms, due }),
            (Unlinked::Gone { due: key, condemned }, Some(version)) => {
                let record = match condemned {
                    Some(bytes) => Some(Row { bytes, version }),
                    None => self.meta.get(&keys::blob(&digest)).await?,
                };
                let settled = self
                    .settle_digest(&digest, Expected { key, version }, record)
                    .await?;
                Ok(Next::Settled(settled))
            }
            // A plan that unlinks is a transaction.
            (Unlinked::Gone { .. }, None) => Err(RegistryError::OutcomeUnknown),
        }
    }

    /// A digest that may have no link.
    pub(super) async fn collect_digest(&self, work: &DueWork, due: rows::Due) -> Result<Next> {
        let digest = row::digest(&due.key)?;
        let record = self.meta.get(&keys::blob(&digest)).await?;
        let settled = self.settle_digest(&digest, work.as_read(), record).await?;
        Ok(Next::Settled(settled))
    }

    /// Rule G3: condemns the record in the name of its due-row, and only then looks for links.
    async fn settle_digest(&self, digest: &Digest, due: Expected, record: Option<Row>) -> Result<Tended> {
        let key = keys::blob(digest);
        let Some(found) = record else {
            return self.settled(vec![due.delete()]).await;
        };
        let record: rows::Blob = row::read_to_rewrite(&found)?;
        let version = match record.state() {
            BlobState::Condemned => found.version,
            BlobState::Live => {
                let version = Version::random();
                let condemn = key
                    .clone()
                    .put(Expect::Version(found.version), condemned(&record));
                match self.meta.transact(version, &[due.check(), condemn]).await? {
                    Outcome::Committed => version,
                    Outcome::Refused { .. } => return Ok(Tended::Outrun),
                    Outcome::Unknown => return Err(RegistryError::OutcomeUnknown),
                }
            }
            BlobState::Unspecified => return Err(row::corrupt("read a blob's record", "no state")),
        };
        let links = self
            .meta
            .range(Space::Links, digest.as_str(), "", None, 1)
            .await?;
        let mut ops = vec![due.delete()];
        if links.entries.is_empty() {
            let at_ms = due::after(self.settings.limits.object_delay);
            ops.push(key.delete(Expect::Version(version)));
            ops.push(self.dues.object(at_ms, &record.object_key, record.size));
        } else {
            let live = rows::Blob {
                state: BlobState::Live.into(),
                ..record
            };
            ops.push(key.put(Expect::Version(version), row::bytes(&live)));
        }
        self.settled(ops).await
    }

    /// Deletes the objects that these due-rows are about (rule G4), all of which are of that kind: in one request, if the store
    /// has one.
    pub async fn delete_objects(&self, work: &[DueWork], now_ms: u64) -> Result<Vec<Tended>> {
        let again_ms = now_ms.saturating_add(millis(self.settings.limits.trash_again));
        let objects: Vec<_> = work
            .iter()
            .map(|work| Unneeded::read(work, self.dues, again_ms))
            .collect::<Result<_>>()?;
        let keys: Vec<_> = objects.iter().map(|object| object.key.clone()).collect();
        self.blobs.delete_many(&keys).await?;
        let mut tended = Vec::new();
        for objects in objects.chunks(OBJECTS_AT_ONCE) {
            let ops = objects.iter().flat_map(|object| object.ops.clone()).collect();
            if self.settled(ops).await? == Tended::Done {
                tended.extend(objects.iter().map(|object| object.then));
                continue;
            }
            // Another member did some of them.
            for object in objects {
                tended.push(match self.settled(object.ops.clone()).await? {
                    Tended::Done => object.then,
                    outrun => outrun,
                });
            }
        }
        Ok(tended)
    }

    /// Sends a transaction that takes a due-row away: refused, others were here.
    pub(super) async fn settled(&self, ops: Vec<Op>) -> Result<Tended> {
        match self.meta.transact(Version::random(), &ops).await? {
            Outcome::Committed => Ok(Tended::Done),
            Outcome::Refused { .. } => Ok(Tended::Outrun),
            Outcome::Unknown => Err(RegistryError::OutcomeUnknown),
        }
    }

    pub(super) fn grace_ms(&self) -> u64 {
        millis(self.settings.limits.link_grace)
    }

    /// Whether what is deleted can be brought back.
    pub(super) fn has_history(&self) -> bool {
        !self.settings.limits.history.is_zero()
    }
}

/// An object that no record names.
struct Unneeded {
    key: ObjectKey,
    /// What becomes of its due-row once it is deleted.
    ops: Vec<Op>,
    then: Tended,
}

impl Unneeded {
    fn read(work: &DueWork, dues: Dues, again_ms: u64) -> Result<Self> {
        let due: rows::Due = work.due_to_rewrite()?;
        let key = row::object_key(&due.key)?;
        let mut ops = vec![work.as_read().delete()];
        let then = if due.passes == 0 {
            ops.push(dues.deleted_object(again_ms, key.as_str()));
            Tended::Later
        } else {
            Tended::Done
        };
        Ok(Self { key, ops, then })
    }
}

/// The record while its links are looked for.
fn condemned(record: &rows::Blob) -> Bytes {
    row::bytes(&rows::Blob {
        state: BlobState::Condemned.into(),
        ..record.clone()
    })
}

/// The end of a link that no manifest uses (rule G2).
struct UnlinkUnused<'a> {
    registry: &'a Registry,
    repository: &'a RepoName,
    digest: &'a Digest,
    /// In whose name: the transaction takes it away.
    work: &'a DueWork,
    /// A link that was armed later than a grace before this is left.
    ripe_ms: u64,
    /// Link and record as they were read for the first plan.
    read: Option<(Option<Row>, Option<Row>)>,
}

/// What became of a link.
enum Unlinked {
    /// There is none, or someone sees to it.
    Over,
    /// A live manifest uses it; this says so.
    InUse(Op),
    /// It isn't to be looked at before this time.
    ArmedUntil(u64),
    /// It is kept for manifests that were deleted; the due-row went.
    Shelved,
    /// It is gone. The due-row of its digest has this key; the record, unless it was condemned before, these bytes.
    Gone { due: Key, condemned: Option<Bytes> },
}

impl Change for UnlinkUnused<'_> {
    type Outcome = Unlinked;

    const HELD_BY: HeldBy = HeldBy::Holder;

    async fn plan(&mut self, current: &Current) -> Result<Plan<Unlinked>> {
        let meta = &*self.registry.meta;
        let keys = (keys::link(self.digest, self.repository), keys::blob(self.digest));
        let (link, record) = match self.read.take() {
            Some(read) => read,
            None => {
                let mut found = meta
                    .get_many(&[keys.0.clone(), keys.1.clone()])
                    .await?
                    .into_iter();
                (found.next().flatten(), found.next().flatten())
            }
        };
        let Some(found) = link else {
            return Ok(Plan::Done(Unlinked::Over));
        };
        let link: rows::Link = row::read_to_rewrite(&found)?;
        if link.in_use {
            return Ok(Plan::Done(Unlinked::Over));
        }
        let until_ms = link.armed_ms.saturating_add(self.registry.grace_ms());
        if until_ms > self.ripe_ms && !link.shelved {
            return Ok(Plan::Done(Unlinked::ArmedUntil(until_ms)));
        }
        let orphans = match user_of(meta, self.repository, self.digest).await? {
            // It needs no blob, or it would have brought it back.
            User::Live(_) if link.shelved => return Ok(Plan::Done(Unlinked::Over)),
            User::Live(_) => {
                let used = rows::Link { in_use: true, ..link };
                let op = keys.0.put(Expect::Version(found.version), row::bytes(&used));
                return Ok(Plan::Done(Unlinked::InUse(op)));
            }
            User::Deleted if self.registry.has_history() && !link.shelved => {
                return self.shelve(current, link, &found).await;
            }
            // Whoever collects it has the link looked at again.
            User::Deleted => return Ok(Plan::Done(Unlinked::Over)),
            User::Nobody { orphans } => orphans,
        };
        let digest_due = self.registry.dues.digest(clock::now_ms(), self.digest);
        let due = digest_due.key.clone();
        let mut ops = vec![
            self.work.as_read().delete(),
            keys.0.delete(Expect::Version(found.version)),
            keys::linked_blob(self.repository, self.digest).delete(Expect::Any),
            digest_due,
        ];
        let mut condemned_as = None;
        if let Some(found) = record {
            let record: rows::Blob = row::read_to_rewrite(&found)?;
            if record.state() == BlobState::Live {
                let bytes = condemned(&record);
                ops.push(keys.1.put(Expect::Version(found.version), bytes.clone()));
                condemned_as = Some(bytes);
            }
        }
        ops.extend(orphans.into_iter().map(|key| key.delete(Expect::Any)));
        ops.extend(quota::discount(meta, &found).await?);
        Ok(Plan::Apply {
            ops,
            manifests: current.manifests(),
            changing: None,
            outcome: Unlinked::Gone {
                due,
                condemned: condemned_as,
            },
        })
    }
}

impl UnlinkUnused<'_> {
    /// Only manifests that can be brought back use the link.
    async fn shelve(&self, current: &Current, link: rows::Link, found: &Row) -> Result<Plan<Unlinked>> {
        let shelved = row::bytes(&shelved(link));
        let key = keys::link(self.digest, self.repository);
        let mut ops = vec![
            self.work.as_read().delete(),
            key.put(Expect::Version(found.version), shelved),
        ];
        ops.extend(quota::discount(&*self.registry.meta, found).await?);
        Ok(Plan::Apply {
            ops,
            manifests: current.manifests(),
            changing: None,
            outcome: Unlinked::Shelved,
        })
    }
}
