//! A proxy before a real server that can do what networks and busy servers do: refuse, stall, cut, lose an answer.
//!
//! It forwards request for request, so that it knows which one it harms, and keeps a record.

use std::{
    error::Error,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    service::service_fn,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use parking_lot::Mutex;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::support::{content::Random, mesh::certificates};

type BoxError = Box<dyn Error + Send + Sync>;

/// What happens to a request.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    None,
    /// It is answered so, and never arrives.
    Answer(u16, &'static str),
    /// The same, with this for its whole body.
    AnswerBody(u16, &'static str),
    /// The connection ends after so many bytes of its body.
    CutRequest(u64),
    /// It arrives and has its effect; the connection ends instead of the answer.
    LoseAnswer,
    /// It arrives and has its effect; nothing ever comes back.
    HoldAnswer,
    /// The connection ends after so many bytes of the answer's body.
    CutAnswer(u64),
    /// Nothing comes any more after so many bytes of the answer's body.
    StallAnswer(u64),
    /// It arrives later.
    Delay(Duration),
    /// A transaction is cancelled for this reason, which DynamoDB gives for the last of its items, and never arrives.
    Cancel(&'static str),
    /// Of the rows that DynamoDB was asked for, one is left for another request.
    Unprocessed,
}

/// A request that came by.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    /// Of a request to DynamoDB; else empty.
    pub(crate) body: Bytes,
}

impl Seen {
    /// Whether it is for DynamoDB, which tells its operations by a field of the head.
    pub(crate) fn dynamo_operation(&self) -> Option<&str> {
        self.header("x-amz-target")?.strip_prefix("DynamoDB_20120810.")
    }

    /// The store's name of the operation, as far as tests tell them apart.
    pub(crate) fn operation(&self) -> &'static str {
        if let Some(operation) = self.dynamo_operation() {
            return match operation {
                "PutItem" => "PutItem",
                "DeleteItem" => "DeleteItem",
                "TransactWriteItems" => "TransactWriteItems",
                _ => "a read",
            };
        }
        let query = self.uri.query().unwrap_or_default();
        let has = |name: &str| {
            query
                .split('&')
                .any(|pair| pair == name || pair.starts_with(&format!("{name}=")))
        };
        let name = self.uri.path().trim_start_matches('/');
        let is_object = name.split_once('/').is_some_and(|(_, key)| !key.is_empty());
        match (self.method.as_str(), is_object) {
            ("PUT", true) if has("partNumber") => "UploadPart",
            ("PUT", true) => "PutObject",
            ("POST", true) if has("uploads") => "CreateMultipartUpload",
            ("POST", true) => "CompleteMultipartUpload",
            ("GET", true) => "GetObject",
            ("HEAD", true) => "HeadObject",
            ("DELETE", true) if has("uploadId") => "AbortMultipartUpload",
            ("DELETE", true) => "DeleteObject",
            ("GET", false) if has("uploads") => "ListMultipartUploads",
            ("GET", false) => "ListObjects",
            ("PUT", false) => "CreateBucket",
            _ => "another",
        }
    }

    /// Whether a request to DynamoDB has this string for a table, or for a part of a key.
    pub(crate) fn names(&self, text: &str) -> bool {
        let quoted = format!("\"{text}\"");
        self.body
            .windows(quoted.len())
            .any(|part| part == quoted.as_bytes())
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

type Decide = dyn Fn(&Seen) -> Fault + Send + Sync;

/// What DynamoDB does in AWS when much is asked of it, and its counterparts never: it refuses requests, and transactions
/// that meet others at an item, and leaves some of many rows for the next request. One request in `one_of` fares so.
pub(crate) fn busy_dynamo(seen: &Seen, random: &mut Random, one_of: u64) -> Fault {
    const THROTTLED: [Fault; 3] = [
        Fault::Answer(400, "ThrottlingException"),
        Fault::Answer(400, "ProvisionedThroughputExceededException"),
        Fault::Answer(400, "RequestLimitExceeded"),
    ];
    const CANCELLED: [Fault; 3] = [
        Fault::Cancel("TransactionConflict"),
        Fault::Cancel("ThrottlingError"),
        Fault::Cancel("ProvisionedThroughputExceeded"),
    ];
    let which = random.below(3) as usize;
    match (random.below(one_of), seen.dynamo_operation()) {
        (0, Some("TransactWriteItems" | "TransactGetItems")) => CANCELLED[which].clone(),
        (0, Some("PutItem" | "DeleteItem")) if which == 0 => {
            Fault::Answer(400, "TransactionConflictException")
        }
        (0, Some("BatchGetItem")) if which == 0 => Fault::Unprocessed,
        (0, _) => THROTTLED[which].clone(),
        _ => Fault::None,
    }
}

/// A running proxy; it ends with this.
pub(crate) struct Proxy {
    address: SocketAddr,
    is_tls: bool,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    upstream: String,
    client: Client<HttpConnector, Limited>,
    decide: Mutex<Arc<Decide>>,
    seen: Mutex<Vec<Seen>>,
}

impl Proxy {
    /// Forwards to `upstream`, a URL, and harms nothing yet.
    pub(crate) async fn start(upstream: &str) -> Self {
        Self::start_over(upstream, None).await
    }

    /// The same, spoken to over TLS, with the certificate of a member on 127.0.0.1.
    pub(crate) async fn start_tls(upstream: &str) -> Self {
        let pair = certificates().members[0].clone();
        let chain = CertificateDer::pem_file_iter(&pair.cert).unwrap();
        let key = PrivateKeyDer::from_pem_file(&pair.key).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.map(Result::unwrap).collect(), key)
            .unwrap();
        Self::start_over(upstream, Some(Arc::new(config).into())).await
    }

    async fn start_over(upstream: &str, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            client: Client::builder(TokioExecutor::new()).build_http(),
            decide: Mutex::new(Arc::new(|_| Fault::None)),
            seen: Mutex::default(),
        });
        let is_tls = tls.is_some();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, tls, shared.clone()));
        Self {
            address,
            is_tls,
            shared,
            _tasks: tasks,
        }
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// From now on requests fare as `decide` says, and the record is empty.
    pub(crate) fn harm(&self, decide: impl Fn(&Seen) -> Fault + Send + Sync + 'static) {
        *self.shared.decide.lock() = Arc::new(decide);
        self.shared.seen.lock().clear();
    }

    /// From now on the first `times` requests of `operation` meet `fault`, and the record is empty.
    pub(crate) fn harm_first(&self, operation: &'static str, times: usize, fault: Fault) {
        let left = Mutex::new(times);
        self.harm(move |seen| {
            let mut left = left.lock();
            if seen.operation() != operation || *left == 0 {
                return Fault::None;
            }
            *left -= 1;
            fault.clone()
        });
    }

    /// Every request that came by since the last `harm`.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().clone()
    }

    /// Those of `operation`.
    pub(crate) fn seen_of(&self, operation: &str) -> Vec<Seen> {
        let mut seen = self.seen();
        seen.retain(|seen| seen.operation() == operation);
        seen
    }
}

