//! What a request asks for, as a value.
//!
//! A route drives dispatch, policy, placement and metric labels, so it is parsed once and holds everything the request
//! line says. Deliberately absent: headers and bodies (a manifest's media type, a blob's range), and HTTP statuses.

mod parse;
pub mod paths;
mod query;

use super::{
    Action, Algorithm, Digest, HistoryQuery, Need, Page, Permission, Reference, RepoName, Tag, Timestamp,
    Undo, UploadId,
};

/// The most tags one manifest push may name in its query. The specification wants at least 10.
pub const MAX_TAGS_PER_PUT: usize = 30;

/// A request of the distribution API.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the fields are named after their types, which say what they are"
)]
pub enum Route {
    /// `GET`, `HEAD /v2/`: is this a registry, and who am I?
    ApiVersion,
    /// `GET /v2/_catalog`
    Catalog { page: Page },
    /// `GET /v2/<name>/tags/list`
    ListTags { repository: RepoName, page: Page },
    /// `GET /v2/<name>/manifests/<reference>`
    GetManifest {
        repository: RepoName,
        reference: Reference,
    },
    /// `HEAD /v2/<name>/manifests/<reference>`
    HeadManifest {
        repository: RepoName,
        reference: Reference,
    },
    /// `PUT /v2/<name>/manifests/<reference>`. The tags are those of `?tag=`, each once, at most
    /// [`MAX_TAGS_PER_PUT`], and there are none when the reference is itself a tag.
    PutManifest {
        repository: RepoName,
        reference: Reference,
        tags: Vec<Tag>,
    },
    /// `DELETE /v2/<name>/manifests/<reference>`
    DeleteManifest {
        repository: RepoName,
        reference: Reference,
    },
    /// `GET /v2/<name>/blobs/<digest>`
    GetBlob { repository: RepoName, digest: Digest },
    /// `HEAD /v2/<name>/blobs/<digest>`
    HeadBlob { repository: RepoName, digest: Digest },
    /// `DELETE /v2/<name>/blobs/<digest>`
    DeleteBlob { repository: RepoName, digest: Digest },
    /// `POST /v2/<name>/blobs/uploads/`: a session. The algorithm is a promise about the digest that will end it; without
    /// one the digest may still be of any registered algorithm.
    StartUpload {
        repository: RepoName,
        algorithm: Option<Algorithm>,
    },
    /// `POST /v2/<name>/blobs/uploads/?digest=`: the whole blob in one request.
    PushBlob { repository: RepoName, digest: Digest },
    /// `POST /v2/<name>/blobs/uploads/?mount=&from=`. A mount that can't be done becomes a session, whose algorithm is
    /// that of the digest.
    MountBlob {
        repository: RepoName,
        digest: Digest,
        from: Option<RepoName>,
    },
    /// `GET /v2/<name>/blobs/uploads/<id>`
    UploadStatus { repository: RepoName, upload: UploadId },
    /// `PATCH /v2/<name>/blobs/uploads/<id>`
    UploadChunk { repository: RepoName, upload: UploadId },
    /// `PUT /v2/<name>/blobs/uploads/<id>?digest=`
    FinishUpload {
        repository: RepoName,
        upload: UploadId,
        digest: Digest,
    },
    /// `DELETE /v2/<name>/blobs/uploads/<id>`
    CancelUpload { repository: RepoName, upload: UploadId },
    /// `GET /v2/<name>/referrers/<digest>`. Without artifact types there is no filter; with several, any may match.
    Referrers {
        repository: RepoName,
        subject: Digest,
        artifact_types: Vec<String>,
        page: Page,
    },
    /// `GET /v2/<name>/_oci/tag-history/<tag>`: what a tag named, whether it is there or not (distribution-spec#606).
    TagHistory {
        repository: RepoName,
        tag: Tag,
        query: HistoryQuery,
    },
    /// `GET`, `HEAD /v2/<name>/manifests/<tag>?at=`: what the tag named then. (A digest means the same at any time.)
    ManifestAt {
        repository: RepoName,
        tag: Tag,
        at: Timestamp,
    },
    /// `GET /v2/<name>/_portolan/history?n=&before=&tag=`: what became of the repository's names, or of one tag, the newest first.
    Changes {
        repository: RepoName,
        tag: Option<Tag>,
        limit: usize,
        before: Option<Timestamp>,
    },
    /// `GET /v2/_portolan/runs/<run>`: the repositories that a run of retention deleted something from.
    Run { run: String, page: Page },
    /// `POST /v2/<name>/_portolan/restore`: what was deleted or overwritten comes back.
    Restore { repository: RepoName, what: Undo },
}

