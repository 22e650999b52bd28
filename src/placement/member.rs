//! The name of a member.
//!
//! Deliberately absent: resolving it, and its address on the mesh. A name is hashed byte for byte, so each member has
//! exactly one spelling.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use crate::oci::text_newtype;

/// `host:port` on the public port, by which the whole mesh knows a member.
///
/// The host is a lower-case DNS name, an IPv4 address, or an IPv6 address in brackets and in its canonical form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId {
    text: Arc<str>,
    port: u16,
}

/// The text doesn't name a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemberIdError {
    /// There is no port, or it is not a number from 1 to 65535 without leading zeros.
    #[error("a member is expected as 'host:port' with a port from 1 to 65535")]
    Port,
    /// The host is malformed, or not spelled in the one way that all members hash.
    #[error(
        "a member's host is expected to be a lower-case DNS name, an IPv4 address, or an IPv6 address in brackets \
         and in its shortest form"
    )]
    Host,
}

impl MemberId {
    /// Reads `host:port`.
    ///
    /// # Errors
    /// [`MemberIdError`] with the half that is wrong.
    pub fn parse(text: &str) -> Result<Self, MemberIdError> {
        let (host, port) = text.rsplit_once(':').ok_or(MemberIdError::Port)?;
        if port.starts_with(['0', '+']) {
            return Err(MemberIdError::Port);
        }
        let port = port.parse().map_err(|_| MemberIdError::Port)?;
        if is_host(host) {
            Ok(Self {
                text: text.into(),
                port,
            })
        } else {
            Err(MemberIdError::Host)
        }
    }

    /// The host, an IPv6 address without its brackets: what a certificate names.
    #[must_use]
    pub fn host(&self) -> &str {
        let host = self.text.rsplit_once(':').map_or(&*self.text, |(host, _)| host);
        host.strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host)
    }

    /// The public port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The whole name, as it is hashed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

text_newtype!(MemberId, MemberIdError);

fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[') {
        return address.strip_suffix(']').is_some_and(is_canonical_ipv6);
    }
    // A name whose last label is a number is an address, and a wrong one unless it has exactly four parts.
    let numeric_end = host
        .rsplit('.')
        .next()
        .is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit()));
    if numeric_end {
        host.parse::<Ipv4Addr>().is_ok()
    } else {
        is_dns_name(host)
    }
}

fn is_canonical_ipv6(text: &str) -> bool {
    text.parse::<Ipv6Addr>()
        .is_ok_and(|address| address.to_string() == text)
}

/// Lower-case labels; an underscore, as container names have it, is fine.
fn is_dns_name(host: &str) -> bool {
    let label = |label: &str| {
        matches!(label.len(), 1..=63)
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
    };
    host.len() <= 253 && host.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn host_and_port_are_taken_apart() {
        for (text, host, port) in [
            ("127.0.0.1:5000", "127.0.0.1", 5000),
            ("[::1]:5000", "::1", 5000),
            ("[2001:db8::1]:65535", "2001:db8::1", 65535),
            ("registry-1.example.org:443", "registry-1.example.org", 443),
            ("portolan_member_1:1", "portolan_member_1", 1),
            ("1a:9000", "1a", 9000),
        ] {
            let member = MemberId::parse(text).unwrap();
            assert_eq!(
                (member.host(), member.port(), member.as_str()),
                (host, port, text)
            );
        }
    }

    #[test]
    fn a_second_spelling_is_refused() {
        for text in [
            "a", "a:", "a:0", "a:05000", "a:+5000", "a:65536", "a:http", "", ":",
        ] {
            assert_eq!(MemberId::parse(text), Err(MemberIdError::Port), "{text:?}");
        }
        let long = format!("{}:1", "a".repeat(64));
        for text in [
            ":1",
            "A:1",
            "a.:1",
            ".a:1",
            "a..b:1",
            "-a:1",
            "a-:1",
            "::1:1",
            "[::1:1",
            "[0:0:0:0:0:0:0:1]:1",
            "[::A]:1",
            "[a]:1",
            "127.0.0.256:1",
            "127.1:1",
            "127.0.0.01:1",
            "a/b:1",
            "a b:1",
            "a\0b:1",
            &long,
        ] {
            assert_eq!(MemberId::parse(text), Err(MemberIdError::Host), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_member_is_displayed_as_it_was_written(
            text in r"[a-z][a-z0-9_]{0,9}(\.[a-z]([a-z0-9-]{0,9}[a-z0-9])?){0,3}:[1-9][0-9]{0,3}"
        ) {
            prop_assert_eq!(MemberId::parse(&text).unwrap().to_string(), text);
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in ".{0,60}", near in r"[a-f0-9.:\[\]-]{0,20}") {
            for text in [text, near] {
                if let Ok(member) = MemberId::parse(&text) {
                    prop_assert!(!member.host().is_empty());
                    prop_assert_eq!(member.as_str(), text);
                }
            }
        }
    }
}
