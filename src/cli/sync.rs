//! `sync`: how mirroring ahead of time and replication go, as any member knows it, and to have them go on now.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::Value;

use super::{
    CliError, output,
    past::{Member, Server},
};

const PATH: &str = "/v2/_portolan/mirror";
const NOW: &str = "/v2/_portolan/mirror/now";
const RETRY: &str = "/v2/_portolan/mirror/retry";

#[derive(Debug, Subcommand)]
pub(super) enum SyncCommand {
    /// Tell of each rule with pollInterval what was visited and what came of it, of each registry that gets changes what it lacks, and what went wrong
    ///
    /// For whoever may see metrics. Exits with 1 if something went wrong the last time, else with 0.
    #[command(after_help = "Examples:
  portolan sync status
  portolan sync status --json --server https://registry.example.org --user alice")]
    Status(StatusArgs),
    /// Mirror what rules with pollInterval name now, without waiting for the next round
    ///
    /// The members whose work it is begin within seconds, or when they have ended the visit that they are at; `sync status` tells how it
    /// goes. For administrators: it takes `update` in `adminPolicy`.
    #[command(after_help = "Examples:
  portolan sync now
  portolan sync now quay.io
  portolan sync now quay.io/prometheus/prometheus")]
    Now(NowArgs),
    /// Try now what failed: tags that couldn't be mirrored, changes that another registry didn't take, repositories that are behind
    ///
    /// The members whose work it is begin within seconds; `sync status` tells how it goes. For administrators: it takes `update` in
    /// `adminPolicy`.
    #[command(after_help = "Examples:
  portolan sync retry --server https://registry.example.org --user alice")]
    Retry(RetryArgs),
}

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Args)]
pub(super) struct NowArgs {
    /// The host of a registry that is mirrored, or a repository here; without it everything
    #[arg(value_name = "REGISTRY or REPOSITORY")]
    of: Option<String>,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Args)]
pub(super) struct RetryArgs {
    #[command(flatten)]
    server: Server,
}

impl SyncCommand {
    pub(super) async fn run(&self) -> Result<ExitCode, CliError> {
        match self {
            Self::Status(StatusArgs { server }) => status(server).await,
            Self::Now(NowArgs { of, server }) => {
                let query: Vec<_> = of.iter().map(|of| ("of", of.clone())).collect();
                order(server, NOW, &query, "a round begins").await
            }
            Self::Retry(RetryArgs { server }) => {
                order(server, RETRY, &[], "what failed is tried again").await
            }
        }
    }
}

