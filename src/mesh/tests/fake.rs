//! A member that answers as a test says.

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use futures_util::Stream;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tonic::{Request, Response, Status, Streaming, service::Routes};

use super::harness::*;
use crate::{
    config::Limits,
    mesh::pb,
    net::{Connection, Drain},
};

type Answers = Pin<Box<dyn Stream<Item = Result<pb::Response, Status>> + Send>>;
type Script = dyn Fn(Streaming<pb::Request>) -> Answers + Send + Sync;

/// Its service.
struct Fake(Arc<Script>);

#[async_trait::async_trait]
impl pb::mesh_server::Mesh for Fake {
    type ForwardStream = Answers;

    async fn forward(&self, request: Request<Streaming<pb::Request>>) -> Result<Response<Answers>, Status> {
        Ok(Response::new((self.0)(request.into_inner())))
    }
}

impl Cluster {
    /// Puts a fake in the place of member `n`: members made from now on find it there.
    pub(super) async fn with_fake(
        script: impl Fn(Streaming<pb::Request>) -> Answers + Send + Sync + 'static,
        settings: Limits,
    ) -> (Self, Drain) {
        let mut cluster = cluster_with(1, settings).await;
        let tls = cluster.authority.issue("member-2", &[id(2).host()]);
        let listener = listen(&cluster.authority, &tls, 2).await;
        cluster.addresses.push((id(2), listener.address().to_string()));
        let tls = cluster.authority.issue("member-1", &[id(1).host()]);
        let (front, _) = cluster.member(1, &tls, settings).await;
        cluster.members = vec![front];
        let routes = Routes::new(pb::mesh_server::MeshServer::new(Fake(Arc::new(script))));
        let drain = Drain::new();
        let accepting = drain.clone();
        drain.spawn("fake", async move {
            let executor = accepting.executor();
            let handler = move |connection: Connection| {
                let builder = hyper::server::conn::http2::Builder::new(executor.clone());
                let service = TowerToHyperService::new(routes.clone());
                async move {
                    let _ = builder
                        .serve_connection(TokioIo::new(connection.io), service)
                        .await;
                }
            };
            listener.serve(&accepting, handler).await;
        });
        (cluster, drain)
    }
}

pub(super) fn frame(kind: pb::response::Kind) -> Result<pb::Response, Status> {
    Ok(pb::Response { kind: Some(kind) })
}

pub(super) fn accepted() -> Result<pb::Response, Status> {
    frame(pb::response::Kind::Accepted(pb::Accepted {}))
}

pub(super) fn head(content_length: Option<u64>) -> Result<pb::Response, Status> {
    frame(pb::response::Kind::Head(pb::ResponseHead {
        status: 200,
        content_length,
        ..Default::default()
    }))
}

pub(super) fn data(bytes: impl Into<Bytes>) -> Result<pb::Response, Status> {
    frame(pb::response::Kind::Data(bytes.into()))
}

pub(super) fn end(bytes: u64) -> Result<pb::Response, Status> {
    frame(pb::response::Kind::End(pb::End { bytes }))
}

/// The answers that `script` sends.
pub(super) fn async_stream<F, S>(script: S) -> impl Stream<Item = Result<pb::Response, Status>> + Send
where
    S: FnOnce(tokio::sync::mpsc::Sender<Result<pb::Response, Status>>) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let (sender, mut receiver) = tokio::sync::mpsc::channel(16);
    let mut script = Some(Box::pin(script(sender)));
    futures_util::stream::poll_fn(move |cx| {
        if let Some(running) = &mut script
            && running.as_mut().poll(cx).is_ready()
        {
            script = None;
        }
        receiver.poll_recv(cx)
    })
}
