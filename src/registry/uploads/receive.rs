//! From a body to parts: receives, hashes and sends at the same time, in bounded memory.
//!
//! At most `parts_in_flight` parts are on their way while the next one fills; then the body has to wait. Nothing that
//! happens here is visible, or changes what a later request finds, but for reserved part numbers.

use std::{ops::Range, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep},
};

use super::{
    super::{
        Registry, RegistryError, Result,
        hash::{Hasher, Hashing},
        objects::READS,
        room::Room,
        row,
    },
    digest_of,
    session::{Parked, Session, Tail},
};
use crate::{
    admission::{BodyError, Pace},
    storage::{Part, PartNumber, Payload, StoreError, StoreErrorKind, Unnamed, rows},
};

/// A body, whatever it comes from.
pub(super) type Body<'a> = &'a mut (dyn Stream<Item = std::result::Result<Bytes, BodyError>> + Send + Unpin);

/// How many part numbers are reserved at once: a write to the session's row for every so many parts.
const BLOCK: u32 = 64;
/// Pieces shorter than this are copied together: each kept piece costs memory of its own.
const SMALL: usize = 8 << 10;
/// How much is copied together.
const TOGETHER: usize = 64 << 10;
/// How long a body that holds much waits for more room before it puts what it holds into the store.
const BEFORE_PARKING: Duration = Duration::from_secs(1);

/// A request's bytes on their way into a session.
pub(super) struct Intake<'a> {
    pub(super) registry: &'a Registry,
    pub(super) session: Session,
    /// Bytes of this request.
    pub(super) received: u64,
    pub(super) hashing: Hashing,
    // The bytes after the last full part, first the session's tail: what is parked, the buffer, and `small`.
    pub(super) parked: Parked,
    pub(super) buffer: Payload,
    small: BytesMut,
    tail: TailIs,
    sending: FuturesUnordered<BoxFuture<'static, std::result::Result<Part, StoreError>>>,
    parts: Vec<Part>,
    numbers: Range<u32>,
    // What this request reserved so far.
    reserved: Option<Range<u32>>,
    // Where the parts end at the latest that others may have left behind and this request writes over.
    left_to: u32,
    // A part failed and may still arrive.
    may_still_arrive: bool,
    // For what is in memory of the part that is being filled.
    pub(super) room: Room,
    pub(super) pace: Pace,
}

/// Whether the buffer begins with the session's tail.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TailIs {
    Stored,
    Buffered,
}

impl<'a> Intake<'a> {
    /// Goes on where `session` stands, its digest with `hasher`, once there is room for a first piece.
    pub(super) async fn new(registry: &'a Registry, session: Session, hasher: Hasher) -> Result<Self> {
        let room = registry.rooms.get().await?;
        let settings = &registry.settings.net;
        let pace = Pace::new(settings.slow_body, settings.slow_body_window);
        let tail = if session.row.tail_length == 0 {
            TailIs::Buffered
        } else {
            TailIs::Stored
        };
        Ok(Self {
            registry,
            session,
            received: 0,
            hashing: Hashing::new(hasher),
            parked: Parked::default(),
            buffer: Payload::default(),
            small: BytesMut::new(),
            tail,
            sending: FuturesUnordered::new(),
            parts: Vec::new(),
            numbers: 0..0,
            reserved: None,
            left_to: 0,
            may_still_arrive: false,
            room,
            pace,
        })
    }

    /// Takes the whole body, which has `announced` bytes if that is known.
    pub(super) async fn receive(&mut self, body: Body<'_>, announced: Option<u64>) -> Result<()> {
        loop {
            let began = Instant::now();
            let window = sleep(self.pace.left());
            let next = tokio::select! {
                biased;
                Some(sent) = self.sending.next() => {
                    self.pace.waited(began.elapsed());
                    self.sent(sent).await?;
                    continue;
                }
                next = body.next() => next,
                () = window => {
                    self.pace.waited(began.elapsed());
                    self.window_is_over().await?;
                    continue;
                }
            };
            self.pace.waited(began.elapsed());
            let Some(chunk) = next else { break };
            let chunk = chunk.map_err(RegistryError::Body)?;
            self.pace.came(chunk.len());
            self.received += chunk.len() as u64;
            if let Some(announced) = announced.filter(|announced| self.received > *announced) {
                return Err(RegistryError::SizeMismatch {
                    announced,
                    received: self.received,
                });
            }
            if !chunk.is_empty() {
                self.load_tail().await?;
                self.keep(chunk).await?;
            }
        }
        self.gather().await?;
        self.unpark().await?;
        match announced {
            Some(announced) if announced != self.received => Err(RegistryError::SizeMismatch {
                announced,
                received: self.received,
            }),
            _ => Ok(()),
        }
    }

