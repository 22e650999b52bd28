//! Whether the members that live would let this one join: what a start asks of their leases, without one of its own.

use std::sync::Arc;

use super::finding::Finding;
use crate::{
    app::{mesh_door, serve},
    config::{Cluster, Collecting, Config, Limits},
    ownership::Leases,
    placement::MemberId,
    storage::MetaStore,
    telemetry::Metrics,
};

pub(super) async fn look(
    cluster: &Cluster,
    config: &Config,
    me: &MemberId,
    meta: Arc<dyn MetaStore>,
    limits: &Limits,
) -> Option<Finding> {
    const SUBJECT: &str = "settings of all members";
    // An address that doesn't resolve has its own finding.
    let spec = serve::mesh_spec(cluster, config, me).ok()?;
    let metrics = Arc::new(Metrics::new());
    // It shows no certificate, since nothing is announced.
    let joining = mesh_door::joining(
        me.clone(),
        &spec,
        Collecting::On,
        meta,
        Arc::new(|| None),
        metrics,
        limits,
    );
    Some(match Leases::join(joining).await {
        Ok(_) => Finding::ok(SUBJECT, "no live member has others"),
        Err(error) => Finding::fail(SUBJECT, crate::causes::in_a_line(&error)),
    })
}
