//! The bucket as a driver.

use std::{sync::Arc, time::SystemTime};

use async_trait::async_trait;

use super::{S3Blobs, S3OpenError};
use crate::{
    causes::in_a_line,
    config::{Limits, S3Config},
    storage::{
        AllObjects, Listed, Listing, StoreError,
        driver::{BlobDriver, Look, OpenError, Seen},
    },
};

#[async_trait]
impl BlobDriver for &S3Config {
    fn kind(&self) -> &'static str {
        "bucket"
    }

    fn named(&self) -> String {
        format!("bucket {}", self.bucket)
    }

    fn identity(&self) -> Vec<(String, String)> {
        vec![
            ("storage.storageDriver.bucket".to_owned(), self.bucket.clone()),
            (
                "storage.storageDriver.rootdirectory".to_owned(),
                self.prefix.clone(),
            ),
        ]
    }

    async fn open(&self, limits: &Limits) -> Result<Arc<dyn AllObjects>, OpenError> {
        Ok(Arc::new(S3Blobs::open(self, limits).await?))
    }

    /// It isn't made, whatever `createbucket` says.
    async fn examine(&self, limits: &Limits) -> (Vec<Look>, Option<Arc<dyn AllObjects>>) {
        let as_it_is = S3Config {
            create_bucket: false,
            ..S3Config::clone(self)
        };
        let (seen, said, store) = match S3Blobs::open(&as_it_is, limits).await {
            Ok(store) => {
                let store: Arc<dyn AllObjects> = Arc::new(store);
                let said = "is there, and every right that is needed".to_owned();
                (Seen::Good, said, Some(store))
            }
            Err(S3OpenError::NoBucket { .. }) if self.create_bucket => {
                let said = "isn't there yet: the first member that starts makes it (createbucket)";
                (Seen::Doubtful, said.to_owned(), None)
            }
            Err(error) => (Seen::Bad, in_a_line(&error), None),
        };
        (vec![Look::new(seen, self.named(), said)], store)
    }

    async fn server_time(&self, limits: &Limits) -> Option<SystemTime> {
        S3Blobs::server_time(self, limits).await
    }
}

#[async_trait]
impl AllObjects for S3Blobs {
    async fn list(&self, after: Option<&str>) -> Result<Listing, StoreError> {
        self.bucket.list(after).await
    }

    async fn unfinished(&self) -> Result<Vec<Listed>, StoreError> {
        self.bucket.unfinished().await
    }

    async fn has_any(&self, folder: &str) -> Result<bool, StoreError> {
        S3Blobs::has_any(self, folder).await
    }
}
