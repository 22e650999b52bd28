//! The worker that looks at the due-rows of one queue.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use tokio_util::sync::CancellationToken;

use super::{Share, share::Mine};
use crate::{
    clock,
    config::limits::RoundLimits,
    registry::{DueWork, Later, Registry, RegistryError, Tended},
    storage::keys::Queue,
    telemetry::Metrics,
};

/// Rows of one read: about 4 KiB, the unit that strong reads are counted in.
const PAGE: usize = 25;
/// Objects that are deleted at once, about: S3 takes 1,000.
const OBJECTS: usize = 1_000 - PAGE;
/// Rows whose failure is remembered, so that it is told once.
const REMEMBERED: usize = 1_000;
/// How often it is looked whether the time has come for rounds to begin.
const WINDOW_CHECK: Duration = Duration::from_secs(60);
/// The longest pause when there is more to do.
const BREATH: Duration = Duration::from_secs(1);

/// After one row of a partition, so that all partitions at work together keep to the pace.
pub(super) fn spacing(pace: &RoundLimits) -> Duration {
    let at_once = u32::try_from(pace.partitions_at_once.max(1)).unwrap_or(u32::MAX);
    Duration::from_secs(1) * at_once / pace.rows_per_second.max(1)
}

/// Looks at the due-rows of this member's share, round after round. A round reads the partitions once that the member writes
/// to, and few others, so its cost is that of these and of what is due, however many repositories there are.
pub struct Upkeep {
    queue: Queue,
    registry: Arc<Registry>,
    share: Share,
    metrics: Arc<Metrics>,
    pace: RoundLimits,
    // Where a partition that had more than one round's rows is carried on: rows that fail are never in the way of others.
    reached: HashMap<u16, String>,
    // When a partition that nobody is known to write to is looked at again, in milliseconds since the Unix epoch.
    turns: HashMap<u16, u64>,
    // Bytes that come free by what waits in each partition, as it was seen last.
    waiting: HashMap<u16, u64>,
    // Rows whose failure was told.
    told: HashSet<String>,
    reads: Reads,
}

/// Whether due-rows could be read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reads {
    Succeed,
    Fail,
}

/// What came of one partition in one round.
struct Visit {
    n: u16,
    /// The last row that was looked at, if there are more.
    reached: Option<String>,
    /// The oldest due time of all rows that were looked at, in milliseconds since the Unix epoch.
    oldest_ms: Option<u64>,
    /// When the first row will be due that wasn't, likewise.
    next_ms: Option<u64>,
    /// Rows that were due are still there.
    is_left: bool,
    /// Bytes that come free by what is left and by what comes later.
    waiting: u64,
    failed: Vec<(DueWork, RegistryError)>,
    unread: Option<RegistryError>,
}

impl Visit {
    /// Whether all that is due was looked at.
    fn is_whole(&self) -> bool {
        self.unread.is_none() && self.reached.is_none()
    }
}

impl Upkeep {
    /// Not at work yet.
    pub fn new(
        queue: Queue,
        registry: Arc<Registry>,
        share: Share,
        metrics: Arc<Metrics>,
        pace: RoundLimits,
    ) -> Self {
        Self {
            queue,
            registry,
            share,
            metrics,
            pace,
            reached: HashMap::new(),
            turns: HashMap::new(),
            waiting: HashMap::new(),
            told: HashSet::new(),
            reads: Reads::Succeed,
        }
    }

    /// Works until `end` is cancelled, then stops where it stands. `now_ms` is the time since the Unix epoch.
    pub async fn run(mut self, end: CancellationToken, now_ms: impl Fn() -> u64 + Send + Sync) {
        let work = async {
            let mut pause = clock::part_of(self.pace.interval);
            loop {
                tokio::time::sleep(pause).await;
                if self.pace.window.is_some_and(|window| !window.contains(now_ms())) {
                    pause = clock::part_of(WINDOW_CHECK);
                    continue;
                }
                self.round(&now_ms).await;
                pause = match self.reached.is_empty() {
                    true => self.pace.interval / 2 + clock::part_of(self.pace.interval),
                    false => clock::part_of(BREATH.min(self.pace.interval)),
                };
            }
        };
        let _: Option<()> = end.run_until_cancelled(work).await;
    }

