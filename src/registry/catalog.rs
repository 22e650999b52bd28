//! The list of all repositories, or of those that somebody may see.

use super::{Names, Registry, Result};
use crate::{
    oci::{Page, RepoName},
    storage::keys,
};

impl Registry {
    /// The repositories that have a manifest, in byte order.
    pub async fn catalog(&self, page: &Page) -> Result<Names> {
        self.names(keys::CATALOG, "", page).await
    }

    /// Those of them that are `included`, as [`Registry::names_of`] has them: where hardly any is, an answer may be short.
    ///
    /// # Errors
    /// [`RegistryError::NoneInSight`](super::RegistryError::NoneInSight) where very many come before the first; and the store's.
    pub async fn catalog_of(
        &self,
        page: &Page,
        included: &(dyn Fn(&RepoName) -> bool + Send + Sync),
    ) -> Result<Names> {
        let is_included = |name: &str| RepoName::parse(name).is_ok_and(|name| included(&name));
        self.names_of(keys::CATALOG, "", page, &is_included).await
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
        let whole = |rest: &str| format!("{folder}{rest}");
        let is_included = |rest: &str| RepoName::parse(&whole(rest)).is_ok_and(|name| included(&name));
        let mut found = self.names_of(keys::CATALOG, &folder, &page, &is_included).await?;
        for name in &mut found.names {
            *name = whole(name);
        }
        Ok(found)
    }
}
