//! A line in the log and a count for every request, when the last byte of its response is gone or never will be; and
//! `Server-Timing`.

use std::{
    fmt::Write as _,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    exchange::{Change, Exchange, Notes},
    step::{Next, Step},
};
use crate::{
    admission::{Body, BodyError, RequestId, Served},
    auth::StoreTimes,
    http::{
        error::{self, Chain},
        headers::content_length,
    },
    oci::leaves_open,
    placement::MemberId,
    telemetry::{Direction, Metrics, logs::AUDIT},
};

#[derive(Clone)]
pub(super) struct Access {
    pub(super) me: MemberId,
    pub(super) metrics: Arc<Metrics>,
}

impl Step for Access {
    type In = Exchange;
    type Out = Exchange;

    async fn run<N: Next<Exchange>>(self, mut exchange: Exchange, next: N) -> Response<Body> {
        self.metrics.requests_in_flight.inc();
        let mut line = Line {
            access: self,
            started: Instant::now(),
            method: exchange.request.method().clone(),
            path: exchange.request.uri().path().to_owned(),
            client: exchange.client.to_string(),
            id: exchange.id.clone(),
            notes: exchange.notes.clone(),
            bytes_in: Arc::default(),
            bytes_out: 0,
            answered: None,
            outcome: Outcome::Aborted(None),
        };
        let bytes_in = line.bytes_in.clone();
        exchange.request = exchange.request.map(|body| match body.is_end_stream() {
            true => body,
            false => Counted { body, bytes_in }.boxed_unsync(),
        });
        let may_leave = leaves_open(exchange.request.headers());
        // When the client goes away meanwhile this future is dropped, and the line with it: written as aborted.
        let response = next.go(exchange).await;
        line.answered = Some(Answered {
            status: response.status(),
            change: changed(response.status(), response.headers()),
            served: response.extensions().get::<Served>().cloned().unwrap_or_default(),
        });
        if line.method == Method::HEAD || response.body().is_end_stream() {
            line.outcome = Outcome::Ok;
            drop(line);
            return response;
        }
        if may_leave && response.status() == StatusCode::PARTIAL_CONTENT {
            line.outcome = Outcome::Left;
        }
        let announced = response
            .body()
            .size_hint()
            .exact()
            .or_else(|| content_length(response.headers()));
        response.map(|body| {
            Observed {
                body,
                announced,
                line: Some(line),
            }
            .boxed_unsync()
        })
    }
}

/// The body of a request, whose bytes are counted. (`map_frame` would lose its length.)
struct Counted {
    body: Body,
    bytes_in: Arc<AtomicU64>,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            let length = frame.data_ref().map_or(0, Bytes::len);
            self.bytes_in.fetch_add(length as u64, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

struct Answered {
    status: StatusCode,
    /// What the answer says became of a change.
    change: &'static str,
    served: Served,
}

/// What an answer says became of a change, as the audit calls it.
fn changed(status: StatusCode, headers: &HeaderMap) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "denied",
        // Who has logged in is sent on.
        status if status.is_success() || status.is_redirection() => "done",
        status if status.is_client_error() => "refused",
        _ if error::is_unknown(headers) => "unknown",
        _ => "failed",
    }
}

enum Outcome {
    /// All of the response went out.
    Ok,
    /// The client took as much as it wanted of a range without an end.
    Left,
    /// The client went away, or the body failed.
    Aborted(Option<String>),
}

/// What will be written. It is written when it is dropped, so nothing can end without it.
struct Line {
    access: Access,
    started: Instant,
    method: Method,
    path: String,
    client: String,
    id: RequestId,
    notes: Arc<Mutex<Notes>>,
    bytes_in: Arc<AtomicU64>,
    bytes_out: u64,
    answered: Option<Answered>,
    outcome: Outcome,
}

impl Line {
    /// The member that served the request, if that wasn't this one.
    fn owner(&self) -> Option<&MemberId> {
        let answered = self.answered.as_ref()?;
        answered.served.forwarded_to.as_ref()
    }

    /// How long whoever answered waited for other registries, if it did.
    fn upstream_ms(&self) -> Option<f64> {
        let waited = self.answered.as_ref()?.served.upstream;
        (!waited.is_zero()).then(|| (waited.as_secs_f64() * 1e6).round() / 1e3)
    }

