//! What a failed request means: the one table from SQLSTATE to what can be done about it.
//!
//! The question that matters for a write is whether it may have been committed. It wasn't if it never left, or if the server
//! answers with an `ERROR`, which comes before the commit. A `FATAL` and a connection that breaks leave it open.

use tokio_postgres::error::{Severity, SqlState};

use crate::storage::fault::{Class, Fault};

/// Of a server that isn't the primary.
pub(super) fn standby() -> Fault {
    Fault::new(
        Class::Busy,
        "the server is a standby: it isn't the primary, or not any more",
    )
}

/// Of a connection that can't be made.
pub(super) fn of_connecting(error: tokio_postgres::Error) -> Fault {
    let class = match error.code() {
        Some(code) if is_of_login(code) => Class::Denied,
        _ => Class::Unsent,
    };
    Fault::new(class, error)
}

/// Of a request that has left.
pub(super) fn of(error: tokio_postgres::Error) -> Fault {
    let class = match error.as_db_error() {
        Some(said) => match said.parsed_severity() {
            Some(Severity::Error) => by_code(said.code()),
            _ => Class::Unsure,
        },
        None => Class::Unsure,
    };
    Fault::new(class, error)
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
