#!/usr/bin/env bash
# A JSON list is a struct to serde_json, if its items fit the fields in their order.
#
# #[derive(Deserialize)] makes a struct that formats without names can read, too, as a sequence; and serde_json, which has names,
# hands it lists. So a parser of manifests in Rust takes ["application/x","sha256:...",7] for a descriptor, which every other
# client refuses, and deny_unknown_fields doesn't help. Only reading the fields by a visitor of one's own does. Seen with serde
# 1.0.228 and serde_json 1.0.145:
#   ["application/x","sha256:abc",7] is Descriptor { media_type: "application/x", digest: "sha256:abc", size: 7 }
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
serde = { version = "=1.0.228", features = ["derive"] }
serde_json = "=1.0.145"

[workspace]
END
cat >src/main.rs <<'END'
#[derive(serde::Deserialize, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(dead_code)]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
}

fn main() {
    let document = r#"["application/x","sha256:abc",7]"#;
    let descriptor: Descriptor = serde_json::from_str(document).unwrap();
    println!("{document} is {descriptor:?}");
}
END
seen=$(cargo run --quiet 2>/dev/null)
echo "$seen"
[ "$seen" = '["application/x","sha256:abc",7] is Descriptor { media_type: "application/x", digest: "sha256:abc", size: 7 }' ]
