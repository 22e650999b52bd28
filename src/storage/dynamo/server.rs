//! A server that answers as a test says, for tests. It speaks HTTP, and knows nothing of tables.

use std::{io, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

/// What a request gets.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    /// This status and body.
    Answer(u16, Value),
    /// The connection is closed when the request has been read.
    Cut,
    /// Nothing, ever.
    Never,
}

/// A request.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Asked {
    /// The operation, such as `GetItem`.
    pub(super) target: String,
    pub(super) body: Value,
}

/// Ends when it is dropped.
pub(super) struct Server {
    pub(super) endpoint: String,
    seen: Arc<Mutex<Seen>>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Seen {
    asked: Vec<Asked>,
    now: usize,
    most: usize,
}

type Script = dyn Fn(&str, &Value) -> Reply + Send + Sync;

impl Server {
    pub(super) async fn start(script: impl Fn(&str, &Value) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Seen::default()));
        let task = TaskTracker::new().spawn(serve(listener, Arc::new(script), seen.clone()));
        Self {
            endpoint,
            seen,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// The requests so far.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.seen.lock().asked.clone()
    }

    /// The most requests that were being answered at a time.
    pub(super) fn most_at_once(&self) -> usize {
        self.seen.lock().most
    }
}

async fn serve(listener: TcpListener, script: Arc<Script>, seen: Arc<Mutex<Seen>>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (script, seen) = (script.clone(), seen.clone());
        let service = service_fn(move |request| answer(request, script.clone(), seen.clone()));
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        // It ends with an error where the script cuts it.
        connections.spawn(async { drop(connection.await) });
    }
}

async fn answer(
    request: Request<Incoming>,
    script: Arc<Script>,
    seen: Arc<Mutex<Seen>>,
) -> io::Result<Response<Full<Bytes>>> {
    let target = request.headers()["x-amz-target"].to_str().unwrap().to_owned();
    let target = target.rsplit('.').next().unwrap().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let reply = {
        let mut seen = seen.lock();
        seen.now += 1;
        seen.most = seen.most.max(seen.now);
        let reply = script(&target, &body);
        seen.asked.push(Asked { target, body });
        reply
    };
    tokio::task::yield_now().await;
    let response = match reply {
        Reply::Answer(status, body) => Ok(Response::builder()
            .status(status)
            .header("content-type", "application/x-amz-json-1.0")
            .body(Full::from(body.to_string()))
            .unwrap()),
        Reply::Cut => Err(io::ErrorKind::ConnectionAborted.into()),
        Reply::Never => std::future::pending().await,
    };
    seen.lock().now -= 1;
    response
}
