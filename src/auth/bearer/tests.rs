use std::{fs, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{EncodingKey, Header, jwk::Jwk};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::oci::Action;

struct Signer {
    pair: KeyPair,
    key: EncodingKey,
    algorithm: Algorithm,
}

impl Signer {
    fn new(algorithm: Algorithm) -> Self {
        let (pair, key) = match algorithm {
            Algorithm::RS256 => {
                let pair = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
                // Without the frame that PKCS #8 puts around a key of 2048 bits.
                let key = EncodingKey::from_rsa_der(&pair.serialize_der()[26..]);
                (pair, key)
            }
            Algorithm::EdDSA => {
                let pair = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
                let key = EncodingKey::from_ed_der(&pair.serialize_der());
                (pair, key)
            }
            _ => {
                let pair = KeyPair::generate().unwrap();
                let key = EncodingKey::from_ec_der(&pair.serialize_der());
                (pair, key)
            }
        };
        Self { pair, key, algorithm }
    }

    fn certificate(&self) -> String {
        let params = CertificateParams::new(vec!["tokens".to_owned()]).unwrap();
        params.self_signed(&self.pair).unwrap().pem()
    }

    fn jwk(&self) -> Value {
        match self.algorithm {
            Algorithm::EdDSA => {
                let x = URL_SAFE_NO_PAD.encode(self.pair.public_key_raw());
                json!({ "kty": "OKP", "crv": "Ed25519", "use": "sig", "x": x })
            }
            other => serde_json::to_value(Jwk::from_encoding_key(&self.key, other).unwrap()).unwrap(),
        }
    }

    fn token(&self, id: Option<&str>, claims: &Value) -> String {
        let header = Header {
            kid: id.map(str::to_owned),
            ..Header::new(self.algorithm)
        };
        self.signed(&header, claims)
    }

    fn signed(&self, header: &Header, claims: &Value) -> String {
        let header = Header {
            alg: self.algorithm,
            ..header.clone()
        };
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }
}

fn file(content: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    fs::write(&path, content).unwrap();
    (folder, path)
}

fn tokens(keys: TokenKeys) -> Result<Tokens, FileFault> {
    Tokens::load(&Bearer {
        realm: "https://tokens.example/".to_owned(),
        service: "registry".to_owned(),
        keys,
    })
}

fn seconds(from_now: i64) -> i64 {
    i64::try_from(clock::now_ms() / 1000).unwrap() + from_now
}

fn claims() -> Value {
    json!({
        "sub": "ann",
        "aud": "registry",
        "exp": seconds(300),
        "nbf": seconds(-1),
        "access": [{ "type": "repository", "name": "team/app", "actions": ["pull", "push"] }],
    })
}

#[test]
fn tokens_of_each_algorithm_are_known_by_certificate_by_public_key_and_by_key_set() {
    for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA] {
        let signer = Signer::new(algorithm);
        let set = json!({ "keys": [signer.jwk()] }).to_string();
        for (content, jwks) in [
            (signer.certificate(), false),
            (signer.pair.public_key_pem(), false),
            (set, true),
        ] {
            let (_folder, path) = file(&content);
            let keys = if jwks {
                TokenKeys::Jwks(path)
            } else {
                TokenKeys::Pem(path)
            };
            let tokens = tokens(keys).unwrap();
            let login = tokens.login(&signer.token(None, &claims())).unwrap();
            assert_eq!(login.user, "ann");
            let other = Signer::new(algorithm).token(None, &claims());
            assert!(tokens.login(&other).is_none(), "{algorithm:?} of somebody else");
        }
    }
}

#[test]
fn a_token_is_for_us_for_now_and_whole() {
    let signer = Signer::new(Algorithm::ES256);
    let (_folder, path) = file(&signer.certificate());
    let tokens = tokens(TokenKeys::Pem(path)).unwrap();
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        tokens.login(&signer.token(None, &claims)).is_some()
    };
    assert!(with("aud", json!(["other", "registry"])));
    assert!(with("exp", json!(seconds(-30))), "within the leeway");
    assert!(with("nbf", json!(seconds(30))), "within the leeway");
    assert!(with("sub", json!("")), "nobody in particular");
    assert!(!with("aud", json!("other")) && !with("aud", json!(null)));
    assert!(!with("exp", json!(seconds(-90))) && !with("exp", json!(null)));
    assert!(!with("nbf", json!(seconds(90))));
    assert!(!with("sub", json!("a\nb")));

    let whole = signer.token(None, &claims());
    let (signed, signature) = whole.rsplit_once('.').unwrap();
    let none = "eyJhbGciOiJub25lIn0";
    let payload = signed.split_once('.').unwrap().1;
    for wrong in [
        format!("{signed}."),
        format!("{signed}.{}", &signature[..20]),
        format!("{signed}x.{signature}"),
        format!("{none}.{payload}."),
        format!("{none}.{payload}.{signature}"),
        "x".to_owned(),
        String::new(),
    ] {
        assert!(tokens.login(&wrong).is_none(), "{wrong}");
    }
    // The public key, which everybody has, taken for a shared secret.
    let confused = jsonwebtoken::encode(
        &Header::new(Algorithm::HS256),
        &claims(),
        &EncodingKey::from_secret(signer.pair.public_key_pem().as_bytes()),
    );
    assert!(tokens.login(&confused.unwrap()).is_none());
}

