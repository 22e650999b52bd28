//! `http.auth.openid`, and sessions.

use std::time::Duration;

use http::Uri;

use super::nodes::member;
use crate::config::{
    access::is_secure_url,
    check::Checked,
    fault::FaultKind,
    openid::{ClientCredentials, OpenId, OpenIdProvider, Place, ProviderKind, Sessions},
    secret::{self, Secret},
    tree::{Node, Value},
};

const PROVIDERS: &str = "http.auth.openid.providers";
const LENGTH: &str = "http.auth.sessionLength";

/// As long as zot's.
const DEFAULT_LENGTH: Duration = Duration::from_secs(2 * 60 * 60);
const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);

pub(super) fn openid(c: &mut Checked) -> Option<OpenId> {
    let sessions = sessions(c);
    let mut providers: Vec<OpenIdProvider> = Vec::new();
    for (name, node) in c.entries(PROVIDERS) {
        let path = format!("{PROVIDERS}.{name}");
        let Some(kind) = ProviderKind::parse(&name.to_ascii_lowercase()) else {
            let problem = "expected oidc, google, gitlab or github, as in zot: any other provider that speaks OpenID Connect is oidc".to_owned();
            c.refuse_at(FaultKind::Value, &path, node.line, problem);
            continue;
        };
        if let Value::Object(_) = node.value {
            let mut section = Section { c, path, node: &node };
            providers.extend(section.provider(kind));
        }
    }
    (!providers.is_empty()).then_some(OpenId { providers, sessions })
}

/// Providers send browsers back to a URL that they know.
pub(super) fn way_back(c: &mut Checked, openid: Option<&OpenId>, can_tell: bool) {
    if openid.is_some() && !can_tell {
        let problem = "is required with http.auth.openid where http.address is in plain HTTP beyond this machine: providers send browsers back to it, at /zot/auth/callback/PROVIDER";
        c.refuse(FaultKind::Missing, "http.externalUrl", problem);
    }
}

fn sessions(c: &mut Checked) -> Sessions {
    let length = match c.duration(LENGTH) {
        None | Some(None) => DEFAULT_LENGTH,
        Some(Some(length)) if (Duration::from_secs(1)..=LONGEST).contains(&length) => length,
        Some(Some(_)) => {
            c.refuse(FaultKind::Value, LENGTH, "expected 1s to 720h");
            DEFAULT_LENGTH
        }
    };
    Sessions {
        length,
        is_secure: c.bool("http.auth.secureSession") == Some(true),
        keys: c
            .text("http.auth.sessionKeysFile")
            .filter(|file| !file.is_empty())
            .map(Into::into),
    }
}

/// A provider's part of the file.
struct Section<'a> {
    c: &'a mut Checked,
    path: String,
    node: &'a Node,
}

