//! What time it is where the bucket is.

use std::time::SystemTime;

use super::{S3Blobs, client, open::PROBE};
use crate::{
    config::{Limits, S3Config},
    storage::server_date::ServerDate,
};

impl S3Blobs {
    /// The time by the server of the bucket that `config` names, whether or not it can be used; `None` when nothing
    /// answers, or without a date.
    pub async fn server_time(config: &S3Config, limits: &Limits) -> Option<SystemTime> {
        let bucket = client::bucket(config, limits).await.ok()?;
        let date = ServerDate::default();
        // Any answer will do, a refusal too.
        let _ = bucket
            .client
            .list_objects_v2()
            .bucket(&bucket.name)
            .prefix(bucket.full(PROBE))
            .max_keys(1)
            .customize()
            .interceptor(date.clone())
            .send()
            .await;
        date.seen()
    }
}
