//! Objects that are gone, short, long, replaced or rotten: who reads, who asks, who pushes again; and wrong reads.

use futures_util::{StreamExt as _, TryStreamExt as _, future::join_all};

use super::{super::testing::*, *};
use crate::{
    clock,
    oci::{MediaType, Reference, RepoName, ResolvedRange},
    registry::{MountSource, Mounted, Taken, Tended},
    storage::{BlobStore as _, MetaStore as _, Payload, faulty::FaultRates, keys, rows},
};

/// Longer than what is always hashed.
const LONG: usize = 70_000;

/// What becomes of objects that somebody else has been at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    Gone,
    Short,
    Long,
    Other,
}

const HARMS: [Harm; 4] = [Harm::Gone, Harm::Short, Harm::Long, Harm::Other];

async fn harm(world: &World, key: &ObjectKey, content: &[u8], harm: Harm) {
    let bytes = match harm {
        Harm::Gone => return world.blobs.delete(key).await.unwrap(),
        Harm::Short => content[..content.len() / 2].to_vec(),
        Harm::Long => [content, b"more"].concat(),
        Harm::Other => super::super::testing::content(99, content.len()),
    };
    let payload = Payload::from(Bytes::from(bytes));
    world.blobs.put(key, payload).await.unwrap();
}

async fn object_of(registry: &Registry, name: &RepoName, digest: &Digest) -> ObjectKey {
    registry.blob(name, digest).await.unwrap().object_key
}

/// The range, or why it can't be read: when it is opened, or at its end.
async fn try_range(
    registry: &Registry,
    name: &RepoName,
    digest: &Digest,
    first: u64,
    last: u64,
) -> std::result::Result<Vec<u8>, String> {
    let blob = registry.blob(name, digest).await.unwrap();
    let range = ResolvedRange { first, last };
    let stream = registry
        .read(&blob, range, Taken::Whole)
        .await
        .map_err(|error| error.to_string())?;
    let pieces: Vec<Bytes> = stream.try_collect().await.map_err(|error| error.to_string())?;
    Ok(pieces.concat())
}

async fn try_pull(
    registry: &Registry,
    name: &RepoName,
    digest: &Digest,
) -> std::result::Result<Vec<u8>, String> {
    let size = registry.blob(name, digest).await.unwrap().size;
    try_range(registry, name, digest, 0, size.saturating_sub(1)).await
}

/// Whether a due-row says that the object is to be deleted.
fn is_trash(world: &World, object: &ObjectKey) -> bool {
    let name = format!("#trash#{object}");
    world.meta.keys().iter().any(|key| key.sort.ends_with(&name))
}

/// Does all that is due an hour from now, once.
async fn tend(registry: &Registry) -> Vec<(&'static str, Tended)> {
    let now_ms = clock::now_ms() + 60 * 60 * 1000;
    let mut done = Vec::new();
    for n in 0..keys::DUE_PARTITIONS {
        for work in registry
            .due_work(keys::Queue::Upkeep, n, None, 1000, now_ms)
            .await
            .unwrap()
            .work
        {
            done.push((work.kind(), registry.tend(&work, now_ms).await.unwrap()));
        }
    }
    done
}

async fn row_version(world: &World, name: &RepoName) -> Option<crate::storage::Version> {
    let row = world.meta.get(&keys::repository(name)).await.unwrap();
    row.map(|row| row.version)
}