    /// Reads the session's tail back into the buffer. Its digest is in the session's state already.
    pub(super) async fn load_tail(&mut self) -> Result<()> {
        if self.tail == TailIs::Buffered {
            return Ok(());
        }
        let Some(tail) = self.session.tail()? else {
            return Ok(());
        };
        self.hold(self.session.row.tail_length).await?;
        match self.registry.collect(&tail).await {
            Ok(tail) => self.buffer = tail,
            // Who carries the upload on deletes the tail that was carried on from. Where nobody did, the store lost it.
            Err(RegistryError::Store(error)) if error.kind() == StoreErrorKind::NotFound => {
                let loss = self.registry.loss_of(&self.session).await?;
                return Err(loss.unwrap_or(RegistryError::UploadLost));
            }
            Err(error) => return Err(error),
        }
        self.tail = TailIs::Buffered;
        Ok(())
    }

    /// Bytes after the last full part.
    pub(super) fn buffered(&self) -> u64 {
        self.parked.len() + self.in_memory()
    }

    /// Those of them that aren't parked.
    pub(super) fn in_memory(&self) -> u64 {
        self.buffer.len() + self.small.len() as u64
    }

    /// Makes room for so many bytes more, if need be in place of those that are there.
    async fn hold(&mut self, bytes: u64) -> Result<()> {
        let registry = self.registry;
        let rooms = &registry.rooms;
        loop {
            let wanted = self.in_memory() + bytes;
            if rooms.try_grow(&mut self.room, wanted) {
                return Ok(());
            }
            // What is on its way comes to an end by itself.
            if let Some(sent) = self.sending.next().await {
                self.sent(sent).await?;
                continue;
            }
            let holds_more = self.in_memory() > rooms.piece();
            let patience = if holds_more {
                BEFORE_PARKING
            } else {
                rooms.patience()
            };
            match rooms.grow(&mut self.room, wanted, patience).await {
                Err(RegistryError::NoRoom) if holds_more && self.park().await? => {}
                grown => return grown,
            }
        }
    }

    async fn keep(&mut self, mut chunk: Bytes) -> Result<()> {
        let part_size = self.registry.settings.limits.part_size;
        while !chunk.is_empty() {
            // Only now is it certain that the blob is longer than one part.
            if self.buffered() >= part_size {
                self.send().await?;
            }
            let room = part_size - self.buffered();
            let length = usize::try_from(room).map_or(chunk.len(), |room| room.min(chunk.len()));
            let piece = chunk.split_to(length);
            self.hold(piece.len() as u64).await?;
            if piece.len() < SMALL {
                self.small.extend_from_slice(&piece);
                if self.small.len() >= TOGETHER {
                    self.gather().await?;
                }
            } else {
                self.gather().await?;
                self.append(piece).await?;
            }
            // Once there is a multipart upload, a full part needn't wait for the byte after it.
            if self.buffered() >= part_size && self.session.is_multipart() {
                self.send().await?;
            }
        }
        Ok(())
    }

    /// Moves the small pieces to the others.
    pub(super) async fn gather(&mut self) -> Result<()> {
        if self.small.is_empty() {
            return Ok(());
        }
        let together = std::mem::take(&mut self.small).freeze();
        self.append(together).await
    }

    async fn append(&mut self, piece: Bytes) -> Result<()> {
        self.buffer.push(piece.clone());
        self.hashing.update(piece).await
    }

