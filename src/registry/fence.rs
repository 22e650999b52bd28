//! One conditional transaction, carried to a known end where there is one (rule R4).

use tokio::time::{Instant, timeout_at};

use super::{RegistryError, Result, pause::Pause};
use crate::storage::{Expect, MetaStore, Op, Outcome, Row, StoreError, StoreErrorKind, Version};

/// How a fenced transaction ended. Where that can't be known it is an error.
#[derive(Debug)]
pub(super) enum Fenced {
    /// Applied.
    Committed,
    /// Not applied, and it never will be.
    Refused {
        /// Which operation.
        index: usize,
        /// The row as it was.
        current: Option<Row>,
    },
}

/// Sends `ops` with `version`. The first of them is the fence: it puts a row, if that is absent or of the version that
/// the caller read; every transaction that competes with this one replaces the same row. So
///
/// - the row has our version: committed;
/// - it is still as expected: sent again, the same transaction, for only one of the two can win;
/// - anything else: someone came after us or before us, and nobody can tell which.
pub(super) async fn transact(
    meta: &dyn MetaStore,
    version: Version,
    ops: &[Op],
    deadline: Instant,
) -> Result<Fenced> {
    let mut pause = Pause::new();
    // Whether an earlier sending may still be applied.
    let mut pending = false;
    loop {
        let sent = timeout_at(deadline, meta.transact(version, ops)).await;
        match sent.unwrap_or(Ok(Outcome::Unknown)) {
            Ok(Outcome::Committed) => return Ok(Fenced::Committed),
            // A driver's own retry found what its first try had done.
            Ok(Outcome::Refused { index: 0, current }) if is_of(version, current.as_ref()) => {
                return Ok(Fenced::Committed);
            }
            Ok(Outcome::Refused { index, current }) if !pending => {
                return Ok(Fenced::Refused { index, current });
            }
            Ok(Outcome::Refused { .. }) => return Err(RegistryError::OutcomeUnknown),
            Err(error) if !pending => return Err(error.into()),
            Ok(Outcome::Unknown) | Err(_) => pending = true,
        }
        let fence = ops.first().ok_or(RegistryError::OutcomeUnknown)?;
        let row = loop {
            pause.wait(deadline).await;
            match timeout_at(deadline, meta.get(&fence.key)).await {
                Ok(Ok(row)) => break row,
                Ok(Err(error)) => tracing::debug!(?error, "cannot read the row that tells an outcome"),
                Err(_) => return Err(RegistryError::OutcomeUnknown),
            }
            // Asked for by itself: a time-out lets whatever is ready at once go on for ever.
            if Instant::now() >= deadline {
                return Err(RegistryError::OutcomeUnknown);
            }
        };
        if is_of(version, row.as_ref()) {
            return Ok(Fenced::Committed);
        }
        if Expect::unchanged(row.as_ref()) != fence.expect || Instant::now() >= deadline {
            return Err(RegistryError::OutcomeUnknown);
        }
    }
}

/// Writes rows that mean nothing by themselves, and may be written twice, or deletes what may be deleted twice.
pub(super) async fn write(meta: &dyn MetaStore, ops: &[Op], attempts: u32) -> Result<()> {
    let version = Version::random();
    for _ in 0..attempts {
        match meta.transact(version, ops).await? {
            Outcome::Committed => return Ok(()),
            Outcome::Refused { .. } | Outcome::Unknown => {}
        }
    }
    Err(StoreError::new(StoreErrorKind::Unavailable, "write rows").into())
}

fn is_of(version: Version, row: Option<&Row>) -> bool {
    row.is_some_and(|row| row.version == version)
}
