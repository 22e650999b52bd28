//! What somebody might send to make search dear, or to make it say what it shouldn't.

use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{SEARCH, world::World};
use crate::support::client::{Ask as _, Request, octets};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_that_are_too_dear_or_no_questions_are_refused() {
    let world = World::new().await;
    let alice = world.caller(Some("alice"), 0);
    let aliases: String = (0..1000)
        .map(|n| format!("a{n}:StarredRepos{{Page{{TotalCount}}}} "))
        .collect();
    let nested = |n: usize| format!("{}{}", "{a".repeat(n), "}".repeat(n));
    for (body, status) in [
        (json!({ "query": format!("{{{aliases}}}") }).to_string(), 422),
        (json!({ "query": nested(30) }).to_string(), 422),
        (json!({ "query": nested(10_000) }).to_string(), 422),
        (
            json!({ "query": "{...f} fragment f on Query{...f}" }).to_string(),
            422,
        ),
        (
            json!({ "query": "{__typename}", "variables": [1] }).to_string(),
            422,
        ),
        (json!({ "query": "x".repeat(200_000) }).to_string(), 400),
        (json!({ "query": 5 }).to_string(), 400),
        ("[".repeat(100_000), 400),
        ("not json".to_owned(), 400),
        ("{}".to_owned(), 422),
        (String::new(), 400),
    ] {
        let start: String = body.chars().take(60).collect();
        let answer = alice.ask(Request::post(SEARCH).body(body)).await.unwrap();
        assert_eq!(answer.status, status, "{start}: {answer}");
        assert!(
            answer.json()["errors"][0]["message"].is_string(),
            "{start}: {answer}"
        );
    }
    for (target, status) in [
        (SEARCH.to_owned(), 422),
        (format!("{SEARCH}?query={{__typename}}&variables=x"), 400),
        (format!("{SEARCH}?query={{__typename}}"), 200),
    ] {
        assert_eq!(
            alice.get(target.clone()).await.unwrap().status,
            status,
            "{target}"
        );
    }
    alice
        .ask(Request::put(SEARCH).body("{}"))
        .await
        .unwrap()
        .expect(405);
    // Numbers that fit no page.
    for page in [
        "limit:2147483647 offset:2147483647",
        "limit:1 offset:2147483647",
        "limit:0",
    ] {
        let query = format!("{{RepoListWithNewestImage(requestedPage:{{{page}}}){{Results{{Name}}}}}}");
        let found = world.find(Some("alice"), 0, &query).await;
        assert_eq!(
            found["data"]["RepoListWithNewestImage"]["Results"],
            json!([]),
            "{page}"
        );
    }
    world.mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_calls_itself_something_else_shows_as_what_it_is() {
    let world = World::new().await;
    let admin = world.caller(Some("admin"), 0);
    let markup = "<script>alert(1)</script>\u{202e}\"'";
    // Configurations that aren't any, and one of 3 MiB.
    let configs = [
        "[]".to_owned(),
        "{\"created\": \"yesterday\", \"history\": 5}".to_owned(),
        "null".to_owned(),
        "\u{0}".to_owned(),
        json!({ "os": markup, "history": vec![json!({ "created_by": markup, "empty_layer": true }); 20_000] }).to_string(),
    ];
    for (n, config) in configs.iter().enumerate() {
        let digest = format!("sha256:{}", hex::encode(Sha256::digest(config)));
        let target = format!("/v2/odd/r/blobs/uploads/?digest={digest}");
        admin
            .ask(octets(Request::post(target)).body(config.clone()))
            .await
            .unwrap()
            .expect(201);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": config.len() },
            "layers": [],
            "annotations": { "org.opencontainers.image.title": markup, "org.opencontainers.image.vendor": markup },
        });
        let request = Request::put(format!("/v2/odd/r/manifests/t{n}"))
            .header("content-type", "application/vnd.oci.image.manifest.v1+json")
            .body(manifest.to_string());
        admin.ask(request).await.unwrap().expect(201);
    }
    let query = "{ImageList(repo:\"odd/r\"){Results{Tag Title LastUpdated Manifests{Platform{Os} History{HistoryDescription{EmptyLayer}}}}} \
                 RepoListWithNewestImage{Results{Name Vendors Platforms{Os Arch}}}}";
    let found = world.find(Some("alice"), 1, query).await;
    let images = found["data"]["ImageList"]["Results"].as_array().unwrap();
    assert_eq!(images.len(), configs.len());
    for image in images {
        assert_eq!(image["Title"], markup);
        assert!(image["LastUpdated"].is_null());
    }
    let last = &images[configs.len() - 1]["Manifests"][0];
    assert_eq!(last["Platform"]["Os"], markup);
    assert_eq!(last["History"].as_array().unwrap().len(), 20_000);
    let repositories = &found["data"]["RepoListWithNewestImage"]["Results"];
    assert_eq!(repositories[0]["Vendors"], json!([markup]));
    world.mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_learns_the_schema_where_nothing_is_public() {
    use portolan::config::{Extensions, Searching};
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    std::fs::write(&users, "").unwrap();
    let gate = crate::support::gate(&format!("{{auth: {{htpasswd: {{path: {}}}}}}}", users.display()));
    let extensions = Extensions {
        search: Searching::On,
        ..Extensions::default()
    };
    let mesh = crate::support::mesh::Plan::new()
        .gate(gate)
        .extensions(extensions)
        .start()
        .await;
    let request = Request::post(SEARCH).body(json!({ "query": "{__schema{types{name}}}" }).to_string());
    let answer = mesh.client(0).ask(request).await.unwrap().expect(401);
    assert!(answer.header("www-authenticate").is_some());
    mesh.client(0)
        .get(format!("{SEARCH}?query={{__typename}}"))
        .await
        .unwrap()
        .expect(401);
    mesh.stop().await;
}
