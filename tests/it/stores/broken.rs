//! A mesh over S3 and DynamoDB that are slow, busy, cut off, or silent after a write has landed.
//!
//! Requests end, as the specification says or as 429 or 503; what was acknowledged is there, whole, and what wasn't
//! happened once or never; `/readyz` tells, and recovers.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use portolan::{
    config::{DynamoConfig, Limits},
    storage::{DynamoMeta, Expect, Key, MetaStore as _, Outcome, Space, Version},
};
use tokio::task::JoinSet;

use super::{
    dynamo_config, dynamo_delete, dynamo_server,
    proxied::Proxied,
    proxy::{Fault, Proxy, Seen, busy_dynamo},
    random_name,
};
use crate::{
    support::{
        PATIENCE,
        client::{Answer, Ask as _, Client},
        content::{Blob, Manifest, Random, run_seed},
    },
    workload::{self, Workload},
};

const MIB: usize = 1 << 20;

/// Bounds that a test can reach.
fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.dynamo.answer = Duration::from_secs(1);
    limits.dynamo.retry_time = Duration::from_secs(2);
    limits.s3.answer = Duration::from_secs(1);
    limits.s3.complete = Duration::from_secs(1);
    limits.s3.retries = Duration::from_secs(3);
    limits.s3.backoff_max = Duration::from_millis(200);
    limits.s3.read_stall = Duration::from_millis(300);
    limits
}

async fn open(config: &DynamoConfig) -> DynamoMeta {
    let opened = DynamoMeta::open(config, &limits()).await;
    opened.unwrap_or_else(|error| panic!("{:#}", anyhow::Error::from(error)))
}

async fn start() -> Proxied {
    Proxied::start(&limits(), |plan| plan).await
}

/// From now on nothing fails; returns when every member knows.
async fn calm(broken: &Proxied) {
    broken.dynamo.harm(|_| Fault::None);
    broken.s3.harm(|_| Fault::None);
    for client in broken.mesh.clients() {
        readiness(&client, 200).await;
    }
}

