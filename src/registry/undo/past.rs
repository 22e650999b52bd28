//! What was there, as the repository's history tells it.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::{
    super::{
        Registry, RegistryError, Result,
        changes::{HistoryPage, NameChange, TagMove, Why},
        upkeep::millis,
    },
    Existing, Restore, Wanted,
};
use crate::{
    clock,
    oci::{Descriptor, Digest, RepoName, Tag, Timestamp, Undo},
};

/// Changes that are read at once.
const CHANGES: usize = 1000;

/// Whether to look at the change before this one, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::registry) enum Look {
    Further,
    NoFurther,
}

impl Registry {
    /// What the tag named at a time.
    pub(super) async fn named_at(&self, repository: &RepoName, tag: &Tag, at_ms: u64) -> Result<Descriptor> {
        let page = HistoryPage {
            limit: 1,
            before_ms: Some(at_ms.saturating_add(1)),
            since_ms: None,
            digest: None,
        };
        let found = self.tag_history(repository, tag, &page).await?;
        let named = found.events.into_iter().next().and_then(|event| event.to);
        named.ok_or(RegistryError::ManifestUnknown)
    }

    /// What is asked for, and what becomes of tags that are there.
    pub(super) async fn wanted(&self, restore: &Restore<'_>) -> Result<(Wanted, Existing)> {
        let repository = restore.repository;
        let (wanted, existing) = match restore.what {
            Undo::Tag { tag, at } => {
                let named = self.named_at(repository, tag, at.as_ms()).await?;
                let tags = BTreeSet::from([tag.clone()]);
                (Wanted(BTreeMap::from([(named.digest, tags)])), Existing::Moves)
            }
            Undo::Manifest(digest) => (self.wanted_with_tags(restore, digest).await?, Existing::Stays),
            Undo::Everything { at } => (self.wanted_of(restore, at.as_ms()).await?, Existing::Stays),
            Undo::Run(run) => (self.wanted_of_run(restore, run).await?, Existing::Stays),
        };
        match (restore.what, wanted.0.keys().next()) {
            // One thing that isn't there any more is nothing.
            (Undo::Tag { .. } | Undo::Manifest(_), Some(digest))
                if self.kept(repository, digest).await?.is_none() =>
            {
                Err(RegistryError::ManifestUnknown)
            }
            _ => Ok((wanted, existing)),
        }
    }

    /// A manifest, with the tags that it lost with its deletion: in the change that deleted it, and in those right before, which
    /// are its first steps where it had many.
    async fn wanted_with_tags(&self, restore: &Restore<'_>, digest: &Digest) -> Result<Wanted> {
        let manifest = self.kept(restore.repository, digest).await?;
        let manifest = manifest.ok_or(RegistryError::ManifestUnknown)?;
        let mut tags = BTreeSet::new();
        if manifest.deleted_ms == 0 {
            return Ok(Wanted(BTreeMap::from([(digest.clone(), tags)])));
        }
        // A change may be some later than its member's clock was.
        let margin_ms = millis(self.settings.limits.clock_margin);
        let (mut by, mut oldest_ms) = (None, manifest.deleted_ms.saturating_sub(margin_ms));
        let step_ms = margin_ms.saturating_add(millis(self.settings.limits.commit_within));
        let newest_ms = manifest.deleted_ms.saturating_add(2 * margin_ms + 1000);
        self.look_back(restore.repository, restore.deadline, Some(newest_ms), |change| {
            let is_last = change.went.iter().any(|went| went.digest == *digest);
            let is_part = is_last || (by.as_ref() == Some(&change.by) && is_step(change, digest));
            if is_part {
                let lost = change.tags.iter().filter(|moved| lost(moved, digest));
                tags.extend(lost.map(|moved| moved.tag.clone()));
                by = Some(change.by.clone());
                oldest_ms = change.at_ms.saturating_sub(step_ms);
                return Look::Further;
            }
            // Others change the repository between two steps.
            match change.at_ms < oldest_ms || (by.is_some() && names(change, digest)) {
                true => Look::NoFurther,
                false => Look::Further,
            }
        })
        .await?;
        Ok(Wanted(BTreeMap::from([(digest.clone(), tags)])))
    }

