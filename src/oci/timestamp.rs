//! Moments, as RFC 3339 writes them, to the millisecond.

use std::fmt;

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

/// A text is no moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a time as RFC 3339 has it is expected, such as 2026-01-31T12:00:00Z")]
pub struct TimestampError;

/// Where a moment between two milliseconds belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// To the earlier one.
    Down,
    /// To the later one.
    Up,
}

impl Timestamp {
    /// From milliseconds since the Unix epoch.
    #[must_use]
    pub fn from_ms(ms: u64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub fn as_ms(self) -> u64 {
        self.0
    }

    /// Reads a moment; one before the epoch is the epoch.
    ///
    /// # Errors
    /// [`TimestampError`] when the text isn't what RFC 3339 calls a date-time.
    pub fn parse(text: &str, rounding: Rounding) -> Result<Self, TimestampError> {
        const NANOS_PER_MS: i128 = 1_000_000;
        let moment = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| TimestampError)?;
        let nanos = moment.unix_timestamp_nanos().max(0);
        let rest = match rounding {
            Rounding::Down => 0,
            Rounding::Up => NANOS_PER_MS - 1,
        };
        // Years have four digits.
        Ok(Self(
            u64::try_from((nanos + rest) / NANOS_PER_MS).unwrap_or(u64::MAX),
        ))
    }
}

/// In UTC, always with three digits of the second's fraction: texts sort as moments do.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000);
        let Ok(moment) = moment else {
            // Beyond the year 9999 there is no such text.
            return f.write_str("9999-12-31T23:59:59.999Z");
        };
        let (year, month, day) = moment.to_calendar_date();
        let (hour, minute, second, ms) = moment.to_hms_milli();
        let month = u8::from(month);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_to_the_millisecond_and_written_back() {
        for (text, down, up, written) in [
            ("1970-01-01T00:00:00Z", 0, 0, "1970-01-01T00:00:00.000Z"),
            ("1969-12-31T23:00:00Z", 0, 0, "1970-01-01T00:00:00.000Z"),
            (
                "2026-11-28T02:12:34.567Z",
                1_795_831_954_567,
                1_795_831_954_567,
                "2026-11-28T02:12:34.567Z",
            ),
            (
                "2026-11-28t03:12:34.5675+01:00",
                1_795_831_954_567,
                1_795_831_954_568,
                "2026-11-28T02:12:34.567Z",
            ),
        ] {
            let read = |rounding| Timestamp::parse(text, rounding).unwrap().as_ms();
            assert_eq!((read(Rounding::Down), read(Rounding::Up)), (down, up), "{text}");
            assert_eq!(Timestamp::from_ms(down).to_string(), written);
        }
        for text in [
            "",
            "2026",
            "2026-11-28",
            "2026-11-28T02:12:34",
            "2026-13-28T02:12:34Z",
            "now",
        ] {
            assert_eq!(
                Timestamp::parse(text, Rounding::Up),
                Err(TimestampError),
                "{text}"
            );
        }
        assert_eq!(
            Timestamp::from_ms(u64::MAX).to_string(),
            "9999-12-31T23:59:59.999Z"
        );
    }
}
