//! `scrub`: whether what is stored still has its digest. Every blob that a repository holds and every manifest is read and hashed.
//!
//! Work is in parts, by the partition of the repository's name ([`keys::CHANGE_PARTITIONS`]), and a part goes in strides: how far
//! one has come is a row ([`ScrubPlace`]), so whoever goes on, another member or a later start, goes on from there. A blob is read
//! in the first of the repositories in the catalogue that hold it, so once for all of them. Two at one part read a stride twice; the
//! row's version keeps one of them.
//!
//! What is found is told ([`Damaged`]) and mended by a push of the content (rule G5). Wrong bytes can't be seen from outside, so
//! that they are is noted where the object is named ([`marks`]): then nobody takes it for whole. Neither can right ones under another
//! ETag, as in a bucket that was copied: that is noted, too. Nothing is deleted.
//!
//! Absent on purpose: when, how fast and by whom (`maintenance`), and what is only kept to be brought back, or that no image came
//! for yet.

#[cfg(test)]
mod copied;
mod marks;
mod place;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, fmt, time::Duration};

use serde::{Serialize, Serializer};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::place::named;
pub use self::place::{ScrubPlace, ScrubSums};
use super::{
    Damage, Registry, RegistryError, Result,
    links::recorded,
    manifests::written,
    objects::{SUSPECT, Throttle},
    pages::Pages,
    row,
    shelf::is_shelved,
};
use crate::{
    clock,
    oci::{Digest, Page, RepoName, Tag},
    storage::{Entry, Row, Space, keys},
};

/// Rows of one read.
const PAGE: usize = 100;
/// Repositories, and tags, that are named of one blob.
const NAMED: usize = 20;
/// A row that is looked at costs as much time as so many bytes, whether anything is read by it or not.
const ROW: u64 = 32 << 10;
/// What can't be read is passed over, for that may be its own fault. So many in a row are the store's, and end the stride before the
/// last of them.
const UNREAD: u32 = 3;

/// What is looked at of each repository, in the order of the sort keys: the reverses of links, and manifests.
const LOOKED_AT: [(Space, &str); 2] = [
    (Space::Repositories, keys::LINKED_BLOBS),
    (Space::Manifests, keys::MANIFESTS),
];

/// How a part is gone through.
#[derive(Clone, Copy)]
pub struct Scrub<'a> {
    /// How fast content is read.
    pub throttle: &'a Throttle,
    /// After which time it is written down how far it is, and so the longest that is read in vain, but for one blob.
    pub stride: Duration,
    /// Ends it, wherever it is.
    pub end: &'a CancellationToken,
    /// Hears of everything that was looked at.
    pub tell: &'a (dyn Fn(ScrubNews<'_>) + Send + Sync),
}

/// What came of something.
#[derive(Debug)]
pub enum ScrubNews<'a> {
    /// So many bytes have their digest.
    Whole(u64),
    /// This isn't what was pushed; so many bytes are there.
    Damaged(&'a Damaged, u64),
    /// It couldn't be read in this repository, and was passed over.
    Unread(&'a RepoName, &'a Digest, &'a RegistryError),
    /// A repository is done.
    Repository,
}

/// Something that isn't what was pushed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damaged {
    /// What was pushed.
    #[serde(serialize_with = "as_text")]
    pub digest: Digest,
    /// What is wrong with it.
    #[serde(serialize_with = "as_text")]
    pub damage: Damage,
    /// The repositories that hold it, some of them.
    #[serde(serialize_with = "as_texts")]
    pub repositories: Vec<RepoName>,
    /// Tags there that lead to it, likewise.
    #[serde(serialize_with = "as_texts")]
    pub tags: Vec<Tag>,
}

impl Damaged {
    /// The names of the repositories, and of the tags, with this between them.
    #[must_use]
    pub fn names(&self, between: &str) -> [String; 2] {
        let repositories: Vec<_> = self.repositories.iter().map(RepoName::as_str).collect();
        let tags: Vec<_> = self.tags.iter().map(Tag::as_str).collect();
        [repositories.join(between), tags.join(between)]
    }
}

