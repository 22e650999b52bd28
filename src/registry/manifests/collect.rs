//! The end of a manifest that was deleted: what it references, its row, its object.

use tokio::time::Instant;

use super::super::{
    Registry, Result,
    commit::{Change, Current, HeldBy, Plan},
    due, row,
};
use crate::{
    clock,
    oci::{Digest, Manifest, RepoName},
    storage::{Expect, Op, keys, rows, rows::manifest::Body},
};

/// How many references go in one transaction, each with its blob's link and the link's due-row.
const REFERENCES_AT_ONCE: usize = 30;

/// A deleted manifest on its way out. One that references much takes several changes, the last of which removes its row.
struct CollectManifest<'a> {
    registry: &'a Registry,
    repository: &'a RepoName,
    digest: &'a Digest,
    /// A manifest that was deleted later than a grace before this is left.
    ripe_ms: u64,
}

/// How far [`CollectManifest`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Collected {
    /// There are more references.
    SomeReferences,
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
        loop {
            let change = CollectManifest {
                registry: self,
                repository,
                digest,
                ripe_ms,
            };
            let deadline = Instant::now() + self.settings.commit_within;
            match self.commit(repository, deadline, change).await? {
                Collected::SomeReferences => {}
                Collected::Whole => return Ok(None),
                Collected::TooEarly(at_ms) => return Ok(Some(at_ms)),
            }
        }
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
        let at_ms = manifest.deleted_ms.saturating_add(self.registry.grace_ms());
        if at_ms > self.ripe_ms {
            // It was pushed and deleted again since.
            return Ok(Plan::Done(Collected::TooEarly(at_ms)));
        }
        let object = match &manifest.body {
            Some(Body::ObjectKey(key)) => Some(key.clone()),
            Some(Body::Inline(_)) | None => None,
        };
        let mut left = self.references(manifest).await?;
        let more = left.split_off(left.len().min(REFERENCES_AT_ONCE));
        let mut ops = self.let_go(left).await?;
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
    /// Removes references. Links to what they referenced may have no other user: they are armed, and looked at a grace later.
    async fn let_go(&self, digests: Vec<Digest>) -> Result<Vec<Op>> {
        let links: Vec<_> = digests
            .iter()
            .map(|digest| keys::link(digest, self.repository))
            .collect();
        let found = self.registry.get_all(&links).await?;
        let mut ops = Vec::new();
        for ((digest, key), link) in digests.iter().zip(links).zip(found) {
            ops.push(keys::reference(self.repository, digest, self.digest).delete(Expect::Any));
            if let Some(found) = link {
                let armed = rows::Link {
                    in_use: false,
                    armed_ms: clock::now_ms(),
                    ..row::read_to_rewrite(&found)?
                };
                ops.push(key.put(Expect::Version(found.version), row::bytes(&armed)));
                let due_ms = due::after(self.registry.settings.link_grace);
                ops.push(self.registry.dues.link(due_ms, self.repository, digest));
            }
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
