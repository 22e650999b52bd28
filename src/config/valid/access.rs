//! `http.auth` and `http.accessControl`: who may log in and who may do what, without contradictions.

use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use http::Uri;

use super::{
    ldap,
    nodes::{elements, lined_strings, member, required, text},
};
use crate::{
    config::{
        access::{
            AccessControl, ApiKeys, Bearer, CertificateName, CertificateNames, Condition, Logins,
            MetricsAccess, OwnTokens, Policy, REQUEST, REQUEST_NAME, Rule, TokenKeys, is_user_name,
        },
        check::Checked,
        expression::{Expression, Gives},
        fault::FaultKind,
        model::{Listen, ListenAddress, TlsFiles},
        openid::OpenId,
        tree::{Node, Value},
    },
    oci::{Action, RepoPattern},
};

const ACCESS_CONTROL: &str = "http.accessControl";
const REPOSITORIES: &str = "http.accessControl.repositories";
const GROUPS: &str = "http.accessControl.groups";
const ADMIN: &str = "http.accessControl.adminPolicy";
const ATTRIBUTES: &str = "http.auth.mtls.identityAttributes";
const URI_PATTERN: &str = "http.auth.mtls.uriSanPattern";

/// Most conditions of a policy.
const MAX_CONDITIONS: usize = 16;

/// The longest that a failed login may wait.
const MAX_FAIL_DELAY: i64 = 60;

pub(super) fn logins(c: &mut Checked, tls: Option<&TlsFiles>, openid: Option<OpenId>) -> Logins {
    let htpasswd = c.has("http.auth.htpasswd").then(|| {
        c.required(
            "http.auth.htpasswd.path",
            "the file of names and hashes of passwords; leave htpasswd out to have none",
        )
    });
    let logins = Logins {
        realm: c.text("http.realm"),
        htpasswd: htpasswd.flatten().map(Into::into),
        ldap: ldap::ldap(c),
        bearer: bearer(c),
        // Read by itself.
        workloads: Vec::new(),
        api_keys: match c.bool("http.auth.apikey") {
            Some(true) => ApiKeys::On,
            // Who logs in by a browser has nothing else to give to a client.
            None if openid.is_some() => ApiKeys::On,
            Some(false) | None => ApiKeys::Off,
        },
        tokens: match c.bool("http.auth.token.enable") {
            Some(false) => OwnTokens::Off,
            Some(true) | None => OwnTokens::On,
        },
        certificates: certificates(c, tls),
        openid,
        fail_delay: fail_delay(c),
    };
    if logins.realm.as_deref().is_some_and(|realm| !is_quotable(realm)) {
        let problem = "expected visible ASCII characters and spaces, without quotes and backslashes";
        c.refuse(FaultKind::Value, "http.realm", problem);
    }
    let can_make_keys = c.has("http.auth.htpasswd")
        || logins.certificates.is_some()
        || c.has("http.auth.ldap")
        || !c.entries("http.auth.openid.providers").is_empty();
    if logins.api_keys == ApiKeys::On && !can_make_keys {
        let problem = "users make keys after they have logged in by password, certificate or openid: configure htpasswd, ldap, http.tls.cacert or openid, too";
        c.refuse(FaultKind::Contradiction, "http.auth.apikey", problem);
    }
    logins
}

fn fail_delay(c: &mut Checked) -> Duration {
    const PATH: &str = "http.auth.failDelay";
    match c.int(PATH) {
        None => Duration::ZERO,
        Some(seconds @ 0..=MAX_FAIL_DELAY) => Duration::from_secs(seconds.unsigned_abs()),
        Some(other) => {
            let problem = format!("expected 0 to {MAX_FAIL_DELAY} seconds, got {other}");
            c.refuse(FaultKind::Value, PATH, problem);
            Duration::ZERO
        }
    }
}

