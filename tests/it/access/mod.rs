//! Who may do what: every route, asked by everybody, through the owner and through another member, and compared with a
//! model that knows nothing but the table of rights below.

mod answers;
mod keys;
mod openid;
mod pages;
mod tokens;
mod workloads;
mod world;

use std::{collections::BTreeSet, fs, sync::Arc};

use portolan::oci::Route;
use serde_json::json;

use self::world::{Recorded, World, basic, directory};
use crate::support::{
    client::{Ask as _, Client, Http, Request, octets, with_digest},
    content::{Blob, IMAGE, Manifest},
    eventually,
};

/// The member that owns all repositories of this test, and one that owns none.
const OWNER: usize = 2;
const OTHER: usize = 0;

/// Everybody who asks.
const CALLERS: [&str; 38] = [
    "anonymous",
    "wrong password",
    "unknown user",
    "two headers",
    "expired key",
    "revoked key",
    "somebody else's key",
    "expired token",
    "token for elsewhere",
    "token of a stranger",
    "token that demands more",
    "reader",
    "writer",
    "mover",
    "deleter",
    "cora at a build",
    "cora at a shell",
    "cora without a way",
    "otto",
    "root",
    "scoped key",
    "robot",
    "robot by name",
    "another robot's key",
    "robot by password",
    "workload",
    "workload's password",
    "workload for elsewhere",
    "pull token",
    "push token",
    "catalog token",
    "session",
    "session from elsewhere",
    "root from elsewhere",
    "root by another origin",
    "expired session",
    "session of a stranger",
    "two sessions",
];

/// Who asks, too, where tests/ldap.sh has a directory at hand.
const OF_THE_DIRECTORY: [&str; 3] = [
    "ann of the directory",
    "bob of the directory",
    "ann with bob's password",
];

fn callers() -> impl Iterator<Item = &'static str> {
    let more: &[&str] = match directory() {
        Some(_) => &OF_THE_DIRECTORY,
        None => &[],
    };
    CALLERS.iter().chain(more).copied()
}

/// Whose browser asks, where it does for another site's page.
fn behind(caller: &str) -> Option<&'static str> {
    match caller {
        "session from elsewhere" => Some("session"),
        "root from elsewhere" | "root by another origin" => Some("root"),
        _ => None,
    }
}

/// The model, first part: what a caller may do in the repositories of an area, by first letters of actions.
fn rights(caller: &str, area: &str) -> &'static str {
    if let Some(user) = behind(caller) {
        // The same, but that it changes nothing.
        return if rights(user, area).contains('r') { "r" } else { "" };
    }
    match (caller, area) {
        ("root", _) => "rcud",
        ("reader", "team") => "r",
        ("writer" | "session" | "workload" | "workload's password", "team") => "rc",
        // Under two conditions.
        ("cora at a build", "team") => "rc",
        ("mover", "team") => "rcu",
        ("deleter", "team") => "rd",
        ("otto", "other") => "rcud",
        ("robot" | "ann of the directory", "team") => "rc",
        ("ann of the directory" | "bob of the directory", "public") => "r",
        ("robot by name", "team") => "r",
        ("robot" | "robot by name", "public") => "r",
        // Of root's, for reading below team/.
        ("scoped key", "team") => "r",
        ("pull token", "team") => "r",
        ("push token", "team") => "rcu",
        ("anonymous" | "reader" | "writer" | "mover" | "deleter" | "otto", "public") => "r",
        ("session" | "workload" | "workload's password", "public") => "r",
        ("cora at a build" | "cora at a shell" | "cora without a way", "public") => "r",
        _ => "",
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Nobody,
    Refused,
    User,
    Token,
}

fn kind(caller: &str) -> Kind {
    match caller {
        "anonymous" => Kind::Nobody,
        "reader" | "writer" | "mover" | "deleter" | "otto" | "root" | "scoped key" => Kind::User,
        "session" | "workload" | "workload's password" => Kind::User,
        caller if behind(caller).is_some() => Kind::User,
        "cora at a build" | "cora at a shell" | "cora without a way" => Kind::User,
        "robot" | "robot by name" | "ann of the directory" | "bob of the directory" => Kind::User,
        "pull token" | "push token" | "catalog token" => Kind::Token,
        _ => Kind::Refused,
    }
}

