//! The Redis driver over servers of Debian's package, each of a test's own: the contract, kills, answers that are lost, and a replica
//! that takes over.

mod failover;
mod proxy;
pub(crate) mod server;

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use portolan::{
    app::Stores,
    config::{Durability, Limits, RedisConfig, RedisServers, RedisTls, Secret, ServerAddress},
    storage::{
        Expect, Key, MemoryBlobs, MetaStore, Outcome, RedisError, RedisMeta, Row, Space, StoreErrorKind,
        Version, contract,
    },
};
use tokio::{sync::watch, task::JoinSet};

use self::{
    proxy::Proxy,
    server::{DURABLE, Server},
};
use crate::{
    api,
    support::{PATIENCE, mesh::Plan},
};

pub(crate) async fn opened(config: &RedisConfig) -> RedisMeta {
    match RedisMeta::open(config, &Limits::default()).await {
        Ok(store) => store,
        Err(error) => panic!("{:#}", anyhow::Error::from(error)),
    }
}

async fn refused(config: &RedisConfig) -> String {
    match RedisMeta::open(config, &Limits::default()).await {
        Ok(_) => panic!("it was opened"),
        Err(error) => format!("{:#}", anyhow::Error::from(error)),
    }
}

fn key(sort: &str) -> Key {
    Key {
        space: Space::Links,
        partition: "redis".to_owned(),
        sort: sort.to_owned(),
    }
}

