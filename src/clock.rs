//! The wall clock, and chance in pauses. Its times serve people, due dates and the pace of ownership; no safety argument
//! mentions them.
//!
//! With debug assertions a thread can be given a clock of its own, for simulations; a build without them, as every
//! release is, has only the machine's.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> u64 {
    #[cfg(debug_assertions)]
    if let Some(now_ms) = simulated::now_ms() {
        return now_ms;
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A random part of `longest`: who pauses for it doesn't meet others again and again.
pub fn part_of(longest: Duration) -> Duration {
    let mut bytes = [0; 2];
    // Without random numbers the pause is still a pause.
    let _ = crate::entropy::fill(&mut bytes);
    longest.mul_f64(f64::from(u16::from_le_bytes(bytes)) / f64::from(u16::MAX))
}

#[cfg(debug_assertions)]
pub use simulated::simulate;

#[cfg(debug_assertions)]
mod simulated {
    use std::cell::Cell;

    thread_local! {
        static NOW_MS: Cell<Option<fn() -> u64>> = const { Cell::new(None) };
    }

    /// What this thread's clock says, from now on; `None` is the machine's.
    pub fn simulate(now_ms: Option<fn() -> u64>) {
        NOW_MS.set(now_ms);
    }

    pub(super) fn now_ms() -> Option<u64> {
        NOW_MS.get().map(|now_ms| now_ms())
    }
}
