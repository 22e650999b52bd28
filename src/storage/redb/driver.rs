//! The file as a driver: its directory belongs to one process at a time.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;

use super::RedbMeta;
use crate::{
    config::Limits,
    files,
    storage::{
        StoreError,
        driver::{MetaDriver, OpenError, OpenedMeta},
    },
};

/// `meta.redb` in a directory, and a lock beside it.
pub(in crate::storage) struct RedbFile<'a> {
    pub(in crate::storage) root: &'a Path,
}

impl RedbFile<'_> {
    fn path(&self) -> PathBuf {
        self.root.join("meta.redb")
    }
}

#[async_trait]
impl MetaDriver for RedbFile<'_> {
    fn kind(&self) -> &'static str {
        "rows"
    }

    fn named(&self) -> String {
        format!("metadata in {}", self.path().display())
    }

    /// One process has it: its members can't differ.
    fn identity(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    async fn open(&self, _limits: &Limits) -> Result<OpenedMeta, OpenError> {
        let lock = lock(self.root)?;
        let path = self.path();
        let fault = |source: StoreError| OpenError::Store {
            path: path.clone(),
            source,
        };
        let meta = Arc::new(RedbMeta::open(&path).await.map_err(fault)?);
        Ok(OpenedMeta {
            store: meta.clone(),
            close: Box::pin(async move {
                meta.close().await;
                drop(lock);
            }),
        })
    }

    async fn examine_here(&self) -> Result<(), OpenError> {
        files::may_make(self.root).map_err(|source| OpenError::Directory {
            path: self.root.to_owned(),
            source,
        })?;
        let _lock = match self.root.join("lock").exists() {
            true => Some(lock(self.root)?),
            false => None,
        };
        let path = self.path();
        if path.exists() {
            let fault = |source| OpenError::Store {
                path: path.clone(),
                source,
            };
            RedbMeta::open(&path).await.map_err(fault)?.close().await;
        }
        Ok(())
    }
}

/// Locked while it is open. The kernel lets go of it however the process ends.
fn lock(root: &Path) -> Result<File, OpenError> {
    let fault = |source: io::Error| OpenError::Directory {
        path: root.to_owned(),
        source,
    };
    std::fs::create_dir_all(root).map_err(fault)?;
    let mut options = OpenOptions::new();
    // Not truncated: until it is locked it holds the other process's id.
    options.create(true).truncate(false).read(true).write(true);
    let mut file = options.open(root.join("lock")).map_err(fault)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder).map_err(fault)?;
            let holder = match holder.trim() {
                "" => "(unknown)".to_owned(),
                pid => pid.to_owned(),
            };
            return Err(OpenError::InUse {
                path: root.to_owned(),
                holder,
            });
        }
        Err(TryLockError::Error(error)) => return Err(fault(error)),
    }
    let write = |file: &mut File| -> io::Result<()> {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    write(&mut file).map_err(fault)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_directory_has_one_process_which_the_next_one_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = RedbFile { root: folder.path() };
        let limits = Limits::default();
        let first = file.open(&limits).await.unwrap();
        let refused = file.open(&limits).await.err().unwrap();
        let pid = std::process::id().to_string();
        assert!(
            matches!(&refused, OpenError::InUse { holder, .. } if *holder == pid),
            "{refused}"
        );
        first.close.await;
        file.open(&limits).await.unwrap().close.await;
    }
}
