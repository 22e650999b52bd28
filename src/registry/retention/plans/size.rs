//! How many bytes go with a plan: those of blobs that no repository links any more then, counted once.
//!
//! First each manifest that goes is asked for its blobs, and each of these whether another manifest of the repository uses it that stays.
//! What is left is written down, by digest; then each digest is looked for among the links, and counts where all of them are written
//! down. So what is kept costs nothing, and no more is in memory than what goes from one repository.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::Instant;

use super::{Noted, items::Place};
use crate::{
    oci::{Digest, Manifest, RepoName},
    registry::{
        Registry, RegistryError, Result, fence,
        pages::Pages,
        row::{self, live},
        shelf::present,
    },
    storage::{Expect, MAX_OPS, Space, keys, rows, rows::PlanState},
};

/// Blobs that are looked for at once.
const AT_ONCE: usize = 8;
/// Manifests that are read between two notes of how far it is.
const MANIFESTS: usize = 50;

impl Registry {
    /// Finds out about some manifests. `None` when somebody else does, too.
    pub(super) async fn size_on(&self, mut plan: Noted, until: Instant) -> Result<Option<Noted>> {
        let (mut part, mut n) = match Place::parse(&plan.row.reached) {
            Some(place) => (self.part_of(&plan.id, &place.repository).await?, place.n),
            None => (self.next_part(&plan.id, None).await?, 0),
        };
        while let Some(found) = part {
            let all = self.all_items(&plan.id, &found).await?;
            let manifests = all.iter().flatten().filter(|item| item.tag.is_empty());
            let manifests: Vec<Digest> = manifests
                .map(|item| row::digest(&item.digest))
                .collect::<Result<_>>()?;
            let going: BTreeSet<&str> = manifests.iter().map(Digest::as_str).collect();
            for some in manifests.chunks(MANIFESTS).skip(n as usize) {
                self.size(&plan.id, &found.repository, some, &going).await?;
                n += 1;
                let mut row = plan.row.clone();
                row.sized += some.len() as u64;
                let repository = found.repository.clone();
                row.reached = Place { repository, n }.text();
                plan = match self.note_plan(plan, row, Vec::new()).await? {
                    Some(plan) => plan,
                    None => return Ok(None),
                };
                if Instant::now() >= until {
                    return Ok(Some(plan));
                }
            }
            part = self.next_part(&plan.id, Some(&found.repository)).await?;
            n = 0;
        }
        let mut row = plan.row.clone();
        row.reached = String::new();
        row.set_state(PlanState::Counting);
        self.note_plan(plan, row, Vec::new()).await
    }

    /// Writes down which blobs of these manifests the repository doesn't need once they have gone, with all that are `going`.
    async fn size(
        &self,
        id: &str,
        repository: &RepoName,
        manifests: &[Digest],
        going: &BTreeSet<&str>,
    ) -> Result<()> {
        let blobs = self.blobs_of(repository, manifests).await?;
        let keys: Vec<_> = blobs
            .iter()
            .map(|digest| keys::link(digest, repository))
            .collect();
        let mut linked = Vec::new();
        for (digest, found) in blobs.into_iter().zip(self.get_all(&keys).await?) {
            if let Some(link) = present(found)? {
                linked.push((digest, row::read::<rows::Link>(&link)?.size));
            }
        }
        let asked = linked.into_iter().map(async |(digest, size)| {
            let is_needed = self.is_needed(repository, &digest, going).await?;
            Ok::<_, RegistryError>((!is_needed).then_some((digest, size)))
        });
        let unneeded: Vec<_> = stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
        let ops = unneeded.into_iter().flatten().map(|(digest, size)| {
            let blob = rows::PlanBlob {
                min_reader: rows::SCHEMA,
                size,
            };
            keys::plan_blob(id, &digest, repository).put(Expect::Any, row::bytes(&blob))
        });
        for ops in ops.collect::<Vec<_>>().chunks(MAX_OPS) {
            fence::write(&*self.meta, ops, self.settings.limits.attempts).await?;
        }
        Ok(())
    }

