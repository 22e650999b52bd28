//! One change, carried to another registry: what it refers to first.

use std::{collections::BTreeSet, io, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, future::BoxFuture, stream};
use http::StatusCode;
use tokio::time::Instant;

use super::{Target, Unsent};
use crate::{
    config::ContentRule,
    oci::{Digest, Manifest, Reference, RepoName, ResolvedRange, Tag},
    registry::{
        Blob, Registry, RegistryError, Taken,
        changes::{NameChange, TagMove},
    },
    telemetry::ReplicationOutcome,
    upstream::{Outgoing, UpstreamError},
};

/// What became of bringing something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Brought {
    /// It is there.
    There,
    /// It isn't, for it isn't here either.
    Lacking,
}

/// What a repository is called here and there.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) here: &'a RepoName,
    pub(super) there: &'a RepoName,
}

impl Target {
    /// Carries a change, but for what one of those undoes that come later.
    pub(super) async fn send(
        &self,
        change: &NameChange,
        later: &[NameChange],
        rule: Option<&ContentRule>,
        there: &RepoName,
    ) -> Result<(), Unsent> {
        let here = &change.repository;
        let way = Way { here, there };
        let later: Vec<_> = later.iter().filter(|change| change.repository == *here).collect();
        let moves_on = |tag: &Tag| {
            later
                .iter()
                .any(|change| change.tags.iter().any(|moved| moved.tag == *tag))
        };
        let comes_back = |digest: &Digest| {
            later
                .iter()
                .any(|change| change.came.iter().any(|came| came.digest == *digest))
        };
        let wanted = |moved: &&TagMove| wants(rule, &moved.tag) && !moves_on(&moved.tag);
        let by_tag = change.tags.iter().filter(wanted);
        let by_tag: BTreeSet<_> = by_tag
            .filter_map(|moved| Some(&moved.to.as_ref()?.digest))
            .collect();
        // Which of its manifests have no tag is known only where all tags go.
        if rule.is_none_or(|rule| rule.tags.is_all()) {
            for came in change.came.iter().filter(|came| !by_tag.contains(&came.digest)) {
                let by_digest = Reference::Digest(came.digest.clone());
                self.bring(way, &came.digest, &by_digest, 0).await?;
            }
        }
        let gone: BTreeSet<_> = change.went.iter().map(|went| &went.digest).collect();
        for went in change.went.iter().filter(|went| !comes_back(&went.digest)) {
            self.take_away(way, &Reference::Digest(went.digest.clone()))
                .await?;
        }
        for moved in change.tags.iter().filter(wanted) {
            let by_tag = Reference::Tag(moved.tag.clone());
            match (&moved.to, &moved.from) {
                (Some(to), _) => {
                    self.bring(way, &to.digest, &by_tag, 0).await?;
                }
                // It went with its manifest.
                (None, Some(from)) if gone.contains(&from.digest) => {}
                (None, _) => self.take_away(way, &by_tag).await?,
            }
        }
        Ok(())
    }

