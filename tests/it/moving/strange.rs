//! Registries and layouts as they aren't meant to be, or as only one program writes them.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use portolan::{
    config::{Limits, UpstreamUrl},
    outbound::Trust,
    upstream::{Purpose, Upstream, UpstreamError, Visit},
};
use serde_json::json;
use tokio::time::Instant;

use super::{command, layout};
use crate::{
    mirror::fake::{Fake, blob_path, linked, status, tags, typed},
    support::{
        PATIENCE,
        client::{Ask as _, Request},
        command::{refused, well},
        content::{Blob, Manifest},
        mesh::Mesh,
    },
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_lists_what_it_refers_to_comes_along_and_so_does_what_refers_to_it() {
    let scratch = tempfile::tempdir().unwrap();
    let (first, second) = (scratch.path().join("first"), scratch.path().join("second"));
    let config = Blob::new("{}");
    let image = Manifest::image(&config, &[]).build();
    let circle = Manifest::index([&image]).subject(&image).build();
    let signature = Manifest::image(&config, &[]).subject(&circle).build();
    let mesh = Mesh::of_three().await;
    let client = mesh.client(0);
    client.push_blob("a", &config).await.unwrap().expect(201);
    for (reference, manifest) in [
        ("v1", &image),
        (&*circle.digest, &circle),
        (&*signature.digest, &signature),
    ] {
        let pushed = client.push_manifest("a", reference, manifest).await;
        pushed.unwrap().expect(201);
    }
    // By what is referred to, and by what refers to it.
    for (what, to) in [
        ("a".to_owned(), &first),
        (format!("a@{}", circle.digest), &second),
    ] {
        let from = format!("{}/{what}", mesh.door(1));
        well(command(&["export", &from, to.to_str().unwrap()])).await;
        for manifest in [&image, &circle, &signature] {
            let hex = manifest.digest.strip_prefix("sha256:").unwrap();
            let bytes = fs::read(to.join("blobs/sha256").join(hex)).unwrap();
            assert!(bytes == manifest.bytes, "{what}: {}", manifest.digest);
        }
    }
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_registry_lacks_or_has_too_much_of_is_an_error() {
    let scratch = tempfile::tempdir().unwrap();
    let upstream = Fake::start().await;
    let config = Blob::new("{}");
    upstream.blob("a", &config);
    let child = Manifest::image(&config, &[&Blob::named("absent", 10)]).build();
    upstream.manifest("a", "child", &child);
    let absent = Manifest::image(&config, &[]).build();
    let lacking = Manifest::index([&child]).build();
    upstream.manifest("a", "lacking", &lacking);
    // An index may lack one of its platforms, not a layer of one.
    let present = Manifest::image(&config, &[]).annotation("n", "1").build();
    upstream.manifest("a", "present", &present);
    upstream.manifest("a", "sparse", &Manifest::index([&absent, &present]).build());
    // Of ten bytes by its manifest.
    let long = Blob::named("long", 5_000);
    upstream.blob("a", &long);
    let mut said = long.descriptor("application/vnd.oci.image.layer.v1.tar");
    said["size"] = 10.into();
    let too_long = Manifest::image(&config, &[]).with("layers", vec![said]).build();
    upstream.manifest("a", "long", &too_long);
    // Indexes in indexes, too many of them.
    let mut deep = present.clone();
    for n in 0..20 {
        deep = Manifest::index([&deep]).annotation("n", &n.to_string()).build();
        upstream.manifest("a", "deep", &deep);
    }
    tags(&upstream, "goes/round", &[]);
    let path = "/v2/goes/round/tags/list";
    upstream.at(path, move |_| {
        linked(typed("application/json", r#"{"tags": ["v1"]}"#), path)
    });
    upstream.at("/v2/_catalog", |_| {
        linked(
            typed("application/json", r#"{"repositories": ["b"]}"#),
            "/v2/_catalog?n=1000",
        )
    });
    let from = |what: &str| format!("{}{what}", upstream.url());
    for (n, (what, why)) in [
        ("/a:lacking", "isn't in the registry"),
        ("/a:long", "that had 10"),
        ("/a:deep", "too deep in indexes"),
        ("/goes/round", "a list that leads back to itself"),
        ("", "a list that leads back to itself"),
    ]
    .into_iter()
    .enumerate()
    {
        let to = scratch.path().join(n.to_string());
        let told = refused(command(&["export", &from(what), to.to_str().unwrap()])).await;
        assert!(told.contains(why), "{what}: {told}");
    }
    let to = scratch.path().join("sparse");
    well(command(&["export", &from("/a:sparse"), to.to_str().unwrap()])).await;
    assert_eq!(upstream.count("GET", "/v2/_catalog"), 1);
    assert!(upstream.count("GET", &blob_path("a", &config.digest)) > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn referrers_come_along_from_every_page() {
    let scratch = tempfile::tempdir().unwrap();
    let upstream = Fake::start().await;
    let config = Blob::new("{}");
    upstream.blob("a", &config);
    let image = Manifest::image(&config, &[]).build();
    upstream.manifest("a", "v1", &image);
    let path = format!("/v2/a/referrers/{}", image.digest);
    let signatures = ["first", "second"].map(|name| {
        let signature = Manifest::image(&config, &[]).subject(&image);
        signature.annotation("name", name).build()
    });
    let pages = signatures.each_ref().map(|signature| {
        upstream.manifest("a", &signature.digest, signature);
        Manifest::index([signature]).build()
    });
    let next = format!("{path}?last=first");
    upstream.at(path, move |seen| match seen.target == next {
        true => typed(&pages[1].media_type, pages[1].bytes.clone()),
        false => linked(typed(&pages[0].media_type, pages[0].bytes.clone()), &next),
    });
    let to = scratch.path().join("out");
    let from = format!("{}/a:v1", upstream.url());
    well(command(&["export", &from, to.to_str().unwrap()])).await;
    for signature in &signatures {
        let hex = signature.digest.strip_prefix("sha256:").unwrap();
        assert!(to.join("blobs/sha256").join(hex).is_file(), "{hex}");
    }
}

/// As it is when a command goes on where it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_goes_on_at_the_page_that_failed() {
    let upstream = Fake::start().await;
    let fails = AtomicBool::new(true);
    let path = "/v2/_catalog";
    let page = |names: &str| typed("application/json", format!("{{\"repositories\": [{names}]}}"));
    upstream.at(path, move |seen| match seen.target.ends_with("last=a") {
        true if fails.swap(false, Ordering::Relaxed) => status(503),
        true => page("\"b\""),
        false => linked(page("\"a\""), "/v2/_catalog?last=a"),
    });
    let mut limits = Limits::default();
    limits.visits.retries = 0;
    let visit = Visit {
        url: UpstreamUrl {
            scheme: "http",
            authority: upstream.address.to_string(),
        },
        login: None,
        trust: Trust::Machine,
        purpose: Purpose::Pull,
        at_once: 1,
    };
    let registry = Upstream::visit(visit, &limits).unwrap();
    let mut pages = registry.repositories();
    let mut next = async || {
        let page = pages.next(Instant::now() + PATIENCE).await?;
        Ok::<_, UpstreamError>(page.map(|page| page[0].to_string()))
    };
    assert_eq!(next().await.unwrap().as_deref(), Some("a"));
    assert!(matches!(next().await, Err(UpstreamError::Status(_))));
    assert_eq!(next().await.unwrap().as_deref(), Some("b"));
    assert_eq!(next().await.unwrap(), None);
}

/// Writes the list of a layout anew: names as docker's `save` has them, from version 25 on.
fn as_docker_saves(folder: &Path, images: &[(&str, &Manifest)]) {
    let entries = images.iter().map(|(name, image)| {
        let tag = name.rsplit_once(':').unwrap().1;
        let mut entry = image.descriptor();
        entry["annotations"] =
            json!({ "io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag });
        entry
    });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": entries.collect::<Vec<_>>(),
    });
    fs::write(folder.join("index.json"), index.to_string()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_that_docker_saved_under_one_tag_all_come_and_two_of_one_name_are_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("saved");
    let from = folder.to_str().unwrap();
    let config = Blob::new("{}");
    let images = [1, 2].map(|n| {
        let image = Manifest::image(&config, &[]);
        image.annotation("n", &n.to_string()).build()
    });
    let [one, two] = &images;
    layout(&folder, &[], &[one, two], &[&config]);
    let mesh = Mesh::of_three().await;
    let door = mesh.door(0).to_string();
    as_docker_saves(
        &folder,
        &[
            ("docker.io/library/alpine:latest", one),
            ("localhost:5000/team/app:latest", two),
        ],
    );
    for (to, prefix) in [(door.clone(), ""), (format!("{door}/old"), "old/")] {
        well(command(&["import", from, &to])).await;
        for (name, image) in [("library/alpine", one), ("team/app", two)] {
            let target = format!("/v2/{prefix}{name}/manifests/latest");
            let served = mesh.client(1).ask(Request::get(target)).await.unwrap();
            served.expect(200).with_body(&image.bytes);
        }
    }
    // A tag that is given names the whole place.
    as_docker_saves(&folder, &[("docker.io/library/alpine:3", one)]);
    well(command(&["import", from, &format!("{door}/library/alpine:3")])).await;
    let named = Request::get("/v2/library/alpine/manifests/3");
    let served = mesh.client(1).ask(named).await.unwrap();
    served.expect(200).with_body(&one.bytes);
    let elsewhere = Request::get("/v2/library/alpine/library/alpine/manifests/3");
    mesh.client(1).ask(elsewhere).await.unwrap().expect(404);
    // The same, but for the registry that is left out; and by the tag alone.
    as_docker_saves(
        &folder,
        &[("docker.io/team/app:v2", one), ("ghcr.io/team/app:v2", two)],
    );
    let mut told = vec![refused(command(&["import", from, &door])).await];
    let entry = |image: &Manifest| {
        let mut entry = image.descriptor();
        entry["annotations"] = json!({ "org.opencontainers.image.ref.name": "v2" });
        entry
    };
    let index = json!({ "schemaVersion": 2, "manifests": [entry(one), entry(two)] });
    fs::write(folder.join("index.json"), index.to_string()).unwrap();
    told.push(refused(command(&["import", from, &format!("{door}/team/app")])).await);
    // Names that are two, and become one.
    let mut entries = [entry(one), entry(two)];
    for (entry, host) in entries.iter_mut().zip(["a:1", "b:1"]) {
        entry["annotations"]["org.opencontainers.image.ref.name"] = format!("{host}/team/app:v2").into();
    }
    let index = json!({ "schemaVersion": 2, "manifests": entries });
    fs::write(folder.join("index.json"), index.to_string()).unwrap();
    told.push(refused(command(&["import", from, &door])).await);
    for told in told {
        for part in [&*one.digest, &two.digest, "v2", "which of them is meant?"] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }
    let nothing = Request::get("/v2/team/app/manifests/v2");
    mesh.client(1).ask(nothing).await.unwrap().expect(404);
    mesh.stop().await;
}
