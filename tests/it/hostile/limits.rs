//! Clients that want more than their share.

use std::time::Duration;

use portolan::config::RateLimits;

use super::{FRONT, Reply, Target, reply, say};
use crate::support::{
    client::{Ask as _, Request},
    content::Blob,
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
    let target = Target::with(|plan| plan.limits(|limits| limits.public_connections_per_client = 20)).await;
    let door = target.mesh.door(FRONT);
    let mut open = Vec::new();
    for _ in 0..40 {
        let (answer, raw) = say(door, b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").await;
        match answer {
            Reply::Status(200) => open.push(raw),
            other => assert_eq!(other, Reply::Closed),
        }
    }
    assert!((1..=20).contains(&open.len()), "{}", open.len());
    drop(open);
    // That they are gone is noticed soon, not at once.
    crate::support::eventually("there is room again", async || {
        let (answer, _) = say(door, b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").await;
        answer == Reply::Status(200)
    })
    .await;
    target.stays_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_uploads_than_memory() {
    let target = Target::with(|plan| {
        plan.limits(|limits| {
            limits.upload_memory_bytes = 4 * PART as u64;
            limits.upload_memory_wait = Duration::from_millis(200);
        })
    })
    .await;
    let blob = Blob::named("large", 10 * PART);
    let line = format!(
        "POST {} HTTP/1.1",
        target.path(&format!("blobs/uploads/?digest={}", blob.digest))
    );
    let mut stuck = Vec::new();
    for door in target.doors().into_iter().cycle().take(4) {
        let mut raw = Raw::open(door).await;
        raw.head(&[&line, &format!("content-length: {}", blob.len())])
            .await;
        raw.write(&blob.bytes[..1000]).await.unwrap();
        stuck.push(raw);
    }
    // They have it all when nobody else gets any.
    let wrong = || target.push_blob(&crate::support::content::sha256(b"other"), blob.bytes.clone());
    crate::support::eventually("there is no room", async || {
        let answer = target.mesh.client(FRONT).ask(wrong()).await.unwrap();
        let is_full = answer.status == 429;
        if is_full {
            answer.error(429, "TOOMANYREQUESTS").with("retry-after", "1");
        } else {
            answer.error(400, "DIGEST_INVALID");
        }
        is_full
    })
    .await;
    target
        .refuses(
            target.push(
                "more",
                "application/vnd.oci.image.index.v1+json",
                vec![b' '; PART],
            ),
            429,
            "TOOMANYREQUESTS",
        )
        .await;
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
