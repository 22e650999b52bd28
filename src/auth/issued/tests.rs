//! Tokens of several members over one store: who knows whose, and what ends one.

use std::fs;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use prost::Message as _;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    super::{Cookie, KeyUse},
    *,
};
use crate::{
    auth::{ApiKeys, KeyMaker, NewApiKey, api_keys::REVOKED_FOR, htpasswd::Htpasswd},
    net::Drain,
    storage::{Expect, MemoryMeta, MetaStore, Version, keys as rows_at, rows},
};

const ISSUER: &str = "https://issuer.example";

/// A store, a file of passwords, and members that share both.
struct World {
    folder: TempDir,
    meta: Arc<dyn MetaStore>,
}

struct Member {
    issuer: Arc<Issuer>,
    passwords: Arc<Htpasswd>,
}

impl World {
    fn new() -> Self {
        let world = Self {
            folder: tempfile::tempdir().unwrap(),
            meta: Arc::new(MemoryMeta::new()),
        };
        world.write(&["ann", "bob"]);
        world
    }

    /// The file has a new password of each of these users, and nobody else.
    fn write(&self, users: &[&str]) {
        let line = |user: &&str| format!("{user}:{}\n", bcrypt::hash("secret", 4).unwrap());
        let lines: String = users.iter().map(line).collect();
        fs::write(self.folder.path().join("users"), lines).unwrap();
    }

    fn member(&self) -> Member {
        self.member_with(&Limits::default())
    }

    fn member_of_workloads(&self) -> Member {
        self.member_by(&Limits::default(), vec![ISSUER.to_owned()])
    }

    fn member_with(&self, limits: &Limits) -> Member {
        self.member_by(limits, Vec::new())
    }

    fn member_by(&self, limits: &Limits, issuers: Vec<String>) -> Member {
        let file = self.folder.path().join("users");
        let passwords = Arc::new(Htpasswd::load(&file, limits.passwords).unwrap());
        let ways = Ways {
            standing: Standing {
                passwords: Some(passwords.clone()),
                directory: None,
            },
            issuers,
            certificates: true,
            api_keys: true,
        };
        Member {
            issuer: Arc::new(Issuer::new(
                ways,
                Arc::new(SigningKeys::new(self.meta.clone(), limits, Duration::ZERO)),
                Arc::new(Revocations::new(self.meta.clone(), rows_at::REVOKED_KEYS, limits)),
                limits,
            )),
            passwords,
        }
    }
}

impl Member {
    fn by_password(&self, user: &str) -> Login {
        Login {
            user: user.to_owned(),
            groups: vec!["staff".to_owned()],
            via: Via::Password(self.passwords.stamp(user).unwrap()),
        }
    }

    async fn issue(&self, login: Option<Login>) -> String {
        let asked = Asked::parse(["repository:a:pull registry:catalog:*"]).unwrap();
        self.issuer.issue(login, &asked).await.unwrap().token
    }

    /// Who `token` is of: "" is nobody; `None` where it is refused.
    async fn user(&self, token: &str) -> Option<String> {
        let evidence = Evidence {
            credentials: Credentials::Bearer(token.to_owned()),
            session: Cookie::None,
            certificates: None,
        };
        match self.issuer.authenticate(&evidence).await.unwrap() {
            Verdict::Known(login) => Some(login.user),
            Verdict::Refused => None,
            Verdict::NotMine => panic!("a token is nobody else's"),
        }
    }
}

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

fn header(token: &str) -> Header {
    jsonwebtoken::decode_header(token).unwrap()
}

