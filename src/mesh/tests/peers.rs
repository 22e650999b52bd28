//! What a peer costs that can't be reached.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use super::harness::*;
use crate::{
    mesh::Peers,
    net::{Accepting, ClientTls, Drain, Network, Stream, Tcp},
    ownership::StaticView,
    telemetry::Metrics,
};

/// A network in which a dial waits for ever, unless it is open.
#[derive(Debug, Default)]
struct Gate {
    is_open: AtomicBool,
    dials: AtomicUsize,
}

#[async_trait]
impl Network for Gate {
    async fn listen(&self, _: SocketAddr) -> io::Result<Box<dyn Accepting>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn dial(&self, address: &str) -> io::Result<Box<dyn Stream>> {
        self.dials.fetch_add(1, Ordering::Relaxed);
        if !self.is_open.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        Tcp.dial(address).await
    }
}

/// The peers of the cluster's first member, beyond a gate.
fn beyond(gate: &Arc<Gate>, cluster: &Cluster, drain: &Drain) -> Arc<Peers> {
    let files = cluster.authority.issue("front", &[id(1).host()]);
    let tls = ClientTls::load(cluster.authority.client(files)).unwrap();
    let view = Arc::new(StaticView::new(id(1), cluster.addresses.clone()));
    let peers = Peers::new(view, tls, Arc::new(Metrics::new()), &settings(), drain.clone());
    Arc::new(peers.over(gate.clone()))
}

#[tokio::test]
async fn nobody_waits_for_a_member_that_couldnt_be_dialled_the_last_time() {
    let (cluster, gate, drain) = (cluster(2).await, Arc::<Gate>::default(), Drain::new());
    let peers = beyond(&gate, &cluster, &drain);
    // From here on, time passes when everybody waits.
    tokio::time::pause();
    let probe = async || {
        let began = Instant::now();
        assert!(!peers.probe(&id(2)).await);
        began.elapsed()
    };
    assert!(
        probe().await >= settings().mesh.connect,
        "somebody has to find out"
    );
    for _ in 0..3 {
        sleep(settings().mesh.redial_max * 2).await;
        let (first, second, third) = tokio::join!(probe(), probe(), probe());
        assert!(first < settings().mesh.connect / 4, "{first:?}");
        assert_eq!([second, third], [Duration::ZERO; 2], "one is enough");
        sleep(settings().mesh.connect).await;
    }
    assert_eq!(gate.dials.load(Ordering::Relaxed), 4);
    drain.finish(Duration::ZERO).await;
}

#[tokio::test]
async fn a_member_that_couldnt_be_dialled_is_reached_when_it_can_be() {
    let (cluster, gate, drain) = (cluster(2).await, Arc::<Gate>::default(), Drain::new());
    let peers = beyond(&gate, &cluster, &drain);
    assert!(!peers.probe(&id(2)).await);
    gate.is_open.store(true, Ordering::Relaxed);
    while !peers.probe(&id(2)).await {
        sleep(Duration::from_millis(20)).await;
    }
    assert!(peers.reaches(&id(2)));
    drain.finish(Duration::ZERO).await;
}
