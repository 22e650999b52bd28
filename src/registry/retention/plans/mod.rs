//! Plans: what retention would delete, told beforehand, and then deleted as it was told.
//!
//! A plan is rows, and is carried on a piece at a time by whoever is asked, so it needs no member that stays and no more memory than
//! the largest repository: repositories are looked at in the order of the catalogue; then it is found out which blobs each doesn't
//! need any more; then which of them nobody else links, so that bytes count once for all repositories. Applied, what the policies still
//! don't keep and nobody has touched goes, by the steps of any run of retention whose id is the plan's: so it is undone like one.
//!
//! The plan's own row fences it: of two who carry on the same piece one writes it down.
//!
//! Absent on purpose: who may ask, and how long a piece takes.

mod apply;
mod items;
mod look;
mod size;
#[cfg(test)]
mod slow;
#[cfg(test)]
mod tests;

use tokio::time::Instant;

pub use self::items::{PlanItem, PlanPage};
use super::new_run;
use crate::{
    clock,
    config::Retention,
    registry::{
        Registry, RegistryError, Result,
        fence::{self, Fenced},
        pages::Pages,
        row,
        upkeep::millis,
    },
    storage::{Expect, MAX_OPS, MAX_PAGE, Op, Row, Space, Version, keys, rows, rows::PlanState},
};

/// A plan as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct RetentionPlan {
    /// Its name, and that of the run that applies it.
    pub id: String,
    /// How far it is.
    pub stage: PlanStage,
    /// What of the stage is done, from 0 to 1, about.
    pub progress: f64,
    /// Who asked for it; empty is nobody known.
    pub by: String,
    /// In milliseconds since the Unix epoch.
    pub begun_ms: u64,
    /// When it is forgotten, likewise.
    pub ends_ms: u64,
    /// Repositories that were looked at.
    pub looked_at: u64,
    /// Those of them that something goes from.
    pub concerned: u64,
    /// Those that can't be read: nothing goes from them.
    pub unread: u64,
    /// Tags that go.
    pub tags: u64,
    /// Manifests that go.
    pub manifests: u64,
    /// Bytes that nothing refers to any more then; known once it is ready.
    pub bytes: Option<u64>,
    /// What came of it, once it is being applied.
    pub applied: Option<Applied>,
}

/// What came of a plan so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Repositories that are done.
    pub repositories: u64,
    /// Tags that went.
    pub tags: u64,
    /// Manifests that went.
    pub manifests: u64,
    /// Tags and manifests that were left.
    pub left: u64,
}

/// How far a plan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanStage {
    /// Repositories are looked at.
    Looking,
    /// It is found out what manifests reference.
    Sizing,
    /// It is found out what others reference, too.
    Counting,
    /// It can be applied.
    Ready,
    /// It is being applied.
    Applying,
    /// All of it is done.
    Applied,
}

impl PlanStage {
    /// In one word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Looking => "looking",
            Self::Sizing => "sizing",
            Self::Counting => "counting",
            Self::Ready => "ready",
            Self::Applying => "applying",
            Self::Applied => "applied",
        }
    }
}

/// A plan as it was read, to be carried on.
#[derive(Clone, Debug)]
struct Noted {
    id: String,
    row: rows::Plan,
    version: Version,
}

