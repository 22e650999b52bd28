//! How clients reach the registry, for what they are told to ask next: where tokens are given.

use std::net::IpAddr;

use http::{HeaderMap, Uri, header::HOST, uri::Authority};

/// Where clients find the registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// It can't be told: what is heard of isn't what clients see, who may come through something that ends TLS.
    #[default]
    Unknown,
    /// As configured (`http.externalUrl`): `scheme://host`, perhaps with a port.
    Fixed(String),
    /// By the host that they ask for, and this scheme.
    Asked(&'static str),
}

impl Origin {
    /// That of a member with this `http.externalUrl` and listener. What a proxy says in a header isn't believed: anybody can.
    pub fn new(external_url: Option<&str>, has_tls: bool, address: IpAddr) -> Self {
        match external_url {
            Some(url) => Self::Fixed(url.to_owned()),
            None if has_tls => Self::Asked("https"),
            // Nobody reaches it from elsewhere.
            None if address.is_loopback() => Self::Asked("http"),
            None => Self::Unknown,
        }
    }

    /// `scheme://host` and the host in it, for who asked for `host`.
    pub(super) fn base(&self, host: Option<&str>) -> Option<(String, String)> {
        match self {
            Self::Unknown => None,
            Self::Fixed(url) => {
                let (_, host) = url.split_once("://")?;
                Some((url.clone(), host.to_owned()))
            }
            Self::Asked(scheme) => {
                let host = host?;
                Some((format!("{scheme}://{host}"), host.to_owned()))
            }
        }
    }

    /// Whether a page of this origin (`scheme://host`, as browsers write it) is the registry's own, for who asked for `host`.
    pub(super) fn has_page(&self, page: &str, host: Option<&str>) -> bool {
        let Some((scheme, named)) = page.split_once("://") else {
            return false;
        };
        let is = |host: &str| host.eq_ignore_ascii_case(named);
        match self {
            Self::Fixed(url) if url.split_once("://").is_some_and(|(_, host)| is(host)) => {
                url.eq_ignore_ascii_case(page)
            }
            Self::Asked("https") if scheme != "https" => false,
            // What stands between may end TLS, or the client came by another name than the configured one.
            Self::Unknown | Self::Fixed(_) | Self::Asked(_) => host.is_some_and(is),
        }
    }
}

/// The host that a request asks for, with its port: `None` where it names none, several, or something else than a name or an
/// address.
pub(super) fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let mut named = headers.get_all(HOST).iter();
    let host = match (uri.authority(), named.next(), named.next()) {
        (Some(authority), _, None) => authority.as_str(),
        (None, Some(value), None) => value.to_str().ok()?,
        (_, _, Some(_)) | (None, None, None) => return None,
    };
    // Letters of names, and what stands around ports and in addresses: nothing that could end a quoted string or a host.
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':' | b'[' | b']');
    (host.bytes().all(is_plain) && host.parse::<Authority>().is_ok()).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_realm_is_where_the_client_is_or_as_configured() {
        let loopback = "127.0.0.9".parse().unwrap();
        let outside = "10.0.0.1".parse().unwrap();
        let base = |origin: Origin, host| origin.base(host).map(|(base, _)| base);
        for (external, has_tls, address, expected) in [
            (None, false, loopback, Some("http://h:1")),
            (None, false, "::1".parse().unwrap(), Some("http://h:1")),
            (None, true, outside, Some("https://h:1")),
            (None, false, outside, None),
            (None, false, "0.0.0.0".parse().unwrap(), None),
            (
                Some("https://r.example"),
                false,
                outside,
                Some("https://r.example"),
            ),
            (
                Some("https://r.example"),
                true,
                loopback,
                Some("https://r.example"),
            ),
        ] {
            let origin = Origin::new(external, has_tls, address);
            assert_eq!(
                base(origin.clone(), Some("h:1")).as_deref(),
                expected,
                "{origin:?}"
            );
        }
        assert_eq!(Origin::Asked("https").base(None), None);
        let fixed = Origin::Fixed("https://r.example:5000".to_owned());
        assert_eq!(
            fixed.base(None).map(|(_, host)| host).as_deref(),
            Some("r.example:5000")
        );
    }

    #[test]
    fn a_host_is_a_name_or_an_address_and_there_is_one() {
        let of = |uri: &str, hosts: &[&str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(HOST, host.parse().unwrap());
            }
            headers.insert("x-forwarded-host", "evil.example".parse().unwrap());
            host(&uri.parse().unwrap(), &headers).map(str::to_owned)
        };
        assert_eq!(of("/v2/", &["r.example:5000"]).as_deref(), Some("r.example:5000"));
        assert_eq!(of("/v2/", &["[::1]:5000"]).as_deref(), Some("[::1]:5000"));
        assert_eq!(of("https://two.example/v2/", &[]).as_deref(), Some("two.example"));
        for wrong in ["", "a b", "a\"b", "u@a", "a/b", "a,b", "a:b:c"] {
            assert_eq!(of("/v2/", &[wrong]), None, "{wrong:?}");
        }
        assert_eq!(of("/v2/", &["a", "b"]), None);
        assert_eq!(of("/v2/", &[]), None);
        assert_eq!(of("https://u:p@two.example/v2/", &[]), None);
    }
}