    /// The line of the audit: who wanted to change what, from where and by which way, and what came of it.
    fn audit(&self, change: &Change, notes: &Notes) {
        let answered = self.answered.as_ref();
        // The client went away before there was an answer.
        let outcome = answered.map_or("unknown", |answered| answered.change);
        let me = &self.access.me;
        tracing::info!(
            target: AUDIT,
            user = notes.user.as_deref(),
            client = self.client,
            action = change.what,
            repository = notes.repository.as_ref().map(AsRef::<str>::as_ref),
            subject = change.subject.as_deref(),
            outcome,
            status = answered.map(|answered| answered.status.as_u16()),
            front = %me,
            owner = %self.owner().unwrap_or(me),
            request_id = %self.id,
            "change"
        );
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let Access { me, metrics } = &self.access;
        let took = self.started.elapsed();
        let mut notes = std::mem::take(&mut *self.notes.lock());
        let change = notes.change.take();
        let route = notes.route.unwrap_or("none");
        let bytes_in = self.bytes_in.load(Ordering::Relaxed);
        // Without an answer the client went away first; there is no status for that, nginx's will do.
        let status = self
            .answered
            .as_ref()
            .map_or(499, |answered| answered.status.as_u16());
        metrics.requests_in_flight.dec();
        metrics.request(route, status, took);
        metrics.request_bytes(Direction::Upload, bytes_in);
        metrics.request_bytes(Direction::Download, self.bytes_out);

        if let Some(change) = change {
            self.audit(&change, &notes);
        }
        let (outcome, error) = match &self.outcome {
            Outcome::Ok => ("ok", None),
            Outcome::Left => ("left", None),
            Outcome::Aborted(error) => ("aborted", error.as_deref()),
        };
        let owner = self.owner();
        let upstream_ms = self.upstream_ms();
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    member = %me,
                    method = %self.method,
                    route,
                    path = notes.route.is_none().then_some(self.path.as_str()),
                    repository = notes.repository.as_ref().map(AsRef::<str>::as_ref),
                    status,
                    bytes_in,
                    bytes_out = self.bytes_out,
                    upstream_ms,
                    duration_ms = (took.as_secs_f64() * 1e6).round() / 1e3,
                    served = if owner.is_some() { "forwarded" } else { "local" },
                    owner = owner.map(AsRef::<str>::as_ref),
                    request_id = %self.id,
                    user = notes.user.as_deref(),
                    client = self.client,
                    outcome,
                    error,
                    "request"
                )
            };
        }
        match route {
            "probe" => line!(debug),
            _ => line!(info),
        }
    }
}

pin_project_lite::pin_project! {
    struct Observed {
        #[pin]
        body: Body,
        announced: Option<u64>,
        line: Option<Line>,
    }
}

impl http_body::Body for Observed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.project();
        let polled = ready!(this.body.poll_frame(cx));
        let Some(line) = this.line else {
            return Poll::Ready(polled);
        };
        match &polled {
            Some(Ok(frame)) => {
                line.bytes_out += frame.data_ref().map_or(0, Bytes::len) as u64;
                // hyper doesn't ask for more than it announced.
                if *this.announced == Some(line.bytes_out) {
                    line.outcome = Outcome::Ok;
                }
            }
            Some(Err(error)) => {
                line.outcome = Outcome::Aborted(Some(Chain(error).to_string()));
                *this.line = None;
            }
            None => {
                line.outcome = Outcome::Ok;
                *this.line = None;
            }
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// How long the mesh had the request, as an extension of its response.
#[derive(Clone, Copy)]
pub(super) struct InMesh {
    pub(super) took: Duration,
    /// Whether the caller may know what was inside of that.
    pub(super) times: StoreTimes,
}

/// Says in `Server-Timing` where the time went, in milliseconds: in the front, between the members, in the local
/// service of whoever served it, and, as parts of the latter, in the stores and at other registries. These only to those for whom it is no
/// news what lies in the stores.
#[derive(Clone)]
pub(super) struct Timing;

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

impl Step for Timing {
    type In = Exchange;
    type Out = Exchange;

    async fn run<N: Next<Exchange>>(self, exchange: Exchange, next: N) -> Response<Body> {
        let started = Instant::now();
        let mut response = next.go(exchange).await;
        let total = started.elapsed();
        let served = response.extensions().get::<Served>().cloned().unwrap_or_default();
        let (in_mesh, times) = response
            .extensions()
            .get::<InMesh>()
            .map_or((Duration::ZERO, StoreTimes::Shown), |in_mesh| {
                (in_mesh.took, in_mesh.times)
            });
        let hop = match served.forwarded_to {
            Some(_) => in_mesh.saturating_sub(served.owner),
            None => Duration::ZERO,
        };
        let front = total.saturating_sub(hop).saturating_sub(served.owner);
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        let mut timing = format!("front;dur={:.3}, hop;dur={:.3}", ms(front), ms(hop));
        if times == StoreTimes::Shown {
            // Writing to a String doesn't fail.
            let _ = write!(
                timing,
                ", owner;dur={:.3}, store;dur={:.3}",
                ms(served.owner),
                ms(served.store)
            );
            if !served.upstream.is_zero() {
                let _ = write!(timing, ", upstream;dur={:.3}", ms(served.upstream));
            }
        }
        if let Ok(value) = HeaderValue::try_from(timing) {
            response.headers_mut().insert(SERVER_TIMING, value);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::RegistryError;

    #[test]
    fn the_audit_tells_what_was_not_applied_from_what_may_have_been() {
        let told = |answer: error::Answer| {
            let response = answer.into_response(&RequestId::parse("the-request").unwrap());
            changed(response.status(), response.headers())
        };
        let quota = RegistryError::QuotaExceeded {
            prefix: "team".parse().unwrap(),
            used: 1,
            allowed: 1,
            asked: None,
        };
        for (error, expected) in [
            (RegistryError::Denied, "denied"),
            (quota, "denied"),
            (RegistryError::BlobUnknown, "refused"),
            (RegistryError::NoRoom, "refused"),
            (RegistryError::Deadline, "failed"),
            (RegistryError::OutcomeUnknown, "unknown"),
        ] {
            assert_eq!(told(error::registry(&error)), expected, "{error}");
        }
        assert_eq!(told(error::panicked()), "unknown");
        for done in [StatusCode::CREATED, StatusCode::FOUND, StatusCode::SEE_OTHER] {
            assert_eq!(changed(done, &HeaderMap::new()), "done");
        }
    }
}
