//! An upstream that lies, stalls or sends elsewhere: a clear error for the client, nothing stored, no login given away.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt as _;
use portolan::app::Stores;

use super::{
    Image,
    fake::{
        Body, Fake, blob_path, broken, dripping, endless, late, manifest_path, of_manifest, part, redirect,
        status, stuck, typed, whole,
    },
    get_blob, get_manifest, plan, sync_from,
};
use crate::support::{
    client::{Answer, Ask as _, Client, Request},
    content::{Blob, IMAGE},
    mesh::{Mesh, Plan, memory},
};

/// A mesh that mirrors, and one that doesn't over the same stores: what it sees is what is stored.
struct World {
    upstream: Fake,
    mesh: Mesh,
    stored: Mesh,
}

impl World {
    async fn start(more: &str) -> Self {
        let upstream = Fake::start().await;
        let stores = memory();
        let beside = Stores {
            meta: Arc::clone(&stores.meta),
            blobs: Arc::clone(&stores.blobs),
        };
        let stored = Plan::over(beside).cut_off().start().await;
        Self {
            mesh: plan(stores, sync_from(&upstream.url(), more)).start().await,
            stored,
            upstream,
        }
    }

    fn repository(&self, name: &str) -> String {
        self.mesh.names().owned_by(0, name)
    }

    /// A client of a member that doesn't own the repositories.
    fn client(&self) -> Client {
        self.mesh.client(1)
    }

    async fn nothing_is_stored(&self, repository: &str) {
        let tags = self
            .stored
            .client(0)
            .get(format!("/v2/{repository}/tags/list"))
            .await;
        tags.unwrap().error(404, "NAME_UNKNOWN");
    }

    /// What a client is told of a manifest, by tag and by digest, to which upstream answers so.
    async fn manifest(
        &self,
        name: &str,
        digest: &str,
        answer: impl Fn() -> Response<Body> + Send + Sync + 'static,
    ) -> [Answer; 2] {
        let (repository, answer) = (self.repository(name), Arc::new(answer));
        for reference in ["v1", digest] {
            let answer = answer.clone();
            self.upstream
                .at(manifest_path(&repository, reference), move |_| answer());
        }
        let client = self.client();
        let told = [
            get_manifest(&client, &repository, "v1").await,
            get_manifest(&client, &repository, digest).await,
        ];
        self.nothing_is_stored(&repository).await;
        told
    }

    /// What a client gets of a blob to which upstream answers so: an answer, or a body that breaks off.
    async fn blob(
        &self,
        name: &str,
        blob: &Blob,
        answer: impl Fn(usize) -> Response<Body> + Send + Sync + 'static,
    ) -> Result<Answer, String> {
        let repository = self.repository(name);
        let path = blob_path(&repository, &blob.digest);
        self.upstream.at(&path, move |seen| {
            let range = seen.range.as_deref().unwrap_or("bytes=0-");
            answer(range["bytes=".len()..].trim_end_matches('-').parse().unwrap())
        });
        let told = self.client().ask(Request::get(path)).await;
        let stored = self.stored.client(0);
        get_blob(&stored, &repository, blob)
            .await
            .error(404, "BLOB_UNKNOWN");
        told.map_err(|broken| broken.to_string())
    }

    async fn stop(self) {
        self.mesh.stop().await;
        self.stored.stop().await;
    }
}

