//! What a failed request means: the one table from a server's words to what can be done about it.
//!
//! Each request is one script, and a server refuses a script before its first write or not at all. So whatever it answers, nothing was
//! written; a connection that breaks, or replicas that don't acknowledge, leave it open.

use super::error::RedisError;
use crate::storage::fault::{Class, Fault};

/// Of a connection that isn't to be had.
pub(super) fn of_connecting(error: RedisError) -> Fault {
    Fault::new(class(&error), error)
}

/// Of a refusal.
pub(super) fn of_refusal(said: String) -> Fault {
    Fault::new(by_word(&said), said)
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
            assert_eq!(of_refusal(said.to_owned()).class, class, "{said}");
        }
    }
}
