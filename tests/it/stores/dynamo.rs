//! The DynamoDB driver over a server that works: the contract, and what opening finds out.

use std::sync::Arc;

use aws_sdk_dynamodb::{
    Client,
    error::ProvideErrorMetadata as _,
    primitives::Blob,
    types::{
        AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
        TableDescription,
    },
};
use futures_util::future::join_all;
use parking_lot::Mutex;
use portolan::{
    config::Limits,
    storage::{
        DynamoMeta, Expect, Key, MetaStore as _, Outcome, Space, TablesError, Version, contract, rows,
    },
};
use prost::Message as _;

use super::{
    dynamo_client, dynamo_config, dynamo_delete, dynamo_open, dynamo_server,
    proxy::{Proxy, busy_dynamo},
};
use crate::support::content::{Random, run_seed};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tables_keep_the_contract() {
    let config = dynamo_config(&dynamo_server());
    let store = Arc::new(dynamo_open(&config).await);
    contract::run_meta(store.clone()).await;
    contract::run_walks(store).await;
    dynamo_delete(&config).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busy_tables_keep_the_contract() {
    let seed = run_seed("busy_tables_keep_the_contract");
    let proxy = Proxy::start(&dynamo_server()).await;
    let config = dynamo_config(&proxy.url());
    let store = Arc::new(dynamo_open(&config).await);
    let random = Mutex::new(Random::seeded(seed));
    proxy.harm(move |seen| busy_dynamo(seen, &mut random.lock(), 10));
    contract::run_meta(store).await;
    let (seen, cancelled) = (proxy.seen().len(), proxy.seen_of("TransactWriteItems").len());
    println!("{seen} requests, {cancelled} of them transactions that write");
    dynamo_delete(&config).await;
}

/// Items of so many bytes, all of them in one partition; gives how many each page of them has.
async fn pages(client: &Client, table: &str, items: usize, bytes: usize) -> Vec<usize> {
    for n in 0..items {
        let item = [
            ("pk", AttributeValue::S("pages".to_owned())),
            ("sk", AttributeValue::S(n.to_string())),
            ("d", AttributeValue::B(Blob::new(vec![7; bytes]))),
        ];
        let item = item.map(|(name, value)| (name.to_owned(), value));
        let put = client.put_item().table_name(table).set_item(Some(item.into()));
        put.send().await.unwrap();
    }
    let (mut pages, mut start) = (Vec::new(), None);
    loop {
        let page = client
            .query()
            .table_name(table)
            .key_condition_expression("pk = :p")
            .expression_attribute_values(":p", AttributeValue::S("pages".to_owned()))
            .set_exclusive_start_key(start)
            .send()
            .await
            .unwrap();
        pages.push(page.items().len());
        start = page.last_evaluated_key;
        if start.is_none() {
            return pages;
        }
    }
}

/// What the contract relies on in a counterpart: it is no evidence where that is otherwise than in AWS.
#[tokio::test]
async fn the_counterpart_has_the_bounds_of_aws() {
    let config = dynamo_config(&dynamo_server());
    drop(dynamo_open(&config).await);
    let (client, table) = (dynamo_client().await, &config.tables.cache);
    // A page ends at 1 MiB.
    assert_eq!(pages(&client, table, 8, 300_000).await, [3, 3, 2]);
    // An item has at most 400 KiB, names and keys included.
    let put = |bytes: usize| {
        client
            .put_item()
            .table_name(table)
            .item("pk", AttributeValue::S("big".to_owned()))
            .item("sk", AttributeValue::S("1".to_owned()))
            .item("d", AttributeValue::B(Blob::new(vec![7; bytes])))
            .send()
    };
    let names = "pk".len() + "big".len() + "sk".len() + "1".len() + "d".len();
    put((400 << 10) - names).await.unwrap();
    let refused = put((400 << 10) - names + 1).await.unwrap_err();
    assert_eq!(refused.code(), Some("ValidationException"), "{refused:?}");
    dynamo_delete(&config).await;
}

async fn describe(client: &Client, table: &str) -> TableDescription {
    let described = client.describe_table().table_name(table).send().await;
    described.unwrap().table.unwrap()
}

#[tokio::test]
async fn ten_members_that_start_at_once_make_the_tables_and_share_them() {
    let config = dynamo_config(&dynamo_server());
    let members = join_all((0..10).map(|_| dynamo_open(&config))).await;
    let key = Key {
        space: Space::Members,
        partition: "_members".to_owned(),
        sort: "first".to_owned(),
    };
    let op = key.clone().put(Expect::Absent, "here");
    let outcome = members[0].transact(Version::random(), &[op]).await.unwrap();
    assert_eq!(outcome, Outcome::Committed);
    for member in &members {
        assert_eq!(member.get(&key).await.unwrap().unwrap().bytes, "here");
    }
    // One more, later.
    dynamo_open(&config).await;

    let client = dynamo_client().await;
    for (key, table) in config.tables.by_key() {
        let description = describe(&client, table).await;
        let billing = description.billing_mode_summary.unwrap().billing_mode;
        assert_eq!(billing, Some(BillingMode::PayPerRequest), "{key}");
        assert!(description.global_secondary_indexes.is_none(), "{key}");
    }
    dynamo_delete(&config).await;
}

/// A table as zot makes it: one key, of another name.
async fn make_zot_table(client: &Client, table: &str) {
    let key = KeySchemaElement::builder()
        .attribute_name("TableKey")
        .key_type(KeyType::Hash);
    let attribute = AttributeDefinition::builder()
        .attribute_name("TableKey")
        .attribute_type(ScalarAttributeType::S);
    client
        .create_table()
        .table_name(table)
        .key_schema(key.build().unwrap())
        .attribute_definitions(attribute.build().unwrap())
        .billing_mode(BillingMode::PayPerRequest)
        .send()
        .await
        .unwrap();
}

#[tokio::test]
async fn a_table_of_zot_is_refused_by_name_and_left_as_it_is() {
    let config = dynamo_config(&dynamo_server());
    let table = &config.tables.repo_meta;
    let client = dynamo_client().await;
    make_zot_table(&client, table).await;
    let item = [
        ("TableKey", AttributeValue::S("library/alpine".to_owned())),
        ("RepoMeta", AttributeValue::B(Blob::new(*b"zot's"))),
    ];
    let item = item.map(|(name, value)| (name.to_owned(), value));
    let put = client
        .put_item()
        .table_name(table)
        .set_item(Some(item.clone().into()));
    put.send().await.unwrap();
    let before = describe(&client, table).await;

    let error = DynamoMeta::open(&config, &Limits::default()).await.err().unwrap();
    assert!(matches!(error, TablesError::Foreign { .. }), "{error:?}");
    let text = error.to_string();
    for part in [
        table,
        "storage.cacheDriver.repoMetaTablename",
        "TableKey (HASH, S)",
        "zot",
    ] {
        assert!(text.contains(part), "{text}");
    }

    assert_eq!(describe(&client, table).await.key_schema, before.key_schema);
    let found = client
        .scan()
        .table_name(table)
        .send()
        .await
        .unwrap()
        .items
        .unwrap();
    assert_eq!(found, [item.into()]);
    dynamo_delete(&config).await;
}

/// The row that says the schema.
fn schema_key() -> [(String, AttributeValue); 2] {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    [("pk".to_owned(), text("schema")), ("sk".to_owned(), text("."))]
}

#[tokio::test]
async fn tables_of_a_newer_release_are_refused() {
    let config = dynamo_config(&dynamo_server());
    drop(dynamo_open(&config).await);
    let client = dynamo_client().await;
    let table = &config.tables.version;
    let read = client
        .get_item()
        .table_name(table)
        .set_key(Some(schema_key().into()));
    let item = read.send().await.unwrap().item.unwrap();
    let bytes = item["d"].as_b().unwrap().clone().into_inner();
    let ours = rows::Schema::decode(bytes.as_slice()).unwrap();
    assert_eq!(
        (ours.number, ours.oldest_reader, ours.oldest_writer),
        (rows::SCHEMA, rows::SCHEMA, rows::SCHEMA)
    );

    let newer = rows::SCHEMA + 1;
    for (oldest_reader, oldest_writer, refused) in [
        (rows::SCHEMA, rows::SCHEMA, false),
        (rows::SCHEMA, newer, true),
        (newer, newer, true),
    ] {
        let schema = rows::Schema {
            number: newer,
            oldest_reader,
            oldest_writer,
        };
        let mut item = item.clone();
        item.insert(
            "d".to_owned(),
            AttributeValue::B(Blob::new(schema.encode_to_vec())),
        );
        let put = client.put_item().table_name(table).set_item(Some(item));
        put.send().await.unwrap();
        match DynamoMeta::open(&config, &Limits::default()).await {
            Ok(_) => assert!(!refused),
            Err(error) => {
                assert!(refused && matches!(error, TablesError::Newer { .. }), "{error:?}");
                assert!(error.to_string().contains(table), "{error}");
            }
        }
    }
    dynamo_delete(&config).await;
}

#[tokio::test]
async fn where_nobody_listens_the_start_says_what_to_check() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let config = dynamo_config(&format!("http://{address}"));
    let error = DynamoMeta::open(&config, &Limits::default()).await.err().unwrap();
    let text = format!("{:#}", anyhow::Error::from(error));
    for part in ["endpoint", "storage.cacheDriver.cacheTablename", "refused"] {
        assert!(text.contains(part), "{text}");
    }
}
