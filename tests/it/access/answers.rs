//! What answers give away beyond what was asked: to caches, and by the time they took.

use http::Method;

use super::{
    OTHER, OWNER, Repository,
    world::{Recorded, World},
};
use crate::support::{
    client::{Answer, Ask as _, Request, octets, with_digest},
    content::Blob,
};

/// Requests for what is in `repository` by its content, with the statuses of their answers.
fn by_content(repository: &Repository) -> Vec<(Request, u16)> {
    let mut requests = Vec::new();
    for (kind, digest) in [
        ("blobs", &repository.blob.digest),
        ("manifests", &repository.image.digest),
    ] {
        let target = format!("/v2/{}/{kind}/{digest}", repository.name);
        for method in [Method::GET, Method::HEAD] {
            let request = Request::new(method, &target);
            let known = request.clone().header("if-none-match", format!("\"{digest}\""));
            requests.extend([(request, 200), (known, 304)]);
        }
        if kind == "blobs" {
            requests.push((Request::get(&target).header("range", "bytes=1-5"), 206));
            requests.push((Request::get(&target).header("range", "bytes=-5"), 206));
        }
    }
    requests
}

/// Requests for what may change at any moment.
fn by_name(repository: &Repository) -> Vec<(Request, u16)> {
    let at = |rest: &str| format!("/v2/{}/{rest}", repository.name);
    let known = format!("\"{}\"", repository.image.digest);
    let absent = Blob::new("nowhere").digest;
    vec![
        (Request::get(at("manifests/v1")), 200),
        (Request::head(at("manifests/v1")), 200),
        (
            Request::get(at("manifests/v1")).header("if-none-match", &known),
            304,
        ),
        (Request::get(at("manifests/none")), 404),
        (Request::get(at("tags/list")), 200),
        (
            Request::get(at(&format!("referrers/{}", repository.image.digest))),
            200,
        ),
        // It may come to be there.
        (Request::get(at(&format!("blobs/{absent}"))), 404),
        (Request::head(at(&format!("manifests/{absent}"))), 404),
        (
            Request::get(at(&format!("blobs/{}", repository.blob.digest))).header("range", "bytes=500-"),
            416,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_a_login_is_for_no_shared_cache() {
    let world = World::new().await;
    let root = world.root();
    for door in [OWNER, OTHER] {
        for (area, callers, content, named) in [
            (
                "public",
                ["anonymous", "reader", "root", "pull token"],
                "public, max-age=300",
                "no-cache",
            ),
            (
                "team",
                ["reader", "root", "scoped key", "pull token"],
                "private, max-age=31536000, immutable",
                "private, no-cache",
            ),
        ] {
            let name = world.mesh.names().owned_by(OWNER, &format!("{area}/{door}"));
            let repository = Repository::fill(&root, name).await;
            for caller in callers {
                let client = world.caller(caller, door, &repository.name);
                let requests = by_content(&repository).into_iter().map(|asked| (asked, content));
                let requests = requests.chain(by_name(&repository).into_iter().map(|asked| (asked, named)));
                for ((request, status), expected) in requests {
                    let answer = client.ask(request).await.unwrap().expect(status);
                    answer.with("cache-control", expected);
                }
            }
        }
        // What of them is listed depends on who asks.
        for caller in ["anonymous", "root"] {
            let listing = world
                .caller(caller, door, "")
                .get("/v2/_catalog".to_owned())
                .await;
            listing
                .unwrap()
                .expect(200)
                .with("cache-control", "private, no-cache");
        }
    }
    world.mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_turned_away_is_told_that_this_is_a_registry_and_how_to_log_in() {
    let world = World::new().await;
    for caller in ["anonymous", "wrong password", "token of a stranger"] {
        let client = world.caller(caller, OTHER, "team/a");
        let answer = client.get("/v2/team/a/tags/list".to_owned()).await.unwrap();
        let answer = answer.error(401, "UNAUTHORIZED");
        let answer = answer.with("docker-distribution-api-version", "registry/2.0");
        let challenges = answer.headers.get_all("www-authenticate").iter();
        let challenges: Vec<&str> = challenges.map(|challenge| challenge.to_str().unwrap()).collect();
        assert!(challenges[0].starts_with("Bearer realm="), "{answer}");
        if caller != "token of a stranger" {
            assert_eq!(challenges[1], "Basic realm=\"portolan\",charset=\"UTF-8\"");
        }
    }
    let otto = world.caller("otto", OTHER, "");
    let denied = otto.get("/v2/team/a/tags/list".to_owned()).await.unwrap();
    let denied = denied.error(403, "DENIED");
    denied.with("docker-distribution-api-version", "registry/2.0");
    world.mesh.stop().await;
}

/// What is said to have taken time.
fn timed(answer: &Answer) -> String {
    let timing = answer.must("server-timing");
    let names = timing.split(", ").map(|metric| metric.split(';').next().unwrap());
    names.collect::<Vec<_>>().join(" ")
}

/// What `client` is told took time when it pushes `blob` in each way.
async fn pushes(client: &Recorded, repository: &str, blob: &Blob, from: &str) -> Vec<String> {
    let begun = client.start(repository).await.unwrap().expect(202);
    let end = Request::put(with_digest(&begun.location(), &blob.digest)).body(blob.bytes.clone());
    let ended = client.ask(octets(end)).await.unwrap().expect(201);
    let whole = client.push_blob(repository, blob).await.unwrap().expect(201);
    let mount = format!(
        "/v2/{repository}/blobs/uploads/?mount={}&from={from}",
        blob.digest
    );
    let mounted = client.ask(Request::post(mount).body("")).await.unwrap();
    assert!(mounted.is_success(), "{mounted}");
    [ended, whole, mounted].iter().map(timed).collect()
}

/// To link a blob that is stored already takes another time than to write it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_stored_elsewhere_does_not_show_in_what_took_time() {
    let world = World::new().await;
    let root = world.root();
    let secret = Repository::fill(&root, "secret/0".to_owned()).await;
    let name = world.mesh.names().owned_by(OWNER, "team/timed");
    for door in [OWNER, OTHER] {
        for blob in [&secret.blob, &Blob::named(&format!("new {door}"), 100)] {
            for caller in ["writer", "push token"] {
                let client = world.caller(caller, door, &name);
                for told in pushes(&client, &name, blob, &secret.name).await {
                    assert_eq!(told, "front hop", "{caller}");
                }
                let tags = client
                    .get(format!("/v2/{name}/blobs/{}", blob.digest))
                    .await
                    .unwrap();
                assert_eq!(timed(&tags.expect(200)), "front hop owner store", "{caller}");
            }
            for told in pushes(&world.caller("root", door, &name), &name, blob, &secret.name).await {
                assert_eq!(told, "front hop owner store");
            }
        }
    }
    world.mesh.stop().await;
}
