//! Through real sockets, with a front that is one function.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Method, Response, StatusCode, Version};
use http_body_util::{Empty, Full, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::TokioExecutor;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};
use tower::service_fn;

use super::*;
use crate::{
    admission,
    net::{IoSettings, Linger, ListenerSettings, Remaining},
};

struct Fixture {
    address: SocketAddr,
    drain: Drain,
}

async fn fixture<F, R>(answer: F) -> Fixture
where
    F: Fn(Arrival) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    let limits = ServerLimits {
        head_timeout: Duration::from_millis(300),
        idle_timeout: Duration::from_millis(600),
        ..ServerLimits::from(&Limits::default())
    };
    let settings = ListenerSettings {
        connections: 16,
        connections_per_client: 16,
        handshake: Duration::from_secs(1),
        io: IoSettings {
            read_buffer: 64 * 1024,
            write_buffer: 64 * 1024,
            write_stall: Duration::from_secs(60),
            linger: Linger {
                bytes: 64 * 1024 * 1024,
                time: Duration::from_secs(2),
            },
        },
    };
    let listener = Listener::bind("public", "127.0.0.1:0".parse().unwrap(), None, settings)
        .await
        .unwrap();
    let address = listener.address();
    let front = Front::new(service_fn(move |arrival| {
        let answer = answer(arrival);
        async move { Ok(answer.await) }
    }));
    let drain = Drain::new();
    let serving = drain.clone();
    drain.spawn("listener", async move {
        serve(listener, &serving, front, limits).await
    });
    Fixture { address, drain }
}

async fn ok(_: Arrival) -> Response<Body> {
    Response::new(admission::full("hello".into()))
}

/// Sends a request over a connection of its own and reads the whole answer.
async fn ask<B>(
    address: SocketAddr,
    version: Version,
    request: Request<B>,
) -> Result<(StatusCode, Bytes), hyper::Error>
where
    B: http_body::Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let tasks = tokio_util::task::TaskTracker::new();
    let response = if version == Version::HTTP_2 {
        let (mut client, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
        tasks.spawn(async move { drop(connection.await) });
        client.send_request(request).await?
    } else {
        let (mut client, connection) = hyper::client::conn::http1::handshake(io).await?;
        tasks.spawn(async move { drop(connection.await) });
        client.send_request(request).await?
    };
    let status = response.status();
    Ok((status, response.into_body().collect().await?.to_bytes()))
}

fn get(address: SocketAddr) -> Request<Empty<Bytes>> {
    Request::get(format!("http://{address}/"))
        .body(Empty::new())
        .unwrap()
}

