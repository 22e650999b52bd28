//! What is damaged in a bucket is found by members and mended, with rows in DynamoDB.

use std::sync::Arc;

use portolan::app::Stores;

use super::{dynamo_config, dynamo_delete, dynamo_open, dynamo_server, s3_config, s3_open, s3_server};
use crate::scrub::damage_is_found_and_mended;

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