#[tokio::test]
async fn a_blob_whose_object_is_lost_is_healed_by_pushing_it_again() {
    for length in [60, 430, LONG] {
        for kind in HARMS {
            let world = World::new();
            let (one, two) = (world.member(1), world.member(2));
            let (a, b, c, d) = (repo("a"), repo("b"), repo("c"), repo("d"));
            let content = content(length as u64, length);
            let digest = push(&one, &a, &content).await;
            let mounted = one.mount(&b, &digest, MountSource::Repository(&a)).await.unwrap();
            assert_eq!(mounted, Mounted::Linked);
            let former = object_of(&one, &a, &digest).await;
            harm(&world, &former, &content, kind).await;

            // Nobody gets other bytes as if they were these, and who asks is told to push.
            for member in [&one, &two] {
                let read = try_pull(member, &a, &digest).await;
                assert!(read.is_err(), "{length} {kind:?}: {read:?}");
                for name in [&a, &b] {
                    let asked = member.whole_blob(name, &digest).await;
                    assert!(matches!(asked, Err(RegistryError::BlobUnknown)), "{asked:?}");
                }
                let mounted = member.mount(&d, &digest, MountSource::Anywhere).await.unwrap();
                assert_eq!(mounted, Mounted::NotHere, "{length} {kind:?}");
            }

            // Pushed again, to a repository that has it or to another one, it is whole in all of them.
            let to = if length == 430 { &a } else { &c };
            assert_eq!(push(&two, to, &content).await, digest);
            for member in [&one, &two] {
                for name in [&a, &b, to] {
                    assert_eq!(try_pull(member, name, &digest).await.as_ref(), Ok(&content));
                    let part = try_range(member, name, &digest, 9, 19).await;
                    assert_eq!(part.as_deref(), Ok(&content[9..=19]));
                    member.whole_blob(name, &digest).await.unwrap();
                }
            }
            let mounted = one.mount(&d, &digest, MountSource::Repository(&a)).await.unwrap();
            assert_eq!(mounted, Mounted::Linked);

            // The links follow, each with its repository's row, and the former object is trash.
            let before = row_version(&world, &b).await;
            assert_eq!(object_of(&one, &b, &digest).await, former);
            assert!(tend(&one).await.contains(&("relink", Tended::Done)));
            assert_ne!(row_version(&world, &b).await, before);
            let now = one.recorded(&digest).await.unwrap().unwrap();
            assert_ne!(now.key, former);
            for name in [&a, &b, to, &d] {
                assert_eq!(object_of(&two, name, &digest).await, now.key, "{name}");
                assert_eq!(try_pull(&one, name, &digest).await.as_ref(), Ok(&content));
            }
            assert!(is_trash(&world, &former));
        }
    }
}

/// A blob whose object is as it was written stays where it is.
#[tokio::test]
async fn a_whole_blob_is_not_replaced() {
    let world = World::new();
    let (one, two) = (world.member(1), world.member(2));
    for length in [60, LONG] {
        let content = content(3, length);
        let digest = push(&one, &repo("a"), &content).await;
        let object = object_of(&one, &repo("a"), &digest).await;
        for name in ["a", "b"] {
            push(&two, &repo(name), &content).await;
            assert_eq!(object_of(&one, &repo(name), &digest).await, object);
        }
    }
    assert!(!tend(&one).await.iter().any(|(kind, _)| *kind == "relink"));
}

/// A bucket that was copied has the bytes and other ETags.
#[tokio::test]
async fn what_has_another_etag_and_the_right_bytes_can_be_read() {
    for length in [60, LONG] {
        let world = World::new();
        let (one, name) = (world.member(1), repo("a"));
        let content = content(4, length);
        let digest = push(&one, &name, &content).await;
        let key = object_of(&one, &name, &digest).await;
        let payload = Payload::from(Bytes::from(content.clone()));
        world.blobs.put(&key, payload).await.unwrap();
        assert_eq!(try_pull(&one, &name, &digest).await.as_ref(), Ok(&content));
        let part = try_range(&one, &name, &digest, 9, 19).await;
        assert_eq!(part.as_deref(), Ok(&content[9..=19]));
    }
}

