//! A mesh that wants logins, and everybody who could log in.

use std::{fs, time::Duration};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use portolan::{
    auth::GateSpec,
    config::{self, RateLimits, access},
};
use rcgen::KeyPair;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::OWNER;
use crate::support::{
    client::{Answer, Ask, Broken, Client, Request},
    issuer::Issuer,
    mesh::{Mesh, Plan},
    metrics::Metrics,
};

const CONFIG: &str = "
storage: {rootDirectory: /unused}
# Nobody is there: who orders that it be mirrored doesn't care.
extensions: {sync: {registries: [{urls: ['http://127.0.0.1:1'], pollInterval: 1h, content: [{prefix: mirrored/a}]}]}}
http:
  auth:
    htpasswd: {path: FOLDER/users}
    BEARER
    apikey: true
    DIRECTORY
    sessionKeysFile: FOLDER/sessions.json
    # Nobody is there: who has a session doesn't care.
    openid: {providers: {oidc: {issuer: 'http://127.0.0.1:1', clientid: registry}}}
  accessControl:
    repositories:
      '**': {}
      public/**: {anonymousPolicy: [read], defaultPolicy: [read]}
      team/**:
        policies:
        - {users: [reader], actions: [read]}
        - {users: [robot+reader], actions: [read]}
        - {groups: [writers], actions: [read, create]}
        - {users: [mover], actions: [update]}
        - {users: [deleter], actions: [read, delete]}
        - {groups: ['cn=team,ou=groups,dc=example,dc=org'], actions: [read, create]}
        - users: [cora]
          actions: [read, create]
          conditions:
          - {expression: \"req.userAgent == 'build/1'\", message: only builds}
          - {expression: \"req.client.forwardedFor[0] == '192.0.2.7'\"}
      other/**: {policies: [{users: [otto], actions: [read, create, update, delete]}]}
    groups: {writers: {users: [writer, mover]}}
    adminPolicy: {users: [root], actions: [read, create, update, delete]}
    metrics: {users: [root]}
";

/// A mesh with logins, and all that one could log in with.
pub(super) struct World {
    pub(super) mesh: Mesh,
    pub(super) folder: TempDir,
    signer: EncodingKey,
    issuer: Issuer,
    keys: [String; 3],
    /// Keys of robots: of `ci`, which is in a group, and of `reader`.
    robots: [String; 2],
    /// Of the second key; empty where there are no tokens of the registry's own.
    pub(super) token_of_revoked_key: String,
}

/// Who gives tokens.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tokens {
    Somebody,
    Registry,
}

impl World {
    /// Tokens come from elsewhere.
    pub(super) async fn new() -> Self {
        Self::start(Tokens::Somebody, RateLimits::default()).await
    }

    /// The registry gives them itself.
    pub(super) async fn with_tokens() -> Self {
        Self::start(Tokens::Registry, RateLimits::default()).await
    }

    /// The same, with limits on what clients ask, and metrics for everybody.
    pub(super) async fn with_rates(rates: RateLimits) -> Self {
        Self::start(Tokens::Registry, rates).await
    }

    async fn start(tokens: Tokens, rates: RateLimits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let users = [
            "reader",
            "writer",
            "mover",
            "deleter",
            "cora",
            "otto",
            "root",
            "robot+eve",
        ];
        let lines = users.map(|user| format!("{user}:{}\n", bcrypt::hash(password(user), 4).unwrap()));
        fs::write(folder.path().join("users"), lines.concat()).unwrap();
        let keys = json!({ "hashKey": SESSIONS });
        fs::write(folder.path().join("sessions.json"), keys.to_string()).unwrap();
        let pair = KeyPair::generate().unwrap();
        fs::write(folder.path().join("key.pem"), pair.public_key_pem()).unwrap();
        let issuer = Issuer::start(folder.path()).await;
        let bearer = match tokens {
            Tokens::Somebody => {
                "bearer: {realm: 'http://127.0.0.1:1/token', service: registry, cert: FOLDER/key.pem, oidc: [
                    {issuer: 'ISSUER', audiences: registry, certificateAuthorityFile: FOLDER/issuer.crt, claimMapping: {groups: \"['writers']\"}}]}"
            }
            Tokens::Registry => "",
        };
        let text = CONFIG
            .replace("BEARER", bearer)
            .replace(
                "DIRECTORY",
                &directory().map_or(String::new(), |keys| format!("ldap: {keys}")),
            )
            .replace("ISSUER", &issuer.url)
            .replace("FOLDER", folder.path().to_str().unwrap());
        let is_rated = rates.all.is_some();
        let text = match is_rated {
            true => text.replace("metrics: {users: [root]}", "metrics: {anonymousPolicy: [read]}"),
            false => text,
        };
        let file = folder.path().join("c.yaml");
        fs::write(&file, &text).unwrap();
        let config = config::parse(&file, &text).unwrap();
        assert_eq!(config.logins.api_keys, access::ApiKeys::On);
        let plan = Plan::new().gate(GateSpec::from(&config)).rate_limits(rates);
        let plan = plan.sync(config.sync.unwrap());
        let plan = plan.limits(|limits| {
            limits.tokens.revocations_every = Duration::from_millis(100);
            limits.logins.key_uses_interval = Duration::from_millis(100);
        });
        let mut world = Self {
            mesh: plan.start().await,
            folder,
            signer: EncodingKey::from_ec_der(&pair.serialize_der()),
            issuer,
            keys: Default::default(),
            robots: Default::default(),
            token_of_revoked_key: String::new(),
        };
        if is_rated {
            return world;
        }
        world.keys = [
            world.make_key("", &json!({ "expirationDate": soon() })).await,
            world.make_key("", &json!({ "label": "gone" })).await,
            world
                .make_key(
                    "",
                    &json!({ "label": "scoped", "scopes": ["repository:team/**:read"] }),
                )
                .await,
        ];
        world.robots = [
            world
                .make_key("?robot=ci", &json!({ "groups": ["writers"] }))
                .await,
            world.make_key("?robot=reader", &json!({})).await,
        ];
        if tokens == Tokens::Registry {
            let request = Request::get("/zot/auth/token").header("authorization", world.basic_of_key(1));
            let answer = world.mesh.client(OWNER).ask(request).await.unwrap().expect(200);
            world.token_of_revoked_key = answer.json()["token"].as_str().unwrap().to_owned();
        }
        world.revoke("gone").await;
        // The first has ended when it is used.
        tokio::time::sleep(Duration::from_millis(2100)).await;
        world
    }

    /// Requests that the owner got from other members so far.
    pub(super) async fn replays(&self) -> f64 {
        let answer = self.root().get("/metrics".to_owned()).await.unwrap().expect(200);
        let metrics = Metrics::parse(std::str::from_utf8(&answer.body).unwrap());
        metrics.sum("portolan_replays_total", &[("outcome", "answered")])
    }

    pub(super) fn root(&self) -> Recorded {
        self.caller("root", OWNER, "")
    }

    /// A login of root's by one of the keys.
    pub(super) fn basic_of_key(&self, n: usize) -> String {
        basic("root", &self.keys[n])
    }

    /// Ends the third key.
    pub(super) async fn revoke_scoped_key(&self) {
        self.revoke("scoped").await;
    }

    /// What `token` says, signed by somebody else.
    pub(super) fn forged_token(&self, token: &str) -> String {
        let payload = token.split('.').nth(1).unwrap();
        let said: serde_json::Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
        let pair = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let header = jsonwebtoken::decode_header(token).unwrap();
        jsonwebtoken::encode(&header, &said, &EncodingKey::from_ed_der(&pair.serialize_der())).unwrap()
    }

    /// Changes the configuration's file.
    pub(super) fn rewrite(&self, from: &str, to: &str) {
        let file = self.folder.path().join("c.yaml");
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(file, text.replace(from, to)).unwrap();
    }

    /// By root, for themselves or for a robot.
    async fn make_key(&self, of: &str, wish: &serde_json::Value) -> String {
        let request = Request::post(format!("/zot/auth/apikey{of}")).body(wish.to_string());
        let answer = self.root().ask(request).await.unwrap().expect(201);
        answer.json()["apiKey"].as_str().unwrap().to_owned()
    }

    async fn revoke(&self, label: &str) {
        let root = self.root();
        let keys = root
            .get("/zot/auth/apikey".to_owned())
            .await
            .unwrap()
            .expect(200)
            .json();
        let keys = keys["apiKeys"].as_array().unwrap();
        assert!(
            keys.iter().all(|key| key.get("apiKey").is_none()),
            "a key is shown once"
        );
        let key = keys.iter().find(|key| key["label"] == label).unwrap();
        let target = format!("/zot/auth/apikey?id={}", key["uuid"].as_str().unwrap());
        root.delete(target).await.unwrap().expect(200);
    }

    /// Somebody at a door, who wants something from `repository`, which a token has to name.
    pub(super) fn caller(&self, caller: &str, door: usize, repository: &str) -> Recorded {
        let [expired, revoked, scoped] = &self.keys;
        let pull = json!([{ "type": "repository", "name": repository, "actions": ["pull"] }]);
        let authorization = match caller {
            "anonymous" => vec![],
            "wrong password" => vec![basic("root", "wrong")],
            "unknown user" => vec![basic("eve", &password("root"))],
            "two headers" => vec![basic("root", &password("root")); 2],
            "expired key" => vec![basic("root", expired)],
            "revoked key" => vec![basic("root", revoked)],
            "somebody else's key" => vec![basic("reader", scoped)],
            "scoped key" => vec![basic("root", scoped)],
            "robot" => vec![basic("robot+ci", &self.robots[0])],
            "robot by name" => vec![basic("robot+reader", &self.robots[1])],
            "another robot's key" => vec![basic("robot+reader", &self.robots[0])],
            "robot by password" => vec![basic("robot+eve", &password("robot+eve"))],
            "expired token" => vec![self.token("registry", -120, pull)],
            "token for elsewhere" => vec![self.token("elsewhere", 120, pull)],
            "token of a stranger" => {
                let stranger = EncodingKey::from_ec_der(&KeyPair::generate().unwrap().serialize_der());
                vec![token(&stranger, "registry", 120, pull)]
            }
            "workload" => vec![format!("Bearer {}", self.workload("registry"))],
            "workload's password" => vec![basic("whoever", &self.workload("registry"))],
            "workload for elsewhere" => vec![format!("Bearer {}", self.workload("elsewhere"))],
            "pull token" => {
                // As Go writes it, with an entry for nothing, and with one that is over.
                let pull = json!([
                    { "type": "repository", "name": repository, "actions": null },
                    { "type": "repository", "name": repository, "actions": ["*"], "exp": now() - 120 },
                    { "type": "repository", "name": repository, "actions": ["pull"], "exp": now() + 120 },
                ]);
                vec![self.token("registry", 120, pull)]
            }
            "token that demands more" => {
                let mut header = Header::new(Algorithm::ES256);
                header.crit = Some(vec!["urn:example:more".to_owned()]);
                vec![signed(&self.signer, &header, "registry", 120, pull)]
            }
            "push token" => {
                let push = json!([{ "type": "repository", "name": repository, "actions": ["pull", "push"] }]);
                vec![self.token("registry", 120, push)]
            }
            "blind token" => {
                let push =
                    json!([{ "type": "repository", "name": repository, "actions": ["push", "delete"] }]);
                vec![self.token("registry", 120, push)]
            }
            "catalog token" => {
                let catalog = json!([{ "type": "registry", "name": "catalog", "actions": ["*"] }]);
                vec![self.token("registry", 120, catalog)]
            }
            caller if caller.contains("session") => vec![],
            "ann of the directory" => vec![basic("ann", "ann-secret")],
            "bob of the directory" => vec![basic("bob", "bob-secret")],
            "ann with bob's password" => vec![basic("ann", "bob-secret")],
            caller if caller.starts_with("root ") => vec![basic("root", &password("root"))],
            caller if caller.starts_with("cora") => vec![basic("cora", &password("cora"))],
            user => vec![basic(user, &password(user))],
        };
        Recorded {
            client: self.mesh.client(door),
            authorization,
            more: self.session(caller),
        }
    }

    /// What `caller`'s client says, and what a browser shows that they use.
    fn session(&self, caller: &str) -> Vec<(&'static str, String)> {
        let own = session(SESSIONS, 60);
        let (cookie, site) = match caller {
            "cora at a build" => return at_build("build/1", Some("192.0.2.7")),
            "cora at a shell" => return at_build("curl/8", Some("192.0.2.7")),
            // There is no first address to ask about.
            "cora without a way" => return at_build("build/1", None),
            "root from elsewhere" => return vec![("sec-fetch-site", "cross-site".to_owned())],
            "root by another origin" => return vec![("origin", "https://evil.example".to_owned())],
            "session" => (own, "same-origin"),
            "session from elsewhere" => (own, "cross-site"),
            "expired session" => (session(SESSIONS, -1), "same-origin"),
            "session of a stranger" => (session("another", 60), "same-origin"),
            "two sessions" => (format!("{own}; {own}"), "same-origin"),
            _ => return Vec::new(),
        };
        vec![("cookie", cookie), ("sec-fetch-site", site.to_owned())]
    }

    fn workload(&self, audience: &str) -> String {
        let claims = json!({ "sub": "job", "aud": audience, "exp": now() + 300 });
        self.issuer.token(claims)
    }

    fn token(&self, audience: &str, seconds: i64, access: serde_json::Value) -> String {
        token(&self.signer, audience, seconds, access)
    }
}

/// What a client says that conditions ask about.
fn at_build(user_agent: &str, forwarded: Option<&str>) -> Vec<(&'static str, String)> {
    let forwarded = forwarded.map(|address| ("x-forwarded-for", address.to_owned()));
    [("user-agent", user_agent.to_owned())]
        .into_iter()
        .chain(forwarded)
        .collect()
}

/// The keys of `http.auth.ldap` for a real directory, where one is at hand: tests/ldap.sh says so.
pub(super) fn directory() -> Option<String> {
    std::env::var("PORTOLAN_TEST_LDAP").ok()
}

/// The key in the file of sessions' keys.
const SESSIONS: &str = "0123456789abcdef0123456789abcdef";

/// The cookie of a session of somebody of the group `writers`, that ends in so many seconds, as a member makes it of the key in a
/// file: another release has to know it, too.
fn session(key: &str, seconds: i64) -> String {
    let secret = format!("portolan sessions\0{key}\0");
    let pair = Ed25519KeyPair::from_seed_unchecked(&Sha256::digest(secret)).unwrap();
    let id = hex::encode(&Sha256::digest(pair.public_key())[..8]);
    let mut header = Header::new(Algorithm::EdDSA);
    header.typ = Some("portolan-session+jwt".to_owned());
    header.kid = Some(format!("file-{id}"));
    let claims = json!({
        "sid": "0123", "sub": "sam@example.org", "groups": ["writers"], "provider": "oidc",
        "iat": now() - 100, "exp": now() + seconds,
    });
    let key = EncodingKey::from_ed_der(pair.to_pkcs8().unwrap().as_ref());
    let text = jsonwebtoken::encode(&header, &claims, &key).unwrap();
    format!("portolan-session={text}")
}

pub(super) fn password(user: &str) -> String {
    format!("{user}'s secret")
}

pub(super) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn now() -> i64 {
    i64::try_from(portolan::clock::now_ms() / 1000).unwrap()
}

/// In one to two seconds, in RFC 3339.
fn soon() -> String {
    let when = time::OffsetDateTime::from_unix_timestamp(now() + 2).unwrap();
    when.format(&time::format_description::well_known::Rfc3339)
        .unwrap()
}

fn token(signer: &EncodingKey, audience: &str, seconds: i64, access: serde_json::Value) -> String {
    signed(signer, &Header::new(Algorithm::ES256), audience, seconds, access)
}

fn signed(
    signer: &EncodingKey,
    header: &Header,
    audience: &str,
    seconds: i64,
    access: serde_json::Value,
) -> String {
    let claims = json!({ "sub": "robot", "aud": audience, "exp": now() + seconds, "access": access });
    let token = jsonwebtoken::encode(header, &claims, signer).unwrap();
    format!("Bearer {token}")
}

/// A client that logs in.
#[derive(Clone)]
pub(super) struct Recorded {
    pub(super) client: Client,
    pub(super) authorization: Vec<String>,
    /// What else its requests say.
    pub(super) more: Vec<(&'static str, String)>,
}

impl Ask for Recorded {
    async fn ask(&self, mut request: Request) -> Result<Answer, Broken> {
        for value in &self.authorization {
            request = request.header("authorization", value);
        }
        for (name, value) in &self.more {
            request = request.header(name, value);
        }
        self.client.ask(request).await
    }
}
