//! What isn't here, or may have moved elsewhere: asked of the mirror.

use std::sync::Arc;

use futures_util::TryStreamExt as _;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::time::{Instant, timeout_at};

use super::{
    blobs::{self, Wanted as Range},
    outcome::{Local, Outcome, Refusal},
};
use crate::{
    admission::BlobSource,
    http::{error, reply::etag},
    oci::{Digest, ManifestKind, MediaType, Reference, RepoName, ResolvedRange},
    registry::RegistryError,
    sync::{Looked, SyncError, Wanted},
};

/// What is here may not be what upstream has by now (RFC 7234, 5.5.2).
const REVALIDATION_FAILED: HeaderValue =
    HeaderValue::from_static("111 - \"the upstream registry can't be asked\"");

/// Who asks for what isn't here.
pub(super) struct Asker {
    /// The host of the registry that they mean.
    pub(super) of: Option<String>,
    /// Their name.
    pub(super) by: String,
}

impl Asker {
    pub(super) fn wants<'a>(&'a self, repository: &'a RepoName) -> Wanted<'a> {
        Wanted {
            repository,
            of: self.of.as_deref(),
            by: &self.by,
        }
    }
}

impl From<Arc<SyncError>> for Refusal {
    fn from(error: Arc<SyncError>) -> Self {
        error::sync(&error).into()
    }
}

impl Local {
    /// The answer `here`, once what upstream has is here, too.
    pub(super) async fn fresh(
        &self,
        wanted: Wanted<'_>,
        reference: &Reference,
        here: impl Future<Output = Outcome>,
    ) -> Outcome {
        match &self.mirror {
            Some(mirror) => after(mirror.look(wanted, reference).await?, here).await,
            None => here.await,
        }
    }

    /// The answer `here`, once what refers to `subject` upstream is here, too.
    pub(super) async fn with_referrers(
        &self,
        wanted: Wanted<'_>,
        subject: &Digest,
        here: impl Future<Output = Outcome>,
    ) -> Outcome {
        match &self.mirror {
            Some(mirror) => after(mirror.referrers(wanted, subject).await?, here).await,
            None => here.await,
        }
    }

    /// A blob while it is being fetched. A part that doesn't reach its end would be given whole before anything is known of
    /// it, so that waits, unless the owner wants it otherwise (`rangesBeforeVerified`).
    pub(super) async fn get_growing_blob(
        &self,
        wanted: Wanted<'_>,
        digest: &Digest,
        headers: &HeaderMap,
    ) -> Outcome {
        let growing = match &self.mirror {
            Some(mirror) => mirror.blob(wanted, digest).await?,
            None => None,
        };
        let growing = growing.ok_or(RegistryError::BlobUnknown)?;
        let whole = || self.get_blob(wanted.repository, digest, headers);
        let Some(length) = growing.opened().await? else {
            return whole().await;
        };
        let etag = etag(digest);
        let all = ResolvedRange {
            first: 0,
            last: length.saturating_sub(1),
        };
        let (status, range) = match blobs::wanted(headers, &etag, digest, length) {
            Ok(Range::Whole) => (StatusCode::OK, all),
            Ok(Range::Part(range)) if range.last == all.last || growing.gives_parts_early() => {
                (StatusCode::PARTIAL_CONTENT, range)
            }
            // There may be such a part: what upstream says of the length isn't verified yet.
            Ok(Range::Part(_) | Range::Parts(..)) | Err(_) => {
                growing.finished().await?;
                return whole().await;
            }
        };
        // There is nothing to give before it is known to be right: then failing can still be said.
        if length == 0 || (range.last == all.last && growing.is_withheld(range.len())) {
            growing.finished().await?;
            return whole().await;
        }
        let mut reply = blobs::described(status, digest, &etag)
            .header("accept-ranges", "bytes")
            .header("content-type", MediaType::OCTET_STREAM)
            .extension(BlobSource {
                digest: digest.clone(),
                length,
                object_key: None,
            });
        if status == StatusCode::PARTIAL_CONTENT {
            let ResolvedRange { first, last } = range;
            reply = reply.header("content-range", format_args!("bytes {first}-{last}/{length}"));
        }
        let bytes = growing.read(self.registry.clone(), range);
        let body = StreamBody::new(bytes.map_ok(Frame::data)).boxed_unsync();
        Ok(reply.stream(range.len(), body))
    }

    /// That a blob can be had from upstream.
    pub(super) async fn head_blob_elsewhere(&self, wanted: Wanted<'_>, digest: &Digest) -> Outcome {
        let length = match &self.mirror {
            Some(mirror) => mirror.blob_length(wanted, digest).await.map_err(Arc::new)?,
            None => None,
        };
        let length = length.ok_or(RegistryError::BlobUnknown)?;
        let reply = blobs::described(StatusCode::OK, digest, &etag(digest))
            .header("accept-ranges", "bytes")
            .header("content-type", MediaType::OCTET_STREAM);
        Ok(reply.head(length))
    }

    /// Brings what a manifest of this kind refers to that is being pushed: an index most likely to manifests, others to blobs.
    /// Whether it is here then.
    pub(super) async fn bring(
        &self,
        wanted: Wanted<'_>,
        digest: &Digest,
        by: Option<ManifestKind>,
        deadline: Instant,
    ) -> bool {
        let Some(mirror) = &self.mirror else {
            return false;
        };
        let blob = async {
            match mirror.blob(wanted, digest).await {
                Ok(Some(growing)) => growing.finished().await.is_ok(),
                Ok(None) | Err(_) => false,
            }
        };
        let manifest = async {
            let reference = Reference::Digest(digest.clone());
            // Somebody else may have brought it.
            mirror.look(wanted, &reference).await.is_ok()
                && self
                    .registry
                    .describe_manifest(wanted.repository, &reference)
                    .await
                    .is_ok()
        };
        let brought = async {
            match by {
                Some(ManifestKind::Index | ManifestKind::DockerList) => manifest.await || blob.await,
                Some(ManifestKind::Image | ManifestKind::DockerManifest) | None => {
                    blob.await || manifest.await
                }
            }
        };
        timeout_at(deadline, brought).await.unwrap_or(false)
    }
}

/// The answer `here`, which says so where upstream couldn't be asked.
async fn after(looked: Looked, here: impl Future<Output = Outcome>) -> Outcome {
    let mut response = here.await?;
    if let Looked::Stale(_) = looked {
        let headers = response.headers_mut();
        headers.insert(header::WARNING, REVALIDATION_FAILED);
    }
    Ok(response)
}
