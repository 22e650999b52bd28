//! `portolan verify`: whether this member would work here, and with the world around it.
//!
//! What `config::load` can't know is looked at here, by the very code that a start runs: whatever a start can refuse is
//! found. On this machine that is the member's name, its addresses, certificates, files and directories; with `--online`
//! also the other members, the bucket, the tables and directories of users. Everything is looked at, at the same time, each look bounded; each
//! fault says what to change. Nothing is changed: no file, bucket or table is made.
//!
//! Deliberately absent: what a running mesh knows by itself (leases, readiness), and repairs.

mod finding;
mod here;
mod join;
mod pairs;
mod peers;
mod providers;
mod stores;

pub use self::finding::{Finding, Findings, Reach, Verdict};
use crate::{
    auth,
    config::{Cluster, Config, Limits, identity::Machine},
    placement::MemberId,
};

/// Looks at everything that `config` needs. `explicit` says which of its members this is.
pub async fn verify(config: &Config, explicit: Option<&str>, reach: Reach, limits: &Limits) -> Findings {
    let (me, mut findings) = me(config, explicit, reach);
    findings.extend(here::look(config, me.as_ref(), reach, limits).await);
    match reach {
        Reach::Here => {}
        Reach::Online => findings.extend(online(config, me.as_ref(), limits).await),
    }
    Findings(findings)
}

async fn online(config: &Config, me: Option<&MemberId>, limits: &Limits) -> Vec<Finding> {
    let cluster = async {
        match &config.cluster {
            Some(cluster) => peers::look(cluster, me, limits).await,
            None => Vec::new(),
        }
    };
    let logins = async {
        let looked = auth::examine_online(&config.logins, limits).await;
        let finding = |(key, server, looked)| match looked {
            Ok(()) => Finding::ok(key, server),
            Err(problem) => Finding::fail(key, problem),
        };
        looked.into_iter().map(finding).collect::<Vec<_>>()
    };
    let providers = providers::look(config, limits);
    let stores = stores::look(config, me, limits);
    let (mut findings, stores, logins, providers) = tokio::join!(cluster, stores, logins, providers);
    findings.extend(stores);
    findings.extend(logins);
    findings.extend(providers);
    findings
}

/// Which member this is.
fn me(config: &Config, explicit: Option<&str>, reach: Reach) -> (Option<MemberId>, Vec<Finding>) {
    const SUBJECT: &str = "this member";
    let Some(cluster) = &config.cluster else {
        return (None, Vec::new());
    };
    match own_name(cluster, config, explicit) {
        Ok(me) => {
            let said = me.to_string();
            (Some(me), vec![Finding::ok(SUBJECT, said)])
        }
        Err(problem) => (None, vec![Finding::lacking(reach, SUBJECT, problem)]),
    }
}

fn own_name(cluster: &Cluster, config: &Config, explicit: Option<&str>) -> Result<MemberId, String> {
    let machine = Machine::ask().map_err(|error| error.to_string())?;
    machine
        .member(cluster, &config.listen, explicit)
        .map_err(|error| error.to_string())
}