    /// Sends the buffer as a part, when there is room for one more on its way.
    pub(super) async fn send(&mut self) -> Result<()> {
        self.gather().await?;
        self.unpark().await?;
        while self.sending.len() >= self.registry.settings.limits.parts_in_flight {
            if let Some(sent) = self.sending.next().await {
                self.sent(sent).await?;
            }
        }
        let number = self.number().await?;
        let key = row::object_key(&self.session.row.object_key)?;
        let (blobs, upload) = (self.registry.blobs.clone(), self.session.row.multipart_id.clone());
        let payload = std::mem::take(&mut self.buffer);
        let length = payload.len();
        let room = self.room.split();
        self.sending.push(Box::pin(async move {
            let _room = room;
            let etag = blobs.part(&key, &upload, number, payload).await?;
            Ok(Part { number, etag, length })
        }));
        Ok(())
    }

    async fn sent(&mut self, sent: std::result::Result<Part, StoreError>) -> Result<()> {
        match sent {
            Ok(part) => {
                self.parts.push(part);
                Ok(())
            }
            // Who ends the upload, one way or the other, ends the multipart upload with it.
            Err(error) if error.kind() == StoreErrorKind::NotFound => {
                let loss = self.registry.loss_of(&self.session).await?;
                Err(loss.unwrap_or(RegistryError::UploadLost))
            }
            Err(error) => {
                self.may_still_arrive = true;
                Err(error.into())
            }
        }
    }

    async fn number(&mut self) -> Result<PartNumber> {
        if self.numbers.is_empty() {
            self.reserve().await?;
        }
        self.numbers
            .next()
            .and_then(PartNumber::new)
            .ok_or_else(|| self.too_large())
    }

    /// Reserves part numbers, and begins the multipart upload if there is none. That takes the session from every other
    /// request that holds it.
    async fn reserve(&mut self) -> Result<()> {
        let mut row = self.session.row.clone();
        let left = self.session.left();
        let first = match &self.reserved {
            Some(reserved) => reserved.end,
            // Whoever sent those has lost the session, or will when this is committed. What comes of them later may take the
            // place of our parts: then the ETags that we name aren't there, and nothing is made of it.
            None if !left.is_empty() && self.registry.blobs.unnamed() == Unnamed::Overwrite => {
                self.left_to = left.end;
                left.start
            }
            None => row.next_part.max(1),
        };
        let end = (first + BLOCK).min(PartNumber::MAX + 1);
        if first >= end {
            return Err(self.too_large());
        }
        row.next_part = end.max(row.next_part);
        let begun = if self.session.is_multipart() {
            None
        } else {
            let key = self.session.fresh_key()?;
            let id = self.registry.blobs.begin(&key).await?;
            (row.object_key, row.multipart_id) = (key.as_str().to_owned(), id.clone());
            Some((key, id))
        };
        let replaced = self
            .registry
            .replace_session(&mut self.session, row, Vec::new())
            .await;
        if let (Err(error), Some((key, id))) = (&replaced, &begun)
            && !matches!(error, RegistryError::OutcomeUnknown)
        {
            self.registry.abort(key, id).await;
        }
        replaced?;
        self.numbers = first..end;
        let from = self.reserved.as_ref().map_or(first, |reserved| reserved.start);
        self.reserved = Some(from..end);
        Ok(())
    }

    fn too_large(&self) -> RegistryError {
        let limit = self
            .registry
            .settings
            .limits
            .part_size
            .saturating_mul(PartNumber::MAX.into());
        RegistryError::BlobTooLarge { limit }
    }

    /// Waits until every part has arrived.
    async fn settle(&mut self) -> Result<()> {
        while let Some(sent) = self.sending.next().await {
            self.sent(sent).await?;
        }
        self.parts.sort_by_key(|part| part.number);
        Ok(())
    }

    /// The bytes after the last part, and their room. Nothing can be added any more.
    pub(super) fn take_rest(&mut self) -> (Payload, Option<OwnedSemaphorePermit>) {
        (std::mem::take(&mut self.buffer), self.room.split())
    }

    /// What came of it, once every part has arrived.
    pub(super) async fn finish(mut self) -> Result<Received> {
        self.settle().await?;
        let hasher = self.hashing.finish().await?;
        Ok(Received {
            session: self.session,
            hasher,
            parts: self.parts,
            reserved_from: self.reserved.map(|reserved| reserved.start),
            left_to: self.left_to,
        })
    }

