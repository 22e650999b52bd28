//! Rows in one file on the local disk (redb), for `dev` and for a single embedded member.
//!
//! All writes go through one thread: what is queued while a commit is on its way to the disk becomes the next commit,
//! so that many transactions share one fsync. Each is evaluated in order and keeps its own all-or-nothing. Nothing is
//! answered before the commit is durable, refusals included, because they may show a row of the same commit.
//!
//! Reads are snapshots begun after the request. `get` runs on the caller's thread: it touches a few pages that the
//! kernel has in memory, which takes microseconds, less than a trip to the blocking pool. `get_many` and `range` touch
//! many and go to the blocking pool.
//!
//! An error of the disk leaves redb refusing everything until the file is opened anew, so the writer does that: after a
//! failed commit it finds out by a marker, which every commit replaces, whether the commit happened.
//!
//! Absent on purpose: sharing the file between processes (redb locks it), and redb's two-phase commit and quick repair:
//! a commit costs one fsync, and opening after a crash reads the whole file once.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use ::redb::{
    Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, TableDefinition, TableHandle,
};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Semaphore, mpsc, oneshot};

pub(super) use self::driver::RedbFile;
use super::{
    Entry, Key, MetaStore, Op, Outcome, Page, Row, Space, StoreError, StoreErrorKind, Version, bounds,
    error::io_kind,
};

mod driver;
mod walk;
mod writer;

#[cfg(test)]
mod tests;

/// Memory that redb may use for pages. Small: the kernel caches the file as well.
const CACHE: usize = 8 << 20;
/// Most transactions that wait for the writer.
const QUEUE: usize = 1_024;
/// Most bytes of the rows of the transactions that wait for the writer or are being written.
const QUEUE_BYTES: usize = 16 << 20;
/// Most reads of many rows at a time.
const SCANS: usize = 32;

/// One table for each space. The tuple compares element by element and strings by bytes: partitions are contiguous
/// and sort keys in byte order. The value is the version's 16 bytes and the row's.
type Table = TableDefinition<'static, (&'static str, &'static str), &'static [u8]>;

fn table(space: Space) -> Table {
    TableDefinition::new(space.as_str())
}

/// The id of the last commit, which tells after a failure whether it happened.
const MARKER: TableDefinition<'static, (), [u8; 16]> = TableDefinition::new("_commit");

type Opener = Box<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>;

/// Rows in a redb file. Closed when dropped: that waits for the last commit.
pub struct RedbMeta {
    file: Arc<File>,
    /// Always there until the drop, which must close the queue before it waits for the thread.
    queue: Option<mpsc::Sender<Job>>,
    queue_bytes: Arc<Semaphore>,
    scans: Arc<Semaphore>,
    writer: Mutex<Option<thread::JoinHandle<()>>>,
}

/// The database, shared by readers and the writer. Only reopening and closing lock it for writing.
struct File {
    open: Opener,
    state: RwLock<State>,
    /// Counts how often the file was opened anew.
    generation: AtomicU64,
}

enum State {
    Open(Database),
    /// The disk failed and the file couldn't be opened anew yet.
    Broken,
    Closed,
}

enum Job {
    Transact(Transaction),
    /// Open the file anew, unless that was done since the generation that `failed`.
    Recover {
        failed: u64,
        answer: oneshot::Sender<Result<(), StoreError>>,
    },
    Close(oneshot::Sender<()>),
}

struct Transaction {
    version: Version,
    ops: Vec<Op>,
    answer: oneshot::Sender<Result<Outcome, StoreError>>,
    /// Its share of [`QUEUE_BYTES`].
    _bytes: tokio::sync::OwnedSemaphorePermit,
}

