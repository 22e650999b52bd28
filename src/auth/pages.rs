//! Whose pages make a browser ask. It adds what it keeps, a password, a certificate or a cookie, whichever page that is; so what
//! changes something is taken from the registry's own pages alone.
//!
//! Browsers say whose page asks, by a header that no page can set (Fetch Metadata) or at least by `Origin` (RFC 6454; with every
//! request but `GET` and `HEAD`, says the fetch standard). Who says neither is a program, which nobody else makes ask.

use http::header::ORIGIN;

use super::{
    Caller,
    origin::{self, Origin},
};

const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// From whose pages a request is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// From anybody's: it changes nothing, or comes from a page that was told by CORS that it may ask.
    All,
    /// From the registry's own.
    Own,
}

/// Whether a browser says that somebody else's page asks.
pub(super) fn are_foreign(own: &Origin, caller: &Caller<'_>) -> bool {
    let sites = caller.headers.get_all(SEC_FETCH_SITE);
    if sites.iter().next().is_some() {
        // Without a page it is the user who asks, by what they typed.
        return !sites.iter().all(|site| site == "same-origin" || site == "none");
    }
    let host = origin::host(caller.uri, caller.headers);
    let mut origins = caller.headers.get_all(ORIGIN).iter();
    !origins.all(|page| page.to_str().is_ok_and(|page| own.has_page(page, host)))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Method, Uri};

    use super::*;

    #[test]
    fn a_browser_says_whose_page_asks_and_a_program_says_nothing() {
        let external = Origin::Fixed("https://r.example".to_owned());
        let by_tls = Origin::Asked("https");
        let site = |of| ("sec-fetch-site", of);
        let page = |of| ("origin", of);
        for (own, headers, is_foreign) in [
            (&Origin::Unknown, &[][..], false),
            (&Origin::Unknown, &[site("same-origin")], false),
            (&Origin::Unknown, &[site("none")], false),
            (&Origin::Unknown, &[site("same-site")], true),
            (&Origin::Unknown, &[site("cross-site")], true),
            (&Origin::Unknown, &[site("")], true),
            (&Origin::Unknown, &[site("same-origin"), site("cross-site")], true),
            // What the browser says of the site goes before what it says of the origin.
            (
                &Origin::Unknown,
                &[site("cross-site"), page("http://h:5000")],
                true,
            ),
            (&Origin::Unknown, &[page("http://h:5000")], false),
            // Something before it may end TLS.
            (&Origin::Unknown, &[page("https://H:5000")], false),
            (&by_tls, &[page("https://h:5000")], false),
            (&by_tls, &[page("http://h:5000")], true),
            (&external, &[page("https://r.example")], false),
            (&external, &[page("http://r.example")], true),
            // Also by its own name.
            (&external, &[page("http://h:5000")], false),
            (&Origin::Unknown, &[page("https://r.example")], true),
            (&Origin::Unknown, &[page("http://h")], true),
            (&Origin::Unknown, &[page("http://x.h:5000")], true),
            (&Origin::Unknown, &[page("null")], true),
            (&Origin::Unknown, &[page("")], true),
            (
                &Origin::Unknown,
                &[page("http://h:5000"), page("https://evil.example")],
                true,
            ),
            (&Origin::Unknown, &[("x-zot-api-client", "zot-ui")], false),
            (
                &Origin::Unknown,
                &[("x-zot-api-client", "zot-ui"), page("https://evil.example")],
                true,
            ),
        ] {
            let mut map = HeaderMap::from_iter([(http::header::HOST, HeaderValue::from_static("h:5000"))]);
            for (name, value) in headers {
                map.append(*name, HeaderValue::from_static(value));
            }
            let caller = Caller {
                method: &Method::POST,
                uri: &Uri::from_static("/v2/"),
                headers: &map,
                certificates: None,
                client: [192, 0, 2, 1].into(),
                tls: None,
            };
            assert_eq!(are_foreign(own, &caller), is_foreign, "{own:?} {headers:?}");
        }
    }
}
