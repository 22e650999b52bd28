//! Yardsticks: what it costs to carry bytes from one process to another by the same libraries, when nothing else is done.
//!
//! ```text
//! hop source  -     LISTEN                      the bytes from memory: what there is before any hop
//! hop owner   HOW   LISTEN FOLDER               the same behind mutual TLS
//! hop front   HOW   LISTEN FOLDER OWNER NAME    what carries them from there to clients without TLS
//! ```
//!
//! HOW is `http1` (a proxy as one would write it) or `grpc` (messages of gRPC, framed at the level of bodies, on one HTTP/2
//! connection). `GET /N` gives N bytes; a `PUT` takes a body and hashes it. FOLDER has `ca.crt`, and NAME.crt and NAME.key
//! of whoever is started. Nothing here is an example to follow: what goes wrong ends the process.

#![allow(clippy::disallowed_methods, reason = "it is killed when it was measured")]

use std::{convert::Infallible, net::SocketAddr, path::Path, pin::Pin, sync::Arc};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut, buf::Chain};
use futures_util::{StreamExt as _, stream};
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, client::conn, server, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncRead, AsyncWrite, BufReader},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T> = std::result::Result<T, Error>;
type Plain = UnsyncBoxBody<Bytes, Error>;
type Message = Chain<Bytes, Bytes>;
type Framed = UnsyncBoxBody<Message, Error>;

const PIECE: usize = 256 << 10;
const BUFFER: usize = 256 << 10;
/// Says how many bytes the messages of an answer carry.
const LENGTH: &str = "bench-length";
/// Flag and length of a message.
const PREFIX: usize = 5;

#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["source", _, at] => {
            accept(at, |stream| async {
                let service = service_fn(|request| async { Ok::<_, Infallible>(answer(request).await) });
                let serving =
                    server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                Ok(serving.await?)
            })
            .await
        }
        ["owner", how, at, folder] => owner(how, at, Path::new(folder)).await,
        ["front", how, at, folder, owner, name] => front(how, at, Path::new(folder), owner, name).await,
        _ => Err("see the head of benches/hop.rs".into()),
    }
}

/// Serves each connection by `serve`.
async fn accept<F>(at: &str, serve: impl Fn(TcpStream) -> F) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind(at).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let serving = serve(stream);
        tokio::spawn(async move {
            if let Err(error) = serving.await {
                eprintln!("hop: a connection ended: {error}");
            }
        });
    }
}

/// What the source, or the owner, does with a request.
async fn answer<B>(request: Request<B>) -> Response<Plain>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Error>,
{
    let asked = request.uri().path().trim_start_matches('/').parse::<usize>();
    let mut hasher = Sha256::new();
    let mut body = request.into_body();
    while let Some(Ok(frame)) = body.frame().await {
        frame.data_ref().into_iter().for_each(|data| hasher.update(data));
    }
    let length = asked.unwrap_or_else(|_| hasher.finalize().len());
    let block = Bytes::from(vec![7; PIECE]);
    let pieces = (0..length.div_ceil(PIECE)).map(move |n| {
        let count = PIECE.min(length - n * PIECE);
        Ok(Frame::data(block.slice(..count)))
    });
    let mut response = Response::new(StreamBody::new(stream::iter(pieces)).boxed_unsync());
    response
        .headers_mut()
        .insert(http::header::CONTENT_LENGTH, length.into());
    response
}

