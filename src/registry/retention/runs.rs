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
    /// The repositories that a run deleted something from, in byte order.
    pub async fn repositories_of_run(&self, run: &str, page: &Page) -> Result<Names> {
        self.names(keys::RUNS, &keys::parts_of_run(run), page).await
    }

    /// Says that the run deletes something from the repository, before it does.
    pub(super) async fn note_run(&self, run: &str, repository: &RepoName) -> Result<()> {
        let part = rows::RunPart {
            min_reader: rows::SCHEMA,
        };
        let op = keys::run_part(run, repository).put(Expect::Any, row::bytes(&part));
        fence::write(&*self.meta, &[op], self.settings.attempts).await
    }

    /// Forgets what can't be undone any more.
    pub async fn forget_runs(&self) -> Result<()> {
        let kept_ms = self
            .history_ms()
            .saturating_add(millis(self.settings.clock_margin));
        let ended = time(clock::now_ms().saturating_sub(kept_ms));
        loop {
            let page = self
                .meta
                .range(Space::Repositories, keys::RUNS, "", None, MAX_OPS)
                .await?;
            let over = page.entries.into_iter().filter(|part| part.sort < ended);
            let ops: Vec<_> = over
                .map(|part| keys::run_part_listed(part.sort).delete(Expect::Any))
                .collect();
            if ops.is_empty() {
                return Ok(());
            }
            fence::write(&*self.meta, &ops, self.settings.attempts).await?;
        }
    }
}
