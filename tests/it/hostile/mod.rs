//! Nothing bad gets through: what the issue lists, one test a line, each through a socket, against the owner of what it
//! aims at and against another member.
//!
//! Every attack is answered with the status and code that the specification has for it, or its connection ends; and it
//! leaves nothing behind: no row, no object, no request in flight. What is pushed before it is whole after it.

mod connections;
mod limits;
mod peers;
mod requests;

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

use portolan::{
    app::Stores,
    storage::{MemoryBlobs, MemoryMeta, Space},
};

use crate::support::{
    PATIENCE,
    client::{Ask as _, Request, octets},
    content::{Blob, Manifest},
    eventually,
    mesh::{Mesh, Plan},
    raw::Raw,
};

/// The member that owns what is aimed at.
const OWNER: usize = 1;
/// Another one.
const FRONT: usize = 0;

/// A mesh with an image in it, and a look into its stores.
struct Target {
    mesh: Mesh,
    meta: Arc<MemoryMeta>,
    blobs: Arc<MemoryBlobs>,
    /// Has the image, under the tag `good`.
    repository: String,
    image: Manifest,
    layer: Blob,
    before: BTreeSet<String>,
}

impl Target {
    async fn start() -> Self {
        Self::with(|plan| plan).await
    }

    async fn with(change: impl FnOnce(Plan) -> Plan) -> Self {
        let (meta, blobs) = (Arc::new(MemoryMeta::default()), Arc::new(MemoryBlobs::new()));
        let stores = Stores {
            meta: meta.clone(),
            blobs: blobs.clone(),
        };
        let mesh = change(Plan::over(stores)).start().await;
        let repository = mesh.names().owned_by(OWNER, "victim");
        let (config, layer) = (Blob::named("config", 100), Blob::named("layer", 300_000));
        let client = mesh.client(OWNER);
        for blob in [&config, &layer] {
            client.push_blob(&repository, blob).await.unwrap().expect(201);
        }
        let image = Manifest::image(&config, &[&layer]).build();
        client
            .push_manifest(&repository, "good", &image)
            .await
            .unwrap()
            .expect(201);
        let mut target = Self {
            mesh,
            meta,
            blobs,
            repository,
            image,
            layer,
            before: BTreeSet::new(),
        };
        // What came of the push in the background, too: then nothing more comes of it.
        eventually("the push is in the repository's history", async || {
            let mut rows = target.meta.keys().into_iter();
            !rows.any(|key| key.partition.starts_with("_changes#"))
        })
        .await;
        target.before = target.traces();
        target
    }

    /// All that is in the stores, but for what says when to look again (closed upload sessions and due-rows) and when
    /// something was pulled.
    fn traces(&self) -> BTreeSet<String> {
        let is_kept = |key: &portolan::storage::Key| {
            let is_due = key.space == Space::Blobs && key.partition.starts_with("_due#");
            let is_pull = key.partition == "_pulls" || key.sort.starts_with("p#");
            key.space != Space::Uploads && !is_due && !(key.space == Space::Manifests && is_pull)
        };
        let rows = self
            .meta
            .keys()
            .into_iter()
            .filter(is_kept)
            .map(|key| format!("{key:?}"));
        let objects = self
            .blobs
            .objects()
            .into_iter()
            .map(|key| format!("object {key}"));
        let uploads = self
            .blobs
            .uploads()
            .into_iter()
            .map(|key| format!("upload {key}"));
        rows.chain(objects).chain(uploads).collect()
    }

    /// Both ways to the target.
    fn doors(&self) -> [SocketAddr; 2] {
        [FRONT, OWNER].map(|member| self.mesh.door(member))
    }

    /// Sends `request` both ways and expects an error of the specification.
    #[track_caller]
    fn refuses(&self, request: Request, status: u16, code: &str) -> impl Future<Output = ()> {
        let clients = [FRONT, OWNER].map(|member| self.mesh.client(member));
        let code = code.to_owned();
        async move {
            for client in clients {
                let answer = client.ask(request.clone()).await.unwrap();
                if request.method == http::Method::HEAD {
                    answer.expect(status);
                } else {
                    answer.error(status, &code);
                }
            }
        }
    }

    /// A path below the target's repository.
    fn path(&self, rest: &str) -> String {
        format!("/v2/{}/{rest}", self.repository)
    }

    /// A push of a manifest.
    fn push(&self, reference: &str, media_type: &str, body: impl Into<bytes::Bytes>) -> Request {
        Request::put(self.path(&format!("manifests/{reference}")))
            .header("content-type", media_type)
            .body(body)
    }

    /// A push of a blob in one request, under a digest that may be wrong.
    fn push_blob(&self, digest: &str, body: impl Into<bytes::Bytes>) -> Request {
        octets(Request::post(
            self.path(&format!("blobs/uploads/?digest={digest}")),
        ))
        .body(body)
    }

    /// Asserts that the attack is over, that it left nothing, and that what was there is whole. Ends the mesh.
    async fn stays_unharmed(self) {
        for member in 0..3 {
            eventually("no request is in flight but that for the metrics", async || {
                let metrics = self.mesh.metrics(member).await;
                metrics.sum("portolan_requests_in_flight", &[]) <= 1.0
            })
            .await;
        }
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let now = self.traces();
            if now == self.before {
                break;
            }
            let left: Vec<_> = now.symmetric_difference(&self.before).collect();
            assert!(
                tokio::time::Instant::now() < end,
                "left behind, or gone: {left:#?}"
            );
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        for member in [FRONT, OWNER] {
            let client = self.mesh.client(member);
            let answer = client.get(self.path("manifests/good")).await.unwrap();
            answer.expect(200).with_body(&self.image.bytes);
            let answer = client
                .get(self.path(&format!("blobs/{}", self.layer.digest)))
                .await
                .unwrap();
            answer.expect(200).with_body(&self.layer.bytes);
            let tags = client
                .get(self.path("tags/list"))
                .await
                .unwrap()
                .expect(200)
                .json();
            assert_eq!(tags["tags"], serde_json::json!(["good"]));
        }
        self.mesh.stop().await;
    }
}

/// What came back for bytes on a connection of their own.
#[derive(Debug, PartialEq, Eq)]
enum Reply {
    /// A status, and the code of the error body.
    Error(u16, String),
    /// A status, and no error of the specification.
    Status(u16),
    /// The connection ended.
    Closed,
}

impl Reply {
    fn error(status: u16, code: &str) -> Self {
        Self::Error(status, code.to_owned())
    }
}

/// Writes `bytes` and reads one answer.
async fn say(door: SocketAddr, bytes: &[u8]) -> (Reply, Raw) {
    let mut raw = Raw::open(door).await;
    // It may be refused before all of it is written.
    let _ = raw.write(bytes).await;
    (reply(&mut raw).await, raw)
}

async fn reply(raw: &mut Raw) -> Reply {
    let Some(head) = raw.answer().await else {
        return Reply::Closed;
    };
    let length = head
        .header("content-length")
        .and_then(|length| length.parse().ok());
    let body = raw.body(length.unwrap_or(0)).await;
    let json: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    match json["errors"][0]["code"].as_str() {
        Some(code) => Reply::error(head.status, code),
        None => Reply::Status(head.status),
    }
}
