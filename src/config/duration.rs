//! Durations as zot writes them: Go's notation, `1h30m`, `1.5s`, `500ms`.

use std::time::Duration;

const NANOS_PER_SECOND: f64 = 1e9;

/// Parses Go's notation. Zero and less, by which zot means "none", are `Some(None)`; nonsense is `None`.
pub(crate) fn parse(text: &str) -> Option<Option<Duration>> {
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    if unsigned == "0" {
        return Some(None);
    }
    let mut rest = unsigned;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .filter(|end| *end > 0)?;
        let (number, after) = rest.split_at(digits);
        let unit = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        seconds += number.parse::<f64>().ok()? * unit_seconds(unit)?;
        rest = after;
    }
    if unsigned.is_empty() {
        return None;
    }
    if negative || seconds <= 0.0 {
        return Some(None);
    }
    Duration::try_from_secs_f64(seconds).ok().map(Some)
}

/// A bare number, which Go takes for nanoseconds. Fewer than a millisecond are nobody's intention.
pub(crate) fn from_nanos(nanos: i64) -> Option<Option<Duration>> {
    match u64::try_from(nanos) {
        Err(_) | Ok(0) => Some(None),
        Ok(nanos) if nanos < 1_000_000 => None,
        Ok(nanos) => Some(Some(Duration::from_nanos(nanos))),
    }
}

fn unit_seconds(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1.0 / NANOS_PER_SECOND,
        "us" | "µs" | "μs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_notation_is_read() {
        let secs = |text| parse(text).flatten().map(|d| d.as_secs_f64());
        assert_eq!(secs("60s"), Some(60.0));
        assert_eq!(secs("1h30m"), Some(5400.0));
        assert_eq!(secs("1.5s"), Some(1.5));
        assert_eq!(secs("+250ms"), Some(0.25));
        assert_eq!(parse("0"), Some(None));
        assert_eq!(parse("0s"), Some(None));
        assert_eq!(parse("-1s"), Some(None));
        for wrong in [
            "",
            "-",
            "5",
            "s",
            "1x",
            "1h30",
            "1 h",
            "..s",
            "1d",
            "999999999999999999999h",
        ] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_bare_number_is_nanoseconds_and_hardly_ever_meant() {
        assert_eq!(from_nanos(60_000_000_000), Some(Some(Duration::from_secs(60))));
        assert_eq!(from_nanos(0), Some(None));
        assert_eq!(from_nanos(-5), Some(None));
        assert_eq!(from_nanos(60), None);
    }
}
