//! `history` and `restore`: a member is asked over HTTP, as any client would ask it.

use std::{process::ExitCode, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use clap::Args;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::Value;

use super::{
    caller::{Caller, NoPassword},
    output::{self, OutputError},
};
use crate::{
    causes,
    oci::{Digest, RepoName, Rounding, Tag, Timestamp, Undo, paths},
    outbound::{self, Outbound, OutboundError, Pool, Reach, TrustError},
};

/// Time for the member's answer to begin, and to come whole. It gives a request a minute.
const WITHIN: Duration = Duration::from_secs(90);
/// Bytes of an answer that are read.
const LONGEST: usize = 64 << 20;
/// Changes that are asked for at once.
const PAGE: usize = 100;

#[derive(Debug, Args)]
pub(super) struct Server {
    /// A member, or what stands before the members
    #[arg(
        long,
        value_name = "URL",
        env = "PORTOLAN_SERVER",
        default_value = "http://127.0.0.1:5000"
    )]
    server: Uri,
    #[command(flatten)]
    caller: Caller,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    /// A repository, or one tag of it: NAME or NAME:TAG
    what: String,
    /// At most so many changes
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// A repository, a tag or a manifest: NAME, NAME:TAG or NAME@DIGEST; with --run none is all of them
    #[arg(required_unless_present = "run")]
    what: Option<String>,
    /// As it was at this time (RFC 3339)
    #[arg(long, value_name = "TIME", conflicts_with = "run")]
    at: Option<String>,
    /// What this run of retention deleted
    #[arg(long, value_name = "ID")]
    run: Option<String>,
    #[command(flatten)]
    server: Server,
}

/// Why nothing was told or restored.
#[derive(Debug, thiserror::Error)]
pub enum PastError {
    /// The arguments don't say what.
    #[error("{0}")]
    What(String),
    /// Who asks isn't said in full.
    #[error(transparent)]
    Login(#[from] NoPassword),
    /// TLS can't be set up.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The member doesn't answer.
    #[error("{server} can't be asked")]
    Ask {
        /// Who was asked.
        server: String,
        /// What happened.
        #[source]
        source: Box<OutboundError>,
    },
    /// It refused.
    #[error("{status}: {message}")]
    Refused {
        /// With this status.
        status: StatusCode,
        /// And these words.
        message: String,
    },
    /// What it says isn't understood.
    #[error("{server} doesn't answer as this release's members do")]
    Answer {
        /// Who was asked.
        server: String,
    },
    /// What was asked for can't be said.
    #[error(transparent)]
    Output(#[from] OutputError),
}

type Result<T> = std::result::Result<T, PastError>;

/// What a name on the command line is.
#[derive(Debug, PartialEq, Eq)]
struct Named {
    repository: RepoName,
    of: Of,
}

#[derive(Debug, PartialEq, Eq)]
enum Of {
    All,
    Tag(Tag),
    Manifest(Digest),
}

impl Named {
    fn parse(text: &str) -> Result<Self> {
        let wrong = |error: &dyn std::fmt::Display| PastError::What(format!("{text:?}: {error}"));
        let (name, of) = if let Some((name, digest)) = text.split_once('@') {
            let digest = Digest::parse(digest).map_err(|error| wrong(&error))?;
            (name, Of::Manifest(digest))
        } else if let Some((name, tag)) = text.split_once(':') {
            (name, Of::Tag(Tag::parse(tag).map_err(|error| wrong(&error))?))
        } else {
            (text, Of::All)
        };
        let repository = RepoName::parse(name).map_err(|error| wrong(&error))?;
        Ok(Self { repository, of })
    }
}

/// A member that is asked.
pub(super) struct Member<'a> {
    server: &'a Server,
    client: Outbound,
}

impl<'a> Member<'a> {
    pub(super) fn of(server: &'a Server) -> Result<Self> {
        let pool = Pool {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(10),
            idle_connections: 1,
        };
        let client = Outbound::new(&server.caller.trust(), Reach::Anywhere, &pool)?;
        Ok(Self { server, client })
    }

