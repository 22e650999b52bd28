//! Deleting a tag, or a manifest with all its tags.

use std::time::Duration;

use super::super::{
    RegistryError, Result,
    commit::{Change, Current, Plan},
    due, row,
};
use crate::{
    clock,
    oci::{Digest, RepoName, Tag},
    storage::{Expect, MetaStore, Op, Space, keys, rows},
};

/// How many tags go in one transaction: each is two rows.
const TAGS_AT_ONCE: usize = 40;

/// A tag on its way out.
pub(super) struct DeleteTag<'a> {
    pub(super) meta: &'a dyn MetaStore,
    pub(super) repository: &'a RepoName,
    pub(super) tag: &'a Tag,
}

impl Change for DeleteTag<'_> {
    type Outcome = ();

    async fn plan(&mut self, current: &Current) -> Result<Plan<()>> {
        let found = self.meta.get(&keys::tag(self.repository, self.tag)).await?;
        let named: rows::Tag = row::read(&found.ok_or(RegistryError::ManifestUnknown)?)?;
        let ops = untag(self.repository, &row::digest(&named.digest)?, self.tag).into();
        Ok(Plan::Apply {
            ops,
            manifests: current.manifests(),
            outcome: (),
        })
    }
}

/// A manifest on its way out. One that has many tags takes several changes, the last of which deletes it.
pub(super) struct DeleteManifest<'a> {
    pub(super) meta: &'a dyn MetaStore,
    pub(super) repository: &'a RepoName,
    pub(super) digest: &'a Digest,
    /// Until when a collector leaves the manifest's references.
    pub(super) grace: Duration,
}

/// How far [`DeleteManifest`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deleted {
    /// There are more tags.
    SomeTags,
    /// The manifest is deleted.
    Whole,
}

impl Change for DeleteManifest<'_> {
    type Outcome = Deleted;

    async fn plan(&mut self, current: &Current) -> Result<Plan<Deleted>> {
        let key = keys::manifest(self.repository, self.digest);
        let found = self.meta.get(&key).await?.ok_or(RegistryError::ManifestUnknown)?;
        let mut manifest: rows::Manifest = row::read_to_rewrite(&found)?;
        if manifest.deleted_ms != 0 {
            return Err(RegistryError::ManifestUnknown);
        }
        let (tags, more) = self.tags().await?;
        let mut ops: Vec<Op> = tags
            .iter()
            .flat_map(|tag| untag(self.repository, self.digest, tag))
            .collect();
        if more {
            return Ok(Plan::Apply {
                ops,
                manifests: current.manifests(),
                outcome: Deleted::SomeTags,
            });
        }
        if !manifest.subject.is_empty() {
            let subject = row::digest(&manifest.subject)?;
            ops.push(keys::referrer(self.repository, &subject, self.digest).delete(Expect::Any));
        }
        manifest.deleted_ms = clock::now_ms();
        ops.push(key.put(Expect::Any, row::bytes(&manifest)));
        ops.push(due::manifest(
            due::after(self.grace),
            self.repository,
            self.digest,
        ));
        let manifests = current.manifests().saturating_sub(1);
        Ok(Plan::Apply {
            ops,
            manifests,
            outcome: Deleted::Whole,
        })
    }
}

impl DeleteManifest<'_> {
    /// Tags that name the manifest, as many as fit, and whether there are more.
    async fn tags(&self) -> Result<(Vec<Tag>, bool)> {
        let prefix = keys::tags_of(self.digest);
        let (space, partition) = (Space::Repositories, self.repository.as_str());
        let page = self
            .meta
            .range(space, partition, &prefix, None, TAGS_AT_ONCE)
            .await?;
        let tags = page
            .entries
            .iter()
            .map(|entry| Tag::parse(&entry.sort[prefix.len()..]));
        let tags = tags.collect::<std::result::Result<_, _>>();
        Ok((
            tags.map_err(|error| row::corrupt("read a manifest's tags", error))?,
            page.more,
        ))
    }
}

/// The tag names nothing any more.
fn untag(repository: &RepoName, digest: &Digest, tag: &Tag) -> [Op; 2] {
    [
        keys::tag(repository, tag).delete(Expect::Any),
        keys::tag_of(repository, digest, tag).delete(Expect::Any),
    ]
}
