//! Pieces of a blob that is on its way, put aside to be read before it is whole.
//!
//! A multipart upload gives nothing back until it is complete, so who wants to read a blob while it comes in needs pieces
//! beside it. They lie under a session's prefix, where they are swept with it: a crash leaves nothing that isn't named.

use super::super::{Registry, RegistryError, Result};
use crate::{
    oci::{RepoName, UploadId},
    registry::row,
    storage::{ByteStream, ObjectKey, Payload, Version},
};

/// A piece that was put aside.
#[derive(Clone, Debug)]
pub struct Aside {
    key: ObjectKey,
    length: u64,
}

impl Aside {
    /// Its length in bytes, never 0.
    pub fn length(&self) -> u64 {
        self.length
    }
}

impl Registry {
    /// Puts a piece beside the open upload `id`, which isn't changed by it.
    pub async fn put_aside(&self, id: &UploadId, piece: Payload) -> Result<Aside> {
        let name = hex::encode(Version::random().to_bytes());
        let key = row::object_key(&format!("uploads/{id}/{name}"))?;
        let length = piece.len();
        self.blobs.put(&key, piece).await?;
        Ok(Aside { key, length })
    }

    /// The bytes of a piece from `first` to before `end`. Both lie within it, and there is something between them.
    pub async fn read_aside(&self, aside: &Aside, first: u64, end: u64) -> Result<ByteStream> {
        Ok(self.blobs.get(&aside.key, first, end - 1).await?.bytes)
    }

    /// Ends the upload by whose name pieces were put aside; they go with it.
    pub async fn forget_asides(&self, repository: &RepoName, id: &UploadId, asides: &[Aside]) -> Result<()> {
        match self.cancel(repository, id).await {
            Ok(()) | Err(RegistryError::UploadUnknown) => {}
            Err(error) => return Err(error),
        }
        for aside in asides {
            self.discard(&aside.key).await;
        }
        Ok(())
    }
}
