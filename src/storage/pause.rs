//! Waiting before one tries again.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

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
        let pause = self.longest.mul_f64(fraction());
        self.longest = (self.longest * 2).min(Self::LAST);
        sleep_until(deadline.min(Instant::now() + pause)).await;
    }
}

/// A random number from 0 to 1.
fn fraction() -> f64 {
    let mut bytes = [0; 2];
    // Without random numbers the pause is still a pause.
    let _ = getrandom::fill(&mut bytes);
    f64::from(u16::from_le_bytes(bytes)) / f64::from(u16::MAX)
}
