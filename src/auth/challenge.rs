//! What a client is told about how to log in: `WWW-Authenticate`.
//!
//! Where several ways are open there are several headers, the token service's first: clients that know both take a
//! token. A certificate has no scheme of its own, so where nothing else is open the header only says so.

use std::fmt::Write as _;

use http::HeaderValue;

use super::{Caller, Origin, TOKEN_PATH, origin};
use crate::{
    config::{Logins, access::Bearer},
    oci::{Action, Need, Permission, Route},
};

/// The ways to log in, as headers say them.
#[derive(Clone, Debug)]
pub(super) struct Challenges {
    realm: String,
    basic: bool,
    certificates: bool,
    tokens: TokenService,
}

/// Who gives tokens.
#[derive(Clone, Debug)]
pub(super) enum TokenService {
    /// Nobody.
    None,
    /// A service of somebody else's.
    External(Bearer),
    /// This registry, which clients reach like this.
    Own(Origin),
}

/// What one client is told: where tokens are given may depend on the host it asked for.
#[derive(Clone, Copy)]
pub(super) struct Told<'a> {
    all: &'a Challenges,
    host: Option<&'a str>,
}

/// Why a token isn't enough (RFC 6750, 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenFault {
    Invalid,
    InsufficientScope,
}

impl Challenges {
    pub(super) fn new(logins: &Logins, tokens: TokenService) -> Self {
        let realm = logins.realm.as_deref().unwrap_or("portolan");
        Self {
            realm: realm.to_owned(),
            basic: logins.htpasswd.is_some()
                || logins.ldap.is_some()
                || !logins.workloads.is_empty()
                || logins.api_keys == crate::config::access::ApiKeys::On,
            certificates: logins.certificates.is_some(),
            tokens,
        }
    }

    /// What to tell `caller`.
    pub(super) fn told<'a>(&'a self, caller: &Caller<'a>) -> Told<'a> {
        Told {
            all: self,
            host: origin::host(caller.uri, caller.headers),
        }
    }
}

impl Told<'_> {
    /// For somebody who hasn't logged in and needs `scope`.
    ///
    /// Beside tokens of the registry's own no password is asked for, though it is taken: docker, where it is asked for both and
    /// has no password, asks nobody for a token and gives up.
    pub(super) fn all(self, scope: &str) -> Vec<HeaderValue> {
        match (self.bearer(scope, None), &self.all.tokens) {
            (Some(bearer), TokenService::Own(_)) => vec![bearer],
            (bearer, _) => bearer.into_iter().chain(self.passwords()).collect(),
        }
    }

    /// For somebody who wants a token, or can't use one.
    pub(super) fn passwords(self) -> Vec<HeaderValue> {
        let Challenges { realm, basic, .. } = self.all;
        let has_external = matches!(self.all.tokens, TokenService::External(_));
        let challenge = match (basic, self.all.certificates) {
            (true, _) => format!("Basic realm=\"{realm}\",charset=\"UTF-8\""),
            (false, true) if !has_external => format!("ClientCertificate realm=\"{realm}\""),
            (false, _) => return Vec::new(),
        };
        HeaderValue::try_from(challenge).into_iter().collect()
    }

    /// For somebody whose token isn't enough.
    pub(super) fn bearer(self, scope: &str, fault: Option<TokenFault>) -> Option<HeaderValue> {
        let (realm, service) = match &self.all.tokens {
            TokenService::None => return None,
            TokenService::External(bearer) => (bearer.realm.clone(), bearer.service.clone()),
            TokenService::Own(origin) => {
                let (base, host) = origin.base(self.host)?;
                (format!("{base}{TOKEN_PATH}"), host)
            }
        };
        let mut text = format!("Bearer realm=\"{realm}\",service=\"{service}\"");
        // Writing to a String doesn't fail.
        if !scope.is_empty() {
            let _ = write!(text, ",scope=\"{scope}\"");
        }
        match fault {
            None => {}
            Some(TokenFault::Invalid) => text.push_str(",error=\"invalid_token\""),
            Some(TokenFault::InsufficientScope) => text.push_str(",error=\"insufficient_scope\""),
        }
        HeaderValue::try_from(text).ok()
    }
}

/// What a token for `route` must say, in docker's words.
pub(super) fn scope(route: &Route) -> String {
    match route {
        Route::ApiVersion => String::new(),
        Route::Catalog { .. } | Route::Run { .. } => "registry:catalog:*".to_owned(),
        Route::ListTags { .. }
        | Route::GetManifest { .. }
        | Route::HeadManifest { .. }
        | Route::PutManifest { .. }
        | Route::DeleteManifest { .. }
        | Route::GetBlob { .. }
        | Route::HeadBlob { .. }
        | Route::DeleteBlob { .. }
        | Route::StartUpload { .. }
        | Route::PushBlob { .. }
        | Route::MountBlob { .. }
        | Route::UploadStatus { .. }
        | Route::UploadChunk { .. }
        | Route::FinishUpload { .. }
        | Route::CancelUpload { .. }
        | Route::Referrers { .. }
        | Route::TagHistory { .. }
        | Route::ManifestAt { .. }
        | Route::Changes { .. }
        | Route::Restore { .. } => {
            let permissions = route.permissions();
            // Nobody has to ask for what their request can do without where it goes.
            let is_asked_for = |permission: &&Permission| match permission.need {
                Need::Optional(_) => Some(&permission.repository) != route.repository(),
                Need::Required(_) | Need::AnyOf(_) => true,
            };
            let mut scopes: Vec<String> = permissions
                .iter()
                .filter(is_asked_for)
                .map(of_permission)
                .collect();
            scopes.dedup();
            scopes.join(" ")
        }
    }
}

fn of_permission(permission: &Permission) -> String {
    let actions = match permission.need {
        Need::AnyOf(_) => "pull,push",
        Need::Required(action) | Need::Optional(action) => match action {
            Action::Read => "pull",
            // Who pushes looks first what is there.
            Action::Create | Action::Update => "pull,push",
            Action::Delete => "delete",
        },
    };
    format!("repository:{}:{actions}", permission.repository)
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn each_route_asks_for_what_it_needs() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (method, target, expected) in [
            (Method::GET, "/v2/".to_owned(), ""),
            (Method::GET, "/v2/_catalog".to_owned(), "registry:catalog:*"),
            (Method::GET, "/v2/a/b/tags/list".to_owned(), "repository:a/b:pull"),
            (
                Method::PUT,
                "/v2/a/manifests/x".to_owned(),
                "repository:a:pull,push",
            ),
            (
                Method::DELETE,
                "/v2/a/manifests/x".to_owned(),
                "repository:a:delete",
            ),
            (
                Method::POST,
                "/v2/a/blobs/uploads/".to_owned(),
                "repository:a:pull,push",
            ),
            (
                Method::POST,
                format!("/v2/a/blobs/uploads/?mount={digest}&from=b"),
                "repository:a:pull,push repository:b:pull",
            ),
        ] {
            let (path, query) = target
                .split_once('?')
                .map_or((target.as_str(), None), |(p, q)| (p, Some(q)));
            let route = Route::parse(&method, path, query).unwrap();
            assert_eq!(scope(&route), expected);
        }
    }
}
