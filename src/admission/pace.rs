//! Whether a body comes slowly, by its sender's doing.

use std::time::Duration;

/// Counts what comes in a window of time. Only time that somebody waits for the body counts: one that isn't read for a
/// while isn't slow.
#[derive(Clone, Debug)]
pub struct Pace {
    least: u64,
    window: Duration,
    waited: Duration,
    bytes: u64,
}

/// How a window went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Went {
    /// At least at the rate.
    Well,
    /// Below it.
    Slowly,
}

impl Pace {
    /// At least `rate` bytes a second, over each `window`.
    #[must_use]
    pub fn new(rate: u64, window: Duration) -> Self {
        let least = u128::from(rate) * window.as_millis() / 1000;
        Self {
            least: u64::try_from(least).unwrap_or(u64::MAX),
            window,
            waited: Duration::ZERO,
            bytes: 0,
        }
    }

    /// So many bytes came.
    pub fn came(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// They, or nothing, were waited for so long.
    pub fn waited(&mut self, time: Duration) {
        self.waited += time;
    }

    /// How much longer the window is to be waited through.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.window.saturating_sub(self.waited)
    }

    /// How the window went, if it is over; then the next one begins.
    pub fn judge(&mut self) -> Option<Went> {
        if self.waited < self.window {
            return None;
        }
        let went = match self.bytes >= self.least {
            true => Went::Well,
            false => Went::Slowly,
        };
        self.waited = Duration::ZERO;
        self.bytes = 0;
        Some(went)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_goes_well_at_the_rate_and_slowly_below() {
        let second = Duration::from_secs(1);
        let mut pace = Pace::new(100, 5 * second);
        pace.came(499);
        pace.waited(4 * second);
        assert_eq!((pace.judge(), pace.left()), (None, second));
        pace.waited(second);
        assert_eq!(pace.judge(), Some(Went::Slowly));
        pace.came(500);
        pace.waited(9 * second);
        assert_eq!((pace.judge(), pace.left()), (Some(Went::Well), 5 * second));
    }
}
