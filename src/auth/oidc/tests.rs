use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::future::join_all;
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use parking_lot::Mutex;
use rcgen::KeyPair;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_util::task::TaskTracker;

use super::{Expected, Provider, ProviderError, TokenError};
use crate::{clock, config::limits::ProviderLimits, outbound::Trust};

/// A web server that answers what it is told to, and counts.
struct Web {
    url: String,
    pages: Arc<Mutex<HashMap<String, String>>>,
    asked: Arc<AtomicUsize>,
}

impl Web {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let pages: Arc<Mutex<HashMap<String, String>>> = Arc::default();
        let asked: Arc<AtomicUsize> = Arc::default();
        let (served, counted) = (pages.clone(), asked.clone());
        TaskTracker::new().spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match socket.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => break,
                    }
                }
                counted.fetch_add(1, Ordering::SeqCst);
                let head = String::from_utf8_lossy(&head).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default();
                let (status, body) = match served.lock().get(path) {
                    Some(body) => ("200 OK", body.clone()),
                    None => ("503 Service Unavailable", String::new()),
                };
                let answer = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        });
        Self { url, pages, asked }
    }

    fn put(&self, path: &str, page: &Value) {
        self.pages.lock().insert(path.to_owned(), page.to_string());
    }

    fn is_down(&self) {
        self.pages.lock().clear();
    }

    /// Publishes these keys beside some that nobody here understands.
    fn publish(&self, keys: &[&Signer]) {
        let jwks = format!("{}/jwks", self.url);
        let document = json!({ "issuer": self.url, "jwks_uri": jwks });
        self.put("/.well-known/openid-configuration", &document);
        let strange = [
            json!({ "kty": "AKP", "alg": "ML-DSA-44", "kid": "later", "pub": "AA" }),
            json!({ "kty": "oct", "k": URL_SAFE_NO_PAD.encode("shared"), "kid": "secret" }),
            json!({ "kty": "RSA", "kid": "broken" }),
        ];
        let keys: Vec<_> = keys.iter().map(|key| key.jwk()).chain(strange).collect();
        self.put("/jwks", &json!({ "keys": keys }));
    }

    fn provider(&self, again_after: Duration) -> Provider {
        let bounds = ProviderLimits {
            patience: Duration::from_secs(5),
            again_after,
            refresh: Duration::from_secs(900),
            trusted: Duration::from_secs(900),
        };
        Provider::new(&self.url, &Trust::Machine, bounds).unwrap()
    }
}

struct Signer {
    id: &'static str,
    key: EncodingKey,
}

impl Signer {
    fn new(id: &'static str) -> Self {
        let pair = KeyPair::generate().unwrap();
        let key = EncodingKey::from_ec_der(&pair.serialize_der());
        Self { id, key }
    }

    fn jwk(&self) -> Value {
        let mut jwk =
            serde_json::to_value(Jwk::from_encoding_key(&self.key, Algorithm::ES256).unwrap()).unwrap();
        jwk["kid"] = json!(self.id);
        jwk
    }

    fn sign(&self, claims: &Value) -> String {
        let header = Header {
            kid: Some(self.id.to_owned()),
            ..Header::new(Algorithm::ES256)
        };
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }
}

const OURS: Expected<'_> = Expected {
    audiences: &["registry"],
    claims: &["sub"],
};

fn claims(issuer: &str) -> Value {
    json!({ "iss": issuer, "aud": "registry", "sub": "ann", "exp": clock::now_ms() / 1000 + 300 })
}

async fn is_good(provider: &Provider, token: &str) -> bool {
    provider.verify::<Value>(token, &OURS).await.is_ok()
}

#[tokio::test]
async fn a_token_is_believed_that_the_issuer_signed_for_us_and_now() {
    let web = Web::start().await;
    let (key, stranger) = (Signer::new("a"), Signer::new("a"));
    web.publish(&[&key]);
    let provider = web.provider(Duration::from_secs(60));
    assert!(is_good(&provider, &key.sign(&claims(&web.url))).await);
    let now = clock::now_ms() / 1000;
    for (name, value) in [
        ("iss", json!("https://elsewhere.example")),
        ("iss", json!(format!("{}/", web.url))),
        ("iss", Value::Null),
        ("aud", json!("another")),
        ("aud", Value::Null),
        ("exp", json!(now - 61)),
        ("exp", Value::Null),
        ("nbf", json!(now + 300)),
        ("sub", Value::Null),
    ] {
        let mut wrong = claims(&web.url);
        match value {
            Value::Null => drop(wrong.as_object_mut().unwrap().remove(name)),
            ref value => wrong[name] = value.clone(),
        }
        assert!(!is_good(&provider, &key.sign(&wrong)).await, "{name} {value}");
    }
    assert!(!is_good(&provider, &stranger.sign(&claims(&web.url))).await);
    let shared = EncodingKey::from_secret(b"shared");
    let symmetric = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims(&web.url), &shared).unwrap();
    assert!(!is_good(&provider, &symmetric).await);
    let encoded = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    for none in ["none", "None", "NONE", "nOnE"] {
        let unsigned = format!(
            "{}.{}.",
            encoded(&json!({ "alg": none })),
            encoded(&claims(&web.url))
        );
        assert!(!is_good(&provider, &unsigned).await, "{none}");
    }
}

