//! When rows are looked at, and by whom. What is done about them is tested in `registry::upkeep`.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    config::{Collecting, limits::RoundLimits},
    oci::RepoName,
    ownership::{Incarnation, LeaseView, Liveness, MemberView, Proof, Standing, StaticView, View},
    placement::{HashKey, MemberId},
    registry::{Holder, Registry, Settings, Stores},
    storage::{
        BlobStore as _, Expect, MemoryBlobs, MemoryMeta, MetaStore, MeteredMeta, ObjectKey, Op, Payload,
        Version,
        faulty::{FaultPlan, FaultRates, FaultyBlobs},
        keys::{self, Homes, Queue},
        rows,
        rows::DueKind,
    },
    telemetry::Metrics,
};

pub(super) fn member(n: u8) -> MemberId {
    format!("127.0.0.{n}:5000").parse().unwrap()
}

/// One of three members' view, in which some are gone.
pub(super) struct Three {
    pub(super) me: MemberId,
    pub(super) gone: Arc<Mutex<Vec<MemberId>>>,
    /// Who collects nothing.
    pub(super) idle: Arc<Mutex<Vec<MemberId>>>,
    pub(super) standing: Standing,
}

impl Three {
    pub(super) fn of(n: u8) -> Self {
        Self {
            me: member(n),
            gone: Arc::default(),
            idle: Arc::default(),
            standing: Standing::Member,
        }
    }
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
            lease: Some(LeaseView {
                incarnation: Incarnation::random(),
                unchanged: Duration::ZERO,
                left: false,
                drained: false,
                protocol: (1, 1),
                keys: Vec::new(),
                differs: Vec::new(),
                collecting: match self.idle.lock().contains(&member(n)) {
                    true => Collecting::Off,
                    false => Collecting::On,
                },
            }),
        };
        (1..=3).map(view).collect()
    }

    fn standing(&self) -> Standing {
        self.standing
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
            gone: gone.clone(),
            ..Three::of(n)
        };
        Share::new(Arc::new(view), Some(HashKey::new(*b"loremipsumdolors")))
    });
    let all: Vec<u16> = (0..keys::DUE_PARTITIONS).collect();
    let of = |members: &[usize]| {
        let mut partitions: Vec<u16> = members
            .iter()
            .map(|n| shares[*n].partitions(Queue::Upkeep))
            .flat_map(|mine| [mine.always, mine.at_times].concat())
            .collect();
        partitions.sort_unstable();
        partitions
    };
    let homes = |n| {
        let mut homes: Vec<u16> = Homes::of(&member(n)).partitions().collect();
        homes.sort_unstable();
        homes
    };
    assert_eq!(of(&[0, 1, 2]), all);
    let before = of(&[0]);
    assert!(
        (40..=130).contains(&before.len()),
        "about a third: {}",
        before.len()
    );
    // Nobody reads more than what they write to themselves, but at times.
    for (n, share) in (1..).zip(&shares) {
        assert_eq!(share.partitions(Queue::Upkeep).always, homes(n));
    }
    gone.lock().push(member(2));
    assert_eq!(of(&[0, 2]), all);
    assert!(before.iter().all(|n| of(&[0]).contains(n)), "it only gains");
    // What one wrote who is gone is looked at as often as before.
    let mut always: Vec<u16> = [0, 2]
        .into_iter()
        .flat_map(|n| shares[n].partitions(Queue::Upkeep).always)
        .collect();
    let mut everybodys = [homes(1), homes(2), homes(3)].concat();
    always.sort_unstable();
    everybodys.sort_unstable();
    assert_eq!(always, everybodys);
}

#[test]
fn who_is_drained_or_ends_leaves_the_work_to_others_while_there_are_any() {
    for standing in [Standing::Drained, Standing::Leaving] {
        let gone = Arc::new(Mutex::new(vec![member(2)]));
        let view = Three {
            gone: gone.clone(),
            standing,
            ..Three::of(2)
        };
        let share = Share::new(Arc::new(view), Some(HashKey::new(*b"loremipsumdolors")));
        let repository = RepoName::parse("library/alpine").unwrap();
        for queue in [Queue::Upkeep, Queue::Collection] {
            let mine = share.partitions(queue);
            assert_eq!((mine.always, mine.at_times), (vec![], vec![]));
        }
        assert_eq!(share.change_partitions(), [0; 0]);
        assert!(!share.has(&repository));
        gone.lock().extend([member(1), member(3)]);
        let mine = share.partitions(Queue::Upkeep);
        assert_eq!(
            mine.always.len() + mine.at_times.len(),
            usize::from(keys::DUE_PARTITIONS)
        );
        assert_eq!(
            share.change_partitions().len(),
            usize::from(keys::CHANGE_PARTITIONS)
        );
        assert!(share.has(&repository));
    }
}

