//! The drivers for services, over real ones: `tests/run` starts them and says where they are. Without, these tests fail.

mod proxy;
mod s3;
mod s3_broken;

use std::env;

use portolan::{
    config::{Limits, S3Config, S3Credentials, Secret},
    storage::S3Blobs,
};

/// What the environment says, which `tests/run` sets.
fn told(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| {
        panic!("{name} isn't set: run `tests/run rust`, or start the stores of tests/lib/stores.sh and say where they are")
    })
}

/// The S3 server, `http://host:port`.
fn s3_server() -> String {
    told("PORTOLAN_TEST_S3")
}

/// The bucket that these tests share, each under a prefix of its own.
const BUCKET: &str = "portolan-it";

/// The configuration of a bucket at `endpoint`, with nothing in it that another test sees.
fn s3_config(endpoint: &str) -> S3Config {
    S3Config {
        bucket: BUCKET.to_owned(),
        region: "us-east-1".to_owned(),
        endpoint: Some(endpoint.to_owned()),
        path_style: true,
        verify_certificate: true,
        prefix: format!("it/{}", random_name()),
        credentials: Some(S3Credentials {
            access_key: told("AWS_ACCESS_KEY_ID"),
            secret_key: Secret::new(told("AWS_SECRET_ACCESS_KEY")),
            session_token: None,
        }),
        encryption: None,
        storage_class: None,
        acl: None,
        part_bytes: None,
        dual_stack: false,
        fips: false,
        accelerate: false,
        user_agent: None,
        create_bucket: true,
    }
}

async fn s3_open(config: &S3Config) -> S3Blobs {
    match S3Blobs::open(config, &Limits::default()).await {
        Ok(store) => store,
        Err(error) => panic!("{:#}", anyhow::Error::from(error)),
    }
}

fn random_name() -> String {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).unwrap();
    hex::encode(bytes)
}
