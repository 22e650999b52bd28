//! A client of the distribution API that hides nothing: every header, every status, no redirect, no retry.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Method};
use http_body_util::{BodyExt as _, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioTimer},
};
use serde_json::Value;

use super::{
    PATIENCE,
    content::{Blob, Manifest},
    door::{Connector, Door},
};

/// The body of a request.
type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// Which version of HTTP a client speaks. HTTP/2 is spoken without asking (prior knowledge).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Http {
    One,
    Two,
}

/// A request.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    payload: Payload,
}

/// What is sent with a request.
#[derive(Clone)]
enum Payload {
    Nothing,
    /// With its length in `Content-Length`.
    Whole(Bytes),
    /// Made when it is sent, without a length unless a header says it.
    Made(Arc<dyn Fn() -> Body + Send + Sync>),
}

impl Request {
    pub(crate) fn new(method: Method, target: impl Into<String>) -> Self {
        Self {
            method,
            target: target.into(),
            headers: Vec::new(),
            payload: Payload::Nothing,
        }
    }

    pub(crate) fn get(target: impl Into<String>) -> Self {
        Self::new(Method::GET, target)
    }

    pub(crate) fn head(target: impl Into<String>) -> Self {
        Self::new(Method::HEAD, target)
    }

    pub(crate) fn post(target: impl Into<String>) -> Self {
        Self::new(Method::POST, target)
    }

    pub(crate) fn put(target: impl Into<String>) -> Self {
        Self::new(Method::PUT, target)
    }

    pub(crate) fn patch(target: impl Into<String>) -> Self {
        Self::new(Method::PATCH, target)
    }

    pub(crate) fn delete(target: impl Into<String>) -> Self {
        Self::new(Method::DELETE, target)
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// A body with its length.
    pub(crate) fn body(mut self, bytes: impl Into<Bytes>) -> Self {
        self.payload = Payload::Whole(bytes.into());
        self
    }

    /// A body in pieces without its length (chunked, in HTTP/1.1).
    pub(crate) fn pieces(self, pieces: Vec<Bytes>) -> Self {
        self.stream(move || {
            let frames = pieces.clone().into_iter().map(|piece| Ok(Frame::data(piece)));
            StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync()
        })
    }

    /// A body that is made when it is sent.
    pub(crate) fn stream(mut self, make: impl Fn() -> Body + Send + Sync + 'static) -> Self {
        self.payload = Payload::Made(Arc::new(make));
        self
    }

    fn build(&self, door: &Door) -> http::Request<Body> {
        let mut request = http::Request::builder().method(self.method.clone()).uri(format!(
            "{}://{door}{}",
            door.scheme(),
            self.target
        ));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let body = match &self.payload {
            Payload::Nothing => Empty::new().map_err(|never| match never {}).boxed_unsync(),
            Payload::Whole(bytes) => Full::new(bytes.clone())
                .map_err(|never| match never {})
                .boxed_unsync(),
            Payload::Made(make) => make(),
        };
        request.body(body).expect("a test's request is well-formed")
    }
}

impl Request {
    /// As it is sent on a connection to `door` that is there already.
    pub(crate) fn on_connection(&self, door: &Door) -> http::Request<Body> {
        let mut request = self.build(door);
        *request.uri_mut() = self.target.parse().expect("a test's request is well-formed");
        let host = http::HeaderValue::try_from(door.to_string()).expect("a door is a host");
        request.headers_mut().insert(http::header::HOST, host);
        request
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.target)?;
        for (name, value) in &self.headers {
            write!(f, "\n  > {name}: {value}")?;
        }
        match &self.payload {
            Payload::Whole(bytes) => write!(f, "\n  > ({} bytes)", bytes.len()),
            Payload::Nothing | Payload::Made(_) => Ok(()),
        }
    }
}

