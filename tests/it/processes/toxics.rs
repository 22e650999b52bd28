//! Toxiproxy between the members and both stores.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::{Cluster, GIVES_UP};
use crate::{
    support::{
        client::{Ask as _, Http, Request},
        content::run_seed,
        eventually,
        mesh::MEMBERS,
    },
    workload::{self, Workload},
};

/// How long a toxic works.
const TAINTED: Duration = Duration::from_secs(10);

/// What becomes of the connections to both stores, by the names that `tests/faults.sh` gives it.
#[derive(Clone, Copy, Debug)]
enum Toxic {
    /// Every answer comes 300 ms late, give or take 100.
    Slow,
    /// 100 KB/s, in pieces.
    Narrow,
    /// Cut after 3,000 bytes of a request.
    Cut,
    /// Reset as soon as something is asked for.
    Reset,
    /// What is asked for is done, and never answered.
    Unanswered,
    /// Refused.
    Down,
}

impl Toxic {
    const ALL: [Self; 6] = [
        Self::Slow,
        Self::Narrow,
        Self::Cut,
        Self::Reset,
        Self::Unanswered,
        Self::Down,
    ];

    /// Whether no request can be served: then the members have to say so.
    fn is_deadly(self) -> bool {
        match self {
            Self::Slow | Self::Narrow | Self::Cut => false,
            Self::Reset | Self::Unanswered | Self::Down => true,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "tests/faults.sh starts the members and Toxiproxy, and runs it"]
async fn whatever_becomes_of_connections_to_stores_requests_end_and_nothing_is_lost() {
    let cluster = Cluster::find();
    let seed = run_seed("whatever_becomes_of_connections_to_stores_requests_end_and_nothing_is_lost");
    for (n, toxic) in Toxic::ALL.into_iter().enumerate() {
        let over = CancellationToken::new();
        let workload = Workload {
            repositories: (0..3).map(|of| format!("toxic-{seed}/{n}/{of}")).collect(),
            tags: 2,
            clients: 6,
            stop: over.clone(),
            pause: Duration::from_millis(600),
            layer: 20_000,
            seed: seed + n as u64,
            ..Workload::default()
        };
        let working = workload::run(workload, cluster.patient(0..MEMBERS, Http::One));
        let (ran, noticed) = tokio::join!(working, taint(&cluster, toxic, over));
        let asked = ran.asked();
        let longest = asked.iter().map(|asked| asked.ended - asked.begun).max();
        let longest = longest.unwrap_or_default();
        println!(
            "figures: {toxic:?}: {} requests acknowledged, {} failed, the longest took {} ms; {noticed}",
            ran.counts.acknowledged,
            ran.counts.unavailable,
            longest.as_millis(),
        );
        assert!(longest < GIVES_UP, "every request ends");
        assert!(
            !toxic.is_deadly() || ran.counts.unavailable > 0,
            "this says something"
        );
        ran.check().await;
    }
}

/// Lets `toxic` work while clients are at it, and tells them when it is over.
async fn taint(cluster: &Cluster, toxic: Toxic, over: CancellationToken) -> String {
    let pause = Duration::from_secs(3);
    tokio::time::sleep(pause).await;
    cluster.have(format!("taint {toxic:?}")).await;
    let began = Instant::now();
    if toxic.is_deadly() {
        for member in 0..MEMBERS {
            unready(cluster, member).await;
        }
    }
    let noticed = began.elapsed();
    tokio::time::sleep(TAINTED.saturating_sub(noticed)).await;
    cluster.have("cure".to_owned()).await;
    let cured = Instant::now();
    cluster.well().await;
    let healed = cured.elapsed();
    tokio::time::sleep(pause).await;
    over.cancel();
    match toxic.is_deadly() {
        true => format!(
            "no member was ready after {} ms, each was again {} ms after it was over",
            noticed.as_millis(),
            healed.as_millis()
        ),
        false => "all members live".to_owned(),
    }
}

/// Until a member says that it isn't ready.
async fn unready(cluster: &Cluster, member: usize) {
    let client = cluster.client(member);
    eventually("the member isn't ready", || async {
        let answer = client.ask(Request::get("/readyz")).await;
        answer.is_ok_and(|answer| answer.status == 503)
    })
    .await;
}
