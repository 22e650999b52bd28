//! Reads in pieces, and what answers say of the registry: what a client that leaves costs, several ranges when their owner
//! dies, `Location` as clients see it.

use std::time::Duration;

use http_body_util::BodyExt as _;

use crate::support::{
    client::{Ask as _, Client, Http, Request, chunk, octets},
    content::Blob,
    embedded, eventually,
    mesh::{MEMBERS, Mesh, Plan},
    process::Dev,
    raw::Raw,
};

const OWNER: usize = 1;
const OTHER: usize = 0;

/// The sum of a metric of all members.
async fn sum(mesh: &Mesh, name: &str, labels: &[(&str, &str)]) -> u64 {
    let mut sum = 0.0;
    for member in 0..MEMBERS {
        sum += mesh.metrics(member).await.sum(name, labels);
    }
    sum as u64
}

async fn read_from_store(mesh: &Mesh) -> u64 {
    sum(mesh, "portolan_store_read_bytes_total", &[]).await
}

async fn read_over_mesh(mesh: &Mesh) -> u64 {
    sum(
        mesh,
        "portolan_forward_body_bytes_total",
        &[("direction", "download")],
    )
    .await
}

/// Waits until nothing more is read.
async fn stands_still(mesh: &Mesh) -> u64 {
    let mut before = read_from_store(mesh).await;
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = read_from_store(mesh).await;
        if now == before {
            return now;
        }
        before = now;
    }
}

/// As containerd fetches in parallel: a range without an end, left after a piece. Here the client stands still before it
/// leaves, until all that goes ahead of it has gone: nobody's buffers hold more than then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_an_open_range_costs_little_more_than_it_took() {
    let folder = tempfile::tempdir().unwrap();
    let embedded = embedded(folder.path()).await;
    let mesh = Plan::over(embedded.stores()).parts(8 << 20).start().await;
    let repository = mesh.names().owned_by(OWNER, "pieces");
    let blob = Blob::named("pieces", 24 << 20);
    let pushed = mesh.client(OWNER).push_blob(&repository, &blob).await.unwrap();
    pushed.expect(201);
    for member in [OWNER, OTHER] {
        for piece in [64 << 10, 512 << 10, 4 << 20] {
            let (stored, forwarded) = (read_from_store(&mesh).await, read_over_mesh(&mesh).await);
            let first = 4 << 20;
            let mut client = Raw::narrow(mesh.door(member)).await;
            let line = format!("GET /v2/{repository}/blobs/{} HTTP/1.1", blob.digest);
            client.head(&[&line, &format!("range: bytes={first}-")]).await;
            assert_eq!(client.answer().await.unwrap().status, 206);
            assert!(client.body(piece).await == blob.bytes[first..first + piece]);
            let stored = stands_still(&mesh).await - stored;
            drop(client);
            eventually("the pull has ended", || async {
                sum(&mesh, "portolan_streams", &[]).await == 0
            })
            .await;
            let forwarded = read_over_mesh(&mesh).await - forwarded;
            let most = (piece as u64 + (1 << 20)).max(piece as u64 * 13 / 10);
            println!(
                "member {member}, {piece} bytes taken: {stored} from the store, {forwarded} over the mesh"
            );
            assert!(
                stored >= piece as u64 && stored <= most,
                "{stored} bytes from the store for {piece}"
            );
            assert_eq!(forwarded >= piece as u64, member == OTHER);
            assert!(forwarded <= most, "{forwarded} bytes over the mesh for {piece}");
        }
    }
    mesh.stop().await;
    embedded.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_an_open_range_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let process = Dev::new(folder.path()).start().await;
    let repository = process.names().owned_by(OWNER, "left");
    let blob = Blob::named("left", 24 << 20);
    let pushed = process.client(OWNER).push_blob(&repository, &blob).await.unwrap();
    pushed.expect(201);
    for member in [OWNER, OTHER] {
        for (range, outcome) in [("bytes=1000-", "left"), ("bytes=1000-20000000", "aborted")] {
            let id = format!("{outcome}-by-{member}");
            let request = Request::get(format!("/v2/{repository}/blobs/{}", blob.digest))
                .header("range", range)
                .header("x-request-id", &id);
            let mut body = process.client(member).open(&request).await.unwrap().into_body();
            body.frame().await.unwrap().unwrap();
            drop(body);
            let line = |log: String| {
                let mut lines = log.lines().filter(|line| line.contains(&id));
                lines.find(|line| line.contains("\"outcome\"")).map(str::to_owned)
            };
            eventually("the request is in the log", || async {
                line(process.said()).is_some()
            })
            .await;
            let line = line(process.said()).unwrap();
            assert!(line.contains(&format!("\"outcome\":\"{outcome}\"")), "{line}");
        }
    }
    process.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_ranges_whose_owner_dies_are_finished_by_the_front() {
    let mut mesh = Mesh::of_three().await;
    let repository = mesh.names().owned_by(OWNER, "pulled");
    let blob = Blob::named("pulled", 48 << 20);
    let pushed = mesh.client(OWNER).push_blob(&repository, &blob).await.unwrap();
    pushed.expect(201);
    let request = Request::get(format!("/v2/{repository}/blobs/{}", blob.digest))
        .header("range", "bytes=40000000-,100-199,1000-20001000");
    let whole = mesh.client(OTHER).ask(request.clone()).await.unwrap().expect(206);
    let mut body = mesh.client(OTHER).open(&request).await.unwrap().into_body();
    let mut received = Vec::new();
    while received.len() < 1 << 20 {
        received.extend_from_slice(body.frame().await.unwrap().unwrap().data_ref().unwrap());
    }
    let cut = mesh.crash(OWNER).await;
    assert!(!cut.is_empty(), "the pull was under way");
    received.extend_from_slice(&body.collect().await.unwrap().to_bytes());
    assert!(
        received == whole.body,
        "{} bytes, not those of before",
        received.len()
    );
    let resumed = mesh.metrics(OTHER).await;
    assert_eq!(resumed.sum("portolan_resumed_pulls_total", &[]), 1.0);
    mesh.stop().await;
}

