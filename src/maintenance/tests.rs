//! When rows are looked at, and by whom. What is done about them is tested in `registry::upkeep`.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    ownership::{Incarnation, Liveness, MemberView, Proof, Standing, StaticView, View},
    placement::{HashKey, MemberId},
    registry::{Holder, Registry, Settings, Stores},
    storage::{
        BlobStore as _, Expect, MemoryBlobs, MemoryMeta, MetaStore as _, ObjectKey, Op, Payload, Version,
        faulty::{FaultPlan, FaultRates, FaultyBlobs},
        keys::{self, Queue},
        rows,
        rows::DueKind,
    },
    telemetry::Metrics,
};

fn member(n: u8) -> MemberId {
    format!("127.0.0.{n}:5000").parse().unwrap()
}

/// One of three members' view, in which some are gone.
struct Three {
    me: MemberId,
    gone: Arc<Mutex<Vec<MemberId>>>,
}

#[async_trait::async_trait]
impl View for Three {
    fn me(&self) -> &MemberId {
        &self.me
    }

    fn incarnation(&self) -> Incarnation {
        Incarnation::random()
    }

    fn members(&self) -> Arc<[MemberView]> {
        let view = |n| MemberView {
            id: member(n),
            mesh_address: String::new(),
            liveness: match self.gone.lock().contains(&member(n)) {
                true => Liveness::Gone,
                false => Liveness::Live,
            },
            lease: None,
        };
        (1..=3).map(view).collect()
    }

    fn standing(&self) -> Standing {
        Standing::Member
    }

    fn proof(&self) -> Proof {
        Proof::Host
    }

    fn trouble(&self) -> Option<String> {
        None
    }

    fn age(&self) -> Duration {
        Duration::ZERO
    }

    async fn look(&self) {}
}

#[test]
fn every_partition_is_one_live_members() {
    let gone = Arc::new(Mutex::new(Vec::new()));
    let shares = [1, 2, 3].map(|n| {
        let view = Three {
            me: member(n),
            gone: gone.clone(),
        };
        Share::new(Arc::new(view), Some(HashKey::new(*b"loremipsumdolors")))
    });
    let all: Vec<u16> = (0..keys::DUE_PARTITIONS).collect();
    let of = |members: &[usize]| {
        let mut partitions: Vec<u16> = members
            .iter()
            .flat_map(|n| shares[*n].partitions(Queue::Upkeep))
            .collect();
        partitions.sort_unstable();
        partitions
    };
    assert_eq!(of(&[0, 1, 2]), all);
    let before = of(&[0]);
    assert!(
        (40..=130).contains(&before.len()),
        "about a third: {}",
        before.len()
    );
    gone.lock().push(member(2));
    assert_eq!(of(&[0, 2]), all);
    assert!(before.iter().all(|n| of(&[0]).contains(n)), "it only gains");
}

/// A member by itself over stores in memory, whose clock says `NOW_MS`.
struct Alone {
    meta: Arc<MemoryMeta>,
    blobs: Arc<MemoryBlobs>,
    metrics: Arc<Metrics>,
    upkeep: Upkeep,
}

const NOW_MS: u64 = 1_000_000_000;
/// Due for ten minutes.
const DUE_MS: u64 = NOW_MS - 600_000;

impl Alone {
    fn with(pace: Pace, rates: FaultRates) -> Self {
        let (meta, blobs) = (Arc::new(MemoryMeta::new()), Arc::new(MemoryBlobs::new()));
        let plan = FaultPlan::new(1, rates);
        let stores = Stores {
            meta: meta.clone(),
            blobs: Arc::new(FaultyBlobs::new(blobs.clone(), plan)),
        };
        let holder = Holder {
            member: member(1),
            incarnation: Incarnation::random(),
        };
        let registry = Arc::new(Registry::new(stores, holder, Settings::default()));
        let share = Share::new(Arc::new(StaticView::new(member(1), [])), None);
        let metrics = Arc::new(Metrics::new());
        Self {
            meta,
            blobs,
            upkeep: Upkeep::new(Queue::Upkeep, registry, share, metrics.clone(), pace),
            metrics,
        }
    }

