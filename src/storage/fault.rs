//! What a failed request means to who asked, whichever server it was: what drivers translate a server's words to.

use std::error::Error;

use super::{StoreError, StoreErrorKind};

/// A request that failed.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) class: Class,
    source: Box<dyn Error + Send + Sync>,
}

/// What there is to know about a request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// It didn't leave: nobody listens, or no connection is free.
    Unsent,
    /// Refused for now: the server starts, has too many connections, or isn't the one that takes writes.
    Busy,
    /// Refused: others hold the rows for too long, or locked them in a circle.
    Contended,
    /// It may have been applied, or may be yet.
    Unsure,
    /// Refused: no right, or a login that doesn't count.
    Denied,
    /// Refused: no room is left.
    Full,
    /// Refused: the server, or what it has, isn't what it should be.
    Unsupported,
    /// What it holds is broken, or something else than was written.
    Corrupt,
    /// Refused for another reason.
    Refused,
}

impl Fault {
    pub(super) fn new(class: Class, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            class,
            source: source.into(),
        }
    }

    /// Whether the same may be asked again, for it had no effect and may be answered otherwise the next time.
    pub(super) fn may_repeat(&self) -> bool {
        matches!(self.class, Class::Unsent | Class::Busy | Class::Contended)
    }

    pub(super) fn into_store_error(self, operation: &'static str) -> StoreError {
        let kind = match self.class {
            Class::Unsent | Class::Busy | Class::Unsure | Class::Refused => StoreErrorKind::Unavailable,
            Class::Contended => StoreErrorKind::Contended,
            Class::Denied => StoreErrorKind::Denied,
            Class::Full => StoreErrorKind::Full,
            Class::Unsupported => StoreErrorKind::Unsupported,
            Class::Corrupt => StoreErrorKind::Corrupt,
        };
        StoreError::with_source(kind, operation, self.source)
    }

    pub(super) fn into_source(self) -> Box<dyn Error + Send + Sync> {
        self.source
    }
}
