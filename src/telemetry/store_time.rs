//! How much of a request's time went into waiting for the stores.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

tokio::task_local! {
    static STORE_TIME: StoreTime;
}

/// Adds up the time a request spends waiting for the stores.
#[derive(Clone, Debug, Default)]
pub struct StoreTime(Arc<AtomicU64>);

impl StoreTime {
    /// Runs `work` with what it waits for the stores added to `self`.
    pub async fn measure<F: Future>(&self, work: F) -> F::Output {
        STORE_TIME.scope(self.clone(), work).await
    }

    /// Adds `waited` to the request that runs in this task, if any.
    pub fn add(waited: Duration) {
        let micros = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        // Outside a request (a background worker) nobody counts.
        let _ = STORE_TIME.try_with(|time| time.0.fetch_add(micros, Ordering::Relaxed));
    }

    /// What was added so far.
    pub fn total(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }
}
