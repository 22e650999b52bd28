//! A tag as a counter, which clients of all members move on at once.
//!
//! Each reads what the tag names, adds one, and pushes that under the condition that the tag still names what it read. No
//! other coordination: what is counted in the end is what was acknowledged.

use serde_json::Value;
use tokio::task::JoinSet;

use crate::support::{
    client::{Ask as _, Client, Http, Request},
    content::{Blob, IMAGE, Manifest},
    mesh::{MEMBERS, Mesh},
};

const CLIENTS: usize = 9;
const TURNS: u64 = 12;

/// Adds one, `TURNS` times; gives how often another was faster.
async fn count(client: Client, repository: String, config: Blob, by: usize) -> u64 {
    let target = format!("/v2/{repository}/manifests/count");
    let (mut moved, mut beaten) = (0, 0);
    while moved < TURNS {
        let read = client.get(target.clone()).await.unwrap().expect(200);
        let next = Manifest::image(&config, &[])
            .annotation("count", &(counted(&read.json()) + 1).to_string())
            .annotation("by", &format!("{by} {moved}"))
            .build();
        let push = Request::put(&target)
            .header("content-type", IMAGE)
            .header("if-match", read.must("etag"))
            .body(next.bytes.clone());
        let answer = client.ask(push).await.unwrap();
        match answer.status {
            201 => moved += 1,
            412 => beaten += 1,
            // So many at once that it came to no transaction; nothing was done.
            503 => drop(answer.lacks("portolan-outcome")),
            _ => panic!("{answer}"),
        }
    }
    beaten
}

fn counted(manifest: &Value) -> u64 {
    manifest["annotations"]["count"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_all_members_count_by_one_tag_and_none_is_lost() {
    let mesh = Mesh::of_three().await;
    let repository = mesh.names().owned_by(0, "counter");
    let config = Blob::named("counter", 100);
    let door = mesh.client(0);
    door.push_blob(&repository, &config).await.unwrap().expect(201);
    let zero = Manifest::image(&config, &[]).annotation("count", "0").build();
    door.push_manifest(&repository, "count", &zero)
        .await
        .unwrap()
        .expect(201);
    let mut clients = JoinSet::new();
    for n in 0..CLIENTS {
        let http = if n % 2 == 0 { Http::One } else { Http::Two };
        let client = Client::new(mesh.door(n % MEMBERS), http);
        clients.spawn(count(client, repository.clone(), config.clone(), n));
    }
    let beaten: u64 = clients.join_all().await.iter().sum();
    assert!(beaten > 0, "they never met");
    for client in mesh.clients() {
        let target = format!("/v2/{repository}/manifests/count");
        let read = client.get(target).await.unwrap().expect(200);
        assert_eq!(counted(&read.json()), CLIENTS as u64 * TURNS);
    }
    mesh.stop().await;
}
