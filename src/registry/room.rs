//! Room in memory for what is on its way into the stores: one bound for all bodies of this member together.
//!
//! What counts are bytes that are held, not those that are announced. Every body first gets one *piece*, 64 KiB, out of a
//! quarter of all room that is for nothing else: so a small one always has room, whoever else sends what. It takes more
//! as it grows, and gives that back with the part it was for.
//!
//! Nobody waits for ever: a body that finds no more puts what it holds beyond its first piece into the store
//! ([`park`](super::uploads)), and waits with that one alone. While somebody waits, slow bodies do so, too, at the end of
//! their window. What holds more than a piece is so either fast, and soon a part of a blob, or gone from memory.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{RegistryError, Result};

/// All the room there is.
#[derive(Debug)]
pub(super) struct Rooms {
    piece: u64,
    first: Arc<Semaphore>,
    more: Arc<Semaphore>,
    pieces: u32,
    patience: Duration,
    waiting: AtomicUsize,
}

/// Room for some bytes, given back when dropped.
#[derive(Debug)]
pub(super) struct Room {
    _first: OwnedSemaphorePermit,
    more: Option<OwnedSemaphorePermit>,
    piece: u64,
}

impl Room {
    /// For so many bytes.
    fn bytes(&self) -> u64 {
        let more = self.more.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        (1 + more as u64).saturating_mul(self.piece)
    }

    /// All but the first piece goes with what it was for.
    pub(super) fn split(&mut self) -> Option<OwnedSemaphorePermit> {
        self.more.take()
    }
}

impl Rooms {
    /// Room for `bytes`, given out by `piece`. A body waits for it for `patience` at most.
    pub(super) fn new(bytes: u64, piece: u64, patience: Duration) -> Self {
        let first = pieces(bytes / 4, piece);
        let more = pieces(bytes - bytes / 4, piece);
        Self {
            piece,
            first: Arc::new(Semaphore::new(first as usize)),
            more: Arc::new(Semaphore::new(more as usize)),
            pieces: more,
            patience,
            waiting: AtomicUsize::new(0),
        }
    }

    /// How much a body holds without asking for more.
    pub(super) fn piece(&self) -> u64 {
        self.piece
    }

    /// Room for a body's first piece.
    pub(super) async fn get(&self) -> Result<Room> {
        let first = self.wait(&self.first, 1, self.patience).await?;
        Ok(Room {
            _first: first,
            more: None,
            piece: self.piece,
        })
    }

    /// Makes `room` one for `bytes`, if there is that much and nobody waits for it. One that wants more than there is gets
    /// all of it.
    pub(super) fn try_grow(&self, room: &mut Room, bytes: u64) -> bool {
        let Some(wanted) = self.lacking(room, bytes) else {
            return true;
        };
        match self.more.clone().try_acquire_many_owned(wanted) {
            Ok(more) => {
                add(room, more);
                true
            }
            Err(_) => false,
        }
    }

    /// Waits for that, for `patience` at most.
    pub(super) async fn grow(&self, room: &mut Room, bytes: u64, patience: Duration) -> Result<()> {
        if let Some(wanted) = self.lacking(room, bytes) {
            let more = self.wait(&self.more, wanted, patience).await?;
            add(room, more);
        }
        Ok(())
    }

    /// How long a body may wait.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// Whether somebody waits.
    pub(super) fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    fn lacking(&self, room: &Room, bytes: u64) -> Option<u32> {
        let lacking = bytes.checked_sub(room.bytes()).filter(|lacking| *lacking > 0)?;
        let held = room.more.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let most = self
            .pieces
            .saturating_sub(u32::try_from(held).unwrap_or(u32::MAX));
        Some(pieces(lacking, self.piece).min(most)).filter(|wanted| *wanted > 0)
    }

    async fn wait(
        &self,
        pool: &Arc<Semaphore>,
        wanted: u32,
        patience: Duration,
    ) -> Result<OwnedSemaphorePermit> {
        let _waiter = Waiter::new(&self.waiting);
        match timeout(patience, pool.clone().acquire_many_owned(wanted)).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(RegistryError::NoRoom),
        }
    }
}

fn add(room: &mut Room, more: OwnedSemaphorePermit) {
    match &mut room.more {
        Some(held) => held.merge(more),
        none => *none = Some(more),
    }
}

fn pieces(bytes: u64, piece: u64) -> u32 {
    u32::try_from(bytes.div_ceil(piece).max(1)).unwrap_or(u32::MAX)
}

struct Waiter<'a>(&'a AtomicUsize);

impl<'a> Waiter<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
