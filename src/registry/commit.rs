//! The one place where it changes what names mean (rules R1 to R4).
//!
//! A [`Change`] is planned against the repository's row as it is read, first of all and strongly. Whatever the plan
//! reads and validates after that still holds when its transaction commits, for the transaction expects the row's version
//! and everything that could have made the validation wrong would have changed it. Refused, the change is planned anew.
//!
//! That this member holds the repository is not asked here: a transaction makes it the holder, unless the change is
//! nobody's request.

use std::future::Future;

use tokio::time::{Instant, timeout_at};

use super::{
    Registry, RegistryError, Result,
    changes::{Changing, Taken},
    due,
    fence::{self, Fenced},
    pause::Pause,
    row,
};
use crate::{
    clock,
    oci::RepoName,
    ownership::TakeOver,
    storage::{Expect, MAX_OPS, Op, Row, StoreErrorKind, Version, keys, rows},
};

/// The repository as a change finds it.
#[derive(Debug)]
pub(super) struct Current {
    expect: Expect,
    row: rows::Repository,
    /// It is as the change's former step left it.
    continues: bool,
}

impl Current {
    /// As it was read.
    pub(super) fn of(found: Option<&Row>) -> Result<Self> {
        Ok(Self {
            expect: Expect::unchanged(found),
            row: found.map(row::read_to_rewrite).transpose()?.unwrap_or_default(),
            continues: false,
        })
    }

    /// How many manifests it has.
    pub(super) fn manifests(&self) -> u64 {
        self.row.manifests
    }

    /// Whether the change's former step was committed and nobody else has changed the repository since, if what is planned
    /// now is committed: what was read for that step still holds.
    pub(super) fn continues(&self) -> bool {
        self.continues
    }
}

/// What a change comes to.
#[derive(Debug)]
pub(super) enum Plan<T> {
    /// These operations, in one transaction with the repository's row.
    Apply {
        /// Distinct keys, the repository's row not among them, at most [`MAX_PLANNED`].
        ops: Vec<Op>,
        /// How many manifests the repository has then.
        manifests: u64,
        /// What becomes of names, if anything does.
        changing: Option<Changing>,
        /// What the caller gets when it is committed.
        outcome: T,
    },
    /// The change is too large for one transaction: these operations first. Then it is planned again, from where they left
    /// the repository.
    Step {
        /// As above.
        ops: Vec<Op>,
        /// As above.
        changing: Option<Changing>,
        /// What the caller gets who lets others have their turn before the change goes on.
        so_far: T,
    },
    /// Nothing has to change.
    Done(T),
}

/// How many steps a change makes before others have their turn.
const STEPS_A_TURN: usize = 16;

/// A transaction, and what comes after it.
struct Planned<T> {
    ops: Vec<Op>,
    outcome: T,
    /// The repository's row as the transaction leaves it, where it is one of several.
    goes_on: Option<rows::Repository>,
    /// Whether it changes names.
    changes_names: bool,
    /// Where it gives the repository another holder.
    takes_over: Option<TakeOver>,
}

/// Most operations in a plan: the row, its due-row, its catalogue entry and the row of the change complete the transaction.
pub(super) const MAX_PLANNED: usize = MAX_OPS - 4;

/// Who holds the repository after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeldBy {
    /// This member: it was asked for the change.
    Us,
    /// Who held it before: nobody asked, and requests shouldn't have to move here.
    Holder,
}

/// A change of what names in a repository mean.
pub(super) trait Change: Send {
    /// What it gives when it is done.
    type Outcome: Send;

    /// Who holds the repository then.
    const HELD_BY: HeldBy = HeldBy::Us;

    /// Validates the change by reads that begin now, and says what to write. It is called again whenever others came
    /// first, and must not have any effect that a repetition, or giving up afterwards, would make wrong.
    fn plan(&mut self, current: &Current) -> impl Future<Output = Result<Plan<Self::Outcome>>> + Send;
}

/// A change whose caller looks at it afterwards.
impl<C: Change> Change for &mut C {
    type Outcome = C::Outcome;

    const HELD_BY: HeldBy = C::HELD_BY;

    fn plan(&mut self, current: &Current) -> impl Future<Output = Result<Plan<Self::Outcome>>> + Send {
        (**self).plan(current)
    }
}

impl Registry {
    /// Makes `change` in `repository`. An error means that it wasn't made, but for
    /// [`RegistryError::OutcomeUnknown`]; it is made at most once. Of one that takes several steps each is a change by
    /// itself: those that were made stay.
    pub(super) async fn commit<C: Change>(
        &self,
        repository: &RepoName,
        deadline: Instant,
        change: C,
    ) -> Result<C::Outcome> {
        let (outcome, _) = self.attempt(repository, deadline, change, None).await?;
        Ok(outcome)
    }

    /// The same, for a caller that read the repository's row before anything that the change relies on and doesn't expect in
    /// its transaction. Gives the version of the transaction, too, if there was one.
    pub(super) async fn commit_read<C: Change>(
        &self,
        repository: &RepoName,
        deadline: Instant,
        change: C,
        current: Current,
    ) -> Result<(C::Outcome, Option<Version>)> {
        self.attempt(repository, deadline, change, Some(current)).await
    }

