//! Bytes of a body that stands still don't stay in memory: they wait in objects of their session until it moves on.
//!
//! A client that sends most of a part and stops would hold that much memory until it is given up, for nothing. Each byte
//! goes out at most once, in pieces of [`park_bytes`](crate::registry::Settings::park_bytes) and more, and comes back once,
//! when its part is sent or the body has ended: who stops again and again costs the store no more than that. No row names
//! these objects: what a crash leaves of them lies under the session's prefix and is swept with it.

#[cfg(test)]
mod tests;

use super::{super::Result, TailHash, receive::Intake, session::Tail};
use crate::storage::Payload;

/// What lies in objects, in the order of the body. In memory are the bytes after it.
#[derive(Debug, Default)]
pub(super) struct Parked(Vec<Tail>);

impl Parked {
    /// Bytes in them.
    pub(super) fn len(&self) -> u64 {
        self.0.iter().map(|piece| piece.object.size).sum()
    }
}

impl Intake<'_> {
    /// Comes when the body has stood still for so long that what is in memory is to go; never while that isn't worth it.
    pub(super) fn stands_still(&self) -> impl Future<Output = ()> + Send + use<> {
        let settings = &self.registry.settings;
        let is_worth_it = self.buffered() - self.parked.len() >= settings.park_bytes;
        let patience = settings.park_after;
        async move {
            match is_worth_it {
                true => tokio::time::sleep(patience).await,
                false => std::future::pending().await,
            }
        }
    }

    /// Puts what is in memory into an object. Where that fails it stays.
    pub(super) async fn park(&mut self) -> Result<()> {
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
            }
            Err(error) => tracing::debug!(%key, ?error, "a body that stands still stays in memory"),
        }
        Ok(())
    }

    /// Takes everything back into memory.
    pub(super) async fn unpark(&mut self) -> Result<()> {
        if self.parked.0.is_empty() {
            return Ok(());
        }
        self.gather().await?;
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

    /// Deletes the objects: nobody else knows them.
    pub(super) async fn forget_parked(&mut self) {
        for piece in std::mem::take(&mut self.parked.0) {
            self.registry.discard_tail(Some(&piece)).await;
        }
    }
}
