//! The contract of [`MetaStore`] for many callers at a time, with and without faults.
#![allow(missing_docs, reason = "the names say what is promised")]

use std::sync::Arc;

use futures_util::future::join_all;

use super::names::{fresh, key};
use crate::storage::{
    Expect, Key, MetaStore, Outcome, Row, Space, StoreErrorKind, Version,
    dice::Dice,
    faulty::{FaultPlan, FaultRates, FaultyMeta},
};

type Store = Arc<dyn MetaStore>;

const TASKS: u64 = 8;

/// Runs `TASKS` tasks, and whatever panics in one.
async fn at_once<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    task: impl Fn(u64) -> F,
) -> Vec<T> {
    let tracker = tokio_util::task::TaskTracker::new();
    let tasks: Vec<_> = (0..TASKS).map(|n| tracker.spawn(task(n))).collect();
    join_all(tasks).await.into_iter().map(Result::unwrap).collect()
}

pub async fn a_read_after_an_acknowledged_transaction_sees_it(store: &Store) {
    let partition = fresh("strong");
    at_once(|n| {
        let store = store.clone();
        let key = key(Space::Repositories, &partition, &format!("k{n}"));
        async move {
            for round in 0..25 {
                let version = Version::random();
                let op = key.clone().put(Expect::Any, round.to_string());
                assert_eq!(store.transact(version, &[op]).await.unwrap(), Outcome::Committed);
                let row = match round % 3 {
                    0 => store.get(&key).await.unwrap(),
                    1 => store
                        .get_many(std::slice::from_ref(&key))
                        .await
                        .unwrap()
                        .remove(0),
                    _ => {
                        let page = store.range(key.space, &key.partition, &key.sort, None, 1).await;
                        page.unwrap().entries.pop().map(|entry| entry.row)
                    }
                };
                assert_eq!(row.unwrap().version, version, "round {round} of task {n}");
            }
        }
    })
    .await;
}

/// The ids in `row`, each 16 bytes.
fn ids(row: Option<&Row>) -> Vec<[u8; 16]> {
    let bytes = row.map(|row| row.bytes.clone()).unwrap_or_default();
    let (ids, rest) = bytes.as_chunks::<16>();
    assert!(rest.is_empty());
    ids.to_vec()
}

pub async fn concurrent_increments_lose_nothing(store: &Store) {
    let key = key(Space::Links, &fresh("increments"), ".");
    let added = at_once(|_| {
        let (store, key) = (store.clone(), key.clone());
        async move {
            let mut added = Vec::new();
            while added.len() < 10 {
                if let Added::Yes(id) = add(&store, &key, Patience::None).await {
                    added.push(id);
                }
            }
            added
        }
    })
    .await;
    let mut added: Vec<_> = added.into_iter().flatten().collect();
    let mut found = ids(store.get(&key).await.unwrap().as_ref());
    added.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, added);
}

/// How adding an id ended.
#[derive(Debug)]
enum Added {
    Yes([u8; 16]),
    No([u8; 16]),
    Perhaps([u8; 16]),
}

/// Whether errors and unknown outcomes are to be expected.
#[derive(Clone, Copy, PartialEq)]
enum Patience {
    None,
    WithFaults,
}

/// Adds a new id to the row by a conditional put, resolving an unknown outcome as an owner does (rule R4): one strong
/// read; its own version means committed, the expected one means the same transaction again, any other leaves it open.
async fn add(store: &Store, key: &Key, patience: Patience) -> Added {
    let version = Version::random();
    let id = version.to_bytes();
    let read = loop {
        match store.get(key).await {
            Ok(row) => break row,
            Err(error) => assert!(patience == Patience::WithFaults, "{error}"),
        }
    };
    let expect = Expect::unchanged(read.as_ref());
    let mut bytes = ids(read.as_ref());
    bytes.push(id);
    let op = [key.clone().put(expect, bytes.concat())];
    // An error says that this attempt had no effect, but not what became of one before it.
    let mut doubt = false;
    loop {
        match store.transact(version, &op).await {
            Ok(Outcome::Committed) => return Added::Yes(id),
            Ok(Outcome::Refused { index, current }) => {
                assert_eq!(index, 0);
                if current.as_ref().is_some_and(|row| row.version == version) {
                    return Added::Yes(id);
                }
                return if doubt { Added::Perhaps(id) } else { Added::No(id) };
            }
            Ok(Outcome::Unknown) => {
                assert!(patience == Patience::WithFaults);
                doubt = true;
                match store.get(key).await {
                    Ok(row) if row.as_ref().is_some_and(|row| row.version == version) => {
                        return Added::Yes(id);
                    }
                    Ok(row) if Expect::unchanged(row.as_ref()) == expect => {}
                    Ok(_) | Err(_) => return Added::Perhaps(id),
                }
            }
            Err(error) => {
                let contended = error.kind() == StoreErrorKind::Contended;
                assert!(contended || patience == Patience::WithFaults, "{error}");
                return if doubt { Added::Perhaps(id) } else { Added::No(id) };
            }
        }
    }
}