    async fn attempt<C: Change>(
        &self,
        repository: &RepoName,
        deadline: Instant,
        mut change: C,
        mut left: Option<Current>,
    ) -> Result<(C::Outcome, Option<Version>)> {
        let turn = timeout_at(deadline, self.turns.take(repository)).await;
        let _turn = turn.map_err(|_| RegistryError::Deadline)?;
        let mut pause = Pause::new();
        let (mut attempt, mut steps) = (0, 0);
        while attempt < self.settings.limits.attempts {
            if attempt > 0 {
                pause.wait(deadline).await;
            }
            let planned = timeout_at(deadline, self.plan(repository, left.take(), &mut change)).await;
            let Planned {
                ops,
                outcome,
                goes_on,
                changes_names,
                takes_over,
            } = planned.map_err(|_| RegistryError::Deadline)??;
            if ops.is_empty() {
                return Ok((outcome, None));
            }
            let version = Version::random();
            // However this ends, be it by nobody waiting any more.
            let marking = changes_names.then(|| self.unsettled.marking(repository));
            match fence::transact(&*self.meta, version, &ops, deadline).await {
                Ok(Fenced::Committed) => {
                    steps += 1;
                    if let Some(take_over) = takes_over {
                        self.take_overs.note(take_over);
                    }
                    let Some(row) = goes_on.filter(|_| steps < STEPS_A_TURN) else {
                        return Ok((outcome, Some(version)));
                    };
                    let expect = Expect::Version(version);
                    left = Some(Current {
                        expect,
                        row,
                        continues: true,
                    });
                    (attempt, pause) = (0, Pause::new());
                    continue;
                }
                Ok(Fenced::Refused { index, .. }) => {
                    if let Some(marking) = marking {
                        marking.not();
                    }
                    tracing::debug!(%repository, attempt, index, "another change came first");
                }
                // Not applied, as a refusal.
                Err(RegistryError::Store(error)) if error.kind() == StoreErrorKind::Contended => {
                    tracing::debug!(%repository, attempt, "contended");
                }
                Err(error) => return Err(error),
            }
            attempt += 1;
        }
        Err(RegistryError::Contended)
    }

    /// The whole transaction, the repository's row first; none if nothing has to change. The row is read unless it is known
    /// what was `left` of it.
    async fn plan<C: Change>(
        &self,
        repository: &RepoName,
        left: Option<Current>,
        change: &mut C,
    ) -> Result<Planned<C::Outcome>> {
        let current = match left {
            Some(current) => current,
            None => Current::of(self.meta.get(&keys::repository(repository)).await?.as_ref())?,
        };
        let (ops, manifests, changing, outcome, is_step) = match change.plan(&current).await? {
            Plan::Done(outcome) => {
                return Ok(Planned {
                    ops: Vec::new(),
                    outcome,
                    goes_on: None,
                    changes_names: false,
                    takes_over: None,
                });
            }
            Plan::Apply {
                ops,
                manifests,
                changing,
                outcome,
            } => (ops, manifests, changing, outcome, false),
            Plan::Step {
                ops,
                changing,
                so_far,
            } => (ops, current.manifests(), changing, so_far, true),
        };
        let (mut row, mut all) = self.replaced(repository, &current, manifests, C::HELD_BY);
        let changes_names = changing.is_some();
        let former = &current.row.holder;
        let takes_over = (!former.is_empty() && *former != row.holder).then(|| TakeOver {
            repository: repository.clone(),
            from: former.clone(),
            by: row.holder.clone(),
            at_ms: row.held_since_ms,
        });
        if let Some(changing) = changing {
            row.changed_ms = clock::now_ms().max(row.changed_ms + 1);
            let taken = takes_over.as_ref().map(|take_over| Taken {
                from: take_over.from.clone(),
                by: take_over.by.clone(),
            });
            let made = changing.made(repository, row.changed_ms, manifests, taken);
            let key = keys::unsettled_change(repository, made.at_ms);
            all.push(key.put(Expect::Absent, row::bytes(&made)));
        }
        all.insert(
            0,
            keys::repository(repository).put(current.expect, row::bytes(&row)),
        );
        all.extend(ops);
        debug_assert!(all.len() <= MAX_OPS, "the change has to be split");
        Ok(Planned {
            ops: all,
            outcome,
            goes_on: is_step.then_some(row),
            changes_names,
            takes_over,
        })
    }

    /// The repository's row as it will be, and what goes with it for its number of manifests.
    fn replaced(
        &self,
        repository: &RepoName,
        current: &Current,
        manifests: u64,
        held_by: HeldBy,
    ) -> (rows::Repository, Vec<Op>) {
        let now_ms = clock::now_ms();
        let mut row = current.row.clone();
        row.min_reader = rows::SCHEMA;
        if held_by == HeldBy::Us || row.holder.is_empty() {
            if row.holder != self.holder.member.as_str() {
                row.holder = self.holder.member.as_str().to_owned();
                row.held_since_ms = now_ms;
            }
            row.incarnation = self.holder.incarnation.to_bytes().to_vec().into();
        }
        let (existed, exists) = (row.manifests > 0, manifests > 0);
        if exists && !existed {
            row.created_ms = now_ms;
        }
        row.manifests = manifests;
        row.ends_ms = match (existed, exists) {
            (_, true) => 0,
            (true, false) => due::after(self.settings.limits.tombstone.max(self.settings.limits.history)),
            // What is collected afterwards keeps it no longer than it must.
            (false, false) => row.ends_ms.max(due::after(self.settings.limits.tombstone)),
        };

        let mut ops = Vec::with_capacity(MAX_OPS);
        let entry = keys::catalog_entry(repository);
        match (existed, exists) {
            (false, true) => {
                let listed = rows::CatalogEntry {
                    min_reader: rows::SCHEMA,
                };
                ops.push(entry.put(Expect::Any, row::bytes(&listed)));
            }
            (true, false) => ops.push(entry.delete(Expect::Any)),
            (true, true) | (false, false) => {}
        }
        if !exists {
            // The due-row of an earlier end, if there is one, will find the row with a later one.
            ops.push(self.dues.tombstone(row.ends_ms, repository));
        }
        (row, ops)
    }
}