fn bearer(c: &mut Checked) -> Option<Bearer> {
    const REALM: &str = "http.auth.bearer.realm";
    const CERT: &str = "http.auth.bearer.cert";
    const JWKS: &str = "http.auth.bearer.jwks";
    // With another way to know tokens, which has its fault, the rest isn't needed.
    if !c.has("http.auth.bearer") || c.is_unserved("http.auth.bearer.awsSecretsManager") {
        return None;
    }
    // Tokens of workloads alone: the registry's own are for everybody else.
    if !c.elements("http.auth.bearer.oidc").is_empty() && !c.has(CERT) && !c.has(JWKS) {
        if c.has(REALM) {
            c.warn(format!(
                "{REALM}: has no effect without cert: who has a token of bearer.oidc shows it or gets one of the registry's own for it"
            ));
        }
        return None;
    }
    let realm = c.required(REALM, "the URL at which clients get tokens");
    let service = c.required(
        "http.auth.bearer.service",
        "this registry's name at the token service, which is the audience of its tokens",
    );
    if let Some(realm) = &realm {
        let url = realm.parse::<Uri>().ok();
        let is_url =
            url.is_some_and(|url| matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some());
        if !is_url || realm.contains(['"', '\\']) {
            c.refuse(
                FaultKind::Value,
                REALM,
                format!("expected an http(s) URL, got {realm:?}"),
            );
        }
    }
    if service.as_deref().is_some_and(|service| !is_quotable(service)) {
        let problem = "expected visible ASCII characters and spaces, without quotes and backslashes";
        c.refuse(FaultKind::Value, "http.auth.bearer.service", problem);
    }
    let keys = match (c.text(CERT), c.text(JWKS)) {
        (Some(file), None) => Some(TokenKeys::Pem(file.into())),
        (None, Some(url)) if url.contains("://") => {
            let problem = "expected a file, got a URL: keys aren't fetched; let a timer fetch the set into a file (curl -fsSo new URL && mv new jwks.json), which is read again when it changes";
            c.refuse(FaultKind::Value, JWKS, problem);
            None
        }
        (None, Some(file)) => Some(TokenKeys::Jwks(file.into())),
        (Some(_), Some(_)) => {
            let problem = "cert and jwks both say who signs tokens: keep one";
            c.refuse(FaultKind::Contradiction, JWKS, problem);
            None
        }
        (None, None) => {
            c.required(CERT, "a PEM file of whoever signs tokens, or bearer.jwks");
            None
        }
    };
    Some(Bearer {
        realm: realm?,
        service: service?,
        keys: keys?,
    })
}

/// Whether a text can stand in the quotes of a challenge.
fn is_quotable(text: &str) -> bool {
    text.bytes()
        .all(|b| (b.is_ascii_graphic() || b == b' ') && !matches!(b, b'"' | b'\\'))
}

fn certificates(c: &mut Checked, tls: Option<&TlsFiles>) -> Option<CertificateNames> {
    let has_ca = tls.is_some_and(|tls| tls.client_ca.is_some());
    if c.has("http.auth.mtls") && !has_ca && (tls.is_some() || !c.has("http.tls")) {
        let problem = "clients' certificates are verified by http.tls.cacert, which isn't given";
        c.refuse(FaultKind::Contradiction, "http.auth.mtls", problem);
    }
    let index = |c: &mut Checked, path| match c.int(path).map(usize::try_from) {
        None => 0,
        Some(Ok(index)) => index,
        Some(Err(_)) => {
            c.refuse(FaultKind::Value, path, "expected 0 or more");
            0
        }
    };
    let uri = index(c, "http.auth.mtls.uriSanIndex");
    let dns = index(c, "http.auth.mtls.dnsSanIndex");
    let email = index(c, "http.auth.mtls.emailSanIndex");
    let mut sources = Vec::new();
    for (i, (name, line)) in c.texts(ATTRIBUTES).unwrap_or_default().into_iter().enumerate() {
        match name.trim().to_ascii_lowercase().as_str() {
            "commonname" | "cn" => sources.push(CertificateName::CommonName),
            "dnsname" | "dns" => sources.push(CertificateName::Dns(dns)),
            "uri" | "url" => sources.push(CertificateName::Uri(uri)),
            "email" | "rfc822name" => sources.push(CertificateName::Email(email)),
            _ => {
                let problem = format!("expected CommonName, DNSName, URI or Email, got {name:?}");
                c.refuse_element(FaultKind::Value, ATTRIBUTES, i, line, problem);
            }
        }
    }
    if sources.is_empty() {
        sources.push(CertificateName::CommonName);
    }
    let uri_pattern = c.text(URI_PATTERN).and_then(|text| {
        let whole = regex_lite::Regex::new(&format!("^(?:{text})$"));
        if let Err(error) = &whole {
            c.refuse(
                FaultKind::Value,
                URI_PATTERN,
                format!("expected a regular expression: {error}"),
            );
        }
        let is_anchored = text.starts_with('^') && text.ends_with('$');
        if has_ca && !is_anchored && whole.is_ok() {
            c.warn(format!(
                "{URI_PATTERN}: covers the whole URI here, where zot finds it anywhere: write ^ and $ around it, with .* where anything may stand"
            ));
        }
        whole.ok()
    });
    has_ca.then_some(CertificateNames { sources, uri_pattern })
}

