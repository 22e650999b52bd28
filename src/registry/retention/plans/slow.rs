//! Plans get on, however long a repository takes and however many plans there were.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    tests::{ONLY_V, applied, items_of_plan, made, policies, tagged, tags_of, three, told},
    *,
};
use crate::{
    oci::{MediaType, Reference, RepoName},
    registry::testing::{World, delete, image, push, put, repo, sha256, tag},
    storage::{MAX_OPS, MetaStore as _, faulty::FaultRates},
};

/// Each request takes up to a second, and half of one mostly: some take a repository's time, and none the time of those that are short.
fn slow() -> World {
    let rates = FaultRates {
        delayed: 1.0,
        longest_delay: Duration::from_secs(1),
        ..FaultRates::default()
    };
    World::with_faults(7, rates)
}

/// Pushes indexes, each of which is read from the blob store: far more than there is time for.
async fn push_indexes(registry: &Registry, name: &RepoName) {
    for n in 0..80 {
        let index = serde_json::json!({
            "schemaVersion": 2, "mediaType": MediaType::IMAGE_INDEX, "manifests": [],
            "annotations": { "note": format!("{n}").repeat(3000) },
        });
        let reference = Reference::Tag(tag(&format!("x-index-{n}")));
        let body = index.to_string().into();
        registry.put_manifest(put(name, &reference, &body)).await.unwrap();
    }
}

async fn write(world: &World, ops: Vec<Op>) {
    for ops in ops.chunks(MAX_OPS) {
        world.meta.transact(Version::random(), ops).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_repository_that_takes_too_long_to_read_is_named_and_in_nobodys_way() {
    let world = slow();
    let (calm, policies) = (world.settled().await, policies(ONLY_V));
    let [_, long, _] = three(&[&calm]).await;
    push_indexes(&calm, &long).await;
    let whole = made(&[&calm], &policies).await;
    assert_eq!((whole.concerned, whole.unread), (3, 0));
    let plan = made(&[&world.member(1)], &policies).await;
    assert_eq!((plan.looked_at, plan.concerned, plan.unread), (3, 2, 1));
    let items = items_of_plan(&calm, &plan.id).await;
    let unread = ("b".to_owned(), None, Some("unread"));
    assert!(items.iter().map(told).any(|item| item == unread), "{items:?}");

    // Nor where it takes too long by the time that the plan is applied.
    let done = applied(&[&world.member(1)], &whole.id, &policies).await;
    let done = done.applied.unwrap();
    assert_eq!((done.repositories, done.tags), (3, 3));
    let items = items_of_plan(&calm, &whole.id).await;
    for item in &items {
        let left = (item.repository == long).then_some("unread");
        assert_eq!(item.left, left, "{item:?}");
    }
    assert_eq!(tags_of(&calm, &long).await.len(), 81);
    assert_eq!(tags_of(&calm, &repo("a")).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_repository_whose_history_is_too_long_to_read_is_done_and_named() {
    let mut world = slow();
    world.settings.limits.plan_read = Duration::from_secs(8);
    let (calm, policies) = (world.settled().await, policies(ONLY_V));
    let [name, ..] = three(&[&calm]).await;
    let plan = made(&[&calm], &policies).await;
    let gone = Reference::Tag(tag("x1"));
    calm.delete_manifest(delete(&name, &gone)).await.unwrap();
    // Since the plan was begun, by their times.
    let ops = (0..40_000).map(|n| {
        let at_ms = plan.begun_ms - n;
        let change = rows::NameChange {
            min_reader: rows::SCHEMA,
            repository: name.as_str().to_owned(),
            at_ms,
            ..rows::NameChange::default()
        };
        keys::settled_change(&name, at_ms).put(Expect::Any, row::bytes(&change))
    });
    write(&world, ops.collect()).await;
    let done = applied(&[&world.member(1)], &plan.id, &policies).await;
    assert_eq!(done.applied.unwrap().repositories, 2);
    let items = items_of_plan(&calm, &plan.id).await;
    let of_tags = items.iter().map(told).filter(|(_, tag, _)| tag.is_some());
    let expected = [
        ("a", Some("x1"), Some("unknown")),
        ("a", Some("x2"), None),
        ("c", Some("x1"), None),
    ];
    let expected = expected.map(|(name, tag, left)| (name.to_owned(), tag, left));
    assert_eq!(of_tags.collect::<Vec<_>>(), expected);
}

#[tokio::test(start_paused = true)]
async fn what_took_long_to_read_is_worth_some_deletions() {
    let mut world = slow();
    world.settings.limits.plan_step = Duration::from_secs(60 * 60);
    let (calm, policies) = (world.settled().await, policies(ONLY_V));
    let name = repo("a");
    for text in ["x1", "x2", "x3", "x4", "v1"] {
        tagged(&calm, &name, text, &[]).await;
    }
    let plan = made(&[&calm], &policies).await;
    let member = world.member(1);
    // Once to begin, once for the repository: the time was up long before it was read.
    for _ in 0..2 {
        member
            .apply_plan(&plan.id, &policies, Instant::now())
            .await
            .unwrap();
    }
    assert_eq!(tags_of(&calm, &name).await.len(), 1);
    let applied = calm.plan_of(&plan.id).await.unwrap().applied.unwrap();
    assert_eq!((applied.repositories, applied.tags, applied.left), (1, 4, 0));
}

#[tokio::test]
async fn within_a_repository_it_is_noted_how_far_it_is() {
    let world = World::new();
    let (one, name, policies) = (world.member(1), repo("a"), policies(ONLY_V));
    let config = push(&one, &name, b"{}").await;
    tagged(&one, &name, "v1", &[]).await;
    for n in 0..120 {
        let body = image(&[&config], &format!("{n}"));
        let reference = Reference::Digest(sha256(&body));
        one.put_manifest(put(&name, &reference, &body)).await.unwrap();
    }
    let mut plan = one.begin_plan("").await.unwrap();
    let mut seen = Vec::new();
    while plan.stage != PlanStage::Ready {
        if plan.stage == PlanStage::Sizing {
            seen.push((plan.progress * 120.0).round());
        }
        plan = one
            .carry_plan_on(&plan.id, &policies, Instant::now())
            .await
            .unwrap();
    }
    assert_eq!(seen, [0.0, 50.0, 100.0, 120.0]);
}

#[tokio::test]
async fn plans_that_have_ended_are_in_nobodys_way() {
    let world = World::new();
    let (one, now_ms) = (world.member(1), clock::now_ms());
    let ended = |n: u64, ends_ms| {
        let row = rows::Plan {
            min_reader: rows::SCHEMA,
            state: PlanState::Looking.into(),
            begun_ms: 1,
            ends_ms,
            ..rows::Plan::default()
        };
        // Those that begin now come after them.
        keys::plan(&format!("{n:018x}")).put(Expect::Any, row::bytes(&row))
    };
    // Just now: by another member's clock they haven't.
    write(&world, (0..1_100).map(|n| ended(n, now_ms)).collect()).await;
    let mut last = String::new();
    for _ in 0..20 {
        last = one.begin_plan("").await.unwrap().id;
    }
    let plans = one.plans().await.unwrap();
    assert_eq!(plans.len(), 16);
    assert!(plans.iter().any(|plan| plan.id == last));
    // Long ago.
    write(&world, (0..1_100).map(|n| ended(n, 1)).collect()).await;
    one.begin_plan("").await.unwrap();
    let keys = world.meta.keys().into_iter();
    let left = keys.filter(|key| key.partition == keys::PLANS).count();
    assert_eq!(left, 21, "those that were begun here");
}
