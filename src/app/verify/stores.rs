//! The bucket, the tables, and how far this machine's clock is from theirs.

use std::time::SystemTime;

use super::{Finding, chain, within};
use crate::{
    config::{DynamoConfig, Limits, S3Config},
    storage::{DynamoMeta, ExaminedTable, S3Blobs, S3OpenError, TableState, TablesError},
};

pub(super) async fn look(blobs: &S3Config, meta: &DynamoConfig, limits: &Limits) -> Vec<Finding> {
    let bucket = format!("bucket {}", blobs.bucket);
    let bound = limits.verify_timeout;
    let ((mut findings, tables), s3_time, dynamo_time) = tokio::join!(
        async {
            tokio::join!(
                within(bound, &bucket, look_at_bucket(&bucket, blobs, limits)),
                within(bound, "tables", look_at_tables(meta, limits)),
            )
        },
        tokio::time::timeout(bound, S3Blobs::server_time(blobs, limits)),
        tokio::time::timeout(bound, DynamoMeta::server_time(meta, limits)),
    );
    findings.extend(tables);
    // A store that doesn't answer was named already.
    findings.extend(clock("clock, by the bucket", s3_time.ok().flatten(), limits));
    findings.extend(clock("clock, by the tables", dynamo_time.ok().flatten(), limits));
    findings
}

/// Everything that is ever asked of the bucket, asked once. It isn't made, whatever `createbucket` says.
async fn look_at_bucket(subject: &str, config: &S3Config, limits: &Limits) -> Vec<Finding> {
    let as_it_is = S3Config {
        create_bucket: false,
        ..config.clone()
    };
    vec![match S3Blobs::open(&as_it_is, limits).await {
        Ok(_) => Finding::ok(subject, "is there, and every right that is needed"),
        Err(S3OpenError::NoBucket { .. }) if config.create_bucket => Finding::warn(
            subject,
            "isn't there yet: the first member that starts makes it (createbucket)",
        ),
        Err(error) => Finding::fail(subject, chain(&error)),
    }]
}

/// Each table by itself, and then what may be done with them.
async fn look_at_tables(config: &DynamoConfig, limits: &Limits) -> Vec<Finding> {
    let tables = DynamoMeta::examine(config, limits).await;
    // What keeps us from all of them is said once.
    if let Some(first) = tables.first()
        && tables
            .iter()
            .all(|table| matches!(table.state, Err(TablesError::Describe { .. })))
        && let Err(error) = &first.state
    {
        return vec![Finding::fail(
            "tables",
            format!("none can be looked at: {}", chain(error)),
        )];
    }
    let mut findings = Vec::new();
    let mut missing = Vec::new();
    let mut usable = Vec::new();
    for ExaminedTable { key, table, state } in tables {
        let subject = format!("table {table}");
        match state {
            Ok(TableState::Usable) => usable.push(table),
            Ok(TableState::Missing) => missing.push(table),
            Ok(TableState::Passing(status)) => findings.push(Finding::fail(
                subject,
                format!(
                    "is {} and can't be used now: wait until it is ACTIVE",
                    status.as_str()
                ),
            )),
            Err(error) => findings.push(Finding::fail(subject, format!("{key}: {}", chain(&error)))),
        }
    }
    if !missing.is_empty() {
        let said = format!(
            "{} aren't there yet: the first member that starts makes them, with dynamodb:CreateTable",
            missing.join(", ")
        );
        findings.push(Finding::warn("tables", said));
        // No table makes a server know transactions.
        if let Err(error) = DynamoMeta::try_transactions(config, limits).await {
            findings.push(Finding::fail("tables", chain(&error)));
        }
    }
    // With some of them missing or foreign, the others' rights would be guesswork.
    if findings.is_empty() {
        findings.push(match DynamoMeta::try_rights(config, limits).await {
            Ok(()) => Finding::ok(
                "tables",
                format!("all {} are there, and every right that is needed", usable.len()),
            ),
            Err(error) => Finding::fail(
                "tables",
                format!("{}: allow what docs/stores.md lists", chain(&error)),
            ),
        });
    }
    findings
}

/// How far this machine's clock is from a store's.
fn clock(subject: &str, theirs: Option<SystemTime>, limits: &Limits) -> Option<Finding> {
    let ours = SystemTime::now();
    let theirs = theirs?;
    let (skew, which) = match ours.duration_since(theirs) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    let said = format!("this machine's clock is {} s {which} the store's", skew.as_secs());
    let advice = "set it (NTP); stores refuse signatures of another time";
    Some(if skew >= limits.verify_skew_failure {
        Finding::fail(subject, format!("{said}: {advice}"))
    } else if skew >= limits.verify_skew_warning {
        Finding::warn(subject, format!("{said}: {advice}"))
    } else {
        Finding::ok(
            subject,
            format!("within {} s of the store's", limits.verify_skew_warning.as_secs()),
        )
    })
}
