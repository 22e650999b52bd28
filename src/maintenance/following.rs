//! The workers that carry changes of names to somebody outside: events to sinks, images to other registries.
//!
//! Each feed is followed by one member, the first in the ranking of those that live, which may change at any moment. The place in
//! the store is what counts: a member goes on from there, and notes what was taken; finding that another one has noted something,
//! it reads the place again. So every change is first carried after all before it in its repository, whoever dies wherever; what
//! was taken and not noted is carried again.
//!
//! What waits for a follower waits in the feed, which is kept anyway: nothing of it is in memory, and no request knows of it.

use std::{error::Error, sync::Arc, time::Duration};

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::Share;
use crate::{
    clock,
    config::limits::EventLimits,
    registry::{
        RegistryError,
        changes::{Ends, Feed, Followed, NameChange, NotedPlace, PARTITIONS, Place},
    },
};

/// How often it is looked whether members came or went, which costs no request.
const VIEW_CHECK: Duration = Duration::from_secs(2);
/// For how long one carries before one notes it: who dies leaves so much to be carried again.
const NOTED_AFTER: Duration = Duration::from_secs(2);
/// After which the store is asked again that failed.
const RETRY: Duration = Duration::from_secs(5);

/// Somebody outside, to whom changes are carried.
pub trait Follower: Send + Sync {
    /// One way there, on which changes go one after the other.
    type Line: Default + Send;
    /// Why a change wasn't taken, as far as one knows.
    type Untaken: Error + Send + Sync + 'static;

    /// As followers of feeds are told apart: good for a key.
    fn name(&self) -> &str;

    /// As logs call it: its key in the configuration.
    fn label(&self) -> &str;

    /// Carries a change there. `later` are those that come after it in its feed, as far as they are known.
    fn take(
        &self,
        change: &NameChange,
        later: &[NameChange],
        line: &mut Self::Line,
    ) -> impl Future<Output = Result<(), Self::Untaken>> + Send;

    /// Whether it takes everything else, as far as one can tell.
    fn is_refusal(untaken: &Self::Untaken) -> bool;

    /// These aren't carried any more: too old, or refused too often.
    fn given_up(
        &self,
        changes: &[NameChange],
        why: &Self::Untaken,
    ) -> impl Future<Output = Result<(), RegistryError>> + Send;

    /// It begins: what was committed before isn't carried to it. May be called again.
    fn begins(&self) -> impl Future<Output = Result<(), RegistryError>> + Send {
        std::future::ready(Ok(()))
    }

    /// Some were gone from the `n`-th feed before they could be carried, nobody knows which.
    fn missed(&self, n: u8) -> impl Future<Output = Result<(), RegistryError>> + Send;

    /// Waits for so long before what wasn't taken is carried again, or until somebody wants it tried.
    fn pause(&self, time: Duration) -> impl Future<Output = ()> + Send {
        sleep(time)
    }

    /// The oldest change that waits is so old.
    fn waits(&self, age: Duration);
}

/// Carries changes to all of a kind.
pub struct Following<F> {
    feed: Feed,
    share: Arc<Share>,
    ends: watch::Sender<Ends>,
    carriers: Vec<Carrier<F>>,
    look: Duration,
}

/// Carries changes to one.
struct Carrier<F> {
    to: F,
    feed: Feed,
    share: Arc<Share>,
    limits: EventLimits,
    /// When the oldest change was made that waits in each feed, in milliseconds since the Unix epoch.
    waiting: Mutex<[Option<u64>; PARTITIONS as usize]>,
}

/// Where one is who carries.
struct Standing<L> {
    line: L,
    noted: Option<NotedPlace>,
    /// Failures in a row.
    failures: u32,
    /// When the first of them was.
    fails_since: Option<Instant>,
    /// Refusals in a row of the change that is next.
    refusals: u32,
}

impl<L: Default> Standing<L> {
    fn new() -> Self {
        Self {
            line: L::default(),
            noted: None,
            failures: 0,
            fails_since: None,
            refusals: 0,
        }
    }
}

enum Step {
    /// There is nothing to carry.
    Idle,
    /// Something was taken.
    On,
    /// It is to be tried again.
    Failed,
}

