//! A file that may change while the program runs, and what was made of it.
//!
//! It is compared by content, so it doesn't matter how it was replaced. What can't be used is logged, once, and the
//! former stays in use.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::{Mutex, RwLock};

/// The largest file that is read, in bytes.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// A file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum FileFault {
    /// It can't be read.
    #[error("{} can't be read", .file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It isn't what it should be.
    #[error("{} can't be used: {problem}", .file.display())]
    Content {
        /// Which.
        file: PathBuf,
        /// What is wrong, and what to do. Shows no secret.
        problem: String,
    },
}

/// What a file's content becomes, or what is wrong with it.
type Make<T> = dyn Fn(&[u8]) -> Result<T, String> + Send + Sync;

/// A value made from a file.
pub(super) struct Watched<T> {
    file: PathBuf,
    make: Box<Make<T>>,
    value: RwLock<Arc<T>>,
    seen: Mutex<Seen>,
}

struct Seen {
    // What was last read, usable or not.
    content: Vec<u8>,
    // The last fault that was logged.
    fault: Option<String>,
}

impl<T> Watched<T> {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// [`FileFault`], naming the file.
    pub(super) fn load(
        file: &Path,
        make: impl Fn(&[u8]) -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, FileFault> {
        let content = read(file)?;
        let value = make(&content).map_err(|problem| fault(file, problem))?;
        Ok(Self {
            file: file.to_owned(),
            make: Box::new(make),
            value: RwLock::new(Arc::new(value)),
            seen: Mutex::new(Seen { content, fault: None }),
        })
    }

    /// The value as it is now.
    pub(super) fn current(&self) -> Arc<T> {
        self.value.read().clone()
    }

    /// Looks whether the file has changed.
    pub(super) fn look(&self) {
        let mut seen = self.seen.lock();
        let made = read(&self.file).and_then(|content| {
            if content == seen.content {
                return Ok(None);
            }
            let made = (self.make)(&content).map_err(|problem| fault(&self.file, problem));
            seen.content = content;
            made.map(Some)
        });
        match made {
            Ok(None) => {}
            Ok(Some(value)) => {
                *self.value.write() = Arc::new(value);
                seen.fault = None;
                tracing::info!(file = %self.file.display(), "a changed file is in use");
            }
            Err(error) => {
                let text = error.to_string();
                if seen.fault.as_ref() != Some(&text) {
                    tracing::error!(%error, "a changed file can't be used, the former one stays in use");
                    seen.fault = Some(text);
                }
            }
        }
    }
}

fn fault(file: &Path, problem: String) -> FileFault {
    FileFault::Content {
        file: file.to_owned(),
        problem,
    }
}

fn read(file: &Path) -> Result<Vec<u8>, FileFault> {
    let unreadable = |source| FileFault::Read {
        file: file.to_owned(),
        source,
    };
    if fs::metadata(file).map_err(unreadable)?.len() > MAX_BYTES {
        return Err(fault(file, format!("it has more than {MAX_BYTES} bytes")));
    }
    fs::read(file).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_used_and_an_unusable_or_missing_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("number");
        let number = |content: &[u8]| {
            std::str::from_utf8(content)
                .unwrap()
                .parse::<u32>()
                .map_err(|e| e.to_string())
        };
        assert!(Watched::load(&file, number).is_err());
        fs::write(&file, "1").unwrap();
        let watched = Watched::load(&file, number).unwrap();
        assert_eq!(*watched.current(), 1);
        for (content, value) in [("2", 2), ("x", 2), ("3", 3)] {
            fs::write(&file, content).unwrap();
            watched.look();
            assert_eq!(*watched.current(), value);
        }
        fs::remove_file(&file).unwrap();
        watched.look();
        assert_eq!(*watched.current(), 3);
    }
}
