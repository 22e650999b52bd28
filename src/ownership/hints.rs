//! Where repositories were last found, so that a front asks the right member first.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;

use crate::{oci::RepoName, placement::MemberId};

/// A bounded memory of holders that differ from the first in the ranking. Only a hint: a stale one costs one hop.
#[derive(Debug)]
pub struct Hints {
    capacity: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    holders: HashMap<RepoName, MemberId>,
    // In the order of their arrival; the oldest goes first.
    order: VecDeque<RepoName>,
}

impl Hints {
    /// Remembers at most `capacity` repositories.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            inner: Mutex::default(),
        }
    }

    /// The member that was last found to hold `repository`.
    pub fn get(&self, repository: &RepoName) -> Option<MemberId> {
        self.inner.lock().holders.get(repository).cloned()
    }

    /// `holder` was found to hold `repository`.
    pub fn learn(&self, repository: &RepoName, holder: MemberId) {
        let mut inner = self.inner.lock();
        if inner.holders.insert(repository.clone(), holder).is_none() {
            inner.order.push_back(repository.clone());
            if inner.order.len() > self.capacity
                && let Some(oldest) = inner.order.pop_front()
            {
                inner.holders.remove(&oldest);
            }
        }
    }

    /// `holder` was found not to hold `repository`, or not to answer.
    pub fn forget(&self, repository: &RepoName, holder: &MemberId) {
        let mut inner = self.inner.lock();
        if inner.holders.get(repository) == Some(holder) {
            inner.holders.remove(repository);
            inner.order.retain(|known| known != repository);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(n: u8) -> MemberId {
        format!("127.0.0.{n}:5000").parse().unwrap()
    }

    #[test]
    fn the_oldest_hint_makes_room_for_the_newest() {
        let hints = Hints::new(2);
        for (n, name) in ["a", "b", "c"].into_iter().enumerate() {
            hints.learn(&name.parse().unwrap(), member(n as u8 + 1));
        }
        assert_eq!(hints.get(&"a".parse().unwrap()), None);
        assert_eq!(hints.get(&"c".parse().unwrap()), Some(member(3)));
    }

    #[test]
    fn only_the_hint_that_proved_wrong_is_forgotten() {
        let hints = Hints::new(2);
        let name = "a".parse().unwrap();
        hints.learn(&name, member(1));
        hints.learn(&name, member(2));
        hints.forget(&name, &member(1));
        assert_eq!(hints.get(&name), Some(member(2)));
        hints.forget(&name, &member(2));
        assert_eq!(hints.get(&name), None);
    }
}
