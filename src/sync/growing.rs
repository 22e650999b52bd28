//! A blob that is being fetched, and all who read it meanwhile.
//!
//! What has come is in memory until it is put aside, in pieces, under a key of its own; a reader takes each byte from where it is
//! and waits for those that are yet to come. So it makes no difference when a reader came or how slow it is: nobody waits for it, and
//! it waits only for upstream. What a fetch holds in memory is bounded: where putting aside is slower than upstream, upstream
//! waits.
//!
//! The last bytes are withheld until the digest of all is right, so a wrong blob is never given whole.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::SyncError;
use crate::{
    admission::BodyError,
    oci::{Digest, RepoName, ResolvedRange},
    registry::{Aside, Registry, RegistryError, Taken},
    storage::{ByteStream, Payload, StoreError, StoreErrorKind},
};

/// See the module.
pub struct Growing {
    /// The repository that will hold it.
    pub(super) repository: RepoName,
    /// Its digest.
    pub(super) digest: Digest,
    withheld: u64,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    length: Option<u64>,
    early: bool,
    /// Pieces that were put aside, one after the other from the beginning.
    asides: Vec<Aside>,
    /// Bytes in them.
    aside: u64,
    /// What came after them.
    memory: VecDeque<Bytes>,
    /// All bytes that came.
    received: u64,
    end: Option<Result<(), Arc<SyncError>>>,
}

/// Where a byte is.
enum At {
    /// Here, and these follow it.
    Memory(Bytes),
    /// In this piece, from so far behind its beginning to before there: pieces may have bytes that are withheld yet.
    Aside(Aside, u64, u64),
    /// The repository holds the blob.
    Registry,
    /// Not here yet.
    Nowhere,
    /// It won't come.
    Failed(Arc<SyncError>),
}

