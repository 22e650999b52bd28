//! The S3 driver over a server that works: the contract, what it says on the wire, and what opening finds out.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, future::join_all, stream};
use portolan::{
    admission::BodyError,
    config::{Limits, S3Config, S3Encryption, Secret, limits::RegistryLimits},
    oci::ResolvedRange,
    ownership::Incarnation,
    registry::{Holder, Registry, Settings, Stores, Taken},
    storage::{
        BlobStore, MemoryMeta, MetaStore as _, ObjectKey, PartNumber, Payload, S3Blobs, S3OpenError,
        contract, keys, rows,
    },
};
use prost::Message as _;

use crate::support::content::{Blob, sha256};

use super::{
    proxy::{Fault, Proxy},
    random_name, s3_config, s3_open, s3_server,
};

fn key(name: &str) -> ObjectKey {
    ObjectKey::parse(name).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bucket_keeps_the_contract() {
    let store = Arc::new(s3_open(&s3_config(&s3_server())).await);
    contract::run_blobs(store.clone()).await;
    contract::run_lists(store).await;
}

/// Whatever the server does about parts that aren't named.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_whose_request_died_is_finished_by_another() {
    const PART: usize = 5 << 20;
    let blobs: Arc<dyn BlobStore> = Arc::new(s3_open(&s3_config(&s3_server())).await);
    let meta = Arc::new(MemoryMeta::new());
    let member = |name: &str| {
        let holder = Holder {
            member: name.parse().unwrap(),
            incarnation: Incarnation::random(),
        };
        let stores = Stores {
            meta: meta.clone(),
            blobs: blobs.clone(),
        };
        Registry::new(
            stores,
            holder,
            Settings {
                limits: RegistryLimits {
                    part_size: PART as u64,
                    ..RegistryLimits::default()
                },
                ..Settings::default()
            },
        )
    };
    let (dying, other) = (member("a:1"), member("b:1"));
    let name = "a".parse().unwrap();
    let content = Blob::named("dying", 5 * PART + 99).bytes;
    let whole = |bytes: Bytes| stream::iter([Ok::<_, BodyError>(bytes)]);
    let id = dying.start_upload(&name, None).await.unwrap().id;
    let (first, rest) = (content.slice(..2 * PART), content.slice(2 * PART..));
    dying.append(&name, &id, None, None, whole(first)).await.unwrap();

    let stalled = whole(rest.slice(..2 * PART)).chain(stream::pending());
    let sent = async {
        loop {
            let row = meta.get(&keys::session(&id)).await.unwrap().unwrap();
            let session = rows::Session::decode(row.bytes).unwrap();
            let upload = key(&session.object_key);
            if blobs.last_part(&upload, &session.multipart_id).await.unwrap() == PartNumber::new(4) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        appended = dying.append(&name, &id, None, None, stalled) => panic!("{appended:?}"),
        () = sent => {}
    }
    let digest = sha256(&content).parse().unwrap();
    let length = Some(rest.len() as u64);
    other
        .finish(&name, &id, &digest, None, length, whole(rest))
        .await
        .unwrap();
    let blob = other.blob(&name, &digest).await.unwrap();
    let range = ResolvedRange {
        first: 0,
        last: blob.size - 1,
    };
    let pieces: Vec<Bytes> = other
        .read(&blob, range, Taken::Whole)
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    assert!(pieces.concat() == content);
}

#[tokio::test]
async fn payloads_go_out_unsigned_with_their_length_and_once() {
    let proxy = Proxy::start(&s3_server()).await;
    let store = s3_open(&s3_config(&proxy.url())).await;
    proxy.harm(|_| Fault::None);
    let mut payload = Payload::default();
    for piece in [70_000, 1, 40_000] {
        payload.push(Bytes::from(vec![7; piece]));
    }
    store.put(&key("small"), payload.clone()).await.unwrap();
    let upload = store.begin(&key("large")).await.unwrap();
    let number = PartNumber::new(1).unwrap();
    store.part(&key("large"), &upload, number, payload).await.unwrap();
    store.abort(&key("large"), &upload).await.unwrap();
    let seen = proxy.seen();
    let operations: Vec<_> = seen.iter().map(|seen| seen.operation()).collect();
    assert_eq!(
        operations,
        [
            "PutObject",
            "CreateMultipartUpload",
            "UploadPart",
            "AbortMultipartUpload"
        ]
    );
    for sent in [&seen[0], &seen[2]] {
        assert_eq!(sent.header("x-amz-content-sha256"), Some("UNSIGNED-PAYLOAD"));
        assert_eq!(sent.header("content-length"), Some("110001"));
        for absent in [
            "x-amz-trailer",
            "content-encoding",
            "content-md5",
            "transfer-encoding",
        ] {
            assert_eq!(sent.header(absent), None, "{absent}");
        }
        let sums = sent
            .headers
            .keys()
            .filter(|name| name.as_str().contains("checksum"));
        assert_eq!(sums.count(), 0, "{:?}", sent.headers);
    }
}

#[tokio::test]
async fn what_the_configuration_says_of_objects_is_asked_for() {
    let proxy = Proxy::start(&s3_server()).await;
    let config = S3Config {
        encryption: Some(S3Encryption::Kms(Secret::new("the-key"))),
        storage_class: Some("STANDARD_IA".to_owned()),
        acl: Some("bucket-owner-full-control".to_owned()),
        user_agent: Some("ours/1.0 (a test)".to_owned()),
        ..s3_config(&proxy.url())
    };
    // Whatever the server thinks of a key it doesn't have.
    proxy.harm(|seen| match seen.operation() {
        "PutObject" | "CreateMultipartUpload" => Fault::Answer(403, "AccessDenied"),
        _ => Fault::None,
    });
    let error = S3Blobs::open(&config, &Limits::default()).await.unwrap_err();
    assert!(
        matches!(&error, S3OpenError::Denied { right, .. } if right.starts_with("s3:PutObject")),
        "{error}"
    );
    let put = proxy.seen_of("PutObject").remove(0);
    for (name, value) in [
        ("x-amz-server-side-encryption", "aws:kms"),
        ("x-amz-server-side-encryption-aws-kms-key-id", "the-key"),
        ("x-amz-storage-class", "STANDARD_IA"),
        ("x-amz-acl", "bucket-owner-full-control"),
    ] {
        assert_eq!(put.header(name), Some(value), "{name}");
    }
    let agent = put.header("user-agent").unwrap();
    let own = concat!(" portolan/", env!("CARGO_PKG_VERSION"), " ours/1.0 (a test)");
    assert!(
        agent.starts_with("aws-sdk-rust/") && agent.ends_with(own),
        "{agent}"
    );
    let path = format!("/{}/{}/probe-", config.bucket, config.prefix);
    assert!(put.uri.path().starts_with(&path), "{}", put.uri);
}

#[tokio::test]
async fn without_a_prefix_keys_are_the_whole_name() {
    let proxy = Proxy::start(&s3_server()).await;
    let config = S3Config {
        prefix: String::new(),
        ..s3_config(&proxy.url())
    };
    let store = s3_open(&config).await;
    proxy.harm(|_| Fault::None);
    let key = key(&format!("it/{}", random_name()));
    store.put(&key, Payload::default()).await.unwrap();
    assert_eq!(proxy.seen()[0].uri.path(), format!("/{}/{key}", config.bucket));
    store.delete(&key).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_members_may_create_the_bucket_at_once() {
    let config = S3Config {
        bucket: format!("portolan-{}", random_name()),
        ..s3_config(&s3_server())
    };
    let stores = join_all((0..10).map(|_| s3_open(&config))).await;
    let key = key("seen-by-all");
    stores[0].put(&key, Payload::default()).await.unwrap();
    for store in &stores {
        assert_eq!(
            store.head(&key).await.unwrap().map(|object| object.length),
            Some(0)
        );
    }
    stores[0].delete(&key).await.unwrap();
}

#[tokio::test]
async fn members_that_start_at_once_try_the_bucket_apart() {
    let proxy = Proxy::start(&s3_server()).await;
    let config = s3_config(&proxy.url());
    join_all((0..4).map(|_| s3_open(&config))).await;
    let tried = proxy.seen_of("PutObject");
    let folder = format!("/{}/{}/", config.bucket, config.prefix);
    let names: BTreeSet<&str> = tried
        .iter()
        .map(|seen| seen.uri.path().strip_prefix(&folder).unwrap())
        .collect();
    // In no folder that goes away with the last object in it, where there are folders.
    assert!(names.iter().all(|name| !name.contains('/')), "{names:?}");
    assert_eq!(names.len(), 4);
}

#[tokio::test]
async fn a_missing_bucket_is_named_with_what_to_change_and_not_created() {
    let config = S3Config {
        bucket: format!("portolan-{}", random_name()),
        create_bucket: false,
        ..s3_config(&s3_server())
    };
    for _ in 0..2 {
        let error = S3Blobs::open(&config, &Limits::default()).await.unwrap_err();
        assert!(matches!(error, S3OpenError::NoBucket { .. }), "{error:?}");
        let text = error.to_string();
        for part in [config.bucket.as_str(), s3_server().as_str(), "createbucket: true"] {
            assert!(text.contains(part), "{text}");
        }
    }
}

#[tokio::test]
async fn wrong_credentials_are_named_as_such() {
    let mut config = s3_config(&s3_server());
    for (access, secret) in [("nobody", "testsecret"), ("testkey", "wrong")] {
        let credentials = config.credentials.as_mut().unwrap();
        credentials.access_key = access.to_owned();
        credentials.secret_key = Secret::new(secret);
        let error = S3Blobs::open(&config, &Limits::default()).await.unwrap_err();
        assert!(matches!(error, S3OpenError::Credentials { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn every_missing_right_is_named_and_the_probe_leaves_nothing() {
    let proxy = Proxy::start(&s3_server()).await;
    let config = s3_config(&proxy.url());
    s3_open(&config).await;
    for (operation, expected) in [
        ("ListObjects", "s3:ListBucket"),
        ("PutObject", "s3:PutObject"),
        ("GetObject", "s3:GetObject"),
        ("CreateMultipartUpload", "s3:PutObject"),
        ("ListMultipartUploads", "s3:ListBucketMultipartUploads"),
        ("AbortMultipartUpload", "s3:AbortMultipartUpload"),
        ("DeleteObject", "s3:DeleteObject"),
    ] {
        proxy.harm(move |seen| match seen.operation() == operation {
            true => Fault::Answer(403, "AccessDenied"),
            false => Fault::None,
        });
        let error = S3Blobs::open(&config, &Limits::default()).await.unwrap_err();
        assert!(
            matches!(&error, S3OpenError::Denied { right, .. } if right.starts_with(expected)),
            "{operation}: {error}"
        );
        let left = !matches!(operation, "ListObjects" | "PutObject" | "DeleteObject");
        assert_eq!(
            proxy.seen_of("DeleteObject").len(),
            usize::from(left || operation == "DeleteObject")
        );
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_in_bounded_time() {
    let config = s3_config("http://127.0.0.1:1");
    let error = S3Blobs::open(&config, &Limits::default()).await.unwrap_err();
    assert!(matches!(error, S3OpenError::Failed { .. }), "{error:?}");
    assert!(error.to_string().contains("http://127.0.0.1:1"), "{error}");
}