#[tokio::test]
async fn pushes_that_heal_at_once_leave_one_object_that_all_read() {
    for round in 0..60_u64 {
        let world = World::new();
        let members = [world.member(1), world.member(2)];
        let content = content(round, [50, 430][round as usize % 2]);
        let names = ["a", "b", "c", "d"].map(repo);
        let digest = push(&members[0], &names[0], &content).await;
        members[1]
            .mount(&names[1], &digest, MountSource::Anywhere)
            .await
            .unwrap();
        let former = object_of(&members[0], &names[0], &digest).await;
        harm(&world, &former, &content, HARMS[round as usize % 4]).await;
        let pushes = (0..4_usize).map(|n| push(&members[n % 2], &names[n], &content));
        let tended = async {
            for _ in 0..3 {
                tend(&members[0]).await;
            }
        };
        let (pushed, ()) = tokio::join!(join_all(pushes), tended);
        assert!(pushed.iter().all(|pushed| *pushed == digest));
        for name in &names {
            assert_eq!(try_pull(&members[1], name, &digest).await.as_ref(), Ok(&content));
        }
        tend(&members[1]).await;
        let now = members[0].recorded(&digest).await.unwrap().unwrap().key;
        for name in &names {
            assert_eq!(object_of(&members[1], name, &digest).await, now);
            assert_eq!(try_pull(&members[0], name, &digest).await.as_ref(), Ok(&content));
        }
    }
}

#[tokio::test]
async fn an_object_whose_bytes_rotted_is_healed_by_the_member_that_read_it() {
    for length in [60, LONG] {
        let mut world = World::with_faults(1, FaultRates::default());
        world.settings.verify_reads = true;
        let (one, name) = (world.member(1), repo("a"));
        let content = content(5, length);
        let digest = push(&one, &name, &content).await;
        let former = object_of(&one, &name, &digest).await;
        let faults = world.faults.clone().unwrap();
        faults.set_rates(FaultRates {
            wrong_read: 1.0,
            ..FaultRates::default()
        });
        let read = try_pull(&one, &name, &digest).await;
        assert!(read.is_err(), "{read:?}");
        let asked = one.whole_blob(&name, &digest).await;
        assert!(matches!(asked, Err(RegistryError::BlobUnknown)), "{asked:?}");
        push(&one, &name, &content).await;
        faults.disable();
        assert_ne!(one.recorded(&digest).await.unwrap().unwrap().key, former);
        assert_eq!(try_pull(&one, &name, &digest).await.as_ref(), Ok(&content));
    }
}

/// An image manifest that is too long for its row.
async fn large_manifest(registry: &Registry, name: &RepoName) -> Bytes {
    let config = push(registry, name, b"{}").await;
    let layer = push(registry, name, b"layer").await;
    image(&[&config, &layer], &"large".repeat(1000))
}

#[tokio::test]
async fn a_manifest_whose_object_is_lost_is_healed_by_pushing_it_again() {
    for kind in HARMS {
        for way in ["its tag", "another tag", "its digest", "after its delete"] {
            let world = World::new();
            let (one, two, name) = (world.member(1), world.member(2), repo("a"));
            let body = large_manifest(&one, &name).await;
            let (tag, digest) = (Reference::Tag(tag("t")), Reference::Digest(sha256(&body)));
            one.put_manifest(put(&name, &tag, &body)).await.unwrap();
            let row = one.live_manifest(&name, &sha256(&body)).await.unwrap().unwrap();
            let Some(rows::manifest::Body::ObjectKey(key)) = row.body else {
                panic!("it lies in its row");
            };
            let former = ObjectKey::parse(&key).unwrap();
            harm(&world, &former, &body, kind).await;
            for reference in [&tag, &digest] {
                let read = two.manifest(&name, reference).await;
                assert!(matches!(read, Err(RegistryError::ContentLost { .. })), "{read:?}");
                let asked = two.describe_manifest(&name, reference).await;
                assert!(matches!(asked, Err(RegistryError::ManifestUnknown)), "{asked:?}");
            }
            let again = match way {
                "another tag" => Reference::Tag(super::super::testing::tag("u")),
                "its digest" => digest.clone(),
                _ => tag.clone(),
            };
            if way == "after its delete" {
                one.delete_manifest(delete(&name, &digest)).await.unwrap();
            }
            one.put_manifest(put(&name, &again, &body)).await.unwrap();
            for member in [&one, &two] {
                for reference in [&again, &digest] {
                    assert_eq!(member.manifest(&name, reference).await.unwrap().1, body, "{way}");
                    let described = member.describe_manifest(&name, reference).await.unwrap();
                    assert_eq!(described.media_type.as_str(), MediaType::IMAGE_MANIFEST);
                }
            }
            assert!(is_trash(&world, &former));
        }
    }
}

