//! `portolan verify`: every fault is found, with what to change, and several at once; asked of the real program,
//! of real members and stores.

mod certificates;
mod docs;
mod peers;
mod starts;
mod stores;

use std::{fs, net::IpAddr, path::PathBuf, process::Stdio};

use portolan::config::{self, Config, ConfigErrors};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::support::PATIENCE;

/// A configuration in a folder of its own.
struct Trial {
    folder: TempDir,
    config: Value,
}

/// What the program said.
struct Said {
    good: bool,
    text: String,
}

impl Trial {
    /// One member by itself in its mesh, with an embedded store, so that nothing else is looked at.
    fn alone(host: IpAddr, port: u16, mesh_port: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = json!({
            "storage": { "rootDirectory": folder.path().join("data") },
            "http": { "address": host, "port": port },
            "cluster": {
                "members": [format!("{host}:{port}")],
                "hashKey": "loremipsumdolors",
                "meshPort": mesh_port,
                "tls": {},
            },
        });
        Self { folder, config }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn tls(&mut self, ca: &std::path::Path, cert: &std::path::Path, key: &std::path::Path) {
        self.config["cluster"]["tls"] = json!({ "cacert": ca, "cert": cert, "key": key });
    }

    /// The configuration as the program reads it.
    fn parsed(&self) -> Result<Config, ConfigErrors> {
        config::load(&self.written())
    }

    fn written(&self) -> PathBuf {
        let file = self.path("config.json");
        fs::write(&file, self.config.to_string()).unwrap();
        file
    }

    async fn verify(&self) -> Said {
        self.ask(&["--online"]).await
    }

    /// Without `--online`.
    async fn verify_here(&self) -> Said {
        self.ask(&[]).await
    }

    async fn ask(&self, options: &[&str]) -> Said {
        let ran = Command::new(env!("CARGO_BIN_EXE_portolan"))
            .arg("verify")
            .args(options)
            .arg(self.written())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(PATIENCE, ran)
            .await
            .expect("it ends")
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        Said {
            good: output.status.success(),
            text,
        }
    }
}

impl Said {
    /// Asserts that one line has this verdict and all these words.
    #[track_caller]
    fn has(&self, verdict: &str, words: &[&str]) -> &Self {
        let is_it = |line: &&str| line.starts_with(verdict) && words.iter().all(|word| line.contains(word));
        assert!(
            self.text.lines().find(is_it).is_some(),
            "no {verdict} with {words:?}:\n{}",
            self.text
        );
        self
    }

    /// Asserts that something has to be changed, and that the exit status says so.
    #[track_caller]
    fn is_bad(&self) -> &Self {
        assert!(!self.good && self.text.contains("FAIL"), "{}", self.text);
        self
    }

    /// Asserts that nothing has to be changed.
    #[track_caller]
    fn is_good(&self) -> &Self {
        assert!(self.good && !self.text.contains("FAIL"), "{}", self.text);
        self
    }
}
