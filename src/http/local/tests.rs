//! Headers, to the letter. What the routes mean is tested in `registry`, and through sockets in `tests/it`.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use super::*;
use crate::{
    admission::{self, BlobSource, Grants, Identity, Visible},
    oci::{Action, Algorithm, Digest, RepoName},
    ownership::Incarnation,
    registry::{Holder, Settings, Stores},
    storage::{MemoryBlobs, MemoryMeta},
};

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";

struct Fixture(Service);

fn fixture() -> Fixture {
    let stores = Stores {
        meta: Arc::new(MemoryMeta::new()),
        blobs: Arc::new(MemoryBlobs::new()),
    };
    let holder = Holder {
        member: "127.0.0.1:5000".parse().unwrap(),
        incarnation: Incarnation::random(),
    };
    let registry = Arc::new(Registry::new(stores, holder, Settings::default()));
    Fixture(local(registry, None, Vec::new()))
}

fn admitted(request: Request<Body>, actions: &[Action]) -> Admitted {
    let uri = request.uri();
    let route = Route::parse(request.method(), uri.path(), uri.query()).unwrap();
    let mut grants = Grants::none();
    for permission in route.permissions() {
        grants.grant(permission.repository, actions.iter().copied());
    }
    grants.show(Visible::Everything);
    Admitted {
        route,
        request,
        identity: Identity::default(),
        grants,
        client: "192.0.2.7:1".to_owned(),
        request_id: RequestId::parse("test").unwrap(),
        deadline: Instant::now() + Duration::from_secs(60),
    }
}

struct Answer {
    head: http::response::Parts,
    body: Bytes,
}

impl Fixture {
    async fn send(
        &self,
        method: Method,
        target: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(admission::full(body.into())).unwrap();
        self.go(admitted(request, &Action::ALL)).await
    }

    async fn get(&self, target: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(Method::GET, target, headers, "").await
    }

    async fn go(&self, admitted: Admitted) -> Answer {
        let Ok(response) = self.0.clone().oneshot(admitted).await;
        assert!(response.extensions().get::<Served>().is_some());
        let (head, body) = response.into_parts();
        Answer {
            head,
            body: body.collect().await.unwrap().to_bytes(),
        }
    }

    /// Pushes a blob to the repository `a`.
    async fn blob(&self, content: &'static str) -> Digest {
        let digest = Digest::of(Algorithm::Sha256, content.as_bytes());
        let target = format!("/v2/a/blobs/uploads/?digest={digest}");
        self.send(Method::POST, &target, &[], content).await.has(201, &[]);
        digest
    }

    /// Pushes a manifest of one blob to the repository `a`.
    async fn manifest(&self, target: &str, blob: &Digest, more: &str) -> Answer {
        let document = document(blob, more);
        self.send(Method::PUT, target, &[("content-type", IMAGE)], document)
            .await
    }
}

fn document(blob: &Digest, more: &str) -> String {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{IMAGE}",{more}
        "config":{{"mediaType":"a/b","digest":"{blob}","size":11}},"layers":[]}}"#
    )
}

impl Answer {
    /// Asserts the status and headers, each with all its values joined by a comma; "" is a header that isn't there.
    #[track_caller]
    fn has(self, status: u16, headers: &[(&str, &str)]) -> Self {
        assert_eq!(
            self.head.status, status,
            "{:?} {:?}",
            self.head.headers, self.body
        );
        for (name, expected) in headers {
            let values = self.head.headers.get_all(*name).iter();
            let values: Vec<_> = values.map(|value| value.to_str().unwrap()).collect();
            assert_eq!(values.join(","), *expected, "{name}: {:?}", self.head.headers);
        }
        self
    }

