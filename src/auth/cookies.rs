//! Cookies: for this host alone, for no script, and not with what other sites' pages send (RFC 6265bis).

use http::{HeaderMap, HeaderValue, header::COOKIE};

use super::Origin;

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
}

/// What a request has of one name. A browser sends it by itself, whichever page makes it ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cookie<'a> {
    /// None.
    None,
    /// One.
    One(&'a str),
    /// Several: no guess is made which counts.
    Several,
}

impl<'a> Cookie<'a> {
    pub(super) fn one(self) -> Option<&'a str> {
        match self {
            Self::One(value) => Some(value),
            Self::None | Self::Several => None,
        }
    }
}

impl Jar {
    pub(super) fn new(origin: &Origin, is_secure: bool) -> Self {
        let by_https = match origin {
            Origin::Unknown => false,
            Origin::Fixed(url) => url.starts_with("https://"),
            Origin::Asked(scheme) => *scheme == "https",
        };
        Self {
            is_secure: is_secure || by_https,
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

    pub(super) fn get<'a>(&self, headers: &'a HeaderMap, name: &str) -> Cookie<'a> {
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
            (None, _) => Cookie::None,
            (Some(value), None) => Cookie::One(value),
            (Some(_), Some(_)) => Cookie::Several,
        }
    }

    /// That of a session.
    pub(super) fn session<'a>(&self, headers: &'a HeaderMap) -> Cookie<'a> {
        self.get(headers, SESSION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn of_several_sessions_none_is_taken() {
        let jar = Jar::new(&Origin::Asked("https"), false);
        let own = ("cookie", "a=b; __Host-portolan-session=x.y.z");
        let seen = |pairs: &[(&'static str, &'static str)]| match jar.session(&headers(pairs)) {
            Cookie::None => "none",
            Cookie::One("x.y.z") => "one",
            Cookie::One(_) => "another",
            Cookie::Several => "several",
        };
        assert_eq!(seen(&[("cookie", "a=b")]), "none");
        assert_eq!(seen(&[own]), "one");
        assert_eq!(
            seen(&[own, ("cookie", "__Host-portolan-session=other")]),
            "several"
        );
    }

    #[test]
    fn a_cookie_is_for_this_host_and_no_script() {
        let by_https = Jar::new(&Origin::Fixed("https://r.example".to_owned()), false);
        let plain = Jar::new(&Origin::Asked("http"), false);
        let set = |jar: &Jar| jar.set(SESSION, "x", 60).unwrap().to_str().unwrap().to_owned();
        assert_eq!(
            set(&by_https),
            "__Host-portolan-session=x; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure"
        );
        assert_eq!(
            set(&plain),
            "portolan-session=x; Path=/; Max-Age=60; HttpOnly; SameSite=Lax"
        );
        assert_eq!(set(&Jar::new(&Origin::Asked("http"), true)), set(&by_https));
        assert!(plain.set(SESSION, &"x".repeat(MAX_BYTES), 60).is_none());
        // A neighbour in the domain can set one without the prefix, which counts for nothing.
        let planted = headers(&[("cookie", "portolan-session=planted")]);
        assert!(by_https.get(&planted, SESSION).one().is_none());
    }
}
