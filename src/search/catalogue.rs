//! The repositories, in memory: their names, and of each what lists are sorted and filtered by. About 100 bytes each.
//!
//! One task fills it after the start and brings it up to date whenever somebody asks: what is answered comes from a look at
//! the store that began after the question (rule R6), which all share who ask meanwhile. Without questions it does nothing.
//! The first look reads the names and rows of all repositories; each later one follows the changes since, nine requests where
//! there are none, however many repositories there are.
//!
//! What is in memory of a repository holds while its row has the version that it was found out under. So does what is
//! kept of it in the store, where members find what others have found out.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt as _, StreamExt as _, stream};
use parking_lot::{Mutex, RwLock};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::summary::Summaries;
use crate::{
    oci::{Page, RepoName},
    registry::{
        Registry, RegistryError, Summary,
        changes::{Ends, Feed, PARTITIONS},
    },
    storage::Version,
};

/// Repositories that are looked at together.
const TOGETHER: usize = 1000;
/// Repositories that something is found out about at the same time.
const AT_ONCE: usize = 8;
/// Sets of platforms that are known at once.
const MAX_SETS: usize = 10_000;
/// After which a look that failed is tried again, while nobody asks.
const AGAIN: Duration = Duration::from_secs(5);

/// What lists are sorted and filtered by.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facet {
    /// Half of the version that it was found out under: it tells versions apart. 0 before anything was.
    version: u64,
    /// The last push of a tag, in milliseconds since the Unix epoch.
    pub(super) changed_ms: u64,
    /// What its images take together, in bytes, to seven digits: half of what a number without an error would take here.
    pub(super) size: f32,
    /// Which of the sets of platforms: there are [`MAX_SETS`].
    platforms: u16,
    /// Whether the newest image is signed.
    pub(super) is_signed: bool,
}

/// Whether an answer is of all there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Completeness {
    Whole,
    /// The look at the store isn't done, or failed: there may be more, or something else.
    Partial,
}

#[derive(Default)]
pub(super) struct Known {
    repositories: BTreeMap<RepoName, Facet>,
    /// Platforms that some repository has, each set once.
    sets: Vec<Arc<[Platform]>>,
    numbers: HashMap<Arc<[Platform]>, u16>,
    /// Nothing of what was found out before holds: everything is to be looked at again.
    is_forgotten: bool,
}

/// Operating system and architecture.
pub(super) type Platform = (String, String);

impl Known {
    /// The repositories in byte order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&RepoName, &Facet)> {
        self.repositories.iter()
    }

    /// The next names after this one, at most so many.
    pub(super) fn after(&self, last: Option<&RepoName>, most: usize) -> Vec<RepoName> {
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        let names = self.repositories.range::<RepoName, _>((from, Bound::Unbounded));
        names.take(most).map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn get(&self, name: &RepoName) -> Option<&Facet> {
        self.repositories.get(name)
    }

    pub(super) fn platforms(&self, facet: &Facet) -> &[Platform] {
        match self.sets.get(usize::from(facet.platforms)) {
            Some(set) if facet.version != 0 => set,
            Some(_) | None => &[],
        }
    }

    /// Sets that no repository has any more would stay. The next look finds out anew which there are.
    fn forget_sets(&mut self) {
        self.is_forgotten = true;
        self.sets.clear();
        self.numbers.clear();
        for facet in self.repositories.values_mut() {
            facet.version = 0;
        }
    }

    fn put(&mut self, name: RepoName, summary: &Summary) {
        let platform =
            |platform: &crate::storage::rows::Platform| (platform.os.clone(), platform.architecture.clone());
        let set: Arc<[Platform]> = summary.platforms.iter().map(platform).collect();
        let number = match self.numbers.get(&set) {
            Some(number) => *number,
            None => {
                if self.sets.len() >= MAX_SETS {
                    self.forget_sets();
                }
                let number = u16::try_from(self.sets.len()).unwrap_or(u16::MAX);
                self.sets.push(set.clone());
                self.numbers.insert(set, number);
                number
            }
        };
        let facet = Facet {
            version: half(&summary.version),
            changed_ms: summary.changed_ms,
            size: summary.size as f32,
            platforms: number,
            is_signed: !summary.newest_signatures.is_empty(),
        };
        self.repositories.insert(name, facet);
    }
}

fn half(version: &[u8]) -> u64 {
    let half = version.first_chunk().map_or(0, |half| u64::from_le_bytes(*half));
    // Of a version that isn't known nothing holds.
    if version.is_empty() { 0 } else { half.max(1) }
}

