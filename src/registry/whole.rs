//! A body that is taken as a whole.

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use tokio::time::{Instant, timeout};

use super::{Registry, RegistryError, Result, room::Room};
use crate::admission::{BodyError, Pace, Went};

/// A body that had to be received whole, and its room.
#[derive(Debug)]
pub struct Whole {
    /// All of it.
    pub bytes: Bytes,
    _room: Room,
}

impl Registry {
    /// Receives the whole of a body that has at most `most` bytes. It can't be parked; so a slow one is given up when others
    /// need its room.
    ///
    /// # Errors
    /// [`RegistryError::ManifestTooLarge`], [`RegistryError::NoRoom`], and what breaks the body off.
    pub async fn receive_whole<B>(&self, mut body: B, most: usize) -> Result<Whole>
    where
        B: Stream<Item = std::result::Result<Bytes, BodyError>> + Send + Unpin,
    {
        let (rooms, settings) = (&self.rooms, &self.settings.net);
        let mut room = rooms.get().await?;
        let mut pace = Pace::new(settings.slow_body, settings.slow_body_window);
        let mut all = BytesMut::new();
        loop {
            let began = Instant::now();
            let next = timeout(pace.left(), body.next()).await;
            pace.waited(began.elapsed());
            let is_slow = pace.judge() == Some(Went::Slowly);
            if is_slow && rooms.is_wanted() && all.len() as u64 > rooms.piece() {
                return Err(RegistryError::Body(BodyError::Slow));
            }
            let Ok(next) = next else { continue };
            let Some(piece) = next else { break };
            let piece = piece.map_err(RegistryError::Body)?;
            pace.came(piece.len());
            let length = all.len() + piece.len();
            if length > most {
                return Err(RegistryError::ManifestTooLarge);
            }
            rooms.grow(&mut room, length as u64, rooms.patience()).await?;
            all.extend_from_slice(&piece);
        }
        Ok(Whole {
            bytes: all.freeze(),
            _room: room,
        })
    }
}