#[tokio::test]
async fn any_member_knows_any_members_tokens_and_what_they_say() {
    let world = World::new();
    let first = world.member();
    let token = first.issue(Some(first.by_password("ann"))).await;
    let nobodys = first.issue(None).await;
    // One that comes later as well.
    for member in [&first, &world.member(), &world.member()] {
        assert_eq!(member.user(&token).await.as_deref(), Some("ann"));
        assert_eq!(member.user(&nobodys).await.as_deref(), Some(""));
        let login = member.issuer.read(&token).await.unwrap().unwrap();
        assert_eq!(login.groups, ["staff"]);
        let Via::Issued { asked, scopes, .. } = login.via else {
            panic!("it is a token of ours");
        };
        assert_eq!(asked.to_string(), "repository:a:pull registry:catalog:*");
        assert!(asked.catalog && scopes.is_empty());
    }
    let said = claims(&token);
    assert_eq!(said["exp"].as_u64().unwrap() - said["iat"].as_u64().unwrap(), 300);
    let hash = fs::read_to_string(world.folder.path().join("users")).unwrap();
    let hash = hash.split(['$', '\n']).nth(3).unwrap().to_owned();
    assert!(
        hash.len() > 40 && !said.to_string().contains(&hash[..20]),
        "{said}"
    );
    // Each signs by a key of its own, and keeps to it.
    let second = world.member();
    let others = second.issue(Some(second.by_password("ann"))).await;
    assert_ne!(header(&token).kid, header(&others).kid);
    assert_eq!(header(&token).kid, header(&nobodys).kid);
    assert_eq!(first.user(&others).await.as_deref(), Some("ann"));
}

#[tokio::test]
async fn what_is_no_token_of_ours_is_refused() {
    let world = World::new();
    let member = world.member();
    let good = member.issue(Some(member.by_password("ann"))).await;
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let mut wrong = vec![
        String::new(),
        "x".to_owned(),
        "x.y.z".to_owned(),
        format!("{signed}."),
        format!("{signed}.{}", signature.chars().rev().collect::<String>()),
        format!("{good}A"),
    ];
    // Another user, under the old signature.
    let mut said = claims(&good);
    said["sub"] = json!("bob");
    let encoded = URL_SAFE_NO_PAD.encode(said.to_string());
    let head = good.split('.').next().unwrap();
    wrong.push(format!("{head}.{encoded}.{signature}"));
    // By a stranger's key: under a good id, under one of its own, and without a signature.
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let stranger = EncodingKey::from_ed_der(&pair.serialize_der());
    for id in [
        header(&good).kid,
        Some("0".repeat(32)),
        Some("../x".to_owned()),
        None,
    ] {
        let header = Header {
            typ: Some(TYPE.to_owned()),
            kid: id,
            ..Header::new(Algorithm::EdDSA)
        };
        wrong.push(jsonwebtoken::encode(&header, &claims(&good), &stranger).unwrap());
    }
    let none =
        URL_SAFE_NO_PAD.encode(json!({ "alg": "none", "typ": TYPE, "kid": header(&good).kid }).to_string());
    let body = good.split('.').nth(1).unwrap();
    wrong.push(format!("{none}.{body}."));
    // By a public key that is taken for a secret.
    let row = world
        .meta
        .get(&rows_at::token_key(&header(&good).kid.unwrap()))
        .await
        .unwrap();
    let public = rows::TokenKey::decode(row.unwrap().bytes).unwrap().public_key;
    let confused = Header {
        typ: Some(TYPE.to_owned()),
        kid: header(&good).kid,
        ..Header::new(Algorithm::HS256)
    };
    wrong.push(jsonwebtoken::encode(&confused, &claims(&good), &EncodingKey::from_secret(&public)).unwrap());
    for token in wrong {
        assert_eq!(member.user(&token).await, None, "{token}");
    }
    assert_eq!(member.user(&good).await.as_deref(), Some("ann"));
    assert_eq!(member.user(PLACEHOLDER).await.as_deref(), Some(""));
}

