//! Logging in: the challenge of a 401, and the token that it is answered with.
//!
//! Whoever can answer for a registry names the *realm* to which the login is sent for a token; so a registry gone bad, or a
//! wrong url, would get logins to wherever it likes. A realm gets one only over https (over http where the registry's own url is),
//! and only on the registry's host, on one of the same registrable domain (Docker Hub's is), or on one that the configuration
//! names. Where there is no login for the registry, any realm is asked.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Uri, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use tokio::time::Duration;

use super::{
    Upstream, UpstreamError,
    site::{Scope, Site},
};
use crate::outbound;

/// The longest answer of a realm, in bytes.
const MAX_TOKEN_BYTES: usize = 64 << 10;
/// How long a token is good that doesn't say it (the token specification's default).
const TOKEN_LIFE: u64 = 60;
/// For how long a token is used at most, in seconds, whatever it says.
const MAX_TOKEN_LIFE: u64 = 86_400;

/// A realm's answer. Many realms, such as Docker Hub's, say the token under both names (the token specification: they are the same).
#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Upstream {
    /// The `Authorization` that answers the challenges of a 401.
    pub(super) async fn log_in(
        &self,
        site: &Site,
        headers: &HeaderMap,
        scope: Scope<'_>,
    ) -> Result<HeaderValue, UpstreamError> {
        let denied = || UpstreamError::Denied(http::StatusCode::UNAUTHORIZED);
        let challenges = headers.get_all(header::WWW_AUTHENTICATE).iter();
        let mut challenges = challenges.filter_map(|value| Challenge::parse(value.to_str().ok()?));
        match challenges.next().ok_or_else(denied)? {
            Challenge::Basic => {
                let login = site.login.as_ref().ok_or_else(denied)?;
                let header = login.header().ok_or_else(denied)?;
                site.tokens.keep(scope, header.clone(), Duration::from_secs(3600));
                Ok(header)
            }
            Challenge::Bearer { realm, service } => {
                let token = self.token(site, &realm, service.as_deref(), scope).await?;
                let text = token.token.or(token.access_token).ok_or_else(no_token)?;
                let mut header = HeaderValue::try_from(format!("Bearer {text}")).map_err(|_| denied())?;
                header.set_sensitive(true);
                let life = token.expires_in.unwrap_or(TOKEN_LIFE).min(MAX_TOKEN_LIFE);
                let life = Duration::from_secs(life);
                site.tokens.keep(scope, header.clone(), life);
                Ok(header)
            }
        }
    }

    async fn token(
        &self,
        site: &Site,
        realm: &str,
        service: Option<&str>,
        scope: Scope<'_>,
    ) -> Result<Token, UpstreamError> {
        let nonsense = || UpstreamError::Nonsense("a token's realm that is no address");
        let uri: Uri = realm.parse().map_err(|_| nonsense())?;
        let host = uri.host().ok_or_else(nonsense)?.to_ascii_lowercase();
        // Where there is no login, there is none to give away.
        if site.login.is_some() && !may_see_logins(site, uri.scheme_str(), &host) {
            return Err(UpstreamError::Realm(host));
        }
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let joint = if uri.query().is_some() { '&' } else { '?' };
        let mut address = format!(
            "{realm}{joint}scope={}",
            encoded(&scope.for_purpose(site.purpose))
        );
        if let Some(service) = service {
            address.push_str(&format!("&service={}", encoded(service)));
        }
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = address.parse().map_err(|_| nonsense())?;
        if let Some(login) = &site.login {
            let header = login.header();
            let headers = request.headers_mut();
            headers.extend(header.map(|header| (header::AUTHORIZATION, header)));
        }
        // A redirect isn't followed: it could lead anywhere.
        let response = self.outbound.send(request, self.bounds.answer).await?;
        if response.status() != http::StatusCode::OK {
            return Err(UpstreamError::of(response.status(), None));
        }
        let body = outbound::whole(response.into_body(), MAX_TOKEN_BYTES, self.bounds.answer).await?;
        serde_json::from_slice(&body).map_err(|_| no_token())
    }
}

fn no_token() -> UpstreamError {
    UpstreamError::Nonsense("no token where one was asked for")
}

fn may_see_logins(site: &Site, scheme: Option<&str>, host: &str) -> bool {
    let is_safe = scheme == Some("https") || (scheme == Some("http") && site.url.scheme == "http");
    let own = site.url.host();
    let is_own = host == own || shares_domain(host, own) || site.realm_hosts.contains(host);
    is_safe && is_own
}

