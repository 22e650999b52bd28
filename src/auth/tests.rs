//! The authenticators' contract, and the gate's decisions over all of them at once.

mod conditions;

use std::{fs, sync::Arc, time::Duration};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, Method, header::AUTHORIZATION};
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;

use super::*;
use crate::{
    config::{
        self, Limits, Logins, access,
        access::{CertificateName, CertificateNames},
        limits::PasswordLimits,
    },
    oci::{Action, RepoName},
    storage::{MemoryMeta, StoreError, StoreErrorKind},
};

fn basic(user: &str, password: &str) -> Credentials {
    Credentials::Basic {
        user: user.to_owned(),
        password: password.to_owned(),
    }
}

fn by_password(user: &str) -> KeyMaker {
    KeyMaker {
        user: user.to_owned(),
        by: MadeBy::Password,
        groups: Vec::new(),
    }
}

fn certificate(common_name: &str) -> Vec<CertificateDer<'static>> {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let signed = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    vec![signed.der().clone()]
}

fn htpasswd(folder: &TempDir, users: &[&str]) -> std::path::PathBuf {
    let file = folder.path().join("htpasswd");
    let lines = users
        .iter()
        .map(|user| format!("{user}:{}\n", bcrypt::hash(format!("{user}-secret"), 4).unwrap()));
    fs::write(&file, lines.collect::<String>()).unwrap();
    file
}

/// An authenticator, evidence that it takes, and evidence of its kind that it doesn't.
struct Case {
    name: &'static str,
    authenticator: Box<dyn Authenticator>,
    good: Credentials,
    wrong: Vec<Credentials>,
    good_certificate: Option<Vec<CertificateDer<'static>>>,
    wrong_certificate: Option<Vec<CertificateDer<'static>>>,
}

async fn cases(folder: &TempDir) -> Vec<Case> {
    let limits = PasswordLimits::default();
    let passwords = Arc::new(htpasswd::Htpasswd::load(&htpasswd(folder, &["ann"]), limits).unwrap());
    let keys = Arc::new(ApiKeys::new(Arc::new(MemoryMeta::default()), &Limits::default()));
    let (_, key) = keys
        .create(&by_password("ann"), NewApiKey::default())
        .await
        .unwrap();
    let (_, eves) = keys
        .create(&by_password("eve"), NewApiKey::default())
        .await
        .unwrap();
    let key_logins = api_keys::KeyLogins {
        keys,
        standing: standing::Standing {
            passwords: Some(passwords.clone()),
            directory: None,
        },
    };
    let names = CertificateNames {
        sources: vec![CertificateName::CommonName],
        uri_pattern: None,
    };
    let case = |name, authenticator, good, wrong| Case {
        name,
        authenticator,
        good,
        wrong,
        good_certificate: None,
        wrong_certificate: None,
    };
    vec![
        case(
            "htpasswd",
            Box::new(passwords),
            basic("ann", "ann-secret"),
            vec![
                basic("ann", "wrong"),
                basic("eve", "ann-secret"),
                basic("", ""),
                basic("ann", ""),
            ],
        ),
        case(
            "API keys",
            Box::new(key_logins),
            basic("ann", &key),
            vec![
                basic("eve", &key),
                // Who has no password any more.
                basic("eve", &eves),
                basic("ann", "zak_00000000000000000000000000000000"),
            ],
        ),
        Case {
            good_certificate: Some(certificate("ann")),
            wrong_certificate: Some(certificate("")),
            ..case(
                "certificates",
                Box::new(certificate::Certificates(names)),
                Credentials::None,
                vec![],
            )
        },
    ]
}

/// The contract, but for tokens, whose own tests have the keys to make some.
#[tokio::test]
async fn contract() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = certificate("mallory");
    for case in cases(&folder).await {
        let ask = async |credentials: &Credentials, certificates: Option<&[CertificateDer<'static>]>| {
            let evidence = Evidence {
                credentials: credentials.clone(),
                session: Cookie::None,
                certificates,
            };
            case.authenticator.authenticate(&evidence).await.unwrap()
        };
        let good = ask(&case.good, case.good_certificate.as_deref()).await;
        assert!(
            matches!(&good, Verdict::Known(login) if login.user == "ann"),
            "{}: {good:?}",
            case.name
        );
        for wrong in &case.wrong {
            assert!(
                matches!(ask(wrong, None).await, Verdict::Refused),
                "{}",
                case.name
            );
        }
        if let Some(wrong) = &case.wrong_certificate {
            assert!(matches!(
                ask(&Credentials::None, Some(wrong)).await,
                Verdict::Refused
            ));
        }
        let other = Credentials::Bearer("x.y.z".to_owned());
        for foreign in [&Credentials::Malformed, &other] {
            let verdict = ask(foreign, Some(&certificate)).await;
            assert!(matches!(verdict, Verdict::NotMine), "{}: {verdict:?}", case.name);
        }
        assert!(matches!(ask(&Credentials::None, None).await, Verdict::NotMine));
    }
}

