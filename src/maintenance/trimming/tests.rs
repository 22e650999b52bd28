//! What can't be removed is in nobody's way, and is tried again soon.

use std::time::Duration;

use prost::Message as _;

use super::{super::tests::member, *};
use crate::{
    config::limits::{Limits, RegistryLimits},
    oci::RepoName,
    ownership::{Incarnation, StaticView},
    registry::{Holder, Settings, Stores},
    storage::{Expect, Key, MemoryBlobs, MemoryMeta, MetaStore as _, Op, Version, keys, rows},
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const NOW_MS: u64 = 1_000 * 24 * 60 * 60 * 1000;

async fn write(meta: &MemoryMeta, op: Op) {
    meta.transact(Version::random(), &[op]).await.unwrap();
}

fn repository(name: &str) -> RepoName {
    name.parse().unwrap()
}

/// A trimmer of everything, with days of long ago in all partitions; a plan that can't be read, a day of the first partition that
/// can't, and a history in another one that can't.
async fn trimming() -> (Arc<MemoryMeta>, Trimming, Vec<Key>) {
    let meta = Arc::new(MemoryMeta::new());
    let stores = Stores {
        meta: meta.clone(),
        blobs: Arc::new(MemoryBlobs::new()),
    };
    let holder = Holder {
        member: member(1),
        incarnation: Incarnation::random(),
    };
    let settings = Settings {
        limits: RegistryLimits {
            history: Duration::ZERO,
            history_events: Some(DAY),
            ..RegistryLimits::default()
        },
        ..Settings::default()
    };
    let mark = rows::Mark {
        min_reader: rows::SCHEMA,
    };
    let days = (0..keys::CHANGE_PARTITIONS).map(|n| keys::changed_day(n, 3, &repository("gone")));
    for day in days.chain([keys::changed_day(1, 2, &repository("broken"))]) {
        write(&meta, day.put(Expect::Any, mark.encode_to_vec())).await;
    }
    let broken = vec![
        keys::plan("0"),
        keys::changed_day_listed(0, "!".to_owned()),
        keys::settled_change(&repository("broken"), 1),
    ];
    for key in &broken {
        write(&meta, key.clone().put(Expect::Any, vec![0xff; 9])).await;
    }
    let registry = Arc::new(Registry::new(stores, holder, settings));
    let share = Share::new(Arc::new(StaticView::new(member(1), [])), None);
    let limits = Limits::default();
    let trimming = Trimming::new(registry, share, Vec::new(), limits.changes, limits.collection);
    (meta, trimming, broken)
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_removed_is_in_nobodys_way() {
    let (meta, trimming, mut left) = trimming().await;
    assert!(trimming.round(&|| NOW_MS).await.is_err());
    left.push(keys::changed_day(1, 2, &repository("broken")));
    let (mut found, name) = (meta.keys(), |key: &Key| format!("{key:?}"));
    found.sort_by_key(name);
    left.sort_by_key(name);
    assert_eq!(found, left);
}

#[tokio::test(start_paused = true)]
async fn it_is_tried_again_within_minutes() {
    let (meta, trimming, broken) = trimming().await;
    let end = CancellationToken::new();
    let watched = async {
        // It has begun by then.
        tokio::time::sleep(DAY).await;
        assert!(!meta.is_empty());
        for key in broken {
            write(&meta, key.delete(Expect::Any)).await;
        }
        tokio::time::sleep(Duration::from_secs(20 * 60)).await;
        end.cancel();
    };
    tokio::join!(trimming.run(end.clone(), || NOW_MS), watched);
    assert_eq!(meta.keys(), []);
}
