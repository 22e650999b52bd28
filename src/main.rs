//! The `portolan` command.

#![deny(clippy::print_stdout, clippy::print_stderr)]

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser as _;
use portolan::cli::Cli;

// Its settings are in `.cargo/config.toml`: memory that was used once goes back soon.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = writeln!(io::stderr(), "portolan: can't start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(cli.run());
    // What still runs was reported and is not waited for.
    runtime.shutdown_background();
    ended.unwrap_or_else(|error| {
        let error = portolan::causes::in_a_line(&error);
        let _ = writeln!(io::stderr(), "portolan: {error}");
        ExitCode::FAILURE
    })
}
