//! What a repository and its tags were, read strongly.

use std::collections::BTreeMap;

use super::{
    super::{Registry, Result, pages::Pages, row},
    NameChange, Why, descriptor, why_of,
};
use crate::{
    oci::{Descriptor, Digest, RepoName, Tag},
    storage::{MAX_PAGE, Page, Space, keys, rows},
};

/// Which events of a tag are asked for: the newest first, at most `limit` of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryPage {
    /// How many; none asks only whether the repository has such a thing.
    pub limit: usize,
    /// Before this time, in milliseconds since the Unix epoch.
    pub before_ms: Option<u64>,
    /// At this time or after it.
    pub since_ms: Option<u64>,
    /// About this manifest.
    pub digest: Option<Digest>,
}

/// What became of a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagEvent {
    /// When, in milliseconds since the Unix epoch. No two events of a tag have the same time.
    pub at_ms: u64,
    /// What it named before, if anything.
    pub from: Option<Descriptor>,
    /// What it names since, if anything.
    pub to: Option<Descriptor>,
    /// Who; empty is nobody known.
    pub by: String,
    /// Why; `None` is for a reason that this release doesn't know.
    pub why: Option<Why>,
}

impl TagEvent {
    /// The manifest that it is about: what the tag names since, or named until it was deleted.
    #[must_use]
    pub fn about(&self) -> Option<&Descriptor> {
        self.to.as_ref().or(self.from.as_ref())
    }
}

/// A piece of a tag's history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagEvents {
    /// The newest first.
    pub events: Vec<TagEvent>,
    /// There are more: ask again for those before the last of them, or before `until_ms` if there is none.
    pub more: bool,
    /// Down to this time everything was looked at.
    pub until_ms: Option<u64>,
}

/// Pages of events that are read to find some about one manifest, before the caller has to ask again.
const PAGES: usize = 4;

impl Registry {
    /// The events of a tag, whether it is there or not.
    pub async fn tag_history(
        &self,
        repository: &RepoName,
        tag: &Tag,
        page: &HistoryPage,
    ) -> Result<TagEvents> {
        let mut found = TagEvents::default();
        if page.limit == 0 {
            return Ok(found);
        }
        // What isn't settled first: what is settled meanwhile is in both.
        let mut events: BTreeMap<u64, TagEvent> = BTreeMap::new();
        for change in self.unsettled_of(repository).await? {
            let at_ms = change.at_ms;
            if let Some(moved) = change.tags.into_iter().find(|moved| moved.tag == *tag) {
                let event = TagEvent {
                    at_ms,
                    from: moved.from,
                    to: moved.to,
                    by: change.by,
                    why: change.why,
                };
                events.insert(at_ms, event);
            }
        }
        let wanted = |event: &TagEvent| {
            page.before_ms.is_none_or(|before_ms| event.at_ms < before_ms)
                && page.since_ms.is_none_or(|since_ms| event.at_ms >= since_ms)
                && page
                    .digest
                    .as_ref()
                    .is_none_or(|digest| event.about().is_some_and(|about| about.digest == *digest))
        };
        events.retain(|_, event| wanted(event));
        let prefix = keys::tag_events(tag);
        let mut after = page
            .before_ms
            .map(|before_ms| keys::tag_event(repository, tag, before_ms).sort);
        let (mut more, mut pages) = (true, 0);
        while more && events.len() <= page.limit && pages < PAGES {
            let limit = (page.limit + 1).min(MAX_PAGE);
            let read = self
                .range_of(repository, &prefix, after.as_deref(), limit)
                .await?;
            for entry in &read.entries {
                let event = TagEvent::read(&row::read(&entry.row)?)?;
                found.until_ms = Some(event.at_ms);
                if page.since_ms.is_some_and(|since_ms| event.at_ms < since_ms) {
                    more = false;
                    break;
                }
                if wanted(&event) {
                    events.insert(event.at_ms, event);
                }
            }
            after = read.entries.into_iter().next_back().map(|entry| entry.sort);
            more &= read.more && after.is_some();
            pages += 1;
        }
        found.more = more || events.len() > page.limit;
        found.events = events.into_values().rev().take(page.limit).collect();
        if let Some(last) = found.events.last().filter(|_| found.events.len() == page.limit) {
            found.until_ms = Some(last.at_ms);
        }
        Ok(found)
    }

    /// The changes of a repository before a time, the newest first: at most `limit` (1 to 1,000), and whether there are more.
    pub async fn history(
        &self,
        repository: &RepoName,
        before_ms: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<NameChange>, bool)> {
        let mut changes: BTreeMap<u64, NameChange> = BTreeMap::new();
        for change in self.unsettled_of(repository).await? {
            if before_ms.is_none_or(|before_ms| change.at_ms < before_ms) {
                changes.insert(change.at_ms, change);
            }
        }
        let (settled, more) = self.settled_of(repository, before_ms, limit).await?;
        changes.extend(settled.into_iter().map(|change| (change.at_ms, change)));
        let more = more || changes.len() > limit;
        Ok((changes.into_values().rev().take(limit).collect(), more))
    }

    /// The settled ones of them.
    pub(in crate::registry) async fn settled_of(
        &self,
        repository: &RepoName,
        before_ms: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<NameChange>, bool)> {
        let after = before_ms.map(|before_ms| keys::settled_change(repository, before_ms).sort);
        let read = self
            .range_of(repository, keys::HISTORY, after.as_deref(), limit.min(MAX_PAGE))
            .await?;
        let changes = read.entries.iter().map(|entry| NameChange::read(&entry.row));
        Ok((changes.collect::<Result<_>>()?, read.more))
    }

    /// The changes of a repository that aren't settled, the oldest first.
    pub(in crate::registry) async fn unsettled_of(&self, repository: &RepoName) -> Result<Vec<NameChange>> {
        let queue = keys::unsettled_changes(keys::change_partition(repository));
        let prefix = keys::unsettled_changes_of(repository);
        let mut pages = Pages::of(Space::Repositories, &queue, &prefix, MAX_PAGE);
        let mut changes = Vec::new();
        while let Some(page) = pages.next(&*self.meta).await? {
            for entry in &page {
                changes.push(NameChange::read(&entry.row)?);
            }
        }
        Ok(changes)
    }

    async fn range_of(
        &self,
        repository: &RepoName,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page> {
        let (space, partition) = (Space::Repositories, repository.as_str());
        Ok(self.meta.range(space, partition, prefix, after, limit).await?)
    }
}

impl TagEvent {
    fn read(row: &rows::TagEvent) -> Result<Self> {
        Ok(Self {
            at_ms: row.at_ms,
            from: row.former.as_ref().map(descriptor).transpose()?,
            to: row.named.as_ref().map(descriptor).transpose()?,
            by: row.by.clone(),
            why: why_of(row.why()),
        })
    }
}
