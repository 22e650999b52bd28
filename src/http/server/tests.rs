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
    config::Limits,
    net::{IoSettings, Linger, ListenerSettings, Remaining},
};

const CONNECTIONS: usize = 16;

struct Fixture {
    address: SocketAddr,
    drain: Drain,
}

async fn fixture<F, R>(answer: F) -> Fixture
where
    F: Fn(Arrival) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    fixture_with(answer, |_| ()).await
}

async fn fixture_with<F, R>(answer: F, change: impl FnOnce(&mut Limits)) -> Fixture
where
    F: Fn(Arrival) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    let mut limits = Limits::default();
    limits.server.head_timeout = Duration::from_millis(300);
    limits.server.idle_timeout = Duration::from_millis(600);
    change(&mut limits);
    let settings = ListenerSettings {
        connections: CONNECTIONS,
        connections_per_client: CONNECTIONS,
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
        serve(listener, &serving, front, &limits).await
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

/// An idle connection: it has had its answer.
async fn idle(address: SocketAddr) -> TcpStream {
    let mut stream = raw(address, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut answer = vec![0; 1024];
    assert!(stream.read(&mut answer).await.unwrap() > 0);
    stream
}

/// Whether the other end has closed it, within a moment.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let read = tokio::time::timeout(Duration::from_millis(50), stream.read_u8()).await;
    matches!(read, Ok(Err(_)))
}

#[tokio::test]
async fn where_connections_run_out_the_one_that_was_idle_longest_goes() {
    async fn slow(arrival: Arrival) -> Response<Body> {
        if arrival.request.uri().path() == "/slow" {
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
        ok(arrival).await
    }
    let server = fixture_with(slow, |limits| {
        limits.server.idle_timeout = Duration::from_secs(60)
    })
    .await;
    let mut working = raw(server.address, "GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS - 2 {
        open.push(idle(server.address).await);
    }
    // It was the first, and is the youngest of those that idle.
    open[0]
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    assert!(open[0].read(&mut [0; 1024]).await.unwrap() > 0);
    for _ in 0..3 {
        open.push(idle(server.address).await);
    }
    for goes in &mut open[1..3] {
        assert_eq!(rest(goes).await, "");
    }
    assert!(!is_closed(&mut open[0]).await);
    let mut answer = vec![0; 1024];
    assert!(
        working.read(&mut answer).await.unwrap() > 0,
        "who is served isn't idle"
    );
}

#[tokio::test]
async fn a_head_that_has_begun_has_the_time_of_a_head_however_long_one_may_idle() {
    let server = fixture_with(ok, |limits| limits.server.idle_timeout = Duration::from_secs(60)).await;
    let mut stream = idle(server.address).await;
    assert!(!is_closed(&mut stream).await);
    stream.write_all(b"GET / HT").await.unwrap();
    assert_eq!(rest(&mut stream).await, "");
}

#[tokio::test]
async fn an_idle_connection_of_http_2_ends_too() {
    let server = fixture(ok).await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let asked = async {
        let mut client = client.ready().await.unwrap();
        let request = Request::get(format!("http://{}/", server.address))
            .body(())
            .unwrap();
        let (answer, _) = client.send_request(request, true).unwrap();
        assert_eq!(answer.await.unwrap().status(), StatusCode::OK);
        client
    };
    let (_client, ended) = tokio::join!(asked, tokio::time::timeout(Duration::from_secs(5), connection));
    ended.expect("it is told to go").unwrap();
}

#[tokio::test]
async fn a_client_of_http_2_that_takes_nothing_of_what_it_asked_for_is_given_up() {
    let server = fixture_with(ok, |limits| limits.net.stall = Duration::from_millis(300)).await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let mut builder = h2::client::Builder::new();
    let (client, connection) = builder
        .initial_window_size(0)
        .handshake::<_, Bytes>(stream)
        .await
        .unwrap();
    let asked = async {
        let mut client = client.ready().await.unwrap();
        let request = Request::get(format!("http://{}/", server.address))
            .body(())
            .unwrap();
        let (answer, _) = client.send_request(request, true).unwrap();
        (client, answer.await.unwrap())
    };
    let (asked, ended) = tokio::join!(asked, tokio::time::timeout(Duration::from_secs(5), connection));
    assert!(ended.is_ok(), "it goes on for ever");
    assert_eq!(asked.1.status(), StatusCode::OK);
}
