//! What pushes and pulls cost at S3 and DynamoDB, counted between the drivers and the servers.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::{StreamExt as _, stream};
use portolan::config::Limits;
use tokio::{sync::Barrier, task::JoinSet, time::Instant};

use super::proxied::{Proxied, by_operation, quiet};
use crate::support::{
    client::{Ask as _, Client, Request, finish, octets, with_digest},
    content::{Blob, Manifest},
};

const REPOSITORY: &str = "counted/image";

/// Clients that pull at once.
const CLIENTS: usize = 500;

/// Blobs that a client has in flight at once.
const AT_ONCE: usize = 3;

/// Tags of one manifest.
const TAGS: usize = 2000;

/// An image of ten layers.
struct Image {
    /// The configuration and the layers.
    blobs: Vec<Blob>,
    manifest: Manifest,
}

impl Image {
    fn new(name: &str) -> Self {
        let blobs: Vec<Blob> = (0..11)
            .map(|n| Blob::named(&format!("{name} {n}"), 1000))
            .collect();
        let layers: Vec<&Blob> = blobs[1..].iter().collect();
        Self {
            manifest: Manifest::image(&blobs[0], &layers).build(),
            blobs,
        }
    }
}

/// How a client sends a blob.
#[derive(Clone, Copy, Debug)]
enum Sequence {
    /// POST, PUT with all bytes.
    Containerd,
    /// POST, PATCH with all bytes, PUT.
    Crane,
}

async fn push_blob(client: &Client, blob: &Blob, sequence: Sequence) {
    let url = format!("/v2/{REPOSITORY}/blobs/{}", blob.digest);
    client.head(url).await.unwrap().expect(404);
    let location = client.start(REPOSITORY).await.unwrap().expect(202).location();
    let bytes = blob.bytes.clone();
    let end = match sequence {
        Sequence::Containerd => octets(Request::put(with_digest(&location, &blob.digest))).body(bytes),
        Sequence::Crane => {
            let sent = client.ask(octets(Request::patch(&location)).body(bytes)).await;
            finish(&sent.unwrap().expect(202).location(), &blob.digest)
        }
    };
    client.ask(end).await.unwrap().expect(201);
}

async fn push(client: &Client, image: &Image, tag: &str, sequence: Sequence) {
    stream::iter(&image.blobs)
        .for_each_concurrent(AT_ONCE, |blob| push_blob(client, blob, sequence))
        .await;
    let tagged = client.head(format!("/v2/{REPOSITORY}/manifests/{tag}")).await;
    tagged.unwrap().expect(404);
    let pushed = client.push_manifest(REPOSITORY, tag, &image.manifest).await;
    pushed.unwrap().expect(201);
}

/// The manifest, by its tag and then by what that names.
async fn pull_manifest(client: &Client, tag: &str, manifest: &Manifest) {
    let tagged = client.head(format!("/v2/{REPOSITORY}/manifests/{tag}")).await;
    let digest = tagged.unwrap().expect(200).must("docker-content-digest");
    let pulled = client.get(format!("/v2/{REPOSITORY}/manifests/{digest}")).await;
    pulled.unwrap().expect(200).with_body(&manifest.bytes);
}

async fn pull(client: &Client, tag: &str, image: &Image) {
    pull_manifest(client, tag, &image.manifest).await;
    stream::iter(&image.blobs)
        .for_each_concurrent(AT_ONCE, |blob| async {
            let url = format!("/v2/{REPOSITORY}/blobs/{}", blob.digest);
            client.get(url).await.unwrap().expect(200).with_body(&blob.bytes);
        })
        .await;
}

