//! A replica takes over: nothing that counts comes of two servers, and what was lost is named.

use std::{sync::Arc, time::Duration};

use portolan::{
    app::Stores,
    config::{Durability, RedisConfig},
    storage::{Expect, MemoryBlobs, MetaStore as _, Outcome, Version},
};
use tokio::sync::watch;

use super::{
    check, ids, key, opened, put, refused,
    server::{DURABLE, Sentinels, Server},
    work,
};
use crate::support::{client::Ask as _, eventually, mesh::Plan};

const ONE: &[&str] = &["appendonly yes", "appendfsync always", "min-replicas-to-write 1"];

/// The server is cut off from its replica, which is promoted; whoever still talks to the former is told nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_former_server_answers_nothing_and_nothing_is_lost_with_it() {
    let former = Server::start(DURABLE).await;
    let replica = former.replica(ONE).await;
    former.ask(&["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
    let store = Arc::new(opened(&former.config()).await);
    let (tell, told) = watch::channel(false);
    let clients = work(&store, &told);
    tokio::time::sleep(Duration::from_millis(700)).await;
    tell.send(true).unwrap();
    let settled = clients.join_all().await.concat();
    let before = put(&store, "tag").await;

    replica.ask(&["REPLICAOF", "NO", "ONE"]).await;
    // It has the row, and would give it out, and take a write.
    assert!(
        former
            .ask(&["HEXISTS", "portolan:rows:links", "0005redistag"])
            .await
            .contains('1')
    );
    let told = store.get(&key("tag")).await;
    assert!(told.is_err(), "{told:?}");
    let change = key("tag").put(Expect::Version(before), "3");
    let changed = store.transact(Version::random(), &[change]).await;
    assert!(!matches!(changed, Ok(Outcome::Committed)), "{changed:?}");

    // The promoted one has everything, and counts once it is followed itself.
    let _follows = replica.replica(ONE).await;
    let promoted = opened(&replica.config()).await;
    check(&promoted, &settled).await;
    assert_eq!(promoted.get(&key("tag")).await.unwrap().unwrap().version, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_are_asked_who_takes_writes_and_what_was_lost_is_named() {
    let mut former = Server::start(DURABLE).await;
    let (one, other) = (former.replica(ONE).await, former.replica(ONE).await);
    let sentinels = Sentinels::start(&former).await;
    let said = refused(&sentinels.config(&former)).await;
    assert!(
        said.contains("min-replicas-to-write is 0") && said.contains("for 2 replicas"),
        "{said}"
    );
    former.ask(&["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
    let config = sentinels.config(&former);
    let store = Arc::new(opened(&config).await);
    let before = put(&store, "tag").await;

    let (tell, told) = watch::channel(false);
    let clients = work(&store, &told);
    tokio::time::sleep(Duration::from_millis(500)).await;
    former.kill().await;
    eventually("a promoted replica answers", || async {
        store
            .get(&key("tag"))
            .await
            .is_ok_and(|row| row.is_some_and(|row| row.version == before))
    })
    .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    tell.send(true).unwrap();
    let settled = clients.join_all().await.concat();
    let (own, shared) = ids(&store).await;
    assert_eq!(own.len(), shared.len(), "one chain, and no half of a transaction");
    let missing = settled
        .iter()
        .filter(|(is_there, id)| *is_there && !shared.contains(id))
        .count();
    let caveat = store.caveat().unwrap();
    println!("{} settled, {missing} of them lost: {caveat}", settled.len());
    assert!(missing == 0 || caveat.contains("lacks"), "{caveat}");
    drop((one, other));
}

/// A server that keeps nothing but what it was told to save.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_server_lacks_after_a_restart_is_counted_and_named() {
    let mut server = Server::start(&["appendonly no"]).await;
    let config = RedisConfig {
        durability: Durability::Relaxed,
        ..server.config()
    };
    let store = opened(&config).await;
    let kept = put(&store, "kept").await;
    server.ask(&["SAVE"]).await;
    put(&store, "lost-1").await;
    put(&store, "lost-2").await;
    server.kill().await;
    server.run().await;
    assert_eq!(store.get(&key("kept")).await.unwrap().unwrap().version, kept);
    assert_eq!(store.get(&key("lost-1")).await.unwrap(), None);
    let caveat = store.caveat().unwrap();
    assert!(
        caveat.contains("lacks 2 writes that were acknowledged"),
        "{caveat}"
    );
    // It goes on with what there is.
    put(&store, "after").await;
    assert!(!opened(&config).await.caveat().unwrap().contains("lacks"));
    let stores = Stores {
        meta: Arc::new(store),
        blobs: Arc::new(MemoryBlobs::new()),
    };
    let mesh = Plan::over(stores).start().await;
    let said = mesh
        .client(0)
        .get("/readyz".to_owned())
        .await
        .unwrap()
        .expect(200);
    let said = String::from_utf8_lossy(&said.body).into_owned();
    for part in ["ok\n", "durability is relaxed", &caveat] {
        assert!(said.contains(part), "{said}");
    }
    mesh.stop().await;
}