/// The fault wrapper: finds nothing out.
struct Faulty;

#[async_trait]
impl Authenticator for Faulty {
    async fn authenticate(&self, _: &Evidence<'_>) -> Result<Verdict, AuthError> {
        Err(AuthError::Unavailable(StoreError::new(
            StoreErrorKind::Unavailable,
            "get",
        )))
    }
}

const ACCESS: &str = "{repositories: {
    '**': {policies: [{users: [ann], actions: [read, create]}]},
    'public/**': {anonymousPolicy: [read], defaultPolicy: [read]}}}";

fn spec(folder: &TempDir, access: Option<&str>) -> GateSpec {
    let text = format!(
        "storage: {{rootDirectory: /d}}\nhttp:\n  auth: {{htpasswd: {{path: /x}}}}\n  accessControl: {}\n",
        access.unwrap_or("null")
    );
    let config = config::parse(std::path::Path::new("c.yaml"), &text).unwrap();
    GateSpec {
        logins: Logins {
            htpasswd: Some(htpasswd(folder, &["ann", "bob"])),
            api_keys: access::ApiKeys::On,
            certificates: Some(CertificateNames {
                sources: vec![CertificateName::CommonName],
                uri_pattern: None,
            }),
            ..Logins::default()
        },
        access: config.access,
        ..GateSpec::default()
    }
}

fn gate(spec: GateSpec) -> Gate {
    Gate::new(spec, Arc::new(MemoryMeta::default()), &Limits::default()).unwrap()
}

fn headers(user: &str, password: &str) -> HeaderMap {
    let value = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())])
}

async fn ask(
    gate: &Gate,
    headers: &HeaderMap,
    certificates: Option<&[CertificateDer<'static>]>,
    method: Method,
    path: &str,
) -> Result<Decision, AuthError> {
    let route = Route::parse(&method, path, None).unwrap();
    let uri = path.parse().unwrap();
    let caller = Caller {
        method: &method,
        uri: &uri,
        headers,
        certificates,
        client: [192, 0, 2, 1].into(),
        tls: None,
    };
    let decision = gate.decide(caller, Wanted::Route(&route), Pages::All).await;
    decision.map_err(|refusal| refusal.error)
}

fn user(decision: &Result<Decision, AuthError>) -> Option<&str> {
    decision.as_ref().unwrap().identity.user.as_deref()
}

#[tokio::test]
async fn a_header_comes_before_a_certificate_and_a_wrong_one_before_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let gate = gate(spec(&folder, Some(ACCESS)));
    let certificate = certificate("bob");
    let path = "/v2/public/x/tags/list";
    let by_both = ask(
        &gate,
        &headers("ann", "ann-secret"),
        Some(&certificate),
        Method::GET,
        path,
    )
    .await;
    assert_eq!(user(&by_both), Some("ann"));
    let by_certificate = ask(&gate, &HeaderMap::new(), Some(&certificate), Method::GET, path).await;
    assert_eq!(user(&by_certificate), Some("bob"));
    let by_nothing = ask(&gate, &HeaderMap::new(), None, Method::GET, path).await;
    assert_eq!(user(&by_nothing), None);
    let wrong = headers("ann", "wrong");
    for certificates in [None, Some(&certificate[..])] {
        let refused = ask(&gate, &wrong, certificates, Method::GET, path).await;
        assert!(
            matches!(refused, Err(AuthError::Unauthenticated(challenges)) if challenges == ["Basic realm=\"portolan\",charset=\"UTF-8\""])
        );
    }
}

