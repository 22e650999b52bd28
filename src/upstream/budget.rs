//! What a registry may be asked at once, a second, and how many bytes: by one member, or by all of a mesh together.
//!
//! For a mesh one member keeps each budget ([`Kept`]), and the others take their places from it ([`Keepers`]). Where it can't be asked
//! a member goes by its share: it pays from its own budget as often as there are members. So nothing fails because of a budget's
//! keeper, and no more is asked than may be, but for what was being asked when the keeper went.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, OnceLock},
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::{pace::Pace, turns::Turns};
use crate::config::Remote;

/// Where a place in a budget comes from.
pub enum Keeper {
    /// This member keeps it.
    Here,
    /// Another one of so many does, and lends a place.
    There(Box<dyn Lent>, u32),
    /// One of so many does, and can't be asked.
    Nobody(u32),
}

/// Who keeps the budgets of a mesh.
#[async_trait]
pub trait Keepers: Send + Sync {
    /// Waits for a place in the budget of this name, for as long as the one who keeps it is there.
    async fn enter(&self, budget: &str) -> Keeper;
}

/// A place in a budget that another member keeps. Dropped, it is free again.
#[async_trait]
pub trait Lent: Send {
    /// Waits for the turn to ask. Whether it comes before `until`; `None`, that the keeper is gone.
    async fn turn(&mut self, until: Instant) -> Option<bool>;

    /// Waits until so many bytes that came were long enough ago for those before them; `None`, that the keeper is gone.
    async fn spend(&mut self, bytes: u64) -> Option<()>;
}

/// A budget that is kept here.
#[derive(Debug)]
pub struct Kept {
    places: Arc<Semaphore>,
    most: u32,
    turns: Turns,
    pace: Pace,
}

/// The budgets of a member that are a whole mesh's, by name.
#[derive(Default)]
pub struct Budgets {
    kept: Mutex<BTreeMap<String, Arc<Kept>>>,
    keepers: OnceLock<Arc<dyn Keepers>>,
}

impl fmt::Debug for Budgets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budgets")
            .field("kept", &*self.kept.lock())
            .finish_non_exhaustive()
    }
}

impl Budgets {
    /// Has them be those of a mesh, of which `keepers` know who keeps which. Before, and without, they are this member's own.
    pub fn share(&self, keepers: Arc<dyn Keepers>) {
        // Only the first counts: there is one mesh.
        let _ = self.keepers.set(keepers);
    }

    /// As this member keeps it for the others.
    pub fn kept(&self, name: &str) -> Option<Arc<Kept>> {
        self.kept.lock().get(name).cloned()
    }

    /// That of a registry, `default` requests at once where the configuration doesn't say how many. Without limits in the
    /// configuration it isn't the mesh's.
    pub fn of(self: &Arc<Self>, name: String, registry: &Remote, default: usize) -> Budget {
        let own = Budget::own(registry, default);
        let is_limited = registry.concurrent.is_some()
            || registry.spacing.is_some()
            || registry.bytes_per_second.is_some();
        if !is_limited {
            return own;
        }
        self.kept.lock().insert(name.clone(), own.kept.clone());
        Budget {
            shared: Some((name, self.clone())),
            ..own
        }
    }
}

impl Kept {
    /// So many requests at once, all that come after one another, and all bytes that there are.
    pub(super) fn wide(at_once: usize) -> Self {
        Self::new(at_once, Turns::new(None), Pace::new(None))
    }

    fn new(at_once: usize, turns: Turns, pace: Pace) -> Self {
        Self {
            places: Arc::new(Semaphore::new(at_once)),
            most: u32::try_from(at_once).unwrap_or(u32::MAX),
            turns,
            pace,
        }
    }

    /// Waits for a place, which lasts as long as what is returned. `times`, here and below, is how often it is paid for: once, or where
    /// only a part of this is one's own, as often as that fits into it; all of it at most.
    pub async fn enter(&self, times: u32) -> Option<OwnedSemaphorePermit> {
        let places = self.places.clone();
        // It is never closed.
        places
            .acquire_many_owned(times.clamp(1, self.most.max(1)))
            .await
            .ok()
    }

    /// Waits for the turn to ask. Whether it comes before `until`; else none is taken from those who can wait.
    pub async fn turn(&self, until: Instant, times: u32) -> bool {
        self.turns.take(until, times).await
    }

    /// Waits until so many bytes that came were long enough ago for those before them: who isn't read from sends no more.
    pub async fn spend(&self, bytes: u64, times: u32) {
        self.pace.spend(bytes.saturating_mul(times.into())).await;
    }
}

/// The budget for one registry.
#[derive(Debug)]
pub struct Budget {
    kept: Arc<Kept>,
    shared: Option<(String, Arc<Budgets>)>,
}

impl Budget {
    /// This member's own.
    pub fn own(registry: &Remote, default: usize) -> Self {
        let kept = Kept::new(
            registry.concurrent.unwrap_or(default),
            Turns::new(registry.spacing),
            Pace::new(registry.bytes_per_second),
        );
        Self::by(kept)
    }

    pub(super) fn by(kept: Kept) -> Self {
        Self {
            kept: Arc::new(kept),
            shared: None,
        }
    }