    /// All that was there at a time and may not be any more. What was deleted long ago isn't kept, so nobody looks that far back.
    async fn wanted_of(&self, restore: &Restore<'_>, at_ms: u64) -> Result<Wanted> {
        let oldest_ms = self.oldest_ms();
        if at_ms < oldest_ms {
            let oldest = Timestamp::from_ms(oldest_ms);
            return Err(RegistryError::NotKept { oldest });
        }
        // From the newest change backwards: what is noted last is how it was then.
        let mut manifests: BTreeMap<Digest, bool> = BTreeMap::new();
        let mut tags: BTreeMap<Tag, Option<Digest>> = BTreeMap::new();
        self.look_back(restore.repository, restore.deadline, None, |change| {
            if change.at_ms <= at_ms {
                return Look::NoFurther;
            }
            let of = |all: &[Descriptor]| all.iter().map(|one| one.digest.clone()).collect::<Vec<_>>();
            manifests.extend(of(&change.went).into_iter().map(|digest| (digest, true)));
            manifests.extend(of(&change.came).into_iter().map(|digest| (digest, false)));
            let moved = change.tags.iter();
            tags.extend(moved.map(|moved| {
                (
                    moved.tag.clone(),
                    moved.from.as_ref().map(|from| from.digest.clone()),
                )
            }));
            Look::Further
        })
        .await?;
        let there = manifests.into_iter().filter(|(_, was_there)| *was_there);
        let mut wanted = Wanted(there.map(|(digest, _)| (digest, BTreeSet::new())).collect());
        for (tag, named) in tags {
            if let Some(digest) = named {
                wanted.0.entry(digest).or_default().insert(tag);
            }
        }
        Ok(wanted)
    }

    /// All that a run of retention deleted.
    async fn wanted_of_run(&self, restore: &Restore<'_>, run: &str) -> Result<Wanted> {
        let oldest_ms = self.oldest_ms();
        let mut wanted = Wanted::default();
        self.look_back(restore.repository, restore.deadline, None, |change| {
            if change.at_ms < oldest_ms {
                return Look::NoFurther;
            }
            if change.why == Some(Why::Retention) && change.by == run {
                for went in &change.went {
                    wanted.0.entry(went.digest.clone()).or_default();
                }
                for moved in &change.tags {
                    if let (Some(from), None) = (&moved.from, &moved.to) {
                        let tags = wanted.0.entry(from.digest.clone()).or_default();
                        tags.insert(moved.tag.clone());
                    }
                }
            }
            Look::Further
        })
        .await?;
        match wanted.0.is_empty() {
            true => Err(RegistryError::ManifestUnknown),
            false => Ok(wanted),
        }
    }

    /// Since when what was deleted is kept, in milliseconds since the Unix epoch.
    fn oldest_ms(&self) -> u64 {
        let margin_ms = millis(self.settings.limits.clock_margin);
        let kept_ms = self.history_ms().saturating_add(margin_ms);
        clock::now_ms().saturating_sub(kept_ms)
    }

    /// Looks at the repository's changes, the newest first, those before `before_ms`.
    pub(in crate::registry) async fn look_back(
        &self,
        repository: &RepoName,
        deadline: Instant,
        mut before_ms: Option<u64>,
        mut look: impl FnMut(&NameChange) -> Look + Send,
    ) -> Result<()> {
        // What isn't settled first: what is settled meanwhile is in both.
        let mut unsettled: BTreeMap<u64, NameChange> = BTreeMap::new();
        for change in self.unsettled_of(repository).await? {
            if before_ms.is_none_or(|before_ms| change.at_ms < before_ms) {
                unsettled.insert(change.at_ms, change);
            }
        }
        loop {
            if Instant::now() > deadline {
                return Err(RegistryError::Deadline);
            }
            let (settled, more) = self.settled_of(repository, before_ms, CHANGES).await?;
            before_ms = settled.last().map(|change| change.at_ms).filter(|_| more);
            let mut changes = match before_ms {
                Some(before_ms) => unsettled.split_off(&before_ms),
                None => std::mem::take(&mut unsettled),
            };
            changes.extend(settled.into_iter().map(|change| (change.at_ms, change)));
            for change in changes.values().rev() {
                if look(change) == Look::NoFurther {
                    return Ok(());
                }
            }
            if before_ms.is_none() {
                return Ok(());
            }
        }
    }
}

/// Whether the change is a step of the manifest's deletion, which takes many tags off it. To delete a tag takes one.
fn is_step(change: &NameChange, digest: &Digest) -> bool {
    change.came.is_empty()
        && change.went.is_empty()
        && change.tags.len() > 1
        && change.tags.iter().all(|moved| lost(moved, digest))
}

/// Whether the change makes the manifest, or lets a tag name it.
fn names(change: &NameChange, digest: &Digest) -> bool {
    let mut named = change.tags.iter().filter_map(|moved| moved.to.as_ref());
    named.any(|named| named.digest == *digest) || change.came.iter().any(|came| came.digest == *digest)
}

/// Whether the tag named the manifest, and nothing since.
fn lost(moved: &TagMove, digest: &Digest) -> bool {
    moved.to.is_none() && moved.from.as_ref().is_some_and(|from| from.digest == *digest)
}
