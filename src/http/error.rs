//! What a condition becomes on the wire: the one table from every layer's errors to status, code and message.
//!
//! No arm is `_`: a new condition doesn't compile until someone decides here. What a client can mend is told in full;
//! what it can't (5xx) names the request instead of our insides, and is logged once, where it is answered.

use std::{
    borrow::Cow,
    error::Error,
    fmt::{self, Write as _},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    admission::{self, Body, BodyError, Failure, RequestId},
    auth::{ApiKeyError, AuthError, oidc::LoginFault},
    causes,
    oci::{
        Digest, EntityTagError, ErrorCode, ManifestError, MediaTypeError, RangeError, RepoName, RouteError,
        UploadId, paths,
    },
    registry::RegistryError,
    storage::StoreErrorKind,
    sync::SyncError,
    upstream::UpstreamError,
};

const OUTCOME: HeaderName = HeaderName::from_static("portolan-outcome");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const UNKNOWN: &str = "unknown";

/// An error answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    status: StatusCode,
    code: ErrorCode,
    message: Cow<'static, str>,
    detail: Option<Box<Value>>,
    /// What clients of OAuth2 read beside it.
    oauth: Option<OAuthError>,
    headers: Vec<(header::HeaderName, HeaderValue)>,
    is_overload: bool,
}

/// What the front itself refuses or gives up.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrontError {
    /// The head can be read in more ways than one, or names no host.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The request line is no route.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// Who asks isn't known, or may not.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// There was no permit for it for too long.
    #[error("no room for another request")]
    Overloaded,
    /// What was read of the body before it was admitted broke off.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// This client asks too often (`http.ratelimit`).
    #[error("too many requests; try again in {} ms", .0.as_millis().max(1))]
    TooFast(Duration),
    /// No answer came in time to a request that changes nothing.
    #[error("no answer within {} s", .0.as_secs())]
    Late(Duration),
    /// No answer came in time to a request that may have changed something.
    #[error("no answer within {} s; the outcome is unknown", .0.as_secs())]
    LateUnknown(Duration),
}

/// What is wrong with a request's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    /// It names no authority.
    #[error("a request has one Host, this one has none")]
    NoHost,
    /// It names several.
    #[error("a request has one Host, this one has several")]
    SeveralHosts,
    /// It names something else.
    #[error("Host is not a name or an address with perhaps a port")]
    Host,
    /// Its body is framed by something else than a length or `chunked`, once.
    #[error("the only Transfer-Encoding here is chunked, once")]
    TransferEncoding,
}

