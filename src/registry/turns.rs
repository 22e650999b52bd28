//! One change of a repository at a time within this process (rule R4). Only for efficiency: two transactions of one
//! repository would refuse each other; that both can't win is the row's version's doing.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

use crate::oci::RepoName;

type Lock = Arc<tokio::sync::Mutex<()>>;

/// Who has the turn, by repository. There are as many entries as repositories that someone holds or waits for.
#[derive(Debug, Default)]
pub(super) struct Turns {
    locks: Mutex<HashMap<RepoName, Lock>>,
}

/// The turn at a repository; dropped, the next one has it. A waiter that is dropped leaves nothing behind, either.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    repository: &'a RepoName,
    lock: Option<Lock>,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Waits for the turn at `repository`; first come, first served.
    pub(super) async fn take<'a>(&'a self, repository: &'a RepoName) -> Turn<'a> {
        let lock = Arc::clone(self.locks.lock().entry(repository.clone()).or_default());
        // Made before the wait, so that a waiter that is dropped cleans up as well.
        let mut turn = Turn {
            turns: self,
            repository,
            lock: Some(Arc::clone(&lock)),
            guard: None,
        };
        turn.guard = Some(lock.lock_owned().await);
        turn
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.guard = None;
        let mut locks = self.turns.locks.lock();
        self.lock = None;
        // Clones are made under the same lock: with the map's alone left, nobody has or awaits the turn.
        if locks
            .get(self.repository)
            .is_some_and(|lock| Arc::strong_count(lock) == 1)
        {
            locks.remove(self.repository);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_has_the_turn_and_nothing_stays_behind() {
        let turns = Turns::default();
        let names: Vec<RepoName> = ["a", "b"].iter().map(|name| name.parse().unwrap()).collect();
        let at_work = [AtomicUsize::new(0), AtomicUsize::new(0)];
        let work = (0..60).map(|n| {
            let (name, at_work, turns) = (&names[n % 2], &at_work[n % 2], &turns);
            async move {
                let turn = tokio::time::timeout(Duration::from_millis(n as u64), turns.take(name)).await;
                let Ok(_turn) = turn else { return };
                assert_eq!(at_work.fetch_add(1, Ordering::SeqCst), 0);
                tokio::time::sleep(Duration::from_millis(3)).await;
                at_work.fetch_sub(1, Ordering::SeqCst);
            }
        });
        join_all(work).await;
        assert!(turns.locks.lock().is_empty());
    }
}