impl<F: Follower> Following<F> {
    /// Not at work yet; `None` when there is nobody.
    pub fn new(to: Vec<F>, feed: Feed, share: Arc<Share>, limits: EventLimits) -> Option<Self> {
        if to.is_empty() {
            return None;
        }
        let carrier = |to| Carrier {
            to,
            feed: feed.clone(),
            share: share.clone(),
            limits,
            waiting: Mutex::default(),
        };
        Some(Self {
            carriers: to.into_iter().map(carrier).collect(),
            feed: feed.clone(),
            share: share.clone(),
            ends: watch::Sender::default(),
            look: limits.look_interval,
        })
    }

    /// Works until `end` is cancelled, then stops where it stands.
    pub async fn run(self, end: CancellationToken) {
        let work = async {
            for carrier in &self.carriers {
                while let Err(error) = carrier.begin().await {
                    let to = carrier.to.label();
                    tracing::warn!(to, ?error, "changes can't be followed; it is tried again");
                    sleep(RETRY).await;
                }
            }
            let feeds = self
                .carriers
                .iter()
                .flat_map(|carrier| (0..PARTITIONS).map(|n| carrier.follow(n, self.ends.subscribe())));
            tokio::join!(self.look(), join_all(feeds))
        };
        let _: Option<_> = end.run_until_cancelled(work).await;
    }

    /// Finds out how far the feeds go, for all.
    async fn look(&self) {
        let mut fails = false;
        loop {
            if !self.share.change_partitions().is_empty() {
                match self.feed.ends().await {
                    Ok(ends) => {
                        fails = false;
                        self.ends.send_if_modified(|known| {
                            let is_news = *known != ends;
                            *known = ends;
                            is_news
                        });
                    }
                    Err(error) if fails => tracing::debug!(?error, "feeds of changes still can't be read"),
                    Err(error) => {
                        fails = true;
                        tracing::warn!(?error, "feeds of changes can't be read; it is tried again");
                    }
                }
            }
            sleep(self.look / 2 + clock::part_of(self.look)).await;
        }
    }
}

impl<F: Follower> Carrier<F> {
    /// Has it begin where the feeds end now, unless it has begun already.
    async fn begin(&self) -> Result<(), RegistryError> {
        if self.feed.has_begun(self.to.name()).await? {
            return Ok(());
        }
        // First: what comes after that is carried.
        let ends = self.feed.ends().await?;
        self.to.begins().await?;
        self.feed.begin(self.to.name(), ends).await
    }

    async fn follow(&self, n: u8, mut ends: watch::Receiver<Ends>) {
        let mut standing = Standing::new();
        loop {
            if !self.share.change_partitions().contains(&n) {
                standing = Standing::new();
                self.waits(n, None);
                sleep(VIEW_CHECK).await;
                continue;
            }
            let end = ends
                .borrow_and_update()
                .get(usize::from(n))
                .copied()
                .unwrap_or_default();
            match self.step(n, end, &mut standing).await {
                Ok(Step::Idle) => drop(timeout(VIEW_CHECK, ends.changed()).await),
                Ok(Step::On) => {}
                Ok(Step::Failed) => {
                    let doubled = self.limits.pause_min
                        * 2_u32.saturating_pow(standing.failures.saturating_sub(1).min(16));
                    let longest = doubled.min(self.limits.pause_max);
                    self.to.pause(longest / 2 + clock::part_of(longest / 2)).await;
                }
                Err(error) => {
                    let to = self.to.label();
                    tracing::warn!(to, feed = n, ?error, "changes can't be read; it is tried again");
                    standing.noted = None;
                    sleep(RETRY / 2 + clock::part_of(RETRY)).await;
                }
            }
        }
    }

    /// Carries what comes next in the `n`-th feed, which goes up to `end`.
    async fn step(&self, n: u8, end: u64, standing: &mut Standing<F::Line>) -> Result<Step, RegistryError> {
        let noted = match standing.noted.take() {
            Some(noted) => noted,
            None => match self.feed.place(self.to.name(), n).await? {
                Some(noted) => noted,
                None => {
                    self.begin().await?;
                    return Ok(Step::On);
                }
            },
        };
        if noted.place.after >= end {
            standing.noted = Some(noted);
            self.waits(n, None);
            return Ok(Step::Idle);
        }
        let mut place = noted.place;
        let followed = self.feed.read(n, place.after).await?;
        if followed.missed {
            let to = self.to.label();
            tracing::error!(
                to,
                feed = n,
                "changes are gone from the feed that weren't carried"
            );
            self.to.missed(n).await?;
            place.within = 0;
        }
        let step = self.carry(n, &followed, &mut place, standing).await?;
        standing.noted = match place == noted.place {
            true => Some(noted),
            false => self.feed.note(self.to.name(), n, &noted, place).await?,
        };
        Ok(step)
    }

