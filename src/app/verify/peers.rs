//! The other members' names, and who answers at their mesh ports.

use std::{collections::BTreeMap, net::SocketAddr};

use futures_util::future::join_all;
use tokio::net::lookup_host;

use super::{
    finding::{Finding, within},
    pairs,
};
use crate::{
    config::{Cluster, Limits},
    mesh::{ProbeError, probe},
    net::ClientTls,
    placement::MemberId,
};

pub(super) async fn look(cluster: &Cluster, me: Option<&MemberId>, limits: &Limits) -> Vec<Finding> {
    let mut findings = Vec::new();
    let members = cluster.members.as_deref().unwrap_or_default();
    let known = join_all(
        members
            .iter()
            .map(|member| resolve(member, cluster.mesh_port, limits)),
    )
    .await;
    findings.extend(shared_hosts(&known));
    // Without a certificate that loads there is nothing to dial with, and that is said elsewhere.
    let dialler = pairs::dialler(&cluster.tls).ok();
    let asked = known.iter().map(|known| async {
        match &known.addresses {
            Err(problem) => vec![Finding::fail(subject(known.member), problem.clone())],
            Ok(_) if Some(known.member) == me => Vec::new(),
            Ok(addresses) => mesh_port(known.member, addresses, dialler.as_ref(), limits).await,
        }
    });
    findings.extend(join_all(asked).await.into_iter().flatten());
    findings
}

fn subject(member: &MemberId) -> String {
    format!("member {member}")
}

/// A member and where its mesh port is, or why nobody knows.
struct Known<'a> {
    member: &'a MemberId,
    addresses: Result<Vec<SocketAddr>, String>,
}

async fn resolve<'a>(member: &'a MemberId, mesh_port: u16, limits: &Limits) -> Known<'a> {
    let host = member.host();
    let found = tokio::time::timeout(limits.verify.timeout, lookup_host((host, mesh_port))).await;
    let addresses = match found {
        Ok(Ok(addresses)) => Ok(addresses.collect()),
        Ok(Err(error)) => Err(format!(
            "{host} doesn't resolve ({error}): correct cluster.members, or tell the name service"
        )),
        Err(_) => Err(format!(
            "the name service doesn't say within {} s what {host} is: look at /etc/resolv.conf",
            limits.verify.timeout.as_secs()
        )),
    };
    Known { member, addresses }
}

/// Members whose names lead to one address: they would share a mesh port.
fn shared_hosts(known: &[Known<'_>]) -> Vec<Finding> {
    let mut by_address: BTreeMap<SocketAddr, Vec<&MemberId>> = BTreeMap::new();
    for known in known {
        for address in known.addresses.as_deref().unwrap_or_default() {
            by_address.entry(*address).or_default().push(known.member);
        }
    }
    let mut pairs = Vec::new();
    for (address, mut members) in by_address {
        members.sort_unstable();
        members.dedup();
        if let [first, second, ..] = members.as_slice()
            && !pairs.iter().any(|(pair, _)| *pair == (*first, *second))
        {
            pairs.push(((*first, *second), address));
        }
    }
    let said = |((first, second), address): ((&MemberId, &MemberId), SocketAddr)| {
        Finding::fail(
            subject(second),
            format!(
                "its host and that of {first} are both {}, so they share the mesh address {address}: give each member \
                 a host of its own",
                address.ip()
            ),
        )
    };
    pairs.into_iter().map(said).collect()
}

/// Asks at a member's addresses, in order, until one answers.
async fn mesh_port(
    member: &MemberId,
    addresses: &[SocketAddr],
    tls: Option<&ClientTls>,
    limits: &Limits,
) -> Vec<Finding> {
    let subject = subject(member);
    let (Some(tls), Some(first)) = (tls, addresses.first()) else {
        return Vec::new();
    };
    let work = async {
        let mut worst = None;
        for address in addresses {
            match probe(*address, member, tls, limits.verify.timeout / 2).await {
                Ok(()) => return vec![Finding::ok(&subject, format!("serves at {address}"))],
                Err(error) => worst = worst.or(Some((*address, error))),
            }
        }
        let (address, error) = worst.unwrap_or((*first, ProbeError::Refused));
        vec![advice(&subject, member, address, &error)]
    };
    within(limits.verify.timeout, &subject, work).await
}

/// What kept a member from answering, and what to change.
fn advice(subject: &str, member: &MemberId, address: SocketAddr, error: &ProbeError) -> Finding {
    let host = member.host();
    let said = match error {
        // It need not run yet; members start in any order.
        ProbeError::Refused => {
            let said = format!("nothing listens at {address}: start it, or correct cluster.meshPort");
            return Finding::warn(subject, said);
        }
        ProbeError::NotServing => {
            return Finding::warn(
                subject,
                format!("at {address}, {error}: it is starting or ending"),
            );
        }
        ProbeError::Unreachable(_) | ProbeError::Silent(_) => format!(
            "{address}: {error}; let members reach each other's mesh port, {}",
            address.port()
        ),
        // The latter of an authority of the same name.
        ProbeError::Certificate(
            rustls::CertificateError::UnknownIssuer | rustls::CertificateError::BadSignature,
        ) => format!(
            "the certificate at {address} isn't of cluster.tls.cacert: have both issued by one authority, or correct \
             cluster.tls.cacert on either"
        ),
        ProbeError::Certificate(
            rustls::CertificateError::NotValidForName
            | rustls::CertificateError::NotValidForNameContext { .. },
        ) => format!(
            "the certificate at {address} doesn't name {host}: issue it anew with that SAN, or correct cluster.members"
        ),
        ProbeError::Certificate(reason) => {
            format!("the certificate at {address} is refused: {reason}; issue it anew")
        }
        ProbeError::Denied => format!(
            "{address}: {error}; add this member to its cluster.members, by a name that this certificate has"
        ),
        ProbeError::Broken(why) => format!(
            "{address} hung up ({why}): its log says why; it may refuse this certificate, or not be a mesh port"
        ),
    };
    Finding::fail(subject, said)
}
