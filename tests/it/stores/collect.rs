//! What collection leaves in S3 and DynamoDB.

use std::{collections::BTreeSet, time::Duration};

use aws_sdk_s3::config::{BehaviorVersion, Region};
use portolan::config::{DynamoConfig, Limits, S3Config};

use super::{
    dynamo_client, dynamo_config, dynamo_delete, dynamo_server, proxied::mesh_over, s3_config, s3_server,
};
use crate::support::{
    client::{Ask as _, Client, Request},
    content::{Blob, Manifest},
    eventually,
    mesh::MEMBERS,
};

/// What nobody needs goes while one looks.
fn hasten(limits: &mut Limits) {
    let short = Duration::from_millis(500);
    limits.registry.session_ttl = Duration::from_secs(10);
    // Longer than a push takes from its first layer to its manifest.
    limits.registry.link_grace = Duration::from_secs(4);
    for delay in [
        &mut limits.registry.object_delay,
        &mut limits.registry.trash_delay,
        &mut limits.registry.trash_again,
        &mut limits.registry.tombstone,
    ] {
        *delay = short;
    }
    limits.registry.history = Duration::ZERO;
    limits.registry.clock_margin = Duration::ZERO;
    limits.upkeep.interval = Duration::from_millis(200);
    limits.collection.interval = Duration::from_millis(200);
}

/// Much longer than it takes until what is deleted is out of sight.
const HISTORY: Duration = Duration::from_secs(30);

/// The keys of all objects and multipart uploads below the prefix.
pub(super) async fn bucket(config: &S3Config) -> BTreeSet<String> {
    let sdk = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(config.endpoint.as_deref().unwrap())
        .force_path_style(true)
        .credentials_provider(aws_credential_types::Credentials::new(
            std::env::var("AWS_ACCESS_KEY_ID").unwrap(),
            std::env::var("AWS_SECRET_ACCESS_KEY").unwrap(),
            None,
            None,
            "test",
        ))
        .build();
    let client = aws_sdk_s3::Client::from_conf(sdk);
    let prefix = config.prefix.trim_start_matches('/');
    let mut keys = BTreeSet::new();
    let mut next = None;
    loop {
        let page = client
            .list_objects_v2()
            .bucket(&config.bucket)
            .prefix(prefix)
            .set_continuation_token(next)
            .send()
            .await
            .unwrap();
        keys.extend(
            page.contents
                .unwrap_or_default()
                .into_iter()
                .filter_map(|object| object.key),
        );
        next = page.next_continuation_token;
        if next.is_none() {
            return keys;
        }
    }
}

/// Partition and sort key of every row, but for members, the schema's number, and what tells what names were.
async fn rows(tables: &DynamoConfig) -> BTreeSet<(String, String)> {
    let client = dynamo_client().await;
    let mut found = BTreeSet::new();
    for (_, table) in tables.tables.by_key() {
        let mut next = None;
        loop {
            let page = client
                .scan()
                .table_name(table)
                .consistent_read(true)
                .set_exclusive_start_key(next)
                .send()
                .await
                .unwrap();
            for item in page.items.unwrap_or_default() {
                let text = |name: &str| item[name].as_s().unwrap().clone();
                found.insert((text("pk"), text("sk")));
            }
            next = page.last_evaluated_key.filter(|key| !key.is_empty());
            if next.is_none() {
                break;
            }
        }
    }
    let is_of_changes = |partition: &str, sort: &str| {
        let is_history = sort.starts_with("h#") || sort.starts_with("e#");
        let told = ["_changes#", "_feed#", "_days#"];
        is_history || told.iter().any(|prefix| partition.starts_with(prefix))
    };
    found.retain(|(partition, sort)| {
        partition != "_members" && partition != "schema" && !is_of_changes(partition, sort)
    });
    found
}

