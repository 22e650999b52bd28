//! The rows of a partition whose sort keys begin with a prefix, page by page.

use super::Result;
use crate::storage::{Entry, MetaStore, Space};

/// How far they are read.
pub(super) struct Pages<'a> {
    space: Space,
    partition: &'a str,
    prefix: &'a str,
    limit: usize,
    after: Option<String>,
    is_over: bool,
}

impl<'a> Pages<'a> {
    /// From the first one on, at most `limit` at once.
    pub(super) fn of(space: Space, partition: &'a str, prefix: &'a str, limit: usize) -> Self {
        Self {
            space,
            partition,
            prefix,
            limit,
            after: None,
            is_over: false,
        }
    }

    /// From what comes after this sort key on, which needn't be one of theirs.
    pub(super) fn after(self, sort: String) -> Self {
        Self {
            after: Some(sort),
            ..self
        }
    }

    /// Those that come next; `None` after the last.
    pub(super) async fn next(&mut self, meta: &dyn MetaStore) -> Result<Option<Vec<Entry>>> {
        if self.is_over {
            return Ok(None);
        }
        let after = self.after.as_deref();
        let page = meta
            .range(self.space, self.partition, self.prefix, after, self.limit)
            .await?;
        self.after = page.entries.last().map(|entry| entry.sort.clone());
        self.is_over = !page.more || self.after.is_none();
        Ok(Some(page.entries))
    }
}
