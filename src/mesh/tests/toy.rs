//! A local service for tests: it remembers what it was asked, and misbehaves when told to.

use std::{
    pin::Pin,
    sync::{Arc, LazyLock},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode, header};
use http_body_util::{BodyExt as _, StreamBody};
use parking_lot::Mutex;
use tower::{service_fn, util::BoxCloneSyncService};

use crate::{
    admission::{Admitted, BlobSource, Body, BodyError, Grants, Identity, RequestId, Served, Service, full},
    oci::{Algorithm, Digest, Route},
    storage::ObjectKey,
};

/// After so many bytes a blob begins anew.
const PERIOD: usize = 63_503;

static CONTENT: LazyLock<Bytes> = LazyLock::new(|| {
    (0..PERIOD * 10)
        .map(|n| (n * 31 + n / 251) as u64 % 253)
        .map(|n| n as u8)
        .collect()
});

/// The bytes from `first` to `last` of every blob.
pub(super) fn bytes(first: u64, last: u64) -> Bytes {
    let (first, last) = (first as usize, last as usize);
    let mut joined = BytesMut::new();
    let mut at = first;
    loop {
        let piece = (last + 1 - at).min(PERIOD * 9);
        let piece = CONTENT.slice(at % PERIOD..at % PERIOD + piece);
        at += piece.len();
        if at > last && joined.is_empty() {
            return piece;
        }
        joined.extend_from_slice(&piece);
        if at > last {
            return joined.freeze();
        }
    }
}

/// How a toy service behaves besides answering.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Behaviour {
    /// Length of every blob.
    pub(super) length: u64,
    /// Bodies of blobs fail after that many bytes.
    pub(super) fail_after: Option<u64>,
    /// Bodies of blobs stand still after that many bytes.
    pub(super) hang_after: Option<u64>,
    /// Requests with a body are answered without reading it.
    pub(super) is_early: bool,
    /// No request is answered.
    pub(super) is_mute: bool,
    /// The digest blobs claim to have, in place of the one asked for.
    pub(super) lies: bool,
    /// Several parts have another boundary between them.
    pub(super) cuts_otherwise: bool,
}

/// A local service that remembers what it was asked.
#[derive(Debug)]
pub(super) struct Toy {
    pub(super) behaviour: Mutex<Behaviour>,
    pub(super) asked: Mutex<Vec<Seen>>,
    /// Bytes of blobs that readers took.
    pub(super) produced: Mutex<u64>,
    /// Bodies of blobs that were dropped or ended.
    pub(super) ended: Mutex<usize>,
}

/// A request, as the toy saw it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) method: Method,
    pub(super) headers: http::HeaderMap,
    pub(super) identity: Identity,
    pub(super) grants: Grants,
    pub(super) request_id: RequestId,
    /// The body, or why it failed.
    pub(super) body: Result<Bytes, String>,
}

struct Ended(Arc<Toy>);

impl Drop for Ended {
    fn drop(&mut self) {
        *self.0.ended.lock() += 1;
    }
}

impl Toy {
    pub(super) fn new() -> Arc<Self> {
        let behaviour = Behaviour {
            length: 1000,
            ..Behaviour::default()
        };
        Arc::new(Self {
            behaviour: Mutex::new(behaviour),
            asked: Mutex::default(),
            produced: Mutex::default(),
            ended: Mutex::default(),
        })
    }

    pub(super) fn service(self: &Arc<Self>) -> Service {
        let toy = self.clone();
        BoxCloneSyncService::new(service_fn(move |admitted| {
            let toy = toy.clone();
            async move { Ok(toy.answer(admitted).await) }
        }))
    }

    pub(super) fn calls(&self) -> usize {
        self.asked.lock().len()
    }

    pub(super) fn last(&self) -> Seen {
        self.asked.lock().last().unwrap().clone()
    }