async fn raw(address: SocketAddr, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut bytes)).await;
    assert!(
        read.is_ok(),
        "the connection stays open: {}",
        String::from_utf8_lossy(&bytes)
    );
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn both_versions_are_spoken_on_the_plain_port() {
    let server = fixture(ok).await;
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let (status, body) = ask(server.address, version, get(server.address)).await.unwrap();
        assert_eq!(
            (status, &body[..]),
            (StatusCode::OK, &b"hello"[..]),
            "{version:?}"
        );
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_never_looks_like_a_shorter_one() {
    async fn broken(arrival: Arrival) -> Response<Body> {
        let frames = futures_util::stream::iter([
            Ok(Frame::data(Bytes::from_static(b"half"))),
            Err(BodyError::ShuttingDown),
        ]);
        let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
        if arrival.request.uri().path() == "/sized" {
            response.headers_mut().insert("content-length", 8.into());
        }
        response
    }
    let server = fixture(broken).await;
    for version in [Version::HTTP_11, Version::HTTP_2] {
        for path in ["/sized", "/unsized"] {
            let uri = format!("http://{}{path}", server.address);
            let request = Request::get(uri).body(Empty::<Bytes>::new()).unwrap();
            let answer = ask(server.address, version, request).await;
            assert!(answer.is_err(), "{version:?} {path}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn an_early_answer_reaches_a_client_that_is_still_writing() {
    let server = fixture(ok).await;
    for version in [Version::HTTP_11, Version::HTTP_2] {
        for length in [300_000, 20_000_000] {
            let mut request = Request::new(Full::new(Bytes::from(vec![7; length])));
            *request.method_mut() = Method::PUT;
            *request.uri_mut() = format!("http://{}/", server.address).parse().unwrap();
            let (status, _) = ask(server.address, version, request).await.unwrap();
            assert_eq!(status, StatusCode::OK, "{version:?} {length}");
        }
    }
    // A client that writes everything before it reads anything.
    let mut stream = raw(
        server.address,
        "PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 900000\r\n\r\n",
    )
    .await;
    stream.write_all(&vec![7; 900_000]).await.unwrap();
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn who_waits_for_leave_is_refused_without_getting_it() {
    let server = fixture(ok).await;
    let head = "PUT / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    let mut stream = raw(server.address, head).await;
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

#[tokio::test]
async fn who_says_nothing_or_too_little_is_closed() {
    let server = fixture(ok).await;
    for text in [
        "",
        "G",
        "GET / HTTP/1.1\r\nhost: a\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let started = Instant::now();
        let mut stream = raw(server.address, text).await;
        let mut bytes = Vec::new();
        // A reset is as good an end as any.
        let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut bytes))
            .await
            .unwrap();
        assert!(started.elapsed() < Duration::from_secs(2), "{text:?}");
    }
}

#[tokio::test]
async fn a_connection_may_idle_for_longer_than_a_head_may_take() {
    let server = fixture(ok).await;
    let request = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut stream = raw(server.address, request).await;
    let mut answer = vec![0; 1024];
    assert!(stream.read(&mut answer).await.unwrap() > 0);
    tokio::time::sleep(Duration::from_millis(400)).await;
    stream.write_all(request.as_bytes()).await.unwrap();
    assert!(stream.read(&mut answer).await.unwrap() > 0);
    assert_eq!(
        rest(&mut stream).await,
        "",
        "it is closed when it idles for too long"
    );
}

#[tokio::test]
async fn a_client_that_closed_its_half_still_gets_its_answer() {
    async fn slow(_: Arrival) -> Response<Body> {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Response::new(admission::full("hello".into()))
    }
    let server = fixture(slow).await;
    let mut stream = raw(server.address, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    stream.shutdown().await.unwrap();
    assert!(rest(&mut stream).await.ends_with("hello"));
}

#[tokio::test]
async fn heads_have_a_bound() {
    let server = fixture(ok).await;
    let long = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(70_000));
    let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(200));
    for head in [long, many] {
        let mut stream = raw(server.address, &head).await;
        assert!(rest(&mut stream).await.starts_with("HTTP/1.1 431"));
    }
}

#[tokio::test]
async fn what_is_in_flight_when_the_drain_begins_is_finished() {
    async fn slow(_: Arrival) -> Response<Body> {
        let frames = futures_util::stream::unfold(0, |n| async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            (n < 10).then(|| (Ok(Frame::data(Bytes::from_static(b"x"))), n + 1))
        });
        Response::new(StreamBody::new(frames).boxed_unsync())
    }
    let server = fixture(slow).await;
    let address = server.address;
    for_each_version(async |version| {
        let idle = raw(address, "").await;
        let answer = ask(address, version, get(address)).await.unwrap();
        drop(idle);
        answer.1.len()
    })
    .await;
    let in_flight = async {
        for_each_version(async |version| ask(address, version, get(address)).await.unwrap().1.len()).await
    };
    let drained = async {
        tokio::time::sleep(Duration::from_millis(60)).await;
        server.drain.finish(Duration::from_secs(5)).await
    };
    let (lengths, remaining) = tokio::join!(in_flight, drained);
    assert_eq!(lengths, [10, 10]);
    assert_eq!(remaining, Vec::<Remaining>::new());
}

async fn for_each_version(ask: impl AsyncFn(Version) -> usize) -> [usize; 2] {
    let (one, two) = tokio::join!(ask(Version::HTTP_11), ask(Version::HTTP_2));
    [one, two]
}

#[tokio::test]
async fn who_connected_just_before_the_drain_is_answered_once() {
    let server = fixture(ok).await;
    let mut waiting = raw(server.address, "").await;
    server.drain.begin();
    let refused = async {
        while TcpStream::connect(server.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    let refused = tokio::time::timeout(Duration::from_secs(5), refused).await;
    assert!(refused.is_ok(), "nobody can connect any more");
    waiting
        .write_all(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n")
        .await
        .unwrap();
    let answer = rest(&mut waiting).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert_eq!(
        server.drain.finish(Duration::from_secs(5)).await,
        Vec::<Remaining>::new()
    );
}