/// Whether a route may change anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It may be sent again and again.
    Safe,
    /// It may have changed something even if no answer came.
    Unsafe,
}

/// The manifests that a route is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum References {
    /// Those that it names. A listing names none, and neither does a blob.
    Named(Vec<Reference>),
    /// Some that it doesn't name: which those are only the repository tells.
    Untold,
}

/// Why a request line is no [`Route`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// There is nothing at this path.
    #[error("there is no such endpoint")]
    NotFound,
    /// There is something, which the method doesn't fit.
    #[error("the endpoint knows only {allow}")]
    MethodNotAllowed {
        /// The methods that fit, as the `Allow` header has them.
        allow: &'static str,
    },
    /// The repository's name is malformed.
    #[error("{}", super::NameError)]
    NameInvalid,
    /// A tag is malformed, in the path or in the query. No such tag exists.
    #[error("{}", super::TagError)]
    TagInvalid,
    /// A digest is malformed, or missing where one is needed.
    #[error("{}", super::DigestError::Malformed)]
    DigestInvalid,
    /// A digest, or `digest-algorithm`, is of an algorithm that isn't registered.
    #[error("{}", super::DigestError::UnsupportedAlgorithm)]
    AlgorithmUnsupported,
    /// The path names an upload session that can't exist.
    #[error("{}", super::UploadIdError)]
    UploadUnknown,
    /// `n` or `last` is malformed.
    #[error("{}", super::PageError)]
    PageInvalid,
    /// A moment in the query is malformed.
    #[error("{}", super::TimestampError)]
    TimestampInvalid,
    /// It isn't said what to restore, or more than one thing is.
    #[error("say what to restore: tag and at, or digest, or run, or at alone")]
    UndoInvalid,
    /// A manifest push names more than [`MAX_TAGS_PER_PUT`] tags.
    #[error("at most {MAX_TAGS_PER_PUT} different tags are expected with one manifest")]
    TooManyTags,
}

impl Route {
    /// The host of the registry that a client of a mirror means: containerd's `?ns=`, which is on every request it sends to
    /// one.
    #[must_use]
    pub fn namespace(query: Option<&str>) -> Option<String> {
        let namespace = query::Query(query?).first("ns")?;
        Some(namespace.into_owned()).filter(|namespace| !namespace.is_empty())
    }

