//! The directory as a driver. Whoever has the metadata beside it has it, too.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;

use super::{
    FsBlobs,
    blocking::run,
    list::{Looked, Walk},
};
use crate::{
    config::Limits,
    files,
    storage::{
        AllObjects, Listed, Listing, MAX_UNFINISHED, StoreError, StoreErrorKind,
        driver::{BlobDriver, OpenError},
        walk::MAX_LISTED,
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

    async fn open(&self, _limits: &Limits) -> Result<Arc<dyn AllObjects>, OpenError> {
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
impl AllObjects for FsBlobs {
    async fn list(&self, after: Option<&str>) -> Result<Listing, StoreError> {
        let (disk, after) = (self.disk.clone(), after.map(str::to_owned));
        run(&self.reads, "list", move || {
            let mut walk = Walk::of(Looked::Objects, after.as_deref(), MAX_LISTED + 1);
            walk.folder(disk.root(), "")?;
            let mut objects = walk.found;
            let more = objects.len() > MAX_LISTED;
            objects.truncate(MAX_LISTED);
            Ok(Listing { objects, more })
        })
        .await
    }

    async fn unfinished(&self) -> Result<Vec<Listed>, StoreError> {
        let disk = self.disk.clone();
        run(&self.reads, "list uploads", move || {
            let mut walk = Walk::of(Looked::Uploads, None, MAX_UNFINISHED);
            walk.folder(disk.root(), "")?;
            Ok(walk.found)
        })
        .await
    }

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
