//! How sizes, times and long texts are written for people.

use std::time::Duration;

use maud::{Markup, html};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::clock;

/// Characters of a text that others wrote and that is shown in a line.
const LINE: usize = 2000;

/// In the largest unit that leaves a number of at least one.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut amount, mut unit) = (bytes as f64, 0);
    while amount >= 1023.95 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && amount < 99.95);
    format!("{amount:.digits$} {}", UNITS[unit])
}

/// `1 tag`, `2 tags`.
pub(super) fn count(number: usize, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{ending}")
}

/// How long ago a moment in RFC 3339 was; the moment itself on pointing at it. Nothing of what is no moment, or the
/// beginning of time, by which zot says that there is none.
pub(super) fn ago(moment: &str) -> Option<Markup> {
    let when = OffsetDateTime::parse(moment, &Rfc3339).ok()?;
    if when.year() <= 1 {
        return None;
    }
    let then_ms = when.unix_timestamp_nanos() / 1_000_000;
    let seconds = (i128::from(clock::now_ms()) - then_ms) / 1000;
    Some(html! {
        time datetime=(moment) title=(moment) { (since(seconds)) }
    })
}

fn since(seconds: i128) -> String {
    let (amount, unit) = match seconds {
        i128::MIN..=-60 => return "in the future".to_owned(),
        -59..=59 => return "just now".to_owned(),
        60..3600 => (seconds / 60, "minute"),
        3600..86_400 => (seconds / 3600, "hour"),
        86_400..2_592_000 => (seconds / 86_400, "day"),
        2_592_000..31_536_000 => (seconds / 2_592_000, "month"),
        _ => (seconds / 31_536_000, "year"),
    };
    format!(
        "{} ago",
        count(usize::try_from(amount).unwrap_or(usize::MAX), unit)
    )
}

/// How long ago something was that people watch, of milliseconds.
pub(super) fn past(ms: u64) -> String {
    match ms / 1000 {
        seconds @ 0..60 => format!("{seconds} s ago"),
        seconds => since(i128::from(seconds)),
    }
}

/// In the largest unit of which it is a whole number.
pub(super) fn lasting(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [(86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")];
    let unit = units.into_iter().find(|(unit, _)| seconds.is_multiple_of(*unit));
    let (unit, name) = unit.unwrap_or((1, "second"));
    count(usize::try_from(seconds / unit).unwrap_or(usize::MAX), name)
}

/// A digest that is short to look at and whole to copy.
pub(super) fn short(digest: &str) -> String {
    match digest.split_once(':') {
        Some((algorithm, hex)) => format!("{algorithm}:{}", hex.get(..12).unwrap_or(hex)),
        None => clipped(digest),
    }
}

/// At most so much of a text as fits a line.
pub(super) fn clipped(text: &str) -> String {
    clipped_to(text, LINE)
}

/// At most `most` characters of a text.
pub(super) fn clipped_to(text: &str, most: usize) -> String {
    let mut clipped: String = text.chars().take(most).collect();
    if clipped.len() < text.len() {
        clipped.push('…');
    }
    clipped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_unit_that_people_read() {
        for (bytes, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (100 << 10, "100 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (3 << 30, "3.0 GiB"),
            (u64::MAX, "16384 PiB"),
        ] {
            assert_eq!(size(bytes), expected, "{bytes}");
        }
    }

    #[test]
    fn times_are_told_in_the_largest_unit_that_has_passed() {
        for (seconds, expected) in [
            (-3600, "in the future"),
            (0, "just now"),
            (60, "1 minute ago"),
            (7200, "2 hours ago"),
            (86_400 * 29, "29 days ago"),
            (86_400 * 400, "1 year ago"),
        ] {
            assert_eq!(since(seconds), expected, "{seconds}");
        }
        assert!(ago("0001-01-01T00:00:00Z").is_none() && ago("yesterday").is_none());
    }

    #[test]
    fn long_texts_and_digests_are_clipped_between_characters() {
        assert_eq!(clipped_to("äöü", 2), "äö…");
        assert_eq!(clipped_to("äöü", 3), "äöü");
        assert_eq!(short("sha256:0123456789abcdef"), "sha256:0123456789ab");
        assert_eq!(short("sha256:01"), "sha256:01");
    }
}
