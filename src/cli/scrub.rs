//! `portolan scrub`.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::json;

use super::{
    fsck::CANT_LOOK,
    output::{self, bytes as size},
};
use crate::{
    app::{self, CareError, ScrubRun},
    causes, config,
    registry::{Damaged, ScrubNews, ScrubSums},
};

#[derive(Debug, Args)]
pub(super) struct ScrubArgs {
    /// Configuration file, JSON or YAML
    config: PathBuf,
    /// MiB a second that are read, 32 if it isn't said; 0 is as fast as it goes
    #[arg(long, value_name = "MIB")]
    rate: Option<u32>,
    /// Print a line of JSON for whatever is damaged, and one for the sums
    #[arg(long)]
    json: bool,
}

pub(super) async fn scrub(args: &ScrubArgs) -> ExitCode {
    match read(args).await {
        Ok(code) => code,
        Err(said) => {
            output::complain(format_args!("portolan: {said}"));
            ExitCode::from(CANT_LOOK)
        }
    }
}

/// How far it is, drawn again and again on a terminal.
#[derive(Default)]
struct Seen {
    repositories: u64,
    sums: ScrubSums,
}

impl Seen {
    fn draw(&self) {
        let of = self.repositories;
        let done = output::bar(self.sums.repositories as f64 / of as f64);
        output::draw(&format!("{done} {}", line(&self.sums, Some(of))));
    }

    fn note(&mut self, news: &ScrubNews<'_>, as_json: bool) {
        match news {
            ScrubNews::Whole(bytes) => self.read(*bytes),
            ScrubNews::Damaged(damaged, bytes) => {
                self.read(*bytes);
                self.sums.damaged += 1;
                output::say(match as_json {
                    true => json!(damaged).to_string(),
                    false => said(damaged),
                });
            }
            ScrubNews::Unread(repository, digest, error) => {
                self.sums.unread += 1;
                let why = causes::in_a_line(*error);
                output::complain(format_args!(
                    "portolan: {digest} ({repository}) can't be read and is passed over: {why}"
                ));
            }
            ScrubNews::Repository => self.sums.repositories += 1,
        }
        self.draw();
    }

    fn read(&mut self, bytes: u64) {
        self.sums.read += 1;
        self.sums.bytes += bytes;
    }
}

async fn read(args: &ScrubArgs) -> Result<ExitCode, String> {
    let config = config::load(&args.config).map_err(|faults| faults.to_string())?;
    let seen = Mutex::new(Seen::default());
    let run = ScrubRun {
        bytes_per_second: args
            .rate
            .map_or(config.limits.scrub.bytes_per_second, |mib| u64::from(mib) << 20),
        begins: &|repositories, before| {
            let mut seen = seen.lock();
            if before.is_some() {
                output::complain("portolan: it goes on from where an earlier run ended");
            }
            (seen.repositories, seen.sums) = (repositories, before.unwrap_or_default());
            seen.draw();
        },
        tell: &|news| seen.lock().note(&news, args.json),
    };
    let scrubbed = app::scrub(&config, &run, &config.limits).await;
    output::draw("");
    let (sums, stopped) = match scrubbed {
        Ok((sums, true)) => (sums, None),
        Ok((sums, false)) => (sums, Some("it was ended".to_owned())),
        Err(CareError::Look(error)) => (seen.lock().sums, Some(causes::in_a_line(&error))),
        Err(error) => return Err(causes::in_a_line(&error)),
    };
    let told = match args.json {
        true => json!(Told {
            sums,
            over: stopped.is_none()
        })
        .to_string(),
        false => line(&sums, None),
    };
    output::tell(told).map_err(|error| causes::in_a_line(&error))?;
    if let Some(why) = &stopped {
        output::complain(format_args!("portolan: {why}; the next run goes on from there"));
    }
    Ok(match (sums.damaged + sums.unread, stopped) {
        (1.., _) => ExitCode::FAILURE,
        (0, Some(_)) => ExitCode::from(CANT_LOOK),
        (0, None) => ExitCode::SUCCESS,
    })
}

fn line(sums: &ScrubSums, of: Option<u64>) -> String {
    let ScrubSums {
        repositories,
        read,
        bytes,
        damaged,
        unread,
    } = sums;
    let of = of.map(|of| format!(" of {of}")).unwrap_or_default();
    let unread = match unread {
        0 => String::new(),
        unread => format!(", {unread} couldn't be read"),
    };
    format!(
        "{repositories}{of} repositories, {read} blobs and manifests, {}: {damaged} damaged{unread}",
        size(*bytes)
    )
}

/// The sums for programs.
#[derive(Serialize)]
struct Told {
    #[serde(flatten)]
    sums: ScrubSums,
    over: bool,
}

fn said(damaged: &Damaged) -> String {
    let (Damaged { digest, damage, .. }, [repositories, tags]) = (damaged, damaged.names(", "));
    let tags = if tags.is_empty() { "no tag" } else { &tags };
    format!("{digest} {damage}: push it again ({repositories}; {tags})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        oci::{Algorithm, Digest},
        registry::Damage,
    };

    #[test]
    fn what_is_damaged_is_said_with_its_digest_repositories_and_tags() {
        let digest = Digest::of(Algorithm::Sha256, b"layer");
        let damaged = Damaged {
            digest: digest.clone(),
            damage: Damage::Bytes,
            repositories: vec!["a".parse().unwrap(), "b/c".parse().unwrap()],
            tags: vec!["v1".parse().unwrap()],
        };
        assert_eq!(
            said(&damaged),
            format!("{digest} has other bytes than were written: push it again (a, b/c; v1)")
        );
        let expected = json!({
            "digest": digest.as_str(),
            "damage": "has other bytes than were written",
            "repositories": ["a", "b/c"],
            "tags": ["v1"],
        });
        assert_eq!(json!(damaged), expected);
        let sums = ScrubSums {
            repositories: 3,
            read: 8,
            bytes: 3 << 20,
            damaged: 1,
            unread: 0,
        };
        assert_eq!(
            line(&sums, Some(12)),
            "3 of 12 repositories, 8 blobs and manifests, 3.0 MiB: 1 damaged"
        );
    }
}
