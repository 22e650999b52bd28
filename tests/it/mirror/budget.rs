//! `reqConcurrent`, `reqPerSec` and `bytesPerSec` are a whole mesh's: an upstream that counts.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use portolan::placement::{self, HashKey};

use super::{
    Image,
    fake::{Fake, blob_path, manifest_path},
    patient, pull, sync_from,
};
use crate::support::{
    PATIENCE, eventually,
    mesh::{HASH_KEY, MEMBERS, Mesh},
};

/// Images that only upstream has, each in a repository of its own, so that every member has some to fetch.
fn images(upstream: &Fake, batch: &str, length: usize, delay: Duration) -> Vec<(String, Image)> {
    let image = |n: usize| {
        let repository = format!("{batch}/{n}");
        let image = Image::named(&repository, &[length]);
        image.serve(upstream, &repository, "v1");
        for reference in ["v1", &image.manifest.digest] {
            upstream.slow(manifest_path(&repository, reference), delay);
        }
        for blob in image.blobs() {
            upstream.slow(blob_path(&repository, &blob.digest), delay);
        }
        (repository, image)
    };
    (0..9).map(image).collect()
}

/// Pulls all of them at once, through these members.
async fn pull_all(mesh: &Mesh, doors: &[usize], images: &[(String, Image)]) {
    let clients: Vec<_> = doors.iter().map(|door| mesh.client(*door)).collect();
    let pulls = images.iter().zip(clients.iter().cycle());
    let pulls = pulls.map(|((repository, image), client)| pull(client, repository, "v1", image));
    join_all(pulls).await;
}

async fn mesh(upstream: &Fake, budget: &str) -> Mesh {
    let plan = patient(sync_from(&upstream.url(), budget)).limits(|limits| {
        // Nobody takes a slow machine for a member that is gone.
        limits.mesh.budget_heard = PATIENCE;
    });
    plan.start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_is_asked_at_once_by_all_members_than_may_be_whoever_keeps_count() {
    let upstream = Fake::start().await;
    let mut mesh = mesh(&upstream, "reqConcurrent: 2").await;
    let delay = Duration::from_millis(30);
    pull_all(&mesh, &[0, 1, 2], &images(&upstream, "all", 1000, delay)).await;
    assert_eq!(upstream.most_at_once(), 2);
    // The one who kept count dies, while there is something to count.
    let budget = format!("budget {}#0", upstream.address);
    let keeper = placement::first(&HashKey::new(HASH_KEY), &mesh.members, &budget).unwrap();
    let keeper = mesh.members.iter().position(|member| member == keeper).unwrap();
    let left: Vec<_> = (0..MEMBERS).filter(|n| *n != keeper).collect();
    let doors: Vec<_> = left.iter().map(|n| mesh.client(*n)).collect();
    let images_now = images(&upstream, "meanwhile", 1000, delay);
    let pulls = images_now.iter().zip(doors.iter().cycle());
    let pulls = pulls.map(|((repository, image), client)| pull(client, repository, "v1", image));
    tokio::join!(mesh.crash(keeper), join_all(pulls));
    let mut batch = 0;
    let batches = std::cell::RefCell::new(&mut batch);
    eventually("the next one keeps count", || async {
        let images = {
            let mut batch = batches.borrow_mut();
            **batch += 1;
            images(&upstream, &format!("later-{batch}"), 1000, delay)
        };
        upstream.forget_most();
        pull_all(&mesh, &left, &images).await;
        upstream.most_at_once() == 2
    })
    .await;
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_members_share_requests_and_bytes_of_a_second() {
    let upstream = Fake::start().await;
    let mesh = mesh(&upstream, "reqPerSec: 40, bytesPerSec: 400000").await;
    let images = images(&upstream, "rated", 100_000, Duration::ZERO);
    let began = Instant::now();
    pull_all(&mesh, &[0, 1, 2], &images).await;
    let took = began.elapsed().as_secs_f64();
    // What is asked behind the pulls took its turns, too, but some of it may come later. The first bytes need not wait.
    let requests = 3 * images.len() - 1;
    let least = (requests as f64 / 40.0).max((images.len() - 3) as f64 * 100_000.0 / 400_000.0);
    assert!(took >= least, "{took} s, and not {least}");
    mesh.stop().await;
}