    async fn answer(self: Arc<Self>, admitted: Admitted) -> http::Response<Body> {
        let Admitted {
            route,
            request,
            identity,
            grants,
            request_id,
            ..
        } = admitted;
        let (parts, body) = request.into_parts();
        let mut seen = Seen {
            method: parts.method,
            headers: parts.headers,
            identity,
            grants,
            request_id,
            body: Err("it isn't over".to_owned()),
        };
        let index = {
            let mut asked = self.asked.lock();
            asked.push(seen.clone());
            asked.len() - 1
        };
        if self.behaviour.lock().is_early {
            return http::Response::builder()
                .status(403)
                .body(full("no".into()))
                .unwrap();
        }
        let body = body.collect().await.map(http_body_util::Collected::to_bytes);
        seen.body = body.map_err(|error| error.to_string());
        self.asked.lock()[index] = seen.clone();
        let behaviour = *self.behaviour.lock();
        if behaviour.is_mute {
            std::future::pending::<()>().await;
        }
        let mut response = match route {
            Route::GetBlob { digest, .. } => self.blob(&digest, &seen.headers, behaviour),
            Route::HeadBlob { .. } => {
                let mut response = http::Response::new(crate::admission::empty());
                response
                    .headers_mut()
                    .insert(header::CONTENT_LENGTH, behaviour.length.into());
                response
            }
            _ => {
                let status = if seen.body.is_ok() {
                    StatusCode::CREATED
                } else {
                    StatusCode::BAD_REQUEST
                };
                let text = format!("{} bytes", seen.body.map_or(0, |body| body.len()));
                http::Response::builder()
                    .status(status)
                    .body(full(text.into()))
                    .unwrap()
            }
        };
        response.extensions_mut().insert(Served {
            forwarded_to: None,
            owner: Duration::from_millis(3),
            store: Duration::from_millis(2),
            upstream: Duration::ZERO,
        });
        response
    }

    fn blob(
        self: &Arc<Self>,
        digest: &Digest,
        headers: &http::HeaderMap,
        behaviour: Behaviour,
    ) -> http::Response<Body> {
        let length = behaviour.length;
        let several = headers
            .get(header::RANGE)
            .filter(|range| range.as_bytes().contains(&b','));
        // Stands for an answer with several parts: what matters is that it is the same each time.
        if several.is_some() {
            let plain = http::HeaderMap::new();
            let mut response = self.blob(digest, &plain, behaviour);
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let kind = if behaviour.cuts_otherwise { "other" } else { "one" };
            let kind = format!("multipart/byteranges; boundary={kind}");
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, kind.parse().unwrap());
            return response;
        }
        let range = headers.get(header::RANGE).map(|range| {
            let (first, last) = range
                .to_str()
                .unwrap()
                .strip_prefix("bytes=")
                .unwrap()
                .split_once('-')
                .unwrap();
            (
                first.parse::<u64>().unwrap(),
                last.parse::<u64>().unwrap_or(length - 1),
            )
        });
        let (first, last) = range.unwrap_or((0, length - 1));
        let mut response = http::Response::builder().header(header::CONTENT_LENGTH, last - first + 1);
        if range.is_some() {
            response = response
                .status(StatusCode::PARTIAL_CONTENT)
                .header(header::CONTENT_RANGE, format!("bytes {first}-{last}/{length}"));
        }
        let (toy, ended) = (self.clone(), Ended(self.clone()));
        let pieces = futures_util::stream::unfold((first, ended), move |(at, ended)| {
            let toy = toy.clone();
            async move {
                let sent = at - first;
                if behaviour.hang_after.is_some_and(|after| sent >= after) {
                    std::future::pending::<()>().await;
                }
                if behaviour.fail_after.is_some_and(|after| sent >= after) {
                    return Some((Err(BodyError::ShuttingDown), (at, ended)));
                }
                if at > last {
                    return None;
                }
                let end = last.min(at + 99_999);
                *toy.produced.lock() += end - at + 1;
                Some((Ok(http_body::Frame::data(bytes(at, end))), (end + 1, ended)))
            }
        });
        let body = http_body_util::combinators::UnsyncBoxBody::new(Sized {
            inner: StreamBody::new(Box::pin(pieces)),
            length: last - first + 1,
        });
        let digest = if behaviour.lies {
            Digest::of(Algorithm::Sha256, b"lies")
        } else {
            digest.clone()
        };
        let source = BlobSource {
            digest,
            length,
            object_key: Some(ObjectKey::parse("blobs/a").unwrap()),
        };
        response.extension(source).body(body).unwrap()
    }
}

/// A body of known length.
struct Sized<B> {
    inner: B,
    length: u64,
}

impl<B: http_body::Body<Data = Bytes> + Unpin> http_body::Body for Sized<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.length)
    }
}