impl Answer {
    fn new(status: StatusCode, code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            detail: None,
            oauth: None,
            headers: Vec::new(),
            is_overload: false,
        }
    }

    fn with(mut self, name: header::HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The same, for clients of OAuth2.
    pub(super) fn with_oauth(self, error: OAuthError) -> Self {
        Self {
            oauth: Some(error),
            ..self
        }
    }

    /// The status.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// The response, with the specification's error body.
    pub(super) fn into_response(self, id: &RequestId) -> Response<Body> {
        let mut error = json!({ "code": self.code.as_str(), "message": self.message });
        if let Some(detail) = self.detail {
            error["detail"] = *detail;
        }
        if self.status.is_server_error() {
            error["detail"]["requestId"] = json!(id.as_str());
        }
        let mut body = json!({ "errors": [error] });
        if let Some(oauth) = self.oauth.filter(|_| self.status.is_client_error()) {
            body["error"] = json!(oauth.as_str());
            body["error_description"] = json!(self.message);
        }
        let body = body.to_string();
        let mut response = Response::new(admission::full(body.into()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in self.headers {
            headers.append(name, value);
        }
        if self.is_overload {
            response.extensions_mut().insert(Overload);
        }
        response
    }
}

/// A request line that is no route. A malformed tag names nothing: only a push can be told to spell it better.
pub(super) fn route(error: &RouteError, method: &Method) -> Answer {
    let message = error.to_string();
    match error {
        RouteError::NotFound => Answer::new(StatusCode::NOT_FOUND, ErrorCode::Unsupported, message),
        RouteError::MethodNotAllowed { allow } => {
            Answer::new(StatusCode::METHOD_NOT_ALLOWED, ErrorCode::Unsupported, message)
                .with(header::ALLOW, HeaderValue::from_static(allow))
        }
        RouteError::NameInvalid => Answer::new(StatusCode::BAD_REQUEST, ErrorCode::NameInvalid, message),
        RouteError::TagInvalid if *method == Method::PUT => {
            Answer::new(StatusCode::BAD_REQUEST, ErrorCode::TagInvalid, message)
        }
        RouteError::TagInvalid => Answer::new(StatusCode::NOT_FOUND, ErrorCode::ManifestUnknown, message),
        RouteError::DigestInvalid | RouteError::AlgorithmUnsupported => {
            Answer::new(StatusCode::BAD_REQUEST, ErrorCode::DigestInvalid, message)
        }
        RouteError::UploadUnknown => {
            Answer::new(StatusCode::NOT_FOUND, ErrorCode::BlobUploadUnknown, message)
        }
        RouteError::PageInvalid | RouteError::TimestampInvalid | RouteError::UndoInvalid => {
            Answer::new(StatusCode::BAD_REQUEST, ErrorCode::Unsupported, message)
        }
        RouteError::TooManyTags => Answer::new(StatusCode::URI_TOO_LONG, ErrorCode::TagInvalid, message),
    }
}

/// A condition of the domain.
pub(super) fn registry(error: &RegistryError) -> Answer {
    let message = error.to_string();
    match error {
        RegistryError::NameUnknown => Answer::new(StatusCode::NOT_FOUND, ErrorCode::NameUnknown, message),
        RegistryError::NoneInSight => Answer::new(StatusCode::BAD_REQUEST, ErrorCode::Unsupported, message),
        RegistryError::ManifestUnknown => {
            Answer::new(StatusCode::NOT_FOUND, ErrorCode::ManifestUnknown, message)
        }
        RegistryError::BlobUnknown => Answer::new(StatusCode::NOT_FOUND, ErrorCode::BlobUnknown, message),
        RegistryError::UploadUnknown | RegistryError::UploadLost => {
            Answer::new(StatusCode::NOT_FOUND, ErrorCode::BlobUploadUnknown, message)
        }
        RegistryError::DigestMismatch { .. } => {
            Answer::new(StatusCode::BAD_REQUEST, ErrorCode::DigestInvalid, message)
        }
        RegistryError::RangeMismatch { offset } => Answer::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            ErrorCode::BlobUploadInvalid,
            message,
        )
        .with(header::RANGE, super::reply::session_range(*offset)),
        RegistryError::SizeMismatch { .. } => {
            Answer::new(StatusCode::BAD_REQUEST, ErrorCode::SizeInvalid, message)
        }
        RegistryError::BlobTooLarge { .. } => {
            Answer::new(StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::SizeInvalid, message)
        }
        RegistryError::ManifestTooLarge => manifest(&ManifestError::TooLarge),
        RegistryError::ManifestInvalid(error) => manifest(error),
        RegistryError::ManifestBlobUnknown { .. } => {
            Answer::new(StatusCode::NOT_FOUND, ErrorCode::ManifestBlobUnknown, message)
        }
        RegistryError::TooManyTags => Answer::new(StatusCode::URI_TOO_LONG, ErrorCode::TagInvalid, message),
        RegistryError::Referenced { .. } => {
            // Not now, but reading it is allowed: a 405 must say so.
            Answer::new(StatusCode::METHOD_NOT_ALLOWED, ErrorCode::Denied, message)
                .with(header::ALLOW, HeaderValue::from_static("GET, HEAD"))
        }
        RegistryError::Listed { index, .. } => Answer {
            detail: Some(Box::new(json!({ "index": index.as_str() }))),
            ..Answer::new(StatusCode::METHOD_NOT_ALLOWED, ErrorCode::Denied, message)
                .with(header::ALLOW, HeaderValue::from_static("GET, HEAD, PUT"))
        },
        // What there is instead is told by who knows whether it may be.
        RegistryError::PreconditionFailed { .. } => Answer::new(
            StatusCode::PRECONDITION_FAILED,
            ErrorCode::PreconditionFailed,
            message,
        ),
        RegistryError::Unfinished(_) => unknown(
            "some of the manifest's tags are gone, and the manifest and the others are not; delete it again",
        ),
        RegistryError::Denied => Answer::new(StatusCode::FORBIDDEN, ErrorCode::Denied, message),
        RegistryError::Immutable { tag, rule } => Answer {
            detail: Some(Box::new(json!({ "tag": tag.as_str(), "rule": rule }))),
            ..Answer::new(StatusCode::FORBIDDEN, ErrorCode::Denied, message)
        },
        RegistryError::NotKept { .. } => {
            Answer::new(StatusCode::BAD_REQUEST, ErrorCode::Unsupported, message)
        }
        RegistryError::PlanUnknown => Answer::new(StatusCode::NOT_FOUND, ErrorCode::Unknown, message),
        RegistryError::PlanUnready => Answer::new(StatusCode::CONFLICT, ErrorCode::Unsupported, message),
        RegistryError::QuotaExceeded {
            prefix,
            used,
            allowed,
            asked,
        } => Answer {
            detail: Some(Box::new(json!({
                "prefix": prefix.as_str(), "used": used, "allowed": allowed, "asked": asked,
            }))),
            ..Answer::new(StatusCode::FORBIDDEN, ErrorCode::Denied, message)
        },
        RegistryError::ContentLost { digest, damage } => Answer {
            detail: Some(Box::new(json!({
                "digest": digest.as_str(), "reason": damage.to_string(),
            }))),
            ..Answer::new(StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::Unknown, message)
        },
        RegistryError::Contended => {
            unavailable("too many changes of this repository at once; this one was not applied, try again")
        }
        RegistryError::NoRoom => overloaded(),
        RegistryError::Deadline => unavailable("the change took too long and was not applied; try again"),
        RegistryError::OutcomeUnknown => outcome_unknown(),
        RegistryError::NewerSchema { .. } => {
            unavailable("a newer release wrote this, and this member may not change it; nothing was changed")
        }
        RegistryError::Body(error) => body(error),
        RegistryError::Store(error) => store(error.kind()),
    }
}

/// What another registry didn't give. Its fault is a gateway's; asking again may help.
pub(super) fn sync(error: &SyncError) -> Answer {
    let answer = |status, code| Answer::new(status, code, causes::in_a_line(error));
    match error {
        SyncError::Registry(error) => registry(error),
        SyncError::Fetch(error) => sync(error),
        SyncError::Unsigned(_) | SyncError::Alone(_) => {
            answer(StatusCode::NOT_FOUND, ErrorCode::ManifestUnknown)
        }
        SyncError::Busy => overloaded(),
        SyncError::Late => answer(StatusCode::GATEWAY_TIMEOUT, ErrorCode::Unavailable),
        SyncError::Ended => unavailable("this member is shutting down; try again"),
        SyncError::Upstream(upstream) => match upstream {
            UpstreamError::NotFound => answer(StatusCode::NOT_FOUND, ErrorCode::ManifestUnknown),
            UpstreamError::Limited { retry_after } => {
                let seconds = retry_after.map_or(UPSTREAM_RETRY_SECONDS, |wait| wait.as_secs().max(1));
                // Not 429, which is what this registry says of itself: it would be made one of its own.
                answer(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable)
                    .with(header::RETRY_AFTER, seconds)
            }
            UpstreamError::Late => answer(StatusCode::GATEWAY_TIMEOUT, ErrorCode::Unavailable),
            UpstreamError::Denied(_)
            | UpstreamError::Status(_)
            | UpstreamError::Realm(_)
            | UpstreamError::Redirect(_)
            | UpstreamError::Nonsense(_)
            | UpstreamError::Digest { .. }
            | UpstreamError::Length { .. }
            | UpstreamError::Refused { .. }
            | UpstreamError::Source(_)
            | UpstreamError::Outbound(_) => answer(StatusCode::BAD_GATEWAY, ErrorCode::Unavailable),
        },
    }
}

/// That there is nothing which could be mirrored now.
pub(super) fn not_mirrored() -> Answer {
    Answer::new(
        StatusCode::NOT_FOUND,
        ErrorCode::NameUnknown,
        "no registry with pollInterval is called so, nor has one a rule for such a repository",
    )
}

fn manifest(error: &ManifestError) -> Answer {
    let status = match error {
        ManifestError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ManifestError::UnsupportedMediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ManifestError::MediaTypeMismatch { .. }
        | ManifestError::TooDeep
        | ManifestError::Json(_)
        | ManifestError::Field(_)
        | ManifestError::SchemaVersion
        | ManifestError::Missing(_)
        | ManifestError::Incomplete(_)
        | ManifestError::Unexpected(_)
        | ManifestError::UnknownKind
        | ManifestError::MediaType { .. }
        | ManifestError::Digest { .. } => StatusCode::BAD_REQUEST,
    };
    Answer::new(status, ErrorCode::ManifestInvalid, error.to_string())
}

/// A failure of a store. None of these changed anything.
pub(super) fn store(kind: StoreErrorKind) -> Answer {
    match kind {
        StoreErrorKind::Unavailable => {
            unavailable("the store behind the registry is unavailable; nothing was changed, try again")
        }
        StoreErrorKind::Throttled => {
            unavailable("the store behind the registry asks to slow down; nothing was changed, try again")
        }
        StoreErrorKind::Contended => {
            unavailable("too many changes at once; this one was not applied, try again")
        }
        StoreErrorKind::Full => Answer::new(
            StatusCode::INSUFFICIENT_STORAGE,
            ErrorCode::Unavailable,
            "no space is left in the store behind the registry; nothing was changed",
        ),
        StoreErrorKind::Denied => {
            unavailable("the store behind the registry denies access; nothing was changed")
        }
        StoreErrorKind::NotFound
        | StoreErrorKind::InvalidPart
        | StoreErrorKind::Corrupt
        | StoreErrorKind::Unsupported
        | StoreErrorKind::Misuse => internal(),
    }
}

/// A request's body that broke off.
pub(super) fn body(error: &BodyError) -> Answer {
    match error {
        BodyError::Client(_) => body_broke(),
        BodyError::Length { .. } => {
            Answer::new(StatusCode::BAD_REQUEST, ErrorCode::SizeInvalid, error.to_string())
        }
        BodyError::Stalled(_) => body_stalled(error.to_string()),
        BodyError::Slow => too_slow(),
        BodyError::Peer { .. } => unavailable("the connection between two members broke off; try again"),
        BodyError::Store(error) => store(error.kind()),
        BodyError::ShuttingDown => unavailable("this member is shutting down; try again"),
    }
}

fn body_broke() -> Answer {
    Answer::new(
        StatusCode::BAD_REQUEST,
        ErrorCode::BlobUploadInvalid,
        "the request's body broke off or is not valid HTTP",
    )
}

/// Others waited for what it held; when it comes again it waits like them.
fn too_slow() -> Answer {
    unavailable("the body came too slowly while others waited; nothing was changed, try again")
        .with(header::RETRY_AFTER, RETRY_AFTER_SECONDS)
}

fn body_stalled(message: impl Into<Cow<'static, str>>) -> Answer {
    Answer::new(StatusCode::REQUEST_TIMEOUT, ErrorCode::BlobUploadInvalid, message)
}

/// What the front refuses.
pub(super) fn front(error: &FrontError, method: &Method) -> Answer {
    match error {
        FrontError::Malformed(error) => {
            Answer::new(StatusCode::BAD_REQUEST, ErrorCode::Unsupported, error.to_string())
        }
        FrontError::Route(error) => route(error, method),
        FrontError::Auth(error) => auth(error),
        FrontError::Overloaded => overloaded(),
        FrontError::Body(error) => body(error),
        // In whole seconds: zero would be an invitation.
        FrontError::TooFast(wait) => too_many(error.to_string(), wait.as_secs() + 1),
        FrontError::Late(_) => late(),
        FrontError::LateUnknown(_) => outcome_unknown(),
    }
}

/// Who may not, or who asks when nobody can tell.
pub(super) fn auth(error: &AuthError) -> Answer {
    match error {
        AuthError::Denied => Answer::new(StatusCode::FORBIDDEN, ErrorCode::Denied, error.to_string()),
        AuthError::Unauthenticated(challenges) => {
            let mut answer = Answer::new(
                StatusCode::UNAUTHORIZED,
                ErrorCode::Unauthorized,
                error.to_string(),
            );
            for challenge in challenges {
                answer = answer.with(header::WWW_AUTHENTICATE, challenge.clone());
            }
            answer
        }
        // As zot tells it.
        AuthError::Condition(reason) => Answer {
            detail: Some(Box::new(json!({ "reason": &**reason }))),
            ..Answer::new(StatusCode::FORBIDDEN, ErrorCode::Denied, error.to_string())
        },
        AuthError::ForeignPage => Answer::new(StatusCode::FORBIDDEN, ErrorCode::Denied, error.to_string()),
        AuthError::Login(fault) => login(fault),
        AuthError::Busy => overloaded(),
        AuthError::Unreachable => unavailable(
            "the directory or issuer that knows who may log in can't be asked; nothing was changed, try again",
        ),
        AuthError::Unavailable(error) => store(error.kind()),
    }
}

/// A login at an identity provider that came to nothing.
fn login(fault: &LoginFault) -> Answer {
    let message = fault.to_string();
    match fault {
        LoginFault::NoProvider(_) | LoginFault::WrongPage | LoginFault::Unbegun => {
            Answer::new(StatusCode::BAD_REQUEST, ErrorCode::Unsupported, message)
        }
        LoginFault::Refused(_)
        | LoginFault::Unproven(_)
        | LoginFault::NoName(_)
        | LoginFault::UnverifiedEmail
        | LoginFault::TooManyGroups => Answer::new(StatusCode::FORBIDDEN, ErrorCode::Denied, message),
        LoginFault::Provider(_) => Answer::new(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unknown, message)
            .with(header::RETRY_AFTER, LOGIN_AGAIN_SECONDS),
    }
}

/// When somebody may begin a login again, at the earliest, whose provider couldn't be asked.
const LOGIN_AGAIN_SECONDS: u64 = 5;

/// This member has no room now. Whoever talks to the client makes of it what has that client try again
/// ([`retried`]); between members it is 429.
fn overloaded() -> Answer {
    Answer {
        is_overload: true,
        ..too_many(OVERLOADED, RETRY_AFTER_SECONDS)
    }
}

const OVERLOADED: &str = "no room for another request now; nothing was changed, try again";
/// A client that comes again waits here, not there.
const RETRY_AFTER_SECONDS: u64 = 1;

/// Extension of the answer to a request for which there was no room.
#[derive(Clone, Copy, Debug)]
pub(super) struct Overload;

/// The answer to a request for which there was no room, with the status at which its client tries again.
///
/// No status suits all. 429 is the right one, and where containers/image (skopeo, podman, buildah, CRI-O) waits, for GET,
/// HEAD and POST, and containerd tries five times. At a body's 429 all of them give up, and 503 is what the rest tries
/// again. docker and go-containerregistry (crane, cosign, ko, kaniko) take every 429 for final and try 503 again.
pub(super) fn retried(method: &Method, agent: Option<&HeaderValue>) -> Answer {
    let agent = agent.map(HeaderValue::as_bytes).unwrap_or_default();
    let gives_up_at_429 = agent.starts_with(b"docker/")
        || agent
            .windows(GO_CONTAINERREGISTRY.len())
            .any(|part| part == GO_CONTAINERREGISTRY);
    let is_waited_for = [Method::GET, Method::HEAD, Method::POST].contains(method);
    match is_waited_for && !gives_up_at_429 {
        true => too_many(OVERLOADED, RETRY_AFTER_SECONDS),
        // The code, too: docker looks at that first.
        false => unavailable(OVERLOADED).with(header::RETRY_AFTER, RETRY_AFTER_SECONDS),
    }
}

/// When to come again to a registry that limits requests and doesn't say it.
const UPSTREAM_RETRY_SECONDS: u64 = 10;

const GO_CONTAINERREGISTRY: &[u8] = b"go-containerregistry/";

fn too_many(message: impl Into<Cow<'static, str>>, retry_after_seconds: u64) -> Answer {
    Answer::new(StatusCode::TOO_MANY_REQUESTS, ErrorCode::TooManyRequests, message)
        .with(header::RETRY_AFTER, retry_after_seconds)
}

/// What becomes of an API key that can't be.
pub(super) fn api_key(error: &ApiKeyError) -> Answer {
    let message = error.to_string();
    match error {
        ApiKeyError::Scope(_) | ApiKeyError::TooLarge | ApiKeyError::Past | ApiKeyError::Robot => {
            Answer::new(StatusCode::BAD_REQUEST, ErrorCode::Unsupported, message)
        }
        ApiKeyError::TooMany(_) => Answer::new(StatusCode::CONFLICT, ErrorCode::Denied, message),
        ApiKeyError::Unknown => Answer::new(StatusCode::NOT_FOUND, ErrorCode::Unsupported, message),
        ApiKeyError::Contended => {
            unavailable("too many changes of this user's keys at once; this one was not applied, try again")
        }
        ApiKeyError::OutcomeUnknown => unknown("the outcome is unknown: list the keys before trying again"),
        ApiKeyError::Store(error) => store(error.kind()),
    }
}

/// Why there is no token (RFC 6749, 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OAuthError {
    /// The login is wrong.
    InvalidGrant,
    /// It isn't what it should be.
    InvalidRequest,
    /// Too much is asked for.
    InvalidScope,
    /// One gets no token in this way.
    UnsupportedGrantType,
}

