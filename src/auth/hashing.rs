//! Comparing passwords with their hashes, which is slow on purpose: on threads that may block, a few at a time, and
//! not again for a while after it went well.
//!
//! A pull of twenty layers is twenty requests with one password. A success is remembered for name, password and that hash:
//! a changed line of the file is another entry.

use std::{num::NonZero, sync::Arc, thread};

use tokio::{sync::Semaphore, time::timeout};

use super::{
    AuthError,
    once::{self, Once},
    password_hash::PasswordHash,
};
use crate::config::limits::PasswordLimits;

/// Compares passwords.
pub(super) struct Hashing {
    limits: PasswordLimits,
    slots: Arc<Semaphore>,
    compared: Once<()>,
    /// How often a password was compared.
    #[cfg(test)]
    pub(super) comparisons: std::sync::atomic::AtomicUsize,
}

/// A comparison that didn't go well.
enum Unequal {
    Wrong,
    Busy,
}

impl From<once::Busy> for Unequal {
    fn from(_: once::Busy) -> Self {
        Self::Busy
    }
}

impl Hashing {
    /// As many at a time as a quarter of this machine's processors, at least one: the others are for content.
    pub(super) fn new(limits: PasswordLimits) -> Self {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            slots: Arc::new(Semaphore::new((processors / 4).max(1))),
            compared: Once::new(limits),
            limits,
            #[cfg(test)]
            comparisons: Default::default(),
        }
    }

    /// Whether `password` is the one that `hash` was made of.
    ///
    /// # Errors
    /// [`AuthError::Busy`] when too many wait.
    pub(super) async fn is_equal(
        &self,
        user: &str,
        password: &str,
        hash: &PasswordHash,
    ) -> Result<bool, AuthError> {
        let tag = self.compared.tag(&[user, password, hash.as_str()]);
        let compare = async {
            match self.compare(password, hash).await {
                Ok(true) => Ok(()),
                Err(AuthError::Busy) => Err(Unequal::Busy),
                Ok(false) | Err(_) => Err(Unequal::Wrong),
            }
        };
        match self.compared.get(tag, compare).await {
            Ok(()) => Ok(true),
            Err(Unequal::Wrong) => Ok(false),
            Err(Unequal::Busy) => Err(AuthError::Busy),
        }
    }

    async fn compare(&self, password: &str, hash: &PasswordHash) -> Result<bool, AuthError> {
        let slot = timeout(self.limits.patience, self.slots.clone().acquire_owned()).await;
        let Ok(Ok(slot)) = slot else {
            return Err(AuthError::Busy);
        };
        #[cfg(test)]
        self.comparisons
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (password, hash) = (password.to_owned(), hash.clone());
        let compared = tokio::task::spawn_blocking(move || {
            // Held to the end, also when the client that waited has gone: the thread is busy all the same.
            let _held = slot;
            hash.is_of(&password)
        });
        Ok(compared.await.unwrap_or(false))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    const LIMITS: PasswordLimits = PasswordLimits {
        waiting: 2,
        patience: Duration::from_secs(10),
        life: Duration::from_secs(60),
        entries: 2,
    };

    fn hash(password: &str) -> PasswordHash {
        PasswordHash::parse(&bcrypt::hash(password, 4).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn a_success_is_remembered_for_that_name_password_and_hash_alone() {
        let hashing = Hashing::new(LIMITS);
        let good = hash("secret");
        assert!(hashing.is_equal("a", "secret", &good).await.unwrap());
        // No hashing any more, for which one would have to wait.
        let _all = hashing.compared.waiting.try_acquire_many(2).unwrap();
        for _ in 0..20 {
            assert!(hashing.is_equal("a", "secret", &good).await.unwrap());
        }
        for (user, password, hash) in [
            ("b", "secret", good.clone()),
            ("a", "Secret", good.clone()),
            ("a", "secret", hash("secret")),
            ("asecret", "", good.clone()),
        ] {
            let busy = hashing.is_equal(user, password, &hash).await;
            assert!(matches!(busy, Err(AuthError::Busy)));
        }
    }

    #[tokio::test]
    async fn a_failure_is_not_remembered_and_what_is_remembered_is_bounded() {
        let hashing = Hashing::new(LIMITS);
        let good = hash("secret");
        assert!(!hashing.is_equal("a", "wrong", &good).await.unwrap());
        assert_eq!(hashing.compared.len(), 0);
        for user in ["a", "b", "c", "d"] {
            assert!(hashing.is_equal(user, "secret", &good).await.unwrap());
        }
        assert_eq!(hashing.compared.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_is_forgotten_after_a_while() {
        let hashing = Hashing::new(LIMITS);
        let good = hash("secret");
        assert!(hashing.is_equal("a", "secret", &good).await.unwrap());
        tokio::time::advance(LIMITS.life).await;
        let _all = hashing.compared.waiting.try_acquire_many(2).unwrap();
        assert!(hashing.is_equal("a", "secret", &good).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_too_long_is_told_to_come_again() {
        let hashing = Hashing::new(LIMITS);
        let slots = u32::try_from(hashing.slots.available_permits()).unwrap();
        let all = hashing.slots.clone().acquire_many_owned(slots).await.unwrap();
        let begun = Instant::now();
        let busy = hashing.is_equal("a", "secret", &hash("secret")).await;
        assert!(matches!(busy, Err(AuthError::Busy)), "{busy:?}");
        assert_eq!(begun.elapsed(), LIMITS.patience);
        drop(all);
        assert!(hashing.is_equal("a", "secret", &hash("secret")).await.unwrap());
    }
}
