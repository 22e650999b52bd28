//! What a driver is asked before it is a store: to open it, to look at it without changing anything, and what it says of
//! itself. A driver is one folder, and one line in [`open()`](super::open()).

use std::{io, path::PathBuf, sync::Arc, time::SystemTime};

use async_trait::async_trait;
use futures_util::future::BoxFuture;

use super::{AllObjects, AllRows, DatabaseError, RedisError, S3OpenError, StoreError, TablesError};
use crate::config::Limits;

/// A driver of metadata, as it was configured.
#[async_trait]
pub(super) trait MetaDriver: Send + Sync {
    /// What holds the rows, in a word: `tables`.
    fn kind(&self) -> &'static str;

    /// Which one it is, for people.
    fn named(&self) -> String;

    /// What must be the same on all members that share it, by the keys of the configuration. Not among it: endpoints,
    /// regions and credentials, since one store may be reached in several ways.
    fn identity(&self) -> Vec<(String, String)>;

    /// Opens it, or makes it.
    async fn open(&self, limits: &Limits) -> Result<OpenedMeta, OpenError>;

    /// Whether this machine has what [`open`](Self::open) needs of it. What isn't there isn't made.
    async fn examine_here(&self) -> Result<(), OpenError> {
        Ok(())
    }

    /// Asks once for everything that is ever asked of a service, and changes nothing. The store is for who looks further.
    async fn examine(&self, _limits: &Limits) -> (Vec<Look>, Option<Arc<dyn AllRows>>) {
        (Vec::new(), None)
    }

    /// The time by a service's clock; `None` when it doesn't answer, or has none of its own.
    async fn server_time(&self, _limits: &Limits) -> Option<SystemTime> {
        None
    }
}

/// A driver of blobs, as it was configured.
#[async_trait]
pub(super) trait BlobDriver: Send + Sync {
    /// What holds the objects, in a word: `bucket`.
    fn kind(&self) -> &'static str;

    /// As [`MetaDriver::named`].
    fn named(&self) -> String;

    /// As [`MetaDriver::identity`].
    fn identity(&self) -> Vec<(String, String)>;

    /// As [`MetaDriver::open`].
    async fn open(&self, limits: &Limits) -> Result<Arc<dyn AllObjects>, OpenError>;

    /// As [`MetaDriver::examine_here`].
    async fn examine_here(&self) -> Result<(), OpenError> {
        Ok(())
    }

    /// As [`MetaDriver::examine`].
    async fn examine(&self, _limits: &Limits) -> (Vec<Look>, Option<Arc<dyn AllObjects>>) {
        (Vec::new(), None)
    }

    /// As [`MetaDriver::server_time`].
    async fn server_time(&self, _limits: &Limits) -> Option<SystemTime> {
        None
    }
}

/// A metadata store that is open.
pub(super) struct OpenedMeta {
    pub(super) store: Arc<dyn AllRows>,
    /// Writes what is queued and lets go of what is this process's alone; dropped, it only lets go.
    pub(super) close: BoxFuture<'static, ()>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// How it is.
    pub seen: Seen,
    /// What was looked at.
    pub subject: String,
    /// What was found and, unless it is as it should be, what to change.
    pub said: String,
}

/// How something is that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// As it should be.
    Good,
    /// It works, or may be meant; worth a look.
    Doubtful,
    /// A start would be refused.
    Bad,
}

impl Look {
    pub(super) fn new(seen: Seen, subject: impl Into<String>, said: impl Into<String>) -> Self {
        Self {
            seen,
            subject: subject.into(),
            said: said.into(),
        }
    }
}

/// Why what is stored can't be used. Each says what to change.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A directory can't be used.
    #[error("can't use the directory {}", path.display())]
    Directory {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process uses the directory.
    #[error("{} is in use by process {holder}: stop that one, or choose another directory", path.display())]
    InUse {
        /// Its path.
        path: PathBuf,
        /// The process, as it said in the lock file.
        holder: String,
    },
    /// What is in a directory can't be opened.
    #[error("can't open the store in {}", path.display())]
    Store {
        /// Where it is.
        path: PathBuf,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// What was to be looked at isn't there, or can't be looked at.
    #[error("{said}")]
    NotThere {
        /// What, and why.
        said: String,
    },
    /// The bucket can't be used.
    #[error(transparent)]
    Bucket(#[from] S3OpenError),
    /// The tables can't be used.
    #[error(transparent)]
    Tables(#[from] TablesError),
    /// The database can't be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The Redis server can't be used.
    #[error(transparent)]
    Redis(#[from] RedisError),
}