impl OAuthError {
    fn as_str(self) -> &'static str {
        match self {
            Self::InvalidGrant => "invalid_grant",
            Self::InvalidRequest => "invalid_request",
            Self::InvalidScope => "invalid_scope",
            Self::UnsupportedGrantType => "unsupported_grant_type",
        }
    }
}

/// A request for a token that isn't what it should be.
pub(super) fn oauth(error: OAuthError, expected: impl Into<Cow<'static, str>>) -> Answer {
    Answer::new(StatusCode::BAD_REQUEST, ErrorCode::Unsupported, expected).with_oauth(error)
}

/// A request about API keys that isn't what it should be.
pub(super) fn bad_api_key_request(expected: &'static str) -> Answer {
    Answer::new(StatusCode::BAD_REQUEST, ErrorCode::Unsupported, expected)
}

/// A form of the page that isn't one.
pub(super) fn bad_form() -> Answer {
    let expected = "a form of at most 8 KiB is expected";
    Answer::new(StatusCode::BAD_REQUEST, ErrorCode::Unsupported, expected)
}

/// A preference that isn't one.
pub(super) fn bad_preference(expected: &'static str) -> Answer {
    Answer::new(StatusCode::BAD_REQUEST, ErrorCode::Unsupported, expected)
}

/// A place among the events that isn't one.
pub(super) fn bad_cursor() -> Answer {
    let expected = "after= is what an answer gave as next, or 0 for the first that is kept";
    Answer::new(StatusCode::BAD_REQUEST, ErrorCode::Unsupported, expected)
}

