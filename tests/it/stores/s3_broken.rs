//! The S3 driver over a server that is slow, busy, or cut off in the middle.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt as _;
use portolan::{
    app::Stores,
    config::Limits,
    storage::{
        BlobStore, MemoryMeta, ObjectKey, Part, PartNumber, Payload, S3Blobs, StoreError, StoreErrorKind,
    },
};

use tokio::task::JoinSet;

use super::{
    proxy::{Fault, Proxy, Seen},
    s3_config, s3_server,
};
use crate::support::{
    client::{Ask as _, Request},
    content::{Blob, Random},
    mesh::Plan,
};

const MIB: usize = 1 << 20;

/// A proxy and the store behind it, with bounds that a test can reach.
async fn broken() -> (Proxy, S3Blobs) {
    let proxy = Proxy::start(&s3_server()).await;
    let mut limits = Limits::default();
    limits.s3.answer = Duration::from_secs(1);
    limits.s3.complete = Duration::from_secs(1);
    limits.s3.retries = Duration::from_secs(3);
    limits.s3.backoff_max = Duration::from_millis(200);
    limits.s3.read_stall = Duration::from_millis(300);
    let opened = S3Blobs::open(&s3_config(&proxy.url()), &limits).await;
    let store = opened.unwrap_or_else(|error| panic!("{:#}", anyhow::Error::from(error)));
    (proxy, store)
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::parse(name).unwrap()
}

fn random(length: usize) -> Bytes {
    Random::seeded(length as u64).bytes(length)
}

/// As it comes from a socket.
fn pieces(bytes: &Bytes) -> Payload {
    let mut payload = Payload::default();
    let mut rest = bytes.clone();
    while !rest.is_empty() {
        payload.push(rest.split_to(rest.len().min(200_000)));
    }
    payload
}

async fn read(store: &S3Blobs, key: &ObjectKey, first: u64, last: u64) -> Result<Vec<u8>, StoreError> {
    let mut stream = store.get(key, first, last).await?.bytes;
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(bytes)
}

/// The first byte that each GET asked for.
fn asked_from(proxy: &Proxy) -> Vec<u64> {
    let first = |seen: Seen| {
        let range = seen.header("range").unwrap().strip_prefix("bytes=").unwrap();
        range.split_once('-').unwrap().0.parse().unwrap()
    };
    proxy.seen_of("GetObject").into_iter().map(first).collect()
}

#[tokio::test]
async fn a_read_that_is_cut_goes_on_where_it_was() {
    let (proxy, store) = broken().await;
    let (key, bytes) = (key("cut"), random(3 * MIB + 17));
    store.put(&key, pieces(&bytes)).await.unwrap();
    // Many times more often than a read that gets nowhere would be tried.
    proxy.harm_first("GetObject", 9, Fault::CutAnswer(300_000));
    let last = bytes.len() as u64 - 2;
    assert!(read(&store, &key, 5, last).await.unwrap() == bytes[5..bytes.len() - 1]);
    let expected: Vec<u64> = (0..10).map(|n| 5 + n * 300_000).collect();
    assert_eq!(asked_from(&proxy), expected);
}

#[tokio::test]
async fn a_read_that_stalls_goes_on_where_it_was() {
    let (proxy, store) = broken().await;
    let (key, bytes) = (key("stall"), random(2 * MIB));
    store.put(&key, pieces(&bytes)).await.unwrap();
    proxy.harm_first("GetObject", 2, Fault::StallAnswer(500_000));
    let last = bytes.len() as u64 - 1;
    assert!(read(&store, &key, 0, last).await.unwrap() == bytes);
    assert_eq!(asked_from(&proxy), [0, 500_000, 1_000_000]);
}

#[tokio::test]
async fn a_slow_reader_is_not_taken_for_a_stall() {
    let (proxy, store) = broken().await;
    let (key, bytes) = (key("slow"), random(3 * MIB));
    store.put(&key, pieces(&bytes)).await.unwrap();
    proxy.harm(|_| Fault::None);
    let mut stream = store.get(&key, 0, bytes.len() as u64 - 1).await.unwrap().bytes;
    let mut found = Vec::new();
    let mut pauses = 0;
    while let Some(chunk) = stream.next().await {
        found.extend_from_slice(&chunk.unwrap());
        if found.len() >= pauses * MIB {
            pauses += 1;
            tokio::time::sleep(Duration::from_millis(600)).await;
        }
    }
    assert!(found == bytes);
    assert_eq!(asked_from(&proxy), [0]);
}

#[tokio::test]
async fn a_read_that_gets_nowhere_ends_with_an_error() {
    let (proxy, store) = broken().await;
    let (key, bytes) = (key("nowhere"), random(MIB));
    store.put(&key, pieces(&bytes)).await.unwrap();
    proxy.harm_first("GetObject", 1000, Fault::CutAnswer(0));
    let error = read(&store, &key, 0, 99_999).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(std::error::Error::source(&error).is_some());
    let attempts = Limits::default().s3.read_attempts as usize;
    assert_eq!(asked_from(&proxy), vec![0; attempts]);
}

