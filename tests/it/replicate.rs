//! `extensions.replicate`: what changes in one mesh changes in another registry, in its order, whoever dies.

mod before;
mod orders;

use std::{collections::BTreeSet, net::SocketAddr, path::Path, time::Duration};

use portolan::{
    config::{self, ImmutableTags, Limits, Replicate},
    oci::{RepoPattern, TagPattern},
    registry::Immutable,
};
use serde_json::{Value, json};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    support::{
        client::{Ask as _, Client, Request},
        content::{Blob, Manifest},
        eventually,
        mesh::{MEMBERS, Mesh, Plan},
    },
    workload::{self, Kind, Ran, Workload},
};

/// Where a registry is that can be cut off.
struct Relay {
    address: SocketAddr,
    is_open: watch::Sender<bool>,
    _work: JoinSet<()>,
}

impl Relay {
    async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (is_open, opened) = watch::channel(true);
        let mut work = JoinSet::new();
        work.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(relayed(client, target, opened.clone()));
            }
        });
        Self {
            address,
            is_open,
            _work: work,
        }
    }
}

/// Carries bytes while the relay is open.
async fn relayed(mut client: TcpStream, target: SocketAddr, mut opened: watch::Receiver<bool>) {
    let carry = async {
        let mut server = TcpStream::connect(target).await.unwrap();
        let _ = copy_bidirectional(&mut client, &mut server).await;
    };
    tokio::select! {
        biased;
        _ = opened.wait_for(|is_open| !is_open) => {}
        () = carry => {}
    }
}

/// What a configuration says of one registry, after its urls.
fn replicate(target: &Mesh, more: &str) -> Replicate {
    replicate_to((0..MEMBERS).map(|n| target.door(n)), more)
}

fn replicate_to(doors: impl Iterator<Item = SocketAddr>, more: &str) -> Replicate {
    let urls: Vec<_> = doors.map(|door| format!("\"http://{door}\"")).collect();
    let text = format!(
        "extensions: {{replicate: {{registries: [{{urls: [{}], retryDelay: 10ms, {more}}}]}}}}\n\
         storage: {{rootDirectory: /nowhere}}",
        urls.join(", ")
    );
    let config = config::parse(Path::new("c.yaml"), &text).unwrap_or_else(|error| panic!("{error}"));
    config.replicate.unwrap()
}

fn hasten(limits: &mut Limits) {
    limits.leases.expiry = Duration::from_secs(2);
    limits.events.look_interval = Duration::from_millis(50);
    limits.events.pause_min = Duration::from_millis(10);
    limits.events.pause_max = Duration::from_millis(100);
    limits.replication.look_interval = Duration::from_millis(200);
    limits.replication.pause_max = Duration::from_millis(400);
}

/// A mesh whose changes are carried to `target`, and have begun to be.
async fn source(target: &Mesh, more: &str) -> Mesh {
    source_of(Plan::new(), target, more).await
}

async fn source_of(plan: Plan, target: &Mesh, more: &str) -> Mesh {
    begun(plan.replicate(replicate(target, more)).limits(hasten)).await
}

/// The mesh, once it carries what is committed.
async fn begun(plan: Plan) -> Mesh {
    let mesh = plan.start().await;
    eventually("the feeds are followed", || async {
        let metrics = mesh.metrics(0).await;
        metrics.has("portolan_replication_oldest_waiting_seconds")
    })
    .await;
    mesh
}

/// Waits until that came of a change, as the members count them.
async fn counted(source: &Mesh, outcome: &str) {
    eventually(outcome, || async {
        let mut changes = 0.0;
        for n in 0..MEMBERS {
            let metrics = source.metrics(n).await;
            changes += metrics.sum("portolan_replicated_changes_total", &[("outcome", outcome)]);
        }
        changes > 0.0
    })
    .await;
}

/// What a tag or digest names, through that client.
async fn named(client: &Client, repository: &str, reference: &str) -> Option<String> {
    let target = format!("/v2/{repository}/manifests/{reference}");
    let answer = client.ask(Request::head(target)).await.unwrap();
    match answer.status {
        404 => None,
        _ => Some(answer.expect(200).must("docker-content-digest")),
    }
}

