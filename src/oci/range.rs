//! Byte ranges: of a blob that is read (`Range`), and of a chunk that is sent (`Content-Range`).
//!
//! Several ranges in one header are what podman's partial pulls and the stargz snapshotter ask for.

use http::{HeaderMap, header};

/// The most ranges of one header; a header with more is ignored. As many as podman asks for at most.
pub const MAX_RANGES: usize = 1024;

/// A `Range` header of bytes, not yet held against a size: at least one range, at most [`MAX_RANGES`], in the order they
/// were asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByteRanges(Vec<ByteRange>);

/// One range of a `Range` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ByteRange {
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

impl ByteRanges {
    /// Reads a `Range` header (RFC 9110, 14.2). `None` means that the header is ignored and the whole body served: another
    /// unit than bytes, or more than [`MAX_RANGES`].
    ///
    /// # Errors
    /// [`RangeError::Range`] for ranges of bytes of which one doesn't follow the grammar.
    pub fn parse(header: &str) -> Result<Option<Self>, RangeError> {
        let (unit, ranges) = header.split_once('=').ok_or(RangeError::Range)?;
        if !unit.trim_ascii().eq_ignore_ascii_case("bytes") {
            return Ok(None);
        }
        // A list may have empty elements (RFC 9110, 5.6.1).
        let texts = ranges
            .split(',')
            .map(str::trim_ascii)
            .filter(|text| !text.is_empty());
        let ranges: Vec<ByteRange> = texts
            .take(MAX_RANGES + 1)
            .map(ByteRange::parse)
            .collect::<Result<_, _>>()?;
        match ranges.len() {
            0 => Err(RangeError::Range),
            1..=MAX_RANGES => Ok(Some(Self(ranges))),
            _ => Ok(None),
        }
    }

    /// The parts of a body of `size` bytes that are asked for, no two of which overlap. They stand in the order in which
    /// they were asked for; ranges that overlap are one, in the place of the first of them. Those that merely touch stay
    /// apart: clients count the parts that they asked for.
    ///
    /// # Errors
    /// [`Unsatisfiable`] when that is nothing.
    pub fn resolve(&self, size: u64) -> Result<Vec<ResolvedRange>, Unsatisfiable> {
        let within = self.0.iter().filter_map(|range| range.resolve(size).ok());
        let mut by_place: Vec<(usize, ResolvedRange)> = within.enumerate().collect();
        by_place.sort_by_key(|(_, range)| range.first);
        let mut apart: Vec<(usize, ResolvedRange)> = Vec::new();
        for (asked, range) in by_place {
            match apart.last_mut() {
                Some((first_asked, before)) if range.first <= before.last => {
                    before.last = before.last.max(range.last);
                    *first_asked = asked.min(*first_asked);
                }
                Some(_) | None => apart.push((asked, range)),
            }
        }
        apart.sort_by_key(|(asked, _)| *asked);
        match apart.is_empty() {
            true => Err(Unsatisfiable { size }),
            false => Ok(apart.into_iter().map(|(_, range)| range).collect()),
        }
    }

    /// Whether some range is open at its end (`first-`).
    fn is_open(&self) -> bool {
        self.0.iter().any(|range| matches!(range, ByteRange::From { .. }))
    }
}

/// Whether a request asks for all of something from some byte on. Clients that fetch a blob in pieces, several at a time, ask
/// so and leave when they have their piece: containerd does.
#[must_use]
pub fn leaves_open(headers: &HeaderMap) -> bool {
    let range = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
    let ranges = range.and_then(|range| ByteRanges::parse(range).ok().flatten());
    ranges.is_some_and(|ranges| ranges.is_open())
}

impl ByteRange {
    fn parse(text: &str) -> Result<Self, RangeError> {
        let (first, last) = text.split_once('-').ok_or(RangeError::Range)?;
        Ok(match (first, last) {
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
        })
    }

