//! Pages of names, each a range of one partition.

use super::{Registry, Result};
use crate::{oci::Page, storage::Space};

/// A piece of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// In byte order.
    pub names: Vec<String>,
    /// There are more: ask again after the last of them.
    pub more: bool,
}

impl Registry {
    /// The names after `prefix` in the sort keys of one partition of the repositories' table.
    pub(super) async fn names(&self, partition: &str, prefix: &str, page: &Page) -> Result<Names> {
        let mut found = Names::default();
        let mut after = page.last.as_ref().map(|last| format!("{prefix}{last}"));
        // One beyond the page tells whether there are more: a store may only know that there may be. And one that bounds
        // its answers by size gives a page in several.
        while page.limit > 0 && found.names.len() <= page.limit {
            let wanted = (page.limit + 1 - found.names.len()).min(crate::storage::MAX_PAGE);
            let rows = self
                .meta
                .range(Space::Repositories, partition, prefix, after.as_deref(), wanted)
                .await?;
            after = rows.entries.last().map(|entry| entry.sort.clone());
            found.names.extend(
                rows.entries
                    .iter()
                    .map(|entry| entry.sort[prefix.len()..].to_owned()),
            );
            if !rows.more || after.is_none() {
                break;
            }
        }
        found.more = found.names.len() > page.limit;
        found.names.truncate(page.limit);
        Ok(found)
    }
}