fn as_text<S: Serializer>(what: &impl fmt::Display, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_str(what)
}

fn as_texts<S: Serializer>(all: &[impl fmt::Display], serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_seq(all.iter().map(ToString::to_string))
}

/// What was read by a row.
struct Read {
    bytes: u64,
    damaged: Option<Damaged>,
    /// Whether the blob store gave it.
    is_object: bool,
}

impl Scrub<'_> {
    fn tell(&self, read: &Read) {
        (self.tell)(match &read.damaged {
            Some(damaged) => ScrubNews::Damaged(damaged, read.bytes),
            None => ScrubNews::Whole(read.bytes),
        });
    }
}

impl Registry {
    /// Goes on with a round for a stride, and writes down how far it is. Where others came further meanwhile, theirs counts.
    ///
    /// # Errors
    /// A store that fails. Asked for again, it goes on from there.
    pub async fn scrub(&self, place: &mut ScrubPlace, scrub: Scrub<'_>) -> Result<()> {
        let walked = self.walk(place, &scrub, Instant::now() + scrub.stride).await;
        let saved = self.save(place).await;
        walked.and(saved)
    }

    /// Looks again at what was found to be damaged so far, and tells what still is. Of what can't be read that isn't known.
    ///
    /// # Errors
    /// A place that isn't what any release writes.
    pub async fn scrub_again(&self, place: &mut ScrubPlace, scrub: Scrub<'_>) -> Result<()> {
        let mut still = Vec::new();
        for at in place.row.named.clone() {
            let (repository, prefix, digest) = named(&at)?;
            let again = self.read_again(&repository, prefix, &digest, &scrub);
            match scrub.end.run_until_cancelled(again).await {
                None => return Ok(()),
                Some(Ok(Some(read))) if read.damaged.is_some() => {
                    scrub.tell(&read);
                    still.push(at);
                }
                Some(Ok(_)) => place.row.damaged = place.row.damaged.saturating_sub(1),
                Some(Err(error)) => {
                    (scrub.tell)(ScrubNews::Unread(&repository, &digest, &error));
                    still.push(at);
                }
            }
        }
        place.row.named = still;
        Ok(())
    }

    async fn read_again(
        &self,
        repository: &RepoName,
        prefix: &str,
        digest: &Digest,
        scrub: &Scrub<'_>,
    ) -> Result<Option<Read>> {
        if prefix != keys::MANIFESTS {
            return self.read_blob(digest, scrub).await;
        }
        let found = self.meta.get(&keys::manifest(repository, digest)).await?;
        self.read_manifest(repository, digest, found.as_ref(), scrub)
            .await
    }

    async fn walk(&self, place: &mut ScrubPlace, scrub: &Scrub<'_>, until: Instant) -> Result<()> {
        if let Ok(repository) = RepoName::parse(&place.row.repository)
            && !self.scrub_repository(&repository, place, scrub, until).await?
        {
            return Ok(());
        }
        let mut page = Page {
            last: Some(place.row.repository.clone()).filter(|name| !name.is_empty()),
            ..Page::default()
        };
        loop {
            let names = self.catalog(&page).await?;
            page.last = names.names.last().cloned();
            for name in names.names {
                let repository = RepoName::parse(&name).ok();
                let of_part = |name: &RepoName| keys::change_partition(name) == place.part();
                let Some(repository) = repository.filter(of_part) else {
                    continue;
                };
                (place.row.repository, place.row.after) = (name, String::new());
                if !self.scrub_repository(&repository, place, scrub, until).await? {
                    return Ok(());
                }
            }
            if !names.more || page.last.is_none() {
                (place.row.repository, place.row.after) = (String::new(), String::new());
                place.row.ended_ms = clock::now_ms();
                return Ok(());
            }
        }
    }

