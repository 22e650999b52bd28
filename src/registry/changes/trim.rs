//! The end of what is told of changes: batches of feeds, and what histories tell of long ago (`storage.historyEvents`).
//!
//! Feeds are in the order of time by themselves. Histories are in their repositories' partitions; so who settles a change writes down in
//! which repository there was one on that day, once a day, and who trims reads those days, the oldest first. What nothing has changed in
//! costs nothing.
//!
//! Of each tag the newest event of what is trimmed stays if the tag names something by it: it says what the tag named since, until there
//! is a newer one.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use parking_lot::Mutex;

use super::{
    super::{RegistryError, Result, fence, row},
    Feed, NameChange,
};
use crate::{
    clock,
    oci::{RepoName, Tag},
    registry::{Registry, upkeep::millis},
    storage::{Expect, MAX_OPS, Op, Space, keys, rows},
};

/// Milliseconds of a day.
const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// Batches of a feed that are looked at at once, and days of repositories.
const AT_ONCE: usize = 25;
/// Changes of a repository that are trimmed at once.
const CHANGES: usize = 25;
/// Repositories of which it is remembered that they changed today.
const REMEMBERED: usize = 50_000;

/// What came of one look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// Rows that went.
    pub rows: usize,
    /// There may be more that has to go.
    pub more: bool,
}

/// What came of one look at histories.
#[derive(Debug, Default)]
pub struct TrimmedHistories {
    pub trimmed: Trimmed,
    /// The last row of days that is done with, or that failed.
    pub after: Option<String>,
    /// The first failure: others are trimmed all the same.
    pub failed: Option<RegistryError>,
}

/// In which repositories it is known to be written down that something changed today.
#[derive(Default)]
pub(in crate::registry) struct Days {
    today: Mutex<(u64, BTreeSet<RepoName>)>,
}

impl Days {
    /// Whether that is to be written of the repository for this day. Only today's are remembered.
    fn lacks(&self, day: u64, repository: &RepoName) -> bool {
        let today = self.today.lock();
        today.0 != day || !today.1.contains(repository)
    }

    fn note(&self, written: impl IntoIterator<Item = (u64, RepoName)>) {
        let now = clock::now_ms() / DAY_MS;
        let mut today = self.today.lock();
        if today.0 != now || today.1.len() >= REMEMBERED {
            *today = (now, BTreeSet::new());
        }
        let of_today = written.into_iter().filter(|(day, _)| *day == now);
        today.1.extend(of_today.map(|(_, repository)| repository));
    }
}

impl Registry {
    /// Writes down on which days these repositories changed, before their changes are settled.
    pub(super) async fn note_days(
        &self,
        n: u8,
        changes: impl Iterator<Item = (RepoName, u64)>,
    ) -> Result<()> {
        let days: BTreeSet<_> = changes
            .map(|(repository, at_ms)| (at_ms / DAY_MS, repository))
            .filter(|(day, repository)| self.days.lacks(*day, repository))
            .collect();
        if days.is_empty() {
            return Ok(());
        }
        let mark = row::bytes(&rows::Mark {
            min_reader: rows::SCHEMA,
        });
        let ops = days.iter().map(|(day, repository)| {
            let key = keys::changed_day(n, *day, repository);
            key.put(Expect::Any, mark.clone())
        });
        for ops in ops.collect::<Vec<_>>().chunks(MAX_OPS) {
            fence::write(&*self.meta, ops, self.settings.limits.attempts).await?;
        }
        self.days.note(days);
        Ok(())
    }

    /// Removes what happened in the `n`-th partition longer ago than events are kept, some of it, beyond the row of days that a former
    /// look has reached. Without an end it does nothing.
    ///
    /// # Errors
    /// Where the days can't be read.
    pub async fn trim_histories(
        &self,
        n: u8,
        after: Option<String>,
        now_ms: u64,
    ) -> Result<TrimmedHistories> {
        let mut done = TrimmedHistories {
            after,
            ..TrimmedHistories::default()
        };
        let Some(kept) = self.settings.limits.history_events else {
            return Ok(done);
        };
        let kept_ms = millis(kept.max(self.settings.limits.history))
            .saturating_add(millis(self.settings.limits.clock_margin));
        let end_ms = now_ms.saturating_sub(kept_ms);
        let (days, after) = (keys::changed_days(n), done.after.as_deref());
        let page = self
            .meta
            .range(Space::Repositories, &days, "", after, AT_ONCE)
            .await?;
        done.trimmed.more = page.more;
        for entry in page.entries {
            match self.trim_day(n, &entry.sort, end_ms).await {
                Ok(None) => {
                    done.trimmed.more = false;
                    break;
                }
                Ok(Some(of_day)) => {
                    done.trimmed.rows += of_day.rows;
                    if of_day.more {
                        done.trimmed.more = true;
                        break;
                    }
                }
                Err(error) => done.failed = done.failed.or(Some(error)),
            }
            done.after = Some(entry.sort);
        }
        Ok(done)
    }