    async fn write(&self, op: Op) {
        self.meta.transact(Version::random(), &[op]).await.unwrap();
    }

    /// An object, and the row that condemns it for good.
    async fn trash(&self, key: &str) {
        let object = ObjectKey::parse(key).unwrap();
        self.blobs
            .put(&object, Payload::from(Bytes::from_static(b"x")))
            .await
            .unwrap();
        self.write(due(DueKind::Trash, key, 1)).await;
    }

    fn says(&self, line: &str) -> bool {
        self.metrics.render().lines().any(|said| said == line)
    }
}

fn due(kind: DueKind, subject: &str, passes: u32) -> Op {
    let row = rows::Due {
        min_reader: rows::SCHEMA,
        kind: kind.into(),
        key: subject.to_owned(),
        passes,
        ..rows::Due::default()
    };
    keys::due(DUE_MS, kind, subject).put(Expect::Any, row.encode_to_vec())
}

fn pace(rows: usize) -> Pace {
    Pace {
        interval: Duration::from_secs(300),
        rows,
        partitions_at_once: 4,
        rows_per_second: 1_000_000,
        window: None,
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_due_is_done_within_two_intervals_and_counted() {
    let alone = Alone::with(pace(100), FaultRates::default());
    for n in 0..300 {
        alone.trash(&format!("manifests/{n}")).await;
    }
    let end = CancellationToken::new();
    let (meta, blobs, metrics) = (alone.meta, alone.blobs, alone.metrics);
    let watched = async {
        tokio::time::sleep(Duration::from_secs(600)).await;
        end.cancel();
    };
    tokio::join!(alone.upkeep.run(end.clone(), || NOW_MS), watched);
    assert!(meta.is_empty());
    assert_eq!(blobs.objects(), vec![]);
    let said = metrics.render();
    assert!(
        said.contains("portolan_upkeep_rows_total{kind=\"trash\",outcome=\"done\"} 300\n"),
        "{said}"
    );
}

#[tokio::test]
async fn rows_that_fail_are_in_nobodys_way_and_counted() {
    let mut alone = Alone::with(pace(2), FaultRates::default());
    // All in one partition, those that fail first.
    let partition = |subject: &str| keys::due(0, DueKind::Session, subject).partition;
    let mut broken = (0..)
        .map(|n| format!("a{n}"))
        .filter(|subject| partition(subject) == "_due#07");
    for _ in 0..7 {
        alone
            .write(due(DueKind::Session, &broken.next().unwrap(), 0))
            .await;
    }
    let good = (0..)
        .map(|n| format!("b{n}"))
        .find(|subject| partition(subject) == "_due#07")
        .unwrap();
    alone.trash(&good).await;
    for _ in 0..4 {
        alone.upkeep.round(|| NOW_MS).await;
    }
    assert_eq!(alone.blobs.objects(), vec![]);
    assert_eq!(alone.meta.len(), 7);
    assert!(alone.says("portolan_upkeep_rows_total{kind=\"session\",outcome=\"failed\"} 7"));
    assert!(
        alone.says("portolan_upkeep_oldest_overdue_seconds{queue=\"upkeep\"} 600"),
        "{}",
        alone.metrics.render()
    );
    // And begins again from the first.
    alone.upkeep.round(|| NOW_MS).await;
    assert!(alone.says("portolan_upkeep_rows_total{kind=\"session\",outcome=\"failed\"} 9"));
}

#[tokio::test(start_paused = true)]
async fn it_ends_at_once_in_the_middle_of_work() {
    let stuck = FaultRates {
        delayed: 1.0,
        longest_delay: Duration::from_secs(1_000_000),
        ..FaultRates::default()
    };
    let alone = Alone::with(pace(100), stuck);
    alone.trash("manifests/a").await;
    let end = CancellationToken::new();
    let begun = Instant::now();
    let ended = async {
        tokio::time::sleep(Duration::from_secs(500)).await;
        end.cancel();
    };
    let meta = alone.meta.clone();
    tokio::join!(alone.upkeep.run(end.clone(), || NOW_MS), ended);
    assert_eq!(begun.elapsed(), Duration::from_secs(500));
    assert_eq!(meta.len(), 1, "the row is there for another time");
}
