//! Pages of names, each a range of one partition.

use super::{Registry, RegistryError, Result, row};
use crate::{
    oci::{Digest, MAX_PAGE, Page, RepoName},
    storage::{Space, keys},
};

/// Manifests that are read at once, each with its document if that is small.
const MANIFESTS: usize = 100;
/// How many times as many names are looked at for the first one of an answer.
const FOR_THE_FIRST: usize = 10;

/// A piece of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// In byte order.
    pub names: Vec<String>,
    /// There are more: ask again after the last of them.
    pub more: bool,
}

/// A part of the digests of a repository's manifests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digests {
    /// In byte order.
    pub digests: Vec<Digest>,
    /// After what it goes on, if it does.
    pub next: Option<String>,
}

impl Registry {
    /// The digests of the repository's manifests, also of those that no tag names, after the place where the part before ended.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn manifests(&self, repository: &RepoName, after: Option<&str>) -> Result<Digests> {
        let (partition, prefix) = (repository.as_str(), keys::MANIFESTS);
        let page = self
            .meta
            .range(Space::Manifests, partition, prefix, after, MANIFESTS)
            .await?;
        let mut found = Digests {
            next: page
                .entries
                .last()
                .filter(|_| page.more)
                .map(|entry| entry.sort.clone()),
            ..Digests::default()
        };
        for entry in page.entries {
            if row::live(Some(&entry.row))?.is_some() {
                found.digests.push(row::digest(&entry.sort[prefix.len()..])?);
            }
        }
        Ok(found)
    }

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

    /// Those of them that are `included`. No name of another tells of itself: the answer ends with one that is included. There is more
    /// where another one is included, or where so many others come before it that it wasn't looked for.
    ///
    /// # Errors
    /// [`RegistryError::NoneInSight`], since no answer could say from where to go on.
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
            let most = self.settings.limits.names_looked_at;
            if looked_at >= most && !found.names.is_empty() {
                found.more = true;
                break;
            }
            if looked_at >= most.saturating_mul(FOR_THE_FIRST) {
                return Err(RegistryError::NoneInSight);
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        oci::RepoName,
        registry::testing::{World, repo},
        storage::{Expect, MAX_OPS, MetaStore as _, Version, keys},
    };

    #[tokio::test]
    async fn a_list_of_few_among_many_has_an_end() {
        let mut world = World::new();
        // Looked at a thousand at a time.
        world.settings.limits.names_looked_at = 500;
        let one = world.member(1);
        let names: Vec<RepoName> = (0..6_500).map(|n| repo(&format!("r{n:04}"))).collect();
        for some in names.chunks(MAX_OPS) {
            let entries: Vec<_> = some
                .iter()
                .map(|name| keys::catalog_entry(name).put(Expect::Any, Vec::new()))
                .collect();
            world.meta.transact(Version::random(), &entries).await.unwrap();
        }
        let list = async |limit: usize, after: Option<&str>, first: usize| {
            let page = Page {
                limit,
                last: after.map(str::to_owned),
            };
            let included = move |name: &RepoName| {
                let number: usize = name.as_str()[1..].parse().unwrap();
                number >= first
            };
            one.catalog_of(&page, &included).await
        };
        // Without an answer there is nothing to go on from that who asks may know.
        let none = list(10, None, 9_999).await;
        assert!(matches!(none, Err(RegistryError::NoneInSight)), "{none:?}");
        let far = list(10, None, 6_000).await;
        assert!(matches!(far, Err(RegistryError::NoneInSight)), "{far:?}");
        let near = list(2, Some("r5500"), 6_000).await.unwrap();
        assert_eq!(
            (near.names, near.more),
            (vec!["r6000".to_owned(), "r6001".to_owned()], true)
        );
        let short = list(10, Some("r6000"), 9_999).await.unwrap();
        assert_eq!((short.names.len(), short.more), (0, false));
        // With one it may be short, and then goes on from it.
        let begun = list(1_500, None, 900).await.unwrap();
        assert_eq!((begun.names.len(), begun.more), (100, true));
    }
}
