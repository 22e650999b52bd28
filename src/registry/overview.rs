//! Reads of many rows at once, for who looks around: search, and pages for people.
//!
//! Nothing here changes what the registry holds. Each read is strong and bounded by its caller; a document that is lost or
//! damaged counts as absent, for there are others to show.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, future::BoxFuture, stream};

use super::{
    Blob, Preference, Referrer, Registry, RegistryError, Result,
    preferences::{preference, stars},
    row,
    shelf::present,
};
use crate::{
    oci::{Digest, MediaType, RepoName, Tag},
    storage::{Expect, Key, MAX_OPS, MAX_PAGE, Row, Space, StoreErrorKind, Version, keys, rows},
};

/// Objects that are read at the same time for one caller.
const READS_AHEAD: usize = 16;

/// A tag and what it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tagged {
    /// The tag.
    pub tag: Tag,
    /// What it names.
    pub digest: Digest,
    /// As what.
    pub media_type: MediaType,
    /// Since when, in milliseconds since the Unix epoch.
    pub pushed_ms: u64,
    /// Who pushed; empty for who hadn't logged in.
    pub pushed_by: String,
}

/// A repository's tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overview {
    /// The version of the repository's row under which they were so, if that is known.
    pub version: Option<Version>,
    /// In byte order.
    pub tags: Vec<Tagged>,
    /// There are more than were asked for.
    pub more: bool,
}

/// What refers to a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Referring {
    /// As far as it was looked at, in the order of their digests.
    pub first: Vec<Referrer>,
    /// There may be more.
    pub more: bool,
}

/// A manifest's document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// As what it is served.
    pub media_type: MediaType,
    /// The document.
    pub bytes: Bytes,
}

/// What is asked of manifests and repositories at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// Manifests whose documents are wanted.
    pub documents: &'a [(RepoName, Digest)],
    /// Manifests of which it is asked how often they were pulled, and when.
    pub pulls: &'a [(RepoName, Digest)],
    /// Repositories of which it is asked how often they were.
    pub downloads: &'a [RepoName],
}

/// The answers, each in the order of its question; `None` of what isn't there or never was pulled.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    /// Documents.
    pub documents: Vec<Option<Document>>,
    /// Pulls of manifests, as far as they are written.
    pub pulls: Vec<Option<rows::Pull>>,
    /// Pulls of repositories, as far as they are written.
    pub downloads: Vec<u64>,
}

/// What was found out about a repository, kept beside it. It holds while the repository's row has `version`.
pub type Summary = rows::Summary;

/// What lists say of a repository.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listed {
    /// As it was kept last.
    pub summary: Option<Summary>,
    /// Users who starred it.
    pub stars: u64,
    /// What who asks thinks of it.
    pub preference: Preference,
}

impl Registry {
    /// The versions of the repositories' rows; `None` for one that has no manifest.
    pub async fn versions(&self, repositories: &[RepoName]) -> Result<Vec<Option<Version>>> {
        let rows = self.rows(repositories, keys::repository).await?;
        let version = |found: Option<Row>| match found {
            Some(found) => {
                let repository: rows::Repository = row::read(&found)?;
                Ok((repository.manifests > 0).then_some(found.version))
            }
            None => Ok(None),
        };
        rows.into_iter().map(version).collect()
    }

    /// The repository's tags, at most `most`; `None` if it has no manifest.
    pub async fn overview(&self, repository: &RepoName, most: usize) -> Result<Option<Overview>> {
        let key = keys::repository(repository);
        // A snapshot shows a version only when all of its transaction can be seen: what is read next is at least that new.
        let (found, is_settled) = match self.meta.snapshot(std::slice::from_ref(&key)).await {
            Ok(mut rows) => (rows.pop().flatten(), true),
            Err(error) if error.kind() == StoreErrorKind::Contended => (self.meta.get(&key).await?, false),
            Err(error) => return Err(error.into()),
        };
        let Some(found) = found else { return Ok(None) };
        let row: rows::Repository = row::read(&found)?;
        if row.manifests == 0 {
            return Ok(None);
        }
        let mut overview = Overview {
            version: is_settled.then_some(found.version),
            tags: Vec::new(),
            more: false,
        };
        let mut after: Option<String> = None;
        loop {
            let (space, partition) = (Space::Repositories, repository.as_str());
            let limit = (most + 1 - overview.tags.len()).min(MAX_PAGE);
            let page = self
                .meta
                .range(space, partition, keys::TAGS, after.as_deref(), limit)
                .await?;
            for entry in &page.entries {
                overview
                    .tags
                    .push(tagged(&entry.sort[keys::TAGS.len()..], &entry.row)?);
            }
            after = page.entries.into_iter().next_back().map(|entry| entry.sort);
            overview.more = overview.tags.len() > most;
            if overview.more || !page.more || after.is_none() {
                overview.tags.truncate(most);
                return Ok(Some(overview));
            }
        }
    }