async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let (shared, tls) = (shared.clone(), tls.clone());
        connections.spawn(async move {
            let service = service_fn(move |request| handle(shared.clone(), request));
            let http = hyper::server::conn::http1::Builder::new();
            // A connection that is cut, or whose certificate isn't trusted, is an error here.
            let _ = match tls {
                None => http.serve_connection(TokioIo::new(socket), service).await,
                Some(tls) => match tls.accept(socket).await {
                    Ok(socket) => http.serve_connection(TokioIo::new(socket), service).await,
                    Err(_) => return,
                },
            };
        });
    }
}

async fn handle(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Limited>, BoxError> {
    let (mut head, body) = request.into_parts();
    let mut seen = Seen {
        method: head.method.clone(),
        uri: head.uri.clone(),
        headers: head.headers.clone(),
        body: Bytes::new(),
    };
    let is_dynamo = seen.dynamo_operation().is_some();
    let mut sent = match is_dynamo {
        true => {
            seen.body = body.collect().await?.to_bytes();
            Limited::all(Full::from(seen.body.clone()))
        }
        false => Limited::all(body),
    };
    let decide = shared.decide.lock().clone();
    let fault = decide(&seen);
    shared.seen.lock().push(seen);
    match &fault {
        Fault::Answer(status, code) => {
            // Read to its end, or the answer is lost in a reset.
            let _ = sent.collect().await;
            return Ok(refusal(*status, code, is_dynamo));
        }
        Fault::AnswerBody(status, body) => {
            let _ = sent.collect().await;
            return Ok(answered(*status, (*body).to_owned()));
        }
        Fault::Cancel(reason) => return Ok(cancelled(&sent.collect().await?.to_bytes(), reason)),
        Fault::CutRequest(after) => sent.limit = Some((*after, End::Cut)),
        Fault::Delay(time) => tokio::time::sleep(*time).await,
        Fault::None
        | Fault::LoseAnswer
        | Fault::HoldAnswer
        | Fault::CutAnswer(_)
        | Fault::StallAnswer(_)
        | Fault::Unprocessed => {}
    }
    // The Host field stays: it is signed.
    head.uri = format!("{}{}", shared.upstream, head.uri).parse()?;
    let answer = shared.client.request(Request::from_parts(head, sent)).await?;
    let (mut head, body) = answer.into_parts();
    let mut body = Limited::all(body);
    match fault {
        Fault::Unprocessed => {
            head.headers.remove("content-length");
            head.headers.remove("x-amz-crc32");
            body = Limited::all(Full::from(one_left(&body.collect().await?.to_bytes())));
        }
        Fault::LoseAnswer => {
            let _ = body.collect().await;
            return Err("the answer is lost".into());
        }
        Fault::HoldAnswer => {
            let _ = body.collect().await;
            return std::future::pending().await;
        }
        Fault::CutAnswer(after) => body.limit = Some((after, End::Cut)),
        Fault::StallAnswer(after) => body.limit = Some((after, End::Stall)),
        Fault::None
        | Fault::Answer(..)
        | Fault::AnswerBody(..)
        | Fault::Cancel(_)
        | Fault::CutRequest(_)
        | Fault::Delay(_) => {}
    }
    Ok(Response::from_parts(head, body))
}

fn refusal(status: u16, code: &str, is_dynamo: bool) -> Response<Limited> {
    let body = match is_dynamo {
        true => {
            format!(r#"{{"__type": "com.amazonaws.dynamodb.v20120810#{code}", "message": "from the proxy"}}"#)
        }
        false => format!("<Error><Code>{code}</Code><Message>from the proxy</Message></Error>"),
    };
    answered(status, body)
}

/// What DynamoDB says when an item of this transaction is busy.
fn cancelled(request: &[u8], reason: &str) -> Response<Limited> {
    let request: Value = serde_json::from_slice(request).unwrap();
    let items = request["TransactItems"].as_array().unwrap();
    let mut reasons = vec![json!({ "Code": "None" }); items.len()];
    reasons[items.len() - 1] = json!({ "Code": reason, "Message": "from the proxy" });
    let body = json!({
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "Message": format!("Transaction cancelled, please refer cancellation reasons for specific reasons [{reason}]"),
        "CancellationReasons": reasons,
    });
    answered(400, body.to_string())
}

/// The answer to a BatchGetItem, with one of its items among the keys that weren't processed instead.
fn one_left(answer: &[u8]) -> Vec<u8> {
    let mut answer: Value = serde_json::from_slice(answer).unwrap();
    let found = answer["Responses"].as_object_mut().unwrap();
    let found = found.iter_mut().find_map(|(table, items)| {
        let item = items.as_array_mut().unwrap().pop()?;
        Some((table.clone(), item))
    });
    if let Some((table, item)) = found {
        let key = json!({ "pk": item["pk"], "sk": item["sk"] });
        answer["UnprocessedKeys"] = json!({ table: { "Keys": [key], "ConsistentRead": true } });
    }
    answer.to_string().into_bytes()
}

fn answered(status: u16, body: String) -> Response<Limited> {
    let mut answer = Response::new(Limited::all(Full::from(body)));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    answer
}

#[derive(Clone, Copy)]
enum End {
    Cut,
    Stall,
}

/// A body that may end before its end.
struct Limited {
    inner: http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>,
    limit: Option<(u64, End)>,
    /// Before a cut, so that everything up to it is sent.
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Limited {
    fn all(body: impl Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static) -> Self {
        Self {
            inner: body.map_err(Into::into).boxed_unsync(),
            limit: None,
            pause: None,
        }
    }
}

impl Body for Limited {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.limit {
            Some((0, End::Cut)) => {
                let pause = self
                    .pause
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep(Duration::from_millis(50))));
                ready!(pause.as_mut().poll(cx));
                return Poll::Ready(Some(Err("cut".into())));
            }
            Some((0, End::Stall)) => return Poll::Pending,
            Some(_) | None => {}
        }
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        let Some((left, _)) = &mut self.limit else {
            return Poll::Ready(frame);
        };
        Poll::Ready(frame.map(|frame| {
            let Ok(mut data) = frame?.into_data() else {
                return Err("trailers".into());
            };
            data.truncate(usize::try_from(*left).unwrap());
            *left -= data.len() as u64;
            Ok(Frame::data(data))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
