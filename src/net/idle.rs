//! Which connections are idle, and which of them goes when there is no room for another: the one that has been idle longest.
//!
//! Deliberately absent: what makes a connection idle, and how it is closed. Whoever serves it says the one and does the
//! other.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The idle connections of a listener. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Idle(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    // The oldest first.
    resting: BTreeMap<u64, Resting>,
    // Somebody waits for a connection to go, and there was none that could.
    is_short: bool,
}

#[derive(Debug)]
struct Resting {
    client: IpAddr,
    go: Arc<Notify>,
}

/// A connection that is idle until this is dropped.
#[derive(Debug)]
pub struct Rest {
    idle: Idle,
    number: u64,
    go: Arc<Notify>,
}

impl Idle {
    /// A connection of `client` is idle from now on.
    pub(super) fn rest(&self, client: IpAddr) -> Rest {
        let go = Arc::new(Notify::new());
        let mut state = self.0.lock();
        let number = state.next;
        state.next += 1;
        if std::mem::take(&mut state.is_short) {
            go.notify_one();
        } else {
            let go = go.clone();
            state.resting.insert(number, Resting { client, go });
        }
        drop(state);
        Rest {
            idle: self.clone(),
            number,
            go,
        }
    }

    /// Asks the one that has been idle longest to go, or, where none is, the next one that will be.
    pub(super) fn make_room(&self) {
        let mut state = self.0.lock();
        match state.resting.pop_first() {
            Some((_, oldest)) => oldest.go.notify_one(),
            None => state.is_short = true,
        }
    }

    /// There is room: nobody has to go.
    pub(super) fn has_room(&self) {
        self.0.lock().is_short = false;
    }

    /// Asks the one of `client` that has been idle longest to go, if there is one.
    pub(super) fn make_room_of(&self, client: IpAddr) -> bool {
        let mut state = self.0.lock();
        let mut theirs = state
            .resting
            .iter()
            .filter(|(_, resting)| resting.client == client);
        let Some(number) = theirs.next().map(|(number, _)| *number) else {
            return false;
        };
        let oldest = state.resting.remove(&number);
        oldest.inspect(|oldest| oldest.go.notify_one()).is_some()
    }
}

impl Rest {
    /// Comes when its place is wanted. Once.
    pub async fn is_over(&self) {
        self.go.notified().await;
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        self.idle.0.lock().resting.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn is_asked(rest: &Rest) -> bool {
        rest.is_over().now_or_never().is_some()
    }

    #[test]
    fn the_one_that_has_been_idle_longest_goes_first() {
        let idle = Idle::default();
        let client = |n: u8| IpAddr::from([10, 0, 0, n]);
        let rests = [1, 2, 1, 2].map(|n| idle.rest(client(n)));
        let [first, second, third, fourth] = &rests;
        idle.make_room();
        assert!(is_asked(first) && !is_asked(second));
        assert!(idle.make_room_of(client(1)));
        assert!(is_asked(third), "the oldest of the client's that is left");
        assert!(!idle.make_room_of(client(1)), "it has no further one");
        assert!(!is_asked(second) && !is_asked(fourth));
        drop(rests);
        assert!(idle.0.lock().resting.is_empty());
    }

    #[test]
    fn where_none_is_idle_the_next_one_goes() {
        let idle = Idle::default();
        let client = IpAddr::from([10, 0, 0, 1]);
        idle.make_room();
        assert!(is_asked(&idle.rest(client)));
        assert!(!is_asked(&idle.rest(client)), "one was wanted");
        idle.make_room();
        idle.has_room();
        assert!(!is_asked(&idle.rest(client)), "and none any more");
    }
}
