//! What is kept is told as before; what isn't goes whole, and who asks for it is told so.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::*;
use crate::{
    oci::Reference,
    registry::{
        OfDeleted, RegistryError,
        changes::{HistoryPage, PARTITIONS, Place, checks::settle_all},
        manifests::tests::{by_tag, pushed_image},
        testing::{World, delete, put, repo, sha256, tag},
    },
};

/// So many rows of these partitions there are.
fn rows_of(world: &World, partition: &str) -> usize {
    let keys = world.meta.keys().into_iter();
    keys.filter(|key| key.partition.starts_with(partition)).count()
}

async fn trim_all(registry: &Registry, now_ms: u64) -> usize {
    let mut rows = 0;
    for n in 0..PARTITIONS {
        let mut after = None;
        loop {
            let looked = registry.trim_histories(n, after, now_ms).await.unwrap();
            assert!(looked.failed.is_none(), "{looked:?}");
            after = looked.after;
            rows += looked.trimmed.rows;
            if !looked.trimmed.more {
                break;
            }
        }
    }
    rows
}

async fn events_of(registry: &Registry, name: &RepoName, text: &str) -> Vec<u64> {
    let page = HistoryPage {
        limit: 1000,
        before_ms: None,
        since_ms: None,
        digest: None,
    };
    let events = registry
        .tag_history(name, &tag(text), &page)
        .await
        .unwrap()
        .events;
    events.iter().map(|event| event.at_ms / DAY_MS).collect()
}

#[tokio::test]
async fn of_what_is_too_old_only_what_tags_name_since_is_told() {
    static NOW: AtomicU64 = AtomicU64::new(0);
    clock::simulate(Some(|| NOW.load(Ordering::Relaxed)));
    let mut world = World::new();
    world.settings.limits.history = Duration::ZERO;
    world.settings.limits.clock_margin = Duration::ZERO;
    world.settings.limits.history_events = Some(Duration::from_secs(10 * 24 * 60 * 60));
    let (one, name, gone) = (world.member(1), repo("a"), repo("b"));
    let on = |day: u64| NOW.store(day * DAY_MS + 1000, Ordering::Relaxed);
    let push_as = async |name: &RepoName, text: &str, what: &str| {
        let body = pushed_image(&one, name, what).await;
        one.put_manifest(put(name, &by_tag(text), &body)).await.unwrap();
        settle_all(&one).await;
        body
    };
    on(1);
    for text in ["moved", "deleted", "stays"] {
        push_as(&name, text, text).await;
    }
    push_as(&gone, "x", "x").await;
    // More than is trimmed at once.
    for n in 0..60 {
        push_as(&name, "often", &format!("{n}")).await;
    }
    on(2);
    let newer = push_as(&name, "moved", "newer").await;
    one.delete_manifest(delete(&name, &by_tag("deleted")))
        .await
        .unwrap();
    one.delete_manifest(delete(&gone, &by_tag("x"))).await.unwrap();
    settle_all(&one).await;
    on(20);
    let last = push_as(&name, "moved", "last").await;

    // All of it is as old as it may be, and no day older.
    assert_eq!(trim_all(&one, 11 * DAY_MS + DAY_MS - 1).await, 0);
    assert!(trim_all(&one, 21 * DAY_MS).await > 120);
    assert_eq!(events_of(&one, &name, "moved").await, [20, 2]);
    assert_eq!(events_of(&one, &name, "stays").await, [1]);
    assert_eq!(events_of(&one, &name, "often").await, [1]);
    assert_eq!(events_of(&one, &name, "deleted").await, [0; 0]);
    let at = async |text: &str, day: u64| {
        let found = one
            .manifest_at(&name, &tag(text), day * DAY_MS, OfDeleted::Open)
            .await;
        found.map(|(named, _)| named.digest)
    };
    assert_eq!(at("moved", 15).await.unwrap(), sha256(&newer));
    assert_eq!(at("moved", 21).await.unwrap(), sha256(&last));
    assert!(at("stays", 15).await.is_ok());
    assert!(matches!(
        at("moved", 2).await,
        Err(RegistryError::ManifestUnknown)
    ));
    let (changes, more) = one.history(&name, None, 1000).await.unwrap();
    assert_eq!((changes.len(), more), (1, false));
    assert_eq!(trim_all(&one, 21 * DAY_MS).await, 0, "it is done");
    // Of what is deleted nothing is left.
    let left = world.meta.keys().into_iter();
    let left: Vec<_> = left
        .filter(|key| key.partition == "b" && (key.sort.starts_with("h#") || key.sort.starts_with("e#")))
        .collect();
    assert_eq!(left, []);
    // What was kept for that goes with the next.
    assert!(trim_all(&one, 60 * DAY_MS).await > 0);
    assert_eq!(events_of(&one, &name, "moved").await, [20]);
    assert_eq!(rows_of(&world, "_days#"), 0);
    clock::simulate(None);
}