pub async fn increments_survive_injected_faults(store: &Store, seed: u64) {
    let key = key(Space::Uploads, &fresh("faults"), ".");
    let plan = FaultPlan::new(seed, FaultRates::each(0.08));
    let faulty = Arc::new(FaultyMeta::new(store.clone(), plan.clone()));
    let results = at_once(|_| {
        let (store, key): (Store, Key) = (faulty.clone(), key.clone());
        async move {
            let mut results = Vec::new();
            for _ in 0..12 {
                results.push(add(&store, &key, Patience::WithFaults).await);
            }
            results
        }
    })
    .await;
    faulty.settle().await;
    let found = ids(store.get(&key).await.unwrap().as_ref());
    let times = |id: &[u8; 16]| found.iter().filter(|found| *found == id).count();
    for added in results.iter().flatten() {
        match added {
            Added::Yes(id) => assert_eq!(
                times(id),
                1,
                "seed {seed}: an acknowledged change is lost or doubled"
            ),
            Added::No(id) => assert_eq!(times(id), 0, "seed {seed}: a refused change was applied"),
            Added::Perhaps(id) => assert!(times(id) <= 1, "seed {seed}: a change was applied twice"),
        }
    }
    let counts = plan.counts();
    let unknown = counts.unknown_applied + counts.unknown_dropped + counts.unknown_late;
    assert!(unknown > 0 && counts.calls > 100, "{counts:?}");
}

pub async fn concurrent_transfers_keep_the_sum(store: &Store) {
    const ACCOUNTS: u64 = 5;
    let partition = fresh("transfers");
    let keys: Vec<Key> = (0..ACCOUNTS)
        .map(|n| key(Space::ALL[usize::try_from(n).unwrap()], &partition, "sum"))
        .collect();
    let ops: Vec<_> = keys
        .iter()
        .map(|key| key.clone().put(Expect::Absent, "100"))
        .collect();
    assert_eq!(
        store.transact(Version::random(), &ops).await.unwrap(),
        Outcome::Committed
    );
    let amount = |row: &Option<Row>| -> i64 {
        let bytes = row.as_ref().unwrap().bytes.to_vec();
        String::from_utf8(bytes).unwrap().parse().unwrap()
    };
    at_once(|n| {
        let (store, keys) = (store.clone(), keys.clone());
        async move {
            let mut dice = Dice::new(n);
            for _ in 0..15 {
                let from = dice.index(keys.len());
                let to = (from + 1 + dice.index(keys.len() - 1)) % keys.len();
                let pair = [keys[from].clone(), keys[to].clone()];
                let rows = store.get_many(&pair).await.unwrap();
                let put = |n: usize, more: i64| {
                    let sum = (amount(&rows[n]) + more).to_string();
                    pair[n].clone().put(Expect::unchanged(rows[n].as_ref()), sum)
                };
                // Refused as often as not: then nothing moved.
                if let Err(error) = store.transact(Version::random(), &[put(0, -7), put(1, 7)]).await {
                    assert_eq!(error.kind(), StoreErrorKind::Contended);
                }
                match store.snapshot(&keys).await {
                    Ok(rows) => assert_eq!(rows.iter().map(amount).sum::<i64>(), 500, "half a transfer"),
                    Err(error) => assert_eq!(error.kind(), StoreErrorKind::Contended),
                }
            }
        }
    })
    .await;
    let rows = store.get_many(&keys).await.unwrap();
    assert_eq!(rows.iter().map(amount).sum::<i64>(), 500);
}