/// A request that came to nothing between two members.
pub(super) fn mesh(failure: Failure) -> Answer {
    match failure {
        Failure::OutcomeUnknown => outcome_unknown(),
        Failure::HoldTimeUp => late(),
        Failure::BodyBroke => body_broke(),
        Failure::BodyStalled => body_stalled("no more of the body came"),
        Failure::BodySlow => too_slow(),
    }
}

fn late() -> Answer {
    unavailable("no answer in time; try again")
}

/// As many watch the mesh as may.
pub(super) fn too_many_watchers() -> Answer {
    unavailable("too many pages watch the mesh at this member; close one, or look through another member")
}

/// The decision that came with a request doesn't cover what it asks for.
pub(super) fn not_covered() -> Answer {
    auth(&AuthError::Denied)
}

/// A chunk that doesn't fit onto its session: where it stands, and where it goes on.
pub(super) fn out_of_step(repository: &RepoName, id: &UploadId, offset: u64) -> Answer {
    let answer = registry(&RegistryError::RangeMismatch { offset });
    match HeaderValue::try_from(paths::session(repository, id)) {
        Ok(path) => answer.with(header::LOCATION, path),
        Err(_) => answer,
    }
}

/// A condition that doesn't hold, to who may read what stands against it.
pub(super) fn precondition_failed(current: &Digest) -> Answer {
    let answer = Answer::new(
        StatusCode::PRECONDITION_FAILED,
        ErrorCode::PreconditionFailed,
        format!("a condition of the request doesn't hold of {current}, which is there"),
    );
    let answer = Answer {
        detail: Some(Box::new(json!({ "digest": current.as_str() }))),
        ..answer
    };
    answer
        .with(header::ETAG, super::reply::etag(current))
        .with(CONTENT_DIGEST, super::reply::content_digest(current))
}