/// Asks until the answer is `status`; gives it.
async fn readiness(client: &Client, status: u16) -> Answer {
    let asking = async {
        loop {
            let answer = client.get("/readyz".to_owned()).await.unwrap();
            if answer.status == status {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let answer = tokio::time::timeout(PATIENCE, asking).await;
    answer.unwrap_or_else(|_| panic!("/readyz never answers {status}"))
}

/// What befalls some requests.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    /// They take long.
    Slow,
    /// The connection ends, before or after they have arrived.
    Cut,
    /// The store asks for fewer, and has others at the same rows.
    Busy,
    /// They have their effect and time out.
    Silent,
}

impl Trouble {
    fn befalls(self, seed: u64) -> impl Fn(&Seen) -> Fault + Send + Sync + 'static {
        let random = Mutex::new(Random::seeded(seed));
        move |seen| {
            let mut random = random.lock();
            let is_dynamo = seen.header("x-amz-target").is_some();
            match (self, random.below(24)) {
                (Self::Slow, _) => Fault::Delay(Duration::from_millis(random.below(60))),
                (Self::Cut, 0) => Fault::CutRequest(0),
                (Self::Cut, 1 | 2) => Fault::LoseAnswer,
                (Self::Cut, 3) => Fault::CutAnswer(10),
                (Self::Busy, 4) if is_dynamo => Fault::Answer(503, "ServiceUnavailable"),
                (Self::Busy, _) if is_dynamo => busy_dynamo(seen, &mut random, 6),
                (Self::Busy, 0..5) => Fault::Answer(503, "SlowDown"),
                (Self::Silent, 0) => Fault::HoldAnswer,
                _ => Fault::None,
            }
        }
    }
}

/// Pushes blobs, small ones and some of several parts; gives those that were acknowledged.
async fn push_blobs(client: Client, repository: String, seed: u64) -> Vec<Blob> {
    let mut acknowledged = Vec::new();
    for n in 0..8 {
        let length = if n % 4 == 3 { 6 * MIB } else { 1000 };
        let blob = Blob::new(Random::seeded(seed << 8 | n).bytes(length));
        match client.push_blob(&repository, &blob).await {
            Ok(answer) if answer.status == 201 => acknowledged.push(blob),
            // A session that another attempt of the same request has moved, or one whose store failed.
            Ok(answer) => assert!(answer.is_unavailable() || answer.status == 416, "{answer}"),
            Err(_) => {}
        }
    }
    acknowledged
}

async fn what_is_acknowledged_holds_in(trouble: Trouble, test: &str) {
    let seed = run_seed(test);
    let broken = start().await;
    broken.dynamo.harm(trouble.befalls(seed));
    broken.s3.harm(trouble.befalls(seed + 1));
    let mut pushing = JoinSet::new();
    for (n, client) in broken.mesh.clients().into_iter().enumerate() {
        pushing.spawn(push_blobs(client, "blobs/all".to_owned(), seed + n as u64));
    }
    let workload = Workload {
        repositories: vec!["tags/one".to_owned(), "tags/two".to_owned()],
        tags: 2,
        clients: 4,
        rounds: 20,
        blobs: 3,
        pause: Duration::ZERO,
        seed,
        ..Workload::default()
    };
    let ran = workload::run(workload, broken.mesh.clients()).await;
    let blobs = pushing.join_all().await.concat();
    let counts = ran.counts;
    println!("{trouble:?}: {counts:?}, {} blobs of 24", blobs.len());

    calm(&broken).await;
    ran.check().await;
    assert!(!blobs.is_empty(), "something got through");
    for (n, blob) in blobs.iter().enumerate() {
        let client = broken.mesh.client(n % 3);
        let pulled = client.get(format!("/v2/blobs/all/blobs/{}", blob.digest)).await;
        pulled.unwrap().expect(200).with_body(&blob.bytes);
    }
    broken.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_holds_over_slow_stores() {
    what_is_acknowledged_holds_in(Trouble::Slow, "what_is_acknowledged_holds_over_slow_stores").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_holds_over_cut_connections() {
    what_is_acknowledged_holds_in(Trouble::Cut, "what_is_acknowledged_holds_over_cut_connections").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_holds_over_busy_stores() {
    what_is_acknowledged_holds_in(Trouble::Busy, "what_is_acknowledged_holds_over_busy_stores").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_holds_over_stores_that_fall_silent() {
    let test = "what_is_acknowledged_holds_over_stores_that_fall_silent";
    what_is_acknowledged_holds_in(Trouble::Silent, test).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_fails_is_told_by_readiness_and_by_503_until_it_recovers() {
    let broken = start().await;
    let client = broken.mesh.client(0);
    // Longer than what is remembered of blobs: that is given out without the blob store.
    let blob = Blob::named("before", 100_000);
    client.push_blob("out/age", &blob).await.unwrap().expect(201);
    let blob_url = format!("/v2/out/age/blobs/{}", blob.digest);
    for (proxy, store, fault) in [
        (
            &broken.dynamo,
            "metadata",
            Fault::Answer(503, "ServiceUnavailable"),
        ),
        (
            &broken.dynamo,
            "metadata",
            Fault::Answer(400, "ThrottlingException"),
        ),
        (&broken.dynamo, "metadata", Fault::CutRequest(0)),
        (&broken.s3, "blob", Fault::Answer(503, "SlowDown")),
    ] {
        proxy.harm(move |_| fault.clone());
        for client in broken.mesh.clients() {
            let told = readiness(&client, 503).await;
            let told = String::from_utf8_lossy(&told.body).into_owned();
            assert!(told.contains(store), "{told}");
        }
        let pulled = client.get(blob_url.clone()).await.unwrap();
        pulled.error(503, "UNAVAILABLE");
        let pushed = client.push_blob("out/age", &Blob::named("during", 100)).await;
        pushed.unwrap().error(503, "UNAVAILABLE");
        calm(&broken).await;
        client.get(blob_url.clone()).await.unwrap().expect(200);
    }
    broken.stop().await;
}

fn key(partition: &str, sort: &str) -> Key {
    Key {
        space: Space::Repositories,
        partition: partition.to_owned(),
        sort: sort.to_owned(),
    }
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_unknown_and_its_repetition_is_a_commit() {
    let proxy = Proxy::start(&dynamo_server()).await;
    let config = dynamo_config(&proxy.url());
    let store = open(&config).await;
    let partition = random_name();
    let (one, two) = (key(&partition, "one"), key(&partition, "two"));
    for (operation, ops) in [
        ("PutItem", vec![one.clone().put(Expect::Absent, "1")]),
        (
            "TransactWriteItems",
            vec![
                two.clone().put(Expect::Absent, "2"),
                one.clone().delete(Expect::Any),
            ],
        ),
    ] {
        for fault in [Fault::LoseAnswer, Fault::HoldAnswer] {
            for row in [&one, &two] {
                let clear = row.clone().delete(Expect::Any);
                store.transact(Version::random(), &[clear]).await.unwrap();
            }
            proxy.harm_first(operation, 1, fault);
            let version = Version::random();
            let outcome = store.transact(version, &ops).await.unwrap();
            assert_eq!(outcome, Outcome::Unknown);
            assert_eq!(proxy.seen_of(operation).len(), 1, "not sent again by itself");
            let row = store.get(&ops[0].key).await.unwrap().unwrap();
            assert_eq!(row.version, version, "it had its effect");
            assert_eq!(store.transact(version, &ops).await.unwrap(), Outcome::Committed);
            // It isn't applied after somebody else's change, however often it is sent.
            let next = ops[0].key.clone().put(Expect::Version(version), "other");
            store.transact(Version::random(), &[next]).await.unwrap();
            store.transact(version, &ops).await.unwrap();
            assert_eq!(store.get(&ops[0].key).await.unwrap().unwrap().bytes, "other");
        }
    }
    dynamo_delete(&config).await;
}

/// Whether it is a push's transaction: others settle what was pushed before, whenever they come to it.
fn moves_the_tag(seen: &Seen) -> bool {
    const ROW: &[u8] = b"\"t#latest\"";
    seen.operation() == "TransactWriteItems" && seen.body.windows(ROW.len()).any(|part| part == ROW)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_whose_answers_are_lost_is_pushed_once() {
    let broken = start().await;
    let config = Blob::named("config", 100);
    let repository = "answers/lost";
    let client = broken.mesh.client(1);
    client.push_blob(repository, &config).await.unwrap().expect(201);
    for (n, fault) in [Fault::LoseAnswer, Fault::HoldAnswer, Fault::LoseAnswer]
        .into_iter()
        .enumerate()
    {
        let manifest = Manifest::image(&config, &[])
            .annotation("n", &n.to_string())
            .build();
        let left = AtomicBool::new(true);
        broken.dynamo.harm(
            move |seen| match moves_the_tag(seen) && left.swap(false, Ordering::Relaxed) {
                true => fault.clone(),
                false => Fault::None,
            },
        );
        let pushed = client.push_manifest(repository, "latest", &manifest).await;
        pushed
            .unwrap()
            .expect(201)
            .with("docker-content-digest", &manifest.digest);
        let sent = broken
            .dynamo
            .seen()
            .iter()
            .filter(|seen| moves_the_tag(seen))
            .count();
        assert_eq!(sent, 1, "one strong read told that it was applied");
        for client in broken.mesh.clients() {
            let pulled = client.get(format!("/v2/{repository}/manifests/latest")).await;
            pulled.unwrap().expect(200).with_body(&manifest.bytes);
        }
    }
    broken.stop().await;
}
