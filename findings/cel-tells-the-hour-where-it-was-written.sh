#!/usr/bin/env bash
# The crate cel says what hour it is by the offset that a timestamp was written with, not in UTC.
#
# A timestamp of the Common Expression Language is a moment, and its getHours() and sisters are in UTC unless they are told another
# zone (cel-spec, "Timezones"); so it is in cel-go. In the crate a timestamp keeps the offset of its text: two that are equal have
# another hour, day and weekday, and a rule such as "on weekdays, until 18 o'clock" holds for one of them alone. Who is moved from cel-go
# with such a rule should compare with moments that are written in UTC, or name the zone: getHours('UTC').
# With cel 0.15.0. Seen:
#   timestamp('2023-05-29T01:30:00+02:00') == timestamp('2023-05-28T23:30:00Z'): true
#   timestamp('2023-05-28T23:30:00Z').getHours(): 23
#   timestamp('2023-05-29T01:30:00+02:00').getHours(): 1
#   timestamp('2023-05-29T01:30:00+02:00').getDayOfWeek(): 1
#   timestamp('2023-05-29T01:30:00+02:00').getHours('UTC'): 23
# Exits with 0 as long as this is so. Needs cargo.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

mkdir src
cat >Cargo.toml <<'END'
[package]
name = "finding"
version = "0.0.0"
edition = "2021"
[dependencies]
cel = { version = "=0.15.0", default-features = false, features = ["chrono"] }
[workspace]
END
cat >src/main.rs <<'END'
use cel::{Context, Program};

fn main() {
    for text in [
        "timestamp('2023-05-29T01:30:00+02:00') == timestamp('2023-05-28T23:30:00Z')",
        "timestamp('2023-05-28T23:30:00Z').getHours()",
        "timestamp('2023-05-29T01:30:00+02:00').getHours()",
        "timestamp('2023-05-29T01:30:00+02:00').getDayOfWeek()",
        "timestamp('2023-05-29T01:30:00+02:00').getHours('UTC')",
    ] {
        let value = Program::compile(text).unwrap().execute(&Context::default()).unwrap();
        // Int(23), Bool(true)
        println!("{text}: {}", format!("{value:?}").split(['(', ')']).nth(1).unwrap());
    }
}
END
cargo run --quiet 2>cargo.log >seen || { cat cargo.log >&2; exit 1; }
cat seen
grep -qx "timestamp('2023-05-29T01:30:00+02:00') == .*: true" seen
grep -qx "timestamp('2023-05-28T23:30:00Z').getHours(): 23" seen
grep -qx "timestamp('2023-05-29T01:30:00+02:00').getHours(): 1" seen
grep -qx "timestamp('2023-05-29T01:30:00+02:00').getDayOfWeek(): 1" seen
grep -qx "timestamp('2023-05-29T01:30:00+02:00').getHours('UTC'): 23" seen
