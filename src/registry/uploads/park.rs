//! Bytes of a body that comes slowly don't stay in memory: they wait in objects of their session until their part is full.
//!
//! A client that sends most of a part and then a byte now and then would hold that much memory for as long as it likes. Each
//! byte goes out at most once, in pieces of [`park_bytes`](crate::config::limits::RegistryLimits::park_bytes) and more (less where others
//! wait for the room), and comes back once, when its part is sent or the body has ended: who is slow again and again costs
//! the store no more than that. No row names these objects: what a crash leaves of them lies under the session's prefix and is swept with it.

#[cfg(test)]
mod tests;

use super::{super::Result, TailHash, receive::Intake};
use crate::{admission::Went, storage::Payload};

impl Intake<'_> {
    /// Judges the pace of the body: of a slow one, what is in memory goes, if that is worth it or others need its room.
    pub(super) async fn window_is_over(&mut self) -> Result<()> {
        if self.pace.judge() != Some(Went::Slowly) {
            return Ok(());
        }
        let (registry, held) = (self.registry, self.in_memory());
        let is_needed = registry.rooms.is_wanted() && held > registry.rooms.piece();
        if held >= registry.settings.limits.park_bytes || is_needed {
            self.park().await?;
        }
        Ok(())
    }

    /// Puts what is in memory into an object, and gives its room back. Where that fails it stays; says whether it went.
    pub(super) async fn park(&mut self) -> Result<bool> {
        self.gather().await?;
        self.hashing.hash_waiting().await?;
        let key = self.session.fresh_key()?;
        match self
            .registry
            .put_tail(Some(&key), self.buffer.clone(), TailHash::OfItself)
            .await
        {
            Ok(piece) => {
                self.buffer = Payload::default();
                self.parked.0.extend(piece);
                drop(self.room.split());
                Ok(true)
            }
            Err(error) => {
                tracing::debug!(%key, ?error, "a slow body stays in memory");
                Ok(false)
            }
        }
    }

    /// Takes everything back into memory.
    pub(super) async fn unpark(&mut self) -> Result<()> {
        if self.parked.0.is_empty() {
            return Ok(());
        }
        self.gather().await?;
        self.hold_all().await?;
        let mut whole = Payload::default();
        for piece in &self.parked.0 {
            let piece = self.registry.collect(piece).await?;
            piece.chunks().iter().for_each(|chunk| whole.push(chunk.clone()));
        }
        self.buffer
            .chunks()
            .iter()
            .for_each(|chunk| whole.push(chunk.clone()));
        self.buffer = whole;
        self.forget_parked().await;
        Ok(())
    }

    /// Makes room for what is parked beside what is in memory. Where there isn't at once, all of it is parked meanwhile.
    async fn hold_all(&mut self) -> Result<()> {
        let (registry, whole) = (self.registry, self.buffered());
        if registry.rooms.try_grow(&mut self.room, whole) {
            return Ok(());
        }
        if self.in_memory() > registry.rooms.piece() {
            self.park().await?;
        }
        let rooms = &registry.rooms;
        rooms.grow(&mut self.room, whole, rooms.patience()).await
    }

    /// Deletes the objects: nobody else knows them.
    pub(super) async fn forget_parked(&mut self) {
        for piece in std::mem::take(&mut self.parked.0) {
            self.registry.discard_tail(Some(&piece)).await;
        }
    }
}
