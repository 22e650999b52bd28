//! What pushes and pulls cost at S3 and DynamoDB, counted between the drivers and the servers.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, future::join_all, stream};
use portolan::config::Limits;
use tokio::{sync::Barrier, task::JoinSet, time::Instant};

use super::{
    proxied::{Proxied, by_operation, quiet},
    proxy::Fault,
};
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

/// At most `dynamo` requests to DynamoDB, exactly so many of one operation to S3 and nothing else.
#[track_caller]
fn costs(counted: &Proxied, what: &str, dynamo: usize, s3: Option<(&str, usize)>) {
    let (asked, objects) = (counted.asked(), by_operation(&counted.s3.seen()));
    let operations = by_operation(&asked);
    println!(
        "{what}: {} DynamoDB requests of at most {dynamo}: {operations:?}; S3: {objects:?}",
        asked.len()
    );
    assert!(asked.len() <= dynamo, "{what}: {operations:?}");
    let expected = s3.map(|(operation, times)| (operation.to_owned(), times));
    assert_eq!(objects, BTreeMap::from_iter(expected), "{what}");
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
        let parts = Some(("PutObject", 11));
        costs(&counted, &format!("push as {sequence:?}"), most, parts);
        for member in 0..3 {
            counted.count();
            pull(&counted.mesh.client(member), &tag, &image).await;
            // What the owner has read, it doesn't read again for any front.
            let objects = (member == 0).then_some(("GetObject", 11));
            costs(&counted, &format!("pull through member {member}"), 13, objects);
        }
    }
    counted.stop().await;
}

/// Counts from now on, with a DynamoDB that takes its time, so that what comes at once is there by then, on a slow machine, too.
fn count_at_leisure(counted: &Proxied) {
    counted.dynamo.harm(|_| Fault::Delay(Duration::from_millis(40)));
    counted.s3.harm(|_| Fault::None);
}

/// By tag, and then everything that the manifest names at once.
async fn pull_at_once(client: &Client, tag: &str, image: &Image) {
    let tagged = client.get(format!("/v2/{REPOSITORY}/manifests/{tag}")).await;
    tagged.unwrap().expect(200).with_body(&image.manifest.bytes);
    let blobs = image.blobs.iter().map(|blob| get_blob(client, blob));
    join_all(blobs).await;
}

async fn get_blob(client: &Client, blob: &Blob) {
    let url = format!("/v2/{REPOSITORY}/blobs/{}", blob.digest);
    client.get(url).await.unwrap().expect(200).with_body(&blob.bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_pull_costs_a_read_of_the_row_now_and_then() {
    const PULLS: usize = 100;
    let counted = Proxied::start(&Limits::default(), quiet).await;
    let image = Image::new("again");
    push(&counted.mesh.client(0), &image, "again", Sequence::Containerd).await;
    count_at_leisure(&counted);
    pull_at_once(&counted.mesh.client(0), "again", &image).await;
    costs(&counted, "the first pull", 13, Some(("GetObject", 11)));
    // Through the owner and through others.
    for member in 0..3 {
        let client = counted.mesh.client(member);
        count_at_leisure(&counted);
        pull_at_once(&client, "again", &image).await;
        costs(
            &counted,
            &format!("all layers at once through member {member}"),
            4,
            None,
        );

        count_at_leisure(&counted);
        let tagged = client.get(format!("/v2/{REPOSITORY}/manifests/again")).await;
        tagged.unwrap().expect(200);
        for blob in &image.blobs {
            get_blob(&client, blob).await;
        }
        costs(
            &counted,
            &format!("one layer after the other through member {member}"),
            12,
            None,
        );

        count_at_leisure(&counted);
        let clients = (0..PULLS)
            .map(|_| counted.mesh.client(member))
            .collect::<Vec<_>>();
        join_all(clients.iter().map(|client| pull_at_once(client, "again", &image))).await;
        let (asked, objects) = (counted.asked().len(), counted.s3.seen().len());
        let most = PULLS * 12 / 5;
        println!(
            "{PULLS} clients through member {member}: {asked} DynamoDB requests of at most {most}; {objects} of S3"
        );
        assert!(asked <= most);
        // An owner that has its hands full leaves some to their front, which reads each blob then, and once more for those who
        // came while it did.
        assert!(objects <= 2 * image.blobs.len());
    }
    counted.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_blobs_that_were_read_cost_hardly_any_request() {
    const CLIENTS: usize = 16;
    const PULLS: usize = 20;
    let counted = Proxied::start(&Limits::default(), quiet).await;
    let image = Image::new("small");
    push(&counted.mesh.client(0), &image, "small", Sequence::Containerd).await;
    pull_at_once(&counted.mesh.client(0), "small", &image).await;
    for member in 0..3 {
        count_at_leisure(&counted);
        let pulls = (0..CLIENTS).map(|n| {
            let (client, image) = (counted.mesh.client(member), &image);
            async move {
                for pull in 0..PULLS {
                    get_blob(&client, &image.blobs[(n + pull) % image.blobs.len()]).await;
                }
            }
        });
        join_all(pulls).await;
        let most = CLIENTS * PULLS / 5;
        costs(
            &counted,
            &format!("{CLIENTS} clients of small blobs through member {member}"),
            most,
            None,
        );
    }
    counted.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_of_two_thousand_tags_is_deleted_by_a_request_for_every_46() {
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
    let most = TAGS.div_ceil(46);
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
