//! Being told something by the operating system: to end (once for an orderly end, twice for one at once), or to open the
//! files of the logs anew.
//!
//! SIGHUP and SIGUSR1 both ask for the latter, the one by custom, the other by nginx's; SIGUSR2 for nothing. By themselves
//! these would end the process, in the middle of everything.

use std::io;

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Duration, Interval, MissedTickBehavior, interval},
};

use crate::telemetry::logs;

/// Time between two looks at whether the logs can be written.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Signals, caught from the moment this is made.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user1: Signal,
    user2: Signal,
    look: Interval,
}

impl Signals {
    pub(super) fn catch() -> io::Result<Self> {
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
            look,
        })
    }

    /// The next that asks for an end, by its name. Meanwhile the others are done.
    pub(super) async fn next(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hangup.recv() => logs::reopen(),
                _ = self.user1.recv() => logs::reopen(),
                _ = self.user2.recv() => tracing::info!("SIGUSR2 asks for nothing"),
                _ = self.look.tick() => logs::look(),
            }
        }
    }
}
