//! Stores that fail: conflicts, errors, delays, changes that happen without saying so, or late.
//!
//! A request may then be answered 429, 503 or 507, or break off. What was acknowledged holds all the same, and what wasn't
//! happened once or never.

use std::{sync::Arc, time::Duration};

use portolan::{
    app::Stores,
    storage::faulty::{FaultCounts, FaultPlan, FaultRates, FaultyBlobs, FaultyMeta},
    storage::{MemoryBlobs, MemoryMeta},
};
use tokio::task::JoinSet;

use crate::{
    api::{self, Mode, Run, Test},
    support::{
        client::{Ask as _, Http},
        content::{Blob, Random, run_seed},
        mesh::{MEMBERS, Mesh, PART, Plan},
    },
    workload::{self, Workload},
};

/// A mesh over failing stores in memory.
struct Failing {
    mesh: Mesh,
    plan: FaultPlan,
    meta: Arc<FaultyMeta<MemoryMeta>>,
}

impl Failing {
    async fn start(seed: u64, rates: FaultRates) -> Self {
        let plan = FaultPlan::new(seed, rates);
        let meta = Arc::new(FaultyMeta::new(Arc::new(MemoryMeta::default()), plan.clone()));
        let blobs = Arc::new(FaultyBlobs::new(Arc::new(MemoryBlobs::new()), plan.clone()));
        let mesh = Plan::over(Stores {
            meta: meta.clone(),
            blobs,
        })
        .start()
        .await;
        Self { mesh, plan, meta }
    }

    /// From now on nothing fails, and nothing that failed happens late.
    async fn calm(&self) {
        self.plan.disable();
        self.meta.settle().await;
    }
}

/// How many there were, delays apart.
fn faults(counts: FaultCounts) -> u64 {
    let FaultCounts {
        contended,
        unknown_applied,
        unknown_dropped,
        unknown_late,
        unavailable,
        throttled,
        answer_lost,
        broken_read,
        // Beyond the contract: never drawn here.
        wrong_read: _,
        delayed: _,
        calls: _,
    } = counts;
    contended
        + unknown_applied
        + unknown_dropped
        + unknown_late
        + unavailable
        + throttled
        + answer_lost
        + broken_read
}

/// How often a test is tried at least,
const TRIES: usize = 6;
/// and at most, until no request of it fails.
const MAX_TRIES: usize = 400;

