//! `http.ratelimit`: how many requests a second one client may make, of all methods and of single ones.
//!
//! A client is a user where one logged in, else an address. A request counts once, against whoever made it; one whose
//! credentials are wrong counts against its address's *guesses*, and an address that guessed too often is refused before
//! anything is verified, so that guessing costs no hashing. Each member counts by itself: nothing is shared for it.

use std::{collections::HashMap, hash::Hash, net::IpAddr, num::NonZeroU32, sync::Arc, time::Duration};

use http::{Method, Response, StatusCode};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    step::{Next, Step},
    surface::{Asking, Cost, Decided, Surface},
};
use crate::{admission::Body, auth::Gate, config::RateLimits, http::error::FrontError, net::client_network};

/// Before it is known who asks.
#[derive(Clone)]
pub(super) struct Guesses {
    pub(super) rates: Arc<Rates>,
    pub(super) gate: Arc<Gate>,
}

impl Step for Guesses {
    type In = Asking;
    type Out = Asking;

    async fn run<N: Next<Asking>>(self, asking: Asking, next: N) -> Response<Body> {
        if !self.has_credentials(&asking) {
            return next.go(asking).await;
        }
        let exchange = &asking.exchange;
        let guesser = Client::Guesses(client_network(exchange.client.ip()));
        let method = exchange.request.method().clone();
        let comes_back = is_return(&asking.surface);
        if let Err(wait) = self.rates.peek(&guesser, &method) {
            return exchange.refuse(&FrontError::TooFast(wait));
        }
        let response = next.go(asking).await;
        if is_wrong(response.status(), comes_back) {
            // That it is one too many is for the next one to find.
            let _ = self.rates.take(guesser, &method);
        }
        response
    }
}

impl Guesses {
    /// A form for a token has its password inside, and who comes back from a provider has a code.
    fn has_credentials(&self, asking: &Asking) -> bool {
        let is_form = matches!(&asking.surface, Surface::Token(request) if request.is_form());
        is_form
            || is_return(&asking.surface)
            || self.gate.is_shown_something(asking.exchange.request.headers())
    }
}

/// Whether somebody comes back from an identity provider.
fn is_return(surface: &Surface) -> bool {
    matches!(surface, Surface::Session(request) if request.is_return())
}

/// Whether the answer says that what was shown is nobody's. Who comes back from a provider isn't asked to log in once more, but told
/// that this login wasn't begun, or proves nothing.
fn is_wrong(status: StatusCode, comes_back: bool) -> bool {
    match status {
        StatusCode::UNAUTHORIZED => true,
        StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN => comes_back,
        _ => false,
    }
}

/// Now that it is.
#[derive(Clone)]
pub(super) struct RateLimit {
    pub(super) rates: Arc<Rates>,
}

impl Step for RateLimit {
    type In = Decided;
    type Out = Decided;

    async fn run<N: Next<Decided>>(self, decided: Decided, next: N) -> Response<Body> {
        let exchange = &decided.exchange;
        if decided.surface.facts().cost < Cost::Count {
            return next.go(decided).await;
        }
        let user = decided.decision.identity.user.as_deref();
        let method = exchange.request.method();
        match self.rates.count(user, exchange.client.ip(), method) {
            Ok(()) => next.go(decided).await,
            Err(wait) => exchange.refuse(&FrontError::TooFast(wait)),
        }
    }
}

/// Whom a request counts against.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Client {
    User(Arc<str>),
    Address(IpAddr),
    Guesses(IpAddr),
}

/// What is left to every client.
pub(super) struct Rates {
    all: Option<Mutex<Buckets<Client>>>,
    methods: Vec<(Method, Mutex<Buckets<Client>>)>,
}

impl Rates {
    /// Full for everyone; of `clients` at most is remembered how full.
    pub(super) fn new(limits: &RateLimits, clients: usize) -> Self {
        let buckets = |rate| Mutex::new(Buckets::new(rate, clients));
        Self {
            all: limits.all.map(buckets),
            methods: limits
                .methods
                .iter()
                .map(|(method, rate)| (method.clone(), buckets(*rate)))
                .collect(),
        }
    }

    /// Counts a request against who made it, or says how long to wait.
    fn count(&self, user: Option<&str>, address: IpAddr, method: &Method) -> Result<(), Duration> {
        let client = match user {
            Some(user) => Client::User(user.into()),
            None => Client::Address(client_network(address)),
        };
        self.take(client, method)
    }

    fn of<'a>(&'a self, method: &'a Method) -> impl Iterator<Item = &'a Mutex<Buckets<Client>>> {
        let own = self.methods.iter().filter(move |(limited, _)| limited == method);
        self.all.iter().chain(own.map(|(_, buckets)| buckets))
    }

    /// Takes a request of `client` from every limit that it falls under, or says how long to wait.
    fn take(&self, client: Client, method: &Method) -> Result<(), Duration> {
        let now = Instant::now();
        self.of(method)
            .try_for_each(|buckets| buckets.lock().take(client.clone(), now))
    }