    /// Waits for a place to ask in.
    pub(super) async fn enter(&self) -> Place {
        let keeper = match &self.shared {
            Some((name, budgets)) => match budgets.keepers.get() {
                Some(keepers) => keepers.enter(name).await,
                None => Keeper::Here,
            },
            None => Keeper::Here,
        };
        let (lent, times) = match keeper {
            Keeper::Here => (None, 1),
            Keeper::There(lent, members) => (Some(lent), members),
            Keeper::Nobody(members) => (None, members),
        };
        let own = match &lent {
            Some(_) => None,
            None => self.kept.enter(times).await,
        };
        Place {
            kept: self.kept.clone(),
            lent,
            times,
            _own: own,
        }
    }

    /// Waits until so many bytes may be sent, by a budget of this member's own.
    pub(super) async fn spend(&self, bytes: usize) {
        self.kept.spend(bytes as u64, 1).await;
    }
}

/// A place in a budget, for one request and its answer. Dropped, it is free again.
pub(super) struct Place {
    kept: Arc<Kept>,
    lent: Option<Box<dyn Lent>>,
    /// How often it pays in this member's own budget, where it does.
    times: u32,
    _own: Option<OwnedSemaphorePermit>,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place")
            .field("times", &self.times)
            .finish_non_exhaustive()
    }
}

impl Place {
    /// Waits for the turn to ask. Whether it comes before `until`.
    pub(super) async fn turn(&mut self, until: Instant) -> bool {
        if self.kept.turns.is_bounded()
            && let Some(lent) = &mut self.lent
        {
            match lent.turn(until).await {
                Some(came) => return came,
                // What was begun goes on, without a place.
                None => self.lent = None,
            }
        }
        self.kept.turn(until, self.times).await
    }

    /// Waits until so many bytes that came were long enough ago for those before them.
    pub(super) async fn spend(&mut self, bytes: usize) {
        let bytes = bytes as u64;
        if self.kept.pace.is_bounded()
            && let Some(lent) = &mut self.lent
        {
            match lent.spend(bytes).await {
                Some(()) => return,
                // What was begun goes on, without a place.
                None => self.lent = None,
            }
        }
        self.kept.spend(bytes, self.times).await;
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU64, time::Duration};

    use super::*;

    fn remote(concurrent: Option<usize>) -> Remote {
        let (spacing, bytes) = (Duration::from_secs(1), NonZeroU64::new(1000));
        Remote {
            urls: Vec::new(),
            verify_certificate: true,
            certificates: None,
            retries: 0,
            retry_delay: Duration::ZERO,
            retry_delay_max: Duration::ZERO,
            concurrent,
            spacing: concurrent.map(|_| spacing),
            bytes_per_second: bytes.filter(|_| concurrent.is_some()),
            realm_hosts: Default::default(),
        }
    }

    /// Nobody can be asked.
    struct Gone;

    #[async_trait]
    impl Keepers for Gone {
        async fn enter(&self, _: &str) -> Keeper {
            Keeper::Nobody(3)
        }
    }

    /// A keeper that lends a place and dies.
    struct Dying;

    #[async_trait]
    impl Keepers for Dying {
        async fn enter(&self, _: &str) -> Keeper {
            Keeper::There(Box::new(Self), 3)
        }
    }

    #[async_trait]
    impl Lent for Dying {
        async fn turn(&mut self, _: Instant) -> Option<bool> {
            None
        }

        async fn spend(&mut self, _: u64) -> Option<()> {
            None
        }
    }

    fn shared(keepers: impl Keepers + 'static, concurrent: usize) -> Budget {
        let budgets = Arc::new(Budgets::default());
        budgets.share(Arc::new(keepers));
        budgets.of("r".to_owned(), &remote(Some(concurrent)), 16)
    }

    #[tokio::test(start_paused = true)]
    async fn where_nobody_keeps_it_a_member_goes_by_its_share() {
        let (budget, until) = (shared(Gone, 7), Instant::now() + Duration::from_secs(60));
        let (mut one, _other) = (budget.enter().await, budget.enter().await);
        let third = tokio::time::timeout(Duration::from_secs(5), budget.enter()).await;
        assert!(third.is_err(), "two of seven among three");
        let began = Instant::now();
        assert!(one.turn(until).await && one.turn(until).await);
        assert_eq!(began.elapsed().as_secs(), 3, "each third second is its own");
        let began = Instant::now();
        one.spend(1000).await;
        one.spend(1000).await;
        assert_eq!(began.elapsed().as_secs(), 3);
        // However little there is, it gets on.
        shared(Gone, 1).enter().await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_begun_goes_on_when_the_keeper_dies() {
        let (budget, until) = (shared(Dying, 1), Instant::now() + Duration::from_secs(60));
        let (mut place, began) = (budget.enter().await, Instant::now());
        assert!(place.turn(until).await && place.turn(until).await);
        assert_eq!(began.elapsed().as_secs(), 3, "by this member's share");
        place.spend(1000).await;
    }

    #[test]
    fn only_what_has_limits_is_the_meshs() {
        let budgets = Arc::new(Budgets::default());
        budgets.of("wide".to_owned(), &remote(None), 16);
        budgets.of("narrow".to_owned(), &remote(Some(1)), 16);
        assert!(budgets.kept("wide").is_none() && budgets.kept("narrow").is_some());
    }
}
