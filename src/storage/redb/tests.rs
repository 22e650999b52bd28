use std::ops::Bound;

use ::redb::{BackendError, StorageBackend, backends::FileBackend};

use super::*;
use crate::storage::{Expect, contract};

fn key(sort: &str) -> Key {
    Key {
        space: Space::Repositories,
        partition: "p".to_owned(),
        sort: sort.to_owned(),
    }
}

async fn put(store: &RedbMeta, sort: &str, bytes: &str) -> Result<Outcome, StoreError> {
    let op = key(sort).put(Expect::Any, bytes.to_owned());
    store.transact(Version::random(), &[op]).await
}

async fn bytes(store: &RedbMeta, sort: &str) -> Option<Bytes> {
    store.get(&key(sort)).await.unwrap().map(|row| row.bytes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let store = RedbMeta::open(dir.path().join("meta.redb")).await.unwrap();
    let store = Arc::new(store);
    contract::run_meta(store.clone()).await;
    contract::run_walks(store).await;
}

#[tokio::test]
async fn rows_survive_a_drop_and_a_close() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meta.redb");
    let store = RedbMeta::open(&path).await.unwrap();
    put(&store, "a", "1").await.unwrap();
    drop(store);
    let store = RedbMeta::open(&path).await.unwrap();
    assert_eq!(bytes(&store, "a").await.unwrap(), "1");
    put(&store, "a", "2").await.unwrap();
    store.close().await;
    assert_eq!(
        put(&store, "a", "3").await.unwrap_err().kind(),
        StoreErrorKind::Unavailable
    );
    assert_eq!(
        store.get(&key("a")).await.unwrap_err().kind(),
        StoreErrorKind::Unavailable
    );
    store.close().await;
    let again = RedbMeta::open(&path).await.unwrap();
    assert_eq!(bytes(&again, "a").await.unwrap(), "2");
}

#[tokio::test]
async fn rows_survive_without_a_close() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meta.redb");
    let store = RedbMeta::open(&path).await.unwrap();
    for n in 0..50 {
        put(&store, &format!("k{n}"), "x").await.unwrap();
        if n % 10 == 0 {
            // What kill -9 would leave: the file as it is now.
            let copy = dir.path().join(format!("copy-{n}"));
            std::fs::copy(&path, &copy).unwrap();
            let copy = RedbMeta::open(&copy).await.unwrap();
            let page = copy
                .range(Space::Repositories, "p", "k", None, 100)
                .await
                .unwrap();
            assert_eq!(page.entries.len(), n + 1);
            put(&copy, "more", "x").await.unwrap();
        }
    }
}

#[tokio::test]
async fn the_file_is_made_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meta.redb");
    // What a start that was killed while it made the file leaves.
    std::fs::write(dir.path().join("meta.redb.0123.new"), [0; 4_096]).unwrap();
    drop(RedbMeta::open(&path).await.unwrap());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    let missing = RedbMeta::open(dir.path().join("missing/meta.redb")).await;
    assert!(missing.is_err_and(|error| error.kind() != StoreErrorKind::Corrupt));
}

#[tokio::test]
async fn a_second_opening_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meta.redb");
    let _store = RedbMeta::open(&path).await.unwrap();
    assert!(RedbMeta::open(&path).await.is_err());
}

#[tokio::test]
async fn what_waits_together_is_one_commit() {
    let (disk, _dir) = Disk::new();
    let store = disk.open();
    let syncs = disk.syncs();
    let puts: Vec<String> = (0..200).map(|n| format!("k{n}")).collect();
    let outcomes = futures_util::future::join_all(puts.iter().map(|sort| put(&store, sort, "x"))).await;
    assert!(
        outcomes
            .into_iter()
            .all(|outcome| outcome.unwrap() == Outcome::Committed)
    );
    let syncs = disk.syncs() - syncs;
    assert!((1..=20).contains(&syncs), "{syncs} fsyncs for 200 transactions");
}

#[tokio::test]
async fn a_transaction_that_changes_nothing_costs_no_fsync() {
    let (disk, _dir) = Disk::new();
    let store = disk.open();
    put(&store, "a", "1").await.unwrap();
    let syncs = disk.syncs();
    let check = [key("a").check(Expect::Absent)];
    let outcome = store.transact(Version::random(), &check).await.unwrap();
    assert!(matches!(
        outcome,
        Outcome::Refused {
            index: 0,
            current: Some(_)
        }
    ));
    let check = [key("b").check(Expect::Absent)];
    assert_eq!(
        store.transact(Version::random(), &check).await.unwrap(),
        Outcome::Committed
    );
    assert_eq!(disk.syncs(), syncs);
}

/// How a disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failing {
    Nothing,
    /// Writes find no space. It can be opened anew, which writes where there is space already.
    Growth,
    /// Nothing can be written.
    Writes,
    /// Reads and writes fail.
    All,
    /// What was written doesn't reach the disk, once.
    NextSync,
}

/// A file whose disk can fail.
#[derive(Clone)]
struct Disk {
    path: PathBuf,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    failing: Mutex<Failing>,
    syncs: AtomicU64,
    opened: AtomicU64,
}

#[derive(Debug)]
struct Backend {
    file: FileBackend,
    shared: Arc<Shared>,
}

impl Disk {
    fn new() -> (Self, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let shared = Arc::new(Shared {
            failing: Mutex::new(Failing::Nothing),
            syncs: AtomicU64::new(0),
            opened: AtomicU64::new(0),
        });
        let path = dir.path().join("meta.redb");
        (Self { path, shared }, dir)
    }

