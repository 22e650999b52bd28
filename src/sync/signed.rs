//! `onlySigned`: what upstream has no signature of doesn't come.
//!
//! A manifest that something here names needs none of its own: an entry of a signed index, or the signature itself. Blobs have none;
//! without a manifest they are no image.
//!
//! Deliberately absent: whose signature it is and whether it is right. That is for whoever runs the image.

use tokio::time::Instant;

use super::{
    Shared, SyncError, Wanted,
    rules::{self, Source},
};
use crate::{
    oci::{Digest, Manifest, Reference, RepoName, signing_tool},
    upstream::{Fetched, UpstreamError},
};

impl Shared {
    /// # Errors
    /// [`SyncError::Unsigned`]; or it couldn't be found out.
    pub(super) async fn check_signed(
        &self,
        source: &Source,
        remote: &RepoName,
        wanted: Wanted<'_>,
        reference: &Reference,
        fetched: &Fetched,
    ) -> Result<(), SyncError> {
        if !source.only_signed
            || rules::is_of_signature(reference)
            || self.belongs(wanted.repository, reference, fetched).await?
            || self.has_signature(source, remote, &fetched.digest).await?
        {
            return Ok(());
        }
        let repository = wanted.repository;
        tracing::info!(%repository, %reference, digest = %fetched.digest, "it isn't signed upstream, so it isn't mirrored");
        Err(SyncError::Unsigned(fetched.digest.clone()))
    }

    /// Whether what is asked for by its digest belongs to something that is here.
    async fn belongs(
        &self,
        repository: &RepoName,
        reference: &Reference,
        fetched: &Fetched,
    ) -> Result<bool, SyncError> {
        if matches!(reference, Reference::Tag(_)) {
            return Ok(false);
        }
        if self.registry.is_named(repository, &fetched.digest).await? {
            return Ok(true);
        }
        let manifest = Manifest::parse(Some(&fetched.media_type), &fetched.bytes).ok();
        match manifest.and_then(|manifest| manifest.subject) {
            Some(subject) => Ok(self.here(repository, &subject.digest.into()).await?.is_some()),
            None => Ok(false),
        }
    }

    async fn has_signature(
        &self,
        source: &Source,
        remote: &RepoName,
        digest: &Digest,
    ) -> Result<bool, UpstreamError> {
        let until = || Instant::now() + self.upstream.look;
        let listed = source
            .upstream
            .referrers(remote, digest, self.limits.referrers, until())
            .await?;
        let mut types = listed
            .iter()
            .filter_map(|referrer| referrer.artifact_type.as_deref());
        if types.any(|kind| signing_tool(kind).is_some()) {
            return Ok(true);
        }
        let Some(tag) = rules::signature_tag(digest) else {
            return Ok(false);
        };
        match source.upstream.look(remote, &Reference::Tag(tag), until()).await {
            Ok(_) => Ok(true),
            Err(UpstreamError::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