/// The model, second part: whether a request that needs one of these rights is let through, else its status.
fn expected(caller: &str, needs: &str, rights: &str) -> Option<u16> {
    let may = match (kind(caller), needs) {
        (Kind::Refused, _) => false,
        (_, "version") => true,
        (Kind::Token, "catalog") => caller == "catalog token",
        (_, "catalog") => true,
        // Neither a key of an administrator's for less, nor a token.
        (_, "everywhere") => behind(caller).unwrap_or(caller) == "root",
        (_, needs) => needs.chars().any(|need| rights.contains(need)),
    };
    match (may, kind(caller)) {
        (true, _) => None,
        (false, Kind::User) => Some(403),
        (false, Kind::Nobody | Kind::Refused | Kind::Token) => Some(401),
    }
}

/// A repository with an image, and what requests are about.
struct Repository {
    name: String,
    blob: Blob,
    spare: Blob,
    image: Manifest,
    newer: Manifest,
    session: String,
    doomed: String,
}

impl Repository {
    async fn fill(root: &Recorded, name: String) -> Self {
        let blob = Blob::named(&name, 100);
        let spare = Blob::named(&format!("{name} spare"), 100);
        for blob in [&blob, &spare] {
            root.push_blob(&name, blob).await.unwrap().expect(201);
        }
        let image = Manifest::image(&blob, &[]).build();
        let newer = Manifest::image(&blob, &[]).annotation("is", "newer").build();
        root.push_manifest(&name, "v1", &image).await.unwrap().expect(201);
        let session = root.start(&name).await.unwrap().expect(202).location();
        let doomed = root.start(&name).await.unwrap().expect(202).location();
        Self {
            name,
            blob,
            spare,
            image,
            newer,
            session,
            doomed,
        }
    }

    /// A request of every route, with the rights of which it needs one. Those that destroy come last.
    fn requests(&self) -> Vec<(Request, &'static str)> {
        let Self {
            name, blob, spare, ..
        } = self;
        let at = |rest: &str| format!("/v2/{name}/{rest}");
        let manifest = |reference: &str, manifest: &Manifest| {
            Request::put(at(&format!("manifests/{reference}")))
                .header("content-type", IMAGE)
                .body(manifest.bytes.clone())
        };
        let new = Blob::named(&format!("{name} new"), 10);
        let other = Blob::named(&format!("{name} other"), 10);
        vec![
            (Request::get("/v2/"), "version"),
            (Request::get("/v2/_catalog"), "catalog"),
            (Request::get("/v2/_portolan/runs/0123"), "catalog"),
            (Request::get("/v2/_portolan/retention"), "everywhere"),
            (Request::post("/v2/_portolan/retention").body(""), "everywhere"),
            (Request::post("/v2/_portolan/mirror/now").body(""), "everywhere"),
            (Request::post("/v2/_portolan/mirror/retry").body(""), "everywhere"),
            (Request::get(at("tags/list")), "r"),
            (Request::get(at("manifests/v1")), "r"),
            (Request::head(at("manifests/v1")), "r"),
            (Request::get(at(&format!("blobs/{}", blob.digest))), "r"),
            (Request::head(at(&format!("blobs/{}", blob.digest))), "r"),
            (Request::get(at(&format!("referrers/{}", self.image.digest))), "r"),
            (Request::get(at("_oci/tag-history/v1")), "r"),
            (Request::get(at("manifests/v1?at=2999-01-31T12:00:00Z")), "r"),
            (Request::get(at("_portolan/history")), "r"),
            (
                Request::post(at("_portolan/restore?tag=v1&at=2999-01-31T12:00:00Z")).body(""),
                "u",
            ),
            (Request::post(at("blobs/uploads/")).body(""), "c"),
            (
                octets(Request::post(at(&format!(
                    "blobs/uploads/?digest={}",
                    new.digest
                ))))
                .body(new.bytes),
                "c",
            ),
            (
                Request::post(at(&format!("blobs/uploads/?mount={}&from={name}", blob.digest))).body(""),
                "c",
            ),
            (Request::get(&self.session), "c"),
            (octets(Request::patch(&self.session)).body(other.bytes), "c"),
            (
                Request::put(with_digest(&self.session, &other.digest)).body(""),
                "c",
            ),
            (Request::delete(&self.doomed), "c"),
            (manifest("v2", &self.image), "c"),
            (manifest("v1", &self.newer), "u"),
            (Request::delete(at(&format!("blobs/{}", spare.digest))), "d"),
            (Request::delete(at("manifests/v1")), "d"),
        ]
    }

