//! Knowing that who answered was still the primary.
//!
//! A primary that was cut off while a synchronous standby was promoted goes on answering reads with what was true before. It
//! can't commit any more, for nobody acknowledges. So a read is given out when a small write that began after it has been
//! acknowledged; all that wait share the next one.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::{sync::Mutex, time::timeout};

use super::pool::Pool;
use crate::storage::{StoreError, StoreErrorKind};

/// Writes that were acknowledged, and who waits for the next.
#[derive(Default)]
pub(super) struct Confirmed {
    /// How many have asked.
    asked: AtomicU64,
    /// How many of them had when the last write began that was acknowledged.
    answered: Mutex<u64>,
}

impl Confirmed {
    /// Waits for a write that begins from now on to be acknowledged.
    pub(super) async fn confirm(
        &self,
        operation: &'static str,
        pool: &Pool,
        statement: &str,
    ) -> Result<(), StoreError> {
        let mine = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let Ok(mut answered) = timeout(pool.patience(), self.answered.lock()).await else {
            let said = "no write is acknowledged: perhaps this isn't the primary any more";
            return Err(StoreError::with_source(
                StoreErrorKind::Unavailable,
                operation,
                said,
            ));
        };
        if *answered >= mine {
            return Ok(());
        }
        let all = self.asked.load(Ordering::SeqCst);
        pool.confirm(operation, statement).await?;
        *answered = all;
        Ok(())
    }
}