#[tokio::test]
async fn a_read_never_joins_two_objects() {
    let (proxy, store) = broken().await;
    let store = Arc::new(store);
    let (key, bytes) = (key("joined"), random(2 * MIB));
    store.put(&key, pieces(&bytes)).await.unwrap();
    proxy.harm_first("GetObject", 1, Fault::CutAnswer(500_000));
    let mut stream = store.get(&key, 0, bytes.len() as u64 - 1).await.unwrap().bytes;
    let mut found = stream.next().await.unwrap().unwrap().to_vec();
    // Keys are never used twice; if somebody else does it, nobody gets half of each.
    store.put(&key, pieces(&random(2 * MIB + 1))).await.unwrap();
    let error = loop {
        match stream.next().await.unwrap() {
            Ok(chunk) => found.extend_from_slice(&chunk),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    assert!(found == bytes[..500_000] && stream.next().await.is_none());
}

#[tokio::test]
async fn writes_that_are_cut_are_sent_again_whole() {
    let (proxy, store) = broken().await;
    let (small, large) = (key("small"), key("large"));
    let bytes = random(MIB + 3);
    proxy.harm_first("PutObject", 2, Fault::CutRequest(400_000));
    store.put(&small, pieces(&bytes)).await.unwrap();
    assert_eq!(proxy.seen_of("PutObject").len(), 3);
    let upload = store.begin(&large).await.unwrap();
    proxy.harm_first("UploadPart", 2, Fault::CutRequest(0));
    let number = PartNumber::new(1).unwrap();
    let etag = store.part(&large, &upload, number, pieces(&bytes)).await.unwrap();
    assert_eq!(proxy.seen_of("UploadPart").len(), 3);
    let part = Part {
        number,
        etag,
        length: bytes.len() as u64,
    };
    store.complete(&large, &upload, &[part]).await.unwrap();
    for key in [small, large] {
        assert!(read(&store, &key, 0, bytes.len() as u64 - 1).await.unwrap() == bytes);
    }
}

#[tokio::test]
async fn a_busy_server_is_asked_again_and_then_said_to_be_busy() {
    let (proxy, store) = broken().await;
    let attempts = Limits::default().s3.attempts as usize;
    let slow_down = Fault::Answer(503, "SlowDown");
    proxy.harm_first("PutObject", attempts - 1, slow_down.clone());
    store.put(&key("busy"), pieces(&random(10))).await.unwrap();
    assert_eq!(proxy.seen().len(), attempts);
    proxy.harm_first("PutObject", 1000, slow_down.clone());
    let error = store.put(&key("busy"), pieces(&random(10))).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Throttled);
    assert_eq!(proxy.seen().len(), attempts);
    proxy.harm_first("HeadObject", 1000, slow_down);
    let error = store.head(&key("busy")).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Throttled);
}

#[tokio::test]
async fn many_time_outs_use_up_nobody_elses_attempts() {
    const SILENT: usize = 60;
    let (proxy, store) = broken().await;
    let (store, attempts) = (Arc::new(store), Limits::default().s3.attempts as usize);
    // More than the SDK's own ration of retries would pay for.
    proxy.harm_first("HeadObject", usize::MAX, Fault::Delay(Duration::from_secs(3600)));
    let mut heads = JoinSet::new();
    for _ in 0..SILENT {
        let store = store.clone();
        heads.spawn(async move { store.head(&key("silent")).await.unwrap_err().kind() });
    }
    let kinds = heads.join_all().await;
    assert!(kinds.iter().all(|kind| *kind == StoreErrorKind::Unavailable));
    // Each of them was sent again, and none without bound.
    let sent = proxy.seen_of("HeadObject").len();
    assert!((2 * SILENT..=attempts * SILENT).contains(&sent), "{sent}");
    // The server is back, but busy.
    for n in 0..20 {
        proxy.harm_first("PutObject", attempts - 1, Fault::Answer(500, "InternalError"));
        store.put(&key("back"), pieces(&random(10 + n))).await.unwrap();
        assert_eq!(proxy.seen_of("PutObject").len(), attempts);
        proxy.harm_first("PutObject", usize::MAX, Fault::Answer(500, "InternalError"));
        let error = store.put(&key("back"), pieces(&random(10))).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        assert_eq!(proxy.seen_of("PutObject").len(), attempts);
    }
}

#[tokio::test]
async fn a_conflict_is_asked_again_for_no_request_has_a_condition() {
    let (proxy, store) = broken().await;
    let attempts = Limits::default().s3.attempts as usize;
    let (small, large) = (key("small"), key("large"));
    let number = PartNumber::new(1).unwrap();
    let upload = store.begin(&large).await.unwrap();
    for code in ["OperationAborted", "ExistingObjectIsDirectory", ""] {
        for (operation, times, succeeds) in [
            ("PutObject", attempts - 1, true),
            ("UploadPart", attempts - 1, true),
            ("DeleteObject", attempts - 1, true),
            ("PutObject", attempts, false),
            ("UploadPart", attempts, false),
            ("DeleteObject", attempts, false),
        ] {
            proxy.harm_first(operation, times, Fault::Answer(409, code));
            let done = match operation {
                "PutObject" => store.put(&small, pieces(&random(10))).await.map(drop),
                "UploadPart" => {
                    let part = store.part(&large, &upload, number, pieces(&random(10)));
                    part.await.map(drop)
                }
                _ => store.delete(&small).await,
            };
            assert_eq!(proxy.seen().len(), attempts, "{operation} {code}");
            match done {
                Ok(()) => assert!(succeeds, "{operation} {code}"),
                Err(error) => {
                    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{operation} {code}");
                    assert!(!succeeds, "{operation} {code}: {error}");
                }
            }
        }
    }
    store.abort(&large, &upload).await.unwrap();
}

