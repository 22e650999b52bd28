//! Blobs that a repository holds: read, mounted from elsewhere, let go.

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use tokio::time::Instant;

use super::{
    Damage, Registry, RegistryError, Result,
    commit::{Change, Current, Plan},
    due, hot,
    links::Recorded,
    noted::Noted,
    objects::Written,
    pause::Pause,
    pieces, quota,
    references::{User, user_of},
    row,
    shelf::{is_shelved, present, shelved},
};
use crate::{
    oci::{Digest, RepoName, ResolvedRange},
    storage::{
        ByteStream, Expect, MAX_OPS, ObjectKey, Outcome, Row, Space, StoreError, StoreErrorKind, Version,
        keys, rows,
    },
};

/// Parts of one answer that are read at the same time, if they are small.
const PARTS_AHEAD: usize = 3;
/// Bytes of a part that is small: [`PARTS_AHEAD`] of them and the one on its way to the client are at most 1 MiB.
const SMALL_PART: u64 = 256 << 10;

/// A blob that a repository holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Its object.
    pub object_key: ObjectKey,
    /// The object's ETag when it was written; empty if it isn't known.
    pub etag: String,
}

/// A link as it was read.
#[derive(Debug)]
pub(super) struct HeldLink {
    blob: Blob,
    in_use: bool,
    armed_ms: u64,
}

impl HeldLink {
    fn of(digest: &Digest, found: &Row) -> Result<Self> {
        let link: rows::Link = row::read(found)?;
        Ok(Self {
            blob: Blob::linked(digest, &link)?,
            in_use: link.in_use,
            armed_ms: link.armed_ms,
        })
    }
}

impl Blob {
    /// The blob of a repository's link.
    pub(super) fn linked(digest: &Digest, link: &rows::Link) -> Result<Self> {
        Ok(Self {
            digest: digest.clone(),
            size: link.size,
            object_key: row::object_key(&link.object_key)?,
            etag: link.etag.clone(),
        })
    }

    fn written(&self) -> Written {
        Written {
            key: self.object_key.clone(),
            size: self.size,
            etag: self.etag.clone(),
        }
    }
}

/// A blob of at most so many bytes is read whole and compared with its digest, whatever is asked of it.
const SHORT: u64 = 64 << 10;

/// Where a mount may take a blob from.
#[derive(Clone, Copy, Debug)]
pub enum MountSource<'a> {
    /// From this repository, which the caller may read.
    Repository(&'a RepoName),
    /// From any: the caller may read them all.
    Anywhere,
}

/// How much will be taken of what is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// All, unless something happens.
    Whole,
    /// Nobody knows: many ask for all from some byte on, and leave after a piece.
    Perhaps,
}

/// How a mount ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mounted {
    /// The repository holds the blob.
    Linked,
    /// The source doesn't hold it; the client has to send it.
    NotHere,
}

impl Registry {
    /// The blob, if the repository holds it.
    pub async fn blob(&self, repository: &RepoName, digest: &Digest) -> Result<Blob> {
        let name = (repository.clone(), digest.clone());
        let noted = self.remembered.links.find(&name);
        if let Some(link) = self.recall(repository, noted).await? {
            return Ok(link.blob.clone());
        }
        let key = keys::link(digest, repository);
        let (found, version) = self.read_to_remember(repository, key).await?;
        let link = HeldLink::of(digest, &present(found)?.ok_or(RegistryError::BlobUnknown)?)?;
        let blob = link.blob.clone();
        if let Some(version) = version {
            let value = Arc::new(link);
            self.remembered.links.keep(name, Noted { value, version });
        }
        Ok(blob)
    }

    /// The blob by a link that is remembered and stays for a while, whoever collects.
    ///
    /// Marks of links change without replacing the repository's row: those remembered may be older. One that was armed is
    /// never armed for less since. One that was in use has a manifest, alive or deleted, whose references are there: they go
    /// in a transaction that replaces the row and arms the link, and until then it doesn't go.
    pub(super) async fn remembered_to_rely_on(
        &self,
        repository: &RepoName,
        digest: &Digest,
    ) -> Result<Option<Blob>> {
        let noted = self.remembered.links.find(&(repository.clone(), digest.clone()));
        let stays = noted.filter(|Noted { value, .. }| self.stays(value.in_use, value.armed_ms));
        let link = self.recall(repository, stays).await?;
        Ok(link.map(|link| link.blob.clone()))
    }

