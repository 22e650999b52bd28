//! `import` and `export`: images between registries and OCI image layouts, by the API that every client uses.
//!
//! Either may be ended at any time and started again: what is there already isn't moved again.

mod export;
mod import;
mod place;
mod progress;

use std::io;

use clap::Args;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use self::place::Place;
pub(super) use self::{
    export::{ExportArgs, export},
    import::{ImportArgs, import},
};
use super::caller::{Caller, NoPassword};
use crate::{
    config::Limits,
    layout::LayoutError,
    oci::{Descriptor, Manifest, ManifestError},
    outbound::TrustError,
    upstream::{Purpose, Upstream, UpstreamError, Visit},
};

/// As whom a registry is asked, and how much at once.
#[derive(Debug, Args)]
struct Account {
    #[command(flatten)]
    caller: Caller,
    /// Requests at once
    #[arg(short, long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,
}

/// Why nothing was moved, or not all.
#[derive(Debug, thiserror::Error)]
pub enum MovingError {
    /// The arguments don't say what.
    #[error("{0}")]
    What(String),
    /// Who asks isn't said in full.
    #[error(transparent)]
    Login(#[from] NoPassword),
    /// TLS can't be set up.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The layout can't be read or written.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The registry wants another login.
    #[error(
        "the registry denies access ({0}): say who asks with --user, and the password in PORTOLAN_PASSWORD"
    )]
    Denied(http::StatusCode),
    /// The registry doesn't answer, or refuses.
    #[error(transparent)]
    Registry(UpstreamError),
    /// A manifest isn't one.
    #[error("{digest} is no manifest that a registry takes")]
    Manifest {
        /// Of the manifest.
        digest: crate::oci::Digest,
        /// What is wrong.
        #[source]
        source: ManifestError,
    },
    /// The layout lacks something that its own list, or a manifest, names.
    #[error("{0} isn't in the layout")]
    Missing(crate::oci::Digest),
    /// The registry lacks a blob that one of its manifests names.
    #[error("{0}, which a manifest names, isn't in the registry")]
    Absent(crate::oci::Digest),
    /// Indexes list indexes that list indexes.
    #[error("{0} is too deep in indexes that list each other")]
    Deep(crate::oci::Digest),
    /// More refers to it than comes along.
    #[error("more than {0} manifests refer to it, or to each other")]
    Referrers(usize),
    /// A part of the program failed.
    #[error("the work was given up")]
    Work(#[source] io::Error),
}

impl From<UpstreamError> for MovingError {
    fn from(error: UpstreamError) -> Self {
        match error {
            UpstreamError::Denied(status) => Self::Denied(status),
            error => Self::Registry(error),
        }
    }
}

type Result<T> = std::result::Result<T, MovingError>;

/// The registry at `place`.
fn registry(place: &Place, account: &Account, purpose: Purpose) -> Result<Upstream> {
    let visit = Visit {
        url: place.url.clone(),
        login: account.caller.login()?,
        trust: account.caller.trust(),
        purpose,
        at_once: usize::from(account.jobs),
    };
    Ok(Upstream::visit(visit, &Limits::default())?)
}

/// Moves the blobs that a manifest refers to, so many at once: each by `one`, which is told whether it is required.
async fn each_blob<'a, F>(
    manifest: &'a Manifest,
    at_once: usize,
    one: impl Fn(&'a Descriptor, bool) -> F,
) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    let required = manifest.blobs.iter().map(|blob| one(blob, true));
    let optional = manifest.optional_blobs.iter().map(|blob| one(blob, false));
    let all: Vec<F> = required.chain(optional).collect();
    stream::iter(all).buffer_unordered(at_once).try_collect().await
}

/// Runs what waits for a disk where that holds up nobody.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| MovingError::Work(io::Error::other(error)))
}