/// How far the task has come.
#[derive(Clone, Copy, Default)]
struct Done {
    /// Questions before this one can be answered.
    through: u64,
    /// Whether the last look came to its end.
    is_whole: bool,
}

/// See above.
pub(super) struct Catalogue {
    registry: Arc<Registry>,
    feed: Feed,
    /// How far each feed was followed; `None` before everything was looked at once.
    followed: Mutex<Option<Ends>>,
    summaries: Arc<Summaries>,
    known: RwLock<Known>,
    asked: AtomicU64,
    wake: Notify,
    done: watch::Sender<Done>,
    patience: Duration,
}

impl Catalogue {
    /// Empty. Who asks waits for `patience` at most.
    pub(super) fn new(registry: Arc<Registry>, summaries: Arc<Summaries>, patience: Duration) -> Self {
        Self {
            feed: Feed::new(registry.clone()),
            followed: Mutex::default(),
            registry,
            summaries,
            known: RwLock::default(),
            asked: AtomicU64::new(0),
            wake: Notify::new(),
            done: watch::Sender::new(Done::default()),
            patience,
        }
    }

    /// Whether nobody is reading what is known, or writing it.
    #[cfg(test)]
    pub(super) fn is_free(&self) -> bool {
        self.known.try_write().is_some()
    }

