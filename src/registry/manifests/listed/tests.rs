use super::{
    super::{super::testing::*, tests::*, *},
    *,
};
use crate::storage::{Expect, MetaStore as _, Version};

/// Why the manifest wasn't deleted.
async fn refused(registry: &Registry, name: &RepoName, body: &[u8]) -> (Digest, Needed) {
    match registry.delete_manifest(delete(name, &by_digest(body))).await {
        Err(RegistryError::Listed { index, why }) => (index, *why),
        other => panic!("{other:?}"),
    }
}

/// An index of `child`, which may be one itself.
fn index_of(child: &Bytes, note: &str) -> Bytes {
    index(&[child], None, note)
}

async fn deleted(registry: &Registry, name: &RepoName, reference: &Reference) {
    registry.delete_manifest(delete(name, reference)).await.unwrap();
}

async fn pushed(registry: &Registry, name: &RepoName, reference: &Reference, body: &Bytes) {
    registry.put_manifest(put(name, reference, body)).await.unwrap();
}

#[tokio::test]
async fn what_a_tagged_index_lists_goes_after_it() {
    let world = World::new();
    let (one, two, name) = (world.member(1), world.member(2), repo("a"));
    let child = pushed_image(&one, &name, "child").await;
    let inner = index_of(&child, "inner");
    let outer = index_of(&inner, "outer");
    let (v1, on) = (by_tag("v1"), by_digest);
    pushed(&one, &name, &by_tag("child"), &child).await;
    pushed(&one, &name, &on(&inner), &inner).await;
    pushed(&one, &name, &v1, &outer).await;
    // Listed directly, and by one that is listed.
    assert_eq!(
        refused(&two, &name, &inner).await,
        (sha256(&outer), Needed::Tagged(tag("v1")))
    );
    assert_eq!(
        refused(&two, &name, &child).await,
        (sha256(&inner), Needed::Within(sha256(&outer), tag("v1")))
    );
    // Nothing of it was done: its own tag is still there, and can go.
    assert_eq!(tags_of(&two, &name).await, ["child", "v1"]);
    deleted(&two, &name, &by_tag("child")).await;
    // Another tag of the index keeps it, too; with the last one nothing does.
    pushed(&one, &name, &by_tag("v2"), &outer).await;
    deleted(&two, &name, &v1).await;
    assert_eq!(refused(&one, &name, &inner).await.1, Needed::Tagged(tag("v2")));
    deleted(&two, &name, &by_tag("v2")).await;
    deleted(&two, &name, &on(&inner)).await;
    deleted(&two, &name, &on(&child)).await;
    deleted(&two, &name, &on(&outer)).await;
    assert_eq!(repository_row(&world, &name).await.unwrap().manifests, 0);
}

#[tokio::test]
async fn an_index_that_is_deleted_needs_nothing_and_one_that_lives_again_does() {
    let world = World::new();
    let (one, name) = (world.member(1), repo("a"));
    let child = pushed_image(&one, &name, "child").await;
    let (v1, list) = (by_tag("v1"), index_of(&child, ""));
    for _ in 0..3 {
        pushed(&one, &name, &by_digest(&child), &child).await;
        pushed(&one, &name, &v1, &list).await;
        assert_eq!(refused(&one, &name, &child).await.0, sha256(&list));
        deleted(&one, &name, &by_digest(&list)).await;
        // The rows that say what it referenced are still there.
        let reference = keys::reference(&name, &sha256(&child), &sha256(&list));
        assert!(world.meta.get(&reference).await.unwrap().is_some());
        deleted(&one, &name, &by_digest(&child)).await;
    }
}

#[tokio::test]
async fn only_indexes_need_manifests_and_only_those_of_the_repository() {
    let world = World::new();
    let (one, name) = (world.member(1), repo("a"));
    let child = pushed_image(&one, &name, "child").await;
    pushed(&one, &name, &by_digest(&child), &child).await;
    // An image of a layer that has the manifest's bytes.
    let config = push(&one, &name, b"{}").await;
    let layer = push(&one, &name, &child).await;
    pushed(&one, &name, &by_tag("bytes"), &image(&[&config, &layer], "")).await;
    // An index of another repository.
    let other = repo("b");
    let elsewhere = pushed_image(&one, &other, "child").await;
    assert_eq!(elsewhere, child);
    pushed(&one, &other, &by_digest(&child), &child).await;
    pushed(&one, &other, &by_tag("v1"), &index_of(&child, "")).await;
    // One that is about it: a signature, say.
    let about = index(&[], Some(&child), "");
    pushed(&one, &name, &by_tag("sha256-x.sig"), &about).await;
    deleted(&one, &name, &by_digest(&child)).await;
    refused(&one, &other, &child).await;
}