/// No whole answer came: the connection failed, or the body broke off.
#[derive(Clone, Debug)]
pub(crate) struct Broken(pub(crate) String);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// What was asked, for messages.
    request: String,
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// Asserts the status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self}");
        self
    }

    /// Asserts a header's value.
    #[track_caller]
    pub(crate) fn with(self, name: &str, value: &str) -> Self {
        assert_eq!(self.header(name), Some(value), "{name} of {self}");
        self
    }

    /// Asserts that a header isn't there.
    #[track_caller]
    pub(crate) fn lacks(self, name: &str) -> Self {
        assert_eq!(self.header(name), None, "{name} of {self}");
        self
    }

    /// Asserts the body.
    #[track_caller]
    pub(crate) fn with_body(self, body: &[u8]) -> Self {
        assert!(
            self.body == body,
            "{} bytes came, {} were expected: {self}",
            self.body.len(),
            body.len()
        );
        self
    }

    /// Asserts that this is an error of the specification: status, code, and the form of the body.
    #[track_caller]
    pub(crate) fn error(self, status: u16, code: &str) -> Self {
        let answer = self.expect(status).with("content-type", "application/json");
        let body = answer.json();
        let errors = body["errors"]
            .as_array()
            .unwrap_or_else(|| panic!("no errors: {answer}"));
        assert!(!errors.is_empty(), "{answer}");
        for error in errors {
            assert_eq!(error["code"], code, "{answer}");
            let message = error["message"].as_str().unwrap_or_default();
            assert!(!message.is_empty(), "no message: {answer}");
        }
        answer
    }

    /// The value of a header that must not occur twice.
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let first = values
            .next()
            .map(|value| value.to_str().expect("a header is ASCII"));
        assert!(values.next().is_none(), "{name} occurs twice: {self}");
        first
    }

    /// The value of a header that must be there.
    #[track_caller]
    pub(crate) fn must(&self, name: &str) -> String {
        self.header(name)
            .unwrap_or_else(|| panic!("no {name}: {self}"))
            .to_owned()
    }

    /// Where the answer points to, as path and query, whether it names a host or not.
    #[track_caller]
    pub(crate) fn location(&self) -> String {
        let location = self.must("location");
        let path = match location.split_once("://") {
            Some((_, rest)) => rest.find('/').map_or("", |at| &rest[at..]),
            None => &location,
        };
        assert!(path.starts_with("/v2/"), "no path of the API: {self}");
        path.to_owned()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self}"))
    }

    /// Whether the registry promises that it happened.
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether the registry couldn't do it now: what may happen when its stores fail.
    pub(crate) fn is_unavailable(&self) -> bool {
        matches!(self.status, 429 | 503 | 507)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}", self.request, self.status)?;
        for (name, value) in &self.headers {
            writeln!(f, "  < {name}: {}", String::from_utf8_lossy(value.as_bytes()))?;
        }
        match std::str::from_utf8(&self.body) {
            Ok(text) if text.len() <= 2000 => f.write_str(text),
            _ => write!(f, "({} bytes)", self.body.len()),
        }
    }
}

/// Talks to one member. Cheap to clone; the clones share connections.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) door: Door,
    inner: legacy::Client<Connector, Body>,
}

impl Client {
    pub(crate) fn new(door: impl Into<Door>, http: Http) -> Self {
        let door = door.into();
        let inner = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .http2_only(http == Http::Two)
            .build(door.connector(http));
        Self { door, inner }
    }

    /// Sends a request and gives the answer as soon as its head is there.
    pub(crate) async fn open(&self, request: &Request) -> Result<http::Response<Incoming>, Broken> {
        let sent = self.inner.request(request.build(&self.door));
        let answer = tokio::time::timeout(PATIENCE, sent)
            .await
            .unwrap_or_else(|_| panic!("no answer within {PATIENCE:?} from {}: {request}", self.door));
        answer.map_err(|error| Broken(format!("{}: {}\n{request}", self.door, chain(&error))))
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}

/// Whoever can be asked: a client as such, or one that records what it hears.
pub(crate) trait Ask: Sync {
    /// Sends a request and collects the answer.
    fn ask(&self, request: Request) -> impl Future<Output = Result<Answer, Broken>> + Send;

    /// Pushes a blob in one request.
    fn push_blob(
        &self,
        repository: &str,
        blob: &Blob,
    ) -> impl Future<Output = Result<Answer, Broken>> + Send {
        async move {
            let target = format!("/v2/{repository}/blobs/uploads/?digest={}", blob.digest);
            self.ask(octets(Request::post(target)).body(blob.bytes.clone()))
                .await
        }
    }

