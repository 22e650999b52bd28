//! What policies don't keep goes, and nothing else, whoever changes the repository meanwhile. What they keep is in `cases`.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;

use super::{super::testing::*, *};
use crate::{
    config,
    oci::{MediaType, Page, Reference},
    registry::{Asked, PutManifest},
    storage::{Expect, MetaStore as _, faulty::FaultRates},
};

fn retention(keys: &str) -> Retention {
    let text = format!("storage: {{rootDirectory: /d, retention: {{delay: 0s, {keys}}}}}");
    config::parse(Path::new("c.yaml"), &text).unwrap().retention
}

const NEWEST: &str = "policies: [{repositories: ['**'], keepTags: [{mostRecentlyPushedCount: 2}]}]";

/// Pushes an image of its own under each of the tags, one after the other.
async fn tagged(registry: &Registry, name: &RepoName, tags: &[&str]) {
    for text in tags {
        let blob = push(registry, name, b"{}").await;
        let body = image(&[&blob], text);
        let reference = Reference::Tag(tag(text));
        registry.put_manifest(put(name, &reference, &body)).await.unwrap();
        // Times are in milliseconds.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn tags_of(registry: &Registry, name: &RepoName) -> Vec<String> {
    registry.tags(name, &Page::default()).await.unwrap().names
}

async fn manifests_of(world: &World, name: &RepoName) -> u64 {
    let row = world.meta.get(&keys::repository(name)).await.unwrap().unwrap();
    row::read::<rows::Repository>(&row).unwrap().manifests
}

async fn holder(world: &World, name: &RepoName) -> String {
    let row = world.meta.get(&keys::repository(name)).await.unwrap().unwrap();
    row::read::<rows::Repository>(&row).unwrap().holder
}

#[tokio::test]
async fn what_no_policy_keeps_goes_with_its_manifest_and_the_repository_stays_where_it_is() {
    let world = World::new();
    let (one, two, name) = (world.member(1), world.member(2), repo("a"));
    tagged(&one, &name, &["a", "b", "c", "d"]).await;
    // One more tag of a manifest that stays.
    let kept = image(&[&push(&one, &name, b"{}").await], "d");
    let late = Reference::Tag(tag("late"));
    one.put_manifest(put(&name, &late, &kept)).await.unwrap();
    let dry = Retention {
        dry_run: true,
        ..retention(NEWEST)
    };
    let would = two.retain(&name, &dry, "run").await.unwrap();
    assert_eq!((would.tags, would.manifests), (3, 3));
    assert_eq!(tags_of(&one, &name).await, ["a", "b", "c", "d", "late"]);
    let went = two.retain(&name, &retention(NEWEST), "run").await.unwrap();
    assert_eq!((went.tags, went.manifests, went.is_unfinished), (3, 3, false));
    assert_eq!(tags_of(&one, &name).await, ["d", "late"]);
    assert_eq!(manifests_of(&world, &name).await, 1);
    assert_eq!(holder(&world, &name).await, "127.0.0.1:5000");
    // The version is that of the row as it is, and there is nothing more to do.
    let versions = one.versions(&[name.clone(), repo("b")]).await.unwrap();
    assert_eq!(versions, [went.version, None]);
    let again = two.retain(&name, &retention(NEWEST), "run").await.unwrap();
    assert_eq!((again.tags, again.version), (0, went.version));
}

#[tokio::test]
async fn a_tag_goes_alone_where_its_manifest_has_another() {
    let world = World::new();
    let (one, name) = (world.member(1), repo("a"));
    tagged(&one, &name, &["x"]).await;
    let body = image(&[&push(&one, &name, b"{}").await], "x");
    let kept = Reference::Tag(tag("v1"));
    one.put_manifest(put(&name, &kept, &body)).await.unwrap();
    let by_pattern = retention("policies: [{repositories: ['**'], keepTags: [{patterns: [v]}]}]");
    let went = one.retain(&name, &by_pattern, "run").await.unwrap();
    assert_eq!((went.tags, went.manifests), (1, 0));
    assert_eq!(tags_of(&one, &name).await, ["v1"]);
    assert_eq!(one.manifest(&name, &kept).await.unwrap().1, body);
}

#[tokio::test]
async fn a_manifest_of_more_tags_than_a_transaction_takes_goes_with_all() {
    let world = World::new();
    let (one, name) = (world.member(1), repo("a"));
    tagged(&one, &name, &["x"]).await;
    let body = image(&[&push(&one, &name, b"{}").await], "x");
    let digest = Reference::Digest(sha256(&body));
    let tags: Vec<_> = (0..100).map(|n| tag(&format!("x{n}"))).collect();
    for tags in tags.chunks(30) {
        let push = PutManifest {
            tags,
            ..put(&name, &digest, &body)
        };
        one.put_manifest(push).await.unwrap();
    }
    tagged(&one, &name, &["v1"]).await;
    let by_pattern = retention("policies: [{repositories: ['**'], keepTags: [{patterns: [v]}]}]");
    let went = one.retain(&name, &by_pattern, "run").await.unwrap();
    assert_eq!((went.tags, went.manifests), (101, 1));
    assert_eq!(tags_of(&one, &name).await, ["v1"]);
}

/// A repository that clients and members change all the time.
#[tokio::test]
async fn what_is_pushed_meanwhile_stays_and_the_newest_are_always_there() {
    for round in 0..20 {
        let world = World::new();
        let members = [1, 2, 3].map(|n| Arc::new(world.member(n)));
        let name = repo("a");
        tagged(&members[0], &name, &["a", "b", "c", "d", "e"]).await;
        let moved = image(&[&push(&members[0], &name, b"{}").await], "moved");
        let policies = retention(NEWEST);
        let retains = members.iter().map(async |member| {
            for _ in 0..3 {
                match member.retain(&name, &policies, "run").await {
                    Ok(_) | Err(RegistryError::Contended) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
        });
        // A tag that would go is pushed anew, as something else.
        let reference = Reference::Tag(tag("a"));
        let pushes = async {
            for _ in 0..round % 7 {
                tokio::task::yield_now().await;
            }
            members[1].put_manifest(put(&name, &reference, &moved)).await
        };
        let (_, pushed) = tokio::join!(join_all(retains), pushes);
        pushed.unwrap();
        members[2].retain(&name, &policies, "run").await.unwrap();
        assert_eq!(tags_of(&members[0], &name).await, ["a", "e"], "round {round}");
        assert_eq!(members[0].manifest(&name, &reference).await.unwrap().1, moved);
        assert_eq!(manifests_of(&world, &name).await, 2);
    }
}

#[tokio::test]
async fn stores_that_fail_delay_it() {
    for seed in 0..10 {
        let world = World::with_faults(seed, FaultRates::each(0.05));
        let calm = world.settled().await;
        let name = repo("a");
        tagged(&calm, &name, &["a", "b", "c", "d"]).await;
        let member = world.member(1);
        for _ in 0..5 {
            let _ = member.retain(&name, &retention(NEWEST), "run").await;
            let tags = tags_of(&calm, &name).await;
            assert!(tags.ends_with(&["c".to_owned(), "d".to_owned()]), "{tags:?}");
        }
        let calm = world.settled().await;
        calm.retain(&name, &retention(NEWEST), "run").await.unwrap();
        assert_eq!(tags_of(&calm, &name).await, ["c", "d"]);
        assert_eq!(manifests_of(&world, &name).await, 2);
    }
}

/// An index, what it lists and what is about it.
#[tokio::test]
async fn what_an_index_lists_and_what_is_about_it_go_after_it() {
    let world = World::new();
    let (one, name) = (world.member(1), repo("a"));
    let blob = push(&one, &name, b"{}").await;
    let listed = image(&[&blob], "listed");
    let by_digest = |body: &Bytes| Reference::Digest(sha256(body));
    let listed_as = by_digest(&listed);
    one.put_manifest(put(&name, &listed_as, &listed)).await.unwrap();
    let descriptor = serde_json::json!({
        "mediaType": MediaType::IMAGE_MANIFEST, "digest": sha256(&listed).as_str(), "size": listed.len(),
    });
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": MediaType::IMAGE_INDEX, "manifests": [descriptor],
    });
    let v1 = Reference::Tag(tag("v1"));
    let index = Bytes::from(index.to_string());
    one.put_manifest(put(&name, &v1, &index)).await.unwrap();
    let everything = retention("policies: [{repositories: ['**'], keepTags: [{}]}]");
    let went = one.retain(&name, &everything, "run").await.unwrap();
    assert_eq!((went.tags, went.manifests), (0, 0));
    let nothing = retention("policies: [{repositories: ['**'], keepTags: [{patterns: [never]}]}]");
    let went = one.retain(&name, &nothing, "run").await.unwrap();
    assert_eq!((went.tags, went.manifests), (1, 2));
    assert_eq!(manifests_of(&world, &name).await, 0);
}

#[tokio::test]
async fn pulls_keep_a_tag_and_are_written_once_for_all_of_a_repository() {
    let world = World::new();
    let (one, two, name) = (world.member(1), world.member(2), repo("a"));
    tagged(&one, &name, &["a", "b", "c"]).await;
    let by_pull = retention("policies: [{repositories: ['**'], keepTags: [{mostRecentlyPulledCount: 1}]}]");
    // Nobody knows yet what was pulled.
    let went = one.retain(&name, &by_pull, "run").await.unwrap();
    assert!(went.lacks_pulls);
    assert_eq!(went.tags, 0);
    let digest = |text: &str| sha256(&image(&[&sha256(b"{}")], text));
    let before = one.versions(std::slice::from_ref(&name)).await.unwrap();
    for text in ["a", "b", "a"] {
        one.count_pull(&name, &digest(text));
    }
    tokio::time::sleep(Duration::from_millis(2)).await;
    two.count_pull(&name, &digest("b"));
    // Something that isn't there any more has no row.
    one.count_pull(&name, &digest("never"));
    world.calls.take();
    one.write_pulls().await.unwrap();
    // That pulls are recorded, what is recorded of them, whether the manifests live, the transaction, and that there was one, of which
    // nothing is old.
    assert_eq!(world.calls.take(), "answered×3 get_many×2 range×1 transact×3");
    two.write_pulls().await.unwrap();
    assert_eq!(world.calls.take(), "answered×3 get_many×1 range×1 transact×3");
    one.write_pulls().await.unwrap();
    assert_eq!(world.calls.take(), "", "nothing is left to write");
    let pulls = async |text: &str| {
        let row = world.meta.get(&keys::pull(&name, &digest(text))).await.unwrap();
        row.map(|row| row::read::<rows::Pull>(&row).unwrap().pulls)
    };
    assert_eq!((pulls("a").await, pulls("b").await), (Some(2), Some(2)));
    assert_eq!((pulls("c").await, pulls("never").await), (None, None));
    let asked = Asked {
        downloads: std::slice::from_ref(&name),
        ..Asked::default()
    };
    assert_eq!(one.told(asked).await.unwrap().downloads, [4]);
    assert_eq!(one.versions(std::slice::from_ref(&name)).await.unwrap(), before);
    // Nor for how long not.
    let went = one.retain(&name, &by_pull, "run").await.unwrap();
    assert_eq!((went.tags, went.lacks_pulls), (0, true));
    let since = rows::PullsSince {
        min_reader: rows::SCHEMA,
        since_ms: 1,
    };
    let op = keys::pulls_since().put(Expect::Any, row::bytes(&since));
    world.meta.transact(Version::random(), &[op]).await.unwrap();
    let went = one.retain(&name, &by_pull, "run").await.unwrap();
    assert_eq!((went.tags, went.lacks_pulls), (2, false));
    assert_eq!(tags_of(&one, &name).await, ["b"]);
}

#[tokio::test]
async fn pulls_are_bounded_in_memory_and_kept_while_they_cant_be_written() {
    let mut world = World::with_faults(1, FaultRates::default());
    let plan = world.faults.clone().unwrap();
    world.settings.limits.pulls_counted = 2;
    let (one, name) = (world.member(1), repo("a"));
    tagged(&one, &name, &["a", "b", "c"]).await;
    let digest = |text: &str| sha256(&image(&[&sha256(b"{}")], text));
    for text in ["a", "b", "c"] {
        one.count_pull(&name, &digest(text));
    }
    plan.set_rates(FaultRates {
        unavailable: 1.0,
        ..FaultRates::default()
    });
    one.write_pulls().await.unwrap_err();
    plan.set_rates(FaultRates::default());
    one.write_pulls().await.unwrap();
    let is_written = async |text: &str| {
        let key = keys::pull(&name, &digest(text));
        world.meta.get(&key).await.unwrap().is_some()
    };
    assert!(is_written("a").await && is_written("b").await);
    assert!(!is_written("c").await);
}

#[tokio::test]
async fn a_run_names_what_is_included_and_its_pages_depend_on_nothing_else() {
    let world = World::new();
    let one = world.member(1);
    for name in ["a", "b/1", "b/2", "c", "b/3", "z"] {
        one.note_run("run", &repo(name)).await.unwrap();
    }
    one.note_run("other", &repo("b/4")).await.unwrap();
    let included = |name: &RepoName| name.as_str().starts_with("b/");
    for limit in [1, 2, 3, 100] {
        let (mut found, mut page) = (Vec::new(), Page { limit, last: None });
        loop {
            let names = one.repositories_of_run("run", &page, &included).await.unwrap();
            assert!(names.names.len() <= limit && names.names.iter().all(|name| name.starts_with("b/")));
            page.last = names.names.last().cloned();
            found.extend(names.names);
            if !names.more {
                break;
            }
        }
        assert_eq!(found, ["b/1", "b/2", "b/3"], "{limit}");
    }
    let none = one
        .repositories_of_run("run", &Page { limit: 1, last: None }, &|_| false)
        .await;
    assert_eq!(none.unwrap(), super::super::Names::default());
}

#[tokio::test]
async fn a_part_of_a_run_is_forgotten_by_when_it_was_noted_and_not_by_when_the_run_began() {
    const HOUR: u64 = 60 * 60 * 1000;
    let mut world = World::new();
    world.settings.limits.history = Duration::from_secs(2 * 60 * 60);
    world.settings.limits.clock_margin = Duration::ZERO;
    let one = world.member(1);
    let long_ago = format!("{:012x}000000", clock::now_ms() - 3 * HOUR);
    let part = |name: String, noted_ms| {
        let part = rows::RunPart {
            min_reader: rows::SCHEMA,
            noted_ms,
        };
        keys::run_part(&long_ago, &repo(&name)).put(Expect::Any, row::bytes(&part))
    };
    // More than are looked at together.
    for n in 0..250 {
        let noted_ms = clock::now_ms() - if n % 2 == 0 { 3 * HOUR } else { HOUR };
        let op = part(format!("n{n:03}"), noted_ms);
        world.meta.transact(Version::random(), &[op]).await.unwrap();
    }
    one.note_run(&new_run(), &repo("new")).await.unwrap();
    one.forget_runs().await.unwrap();
    let found = world
        .meta
        .range(Space::Repositories, keys::RUNS, "", None, 1000)
        .await
        .unwrap();
    let left: Vec<_> = found
        .entries
        .iter()
        .map(|entry| entry.sort.split_once('#').unwrap().1.to_owned())
        .collect();
    let mut expected: Vec<_> = (0..250)
        .filter(|n| n % 2 == 1)
        .map(|n| format!("n{n:03}"))
        .collect();
    expected.push("new".to_owned());
    assert_eq!(left, expected);
}
