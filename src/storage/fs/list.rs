//! What is in the directory, in the order of keys, for who looks after it. Blocks.

use std::{fs, io, path::Path};

use super::{layout::Entry, read};
use crate::storage::{Listed, StoreError, StoreErrorKind};

/// What is looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Looked {
    Objects,
    Uploads,
}

/// A walk through directories that enters none which has nothing to show.
pub(super) struct Walk<'a> {
    looked_for: Looked,
    after: Option<&'a str>,
    most: usize,
    pub(super) found: Vec<Listed>,
}

impl<'a> Walk<'a> {
    /// For up to `most` whose keys come after `after`.
    pub(super) fn of(looked_for: Looked, after: Option<&'a str>, most: usize) -> Self {
        Self {
            looked_for,
            after,
            most,
            found: Vec::new(),
        }
    }

    /// Whether keys that begin so may come after the last.
    fn may_follow(&self, begin: &str) -> bool {
        self.after
            .is_none_or(|after| begin > after || after.starts_with(begin))
    }

    /// Walks `dir`, which holds the keys that begin with `base`. Long segments are in shards, of which there are none beside
    /// short ones in our directories, so what is found is in order.
    pub(super) fn folder(&mut self, dir: &Path, base: &str) -> Result<(), StoreError> {
        let failed = |error| StoreError::io("list", error);
        let mut names = Vec::new();
        match fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(error)),
            Ok(entries) => {
                for entry in entries {
                    if let Ok(name) = entry.map_err(failed)?.file_name().into_string() {
                        names.push(name);
                    }
                }
            }
        }
        names.sort_by_cached_key(|name| match Entry::parse(name) {
            Some(Entry::Segment(segment)) => format!("{segment}/"),
            Some(Entry::Shard(text) | Entry::Object(text) | Entry::Upload(text) | Entry::Waste(text)) => {
                text.to_owned()
            }
            None => name.clone(),
        });
        for name in names {
            if self.found.len() == self.most {
                return Ok(());
            }
            let path = dir.join(&name);
            match Entry::parse(&name) {
                Some(Entry::Segment(segment)) => {
                    let base = format!("{base}{segment}/");
                    if path.is_dir() && self.may_follow(&base) {
                        self.folder(&path, &base)?;
                    }
                }
                Some(Entry::Shard(shard)) if self.may_follow(&format!("{base}{shard}")) => {
                    self.folder(&path, base)?;
                }
                Some(Entry::Object(leaf)) if self.looked_for == Looked::Objects => {
                    let key = format!("{base}{leaf}");
                    if self.after.is_none_or(|after| key.as_str() > after)
                        && let Some(length) = length(&path)?
                    {
                        self.add(&path, key, length);
                    }
                }
                Some(Entry::Upload(leaf)) if self.looked_for == Looked::Uploads => {
                    self.add(&path, format!("{base}{leaf}"), 0);
                }
                Some(Entry::Shard(_) | Entry::Object(_) | Entry::Upload(_) | Entry::Waste(_)) | None => {}
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &Path, key: String, length: u64) {
        let written = fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        self.found.push(Listed { key, length, written });
    }
}

/// Of the object, unless it is gone meanwhile. A damaged one is listed all the same.
fn length(object: &Path) -> Result<Option<u64>, StoreError> {
    match read::length(object) {
        Err(error) if error.kind() == StoreErrorKind::Corrupt => Ok(Some(0)),
        length => length,
    }
}