impl Growing {
    pub(super) fn new(repository: RepoName, digest: Digest, withheld: u64) -> Self {
        Self {
            repository,
            digest,
            withheld,
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    // --- Who fetches ---

    /// Upstream has begun to send a blob of `length` bytes, of which parts may be given `early`, or not.
    pub(super) fn open(&self, length: u64, early: bool) {
        let mut state = self.state.lock();
        (state.length, state.early) = (Some(length), early);
        drop(state);
        self.changed.notify_waiters();
    }

    /// More bytes came.
    pub(super) fn push(&self, bytes: Bytes) {
        let mut state = self.state.lock();
        state.received += bytes.len() as u64;
        state.memory.push_back(bytes);
        drop(state);
        self.changed.notify_waiters();
    }

    /// It is a blob of the repository, or will never be.
    pub(super) fn end(&self, end: Result<(), Arc<SyncError>>) {
        let mut state = self.state.lock();
        state.end.get_or_insert(end);
        // Whoever still reads turns to the repository, if it is there now.
        state.memory = VecDeque::new();
        drop(state);
        self.changed.notify_waiters();
    }

    /// Waits until at most `most` bytes are in memory.
    pub(super) async fn room(&self, most: u64) {
        self.wait(|state| (state.received - state.aside <= most).then_some(()))
            .await;
    }

    /// The next piece to put aside, once there are so many bytes of one; `None` when all came.
    pub(super) async fn next_piece(&self, bytes: u64) -> Option<Payload> {
        self.wait(|state| {
            if state.received - state.aside < bytes {
                return (state.length == Some(state.received)).then_some(None);
            }
            let mut piece = Payload::default();
            for chunk in &state.memory {
                piece.push(chunk.clone());
                if piece.len() >= bytes {
                    break;
                }
            }
            Some(Some(piece))
        })
        .await
    }

    /// The piece that was asked for last lies there now.
    pub(super) fn put_aside(&self, piece: Aside) {
        let mut state = self.state.lock();
        let mut left = piece.length();
        while let Some(chunk) = state.memory.front()
            && let Some(rest) = left.checked_sub(chunk.len() as u64)
            && left > 0
        {
            left = rest;
            state.memory.pop_front();
        }
        state.aside += piece.length();
        state.asides.push(piece);
        drop(state);
        self.changed.notify_waiters();
    }

    /// All that was put aside.
    pub(super) fn asides(&self) -> Vec<Aside> {
        self.state.lock().asides.clone()
    }

    // --- Who reads ---

    /// Its length, once upstream has said it; `None` when it has become a blob of the repository before.
    ///
    /// # Errors
    /// [`SyncError`]: it won't come.
    pub async fn opened(&self) -> Result<Option<u64>, Arc<SyncError>> {
        self.wait(|state| match (&state.end, state.length) {
            (Some(Err(error)), _) => Some(Err(error.clone())),
            (Some(Ok(())), _) => Some(Ok(None)),
            (None, Some(length)) => Some(Ok(Some(length))),
            (None, None) => None,
        })
        .await
    }

    /// Its length, if upstream has said it by now and it isn't over.
    pub(super) fn length(&self) -> Option<u64> {
        let state = self.state.lock();
        state.length.filter(|_| state.end.is_none())
    }

    /// Waits until it is a blob of the repository.
    ///
    /// # Errors
    /// [`SyncError`]: it won't be.
    pub async fn finished(&self) -> Result<(), Arc<SyncError>> {
        self.wait(|state| state.end.clone()).await
    }

    /// Whether a part that doesn't reach the end may be given before all is known to be right.
    pub fn gives_parts_early(&self) -> bool {
        self.state.lock().early
    }

    /// Whether all of its bytes are withheld until it is known to be right.
    pub fn is_withheld(&self, length: u64) -> bool {
        length <= self.withheld
    }

    /// The bytes in `range`, each as soon as it is there.
    pub fn read(
        self: &Arc<Self>,
        registry: Arc<Registry>,
        range: ResolvedRange,
    ) -> impl Stream<Item = Result<Bytes, BodyError>> + Send + use<> {
        let reader = Reader {
            growing: self.clone(),
            registry,
            at: range.first,
            left: range.len(),
            open: None,
            is_piece: false,
        };
        stream::try_unfold(reader, |mut reader| async move {
            Ok(reader.next().await?.map(|bytes| (bytes, reader)))
        })
    }

    fn is_over(&self) -> bool {
        self.state.lock().end.is_some()
    }

    /// What `ask` gives, once it gives something.
    async fn wait<T>(&self, mut ask: impl FnMut(&State) -> Option<T>) -> T {
        loop {
            // It hears of every change from here on.
            let changed = self.changed.notified();
            if let Some(found) = ask(&self.state.lock()) {
                return found;
            }
            changed.await;
        }
    }

    fn at(&self, state: &State, at: u64) -> At {
        let is_over = match &state.end {
            Some(Err(error)) => return At::Failed(error.clone()),
            Some(Ok(())) => true,
            None => false,
        };
        let length = state.length.unwrap_or_default();
        let visible = match is_over {
            true => length,
            false => state.received.min(length.saturating_sub(self.withheld)),
        };
        if at >= visible {
            return if is_over { At::Registry } else { At::Nowhere };
        }
        if at < state.aside {
            // Pieces go when the blob is whole.
            if is_over {
                return At::Registry;
            }
            let mut first = 0;
            for piece in &state.asides {
                if at < first + piece.length() {
                    let end = piece.length().min(visible - first);
                    return At::Aside(piece.clone(), at - first, end);
                }
                first += piece.length();
            }
        }
        let mut first = state.aside;
        for chunk in &state.memory {
            let end = first + chunk.len() as u64;
            if at < end {
                let begin = usize::try_from(at - first).unwrap_or(usize::MAX);
                let most = usize::try_from(visible.min(end) - first).unwrap_or(usize::MAX);
                return At::Memory(chunk.slice(begin.min(most)..most));
            }
            first = end;
        }
        At::Registry
    }
}

/// Somebody who reads.
struct Reader {
    growing: Arc<Growing>,
    registry: Arc<Registry>,
    at: u64,
    left: u64,
    /// A piece that is being read, or the blob.
    open: Option<ByteStream>,
    is_piece: bool,
}

impl Reader {
    async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        while self.left > 0 {
            if let Some(open) = &mut self.open {
                match open.next().await {
                    Some(Ok(bytes)) => match self.take(bytes) {
                        bytes if bytes.is_empty() => continue,
                        bytes => return Ok(Some(bytes)),
                    },
                    // A piece may go while it is read, once the blob is there.
                    Some(Err(_)) if self.is_piece && self.growing.is_over() => self.open = None,
                    Some(Err(error)) => return Err(error.into()),
                    None => self.open = None,
                }
                continue;
            }
            let at = self.at;
            let growing = self.growing.clone();
            let found = growing.wait(|state| match growing.at(state, at) {
                At::Nowhere => None,
                found => Some(found),
            });
            match found.await {
                At::Memory(bytes) => return Ok(Some(self.take(bytes))),
                At::Aside(piece, first, end) => match self.registry.read_aside(&piece, first, end).await {
                    Ok(bytes) => (self.open, self.is_piece) = (Some(bytes), true),
                    // It has become a blob meanwhile, and the piece went.
                    Err(_) if self.growing.is_over() => {}
                    Err(error) => return Err(broken(error)),
                },
                At::Registry => {
                    (self.open, self.is_piece) = (Some(self.rest().await.map_err(broken)?), false);
                }
                At::Nowhere => {}
                At::Failed(error) => {
                    return Err(broken_by(StoreErrorKind::Corrupt, error));
                }
            }
        }
        Ok(None)
    }

    /// The part of `bytes` that is asked for.
    fn take(&mut self, mut bytes: Bytes) -> Bytes {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        bytes.truncate(most);
        self.at += bytes.len() as u64;
        self.left -= bytes.len() as u64;
        bytes
    }

    async fn rest(&mut self) -> Result<ByteStream, RegistryError> {
        let Growing {
            repository, digest, ..
        } = &*self.growing;
        let blob = self.registry.blob(repository, digest).await?;
        let range = ResolvedRange {
            first: self.at,
            last: self.at + self.left - 1,
        };
        self.registry.read(&blob, range, Taken::Whole).await
    }
}

fn broken(error: RegistryError) -> BodyError {
    match error {
        RegistryError::Store(error) => error.into(),
        error => broken_by(StoreErrorKind::Corrupt, Arc::new(error.into())),
    }
}

/// Corrupt is final: the member that the client talks to doesn't try to get the rest by itself.
fn broken_by(kind: StoreErrorKind, error: Arc<SyncError>) -> BodyError {
    StoreError::with_source(kind, "fetch a blob from another registry", error).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    #[test]
    fn what_is_over_holds_no_memory() {
        let blob = Bytes::from_static(b"0123456789");
        let digest = Digest::of(Algorithm::Sha256, &blob);
        for end in [Ok(()), Err(Arc::new(SyncError::Late))] {
            let growing = Growing::new(RepoName::parse("a").unwrap(), digest.clone(), 0);
            growing.open(10, false);
            growing.push(blob.clone());
            let at = |n| growing.at(&growing.state.lock(), n);
            assert!(matches!(at(3), At::Memory(rest) if rest == "3456789"));
            let is_right = end.is_ok();
            growing.end(end);
            assert!(growing.state.lock().memory.is_empty());
            match at(3) {
                At::Registry => assert!(is_right),
                At::Failed(_) => assert!(!is_right),
                At::Memory(_) | At::Aside(..) | At::Nowhere => panic!("neither"),
            }
        }
    }
}
