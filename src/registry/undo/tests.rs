//! What was deleted is kept as long as it may come back, comes back whole, and goes then, whoever dies or comes between.

use std::{num::NonZeroU64, time::Duration};

use super::{
    super::{
        MountSource, Mounted, Quotas,
        changes::{
            Why,
            checks::{check_history, settle_all},
        },
        collect::tests::{image_of, later, nothing_is_left, tend_all},
        manifests::tests::{by_digest, by_tag, index, pushed_image},
        testing::*,
    },
    *,
};
use crate::{
    config,
    oci::{Page, Timestamp},
    storage::{Space, faulty::FaultRates},
};

const HOUR: u64 = 60 * 60 * 1000;
const DAY: u64 = 24 * HOUR;
const TWO_WEEKS: Duration = Duration::from_secs(14 * 24 * 60 * 60);

pub(super) fn world() -> World {
    let mut world = World::new();
    world.settings.limits.link_grace = Duration::from_secs(60 * 60);
    world.settings.limits.history = TWO_WEEKS;
    world.settings.limits.attempts = 16;
    world
}

/// Time passes.
pub(super) async fn days(world: &World, registry: &Registry, days: &[u64]) {
    for days in days {
        for hours in [0, 2, 4] {
            tend_all(world, registry, later(days * DAY + hours * HOUR)).await;
        }
    }
}

pub(super) fn asked<'a>(repository: &'a RepoName, what: &'a Undo) -> Restore<'a> {
    Restore {
        repository,
        what,
        deleted: OfDeleted::Open,
        absent: MayBeAbsent::Nothing,
        by: "someone",
        deadline: soon(),
    }
}

pub(super) fn names(tags: &[&str], body: &[u8]) -> Vec<(Tag, Digest)> {
    tags.iter().map(|text| (tag(text), sha256(body))).collect()
}

pub(super) async fn now(registry: &Registry, name: &RepoName) -> Timestamp {
    let (changes, _) = registry.history(name, None, 1).await.unwrap();
    Timestamp::from_ms(changes[0].at_ms)
}

/// Bytes that the prefix is said to hold.
pub(super) async fn used(registry: &Registry, name: &RepoName) -> u64 {
    match registry.check_quota(name, None, Some(u64::MAX / 2)).await {
        Err(RegistryError::QuotaExceeded { used, .. }) => used,
        other => panic!("{other:?}"),
    }
}

pub(super) fn with_quota(bytes: u64) -> World {
    let mut world = world();
    world.settings.quotas = Quotas::new(BTreeMap::from([(repo("q"), NonZeroU64::new(bytes).unwrap())]));
    world
}

#[tokio::test]
async fn what_is_deleted_is_kept_apart_from_quotas_until_its_history_ends() {
    let world = with_quota(1000);
    let (one, two, name) = (world.member(1), world.member(2), repo("q/a"));
    let (body, reference) = image_of(&one, &name, &[b"layer", b"another layer"]).await;
    one.put_manifest(put(&name, &by_tag("t"), &body)).await.unwrap();
    days(&world, &two, &[0, 3]).await;
    assert_eq!(used(&one, &name).await, 20);
    one.delete_manifest(delete(&name, &reference)).await.unwrap();
    days(&world, &two, &[1]).await;
    assert_eq!(used(&one, &name).await, 0);
    let layer = sha256(b"layer");
    for registry in [&one, &two] {
        let unknown = [
            registry.blob(&name, &layer).await.map(drop),
            registry.whole_blob(&name, &layer).await.map(drop),
            registry.delete_blob(&name, &layer, soon()).await,
        ];
        assert!(
            unknown
                .iter()
                .all(|unknown| matches!(unknown, Err(RegistryError::BlobUnknown))),
            "{unknown:?}"
        );
        for from in [
            MountSource::Repository(&name),
            MountSource::Repository(&repo("b")),
            MountSource::Anywhere,
        ] {
            let mounted = registry.mount(&repo("c"), &layer, from).await.unwrap();
            assert_eq!(mounted, Mounted::NotHere);
        }
        let needs_it = image(&[&layer], "other");
        let refused = registry.put_manifest(put(&name, &by_tag("u"), &needs_it)).await;
        assert!(matches!(refused, Err(RegistryError::ManifestBlobUnknown { .. })));
    }
    days(&world, &two, &[2, 9, 13]).await;
    assert_eq!(world.blobs.objects().len(), 3);
    days(&world, &two, &[15, 16, 18, 40]).await;
    nothing_is_left(&world);
}