#[test]
fn what_a_member_writes_that_collects_nothing_is_others_to_collect() {
    let idle = Arc::new(Mutex::new(vec![member(1)]));
    let shares = [1, 2, 3].map(|n| {
        let view = Three {
            idle: idle.clone(),
            ..Three::of(n)
        };
        Share::new(Arc::new(view), Some(HashKey::new(*b"loremipsumdolors")))
    });
    let always = |n: usize, queue| shares[n].partitions(queue).always;
    for home in Homes::of(&member(1)).partitions() {
        let collect = [1, 2].map(|n| always(n, Queue::Collection).contains(&home));
        assert_eq!(collect.iter().filter(|is| **is).count(), 1, "{home}");
        assert!(always(0, Queue::Upkeep).contains(&home));
    }
}

#[tokio::test(start_paused = true)]
async fn what_nobody_writes_to_is_found_within_a_day_and_then_done_in_time() {
    let alone = Alone::with(pace(100), FaultRates::default());
    let mine: Vec<u16> = Homes::of(&member(1)).partitions().collect();
    let of_another = (2..).map(member).find(|other| {
        let mut homes = Homes::of(other).partitions();
        homes.all(|home| !mine.contains(&home))
    });
    let homes = Homes::of(&of_another.unwrap());
    // One is due, the other will be in two days.
    const LATER_MS: u64 = 2 * 24 * 60 * 60 * 1000;
    for (subject, due_ms) in [("manifests/now", DUE_MS), ("manifests/then", NOW_MS + LATER_MS)] {
        let op = due(DueKind::Trash, subject, 1);
        let key = keys::due(homes, due_ms, DueKind::Trash, subject);
        alone.write(Op { key, ..op }).await;
    }
    let (meta, end, begun) = (alone.meta, CancellationToken::new(), Instant::now());
    let now_ms = move || NOW_MS + u64::try_from(begun.elapsed().as_millis()).unwrap();
    let watched = async {
        const HOUR: Duration = Duration::from_secs(60 * 60);
        tokio::time::sleep(25 * HOUR).await;
        assert_eq!(meta.len(), 1);
        tokio::time::sleep(22 * HOUR).await;
        assert_eq!(meta.len(), 1, "not before its time");
        tokio::time::sleep(2 * HOUR).await;
        assert!(meta.is_empty());
        end.cancel();
    };
    tokio::join!(alone.upkeep.run(end.clone(), now_ms), watched);
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
    fn with(pace: RoundLimits, rates: FaultRates) -> Self {
        Self::of(Queue::Upkeep, pace, rates)
    }

    fn of(queue: Queue, pace: RoundLimits, rates: FaultRates) -> Self {
        let view = Arc::new(StaticView::new(member(1), []));
        Self::with_share(Share::new(view, None), queue, pace, rates)
    }

    fn with_share(share: Share, queue: Queue, pace: RoundLimits, rates: FaultRates) -> Self {
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
        let metrics = Arc::new(Metrics::new());
        Self {
            meta,
            blobs,
            upkeep: Upkeep::new(queue, registry, share, metrics.clone(), pace),
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

#[tokio::test]
async fn what_objects_take_that_are_to_be_deleted_is_told_however_many_there_are() {
    let mut alone = Alone::of(Queue::Collection, pace(100), FaultRates::default());
    // One is due; the others will be in an hour, too many for one read; what was deleted once takes nothing.
    let mut objects: Vec<(String, u64, u64)> = (0..1100)
        .map(|n| (format!("blobs/later-{n}"), NOW_MS + 60 * 60 * 1000, 1000))
        .collect();
    objects.push(("blobs/now".to_owned(), DUE_MS, 7));
    for (key, due_ms, size) in &objects {
        let row = rows::Due {
            min_reader: rows::SCHEMA,
            kind: DueKind::Object.into(),
            key: key.clone(),
            size: *size,
            ..rows::Due::default()
        };
        // All in one partition.
        let mut key = keys::due(Homes::of(&member(1)), *due_ms, DueKind::Object, key);
        let home = Homes::of(&member(1)).partitions().next().unwrap();
        key.partition = Queue::Collection.partition(home);
        alone.write(key.put(Expect::Any, row.encode_to_vec())).await;
    }
    alone.upkeep.round(|| NOW_MS).await;
    let waiting = |bytes: u64| format!("portolan_collection_waiting_bytes {bytes}");
    assert!(alone.says(&waiting(1_100_000)), "{}", alone.metrics.render());
    assert!(alone.says("portolan_upkeep_rows_total{kind=\"object\",outcome=\"later\"} 1"));
    // Two hours later they are deleted, all but the first time, which was before.
    for _ in 0..3 {
        alone.upkeep.round(|| NOW_MS + 2 * 60 * 60 * 1000).await;
    }
    assert!(alone.says(&waiting(0)), "{}", alone.metrics.render());
    assert!(alone.says("portolan_upkeep_rows_total{kind=\"object\",outcome=\"later\"} 1101"));
}

#[tokio::test]
async fn what_waits_is_read_once_all_that_is_due_was_looked_at() {
    let mut alone = Alone::of(Queue::Collection, pace(1), FaultRates::default());
    let home = Homes::of(&member(1)).partitions().next().unwrap();
    for (due_ms, kind, subject, size) in [
        (DUE_MS, DueKind::Session, "a", 0),
        (DUE_MS, DueKind::Session, "b", 0),
        (NOW_MS + 60 * 60 * 1000, DueKind::Object, "blobs/later", 1000),
    ] {
        let row = rows::Due {
            min_reader: rows::SCHEMA,
            kind: kind.into(),
            key: subject.to_owned(),
            size,
            ..rows::Due::default()
        };
        let mut key = keys::due(Homes::of(&member(1)), due_ms, kind, subject);
        key.partition = Queue::Collection.partition(home);
        alone.write(key.put(Expect::Any, row.encode_to_vec())).await;
    }
    // A row a round: what comes after the others isn't read again with each of them.
    for bytes in [0, 0, 1000] {
        alone.upkeep.round(|| NOW_MS).await;
        let waiting = format!("portolan_collection_waiting_bytes {bytes}");
        assert!(alone.says(&waiting), "{}", alone.metrics.render());
    }
}

#[tokio::test]
async fn a_round_of_nothing_is_none() {
    let drained = Arc::new(Three {
        standing: Standing::Drained,
        ..Three::of(1)
    });
    let share = Share::new(drained, Some(HashKey::new(*b"loremipsumdolors")));
    let mut alone = Alone::with_share(share, Queue::Upkeep, pace(1), FaultRates::default());
    alone.upkeep.round(|| NOW_MS).await;
    let said = alone.metrics.render();
    assert!(
        !said.contains("portolan_upkeep_last_round_timestamp_seconds{"),
        "{said}"
    );
}

#[tokio::test]
async fn objects_that_cannot_be_deleted_wait_on() {
    let broken = FaultRates {
        unavailable: 1.0,
        ..FaultRates::default()
    };
    let mut alone = Alone::of(Queue::Collection, pace(100), broken);
    let row = rows::Due {
        min_reader: rows::SCHEMA,
        kind: DueKind::Object.into(),
        key: "blobs/a".to_owned(),
        size: 12,
        ..rows::Due::default()
    };
    let key = keys::due(Homes::of(&member(1)), DUE_MS, DueKind::Object, "blobs/a");
    alone.write(key.put(Expect::Any, row.encode_to_vec())).await;
    alone.upkeep.round(|| NOW_MS).await;
    assert!(alone.says("portolan_upkeep_rows_total{kind=\"object\",outcome=\"failed\"} 1"));
    assert!(
        alone.says("portolan_collection_waiting_bytes 12"),
        "{}",
        alone.metrics.render()
    );
}

fn due(kind: DueKind, subject: &str, passes: u32) -> Op {
    let row = rows::Due {
        min_reader: rows::SCHEMA,
        kind: kind.into(),
        key: subject.to_owned(),
        passes,
        ..rows::Due::default()
    };
    keys::due(Homes::of(&member(1)), DUE_MS, kind, subject).put(Expect::Any, row.encode_to_vec())
}

fn pace(rows: usize) -> RoundLimits {
    RoundLimits {
        interval: Duration::from_secs(300),
        sweep: Duration::from_secs(24 * 60 * 60),
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
    let home = Queue::Upkeep.partition(Homes::of(&member(1)).partitions().next().unwrap());
    let partition = |subject: &str| due(DueKind::Session, subject, 0).key.partition;
    let mut broken = (0..)
        .map(|n| format!("a{n}"))
        .filter(|subject| partition(subject) == home);
    for _ in 0..7 {
        alone
            .write(due(DueKind::Session, &broken.next().unwrap(), 0))
            .await;
    }
    let good = (0..)
        .map(|n| format!("b{n}"))
        .find(|subject| partition(subject) == home)
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
    let round = "portolan_upkeep_last_round_timestamp_seconds{queue=\"upkeep\"}";
    assert!(alone.says(&format!("{round} {}", NOW_MS / 1000)));
    // And begins again from the first.
    alone.upkeep.round(|| NOW_MS + 60_000).await;
    assert!(alone.says(&format!("{round} {}", NOW_MS / 1000 + 60)));
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

#[tokio::test]
async fn a_repository_that_is_as_it_was_left_is_not_looked_at_again() {
    let (meta, metrics) = (Arc::new(MemoryMeta::new()), Arc::new(Metrics::new()));
    let stores = Stores {
        meta: Arc::new(MeteredMeta::new(meta.clone(), metrics.clone())),
        blobs: Arc::new(MemoryBlobs::new()),
    };
    let holder = Holder {
        member: member(1),
        incarnation: Incarnation::random(),
    };
    let registry = Arc::new(Registry::new(stores, holder, Settings::default()));
    let row = rows::Repository {
        min_reader: rows::SCHEMA,
        manifests: 1,
        ..rows::Repository::default()
    };
    for n in 0..250 {
        let name = format!("team/app-{n}").parse().unwrap();
        let ops = [
            keys::repository(&name).put(Expect::Any, row.encode_to_vec()),
            keys::catalog_entry(&name).put(Expect::Any, Vec::new()),
        ];
        meta.transact(Version::random(), &ops).await.unwrap();
    }
    let text =
        "storage: {rootDirectory: /d, retention: {policies: [{repositories: [team/**], keepTags: [{}]}]}}";
    let policies = crate::config::parse(std::path::Path::new("c.yaml"), text)
        .unwrap()
        .retention;
    let share = Share::new(Arc::new(StaticView::new(member(1), [])), None);
    let none = crate::config::Retention::default();
    let nobody = Share::new(Arc::new(StaticView::new(member(1), [])), None);
    let mut without = Retention::new(none, registry.clone(), nobody, metrics.clone(), pace(100));
    let mut retention = Retention::new(policies, registry, share, metrics.clone(), pace(100));
    let requests = || {
        let said = metrics.render();
        let counts = said
            .lines()
            .filter(|line| line.starts_with("portolan_store_requests_total{"));
        counts
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum::<u64>()
    };
    // Without policies one for what former ones did.
    let before = requests();
    without.round(&|| NOW_MS).await.unwrap();
    assert_eq!(requests() - before, 1);
    retention.round(&|| NOW_MS).await.unwrap();
    let first = requests();
    assert!(first > 250, "{first}");
    // One for since when pulls are recorded, one for the runs that can't be undone any more, one of the catalogue, three of versions.
    retention.round(&|| NOW_MS).await.unwrap();
    assert_eq!(requests() - first, 6);
    // One that has changed is looked at.
    let name = "team/app-7".parse().unwrap();
    let op = keys::repository(&name).put(Expect::Any, row.encode_to_vec());
    meta.transact(Version::random(), &[op]).await.unwrap();
    let before = requests();
    retention.round(&|| NOW_MS).await.unwrap();
    assert!((6..20).contains(&(requests() - before)));
}
