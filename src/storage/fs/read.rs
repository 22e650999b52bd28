//! Reading objects.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use tokio::{sync::Semaphore, task::JoinHandle};

use super::{
    blocking::{run, spawn},
    layout::{INDEX, LINE, parse_line},
};
use crate::storage::{ByteStream, StoreError, StoreErrorKind, bounds::short_object};

/// Bytes of a piece, the unit of reading.
const PIECE: u64 = 256 << 10;

/// A range of an object that is being read, file by file.
pub(super) struct Reading {
    file: File,
    at: u64,
    /// Bytes to read from this file.
    here: u64,
    /// Bytes to read from the files after it.
    beyond: u64,
    /// Where those are named.
    parts: Option<Parts>,
}

/// The parts of an object, from some part on.
struct Parts {
    dir: PathBuf,
    index: File,
    /// The next line.
    next: u64,
}

fn failed(error: io::Error) -> StoreError {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return short_object("get");
    }
    StoreError::io("get", error)
}

fn corrupt() -> StoreError {
    StoreError::with_source(
        StoreErrorKind::Corrupt,
        "get",
        "the index of the parts can't be read",
    )
}

impl Reading {
    /// The object's length, and the range of it to read.
    pub(super) fn open(object: &Path, first: u64, last: u64) -> Result<(u64, Self), StoreError> {
        let file = File::open(object).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Self::open_parts(object, first, last);
        }
        if last >= metadata.len() {
            return Err(short_object("get"));
        }
        let reading = Self {
            file,
            at: first,
            here: last - first + 1,
            beyond: 0,
            parts: None,
        };
        Ok((metadata.len(), reading))
    }

    fn open_parts(object: &Path, first: u64, last: u64) -> Result<(u64, Self), StoreError> {
        let (index, lines) = open_index(object)?;
        let whole = end(&index, lines)?;
        if last >= whole {
            return Err(short_object("get"));
        }
        // The first part that ends beyond `first`: the ends ascend.
        let (mut low, mut high) = (0, lines - 1);
        while low < high {
            let middle = low.midpoint(high);
            if entry(&index, middle)?.1 > first {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        let begin = end(&index, low)?;
        let (name, end) = entry(&index, low)?;
        let length = last - first + 1;
        let here = length.min(end - first);
        let reading = Self {
            file: File::open(object.join(name)).map_err(failed)?,
            at: first - begin,
            here,
            beyond: length - here,
            parts: Some(Parts {
                dir: object.to_owned(),
                index,
                next: low + 1,
            }),
        };
        Ok((whole, reading))
    }

    fn is_done(&self) -> bool {
        self.here == 0 && self.beyond == 0
    }

    /// Reads the next bytes, up to the size of a piece; none only at the end.
    pub(super) fn piece(&mut self) -> Result<Bytes, StoreError> {
        while self.here == 0 && self.beyond > 0 {
            let parts = self.parts.as_mut().ok_or_else(corrupt)?;
            let length = parts.length()?;
            self.file = parts.open()?;
            self.at = 0;
            self.here = length.min(self.beyond);
            self.beyond -= self.here;
        }
        let size = self.here.min(PIECE);
        let mut bytes = BytesMut::zeroed(usize::try_from(size).unwrap_or(0));
        self.file.read_exact_at(&mut bytes, self.at).map_err(failed)?;
        self.at += size;
        self.here -= size;
        Ok(bytes.freeze())
    }
}

impl Parts {
    /// The length of the next part.
    fn length(&self) -> Result<u64, StoreError> {
        let end_of_next = entry(&self.index, self.next)?.1;
        end_of_next
            .checked_sub(end(&self.index, self.next)?)
            .ok_or_else(corrupt)
    }

    /// Opens the next part, and goes on to the one after it.
    fn open(&mut self) -> Result<File, StoreError> {
        let (name, _) = entry(&self.index, self.next)?;
        self.next += 1;
        File::open(self.dir.join(name)).map_err(failed)
    }
}

/// The index of the parts of `object`, and how many there are.
fn open_index(object: &Path) -> Result<(File, u64), StoreError> {
    let index = File::open(object.join(INDEX)).map_err(failed)?;
    let size = index.metadata().map_err(failed)?.len();
    let lines = size / LINE as u64;
    if lines == 0 || !size.is_multiple_of(LINE as u64) {
        return Err(corrupt());
    }
    Ok((index, lines))
}

/// Line `n` of the index: the part's file name and the offset of its end.
fn entry(index: &File, n: u64) -> Result<(String, u64), StoreError> {
    let mut line = [0; LINE];
    index.read_exact_at(&mut line, n * LINE as u64).map_err(failed)?;
    let (name, end) = parse_line(&line).ok_or_else(corrupt)?;
    Ok((name.to_owned(), end))
}

/// Where the first `n` parts end.
fn end(index: &File, n: u64) -> Result<u64, StoreError> {
    n.checked_sub(1)
        .map_or(Ok(0), |last| entry(index, last).map(|(_, end)| end))
}

/// The length of `object`, if there is one: that of the bytes which are there, whatever the index says.
pub(super) fn length(object: &Path) -> Result<Option<u64>, StoreError> {
    match fs::metadata(object) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::io("head", error)),
        Ok(metadata) if !metadata.is_dir() => Ok(Some(metadata.len())),
        Ok(_) => match open_index(object) {
            // Deleted meanwhile.
            Err(error) if error.kind() == StoreErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
            Ok((index, lines)) => {
                let mut whole = 0;
                for n in 0..lines {
                    let (name, _) = entry(&index, n)?;
                    match fs::metadata(object.join(name)) {
                        Ok(metadata) => whole += metadata.len(),
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        Err(error) => return Err(StoreError::io("head", error)),
                    }
                }
                Ok(Some(whole))
            }
        },
    }
}

type Ahead = JoinHandle<Result<(Reading, Bytes), StoreError>>;

/// What a stream does when it is asked for the next piece.
enum Next {
    /// Gives this one, and reads the one after it meanwhile.
    Give(Reading, Bytes),
    /// Reads one.
    Read(Reading),
    /// Waits for the one that is being read.
    Wait(Ahead),
    End,
}

/// The rest of `reading`, after `piece`.
pub(super) fn stream(reading: Reading, piece: Bytes, places: Arc<Semaphore>) -> ByteStream {
    Box::pin(stream::unfold(Next::Give(reading, piece), move |next| {
        let places = places.clone();
        async move {
            let read = match next {
                Next::End => return None,
                Next::Give(reading, piece) => Ok((reading, piece)),
                Next::Read(reading) => run(&places, "get", move || read_on(reading)).await,
                Next::Wait(ahead) => ahead.await.unwrap_or_else(|error| {
                    Err(StoreError::with_source(StoreErrorKind::Unavailable, "get", error))
                }),
            };
            Some(match read {
                Ok((reading, piece)) => (Ok(piece), ahead(reading, &places)),
                Err(error) => (Err(error), Next::End),
            })
        }
    }))
}

fn read_on(mut reading: Reading) -> Result<(Reading, Bytes), StoreError> {
    let piece = reading.piece()?;
    Ok((reading, piece))
}

/// Reads ahead, if there is a place for it: others that wait for their first piece come first.
fn ahead(reading: Reading, places: &Arc<Semaphore>) -> Next {
    if reading.is_done() {
        return Next::End;
    }
    match places.clone().try_acquire_owned() {
        Ok(place) => Next::Wait(spawn(place, move || read_on(reading))),
        Err(_) => Next::Read(reading),
    }
}
