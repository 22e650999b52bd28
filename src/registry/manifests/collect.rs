//! The end of a manifest that was deleted: what it references, its row, its object.
//!
//! Where it can be brought back (`storage.history`) that is in two halves. A grace after its deletion its links are *let go*: they
//! are armed like those of a manifest that is gone, so the collector finds those that nothing else uses, and shelves them.
//! Its row and references stay until it can't be brought back any more.

use tokio::time::Instant;

use super::super::{
    Registry, Result,
    commit::{Change, Current, HeldBy, Plan},
    due, row,
    shelf::is_shelved,
    upkeep::millis,
};
use crate::{
    clock,
    oci::{Digest, Manifest, RepoName},
    storage::{Expect, Op, Row, keys, rows, rows::manifest::Body},
};

/// How many references go in one transaction, each with its blob's link and the link's due-row.
const REFERENCES_AT_ONCE: usize = 30;
/// How often a manifest that can be brought back is looked at: a shorter `storage.history` counts for it within that.
const LOOK_MS: u64 = 24 * 60 * 60 * 1000;

/// A deleted manifest on its way out. One that references much takes several changes, the last of which removes its row.
struct CollectManifest<'a> {
    registry: &'a Registry,
    repository: &'a RepoName,
    digest: &'a Digest,
    /// A manifest that was deleted later than a grace before this is left.
    ripe_ms: u64,
    /// Links that were let go before.
    let_go: Option<LetGo>,
}

/// The first links of a manifest were let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LetGo {
    /// Of which deletion.
    deleted_ms: u64,
    /// How many.
    links: usize,
}

/// How far [`CollectManifest`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Collected {
    /// There are more references.
    SomeReferences,
    /// There are more links to let go.
    SomeLinks(LetGo),
    /// The manifest is gone, or lives.
    Whole,
    /// It isn't to be looked at before this time.
    TooEarly(u64),
}

impl Registry {
    /// Removes what is left of a deleted manifest. Gives the time to come back at if it wasn't deleted long enough ago.
    pub(in crate::registry) async fn collect_deleted(
        &self,
        repository: &RepoName,
        digest: &Digest,
        ripe_ms: u64,
    ) -> Result<Option<u64>> {
        let mut let_go = None;
        loop {
            let change = CollectManifest {
                registry: self,
                repository,
                digest,
                ripe_ms,
                let_go,
            };
            let deadline = Instant::now() + self.settings.limits.commit_within;
            match self.commit(repository, deadline, change).await? {
                Collected::SomeReferences => {}
                Collected::SomeLinks(so_far) => let_go = Some(so_far),
                Collected::Whole => return Ok(None),
                Collected::TooEarly(at_ms) => return Ok(Some(at_ms)),
            }
        }
    }

    /// How long what was deleted can be brought back, in milliseconds.
    pub(in crate::registry) fn history_ms(&self) -> u64 {
        millis(self.settings.limits.history)
    }
}

impl Change for CollectManifest<'_> {
    type Outcome = Collected;

    const HELD_BY: HeldBy = HeldBy::Holder;

    async fn plan(&mut self, current: &Current) -> Result<Plan<Collected>> {
        let key = keys::manifest(self.repository, self.digest);
        let Some(found) = self.registry.meta.get(&key).await? else {
            return Ok(Plan::Done(Collected::Whole));
        };
        let manifest: rows::Manifest = row::read_to_rewrite(&found)?;
        if manifest.deleted_ms == 0 {
            return Ok(Plan::Done(Collected::Whole));
        }
        let (grace_ms, history_ms) = (self.registry.grace_ms(), self.registry.history_ms());
        let let_go_ms = manifest.deleted_ms.saturating_add(grace_ms);
        let end_ms = manifest.deleted_ms.saturating_add(history_ms.max(grace_ms));
        // It was pushed and deleted again since.
        if let_go_ms > self.ripe_ms {
            return Ok(Plan::Done(Collected::TooEarly(let_go_ms)));
        }
        if end_ms > self.ripe_ms {
            if manifest.shelved {
                return Ok(Plan::Done(Collected::TooEarly(self.look_again(end_ms))));
            }
            return self.let_go(current, &found, manifest, end_ms).await;
        }
        let object = match &manifest.body {
            Some(Body::ObjectKey(key)) => Some(key.clone()),
            Some(Body::Inline(_)) | None => None,
        };
        let mut left = self.references(manifest).await?;
        let more = left.split_off(left.len().min(REFERENCES_AT_ONCE));
        let mut ops = self.arm(&left).await?;
        let references = left.iter();
        ops.extend(
            references.map(|to| keys::reference(self.repository, to, self.digest).delete(Expect::Any)),
        );
        let outcome = if more.is_empty() {
            ops.push(key.delete(Expect::Version(found.version)));
            ops.push(keys::pull(self.repository, self.digest).delete(Expect::Any));
            ops.extend(object.map(|object| self.registry.dues.trash(clock::now_ms(), &object, None)));
            Collected::Whole
        } else {
            Collected::SomeReferences
        };
        Ok(Plan::Apply {
            ops,
            manifests: current.manifests(),
            changing: None,
            outcome,
        })
    }
}

