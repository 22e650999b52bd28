//! One connection to a directory: who is searched for, and whether they bind by their password.
//!
//! Every request begins by binding as the account that searches, since the one before ended as a user. Referrals aren't
//! followed: they would lead passwords to where nobody has configured.

use std::{sync::Arc, time::Duration};

use ldap3::{
    DerefAliases, Ldap as Handle, LdapConnAsync, LdapConnSettings, LdapError, LdapResult, ResultEntry, Scope,
    SearchEntry, SearchOptions, SearchResult,
};
use rustls::ClientConfig;
use tokio_util::task::TaskTracker;

use crate::{
    causes,
    config::access::{Ldap, LdapSecurity},
};

/// Result codes (RFC 4511, appendix A.2) by which a directory says no to a password.
const REFUSED: [u32; 9] = [
    16, // noSuchAttribute
    19, // constraintViolation
    32, // noSuchObject
    34, // invalidDNSyntax
    48, // inappropriateAuthentication: the entry has no password
    49, // invalidCredentials
    50, // insufficientAccessRights
    53, // unwillingToPerform
    65, // objectClassViolation
];
const SUCCESS: u32 = 0;
const SIZE_LIMIT_EXCEEDED: u32 = 4;
const INVALID_CREDENTIALS: u32 = 49;

/// Why a directory said nothing of somebody.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// The connection is gone, or there is none.
    Lost(String),
    /// It can't be used as it is configured.
    Useless(String),
    /// It doesn't answer this question.
    Odd(String),
}

impl Failure {
    pub(super) fn reason(&self) -> &str {
        match self {
            Self::Lost(reason) | Self::Useless(reason) | Self::Odd(reason) => reason,
        }
    }
}

/// As whom is searched: a distinguished name and its password, both empty for nobody.
#[derive(Clone, Default)]
pub(super) struct Account {
    pub(super) dn: String,
    pub(super) password: String,
}

/// Somebody, as the directory knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Person {
    /// Their entry.
    pub(super) dn: String,
    /// Their name, in the directory's spelling.
    pub(super) user: String,
    /// The values of the attribute for groups.
    pub(super) groups: Vec<String>,
}

/// A connection.
pub(super) struct Session {
    handle: Handle,
    bound: Duration,
}

impl Session {
    /// One to `server`; each of its requests is bounded.
    pub(super) async fn open(
        spec: &Ldap,
        server: &str,
        tls: Option<&Arc<ClientConfig>>,
        bound: Duration,
        tasks: &TaskTracker,
    ) -> Result<Self, Failure> {
        let scheme = match spec.security {
            LdapSecurity::Tls => "ldaps",
            LdapSecurity::StartTls | LdapSecurity::Plain => "ldap",
        };
        let host = match server.contains(':') {
            true => format!("[{server}]"),
            false => server.to_owned(),
        };
        let url = format!("{scheme}://{host}:{}", spec.port);
        let mut settings = LdapConnSettings::new()
            .set_conn_timeout(bound)
            .set_starttls(spec.security == LdapSecurity::StartTls);
        if let Some(tls) = tls {
            settings = settings.set_config(tls.clone());
        }
        let opened = LdapConnAsync::with_settings(settings, &url).await;
        let (connection, handle) =
            opened.map_err(|error| Failure::Lost(format!("{url}: {}", said(&error))))?;
        // It ends when the last handle goes.
        tasks.spawn(async move {
            if let Err(error) = connection.drive().await {
                tracing::debug!(%url, %error, "a connection to the directory ended");
            }
        });
        Ok(Self { handle, bound })
    }

    /// Binds as who searches.
    pub(super) async fn begin(&mut self, account: &Account) -> Result<(), Failure> {
        let answer = self.bind(&account.dn, &account.password).await?;
        match (answer.rc, account.dn.as_str()) {
            (SUCCESS, _) => Ok(()),
            (INVALID_CREDENTIALS, dn) => Err(Failure::Useless(format!(
                "the directory refuses the password of {dn:?}, as whom it is to be searched"
            ))),
            (_, "") => Err(Failure::Useless(format!(
                "the directory lets nobody search it without a name: give credentialsFile ({answer})"
            ))),
            (_, dn) => Err(Failure::Useless(format!(
                "the directory lets {dn:?} not bind: {answer}"
            ))),
        }
    }

