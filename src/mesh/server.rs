//! The mesh listener: who may call what, and the services behind it.
//!
//! TLS lets nobody in without a certificate of the cluster's authority. What its holder may do is decided from the
//! call's path and the certificate's names, before a message is read: members everything, administrators everything but
//! `Mesh` and `Budgets`, operators everything but that and `Administration`, others nothing. Reflection and the standard health service are among the services, so that `grpcurl` needs
//! no proto file.
//!
//! hyper serves the connections, not tonic's `Server`: that one runs them on tasks nobody waits for.
//!
//! Deliberately absent: plain text, and a bound on calls beside the streams of a connection.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use futures_util::{TryFutureExt as _, future::BoxFuture};
use http_body::Frame;
use http_body_util::{BodyExt as _, Either, combinators::MapFrame};
use hyper::{body::Incoming, server::conn::http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tonic::{Status, service::Routes};
use tower::ServiceExt as _;

use super::{
    administration::Administration,
    answers::Batches,
    budgets::Lending,
    diagnostics::Diagnostics,
    identity::{Names, Right, Rights},
    ingress::Ingress,
    parts::Mesh,
    pb::{
        self, administration_server::AdministrationServer, budgets_server::BudgetsServer,
        diagnostics_server::DiagnosticsServer,
    },
    peers::describe,
    readiness::Readiness,
    wire::{Gathered, MAX_FRAME, Writer, alone},
};
use crate::{
    config::limits::MeshLimits,
    net::{Connection, Drain, Listener},
};

/// Paths of the service that only members may call.
const MEMBERS_ONLY: &str = "/portolan.mesh.v1.Mesh/";
/// Paths of the service that operators may not call.
const ADMINISTRATION: &str = "/portolan.mesh.v1.Administration/";
/// And of another one for members only.
const BUDGETS: &str = "/portolan.mesh.v1.Budgets/";
const FORWARD: &str = "/portolan.mesh.v1.Mesh/Forward";

/// Answers other members and operators.
#[derive(Clone, Debug)]
pub struct MeshServer {
    door: Arc<Door>,
    drain: Drain,
}

/// What a call is answered with: by `Mesh`, whose pieces aren't copied, or by a service of tonic's.
pub(super) type Answer =
    Either<Writer<Batches>, MapFrame<tonic::body::Body, fn(Frame<Bytes>) -> Frame<Gathered>>>;

/// The answer of a service of tonic's.
fn generated(response: http::Response<tonic::body::Body>) -> http::Response<Answer> {
    response.map(|body| Either::Right(body.map_frame(alone as fn(_) -> _)))
}

#[derive(Debug)]
struct Door {
    mesh: Arc<Mesh>,
    ingress: Arc<Ingress>,
    rights: Rights,
    routes: Routes,
}

impl MeshServer {
    /// `rights` are what certificates of no member give. Not ready until [`Readiness::ready`].
    ///
    /// # Errors
    /// The descriptors that were compiled in are broken.
    pub async fn new(
        mesh: Arc<Mesh>,
        rights: Rights,
        drain: Drain,
    ) -> Result<(Self, Readiness), tonic_reflection::server::Error> {
        let (reporter, health) = tonic_health::server::health_reporter();
        let readiness = Readiness::new(reporter);
        readiness.not_ready().await;
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(pb::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let administration = Administration::new(mesh.clone(), readiness.clone());
        let routes = Routes::new(DiagnosticsServer::new(Diagnostics(mesh.clone())))
            .add_service(AdministrationServer::new(administration))
            .add_service(BudgetsServer::new(Lending(mesh.budgets.clone())))
            .add_service(health)
            .add_service(reflection().build_v1()?)
            // For older grpcurl.
            .add_service(reflection().build_v1alpha()?)
            .prepare();
        let ingress = Arc::new(Ingress::new(mesh.clone(), drain.clone()));
        let door = Arc::new(Door {
            mesh,
            ingress,
            rights,
            routes,
        });
        Ok((Self { door, drain }, readiness))
    }

    /// Serves connections until the drain begins, whose tasks they are. The listener must require certificates.
    pub async fn serve(&self, listener: Listener) {
        let (door, drain) = (self.door.clone(), self.drain.clone());
        listener
            .serve(&self.drain, move |connection| {
                serve_connection(door.clone(), drain.clone(), connection)
            })
            .await;
    }
}

async fn serve_connection(door: Arc<Door>, drain: Drain, connection: Connection) {
    let Connection {
        io,
        peer,
        slot: _slot,
        received: _,
    } = connection;
    let names = Arc::new(Names::of(peer.certificates.as_deref()));
    let builder = builder(door.mesh.limits, &drain);
    let service = hyper::service::service_fn(move |request| door.clone().call(names.clone(), request));
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(io), service));
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = drain.begun() => {
            // What is in flight ends; nothing new begins.
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(peer = %peer.address, error = describe(&error), "a connection of a member broke");
    }
}

