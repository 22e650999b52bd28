//! What is remembered of one thing.

use std::sync::Arc;

use crate::storage::Version;

/// What was read, and the version of its repository's row at that moment.
#[derive(Debug)]
pub(super) struct Noted<T> {
    pub(super) value: Arc<T>,
    pub(super) version: Version,
}

impl<T> Clone for Noted<T> {
    fn clone(&self) -> Self {
        Self {
            value: self.value.clone(),
            version: self.version,
        }
    }
}
