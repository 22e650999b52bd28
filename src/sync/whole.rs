//! A manifest with everything that it refers to, fetched before anybody asks for it.

use std::{collections::BTreeSet, sync::Arc};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Deserialize;
use tokio::time::Instant;

use super::{Shared, SyncError, Wanted, rules::Source};
use crate::{
    causes,
    config::Platform,
    oci::{Descriptor, Digest, Manifest, Reference, RepoName},
    registry::{Counts, RegistryError},
    upstream::{Fetched, UpstreamError},
};

/// Blobs of one manifest that are fetched at once.
const BLOBS: usize = 4;
/// Indexes in indexes that are followed.
const DEPTH: usize = 4;

#[derive(Deserialize)]
struct Index {
    // As everywhere, `null` is what Go writes for an empty list.
    manifests: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
struct Entry {
    digest: String,
    platform: Option<EntryPlatform>,
}

#[derive(Deserialize)]
struct EntryPlatform {
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
}

/// From where something comes, and to where.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) source: &'a Source,
    /// The repository there.
    pub(super) remote: &'a RepoName,
    pub(super) wanted: Wanted<'a>,
}

impl Shared {
    /// Fetches what `manifest` refers to and isn't here: its blobs; of an index, the children that are wanted, whole, with what
    /// refers to them. What was `seen` isn't looked at again: indexes may list each other's entries.
    pub(super) async fn bring_contents(
        self: &Arc<Self>,
        way: Way<'_>,
        manifest: &Fetched,
        depth: usize,
        seen: &mut BTreeSet<Digest>,
        counts: &mut Counts,
    ) -> Result<(), SyncError> {
        self.bring_blobs(way, manifest, counts).await?;
        if depth >= DEPTH {
            return Ok(());
        }
        for child in children(manifest, &way.source.platforms)? {
            if !seen.insert(child.clone()) {
                continue;
            }
            let reference = Reference::Digest(child.clone());
            let (child, is_new) = match self.registry.manifest(way.wanted.repository, &reference).await {
                Ok((descriptor, bytes)) => {
                    let here = Fetched {
                        media_type: descriptor.media_type,
                        digest: child,
                        bytes,
                    };
                    (here, false)
                }
                Err(RegistryError::ManifestUnknown | RegistryError::NameUnknown) => {
                    let until = Instant::now() + self.within;
                    match way.source.upstream.manifest(way.remote, &reference, until).await {
                        Ok(fetched) => (fetched, true),
                        // Indexes may list what their registry doesn't have.
                        Err(UpstreamError::NotFound) => continue,
                        Err(error) => return Err(error.into()),
                    }
                }
                Err(error) => return Err(error.into()),
            };
            let contents = self.bring_contents(way, &child, depth + 1, seen, counts);
            Box::pin(contents).await?;
            if is_new {
                self.bring_along(way, &child.digest, counts).await?;
                self.hold_blobs(way, &child, counts).await?;
                self.count_and_store(way.wanted, &reference, child, counts)
                    .await?;
            }
        }
        Ok(())
    }

    /// Fetches what refers to a manifest. A registry that can't say what does doesn't keep its images from coming.
    pub(super) async fn bring_along(
        self: &Arc<Self>,
        way: Way<'_>,
        subject: &Digest,
        counts: &mut Counts,
    ) -> Result<(), SyncError> {
        match self.referrers_from(way, subject, counts).await {
            Err(error) if error.is_only_of_this() => {
                let repository = way.wanted.repository;
                tracing::info!(%repository, %subject, error = causes::in_a_line(&error), "referrers aren't mirrored");
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// Fetches the blobs of a manifest that aren't here.
    pub(super) async fn bring_blobs(
        self: &Arc<Self>,
        way: Way<'_>,
        manifest: &Fetched,
        counts: &mut Counts,
    ) -> Result<(), SyncError> {
        let fetch = |blob: Descriptor| async move {
            match self.registry.blob(way.wanted.repository, &blob.digest).await {
                Ok(_) => return Ok(Counts::default()),
                Err(RegistryError::BlobUnknown | RegistryError::NameUnknown) => {}
                Err(error) => return Err(error.into()),
            }
            let growing = self.fetch_from(way, &blob.digest)?;
            growing.finished().await.map_err(SyncError::Fetch)?;
            Ok::<_, SyncError>(Counts {
                blobs: 1,
                bytes: blob.size,
                ..Counts::default()
            })
        };
        let blobs = parsed(manifest)?.blobs;
        let mut fetched = stream::iter(blobs.into_iter().map(fetch)).buffer_unordered(BLOBS);
        while let Some(one) = fetched.try_next().await? {
            counts.add(one);
        }
        Ok(())
    }

    /// Sees once more that the blobs of a manifest are here, and stay until it is stored: they may have taken longer to come than
    /// what nothing refers to is kept.
    pub(super) async fn hold_blobs(
        self: &Arc<Self>,
        way: Way<'_>,
        manifest: &Fetched,
        counts: &mut Counts,
    ) -> Result<(), SyncError> {
        for blob in parsed(manifest)?.blobs {
            match self
                .registry
                .whole_blob(way.wanted.repository, &blob.digest)
                .await
            {
                Ok(_) => {}
                Err(RegistryError::BlobUnknown | RegistryError::NameUnknown) => {
                    self.bring_blobs(way, manifest, counts).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Stores a manifest that was fetched, by this reference.
    pub(super) async fn count_and_store(
        &self,
        wanted: Wanted<'_>,
        reference: &Reference,
        fetched: Fetched,
        counts: &mut Counts,
    ) -> Result<(), SyncError> {
        counts.manifests += 1;
        counts.bytes += fetched.bytes.len() as u64;
        self.store(wanted, reference, fetched).await
    }
}

pub(super) fn parsed(manifest: &Fetched) -> Result<Manifest, SyncError> {
    let parsed = Manifest::parse(Some(&manifest.media_type), &manifest.bytes);
    parsed.map_err(|_| UpstreamError::Nonsense("something that is no manifest").into())
}

/// The children of an index that are fetched ahead: those of these platforms, and those that are of none, such as attestations.
fn children(manifest: &Fetched, platforms: &[Platform]) -> Result<Vec<Digest>, SyncError> {
    let listed = parsed(manifest)?.children;
    let listed = listed.into_iter().map(|child| child.digest);
    if platforms.is_empty() {
        return Ok(listed.collect());
    }
    let index: Index = serde_json::from_slice(&manifest.bytes)
        .map_err(|_| UpstreamError::Nonsense("something that is no manifest"))?;
    let is_wanted = |digest: &Digest| {
        index
            .manifests
            .iter()
            .flatten()
            .filter(|entry| entry.digest == digest.as_str())
            .any(|entry| {
                entry.platform.as_ref().is_none_or(|platform| {
                    let said = [&platform.os, &platform.architecture, &platform.variant];
                    let [os, architecture, variant] = said.map(|part| part.as_deref().unwrap_or_default());
                    matches!(os, "" | "unknown")
                        || platforms
                            .iter()
                            .any(|wanted| wanted.is(os, architecture, variant))
                })
            })
    };
    Ok(listed.filter(is_wanted).collect())
}