/// A manifest, its configuration and its layers: as a client asks that gets a token first, and as one that knows nothing of tokens.
#[tokio::test]
async fn a_pull_of_twenty_layers_by_a_password_compares_it_once() {
    let folder = tempfile::tempdir().unwrap();
    let gate = gate(GateSpec {
        origin: Origin::Asked("http"),
        ..spec(&folder, Some(ACCESS))
    });
    let issuer = gate.issuer().unwrap();
    let pull = async |headers: &HeaderMap| {
        let layers = (0..21).map(|n| format!("/v2/team/app/blobs/sha256:{n:064}"));
        for path in std::iter::once("/v2/team/app/manifests/v1".to_owned()).chain(layers) {
            let decision = ask(&gate, headers, None, Method::GET, &path).await;
            assert_eq!(user(&decision), Some("ann"), "{path}");
        }
    };
    let path = "/zot/auth/token";
    let caller = Caller {
        method: &Method::GET,
        uri: &path.parse().unwrap(),
        headers: &HeaderMap::new(),
        certificates: None,
        client: [192, 0, 2, 1].into(),
        tls: None,
    };
    let shown = basic("ann", "ann-secret");
    let decided = gate.decide(caller, Wanted::Token(&shown), Pages::All).await;
    let Right::Token(login) = decided.unwrap().right else {
        panic!("a password is good for a token");
    };
    let asked = Asked::parse(["repository:team/app:pull"]).unwrap();
    let token = issuer.issue(login, &asked).await.unwrap().token;
    assert_eq!(issuer.comparisons(), 1);
    let bearer = format!("Bearer {token}").parse().unwrap();
    pull(&HeaderMap::from_iter([(AUTHORIZATION, bearer)])).await;
    assert_eq!(issuer.comparisons(), 1);
    pull(&headers("ann", "ann-secret")).await;
    assert_eq!(issuer.comparisons(), 1);
    // Another one is compared, whatever is remembered.
    let wrong = ask(&gate, &headers("ann", "wrong"), None, Method::GET, "/v2/").await;
    assert!(wrong.is_err());
    assert_eq!(issuer.comparisons(), 2);
}

#[tokio::test]
async fn what_cant_be_found_out_is_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let mut gate = gate(spec(&folder, Some(ACCESS)));
    gate.put_first(Box::new(Faulty));
    let path = "/v2/public/x/tags/list";
    let decision = ask(&gate, &HeaderMap::new(), None, Method::GET, path).await;
    assert!(matches!(decision, Err(AuthError::Unavailable(_))));
}

#[tokio::test]
async fn without_access_control_who_has_logged_in_may_do_everything() {
    let folder = tempfile::tempdir().unwrap();
    let gate = gate(spec(&folder, None));
    let decision = ask(
        &gate,
        &headers("bob", "bob-secret"),
        None,
        Method::DELETE,
        "/v2/a/manifests/x",
    )
    .await;
    assert!(
        decision
            .unwrap()
            .grants
            .allows(&RepoName::parse("a").unwrap(), Action::Delete)
    );
    for path in ["/v2/", "/v2/_catalog", "/v2/a/tags/list"] {
        let refused = ask(&gate, &HeaderMap::new(), None, Method::GET, path).await;
        assert!(matches!(refused, Err(AuthError::Unauthenticated(_))), "{path}");
    }
}

#[tokio::test]
async fn grants_are_those_that_the_route_asks_for_and_the_policy_allows() {
    let folder = tempfile::tempdir().unwrap();
    let gate = gate(spec(&folder, Some(ACCESS)));
    let name = RepoName::parse("team/a").unwrap();
    let ann = headers("ann", "ann-secret");
    let push = ask(&gate, &ann, None, Method::PUT, "/v2/team/a/manifests/x")
        .await
        .unwrap();
    assert!(push.grants.allows(&name, Action::Create) && !push.grants.allows(&name, Action::Update));
    let tags = ask(&gate, &ann, None, Method::GET, "/v2/team/a/tags/list")
        .await
        .unwrap();
    assert!(tags.grants.allows(&name, Action::Read));
    assert!(!tags.grants.allows(&name, Action::Create), "nobody asked for it");
    let delete = ask(&gate, &ann, None, Method::DELETE, "/v2/team/a/manifests/x").await;
    assert!(matches!(delete, Err(AuthError::Denied)));
    let catalog = ask(&gate, &HeaderMap::new(), None, Method::GET, "/v2/_catalog")
        .await
        .unwrap();
    let sees = |name: &str| catalog.grants.visible().includes(&RepoName::parse(name).unwrap());
    assert!(sees("public/x") && !sees("team/a"));
}

