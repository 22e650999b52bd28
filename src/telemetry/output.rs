//! Where lines of a log go: a standard stream, or a file that may be renamed (it is then opened anew) and whose disk may be
//! full. What can't be written waits in memory, within a bound, and is written in order when it can be; meanwhile, and about
//! what is lost beyond the bound, metrics and [`Output::trouble`] say so.
//!
//! Nothing here writes to a log: it would be about itself.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::LazyLock,
};

use parking_lot::Mutex;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};

use crate::config::LogOutput;

/// Most bytes of lines that wait to be written.
const MAX_WAITING_BYTES: usize = 1024 * 1024;

/// Counts of lines, by the log they belong to. The logs are the process's, so its members have them in common.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines {
    pub(super) lost: Family<LogLabels, Counter>,
    pub(super) waiting: Family<LogLabels, Gauge>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct LogLabels {
    pub(super) log: &'static str,
}

/// Those of this process.
pub(super) static LINES: LazyLock<Lines> = LazyLock::new(Lines::default);

/// Where one log goes.
pub(super) struct Output {
    labels: LogLabels,
    open: Mutex<Open>,
}

struct Open {
    sink: Sink,
    /// Whole lines, the first of which may have been written in part.
    waiting: VecDeque<Vec<u8>>,
    bytes: usize,
    /// How much of the first was written.
    written: usize,
    /// Why they wait.
    trouble: Option<String>,
}

enum Sink {
    Stdout(io::Stdout),
    Stderr(io::Stderr),
    File(PathBuf, File),
}

impl Output {
    /// Opens a log of this name, which labels its metrics.
    ///
    /// # Errors
    /// When a file can't be opened.
    pub(super) fn open(name: &'static str, output: &LogOutput) -> io::Result<Self> {
        let labels = LogLabels { log: name };
        // So that they are there from the start, with zero.
        let _ = LINES.lost.get_or_create(&labels);
        let _ = LINES.waiting.get_or_create(&labels);
        Ok(Self {
            labels,
            open: Mutex::new(Open {
                sink: match output {
                    LogOutput::Stdout => Sink::Stdout(io::stdout()),
                    LogOutput::Stderr => Sink::Stderr(io::stderr()),
                    LogOutput::File(path) => Sink::File(path.clone(), appended(path)?),
                },
                waiting: VecDeque::new(),
                bytes: 0,
                written: 0,
                trouble: None,
            }),
        })
    }

    /// Opens a file by its name again, for it may be another one now. The former stays in use if that fails.
    ///
    /// # Errors
    /// When the file can't be opened.
    pub(super) fn reopen(&self) -> io::Result<()> {
        let mut open = self.open.lock();
        if let Sink::File(path, file) = &mut open.sink {
            *file = appended(path)?;
            // What stands in the former by half stands whole in this one.
            open.written = 0;
        }
        self.write_waiting(&mut open);
        Ok(())
    }

    /// Tries again to write what waits, and says why it does.
    pub(super) fn trouble(&self) -> Option<String> {
        let mut open = self.open.lock();
        self.write_waiting(&mut open);
        open.trouble.clone()
    }

    fn push(&self, line: &[u8]) {
        let mut open = self.open.lock();
        if open.bytes + line.len() > MAX_WAITING_BYTES {
            self.write_waiting(&mut open);
        }
        if open.bytes + line.len() > MAX_WAITING_BYTES {
            LINES.lost.get_or_create(&self.labels).inc();
            return;
        }
        open.bytes += line.len();
        open.waiting.push_back(line.to_owned());
        self.write_waiting(&mut open);
    }

    fn write_waiting(&self, open: &mut Open) {
        open.trouble = open.write_waiting().err().map(|error| error.to_string());
        let waiting = i64::try_from(open.waiting.len()).unwrap_or(i64::MAX);
        LINES.waiting.get_or_create(&self.labels).set(waiting);
    }
}

impl Open {
    fn write_waiting(&mut self) -> io::Result<()> {
        while let Some(line) = self.waiting.front() {
            match self.sink.write(&line[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => self.written += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if self.written >= line.len() {
                self.bytes -= line.len();
                self.written = 0;
                self.waiting.pop_front();
            }
        }
        self.sink.flush()
    }
}

impl Sink {
    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Self::Stdout(stream) => stream,
            Self::Stderr(stream) => stream,
            Self::File(_, file) => file,
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer().flush()
    }
}

fn appended(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Takes one whole line at a time, always.
impl Write for &Output {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn lost(output: &Output) -> u64 {
        LINES.lost.get_or_create(&output.labels).get()
    }

    #[test]
    fn a_renamed_file_is_opened_anew_and_no_line_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let (path, renamed) = (folder.path().join("log"), folder.path().join("log.1"));
        let output = Output::open("renamed", &LogOutput::File(path.clone())).unwrap();
        output.push(b"one\n");
        fs::rename(&path, &renamed).unwrap();
        output.push(b"two\n");
        output.reopen().unwrap();
        output.push(b"three\n");
        assert_eq!(fs::read_to_string(&renamed).unwrap(), "one\ntwo\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");

        fs::remove_dir_all(folder.path()).unwrap();
        assert!(output.reopen().is_err());
        output.push(b"into the former\n");
        assert_eq!((output.trouble(), lost(&output)), (None, 0));
    }

    /// A disk that is full: whatever is written to this device fails like that.
    #[test]
    fn what_a_full_disk_doesnt_take_waits_within_a_bound_and_is_written_later() {
        let folder = tempfile::tempdir().unwrap();
        let (path, good) = (folder.path().join("log"), folder.path().join("good"));
        symlink("/dev/full", &path).unwrap();
        let output = Output::open("full", &LogOutput::File(path.clone())).unwrap();
        assert_eq!(output.trouble(), None);
        output.push(b"one\n");
        assert!(output.trouble().unwrap().contains("No space left"));
        let long = vec![b'x'; MAX_WAITING_BYTES - 4];
        output.push(&long);
        assert_eq!(lost(&output), 0);
        output.push(b"too many\n");
        assert_eq!(lost(&output), 1);
        assert_eq!(LINES.waiting.get_or_create(&output.labels).get(), 2);

        fs::remove_file(&path).unwrap();
        symlink(&good, &path).unwrap();
        output.reopen().unwrap();
        assert_eq!(output.trouble(), None);
        output.push(b"two\n");
        let written = fs::read(&good).unwrap();
        assert_eq!(written.len(), MAX_WAITING_BYTES + 4);
        assert!(written.starts_with(b"one\nx") && written.ends_with(b"xtwo\n"));
        assert_eq!(LINES.waiting.get_or_create(&output.labels).get(), 0);
    }
}
