//! Faults of a configuration: what is wrong, where, and what to do about it.
//!
//! Faults are collected, never thrown one by one: whoever moves a configuration here fixes it in one round.

use std::{fmt, path::PathBuf};

/// The sort of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The file can't be read.
    Unreadable,
    /// The file is neither JSON nor YAML.
    Syntax,
    /// A key that nobody knows.
    UnknownKey,
    /// A key that zot knows and this release doesn't serve.
    Unsupported,
    /// A value of the wrong type, or one that can't be.
    Value,
    /// A key that must be there and isn't.
    Missing,
    /// Keys that are right by themselves and don't go together.
    Contradiction,
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Its sort.
    pub kind: FaultKind,
    /// The path of the key, as in `cluster.tls.cacert`; empty when the file as a whole is meant.
    pub key: String,
    /// The line in the file, from 1, where it is known.
    pub line: Option<u32>,
    /// What is wrong and what to do. Values of secrets are never in it.
    pub problem: String,
}

impl Fault {
    /// A fault without a known line.
    pub(crate) fn new(kind: FaultKind, key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            kind,
            key: key.into(),
            line: None,
            problem: problem.into(),
        }
    }

    /// The same fault with its line.
    pub(crate) fn at(mut self, line: Option<u32>) -> Self {
        self.line = line;
        self
    }
}

/// All faults of one configuration, in the order of the file as far as it is known.
///
/// `Display` is a text of several lines: a count, then one `file:line: key: problem` a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The file.
    pub source: PathBuf,
    /// The faults; never empty.
    pub faults: Vec<Fault>,
}

impl ConfigErrors {
    pub(crate) fn new(source: PathBuf, mut faults: Vec<Fault>) -> Self {
        // Stable: faults without a line (something is missing) come last, in the order they were found.
        faults.sort_by_key(|fault| fault.line.unwrap_or(u32::MAX));
        Self { source, faults }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.source.display();
        match self.faults.len() {
            1 => writeln!(f, "{file} has a fault:")?,
            n => writeln!(f, "{file} has {n} faults:")?,
        }
        for (i, fault) in self.faults.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "  {file}")?;
            if let Some(line) = fault.line {
                write!(f, ":{line}")?;
            }
            if !fault.key.is_empty() {
                write!(f, ": {}", fault.key)?;
            }
            write!(f, ": {}", fault.problem)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_names_file_line_key_and_problem_in_the_order_of_the_file() {
        let errors = ConfigErrors::new(
            PathBuf::from("a.json"),
            vec![
                Fault::new(FaultKind::Missing, "storage.rootDirectory", "is required"),
                Fault::new(FaultKind::UnknownKey, "http.prot", "unknown key").at(Some(7)),
                Fault::new(FaultKind::Syntax, "", "not JSON").at(Some(2)),
            ],
        );
        assert_eq!(
            errors.to_string(),
            "a.json has 3 faults:\n  a.json:2: not JSON\n  a.json:7: http.prot: unknown key\n  a.json: storage.rootDirectory: is required"
        );
    }
}
