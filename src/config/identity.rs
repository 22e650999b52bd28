//! Which member of the cluster this process is (design, section 9).
//!
//! [`who_am_i`] is pure: host name, interface addresses and the resolver come in as values. It resolves as late and as
//! little as it can, only entries that could be this process (their port is ours), and a peer that doesn't resolve never
//! prevents a start. [`Machine`] asks the operating system.

use std::{
    collections::BTreeSet,
    fmt, io,
    net::{IpAddr, ToSocketAddrs as _},
};

use super::model::{Cluster, Listen, ListenAddress};
use crate::placement::MemberId;

/// Resolves a host name.
pub type Resolver<'a> = &'a dyn Fn(&str) -> io::Result<Vec<IpAddr>>;

/// Why this process doesn't know which member it is.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The name that was given is not a member's.
    #[error("--member {name:?} is not in cluster.members ({})", List(members))]
    NotListed {
        /// What was given.
        name: String,
        /// The members.
        members: Vec<MemberId>,
    },
    /// The name that was given is no name.
    #[error("--member {name:?} is not host:port: {reason}")]
    Malformed {
        /// What was given.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The member that was given listens on another port.
    #[error(
        "--member {member} has another port than http.port, {port}: a member is named by its public port"
    )]
    OtherPort {
        /// What was given.
        member: MemberId,
        /// Ours.
        port: u16,
    },
    /// No entry fits.
    #[error(
        "none of cluster.members ({}) is this machine: {looked_for}{}; say which with --member or PORTOLAN_MEMBER",
        List(members),
        Unresolved(unresolved)
    )]
    Nobody {
        /// The members.
        members: Vec<MemberId>,
        /// What they were compared with.
        looked_for: String,
        /// Those that had to be resolved and weren't.
        unresolved: Vec<MemberId>,
    },
    /// Several entries fit.
    #[error(
        "{} of cluster.members are this machine: {looked_for}; say which with --member or PORTOLAN_MEMBER",
        List(candidates)
    )]
    Several {
        /// Those.
        candidates: Vec<MemberId>,
        /// What they were compared with.
        looked_for: String,
    },
}

/// The member that this process is.
///
/// `explicit` (`--member`, `PORTOLAN_MEMBER`) decides where it is given: an entry's `host:port`, or its host alone.
/// Otherwise, with one address or name in `http.address`, it is the entry with that host; with `0.0.0.0` or `::`, the
/// entry whose host is `hostname` (or begins with it, as a pod's full name does), else the one whose host is, or
/// resolves to, one of `interfaces`. The port is `http.port` in every case.
///
/// Without `members`, the name is made of the same parts: `http.address` or `hostname`, and `http.port`.
///
/// # Errors
///
/// When nobody or several fit, naming the candidates.
pub fn who_am_i(
    cluster: &Cluster,
    listen: &Listen,
    hostname: &str,
    interfaces: &[IpAddr],
    resolve: Resolver<'_>,
    explicit: Option<&str>,
) -> Result<MemberId, IdentityError> {
    let hostname = hostname.trim_end_matches('.');
    let Some(members) = &cluster.members else {
        return by_own_name(listen, hostname, explicit);
    };
    if let Some(name) = explicit {
        return listed(members, name, listen);
    }
    let candidates: Vec<&MemberId> = members
        .iter()
        .filter(|member| member.port() == listen.port)
        .collect();
    let with_host = |host: &str| -> Vec<&MemberId> {
        candidates
            .iter()
            .copied()
            .filter(|member| same_host(member.host(), host))
            .collect()
    };
    let (looked_for, tries) = match &listen.address {
        ListenAddress::Name(name) => (format!("http.address is {name}"), vec![with_host(name)]),
        ListenAddress::Ip(ip) if !ip.is_unspecified() => {
            (format!("http.address is {ip}"), vec![with_host(&ip.to_string())])
        }
        ListenAddress::Ip(_) => {
            let short = hostname.split('.').next().unwrap_or(hostname);
            let named = candidates
                .iter()
                .copied()
                .filter(|member| begins_with_label(member.host(), short))
                .collect();
            (
                format!(
                    "its host name is {hostname}, its addresses are {}",
                    List(interfaces)
                ),
                vec![with_host(hostname), named],
            )
        }
    };
    // The first question that one entry alone answers decides; several answers to a weaker one don't.
    for found in tries {
        if let [only] = found.as_slice() {
            return Ok((*only).clone());
        }
    }
    let by_address = ByAddress::find(&candidates, listen, interfaces, resolve);
    match by_address.found.as_slice() {
        [only] => Ok((*only).clone()),
        [] => Err(IdentityError::Nobody {
            members: members.clone(),
            looked_for: format!("http.port is {}, {looked_for}", listen.port),
            unresolved: by_address.unresolved,
        }),
        several => Err(IdentityError::Several {
            candidates: several.iter().map(|&member| member.clone()).collect(),
            looked_for,
        }),
    }
}

