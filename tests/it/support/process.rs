//! The real program, `portolan dev`, as a process of its own.

use std::{
    ffi::OsStr,
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
};

use portolan::placement::{HashKey, MemberId};
use tokio::process::{Child, Command};

use super::{
    PATIENCE,
    client::{Ask as _, Client, Http, Request},
    eventually,
    ports::{free_port, loopback},
};
use crate::api::Names;

/// A running `portolan dev`, killed when dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) doors: Vec<SocketAddr>,
    pub(crate) log: PathBuf,
}

/// How `portolan dev` is started, again and again on the same ports and data.
#[derive(Clone, Debug)]
pub(crate) struct Dev {
    pub(crate) members: u8,
    pub(crate) port: u16,
    pub(crate) mesh_port: u16,
    pub(crate) data: PathBuf,
    pub(crate) config: Option<PathBuf>,
    pub(crate) log: PathBuf,
}

impl Dev {
    /// A mesh of three with its data and log in `folder`.
    pub(crate) fn new(folder: &Path) -> Self {
        Self {
            members: 3,
            port: free_port(3),
            mesh_port: free_port(3),
            data: folder.join("data"),
            config: None,
            log: folder.join("log"),
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portolan"));
        command
            .arg("dev")
            .args(["--members", &self.members.to_string()])
            .args(["--port", &self.port.to_string()])
            .args(["--mesh-port", &self.mesh_port.to_string()])
            .arg("--data")
            .arg(&self.data)
            .args(
                self.config
                    .iter()
                    .flat_map(|config| [OsStr::new("--config"), config.as_os_str()]),
            )
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Runs it to its end, for starts that must fail.
    pub(crate) async fn output(&self) -> std::process::Output {
        let output = self.command().output();
        tokio::time::timeout(PATIENCE, output)
            .await
            .expect("it ends")
            .unwrap()
    }

    /// Starts it and waits until every member is ready.
    pub(crate) async fn start(&self) -> Process {
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let child = self
            .command()
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        let doors = (1..=self.members)
            .map(|n| (loopback(n), self.port).into())
            .collect();
        let mut process = Process {
            child,
            doors,
            log: self.log.clone(),
        };
        process.become_ready().await;
        process
    }
}

impl Process {
    async fn become_ready(&mut self) {
        for door in self.doors.clone() {
            let client = Client::new(door, Http::One);
            let end = tokio::time::Instant::now() + PATIENCE;
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    panic!("portolan dev ended with {status}:\n{}", self.said());
                }
                let answer = client.ask(Request::get("/readyz")).await;
                if answer.is_ok_and(|answer| answer.status == 200) {
                    break;
                }
                assert!(
                    tokio::time::Instant::now() < end,
                    "{door} isn't ready:\n{}",
                    self.said()
                );
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
    }

    /// Chooses repositories by their owners.
    pub(crate) fn names(&self) -> Names {
        let members: Vec<MemberId> = self
            .doors
            .iter()
            .map(|door| door.to_string().parse().unwrap())
            .collect();
        Names::new(&members, HashKey::new(portolan::app::dev::HASH_KEY))
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn client(&self, member: usize) -> Client {
        Client::new(self.doors[member], Http::One)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// All that it printed so far.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// kill -9.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Asks it to end.
    pub(crate) async fn terminate(&self) {
        let pid = self.pid().to_string();
        let status = Command::new("kill").args(["-TERM", &pid]).status().await.unwrap();
        assert!(status.success());
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> std::process::ExitStatus {
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        ended
            .unwrap_or_else(|_| panic!("it doesn't end:\n{}", self.said()))
            .unwrap()
    }

    /// Waits until something stands in the log.
    pub(crate) async fn says(&self, text: &str) {
        eventually(text, || async { self.said().contains(text) }).await;
    }
}
