use futures_util::future::join_all;

use super::{super::testing::*, *};
use crate::{
    oci::Page,
    registry::{Blob, MountSource, Mounted},
    storage::{Expect, MetaStore as _, Space, Version, keys, rows},
};

pub(in crate::registry) fn by_tag(name: &str) -> Reference {
    Reference::Tag(tag(name))
}

pub(in crate::registry) fn by_digest(body: &[u8]) -> Reference {
    Reference::Digest(sha256(body))
}

pub(super) async fn tags_of(registry: &Registry, name: &RepoName) -> Vec<String> {
    registry.tags(name, &Page::default()).await.unwrap().names
}

pub(super) async fn catalog(registry: &Registry) -> Vec<String> {
    registry.catalog(&Page::default()).await.unwrap().names
}

/// A repository with a config, a layer, and an image of them.
pub(in crate::registry) async fn pushed_image(registry: &Registry, name: &RepoName, note: &str) -> Bytes {
    let config = push(registry, name, b"{}").await;
    let layer = push(registry, name, note.as_bytes()).await;
    image(&[&config, &layer], note)
}

/// An index of these images, about `subject`.
pub(in crate::registry) fn index(children: &[&Bytes], subject: Option<&Bytes>, note: &str) -> Bytes {
    let descriptor = |body: &Bytes| {
        serde_json::json!({
            "mediaType": MediaType::IMAGE_MANIFEST, "digest": sha256(body).as_str(), "size": body.len(),
        })
    };
    let mut document = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MediaType::IMAGE_INDEX,
        "artifactType": format!("application/vnd.test.{}", note.len() % 3),
        "manifests": children.iter().map(|child| descriptor(child)).collect::<Vec<_>>(),
        "annotations": { "note": note },
    });
    if let Some(subject) = subject {
        document["subject"] = descriptor(subject);
    }
    document.to_string().into()
}

pub(super) async fn repository_row(world: &World, name: &RepoName) -> Option<rows::Repository> {
    let found = world.meta.get(&keys::repository(name)).await.unwrap();
    found.map(|found| row::read(&found).unwrap())
}

#[tokio::test]
async fn a_manifest_is_there_by_tag_and_digest_from_any_member() {
    let world = World::new();
    let (one, two, name) = (world.member(1), world.member(2), repo("a/b"));
    for note in ["small", &"large".repeat(1000)] {
        let body = pushed_image(&one, &name, note).await;
        let pushed = one.put_manifest(put(&name, &by_tag("t"), &body)).await.unwrap();
        assert_eq!(
            pushed,
            Pushed {
                digest: sha256(&body),
                subject: None,
                tags: vec![]
            }
        );
        for reference in [by_tag("t"), by_digest(&body)] {
            let (descriptor, read) = two.manifest(&name, &reference).await.unwrap();
            assert_eq!(
                (read, &descriptor.digest, descriptor.size),
                (body.clone(), &sha256(&body), body.len() as u64)
            );
            assert_eq!(descriptor.media_type.as_str(), MediaType::IMAGE_MANIFEST);
            assert_eq!(
                two.describe_manifest(&name, &reference).await.unwrap(),
                descriptor
            );
        }
    }
    assert_eq!(tags_of(&two, &name).await, ["t"]);
    assert_eq!(catalog(&two).await, ["a/b"]);
    assert_eq!(repository_row(&world, &name).await.unwrap().manifests, 2);
    // The object of the large one is named by its row, and no due-row is left for it.
    let page = async |n| {
        world
            .meta
            .range(Space::Blobs, &keys::Queue::Upkeep.partition(n), "", None, 1000)
            .await
            .unwrap()
    };
    for n in 0..keys::DUE_PARTITIONS {
        assert!(
            page(n)
                .await
                .entries
                .iter()
                .all(|entry| !entry.sort.contains("#manifest-body#"))
        );
    }
}

