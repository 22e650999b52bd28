//! What the local service takes: a request that someone has decided about.
//!
//! Two places build an [`Admitted`]: the front's layers, after they authenticated and authorised the client, and the
//! mesh ingress, after it verified the peer and what it vouches for (`tests/it/imports.rs` holds them to it). So the
//! local service can't be called without a decision, and neither door has a way around it.

mod pace;

use std::{collections::BTreeMap, convert::Infallible, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};
use tokio::time::Instant;
use tower::util::BoxCloneSyncService;

pub use self::pace::{Pace, Went};
pub use crate::telemetry::Waited;
use crate::{
    oci::{Action, Digest, Permission, RepoName, Route},
    placement::MemberId,
    storage::{ObjectKey, StoreError},
};

/// A body on its way through the program: a stream of pieces, never collected.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;

/// The local service, and everything in front of it that takes the same request. It answers every request; a failure is
/// a response, too.
pub type Service = BoxCloneSyncService<Admitted, http::Response<Body>, Infallible>;

/// Why a body broke off. Whoever meets one aborts its own side: a body cut short never looks like a shorter body.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The client went away, or what it sent isn't HTTP.
    #[error("the client's connection failed")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The member at the other end went away.
    #[error("the stream from member {peer} failed: {reason}")]
    Peer {
        /// Its name.
        peer: MemberId,
        /// What was seen.
        reason: String,
    },
    /// Fewer or more bytes came than were announced.
    #[error("{received} bytes came where {announced} were announced")]
    Length {
        /// As a header or an `end` said.
        announced: u64,
        /// As counted.
        received: u64,
    },
    /// No byte moved for too long.
    #[error("no progress for {} s", .0.as_secs())]
    Stalled(Duration),
    /// It came too slowly while others waited.
    #[error("the body came too slowly while others waited")]
    Slow,
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// The program is about to end.
    #[error("shutting down")]
    ShuttingDown,
}

/// An empty [`Body`].
pub fn empty() -> Body {
    full(Bytes::new())
}

/// A [`Body`] of one piece.
pub fn full(bytes: Bytes) -> Body {
    http_body_util::Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// Whether a body of so many bytes, if that is known, is small: taken whole by the front before anybody works for it, and
/// small enough to travel with requests that have none.
pub fn is_small(length: Option<u64>) -> bool {
    const MOST: u64 = 16 * 1024;
    length.is_some_and(|length| length <= MOST)
}

/// Who asks, as the front verified it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// `None` is an anonymous caller.
    pub user: Option<String>,
    /// Groups of the user, from the configuration or the identity provider.
    pub groups: Vec<String>,
}

/// What the caller may do, as actions on named repositories. Whether a push creates or overwrites a tag is only known
/// inside the owner's transaction, so the set travels, not a yes.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    actions: BTreeMap<RepoName, Vec<Action>>,
    visible: Visible,
}

/// Which repositories a caller may read, where a request names none: for the catalogue, and for a mount that doesn't say
/// from where.
#[derive(Clone, Default)]
pub enum Visible {
    /// None.
    #[default]
    Nothing,
    /// Every one, also those that are yet to come. Only this crosses the mesh: all else is decided where it is asked.
    Everything,
    /// Those for which this is true.
    Those(Arc<dyn Fn(&RepoName) -> bool + Send + Sync>),
}

impl Visible {
    /// Whether `repository` is among them.
    pub fn includes(&self, repository: &RepoName) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Those(includes) => includes(repository),
        }
    }

    /// Whether it is everything.
    pub fn is_everything(&self) -> bool {
        match self {
            Self::Everything => true,
            Self::Nothing | Self::Those(_) => false,
        }
    }
}

impl fmt::Debug for Visible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::Everything => "Everything",
            Self::Those(_) => "Those",
        })
    }
}

impl Grants {
    /// No rights at all.
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds `actions` on `repository`.
    pub fn grant(&mut self, repository: RepoName, actions: impl IntoIterator<Item = Action>) {
        let held = self.actions.entry(repository).or_default();
        for action in actions {
            if !held.contains(&action) {
                held.push(action);
            }
        }
    }

