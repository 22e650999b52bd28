//! Thirty clients pull what only upstream has, and a member is killed in the middle.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use tokio::{task::JoinSet, time::timeout};

use super::{Cluster, told};
use crate::{
    mirror::fake::{Fake, Seen, blob_path},
    support::{
        PATIENCE,
        client::{Client, Http, Request},
        content::{Blob, run_seed},
        mesh::MEMBERS,
    },
};

/// Who owns what is pulled, and who is only the front of some.
const OWNER: usize = 2;
const FRONT: usize = 0;

const CLIENTS: usize = 30;
/// Of the blob, and what of it upstream sends before the kill.
const LENGTH: usize = 6 << 20;
const BEFORE: usize = 2 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "tests/faults.sh starts the members and runs it"]
async fn nobody_who_is_left_fails_when_a_member_is_killed_amid_thirty_pulls_from_upstream() {
    let cluster = Cluster::find();
    let upstream = Fake::bound(&told("PORTOLAN_TEST_UPSTREAM")).await;
    let seed = run_seed("nobody_who_is_left_fails_when_a_member_is_killed_amid_thirty_pulls_from_upstream");
    let mut figures = Vec::new();
    // Each front that is left fetches anew what its owner had begun, once for all its clients.
    for (victim, most) in [(OWNER, MEMBERS), (FRONT, 1)] {
        let repository = cluster
            .names()
            .owned_by(OWNER, &format!("mirrored/{seed}-{victim}"));
        let blob = Blob::named(&repository, LENGTH);
        let path = blob_path(&repository, &blob.digest);
        let gate = upstream.gated_blob(&repository, &blob, BEFORE);
        // The first one begins it, and leaves.
        let (left, _) = begun(&cluster.client(1), &path).await;
        drop(left);
        let mut pulls = JoinSet::new();
        for n in 0..CLIENTS {
            let (door, path) = (n % MEMBERS, path.clone());
            let client = Client::new(cluster.doors[door].clone(), Http::One);
            let (mut body, first) = begun(&client, &path).await;
            pulls.spawn(async move {
                let mut got = BytesMut::from(&first[..]);
                loop {
                    match timeout(PATIENCE, body.frame()).await {
                        Ok(None) => return (door, Ok(got.freeze())),
                        Ok(Some(Ok(frame))) => {
                            got.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
                        }
                        Ok(Some(Err(error))) => return (door, Err(error.to_string())),
                        Err(_) => return (door, Err("no more comes".to_owned())),
                    }
                }
            });
        }
        cluster.have(format!("kill {victim}")).await;
        gate.send_replace(true);
        let mut whole = 0;
        while let Some(pulled) = pulls.join_next().await {
            match pulled.unwrap() {
                (door, Ok(bytes)) => {
                    assert!(bytes == blob.bytes, "wrong bytes through {door}");
                    whole += 1;
                }
                (door, Err(error)) => assert_eq!(door, victim, "{error}"),
            }
        }
        assert!(whole >= CLIENTS - CLIENTS / MEMBERS, "{whole} got it");
        // On a slow machine it may go on with what stood still for long; that brings nothing twice.
        let from_the_beginning = |seen: &&Seen| seen.target == path && seen.range.is_none();
        let asked = upstream.seen().iter().filter(from_the_beginning).count();
        assert!(
            asked <= most,
            "{asked} times asked for all: {:?}",
            upstream.seen()
        );
        let sent = upstream.sent(&path);
        match victim {
            // What the owner had is asked for again by each who fetches anew, and nothing more.
            OWNER => assert!(sent <= BEFORE + (MEMBERS - 1) * LENGTH, "{sent} bytes sent"),
            _ => assert_eq!(sent, LENGTH, "bytes sent"),
        }
        figures.push(format!(
            "member {victim}: {whole} of {CLIENTS} got all, upstream was asked {asked} times for all and sent {sent} bytes of {LENGTH}"
        ));
        cluster.have(format!("start {victim}")).await;
        cluster.well().await;
    }
    println!(
        "figures: kill -9 amid pulls from upstream: {}",
        figures.join("; ")
    );
}

/// A pull that has got its first bytes.
async fn begun(client: &Client, path: &str) -> (hyper::body::Incoming, Bytes) {
    let response = client.open(&Request::get(path)).await.unwrap();
    assert_eq!(response.status(), 200, "{:?}", response.headers());
    let mut body = response.into_body();
    let frame = timeout(PATIENCE, body.frame()).await.expect("nothing comes");
    let first = frame.unwrap().unwrap().into_data().unwrap();
    (body, first)
}
