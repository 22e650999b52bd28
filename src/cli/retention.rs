//! `retention plan` and `retention apply`: members make and carry out a plan, a few seconds in each request; here is who asks for the next.

use std::{process::ExitCode, time::Duration};

use clap::{Args, Subcommand};
use http::{Method, StatusCode};
use serde_json::Value;

use super::{
    CliError,
    output::{self, OutputError},
    past::{Member, PastError, Server},
};

const PATH: &str = "/v2/_portolan/retention";
/// Failures in a row after which it is given up. A plan stays as it is until somebody carries it on.
const FAILURES: u32 = 5;

#[derive(Debug, Subcommand)]
pub(super) enum RetentionCommand {
    /// Tell which tags and manifests the policies of retention would delete now, and how many bytes that frees
    ///
    /// Nothing is deleted. What it tells has an id, by which `retention apply` does exactly that. For administrators: it takes
    /// `read` in `adminPolicy`.
    #[command(after_help = "Examples:
  portolan retention plan
  portolan retention plan --json --server https://registry.example.org --user alice > plan.json")]
    Plan(PlanArgs),
    /// Delete what a plan named
    ///
    /// What was pushed, moved or deleted since, and what the policies keep by now, is left and named. Interrupted, it goes on where
    /// it was when it is called again. For administrators: it takes `delete` in `adminPolicy`. `portolan restore --run ID` undoes it.
    #[command(after_help = "Examples:
  portolan retention apply 019acb3d5e106f2a41")]
    Apply(ApplyArgs),
}

#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Args)]
pub(super) struct ApplyArgs {
    /// The plan's id
    id: String,
    #[command(flatten)]
    server: Server,
}

type Result<T> = std::result::Result<T, PastError>;

