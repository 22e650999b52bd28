//! What balancers, orchestrators and Prometheus ask.
//!
//! `/livez`: the process answers. `/startupz`: it has started; sockets open only then. `/readyz`: it should be sent
//! requests, that is, it isn't about to end, it is in touch with the other members' leases, it can write the audit that it
//! must write, it has room for another request, and its stores answer; these are asked, at most every [`FRESH`]. None of them
//! needs a login, a permit or a working mesh. `/metrics` may need a login,
//! which the front sees to.

use std::{sync::Arc, time::Duration};

use axum::{Router, extract::State, middleware::map_response, response::IntoResponse, routing::get};
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};
use tower::ServiceExt as _;

use super::front::{
    Exchange,
    step::{Next, Step},
};
use crate::{
    admission::{Body, BodyError},
    net::{Drain, Shares},
    ownership::View,
    registry::Stores,
    storage::{ObjectKey, StoreError, keys},
    telemetry::{Metrics, logs},
};

/// How long an answer of the stores counts.
const FRESH: Duration = Duration::from_secs(2);
/// How long the stores may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Answers the probes.
#[derive(Clone)]
pub struct Probes(Arc<Inner>);

struct Inner {
    view: Arc<dyn View>,
    drain: Drain,
    permits: Shares,
    stores: Stores,
    metrics: Arc<Metrics>,
    stores_seen: Mutex<Option<(Instant, Result<(), String>)>>,
}

impl Probes {
    /// Of the member whose view of the mesh this is. It isn't ready any more once `drain` says that it leaves, nor while
    /// `stores` don't answer or all `permits` for requests are taken.
    pub fn new(
        view: Arc<dyn View>,
        drain: Drain,
        permits: Shares,
        stores: Stores,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self(Arc::new(Inner {
            view,
            drain,
            permits,
            stores,
            metrics,
            stores_seen: Mutex::default(),
        }))
    }

    /// Whether requests should be sent here, and why not.
    pub async fn readiness(&self) -> Result<(), String> {
        if self.0.drain.is_leaving() {
            return Err("shutting down".to_owned());
        }
        if let Some(trouble) = self.0.view.trouble() {
            return Err(trouble);
        }
        if let Some(trouble) = logs::trouble() {
            return Err(trouble);
        }
        if self.0.permits.is_exhausted() {
            let all = self.0.permits.supply().all;
            return Err(format!("full: {all} requests are under way"));
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
        let Inner { stores, view, .. } = &*self.0;
        let row = keys::lease(view.me());
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

/// Where the metrics are, for who may read them.
pub(super) const METRICS: &str = "/metrics";

/// What the router answers; everything else is the registry's.
const PATHS: [&str; 4] = ["/livez", "/readyz", "/startupz", METRICS];

fn router(probes: Probes) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/startupz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route(METRICS, get(metrics))
        .with_state(probes)
        .layer(map_response(no_store))
}

async fn readyz(State(probes): State<Probes>) -> (StatusCode, String) {
    match probes.readiness().await {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
    }
}

async fn metrics(State(probes): State<Probes>) -> impl IntoResponse {
    let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, media_type)], probes.0.metrics.render())
}

async fn no_store(mut response: axum::response::Response) -> axum::response::Response {
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl Step for Probes {
    type In = Exchange;
    type Out = Exchange;

    async fn run<N: Next<Exchange>>(self, exchange: Exchange, next: N) -> Response<Body> {
        if !PATHS.contains(&exchange.request.uri().path()) {
            return next.go(exchange).await;
        }
        exchange.notes.lock().route = Some("probe");
        let answered = router(self)
            .oneshot(exchange.request.map(axum::body::Body::new))
            .await;
        let response = answered.unwrap_or_else(|never| match never {});
        response.map(|body| {
            body.map_err(|error| BodyError::Client(error.into()))
                .boxed_unsync()
        })
    }
}