    fn open(&self) -> RedbMeta {
        let (path, shared) = (self.path.clone(), self.shared.clone());
        RedbMeta::start(Box::new(move || {
            shared.opened.fetch_add(1, Ordering::SeqCst);
            let options = std::fs::File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)?;
            let backend = Backend {
                file: FileBackend::new(options)?,
                shared: shared.clone(),
            };
            // Without a cache, reads reach the disk.
            ::redb::Builder::new()
                .set_cache_size(0)
                .create_with_backend(backend)
        }))
        .unwrap()
    }

    fn fail(&self, failing: Failing) {
        *self.shared.failing.lock() = failing;
    }

    fn syncs(&self) -> u64 {
        self.shared.syncs.load(Ordering::SeqCst)
    }

    fn opened(&self) -> u64 {
        self.shared.opened.load(Ordering::SeqCst)
    }
}

impl Backend {
    fn check(&self, failing: &[Failing], kind: io::ErrorKind) -> io::Result<()> {
        if failing.contains(&*self.shared.failing.lock()) {
            return Err(kind.into());
        }
        Ok(())
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.check(&[Failing::All], io::ErrorKind::Other)?;
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check(&[Failing::All], io::ErrorKind::Other)?;
        if len > self.file.len()? {
            self.check(&[Failing::Growth], io::ErrorKind::StorageFull)?;
        }
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.check(&[Failing::All], io::ErrorKind::Other)?;
        self.shared.syncs.fetch_add(1, Ordering::SeqCst);
        let failing = &mut *self.shared.failing.lock();
        if *failing == Failing::NextSync {
            *failing = Failing::Nothing;
            return Err(io::ErrorKind::Other.into());
        }
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check(&[Failing::All, Failing::Writes], io::ErrorKind::Other)?;
        if offset > 0 {
            // Every page but the header is a new one.
            self.check(&[Failing::Growth], io::ErrorKind::StorageFull)?;
        }
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_serves_again_when_there_is_space() {
    let (disk, _dir) = Disk::new();
    let store = disk.open();
    put(&store, "a", "1").await.unwrap();
    for round in 0..3 {
        disk.fail(Failing::Growth);
        for _ in 0..3 {
            let error = put(&store, "a", "lost").await.unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Full, "{error:?}");
            assert_eq!(bytes(&store, "a").await.unwrap(), "1");
        }
        disk.fail(Failing::Nothing);
        assert_eq!(
            put(&store, "b", &round.to_string()).await.unwrap(),
            Outcome::Committed
        );
        assert_eq!(bytes(&store, "a").await.unwrap(), "1");
        assert_eq!(bytes(&store, "b").await.unwrap(), round.to_string());
    }
    drop(store);
    assert_eq!(bytes(&disk.open(), "a").await.unwrap(), "1");
}

#[tokio::test]
async fn a_broken_disk_refuses_everything_and_recovers() {
    let (disk, _dir) = Disk::new();
    let store = disk.open();
    put(&store, "a", "1").await.unwrap();
    for failing in [Failing::Writes, Failing::All] {
        disk.fail(failing);
        for _ in 0..3 {
            match put(&store, "a", "lost").await {
                Err(error) => assert_eq!(error.kind(), StoreErrorKind::Unavailable),
                // The file can't be read to find out.
                Ok(outcome) => assert_eq!(outcome, Outcome::Unknown),
            }
        }
        assert_eq!(
            store.get(&key("a")).await.unwrap_err().kind(),
            StoreErrorKind::Unavailable
        );
        disk.fail(Failing::Nothing);
        // By a read as well as by a write.
        assert_eq!(bytes(&store, "a").await.unwrap(), "1", "{failing:?}");
        assert_eq!(put(&store, "b", "2").await.unwrap(), Outcome::Committed);
    }
}

#[tokio::test]
async fn a_read_that_breaks_the_handle_is_repaired() {
    let (disk, _dir) = Disk::new();
    let store = disk.open();
    put(&store, "a", "1").await.unwrap();
    let opened = disk.opened();
    disk.fail(Failing::All);
    assert!(store.get(&key("a")).await.is_err());
    disk.fail(Failing::Nothing);
    assert_eq!(bytes(&store, "a").await.unwrap(), "1");
    assert!(disk.opened() > opened);
    assert_eq!(put(&store, "a", "2").await.unwrap(), Outcome::Committed);
}

#[tokio::test]
async fn a_commit_whose_sync_fails_is_never_acknowledged_nor_denied_wrongly() {
    let (disk, _dir) = Disk::new();
    let store = disk.open();
    put(&store, "a", "0").await.unwrap();
    let mut unknown = 0;
    for n in 1..=10 {
        let before = bytes(&store, "a").await.unwrap();
        disk.fail(Failing::NextSync);
        let outcome = put(&store, "a", &n.to_string()).await;
        let after = bytes(&store, "a").await.unwrap();
        match outcome {
            Ok(Outcome::Unknown) => unknown += 1,
            Err(_) => assert_eq!(after, before, "an error means that nothing happened"),
            other => panic!("{other:?}"),
        }
        assert!(after == before || after == n.to_string());
        disk.fail(Failing::Nothing);
    }
    assert!(unknown > 0);
    put(&store, "a", "end").await.unwrap();
    drop(store);
    assert_eq!(bytes(&disk.open(), "a").await.unwrap(), "end");
}
