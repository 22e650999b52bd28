//! Permits that are shared out by client: nobody gets all of them, however much they ask for.
//!
//! A client may have as many as it leaves free: the first one that wants all gets half, the next one half of the rest. So
//! there is always one for who has none yet, and no share has to be set that is too small for a balancer and too large
//! for an attacker. (Switches share out their buffers so: Choudhury and Hahne, "Dynamic queue length thresholds", 1998.)
//! Those whose body is still to come are *uploads*; they leave some permits to everything else.
//!
//! Who waits gets a permit as soon as there is one, the client that has the fewest first. A permit isn't taken back; but
//! its holder can ask whether somebody with fewer waits for it, and give way.
//!
//! Deliberately absent: how long to wait, and what happens then.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::client_network;

/// Whose a request is: a user's who logged in, else an address's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Caller {
    /// By name.
    User(Arc<str>),
    /// By [`client_network`].
    Network(IpAddr),
    /// Neither is known.
    Unknown,
}

impl Caller {
    /// `address` is that of the client's connection, with its port.
    #[must_use]
    pub fn of(user: Option<&str>, address: Option<SocketAddr>) -> Self {
        match (user, address) {
            (Some(user), _) => Self::User(user.into()),
            (None, Some(address)) => Self::Network(client_network(address.ip())),
            (None, None) => Self::Unknown,
        }
    }
}

/// What a permit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A request whose body is still to come: how long that takes is the client's doing.
    Upload,
    /// Any other.
    Other,
}

/// How many permits there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Supply {
    /// All together.
    pub all: usize,
    /// Most of them for uploads.
    pub uploads: usize,
}

impl Supply {
    /// `all`, of which uploads take three quarters at most; of one alone, that one.
    #[must_use]
    pub fn of(all: usize) -> Self {
        Self {
            all,
            uploads: (all - all / 4).max(1),
        }
    }
}

/// A pool of permits. Clones are the same.
#[derive(Clone, Debug)]
pub struct Shares(Arc<Mutex<State>>);

struct State {
    supply: Supply,
    held: Held,
    waiting: usize,
    // Permits that slow bodies are about to give back.
    promised: usize,
    clients: BTreeMap<Caller, Client>,
    next: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Held {
    all: usize,
    uploads: usize,
}

#[derive(Default)]
struct Client {
    held: Held,
    uploads: VecDeque<Waiting>,
    others: VecDeque<Waiting>,
}

struct Waiting {
    number: u64,
    ready: oneshot::Sender<Permit>,
}

/// A permit, until it is dropped.
#[derive(Debug)]
pub struct Permit {
    shares: Shares,
    caller: Caller,
    purpose: Purpose,
    gives_way: Arc<AtomicBool>,
}

/// Asks for the holder of a permit whether to give way.
#[derive(Clone, Debug)]
pub struct Manners {
    shares: Shares,
    caller: Caller,
    gives_way: Arc<AtomicBool>,
}

impl Held {
    fn change(&mut self, purpose: Purpose, change: impl Fn(usize) -> usize) {
        self.all = change(self.all);
        if purpose == Purpose::Upload {
            self.uploads = change(self.uploads);
        }
    }
}

impl Client {
    fn queue(&mut self, purpose: Purpose) -> &mut VecDeque<Waiting> {
        match purpose {
            Purpose::Upload => &mut self.uploads,
            Purpose::Other => &mut self.others,
        }
    }

    fn waiting(&self) -> usize {
        self.uploads.len() + self.others.len()
    }

    fn is_gone(&self) -> bool {
        self.held.all == 0 && self.waiting() == 0
    }
}

impl State {
    fn free(&self) -> usize {
        self.supply.all.saturating_sub(self.held.all)
    }

    fn free_for_uploads(&self) -> usize {
        self.free()
            .min(self.supply.uploads.saturating_sub(self.held.uploads))
    }

    fn may_have(&self, held: Held, purpose: Purpose) -> bool {
        let fits = held.all < self.free();
        match purpose {
            Purpose::Other => fits,
            Purpose::Upload => fits && held.uploads < self.free_for_uploads(),
        }
    }

    fn take(&mut self, caller: &Caller, purpose: Purpose) {
        self.held.change(purpose, |n| n + 1);
        let client = self.clients.entry(caller.clone()).or_default();
        client.held.change(purpose, |n| n + 1);
    }

    fn give_back(&mut self, caller: &Caller, purpose: Purpose) {
        self.held.change(purpose, |n| n.saturating_sub(1));
        if let Some(client) = self.clients.get_mut(caller) {
            client.held.change(purpose, |n| n.saturating_sub(1));
        }
        self.forget(caller);
    }

    fn forget(&mut self, caller: &Caller) {
        if self.clients.get(caller).is_some_and(Client::is_gone) {
            self.clients.remove(caller);
        }
    }

