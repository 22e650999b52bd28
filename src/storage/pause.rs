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

/// How often and how long a request is still tried.
#[derive(Debug)]
pub(crate) struct Attempts {
    left: u32,
    deadline: Instant,
    pause: Pause,
}

impl Attempts {
    /// At most so many, the last of which begins within so long from now.
    pub(crate) fn new(most: u32, within: Duration) -> Self {
        Self {
            left: most,
            deadline: Instant::now() + within,
            pause: Pause::new(),
        }
    }

    /// When they are over.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Waits before the next one; `false` when there is none.
    pub(crate) async fn pause(&mut self) -> bool {
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            return false;
        }
        self.pause.wait(self.deadline).await;
        Instant::now() < self.deadline
    }
}