    /// Whether there is an entry below which users can be.
    pub(super) async fn look_at_base(&mut self, spec: &Ldap) -> Result<(), Failure> {
        let search = self
            .handle
            .with_timeout(self.bound)
            .search(&spec.base, Scope::Base, "(objectClass=*)", vec!["1.1"])
            .await;
        let SearchResult(entries, answer) = search.map_err(|error| failure(&error))?;
        match (answer.rc, entries.is_empty()) {
            (SUCCESS, false) => Ok(()),
            _ => Err(Failure::Useless(format!(
                "the directory shows no entry {:?} to search below: {}",
                spec.base,
                told(&answer)
            ))),
        }
    }

    /// The one entry that is `user`'s, if there is one.
    pub(super) async fn find(&mut self, spec: &Ldap, user: &str) -> Result<Option<Person>, Failure> {
        let scope = match spec.subtree {
            true => Scope::Subtree,
            false => Scope::OneLevel,
        };
        let attributes: Vec<&str> = std::iter::once(spec.user_attribute.as_str())
            .chain(spec.group_attribute.as_deref())
            .collect();
        // More than one is as good as none, so there is no use in more than two.
        let options = SearchOptions::new().deref(DerefAliases::Never).sizelimit(2);
        let search = self
            .handle
            .with_search_options(options)
            .with_timeout(self.bound)
            .search(&spec.base, scope, &filter(spec, user), attributes)
            .await;
        let SearchResult(found, answer) = search.map_err(|error| failure(&error))?;
        if !matches!(answer.rc, SUCCESS | SIZE_LIMIT_EXCEEDED) {
            return Err(Failure::Odd(format!(
                "the directory can't be searched: {}",
                told(&answer)
            )));
        }
        let is_entry = |entry: &ResultEntry| !entry.is_ref() && !entry.is_intermediate();
        let mut entries = found.into_iter().filter(is_entry).map(SearchEntry::construct);
        match (entries.next(), entries.next()) {
            (Some(entry), None) => Ok(person(spec, entry, user)),
            (None, _) => Ok(None),
            (Some(one), Some(other)) => {
                tracing::warn!(one = %one.dn, other = %other.dn, "two entries of the directory have one name: neither can log in by it");
                Ok(None)
            }
        }
    }

    /// Whether `dn` has this password. An empty one proves nothing and is never sent (RFC 4513, 5.1.2).
    pub(super) async fn proves(&mut self, dn: &str, password: &str) -> Result<bool, Failure> {
        if dn.is_empty() || password.is_empty() {
            return Ok(false);
        }
        let answer = self.bind(dn, password).await?;
        match answer.rc {
            SUCCESS => Ok(true),
            code if REFUSED.contains(&code) => Ok(false),
            _ => Err(Failure::Odd(format!(
                "the directory says neither yes nor no to a password: {}",
                told(&answer)
            ))),
        }
    }

    async fn bind(&mut self, dn: &str, password: &str) -> Result<LdapResult, Failure> {
        let answer = self
            .handle
            .with_timeout(self.bound)
            .simple_bind(dn, password)
            .await;
        answer.map_err(|error| failure(&error))
    }
}

/// Matches who is called this and fits what else is wanted. What the name holds is text, never part of the filter (RFC 4515, 3).
fn filter(spec: &Ldap, user: &str) -> String {
    let name = format!("({}={})", spec.user_attribute, ldap3::ldap_escape(user));
    match &spec.user_filter {
        Some(filter) => format!("(&{name}{filter})"),
        None => name,
    }
}

