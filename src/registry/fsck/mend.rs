//! Repairs: what was read is expected, or read anew within a change of the repository, as in everything else. Where members do
//! such work anyway, a due-row tells them to.

use bytes::Bytes;

use super::{
    Fate,
    finding::{Mend, Tidy},
    look::is_about,
};
use crate::{
    clock,
    oci::{Digest, Manifest, RepoName},
    registry::{
        MountSource, Mounted, Registry, RegistryError, Result,
        commit::{Change, Current, HeldBy, Plan},
        fence,
        references::{User, user_of},
        referrers::listed_as,
        row,
    },
    storage::{Expect, Key, MAX_OPS, Op, Outcome, Version, keys, rows},
};

impl Registry {
    /// Repairs what can be.
    pub(super) async fn mend(&self, mend: Mend) -> Result<Fate> {
        let mended = match mend {
            Mend::Ops(ops) => match self.meta.transact(Version::random(), &ops).await? {
                Outcome::Committed => Ok(Fate::Repaired),
                Outcome::Refused { .. } | Outcome::Unknown => Ok(Fate::Moved),
            },
            Mend::Tidy(repository, tidy) => {
                let change = InLine {
                    registry: self,
                    repository: &repository,
                    tidy: &tidy,
                };
                let done = self.commit(&repository, self.commit_deadline(), change).await;
                done.map(|()| Fate::Repaired)
            }
            Mend::Hold(repository, digest) => {
                let mounted = self.mount(&repository, &digest, MountSource::Anywhere).await;
                mounted.map(|mounted| match mounted {
                    Mounted::Linked => Fate::Repaired,
                    Mounted::NotHere => Fate::Unrepairable,
                })
            }
        };
        match mended {
            Err(RegistryError::Contended | RegistryError::Deadline | RegistryError::OutcomeUnknown) => {
                Ok(Fate::Moved)
            }
            Err(RegistryError::QuotaExceeded { .. } | RegistryError::ContentLost { .. }) => {
                Ok(Fate::Unrepairable)
            }
            mended => mended,
        }
    }
}

/// Rows that are brought in line with what they follow from.
struct InLine<'a> {
    registry: &'a Registry,
    repository: &'a RepoName,
    tidy: &'a Tidy,
}

impl Change for InLine<'_> {
    type Outcome = ();

    const HELD_BY: HeldBy = HeldBy::Holder;

    async fn plan(&mut self, current: &Current) -> Result<Plan<()>> {
        let (meta, repository) = (&*self.registry.meta, self.repository);
        let put_or_delete = |key: Key, wanted: Option<Bytes>| match wanted {
            Some(bytes) => key.put(Expect::Any, bytes),
            None => key.delete(Expect::Any),
        };
        let op = match self.tidy {
            Tidy::TagOf(digest, tag) => {
                let named = meta.get(&keys::tag(repository, tag)).await?;
                let named: Option<rows::Tag> = named.as_ref().map(row::read).transpose()?;
                let names = named.is_some_and(|named| named.digest == digest.as_str());
                put_or_delete(keys::tag_of(repository, digest, tag), names.then(mark))
            }
            Tidy::Reference(child, parent) => {
                if meta.get(&keys::manifest(repository, parent)).await?.is_some() {
                    return Ok(Plan::Done(()));
                }
                keys::reference(repository, child, parent).delete(Expect::Any)
            }
            Tidy::References(digest) => return self.references(current, digest).await,
            Tidy::Referrer(subject, digest) => {
                let manifest = meta.get(&keys::manifest(repository, digest)).await?;
                let listed = match is_about(manifest.as_ref(), subject)? {
                    true => {
                        let parsed = self.parsed(digest).await?;
                        parsed.map(|(manifest, size)| row::bytes(&listed_as(&manifest, size)))
                    }
                    false => None,
                };
                put_or_delete(keys::referrer(repository, subject, digest), listed)
            }
            Tidy::Unused(digest) => return self.unused(current, digest).await,
            Tidy::Repository => return self.counted(current).await,
        };
        Ok(apply(vec![op], current.manifests()))
    }
}

impl InLine<'_> {
    async fn parsed(&self, digest: &Digest) -> Result<Option<(Manifest, u64)>> {
        let Some(manifest) = self.registry.live_manifest(self.repository, digest).await? else {
            return Ok(None);
        };
        let media_type = row::media_type(&manifest.media_type)?;
        let document = self.registry.document(self.repository, digest, manifest).await?;
        let parsed = Manifest::parse(Some(&media_type), &document).ok();
        Ok(parsed.map(|parsed| (parsed, document.len() as u64)))
    }

    /// As a push writes them: before the transaction, which is refused if a collector came in between.
    async fn references(&self, current: &Current, digest: &Digest) -> Result<Plan<()>> {
        let Some((manifest, _)) = self.parsed(digest).await? else {
            return Ok(Plan::Done(()));
        };
        let referenced = manifest.blobs.iter().chain(&manifest.optional_blobs);
        let ops: Vec<Op> = referenced
            .chain(&manifest.children)
            .map(|to| keys::reference(self.repository, &to.digest, digest).put(Expect::Any, mark()))
            .collect();
        for ops in ops.chunks(MAX_OPS) {
            fence::write(&*self.registry.meta, ops, self.registry.settings.limits.attempts).await?;
        }
        Ok(apply(Vec::new(), current.manifests()))
    }

    /// Whoever remembers that the link is in use goes by the repository's row (rule R9).
    async fn unused(&self, current: &Current, digest: &Digest) -> Result<Plan<()>> {
        let (registry, repository) = (self.registry, self.repository);
        let key = keys::link(digest, repository);
        let Some(found) = registry.meta.get(&key).await? else {
            return Ok(Plan::Done(()));
        };
        let link: rows::Link = row::read_to_rewrite(&found)?;
        let User::Nobody { .. } = user_of(&*registry.meta, repository, digest).await? else {
            return Ok(Plan::Done(()));
        };
        let (expect, at_ms) = (Expect::Version(found.version), clock::now_ms());
        // Nobody relies on one that is shelved.
        let (op, due_ms) = match link.shelved {
            true => (key.check(expect), at_ms),
            false => {
                let armed = rows::Link {
                    in_use: false,
                    armed_ms: at_ms,
                    ..link
                };
                (key.put(expect, row::bytes(&armed)), at_ms + registry.grace_ms())
            }
        };
        let due = registry.dues.link(due_ms, repository, digest);
        Ok(apply(vec![op, due], current.manifests()))
    }

    async fn counted(&self, current: &Current) -> Result<Plan<()>> {
        let counted = self.registry.count_manifests(self.repository).await?;
        let (existed, exists) = (current.manifests() > 0, counted > 0);
        let key = keys::catalog_entry(self.repository);
        let listed = rows::CatalogEntry {
            min_reader: rows::SCHEMA,
        };
        // Where that changes, the entry comes or goes with the row.
        let ops = match (existed, exists) {
            (true, true) => vec![key.put(Expect::Any, row::bytes(&listed))],
            (false, false) => vec![key.delete(Expect::Any)],
            (true, false) | (false, true) => Vec::new(),
        };
        Ok(apply(ops, counted))
    }
}

fn apply(ops: Vec<Op>, manifests: u64) -> Plan<()> {
    Plan::Apply {
        ops,
        manifests,
        changing: None,
        outcome: (),
    }
}

fn mark() -> Bytes {
    row::bytes(&rows::Mark {
        min_reader: rows::SCHEMA,
    })
}
