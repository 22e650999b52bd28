//! The thread that writes, and that opens the file anew after the disk failed.

use std::{collections::HashMap, sync::Arc};

use ::redb::{Database, Durability, ReadableDatabase, Table as OpenTable, WriteTransaction};
use tokio::sync::mpsc;

use super::{File, Job, MARKER, ReadError, State, Transaction, encode, failure, find, kind, table};
use crate::storage::{Effect, Key, Outcome, Row, Space, StoreError, StoreErrorKind, Version, memory::holds};

/// Most transactions in one commit.
const BATCH: usize = 256;

pub(super) fn run(file: &File, mut queue: mpsc::Receiver<Job>) {
    let mut jobs = Vec::with_capacity(BATCH);
    let mut closed = None;
    while closed.is_none() && queue.blocking_recv_many(&mut jobs, BATCH) > 0 {
        let mut batch = Vec::with_capacity(jobs.len());
        for job in jobs.drain(..) {
            match job {
                Job::Transact(transaction) => batch.push(transaction),
                Job::Recover { failed, answer } => {
                    let recovered = file.recover(failed).map_err(|error| failure("recover", error));
                    // An answer that nobody waits for any more is fine, here and below.
                    let _ = answer.send(recovered);
                }
                Job::Close(answer) => closed = Some(answer),
            }
        }
        if !batch.is_empty() {
            write(file, batch);
        }
    }
    // Closing the database marks it as whole: the next opening needs no repair.
    *file.state.write() = State::Closed;
    queue.close();
    while let Some(job) = queue.blocking_recv() {
        if let Job::Transact(transaction) = job {
            let error = ReadError::Closed.into_store_error("transact");
            let _ = transaction.answer.send(Err(error));
        }
    }
    if let Some(answer) = closed {
        let _ = answer.send(());
    }
}

/// Why the transactions of a batch don't end with their own outcomes.
enum Failed {
    /// Nothing was written.
    Before(ReadError),
    /// The commit failed: it may have happened.
    InCommit(::redb::Error, Vec<Outcome>),
}

impl<E: Into<ReadError>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::Before(error.into())
    }
}

fn write(file: &File, batch: Vec<Transaction>) {
    if let Err(error) = file.recover_if_broken() {
        return refuse(batch, kind(&error), error);
    }
    let generation = file.generation();
    let commit = Version::random().to_bytes();
    let result = match &*file.state.read() {
        State::Open(database) => apply(database, &batch, commit),
        State::Broken => Err(Failed::Before(ReadError::Broken)),
        State::Closed => Err(Failed::Before(ReadError::Closed)),
    };
    match result {
        Ok(outcomes) => answer(batch, outcomes, Ok),
        Err(Failed::Before(ReadError::Database(error))) => {
            let recovered = file.recover(generation).is_ok();
            tracing::warn!(%error, recovered, "the metadata file can't be written");
            refuse(batch, kind(&error), error);
        }
        Err(Failed::Before(error)) => {
            let error = error.into_store_error("transact");
            refuse(batch, error.kind(), error);
        }
        Err(Failed::InCommit(error, outcomes)) => {
            let happened = file.recover(generation).and_then(|()| file.last_commit());
            let recovered = happened.is_ok();
            tracing::warn!(%error, recovered, "a commit of the metadata file failed");
            let happened = happened.map_or(Happened::Maybe, |last| Happened::from(last == Some(commit)));
            settle(batch, outcomes, happened, error);
        }
    }
}

/// Whether a failed commit happened.
#[derive(Clone, Copy)]
enum Happened {
    No,
    /// It is in the file, or that can't be read. (In the file isn't on the disk: the kernel forgets what it failed to
    /// write.)
    Maybe,
}

impl From<bool> for Happened {
    fn from(in_file: bool) -> Self {
        if in_file { Self::Maybe } else { Self::No }
    }
}

fn settle(batch: Vec<Transaction>, outcomes: Vec<Outcome>, happened: Happened, error: ::redb::Error) {
    let kind = kind(&error);
    let error = Arc::new(error);
    answer(batch, outcomes, |outcome| match (happened, outcome) {
        (Happened::Maybe, Outcome::Committed | Outcome::Unknown) => Ok(Outcome::Unknown),
        (Happened::No, _) | (Happened::Maybe, Outcome::Refused { .. }) => {
            Err(StoreError::with_source(kind, "transact", error.clone()))
        }
    });
}

