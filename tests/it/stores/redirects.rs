//! `storage.redirectBlobURL`: clients are sent to the bucket for blobs, through whichever member, and only there.

use std::{collections::BTreeMap, sync::Arc};

use http_body_util::BodyExt as _;
use portolan::{
    app::Stores,
    config::{Extensions, Limits, S3Config, Searching, UserInterface},
    storage::{BlobStore as _, MemoryMeta, ObjectKey},
};

use super::{
    proxy::{Fault, Proxy},
    s3_config, s3_open, s3_server,
};
use crate::{
    mirror::{fake::Fake, sync_from},
    support::{
        client::{Answer, Ask as _, Client, Http, Request},
        content::{Blob, Manifest},
        eventually,
        mesh::{MEMBERS, Mesh, Plan},
    },
};

const OWNER: usize = 1;
const OTHER: usize = 0;
/// The least that S3 takes.
const PART: usize = 5 << 20;

async fn plan(bucket: &S3Config) -> Plan {
    let stores = Stores {
        meta: Arc::new(MemoryMeta::default()),
        blobs: Arc::new(s3_open(bucket).await),
    };
    Plan::over(stores).parts(PART)
}

/// Through the owner and another member, by each version of HTTP.
fn ways(mesh: &Mesh) -> Vec<Client> {
    let ways = [OWNER, OTHER].into_iter().flat_map(|member| {
        let door = mesh.door(member);
        [Http::One, Http::Two].map(|http| Client::new(door, http))
    });
    ways.collect()
}

fn target(repository: &str, blob: &Blob) -> String {
    format!("/v2/{repository}/blobs/{}", blob.digest)
}

async fn push(mesh: &Mesh, repository: &str, blob: &Blob) {
    let pushed = mesh.client(OWNER).push_blob(repository, blob).await.unwrap();
    pushed.expect(201);
}

/// Where a redirect leads, with its parameters.
struct Linked {
    server: String,
    target: String,
    parameters: BTreeMap<String, String>,
}

#[track_caller]
fn linked(answer: Answer, blob: &Blob) -> Linked {
    let answer = answer
        .expect(307)
        .with("content-length", "0")
        .with("cache-control", "no-store")
        .with("docker-content-digest", &blob.digest)
        .lacks("etag")
        .with_body(b"");
    let url = answer.must("location");
    let (scheme, rest) = url.split_once("://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let (_, query) = path.split_once('?').unwrap();
    let parameter = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap();
        (name.to_owned(), value.to_owned())
    };
    Linked {
        server: format!("{scheme}://{host}"),
        target: format!("/{path}"),
        parameters: query.split('&').map(parameter).collect(),
    }
}

impl Linked {
    /// By a client that the store has never seen, without credentials.
    async fn follow(&self) -> Answer {
        let door: std::net::SocketAddr = self.server.strip_prefix("http://").unwrap().parse().unwrap();
        let client = Client::new(door, Http::One);
        client.get(self.target.clone()).await.unwrap()
    }
}

