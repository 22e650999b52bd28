//! What a start needs of this machine: addresses, certificates, files and directories.

use std::{io, net::SocketAddr};

use tokio::net::TcpListener;

use super::{
    finding::{Finding, Reach, is_of_the_machine},
    pairs,
};
use crate::{
    app::serve::resolve,
    auth::{self, ExaminedFile},
    causes,
    config::{Config, Limits, Listen, LogOutput},
    events,
    placement::MemberId,
    registry::Hot,
    replication,
    storage::{self, OpenError},
    sync,
    telemetry::logs,
};

pub(super) async fn look(
    config: &Config,
    me: Option<&MemberId>,
    reach: Reach,
    limits: &Limits,
) -> Vec<Finding> {
    let mut findings = vec![listener("http.address", &config.listen, reach).await];
    if let Some(cluster) = &config.cluster {
        let mesh = cluster.mesh_listen(&config.listen);
        findings.push(listener("mesh address", &mesh, reach).await);
    }
    if let Some(root) = storage::directory(&config.storage) {
        findings.push(match storage::examine_here(&config.storage).await {
            Ok(()) => Finding::ok("storage.rootDirectory", root.display().to_string()),
            Err(error) => directory(&error, reach),
        });
    }
    if let Some(cache) = &config.delivery.cache {
        const SUBJECT: &str = "storage.cache.path";
        findings.push(match Hot::examine(cache) {
            Ok(()) => Finding::ok(SUBJECT, cache.path.display().to_string()),
            Err(error) => Finding::refused(reach, SUBJECT, &error),
        });
    }
    let outputs = [
        ("log.output", Some(&config.log.output)),
        ("log.audit", config.log.audit.as_ref()),
    ];
    for (subject, output) in outputs {
        if let Some(LogOutput::File(file)) = output {
            findings.push(match output.map(logs::examine) {
                Some(Err(error)) => Finding::refused(reach, subject, &error),
                Some(Ok(())) | None => Finding::ok(subject, file.display().to_string()),
            });
        }
    }
    for examined in auth::examine(&config.logins, limits) {
        let ExaminedFile {
            key,
            file,
            fault,
            left_out,
        } = examined;
        findings.push(match fault {
            Some(fault) => Finding::refused(reach, key, &fault),
            None if left_out.is_empty() => Finding::ok(key, file.display().to_string()),
            None => {
                let said = format!("{} is used without: {}", file.display(), left_out.join("; "));
                Finding::warn(key, said)
            }
        });
    }
    if let Some(sync) = &config.sync {
        const SUBJECT: &str = "extensions.sync";
        findings.push(match sync::examine(sync, limits) {
            Ok(()) => Finding::ok(SUBJECT, format!("{} registries on demand", sync.registries.len())),
            Err(error) => Finding::refused(reach, SUBJECT, &error),
        });
    }
    if let Some(replicate) = &config.replicate {
        const SUBJECT: &str = "extensions.replicate";
        findings.push(match replication::examine(replicate, limits) {
            Ok(()) => Finding::ok(SUBJECT, format!("{} registries", replicate.registries.len())),
            Err(error) => Finding::refused(reach, SUBJECT, &error),
        });
    }
    for (i, sink) in config.extensions.events.sinks.iter().enumerate() {
        let subject = format!("extensions.events.sinks[{i}]");
        findings.push(match events::examine(sink, limits) {
            Ok(()) => Finding::ok(subject, sink.address.clone()),
            Err(error) => Finding::refused(reach, subject, &error),
        });
    }
    findings.extend(pairs::look(config, me, reach, limits));
    findings
}

fn directory(error: &OpenError, reach: Reach) -> Finding {
    const SUBJECT: &str = "storage.rootDirectory";
    match error {
        OpenError::InUse { path, holder } => {
            let said = format!(
                "{} is in use by process {holder}: by this member, if it runs",
                path.display()
            );
            Finding::warn(SUBJECT, said)
        }
        error => Finding::refused(reach, SUBJECT, error),
    }
}

/// Whether it can be listened on.
async fn listener(subject: &str, listen: &Listen, reach: Reach) -> Finding {
    let address = match resolve(listen) {
        Ok(address) => address,
        Err(error) => return Finding::lacking(reach, subject, causes::in_a_line(&error)),
    };
    match TcpListener::bind(address).await {
        Ok(_) => Finding::ok(subject, format!("{listen} is free")),
        Err(error) => cant_listen(subject, listen, address, &error, reach),
    }
}

fn cant_listen(
    subject: &str,
    listen: &Listen,
    address: SocketAddr,
    error: &io::Error,
    reach: Reach,
) -> Finding {
    let said = match error.kind() {
        io::ErrorKind::AddrInUse => {
            let said =
                format!("{listen} is in use: by this member, if it runs; else stop what listens there");
            return Finding::warn(subject, said);
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("{listen} is no address of this machine: correct http.address or cluster.meshAddress")
        }
        io::ErrorKind::PermissionDenied => {
            format!("{listen} may not be listened on: take a port from 1024 on, or allow it to this process")
        }
        _ => format!("{address} can't be listened on: {error}"),
    };
    match is_of_the_machine(error.kind()) {
        true => Finding::lacking(reach, subject, said),
        false => Finding::fail(subject, said),
    }
}
