//! The stores that are services, and how far this machine's clock is from theirs.

use std::time::SystemTime;

use super::{
    finding::{Finding, within},
    join,
};
use crate::{
    config::{Config, Limits},
    placement::MemberId,
    storage::{self, Look, Seen},
};

pub(super) async fn look(config: &Config, me: Option<&MemberId>, limits: &Limits) -> Vec<Finding> {
    let examined = storage::examine(&config.storage, limits).await;
    let mut findings: Vec<Finding> = examined.looks.into_iter().map(Finding::from).collect();
    let clocks = examined.clocks.iter();
    findings.extend(clocks.map(|(name, time)| clock(name, *time, limits)));
    if let (Some(meta), Some(cluster), Some(me)) = (examined.meta, &config.cluster, me) {
        // As long as a start waits for a lease to be renewed or not.
        let bound = limits.verify.timeout + limits.leases.expiry;
        let joined = async {
            join::look(cluster, config, me, meta, limits)
                .await
                .into_iter()
                .collect()
        };
        findings.extend(within(bound, "settings of all members", joined).await);
    }
    findings
}

impl From<Look> for Finding {
    fn from(look: Look) -> Self {
        match look.seen {
            Seen::Good => Self::ok(look.subject, look.said),
            Seen::Doubtful => Self::warn(look.subject, look.said),
            Seen::Bad => Self::fail(look.subject, look.said),
        }
    }
}

/// How far this machine's clock is from a store's.
fn clock(subject: &str, theirs: SystemTime, limits: &Limits) -> Finding {
    let ours = SystemTime::now();
    let (skew, which) = match ours.duration_since(theirs) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    let said = format!("this machine's clock is {} s {which} the store's", skew.as_secs());
    let advice = "set it (NTP); stores refuse signatures of another time";
    if skew >= limits.verify.skew_failure {
        Finding::fail(subject, format!("{said}: {advice}"))
    } else if skew >= limits.verify.skew_warning {
        Finding::warn(subject, format!("{said}: {advice}"))
    } else {
        let said = format!("within {} s of the store's", limits.verify.skew_warning.as_secs());
        Finding::ok(subject, said)
    }
}