/// At most `dynamo` requests to DynamoDB, exactly 11 of `operation` to S3 and nothing else.
#[track_caller]
fn costs(counted: &Proxied, what: &str, dynamo: usize, operation: &str) {
    let (asked, objects) = (counted.asked(), by_operation(&counted.s3.seen()));
    let operations = by_operation(&asked);
    println!(
        "{what}: {} DynamoDB requests of at most {dynamo}: {operations:?}; S3: {objects:?}",
        asked.len()
    );
    assert!(asked.len() <= dynamo, "{what}: {operations:?}");
    assert_eq!(objects, BTreeMap::from([(operation.to_owned(), 11)]), "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_of_ten_layers_costs_few_requests() {
    let counted = Proxied::start(&Limits::default(), quiet).await;
    let client = counted.mesh.client(0);
    for (sequence, most) in [(Sequence::Containerd, 60), (Sequence::Crane, 90)] {
        let tag = format!("{sequence:?}");
        let image = Image::new(&tag);
        counted.count();
        push(&client, &image, &tag, sequence).await;
        costs(&counted, &format!("push as {sequence:?}"), most, "PutObject");
        for member in 0..3 {
            counted.count();
            pull(&counted.mesh.client(member), &tag, &image).await;
            costs(
                &counted,
                &format!("pull through member {member}"),
                13,
                "GetObject",
            );
        }
    }
    counted.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_of_two_thousand_tags_is_deleted_by_a_request_for_every_47() {
    let counted = Proxied::start(&Limits::default(), quiet).await;
    let (client, config) = (counted.mesh.client(1), Blob::named("config", 100));
    client.push_blob(REPOSITORY, &config).await.unwrap().expect(201);
    let manifest = Manifest::image(&config, &[]).build();
    let target = format!("/v2/{REPOSITORY}/manifests/{}", manifest.digest);
    let tags: Vec<String> = (0..TAGS).map(|n| format!("tag=t{n}")).collect();
    for tags in tags.chunks(30) {
        let push = Request::put(format!("{target}?{}", tags.join("&")))
            .header("content-type", &manifest.media_type)
            .body(manifest.bytes.clone());
        client.ask(push).await.unwrap().expect(201);
    }
    counted.count();
    let begun = Instant::now();
    client.delete(target.clone()).await.unwrap().expect(202);
    let (took, operations) = (begun.elapsed(), by_operation(&counted.asked()));
    println!("{TAGS} tags deleted within {took:?}: {operations:?}");
    let most = TAGS.div_ceil(47);
    assert_eq!(operations["TransactWriteItems"], most);
    // A look at what there is, before each sixteen of these and before the whole.
    assert!(
        operations.values().sum::<usize>() <= most + 4 * most.div_ceil(16) + 2,
        "{operations:?}"
    );
    for tag in ["t0", "t1999"] {
        let gone = client.head(format!("/v2/{REPOSITORY}/manifests/{tag}")).await;
        gone.unwrap().expect(404);
    }
    counted.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_tag_that_everybody_pulls_is_read_a_few_times() {
    let counted = Proxied::start(&Limits::default(), quiet).await;
    let image = Image::new("new");
    push(&counted.mesh.client(0), &image, "new", Sequence::Containerd).await;
    counted.count();
    let (mut pulls, together) = (JoinSet::new(), Arc::new(Barrier::new(CLIENTS)));
    for n in 0..CLIENTS {
        // Each with a connection of its own, which is there when they begin.
        let (client, manifest) = (counted.mesh.client(n % 3), image.manifest.clone());
        let together = together.clone();
        pulls.spawn(async move {
            client.get("/v2/".to_owned()).await.unwrap().expect(200);
            together.wait().await;
            pull_manifest(&client, "new", &manifest).await;
        });
    }
    pulls.join_all().await;
    let asked = counted.asked();
    let read = |key: &str| asked.iter().filter(|seen| seen.names(key)).count();
    let (tag, manifest) = (read("t#new"), read(&format!("m#{}", image.manifest.digest)));
    println!(
        "{CLIENTS} clients: the tag was read {tag} times, the manifest {manifest} times; {:?}",
        by_operation(&asked)
    );
    // Each answer comes from a read that began after its request: how often the tag is read depends on the servers' pace.
    assert!((1..=50).contains(&tag) && (1..=10).contains(&manifest));
    counted.stop().await;
}