#[tokio::test]
async fn what_our_own_key_signs_is_a_token_only_where_it_says_so_and_is_understood() {
    let world = World::new();
    let member = world.member();
    let good = member.issue(Some(member.by_password("ann"))).await;
    let (id, key) = member.issuer.keys.own().await.unwrap();
    let signed = |typ: &str, alter: &dyn Fn(&mut Value)| {
        let mut said = claims(&good);
        alter(&mut said);
        let header = Header {
            typ: Some(typ.to_owned()),
            kid: Some(id.clone()),
            ..Header::new(Algorithm::EdDSA)
        };
        jsonwebtoken::encode(&header, &said, &key).unwrap()
    };
    let now = clock::now_ms() / 1000;
    assert_eq!(member.user(&signed(TYPE, &|_| {})).await.as_deref(), Some("ann"));
    let ended = |by: u64| move |said: &mut Value| said["exp"] = json!(now - by);
    assert_eq!(
        member
            .user(&signed(TYPE, &ended(LEEWAY_SECONDS - 5)))
            .await
            .as_deref(),
        Some("ann")
    );
    for wrong in [
        signed("JWT", &|_| {}),
        signed(TYPE, &ended(LEEWAY_SECONDS + 5)),
        signed(TYPE, &|said| said["exp"] = json!(null)),
        signed(TYPE, &|said| said["only_on_sundays"] = json!(true)),
        signed(TYPE, &|said| said["by"] = json!({ "password": { "stamp": "0" } })),
        signed(TYPE, &|said| said["by"] = json!({ "dice": {} })),
        signed(TYPE, &|said| said["sub"] = json!("a\nb")),
        signed(TYPE, &|said| {
            said.as_object_mut().unwrap().remove("sub");
        }),
    ] {
        assert_eq!(member.user(&wrong).await, None, "{}", claims(&wrong));
    }
}

#[tokio::test]
async fn a_changed_password_and_a_removed_user_end_their_tokens_and_nobody_elses() {
    let world = World::new();
    let (first, second) = (world.member(), world.member());
    let anns = first.issue(Some(first.by_password("ann"))).await;
    let bobs = first.issue(Some(first.by_password("bob"))).await;
    let by_certificate = Login {
        user: "ann".to_owned(),
        groups: Vec::new(),
        via: Via::Certificate,
    };
    let certified = first.issue(Some(by_certificate)).await;
    let bob = fs::read_to_string(world.folder.path().join("users")).unwrap();
    let bob = bob.lines().last().unwrap().to_owned();
    for ann in [
        format!("ann:{}\n", bcrypt::hash("another", 4).unwrap()),
        String::new(),
    ] {
        fs::write(world.folder.path().join("users"), format!("{ann}{bob}\n")).unwrap();
        assert_eq!(second.user(&bobs).await.as_deref(), Some("bob"));
        second.passwords.look();
        assert_eq!(second.user(&anns).await, None, "{ann}");
        assert_eq!(second.user(&bobs).await.as_deref(), Some("bob"));
        assert_eq!(second.user(&certified).await.as_deref(), Some("ann"));
    }
}

async fn key(world: &World, user: &str, new: NewApiKey) -> (ApiKeys, KeyUse) {
    let keys = ApiKeys::new(world.meta.clone(), &Limits::default());
    let maker = KeyMaker {
        user: user.to_owned(),
        by: MadeBy::Password,
        groups: Vec::new(),
    };
    let (made, _) = keys.create(&maker, new).await.unwrap();
    let scopes = made
        .scopes
        .iter()
        .map(|scope| Scope::parse(scope).unwrap())
        .collect();
    let key = KeyUse {
        id: made.id,
        scopes,
        expires_ms: made.expires_ms,
        by: MadeBy::Password,
        groups: Vec::new(),
    };
    (keys, key)
}

fn by_key(user: &str, key: &KeyUse) -> Login {
    Login {
        user: user.to_owned(),
        groups: Vec::new(),
        via: Via::ApiKey(key.clone()),
    }
}