impl RedbMeta {
    /// Opens the file at `path`, or makes it. Fails if another process holds it.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let path = path.into();
        tokio::task::spawn_blocking(move || {
            if !path.exists() {
                create(&path)?;
            }
            // Always: the start that made the file may have died before it came here.
            sync_parent(&path).map_err(|error| StoreError::io("open", error))?;
            Self::start(Box::new(move || builder().open(&path)))
        })
        .await
        .map_err(|error| StoreError::with_source(StoreErrorKind::Unavailable, "open", error))?
    }

    fn start(open: Opener) -> Result<Self, StoreError> {
        let database = open().map_err(|error| failure("open", error))?;
        create_tables(&database).map_err(|error| failure("open", error))?;
        let file = Arc::new(File {
            open,
            state: RwLock::new(State::Open(database)),
            generation: AtomicU64::new(0),
        });
        let (queue, jobs) = mpsc::channel(QUEUE);
        let writer = thread::Builder::new()
            .name("portolan-redb".to_owned())
            .spawn({
                let file = file.clone();
                move || writer::run(&file, jobs)
            })
            .map_err(|error| StoreError::io("open", error))?;
        Ok(Self {
            file,
            queue: Some(queue),
            queue_bytes: Arc::new(Semaphore::new(QUEUE_BYTES)),
            scans: Arc::new(Semaphore::new(SCANS)),
            writer: Mutex::new(Some(writer)),
        })
    }

    /// Writes what is queued and closes the file; every later call fails.
    pub async fn close(&self) {
        let (answer, closed) = oneshot::channel();
        if self.send(Job::Close(answer)).await.is_ok() {
            // An error means that the writer ended otherwise: as good.
            let _ = closed.await;
        }
    }

    async fn send(&self, job: Job) -> Result<(), StoreError> {
        let closed = || StoreError::new(StoreErrorKind::Unavailable, "transact");
        let queue = self.queue.as_ref().ok_or_else(closed)?;
        queue.send(job).await.map_err(|_| closed())
    }

    /// Runs `read`, on this thread if `here` allows it and the file isn't being opened anew.
    async fn read<T: Send + 'static>(
        &self,
        here: Where,
        operation: &'static str,
        read: impl Fn(&Database) -> Result<T, ReadError> + Send + Sync + 'static,
    ) -> Result<T, StoreError> {
        let read = Arc::new(read);
        let generation = self.file.generation();
        match self.read_once(here, operation, read.clone()).await? {
            Err(ReadError::Database(error)) if needs_reopening(&error) => {}
            Err(ReadError::Broken) => {}
            Err(error) => return Err(error.into_store_error(operation)),
            Ok(value) => return Ok(value),
        }
        self.recover(generation).await?;
        self.read_once(here, operation, read)
            .await?
            .map_err(|error| error.into_store_error(operation))
    }

    async fn read_once<T: Send + 'static>(
        &self,
        here: Where,
        operation: &'static str,
        read: Arc<impl Fn(&Database) -> Result<T, ReadError> + Send + Sync + 'static>,
    ) -> Result<Result<T, ReadError>, StoreError> {
        let result = match here {
            Where::Here => self.file.try_read(&*read),
            Where::BlockingPool => None,
        };
        match result {
            Some(result) => Ok(result),
            None => self.read_blocking(operation, read).await,
        }
    }

    async fn read_blocking<T: Send + 'static>(
        &self,
        operation: &'static str,
        read: Arc<impl Fn(&Database) -> Result<T, ReadError> + Send + Sync + 'static>,
    ) -> Result<Result<T, ReadError>, StoreError> {
        let unavailable = |error| StoreError::with_source(StoreErrorKind::Unavailable, operation, error);
        let permit = self.scans.clone().acquire_owned().await;
        let permit = permit.map_err(|_| StoreError::new(StoreErrorKind::Unavailable, operation))?;
        let file = self.file.clone();
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            file.read(&*read)
        })
        .await
        .map_err(unavailable)
    }

    async fn recover(&self, failed: u64) -> Result<(), StoreError> {
        let (answer, recovered) = oneshot::channel();
        self.send(Job::Recover { failed, answer }).await?;
        recovered
            .await
            .map_err(|_| StoreError::new(StoreErrorKind::Unavailable, "recover"))?
    }
}

impl Drop for RedbMeta {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.lock().take() {
            // A panic of the writer has been reported by the panic hook; here is nobody to tell.
            let _ = writer.join();
        }
    }
}

/// Where a read runs.
#[derive(Clone, Copy)]
enum Where {
    Here,
    BlockingPool,
}

