//! The bucket, the tables, and how far this machine's clock is from theirs.

use std::{sync::Arc, time::SystemTime};

use super::{
    finding::{Finding, within},
    join,
};
use crate::{
    app::shared,
    causes::in_a_line,
    config::{Config, DynamoConfig, Limits, S3Config},
    placement::MemberId,
    storage::{DynamoMeta, ExaminedTable, MetaStore, S3Blobs, S3OpenError, TableState, TablesError},
};

pub(super) async fn look(
    config: &Config,
    me: Option<&MemberId>,
    blobs: &S3Config,
    meta: &DynamoConfig,
    limits: &Limits,
) -> Vec<Finding> {
    let bucket = format!("bucket {}", blobs.bucket);
    let bound = limits.verify_timeout;
    let mut opened = (None, None);
    let (in_bucket, in_tables, s3_time, dynamo_time) = tokio::join!(
        within(
            bound,
            &bucket,
            look_at_bucket(&bucket, blobs, limits, &mut opened.0)
        ),
        within(bound, "tables", look_at_tables(meta, limits, &mut opened.1)),
        tokio::time::timeout(bound, S3Blobs::server_time(blobs, limits)),
        tokio::time::timeout(bound, DynamoMeta::server_time(meta, limits)),
    );
    let mut findings = in_bucket;
    findings.extend(in_tables);
    // A store that doesn't answer was named already.
    findings.extend(clock("clock, by the bucket", s3_time.ok().flatten(), limits));
    findings.extend(clock("clock, by the tables", dynamo_time.ok().flatten(), limits));
    let (store, tables) = opened;
    if let (Some(store), Some(tables)) = (store, &tables) {
        let together = look_at_both(&store, &**tables, shared::lost(blobs, meta));
        findings.extend(within(bound, "bucket and tables", together).await);
    }
    if let (Some(tables), Some(cluster), Some(me)) = (tables, &config.cluster, me) {
        // As long as a start waits for a lease to be renewed or not.
        let bound = bound + limits.lease_expiry;
        let joined = async {
            join::look(cluster, config, me, tables, limits)
                .await
                .into_iter()
                .collect()
        };
        findings.extend(within(bound, "settings of all members", joined).await);
    }
    findings
}

/// Whether they belong together.
async fn look_at_both(store: &S3Blobs, tables: &dyn MetaStore, lost: String) -> Vec<Finding> {
    const SUBJECT: &str = "bucket and tables";
    match shared::are_tables_lost(store, tables).await {
        Ok(true) => vec![Finding::warn(SUBJECT, lost)],
        Ok(false) => Vec::new(),
        Err(error) => vec![Finding::fail(SUBJECT, in_a_line(&error))],
    }
}

/// Everything that is ever asked of the bucket, asked once. It isn't made, whatever `createbucket` says.
async fn look_at_bucket(
    subject: &str,
    config: &S3Config,
    limits: &Limits,
    opened: &mut Option<S3Blobs>,
) -> Vec<Finding> {
    let as_it_is = S3Config {
        create_bucket: false,
        ..config.clone()
    };
    vec![match S3Blobs::open(&as_it_is, limits).await {
        Ok(store) => {
            *opened = Some(store);
            Finding::ok(subject, "is there, and every right that is needed")
        }
        Err(S3OpenError::NoBucket { .. }) if config.create_bucket => Finding::warn(
            subject,
            "isn't there yet: the first member that starts makes it (createbucket)",
        ),
        Err(error) => Finding::fail(subject, in_a_line(&error)),
    }]
}

/// Each table by itself, and then what may be done with them.
async fn look_at_tables(
    config: &DynamoConfig,
    limits: &Limits,
    opened: &mut Option<Arc<DynamoMeta>>,
) -> Vec<Finding> {
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
            format!("none can be looked at: {}", in_a_line(error)),
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
            Err(error) => findings.push(Finding::fail(subject, format!("{key}: {}", in_a_line(&error)))),
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
            findings.push(Finding::fail("tables", in_a_line(&error)));
        }
    }
    // With some of them missing or foreign, the others' rights would be guesswork.
    if findings.is_empty() {
        let (finding, tables) = look_into_tables(config, limits, usable.len()).await;
        findings.push(finding);
        *opened = tables;
    }
    findings
}

/// What is in them and may be done with them.
async fn look_into_tables(
    config: &DynamoConfig,
    limits: &Limits,
    count: usize,
) -> (Finding, Option<Arc<DynamoMeta>>) {
    let tables = match DynamoMeta::look_into(config, limits).await {
        Ok(tables) => tables,
        Err(error) => return (Finding::fail("tables", in_a_line(&error)), None),
    };
    match tables.try_rights().await {
        Ok(()) => {
            let said = format!("all {count} are there, and every right that is needed");
            (Finding::ok("tables", said), Some(Arc::new(tables)))
        }
        Err(error) => {
            let said = format!("{}: allow what docs/stores.md lists", in_a_line(&error));
            (Finding::fail("tables", said), None)
        }
    }
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
