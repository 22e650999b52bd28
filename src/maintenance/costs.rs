//! What it costs: of members that have nothing to do, and of collecting what nobody needs, in requests to the stores.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{future::join_all, stream};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    tests::{Three, member},
    *,
};
use crate::{
    clock,
    config::{self, Limits},
    oci::{Algorithm, Digest, RepoName},
    ownership::{Incarnation, StaticView},
    placement::HashKey,
    registry::{Holder, Registry, Settings, Stores},
    storage::{
        Expect, MAX_OPS, MemoryBlobs, MemoryMeta, MetaStore, MeteredBlobs, MeteredMeta, Version,
        keys::{self, Queue},
        rows,
    },
    telemetry::Metrics,
};

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Requests to a store so far.
fn requests(metrics: &Metrics, store: &str) -> f64 {
    let (said, store) = (metrics.render(), format!("store=\"{store}\""));
    let counts = said
        .lines()
        .filter(|line| line.starts_with("portolan_store_requests_total{") && line.contains(&store));
    counts
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum()
}

/// A member's registry over stores that count into `metrics`.
fn registry(meta: &Arc<dyn MetaStore>, metrics: &Arc<Metrics>, n: u8) -> Arc<Registry> {
    let blobs = Arc::new(MemoryBlobs::new());
    let stores = Stores {
        meta: Arc::new(MeteredMeta::new(meta.clone(), metrics.clone())),
        blobs: Arc::new(MeteredBlobs::new(blobs, metrics.clone())),
    };
    let holder = Holder {
        member: member(n),
        incarnation: Incarnation::random(),
    };
    Arc::new(Registry::new(stores, holder, Settings::default()))
}

/// Members that have nothing to do for a day, each with all its workers, and how many requests each made to the store by the hour.
/// Leases aside.
async fn requests_of_a_day(views: Vec<Three>, hash_key: Option<HashKey>) -> Vec<f64> {
    let meta: Arc<dyn MetaStore> = Arc::new(MemoryMeta::new());
    let (begun, end, limits) = (Instant::now(), CancellationToken::new(), Limits::default());
    let begun_ms = clock::now_ms();
    let now_ms = move || begun_ms + u64::try_from(begun.elapsed().as_millis()).unwrap();
    let (mut work, mut counted) = (
        Vec::<futures_util::future::BoxFuture<'static, ()>>::new(),
        Vec::new(),
    );
    for (n, view) in (1..).zip(views) {
        let (metrics, view) = (Arc::new(Metrics::new()), Arc::new(view));
        counted.push(metrics.clone());
        let registry = registry(&meta, &metrics, n);
        let share = || Share::new(view.clone(), hash_key);
        for queue in [Queue::Upkeep, Queue::Collection] {
            let pace = match queue {
                Queue::Upkeep => limits.upkeep,
                Queue::Collection => limits.collection,
            };
            let upkeep = Upkeep::new(queue, registry.clone(), share(), metrics.clone(), pace);
            work.push(Box::pin(upkeep.run(end.clone(), now_ms)));
        }
        let pace = limits.collection;
        let settling = Settling::new(registry.clone(), share(), limits.changes);
        work.push(Box::pin(settling.run(end.clone())));
        let retention = Retention::new(
            config::Retention::default(),
            registry.clone(),
            share(),
            metrics.clone(),
            pace,
        );
        work.push(Box::pin(retention.run(end.clone(), now_ms)));
        let trimming = Trimming::new(registry.clone(), share(), Vec::new(), limits.changes, pace);
        work.push(Box::pin(trimming.run(end.clone(), now_ms)));
        let scrubbing = Scrubbing::new(DAY, registry.clone(), share(), metrics.clone(), limits.scrub);
        work.push(Box::pin(scrubbing.run(end.clone(), now_ms)));
        work.push(Box::pin(write_pulls(
            registry,
            limits.registry.pulls_interval,
            end.clone(),
        )));
    }
    let a_day = async {
        tokio::time::sleep(DAY).await;
        end.cancel();
    };
    tokio::join!(join_all(work), a_day);
    let by_hour = |metrics: &Arc<Metrics>| requests(metrics, "meta") / 24.0;
    counted.iter().map(by_hour).collect()
}