    /// The part of a body of `size` bytes that the range covers, if it is any.
    fn resolve(self, size: u64) -> Result<ResolvedRange, Unsatisfiable> {
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

    fn resolved(header: &str, size: u64) -> Result<Vec<(u64, u64)>, Unsatisfiable> {
        let ranges = ByteRanges::parse(header).unwrap().unwrap();
        let resolved = ranges.resolve(size)?;
        Ok(resolved
            .into_iter()
            .map(|range| (range.first, range.last))
            .collect())
    }

    #[test]
    fn the_three_forms_resolve_within_the_body() {
        for (header, expected) in [
            ("bytes=0-0", (0, 0)),
            ("bytes=2-5", (2, 5)),
            ("bytes=2-50", (2, 9)),
            ("bytes=2-", (2, 9)),
            ("bytes=-3", (7, 9)),
            ("bytes=-30", (0, 9)),
            ("Bytes= 9-9 ", (9, 9)),
            ("bytes=,2-5,, ", (2, 5)),
            ("bytes=0-99999999999999999999999", (0, 9)),
        ] {
            assert_eq!(resolved(header, 10), Ok(vec![expected]), "{header}");
        }
        assert_eq!(ResolvedRange { first: 2, last: 5 }.len(), 4);
    }

    #[test]
    fn several_ranges_stay_in_their_order_and_those_that_overlap_are_one() {
        for (header, expected) in [
            ("bytes=5-6,0-1", vec![(5, 6), (0, 1)]),
            ("bytes=0-1 , 2-3", vec![(0, 1), (2, 3)]),
            ("bytes=0-2,2-3", vec![(0, 3)]),
            ("bytes=8-,0-1,-1", vec![(8, 9), (0, 1)]),
            ("bytes=6-7,0-1,5-8,7-", vec![(5, 9), (0, 1)]),
            ("bytes=2-3,0-5,3-3", vec![(0, 5)]),
            ("bytes=4-4,20-30", vec![(4, 4)]),
        ] {
            assert_eq!(resolved(header, 10), Ok(expected), "{header}");
        }
    }

    #[test]
    fn a_range_beyond_the_body_is_unsatisfiable() {
        for header in [
            "bytes=10-",
            "bytes=10-20",
            "bytes=-0",
            "bytes=10-,-0,11-12",
            "bytes=99999999999999999999999-",
        ] {
            assert_eq!(resolved(header, 10), Err(Unsatisfiable { size: 10 }), "{header}");
        }
        for header in ["bytes=0-", "bytes=0-0", "bytes=-1"] {
            assert_eq!(resolved(header, 0), Err(Unsatisfiable { size: 0 }), "{header}");
        }
    }

    #[test]
    fn other_units_and_more_ranges_than_are_served_are_ignored() {
        let many = |count: usize| format!("bytes={}", vec!["0-1"; count].join(","));
        assert!(ByteRanges::parse(&many(MAX_RANGES)).unwrap().is_some());
        for header in ["items=0-1", "lines=x", &many(MAX_RANGES + 1)] {
            assert_eq!(ByteRanges::parse(header), Ok(None), "{header}");
        }
    }

    #[test]
    fn a_range_without_an_end_is_open() {
        for (header, is_open) in [
            ("bytes=5-", true),
            ("bytes=0-1,5-", true),
            ("bytes=0-1", false),
            ("bytes=-5", false),
        ] {
            assert_eq!(
                ByteRanges::parse(header).unwrap().unwrap().is_open(),
                is_open,
                "{header}"
            );
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
            "bytes=,",
            "bytes=0-1,x",
            "bytes=0-1;3-4",
        ] {
            assert_eq!(ByteRanges::parse(header), Err(RangeError::Range), "{header}");
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
        fn resolved_ranges_lie_within_the_body_and_apart(
            header in "bytes=[0-9]{0,21}-[0-9]{0,21}(,[0-9]{0,2}-[0-9]{0,2}){0,8}",
            size in prop_oneof![any::<u64>(), 0..200_u64],
        ) {
            if let Ok(Some(ranges)) = ByteRanges::parse(&header)
                && let Ok(parts) = ranges.resolve(size)
            {
                prop_assert!(!parts.is_empty());
                prop_assert!(parts.iter().all(|part| part.first <= part.last && part.last < size));
                prop_assert!(parts.iter().map(|part| part.len()).sum::<u64>() <= size);
                for (n, part) in parts.iter().enumerate() {
                    prop_assert!(parts[..n].iter().all(|other| part.last < other.first || other.last < part.first));
                }
                // Every byte of the first hundred is there exactly if somebody asked for it.
                for at in 0..size.min(100) {
                    let is_asked = ranges.0.iter().any(|range| {
                        range.resolve(size).is_ok_and(|range| range.first <= at && at <= range.last)
                    });
                    prop_assert_eq!(parts.iter().any(|part| part.first <= at && at <= part.last), is_asked);
                }
            }
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in ".{0,60}", near in "[bytes 0-9=,/*-]{0,30}") {
            for text in [text, near] {
                let _ = ByteRanges::parse(&text);
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
