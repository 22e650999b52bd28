//! So many bytes a second, of all that is read at once.

use std::num::NonZeroU64;

use parking_lot::Mutex;
use tokio::time::{Duration, Instant, sleep_until};

/// When there may be more.
#[derive(Debug)]
pub(super) struct Pace {
    /// Bytes a second; `None`: there is no limit.
    rate: Option<NonZeroU64>,
    next: Mutex<Instant>,
}

impl Pace {
    pub(super) fn new(rate: Option<NonZeroU64>) -> Self {
        Self {
            rate,
            next: Mutex::new(Instant::now()),
        }
    }

    pub(super) fn is_bounded(&self) -> bool {
        self.rate.is_some()
    }

    /// So many bytes came. Waits until that was long enough ago for those before them: who isn't read from sends no more.
    pub(super) async fn spend(&self, bytes: u64) {
        let Some(rate) = self.rate else { return };
        let turn = {
            let mut next = self.next.lock();
            let turn = (*next).max(Instant::now());
            *next = turn + Duration::from_secs_f64(bytes as f64 / rate.get() as f64);
            turn
        };
        sleep_until(turn).await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_who_read_share_the_rate() {
        let (pace, began) = (Pace::new(NonZeroU64::new(1000)), Instant::now());
        join_all((0..11).map(|_| pace.spend(500))).await;
        assert_eq!(began.elapsed().as_secs(), 5, "the first goes at once");
        Pace::new(None).spend(u64::MAX).await;
        assert_eq!(began.elapsed().as_secs(), 5);
    }
}
