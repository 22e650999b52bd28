//! Links that are *shelved*: only manifests that were deleted and can be brought back use them (`storage.history`). Their bytes
//! stay, they count against no quota, and the repository doesn't hold the blob for all that anybody is told.
//!
//! A link is shelved in a transaction that replaces the repository's row, as one that ends a link would be (rules G2 and R9). It
//! comes back as a link comes: by its own version.

use super::{Result, row};
use crate::storage::{Row, rows};

/// The link's row, unless the link is shelved: then the repository doesn't hold the blob, for all that anybody is told.
pub(super) fn present(found: Option<Row>) -> Result<Option<Row>> {
    match &found {
        Some(row) if is_shelved(row)? => Ok(None),
        Some(_) | None => Ok(found),
    }
}

/// Whether a link is only there for manifests that were deleted and can be brought back.
pub(super) fn is_shelved(link: &Row) -> Result<bool> {
    Ok(row::read::<rows::Link>(link)?.shelved)
}

/// The link, kept for what was deleted. Whoever writes it takes it off the quota ([`quota::discount`](super::quota::discount)),
/// in a transaction that replaces the repository's row.
pub(super) fn shelved(link: rows::Link) -> rows::Link {
    rows::Link {
        in_use: false,
        shelved: true,
        counted_under: String::new(),
        counted_shard: 0,
        ..link
    }
}
