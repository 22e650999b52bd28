//! That a repository holds a blob: one transaction of the link and the blob's record (rule G1).
//!
//! The record says which object holds the content, for all repositories. Whoever links expects the record as they saw
//! it, so a link never stands beside a record that is being collected, and a collector never misses a link.
//!
//! Where the record's object was lost or damaged, whoever brings the whole content again puts an object of their own in its
//! place (rule G5). The links of others still name the former one: they follow, one by one, in transactions that replace
//! the repository's row, and until then their readers find the record's object by themselves.

use super::{
    Registry, RegistryError, Result,
    commit::{Change, Current, HeldBy, Plan},
    due,
    fence::{self, Fenced},
    objects::{SUSPECT, Written},
    pages::Pages,
    pause::Pause,
    quota::Place,
    row,
};
use crate::{
    clock,
    oci::{Digest, RepoName},
    storage::{
        Expect, MAX_OPS, MetaStore, ObjectKey, Op, Row, Space, StoreErrorKind, Version, keys, rows,
        rows::BlobState,
    },
};

/// The operation on a blob's record that a link takes, and the object it links to.
pub(super) struct Recorded {
    pub(super) op: Op,
    pub(super) object: Written,
    /// The object that was in its place.
    former: Option<ObjectKey>,
}

impl Recorded {
    /// There is no record: the content becomes what `object` holds.
    fn new(digest: &Digest, object: &Written) -> Self {
        Self {
            op: keys::blob(digest).put(Expect::Absent, row::bytes(&record(object))),
            object: object.clone(),
            former: None,
        }
    }

    /// There is this record: live, it has to stay as it is; condemned, it lives again.
    pub(super) fn found(digest: &Digest, found: &Row) -> Result<Self> {
        let record: rows::Blob = row::read_to_rewrite(found)?;
        let object = recorded(&record)?;
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
        Ok(Self {
            op,
            object,
            former: None,
        })
    }

    /// There is this record, whose object is lost or damaged: `object` takes its place.
    fn healed(digest: &Digest, found: &Row, object: &Written) -> Result<Self> {
        let former = Self::found(digest, found)?.object;
        let expect = Expect::Version(found.version);
        Ok(Self {
            op: keys::blob(digest).put(expect, row::bytes(&record(object))),
            object: object.clone(),
            former: Some(former.key),
        })
    }
}

pub(super) fn record(object: &Written) -> rows::Blob {
    rows::Blob {
        min_reader: rows::SCHEMA,
        state: BlobState::Live.into(),
        object_key: object.key.as_str().to_owned(),
        size: object.size,
        etag: object.etag.clone(),
    }
}

/// The object that a record names.
pub(super) fn recorded(record: &rows::Blob) -> Result<Written> {
    Ok(Written {
        key: row::object_key(&record.object_key)?,
        size: record.size,
        etag: record.etag.clone(),
    })
}

impl Registry {
    /// The object that holds the content now, as the record says.
    pub(super) async fn recorded(&self, digest: &Digest) -> Result<Option<Written>> {
        let found = self.meta.get(&keys::blob(digest)).await?;
        let record: Option<rows::Blob> = found.as_ref().map(row::read).transpose()?;
        record.as_ref().map(recorded).transpose()
    }

    /// Whether all of the object that a link names was read and had other bytes than were pushed, and nobody has pushed it since.
    pub(super) async fn is_known_to_be_wrong(&self, digest: &Digest, link: &Row) -> Result<bool> {
        if row::read::<rows::Link>(link)?.etag != SUSPECT {
            return Ok(false);
        }
        // The link may not have followed yet.
        let recorded = self.recorded(digest).await?;
        Ok(recorded.is_none_or(|object| object.is_suspect()))
    }

    /// The link's row, which says where it is counted. `held` is the row that is there. One that names another object stays
    /// as it is: its key changes only with the repository's row, so the link follows by its due-row.
    pub(super) fn link(
        &self,
        repository: &RepoName,
        digest: &Digest,
        to: &Recorded,
        counted: Option<Place>,
        held: Option<&Row>,
    ) -> Result<Op> {
        let (key, expect) = (keys::link(digest, repository), Expect::unchanged(held));
        let (counted_under, counted_shard) = counted
            .map(|place| (place.prefix.as_str().to_owned(), place.shard))
            .unwrap_or_default();
        let former: Option<rows::Link> = held.map(row::read_to_rewrite).transpose()?;
        if let Some(former) = former.filter(|former| former.object_key != to.object.key.as_str()) {
            let armed = rows::Link {
                in_use: false,
                armed_ms: clock::now_ms(),
                shelved: false,
                counted_under,
                counted_shard,
                ..former
            };
            return Ok(key.put(expect, row::bytes(&armed)));
        }
        let link = rows::Link {
            min_reader: rows::SCHEMA,
            object_key: to.object.key.as_str().to_owned(),
            size: to.object.size,
            counted_under,
            counted_shard,
            etag: to.object.etag.clone(),
            in_use: false,
            armed_ms: clock::now_ms(),
            shelved: false,
        };
        Ok(key.put(expect, row::bytes(&link)))
    }

    /// What goes with a link: its reverse, and the time to look whether a manifest came to use it.
    pub(super) fn beside_link(&self, repository: &RepoName, digest: &Digest, to: &Recorded) -> [Op; 2] {
        let reverse = rows::LinkedBlob {
            min_reader: rows::SCHEMA,
            linked_ms: clock::now_ms(),
            size: to.object.size,
        };
        [
            keys::linked_blob(repository, digest).put(Expect::Any, row::bytes(&reverse)),
            self.dues
                .link(due::after(self.settings.limits.link_grace), repository, digest),
        ]
    }

