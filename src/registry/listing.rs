//! Pages of names, each a range of one partition.

use super::{Registry, Result};
use crate::{oci::Page, storage::Space};

/// A piece of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// In byte order.
    pub names: Vec<String>,
    /// There may be more: ask again after the last of them.
    pub more: bool,
}

impl Registry {
    /// The names after `prefix` in the sort keys of one partition of the repositories' table.
    pub(super) async fn names(&self, partition: &str, prefix: &str, page: &Page) -> Result<Names> {
        let mut found = Names::default();
        let mut after = page.last.as_ref().map(|last| format!("{prefix}{last}"));
        // A store that bounds its answers by size gives a page in several.
        while let wanted @ 1.. = page.limit.saturating_sub(found.names.len()) {
            let wanted = wanted.min(crate::storage::MAX_PAGE);
            let rows = self
                .meta
                .range(Space::Repositories, partition, prefix, after.as_deref(), wanted)
                .await?;
            found.more = rows.more;
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
        Ok(found)
    }
}