impl RetentionCommand {
    pub(super) async fn run(&self) -> std::result::Result<ExitCode, CliError> {
        match self {
            Self::Plan(args) => plan(&args.server).await?,
            Self::Apply(args) => apply(&args.id, &args.server).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn plan(server: &Server) -> Result<()> {
    let member = Member::of(server)?;
    let begun = member.ask(Method::POST, PATH, &[]).await?;
    let id = begun["plan"].as_str().ok_or_else(|| member.not_understood())?;
    let path = format!("{PATH}/{id}");
    let plan = carried_on(&member, &path, begun.clone(), "ready").await?;
    if member.is_json() {
        return print_json(&member, &path, &plan).await;
    }
    each_item(&member, &path, |item| output::tell(line(item, "why"))).await?;
    output::tell(format_args!(
        "{} tags and {} manifests of {} repositories would go, which frees {}",
        count(&plan["tags"]),
        count(&plan["manifests"]),
        count(&plan["repositories"]["concerned"]),
        output::bytes(count(&plan["bytes"])),
    ))?;
    if count(&plan["tags"]) + count(&plan["manifests"]) > 0 {
        let ends = plan["ends"].as_str().unwrap_or("-");
        output::tell(format_args!(
            "portolan retention apply {id}   deletes them (until {ends})"
        ))?;
    }
    Ok(())
}

async fn apply(id: &str, server: &Server) -> Result<()> {
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(PastError::What(format!("{id:?} is no plan's id")));
    }
    let member = Member::of(server)?;
    let path = format!("{PATH}/{id}");
    let step = format!("{path}/apply");
    let plan = carried_on(&member, &step, Value::Null, "applied").await?;
    if member.is_json() {
        return print_json(&member, &path, &plan).await;
    }
    each_item(&member, &path, |item| match item["left"].is_string() {
        true => output::tell(format_args!("left  {}", line(item, "left"))),
        false => Ok(()),
    })
    .await?;
    let applied = &plan["applied"];
    output::tell(format_args!(
        "{} tags and {} manifests went from {} repositories; {} of them were left",
        count(&applied["tags"]),
        count(&applied["manifests"]),
        count(&applied["repositories"]),
        count(&applied["left"]),
    ))?;
    if count(&applied["tags"]) + count(&applied["manifests"]) > 0 {
        output::tell(format_args!("portolan restore --run {id}   brings them back"))?;
    }
    Ok(())
}

/// Asks until the plan has come to this state. Whatever member answers does the next piece.
async fn carried_on(member: &Member<'_>, path: &str, mut plan: Value, end: &str) -> Result<Value> {
    let mut failures = 0;
    while plan["state"] != end {
        match member.ask(Method::POST, path, &[]).await {
            Ok(now) => {
                (plan, failures) = (now, 0);
                show(&plan);
            }
            Err(error) if may_pass(&error) && failures < FAILURES => {
                failures += 1;
                tokio::time::sleep(Duration::from_secs(1) * failures).await;
            }
            Err(error) => {
                output::draw("");
                return Err(error);
            }
        }
    }
    output::draw("");
    Ok(plan)
}

fn may_pass(error: &PastError) -> bool {
    match error {
        PastError::Ask { .. } => true,
        PastError::Refused { status, .. } => {
            *status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error()
        }
        PastError::What(_)
        | PastError::Login(_)
        | PastError::Trust(_)
        | PastError::Answer { .. }
        | PastError::Output(_) => false,
    }
}

/// Page by page.
async fn each_item(
    member: &Member<'_>,
    path: &str,
    mut tell: impl FnMut(&Value) -> std::result::Result<(), OutputError>,
) -> Result<()> {
    let mut last = None::<String>;
    loop {
        let query: Vec<_> = last.take().map(|last| ("last", last)).into_iter().collect();
        let (page, more) = member.ask_page(path, &query).await?;
        let items = page["items"].as_array().ok_or_else(|| member.not_understood())?;
        items.iter().try_for_each(&mut tell)?;
        match more {
            Some(next) => last = Some(next),
            None => return Ok(()),
        }
    }
}

/// One document, of which no more than a page is in memory.
async fn print_json(member: &Member<'_>, path: &str, plan: &Value) -> Result<()> {
    let head = plan.to_string();
    let head = head.strip_suffix('}').ok_or_else(|| member.not_understood())?;
    output::tell(format_args!("{head},\"items\":["))?;
    let mut comma = " ";
    each_item(member, path, |item| {
        let comma = std::mem::replace(&mut comma, ",");
        output::tell(format_args!("{comma}{item}"))
    })
    .await?;
    Ok(output::tell("]}")?)
}

fn line(item: &Value, key: &str) -> String {
    let text = |key: &str| item[key].as_str().unwrap_or("-");
    let why = match text(key) {
        "moved" => "it was pushed, or names something else, since",
        "gone" => "it was gone already",
        "kept" => "it is kept by now",
        "unread" => "the repository can't be read: see the log",
        why => why,
    };
    match (item["tag"].as_str(), item["digest"].as_str()) {
        (Some(tag), _) => format!("{}:{tag}  {}  ({why})", text("repository"), text("digest")),
        (None, Some(digest)) => format!("{}@{digest}  ({why})", text("repository")),
        (None, None) => format!("{}  ({why})", text("repository")),
    }
}

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

/// How far it is, where somebody looks.
fn show(plan: &Value) {
    let (state, looked) = (
        plan["state"].as_str().unwrap_or("-"),
        &plan["repositories"]["looked"],
    );
    let bar = output::bar(plan["progress"].as_f64().unwrap_or_default());
    output::draw(&format!("{state:<9} {bar} {looked} repositories looked at"));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_goes_and_what_was_left_is_a_line_each() {
        let tag = json!({"repository": "a/b", "tag": "x", "digest": "sha256:00", "why": "no keepTags entry fits the tag"});
        assert_eq!(
            line(&tag, "why"),
            "a/b:x  sha256:00  (no keepTags entry fits the tag)"
        );
        let manifest = json!({"repository": "a/b", "digest": "sha256:00", "left": "kept"});
        assert_eq!(line(&manifest, "left"), "a/b@sha256:00  (it is kept by now)");
        let unread = json!({"repository": "a/b", "left": "unread"});
        assert_eq!(
            line(&unread, "left"),
            "a/b  (the repository can't be read: see the log)"
        );
    }
}