#[tokio::test]
async fn what_a_manifest_refers_to_must_be_there() {
    let world = World::new();
    let (one, name) = (world.member(1), repo("a"));
    let layer = sha256(b"absent");
    let config = push(&one, &name, b"{}").await;
    push(&one, &repo("elsewhere"), b"absent").await;
    let body = image(&[&config, &layer], "");
    let missing = one.put_manifest(put(&name, &by_tag("t"), &body)).await;
    assert!(matches!(missing, Err(RegistryError::ManifestBlobUnknown { digest }) if digest == layer));

    let list = index(&[&body], None, "");
    let missing = one.put_manifest(put(&name, &by_tag("t"), &list)).await;
    assert!(matches!(missing, Err(RegistryError::ManifestBlobUnknown { digest }) if digest == sha256(&body)));
    assert!(matches!(
        one.tags(&name, &Page::default()).await,
        Err(RegistryError::NameUnknown)
    ));
    assert_eq!(catalog(&one).await, [""; 0]);

    assert_eq!(
        one.mount(&name, &layer, MountSource::Repository(&repo("elsewhere")))
            .await
            .unwrap(),
        Mounted::Linked
    );
    one.put_manifest(put(&name, &by_digest(&body), &body))
        .await
        .unwrap();
    one.put_manifest(put(&name, &by_tag("t"), &list)).await.unwrap();
    // A deleted child is absent.
    one.delete_manifest(delete(&name, &by_tag("t"))).await.unwrap();
    one.delete_manifest(delete(&name, &by_digest(&body)))
        .await
        .unwrap();
    let list = index(&[&body], None, "another");
    let missing = one.put_manifest(put(&name, &by_tag("t"), &list)).await;
    assert!(matches!(missing, Err(RegistryError::ManifestBlobUnknown { .. })));
}

#[tokio::test]
async fn an_index_of_hundreds_of_children_is_pushed_and_deleted() {
    let world = World::new();
    let (one, name) = (world.member(1), repo("a"));
    let config = push(&one, &name, b"{}").await;
    let mut children = Vec::new();
    for n in 0..250 {
        let body = image(&[&config], &n.to_string());
        one.put_manifest(put(&name, &by_digest(&body), &body))
            .await
            .unwrap();
        children.push(body);
    }
    let list = index(&children.iter().collect::<Vec<_>>(), None, "");
    world.calls.take();
    one.put_manifest(put(&name, &by_tag("t"), &list)).await.unwrap();
    // Row; 252 keys; due-row of the body, 250 references, the transaction itself.
    assert_eq!(world.calls.take(), "answered×5 get×1 get_many×3 put×1 transact×5");
    assert_eq!(one.manifest(&name, &by_tag("t")).await.unwrap().1, list);
    one.delete_manifest(delete(&name, &by_digest(&list)))
        .await
        .unwrap();
    assert_eq!(repository_row(&world, &name).await.unwrap().manifests, 250);
}

#[tokio::test]
async fn wrong_documents_are_refused() {
    let world = World::new();
    let (one, name) = (world.member(1), repo("a"));
    let body = pushed_image(&one, &name, "n").await;
    let refused = one.put_manifest(put(&name, &by_digest(b"other"), &body)).await;
    assert!(matches!(refused, Err(RegistryError::DigestMismatch { actual, .. }) if actual == sha256(&body)));
    let refused = one
        .put_manifest(put(&name, &by_tag("t"), &Bytes::from_static(b"{")))
        .await;
    assert!(matches!(refused, Err(RegistryError::ManifestInvalid(_))));
    let large = Bytes::from(vec![b' '; MAX_MANIFEST_BYTES + 1]);
    let refused = one.put_manifest(put(&name, &by_tag("t"), &large)).await;
    assert!(matches!(refused, Err(RegistryError::ManifestTooLarge)));
    let tags: Vec<_> = (0..32).map(|n| tag(&format!("t{n}"))).collect();
    let refused = one
        .put_manifest(PutManifest {
            tags: &tags,
            ..put(&name, &by_digest(&body), &body)
        })
        .await;
    assert!(matches!(refused, Err(RegistryError::TooManyTags)));
    // Nothing of all this was stored, not even the repository.
    assert!(repository_row(&world, &name).await.is_none());
    let sha512 = Reference::Digest(Digest::of(Algorithm::Sha512, &body));
    let pushed = one
        .put_manifest(PutManifest {
            tags: &tags[..30],
            ..put(&name, &sha512, &body)
        })
        .await
        .unwrap();
    assert_eq!(pushed.tags, tags[..30]);
    assert_eq!(
        one.manifest(&name, &by_tag("t29"))
            .await
            .unwrap()
            .0
            .digest
            .algorithm(),
        Algorithm::Sha512
    );
}