async fn owner(how: &str, at: &str, folder: &Path) -> Result<()> {
    let address: SocketAddr = at.parse()?;
    let is_grpc = how == "grpc";
    let acceptor = TlsAcceptor::from(Arc::new(serving(folder, &address.ip().to_string(), is_grpc)?));
    accept(at, |stream| {
        let acceptor = acceptor.clone();
        async move {
            let mut stream = acceptor.accept(BufReader::with_capacity(BUFFER, stream)).await?;
            stream.get_mut().1.set_buffer_limit(Some(BUFFER));
            let io = TokioIo::new(stream);
            if is_grpc {
                let service = service_fn(|request: Request<Incoming>| async {
                    let answered = match unframed(request).await {
                        Ok(request) => answer(request).await,
                        // As a body that breaks: no call can be without a message.
                        Err(error) => {
                            Response::new(StreamBody::new(stream::iter([Err(error)])).boxed_unsync())
                        }
                    };
                    let (mut parts, body) = answered.into_parts();
                    // Of the bytes, not of the messages.
                    if let Some(length) = parts.headers.remove(http::header::CONTENT_LENGTH) {
                        parts.headers.insert(LENGTH, length);
                    }
                    Ok::<_, Infallible>(Response::from_parts(parts, framed(Bytes::new(), body)))
                });
                let mut builder = server::conn::http2::Builder::new(TokioExecutor::new());
                builder
                    .initial_stream_window_size(1 << 20)
                    .initial_connection_window_size(128 << 20)
                    .max_frame_size(PIECE as u32)
                    .max_send_buf_size(2 * PIECE);
                Ok(builder.serve_connection(io, service).await?)
            } else {
                let service = service_fn(|request| async { Ok::<_, Infallible>(answer(request).await) });
                Ok(server::conn::http1::Builder::new()
                    .serve_connection(io, service)
                    .await?)
            }
        }
    })
    .await
}

async fn front(how: &str, at: &str, folder: &Path, owner: &str, name: &str) -> Result<()> {
    let is_grpc = how == "grpc";
    let connector = TlsConnector::from(Arc::new(dialling(folder, name, is_grpc)?));
    let shared = match is_grpc {
        true => Some(grpc_connection(dial(&connector, owner).await?).await?),
        false => None,
    };
    accept(at, |stream| {
        let (connector, owner, shared) = (connector.clone(), owner.to_owned(), shared.clone());
        async move {
            let io = TokioIo::new(stream);
            match shared {
                Some(shared) => {
                    let service = service_fn(move |request| by_grpc(shared.clone(), request));
                    Ok(server::conn::http1::Builder::new()
                        .serve_connection(io, service)
                        .await?)
                }
                // A connection of its own for each client's: what a pool comes to under load.
                None => {
                    let dialled = TokioIo::new(dial(&connector, &owner).await?);
                    let (sender, connection) = conn::http1::handshake(dialled).await?;
                    tokio::spawn(connection);
                    let sender = Arc::new(tokio::sync::Mutex::new(sender));
                    let service = service_fn(move |request: Request<Incoming>| {
                        let sender = sender.clone();
                        async move {
                            let mut sender = sender.lock().await;
                            sender.ready().await?;
                            sender.send_request(request).await
                        }
                    });
                    Ok(server::conn::http1::Builder::new()
                        .serve_connection(io, service)
                        .await?)
                }
            }
        }
    })
    .await
}

/// One request over the shared connection: its path is the first message, its body and the answer's are the others.
async fn by_grpc(
    mut shared: conn::http2::SendRequest<Framed>,
    request: Request<Incoming>,
) -> Result<Response<Plain>> {
    let path = Bytes::copy_from_slice(request.uri().path().as_bytes());
    let body = request.into_body().map_err(Error::from).boxed_unsync();
    let call = Request::post("http://owner/bench.Hop/Call").body(framed(path, body))?;
    shared.ready().await?;
    let response = shared.send_request(call).await?;
    let length = response.headers().get(LENGTH).cloned();
    let mut answered = Response::new(pieces(response.into_body()).boxed_unsync());
    if let Some(length) = length {
        answered
            .headers_mut()
            .insert(http::header::CONTENT_LENGTH, length);
    }
    Ok(answered)
}

/// `first`, then the pieces of `body`, each as a message.
fn framed(first: Bytes, body: Plain) -> Framed {
    let message = |piece: Bytes| {
        let mut prefix = BytesMut::with_capacity(PREFIX);
        prefix.put_u8(0);
        prefix.put_u32(piece.len() as u32);
        Frame::data(prefix.freeze().chain(piece))
    };
    let body = body.into_data_stream().map(move |piece| piece.map(message));
    let first = (!first.is_empty()).then(|| Ok(message(first)));
    StreamBody::new(stream::iter(first).chain(body)).boxed_unsync()
}

