//! The command line.

mod caller;
mod fsck;
mod mesh;
mod moving;
mod output;
mod past;
mod retention;
mod scrub;
mod sync;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use crate::{
    app::{
        self, Reach, StartError, Verdict,
        dev::{DATA, DevOptions, MESH_PORT},
    },
    auth::GateSpec,
    config::{self, Config, ConfigErrors, LogOutput},
    storage,
    telemetry::logs::{self, LogError},
};

/// A container registry that runs as a mesh.
///
/// Every member is identical and stateless; a client may talk to any of them. Each repository has one owner, found by
/// hashing its name, and the member a client talks to streams the request there.
#[derive(Debug, Parser)]
#[command(
    name = "portolan",
    version = concat!(env!("CARGO_PKG_VERSION"), " (", env!("PORTOLAN_COMMIT"), ")"),
    after_help = "Examples:
  portolan dev                              a mesh of three on this machine, to try it out
  portolan serve                            one member on 127.0.0.1:5000
  portolan serve /etc/portolan/config.yaml  one member of the mesh that the file describes
  portolan verify config.json               what is wrong with a configuration, if anything
  portolan fsck config.json                 what is wrong with metadata and content, if anything
  portolan scrub config.json                whether all content still has its digest
  portolan history team/app                 what became of a repository's tags and manifests
  portolan restore team/app:v1 --at TIME    the tag names what it named then
  portolan import LAYOUT HOST/team/app      what is in an OCI image layout is pushed
  portolan mesh members                     who is there, as a member sees it
  portolan retention plan                   what the policies of retention would delete"
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a whole mesh on this machine, in one process
    ///
    /// Members listen on 127.0.0.1, 127.0.0.2 and so on, all on the same two ports, and share one embedded store.
    /// Their certificates are minted into DIR/tls and kept. When all are ready it prints lines to paste: a push, a
    /// pull, a look inside. For trying out and for tests: everybody may do everything, unless --config says otherwise.
    #[command(after_help = "Examples:
  portolan dev
  portolan dev --members 5 --port 6000 --mesh-port 6443 --data /tmp/mesh")]
    Dev(DevArgs),
    /// Run one member
    ///
    /// CONFIG is JSON or YAML with zot's key names. Without it, one member by itself listens on 127.0.0.1:5000 and
    /// keeps its data in ./portolan-data.
    ///
    /// SIGTERM or SIGINT ends it: it takes on nothing new, finishes what is in flight within 30 s, and exits with 0. A
    /// second signal ends it at once. SIGHUP (or SIGUSR1) opens the files of log and audit anew.
    #[command(after_help = "Examples:
  portolan serve
  portolan serve /etc/portolan/config.yaml
  portolan serve config.json --member registry-2.example.org")]
    Serve(ServeArgs),
    /// Check a configuration and say all that is wrong with it
    ///
    /// Also looks at what it needs of this machine: addresses, certificates, files, directories. Nothing is started and no
    /// other machine is asked, unless --online says so. Exits with 0 if nothing has to be changed, else with 1. What isn't
    /// on this machine, or not for this user, may be where the member will run: it is named, and a fault only with --online.
    #[command(after_help = "Examples:
  portolan verify /etc/portolan/config.yaml
  portolan verify --online /etc/portolan/config.yaml")]
    Verify(VerifyArgs),
    /// Compare metadata and content, beside members that run
    ///
    /// Every row is compared with those that have to agree with it and with the bucket, and the bucket with the rows. What is in
    /// flight is no fault: what seems wrong is looked at again, 20 s later at last. Reads the whole of the tables and lists the
    /// bucket once or more (DynamoDB: the right to Scan). Where one process has the storage, stop it first.
    ///
    /// Exits with 0 if nothing is wrong or all of it was repaired, with 1 if faults are left, with 2 if it couldn't look.
    #[command(after_help = "Examples:
  portolan fsck /etc/portolan/config.yaml
  portolan fsck --repair /etc/portolan/config.yaml
  portolan fsck --json config.json | jq .found")]
    Fsck(fsck::FsckArgs),
    /// Read all content and compare it with its digest, beside members that run
    ///
    /// What is damaged is named with its digest, repositories and tags; a push of the content mends it. A run that is ended (Ctrl-C)
    /// is gone on with by the next one. Where one process has the storage, stop it first. Members do the same by extensions.scrub.
    ///
    /// Exits with 0 if all was read and is whole, with 1 if something is damaged or couldn't be read, else with 2 if it ended before
    /// its end.
    #[command(after_help = "Examples:
  portolan scrub /etc/portolan/config.yaml
  portolan scrub --rate 200 config.json
  portolan scrub --json config.json | jq -r 'select(.digest).repositories[]'")]
    Scrub(scrub::ScrubArgs),
    /// Tell what became of a repository's tags and manifests
    ///
    /// Asks any member of a running mesh. The newest comes first.
    #[command(after_help = "Examples:
  portolan history team/app
  portolan history team/app:v1 --server https://registry.example.org --user alice")]
    History(past::HistoryArgs),
    /// Bring back what was deleted or overwritten
    ///
    /// Asks any member of a running mesh. It takes the rights to create and to update, and for what was deleted that to delete.
    /// What is there already stays as it is, and what can't come back is named.
    #[command(after_help = "Examples:
  portolan restore team/app:v1 --at 2026-01-31T12:00:00Z   the tag names what it named then
  portolan restore team/app@sha256:...                     a deleted manifest, with its tags
  portolan restore team/app --at 2026-01-31T12:00:00Z      all that was there then and was deleted since
  portolan restore --run 019acb3d5e106f2a41                what a run of retention deleted, everywhere")]
    Restore(past::RestoreArgs),
    /// Push what is in OCI image layouts
    ///
    /// A layout is a directory or a tar archive, as skopeo, crane, oras, docker and `portolan export` write them. Names in it are
    /// tags, or say the repository, too. Of a directory with layouts below it, as zot keeps them, each is a repository. HOST is any
    /// member, or what stands before the members; on this machine it is asked by http, else by https, unless http:// or https://
    /// stands in front. What is there already isn't sent again: an import that was ended goes on when it is started again.
    #[command(after_help = "Examples:
  portolan import alpine.tar registry.example.org/library/alpine
  portolan import alpine.tar registry.example.org/library/alpine:3    one image, under this tag
  portolan import everything/ registry.example.org --user alice
  portolan import /var/lib/zot registry.example.org")]
    Import(moving::ImportArgs),
    /// Write what a registry has into an OCI image layout
    ///
    /// One repository becomes a layout whose names are its tags, which other tools read; several become one whose names say the
    /// repository, too. What refers to an image (signatures, SBOMs) comes along. What is there already isn't fetched again: an export that
    /// was ended goes on when it is started again, and one into the layout of yesterday fetches what is new.
    #[command(after_help = "Examples:
  portolan export registry.example.org everything/
  portolan export 'registry.example.org/team/**' team.tar
  portolan export registry.example.org/library/alpine:3 alpine/")]
    Export(moving::ExportArgs),
    /// Look at a running mesh, and drain its members
    ///
    /// Asks members by their mesh ports, with a certificate of the cluster's authority: an operator's may look
    /// (cluster.tls.operators), an administrator's also drain (cluster.tls.administrators), a member's do both. Without options
    /// it finds the mesh of `portolan dev` that was started in the same directory.
    #[command(after_help = "Examples:
  portolan mesh members
  portolan mesh locate library/alpine
  portolan mesh watch
  portolan mesh drain registry-2.example.org:5000 --server registry-1.example.org:9443 \\
      --cacert mesh-ca.crt --cert administrator.crt --key administrator.key")]
    Mesh(mesh::MeshArgs),
    /// Print a script by which a shell completes this command line
    #[command(after_help = "Examples:
  portolan completions bash > /etc/bash_completion.d/portolan
  portolan completions zsh > ~/.zsh/completions/_portolan
  portolan completions fish > ~/.config/fish/completions/portolan.fish")]
    Completions {
        /// For which shell
        shell: Shell,
    },
    /// Tell what the policies of retention would delete, and delete just that
    ///
    /// Asks any member of a running mesh.
    #[command(subcommand)]
    Retention(retention::RetentionCommand),
    /// Tell how mirroring ahead of time goes
    ///
    /// Asks any member of a running mesh.
    #[command(subcommand)]
    Sync(sync::SyncCommand),
}

