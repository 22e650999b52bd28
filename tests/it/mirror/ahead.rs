//! Mirroring ahead of time: who visits what, and when.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use portolan::{
    app::Stores,
    placement::HashKey,
    storage::{Key, MemoryMeta, MetaStore, Op, Outcome, Page, Row, Space, StoreError, Version},
};
use tokio::{net::TcpStream, process::Command, sync::watch};

use super::{
    Image,
    fake::{Fake, Seen, blob_path, manifest_path, pages, status, tags, typed},
    get_manifest, mirror, plan, pull, sync,
};
use crate::{
    api::Names,
    support::{
        PATIENCE,
        client::Ask as _,
        command::run,
        content::Manifest,
        eventually,
        mesh::{HASH_KEY, MEMBERS, memory},
        thorough,
    },
};

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

/// The visits to a repository, as upstream saw them begin: the tags that were looked at in each, after the list of them was read.
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
            // It looks for what refers to a manifest, too; and of a visit that had begun before there is only the rest.
            if let Some(visit) = visits.last_mut()
                && !tag.starts_with("sha256-")
            {
                visit.push(tag.to_owned());
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
    let plan = plan(memory(), sync(&registry, "")).limits(|limits| {
        // Nothing is asked twice because this machine is slow.
        limits.upstream.answer = PATIENCE;
        limits.upstream.look = PATIENCE;
    });
    let mut mesh = plan.start().await;
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
    // Who ends cuts the one that it is at, and nobody takes on what the last one cuts.
    assert!(cut < MEMBERS, "{cut} visits were cut");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_member_is_at_that_leaves_is_nobody_elses_until_it_ends() {
    let upstream = Fake::start().await;
    let registry = format!(
        "{{urls: [\"{}\"], pollInterval: 4s, content: [{{prefix: 'leaving/*'}}]}}",
        upstream.url()
    );
    let plan = plan(memory(), sync(&registry, "")).limits(|limits| {
        // Nothing but the gate ends the fetch.
        limits.upstream.stall = 10 * PATIENCE;
    });
    let mut mesh = plan.start().await;
    let (all, rest) = (
        mesh.names(),
        Names::new(&mesh.members[1..], HashKey::new(HASH_KEY)),
    );
    // The first member's, and the second's when the first is gone.
    let [begun, other] = ["begun", "other"].map(|name| {
        let names = (0..1000).map(|n| all.owned_by(0, &format!("leaving/{name}-{n}")));
        let mut names = names.filter(|name| rest.owner(&name.parse().unwrap()) == 0);
        names.next().unwrap()
    });
    let image = Image::named("leaving", &[100_000]);
    for repository in [&begun, &other] {
        image.serve(&upstream, repository, "v1");
        tags(&upstream, repository, &["v1"]);
    }
    let gate = upstream.gated_blob(&begun, &image.layers[0], 1000);
    pages(&upstream, &[begun.clone(), other.clone()], 10);
    let lists = || upstream.count("GET", &format!("/v2/{begun}/tags/list"));
    eventually("a visit begins", || async { lists() == 1 }).await;
    mesh.leave(0).await;
    let client = mesh.client(1);
    eventually("the other one comes through who passed by the first", || async {
        get_manifest(&client, &other, "v1").await.status == 200
    })
    .await;
    assert_eq!(lists(), 1, "somebody is at it");
    // It waits for the fetch, which clients might want, but not for the visit.
    let begun_anew = async {
        eventually("it is begun anew", || async { lists() == 2 }).await;
        gate.send_replace(true);
    };
    let (cut, ()) = tokio::join!(mesh.end(0, PATIENCE), begun_anew);
    assert_eq!(cut, []);
    eventually("it comes", || async {
        get_manifest(&client, &begun, "v1").await.status == 200
    })
    .await;
    pull(&client, &begun, "v1", &image).await;
    mesh.stop().await;
}

/// Rows of which the second that notes a visit waits at a gate: that the first visit is over.
struct Gated {
    rows: MemoryMeta,
    visits: AtomicUsize,
    gate: watch::Sender<bool>,
}

#[async_trait]
impl MetaStore for Gated {
    async fn get(&self, key: &Key) -> Result<Option<Row>, StoreError> {
        self.rows.get(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Row>>, StoreError> {
        self.rows.get_many(keys).await
    }

    async fn snapshot(&self, keys: &[Key]) -> Result<Vec<Option<Row>>, StoreError> {
        self.rows.snapshot(keys).await
    }

    async fn range(
        &self,
        space: Space,
        partition: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.rows.range(space, partition, prefix, after, limit).await
    }

    async fn transact(&self, version: Version, ops: &[Op]) -> Result<Outcome, StoreError> {
        let is_of_visit = ops.iter().any(|op| op.key.partition.starts_with("_visits#"));
        if is_of_visit && self.visits.fetch_add(1, Ordering::SeqCst) == 1 {
            let _ = self.gate.subscribe().wait_for(|is_open| *is_open).await;
        }
        self.rows.transact(version, ops).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_ends_between_two_visits_says_of_no_other_that_it_was_begun() {
    let upstream = Fake::start().await;
    let registry = format!(
        "{{urls: [\"{}\"], pollInterval: 1h, content: [{{prefix: 'ending/*'}}]}}",
        upstream.url()
    );
    let meta = Arc::new(Gated {
        rows: MemoryMeta::default(),
        visits: AtomicUsize::new(0),
        gate: watch::Sender::new(false),
    });
    let stores = Stores {
        meta: meta.clone(),
        blobs: memory().blobs,
    };
    let mut mesh = plan(stores, sync(&registry, "")).start().await;
    let repositories = ["a", "b", "c"].map(|name| mesh.names().owned_by(0, &format!("ending/{name}")));
    for repository in &repositories {
        tags(&upstream, repository, &[]);
    }
    pages(&upstream, &repositories, 10);
    let noted = || meta.visits.load(Ordering::SeqCst);
    eventually("a visit is over", || async { noted() == 2 }).await;
    // There is nobody to leave the others to, so they stay its own.
    upstream.at("/v2/_catalog", |_| status(503));
    for other in 1..MEMBERS {
        assert_eq!(mesh.end(other, PATIENCE).await, []);
    }
    let door = mesh.door(0);
    let opened = async {
        eventually("it ends", || async { TcpStream::connect(door).await.is_err() }).await;
        meta.gate.send_replace(true);
    };
    let (cut, ()) = tokio::join!(mesh.end(0, PATIENCE), opened);
    assert_eq!(cut, []);
    assert_eq!(noted(), 2);
    mesh.stop().await;
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
        let referrers = format!("/v2/{repository}/referrers/{}", image.manifest.digest);
        upstream.at(referrers, |_| typed("text/html", "<html>"));
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
    for door in 0..MEMBERS {
        let server = format!("http://{}", mesh.door(door));
        // A visit that is under way has had no trouble yet.
        eventually("so does the command", || async {
            let mut command = Command::new(env!("CARGO_BIN_EXE_portolan"));
            command
                .args(["sync", "status", "--server", &server])
                .kill_on_drop(true);
            let output = run(command).await;
            let told = String::from_utf8(output.stdout).unwrap();
            assert!(told.contains(": cut/*, every 2 s\n"), "{told}");
            output.status.code() == Some(1) && told.contains("  cut/a: lost: ")
        })
        .await;
    }
    let lists = upstream.count("GET", &format!("/v2/{}/tags/list", repositories[0]));
    assert!(lists >= 7, "{lists} times asked");
    mesh.stop().await;
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
