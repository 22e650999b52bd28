# The commands of a day's work; `just` lists them. Each is a line one can also type.

[private]
default:
    @just --list --unsorted

# Three members on this machine, the way to try a change by hand
dev *arguments:
    cargo run -- dev {{ arguments }}

# The quick round: formatting, lints and the Rust tests
quick:
    cargo fmt --check
    cargo clippy --all-targets -- -D warnings
    cargo test

# Everything CI runs
check:
    .ci/run

# The tests, or the stages named; everything for all there are: see the head of tests/run
test *stages:
    tests/run {{ stages }}

# The official suite, or a part of it: 1.1, dev, owner, non-owner, two-owners, alternating
conformance *part:
    cargo build
    tests/conformance.sh {{ part }}

# Format Rust
fmt:
    cargo fmt

# The documentation, private items too
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items --open

# Licences, sources and banned crates of what we depend on; needs cargo-deny
deny:
    cargo deny check bans licenses sources
