//! Members share the reading: nothing is read twice, whoever dies, nor before its time.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_util::{future::join_all, stream};
use parking_lot::Mutex;
use prost::Message as _;

use super::{
    super::tests::{Three, member},
    *,
};
use crate::{
    oci::{Algorithm, Digest, RepoName},
    ownership::Incarnation,
    placement::{HashKey, MemberId},
    registry::{Holder, Settings, Stores},
    storage::{
        BlobStore as _, Expect, MemoryBlobs, MemoryMeta, MetaStore as _, MeteredBlobs, ObjectKey, Payload,
        Version, keys, rows,
    },
};

const REPOSITORIES: usize = 24;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const NOW_MS: u64 = 1_800_000_000_000;

/// Repositories with a blob each, and one that all of them hold.
struct World {
    meta: Arc<MemoryMeta>,
    blobs: Arc<MemoryBlobs>,
    gone: Arc<Mutex<Vec<MemberId>>>,
}

impl World {
    async fn new() -> Self {
        let world = Self {
            meta: Arc::default(),
            blobs: Arc::default(),
            gone: Arc::default(),
        };
        let (registry, _) = world.registry(1);
        for n in 0..REPOSITORIES {
            let name = RepoName::parse(&format!("r{n}")).unwrap();
            let row = rows::Repository {
                min_reader: rows::SCHEMA,
                manifests: 1,
                ..rows::Repository::default()
            };
            let entry = rows::CatalogEntry {
                min_reader: rows::SCHEMA,
            };
            let there = [
                keys::repository(&name).put(Expect::Any, row.encode_to_vec()),
                keys::catalog_entry(&name).put(Expect::Any, entry.encode_to_vec()),
            ];
            world.meta.transact(Version::random(), &there).await.unwrap();
            for content in [format!("blob {n}"), "shared".to_owned()] {
                let digest = Digest::of(Algorithm::Sha256, content.as_bytes());
                let body = stream::iter([Ok(Bytes::from(content))]);
                registry.push_blob(&name, &digest, None, body).await.unwrap();
            }
        }
        world
    }

    fn registry(&self, n: u8) -> (Arc<Registry>, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::new());
        let stores = Stores {
            meta: self.meta.clone(),
            blobs: Arc::new(MeteredBlobs::new(self.blobs.clone(), metrics.clone())),
        };
        let holder = Holder {
            member: member(n),
            incarnation: Incarnation::random(),
        };
        (
            Arc::new(Registry::new(stores, holder, Settings::default())),
            metrics,
        )
    }

    /// The `n`-th member's worker, and what it counts. Each step is a stride.
    fn scrubbing(&self, n: u8, bytes_per_second: u64) -> (Scrubbing, Arc<Metrics>) {
        let (registry, metrics) = self.registry(n);
        let view = Three {
            gone: self.gone.clone(),
            ..Three::of(n)
        };
        let share = Share::new(Arc::new(view), Some(HashKey::new(*b"loremipsumdolors")));
        let limits = ScrubLimits {
            bytes_per_second,
            stride: Duration::ZERO,
            ..ScrubLimits::default()
        };
        (
            Scrubbing::new(DAY, registry, share, metrics.clone(), limits),
            metrics,
        )
    }
}