    /// Sees that the reference names the manifest there. One that isn't here any more is left: a later change says what became of it.
    /// So is one that isn't whole here, as the mirror leaves it and where clients may push such, if the registry there won't have it.
    pub(super) fn bring<'a>(
        &'a self,
        way: Way<'a>,
        digest: &'a Digest,
        reference: &'a Reference,
        depth: usize,
    ) -> BoxFuture<'a, Result<Brought, Unsent>> {
        async move {
            if depth > self.limits.visits.depth {
                return Err(Unsent::Deep(digest.clone()));
            }
            if self.names(way, reference).await?.as_ref() == Some(digest) {
                return Ok(Brought::There);
            }
            let by_digest = Reference::Digest(digest.clone());
            let (descriptor, bytes) = match self.registry.manifest(way.here, &by_digest).await {
                Ok(found) => found,
                Err(RegistryError::ManifestUnknown | RegistryError::NameUnknown) => return Ok(Brought::Lacking),
                Err(error) => return Err(error.into()),
            };
            let mut is_whole_here = true;
            let is_whole = *reference != by_digest && self.names(way, &by_digest).await?.is_some();
            if !is_whole {
                let manifest = Manifest::parse(Some(&descriptor.media_type), &bytes);
                let manifest = manifest.map_err(|source| Unsent::Manifest {
                    digest: digest.clone(),
                    source,
                })?;
                for child in &manifest.children {
                    let by_digest = Reference::Digest(child.digest.clone());
                    let brought = self.bring(way, &child.digest, &by_digest, depth + 1).await?;
                    is_whole_here &= brought == Brought::There;
                }
                let blobs = manifest.blobs.into_iter().chain(manifest.optional_blobs);
                let sent: Vec<_> = blobs
                    .map(|blob| self.bring_blob(way, blob.digest).boxed())
                    .collect();
                let at_once = self.limits.replication.blobs;
                let brought: Vec<_> = stream::iter(sent).buffer_unordered(at_once).try_collect().await?;
                is_whole_here &= brought.iter().all(|brought| *brought == Brought::There);
            }
            let pushed = self
                .upstream
                .push_manifest(way.there, reference, &descriptor.media_type, bytes);
            match pushed.await {
                Ok(()) => Ok(Brought::There),
                Err(error) if !is_whole_here && error.is_of_this() => {
                    let (to, repository) = (&self.label, way.here);
                    tracing::debug!(to, %repository, %reference, ?error, "what isn't whole here isn't taken there");
                    self.metrics.replicated(to, ReplicationOutcome::Incomplete, 1);
                    Ok(Brought::Lacking)
                }
                Err(error) => Err(error.into()),
            }
        }
        .boxed()
    }

    /// What the reference names there.
    async fn names(&self, way: Way<'_>, reference: &Reference) -> Result<Option<Digest>, UpstreamError> {
        match self.upstream.look(way.there, reference, self.soon()).await {
            Ok(named) => Ok(named.digest),
            Err(UpstreamError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sees that the repository there has a blob.
    async fn bring_blob(&self, way: Way<'_>, digest: Digest) -> Result<Brought, Unsent> {
        match self.upstream.blob_length(way.there, &digest, self.soon()).await {
            Ok(_) => {
                self.is_held(&digest, way.there);
                return Ok(Brought::There);
            }
            Err(UpstreamError::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
        let blob = match self.registry.blob(way.here, &digest).await {
            Ok(blob) => blob,
            Err(RegistryError::BlobUnknown) => return Ok(Brought::Lacking),
            Err(error) => return Err(error.into()),
        };
        let (length, registry, metrics) = (blob.size, self.registry.clone(), self.metrics.clone());
        let label = self.label.clone();
        let read = move |at, most| {
            let (registry, blob, metrics, label) =
                (registry.clone(), blob.clone(), metrics.clone(), label.clone());
            async move {
                let bytes = piece(&registry, &blob, at, most).await?;
                metrics.replicated_bytes(&label, bytes.len() as u64);
                Ok(bytes)
            }
            .boxed()
        };
        let outgoing = Outgoing { length, read: &read };
        let held = self.held.lock().get(&digest).cloned();
        let mount = held.as_ref().filter(|held| *held != way.there);
        let chunk = self.limits.visits.chunk;
        let pushed = self
            .upstream
            .push_blob(way.there, &digest, mount, &outgoing, chunk);
        pushed.await?;
        self.is_held(&digest, way.there);
        Ok(Brought::There)
    }

    fn is_held(&self, digest: &Digest, there: &RepoName) {
        let mut held = self.held.lock();
        if held.len() >= self.limits.replication.held {
            held.clear();
        }
        held.insert(digest.clone(), there.clone());
    }

    /// Takes a tag or a manifest away there, if the registry there lets anybody. Where it doesn't it answers 400 or 405, as the
    /// distribution specification has it ("Deleting tags", "Deleting manifests").
    pub(super) async fn take_away(&self, way: Way<'_>, reference: &Reference) -> Result<(), Unsent> {
        let error = match self.upstream.delete(way.there, reference).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        match error.status() {
            Some(StatusCode::BAD_REQUEST | StatusCode::METHOD_NOT_ALLOWED) => {
                let (to, repository) = (&self.label, way.there);
                tracing::debug!(to, %repository, %reference, ?error, "it can't be deleted there");
                self.metrics.replicated(to, ReplicationOutcome::Undeletable, 1);
                Ok(())
            }
            Some(_) | None => Err(error.into()),
        }
    }

    fn soon(&self) -> Instant {
        Instant::now() + self.limits.visits.answer
    }
}

/// Whether a tag goes by that rule. Signatures go with what they are of.
pub(super) fn wants(rule: Option<&ContentRule>, tag: &Tag) -> bool {
    rule.is_none_or(|rule| rule.tags.includes(tag) || tag.subject().is_some())
}

/// So many bytes of a blob from some byte on; fewer at its end.
async fn piece(registry: &Arc<Registry>, blob: &Blob, at: u64, most: usize) -> io::Result<Bytes> {
    let last = blob.size.min(at.saturating_add(most as u64));
    let Some(last) = last.checked_sub(1).filter(|last| *last >= at) else {
        return Ok(Bytes::new());
    };
    let range = ResolvedRange { first: at, last };
    let read = registry.read(blob, range, Taken::Whole).await;
    let mut pieces = read.map_err(io::Error::other)?;
    let mut bytes = BytesMut::new();
    while let Some(piece) = pieces.next().await {
        bytes.extend_from_slice(&piece.map_err(io::Error::other)?);
    }
    Ok(bytes.freeze())
}