#[derive(Debug, Args)]
struct DevArgs {
    /// How many members
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=32))]
    members: u8,
    /// Public port of each member
    #[arg(long, value_name = "PORT", default_value_t = 5000, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Mesh port of each member
    #[arg(long, value_name = "PORT", default_value_t = MESH_PORT, value_parser = clap::value_parser!(u16).range(1..))]
    mesh_port: u16,
    /// Directory of the store and the certificates
    #[arg(long, value_name = "DIR", default_value = DATA)]
    data: PathBuf,
    /// Configuration file to try: its http.tls, http.auth, http.accessControl, http.publicMaxAge, storage.sparseIndexes, extensions.sync, extensions.replicate and log count, the rest doesn't
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct ServeArgs {
    /// Configuration file, JSON or YAML
    config: Option<PathBuf>,
    /// Which of cluster.members this is, where its address doesn't tell
    #[arg(long, value_name = "NAME", env = "PORTOLAN_MEMBER")]
    member: Option<String>,
}

#[derive(Debug, Args)]
struct VerifyArgs {
    /// Configuration file, JSON or YAML
    config: PathBuf,
    /// Also look at the other members, the stores, and directories and issuers that know who may log in
    ///
    /// To be run where and as whom the member will run. A small object is written to the bucket and deleted; nothing
    /// else is changed.
    #[arg(long)]
    online: bool,
    /// Which of cluster.members this is, where its address doesn't tell
    #[arg(long, value_name = "NAME", env = "PORTOLAN_MEMBER")]
    member: Option<String>,
}

