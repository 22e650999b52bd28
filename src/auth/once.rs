//! Answers about credentials that are found once and hold for a while.
//!
//! What an answer is kept under is a keyed hash of what was asked with, by a key that this process drew: nothing of it can be
//! read back out of memory. Who asks while the same is being found out waits for it. Failures aren't kept, so those who wait for one
//! that fails find out one after another; how many wait is bounded, and for how long.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use aws_lc_rs::hmac;
use parking_lot::Mutex;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use crate::config::limits::PasswordLimits;

/// A keyed hash of what was asked with.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Tag([u8; 32]);

/// More wait, or for longer, than is allowed.
pub(super) struct Busy;

/// Answers, each for a while.
pub(super) struct Once<T> {
    key: hmac::Key,
    /// How long an answer holds, how many are kept; how many callers wait for one that isn't known yet, and how long for another
    /// that finds out the same.
    bounds: PasswordLimits,
    pub(super) waiting: Semaphore,
    found: Mutex<HashMap<Tag, Arc<Entry<T>>>>,
}

struct Entry<T> {
    /// When it was found, and what.
    found: OnceLock<(Instant, T)>,
    /// Whoever finds it out.
    turn: tokio::sync::Mutex<()>,
}

impl<T: Clone> Entry<T> {
    fn is_over(&self, life: Duration) -> bool {
        self.found.get().is_some_and(|(at, _)| at.elapsed() >= life)
    }

    fn answer(&self) -> Option<T> {
        self.found.get().map(|(_, answer)| answer.clone())
    }
}

impl<T: Clone> Once<T> {
    pub(super) fn new(bounds: PasswordLimits) -> Self {
        // 32 random bytes.
        let halves = [0, 1].map(|_| crate::storage::Version::random().to_bytes());
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, halves.as_flattened()),
            bounds,
            waiting: Semaphore::new(bounds.waiting),
            found: Mutex::default(),
        }
    }

    /// What an answer about these, in this order, is kept under.
    pub(super) fn tag(&self, parts: &[&str]) -> Tag {
        let mut context = hmac::Context::with_key(&self.key);
        for part in parts {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part.as_bytes());
        }
        let mut tag = [0; 32];
        tag.copy_from_slice(context.sign().as_ref());
        Tag(tag)
    }

    /// The answer, found out by `find` unless it is known.
    ///
    /// # Errors
    /// That of `find`, or [`Busy`].
    pub(super) async fn get<E: From<Busy>>(
        &self,
        tag: Tag,
        find: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        if let Some(answer) = self.known(tag) {
            return Ok(answer);
        }
        let _place = self.waiting.try_acquire().map_err(|_| Busy)?;
        let entry = self.entry(tag);
        let turn = timeout(self.bounds.patience, entry.turn.lock()).await;
        let _turn = turn.map_err(|_| Busy)?;
        if let Some(answer) = entry.answer() {
            return Ok(answer);
        }
        match find.await {
            Ok(answer) => {
                // It is empty: there is one turn at a time.
                let _ = entry.found.set((Instant::now(), answer.clone()));
                Ok(answer)
            }
            Err(error) => {
                let mut found = self.found.lock();
                if found.get(&tag).is_some_and(|kept| Arc::ptr_eq(kept, &entry)) {
                    found.remove(&tag);
                }
                Err(error)
            }
        }
    }

    fn known(&self, tag: Tag) -> Option<T> {
        let found = self.found.lock();
        let entry = found.get(&tag)?;
        entry.answer().filter(|_| !entry.is_over(self.bounds.life))
    }

    fn entry(&self, tag: Tag) -> Arc<Entry<T>> {
        let PasswordLimits { life, entries, .. } = self.bounds;
        let mut found = self.found.lock();
        if let Some(entry) = found.get(&tag).filter(|entry| !entry.is_over(life)) {
            return entry.clone();
        }
        if found.len() >= entries {
            found.retain(|_, entry| !entry.is_over(life));
        }
        if found.len() >= entries
            && let Some(any) = found.keys().next().copied()
        {
            found.remove(&any);
        }
        let entry = Arc::new(Entry {
            found: OnceLock::new(),
            turn: tokio::sync::Mutex::default(),
        });
        found.insert(tag, entry.clone());
        entry
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.found.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;

    use super::*;

    const BOUNDS: PasswordLimits = PasswordLimits {
        life: Duration::from_secs(60),
        entries: 4,
        waiting: 20,
        patience: Duration::from_secs(10),
    };

    #[derive(Clone, Debug, PartialEq, Eq)]
    enum Failed {
        Wrong,
        Busy,
    }

    impl From<Busy> for Failed {
        fn from(_: Busy) -> Self {
            Self::Busy
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_many_ask_at_once_is_found_out_once() {
        let once = Once::new(BOUNDS);
        let tag = once.tag(&["a", "secret"]);
        let asked = AtomicUsize::new(0);
        let ask = || {
            once.get(tag, async {
                asked.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_secs(1)).await;
                Ok::<_, Failed>(7)
            })
        };
        assert_eq!(join_all((0..20).map(|_| ask())).await, vec![Ok(7); 20]);
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_what_fails_waits_no_longer_than_is_allowed_nor_do_more() {
        let once = Once::<()>::new(BOUNDS);
        let tag = once.tag(&["a", "wrong"]);
        let ask = || {
            once.get(tag, async {
                tokio::time::sleep(Duration::from_secs(4)).await;
                Err(Failed::Wrong)
            })
        };
        let begun = Instant::now();
        let answers = join_all((0..30).map(|_| ask())).await;
        let wrong = answers.iter().filter(|answer| **answer == Err(Failed::Wrong));
        assert_eq!((wrong.count(), begun.elapsed()), (3, Duration::from_secs(12)));
        // And who was right before is as well off as ever.
        let known = once.tag(&["b", "secret"]);
        once.get(known, async { Ok::<_, Failed>(()) }).await.unwrap();
        let _all = once.waiting.try_acquire_many(20).unwrap();
        assert_eq!(once.get(known, async { Err(Failed::Wrong) }).await, Ok(()));
        assert_eq!(
            once.get(tag, async { Err(Failed::Wrong) }).await,
            Err(Failed::Busy)
        );
    }
}