    /// Who is next: of those that may have one, the client that has the fewest.
    fn next(&self) -> Option<(Caller, Purpose)> {
        let candidates = self.clients.iter().filter_map(|(caller, client)| {
            let may = |queue: &VecDeque<Waiting>, purpose| {
                (!queue.is_empty() && self.may_have(client.held, purpose)).then_some(purpose)
            };
            let purpose =
                may(&client.others, Purpose::Other).or_else(|| may(&client.uploads, Purpose::Upload))?;
            let first = client.others.front().or(client.uploads.front())?.number;
            Some((client.held.all, first, caller, purpose))
        });
        let next = candidates.min_by_key(|(held, first, ..)| (*held, *first));
        next.map(|(_, _, caller, purpose)| (caller.clone(), purpose))
    }
}

impl Shares {
    /// All of `supply` is free.
    #[must_use]
    pub fn new(supply: Supply) -> Self {
        Self(Arc::new(Mutex::new(State {
            supply,
            held: Held::default(),
            waiting: 0,
            promised: 0,
            clients: BTreeMap::new(),
            next: 0,
        })))
    }

    /// A permit, if `caller` may have one now.
    #[must_use]
    pub fn try_take(&self, caller: &Caller, purpose: Purpose) -> Option<Permit> {
        let mut state = self.0.lock();
        let held = state.clients.get(caller).map(|client| client.held);
        if !state.may_have(held.unwrap_or_default(), purpose) {
            return None;
        }
        state.take(caller, purpose);
        drop(state);
        Some(self.permit(caller, purpose))
    }

    /// A permit, once `caller` may have one. Nothing is left behind by a wait that is given up.
    pub async fn take(&self, caller: &Caller, purpose: Purpose) -> Permit {
        loop {
            if let Some(permit) = self.try_take(caller, purpose) {
                return permit;
            }
            let mut place = self.line_up(caller, purpose);
            // What came back in between woke nobody.
            self.serve();
            if let Ok(permit) = (&mut place.ready).await {
                return permit;
            }
        }
    }

    /// Whether there is no permit for anybody.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.0.lock().free() == 0
    }

    /// How many permits there are.
    #[must_use]
    pub fn supply(&self) -> Supply {
        self.0.lock().supply
    }

    fn permit(&self, caller: &Caller, purpose: Purpose) -> Permit {
        Permit {
            shares: self.clone(),
            caller: caller.clone(),
            purpose,
            gives_way: Arc::default(),
        }
    }

    fn line_up(&self, caller: &Caller, purpose: Purpose) -> Place<'_> {
        let (sender, ready) = oneshot::channel();
        let mut state = self.0.lock();
        let number = state.next;
        state.next += 1;
        state.waiting += 1;
        let client = state.clients.entry(caller.clone()).or_default();
        client.queue(purpose).push_back(Waiting {
            number,
            ready: sender,
        });
        drop(state);
        Place {
            shares: self,
            caller: caller.clone(),
            purpose,
            number,
            ready,
        }
    }

    /// Hands what is free to who waits.
    fn serve(&self) {
        // Permits for those that went away meanwhile: dropping one comes back here, so not under the lock.
        let mut unwanted = Vec::new();
        let mut state = self.0.lock();
        while state.waiting > 0
            && let Some((caller, purpose)) = state.next()
        {
            let Some(client) = state.clients.get_mut(&caller) else {
                break;
            };
            let Some(waiting) = client.queue(purpose).pop_front() else {
                break;
            };
            state.waiting -= 1;
            state.take(&caller, purpose);
            if let Err(permit) = waiting.ready.send(self.permit(&caller, purpose)) {
                unwanted.push(permit);
            }
        }
        drop(state);
        drop(unwanted);
    }
}

/// A place in the line.
struct Place<'a> {
    shares: &'a Shares,
    caller: Caller,
    purpose: Purpose,
    number: u64,
    ready: oneshot::Receiver<Permit>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.shares.0.lock();
        let Some(client) = state.clients.get_mut(&self.caller) else {
            return;
        };
        let queue = client.queue(self.purpose);
        let before = queue.len();
        queue.retain(|waiting| waiting.number != self.number);
        let left = before - queue.len();
        state.waiting -= left;
        state.forget(&self.caller);
    }
}

impl Permit {
    /// To ask whether to give it up.
    #[must_use]
    pub fn manners(&self) -> Manners {
        Manners {
            shares: self.shares.clone(),
            caller: self.caller.clone(),
            gives_way: self.gives_way.clone(),
        }
    }
}

