//! The codes of the specification's error bodies.
//!
//! Deliberately absent: which status goes with a code. One code has several (a range is 416, a wrong session 400), so
//! the pairing is the one table in `http`. Docker's `RANGE_INVALID` is absent too: the specification doesn't have it.

use std::fmt;

/// What the `code` of an error body says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The repository doesn't hold this blob.
    BlobUnknown,
    /// The upload can't go on like this: a chunk out of order, say.
    BlobUploadInvalid,
    /// There is no such upload session.
    BlobUploadUnknown,
    /// The digest is malformed, unsupported, or not that of the content.
    DigestInvalid,
    /// The manifest refers to content that the repository doesn't hold.
    ManifestBlobUnknown,
    /// The manifest is malformed or contradicts itself.
    ManifestInvalid,
    /// The repository has no such manifest.
    ManifestUnknown,
    /// The repository's name is malformed.
    NameInvalid,
    /// There is no such repository.
    NameUnknown,
    /// The length is not the announced one.
    SizeInvalid,
    /// The tag is malformed (Docker's code; the specification's list has none for it).
    TagInvalid,
    /// Authentication is required.
    Unauthorized,
    /// Who asks may not do this.
    Denied,
    /// The operation is unsupported.
    Unsupported,
    /// A condition of the request doesn't hold (our own; the specification has no code for 412).
    PreconditionFailed,
    /// Too many requests at once.
    TooManyRequests,
    /// The service can't do it now (Docker's code for 503).
    Unavailable,
    /// Anything else that is the registry's fault (Docker's code for 500).
    Unknown,
}

impl ErrorCode {
    /// The code as it is written in an error body.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::TagInvalid => "TAG_INVALID",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Denied => "DENIED",
            Self::Unsupported => "UNSUPPORTED",
            Self::PreconditionFailed => "PRECONDITION_FAILED",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::Unavailable => "UNAVAILABLE",
            Self::Unknown => "UNKNOWN",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
