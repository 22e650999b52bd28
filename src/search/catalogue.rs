//! Which repositories there are ([`Known`]), kept up to date.
//!
//! One task fills it after the start and brings it up to date whenever somebody asks: what is answered comes from a look at
//! the store that began after the question (rule R6), which all share who ask meanwhile. Without questions it does nothing.
//! The first look reads the names and rows of all repositories; each later one follows the changes since, nine requests where
//! there are none, however many repositories there are.
//!
//! What is in memory of a repository holds while its row has the version that it was found out under. So does what is
//! kept of it in the store, where members find what others have found out.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
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

use super::{
    known::Known,
    summary::{Summaries, is_complete},
};
use crate::{
    clock,
    oci::{Page, RepoName},
    registry::{
        Asked, PULLED_KEPT, Pulled, Registry, RegistryError, Summary,
        changes::{Ends, Feed, PARTITIONS},
    },
    storage::{Version, keys},
};

/// Repositories that are looked at together.
const TOGETHER: usize = 1000;
/// Repositories that something is found out about at the same time.
const AT_ONCE: usize = 8;
/// After which a look that failed is tried again, while nobody asks.
const AGAIN: Duration = Duration::from_secs(5);

/// Members' clocks differ by less, and so long after its time at most it can be read what somebody wrote.
const LATE: Duration = Duration::from_mins(10);

/// Whether an answer is of all there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Completeness {
    Whole,
    /// The look at the store isn't done, or failed: there may be more, or something else.
    Partial,
}

/// What a question wants to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wants {
    /// Which repositories there are, and what they come to.
    Repositories,
    /// How often each was pulled, too.
    Downloads,
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
    summaries: Summaries,
    known: RwLock<Known>,
    pulls: Mutex<Option<Followed>>,
    wants_downloads: AtomicBool,
    asked: AtomicU64,
    wake: Notify,
    done: watch::Sender<Done>,
    patience: Duration,
}

