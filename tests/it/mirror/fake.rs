//! An upstream registry that does what a test wants, and remembers what it was asked.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Body as _, Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, ToSocketAddrs},
    sync::watch,
    task::JoinSet,
};

use crate::support::content::{Blob, Manifest};

pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;
type Handler = Arc<dyn Fn(&Seen) -> Response<Body> + Send + Sync>;

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) authorization: Option<String>,
    pub(crate) range: Option<String>,
}

/// See the module.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    _serving: JoinSet<()>,
}

#[derive(Default)]
struct State {
    /// Requests that wait for their answer to begin, and the most that did at once.
    waiting: AtomicUsize,
    most: AtomicUsize,
    handlers: Mutex<BTreeMap<String, Handler>>,
    slow: Mutex<BTreeMap<String, Duration>>,
    seen: Mutex<Vec<Seen>>,
    // Bytes of bodies, by path.
    sent: Mutex<BTreeMap<String, usize>>,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        Self::on("127.0.0.1").await
    }

    pub(crate) async fn on(host: &str) -> Self {
        Self::bound((host, 0)).await
    }

    pub(crate) async fn bound(to: impl ToSocketAddrs) -> Self {
        let listener = TcpListener::bind(to).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let mut serving = JoinSet::new();
        let shared = state.clone();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let state = shared.clone();
                let service = service_fn(move |request| {
                    let answer = state
                        .clone()
                        .counted(request.uri().path(), state.answer(&request));
                    let delay = state.slow.lock().get(request.uri().path()).copied();
                    let state = state.clone();
                    async move {
                        let _waiting = Waiting::of(state);
                        tokio::time::sleep(delay.unwrap_or_default()).await;
                        Ok::<_, Infallible>(answer)
                    }
                });
                connections.spawn(async move {
                    let connection = hyper::server::conn::http1::Builder::new();
                    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self {
            address,
            state,
            _serving: serving,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What is answered to requests for this path, without its query.
    pub(crate) fn at(
        &self,
        path: impl Into<String>,
        answer: impl Fn(&Seen) -> Response<Body> + Send + Sync + 'static,
    ) {
        self.state.handlers.lock().insert(path.into(), Arc::new(answer));
    }

    /// Answers to requests for this path begin so much later.
    pub(crate) fn slow(&self, path: impl Into<String>, delay: Duration) {
        self.state.slow.lock().insert(path.into(), delay);
    }

    pub(crate) fn manifest(&self, repository: &str, reference: &str, manifest: &Manifest) {
        for reference in [reference, &manifest.digest] {
            let manifest = manifest.clone();
            self.at(manifest_path(repository, reference), move |_| {
                of_manifest(&manifest)
            });
        }
    }

    pub(crate) fn blob(&self, repository: &str, blob: &Blob) {
        let bytes = blob.bytes.clone();
        self.at(blob_path(repository, &blob.digest), move |seen| {
            let first = first_of(seen.range.as_deref());
            part(first, bytes.len(), whole(bytes.slice(first..)))
        });
    }

    /// A blob of which `before` bytes come at once, and the others when the gate is opened.
    pub(crate) fn gated_blob(&self, repository: &str, blob: &Blob, before: usize) -> watch::Sender<bool> {
        let gate = watch::Sender::new(false);
        let (opened, bytes) = (gate.clone(), blob.bytes.clone());
        self.at(blob_path(repository, &blob.digest), move |seen| {
            let first = first_of(seen.range.as_deref());
            let (head, tail) = (
                bytes.slice(first..before.max(first)),
                bytes.slice(before.max(first)..),
            );
            let mut opened = opened.subscribe();
            let rest = async move {
                let _ = opened.wait_for(|is_open| *is_open).await;
                Ok(Frame::data(tail))
            };
            let frames = futures_util::StreamExt::chain(
                futures_util::stream::iter([Ok(Frame::data(head))]),
                futures_util::stream::once(rest),
            );
            part(first, bytes.len(), StreamBody::new(frames).boxed_unsync())
        });
        gate
    }

    /// The most requests that waited at once for their answers to begin.
    pub(crate) fn most_at_once(&self) -> usize {
        self.state.most.load(Ordering::SeqCst)
    }

    /// Counts them anew.
    pub(crate) fn forget_most(&self) {
        self.state.most.store(0, Ordering::SeqCst);
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().clone()
    }

    /// Bytes of the bodies that were sent for this path.
    pub(crate) fn sent(&self, path: &str) -> usize {
        self.state.sent.lock().get(path).copied().unwrap_or_default()
    }

    /// How many requests of this method came for this path.
    pub(crate) fn count(&self, method: &str, path: &str) -> usize {
        let seen = self.seen();
        seen.iter()
            .filter(|seen| seen.method == method && seen.target.split('?').next() == Some(path))
            .count()
    }
}

/// A request that waits for its answer to begin, until its client is gone.
struct Waiting(Arc<State>);

impl Waiting {
    fn of(state: Arc<State>) -> Self {
        let waiting = state.waiting.fetch_add(1, Ordering::SeqCst) + 1;
        state.most.fetch_max(waiting, Ordering::SeqCst);
        Self(state)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl State {
    fn counted(self: Arc<Self>, path: &str, mut answer: Response<Body>) -> Response<Body> {
        let (path, length) = (path.to_owned(), answer.body().size_hint().exact());
        if let Some(length) = length {
            let headers = answer.headers_mut();
            headers.entry(header::CONTENT_LENGTH).or_insert(length.into());
        }
        answer.map(|body| {
            let counted = body.map_frame(move |frame| {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                *self.sent.lock().entry(path.clone()).or_default() += bytes;
                frame
            });
            counted.boxed_unsync()
        })
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Body> {
        let text = |name: header::HeaderName| {
            let value = request.headers().get(name)?;
            Some(value.to_str().unwrap().to_owned())
        };
        let seen = Seen {
            method: request.method().to_string(),
            target: request.uri().to_string(),
            authorization: text(header::AUTHORIZATION),
            range: text(header::RANGE),
        };
        self.seen.lock().push(seen.clone());
        let handler = self.handlers.lock().get(request.uri().path()).cloned();
        handler.map_or_else(|| status(404), |handler| handler(&seen))
    }
}

pub(crate) fn manifest_path(repository: &str, reference: &str) -> String {
    format!("/v2/{repository}/manifests/{reference}")
}

pub(crate) fn blob_path(repository: &str, digest: &str) -> String {
    format!("/v2/{repository}/blobs/{digest}")
}

pub(crate) fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

pub(crate) fn status(status: u16) -> Response<Body> {
    Response::builder()
        .status(status)
        .body(whole(Bytes::new()))
        .unwrap()
}

/// The tags of a repository, on one page.
pub(crate) fn tags(upstream: &Fake, repository: &str, tags: &[&str]) {
    let list = serde_json::json!({"name": repository, "tags": tags}).to_string();
    upstream.at(format!("/v2/{repository}/tags/list"), move |_| {
        typed("application/json", list.clone())
    });
}

/// The catalogue, in pages of so many names.
pub(crate) fn pages(upstream: &Fake, repositories: &[String], most: usize) {
    let repositories = repositories.to_vec();
    upstream.at("/v2/_catalog", move |seen| {
        let last = seen.target.split("last=").nth(1).unwrap_or_default();
        let n = repositories
            .iter()
            .position(|name| name == last)
            .map_or(0, |n| n + 1);
        let end = (n + most).min(repositories.len());
        let page = typed(
            "application/json",
            serde_json::json!({"repositories": repositories[n..end]}).to_string(),
        );
        match end < repositories.len() {
            true => linked(
                page,
                &format!("/v2/_catalog?n={most}&last={}", repositories[end - 1]),
            ),
            false => page,
        }
    });
}

/// A redirect.
pub(crate) fn redirect(to: impl Into<String>) -> Response<Body> {
    let mut response = status(307);
    let to = HeaderValue::try_from(to.into()).unwrap();
    response.headers_mut().insert(header::LOCATION, to);
    response
}

pub(crate) fn typed(media_type: &str, bytes: impl Into<Bytes>) -> Response<Body> {
    Response::builder()
        .header(header::CONTENT_TYPE, media_type)
        .body(whole(bytes.into()))
        .unwrap()
}

pub(crate) fn of_manifest(manifest: &Manifest) -> Response<Body> {
    let mut response = typed(&manifest.media_type, manifest.bytes.clone());
    let digest = HeaderValue::try_from(manifest.digest.as_str()).unwrap();
    response.headers_mut().insert("docker-content-digest", digest);
    response
}

/// The first byte that is asked for.
pub(crate) fn first_of(range: Option<&str>) -> usize {
    let range = range.and_then(|range| range.strip_prefix("bytes="));
    range.map_or(0, |range| range.trim_end_matches('-').parse().unwrap())
}

/// `body` as what follows `first` in a blob of `length` bytes.
pub(crate) fn part(first: usize, length: usize, body: Body) -> Response<Body> {
    let response = Response::builder().header(header::CONTENT_LENGTH, length - first);
    let response = match first {
        0 => response,
        _ => response.status(StatusCode::PARTIAL_CONTENT).header(
            header::CONTENT_RANGE,
            format!("bytes {first}-{}/{length}", length - 1),
        ),
    };
    response.body(body).unwrap()
}

/// A body that breaks off after `bytes`.
pub(crate) fn broken(bytes: Bytes) -> Body {
    // Not at once, or the head wouldn't leave either.
    let end = async {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        Err(std::io::Error::other("broken off"))
    };
    let frames = futures_util::StreamExt::chain(
        futures_util::stream::iter([Ok(Frame::data(bytes))]),
        futures_util::stream::once(end),
    );
    StreamBody::new(frames).boxed_unsync()
}

/// A body whose end comes a little later than the rest.
pub(crate) fn late(head: Bytes, tail: Bytes) -> Body {
    let tail = async {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        Ok(Frame::data(tail))
    };
    let frames = futures_util::StreamExt::chain(
        futures_util::stream::iter([Ok(Frame::data(head))]),
        futures_util::stream::once(tail),
    );
    StreamBody::new(frames).boxed_unsync()
}

/// A body that doesn't go on after `bytes`.
pub(crate) fn stuck(bytes: Bytes) -> Body {
    let frames = futures_util::StreamExt::chain(
        futures_util::stream::iter([Ok(Frame::data(bytes))]),
        futures_util::stream::pending(),
    );
    StreamBody::new(frames).boxed_unsync()
}

/// A body without end, of which a byte comes at a time.
pub(crate) fn dripping() -> Body {
    let drop = |()| async {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        Some((Ok(Frame::data(Bytes::from_static(b" "))), ()))
    };
    StreamBody::new(futures_util::stream::unfold((), drop)).boxed_unsync()
}

/// A body without end, as fast as it is read.
pub(crate) fn endless() -> Body {
    let piece = || Ok(Frame::data(Bytes::from_static(&[b' '; 64 << 10])));
    StreamBody::new(futures_util::stream::repeat_with(piece)).boxed_unsync()
}

/// An answer that goes on elsewhere (RFC 8288).
pub(crate) fn linked(mut page: Response<Body>, to: &str) -> Response<Body> {
    let link = HeaderValue::try_from(format!("<{to}>; rel=\"next\"")).unwrap();
    page.headers_mut().insert(header::LINK, link);
    page
}
