//! Who owns what, and what happens when members don't agree, or one isn't there.

use std::{sync::Arc, time::Duration};

use portolan::{
    app::Stores,
    storage::{
        MemoryBlobs, MemoryMeta,
        faulty::{FaultPlan, FaultRates, FaultyMeta},
    },
};
use tokio::task::JoinSet;

use crate::{
    support::{
        client::{Answer, Ask as _, Client, Request},
        content::{Blob, Manifest, Random, run_seed},
        mesh::{MEMBERS, Mesh, OTHER_HASH_KEY, Plan},
    },
    workload::{self, Workload},
};

async fn config(mesh: &Mesh, repository: &str) -> Blob {
    let config = Blob::named(repository, 100);
    mesh.client(0)
        .push_blob(repository, &config)
        .await
        .unwrap()
        .expect(201);
    config
}

/// A mesh in which no two members rank owners alike.
async fn in_disagreement() -> Mesh {
    let keys = [*b"loremipsumdolors", OTHER_HASH_KEY, *b"adipiscingelitse"];
    Plan::new().hash_keys(keys).start().await
}

/// A mesh whose members don't reach each other, so that each of them serves, and changes, every repository itself. Its
/// store takes its time, so that changes meet.
async fn cut_off() -> Mesh {
    let rates = FaultRates {
        delayed: 0.5,
        longest_delay: Duration::from_millis(3),
        ..FaultRates::default()
    };
    let plan = FaultPlan::new(1, rates);
    let stores = Stores {
        meta: Arc::new(FaultyMeta::new(Arc::new(MemoryMeta::default()), plan)),
        blobs: Arc::new(MemoryBlobs::new()),
    };
    Plan::over(stores).cut_off().start().await
}

