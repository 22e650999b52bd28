//! A mesh of a few members around a toy local service, and peers that don't keep to the protocol.

use std::{
    pin::Pin,
    sync::{Arc, LazyLock},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use prost::Message as _;
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, time::Instant};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tower::{ServiceExt as _, service_fn, util::BoxCloneSyncService};

use crate::{
    admission::{Admitted, BlobSource, Body, BodyError, Grants, Identity, RequestId, Served, Service, full},
    config::Limits,
    mesh::{Mesh, MeshServer, MeshSettings, Peers, Readiness},
    net::{
        Buffered, CertificateFiles, ClientTls, Drain, Io, Listener, ServerTls, test_certificates::Authority,
    },
    oci::{Action, Algorithm, Digest, RepoName, Route},
    ownership::{Hints, Owners, StaticView, View},
    placement::{HashKey, MemberId},
    storage::{Expect, MemoryMeta, MetaStore, ObjectKey, Version, keys, rows},
    telemetry::Metrics,
};

pub(super) fn key() -> HashKey {
    HashKey::new(*b"loremipsumdolors")
}

/// After so many bytes a blob begins anew.
const PERIOD: usize = 63_503;

static CONTENT: LazyLock<Bytes> = LazyLock::new(|| {
    (0..PERIOD * 10)
        .map(|n| (n * 31 + n / 251) as u64 % 253)
        .map(|n| n as u8)
        .collect()
});

/// The bytes from `first` to `last` of every blob.
pub(super) fn bytes(first: u64, last: u64) -> Bytes {
    let (first, last) = (first as usize, last as usize);
    let mut joined = BytesMut::new();
    let mut at = first;
    loop {
        let piece = (last + 1 - at).min(PERIOD * 9);
        let piece = CONTENT.slice(at % PERIOD..at % PERIOD + piece);
        at += piece.len();
        if at > last && joined.is_empty() {
            return piece;
        }
        joined.extend_from_slice(&piece);
        if at > last {
            return joined.freeze();
        }
    }
}

/// How a toy service behaves besides answering.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Behaviour {
    /// Length of every blob.
    pub(super) length: u64,
    /// Bodies of blobs fail after that many bytes.
    pub(super) fail_after: Option<u64>,
    /// Bodies of blobs stand still after that many bytes.
    pub(super) hang_after: Option<u64>,
    /// Requests with a body are answered without reading it.
    pub(super) is_early: bool,
    /// Bodies are counted, not kept.
    pub(super) sink: bool,
    /// No request is answered.
    pub(super) is_mute: bool,
    /// The digest blobs claim to have, in place of the one asked for.
    pub(super) lies: bool,
}

/// A local service that remembers what it was asked.
#[derive(Debug)]
pub(super) struct Toy {
    pub(super) behaviour: Mutex<Behaviour>,
    pub(super) asked: Mutex<Vec<Seen>>,
    /// Bytes of blobs that readers took.
    pub(super) produced: Mutex<u64>,
    /// Bodies of blobs that were dropped or ended.
    pub(super) ended: Mutex<usize>,
}

/// A request, as the toy saw it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) method: Method,
    pub(super) headers: http::HeaderMap,
    pub(super) identity: Identity,
    pub(super) grants: Grants,
    pub(super) request_id: RequestId,
    /// The body, or why it failed.
    pub(super) body: Result<Bytes, String>,
}

struct Ended(Arc<Toy>);

impl Drop for Ended {
    fn drop(&mut self) {
        *self.0.ended.lock() += 1;
    }
}

impl Toy {
    fn new() -> Arc<Self> {
        let behaviour = Behaviour {
            length: 1000,
            ..Behaviour::default()
        };
        Arc::new(Self {
            behaviour: Mutex::new(behaviour),
            asked: Mutex::default(),
            produced: Mutex::default(),
            ended: Mutex::default(),
        })
    }

    fn service(self: &Arc<Self>) -> Service {
        let toy = self.clone();
        BoxCloneSyncService::new(service_fn(move |admitted| {
            let toy = toy.clone();
            async move { Ok(toy.answer(admitted).await) }
        }))
    }

    pub(super) fn calls(&self) -> usize {
        self.asked.lock().len()
    }

    pub(super) fn last(&self) -> Seen {
        self.asked.lock().last().unwrap().clone()
    }

