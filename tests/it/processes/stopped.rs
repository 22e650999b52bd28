//! A member is stopped (SIGSTOP) for longer than its lease lasts, and wakes up among others that went on.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Cluster;
use crate::{
    support::{client::Http, content::run_seed, eventually, mesh::MEMBERS},
    workload::{self, Asked, Choice, Kind, Workload},
};

/// Who is stopped,
const STOPPED: usize = 1;
/// and who isn't.
const OTHERS: [usize; 2] = [0, 2];

/// For how long clients are at work before, meanwhile, and after.
const BEFORE: Duration = Duration::from_secs(4);
const MEANWHILE: Duration = Duration::from_secs(16);
const AFTER: Duration = Duration::from_secs(6);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "tests/faults.sh starts the members and runs it"]
async fn a_member_that_was_stopped_for_longer_than_its_lease_says_nothing_stale_and_is_a_member_again() {
    let cluster = Cluster::find();
    let names = cluster.names();
    let seed = run_seed("a_member_that_was_stopped_for_longer_than_its_lease");
    let its: Vec<String> = (0..3)
        .map(|n| names.owned_by(STOPPED, &format!("stopped-{seed}/{n}")))
        .collect();
    let others = OTHERS.map(|owner| names.owned_by(owner, &format!("stopped-{seed}/other")));
    let stop = CancellationToken::new();
    // Clients keep to their doors: those at the stopped member have requests there when it wakes up, and the others go on.
    let workload = Workload {
        repositories: its.iter().cloned().chain(others).collect(),
        tags: 1,
        clients: 6 * MEMBERS,
        stop: stop.clone(),
        pause: Duration::from_millis(400),
        pushes: 6,
        retries: 3,
        choice: Choice::Own,
        seed,
        ..Workload::default()
    };
    let doors = cluster.patient(0..MEMBERS, Http::One);
    let meanwhile = async {
        tokio::time::sleep(BEFORE).await;
        let stopped = Instant::now();
        cluster.have(format!("stop {STOPPED}")).await;
        tokio::time::sleep(MEANWHILE).await;
        for other in OTHERS {
            cluster.sees(other, MEMBERS - 1).await;
        }
        let continued = Instant::now();
        cluster.have(format!("continue {STOPPED}")).await;
        cluster.well().await;
        takes_part(&cluster).await;
        tokio::time::sleep_until(continued + AFTER).await;
        stop.cancel();
        (stopped, continued)
    };
    let (ran, (stopped, continued)) = tokio::join!(workload::run(workload, doors), meanwhile);
    let (asked, counts) = (ran.asked(), ran.counts);
    ran.check().await;

    let changes = || asked.iter().filter(|asked| asked.kind.is_change());
    let pending: Vec<&Asked> = changes()
        .filter(|asked| asked.begun < continued && asked.ended > continued && asked.door == STOPPED)
        .collect();
    let meanwhile = changes().filter(|asked| {
        let is_within = asked.begun > stopped && asked.ended < continued;
        is_within && asked.door != STOPPED && its.contains(&asked.repository) && asked.fault.is_none()
    });
    let meanwhile = meanwhile.count();
    let reads = |asked: &&Asked| asked.kind == Kind::Read && asked.door == STOPPED && asked.ended > continued;
    let reads = asked.iter().filter(reads).count();
    println!(
        "figures: SIGSTOP of an owner for {} s: {} requests acknowledged, {} retried; {meanwhile} changes of its \
         repositories through others meanwhile; {} changes pending at it when it went on, of which {} were acknowledged; \
         {reads} reads through it afterwards, none stale; the others see it live again",
        (continued - stopped).as_secs(),
        counts.acknowledged,
        counts.retried,
        pending.len(),
        pending.iter().filter(|asked| asked.fault.is_none()).count(),
    );
    assert!(
        meanwhile > 0 && !pending.is_empty() && reads > 0,
        "this says something"
    );
}

/// Until others send requests to the member that was stopped, and it takes them.
async fn takes_part(cluster: &Cluster) {
    let before = cluster.counts().await.forwards;
    eventually("the member owns repositories again", || async {
        let now = cluster.counts().await.forwards;
        OTHERS
            .iter()
            .all(|other| now[*other][STOPPED] > before[*other][STOPPED])
    })
    .await;
}
