//! From a request to an answered one: what it asks for, who asks, who answers and until when. Whether there is room is in
//! [`room`](super::room).

use std::{future::ready, sync::Arc};

use futures_util::{FutureExt as _, future::BoxFuture};
use http::{HeaderMap, Response, header};
use tokio::time::{Instant, timeout_at};

use super::{
    access::InMesh,
    exchange::{Exchange, refuse},
    step::{Next, Step},
    surface::{Asking, Decided, Surface, Surfaces, Unreadable},
};
use crate::{
    admission::{Admitted, Body, Failure, RequestId},
    auth::{Decision, Gate},
    config::limits::FrontLimits,
    http::error::{self, Answer, FrontError},
    oci::{Effect, Route},
};

/// What is asked for.
#[derive(Clone)]
pub(super) struct Parse {
    pub(super) surfaces: Surfaces,
}

impl Step for Parse {
    type In = Exchange;
    type Out = Asking;

    async fn run<N: Next<Asking>>(self, mut exchange: Exchange, next: N) -> Response<Body> {
        let surface = match self.surfaces.read(&mut exchange).await {
            Ok(surface) => surface,
            Err(Unreadable { name, answer }) => {
                exchange.notes.lock().route = name;
                return answer.into_response(&exchange.id);
            }
        };
        {
            let mut notes = exchange.notes.lock();
            notes.route = Some(surface.facts().name);
            notes.repository = surface.repository().cloned();
            notes.change = surface.change();
        }
        next.go(Asking { exchange, surface }).await
    }
}

/// Who asks, and what they may do. What they proved it with goes no further.
#[derive(Clone)]
pub(super) struct Authorise {
    pub(super) gate: Arc<Gate>,
}

impl Step for Authorise {
    type In = Asking;
    type Out = Decided;

    async fn run<N: Next<Decided>>(self, asking: Asking, next: N) -> Response<Body> {
        let Asking {
            mut exchange,
            surface,
        } = asking;
        let wanted = surface.facts().wanted;
        let decision = self.gate.decide(exchange.caller(), wanted, surface.pages());
        let mut decision = match decision.await {
            Ok(decision) => decision,
            Err(refusal) => {
                // The log still says who it was.
                exchange.notes.lock().user = refusal.user;
                let error = FrontError::Auth(refusal.error);
                let answer = surface.worded(error::front(&error, exchange.request.method()));
                return refuse(&error, answer, &exchange.id);
            }
        };
        strip_credentials(exchange.request.headers_mut());
        let challenges = std::mem::take(&mut decision.challenges);
        exchange.notes.lock().user.clone_from(&decision.identity.user);
        let mut response = next
            .go(Decided {
                exchange,
                surface,
                decision,
            })
            .await;
        for challenge in challenges {
            response.headers_mut().append(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

fn strip_credentials(headers: &mut HeaderMap) {
    for name in [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE] {
        headers.remove(name);
    }
}

/// Whoever it is for answers, until nobody waits any more. Who serves a route keeps to the deadline; the front only sees to it that
/// it is kept.
#[derive(Clone)]
pub(super) struct Dispatch {
    pub(super) limits: FrontLimits,
}

impl Step for Dispatch {
    type In = Decided;
    type Out = Admitted;

    async fn run<N: Next<Admitted>>(self, decided: Decided, next: N) -> Response<Body> {
        let Decided {
            exchange,
            surface,
            decision,
        } = decided;
        let patience = match &surface {
            Surface::Registry(route) if carries_content(route) => self.limits.transfer_deadline,
            _ => self.limits.deadline,
        };
        let deadline = Instant::now() + patience;
        let (method, id, effect) = (
            exchange.request.method().clone(),
            exchange.id.clone(),
            surface.facts().effect,
        );
        let answer = answer(surface, exchange, decision, deadline, next);
        match timeout_at(deadline + self.limits.grace, answer).await {
            Ok(Ok(response)) => response,
            Ok(Err(answer)) => answer.into_response(&id),
            Err(_) => {
                let error = match effect {
                    Effect::Safe => FrontError::Late(patience),
                    Effect::Unsafe => FrontError::LateUnknown(patience),
                };
                refuse(&error, error::front(&error, &method), &id)
            }
        }
    }
}

/// What the surface answers. The work is in a place of its own, like that on routes (`local`).
fn answer<N: Next<Admitted>>(
    surface: Surface,
    exchange: Exchange,
    decision: Decision,
    deadline: Instant,
    next: N,
) -> BoxFuture<'static, Result<Response<Body>, Answer>> {
    match surface {
        Surface::Registry(route) => registry(route, exchange, decision, deadline, next)
            .map(Ok)
            .boxed(),
        Surface::Probe(request) => request.answer().map(Ok).boxed(),
        Surface::Metrics(request) => ready(Ok(request.answer())).boxed(),
        Surface::Keys(request) => request.answer(exchange, decision).boxed(),
        Surface::Token(request) => request.answer(decision).boxed(),
        Surface::Session(request) => request.answer(exchange, decision).boxed(),
        Surface::Extension(request) => request.answer(exchange, decision).boxed(),
        Surface::Search(request) => request.answer(exchange, decision).boxed(),
        Surface::Page(request) => request.answer(exchange, decision).boxed(),
        Surface::Events(request) => request.answer(decision).boxed(),
        Surface::Mirror(request) => request.answer(decision).boxed(),
        Surface::Retention(request) => request.answer(decision).boxed(),
    }
}

/// What the mesh makes of a route.
async fn registry<N: Next<Admitted>>(
    route: Route,
    exchange: Exchange,
    decision: Decision,
    deadline: Instant,
    next: N,
) -> Response<Body> {
    let (started, times, id) = (Instant::now(), decision.times, exchange.id.clone());
    let admitted = Admitted {
        route,
        request: exchange.request,
        identity: decision.identity,
        grants: decision.grants,
        client: exchange.client.to_string(),
        request_id: exchange.id,
        deadline,
    };
    let mut response = rendered(next.go(admitted).await, &id);
    response.extensions_mut().insert(InMesh {
        took: started.elapsed(),
        times,
    });
    response
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
        | Route::Referrers { .. }
        | Route::TagHistory { .. }
        | Route::ManifestAt { .. }
        | Route::Changes { .. }
        | Route::Restore { .. }
        | Route::Run { .. } => false,
    }
}