/// Dynamic membership: nobody lists us, so we name ourselves.
fn by_own_name(listen: &Listen, hostname: &str, explicit: Option<&str>) -> Result<MemberId, IdentityError> {
    let host = match (&listen.address, explicit) {
        (_, Some(name)) => name.to_ascii_lowercase(),
        (ListenAddress::Name(name), None) => name.clone(),
        (ListenAddress::Ip(ip), None) if !ip.is_unspecified() => ip.to_string(),
        (ListenAddress::Ip(_), None) => hostname.to_ascii_lowercase(),
    };
    let with_port = || match host.parse() {
        Ok(IpAddr::V6(ip)) => format!("[{ip}]:{}", listen.port),
        Ok(IpAddr::V4(_)) | Err(_) => format!("{host}:{}", listen.port),
    };
    let member = host.parse::<MemberId>().or_else(|_| with_port().parse());
    let member = member.map_err(|error| IdentityError::Malformed {
        name: host.clone(),
        reason: error.to_string(),
    })?;
    on_our_port(member, listen)
}

/// The entry that `--member` names.
fn listed(members: &[MemberId], name: &str, listen: &Listen) -> Result<MemberId, IdentityError> {
    let wanted = name.to_ascii_lowercase().parse::<MemberId>().ok();
    let is_it = |member: &&MemberId| match &wanted {
        Some(wanted) => member.port() == wanted.port() && same_host(member.host(), wanted.host()),
        None => same_host(member.host(), name),
    };
    match members.iter().find(is_it) {
        Some(member) => on_our_port(member.clone(), listen),
        None => Err(IdentityError::NotListed {
            name: name.to_owned(),
            members: members.to_vec(),
        }),
    }
}

fn on_our_port(member: MemberId, listen: &Listen) -> Result<MemberId, IdentityError> {
    match member.port() == listen.port {
        true => Ok(member),
        false => Err(IdentityError::OtherPort {
            member,
            port: listen.port,
        }),
    }
}

/// The entries that are, or resolve to, an address of ours.
struct ByAddress<'a> {
    found: Vec<&'a MemberId>,
    unresolved: Vec<MemberId>,
}

impl<'a> ByAddress<'a> {
    fn find(
        candidates: &[&'a MemberId],
        listen: &Listen,
        interfaces: &[IpAddr],
        resolve: Resolver<'_>,
    ) -> Self {
        let ours = |ip: &IpAddr| match listen.address {
            ListenAddress::Ip(only) if !only.is_unspecified() => *ip == only,
            // Debian's /etc/hosts gives the host's own name 127.0.1.1, which no interface carries.
            ListenAddress::Ip(_) => ip.is_loopback() || interfaces.contains(ip),
            ListenAddress::Name(_) => false,
        };
        let mut this = Self {
            found: Vec::new(),
            unresolved: Vec::new(),
        };
        if matches!(listen.address, ListenAddress::Name(_)) {
            return this;
        }
        for &member in candidates {
            let addresses = match member.host().parse() {
                Ok(ip) => Ok(vec![ip]),
                Err(_) => resolve(member.host()),
            };
            match addresses {
                Ok(addresses) if addresses.iter().any(ours) => this.found.push(member),
                Ok(_) => {}
                Err(_) => this.unresolved.push(member.clone()),
            }
        }
        this
    }
}

fn same_host(a: &str, b: &str) -> bool {
    match (a.parse::<IpAddr>(), b.parse::<IpAddr>()) {
        (Ok(a), Ok(b)) => a == b,
        _ => a
            .trim_end_matches('.')
            .eq_ignore_ascii_case(b.trim_end_matches('.')),
    }
}

/// Whether the first label of a name is this one: `portolan-0.portolan.registry.svc` on the host `portolan-0`.
fn begins_with_label(host: &str, label: &str) -> bool {
    let is_name = host.parse::<IpAddr>().is_err();
    is_name
        && !label.is_empty()
        && host
            .split('.')
            .next()
            .is_some_and(|first| first.eq_ignore_ascii_case(label))
}

/// Names separated by commas.
struct List<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for List<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, item) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{item}")?;
        }
        Ok(())
    }
}

struct Unresolved<'a>(&'a [MemberId]);

impl fmt::Display for Unresolved<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => Ok(()),
            members => write!(f, " ({} did not resolve)", List(members)),
        }
    }
}

/// What the operating system says about this machine.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Its host name.
    pub hostname: String,
    /// The addresses of its interfaces that are up.
    pub interfaces: Vec<IpAddr>,
}

impl Machine {
    /// Asks.
    ///
    /// # Errors
    ///
    /// When the operating system doesn't answer.
    pub fn ask() -> io::Result<Self> {
        let hostname = nix::unistd::gethostname()?.to_string_lossy().into_owned();
        let mut interfaces = BTreeSet::new();
        for interface in nix::ifaddrs::getifaddrs()? {
            let Some(address) = interface.address else {
                continue;
            };
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            let v6 = address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip()));
            interfaces.extend(v4.or(v6));
        }
        Ok(Self {
            hostname,
            interfaces: interfaces.into_iter().collect(),
        })
    }

    /// [`who_am_i`] on this machine, with the system's resolver, which blocks.
    ///
    /// # Errors
    ///
    /// As [`who_am_i`].
    pub fn member(
        &self,
        cluster: &Cluster,
        listen: &Listen,
        explicit: Option<&str>,
    ) -> Result<MemberId, IdentityError> {
        who_am_i(
            cluster,
            listen,
            &self.hostname,
            &self.interfaces,
            &resolve,
            explicit,
        )
    }
}

/// The system's resolver.
fn resolve(host: &str) -> io::Result<Vec<IpAddr>> {
    Ok((host, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