    /// Visits every partition of the share once whose turn it is.
    pub(super) async fn round(&mut self, now_ms: impl Fn() -> u64 + Send + Sync) {
        let mine = self.turns(now_ms());
        let is_at_work = !mine.is_empty();
        let visits: Vec<Visit> = {
            let (this, now_ms) = (&*self, &now_ms);
            let visits = mine.into_iter().map(|n| this.visit(n, now_ms));
            stream::iter(visits)
                .buffer_unordered(this.pace.partitions_at_once.max(1))
                .collect()
                .await
        };
        let oldest_ms = visits.iter().filter_map(|visit| visit.oldest_ms).min();
        let overdue = oldest_ms.map_or(0, |oldest_ms| now_ms().saturating_sub(oldest_ms));
        self.metrics
            .upkeep_overdue(self.queue.name(), Duration::from_millis(overdue));
        // Those of partitions that are another member's now are forgotten.
        self.reached.clear();
        let mut unread = None;
        for visit in visits {
            self.turned(&visit, now_ms());
            // Where there is more to do the figure stays that of before: to find it out takes reading all of that.
            if visit.is_whole() {
                self.waiting.insert(visit.n, visit.waiting);
            }
            self.reached
                .extend(visit.reached.map(|reached| (visit.n, reached)));
            for (work, error) in visit.failed {
                self.tell(&work, &error);
            }
            unread = unread.or(visit.unread);
        }
        if is_at_work && unread.is_none() {
            self.metrics.upkeep_round(self.queue.name(), now_ms());
        }
        self.tell_of_reads(unread);
        if self.queue == Queue::Collection {
            self.metrics.collection_waiting(self.waiting.values().sum());
        }
    }

    /// The partitions whose turn it is. Of those that nobody is known to write to each has its turns, the first of them spread
    /// over the sweep, for a start reads none of them at once.
    fn turns(&mut self, now_ms: u64) -> Vec<u16> {
        let Mine {
            always: mut turn,
            at_times,
        } = self.share.partitions(self.queue);
        self.turns.retain(|n, _| at_times.contains(n));
        self.waiting
            .retain(|n, _| turn.contains(n) || at_times.contains(n));
        for n in at_times {
            let sweep = self.pace.sweep;
            let first = || now_ms.saturating_add(millis(clock::part_of(sweep)));
            if *self.turns.entry(n).or_insert_with(first) <= now_ms {
                turn.push(n);
            }
        }
        turn
    }

    /// When a partition has its next turn that nobody is known to write to: once something in it is due.
    fn turned(&mut self, visit: &Visit, now_ms: u64) {
        let Some(turn) = self.turns.get_mut(&visit.n) else {
            return;
        };
        let is_left = visit.is_left || visit.unread.is_some() || visit.reached.is_some();
        let sweep_ms = now_ms.saturating_add(millis(self.pace.sweep));
        *turn = match visit.next_ms {
            _ if is_left => now_ms,
            Some(next_ms) => next_ms.min(sweep_ms),
            None => sweep_ms,
        };
    }

    async fn visit(&self, n: u16, now_ms: &(impl Fn() -> u64 + Send + Sync)) -> Visit {
        let mut visit = Visit {
            n,
            reached: self.reached.get(&n).cloned(),
            oldest_ms: None,
            next_ms: None,
            is_left: false,
            waiting: 0,
            failed: Vec::new(),
            unread: None,
        };
        let mut objects = Vec::new();
        let later = self.visit_rows(&mut visit, &mut objects, now_ms).await;
        self.delete(objects, now_ms, &mut visit).await;
        if self.queue == Queue::Collection && visit.is_whole() {
            match self.registry.waiting(self.queue, n, later, now_ms()).await {
                Ok(bytes) => visit.waiting += bytes,
                Err(error) => visit.unread = Some(error),
            }
        }
        visit
    }

