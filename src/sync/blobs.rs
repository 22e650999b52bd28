//! Blobs: one fetch each, by whoever asks first, for all.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;

use super::{Growing, Kind, Mirror, Shared, SyncError, Thing, Wanted, rules::Source, whole::Way};
use crate::{
    admission::BodyError,
    causes,
    oci::{Digest, RepoName, UploadId},
    registry::RegistryError,
    telemetry::Waited,
    upstream::{Incoming, UpstreamError},
};

/// Pieces that wait to be hashed and sent to the store.
const WAITING: usize = 4;

/// The registries that may have a blob, and what its repository is called there.
type Candidates = Vec<(usize, RepoName)>;

impl Mirror {
    /// The fetch of a blob that isn't here: the one that is under way, or a new one. `None`: upstream doesn't have it either, or
    /// it isn't mirrored.
    ///
    /// # Errors
    /// [`SyncError`]: upstream doesn't give it.
    pub async fn blob(
        &self,
        wanted: Wanted<'_>,
        digest: &Digest,
    ) -> Result<Option<Arc<Growing>>, Arc<SyncError>> {
        let shared = &self.shared;
        let candidates = shared.indexed(wanted);
        if candidates.is_empty() {
            return Ok(None);
        }
        let thing = shared.thing(Kind::Blob, wanted, digest.clone().into());
        let opened = match shared.fetch(thing, digest, candidates) {
            Ok(growing) => Waited::for_upstream(growing.opened()).await.map(|_| growing),
            Err(error) => Err(Arc::new(error)),
        };
        match opened {
            Ok(growing) => Ok(Some(growing)),
            Err(error) if error.is_absent() => {
                shared.metrics.mirror("blob", "absent");
                Ok(None)
            }
            Err(error) => {
                shared.metrics.mirror("blob", "failed");
                Err(error)
            }
        }
    }

    /// The length of a blob that isn't here, without fetching it. `None` as of [`blob`](Self::blob).
    ///
    /// # Errors
    /// [`SyncError`].
    pub async fn blob_length(&self, wanted: Wanted<'_>, digest: &Digest) -> Result<Option<u64>, SyncError> {
        let shared = &self.shared;
        let thing = shared.thing(Kind::Blob, wanted, digest.clone().into());
        let running = shared.fetches.lock().get(&thing).cloned();
        if let Some(length) = running.and_then(|growing| growing.length()) {
            return Ok(Some(length));
        }
        if shared.absent.knows(&thing) {
            return Ok(None);
        }
        let until = Instant::now() + shared.within;
        let mut is_absent = false;
        for (source, remote) in shared.candidates(wanted, None) {
            let length = source.upstream.blob_length(&remote, digest, until);
            match Waited::for_upstream(length).await {
                Ok(length) => return Ok(Some(length)),
                Err(UpstreamError::NotFound) => is_absent = true,
                Err(error) => return Err(error.into()),
            }
        }
        if is_absent {
            shared.absent.remember(thing, shared.limits.absent);
        }
        Ok(None)
    }
}

impl Shared {
    fn indexed(&self, wanted: Wanted<'_>) -> Candidates {
        let candidates = self.candidates(wanted, None);
        candidates
            .map(|(source, remote)| (source.position, remote))
            .collect()
    }

    /// The fetch of a blob that isn't here: from this registry, else from those that a client's question goes to. So who asks
    /// for it meanwhile joins it, and is told by it where it isn't.
    pub(super) fn fetch_from(
        self: &Arc<Self>,
        way: Way<'_>,
        digest: &Digest,
    ) -> Result<Arc<Growing>, SyncError> {
        let Way {
            source,
            remote,
            wanted,
        } = way;
        let thing = self.thing(Kind::Blob, wanted, digest.clone().into());
        let mut candidates = vec![(source.position, remote.clone())];
        let others = self.indexed(wanted).into_iter();
        candidates.extend(others.filter(|(position, _)| *position != source.position));
        self.fetch(thing, digest, candidates)
    }