    /// What these manifests reference, as far as they are still there and can be read.
    async fn blobs_of(&self, repository: &RepoName, manifests: &[Digest]) -> Result<BTreeSet<Digest>> {
        let keys: Vec<_> = manifests
            .iter()
            .map(|digest| keys::manifest(repository, digest))
            .collect();
        let mut blobs = BTreeSet::new();
        for (digest, found) in manifests.iter().zip(self.get_all(&keys).await?) {
            let Some(manifest) = live(found.as_ref())? else {
                continue;
            };
            let media_type = row::media_type(&manifest.media_type)?;
            let document = match self.document(repository, digest, manifest).await {
                Ok(document) => document,
                Err(error) if super::look::is_its_own(&error) => {
                    tracing::warn!(%repository, %digest, ?error, "a plan of retention can't tell what the manifest references");
                    continue;
                }
                Err(error) => return Err(error),
            };
            // An older release may have taken it.
            if let Ok(manifest) = Manifest::parse(Some(&media_type), &document) {
                let referenced = manifest.blobs.into_iter().chain(manifest.optional_blobs);
                blobs.extend(referenced.map(|blob| blob.digest));
            }
        }
        Ok(blobs)
    }

    /// Whether a manifest references the blob that lives and isn't `going`.
    async fn is_needed(
        &self,
        repository: &RepoName,
        digest: &Digest,
        going: &BTreeSet<&str>,
    ) -> Result<bool> {
        let prefix = keys::references_to(digest);
        let mut references = Pages::of(Space::Manifests, repository.as_str(), &prefix, MAX_OPS);
        while let Some(page) = references.next(&*self.meta).await? {
            let parents = page.iter().map(|entry| &entry.sort[prefix.len()..]);
            let others = parents.filter(|parent| !going.contains(parent));
            let others = others.map(|parent| Ok(keys::manifest(repository, &row::digest(parent)?)));
            let others: Vec<_> = others.collect::<Result<_>>()?;
            for found in self.get_all(&others).await? {
                if live(found.as_ref())?.is_some() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Looks for some blobs among the links. `None` when somebody else does, too.
    pub(super) async fn count_on(&self, plan: Noted) -> Result<Option<Noted>> {
        let (space, partition) = (Space::Repositories, keys::plan_partition(&plan.id));
        let after = Some(plan.row.reached.as_str()).filter(|reached| !reached.is_empty());
        let page = self
            .meta
            .range(space, &partition, keys::PLAN_BLOBS, after, MAX_OPS)
            .await?;
        let mut blobs = BTreeMap::new();
        for entry in &page.entries {
            let digest = keys::plan_blob_digest(&entry.sort).map(row::digest);
            let digest = digest.ok_or_else(|| row::corrupt("read a plan's blob", "malformed"))??;
            blobs.insert(digest, row::read::<rows::PlanBlob>(&entry.row)?.size);
        }
        let last = blobs.keys().next_back().map(keys::plan_blobs_after);
        let asked = blobs.into_iter().map(async |(digest, size)| {
            let is_freed = self.is_freed(&plan.id, &digest).await?;
            Ok::<_, RegistryError>(if is_freed { size } else { 0 })
        });
        let freed: Vec<u64> = stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
        let mut row = plan.row.clone();
        row.bytes += freed.iter().sum::<u64>();
        match last.filter(|_| page.more) {
            Some(last) => row.reached = last,
            None => {
                row.reached = String::new();
                row.set_state(PlanState::Ready);
            }
        }
        self.note_plan(plan, row, Vec::new()).await
    }

    /// Whether every repository that links the blob lets it go by the plan. Links that are kept for undo only are no links.
    async fn is_freed(&self, id: &str, digest: &Digest) -> Result<bool> {
        let mut links = Pages::of(Space::Links, digest.as_str(), "", MAX_OPS);
        while let Some(page) = links.next(&*self.meta).await? {
            let mut wanted = Vec::new();
            for entry in page {
                if present(Some(entry.row))?.is_some() {
                    let repository = RepoName::parse(&entry.sort)
                        .map_err(|error| row::corrupt("read a repository's name in a link", error))?;
                    wanted.push(keys::plan_blob(id, digest, &repository));
                }
            }
            if self.get_all(&wanted).await?.iter().any(Option::is_none) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// What of the digests comes before this place, from 0 to 1: they are spread evenly.
pub(super) fn counted(reached: &str) -> f64 {
    let digits = keys::plan_blobs_reached(reached).and_then(|digest| digest.split_once(':'));
    let digits = digits.and_then(|(_, hex)| u16::from_str_radix(hex.get(..4)?, 16).ok());
    digits.map_or(0.0, |digits| f64::from(digits) / f64::from(u16::MAX))
}
