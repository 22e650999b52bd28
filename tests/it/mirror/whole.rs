//! What mirroring ahead of time brings of an image, and that all of it is here when its tag is.

use std::time::Duration;

use portolan::config::Sync;
use serde_json::Value;

use super::{
    Image,
    fake::{Fake, blob_path, linked, manifest_path, status, tags, typed},
    get_blob, get_manifest, mirror, plan, pull, sync,
};
use crate::support::{
    PATIENCE,
    client::{Ask as _, Client},
    content::Manifest,
    eventually,
    mesh::{MEMBERS, memory},
};

/// One repository, which is visited once while a test looks.
fn once(upstream: &Fake, repository: &str, more: &str) -> Sync {
    let registry = format!(
        "{{urls: [\"{}\"], pollInterval: 1h, maxRetries: 0, {more} content: [{{prefix: {repository}}}]}}",
        upstream.url()
    );
    sync(&registry, "")
}

/// What is told of the visit, when it is over.
async fn visited(client: &Client) -> Value {
    let told = || async {
        let told = client.get("/v2/_portolan/mirror".to_owned()).await.unwrap();
        told.expect(200).json()["rules"][0].clone()
    };
    eventually("the visit ends", || async {
        let rule = told().await;
        rule["repositories"] == 1 && rule["running"] == 0
    })
    .await;
    told().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_that_was_collected_while_another_one_came_comes_again() {
    let upstream = Fake::start().await;
    let (repository, image) = ("slow/layer", Image::named("slow layer", &[1000, 400_000]));
    image.serve(&upstream, repository, "v1");
    tags(&upstream, repository, &["v1"]);
    let gate = upstream.gated_blob(repository, &image.layers[1], 1000);
    let plan = plan(memory(), once(&upstream, repository, "")).limits(|limits| {
        limits.upstream.stall = 10 * PATIENCE;
        // Longer than it takes from the last layer to the manifest.
        limits.registry.link_grace = Duration::from_secs(8);
        limits.registry.history = Duration::ZERO;
        limits.registry.clock_margin = Duration::ZERO;
        limits.upkeep.interval = Duration::from_millis(100);
        limits.collection.interval = Duration::from_millis(100);
    });
    let mesh = plan.start().await;
    let (client, small) = (mesh.client(1), &image.layers[0]);
    for (what, expected) in [("the small layer comes", 200), ("and goes", 404)] {
        // Not HEAD: who asks so relies on what the answer says, and it stays.
        eventually(what, || async {
            get_blob(&client, repository, small).await.status == expected
        })
        .await;
    }
    gate.send_replace(true);
    eventually("the image comes", || async {
        get_manifest(&client, repository, "v1").await.status == 200
    })
    .await;
    for door in 0..MEMBERS {
        pull(&mesh.client(door), repository, "v1", &image).await;
    }
    assert_eq!(upstream.count("GET", &blob_path(repository, &small.digest)), 2);
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn indexes_that_list_each_others_entries_are_each_looked_at_once() {
    let upstream = Fake::start().await;
    let (repository, image) = ("nested/index", Image::named("nested", &[500]));
    let gone = Image::named("nested gone", &[500]).manifest;
    let [left, right] = ["left", "right"].map(|name| {
        let entries = Manifest::index([&image.manifest, &gone]);
        entries.annotation("name", name).build()
    });
    let top = Manifest::index([&left, &right, &gone]).build();
    image.serve(&upstream, repository, "none");
    for index in [&left, &right] {
        upstream.manifest(repository, &index.digest, index);
    }
    upstream.manifest(repository, "v1", &top);
    tags(&upstream, repository, &["v1"]);
    let mesh = mirror(once(&upstream, repository, "")).await;
    let client = mesh.client(1);
    let rule = visited(&client).await;
    assert_eq!(
        (&rule["failed"], &rule["manifests"]),
        (&0.into(), &4.into()),
        "{rule}"
    );
    for digest in [&image.manifest.digest, &left.digest, &right.digest, &gone.digest] {
        assert_eq!(upstream.count("GET", &manifest_path(repository, digest)), 1);
    }
    let here = get_manifest(&client, repository, "v1").await;
    here.expect(200).with_body(&top.bytes);
    pull(&client, repository, &image.manifest.digest, &image).await;
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_that_a_clients_pull_moved_while_its_former_image_came_stays() {
    let upstream = Fake::start().await;
    let repository = "moved/meanwhile";
    let [former, latter] = ["former", "latter"].map(|name| Image::named(name, &[50_000]));
    former.serve(&upstream, repository, "v1");
    tags(&upstream, repository, &["v1"]);
    let gate = upstream.gated_blob(repository, &former.layers[0], 1000);
    let plan = plan(memory(), once(&upstream, repository, "onDemand: true,"));
    let plan = plan.limits(|limits| limits.upstream.stall = 10 * PATIENCE);
    let mesh = plan.start().await;
    let layer = blob_path(repository, &former.layers[0].digest);
    eventually("its layer begins", || async {
        upstream.count("GET", &layer) == 1
    })
    .await;
    latter.serve(&upstream, repository, "v1");
    let client = mesh.client(1);
    pull(&client, repository, "v1", &latter).await;
    // Nobody moves it again.
    upstream.at(manifest_path(repository, "v1"), |_| status(503));
    gate.send_replace(true);
    let rule = visited(&client).await;
    assert_eq!(
        (&rule["failed"], &rule["moved"]),
        (&0.into(), &0.into()),
        "{rule}"
    );
    for door in 0..MEMBERS {
        let here = get_manifest(&mesh.client(door), repository, "v1")
            .await
            .expect(200);
        here.with_body(&latter.manifest.bytes);
    }
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_of_tags_that_leads_back_is_read_once_and_told_of() {
    let upstream = Fake::start().await;
    let (repository, image) = ("goes/round", Image::named("round", &[500]));
    image.serve(&upstream, repository, "v1");
    let path = format!("/v2/{repository}/tags/list");
    let (first, second) = (format!("{path}?page=1"), format!("{path}?page=2"));
    upstream.at(path.clone(), move |seen| {
        let page = serde_json::json!({"name": repository, "tags": ["v1"]}).to_string();
        let next = if seen.target == second { &first } else { &second };
        linked(typed("application/json", page), next)
    });
    let mesh = mirror(once(&upstream, repository, "")).await;
    let client = mesh.client(1);
    let rule = visited(&client).await;
    let trouble = rule["troubles"][0]["error"].as_str().unwrap_or_default();
    assert!(trouble.contains("a list that leads back to itself"), "{rule}");
    // Where it begins, and once round.
    assert_eq!(upstream.count("GET", &path), 3);
    pull(&client, repository, "v1", &image).await;
    mesh.stop().await;
}