/// A header that isn't the list of entity tags that it should be.
pub(super) fn bad_precondition(name: &HeaderName, error: &EntityTagError) -> Answer {
    Answer::new(
        StatusCode::BAD_REQUEST,
        ErrorCode::Unsupported,
        format!("{name}: {error}"),
    )
}

/// A chunk's range that isn't one.
pub(super) fn bad_chunk_range(error: &RangeError) -> Answer {
    Answer::new(
        StatusCode::BAD_REQUEST,
        ErrorCode::BlobUploadInvalid,
        format!("Content-Range: {error}"),
    )
}

/// A manifest's type that isn't one.
pub(super) fn bad_media_type(error: &MediaTypeError) -> Answer {
    Answer::new(
        StatusCode::BAD_REQUEST,
        ErrorCode::ManifestInvalid,
        format!("Content-Type: {error}"),
    )
}

/// A manifest that is too large to look at.
pub(super) fn manifest_too_large() -> Answer {
    manifest(&ManifestError::TooLarge)
}

/// A range beyond a blob of `size` bytes.
pub(super) fn range_not_satisfiable(size: u64, expected: &impl fmt::Display) -> Answer {
    let answer = Answer::new(
        StatusCode::RANGE_NOT_SATISFIABLE,
        ErrorCode::Unsupported,
        expected.to_string(),
    );
    match HeaderValue::try_from(format!("bytes */{size}")) {
        Ok(value) => answer.with(header::CONTENT_RANGE, value),
        Err(_) => answer,
    }
}

