//! Runs of retention: what each is called, and which repositories it deleted something from, so that all of it can be undone.

use super::super::{Registry, Result, fence, row, upkeep::millis};
use crate::{
    clock,
    oci::{Page, RepoName},
    registry::Names,
    storage::{Expect, MAX_OPS, Space, Version, keys, rows},
};

/// Random bytes in the name of a run, which begins with its time.
const RANDOM: usize = 3;

/// What a run that begins now is called. Later runs sort after it.
pub fn new_run() -> String {
    let random = &Version::random().to_bytes()[..RANDOM];
    format!("{}{}", time(clock::now_ms()), hex::encode(random))
}

/// Such that times sort, for as long as numbers of milliseconds have twelve digits.
fn time(at_ms: u64) -> String {
    format!("{at_ms:012x}")
}

impl Registry {
    /// The repositories that a run deleted something from and that are `included`, in byte order.
    pub async fn repositories_of_run(
        &self,
        run: &str,
        page: &Page,
        included: &(dyn Fn(&RepoName) -> bool + Send + Sync),
    ) -> Result<Names> {
        let is_included = |name: &str| RepoName::parse(name).is_ok_and(|name| included(&name));
        let prefix = keys::parts_of_run(run);
        self.names_of(keys::RUNS, &prefix, page, &is_included).await
    }

    /// Says that the run deletes something from the repository, before it does.
    pub(super) async fn note_run(&self, run: &str, repository: &RepoName) -> Result<()> {
        let part = rows::RunPart {
            min_reader: rows::SCHEMA,
            noted_ms: clock::now_ms(),
        };
        let op = keys::run_part(run, repository).put(Expect::Any, row::bytes(&part));
        fence::write(&*self.meta, &[op], self.settings.limits.attempts).await
    }

    /// Forgets what can't be undone any more: one request where there is nothing to forget.
    pub async fn forget_runs(&self) -> Result<()> {
        let kept_ms = self
            .history_ms()
            .saturating_add(millis(self.settings.limits.clock_margin));
        let ended_ms = clock::now_ms().saturating_sub(kept_ms);
        let ended = time(ended_ms);
        let mut after: Option<String> = None;
        loop {
            let page = self
                .meta
                .range(Space::Repositories, keys::RUNS, "", after.as_deref(), MAX_OPS)
                .await?;
            after = page.entries.last().map(|part| part.sort.clone());
            // Runs that began later have no part that is over; one that took long may have parts that aren't.
            let is_last = !page.more || after.as_ref().is_none_or(|last| *last >= ended);
            let mut ops = Vec::new();
            for part in page.entries.into_iter().filter(|part| part.sort < ended) {
                let noted: rows::RunPart = row::read(&part.row)?;
                if noted.noted_ms < ended_ms {
                    ops.push(keys::run_part_listed(part.sort).delete(Expect::Version(part.row.version)));
                }
            }
            if !ops.is_empty() {
                fence::write(&*self.meta, &ops, self.settings.limits.attempts).await?;
            }
            if is_last {
                return Ok(());
            }
        }
    }
}