/// Objects that were read.
fn read(metrics: &Metrics) -> u64 {
    let said = metrics.render();
    let counts = said.lines().filter(|line| {
        line.starts_with("portolan_store_requests_total{") && line.contains("operation=\"get\"")
    });
    counts
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

#[tokio::test]
async fn members_read_everything_once_between_them_and_again_when_the_interval_is_over() {
    let world = World::new().await;
    let members = [1, 2, 3].map(|n| world.scrubbing(n, 0));
    let end = CancellationToken::new();
    for (round, now_ms) in [(1, NOW_MS), (1, NOW_MS + 1000), (2, NOW_MS + 86_400_000)] {
        let now_ms = move || now_ms;
        let rounds = members
            .iter()
            .map(|(scrubbing, _)| scrubbing.round(&end, &now_ms));
        for done in join_all(rounds).await {
            done.unwrap();
        }
        let read = members.each_ref().map(|(_, metrics)| read(metrics));
        let everything = REPOSITORIES as u64 + 1;
        assert_eq!(read.iter().sum::<u64>(), round * everything, "{read:?}");
        assert!(read.iter().all(|read| *read > 0), "all take part: {read:?}");
    }
    let parts: BTreeSet<_> = members
        .iter()
        .flat_map(|(_, metrics)| {
            let said = metrics.render();
            let ends = said
                .lines()
                .filter(|line| line.starts_with("portolan_scrub_end_timestamp_seconds{"));
            ends.map(|line| line.split(' ').next().unwrap().to_owned())
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(
        parts.len(),
        usize::from(keys::CHANGE_PARTITIONS),
        "each is told by who has it"
    );
}

#[tokio::test(start_paused = true)]
async fn who_has_just_started_looks_soon() {
    let world = World::new().await;
    world.gone.lock().extend([member(2), member(3)]);
    let (scrubbing, metrics) = world.scrubbing(1, 0);
    let soon = scrubbing.limits.look_interval / 10;
    let end = CancellationToken::new();
    let watched = async {
        tokio::time::sleep(soon + Duration::from_secs(1)).await;
        end.cancel();
    };
    tokio::join!(scrubbing.run(end.clone(), || NOW_MS), watched);
    assert_eq!(read(&metrics), REPOSITORIES as u64 + 1);
}

/// A row a second.
const SLOWLY: u64 = 32 << 10;

#[tokio::test(start_paused = true)]
async fn who_dies_is_followed_by_others_from_where_it_was() {
    // Of two rows one is read.
    for seconds in [2, 5, 9] {
        let world = World::new().await;
        let ((dying, before), (left, after)) = (world.scrubbing(1, SLOWLY), world.scrubbing(2, 0));
        world.gone.lock().push(member(3));
        let end = CancellationToken::new();
        let alive = Duration::from_millis(seconds * 1000 + 500);
        tokio::time::timeout(alive, dying.round(&end, &|| NOW_MS))
            .await
            .unwrap_err();
        world.gone.lock().push(member(1));
        left.round(&end, &|| NOW_MS).await.unwrap();
        let (before, after) = (read(&before), read(&after));
        assert!(before > 0 && before <= seconds, "{before}");
        // One at most was being read.
        let everything = REPOSITORIES as u64 + 1;
        assert!(
            (everything..=everything + 1).contains(&(before + after)),
            "{before} {after}"
        );
    }
}

#[tokio::test]
async fn an_end_stops_it_where_it_stands_and_damage_is_counted() {
    let world = World::new().await;
    let shared = keys::blob(&Digest::of(Algorithm::Sha256, b"shared"));
    let found = world.meta.get(&shared).await.unwrap().unwrap();
    let record = rows::Blob::decode(found.bytes).unwrap();
    let key = ObjectKey::parse(&record.object_key).unwrap();
    world
        .blobs
        .put(&key, Payload::from(Bytes::from_static(b"x")))
        .await
        .unwrap();
    world.gone.lock().extend([member(2), member(3)]);
    let (scrubbing, metrics) = world.scrubbing(1, 0);
    let ended = CancellationToken::new();
    ended.cancel();
    scrubbing.round(&ended, &|| NOW_MS).await.unwrap();
    assert_eq!(read(&metrics), 0);
    scrubbing
        .round(&CancellationToken::new(), &|| NOW_MS)
        .await
        .unwrap();
    let said = metrics.render();
    assert!(
        said.contains("portolan_scrub_objects_total{outcome=\"damaged\"} 1\n"),
        "{said}"
    );
    let whole = format!("portolan_scrub_objects_total{{outcome=\"whole\"}} {REPOSITORIES}\n");
    assert!(said.contains(&whole), "{said}");
    assert!(
        said.contains("portolan_scrub_objects_total{outcome=\"failed\"} 0\n"),
        "{said}"
    );
}
