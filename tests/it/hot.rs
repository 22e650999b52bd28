//! `storage.cache`: blobs that are pulled again come from their owner's disk, to whom they ever went.

use std::{fs, path::Path};

use futures_util::future::join_all;

use crate::support::{
    client::{Ask as _, Client, Http, Request},
    content::Blob,
    mesh::{MEMBERS, Mesh, Plan},
};

const OWNER: usize = 1;
const OTHER: usize = 0;

fn ways(mesh: &Mesh) -> Vec<Client> {
    let ways = [OWNER, OTHER].into_iter().flat_map(|member| {
        let door = mesh.door(member);
        [Http::One, Http::Two].map(|http| Client::new(door, http))
    });
    ways.collect()
}

/// Reads of objects by all members.
async fn gets(mesh: &Mesh) -> u64 {
    let labels = [("store", "blobs"), ("operation", "get")];
    let mut sum = 0.0;
    for member in 0..MEMBERS {
        sum += mesh
            .metrics(member)
            .await
            .sum("portolan_store_requests_total", &labels);
    }
    sum as u64
}

fn target(repository: &str, blob: &Blob) -> String {
    format!("/v2/{repository}/blobs/{}", blob.digest)
}

fn files(folder: &Path, member: usize) -> Vec<std::path::PathBuf> {
    let files = fs::read_dir(folder.join(member.to_string())).unwrap();
    let files = files.map(|file| file.unwrap().path());
    files.filter(|path| !path.ends_with("lock")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_who_pull_at_once_cost_the_store_one_read_and_later_ones_none() {
    let folder = tempfile::tempdir().unwrap();
    let mesh = Plan::new().cache(folder.path()).start().await;
    let repository = mesh.names().owned_by(OWNER, "hot");
    let blob = Blob::named("hot", 5_000_017);
    let pushed = mesh.client(OTHER).push_blob(&repository, &blob).await.unwrap();
    pushed.expect(201);
    let before = gets(&mesh).await;
    let pulls = ways(&mesh).into_iter().flat_map(|client| vec![client; 4]);
    let pulls = pulls.map(|client| {
        let target = target(&repository, &blob);
        async move { client.get(target).await.unwrap() }
    });
    for pulled in join_all(pulls).await {
        pulled.expect(200).with_body(&blob.bytes);
    }
    assert_eq!(gets(&mesh).await - before, 1);
    for client in ways(&mesh) {
        let pulled = client.get(target(&repository, &blob)).await.unwrap();
        pulled.expect(200).with_body(&blob.bytes);
        for (range, part) in [("bytes=7-99", 7..100), ("bytes=4999000-", 4_999_000..5_000_017)] {
            let request = Request::get(target(&repository, &blob)).header("range", range);
            let pulled = client.ask(request).await.unwrap().expect(206);
            pulled.with_body(&blob.bytes[part]);
        }
    }
    assert_eq!(gets(&mesh).await - before, 1);
    let found: Vec<_> = (0..MEMBERS)
        .map(|member| files(folder.path(), member).len())
        .collect();
    assert_eq!(found, [0, 1, 0], "at the owner alone");
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_have_a_blob_has_it_no_more_for_its_being_hot() {
    let folder = tempfile::tempdir().unwrap();
    let mesh = Plan::new().cache(folder.path()).start().await;
    let repository = mesh.names().owned_by(OWNER, "mine");
    let elsewhere = mesh.names().owned_by(OWNER, "yours");
    let blob = Blob::named("mine", 700_000);
    let pushed = mesh.client(OWNER).push_blob(&repository, &blob).await.unwrap();
    pushed.expect(201);
    for client in ways(&mesh) {
        let pulled = client.get(target(&repository, &blob)).await.unwrap();
        pulled.expect(200).with_body(&blob.bytes);
        let pulled = client.get(target(&elsewhere, &blob)).await.unwrap();
        pulled.error(404, "BLOB_UNKNOWN");
    }
    let deleted = mesh
        .client(2)
        .ask(Request::delete(target(&repository, &blob)))
        .await;
    deleted.unwrap().expect(202);
    for client in ways(&mesh) {
        let pulled = client.get(target(&repository, &blob)).await.unwrap();
        pulled.error(404, "BLOB_UNKNOWN");
    }
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_somebody_wrote_over_is_never_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let mesh = Plan::new().cache(folder.path()).start().await;
    let repository = mesh.names().owned_by(OWNER, "changed");
    let blob = Blob::named("changed", 1_500_000);
    let pushed = mesh.client(OWNER).push_blob(&repository, &blob).await.unwrap();
    pushed.expect(201);
    for client in ways(&mesh) {
        let pulled = client.get(target(&repository, &blob)).await.unwrap();
        pulled.expect(200).with_body(&blob.bytes);
        let [file] = &files(folder.path(), OWNER)[..] else {
            panic!("{:?}", files(folder.path(), OWNER));
        };
        let mut bytes = fs::read(file).unwrap();
        bytes[1_400_000] ^= 1;
        fs::write(file, bytes).unwrap();
        let pulled = client.get(target(&repository, &blob)).await.unwrap();
        pulled.expect(200).with_body(&blob.bytes);
    }
    mesh.stop().await;
}