/// The digests that a tag has named, the oldest first; `None` is nothing.
async fn history(client: &Client, repository: &str, tag: &str) -> Vec<Option<String>> {
    let target = format!("/v2/{repository}/_oci/tag-history/{tag}?n=1000");
    let answer = client.get(target).await.unwrap();
    if answer.status == 404 {
        return Vec::new();
    }
    let events = answer.expect(200).json();
    let events = events["manifests"].as_array().unwrap().iter().rev();
    let read = |event: &Value| {
        let kind = event["annotations"]["org.opencontainers.distribution.tag.event"]
            .as_str()
            .unwrap();
        (kind == "created").then(|| event["digest"].as_str().unwrap().to_owned())
    };
    events.map(read).collect()
}

/// How often `seen`, which begins nowhere, goes back in `whole`: else each comes after the one before.
fn returns(whole: &[Option<String>], seen: &[Option<String>]) -> usize {
    let (mut at, mut returns) = (0, 0);
    for one in seen {
        let rest = whole.get(at..).unwrap_or_default();
        match rest.iter().position(|other| other == one) {
            Some(further) => at += further + 1,
            None => {
                let first = whole.iter().position(|other| other == one);
                at = first.unwrap_or_else(|| panic!("{one:?} was never named: {whole:?}")) + 1;
                returns += 1;
            }
        }
    }
    returns
}

/// Waits until all tags name the same in both, and what they named is there in both or in neither.
async fn alike(source: &Client, target: &Client, repositories: &[String], tags: usize) {
    let tags = || (0..tags).map(|tag| format!("tag-{tag}"));
    let is_alike = async |repository: &str, reference: &str| {
        named(source, repository, reference).await == named(target, repository, reference).await
    };
    for repository in repositories {
        for tag in tags() {
            eventually("a tag names the same", || is_alike(repository, &tag)).await;
            let digests: BTreeSet<_> = history(source, repository, &tag)
                .await
                .into_iter()
                .flatten()
                .collect();
            for digest in digests {
                eventually("a manifest is in both or in neither", || {
                    is_alike(repository, &digest)
                })
                .await;
            }
        }
    }
}

fn work(seed: u64) -> (Workload, Vec<String>) {
    let repositories: Vec<String> = (0..6).map(|n| format!("replicated/r{n}")).collect();
    let workload = Workload {
        repositories: repositories.clone(),
        tags: 2,
        clients: 5,
        rounds: 200,
        stop: CancellationToken::new(),
        pause: Duration::from_millis(20),
        pushes: 6,
        layer: 5000,
        retries: 50,
        seed,
        ..Workload::default()
    };
    (workload, repositories)
}