#[tokio::test]
async fn without_an_end_everything_is_told_and_a_later_one_counts_for_it() {
    let mut world = World::new();
    world.settings.limits.history = Duration::ZERO;
    let (one, name) = (world.member(1), repo("a"));
    for what in ["former", "now"] {
        let body = pushed_image(&one, &name, what).await;
        one.put_manifest(put(&name, &by_tag("t"), &body)).await.unwrap();
        settle_all(&one).await;
    }
    let in_a_year = clock::now_ms() + 400 * DAY_MS;
    world.calls.take();
    assert_eq!(trim_all(&one, in_a_year).await, 0);
    assert_eq!(world.calls.take(), "", "nobody even looks");
    assert_eq!(events_of(&one, &name, "t").await.len(), 2);
    world.settings.limits.history_events = Some(Duration::from_secs(60 * 60));
    assert!(trim_all(&world.member(2), in_a_year).await > 0);
    assert_eq!(events_of(&one, &name, "t").await.len(), 1);
    let named = one.manifest(&name, &Reference::Tag(tag("t"))).await;
    assert!(named.is_ok());
}

#[tokio::test]
async fn a_tag_that_was_deleted_after_many_moves_stays_deleted() {
    let mut world = World::new();
    world.settings.limits.history = Duration::ZERO;
    let (one, name) = (world.member(1), repo("a"));
    let body = pushed_image(&one, &name, "kept").await;
    one.put_manifest(put(&name, &by_tag("other"), &body))
        .await
        .unwrap();
    for what in 0..MAX_OPS + 20 {
        let body = pushed_image(&one, &name, &format!("{what}")).await;
        one.put_manifest(put(&name, &by_tag("t"), &body)).await.unwrap();
    }
    one.delete_manifest(delete(&name, &by_tag("t"))).await.unwrap();
    settle_all(&one).await;
    world.settings.limits.history_events = Some(Duration::from_secs(60 * 60));
    trim_all(&world.member(2), clock::now_ms() + 400 * DAY_MS).await;
    assert_eq!(events_of(&one, &name, "t").await.len(), 0);
    assert_eq!(events_of(&one, &name, "other").await.len(), 1);
}

#[tokio::test]
async fn feeds_are_trimmed_once_followers_are_past_them_and_who_comes_late_is_told() {
    let mut world = World::new();
    world.settings.limits.clock_margin = Duration::ZERO;
    let (one, name) = (Arc::new(world.member(1)), repo("a"));
    let n = keys::change_partition(&name);
    for what in 0..60 {
        let body = pushed_image(&one, &name, &format!("{what}")).await;
        one.put_manifest(put(&name, &by_tag("t"), &body)).await.unwrap();
        settle_all(&one).await;
    }
    let feed = Feed::new(one.clone());
    let followers = ["slow".to_owned(), "never begun".to_owned()];
    let place = Place { after: 0, within: 0 };
    feed.begin("slow", feed.ends().await.unwrap()).await.unwrap();
    let noted = feed.place("slow", n).await.unwrap().unwrap();
    let noted = feed.note("slow", n, &noted, place).await.unwrap().unwrap();
    let trim = async |days: u64| {
        let mut rows = 0;
        loop {
            let trimmed = feed
                .trim(n, &followers, clock::now_ms() + days * DAY_MS)
                .await
                .unwrap();
            rows += trimmed.rows;
            if !trimmed.more {
                return rows;
            }
        }
    };
    assert_eq!(trim(6).await, 0, "it isn't old");
    assert_eq!(trim(8).await, 0, "somebody hasn't followed it");
    feed.note("slow", n, &noted, Place { after: 10, within: 3 })
        .await
        .unwrap();
    assert_eq!(trim(8).await, 10);
    // Who is where the first is that is kept misses nothing.
    let next = feed.read(n, 10).await.unwrap();
    assert!(!next.missed && !next.changes.is_empty());
    let late = feed.read(n, 9).await.unwrap();
    assert!(late.missed);
    // Nobody is waited for for ever.
    assert_eq!(trim(31).await, 50);
    let end = feed.ends().await.unwrap()[usize::from(n)];
    let late = feed.read(n, 10).await.unwrap();
    assert_eq!((late.missed, late.upto, end), (true, 60, 60));
    assert!(!feed.read(n, end).await.unwrap().missed);
    // And what comes then is followed.
    let body = pushed_image(&one, &name, "more").await;
    one.put_manifest(put(&name, &by_tag("t"), &body)).await.unwrap();
    settle_all(&one).await;
    let more = feed.read(n, end).await.unwrap();
    assert_eq!((more.missed, more.changes.len(), more.upto), (false, 1, 61));
}
