//! Byte ranges: of a blob that is read (`Range`), and of a chunk that is sent (`Content-Range`).
//!
//! Deliberately absent: several ranges in one request. RFC 9110 lets a server ignore them, and no registry client asks.

/// One range of a `Range` header, not yet held against a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// `first-last`, both included.
    Closed {
        /// The first byte.
        first: u64,
        /// The last byte, not before the first.
        last: u64,
    },
    /// `first-`: all from this byte on.
    From {
        /// The first byte.
        first: u64,
    },
    /// `-length`: the end.
    Suffix {
        /// How many bytes of the end.
        length: u64,
    },
}

/// A range that lies within a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResolvedRange {
    /// The first byte.
    pub first: u64,
    /// The last byte, included.
    pub last: u64,
}

/// The text is not a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// A `Range` of bytes that isn't one.
    #[error(
        "a range is expected: 'bytes=first-last', 'bytes=first-' or 'bytes=-length', first not after last"
    )]
    Range,
    /// A chunk's `Content-Range` that isn't one.
    #[error("a range is expected: 'first-last', both included, first not after last")]
    ChunkRange,
}

/// No byte of the body is in the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the range begins after the last of {size} bytes")]
pub struct Unsatisfiable {
    /// How long the body is.
    pub size: u64,
}

impl ByteRange {
    /// Reads a `Range` header. `None` means that the header is ignored and the whole body served: another unit than
    /// bytes, or several ranges.
    ///
    /// # Errors
    /// [`RangeError::Range`] for one range of bytes that doesn't follow the grammar.
    pub fn parse(header: &str) -> Result<Option<Self>, RangeError> {
        let (unit, ranges) = header.split_once('=').ok_or(RangeError::Range)?;
        if !unit.trim_ascii().eq_ignore_ascii_case("bytes") || ranges.contains(',') {
            return Ok(None);
        }
        let (first, last) = ranges.trim_ascii().split_once('-').ok_or(RangeError::Range)?;
        let range = match (first, last) {
            ("", length) => Self::Suffix {
                length: number(length).ok_or(RangeError::Range)?,
            },
            (first, "") => Self::From {
                first: number(first).ok_or(RangeError::Range)?,
            },
            (first, last) => {
                let (first, last) = ordered(first, last).ok_or(RangeError::Range)?;
                Self::Closed { first, last }
            }
        };
        Ok(Some(range))
    }

    /// The part of a body of `size` bytes that the range covers.
    ///
    /// # Errors
    /// [`Unsatisfiable`] when that is nothing.
    pub fn resolve(self, size: u64) -> Result<ResolvedRange, Unsatisfiable> {
        let end = size.checked_sub(1).ok_or(Unsatisfiable { size })?;
        let (first, last) = match self {
            Self::Closed { first, last } => (first, last.min(end)),
            Self::From { first } => (first, end),
            Self::Suffix { length } => (size.saturating_sub(length), end),
        };
        if first <= last {
            Ok(ResolvedRange { first, last })
        } else {
            Err(Unsatisfiable { size })
        }
    }
}

impl ResolvedRange {
    /// How many bytes the range covers.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a range covers at least one byte")]
    pub fn len(self) -> u64 {
        length(self.first, self.last)
    }
}

/// Where the bytes of a chunk belong in the upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkRange {
    /// The offset of the chunk's first byte.
    pub first: u64,
    /// The offset of its last byte, included.
    pub last: u64,
}

impl ChunkRange {
    /// Reads a chunk's `Content-Range`: `first-last` as the specification has it. RFC 9110's form,
    /// `bytes first-last/total` or `/*`, which some clients send, is understood too.
    ///
    /// # Errors
    /// [`RangeError::ChunkRange`] when it is neither.
    pub fn parse(header: &str) -> Result<Self, RangeError> {
        let range = header.trim_ascii();
        let range = match range.split_once(' ') {
            Some((unit, rest)) if unit.eq_ignore_ascii_case("bytes") => {
                let (range, total) = rest.trim_ascii().split_once('/').ok_or(RangeError::ChunkRange)?;
                if total != "*" && number(total).is_none() {
                    return Err(RangeError::ChunkRange);
                }
                range
            }
            _ => range,
        };
        let (first, last) = range
            .split_once('-')
            .and_then(|(first, last)| ordered(first, last))
            .ok_or(RangeError::ChunkRange)?;
        Ok(Self { first, last })
    }