    /// Whether it could be taken.
    fn peek(&self, client: &Client, method: &Method) -> Result<(), Duration> {
        let now = Instant::now();
        self.of(method)
            .try_for_each(|buckets| buckets.lock().peek(client, now))
    }
}

/// Buckets of `rate` requests that fill up again within a second.
///
/// A bucket is one moment: when it will be full again (the generic cell rate algorithm). One that is full needn't be
/// remembered, so only clients of the last second are. Should those be too many, the others share one bucket.
struct Buckets<K> {
    rate: NonZeroU32,
    full_at: HashMap<K, Instant>,
    shared: Option<Instant>,
    bound: usize,
    swept: Option<Instant>,
}

/// A bucket fills up within this.
const FULL_AFTER: Duration = Duration::from_secs(1);
/// How often full buckets are looked for, when there is no room for more.
const SWEEP_EVERY: Duration = Duration::from_millis(100);

impl<K: Hash + Eq> Buckets<K> {
    fn new(rate: NonZeroU32, bound: usize) -> Self {
        Self {
            rate,
            full_at: HashMap::new(),
            shared: None,
            bound,
            swept: None,
        }
    }

    fn take(&mut self, key: K, now: Instant) -> Result<(), Duration> {
        self.make_room(&key, now);
        let has_room = self.full_at.len() < self.bound || self.full_at.contains_key(&key);
        let known = match has_room {
            true => self.full_at.get(&key).copied(),
            false => self.shared,
        };
        let full_at = after_one_more(known, self.rate, now)?;
        if has_room {
            self.full_at.insert(key, full_at);
        } else {
            self.shared = Some(full_at);
        }
        Ok(())
    }

    fn peek(&self, key: &K, now: Instant) -> Result<(), Duration> {
        after_one_more(self.full_at.get(key).copied(), self.rate, now).map(|_| ())
    }

    fn make_room(&mut self, key: &K, now: Instant) {
        let is_due = self
            .swept
            .is_none_or(|swept| now.saturating_duration_since(swept) >= SWEEP_EVERY);
        if self.full_at.len() >= self.bound && !self.full_at.contains_key(key) && is_due {
            self.full_at.retain(|_, full_at| *full_at > now);
            self.swept = Some(now);
        }
    }
}

/// When a bucket that would be full at `known` will be, if one more is taken out `now`; or how long to wait for that.
fn after_one_more(known: Option<Instant>, rate: NonZeroU32, now: Instant) -> Result<Instant, Duration> {
    let full_at = known.unwrap_or(now).max(now) + FULL_AFTER / rate.get();
    let too_early = full_at.saturating_duration_since(now).saturating_sub(FULL_AFTER);
    if too_early.is_zero() {
        Ok(full_at)
    } else {
        Err(too_early)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(rate: u32, bound: usize) -> Buckets<u32> {
        Buckets::new(NonZeroU32::new(rate).unwrap(), bound)
    }

    fn taken(buckets: &mut Buckets<u32>, key: u32, now: Instant, tries: u32) -> usize {
        (0..tries).filter(|_| buckets.take(key, now).is_ok()).count()
    }

    #[test]
    fn a_client_has_its_rate_at_once_and_then_in_every_second() {
        for rate in [1, 3, 7, 1000] {
            let mut buckets = buckets(rate, 10);
            let begin = Instant::now();
            assert_eq!(taken(&mut buckets, 1, begin, 2 * rate), rate as usize, "{rate}");
            assert_eq!(
                taken(&mut buckets, 2, begin, 2 * rate),
                rate as usize,
                "another one's"
            );
            let mut later = 0;
            for n in 1..=100 {
                later += taken(&mut buckets, 1, begin + FULL_AFTER * n / 10, 2 * rate);
            }
            assert!(later.abs_diff(10 * rate as usize) <= 1, "{rate}: {later}");
            assert_eq!(
                taken(&mut buckets, 1, begin + FULL_AFTER * 20, 2 * rate),
                rate as usize
            );
        }
    }

    #[test]
    fn who_waits_as_long_as_told_gets_through() {
        let mut buckets = buckets(4, 10);
        let now = Instant::now();
        assert_eq!(taken(&mut buckets, 1, now, 4), 4);
        let wait = buckets.take(1, now).unwrap_err();
        assert!(buckets.peek(&1, now + wait / 2).is_err());
        assert_eq!(buckets.take(1, now + wait), Ok(()));
    }

    #[test]
    fn what_is_remembered_has_a_bound_and_strangers_share_what_is_left() {
        let mut buckets = buckets(2, 100);
        let now = Instant::now();
        let through = (0..1000).filter(|n| buckets.take(*n, now).is_ok()).count();
        assert_eq!((through, buckets.full_at.len()), (102, 100));
        assert_eq!(buckets.take(5, now), Ok(()), "who is known has its own");
        let later = now + FULL_AFTER * 2;
        let through = (1000..1100).filter(|n| buckets.take(*n, later).is_ok()).count();
        assert_eq!(
            (through, buckets.full_at.len()),
            (100, 100),
            "full ones are forgotten"
        );
    }
}
