//! Looking at the files of logins without letting anybody in, for `portolan verify`.

use std::path::PathBuf;

use super::{
    FileFault,
    bearer::Tokens,
    htpasswd::Htpasswd,
    ldap::{self, Directory},
    oidc, session,
    workload::Workloads,
};
use crate::config::{
    Limits, Logins,
    access::{LdapAccount, LdapAuthority, TokenKeys},
    openid::ClientCredentials,
};

/// A file, and whether a start could use it.
#[derive(Debug)]
pub struct ExaminedFile {
    /// The key of the configuration that names it.
    pub key: &'static str,
    /// Where it is.
    pub file: PathBuf,
    /// What is wrong with it.
    pub fault: Option<FileFault>,
    /// What of it isn't used, though the rest is.
    pub left_out: Vec<String>,
}

/// Reads each file that `logins` names as a start does.
#[must_use]
pub fn examine(logins: &Logins, limits: &Limits) -> Vec<ExaminedFile> {
    let mut files = Vec::new();
    if let Some(file) = &logins.htpasswd {
        let (fault, left_out) = match Htpasswd::left_out(file) {
            Ok(left_out) => (None, left_out),
            Err(fault) => (Some(fault), Vec::new()),
        };
        files.push(ExaminedFile {
            key: "http.auth.htpasswd.path",
            file: file.clone(),
            fault,
            left_out,
        });
    }
    if let Some(bearer) = &logins.bearer {
        let (key, file) = match &bearer.keys {
            TokenKeys::Pem(file) => ("http.auth.bearer.cert", file),
            TokenKeys::Jwks(file) => ("http.auth.bearer.jwks", file),
        };
        files.push(ExaminedFile {
            key,
            file: file.clone(),
            fault: Tokens::load(bearer).err(),
            left_out: Vec::new(),
        });
    }
    if let Some(ldap) = &logins.ldap {
        if let LdapAccount::File(file) = &ldap.account {
            files.push(ExaminedFile {
                key: "http.auth.ldap.credentialsFile",
                file: file.clone(),
                fault: ldap::account_fault(file),
                left_out: Vec::new(),
            });
        }
        if let LdapAuthority::File(file) = &ldap.authority {
            files.push(ExaminedFile {
                key: "http.auth.ldap.caCert",
                file: file.clone(),
                fault: ldap::tls(ldap).err(),
                left_out: Vec::new(),
            });
        }
    }
    if let Some(openid) = &logins.openid {
        let bounds = limits.providers;
        for provider in &openid.providers {
            let secret = match &provider.client {
                ClientCredentials::File(file) => Some(file),
                ClientCredentials::Given { .. } => None,
            };
            let named = [secret, provider.authority.as_ref()].into_iter().flatten();
            let mut fault = oidc::Client::new(provider, bounds).err();
            for file in named {
                let is_its = matches!(&fault, Some(FileFault::Read { file: found, .. } | FileFault::Content { file: found, .. }) if found == file);
                files.push(ExaminedFile {
                    key: "http.auth.openid",
                    file: file.clone(),
                    fault: if is_its { fault.take() } else { None },
                    left_out: Vec::new(),
                });
            }
        }
        if let Some(file) = &openid.sessions.keys {
            files.push(ExaminedFile {
                key: "http.auth.sessionKeysFile",
                file: file.clone(),
                fault: session::keys_of_file(file).err(),
                left_out: Vec::new(),
            });
        }
    }
    for workload in &logins.workloads {
        if let Some(file) = &workload.authority {
            files.push(ExaminedFile {
                key: "http.auth.bearer.oidc[].certificateAuthorityFile",
                file: file.clone(),
                fault: Workloads::load(std::slice::from_ref(workload), &Limits::default()).err(),
                left_out: Vec::new(),
            });
        }
    }
    files
}

/// Asks each server that knows who may log in, without letting anybody in: the key of the configuration that names it, where it
/// is, and why it can't be asked.
pub async fn examine_online(
    logins: &Logins,
    limits: &Limits,
) -> Vec<(&'static str, String, Result<(), String>)> {
    let mut all = Vec::new();
    // Files have been looked at: what can't be loaded has been said.
    if let Some(ldap) = &logins.ldap
        && let Ok(directory) = Directory::load(ldap.clone(), limits)
    {
        let looked = directory.examine().await.into_iter();
        all.extend(looked.map(|(server, looked)| ("http.auth.ldap.address", server, looked)));
    }
    if let Ok(workloads) = Workloads::load(&logins.workloads, limits) {
        let looked = workloads.examine().await.into_iter();
        all.extend(looked.map(|(issuer, looked)| ("http.auth.bearer.oidc", issuer, looked)));
    }
    all
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::access::{Ldap, LdapSecurity};

    #[test]
    fn each_file_of_a_directory_has_its_own_fault() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str| {
            let file = folder.path().join(name);
            fs::write(&file, content).unwrap();
            file
        };
        for (account, is_good) in [(r#"{"bindDN":"cn=a","bindPassword":"b"}"#, true), ("{}", false)] {
            let ldap = Ldap {
                servers: vec!["127.0.0.1".to_owned()],
                port: 636,
                security: LdapSecurity::Tls,
                authority: LdapAuthority::File(file("ca.pem", "none")),
                account: LdapAccount::File(file("account.json", account)),
                base: "dc=example".to_owned(),
                subtree: true,
                user_attribute: "uid".to_owned(),
                group_attribute: None,
                user_filter: None,
            };
            let logins = Logins {
                ldap: Some(ldap),
                ..Logins::default()
            };
            let found = examine(&logins, &Limits::default());
            let said: Vec<_> = found
                .iter()
                .map(|found| {
                    let said = found.fault.as_ref().map(ToString::to_string);
                    let names_it = |said: String| said.contains(found.file.to_str().unwrap());
                    (found.key, said.map(names_it))
                })
                .collect();
            assert_eq!(
                said,
                [
                    ("http.auth.ldap.credentialsFile", (!is_good).then_some(true)),
                    ("http.auth.ldap.caCert", Some(true)),
                ]
            );
        }
    }
}
