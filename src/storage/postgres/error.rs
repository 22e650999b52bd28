//! Why a database can't be used.

use std::error::Error;

use crate::{outbound::TrustError, storage::StoreError};

/// Why a database can't be used. Each says what to change; nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// What storage.cacheDriver.cacert names can't be used.
    #[error("storage.cacheDriver.cacert: name a PEM file of certificates")]
    Trust(#[from] TrustError),
    /// Nobody answers, or not to us.
    #[error("the PostgreSQL server of storage.cacheDriver can't be asked")]
    Asking(#[source] Box<dyn Error + Send + Sync>),
    /// Too old.
    #[error("the server is PostgreSQL {version}, and 13 is the oldest that is used")]
    Old {
        /// Its version, as it says.
        version: String,
    },
    /// It may lose what it acknowledged.
    #[error(
        "the server's {setting} is {value}, with which it may lose what it has acknowledged: set it to {wanted}"
    )]
    Unsafe {
        /// A setting of postgresql.conf.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        wanted: &'static str,
    },
    /// It changes nothing.
    #[error("the server is a standby: name the primary in storage.cacheDriver.url, or all of them")]
    Standby,
    /// It isn't there and we can't make it.
    #[error(
        "the schema {schema} can't be made: let the user create it (GRANT CREATE ON DATABASE), or make it \
         (CREATE SCHEMA {schema} AUTHORIZATION of the user)"
    )]
    Create {
        /// Its name.
        schema: String,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// A newer release has it.
    #[error(
        "the schema {schema} was made by a newer release: it has number {number} and may be used from {oldest} on, and this \
         release knows {ours}"
    )]
    Newer {
        /// Its name.
        schema: String,
        /// The number of what is in it.
        number: i32,
        /// The oldest release that may use it.
        oldest: i32,
        /// Ours.
        ours: i32,
    },
    /// It can't be used as it must be.
    #[error("the schema {schema} can't be used: grant what docs/stores.md lists")]
    Rights {
        /// Its name.
        schema: String,
        /// Why.
        #[source]
        source: StoreError,
    },
}
