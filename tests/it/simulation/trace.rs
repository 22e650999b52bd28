//! What happened in a simulation, in order, as one number; and in words when somebody wants to read it.

use std::{
    fmt::Write as _,
    hash::{DefaultHasher, Hasher as _},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::time::Instant;

/// Clones share it.
#[derive(Clone, Default)]
pub(super) struct Trace(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    hash: DefaultHasher,
    events: u64,
    began: Option<Instant>,
    // Kept only when asked for.
    lines: Option<String>,
}

/// A run's trace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Traced {
    pub(super) hash: u64,
    pub(super) events: u64,
    pub(super) lines: String,
}

impl Trace {
    /// One that can be read.
    pub(super) fn in_words() -> Self {
        let trace = Self::default();
        trace.0.lock().lines = Some(String::new());
        trace
    }

    /// Something happened, now.
    pub(super) fn note(&self, what: &str, with: &[u64]) {
        let mut inner = self.0.lock();
        let now = Instant::now();
        let at = now.duration_since(*inner.began.get_or_insert(now)).as_micros() as u64;
        inner.events += 1;
        inner.hash.write_u64(at);
        inner.hash.write(what.as_bytes());
        with.iter().for_each(|number| inner.hash.write_u64(*number));
        if let Some(lines) = &mut inner.lines {
            let _ = writeln!(lines, "{:>12.6} {what} {with:?}", at as f64 / 1e6);
        }
    }

    pub(super) fn traced(&self) -> Traced {
        let inner = self.0.lock();
        Traced {
            hash: inner.hash.finish(),
            events: inner.events,
            lines: inner.lines.clone().unwrap_or_default(),
        }
    }
}
