use tokio_util::task::TaskTracker;

use super::*;
use crate::{
    config::Collecting,
    ownership::SharedSettings,
    storage::{
        MemoryMeta,
        faulty::{FaultPlan, FaultRates, FaultyMeta},
    },
};

fn id(n: u8) -> MemberId {
    format!("127.0.0.{n}:5000").parse().unwrap()
}

fn listed(members: &[u8]) -> Membership {
    let entry = |n: &u8| (id(*n), format!("127.0.0.{n}:9443"));
    Membership::Listed(members.iter().map(entry).collect())
}

fn dynamic() -> Membership {
    Membership::Dynamic {
        san: "member.internal".to_owned(),
    }
}

fn joining(n: u8, meta: &Arc<dyn MetaStore>, membership: Membership) -> Joining {
    Joining {
        me: id(n),
        meta: meta.clone(),
        said: Announcement {
            mesh_address: format!("10.0.0.{n}:9443"),
            protocol: (1, 1),
            settings: SharedSettings::new().with("cluster.hashKey", b"a"),
            collecting: Collecting::On,
        },
        own_key: Arc::new(move || Some(KeyHash::from_bytes([n; 32]))),
        membership,
        limits: LeaseLimits::default(),
        metrics: Arc::new(Metrics::new()),
    }
}

/// A member that renews its lease, until the token is cancelled: a crash.
struct Member {
    leases: Arc<Leases>,
    life: CancellationToken,
}

impl Member {
    async fn start(joining: Joining) -> Self {
        let leases = Arc::new(Leases::join(joining).await.unwrap());
        leases.announce().await;
        let life = CancellationToken::new();
        let (running, ended) = (leases.clone(), life.clone());
        TaskTracker::new().spawn(async move { running.run(ended).await });
        Self { leases, life }
    }

    fn crash(&self) {
        self.life.cancel();
    }

    fn sees(&self, n: u8) -> Liveness {
        self.leases.liveness(&id(n))
    }
}

fn memory() -> Arc<dyn MetaStore> {
    Arc::new(MemoryMeta::new())
}

async fn seconds(n: u64) {
    sleep(Duration::from_secs(n)).await;
}

