//! Tokens of the registry's own: who gets one and how, what it is good for by which route, and what ends it. Every member
//! knows those of the others: they are got at one and used at another.

use std::{collections::BTreeSet, fs, num::NonZeroU32, sync::Arc};

use portolan::config::RateLimits;
use serde_json::{Value, json};

use super::{
    OTHER, OWNER, ROUTES, Repository, listed, number, rights,
    world::{Recorded, World, basic, password},
};
use crate::support::{
    client::{Answer, Ask as _, Client, Http, Request},
    eventually,
    metrics::Metrics,
};

const DESK: &str = "/zot/auth/token";
const FORM: &str = "application/x-www-form-urlencoded";

/// Whoever asks a route with a token, or as the token service makes necessary.
const CALLERS: [&str; 16] = [
    "anonymous",
    "nobody's token",
    "Homebrew's placeholder",
    "reader's token",
    "writer's token",
    "mover's token",
    "deleter's token",
    "otto's token",
    "root's token",
    "root's pull token",
    "root's token for elsewhere",
    "scoped key's token",
    "revoked key's token",
    "tampered token",
    "token of a stranger",
    "root",
];

/// The member where callers get their tokens; they are used at every door.
const GIVER: usize = 1;

/// What somebody gets at a member for a login (or nothing) and these scopes.
async fn get(world: &World, door: usize, login: Option<String>, scopes: &[&str]) -> Answer {
    let query: Vec<String> = scopes.iter().map(|scope| format!("&scope={scope}")).collect();
    let mut request = Request::get(format!("{DESK}?service=registry{}", query.concat()));
    if let Some(login) = login {
        request = request.header("authorization", login);
    }
    world.mesh.client(door).ask(request).await.unwrap()
}

fn token(answer: Answer) -> String {
    let said = answer.expect(200).with("cache-control", "no-store").json();
    assert_eq!(said["token"], said["access_token"]);
    assert_eq!(
        (&said["expires_in"], &said["token_type"]),
        (&json!(300), &json!("Bearer"))
    );
    said["token"].as_str().unwrap().to_owned()
}

fn bearer(token: &str) -> Vec<String> {
    vec![format!("Bearer {token}")]
}

fn login(user: &str) -> Option<String> {
    Some(basic(user, &password(user)))
}

