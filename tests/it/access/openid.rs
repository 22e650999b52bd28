//! Logging in at an identity provider, and what attackers make of it. The provider is ours, since it has to lie; the certified one
//! is in tests/openid.sh.

use std::{collections::HashMap, fmt::Write as _, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use parking_lot::Mutex;
use portolan::{
    auth::GateSpec,
    config::{self, Extensions, Searching, UserInterface},
};
use rcgen::KeyPair;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_util::task::TaskTracker;

use super::{OTHER, OWNER, world::basic};
use crate::support::{
    client::{Answer, Ask as _, Client, Request, with_digest},
    content::{Blob, Manifest},
    eventually,
    mesh::{Mesh, Plan},
};

const CONFIG: &str = "
storage: {rootDirectory: /unused}
http:
  auth:
    openid:
      providers:
        oidc: {name: Ours, issuer: 'FIRST', clientid: registry, clientsecret: hush}
        gitlab: {issuer: 'SECOND', clientid: other, clientsecret: hush}
  accessControl:
    repositories:
      '**': {}
      team/**: {policies: [{groups: [writers], actions: [read, create]}]}
      mine/**: {policies: [{users: [ann@example.org], actions: [read]}]}
";

/// What a provider does that it shouldn't.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    None,
    Nonce,
    NoAlgorithm,
    SharedSecret,
    Audience,
    Party,
    Expired,
    OtherUserInfo,
    Unverified,
    Down,
}

/// A code that was given, for what.
struct Code {
    nonce: String,
    challenge: String,
    redirect: String,
}

struct Desk {
    url: String,
    client: &'static str,
    signer: EncodingKey,
    codes: HashMap<String, Code>,
    lie: Lie,
    /// Requests for tokens.
    asked: usize,
}

#[derive(Clone)]
struct Provider(Arc<Mutex<Desk>>);

fn signer() -> EncodingKey {
    EncodingKey::from_ec_der(&KeyPair::generate().unwrap().serialize_der())
}

impl Provider {
    async fn start(client: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let desk = Desk {
            url: format!("http://{}", listener.local_addr().unwrap()),
            client,
            signer: signer(),
            codes: HashMap::new(),
            lie: Lie::None,
            asked: 0,
        };
        let provider = Self(Arc::new(Mutex::new(desk)));
        let served = provider.clone();
        TaskTracker::new().spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                served.serve(socket).await;
            }
        });
        provider
    }

    async fn serve(&self, mut socket: TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match socket.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let head = String::from_utf8(head).unwrap();
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.parse().unwrap())
        });
        let mut body = vec![0; length.unwrap_or_default()];
        socket.read_exact(&mut body).await.unwrap();
        let path = head.split(' ').nth(1).unwrap();
        let (status, answer) = self.answer(path, &head, std::str::from_utf8(&body).unwrap());
        let text = answer.to_string();
        let answer = format!(
            "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
            text.len()
        );
        let _ = socket.write_all(answer.as_bytes()).await;
    }

    fn answer(&self, path: &str, head: &str, form: &str) -> (u16, Value) {
        let mut desk = self.0.lock();
        let url = desk.url.clone();
        match path {
            _ if desk.lie == Lie::Down => (503, json!({})),
            "/.well-known/openid-configuration" => (
                200,
                json!({
                    "issuer": url, "jwks_uri": format!("{url}/jwks"),
                    "authorization_endpoint": format!("{url}/auth?tenant=1"), "token_endpoint": format!("{url}/token"),
                    "userinfo_endpoint": format!("{url}/me"), "end_session_endpoint": format!("{url}/end"),
                    "authorization_response_iss_parameter_supported": true,
                }),
            ),
            "/jwks" => {
                let jwk = Jwk::from_encoding_key(&desk.signer, Algorithm::ES256).unwrap();
                (200, json!({ "keys": [jwk] }))
            }
            "/token" => {
                desk.asked += 1;
                let login = basic(desk.client, "hush");
                assert!(head.contains(&format!("authorization: {login}")), "{head}");
                let fields = fields(form);
                let code = desk.codes.remove(&fields["code"]);
                let verifier = URL_SAFE_NO_PAD.encode(Sha256::digest(&fields["code_verifier"]));
                match code {
                    Some(code) if code.challenge == verifier && code.redirect == fields["redirect_uri"] => (
                        200,
                        json!({ "access_token": "opaque", "token_type": "Bearer", "id_token": desk.id_token(&code) }),
                    ),
                    _ => (400, json!({ "error": "invalid_grant" })),
                }
            }
            "/me" => {
                assert!(head.contains("authorization: Bearer opaque"), "{head}");
                let sub = if desk.lie == Lie::OtherUserInfo { "2" } else { "1" };
                (
                    200,
                    json!({
                        "sub": sub, "email": "ann@example.org", "email_verified": desk.lie != Lie::Unverified, "groups": ["writers"],
                    }),
                )
            }
            _ => (404, json!({})),
        }
    }

    /// What a user who logs in there brings back from `location`.
    fn log_in(&self, location: &str) -> String {
        let mut desk = self.0.lock();
        assert!(
            location.starts_with(&format!("{}/auth?tenant=1&response_type=code&", desk.url)),
            "{location}"
        );
        let asked = fields(location.split_once('?').unwrap().1);
        assert_eq!(
            (&*asked["client_id"], &*asked["code_challenge_method"]),
            (desk.client, "S256")
        );
        assert_eq!(asked["scope"], "openid profile email");
        let code = format!("code-{}", desk.codes.len() + desk.asked);
        let given = Code {
            nonce: asked["nonce"].clone(),
            challenge: asked["code_challenge"].clone(),
            redirect: asked["redirect_uri"].clone(),
        };
        desk.codes.insert(code.clone(), given);
        format!("code={code}&state={}&iss={}", asked["state"], desk.url)
    }

    fn lies(&self, lie: Lie) {
        self.0.lock().lie = lie;
    }

    fn asked(&self) -> usize {
        self.0.lock().asked
    }
}

impl Desk {
    fn id_token(&self, code: &Code) -> String {
        let now = i64::try_from(portolan::clock::now_ms() / 1000).unwrap();
        let mut claims = json!({
            "iss": self.url, "aud": self.client, "sub": "1", "nonce": code.nonce, "iat": now, "exp": now + 300,
        });
        match self.lie {
            Lie::Nonce => claims["nonce"] = json!("another"),
            Lie::Audience => claims["aud"] = json!("another"),
            Lie::Party => {
                claims["aud"] = json!([self.client, "another"]);
                claims["azp"] = json!("another");
            }
            Lie::Expired => claims["exp"] = json!(now - 120),
            _ => {}
        }
        let encoded = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        match self.lie {
            Lie::NoAlgorithm => format!("{}.{}.", encoded(&json!({ "alg": "none" })), encoded(&claims)),
            Lie::SharedSecret => {
                let key = EncodingKey::from_secret(b"hush");
                jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap()
            }
            _ => jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &self.signer).unwrap(),
        }
    }
}

fn fields(form: &str) -> HashMap<String, String> {
    let decoded = |text: &str| {
        percent_encoding::percent_decode_str(text)
            .decode_utf8()
            .unwrap()
            .into_owned()
    };
    let pairs = form.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect()
}

struct World {
    mesh: Mesh,
    first: Provider,
    second: Provider,
    _folder: TempDir,
}

impl World {
    async fn new() -> Self {
        let first = Provider::start("registry").await;
        let second = Provider::start("other").await;
        let text = CONFIG
            .replace("FIRST", &first.0.lock().url)
            .replace("SECOND", &second.0.lock().url);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.yaml");
        std::fs::write(&file, &text).unwrap();
        let config = config::parse(&file, &text).unwrap();
        let extensions = Extensions {
            search: Searching::On,
            ui: UserInterface::On,
            ..Extensions::default()
        };
        let plan = Plan::new()
            .extensions(extensions)
            .gate(GateSpec::from(&config))
            .limits(|limits| {
                limits.logins.session_end_lag = Duration::from_millis(50);
                limits.providers.again_after = Duration::ZERO;
            });
        Self {
            mesh: plan.start().await,
            first,
            second,
            _folder: folder,
        }
    }

    fn browser(&self, member: usize) -> Browser {
        Browser {
            client: self.mesh.client(member),
            origin: format!("http://{}", self.mesh.door(member)),
            cookies: Vec::new(),
        }
    }
}

/// What keeps cookies.
#[derive(Clone)]
struct Browser {
    client: Client,
    origin: String,
    cookies: Vec<(String, String)>,
}

impl Browser {
    async fn ask(&mut self, request: Request) -> Answer {
        let mut text = String::new();
        for (name, value) in &self.cookies {
            let joint = if text.is_empty() { "" } else { "; " };
            write!(text, "{joint}{name}={value}").unwrap();
        }
        let request = if text.is_empty() {
            request
        } else {
            request.header("cookie", text)
        };
        let answer = self.client.ask(request).await.unwrap();
        for set in answer.headers.get_all("set-cookie") {
            let set = set.to_str().unwrap();
            assert!(
                set.contains("; HttpOnly; SameSite=Lax") && set.contains("; Path=/;"),
                "{set}"
            );
            let (name, value) = set.split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.retain(|(other, _)| other != name);
            if !set.contains("Max-Age=0") {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        answer
    }

    /// Of a page of the registry's own.
    async fn own(&mut self, request: Request) -> Answer {
        self.ask(request.header("sec-fetch-site", "same-origin")).await
    }

    /// Begins a login, and comes to where it leads.
    async fn begin(&mut self, query: &str) -> String {
        let answer = self
            .ask(Request::get(format!("/zot/auth/login?{query}")))
            .await
            .expect(302);
        answer.must("location")
    }

    async fn come_back(&mut self, provider: &str, query: &str) -> Answer {
        self.ask(Request::get(format!("/zot/auth/callback/{provider}?{query}")))
            .await
    }

    async fn log_in(&mut self, provider: &Provider) -> Answer {
        let location = self.begin("provider=oidc").await;
        self.come_back("oidc", &provider.log_in(&location)).await
    }

    fn session(&self) -> Option<&str> {
        let found = self.cookies.iter().find(|(name, _)| name == "portolan-session");
        found.map(|(_, value)| value.as_str())
    }

    async fn is_somebody(&mut self) -> bool {
        let answer = self.ask(Request::get("/zot/auth/apikey")).await;
        assert!(matches!(answer.status, 200 | 401), "{answer}");
        answer.status == 200
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_logs_in_at_a_provider_has_a_session_at_every_member_until_they_leave() {
    let world = World::new().await;
    let mut browser = world.browser(OWNER);
    let answer = browser.begin("provider=oidc&callback_ui=/home").await;
    let returned = world.first.log_in(&answer);
    let answer = browser.come_back("oidc", &returned).await.expect(302);
    answer.with("location", "/home");
    assert_eq!(browser.cookies.len(), 1, "only the session is left");

    // Every member knows it, its groups count, and others' repositories are nobody's business.
    let mut elsewhere = Browser {
        client: world.mesh.client(OTHER),
        origin: format!("http://{}", world.mesh.door(OTHER)),
        ..browser.clone()
    };
    let blob = Blob::named("team/a", 10);
    let upload = elsewhere
        .own(Request::post("/v2/team/a/blobs/uploads/").body(""))
        .await
        .expect(202);
    let finish = Request::put(with_digest(&upload.location(), &blob.digest)).body(blob.bytes.clone());
    elsewhere.own(finish).await.expect(201);
    let by_origin = Request::post("/v2/team/a/blobs/uploads/")
        .body("")
        .header("origin", elsewhere.origin.clone());
    elsewhere.ask(by_origin).await.expect(202);
    elsewhere
        .own(Request::post("/v2/other/blobs/uploads/").body(""))
        .await
        .error(403, "DENIED");
    let catalog = elsewhere.ask(Request::get("/v2/_catalog")).await.expect(200);
    assert_eq!(
        catalog.json()["repositories"],
        json!([]),
        "nothing was pushed but a blob"
    );

    // A key that they make has their name and groups, by itself and by a token.
    let key = elsewhere
        .own(Request::post("/zot/auth/apikey").body("{}"))
        .await
        .expect(201)
        .json();
    let login = basic("ann@example.org", key["apiKey"].as_str().unwrap());
    let image = Manifest::image(&blob, &[]).build();
    let put = Request::put("/v2/team/a/manifests/v1")
        .header("content-type", crate::support::content::IMAGE)
        .body(image.bytes.clone());
    let answer = world
        .mesh
        .client(OTHER)
        .ask(put.header("authorization", login.clone()))
        .await
        .unwrap();
    answer.expect(201);
    let token = Request::get("/zot/auth/token?scope=repository:team/a:pull").header("authorization", login);
    let token = world
        .mesh
        .client(OWNER)
        .ask(token)
        .await
        .unwrap()
        .expect(200)
        .json();
    let bearer = format!("Bearer {}", token["token"].as_str().unwrap());
    let pull = Request::get("/v2/team/a/manifests/v1").header("authorization", bearer);
    world.mesh.client(OTHER).ask(pull).await.unwrap().expect(200);

    // What fails at the provider is no matter of who is here already.
    world.first.lies(Lie::Down);
    assert!(browser.is_somebody().await);
    let left = elsewhere
        .own(Request::post("/zot/auth/logout").body(""))
        .await
        .expect(200)
        .json();
    let end = format!("{}/end?client_id=registry", world.first.0.lock().url);
    assert_eq!(left["endSessionUrl"], json!(end));
    assert_eq!(elsewhere.session(), None);
    eventually("the session has ended at every member", || async {
        let mut stolen = browser.clone();
        !stolen.is_somebody().await
    })
    .await;
    world.mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_with_new_keys_is_believed_and_one_that_is_down_only_says_so() {
    let world = World::new().await;
    let mut browser = world.browser(OWNER);
    browser.log_in(&world.first).await.expect(201);
    world.first.0.lock().signer = signer();
    let mut later = world.browser(OTHER);
    later.log_in(&world.first).await.expect(201);
    let mut waiting = world.browser(OTHER);
    let returned = world.first.log_in(&waiting.begin("provider=oidc").await);
    world.first.lies(Lie::Down);
    let answer = waiting.come_back("oidc", &returned).await;
    answer.error(503, "UNKNOWN").must("retry-after");
    assert!(browser.is_somebody().await && later.is_somebody().await);
    // The other one isn't concerned, nor is the login that waited, once it is back.
    let returned = world.second.log_in(&later.begin("provider=gitlab").await);
    later.come_back("gitlab", &returned).await.expect(201);
    world.first.lies(Lie::None);
    waiting
        .come_back("oidc", &returned)
        .await
        .error(400, "UNSUPPORTED");
    waiting.log_in(&world.first).await.expect(201);
    world.mesh.stop().await;
}

/// What comes of each attack: the status, and never a session.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attacks_on_a_login_give_nobody_a_session() {
    let world = World::new().await;
    for (lie, status) in [
        (Lie::Nonce, 403),
        (Lie::NoAlgorithm, 403),
        (Lie::SharedSecret, 403),
        (Lie::Audience, 403),
        (Lie::Party, 403),
        (Lie::Expired, 403),
        (Lie::OtherUserInfo, 403),
        (Lie::Unverified, 403),
    ] {
        world.first.lies(lie);
        let mut browser = world.browser(OWNER);
        let answer = browser.log_in(&world.first).await;
        assert_eq!(
            (answer.status, browser.session()),
            (status, None),
            "{lie:?}: {answer}"
        );
    }
    world.first.lies(Lie::None);

    // A state of somebody else's making, of another login, and none.
    let mut browser = world.browser(OWNER);
    let returned = world.first.log_in(&browser.begin("provider=oidc").await);
    let (code, _) = returned.split_once("&state=").unwrap();
    let mut other = world.browser(OWNER);
    let others = world.first.log_in(&other.begin("provider=oidc").await);
    for query in [code.to_owned(), format!("{code}&state=forged"), others.clone()] {
        browser
            .clone()
            .come_back("oidc", &query)
            .await
            .error(400, "UNSUPPORTED");
    }
    // In a browser where nothing was begun: somebody is to be logged in as somebody else.
    world
        .browser(OWNER)
        .come_back("oidc", &others)
        .await
        .error(400, "UNSUPPORTED");

    // A stolen code, in a login of the thief's: PKCE.
    let state = fields(&returned)["state"].clone();
    let stolen = fields(&others)["code"].clone();
    let url = world.first.0.lock().url.clone();
    let answer = browser
        .clone()
        .come_back("oidc", &format!("code={stolen}&state={state}&iss={url}"))
        .await;
    answer.error(403, "DENIED");

    // A code that was used, with all that the browser had then.
    let before = browser.clone();
    browser.come_back("oidc", &returned).await.expect(201);
    browser
        .clone()
        .come_back("oidc", &returned)
        .await
        .error(400, "UNSUPPORTED");
    before
        .clone()
        .come_back("oidc", &returned)
        .await
        .error(403, "DENIED");

    // An answer of one provider where another was asked, by the path or by its name; or without a name.
    let mut browser = world.browser(OWNER);
    let returned = world.first.log_in(&browser.begin("provider=oidc").await);
    let asked = (world.first.asked(), world.second.asked());
    browser
        .clone()
        .come_back("gitlab", &returned)
        .await
        .error(400, "UNSUPPORTED");
    let second = world.second.0.lock().url.clone();
    let (nameless, _) = returned.split_once("&iss=").unwrap();
    for query in [nameless.to_owned(), format!("{nameless}&iss={second}")] {
        browser
            .clone()
            .come_back("oidc", &query)
            .await
            .error(403, "DENIED");
    }
    assert_eq!(
        (world.first.asked(), world.second.asked()),
        asked,
        "no code was shown to anybody"
    );

    // A way out to somebody else's page.
    for page in [
        "https://evil.example/",
        "//evil.example",
        "/%5Cevil.example",
        "javascript:alert(1)",
    ] {
        let request = Request::get(format!("/zot/auth/login?provider=oidc&callback_ui={page}"));
        let answer = browser.ask(request).await.error(400, "UNSUPPORTED");
        assert_eq!(answer.header("location"), None, "{page}");
    }

    // A session that was planted before isn't the one after.
    let mut planted = world.browser(OWNER);
    planted.log_in(&world.first).await.expect(201);
    let mut victim = planted.clone();
    victim.log_in(&world.first).await.expect(201);
    assert_ne!(planted.session(), victim.session());
    victim
        .own(Request::post("/zot/auth/logout").body(""))
        .await
        .expect(200);
    assert!(planted.is_somebody().await);

    // What another site's page makes a browser send.
    for site in ["cross-site", "same-site"] {
        for target in [
            "/zot/auth/logout",
            "/zot/auth/apikey",
            "/v2/team/a/blobs/uploads/",
        ] {
            let request = Request::post(target).body("{}").header("sec-fetch-site", site);
            planted.ask(request).await.error(403, "DENIED");
        }
    }
    let by_origin = Request::post("/zot/auth/logout").body("");
    planted
        .ask(by_origin.header("origin", "https://evil.example"))
        .await
        .error(403, "DENIED");
    let keys = planted.ask(Request::get("/zot/auth/apikey")).await.expect(200);
    assert_eq!(keys.json()["apiKeys"], json!([]));
    world.mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_offers_every_provider_and_the_way_out() {
    fn text(answer: &Answer) -> &str {
        std::str::from_utf8(&answer.body).unwrap()
    }
    let world = World::new().await;
    let mut browser = world.browser(OTHER);
    // Nobody is asked for a password where there are none.
    let refused = browser.ask(Request::get("/")).await.expect(401);
    assert!(text(&refused.lacks("www-authenticate")).contains("href=\"/login\""));
    let login = browser.ask(Request::get("/login")).await.expect(200);
    for (provider, name) in [("oidc", "Ours"), ("gitlab", "gitlab")] {
        let way = format!("/zot/auth/login?provider={provider}&amp;callback_ui=%2F");
        let is_offered = text(&login).contains(&way) && text(&login).contains(&format!("Log in with {name}"));
        assert!(is_offered, "{}", text(&login));
    }
    assert!(!text(&login).contains("password"), "{}", text(&login));

    let location = browser.begin("provider=oidc&callback_ui=%2F").await;
    let returned = world.first.log_in(&location);
    let back = browser.come_back("oidc", &returned).await.expect(302);
    back.with("location", "/");
    let home = browser.ask(Request::get("/")).await.expect(200);
    assert!(
        text(&home).contains("ann@example.org") && text(&home).contains("Log out"),
        "{}",
        text(&home)
    );
    // Nobody else's page ends a session.
    let leave = || Request::post("/logout").body("");
    let foreign = leave().header("sec-fetch-site", "cross-site");
    browser.ask(foreign).await.expect(403);
    let by_origin = leave().header("origin", "https://evil.example");
    browser.ask(by_origin).await.expect(403);
    browser.ask(Request::get("/logout")).await.expect(405);
    assert!(browser.is_somebody().await);

    let before = browser.clone();
    let left = browser.own(leave()).await.expect(200);
    let end = format!("href=\"{}/end", world.first.0.lock().url);
    assert!(
        text(&left).contains("You are logged out") && text(&left).contains(&end),
        "{}",
        text(&left)
    );
    assert_eq!(browser.session(), None);
    browser.ask(Request::get("/")).await.expect(401);
    assert!(!before.clone().is_somebody().await, "the cookie is worth nothing");
    world.mesh.stop().await;
}
