//! A plan is carried out: what it named goes, as far as it is as it was and the policies still don't keep it.
//!
//! What went is told by the repository's history, whose changes name the run, and not by who made them: so it is right whoever died
//! meanwhile, and whoever else carried on.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::{
    super::{
        Carried, Mode, Retained, TRIES,
        decide::{Facts, Planned, decide},
        tell,
    },
    Noted, RetentionPlan,
    items::Part,
    look::{Reading, is_its_own},
};
use crate::{
    config::Retention,
    oci::{RepoName, Tag},
    registry::{Registry, RegistryError, Result, changes::Why, row, undo::Look, upkeep::millis},
    storage::{rows, rows::PlanLeft, rows::PlanState},
};

/// What came of a repository.
#[derive(Default)]
struct Outcome {
    tags: u64,
    manifests: u64,
    left: u64,
}

/// How far a repository is.
enum CarriedOut {
    /// It is done; it was so when it was seen last.
    Whole(Facts),
    /// Some of it has gone.
    InPart,
    /// It can't be read in time, or changes all the while: what is left stays, for those behind it are to be reached.
    GivenUp,
}

/// What a run deleted from a repository.
#[derive(Default)]
struct Went {
    /// The history is longer than could be read.
    is_in_part: bool,
    tags: BTreeSet<(String, String)>,
    manifests: BTreeSet<String>,
}

impl Registry {
    /// Applies a plan that is ready, or goes on with it, until it is done or until about `until`.
    ///
    /// # Errors
    /// [`RegistryError::PlanUnknown`], [`RegistryError::PlanUnready`], and those of stores: what is done stays.
    pub async fn apply_plan(&self, id: &str, policies: &Retention, until: Instant) -> Result<RetentionPlan> {
        let mut plan = self.noted_plan(id).await?;
        loop {
            let applied = match plan.row.state() {
                PlanState::Ready => {
                    let mut row = plan.row.clone();
                    row.set_state(PlanState::Applying);
                    self.note_plan(plan, row, Vec::new()).await?
                }
                PlanState::Applying => self.apply_next(plan, policies, until).await?,
                PlanState::Applied => return Ok(plan.told()),
                PlanState::Unspecified | PlanState::Looking | PlanState::Sizing | PlanState::Counting => {
                    return Err(RegistryError::PlanUnready);
                }
            };
            plan = match applied {
                Some(plan) => plan,
                None => self.noted_plan(id).await?,
            };
            if Instant::now() >= until {
                return Ok(plan.told());
            }
        }
    }

    /// Carries the plan out in the next repository; where there is no time for all of it the plan stays at that. `None` when somebody
    /// else does, too.
    async fn apply_next(&self, plan: Noted, policies: &Retention, until: Instant) -> Result<Option<Noted>> {
        let reached = RepoName::parse(&plan.row.reached).ok();
        let mut row = plan.row.clone();
        let Some(part) = self.next_part(&plan.id, reached.as_ref()).await? else {
            row.set_state(PlanState::Applied);
            return self.note_plan(plan, row, Vec::new()).await;
        };
        row.reached = part.repository.as_str().to_owned();
        if !part.row.unread {
            let Some(outcome) = self.apply_in(&plan, &part, policies, until).await? else {
                return Ok(Some(plan));
            };
            row.applied += 1;
            row.tags_gone += outcome.tags;
            row.manifests_gone += outcome.manifests;
            row.left += outcome.left;
        }
        self.note_plan(plan, row, Vec::new()).await
    }

    /// `None` when there was no time for all of it.
    async fn apply_in(
        &self,
        plan: &Noted,
        part: &Part,
        policies: &Retention,
        until: Instant,
    ) -> Result<Option<Outcome>> {
        let mut all = self.all_items(&plan.id, part).await?;
        let mut planned = Planned::default();
        for item in all.iter().flatten() {
            let digest = row::digest(&item.digest)?;
            if item.tag.is_empty() {
                planned.manifests.insert(digest, item.pushed_ms);
            } else {
                let tag = Tag::parse(&item.tag);
                let tag = tag.map_err(|error| row::corrupt("read a tag in a plan", error))?;
                planned.tags.insert(tag, (digest, item.pushed_ms));
            }
        }
        let facts = match self
            .carry_out_planned(plan, part, policies, &planned, until)
            .await
        {
            Ok(CarriedOut::Whole(facts)) => Some(facts),
            Ok(CarriedOut::InPart) => return Ok(None),
            Ok(CarriedOut::GivenUp) => None,
            Err(error) if is_its_own(&error) => {
                tracing::warn!(repository = %part.repository, ?error, "a plan of retention can't be applied here");
                None
            }
            Err(error) => return Err(error),
        };
        let by = Instant::now() + self.settings.limits.plan_read;
        let went = self.went(plan, &part.repository, by).await?;
        let outcome = account(&mut all, &went, facts.as_ref());
        self.write_left(&plan.id, part, all).await?;
        Ok(Some(outcome))
    }

