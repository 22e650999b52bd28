//! `http.auth.ldap`: a directory that can be asked.

use crate::config::{
    access::{Ldap, LdapAccount, LdapAuthority, LdapSecurity},
    check::Checked,
    fault::FaultKind,
    secret::Secret,
};

const ADDRESS: &str = "http.auth.ldap.address";
const FILE: &str = "http.auth.ldap.credentialsFile";
const DN: &str = "http.auth.ldap.bindDN";
const PASSWORD: &str = "http.auth.ldap.bindPassword";
const START_TLS: &str = "http.auth.ldap.startTLS";
const SKIP_VERIFY: &str = "http.auth.ldap.skipVerify";
const USER_ATTRIBUTE: &str = "http.auth.ldap.userAttribute";
const GROUP_ATTRIBUTE: &str = "http.auth.ldap.userGroupAttribute";
const FILTER: &str = "http.auth.ldap.userFilter";

/// Ports that RFC 4511 and practice give to both.
const LDAP_PORT: u16 = 389;
const LDAPS_PORT: u16 = 636;

pub(super) fn ldap(c: &mut Checked) -> Option<Ldap> {
    if !c.has("http.auth.ldap") {
        return None;
    }
    let servers = servers(c);
    let security = security(c);
    let authority = authority(c, security);
    let account = account(c);
    let base = c.required("http.auth.ldap.baseDN", "below which entry users are");
    let user_attribute = c.required(
        USER_ATTRIBUTE,
        "which attribute is a user's name: uid, sAMAccountName",
    );
    let group_attribute = c.text(GROUP_ATTRIBUTE);
    for (path, attribute) in [
        (USER_ATTRIBUTE, &user_attribute),
        (GROUP_ATTRIBUTE, &group_attribute),
    ] {
        if let Some(attribute) = attribute.as_deref().filter(|attribute| !is_attribute(attribute)) {
            let problem = format!("expected an attribute, of letters, digits and hyphens, got {attribute:?}");
            c.refuse(FaultKind::Value, path, problem);
        }
    }
    let user_filter = filter(c);
    Some(Ldap {
        servers: servers?,
        port: c.port("http.auth.ldap.port").unwrap_or(match security {
            LdapSecurity::Tls => LDAPS_PORT,
            LdapSecurity::StartTls | LdapSecurity::Plain => LDAP_PORT,
        }),
        security,
        authority,
        account: account?,
        base: base?,
        subtree: c.bool("http.auth.ldap.subtreeSearch").unwrap_or_default(),
        user_attribute: user_attribute?,
        group_attribute,
        user_filter,
    })
}

/// Hosts alone: the port has its key, and what is between us and them, too.
fn servers(c: &mut Checked) -> Option<Vec<String>> {
    let named = c.texts(ADDRESS).unwrap_or_default();
    if named.is_empty() {
        c.refuse(
            FaultKind::Missing,
            ADDRESS,
            "is required: the directory's host, or several",
        );
        return None;
    }
    let mut hosts = Vec::new();
    for (i, (host, line)) in named.into_iter().enumerate() {
        let is_address = host.parse::<std::net::IpAddr>().is_ok();
        let is_name = !host.is_empty()
            && host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        if !is_address && !is_name {
            let problem = format!("expected a host, without scheme and port, got {host:?}");
            c.refuse_element(FaultKind::Value, ADDRESS, i, line, problem);
        }
        hosts.push(host);
    }
    Some(hosts)
}

fn security(c: &mut Checked) -> LdapSecurity {
    let insecure = c.bool("http.auth.ldap.insecure").unwrap_or_default();
    match (insecure, c.bool(START_TLS).unwrap_or_default()) {
        (true, true) => LdapSecurity::StartTls,
        (true, false) => {
            c.warn(
                "http.auth.ldap.insecure: passwords go to the directory in the clear: say startTLS, too, or leave insecure out for LDAPS",
            );
            LdapSecurity::Plain
        }
        (false, true) => {
            c.warn(format!(
                "{START_TLS}: has no effect without insecure, as in zot: this is LDAPS; say insecure: true for StartTLS"
            ));
            LdapSecurity::Tls
        }
        (false, false) => LdapSecurity::Tls,
    }
}

fn authority(c: &mut Checked, security: LdapSecurity) -> LdapAuthority {
    let skips = c.bool(SKIP_VERIFY).unwrap_or_default();
    if skips && security != LdapSecurity::Plain {
        c.warn(format!(
            "{SKIP_VERIFY}: whoever is on the way can say that they are the directory, and learns passwords: give caCert instead"
        ));
    }
    match (skips, c.text("http.auth.ldap.caCert")) {
        (true, _) => LdapAuthority::Unverified,
        (false, Some(file)) => LdapAuthority::File(file.into()),
        (false, None) => LdapAuthority::Machine,
    }
}

fn account(c: &mut Checked) -> Option<LdapAccount> {
    match (c.text(FILE), c.text(DN), c.text(PASSWORD)) {
        (None, None, None) => Some(LdapAccount::Anonymous),
        (Some(file), None, None) => Some(LdapAccount::File(file.into())),
        (Some(_), _, _) => {
            let problem =
                "it and bindDN or bindPassword both say as whom the directory is searched: keep one";
            c.refuse(FaultKind::Contradiction, FILE, problem);
            None
        }
        (None, Some(dn), Some(password)) => Some(LdapAccount::Named {
            dn,
            password: Secret::new(password),
        }),
        // With a name alone a directory says yes to anybody (RFC 4513, 5.1.2).
        (None, Some(_), None) => {
            c.required(PASSWORD, "the password of bindDN");
            None
        }
        (None, None, Some(_)) => {
            c.required(DN, "whose password bindPassword is");
            None
        }
    }
}

fn filter(c: &mut Checked) -> Option<String> {
    let text = c.text(FILTER)?;
    let text = match text.starts_with('(') {
        true => text,
        false => format!("({text})"),
    };
    match ldap3::parse_filter(&text) {
        Ok(_) => Some(text),
        Err(()) => {
            let problem = format!(
                "expected a filter as RFC 4515 writes it, such as (!(loginDisabled=TRUE)), got {text:?}"
            );
            c.refuse(FaultKind::Value, FILTER, problem);
            None
        }
    }
}

/// A short name or an object identifier (RFC 4512, 2.5).
fn is_attribute(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b';'))
}
