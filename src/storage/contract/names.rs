//! Keys that no other clause uses.

use crate::storage::{Key, Space, Version};

/// A partition that no other clause uses.
pub(super) fn fresh(name: &str) -> String {
    format!("{name}-{}", hex::encode(&Version::random().to_bytes()[..8]))
}

pub(super) fn key(space: Space, partition: &str, sort: &str) -> Key {
    Key {
        space,
        partition: partition.to_owned(),
        sort: sort.to_owned(),
    }
}
