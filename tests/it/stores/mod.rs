//! The drivers for services, over real ones: `tests/run` starts them and says where they are. Without, these tests fail.

mod alone;
mod broken;
mod collect;
mod collecting;
mod counts;
mod dynamo;
mod fsck;
pub(crate) mod postgres;
mod proxied;
pub(crate) mod proxy;
mod races;
mod redirects;
pub(crate) mod redis;
mod s3;
mod s3_broken;
mod s3_environment;
mod scale;
mod scrub;

use std::env;

use portolan::{
    config::{DynamoConfig, DynamoTables, Limits, S3Config, S3Credentials, Secret},
    storage::{DynamoMeta, S3Blobs},
};
use serde_json::{Value, json};

/// What the environment says, which `tests/run` sets.
fn told(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| {
        panic!("{name} isn't set: run `tests/run rust`, or start the stores of tests/lib/stores.sh and say where they are")
    })
}

/// The S3 server, `http://host:port`.
pub(crate) fn s3_server() -> String {
    told("PORTOLAN_TEST_S3")
}

/// The bucket that these tests share, each under a prefix of its own.
const BUCKET: &str = "portolan-it";

/// The configuration of a bucket at `endpoint`, with nothing in it that another test sees.
pub(crate) fn s3_config(endpoint: &str) -> S3Config {
    S3Config {
        credentials: Some(S3Credentials {
            access_key: told("AWS_ACCESS_KEY_ID"),
            secret_key: Secret::new(told("AWS_SECRET_ACCESS_KEY")),
            session_token: None,
        }),
        ..s3_config_of_environment(endpoint)
    }
}

/// The same, with the credentials that the environment gives.
fn s3_config_of_environment(endpoint: &str) -> S3Config {
    S3Config {
        bucket: BUCKET.to_owned(),
        region: "us-east-1".to_owned(),
        endpoint: Some(endpoint.to_owned()),
        path_style: true,
        verify_certificate: true,
        prefix: format!("it/{}", random_name()),
        credentials: None,
        encryption: None,
        storage_class: None,
        acl: None,
        dual_stack: false,
        fips: false,
        accelerate: false,
        user_agent: None,
        create_bucket: true,
        redirect_endpoint: None,
    }
}

pub(crate) async fn s3_open(config: &S3Config) -> S3Blobs {
    match S3Blobs::open(config, &Limits::default()).await {
        Ok(store) => store,
        Err(error) => panic!("{:#}", anyhow::Error::from(error)),
    }
}

/// The DynamoDB server, `http://host:port`.
pub(crate) fn dynamo_server() -> String {
    told("PORTOLAN_TEST_DYNAMODB")
}

/// The configuration of tables at `endpoint` that no other test uses, and that aren't there yet.
pub(crate) fn dynamo_config(endpoint: &str) -> DynamoConfig {
    let id = random_name();
    let table = |name: &str| format!("it-{id}-{name}");
    DynamoConfig {
        region: "us-east-1".to_owned(),
        endpoint: Some(endpoint.to_owned()),
        tables: DynamoTables {
            cache: table("cache"),
            repo_meta: table("repo-meta"),
            image_meta: table("image-meta"),
            repo_blobs_info: table("repo-blobs-info"),
            user_data: table("user-data"),
            api_key: table("api-key"),
            version: table("version"),
            uploads: table("uploads"),
            members: table("members"),
        },
    }
}

pub(crate) async fn dynamo_open(config: &DynamoConfig) -> DynamoMeta {
    match DynamoMeta::open(config, &Limits::default()).await {
        Ok(store) => store,
        Err(error) => panic!("{:#}", anyhow::Error::from(error)),
    }
}

/// The `storage` of a configuration file that names these stores.
pub(crate) fn configured(blobs: &S3Config, meta: &DynamoConfig) -> Value {
    let credentials = blobs.credentials.as_ref().unwrap();
    let mut storage = json!({
        "storageDriver": {
            "name": "s3",
            "bucket": blobs.bucket,
            "rootdirectory": blobs.prefix,
            "regionendpoint": blobs.endpoint,
            "createbucket": blobs.create_bucket,
            "accesskey": credentials.access_key,
            "secretkey": credentials.secret_key.expose(),
        },
        "cacheDriver": { "name": "dynamodb", "region": meta.region, "endpoint": meta.endpoint },
    });
    for (key, table) in meta.tables.by_key() {
        storage["cacheDriver"][key] = table.into();
    }
    storage
}

/// A client of the SDK's own, to look at tables from outside.
pub(crate) async fn dynamo_client() -> aws_sdk_dynamodb::Client {
    let config = aws_config::defaults(aws_config::BehaviorVersion::latest())
        .region("us-east-1")
        .endpoint_url(dynamo_server());
    aws_sdk_dynamodb::Client::new(&config.load().await)
}

/// Deletes the tables of a test.
pub(crate) async fn dynamo_delete(config: &DynamoConfig) {
    let client = dynamo_client().await;
    for (_, table) in config.tables.by_key() {
        client.delete_table().table_name(table).send().await.unwrap();
    }
}

fn random_name() -> String {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).unwrap();
    hex::encode(bytes)
}
