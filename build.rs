//! Compiles `proto/` with protox, a protobuf compiler in Rust: no `protoc` is needed on the machine.

use std::{env, error::Error, fs, path::PathBuf, process::Command};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=.git/HEAD");
    println!("cargo:rustc-env=PORTOLAN_COMMIT={}", commit());

    let files = ["portolan/mesh/v1/mesh.proto", "portolan/store/v1/store.proto"];
    let descriptors = protox::compile(files, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // Server reflection answers from this file.
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}

/// The commit this binary was built from, for `--version`; "unknown" outside a git checkout.
fn commit() -> String {
    Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output()
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .map_or_else(|| "unknown".to_owned(), |commit| commit.trim().to_owned())
}
