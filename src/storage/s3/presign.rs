//! Links to objects, which clients follow without us.

use std::time::Duration;

use aws_sdk_s3::presigning::PresigningConfig;

use super::{bucket::Bucket, error::failed};
use crate::storage::{Link, ObjectKey, StoreError, StoreErrorKind};

impl Bucket {
    /// Signed with the credentials that every request is signed with, so a link ends with them if they end first. For that they may
    /// have to be fetched anew; nothing else is asked of anybody.
    pub(super) async fn presign(&self, key: &ObjectKey, lives: Duration) -> Result<Link, StoreError> {
        const OPERATION: &str = "presign";
        let within = PresigningConfig::expires_in(lives)
            .map_err(|error| StoreError::with_source(StoreErrorKind::Misuse, OPERATION, error))?;
        let signed = self
            .links
            .get_object()
            .bucket(&self.name)
            .key(self.key(key))
            .presigned(within)
            .await
            .map_err(|error| failed(OPERATION, error))?;
        Ok(Link::new(signed.uri()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Limits, S3Config, S3Credentials, Secret},
        storage::s3::client,
    };

    /// Where links lead that are made with this configuration.
    async fn linked(change: impl FnOnce(&mut S3Config)) -> (String, Vec<String>) {
        let mut config = S3Config {
            bucket: "reg".to_owned(),
            region: "eu-north-1".to_owned(),
            endpoint: None,
            path_style: false,
            verify_certificate: true,
            prefix: "p".to_owned(),
            credentials: Some(S3Credentials {
                access_key: "ID".to_owned(),
                secret_key: Secret::new("sesame"),
                session_token: None,
            }),
            encryption: None,
            storage_class: None,
            acl: None,
            dual_stack: false,
            fips: false,
            accelerate: false,
            user_agent: Some("ours/1".to_owned()),
            create_bucket: false,
            redirect_endpoint: None,
        };
        change(&mut config);
        let bucket = client::bucket(&config, &Limits::default()).await.unwrap();
        let key = ObjectKey::parse("uploads/a/b").unwrap();
        let link = bucket.presign(&key, Duration::from_secs(1200)).await.unwrap();
        assert_eq!(format!("{link:?}"), "[a link]");
        let (place, query) = link.expose().split_once('?').unwrap();
        assert!(!query.contains("sesame"));
        let names = query
            .split('&')
            .map(|pair| pair.split('=').next().unwrap().to_owned());
        let signed = query
            .split('&')
            .find(|pair| pair.starts_with("X-Amz-SignedHeaders"));
        // A client sends nothing else that is known beforehand.
        assert_eq!(signed, Some("X-Amz-SignedHeaders=host"));
        (place.to_owned(), names.collect())
    }

    #[tokio::test]
    async fn links_lead_to_the_bucket_as_it_is_named() {
        let (place, names) = linked(|_| ()).await;
        assert_eq!(place, "https://reg.s3.eu-north-1.amazonaws.com/p/uploads/a/b");
        assert!(!names.iter().any(|name| name.contains("checksum")), "{names:?}");
        let (place, names) = linked(|config| {
            config.endpoint = Some("http://10.0.0.1:9000".to_owned());
            config.path_style = true;
            let credentials = config.credentials.as_mut().unwrap();
            credentials.session_token = Some(Secret::new("of a session"));
        })
        .await;
        assert_eq!(place, "http://10.0.0.1:9000/reg/p/uploads/a/b");
        assert!(
            names.iter().any(|name| name == "X-Amz-Security-Token"),
            "{names:?}"
        );
        let accelerated = linked(|config| config.accelerate = true).await;
        assert_eq!(
            accelerated.0,
            "https://reg.s3-accelerate.amazonaws.com/p/uploads/a/b"
        );
    }

    #[tokio::test]
    async fn links_lead_to_the_endpoint_for_clients() {
        let public = |config: &mut S3Config| {
            config.endpoint = Some("http://10.0.0.1:9000".to_owned());
            config.redirect_endpoint = Some("https://cdn.example.com".to_owned());
        };
        let by_path = linked(|config| {
            public(config);
            config.path_style = true;
        });
        assert_eq!(by_path.await.0, "https://cdn.example.com/reg/p/uploads/a/b");
        let by_host = linked(public).await;
        assert_eq!(by_host.0, "https://reg.cdn.example.com/p/uploads/a/b");
        let of_aws = linked(|config| {
            config.redirect_endpoint = Some("https://cdn.example.com".to_owned());
            (config.accelerate, config.dual_stack) = (true, true);
        });
        assert_eq!(of_aws.await.0, "https://reg.cdn.example.com/p/uploads/a/b");
    }
}
