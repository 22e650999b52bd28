//! The end of a manifest that more tags name than fit one transaction.

use futures_util::future::join_all;

use super::{super::testing::*, tests::*, *};
use crate::{oci::Page, storage::faulty::FaultRates};

/// Pushes the manifest under tags `t0`, `t1` and so on.
async fn tag_often(registry: &Registry, name: &RepoName, body: &Bytes, count: usize) {
    let digest = by_digest(body);
    let tags: Vec<_> = (0..count).map(|n| tag(&format!("t{n}"))).collect();
    for tags in tags.chunks(30) {
        let push = PutManifest {
            tags,
            ..put(name, &digest, body)
        };
        registry.put_manifest(push).await.unwrap();
    }
}

#[tokio::test]
async fn the_end_of_a_manifest_costs_one_request_for_every_46_of_its_tags() {
    let world = World::new();
    let (one, name) = (world.member(1), repo("a"));
    let body = pushed_image(&one, &name, "n").await;
    let digest = by_digest(&body);
    tag_often(&one, &name, &body, 2000).await;
    world.calls.take();
    one.delete_manifest(delete(&name, &digest)).await.unwrap();
    // 2,000 / 46, rounded up; and a look at row, manifest, indexes and tags before each sixteen of them.
    assert_eq!(world.calls.take(), "answered×44 get×6 range×6 transact×44");
    for name_of_tag in ["t0", "t1000", "t1999"] {
        let gone = one.describe_manifest(&name, &by_tag(name_of_tag)).await;
        assert!(matches!(gone, Err(RegistryError::ManifestUnknown)));
    }
    assert!(matches!(
        one.tags(&name, &Page::default()).await,
        Err(RegistryError::NameUnknown)
    ));
}

#[tokio::test]
async fn others_have_their_turn_while_a_manifest_of_many_tags_is_deleted() {
    let world = World::new();
    let (one, two, name) = (world.member(1), world.member(2), repo("a"));
    let (body, other) = (
        pushed_image(&one, &name, "n").await,
        pushed_image(&one, &name, "o").await,
    );
    let digest = by_digest(&body);
    tag_often(&one, &name, &body, 2000).await;
    let kept = ["t1998", "t1999", "kept"];
    let moves = join_all(kept.iter().enumerate().map(async |(n, kept)| {
        let member = if n == 0 { &one } else { &two };
        let reference = by_tag(kept);
        for _ in 0..200 {
            match member.put_manifest(put(&name, &reference, &other)).await {
                Err(RegistryError::Contended) => {}
                done => return done.map(drop),
            }
        }
        Err(RegistryError::Contended)
    }));
    let (deleted, moved) = tokio::join!(one.delete_manifest(delete(&name, &digest)), moves);
    deleted.unwrap();
    moved.into_iter().collect::<Result<Vec<_>>>().unwrap();
    let mut kept = kept;
    kept.sort_unstable();
    assert_eq!(tags_of(&one, &name).await, kept);
    let gone = one.manifest(&name, &digest).await;
    assert!(matches!(gone, Err(RegistryError::ManifestUnknown)));
}

#[tokio::test]
async fn an_end_that_breaks_off_after_some_tags_says_so_and_goes_on_when_asked_again() {
    let world = World::with_faults(1, FaultRates::each(0.0));
    let plan = world.faults.clone().unwrap();
    let (one, two, name) = (world.member(1), world.member(2), repo("a"));
    let body = pushed_image(&one, &name, "n").await;
    let digest = by_digest(&body);
    tag_often(&one, &name, &body, 300).await;
    let before = plan.counts().calls;
    let breaks = async {
        while plan.counts().calls < before + 7 {
            tokio::task::yield_now().await;
        }
        plan.set_rates(FaultRates {
            unavailable: 1.0,
            ..FaultRates::each(0.0)
        });
    };
    let (deleted, ()) = tokio::join!(one.delete_manifest(delete(&name, &digest)), breaks);
    plan.disable();
    match deleted {
        Err(RegistryError::Unfinished(cause)) => {
            assert!(matches!(*cause, RegistryError::Store(_)), "{cause:?}");
        }
        other => panic!("{other:?}"),
    }
    let left = tags_of(&two, &name).await.len();
    assert!((1..300).contains(&left), "{left}");
    assert_eq!(two.manifest(&name, &digest).await.unwrap().1, body);
    two.delete_manifest(delete(&name, &digest)).await.unwrap();
    let gone = one.tags(&name, &Page::default()).await;
    assert!(matches!(gone, Err(RegistryError::NameUnknown)));
}
