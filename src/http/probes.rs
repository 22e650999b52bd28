//! What balancers, orchestrators and Prometheus ask.
//!
//! `/livez`: the process answers. `/startupz`: it has started; sockets open only then. `/readyz`: it should be sent
//! requests, that is, it isn't about to end and its stores answer; the stores are asked, at most every
//! [`FRESH`]. None of them needs a login, a permit or a working mesh.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, Method, Response, StatusCode, header};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use super::front::{
    Exchange,
    step::{Next, Step},
};
use crate::{
    admission::{self, Body},
    net::Drain,
    placement::MemberId,
    registry::Stores,
    storage::{ObjectKey, StoreError, keys},
    telemetry::Metrics,
};

/// How long an answer of the stores counts.
const FRESH: Duration = Duration::from_secs(2);
/// How long the stores may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Answers the probes.
#[derive(Clone)]
pub struct Probes(Arc<Inner>);

struct Inner {
    me: MemberId,
    drain: Drain,
    stores: Stores,
    metrics: Arc<Metrics>,
    stores_seen: Mutex<Option<(Instant, Result<(), String>)>>,
}

impl Probes {
    /// Of the member `me`, which isn't ready any more once `drain` has begun, nor while `stores` don't answer.
    pub fn new(me: MemberId, drain: Drain, stores: Stores, metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Inner {
            me,
            drain,
            stores,
            metrics,
            stores_seen: Mutex::default(),
        }))
    }

    /// Whether requests should be sent here, and why not.
    pub async fn readiness(&self) -> Result<(), String> {
        if self.0.drain.is_begun() {
            return Err("shutting down".to_owned());
        }
        // Many may ask at once; the stores are asked once.
        let mut seen = self.0.stores_seen.lock().await;
        match &*seen {
            Some((when, answer)) if when.elapsed() < FRESH => answer.clone(),
            _ => {
                let answer = self.ask_stores().await;
                *seen = Some((Instant::now(), answer.clone()));
                answer
            }
        }
    }

    async fn ask_stores(&self) -> Result<(), String> {
        let Inner { stores, me, .. } = &*self.0;
        let row = keys::lease(me);
        let meta = answers("metadata", async { stores.meta.get(&row).await.map(drop) });
        let blobs = answers("blob", async {
            match ObjectKey::parse("readiness") {
                Some(key) => stores.blobs.head(&key).await.map(drop),
                None => Ok(()),
            }
        });
        let (meta, blobs) = tokio::join!(meta, blobs);
        meta.and(blobs)
    }
}

async fn answers(store: &str, request: impl Future<Output = Result<(), StoreError>>) -> Result<(), String> {
    match timeout(PATIENCE, request).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("the {store} store fails: {error}")),
        Err(_) => Err(format!(
            "the {store} store doesn't answer within {} s",
            PATIENCE.as_secs()
        )),
    }
}

impl Step for Probes {
    type In = Exchange;
    type Out = Exchange;

    async fn run<N: Next<Exchange>>(self, exchange: Exchange, next: N) -> Response<Body> {
        let is_read = matches!(*exchange.request.method(), Method::GET | Method::HEAD);
        let answer = match exchange.request.uri().path() {
            "/livez" | "/startupz" if is_read => text(StatusCode::OK, "ok\n".to_owned()),
            "/readyz" if is_read => match self.readiness().await {
                Ok(()) => text(StatusCode::OK, "ok\n".to_owned()),
                Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
            },
            "/metrics" if is_read => open_metrics(self.0.metrics.render()),
            _ => return next.go(exchange).await,
        };
        exchange.notes.lock().route = Some("probe");
        answer
    }
}

fn text(status: StatusCode, body: String) -> Response<Body> {
    let mut response = Response::new(admission::full(body.into()));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn open_metrics(body: String) -> Response<Body> {
    let mut response = text(StatusCode::OK, body);
    let media_type = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    response
}
