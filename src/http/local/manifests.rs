//! Manifests: read, asked for, pushed.

use std::collections::BTreeSet;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::BodyExt as _;
use tokio::time::Instant;

use super::{
    mirrored::Asker,
    outcome::{Local, Outcome, Refusal},
};
use crate::{
    admission::{Body, Grants, Identity},
    http::{
        error,
        headers::{announced, is_known, preconditions},
        reply::Reply,
    },
    oci::{Action, Descriptor, MAX_MANIFEST_BYTES, MediaType, Reference, RepoName, Tag, paths},
    registry::{DeleteManifest, MayPush, PutManifest, RegistryError, WhileListed, changes::Cause},
};

/// A push, apart from what is pushed.
pub(super) struct Push {
    pub(super) repository: RepoName,
    pub(super) reference: Reference,
    pub(super) tags: Vec<Tag>,
    pub(super) identity: Identity,
    pub(super) grants: Grants,
    pub(super) deadline: Instant,
}

impl Local {
    pub(super) async fn get_manifest(
        &self,
        repository: &RepoName,
        reference: &Reference,
        headers: &HeaderMap,
    ) -> Outcome {
        // Only who has one already pays for a look before the read.
        if headers.contains_key(header::IF_NONE_MATCH) {
            let descriptor = self.registry.describe_manifest(repository, reference).await?;
            if is_known(headers, &descriptor.digest)? {
                self.registry.count_pull(repository, &descriptor.digest);
                return Ok(described(StatusCode::NOT_MODIFIED, &descriptor).empty());
            }
        }
        let (descriptor, bytes) = self.registry.manifest(repository, reference).await?;
        // The tag may have moved in between.
        let is_known = is_known(headers, &descriptor.digest)?;
        self.registry.count_pull(repository, &descriptor.digest);
        if is_known {
            return Ok(described(StatusCode::NOT_MODIFIED, &descriptor).empty());
        }
        Ok(typed(&descriptor).bytes(bytes))
    }

    pub(super) async fn head_manifest(
        &self,
        repository: &RepoName,
        reference: &Reference,
        headers: &HeaderMap,
    ) -> Outcome {
        let descriptor = self.registry.describe_manifest(repository, reference).await?;
        if is_known(headers, &descriptor.digest)? {
            return Ok(described(StatusCode::NOT_MODIFIED, &descriptor).empty());
        }
        Ok(typed(&descriptor).head(descriptor.size))
    }

    pub(super) async fn put_manifest(
        &self,
        push: Push,
        asker: &Asker,
        headers: &HeaderMap,
        body: Body,
    ) -> Outcome {
        let Push {
            repository,
            reference,
            tags,
            identity,
            grants,
            deadline,
        } = push;
        let media_type = media_type(headers)?;
        let only_if = preconditions(headers)?;
        if announced(headers, &body).is_some_and(|length| length > MAX_MANIFEST_BYTES as u64) {
            return Err(error::manifest_too_large().into());
        }
        // The only body that is ever in memory at once, and bounded.
        let whole = self
            .registry
            .receive_whole(body.into_data_stream(), MAX_MANIFEST_BYTES)
            .await?;
        let put = PutManifest {
            repository: &repository,
            reference: &reference,
            tags: &tags,
            media_type,
            body: whole.bytes.clone(),
            cause: client(&identity),
            may: MayPush {
                create: grants.allows(&repository, Action::Create),
                update: grants.allows(&repository, Action::Update),
            },
            absent: self.absent_from_pushes(&repository),
            only_if: &only_if,
            deadline,
        };
        let kind = put.media_type.as_ref().and_then(MediaType::manifest_kind);
        let mut brought = BTreeSet::new();
        let pushed = loop {
            match self.registry.put_manifest(put.clone()).await {
                // What is mirrored counts as here, and comes now: once each.
                Err(RegistryError::ManifestBlobUnknown { digest })
                    if brought.insert(digest.clone())
                        && self
                            .bring(asker.wants(&repository), &digest, kind, deadline)
                            .await => {}
                pushed => break pushed,
            }
        };
        let pushed = pushed.map_err(|error| unmet(error, &repository, &grants))?;
        let mut reply = Reply::new(StatusCode::CREATED)
            .location(paths::manifest(&repository, &pushed.digest))
            .content_digest(&pushed.digest);
        if let Some(subject) = &pushed.subject {
            reply = reply.header("oci-subject", subject);
        }
        for tag in &pushed.tags {
            reply = reply.header("oci-tag", tag);
        }
        Ok(reply.empty())
    }

    pub(super) async fn delete_manifest(
        &self,
        repository: &RepoName,
        reference: &Reference,
        headers: &HeaderMap,
        identity: &Identity,
        grants: &Grants,
        deadline: Instant,
    ) -> Outcome {
        let delete = DeleteManifest {
            repository,
            reference,
            only_if: &preconditions(headers)?,
            while_listed: WhileListed::Refuse,
            cause: client(identity),
            deadline,
        };
        let deleted = self.registry.delete_manifest(delete).await;
        deleted.map_err(|error| unmet(error, repository, grants))?;
        Ok(Reply::new(StatusCode::ACCEPTED).empty())
    }
}

/// Whose request it is, for people to read.
pub(super) fn client(identity: &Identity) -> Cause<'_> {
    Cause::client(identity.user.as_deref().unwrap_or_default())
}

/// Who may read is told what stands against their condition.
fn unmet(error: RegistryError, repository: &RepoName, grants: &Grants) -> Refusal {
    match error {
        RegistryError::PreconditionFailed {
            current: Some(current),
        } if grants.allows(repository, Action::Read) => error::precondition_failed(&current).into(),
        error => error.into(),
    }
}

/// What is said of a manifest whether or not it follows.
pub(super) fn described(status: StatusCode, descriptor: &Descriptor) -> Reply {
    Reply::new(status)
        .content_digest(&descriptor.digest)
        .header("etag", format_args!("\"{}\"", descriptor.digest))
}

pub(super) fn typed(descriptor: &Descriptor) -> Reply {
    described(StatusCode::OK, descriptor).header("content-type", &descriptor.media_type)
}

fn media_type(headers: &HeaderMap) -> Result<Option<MediaType>, Refusal> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Ok(None);
    };
    let text = HeaderValue::to_str(value).unwrap_or_default();
    Ok(Some(
        MediaType::parse(text).map_err(|error| error::bad_media_type(&error))?,
    ))
}
