//! A member is killed, and clients of the others go on.

use std::time::Duration;

use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::Cluster;
use crate::{
    support::{
        client::{Ask as _, Http},
        content::{Blob, Manifest, run_seed},
    },
    workload::{self, Asked, Kind, Workload},
};

/// Who is killed,
const DEAD: usize = 2;
/// and through whom clients go.
const SURVIVORS: [usize; 2] = [0, 1];

/// Repositories of the one that is killed, and of each of the others.
const DEADS: usize = 8;
const OTHERS: usize = 2;

/// For how long clients are at work before the kill, and after it: longer than a lease lasts.
const BEFORE: Duration = Duration::from_secs(5);
const AFTER: Duration = Duration::from_secs(14);

/// How soon each repository of the dead member is written again.
const SOON: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "tests/faults.sh starts the members and runs it"]
async fn survivors_of_a_killed_member_fail_no_request_and_lose_nothing() {
    let cluster = Cluster::find();
    let names = cluster.names();
    let seed = run_seed("survivors_of_a_killed_member_fail_no_request_and_lose_nothing");
    let owned = |owner, n| names.owned_by(owner, &format!("survivors-{seed}/{n}"));
    let of_the_dead: Vec<String> = (0..DEADS).map(|n| owned(DEAD, n)).collect();
    let of_others = SURVIVORS
        .into_iter()
        .flat_map(|owner| (0..OTHERS).map(move |n| owned(owner, n)));
    let stop = CancellationToken::new();
    let workload = Workload {
        repositories: of_the_dead.iter().cloned().chain(of_others).collect(),
        tags: 2,
        clients: 8,
        stop: stop.clone(),
        pause: Duration::from_millis(200),
        layer: 20_000,
        retries: 3,
        seed,
        ..Workload::default()
    };
    let doors = cluster.patient(SURVIVORS, Http::One);
    let meanwhile = async {
        tokio::time::sleep(BEFORE).await;
        let kill = Instant::now();
        cluster.have(format!("kill {DEAD}")).await;
        let killed = Instant::now();
        let first_writes = write_each(&cluster, &of_the_dead, kill).await;
        tokio::time::sleep_until(killed + AFTER).await;
        stop.cancel();
        (killed, first_writes)
    };
    let (mut ran, (killed, mut first_writes)) = tokio::join!(workload::run(workload, doors), meanwhile);

    cluster.have(format!("start {DEAD}")).await;
    cluster.well().await;
    ran.doors.extend(cluster.patient([DEAD], Http::One));
    let asked = ran.asked();
    let counts = ran.counts;
    ran.check().await;

    let (after, before): (Vec<Asked>, Vec<Asked>) = asked.into_iter().partition(|asked| asked.begun > killed);
    let is_of_the_dead = |asked: &&Asked| asked.kind == Kind::Push && of_the_dead.contains(&asked.repository);
    assert!(
        before.iter().filter(is_of_the_dead).count() > 0,
        "the dead had something to do"
    );
    assert!(
        after.iter().filter(is_of_the_dead).count() > 0,
        "what it did is done by others"
    );
    let failed: Vec<&Asked> = after.iter().filter(|asked| asked.fault.is_some()).collect();
    first_writes.sort_unstable();
    let (longest, median) = (first_writes[DEADS - 1], first_writes[DEADS / 2]);
    println!(
        "figures: kill -9 of one of three: {} requests acknowledged, {} retried; {} begun after the kill, of which {} \
         failed; the first write to each of {DEADS} repositories of the dead: {} ms after the kill at the latest, {} ms at \
         the median",
        counts.acknowledged,
        counts.retried,
        after.len() + DEADS,
        failed.len(),
        longest.as_millis(),
        median.as_millis()
    );
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(longest <= SOON, "{first_writes:?}");
}

/// Pushes a manifest, without a tag, to each repository at once, through one survivor and the other by turns. Gives how long
/// after `kill` each was acknowledged.
async fn write_each(cluster: &Cluster, repositories: &[String], kill: Instant) -> Vec<Duration> {
    let mut writes = JoinSet::new();
    let doors = cluster.patient(SURVIVORS, Http::One);
    for (n, repository) in repositories.iter().cloned().enumerate() {
        let door = doors[n % doors.len()].clone();
        writes.spawn(async move {
            let config = Blob::named(&repository, 100);
            let pushed = door.push_blob(&repository, &config).await;
            pushed.unwrap().expect(201);
            let manifest = Manifest::image(&config, &[]).build();
            let pushed = door.push_manifest(&repository, &manifest.digest, &manifest).await;
            pushed.unwrap().expect(201);
            kill.elapsed()
        });
    }
    writes.join_all().await
}