    /// The blob, if the repository holds it and its content isn't known to be lost or damaged: what a client that pushes
    /// has to know.
    pub async fn whole_blob(&self, repository: &RepoName, digest: &Digest) -> Result<Blob> {
        let blob = self.blob_to_rely_on(repository, digest).await?;
        match self.sound(&blob).await {
            Ok(_) => Ok(blob),
            Err(RegistryError::ContentLost { damage, .. }) => {
                tracing::warn!(%repository, %digest, key = %blob.object_key, %damage, "a blob counts as unknown");
                Err(RegistryError::BlobUnknown)
            }
            Err(error) => Err(error),
        }
    }

    /// The object in which the content of `blob` is, as far as a look tells.
    ///
    /// # Errors
    /// [`RegistryError::ContentLost`]: it is known to be lost or damaged.
    pub(super) async fn sound(&self, blob: &Blob) -> Result<Written> {
        let mut object = blob.written();
        while let Some(damage) = self.look(&object).await {
            object = self.successor(&blob.digest, &object, damage).await?;
        }
        Ok(object)
    }

    /// The bytes of `blob` in `range`; of an empty blob none, whatever the range.
    ///
    /// # Errors
    /// [`RegistryError::ContentLost`] when they are lost, now or instead of the last of them.
    pub async fn read(&self, blob: &Blob, range: ResolvedRange, taken: Taken) -> Result<ByteStream> {
        match blob.size {
            0 => Ok(Box::pin(stream::empty())),
            1..=SHORT => self.read_short(blob, range).await,
            _ => self.read_long(blob, range, taken).await,
        }
    }

    async fn read_short(&self, blob: &Blob, range: ResolvedRange) -> Result<ByteStream> {
        part_of(&self.all_of(blob).await?, range)
    }

    /// All of a blob that is short enough for that.
    pub(super) async fn all_of(&self, blob: &Blob) -> Result<Bytes> {
        if let Some(bytes) = self.remembered.contents.find(&blob.digest) {
            return Ok(bytes);
        }
        let mut object = blob.written();
        loop {
            match self.whole(&object, &blob.digest).await? {
                Ok(bytes) => {
                    if blob.size <= SHORT {
                        self.remembered.contents.keep(blob.digest.clone(), bytes.clone());
                    }
                    return Ok(bytes);
                }
                Err(damage) => object = self.successor(&blob.digest, &object, damage).await?,
            }
        }
    }

    async fn read_long(&self, blob: &Blob, range: ResolvedRange, taken: Taken) -> Result<ByteStream> {
        let stored = || self.read_stored(blob, range, taken);
        let Some(hot) = &self.hot else {
            return stored().await;
        };
        let wanted = hot::Wanted {
            digest: &blob.digest,
            size: blob.size,
            range,
            is_all: taken == Taken::Whole && range.first == 0 && range.last.checked_add(1) == Some(blob.size),
            rest: match self.settings.verify_reads {
                true => hot::Rest::Nowhere,
                false => hot::Rest::Store(self.blobs.clone(), blob.written()),
            },
        };
        hot.read(wanted, stored).await
    }

    async fn read_stored(&self, blob: &Blob, range: ResolvedRange, taken: Taken) -> Result<ByteStream> {
        let is_all = range.first == 0 && range.last.checked_add(1) == Some(blob.size);
        let mut object = blob.written();
        loop {
            let opened = match taken {
                Taken::Whole => self.blobs.get(&object.key, range.first, range.last).await,
                Taken::Perhaps => pieces::open(&self.blobs, &object.key, range).await,
            };
            let damage = match &opened {
                Ok(opened) => object.damage(Some(&opened.object)),
                Err(error) => Damage::of(error),
            };
            let Some(damage) = damage else {
                let bytes = opened?.bytes;
                self.noticed(&object, None);
                return Ok(match is_all && self.settings.verify_reads {
                    true => self.checked(bytes, &object, &blob.digest),
                    false => bytes,
                });
            };
            self.noticed(&object, Some(damage));
            match (self.successor(&blob.digest, &object, damage).await, opened) {
                (Ok(successor), _) => object = successor,
                // A bucket that was copied has other ETags. Its bytes tell, as far as they can be hashed. Those of an object that is
                // known to be wrong are given out only where that ends before its end.
                (Err(RegistryError::ContentLost { .. }), Ok(opened))
                    if damage == Damage::Replaced && (is_all || !object.is_suspect()) =>
                {
                    tracing::warn!(digest = %blob.digest, key = %object.key, is_all, "a blob's object {damage}");
                    return Ok(match is_all {
                        true => self.checked(opened.bytes, &object, &blob.digest),
                        false => opened.bytes,
                    });
                }
                (Err(error), _) => return Err(error),
            }
        }
    }

