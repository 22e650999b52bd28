//! What a failed request means: the one table from a server's words to what can be done about it.
//!
//! Each request is one script, and a server refuses a script before its first write or not at all. So whatever it answers, nothing was
//! written; a connection that breaks, or replicas that don't acknowledge, leave it open.

use std::error::Error;

use super::error::RedisError;
use crate::storage::{StoreError, StoreErrorKind};

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
    /// Refused for now: the server loads its file, is a replica, lacks replicas, or isn't the one that it was.
    Busy,
    /// It may have been applied, or may be yet.
    Unsure,
    /// Refused: no right, or a login that doesn't count.
    Denied,
    /// Refused: no memory is left.
    Full,
    /// Refused: the server isn't one that is used, or not any more.
    Unsupported,
    /// The keys hold something else than was written.
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

    /// Of a connection that isn't to be had.
    pub(super) fn of_connecting(error: RedisError) -> Self {
        Self::new(class(&error), error)
    }

    /// Of a refusal.
    pub(super) fn of_refusal(said: String) -> Self {
        Self::new(by_word(&said), said)
    }

    /// Whether the same may be asked again, for it had no effect and may be answered otherwise the next time.
    pub(super) fn may_repeat(&self) -> bool {
        matches!(self.class, Class::Unsent | Class::Busy)
    }

    pub(super) fn into_store_error(self, operation: &'static str) -> StoreError {
        let kind = match self.class {
            Class::Unsent | Class::Busy | Class::Unsure | Class::Refused => StoreErrorKind::Unavailable,
            Class::Denied => StoreErrorKind::Denied,
            Class::Full => StoreErrorKind::Full,
            Class::Unsupported => StoreErrorKind::Unsupported,
            Class::Corrupt => StoreErrorKind::Corrupt,
        };
        StoreError::with_source(kind, operation, self.source)
    }
}

/// What it means to a request that a server can't be used.
pub(super) fn class(error: &RedisError) -> Class {
    match error {
        RedisError::Asking { .. } | RedisError::Replica { .. } | RedisError::Former { .. } => Class::Unsent,
        RedisError::Refused { said, .. } => match by_word(said) {
            Class::Unsent | Class::Busy => Class::Unsent,
            class => class,
        },
        RedisError::Trust(_)
        | RedisError::Old { .. }
        | RedisError::Mode { .. }
        | RedisError::Unsafe { .. }
        | RedisError::Unknown { .. }
        | RedisError::Newer { .. }
        | RedisError::Gone { .. }
        | RedisError::Garbled { .. } => Class::Unsupported,
    }
}

/// By the first word of what a server says.
fn by_word(said: &str) -> Class {
    match said.split_whitespace().next().unwrap_or_default() {
        // Of our scripts: the keyspace isn't of this run of this server.
        "STATE" => Class::Busy,
        "LOADING" | "BUSY" | "READONLY" | "MASTERDOWN" | "NOREPLICAS" | "NOSCRIPT" | "TRYAGAIN" => {
            Class::Busy
        }
        "NOAUTH" | "WRONGPASS" | "NOPERM" => Class::Denied,
        // The second: its disk is full, or fails.
        "OOM" | "MISCONF" => Class::Full,
        "WRONGTYPE" => Class::Corrupt,
        "MOVED" | "ASK" | "CROSSSLOT" | "CLUSTERDOWN" => Class::Unsupported,
        _ if said.contains("max number of clients") => Class::Busy,
        _ => Class::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_known_by_its_first_word() {
        for (said, class) in [
            (
                "READONLY You can't write against a read only replica.",
                Class::Busy,
            ),
            ("NOREPLICAS Not enough good replicas to write.", Class::Busy),
            ("ERR max number of clients reached", Class::Busy),
            (
                "NOPERM this user has no permissions to run the 'wait' command",
                Class::Denied,
            ),
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                Class::Full,
            ),
            ("ERR unknown command", Class::Refused),
        ] {
            assert_eq!(Fault::of_refusal(said.to_owned()).class, class, "{said}");
        }
    }
}
