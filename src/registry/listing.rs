//! Pages of names, each a range of one partition.

use super::{Registry, Result};
use crate::{
    oci::{MAX_PAGE, Page},
    storage::Space,
};

/// How many names are looked at for one answer, once there is something to answer with.
const LOOKED_AT: usize = 100_000;

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

    /// Those of them that are `included`. Nothing of the answer depends on the others: there is more only if another one
    /// is included, and the answer ends with one that is.
    pub(super) async fn names_of(
        &self,
        partition: &str,
        prefix: &str,
        page: &Page,
        included: &(dyn Fn(&str) -> bool + Send + Sync),
    ) -> Result<Names> {
        let mut found = Names::default();
        let mut rest = Page {
            limit: MAX_PAGE,
            last: page.last.clone(),
        };
        let mut looked_at = 0;
        if page.limit == 0 {
            return Ok(found);
        }
        loop {
            let part = self.names(partition, prefix, &rest).await?;
            looked_at += part.names.len();
            rest.last = part.names.last().cloned();
            for name in part.names.into_iter().filter(|name| included(name)) {
                if found.names.len() == page.limit {
                    found.more = true;
                    return Ok(found);
                }
                found.names.push(name);
            }
            if !part.more {
                break;
            }
            if looked_at >= LOOKED_AT && !found.names.is_empty() {
                found.more = true;
                break;
            }
        }
        Ok(found)
    }
}