async fn sum(mesh: &Mesh, name: &str, labels: &[(&str, &str)]) -> u64 {
    let mut sum = 0.0;
    for member in 0..MEMBERS {
        sum += mesh.metrics(member).await.sum(name, labels);
    }
    sum as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_blob_is_read_from_the_bucket_and_everything_else_from_the_registry() {
    let bucket = s3_config(&s3_server());
    let plan = plan(&bucket).await.external_url("https://registry.example.com");
    let mesh = plan.redirects_from(0).start().await;
    let repository = mesh.names().owned_by(OWNER, "redirected");
    for (n, length) in [1, 70_000, PART + 17].into_iter().enumerate() {
        let blob = Blob::named(&format!("redirected {n}"), length);
        push(&mesh, &repository, &blob).await;
        let target = target(&repository, &blob);
        let read = || async {
            (
                sum(&mesh, "portolan_store_read_bytes_total", &[]).await,
                sum(
                    &mesh,
                    "portolan_forward_body_bytes_total",
                    &[("direction", "download")],
                )
                .await,
            )
        };
        let before = read().await;
        for client in ways(&mesh) {
            let link = linked(client.get(target.clone()).await.unwrap(), &blob);
            assert_eq!(link.server, s3_server());
            assert!(
                link.target
                    .starts_with(&format!("/{}/{}/uploads/", bucket.bucket, bucket.prefix))
            );
            assert_eq!(link.parameters["X-Amz-Expires"], "1200");
            assert_eq!(link.parameters["X-Amz-SignedHeaders"], "host");
            link.follow().await.expect(200).with_body(&blob.bytes);
            let forged = Linked {
                target: link.target.replace("X-Amz-Expires=1200", "X-Amz-Expires=9999"),
                ..link
            };
            forged.follow().await.expect(403);
        }
        assert_eq!(read().await, before, "bytes went through members");
        for client in ways(&mesh) {
            let length = blob.bytes.len().to_string();
            let head = client.head(target.clone()).await.unwrap();
            head.expect(200).with("content-length", &length);
            for range in ["bytes=0-", "bytes=0-0", "lines=1"] {
                let request = Request::get(target.clone()).header("range", range);
                let answer = client.ask(request).await.unwrap();
                let (status, body) = match range {
                    "bytes=0-" => (206, &blob.bytes[..]),
                    "bytes=0-0" => (206, &blob.bytes[..1]),
                    _ => (200, &blob.bytes[..]),
                };
                answer.expect(status).with_body(body);
            }
            let known = Request::get(target.clone()).header("if-none-match", format!("\"{}\"", blob.digest));
            client.ask(known).await.unwrap().expect(304);
        }
    }
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_sent_for_what_is_small_empty_lost_deleted_or_elsewhere() {
    let bucket = s3_config(&s3_server());
    let store = s3_open(&bucket).await;
    let mesh = plan(&bucket)
        .await
        .redirects_from(1000)
        .limits(|limits: &mut Limits| limits.registry.seen_for = std::time::Duration::ZERO)
        .start()
        .await;
    let repository = mesh.names().owned_by(OWNER, "served");
    let [small, large, lost] = [("small", 999), ("large", 1000), ("lost", 70_000)]
        .map(|(name, length)| Blob::named(&format!("served {name}"), length));
    let empty = Blob::new(&b""[..]);
    for blob in [&small, &large, &lost, &empty] {
        push(&mesh, &repository, blob).await;
    }
    let object = {
        let link = linked(
            mesh.client(OTHER).get(target(&repository, &lost)).await.unwrap(),
            &lost,
        );
        let path = link.target.split_once('?').unwrap().0;
        let key = path.strip_prefix(&format!("/{}/{}/", bucket.bucket, bucket.prefix));
        ObjectKey::parse(key.unwrap()).unwrap()
    };
    store.delete(&object).await.unwrap();
    for client in ways(&mesh) {
        for blob in [&small, &empty] {
            let answer = client.get(target(&repository, blob)).await.unwrap();
            answer.expect(200).with_body(&blob.bytes);
        }
        linked(client.get(target(&repository, &large)).await.unwrap(), &large);
        let answer = client.get(target(&repository, &lost)).await.unwrap();
        let error = answer.error(500, "UNKNOWN").json();
        assert_eq!(error["errors"][0]["detail"]["reason"], "is missing");
        let elsewhere = mesh.names().owned_by(OWNER, "elsewhere");
        let answer = client.get(target(&elsewhere, &large)).await.unwrap();
        answer.error(404, "BLOB_UNKNOWN");
    }
    // The link that is remembered at the owner doesn't outlive a deletion by another member.
    let deleted = mesh
        .client(2)
        .ask(Request::delete(target(&repository, &large)))
        .await;
    deleted.unwrap().expect(202);
    for client in ways(&mesh) {
        let answer = client.get(target(&repository, &large)).await.unwrap();
        answer.error(404, "BLOB_UNKNOWN");
    }
    // Who has the content makes it whole, and the link leads to the new object.
    push(&mesh, &repository, &lost).await;
    for client in ways(&mesh) {
        let link = linked(client.get(target(&repository, &lost)).await.unwrap(), &lost);
        link.follow().await.expect(200).with_body(&lost.bytes);
    }
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_sent_to_where_they_reach_the_bucket() {
    let public = Proxy::start(&s3_server()).await;
    let bucket = S3Config {
        redirect_endpoint: Some(public.url()),
        ..s3_config(&s3_server())
    };
    let mesh = plan(&bucket).await.redirects_from(0).start().await;
    let repository = mesh.names().owned_by(OWNER, "reached");
    let blob = Blob::named("reached", 70_000);
    push(&mesh, &repository, &blob).await;
    public.harm(|_| Fault::None);
    for client in ways(&mesh) {
        let link = linked(client.get(target(&repository, &blob)).await.unwrap(), &blob);
        assert_eq!(link.server, public.url());
        link.follow().await.expect(200).with_body(&blob.bytes);
    }
    let seen: Vec<_> = public.seen().iter().map(|seen| seen.operation()).collect();
    assert_eq!(seen, ["GetObject"; 4], "members themselves go the other way");
    mesh.stop().await;
}

/// A page shows what a configuration says, for which its visitor's browser could be sent nowhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_shows_configurations_all_the_same() {
    let extensions = Extensions {
        search: Searching::On,
        ui: UserInterface::On,
        ..Extensions::default()
    };
    let plan = plan(&s3_config(&s3_server())).await.extensions(extensions);
    let mesh = plan.redirects_from(0).start().await;
    let repository = mesh.names().owned_by(OWNER, "shown");
    let config = Blob::new(&br#"{"os":"plan9","architecture":"mips"}"#[..]);
    push(&mesh, &repository, &config).await;
    let client = mesh.client(OWNER);
    let manifest = Manifest::image(&config, &[]).build();
    let pushed = client.push_manifest(&repository, "v1", &manifest).await;
    pushed.unwrap().expect(201);
    for client in ways(&mesh) {
        let page = client
            .get(format!("/image/{repository}:v1"))
            .await
            .unwrap()
            .expect(200);
        let html = std::str::from_utf8(&page.body).unwrap();
        assert!(html.contains("plan9"), "{html}");
        linked(client.get(target(&repository, &config)).await.unwrap(), &config);
    }
    mesh.stop().await;
}

/// What is mirrored is streamed while it comes, and then lies in the bucket.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_being_fetched_from_elsewhere_is_streamed() {
    let upstream = Fake::start().await;
    let plan = plan(&s3_config(&s3_server())).await;
    let plan = plan.sync(sync_from(&upstream.url(), "")).redirects_from(0);
    let mesh = plan.start().await;
    let repository = mesh.names().owned_by(OWNER, "fetched");
    let blob = Blob::named("fetched", 3_000_000);
    let gate = upstream.gated_blob(&repository, &blob, 2_000_000);
    let request = Request::get(target(&repository, &blob));
    let streamed = mesh.client(OTHER).open(&request).await.unwrap();
    assert_eq!(streamed.status(), 200);
    gate.send_replace(true);
    let streamed = streamed.into_body().collect().await.unwrap().to_bytes();
    assert!(streamed == blob.bytes);
    eventually("it lies in the bucket", || async {
        mesh.client(OTHER).ask(request.clone()).await.unwrap().status == 307
    })
    .await;
    for client in ways(&mesh) {
        let link = linked(client.ask(request.clone()).await.unwrap(), &blob);
        link.follow().await.expect(200).with_body(&blob.bytes);
    }
    mesh.stop().await;
}
