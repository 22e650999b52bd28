//! Undo: what was deleted or overwritten comes back, as long as its bytes are kept (`storage.history`).
//!
//! A deleted manifest keeps its row and its references until then, and the collector keeps the links of what it references,
//! shelved or not (`manifests::collect`, `collect`). To restore it is to push it again: its shelved links come back first, counted
//! against the quota as if the blobs had just been pushed, and then one ordinary change makes manifest and tags. So whoever dies in
//! between leaves blobs that no manifest uses, which the collector knows.
//!
//! What is to be restored is read from the repository's history. Asked for again, it finds done what is done, and does the rest.
//!
//! Absent on purpose: who may ask, but for what was deleted.

#[cfg(test)]
mod collected;
#[cfg(test)]
mod partial;
mod past;
#[cfg(test)]
mod tests;
mod work;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tokio::time::Instant;

pub(super) use self::past::Look;
use super::{
    MayBeAbsent, MayPush, PutManifest, Registry, RegistryError, Result,
    changes::{Cause, Why},
    fence::{self, Fenced},
    pause::Pause,
    row,
    shelf::is_shelved,
};
use crate::{
    clock,
    oci::{Descriptor, Digest, MAX_TAGS_PER_PUT, Manifest, Preconditions, Reference, RepoName, Tag, Undo},
    registry::due,
    storage::{Expect, Row, StoreErrorKind, Version, keys, rows},
};

/// Something to be restored.
#[derive(Clone, Debug)]
pub struct Restore<'a> {
    /// Where.
    pub repository: &'a RepoName,
    /// What.
    pub what: &'a Undo,
    /// Whether the caller may have what was deleted. What was only overwritten they may, or they wouldn't ask.
    pub deleted: OfDeleted,
    /// What a deleted manifest may lack when it comes back.
    pub absent: MayBeAbsent,
    /// Who asks.
    pub by: &'a str,
    /// When nobody waits for the answer any more.
    pub deadline: Instant,
}

/// What the caller gets of what was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfDeleted {
    /// Nothing, as if it weren't there.
    Hidden,
    /// All that is kept.
    Open,
}

/// What was restored, or was there already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Manifests that came back.
    pub manifests: Vec<Digest>,
    /// Tags, and what they name now.
    pub tags: Vec<(Tag, Digest)>,
    /// What was left as it is.
    pub left: Vec<Left>,
}

/// Something that wasn't restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// The tag, if it is about one.
    pub tag: Option<Tag>,
    /// What it named, or the manifest.
    pub digest: Digest,
    /// Why.
    pub why: WhyLeft,
}

/// Why something wasn't restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyLeft {
    /// The tag names something else since.
    Moved,
    /// Its content isn't kept any more.
    Gone,
}

impl WhyLeft {
    /// In one word, for programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Moved => "moved",
            Self::Gone => "gone",
        }
    }
}

/// What becomes of a tag that names something else by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Existing {
    Moves,
    Stays,
}

/// Manifests with the tags that are to name them.
#[derive(Debug, Default)]
struct Wanted(BTreeMap<Digest, BTreeSet<Tag>>);

impl Restore<'_> {
    /// Whether there is nothing else whose sake it could be left for.
    fn is_of_one_thing(&self) -> bool {
        match self.what {
            Undo::Tag { .. } | Undo::Manifest(_) => true,
            Undo::Everything { .. } | Undo::Run(_) => false,
        }
    }

    /// Whether what fails so is left as it is, for the sake of all else that is asked for.
    fn leaves(&self, error: &RegistryError) -> bool {
        let is_lost = matches!(
            error,
            RegistryError::ManifestUnknown
                | RegistryError::ManifestBlobUnknown { .. }
                | RegistryError::ContentLost { .. }
        );
        is_lost && !self.is_of_one_thing()
    }
}

impl Restored {
    /// The manifest can't come back, nor can these tags.
    fn leave_gone(&mut self, digest: &Digest, tags: BTreeSet<Tag>) {
        let left = |tag| Left {
            tag,
            digest: digest.clone(),
            why: WhyLeft::Gone,
        };
        match tags.is_empty() {
            true => self.left.push(left(None)),
            false => self.left.extend(tags.into_iter().map(|tag| left(Some(tag)))),
        }
    }
}

