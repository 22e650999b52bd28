//! What is restored at the very moment when the collector shelves what it needs.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::{
    super::{
        collect::tests::{image_of, tend_all},
        testing::*,
    },
    tests::{asked, world},
    *,
};

static NOW: AtomicU64 = AtomicU64::new(0);
const HOUR: u64 = 60 * 60 * 1000;

/// Its links aren't shelved yet, and would be in a moment.
#[tokio::test]
async fn a_restore_that_meets_the_collector_anywhere_is_whole() {
    at_every_await(async |polls| {
        NOW.store(1_000 * HOUR, Ordering::Relaxed);
        clock::simulate(Some(|| NOW.load(Ordering::Relaxed)));
        let pass = |hours| NOW.fetch_add(hours, Ordering::Relaxed) + hours;
        let mut world = world();
        world.settings.limits.clock_margin = Duration::ZERO;
        let (one, two, name) = (world.member(1), world.member(2), repo("a"));
        let (body, reference) = image_of(&one, &name, &[b"layer"]).await;
        one.put_manifest(put(&name, &reference, &body)).await.unwrap();
        // Used by then, and so not looked at before it is let go.
        tend_all(&world, &two, pass(HOUR + 1)).await;
        one.delete_manifest(delete(&name, &reference)).await.unwrap();
        tend_all(&world, &two, pass(HOUR + 1)).await;
        let now_ms = pass(HOUR + 1);
        let what = Undo::Manifest(sha256(&body));
        let restore = one.restore(asked(&name, &what));
        let (restored, had_ended) = interrupted(polls, restore, tend_all(&world, &two, now_ms)).await;
        assert_eq!(restored.unwrap().manifests, [sha256(&body)], "after {polls}");
        for content in [&b"layer"[..], b"{}"] {
            let held = pull(&two, &name, &sha256(content)).await.unwrap();
            assert_eq!(held, content);
        }
        // And stays.
        tend_all(&world, &two, pass(HOUR + 1)).await;
        assert!(two.blob(&name, &sha256(b"layer")).await.is_ok());
        had_ended
    })
    .await;
    clock::simulate(None);
}
