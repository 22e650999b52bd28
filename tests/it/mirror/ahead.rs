//! Mirroring ahead of time, and what comes along.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use http::{HeaderValue, header};

use super::{
    Image,
    fake::{Fake, Seen, blob_path, manifest_path, redirect, status, typed},
    get_blob, get_manifest, mirror, pull, sync, sync_from,
};
use crate::support::{
    client::Ask as _,
    content::{Blob, Manifest},
    eventually,
    mesh::MEMBERS,
    thorough,
};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn tags(upstream: &Fake, repository: &str, tags: &[&str]) {
    let list = serde_json::json!({"name": repository, "tags": tags}).to_string();
    upstream.at(format!("/v2/{repository}/tags/list"), move |_| {
        typed("application/json", list.clone())
    });
}

/// The catalogue, in pages of so many names.
fn pages(upstream: &Fake, repositories: &[String], most: usize) {
    let repositories = repositories.to_vec();
    upstream.at("/v2/_catalog", move |seen| {
        let last = seen.target.split("last=").nth(1).unwrap_or_default();
        let n = repositories
            .iter()
            .position(|name| name == last)
            .map_or(0, |n| n + 1);
        let end = (n + most).min(repositories.len());
        let mut page = typed(
            "application/json",
            serde_json::json!({"repositories": repositories[n..end]}).to_string(),
        );
        if end < repositories.len() {
            let last = &repositories[end - 1];
            let link = format!("</v2/_catalog?n={most}&last={last}>; rel=\"next\"");
            page.headers_mut()
                .insert(header::LINK, HeaderValue::try_from(link).unwrap());
        }
        page
    });
}

/// Requests for content, and about blobs.
fn is_of_content(seen: &Seen) -> bool {
    seen.target.contains("/blobs/") || (seen.method == "GET" && seen.target.contains("/manifests/"))
}

fn gets(upstream: &Fake) -> usize {
    upstream.seen().iter().filter(|seen| is_of_content(seen)).count()
}

