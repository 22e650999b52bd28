//! That a repository holds a blob: one transaction of the link and the blob's record (rule G1).
//!
//! The record says which object holds the content, for all repositories. Whoever links expects the record as they saw
//! it, so a link never stands beside a record that is being collected, and a collector never misses a link.

use super::{
    Registry, RegistryError, Result, due,
    fence::{self, Fenced},
    pause::Pause,
    quota::Place,
    row,
};
use crate::{
    clock,
    oci::{Digest, RepoName},
    storage::{Expect, ObjectKey, Op, Row, StoreErrorKind, Version, keys, rows, rows::BlobState},
};

/// The operation on a blob's record that a link takes, and the object it links to.
pub(super) struct Recorded {
    pub(super) op: Op,
    pub(super) object_key: ObjectKey,
    pub(super) size: u64,
}

impl Recorded {
    /// There is no record: the content becomes what `object_key` holds.
    pub(super) fn new(digest: &Digest, object_key: &ObjectKey, size: u64) -> Self {
        let record = rows::Blob {
            min_reader: rows::SCHEMA,
            state: BlobState::Live.into(),
            object_key: object_key.as_str().to_owned(),
            size,
        };
        let op = keys::blob(digest).put(Expect::Absent, row::bytes(&record));
        Self {
            op,
            object_key: object_key.clone(),
            size,
        }
    }

    /// There is this record: live, it has to stay as it is; condemned, it lives again.
    pub(super) fn found(digest: &Digest, found: &Row) -> Result<Self> {
        let record: rows::Blob = row::read_to_rewrite(found)?;
        let (object_key, size) = (row::object_key(&record.object_key)?, record.size);
        let (key, expect) = (keys::blob(digest), Expect::Version(found.version));
        let op = match record.state() {
            BlobState::Live => key.check(expect),
            BlobState::Condemned => {
                let revived = rows::Blob {
                    state: BlobState::Live.into(),
                    ..record
                };
                key.put(expect, row::bytes(&revived))
            }
            BlobState::Unspecified => return Err(row::corrupt("read a blob's record", "no state")),
        };
        Ok(Self { op, object_key, size })
    }
}

impl Registry {
    /// The link's row, which says where it is counted.
    pub(super) fn link(
        &self,
        repository: &RepoName,
        digest: &Digest,
        to: &Recorded,
        counted: Option<Place>,
        expect: Expect,
    ) -> Op {
        let (counted_under, counted_shard) = counted
            .map(|place| (place.prefix.as_str().to_owned(), place.shard))
            .unwrap_or_default();
        let link = rows::Link {
            min_reader: rows::SCHEMA,
            object_key: to.object_key.as_str().to_owned(),
            size: to.size,
            counted_under,
            counted_shard,
        };
        keys::link(digest, repository).put(expect, row::bytes(&link))
    }

    /// What goes with a link: its reverse, and the time to look whether a manifest came to use it.
    pub(super) fn beside_link(&self, repository: &RepoName, digest: &Digest, to: &Recorded) -> [Op; 2] {
        let reverse = rows::LinkedBlob {
            min_reader: rows::SCHEMA,
            linked_ms: clock::now_ms(),
            size: to.size,
            rearmed_ms: 0,
        };
        [
            keys::linked_blob(repository, digest).put(Expect::Any, row::bytes(&reverse)),
            due::link(due::after(self.settings.link_grace), repository, digest),
        ]
    }

    /// Makes the repository hold the content of `object`, which was verified to have `digest`. `close` gives the operation
    /// that closes the upload's session: it fences the transaction, and says whether the object is to be kept.
    pub(super) async fn link_upload<'a>(
        &self,
        repository: &RepoName,
        digest: &Digest,
        object: &'a ObjectKey,
        size: u64,
        close: impl Fn(Option<&'a ObjectKey>) -> Op + Send,
    ) -> Result<Linked> {
        let deadline = self.commit_deadline();
        let mut pause = Pause::new();
        // Most content is new: that there is no record, and no link, is tried before it is read.
        let (mut record, mut held) = (None, None);
        for _ in 0..self.settings.attempts {
            let to = match &record {
                None => Recorded::new(digest, object, size),
                Some(found) => Recorded::found(digest, found)?,
            };
            if to.size != size {
                return Err(row::corrupt("link a blob", "its record has another length"));
            }
            let counted = self.count(repository, digest, &mut held, size).await?;
            let expect = match self.settings.quotas.is_empty() {
                true => Expect::Any,
                // A link that is there keeps its count.
                false => Expect::unchanged(held.as_ref()),
            };
            let is_kept = to.object_key == *object;
            let link = self.link(repository, digest, &to, counted.place, expect);
            let beside = self.beside_link(repository, digest, &to);
            let mut ops = vec![close(is_kept.then_some(object)), to.op, link];
            ops.extend(beside);
            if !is_kept {
                // Others had the same content first.
                ops.push(due::trash(
                    due::after(self.settings.trash_delay),
                    object.as_str(),
                    None,
                ));
            }
            ops.extend(counted.ops);
            match fence::transact(&*self.meta, Version::random(), &ops, deadline).await {
                Ok(Fenced::Committed) => return Ok(Linked::Committed),
                Ok(Fenced::Refused { index: 0, current }) => return Ok(Linked::SessionLost(current)),
                Ok(Fenced::Refused { index: 1, current }) => record = current,
                Ok(Fenced::Refused { index: 2, current }) => held = current,
                // Others were counted meanwhile.
                Ok(Fenced::Refused { .. }) => {}
                Err(RegistryError::Store(error)) if error.kind() == StoreErrorKind::Contended => {}
                Err(error) => return Err(error),
            }
            pause.wait(deadline).await;
        }
        Err(RegistryError::Contended)
    }
}

/// How [`Registry::link_upload`] ended.
pub(super) enum Linked {
    /// The repository holds the blob.
    Committed,
    /// Another request replaced the session's row.
    SessionLost(Option<Row>),
}
