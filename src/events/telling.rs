//! The workers that tell sinks what the feeds have.
//!
//! Each feed is told by one member, the first in the ranking of those that live, which may change at any moment. The place in the
//! store is what counts: a member tells on from there, and notes what it has told; finding that another one has noted something,
//! it reads the place again. So every event's first telling is after that of all before it in its repository, whoever dies
//! wherever; what was told and not noted is told again, with the same id.
//!
//! What waits for a sink waits in the feed, which is kept anyway: nothing of it is in memory, and no request knows of it.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    error::{SinkError, Untold},
    event::{CloudEvent, Naming, events_of},
    sink::{Line, Sink},
};
use crate::{
    clock, config,
    config::{EventSink, Limits, limits::EventLimits},
    maintenance::Share,
    oci::{Algorithm, Digest, Reference},
    registry::{
        Registry, RegistryError,
        changes::{Ends, Feed, Followed, NameChange, NotedPlace, PARTITIONS, Place},
    },
    telemetry::{EventOutcome, Metrics},
};

/// How often it is looked whether members came or went, which costs no request.
const VIEW_CHECK: Duration = Duration::from_secs(2);
/// For how long one tells before one notes it: who dies leaves so much to be told again.
const NOTED_AFTER: Duration = Duration::from_secs(2);
/// After which the store is asked again that failed.
const RETRY: Duration = Duration::from_secs(5);

/// Tells all sinks.
pub struct Telling {
    feed: Feed,
    share: Arc<Share>,
    ends: watch::Sender<Ends>,
    look: Duration,
    tellers: Vec<Teller>,
}

/// Tells one sink.
struct Teller {
    /// As followers of feeds are told apart.
    name: String,
    /// As metrics and logs call it: its key in the configuration.
    label: String,
    sink: Sink,
    naming: Naming,
    feed: Feed,
    registry: Arc<Registry>,
    share: Arc<Share>,
    metrics: Arc<Metrics>,
    limits: EventLimits,
    /// When the oldest change was made that waits in each feed, in milliseconds since the Unix epoch.
    waiting: Mutex<[Option<u64>; PARTITIONS as usize]>,
}

/// Whether a sink could be told, as far as this machine knows.
///
/// # Errors
/// As [`Telling::new`].
pub fn examine(sink: &EventSink, limits: &Limits) -> Result<(), SinkError> {
    Sink::new(sink, limits.events.connect).map(drop)
}

impl Telling {
    /// Not at work yet; `None` when nobody is to be told.
    ///
    /// # Errors
    /// [`SinkError`]: certificates or credentials of a sink can't be used.
    pub fn new(
        config: &config::Events,
        registry: &Arc<Registry>,
        share: Share,
        metrics: &Arc<Metrics>,
        limits: &Limits,
    ) -> Result<Option<Self>, SinkError> {
        if config.sinks.is_empty() {
            return Ok(None);
        }
        let (feed, share) = (Feed::new(registry.clone()), Arc::new(share));
        let tellers = config.sinks.iter().enumerate().map(|(i, sink)| {
            Ok(Teller {
                name: name(sink),
                label: format!("sinks[{i}]"),
                sink: Sink::new(sink, limits.events.connect)?,
                naming: Naming::from(config),
                feed: feed.clone(),
                registry: registry.clone(),
                share: share.clone(),
                metrics: metrics.clone(),
                limits: limits.events,
                waiting: Mutex::default(),
            })
        });
        Ok(Some(Self {
            tellers: tellers.collect::<Result<_, SinkError>>()?,
            feed,
            share,
            ends: watch::Sender::default(),
            look: limits.events.look_interval,
        }))
    }

    /// Works until `end` is cancelled, then stops where it stands.
    pub async fn run(self, end: CancellationToken) {
        let work = async {
            for teller in &self.tellers {
                while let Err(error) = self.feed.begin(&teller.name).await {
                    tracing::warn!(
                        sink = teller.label,
                        ?error,
                        "events can't be followed; it is tried again"
                    );
                    sleep(RETRY).await;
                }
            }
            let feeds = self
                .tellers
                .iter()
                .flat_map(|teller| (0..PARTITIONS).map(|n| teller.follow(n, self.ends.subscribe())));
            tokio::join!(self.look(), join_all(feeds))
        };
        let _: Option<_> = end.run_until_cancelled(work).await;
    }