impl Manners {
    /// Whether somebody waits to whom the permit of this one's holder should go: itself for another request, or a client
    /// that has fewer. Who is told so gives its permit back; nobody else is, for the same one that waits.
    #[must_use]
    pub fn should_give_way(&self) -> bool {
        let mut state = self.shares.0.lock();
        if state.waiting == 0 {
            return false;
        }
        let own = state.clients.get(&self.caller).map_or(0, |own| own.held.all);
        let needy = state.clients.iter();
        let needy = needy.filter(|(caller, client)| **caller == self.caller || client.held.all < own);
        if needy.map(|(_, client)| client.waiting()).sum::<usize>() <= state.promised {
            return false;
        }
        state.promised += 1;
        self.gives_way.store(true, Ordering::Relaxed);
        true
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        {
            let mut state = self.shares.0.lock();
            state.give_back(&self.caller, self.purpose);
            if self.gives_way.load(Ordering::Relaxed) {
                state.promised = state.promised.saturating_sub(1);
            }
        }
        self.shares.serve();
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("supply", &self.supply)
            .field("held", &self.held)
            .field("waiting", &self.waiting)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use tokio::time::timeout;

    use super::*;

    fn clients() -> Vec<Caller> {
        let client = |n: u8| Caller::of(None, Some((IpAddr::from([10, 0, 0, n]), 1).into()));
        (0..=255).map(client).collect()
    }

    fn all_of(shares: &Shares, caller: &Caller, purpose: Purpose) -> Vec<Permit> {
        std::iter::from_fn(|| shares.try_take(caller, purpose)).collect()
    }

    #[test]
    fn a_client_gets_as_many_as_it_leaves_free_and_there_is_always_one_for_who_has_none() {
        let clients = clients();
        let shares = Shares::new(Supply::of(4096));
        let mut held = Vec::new();
        for (n, expected) in [(1, 2048), (2, 1024), (3, 512), (4, 256)] {
            let theirs = all_of(&shares, &clients[n], Purpose::Other);
            assert_eq!(theirs.len(), expected, "client {n}");
            held.push(theirs);
        }
        for client in &clients[5..=12] {
            held.push(all_of(&shares, client, Purpose::Other));
        }
        assert!(!shares.is_exhausted());
        let last = shares.try_take(&clients[200], Purpose::Other);
        assert!(last.is_some(), "one for who has none");
        drop((held, last));
        assert_eq!(
            all_of(&shares, &clients[9], Purpose::Other).len(),
            2048,
            "all came back"
        );
        assert!(shares.0.lock().clients.is_empty(), "who is gone is forgotten");
    }

    #[test]
    fn uploads_leave_room_for_everything_else() {
        let clients = clients();
        let shares = Shares::new(Supply::of(400));
        let mut uploads = Vec::new();
        for client in &clients {
            uploads.extend(all_of(&shares, client, Purpose::Upload));
        }
        assert_eq!(uploads.len(), 300);
        for (n, client) in clients.iter().enumerate() {
            // Who has more uploads than are left doesn't get even more.
            let pull = shares.try_take(client, Purpose::Other);
            assert_eq!(pull.is_some(), n > 0, "client {n}");
        }
    }

    #[test]
    fn a_pool_of_one_is_a_pool() {
        let clients = clients();
        let shares = Shares::new(Supply::of(1));
        for purpose in [Purpose::Other, Purpose::Upload] {
            let permit = shares.try_take(&clients[1], purpose);
            assert!(permit.is_some() && shares.is_exhausted());
            assert!(shares.try_take(&clients[2], Purpose::Other).is_none());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_gets_the_next_one_and_who_has_fewer_goes_first() {
        let clients = clients();
        let shares = Shares::new(Supply::of(4));
        let (greedy, modest) = (&clients[1], &clients[2]);
        let mut held = all_of(&shares, greedy, Purpose::Other);
        held.push(shares.try_take(modest, Purpose::Other).unwrap());
        let last = shares.try_take(&clients[3], Purpose::Other).unwrap();
        assert!(shares.is_exhausted());
        let first = shares.take(greedy, Purpose::Other);
        let second = shares.take(&clients[4], Purpose::Other);
        tokio::pin!(first, second);
        assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
        drop(last);
        assert!(first.as_mut().now_or_never().is_none(), "it has its share");
        let second = second.await;
        // A wait that is given up leaves nothing.
        let given_up = timeout(Duration::from_secs(1), shares.take(&clients[5], Purpose::Upload));
        assert!(given_up.await.is_err());
        drop((second, held));
        drop(first.await);
        let state = shares.0.lock();
        assert!(state.clients.is_empty() && state.waiting == 0 && state.held.all == 0);
    }

    #[tokio::test]
    async fn one_slow_holder_gives_way_for_each_that_waits_and_has_fewer() {
        let clients = clients();
        let shares = Shares::new(Supply { all: 8, uploads: 3 });
        let (crawler, modest) = (&clients[1], &clients[2]);
        let slow: Vec<_> = [1, 2]
            .map(|_| shares.try_take(crawler, Purpose::Upload))
            .into_iter()
            .flatten()
            .collect();
        assert_eq!(slow.len(), 2);
        let also_slow = shares.try_take(modest, Purpose::Upload).unwrap();
        let manners: Vec<_> = slow.iter().map(Permit::manners).collect();
        assert!(!manners[0].should_give_way(), "nobody waits");
        let waiting = shares.take(&clients[3], Purpose::Upload);
        tokio::pin!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(manners[0].should_give_way());
        assert!(!manners[1].should_give_way(), "one is enough");
        drop(slow);
        drop(waiting.await);
        // Who has more doesn't make others give way.
        let mut more = all_of(&shares, crawler, Purpose::Upload);
        more.extend(all_of(&shares, &clients[4], Purpose::Upload));
        let waiting = shares.take(crawler, Purpose::Upload);
        tokio::pin!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(!also_slow.manners().should_give_way());
        drop(more);
    }
}