/// Why a read failed.
enum ReadError {
    Database(::redb::Error),
    Broken,
    Closed,
    Corrupt,
}

impl<E: Into<::redb::Error>> From<E> for ReadError {
    fn from(error: E) -> Self {
        Self::Database(error.into())
    }
}

impl ReadError {
    fn into_store_error(self, operation: &'static str) -> StoreError {
        match self {
            Self::Database(error) => failure(operation, error),
            Self::Broken => StoreError::new(StoreErrorKind::Unavailable, operation),
            Self::Closed => StoreError::with_source(StoreErrorKind::Unavailable, operation, "closed"),
            Self::Corrupt => StoreError::new(StoreErrorKind::Corrupt, operation),
        }
    }
}

impl File {
    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn next_generation(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Runs `read`, or nothing if the file is being opened anew.
    fn try_read<T>(&self, read: &dyn Fn(&Database) -> Result<T, ReadError>) -> Option<Result<T, ReadError>> {
        self.state.try_read().map(|state| state.read(read))
    }

    fn read<T>(&self, read: &dyn Fn(&Database) -> Result<T, ReadError>) -> Result<T, ReadError> {
        self.state.read().read(read)
    }
}

impl State {
    fn read<T>(&self, read: &dyn Fn(&Database) -> Result<T, ReadError>) -> Result<T, ReadError> {
        match self {
            Self::Open(database) => read(database),
            Self::Broken => Err(ReadError::Broken),
            Self::Closed => Err(ReadError::Closed),
        }
    }
}

/// The error that redb gives from the moment the disk failed until the file is opened anew. A failure of the disk
/// itself comes first, once.
fn needs_reopening(error: &::redb::Error) -> bool {
    matches!(error, ::redb::Error::Io(_) | ::redb::Error::PreviousIo)
}

fn kind(error: &::redb::Error) -> StoreErrorKind {
    match error {
        ::redb::Error::Io(error) => match io_kind(error) {
            StoreErrorKind::NotFound => StoreErrorKind::Unavailable,
            kind => kind,
        },
        ::redb::Error::Corrupted(_) | ::redb::Error::UpgradeRequired(_) => StoreErrorKind::Corrupt,
        // The rest is mistakes of ours or states that pass; the enum may grow.
        _ => StoreErrorKind::Unavailable,
    }
}

fn failure(operation: &'static str, error: impl Into<::redb::Error>) -> StoreError {
    let error = error.into();
    StoreError::with_source(kind(&error), operation, error)
}

fn builder() -> ::redb::Builder {
    let mut builder = ::redb::Builder::new();
    builder.set_cache_size(CACHE);
    builder
}

/// Makes the file, whole or not at all: redb refuses for ever what was left of one half-made.
fn create(path: &Path) -> Result<(), StoreError> {
    let mut temporary = path.to_owned().into_os_string();
    temporary.push(format!(".{}.new", bounds::random_name()));
    let made = builder()
        .create(&temporary)
        .map_err(|error| failure("open", error))
        .and_then(|database| create_tables(&database).map_err(|error| failure("open", error)))
        .and_then(|()| {
            // A link never replaces the file that another process has made meanwhile.
            match std::fs::hard_link(&temporary, path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                Err(_) => std::fs::rename(&temporary, path),
                Ok(()) => Ok(()),
            }
            .map_err(|error| StoreError::io("open", error))
        });
    // Gone already after a rename.
    let _ = std::fs::remove_file(&temporary);
    made
}

fn create_tables(database: &Database) -> Result<(), ::redb::Error> {
    let read = database.begin_read()?;
    let existing: Vec<String> = read.list_tables()?.map(|table| table.name().to_owned()).collect();
    let missing = |name: &str| !existing.iter().any(|table| table == name);
    if missing(MARKER.name()) || Space::ALL.iter().any(|space| missing(space.as_str())) {
        let mut write = database.begin_write()?;
        write.set_durability(Durability::Immediate)?;
        for space in Space::ALL {
            write.open_table(table(space))?;
        }
        write.open_table(MARKER)?;
        write.commit()?;
    }
    Ok(())
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    std::fs::File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

fn decode(value: &[u8]) -> Option<Row> {
    let (version, bytes) = value.split_first_chunk()?;
    Some(Row {
        bytes: Bytes::copy_from_slice(bytes),
        version: Version::from_bytes(*version),
    })
}

fn encode(version: Version, bytes: &[u8]) -> Vec<u8> {
    [&version.to_bytes(), bytes].concat()
}

fn find(
    table: &impl ReadableTable<(&'static str, &'static str), &'static [u8]>,
    key: &Key,
) -> Result<Option<Row>, ReadError> {
    let value = table.get((key.partition.as_str(), key.sort.as_str()))?;
    value
        .map(|value| decode(value.value()).ok_or(ReadError::Corrupt))
        .transpose()
}

fn find_page(database: &Database, wanted: &Wanted) -> Result<Page, ReadError> {
    let read = database.begin_read()?;
    let table = read.open_table(table(wanted.space))?;
    let partition = wanted.partition.as_str();
    let prefix = wanted.prefix.as_str();
    let start = match wanted.after.as_deref() {
        Some(after) if after >= prefix => std::ops::Bound::Excluded((partition, after)),
        _ => std::ops::Bound::Included((partition, prefix)),
    };
    let mut page = Page::default();
    let mut size = 0;
    for row in table.range::<(&str, &str)>((start, std::ops::Bound::Unbounded))? {
        let (key, value) = row?;
        let (found, sort) = key.value();
        if found != partition || !sort.starts_with(prefix) {
            break;
        }
        if page.entries.len() == wanted.limit || size >= bounds::PAGE_BYTES {
            page.more = true;
            break;
        }
        let row = decode(value.value()).ok_or(ReadError::Corrupt)?;
        size += row.bytes.len();
        page.entries.push(Entry {
            sort: sort.to_owned(),
            row,
        });
    }
    Ok(page)
}

struct Wanted {
    space: Space,
    partition: String,
    prefix: String,
    after: Option<String>,
    limit: usize,
}

#[async_trait]
impl MetaStore for RedbMeta {
    async fn get(&self, key: &Key) -> Result<Option<Row>, StoreError> {
        let key = key.clone();
        self.read(Where::Here, "get", move |database| {
            let read = database.begin_read()?;
            find(&read.open_table(table(key.space))?, &key)
        })
        .await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Row>>, StoreError> {
        bounds::check_keys(keys)?;
        let keys = keys.to_vec();
        self.read(Where::BlockingPool, "get_many", move |database| {
            let read = database.begin_read()?;
            keys.iter()
                .map(|key| find(&read.open_table(table(key.space))?, key))
                .collect()
        })
        .await
    }

    async fn snapshot(&self, keys: &[Key]) -> Result<Vec<Option<Row>>, StoreError> {
        // One read transaction of the database is one moment.
        self.get_many(keys).await
    }

    async fn range(
        &self,
        space: Space,
        partition: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        bounds::check_limit(limit)?;
        let wanted = Wanted {
            space,
            partition: partition.to_owned(),
            prefix: prefix.to_owned(),
            after: after.map(str::to_owned),
            limit,
        };
        self.read(Where::BlockingPool, "range", move |database| {
            find_page(database, &wanted)
        })
        .await
    }

    async fn transact(&self, version: Version, ops: &[Op]) -> Result<Outcome, StoreError> {
        bounds::check_transaction(ops)?;
        let unavailable = || StoreError::new(StoreErrorKind::Unavailable, "transact");
        let size = 1_024 + ops.iter().map(bounds::put_bytes).sum::<usize>();
        let size = u32::try_from(size).map_err(|_| unavailable())?;
        let bytes = self.queue_bytes.clone().acquire_many_owned(size).await;
        let (answer, outcome) = oneshot::channel();
        let job = Job::Transact(Transaction {
            version,
            ops: ops.to_vec(),
            answer,
            _bytes: bytes.map_err(|_| unavailable())?,
        });
        self.send(job).await?;
        // Without an answer the writer died, before or after it wrote.
        outcome.await.unwrap_or(Ok(Outcome::Unknown))
    }
}
