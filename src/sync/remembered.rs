//! That something was so a moment ago, of so many things at most.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tokio::time::{Duration, Instant};

/// Things with the time until which they are remembered.
pub(super) struct Remembered<T> {
    until: Mutex<BTreeMap<T, Instant>>,
    most: usize,
}

impl<T: Ord + Clone> Remembered<T> {
    /// At most `most` of them; more are forgotten at once.
    pub(super) fn new(most: usize) -> Self {
        Self {
            until: Mutex::default(),
            most,
        }
    }

    pub(super) fn remember(&self, thing: T, time: Duration) {
        let now = Instant::now();
        let mut all = self.until.lock();
        if all.len() >= self.most {
            all.retain(|_, until| *until > now);
        }
        if all.len() < self.most {
            all.insert(thing, now + time);
        }
    }

    pub(super) fn knows(&self, thing: &T) -> bool {
        let all = self.until.lock();
        all.get(thing).is_some_and(|until| *until > Instant::now())
    }

    pub(super) fn forget(&self, thing: &T) {
        self.until.lock().remove(thing);
    }
}
