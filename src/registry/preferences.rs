//! What users like: repositories that they starred or bookmarked, and how many starred one.
//!
//! A user's word and the count it changes are one transaction, on two rows.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::{
    Registry, RegistryError, Result,
    fence::{self, Fenced},
    pause::Pause,
    row,
};
use crate::{
    oci::RepoName,
    storage::{Expect, Key, MAX_PAGE, Op, Row, Space, Version, keys, rows},
};

/// What a user thinks of a repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Preference {
    /// It counts among its stars.
    pub starred: bool,
    /// They want to find it again.
    pub bookmarked: bool,
}

/// What a user changes their mind about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toggle {
    /// [`Preference::starred`].
    Star,
    /// [`Preference::bookmarked`].
    Bookmark,
}

/// How many users starred the repository with this row.
pub(super) fn stars(found: Option<&Row>) -> Result<u64> {
    match found {
        Some(found) => row::read(found).map(|stars: rows::Stars| stars.count),
        None => Ok(0),
    }
}

/// What the user of this row thinks of its repository.
pub(super) fn preference(found: Option<&Row>) -> Result<Preference> {
    let row: rows::Preference = found.map(row::read).transpose()?.unwrap_or_default();
    Ok(Preference {
        starred: row.starred,
        bookmarked: row.bookmarked,
    })
}

impl Registry {
    /// The user's preferences, of at most `most` repositories.
    pub async fn preferences(&self, user: &str, most: usize) -> Result<BTreeMap<RepoName, Preference>> {
        let (mut found, mut after) = (BTreeMap::new(), None::<String>);
        while found.len() < most {
            let limit = (most - found.len()).min(MAX_PAGE);
            let page = self
                .meta
                .range(Space::Users, user, keys::PREFERENCES, after.as_deref(), limit)
                .await?;
            for entry in &page.entries {
                let name = &entry.sort[keys::PREFERENCES.len()..];
                let name = RepoName::parse(name).map_err(|error| row::corrupt("read a preference", error))?;
                let preference = preference(Some(&entry.row))?;
                if preference != Preference::default() {
                    found.insert(name, preference);
                }
            }
            after = page.entries.into_iter().next_back().map(|entry| entry.sort);
            if !page.more || after.is_none() {
                break;
            }
        }
        Ok(found)
    }

    /// Repositories that somebody starred, with how many did: the first `most` in byte order.
    pub async fn starred(&self, most: usize) -> Result<BTreeMap<RepoName, u64>> {
        let (mut found, mut after) = (BTreeMap::new(), None::<String>);
        while found.len() < most {
            let limit = (most - found.len()).min(MAX_PAGE);
            let page = self
                .meta
                .range(Space::Repositories, keys::STARS, "", after.as_deref(), limit)
                .await?;
            for entry in &page.entries {
                let stars: rows::Stars = row::read(&entry.row)?;
                if let Ok(name) = RepoName::parse(&entry.sort) {
                    found.insert(name, stars.count);
                }
            }
            after = page.entries.into_iter().next_back().map(|entry| entry.sort);
            if !page.more || after.is_none() {
                break;
            }
        }
        Ok(found)
    }

    /// Turns the user's mind about the repository, which must have a manifest.
    ///
    /// # Errors
    /// [`RegistryError::NameUnknown`], [`RegistryError::Contended`] when too many others star it now, and what a store's
    /// failure leads to.
    pub async fn toggle(&self, user: &str, repository: &RepoName, what: Toggle) -> Result<()> {
        if self.versions(std::slice::from_ref(repository)).await?[0].is_none() {
            return Err(RegistryError::NameUnknown);
        }
        let deadline = self.commit_deadline();
        let (mine, all) = (keys::preference(user, repository), keys::stars(repository));
        let mut pause = Pause::new();
        while Instant::now() < deadline {
            let before = self.meta.get(&mine).await?;
            let mut preference = match &before {
                Some(before) => row::read_to_rewrite(before)?,
                None => rows::Preference::default(),
            };
            preference.min_reader = 1;
            let counted = match what {
                Toggle::Bookmark => {
                    preference.bookmarked = !preference.bookmarked;
                    None
                }
                Toggle::Star => {
                    preference.starred = !preference.starred;
                    Some(self.counted(&all, preference.starred).await?)
                }
            };
            // The user's row is the fence, so it stays when there is nothing left to say.
            let expect = Expect::unchanged(before.as_ref());
            let mut ops = vec![mine.clone().put(expect, row::bytes(&preference))];
            ops.extend(counted);
            match fence::transact(&*self.meta, Version::random(), &ops, deadline).await? {
                Fenced::Committed => return Ok(()),
                Fenced::Refused { .. } => pause.wait(deadline).await,
            }
        }
        Err(RegistryError::Contended)
    }

    /// What makes the stars at `key` one more, or one less.
    async fn counted(&self, key: &Key, is_starred: bool) -> Result<Op> {
        let before = self.meta.get(key).await?;
        let mut stars = match &before {
            Some(before) => row::read_to_rewrite(before)?,
            None => rows::Stars::default(),
        };
        stars.min_reader = 1;
        stars.count = match is_starred {
            true => stars.count + 1,
            false => stars.count.saturating_sub(1),
        };
        let (key, expect) = (key.clone(), Expect::unchanged(before.as_ref()));
        Ok(match stars.count {
            0 => key.delete(expect),
            _ => key.put(expect, row::bytes(&stars)),
        })
    }
}
