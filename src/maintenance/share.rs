//! Which part of the shared work is this member's.

use std::sync::Arc;

use crate::{
    ownership::{Liveness, View},
    placement::{self, HashKey},
    storage::keys::{self, Queue},
};

/// The partitions of due-rows, divided among the live members as repositories are: a member's go to all others when it
/// dies.
pub struct Share {
    view: Arc<dyn View>,
    hash_key: Option<HashKey>,
}

impl Share {
    /// As `view` sees the members. Without a key there are no others.
    pub fn new(view: Arc<dyn View>, hash_key: Option<HashKey>) -> Self {
        Self { view, hash_key }
    }

    /// The numbers of the partitions for which this member is ranked first among those that live.
    pub(super) fn partitions(&self, queue: Queue) -> Vec<u16> {
        let all = 0..keys::DUE_PARTITIONS;
        let Some(hash_key) = &self.hash_key else {
            return all.collect();
        };
        let me = self.view.me();
        // Whatever others think of it, it is alive to itself.
        let seen = self.view.members();
        let others = seen
            .iter()
            .filter(|other| other.liveness == Liveness::Live && other.id != *me);
        let mut members = vec![me.clone()];
        members.extend(others.map(|other| other.id.clone()));
        all.filter(|n| placement::first(hash_key, &members, &queue.partition(*n)) == Some(me))
            .collect()
    }
}
