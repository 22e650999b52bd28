//! Blobs: one fetch each, by whoever asks first, for all.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_stream::wrappers::ReceiverStream;

use super::{Growing, Mirror, Shared, SyncError, Wanted, rules::Source};
use crate::{
    admission::BodyError,
    causes,
    oci::{Digest, RepoName, UploadId},
    registry::RegistryError,
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
        let key = Shared::blob_key(wanted.repository, digest);
        if candidates.is_empty() {
            return Ok(None);
        }
        if shared.absent.knows(&key) {
            shared.metrics.mirror("blob", "absent");
            return Ok(None);
        }
        let growing = shared.fetch(wanted.repository, digest, candidates);
        let opened = match growing {
            Ok(growing) => growing.opened().await.map(|_| growing),
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
        let key = Shared::blob_key(wanted.repository, digest);
        if shared.absent.knows(&key) {
            return Ok(None);
        }
        let until = Instant::now() + shared.bounds.within;
        for (source, remote) in shared.candidates(wanted, None) {
            match source.upstream.blob_length(&remote, digest, until).await {
                Ok(length) => return Ok(Some(length)),
                Err(UpstreamError::NotFound) => shared.absent.remember(key.clone(), source.absent_time),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }
}

impl Shared {
    fn indexed(&self, wanted: Wanted<'_>) -> Candidates {
        let position = |source: &Source| self.sources.iter().position(|other| std::ptr::eq(other, source));
        let candidates = self.candidates(wanted, None);
        candidates
            .filter_map(|(source, remote)| Some((position(source)?, remote)))
            .collect()
    }

    /// The fetch that is under way, or a new one.
    fn fetch(
        self: &Arc<Self>,
        repository: &RepoName,
        digest: &Digest,
        candidates: Candidates,
    ) -> Result<Arc<Growing>, SyncError> {
        let key = (repository.clone(), digest.clone());
        let mut fetches = self.fetches.lock();
        if let Some(growing) = fetches.get(&key) {
            self.metrics.mirror("blob", "joined");
            return Ok(growing.clone());
        }
        if fetches.len() >= self.bounds.fetches {
            return Err(SyncError::Busy);
        }
        self.metrics.mirror("blob", "fetched");
        let growing = Arc::new(Growing::new(
            repository.clone(),
            digest.clone(),
            self.bounds.withheld,
        ));
        fetches.insert(key, growing.clone());
        let entry = Entry {
            shared: self.clone(),
            growing: growing.clone(),
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
}

impl Drop for Entry {
    fn drop(&mut self) {
        let Growing {
            repository, digest, ..
        } = &*self.growing;
        let key = (repository.clone(), digest.clone());
        self.shared.fetches.lock().remove(&key);
        self.growing.end(Err(Arc::new(SyncError::Ended)));
    }
}

impl Entry {
    async fn run(self, candidates: Candidates) {
        let Growing {
            repository, digest, ..
        } = &*self.growing;
        let mut last = SyncError::from(UpstreamError::NotFound);
        for (source, remote) in candidates {
            let source = &self.shared.sources[source];
            let fetched = timeout(source.timeout, self.fetch(source, &remote)).await;
            last = match fetched.unwrap_or(Err(SyncError::Late)) {
                Ok(()) => return self.growing.end(Ok(())),
                Err(error) if error.is_absent() => error,
                Err(error) => {
                    let error_chain = causes::in_a_line(&error);
                    tracing::warn!(%repository, %digest, %remote, error = error_chain, "a blob isn't mirrored");
                    return self.growing.end(Err(Arc::new(error)));
                }
            };
            let key = Shared::blob_key(repository, digest);
            self.shared.absent.remember(key, source.absent_time);
        }
        self.growing.end(Err(Arc::new(last)));
    }

    async fn fetch(&self, source: &Source, remote: &RepoName) -> Result<(), SyncError> {
        let Self { shared, growing } = self;
        let (registry, bounds) = (&shared.registry, shared.bounds);
        let (repository, digest) = (&growing.repository, &growing.digest);
        // Whoever asked may have looked just before another fetch ended.
        match registry.blob(repository, digest).await {
            Ok(_) => return Ok(()),
            Err(RegistryError::BlobUnknown) => {}
            Err(error) => return Err(error.into()),
        }
        let until = Instant::now() + bounds.within;
        let incoming = source.upstream.blob(remote, digest, 0, until).await?;
        let length = incoming.length;
        growing.open(length);
        let (sender, body) = mpsc::channel(WAITING);
        let mut aside = None;
        let pushed = async {
            let body = ReceiverStream::new(body);
            let pushed = registry.push_blob(repository, digest, Some(length), body).await;
            pushed.map_err(|error| wrong(error, digest))
        };
        let received = self.receive(source, remote, incoming, sender);
        let kept = self.keep(length, &mut aside);
        let done = tokio::try_join!(pushed, received, kept);
        if let Some(upload) = aside {
            // What isn't removed now is swept later.
            let forgotten = registry
                .forget_asides(repository, &upload, &growing.asides())
                .await;
            if let Err(error) = forgotten {
                tracing::debug!(%repository, %digest, %error, "pieces of a fetch are left to the sweep");
            }
        }
        done.map(|_| ())
    }

    /// Takes the bytes from upstream; what breaks off goes on from there.
    async fn receive(
        &self,
        source: &Source,
        remote: &RepoName,
        incoming: Incoming,
        sender: mpsc::Sender<Result<Bytes, BodyError>>,
    ) -> Result<(), SyncError> {
        let Self { shared, growing } = self;
        let Incoming { length, mut pieces } = incoming;
        let most = 3 * shared.bounds.piece as u64;
        let (mut received, mut tries) = (0, 0);
        while received < length {
            let error = match pieces.next().await {
                Some(Ok(piece)) => {
                    received += piece.len() as u64;
                    if received > length {
                        let now = received;
                        return Err(UpstreamError::Length { before: length, now }.into());
                    }
                    tries = 0;
                    growing.push(piece.clone());
                    // It has ended, and says why.
                    if sender.send(Ok(piece)).await.is_err() {
                        return Ok(());
                    }
                    growing.room(most).await;
                    continue;
                }
                Some(Err(error)) => error,
                None => UpstreamError::Nonsense("less of a blob than it said"),
            };
            tracing::info!(%remote, digest = %growing.digest, received, %error, "a fetch broke off");
            if tries > shared.bounds.retries {
                return Err(error.into());
            }
            tries += 1;
            let until = Instant::now() + shared.bounds.within;
            let rest = source
                .upstream
                .blob(remote, &growing.digest, received, until)
                .await?;
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
        let Self { shared, growing } = self;
        let piece = shared.bounds.piece as u64;
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