    /// The fetch that is under way, or a new one, unless it is known that nobody has it.
    pub(super) fn fetch(
        self: &Arc<Self>,
        thing: Thing,
        digest: &Digest,
        candidates: Candidates,
    ) -> Result<Arc<Growing>, SyncError> {
        let mut fetches = self.fetches.lock();
        if let Some(growing) = fetches.get(&thing) {
            self.metrics.mirror("blob", "joined");
            return Ok(growing.clone());
        }
        if self.absent.knows(&thing) {
            return Err(UpstreamError::NotFound.into());
        }
        if fetches.len() >= self.limits.fetches {
            return Err(SyncError::Busy);
        }
        self.metrics.mirror("blob", "fetched");
        let growing = Arc::new(Growing::new(
            thing.repository.clone(),
            digest.clone(),
            self.limits.withheld,
        ));
        fetches.insert(thing.clone(), growing.clone());
        let entry = Entry {
            shared: self.clone(),
            growing: growing.clone(),
            thing,
        };
        self.drain.spawn("fetches from other registries", async move {
            entry.run(candidates).await;
        });
        Ok(growing)
    }
}

/// A fetch in the list of them. When it ends, or is cut, its readers are told.
struct Entry {
    shared: Arc<Shared>,
    growing: Arc<Growing>,
    thing: Thing,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.shared.fetches.lock().remove(&self.thing);
        self.growing.end(Err(Arc::new(SyncError::Ended)));
    }
}

impl Entry {
    async fn run(self, candidates: Candidates) {
        let (shared, growing) = (self.shared.clone(), self.growing.clone());
        let mut aside = None;
        let end = self.fetch_any(candidates, &mut aside).await;
        match &end {
            Ok(()) => shared.came(&self.thing),
            Err(error) if error.is_absent() => {
                shared.absent.remember(self.thing.clone(), shared.limits.absent);
            }
            Err(_) => {}
        }
        growing.end(end.map_err(Arc::new));
        drop(self);
        // Only now: those who read pieces turn to the blob when it has ended. What isn't removed is swept later.
        if let Some(upload) = aside {
            let Growing {
                repository, digest, ..
            } = &*growing;
            let asides = growing.asides();
            if let Err(error) = shared.registry.forget_asides(repository, &upload, &asides).await {
                tracing::debug!(%repository, %digest, %error, "pieces of a fetch are left to the sweep");
            }
        }
    }

    /// Fetches it from the first registry that has it: where one has begun to send it, no other is asked.
    async fn fetch_any(&self, candidates: Candidates, aside: &mut Option<UploadId>) -> Result<(), SyncError> {
        let Growing {
            repository, digest, ..
        } = &*self.growing;
        for (source, remote) in candidates {
            let source = &self.shared.sources[source];
            let fetched = timeout(source.timeout, self.fetch(source, &remote, aside)).await;
            match fetched.unwrap_or(Err(SyncError::Late)) {
                Err(error) if error.is_absent() => {}
                fetched => {
                    return fetched.inspect_err(|error| {
                        let error = causes::in_a_line(error);
                        tracing::warn!(%repository, %digest, %remote, error, "a blob isn't mirrored");
                    });
                }
            }
        }
        Err(UpstreamError::NotFound.into())
    }