    /// Asserts that nobody has changed anything.
    async fn is_untouched(&self, root: &Recorded) {
        let tags = root
            .get(format!("/v2/{}/tags/list", self.name))
            .await
            .unwrap()
            .expect(200);
        assert_eq!(tags.json()["tags"], json!(["v1"]), "{tags}");
        let head = root
            .head(format!("/v2/{}/manifests/v1", self.name))
            .await
            .unwrap()
            .expect(200);
        head.with("docker-content-digest", &self.image.digest);
        let spare = format!("/v2/{}/blobs/{}", self.name, self.spare.digest);
        root.head(spare).await.unwrap().expect(200);
        let range = root.get(self.session.clone()).await.unwrap().expect(204);
        range.with("range", "0-0");
        root.get(self.doomed.clone()).await.unwrap().expect(204);
    }
}

/// A number for each route: a new one doesn't compile here until it has one, and then [`Repository::requests`] must ask
/// for it.
fn number(request: &Request) -> usize {
    let (path, query) = match request.target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (&*request.target, None),
    };
    // Any member answers those by itself.
    if path == "/v2/_portolan/retention" {
        return if request.method.is_safe() { 23 } else { 24 };
    }
    match path {
        "/v2/_portolan/mirror/now" => return 25,
        "/v2/_portolan/mirror/retry" => return 26,
        _ => {}
    }
    match Route::parse(&request.method, path, query).unwrap() {
        Route::ApiVersion => 0,
        Route::Catalog { .. } => 1,
        Route::ListTags { .. } => 2,
        Route::GetManifest { .. } => 3,
        Route::HeadManifest { .. } => 4,
        Route::PutManifest { .. } => 5,
        Route::DeleteManifest { .. } => 6,
        Route::GetBlob { .. } => 7,
        Route::HeadBlob { .. } => 8,
        Route::DeleteBlob { .. } => 9,
        Route::StartUpload { .. } => 10,
        Route::PushBlob { .. } => 11,
        Route::MountBlob { .. } => 12,
        Route::UploadStatus { .. } => 13,
        Route::UploadChunk { .. } => 14,
        Route::FinishUpload { .. } => 15,
        Route::CancelUpload { .. } => 16,
        Route::Referrers { .. } => 17,
        Route::TagHistory { .. } => 18,
        Route::ManifestAt { .. } => 19,
        Route::Changes { .. } => 20,
        Route::Restore { .. } => 21,
        Route::Run { .. } => 22,
    }
}