impl Registry {
    /// What the tag named at a time, and its document.
    ///
    /// # Errors
    /// [`RegistryError::ManifestUnknown`] when it named nothing, when that isn't known, or isn't kept any more, or was deleted and
    /// the caller doesn't get such.
    pub async fn manifest_at(
        &self,
        repository: &RepoName,
        tag: &Tag,
        at_ms: u64,
        deleted: OfDeleted,
    ) -> Result<(Descriptor, Bytes)> {
        let named = self.named_at(repository, tag, at_ms).await?;
        let manifest = self.kept(repository, &named.digest).await?;
        let manifest = manifest.filter(|manifest| manifest.deleted_ms == 0 || deleted == OfDeleted::Open);
        let manifest = manifest.ok_or(RegistryError::ManifestUnknown)?;
        let document = self.document(repository, &named.digest, manifest).await?;
        Ok((named, document))
    }

    /// Brings back what is asked for.
    ///
    /// # Errors
    /// [`RegistryError::ManifestUnknown`] when there is no such thing; [`RegistryError::Denied`] when it was deleted and the caller
    /// doesn't get such; [`RegistryError::QuotaExceeded`] when there is no room, before anything is changed;
    /// [`RegistryError::NotKept`]; [`RegistryError::Deadline`] when there was no time for all of it: asked again, it goes on;
    /// and those of a push.
    pub async fn restore(&self, restore: Restore<'_>) -> Result<Restored> {
        let mut restored = Restored::default();
        let (mut wanted, existing) = self.wanted(&restore).await?;
        self.leave_moved(&restore, &mut wanted, existing, &mut restored)
            .await?;
        let work = self.work(&restore, &wanted).await?;
        // It was kept a moment ago.
        if restore.is_of_one_thing() && !work.gone.is_empty() {
            return Err(RegistryError::ManifestUnknown);
        }
        for digest in &work.gone {
            restored.leave_gone(digest, wanted.0.remove(digest).unwrap_or_default());
        }
        if work.has_deleted && restore.deleted == OfDeleted::Hidden {
            return Err(RegistryError::Denied);
        }
        let bytes = work
            .shelved
            .values()
            .fold(0_u64, |all, one| all.saturating_add(*one));
        if bytes > 0 {
            self.check_quota(restore.repository, None, Some(bytes)).await?;
        }
        for digest in &work.order {
            let mut tags = wanted.0.remove(digest).unwrap_or_default();
            let before = restored.tags.len();
            let done = self.restore_one(&restore, digest, tags.clone(), existing, &mut restored);
            match done.await {
                Ok(()) => {}
                Err(error) if restore.leaves(&error) => {
                    for (tag, _) in &restored.tags[before..] {
                        tags.remove(tag);
                    }
                    restored.leave_gone(digest, tags);
                }
                Err(error) => return Err(error),
            }
        }
        match work.is_cut {
            true => Err(RegistryError::Deadline),
            false => Ok(restored),
        }
    }

    /// Takes out of what is wanted the tags that are as they were, or stay where they are. One that isn't there was deleted.
    async fn leave_moved(
        &self,
        restore: &Restore<'_>,
        wanted: &mut Wanted,
        existing: Existing,
        restored: &mut Restored,
    ) -> Result<()> {
        let all: Vec<(Digest, Tag)> = wanted
            .0
            .iter()
            .flat_map(|(digest, tags)| tags.iter().map(|tag| (digest.clone(), tag.clone())))
            .collect();
        let keys: Vec<_> = all
            .iter()
            .map(|(_, tag)| keys::tag(restore.repository, tag))
            .collect();
        let found = self.get_all(&keys).await?;
        for ((digest, tag), found) in all.into_iter().zip(found) {
            let now: Option<rows::Tag> = found.as_ref().map(row::read).transpose()?;
            match (now, existing) {
                (None, _) if restore.deleted == OfDeleted::Hidden => return Err(RegistryError::Denied),
                (None, _) => continue,
                (Some(now), _) if now.digest == digest.as_str() => {}
                (Some(_), Existing::Moves) => continue,
                (Some(_), Existing::Stays) => restored.left.push(Left {
                    tag: Some(tag.clone()),
                    digest: digest.clone(),
                    why: WhyLeft::Moved,
                }),
            }
            if let Some(tags) = wanted.0.get_mut(&digest) {
                tags.remove(&tag);
            }
        }
        Ok(())
    }