    /// A short name out of a fixed set, for logs and metric labels.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::ApiVersion => "api_version",
            Self::Catalog { .. } => "catalog",
            Self::ListTags { .. } => "tags_list",
            Self::GetManifest { .. } => "manifest_get",
            Self::HeadManifest { .. } => "manifest_head",
            Self::PutManifest { .. } => "manifest_put",
            Self::DeleteManifest { .. } => "manifest_delete",
            Self::GetBlob { .. } => "blob_get",
            Self::HeadBlob { .. } => "blob_head",
            Self::DeleteBlob { .. } => "blob_delete",
            Self::StartUpload { .. } => "upload_start",
            Self::PushBlob { .. } => "blob_push",
            Self::MountBlob { .. } => "blob_mount",
            Self::UploadStatus { .. } => "upload_status",
            Self::UploadChunk { .. } => "upload_chunk",
            Self::FinishUpload { .. } => "upload_finish",
            Self::CancelUpload { .. } => "upload_cancel",
            Self::Referrers { .. } => "referrers",
            Self::TagHistory { .. } => "tag_history",
            Self::ManifestAt { .. } => "manifest_at",
            Self::Changes { .. } => "history",
            Self::Restore { .. } => "restore",
            Self::Run { .. } => "run",
        }
    }

    /// The repository whose owner serves the route; none for those that any member answers.
    #[must_use]
    pub fn repository(&self) -> Option<&RepoName> {
        match self {
            Self::ApiVersion | Self::Catalog { .. } | Self::Run { .. } => None,
            Self::ListTags { repository, .. }
            | Self::GetManifest { repository, .. }
            | Self::HeadManifest { repository, .. }
            | Self::PutManifest { repository, .. }
            | Self::DeleteManifest { repository, .. }
            | Self::GetBlob { repository, .. }
            | Self::HeadBlob { repository, .. }
            | Self::DeleteBlob { repository, .. }
            | Self::StartUpload { repository, .. }
            | Self::PushBlob { repository, .. }
            | Self::MountBlob { repository, .. }
            | Self::UploadStatus { repository, .. }
            | Self::UploadChunk { repository, .. }
            | Self::FinishUpload { repository, .. }
            | Self::CancelUpload { repository, .. }
            | Self::Referrers { repository, .. }
            | Self::TagHistory { repository, .. }
            | Self::ManifestAt { repository, .. }
            | Self::Changes { repository, .. }
            | Self::Restore { repository, .. } => Some(repository),
        }
    }

    /// What of the repository the route is about: a reference, a digest or an upload. Of a listing there is none.
    #[must_use]
    pub fn subject(&self) -> Option<String> {
        match self {
            Self::ApiVersion
            | Self::Catalog { .. }
            | Self::ListTags { .. }
            | Self::StartUpload { .. }
            | Self::Changes { .. }
            | Self::Run { .. } => None,
            Self::GetManifest { reference, .. }
            | Self::HeadManifest { reference, .. }
            | Self::PutManifest { reference, .. }
            | Self::DeleteManifest { reference, .. } => Some(reference.to_string()),
            Self::GetBlob { digest, .. }
            | Self::HeadBlob { digest, .. }
            | Self::DeleteBlob { digest, .. }
            | Self::PushBlob { digest, .. }
            | Self::MountBlob { digest, .. }
            | Self::FinishUpload { digest, .. } => Some(digest.to_string()),
            Self::UploadStatus { upload, .. }
            | Self::UploadChunk { upload, .. }
            | Self::CancelUpload { upload, .. } => Some(upload.to_string()),
            Self::Referrers { subject, .. } => Some(subject.to_string()),
            Self::TagHistory { tag, .. } | Self::ManifestAt { tag, .. } => Some(tag.to_string()),
            Self::Restore { what, .. } => Some(what.to_string()),
        }
    }

    /// Whether the route may change anything: only those asked for by `GET` and `HEAD` may not.
    #[must_use]
    pub fn effect(&self) -> Effect {
        match self {
            Self::ApiVersion
            | Self::Catalog { .. }
            | Self::ListTags { .. }
            | Self::GetManifest { .. }
            | Self::HeadManifest { .. }
            | Self::GetBlob { .. }
            | Self::HeadBlob { .. }
            | Self::UploadStatus { .. }
            | Self::Referrers { .. }
            | Self::TagHistory { .. }
            | Self::ManifestAt { .. }
            | Self::Changes { .. }
            | Self::Run { .. } => Effect::Safe,
            Self::PutManifest { .. }
            | Self::DeleteManifest { .. }
            | Self::DeleteBlob { .. }
            | Self::StartUpload { .. }
            | Self::PushBlob { .. }
            | Self::MountBlob { .. }
            | Self::UploadChunk { .. }
            | Self::FinishUpload { .. }
            | Self::CancelUpload { .. }
            | Self::Restore { .. } => Effect::Unsafe,
        }
    }

    /// The manifests that it is about, by tags or digests: each of them may be read, changed or brought back.
    #[must_use]
    pub fn references(&self) -> References {
        References::Named(match self {
            Self::GetManifest { reference, .. }
            | Self::HeadManifest { reference, .. }
            | Self::DeleteManifest { reference, .. } => vec![reference.clone()],
            // Each of its tags is moved.
            Self::PutManifest { reference, tags, .. } => {
                let tags = tags.iter().cloned().map(Reference::Tag);
                [reference.clone()].into_iter().chain(tags).collect()
            }
            Self::TagHistory { tag, .. } | Self::ManifestAt { tag, .. } => vec![Reference::Tag(tag.clone())],
            Self::Changes { tag, .. } => tag.iter().cloned().map(Reference::Tag).collect(),
            Self::Restore { what, .. } => match what {
                Undo::Tag { tag, .. } => vec![Reference::Tag(tag.clone())],
                // With the tags that they had.
                Undo::Manifest(_) | Undo::Everything { .. } | Undo::Run(_) => return References::Untold,
            },
            Self::ApiVersion
            | Self::Catalog { .. }
            | Self::Run { .. }
            | Self::ListTags { .. }
            | Self::GetBlob { .. }
            | Self::HeadBlob { .. }
            | Self::DeleteBlob { .. }
            | Self::StartUpload { .. }
            | Self::PushBlob { .. }
            | Self::MountBlob { .. }
            | Self::UploadStatus { .. }
            | Self::UploadChunk { .. }
            | Self::FinishUpload { .. }
            | Self::CancelUpload { .. }
            | Self::Referrers { .. } => Vec::new(),
        })
    }

    /// What must have been granted. A session belongs to a push, so looking at it and giving it up need what starting
    /// it needs. The catalogue needs nothing: what it lists is filtered.
    #[must_use]
    pub fn permissions(&self) -> Vec<Permission> {
        let need = match self {
            Self::ApiVersion | Self::Catalog { .. } | Self::Run { .. } => return Vec::new(),
            Self::ListTags { .. }
            | Self::GetManifest { .. }
            | Self::HeadManifest { .. }
            | Self::GetBlob { .. }
            | Self::HeadBlob { .. }
            | Self::Referrers { .. }
            | Self::TagHistory { .. }
            | Self::ManifestAt { .. }
            | Self::Changes { .. } => Need::Required(Action::Read),
            Self::PutManifest { .. } => Need::AnyOf(&[Action::Create, Action::Update]),
            Self::StartUpload { .. }
            | Self::PushBlob { .. }
            | Self::MountBlob { .. }
            | Self::UploadStatus { .. }
            | Self::UploadChunk { .. }
            | Self::FinishUpload { .. }
            | Self::CancelUpload { .. }
            | Self::Restore { .. } => Need::Required(Action::Create),
            Self::DeleteManifest { .. } | Self::DeleteBlob { .. } => Need::Required(Action::Delete),
        };
        let here = self.repository().map(|repository| Permission {
            repository: repository.clone(),
            need,
        });
        const MAY_READ: Need = Need::Optional(Action::Read);
        let (beside, needs): (_, &[Need]) = match self {
            Self::MountBlob { from, .. } => (from.as_ref(), &[MAY_READ]),
            // Who may is told what stands against a condition.
            Self::PutManifest { repository, .. } | Self::DeleteManifest { repository, .. } => {
                (Some(repository), &[MAY_READ])
            }
            // What was deleted is seen by those who might restore it.
            Self::ManifestAt { repository, .. } => (
                Some(repository),
                &[
                    Need::Optional(Action::Create),
                    Need::Optional(Action::Update),
                    Need::Optional(Action::Delete),
                ],
            ),
            // Who changed something is told to those who might.
            Self::Changes { repository, .. } => (Some(repository), &[Need::Optional(Action::Update)]),
            Self::Restore { repository, .. } => (
                Some(repository),
                &[Need::Required(Action::Update), Need::Optional(Action::Delete)],
            ),
            _ => (None, &[]),
        };
        let beside = beside.into_iter().flat_map(|repository| {
            needs.iter().map(|need| Permission {
                repository: repository.clone(),
                need: *need,
            })
        });
        here.into_iter().chain(beside).collect()
    }
}

#[cfg(test)]
mod tests;