#[tokio::test]
async fn what_a_server_can_not_do_or_say_is_told_at_once_with_its_reason() {
    let (proxy, store) = broken().await;
    for (fault, reason) in [
        (
            Fault::Answer(501, "NotImplemented"),
            "S3 answered 501 NotImplemented: from the proxy",
        ),
        (
            Fault::AnswerBody(
                200,
                "<InitiateMultipartUpload><UploadId>1</UploadId></InitiateMultipartUpload>",
            ),
            "expected InitiateMultipartUploadResult",
        ),
        (
            Fault::AnswerBody(200, "Please log in"),
            "which can't be understood",
        ),
    ] {
        proxy.harm_first("CreateMultipartUpload", 1000, fault);
        let error = store.begin(&key("upload")).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unsupported);
        let said = format!("{:#}", anyhow::Error::from(error));
        assert!(said.contains(reason), "{said}");
        assert_eq!(proxy.seen().len(), 1, "{said}");

        let opened = S3Blobs::open(&s3_config(&proxy.url()), &Limits::default()).await;
        let said = format!("{:#}", anyhow::Error::from(opened.unwrap_err()));
        assert!(said.contains(reason), "a start says it, too: {said}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up() {
    let (proxy, store) = broken().await;
    for operation in ["PutObject", "HeadObject", "GetObject", "DeleteObject"] {
        proxy.harm_first(operation, 1000, Fault::Delay(Duration::from_secs(3600)));
        let key = key("silent");
        let error = match operation {
            "PutObject" => store.put(&key, pieces(&random(10))).await.unwrap_err(),
            "HeadObject" => store.head(&key).await.map(drop).unwrap_err(),
            "GetObject" => store.get(&key, 0, 0).await.map(drop).unwrap_err(),
            _ => store.delete(&key).await.unwrap_err(),
        };
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{operation}");
        assert!(proxy.seen().len() > 1, "{operation} was tried once");
    }
}

#[tokio::test]
async fn a_server_that_answers_late_is_waited_for() {
    let (proxy, store) = broken().await;
    proxy.harm(|_| Fault::Delay(Duration::from_millis(100)));
    let (key, bytes) = (key("late"), random(10_000));
    store.put(&key, pieces(&bytes)).await.unwrap();
    assert!(read(&store, &key, 0, 9_999).await.unwrap() == bytes);
    assert_eq!(proxy.seen().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_is_acknowledged_though_the_answers_of_its_writes_are_lost() {
    let (proxy, store) = broken().await;
    let stores = Stores {
        meta: Arc::new(MemoryMeta::default()),
        blobs: Arc::new(store),
    };
    let mesh = Plan::over(stores).parts(5 * MIB).start().await;
    let client = mesh.client(0);
    let blobs = [
        ("CompleteMultipartUpload", 11 * MIB),
        ("UploadPart", 11 * MIB + 1),
        ("PutObject", 1000),
    ];
    for (operation, length) in blobs {
        proxy.harm_first(operation, 1, Fault::LoseAnswer);
        let blob = Blob::named(operation, length);
        client.push_blob("lost/answers", &blob).await.unwrap().expect(201);
        assert!(proxy.seen_of(operation).len() > 1, "{operation} was sent once");
        let target = format!("/v2/lost/answers/blobs/{}", blob.digest);
        let pulled = client.ask(Request::get(target)).await.unwrap();
        pulled.expect(200).with_body(&blob.bytes);
    }
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_is_exact_though_the_server_cuts_every_connection() {
    let (proxy, store) = broken().await;
    let stores = Stores {
        meta: Arc::new(MemoryMeta::default()),
        blobs: Arc::new(store),
    };
    let mesh = Plan::over(stores).parts(5 * MIB).start().await;
    let blob = Blob::named("cut everywhere", 12 * MIB + 5);
    let pushed = mesh.client(0).push_blob("cut/everywhere", &blob).await;
    pushed.unwrap().expect(201);
    proxy.harm(|seen| match seen.operation() {
        "GetObject" => Fault::CutAnswer(MIB as u64),
        _ => Fault::None,
    });
    for client in mesh.clients() {
        let target = format!("/v2/cut/everywhere/blobs/{}", blob.digest);
        let pulled = client.ask(Request::get(target)).await.unwrap();
        pulled.expect(200).with_body(&blob.bytes);
    }
    assert_eq!(asked_from(&proxy).len(), 3 * 13);
    mesh.stop().await;
}