    /// Whether the answer is to be printed as JSON.
    pub(super) fn is_json(&self) -> bool {
        self.server.json
    }

    pub(super) fn not_understood(&self) -> PastError {
        let server = self.server.server.to_string();
        PastError::Answer { server }
    }

    pub(super) async fn ask(&self, method: Method, path: &str, query: &[(&str, String)]) -> Result<Value> {
        Ok(self.exchange(method, path, query).await?.0)
    }

    /// A page, and after what the next one begins.
    pub(super) async fn ask_page(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<(Value, Option<String>)> {
        let (answer, link) = self.exchange(Method::GET, path, query).await?;
        let last = link.as_deref().and_then(|link| {
            let (_, last) = link.split_once("last=")?;
            let last = last.split(['&', '>']).next()?;
            Some(percent_decode_str(last).decode_utf8_lossy().into_owned())
        });
        Ok((answer, last))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<(Value, Option<String>)> {
        let server = &self.server.server;
        let query: Vec<_> = query
            .iter()
            .map(|(key, value)| format!("{key}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)))
            .collect();
        let base = server.to_string();
        let target = format!("{}{path}?{}", base.trim_end_matches('/'), query.join("&"));
        let mut request = Request::new(Bytes::new());
        *request.method_mut() = method;
        *request.uri_mut() = target
            .parse()
            .map_err(|error| PastError::What(format!("{target}: {error}")))?;
        if let Some(login) = self.login()? {
            request.headers_mut().insert(header::AUTHORIZATION, login);
        }
        let failed = |source| PastError::Ask {
            server: server.to_string(),
            source: Box::new(source),
        };
        let answer = self.client.send(request, WITHIN).await.map_err(failed)?;
        let status = answer.status();
        let link = answer
            .headers()
            .get(header::LINK)
            .and_then(|link| link.to_str().ok())
            .map(str::to_owned);
        let body = outbound::whole(answer.into_body(), LONGEST, WITHIN)
            .await
            .map_err(failed)?;
        let told: Option<Value> = serde_json::from_slice(&body).ok();
        match told {
            Some(told) if status.is_success() => Ok((told, link)),
            Some(told) => {
                let message = told["errors"][0]["message"].as_str().unwrap_or("refused");
                let message = message.to_owned();
                Err(PastError::Refused { status, message })
            }
            None => Err(self.not_understood()),
        }
    }

    fn login(&self) -> Result<Option<HeaderValue>> {
        let Some((user, password)) = self.server.caller.login()? else {
            return Ok(None);
        };
        let mut login =
            HeaderValue::try_from(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
                .map_err(|error| PastError::What(format!("the login: {error}")))?;
        login.set_sensitive(true);
        Ok(Some(login))
    }
}

pub(super) async fn history(args: &HistoryArgs) -> std::result::Result<ExitCode, super::CliError> {
    let named = Named::parse(&args.what)?;
    let member = Member::of(&args.server)?;
    let path = paths::history(&named.repository);
    let mut changes: Vec<Value> = Vec::new();
    while changes.len() < args.limit {
        let asked = PAGE.min(args.limit - changes.len());
        let mut query = vec![("n", asked.to_string())];
        if let Some(last) = changes.last().and_then(|last| last["at"].as_str()) {
            query.push(("before", last.to_owned()));
        }
        match &named.of {
            Of::All => {}
            Of::Tag(tag) => query.push(("tag", tag.to_string())),
            Of::Manifest(_) => {
                let problem = "history tells of a repository or of one tag, not of a manifest";
                return Err(PastError::What(problem.into()).into());
            }
        }
        let mut answer = member.ask(Method::GET, &path, &query).await?;
        let Some(Value::Array(page)) = answer.get_mut("changes").map(Value::take) else {
            let server = args.server.server.to_string();
            return Err(PastError::Answer { server }.into());
        };
        let is_last = page.len() < asked;
        changes.extend(page);
        if is_last {
            break;
        }
    }
    if args.server.json {
        output::tell(format_args!("{:#}", Value::Array(changes)))?;
    } else {
        for line in changes.iter().flat_map(lines) {
            output::tell(line)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A change, a line for each tag that moved and for each manifest that no tag tells of.
fn lines(change: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let who = change["run"].as_str().or(change["by"].as_str()).unwrap_or("-");
    let head = format!("{}  {:9}  {who}", text(&change["at"]), text(&change["why"]));
    let list = |key: &str| change[key].as_array().cloned().unwrap_or_default();
    let mut lines = Vec::new();
    for moved in list("tags") {
        let tag = text(&moved["tag"]);
        lines.push(match (moved["from"].as_str(), moved["to"].as_str()) {
            (Some(from), Some(to)) => format!("{head}  {tag}: {from} -> {to}"),
            (None, Some(to)) => format!("{head}  {tag}: {to}"),
            (Some(from), None) => format!("{head}  {tag}: {from} untagged"),
            (None, None) => continue,
        });
    }
    lines.extend(
        list("went")
            .iter()
            .map(|digest| format!("{head}  {} deleted", text(digest))),
    );
    if lines.is_empty() {
        lines.extend(
            list("came")
                .iter()
                .map(|digest| format!("{head}  {} pushed", text(digest))),
        );
    }
    lines
}

pub(super) async fn restore(args: &RestoreArgs) -> std::result::Result<ExitCode, super::CliError> {
    let member = Member::of(&args.server)?;
    if let (None, Some(run)) = (&args.what, &args.run) {
        return restore_run(&member, run).await;
    }
    let (repository, what) = what(args)?;
    let answer = ask_to_restore(&member, &repository, &what).await?;
    tell(args.server.json, &repository, &answer)?;
    Ok(ExitCode::SUCCESS)
}

/// Undoes a run in every repository. One that fails doesn't keep others from coming back.
async fn restore_run(member: &Member<'_>, run: &str) -> std::result::Result<ExitCode, super::CliError> {
    let mut code = ExitCode::SUCCESS;
    let (mut last, mut found) = (None::<String>, false);
    loop {
        let mut query = vec![("n", PAGE.to_string())];
        query.extend(last.take().map(|last| ("last", last)));
        let (answer, more) = member.ask_page(&paths::run(run), &query).await?;
        let names = answer["repositories"].as_array().cloned().unwrap_or_default();
        for name in names.iter().filter_map(Value::as_str) {
            found = true;
            let repository = RepoName::parse(name).map_err(|_| member.not_understood())?;
            match ask_to_restore(member, &repository, &Undo::Run(run.to_owned())).await {
                Ok(answer) => tell(member.server.json, &repository, &answer)?,
                Err(error) => {
                    output::complain(format_args!("{repository}: {}", causes::in_a_line(&error)));
                    code = ExitCode::FAILURE;
                }
            }
        }
        match more {
            Some(next) => last = Some(next),
            None => break,
        }
    }
    if !found {
        return Err(PastError::What(format!(
            "nothing is known of a run {run}, or it can't be undone any more"
        ))
        .into());
    }
    Ok(code)
}

async fn ask_to_restore(member: &Member<'_>, repository: &RepoName, what: &Undo) -> Result<Value> {
    let query = match what {
        Undo::Tag { tag, at } => vec![("tag", tag.to_string()), ("at", at.to_string())],
        Undo::Manifest(digest) => vec![("digest", digest.to_string())],
        Undo::Everything { at } => vec![("at", at.to_string())],
        Undo::Run(run) => vec![("run", run.clone())],
    };
    member
        .ask(Method::POST, &paths::restore(repository), &query)
        .await
}

fn tell(is_json: bool, repository: &RepoName, answer: &Value) -> Result<()> {
    if is_json {
        return Ok(output::tell(format_args!("{answer:#}"))?);
    }
    let list = |key: &str| answer[key].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    for digest in list("manifests") {
        output::tell(format_args!("restored  {repository}@{}", text(&digest)))?;
    }
    for tag in list("tags") {
        let (tag, digest) = (text(&tag["tag"]), text(&tag["digest"]));
        output::tell(format_args!("restored  {repository}:{tag}  {digest}"))?;
    }
    for left in list("left") {
        let why = match left["why"].as_str() {
            Some("moved") => "names something else since",
            Some("gone") => "isn't kept any more",
            _ => "was left",
        };
        let digest = text(&left["digest"]);
        match left["tag"].as_str() {
            Some(tag) => output::tell(format_args!("left      {repository}:{tag}  {digest} ({why})"))?,
            None => output::tell(format_args!("left      {repository}@{digest} ({why})"))?,
        }
    }
    if list("manifests").is_empty() && list("tags").is_empty() {
        output::tell(format_args!("{repository}: nothing had to be restored"))?;
    }
    Ok(())
}

/// What the arguments ask for.
fn what(args: &RestoreArgs) -> Result<(RepoName, Undo)> {
    let Named { repository, of } = Named::parse(args.what.as_deref().unwrap_or_default())?;
    let at = args
        .at
        .as_deref()
        .map(|text| Timestamp::parse(text, Rounding::Down));
    let at = at
        .transpose()
        .map_err(|error| PastError::What(format!("--at: {error}")))?;
    let what = match (of, at, &args.run) {
        (Of::Tag(tag), Some(at), None) => Undo::Tag { tag, at },
        (Of::Manifest(digest), None, None) => Undo::Manifest(digest),
        (Of::All, Some(at), None) => Undo::Everything { at },
        (Of::All, None, Some(run)) => Undo::Run(run.clone()),
        (Of::Tag(_), ..) => return Err(PastError::What("a tag is restored with --at TIME".into())),
        (Of::Manifest(_), ..) => {
            return Err(PastError::What(
                "a manifest is restored without --at and --run".into(),
            ));
        }
        (Of::All, ..) => {
            let problem = "a repository is restored with --at TIME, or what a run deleted with --run ID";
            return Err(PastError::What(problem.into()));
        }
    };
    Ok((repository, what))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn asked(arguments: &[&str]) -> Result<Undo> {
        let cli = Cli::try_parse_from([&["portolan", "restore"], arguments].concat()).unwrap();
        let Command::Restore(args) = cli.command else {
            panic!("it is restore");
        };
        what(&args).map(|(repository, what)| {
            assert_eq!(repository.as_str(), "team/app");
            what
        })
    }

    #[test]
    fn what_to_restore_is_said_in_one_way() {
        let at = Timestamp::parse("2026-01-31T12:00:00Z", Rounding::Down).unwrap();
        let digest = format!("sha256:{}", "0".repeat(64));
        let time = ["--at", "2026-01-31T12:00:00Z"];
        let tag = Tag::parse("v1").unwrap();
        assert_eq!(
            asked(&[&["team/app:v1"], &time[..]].concat()).unwrap(),
            Undo::Tag { tag, at }
        );
        assert_eq!(
            asked(&[&["team/app"], &time[..]].concat()).unwrap(),
            Undo::Everything { at }
        );
        assert_eq!(
            asked(&[&format!("team/app@{digest}")]).unwrap(),
            Undo::Manifest(Digest::parse(&digest).unwrap())
        );
        assert_eq!(
            asked(&["team/app", "--run", "ab"]).unwrap(),
            Undo::Run("ab".into())
        );
        for wrong in [
            &["team/app"][..],
            &["team/app:v1"],
            &["team/app:v1", "--run", "ab"],
            &["Team/app", "--run", "ab"],
            &["team/app", "--at", "yesterday"],
        ] {
            assert!(asked(wrong).is_err(), "{wrong:?}");
        }
    }
}
