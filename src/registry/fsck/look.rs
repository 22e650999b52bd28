//! A look at what one row is about: everything that has to agree with it is read, strongly.

mod blobs;
mod names;

pub(super) use self::names::is_about;
use super::{
    FaultKind, FsckOptions,
    finding::{Finding, Mend, Tidy},
};
use crate::{
    causes, clock,
    oci::{Digest, RepoName, Tag, UploadId},
    registry::{Registry, RegistryError, Result, pages::Pages, quota, row},
    storage::{Expect, Key, MAX_PAGE, Row, Space, StoreErrorKind, keys, keys::Subject, rows, rows::DueKind},
};

/// Repositories, and tags, that are named of one blob.
pub(super) const NAMED: usize = 20;

/// What is found of one row.
type Found = Result<Vec<Finding>>;

/// How closely is looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// Rows of different moments may seem to disagree.
    Cheap,
    /// Rows are read at one moment.
    Sharp,
}

/// Who looks.
#[derive(Clone, Copy)]
pub(super) struct Look<'a> {
    pub(super) registry: &'a Registry,
    pub(super) options: &'a FsckOptions<'a>,
    pub(super) sight: Sight,
}

impl Look<'_> {
    /// What is wrong with what `subject` is about. What a newer release wrote is left to that.
    pub(super) async fn at(&self, subject: &Subject) -> Found {
        let found = match subject {
            Subject::Link(repository, digest) => self.link(repository, digest).await,
            Subject::Blob(digest) => self.record(digest).await,
            Subject::LinkedBlob(repository, digest) => self.reverse(repository, digest).await,
            Subject::Tag(repository, tag) => self.tag(repository, tag).await,
            Subject::TagOf(repository, digest, tag) => self.tag_of(repository, digest, tag).await,
            Subject::Manifest(repository, digest) => self.manifest(repository, digest).await,
            Subject::Reference(repository, child, parent) => self.reference(repository, child, parent).await,
            Subject::Referrer(repository, about, digest) => self.referrer(repository, about, digest).await,
            Subject::Catalogued(repository) => self.catalogued(repository).await,
            Subject::Repository(repository) => self.repository(repository).await,
            Subject::Session(id) => self.session(id).await,
            // Summed up by itself.
            Subject::Usage(prefix, shard) => self.usage(prefix, *shard).await,
        };
        match found {
            Err(RegistryError::NewerSchema { .. }) => Ok(Vec::new()),
            Err(RegistryError::Store(error)) if error.kind() == StoreErrorKind::Corrupt => {
                let said = format!("{subject:?}: {}", causes::in_a_line(&error));
                Ok(vec![Finding::new(FaultKind::RowUnreadable, None, said)])
            }
            found => found,
        }
    }

    /// These rows, at one moment if that is asked for and to be had.
    async fn rows<const N: usize>(&self, keys: [Key; N]) -> Result<[Option<Row>; N]> {
        let meta = &self.registry.meta;
        let found = match self.sight {
            Sight::Cheap => meta.get_many(&keys).await?,
            Sight::Sharp => match meta.snapshot(&keys).await {
                Err(error) if error.kind() == StoreErrorKind::Contended => meta.get_many(&keys).await?,
                found => found?,
            },
        };
        let others = |_| row::corrupt("look at rows", "not those that were asked for");
        found.try_into().map_err(others)
    }

    /// Tags that lead to the digest, some of them.
    async fn tags_over(&self, repository: &RepoName, digest: &Digest) -> Result<Vec<Tag>> {
        self.registry.tags_over(repository, digest, NAMED).await
    }

    async fn catalogued(&self, repository: &RepoName) -> Found {
        let keys = [keys::catalog_entry(repository), keys::repository(repository)];
        let [Some(_), found] = self.rows(keys).await? else {
            return Ok(Vec::new());
        };
        let row: Option<rows::Repository> = found.as_ref().map(row::read).transpose()?;
        if row.is_some_and(|row| row.manifests > 0) {
            return Ok(Vec::new());
        }
        let said = "it is in the catalogue, and its row says that it isn't there";
        Ok(vec![
            Finding::new(FaultKind::Repository, Some(repository), said)
                .mend(Mend::Tidy(repository.clone(), Tidy::Repository)),
        ])
    }

    async fn repository(&self, repository: &RepoName) -> Found {
        let key = keys::repository(repository);
        let wanted = [key.clone(), keys::catalog_entry(repository)];
        let [Some(found), entry] = self.rows(wanted).await? else {
            return Ok(Vec::new());
        };
        let row: rows::Repository = row::read_to_rewrite(&found)?;
        let counted = self.registry.count_manifests(repository).await?;
        let exists = row.manifests > 0;
        let tidy = || Mend::Tidy(repository.clone(), Tidy::Repository);
        let fault = |said: String| Finding::new(FaultKind::Repository, Some(repository), said).mend(tidy());
        let mut findings = Vec::new();
        if exists && entry.is_none() {
            findings.push(fault("it isn't in the catalogue".to_owned()));
        }
        // Every change of the number replaces the row, so one that is the same had this number all the while.
        let [now] = self.rows([key.clone()]).await?;
        let is_same = now.is_some_and(|now| now.version == found.version);
        if is_same && counted != row.manifests {
            let said = format!(
                "its row says {} manifests, and there are {counted}",
                row.manifests
            );
            findings.push(fault(said));
        }
        if !exists && counted == 0 {
            let due = self.registry.dues.tombstone(row.ends_ms, repository);
            let ops = vec![key.check(Expect::Version(found.version)), due];
            let said = "it is deleted, and nothing removes its row";
            findings.push(
                Finding::new(FaultKind::Unremoved, Some(repository), said)
                    .unless_due(DueKind::Tombstone, repository.as_str())
                    .mend(Mend::Ops(ops)),
            );
        }
        Ok(findings)
    }

    /// Whether it can be read, that is.
    async fn usage(&self, prefix: &RepoName, shard: u32) -> Found {
        let found = self.registry.meta.get(&keys::usage(prefix, shard)).await?;
        quota::Share::read(found.as_ref())?;
        Ok(Vec::new())
    }

    async fn session(&self, id: &UploadId) -> Found {
        let key = keys::session(id);
        let [Some(found)] = self.rows([key.clone()]).await? else {
            return Ok(Vec::new());
        };
        let session: rows::Session = row::read_to_rewrite(&found)?;
        let at_ms = session.expires_ms.max(clock::now_ms());
        let due = self.registry.dues.session(at_ms, id);
        let ops = vec![key.check(Expect::Version(found.version)), due];
        let said = format!("nothing ends the upload {id}");
        let mut finding = Finding::new(FaultKind::Unremoved, None, said)
            .unless_due(DueKind::Session, id.as_str())
            .mend(Mend::Ops(ops));
        finding.fault.repositories.push(session.repository);
        Ok(vec![finding])
    }
}

impl Registry {
    /// How many manifests of the repository live.
    pub(super) async fn count_manifests(&self, repository: &RepoName) -> Result<u64> {
        let mut manifests = Pages::of(Space::Manifests, repository.as_str(), keys::MANIFESTS, MAX_PAGE);
        let mut count = 0;
        while let Some(page) = manifests.next(&*self.meta).await? {
            for entry in &page {
                count += u64::from(row::live(Some(&entry.row))?.is_some());
            }
        }
        Ok(count)
    }
}
