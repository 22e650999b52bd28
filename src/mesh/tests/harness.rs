//! A mesh of a few members around a toy local service, and peers that don't keep to the protocol.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::Method;
use http_body_util::StreamBody;
use hyper_util::rt::TokioIo;
use prost::Message as _;
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, time::Instant};
use tonic::transport::{Channel, Endpoint};
use tower::{ServiceExt as _, service_fn};

use super::toy::Toy;
use crate::{
    admission::{Admitted, Body, BodyError, Grants, Identity, RequestId, Service},
    config::Limits,
    mesh::{Mesh, MeshServer, Peers, Readiness, Rights, listener_settings},
    net::{
        Buffered, CertificateFiles, ClientTls, Drain, Io, Listener, Sealed, ServerTls,
        test_certificates::Authority,
    },
    oci::{Action, Algorithm, Digest, RepoName, Route},
    ownership::{Hints, Owners, StaticView, View},
    placement::{HashKey, MemberId},
    storage::{Expect, MemoryMeta, MetaStore, Version, keys, rows},
    telemetry::Metrics,
};

pub(super) fn key() -> HashKey {
    HashKey::new(*b"loremipsumdolors")
}

pub(super) struct Member {
    pub(super) mesh: Arc<Mesh>,
    pub(super) router: Service,
    pub(super) toy: Arc<Toy>,
    pub(super) drain: Drain,
    pub(super) readiness: Readiness,
}

pub(super) struct Cluster {
    pub(super) authority: Authority,
    pub(super) members: Vec<Member>,
    pub(super) addresses: Vec<(MemberId, String)>,
    pub(super) meta: Arc<MemoryMeta>,
}

pub(super) fn id(n: usize) -> MemberId {
    format!("127.0.0.{n}:5000").parse().unwrap()
}

pub(super) fn settings() -> Limits {
    let mut limits = Limits::default();
    limits.net.stall = Duration::from_secs(5);
    limits
}

pub(super) async fn cluster(members: usize) -> Cluster {
    cluster_with(members, settings()).await
}

pub(super) async fn cluster_with(members: usize, settings: Limits) -> Cluster {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .try_init();
    let authority = Authority::new();
    let meta = Arc::new(MemoryMeta::new());
    let mut listeners = vec![];
    for n in 1..=members {
        let tls = authority.issue(&format!("member-{n}"), &[id(n).host()]);
        listeners.push((listen(&authority, &tls, n).await, tls));
    }
    let addresses: Vec<_> = listeners
        .iter()
        .enumerate()
        .map(|(n, (listener, _))| (id(n + 1), listener.address().to_string()))
        .collect();
    let mut cluster = Cluster {
        authority,
        members: vec![],
        addresses,
        meta,
    };
    for (n, (listener, tls)) in listeners.into_iter().enumerate() {
        let member = cluster.member(n + 1, &tls, settings).await;
        let server = member.1;
        cluster.members.push(member.0);
        let drain = cluster.members[n].drain.clone();
        drain.spawn("mesh listener", async move { server.serve(listener).await });
    }
    cluster
}

pub(super) async fn listen(authority: &Authority, tls: &CertificateFiles, n: usize) -> Listener {
    let tls = ServerTls::load(authority.server(tls.clone())).unwrap();
    let address = format!("127.0.0.{n}:0").parse().unwrap();
    let settings = listener_settings(&Limits::default());
    Listener::bind("mesh", address, Some(tls), settings)
        .await
        .unwrap()
}

impl Cluster {
    pub(super) async fn member(
        &self,
        n: usize,
        tls: &CertificateFiles,
        settings: Limits,
    ) -> (Member, MeshServer) {
        let view: Arc<dyn View> = Arc::new(StaticView::new(id(n), self.addresses.clone()));
        let drain = Drain::new();
        let owners = Arc::new(Owners::new(
            view.clone(),
            key(),
            self.meta.clone(),
            Hints::new(100),
        ));
        let tls = ClientTls::load(self.authority.client(tls.clone())).unwrap();
        let metrics = Arc::new(Metrics::new());
        let peers = Arc::new(Peers::new(view, tls, metrics.clone(), &settings, drain.clone()));
        let toy = Toy::new();
        let mesh = Arc::new(Mesh::new(owners, peers, toy.service(), metrics, &settings));
        let rights = Rights::new(vec!["operator".to_owned()], vec!["administrator".to_owned()]);
        let (server, readiness) = MeshServer::new(mesh.clone(), rights, drain.clone())
            .await
            .unwrap();
        readiness.ready().await;
        let router = mesh.router();
        (
            Member {
                mesh,
                router,
                toy,
                drain,
                readiness,
            },
            server,
        )
    }

    /// Member `n`, counted from 1.
    pub(super) fn at(&self, n: usize) -> &Member {
        &self.members[n - 1]
    }

