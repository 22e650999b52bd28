//! The stores of one machine: a directory, for one process at a time.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{StartError, Stores};
use crate::{
    files,
    storage::{FsBlobs, RedbMeta, StoreError},
};

/// An embedded store that is open. The directory is ours until this is dropped.
pub struct Embedded {
    stores: Stores,
    meta: Arc<RedbMeta>,
    // Locked while it is open. The kernel lets go of it however the process ends.
    _lock: File,
}

impl Embedded {
    /// Opens the store in `root`, or makes it.
    ///
    /// # Errors
    /// [`StartError::InUse`] when another process has it open, with that process's id.
    pub async fn open(root: &Path) -> Result<Self, StartError> {
        let lock = lock(root)?;
        let at = |path: PathBuf| move |source: StoreError| StartError::Store { path, source };
        let (rows, objects) = (root.join("meta.redb"), root.join("blobs"));
        let is_new = !rows.exists();
        let meta = Arc::new(RedbMeta::open(&rows).await.map_err(at(rows))?);
        if is_new
            && objects
                .read_dir()
                .is_ok_and(|mut entries| entries.next().is_some())
        {
            tracing::error!(
                blobs = %objects.display(),
                "there was no meta.redb beside what is stored here, so it is of no repository: is this the right directory?"
            );
        }
        let blobs = Arc::new(FsBlobs::open(&objects).await.map_err(at(objects))?);
        Ok(Self {
            stores: Stores {
                meta: meta.clone(),
                blobs,
            },
            meta,
            _lock: lock,
        })
    }

    /// Whether [`open`](Self::open) could open what is in `root`. What isn't there isn't made.
    ///
    /// # Errors
    /// As `open`.
    pub async fn examine(root: &Path) -> Result<(), StartError> {
        let at = |path: PathBuf| move |source: io::Error| StartError::Directory { path, source };
        files::may_make(root).map_err(at(root.to_owned()))?;
        let _lock = match root.join("lock").exists() {
            true => Some(lock(root)?),
            false => None,
        };
        let (rows, objects) = (root.join("meta.redb"), root.join("blobs"));
        if rows.exists() {
            let fault = |source| StartError::Store {
                path: rows.clone(),
                source,
            };
            RedbMeta::open(&rows).await.map_err(fault)?.close().await;
        }
        files::may_make(&objects).map_err(at(objects))
    }

    /// The stores, for any number of members of this process.
    pub fn stores(&self) -> Stores {
        self.stores.clone()
    }

    /// Writes what is queued and closes the files.
    pub async fn close(self) {
        self.meta.close().await;
    }
}

fn lock(root: &Path) -> Result<File, StartError> {
    let fault = |source: io::Error| StartError::Directory {
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
            return Err(StartError::InUse {
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
        let root = tempfile::tempdir().unwrap();
        let first = Embedded::open(root.path()).await.unwrap();
        let refused = Embedded::open(root.path()).await.err().unwrap();
        let pid = std::process::id().to_string();
        assert!(
            matches!(&refused, StartError::InUse { holder, .. } if *holder == pid),
            "{refused}"
        );
        first.close().await;
        Embedded::open(root.path()).await.unwrap().close().await;
    }
}
