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

mod past;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tokio::time::Instant;

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
    storage::{Expect, StoreErrorKind, Version, keys, rows},
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

/// What restoring comes to.
#[derive(Debug, Default)]
struct Work {
    /// What to push, what it lists before it.
    order: Vec<Digest>,
    /// Those of them that are deleted.
    deleted: BTreeSet<Digest>,
    /// Blobs that come back, with their lengths.
    shelved: BTreeMap<Digest, u64>,
    /// What isn't kept.
    gone: BTreeSet<Digest>,
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
    /// doesn't get such; [`RegistryError::QuotaExceeded`] when there is no room, before anything is changed; and those of a push.
    pub async fn restore(&self, restore: Restore<'_>) -> Result<Restored> {
        let mut restored = Restored::default();
        let (mut wanted, existing) = self.wanted(&restore).await?;
        self.leave_moved(&restore, &mut wanted, existing, &mut restored)
            .await?;
        let work = self.work(&restore, &wanted).await?;
        for digest in &work.gone {
            let tags = wanted.0.remove(digest).unwrap_or_default();
            let left = |tag| Left {
                tag,
                digest: digest.clone(),
                why: WhyLeft::Gone,
            };
            match tags.is_empty() {
                true => restored.left.push(left(None)),
                false => restored.left.extend(tags.into_iter().map(|tag| left(Some(tag)))),
            }
        }
        if !work.deleted.is_empty() && restore.deleted == OfDeleted::Hidden {
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
            let tags = wanted.0.remove(digest).unwrap_or_default();
            self.restore_one(&restore, digest, tags, existing, &mut restored)
                .await?;
        }
        Ok(restored)
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

    /// What has to be pushed for that, in which order.
    async fn work(&self, restore: &Restore<'_>, wanted: &Wanted) -> Result<Work> {
        let repository = restore.repository;
        let mut work = Work::default();
        let mut seen = BTreeSet::new();
        // What a manifest lists is pushed before it: it is on top, and the manifest below it a second time.
        let mut stack: Vec<(Digest, bool)> = wanted.0.keys().map(|digest| (digest.clone(), false)).collect();
        while let Some((digest, has_children)) = stack.pop() {
            if has_children {
                work.order.push(digest);
                continue;
            }
            if !seen.insert(digest.clone()) {
                continue;
            }
            if Instant::now() > restore.deadline {
                return Err(RegistryError::Deadline);
            }
            let Some(manifest) = self.kept(repository, &digest).await? else {
                if wanted.0.contains_key(&digest) {
                    work.gone.insert(digest);
                }
                continue;
            };
            if manifest.deleted_ms == 0 {
                work.order.push(digest);
                continue;
            }
            let (manifest, _) = self.parsed(repository, &digest, manifest).await?;
            let blobs: Vec<_> = manifest.blobs.iter().map(|blob| &blob.digest).collect();
            let links: Vec<_> = blobs
                .iter()
                .map(|digest| keys::link(digest, repository))
                .collect();
            for (blob, found) in blobs.into_iter().zip(self.get_all(&links).await?) {
                let link: Option<rows::Link> = found.as_ref().map(row::read).transpose()?;
                if let Some(link) = link.filter(|link| link.shelved) {
                    work.shelved.insert(blob.clone(), link.size);
                }
            }
            work.deleted.insert(digest.clone());
            stack.push((digest, true));
            stack.extend(manifest.children.into_iter().map(|child| (child.digest, false)));
        }
        Ok(work)
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
                absent: MayBeAbsent::Nothing,
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

    /// Makes a shelved link one that is there, for a grace at least, and counts it. What isn't shelved stays as it is.
    async fn unshelve(&self, repository: &RepoName, digest: &Digest) -> Result<()> {
        let key = keys::link(digest, repository);
        let (deadline, mut pause) = (self.commit_deadline(), Pause::new());
        for _ in 0..self.settings.attempts {
            let Some(found) = self.meta.get(&key).await? else {
                return Ok(());
            };
            if !is_shelved(&found)? {
                return Ok(());
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
            let due_ms = due::after(self.settings.link_grace);
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
        let manifest: Option<rows::Manifest> = found.as_ref().map(row::read).transpose()?;
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