/// Suffixes below which strangers have names of their own; the longer ones of those that registries are known to be on.
const SHARED: &[&str] = &[
    "amazonaws.com",
    "appspot.com",
    "azurecr.io",
    "azurewebsites.net",
    "cloudapp.azure.com",
    "cloudfront.net",
    "fly.dev",
    "github.io",
    "gitlab.io",
    "herokuapp.com",
    "netlify.app",
    "ngrok.app",
    "ngrok.io",
    "onrender.com",
    "pages.dev",
    "run.app",
    "vercel.app",
    "web.app",
    "windows.net",
    "workers.dev",
];

/// Whether both hosts are of one registrable domain, as far as that can be told without a list of all there are: two labels, three
/// below a country's two letters where the second is short (`co.uk`). What isn't sure isn't so.
fn shares_domain(a: &str, b: &str) -> bool {
    let domain = |host: &str| {
        let labels: Vec<&str> = host.rsplit('.').collect();
        let [top, second, ..] = labels[..] else {
            return None;
        };
        if top.is_empty() || top.bytes().any(|b| b.is_ascii_digit()) {
            return None;
        }
        let wanted = if top.len() == 2 && second.len() <= 3 { 3 } else { 2 };
        let taken = labels.get(..wanted)?;
        let domain: Vec<&str> = taken.iter().rev().copied().collect();
        let domain = domain.join(".");
        (!SHARED
            .iter()
            .any(|shared| *shared == domain || host.ends_with(&format!(".{shared}"))))
        .then_some(domain)
    };
    match (domain(a), domain(b)) {
        (Some(a), Some(b)) => a == b,
        _ => false,
    }
}

/// What a 401 wants.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

impl Challenge {
    /// Reads one challenge of `WWW-Authenticate`. (RFC 9110 allows several in a field, which no registry sends.)
    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service) = (None, None);
        let mut rest = rest;
        while let Some((name, value)) = rest.split_once('=') {
            let name = name.trim_matches([' ', ',']);
            let (value, left) = match value.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => value.split_once(',').unwrap_or((value, "")),
            };
            match name.to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value.trim().to_owned()),
                "service" => service = Some(value.trim().to_owned()),
                _ => {}
            }
            rest = left;
        }
        Some(Self::Bearer {
            realm: realm?,
            service,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::UpstreamUrl;

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let bearer = |realm: &str, service: Option<&str>| Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
        };
        for (text, expected) in [
            (
                r#"Bearer realm="https://auth.example/token",service="a,b",scope="repository:a:pull,push""#,
                Some(bearer("https://auth.example/token", Some("a,b"))),
            ),
            (
                r#"bearer service=s, realm="https://r/""#,
                Some(bearer("https://r/", Some("s"))),
            ),
            ("Basic realm=\"x\"", Some(Challenge::Basic)),
            ("Bearer scope=\"x\"", None),
            ("Negotiate", None),
            ("Bearer realm=\"https://r", None),
        ] {
            assert_eq!(Challenge::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn logins_go_to_the_registrys_own_hosts_only() {
        let site = |scheme, authority: &str| {
            let url = UpstreamUrl {
                scheme,
                authority: authority.to_owned(),
            };
            Site::new(&url, None, &BTreeSet::from(["login.other.example".to_owned()]))
        };
        let hub = site("https", "registry-1.docker.io");
        for (scheme, host, may) in [
            ("https", "auth.docker.io", true),
            ("https", "registry-1.docker.io", true),
            ("https", "login.other.example", true),
            ("http", "auth.docker.io", false),
            ("https", "auth.docker.io.evil.example", false),
            ("https", "evildocker.io", false),
            ("https", "io", false),
            ("https", "127.0.0.1", false),
        ] {
            assert_eq!(may_see_logins(&hub, Some(scheme), host), may, "{scheme} {host}");
        }
        assert!(may_see_logins(
            &site("http", "reg.example:5000"),
            Some("http"),
            "reg.example"
        ));
        for (a, b, same) in [
            ("a.co.uk", "b.co.uk", false),
            ("x.a.co.uk", "y.a.co.uk", true),
            ("a.github.io", "b.github.io", false),
            ("a.azurecr.io", "b.azurecr.io", false),
            ("10.0.0.1", "11.0.0.1", false),
            ("registry.gitlab.com", "gitlab.com", true),
        ] {
            assert_eq!(shares_domain(a, b), same, "{a} {b}");
        }
    }
}