#[tokio::test]
async fn a_wrong_read_of_a_manifest_is_an_error_and_never_kept() {
    let world = World::with_faults(2, FaultRates::default());
    let (one, name) = (world.member(1), repo("a"));
    let faults = world.faults.clone().unwrap();
    let large = large_manifest(&one, &name).await;
    let about = serde_json::json!({
        "schemaVersion": 2, "mediaType": MediaType::IMAGE_INDEX, "manifests": [],
        "subject": { "mediaType": MediaType::IMAGE_MANIFEST, "digest": sha256(&large).as_str(), "size": large.len() },
        // Too long for the row of referrers.
        "annotations": { "note": "n".repeat(9000) },
    });
    let about = Bytes::from(about.to_string());
    for body in [&large, &about] {
        let reference = Reference::Digest(sha256(body));
        one.put_manifest(put(&name, &reference, body)).await.unwrap();
    }
    let page = crate::oci::Page::default();
    let wrong = FaultRates {
        wrong_read: 1.0,
        ..FaultRates::default()
    };
    for n in 0..3 {
        faults.set_rates(wrong);
        let (one, reference) = (world.member(n + 1), Reference::Digest(sha256(&large)));
        let read = one.manifest(&name, &reference).await;
        assert!(matches!(read, Err(RegistryError::ContentLost { .. })), "{read:?}");
        let listed = one.referrers(&name, &sha256(&large), &[], &page).await;
        assert!(
            matches!(listed, Err(RegistryError::ContentLost { .. })),
            "{listed:?}"
        );
        // Now and then is often enough right.
        faults.set_rates(FaultRates {
            wrong_read: 0.2,
            ..FaultRates::default()
        });
        let read = join_all((0..40).map(|_| one.manifest(&name, &reference))).await;
        let right = read
            .iter()
            .filter(|read| read.as_ref().is_ok_and(|read| read.1 == large));
        let failed = read.iter().filter(|read| read.is_err()).count();
        assert_eq!(right.count() + failed, 40, "none is wrong");
        faults.set_rates(FaultRates::default());
        assert_eq!(one.manifest(&name, &reference).await.unwrap().1, large);
        let listed = one.referrers(&name, &sha256(&large), &[], &page).await.unwrap();
        assert_eq!(listed.referrers[0].annotations["note"], "n".repeat(9000));
    }
}

/// A row may be read wrongly, too.
#[tokio::test]
async fn a_manifest_in_its_row_is_hashed_and_healed() {
    let world = World::new();
    let (one, name, reference) = (world.member(1), repo("a"), Reference::Tag(tag("t")));
    let config = push(&one, &name, b"{}").await;
    let body = image(&[&config], "n");
    one.put_manifest(put(&name, &reference, &body)).await.unwrap();
    let key = keys::manifest(&name, &sha256(&body));
    let row = one.live_manifest(&name, &sha256(&body)).await.unwrap().unwrap();
    let wrong = rows::Manifest {
        body: Some(rows::manifest::Body::Inline(
            String::from_utf8(body.to_vec())
                .unwrap()
                .replace("\"n\"", "\"m\"")
                .into(),
        )),
        ..row
    };
    let op = key.put(crate::storage::Expect::Any, super::super::row::bytes(&wrong));
    let version = crate::storage::Version::random();
    world.meta.transact(version, &[op]).await.unwrap();
    let read = one.manifest(&name, &reference).await;
    assert!(matches!(read, Err(RegistryError::ContentLost { .. })), "{read:?}");
    one.put_manifest(put(&name, &reference, &body)).await.unwrap();
    assert_eq!(one.manifest(&name, &reference).await.unwrap().1, body);
}

