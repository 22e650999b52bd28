//! The PostgreSQL driver over servers of Debian's package, each of a test's own: the contract, kills, and a standby that takes over.

pub(crate) mod server;

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use portolan::{
    app::Stores,
    config::{Limits, PostgresConfig},
    storage::{
        DatabaseError, Expect, Key, MemoryBlobs, MetaStore, Outcome, PostgresMeta, Row, Space, Version,
        contract,
    },
};
use tokio::{sync::watch, task::JoinSet};
use tokio_postgres::config::SslMode;

use self::server::Server;
use crate::{
    api,
    support::{PATIENCE, eventually, mesh::Plan},
};

pub(crate) async fn opened(config: &PostgresConfig) -> PostgresMeta {
    match PostgresMeta::open(config, &Limits::default()).await {
        Ok(store) => store,
        Err(error) => panic!("{:#}", anyhow::Error::from(error)),
    }
}

async fn refused(config: &PostgresConfig) -> String {
    match PostgresMeta::open(config, &Limits::default()).await {
        Ok(_) => panic!("it was opened"),
        Err(error) => format!("{:#}", anyhow::Error::from(error)),
    }
}

fn key(sort: &str) -> Key {
    Key {
        space: Space::Links,
        partition: "postgres".to_owned(),
        sort: sort.to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_keeps_the_contract() {
    let server = Server::start(&[]).await;
    let store = Arc::new(opened(&server.config()).await);
    contract::run_meta(store.clone()).await;
    contract::run_walks(store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_holds_behind_pgbouncer_that_pools_transactions() {
    let server = Server::start(&[]).await;
    let (_pgbouncer, config) = server.pooled().await;
    contract::run_meta(Arc::new(opened(&config).await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_is_the_same_over_a_database() {
    let server = Server::start(&[]).await;
    let stores = Stores {
        meta: Arc::new(opened(&server.config()).await),
        blobs: Arc::new(MemoryBlobs::new()),
    };
    api::over(Plan::over(stores)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_members_that_start_at_once_make_the_schema_and_share_it() {
    let server = Server::start(&[]).await;
    let config = server.config();
    let members = join_all((0..10).map(|_| opened(&config))).await;
    let put = key("first").put(Expect::Absent, "1");
    let version = Version::random();
    assert_eq!(
        members[0].transact(version, &[put]).await.unwrap(),
        Outcome::Committed
    );
    for member in &members {
        assert_eq!(member.get(&key("first")).await.unwrap().unwrap().version, version);
    }
    // What a newer release made is left alone.
    server
        .sql("UPDATE portolan.version SET number = 7, oldest = 7")
        .await;
    let error = PostgresMeta::open(&config, &Limits::default()).await.err();
    assert!(
        matches!(error, Some(DatabaseError::Newer { number: 7, .. })),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_may_lose_what_it_acknowledged_is_refused_by_name() {
    for (setting, word) in [
        ("fsync=off", "fsync is off"),
        ("synchronous_commit=off", "synchronous_commit is off"),
        (
            "default_transaction_isolation=serializable",
            "default_transaction_isolation is serializable",
        ),
    ] {
        let server = Server::start(&[setting]).await;
        let said = refused(&server.config()).await;
        assert!(said.contains(word) && said.contains("set it to"), "{said}");
    }
    let mut config = Server::start(&[]).await.config();
    config.servers = "postgres://postgres@127.0.0.1:1/postgres?sslmode=disable"
        .parse()
        .unwrap();
    let said = refused(&config).await;
    assert!(said.contains("can't be asked"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_is_reached_by_tls_and_a_password_and_known_by_its_name() {
    let server = Server::start(&[]).await;
    let config = server.guarded("127.0.0.1").await;
    let store = Arc::new(opened(&config).await);
    contract::run_meta(store.clone()).await;
    let encrypted =
        "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'portolan'";
    assert_eq!(server.sql(encrypted).await.trim(), "t");
    drop(store);

    let mut wrong = config.clone();
    wrong.servers.password("another");
    let said = refused(&wrong).await;
    assert!(said.contains("password authentication failed"), "{said}");
    let mut plain = config.clone();
    plain.servers.ssl_mode(SslMode::Disable);
    let said = refused(&plain).await;
    assert!(said.contains("pg_hba.conf"), "{said}");
    let machine = PostgresConfig {
        authority: None,
        ..config
    };
    let said = refused(&machine).await;
    assert!(said.contains("UnknownIssuer"), "{said}");

    let server = Server::start(&[]).await;
    let said = refused(&server.guarded("db.example.org").await).await;
    assert!(said.contains("not valid for name"), "{said}");
}

/// Adds its id to the rows `sorts`, one transaction for both: how it ended, as rule R4 settles it. `None` is not known.
async fn add(store: &PostgresMeta, sorts: [&str; 2]) -> Option<(bool, [u8; 16])> {
    let version = Version::random();
    let id = version.to_bytes();
    let keys = sorts.map(key);
    let Ok(rows) = store.snapshot(&keys).await else {
        return Some((false, id));
    };
    let put = |n: usize| {
        let row: Option<&Row> = rows[n].as_ref();
        let bytes = [
            row.map(|row| row.bytes.clone()).unwrap_or_default().as_ref(),
            &id[..],
        ]
        .concat();
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
fn work(store: &Arc<PostgresMeta>, told: &watch::Receiver<bool>) -> JoinSet<Vec<(bool, [u8; 16])>> {
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
async fn check(store: &PostgresMeta, settled: &[(bool, [u8; 16])]) {
    let mut keys: Vec<Key> = (0..6).map(|client| key(&format!("own-{client}"))).collect();
    keys.push(key("shared"));
    let rows = store.get_many(&keys).await.unwrap();
    let ids = |rows: &[Option<Row>]| -> Vec<[u8; 16]> {
        rows.iter()
            .flatten()
            .flat_map(|row| row.bytes.as_chunks::<16>().0.to_vec())
            .collect()
    };
    let (own, shared) = (ids(&rows[..6]), ids(&rows[6..]));
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_there_after_the_server_was_killed_under_load() {
    let mut server = Server::start(&[]).await;
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
}

/// How the one that is the primary is reached.
fn either(one: &Server, other: &Server) -> PostgresConfig {
    let servers = format!(
        "host=127.0.0.1,127.0.0.1 port={},{} user=postgres dbname=postgres sslmode=disable",
        one.port(),
        other.port()
    );
    PostgresConfig {
        servers: servers.parse().unwrap(),
        ..one.config()
    }
}

/// The primary is cut off from its standby, which is promoted; whoever still talks to the former is told nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_former_primary_answers_no_reads_and_nothing_is_lost_with_it() {
    let primary = Server::start(&["synchronous_standby_names=*"]).await;
    let standby = primary.standby().await;
    let both = either(&primary, &standby);
    let said = refused(&standby.config()).await;
    assert!(said.contains("database does not allow writes"), "{said}");
    let store = Arc::new(opened(&both).await);
    let put = |value: &'static str| [key("tag").put(Expect::Any, value)];
    let before = Version::random();
    assert_eq!(
        store.transact(before, &put("1")).await.unwrap(),
        Outcome::Committed
    );
    let (tell, told) = watch::channel(false);
    let clients = work(&store, &told);
    tokio::time::sleep(Duration::from_millis(700)).await;
    tell.send(true).unwrap();
    let settled = clients.join_all().await.concat();

    standby.promote().await;
    let promoted = Arc::new(opened(&standby.config()).await);
    let after = Version::random();
    assert_eq!(
        promoted.transact(after, &put("2")).await.unwrap(),
        Outcome::Committed
    );
    assert_eq!(promoted.get(&key("tag")).await.unwrap().unwrap().version, after);
    // It has the old row, and would give it out.
    assert!(
        primary
            .sql("SELECT count(*) FROM portolan.rows WHERE value = '1'")
            .await
            .contains('1')
    );
    let told = store.get(&key("tag")).await;
    assert!(told.is_err(), "{told:?}");
    let changed = store
        .transact(Version::random(), &[key("tag").put(Expect::Version(before), "3")])
        .await;
    assert!(!matches!(changed, Ok(Outcome::Committed)), "{changed:?}");
    // Once it is gone, the other one is found.
    drop(primary);
    eventually("the promoted server answers", || async {
        store
            .get(&key("tag"))
            .await
            .is_ok_and(|row| row.is_some_and(|row| row.version == after))
    })
    .await;
    check(&store, &settled).await;
}

/// Connections to the former primary are left, and new ones are to the promoted standby: that confirms only what it was asked itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_former_primary_answers_isnt_confirmed_by_the_promoted_one() {
    let primary = Server::start(&["synchronous_standby_names=*"]).await;
    let standby = primary.standby().await;
    let store = opened(&either(&primary, &standby)).await;
    let put = |value: &'static str| [key("tag").put(Expect::Any, value)];
    let before = Version::random();
    let committed = store.transact(before, &put("1")).await.unwrap();
    assert_eq!(committed, Outcome::Committed);
    let tag = key("tag");
    let gets = || join_all((0..8).map(|_| store.get(&tag)));
    for told in gets().await {
        assert_eq!(told.unwrap().unwrap().version, before);
    }
    standby.promote().await;
    primary.shut_out().await;
    let promoted = opened(&standby.config()).await;
    let after = Version::random();
    let committed = promoted.transact(after, &put("2")).await.unwrap();
    assert_eq!(committed, Outcome::Committed);
    let mut told = Vec::new();
    for answer in gets().await {
        // Who asks the former one to confirm it waits in vain.
        told.extend(answer.ok().map(|row| row.unwrap().version));
    }
    assert!(
        !told.is_empty() && told.iter().all(|version| *version == after),
        "{told:?}, not {before:?}"
    );
}