    /// The object that is to be read in place of the damaged `object`: that of the record, if it is another one. The link
    /// may not have followed yet.
    async fn successor(&self, digest: &Digest, object: &Written, damage: Damage) -> Result<Written> {
        let recorded = self.recorded(digest).await?;
        let lost = || RegistryError::ContentLost {
            digest: digest.clone(),
            damage,
        };
        recorded
            .filter(|recorded| recorded.key != object.key)
            .ok_or_else(lost)
    }

    /// The bytes of several parts of `blob`, each a stream of its own, in the order of `ranges`. Small ones are read a few at
    /// a time, so that many of them don't wait for as many answers of the store, one after the other.
    ///
    /// # Errors
    /// As of [`read`](Self::read), for the first part; for the others they come in their place.
    pub async fn read_each(self: &Arc<Self>, blob: Blob, ranges: Vec<ResolvedRange>) -> Result<BlobParts> {
        if blob.size <= SHORT {
            let bytes = self.all_of(&blob).await?;
            let parts = ranges.into_iter().map(|range| part_of(&bytes, range).map(Ok));
            return Ok(Box::pin(stream::iter(parts.collect::<Result<Vec<_>>>()?)));
        }
        let mut ranges = ranges.into_iter();
        let first = match ranges.next() {
            // Before anything is promised.
            Some(range) => Some(Ok(self.read(&blob, range, Taken::Whole).await?)),
            None => None,
        };
        let (registry, blob) = (self.clone(), Arc::new(blob));
        let rest = stream::iter(ranges)
            .map(move |range| read_part(registry.clone(), blob.clone(), range))
            .buffered(PARTS_AHEAD);
        Ok(Box::pin(stream::iter(first).chain(rest)))
    }

    /// Makes the repository hold a blob that is in the store already.
    pub async fn mount(
        &self,
        repository: &RepoName,
        digest: &Digest,
        from: MountSource<'_>,
    ) -> Result<Mounted> {
        let target = keys::link(digest, repository);
        let mut wanted = vec![target.clone(), keys::blob(digest)];
        if let MountSource::Repository(source) = from
            && source != repository
        {
            wanted.push(keys::link(digest, source));
        }
        let (deadline, mut pause) = (self.commit_deadline(), Pause::new());
        for _ in 0..self.settings.limits.attempts {
            let found = self.meta.get_many(&wanted).await?;
            let [held, Some(record), rest @ ..] = found.as_slice() else {
                return Ok(Mounted::NotHere);
            };
            let is_there = match from {
                MountSource::Repository(source) if source == repository => present(held.clone())?.is_some(),
                MountSource::Repository(_) => present(rest.first().cloned().flatten())?.is_some(),
                MountSource::Anywhere => !self.is_shelved_everywhere(digest).await?,
            };
            if !is_there {
                return Ok(Mounted::NotHere);
            }
            let to = Recorded::found(digest, record)?;
            if let Some(damage) = self.look(&to.object).await {
                tracing::warn!(%repository, %digest, key = %to.object.key, %damage, "a blob can't be mounted");
                return Ok(Mounted::NotHere);
            }
            let mut held = held.clone();
            let counted = self.count(repository, digest, &mut held, to.object.size).await?;
            let mut ops = vec![self.link(repository, digest, &to, counted.place, held.as_ref())?];
            ops.extend(counted.ops);
            ops.extend(self.beside_link(repository, digest, &to));
            ops.push(to.op);
            let version = Version::random();
            match self.meta.transact(version, &ops).await {
                Ok(Outcome::Committed) => return Ok(Mounted::Linked),
                Ok(Outcome::Refused { .. }) => {}
                // No row fences a mount, so it is not sent again: if it isn't there, the client sends the blob.
                Ok(Outcome::Unknown) => {
                    let now = self
                        .meta
                        .get(&target)
                        .await
                        .map_err(|_| RegistryError::OutcomeUnknown)?;
                    let is_ours = now.is_some_and(|row| row.version == version);
                    return Ok(if is_ours {
                        Mounted::Linked
                    } else {
                        Mounted::NotHere
                    });
                }
                Err(error) if error.kind() == StoreErrorKind::Contended => {}
                Err(error) => return Err(error.into()),
            }
            pause.wait(deadline).await;
        }
        Err(RegistryError::Contended)
    }