    /// Finds out how far the feeds go, for all sinks.
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

/// The names by which those who are told follow the feeds.
#[must_use]
pub fn followers(config: &config::Events) -> Vec<String> {
    config.sinks.iter().map(name).collect()
}

/// The same as long as the same somebody is told, whatever the order of the sinks, certificates and passwords.
fn name(sink: &EventSink) -> String {
    let about = format!(
        "{:?} {} {}",
        sink.kind,
        sink.address,
        sink.channel.as_deref().unwrap_or_default()
    );
    let digest = Digest::of(Algorithm::Sha256, about.as_bytes());
    let hex = digest.as_str().trim_start_matches("sha256:");
    hex.chars().take(32).collect()
}

/// Where one is who tells.
#[derive(Default)]
struct Telephone {
    line: Line,
    noted: Option<NotedPlace>,
    /// Failures in a row.
    failures: u32,
    /// When the first of them was.
    fails_since: Option<Instant>,
    /// Refusals in a row of the event that is next.
    refusals: u32,
}

enum Step {
    /// There is nothing to tell.
    Idle,
    /// Something was told.
    On,
    /// It is to be tried again.
    Failed,
}

impl Teller {
    async fn follow(&self, n: u8, mut ends: watch::Receiver<Ends>) {
        let mut telephone = Telephone::default();
        loop {
            if !self.share.change_partitions().contains(&n) {
                telephone = Telephone::default();
                self.waits(n, None);
                sleep(VIEW_CHECK).await;
                continue;
            }
            let end = ends
                .borrow_and_update()
                .get(usize::from(n))
                .copied()
                .unwrap_or_default();
            match self.step(n, end, &mut telephone).await {
                Ok(Step::Idle) => drop(timeout(VIEW_CHECK, ends.changed()).await),
                Ok(Step::On) => {}
                Ok(Step::Failed) => {
                    let doubled = self.limits.pause_min
                        * 2_u32.saturating_pow(telephone.failures.saturating_sub(1).min(16));
                    let longest = doubled.min(self.limits.pause_max);
                    sleep(longest / 2 + clock::part_of(longest / 2)).await;
                }
                Err(error) => {
                    tracing::warn!(
                        sink = self.label,
                        feed = n,
                        ?error,
                        "events can't be read; it is tried again"
                    );
                    telephone.noted = None;
                    sleep(RETRY / 2 + clock::part_of(RETRY)).await;
                }
            }
        }
    }

    /// Tells what comes next in the `n`-th feed, which goes up to `end`.
    async fn step(&self, n: u8, end: u64, telephone: &mut Telephone) -> Result<Step, RegistryError> {
        let noted = match telephone.noted.take() {
            Some(noted) => noted,
            None => match self.feed.place(&self.name, n).await? {
                Some(noted) => noted,
                None => {
                    self.feed.begin(&self.name).await?;
                    return Ok(Step::On);
                }
            },
        };
        if noted.place.after >= end {
            telephone.noted = Some(noted);
            self.waits(n, None);
            return Ok(Step::Idle);
        }
        let mut place = noted.place;
        let followed = self.feed.read(n, place.after).await?;
        if followed.missed {
            self.metrics.events(&self.label, EventOutcome::Missed, 1);
            tracing::error!(
                sink = self.label,
                feed = n,
                "changes are gone from the feed that weren't told"
            );
            place.within = 0;
        }
        let step = self.tell_all(n, &followed, &mut place, telephone).await;
        telephone.noted = match place == noted.place {
            true => Some(noted),
            false => self.feed.note(&self.name, n, &noted, place).await?,
        };
        Ok(step)
    }

    /// Tells what was read, from `place` on, which moves on with it.
    async fn tell_all(
        &self,
        n: u8,
        followed: &Followed,
        place: &mut Place,
        telephone: &mut Telephone,
    ) -> Step {
        let until = Instant::now() + NOTED_AFTER;
        let begin = usize::try_from(place.within).unwrap_or(usize::MAX);
        let changes = followed.changes.get(begin..).unwrap_or_default();
        for (i, change) in changes.iter().enumerate() {
            self.waits(n, Some(change.at_ms));
            match self.tell(change, &mut telephone.line).await {
                Ok(()) => {
                    if telephone.failures > 0 {
                        tracing::info!(sink = self.label, feed = n, "events are taken again");
                    }
                    (telephone.failures, telephone.refusals) = (0, 0);
                    telephone.fails_since = None;
                    place.within += 1;
                }
                Err(untold) => {
                    self.failed(n, change, &untold, telephone);
                    place.within +=
                        self.given_up(n, changes.get(i..).unwrap_or_default(), &untold, telephone);
                    return Step::Failed;
                }
            }
            if Instant::now() >= until && i + 1 < changes.len() {
                return Step::On;
            }
        }
        *place = Place {
            after: followed.upto,
            within: 0,
        };
        Step::On
    }