    /// After a failure: gives the reserved numbers back once nothing of this request is on its way any more.
    pub(super) async fn abandon(mut self) {
        self.forget_parked().await;
        let Some(reserved) = self.reserved.clone().filter(|_| !self.may_still_arrive) else {
            return;
        };
        let arrived = async {
            let mut all = true;
            while let Some(sent) = self.sending.next().await {
                all &= sent.is_ok();
            }
            all
        };
        if let Ok(true) = tokio::time::timeout(self.registry.settings.limits.commit_within, arrived).await {
            self.registry
                .give_back(&mut self.session, Some(reserved.start))
                .await;
        }
    }
}

/// What a request brought, all of it hashed, all its parts stored.
pub(super) struct Received {
    pub(super) session: Session,
    pub(super) hasher: Hasher,
    /// In the order of their numbers.
    pub(super) parts: Vec<Part>,
    /// The first part number that this request reserved.
    pub(super) reserved_from: Option<u32>,
    /// Where the parts end that others may have left behind.
    left_to: u32,
}

impl Received {
    /// Says in the session's row which part numbers are taken once this is acknowledged.
    pub(super) fn count_parts(&self, row: &mut rows::Session) {
        if let Some(last) = self.parts.last() {
            row.unnamed_part = last.number.get() + 1;
            row.next_part = row.unnamed_part.max(self.left_to);
        }
    }
}

impl Registry {
    /// Gives part numbers back: 10,000 are all there are. Where the next request writes over such parts anyway, it is to know
    /// that there may be some.
    pub(super) async fn give_back(&self, session: &mut Session, reserved_from: Option<u32>) {
        let Some(first) = reserved_from else { return };
        if self.blobs.unnamed() == Unnamed::Overwrite {
            return;
        }
        let row = rows::Session {
            next_part: first,
            ..session.row.clone()
        };
        if let Err(error) = self.replace_session(session, row, Vec::new()).await {
            tracing::debug!(upload = %session.id, ?error, "part numbers are not given back");
        }
    }

    /// Ends an upload that can't be completed any more, before more of it is sent: what requests left behind that weren't
    /// acknowledged keeps the store from it, and won't be written over, or not all of it by the `rest` that ends the upload
    /// (`None`: more may come).
    pub(super) async fn check_left(&self, session: &mut Session, rest: Option<u64>) -> Result<()> {
        let left = session.left();
        if left.is_empty() || !session.is_multipart() {
            return Ok(());
        }
        let covered = match (self.blobs.unnamed(), rest) {
            (Unnamed::Vanish, _) | (Unnamed::Overwrite, None) => return Ok(()),
            (Unnamed::Overwrite, Some(rest)) => {
                (session.row.tail_length + rest).div_ceil(self.settings.limits.part_size)
            }
            (Unnamed::Doom, _) => 0,
        };
        let key = row::object_key(&session.row.object_key)?;
        let last = match self.blobs.last_part(&key, &session.row.multipart_id).await {
            Ok(last) => last,
            Err(error) => {
                tracing::debug!(%key, ?error, "the parts of an upload can't be listed");
                return Ok(());
            }
        };
        if last.is_none_or(|last| u64::from(last.get()) < u64::from(left.start) + covered) {
            return Ok(());
        }
        tracing::warn!(upload = %session.id, "an upload is given up: a request that died left parts which keep it from being completed");
        self.close_session(session).await?;
        Err(RegistryError::UploadLost)
    }

    /// A whole object of at most a part's length. Its bytes were hashed when they came, and won't be again: a wrong read
    /// would become part of a blob, so it is tried again, and refused.
    pub(super) async fn collect(&self, tail: &Tail) -> Result<Payload> {
        let Tail { object, digest } = tail;
        for read in 1..=READS {
            let mut payload = Payload::default();
            if let Some(last) = object.size.checked_sub(1) {
                let mut stream = self.blobs.get(&object.key, 0, last).await?.bytes;
                while let Some(chunk) = stream.next().await {
                    payload.push(chunk?);
                }
            }
            let is_right = match digest {
                Some(digest) => digest_of(digest.algorithm(), &payload).await? == *digest,
                None => true,
            };
            if payload.len() == object.size && is_right {
                return Ok(payload);
            }
            tracing::warn!(key = %object.key, read, "an upload's tail was read with other bytes than were written");
        }
        Err(row::corrupt("read an upload's tail", "its bytes are wrong"))
    }
}