#[tokio::test]
async fn a_deleted_manifest_comes_back_with_its_tags_its_blobs_and_their_bytes_on_the_quota() {
    for wait in [0, 1, 13] {
        let world = with_quota(1000);
        let (one, two, name) = (world.member(1), world.member(2), repo("q/a"));
        let (body, reference) = image_of(&one, &name, &[b"layer"]).await;
        let tags: Vec<Tag> = (0..70).map(|n| tag(&format!("t{n:02}"))).collect();
        for tags in tags.chunks(30) {
            let push = PutManifest {
                tags,
                ..put(&name, &reference, &body)
            };
            one.put_manifest(push).await.unwrap();
        }
        one.delete_manifest(delete(&name, &by_tag("t00"))).await.unwrap();
        one.put_manifest(put(
            &name,
            &by_tag("other"),
            &pushed_image(&one, &name, "o").await,
        ))
        .await
        .unwrap();
        one.delete_manifest(delete(&name, &reference)).await.unwrap();
        days(&world, &two, &[wait]).await;
        let what = Undo::Manifest(sha256(&body));
        let restored = two.restore(asked(&name, &what)).await.unwrap();
        assert_eq!(restored.manifests, [sha256(&body)]);
        // Not the one that it had lost before.
        assert_eq!(restored.tags.len(), 69);
        assert_eq!(restored.left, []);
        assert_eq!(one.manifest(&name, &by_tag("t69")).await.unwrap().1, body);
        assert_eq!(pull(&one, &name, &sha256(b"layer")).await.unwrap(), b"layer");
        // Asked for again, it is done.
        assert_eq!(
            two.restore(asked(&name, &what)).await.unwrap(),
            Restored::default()
        );
        days(&world, &one, &[wait + 1, 40]).await;
        assert_eq!(pull(&one, &name, &sha256(b"layer")).await.unwrap(), b"layer");
        assert_eq!(used(&one, &name).await, 8);
        let changes = check_history(&world, &one, &name).await;
        let last = changes.last().unwrap();
        assert_eq!((last.why, &*last.by), (Some(Why::Restore), "someone"));
    }
}

#[tokio::test]
async fn a_tag_is_put_back_to_what_it_named_at_any_time() {
    let world = world();
    let (one, name) = (world.member(1), repo("a"));
    let images = [
        pushed_image(&one, &name, "0").await,
        pushed_image(&one, &name, "1").await,
        pushed_image(&one, &name, "2").await,
    ];
    let mut named = Vec::new();
    for n in 0..1000 {
        let body = &images[n % 3];
        match n % 10 {
            9 => one.delete_manifest(delete(&name, &by_tag("t"))).await.unwrap(),
            _ => drop(one.put_manifest(put(&name, &by_tag("t"), body)).await.unwrap()),
        }
        named.push((now(&one, &name).await, (n % 10 != 9).then_some(body)));
        if n % 20 == 0 {
            settle_all(&one).await;
        }
    }
    let at = async |at_ms| {
        let found = one.manifest_at(&name, &tag("t"), at_ms, OfDeleted::Hidden).await;
        found.map(|(_, body)| body)
    };
    for (n, (time, body)) in named.iter().enumerate() {
        let until = named.get(n + 1).map_or(u64::MAX, |(next, _)| next.as_ms() - 1);
        for at_ms in [time.as_ms(), until] {
            match body {
                Some(body) => assert_eq!(at(at_ms).await.unwrap(), **body, "{n}"),
                None => assert!(matches!(at(at_ms).await, Err(RegistryError::ManifestUnknown))),
            }
        }
    }
    assert!(at(named[0].0.as_ms() - 1).await.is_err());
    for n in [0, 500, 997] {
        let what = Undo::Tag {
            tag: tag("t"),
            at: named[n].0,
        };
        let body = named[n].1.unwrap();
        let restored = one.restore(asked(&name, &what)).await.unwrap();
        assert_eq!(restored.tags, names(&["t"], body));
        assert_eq!(one.manifest(&name, &by_tag("t")).await.unwrap().1, *body);
    }
    check_history(&world, &one, &name).await;
}