    async fn answer(self: Arc<Self>, admitted: Admitted) -> http::Response<Body> {
        let Admitted {
            route,
            request,
            identity,
            grants,
            request_id,
            ..
        } = admitted;
        let (parts, body) = request.into_parts();
        let mut seen = Seen {
            method: parts.method,
            headers: parts.headers,
            identity,
            grants,
            request_id,
            body: Err("it isn't over".to_owned()),
        };
        let index = {
            let mut asked = self.asked.lock();
            asked.push(seen.clone());
            asked.len() - 1
        };
        if self.behaviour.lock().is_early {
            return http::Response::builder()
                .status(403)
                .body(full("no".into()))
                .unwrap();
        }
        if self.behaviour.lock().sink {
            let mut body = body;
            while let Some(frame) = body.frame().await {
                frame.unwrap();
            }
            return http::Response::new(full("ok".into()));
        }
        let body = body.collect().await.map(http_body_util::Collected::to_bytes);
        seen.body = body.map_err(|error| error.to_string());
        self.asked.lock()[index] = seen.clone();
        let behaviour = *self.behaviour.lock();
        if behaviour.is_mute {
            std::future::pending::<()>().await;
        }
        let mut response = match route {
            Route::GetBlob { digest, .. } => self.blob(&digest, &seen.headers, behaviour),
            Route::HeadBlob { .. } => {
                let mut response = http::Response::new(crate::admission::empty());
                response
                    .headers_mut()
                    .insert(header::CONTENT_LENGTH, behaviour.length.into());
                response
            }
            _ => {
                let status = if seen.body.is_ok() {
                    StatusCode::CREATED
                } else {
                    StatusCode::BAD_REQUEST
                };
                let text = format!("{} bytes", seen.body.map_or(0, |body| body.len()));
                http::Response::builder()
                    .status(status)
                    .body(full(text.into()))
                    .unwrap()
            }
        };
        response.extensions_mut().insert(Served {
            forwarded_to: None,
            owner: Duration::from_millis(3),
            store: Duration::from_millis(2),
        });
        response
    }

    fn blob(
        self: &Arc<Self>,
        digest: &Digest,
        headers: &http::HeaderMap,
        behaviour: Behaviour,
    ) -> http::Response<Body> {
        let length = behaviour.length;
        let range = headers.get(header::RANGE).map(|range| {
            let (first, last) = range
                .to_str()
                .unwrap()
                .strip_prefix("bytes=")
                .unwrap()
                .split_once('-')
                .unwrap();
            (
                first.parse::<u64>().unwrap(),
                last.parse::<u64>().unwrap_or(length - 1),
            )
        });
        let (first, last) = range.unwrap_or((0, length - 1));
        let mut response = http::Response::builder().header(header::CONTENT_LENGTH, last - first + 1);
        if range.is_some() {
            response = response
                .status(StatusCode::PARTIAL_CONTENT)
                .header(header::CONTENT_RANGE, format!("bytes {first}-{last}/{length}"));
        }
        let (toy, ended) = (self.clone(), Ended(self.clone()));
        let pieces = futures_util::stream::unfold((first, ended), move |(at, ended)| {
            let toy = toy.clone();
            async move {
                let sent = at - first;
                if behaviour.hang_after.is_some_and(|after| sent >= after) {
                    std::future::pending::<()>().await;
                }
                if behaviour.fail_after.is_some_and(|after| sent >= after) {
                    return Some((Err(BodyError::ShuttingDown), (at, ended)));
                }
                if at > last {
                    return None;
                }
                let end = last.min(at + 99_999);
                *toy.produced.lock() += end - at + 1;
                Some((Ok(http_body::Frame::data(bytes(at, end))), (end + 1, ended)))
            }
        });
        let body = http_body_util::combinators::UnsyncBoxBody::new(Sized {
            inner: StreamBody::new(Box::pin(pieces)),
            length: last - first + 1,
        });
        let digest = if behaviour.lies {
            Digest::of(Algorithm::Sha256, b"lies")
        } else {
            digest.clone()
        };
        let source = BlobSource {
            digest,
            length,
            object_key: ObjectKey::parse("blobs/a").unwrap(),
        };
        response.extension(source).body(body).unwrap()
    }
}

/// A body of known length.
struct Sized<B> {
    inner: B,
    length: u64,
}

impl<B: http_body::Body<Data = Bytes> + Unpin> http_body::Body for Sized<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.length)
    }
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

pub(super) fn settings() -> MeshSettings {
    MeshSettings {
        stall: Duration::from_secs(5),
        ..MeshSettings::default()
    }
}

pub(super) async fn cluster(members: usize) -> Cluster {
    cluster_with(members, settings()).await
}

pub(super) async fn cluster_with(members: usize, settings: MeshSettings) -> Cluster {
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
    let settings = MeshSettings::listener(&Limits::default());
    Listener::bind("mesh", address, Some(tls), settings)
        .await
        .unwrap()
}

impl Cluster {
    pub(super) async fn member(
        &self,
        n: usize,
        tls: &CertificateFiles,
        settings: MeshSettings,
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
        let peers = Arc::new(Peers::new(view, tls, settings, drain.clone()));
        let toy = Toy::new();
        let mesh = Arc::new(Mesh::new(
            owners,
            peers,
            toy.service(),
            Arc::new(Metrics::new()),
            settings,
        ));
        let (server, readiness) = MeshServer::new(mesh.clone(), vec!["operator".to_owned()], drain.clone())
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
            let stream = Buffered::new(stream, settings().io);
            let stream = TlsConnector::from(tls).connect(name, stream).await?;
            Ok::<_, std::io::Error>(TokioIo::new(Io::TlsClient(Box::new(stream))))
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