const ROUTES: usize = 27;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_by_everybody_through_owner_and_another_is_what_the_policy_says() {
    let world = Arc::new(World::new().await);
    let root = world.root();
    let mut asked = BTreeSet::new();
    for door in [OWNER, OTHER] {
        let before = world.replays().await;
        for caller in callers() {
            let prefix = format!("team/{}-{door}", caller.replace([' ', '\''], "-"));
            let name = world.mesh.names().owned_by(OWNER, &prefix);
            let repository = Repository::fill(&root, name).await;
            let client = world.caller(caller, door, &repository.name);
            let may = rights(caller, "team");
            for (request, needs) in repository.requests() {
                asked.insert(number(&request));
                let what = format!("{caller} through {door}: {request}");
                let is_head = request.method == http::Method::HEAD;
                let expected = match (behind(caller), request.method.is_safe()) {
                    (Some(user), true) => expected(caller, needs, rights(user, "team")),
                    (Some(_), false) => Some(403),
                    (None, _) => expected(caller, needs, may),
                };
                let answer = client.ask(request).await.unwrap();
                match expected {
                    None => assert!(answer.is_success(), "{what}\n{answer}"),
                    Some(status) => {
                        assert_eq!(answer.status, status, "{what}\n{answer}");
                        let challenged = answer.headers.contains_key("www-authenticate");
                        assert_eq!(challenged, status == 401, "{what}\n{answer}");
                        if !is_head {
                            answer.error(status, if status == 401 { "UNAUTHORIZED" } else { "DENIED" });
                        }
                    }
                }
            }
            if !may.contains(['c', 'u', 'd']) {
                repository.is_untouched(&root).await;
            }
        }
        let forwarded = world.replays().await - before;
        assert_eq!(
            forwarded > 0.0,
            door != OWNER,
            "{forwarded} requests came from other members"
        );
    }
    assert_eq!(
        asked,
        BTreeSet::from_iter(0..ROUTES),
        "a route that nobody asks for"
    );
    Arc::into_inner(world).unwrap().mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_against_a_condition_is_told_to_who_may_read_it() {
    let world = World::new().await;
    let name = world.mesh.names().owned_by(OWNER, "team/conditions");
    let repository = Repository::fill(&world.root(), name.clone()).await;
    let target = format!("/v2/{name}/manifests/v1");
    let etag = format!("\"{}\"", repository.image.digest);
    for door in [OWNER, OTHER] {
        for (caller, may_read) in [
            ("push token", true),
            ("mover", true),
            ("root", true),
            ("blind token", false),
        ] {
            let client = world.caller(caller, door, &name);
            let put = Request::put(&target)
                .header("content-type", IMAGE)
                .header("if-none-match", "*")
                .body(repository.newer.bytes.clone());
            let delete = Request::delete(&target).header("if-match", "\"another\"");
            let may_delete = matches!(caller, "root" | "blind token");
            for request in [Some(put), may_delete.then_some(delete)].into_iter().flatten() {
                let answer = client
                    .ask(request)
                    .await
                    .unwrap()
                    .error(412, "PRECONDITION_FAILED");
                assert_eq!(
                    answer.header("etag"),
                    may_read.then_some(&*etag),
                    "{caller}: {answer}"
                );
                let says = answer.to_string().contains(&repository.image.digest);
                assert_eq!(says, may_read, "{caller}: {answer}");
            }
        }
    }
    repository.is_untouched(&world.root()).await;
    world.mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_condition_says_why_and_counts_from_the_moment_when_it_is_read() {
    let world = World::new().await;
    for door in [OWNER, OTHER] {
        let name = world.mesh.names().owned_by(OWNER, &format!("team/bound-{door}"));
        Repository::fill(&world.root(), name.clone()).await;
        let target = format!("/v2/{name}/tags/list");
        let ask = async |caller: &str| {
            world
                .caller(caller, door, &name)
                .get(target.clone())
                .await
                .unwrap()
        };
        ask("cora at a build").await.expect(200);
        let refused = ask("cora at a shell").await.error(403, "DENIED");
        let detail = &refused.json()["errors"][0]["detail"];
        assert_eq!(detail["reason"], json!("only builds"), "{refused}");
        // One that can't be asked says nothing to who asks.
        let refused = ask("cora without a way").await.error(403, "DENIED");
        assert!(!refused.to_string().contains("reason"), "{refused}");
    }
    world.rewrite("build/1", "build/2");
    for door in [OWNER, OTHER] {
        let name = world.mesh.names().owned_by(OWNER, &format!("team/bound-{door}"));
        let target = format!("/v2/{name}/tags/list");
        let client = world.caller("cora at a build", door, &name);
        eventually("the changed condition counts", || async {
            client.get(target.clone()).await.unwrap().status == 403
        })
        .await;
    }
    // One with a fault isn't taken, and what counted before does on.
    world.rewrite("req.userAgent == 'build/2'", "req.userAgnt == 'build/1'");
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    let client = world.caller("cora at a build", OTHER, "");
    client
        .get("/v2/team/x/tags/list".to_owned())
        .await
        .unwrap()
        .error(403, "DENIED");
    world.mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_not_be_read_shows_neither_in_the_catalogue_nor_by_a_mount() {
    let world = World::new().await;
    let root = world.root();
    let mut repositories = Vec::new();
    for area in ["other", "public", "secret", "team"] {
        for n in 0..3 {
            repositories.push(Repository::fill(&root, format!("{area}/{n}")).await);
        }
    }
    for door in [OWNER, OTHER] {
        for caller in callers().filter(|caller| kind(caller) != Kind::Refused) {
            let target = world.mesh.names().owned_by(OWNER, "team/target");
            let client = world.caller(caller, door, &target);
            let sees = |name: &str| {
                let area = name.split('/').next().unwrap();
                caller == "catalog token" || rights(caller, area).contains('r')
            };
            if kind(caller) != Kind::Token || caller == "catalog token" {
                let expected: Vec<&str> = repositories
                    .iter()
                    .map(|repository| repository.name.as_str())
                    .filter(|name| sees(name))
                    .collect();
                assert_eq!(listed(&client).await, expected, "{caller}");
            }
            if !rights(caller, "team").contains('c') {
                continue;
            }
            for source in &repositories {
                let readable = match kind(caller) {
                    Kind::Token => source.name == target,
                    _ => sees(&source.name),
                };
                let mount = format!("/v2/{target}/blobs/uploads/?mount={}", source.blob.digest);
                let from = client.ask(Request::post(format!("{mount}&from={}", source.name)).body(""));
                let answer = from.await.unwrap();
                assert_eq!(
                    answer.status,
                    if readable { 201 } else { 202 },
                    "{caller}: {answer}"
                );
                let anywhere = client.ask(Request::post(mount).body("")).await.unwrap();
                assert_eq!(
                    anywhere.status,
                    if caller == "root" { 201 } else { 202 },
                    "{caller}: {anywhere}"
                );
            }
        }
    }
    // Nobody is told more about what is there than about what isn't.
    let reader = world.caller("reader", OTHER, "");
    let there = reader.get("/v2/secret/0/tags/list".to_owned()).await.unwrap();
    let absent = reader.get("/v2/secret/none/tags/list".to_owned()).await.unwrap();
    assert_eq!((there.status, &there.body), (absent.status, &absent.body));
    world.mesh.stop().await;
}

/// The whole catalogue, two names at a time.
async fn listed(client: &Recorded) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut target = Some("/v2/_catalog?n=2".to_owned());
    while let Some(next) = target {
        let answer = client.get(next).await.unwrap().expect(200);
        let page = answer.json()["repositories"].as_array().unwrap().clone();
        assert!(
            !page.is_empty() || names.is_empty(),
            "an empty page after a link: {answer}"
        );
        names.extend(page.iter().map(|name| name.as_str().unwrap().to_owned()));
        target = answer.header("link").map(|link| {
            let inside = link.strip_prefix('<').and_then(|link| link.split_once('>'));
            inside.unwrap().0.to_owned()
        });
    }
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_need_no_login_and_metrics_and_keys_have_policies_of_their_own() {
    let world = World::new().await;
    for caller in callers() {
        let client = world.caller(caller, OTHER, "team/a");
        for probe in ["/livez", "/readyz", "/startupz"] {
            client.get(probe.to_owned()).await.unwrap().expect(200);
        }
        let metrics = client.get("/metrics".to_owned()).await.unwrap();
        // The scoped key is root's, too.
        let status = match kind(caller) {
            Kind::User if matches!(behind(caller).unwrap_or(caller), "root" | "scoped key") => 200,
            Kind::User => 403,
            Kind::Nobody | Kind::Refused | Kind::Token => 401,
        };
        assert_eq!(metrics.status, status, "{caller}: {metrics}");
        let keys = client.get("/zot/auth/apikey".to_owned()).await.unwrap();
        let status = match kind(caller) {
            Kind::User if matches!(caller, "scoped key" | "robot" | "robot by name") => 403,
            Kind::User if matches!(caller, "workload" | "workload's password") => 403,
            Kind::User => 200,
            Kind::Token => 403,
            Kind::Nobody | Kind::Refused => 401,
        };
        assert_eq!(keys.status, status, "{caller}: {keys}");
    }
    world.mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_password_file_counts_on_every_member_without_a_restart() {
    let world = World::new().await;
    let request = || async {
        let client = world.caller("reader", OTHER, "");
        client.get("/v2/".to_owned()).await.unwrap().status
    };
    assert_eq!(request().await, 200);
    let line = format!("reader:{}\n", bcrypt::hash("another", 4).unwrap());
    fs::write(world.folder.path().join("users"), line).unwrap();
    crate::support::eventually("the former password is refused", || async {
        request().await == 401
    })
    .await;
    let client = Recorded {
        client: Client::new(world.mesh.door(OTHER), Http::Two),
        authorization: vec![basic("reader", "another")],
        more: Vec::new(),
    };
    client.get("/v2/".to_owned()).await.unwrap().expect(200);
    world.mesh.stop().await;
}