fn refuse(
    batch: Vec<Transaction>,
    kind: StoreErrorKind,
    error: impl std::error::Error + Send + Sync + 'static,
) {
    let error = Arc::new(error);
    for transaction in batch {
        let error = StoreError::with_source(kind, "transact", error.clone());
        let _ = transaction.answer.send(Err(error));
    }
}

fn answer(
    batch: Vec<Transaction>,
    outcomes: Vec<Outcome>,
    each: impl Fn(Outcome) -> Result<Outcome, StoreError>,
) {
    for (transaction, outcome) in batch.into_iter().zip(outcomes) {
        let _ = transaction.answer.send(each(outcome));
    }
}

/// Evaluates the transactions of `batch` in order and makes what they change durable, at the cost of one fsync.
fn apply(database: &Database, batch: &[Transaction], commit: [u8; 16]) -> Result<Vec<Outcome>, Failed> {
    let mut write = database.begin_write()?;
    write.set_durability(Durability::Immediate)?;
    let mut tables = Tables {
        write: &write,
        open: HashMap::new(),
        changes: 0,
    };
    let outcomes: Vec<Outcome> = batch
        .iter()
        .map(|transaction| tables.transact(transaction))
        .collect::<Result<_, _>>()?;
    let changes = tables.changes;
    drop(tables);
    if changes == 0 {
        write.abort()?;
        return Ok(outcomes);
    }
    write.open_table(MARKER)?.insert((), commit)?;
    match write.commit() {
        Ok(()) => Ok(outcomes),
        Err(error) => Err(Failed::InCommit(error.into(), outcomes)),
    }
}

/// The tables that a batch touches.
struct Tables<'txn> {
    write: &'txn WriteTransaction,
    open: HashMap<Space, OpenTable<'txn, (&'static str, &'static str), &'static [u8]>>,
    changes: usize,
}

impl<'txn> Tables<'txn> {
    fn table(
        &mut self,
        space: Space,
    ) -> Result<&mut OpenTable<'txn, (&'static str, &'static str), &'static [u8]>, ReadError> {
        use std::collections::hash_map::Entry;
        Ok(match self.open.entry(space) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(entry) => entry.insert(self.write.open_table(table(space))?),
        })
    }

    fn find(&mut self, key: &Key) -> Result<Option<Row>, ReadError> {
        find(self.table(key.space)?, key)
    }

    fn transact(&mut self, transaction: &Transaction) -> Result<Outcome, ReadError> {
        for (index, op) in transaction.ops.iter().enumerate() {
            let current = self.find(&op.key)?;
            if !holds(op.expect, current.as_ref()) {
                return Ok(Outcome::Refused { index, current });
            }
        }
        for op in &transaction.ops {
            let key = (op.key.partition.as_str(), op.key.sort.as_str());
            match &op.effect {
                Effect::Check => continue,
                Effect::Put(bytes) => {
                    let value = encode(transaction.version, bytes);
                    self.table(op.key.space)?.insert(key, value.as_slice())?;
                }
                Effect::Delete => {
                    self.table(op.key.space)?.remove(key)?;
                }
            }
            self.changes += 1;
        }
        Ok(Outcome::Committed)
    }
}

impl File {
    /// Opens the file anew, unless that was done since `failed` or the store is closed. Readers wait meanwhile.
    fn recover(&self, failed: u64) -> Result<(), ::redb::Error> {
        let mut state = self.state.write();
        match &*state {
            State::Closed => return Ok(()),
            State::Open(_) if self.generation() != failed => return Ok(()),
            State::Open(_) | State::Broken => {}
        }
        // The old handle must go first: it holds the lock on the file.
        *state = State::Broken;
        *state = State::Open((self.open)()?);
        self.next_generation();
        Ok(())
    }

    fn recover_if_broken(&self) -> Result<(), ::redb::Error> {
        let broken = matches!(*self.state.read(), State::Broken);
        if broken {
            self.recover(self.generation())
        } else {
            Ok(())
        }
    }

    /// The marker of the last commit that is in the file.
    fn last_commit(&self) -> Result<Option<[u8; 16]>, ::redb::Error> {
        match &*self.state.read() {
            State::Open(database) => {
                let read = database.begin_read()?;
                let marker = read.open_table(MARKER)?.get(())?;
                Ok(marker.map(|marker| marker.value()))
            }
            State::Broken | State::Closed => Err(::redb::Error::PreviousIo),
        }
    }
}