#[tokio::test(start_paused = true)]
async fn a_member_with_nothing_to_do_asks_at_most_sixty_times_an_hour() {
    let hash_key = || Some(HashKey::new(*b"loremipsumdolors"));
    let alone = requests_of_a_day(vec![Three::of(1)], None).await;
    let three = requests_of_a_day([1, 2, 3].map(Three::of).into(), hash_key()).await;
    let gone = Arc::new(Mutex::new(vec![member(2)]));
    let left = [1, 3].map(|n| Three {
        gone: gone.clone(),
        ..Three::of(n)
    });
    let left = requests_of_a_day(left.into(), hash_key()).await;
    println!("requests an hour: alone {alone:.1?}, of three {three:.1?}, one of which is gone {left:.1?}");
    for requests in [&alone, &three, &left].into_iter().flatten() {
        assert!((1.0..=60.0).contains(requests), "{alone:?} {three:?} {left:?}");
    }
}

/// Requests to the two stores while `blobs` that nothing references are collected, from unlinking until their objects were deleted twice,
/// where there are so many repositories.
async fn requests_to_collect(blobs: usize, repositories: usize) -> (f64, f64) {
    let (meta, metrics) = (Arc::new(MemoryMeta::new()), Arc::new(Metrics::new()));
    let name = |n: usize| RepoName::parse(&format!("r{n}")).unwrap();
    let rows: Vec<_> = (0..repositories)
        .flat_map(|n| {
            let repository = rows::Repository {
                min_reader: rows::SCHEMA,
                manifests: 1,
                ..rows::Repository::default()
            };
            let entry = rows::CatalogEntry {
                min_reader: rows::SCHEMA,
            };
            [
                keys::repository(&name(n)).put(Expect::Any, repository.encode_to_vec()),
                keys::catalog_entry(&name(n)).put(Expect::Any, entry.encode_to_vec()),
            ]
        })
        .collect();
    for rows in rows.chunks(MAX_OPS) {
        meta.transact(Version::random(), rows).await.unwrap();
    }
    let store: Arc<dyn MetaStore> = meta.clone();
    let registry = registry(&store, &metrics, 1);
    for n in 0..blobs {
        let content = Bytes::from(format!("blob {n}"));
        let digest = Digest::of(Algorithm::Sha256, &content);
        let body = stream::iter([Ok(content)]);
        let pushed = registry
            .push_blob(&name(n % repositories), &digest, None, body)
            .await;
        pushed.unwrap();
    }
    let before = [requests(&metrics, "meta"), requests(&metrics, "blobs")];
    let (end, begun, begun_ms) = (CancellationToken::new(), Instant::now(), clock::now_ms());
    let now_ms = move || begun_ms + u64::try_from(begun.elapsed().as_millis()).unwrap();
    let view = Arc::new(StaticView::new(member(1), []));
    let pace = Limits::default().collection;
    let queue = Queue::Collection;
    let worker = |registry| {
        Upkeep::new(
            queue,
            registry,
            Share::new(view.clone(), None),
            metrics.clone(),
            pace,
        )
    };
    let watched = async {
        tokio::time::sleep(4 * DAY + HOUR).await;
        end.cancel();
    };
    tokio::join!(worker(registry).run(end.clone(), now_ms), watched);
    let left = meta.keys().into_iter();
    let left = left.filter(|key| {
        key.partition.starts_with("_collect") || key.sort == "." && key.partition.contains(':')
    });
    assert_eq!(left.count(), 0);
    let after = [requests(&metrics, "meta"), requests(&metrics, "blobs")];
    (after[0] - before[0], after[1] - before[1])
}

#[tokio::test(start_paused = true)]
async fn collecting_a_blob_costs_the_same_however_many_repositories_there_are() {
    const BLOBS: usize = 2_000;
    for repositories in [1_000, 100_000] {
        let (idle, _) = requests_to_collect(0, repositories).await;
        let (meta, blobs) = requests_to_collect(BLOBS, repositories).await;
        let (meta, blobs) = ((meta - idle) / BLOBS as f64, blobs / BLOBS as f64);
        println!(
            "{repositories} repositories: a blob that nobody references took {meta:.3} requests to the metadata store and {blobs:.4} to the blob store"
        );
        assert!(meta <= 6.0 && blobs <= 0.02, "{meta} {blobs}");
    }
}