async fn status(server: &Server) -> Result<ExitCode, CliError> {
    let member = Member::of(server)?;
    let told = member.ask(Method::GET, PATH, &[]).await?;
    let list = |key: &str| told[key].as_array().ok_or_else(|| member.not_understood());
    let (rules, registries) = (list("rules")?, list("registries")?);
    if member.is_json() {
        output::tell(format_args!("{told:#}"))?;
    } else {
        let registries = registries.iter().flat_map(lines_of_registry);
        for line in rules.iter().flat_map(lines).chain(registries) {
            output::tell(line)?;
        }
    }
    let is_well = rules.iter().all(is_well) && registries.iter().all(|registry| registry["behind"] == 0);
    Ok(match is_well {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Has something done, and tells of each registry that it is.
async fn order(
    server: &Server,
    path: &str,
    query: &[(&str, String)],
    done: &str,
) -> Result<ExitCode, CliError> {
    let member = Member::of(server)?;
    let told = member.ask(Method::POST, path, query).await?;
    let ordered = told["ordered"]
        .as_array()
        .ok_or_else(|| member.not_understood())?;
    if member.is_json() {
        output::tell(format_args!("{told:#}"))?;
        return Ok(ExitCode::SUCCESS);
    }
    for one in ordered {
        let registry = one["registry"].as_str().unwrap_or("-");
        match one["repository"].as_str() {
            Some(repository) => output::tell(format_args!("{registry}: {repository} is visited"))?,
            None => output::tell(format_args!("{registry}: {done}"))?,
        }
    }
    if ordered.is_empty() {
        output::tell("nothing is mirrored ahead of time, nor replicated")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What went wrong is told only of repositories that may be read, but it is counted.
fn is_well(rule: &Value) -> bool {
    rule["failed"] == 0 && rule["troubles"].as_array().is_none_or(Vec::is_empty)
}

/// What there is to say of a rule: its own words, what came of the last visits, and each trouble.
fn lines(rule: &Value) -> Vec<String> {
    let text = |key: &str| rule[key].as_str().unwrap_or("-");
    let count = |key: &str| rule[key].as_u64().unwrap_or_default();
    let below = match text("destination") {
        "" => String::new(),
        destination => format!(" below {destination}"),
    };
    let mut lines = vec![format!(
        "{}: {}{below}, every {} s",
        text("upstream"),
        text("prefix"),
        count("pollInterval")
    )];
    lines.push(match count("repositories") {
        0 => "  nothing was visited yet".to_owned(),
        visited => format!(
            "  {visited} repositories, visited from {} to {}, {} being visited; of {} tags {} moved and {} failed; \
             {} manifests, {} blobs, {}",
            text("oldest"),
            text("newest"),
            count("running"),
            count("tags"),
            count("moved"),
            count("failed"),
            count("manifests"),
            count("blobs"),
            output::bytes(count("bytes")),
        ),
    });
    for trouble in rule["troubles"].as_array().into_iter().flatten() {
        let text = |key: &str| trouble[key].as_str().unwrap_or("-");
        lines.push(format!(
            "  {}  {}: {}",
            text("at"),
            text("repository"),
            text("error")
        ));
    }
    lines
}

/// What there is to say of a registry that gets changes.
fn lines_of_registry(registry: &Value) -> Vec<String> {
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or("-").to_owned();
    let lacks = match registry["waitingSince"].as_str() {
        Some(since) => format!("changes since {since} are on their way"),
        None => "has every change".to_owned(),
    };
    let behind = match registry["behind"].as_u64().unwrap_or_default() {
        0 => String::new(),
        behind => format!("; {behind} repositories are behind"),
    };
    let mut lines = vec![format!("{}: {lacks}{behind}", text(registry, "registry"))];
    for trouble in registry["troubles"].as_array().into_iter().flatten() {
        let [at, repository, since, error] =
            ["at", "repository", "since", "error"].map(|key| text(trouble, key));
        lines.push(format!("  {at}  {repository}, since {since}: {error}"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rule_is_told_with_its_troubles() {
        let mut rule = json!({
            "upstream": "quay.io", "prefix": "a/**", "destination": "/quay.io", "pollInterval": 3600,
            "repositories": 2, "running": 1, "oldest": "T1", "newest": "T2", "tags": 9, "moved": 3, "failed": 1,
            "manifests": 4, "blobs": 5, "bytes": 1536,
            "troubles": [{ "repository": "quay.io/a/b", "at": "T2", "error": "v1: it is gone" }],
        });
        assert_eq!(
            lines(&rule),
            [
                "quay.io: a/** below /quay.io, every 3600 s",
                "  2 repositories, visited from T1 to T2, 1 being visited; of 9 tags 3 moved and 1 failed; \
                 4 manifests, 5 blobs, 1.5 KiB",
                "  T2  quay.io/a/b: v1: it is gone",
            ]
        );
        assert!(!is_well(&rule));
        rule["troubles"] = json!([]);
        assert!(!is_well(&rule));
        rule["failed"] = json!(0);
        rule["destination"] = json!("");
        rule["repositories"] = json!(0);
        assert_eq!(
            lines(&rule),
            ["quay.io: a/**, every 3600 s", "  nothing was visited yet"]
        );
        assert!(is_well(&rule));
    }

    #[test]
    fn a_registry_that_gets_changes_is_told_with_what_it_lacks() {
        let mut registry = json!({
            "registry": "https://r.example", "waitingSince": null, "behind": 0, "troubles": [],
        });
        assert_eq!(
            lines_of_registry(&registry),
            ["https://r.example: has every change"]
        );
        registry["waitingSince"] = json!("T1");
        registry["behind"] = json!(2);
        registry["troubles"] = json!([{ "repository": "a/b", "since": "T1", "at": "T2", "error": "no" }]);
        assert_eq!(
            lines_of_registry(&registry),
            [
                "https://r.example: changes since T1 are on their way; 2 repositories are behind",
                "  T2  a/b, since T1: no",
            ]
        );
    }
}