#[tokio::test]
async fn creating_and_overwriting_take_different_rights() {
    let world = World::new();
    let (one, name) = (world.member(1), repo("a"));
    let (first, second) = (
        pushed_image(&one, &name, "1").await,
        pushed_image(&one, &name, "2").await,
    );
    let by = |reference, body, create, update| {
        let may = MayPush { create, update };
        one.put_manifest(PutManifest {
            may,
            ..put(&name, reference, body)
        })
    };
    let denied = |result: Result<Pushed>| assert!(matches!(result, Err(RegistryError::Denied)));
    let (t, u, digest) = (by_tag("t"), by_tag("u"), by_digest(&first));
    denied(by(&t, &first, false, true).await);
    denied(by(&digest, &first, false, true).await);
    by(&t, &first, true, false).await.unwrap();
    by(&t, &first, false, false).await.unwrap();
    by(&digest, &first, false, false).await.unwrap();
    denied(by(&t, &second, true, false).await);
    denied(by(&u, &first, false, true).await);
    by(&t, &second, false, true).await.unwrap();
    assert_eq!(one.manifest(&name, &t).await.unwrap().1, second);
}

#[tokio::test]
async fn a_tag_moves_and_goes_without_its_manifest() {
    let world = World::new();
    let (one, two, name) = (world.member(1), world.member(2), repo("a"));
    let (first, second) = (
        pushed_image(&one, &name, "1").await,
        pushed_image(&one, &name, "2").await,
    );
    one.put_manifest(put(&name, &by_tag("t"), &first)).await.unwrap();
    two.put_manifest(put(&name, &by_tag("t"), &second)).await.unwrap();
    assert_eq!(one.manifest(&name, &by_tag("t")).await.unwrap().1, second);
    // The first one's tags are none now: it goes, and the tag stays.
    two.delete_manifest(delete(&name, &by_digest(&first)))
        .await
        .unwrap();
    assert_eq!(tags_of(&one, &name).await, ["t"]);
    one.delete_manifest(delete(&name, &by_tag("t"))).await.unwrap();
    let gone = two.manifest(&name, &by_tag("t")).await;
    assert!(matches!(gone, Err(RegistryError::ManifestUnknown)));
    let gone = two.delete_manifest(delete(&name, &by_tag("t"))).await;
    assert!(matches!(gone, Err(RegistryError::ManifestUnknown)));
    assert_eq!(two.manifest(&name, &by_digest(&second)).await.unwrap().1, second);
    assert_eq!(tags_of(&two, &name).await, [""; 0]);
    assert_eq!(catalog(&two).await, ["a"]);
}