impl Catalogue {
    /// Empty. Who asks waits for `patience` at most.
    pub(super) fn new(registry: Arc<Registry>, summaries: Summaries, patience: Duration) -> Self {
        Self {
            feed: Feed::new(registry.clone()),
            followed: Mutex::default(),
            registry,
            summaries,
            known: RwLock::default(),
            pulls: Mutex::default(),
            wants_downloads: AtomicBool::new(false),
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
    pub(super) async fn fresh(&self, wants: Wants) -> Completeness {
        if wants == Wants::Downloads {
            self.wants_downloads.store(true, Ordering::Release);
        }
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

    /// What was found out about these repositories, of which this was `kept`, in their order; `None` for one that isn't there any
    /// more. It takes no request where what is kept was seen by the last look.
    pub(super) async fn summaries(
        &self,
        names: &[RepoName],
        mut kept: Vec<Option<Summary>>,
    ) -> Result<Vec<Option<Summary>>, RegistryError> {
        // Lists show all of it.
        for kept in &mut kept {
            kept.take_if(|kept| !is_complete(kept));
        }
        // The look may have seen less than was kept since.
        let others: Vec<usize> = self.read(|known| {
            let is_seen = |n: usize| {
                let both = known.get(&names[n]).zip(kept[n].as_ref());
                both.is_some_and(|(facet, kept)| facet.is_of(&kept.version))
            };
            (0..names.len()).filter(|n| !is_seen(*n)).collect()
        });
        let wanted: Vec<RepoName> = others.iter().map(|n| names[*n].clone()).collect();
        let versions = self.registry.versions(&wanted).await?;
        let outdated = others.iter().map(|n| kept[*n].take()).collect();
        let brought = self.settle(&wanted, versions, outdated).await?;
        for (n, brought) in others.into_iter().zip(brought) {
            kept[n] = brought;
        }
        Ok(kept)
    }

    /// What is to be found out about a repository now.
    #[cfg(test)]
    pub(super) async fn find_out(&self, name: &RepoName) -> Result<Option<Summary>, RegistryError> {
        self.summaries.find_out(name).await
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
        *self.followed.lock() = Some(ends);
        if self.wants_downloads.swap(false, Ordering::AcqRel)
            && let Err(error) = self.look_at_pulls().await
        {
            self.wants_downloads.store(true, Ordering::Release);
            return Err(error);
        }
        Ok(())
    }

    /// Reads how often repositories were pulled: those of which it isn't known, and those that were pulled since the last time.
    async fn look_at_pulls(&self) -> Result<(), RegistryError> {
        let followed = self
            .pulls
            .lock()
            .clone()
            .filter(|followed| !followed.is_outdated());
        if followed.is_none() {
            self.known.write().forget_counts();
        }
        let mut followed = followed.unwrap_or_else(Followed::from_now);
        let pulled = followed.news(self.registry.pulled_since(followed.from_ms).await?);
        let mut names: BTreeSet<RepoName> = self.read(Known::uncounted).into_iter().collect();
        names.extend(pulled);
        let names: Vec<RepoName> = names.into_iter().collect();
        for some in names.chunks(TOGETHER) {
            let asked = Asked {
                downloads: some,
                ..Asked::default()
            };
            let counts = self.registry.told(asked).await?.downloads;
            let mut known = self.known.write();
            for (name, count) in some.iter().zip(counts) {
                known.count(name, count);
            }
        }
        *self.pulls.lock() = Some(followed);
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
        let (mut page, mut after) = (Page::default(), None);
        loop {
            let listed = self.registry.catalog(&page).await?;
            let names = listed.names.iter().map(|name| RepoName::parse(name));
            let names: Vec<RepoName> = names.filter_map(Result::ok).collect();
            self.known.write().listed(after.as_ref(), &names, listed.more);
            page.last = listed.names.into_iter().next_back();
            after = names.into_iter().next_back().or(after);
            if !listed.more {
                break;
            }
        }
        let mut after = None;
        loop {
            let some = self.read(|known| known.names_after(after.as_ref(), TOGETHER));
            let Some(last) = some.last().cloned() else {
                return Ok(());
            };
            let versions = self.registry.versions(&some).await?;
            let changed: Vec<RepoName> = self.read(|known| {
                let pairs = some.into_iter().zip(versions);
                let changed = pairs
                    .filter(|(name, version)| version.is_some_and(|version| known.differs(name, version)));
                changed.map(|(name, _)| name).collect()
            });
            self.bring(&changed).await?;
            after = Some(last);
        }
    }

    /// Finds out about these repositories, from what others have found out where that still holds.
    async fn bring(&self, names: &[RepoName]) -> Result<Vec<Option<Summary>>, RegistryError> {
        let (versions, kept) =
            tokio::try_join!(self.registry.versions(names), self.registry.summaries(names))?;
        self.settle(names, versions, kept).await
    }

    /// Finds out about these repositories, whose rows have these versions now, or are gone, and of which this was kept.
    async fn settle(
        &self,
        names: &[RepoName],
        versions: Vec<Option<Version>>,
        kept: Vec<Option<Summary>>,
    ) -> Result<Vec<Option<Summary>>, RegistryError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let had: Vec<bool> = kept.iter().map(Option::is_some).collect();
        let asked = names.iter().zip(versions.into_iter().zip(kept));
        let asked: Vec<_> = asked
            .map(|(name, (version, kept))| self.one(name, version, kept).boxed())
            .collect();
        let mut asked = stream::iter(asked).buffered(AT_ONCE);
        let (mut all, mut new, mut trouble) = (Vec::new(), Vec::new(), None);
        for (name, had) in names.iter().zip(had) {
            match asked.next().await {
                Some(Ok((Some(summary), is_new))) => {
                    if is_new == IsNew::Yes {
                        new.push((name.clone(), Some(summary.clone())));
                    }
                    all.push(Some(summary));
                }
                Some(Ok((None, _))) => {
                    if had {
                        new.push((name.clone(), None));
                    }
                    all.push(None);
                }
                Some(Err(error)) => {
                    trouble = Some(error);
                    break;
                }
                None => break,
            }
        }
        let found = names.iter().zip(all.iter().map(Option::as_ref));
        self.known.write().settle(found);
        if !new.is_empty()
            && let Err(error) = self.registry.keep_summaries(&new).await
        {
            // Others find it out again.
            tracing::debug!(?error, "what was found out isn't kept");
        }
        // Of those before it, what was found out holds.
        trouble.map_or(Ok(all), Err)
    }

    /// What was found out about a repository, and whether it was found out just now.
    async fn one(
        &self,
        name: &RepoName,
        version: Option<Version>,
        kept: Option<Summary>,
    ) -> Result<(Option<Summary>, IsNew), RegistryError> {
        let Some(version) = version else {
            return Ok((None, IsNew::No));
        };
        if let Some(kept) = kept.filter(|kept| *kept.version == version.to_bytes()) {
            return Ok((Some(kept), IsNew::No));
        }
        let found = self.summaries.find_out(name).await?;
        let is_settled = found.as_ref().is_some_and(|found| !found.version.is_empty());
        Ok((found, if is_settled { IsNew::Yes } else { IsNew::No }))
    }
}

/// How far it was followed which repositories are pulled.
#[derive(Clone, Debug)]
struct Followed {
    /// What was said since then is read again, for clocks differ and some come late.
    from_ms: u64,
    /// What was read of that.
    seen: BTreeSet<String>,
}

impl Followed {
    fn from_now() -> Self {
        Self {
            from_ms: clock::now_ms().saturating_sub(millis(LATE)),
            seen: BTreeSet::new(),
        }
    }

    /// Whether something may have been said since that isn't kept any more.
    fn is_outdated(&self) -> bool {
        clock::now_ms().saturating_sub(self.from_ms) > millis(PULLED_KEPT / 2)
    }

    /// The repositories in what wasn't read before.
    fn news(&mut self, all: Vec<Pulled>) -> BTreeSet<RepoName> {
        let (mut seen, mut news) = (BTreeSet::new(), BTreeSet::new());
        for said in all {
            if !self.seen.contains(&said.place) {
                news.extend(said.repositories);
            }
            seen.insert(said.place);
        }
        let from_ms = Self::from_now().from_ms.max(self.from_ms);
        seen.retain(|place| *place > keys::pulled_from(from_ms));
        *self = Self { from_ms, seen };
        news
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Whether the store is to keep it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IsNew {
    Yes,
    No,
}