/// `None` without `http.accessControl`, or where that is an empty object: zot doesn't tell these apart.
pub(super) fn access_control(c: &mut Checked, logins: &Logins) -> Option<AccessControl> {
    if !c.has(ACCESS_CONTROL) {
        return None;
    }
    if c.entries(ACCESS_CONTROL).is_empty() {
        c.warn(
            "http.accessControl: is empty, which is as if it weren't there, as in zot: who has logged in may do everything; say {\"repositories\": {}} to allow nothing",
        );
        return None;
    }
    let groups = groups(c);
    let mut rules: Vec<Rule> = c
        .entries(REPOSITORIES)
        .into_iter()
        .filter_map(|(pattern, node)| rule(c, &pattern, &node, &groups))
        .collect();
    rules.sort_by_cached_key(|rule| {
        let text = rule.pattern.as_str().to_owned();
        (Reverse(text.len()), text)
    });
    let admin = c.has(ADMIN).then(|| {
        let part = |key| c.texts(key).unwrap_or_default();
        let lists = Lists {
            users: part("http.accessControl.adminPolicy.users"),
            groups: part("http.accessControl.adminPolicy.groups"),
            actions: part("http.accessControl.adminPolicy.actions"),
            conditions: &c.elements("http.accessControl.adminPolicy.conditions"),
        };
        policy(c, ADMIN, &lists, &groups)
    });
    let metrics = metrics(c);
    let access = AccessControl {
        rules,
        admin,
        groups,
        metrics,
    };
    somebody(c, &access, logins);
    Some(access)
}

fn groups(c: &mut Checked) -> BTreeMap<String, Vec<String>> {
    let mut groups = BTreeMap::new();
    for (name, node) in c.entries(GROUPS) {
        let path = format!("{GROUPS}.{name:?}.users");
        let users = users(c, &path, lined_strings(member(&node, "users")));
        groups.insert(name, users);
    }
    groups
}

fn metrics(c: &mut Checked) -> MetricsAccess {
    const USERS: &str = "http.accessControl.metrics.users";
    const ANYBODY: &str = "http.accessControl.metrics.anonymousPolicy";
    let named = c.texts(USERS).unwrap_or_default();
    let anybody = c.texts(ANYBODY).unwrap_or_default();
    for (i, (action, line)) in anybody.iter().enumerate() {
        if action != Action::Read.as_str() {
            let problem = format!("expected read, which is all that /metrics is for, got {action:?}");
            c.refuse_element(FaultKind::Value, ANYBODY, i, *line, problem);
        }
    }
    MetricsAccess {
        users: users(c, USERS, named),
        anybody: !anybody.is_empty(),
    }
}