    /// Pushes a manifest again, with these tags.
    async fn restore_one(
        &self,
        restore: &Restore<'_>,
        digest: &Digest,
        tags: BTreeSet<Tag>,
        existing: Existing,
        restored: &mut Restored,
    ) -> Result<()> {
        let repository = restore.repository;
        let found = self.kept(repository, digest).await?;
        let found = found.ok_or(RegistryError::ManifestUnknown)?;
        let is_deleted = found.deleted_ms != 0;
        if !is_deleted && tags.is_empty() {
            return Ok(());
        }
        let (manifest, body) = self.parsed(repository, digest, found).await?;
        if is_deleted {
            for blob in manifest.blobs.iter().chain(&manifest.optional_blobs) {
                self.unshelve(repository, &blob.digest).await?;
            }
        }
        let reference = Reference::Digest(digest.clone());
        let mut tags: Vec<Tag> = tags.into_iter().collect();
        let mut is_there = !is_deleted;
        while !is_there || !tags.is_empty() {
            let rest = tags.split_off(tags.len().min(MAX_TAGS_PER_PUT));
            let push = PutManifest {
                repository,
                reference: &reference,
                tags: &tags,
                media_type: Some(manifest.media_type.clone()),
                body: body.clone(),
                cause: Cause {
                    by: restore.by,
                    why: Why::Restore,
                },
                may: MayPush {
                    create: true,
                    update: existing == Existing::Moves,
                },
                absent: match is_there {
                    // Only tags move.
                    true => MayBeAbsent::Everything,
                    false => restore.absent,
                },
                only_if: &Preconditions::default(),
                deadline: restore.deadline,
            };
            match self.put_manifest(push).await {
                Ok(_) => {}
                // Somebody made one of the tags meanwhile.
                Err(RegistryError::Denied) => return Err(RegistryError::Contended),
                Err(error) => return Err(error),
            }
            if !is_there {
                restored.manifests.push(digest.clone());
            }
            restored
                .tags
                .extend(tags.into_iter().map(|tag| (tag, digest.clone())));
            (is_there, tags) = (true, rest);
        }
        Ok(())
    }

    /// Makes a shelved link one that is there, for a grace at least, and counts it. One that isn't shelved may be about to: it is relied
    /// on, as by a client that asks whether the blob is there.
    async fn unshelve(&self, repository: &RepoName, digest: &Digest) -> Result<()> {
        let key = keys::link(digest, repository);
        let (deadline, mut pause) = (self.commit_deadline(), Pause::new());
        for _ in 0..self.settings.limits.attempts {
            let Some(found) = self.meta.get(&key).await? else {
                return Ok(());
            };
            if !is_shelved(&found)? {
                match self.blob_to_rely_on(repository, digest).await {
                    // The collector shelved it meanwhile.
                    Err(RegistryError::BlobUnknown) => continue,
                    relied => return relied.map(drop),
                }
            }
            let link: rows::Link = row::read_to_rewrite(&found)?;
            let expect = Expect::Version(found.version);
            let mut held = Some(found);
            let counted = self.count(repository, digest, &mut held, link.size).await?;
            let (counted_under, counted_shard) = counted
                .place
                .map(|place| (place.prefix.as_str().to_owned(), place.shard))
                .unwrap_or_default();
            let there = rows::Link {
                shelved: false,
                in_use: false,
                armed_ms: clock::now_ms(),
                counted_under,
                counted_shard,
                ..link
            };
            let due_ms = due::after(self.settings.limits.link_grace);
            let mut ops = vec![
                key.clone().put(expect, row::bytes(&there)),
                self.dues.link(due_ms, repository, digest),
            ];
            ops.extend(counted.ops);
            match fence::transact(&*self.meta, Version::random(), &ops, deadline).await {
                Ok(Fenced::Committed) => return Ok(()),
                Ok(Fenced::Refused { .. }) => {}
                Err(RegistryError::Store(error)) if error.kind() == StoreErrorKind::Contended => {}
                Err(error) => return Err(error),
            }
            pause.wait(deadline).await;
        }
        Err(RegistryError::Contended)
    }

    /// The manifest's row, if it lives or can be brought back.
    async fn kept(&self, repository: &RepoName, digest: &Digest) -> Result<Option<rows::Manifest>> {
        let found = self.meta.get(&keys::manifest(repository, digest)).await?;
        self.kept_of(found.as_ref())
    }

    fn kept_of(&self, found: Option<&Row>) -> Result<Option<rows::Manifest>> {
        let manifest: Option<rows::Manifest> = found.map(row::read).transpose()?;
        Ok(manifest.filter(|manifest| {
            let until_ms = manifest.deleted_ms.saturating_add(self.history_ms());
            manifest.deleted_ms == 0 || until_ms > clock::now_ms()
        }))
    }

    async fn parsed(
        &self,
        repository: &RepoName,
        digest: &Digest,
        manifest: rows::Manifest,
    ) -> Result<(Manifest, Bytes)> {
        let media_type = row::media_type(&manifest.media_type)?;
        let document = self.document(repository, digest, manifest).await?;
        Ok((Manifest::parse(Some(&media_type), &document)?, document))
    }
}
