//! From a request to an admitted one: what it asks for, who asks, until when; whether there is room is in [`room`](super::room).

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Method, Response, header};
use tokio::time::{Instant, timeout_at};

use super::{
    Change, Decided, Exchange, FrontLimits, Routed,
    access::InMesh,
    step::{Next, Step},
};
use crate::{
    admission::{Admitted, Body, Failure, RequestId},
    auth::{Caller, Gate, Refusal, Wanted},
    http::{
        error::{self, FrontError},
        probes,
    },
    oci::{Effect, Route},
};

/// How long after the deadline the front still waits for whoever serves the request to say so itself.
const GRACE: Duration = Duration::from_secs(2);

/// The request line becomes a route.
#[derive(Clone)]
pub(super) struct Parse;

impl Step for Parse {
    type In = Exchange;
    type Out = Routed;

    async fn run<N: Next<Routed>>(self, exchange: Exchange, next: N) -> Response<Body> {
        let (method, uri) = (exchange.request.method(), exchange.request.uri());
        let route = match Route::parse(method, uri.path(), uri.query()) {
            Ok(route) => route,
            Err(error) => return refuse(&error.into(), method, &exchange.id),
        };
        {
            let mut notes = exchange.notes.lock();
            notes.route = Some(route.name());
            notes.repository = route.repository().cloned();
            notes.change = (route.effect() == Effect::Unsafe).then(|| Change {
                what: route.name(),
                subject: route.subject(),
            });
        }
        next.go(Routed { exchange, route }).await
    }
}

/// Who asks, and what they may do. What they proved it with goes no further.
#[derive(Clone)]
pub(super) struct Authorise {
    pub(super) gate: Arc<Gate>,
}

impl Step for Authorise {
    type In = Routed;
    type Out = Decided;

    async fn run<N: Next<Decided>>(self, mut routed: Routed, next: N) -> Response<Body> {
        let Routed { exchange, route } = &mut routed;
        let caller = caller(exchange);
        let mut decision = match self.gate.decide(caller, Wanted::Route(route)).await {
            Ok(decision) => decision,
            Err(refusal) => return turn_away(refusal, exchange),
        };
        strip_credentials(exchange.request.headers_mut());
        let challenges = std::mem::take(&mut decision.challenges);
        routed
            .exchange
            .notes
            .lock()
            .user
            .clone_from(&decision.identity.user);
        let mut response = next.go(Decided { routed, decision }).await;
        challenge(&mut response, challenges);
        response
    }
}

pub(super) fn caller(exchange: &Exchange) -> Caller<'_> {
    Caller {
        uri: exchange.request.uri(),
        headers: exchange.request.headers(),
        certificates: exchange.certificates.as_deref(),
    }
}

/// The answer to who may not; the log still says who it was.
pub(super) fn turn_away(refusal: Refusal, exchange: &Exchange) -> Response<Body> {
    log_refusal(&refusal, exchange);
    refuse(&refusal.error.into(), exchange.request.method(), &exchange.id)
}

/// What the log says of who may not.
pub(super) fn log_refusal(refusal: &Refusal, exchange: &Exchange) {
    exchange.notes.lock().user.clone_from(&refusal.user);
}

fn challenge(response: &mut Response<Body>, challenges: Vec<HeaderValue>) {
    for value in challenges {
        response.headers_mut().append(header::WWW_AUTHENTICATE, value);
    }
}

/// `/metrics` tells who uses the registry for what, so it has a policy.
#[derive(Clone)]
pub(super) struct MetricsDoor {
    pub(super) gate: Arc<Gate>,
}

impl Step for MetricsDoor {
    type In = Exchange;
    type Out = Exchange;

    async fn run<N: Next<Exchange>>(self, exchange: Exchange, next: N) -> Response<Body> {
        if exchange.request.uri().path() == probes::METRICS
            && let Err(refusal) = self.gate.decide(caller(&exchange), Wanted::Metrics).await
        {
            exchange.notes.lock().route = Some("probe");
            return turn_away(refusal, &exchange);
        }
        next.go(exchange).await
    }
}

fn strip_credentials(headers: &mut HeaderMap) {
    for name in [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE] {
        headers.remove(name);
    }
}

/// When nobody waits any more. Whoever serves the request keeps to it; the front only sees to it that it is kept.
#[derive(Clone)]
pub(super) struct Deadline {
    pub(super) limits: FrontLimits,
}

impl Step for Deadline {
    type In = Decided;
    type Out = Admitted;

    async fn run<N: Next<Admitted>>(self, decided: Decided, next: N) -> Response<Body> {
        let Decided {
            routed: Routed { exchange, route },
            decision,
        } = decided;
        let times = decision.times;
        let patience = if carries_content(&route) {
            self.limits.transfer_deadline
        } else {
            self.limits.deadline
        };
        let started = Instant::now();
        let deadline = started + patience;
        let (method, id, effect) = (
            exchange.request.method().clone(),
            exchange.id.clone(),
            route.effect(),
        );
        let admitted = Admitted {
            route,
            request: exchange.request,
            identity: decision.identity,
            grants: decision.grants,
            client: exchange.client.to_string(),
            request_id: exchange.id,
            deadline,
        };
        let mut response = match timeout_at(deadline + GRACE, next.go(admitted)).await {
            Ok(response) => rendered(response, &id),
            Err(_) => {
                let error = match effect {
                    Effect::Safe => FrontError::Late(patience),
                    Effect::Unsafe => FrontError::LateUnknown(patience),
                };
                refuse(&error, &method, &id)
            }
        };
        response.extensions_mut().insert(InMesh {
            took: started.elapsed(),
            times,
        });
        response
    }
}

/// The mesh only says what became of a request; what the client reads is written here.
fn rendered(mut response: Response<Body>, id: &RequestId) -> Response<Body> {
    let Some(failure) = response.extensions_mut().remove::<Failure>() else {
        return response;
    };
    let mut answer = error::mesh(failure).into_response(id);
    *answer.extensions_mut() = std::mem::take(response.extensions_mut());
    answer
}

/// Whether the answer may have to wait for a blob to arrive.
fn carries_content(route: &Route) -> bool {
    match route {
        Route::PushBlob { .. } | Route::UploadChunk { .. } | Route::FinishUpload { .. } => true,
        Route::ApiVersion
        | Route::Catalog { .. }
        | Route::ListTags { .. }
        | Route::GetManifest { .. }
        | Route::HeadManifest { .. }
        | Route::PutManifest { .. }
        | Route::DeleteManifest { .. }
        | Route::GetBlob { .. }
        | Route::HeadBlob { .. }
        | Route::DeleteBlob { .. }
        | Route::StartUpload { .. }
        | Route::MountBlob { .. }
        | Route::UploadStatus { .. }
        | Route::CancelUpload { .. }
        | Route::Referrers { .. } => false,
    }
}

pub(super) fn refuse(error: &FrontError, method: &Method, id: &RequestId) -> Response<Body> {
    let answer = error::front(error, method);
    if answer.status().is_server_error() {
        tracing::warn!(request_id = %id, %error, "request given up");
    }
    answer.into_response(id)
}