/// Asks until the registry doesn't say any more that too much changes at once.
async fn insist(door: &Client, request: Request) -> Answer {
    for _ in 0..100 {
        let answer = door.ask(request.clone()).await.unwrap();
        if answer.status != 503 {
            return answer;
        }
    }
    panic!("asked in vain: {request}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_moved_through_one_member_is_moved_in_the_next_read_through_any_other() {
    let mesh = Mesh::of_three().await;
    let doors = mesh.clients();
    for owner in 0..MEMBERS {
        let repository = mesh.names().owned_by(owner, "moving");
        let config = config(&mesh, &repository).await;
        let tag = format!("/v2/{repository}/manifests/latest");
        for round in 0..60 {
            let manifest = Manifest::image(&config, &[])
                .annotation("round", &round.to_string())
                .build();
            let writer = round % MEMBERS;
            doors[writer]
                .push_manifest(&repository, "latest", &manifest)
                .await
                .unwrap()
                .expect(201);
            for reader in 1..=MEMBERS {
                let door = &doors[(writer + reader) % MEMBERS];
                let read = if round % 2 == 0 {
                    door.head(tag.clone()).await
                } else {
                    door.get(tag.clone()).await
                };
                read.unwrap()
                    .expect(200)
                    .with("docker-content-digest", &manifest.digest);
            }
            if round % 3 == 0 {
                let by_digest = format!("/v2/{repository}/manifests/{}", manifest.digest);
                let deleted = if round % 2 == 0 { &tag } else { &by_digest };
                doors[(writer + 1) % MEMBERS]
                    .delete(deleted.clone())
                    .await
                    .unwrap()
                    .expect(202);
                for reader in 0..MEMBERS {
                    doors[(writer + 2 + reader) % MEMBERS]
                        .get(tag.clone())
                        .await
                        .unwrap()
                        .expect(404);
                }
            }
        }
    }
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_deleted_through_one_member_is_gone_in_the_next_read_through_any_other() {
    let mesh = Mesh::of_three().await;
    let doors = mesh.clients();
    let repository = mesh.names().owned_by(1, "blobs");
    for round in 0..30 {
        let blob = Blob::named(&format!("round {}", round % 4), 500);
        let target = format!("/v2/{repository}/blobs/{}", blob.digest);
        doors[round % MEMBERS]
            .push_blob(&repository, &blob)
            .await
            .unwrap()
            .expect(201);
        for reader in 1..=MEMBERS {
            doors[(round + reader) % MEMBERS]
                .get(target.clone())
                .await
                .unwrap()
                .expect(200)
                .with_body(&blob.bytes);
        }
        doors[(round + 1) % MEMBERS]
            .delete(target.clone())
            .await
            .unwrap()
            .expect(202);
        for reader in 0..MEMBERS {
            doors[(round + 2 + reader) % MEMBERS]
                .get(target.clone())
                .await
                .unwrap()
                .expect(404);
        }
    }
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_disagree_on_the_owner_lose_no_tag() {
    let mesh = in_disagreement().await;
    let refused = push_at_once(&mesh.clients(), &["one", "two/three"]).await;
    assert_eq!(refused, [0; 0], "none is refused");
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_cut_off_from_each_other_lose_no_tag() {
    let mesh = cut_off().await;
    let refused = push_at_once(&mesh.clients(), &["one", "two/three"]).await;
    println!("{} pushes were refused", refused.len());
    assert!(refused.iter().all(|status| *status == 503), "{refused:?}");
    mesh.stop().await;
}

/// How many tags are pushed at once.
pub(crate) const TAGS: usize = 400;

/// Pushes hundreds of tags through all these doors at once, and asserts that those are there that were acknowledged. Gives
/// the statuses of the others.
pub(crate) async fn push_at_once(doors: &[Client], repositories: &[&str]) -> Vec<u16> {
    let mut pushes = JoinSet::new();
    for repository in repositories {
        let config = Blob::named(repository, 100);
        doors[0].push_blob(repository, &config).await.unwrap().expect(201);
    }
    for n in 0..TAGS {
        let door = doors[n % doors.len()].clone();
        let repository = repositories[n / doors.len() % repositories.len()].to_owned();
        pushes.spawn(async move {
            let config = Blob::named(&repository, 100);
            let manifest = Manifest::image(&config, &[])
                .annotation("number", &n.to_string())
                .build();
            let answer = door
                .push_manifest(&repository, &format!("tag-{n}"), &manifest)
                .await
                .unwrap();
            (repository, format!("tag-{n}"), manifest.digest, answer)
        });
    }
    let pushed = pushes.join_all().await;
    let acknowledged: Vec<_> = pushed
        .iter()
        .filter(|(.., answer)| answer.status == 201)
        .collect();
    let mut reads = JoinSet::new();
    for door in doors {
        let (door, pushed) = (door.clone(), pushed.clone());
        reads.spawn(async move {
            for (repository, tag, digest, _) in pushed.iter().filter(|(.., answer)| answer.status == 201) {
                let target = format!("/v2/{repository}/manifests/{tag}");
                let answer = door.head(target).await.unwrap().expect(200);
                answer.with("docker-content-digest", digest);
            }
        });
    }
    reads.join_all().await;
    for repository in repositories {
        let mut expected: Vec<&String> = acknowledged
            .iter()
            .filter(|(of, ..)| of == repository)
            .map(|(_, tag, ..)| tag)
            .collect();
        expected.sort_unstable();
        for door in doors {
            let answer = door
                .get(format!("/v2/{repository}/tags/list"))
                .await
                .unwrap()
                .expect(200);
            assert_eq!(answer.json()["tags"], serde_json::json!(expected));
        }
    }
    assert!(acknowledged.len() > TAGS / 4, "some got through");
    let statuses = pushed.iter().map(|(.., answer)| answer.status);
    statuses.filter(|status| *status != 201).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_of_tags_is_true_although_members_disagree_on_the_owner() {
    let seed = run_seed("what_is_said_of_tags_is_true_although_members_disagree_on_the_owner");
    tell_the_truth(in_disagreement().await, seed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_of_tags_is_true_although_members_are_cut_off_from_each_other() {
    let seed = run_seed("what_is_said_of_tags_is_true_although_members_are_cut_off_from_each_other");
    tell_the_truth(cut_off().await, seed).await;
}

async fn tell_the_truth(mesh: Mesh, seed: u64) {
    let workload = Workload {
        repositories: vec!["one".into(), "two".into()],
        tags: 2,
        clients: 9,
        rounds: 60,
        pause: Duration::ZERO,
        seed,
        ..Workload::default()
    };
    let ran = workload::run(workload, mesh.clients()).await;
    println!("{:?}", ran.counts);
    ran.check().await;
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_of_tags_is_true_while_all_is_well() {
    let seed = run_seed("what_is_said_of_tags_is_true_while_all_is_well");
    let mesh = Mesh::of_three().await;
    let workload = Workload {
        repositories: (0..3)
            .map(|member| mesh.names().owned_by(member, "tags"))
            .collect(),
        tags: 2,
        clients: 9,
        rounds: 60,
        pause: Duration::ZERO,
        seed,
        ..Workload::default()
    };
    let ran = workload::run(workload, mesh.clients()).await;
    assert_eq!(ran.counts.unavailable, 0, "nothing fails here");
    ran.check().await;
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_serve_what_a_member_owned_that_is_gone() {
    let mut mesh = Mesh::of_three().await;
    let repository = mesh.names().owned_by(1, "left");
    let config = config(&mesh, &repository).await;
    let before = Manifest::image(&config, &[]).annotation("it", "was").build();
    mesh.client(1)
        .push_manifest(&repository, "v1", &before)
        .await
        .unwrap()
        .expect(201);
    mesh.end(1, Duration::from_secs(10)).await;
    for (n, door) in [0, 2, 0].into_iter().enumerate() {
        let door = mesh.client(door);
        let tag = format!("/v2/{repository}/manifests/v1");
        door.get(tag.clone()).await.unwrap().expect(200);
        let after = Manifest::image(&config, &[])
            .annotation("it", &format!("is {n}"))
            .build();
        door.push_manifest(&repository, "v1", &after)
            .await
            .unwrap()
            .expect(201);
        for reader in [0, 2] {
            mesh.client(reader)
                .get(tag.clone())
                .await
                .unwrap()
                .expect(200)
                .with_body(&after.bytes);
        }
        let blob = Blob::named(&format!("after {n}"), 200_000);
        door.push_blob_in_chunks(&repository, &blob, 70_000)
            .await
            .unwrap()
            .expect(201);
        let target = format!("/v2/{repository}/blobs/{}", blob.digest);
        door.get(target).await.unwrap().expect(200).with_body(&blob.bytes);
    }
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_goes_on_at_other_members_when_its_owner_is_gone() {
    let mut mesh = Mesh::of_three().await;
    let repository = mesh.names().owned_by(2, "left");
    let mut random = Random::seeded(1);
    let blob = Blob::new(random.bytes(300_000));
    let location = mesh
        .client(2)
        .start(&repository)
        .await
        .unwrap()
        .expect(202)
        .location();
    let chunk = |first: usize, end: usize| {
        crate::support::client::chunk(&location, first, blob.bytes.slice(first..end))
    };
    mesh.client(2).ask(chunk(0, 100_000)).await.unwrap().expect(202);
    mesh.end(2, Duration::from_secs(10)).await;
    mesh.client(0)
        .ask(chunk(100_000, 150_000))
        .await
        .unwrap()
        .expect(202)
        .with("range", "0-149999");
    mesh.client(1)
        .get(location.clone())
        .await
        .unwrap()
        .expect(204)
        .with("range", "0-149999");
    mesh.client(1)
        .ask(chunk(150_000, 300_000))
        .await
        .unwrap()
        .expect(202);
    let finish = crate::support::client::finish(&location, &blob.digest);
    mesh.client(0).ask(finish).await.unwrap().expect(201);
    let target = format!("/v2/{repository}/blobs/{}", blob.digest);
    mesh.client(1)
        .get(target)
        .await
        .unwrap()
        .expect(200)
        .with_body(&blob.bytes);
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_changed_by_all_members_at_once_ends_with_its_last_manifest() {
    for mesh in [in_disagreement().await, cut_off().await] {
        fill_and_empty(mesh).await;
    }
}

async fn fill_and_empty(mesh: Mesh) {
    let repository = "counted";
    let config = config(&mesh, repository).await;
    for _ in 0..3 {
        let manifests: Vec<Manifest> = (0..60)
            .map(|n| {
                Manifest::image(&config, &[])
                    .annotation("n", &n.to_string())
                    .build()
            })
            .collect();
        let mut pushes = JoinSet::new();
        for (n, manifest) in manifests.iter().cloned().enumerate() {
            let door = mesh.client(n % MEMBERS);
            pushes.spawn(async move {
                let target = format!("/v2/{repository}/manifests/{}", manifest.digest);
                let request = Request::put(target)
                    .header("content-type", &manifest.media_type)
                    .body(manifest.bytes);
                insist(&door, request).await.expect(201);
            });
        }
        pushes.join_all().await;
        let (last, others) = manifests.split_last().unwrap();
        let mut deletions = JoinSet::new();
        for (n, manifest) in others.iter().enumerate() {
            let door = mesh.client(n % MEMBERS);
            let target = format!("/v2/{repository}/manifests/{}", manifest.digest);
            deletions.spawn(async move { insist(&door, Request::delete(target)).await.expect(202) });
        }
        deletions.join_all().await;
        let door = mesh.client(0);
        let tags = format!("/v2/{repository}/tags/list");
        door.get(tags.clone()).await.unwrap().expect(200);
        let catalogue = door.get("/v2/_catalog".into()).await.unwrap().json();
        assert_eq!(catalogue["repositories"], serde_json::json!([repository]));
        let target = format!("/v2/{repository}/manifests/{}", last.digest);
        door.delete(target).await.unwrap().expect(202);
        door.get(tags).await.unwrap().error(404, "NAME_UNKNOWN");
        let catalogue = door.get("/v2/_catalog".into()).await.unwrap().json();
        assert_eq!(catalogue["repositories"], serde_json::json!([]));
    }
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_dangles_when_pushes_and_deletions_race() {
    for mesh in [in_disagreement().await, cut_off().await] {
        push_and_delete_at_once(mesh).await;
    }
}

async fn push_and_delete_at_once(mesh: Mesh) {
    let repository = "dangling";
    let base = config(&mesh, repository).await;
    let kept = Manifest::image(&base, &[]).build();
    mesh.client(0)
        .push_manifest(repository, "kept", &kept)
        .await
        .unwrap()
        .expect(201);
    for round in 0..80 {
        let config = Blob::named(&format!("config {round}"), 100);
        mesh.client(round % MEMBERS)
            .push_blob(repository, &config)
            .await
            .unwrap()
            .expect(201);
        let manifest = Manifest::image(&config, &[]).build();
        let index = Manifest::index([&manifest]).build();
        let door = |n: usize| mesh.client((round + n) % MEMBERS);
        let (first, second, third) = (door(0), door(1), door(2));
        let by_digest = format!("/v2/{repository}/manifests/{}", manifest.digest);
        let blob = format!("/v2/{repository}/blobs/{}", config.digest);
        if round % 2 == 0 {
            // A blob is deleted while a manifest that needs it is pushed.
            let (pushed, deleted) = tokio::join!(
                first.push_manifest(repository, "one", &manifest),
                second.delete(blob.clone())
            );
            match (pushed.unwrap().status, deleted.unwrap().status) {
                (201, 405) | (404, 202) => {}
                both => panic!("not one before the other: {both:?}"),
            }
        } else {
            // A manifest is deleted while tags and an index that name it are pushed.
            first
                .push_manifest(repository, &manifest.digest, &manifest)
                .await
                .unwrap()
                .expect(201);
            let (tagged, indexed, deleted) = tokio::join!(
                first.push_manifest(repository, "one", &manifest),
                second.push_manifest(repository, "index", &index),
                third.delete(by_digest.clone())
            );
            tagged.unwrap().expect(201);
            assert!(matches!(deleted.unwrap().status, 202 | 404 | 405));
            assert!(matches!(indexed.unwrap().status, 201 | 404));
        }
        // Whatever came first: what is named is there, and so is what that needs.
        let there = |target: String| async { first.head(target).await.unwrap().status == 200 };
        let has_manifest = there(by_digest.clone()).await;
        let tag = first
            .head(format!("/v2/{repository}/manifests/one"))
            .await
            .unwrap();
        if tag.status == 200 && tag.must("docker-content-digest") == manifest.digest {
            assert!(has_manifest, "round {round}: a tag names what isn't there");
        }
        if has_manifest {
            assert!(there(blob).await, "round {round}: a manifest's blob isn't there");
        }
    }
    mesh.stop().await;
}
