//! Cookies: for this host alone, for no script, and not with what other sites' pages send (RFC 6265bis).

use http::{
    HeaderMap, HeaderValue,
    header::{COOKIE, ORIGIN},
};

use super::{
    Caller, SessionCookie,
    origin::{self, Origin},
};

/// That of a session.
pub(super) const SESSION: &str = "portolan-session";
/// That of a login on its way.
pub(super) const LOGIN: &str = "portolan-login";

/// The longest cookie, its name and all: browsers drop longer ones.
const MAX_BYTES: usize = 4_000;

/// Makes and reads cookies.
#[derive(Clone, Debug)]
pub(super) struct Jar {
    /// For https alone: then their names begin so that nobody else can set them, not even a neighbour in the same domain.
    is_secure: bool,
    origin: Origin,
}

/// What a request has of one name.
pub(super) enum Found<'a> {
    None,
    One(&'a str),
    Several,
}

impl<'a> Found<'a> {
    pub(super) fn one(self) -> Option<&'a str> {
        match self {
            Self::One(value) => Some(value),
            Self::None | Self::Several => None,
        }
    }
}

impl Jar {
    pub(super) fn new(origin: Origin, is_secure: bool) -> Self {
        let by_https = match &origin {
            Origin::Unknown => false,
            Origin::Fixed(url) => url.starts_with("https://"),
            Origin::Asked(scheme) => *scheme == "https",
        };
        Self {
            is_secure: is_secure || by_https,
            origin,
        }
    }

    fn prefix(&self) -> &'static str {
        match self.is_secure {
            true => "__Host-",
            false => "",
        }
    }

    /// `Set-Cookie` for a value of base64 and dots, good for so many seconds; `None` where it is too long.
    pub(super) fn set(&self, name: &str, value: &str, seconds: u64) -> Option<HeaderValue> {
        let secure = if self.is_secure { "; Secure" } else { "" };
        let text = format!(
            "{}{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}",
            self.prefix()
        );
        let value = HeaderValue::try_from(text).ok();
        value.filter(|value| value.len() <= MAX_BYTES)
    }

    /// `Set-Cookie` that takes it away.
    pub(super) fn end(&self, name: &str) -> Option<HeaderValue> {
        self.set(name, "", 0)
    }

    pub(super) fn get<'a>(&self, headers: &'a HeaderMap, name: &str) -> Found<'a> {
        let pairs = headers
            .get_all(COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'));
        let named = |pair: &'a str| {
            let (found, value) = pair.trim().split_once('=')?;
            (found.strip_prefix(self.prefix()) == Some(name)).then_some(value)
        };
        let mut found = pairs.filter_map(named);
        match (found.next(), found.next()) {
            (None, _) => Found::None,
            (Some(value), None) => Found::One(value),
            (Some(_), Some(_)) => Found::Several,
        }
    }

    /// The session of a request. It counts for a change only where the request says that it comes from a page of ours.
    pub(super) fn session<'a>(&self, caller: &Caller<'a>) -> SessionCookie<'a> {
        match self.get(caller.headers, SESSION) {
            Found::None => SessionCookie::None,
            Found::Several => SessionCookie::Several,
            Found::One(value) if caller.method.is_safe() || self.is_own_page(caller) => {
                SessionCookie::Own(value)
            }
            Found::One(_) => SessionCookie::Foreign,
        }
    }

    /// Browsers say where a request comes from, by a header that no page can set (Fetch Metadata), or at least by `Origin`;
    /// and where they say nothing, zot's own header proves it, which no other site's page can send without being asked for it.
    fn is_own_page(&self, caller: &Caller<'_>) -> bool {
        let value = |name: &str| caller.headers.get(name).map(HeaderValue::as_bytes);
        let host = origin::host(caller.uri, caller.headers);
        match (value("sec-fetch-site"), value(ORIGIN.as_str())) {
            (Some(site), _) => site == b"same-origin",
            (None, Some(origin)) => {
                let own = self.origin.base(host);
                own.is_some_and(|(base, _)| base.as_bytes() == origin)
            }
            (None, None) => value("x-zot-api-client") == Some(b"zot-ui"),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{Method, Uri};

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_session_changes_something_only_from_a_page_of_the_registrys_own() {
        let jar = Jar::new(Origin::Asked("https"), false);
        let uri = Uri::from_static("/v2/");
        let seen = |method: &Method, more: &[(&'static str, &'static str)]| {
            let mut pairs = vec![
                ("host", "r.example"),
                ("cookie", "a=b; __Host-portolan-session=x.y.z"),
            ];
            pairs.extend(more);
            let headers = headers(&pairs);
            let caller = Caller {
                method,
                uri: &uri,
                headers: &headers,
                certificates: None,
                client: [192, 0, 2, 1].into(),
                tls: None,
            };
            match jar.session(&caller) {
                SessionCookie::None => "none",
                SessionCookie::Own("x.y.z") => "own",
                SessionCookie::Own(_) => "another",
                SessionCookie::Foreign => "foreign",
                SessionCookie::Several => "several",
            }
        };
        for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
            assert_eq!(seen(&method, &[]), "own");
            assert_eq!(seen(&method, &[("sec-fetch-site", "cross-site")]), "own");
        }
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            for (more, expected) in [
                (&[][..], "foreign"),
                (&[("sec-fetch-site", "same-origin")], "own"),
                (&[("sec-fetch-site", "same-site")], "foreign"),
                (&[("sec-fetch-site", "none")], "foreign"),
                (&[("origin", "https://r.example")], "own"),
                (&[("origin", "http://r.example")], "foreign"),
                (&[("origin", "null")], "foreign"),
                (&[("origin", "https://evil.r.example")], "foreign"),
                (&[("x-zot-api-client", "zot-ui")], "own"),
                (
                    &[("x-zot-api-client", "zot-ui"), ("origin", "https://evil.example")],
                    "foreign",
                ),
                (
                    &[("x-zot-api-client", "zot-ui"), ("sec-fetch-site", "cross-site")],
                    "foreign",
                ),
                (&[("cookie", "__Host-portolan-session=other")], "several"),
            ] {
                assert_eq!(seen(&method, more), expected, "{method} {more:?}");
            }
        }
    }

    #[test]
    fn a_cookie_is_for_this_host_and_no_script() {
        let by_https = Jar::new(Origin::Fixed("https://r.example".to_owned()), false);
        let plain = Jar::new(Origin::Asked("http"), false);
        let set = |jar: &Jar| jar.set(SESSION, "x", 60).unwrap().to_str().unwrap().to_owned();
        assert_eq!(
            set(&by_https),
            "__Host-portolan-session=x; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure"
        );
        assert_eq!(
            set(&plain),
            "portolan-session=x; Path=/; Max-Age=60; HttpOnly; SameSite=Lax"
        );
        assert_eq!(set(&Jar::new(Origin::Asked("http"), true)), set(&by_https));
        assert!(plain.set(SESSION, &"x".repeat(MAX_BYTES), 60).is_none());
        // A neighbour in the domain can set one without the prefix, which counts for nothing.
        let planted = headers(&[("cookie", "portolan-session=planted")]);
        assert!(by_https.get(&planted, SESSION).one().is_none());
    }
}