fn rule(c: &mut Checked, pattern: &str, node: &Node, groups: &BTreeMap<String, Vec<String>>) -> Option<Rule> {
    let path = format!("{REPOSITORIES}.{pattern:?}");
    let parsed = RepoPattern::parse(pattern);
    if let Err(error) = &parsed {
        let problem = format!("expected a pattern of repository names: {error}");
        c.refuse_at(FaultKind::Value, &path, node.line, problem);
    }
    let policies = match member(node, "policies").map(|node| &node.value) {
        Some(Value::List(list)) => list
            .iter()
            .enumerate()
            .map(|(i, node)| {
                let part = |key| lined_strings(member(node, key));
                let lists = Lists {
                    users: part("users"),
                    groups: part("groups"),
                    actions: part("actions"),
                    conditions: elements(member(node, "conditions")),
                };
                policy(c, &format!("{path}.policies[{i}]"), &lists, groups)
            })
            .collect(),
        Some(_) | None => Vec::new(),
    };
    let mut named = |key: &str| actions(c, &format!("{path}.{key}"), lined_strings(member(node, key)));
    let default = named("defaultPolicy");
    let anonymous = named("anonymousPolicy");
    Some(Rule {
        pattern: parsed.ok()?,
        policies,
        default,
        anonymous,
    })
}

/// The lists of a policy, with the lines of their elements.
struct Lists<'a> {
    users: Vec<(String, u32)>,
    groups: Vec<(String, u32)>,
    actions: Vec<(String, u32)>,
    conditions: &'a [Node],
}

fn policy(c: &mut Checked, path: &str, lists: &Lists<'_>, groups: &BTreeMap<String, Vec<String>>) -> Policy {
    // A directory and a provider know groups of their own; and a way to log in that isn't served may.
    let may_be_known = c.has("http.auth.ldap.userGroupAttribute")
        || !c.entries("http.auth.openid.providers").is_empty()
        || has_workloads(c)
        || c.faults.iter().any(|fault| fault.key.starts_with("http.auth."));
    for (i, (group, line)) in lists.groups.iter().enumerate() {
        if !groups.contains_key(group) && !may_be_known {
            let problem = format!("expected a group of {GROUPS}, got {group:?}");
            c.refuse_element(FaultKind::Value, &format!("{path}.groups"), i, *line, problem);
        }
    }
    let policy = Policy {
        users: users(c, &format!("{path}.users"), lists.users.clone()),
        groups: lists.groups.iter().map(|(group, _)| group.clone()).collect(),
        actions: actions(c, &format!("{path}.actions"), lists.actions.clone()),
        conditions: conditions(c, &format!("{path}.conditions"), lists.conditions),
    };
    if policy.users.is_empty() && policy.groups.is_empty() && !policy.actions.is_empty() {
        c.warn(format!(
            "{path}: names neither users nor groups, so it is nobody's; defaultPolicy is for whoever has logged in"
        ));
    }
    policy
}

/// What must hold. One that can't be asked has its fault, and so the configuration isn't taken: without it the policy would allow
/// more than it says.
fn conditions(c: &mut Checked, path: &str, elements: &[Node]) -> Vec<Condition> {
    if elements.len() > MAX_CONDITIONS {
        let problem = format!("expected at most {MAX_CONDITIONS} of them: join them with &&");
        c.refuse_at(FaultKind::Value, path, elements[0].line, problem);
    }
    let condition = |(i, node): (usize, &Node)| {
        let path = format!("{path}[{i}]");
        let (written, line) = required(c, &path, node, "expression", "what must hold")?;
        let names = [(REQUEST_NAME, REQUEST)];
        let expression = Expression::parse(&written, &names, Gives::Bool)
            .map_err(|problem| c.refuse_at(FaultKind::Value, &format!("{path}.expression"), line, problem));
        Some(Condition {
            expression: expression.ok()?,
            message: text(node, "message").map(|(message, _)| message.into()),
        })
    };
    elements.iter().enumerate().filter_map(condition).collect()
}

/// Whether tokens of workloads are logins, whose names and groups are what the issuers' mappings make.
fn has_workloads(c: &Checked) -> bool {
    !c.elements("http.auth.bearer.oidc").is_empty()
}

