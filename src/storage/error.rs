//! What a store can fail with.

use std::{error::Error, fmt, io};

/// A call of a store failed, and (for a write) had no effect.
///
/// A write whose effect isn't known is [`Outcome::Unknown`](super::Outcome::Unknown) for metadata. For objects the
/// difference doesn't matter: every write goes to a fresh key that no row names yet.
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    operation: &'static str,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What the caller can do about a [`StoreError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// The store doesn't answer or answers with a fault of its own: try again later.
    Unavailable,
    /// The store asks for fewer requests: try again later.
    Throttled,
    /// Too many writers at one row for now: try again.
    Contended,
    /// No space is left.
    Full,
    /// The object, or the multipart upload, doesn't exist.
    NotFound,
    /// A part that was named to `complete` isn't there as it was named.
    InvalidPart,
    /// What the store holds can't be what was written.
    Corrupt,
    /// The store refuses the credentials or lacks a right.
    Denied,
    /// The store doesn't know what it was asked for, or answers with what can't be understood: trying again doesn't help.
    Unsupported,
    /// The caller broke the contract (too many operations, a part number out of range): a bug.
    Misuse,
}

impl StoreError {
    /// A failure of `operation` without a cause of its own.
    pub fn new(kind: StoreErrorKind, operation: &'static str) -> Self {
        Self {
            kind,
            operation,
            source: None,
        }
    }

    /// A failure of `operation` caused by `source`.
    pub fn with_source(
        kind: StoreErrorKind,
        operation: &'static str,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self {
            kind,
            operation,
            source: Some(source.into()),
        }
    }

    /// A failure of `operation` caused by the operating system.
    pub(super) fn io(operation: &'static str, source: io::Error) -> Self {
        Self::with_source(io_kind(&source), operation, source)
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

/// What an error of the operating system means to a caller of a store.
pub(super) fn io_kind(error: &io::Error) -> StoreErrorKind {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            StoreErrorKind::Full
        }
        io::ErrorKind::NotFound => StoreErrorKind::NotFound,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => StoreErrorKind::Denied,
        _ => StoreErrorKind::Unavailable,
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            StoreErrorKind::Unavailable => "the store is unavailable",
            StoreErrorKind::Throttled => "the store asks to slow down",
            StoreErrorKind::Contended => "too many writers at one row",
            StoreErrorKind::Full => "no space is left in the store",
            StoreErrorKind::NotFound => "not found",
            StoreErrorKind::InvalidPart => "a part is not as it was named",
            StoreErrorKind::Corrupt => "the store holds something else than was written",
            StoreErrorKind::Denied => "the store denies access",
            StoreErrorKind::Unsupported => "the store doesn't do what it was asked for",
            StoreErrorKind::Misuse => "the call breaks the store's contract",
        };
        write!(f, "{}: {what}", self.operation)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source
            .as_ref()
            .map(|source| source.as_ref() as &(dyn Error + 'static))
    }
}