    /// All events of a change, in their order.
    async fn tell(&self, change: &NameChange, line: &mut Line) -> Result<(), Untold> {
        for mut event in events_of(change, &self.naming) {
            self.complete(change, &mut event).await;
            let told = self.sink.tell(line, &event).await;
            let outcome = match told {
                Ok(()) => EventOutcome::Told,
                Err(_) => EventOutcome::Failed,
            };
            self.metrics.events(&self.label, outcome, 1);
            told?;
        }
        Ok(())
    }

    /// With the manifest's document, as zot has it, unless it is gone by now or can't be read.
    async fn complete(&self, change: &NameChange, event: &mut CloudEvent) {
        let Some(manifest) = &event.manifest else { return };
        let reference = Reference::Digest(manifest.digest.clone());
        if let Ok((_, document)) = self.registry.manifest(&change.repository, &reference).await
            && let Ok(document) = std::str::from_utf8(&document)
        {
            event
                .data
                .insert("manifest".to_owned(), Value::String(document.to_owned()));
        }
    }

    fn failed(&self, n: u8, change: &NameChange, untold: &Untold, telephone: &mut Telephone) {
        let error = untold as &dyn std::error::Error;
        match telephone.failures {
            0 => tracing::warn!(
                sink = self.label,
                feed = n,
                error,
                "events aren't taken; they are told again"
            ),
            _ => tracing::debug!(sink = self.label, feed = n, error, "events still aren't taken"),
        }
        telephone.failures = telephone.failures.saturating_add(1);
        telephone.fails_since.get_or_insert_with(Instant::now);
        if let Untold::Refused(status) = untold {
            telephone.refusals += 1;
            tracing::debug!(sink = self.label, repository = %change.repository, %status, "an event was refused");
        }
    }

    /// How many of the changes that come next aren't told any more: those that are too old, unless the sink has only begun to
    /// fail (a member that was away for a day tells what waited), and the first if its event was refused too often.
    fn given_up(&self, n: u8, next: &[NameChange], untold: &Untold, telephone: &mut Telephone) -> u64 {
        let kept_ms = u64::try_from(self.limits.kept.as_millis()).unwrap_or(u64::MAX);
        let oldest_ms = clock::now_ms().saturating_sub(kept_ms);
        let fails_for_long = telephone
            .fails_since
            .is_some_and(|since| since.elapsed() >= self.limits.failing);
        let too_old = next.iter().take_while(|change| change.at_ms < oldest_ms);
        let mut gone = if fails_for_long { too_old.count() } else { 0 };
        if gone == 0 && telephone.refusals >= self.limits.refusals {
            telephone.refusals = 0;
            gone = 1;
        }
        let given_up = next.get(..gone).unwrap_or_default();
        let events: usize = given_up
            .iter()
            .map(|change| events_of(change, &self.naming).len())
            .sum();
        if events > 0 {
            self.metrics
                .events(&self.label, EventOutcome::GivenUp, events as u64);
            let error = untold as &dyn std::error::Error;
            tracing::error!(sink = self.label, feed = n, events, error, "events were given up");
        }
        gone as u64
    }

    /// Since when the oldest change waits in the `n`-th feed.
    fn waits(&self, n: u8, since_ms: Option<u64>) {
        let mut waiting = self.waiting.lock();
        if let Some(place) = waiting.get_mut(usize::from(n)) {
            *place = since_ms;
        }
        let oldest_ms = waiting.iter().flatten().min();
        let age_ms = oldest_ms.map_or(0, |oldest_ms| clock::now_ms().saturating_sub(*oldest_ms));
        self.metrics
            .events_waiting(&self.label, Duration::from_millis(age_ms));
    }
}