    /// How many bytes the chunk must have.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a range covers at least one byte")]
    pub fn len(self) -> u64 {
        length(self.first, self.last)
    }
}

fn length(first: u64, last: u64) -> u64 {
    last.saturating_sub(first).saturating_add(1)
}

/// Digits, of any number: what doesn't fit lies beyond every body anyway.
fn number(digits: &str) -> Option<u64> {
    let all_digits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    all_digits.then(|| digits.parse().unwrap_or(u64::MAX))
}

fn ordered(first: &str, last: &str) -> Option<(u64, u64)> {
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn resolved(header: &str, size: u64) -> Result<(u64, u64), Unsatisfiable> {
        let range = ByteRange::parse(header).unwrap().unwrap();
        range.resolve(size).map(|range| (range.first, range.last))
    }

    #[test]
    fn the_three_forms_resolve_within_the_body() {
        assert_eq!(resolved("bytes=0-0", 10), Ok((0, 0)));
        assert_eq!(resolved("bytes=2-5", 10), Ok((2, 5)));
        assert_eq!(resolved("bytes=2-50", 10), Ok((2, 9)));
        assert_eq!(resolved("bytes=2-", 10), Ok((2, 9)));
        assert_eq!(resolved("bytes=-3", 10), Ok((7, 9)));
        assert_eq!(resolved("bytes=-30", 10), Ok((0, 9)));
        assert_eq!(resolved("Bytes= 9-9 ", 10), Ok((9, 9)));
        assert_eq!(resolved("bytes=0-99999999999999999999999", 10), Ok((0, 9)));
        assert_eq!(ResolvedRange { first: 2, last: 5 }.len(), 4);
    }

    #[test]
    fn a_range_beyond_the_body_is_unsatisfiable() {
        for header in [
            "bytes=10-",
            "bytes=10-20",
            "bytes=-0",
            "bytes=99999999999999999999999-",
        ] {
            assert_eq!(resolved(header, 10), Err(Unsatisfiable { size: 10 }), "{header}");
        }
        for header in ["bytes=0-", "bytes=0-0", "bytes=-1"] {
            assert_eq!(resolved(header, 0), Err(Unsatisfiable { size: 0 }), "{header}");
        }
    }

    #[test]
    fn several_ranges_and_other_units_are_ignored() {
        for header in ["bytes=0-1,3-4", "bytes=0-1,", "items=0-1", "lines=x"] {
            assert_eq!(ByteRange::parse(header), Ok(None), "{header}");
        }
    }

    #[test]
    fn a_malformed_range_is_refused() {
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=5-2",
            "bytes=1--2",
            "bytes=+1-2",
        ] {
            assert_eq!(ByteRange::parse(header), Err(RangeError::Range), "{header}");
        }
    }

    #[test]
    fn a_chunk_range_is_read_in_both_forms() {
        for header in ["5-9", "bytes 5-9/10", "bytes 5-9/*", " 5-9 "] {
            let range = ChunkRange::parse(header).unwrap();
            assert_eq!(
                (range, range.len()),
                (ChunkRange { first: 5, last: 9 }, 5),
                "{header}"
            );
        }
        for header in [
            "",
            "-",
            "5-",
            "-9",
            "9-5",
            "bytes=5-9",
            "bytes 5-9",
            "bytes */10",
            "5-9/10",
            "5-9-",
            "+5-9",
        ] {
            assert_eq!(ChunkRange::parse(header), Err(RangeError::ChunkRange), "{header}");
        }
    }

    proptest! {
        #[test]
        fn a_resolved_range_lies_within_the_body(header in "bytes=[0-9]{0,21}-[0-9]{0,21}", size: u64) {
            if let Ok(Some(range)) = ByteRange::parse(&header)
                && let Ok(range) = range.resolve(size)
            {
                prop_assert!(range.first <= range.last && range.last < size);
                prop_assert!(range.len() <= size);
            }
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in ".{0,60}", near in "[bytes 0-9=,/*-]{0,30}") {
            for text in [text, near] {
                let _ = ByteRange::parse(&text);
                let _ = ChunkRange::parse(&text).map(ChunkRange::len);
            }
        }

        #[test]
        fn a_chunk_range_reads_back(first in 0..u64::MAX / 2, length in 1..u64::MAX / 2) {
            let last = first + length - 1;
            let range = ChunkRange::parse(&format!("{first}-{last}")).unwrap();
            prop_assert_eq!((range.first, range.last, range.len()), (first, last, length));
        }
    }
}