/// A gateway's error that says so.
#[track_caller]
fn says(answers: impl IntoIterator<Item = Answer>, expected: u16, what: &str) {
    for answer in answers {
        let answer = answer.expect(expected);
        let message = answer.json()["errors"][0]["message"].to_string();
        assert!(message.contains(what), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_wrong_manifest_is_taken() {
    let world = World::start("maxRetries: 1").await;
    let image = Image::named("lies", &[500]).manifest;
    let other = Image::named("lies other", &[500]).manifest;
    let digest = image.digest.as_str();

    let (claimed, sent) = (image.digest.clone(), other.clone());
    let answers = world.manifest("digest", digest, move || {
        let mut response = of_manifest(&sent);
        response
            .headers_mut()
            .insert("docker-content-digest", claimed.parse().unwrap());
        response
    });
    says(answers.await, 502, "content with the digest");
    let answers = world.manifest("html", digest, || typed("text/html", "<html>Log in</html>"));
    says(answers.await, 502, "no manifest by its Content-Type");
    let broken_json = Blob::new("{\"schemaVersion\":2");
    let bytes = broken_json.bytes.clone();
    let answers = world.manifest("json", &broken_json.digest, move || typed(IMAGE, bytes.clone()));
    says(answers.await, 502, "no manifest");
    let huge = Blob::new(vec![b' '; (4 << 20) + 1]);
    let bytes = huge.bytes.clone();
    let answers = world.manifest("large", &huge.digest, move || typed(IMAGE, bytes.clone()));
    says(answers.await, 502, "longer than 4194304 bytes");
    let answers = world.manifest("endless", digest, || {
        Response::builder()
            .header("content-type", IMAGE)
            .body(endless())
            .unwrap()
    });
    says(answers.await, 502, "longer than 4194304 bytes");
    let answers = world.manifest("error", digest, || status(500));
    says(answers.await, 502, "answered 500");
    let answers = world.manifest("forbidden", digest, || status(403));
    says(answers.await, 502, "denies access (403");
    let answers = world.manifest("silent", digest, || {
        Response::builder()
            .header("content-type", IMAGE)
            .body(stuck(Bytes::new()))
            .unwrap()
    });
    says(answers.await, 502, "no answer within");
    let answers = world.manifest("dripping", digest, || {
        Response::builder()
            .header("content-type", IMAGE)
            .body(dripping())
            .unwrap()
    });
    says(answers.await, 502, "no answer within");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_wrong_blob_is_stored_or_given_whole() {
    let world = World::start("maxRetries: 1").await;
    for length in [5_000, 400_000] {
        let blob = Blob::named(&format!("lies {length}"), length);
        let [named, shortened, lengthened, shrinking] =
            ["digest", "short", "longer", "shrunk"].map(|what| format!("{what}/{length}"));
        let wrong = Blob::named("wrong", length).bytes;
        let bytes = wrong.clone();
        let digest = world.blob(&named, &blob, move |first| {
            part(first, length, whole(bytes.slice(first..)))
        });
        let bytes = blob.bytes.clone();
        let short = world.blob(&shortened, &blob, move |first| {
            let end = (length - 1).max(first);
            part(first, length, broken(bytes.slice(first..end)))
        });
        let mut longer = blob.bytes.to_vec();
        longer.extend_from_slice(b"more");
        let longer = Bytes::from(longer);
        let longer = world.blob(&lengthened, &blob, move |first| {
            part(first, longer.len(), whole(longer.slice(first..)))
        });
        let bytes = blob.bytes.clone();
        let shrunk = world.blob(&shrinking, &blob, move |first| match first {
            0 => part(0, length, broken(bytes.slice(..length / 2))),
            first => part(first, length - 1, whole(bytes.slice(first..length - 1))),
        });
        let told = [digest.await, short.await, longer.await, shrunk.await];
        for told in told {
            match told {
                // Of the small one nothing is given before it is known to be wrong.
                Ok(answer) => says([answer], 502, "the upstream registry"),
                Err(broken) => assert!(length > 5_000, "{broken}"),
            }
        }
    }
    let blob = Blob::named("lies without a length", 10);
    let unknown = world.blob("unmeasured", &blob, |_| {
        Response::new(broken(Bytes::from_static(b"0123456789")))
    });
    says([unknown.await.unwrap()], 502, "a blob without its length");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_blob_is_none_wherever_it_comes_from() {
    let world = World::start("maxRetries: 0, syncTimeout: 2s").await;
    let elsewhere = Fake::on("127.0.0.2").await;
    let blob = Blob::named("no blob", 5_000);
    let html = world.blob("html", &blob, |_| typed("text/html", "<html>Log in</html>"));
    says([html.await.unwrap()], 502, "content with the digest");
    let path = blob_path(&world.repository("circle"), &blob.digest);
    let circle = world.blob("circle", &blob, move |_| redirect(path.clone()));
    says([circle.await.unwrap()], 502, "redirects again and again");
    let there = format!("{}/there", elsewhere.url());
    let private = world.blob("private", &blob, move |_| redirect(there.clone()));
    says([private.await.unwrap()], 502, "an address of a private network");
    let limited = world.blob("limited", &blob, |_| status(429));
    says([limited.await.unwrap()], 503, "limits requests");
    let denied = world.blob("denied", &blob, |_| status(401));
    says([denied.await.unwrap()], 502, "denies access");
    // A byte now and then, for longer than there is time: of a small blob, and of one that is given as it comes.
    for length in [5_000, 400_000] {
        let blob = Blob::named(&format!("drips {length}"), length);
        let repository = format!("drips/{length}");
        let drips = world.blob(&repository, &blob, move |_| part(0, length, dripping()));
        match drips.await {
            Ok(answer) => says([answer], 504, "took too long"),
            Err(broken) => assert!(length > 5_000, "{broken}"),
        }
    }
    assert!(elsewhere.seen().is_empty(), "{:?}", elsewhere.seen());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_part_is_refused_for_a_length_that_nobody_has_verified() {
    let world = World::start("maxRetries: 0").await;
    let (repository, client) = (world.repository("measured"), world.client());
    let blob = Blob::named("measured", 400_000);
    let path = blob_path(&repository, &blob.digest);
    let from = |first: usize| client.ask(Request::get(&path).header("range", format!("bytes={first}-")));
    let shorter = blob.bytes.slice(..100_000);
    world
        .upstream
        .at(&path, move |_| part(0, shorter.len(), whole(shorter.clone())));
    says([from(200_000).await.unwrap()], 502, "content with the digest");
    world.upstream.blob(&repository, &blob);
    let rest = from(200_000).await.unwrap().expect(206);
    rest.with_body(&blob.bytes.slice(200_000..));
    from(400_000).await.unwrap().expect(416);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_blob_is_withheld_however_it_comes_in() {
    let world = World::start("maxRetries: 0").await;
    for (n, length) in [400_000, 64 << 10, 128 << 10, 300_000].into_iter().enumerate() {
        let repository = world.repository(&format!("withheld/{n}"));
        let wrong = Blob::named("withheld", length).bytes;
        let blob = Blob::named(&format!("withheld {n}"), length);
        let path = blob_path(&repository, &blob.digest);
        world.upstream.at(path.clone(), move |_| {
            // All of it but the last byte, which comes after a while.
            let (head, tail) = (wrong.slice(..length - 1), wrong.slice(length - 1..));
            part(0, length, late(head, tail))
        });
        let opened = world.client().open(&Request::get(path)).await.unwrap();
        assert_eq!(opened.status(), 200);
        let (mut body, mut given) = (opened.into_body(), 0);
        let ended = loop {
            match body.frame().await {
                Some(Ok(frame)) => given += frame.data_ref().map_or(0, Bytes::len),
                ended => break ended,
            }
        };
        assert!(ended.is_some(), "it breaks off");
        assert!(given <= length - (16 << 10), "{given} of {length}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_led_in_circles_or_into_private_networks() {
    let world = World::start("maxRetries: 1").await;
    let elsewhere = Fake::on("127.0.0.2").await;
    let image = Image::named("redirects", &[500]);
    let digest = image.manifest.digest.as_str();
    world.upstream.at("/v2/loop", |_| redirect("/v2/loop"));
    let answers = world.manifest("loop", digest, || redirect("/v2/loop"));
    says(answers.await, 502, "redirects again and again");
    let there = format!("{}/v2/there", elsewhere.url());
    let answers = world.manifest("private", digest, move || redirect(there.clone()));
    says(answers.await, 502, "127.0.0.2 is an address of a private network");
    let answers = world.manifest("localhost", digest, || redirect("http://localhost:1/"));
    says(answers.await, 502, "private networks");
    let answers = world.manifest("scheme", digest, || redirect("file:///etc/passwd"));
    says(answers.await, 502, "upstream registry");
    assert!(elsewhere.seen().is_empty(), "{:?}", elsewhere.seen());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_of_upstream_are_waited_for_if_that_is_short_and_told_if_it_is_long() {
    let world = World::start("maxRetries: 2").await;
    let image = Image::named("limits", &[500]).manifest;
    let limited = |wait: Option<&'static str>| {
        move || {
            let mut response = status(429);
            response
                .headers_mut()
                .extend(wait.map(|wait| (http::header::RETRY_AFTER, wait.parse().unwrap())));
            response
        }
    };
    let answers = world.manifest("long", &image.digest, limited(Some("3600"))).await;
    assert_eq!(answers[0].header("retry-after"), Some("3600"));
    says(answers, 503, "limits requests");
    let path = manifest_path(&world.repository("long"), "v1");
    assert_eq!(world.upstream.count("GET", &path), 1, "it isn't asked again");
    says(
        world.manifest("unsaid", &image.digest, limited(None)).await,
        503,
        "limits requests",
    );
    let path = manifest_path(&world.repository("unsaid"), "v1");
    assert_eq!(world.upstream.count("GET", &path), 3);
    // One that is over soon.
    let repository = world.repository("short");
    let path = manifest_path(&repository, "v1");
    let (expected, asked) = (image.clone(), std::sync::atomic::AtomicBool::new(false));
    world.upstream.at(&path, move |_| {
        match asked.swap(true, std::sync::atomic::Ordering::Relaxed) {
            false => limited(Some("1"))(),
            true => of_manifest(&expected),
        }
    });
    let answer = get_manifest(&world.client(), &repository, "v1").await.expect(200);
    answer.with_body(&image.bytes);
    world.stop().await;
}