    /// Goes on in a repository. Gives whether that is done, and not only the stride.
    async fn scrub_repository(
        &self,
        repository: &RepoName,
        place: &mut ScrubPlace,
        scrub: &Scrub<'_>,
        until: Instant,
    ) -> Result<bool> {
        for (space, prefix) in LOOKED_AT {
            loop {
                let after = place.row.after.as_str();
                let is_here = after.starts_with(prefix);
                if after >= prefix && !is_here {
                    break;
                }
                let after = Some(after).filter(|_| is_here);
                let page = self
                    .meta
                    .range(space, repository.as_str(), prefix, after, PAGE)
                    .await?;
                let is_last = !page.more || page.entries.is_empty();
                for entry in page.entries {
                    if !self.step(repository, prefix, entry, place, scrub).await? || Instant::now() >= until {
                        return Ok(false);
                    }
                }
                if is_last {
                    break;
                }
            }
        }
        place.row.repositories += 1;
        (scrub.tell)(ScrubNews::Repository);
        Ok(true)
    }

    /// Looks at what a row is about. Gives whether it may go on.
    async fn step(
        &self,
        repository: &RepoName,
        prefix: &str,
        Entry { sort, row: found }: Entry,
        place: &mut ScrubPlace,
        scrub: &Scrub<'_>,
    ) -> Result<bool> {
        let Ok(digest) = row::digest(&sort[prefix.len()..]) else {
            // No release writes such a row: `fsck` tells.
            place.row.after = sort;
            return Ok(true);
        };
        let look = async {
            scrub.throttle.take(ROW).await;
            if prefix == keys::MANIFESTS {
                return self.read_manifest(repository, &digest, Some(&found), scrub).await;
            }
            match self.is_read_in(repository, &digest).await? {
                true => self.read_blob(&digest, scrub).await,
                false => Ok(None),
            }
        };
        let Some(read) = scrub.end.run_until_cancelled(look).await else {
            return Ok(false);
        };
        match read {
            Ok(Some(read)) => {
                scrub.tell(&read);
                place.note(&sort, &read);
            }
            Ok(None) => {}
            Err(error) => {
                place.row.failures += 1;
                if place.row.failures == UNREAD {
                    place.row.failures = 0;
                    return Err(error);
                }
                (scrub.tell)(ScrubNews::Unread(repository, &digest, &error));
                place.row.unread += 1;
            }
        }
        place.row.after = sort;
        Ok(true)
    }

    /// Reads the object of a blob, unless nobody holds it.
    async fn read_blob(&self, digest: &Digest, scrub: &Scrub<'_>) -> Result<Option<Read>> {
        let Some(found) = self.meta.get(&keys::blob(digest)).await? else {
            return Ok(None);
        };
        let object = recorded(&row::read(&found)?)?;
        let read = |bytes, damaged| Read {
            bytes,
            damaged,
            is_object: true,
        };
        let damage = match self.rehash(&object, digest, scrub.throttle).await? {
            Ok(now) => {
                if object.damage(Some(&now)).is_some() {
                    self.mark_blob(digest, &found, &now.etag).await?;
                }
                return Ok(Some(read(object.size, None)));
            }
            Err(damage) => damage,
        };
        // It may have gone meanwhile, or have been pushed again. While this object is the record's, who holds the blob relies on it.
        let repositories = self.first_holders(digest).await?;
        let now = self.recorded(digest).await?;
        if repositories.is_empty() || now.is_none_or(|now| now.key != object.key) {
            return Ok(None);
        }
        if damage == Damage::Bytes && !object.is_suspect() {
            let marked = self.mark_blob(digest, &found, SUSPECT).await;
            tell_unmarked(digest, marked);
        }
        let damaged = self.damaged(digest, damage, repositories).await?;
        Ok(Some(read(there(damage, object.size), Some(damaged))))
    }