    /// Looks at the rows one after the other, but for those of objects, which are gathered: hundreds of them take one request.
    /// Gives what comes after them.
    async fn visit_rows(
        &self,
        visit: &mut Visit,
        objects: &mut Vec<DueWork>,
        now_ms: &(impl Fn() -> u64 + Send + Sync),
    ) -> Later {
        let mut left = self.pace.rows.max(1);
        loop {
            let (after, limit) = (visit.reached.as_deref(), PAGE.min(left));
            let page = match self
                .registry
                .due_work(self.queue, visit.n, after, limit, now_ms())
                .await
            {
                Ok(page) => page,
                Err(error) => {
                    visit.unread = Some(error);
                    return Later::default();
                }
            };
            visit.next_ms = page.next_ms;
            visit.reached = page
                .work
                .last()
                .filter(|_| page.more)
                .map(|last| last.name().to_owned());
            let oldest_ms = page.work.iter().map(DueWork::due_ms).min();
            visit.oldest_ms = visit.oldest_ms.into_iter().chain(oldest_ms).min();
            let (of_objects, others): (Vec<_>, Vec<_>) = page.work.into_iter().partition(DueWork::is_object);
            objects.extend(of_objects);
            left -= others.len().min(left);
            for work in others {
                let tended = self.registry.tend(&work, now_ms()).await;
                self.metrics.upkeep_row(work.kind(), outcome(&tended));
                visit.is_left |= is_left(&tended);
                if let Err(error) = tended {
                    visit.failed.push((work, error));
                }
                tokio::time::sleep(spacing(&self.pace)).await;
            }
            if visit.reached.is_none() || left == 0 || objects.len() >= OBJECTS {
                return page.later;
            }
        }
    }

    /// Deletes objects, all at once.
    async fn delete(
        &self,
        objects: Vec<DueWork>,
        now_ms: &(impl Fn() -> u64 + Send + Sync),
        visit: &mut Visit,
    ) {
        let Some(first) = objects.first() else {
            return;
        };
        match self.registry.delete_objects(&objects, now_ms()).await {
            Ok(tended) => {
                for tended in tended.into_iter().map(Ok) {
                    self.metrics.upkeep_row(first.kind(), outcome(&tended));
                    visit.is_left |= is_left(&tended);
                }
            }
            Err(error) => {
                let first = first.clone();
                visit.waiting += objects.iter().map(DueWork::bytes).sum::<u64>();
                self.metrics.upkeep_row(first.kind(), "failed");
                visit.is_left = true;
                visit.failed.push((first, error));
            }
        }
    }

    /// Tells of a row's failure the first time. It is tried again in each round.
    fn tell(&mut self, work: &DueWork, error: &RegistryError) {
        if self.told.len() >= REMEMBERED {
            self.told.clear();
        }
        if self.told.insert(work.name().to_owned()) {
            tracing::warn!(row = work.name(), ?error, "upkeep failed; it is tried again");
        } else {
            tracing::debug!(row = work.name(), ?error, "upkeep failed again");
        }
    }

    /// Tells when rows can't be read any more.
    fn tell_of_reads(&mut self, unread: Option<RegistryError>) {
        let reads = match unread {
            None => Reads::Succeed,
            Some(_) => Reads::Fail,
        };
        if let (Some(error), Reads::Succeed) = (unread, self.reads) {
            tracing::warn!(?error, "upkeep can't read what is due; it tries again");
        }
        self.reads = reads;
    }
}

/// Whether the row may still be there, and be done soon. One that is for a newer release waits for that.
fn is_left(tended: &Result<Tended, RegistryError>) -> bool {
    match tended {
        Ok(Tended::Done | Tended::Later | Tended::NotOurs) => false,
        Ok(Tended::Outrun) | Err(_) => true,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// As a metric's label.
fn outcome(tended: &Result<Tended, RegistryError>) -> &'static str {
    match tended {
        Ok(Tended::Done) => "done",
        Ok(Tended::Later) => "later",
        Ok(Tended::Outrun) => "outrun",
        Ok(Tended::NotOurs) => "not_ours",
        Err(_) => "failed",
    }
}