/// Asserts that there was much to carry: images that came, tags that moved, and tags that were deleted.
fn assert_many(ran: &Ran<Client>) {
    let asked = ran.asked();
    let acknowledged = |kind| {
        let asked = asked
            .iter()
            .filter(|asked| asked.kind == kind && asked.fault.is_none());
        asked.count()
    };
    let (pushes, deletes) = (acknowledged(Kind::Push), acknowledged(Kind::Delete));
    println!("{pushes} pushes and {deletes} deletes were acknowledged");
    assert!(
        pushes + deletes >= 500 && deletes >= 50,
        "{pushes} pushes, {deletes} deletes"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_here_changes_there_in_its_order() {
    let target = Plan::new().start().await;
    let source = source(&target, "").await;
    let (workload, repositories) = work(15);
    let ran = workload::run(workload, source.clients()).await;
    assert_many(&ran);
    let (here, there) = (source.client(0), target.client(0));
    alike(&here, &there, &repositories, 2).await;
    for repository in &repositories {
        for tag in ["tag-0", "tag-1"] {
            let (whole, seen) = (
                history(&here, repository, tag).await,
                history(&there, repository, tag).await,
            );
            assert_eq!(
                returns(&whole, &seen),
                0,
                "{repository}:{tag}: {seen:?} of {whole:?}"
            );
        }
    }
    source.stop().await;
    target.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_dies_on_either_side_both_are_alike_in_the_end() {
    let mut target = Plan::new().limits(hasten).start().await;
    let mut source = source(&target, "").await;
    let (workload, repositories) = work(16);
    let doors: Vec<_> = (0..2).map(|n| source.client(n)).collect();
    let deaths = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        tokio::join!(source.crash(2), target.crash(0));
    };
    let (ran, ()) = tokio::join!(workload::run(workload, doors.clone()), deaths);
    assert_many(&ran);
    let there = target.client(1);
    alike(&doors[0], &there, &repositories, 2).await;
    for repository in &repositories {
        for tag in ["tag-0", "tag-1"] {
            let whole = history(&doors[0], repository, tag).await;
            let seen = history(&there, repository, tag).await;
            // What was carried and not noted by who died is carried again; so is what nobody knows to have been taken.
            assert!(
                returns(&whole, &seen) <= 4,
                "{repository}:{tag}: {seen:?} of {whole:?}"
            );
        }
    }
    source.stop().await;
    target.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_other_refuses_holds_up_nothing_else() {
    let rule = ImmutableTags {
        name: "kept".to_owned(),
        repositories: vec![RepoPattern::parse("mirror/kept").unwrap()],
        tags: vec![TagPattern::parse("v*").unwrap()],
        except: Vec::new(),
    };
    let target = Plan::new().immutable(Immutable::new(vec![rule])).start().await;
    let more = "content: [{prefix: \"team/**\", stripPrefix: true, destination: mirror, tags: {excludeRegex: \"^dev\"}}]";
    let source = source(&target, more).await;
    let (here, there) = (source.client(1), target.client(2));
    let config = Blob::named("config", 100);
    let image = |note: &str| Manifest::image(&config, &[]).annotation("note", note).build();
    let push = async |repository: &str, tag: &str, image: &Manifest| {
        here.push_blob(repository, &config).await.unwrap().expect(201);
        here.push_manifest(repository, tag, image)
            .await
            .unwrap()
            .expect(201);
    };
    let is_there = async |repository: &str, tag: &str, image: &Manifest| {
        eventually("it is there", || async {
            named(&there, repository, tag).await.as_deref() == Some(&image.digest)
        })
        .await;
    };
    push("team/kept", "v1", &image("one")).await;
    is_there("mirror/kept", "v1", &image("one")).await;
    // It may not move there.
    push("team/kept", "v1", &image("two")).await;
    for n in 0..40 {
        push(&format!("team/other-{n}"), "latest", &image("other")).await;
        push(&format!("team/other-{n}"), "dev", &image("dev")).await;
        push(&format!("else/other-{n}"), "latest", &image("other")).await;
    }
    for n in 0..40 {
        is_there(&format!("mirror/other-{n}"), "latest", &image("other")).await;
    }
    // What came later is brought, too, as far as it may be.
    push("team/kept", "w", &image("three")).await;
    counted(&source, "behind").await;
    assert_eq!(
        named(&there, "mirror/kept", "v1").await,
        Some(image("one").digest)
    );
    for n in 0..MEMBERS {
        let client = source.client(n);
        let told = async || {
            let told = client.get("/v2/_portolan/mirror".to_owned()).await.unwrap();
            told.expect(200).json()["registries"][0].clone()
        };
        eventually("nothing waits", || async {
            told().await["waitingSince"].is_null()
        })
        .await;
        let told = told().await;
        let trouble = &told["troubles"][0];
        assert_eq!(
            (&told["behind"], &trouble["repository"]),
            (&json!(1), &json!("team/kept")),
            "{told}"
        );
        assert!(trouble["error"].as_str().unwrap().contains("kept"), "{told}");
    }
    // And is whole when nothing is refused any more.
    push("team/kept", "v1", &image("one")).await;
    is_there("mirror/kept", "w", &image("three")).await;
    counted(&source, "caught_up").await;
    for n in 0..40 {
        assert_eq!(named(&there, &format!("mirror/other-{n}"), "dev").await, None);
        assert_eq!(named(&there, &format!("else/other-{n}"), "latest").await, None);
    }
    source.stop().await;
    target.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_goes_with_all_that_it_lists_and_layers_are_mounted() {
    let target = Plan::new().start().await;
    let source = source(&target, "").await;
    let (here, there) = (source.client(0), target.client(1));
    let (config, layer) = (Blob::named("config", 100), Blob::named("layer", 300_000));
    for repository in ["a/one", "a/two"] {
        let children = ["amd64", "arm64"].map(|note| {
            Manifest::image(&config, &[&layer])
                .annotation("platform", note)
                .build()
        });
        let index = Manifest::index(&children).build();
        for blob in [&config, &layer] {
            here.push_blob(repository, blob).await.unwrap().expect(201);
        }
        for child in &children {
            here.push_manifest(repository, &child.digest, child)
                .await
                .unwrap()
                .expect(201);
        }
        here.push_manifest(repository, "t", &index)
            .await
            .unwrap()
            .expect(201);
        eventually("the index is there", || async {
            named(&there, repository, "t").await.as_deref() == Some(&index.digest)
        })
        .await;
        for child in &children {
            assert_eq!(
                named(&there, repository, &child.digest).await.as_deref(),
                Some(&*child.digest)
            );
        }
        let pulled = there
            .get(format!("/v2/{repository}/blobs/{}", layer.digest))
            .await
            .unwrap();
        pulled.expect(200).with_body(&layer.bytes);
    }
    source.stop().await;
    target.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_whole_here_is_passed_over_where_it_is_not_taken_so() {
    let target = Plan::new().start().await;
    let plan = Plan::new().sparse_indexes(vec![RepoPattern::parse("**").unwrap()]);
    let source = source_of(plan, &target, "").await;
    let (here, there) = (source.client(0), target.client(1));
    let config = Blob::named("config", 100);
    let image = Manifest::image(&config, &[]).build();
    let sparse = Manifest::index([&image]).build();
    here.push_manifest("a/b", "sparse", &sparse)
        .await
        .unwrap()
        .expect(201);
    counted(&source, "incomplete").await;
    here.push_blob("a/b", &config).await.unwrap().expect(201);
    here.push_manifest("a/b", "whole", &image)
        .await
        .unwrap()
        .expect(201);
    eventually("what comes after it is there", || async {
        named(&there, "a/b", "whole").await.as_deref() == Some(&image.digest)
    })
    .await;
    assert_eq!(named(&there, "a/b", "sparse").await, None);
    // Now it is.
    here.push_manifest("a/b", "again", &sparse)
        .await
        .unwrap()
        .expect(201);
    eventually("it is there", || async {
        named(&there, "a/b", "again").await.as_deref() == Some(&sparse.digest)
    })
    .await;
    source.stop().await;
    target.stop().await;
}

/// While the other registry is away, images come, tags move, and tags and manifests are deleted, which were there before.
async fn away(what_becomes: impl FnOnce(&mut Limits)) {
    let target = Plan::new().start().await;
    let relay = Relay::to(target.door(0)).await;
    let config = replicate_to([relay.address].into_iter(), "maxRetries: 0");
    let source = begun(Plan::new().replicate(config).limits(hasten).limits(what_becomes)).await;
    let (here, there) = (source.client(0), target.client(1));
    let blob = Blob::named("config", 100);
    let image = |note: &str| Manifest::image(&blob, &[]).annotation("note", note).build();
    let names: Vec<String> = (0..6).map(|n| format!("away/r{n}")).collect();
    let push = async |name: &str, tag: &str, image: &Manifest| {
        here.push_blob(name, &blob).await.unwrap().expect(201);
        here.push_manifest(name, tag, image).await.unwrap().expect(201);
    };
    let delete = async |name: &str, reference: &str| {
        let target = format!("/v2/{name}/manifests/{reference}");
        here.ask(Request::delete(target)).await.unwrap().expect(202);
    };
    let (kept, gone) = (image("kept"), image("gone"));
    for name in &names {
        for (tag, image) in [("kept", &kept), ("lost", &kept), ("gone", &gone)] {
            push(name, tag, image).await;
        }
        eventually("it is there", || async {
            named(&there, name, "gone").await.is_some()
        })
        .await;
    }
    relay.is_open.send_replace(false);
    for name in &names {
        push(name, "moved", &kept).await;
        push(name, "moved", &image("new")).await;
        delete(name, "lost").await;
        delete(name, &gone.digest).await;
    }
    let waits = async || {
        let told = here.get("/v2/_portolan/mirror".to_owned()).await.unwrap();
        told.expect(200).json()["registries"][0]["behind"]
            .as_u64()
            .unwrap()
    };
    eventually("all are behind", || async { waits().await == names.len() as u64 }).await;
    relay.is_open.send_replace(true);
    eventually("none is behind", || async { waits().await == 0 }).await;
    for name in &names {
        for (reference, digest) in [
            ("kept", Some(&kept.digest)),
            ("moved", Some(&image("new").digest)),
            ("lost", None),
            ("gone", None),
            (&*gone.digest, None),
        ] {
            assert_eq!(
                named(&there, name, reference).await.as_ref(),
                digest,
                "{name} {reference}"
            );
        }
    }
    source.stop().await;
    target.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_was_away_for_long_is_brought_what_it_missed() {
    away(|limits| {
        limits.events.kept = Duration::from_millis(100);
        limits.events.failing = Duration::from_millis(100);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_gone_from_the_feed_is_brought_all_the_same() {
    away(|limits| {
        limits.registry.clock_margin = Duration::ZERO;
        limits.registry.feed_kept = Duration::from_millis(100);
        limits.registry.feed_kept_longest = Duration::from_millis(100);
        limits.changes.trim_interval = Duration::from_millis(200);
        limits.changes.trim_again = Duration::from_millis(200);
    })
    .await;
}