/// Requests that claim to come by another way, and where their answers say that it goes on.
async fn locations(client: &Client, repository: &str) -> Vec<String> {
    let forged = |request: Request| {
        request
            .header("forwarded", "host=evil.example;proto=https")
            .header("x-forwarded-host", "evil.example")
            .header("x-forwarded-proto", "gopher")
            .header("x-forwarded-port", "1")
    };
    let blob = Blob::named(repository, 1000);
    let begin = forged(Request::post(format!("/v2/{repository}/blobs/uploads/")).body(""));
    let begun = client.ask(begin).await.unwrap().expect(202);
    let session = begun.location();
    let appended = client
        .ask(forged(chunk(&session, 0, blob.bytes.slice(..500))))
        .await;
    let again = client
        .ask(forged(chunk(&session, 0, blob.bytes.slice(..500))))
        .await;
    let status = client.ask(forged(Request::get(&session))).await;
    let end = Request::put(format!("{session}?digest={}", blob.digest)).body(blob.bytes.slice(500..));
    let finished = client.ask(forged(octets(end))).await;
    let path = format!("/v2/{repository}/blobs/{}", blob.digest);
    let seen = client.ask(forged(Request::head(&path))).await;
    let pulled = client.ask(forged(Request::get(&path))).await;
    let answers = [
        (Ok(begun), 202),
        (appended, 202),
        (again, 416),
        (status, 204),
        (finished, 201),
        (seen, 200),
        (pulled, 200),
    ];
    let located = answers.map(|(answer, status)| answer.unwrap().expect(status).must("location"));
    let (uploads, blobs) = located.split_at(4);
    assert!(uploads.iter().all(|at| at.ends_with(&session)), "{uploads:?}");
    assert!(blobs.iter().all(|at| at.ends_with(&path)), "{blobs:?}");
    located.to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_location_begins_as_configured_whatever_a_request_claims() {
    for external_url in [None, Some("https://registry.example.org:8443")] {
        let plan = match external_url {
            Some(url) => Plan::new().external_url(url),
            None => Plan::new(),
        };
        let mesh = plan.start().await;
        for member in [OWNER, OTHER] {
            for http in [Http::One, Http::Two] {
                let kind = format!("located-{member}-{http:?}").to_lowercase();
                let repository = mesh.names().owned_by(OWNER, &kind);
                let begin = format!("{}/v2/{repository}/blobs/", external_url.unwrap_or_default());
                for location in locations(&Client::new(mesh.door(member), http), &repository).await {
                    assert!(location.starts_with(&begin), "{location}");
                }
            }
        }
        mesh.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dev_sends_each_client_on_to_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let process = Dev::new(folder.path()).start().await;
    let repository = process.names().owned_by(OWNER, "located");
    for (member, door) in process.doors.iter().enumerate() {
        let begin = format!("http://{door}/v2/{repository}/blobs/");
        for location in locations(&process.client(member), &repository).await {
            assert!(location.starts_with(&begin), "{location}");
        }
    }
    process.kill().await;
}
