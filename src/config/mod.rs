//! Configuration: a file with zot's key names becomes a [`Config`] that is valid, or a list of all its faults.
//!
//! `tree` reads JSON and YAML with line numbers, `keys` is the table of every key there is, `lenient` writes zot's lenient
//! forms out by it, `check` walks the one by the other, `valid` builds the types of `model` and finds contradictions. [`identity`] answers which member this
//! process is; [`limits`] holds every bound of the program. Deliberately absent: opening certificates, resolving peers,
//! asking stores (`verify` and the start do), the environment (but for secrets that a file points there for), and defaults that depend on the machine.

pub mod access;
mod check;
mod docs;
mod duration;
mod events;
pub mod expression;
mod fault;
mod immutable;
pub mod identity;
mod keys;
mod lenient;
pub mod limits;
mod model;
pub mod openid;
mod retention;
mod secret;
pub mod sync;
mod time_window;
mod tree;
mod valid;

#[cfg(test)]
mod tests;

use std::path::Path;

pub use access::{AccessControl, Logins};
pub use docs::keys_as_markdown;
pub use events::{EventSink, Events, SinkKind, SinkLogin, SinkTls};
pub use fault::{ConfigErrors, Fault, FaultKind};
pub use immutable::ImmutableTags;
pub use limits::Limits;
pub use model::{
    BlobStorage, CacheConfig, Cluster, Collecting, Config, Delivery, Durability, DynamoConfig, DynamoTables,
    Extensions, Listen, ListenAddress, Log, LogLevel, LogOutput, MeshTls, MetaStorage, PairSource,
    PostgresConfig, RateLimits, Redirects, RedisConfig, RedisServers, RedisTls, S3Config, S3Credentials,
    S3Encryption, Searching, ServerAddress, Storage, TlsFiles, UserInterface,
};
pub use retention::{KeepRules, KeepTags, Retention, RetentionPolicy, TagPattern};
pub use secret::Secret;
pub use sync::{
    ContentRule, Platform, Remote, Replicate, ReplicateRegistry, Sync, SyncRegistry, TagRule, UpstreamUrl,
};
pub use time_window::TimeWindow;

/// The largest configuration file that is read.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Reads a configuration file: JSON or YAML by its extension, else by its content.
///
/// # Errors
///
/// All faults of the file at once; see [`ConfigErrors`].
pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
    let text = read(path).map_err(|fault| ConfigErrors::new(path.to_owned(), vec![fault]))?;
    parse(path, &text)
}

/// [`load`] for text that was read already; `path` says where from.
///
/// # Errors
///
/// As [`load`].
pub fn parse(path: &Path, text: &str) -> Result<Config, ConfigErrors> {
    let extension = path.extension().and_then(|extension| extension.to_str());
    let notation = tree::Notation::of(extension, text);
    match tree::parse(text, notation) {
        Ok(root) => valid::config(path, &lenient::written_out(root)),
        Err(fault) => Err(ConfigErrors::new(path.to_owned(), vec![fault])),
    }
}

fn read(path: &Path) -> Result<String, Fault> {
    let unreadable = |problem: String| Fault::new(FaultKind::Unreadable, "", problem);
    let size = std::fs::metadata(path)
        .map_err(|error| unreadable(format!("can't be read: {error}")))?
        .len();
    if size > MAX_FILE_BYTES {
        return Err(unreadable(format!(
            "has {size} bytes, more than the {MAX_FILE_BYTES} that a configuration may have"
        )));
    }
    std::fs::read_to_string(path).map_err(|error| unreadable(format!("can't be read: {error}")))
}
