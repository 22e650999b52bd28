//! Manifests, tags, references and referrers.

use super::{Found, Look};
use crate::{
    clock,
    oci::{Descriptor, Digest, Manifest, RepoName, Tag},
    registry::{
        MayBeAbsent, RegistryError, Result,
        due::in_repository,
        fsck::{
            FaultKind,
            finding::{Finding, Mend, Tidy},
        },
        row,
        shelf::present,
    },
    storage::{
        Expect, keys, rows,
        rows::{DueKind, manifest::Body},
    },
};

impl Look<'_> {
    pub(super) async fn manifest(&self, repository: &RepoName, digest: &Digest) -> Found {
        let key = keys::manifest(repository, digest);
        let wanted = [key.clone(), keys::repository(repository)];
        let [Some(found), home] = self.rows(wanted).await? else {
            return Ok(Vec::new());
        };
        let manifest: rows::Manifest = row::read_to_rewrite(&found)?;
        let fault = |kind, said: &str| Finding::new(kind, Some(repository), said).of(digest);
        if manifest.deleted_ms != 0 {
            let due = self.registry.dues.manifest(clock::now_ms(), repository, digest);
            let ops = vec![key.check(Expect::Version(found.version)), due];
            return Ok(vec![
                fault(FaultKind::Unremoved, "it is deleted, and nothing removes its row")
                    .unless_due(DueKind::Manifest, in_repository(repository, digest))
                    .mend(Mend::Ops(ops)),
            ]);
        }
        let mut findings = Vec::new();
        if home.is_none() {
            let finding = fault(
                FaultKind::Repository,
                "it is there, and its repository has no row",
            );
            findings.push(finding.mend(Mend::Tidy(repository.clone(), Tidy::Repository)));
        }
        let media_type = row::media_type(&manifest.media_type)?;
        let document = match self.registry.document(repository, digest, manifest.clone()).await {
            Ok(document) => document,
            Err(RegistryError::ContentLost { damage, .. }) => {
                let place = match &manifest.body {
                    Some(Body::ObjectKey(key)) => format!("its object {key}"),
                    Some(Body::Inline(_)) | None => "its row".to_owned(),
                };
                let finding = fault(FaultKind::ManifestDocument, &format!("{place} {damage}"));
                findings.push(finding.tagged(self.tags_over(repository, digest).await?));
                return Ok(findings);
            }
            Err(error) => return Err(error),
        };
        // An older release may have taken what this one doesn't understand.
        if let Ok(parsed) = Manifest::parse(Some(&media_type), &document) {
            findings.extend(self.referred_to(repository, digest, parsed).await?);
        }
        Ok(findings)
    }

    /// What a manifest refers to: blobs are held, and rows keep everything from collection.
    async fn referred_to(&self, repository: &RepoName, digest: &Digest, manifest: Manifest) -> Found {
        let mut findings = Vec::new();
        let Manifest {
            blobs,
            optional_blobs,
            children,
            subject,
            ..
        } = manifest;
        let absent = (self.options.may_be_absent)(repository);
        if absent != MayBeAbsent::Everything {
            let links: Vec<_> = blobs
                .iter()
                .map(|blob| keys::link(&blob.digest, repository))
                .collect();
            let links = self.registry.get_all(&links).await?;
            for (blob, link) in blobs.iter().zip(links) {
                if present(link)?.is_some() {
                    continue;
                }
                let said = format!("manifest {digest} refers to it, and the repository doesn't hold it");
                let finding = Finding::new(FaultKind::ManifestLacks, Some(repository), said)
                    .of(&blob.digest)
                    .tagged(self.tags_over(repository, digest).await?);
                findings.push(match self.registry.recorded(&blob.digest).await? {
                    Some(_) => finding.mend(Mend::Hold(repository.clone(), blob.digest.clone())),
                    None => finding,
                });
            }
        }
        if absent == MayBeAbsent::Nothing {
            findings.extend(self.listed_by(repository, digest, &children).await?);
        }
        let references: Vec<_> = blobs
            .iter()
            .chain(&optional_blobs)
            .chain(&children)
            .map(|to| keys::reference(repository, &to.digest, digest))
            .collect();
        let written = self.registry.get_all(&references).await?;
        let missing = written.iter().filter(|row| row.is_none()).count();
        if missing > 0 {
            let said = format!("nothing keeps {missing} of what it refers to from collection");
            let finding = Finding::new(FaultKind::ReferenceMissing, Some(repository), said).of(digest);
            let tidy = Tidy::References(digest.clone());
            findings.push(finding.mend(Mend::Tidy(repository.clone(), tidy)));
        }
        if let Some(subject) = subject.map(|subject| subject.digest) {
            let [listed] = self.rows([keys::referrer(repository, &subject, digest)]).await?;
            if listed.is_none() {
                let said = format!("not listed as a referrer of {subject}");
                findings.push(unlisted(repository, subject, digest, said));
            }
        }
        Ok(findings)
    }

    /// What an index lists, is there, unless nothing needs it: then clients may have deleted it.
    async fn listed_by(&self, repository: &RepoName, index: &Digest, children: &[Descriptor]) -> Found {
        let rows: Vec<_> = children
            .iter()
            .map(|child| keys::manifest(repository, &child.digest))
            .collect();
        let mut findings = Vec::new();
        for (child, found) in children.iter().zip(self.registry.get_all(&rows).await?) {
            if row::live(found.as_ref())?.is_some() {
                continue;
            }
            match self.registry.check_unlisted(repository, &child.digest).await {
                Ok(()) => {}
                Err(RegistryError::Listed { .. }) => {
                    let said = format!("index {index} lists it, and it isn't there");
                    let tags = self.tags_over(repository, index).await?;
                    let finding = Finding::new(FaultKind::ManifestLacks, Some(repository), said);
                    findings.push(finding.of(&child.digest).tagged(tags));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(findings)
    }

    pub(super) async fn tag(&self, repository: &RepoName, tag: &Tag) -> Found {
        let Some(found) = self.registry.meta.get(&keys::tag(repository, tag)).await? else {
            return Ok(Vec::new());
        };
        let digest = row::digest(&row::read::<rows::Tag>(&found)?.digest)?;
        let wanted = [
            keys::tag(repository, tag),
            keys::manifest(repository, &digest),
            keys::tag_of(repository, &digest, tag),
        ];
        let [now, manifest, reverse] = self.rows(wanted).await?;
        // It names something else since.
        if now.is_none_or(|now| now.version != found.version) {
            return Ok(Vec::new());
        }
        let fault = |kind, said: &str| {
            let finding = Finding::new(kind, Some(repository), said);
            finding.of(&digest).tagged([tag.clone()])
        };
        let mut findings = Vec::new();
        if row::live(manifest.as_ref())?.is_none() {
            let said = "it names a manifest that isn't there";
            findings.push(fault(FaultKind::TagDangling, said));
        }
        if reverse.is_none() {
            let tidy = Tidy::TagOf(digest.clone(), tag.clone());
            let finding = fault(FaultKind::TagReverse, "the tag has no reverse");
            findings.push(finding.mend(Mend::Tidy(repository.clone(), tidy)));
        }
        Ok(findings)
    }

    pub(super) async fn tag_of(&self, repository: &RepoName, digest: &Digest, tag: &Tag) -> Found {
        let wanted = [keys::tag_of(repository, digest, tag), keys::tag(repository, tag)];
        let [Some(_), named] = self.rows(wanted).await? else {
            return Ok(Vec::new());
        };
        let named: Option<rows::Tag> = named.as_ref().map(row::read).transpose()?;
        if named.is_some_and(|named| named.digest == digest.as_str()) {
            return Ok(Vec::new());
        }
        let tidy = Tidy::TagOf(digest.clone(), tag.clone());
        let finding = Finding::new(FaultKind::TagReverse, Some(repository), "the tag doesn't name it")
            .of(digest)
            .tagged([tag.clone()]);
        Ok(vec![finding.mend(Mend::Tidy(repository.clone(), tidy))])
    }

    pub(super) async fn reference(&self, repository: &RepoName, child: &Digest, parent: &Digest) -> Found {
        let wanted = [
            keys::reference(repository, child, parent),
            keys::manifest(repository, parent),
        ];
        let [Some(_), None] = self.rows(wanted).await? else {
            return Ok(Vec::new());
        };
        let said = format!("of manifest {parent}, which isn't there");
        let finding = Finding::new(FaultKind::ReferenceLeft, Some(repository), said).of(child);
        let tidy = Tidy::Reference(child.clone(), parent.clone());
        Ok(vec![finding.mend(Mend::Tidy(repository.clone(), tidy))])
    }

    pub(super) async fn referrer(&self, repository: &RepoName, subject: &Digest, digest: &Digest) -> Found {
        let wanted = [
            keys::referrer(repository, subject, digest),
            keys::manifest(repository, digest),
        ];
        let [Some(_), manifest] = self.rows(wanted).await? else {
            return Ok(Vec::new());
        };
        if is_about(manifest.as_ref(), subject)? {
            return Ok(Vec::new());
        }
        let said = format!("listed as a referrer of {subject}, and not there");
        Ok(vec![unlisted(repository, subject.clone(), digest, said)])
    }
}

fn unlisted(repository: &RepoName, subject: Digest, digest: &Digest, said: String) -> Finding {
    let finding = Finding::new(FaultKind::Referrer, Some(repository), said).of(digest);
    let tidy = Tidy::Referrer(subject, digest.clone());
    finding.mend(Mend::Tidy(repository.clone(), tidy))
}

/// Whether it is a manifest that lives and is about `subject`.
pub(in crate::registry::fsck) fn is_about(
    manifest: Option<&crate::storage::Row>,
    subject: &Digest,
) -> Result<bool> {
    Ok(row::live(manifest)?.is_some_and(|manifest| manifest.subject == subject.as_str()))
}
