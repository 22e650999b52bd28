//! From a configuration to a client of the SDK.

use aws_config::BehaviorVersion;
use aws_sdk_s3::{
    Client,
    config::{
        Builder, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
        StalledStreamProtectionConfig,
        retry::{RetryConfig, RetryPartition, TokenBucket},
    },
    types::{ChecksumAlgorithm, ObjectCannedAcl, ServerSideEncryption, StorageClass},
};
use http::HeaderValue;

use super::{
    bucket::{Bucket, Written, within},
    error::Conflicts,
    http as transport,
    open_error::S3OpenError,
};
use crate::config::{Limits, S3Config, S3Encryption};

/// The bucket that `config` names. Nothing is asked of it yet.
pub(super) async fn bucket(config: &S3Config, limits: &Limits) -> Result<Bucket, S3OpenError> {
    let prefix = match config.prefix.as_str() {
        "" => String::new(),
        prefix => format!("{prefix}/"),
    };
    let settings = settings(config, limits).await?;
    let links = match &config.redirect_endpoint {
        // None of the kinds of endpoints that only AWS has: it is named.
        Some(endpoint) => settings
            .clone()
            .endpoint_url(endpoint)
            .use_dual_stack(false)
            .use_fips(false)
            .accelerate(false),
        None => settings.clone(),
    };
    Ok(Bucket {
        client: Client::from_conf(settings.build()),
        links: Client::from_conf(links.build()),
        name: config.bucket.clone(),
        prefix,
        written: written(config),
        limits: limits.s3,
    })
}

async fn settings(config: &S3Config, limits: &Limits) -> Result<Builder, S3OpenError> {
    let mut loader =
        aws_config::defaults(BehaviorVersion::latest()).region(Region::new(config.region.clone()));
    if let Some(fixed) = &config.credentials {
        let token = fixed
            .session_token
            .as_ref()
            .map(|token| token.expose().to_owned());
        let secret = fixed.secret_key.expose();
        let fixed = Credentials::new(&fixed.access_key, secret, token, None, "configuration");
        loader = loader.credentials_provider(fixed);
    }
    let shared = loader.load().await;
    let trust = transport::trust(config.verify_certificate);
    let retries = RetryConfig::standard()
        .with_max_attempts(limits.s3.attempts)
        .with_initial_backoff(limits.s3.backoff_min)
        .with_max_backoff(limits.s3.backoff_max);
    let mut builder = Builder::from(&shared)
        .http_client(transport::client(&trust, agent(config)?, limits)?)
        .force_path_style(config.path_style)
        .retry_config(retries)
        .retry_partition(unrationed())
        .retry_classifier(Conflicts)
        .timeout_config(within(&limits.s3, limits.s3.answer))
        // Attempts are bounded in time, and so are the pauses of a read.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        // A range has none, and whoever pulls compares the digest.
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if let Some(endpoint) = &config.endpoint {
        // Other servers take them in other ways, or not at all.
        builder = builder
            .endpoint_url(endpoint)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired);
    }
    // Left alone when false, so that what AWS's own variables say holds.
    if config.dual_stack {
        builder = builder.use_dual_stack(true);
    }
    if config.fips {
        builder = builder.use_fips(true);
    }
    if config.accelerate {
        builder = builder.accelerate(true);
    }
    Ok(builder)
}

/// Retries that no other request's failures use up.
///
/// The SDK's own partition is one of the whole process for each region, of tokens that failed retries take away for good and
/// only requests that succeed at once give back: after some time-outs nothing would be tried again, for as long as the
/// server then answers every few requests with a 500. What retries may cost is bounded otherwise: each request has its
/// attempts, its time for them and its pauses, and requests themselves are admitted.
fn unrationed() -> RetryPartition {
    RetryPartition::custom("portolan")
        .token_bucket(TokenBucket::unlimited())
        .build()
}

fn agent(config: &S3Config) -> Result<HeaderValue, S3OpenError> {
    let own = concat!("portolan/", env!("CARGO_PKG_VERSION"));
    let agent = match &config.user_agent {
        Some(more) => format!("{own} {more}"),
        None => own.to_owned(),
    };
    HeaderValue::from_str(&agent).map_err(|_| S3OpenError::UserAgent)
}

fn written(config: &S3Config) -> Written {
    let (encryption, encryption_key) = match &config.encryption {
        None => (None, None),
        Some(S3Encryption::Managed) => (Some(ServerSideEncryption::Aes256), None),
        Some(S3Encryption::Kms(key)) => (Some(ServerSideEncryption::AwsKms), Some(key.expose().to_owned())),
    };
    Written {
        encryption,
        encryption_key,
        class: config.storage_class.as_deref().map(StorageClass::from),
        acl: config.acl.as_deref().map(ObjectCannedAcl::from),
        checksum: match &config.endpoint {
            Some(_) => None,
            // The one that S3 can tell of a whole object from those of its parts. With others it wants the numbers of
            // the parts to be consecutive, and ours have gaps.
            None => Some(ChecksumAlgorithm::Crc64Nvme),
        },
    }
}