#[tokio::test]
async fn a_key_has_the_rights_of_its_user_within_its_scopes_and_makes_no_keys() {
    let folder = tempfile::tempdir().unwrap();
    let gate = gate(spec(&folder, Some(ACCESS)));
    let keys = gate.api_keys().unwrap();
    let scoped = NewApiKey {
        scopes: vec!["repository:team/**:read,delete".to_owned()],
        ..NewApiKey::default()
    };
    let ann = by_password("ann");
    let (_, scoped) = keys.create(&ann, scoped).await.unwrap();
    let (all, text) = keys.create(&ann, NewApiKey::default()).await.unwrap();
    for (key, method, path, may) in [
        (&scoped, Method::GET, "/v2/team/a/tags/list", true),
        (&scoped, Method::GET, "/v2/other/tags/list", false),
        (&scoped, Method::POST, "/v2/team/a/blobs/uploads/", false),
        // The scope has it, the policy hasn't.
        (&scoped, Method::DELETE, "/v2/team/a/manifests/x", false),
        (&text, Method::POST, "/v2/team/a/blobs/uploads/", true),
    ] {
        let decision = ask(&gate, &headers("ann", key), None, method, path).await;
        assert_eq!(decision.is_ok(), may, "{path}: {decision:?}");
    }
    let desk = async |headers: &HeaderMap| {
        let caller = Caller {
            method: &Method::GET,
            uri: &http::Uri::from_static("/"),
            headers,
            certificates: None,
            client: [192, 0, 2, 1].into(),
            tls: None,
        };
        let decision = gate
            .decide(caller, Wanted::Keys(KeysOf::Oneself), Pages::All)
            .await;
        decision
            .map(|decision| decision.right)
            .map_err(|refusal| refusal.error)
    };
    let right = desk(&headers("ann", "ann-secret")).await.unwrap();
    assert!(matches!(right, Right::Keys(maker) if maker == ann));
    assert!(matches!(
        desk(&headers("ann", &text)).await,
        Err(AuthError::Denied)
    ));
    assert!(matches!(
        desk(&HeaderMap::new()).await,
        Err(AuthError::Unauthenticated(_))
    ));

    keys.revoke("ann", &all.id).await.unwrap();
    let revoked = ask(
        &gate,
        &headers("ann", &text),
        None,
        Method::GET,
        "/v2/team/a/tags/list",
    )
    .await;
    assert!(matches!(revoked, Err(AuthError::Unauthenticated(_))));
}

#[tokio::test]
async fn policies_follow_their_file_and_a_wrong_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    let write = |access: &str| {
        let text = format!(
            "storage: {{rootDirectory: /d}}\nhttp:\n  auth: {{htpasswd: {{path: /x}}}}\n  accessControl: {access}\n"
        );
        fs::write(&file, text).unwrap();
    };
    write(ACCESS);
    let gate = gate(GateSpec {
        source: Some(file.clone()),
        ..spec(&folder, Some(ACCESS))
    });
    let may_delete = async || {
        gate.look();
        let ann = headers("ann", "ann-secret");
        ask(&gate, &ann, None, Method::DELETE, "/v2/a/manifests/x")
            .await
            .is_ok()
    };
    assert!(!may_delete().await);
    write("{repositories: {'**': {policies: [{users: [ann], actions: [delete]}]}}}");
    assert!(may_delete().await);
    write("{repositories: {'**': {policies: [{users: [ann], actions: [fly]}]}}}");
    assert!(may_delete().await, "the former one stays");
    for open in ["null", "{}"] {
        write(open);
        assert!(
            may_delete().await,
            "the former one stays: this one would open the registry"
        );
    }
    write("{repositories: {}}");
    assert!(!may_delete().await);
    htpasswd(&folder, &["bob"]);
    assert!(!may_delete().await);
    let path = "/v2/public/x/tags/list";
    let gone = ask(&gate, &headers("ann", "ann-secret"), None, Method::GET, path).await;
    assert!(
        matches!(gone, Err(AuthError::Unauthenticated(_))),
        "the file of passwords is followed, too"
    );
}

