//! The wall clock, and chance in pauses. Its times serve people, due dates and the pace of ownership; no safety argument mentions them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A random part of `longest`: who pauses for it doesn't meet others again and again.
pub fn part_of(longest: Duration) -> Duration {
    let mut bytes = [0; 2];
    // Without random numbers the pause is still a pause.
    let _ = getrandom::fill(&mut bytes);
    longest.mul_f64(f64::from(u16::from_le_bytes(bytes)) / f64::from(u16::MAX))
}
