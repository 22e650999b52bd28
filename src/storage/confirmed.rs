//! Knowing that who answered was still the primary.
//!
//! A primary that was cut off while one of those that follow it was promoted goes on answering reads with what was true before. It
//! can't commit any more where others must acknowledge, for nobody does. So a read is given out when a small write that began after it has been
//! acknowledged by the server that was read from; all that wait share the next one. Another server may acknowledge it: connections
//! are to any of several, and a name or an address may lead to another than before.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::{sync::Mutex, time::timeout};

use super::{StoreError, StoreErrorKind};

/// Writes that were acknowledged, and who waits for the next.
#[derive(Default)]
pub(super) struct Confirmed {
    /// How many have asked.
    asked: AtomicU64,
    answered: Mutex<Answered>,
}

/// The last write that was acknowledged.
#[derive(Default)]
struct Answered {
    /// How many had asked when it began.
    through: u64,
    /// By which server.
    server: String,
}

impl Confirmed {
    /// Waits, for so long at most, for a write that begins from now on to be acknowledged; `write` is one. Gives the server that did.
    pub(super) async fn confirm<W>(
        &self,
        operation: &'static str,
        patience: Duration,
        write: impl FnOnce() -> W,
    ) -> Result<String, StoreError>
    where
        W: Future<Output = Result<String, StoreError>>,
    {
        let mine = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let Ok(mut answered) = timeout(patience, self.answered.lock()).await else {
            let said = "no write is acknowledged: perhaps this isn't the primary any more";
            return Err(StoreError::with_source(
                StoreErrorKind::Unavailable,
                operation,
                said,
            ));
        };
        if answered.through < mine {
            let through = self.asked.load(Ordering::SeqCst);
            let server = write().await?;
            *answered = Answered { through, server };
        }
        Ok(answered.server.clone())
    }
}
