//! An issuer of tokens for workloads, as a cluster or a CI is one: its discovery document and keys over TLS, and tokens.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use parking_lot::Mutex;
use rcgen::KeyPair;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

/// The issuer. Whoever is to believe it trusts its certificate.
pub(crate) struct Issuer {
    pub(crate) url: String,
    pub(crate) certificate: PathBuf,
    signer: Mutex<(String, EncodingKey)>,
    published: Arc<Mutex<Value>>,
    is_up: Arc<AtomicBool>,
}

impl Issuer {
    /// On 127.0.0.1, with its certificate in `folder`.
    pub(crate) async fn start(folder: &Path) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = folder.join("issuer.crt");
        fs::write(&certificate, made.cert.pem()).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let tls = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let published: Arc<Mutex<Value>> = Arc::default();
        let is_up = Arc::new(AtomicBool::new(true));
        let server = Server {
            url: url.clone(),
            acceptor: TlsAcceptor::from(Arc::new(tls)),
            published: published.clone(),
            is_up: is_up.clone(),
        };
        let tasks = TaskTracker::new();
        tasks.clone().spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tasks.spawn(server.clone().answer(socket));
            }
        });
        let issuer = Self {
            url,
            certificate,
            signer: Mutex::new(signer("first")),
            published,
            is_up,
        };
        issuer.rotate("first");
        issuer
    }

    /// Signs by a new key from now on, and publishes no other.
    pub(crate) fn rotate(&self, id: &str) {
        let (id, key) = signer(id);
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap()).unwrap();
        jwk["kid"] = json!(id);
        *self.published.lock() = json!({ "keys": [jwk] });
        *self.signer.lock() = (id, key);
    }

    /// Answers nobody any more.
    pub(crate) fn is_down(&self) {
        self.is_up.store(false, Ordering::SeqCst);
    }

    /// A token that says this, beside who has issued it.
    pub(crate) fn token(&self, mut claims: Value) -> String {
        if claims["iss"].is_null() {
            claims["iss"] = json!(self.url);
        }
        let (id, key) = &*self.signer.lock();
        let header = Header {
            kid: Some(id.clone()),
            ..Header::new(Algorithm::ES256)
        };
        jsonwebtoken::encode(&header, &claims, key).unwrap()
    }
}

fn signer(id: &str) -> (String, EncodingKey) {
    let pair = KeyPair::generate().unwrap();
    (id.to_owned(), EncodingKey::from_ec_der(&pair.serialize_der()))
}

#[derive(Clone)]
struct Server {
    url: String,
    acceptor: TlsAcceptor,
    published: Arc<Mutex<Value>>,
    is_up: Arc<AtomicBool>,
}

impl Server {
    async fn answer(self, socket: tokio::net::TcpStream) {
        let Ok(mut stream) = self.acceptor.accept(socket).await else {
            return;
        };
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        if !self.is_up.load(Ordering::SeqCst) {
            return;
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let body = match head.split(' ').nth(1).unwrap_or_default() {
            "/.well-known/openid-configuration" => {
                json!({ "issuer": self.url, "jwks_uri": format!("{}/keys", self.url) }).to_string()
            }
            _ => self.published.lock().to_string(),
        };
        let length = body.len();
        let answer =
            format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
    }
}
