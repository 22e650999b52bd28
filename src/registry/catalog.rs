//! The list of all repositories, or of those that somebody may see.

use super::{Names, Registry, Result};
use crate::{
    oci::{MAX_PAGE, Page, RepoName},
    storage::keys,
};

/// How many names are looked at for one answer, once there is something to answer with.
const LOOKED_AT: usize = 100_000;

impl Registry {
    /// The repositories that have a manifest, in byte order.
    pub async fn catalog(&self, page: &Page) -> Result<Names> {
        self.names(keys::CATALOG, "", page).await
    }

    /// Those of them that are `included`. Nothing of the answer depends on the others: there is more only if another one
    /// is included, and the answer ends with one that is. So where hardly any is, an answer may be short, and who has
    /// none that is included waits for the end of the list.
    pub async fn catalog_of(
        &self,
        page: &Page,
        included: &(dyn Fn(&RepoName) -> bool + Send + Sync),
    ) -> Result<Names> {
        self.listed("", page, included).await
    }

    /// Those of them below `folder`, by whole components: with their whole names.
    pub async fn catalog_below(
        &self,
        folder: &RepoName,
        page: &Page,
        included: &(dyn Fn(&RepoName) -> bool + Send + Sync),
    ) -> Result<Names> {
        let folder = format!("{folder}/");
        let last = match page.last.as_deref() {
            // What sorts before all of them is before the first.
            Some(last) if last < folder.as_str() => None,
            Some(last) => match last.strip_prefix(&folder) {
                Some(rest) => Some(rest.to_owned()),
                None => return Ok(Names::default()),
            },
            None => None,
        };
        let page = Page { last, ..page.clone() };
        self.listed(&folder, &page, included).await
    }

    /// The part of what begins with `folder` that is included. The page's last is what follows that.
    async fn listed(
        &self,
        folder: &str,
        page: &Page,
        included: &(dyn Fn(&RepoName) -> bool + Send + Sync),
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
            let part = self.names(keys::CATALOG, folder, &rest).await?;
            looked_at += part.names.len();
            rest.last = part.names.last().cloned();
            let whole = part.names.into_iter().map(|name| format!("{folder}{name}"));
            let is_included = |name: &String| RepoName::parse(name).is_ok_and(|name| included(&name));
            for name in whole.filter(is_included) {
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
