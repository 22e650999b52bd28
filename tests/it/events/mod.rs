//! Sinks are told of exactly what was committed, in its order in each repository, whatever becomes of them and of members.

mod asking;
mod nats;
mod server;
mod told;
mod webhook;

use std::time::Duration;

use portolan::config::{EventSink, Events, Extensions, Limits, SinkKind, SinkLogin, SinkTls};
use tokio_util::sync::CancellationToken;

use self::told::{Told, check};
use crate::{
    support::{
        client::Client,
        eventually,
        mesh::{Mesh, Plan},
    },
    workload::{self, Workload},
};

/// A sink at `address`.
fn sink(kind: SinkKind, address: String, timeout: Duration) -> EventSink {
    EventSink {
        kind,
        address,
        channel: Some("registry.events".to_owned()),
        timeout,
        headers: Vec::new(),
        login: SinkLogin::None,
        tls: SinkTls::default(),
    }
}

/// A mesh that tells `sinks`, and has begun to: what is committed from now on is told.
async fn telling(sinks: Vec<EventSink>) -> Mesh {
    telling_within(sinks, |_| {}).await
}

async fn telling_within(sinks: Vec<EventSink>, bound: impl Fn(&mut Limits)) -> Mesh {
    let events = Events {
        sinks,
        ..Events::default()
    };
    let extensions = Extensions {
        events,
        ..Extensions::default()
    };
    let plan = Plan::new().extensions(extensions).limits(|limits| {
        limits.leases.expiry = Duration::from_secs(2);
        limits.events.look_interval = Duration::from_millis(50);
        limits.events.pause_min = Duration::from_millis(10);
        limits.events.pause_max = Duration::from_millis(100);
        bound(limits);
    });
    let mesh = plan.start().await;
    eventually("the feeds are followed", || async {
        let metrics = mesh.metrics(0).await;
        metrics.has("portolan_events_oldest_waiting_seconds")
    })
    .await;
    mesh
}

/// Clients push and delete through two members while the third, which owns some of the repositories, is killed; `disturb` goes on
/// at the same time. Then `told` must be what was committed.
async fn under_a_workload(
    mut mesh: Mesh,
    told: impl AsyncFn() -> Vec<Told>,
    disturb: impl Future<Output = ()>,
) {
    let repositories: Vec<String> = (0..6).map(|n| format!("told/r{n}")).collect();
    let doors: Vec<Client> = (0..2).map(|member| mesh.client(member)).collect();
    let workload = Workload {
        repositories: repositories.clone(),
        tags: 2,
        clients: 5,
        rounds: 60,
        stop: CancellationToken::new(),
        pause: Duration::from_millis(60),
        pushes: 6,
        retries: 50,
        seed: 18,
        ..Workload::default()
    };
    let crash = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        mesh.crash(2).await;
    };
    let (ran, (), ()) = tokio::join!(workload::run(workload, doors.clone()), crash, disturb);
    assert!(ran.counts.acknowledged > 0);
    eventually("everything is told", || async {
        told::is_all(&doors[0], &repositories, &told().await).await
    })
    .await;
    check(&doors[1], &repositories, &told().await).await;
    mesh.stop().await;
}
