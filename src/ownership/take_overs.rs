//! The repositories that this member took over from others lately, for who watches the mesh.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;

use crate::oci::RepoName;

/// So many are remembered.
const LATEST: usize = 64;

/// A change by which a repository got another holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakeOver {
    /// The repository.
    pub repository: RepoName,
    /// The member that held it, as its row said.
    pub from: String,
    /// The member that holds it since.
    pub by: String,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
}

/// The latest of them, in memory. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct TakeOvers(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    latest: VecDeque<TakeOver>,
    total: u64,
}

impl TakeOvers {
    /// It has happened: the transaction is committed.
    pub fn note(&self, take_over: TakeOver) {
        let mut inner = self.0.lock();
        inner.latest.truncate(LATEST - 1);
        inner.latest.push_front(take_over);
        inner.total += 1;
    }

    /// The latest first, and how many there were in all.
    pub fn latest(&self) -> (Vec<TakeOver>, u64) {
        let inner = self.0.lock();
        (inner.latest.iter().cloned().collect(), inner.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_remembered_and_all_are_counted() {
        let take_overs = TakeOvers::default();
        for n in 0..100 {
            take_overs.note(TakeOver {
                repository: format!("a/{n}").parse().unwrap(),
                from: "a:1".to_owned(),
                by: "b:1".to_owned(),
                at_ms: n,
            });
        }
        let (latest, total) = take_overs.latest();
        let times: Vec<u64> = latest.iter().map(|take_over| take_over.at_ms).collect();
        assert_eq!(times, (36..100).rev().collect::<Vec<_>>());
        assert_eq!(total, 100);
    }
}
