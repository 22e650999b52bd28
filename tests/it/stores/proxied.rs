//! A mesh over S3 and DynamoDB, with a proxy before each.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use portolan::{
    app::Stores,
    config::{DynamoConfig, Limits, S3Config},
    registry::changes::PARTITIONS,
    storage::{DynamoMeta, S3Blobs},
};

use super::{
    dynamo_config, dynamo_delete, dynamo_server,
    proxy::{Fault, Proxy, Seen},
    s3_config, s3_server,
};
use crate::support::mesh::{Mesh, Plan};

const MIB: usize = 1 << 20;

/// How often each operation was asked for.
pub(super) fn by_operation(seen: &[Seen]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for seen in seen {
        let operation = seen.dynamo_operation().unwrap_or(seen.operation());
        *counts.entry(operation.to_owned()).or_default() += 1;
    }
    counts
}

/// Members that ask nothing of the stores but for a request.
pub(super) fn quiet(plan: Plan) -> Plan {
    const NEVER: Duration = Duration::from_secs(365 * 86_400);
    plan.limits(|limits| {
        limits.upkeep.interval = NEVER;
        limits.collection.interval = NEVER;
    })
}

/// A mesh, and what lies between it and its stores.
pub(super) struct Proxied {
    pub(super) mesh: Mesh,
    pub(super) dynamo: Proxy,
    pub(super) s3: Proxy,
    pub(super) tables: DynamoConfig,
    bucket: S3Config,
}

impl Proxied {
    /// Its drivers have these `limits`, its members what `plan` makes of the usual ones.
    pub(super) async fn start(limits: &Limits, plan: impl FnOnce(Plan) -> Plan) -> Self {
        let dynamo = Proxy::start(&dynamo_server()).await;
        let s3 = Proxy::start(&s3_server()).await;
        let (tables, bucket) = (dynamo_config(&dynamo.url()), s3_config(&s3.url()));
        let mesh = mesh_over(&tables, &bucket, limits, plan).await;
        Self {
            mesh,
            dynamo,
            s3,
            tables,
            bucket,
        }
    }

    /// Ends the mesh and starts another one over the same stores, and counts what that takes.
    pub(super) async fn restart(self, limits: &Limits, plan: impl FnOnce(Plan) -> Plan) -> Self {
        self.mesh.stop().await;
        self.dynamo.harm(|_| Fault::None);
        self.s3.harm(|_| Fault::None);
        let mesh = mesh_over(&self.tables, &self.bucket, limits, plan).await;
        Self { mesh, ..self }
    }

    /// Counts from now on.
    pub(super) fn count(&self) {
        self.dynamo.harm(|_| Fault::None);
        self.s3.harm(|_| Fault::None);
    }

    /// What DynamoDB was asked since, but for the leases, which cost the same however much is asked of the members, and for
    /// changes that are settled, some requests for all that were made within a tenth of a second.
    pub(super) fn asked(&self) -> Vec<Seen> {
        let mut seen = self.dynamo.seen();
        let is_settling = |seen: &Seen| {
            (0..PARTITIONS).any(|n| {
                let is_change = seen.dynamo_operation() == Some("TransactWriteItems");
                seen.names(&format!("_feed#{n}"))
                    || seen.names(&format!("_days#{n}"))
                    || (seen.names(&format!("_changes#{n}")) && !is_change)
            })
        };
        seen.retain(|seen| !seen.names(&self.tables.tables.members) && !is_settling(seen));
        seen
    }

    pub(super) async fn stop(self) {
        self.mesh.stop().await;
        dynamo_delete(&self.tables).await;
    }
}

/// A mesh over these stores, which others may be over.
pub(super) async fn mesh_over(
    tables: &DynamoConfig,
    bucket: &S3Config,
    limits: &Limits,
    plan: impl FnOnce(Plan) -> Plan,
) -> Mesh {
    let meta = DynamoMeta::open(tables, limits).await;
    let blobs = S3Blobs::open(bucket, limits).await;
    let stores = Stores {
        meta: Arc::new(meta.unwrap_or_else(|error| panic!("{:#}", anyhow::Error::from(error)))),
        blobs: Arc::new(blobs.unwrap_or_else(|error| panic!("{:#}", anyhow::Error::from(error)))),
    };
    plan(Plan::over(stores).parts(5 * MIB)).start().await
}