    /// Whether `action` is allowed on `repository`.
    pub fn allows(&self, repository: &RepoName, action: Action) -> bool {
        self.actions
            .get(repository)
            .is_some_and(|actions| actions.contains(&action))
    }

    /// Lets the caller see what is `visible`.
    pub fn show(&mut self, visible: Visible) {
        self.visible = visible;
    }

    /// What the caller sees of repositories that the request doesn't name.
    pub fn visible(&self) -> &Visible {
        &self.visible
    }

    /// Every repository with its actions.
    pub fn iter(&self) -> impl Iterator<Item = (&RepoName, &[Action])> {
        self.actions
            .iter()
            .map(|(repository, actions)| (repository, actions.as_slice()))
    }
}

/// Names a request in logs of front and owner: the client's `X-Request-Id` where that is 1 to 128 visible ASCII
/// characters without a comma, else one of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// `text`, if it has the form above.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() && b != b',');
        fits.then(|| Self(text.into()))
    }

    /// A new one.
    pub fn random() -> Self {
        Self(hex::encode(crate::storage::Version::random().to_bytes()).into())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A request someone has decided about.
#[derive(Debug)]
pub struct Admitted {
    /// What it asks for.
    pub route: Route,
    /// Method, target, headers and body. The headers carry no credentials any more.
    pub request: http::Request<Body>,
    /// Who asks.
    pub identity: Identity,
    /// What they may do.
    pub grants: Grants,
    /// Address of the client's connection, for logs.
    pub client: String,
    /// For logs.
    pub request_id: RequestId,
    /// When nobody waits for the response head any more.
    pub deadline: Instant,
}

impl Admitted {
    /// Whether the grants cover what the route needs.
    pub fn is_covered(&self) -> bool {
        let refused = |permission: &Permission| {
            permission
                .need
                .refuses(|action| self.grants.allows(&permission.repository, action))
        };
        !self.route.permissions().iter().any(refused)
    }
}

/// Extension of a response that carries bytes of a blob: what the mesh needs to finish a pull whose owner died.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobSource {
    /// Digest of the whole blob.
    pub digest: Digest,
    /// Length of the whole blob in bytes.
    pub length: u64,
    /// Its object; a blob that is still being fetched from elsewhere has none.
    pub object_key: Option<ObjectKey>,
}

/// Extension of every response: where it was made, and how long that took.
#[derive(Clone, Debug, Default)]
pub struct Served {
    /// The member that made it, if that isn't the one the client talks to.
    pub forwarded_to: Option<MemberId>,
    /// Time the local service took to answer.
    pub owner: Duration,
    /// Part of it spent waiting for the stores.
    pub store: Duration,
    /// Part of it spent waiting for other registries.
    pub upstream: Duration,
}

/// Extension of a response that no local service made: a request that was placed on another member came to nothing. The
/// body is empty; the front renders it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The request was handed to its owner and may have been carried out; nobody can tell.
    OutcomeUnknown,
    /// The owner took it but gave no answer within the time anybody waits for one. It changes nothing.
    HoldTimeUp,
    /// The client's body broke off before its end, so nothing was done.
    BodyBroke,
    /// No more of the client's body came, so nothing was done.
    BodyStalled,
    /// The client's body came too slowly while others waited; nothing was done.
    BodySlow,
}

impl Failure {
    /// The status a client gets for it.
    pub fn status(self) -> http::StatusCode {
        match self {
            Self::OutcomeUnknown | Self::HoldTimeUp | Self::BodySlow => http::StatusCode::SERVICE_UNAVAILABLE,
            Self::BodyBroke => http::StatusCode::BAD_REQUEST,
            Self::BodyStalled => http::StatusCode::REQUEST_TIMEOUT,
        }
    }

    /// The response for the front to render.
    pub fn into_response(self) -> http::Response<Body> {
        let mut response = http::Response::new(empty());
        *response.status_mut() = self.status();
        response.extensions_mut().insert(self);
        response
    }
}