#[tokio::test]
async fn a_blob_that_is_read_wrongly_never_ends() {
    for (length, verify_reads) in [(60, false), (60, true), (LONG, true), (LONG * 40, true)] {
        let mut world = World::with_faults(3, FaultRates::default());
        world.settings.verify_reads = verify_reads;
        world.settings.limits.part_size = 1 << 20;
        let (one, name) = (world.member(1), repo("a"));
        let content = content(6, length);
        let digest = push(&one, &name, &content).await;
        // By another member, which remembers what is short.
        let pulled = try_pull(&world.member(2), &name, &digest).await;
        assert_eq!(pulled.as_ref(), Ok(&content));
        let faults = world.faults.clone().unwrap();
        faults.set_rates(FaultRates {
            wrong_read: 1.0,
            ..FaultRates::default()
        });
        for _ in 0..5 {
            let blob = one.blob(&name, &digest).await.unwrap();
            let range = ResolvedRange {
                first: 0,
                last: blob.size - 1,
            };
            let Ok(mut stream) = one.read(&blob, range, Taken::Whole).await else {
                continue;
            };
            let mut came = 0;
            let end = loop {
                match stream.next().await {
                    Some(Ok(piece)) => came += piece.len(),
                    other => break other,
                }
            };
            assert!(matches!(end, Some(Err(_))) && came < length, "{came} of {length}");
        }
        faults.disable();
        assert_eq!(try_pull(&one, &name, &digest).await.as_ref(), Ok(&content));
    }
}

/// What comes back of an upload's bytes was hashed when it came: a wrong read would be published under the right digest.
#[tokio::test]
async fn a_tail_that_is_read_wrongly_never_becomes_part_of_a_blob() {
    for head in [40, 250] {
        let world = World::with_faults(4, FaultRates::default());
        let (one, name) = (world.member(1), repo("a"));
        let faults = world.faults.clone().unwrap();
        let content = content(7, 500);
        let id = one.start_upload(&name, None).await.unwrap().id;
        one.append(&name, &id, None, None, body(&content[..head], 33))
            .await
            .unwrap();
        faults.set_rates(FaultRates {
            wrong_read: 1.0,
            ..FaultRates::default()
        });
        let refused = one
            .append(&name, &id, None, None, body(&content[head..], 33))
            .await;
        assert!(matches!(refused, Err(RegistryError::Store(_))), "{refused:?}");
        faults.disable();
        assert_eq!(one.upload(&name, &id).await.unwrap().offset, head as u64);
        let digest = sha256(&content);
        one.finish(&name, &id, &digest, None, None, body(&content[head..], 33))
            .await
            .unwrap();
        assert_eq!(try_pull(&one, &name, &digest).await.as_ref(), Ok(&content));
    }
}

#[tokio::test]
async fn an_object_that_was_seen_is_looked_at_again_after_a_while() {
    let mut world = World::new();
    world.settings.limits.seen_for = Duration::from_millis(300);
    let (one, name) = (world.member(1), repo("a"));
    let digest = push(&one, &name, &content(8, 60)).await;
    world.calls.take();
    one.whole_blob(&name, &digest).await.unwrap();
    assert!(world.calls.take().contains("head×1"));
    // Time may pass in the middle: then it is looked at, and no test can tell.
    let object = object_of(&one, &name, &digest).await;
    world.blobs.delete(&object).await.unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert!(one.whole_blob(&name, &digest).await.is_err());
    let text = Bytes::from(content(8, 60));
    world.blobs.put(&object, Payload::from(text)).await.unwrap();
}