/// The bytes of the messages of `body`.
fn pieces<B>(body: B) -> impl Body<Data = Bytes, Error = Error> + Send + Unpin
where
    B: Body<Data = Bytes, Error = hyper::Error> + Send + Unpin + 'static,
{
    let (mut prefix, mut missing) = (BytesMut::new(), 0);
    let arrived = body.into_data_stream().flat_map(move |data| {
        let mut found = Vec::new();
        let mut data = match data {
            Ok(data) => data,
            Err(error) => return stream::iter(vec![Err(Error::from(error))]),
        };
        while !data.is_empty() {
            if missing > 0 {
                let piece = data.split_to(data.len().min(missing));
                missing -= piece.len();
                found.push(Ok(Frame::data(piece)));
            } else {
                let wanted = data.len().min(PREFIX - prefix.len());
                prefix.extend_from_slice(&data.split_to(wanted));
                if prefix.len() == PREFIX {
                    missing = (&prefix[1..]).get_u32() as usize;
                    prefix.clear();
                }
            }
        }
        stream::iter(found)
    });
    StreamBody::new(Box::pin(arrived) as Pin<Box<dyn futures_util::Stream<Item = _> + Send>>)
}

/// The request that a call carries.
async fn unframed(
    call: Request<Incoming>,
) -> Result<Request<impl Body<Data = Bytes, Error = Error> + Unpin>> {
    let mut body = pieces(call.into_body());
    let first = body.frame().await.ok_or("a call without a message")??;
    let path = first.into_data().map_err(|_| "a call without a message")?;
    Ok(Request::builder().uri(&path[..]).body(body)?)
}

async fn grpc_connection(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<conn::http2::SendRequest<Framed>> {
    let mut builder = conn::http2::Builder::new(TokioExecutor::new());
    builder
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(128 << 20)
        .max_frame_size(PIECE as u32)
        .max_send_buf_size(2 * PIECE);
    let (sender, connection) = builder.handshake(TokioIo::new(io)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn dial(
    connector: &TlsConnector,
    owner: &str,
) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static> {
    let address: SocketAddr = owner.parse()?;
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let stream = BufReader::with_capacity(BUFFER, stream);
    let mut stream = connector.connect(ServerName::from(address.ip()), stream).await?;
    stream.get_mut().1.set_buffer_limit(Some(BUFFER));
    Ok(stream)
}

fn alpn(is_grpc: bool) -> Vec<Vec<u8>> {
    vec![if is_grpc {
        b"h2".to_vec()
    } else {
        b"http/1.1".to_vec()
    }]
}

fn pair(folder: &Path, name: &str) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain = CertificateDer::from_pem_file(folder.join(format!("{name}.crt")))?;
    let key = PrivateKeyDer::from_pem_file(folder.join(format!("{name}.key")))?;
    Ok((vec![chain], key))
}

fn authority(folder: &Path) -> Result<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join("ca.crt"))?)?;
    Ok(Arc::new(roots))
}

fn serving(folder: &Path, name: &str, is_grpc: bool) -> Result<ServerConfig> {
    let provider = provider();
    let clients =
        WebPkiClientVerifier::builder_with_provider(authority(folder)?, provider.clone()).build()?;
    let (chain, key) = pair(folder, name)?;
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = alpn(is_grpc);
    Ok(config)
}

fn dialling(folder: &Path, name: &str, is_grpc: bool) -> Result<ClientConfig> {
    let (chain, key) = pair(folder, name)?;
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = builder.with_root_certificates(authority(folder)?);
    let mut config = builder.with_client_auth_cert(chain, key)?;
    config.alpn_protocols = alpn(is_grpc);
    Ok(config)
}

/// The cheapest cipher first, as between members.
fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    let cheapest = rustls::CipherSuite::TLS13_AES_128_GCM_SHA256;
    provider
        .cipher_suites
        .sort_by_key(|suite| suite.suite() != cheapest);
    Arc::new(provider)
}