    /// What tags name, and since when, in the order of `wanted`.
    pub async fn named_by(&self, wanted: &[(RepoName, Tag)]) -> Result<Vec<Option<Tagged>>> {
        let rows = self
            .rows(wanted, |(repository, tag)| keys::tag(repository, tag))
            .await?;
        let read = |((_, tag), row): (&(RepoName, Tag), Option<Row>)| match row {
            Some(row) => tagged(tag.as_str(), &row).map(Some),
            None => Ok(None),
        };
        wanted.iter().zip(rows).map(read).collect()
    }

    /// What lists say of the repositories beside their images, in their order: read together, one request for thirty-three. `user` is
    /// who asks, if they have logged in.
    pub async fn listed(&self, repositories: &[RepoName], user: Option<&str>) -> Result<Vec<Listed>> {
        let of = |repository: &RepoName| {
            let preference = user.map(|user| keys::preference(user, repository));
            [
                Some(keys::summary(repository)),
                Some(keys::stars(repository)),
                preference,
            ]
        };
        let keys: Vec<Key> = repositories.iter().flat_map(of).flatten().collect();
        let rows = self.rows(&keys, Key::clone).await?;
        let each = 2 + usize::from(user.is_some());
        let read = |rows: &[Option<Row>]| {
            let row = |n: usize| rows.get(n).and_then(Option::as_ref);
            Ok(Listed {
                summary: row(0).map(row::read).transpose()?,
                stars: stars(row(1))?,
                preference: preference(row(2))?,
            })
        };
        rows.chunks(each).map(read).collect()
    }

    /// Reads together what is asked: a request for a hundred rows, and the bodies of documents.
    ///
    /// # Errors
    /// The stores'.
    pub async fn told(&self, asked: Asked<'_>) -> Result<Told> {
        let documents = asked.documents.iter();
        let documents = documents.map(|(repository, digest)| keys::manifest(repository, digest));
        let pulls = asked.pulls.iter();
        let pulls = pulls.map(|(repository, digest)| keys::pull(repository, digest));
        let downloads = asked.downloads.iter().map(keys::downloads);
        let keys: Vec<Key> = documents.chain(pulls).chain(downloads).collect();
        let mut found = self.rows(&keys, Key::clone).await?;
        let downloads = found.split_off(asked.documents.len() + asked.pulls.len());
        let pulls = found.split_off(asked.documents.len());
        let reads = asked.documents.iter().zip(found);
        let reads =
            reads.map(|((repository, digest), row)| self.one_document(repository, digest, row).boxed());
        let pull = |found: &Option<Row>| found.as_ref().map(row::read).transpose();
        let count = |found: &Option<Row>| -> Result<u64> {
            let row: Option<rows::Downloads> = found.as_ref().map(row::read).transpose()?;
            Ok(row.map_or(0, |row| row.pulls))
        };
        Ok(Told {
            documents: some_at_a_time(reads.collect()).await?,
            pulls: pulls.iter().map(pull).collect::<Result<_>>()?,
            downloads: downloads.iter().map(count).collect::<Result<_>>()?,
        })
    }

    async fn one_document(
        &self,
        repository: &RepoName,
        digest: &Digest,
        row: Option<Row>,
    ) -> Result<Option<Document>> {
        let Some(manifest) = row::live(row.as_ref())? else {
            return Ok(None);
        };
        let media_type = row::media_type(&manifest.media_type)?;
        let bytes = unless_lost(self.document(repository, digest, manifest).await)?;
        Ok(bytes.map(|bytes| Document { media_type, bytes }))
    }

    /// Blobs of at most `longest` bytes, such as configurations, in the order of `wanted`.
    pub async fn small_blobs(
        &self,
        wanted: &[(RepoName, Digest)],
        longest: u64,
    ) -> Result<Vec<Option<Bytes>>> {
        let rows = self
            .rows(wanted, |(repository, digest)| keys::link(digest, repository))
            .await?;
        let reads = wanted.iter().zip(rows);
        let reads = reads.map(|((_, digest), row)| self.one_blob(digest, row, longest).boxed());
        some_at_a_time(reads.collect()).await
    }

