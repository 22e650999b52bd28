//! A mesh with search, and the content that the questions are about.

use std::{fs, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use portolan::{
    auth::GateSpec,
    config::{self, Extensions, Searching, UserInterface},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::SEARCH;
use crate::support::{
    client::{Answer, Ask, Broken, Client, Request, octets},
    eventually,
    mesh::{MEMBERS, Mesh, Plan},
};

const CONFIG: &str = "
storage: {rootDirectory: /unused}
http:
  auth: {htpasswd: {path: FOLDER/users}, apikey: true}
  accessControl:
    repositories:
      '**': {defaultPolicy: [read], anonymousPolicy: [read]}
      team/secret: {policies: [{users: [admin], actions: [read]}]}
    adminPolicy: {users: [admin, warden], actions: [read, create, update, delete]}
";

/// See above. `alice` reads, `admin` and `warden` may everything and alone know of `team/secret`.
pub(crate) struct World {
    pub(crate) mesh: Mesh,
    _folder: TempDir,
}

/// Somebody at a door.
pub(crate) struct Caller {
    client: Client,
    authorization: Option<String>,
}

impl Ask for Caller {
    async fn ask(&self, mut request: Request) -> Result<Answer, Broken> {
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        self.client.ask(request).await
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with_origins(&[]).await
    }

    pub(crate) async fn with_origins(origins: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let line = |user| format!("{user}:{}\n", bcrypt::hash(password(user), 4).unwrap());
        let lines = ["alice", "admin", "warden"].map(line);
        fs::write(folder.path().join("users"), lines.concat()).unwrap();
        let text = CONFIG.replace("FOLDER", folder.path().to_str().unwrap());
        let file = folder.path().join("c.yaml");
        fs::write(&file, &text).unwrap();
        let config = config::parse(&file, &text).unwrap();
        let extensions = Extensions {
            search: Searching::On,
            ui: UserInterface::On,
            origins: origins.iter().map(|origin| (*origin).to_owned()).collect(),
            ..Extensions::default()
        };
        let plan = Plan::new()
            .gate(GateSpec::from(&config))
            .extensions(extensions)
            .limits(|limits| limits.registry.pulls_interval = Duration::from_millis(100));
        Self {
            mesh: plan.start().await,
            _folder: folder,
        }
    }

    pub(crate) fn caller(&self, user: Option<&str>, member: usize) -> Caller {
        Caller {
            client: self.mesh.client(member),
            authorization: user.map(|user| self.basic(user)),
        }
    }

    /// How a user shows who they are.
    pub(crate) fn basic(&self, user: &str) -> String {
        format!("Basic {}", STANDARD.encode(format!("{user}:{}", password(user))))
    }

    /// Pushes the content, through one member after another, lets alice pull an image three times and say what she likes, and waits until the
    /// pulls are told of.
    pub(crate) async fn fill(&self) {
        let content: Vec<Value> = serde_json::from_str(include_str!("content.json")).unwrap();
        for (n, item) in content.iter().enumerate() {
            let admin = self.caller(Some("admin"), n % 3);
            let text = |name: &str| item[name].as_str().unwrap();
            let repository = text("repository");
            let request = match item.get("blob") {
                Some(_) => {
                    let bytes = STANDARD.decode(text("blob")).unwrap();
                    let digest = hex::encode(Sha256::digest(&bytes));
                    let target = format!("/v2/{repository}/blobs/uploads/?digest=sha256:{digest}");
                    octets(Request::post(target)).body(bytes)
                }
                None => Request::put(format!("/v2/{repository}/manifests/{}", text("reference")))
                    .header("content-type", text("type"))
                    .body(text("manifest").to_owned()),
            };
            admin.ask(request).await.unwrap().expect(201);
        }
        let alice = self.caller(Some("alice"), 1);
        for like in ["toggleStar&repo=team/web", "toggleBookmark&repo=team/multi"] {
            let request = Request::put(format!("/v2/_zot/ext/userprefs?action={like}"));
            alice.ask(request).await.unwrap().expect(200);
        }
        for member in 0..MEMBERS {
            let alice = self.caller(Some("alice"), member);
            let pulled = alice.get("/v2/team/web/manifests/v2".to_owned()).await;
            pulled.unwrap().expect(200);
        }
        let query = r#"{ Image(image: "team/web:v2") { DownloadCount } }"#;
        eventually("the pulls are told of", || async {
            let answer = self.find(Some("alice"), 1, query).await;
            answer["data"]["Image"]["DownloadCount"] == json!(MEMBERS)
        })
        .await;
    }

    /// Pushes a small image that was built just now.
    pub(crate) async fn push(&self, repository: &str, tag: &str, member: usize) {
        let admin = self.caller(Some("admin"), member);
        let created = time::OffsetDateTime::now_utc();
        let created = created
            .format(&time::format_description::well_known::Rfc3339)
            .unwrap();
        let config =
            json!({ "created": created, "os": "linux", "architecture": "amd64", "tag": tag }).to_string();
        let digest = format!("sha256:{}", hex::encode(Sha256::digest(&config)));
        let target = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        let blob = octets(Request::post(target)).body(config.clone());
        admin.ask(blob).await.unwrap().expect(201);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": config.len(),
            },
            "layers": [],
        });
        let request = Request::put(format!("/v2/{repository}/manifests/{tag}"))
            .header("content-type", "application/vnd.oci.image.manifest.v1+json")
            .body(manifest.to_string());
        admin.ask(request).await.unwrap().expect(201);
    }

    /// What is answered to a query.
    pub(crate) async fn find(&self, user: Option<&str>, member: usize, query: &str) -> Value {
        let request = Request::post(SEARCH).body(json!({ "query": query }).to_string());
        let answer = self.caller(user, member).ask(request).await.unwrap();
        answer.expect(200).json()
    }

    pub(crate) async fn digest(&self, repository: &str, tag: &str) -> String {
        let target = format!("/v2/{repository}/manifests/{tag}");
        let answer = self
            .caller(Some("admin"), 0)
            .head(target)
            .await
            .unwrap()
            .expect(200);
        answer.must("docker-content-digest")
    }
}

fn password(user: &str) -> String {
    format!("{user}'s secret")
}
