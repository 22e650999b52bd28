//! Connections that are wrong in how they speak: floods, silence, two readings of one request, resets.

use std::time::Duration;

use super::{Reply, Target, reply, say};
use crate::support::{
    PATIENCE,
    client::{Ask as _, Request},
    content::Blob,
    mesh::Plan,
    raw::Raw,
};

/// Little patience with the silent, so that the tests needn't wait.
fn impatient(plan: Plan) -> Plan {
    plan.limits(|limits| {
        limits.server.head_timeout = Duration::from_millis(300);
        limits.server.idle_timeout = Duration::from_millis(300);
        limits.net.stall = Duration::from_millis(500);
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_floods() {
    let target = Target::start().await;
    let many = "x: y\r\n".repeat(1000);
    let long = format!("x: {}\r\n", "y".repeat(100_000));
    let endless = format!("x: {}", "y".repeat(1 << 20));
    for door in target.doors() {
        for fields in [&many, &long, &endless] {
            let head = format!("GET /v2/ HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
            let (answer, mut raw) = say(door, head.as_bytes()).await;
            // The one that goes on writing may meet a reset before it reads.
            assert!(matches!(answer, Reply::Status(431) | Reply::Closed), "{answer:?}");
            raw.ends_cleanly().await;
        }
        let line = format!("GET /v2/{} HTTP/1.1\r\nhost: a\r\n\r\n", "a/".repeat(100_000));
        let (answer, _) = say(door, line.as_bytes()).await;
        assert!(
            matches!(answer, Reply::Status(414 | 431) | Reply::Closed),
            "{answer:?}"
        );
    }
    target.stays_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_heads() {
    let target = Target::with(impatient).await;
    for door in target.doors() {
        // Each byte comes soon, the head never.
        let mut raw = Raw::open(door).await;
        let mut sent = 0;
        while raw.write(b"G").await.is_ok() && sent < 1000 {
            sent += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(sent < 1000, "it is not listened to for ever");
        // Nor does a good request buy more time for the next one.
        let (answer, mut raw) = say(door, b"GET /v2/ HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert_eq!(answer, Reply::Status(200));
        raw.write(b"GET /v2/ HT").await.unwrap();
        raw.ends_cleanly().await;
        // Nothing at all is said.
        Raw::open(door).await.ends_cleanly().await;
    }
    target.stays_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_bodies() {
    let target = Target::with(impatient).await;
    let blob = Blob::named("slow", 1_000_000);
    for door in target.doors() {
        for (line, kind) in [
            (
                format!(
                    "POST {}",
                    target.path(&format!("blobs/uploads/?digest={}", blob.digest))
                ),
                "application/octet-stream",
            ),
            (
                format!("PUT {}", target.path("manifests/slow")),
                "application/vnd.oci.image.manifest.v1+json",
            ),
        ] {
            let mut raw = Raw::open(door).await;
            let (line, kind) = (format!("{line} HTTP/1.1"), format!("content-type: {kind}"));
            raw.head(&[&line, &kind, "content-length: 1000000"]).await;
            raw.write(&blob.bytes[..1000]).await.unwrap();
            let answer = reply(&mut raw).await;
            assert!(
                matches!(answer, Reply::Error(408 | 400 | 503, _) | Reply::Closed),
                "{answer:?}"
            );
            raw.ends_cleanly().await;
        }
        // A reader that stands still.
        let mut raw = Raw::open(door).await;
        let get = format!(
            "GET {} HTTP/1.1",
            target.path(&format!("blobs/{}", target.layer.digest))
        );
        for _ in 0..100 {
            // More than fits into what lies between.
            raw.head(&[&get]).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    target.stays_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn request_smuggling_shapes() {
    let target = Target::start().await;
    let upload = target.path("blobs/uploads/");
    // What must never be taken for a request of its own.
    let hidden = format!(
        "DELETE {} HTTP/1.1\r\nhost: a\r\n\r\n",
        target.path("manifests/good")
    );
    let refused = |head: &str, body: &str| {
        let bytes = format!("POST {upload} HTTP/1.1\r\nhost: a\r\n{head}\r\n\r\n{body}{hidden}");
        let doors = target.doors();
        let head = head.to_owned();
        async move {
            for door in doors {
                let (answer, mut raw) = say(door, bytes.as_bytes()).await;
                assert!(
                    matches!(answer, Reply::Status(400) | Reply::Error(400, _)),
                    "{head:?}: {answer:?}"
                );
                // The connection is no good any more.
                assert_eq!(reply(&mut raw).await, Reply::Closed, "{head:?}");
            }
        }
    };
    for head in [
        // Two lengths.
        "content-length: 5\r\ncontent-length: 6",
        "content-length: 0\r\ncontent-length: 5, 5",
        "content-length: 5,6",
        // A name that isn't one.
        "content-length : 5",
        "transfer-encoding : chunked",
        " content-length: 5",
        "content\tlength: 5",
        // A field folded into the next line.
        "x: y\r\n content-length: 5",
        "transfer-encoding:\r\n chunked",
        // Encodings that leave the end open.
        "transfer-encoding: chunked, identity",
        "transfer-encoding: xchunked",
        "transfer-encoding: gzip",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity",
        // Encodings that come before the one that ends.
        "transfer-encoding: gzip, chunked",
        "transfer-encoding: identity, chunked",
        "transfer-encoding: chunked, chunked",
        "transfer-encoding: identity\r\ntransfer-encoding: chunked",
        // Bytes that some would cut a field at.
        "x: a\0b",
        "x: a\rtransfer-encoding: chunked",
    ] {
        refused(head, "").await;
    }
    for (head, body) in [
        // A length that is none, a chunk that doesn't end, a negative one, one that overflows.
        ("transfer-encoding: chunked", "xyz\r\n"),
        ("transfer-encoding: chunked", "-5\r\nhello\r\n0\r\n\r\n"),
        ("transfer-encoding: chunked", "5 5\r\nhello\r\n0\r\n\r\n"),
        ("transfer-encoding: chunked", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("transfer-encoding: chunked", "5\r\nhelloworld\r\n0\r\n\r\n"),
        (
            "transfer-encoding: chunked",
            "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        ),
        ("transfer-encoding: chunked", "5\nhello\n0\n\n"),
    ] {
        let digest = crate::support::content::sha256(b"hello");
        for door in target.doors() {
            let bytes =
                format!("POST {upload}?digest={digest} HTTP/1.1\r\nhost: a\r\n{head}\r\n\r\n{body}{hidden}");
            let (answer, mut raw) = say(door, bytes.as_bytes()).await;
            assert!(
                matches!(answer, Reply::Error(400, _) | Reply::Closed),
                "{body:?}: {answer:?}"
            );
            assert_eq!(reply(&mut raw).await, Reply::Closed, "{body:?}");
        }
    }
    // Both a length and chunks: the chunks count, and nothing after them is read (RFC 9112, 6.1).
    for head in [
        "content-length: 5\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 5",
    ] {
        for door in target.doors() {
            let bytes = format!("POST {upload} HTTP/1.1\r\nhost: a\r\n{head}\r\n\r\n0\r\n\r\n{hidden}");
            let (answer, mut raw) = say(door, bytes.as_bytes()).await;
            assert_eq!(answer, Reply::Status(202), "{head:?}");
            assert_eq!(reply(&mut raw).await, Reply::Closed, "{head:?}");
        }
    }
    // What one may send with a chunk is nobody's business, within bounds.
    for door in target.doors() {
        let extended = |extension: &str| {
            format!(
                "PUT {} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1;{extension}\r\nx\r\n0\r\n\r\n",
                target.path("manifests/chunked")
            )
        };
        let (answer, _raw) = say(door, extended("a=b").as_bytes()).await;
        assert_eq!(answer, Reply::error(400, "MANIFEST_INVALID"));
        let (answer, mut raw) = say(door, extended(&"a".repeat(100_000)).as_bytes()).await;
        assert!(
            matches!(answer, Reply::Error(400, _) | Reply::Closed),
            "{answer:?}"
        );
        raw.ends_cleanly().await;
    }
    target.stays_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_rapid_reset() {
    let target = Target::start().await;
    for door in target.doors() {
        let blob = target.path(&format!("blobs/{}", target.layer.digest));
        let stream = tokio::net::TcpStream::connect(door).await.unwrap();
        let (mut requests, connection) = h2::client::handshake(stream).await.unwrap();
        let reset = async move {
            for _ in 0..20_000 {
                let request = http::Request::get(format!("http://{door}{blob}"))
                    .body(())
                    .unwrap();
                let Ok(ready) = requests.ready().await else { return };
                requests = ready;
                let Ok((_, mut sending)) = requests.send_request(request, true) else {
                    return;
                };
                sending.send_reset(h2::Reason::CANCEL);
                // What is queued goes out.
                tokio::task::yield_now().await;
            }
        };
        // It is closed, or it is served: nothing waits for it in either case.
        let (ended, ()) = tokio::join!(tokio::time::timeout(PATIENCE, connection), reset);
        let ended = ended.expect("the connection ends when nothing is asked any more");
        if let Err(error) = ended {
            assert!(error.is_io() || error.is_go_away() || error.is_reset(), "{error}");
        }
    }
    target.stays_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_with_no_host_two_or_an_impossible_one() {
    let target = Target::start().await;
    let tags = target.path("tags/list");
    for door in target.doors() {
        for host in [
            "",
            "host: a\r\nhost: b\r\n",
            "host: a\r\nhost: a\r\n",
            "host: a b/c\r\n",
            "host: u:p@a\r\n",
            "host: a:b\r\n",
            "host: ::1\r\n",
        ] {
            // Probes and metrics are no exception.
            for path in [&tags, "/v2/", "/livez", "/metrics"] {
                let (answer, mut raw) =
                    say(door, format!("GET {path} HTTP/1.1\r\n{host}\r\n").as_bytes()).await;
                assert_eq!(answer, Reply::error(400, "UNSUPPORTED"), "{path} {host:?}");
                assert_eq!(reply(&mut raw).await, Reply::Closed, "{path} {host:?}");
            }
        }
        for host in [
            "host: [::1]:5000\r\n",
            "host: registry.example:443\r\n",
            "host:\r\n",
        ] {
            let (answer, _) = say(door, format!("GET {tags} HTTP/1.1\r\n{host}\r\n").as_bytes()).await;
            assert_eq!(answer, Reply::Status(200), "{host:?}");
        }
        let (answer, _) = say(door, format!("GET {tags} HTTP/1.0\r\n\r\n").as_bytes()).await;
        assert_eq!(answer, Reply::Status(200), "HTTP/1.0 needs none");
        // HTTP/2 has an authority instead, and only one.
        let client = crate::support::client::Client::new(door, crate::support::client::Http::Two);
        let ask = |host: &str| client.ask(Request::get(tags.clone()).header("host", host));
        ask(&door.to_string()).await.unwrap().expect(200);
        ask("elsewhere").await.unwrap().error(400, "UNSUPPORTED");
    }
    target.stays_unharmed().await;
}
