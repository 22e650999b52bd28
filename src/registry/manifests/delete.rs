//! Deleting a tag, or a manifest with all its tags.

use std::{collections::VecDeque, time::Duration};

use super::{
    super::{
        Registry, RegistryError, Result,
        changes::{Cause, Changing},
        commit::{Change, Current, MAX_PLANNED, Plan},
        due, row,
    },
    WhileListed,
    read::{describe, tagged},
};
use crate::{
    clock,
    oci::{Digest, Preconditions, RepoName, Tag},
    storage::{Expect, MAX_PAGE, Op, Space, keys, rows},
};

/// How many tags go in one transaction: each is two rows, and the last ones go with the manifest, its entry in a list of
/// referrers and its due-row.
const TAGS_AT_ONCE: usize = (MAX_PLANNED - 3) / 2;

/// A tag on its way out.
pub(in crate::registry) struct DeleteTag<'a> {
    pub(in crate::registry) registry: &'a Registry,
    pub(in crate::registry) repository: &'a RepoName,
    pub(in crate::registry) tag: &'a Tag,
    pub(in crate::registry) only_if: &'a Preconditions,
    pub(in crate::registry) cause: Cause<'a>,
}

impl Change for DeleteTag<'_> {
    type Outcome = ();

    async fn plan(&mut self, current: &Current) -> Result<Plan<()>> {
        let key = keys::tag(self.repository, self.tag);
        let found = self.registry.meta.get(&key).await?;
        let named: rows::Tag = row::read(&found.ok_or(RegistryError::ManifestUnknown)?)?;
        let former = tagged(&named)?;
        self.registry
            .settings
            .immutable
            .check(self.repository, self.tag)?;
        check(self.only_if, &former.digest)?;
        let mut changing = Changing::new(self.cause);
        changing.moves(self.tag, Some(&former), None);
        Ok(Plan::Apply {
            ops: untag(self.repository, &former.digest, self.tag).into(),
            manifests: current.manifests(),
            changing: Some(changing),
            outcome: (),
        })
    }
}

/// A manifest on its way out. One that has many tags takes several steps, the last of which deletes it.
pub(in crate::registry) struct Delete<'a> {
    pub(in crate::registry) registry: &'a Registry,
    pub(in crate::registry) repository: &'a RepoName,
    pub(in crate::registry) digest: &'a Digest,
    pub(in crate::registry) only_if: &'a Preconditions,
    pub(in crate::registry) cause: Cause<'a>,
    pub(in crate::registry) while_listed: WhileListed,
    /// Until when a collector leaves the manifest's references.
    pub(in crate::registry) grace: Duration,
    /// What was read for the former step, less what that deleted.
    pub(in crate::registry) known: Option<Known>,
    /// Whether tags are gone.
    pub(in crate::registry) is_begun: bool,
}

/// The manifest and its tags, the first page of them that are left.
pub(in crate::registry) struct Known {
    manifest: rows::Manifest,
    tags: VecDeque<Tag>,
    more: bool,
}

/// How far [`Delete`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::registry) enum Deleted {
    /// There are more tags.
    SomeTags,
    /// The manifest is deleted.
    Whole,
}

impl Change for Delete<'_> {
    type Outcome = Deleted;

    async fn plan(&mut self, current: &Current) -> Result<Plan<Deleted>> {
        self.is_begun |= current.continues();
        let mut known = match self.known.take() {
            Some(known) if current.continues() => known,
            Some(_) | None => self.look().await?,
        };
        let at_once = known.tags.len().min(TAGS_AT_ONCE);
        let mut last = None;
        let mut changing = Changing::new(self.cause);
        let descriptor = describe(self.digest, &known.manifest)?;
        let mut ops = Vec::with_capacity(MAX_PLANNED);
        for tag in known.tags.drain(..at_once) {
            ops.extend(untag(self.repository, self.digest, &tag));
            changing.moves(&tag, Some(&descriptor), None);
            last = Some(tag);
        }
        if known.tags.is_empty() && known.more {
            (known.tags, known.more) = self.tags(last.as_ref()).await?;
        }
        if !known.tags.is_empty() {
            self.known = Some(known);
            return Ok(Plan::Step {
                ops,
                changing: Some(changing),
                so_far: Deleted::SomeTags,
            });
        }
        changing.goes(&descriptor);
        let mut manifest = known.manifest;
        if !manifest.subject.is_empty() {
            let subject = row::digest(&manifest.subject)?;
            ops.push(keys::referrer(self.repository, &subject, self.digest).delete(Expect::Any));
        }
        manifest.deleted_ms = clock::now_ms();
        ops.push(keys::manifest(self.repository, self.digest).put(Expect::Any, row::bytes(&manifest)));
        ops.push(
            self.registry
                .dues
                .manifest(due::after(self.grace), self.repository, self.digest),
        );
        Ok(Plan::Apply {
            ops,
            manifests: current.manifests().saturating_sub(1),
            changing: Some(changing),
            outcome: Deleted::Whole,
        })
    }
}

impl Delete<'_> {
    /// Reads the manifest, which must be there, what speaks against its end, and its first tags.
    async fn look(&self) -> Result<Known> {
        let key = keys::manifest(self.repository, self.digest);
        let found = self.registry.meta.get(&key).await?;
        if row::live(found.as_ref())?.is_none() {
            return Err(RegistryError::ManifestUnknown);
        }
        let (tags, more) = self.tags(None).await?;
        self.check_immutable(&tags, more).await?;
        check(self.only_if, self.digest)?;
        match self.while_listed {
            WhileListed::Refuse => self.registry.check_unlisted(self.repository, self.digest).await?,
            WhileListed::Delete => {}
        }
        let manifest = row::read_to_rewrite(&found.ok_or(RegistryError::ManifestUnknown)?)?;
        Ok(Known { manifest, tags, more })
    }

    /// Refuses where a tag has to stay: one of these, or one of those after them. All are looked at before the first goes.
    async fn check_immutable(&self, tags: &VecDeque<Tag>, mut more: bool) -> Result<()> {
        let immutable = &self.registry.settings.immutable;
        if !immutable.concerns(self.repository) {
            return Ok(());
        }
        let mut page = tags.clone();
        loop {
            for tag in &page {
                immutable.check(self.repository, tag)?;
            }
            if !more {
                return Ok(());
            }
            (page, more) = self.tags(page.back()).await?;
        }
    }

    /// A page of the tags that name the manifest, and whether there are more.
    async fn tags(&self, after: Option<&Tag>) -> Result<(VecDeque<Tag>, bool)> {
        let prefix = keys::tags_of(self.digest);
        let after = after.map(|tag| keys::tag_of(self.repository, self.digest, tag).sort);
        let (space, partition) = (Space::Repositories, self.repository.as_str());
        let page = self
            .registry
            .meta
            .range(space, partition, &prefix, after.as_deref(), MAX_PAGE)
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

fn check(only_if: &Preconditions, current: &Digest) -> Result<()> {
    match only_if.hold(Some(current)) {
        true => Ok(()),
        false => Err(RegistryError::PreconditionFailed {
            current: Some(current.clone()),
        }),
    }
}

/// The tag names nothing any more.
fn untag(repository: &RepoName, digest: &Digest, tag: &Tag) -> [Op; 2] {
    [
        keys::tag(repository, tag).delete(Expect::Any),
        keys::tag_of(repository, digest, tag).delete(Expect::Any),
    ]
}
