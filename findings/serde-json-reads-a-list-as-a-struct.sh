#!/usr/bin/env bash
# serde_json reads the list ["x", ["read"]] as a struct with named fields, also where unknown fields are denied.
#
# serde_json 1.0.145 with serde 1.0.228. What `#[derive(Deserialize)]` makes of a struct takes a map or a sequence, since
# compact formats write structs as sequences, and serde_json offers it a list as one. `deny_unknown_fields` bounds the names
# of a map and says nothing about lists; with `default` on the fields even `[]` is a value. So a server that expects
# {"label": ..., "scopes": [...]} and denies what it doesn't know takes `[]` for a request without any bound. Seen:
#   {"label":"x","scope":["read"]}: refused: unknown field `scope`, expected `label` or `scopes` at line 1 column 20
#   {}: Wish { label: "", scopes: [] }
#   []: Wish { label: "", scopes: [] }
#   ["x",["read"]]: Wish { label: "x", scopes: ["read"] }
# Exits with 0 as long as the lists are read. Needs cargo.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

mkdir src
cat >Cargo.toml <<'END'
[package]
name = "list"
version = "0.0.0"
edition = "2021"

[dependencies]
serde = { version = "=1.0.228", features = ["derive"] }
serde_json = "=1.0.145"
END
cat >src/main.rs <<'END'
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Wish {
    #[serde(default)]
    label: String,
    #[serde(default)]
    scopes: Vec<String>,
}

fn main() {
    for text in [r#"{"label":"x","scope":["read"]}"#, "{}", "[]", r#"["x",["read"]]"#] {
        match serde_json::from_str::<Wish>(text) {
            Ok(wish) => println!("{text}: {wish:?}"),
            Err(error) => println!("{text}: refused: {error}"),
        }
    }
}
END
cargo run --quiet 2>cargo.log >seen || { cat cargo.log >&2; exit 1; }
cat seen
grep -qF '"scope":["read"]}: refused: unknown field' seen
grep -qxF '[]: Wish { label: "", scopes: [] }' seen
grep -qxF '["x",["read"]]: Wish { label: "x", scopes: ["read"] }' seen