    async fn fetch(
        &self,
        source: &Source,
        remote: &RepoName,
        aside: &mut Option<UploadId>,
    ) -> Result<(), SyncError> {
        let Self { shared, growing, .. } = self;
        let registry = &shared.registry;
        let (repository, digest) = (&growing.repository, &growing.digest);
        // Whoever asked may have looked just before another fetch ended.
        match registry.blob(repository, digest).await {
            Ok(_) => return Ok(()),
            Err(RegistryError::BlobUnknown) => {}
            Err(error) => return Err(error.into()),
        }
        let until = Instant::now() + shared.within;
        let incoming = source.upstream.blob(remote, digest, 0, until).await?;
        let length = incoming.length;
        growing.open(length, source.early_ranges);
        let (sender, body) = mpsc::channel(WAITING);
        let pushed = async {
            let body = ReceiverStream::new(body);
            let pushed = registry.push_blob(repository, digest, Some(length), body).await;
            pushed.map_err(|error| wrong(error, digest))
        };
        let received = self.receive(source, remote, incoming, sender);
        let kept = self.keep(length, aside);
        tokio::try_join!(pushed, received, kept)?;
        Ok(())
    }

    /// Takes the bytes from upstream; what breaks off goes on from there.
    async fn receive(
        &self,
        source: &Source,
        remote: &RepoName,
        incoming: Incoming,
        sender: mpsc::Sender<Result<Bytes, BodyError>>,
    ) -> Result<(), SyncError> {
        let Self { shared, growing, .. } = self;
        let Incoming { length, mut pieces } = incoming;
        let piece_bytes = shared.limits.piece as u64;
        let (mut received, mut tries, mut resumed) = (0, 0, 0);
        while received < length {
            let error = match pieces.next().await {
                Some(Ok(piece)) => {
                    received += piece.len() as u64;
                    if received > length {
                        let now = received;
                        return Err(UpstreamError::Length { before: length, now }.into());
                    }
                    // Who sends a few bytes each time isn't asked for ever.
                    if received - resumed >= piece_bytes {
                        (tries, resumed) = (0, received);
                    }
                    growing.push(piece.clone());
                    // It has ended, and says why.
                    if sender.send(Ok(piece)).await.is_err() {
                        return Ok(());
                    }
                    growing.room(3 * piece_bytes).await;
                    continue;
                }
                Some(Err(error)) => error,
                None => UpstreamError::Nonsense("less of a blob than it said"),
            };
            tracing::info!(%remote, digest = %growing.digest, received, %error, "a fetch broke off");
            // With it goes its place among the requests at once, which the next one needs.
            drop(pieces);
            if tries > shared.upstream.retries {
                return Err(error.into());
            }
            // Readers wait meanwhile: no longer than for anything else, whatever `retryDelay` is.
            sleep(source.upstream.pause(tries).min(shared.within)).await;
            (tries, resumed) = (tries + 1, received);
            let until = Instant::now() + shared.within;
            let rest = source.upstream.blob(remote, &growing.digest, received, until);
            let rest = rest.await.map_err(|error| match error {
                UpstreamError::NotFound => UpstreamError::Nonsense("a part of a blob that is gone now"),
                error => error,
            })?;
            if rest.length != length {
                let (before, now) = (length, rest.length);
                return Err(UpstreamError::Length { before, now }.into());
            }
            pieces = rest.pieces;
        }
        Ok(())
    }

    /// Puts pieces aside, unless all of the blob fits into memory.
    async fn keep(&self, length: u64, aside: &mut Option<UploadId>) -> Result<(), SyncError> {
        let Self { shared, growing, .. } = self;
        let piece = shared.limits.piece as u64;
        if length <= 3 * piece {
            return Ok(());
        }
        while let Some(piece) = growing.next_piece(piece).await {
            let upload = match &*aside {
                Some(upload) => upload.clone(),
                None => {
                    let upload = shared.registry.start_upload(&growing.repository, None).await?;
                    aside.insert(upload.id).clone()
                }
            };
            let piece = shared.registry.put_aside(&upload, piece).await?;
            growing.put_aside(piece);
        }
        Ok(())
    }
}

/// A wrong digest is upstream's fault here, not a client's.
fn wrong(error: RegistryError, digest: &Digest) -> SyncError {
    match error {
        RegistryError::DigestMismatch { actual, .. } => UpstreamError::Digest {
            expected: digest.clone(),
            actual,
        }
        .into(),
        error => error.into(),
    }
}
