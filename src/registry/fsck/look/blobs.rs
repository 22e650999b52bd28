//! Blobs: their records, their links, and their objects.

use super::{Found, Look, NAMED};
use crate::{
    clock,
    oci::{Digest, RepoName},
    registry::{
        Damage, Result,
        due::in_repository,
        fsck::{
            FaultKind,
            finding::{Finding, Mend, Tidy},
        },
        links::{record, recorded},
        objects::{Throttle, Written},
        references::{User, user_of},
        row,
    },
    storage::{
        Expect, Row, Space, keys, rows,
        rows::{BlobState, DueKind},
    },
};

impl Look<'_> {
    pub(super) async fn link(&self, repository: &RepoName, digest: &Digest) -> Found {
        let key = keys::link(digest, repository);
        let wanted = [
            key.clone(),
            keys::blob(digest),
            keys::linked_blob(repository, digest),
        ];
        let [Some(found), recorded_as, reverse] = self.rows(wanted).await? else {
            return Ok(Vec::new());
        };
        let link: rows::Link = row::read_to_rewrite(&found)?;
        let unchanged = || key.clone().check(Expect::Version(found.version));
        let fault = |kind, said: &str| Finding::new(kind, Some(repository), said).of(digest);
        let mut findings = Vec::new();
        findings.extend(
            self.against_record(repository, digest, (&found, &link), recorded_as)
                .await?,
        );
        if reverse.is_none() {
            let row = rows::LinkedBlob {
                min_reader: rows::SCHEMA,
                linked_ms: link.armed_ms,
                size: link.size,
            };
            let put = keys::linked_blob(repository, digest).put(Expect::Absent, row::bytes(&row));
            let finding = fault(FaultKind::LinkReverse, "the link has no reverse");
            findings.push(finding.mend(Mend::Ops(vec![unchanged(), put])));
        }
        if let User::Nobody { .. } = user_of(&*self.registry.meta, repository, digest).await? {
            let said = "no manifest uses it, and nothing looks at it";
            findings.push(
                fault(FaultKind::Uncollected, said)
                    .unless_due(DueKind::Link, in_repository(repository, digest))
                    .mend(Mend::Tidy(repository.clone(), Tidy::Unused(digest.clone()))),
            );
        }
        Ok(findings)
    }

    /// What is wrong with a link beside the record of its blob.
    async fn against_record(
        &self,
        repository: &RepoName,
        digest: &Digest,
        (found, link): (&Row, &rows::Link),
        recorded_as: Option<Row>,
    ) -> Result<Option<Finding>> {
        let unchanged = keys::link(digest, repository).check(Expect::Version(found.version));
        let fault = |kind, said: String| Finding::new(kind, Some(repository), said).of(digest);
        let linked = Written {
            key: row::object_key(&link.object_key)?,
            size: link.size,
            etag: link.etag.clone(),
        };
        let Some(found) = recorded_as else {
            let said = format!("its object is {}", linked.key);
            let finding = fault(FaultKind::LinkWithoutRecord, said);
            return Ok(Some(match self.damage(&linked, digest).await? {
                None => {
                    let put = keys::blob(digest).put(Expect::Absent, row::bytes(&record(&linked)));
                    finding.mend(Mend::Ops(vec![put, unchanged]))
                }
                Some(_) => finding,
            }));
        };
        let record = recorded(&row::read(&found)?)?;
        if record.key == linked.key {
            return Ok(None);
        }
        let said = format!("{}, where the record names {}", linked.key, record.key);
        let due = self.registry.dues.relink(clock::now_ms(), digest, &linked.key);
        let finding = fault(FaultKind::LinkElsewhere, said)
            .unless_due(DueKind::Relink, format!("{digest}#{}", linked.key));
        // Whoever relinks gives the link's object up: not for one that isn't whole.
        Ok(Some(match self.damage(&record, digest).await? {
            None => {
                let ops = vec![
                    unchanged,
                    keys::blob(digest).check(Expect::Version(found.version)),
                    due,
                ];
                finding.mend(Mend::Ops(ops))
            }
            Some(_) => finding,
        }))
    }

    pub(super) async fn record(&self, digest: &Digest) -> Found {
        let key = keys::blob(digest);
        let [Some(found)] = self.rows([key.clone()]).await? else {
            return Ok(Vec::new());
        };
        let record: rows::Blob = row::read_to_rewrite(&found)?;
        let meta = &self.registry.meta;
        let links = meta
            .range(Space::Links, digest.as_str(), "", None, NAMED)
            .await?
            .entries;
        let mut findings = Vec::new();
        if links.is_empty() || record.state() == BlobState::Condemned {
            let said = match links.is_empty() {
                true => "no repository holds it, and nothing collects it",
                false => "it is condemned, and nothing revives or collects it",
            };
            let due = self.registry.dues.digest(clock::now_ms(), digest);
            let ops = vec![key.check(Expect::Version(found.version)), due];
            findings.push(
                Finding::new(FaultKind::Uncollected, None, said)
                    .of(digest)
                    .unless_due(DueKind::Digest, digest.as_str())
                    .mend(Mend::Ops(ops)),
            );
        }
        if links.is_empty() {
            return Ok(findings);
        }
        let object = recorded(&record)?;
        if let Some(damage) = self.damage(&object, digest).await? {
            let said = format!("its object {} {damage}", object.key);
            let mut finding = Finding::new(FaultKind::BlobObject, None, said).of(digest);
            for link in links {
                if let Ok(repository) = RepoName::parse(&link.sort) {
                    finding = finding.tagged(self.tags_over(&repository, digest).await?);
                }
                finding.fault.repositories.push(link.sort);
            }
            finding.fault.tags.sort_unstable();
            finding.fault.tags.dedup();
            finding.fault.tags.truncate(NAMED);
            findings.push(finding);
        }
        Ok(findings)
    }

    /// What is wrong with the object. One with another ETag is read and hashed: a bucket that was copied has others.
    async fn damage(&self, object: &Written, digest: &Digest) -> Result<Option<Damage>> {
        let damage = match self.registry.blobs.head(&object.key).await {
            Ok(there) => object.damage(there.as_ref()),
            Err(error) => Some(Damage::of(&error).ok_or(error)?),
        };
        match damage {
            Some(Damage::Replaced) => {
                let read = self
                    .registry
                    .rehash(object, digest, &Throttle::unbounded())
                    .await?;
                Ok(read.err())
            }
            damage => Ok(damage),
        }
    }

    pub(super) async fn reverse(&self, repository: &RepoName, digest: &Digest) -> Found {
        let link = keys::link(digest, repository);
        let reverse = keys::linked_blob(repository, digest);
        let [None, Some(found)] = self.rows([link.clone(), reverse.clone()]).await? else {
            return Ok(Vec::new());
        };
        let ops = vec![
            link.check(Expect::Absent),
            reverse.delete(Expect::Version(found.version)),
        ];
        let said = "the reverse of a link that isn't there";
        let finding = Finding::new(FaultKind::LinkReverse, Some(repository), said).of(digest);
        Ok(vec![finding.mend(Mend::Ops(ops))])
    }
}