    #[track_caller]
    fn error(self, status: u16, code: &str) -> Self {
        let answer = self.has(status, &[("content-type", "application/json")]);
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["errors"][0]["code"], code);
        answer
    }

    fn location(&self) -> String {
        self.head.headers["location"].to_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn a_blob_says_the_same_of_itself_to_get_and_head() {
    let registry = fixture();
    let digest = registry.blob("hello world").await;
    let (path, etag) = (format!("/v2/a/blobs/{digest}"), format!("\"{digest}\""));
    let headers = [
        ("docker-content-digest", digest.as_str()),
        ("etag", &etag),
        ("location", &path),
        ("accept-ranges", "bytes"),
        ("content-type", "application/octet-stream"),
        ("content-length", "11"),
    ];
    let whole = registry.get(&path, &[]).await.has(200, &headers);
    assert_eq!(whole.body, "hello world");
    let source = whole.head.extensions.get::<BlobSource>().unwrap();
    assert_eq!((&source.digest, source.length), (&digest, 11));
    let head = registry
        .send(Method::HEAD, &path, &[], "")
        .await
        .has(200, &headers);
    assert!(head.body.is_empty());
    for known in [&*etag, "*", &format!("\"x\", W/{etag}")] {
        let answer = registry.get(&path, &[("if-none-match", known)]).await;
        answer.has(304, &[("etag", &etag), ("content-length", "")]);
    }
    registry
        .get(&path, &[("if-none-match", "\"x\"")])
        .await
        .has(200, &[]);
}

#[tokio::test]
async fn a_part_of_a_blob_is_what_was_asked_for() {
    let registry = fixture();
    let digest = registry.blob("hello world").await;
    let (path, etag) = (format!("/v2/a/blobs/{digest}"), format!("\"{digest}\""));
    for (range, content_range, body) in [
        ("bytes=2-4", "bytes 2-4/11", "llo"),
        ("bytes=6-", "bytes 6-10/11", "world"),
        ("bytes=-5", "bytes 6-10/11", "world"),
        ("bytes=6-99", "bytes 6-10/11", "world"),
    ] {
        let length = body.len().to_string();
        let headers = [
            ("content-range", content_range),
            ("content-length", &length),
            ("docker-content-digest", digest.as_str()),
        ];
        let part = registry.get(&path, &[("range", range)]).await.has(206, &headers);
        assert_eq!(part.body, body);
        assert_eq!(part.head.extensions.get::<BlobSource>().unwrap().length, 11);
    }
    for range in ["bytes=11-", "bytes=5-2", "bytes=x"] {
        let answer = registry.get(&path, &[("range", range)]).await;
        answer
            .error(416, "UNSUPPORTED")
            .has(416, &[("content-range", "bytes */11")]);
    }
    // Parts would be longer than the blob.
    for whole in ["bytes=0-1,3-4", "lines=1-2"] {
        let whole = registry.get(&path, &[("range", whole)]).await;
        whole.has(200, &[("content-length", "11"), ("content-range", "")]);
    }
    let of_another = [("range", "bytes=2-4"), ("if-range", "\"x\"")];
    registry.get(&path, &of_another).await.has(200, &[]);
    let of_this = [("range", "bytes=2-4"), ("if-range", etag.as_str())];
    registry.get(&path, &of_this).await.has(206, &[]);
}

#[tokio::test]
async fn an_empty_blob_is_whole_whatever_the_range() {
    let registry = fixture();
    let path = format!("/v2/a/blobs/{}", registry.blob("").await);
    registry
        .get(&path, &[])
        .await
        .has(200, &[("content-length", "0")]);
    for range in ["bytes=0-", "bytes=0-0", "bytes=-5", "bytes=7-,-1"] {
        let whole = registry.get(&path, &[("range", range)]).await;
        whole.has(200, &[("content-length", "0"), ("content-range", "")]);
    }
}

#[tokio::test]
async fn several_parts_are_the_same_answer_each_time() {
    let registry = fixture();
    let content: &'static str = "hello world ".repeat(100).leak();
    let digest = registry.blob(content).await;
    let (path, boundary) = (format!("/v2/a/blobs/{digest}"), digest.hex());
    let body = format!(
        "--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes 12-16/1200\r\n\r\nhello\r\n\
         --{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes 6-10/1200\r\n\r\nworld\r\n\
         --{boundary}--\r\n"
    );
    let headers = [
        (
            "content-type",
            &*format!("multipart/byteranges; boundary={boundary}"),
        ),
        ("content-length", &body.len().to_string()),
        ("content-range", ""),
        ("location", ""),
    ];
    for _ in 0..2 {
        let parts = registry.get(&path, &[("range", "bytes=12-16,6-10")]).await;
        let parts = parts.has(206, &headers);
        assert_eq!(parts.body, body);
        assert_eq!(parts.head.extensions.get::<BlobSource>().unwrap().length, 1200);
    }
}

#[tokio::test]
async fn a_session_always_says_where_it_stands() {
    let registry = fixture();
    let begun = registry.send(Method::POST, "/v2/a/blobs/uploads/", &[], "").await;
    let path = begun.location();
    let id = path.strip_prefix("/v2/a/blobs/uploads/").unwrap();
    let session = [("location", path.as_str()), ("docker-upload-uuid", id)];
    let begun = begun
        .has(202, &session)
        .has(202, &[("range", "0-0"), ("content-length", "0")]);
    begun.has(202, &[("oci-chunk-min-length", "5242880")]);
    let chunk = [("content-range", "0-5")];
    let appended = registry.send(Method::PATCH, &path, &chunk, "hello ").await;
    appended.has(202, &session).has(202, &[("range", "0-5")]);
    let status = registry.get(&path, &[]).await;
    status
        .has(204, &session)
        .has(204, &[("range", "0-5"), ("content-length", "")]);

    let again = registry.send(Method::PATCH, &path, &chunk, "hello ").await;
    let again = again.error(416, "BLOB_UPLOAD_INVALID");
    again.has(416, &[("range", "0-5"), ("location", &path)]);
    let nonsense = registry
        .send(Method::PATCH, &path, &[("content-range", "x")], "hello ")
        .await;
    nonsense.error(400, "BLOB_UPLOAD_INVALID");

    let digest = Digest::of(Algorithm::Sha256, b"hello world");
    let finish = format!("{path}?digest={digest}");
    let blob = format!("/v2/a/blobs/{digest}");
    let finished = registry.send(Method::PUT, &finish, &[], "world").await;
    finished.has(
        201,
        &[("location", &blob), ("docker-content-digest", digest.as_str())],
    );
    registry.get(&path, &[]).await.error(404, "BLOB_UPLOAD_UNKNOWN");
}

#[tokio::test]
async fn a_manifest_says_the_same_of_itself_to_get_and_head() {
    let registry = fixture();
    let blob = registry.blob("hello world").await;
    let document = document(&blob, "");
    let digest = Digest::of(Algorithm::Sha256, document.as_bytes());
    let (path, etag) = (format!("/v2/a/manifests/{digest}"), format!("\"{digest}\""));
    let pushed = registry.manifest("/v2/a/manifests/v1", &blob, "").await;
    let headers = [
        ("location", path.as_str()),
        ("docker-content-digest", digest.as_str()),
        ("oci-subject", ""),
        ("oci-tag", ""),
    ];
    pushed.has(201, &headers);
    let length = document.len().to_string();
    for path in ["/v2/a/manifests/v1", path.as_str()] {
        let headers = [
            ("docker-content-digest", digest.as_str()),
            ("etag", &etag),
            ("content-type", IMAGE),
            ("content-length", &length),
        ];
        assert_eq!(registry.get(path, &[]).await.has(200, &headers).body, document);
        let head = registry
            .send(Method::HEAD, path, &[], "")
            .await
            .has(200, &headers);
        assert!(head.body.is_empty());
        for method in [Method::GET, Method::HEAD] {
            let known = registry.send(method, path, &[("if-none-match", &etag)], "").await;
            known.has(304, &[("etag", &etag)]);
        }
    }
}

#[tokio::test]
async fn a_push_by_digest_is_told_its_tags_and_its_subject() {
    let registry = fixture();
    let blob = registry.blob("hello world").await;
    let subject = Digest::of(Algorithm::Sha256, b"elsewhere");
    let more = format!(r#""subject":{{"mediaType":"{IMAGE}","digest":"{subject}","size":9}},"#);
    let digest = Digest::of(Algorithm::Sha256, document(&blob, &more).as_bytes());
    let target = format!("/v2/a/manifests/{digest}?tag=x&tag=y");
    let pushed = registry.manifest(&target, &blob, &more).await;
    pushed.has(201, &[("oci-subject", subject.as_str()), ("oci-tag", "x,y")]);

    let path = format!("/v2/a/referrers/{subject}");
    let index = "application/vnd.oci.image.index.v1+json";
    let all = registry.get(&path, &[]).await;
    let all = all.has(
        200,
        &[("content-type", index), ("oci-filters-applied", ""), ("link", "")],
    );
    let all: serde_json::Value = serde_json::from_slice(&all.body).unwrap();
    assert_eq!(
        (&all["mediaType"], &all["manifests"][0]["digest"]),
        (&index.into(), &digest.as_str().into())
    );
    assert_eq!(all["manifests"][0]["artifactType"], "a/b");
    let none = registry.get(&format!("{path}?artifactType=x/y"), &[]).await;
    let none = none.has(200, &[("oci-filters-applied", "artifactType")]);
    let none: serde_json::Value = serde_json::from_slice(&none.body).unwrap();
    assert_eq!(none["manifests"], serde_json::json!([]));
}

#[tokio::test]
async fn a_listing_says_where_it_goes_on() {
    let registry = fixture();
    let blob = registry.blob("hello world").await;
    for tag in ["a", "b", "c"] {
        registry
            .manifest(&format!("/v2/a/manifests/{tag}"), &blob, "")
            .await
            .has(201, &[]);
    }
    let link = "</v2/a/tags/list?n=2&last=b>; rel=\"next\"";
    let first = registry
        .get("/v2/a/tags/list?n=2", &[])
        .await
        .has(200, &[("link", link)]);
    assert_eq!(first.body, r#"{"name":"a","tags":["a","b"]}"#);
    let last = registry
        .get("/v2/a/tags/list?n=2&last=b", &[])
        .await
        .has(200, &[("link", "")]);
    assert_eq!(last.body, r#"{"name":"a","tags":["c"]}"#);
    let none = registry
        .get("/v2/a/tags/list?n=0", &[])
        .await
        .has(200, &[("link", "")]);
    assert_eq!(none.body, r#"{"name":"a","tags":[]}"#);
    assert_eq!(
        registry.get("/v2/_catalog", &[]).await.body,
        r#"{"repositories":["a"]}"#
    );
    registry
        .get("/v2/b/tags/list", &[])
        .await
        .error(404, "NAME_UNKNOWN");
}

#[tokio::test]
async fn a_mount_that_cannot_happen_is_a_session() {
    let registry = fixture();
    let digest = registry.blob("hello world").await;
    let mount = |from: &str| format!("/v2/b/blobs/uploads/?mount={digest}&from={from}");
    let session = [("range", "0-0"), ("docker-content-digest", "")];
    registry
        .send(Method::POST, &mount("nowhere"), &[], "")
        .await
        .has(202, &session);

    let request = Request::post(mount("a")).body(admission::empty()).unwrap();
    let mut blind = admitted(request, &Action::ALL);
    blind.grants = Grants::none();
    blind.grants.grant("b".parse::<RepoName>().unwrap(), Action::ALL);
    registry.go(blind).await.has(202, &session);

    let path = format!("/v2/b/blobs/{digest}");
    let mounted = registry.send(Method::POST, &mount("a"), &[], "").await;
    mounted.has(
        201,
        &[("location", &path), ("docker-content-digest", digest.as_str())],
    );
}

#[tokio::test]
async fn a_manifest_that_is_too_large_is_not_read() {
    let registry = fixture();
    let announced = [("content-length", "4194305")];
    let answer = registry
        .send(Method::PUT, "/v2/a/manifests/x", &announced, "")
        .await;
    answer.error(413, "MANIFEST_INVALID");
    let body = vec![b' '; 4 * 1024 * 1024 + 1];
    let answer = registry.send(Method::PUT, "/v2/a/manifests/x", &[], body).await;
    answer.error(413, "MANIFEST_INVALID");
}

#[tokio::test]
async fn what_was_not_granted_is_denied_here_too() {
    let registry = fixture();
    let request = Request::put("/v2/a/manifests/x")
        .body(admission::empty())
        .unwrap();
    registry
        .go(admitted(request, &[Action::Read]))
        .await
        .error(403, "DENIED");
}

#[tokio::test]
async fn the_registry_is_there() {
    assert_eq!(fixture().get("/v2/", &[]).await.has(200, &[]).body, "{}");
}
