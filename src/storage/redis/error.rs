//! Why a server can't be used.

use std::error::Error;

use crate::outbound::TrustError;

/// Why a Redis or Valkey server can't be used. Each says what to change; no row was written.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// What storage.cacheDriver.cacert names can't be used.
    #[error("storage.cacheDriver.cacert: name a PEM file of certificates")]
    Trust(#[from] TrustError),
    /// Nobody answers, or not to us.
    #[error("the Redis server {server} of storage.cacheDriver can't be asked")]
    Asking {
        /// Its address.
        server: String,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// It says no.
    #[error("the Redis server {server} refuses {command}: {said}; grant what docs/stores.md lists")]
    Refused {
        /// Its address.
        server: String,
        /// What it was asked.
        command: &'static str,
        /// What it says.
        said: String,
    },
    /// Too old.
    #[error("the server is Redis {version}, and 7.0 is the oldest that is used")]
    Old {
        /// Its version, as it says.
        version: String,
    },
    /// It is something else than one server with all keys.
    #[error(
        "the server runs in {mode} mode, which isn't used: name one server in storage.cacheDriver.url, or Sentinels in addr with \
         a master_name"
    )]
    Mode {
        /// As it says: `cluster` or `sentinel`.
        mode: String,
    },
    /// It changes nothing.
    #[error("the server {server} is a replica: name the one that takes writes in storage.cacheDriver")]
    Replica {
        /// Its address.
        server: String,
    },
    /// It may lose what it acknowledged.
    #[error(
        "the server's {setting} is {value}, with which it may lose what it has acknowledged: set it to {wanted}{alternative}"
    )]
    Unsafe {
        /// A setting of redis.conf.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        wanted: String,
        /// What else can be done.
        alternative: &'static str,
    },
    /// It doesn't say whether it may.
    #[error(
        "the server doesn't say whether it keeps what it has acknowledged ({said}): allow CONFIG GET, or accept that by \
         storage.cacheDriver.durability: relaxed"
    )]
    Unknown {
        /// How it refuses CONFIG GET.
        said: String,
    },
    /// A newer release has it.
    #[error(
        "the keys {prefix}:* were made by a newer release: they have number {number} and may be used from {oldest} on, and this \
         release knows {ours}"
    )]
    Newer {
        /// What they begin with.
        prefix: String,
        /// The number of what is in it.
        number: u64,
        /// The oldest release that may use it.
        oldest: u64,
        /// Ours.
        ours: u64,
    },
    /// Nothing is there, where something was.
    #[error(
        "the keys {prefix}:* that were here are gone, or are others: the server was emptied or replaced. Restore it, or restart the \
         members to begin anew"
    )]
    Gone {
        /// What they begin with.
        prefix: String,
    },
    /// It is behind one that was seen before.
    #[error(
        "the server {server} is a former one, or was restored from a backup: it is in term {term} and one in term {known} was \
         seen. In the second case restart the members"
    )]
    Former {
        /// Its address.
        server: String,
        /// Its term.
        term: u64,
        /// The highest that was seen.
        known: u64,
    },
    /// It answers what can't be understood.
    #[error("the server answers {command} with what can't be understood")]
    Garbled {
        /// What it was asked.
        command: &'static str,
    },
}