    /// Begins an upload session; the answer should be 202.
    fn start(&self, repository: &str) -> impl Future<Output = Result<Answer, Broken>> + Send {
        async move {
            let request = Request::post(format!("/v2/{repository}/blobs/uploads/"));
            self.ask(request.header("content-length", "0")).await
        }
    }

    /// Pushes a blob by POST and PUT. Gives the last answer.
    fn push_blob_in_two(
        &self,
        repository: &str,
        blob: &Blob,
    ) -> impl Future<Output = Result<Answer, Broken>> + Send {
        async move {
            let answer = self.start(repository).await?;
            if answer.status != 202 {
                return Ok(answer);
            }
            let target = with_digest(&answer.location(), &blob.digest);
            self.ask(octets(Request::put(target)).body(blob.bytes.clone()))
                .await
        }
    }

    /// Pushes a blob by POST, PATCH for every `chunk` bytes, and PUT. Gives the last answer, or the first that isn't
    /// as it should be.
    fn push_blob_in_chunks(
        &self,
        repository: &str,
        blob: &Blob,
        chunk: usize,
    ) -> impl Future<Output = Result<Answer, Broken>> + Send {
        async move {
            let mut answer = self.start(repository).await?;
            for first in (0..blob.len()).step_by(chunk) {
                if answer.status != 202 {
                    return Ok(answer);
                }
                let bytes = blob.bytes.slice(first..blob.len().min(first + chunk));
                answer = self.ask(self::chunk(&answer.location(), first, bytes)).await?;
            }
            if answer.status != 202 {
                return Ok(answer);
            }
            self.ask(finish(&answer.location(), &blob.digest)).await
        }
    }

    /// Pushes a manifest under a tag or digest.
    fn push_manifest(
        &self,
        repository: &str,
        reference: &str,
        manifest: &Manifest,
    ) -> impl Future<Output = Result<Answer, Broken>> + Send {
        async move {
            let request = Request::put(format!("/v2/{repository}/manifests/{reference}"))
                .header("content-type", &manifest.media_type)
                .body(manifest.bytes.clone());
            self.ask(request).await
        }
    }

    fn get(&self, target: String) -> impl Future<Output = Result<Answer, Broken>> + Send {
        self.ask(Request::get(target))
    }

    fn head(&self, target: String) -> impl Future<Output = Result<Answer, Broken>> + Send {
        self.ask(Request::head(target))
    }

    fn delete(&self, target: String) -> impl Future<Output = Result<Answer, Broken>> + Send {
        self.ask(Request::delete(target))
    }
}

impl Ask for Client {
    async fn ask(&self, request: Request) -> Result<Answer, Broken> {
        let answer = self.open(&request).await?;
        collect(&self.door, &request, answer).await
    }
}

/// The whole answer.
pub(crate) async fn collect(
    door: &Door,
    request: &Request,
    answer: http::Response<Incoming>,
) -> Result<Answer, Broken> {
    let (head, body) = answer.into_parts();
    let collected = tokio::time::timeout(PATIENCE, body.collect())
        .await
        .unwrap_or_else(|_| panic!("no whole body within {PATIENCE:?} from {door}: {request}"));
    let body = collected
        .map_err(|error| {
            Broken(format!(
                "{door}: {} and {}\n{request}",
                head.status,
                chain(&error)
            ))
        })?
        .to_bytes();
    Ok(Answer {
        request: request.to_string(),
        status: head.status.as_u16(),
        headers: head.headers,
        body,
    })
}

/// A request whose body is bytes.
pub(crate) fn octets(request: Request) -> Request {
    request.header("content-type", "application/octet-stream")
}

/// A session's location with the digest that ends it.
pub(crate) fn with_digest(location: &str, digest: &str) -> String {
    let join = if location.contains('?') { '&' } else { '?' };
    format!("{location}{join}digest={digest}")
}

/// A chunk that begins at byte `first` of its blob.
pub(crate) fn chunk(location: &str, first: usize, bytes: Bytes) -> Request {
    let last = first + bytes.len() - 1;
    octets(Request::patch(location))
        .header("content-range", format!("{first}-{last}"))
        .body(bytes)
}

/// The end of a session whose bytes are all there.
pub(crate) fn finish(location: &str, digest: &str) -> Request {
    Request::put(with_digest(location, digest)).header("content-length", "0")
}