/// The users that are named at `path`: names that somebody can have.
fn users(c: &mut Checked, path: &str, named: Vec<(String, u32)>) -> Vec<String> {
    let have_other_names =
        c.has("http.tls.cacert") || !c.entries("http.auth.openid.providers").is_empty() || has_workloads(c);
    let mut users = Vec::new();
    for (i, (name, line)) in named.into_iter().enumerate() {
        // What follows may be the hash, of a line that was copied from the file of passwords.
        if let (Some((before, _)), false) = (name.split_once(':'), have_other_names) {
            let problem = format!(
                "expected a user's name, got {before:?} with a colon: what stands before the colon logs in by a password"
            );
            c.refuse_element(FaultKind::Value, path, i, line, problem);
            continue;
        }
        if !is_user_name(&name) || name.trim() != name {
            let problem = format!(
                "expected a user's name, of 1 to 256 bytes without control characters and without white space around it, got {name:?}"
            );
            c.refuse_element(FaultKind::Value, path, i, line, problem);
        }
        users.push(name);
    }
    users
}

/// The actions that are named at `path`, each once.
fn actions(c: &mut Checked, path: &str, named: Vec<(String, u32)>) -> Vec<Action> {
    let mut actions = Vec::new();
    for (i, (name, line)) in named.into_iter().enumerate() {
        match Action::ALL.into_iter().find(|action| action.as_str() == name) {
            Some(action) if actions.contains(&action) => {}
            Some(action) => actions.push(action),
            None => {
                let problem = match name.as_str() {
                    "detectManifestCollision" => "detectManifestCollision isn't known here: without it a manifest is deleted with all its tags; remove it".to_owned(),
                    _ => format!("expected read, create, update or delete, got {name:?}"),
                };
                c.refuse_element(FaultKind::Value, path, i, line, problem);
            }
        }
    }
    actions
}

/// Policies for users need a way to be one.
fn somebody(c: &mut Checked, access: &AccessControl, logins: &Logins) {
    let is_for_users = !access.groups.is_empty()
        || access.admin.is_some()
        || !access.metrics.users.is_empty()
        || access
            .rules
            .iter()
            .any(|rule| !rule.policies.is_empty() || !rule.default.is_empty());
    // A way that is configured wrongly has its own faults.
    if is_for_users && !logins.exist() && !c.has("http.auth") {
        let problem = "its policies are for users, and nobody can log in: configure http.auth, or http.tls.cacert for certificates, or keep only anonymousPolicy";
        c.refuse(FaultKind::Contradiction, ACCESS_CONTROL, problem);
    }
}

/// A remark where the whole network may do everything.
pub(super) fn open_door(
    c: &mut Checked,
    listen: Option<&Listen>,
    logins: &Logins,
    access: Option<&AccessControl>,
) {
    if !is_local(listen) && !logins.exist() && access.is_none() {
        c.warn(
            "http.auth: not given, so everybody who reaches http.address may do everything (docs/access.md)",
        );
    }
}

/// Tokens are for who can be told where to get them: not by a port in plain HTTP that something else may stand before.
pub(super) fn plain_door(c: &mut Checked, listen: Option<&Listen>, can_tell: bool, logins: &Logins) {
    let wants_tokens = logins.exist() && logins.bearer.is_none() && logins.tokens == OwnTokens::On;
    if wants_tokens && !can_tell && !is_local(listen) {
        c.warn(
            "http.externalUrl: not given, and http.address is in plain HTTP beyond this machine: clients are asked for passwords alone, not sent for tokens, since it can't be told by which URL they come (docs/access.md)",
        );
    }
}

pub(super) fn is_local(listen: Option<&Listen>) -> bool {
    match listen.map(|listen| &listen.address) {
        Some(ListenAddress::Ip(ip)) => ip.is_loopback(),
        Some(ListenAddress::Name(name)) => name == "localhost",
        None => true,
    }
}
