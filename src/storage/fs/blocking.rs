//! Jobs that block, a bounded number of them at a time.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::storage::{StoreError, StoreErrorKind};

/// Runs `job` on the blocking pool, when `places` has one for it. The job keeps its place when nobody waits any more.
pub(super) async fn run<T: Send + 'static>(
    places: &Arc<Semaphore>,
    operation: &'static str,
    job: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let place = places.clone().acquire_owned().await;
    let place = place.map_err(|_| StoreError::new(StoreErrorKind::Unavailable, operation))?;
    spawn(place, job)
        .await
        .map_err(|error| StoreError::with_source(StoreErrorKind::Unavailable, operation, error))?
}

pub(super) fn spawn<T: Send + 'static>(
    place: OwnedSemaphorePermit,
    job: impl FnOnce() -> T + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::task::spawn_blocking(move || {
        let _place = place;
        job()
    })
}