/// Runs a test again and again, until nothing failed on its way at least once. What was acknowledged on the way must hold
/// each time.
///
/// Gives how many faults there were.
async fn attempt(test: &'static Test, seed: u64) -> u64 {
    // So that any number of requests gets through in the end.
    let rate = |attempt: usize| 0.03 / (1.0 + attempt as f64 / 8.0);
    let failing = Failing::start(seed, FaultRates::each(rate(0))).await;
    let mut random = Random::seeded(seed);
    let mut got_through = false;
    for number in 0..MAX_TRIES {
        failing.plan.set_rates(FaultRates::each(rate(number)));
        let door = failing.mesh.door(random.below(MEMBERS as u64) as usize);
        let http = *random.pick(&[Http::One, Http::Two]);
        let run = Run::new(
            test.name,
            number,
            door,
            http,
            failing.mesh.names(),
            test.home(),
            Mode::Faulty,
        );
        got_through |= (test.run)(run).await.is_ok();
        if got_through && number + 1 >= TRIES {
            failing.mesh.stop().await;
            return faults(failing.plan.counts());
        }
    }
    panic!("{}: something fails each time", test.name);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_keeps_its_promises_over_failing_stores() {
    let seed = run_seed("the_api_keeps_its_promises_over_failing_stores");
    let mut total = 0;
    let mut tests = api::all().enumerate();
    let mut running = JoinSet::new();
    loop {
        while running.len() < 4
            && let Some((number, test)) = tests.next()
        {
            running.spawn(attempt(test, seed + number as u64));
        }
        match running.join_next().await {
            Some(Ok(faults)) => total += faults,
            Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
            None => break,
        }
    }
    println!("{total} faults");
    assert!(total > 1000, "this says nothing: there were only {total} faults");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_of_tags_is_true_over_failing_stores() {
    let seed = run_seed("what_is_said_of_tags_is_true_over_failing_stores");
    for round in 0..3 {
        let failing = Failing::start(seed + round, FaultRates::each(0.02)).await;
        let workload = Workload {
            repositories: (0..3)
                .map(|member| failing.mesh.names().owned_by(member, "tags"))
                .collect(),
            tags: 3,
            clients: 8,
            rounds: 60,
            blobs: 3,
            pause: Duration::ZERO,
            seed: seed + round,
            ..Workload::default()
        };
        let ran = workload::run(workload, failing.mesh.clients()).await;
        let faults = failing.plan.counts();
        println!("{:?}, {faults:?}", ran.counts);
        assert!(
            faults.unknown_applied + faults.unknown_dropped + faults.unknown_late > 0,
            "{faults:?}"
        );
        failing.calm().await;
        ran.check().await;
        failing.mesh.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_lands_late_undoes_nothing_newer() {
    let seed = run_seed("a_change_that_lands_late_undoes_nothing_newer");
    for round in 0..3 {
        // One change in four isn't answered, and is tried again while the first try is still on its way.
        let rates = FaultRates {
            unknown_late: 0.25,
            latest: Duration::from_millis(40),
            ..FaultRates::default()
        };
        let failing = Failing::start(seed + round, rates).await;
        let workload = Workload {
            repositories: vec![failing.mesh.names().owned_by(0, "late")],
            tags: 1,
            clients: 6,
            rounds: 50,
            pause: Duration::ZERO,
            seed: seed + round,
            ..Workload::default()
        };
        let ran = workload::run(workload, failing.mesh.clients()).await;
        println!("{:?}, {:?}", ran.counts, failing.plan.counts());
        failing.calm().await;
        ran.check().await;
        failing.mesh.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blobs_that_were_acknowledged_are_whole_over_failing_stores() {
    let seed = run_seed("blobs_that_were_acknowledged_are_whole_over_failing_stores");
    let failing = Failing::start(seed, FaultRates::each(0.01)).await;
    let mut clients = JoinSet::new();
    for client in 0..6_u64 {
        let doors = failing.mesh.clients();
        let repository = failing.mesh.names().owned_by(client as usize % MEMBERS, "blobs");
        clients.spawn(async move {
            let mut random = Random::seeded(seed ^ client << 40);
            let mut acknowledged = Vec::new();
            for n in 0..40 {
                let length = *random.pick(&[0, 1, 1000, PART, 3 * PART + 5]);
                // Half of them are pushed by others, too, at about the same time.
                let name = if n % 2 == 0 {
                    format!("{seed} shared {n} {length}")
                } else {
                    format!("{seed} {client} {n}")
                };
                let blob = Blob::named(&name, length);
                let door = random.pick(&doors);
                let answer = match random.below(3) {
                    0 => door.push_blob(&repository, &blob).await,
                    1 => door.push_blob_in_two(&repository, &blob).await,
                    _ => door.push_blob_in_chunks(&repository, &blob, PART / 2 + 7).await,
                };
                match answer {
                    Ok(answer) if answer.is_success() => acknowledged.push((repository.clone(), blob.digest)),
                    // A chunk whose answer was lost may have been taken, so that the session went on, or is over.
                    Ok(answer) => assert!(answer.is_unavailable(), "{answer}"),
                    Err(_) => {}
                }
            }
            acknowledged
        });
    }
    let acknowledged = clients.join_all().await.concat();
    failing.calm().await;
    println!(
        "{} blobs acknowledged, {:?}",
        acknowledged.len(),
        failing.plan.counts()
    );
    assert!(
        acknowledged.len() > 50,
        "some got through: {}",
        acknowledged.len()
    );
    for (n, (repository, digest)) in acknowledged.iter().enumerate() {
        let answer = failing
            .mesh
            .client(n % MEMBERS)
            .get(format!("/v2/{repository}/blobs/{digest}"))
            .await
            .unwrap();
        assert_eq!(crate::support::content::sha256(&answer.expect(200).body), *digest);
    }
    failing.mesh.stop().await;
}