    /// A repository whose ranking is `members`, as far as they go.
    pub(super) fn repository(&self, members: &[usize]) -> RepoName {
        let wanted: Vec<_> = members.iter().map(|n| id(*n)).collect();
        let ids: Vec<_> = self.addresses.iter().map(|(id, _)| id.clone()).collect();
        (0..)
            .map(|n| format!("test/r{n}").parse::<RepoName>().unwrap())
            .find(|name| {
                let ranking = crate::placement::rank(&key(), &ids, name);
                ranking
                    .into_iter()
                    .map(|ranked| ranked.member)
                    .take(wanted.len())
                    .eq(wanted.iter().cloned())
            })
            .unwrap()
    }

    /// Makes `holder` the one named in the repository's row.
    pub(super) async fn hold(&self, repository: &RepoName, holder: usize) {
        let row = rows::Repository {
            holder: id(holder).to_string(),
            held_since_ms: crate::clock::now_ms(),
            ..Default::default()
        };
        let op = keys::repository(repository).put(Expect::Any, row.encode_to_vec());
        self.meta.transact(Version::random(), &[op]).await.unwrap();
    }

    /// Stops member `n` at once.
    pub(super) async fn kill(&self, n: usize) {
        self.at(n).drain.finish(Duration::ZERO).await;
    }

    /// A channel to member `n` with a certificate for `names`.
    pub(super) async fn dial(&self, n: usize, names: &[&str]) -> Result<Channel, String> {
        let files = self.authority.issue("dialler", names);
        let tls = ClientTls::load(self.authority.client(files)).unwrap();
        dial(self.addresses[n - 1].1.clone(), tls.config()).await
    }

    pub(super) fn counter(&self, n: usize, name: &str) -> u64 {
        let text = self.at(n).mesh.metrics.render();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        line.unwrap_or(0)
    }
}

pub(super) async fn dial(address: String, tls: Arc<rustls::ClientConfig>) -> Result<Channel, String> {
    let connector = service_fn(move |_: http::Uri| {
        let (address, tls) = (address.clone(), tls.clone());
        async move {
            let stream = TcpStream::connect(&address).await?;
            let host: std::net::SocketAddr = address.parse().unwrap();
            let name = ServerName::IpAddress(host.ip().into());
            let stream = Buffered::new(Box::new(stream), crate::mesh::settings::io(&settings()));
            let stream = Sealed::connect(tls, name, stream).await?;
            Ok::<_, std::io::Error>(TokioIo::new(Io::Sealed(Box::new(stream))))
        }
    });
    let endpoint = Endpoint::from_static("https://portolan");
    endpoint
        .connect_with_connector(connector)
        .await
        .map_err(|error| super::super::peers::describe(&error))
}

/// A request as a front admits it: by `alice`, who may do everything.
pub(super) fn request(method: Method, target: &str, body: Body) -> Admitted {
    let request = http::Request::builder()
        .method(method)
        .uri(target)
        .body(body)
        .unwrap();
    admit(request)
}

pub(super) fn admit(request: http::Request<Body>) -> Admitted {
    let uri = request.uri();
    let route = Route::parse(request.method(), uri.path(), uri.query()).unwrap();
    let mut grants = Grants::none();
    for permission in route.permissions() {
        grants.grant(permission.repository, Action::ALL);
    }
    Admitted {
        route,
        request,
        identity: Identity {
            user: Some("alice".to_owned()),
            groups: vec!["staff".to_owned()],
        },
        grants,
        client: "192.0.2.7:1234".to_owned(),
        request_id: RequestId::parse("request-1").unwrap(),
        deadline: Instant::now() + Duration::from_secs(20),
    }
}

pub(super) fn digest() -> Digest {
    Digest::of(Algorithm::Sha256, b"blob")
}

pub(super) fn get(repository: &RepoName) -> Admitted {
    request(
        Method::GET,
        &format!("/v2/{repository}/blobs/{}", digest()),
        crate::admission::empty(),
    )
}

pub(super) fn push(repository: &RepoName, body: Body) -> Admitted {
    request(
        Method::POST,
        &format!("/v2/{repository}/blobs/uploads/?digest={}", digest()),
        body,
    )
}

pub(super) fn put_manifest(repository: &RepoName, body: Body) -> Admitted {
    request(Method::PUT, &format!("/v2/{repository}/manifests/latest"), body)
}

pub(super) fn delete(repository: &RepoName) -> Admitted {
    request(
        Method::DELETE,
        &format!("/v2/{repository}/blobs/{}", digest()),
        crate::admission::empty(),
    )
}

/// A body of `pieces` that come one after the other, of unknown length.
pub(super) fn pieces(pieces: Vec<Result<Bytes, BodyError>>) -> Body {
    let frames = pieces.into_iter().map(|piece| piece.map(http_body::Frame::data));
    Body::new(StreamBody::new(tokio_stream::iter(frames.collect::<Vec<_>>())))
}

pub(super) async fn call(member: &Member, admitted: Admitted) -> http::Response<Body> {
    member.router.clone().oneshot(admitted).await.unwrap()
}

/// Waits until `condition` holds.
pub(super) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..500 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came to this: {what}");
}