async fn put(store: &RedisMeta, sort: &str) -> Version {
    let version = Version::random();
    let put = key(sort).put(Expect::Any, "1");
    assert_eq!(store.transact(version, &[put]).await.unwrap(), Outcome::Committed);
    version
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_keeps_the_contract() {
    let server = Server::durable().await;
    let store = Arc::new(opened(&server.config()).await);
    contract::run_meta(store.clone()).await;
    contract::run_walks(store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_nor_applied_twice_where_answers_are_lost() {
    let server = Server::durable().await;
    let proxy = Proxy::start(server.address()).await;
    let config = RedisConfig {
        servers: RedisServers::One(proxy.address()),
        ..server.config()
    };
    let store = Arc::new(opened(&config).await);
    proxy.lose_one_in(30);
    let (tell, told) = watch::channel(false);
    let clients = work(&store, &told);
    tokio::time::sleep(Duration::from_secs(3)).await;
    tell.send(true).unwrap();
    let settled = clients.join_all().await.concat();
    proxy.lose_one_in(0);
    println!("{} answers lost", proxy.lost());
    assert!(proxy.lost() > 0);
    check(&store, &settled).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_is_the_same_over_redis() {
    let server = Server::durable().await;
    let stores = Stores {
        meta: Arc::new(opened(&server.config()).await),
        blobs: Arc::new(MemoryBlobs::new()),
    };
    api::over(Plan::over(stores)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_members_that_start_at_once_make_the_keys_and_share_them() {
    let server = Server::durable().await;
    let config = server.config();
    let members = join_all((0..10).map(|_| opened(&config))).await;
    let version = put(&members[0], "first").await;
    for member in &members {
        assert_eq!(member.get(&key("first")).await.unwrap().unwrap().version, version);
    }
    // Another registry on the same server has nothing to do with it.
    for config in [
        RedisConfig {
            prefix: "other".to_owned(),
            ..config.clone()
        },
        RedisConfig {
            database: 1,
            ..config.clone()
        },
    ] {
        assert_eq!(opened(&config).await.get(&key("first")).await.unwrap(), None);
    }
    // What a newer release made is left alone.
    server
        .ask(&["HSET", "portolan:state", "number", "7", "oldest", "7"])
        .await;
    let error = RedisMeta::open(&config, &Limits::default()).await.err();
    assert!(
        matches!(error, Some(RedisError::Newer { number: 7, .. })),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_may_lose_what_it_acknowledged_is_refused_by_name() {
    for (setting, word) in [
        ("appendonly no", "appendonly is no"),
        ("appendfsync everysec", "appendfsync is everysec"),
        (
            "no-appendfsync-on-rewrite yes",
            "no-appendfsync-on-rewrite is yes",
        ),
        ("rename-command CONFIG \"\"", "doesn't say whether it keeps"),
    ] {
        let server = Server::start(&[DURABLE, &[setting]].concat()).await;
        let strict = server.config();
        let said = refused(&strict).await;
        assert!(
            said.contains(word) && said.contains("durability: relaxed"),
            "{said}"
        );
        let relaxed = RedisConfig {
            durability: Durability::Relaxed,
            ..strict
        };
        let store = opened(&relaxed).await;
        put(&store, "first").await;
        let caveat = store.caveat().unwrap();
        assert!(caveat.contains("durability is relaxed"), "{caveat}");
    }
    let evicting = Server::start(&[DURABLE, &["maxmemory-policy allkeys-lru"]].concat()).await;
    let cluster = Server::start(&[DURABLE, &["cluster-enabled yes"]].concat()).await;
    for (server, word) in [
        (&evicting, "maxmemory-policy is allkeys-lru"),
        (&cluster, "runs in cluster mode"),
    ] {
        for durability in [Durability::Strict, Durability::Relaxed] {
            let config = RedisConfig {
                durability,
                ..server.config()
            };
            let said = refused(&config).await;
            assert!(said.contains(word), "{said}");
        }
    }
    let server = Server::durable().await;
    assert_eq!(opened(&server.config()).await.caveat(), None);
    let replica = server.replica(DURABLE).await;
    let said = refused(&server.config()).await;
    assert!(
        said.contains("min-replicas-to-write is 0") && said.contains("1 or more"),
        "{said}"
    );
    let said = refused(&replica.config()).await;
    assert!(
        said.contains("is a replica: name the one that takes writes"),
        "{said}"
    );
    let nobody = RedisConfig {
        servers: RedisServers::One(ServerAddress {
            host: "127.0.0.1".to_owned(),
            port: 1,
        }),
        ..server.config()
    };
    let said = refused(&nobody).await;
    assert!(
        said.contains("127.0.0.1:1") && said.contains("can't be asked"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_reached_by_tls_and_a_password_and_known_by_its_name() {
    let (server, config) = Server::durable().await.guarded("127.0.0.1").await;
    let store = Arc::new(opened(&config).await);
    contract::run_meta(store).await;

    let wrong = RedisConfig {
        password: Some(Secret::new("another")),
        ..config.clone()
    };
    let said = refused(&wrong).await;
    assert!(said.contains("WRONGPASS"), "{said}");
    let machine = RedisConfig {
        tls: RedisTls::On { authority: None },
        ..config.clone()
    };
    let said = refused(&machine).await;
    assert!(said.contains("UnknownIssuer"), "{said}");
    server.ask(&["ACL", "SETUSER", "portolan", "-zadd"]).await;
    let store = opened(&config).await;
    let put = key("refused").put(Expect::Any, "1");
    let error = store.transact(Version::random(), &[put]).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Denied, "{error:?}");

    let (_server, config) = Server::durable().await.guarded("redis.example.org").await;
    let said = refused(&config).await;
    assert!(said.contains("not valid for name"), "{said}");
}

/// Adds its id to the rows `sorts`, one transaction for both: how it ended, as rule R4 settles it. `None` is not known.
async fn add(store: &RedisMeta, sorts: [&str; 2]) -> Option<(bool, [u8; 16])> {
    let version = Version::random();
    let id = version.to_bytes();
    let keys = sorts.map(key);
    let Ok(rows) = store.snapshot(&keys).await else {
        return Some((false, id));
    };
    let put = |n: usize| {
        let row: Option<&Row> = rows[n].as_ref();
        let before = row.map(|row| row.bytes.clone()).unwrap_or_default();
        let bytes = [&before[..], &id[..]].concat();
        keys[n].clone().put(Expect::unchanged(row), bytes)
    };
    match store.transact(version, &[put(0), put(1)]).await {
        Ok(Outcome::Committed) => Some((true, id)),
        Ok(Outcome::Refused { .. }) | Err(_) => Some((false, id)),
        Ok(Outcome::Unknown) => match store.get(&keys[0]).await {
            Ok(row) if row.as_ref().is_some_and(|row| row.version == version) => Some((true, id)),
            Ok(_) | Err(_) => None,
        },
    }
}

/// Clients that add to a row of their own and one that they share, until told; all that was settled.
fn work(store: &Arc<RedisMeta>, told: &watch::Receiver<bool>) -> JoinSet<Vec<(bool, [u8; 16])>> {
    let mut clients = JoinSet::new();
    for client in 0..6 {
        let (store, told) = (store.clone(), told.clone());
        clients.spawn(async move {
            let mut settled = Vec::new();
            let own = format!("own-{client}");
            while !*told.borrow() && settled.len() < 3_000 {
                let added = tokio::time::timeout(PATIENCE, add(&store, [&own, "shared"])).await;
                settled.extend(added.expect("a request ends"));
            }
            settled
        });
    }
    clients
}

/// Acknowledged means once in both rows, refused means in none.
async fn check(store: &RedisMeta, settled: &[(bool, [u8; 16])]) {
    let (own, shared) = ids(store).await;
    let times = |ids: &[[u8; 16]], id: &[u8; 16]| ids.iter().filter(|found| *found == id).count();
    assert_eq!(own.len(), shared.len(), "a transaction was applied by half");
    for (is_there, id) in settled {
        let expected = usize::from(*is_there);
        assert_eq!((times(&own, id), times(&shared, id)), (expected, expected));
    }
    let acknowledged = settled.iter().filter(|(is_there, _)| *is_there).count();
    println!(
        "{acknowledged} acknowledged, {} refused, {} in the rows",
        settled.len() - acknowledged,
        own.len()
    );
    assert!(acknowledged > 0);
}

/// What is in the clients' own rows, and in the one that they share.
async fn ids(store: &RedisMeta) -> (Vec<[u8; 16]>, Vec<[u8; 16]>) {
    let mut keys: Vec<Key> = (0..6).map(|client| key(&format!("own-{client}"))).collect();
    keys.push(key("shared"));
    let rows = store.get_many(&keys).await.unwrap();
    let ids = |rows: &[Option<Row>]| -> Vec<[u8; 16]> {
        rows.iter()
            .flatten()
            .flat_map(|row| row.bytes.as_chunks::<16>().0.to_vec())
            .collect()
    };
    (ids(&rows[..6]), ids(&rows[6..]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_there_after_the_server_was_killed_under_load() {
    let mut server = Server::durable().await;
    let store = Arc::new(opened(&server.config()).await);
    let (tell, told) = watch::channel(false);
    let clients = work(&store, &told);
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        server.kill().await;
        server.run().await;
    }
    tokio::time::sleep(Duration::from_millis(700)).await;
    tell.send(true).unwrap();
    let settled = clients.join_all().await.concat();
    check(&store, &settled).await;
    assert_eq!(store.caveat(), None, "nothing was lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_emptied_is_refused_to_who_knew_it() {
    let server = Server::durable().await;
    let store = opened(&server.config()).await;
    put(&store, "first").await;
    server.ask(&["FLUSHALL"]).await;
    for _ in 0..2 {
        let error = store.get(&key("first")).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unsupported);
        let said = format!("{:#}", anyhow::Error::from(error));
        assert!(
            said.contains("are gone") && said.contains("restart the members"),
            "{said}"
        );
    }
    // Somebody else began anew: that isn't what was there.
    let other = opened(&server.config()).await;
    assert_eq!(other.get(&key("first")).await.unwrap(), None);
    assert!(store.get(&key("first")).await.is_err());
}