/// Why a command came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The configuration has faults.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The log can't be set up.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Nothing could be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A member wasn't reached, or refused.
    #[error(transparent)]
    Past(#[from] past::PastError),
    /// Images weren't moved.
    #[error(transparent)]
    Moving(#[from] moving::MovingError),
    /// A member's mesh port wasn't reached, or refused.
    #[error(transparent)]
    Mesh(#[from] mesh::MeshError),
    /// What was asked for can't be said.
    #[error(transparent)]
    Output(#[from] output::OutputError),
}

impl Cli {
    /// Does what was asked for.
    ///
    /// # Errors
    /// What went wrong, for people.
    pub async fn run(self) -> Result<ExitCode, CliError> {
        match self.command {
            Command::Dev(args) => dev(args).await,
            Command::Serve(args) => serve(args).await,
            Command::Verify(args) => verify(&args).await,
            Command::Fsck(args) => Ok(fsck::fsck(&args).await),
            Command::Scrub(args) => Ok(scrub::scrub(&args).await),
            Command::History(args) => past::history(&args).await,
            Command::Restore(args) => past::restore(&args).await,
            Command::Import(args) => Ok(moving::import(&args).await?),
            Command::Export(args) => Ok(moving::export(&args).await?),
            Command::Mesh(args) => Ok(mesh::mesh(&args).await?),
            Command::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Self::command(), "portolan", &mut script);
                output::put(String::from_utf8_lossy(&script))?;
                Ok(ExitCode::SUCCESS)
            }
            Command::Retention(command) => command.run().await,
            Command::Sync(command) => command.run().await,
        }
    }
}

async fn dev(args: DevArgs) -> Result<ExitCode, CliError> {
    let DevArgs {
        members,
        port,
        mesh_port,
        data,
        config,
    } = args;
    let config = config.map(|path| config::load(&path)).transpose()?;
    let mut log = config
        .as_ref()
        .map(|config| config.log.clone())
        .unwrap_or_default();
    // Standard output is for what is said to a person.
    if log.output == LogOutput::Stdout {
        log.output = LogOutput::Stderr;
    }
    logs::start(&log)?;
    let options = DevOptions {
        members,
        port,
        mesh_port,
        data,
        gate: config.as_ref().map(GateSpec::from).unwrap_or_default(),
        public_max_age: config.as_ref().map(|config| config.limits.front.public_max_age),
        sparse_indexes: config
            .as_ref()
            .map(|config| config.sparse_indexes.clone())
            .unwrap_or_default(),
        sync: config.as_ref().and_then(|config| config.sync.clone()),
        replicate: config.as_ref().and_then(|config| config.replicate.clone()),
        tls: config.and_then(|config| config.public_tls),
    };
    app::dev::dev(&options, |text| output::say(text)).await?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(args: ServeArgs) -> Result<ExitCode, CliError> {
    let config = match &args.config {
        Some(path) => config::load(path)?,
        None => {
            output::complain(format_args!(
                "No configuration: one member by itself on 127.0.0.1:5000, data in {DATA}"
            ));
            Config::single(PathBuf::from(DATA))
        }
    };
    logs::start(&config.log)?;
    app::serve(&config, args.member.as_deref()).await?;
    Ok(ExitCode::SUCCESS)
}

async fn verify(args: &VerifyArgs) -> Result<ExitCode, CliError> {
    let config = match config::load(&args.config) {
        Ok(config) => config,
        Err(faults) => {
            output::complain(faults);
            return Ok(ExitCode::FAILURE);
        }
    };
    let reach = match args.online {
        true => Reach::Online,
        false => Reach::Here,
    };
    let findings = app::verify(&config, args.member.as_deref(), reach, &config.limits).await;
    let (file, summary) = (args.config.display(), summary(&config));
    let (said, code) = match findings.worst() {
        Verdict::Ok | Verdict::Warn => (format!("ok: {file} is valid"), ExitCode::SUCCESS),
        Verdict::Lacking => {
            let said = format!("{file} is valid, but a start here would be refused");
            (said, ExitCode::SUCCESS)
        }
        Verdict::Fail => {
            let said = format!("{file} has no fault in itself, but a start would be refused or harm others");
            (said, ExitCode::FAILURE)
        }
    };
    output::tell(format_args!("{said}\n{summary}"))?;
    if findings.iter().next().is_some() {
        output::put(format_args!("\n{findings}"))?;
    }
    Ok(code)
}

/// A valid configuration in a few lines, so that one sees what was understood.
fn summary(config: &Config) -> String {
    let mut lines = Vec::new();
    let tls = if config.public_tls.is_some() {
        "https"
    } else {
        "http"
    };
    lines.push(format!("  listens on   {tls}://{}", config.listen));
    lines.push(format!("  storage      {}", storage::summary(&config.storage)));
    if let Some(cluster) = &config.cluster {
        let members = match &cluster.members {
            Some(members) => members
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", "),
            None => "whoever has a certificate and a lease".to_owned(),
        };
        lines.push(format!("  members      {members}"));
        lines.push(format!("  mesh         {}", cluster.mesh_listen(&config.listen)));
    }
    lines.extend(config.warnings.iter().map(|warning| format!("  note: {warning}")));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_version_names_the_commit() {
        let version = Cli::command().get_version().map(str::to_owned);
        assert!(version.is_some_and(|version| version.contains(env!("PORTOLAN_COMMIT"))));
    }
}
