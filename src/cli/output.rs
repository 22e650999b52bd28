//! What commands say: what was asked for on standard output; complaints, and how far it is, on standard error.
//!
//! Whoever reads along may have seen enough (`| head`): then the work goes on unheard, and nobody panics as `println!` does.

use std::{
    fmt::Display,
    io::{self, IsTerminal as _, Write as _},
};

/// Characters of a bar.
const BAR: usize = 24;

/// What was asked for can't be written, as on a full disk.
#[derive(Debug, thiserror::Error)]
#[error("standard output can't be written")]
pub struct OutputError(#[source] io::Error);

/// Writes what was asked for.
pub(super) fn put(text: impl Display) -> Result<(), OutputError> {
    match write!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(OutputError(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes a line of what was asked for.
pub(super) fn tell(line: impl Display) -> Result<(), OutputError> {
    put(format_args!("{line}\n"))
}

/// Says what was done of a work that goes on, whether that is heard or not.
pub(super) fn say(line: impl Display) {
    draw("");
    let _ = tell(line);
}

/// Says what went wrong, or what it came to. There is nobody to tell that it can't be said.
pub(super) fn complain(line: impl Display) {
    draw("");
    let _ = writeln!(io::stderr(), "{line}");
}

/// Whether somebody may see how far it is.
pub(super) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// Puts this in place of what was drawn before, on a terminal (ECMA-48: to the begin of the line, and what stood there goes).
pub(super) fn draw(line: &str) {
    if is_watched() {
        let _ = write!(io::stderr(), "\r\u{1b}[K{line}");
    }
}

/// How much is done, from 0 to 1.
pub(super) fn bar(done: f64) -> String {
    let full = (done.clamp(0.0, 1.0) * BAR as f64) as usize;
    format!("[{}{}]", "=".repeat(full), " ".repeat(BAR - full))
}

/// Bytes, as people say them (IEC 80000-13).
pub(super) fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return match unit {
                "B" => format!("{bytes} B"),
                unit => format!("{value:.1} {unit}"),
            };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_for_people() {
        for (count, told) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (5 << 40, "5.0 TiB"),
            (u64::MAX, "16777216.0 TiB"),
        ] {
            assert_eq!(bytes(count), told);
        }
    }

    #[test]
    fn a_bar_is_as_long_as_ever() {
        for (done, full) in [(0.0, 0), (0.5, 12), (1.0, 24), (1.5, 24), (f64::NAN, 0)] {
            let bar = bar(done);
            assert_eq!(bar.len(), 26);
            assert_eq!(bar.matches('=').count(), full, "{done}");
        }
    }
}
