//! Everything at once, for as long as one likes.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Cluster, Patient, real_client::Skopeo, told};
use crate::{
    support::{
        client::Http,
        content::{Random, run_seed},
        eventually,
        mesh::MEMBERS,
    },
    workload::{self, Ran, Workload},
};

/// How long nothing is done before it is checked what came of it: longer than what a member has sent may still be on its way.
const CALM: Duration = Duration::from_secs(15);

/// How often what went wrong.
#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    kills: usize,
    restarts: usize,
    stops: usize,
    cuts: usize,
    storeless: usize,
}

impl Faults {
    fn total(self) -> usize {
        let Self {
            kills,
            restarts,
            stops,
            cuts,
            storeless,
        } = self;
        kills + restarts + stops + cuts + storeless
    }
}

/// Something that goes wrong with a member for a while.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// kill -9, and started again later.
    Kill,
    /// SIGTERM, and started again when it has ended.
    Restart,
    /// SIGSTOP, and SIGCONT later.
    Stop,
    /// It and the next one don't reach each other.
    Apart,
    /// It reaches neither store.
    Storeless,
}

impl Fault {
    const ALL: [Self; 5] = [
        Self::Kill,
        Self::Restart,
        Self::Stop,
        Self::Apart,
        Self::Storeless,
    ];

    /// How long it lasts at most.
    fn longest(self) -> Duration {
        Duration::from_secs(match self {
            Self::Kill => 5,
            // As long as it takes.
            Self::Restart => 0,
            // A lease lasts 10 s.
            Self::Stop => 16,
            Self::Apart => 10,
            Self::Storeless => 10,
        })
    }

    async fn happen(self, cluster: Cluster, member: usize, lasts: Duration) {
        let next = (member + 1) % MEMBERS;
        let (begin, end) = match self {
            Self::Kill => (format!("kill {member}"), format!("start {member}")),
            Self::Restart => (format!("terminate {member}"), format!("start {member}")),
            Self::Stop => (format!("stop {member}"), format!("continue {member}")),
            Self::Apart => (
                format!("apart {member} {next}"),
                format!("together {member} {next}"),
            ),
            Self::Storeless => (format!("storeless {member}"), format!("stored {member}")),
        };
        cluster.have(begin).await;
        match self {
            Self::Restart => {
                let ended = || async { cluster.have(format!("ended {member}")).await == "yes" };
                eventually("the member ends", ended).await;
            }
            Self::Kill | Self::Stop | Self::Apart | Self::Storeless => tokio::time::sleep(lasts).await,
        }
        cluster.have(end).await;
        cluster.ready(member).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "tests/faults.sh starts the members and runs it"]
async fn what_clients_were_told_is_true_whatever_happens_to_members() {
    let cluster = Cluster::find();
    let seed = run_seed("what_clients_were_told_is_true_whatever_happens_to_members");
    let within = Duration::from_secs(told("PORTOLAN_TEST_SECONDS").parse().unwrap());
    let over = CancellationToken::new();
    let began = Instant::now();
    let clock = async {
        tokio::time::sleep(within).await;
        over.cancel();
    };
    let (all, pushed, faults, ()) = tokio::join!(
        work(&cluster, seed, &over),
        Skopeo::new(seed).run(over.clone()),
        go_wrong(cluster.clone(), Random::seeded(seed), over.clone()),
        clock
    );
    let lasted = began.elapsed();
    cluster.well().await;
    tokio::time::sleep(CALM).await;

    let (mut acknowledged, mut failed, mut retried, rounds) = (0, 0, 0, all.len());
    let got_through: usize = all.iter().map(|ran| ran.pushed().len()).sum();
    for ran in all {
        acknowledged += ran.counts.acknowledged;
        failed += ran.counts.unavailable;
        retried += ran.counts.retried;
        // The last round ends with the time, which may be right after it began.
        ran.check_what_was_told().await;
    }
    pushed.check(&cluster).await;
    println!(
        "figures: {} s of chaos: {} kills, {} restarts, {} stops, {} cuts from each other, {} from the stores; {acknowledged} \
         requests acknowledged, {failed} failed, {retried} retried in {rounds} rounds; skopeo pushed {} and pulled {} images, \
         {} retried; every history is explainable, every acknowledged push is there",
        lasted.as_secs(),
        faults.kills,
        faults.restarts,
        faults.stops,
        faults.cuts,
        faults.storeless,
        pushed.len(),
        pushed.pulls,
        pushed.retried
    );
    assert!(
        faults.total() > 0 && pushed.len() > 0 && got_through > 0,
        "this says something"
    );
}

/// Clients at work, in new repositories every now and then, so that each history stays one that can be decided.
async fn work(cluster: &Cluster, seed: u64, over: &CancellationToken) -> Vec<Ran<Patient>> {
    let mut all = Vec::new();
    while !over.is_cancelled() {
        let round = all.len();
        let workload = Workload {
            repositories: (0..3).map(|n| format!("chaos-{seed}/{round}/{n}")).collect(),
            tags: 2,
            clients: 6,
            rounds: 25,
            stop: over.clone(),
            pause: Duration::from_millis(800),
            layer: 20_000,
            retries: 3,
            seed: seed + round as u64,
            ..Workload::default()
        };
        let mut doors = cluster.patient(0..MEMBERS, Http::One);
        doors.extend(cluster.patient(0..MEMBERS, Http::Two));
        all.push(workload::run(workload, doors).await);
    }
    all
}

/// One fault after the other, now and then two at once, until told to stop; then all is as it was.
async fn go_wrong(cluster: Cluster, mut random: Random, over: CancellationToken) -> Faults {
    let mut faults = Faults::default();
    while !over.is_cancelled() {
        let first = random.below(MEMBERS as u64) as usize;
        let both = random.below(2) == 0;
        let mut going = JoinSet::new();
        for member in [Some(first), both.then_some((first + 1) % MEMBERS)]
            .into_iter()
            .flatten()
        {
            let fault = *random.pick(&Fault::ALL);
            let lasts = fault.longest().mul_f64(0.2 + random.below(800) as f64 / 1000.0);
            println!("member {member}: {fault:?} for {lasts:?}");
            *faults.of(fault) += 1;
            going.spawn(fault.happen(cluster.clone(), member, lasts));
        }
        going.join_all().await;
        let pause = Duration::from_millis(random.below(1_500));
        let _ = tokio::time::timeout(pause, over.cancelled()).await;
    }
    faults
}

impl Faults {
    fn of(&mut self, fault: Fault) -> &mut usize {
        match fault {
            Fault::Kill => &mut self.kills,
            Fault::Restart => &mut self.restarts,
            Fault::Stop => &mut self.stops,
            Fault::Apart => &mut self.cuts,
            Fault::Storeless => &mut self.storeless,
        }
    }
}