impl Registry {
    /// Begins a plan: nothing is looked at yet. Of more plans than are kept the oldest ones end, unless they are being applied.
    pub async fn begin_plan(&self, by: &str) -> Result<RetentionPlan> {
        let until = Instant::now() + self.settings.limits.plan_step;
        // What stays of former ones isn't in the way of this one.
        if let Err(error) = self.forget_plans(Some(until)).await {
            tracing::warn!(?error, "not all of former plans of retention could be removed");
        }
        let mut kept = self.noted_plans().await?;
        let now_ms = clock::now_ms();
        kept.retain(|plan| plan.row.state() != PlanState::Applying);
        let too_many = (kept.len() + 1).saturating_sub(self.settings.limits.plans);
        for oldest in kept.into_iter().take(too_many) {
            let row = rows::Plan {
                ends_ms: now_ms,
                ..oldest.row.clone()
            };
            self.note_plan(oldest, row, Vec::new()).await?;
        }
        let row = rows::Plan {
            min_reader: rows::SCHEMA,
            state: PlanState::Looking.into(),
            begun_ms: now_ms,
            ends_ms: now_ms.saturating_add(millis(self.settings.limits.plan_life)),
            by: by.to_owned(),
            repositories: self.count_repositories().await?,
            ..rows::Plan::default()
        };
        let (id, version) = (new_run(), Version::random());
        let op = keys::plan(&id).put(Expect::Absent, row::bytes(&row));
        match fence::transact(&*self.meta, version, &[op], self.commit_deadline()).await? {
            Fenced::Committed => Ok(Noted { id, row, version }.told()),
            Fenced::Refused { .. } => Err(RegistryError::Contended),
        }
    }

    /// The plan of this name.
    ///
    /// # Errors
    /// [`RegistryError::PlanUnknown`].
    pub async fn plan_of(&self, id: &str) -> Result<RetentionPlan> {
        Ok(self.noted_plan(id).await?.told())
    }

    /// All plans, the oldest first.
    pub async fn plans(&self) -> Result<Vec<RetentionPlan>> {
        let plans = self.noted_plans().await?;
        Ok(plans.into_iter().map(Noted::told).collect())
    }

    /// Carries a plan on until it is ready, or until about `until`.
    ///
    /// # Errors
    /// [`RegistryError::PlanUnknown`], and those of stores: what is done stays.
    pub async fn carry_plan_on(
        &self,
        id: &str,
        policies: &Retention,
        until: Instant,
    ) -> Result<RetentionPlan> {
        let mut plan = self.noted_plan(id).await?;
        loop {
            let stepped = match plan.row.state() {
                PlanState::Looking => self.look_on(plan, policies, until).await?,
                PlanState::Sizing => self.size_on(plan, until).await?,
                PlanState::Counting => self.count_on(plan).await?,
                PlanState::Ready | PlanState::Applying | PlanState::Applied => return Ok(plan.told()),
                PlanState::Unspecified => return Err(row::corrupt("read a plan", "it has no state")),
            };
            // Somebody else came first: from where they left it.
            plan = match stepped {
                Some(plan) => plan,
                None => self.noted_plan(id).await?,
            };
            if Instant::now() >= until {
                return Ok(plan.told());
            }
        }
    }

    /// Removes what belongs to plans that have ended, until about `until`: one request where there are none.
    pub async fn forget_plans(&self, until: Option<Instant>) -> Result<()> {
        let (now_ms, margin_ms) = (clock::now_ms(), millis(self.settings.limits.clock_margin));
        let is_time_up = || until.is_some_and(|until| Instant::now() >= until);
        let mut failed = None;
        for (id, row) in self.plan_rows().await? {
            if is_time_up() {
                break;
            }
            let plan: rows::Plan = match row::read(&row) {
                Ok(plan) => plan,
                Err(error) => {
                    failed = failed.or(Some(error));
                    continue;
                }
            };
            if plan.ends_ms.saturating_add(margin_ms) > now_ms {
                continue;
            }
            let (space, partition) = (Space::Repositories, keys::plan_partition(&id));
            loop {
                let page = self.meta.range(space, &partition, "", None, MAX_OPS).await?;
                let ops = page.entries.into_iter();
                let ops: Vec<_> = ops
                    .map(|entry| keys::plan_listed(&id, entry.sort).delete(Expect::Any))
                    .collect();
                if ops.is_empty() {
                    break;
                }
                fence::write(&*self.meta, &ops, self.settings.limits.attempts).await?;
                if is_time_up() {
                    return Ok(());
                }
            }
            // Last, for by it the rest is found.
            let last = keys::plan(&id).delete(Expect::Any);
            fence::write(&*self.meta, &[last], self.settings.limits.attempts).await?;
        }
        failed.map_or(Ok(()), Err)
    }