fn unavailable(message: &'static str) -> Answer {
    Answer::new(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable, message)
}

fn outcome_unknown() -> Answer {
    unknown(
        "the outcome of this change is unknown: it was applied once or not at all; look before trying again",
    )
}

/// It may have been applied, or may yet be: said in a header, too, so that whoever hands the answer on can tell it from a
/// plain failure.
fn unknown(message: &'static str) -> Answer {
    unavailable(message).with(OUTCOME, HeaderValue::from_static(UNKNOWN))
}

/// Whether this is the answer to a change that may have been applied all the same.
pub(super) fn is_unknown(headers: &HeaderMap) -> bool {
    headers.get(OUTCOME).is_some_and(|outcome| outcome == UNKNOWN)
}

/// A handler that panicked, nobody knows where.
pub(super) fn panicked() -> Answer {
    internal().with(OUTCOME, HeaderValue::from_static(UNKNOWN))
}

fn internal() -> Answer {
    Answer::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        ErrorCode::Unknown,
        "an internal error",
    )
}

/// An error with everything that caused it, for one field of a log line.
pub(super) struct Chain<'a>(pub(super) &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            let text = error.to_string();
            // A transparent error says what its source says.
            if text != said {
                write!(f, ": {text}")?;
            }
            said.clear();
            let _ = said.write_str(&text);
            source = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::storage::StoreError;

    async fn text(answer: Answer) -> (u16, String) {
        let status = answer.status().as_u16();
        let id = RequestId::parse("the-request").unwrap();
        let body = answer.into_response(&id).into_body().collect().await.unwrap();
        (status, String::from_utf8(body.to_bytes().to_vec()).unwrap())
    }

    #[tokio::test]
    async fn what_is_our_fault_names_the_request_and_not_our_insides() {
        let secret = || StoreError::with_source(StoreErrorKind::Unavailable, "get", "10.0.0.7 refused");
        for (error, status) in [
            (RegistryError::Store(secret()), 503),
            (RegistryError::Body(BodyError::Store(secret())), 503),
            (RegistryError::OutcomeUnknown, 503),
            (
                RegistryError::Store(StoreError::new(StoreErrorKind::Full, "put")),
                507,
            ),
            (
                RegistryError::Store(StoreError::new(StoreErrorKind::Corrupt, "get")),
                500,
            ),
        ] {
            let (found, body) = text(registry(&error)).await;
            assert_eq!(found, status, "{error:?}");
            assert!(
                body.contains("the-request") && !body.contains("10.0.0.7"),
                "{body}"
            );
        }
        let (status, body) = text(registry(&RegistryError::BlobUnknown)).await;
        assert!(status == 404 && !body.contains("the-request"), "{body}");
    }

    #[test]
    fn what_may_have_been_applied_says_so_in_a_header() {
        let id = RequestId::parse("the-request").unwrap();
        let is_unknown = |answer: Answer| super::is_unknown(answer.into_response(&id).headers());
        assert!(is_unknown(registry(&RegistryError::OutcomeUnknown)));
        assert!(is_unknown(mesh(Failure::OutcomeUnknown)));
        assert!(is_unknown(api_key(&ApiKeyError::OutcomeUnknown)));
        let late = FrontError::LateUnknown(Duration::from_secs(1));
        assert!(is_unknown(front(&late, &Method::PUT)) && is_unknown(panicked()));
        assert!(!is_unknown(registry(&RegistryError::Contended)));
        assert!(!is_unknown(store(StoreErrorKind::Unavailable)));
        assert!(!is_unknown(mesh(Failure::HoldTimeUp)));
    }

    #[test]
    fn a_chain_says_every_cause_once() {
        let error = RegistryError::Store(StoreError::with_source(StoreErrorKind::Full, "put", "no space"));
        assert_eq!(
            Chain(&error).to_string(),
            "a store failed: put: no space is left in the store: no space"
        );
    }
}
