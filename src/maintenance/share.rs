//! Which part of the shared work is this member's.

use std::{sync::Arc, time::Duration};

use crate::{
    config::Collecting,
    oci::RepoName,
    ownership::{Incarnation, LeaseView, Liveness, MemberView, Standing, View},
    placement::{self, HashKey, MemberId},
    storage::keys::{self, Homes, Queue},
};

/// After so long without renewing its lease a member that left isn't at work any more: longer than it may take to end.
const SILENT: Duration = Duration::from_secs(60);

/// The partitions of due-rows, divided among those who work on them. Each is the work of exactly one member that lives: of
/// who writes to it; where that one doesn't live, or doesn't work on the queue, of the first in the ranking of those who do.
pub struct Share {
    view: Arc<dyn View>,
    hash_key: Option<HashKey>,
}

/// What this member looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mine {
    /// What it writes to itself, and what those write to who can't look any more, or don't.
    pub(super) always: Vec<u16>,
    /// What nobody is known to write to: there may be rows of members whose names are forgotten, or of an older release.
    pub(super) at_times: Vec<u16>,
}

impl Share {
    /// As `view` sees the members. Without a key there are no others.
    pub fn new(view: Arc<dyn View>, hash_key: Option<HashKey>) -> Self {
        Self { view, hash_key }
    }

    /// The numbers of the partitions that are this member's to look at now.
    pub(super) fn partitions(&self, queue: Queue) -> Mine {
        let me = self.view.me();
        let seen = match self.hash_key {
            Some(_) => self.view.members(),
            None => Arc::default(),
        };
        let (working, others): (Vec<_>, Vec<_>) = seen
            .iter()
            .filter(|member| member.id != *me)
            .partition(|member| works(member, queue));
        let workers = self.with_me(working.into_iter().map(|member| member.id.clone()));
        let others: Vec<_> = others.into_iter().map(|member| member.id.clone()).collect();
        let mut mine = Mine::default();
        for n in 0..keys::DUE_PARTITIONS {
            let (writers, is_orphan) = (at_home(&workers, n), !at_home(&others, n).is_empty());
            let candidates = if writers.is_empty() { &workers } else { &writers };
            if !self.is_first(candidates, &queue.partition(n)) {
                continue;
            }
            match !writers.is_empty() || is_orphan {
                true => mine.always.push(n),
                false => mine.at_times.push(n),
            }
        }
        mine
    }

    /// The numbers of the partitions of changes for which this member is ranked first among those that live.
    pub fn change_partitions(&self) -> Vec<u8> {
        let seen = match self.hash_key {
            Some(_) => self.view.members(),
            None => Arc::default(),
        };
        let me = self.view.me();
        let others = seen
            .iter()
            .filter(|other| other.liveness == Liveness::Live && other.id != *me);
        let members = self.with_me(others.map(|other| other.id.clone()));
        (0..keys::CHANGE_PARTITIONS)
            .filter(|n| self.is_first(&members, &keys::unsettled_changes(*n)))
            .collect()
    }

    /// Whether what is to be done about a repository that nobody asked for is this member's: among those that collect.
    pub(super) fn has(&self, repository: &RepoName) -> bool {
        self.is_first_of(Queue::Collection, repository)
    }

    /// Whether this member is ranked first for a repository among those that live.
    pub fn serves(&self, repository: &RepoName) -> bool {
        self.is_first_of(Queue::Upkeep, repository)
    }

    /// This member, and this start of it.
    pub fn me(&self) -> (MemberId, Incarnation) {
        (self.view.me().clone(), self.view.incarnation())
    }

    /// The members that live: when they are others, so are the shares.
    pub fn members(&self) -> Vec<MemberId> {
        let seen = self.view.members();
        let live = seen.iter().filter(|member| member.liveness == Liveness::Live);
        live.map(|member| member.id.clone()).collect()
    }

    /// Whether that start of a member may still be at work, other than this one. One that left, to end or drained, ends what it began.
    pub async fn is_another(&self, by: &(MemberId, Incarnation)) -> bool {
        if by.0 == *self.view.me() {
            return false;
        }
        // It may have come since the members were last looked at.
        if !self.is_at_work(by) {
            self.view.look().await;
        }
        self.is_at_work(by)
    }

    fn is_at_work(&self, (member, incarnation): &(MemberId, Incarnation)) -> bool {
        let seen = self.view.members();
        seen.iter().any(|other| {
            let is_it = |lease: &LeaseView| lease.incarnation == *incarnation;
            let ends_it = |lease: &LeaseView| lease.left && lease.unchanged < SILENT;
            other.id == *member
                && (other.liveness == Liveness::Live || other.lease.as_ref().is_some_and(ends_it))
                && other.lease.as_ref().is_none_or(is_it)
        })
    }

    fn is_first_of(&self, queue: Queue, repository: &RepoName) -> bool {
        let me = self.view.me();
        let seen = self.view.members();
        let others = seen
            .iter()
            .filter(|member| member.id != *me && works(member, queue));
        let workers = self.with_me(others.map(|member| member.id.clone()));
        self.is_first(&workers, repository.as_str())
    }

    /// `others`, and this member: whatever they think of it, it is alive to itself, and it wouldn't ask if it didn't work. Drained or
    /// about to end, it leaves the work to them, if there are any.
    fn with_me(&self, others: impl Iterator<Item = MemberId>) -> Vec<MemberId> {
        let mut workers: Vec<MemberId> = others.collect();
        if workers.is_empty() || !matches!(self.view.standing(), Standing::Drained | Standing::Leaving) {
            workers.push(self.view.me().clone());
        }
        workers
    }

    fn is_first(&self, candidates: &[MemberId], partition: &str) -> bool {
        let me = self.view.me();
        match &self.hash_key {
            Some(hash_key) => placement::first(hash_key, candidates, partition) == Some(me),
            None => true,
        }
    }
}

/// Those of `members` that write to the `n`-th partition.
fn at_home(members: &[MemberId], n: u16) -> Vec<MemberId> {
    let writes = |member: &&MemberId| Homes::of(member).partitions().any(|home| home == n);
    members.iter().filter(writes).cloned().collect()
}

/// Whether a member looks at the rows of this queue that it writes.
fn works(member: &MemberView, queue: Queue) -> bool {
    let collecting = member.lease.as_ref().map(|lease| lease.collecting);
    member.liveness == Liveness::Live
        && match queue {
            Queue::Upkeep => true,
            Queue::Collection => collecting != Some(Collecting::Off),
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;

    #[test]
    fn who_leaves_has_ended_before_it_is_thought_to_have() {
        let (ending, leases) = (Limits::default().ending, Limits::default().leases);
        // It says that it leaves, and writes whatever it ends until all of its time to end is over; who looks sees it a heartbeat later.
        assert!(SILENT > ending.drain + leases.heartbeat + leases.patience);
        assert!(ending.drain > ending.notice);
    }
}