impl CollectManifest<'_> {
    /// Lets the next links go, and after the last of them shelves the manifest.
    async fn let_go(
        &self,
        current: &Current,
        found: &Row,
        manifest: rows::Manifest,
        end_ms: u64,
    ) -> Result<Plan<Collected>> {
        let deleted_ms = manifest.deleted_ms;
        let before = self.let_go.filter(|before| before.deleted_ms == deleted_ms);
        let first = before.map_or(0, |before| before.links);
        let references = self.references(manifest.clone()).await?;
        let next: Vec<_> = references.into_iter().skip(first).collect();
        let now = &next[..next.len().min(REFERENCES_AT_ONCE)];
        let mut ops = self.arm(now).await?;
        let outcome = if now.len() < next.len() {
            let links = first + now.len();
            Collected::SomeLinks(LetGo { deleted_ms, links })
        } else {
            let shelved = rows::Manifest {
                shelved: true,
                ..manifest
            };
            let key = keys::manifest(self.repository, self.digest);
            ops.push(key.put(Expect::Version(found.version), row::bytes(&shelved)));
            Collected::TooEarly(self.look_again(end_ms))
        };
        Ok(Plan::Apply {
            ops,
            manifests: current.manifests(),
            changing: None,
            outcome,
        })
    }

    /// When to look at it that can be brought back until `end_ms`.
    fn look_again(&self, end_ms: u64) -> u64 {
        end_ms.min(self.ripe_ms.saturating_add(LOOK_MS))
    }

    /// Links to what it references may have no other user: they are armed, and looked at a grace later; those that are shelved,
    /// on which nobody relies, at once.
    async fn arm(&self, digests: &[Digest]) -> Result<Vec<Op>> {
        let links: Vec<_> = digests
            .iter()
            .map(|digest| keys::link(digest, self.repository))
            .collect();
        let found = self.registry.get_all(&links).await?;
        let mut ops = Vec::new();
        for ((digest, key), link) in digests.iter().zip(links).zip(found) {
            let Some(found) = link else { continue };
            let due_ms = if is_shelved(&found)? {
                clock::now_ms()
            } else {
                let armed = rows::Link {
                    in_use: false,
                    armed_ms: clock::now_ms(),
                    ..row::read_to_rewrite(&found)?
                };
                ops.push(key.put(Expect::Version(found.version), row::bytes(&armed)));
                due::after(self.registry.settings.limits.link_grace)
            };
            ops.push(self.registry.dues.link(due_ms, self.repository, digest));
        }
        Ok(ops)
    }

    /// What it references, as far as the rows that say so are left.
    async fn references(&self, manifest: rows::Manifest) -> Result<Vec<Digest>> {
        let media_type = row::media_type(&manifest.media_type)?;
        let document = self
            .registry
            .document(self.repository, self.digest, manifest)
            .await?;
        let Manifest {
            blobs,
            optional_blobs,
            children,
            ..
        } = match Manifest::parse(Some(&media_type), &document) {
            Ok(manifest) => manifest,
            // An older release took it. What references something and isn't there itself means nothing.
            Err(error) => {
                tracing::info!(repository = %self.repository, digest = %self.digest, %error, "references are left");
                return Ok(Vec::new());
            }
        };
        let referenced = blobs.into_iter().chain(optional_blobs).chain(children);
        let digests: Vec<_> = referenced.map(|to| to.digest).collect();
        let keys: Vec<_> = digests
            .iter()
            .map(|digest| keys::reference(self.repository, digest, self.digest))
            .collect();
        let found = self.registry.get_all(&keys).await?;
        let left = digests.into_iter().zip(found).filter(|(_, row)| row.is_some());
        Ok(left.map(|(digest, _)| digest).collect())
    }
}
