//! Looking at the files of logins without letting anybody in, for `portolan verify`.

use std::path::PathBuf;

use super::{
    FileFault,
    bearer::Tokens,
    htpasswd::Htpasswd,
    ldap::Directory,
    oidc::{self, FetchBounds},
    session,
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
        // Whatever of its files can't be used is named by the fault; without any, nothing can be wrong here.
        let named = match (&ldap.account, &ldap.authority) {
            (LdapAccount::File(file), _) => Some(("http.auth.ldap.credentialsFile", file)),
            (_, LdapAuthority::File(file)) => Some(("http.auth.ldap.caCert", file)),
            _ => None,
        };
        if let Some((key, file)) = named {
            files.push(ExaminedFile {
                key,
                file: file.clone(),
                fault: Directory::load(ldap.clone(), limits).err(),
                left_out: Vec::new(),
            });
        }
    }
    if let Some(openid) = &logins.openid {
        let bounds = FetchBounds::from(limits);
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