    /// Deletes what is planned and still goes. Each time something goes, or it is given up.
    async fn carry_out_planned(
        &self,
        plan: &Noted,
        part: &Part,
        policies: &Retention,
        planned: &Planned,
        until: Instant,
    ) -> Result<CarriedOut> {
        let repository = &part.repository;
        // Without a policy everything is kept.
        let policy = policies.policy(repository).cloned().unwrap_or_default();
        let by = Instant::now() + self.settings.limits.plan_read;
        let mut retained = Retained::default();
        for _ in 0..TRIES {
            let seen = match self.read_by(by, repository, &policy).await? {
                Reading::Seen(seen) => seen,
                Reading::Gone => return Ok(CarriedOut::Whole(Facts::default())),
                Reading::Unread => break,
            };
            let decision = decide(&policy, policies.delay, &seen.facts).only(planned, &seen.facts);
            if decision.is_nothing() {
                return Ok(CarriedOut::Whole(seen.facts));
            }
            tell(repository, Mode::Deletes, &decision, &plan.id);
            self.note_run(&plan.id, repository).await?;
            // Reading a large repository takes longer than a step: what was read is worth some deletions.
            let until = until.max(Instant::now() + self.settings.limits.plan_step);
            let carried = self.carry_out(
                repository,
                seen.row,
                decision,
                &plan.id,
                Some(until),
                &mut retained,
            );
            match carried.await? {
                Carried::Whole => return Ok(CarriedOut::Whole(seen.facts)),
                Carried::Outrun => {}
                Carried::TimeIsUp => return Ok(CarriedOut::InPart),
            }
        }
        Ok(match retained.tags + retained.manifests {
            0 => CarriedOut::GivenUp,
            _ => CarriedOut::InPart,
        })
    }

    /// What the plan's run deleted from the repository, as far as its history can be read until `by`.
    async fn went(&self, plan: &Noted, repository: &RepoName, by: Instant) -> Result<Went> {
        let mut went = Went::default();
        let margin_ms = millis(self.settings.limits.clock_margin);
        let begun_ms = plan.row.begun_ms.saturating_sub(margin_ms);
        let looked = self.look_back(repository, by, None, |change| {
            if change.at_ms < begun_ms {
                return Look::NoFurther;
            }
            if change.why == Some(Why::Retention) && change.by == plan.id {
                let manifests = change.went.iter();
                went.manifests
                    .extend(manifests.map(|manifest| manifest.digest.as_str().to_owned()));
                for moved in &change.tags {
                    if let (Some(from), None) = (&moved.from, &moved.to) {
                        let tag = moved.tag.as_str().to_owned();
                        went.tags.insert((tag, from.digest.as_str().to_owned()));
                    }
                }
            }
            Look::Further
        });
        let looked = tokio::time::timeout_at(by, looked).await;
        match looked.unwrap_or(Err(RegistryError::Deadline)) {
            Err(RegistryError::Deadline) => {
                tracing::warn!(%repository, plan = plan.id, "a plan of retention can't say of all that has gone whether it went by it");
                went.is_in_part = true;
            }
            looked => looked?,
        }
        Ok(went)
    }
}

/// Says of what didn't go why it was left, by the repository as it was seen last, if it could be.
fn account(all: &mut [Vec<rows::PlanItem>], went: &Went, facts: Option<&Facts>) -> Outcome {
    let tags = facts.iter().flat_map(|facts| &facts.tags);
    let tags: BTreeMap<&str, _> = tags.map(|fact| (fact.tag.as_str(), fact)).collect();
    let manifests = facts.iter().flat_map(|facts| &facts.manifests);
    let manifests: BTreeMap<&str, u64> = manifests
        .map(|(digest, fact)| (digest.as_str(), fact.pushed_ms))
        .collect();
    let mut outcome = Outcome::default();
    for item in all.iter_mut().flatten() {
        let has_gone = match item.tag.as_str() {
            "" => went.manifests.contains(&item.digest),
            tag => went.tags.contains(&(tag.to_owned(), item.digest.clone())),
        };
        match (has_gone, item.tag.is_empty()) {
            (true, true) => outcome.manifests += 1,
            (true, false) => outcome.tags += 1,
            (false, _) => outcome.left += 1,
        }
        if has_gone {
            continue;
        }
        let now = match item.tag.as_str() {
            "" => manifests
                .get(item.digest.as_str())
                .map(|pushed_ms| *pushed_ms == item.pushed_ms),
            tag => tags
                .get(tag)
                .map(|fact| fact.digest.as_str() == item.digest && fact.pushed_ms == item.pushed_ms),
        };
        item.set_left(match (facts, now) {
            (None, _) => PlanLeft::Unread,
            (Some(_), None) if went.is_in_part => PlanLeft::Untold,
            (Some(_), None) => PlanLeft::Gone,
            (Some(_), Some(false)) => PlanLeft::Moved,
            (Some(_), Some(true)) => PlanLeft::Kept,
        });
    }
    outcome
}