#[tokio::test(start_paused = true)]
async fn a_failed_login_waits_and_not_too_many_do() {
    let folder = tempfile::tempdir().unwrap();
    let mut spec = spec(&folder, None);
    spec.logins.htpasswd = None;
    spec.logins.fail_delay = Duration::from_secs(5);
    let mut limits = Limits::default();
    limits.logins.delayed = 1;
    let gate = Gate::new(spec, Arc::new(MemoryMeta::default()), &limits).unwrap();
    let wrong = headers("ann", "zak_0");
    let started = tokio::time::Instant::now();
    let one = ask(&gate, &wrong, None, Method::GET, "/v2/");
    let other = ask(&gate, &wrong, None, Method::GET, "/v2/");
    let (one, other) = tokio::join!(one, other);
    assert_eq!(started.elapsed(), Duration::from_secs(5));
    assert!(matches!(one, Err(AuthError::Unauthenticated(_))) && matches!(other, Err(AuthError::Busy)));
}

/// A key's user is who had it made, as long as there is one.
#[tokio::test]
async fn a_key_is_refused_while_its_user_has_no_password_and_works_again_after_that() {
    let folder = tempfile::tempdir().unwrap();
    let gate = gate(spec(&folder, None));
    let keys = gate.api_keys().unwrap();
    let (_, anns) = keys
        .create(&by_password("ann"), NewApiKey::default())
        .await
        .unwrap();
    let carol = KeyMaker {
        user: "carol".to_owned(),
        by: MadeBy::Certificate,
        groups: Vec::new(),
    };
    let (_, carols) = keys.create(&carol, NewApiKey::default()).await.unwrap();
    let works = async |user: &str, key: &str| {
        gate.look();
        let asked = ask(&gate, &headers(user, key), None, Method::GET, "/v2/").await;
        assert!(matches!(asked, Ok(_) | Err(AuthError::Unauthenticated(_))));
        asked.is_ok()
    };
    assert!(works("ann", &anns).await && works("carol", &carols).await);
    htpasswd(&folder, &["bob"]);
    assert!(!works("ann", &anns).await && works("carol", &carols).await);
    htpasswd(&folder, &["ann"]);
    assert!(works("ann", &anns).await);
    // A file that can't be read changes nothing.
    fs::remove_file(folder.path().join("htpasswd")).unwrap();
    assert!(works("ann", &anns).await);
    // One in which that name alone has a wrong line does.
    fs::write(folder.path().join("htpasswd"), "ann:locked\n").unwrap();
    assert!(!works("ann", &anns).await);
}

#[tokio::test]
async fn others_keys_are_for_administrators_by_what_they_may_do() {
    let folder = tempfile::tempdir().unwrap();
    let access = "{adminPolicy: {users: [ann], groups: [auditors], actions: [read]}, groups: {auditors: {users: [bob]}}}";
    let may = async |access: Option<&str>, user: &str, action| {
        let gate = gate(spec(&folder, access));
        let headers = headers(user, &format!("{user}-secret"));
        let caller = Caller {
            method: &Method::GET,
            uri: &http::Uri::from_static("/"),
            headers: &headers,
            certificates: None,
            client: [192, 0, 2, 1].into(),
            tls: None,
        };
        let wanted = Wanted::Keys(KeysOf::Others(action));
        gate.decide(caller, wanted, Pages::All).await.is_ok()
    };
    assert!(may(Some(access), "ann", Action::Read).await && may(Some(access), "bob", Action::Read).await);
    assert!(!may(Some(access), "ann", Action::Delete).await);
    let all = "{adminPolicy: {users: [ann], actions: [read, delete]}}";
    assert!(may(Some(all), "ann", Action::Delete).await && !may(Some(all), "bob", Action::Delete).await);
    // Without policies everybody may do everything, and nobody is an administrator.
    assert!(!may(None, "ann", Action::Read).await);
}

/// An empty object is none, as in zot; from rules to none it takes a restart, whenever the rules came.
#[tokio::test]
async fn an_empty_access_control_lets_users_do_everything_until_there_was_another() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    let write = |access: &str| {
        let text = format!(
            "storage: {{rootDirectory: /d}}\nhttp:\n  auth: {{htpasswd: {{path: /x}}}}\n  accessControl: {access}\n"
        );
        fs::write(&file, text).unwrap();
    };
    write("{}");
    let gate = gate(GateSpec {
        source: Some(file.clone()),
        ..spec(&folder, Some("{}"))
    });
    let may = async |user: &str| {
        gate.look();
        let headers = match user {
            "" => HeaderMap::new(),
            user => headers(user, &format!("{user}-secret")),
        };
        ask(&gate, &headers, None, Method::DELETE, "/v2/a/manifests/x")
            .await
            .is_ok()
    };
    assert!(may("ann").await && !may("").await);
    write("{repositories: {'**': {policies: [{users: [bob], actions: [delete]}]}}}");
    assert!(!may("ann").await && may("bob").await);
    write("{}");
    assert!(!may("ann").await && may("bob").await);
}

