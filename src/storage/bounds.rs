//! What the contracts of the two stores bound, checked the same way by every driver. Breaking one of these is a bug of
//! the caller and answered with [`StoreErrorKind::Misuse`].

use std::collections::HashSet;

use super::{Effect, Key, MAX_OPS, Op, Part, StoreError, StoreErrorKind};

/// Most bytes of one row.
pub const MAX_ROW: usize = 350 << 10;

/// Most bytes of all rows that one transaction puts. (DynamoDB takes 4 MB with keys and attribute names.)
pub const MAX_TRANSACTION: usize = 3_500 << 10;

/// Most rows of one page: the longest page of a listing, and one more, which tells whether that is its end.
pub const MAX_PAGE: usize = 1_001;

/// Bytes of rows after which the embedded drivers end a page, as DynamoDB does: a page of 1,000 big rows isn't memory
/// that a listing should take.
pub(super) const PAGE_BYTES: usize = 1 << 20;

fn misuse(operation: &'static str, what: &'static str) -> StoreError {
    StoreError::with_source(StoreErrorKind::Misuse, operation, what)
}

fn distinct<'a>(keys: impl Iterator<Item = &'a Key>) -> bool {
    let mut seen = HashSet::new();
    keys.into_iter().all(|key| seen.insert(key))
}

pub(super) fn check_transaction(ops: &[Op]) -> Result<(), StoreError> {
    if ops.is_empty() || ops.len() > MAX_OPS {
        return Err(misuse("transact", "1 to 100 operations"));
    }
    if !distinct(ops.iter().map(|op| &op.key)) {
        return Err(misuse("transact", "two operations on one key"));
    }
    if ops.iter().any(|op| put_bytes(op) > MAX_ROW) {
        return Err(misuse("transact", "a row of more than 350 KiB"));
    }
    if ops.iter().map(put_bytes).sum::<usize>() > MAX_TRANSACTION {
        return Err(misuse("transact", "rows of more than 3,500 KiB"));
    }
    Ok(())
}

/// Bytes of the row that `op` puts.
pub(super) fn put_bytes(op: &Op) -> usize {
    match &op.effect {
        Effect::Put(bytes) => bytes.len(),
        Effect::Check | Effect::Delete => 0,
    }
}

pub(super) fn check_keys(keys: &[Key]) -> Result<(), StoreError> {
    if keys.len() > MAX_OPS {
        return Err(misuse("get_many", "at most 100 keys"));
    }
    if !distinct(keys.iter()) {
        return Err(misuse("get_many", "one key twice"));
    }
    Ok(())
}

pub(super) fn check_limit(limit: usize) -> Result<(), StoreError> {
    if (1..=MAX_PAGE).contains(&limit) {
        Ok(())
    } else {
        Err(misuse("range", "a limit of 1 to 1,001"))
    }
}

/// Checks what `complete` names, as far as that can be told without the parts.
pub(super) fn check_parts(parts: &[Part], min_part: u64) -> Result<(), StoreError> {
    let Some((_, but_last)) = parts.split_last() else {
        return Err(misuse("complete", "no part"));
    };
    if !parts.is_sorted_by(|a, b| a.number < b.number) {
        return Err(misuse("complete", "part numbers don't ascend"));
    }
    if but_last.iter().any(|part| part.length < min_part) {
        return Err(misuse("complete", "a part other than the last is too small"));
    }
    Ok(())
}

pub(super) fn check_range(first: u64, last: u64) -> Result<(), StoreError> {
    if first <= last {
        Ok(())
    } else {
        Err(misuse("get", "a range that ends before it begins"))
    }
}

/// A prefix of object keys: the characters of a key, no empty segment but the last. Never empty: nothing may sweep
/// the whole store.
pub(super) fn check_prefix(prefix: &str) -> Result<(), StoreError> {
    let character = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'/');
    if prefix.is_empty() || prefix.starts_with('/') || prefix.contains("//") || !prefix.bytes().all(character)
    {
        return Err(misuse("sweep", "not a prefix of object keys"));
    }
    Ok(())
}

/// The error of a read beyond the end of an object: the caller took the length from a row, so one of the two is wrong.
pub(super) fn short_object(operation: &'static str) -> StoreError {
    StoreError::with_source(
        StoreErrorKind::Corrupt,
        operation,
        "the object is shorter than the range",
    )
}

/// A random name of 32 hexadecimal digits, for multipart uploads and ETags.
pub(super) fn random_name() -> String {
    hex::encode(super::Version::random().to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_never_leaves_the_store_nor_covers_all_of_it() {
        for good in ["a", "a/", "a/b-c_9", "a/b/"] {
            assert!(check_prefix(good).is_ok(), "{good}");
        }
        for bad in ["", "/", "/a", "a//b", "..", "a/..", "a/../b", "A", "a b", "a\0"] {
            assert!(check_prefix(bad).is_err(), "{bad}");
        }
    }
}