#[tokio::test(start_paused = true)]
async fn members_see_each_other_come_and_die() {
    let meta = memory();
    let first = Member::start(joining(1, &meta, listed(&[1, 2, 3]))).await;
    assert_eq!(first.sees(1), Liveness::Live);
    assert_eq!(first.sees(2), Liveness::Gone, "it isn't there yet");
    assert_eq!(first.sees(4), Liveness::Stranger);
    let second = Member::start(joining(2, &meta, listed(&[1, 2, 3]))).await;
    assert_eq!(second.sees(1), Liveness::Live, "a start sees who is there");
    seconds(3).await;
    assert_eq!(first.sees(2), Liveness::Live);
    second.crash();
    seconds(8).await;
    assert_eq!(first.sees(2), Liveness::Live);
    seconds(6).await;
    assert_eq!(first.sees(2), Liveness::Gone);
    // The same name again is another start of the same member.
    let again = Member::start(joining(2, &meta, listed(&[1, 2, 3]))).await;
    seconds(3).await;
    assert_eq!(first.sees(2), Liveness::Live);
    assert_ne!(again.leases.incarnation(), second.leases.incarnation());
    assert_eq!(first.leases.trouble(), None);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_leaves_is_gone_at_the_next_look_and_to_itself_at_once() {
    let meta = memory();
    let first = Member::start(joining(1, &meta, listed(&[1, 2]))).await;
    let second = Member::start(joining(2, &meta, listed(&[1, 2]))).await;
    first.leases.look().await;
    assert_eq!(first.sees(2), Liveness::Live);
    second.leases.leave().await;
    assert_eq!(second.leases.standing(), Standing::Leaving);
    assert_eq!(second.sees(2), Liveness::Gone);
    first.leases.look().await;
    assert_eq!(first.sees(2), Liveness::Gone);
    // It doesn't come back by itself.
    seconds(5).await;
    assert_eq!(first.sees(2), Liveness::Gone);
}

#[tokio::test(start_paused = true)]
async fn a_drained_member_is_gone_for_as_long_as_it_is_drained() {
    let meta = memory();
    let first = Member::start(joining(1, &meta, dynamic())).await;
    assert_eq!(first.leases.drain().await, Err(DrainError::Alone));
    assert_eq!(first.leases.standing(), Standing::Member);
    let second = Member::start(joining(2, &meta, dynamic())).await;
    // Again is the same.
    for _ in 0..2 {
        assert_eq!(second.leases.drain().await, Ok(()));
    }
    assert_eq!(second.leases.standing(), Standing::Drained);
    assert_eq!(second.leases.trouble(), None);
    assert_eq!(first.leases.drain().await, Err(DrainError::Alone));
    // It is known for longer than others are remembered that left.
    seconds(2 * LeaseLimits::default().retention.as_secs()).await;
    assert_eq!((first.sees(2), second.sees(2)), (Liveness::Gone, Liveness::Gone));
    let members = first.leases.members();
    assert!(members[1].lease.as_ref().unwrap().drained);
    assert_eq!(second.leases.undrain().await, Ok(()));
    first.leases.look().await;
    assert_eq!((first.sees(2), second.sees(2)), (Liveness::Live, Liveness::Live));
    // Who ends isn't drained, and doesn't come back.
    assert_eq!(second.leases.drain().await, Ok(()));
    second.leases.leave().await;
    assert_eq!(second.leases.standing(), Standing::Leaving);
    assert_eq!(second.leases.undrain().await, Err(DrainError::Ending));
    first.leases.look().await;
    assert!(!first.leases.members()[1].lease.as_ref().unwrap().drained);
    assert_eq!(first.sees(2), Liveness::Gone);
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_the_store_does_not_take_is_told_later() {
    let plan = FaultPlan::new(1, FaultRates::default());
    let inner = Arc::new(MemoryMeta::new());
    let meta: Arc<dyn MetaStore> = inner.clone();
    let cut: Arc<dyn MetaStore> = Arc::new(FaultyMeta::new(inner, plan.clone()));
    let first = Member::start(joining(1, &meta, listed(&[1, 2]))).await;
    let second = Member::start(joining(2, &cut, listed(&[1, 2]))).await;
    seconds(3).await;
    plan.set_rates(FaultRates {
        unavailable: 1.0,
        ..FaultRates::default()
    });
    assert!(matches!(second.leases.drain().await, Err(DrainError::Untold(_))));
    assert_eq!((first.sees(2), second.sees(2)), (Liveness::Live, Liveness::Gone));
    plan.set_rates(FaultRates::default());
    seconds(5).await;
    assert_eq!(first.sees(2), Liveness::Gone);
    assert!(first.leases.members()[1].lease.as_ref().unwrap().drained);
}

#[tokio::test(start_paused = true)]
async fn the_newer_start_of_a_name_wins_and_the_older_one_notices() {
    let meta = memory();
    let old = Member::start(joining(1, &meta, listed(&[1, 2]))).await;
    let observer = Member::start(joining(2, &meta, listed(&[1, 2]))).await;
    let new = Member::start(joining(1, &meta, listed(&[1, 2]))).await;
    seconds(5).await;
    assert_eq!(old.leases.standing(), Standing::Superseded);
    assert!(old.leases.trouble().unwrap().contains("another process"));
    assert_eq!(new.leases.standing(), Standing::Member);
    let members = observer.leases.members();
    let lease = members[0].lease.as_ref().unwrap();
    assert_eq!(lease.incarnation, new.leases.incarnation());
    // Leaving, the old one doesn't take the new one's lease with it.
    old.leases.leave().await;
    observer.leases.look().await;
    assert_eq!(observer.sees(1), Liveness::Live);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_was_stopped_comes_back() {
    let meta = memory();
    let observer = Member::start(joining(2, &meta, listed(&[1, 2]))).await;
    let stopped = Member::start(joining(1, &meta, listed(&[1, 2]))).await;
    stopped.crash();
    seconds(30).await;
    assert_eq!(observer.sees(1), Liveness::Gone);
    // The same process goes on, with all that it knew.
    let (running, life) = (stopped.leases.clone(), CancellationToken::new());
    TaskTracker::new().spawn(async move { running.run(life).await });
    assert_eq!(
        stopped.sees(2),
        Liveness::Live,
        "the time that it slept tells nothing"
    );
    seconds(5).await;
    assert_eq!(stopped.sees(2), Liveness::Live);
    assert_eq!(stopped.leases.standing(), Standing::Member);
    assert_eq!(observer.sees(1), Liveness::Live);
}

#[tokio::test(start_paused = true)]
async fn a_member_cut_off_from_the_store_keeps_its_view_and_says_so() {
    let plan = FaultPlan::new(1, FaultRates::default());
    let inner = Arc::new(MemoryMeta::new());
    let meta: Arc<dyn MetaStore> = inner.clone();
    let cut: Arc<dyn MetaStore> = Arc::new(FaultyMeta::new(inner, plan.clone()));
    let first = Member::start(joining(1, &cut, listed(&[1, 2]))).await;
    let second = Member::start(joining(2, &meta, listed(&[1, 2]))).await;
    seconds(3).await;
    plan.set_rates(FaultRates {
        unavailable: 1.0,
        ..FaultRates::default()
    });
    seconds(30).await;
    assert_eq!(first.sees(2), Liveness::Live);
    assert_eq!(second.sees(1), Liveness::Gone);
    assert!(first.leases.trouble().is_some());
    assert!(first.leases.age() >= Duration::from_secs(25));
    plan.set_rates(FaultRates::default());
    seconds(5).await;
    assert_eq!(second.sees(1), Liveness::Live);
    assert_eq!(first.leases.trouble(), None);
}

#[tokio::test(start_paused = true)]
async fn renewals_whose_outcome_is_unknown_are_found_out() {
    let rates = FaultRates {
        unknown_applied: 0.3,
        unknown_dropped: 0.2,
        ..FaultRates::default()
    };
    let inner = Arc::new(MemoryMeta::new());
    let meta: Arc<dyn MetaStore> = Arc::new(FaultyMeta::new(inner, FaultPlan::new(7, rates)));
    let first = Member::start(joining(1, &meta, listed(&[1, 2]))).await;
    let second = Member::start(joining(2, &meta, listed(&[1, 2]))).await;
    for _ in 0..100 {
        seconds(2).await;
        assert_eq!(first.leases.standing(), Standing::Member);
        assert_eq!(second.leases.standing(), Standing::Member);
    }
    assert_eq!((first.sees(2), second.sees(1)), (Liveness::Live, Liveness::Live));
}

#[tokio::test(start_paused = true)]
async fn a_member_with_other_settings_is_refused_by_the_key_of_the_setting() {
    let meta = memory();
    let _first = Member::start(joining(1, &meta, dynamic())).await;
    let mut other = joining(2, &meta, dynamic());
    other.said.settings = SharedSettings::new().with("cluster.hashKey", b"b");
    let error = Leases::join(other).await.unwrap_err().to_string();
    assert!(
        error.starts_with("member 127.0.0.1:5000, which is live, has another cluster.hashKey:"),
        "{error}"
    );
    // It left no trace.
    let third = Member::start(joining(3, &meta, dynamic())).await;
    assert_eq!(third.sees(2), Liveness::Stranger);
}

#[tokio::test(start_paused = true)]
async fn the_leases_of_a_mesh_that_is_no_more_keep_nobody_from_other_settings() {
    let meta = memory();
    Member::start(joining(1, &meta, dynamic())).await.crash();
    let left = Member::start(joining(2, &meta, dynamic())).await;
    left.leases.leave().await;
    left.crash();
    let mut other = joining(3, &meta, dynamic());
    other.said.settings = SharedSettings::new().with("cluster.hashKey", b"b");
    let began = Instant::now();
    let other = Member::start(other).await;
    assert!(began.elapsed() <= LeaseLimits::default().expiry + LeaseLimits::default().heartbeat);
    assert_eq!(other.sees(1), Liveness::Gone);
    // Neither is one that appears later given anything.
    let meta = memory();
    let first = Member::start(joining(1, &meta, dynamic())).await;
    let mut unlike = joining(2, &meta, dynamic());
    unlike.said.protocol = (7, 7);
    let unlike = Leases {
        said: unlike.said.clone(),
        ..Leases::join(joining(2, &meta, dynamic())).await.unwrap()
    };
    unlike.announce().await;
    first.leases.look().await;
    assert_eq!(first.sees(2), Liveness::Gone);
    assert_eq!(
        first.leases.members()[1].lease.as_ref().unwrap().differs,
        ["protocol"]
    );
}

#[tokio::test(start_paused = true)]
async fn dynamic_members_come_with_their_leases_and_are_forgotten_in_the_end() {
    let meta = memory();
    let first = Member::start(joining(1, &meta, dynamic())).await;
    assert_eq!(first.sees(2), Liveness::Stranger);
    let second = Member::start(joining(2, &meta, dynamic())).await;
    first.leases.look().await;
    assert_eq!(first.sees(2), Liveness::Live);
    let members = first.leases.members();
    assert_eq!(members[1].mesh_address, "10.0.0.2:9443");
    let lease = members[1].lease.as_ref().unwrap();
    assert_eq!(lease.keys, [KeyHash::from_bytes([2; 32])]);
    second.crash();
    seconds(20).await;
    assert_eq!(first.sees(2), Liveness::Gone);
    seconds(LeaseLimits::default().retention.as_secs()).await;
    assert_eq!(first.sees(2), Liveness::Stranger);
    assert_eq!(first.sees(1), Liveness::Live);
}

#[tokio::test(start_paused = true)]
async fn a_changed_list_lets_members_in_and_out() {
    let meta = memory();
    let first = Member::start(joining(1, &meta, listed(&[1, 2]))).await;
    let _second = Member::start(joining(2, &meta, listed(&[1, 2, 3]))).await;
    let _third = Member::start(joining(3, &meta, listed(&[1, 2, 3]))).await;
    first.leases.look().await;
    assert_eq!(
        (first.sees(2), first.sees(3)),
        (Liveness::Live, Liveness::Stranger)
    );
    let Membership::Listed(list) = listed(&[1, 3]) else {
        unreachable!()
    };
    first.leases.list(list);
    assert_eq!(
        (first.sees(2), first.sees(3)),
        (Liveness::Stranger, Liveness::Live)
    );
}

#[tokio::test(start_paused = true)]
async fn many_that_look_at_once_share_a_reading() {
    let meta = memory();
    let first = Member::start(joining(1, &meta, dynamic())).await;
    let reads = || {
        let text = first.leases.metrics.render();
        let name = r#"portolan_lease_readings_total{outcome="ok"} "#;
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|count| count.parse::<u64>().ok()).unwrap()
    };
    let before = reads();
    let looks = (0..100).map(|_| first.leases.look());
    futures_util::future::join_all(looks).await;
    assert!(reads() - before <= 2, "{} readings", reads() - before);
}

#[tokio::test(start_paused = true)]
async fn a_former_key_stays_in_the_lease_while_connections_may_live() {
    let meta = memory();
    let shown = Arc::new(Mutex::new(1));
    let mut joining = joining(1, &meta, dynamic());
    let key = shown.clone();
    joining.own_key = Arc::new(move || Some(KeyHash::from_bytes([*key.lock(); 32])));
    let first = Member::start(joining).await;
    *shown.lock() = 2;
    seconds(5).await;
    let members = first.leases.members();
    let lease = members[0].lease.as_ref().unwrap();
    assert_eq!(lease.keys, [2, 1].map(|n| KeyHash::from_bytes([n; 32])));
}