#[tokio::test]
async fn a_new_key_is_known_at_once_and_made_up_ones_make_nobody_ask() {
    let web = Web::start().await;
    // As some issuers do that are started anew: another key by the same name.
    let (old, new, same_name) = (Signer::new("1"), Signer::new("2"), Signer::new("2"));
    web.publish(&[&old]);
    let patient = web.provider(Duration::from_secs(3600));
    let eager = web.provider(Duration::ZERO);
    for provider in [&patient, &eager] {
        assert!(is_good(provider, &old.sign(&claims(&web.url))).await);
    }
    web.publish(&[&new]);
    assert!(is_good(&eager, &new.sign(&claims(&web.url))).await);
    web.publish(&[&same_name]);
    assert!(is_good(&eager, &same_name.sign(&claims(&web.url))).await);
    assert!(!is_good(&eager, &old.sign(&claims(&web.url))).await);
    assert!(!is_good(&patient, &Signer::new("made up").sign(&claims(&web.url))).await);
    let before = web.asked.load(Ordering::SeqCst);
    for _ in 0..5 {
        assert!(!is_good(&patient, &Signer::new("made up").sign(&claims(&web.url))).await);
    }
    assert_eq!(web.asked.load(Ordering::SeqCst), before);
}

#[tokio::test]
async fn while_an_issuer_is_down_its_keys_count_and_one_never_heard_of_is_unavailable() {
    let web = Web::start().await;
    let key = Signer::new("a");
    let late = web.provider(Duration::ZERO);
    let token = key.sign(&claims(&web.url));
    let answer = late.verify::<Value>(&token, &OURS).await;
    assert!(matches!(answer, Err(TokenError::Unavailable(_))), "{answer:?}");
    assert!(late.trouble().unwrap().contains("503"), "{:?}", late.trouble());
    // It isn't asked by everybody who waits.
    let asked = web.asked.load(Ordering::SeqCst);
    let answer = late.metadata().await;
    assert!(matches!(answer, Err(ProviderError::Before(_))), "{answer:?}");
    assert_eq!(web.asked.load(Ordering::SeqCst), asked);

    web.publish(&[&key]);
    let early = web.provider(Duration::ZERO);
    assert!(is_good(&early, &token).await);
    web.is_down();
    assert!(is_good(&early, &token).await);
    assert!(!is_good(&early, &Signer::new("b").sign(&claims(&web.url))).await);
    assert!(early.trouble().is_some() && is_good(&early, &token).await);
}

#[tokio::test]
async fn an_issuer_that_never_answers_is_asked_once_for_all_who_wait() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked: Arc<AtomicUsize> = Arc::default();
    let counted = asked.clone();
    TaskTracker::new().spawn(async move {
        let mut silent = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            silent.push(socket);
        }
    });
    let bounds = ProviderLimits {
        patience: Duration::from_secs(1),
        again_after: Duration::ZERO,
        refresh: Duration::from_secs(900),
        trusted: Duration::from_secs(900),
    };
    let provider = Provider::new(url, &Trust::Machine, bounds).unwrap();
    for answer in join_all((0..5).map(|_| provider.metadata())).await {
        assert!(answer.is_err(), "{answer:?}");
    }
    let answer = provider.metadata().await;
    assert!(matches!(answer, Err(ProviderError::Before(_))), "{answer:?}");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn metadata_of_another_issuer_or_that_leak_are_refused_for_good() {
    let web = Web::start().await;
    let jwks = format!("{}/jwks", web.url);
    for (document, what) in [
        (
            json!({ "issuer": "https://other.example", "jwks_uri": jwks }),
            "other.example",
        ),
        (
            json!({ "issuer": web.url, "jwks_uri": "http://192.0.2.1/jwks" }),
            "jwks_uri",
        ),
        (
            json!({ "issuer": web.url, "jwks_uri": jwks, "token_endpoint": "http://idp.example/token" }),
            "token_endpoint",
        ),
        (
            json!({ "issuer": web.url, "jwks_uri": jwks, "authorization_endpoint": "javascript:alert(1)" }),
            "authorization_endpoint",
        ),
    ] {
        web.put("/.well-known/openid-configuration", &document);
        let error = web.provider(Duration::ZERO).metadata().await.unwrap_err();
        assert!(error.is_lasting() && error.to_string().contains(what), "{error}");
    }
    web.publish(&[]);
    let error = web.provider(Duration::ZERO).metadata().await.unwrap_err();
    assert!(matches!(error, ProviderError::NoKeys(_)), "{error}");
}
