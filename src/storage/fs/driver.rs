//! The directory as a driver. Whoever has the metadata beside it has it, too.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;

use super::FsBlobs;
use crate::{
    config::Limits,
    files,
    storage::{
        StoreError, StoreErrorKind,
        driver::{BlobDriver, Content, OpenError},
    },
};

/// `blobs` in a directory.
pub(in crate::storage) struct FileBlobs<'a> {
    pub(in crate::storage) root: &'a Path,
}

impl FileBlobs<'_> {
    fn path(&self) -> PathBuf {
        self.root.join("blobs")
    }
}

#[async_trait]
impl BlobDriver for FileBlobs<'_> {
    fn kind(&self) -> &'static str {
        "directory"
    }

    fn named(&self) -> String {
        format!("content in {}", self.path().display())
    }

    /// One process has it: its members can't differ.
    fn identity(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    async fn open(&self, _limits: &Limits) -> Result<Arc<dyn Content>, OpenError> {
        let path = self.path();
        match FsBlobs::open(&path).await {
            Ok(store) => Ok(Arc::new(store)),
            Err(source) => Err(OpenError::Store { path, source }),
        }
    }

    async fn examine_here(&self) -> Result<(), OpenError> {
        let path = self.path();
        files::may_make(&path).map_err(|source| OpenError::Directory { path, source })
    }
}

#[async_trait]
impl Content for FsBlobs {
    async fn has_any(&self, folder: &str) -> Result<bool, StoreError> {
        let path = self.disk.root().join(folder);
        let look = tokio::task::spawn_blocking(move || match fs::read_dir(path) {
            Ok(mut entries) => Ok(entries.next().is_some()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::io("list", error)),
        });
        look.await
            .map_err(|error| StoreError::with_source(StoreErrorKind::Unavailable, "list", error))?
    }
}