    /// Removes some of what happened in a repository until the end of a day; `None` where that isn't long enough ago.
    async fn trim_day(&self, n: u8, sort: &str, end_ms: u64) -> Result<Option<Trimmed>> {
        let (day, name) = keys::changed_day_parts(sort)
            .ok_or_else(|| row::corrupt("read on which day there was a change", "malformed"))?;
        let before_ms = day.saturating_add(1).saturating_mul(DAY_MS);
        if before_ms > end_ms {
            return Ok(None);
        }
        let repository = RepoName::parse(name)
            .map_err(|error| row::corrupt("read a repository's name in a day", error))?;
        let mut trimmed = self.trim_history(&repository, before_ms).await?;
        if !trimmed.more {
            let done = keys::changed_day_listed(n, sort.to_owned()).delete(Expect::Any);
            fence::write(&*self.meta, &[done], self.settings.limits.attempts).await?;
            trimmed.rows += 1;
        }
        Ok(Some(trimmed))
    }

    /// Removes some of what happened in a repository before a time: of each change first what its tags' histories say.
    async fn trim_history(&self, repository: &RepoName, before_ms: u64) -> Result<Trimmed> {
        let (changes, more) = self.settled_of(repository, Some(before_ms), CHANGES).await?;
        let mut trimmed = Trimmed { rows: 0, more };
        let moved = changes.iter().flat_map(|change| &change.tags);
        let tags: BTreeSet<&Tag> = moved.map(|moved| &moved.tag).collect();
        for tag in tags {
            let of_tag = self.trim_tag(repository, tag, before_ms).await?;
            trimmed.rows += of_tag.rows;
            // Its changes stay until all of that is gone, for by them it is found.
            if of_tag.more {
                return Ok(of_tag);
            }
        }
        let gone = |change: &NameChange| keys::settled_change(repository, change.at_ms).delete(Expect::Any);
        let ops: Vec<Op> = changes.iter().map(gone).collect();
        if !ops.is_empty() {
            fence::write(&*self.meta, &ops, self.settings.limits.attempts).await?;
            trimmed.rows += ops.len();
        }
        Ok(trimmed)
    }

    /// Removes some of what happened to a tag before a time, but for what says what it named at that time.
    async fn trim_tag(&self, repository: &RepoName, tag: &Tag, before_ms: u64) -> Result<Trimmed> {
        let (space, partition) = (Space::Repositories, repository.as_str());
        let (prefix, after) = (
            keys::tag_events(tag),
            keys::tag_event(repository, tag, before_ms).sort,
        );
        let page = self
            .meta
            .range(space, partition, &prefix, Some(&after), MAX_OPS)
            .await?;
        let mut entries = page.entries.into_iter();
        // A deletion goes with the last of what it ended, or an older event would say what the tag names since.
        let newest = match entries.next() {
            Some(newest) if !page.more && row::read::<rows::TagEvent>(&newest.row)?.named.is_none() => {
                Some(newest)
            }
            Some(_) | None => None,
        };
        let ops: Vec<Op> = newest
            .into_iter()
            .chain(entries)
            .map(|entry| keys::tag_event_listed(repository, entry.sort).delete(Expect::Any))
            .collect();
        if ops.is_empty() {
            return Ok(Trimmed::default());
        }
        fence::write(&*self.meta, &ops, self.settings.limits.attempts).await?;
        Ok(Trimmed {
            rows: ops.len(),
            more: page.more,
        })
    }
}

impl Feed {
    /// Removes batches of the `n`-th feed, the oldest first: those that are older than anybody is waited for, once all `followers` who have
    /// begun are past them; those that are much older in any case.
    pub async fn trim(&self, n: u8, followers: &[String], now_ms: u64) -> Result<Trimmed> {
        let (meta, settings) = (&self.registry.meta, &self.registry.settings);
        let before_ms = |kept| {
            now_ms
                .saturating_sub(millis(settings.limits.clock_margin))
                .saturating_sub(millis(kept))
        };
        let (old_ms, oldest_ms) = (
            before_ms(settings.limits.feed_kept),
            before_ms(settings.limits.feed_kept_longest),
        );
        let head = keys::feed_head(n).sort;
        let page = meta
            .range(Space::Repositories, &keys::feed(n), "", Some(&head), AT_ONCE)
            .await?;
        let mut is_over = Vec::new();
        for entry in page.entries {
            let number = keys::feed_number(&entry.sort);
            let number = number.ok_or_else(|| row::corrupt("read a batch's number", "malformed"))?;
            let batch: rows::FeedBatch = row::read(&entry.row)?;
            if batch.at_ms >= old_ms {
                break;
            }
            is_over.push((number, batch.at_ms));
        }
        if is_over.is_empty() {
            return Ok(Trimmed::default());
        }
        let mut passed = u64::MAX;
        for follower in followers {
            if let Some(noted) = self.place(follower, n).await? {
                passed = passed.min(noted.place.after);
            }
        }
        let old = is_over.len();
        let gone = is_over
            .into_iter()
            .take_while(|(number, at_ms)| *number <= passed || *at_ms < oldest_ms);
        let ops: Vec<Op> = gone
            .map(|(number, _)| keys::feed_batch(n, number).delete(Expect::Any))
            .collect();
        if !ops.is_empty() {
            fence::write(&**meta, &ops, settings.limits.attempts).await?;
        }
        Ok(Trimmed {
            rows: ops.len(),
            more: page.more && ops.len() == old && old == AT_ONCE,
        })
    }
}
