//! What a failed request means: the one table from SQLSTATE to what can be done about it.
//!
//! The question that matters for a write is whether it may have been committed. It wasn't if it never left, or if the server
//! answers with an `ERROR`, which comes before the commit. A `FATAL` and a connection that breaks leave it open.

use std::error::Error;

use tokio_postgres::error::{Severity, SqlState};

use crate::storage::{StoreError, StoreErrorKind};

/// A request that failed.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) class: Class,
    source: Box<dyn Error + Send + Sync>,
}

/// What there is to know about a request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// It didn't leave: nobody listens, or no connection is free.
    Unsent,
    /// Refused for now: too many connections, a server that starts or is no primary.
    Busy,
    /// Refused: others hold the rows for too long, or locked them in a circle.
    Contended,
    /// It may have been committed, or may be yet.
    Unsure,
    /// Refused: no right, or a login that doesn't count.
    Denied,
    /// Refused: no space is left.
    Full,
    /// Refused: the schema isn't there, or isn't what it should be.
    Unsupported,
    /// The server says that what it holds is broken.
    Corrupt,
    /// Refused for another reason.
    Refused,
}

impl Fault {
    pub(super) fn new(class: Class, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            class,
            source: source.into(),
        }
    }

    /// Of a server that isn't the primary.
    pub(super) fn standby() -> Self {
        Self::new(
            Class::Busy,
            "the server is a standby: it isn't the primary, or not any more",
        )
    }

    /// Of a connection that can't be made.
    pub(super) fn of_connecting(error: tokio_postgres::Error) -> Self {
        let class = match error.code() {
            Some(code) if is_of_login(code) => Class::Denied,
            _ => Class::Unsent,
        };
        Self::new(class, error)
    }

    /// Of a request that has left.
    pub(super) fn of(error: tokio_postgres::Error) -> Self {
        let class = match error.as_db_error() {
            Some(said) => match said.parsed_severity() {
                Some(Severity::Error) => by_code(said.code()),
                _ => Class::Unsure,
            },
            None => Class::Unsure,
        };
        Self::new(class, error)
    }

    /// Whether the same may be asked again, for it had no effect and may be answered otherwise the next time.
    pub(super) fn may_repeat(&self) -> bool {
        matches!(self.class, Class::Unsent | Class::Busy | Class::Contended)
    }

    pub(super) fn into_store_error(self, operation: &'static str) -> StoreError {
        let kind = match self.class {
            Class::Unsent | Class::Busy | Class::Unsure | Class::Refused => StoreErrorKind::Unavailable,
            Class::Contended => StoreErrorKind::Contended,
            Class::Denied => StoreErrorKind::Denied,
            Class::Full => StoreErrorKind::Full,
            Class::Unsupported => StoreErrorKind::Unsupported,
            Class::Corrupt => StoreErrorKind::Corrupt,
        };
        StoreError::with_source(kind, operation, self.source)
    }

    pub(super) fn into_source(self) -> Box<dyn Error + Send + Sync> {
        self.source
    }
}

/// A password, a rule of `pg_hba.conf`, a database or a right to connect.
fn is_of_login(code: &SqlState) -> bool {
    code.code().starts_with("28") || *code == SqlState::INSUFFICIENT_PRIVILEGE || code.code() == "3D000"
}

/// By the class of the code (PostgreSQL's documentation, appendix A) where no single one counts.
fn by_code(code: &SqlState) -> Class {
    match code.code() {
        // serialization_failure, deadlock_detected, lock_not_available
        "40001" | "40P01" | "55P03" => Class::Contended,
        // read_only_sql_transaction: a standby
        "25006" => Class::Busy,
        // disk_full
        "53100" => Class::Full,
        "42501" => Class::Denied,
        // feature_not_supported, undefined_table, undefined_function, invalid_schema_name
        "0A000" | "42P01" | "42883" | "3F000" => Class::Unsupported,
        // data_corrupted, index_corrupted
        "XX001" | "XX002" => Class::Corrupt,
        // insufficient_resources, operator_intervention
        code if code.starts_with("53") || code.starts_with("57") => Class::Busy,
        code if code.starts_with("28") => Class::Denied,
        _ => Class::Refused,
    }
}
