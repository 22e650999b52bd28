//! So many requests a second, each in its turn.

use parking_lot::Mutex;
use tokio::time::{Duration, Instant, sleep_until};

/// Who comes when.
#[derive(Debug)]
pub(super) struct Turns {
    /// Between two requests; `None`: there is no limit.
    spacing: Option<Duration>,
    /// When the next request may go.
    next: Mutex<Instant>,
}

impl Turns {
    pub(super) fn new(spacing: Option<Duration>) -> Self {
        Self {
            spacing,
            next: Mutex::new(Instant::now()),
        }
    }

    pub(super) fn is_bounded(&self) -> bool {
        self.spacing.is_some()
    }

    /// Waits until the next request may go, and takes `times` the time of one. Whether that is before `until`; if not, no turn is taken from those who can wait.
    pub(super) async fn take(&self, until: Instant, times: u32) -> bool {
        let Some(spacing) = self.spacing else { return true };
        let turn = {
            let mut next = self.next.lock();
            let turn = (*next).max(Instant::now());
            if turn >= until {
                return false;
            }
            *next = turn + spacing * times;
            turn
        };
        sleep_until(turn).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_takes_no_turn_from_others() {
        let turns = Turns::new(Some(Duration::from_secs(1)));
        let until = Instant::now() + Duration::from_secs(2);
        let taken = join_all((0..50).map(|_| turns.take(until, 1))).await;
        assert_eq!(
            taken.into_iter().filter(|taken| *taken).count(),
            2,
            "at 0 and 1 s"
        );
        let until = Instant::now() + Duration::from_secs(2);
        assert!(turns.take(until, 1).await, "those who gave up aren't waited for");
    }
}