    /// Reads the document of a manifest, unless it is deleted.
    async fn read_manifest(
        &self,
        repository: &RepoName,
        digest: &Digest,
        found: Option<&Row>,
        scrub: &Scrub<'_>,
    ) -> Result<Option<Read>> {
        let Some(manifest) = row::live(found)? else {
            return Ok(None);
        };
        let (size, object) = (manifest.size, written(&manifest)?);
        let is_object = object.is_some();
        let read = |bytes, damaged| Read {
            bytes,
            damaged,
            is_object,
        };
        let damage = match &object {
            Some(object) => match self.rehash(object, digest, scrub.throttle).await? {
                Ok(now) => {
                    if object.damage(Some(&now)).is_some() {
                        self.mark_manifest(repository, digest, &object.key, &now.etag)
                            .await?;
                    }
                    return Ok(Some(read(size, None)));
                }
                Err(damage) => damage,
            },
            // Who pushes it compares it.
            None => {
                scrub.throttle.take(size).await;
                match self.document(repository, digest, manifest.clone()).await {
                    Ok(_) => return Ok(Some(read(size, None))),
                    Err(RegistryError::ContentLost { damage, .. }) => damage,
                    Err(error) => return Err(error),
                }
            }
        };
        // It may have been deleted meanwhile, or pushed again.
        let now = self.live_manifest(repository, digest).await?;
        if now.is_none_or(|now| now.body != manifest.body) {
            return Ok(None);
        }
        if let Some(object) = object.filter(|object| damage == Damage::Bytes && !object.is_suspect()) {
            let marked = self.mark_manifest(repository, digest, &object.key, SUSPECT);
            tell_unmarked(digest, marked.await);
        }
        let damaged = self.damaged(digest, damage, vec![repository.clone()]).await?;
        Ok(Some(read(there(damage, size), Some(damaged))))
    }

    /// Whether a blob is read in this repository: the first of those in the catalogue that hold it, for no others are gone through.
    async fn is_read_in(&self, repository: &RepoName, digest: &Digest) -> Result<bool> {
        let mut links = Pages::of(Space::Links, digest.as_str(), "", NAMED);
        while let Some(page) = links.next(&*self.meta).await? {
            let mut before = holders_in(&page)?;
            let here = before.iter().position(|holder| holder == repository);
            before.truncate(here.unwrap_or(before.len()));
            let entries: Vec<_> = before.iter().map(keys::catalog_entry).collect();
            if !entries.is_empty() && self.meta.get_many(&entries).await?.iter().any(Option::is_some) {
                return Ok(false);
            }
            if here.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Of the repositories that hold the blob, for all that anybody is told, the first.
    async fn first_holders(&self, digest: &Digest) -> Result<Vec<RepoName>> {
        let mut links = Pages::of(Space::Links, digest.as_str(), "", NAMED);
        while let Some(page) = links.next(&*self.meta).await? {
            let holders = holders_in(&page)?;
            if !holders.is_empty() {
                return Ok(holders);
            }
        }
        Ok(Vec::new())
    }

    async fn damaged(&self, digest: &Digest, damage: Damage, repositories: Vec<RepoName>) -> Result<Damaged> {
        let mut tags = BTreeSet::new();
        for repository in &repositories {
            if tags.len() < NAMED {
                tags.extend(self.tags_over(repository, digest, NAMED).await?);
            }
        }
        Ok(Damaged {
            digest: digest.clone(),
            damage,
            repositories,
            tags: tags.into_iter().take(NAMED).collect(),
        })
    }
}

/// Those of a page of links that aren't shelved.
fn holders_in(links: &[Entry]) -> Result<Vec<RepoName>> {
    let mut holders = Vec::new();
    for Entry { sort, row: found } in links {
        if !is_shelved(found)? {
            let corrupt = |error| row::corrupt("read a repository's name in a link", error);
            holders.push(RepoName::parse(sort).map_err(corrupt)?);
        }
    }
    Ok(holders)
}

/// How much there is of what had so many bytes.
fn there(damage: Damage, size: u64) -> u64 {
    if damage == Damage::Missing { 0 } else { size }
}

/// What is found is told, also where it can't be noted.
fn tell_unmarked(digest: &Digest, marked: Result<()>) {
    if let Err(error) = marked {
        tracing::warn!(%digest, ?error, "that its bytes are wrong can't be noted where it is named");
    }
}
