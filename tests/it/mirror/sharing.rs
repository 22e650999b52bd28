//! One fetch for all who wait for it.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use portolan::config::Limits;
use tokio::{task::JoinSet, time::timeout};

use super::{
    fake::{Fake, blob_path, broken, part, status, whole},
    mirror, patient, sync, sync_from,
};
use crate::support::{
    PATIENCE,
    client::{Ask as _, Request},
    content::Blob,
    eventually,
    mesh::MEMBERS,
};

/// The next bytes of a body.
async fn next(body: &mut Incoming) -> Option<Bytes> {
    let frame = timeout(PATIENCE, body.frame()).await.expect("no more comes")?;
    Some(frame.unwrap().into_data().unwrap())
}

/// All that is left of it.
async fn rest(mut body: Incoming) -> Bytes {
    let mut bytes = BytesMut::new();
    while let Some(piece) = next(&mut body).await {
        bytes.extend_from_slice(&piece);
    }
    bytes.freeze()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_clients_through_three_members_cost_upstream_one_request() {
    let upstream = Fake::start().await;
    let mesh = patient(sync_from(&upstream.url(), "")).start().await;
    let repository = mesh.names().owned_by(0, "thirty");
    let blob = Blob::named("thirty", 3_000_000);
    let gate = upstream.gated_blob(&repository, &blob, 2_000_000);
    let path = blob_path(&repository, &blob.digest);
    let open = |door: usize, range: Option<&str>| {
        let (client, request) = (mesh.client(door % MEMBERS), Request::get(&path));
        let request = match range {
            Some(range) => request.header("range", range),
            None => request,
        };
        async move { client.open(&request).await.unwrap() }
    };
    // The one that begins it leaves when it has got something.
    let mut first = open(1, None).await;
    assert_eq!(first.status(), 200);
    assert!(
        !next(first.body_mut()).await.unwrap().is_empty(),
        "before upstream has sent all"
    );
    drop(first);
    let mut clients = JoinSet::new();
    for n in 0..30 {
        let response = open(n, None).await;
        assert_eq!(response.status(), 200);
        clients.spawn(rest(response.into_body()));
    }
    // From within what is put aside already, and from what is yet to come.
    for first in [1_000_000_usize, 2_500_000] {
        let response = open(2, Some(&format!("bytes={first}-"))).await;
        assert_eq!(response.status(), 206);
        let expected = blob.bytes.slice(first..);
        clients.spawn(async move {
            assert!(rest(response.into_body()).await == expected);
            Bytes::new()
        });
    }
    // A part that doesn't reach the end waits for the digest.
    let waiting = open(2, Some("bytes=10-19"));
    gate.send_replace(true);
    let waiting = waiting.await;
    assert_eq!(waiting.status(), 206);
    assert_eq!(rest(waiting.into_body()).await, blob.bytes.slice(10..20));
    while let Some(bytes) = clients.join_next().await {
        let bytes = bytes.unwrap();
        assert!(bytes.is_empty() || bytes == blob.bytes);
    }
    assert_eq!(upstream.count("GET", &path), 1, "{:?}", upstream.seen());
    assert_eq!(upstream.sent(&path), blob.len());
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_goes_on_when_nobody_waits_for_it_any_more() {
    let upstream = Fake::start().await;
    let mesh = patient(sync_from(&upstream.url(), "")).start().await;
    let repository = mesh.names().owned_by(0, "left");
    let blob = Blob::named("left", 600_000);
    let gate = upstream.gated_blob(&repository, &blob, 300_000);
    let path = blob_path(&repository, &blob.digest);
    let client = mesh.client(1);
    let mut response = client.open(&Request::get(&path)).await.unwrap();
    next(response.body_mut()).await.unwrap();
    drop(response);
    gate.send_replace(true);
    eventually("it is here", || async {
        let answer = client
            .ask(Request::get(&path).header("range", "bytes=0-1"))
            .await
            .unwrap();
        answer.expect(206);
        upstream.count("GET", &path) == 1
    })
    .await;
    let answer = client.get(path.clone()).await.unwrap().expect(200);
    answer.with_body(&blob.bytes);
    assert_eq!(upstream.count("GET", &path), 1);
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_that_breaks_off_goes_on_from_there() {
    let upstream = Fake::start().await;
    // What broke off holds the only place no longer.
    let mesh = mirror(sync_from(&upstream.url(), "reqConcurrent: 1")).await;
    let repository = mesh.names().owned_by(0, "resumed");
    let blob = Blob::named("resumed", 500_000);
    let path = blob_path(&repository, &blob.digest);
    let bytes = blob.bytes.clone();
    // Each request brings 100,000 bytes.
    upstream.at(&path, move |seen| {
        let range = seen.range.as_deref().unwrap_or("bytes=0-");
        let first: usize = range["bytes=".len()..].trim_end_matches('-').parse().unwrap();
        part(
            first,
            bytes.len(),
            broken(bytes.slice(first..(first + 100_000).min(bytes.len()))),
        )
    });
    let answer = mesh.client(1).get(path.clone()).await.unwrap().expect(200);
    answer.with_body(&blob.bytes);
    let ranges: Vec<_> = upstream.seen().into_iter().map(|seen| seen.range).collect();
    let expected = [None, Some(100_000), Some(200_000), Some(300_000), Some(400_000)];
    assert_eq!(
        ranges,
        expected.map(|first: Option<usize>| first.map(|first| format!("bytes={first}-")))
    );
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_next_to_nothing_each_time_is_given_up() {
    let upstream = Fake::start().await;
    let mesh = mirror(sync_from(&upstream.url(), "")).await;
    let repository = mesh.names().owned_by(0, "trickle");
    let blob = Blob::named("trickle", 500_000);
    let path = blob_path(&repository, &blob.digest);
    let bytes = blob.bytes.clone();
    upstream.at(&path, move |seen| {
        let range = seen.range.as_deref().unwrap_or("bytes=0-");
        let first: usize = range["bytes=".len()..].trim_end_matches('-').parse().unwrap();
        part(first, bytes.len(), broken(bytes.slice(first..first + 100)))
    });
    let told = mesh.client(1).ask(Request::get(&path)).await;
    assert!(told.is_err(), "{told:?}");
    let retries = Limits::default().upstream.retries as usize;
    assert_eq!(upstream.count("GET", &path), retries + 2);
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_registry_began_to_send_no_other_ends() {
    let (first, second) = (Fake::start().await, Fake::start().await);
    let registry = |fake: &Fake| format!("{{urls: [\"{}\"], onDemand: true, retryDelay: 10ms}}", fake.url());
    let mesh = mirror(sync(&format!("{}, {}", registry(&first), registry(&second)), "")).await;
    let repository = mesh.names().owned_by(0, "began");
    let blob = Blob::named("began", 500_000);
    let path = blob_path(&repository, &blob.digest);
    second.blob(&repository, &blob);
    let bytes = blob.bytes.clone();
    first.at(&path, move |seen| match seen.range {
        None => part(0, bytes.len(), broken(bytes.slice(..100_000))),
        Some(_) => status(404),
    });
    let told = mesh.client(1).ask(Request::get(&path)).await;
    assert!(told.is_err(), "{told:?}");
    assert_eq!((first.count("GET", &path), second.seen().len()), (2, 0));
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_other_members_finish_when_the_owner_dies() {
    let upstream = Fake::start().await;
    let mut mesh = patient(sync_from(&upstream.url(), "")).start().await;
    let repository = mesh.names().owned_by(0, "dying");
    let blob = Blob::named("dying", 2_000_000);
    let gate = upstream.gated_blob(&repository, &blob, 1_000_000);
    let path = blob_path(&repository, &blob.digest);
    let mut clients = JoinSet::new();
    for door in [1, 2, 1, 2] {
        let mut response = mesh.client(door).open(&Request::get(&path)).await.unwrap();
        let mut got = BytesMut::from(&next(response.body_mut()).await.unwrap()[..]);
        clients.spawn(async move {
            got.extend_from_slice(&rest(response.into_body()).await);
            got.freeze()
        });
    }
    assert_eq!(upstream.count("GET", &path), 1);
    mesh.crash(0).await;
    gate.send_replace(true);
    while let Some(bytes) = clients.join_next().await {
        assert!(bytes.unwrap() == blob.bytes);
    }
    // Each of the two begins anew, once for all of its clients.
    assert!(upstream.count("GET", &path) <= 3, "{:?}", upstream.seen());
    tokio::time::sleep(Duration::ZERO).await;
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_is_given_before_all_is_known_to_be_right_only_where_that_is_wanted() {
    let upstream = Fake::start().await;
    let mesh = mirror(sync_from(
        &upstream.url(),
        "maxRetries: 0, rangesBeforeVerified: true",
    ))
    .await;
    let repository = mesh.names().owned_by(0, "early");
    let blob = Blob::named("early", 600_000);
    let path = blob_path(&repository, &blob.digest);
    let gate = upstream.gated_blob(&repository, &blob, 300_000);
    for door in 0..MEMBERS {
        let part = Request::get(&path).header("range", "bytes=1000-199999");
        let part = mesh.client(door).ask(part).await.unwrap().expect(206);
        part.with("content-range", "bytes 1000-199999/600000")
            .with_body(&blob.bytes.slice(1000..200_000));
    }
    gate.send_replace(true);
    let all = mesh.client(1).get(path.clone()).await.unwrap().expect(200);
    all.with_body(&blob.bytes);
    assert_eq!(upstream.count("GET", &path), 1);
    // Wrong bytes may have reached a client by then, and still are no blob.
    let wrong = Blob::named("early and wrong", 600_000);
    let path = blob_path(&repository, &wrong.digest);
    let bytes = blob.bytes.clone();
    upstream.at(&path, move |_| part(0, bytes.len(), whole(bytes.clone())));
    for door in 0..MEMBERS {
        let part = Request::get(&path).header("range", "bytes=0-9");
        // Given, broken off, or refused: it depends on who was faster.
        let _ = mesh.client(door).ask(part).await;
        let all = mesh.client(door).get(path.clone()).await;
        assert!(all.is_err() || all.unwrap().status == 502);
    }
    mesh.stop().await;
}