impl Section<'_> {
    fn provider(&mut self, kind: ProviderKind) -> Option<OpenIdProvider> {
        let client = self.client();
        let place = match kind {
            ProviderKind::Oidc => self.issuer(None),
            ProviderKind::Google => self.issuer(Some("https://accounts.google.com")),
            ProviderKind::Gitlab => self.issuer(Some("https://gitlab.com")),
            ProviderKind::Github => self.github(),
        };
        if self.text("keypath").is_some() {
            self.refuse(
                "keypath",
                "keys to prove who the registry is aren't served: use clientsecret",
            );
        }
        let given = member(self.node, "scopes").map(|node| super::nodes::lined_strings(Some(node)));
        let defaults = match kind {
            ProviderKind::Oidc | ProviderKind::Google | ProviderKind::Gitlab => {
                ["openid", "profile", "email"]
            }
            ProviderKind::Github => ["read:user", "user:email", "read:org"],
        };
        let mut scopes: Vec<String> = match given {
            Some(given) if !given.is_empty() => given.into_iter().map(|(scope, _)| scope).collect(),
            Some(_) | None => defaults.map(str::to_owned).to_vec(),
        };
        if kind != ProviderKind::Github && !scopes.iter().any(|scope| scope == "openid") {
            scopes.insert(0, "openid".to_owned());
        }
        let mapping = member(self.node, "claimMapping");
        let claim = |name: &str, default: &str| {
            let said = mapping.and_then(|mapping| string(member(mapping, name)?));
            said.unwrap_or_else(|| default.to_owned())
        };
        Some(OpenIdProvider {
            kind,
            name: self.text("name").unwrap_or_else(|| kind.as_str().to_owned()),
            client: client?,
            scopes,
            username_claim: claim("username", "email"),
            groups_claim: claim("groups", "groups"),
            authority: self.text("certificateAuthorityFile").map(Into::into),
            place: place?,
        })
    }

    fn client(&mut self) -> Option<ClientCredentials> {
        let file = self.text("credentialsFile");
        let id = self.text("clientid");
        let secret = member(self.node, "clientsecret").and_then(|node| match &node.value {
            // What can't be read has its fault.
            Value::Object(members) => secret::pointed_to(members).ok(),
            _ => string(node),
        });
        match (file, id) {
            (Some(file), None) if secret.is_none() => Some(ClientCredentials::File(file.into())),
            (Some(_), _) => {
                self.refuse(
                    "credentialsFile",
                    "says who the registry is, as clientid and clientsecret do: keep one",
                );
                None
            }
            (None, Some(id)) => Some(ClientCredentials::Given {
                id,
                secret: secret.map(Secret::new),
            }),
            (None, None) => {
                self.refuse(
                    "clientid",
                    "is required: as whom the registry is known to the provider; or credentialsFile",
                );
                None
            }
        }
    }

    fn issuer(&mut self, default: Option<&str>) -> Option<Place> {
        for key in ["authurl", "tokenurl"] {
            if self.text(key).is_some() {
                self.refuse(key, "is said by the issuer's discovery document: leave it out");
            }
        }
        let Some(issuer) = self.text("issuer").or(default.map(str::to_owned)) else {
            self.refuse(
                "issuer",
                "is required: the provider's URL, as it stands in its discovery document",
            );
            return None;
        };
        self.good("issuer", issuer, issuer_problem).map(Place::Issuer)
    }

    fn github(&mut self) -> Option<Place> {
        let given = |url: Option<String>, default: &str| url.unwrap_or_else(|| default.to_owned());
        let authorize = given(self.text("authurl"), "https://github.com/login/oauth/authorize");
        let token = given(
            self.text("tokenurl"),
            "https://github.com/login/oauth/access_token",
        );
        if self.text("issuer").is_some() {
            self.refuse(
                "issuer",
                "GitHub is no issuer: leave it out; for GitHub Enterprise give authurl and tokenurl",
            );
        }
        let authorize = self.good("authurl", authorize, url_problem)?;
        let token = self.good("tokenurl", token, url_problem)?;
        let uri: Uri = token.parse().ok()?;
        let api = match (uri.scheme_str()?, uri.authority()?.as_str()) {
            ("https", "github.com") => "https://api.github.com".to_owned(),
            // GitHub Enterprise Server's.
            (scheme, host) => format!("{scheme}://{host}/api/v3"),
        };
        Some(Place::OAuth {
            authorize,
            token,
            api,
        })
    }

    fn good(&mut self, key: &str, url: String, problem: fn(&str) -> Option<String>) -> Option<String> {
        match problem(&url) {
            Some(problem) => {
                self.refuse(key, &problem);
                None
            }
            None => Some(url),
        }
    }

    fn text(&self, key: &str) -> Option<String> {
        string(member(self.node, key)?)
    }

    fn refuse(&mut self, key: &str, problem: &str) {
        let line = member(self.node, key).map_or(self.node.line, |node| node.line);
        let path = format!("{}.{key}", self.path);
        self.c
            .refuse_at(FaultKind::Value, &path, line, problem.to_owned());
    }
}

/// What is wrong with the name of an issuer: below it is what it publishes.
pub(super) fn issuer_problem(issuer: &str) -> Option<String> {
    const DOCUMENT: &str = "/.well-known/openid-configuration";
    match issuer.ends_with(DOCUMENT) {
        true => Some(format!(
            "expected the issuer, not its discovery document: leave {DOCUMENT} out"
        )),
        false => url_problem(issuer),
    }
}

/// What is wrong with a URL that is to be sent secrets, to which a query is added.
fn url_problem(url: &str) -> Option<String> {
    let is_good = is_secure_url(url) && !url.contains('?');
    (!is_good).then(|| {
        format!(
            "expected an https URL without a query (plain http is for loopback addresses alone), got {url:?}"
        )
    })
}

/// A string that says something.
fn string(node: &Node) -> Option<String> {
    match &node.value {
        Value::Str(text) if !text.is_empty() => Some(text.clone()),
        _ => None,
    }
}
