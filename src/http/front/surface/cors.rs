//! Which pages in browsers may ask (the fetch standard's CORS protocol), with zot's headers.
//!
//! No page of another origin is told that it may send what a browser keeps (a session's cookie, a certificate), so it can do no more
//! than its user can with their password. Still only those origins are told yes that are configured, where any are.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header};

/// Which origins may ask.
#[derive(Clone, Debug, Default)]
pub(in crate::http::front) struct Origins(Arc<[String]>);

impl Origins {
    /// These; without any, all.
    pub(in crate::http::front) fn new(origins: &[String]) -> Self {
        Self(origins.into())
    }

    /// Whether a page that asks is told that it may, and so may change something, too: by what it was given, since a browser adds
    /// nothing that it keeps. What a browser asks before a `PUT` it was answered by the same rule.
    pub(super) fn admit(&self, asked: &HeaderMap) -> bool {
        self.allowed(asked).is_some()
    }

    /// The origins that are told that they may ask: `*`, or the one that does.
    fn allowed(&self, asked: &HeaderMap) -> Option<HeaderValue> {
        if self.are_all() {
            return Some(HeaderValue::from_static("*"));
        }
        let mut origins = asked.get_all(header::ORIGIN).iter();
        let (Some(page), None) = (origins.next(), origins.next()) else {
            return None;
        };
        let is_listed = self.0.iter().any(|origin| origin.as_bytes() == page.as_bytes());
        is_listed.then(|| page.clone())
    }

    fn are_all(&self) -> bool {
        self.0.is_empty() || self.0.iter().any(|origin| origin == "*")
    }

    /// What an answer says to a page that asked by one of `methods`.
    pub(super) fn say(&self, asked: &HeaderMap, methods: &'static str, headers: &mut HeaderMap) {
        if !self.are_all() {
            // Another origin gets another answer.
            headers.append(header::VARY, HeaderValue::from_static("Origin"));
        }
        let Some(allowed) = self.allowed(asked) else {
            return;
        };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        for (name, value) in [
            (header::ACCESS_CONTROL_ALLOW_METHODS, methods),
            (
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                "Authorization,content-type,X-ZOT-API-CLIENT",
            ),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_origins_that_are_listed_are_told_yes() {
        let said = |listed: &[&str], origin: Option<&'static str>| {
            let listed: Vec<String> = listed.iter().map(|origin| (*origin).to_owned()).collect();
            let mut asked = HeaderMap::new();
            asked.extend(origin.map(|origin| (header::ORIGIN, HeaderValue::from_static(origin))));
            let mut headers = HeaderMap::new();
            Origins::new(&listed).say(&asked, "GET,OPTIONS", &mut headers);
            let text = |name| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            (text(header::ACCESS_CONTROL_ALLOW_ORIGIN), text(header::VARY))
        };
        let vary = Some("Origin".to_owned());
        assert_eq!(said(&[], None), (Some("*".into()), None));
        assert_eq!(said(&["*"], Some("https://a.example")), (Some("*".into()), None));
        let listed = ["https://a.example", "https://b.example:8443"];
        for origin in listed {
            assert_eq!(
                said(&listed, Some(origin)),
                (Some(origin.to_owned()), vary.clone())
            );
        }
        for origin in [
            "https://a.example.evil",
            "http://a.example",
            "null",
            "https://b.example",
        ] {
            assert_eq!(said(&listed, Some(origin)), (None, vary.clone()), "{origin}");
        }
        assert_eq!(said(&listed, None), (None, vary));
    }
}