    /// Whether repositories only keep the blob for what was deleted, as far as the first of them tell.
    async fn is_shelved_everywhere(&self, digest: &Digest) -> Result<bool> {
        if !self.has_history() {
            return Ok(false);
        }
        let page = self
            .meta
            .range(Space::Links, digest.as_str(), "", None, MAX_OPS)
            .await?;
        for entry in &page.entries {
            if !is_shelved(&entry.row)? {
                return Ok(false);
            }
        }
        Ok(!page.entries.is_empty())
    }

    /// Lets the blob go from the repository, if no manifest there refers to it.
    pub async fn delete_blob(&self, repository: &RepoName, digest: &Digest, deadline: Instant) -> Result<()> {
        let due_ms = due::after(self.settings.limits.link_grace);
        self.commit(
            repository,
            deadline,
            Unlink {
                registry: self,
                repository,
                digest,
                due_ms,
            },
        )
        .await
    }
}

/// The bytes of several parts of a blob.
pub type BlobParts = Pin<Box<dyn Stream<Item = std::result::Result<ByteStream, StoreError>> + Send>>;

/// The bytes of a part: here already if they are few, else read when somebody asks for them, so that no answer of the store
/// waits behind a long part before it.
async fn read_part(
    registry: Arc<Registry>,
    blob: Arc<Blob>,
    range: ResolvedRange,
) -> std::result::Result<ByteStream, StoreError> {
    let opened = async move {
        let part = registry.read(&blob, range, Taken::Whole).await;
        part.map_err(|error| match error {
            RegistryError::Store(error) => error,
            error => StoreError::with_source(StoreErrorKind::Corrupt, "get", error),
        })
    };
    if range.len() > SMALL_PART {
        return Ok(Box::pin(stream::once(opened).try_flatten()));
    }
    let pieces: Vec<Bytes> = opened.await?.try_collect().await?;
    Ok(Box::pin(stream::iter(pieces.into_iter().map(Ok))))
}

/// A part of a blob that is here.
fn part_of(bytes: &Bytes, range: ResolvedRange) -> Result<ByteStream> {
    let part = |range: ResolvedRange| -> Option<Bytes> {
        let (first, last) = (
            usize::try_from(range.first).ok()?,
            usize::try_from(range.last).ok()?,
        );
        (first <= last && last < bytes.len()).then(|| bytes.slice(first..=last))
    };
    let part = part(range).ok_or_else(|| row::corrupt("read a blob", "the range lies beyond its end"))?;
    Ok(Box::pin(stream::iter([Ok(part)])))
}

/// The end of a link (rule G2).
struct Unlink<'a> {
    registry: &'a Registry,
    repository: &'a RepoName,
    digest: &'a Digest,
    due_ms: u64,
}

impl Change for Unlink<'_> {
    type Outcome = ();

    async fn plan(&mut self, current: &Current) -> Result<Plan<()>> {
        let Registry { meta, dues, .. } = self.registry;
        let key = keys::link(self.digest, self.repository);
        let link = present(meta.get(&key).await?)?.ok_or(RegistryError::BlobUnknown)?;
        // A link that was made anew meanwhile is another one.
        let expect = Expect::Version(link.version);
        let mut ops = match user_of(&**meta, self.repository, self.digest).await? {
            User::Live(manifest) => return Err(RegistryError::Referenced { manifest }),
            User::Deleted if self.registry.has_history() => {
                let kept = shelved(row::read_to_rewrite(&link)?);
                vec![key.put(expect, row::bytes(&kept))]
            }
            User::Deleted | User::Nobody { .. } => vec![
                key.delete(expect),
                keys::linked_blob(self.repository, self.digest).delete(Expect::Any),
                dues.digest(self.due_ms, self.digest),
            ],
        };
        ops.extend(quota::discount(&**meta, &link).await?);
        Ok(Plan::Apply {
            ops,
            manifests: current.manifests(),
            changing: None,
            outcome: (),
        })
    }
}
