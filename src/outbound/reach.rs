//! Where requests may go: a service that we ask can send us elsewhere, and mustn't get to see what only we reach.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    task::{Context, Poll},
    vec,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use tower::Service;

/// Where a client goes.
#[derive(Clone, Debug)]
pub enum Reach {
    /// Anywhere: all addresses are of the configuration.
    Anywhere,
    /// To public addresses, and to these hosts wherever they are.
    PublicAnd(Arc<BTreeSet<String>>),
}

impl Reach {
    /// Public addresses and these hosts, in any case and with or without the brackets of IPv6.
    pub fn public_and<'a>(hosts: impl IntoIterator<Item = &'a str>) -> Self {
        Self::PublicAnd(Arc::new(hosts.into_iter().map(plain).collect()))
    }

    /// Whether `host` may be asked, unless it is a name, which may yet resolve to addresses that may not.
    pub(super) fn permits(&self, host: &str) -> bool {
        let host = plain(host);
        match host.parse::<IpAddr>() {
            Ok(address) => self.names(&host) || is_public(address),
            Err(_) => true,
        }
    }

    fn names(&self, host: &str) -> bool {
        match self {
            Self::Anywhere => true,
            Self::PublicAnd(hosts) => hosts.contains(host),
        }
    }
}

fn plain(host: &str) -> String {
    host.trim_matches(['[', ']']).to_ascii_lowercase()
}

/// Whether everybody can reach the address (the registries of RFC 6890, as far as they mean networks that some can't).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, ..] = v4.octets();
    let is_shared = a == 100 && (64..128).contains(&b);
    let is_special = v4.is_loopback() || v4.is_link_local() || v4.is_broadcast() || v4.is_multicast();
    !(a == 0 || is_shared || is_special || v4.is_private())
}

fn is_public_v6(v6: Ipv6Addr) -> bool {
    let segments = v6.segments();
    // Mapped, and translated by NAT64 (RFC 6052).
    let embedded = match segments {
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => {
            let [.., a, b, c, d] = v6.octets();
            Some(Ipv4Addr::new(a, b, c, d))
        }
        _ => None,
    };
    match embedded {
        Some(v4) => is_public_v4(v4),
        // Global unicast is what begins with 001.
        None => segments[0] & 0xe000 == 0x2000,
    }
}

/// Resolves names as the machine does, and leaves out what isn't in reach.
#[derive(Clone, Debug)]
pub struct Resolver {
    machine: GaiResolver,
    reach: Reach,
}

impl Resolver {
    pub(super) fn new(reach: Reach) -> Self {
        Self {
            machine: GaiResolver::new(),
            reach,
        }
    }
}

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.machine.poll_ready(cx)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let host = name.as_str().to_owned();
        let is_named = self.reach.names(&plain(&host));
        let found = self.machine.call(name);
        async move {
            let mut found: Vec<SocketAddr> = found.await?.collect();
            found.retain(|address| is_named || is_public(address.ip()));
            match found.is_empty() {
                false => Ok(found.into_iter()),
                true => Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    format!("{host} has only addresses of private networks"),
                )),
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_reached_only_by_name() {
        let reach = Reach::public_and(["10.0.0.1", "[fd00::1]", "Registry.Internal"]);
        for host in [
            "10.0.0.1",
            "[fd00::1]",
            "8.8.8.8",
            "[2606:4700::1]",
            "registry.internal",
            "any.example",
        ] {
            assert!(reach.permits(host), "{host}");
        }
        for host in [
            "10.0.0.2",
            "127.0.0.1",
            "169.254.169.254",
            "192.168.1.1",
            "172.16.0.1",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "[::1]",
            "[::]",
            "[fd00::2]",
            "[fe80::1]",
            "[::ffff:127.0.0.1]",
            "[64:ff9b::a00:1]",
            "[ff02::1]",
        ] {
            assert!(!reach.permits(host), "{host}");
            assert!(Reach::Anywhere.permits(host), "{host}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_into_the_machine_is_resolved_only_for_who_names_it() {
        let name = || "localhost".parse::<Name>().unwrap();
        let refused = Resolver::new(Reach::public_and([]))
            .call(name())
            .await
            .unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        for reach in [Reach::Anywhere, Reach::public_and(["localhost"])] {
            assert!(Resolver::new(reach).call(name()).await.unwrap().next().is_some());
        }
    }
}