    async fn one_blob(&self, digest: &Digest, row: Option<Row>, longest: u64) -> Result<Option<Bytes>> {
        let Some(row) = present(row)? else { return Ok(None) };
        let blob = Blob::linked(digest, &row::read(&row)?)?;
        match blob.size {
            0 => Ok(Some(Bytes::new())),
            size if size > longest => Ok(None),
            _ => unless_lost(self.all_of(&blob).await),
        }
    }

    /// The referrers of each of the repository's manifests, by subject, in the order of their digests: the first `most`, and
    /// whether there are more, be it of the last subject or of those after it. Annotations that are too long for the row are left
    /// out.
    pub async fn all_referrers(
        &self,
        repository: &RepoName,
        most: usize,
    ) -> Result<(BTreeMap<Digest, Referring>, bool)> {
        let mut found: BTreeMap<Digest, Referring> = BTreeMap::new();
        let read = |subject, referrer| found.entry(subject).or_default().first.push(referrer);
        let more = self
            .each_referrer(repository, keys::REFERRERS, most, read)
            .await?;
        if let Some(mut last) = found.last_entry() {
            last.get_mut().more = more;
        }
        Ok((found, more))
    }

    /// The same of one manifest.
    pub async fn referring_to(
        &self,
        repository: &RepoName,
        subject: &Digest,
        most: usize,
    ) -> Result<Referring> {
        let (mut first, prefix) = (Vec::new(), keys::referrers_of(subject));
        let read = |_, referrer| first.push(referrer);
        let more = self.each_referrer(repository, &prefix, most, read).await?;
        Ok(Referring { first, more })
    }

