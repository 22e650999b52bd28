//! Conditions of policies: what they may ask, for which part of a request, and what comes of it.

use rustls::ProtocolVersion;

use super::*;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A gate where ann may do everything below `team/` under these conditions, and bob the same as an administrator.
fn bound(folder: &TempDir, conditions: &[&str]) -> Gate {
    let conditions: Vec<_> = conditions
        .iter()
        .map(|expression| serde_json::json!({ "expression": expression, "message": format!("not {expression}") }))
        .collect();
    let access = serde_json::json!({
        "repositories": { "team/**": { "policies": [
            { "users": ["ann"], "groups": [], "actions": ["read", "create", "update", "delete"], "conditions": conditions },
        ] } },
        "groups": { "builders": { "users": ["ann"] } },
        "adminPolicy": { "users": ["bob"], "actions": ["read", "create", "update", "delete"], "conditions": conditions },
    });
    gate(spec(folder, Some(&access.to_string())))
}

/// Asks as somebody whose client says and is what conditions may ask about.
async fn ask_as(
    gate: &Gate,
    user: &str,
    method: Method,
    target: &str,
    more: &[(&'static str, &str)],
) -> Result<Decision, AuthError> {
    let mut headers = headers(user, &format!("{user}-secret"));
    for (name, value) in more {
        headers.append(*name, value.parse().unwrap());
    }
    let uri: http::Uri = target.parse().unwrap();
    let route = Route::parse(&method, uri.path(), uri.query()).unwrap();
    let caller = Caller {
        method: &method,
        uri: &uri,
        headers: &headers,
        certificates: None,
        client: "::ffff:192.0.2.7".parse().unwrap(),
        tls: Some(ProtocolVersion::TLSv1_3),
    };
    let decision = gate.decide(caller, Wanted::Route(&route), Pages::Own).await;
    decision.map_err(|refusal| refusal.error)
}

#[tokio::test]
async fn a_condition_knows_of_a_request_what_zots_do() {
    let folder = tempfile::tempdir().unwrap();
    let said = [
        ("user-agent", "crane/0.20"),
        ("x-forwarded-for", "198.51.100.4, 192.0.2.9"),
        ("x-forwarded-for", "203.0.113.1"),
    ];
    for (expression, holds) in [
        ("true", true),
        ("false", false),
        ("req.time > timestamp('2020-01-01T00:00:00Z')", true),
        ("req.time < timestamp('2020-01-01T00:00:00Z')", false),
        ("req.time - timestamp(0) > duration('1h')", true),
        (
            "req.time.getFullYear() >= 2026 && req.time.getHours('Europe/Berlin') < 24",
            true,
        ),
        ("req.method == 'PUT'", true),
        ("req.userAgent.startsWith('crane/')", true),
        // Either of them will do for a push.
        ("req.action in ['create', 'update']", true),
        ("req.action == 'delete'", false),
        ("req.repository == 'team/app'", true),
        (
            "req.reference == 'v1' && req.referenceType == 'tag' && req.tag == 'v1' && req.digest == ''",
            true,
        ),
        (
            "req.user.username == 'ann' && req.user.groups == ['builders']",
            true,
        ),
        (
            "'builders' in req.user.groups && !req.auth.anonymous && !req.auth.admin",
            true,
        ),
        ("req.client.ip == '192.0.2.7'", true),
        (
            "req.client.forwardedFor == ['198.51.100.4', '192.0.2.9', '203.0.113.1']",
            true,
        ),
        ("req.tls.enabled && req.tls.version == '1.3'", true),
        ("size(req.claims) == 0", true),
        ("!has(req.claims.sub)", true),
        // What can't be found out doesn't hold.
        ("req.claims.sub == 'x'", false),
        ("req.client.forwardedFor[7] == 'x'", false),
        ("req.claims", false),
        ("req.tag.matches('(') || true", true),
        ("req.tag.matches('(')", false),
    ] {
        let gate = bound(&folder, &["req.method != ''", expression]);
        let decision = ask_as(&gate, "ann", Method::PUT, "/v2/team/app/manifests/v1", &said).await;
        assert_eq!(decision.is_ok(), holds, "{expression}: {decision:?}");
        if let Err(error) = decision {
            let expected = format!("not {expression}");
            assert!(
                matches!(&error, AuthError::Condition(said) if **said == expected),
                "{error:?}"
            );
        }
    }
    let admins = bound(&folder, &["req.auth.admin && req.user.username == 'bob'"]);
    for (user, may) in [("ann", false), ("bob", true)] {
        let decision = ask_as(&admins, user, Method::GET, "/v2/team/app/tags/list", &said).await;
        assert_eq!(decision.is_ok(), may, "{user}");
    }
}

#[tokio::test]
async fn a_request_is_let_through_only_where_it_holds_for_all_that_it_names() {
    let folder = tempfile::tempdir().unwrap();
    let gate = bound(
        &folder,
        &["req.tag.startsWith('dev-') || req.referenceType == ''"],
    );
    let by_digest = |tags: &str| format!("/v2/team/app/manifests/{DIGEST}{tags}");
    let digests = bound(&folder, &["req.digest != '' || req.tag.startsWith('dev-')"]);
    let elsewhere = bound(&folder, &["req.repository == 'team/app'"]);
    for (gate, method, target, may) in [
        (
            &gate,
            Method::PUT,
            "/v2/team/app/manifests/dev-1".to_owned(),
            true,
        ),
        (&gate, Method::PUT, "/v2/team/app/manifests/v1".to_owned(), false),
        (&gate, Method::PUT, by_digest(""), false),
        (
            &gate,
            Method::DELETE,
            "/v2/team/app/manifests/v1".to_owned(),
            false,
        ),
        (&gate, Method::GET, "/v2/team/app/manifests/v1".to_owned(), false),
        (
            &gate,
            Method::GET,
            "/v2/team/app/_oci/tag-history/v1".to_owned(),
            false,
        ),
        (
            &gate,
            Method::GET,
            "/v2/team/app/_oci/tag-history/dev-1".to_owned(),
            true,
        ),
        (
            &gate,
            Method::GET,
            "/v2/team/app/_portolan/history?tag=v1".to_owned(),
            false,
        ),
        (
            &gate,
            Method::POST,
            "/v2/team/app/_portolan/restore?tag=v1&at=2999-01-31T12:00:00Z".to_owned(),
            false,
        ),
        (
            &gate,
            Method::POST,
            "/v2/team/app/_portolan/restore?tag=dev-1&at=2999-01-31T12:00:00Z".to_owned(),
            true,
        ),
        (
            &gate,
            Method::GET,
            "/v2/team/app/manifests/v1?at=2999-01-31T12:00:00Z".to_owned(),
            false,
        ),
        (
            &gate,
            Method::POST,
            "/v2/team/app/blobs/uploads/".to_owned(),
            true,
        ),
        (&gate, Method::GET, "/v2/team/app/tags/list".to_owned(), true),
        (&digests, Method::PUT, by_digest(""), true),
        (&digests, Method::PUT, by_digest("?tag=dev-1&tag=dev-2"), true),
        // The tag would be moved by what holds for the digest.
        (&digests, Method::PUT, by_digest("?tag=dev-1&tag=v1"), false),
        (&elsewhere, Method::GET, "/v2/team/app/tags/list".to_owned(), true),
        (
            &elsewhere,
            Method::GET,
            "/v2/team/other/tags/list".to_owned(),
            false,
        ),
    ] {
        let decision = ask_as(gate, "ann", method.clone(), &target, &[]).await;
        assert_eq!(decision.is_ok(), may, "{method} {target}: {decision:?}");
    }
    // What is mounted from is read, and that is asked by itself.
    let mount = format!("/v2/team/app/blobs/uploads/?mount={DIGEST}&from=team/other");
    let decision = ask_as(&elsewhere, "ann", Method::POST, &mount, &[])
        .await
        .unwrap();
    let other = RepoName::parse("team/other").unwrap();
    assert!(!decision.grants.allows(&other, Action::Read));
}

/// What comes back only the repository tells, and tags with it.
#[tokio::test]
async fn what_a_request_does_not_name_is_granted_by_no_condition_about_it() {
    let folder = tempfile::tempdir().unwrap();
    let restore = |what: &str| format!("/v2/team/app/_portolan/restore?{what}");
    let untold = [
        restore(&format!("digest={DIGEST}")),
        restore("at=2999-01-31T12:00:00Z"),
        restore("run=0123"),
    ];
    for (expression, may) in [
        ("!req.tag.startsWith('prod-')", false),
        ("req['tag'] != 'prod'", false),
        ("req.referenceType != 'tag'", false),
        ("req.reference != 'prod'", false),
        ("req.digest != 'sha256:0'", false),
        // By whichever name: a macro goes through all of them.
        ("[req].all(r, r.tag != 'prod')", false),
        ("req.repository == 'team/app'", true),
        ("req.userAgent != 'tag' && req.client.ip != 'digest'", true),
    ] {
        let gate = bound(&folder, &[expression]);
        for user in ["ann", "bob"] {
            for target in &untold {
                let decision = ask_as(&gate, user, Method::POST, target, &[]).await;
                assert_eq!(decision.is_ok(), may, "{expression} {target}: {decision:?}");
                if let Err(error) = decision {
                    let expected = format!("not {expression}");
                    assert!(matches!(&error, AuthError::Condition(said) if **said == expected));
                }
            }
            let target = restore("tag=v1&at=2999-01-31T12:00:00Z");
            let named = ask_as(&gate, user, Method::POST, &target, &[]).await;
            assert_eq!(
                named.is_ok(),
                expression != "req.referenceType != 'tag'",
                "{expression}"
            );
        }
    }
}

#[tokio::test]
async fn what_is_about_all_repositories_is_granted_by_no_condition_about_some() {
    let folder = tempfile::tempdir().unwrap();
    let headers = headers("bob", "bob-secret");
    let (method, uri) = (Method::GET, http::Uri::from_static("/"));
    for (expression, may) in [
        ("req.repository != 'team/secret'", false),
        ("!req.tag.startsWith('prod-')", false),
        ("req.reference == ''", false),
        ("req.digest == ''", false),
        ("req.client.ip == '192.0.2.1'", true),
        ("req.client.ip == '192.0.2.2'", false),
    ] {
        let gate = bound(&folder, &[expression]);
        for wanted in [
            Wanted::Everywhere(Action::Read),
            Wanted::Everywhere(Action::Delete),
            Wanted::Keys(KeysOf::Others(Action::Delete)),
            Wanted::Keys(KeysOf::Robots),
            Wanted::Mesh,
        ] {
            let caller = Caller {
                method: &method,
                uri: &uri,
                headers: &headers,
                certificates: None,
                client: [192, 0, 2, 1].into(),
                tls: None,
            };
            let decision = gate.decide(caller, wanted, Pages::Own).await;
            assert_eq!(decision.is_ok(), may, "{expression}: {decision:?}");
        }
    }
}

/// Ann, by a token of ours that doesn't say everything.
struct Forgetful(Lacks);

#[async_trait]
impl Authenticator for Forgetful {
    async fn authenticate(&self, _: &Evidence<'_>) -> Result<Verdict, AuthError> {
        Ok(Verdict::Known(Login {
            user: "ann".to_owned(),
            groups: vec!["staff".to_owned()],
            via: Via::Issued {
                asked: Asked::parse(["repository:team/app:pull"]).unwrap(),
                scopes: Vec::new(),
                claims: None,
                lacks: self.0,
            },
        }))
    }
}

#[tokio::test]
async fn what_a_token_had_no_room_for_lets_no_condition_hold_that_asks_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let all = Lacks::default();
    let no_groups = Lacks { groups: true, ..all };
    let no_claims = Lacks { claims: true, ..all };
    for (expression, lacks, may) in [
        ("!('contractors' in req.user.groups)", all, true),
        ("!('contractors' in req.user.groups)", no_groups, false),
        ("'staff' in req.user.groups", no_groups, false),
        ("size(req.user['groups']) < 9", no_groups, false),
        ("req.user.username == 'ann'", no_groups, true),
        ("!has(req.claims.contractor)", no_groups, true),
        ("!has(req.claims.contractor)", all, true),
        ("!has(req.claims.contractor)", no_claims, false),
        ("!('contractors' in req.user.groups)", no_claims, true),
        ("req.tls.enabled", no_claims, true),
    ] {
        let mut gate = bound(&folder, &[expression]);
        gate.put_first(Box::new(Forgetful(lacks)));
        let decision = ask_as(&gate, "ann", Method::GET, "/v2/team/app/tags/list", &[]).await;
        assert_eq!(decision.is_ok(), may, "{expression} {lacks:?}: {decision:?}");
    }
}

#[tokio::test]
async fn a_push_may_be_for_new_tags_alone() {
    let folder = tempfile::tempdir().unwrap();
    let gate = bound(&folder, &["req.action != 'update'"]);
    let decision = ask_as(&gate, "ann", Method::PUT, "/v2/team/app/manifests/v1", &[]).await;
    let (grants, app) = (decision.unwrap().grants, RepoName::parse("team/app").unwrap());
    assert!(grants.allows(&app, Action::Create) && !grants.allows(&app, Action::Update));
}

#[tokio::test]
async fn what_is_listed_is_what_may_be_read_under_conditions() {
    let folder = tempfile::tempdir().unwrap();
    let [app, other] = ["team/app", "team/other"].map(|name| RepoName::parse(name).unwrap());
    for (expression, sees) in [
        ("req.repository == 'team/app'", [true, false]),
        (
            "req.repository != '' && req.action == 'read' && req.method == 'GET'",
            [true, true],
        ),
        ("false", [false, false]),
    ] {
        let gate = bound(&folder, &[expression]);
        for user in ["ann", "bob"] {
            let decision = ask_as(&gate, user, Method::GET, "/v2/_catalog", &[])
                .await
                .unwrap();
            let visible = decision.grants.visible();
            assert!(!visible.is_everything(), "{expression}");
            assert_eq!(
                [visible.includes(&app), visible.includes(&other)],
                sees,
                "{user}: {expression}"
            );
        }
    }
}

#[tokio::test]
async fn a_request_that_says_too_much_fulfils_no_condition() {
    let folder = tempfile::tempdir().unwrap();
    let gate = bound(&folder, &["true"]);
    let (long, most) = ("x".repeat(1025), "x".repeat(1024));
    let many = ["192.0.2.1"; 33].join(",");
    let enough = ["192.0.2.1"; 32].join(",");
    for (name, value, may) in [
        ("user-agent", &*most, true),
        ("user-agent", &*long, false),
        ("x-forwarded-for", &*enough, true),
        ("x-forwarded-for", &*many, false),
        ("x-forwarded-for", &*"x".repeat(4097), false),
    ] {
        let decision = ask_as(
            &gate,
            "ann",
            Method::GET,
            "/v2/team/app/tags/list",
            &[(name, value)],
        )
        .await;
        assert_eq!(decision.is_ok(), may, "{name} of {}", value.len());
    }
    // Where no condition is asked it may.
    let free = gate_of_all(&folder);
    let decision = ask_as(
        &free,
        "ann",
        Method::GET,
        "/v2/team/app/tags/list",
        &[("user-agent", &long)],
    )
    .await;
    assert!(decision.is_ok(), "{decision:?}");
}

fn gate_of_all(folder: &TempDir) -> Gate {
    gate(spec(folder, Some(ACCESS)))
}
