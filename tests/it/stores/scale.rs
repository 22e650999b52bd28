//! That listings and starts cost the same over many repositories and tags, counted between the drivers and the servers.

use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

use aws_sdk_dynamodb::{
    primitives::Blob as Bytes,
    types::{AttributeValue, PutRequest, WriteRequest},
};
use futures_util::{StreamExt as _, stream};
use portolan::{
    config::Limits,
    oci::{RepoName, Tag},
    storage::{Key, Version, keys, rows},
};
use prost::Message as _;

use super::{
    dynamo_client,
    proxied::{Proxied, by_operation, quiet},
};
use crate::support::{
    client::{Ask as _, Client},
    content::{Blob, Manifest},
    thorough,
};

/// How many repositories, and how many tags in one of them: many pages, of 1,000 each.
fn many() -> usize {
    if thorough() { 100_000 } else { 10_000 }
}

const REPOSITORY: &str = "many/tags";

/// Batches in flight.
const LOADERS: usize = 8;

/// Rows of one BatchWriteItem: the most it takes.
const BATCH: usize = 25;

fn catalog_entry(n: usize) -> (Key, Vec<u8>) {
    let name = RepoName::parse(&format!("many/repository-{n:06}")).unwrap();
    let row = rows::CatalogEntry {
        min_reader: rows::SCHEMA,
    };
    (keys::catalog_entry(&name), row.encode_to_vec())
}

fn tag(n: usize, manifest: &Manifest) -> (Key, Vec<u8>) {
    let repository = RepoName::parse(REPOSITORY).unwrap();
    let tag = Tag::parse(&format!("tag-{n:06}")).unwrap();
    let row = rows::Tag {
        min_reader: rows::SCHEMA,
        digest: manifest.digest.clone(),
        media_type: manifest.media_type.clone(),
        size: manifest.bytes.len() as u64,
        pushed_ms: 1,
        pushed_by: String::new(),
    };
    (keys::tag(&repository, &tag), row.encode_to_vec())
}

fn put((key, bytes): (Key, Vec<u8>)) -> WriteRequest {
    let version = Version::random().to_bytes();
    let item = PutRequest::builder()
        .item("pk", AttributeValue::S(key.partition))
        .item("sk", AttributeValue::S(key.sort))
        .item("v", AttributeValue::B(Bytes::new(version)))
        .item("d", AttributeValue::B(Bytes::new(bytes)));
    WriteRequest::builder().put_request(item.build().unwrap()).build()
}

/// Writes rows as no member would: many at a time, without a condition.
async fn load(table: &str, row: impl Fn(usize) -> (Key, Vec<u8>)) {
    let client = dynamo_client().await;
    let (client, row) = (&client, &row);
    stream::iter((0..many()).step_by(BATCH))
        .for_each_concurrent(LOADERS, |first| async move {
            let rows = (first..first + BATCH).map(|n| put(row(n))).collect();
            let mut left = HashMap::from([(table.to_owned(), rows)]);
            while !left.is_empty() {
                let batch = client.batch_write_item().set_request_items(Some(left));
                left = batch.send().await.unwrap().unprocessed_items.unwrap_or_default();
            }
        })
        .await;
}

/// What has been asked of DynamoDB and of S3, by operation.
fn costs(counted: &Proxied) -> [BTreeMap<String, usize>; 2] {
    [by_operation(&counted.asked()), by_operation(&counted.s3.seen())]
}

/// Reads a listing by pages of 1,000 through all members in turn, and gives the names that `field` has.
async fn walk(counted: &Proxied, clients: &[Client], path: &str, field: &str) -> Vec<String> {
    let (mut names, mut costs) = (Vec::new(), Vec::new());
    let mut target = format!("{path}?n=1000");
    for client in clients.iter().cycle() {
        counted.count();
        let page = client.get(target).await.unwrap().expect(200);
        costs.push(counted.asked().len());
        let listed = page.json()[field].as_array().unwrap().clone();
        names.extend(listed.iter().map(|name| name.as_str().unwrap().to_owned()));
        let Some(link) = page.header("link") else { break };
        assert_eq!(listed.len(), 1000);
        target = link[1..link.find('>').unwrap()].to_owned();
    }
    let (least, most) = (*costs.iter().min().unwrap(), *costs.iter().max().unwrap());
    println!(
        "{path}: {} names, {} pages, {least} to {most} DynamoDB requests each",
        names.len(),
        costs.len()
    );
    assert!(most <= 2, "{costs:?}");
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_and_starts_cost_the_same_over_many() {
    let counted = Proxied::start(&Limits::default(), quiet).await;
    let clients = counted.mesh.clients();
    let config = Blob::named("config", 100);
    let manifest = Manifest::image(&config, &[]).build();
    let pushed = clients[0].push_blob(REPOSITORY, &config).await;
    pushed.unwrap().expect(201);
    let tagged = clients[0]
        .push_manifest(REPOSITORY, "tag-000000", &manifest)
        .await;
    tagged.unwrap().expect(201);
    let counted = counted.restart(&Limits::default(), quiet).await;
    let before = costs(&counted);

    let began = Instant::now();
    let table = &counted.tables.tables.repo_meta;
    load(table, catalog_entry).await;
    load(table, |n| tag(n, &manifest)).await;
    println!("loaded {} rows in {:?}", 2 * many(), began.elapsed());

    let counted = counted.restart(&Limits::default(), quiet).await;
    let (after, clients) = (costs(&counted), counted.mesh.clients());
    println!("the start of three members: {before:?} over one repository, {after:?} over many");
    assert_eq!(before, after);
    let names = walk(&counted, &clients, "/v2/_catalog", "repositories").await;
    assert!(names.is_sorted() && names.len() == many() + 1);
    let names = walk(&counted, &clients, &format!("/v2/{REPOSITORY}/tags/list"), "tags").await;
    assert!(names.is_sorted() && names.len() == many());
    counted.stop().await;
}