    /// Makes the repository hold the content of `object`, which was verified to have `digest`. `close` gives the operation
    /// that closes the upload's session: it fences the transaction, and says whether the object is to be kept.
    pub(super) async fn link_upload<'a>(
        &self,
        repository: &RepoName,
        digest: &Digest,
        object: &'a Written,
        close: impl Fn(Option<&'a ObjectKey>) -> Op + Send,
    ) -> Result<Linked> {
        let deadline = self.commit_deadline();
        let mut pause = Pause::new();
        // Most content is new: that there is no record, and no link, is tried before it is read.
        let (mut record, mut is_damaged, mut held) = (None, false, None);
        for _ in 0..self.settings.limits.attempts {
            let to = match &record {
                None => Recorded::new(digest, object),
                Some(found) if is_damaged => Recorded::healed(digest, found, object)?,
                Some(found) => Recorded::found(digest, found)?,
            };
            if to.object.size != object.size {
                return Err(row::corrupt("link a blob", "its record has another length"));
            }
            let counted = self.count(repository, digest, &mut held, object.size).await?;
            let is_kept = to.object.key == object.key;
            let link = self.link(repository, digest, &to, counted.place, held.as_ref())?;
            let beside = self.beside_link(repository, digest, &to);
            let mut ops = vec![close(is_kept.then_some(&object.key)), to.op, link];
            ops.extend(beside);
            if !is_kept {
                // Others had the same content first.
                ops.push(self.dues.trash(
                    due::after(self.settings.limits.trash_delay),
                    object.key.as_str(),
                    None,
                ));
            }
            ops.extend(
                to.former
                    .map(|former| self.dues.relink(clock::now_ms(), digest, &former)),
            );
            ops.extend(counted.ops);
            match fence::transact(&*self.meta, Version::random(), &ops, deadline).await {
                Ok(Fenced::Committed) => return Ok(Linked::Committed),
                Ok(Fenced::Refused { index: 0, current }) => return Ok(Linked::SessionLost(current)),
                Ok(Fenced::Refused { index: 1, current }) => {
                    let is_whole = async {
                        match &current {
                            Some(found) => self.is_whole(digest, found).await,
                            None => Ok(true),
                        }
                    };
                    let (is_whole, link) = tokio::join!(is_whole, self.held(repository, digest));
                    (is_damaged, held) = (!is_whole?, link?);
                    record = current;
                }
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

    /// Whether the object that this record names is there as it was written. One that can't be looked at isn't counted on:
    /// whoever asks has brought another.
    async fn is_whole(&self, digest: &Digest, record: &Row) -> Result<bool> {
        let object = recorded(&row::read(record)?)?;
        let damage = match self.inspect(&object).await {
            Ok(None) => return Ok(true),
            Ok(Some(damage)) => damage.to_string(),
            Err(error) => format!("can't be looked at: {error}"),
        };
        tracing::warn!(%digest, key = %object.key, damage, "a blob's object is replaced by the one that was pushed");
        Ok(false)
    }

    /// Brings every link that names `former` to the object that the record of `digest` names, or, where that is still the same, to
    /// what the record says of it. Nobody makes new ones: whoever links expects the record as it is.
    pub(super) async fn relink(&self, digest: &Digest, former: &ObjectKey) -> Result<()> {
        let mut links = Pages::of(Space::Links, digest.as_str(), "", MAX_OPS);
        while let Some(page) = links.next(&*self.meta).await? {
            for entry in &page {
                if row::read::<rows::Link>(&entry.row)?.object_key != former.as_str() {
                    continue;
                }
                let repository = RepoName::parse(&entry.sort)
                    .map_err(|error| row::corrupt("read a repository's name in a link", error))?;
                let change = Relink {
                    meta: &*self.meta,
                    repository: &repository,
                    digest,
                    former,
                };
                self.commit(&repository, self.commit_deadline(), change).await?;
            }
        }
        Ok(())
    }
}

/// A link on its way from an object that was lost to the one in its place, or to what is known of it. It replaces the repository's
/// row, so that nobody goes by a key that they remember.
struct Relink<'a> {
    meta: &'a dyn MetaStore,
    repository: &'a RepoName,
    digest: &'a Digest,
    former: &'a ObjectKey,
}

impl Change for Relink<'_> {
    type Outcome = ();

    const HELD_BY: HeldBy = HeldBy::Holder;

    async fn plan(&mut self, current: &Current) -> Result<Plan<()>> {
        let (key, record_key) = (keys::link(self.digest, self.repository), keys::blob(self.digest));
        let found = self.meta.get_many(&[key.clone(), record_key.clone()]).await?;
        let [Some(found), record] = found.as_slice() else {
            return Ok(Plan::Done(()));
        };
        let link: rows::Link = row::read_to_rewrite(found)?;
        if link.object_key != self.former.as_str() {
            return Ok(Plan::Done(()));
        }
        let no_record = || row::corrupt("relink a blob", "it has no record");
        let record = record.as_ref().ok_or_else(no_record)?;
        let object = recorded(&row::read(record)?)?;
        if object.key == *self.former && object.etag == link.etag {
            return Ok(Plan::Done(()));
        }
        let followed = rows::Link {
            object_key: object.key.as_str().to_owned(),
            etag: object.etag,
            ..link
        };
        let ops = vec![
            key.put(Expect::Version(found.version), row::bytes(&followed)),
            // It may have been replaced once more.
            record_key.check(Expect::Version(record.version)),
        ];
        Ok(Plan::Apply {
            ops,
            manifests: current.manifests(),
            changing: None,
            outcome: (),
        })
    }
}

/// How [`Registry::link_upload`] ended.
pub(super) enum Linked {
    /// The repository holds the blob.
    Committed,
    /// Another request replaced the session's row.
    SessionLost(Option<Row>),
}