/// Waits for as long as upstream is asked for more and more.
async fn while_it_goes_on(upstream: &Fake, what: &str, holds: impl Fn(&[Seen]) -> bool) {
    let mut before = 0;
    loop {
        eventually(what, || async {
            let seen = upstream.seen();
            holds(&seen) || seen.len() > before
        })
        .await;
        let seen = upstream.seen();
        if holds(&seen) {
            return;
        }
        before = seen.len();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The visits to a repository, as upstream saw them: the tags that were looked at in each, after the list of them was read.
fn visits(seen: &[Seen], repository: &str) -> Vec<Vec<String>> {
    let (list, manifests) = (
        format!("/v2/{repository}/tags/list?"),
        format!("/v2/{repository}/manifests/"),
    );
    let mut visits: Vec<Vec<String>> = Vec::new();
    for seen in seen {
        if seen.target.starts_with(&list) {
            visits.push(Vec::new());
        }
        if let ("HEAD", Some(tag)) = (seen.method.as_str(), seen.target.strip_prefix(&manifests)) {
            // Of what refers to a manifest, too.
            if !tag.starts_with("sha256-") {
                visits.last_mut().unwrap().push(tag.to_owned());
            }
        }
    }
    visits
}

/// Repositories, and tags of each.
fn size() -> (usize, usize) {
    if thorough() { (200, 20) } else { (24, 4) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_repository_is_one_members_at_a_time_and_of_what_has_not_changed_only_tags_are_looked_at() {
    let upstream = Fake::start().await;
    let (repositories, tags_each) = size();
    let repositories: Vec<_> = (0..repositories).map(|n| format!("many/{n}")).collect();
    let names: Vec<_> = (0..tags_each).map(|n| format!("v{n}")).collect();
    for repository in &repositories {
        for tag in &names {
            Image::named(&format!("{repository} {tag}"), &[500]).serve(&upstream, repository, tag);
        }
        tags(
            &upstream,
            repository,
            &names.iter().map(String::as_str).collect::<Vec<_>>(),
        );
    }
    pages(&upstream, &repositories, 10);
    let registry = format!(
        "{{urls: [\"{}\"], pollInterval: 3s, syncLegacyCosignTags: false, content: [{{prefix: 'many/*', destination: far}}]}}",
        upstream.url()
    );
    let mut mesh = mirror(sync(&registry, "")).await;
    let visited = |seen: &[Seen], times: usize| {
        let often = |repository: &String| visits(seen, repository).len() >= times;
        repositories.iter().all(often)
    };
    // Who begins anew has ended what was before.
    while_it_goes_on(&upstream, "all are visited again", |seen| visited(seen, 2)).await;
    let (fetched, before) = (gets(&upstream), upstream.seen().len());
    for repository in &repositories {
        for tag in &names {
            let image = Image::named(&format!("{repository} {tag}"), &[500]);
            let here = get_manifest(&mesh.client(1), &format!("far/{repository}"), tag).await;
            here.expect(200).with_body(&image.manifest.bytes);
        }
    }
    while_it_goes_on(&upstream, "a further visit begins", |seen| {
        seen[before..]
            .iter()
            .any(|seen| seen.target.contains("/tags/list"))
    })
    .await;
    mesh.crash(0).await;
    let killed = upstream.seen().len();
    while_it_goes_on(&upstream, "all are visited by those who are left", |seen| {
        let twice = |repository: &String| visits(&seen[killed..], repository).len() >= 2;
        repositories.iter().all(twice)
    })
    .await;
    mesh.stop().await;
    assert_eq!(gets(&upstream), fetched, "content, once it was here");
    let mut cut = 0;
    for repository in &repositories {
        let visits = visits(&upstream.seen(), repository);
        let (_last, ended) = visits.split_last().unwrap();
        for looked in ended {
            let mut sorted = looked.clone();
            sorted.sort();
            let mut all = names.clone();
            all.sort();
            match sorted == all {
                true => {}
                false if looked.len() < names.len() => cut += 1,
                false => panic!("{repository}: {looked:?} in one visit"),
            }
        }
    }
    assert!(cut <= 1, "{cut} visits of one member were cut");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walk_that_upstream_ends_goes_on_and_what_fails_is_left_to_the_next_one() {
    let upstream = Fake::start().await;
    let registry = format!(
        "{{urls: [\"{}\"], pollInterval: 2s, maxRetries: 0, content: [{{prefix: 'cut/*'}}]}}",
        upstream.url()
    );
    let repositories = ["a", "b", "c"].map(|name| format!("cut/{name}"));
    let image = Image::named("cut", &[500]);
    for repository in &repositories {
        image.serve(&upstream, repository, "v1");
        tags(&upstream, repository, &["v1"]);
    }
    pages(&upstream, &repositories, 10);
    // It is down, then one tag isn't there as the list has it, and what refers to it can't be asked for at all.
    let broken = AtomicUsize::new(6);
    let list = serde_json::json!({"name": repositories[0], "tags": ["lost", "v1"]}).to_string();
    upstream.at(format!("/v2/{}/tags/list", repositories[0]), move |_| {
        let left = broken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        match left {
            Ok(_) => status(503),
            Err(_) => typed("application/json", list.clone()),
        }
    });
    let lost = manifest_path(&repositories[0], "lost");
    upstream.at(lost, |_| typed("text/html", "<html>"));
    for repository in &repositories {
        upstream.at(referrers(repository, &image), |_| typed("text/html", "<html>"));
    }
    let mesh = mirror(sync(&registry, "")).await;
    let client = mesh.client(1);
    for repository in &repositories {
        eventually("it comes in the end", || async {
            get_manifest(&client, repository, "v1").await.status == 200
        })
        .await;
        pull(&client, repository, "v1", &image).await;
    }
    eventually("what isn't a manifest is told of", || async {
        let told = client
            .get("/v2/_portolan/mirror".to_owned())
            .await
            .unwrap()
            .expect(200)
            .json();
        let trouble = &told["rules"][0]["troubles"][0];
        trouble["repository"] == "cut/a" && trouble["error"].as_str().unwrap().starts_with("lost: ")
    })
    .await;
    let lists = upstream.count("GET", &format!("/v2/{}/tags/list", repositories[0]));
    assert!(lists >= 7, "{lists} times asked");
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_refers_to_the_entries_of_an_index_comes_along_ahead_and_when_asked_for() {
    for how in ["onDemand: true", "pollInterval: 1s"] {
        let upstream = Fake::start().await;
        let registry = format!(
            "{{urls: [\"{}\"], {how}, manifestCheckInterval: 1h, content: [{{prefix: children}}]}}",
            upstream.url()
        );
        let (repository, image) = ("children", Image::named("child", &[500]));
        image.serve(&upstream, repository, "none");
        let index = Manifest::index([&image.manifest]).build();
        upstream.manifest(repository, "v1", &index);
        let blob = Blob::named("child signature", 50);
        let signature = Manifest::image(&blob, &[]).subject(&image.manifest).build();
        upstream.blob(repository, &blob);
        upstream.manifest(repository, &signature.digest, &signature);
        let list = Manifest::index([&signature]).build();
        upstream.at(referrers(repository, &image), move |_| {
            typed(INDEX, list.bytes.clone())
        });
        tags(&upstream, repository, &["v1"]);
        let mesh = mirror(sync(&registry, "")).await;
        let client = mesh.client(1);
        eventually("the index comes", || async {
            get_manifest(&client, repository, "v1").await.status == 200
        })
        .await;
        pull(&client, repository, &image.manifest.digest, &image).await;
        let layer = blob_path(repository, &blob.digest);
        eventually("what refers to its entry comes", || async {
            upstream.count("GET", &layer) == 1
        })
        .await;
        let listed = client
            .get(referrers(repository, &image))
            .await
            .unwrap()
            .expect(200);
        assert_eq!(
            listed.json()["manifests"][0]["digest"],
            signature.digest.as_str(),
            "{how}"
        );
        get_blob(&client, repository, &blob)
            .await
            .expect(200)
            .with_body(&blob.bytes);
        assert_eq!(upstream.count("GET", &layer), 1, "{how}");
        mesh.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_rules_name_comes_before_anybody_asks_and_later_rounds_only_look() {
    let upstream = Fake::start().await;
    let registry = format!(
        "{{urls: [\"{}\"], pollInterval: 1s, content: [{{prefix: '**', tags: {{regex: '^v'}}}}]}}",
        upstream.url()
    );
    let mesh = mirror(sync(&registry, "")).await;
    let repositories: Vec<_> = (0..MEMBERS)
        .map(|owner| mesh.names().owned_by(owner, &format!("ahead/of-{owner}")))
        .collect();
    let image = |repository: &str| Image::named(repository, &[1000, 300_000]);
    for repository in &repositories {
        image(repository).serve(&upstream, repository, "v1");
        image(repository).serve(&upstream, repository, "other");
        tags(&upstream, repository, &["other", "v1"]);
    }
    pages(&upstream, &repositories, 1);
    for (door, repository) in repositories.iter().enumerate() {
        let client = mesh.client((door + 1) % MEMBERS);
        eventually("it is here", || async {
            client.get(manifest_path(repository, "v1")).await.unwrap().status == 200
        })
        .await;
        pull(&client, repository, "v1", &image(repository)).await;
        get_manifest(&client, repository, "other")
            .await
            .error(404, "MANIFEST_UNKNOWN");
    }
    // All members tell the same, of all of them.
    for door in 0..MEMBERS {
        let client = mesh.client(door);
        eventually("every repository was visited", || async {
            let told = client
                .get("/v2/_portolan/mirror".to_owned())
                .await
                .unwrap()
                .expect(200)
                .json();
            let rule = &told["rules"][0];
            assert_eq!(
                (&rule["prefix"], &rule["failed"]),
                (&"**".into(), &0.into()),
                "{told}"
            );
            rule["repositories"] == MEMBERS && rule["tags"] == MEMBERS
        })
        .await;
    }
    let (asked, looked) = (gets(&upstream), manifest_path(&repositories[0], "v1"));
    let looks = upstream.count("HEAD", &looked);
    eventually("two further rounds", || async {
        upstream.count("HEAD", &looked) >= looks + 2
    })
    .await;
    assert_eq!(gets(&upstream), asked, "{:?}", upstream.seen());
    let moved = Image::named("ahead moved", &[500]);
    moved.serve(&upstream, &repositories[1], "v1");
    let client = mesh.client(0);
    eventually("it moves", || async {
        get_manifest(&client, &repositories[1], "v1").await.body == moved.manifest.bytes
    })
    .await;
    pull(&client, &repositories[1], "v1", &moved).await;
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_an_index_the_platforms_come_that_are_named_and_what_a_client_left_is_completed() {
    let upstream = Fake::start().await;
    let registry = format!(
        "{{urls: [\"{}\"], onDemand: true, pollInterval: 1s, platforms: [linux/arm64], content: [{{prefix: ahead/one}}]}}",
        upstream.url()
    );
    let mesh = mirror(sync(&registry, "")).await;
    let (repository, client) = ("ahead/one", mesh.client(1));
    let images = ["amd64", "arm64"].map(|name| Image::named(&format!("platform {name}"), &[500]));
    let entries: Vec<_> = images
        .iter()
        .zip(["amd64", "arm64"])
        .map(|(image, architecture)| {
            let mut entry = image.manifest.descriptor();
            entry["platform"] = serde_json::json!({"os": "linux", "architecture": architecture});
            entry
        })
        .collect();
    let index = Manifest::index([]).with("manifests", entries).build();
    for image in &images {
        image.serve(&upstream, repository, "none");
    }
    upstream.manifest(repository, "v1", &index);
    // Through a client, which takes no more of it.
    get_manifest(&client, repository, "v1")
        .await
        .expect(200)
        .with_body(&index.bytes);
    tags(&upstream, repository, &["v1"]);
    let layer = blob_path(repository, &images[1].layers[0].digest);
    eventually("the platform comes", || async {
        upstream.count("GET", &layer) == 1
    })
    .await;
    let other = manifest_path(repository, &images[0].manifest.digest);
    assert_eq!(upstream.count("GET", &other), 0, "the other doesn't");
    pull(&client, repository, &images[1].manifest.digest, &images[1]).await;
    pull(&client, repository, &images[0].manifest.digest, &images[0]).await;
    mesh.stop().await;
}

/// How an upstream tells what refers to a manifest.
#[derive(Clone, Copy, Debug)]
enum Told {
    Api,
    Tag,
    Cosign,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signatures_come_along_however_upstream_tells_of_them() {
    for told in [Told::Api, Told::Tag, Told::Cosign] {
        let upstream = Fake::start().await;
        let mesh = mirror(sync_from(&upstream.url(), "manifestCheckInterval: 1h")).await;
        let repository = mesh.names().owned_by(0, "signed");
        let client = mesh.client(1);
        let image = Image::named(&format!("signed {told:?}"), &[500]);
        image.serve(&upstream, &repository, "v1");
        let blob = Blob::named(&format!("signature {told:?}"), 50);
        let signature = Manifest::image(&blob, &[]).artifact_type("application/example");
        let signature = match told {
            Told::Cosign => signature.build(),
            Told::Api | Told::Tag => signature.subject(&image.manifest).build(),
        };
        upstream.blob(&repository, &blob);
        upstream.manifest(&repository, &signature.digest, &signature);
        let list = Manifest::index([&signature]).build();
        let schema = image.manifest.digest.replace(':', "-");
        let tag = format!("{schema}.sig");
        match told {
            Told::Api => {
                let (path, list) = (referrers(&repository, &image), list.bytes.clone());
                upstream.at(path, move |_| typed(INDEX, list.clone()));
            }
            Told::Tag => upstream.manifest(&repository, &schema, &list),
            Told::Cosign => upstream.manifest(&repository, &tag, &signature),
        }
        pull(&client, &repository, "v1", &image).await;
        eventually("it comes along", || async {
            upstream.count("GET", &blob_path(&repository, &blob.digest)) == 1
        })
        .await;
        // A repetition shares the answer of what is still under way.
        let listed = client
            .get(referrers(&repository, &image))
            .await
            .unwrap()
            .expect(200);
        let reference = match told {
            Told::Cosign => &tag,
            Told::Api | Told::Tag => {
                assert_eq!(listed.json()["manifests"][0]["digest"], signature.digest.as_str());
                &signature.digest
            }
        };
        get_manifest(&client, &repository, reference)
            .await
            .expect(200)
            .with_body(&signature.bytes);
        get_blob(&client, &repository, &blob)
            .await
            .expect(200)
            .with_body(&blob.bytes);
        assert_eq!(upstream.count("GET", &blob_path(&repository, &blob.digest)), 1);
        mesh.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_of_referrers_is_what_upstream_says_or_says_that_it_may_not_be() {
    let upstream = Fake::start().await;
    let mesh = mirror(sync_from(&upstream.url(), "maxRetries: 0")).await;
    let repository = mesh.names().owned_by(0, "asked");
    let image = Image::named("asked", &[500]);
    image.serve(&upstream, &repository, "v1");
    let path = referrers(&repository, &image);
    for door in 0..MEMBERS {
        pull(&mesh.client(door), &repository, "v1", &image).await;
        let none = mesh.client(door).get(path.clone()).await.unwrap().expect(200);
        none.lacks("warning");
    }
    // It is signed later.
    let blob = Blob::named("asked signature", 50);
    let signature = Manifest::image(&blob, &[]).subject(&image.manifest).build();
    upstream.blob(&repository, &blob);
    upstream.manifest(&repository, &signature.digest, &signature);
    let list = Manifest::index([&signature]).build();
    upstream.at(path.clone(), move |_| typed(INDEX, list.bytes.clone()));
    for door in 0..MEMBERS {
        let listed = mesh.client(door).get(path.clone()).await.unwrap().expect(200);
        assert_eq!(listed.json()["manifests"][0]["digest"], signature.digest.as_str());
    }
    type Lie = fn() -> http::Response<super::fake::Body>;
    let lies: [(&str, Lie); 4] = [
        ("no answer", || status(503)),
        ("HTML", || typed("text/html", "<html>")),
        ("another document", || typed(INDEX, "[]")),
        ("a private network", || redirect("http://10.0.0.1/")),
    ];
    for (what, lie) in lies {
        upstream.at(path.clone(), move |_| lie());
        for door in 0..MEMBERS {
            let listed = mesh.client(door).get(path.clone()).await.unwrap().expect(200);
            assert!(listed.must("warning").starts_with("111 "), "{what}: {listed}");
            assert_eq!(
                listed.json()["manifests"][0]["digest"],
                signature.digest.as_str(),
                "{what}"
            );
        }
    }
    mesh.stop().await;
}

fn referrers(repository: &str, image: &Image) -> String {
    format!("/v2/{repository}/referrers/{}", image.manifest.digest)
}