async fn push_image(client: &Client, repository: &str, tag: &str, layers: &[&Blob]) -> Manifest {
    let config = Blob::new("{}");
    for blob in layers.iter().copied().chain([&config]) {
        client.push_blob(repository, blob).await.unwrap().expect(201);
    }
    let manifest = Manifest::image(&config, layers).build();
    client
        .push_manifest(repository, tag, &manifest)
        .await
        .unwrap()
        .expect(201);
    manifest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_of_a_deleted_image_leaves_bucket_and_tables() {
    let (tables, s3) = (dynamo_config(&dynamo_server()), s3_config(&s3_server()));
    let mesh = mesh_over(&tables, &s3, &Limits::default(), |plan| plan.limits(hasten)).await;
    let (kept, gone) = (mesh.names().owned_by(0, "kept"), mesh.names().owned_by(1, "gone"));
    // Made by parts, and by one request.
    let (large, small) = (Blob::named("large", 6 << 20), Blob::named("small", 1000));
    let shared = Blob::named("shared", 2000);
    let client = mesh.client(2);
    let stays = push_image(&client, &kept, "v1", &[&shared]).await;
    let before = eventually_still(&s3, &tables).await;
    let goes = push_image(&client, &gone, "v1", &[&large, &small, &shared]).await;
    assert!(bucket(&s3).await.len() >= before.0.len() + 2);

    let target = format!("/v2/{gone}/manifests/{}", goes.digest);
    mesh.client(0)
        .ask(Request::delete(target))
        .await
        .unwrap()
        .expect(202);
    eventually("bucket and tables are as they were before the push", || async {
        (bucket(&s3).await, rows(&tables).await) == before
    })
    .await;
    for member in 0..MEMBERS {
        let target = format!("/v2/{kept}/blobs/{}", shared.digest);
        mesh.client(member)
            .get(target)
            .await
            .unwrap()
            .expect(200)
            .with_body(&shared.bytes);
        let target = format!("/v2/{kept}/manifests/v1");
        let manifest = mesh.client(member).get(target).await.unwrap().expect(200);
        manifest.with_body(&stays.bytes);
    }
    mesh.stop().await;
    dynamo_delete(&tables).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_deleted_is_kept_for_its_history_comes_back_and_leaves_then() {
    let (tables, s3) = (dynamo_config(&dynamo_server()), s3_config(&s3_server()));
    let mesh = mesh_over(&tables, &s3, &Limits::default(), |plan| {
        plan.limits(hasten)
            .limits(|limits| limits.registry.history = HISTORY)
    })
    .await;
    let (kept, gone) = (mesh.names().owned_by(0, "kept"), mesh.names().owned_by(1, "gone"));
    let (mine, shared) = (Blob::named("mine", 1000), Blob::named("shared", 2000));
    let client = mesh.client(2);
    push_image(&client, &kept, "v1", &[&shared]).await;
    let before = eventually_still(&s3, &tables).await;
    let image = push_image(&client, &gone, "v1", &[&mine, &shared]).await;
    let by_digest = format!("/v2/{gone}/manifests/{}", image.digest);
    let delete = || Request::delete(&by_digest);
    mesh.client(0).ask(delete()).await.unwrap().expect(202);
    // A HEAD would keep it for its client.
    eventually("nobody finds what only it uses", || async {
        let target = format!("/v2/{gone}/blobs/{}", mine.digest);
        mesh.client(0).get(target).await.unwrap().status == 404
    })
    .await;
    // Not those that were pushed in vain, for others had the same.
    assert_eq!(bucket(&s3).await.len(), before.0.len() + 1);
    let target = format!("/v2/{gone}/_portolan/restore?digest={}", image.digest);
    let restored = mesh.client(0).ask(Request::post(target).body("")).await.unwrap();
    restored.expect(200);
    for member in 0..MEMBERS {
        let client = mesh.client(member);
        let manifest = client.get(format!("/v2/{gone}/manifests/v1")).await.unwrap();
        manifest.expect(200).with_body(&image.bytes);
        for blob in [&mine, &shared] {
            let target = format!("/v2/{gone}/blobs/{}", blob.digest);
            client
                .get(target)
                .await
                .unwrap()
                .expect(200)
                .with_body(&blob.bytes);
        }
    }
    mesh.client(2).ask(delete()).await.unwrap().expect(202);
    eventually("bucket and tables are as they were before the push", || async {
        (bucket(&s3).await, rows(&tables).await) == before
    })
    .await;
    mesh.stop().await;
    dynamo_delete(&tables).await;
}

/// Bucket and tables once nothing is due any more: what stays as long as the image does.
async fn eventually_still(
    s3: &S3Config,
    tables: &DynamoConfig,
) -> (BTreeSet<String>, BTreeSet<(String, String)>) {
    eventually("nothing is due", || async {
        let is_due = |(partition, _): &(String, String)| {
            partition.starts_with("_due") || partition.starts_with("_collect")
        };
        !rows(tables).await.iter().any(is_due)
    })
    .await;
    (bucket(s3).await, rows(tables).await)
}
