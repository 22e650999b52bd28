//! Waiting before one tries again.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::clock;

/// Pauses that grow, jittered so that two who met don't meet again.
#[derive(Debug)]
pub(crate) struct Pause {
    longest: Duration,
}

impl Pause {
    const FIRST: Duration = Duration::from_millis(8);
    const LAST: Duration = Duration::from_millis(500);

    /// Before the first.
    pub(crate) fn new() -> Self {
        Self { longest: Self::FIRST }
    }

    /// Waits, at most until `deadline`.
    pub(crate) async fn wait(&mut self, deadline: Instant) {
        let pause = clock::part_of(self.longest);
        self.longest = (self.longest * 2).min(Self::LAST);
        sleep_until(deadline.min(Instant::now() + pause)).await;
    }
}
