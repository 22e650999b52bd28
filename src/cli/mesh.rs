//! `portolan mesh`: members are asked by their mesh ports, and ordered, with a certificate that may.
//!
//! It asks what `grpcurl` would ask, and knows nothing that the answers don't say.

mod dial;
mod show;
mod watch;

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Subcommand};
use tokio::time::{Instant, sleep};

use self::{
    dial::{Asked, Dialler},
    show::{Paint, State},
};
use super::output::{self, OutputError};
use crate::{causes, mesh::pb, net::TlsError, oci::RepoName, placement::MemberId};

/// How long the others may take to see that a member was drained: a heartbeat or two, and a slow store.
const SETTLING: Duration = Duration::from_secs(20);

#[derive(Debug, Args)]
pub(super) struct MeshArgs {
    #[command(flatten)]
    door: Door,
    /// Print what was answered as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

/// Whom to ask, and as whom.
#[derive(Debug, Args)]
pub(super) struct Door {
    /// Mesh port of any member
    #[arg(
        long,
        global = true,
        value_name = "HOST:PORT",
        env = "PORTOLAN_MESH",
        default_value = "127.0.0.1:9443"
    )]
    server: MemberId,
    /// Authority of the members' certificates, in PEM
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "PORTOLAN_MESH_CACERT",
        default_value = "./portolan-data/tls/ca.crt"
    )]
    cacert: PathBuf,
    /// Certificate that may ask: of an operator, an administrator (cluster.tls) or a member
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "PORTOLAN_MESH_CERT",
        default_value = "./portolan-data/tls/operator.crt"
    )]
    cert: PathBuf,
    /// Its key
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "PORTOLAN_MESH_KEY",
        default_value = "./portolan-data/tls/operator.key"
    )]
    key: PathBuf,
    /// Where members aren't listed: cluster.tls.memberSan, which their certificates name instead of their address
    #[arg(long, global = true, value_name = "SAN", env = "PORTOLAN_MESH_MEMBER_SAN")]
    member_san: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tell who the members are, and which of them live
    Members,
    /// Tell where a repository lives, and why
    Locate {
        /// Its name, such as library/alpine
        repository: RepoName,
    },
    /// Tell which requests are on their way from member to member, of all members
    Forwards,
    /// Tell who is there, then of each member that comes, goes, is drained or restarted, until interrupted
    Watch,
    /// Let a member give up what it owns and take nothing on, without ending it
    ///
    /// Its /readyz answers 503, so that balancers pass it by; what reaches it all the same is served, by the others. When this
    /// returns, all of them know. It lasts until undrain, or until the member is restarted. The last live member isn't drained.
    Drain {
        /// Its name, as members tells it
        member: MemberId,
    },
    /// Let a drained member take part again
    Undrain {
        /// Its name, as members tells it
        member: MemberId,
    },
}

