//! Pulling through: what is asked upstream, and when.

use std::collections::BTreeMap;

use portolan::registry::Quotas;

use super::{
    Image,
    fake::{Fake, blob_path, manifest_path, of_manifest, status, typed},
    get_blob, get_manifest, mirror, plan, pull, sync, sync_from,
};
use crate::support::{
    client::{Ask as _, Request},
    content::{Blob, Manifest},
    eventually,
    mesh::{MEMBERS, Mesh, Plan, memory},
};

/// Requests for manifests and blobs that an upstream mesh has answered with their bytes.
async fn gets(upstream: &Mesh) -> f64 {
    let mut sum = 0.0;
    for member in 0..MEMBERS {
        let metrics = upstream.metrics(member).await;
        for route in ["manifest_get", "blob_get"] {
            sum += metrics.sum("portolan_requests_total", &[("route", route)]);
        }
    }
    sum
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_mesh_has_is_pulled_once_and_stays_when_that_is_gone() {
    let upstream = Mesh::of_three().await;
    let mesh = mirror(sync_from(&format!("http://{}", upstream.door(0)), "")).await;
    let image = |door: usize| Image::named(&format!("another mesh {door}"), &[1000, 700_000]);
    for door in 0..MEMBERS {
        let (image, repository) = (
            image(door),
            mesh.names().owned_by(0, &format!("pulled/door-{door}")),
        );
        image.push(&upstream.client(1), &repository, "v1").await;
        pull(&mesh.client(door), &repository, "v1", &image).await;
        let asked = gets(&upstream).await;
        for door in 0..MEMBERS {
            pull(&mesh.client(door), &repository, "v1", &image).await;
        }
        assert_eq!(gets(&upstream).await, asked, "the second pull asks for nothing");
    }
    upstream.stop().await;
    for door in 0..MEMBERS {
        let (image, repository) = (
            image(door),
            mesh.names().owned_by(0, &format!("pulled/door-{door}")),
        );
        pull(&mesh.client(door), &repository, "v1", &image).await;
        let by_tag = get_manifest(&mesh.client(door), &repository, "v1")
            .await
            .expect(200);
        assert!(by_tag.must("warning").starts_with("111 "), "{by_tag}");
        let by_digest = get_manifest(&mesh.client(door), &repository, &image.manifest.digest).await;
        by_digest.expect(200).lacks("warning");
        let unknown = get_manifest(&mesh.client(door), &repository, "other").await;
        unknown.error(502, "UNAVAILABLE");
    }
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_that_moves_upstream_moves_here_and_one_that_is_gone_stays() {
    let upstream = Fake::start().await;
    let mesh = mirror(sync_from(&upstream.url(), "")).await;
    let repository = mesh.names().owned_by(0, "moving");
    let client = mesh.client(1);
    for round in 0..3 {
        let image = Image::named(&format!("moving {round}"), &[500]);
        image.serve(&upstream, &repository, "latest");
        pull(&client, &repository, "latest", &image).await;
        pull(&client, &repository, "latest", &image).await;
    }
    let looks = upstream.count("HEAD", &manifest_path(&repository, "latest"));
    assert_eq!(looks, 5, "before each answer but the first");
    let image = Image::named("moving 2", &[500]);
    upstream.at(manifest_path(&repository, "latest"), |_| status(404));
    let kept = get_manifest(&client, &repository, "latest").await.expect(200);
    kept.lacks("warning").with_body(&image.manifest.bytes);
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_an_interval_a_tag_is_served_at_once_and_looked_at_behind() {
    let upstream = Fake::start().await;
    let mesh = mirror(sync_from(&upstream.url(), "manifestCheckInterval: 1s")).await;
    let repository = mesh.names().owned_by(0, "interval");
    let client = mesh.client(1);
    let first = Image::named("interval 1", &[500]);
    first.serve(&upstream, &repository, "latest");
    pull(&client, &repository, "latest", &first).await;
    let path = manifest_path(&repository, "latest");
    // One look, and none for as long as that is fresh.
    pull(&client, &repository, "latest", &first).await;
    eventually("it is looked at", || async { upstream.count("HEAD", &path) == 1 }).await;
    pull(&client, &repository, "latest", &first).await;
    let second = Image::named("interval 2", &[500]);
    second.serve(&upstream, &repository, "latest");
    eventually("the new one is here", || async {
        let answer = get_manifest(&client, &repository, "latest").await.expect(200);
        answer.body == second.manifest.bytes
    })
    .await;
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_upstream_does_not_have_is_asked_for_once_in_a_while() {
    let upstream = Fake::start().await;
    let mesh = mirror(sync_from(&upstream.url(), "")).await;
    let repository = mesh.names().owned_by(0, "absent");
    let blob = Blob::named("absent", 10);
    for door in [0, 1, 2, 1] {
        let client = mesh.client(door);
        get_manifest(&client, &repository, "v1")
            .await
            .error(404, "MANIFEST_UNKNOWN");
        get_blob(&client, &repository, &blob)
            .await
            .error(404, "BLOB_UNKNOWN");
    }
    assert_eq!(upstream.count("GET", &manifest_path(&repository, "v1")), 1);
    assert_eq!(upstream.count("GET", &blob_path(&repository, &blob.digest)), 1);
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_say_what_is_mirrored_under_which_name_and_ns_which_registry_is_meant() {
    let (one, two) = (Fake::start().await, Fake::on("127.0.0.2").await);
    let content = "content: [{prefix: 'library/**', destination: /hub, stripPrefix: true, tags: {regex: '^v', semver: true}}]";
    let registry = |fake: &Fake| format!("{{urls: [\"{}\"], onDemand: true, {content}}}", fake.url());
    let mesh = mirror(sync(&format!("{}, {}", registry(&one), registry(&two)), "")).await;
    let client = mesh.client(1);
    let (first, second) = (Image::named("ns one", &[500]), Image::named("ns two", &[500]));
    first.serve(&one, "library/a/b", "v1");
    second.serve(&two, "library/a/b", "v1");
    pull(&client, "hub/a/b", "v1", &first).await;
    // By the other's host.
    let target = format!("{}?ns=127.0.0.2", manifest_path("hub/a/b", "v1"));
    let answer = client.get(target).await.unwrap().expect(200);
    answer.with_body(&second.manifest.bytes);
    // What nobody is, is nobody's.
    let target = format!("{}?ns=elsewhere.example", manifest_path("hub/a/b", "v1"));
    client.get(target).await.unwrap().expect(200);
    for (repository, tag) in [
        ("hub/a/b", "latest"),
        ("hub/a/b", "vx"),
        ("library/a/b", "v1"),
        ("hubble/a", "v1"),
    ] {
        get_manifest(&client, repository, tag)
            .await
            .error(404, "MANIFEST_UNKNOWN");
    }
    let strange = one.seen().into_iter().chain(two.seen());
    let strange: Vec<_> = strange
        .filter(|seen| !seen.target.starts_with("/v2/library/a/b/") || seen.target.contains("latest"))
        .collect();
    assert!(strange.is_empty(), "{strange:?}");
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_is_here_before_what_it_lists_and_signatures_come_by_their_tags() {
    let upstream = Fake::start().await;
    let content = "content: [{prefix: '**', tags: {regex: '^v'}}]";
    let mesh = mirror(sync_from(&upstream.url(), content)).await;
    let repository = mesh.names().owned_by(0, "index");
    let client = mesh.client(2);
    let images = [0, 1].map(|n| Image::named(&format!("index {n}"), &[500]));
    let index = Manifest::index(images.iter().map(|image| &image.manifest)).build();
    upstream.manifest(&repository, "v1", &index);
    images[1].serve(&upstream, &repository, "none");
    let answer = get_manifest(&client, &repository, "v1").await.expect(200);
    answer.with_body(&index.bytes);
    // Only what is asked for is fetched.
    pull(&client, &repository, &images[1].manifest.digest, &images[1]).await;
    let untouched = manifest_path(&repository, &images[0].manifest.digest);
    assert_eq!(upstream.count("GET", &untouched), 0);
    let signature = Image::named("index signature", &[100]);
    let tag = format!("{}.sig", index.digest.replace(':', "-"));
    signature.serve(&upstream, &repository, &tag);
    pull(&client, &repository, &tag, &signature).await;
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_pushes_onto_layers_that_only_upstream_has() {
    let upstream = Fake::start().await;
    let mesh = mirror(sync_from(&upstream.url(), "")).await;
    for door in 0..2 {
        let repository = mesh.names().owned_by(0, &format!("onto/door-{door}"));
        let client = mesh.client(door);
        let base = Image::named(&format!("onto {door}"), &[500, 300_000]);
        base.serve(&upstream, &repository, "base");
        let length = base.layers[1].len().to_string();
        let there = client
            .head(blob_path(&repository, &base.layers[1].digest))
            .await
            .unwrap();
        there.expect(200).with("content-length", &length);
        let own = Blob::named(&format!("onto own {door}"), 700);
        client.push_blob(&repository, &own).await.unwrap().expect(201);
        let derived = Manifest::image(&own, &[&base.layers[0], &base.layers[1]]).build();
        client
            .push_manifest(&repository, "derived", &derived)
            .await
            .unwrap()
            .expect(201);
        let missing = Manifest::image(&own, &[&Blob::named("onto nothing", 9)]).build();
        let refused = client
            .push_manifest(&repository, "missing", &missing)
            .await
            .unwrap();
        refused.error(404, "MANIFEST_BLOB_UNKNOWN");
    }
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_second_of_two_registries_has_is_had_however_it_is_asked_for() {
    let (first, second) = (Fake::start().await, Fake::on("127.0.0.2").await);
    let registry = |fake: &Fake| format!("{{urls: [\"{}\"], onDemand: true}}", fake.url());
    let mesh = mirror(sync(&format!("{}, {}", registry(&first), registry(&second)), "")).await;
    let repository = mesh.names().owned_by(0, "overlapping");
    let client = mesh.client(1);
    let image = Image::named("overlapping", &[500]);
    image.serve(&second, &repository, "v1");
    // Who means the first is told of that one alone, and nobody else is.
    for path in [
        manifest_path(&repository, "v1"),
        blob_path(&repository, &image.config.digest),
    ] {
        client
            .get(format!("{path}?ns=127.0.0.1"))
            .await
            .unwrap()
            .expect(404);
    }
    let path = blob_path(&repository, &image.layers[0].digest);
    client.head(path).await.unwrap().expect(200);
    pull(&client, &repository, "v1", &image).await;
    // A digest that no blob has may be a manifest's.
    let other = Image::named("overlapping other", &[500]).manifest;
    let as_blob = blob_path(&repository, &other.digest);
    client.get(as_blob).await.unwrap().error(404, "BLOB_UNKNOWN");
    second.manifest(&repository, "v2", &other);
    let answer = get_manifest(&client, &repository, &other.digest)
        .await
        .expect(200);
    answer.with_body(&other.bytes);
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_pushes_an_index_of_images_that_only_upstream_has() {
    let upstream = Fake::start().await;
    let mesh = mirror(sync_from(&upstream.url(), "")).await;
    for door in 0..MEMBERS {
        let repository = mesh.names().owned_by(0, &format!("lists/door-{door}"));
        let client = mesh.client(door);
        let images = [0, 1].map(|n| Image::named(&format!("lists {door} {n}"), &[500]));
        for image in &images {
            image.serve(&upstream, &repository, "there");
        }
        // Some registries give manifests as blobs, too.
        let bytes = images[1].manifest.bytes.clone();
        upstream.at(blob_path(&repository, &images[1].manifest.digest), move |_| {
            typed("application/octet-stream", bytes.clone())
        });
        let index = Manifest::index(images.iter().map(|image| &image.manifest)).build();
        let pushed = client.push_manifest(&repository, "all", &index).await.unwrap();
        pushed.expect(201);
        pull(&client, &repository, &images[1].manifest.digest, &images[1]).await;
        let nowhere = Image::named("lists nothing", &[9]).manifest;
        let missing = Manifest::index([&images[0].manifest, &nowhere]).build();
        let refused = client.push_manifest(&repository, "missing", &missing).await;
        refused.unwrap().error(404, "MANIFEST_BLOB_UNKNOWN");
    }
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_without_its_entries_is_taken_only_where_that_is_said() {
    let mesh = Plan::new()
        .sparse_indexes(vec!["sparse/**".parse().unwrap()])
        .start()
        .await;
    let image = Image::named("sparse", &[100]);
    let index = Manifest::index([&image.manifest]).build();
    let without_layer = &image.manifest;
    for door in 0..MEMBERS {
        let client = mesh.client(door);
        let pushed = client.push_manifest("dense/a", "v1", &index).await.unwrap();
        pushed.error(404, "MANIFEST_BLOB_UNKNOWN");
        client
            .push_manifest("sparse/a", "v1", &index)
            .await
            .unwrap()
            .expect(201);
        get_manifest(&client, "sparse/a", "v1")
            .await
            .expect(200)
            .with_body(&index.bytes);
        let pushed = client
            .push_manifest("sparse/a", "image", without_layer)
            .await
            .unwrap();
        pushed.error(404, "MANIFEST_BLOB_UNKNOWN");
    }
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_mirrored_counts_against_quotas() {
    let upstream = Fake::start().await;
    let quota = Quotas::new(BTreeMap::from([(
        "team".parse().unwrap(),
        100_000.try_into().unwrap(),
    )]));
    let mesh = plan(memory(), sync_from(&upstream.url(), ""))
        .quotas(quota)
        .start()
        .await;
    let client = mesh.client(1);
    let repository = mesh.names().owned_by(0, "team/mirrored");
    let image = Image::named("quota", &[50_000, 400_000]);
    image.serve(&upstream, &repository, "v1");
    get_manifest(&client, &repository, "v1").await.expect(200);
    get_blob(&client, &repository, &image.layers[0]).await.expect(200);
    // Told at once, for upstream says how much it is; or by a body that ends before its end.
    let request = Request::get(blob_path(&repository, &image.layers[1].digest));
    match client.ask(request).await {
        Ok(answer) => drop(answer.error(403, "DENIED")),
        Err(_broken) => {}
    }
    let blob = Image::named("quota", &[50_000]);
    get_blob(&client, &repository, &blob.layers[0]).await.expect(200);
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_address_is_asked_where_one_fails() {
    let (broken, good) = (Fake::start().await, Fake::start().await);
    let repository = "next/address";
    let image = Image::named("next", &[1000]);
    image.serve(&good, repository, "v1");
    let path = manifest_path(repository, "v1");
    broken.at(&path, |_| status(500));
    let urls = format!(
        "{{urls: [\"http://127.0.0.1:1\", \"{}\", \"{}\"], onDemand: true, maxRetries: 1, retryDelay: 10ms}}",
        broken.url(),
        good.url()
    );
    let mesh = mirror(sync(&urls, "")).await;
    let answer = get_manifest(&mesh.client(0), repository, "v1").await.expect(200);
    answer.with_body(&image.manifest.bytes);
    assert_eq!((broken.count("GET", &path), good.count("GET", &path)), (2, 1));
    // A digest that isn't said is made.
    let manifest = image.manifest.clone();
    good.at(manifest_path(repository, "v2"), move |_| {
        let mut response = of_manifest(&manifest);
        response.headers_mut().remove("docker-content-digest");
        response
    });
    broken.at(manifest_path(repository, "v2"), |_| status(503));
    for _ in 0..2 {
        let answer = get_manifest(&mesh.client(0), repository, "v2").await.expect(200);
        answer.with("docker-content-digest", &image.manifest.digest);
    }
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_upstream_took_stands_in_the_answer_that_waited_for_it() {
    let upstream = Fake::start().await;
    let mesh = mirror(sync_from(&upstream.url(), "manifestCheckInterval: 1h")).await;
    for door in 0..MEMBERS {
        let repository = mesh.names().owned_by(0, &format!("timed/{door}"));
        let image = Image::named(&format!("timed {door}"), &[500]);
        image.serve(&upstream, &repository, "v1");
        let client = mesh.client(door);
        for waits in [true, false] {
            let manifest = get_manifest(&client, &repository, "v1").await.expect(200);
            let blob = get_blob(&client, &repository, &image.layers[0]).await.expect(200);
            for answer in [manifest, blob] {
                let timing = answer.must("server-timing");
                assert_eq!(timing.contains(", upstream;dur="), waits, "{timing}");
            }
        }
    }
    mesh.stop().await;
}
