//! Many at once.

use std::{sync::Arc, time::Duration};

use http_body_util::BodyExt as _;
use tokio::task::JoinSet;

use super::{harness::*, toy::*};
use crate::admission::full;

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_clients_that_go_away_in_mid_pull_harm_nobody() {
    let cluster = Arc::new(cluster(2).await);
    let repository = cluster.repository(&[2]);
    cluster.at(2).toy.behaviour.lock().length = 10_000_000;
    let mut tasks = JoinSet::new();
    for _ in 0..40 {
        let (cluster, repository) = (cluster.clone(), repository.clone());
        tasks.spawn(async move {
            for _ in 0..50 {
                let mut body = call(cluster.at(1), get(&repository)).await.into_body();
                body.frame().await.unwrap().unwrap();
            }
        });
    }
    // Meanwhile others are served, pulls on the same connections among them.
    for n in 0..2 {
        let (cluster, repository) = (cluster.clone(), repository.clone());
        tasks.spawn(async move {
            for _ in 0..10 {
                if n == 0 {
                    let response = call(cluster.at(1), push(&repository, full("abc".into()))).await;
                    assert_eq!(response.status(), 201);
                } else {
                    let body = call(cluster.at(1), get(&repository)).await.into_body();
                    assert_eq!(body.collect().await.unwrap().to_bytes().len(), 10_000_000);
                }
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    assert_eq!(cluster.at(1).toy.calls(), 0, "all were forwarded");
    assert_eq!(
        cluster.counter(1, "portolan_resumed_pulls_total"),
        0,
        "no stream broke"
    );
    let state = cluster.at(1).mesh.peers.state(&id(2));
    assert_eq!(state.last_error, None);
    assert_eq!(
        state.connections, 2,
        "the connections they began on are the ones that are up"
    );
    eventually("all is over", || {
        cluster.at(1).mesh.in_flight.len() == 0 && cluster.at(2).mesh.in_flight.len() == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_members_that_fill_each_other_up_do_not_wait_for_each_other() {
    let mut settings = settings();
    settings.mesh.replays = 1;
    settings.mesh.hold = Duration::from_secs(2);
    let cluster = Arc::new(cluster_with(2, settings).await);
    let mut tasks = JoinSet::new();
    for n in 0..60 {
        let (front, owner) = if n % 2 == 0 { (1, 2) } else { (2, 1) };
        let (cluster, repository) = (cluster.clone(), cluster.repository(&[owner]));
        tasks.spawn(async move {
            let response = call(cluster.at(front), push(&repository, full(bytes(0, 300_000)))).await;
            assert_eq!(response.status(), 201);
        });
    }
    let all = async {
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap()
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all)
        .await
        .expect("they wait for each other");
    assert_eq!(cluster.at(1).toy.calls() + cluster.at(2).toy.calls(), 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_uploads_at_once_arrive_exact() {
    let cluster = Arc::new(cluster(2).await);
    let repository = cluster.repository(&[2]);
    let mut tasks = JoinSet::new();
    for n in 0..100u64 {
        let (cluster, repository) = (cluster.clone(), repository.clone());
        tasks.spawn(async move {
            let content = bytes(n, n + 400_000);
            let response = call(cluster.at(1), push(&repository, full(content))).await;
            let text = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(text, "400001 bytes");
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    assert_eq!(cluster.at(2).toy.calls(), 100);
}
