//! `http.accessControl`: what could never match is refused, and what means something else than one may think is noted.

use super::*;
use crate::config::access as ways;

fn with(access: &str) -> String {
    format!(
        "storage: {{rootDirectory: /d}}\nhttp:\n  auth: {{htpasswd: {{path: /x}}}}\n  accessControl:\n{access}\n"
    )
}

/// The remarks on a configuration.
fn notes(config: &Config) -> String {
    config.warnings.join("\n")
}

#[test]
fn what_can_never_match_is_refused_with_its_key() {
    refused(
        &with(
            "    repositories:
      /team/**: {defaultPolicy: [read]}
      team/: {defaultPolicy: [read]}
      Other/**: {defaultPolicy: []}
      'registry.example:5000/x': {}
      'a b': {}
      'a//b': {}
      team/**:
        policies:
        - {users: [ann, '', ' bob', \"e\\tve\"], groups: [ops, nobody], actions: [read, pull]}
        defaultPolicy: [Read]
    groups: {ops: {users: ['ann ', bob]}}
    adminPolicy: {users: [''], groups: [Ops], actions: [fly]}
    metrics: {users: [' '], anonymousPolicy: [read, create]}
",
        ),
        &[
            "6 http.accessControl.repositories.\"/team/**\": expected a pattern of repository names: no repository's name has a slash at its begin or end, or two in a row: write \"team/**\"",
            "7 http.accessControl.repositories.\"team/\": expected a pattern of repository names: no repository's name has a slash",
            "8 http.accessControl.repositories.\"Other/**\": expected a pattern of repository names: no repository's name is like \"Other/**\"",
            "9 http.accessControl.repositories.\"registry.example:5000/x\": expected a pattern of repository names: no repository's name is like",
            "10 http.accessControl.repositories.\"a b\": expected a pattern of repository names: no repository's name is like",
            "11 http.accessControl.repositories.\"a//b\": expected a pattern of repository names: no repository's name has a slash",
            "14 http.accessControl.repositories.\"team/**\".policies[0].groups[1]: expected a group of http.accessControl.groups, got \"nobody\"",
            "14 http.accessControl.repositories.\"team/**\".policies[0].users[1]: expected a user's name",
            "14 http.accessControl.repositories.\"team/**\".policies[0].users[2]: expected a user's name",
            "14 http.accessControl.repositories.\"team/**\".policies[0].users[3]: expected a user's name",
            "14 http.accessControl.repositories.\"team/**\".policies[0].actions[1]: expected read, create, update or delete, got \"pull\"",
            "15 http.accessControl.repositories.\"team/**\".defaultPolicy[0]: expected read, create",
            "16 http.accessControl.groups.\"ops\".users[0]: expected a user's name",
            "17 http.accessControl.adminPolicy.groups[0]: expected a group of http.accessControl.groups, got \"Ops\"",
            "17 http.accessControl.adminPolicy.users[0]: expected a user's name",
            "17 http.accessControl.adminPolicy.actions[0]: expected read, create",
            "18 http.accessControl.metrics.anonymousPolicy[1]: expected read, which is all that /metrics is for, got \"create\"",
            "18 http.accessControl.metrics.users[0]: expected a user's name",
        ],
    );
}

#[test]
fn a_name_with_a_colon_is_a_certificates() {
    let policy = "    adminPolicy: {users: ['ann:$2y$05$hunter2'], actions: [read]}";
    refused(
        &with(policy),
        &["5 http.accessControl.adminPolicy.users[0]: expected a user's name, got \"ann\" with a colon"],
    );
    assert!(!faults(&with(policy)).concat().contains("hunter2"));
    let uri = with("    adminPolicy: {users: ['spiffe://x/ci'], actions: [read]}");
    let uri = uri.replace("http:\n", "http:\n  tls: {cert: c, key: k, cacert: ca}\n");
    assert!(yaml(&uri).is_ok());
}

#[test]
fn only_an_object_that_is_literally_empty_is_no_access_control() {
    let empty = yaml(&with("    {}")).unwrap();
    assert!(empty.access.is_none());
    let said = notes(&empty);
    assert!(said.starts_with("http.accessControl: is empty"), "{said}");
    for access in [
        "    repositories: {}",
        "    repositories:",
        "    adminPolicy: {}",
        "    metrics: {}",
        "    groups: {}",
    ] {
        let config = yaml(&with(access)).unwrap();
        assert!(config.access.is_some(), "{access}");
        assert_eq!(notes(&config), "", "{access}");
    }
    let absent = yaml(&with("    # nothing")).unwrap();
    assert!(absent.access.is_none());
    assert_eq!(notes(&absent), "");
}

#[test]
fn what_means_something_else_than_in_zot_or_nothing_is_noted() {
    let config = yaml(&with("    repositories: {'**': {policies: [{actions: [read]}]}}")).unwrap();
    let said = notes(&config);
    assert!(
        said.contains("policies[0]: names neither users nor groups"),
        "{said}"
    );

    let pattern = |pattern: &str| {
        let text = format!(
            "storage: {{rootDirectory: /d}}\nhttp:\n  tls: {{cert: c, key: k, cacert: ca}}\n  auth: {{mtls: {{uriSanPattern: '{pattern}'}}}}\n"
        );
        notes(&yaml(&text).unwrap())
    };
    assert!(pattern("spiffe://x/(.*)").contains("http.auth.mtls.uriSanPattern: covers the whole URI"));
    assert_eq!(pattern("^spiffe://x/(.*)$"), "");
}

#[test]
fn an_audit_that_is_required_is_one() {
    let text = "storage: {rootDirectory: /d}\nlog: {audit: /a, auditRequired: true}\n";
    assert!(yaml(text).unwrap().log.audit_required);
    refused(
        "storage: {rootDirectory: /d}\nlog: {auditRequired: true}\n",
        &["2 log.auditRequired: there is no audit: say where it goes in log.audit"],
    );
}

fn directory(keys: &str) -> String {
    format!(
        "storage: {{rootDirectory: /d}}\nhttp:\n  auth:\n    ldap: {{baseDN: 'dc=x', userAttribute: uid{keys}}}\n"
    )
}

#[test]
fn a_directory_is_spoken_to_as_in_zot() {
    let ldap = |keys: &str| {
        let config = yaml(&directory(keys)).unwrap();
        (config.logins.ldap.clone().unwrap(), notes(&config))
    };
    let (plain, said) = ldap(", address: 'a.example, b.example', insecure: true, userFilter: 'off=FALSE'");
    assert_eq!((plain.security, plain.port), (ways::LdapSecurity::Plain, 389));
    assert_eq!(plain.servers, ["a.example", "b.example"]);
    assert_eq!(plain.user_filter.as_deref(), Some("(off=FALSE)"));
    assert!(said.contains("passwords go to the directory in the clear"));
    let (start, _) = ldap(", address: [a.example], insecure: true, startTLS: true, port: 1389");
    assert_eq!((start.security, start.port), (ways::LdapSecurity::StartTls, 1389));
    let (tls, said) = ldap(", address: '::1', startTLS: true, skipVerify: true");
    assert_eq!((tls.security, tls.port), (ways::LdapSecurity::Tls, 636));
    assert_eq!(tls.authority, ways::LdapAuthority::Unverified);
    assert!(
        said.contains("startTLS: has no effect without insecure") && said.contains("skipVerify"),
        "{said}"
    );
    assert_eq!(tls.account, ways::LdapAccount::Anonymous);
}

#[test]
fn a_directory_that_cannot_be_asked_is_refused_with_its_key() {
    refused(
        &directory(
            ", address: 'ldaps://a.example', userGroupAttribute: 'member of', userFilter: '(a=', bindDN: cn=x",
        ),
        &[
            "4 http.auth.ldap.address[0]: expected a host, without scheme and port",
            "4 http.auth.ldap.userGroupAttribute: expected an attribute",
            "4 http.auth.ldap.userFilter: expected a filter",
            "- http.auth.ldap.bindPassword: is required",
        ],
    );
    refused(
        &directory(", address: a, credentialsFile: f, bindPassword: hunter2"),
        &["4 http.auth.ldap.credentialsFile: it and bindDN or bindPassword both say"],
    );
}

#[test]
fn an_issuer_of_workloads_tokens_is_refused_with_what_is_wrong_with_it() {
    let with = |issuer: &str| {
        format!(
            "storage: {{rootDirectory: /d}}\nhttp:\n  auth:\n    bearer:\n      oidc:\n      - {{{issuer}}}\n"
        )
    };
    refused(
        &with(
            "issuer: 'http://x', claimMapping: {username: nme, groups: 'claims.g.map(', validations: [{expression: 'true'}]}",
        ),
        &[
            "6 http.auth.bearer.oidc[0].issuer: expected an https URL",
            "6 http.auth.bearer.oidc[0].audiences: is required",
            "6 http.auth.bearer.oidc[0].claimMapping.validations[0].message: is required",
            "6 http.auth.bearer.oidc[0].claimMapping.username: nothing is called nme here: there is claims, vars",
            "6 http.auth.bearer.oidc[0].claimMapping.groups: expected an expression of CEL",
        ],
    );
    refused(
        &with(
            "issuer: 'https://x', audiences: a, claimMapping: {username: '1', groups: '1 == 2', validations: [{expression: '1', message: m}]}",
        ),
        &[
            "6 http.auth.bearer.oidc[0].claimMapping.validations[0].expression: it gives a number, expected true or false",
            "6 http.auth.bearer.oidc[0].claimMapping.username: it gives a number, expected a string",
            "6 http.auth.bearer.oidc[0].claimMapping.groups: it gives true or false, expected a list of strings",
        ],
    );
    refused(
        &with("issuer: 'https://x', audiences: a, skipIssuerVerification: true"),
        &["6 http.auth.bearer.oidc[0].skipIssuerVerification: tokens that name another issuer"],
    );
    for (issuer, problem) in [
        ("https://x/?tenant=1", "expected an https URL without a query"),
        ("ftp://x", "expected an https URL without a query"),
        (
            "https://x/.well-known/openid-configuration",
            "expected the issuer, not its discovery document",
        ),
    ] {
        let text = with(&format!("issuer: '{issuer}', audiences: a"));
        refused(&text, &[&format!("6 http.auth.bearer.oidc[0].issuer: {problem}")]);
    }
    let config = yaml(&with("issuer: 'https://x', audiences: [a, b]")).unwrap();
    let [workload] = config.logins.workloads.as_slice() else {
        panic!("{:?}", config.logins);
    };
    assert_eq!(workload.audiences, ["a", "b"]);
    assert_eq!(
        workload.mapping.username.as_str(),
        "claims.iss + '/' + claims.sub"
    );
    assert!(config.logins.exist() && config.logins.bearer.is_none());
}

#[test]
fn a_condition_that_cannot_be_asked_is_refused_with_its_key() {
    refused(
        &with(
            "    repositories:
      team/**:
        policies:
        - users: [ann]
          actions: [read]
          conditions:
          - {expression: 'req.tag ==', message: x}
          - {message: x}
          - {expression: 'req.tga == 1'}
          - {expression: req.tag}
          - {expression: 'request.tag == 1'}
          - {expression: 'req.time < \"2030-01-01T00:00:00Z\"'}
          - {expression: 'req.claims.anything'}
    adminPolicy: {users: [root], actions: [read], conditions: [{expression: '1 + 1'}]}
",
        ),
        &[
            "11 http.accessControl.repositories.\"team/**\".policies[0].conditions[0].expression: expected an expression of CEL",
            "12 http.accessControl.repositories.\"team/**\".policies[0].conditions[1].expression: is required: what must hold",
            "13 http.accessControl.repositories.\"team/**\".policies[0].conditions[2].expression: there is no field tga here, only time, method,",
            "14 http.accessControl.repositories.\"team/**\".policies[0].conditions[3].expression: it gives a string, expected true or false",
            "15 http.accessControl.repositories.\"team/**\".policies[0].conditions[4].expression: nothing is called request here: there is req",
            "16 http.accessControl.repositories.\"team/**\".policies[0].conditions[5].expression: < can't compare a time with a string",
            "18 http.accessControl.adminPolicy.conditions[0].expression: it gives a number, expected true or false",
        ],
    );
    let many = "{expression: 'true'},".repeat(17);
    let text = with(&format!(
        "    adminPolicy: {{users: [root], actions: [read], conditions: [{many}]}}"
    ));
    refused(
        &text,
        &["5 http.accessControl.adminPolicy.conditions: expected at most 16 of them"],
    );
}
