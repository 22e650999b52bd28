//! Heads of requests and responses, between the protocol's messages and the program's types.
//!
//! What is received is checked here, whole: names, grants and targets parse, versions overlap, headers are headers. A
//! frame whose kind is unknown is an error, never "nothing". What is sent carries neither credentials nor cookies nor
//! anything that is only meant for one hop.
//!
//! Deliberately absent: who may send what ([`identity`](super::identity)), and the order of frames.

use std::time::Duration;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri,
    header::{self, AsHeaderName},
};
use tokio::time::Instant;

use super::pb;
use crate::{
    admission::{Admitted, BlobSource, Body, Grants, Identity, RequestId, Served, Visible},
    oci::{Action, Effect, Route},
    ownership::Reachability,
    placement::MemberId,
    storage::ObjectKey,
};

/// The versions of the protocol spoken here.
pub(super) const PROTOCOL: (u32, u32) = (1, 1);

const TRACEPARENT: &str = "traceparent";

/// Headers that never cross: credentials, cookies, and what is meant for one connection.
const KEPT_BACK: [&str; 14] = [
    "authorization",
    "connection",
    "cookie",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What a peer sent can't be what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ProtocolError {
    /// Another frame was due.
    #[error("{expected} was expected, not {found}")]
    Frame {
        /// What was due.
        expected: &'static str,
        /// What came.
        found: &'static str,
    },
    /// No version of the protocol is spoken by both.
    #[error("the peer speaks versions {min} to {max} of the protocol, this member {} to {}", PROTOCOL.0, PROTOCOL.1)]
    Version {
        /// The peer's oldest.
        min: u32,
        /// The peer's newest.
        max: u32,
    },
    /// A field isn't what it should be.
    #[error("{field} is malformed")]
    Field {
        /// As in the proto file.
        field: &'static str,
    },
}

fn field(field: &'static str) -> ProtocolError {
    ProtocolError::Field { field }
}

/// The name of a frame's kind, for errors.
pub(super) trait Kind {
    fn kind(&self) -> &'static str;
}

impl Kind for pb::Request {
    fn kind(&self) -> &'static str {
        match &self.kind {
            Some(pb::request::Kind::Head(_)) => "head",
            Some(pb::request::Kind::Data(_)) => "data",
            Some(pb::request::Kind::End(_)) => "end",
            None => "a frame of an unknown kind",
        }
    }
}

impl Kind for pb::Response {
    fn kind(&self) -> &'static str {
        match &self.kind {
            Some(pb::response::Kind::Accepted(_)) => "accepted",
            Some(pb::response::Kind::NotOwner(_)) => "not_owner",
            Some(pb::response::Kind::Busy(_)) => "busy",
            Some(pb::response::Kind::Head(_)) => "head",
            Some(pb::response::Kind::Data(_)) => "data",
            Some(pb::response::Kind::End(_)) => "end",
            Some(pb::response::Kind::Abort(_)) => "abort",
            None => "a frame of an unknown kind",
        }
    }
}

/// The error that `found` came where `expected` was due.
pub(super) fn unexpected(expected: &'static str, found: Option<&impl Kind>) -> ProtocolError {
    ProtocolError::Frame {
        expected,
        found: found.map_or("the end of the stream", Kind::kind),
    }
}

/// A request someone decided about, without its body: it may be offered more than once.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) route: Route,
    pub(super) parts: http::request::Parts,
    pub(super) identity: Identity,
    pub(super) grants: Grants,
    pub(super) client: String,
    pub(super) request_id: RequestId,
    pub(super) deadline: Instant,
}

impl Asked {
    /// Takes a request apart.
    pub(super) fn split(admitted: Admitted) -> (Self, Body) {
        let Admitted {
            route,
            request,
            identity,
            grants,
            client,
            request_id,
            deadline,
        } = admitted;
        let (parts, body) = request.into_parts();
        (
            Self {
                route,
                parts,
                identity,
                grants,
                client,
                request_id,
                deadline,
            },
            body,
        )
    }

    /// Puts it together again.
    pub(super) fn with(self, body: Body) -> Admitted {
        let Self {
            route,
            parts,
            identity,
            grants,
            client,
            request_id,
            deadline,
        } = self;
        let request = http::Request::from_parts(parts, body);
        Admitted {
            route,
            request,
            identity,
            grants,
            client,
            request_id,
            deadline,
        }
    }

    /// Whether the grants cover the route.
    pub(super) fn is_covered(&self) -> bool {
        self.route.permissions().iter().all(|permission| {
            !permission
                .need
                .refuses(|action| self.grants.allows(&permission.repository, action))
        })
    }