    /// Answers until `end`.
    pub(super) async fn run(&self, end: CancellationToken) {
        let mut is_whole = false;
        loop {
            let through = self.asked.load(Ordering::Acquire);
            if !is_whole || through > self.done.borrow().through {
                let looked = tokio::select! {
                    biased;
                    () = end.cancelled() => return,
                    looked = self.look() => looked,
                };
                is_whole = looked.is_ok();
                if let Err(error) = looked {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "search doesn't see the repositories as they are"
                    );
                }
                self.done.send_replace(Done { through, is_whole });
            }
            if self.asked.load(Ordering::Acquire) > through {
                continue;
            }
            tokio::select! {
                biased;
                () = end.cancelled() => return,
                () = self.wake.notified() => {}
                () = sleep(AGAIN), if !is_whole => {}
            }
        }
    }

    /// Waits for a look at the store that begins now or later.
    pub(super) async fn fresh(&self) -> Completeness {
        let deadline = Instant::now() + self.patience;
        let mut done = self.done.subscribe();
        let question = self.asked.fetch_add(1, Ordering::AcqRel) + 1;
        self.wake.notify_one();
        let answered = timeout_at(deadline, done.wait_for(|done| done.through >= question)).await;
        match answered {
            Ok(Ok(done)) if done.is_whole => Completeness::Whole,
            Ok(_) | Err(_) => Completeness::Partial,
        }
    }

    /// What is known, as it is now.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Known) -> T) -> T {
        read(&self.known.read())
    }

    /// What was found out about these repositories, in their order; `None` for one that isn't there any more.
    pub(super) async fn summaries(
        &self,
        names: &[RepoName],
    ) -> Result<Vec<Option<Arc<Summary>>>, RegistryError> {
        let mut found: HashMap<&RepoName, Arc<Summary>> = HashMap::new();
        let mut missing = Vec::new();
        for name in names {
            let facet = self.read(|known| known.get(name).copied()).unwrap_or_default();
            let held = self.summaries.held(name);
            match held.filter(|held| facet.version != 0 && half(&held.version) == facet.version) {
                Some(held) => {
                    found.insert(name, held);
                }
                None => missing.push(name.clone()),
            }
        }
        let brought = self.bring(&missing).await?;
        for (name, summary) in missing.iter().zip(brought) {
            if let (Some(summary), Some(name)) = (summary, names.iter().find(|other| *other == name)) {
                found.insert(name, summary);
            }
        }
        Ok(names.iter().map(|name| found.get(name).cloned()).collect())
    }

    /// Finds out what has changed since the last look; the first looks at everything.
    async fn look(&self) -> Result<(), RegistryError> {
        // In this order: what is settled meanwhile is in both.
        let unsettled = self.feed.unsettled().await?;
        let ends = self.feed.ends().await?;
        let from = *self.followed.lock();
        let changed = match from {
            Some(from) => self.changed(from, ends, unsettled).await?,
            None => None,
        };
        match changed {
            Some(names) => {
                for some in names.chunks(TOGETHER) {
                    self.bring(some).await?;
                }
            }
            None => self.look_at_all().await?,
        }
        let is_forgotten = std::mem::take(&mut self.known.write().is_forgotten);
        *self.followed.lock() = (!is_forgotten).then_some(ends);
        Ok(())
    }

    /// Repositories that have changed between two places in the feeds, beside `names`; `None` if some of what was between isn't
    /// kept any more.
    async fn changed(
        &self,
        from: Ends,
        to: Ends,
        mut names: BTreeSet<RepoName>,
    ) -> Result<Option<Vec<RepoName>>, RegistryError> {
        for n in 0..PARTITIONS {
            let (mut at, end) = (from[usize::from(n)], to[usize::from(n)]);
            while at < end {
                let part = self.feed.read(n, at).await?;
                if part.missed || part.upto == at {
                    return Ok(None);
                }
                at = part.upto;
                names.extend(part.changes.into_iter().map(|change| change.repository));
            }
        }
        Ok(Some(names.into_iter().collect()))
    }

    /// Looks which repositories there are, and finds out about those of which nothing is known that holds.
    async fn look_at_all(&self) -> Result<(), RegistryError> {
        let mut page = Page::default();
        let mut all = BTreeSet::new();
        loop {
            let listed = self.registry.catalog(&page).await?;
            page.last = listed.names.last().cloned();
            let names: Vec<RepoName> = listed
                .names
                .iter()
                .filter_map(|name| RepoName::parse(name).ok())
                .collect();
            {
                let mut known = self.known.write();
                for name in &names {
                    known.repositories.entry(name.clone()).or_default();
                }
            }
            all.extend(names);
            if !listed.more {
                break;
            }
        }
        self.known
            .write()
            .repositories
            .retain(|name, _| all.contains(name));
        let all: Vec<RepoName> = all.into_iter().collect();
        for some in all.chunks(TOGETHER) {
            let versions = self.registry.versions(some).await?;
            let changed: Vec<RepoName> = self.read(|known| {
                let is_changed = |(name, version): &(&RepoName, Option<Version>)| {
                    let seen = known.get(name).map_or(0, |facet| facet.version);
                    version.is_some_and(|version| half(&version.to_bytes()) != seen)
                };
                let pairs = some.iter().zip(versions).filter(is_changed);
                pairs.map(|(name, _)| name.clone()).collect()
            });
            self.bring(&changed).await?;
        }
        Ok(())
    }

    /// Finds out about these repositories, from what others have found out where that still holds.
    async fn bring(&self, names: &[RepoName]) -> Result<Vec<Option<Arc<Summary>>>, RegistryError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let (versions, kept) =
            tokio::try_join!(self.registry.versions(names), self.registry.summaries(names))?;
        let had: Vec<bool> = kept.iter().map(Option::is_some).collect();
        let asked = names.iter().zip(versions.into_iter().zip(kept));
        let asked: Vec<_> = asked
            .map(|(name, (version, kept))| self.one(name, version, kept).boxed())
            .collect();
        let (mut all, mut new) = (Vec::new(), Vec::new());
        let mut asked = stream::iter(asked).buffered(AT_ONCE);
        let mut number = 0;
        while let Some(answer) = asked.next().await {
            let (found, is_new) = answer?;
            let (name, had) = (&names[number], had[number]);
            number += 1;
            match &found {
                Some(summary) => {
                    self.summaries.hold(name, summary.clone());
                    self.known.write().put(name.clone(), summary);
                    if is_new == IsNew::Yes {
                        new.push((name.clone(), Some((**summary).clone())));
                    }
                }
                None => {
                    self.known.write().repositories.remove(name);
                    if had {
                        new.push((name.clone(), None));
                    }
                }
            }
            all.push(found);
        }
        if !new.is_empty()
            && let Err(error) = self.registry.keep_summaries(&new).await
        {
            // Others find it out again.
            tracing::debug!(?error, "what was found out isn't kept");
        }
        Ok(all)
    }

    /// What was found out about a repository, and whether it was found out just now.
    async fn one(
        &self,
        name: &RepoName,
        version: Option<Version>,
        kept: Option<Summary>,
    ) -> Result<(Option<Arc<Summary>>, IsNew), RegistryError> {
        let Some(version) = version else {
            return Ok((None, IsNew::No));
        };
        if let Some(kept) = kept.filter(|kept| *kept.version == version.to_bytes()) {
            return Ok((Some(Arc::new(kept)), IsNew::No));
        }
        let found = self.summaries.find_out(name).await?.map(Arc::new);
        let is_settled = found.as_ref().is_some_and(|found| !found.version.is_empty());
        Ok((found, if is_settled { IsNew::Yes } else { IsNew::No }))
    }
}

/// Whether the store is to keep it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IsNew {
    Yes,
    No,
}