    /// All rows of plans, by their names: those that are kept, and some that have ended.
    async fn plan_rows(&self) -> Result<Vec<(String, Row)>> {
        let mut pages = Pages::of(Space::Repositories, keys::PLANS, "", MAX_PAGE);
        let mut rows = Vec::new();
        while let Some(page) = pages.next(&*self.meta).await? {
            rows.extend(page.into_iter().map(|entry| (entry.sort, entry.row)));
        }
        Ok(rows)
    }

    /// Those that haven't ended, but for what can't be read, as of a newer release.
    async fn noted_plans(&self) -> Result<Vec<Noted>> {
        let mut plans = Vec::new();
        for (id, row) in self.plan_rows().await? {
            match Noted::of(&id, &row) {
                Ok(plan) => plans.extend(plan),
                Err(error) => tracing::warn!(
                    plan = id,
                    ?error,
                    "a plan of retention can't be read and is left out"
                ),
            }
        }
        Ok(plans)
    }

    async fn noted_plan(&self, id: &str) -> Result<Noted> {
        let row = self.meta.get(&keys::plan(id)).await?;
        let noted = row.map(|row| Noted::of(id, &row)).transpose()?;
        noted.flatten().ok_or(RegistryError::PlanUnknown)
    }

    /// Writes how far the plan is, with what that takes; `None` when somebody else has written since it was read.
    async fn note_plan(&self, plan: Noted, row: rows::Plan, more: Vec<Op>) -> Result<Option<Noted>> {
        let version = Version::random();
        let mut ops = vec![keys::plan(&plan.id).put(Expect::Version(plan.version), row::bytes(&row))];
        ops.extend(more);
        match fence::transact(&*self.meta, version, &ops, self.commit_deadline()).await? {
            Fenced::Committed => Ok(Some(Noted {
                row,
                version,
                id: plan.id,
            })),
            Fenced::Refused { .. } => Ok(None),
        }
    }

    /// How many repositories there are: a request for each thousand.
    pub async fn count_repositories(&self) -> Result<u64> {
        let mut pages = Pages::of(Space::Repositories, keys::CATALOG, "", MAX_PAGE);
        let mut count = 0;
        while let Some(page) = pages.next(&*self.meta).await? {
            count += page.len() as u64;
        }
        Ok(count)
    }
}

impl Noted {
    /// Unless it has ended.
    fn of(id: &str, found: &Row) -> Result<Option<Self>> {
        let row: rows::Plan = row::read_to_rewrite(found)?;
        let (id, version) = (id.to_owned(), found.version);
        Ok((row.ends_ms > clock::now_ms()).then_some(Self { id, row, version }))
    }

    fn told(self) -> RetentionPlan {
        let Self { id, row, .. } = self;
        let part = |done: u64, all: u64| (done as f64 / all.max(1) as f64).min(1.0);
        let (stage, progress) = match row.state() {
            PlanState::Unspecified | PlanState::Looking => {
                (PlanStage::Looking, part(row.looked_at, row.repositories))
            }
            PlanState::Sizing => (PlanStage::Sizing, part(row.sized, row.manifests)),
            PlanState::Counting => (PlanStage::Counting, size::counted(&row.reached)),
            PlanState::Ready => (PlanStage::Ready, 1.0),
            PlanState::Applying => (PlanStage::Applying, part(row.applied, row.concerned)),
            PlanState::Applied => (PlanStage::Applied, 1.0),
        };
        let applied = Applied {
            repositories: row.applied,
            tags: row.tags_gone,
            manifests: row.manifests_gone,
            left: row.left,
        };
        RetentionPlan {
            id,
            stage,
            progress,
            by: row.by,
            begun_ms: row.begun_ms,
            ends_ms: row.ends_ms,
            looked_at: row.looked_at,
            concerned: row.concerned,
            unread: row.unread,
            tags: row.tags,
            manifests: row.manifests,
            bytes: matches!(stage, PlanStage::Ready | PlanStage::Applying | PlanStage::Applied)
                .then_some(row.bytes),
            applied: matches!(stage, PlanStage::Applying | PlanStage::Applied).then_some(applied),
        }
    }
}
