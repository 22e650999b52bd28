//! `portolan fsck`.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use super::output;
use crate::{
    app::{self, FsckRun},
    causes, config,
    registry::FsckReport,
};

/// The stores couldn't be looked at.
pub(super) const CANT_LOOK: u8 = 2;

#[derive(Debug, Args)]
pub(super) struct FsckArgs {
    /// Configuration file, JSON or YAML
    config: PathBuf,
    /// Repair what can be, each by a transaction that expects what was read
    ///
    /// Content is never deleted at once: members delete what no row names `storage.trashDelay` later. What isn't of this registry is
    /// never touched.
    #[arg(long)]
    repair: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn fsck(args: &FsckArgs) -> ExitCode {
    match look(args).await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(said) => {
            output::complain(format_args!("portolan: {said}"));
            ExitCode::from(CANT_LOOK)
        }
    }
}

/// Gives how many faults are left.
async fn look(args: &FsckArgs) -> Result<u64, String> {
    let config = config::load(&args.config).map_err(|faults| faults.to_string())?;
    let tell = |what: &str, rows: u64, objects: u64| {
        output::draw(&format!("{what}: {rows} rows, {objects} objects"));
    };
    let run = FsckRun {
        repair: args.repair,
        tell: &tell,
    };
    let report = app::fsck(&config, &run, &config.limits).await;
    output::draw("");
    let report = report.map_err(|error| causes::in_a_line(&error))?;
    output::tell(said(&report, args.json)?).map_err(|error| causes::in_a_line(&error))?;
    Ok(report.left)
}

fn said(report: &FsckReport, json: bool) -> Result<String, String> {
    match json {
        true => serde_json::to_string_pretty(report).map_err(|error| error.to_string()),
        false => Ok(report.to_string()),
    }
}