#[test]
fn a_token_with_an_entry_that_grants_nothing_grants_the_rest() {
    let signer = Signer::new(Algorithm::ES256);
    let (_folder, path) = file(&signer.certificate());
    let tokens = tokens(TokenKeys::Pem(path)).unwrap();
    for (access, may_pull) in [
        (json!(null), false),
        (
            json!([{ "type": "repository", "name": "a", "actions": null }]),
            false,
        ),
        (
            json!([
                { "type": "repository", "name": "b", "actions": null },
                { "type": "repository", "name": "a", "actions": ["pull"] },
            ]),
            true,
        ),
    ] {
        let mut claims = claims();
        claims["access"] = access;
        let login = tokens.login(&signer.token(None, &claims)).unwrap();
        let Via::Token { grants, .. } = login.via else {
            panic!("not a token")
        };
        let may = grants.allows(&RepoName::parse("a").unwrap(), Action::Read);
        assert_eq!(may, may_pull, "{claims}");
    }
}

#[test]
fn a_token_that_demands_an_extension_is_none() {
    let signer = Signer::new(Algorithm::ES256);
    let (_folder, path) = file(&signer.certificate());
    let tokens = tokens(TokenKeys::Pem(path)).unwrap();
    let mut header = Header::default();
    assert!(tokens.login(&signer.signed(&header, &claims())).is_some());
    // A member that nobody must understand is no matter.
    header.extras.insert("b64", true);
    assert!(tokens.login(&signer.signed(&header, &claims())).is_some());
    for critical in [vec!["b64"], vec!["x"], vec![]] {
        header.crit = Some(critical.iter().map(|name| (*name).to_owned()).collect());
        let token = signer.signed(&header, &claims());
        assert!(tokens.login(&token).is_none(), "{critical:?}");
    }
}

#[test]
fn the_key_that_is_named_is_the_one_that_counts() {
    let (old, new) = (Signer::new(Algorithm::ES256), Signer::new(Algorithm::ES256));
    let mut keys = [&old, &new].map(|signer| Jwk::from_encoding_key(&signer.key, Algorithm::ES256).unwrap());
    keys[0].common.key_id = Some("old".to_owned());
    keys[1].common.key_id = Some("new".to_owned());
    let (_folder, path) = file(&json!({ "keys": keys }).to_string());
    let tokens = tokens(TokenKeys::Jwks(path)).unwrap();
    assert!(tokens.login(&old.token(Some("old"), &claims())).is_some());
    assert!(tokens.login(&new.token(Some("new"), &claims())).is_some());
    assert!(tokens.login(&new.token(None, &claims())).is_some());
    assert!(tokens.login(&new.token(Some("old"), &claims())).is_none());
    assert!(tokens.login(&new.token(Some("newer"), &claims())).is_none());
}

#[test]
fn access_is_what_it_says_and_what_is_unknown_gives_nothing() {
    let access = json!([
        { "type": "repository", "name": "a/b", "actions": ["pull"] },
        { "type": "repository", "name": "n", "actions": null },
        { "type": "repository", "name": "n", "actions": "pull" },
        { "type": "repository", "name": null, "actions": ["pull"] },
        { "type": null, "name": "n", "actions": ["pull"] },
        { "name": "n", "actions": ["pull"] },
        "repository:n:pull",
        null,
        { "type": "repository", "name": "o", "actions": ["pull"], "exp": seconds(-90) },
        { "type": "repository", "name": "o", "actions": ["pull"], "exp": "tomorrow" },
        { "type": "registry", "name": "catalog", "actions": null },
        { "type": "repository", "name": "e", "actions": ["pull"], "exp": seconds(-30) },
        { "type": "repository", "name": "e", "actions": ["push"], "exp": null, "class": "" },
        { "type": "repository", "name": "a/b", "actions": ["push", "fly"] },
        { "type": "repository", "name": "c", "actions": ["*"] },
        { "type": "repository", "name": "d" },
        { "type": "repository", "name": "E/..", "actions": ["*"] },
        { "type": "repository(plugin)", "name": "p", "actions": ["pull"] },
        { "type": "registry", "name": "catalog", "actions": ["*"] },
    ]);
    let Via::Token { grants, catalog } = via(serde_json::from_value(access).unwrap()) else {
        panic!("not a token")
    };
    let may = |name: &str, action| grants.allows(&RepoName::parse(name).unwrap(), action);
    assert!(catalog && may("a/b", Action::Read) && may("a/b", Action::Update) && !may("a/b", Action::Delete));
    assert!(Action::ALL.into_iter().all(|action| may("c", action)));
    assert!(
        Action::ALL
            .into_iter()
            .all(|action| !["d", "p", "n", "o"].iter().any(|name| may(name, action)))
    );
    assert!(
        may("e", Action::Read) && may("e", Action::Create),
        "within the leeway"
    );
    assert!(matches!(via(vec![]), Via::Token { catalog: false, .. }));
}

#[test]
fn a_file_without_a_usable_key_is_refused_with_the_reason() {
    let signer = Signer::new(Algorithm::ES256);
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    for (content, problem) in [
        (String::new(), "holds no certificate"),
        (signer.pair.serialize_pem(), "holds a private key"),
        (p384.public_key_pem(), "another kind than RSA, P-256 and Ed25519"),
    ] {
        let (_folder, path) = file(&content);
        let fault = tokens(TokenKeys::Pem(path)).err().unwrap().to_string();
        assert!(fault.contains(problem), "{fault}");
    }
    for content in [
        "",
        "{}",
        "{\"keys\": []}",
        "{\"keys\": [{\"kty\": \"oct\", \"k\": \"aGVsbG8\"}]}",
    ] {
        let (_folder, path) = file(content);
        assert!(tokens(TokenKeys::Jwks(path)).is_err(), "{content}");
    }
}
