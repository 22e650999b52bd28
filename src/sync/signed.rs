//! `onlySigned`: what upstream has no signature of doesn't come.
//!
//! A manifest that something here names needs none of its own: an entry of a signed index, or the signature itself. So does a tag of
//! signatures of what is here. Blobs have none; without a manifest they are no image.
//!
//! Deliberately absent: whose signature it is and whether it is right. That is for whoever runs the image.

use tokio::time::Instant;

use super::{
    Shared, SyncError, Wanted,
    rules::{self, Source},
};
use crate::{
    oci::{Digest, Manifest, Reference, RepoName},
    upstream::{Fetched, Referring, UpstreamError},
};

impl Shared {
    /// Signatures come of what is here: looked at before upstream is asked for them, which may have many of what isn't mirrored.
    ///
    /// # Errors
    /// [`SyncError::Alone`]; or it couldn't be found out.
    pub(super) async fn check_subject(
        &self,
        source: &Source,
        repository: &RepoName,
        reference: &Reference,
    ) -> Result<(), SyncError> {
        match rules::subject_of(reference) {
            Some(subject) if source.only_signed && !self.has_place(repository, &subject).await? => {
                Err(SyncError::Alone(subject))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether a manifest is here, or something here names it, so that it may come.
    pub(super) async fn has_place(&self, repository: &RepoName, digest: &Digest) -> Result<bool, SyncError> {
        let reference = Reference::Digest(digest.clone());
        Ok(self.here(repository, &reference).await?.is_some()
            || self.registry.is_named(repository, digest).await?)
    }

    /// Of what passed [`check_subject`](Self::check_subject).
    ///
    /// # Errors
    /// [`SyncError::Unsigned`]; or it couldn't be found out `until` then.
    pub(super) async fn check_signed(
        &self,
        source: &Source,
        remote: &RepoName,
        wanted: Wanted<'_>,
        reference: &Reference,
        fetched: &Fetched,
        until: Instant,
    ) -> Result<(), SyncError> {
        if !source.only_signed
            || rules::subject_of(reference).is_some()
            || self.belongs(wanted.repository, reference, fetched).await?
            || has_signature(source, remote, &fetched.digest, until).await?
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
}

/// Looks through all that refers to it, as long as there is time.
async fn has_signature(
    source: &Source,
    remote: &RepoName,
    digest: &Digest,
    until: Instant,
) -> Result<bool, UpstreamError> {
    let mut referrers = source.upstream.referrers(remote, digest);
    while let Some(page) = referrers.next(until).await? {
        if page.iter().any(Referring::is_signature) {
            return Ok(true);
        }
    }
    let Some(tag) = rules::signature_tag(digest) else {
        return Ok(false);
    };
    match source.upstream.look(remote, &Reference::Tag(tag), until).await {
        Ok(_) => Ok(true),
        Err(UpstreamError::NotFound) => Ok(false),
        Err(error) => Err(error),
    }
}
