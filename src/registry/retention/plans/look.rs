//! Which tags and manifests go: repositories are looked at in the order of the catalogue.

use tokio::time::{Instant, timeout_at};

use super::{
    super::{Seen, decide::decide},
    Noted,
    items::{Part, items_of},
};
use crate::{
    clock,
    config::{Retention, RetentionPolicy},
    oci::{MAX_PAGE, Page, RepoName},
    registry::{Registry, RegistryError, Result, row},
    storage::{Op, StoreErrorKind, Version, keys, rows, rows::PlanState},
};

/// What came of reading a repository.
pub(super) enum Reading {
    Seen(Seen),
    /// There is none.
    Gone,
    /// It can't be read, or not in time: others can.
    Unread,
}

/// What goes from a repository.
struct Found {
    part: Part,
    tags: u64,
    manifests: u64,
    /// Bytes of the manifests themselves, which no other repository shares.
    bytes: u64,
}

impl Registry {
    /// Looks at repositories for a while, one at least. `None` when somebody else does, too.
    pub(super) async fn look_on(
        &self,
        mut plan: Noted,
        policies: &Retention,
        until: Instant,
    ) -> Result<Option<Noted>> {
        let page = Page {
            limit: MAX_PAGE,
            last: Some(plan.row.reached.clone()).filter(|last| !last.is_empty()),
        };
        let names = self.catalog(&page).await?;
        let mut row = plan.row.clone();
        let mut is_interrupted = false;
        for name in names.names {
            row.looked_at += 1;
            let named = RepoName::parse(&name).ok();
            row.reached = name;
            let found = match named {
                Some(repository) => self.find(&plan.id, repository, policies).await?,
                None => None,
            };
            if let Some(found) = found {
                let op = found.noted(&plan.id, &mut row);
                plan = match self.note_plan(plan, row.clone(), vec![op]).await? {
                    Some(plan) => plan,
                    None => return Ok(None),
                };
            }
            if Instant::now() >= until {
                is_interrupted = true;
                break;
            }
        }
        if !names.more && !is_interrupted {
            row.reached = String::new();
            row.set_state(PlanState::Sizing);
        }
        self.note_plan(plan, row, Vec::new()).await
    }

    /// Reads what policies ask about a repository until `by`, so that none is in the way of those behind it.
    pub(super) async fn read_by(
        &self,
        by: Instant,
        repository: &RepoName,
        policy: &RetentionPolicy,
    ) -> Result<Reading> {
        let late = match timeout_at(by, self.facts(repository, policy, clock::now_ms())).await {
            Ok(Ok(Some(seen))) => return Ok(Reading::Seen(seen)),
            Ok(Ok(None)) => return Ok(Reading::Gone),
            Ok(Err(error)) if is_its_own(&error) => error,
            Ok(Err(error)) => return Err(error),
            Err(_) => RegistryError::Deadline,
        };
        tracing::warn!(%repository, error = ?late, "a plan of retention leaves the repository out");
        Ok(Reading::Unread)
    }

    /// What goes from a repository, if anything does. Its items are written; what they are good for is not.
    async fn find(&self, id: &str, repository: RepoName, policies: &Retention) -> Result<Option<Found>> {
        let Some(policy) = policies.policy(&repository) else {
            return Ok(None);
        };
        let by = Instant::now() + self.settings.limits.plan_read;
        let seen = match self.read_by(by, &repository, policy).await? {
            Reading::Seen(seen) => seen,
            Reading::Gone => return Ok(None),
            Reading::Unread => {
                let row = rows::PlanPart {
                    min_reader: rows::SCHEMA,
                    unread: true,
                    ..rows::PlanPart::default()
                };
                return Ok(Some(Found::new(Part { repository, row })));
            }
        };
        let decision = decide(policy, policies.delay, &seen.facts);
        if decision.is_nothing() {
            return Ok(None);
        }
        let attempt = hex::encode(&Version::random().to_bytes()[..4]);
        let items = items_of(&decision, &seen.facts);
        let rows = self.write_items(id, &repository, &attempt, &items).await?;
        let row = rows::PlanPart {
            min_reader: rows::SCHEMA,
            rows,
            attempt,
            unread: false,
        };
        let sizes = decision.manifests.iter();
        let sizes = sizes.filter_map(|(digest, _)| Some(seen.facts.manifests.get(digest)?.size));
        Ok(Some(Found {
            tags: decision.tags.len() as u64,
            manifests: decision.manifests.len() as u64,
            bytes: sizes.sum(),
            ..Found::new(Part { repository, row })
        }))
    }
}

impl Found {
    fn new(part: Part) -> Self {
        Self {
            part,
            tags: 0,
            manifests: 0,
            bytes: 0,
        }
    }

    /// Counted in the plan's row, and its own row.
    fn noted(self, id: &str, plan: &mut rows::Plan) -> Op {
        let Part { repository, row } = self.part;
        match row.unread {
            true => plan.unread += 1,
            false => plan.concerned += 1,
        }
        plan.tags += self.tags;
        plan.manifests += self.manifests;
        plan.bytes += self.bytes;
        keys::plan_part(id, &repository).put(crate::storage::Expect::Any, row::bytes(&row))
    }
}

/// Whether it is this repository's fault, and all others can be looked at.
pub(super) fn is_its_own(error: &RegistryError) -> bool {
    match error {
        RegistryError::Store(error) => match error.kind() {
            StoreErrorKind::Unavailable
            | StoreErrorKind::Throttled
            | StoreErrorKind::Contended
            | StoreErrorKind::Full
            | StoreErrorKind::Denied => false,
            StoreErrorKind::NotFound
            | StoreErrorKind::InvalidPart
            | StoreErrorKind::Corrupt
            | StoreErrorKind::Unsupported
            | StoreErrorKind::Misuse => true,
        },
        RegistryError::ContentLost { .. } | RegistryError::NewerSchema { .. } => true,
        _ => false,
    }
}
