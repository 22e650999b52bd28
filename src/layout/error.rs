//! Why a layout can't be read or written.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::oci::Digest;

/// Why a layout can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A file can't be read or written.
    #[error("{} can't be read or written", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is none.
    #[error("{} is no OCI image layout: {problem}", path.display())]
    None {
        /// Where it was looked for.
        path: PathBuf,
        /// What is wrong.
        problem: &'static str,
    },
    /// The list of what is in it isn't understood.
    #[error("index.json of {}: {problem}", path.display())]
    Index {
        /// Of the layout.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Content isn't what its name says.
    #[error("the content that is called {expected} has the digest {actual}")]
    Digest {
        /// As it is called.
        expected: Digest,
        /// As it is.
        actual: Digest,
    },
    /// A document is longer than any that a registry takes.
    #[error("{digest} has {size} bytes, too many for a manifest")]
    TooLong {
        /// Of the document.
        digest: Digest,
        /// Its length.
        size: u64,
    },
}

impl LayoutError {
    pub(super) fn file(path: &Path, source: io::Error) -> Self {
        Self::File {
            path: path.to_owned(),
            source,
        }
    }
}