#[tokio::test]
async fn who_gives_tokens_is_said_where_it_can_be_and_then_nobody_is_asked_for_a_password() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = HeaderMap::from_iter([(http::header::HOST, "r.example".parse().unwrap())]);
    let fixed = Origin::Fixed("https://public.example".to_owned());
    let (on, off) = (access::OwnTokens::On, access::OwnTokens::Off);
    let own = |base: &str, host: &str| format!("Bearer realm=\"{base}/zot/auth/token\",service=\"{host}\"");
    let password = "Basic realm=\"portolan\",charset=\"UTF-8\"".to_owned();
    for (origin, tokens, expected) in [
        (fixed.clone(), on, own("https://public.example", "public.example")),
        (Origin::Asked("https"), on, own("https://r.example", "r.example")),
        (fixed.clone(), off, password.clone()),
        (Origin::Unknown, on, password.clone()),
    ] {
        let mut spec = spec(&folder, Some(ACCESS));
        spec.logins.tokens = tokens;
        let gate = gate(GateSpec { origin, ..spec });
        let gives = expected.starts_with("Bearer");
        assert_eq!(gate.issuer().is_some(), gives);
        let challenged = |answer: Result<Decision, AuthError>| match answer {
            Ok(decision) => (true, decision.challenges),
            Err(AuthError::Unauthenticated(challenges)) => (false, challenges),
            Err(error) => panic!("{error}"),
        };
        // There is an anonymousPolicy, so nobody has to log in; but where nobody gets a token, too, docker has to be told.
        let (is_let_in, challenges) = challenged(ask(&gate, &nobody, None, Method::GET, "/v2/").await);
        assert_eq!(
            (is_let_in, challenges.as_slice()),
            (
                !gives,
                [expected.as_str()].map(|text| text.parse().unwrap()).as_slice()
            )
        );
        let open = ask(&gate, &nobody, None, Method::GET, "/v2/public/a/tags/list").await;
        assert!(open.is_ok(), "what is open is open without any token");
        let (is_let_in, challenges) =
            challenged(ask(&gate, &nobody, None, Method::GET, "/v2/a/tags/list").await);
        let says = challenges[0].to_str().unwrap();
        assert!(!is_let_in && challenges.len() == 1, "{challenges:?}");
        assert_eq!(says.ends_with(",scope=\"repository:a:pull\""), gives, "{says}");
        let ann = headers("ann", "ann-secret");
        assert!(
            ask(&gate, &ann, None, Method::GET, "/v2/").await.is_ok(),
            "a password is taken"
        );
    }
    let none = gate(GateSpec {
        origin: fixed,
        ..GateSpec::default()
    });
    assert!(none.issuer().is_none(), "nobody can log in");
}

#[tokio::test]
async fn a_robots_name_is_nobodys_who_logs_in_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let access = "{repositories: {'**': {defaultPolicy: [read]}}}";
    let named = GateSpec {
        logins: Logins {
            htpasswd: Some(htpasswd(&folder, &["ann", "robot+ci"])),
            ..spec(&folder, Some(access)).logins
        },
        ..spec(&folder, Some(access))
    };
    // The spec has written its own file there.
    htpasswd(&folder, &["ann", "robot+ci"]);
    let gate = gate(named);
    let reads = async |user: &str| {
        let headers = headers(user, &format!("{user}-secret"));
        ask(&gate, &headers, None, Method::GET, "/v2/a/tags/list")
            .await
            .is_ok()
    };
    assert!(reads("ann").await && !reads("robot+ci").await);
    let certificate = certificate("robot+ci");
    let none = HeaderMap::new();
    let decision = ask(&gate, &none, Some(&certificate), Method::GET, "/v2/a/tags/list").await;
    assert!(
        matches!(decision, Err(AuthError::Unauthenticated(_))),
        "{decision:?}"
    );
}