#[tokio::test(start_paused = true)]
async fn a_revoked_key_ends_its_tokens_at_every_member_within_a_minute() {
    let world = World::new();
    let (first, second) = (world.member(), world.member());
    let (keys, used) = key(&world, "ann", NewApiKey::default()).await;
    let (_, other) = key(&world, "ann", NewApiKey::default()).await;
    let token = first.issue(Some(by_key("ann", &used))).await;
    let others = first.issue(Some(by_key("ann", &other))).await;
    assert_eq!(second.user(&token).await.as_deref(), Some("ann"));
    keys.revoke("ann", &used.id).await.unwrap();
    // Also where nothing follows the list in the background.
    tokio::time::advance(Limits::default().tokens.revocations_trusted).await;
    for member in [&first, &second, &world.member()] {
        assert_eq!(member.user(&token).await, None);
        assert_eq!(member.user(&others).await.as_deref(), Some("ann"));
    }
    assert!(Limits::default().tokens.revocations_trusted < Duration::from_secs(60));
    // Whoever follows it knows sooner.
    let third = world.member();
    let drain = Drain::new();
    let issuer = third.issuer.clone();
    drain.spawn("follow", {
        let drain = drain.clone();
        async move {
            tokio::select! {
                () = drain.begun() => {}
                () = issuer.revoked.follow() => {}
            }
        }
    });
    assert_eq!(third.user(&others).await.as_deref(), Some("ann"));
    keys.revoke("ann", &other.id).await.unwrap();
    tokio::time::sleep(Limits::default().tokens.revocations_every * 2).await;
    assert_eq!(third.user(&others).await, None);
    drain.finish(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn however_many_sessions_have_ended_tokens_got_by_keys_are_good() {
    let world = World::new();
    let mut limits = Limits::default();
    limits.tokens.revocations = 3;
    let member = world.member_with(&limits);
    let ended = Revocations::new(world.meta.clone(), rows_at::ENDED_SESSIONS, &limits);
    let (_, used) = key(&world, "ann", NewApiKey::default()).await;
    let token = member.issue(Some(by_key("ann", &used))).await;
    for n in 0..4 {
        let end = clock::now_ms() + 60_000;
        let at = rows_at::revocation(rows_at::ENDED_SESSIONS, end, &format!("s{n}"));
        let put = at.put(Expect::Absent, rows::Revocation { min_reader: 1 }.encode_to_vec());
        world.meta.transact(Version::random(), &[put]).await.unwrap();
    }
    assert!(ended.has("s0").await.is_err(), "the list is too long");
    assert_eq!(member.user(&token).await.as_deref(), Some("ann"));
}

#[tokio::test]
async fn a_keys_token_is_bound_by_its_scopes_its_end_and_its_user() {
    let world = World::new();
    let member = world.member();
    let new = NewApiKey {
        scopes: vec!["repository:team/**:read".to_owned()],
        expires_ms: Some(clock::now_ms() + 20_000),
        ..NewApiKey::default()
    };
    let (_, used) = key(&world, "ann", new).await;
    let asked = Asked::default();
    let issued = member
        .issuer
        .issue(Some(by_key("ann", &used)), &asked)
        .await
        .unwrap();
    assert!((18..=20).contains(&issued.expires_in), "{}", issued.expires_in);
    let login = member.issuer.read(&issued.token).await.unwrap().unwrap();
    let Via::Issued { scopes, .. } = login.via else {
        panic!("it is a token of ours");
    };
    assert_eq!(scopes, used.scopes);
    world.write(&["bob"]);
    member.passwords.look();
    assert_eq!(member.user(&issued.token).await, None);
}

#[tokio::test]
async fn there_is_no_token_for_a_token() {
    let world = World::new();
    let member = world.member();
    let token = member.issue(Some(member.by_password("ann"))).await;
    let login = member.issuer.read(&token).await.unwrap();
    let again = member.issuer.issue(login, &Asked::default()).await;
    assert!(matches!(again, Err(AuthError::Denied)));
}

#[tokio::test]
async fn keys_are_replaced_and_what_has_ended_goes() {
    let world = World::new();
    let mut short = Limits::default();
    short.tokens.key_life = Duration::from_millis(1);
    let member = world.member_with(&short);
    let first = member.issue(None).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let second = member.issue(None).await;
    assert_ne!(header(&first).kid, header(&second).kid);
    // The first key has ended, so nothing it signed is good any more, at members that knew it and at others.
    for member in [&member, &world.member()] {
        assert_eq!(member.user(&first).await, None);
    }
    let at = rows_at::token_key(&header(&first).kid.unwrap());
    member.issuer.keys.sweep_once().await.unwrap();
    assert!(
        world.meta.get(&at).await.unwrap().is_some(),
        "some member's clock may be behind"
    );
    let mut prompt = short;
    prompt.registry.clock_margin = Duration::ZERO;
    let prompt = world.member_with(&prompt);
    let past = [rows_at::REVOKED_KEYS, rows_at::ENDED_SESSIONS]
        .map(|list| rows_at::revocation(list, clock::now_ms() - 1000, "gone"));
    for past in &past {
        let row = rows::Revocation { min_reader: 1 }.encode_to_vec();
        let put = past.clone().put(Expect::Absent, row);
        world.meta.transact(Version::random(), &[put]).await.unwrap();
    }
    let (keys, used) = key(&world, "ann", NewApiKey::default()).await;
    keys.revoke("ann", &used.id).await.unwrap();
    prompt.issuer.keys.sweep_once().await.unwrap();
    assert!(world.meta.get(&at).await.unwrap().is_none());
    for past in &past {
        assert!(world.meta.get(past).await.unwrap().is_none());
    }
    assert!(
        prompt.issuer.revoked.has(&used.id).await.unwrap(),
        "what was revoked now stays"
    );
}

#[tokio::test]
async fn a_key_of_a_newer_release_is_not_believed() {
    let world = World::new();
    let member = world.member();
    let token = member.issue(None).await;
    let at = rows_at::token_key(&header(&token).kid.unwrap());
    let row = world.meta.get(&at).await.unwrap().unwrap();
    let newer = rows::TokenKey {
        min_reader: rows::SCHEMA + 1,
        ..rows::TokenKey::decode(row.bytes).unwrap()
    };
    let put = at.put(Expect::Any, newer.encode_to_vec());
    world.meta.transact(Version::random(), &[put]).await.unwrap();
    assert_eq!(world.member().user(&token).await, None);
}

#[test]
fn a_revocation_is_known_for_longer_than_any_token_lives() {
    let limits = Limits::default();
    let leeway = Duration::from_secs(LEEWAY_SECONDS);
    assert!(limits.tokens.life + leeway + limits.registry.clock_margin * 2 <= REVOKED_FOR);
    assert!(limits.tokens.life + leeway < limits.tokens.key_life);
}

#[tokio::test]
async fn a_token_says_what_it_had_no_room_for() {
    let world = World::new();
    let member = world.member_of_workloads();
    let lacks = async |groups: Vec<String>, via: Via| {
        let login = Login {
            user: "job".to_owned(),
            groups,
            via,
        };
        let token = member.issue(Some(login)).await;
        let read = member.issuer.read(&token).await.unwrap().unwrap();
        let Via::Issued { lacks, .. } = read.via else {
            panic!("it is a token of ours");
        };
        (lacks, claims(&token).get("more_groups").is_some())
    };
    let workload = |claims| Via::Workload {
        issuer: ISSUER.to_owned(),
        expires_ms: clock::now_ms() + 60_000,
        claims,
    };
    let says = |length: usize| Some(json!({ "sub": "x".repeat(length) }));
    let many: Vec<String> = (0..100).map(|n| format!("{n:060}")).collect();
    let few = many[..10].to_vec();
    for (groups, via, lacks_groups, lacks_claims) in [
        (few.clone(), workload(says(10)), false, false),
        (many.clone(), workload(says(10)), true, false),
        (few.clone(), workload(says(5000)), false, true),
        // Where no condition asked for them when it was given.
        (few.clone(), workload(None), false, true),
        (few, Via::Certificate, false, false),
        (many, Via::Certificate, true, false),
    ] {
        let expected = Lacks {
            groups: lacks_groups,
            claims: lacks_claims,
        };
        // A release that doesn't know the word knows all tokens without it.
        assert_eq!(lacks(groups, via).await, (expected, lacks_groups));
    }
}