    /// Whether it may be sent again and again.
    pub(super) fn is_safe(&self) -> bool {
        self.route.effect() == Effect::Safe
    }
}

/// The head that offers `asked` to `recipient`.
pub(super) fn request_head(
    asked: &Asked,
    sender: &MemberId,
    recipient: &MemberId,
    holder: Reachability,
) -> pb::RequestHead {
    let uri = &asked.parts.uri;
    let left = asked.deadline.saturating_duration_since(Instant::now());
    let text = |name: &str| {
        asked
            .parts
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    pb::RequestHead {
        protocol_min: PROTOCOL.0,
        protocol_max: PROTOCOL.1,
        sender: sender.as_str().to_owned(),
        recipient: recipient.as_str().to_owned(),
        method: asked.parts.method.as_str().to_owned(),
        target: uri
            .path_and_query()
            .map_or("/", |target| target.as_str())
            .to_owned(),
        headers: headers_out(&asked.parts.headers),
        identity: Some(pb::Identity {
            user: asked.identity.user.clone().unwrap_or_default(),
            groups: asked.identity.groups.clone(),
        }),
        grants: asked
            .grants
            .iter()
            .map(|(repository, actions)| pb::Grant {
                repository: repository.as_str().to_owned(),
                actions: actions.iter().map(|action| action_out(*action).into()).collect(),
            })
            .collect(),
        client_address: asked.client.clone(),
        request_id: asked.request_id.as_str().to_owned(),
        traceparent: text(TRACEPARENT).unwrap_or_default().to_owned(),
        deadline_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
        holder_unreachable: holder == Reachability::UnreachableForFront,
        scheme: uri.scheme_str().unwrap_or("http").to_owned(),
        reads_everything: asked.grants.visible().is_everything(),
    }
}

/// A request as another member offers it, checked.
#[derive(Clone, Debug)]
pub(super) struct Offered {
    pub(super) sender: MemberId,
    pub(super) recipient: MemberId,
    pub(super) asked: Asked,
    pub(super) holder: Reachability,
}

/// Longest time a front may want to wait for a head.
const MAX_DEADLINE: Duration = Duration::from_secs(24 * 60 * 60);

/// Reads the first frame of a request.
pub(super) fn read_request(frame: Option<pb::Request>) -> Result<Offered, ProtocolError> {
    let head = match frame {
        Some(pb::Request {
            kind: Some(pb::request::Kind::Head(head)),
        }) => head,
        other => return Err(unexpected("head", other.as_ref())),
    };
    let (min, max) = (head.protocol_min, head.protocol_max);
    if min > max || min > PROTOCOL.1 || max < PROTOCOL.0 {
        return Err(ProtocolError::Version { min, max });
    }
    let method = Method::from_bytes(head.method.as_bytes()).map_err(|_| field("method"))?;
    let uri = Some(&head.target).filter(|target| target.starts_with('/'));
    let uri: Uri = uri
        .and_then(|target| target.parse().ok())
        .ok_or_else(|| field("target"))?;
    let route = Route::parse(&method, uri.path(), uri.query()).map_err(|_| field("target"))?;
    if !matches!(head.scheme.as_str(), "http" | "https") {
        return Err(field("scheme"));
    }
    let mut headers = headers_in(head.headers)?;
    if !head.traceparent.is_empty() {
        let value = HeaderValue::from_str(&head.traceparent).map_err(|_| field("traceparent"))?;
        headers.insert(TRACEPARENT, value);
    }
    let identity = head.identity.ok_or_else(|| field("identity"))?;
    let identity = Identity {
        user: Some(identity.user).filter(|user| !user.is_empty()),
        groups: identity.groups,
    };
    let mut grants = Grants::none();
    for grant in head.grants {
        let repository = grant.repository.parse().map_err(|_| field("grants.repository"))?;
        let actions: Result<Vec<_>, _> = grant.actions.into_iter().map(action_in).collect();
        grants.grant(repository, actions?);
    }
    if head.reads_everything {
        grants.show(Visible::Everything);
    }
    let (mut parts, ()) = http::Request::new(()).into_parts();
    (parts.method, parts.uri, parts.headers) = (method, uri, headers);
    let wait = Duration::from_millis(head.deadline_ms).min(MAX_DEADLINE);
    let holder = if head.holder_unreachable {
        Reachability::UnreachableForFront
    } else {
        Reachability::Unknown
    };
    Ok(Offered {
        sender: head.sender.parse().map_err(|_| field("sender"))?,
        recipient: head.recipient.parse().map_err(|_| field("recipient"))?,
        holder,
        asked: Asked {
            route,
            parts,
            identity,
            grants,
            client: printable(head.client_address).ok_or_else(|| field("client_address"))?,
            request_id: RequestId::parse(&head.request_id).ok_or_else(|| field("request_id"))?,
            deadline: Instant::now() + wait,
        },
    })
}

/// The head of a response whose body has `content_length` bytes, where that is known.
pub(super) fn response_head(parts: &http::response::Parts, content_length: Option<u64>) -> pb::ResponseHead {
    let served = parts.extensions.get::<Served>().cloned().unwrap_or_default();
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    pb::ResponseHead {
        status: parts.status.as_u16().into(),
        headers: headers_out(&parts.headers),
        owner_us: micros(served.owner),
        store_us: micros(served.store),
        upstream_us: micros(served.upstream),
        blob: parts.extensions.get::<BlobSource>().map(|blob| pb::BlobSource {
            digest: blob.digest.to_string(),
            length: blob.length,
            object_key: blob
                .object_key
                .as_ref()
                .map(ObjectKey::to_string)
                .unwrap_or_default(),
        }),
        content_length,
    }
}

/// Reads the head of `peer`'s response: its parts, with [`Served`] and perhaps [`BlobSource`] as extensions, and the
/// length of the body.
pub(super) fn read_response(
    head: pb::ResponseHead,
    peer: &MemberId,
) -> Result<(http::response::Parts, Option<u64>), ProtocolError> {
    let (mut parts, ()) = http::Response::new(()).into_parts();
    parts.status = u16::try_from(head.status)
        .ok()
        .filter(|status| (200..600).contains(status))
        .and_then(|status| StatusCode::from_u16(status).ok())
        .ok_or_else(|| field("status"))?;
    parts.headers = headers_in(head.headers)?;
    parts.extensions.insert(Served {
        forwarded_to: Some(peer.clone()),
        owner: Duration::from_micros(head.owner_us),
        store: Duration::from_micros(head.store_us),
        upstream: Duration::from_micros(head.upstream_us),
    });
    if let Some(blob) = head.blob {
        parts.extensions.insert(BlobSource {
            digest: blob.digest.parse().map_err(|_| field("blob.digest"))?,
            length: blob.length,
            object_key: match blob.object_key.as_str() {
                "" => None,
                key => Some(ObjectKey::parse(key).ok_or_else(|| field("blob.object_key"))?),
            },
        });
    }
    Ok((parts, head.content_length))
}

fn headers_out(headers: &HeaderMap) -> Vec<pb::Header> {
    let listed: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    headers
        .iter()
        .filter(|(name, _)| crosses(name.as_str()) && name.as_str() != TRACEPARENT && !listed.contains(name))
        .map(|(name, value)| pb::Header {
            name: name.as_str().to_owned(),
            value: bytes::Bytes::copy_from_slice(value.as_bytes()),
        })
        .collect()
}

fn headers_in(received: Vec<pb::Header>) -> Result<HeaderMap, ProtocolError> {
    let mut headers = HeaderMap::with_capacity(received.len());
    for pb::Header { name, value } in received {
        if !crosses(&name) {
            return Err(field("headers.name"));
        }
        // Refuses upper case, too: HTTP/2 has none.
        let name = HeaderName::from_lowercase(name.as_bytes()).map_err(|_| field("headers.name"))?;
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| field("headers.value"))?;
        if headers.try_append(name, value).is_err() {
            return Err(field("headers"));
        }
    }
    Ok(headers)
}

fn crosses(name: &str) -> bool {
    !KEPT_BACK.contains(&name) && !name.starts_with("proxy-") && !name.starts_with(':')
}

fn printable(text: String) -> Option<String> {
    (text.len() <= 256 && !text.chars().any(char::is_control)).then_some(text)
}

fn action_out(action: Action) -> pb::Action {
    match action {
        Action::Read => pb::Action::Read,
        Action::Create => pb::Action::Create,
        Action::Update => pb::Action::Update,
        Action::Delete => pb::Action::Delete,
    }
}

fn action_in(action: i32) -> Result<Action, ProtocolError> {
    match pb::Action::try_from(action) {
        Ok(pb::Action::Read) => Ok(Action::Read),
        Ok(pb::Action::Create) => Ok(Action::Create),
        Ok(pb::Action::Update) => Ok(Action::Update),
        Ok(pb::Action::Delete) => Ok(Action::Delete),
        Ok(pb::Action::Unspecified) | Err(_) => Err(field("grants.actions")),
    }
}

/// A number in a header, if it is there once and is one.
pub(super) fn number(headers: &HeaderMap, name: impl AsHeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}
