//! What hyper lets through although a server must refuse it: a request of which two readers could make two.
//!
//! RFC 9112, 3.2: HTTP/1.1 has exactly one `Host`, with a valid value; RFC 9113, 8.3.1: HTTP/2 names one authority.
//! RFC 9112, 6.1: a body is framed by a length or by `chunked` alone. A proxy in front that reads either in another way
//! would take a part of the body for a request. So the connection ends, too.
//!
//! Deliberately absent: what the authority *is*. No name of ours is compared with it, and no answer is made of it.

use http::{HeaderValue, Request, Response, Version, header};

use super::{
    exchange::Exchange,
    step::{Next, Step},
};
use crate::{admission::Body, http::error::Malformed};

#[derive(Clone)]
pub(super) struct WellFormed;

impl Step for WellFormed {
    type In = Exchange;
    type Out = Exchange;

    async fn run<N: Next<Exchange>>(self, exchange: Exchange, next: N) -> Response<Body> {
        let request = &exchange.request;
        let Err(malformed) = authority(request).and(framing(request)) else {
            return next.go(exchange).await;
        };
        let is_alone_on_its_connection = request.version() < Version::HTTP_2;
        let mut response = exchange.refuse(&malformed.into());
        if is_alone_on_its_connection {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        response
    }
}

fn authority<B>(request: &Request<B>) -> Result<(), Malformed> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Malformed::SeveralHosts);
    }
    // Of HTTP/2 the authority is the pseudo-header; of HTTP/1 that of a target in absolute form, which Host may differ from.
    let named = request.uri().authority().map(|authority| authority.as_str());
    match (host, named) {
        (Some(host), _) if !is_host(host.as_bytes()) => Err(Malformed::Host),
        (_, Some(named)) if !is_host(named.as_bytes()) => Err(Malformed::Host),
        (Some(host), Some(named))
            if request.version() >= Version::HTTP_2
                && !host.as_bytes().eq_ignore_ascii_case(named.as_bytes()) =>
        {
            Err(Malformed::SeveralHosts)
        }
        (None, None) if request.version() > Version::HTTP_10 => Err(Malformed::NoHost),
        (None, Some(_)) if request.version() == Version::HTTP_11 => Err(Malformed::NoHost),
        _ => Ok(()),
    }
}

/// `uri-host [ ":" port ]` (RFC 9110, 7.2; RFC 3986, 3.2.2). An empty one is valid where the target has no authority.
fn is_host(value: &[u8]) -> bool {
    let (host, rest) = match value {
        [b'[', inside @ ..] => match inside.iter().position(|byte| *byte == b']') {
            Some(end) => {
                let (address, rest) = inside.split_at(end);
                if !is_address_literal(address) {
                    return false;
                }
                (&b""[..], rest.get(1..).unwrap_or_default())
            }
            None => return false,
        },
        _ => {
            let end = value.iter().position(|byte| *byte == b':').unwrap_or(value.len());
            value.split_at(end)
        }
    };
    let is_port = match rest {
        [] => true,
        [b':', port @ ..] => port.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    is_port && is_registered_name(host)
}

fn is_address_literal(address: &[u8]) -> bool {
    std::str::from_utf8(address).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok())
}

/// `*( unreserved / pct-encoded / sub-delims )`
fn is_registered_name(name: &[u8]) -> bool {
    let mut rest = name;
    while let Some((first, after)) = rest.split_first() {
        rest = match first {
            b'%' => match after {
                [high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => after,
                _ => return false,
            },
            byte if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(byte) => after,
            _ => return false,
        };
    }
    true
}

/// RFC 9112, 6.1, would have 501 for a coding that is merely unknown; but that is no failure of this server's.
fn framing<B>(request: &Request<B>) -> Result<(), Malformed> {
    let mut lines = request.headers().get_all(header::TRANSFER_ENCODING).iter();
    let is_chunked = |line: &HeaderValue| line.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    match (lines.next(), lines.next()) {
        (None, _) => Ok(()),
        (Some(line), None) if is_chunked(line) => Ok(()),
        (Some(_), _) => Err(Malformed::TransferEncoding),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_and_perhaps_a_port() {
        for host in [
            "",
            "a",
            "A.example",
            "a.example:5000",
            "a:",
            "127.0.0.1:80",
            "[::1]",
            "[::1]:5000",
            "a_b%20c",
            "~!$&'()*+,;=",
        ] {
            assert!(is_host(host.as_bytes()), "{host:?}");
        }
        for host in [
            "a b", "a/c", "u:p@x", "u@x", "a:b", "a:1:2", "[::1", "[::1]x", "[a]", "::1", "a%2", "a%zz",
            "a?b", "a#b", "a\\b", "a\"", "\u{e9}", "a, b", "[v1.x]",
        ] {
            assert!(!is_host(host.as_bytes()), "{host:?}");
        }
    }

    #[test]
    fn a_request_names_one_authority() {
        let check = |version, uri: &str, hosts: &[&str]| {
            let mut request = Request::builder().version(version).uri(uri);
            for host in hosts {
                request = request.header(header::HOST, *host);
            }
            authority(&request.body(()).unwrap())
        };
        let (one, one_zero, two) = (Version::HTTP_11, Version::HTTP_10, Version::HTTP_2);
        for (version, uri, hosts, expected) in [
            (one, "/v2/", &["a"][..], Ok(())),
            (one, "/v2/", &[""], Ok(())),
            (one, "/v2/", &[], Err(Malformed::NoHost)),
            (one, "http://a/v2/", &[], Err(Malformed::NoHost)),
            (one, "http://b/v2/", &["a"], Ok(())),
            (one, "/v2/", &["a", "a"], Err(Malformed::SeveralHosts)),
            (one, "/v2/", &["a b"], Err(Malformed::Host)),
            (one_zero, "/v2/", &[], Ok(())),
            (one_zero, "/v2/", &["a", "b"], Err(Malformed::SeveralHosts)),
            (two, "http://a/v2/", &[], Ok(())),
            (two, "http://a/v2/", &["A"], Ok(())),
            (two, "http://a/v2/", &["b"], Err(Malformed::SeveralHosts)),
            (two, "http://u@a/v2/", &[], Err(Malformed::Host)),
            (two, "/v2/", &["a"], Ok(())),
            (two, "/v2/", &[], Err(Malformed::NoHost)),
        ] {
            assert_eq!(
                check(version, uri, hosts),
                expected,
                "{version:?} {uri} {hosts:?}"
            );
        }
    }

    #[test]
    fn a_body_is_chunked_and_nothing_else() {
        let check = |lines: &[&str]| {
            let mut request = Request::builder();
            for line in lines {
                request = request.header(header::TRANSFER_ENCODING, *line);
            }
            framing(&request.body(()).unwrap())
        };
        for lines in [&[][..], &["chunked"], &["Chunked "]] {
            assert_eq!(check(lines), Ok(()), "{lines:?}");
        }
        for lines in [
            &["chunked, chunked"][..],
            &["chunked", "chunked"],
            &[", chunked"],
            &["gzip, chunked"],
            &["identity, chunked"],
            &["gzip", "chunked"],
        ] {
            assert_eq!(check(lines), Err(Malformed::TransferEncoding), "{lines:?}");
        }
    }
}