/// Whoever the entry is of. Directories compare without regard to case; what counts here is how they spell it, or one person would be
/// several to the policies.
fn person(spec: &Ldap, entry: SearchEntry, asked: &str) -> Option<Person> {
    let values = |attribute: &str| -> Vec<String> {
        let named = |(name, _): &(&String, &Vec<String>)| name.eq_ignore_ascii_case(attribute);
        entry
            .attrs
            .iter()
            .find(named)
            .map(|(_, values)| values.clone())
            .unwrap_or_default()
    };
    let is_it = |name: &String| name == asked || name.to_lowercase() == asked.to_lowercase();
    let names = values(&spec.user_attribute);
    let exact = names.iter().find(|name| *name == asked);
    let user = exact.or_else(|| names.iter().find(|name| is_it(name)))?.clone();
    let groups = spec.group_attribute.as_deref().map(values).unwrap_or_default();
    Some(Person {
        user,
        groups,
        dn: entry.dn,
    })
}

/// A request that got no answer, or one that can't be read.
fn failure(error: &LdapError) -> Failure {
    match error {
        LdapError::FilterParsing => Failure::Odd(said(error)),
        _ => Failure::Lost(said(error)),
    }
}

fn said(error: &LdapError) -> String {
    match error {
        LdapError::LdapResult { result } => told(result),
        error => causes::in_a_line(error),
    }
}

fn told(answer: &LdapResult) -> String {
    match answer.refs.as_slice() {
        [] => answer.to_string(),
        refs => format!(
            "it refers to {}, which isn't asked: name that server in address",
            refs.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::access::{LdapAccount, LdapAuthority};

    fn spec(filter: Option<&str>) -> Ldap {
        Ldap {
            servers: vec!["127.0.0.1".to_owned()],
            port: 389,
            security: LdapSecurity::Plain,
            authority: LdapAuthority::Machine,
            account: LdapAccount::Anonymous,
            base: "ou=people,dc=example,dc=org".to_owned(),
            subtree: false,
            user_attribute: "uid".to_owned(),
            group_attribute: Some("memberOf".to_owned()),
            user_filter: filter.map(str::to_owned),
        }
    }

    #[test]
    fn a_name_is_text_in_the_filter_whatever_it_holds() {
        for (user, expected) in [
            ("ann", "(uid=ann)"),
            ("*", "(uid=\\2a)"),
            ("a)(uid=*", "(uid=a\\29\\28uid=\\2a)"),
            ("a\\", "(uid=a\\5c)"),
            ("jos\u{e9}", "(uid=jos\u{e9})"),
        ] {
            let filter = filter(&spec(None), user);
            assert_eq!(filter, expected);
            assert!(ldap3::parse_filter(&filter).is_ok());
        }
        let both = filter(&spec(Some("(!(off=TRUE))")), "x)(|(uid=*");
        assert_eq!(both, "(&(uid=x\\29\\28|\\28uid=\\2a)(!(off=TRUE)))");
    }

    #[test]
    fn who_it_is_is_spelled_as_in_the_directory() {
        let entry = |names: &[&str]| SearchEntry {
            dn: "uid=ann,dc=example".to_owned(),
            attrs: [
                (
                    "UID".to_owned(),
                    names.iter().map(|&name| name.to_owned()).collect(),
                ),
                ("memberof".to_owned(), vec!["cn=a".to_owned(), "cn=b".to_owned()]),
            ]
            .into(),
            bin_attrs: Default::default(),
        };
        let of = |names: &[&str], asked: &str| person(&spec(None), entry(names), asked);
        let ann = of(&["ann"], "ANN").unwrap();
        assert_eq!((ann.user.as_str(), ann.groups.len()), ("ann", 2));
        assert_eq!(of(&["Ann", "ann"], "ann").unwrap().user, "ann");
        assert_eq!(of(&["other", "Ann"], "ann").unwrap().user, "Ann");
        // Found by what compares equal in some other way, or by an attribute that it doesn't show.
        assert_eq!(of(&["a nn"], "a  nn"), None);
        assert_eq!(of(&[], "ann"), None);
    }
}
