//! HTTP on the public port: versions 1.1 and 2, the latter by ALPN or by prior knowledge on a plain connection.
//!
//! Everything a client could make last or grow has a bound: the time and size of a head, the fields in it, streams and
//! windows of HTTP/2, resets, the silence of a body in either direction, the time that nothing happens ([`activity`]).
//!
//! A connection ends where that costs no request. From the moment this member leaves, clients are asked to go elsewhere:
//! by GOAWAY on HTTP/2, by `Connection: close` on the next response of HTTP/1.1. When the drain begins, idle connections
//! are closed; the others finish what they have begun, within the drain's own bound.

mod activity;

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, Response, Version, header};
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};
use tower::util::ServiceExt as _;

use self::activity::{Activity, Over, Watch};
use super::{
    front::{Arrival, Front},
    unread::Unread,
};
use crate::{
    admission::{Body, BodyError},
    config::{Limits, limits::ServerLimits},
    net::{self, Connection, Drain, Listener, PeerInfo, TrackedExecutor},
};

/// Serves `front` on `listener` until `drain` begins. Connections then end by themselves, as tasks of `drain`.
pub async fn serve(listener: Listener, drain: &Drain, front: Front, limits: &Limits) {
    let server = Server {
        builder: Arc::new(builder(drain, limits.server)),
        drain: drain.clone(),
        front,
        limits: limits.server,
        stall: limits.net.stall,
    };
    listener
        .serve(drain, move |connection| server.clone().connection(connection))
        .await;
}

fn builder(drain: &Drain, limits: ServerLimits) -> Builder<TrackedExecutor> {
    let mut builder = Builder::new(drain.executor());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_headers(limits.head_fields)
        .max_buf_size(limits.head_bytes)
        // A client that has said all it wants may close its half and still wants the answer.
        .half_close(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .initial_stream_window_size(limits.stream_window)
        // One stream that nobody reads must not stop the others.
        .initial_connection_window_size(limits.stream_window.saturating_mul(limits.streams))
        .adaptive_window(false)
        .max_frame_size(64 * 1024)
        .max_send_buf_size(limits.stream_window as usize)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        // Rapid reset: a client that opens and resets faster than it is served is closed.
        .max_pending_accept_reset_streams(64)
        .max_local_error_reset_streams(256)
        .keep_alive_interval(limits.ping_interval)
        .keep_alive_timeout(limits.ping_interval);
    builder
}

#[derive(Clone)]
struct Server {
    builder: Arc<Builder<TrackedExecutor>>,
    drain: Drain,
    front: Front,
    limits: ServerLimits,
    stall: Duration,
}

impl Server {
    async fn connection(self, connection: Connection) {
        let Connection {
            io,
            peer,
            slot,
            received,
        } = connection;
        let client = peer.address;
        let first = Arc::new(Notify::new());
        let activity = Activity::default();
        let mut watch = Watch::new(activity.clone(), received, self.limits, self.stall);
        let serving = self
            .builder
            .serve_connection(TokioIo::new(io), self.service(&activity, &first, peer));
        tokio::pin!(serving);
        let mut has_begun = false;
        let (mut is_leaving, mut is_draining, mut is_over) = (false, false, false);
        let (newcomer, goodbye) = (sleep(self.limits.newcomer), sleep(self.limits.goodbye));
        tokio::pin!(newcomer, goodbye);
        let ended = loop {
            tokio::select! {
                biased;
                ended = serving.as_mut() => break ended,
                () = first.notified(), if !has_begun => {
                    has_begun = true;
                    if is_draining {
                        serving.as_mut().graceful_shutdown();
                    }
                }
                over = watch.over(&slot), if !is_over => match over {
                    Over::Dead => return tracing::debug!(%client, "nothing comes of a connection"),
                    Over::Idle => {
                        is_over = true;
                        goodbye.as_mut().reset(Instant::now() + self.limits.goodbye);
                        serving.as_mut().graceful_shutdown();
                    }
                },
                // A request that came in the meantime is served; the client opens no further ones.
                () = goodbye.as_mut(), if is_over && activity.is_idle() => return,
                () = self.drain.leaving(), if !is_leaving => {
                    is_leaving = true;
                    // Streams that come in the meantime are still served.
                    if activity.has_streams() {
                        serving.as_mut().graceful_shutdown();
                    }
                }
                () = self.drain.begun(), if !is_draining => {
                    is_draining = true;
                    newcomer.as_mut().reset(Instant::now() + self.limits.newcomer);
                    if has_begun {
                        serving.as_mut().graceful_shutdown();
                    }
                }
                () = newcomer.as_mut(), if is_draining && !has_begun => {
                    has_begun = true;
                    serving.as_mut().graceful_shutdown();
                }
            }
        };
        if let Err(error) = ended {
            // Clients go away all the time; what that did to a request is in the request's line.
            tracing::debug!(%client, %error, "a connection ended early");
        }
    }

    /// What answers the requests of one connection.
    fn service(
        &self,
        activity: &Activity,
        first: &Arc<Notify>,
        peer: PeerInfo,
    ) -> impl hyper::service::Service<
        Request<Incoming>,
        Response = Response<Body>,
        Error = Infallible,
        Future = BoxFuture<'static, Result<Response<Body>, Infallible>>,
    > + use<> {
        let (activity, first) = (activity.clone(), first.clone());
        let (front, drain, stall) = (self.front.clone(), self.drain.clone(), self.stall);
        service_fn(move |request: Request<Incoming>| {
            let under_way = activity.begin(request.version());
            first.notify_one();
            let is_multiplexed = request.version() >= Version::HTTP_2;
            let (front, drain, peer) = (front.clone(), drain.clone(), peer.clone());
            let answer = async move {
                let (request, unread) = Unread::watch(bounded(request, stall));
                let mut response = front
                    .oneshot(Arrival {
                        request,
                        client: peer.address,
                        certificates: peer.certificates,
                        tls: peer.tls,
                    })
                    .await?;
                if drain.is_leaving() && !is_multiplexed {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(header::CONNECTION, close);
                }
                Ok(under_way.answer(unread.tell(response)))
            };
            Box::pin(answer) as BoxFuture<'static, _>
        })
    }
}

/// The request with a body that fails when it makes no progress.
fn bounded(request: Request<Incoming>, stall: Duration) -> Request<Body> {
    request.map(|body| {
        if http_body::Body::is_end_stream(&body) {
            return crate::admission::empty();
        }
        let body = body.map_err(|error| BodyError::Client(error.into()));
        net::abort_when_stalled(body, stall).boxed_unsync()
    })
}

#[cfg(test)]
mod tests;