/// Somebody of [`CALLERS`], at a door, about a repository.
async fn caller(world: &World, caller: &str, door: usize, repository: &str) -> Recorded {
    let all = &*format!("repository:{repository}:*");
    let everything = [all, "registry:catalog:*"];
    let of = async |login: Option<String>, scopes: &[&str]| token(get(world, GIVER, login, scopes).await);
    let token = match caller {
        "anonymous" | "root" => return world.caller(caller, door, repository),
        "nobody's token" => of(None, &everything).await,
        "Homebrew's placeholder" => "QQ==".to_owned(),
        "root's pull token" => of(login("root"), &[&format!("repository:{repository}:pull")]).await,
        "root's token for elsewhere" => of(login("root"), &["repository:team/elsewhere:*"]).await,
        "scoped key's token" => of(Some(world.basic_of_key(2)), &everything).await,
        "revoked key's token" => world.token_of_revoked_key.clone(),
        "tampered token" => {
            let token = of(login("reader"), &everything).await;
            let (signed, signature) = token.rsplit_once('.').unwrap();
            let flipped = if signature.starts_with('A') { "B" } else { "A" };
            format!("{signed}.{flipped}{}", &signature[1..])
        }
        "token of a stranger" => world.forged_token(&of(login("root"), &everything).await),
        user => of(login(user.strip_suffix("'s token").unwrap()), &everything).await,
    };
    Recorded {
        client: world.mesh.client(door),
        authorization: bearer(&token),
        more: Vec::new(),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Nobody,
    Refused,
    User(&'static str),
    /// A token that wasn't asked for all that its user may.
    Narrow,
}

fn kind(caller: &str) -> Kind {
    match caller {
        "anonymous" | "nobody's token" | "Homebrew's placeholder" => Kind::Nobody,
        "reader's token" => Kind::User("reader"),
        "writer's token" => Kind::User("writer"),
        "mover's token" => Kind::User("mover"),
        "deleter's token" => Kind::User("deleter"),
        "otto's token" => Kind::User("otto"),
        "root's token" | "root" => Kind::User("root"),
        "scoped key's token" => Kind::User("scoped key"),
        "root's pull token" | "root's token for elsewhere" => Kind::Narrow,
        _ => Kind::Refused,
    }
}

/// What a caller may do below `team/`, by first letters of actions.
fn may(caller: &str) -> &'static str {
    match (kind(caller), caller) {
        (Kind::User(user), _) => rights(user, "team"),
        (Kind::Narrow, "root's pull token") => "r",
        (Kind::Nobody | Kind::Refused | Kind::Narrow, _) => "",
    }
}

/// Whether a request is let through, else its status.
fn expected(caller: &str, needs: &str) -> Option<u16> {
    let is_let_through = match (kind(caller), needs) {
        (Kind::Refused, _) => false,
        // Where a client looks how to log in, it is told to get a token, if only one for nobody.
        (_, "version") => caller != "anonymous",
        (Kind::Narrow, "catalog") => false,
        (_, "catalog") => true,
        // No token is for that, not an administrator's either.
        (_, "everywhere") => caller == "root",
        (_, needs) => needs.chars().any(|need| may(caller).contains(need)),
    };
    match (is_let_through, kind(caller)) {
        (true, _) => None,
        // They have shown who they are, and a better token wouldn't help.
        (false, Kind::User(_)) => Some(403),
        (false, Kind::Narrow) if needs == "everywhere" => Some(403),
        (false, Kind::Nobody | Kind::Refused | Kind::Narrow) => Some(401),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_by_every_token_through_owner_and_another_is_what_the_policy_says() {
    let world = Arc::new(World::with_tokens().await);
    let root = world.root();
    let mut asked = BTreeSet::new();
    for door in [OWNER, OTHER] {
        for who in CALLERS {
            let prefix = format!("team/{}-{door}", who.to_lowercase().replace([' ', '\''], "-"));
            let name = world.mesh.names().owned_by(OWNER, &prefix);
            let repository = Repository::fill(&root, name).await;
            let client = caller(&world, who, door, &repository.name).await;
            for (request, needs) in repository.requests() {
                asked.insert(number(&request));
                let what = format!("{who} through {door}: {request}");
                let is_head = request.method == http::Method::HEAD;
                let answer = client.ask(request).await.unwrap();
                let Some(status) = expected(who, needs) else {
                    assert!(answer.is_success(), "{what}\n{answer}");
                    continue;
                };
                assert_eq!(answer.status, status, "{what}\n{answer}");
                if !is_head {
                    answer
                        .clone()
                        .error(status, if status == 401 { "UNAUTHORIZED" } else { "DENIED" });
                }
                let challenge = answer.header("www-authenticate");
                assert_eq!(challenge.is_some(), status == 401, "{what}\n{answer}");
                // Nobody is asked for a password beside: docker would give up for want of one.
                assert!(
                    challenge.is_none_or(|challenge| challenge.starts_with("Bearer ")),
                    "{answer}"
                );
                let wants_more = challenge.is_some_and(|challenge| challenge.contains("insufficient_scope"));
                assert_eq!(
                    wants_more,
                    status == 401 && kind(who) == Kind::Narrow,
                    "{what}\n{answer}"
                );
            }
            if !may(who).contains(['c', 'u', 'd']) {
                repository.is_untouched(&root).await;
            }
        }
    }
    assert_eq!(
        asked,
        BTreeSet::from_iter(0..ROUTES),
        "a route that nobody asks for"
    );
    Arc::into_inner(world).unwrap().mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobodys_token_pulls_what_is_open_and_no_more() {
    let world = World::with_tokens().await;
    let root = world.root();
    let mut all = Vec::new();
    for area in ["other", "public", "secret", "team"] {
        let name = world.mesh.names().owned_by(OWNER, &format!("{area}/image"));
        all.push(Repository::fill(&root, name).await);
    }
    for door in [OWNER, OTHER] {
        for who in ["anonymous", "nobody's token", "Homebrew's placeholder"] {
            for repository in &all {
                let is_open = repository.name.starts_with("public/");
                let client = caller(&world, who, door, &repository.name).await;
                let manifest = format!("/v2/{}/manifests/v1", repository.name);
                let blob = format!("/v2/{}/blobs/{}", repository.name, repository.blob.digest);
                for target in [&manifest, &blob] {
                    let answer = client.get(target.clone()).await.unwrap();
                    assert_eq!(answer.status, if is_open { 200 } else { 401 }, "{who}: {answer}");
                }
                let push = Request::put(&manifest).body(repository.newer.bytes.clone());
                client.ask(push).await.unwrap().error(401, "UNAUTHORIZED");
                if who != "anonymous" && is_open {
                    assert_eq!(listed(&client).await, [repository.name.as_str()], "{who}");
                }
            }
        }
    }
    // Nobody is nobody also where people are known.
    for desk in ["/zot/auth/apikey", "/metrics"] {
        let client = caller(&world, "nobody's token", OTHER, "public/image").await;
        client
            .get(desk.to_owned())
            .await
            .unwrap()
            .error(401, "UNAUTHORIZED");
        let roots = caller(&world, "root's token", OTHER, "public/image").await;
        roots.get(desk.to_owned()).await.unwrap().error(403, "DENIED");
    }
    world.mesh.stop().await;
}

/// The parameters of a challenge.
fn challenge(answer: &Answer) -> (String, Value) {
    let text = answer.must("www-authenticate");
    let (scheme, rest) = text.split_once(' ').unwrap();
    let parameters = rest.split("\",").map(|parameter| {
        let (name, value) = parameter.split_once("=\"").unwrap();
        (name.to_owned(), json!(value.trim_end_matches('"')))
    });
    (scheme.to_owned(), parameters.collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_sent_for_a_token_to_where_they_are() {
    let world = World::with_tokens().await;
    for http in [Http::One, Http::Two] {
        let client = Client::new(world.mesh.door(OTHER), http);
        let at = world.mesh.door(OTHER).to_string();
        for (target, scope) in [
            ("/v2/", None),
            ("/v2/team/a/manifests/v1", Some("repository:team/a:pull")),
            ("/v2/_catalog", None),
        ] {
            // What a proxy, or anybody, says of hosts isn't believed.
            let request = Request::get(target)
                .header("x-forwarded-host", "evil.example")
                .header("x-forwarded-proto", "https")
                .header("forwarded", "host=evil.example;proto=https");
            let answer = client.ask(request).await.unwrap();
            if target == "/v2/_catalog" {
                answer.expect(200);
                continue;
            }
            let (scheme, said) = challenge(&answer.expect(401));
            assert_eq!(scheme, "Bearer");
            assert_eq!(said["realm"], format!("http://{at}{DESK}"));
            assert_eq!(said["service"], at);
            assert_eq!(said["scope"].as_str(), scope);
        }
        // As docker does it: where it is sent, with what it is told.
        let told = client.get("/v2/team/a/tags/list".to_owned()).await.unwrap();
        let (_, said) = challenge(&told);
        let realm = said["realm"].as_str().unwrap();
        let path = realm.strip_prefix(&format!("http://{at}")).unwrap();
        let scope = said["scope"].as_str().unwrap();
        let ask = Request::get(format!("{path}?account=reader&service={at}&scope={scope}"))
            .header("authorization", basic("reader", &password("reader")));
        let reader = Recorded {
            client: client.clone(),
            authorization: bearer(&token(client.ask(ask).await.unwrap())),
            more: Vec::new(),
        };
        reader.get("/v2/".to_owned()).await.unwrap().expect(200);
        reader
            .get("/v2/team/a/tags/list".to_owned())
            .await
            .unwrap()
            .error(404, "NAME_UNKNOWN");
    }
    world.mesh.stop().await;
}

fn form(text: String) -> Request {
    Request::post(DESK).header("content-type", FORM).body(text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_is_taken_by_dockers_form_and_by_oauth2s_and_a_wrong_one_by_neither() {
    let world = World::with_tokens().await;
    let name = world.mesh.names().owned_by(OWNER, "team/forms");
    Repository::fill(&world.root(), name.clone()).await;
    let scope = format!("repository:{name}:pull");
    let oauth = |user: &str, password: &str| {
        let password = password.replace(' ', "+").replace('\'', "%27");
        form(format!(
            "grant_type=password&service=registry&client_id=test&username={user}&password={password}&scope={scope}"
        ))
    };
    for door in [OWNER, OTHER] {
        let client = world.mesh.client(door);
        let tokens = [
            token(get(&world, door, login("reader"), &[&scope]).await),
            token(client.ask(oauth("reader", &password("reader"))).await.unwrap()),
        ];
        for token in tokens {
            let reader = Recorded {
                client: world.mesh.client(OWNER),
                authorization: bearer(&token),
                more: Vec::new(),
            };
            reader
                .get(format!("/v2/{name}/manifests/v1"))
                .await
                .unwrap()
                .expect(200);
        }
        for (user, password) in [
            ("reader", "wrong"),
            ("eve", "reader's secret"),
            ("", ""),
            ("reader", "zak_0"),
        ] {
            let answer = get(&world, door, Some(basic(user, password)), &[&scope]).await;
            let answer = answer.error(401, "UNAUTHORIZED");
            // Not to be sent here again.
            assert_eq!(
                answer.must("www-authenticate"),
                "Basic realm=\"portolan\",charset=\"UTF-8\""
            );
            let answer = client
                .ask(oauth(user, password))
                .await
                .unwrap()
                .error(401, "UNAUTHORIZED");
            assert_eq!(answer.json()["error"], "invalid_grant", "{answer}");
            assert!(!answer.to_string().contains("token\""), "{answer}");
        }
        let reused = token(get(&world, door, login("root"), &[]).await);
        get(&world, door, Some(format!("Bearer {reused}")), &[])
            .await
            .error(401, "UNAUTHORIZED");
        get(&world, door, Some("Digest x".to_owned()), &[])
            .await
            .error(401, "UNAUTHORIZED");
        for (request, error) in [
            (
                form("grant_type=refresh_token&refresh_token=x".to_owned()),
                "unsupported_grant_type",
            ),
            (form(String::new()), "invalid_request"),
            (
                form("grant_type=password&username=root".to_owned()),
                "invalid_request",
            ),
            (
                form("grant_type=password&username=root&username=reader&password=x".to_owned()),
                "invalid_request",
            ),
            (
                oauth("root", &password("root")).header("authorization", basic("root", "x")),
                "invalid_request",
            ),
            (form("x".repeat(64 * 1024 + 1)), "invalid_request"),
        ] {
            let answer = client.ask(request).await.unwrap().error(400, "UNSUPPORTED");
            assert_eq!(answer.json()["error"], error, "{answer}");
        }
        let many = "repository:a:pull+".to_owned() + &"x".repeat(9000);
        let answer = get(&world, door, login("root"), &[&many])
            .await
            .error(400, "UNSUPPORTED");
        assert_eq!(answer.json()["error"], "invalid_scope", "{answer}");
        let put = client.ask(Request::put(DESK).body("")).await.unwrap();
        put.with("allow", "GET, POST").error(405, "UNSUPPORTED");
    }
    world.mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_token_was_got_by_ends_it_at_every_member() {
    let world = World::with_tokens().await;
    let scopes = ["repository:team/a:*"];
    let readers = token(get(&world, OTHER, login("reader"), &scopes).await);
    let ottos = token(get(&world, OTHER, login("otto"), &scopes).await);
    let roots_key = token(get(&world, OTHER, Some(world.basic_of_key(2)), &scopes).await);
    let status = async |token: &str, door: usize| {
        let client = Recorded {
            client: world.mesh.client(door),
            authorization: bearer(token),
            more: Vec::new(),
        };
        client.get("/v2/".to_owned()).await.unwrap().status
    };
    for token in [&readers, &ottos, &roots_key] {
        for door in [OWNER, GIVER, OTHER] {
            assert_eq!(status(token, door).await, 200);
        }
    }
    world.revoke_scoped_key().await;
    // reader has another password, otto is gone, and root is as before.
    let file = world.folder.path().join("users");
    let text = fs::read_to_string(&file).unwrap();
    let root = text.lines().find(|line| line.starts_with("root:")).unwrap();
    let reader = bcrypt::hash("another", 4).unwrap();
    fs::write(&file, format!("reader:{reader}\n{root}\n")).unwrap();
    for door in [OWNER, GIVER, OTHER] {
        for token in [&readers, &ottos, &roots_key] {
            eventually("the token has ended", || async {
                status(token, door).await == 401
            })
            .await;
        }
        let roots = token(get(&world, OTHER, login("root"), &scopes).await);
        assert_eq!(status(&roots, door).await, 200);
    }
    world.mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_policy_counts_for_tokens_that_were_given_before() {
    let world = World::with_tokens().await;
    let name = world.mesh.names().owned_by(OWNER, "team/policy");
    Repository::fill(&world.root(), name.clone()).await;
    let reader = Recorded {
        client: world.mesh.client(OTHER),
        authorization: bearer(&token(
            get(
                &world,
                GIVER,
                login("reader"),
                &[&format!("repository:{name}:pull")],
            )
            .await,
        )),
        more: Vec::new(),
    };
    let status = || async { reader.get(format!("/v2/{name}/tags/list")).await.unwrap().status };
    assert_eq!(status().await, 200);
    world.rewrite(
        "{users: [reader], actions: [read]}",
        "{users: [somebody], actions: [read]}",
    );
    eventually("the policy counts", || async { status().await == 403 }).await;
    world.mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_guesses_at_the_token_service_is_stopped_and_who_asks_too_often_too() {
    let rate = RateLimits {
        all: NonZeroU32::new(3),
        methods: Vec::new(),
    };
    let world = World::with_rates(rate).await;
    for wrong in [
        Request::get(DESK).header("authorization", basic("root", "wrong")),
        form("grant_type=password&username=root&password=wrong".to_owned()),
    ] {
        let client = world.mesh.client(OTHER);
        let mut statuses = BTreeSet::new();
        for _ in 0..30 {
            statuses.insert(client.ask(wrong.clone()).await.unwrap().status);
        }
        assert_eq!(statuses, BTreeSet::from([401, 429]), "{wrong}");
        // The right one isn't looked at either, until the bucket is full again.
        eventually("logins are looked at again", || async {
            get(&world, OTHER, login("root"), &[]).await.status == 200
        })
        .await;
        let mut statuses = BTreeSet::new();
        for _ in 0..30 {
            statuses.insert(get(&world, OTHER, login("otto"), &[]).await.status);
        }
        assert_eq!(statuses, BTreeSet::from([200, 429]));
        eventually("there is room again", || async {
            get(&world, OTHER, login("root"), &[]).await.status == 200
        })
        .await;
    }
    let counted = Metrics::ask(&world.mesh.client(OTHER)).await;
    for status in ["200", "401", "429"] {
        let labels = [("route", "token"), ("status", status)];
        assert!(counted.sum("portolan_requests_total", &labels) > 0.0, "{status}");
    }
    world.mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_from_a_provider_with_nothing_too_often_is_stopped_too() {
    let rate = RateLimits {
        all: NonZeroU32::new(3),
        methods: Vec::new(),
    };
    let world = World::with_rates(rate).await;
    let client = world.mesh.client(OTHER);
    let back = Request::get("/zot/auth/callback/oidc?code=x&state=y");
    let mut statuses = BTreeSet::new();
    for _ in 0..30 {
        statuses.insert(client.ask(back.clone()).await.unwrap().status);
    }
    assert_eq!(statuses, BTreeSet::from([400, 429]));
    world.mesh.stop().await;
}