#[tokio::test]
async fn a_manifest_goes_with_all_its_tags_and_the_last_takes_the_repository() {
    let world = World::new();
    let (one, name) = (world.member(1), repo("a"));
    for note in ["small", &"large".repeat(1000)] {
        let body = pushed_image(&one, &name, note).await;
        let tags: Vec<_> = (0..130).map(|n| tag(&format!("t{n}"))).collect();
        for tags in tags.chunks(30) {
            one.put_manifest(PutManifest {
                tags,
                ..put(&name, &by_digest(&body), &body)
            })
            .await
            .unwrap();
        }
        assert_eq!(tags_of(&one, &name).await.len(), 130);
        let born = repository_row(&world, &name).await.unwrap();
        world.calls.take();
        one.delete_manifest(delete(&name, &by_digest(&body)))
            .await
            .unwrap();
        assert_eq!(world.calls.take(), "answered×3 get×2 range×2 transact×3");
        for result in [
            one.manifest(&name, &by_digest(&body)).await.map(drop),
            one.manifest(&name, &by_tag("t7")).await.map(drop),
            one.describe_manifest(&name, &by_digest(&body)).await.map(drop),
            one.delete_manifest(delete(&name, &by_digest(&body))).await,
        ] {
            assert!(matches!(result, Err(RegistryError::ManifestUnknown)));
        }
        assert!(matches!(
            one.tags(&name, &Page::default()).await,
            Err(RegistryError::NameUnknown)
        ));
        assert_eq!(catalog(&one).await, [""; 0]);
        let tombstone = repository_row(&world, &name).await.unwrap();
        assert_eq!(
            (tombstone.manifests, tombstone.ends_ms > born.created_ms),
            (0, true)
        );

        // Pushed again, it lives again, with the body that is still there.
        let objects = world.blobs.objects();
        one.put_manifest(put(&name, &by_tag("again"), &body))
            .await
            .unwrap();
        assert_eq!(world.blobs.objects(), objects);
        assert_eq!(one.manifest(&name, &by_tag("again")).await.unwrap().1, body);
        assert_eq!(tags_of(&one, &name).await, ["again"]);
        let row = repository_row(&world, &name).await.unwrap();
        assert_eq!((row.manifests, row.ends_ms), (1, 0));
        one.delete_manifest(delete(&name, &by_digest(&body)))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_blob_goes_when_no_manifest_refers_to_it() {
    let world = World::new();
    let (one, name) = (world.member(1), repo("a"));
    let body = pushed_image(&one, &name, "n").await;
    let layer = sha256(b"n");
    one.put_manifest(put(&name, &by_tag("t"), &body)).await.unwrap();
    let kept = one.delete_blob(&name, &layer, soon()).await;
    assert!(matches!(kept, Err(RegistryError::Referenced { manifest }) if manifest == sha256(&body)));
    one.delete_manifest(delete(&name, &by_digest(&body)))
        .await
        .unwrap();
    one.delete_blob(&name, &layer, soon()).await.unwrap();
    for result in [
        one.blob(&name, &layer).await.map(drop),
        one.delete_blob(&name, &layer, soon()).await,
    ] {
        assert!(matches!(result, Err(RegistryError::BlobUnknown)));
    }
    let missing = one.put_manifest(put(&name, &by_tag("t"), &body)).await;
    assert!(matches!(missing, Err(RegistryError::ManifestBlobUnknown { .. })));
    // It is still in the store, for those who push it again.
    assert_eq!(
        one.mount(&name, &layer, MountSource::Anywhere).await.unwrap(),
        Mounted::Linked
    );
    one.put_manifest(put(&name, &by_tag("t"), &body)).await.unwrap();
}

#[tokio::test]
async fn a_blob_goes_from_a_repository_that_never_had_a_manifest() {
    let world = World::new();
    let (one, name) = (world.member(1), repo("a"));
    let digest = push(&one, &name, b"n").await;
    one.delete_blob(&name, &digest, soon()).await.unwrap();
    assert!(matches!(
        one.blob(&name, &digest).await,
        Err(RegistryError::BlobUnknown)
    ));
    // The row that fences it doesn't make the repository exist.
    assert_eq!(repository_row(&world, &name).await.unwrap().manifests, 0);
    assert!(matches!(
        one.tags(&name, &Page::default()).await,
        Err(RegistryError::NameUnknown)
    ));
    let body = pushed_image(&one, &name, "n").await;
    one.put_manifest(put(&name, &by_tag("t"), &body)).await.unwrap();
    assert_eq!(catalog(&one).await, ["a"]);
}

#[tokio::test]
async fn a_mount_takes_what_the_source_holds() {
    let world = World::new();
    let (one, digest) = (world.member(1), sha256(b"content"));
    let (a, b, c) = (repo("a"), repo("b"), repo("c"));
    assert_eq!(
        one.mount(&b, &digest, MountSource::Anywhere).await.unwrap(),
        Mounted::NotHere
    );
    push(&one, &a, b"content").await;
    assert_eq!(
        one.mount(&b, &digest, MountSource::Repository(&c)).await.unwrap(),
        Mounted::NotHere
    );
    assert_eq!(
        one.mount(&b, &digest, MountSource::Repository(&b)).await.unwrap(),
        Mounted::NotHere
    );
    assert_eq!(
        one.mount(&b, &digest, MountSource::Repository(&a)).await.unwrap(),
        Mounted::Linked
    );
    assert_eq!(
        one.mount(&b, &digest, MountSource::Repository(&b)).await.unwrap(),
        Mounted::Linked
    );
    assert_eq!(
        one.mount(&c, &digest, MountSource::Anywhere).await.unwrap(),
        Mounted::Linked
    );
    let blobs: Vec<Blob> =
        join_all([&a, &b, &c].map(async |name| one.blob(name, &digest).await.unwrap())).await;
    assert!(blobs.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(pull(&one, &c, &digest).await.unwrap(), b"content");
}

#[tokio::test]
async fn requests_are_counted() {
    let world = World::new();
    let (one, name) = (world.member(1), repo("a"));
    let body = pushed_image(&one, &name, "n").await;
    let counted = |expected: &str| {
        let calls = world.calls.take();
        let calls: Vec<_> = calls
            .split(' ')
            .filter(|call| !call.starts_with("answered"))
            .collect();
        assert_eq!(calls.join(" "), expected);
    };
    world.calls.take();
    one.put_manifest(put(&name, &by_tag("t"), &body)).await.unwrap();
    counted("get×1 get_many×1 transact×2");
    one.put_manifest(put(&name, &by_tag("t"), &body)).await.unwrap();
    counted("get×1 get_many×1");
    one.put_manifest(put(&name, &by_tag("u"), &body)).await.unwrap();
    counted("get×1 get_many×1 transact×1");
    one.describe_manifest(&name, &by_tag("t")).await.unwrap();
    counted("get×1");
    one.manifest(&name, &by_digest(&body)).await.unwrap();
    counted("snapshot×1");
    one.manifest(&name, &by_digest(&body)).await.unwrap();
    counted("get×1");
    one.describe_manifest(&name, &by_digest(&body)).await.unwrap();
    counted("get×1");
    one.manifest(&name, &by_tag("t")).await.unwrap();
    counted("get×1");
    one.put_manifest(put(&name, &by_tag("v"), &body)).await.unwrap();
    counted("get×1 get_many×1 transact×1");
    one.manifest(&name, &by_digest(&body)).await.unwrap();
    counted("get×1 snapshot×1");
    let two = world.member(2);
    two.manifest(&name, &by_tag("t")).await.unwrap();
    counted("get×1 snapshot×1");
    one.tags(&name, &Page::default()).await.unwrap();
    counted("get×1 range×1");
    one.catalog(&Page::default()).await.unwrap();
    counted("range×1");
    one.delete_manifest(delete(&name, &by_tag("u"))).await.unwrap();
    counted("get×2 transact×1");
    one.delete_manifest(delete(&name, &by_digest(&body)))
        .await
        .unwrap();
    counted("get×2 range×2 transact×1");
    one.delete_blob(&name, &sha256(b"n"), soon()).await.unwrap();
    counted("get×2 get_many×1 range×1 transact×1");
}

#[tokio::test]
async fn what_is_kept_in_memory_is_gone_when_another_member_deletes_it() {
    let world = World::new();
    let (one, two, name) = (world.member(1), world.member(2), repo("a"));
    let small = pushed_image(&one, &name, "small").await;
    let large = pushed_image(&one, &name, &"large".repeat(1000)).await;
    for body in [&small, &large] {
        let (digest, tag) = (by_digest(body), by_tag("t"));
        for round in 0..3 {
            two.put_manifest(put(&name, &tag, body)).await.unwrap();
            for reference in [&digest, &digest, &tag, &tag] {
                let (descriptor, document) = one.manifest(&name, reference).await.unwrap();
                assert_eq!((document, descriptor.size), (body.clone(), body.len() as u64));
            }
            let deleted = if round == 1 { &tag } else { &digest };
            two.delete_manifest(delete(&name, deleted)).await.unwrap();
            assert!(matches!(
                one.manifest(&name, &tag).await,
                Err(RegistryError::ManifestUnknown)
            ));
            let by_digest = one.manifest(&name, &digest).await;
            assert_eq!(by_digest.is_ok(), round == 1, "{by_digest:?}");
            let described = one.describe_manifest(&name, &digest).await;
            assert_eq!(described.is_ok(), round == 1, "{described:?}");
        }
    }
}

#[tokio::test]
async fn who_pulls_a_large_manifest_at_the_same_time_shares_its_reading() {
    let world = World::new();
    let (one, name) = (world.member(1), repo("a"));
    let body = pushed_image(&one, &name, &"large".repeat(1000)).await;
    one.put_manifest(put(&name, &by_tag("t"), &body)).await.unwrap();
    world.calls.take();
    let (tag, digest) = (by_tag("t"), by_digest(&body));
    let pulls = (0..50).map(|n| one.manifest(&name, if n % 2 == 0 { &tag } else { &digest }));
    for pulled in join_all(pulls).await {
        assert_eq!(pulled.unwrap().1, body);
    }
    let calls = world.calls.take();
    let reads = calls.split(' ').find_map(|call| call.strip_prefix("read×"));
    let reads: usize = reads.unwrap().parse().unwrap();
    assert!((1..=4).contains(&reads), "{calls}");
}

#[tokio::test]
async fn no_more_is_kept_in_memory_than_was_allowed() {
    let mut world = World::new();
    world.settings.limits.remembered = 10_000;
    let (one, name) = (world.member(1), repo("a"));
    let mut all = Vec::new();
    for n in 0..9 {
        let body = pushed_image(&one, &name, &n.to_string().repeat(1200)).await;
        all.push(body);
    }
    for body in &all {
        one.put_manifest(put(&name, &by_digest(body), body))
            .await
            .unwrap();
    }
    for body in &all {
        one.manifest(&name, &by_digest(body)).await.unwrap();
    }
    let kept = all.iter().filter(|body| {
        let kept = &one.remembered.manifests;
        kept.find(&(name.clone(), sha256(body))).is_some()
    });
    assert!((1..=2).contains(&kept.count()));
}

#[tokio::test]
async fn the_row_names_who_changed_it_last_and_since_when() {
    let world = World::new();
    let (one, two, name) = (world.member(1), world.member(2), repo("a"));
    let body = pushed_image(&one, &name, "n").await;
    one.put_manifest(put(&name, &by_tag("t"), &body)).await.unwrap();
    let first = repository_row(&world, &name).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    one.put_manifest(put(&name, &by_tag("u"), &body)).await.unwrap();
    let again = repository_row(&world, &name).await.unwrap();
    let changed_ms = again.changed_ms;
    assert!(changed_ms > first.changed_ms);
    assert_eq!(
        again,
        rows::Repository {
            changed_ms,
            ..first.clone()
        }
    );
    two.put_manifest(put(&name, &by_tag("v"), &body)).await.unwrap();
    let taken = repository_row(&world, &name).await.unwrap();
    assert_eq!(
        (taken.holder.as_str(), taken.created_ms),
        ("127.0.0.2:5000", first.created_ms)
    );
    assert!(taken.held_since_ms > first.held_since_ms && taken.incarnation != first.incarnation);

    let newer = rows::Repository {
        min_reader: rows::SCHEMA + 1,
        ..taken
    };
    let op = keys::repository(&name).put(Expect::Any, row::bytes(&newer));
    world.meta.transact(Version::random(), &[op]).await.unwrap();
    let refused = one.put_manifest(put(&name, &by_tag("w"), &body)).await;
    assert!(matches!(
        refused,
        Err(RegistryError::NewerSchema { min_reader: 2 })
    ));
    assert_eq!(tags_of(&one, &name).await, ["t", "u", "v"]);
}

#[tokio::test]
async fn after_the_deadline_nothing_is_applied() {
    let world = World::new();
    let (one, name) = (world.member(1), repo("a"));
    let body = pushed_image(&one, &name, "n").await;
    let reference = by_tag("t");
    let late = PutManifest {
        deadline: Instant::now(),
        ..put(&name, &reference, &body)
    };
    // The stores may answer at once, so it may also succeed; it must say which.
    match one.put_manifest(late).await {
        Ok(_) => assert_eq!(tags_of(&one, &name).await, ["t"]),
        Err(error) => {
            assert!(
                matches!(error, RegistryError::Deadline | RegistryError::OutcomeUnknown),
                "{error:?}"
            );
        }
    }
}