/// Why nothing was told or done.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// The certificates can't be used.
    #[error(transparent)]
    Certificates(#[from] TlsError),
    /// No connection.
    #[error("{address} can't be reached")]
    Dial {
        /// Of the mesh port.
        address: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The connection broke, or there was no answer in time.
    #[error("{address} doesn't answer")]
    Broken {
        /// Of the mesh port.
        address: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It refused.
    #[error("{address} refuses: {message}")]
    Refused {
        /// Of the mesh port.
        address: String,
        /// In its words.
        message: String,
    },
    /// There is no such member.
    #[error("{member} is no member; there are {known}")]
    Stranger {
        /// Who was meant.
        member: MemberId,
        /// Who is there.
        known: String,
    },
    /// It is done, and not all know.
    #[error("it is done, and not yet seen by {0}")]
    Unseen(String),
    /// What was asked for can't be said.
    #[error(transparent)]
    Output(#[from] OutputError),
}

type Result<T> = std::result::Result<T, MeshError>;

pub(super) async fn mesh(args: &MeshArgs) -> Result<ExitCode> {
    let (dialler, paint) = (Dialler::of(&args.door)?, Paint::of_stdout());
    let server = args.door.server.as_str();
    match &args.command {
        Command::Members => {
            let answer = dialler.dial(server).await?.members().await?;
            match args.json {
                true => output::tell(format_args!("{:#}", show::json_of_members(&answer)))?,
                false => output::put(show::members(&answer, paint))?,
            }
        }
        Command::Locate { repository } => {
            let answer = dialler.dial(server).await?.locate(repository).await?;
            match args.json {
                true => output::tell(format_args!("{:#}", show::json_of_place(&answer)))?,
                false => output::put(show::place(&answer, paint))?,
            }
        }
        Command::Forwards => return forwards(&dialler, server, args.json).await,
        Command::Watch => watch::watch(&dialler, server, args.json, paint).await?,
        Command::Drain { member } => order(&dialler, server, member, State::Drained, args.json).await?,
        Command::Undrain { member } => order(&dialler, server, member, State::Live, args.json).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks every member that lives. One that doesn't answer keeps nobody from hearing of the others.
async fn forwards(dialler: &Dialler, server: &str, json: bool) -> Result<ExitCode> {
    let mut first = dialler.dial(server).await?;
    let (mut told, mut code) = (BTreeMap::new(), ExitCode::SUCCESS);
    let seen = first.members().await?;
    told.insert(seen.self_.clone(), first.forwards().await?.forwards);
    for member in seen.members.iter().filter(|member| member.name != seen.self_) {
        if show::state(member) == State::Gone {
            continue;
        }
        match asked_forwards(dialler, &member.mesh_address).await {
            Ok(forwards) => {
                told.insert(member.name.clone(), forwards);
            }
            Err(error) => {
                output::complain(format_args!("{}: {}", member.name, causes::in_a_line(&error)));
                code = ExitCode::FAILURE;
            }
        }
    }
    match json {
        true => output::tell(format_args!("{:#}", show::json_of_forwards(&told)))?,
        false => output::put(show::forwards(&told))?,
    }
    Ok(code)
}

async fn asked_forwards(dialler: &Dialler, address: &str) -> Result<Vec<pb::ForwardInFlight>> {
    Ok(dialler.dial(address).await?.forwards().await?.forwards)
}

/// Orders `member` to be `wanted`, and waits until all that live have seen it.
async fn order(dialler: &Dialler, server: &str, member: &MemberId, wanted: State, json: bool) -> Result<()> {
    let mut first = dialler.dial(server).await?;
    let seen = first.members().await?;
    let named = seen.members.iter().find(|known| known.name == member.as_str());
    let named = named.ok_or_else(|| MeshError::Stranger {
        member: member.clone(),
        known: names(seen.members.iter().map(|known| &*known.name)),
    })?;
    let mut asked = match seen.self_ == named.name {
        true => first,
        false => dialler.dial(&named.mesh_address).await?,
    };
    match wanted {
        State::Drained => asked.drain(member).await?,
        State::Live | State::Gone => asked.undrain(member).await?,
    }
    let mut others: Vec<&pb::Member> = seen
        .members
        .iter()
        .filter(|other| other.name != named.name && show::state(other) != State::Gone)
        .collect();
    let until = Instant::now() + SETTLING;
    loop {
        let mut unseen = Vec::new();
        for other in others {
            if seen_as(dialler, other, member).await != Some(wanted) {
                unseen.push(other);
            }
        }
        if unseen.is_empty() {
            break;
        }
        if Instant::now() >= until {
            return Err(MeshError::Unseen(names(unseen.iter().map(|other| &*other.name))));
        }
        others = unseen;
        sleep(Duration::from_millis(250)).await;
    }
    let state = wanted.as_str();
    match json {
        true => output::tell(serde_json::json!({ "member": member.as_str(), "state": state }))?,
        false => output::tell(format_args!("{member} is {state}"))?,
    }
    Ok(())
}

/// What `member` is to `other`.
async fn seen_as(dialler: &Dialler, other: &pb::Member, member: &MemberId) -> Option<State> {
    let mut asked: Asked = dialler.dial(&other.mesh_address).await.ok()?;
    let seen = asked.members().await.ok()?;
    let member = seen.members.iter().find(|known| known.name == member.as_str());
    member.map(show::state)
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::{
        app::dev::{DATA, MESH_PORT},
        cli::{Cli, Command as Top},
    };

    #[test]
    fn without_options_it_is_the_mesh_of_portolan_dev() {
        let cli = Cli::try_parse_from(["portolan", "mesh", "members"]).unwrap();
        let Top::Mesh(MeshArgs { door, .. }) = cli.command else {
            panic!("it is mesh");
        };
        assert_eq!(door.server.as_str(), format!("127.0.0.1:{MESH_PORT}"));
        for (file, name) in [
            (&door.cacert, "ca.crt"),
            (&door.cert, "operator.crt"),
            (&door.key, "operator.key"),
        ] {
            assert_eq!(*file, PathBuf::from(DATA).join("tls").join(name));
        }
    }

    #[test]
    fn options_stand_before_and_after_the_command() {
        let after = [
            "portolan", "mesh", "drain", "b:5000", "--json", "--server", "a:9443",
        ];
        let before = [
            "portolan", "mesh", "--server", "a:9443", "--json", "drain", "b:5000",
        ];
        for line in [&after[..], &before] {
            let cli = Cli::try_parse_from(line).unwrap();
            let Top::Mesh(MeshArgs { door, json, .. }) = cli.command else {
                panic!("it is mesh");
            };
            assert!(json && door.server.as_str() == "a:9443", "{line:?}");
        }
    }
}
