//! The bucket and the tables.

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use portolan::config::{DynamoConfig, S3Config};
use serde_json::json;

use super::Trial;
use crate::{
    stores::{
        configured, dynamo_client, dynamo_config, dynamo_delete, dynamo_open, dynamo_server,
        postgres::{opened as database_opened, server::Server},
        proxy::{Fault, Proxy},
        redis::{opened as redis_opened, server::Server as RedisServer},
        s3_config, s3_open, s3_server,
    },
    support::{
        mesh::certificates,
        ports::{free_port, loopback},
    },
};

/// A member on these stores.
fn on(blobs: &S3Config, meta: &DynamoConfig) -> Trial {
    let mut trial = Trial::alone(loopback(1), free_port(1), free_port(1));
    let own = certificates();
    trial.tls(&own.ca, &own.members[0].cert, &own.members[0].key);
    put_on(&mut trial, blobs, meta);
    trial
}

/// Lets a member be on these stores.
pub(super) fn put_on(trial: &mut Trial, blobs: &S3Config, meta: &DynamoConfig) {
    trial.config["storage"] = configured(blobs, meta);
}

#[tokio::test]
async fn stores_that_can_be_used_are_good() {
    let (blobs, meta) = (s3_config(&s3_server()), dynamo_config(&dynamo_server()));
    s3_open(&blobs).await;
    dynamo_open(&meta).await;
    let said = on(&blobs, &meta).verify().await;
    said.is_good()
        .has("ok", &["bucket portolan-it", "every right"])
        .has("ok", &["tables", "all 9", "every right"])
        .has("ok", &["clock, by the bucket", "within 30 s"])
        .has("ok", &["clock, by the tables", "within 30 s"]);
    dynamo_delete(&meta).await;
}

#[tokio::test]
async fn a_database_is_looked_at_and_nothing_is_made_in_it() {
    let (blobs, meta) = (s3_config(&s3_server()), dynamo_config(&dynamo_server()));
    s3_open(&blobs).await;
    let server = Server::start(&[]).await;
    let mut trial = on(&blobs, &meta);
    let url = format!(
        "postgres://postgres@127.0.0.1:{}/postgres?sslmode=disable",
        server.port()
    );
    trial.config["storage"]["cacheDriver"] = json!({ "name": "postgres", "url": url });
    for _ in 0..2 {
        let said = trial.verify().await;
        said.is_good()
            .has("warn  database", &["schema portolan", "isn't there yet"]);
    }
    database_opened(&server.config()).await;
    let said = trial.verify().await;
    said.is_good().has("ok", &["database", "every right"]);
    server
        .sql("DROP FUNCTION portolan.confirm; DROP TABLE portolan.rows")
        .await;
    let said = trial.verify().await;
    said.is_bad()
        .has("FAIL  database", &["portolan", "grant what docs/stores.md lists"]);
}

#[tokio::test]
async fn redis_is_looked_at_and_nothing_is_made_in_it() {
    let (blobs, meta) = (s3_config(&s3_server()), dynamo_config(&dynamo_server()));
    s3_open(&blobs).await;
    let server = RedisServer::durable().await;
    let mut trial = on(&blobs, &meta);
    let url = format!("redis://{}", server.address());
    trial.config["storage"]["cacheDriver"] = json!({ "name": "redis", "url": url });
    for _ in 0..2 {
        let said = trial.verify().await;
        said.is_good()
            .has("warn  redis", &["no keys portolan:*", "are there yet"]);
    }
    assert_eq!(server.ask(&["DBSIZE"]).await.trim(), "0");
    redis_opened(&server.config()).await;
    let said = trial.verify().await;
    said.is_good()
        .has("ok", &["redis", "every right"])
        .has("ok", &["clock, by the redis", "within 30 s"]);
    trial.config["storage"]["cacheDriver"]["durability"] = "relaxed".into();
    let said = trial.verify().await;
    said.is_good()
        .has("warn  redis", &["may lose what was acknowledged"]);
    server
        .ask(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"])
        .await;
    let said = trial.verify().await;
    said.is_bad()
        .has("FAIL  redis", &["maxmemory-policy is allkeys-lru", "noeviction"]);
}

#[tokio::test]
async fn what_a_start_would_make_is_a_warning_and_is_not_made() {
    let (mut blobs, meta) = (s3_config(&s3_server()), dynamo_config(&dynamo_server()));
    blobs.bucket = meta.tables.cache.clone();
    for _ in 0..2 {
        let said = on(&blobs, &meta).verify().await;
        said.is_good()
            .has("warn  bucket", &["isn't there yet", "createbucket"])
            .has(
                "warn  tables",
                &[&meta.tables.repo_meta, &meta.tables.members, "aren't there yet"],
            );
    }
}

#[tokio::test]
async fn a_server_without_transactions_is_named_before_there_are_tables() {
    let proxy = Proxy::start(&dynamo_server()).await;
    proxy.harm(|seen| match seen.operation() {
        "TransactWriteItems" => Fault::Answer(400, "UnknownOperationException"),
        _ => Fault::None,
    });
    let (blobs, meta) = (s3_config(&s3_server()), dynamo_config(&proxy.url()));
    s3_open(&blobs).await;
    let said = on(&blobs, &meta).verify().await;
    said.is_bad()
        .has("warn  tables", &[&meta.tables.version, "aren't there yet"])
        .has(
            "FAIL  tables",
            &["TransactWriteItems", "UnknownOperationException"],
        );
}

#[tokio::test]
async fn a_missing_bucket_and_a_foreign_table_are_named_at_once() {
    let (mut blobs, meta) = (s3_config(&s3_server()), dynamo_config(&dynamo_server()));
    blobs.bucket = meta.tables.cache.clone();
    blobs.create_bucket = false;
    // As zot makes it.
    let client = dynamo_client().await;
    let key = KeySchemaElement::builder()
        .attribute_name("Digest")
        .key_type(KeyType::Hash);
    let attribute = AttributeDefinition::builder().attribute_name("Digest");
    client
        .create_table()
        .table_name(&meta.tables.cache)
        .key_schema(key.build().unwrap())
        .attribute_definitions(attribute.attribute_type(ScalarAttributeType::S).build().unwrap())
        .billing_mode(BillingMode::PayPerRequest)
        .send()
        .await
        .unwrap();
    let said = on(&blobs, &meta).verify().await;
    said.is_bad()
        .has("FAIL  bucket", &["doesn't exist", "createbucket"])
        .has("FAIL  table", &[&meta.tables.cache, "cacheTablename", "Digest"]);
    client
        .delete_table()
        .table_name(&meta.tables.cache)
        .send()
        .await
        .unwrap();
}

#[tokio::test]
async fn wrong_credentials_are_named() {
    let (mut blobs, meta) = (s3_config(&s3_server()), dynamo_config(&dynamo_server()));
    if let Some(credentials) = &mut blobs.credentials {
        credentials.access_key = "nobody".to_owned();
    }
    let said = on(&blobs, &meta).verify().await;
    said.is_bad()
        .has("FAIL  bucket", &["no valid credentials", "accesskey"]);
}