    /// The tools whose signatures are among the first `most` referrers of a manifest.
    pub async fn signed_by(
        &self,
        repository: &RepoName,
        subject: &Digest,
        most: usize,
    ) -> Result<BTreeSet<&'static str>> {
        let (mut tools, prefix) = (BTreeSet::new(), keys::referrers_of(subject));
        let read = |_, referrer: Referrer| tools.extend(referrer.signing_tool());
        self.each_referrer(repository, &prefix, most, read).await?;
        Ok(tools)
    }

    /// Has the first `most` referrers with this prefix `read`, each with its subject, and says whether there are more.
    async fn each_referrer(
        &self,
        repository: &RepoName,
        prefix: &str,
        most: usize,
        mut read: impl FnMut(Digest, Referrer) + Send,
    ) -> Result<bool> {
        let (mut count, mut after) = (0, None::<String>);
        loop {
            let (space, partition) = (Space::Manifests, repository.as_str());
            let limit = (most + 1 - count).min(MAX_PAGE);
            let page = self
                .meta
                .range(space, partition, prefix, after.as_deref(), limit)
                .await?;
            for entry in &page.entries {
                if count == most {
                    return Ok(true);
                }
                let Some((subject, digest)) = entry.sort[keys::REFERRERS.len()..].split_once('#') else {
                    return Err(row::corrupt("read a referrer", "malformed key"));
                };
                let referrer = Referrer::listed(row::digest(digest)?, row::read(&entry.row)?)?;
                read(row::digest(subject)?, referrer);
                count += 1;
            }
            after = page.entries.into_iter().next_back().map(|entry| entry.sort);
            if !page.more || after.is_none() {
                return Ok(false);
            }
        }
    }

    /// Repositories that hold the blob, in byte order: the first `most`, and whether there are more.
    pub async fn holders(&self, digest: &Digest, most: usize) -> Result<(Vec<RepoName>, bool)> {
        let (names, more) = self.sorts(Space::Links, digest.as_str(), "", most).await?;
        // Keys of repositories are names.
        let names = names
            .iter()
            .filter_map(|name| RepoName::parse(name).ok())
            .collect();
        Ok((names, more))
    }

    /// Manifests of the repository that reference a blob or a manifest, whether or not they are still there: the first `most`.
    pub async fn parents(&self, repository: &RepoName, child: &Digest, most: usize) -> Result<Vec<Digest>> {
        let prefix = keys::references_to(child);
        let (found, _) = self
            .sorts(Space::Manifests, repository.as_str(), &prefix, most)
            .await?;
        found.iter().map(|digest| row::digest(digest)).collect()
    }

    /// Tags of the repository that name the manifest: the first `most`.
    pub async fn tags_of(&self, repository: &RepoName, digest: &Digest, most: usize) -> Result<Vec<Tag>> {
        let prefix = keys::tags_of(digest);
        let (found, _) = self
            .sorts(Space::Repositories, repository.as_str(), &prefix, most)
            .await?;
        let parse = |tag: &String| Tag::parse(tag).map_err(|error| row::corrupt("read a tag", error));
        found.iter().map(parse).collect()
    }

    /// Those of the repositories that have a manifest of this digest.
    pub async fn with_manifest(&self, repositories: &[RepoName], digest: &Digest) -> Result<Vec<RepoName>> {
        let rows = self
            .rows(repositories, |repository| keys::manifest(repository, digest))
            .await?;
        let mut found = Vec::new();
        for (repository, row) in repositories.iter().zip(rows) {
            if row::live(row.as_ref())?.is_some() {
                found.push(repository.clone());
            }
        }
        Ok(found)
    }

    /// What was found out about the repositories, as it was kept last.
    pub async fn summaries(&self, repositories: &[RepoName]) -> Result<Vec<Option<Summary>>> {
        let rows = self.rows(repositories, keys::summary).await?;
        rows.iter()
            .map(|found| found.as_ref().map(row::read).transpose())
            .collect()
    }

    /// Keeps what was found out; of a repository that is gone (`None`), nothing. Whoever finds out the same writes the same; a late
    /// one is seen by its version.
    pub async fn keep_summaries(&self, found: &[(RepoName, Option<Summary>)]) -> Result<()> {
        for some in found.chunks(MAX_OPS) {
            let kept = some.iter().map(|(repository, summary)| {
                let key = keys::summary(repository);
                match summary {
                    Some(summary) => key.put(Expect::Any, row::bytes(summary)),
                    None => key.delete(Expect::Any),
                }
            });
            let ops: Vec<_> = kept.collect();
            // It is found out again if that didn't come to be.
            self.meta.transact(Version::random(), &ops).await?;
        }
        Ok(())
    }

    /// The rows at the keys of `wanted`, each distinct key read once.
    pub(super) async fn rows<T>(&self, wanted: &[T], key: impl Fn(&T) -> Key) -> Result<Vec<Option<Row>>> {
        let all: Vec<Key> = wanted.iter().map(key).collect();
        let mut seen = HashSet::new();
        let distinct: Vec<Key> = all.iter().filter(|key| seen.insert(*key)).cloned().collect();
        let read = |keys| async move { Ok(self.meta.get_many(keys).await?) };
        let reads = distinct.chunks(MAX_OPS).map(|keys| read(keys).boxed());
        let found = some_at_a_time(reads.collect()).await?;
        let by_key: BTreeMap<&Key, Option<Row>> = distinct.iter().zip(found.into_iter().flatten()).collect();
        Ok(all.iter().map(|key| by_key.get(key).cloned().flatten()).collect())
    }

    /// What stands after `prefix` in the first `most` sort keys of a partition, and whether there are more.
    async fn sorts(
        &self,
        space: Space,
        partition: &str,
        prefix: &str,
        most: usize,
    ) -> Result<(Vec<String>, bool)> {
        let (mut found, mut after) = (Vec::new(), None::<String>);
        loop {
            let limit = (most + 1 - found.len()).min(MAX_PAGE);
            let page = self
                .meta
                .range(space, partition, prefix, after.as_deref(), limit)
                .await?;
            let rest = |entry: &crate::storage::Entry| entry.sort[prefix.len()..].to_owned();
            found.extend(page.entries.iter().map(rest));
            after = page.entries.into_iter().next_back().map(|entry| entry.sort);
            if found.len() > most {
                found.truncate(most);
                return Ok((found, true));
            }
            if !page.more || after.is_none() {
                return Ok((found, false));
            }
        }
    }
}

async fn some_at_a_time<T: Send>(reads: Vec<BoxFuture<'_, Result<T>>>) -> Result<Vec<T>> {
    stream::iter(reads).buffered(READS_AHEAD).try_collect().await
}

fn unless_lost<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(RegistryError::ContentLost { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn tagged(tag: &str, found: &Row) -> Result<Tagged> {
    let row: rows::Tag = row::read(found)?;
    Ok(Tagged {
        tag: Tag::parse(tag).map_err(|error| row::corrupt("read a tag", error))?,
        digest: row::digest(&row.digest)?,
        media_type: row::media_type(&row.media_type)?,
        pushed_ms: row.pushed_ms,
        pushed_by: row.pushed_by,
    })
}
