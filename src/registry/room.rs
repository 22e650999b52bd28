//! Room in memory for what is on its way into the stores: one bound for all bodies of this member together.
//!
//! A request gets room for all it must hold at once before it reads its body: the whole of a small one, one part of a
//! large one. With that it always gets to its end. Further parts on their way at the same time only make it faster, so
//! they take room when there is some and are never waited for: nobody waits for room while holding some, so nobody waits
//! for ever.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{RegistryError, Result};

/// Room is given out in pieces of so many bytes.
const PIECE: u64 = 1024;

/// All the room there is.
#[derive(Debug)]
pub(super) struct Rooms {
    pieces: Arc<Semaphore>,
    total: u32,
    patience: Duration,
}

/// Room for some bytes, given back when dropped.
#[derive(Debug)]
pub struct Room(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl Rooms {
    /// Room for `bytes`. A request waits for it for `patience` at most.
    pub(super) fn new(bytes: u64, patience: Duration) -> Self {
        let total = pieces(bytes);
        Self {
            pieces: Arc::new(Semaphore::new(total as usize)),
            total,
            patience,
        }
    }

    /// Room for a request that will hold `bytes` at once. One that wants more than there is gets all of it.
    pub(super) async fn get(&self, bytes: u64) -> Result<Room> {
        let wanted = pieces(bytes).min(self.total);
        let waiting = self.pieces.clone().acquire_many_owned(wanted);
        match timeout(self.patience, waiting).await {
            Ok(Ok(permit)) => Ok(Room(permit)),
            Ok(Err(_)) | Err(_) => Err(RegistryError::NoRoom),
        }
    }

    /// Room for `bytes` more, if there is some and nobody waits for it.
    pub(super) fn more(&self, bytes: u64) -> Option<Room> {
        let wanted = pieces(bytes);
        self.pieces.clone().try_acquire_many_owned(wanted).ok().map(Room)
    }
}

fn pieces(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(PIECE).max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};

    use super::super::testing::*;
    use crate::{admission::BodyError, registry::RegistryError};

    /// A body that begins and then says nothing more.
    fn stalled(content: &[u8]) -> TestBody {
        Box::pin(body(content, 64).chain(stream::pending::<Result<bytes::Bytes, BodyError>>()))
    }

    /// A world with room for `uploads` at once. Their parts are so small that each takes one piece.
    fn world(uploads: u64) -> World {
        let mut world = World::new();
        world.settings.body_memory = uploads * super::PIECE;
        world.settings.body_patience = std::time::Duration::from_millis(50);
        world
    }

    #[tokio::test]
    async fn who_finds_no_room_is_refused_until_somebody_is_done() {
        let world = world(2);
        let (registry, name) = (world.member(1), repo("a"));
        let bytes = content(1, 5 * PART as usize);
        let digest = sha256(&bytes);
        {
            let stuck = [1, 2].map(|_| registry.push_blob(&name, &digest, None, stalled(&bytes[..300])));
            let stuck = futures_util::future::join_all(stuck);
            let refused = async {
                // The two get theirs first.
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                registry.push_blob(&name, &digest, None, body(&bytes, 64)).await
            };
            tokio::select! {
                biased;
                _ = stuck => panic!("they are stuck"),
                refused = refused => assert!(matches!(refused, Err(RegistryError::NoRoom)), "{refused:?}"),
            }
        }
        // A client that went away leaves its room.
        assert_eq!(push(&registry, &name, &bytes).await, digest);
    }

    #[tokio::test]
    async fn many_large_blobs_get_through_room_for_one_part() {
        let mut world = world(1);
        world.settings.body_patience = std::time::Duration::from_secs(20);
        let (registry, name) = (world.member(1), repo("a"));
        let pushes = (0..10).map(async |seed| {
            let bytes = content(seed, 20 * PART as usize + 7);
            let digest = push(&registry, &name, &bytes).await;
            assert_eq!(pull(&registry, &name, &digest).await.unwrap(), bytes);
        });
        futures_util::future::join_all(pushes).await;
    }
}
