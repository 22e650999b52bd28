//! What is damaged in a bucket is found and mended, with rows in DynamoDB.

use std::sync::Arc;

use bytes::Bytes;
use portolan::{
    app::Stores,
    config::Limits,
    storage::{BlobStore as _, ObjectKey, S3Blobs},
};
use serde_json::{Value, json};

use super::{
    configured, dynamo_config, dynamo_delete, dynamo_open, dynamo_server,
    proxied::{mesh_over, quiet},
    s3_config, s3_open, s3_server,
};
use crate::{
    scrub::{LAYER, comes_whole, damage_is_found_and_mended, object, scrub},
    support::{
        client::{Ask as _, Request},
        content::{Blob, Manifest},
        mesh::{MEMBERS, Mesh},
    },
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_in_a_bucket_is_found_by_the_members_and_mended() {
    let tables = dynamo_config(&dynamo_server());
    let stores = Stores {
        meta: Arc::new(dynamo_open(&tables).await),
        blobs: Arc::new(s3_open(&s3_config(&s3_server())).await),
    };
    damage_is_found_and_mended(stores, 5 << 20).await;
    dynamo_delete(&tables).await;
}

/// Whether a HEAD finds the blob, which all members see alike.
async fn is_found(mesh: &Mesh, name: &str, blob: &Blob) -> bool {
    let mut statuses = Vec::new();
    for member in 0..MEMBERS {
        let target = format!("/v2/{name}/blobs/{}", blob.digest);
        statuses.push(mesh.client(member).head(target).await.unwrap().status);
    }
    statuses.dedup();
    match statuses.as_slice() {
        [200] => true,
        [404] => false,
        _ => panic!("{name}: {statuses:?}"),
    }
}

/// Puts it over what is there, as another client of the bucket would.
async fn replace(bucket: &S3Blobs, key: &ObjectKey, bytes: impl Into<Bytes>) {
    bucket.put(key, bytes.into().into()).await.unwrap();
}

/// Three images in two repositories each: with a byte that is flipped, cut short, and copied within the bucket, which gives what was
/// written in parts another ETag.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_names_what_is_damaged_in_a_bucket_beside_members_that_run() {
    let (tables, s3) = (dynamo_config(&dynamo_server()), s3_config(&s3_server()));
    let unseen = |limits: &mut Limits| limits.registry.seen_for = std::time::Duration::ZERO;
    let mesh = mesh_over(&tables, &s3, &Limits::default(), |plan| {
        quiet(plan).limits(unseen)
    })
    .await;
    let (meta, bucket) = (dynamo_open(&tables).await, s3_open(&s3).await);
    let config = Blob::new("{}");
    let [flipped, short] = ["flipped", "short"].map(|name| Blob::named(name, LAYER));
    let copied = Blob::named("copied", 6 << 20);
    let images = [("v1", &flipped), ("v2", &short), ("v3", &copied)];
    for (n, name) in ["team/app", "team/base"].into_iter().enumerate() {
        let client = mesh.client(n);
        client.push_blob(name, &config).await.unwrap().expect(201);
        for (tag, layer) in images {
            client.push_blob(name, layer).await.unwrap().expect(201);
            let image = Manifest::image(&config, &[layer]).build();
            client.push_manifest(name, tag, &image).await.unwrap().expect(201);
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    let configuration = json!({
        "storage": configured(&s3, &tables),
        "http": {"address": "127.0.0.1", "port": 1},
    });
    std::fs::write(&file, configuration.to_string()).unwrap();

    let mut bytes = flipped.bytes.to_vec();
    bytes[LAYER / 2] ^= 1;
    replace(&bucket, &object(&meta, &flipped).await, bytes).await;
    replace(
        &bucket,
        &object(&meta, &short).await,
        short.bytes.slice(..LAYER - 1),
    )
    .await;
    replace(&bucket, &object(&meta, &copied).await, copied.bytes.clone()).await;
    assert!(!is_found(&mesh, "team/app", &copied).await, "it has another ETag");

    let damaged = |layer: &Blob, damage: &str, tag: &str| json!({"digest": layer.digest, "damage": damage, "repositories": ["team/app", "team/base"], "tags": [tag]});
    let mut expected = [
        damaged(&flipped, "has other bytes than were written", "v1"),
        damaged(&short, "has another length than was written", "v2"),
    ];
    let by_digest = |line: &Value| line["digest"].to_string();
    expected.sort_by_key(by_digest);
    for _ in 0..2 {
        let (status, mut lines, said) = scrub(&file, &["--rate", "0"]).await;
        let sums = lines.pop().unwrap();
        lines.sort_by_key(by_digest);
        assert_eq!((status, lines.as_slice()), (Some(1), &expected[..]), "{said}");
        // One of what both have.
        let counts = ["repositories", "read", "damaged", "unread"].map(|name| &sums[name]);
        assert_eq!(counts, [&json!(2), &json!(10), &json!(2), &json!(0)]);
    }
    assert!(is_found(&mesh, "team/app", &copied).await, "the new one is known");
    for (tag, layer) in images {
        let is_right = layer.digest == copied.digest;
        for (member, name) in (0..MEMBERS).flat_map(|n| [(n, "team/app"), (n, "team/base")]) {
            let came = comes_whole(&mesh, member, name, layer).await;
            assert_eq!(came, is_right, "{name}:{tag} through {member}");
            // Nor is it to be had in pieces.
            let piece =
                Request::get(format!("/v2/{name}/blobs/{}", layer.digest)).header("range", "bytes=1-");
            let piece = mesh.client(member).ask(piece).await;
            let is_all = piece.is_ok_and(|piece| piece.status == 206 && piece.body.len() == layer.len() - 1);
            assert_eq!(is_all, is_right, "{name}:{tag} through {member}");
        }
        assert_eq!(is_found(&mesh, "team/base", layer).await, is_right);
    }
    for layer in [&flipped, &short] {
        let pushed = mesh.client(2).push_blob("team/base", layer).await;
        pushed.unwrap().expect(201);
        for name in ["team/app", "team/base"] {
            assert!(comes_whole(&mesh, 0, name, layer).await);
        }
    }
    let (status, lines, said) = scrub(&file, &["--rate", "0"]).await;
    assert_eq!((status, lines.len()), (Some(0), 1), "{lines:?} {said}");
    mesh.stop().await;
    dynamo_delete(&tables).await;
}
