//! How much of a request's time went into waiting for others: the stores, and registries that are mirrored.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

tokio::task_local! {
    static WAITED: Waited;
}

/// Adds up the time a request spends waiting.
#[derive(Clone, Debug, Default)]
pub struct Waited(Arc<Micros>);

#[derive(Debug, Default)]
struct Micros {
    stores: AtomicU64,
    upstream: AtomicU64,
}

impl Waited {
    /// Runs `work` with what it waits for added to `self`.
    pub async fn measure<F: Future>(&self, work: F) -> F::Output {
        WAITED.scope(self.clone(), work).await
    }

    /// Adds what the request that runs in this task, if any, waited for the stores.
    pub fn for_stores(waited: Duration) {
        // Outside a request (a background worker) nobody counts.
        let _ = WAITED.try_with(|all| add(&all.0.stores, waited));
    }

    /// Waits for an answer that comes from another registry, and adds that.
    pub async fn for_upstream<F: Future>(answer: F) -> F::Output {
        let began = Instant::now();
        let answer = answer.await;
        let _ = WAITED.try_with(|all| add(&all.0.upstream, began.elapsed()));
        answer
    }

    /// What it waited for the stores so far.
    pub fn stores(&self) -> Duration {
        Duration::from_micros(self.0.stores.load(Ordering::Relaxed))
    }

    /// What it waited for other registries so far.
    pub fn upstream(&self) -> Duration {
        Duration::from_micros(self.0.upstream.load(Ordering::Relaxed))
    }
}

fn add(all: &AtomicU64, waited: Duration) {
    let micros = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
    all.fetch_add(micros, Ordering::Relaxed);
}