fn builder(limits: MeshLimits, drain: &Drain) -> http2::Builder<crate::net::TrackedExecutor> {
    let mut builder = http2::Builder::new(drain.executor());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
        .max_concurrent_streams(limits.streams)
        .max_frame_size(MAX_FRAME)
        .max_send_buf_size(2 * MAX_FRAME as usize)
        .max_header_list_size(16 * 1024)
        .keep_alive_interval(limits.ping_every)
        .keep_alive_timeout(limits.ping_timeout)
        // Against strangers; a member may have a thousand clients go away at once.
        .max_pending_accept_reset_streams(4096)
        .max_local_error_reset_streams(None);
    builder
}

impl Door {
    fn call(
        self: Arc<Self>,
        names: Arc<Names>,
        request: http::Request<Incoming>,
    ) -> BoxFuture<'static, Result<http::Response<Answer>, Infallible>> {
        let view = self.mesh.owners.view().clone();
        let right = self.rights.of(&names, view.as_ref());
        if right != Right::None || !names.may_be_new(&view.proof()) {
            return self.answer(right, names, request);
        }
        Box::pin(async move {
            // A member that has just joined: its lease may not have been read yet.
            view.look().await;
            let right = self.rights.of(&names, view.as_ref());
            self.answer(right, names, request).await
        })
    }

    fn answer(
        self: Arc<Self>,
        right: Right,
        names: Arc<Names>,
        request: http::Request<Incoming>,
    ) -> BoxFuture<'static, Result<http::Response<Answer>, Infallible>> {
        let path = request.uri().path();
        match right {
            Right::Member if path == FORWARD => {
                let response = self.ingress.forward(names, request).map(Either::Left);
                Box::pin(std::future::ready(Ok(response)))
            }
            Right::Administrator | Right::Operator
                if path.starts_with(MEMBERS_ONLY) || path.starts_with(BUDGETS) =>
            {
                denied(&names, "only members may forward, or take places in budgets")
            }
            Right::Operator if path.starts_with(ADMINISTRATION) => denied(
                &names,
                "operators may look; who may drain stands in cluster.tls.administrators",
            ),
            Right::Member | Right::Administrator | Right::Operator => {
                if path.starts_with(ADMINISTRATION) {
                    tracing::info!(?names, path, "an administrator's order");
                }
                let answered = self.routes.clone().oneshot(request);
                Box::pin(answered.map_ok(generated))
            }
            Right::None => denied(
                &names,
                "the certificate is no member's, no administrator's and no operator's",
            ),
        }
    }
}

fn denied(
    names: &Names,
    why: &'static str,
) -> BoxFuture<'static, Result<http::Response<Answer>, Infallible>> {
    tracing::warn!(?names, why, "a call to the mesh port was refused");
    let response = generated(Status::permission_denied(why).into_http());
    Box::pin(std::future::ready(Ok(response)))
}
