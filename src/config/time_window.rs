//! A part of each day.

use std::fmt;

const MINUTE_MS: u64 = 60_000;
const DAY: u16 = 24 * 60;

/// From one time of the day until another, in UTC: `HH:MM-HH:MM` (`storage.gcTimeWindow`, as in zot). One that ends before it
/// begins goes on over midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeWindow {
    /// Minutes since midnight: the first inside, and the first outside again.
    from: u16,
    until: u16,
}

impl TimeWindow {
    /// What `text` says, if it is of that form; both ends differ, or it would hold nothing.
    pub fn parse(text: &str) -> Option<Self> {
        let (from, until) = text.trim().split_once('-')?;
        let (from, until) = (minutes(from)?, minutes(until)?);
        (from != until).then_some(Self { from, until })
    }

    /// Whether this time, in milliseconds since the Unix epoch, lies inside.
    pub fn contains(self, now_ms: u64) -> bool {
        let minute = (now_ms / MINUTE_MS % u64::from(DAY)) as u16;
        if self.from < self.until {
            (self.from..self.until).contains(&minute)
        } else {
            minute >= self.from || minute < self.until
        }
    }
}

impl fmt::Display for TimeWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, until } = self;
        write!(
            f,
            "{:02}:{:02}-{:02}:{:02}",
            from / 60,
            from % 60,
            until / 60,
            until % 60
        )
    }
}

/// `HH:MM`, 00:00 to 23:59.
fn minutes(text: &str) -> Option<u16> {
    let (hours, minutes) = text.trim().split_once(':')?;
    let number = |text: &str, below: u16| {
        let is_number = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        let number: u16 = is_number.then(|| text.parse().ok()).flatten()?;
        (number < below).then_some(number)
    };
    Some(number(hours, 24)? * 60 + number(minutes, 60)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: u64, minutes: u64) -> u64 {
        // Some day.
        (20_000 * 24 * 60 + hours * 60 + minutes) * MINUTE_MS
    }

    #[test]
    fn it_holds_its_first_minute_and_not_its_last() {
        let window = TimeWindow::parse("02:00-05:30").unwrap();
        let inside = [at(2, 0), at(2, 0) + 59_999, at(5, 29)];
        assert!(inside.into_iter().all(|now_ms| window.contains(now_ms)));
        let outside = [at(1, 59), at(5, 30), at(14, 0), at(0, 0)];
        assert!(!outside.into_iter().any(|now_ms| window.contains(now_ms)));
    }

    #[test]
    fn it_may_go_over_midnight() {
        let window = TimeWindow::parse("22:00-06:00").unwrap();
        let inside = [at(22, 0), at(23, 59), at(0, 0), at(5, 59)];
        assert!(inside.into_iter().all(|now_ms| window.contains(now_ms)));
        assert!(!window.contains(at(6, 0)) && !window.contains(at(21, 59)));
        assert_eq!(window.to_string(), "22:00-06:00");
    }

    #[test]
    fn anything_else_is_none() {
        for text in [
            "",
            "2:00-05:00",
            "02:00",
            "02:00-24:00",
            "02:60-03:00",
            "02:00-02:00",
            "+2:00-05:00",
        ] {
            assert_eq!(TimeWindow::parse(text), None, "{text}");
        }
    }
}