#[tokio::test]
async fn who_deletes_the_index_too_may_delete_what_it_lists() {
    let world = World::new();
    let (one, name) = (world.member(1), repo("a"));
    let child = pushed_image(&one, &name, "child").await;
    pushed(&one, &name, &by_tag("child"), &child).await;
    pushed(&one, &name, &by_tag("v1"), &index_of(&child, "")).await;
    let reference = by_digest(&child);
    one.delete_manifest(DeleteManifest {
        while_listed: WhileListed::Delete,
        ..delete(&name, &reference)
    })
    .await
    .unwrap();
    assert_eq!(tags_of(&one, &name).await, ["v1"]);
}

#[tokio::test]
async fn what_very_many_indexes_list_stays_when_nobody_looks_at_them_all() {
    let mut world = World::new();
    world.settings.limits.indexes_looked_at = 250;
    let (one, name) = (world.member(1), repo("a"));
    let child = pushed_image(&one, &name, "child").await;
    pushed(&one, &name, &by_digest(&child), &child).await;
    for n in 0..249 {
        let list = index_of(&child, &n.to_string());
        pushed(&one, &name, &by_digest(&list), &list).await;
    }
    let reference = by_digest(&child);
    world.calls.take();
    deleted(&one, &name, &reference).await;
    // The row, the manifest; its lists, a hundred at a time; a tag, and a list, of each of them; its own tags.
    let ranges = 3 + 249 + 249 + 1;
    assert_eq!(
        world.calls.take(),
        format!("answered×1 get×2 get_many×3 range×{ranges} transact×1")
    );
    pushed(&one, &name, &reference, &child).await;
    let more = index_of(&child, "one more");
    pushed(&one, &name, &by_digest(&more), &more).await;
    assert_eq!(refused(&one, &name, &child).await.1, Needed::Many(250));
    // A tag is found all the same, where it is.
    pushed(&one, &name, &by_tag("t"), &more).await;
    let (index, why) = refused(&one, &name, &child).await;
    assert!(
        matches!(why, Needed::Many(_)) || (index, why) == (sha256(&more), Needed::Tagged(tag("t"))),
        "it depends on where its digest is among the others"
    );
}

#[tokio::test]
async fn an_index_and_the_end_of_its_child_at_once_leave_one_of_them() {
    let (mut indexes, mut ends) = (0, 0);
    for round in 0..200_u64 {
        let world = World::new();
        let (one, two, name) = (world.member(1), world.member(2), repo("a"));
        let child = pushed_image(&one, &name, "child").await;
        pushed(&one, &name, &by_digest(&child), &child).await;
        let list = index_of(&child, &round.to_string());
        let (v1, digest) = (by_tag("v1"), by_digest(&child));
        let push = async {
            for _ in 0..round % 13 {
                tokio::task::yield_now().await;
            }
            one.put_manifest(put(&name, &v1, &list)).await.map(drop)
        };
        let (pushed, deleted) = tokio::join!(push, two.delete_manifest(delete(&name, &digest)));
        match (pushed, deleted) {
            (Ok(()), Err(RegistryError::Listed { index, .. })) => {
                assert_eq!(index, sha256(&list));
                two.manifest(&name, &digest).await.expect("the child is there");
                indexes += 1;
            }
            (Err(RegistryError::ManifestBlobUnknown { .. }), Ok(())) => ends += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(
        indexes > 10 && ends > 10,
        "they meet in all ways: {indexes} and {ends}"
    );
}

#[tokio::test]
async fn a_loop_of_references_ends() {
    // No such documents can be made, for a digest can't stand in what it is of; rows could be damaged.
    let world = World::new();
    let (one, name) = (world.member(1), repo("a"));
    let child = pushed_image(&one, &name, "child").await;
    let list = index_of(&child, "");
    pushed(&one, &name, &by_digest(&child), &child).await;
    pushed(&one, &name, &by_digest(&list), &list).await;
    let damage = [(&list, &list), (&list, &child)].map(|(listed, by)| {
        keys::reference(&name, &sha256(listed), &sha256(by)).put(Expect::Any, Bytes::new())
    });
    world.meta.transact(Version::random(), &damage).await.unwrap();
    deleted(&one, &name, &by_digest(&child)).await;
}
