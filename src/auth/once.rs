//! Answers about credentials that are found once and hold for a while.
//!
//! What an answer is kept under is a keyed hash of what was asked with, by a key that this process drew: nothing of it can be
//! read back out of memory. Who asks while the same is being found out waits for it. Failures aren't kept.

use std::{collections::HashMap, sync::Arc, time::Duration};

use aws_lc_rs::hmac;
use parking_lot::Mutex;
use tokio::{sync::OnceCell, time::Instant};

/// A keyed hash of what was asked with.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Tag([u8; 32]);

/// Answers, each for a while, and not more than a number of them at once.
pub(super) struct Once<T> {
    key: hmac::Key,
    life: Duration,
    entries: usize,
    found: Mutex<HashMap<Tag, Arc<Entry<T>>>>,
}

/// When it was found, and what; empty while it is being found out.
type Entry<T> = OnceCell<(Instant, T)>;

impl<T: Clone> Once<T> {
    pub(super) fn new(life: Duration, entries: usize) -> Self {
        // 32 random bytes.
        let halves = [0, 1].map(|_| crate::storage::Version::random().to_bytes());
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, halves.as_flattened()),
            life,
            entries,
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
    /// That of `find`.
    pub(super) async fn get<E>(&self, tag: Tag, find: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let entry = self.entry(tag);
        let found = entry
            .get_or_try_init(|| async { Ok((Instant::now(), find.await?)) })
            .await;
        match found {
            Ok((_, answer)) => Ok(answer.clone()),
            Err(error) => {
                let mut found = self.found.lock();
                let is_it = |kept: &Arc<Entry<T>>| Arc::ptr_eq(kept, &entry) && !kept.initialized();
                if found.get(&tag).is_some_and(is_it) {
                    found.remove(&tag);
                }
                Err(error)
            }
        }
    }

    fn entry(&self, tag: Tag) -> Arc<Entry<T>> {
        let mut found = self.found.lock();
        let is_over = |entry: &Entry<T>| entry.get().is_some_and(|(at, _)| at.elapsed() >= self.life);
        if let Some(entry) = found.get(&tag).filter(|entry| !is_over(entry)) {
            return entry.clone();
        }
        if found.len() >= self.entries {
            found.retain(|_, entry| !is_over(entry));
        }
        if found.len() >= self.entries
            && let Some(any) = found.keys().next().copied()
        {
            found.remove(&any);
        }
        let entry = Arc::new(Entry::new());
        found.insert(tag, entry.clone());
        entry
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.found.lock().len()
    }
}