#[tokio::test]
async fn what_was_deleted_is_seen_and_restored_by_those_only_who_might_have_deleted_it() {
    let world = world();
    let (one, name) = (world.member(1), repo("a"));
    let body = pushed_image(&one, &name, "n").await;
    one.put_manifest(put(&name, &by_tag("t"), &body)).await.unwrap();
    let then = now(&one, &name).await;
    one.delete_manifest(delete(&name, &by_digest(&body)))
        .await
        .unwrap();
    let seen = async |deleted| {
        one.manifest_at(&name, &tag("t"), then.as_ms(), deleted)
            .await
            .map(drop)
    };
    assert!(matches!(
        seen(OfDeleted::Hidden).await,
        Err(RegistryError::ManifestUnknown)
    ));
    seen(OfDeleted::Open).await.unwrap();
    let all = [
        Undo::Tag {
            tag: tag("t"),
            at: then,
        },
        Undo::Manifest(sha256(&body)),
        Undo::Everything { at: then },
    ];
    for what in &all {
        let refused = one
            .restore(Restore {
                deleted: OfDeleted::Hidden,
                ..asked(&name, what)
            })
            .await;
        assert!(matches!(refused, Err(RegistryError::Denied)), "{refused:?}");
    }
    assert!(one.describe_manifest(&name, &by_digest(&body)).await.is_err());
    for what in &all {
        one.restore(asked(&name, what)).await.unwrap();
        assert_eq!(one.manifest(&name, &by_tag("t")).await.unwrap().1, body);
        one.delete_manifest(delete(&name, &by_digest(&body)))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn nothing_is_restored_where_there_is_no_room_or_nothing_is_kept() {
    let world = with_quota(30);
    let (one, name) = (world.member(1), repo("q/a"));
    let (body, reference) = image_of(&one, &name, &[b"eight bytes!"]).await;
    one.put_manifest(put(&name, &by_tag("t"), &body)).await.unwrap();
    one.delete_manifest(delete(&name, &reference)).await.unwrap();
    days(&world, &one, &[1]).await;
    push(&one, &name, &[7; 20]).await;
    let what = Undo::Manifest(sha256(&body));
    let refused = one.restore(asked(&name, &what)).await;
    assert!(
        matches!(
            refused,
            Err(RegistryError::QuotaExceeded {
                used: 20,
                allowed: 30,
                asked: Some(14),
                ..
            })
        ),
        "{refused:?}"
    );
    assert_eq!(used(&one, &name).await, 20);
    one.delete_blob(&name, &sha256(&[7; 20]), soon()).await.unwrap();
    one.restore(asked(&name, &what)).await.unwrap();
    assert_eq!(used(&one, &name).await, 14);

    one.delete_manifest(delete(&name, &reference)).await.unwrap();
    days(&world, &one, &[1, 15, 16]).await;
    let gone = one.restore(asked(&name, &what)).await;
    assert!(matches!(gone, Err(RegistryError::ManifestUnknown)));
    // Without a history nothing is ever kept for anybody.
    let mut without = World::new();
    without.settings.limits.history = Duration::ZERO;
    let one = without.member(1);
    let body = pushed_image(&one, &name, "n").await;
    one.put_manifest(put(&name, &by_tag("t"), &body)).await.unwrap();
    one.delete_manifest(delete(&name, &by_digest(&body)))
        .await
        .unwrap();
    let what = Undo::Manifest(sha256(&body));
    let gone = one.restore(asked(&name, &what)).await;
    assert!(matches!(gone, Err(RegistryError::ManifestUnknown)));
}

#[tokio::test]
async fn a_repository_comes_back_as_it_was_and_what_was_made_since_stays() {
    let world = world();
    let (one, two, name) = (world.member(1), world.member(2), repo("a"));
    let bodies = [
        pushed_image(&one, &name, "one").await,
        pushed_image(&one, &name, "two").await,
        pushed_image(&one, &name, "three").await,
    ];
    one.put_manifest(put(&name, &by_digest(&bodies[0]), &bodies[0]))
        .await
        .unwrap();
    one.put_manifest(put(&name, &by_tag("two"), &bodies[1]))
        .await
        .unwrap();
    let list = index(&[&bodies[0], &bodies[1]], Some(&bodies[2]), "list");
    one.put_manifest(put(&name, &by_tag("list"), &list))
        .await
        .unwrap();
    one.put_manifest(put(&name, &by_tag("moved"), &list))
        .await
        .unwrap();
    let then = now(&one, &name).await;
    for body in [&list, &bodies[0], &bodies[1]] {
        one.delete_manifest(delete(&name, &by_digest(body)))
            .await
            .unwrap();
    }
    assert!(matches!(
        one.tags(&name, &Page::default()).await,
        Err(RegistryError::NameUnknown)
    ));
    days(&world, &two, &[1, 10]).await;
    let late = pushed_image(&one, &name, "three").await;
    one.put_manifest(put(&name, &by_tag("moved"), &late))
        .await
        .unwrap();
    let restored = two
        .restore(asked(&name, &Undo::Everything { at: then }))
        .await
        .unwrap();
    assert_eq!(restored.manifests.len(), 3);
    let left = Left {
        tag: Some(tag("moved")),
        digest: sha256(&list),
        why: WhyLeft::Moved,
    };
    assert_eq!(restored.left, [left]);
    let tags = one.tags(&name, &Page::default()).await.unwrap().names;
    assert_eq!(tags, ["list", "moved", "two"]);
    assert_eq!(one.manifest(&name, &by_tag("moved")).await.unwrap().1, late);
    let referrers = one
        .referrers(&name, &sha256(&bodies[2]), &[], &Page::default())
        .await
        .unwrap();
    assert_eq!(referrers.referrers.len(), 1);
    days(&world, &two, &[12, 40]).await;
    for text in ["one", "two", "three"] {
        assert_eq!(
            pull(&one, &name, &sha256(text.as_bytes())).await.unwrap(),
            text.as_bytes()
        );
    }
    check_history(&world, &one, &name).await;
}

#[tokio::test]
async fn a_run_of_retention_is_undone_by_its_id() {
    let world = world();
    let (one, two, name) = (world.member(1), world.member(2), repo("a"));
    for text in ["a", "b", "c", "d"] {
        let body = pushed_image(&one, &name, text).await;
        one.put_manifest(put(&name, &by_tag(text), &body)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let text = "storage: {rootDirectory: /d, retention: {delay: 0s, policies: [{repositories: ['**'], keepTags: [{mostRecentlyPushedCount: 1}]}]}}";
    let policies = config::parse(std::path::Path::new("c.yaml"), text)
        .unwrap()
        .retention;
    two.retain(&name, &policies, "the run").await.unwrap();
    let tags = async || one.tags(&name, &Page::default()).await.unwrap().names;
    assert_eq!(tags().await, ["d"]);
    let moved = pushed_image(&one, &name, "moved").await;
    one.put_manifest(put(&name, &by_tag("b"), &moved)).await.unwrap();
    days(&world, &two, &[1, 5]).await;
    let other = one.restore(asked(&name, &Undo::Run("another".into()))).await;
    assert!(matches!(other, Err(RegistryError::ManifestUnknown)));
    let what = Undo::Run("the run".into());
    let restored = one.restore(asked(&name, &what)).await.unwrap();
    assert_eq!(restored.manifests.len(), 3);
    let left: Vec<_> = restored
        .left
        .iter()
        .map(|left| left.tag.clone().unwrap())
        .collect();
    assert_eq!(left, [tag("b")]);
    assert_eq!(tags().await, ["a", "b", "c", "d"]);
    assert_eq!(one.manifest(&name, &by_tag("b")).await.unwrap().1, moved);
}

#[tokio::test]
async fn a_restore_that_meets_the_collector_or_a_push_anywhere_is_whole_or_told_so() {
    for end in [1, 15] {
        at_every_await(async |polls| {
            let world = world();
            let (one, two, name) = (world.member(1), world.member(2), repo("a"));
            let (body, reference) = image_of(&one, &name, &[b"layer"]).await;
            one.put_manifest(put(&name, &by_tag("t"), &body)).await.unwrap();
            one.delete_manifest(delete(&name, &reference)).await.unwrap();
            days(&world, &two, &[1]).await;
            let other = pushed_image(&two, &name, "other").await;
            let what = Undo::Manifest(sha256(&body));
            let meanwhile = async {
                two.put_manifest(put(&name, &by_tag("t"), &other)).await.unwrap();
                days(&world, &two, &[end]).await;
            };
            let (restored, early) = interrupted(polls, one.restore(asked(&name, &what)), meanwhile).await;
            days(&world, &two, &[end, 20]).await;
            assert_eq!(two.manifest(&name, &by_tag("t")).await.unwrap().1, other);
            match &restored {
                Ok(restored) => {
                    assert_eq!(restored.manifests, [sha256(&body)]);
                    assert_eq!(two.manifest(&name, &reference).await.unwrap().1, body);
                    assert_eq!(pull(&two, &name, &sha256(b"layer")).await.unwrap(), b"layer");
                }
                Err(error) => assert!(
                    matches!(
                        error,
                        RegistryError::ManifestUnknown
                            | RegistryError::ManifestBlobUnknown { .. }
                            | RegistryError::Contended
                    ),
                    "{error:?}"
                ),
            }
            early
        })
        .await;
    }
}

#[tokio::test]
async fn whoever_dies_at_a_restore_leaves_what_is_kept_or_whole() {
    at_every_await(async |polls| {
        let world = with_quota(100);
        let (one, two, name) = (world.member(1), world.member(2), repo("q/a"));
        let (body, reference) = image_of(&one, &name, &[b"layer"]).await;
        one.put_manifest(put(&name, &by_tag("t"), &body)).await.unwrap();
        one.delete_manifest(delete(&name, &reference)).await.unwrap();
        days(&world, &two, &[1]).await;
        let what = Undo::Manifest(sha256(&body));
        let ended = {
            let mut dying = std::pin::pin!(one.restore(asked(&name, &what)));
            polled(dying.as_mut(), polls).await.is_some()
        };
        if two.describe_manifest(&name, &reference).await.is_err() {
            days(&world, &two, &[2]).await;
            assert_eq!(used(&two, &name).await, 0);
            two.restore(asked(&name, &what)).await.unwrap();
        }
        days(&world, &two, &[20]).await;
        assert_eq!(two.manifest(&name, &by_tag("t")).await.unwrap().1, body);
        assert_eq!(pull(&two, &name, &sha256(b"layer")).await.unwrap(), b"layer");
        assert_eq!(used(&two, &name).await, 7);
        ended
    })
    .await;
}

#[tokio::test]
async fn failing_stores_lose_nothing_that_can_be_brought_back() {
    for seed in 0..30 {
        let mut world = World::with_faults(seed, FaultRates::each(0.05));
        world.settings.limits.link_grace = Duration::from_secs(60 * 60);
        world.settings.limits.history = TWO_WEEKS;
        world.settings.limits.attempts = 16;
        let calm = world.settled().await;
        let name = repo("a");
        let (body, reference) = image_of(&calm, &name, &[b"layer"]).await;
        calm.put_manifest(put(&name, &by_tag("t"), &body)).await.unwrap();
        calm.delete_manifest(delete(&name, &reference)).await.unwrap();
        let one = world.member(1);
        days(&world, &one, &[1, 3, 13]).await;
        let what = Undo::Manifest(sha256(&body));
        for _ in 0..20 {
            let _ = one.restore(asked(&name, &what)).await;
        }
        let calm = world.settled().await;
        calm.restore(asked(&name, &what)).await.unwrap();
        days(&world, &one, &[14, 20]).await;
        assert_eq!(calm.manifest(&name, &by_tag("t")).await.unwrap().1, body);
        assert_eq!(pull(&calm, &name, &sha256(b"layer")).await.unwrap(), b"layer");
        let links = world
            .meta
            .keys()
            .into_iter()
            .filter(|key| key.space == Space::Links);
        assert_eq!(links.count(), 2);
    }
}
