//! Clients that want more than their share.

use std::{net::SocketAddr, time::Duration};

use portolan::config::RateLimits;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::timeout,
};

use super::{FRONT, OWNER, Reply, Target, reply, say};
use crate::support::{
    PATIENCE,
    client::{Ask as _, Client, Http, Request},
    content::{Blob, sha256},
    eventually,
    mesh::PART,
    raw::Raw,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_requests_of_one_client() {
    let rate = |n: u32| std::num::NonZeroU32::new(n).unwrap();
    let target = Target::with(|plan| {
        plan.rate_limits(RateLimits {
            all: Some(rate(50)),
            methods: vec![(http::Method::DELETE, rate(2))],
        })
    })
    .await;
    let client = target.mesh.client(FRONT);
    let gone = || Request::delete(target.path("manifests/none"));
    let mut through = 0;
    let refused = loop {
        let answer = client.ask(gone()).await.unwrap();
        if answer.status == 429 {
            break answer.error(429, "TOOMANYREQUESTS");
        }
        answer.error(404, "MANIFEST_UNKNOWN");
        through += 1;
        assert!(through < 1000, "there is no end to it");
    };
    assert!(through >= 2, "{through}");
    let wait: u64 = refused.must("retry-after").parse().unwrap();
    assert!(wait >= 1);
    // Other methods aren't the matter, another member counts by itself, and probes don't count.
    client.get("/v2/".to_owned()).await.unwrap().expect(200);
    target.mesh.client(2).ask(gone()).await.unwrap().expect(404);
    for _ in 0..100 {
        client.get("/livez".to_owned()).await.unwrap().expect(200);
    }
    tokio::time::sleep(Duration::from_secs(wait)).await;
    client.ask(gone()).await.unwrap().expect(404);
    let all: Vec<_> = (0..200).map(|_| client.get("/v2/".to_owned())).collect();
    let statuses = futures_util::future::join_all(all).await;
    let refused = statuses
        .iter()
        .filter(|answer| answer.as_ref().is_ok_and(|answer| answer.status == 429));
    assert!(refused.count() > 0, "200 at once are more than 50 a second");
    tokio::time::sleep(Duration::from_secs(1)).await;
    target.stays_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_connections_of_one_client() {
    let target = Target::with(|plan| plan.limits(|limits| limits.server.connections_per_client = 20)).await;
    let door = target.mesh.door(FRONT);
    // None of these is idle: they are in the middle of their first request.
    let mut open = Vec::new();
    for _ in 0..40 {
        let mut raw = Raw::open(door).await;
        let _ = raw.write(b"GET /livez HT").await;
        open.push(raw);
    }
    for raw in &mut open[20..] {
        assert_eq!(reply(raw).await, Reply::Closed);
    }
    for raw in &mut open[..20] {
        raw.write(b"TP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        assert_eq!(reply(raw).await, Reply::Status(200));
    }
    // Now they are, and the oldest go for new ones.
    for _ in 0..40 {
        let (answer, raw) = say(door, b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert_eq!(answer, Reply::Status(200));
        open.push(raw);
    }
    drop(open);
    target.stays_unharmed().await;
}

/// A mesh whose members take on 16 requests, 12 of them uploads, and whose patience is short.
async fn narrow() -> Target {
    Target::with(|plan| {
        plan.limits(|limits| {
            limits.front.requests = 16;
            limits.front.patience = Duration::from_secs(20);
            limits.net.slow_body_window = Duration::from_millis(200);
        })
    })
    .await
}

/// Another client than the tests' own: a connection from an address of its own.
async fn connect_from(client: u8, door: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 1, client], 0).into()).unwrap();
    socket.connect(door).await.unwrap()
}

/// Uploads of 10 GiB that have begun, each on a connection of its own, from the address of one client.
async fn crawl(target: &Target, client: u8, door: SocketAddr, uploads: usize) -> Vec<TcpStream> {
    let path = target.path(&format!("blobs/uploads/?digest={}", sha256(b"never")));
    let length = 10_u64 << 30;
    let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\nx");
    let mut open = Vec::new();
    for _ in 0..uploads {
        let mut stream = connect_from(client, door).await;
        stream.write_all(head.as_bytes()).await.unwrap();
        open.push(stream);
    }
    open
}

/// Asserts that others pull and push through `door`, in both versions of HTTP, and that it says it is ready.
async fn others_are_served(target: &Target, door: SocketAddr, what: &str) {
    for http in [Http::One, Http::Two] {
        let client = Client::new(door, http);
        for path in [
            target.path("manifests/good"),
            "/v2/".to_owned(),
            "/readyz".to_owned(),
        ] {
            let answer = client.get(path).await.unwrap();
            assert_eq!(answer.status, 200, "{what}, {http:?}: {answer}");
        }
        // A push that gets as far as its digest, which is wrong, so that nothing stays.
        let small = target.push_blob(&sha256(b"other"), &b"small"[..]);
        client.ask(small).await.unwrap().error(400, "DIGEST_INVALID");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_never_begin() {
    for member in [FRONT, OWNER] {
        let target = narrow().await;
        let door = target.mesh.door(member);
        let digest = sha256(b"never");
        let path = target.path(&format!("blobs/uploads/?digest={digest}"));
        let (mut open, mut serving) = (Vec::new(), JoinSet::new());
        for _ in 0..8 {
            let stream = TcpStream::connect(door).await.unwrap();
            let mut builder = h2::client::Builder::new();
            let (mut client, connection) = builder
                .initial_window_size(0)
                .handshake::<_, bytes::Bytes>(stream)
                .await
                .unwrap();
            serving.spawn(connection);
            for _ in 0..100 {
                client = client.ready().await.unwrap();
                let request =
                    http::Request::post(format!("http://{door}{path}")).header("content-length", "1024");
                open.push(client.send_request(request.body(()).unwrap(), false).unwrap());
            }
            others_are_served(&target, door, "bodies that never begin").await;
        }
        drop((open, serving));
        target.stays_unharmed().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_client_with_all_the_uploads_it_can_get() {
    for member in [FRONT, OWNER] {
        let target = narrow().await;
        let door = target.mesh.door(member);
        let open = crawl(&target, 1, door, 40).await;
        others_are_served(&target, door, "one client's uploads").await;
        // Nor does it keep itself from pulling.
        let mut same = connect_from(1, door).await;
        let head = format!(
            "GET {} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
            target.path("manifests/good")
        );
        same.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        timeout(PATIENCE, same.read_to_end(&mut answer))
            .await
            .unwrap()
            .unwrap();
        assert!(
            answer.starts_with(b"HTTP/1.1 200"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
        drop(open);
        target.stays_unharmed().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crawling_uploads_of_many_clients() {
    for member in [FRONT, OWNER] {
        let target = narrow().await;
        let door = target.mesh.door(member);
        let mut open = Vec::new();
        for client in 1..=20 {
            open.extend(crawl(&target, client, door, 3).await);
        }
        others_are_served(&target, door, "many clients' uploads").await;
        // Those that are large wait, until one that crawls gives way.
        let large = target.push_blob(&sha256(b"other"), vec![b'x'; 200_000]);
        let client = Client::new(door, Http::One);
        client.ask(large).await.unwrap().error(400, "DIGEST_INVALID");
        let mut gave_way = 0;
        for stream in &mut open {
            let mut answer = [0; 12];
            if let Ok(Ok(_)) = timeout(Duration::from_millis(1), stream.read_exact(&mut answer)).await {
                match &answer[9..] {
                    b"503" => gave_way += 1,
                    // It has waited in vain.
                    b"429" => {}
                    _ => panic!("{}", String::from_utf8_lossy(&answer)),
                }
            }
        }
        assert!(gave_way > 0, "none gave way");
        drop(open);
        target.stays_unharmed().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_takes() {
    for member in [FRONT, OWNER] {
        let target = Target::with(|plan| {
            plan.limits(|limits| {
                limits.front.requests = 8;
                limits.front.patience = Duration::from_millis(100);
                limits.net.stall = Duration::from_secs(2);
            })
        })
        .await;
        let door = target.mesh.door(member);
        let (mut open, mut serving) = (Vec::new(), JoinSet::new());
        // Four clients can have 4, 2, 1 and 1 of them.
        for client in 1..=4 {
            let stream = connect_from(client, door).await;
            let mut builder = h2::client::Builder::new();
            let (mut client, connection) = builder
                .initial_window_size(0)
                .handshake::<_, bytes::Bytes>(stream)
                .await
                .unwrap();
            serving.spawn(connection);
            let mut answers = Vec::new();
            for _ in 0..4 {
                client = client.ready().await.unwrap();
                let request = http::Request::get(format!("http://{door}{}", target.path("manifests/good")));
                answers.push(client.send_request(request.body(()).unwrap(), true).unwrap().0);
            }
            let answers = futures_util::future::join_all(answers).await;
            open.push((client, answers));
        }
        let full = Client::new(door, Http::One)
            .get("/readyz".to_owned())
            .await
            .unwrap()
            .expect(503);
        assert!(full.body.starts_with(b"not ready: full"), "{full}");
        let refused = Client::new(door, Http::One)
            .get(target.path("manifests/good"))
            .await
            .unwrap();
        refused.error(429, "TOOMANYREQUESTS").with("retry-after", "1");
        // They are given up in the end, and nobody else.
        eventually("there is room again", async || {
            let answer = Client::new(door, Http::One)
                .get("/readyz".to_owned())
                .await
                .unwrap();
            answer.status == 200
        })
        .await;
        others_are_served(&target, door, "answers that nobody took").await;
        drop((open, serving));
        target.stays_unharmed().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_uploads_than_memory() {
    let target = Target::with(|plan| {
        plan.limits(|limits| {
            // Eight uploads that hold as much as they may have it all, and a quarter is for the first 64 KiB of each.
            limits.registry.part_size = 8 * PART as u64;
            limits.registry.body_memory = 64 * PART as u64;
            limits.registry.body_patience = Duration::from_secs(20);
            limits.net.slow_body_window = Duration::from_millis(200);
        })
    })
    .await;
    let blob = Blob::named("large", 10 * 8 * PART);
    let line = format!(
        "POST {} HTTP/1.1",
        target.path(&format!("blobs/uploads/?digest={}", blob.digest))
    );
    let mut stuck = Vec::new();
    for door in target.doors().into_iter().cycle().take(14) {
        let mut raw = Raw::open(door).await;
        raw.head(&[&line, &format!("content-length: {}", 10_u64 << 30)])
            .await;
        raw.write(&blob.bytes[..8 * PART - 100]).await.unwrap();
        stuck.push(raw);
    }
    // Small ones find room at once, large ones once those that stand still have left it.
    let more = [
        target.push_blob(&sha256(b"other"), &b"small"[..]),
        target.push_blob(&sha256(b"other"), blob.bytes.clone()),
    ];
    for push in more {
        target.refuses(push, 400, "DIGEST_INVALID").await;
    }
    let manifest = target.push(
        "more",
        "application/vnd.oci.image.index.v1+json",
        vec![b' '; 3 * PART],
    );
    target.refuses(manifest, 400, "MANIFEST_INVALID").await;
    // Reading takes none of it, and who goes away gives it back.
    let read = target.mesh.client(FRONT).get(target.path("manifests/good")).await;
    read.unwrap().expect(200);
    for raw in &mut stuck {
        raw.shut_down().await;
        let answer = reply(raw).await;
        assert!(
            matches!(answer, Reply::Closed | Reply::Error(400, _)),
            "{answer:?}"
        );
    }
    target.stays_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_uploads_than_there_are_first_pieces() {
    let target = Target::with(|plan| {
        plan.limits(|limits| {
            limits.registry.body_memory = 4 * PART as u64;
            limits.registry.body_patience = Duration::from_millis(200);
        })
    })
    .await;
    let open = crawl(&target, 1, target.mesh.door(OWNER), 1).await;
    for member in [FRONT, OWNER] {
        let client = target.mesh.client(member);
        let post = || target.push_blob(&sha256(b"other"), &b"small"[..]);
        eventually("there is no room", async || {
            client.ask(post()).await.unwrap().status == 429
        })
        .await;
        client
            .ask(post())
            .await
            .unwrap()
            .error(429, "TOOMANYREQUESTS")
            .with("retry-after", "1");
        // docker gives up at 429.
        let docker = post().header("user-agent", "docker/27.0.3 go/go1.21.11");
        client
            .ask(docker)
            .await
            .unwrap()
            .error(503, "UNAVAILABLE")
            .with("retry-after", "1");
        let manifest = target.push("more", "application/vnd.oci.image.index.v1+json", "{}");
        client.ask(manifest).await.unwrap().error(503, "UNAVAILABLE");
    }
    drop(open);
    target.stays_unharmed().await;
}