    /// Carries what was read, from `place` on, which moves on with it.
    async fn carry(
        &self,
        n: u8,
        followed: &Followed,
        place: &mut Place,
        standing: &mut Standing<F::Line>,
    ) -> Result<Step, RegistryError> {
        let until = Instant::now() + NOTED_AFTER;
        let begin = usize::try_from(place.within).unwrap_or(usize::MAX);
        let mut rest = followed.changes.get(begin..).unwrap_or_default();
        while let Some((change, later)) = rest.split_first() {
            self.waits(n, Some(change.at_ms));
            match self.to.take(change, later, &mut standing.line).await {
                Ok(()) => {
                    if standing.failures > 0 {
                        tracing::info!(to = self.to.label(), feed = n, "changes are taken again");
                    }
                    (standing.failures, standing.refusals) = (0, 0);
                    standing.fails_since = None;
                    place.within += 1;
                }
                Err(untaken) => {
                    self.failed(n, change, &untaken, standing);
                    let gone = self.to_give_up(rest, &untaken, standing);
                    if !gone.is_empty() {
                        self.to.given_up(gone, &untaken).await?;
                        place.within += gone.len() as u64;
                    }
                    return Ok(Step::Failed);
                }
            }
            if Instant::now() >= until && !later.is_empty() {
                return Ok(Step::On);
            }
            rest = later;
        }
        *place = Place {
            after: followed.upto,
            within: 0,
        };
        Ok(Step::On)
    }

    fn failed(&self, n: u8, change: &NameChange, untaken: &F::Untaken, standing: &mut Standing<F::Line>) {
        let (to, error) = (self.to.label(), untaken as &dyn Error);
        match standing.failures {
            0 => tracing::warn!(
                to,
                feed = n,
                error,
                "changes aren't taken; they are carried again"
            ),
            _ => tracing::debug!(to, feed = n, error, "changes still aren't taken"),
        }
        standing.failures = standing.failures.saturating_add(1);
        standing.fails_since.get_or_insert_with(Instant::now);
        if F::is_refusal(untaken) {
            standing.refusals += 1;
            tracing::debug!(to, repository = %change.repository, error, "a change was refused");
        }
    }

    /// Which of the changes that come next aren't carried any more: those that are too old, unless who is to take them has only
    /// begun to fail (a member that was away for a day carries what waited), and the first if it was refused too often.
    fn to_give_up<'a>(
        &self,
        next: &'a [NameChange],
        untaken: &F::Untaken,
        standing: &mut Standing<F::Line>,
    ) -> &'a [NameChange] {
        let kept_ms = u64::try_from(self.limits.kept.as_millis()).unwrap_or(u64::MAX);
        let oldest_ms = clock::now_ms().saturating_sub(kept_ms);
        let fails_for_long = standing
            .fails_since
            .is_some_and(|since| since.elapsed() >= self.limits.failing);
        let too_old = next.iter().take_while(|change| change.at_ms < oldest_ms);
        let mut gone = if fails_for_long { too_old.count() } else { 0 };
        if gone == 0 && F::is_refusal(untaken) && standing.refusals >= self.limits.refusals {
            standing.refusals = 0;
            gone = 1;
        }
        next.get(..gone).unwrap_or_default()
    }

    /// Since when the oldest change waits in the `n`-th feed.
    fn waits(&self, n: u8, since_ms: Option<u64>) {
        let mut waiting = self.waiting.lock();
        if let Some(place) = waiting.get_mut(usize::from(n)) {
            *place = since_ms;
        }
        let oldest_ms = waiting.iter().flatten().min();
        let age_ms = oldest_ms.map_or(0, |oldest_ms| clock::now_ms().saturating_sub(*oldest_ms));
        self.to.waits(Duration::from_millis(age_ms));
    }
}
