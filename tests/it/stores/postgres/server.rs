//! A PostgreSQL server in a folder of its own, for one test.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Stdio,
};

use portolan::config::PostgresConfig;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::support::{eventually, ports::free_port};

/// A running server, killed when dropped.
pub(crate) struct Server {
    process: Option<Child>,
    folder: TempDir,
    port: u16,
    settings: Vec<String>,
}

/// Where Debian has the programs of the newest release.
fn programs() -> PathBuf {
    let mut releases: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL is missing: run `tests/run rust`, or install Debian's postgresql")
        .map(|entry| entry.unwrap().path())
        .collect();
    releases.sort();
    releases.pop().unwrap().join("bin")
}

fn command(program: &str) -> Command {
    unprivileged(&programs().join(program))
}

/// A program that refuses to be root's.
fn unprivileged(program: &Path) -> Command {
    let mut command = match fs::metadata("/proc/self").unwrap().uid() == 0 {
        true => {
            let mut command = Command::new("setpriv");
            command
                .args(["--reuid=postgres", "--regid=postgres", "--init-groups"])
                .arg(program);
            command
        }
        false => Command::new(program),
    };
    command.kill_on_drop(true).stdin(Stdio::null());
    command
}

async fn run(command: &mut Command) -> String {
    let done = command.output().await.unwrap();
    let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    assert!(done.status.success(), "{command:?}: {said}");
    said
}

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    folder
}

impl Server {
    /// An empty one with these lines of postgresql.conf.
    pub(crate) async fn start(settings: &[&str]) -> Self {
        let folder = folder();
        let mut initdb = command("initdb");
        initdb.args([
            "--auth=trust",
            "--username=postgres",
            "--encoding=UTF8",
            "--no-sync",
            "--pgdata",
        ]);
        run(initdb.arg(folder.path().join("data"))).await;
        Self::over(folder, settings.iter().map(ToString::to_string).collect()).await
    }

    async fn over(folder: TempDir, settings: Vec<String>) -> Self {
        let mut server = Self {
            process: None,
            folder,
            port: free_port(1),
            settings,
        };
        server.run().await;
        server
    }

    /// Starts it again, after [`kill`](Self::kill).
    pub(crate) async fn run(&mut self) {
        let log = fs::File::create(self.folder.path().join("log")).unwrap();
        let mut postgres = command("postgres");
        postgres
            .arg("-D")
            .arg(self.data())
            .args([
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "unix_socket_directories=",
            ])
            .args(["-c", &format!("port={}", self.port), "-c", "max_connections=300"]);
        for setting in &self.settings {
            postgres.args(["-c", setting]);
        }
        self.process = Some(postgres.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        eventually("the server is ready", || async {
            let ready = command("pg_isready")
                .args(["--host=127.0.0.1", &format!("--port={}", self.port)])
                .stdout(Stdio::null())
                .status()
                .await;
            ready.unwrap().success()
        })
        .await;
    }

    /// A server that follows it, from now on.
    pub(crate) async fn standby(&self) -> Self {
        let folder = folder();
        let mut backup = command("pg_basebackup");
        backup
            .args([
                "--host=127.0.0.1",
                "--username=postgres",
                "--write-recovery-conf",
                "--checkpoint=fast",
            ])
            .args([&format!("--port={}", self.port), "--no-sync", "--pgdata"]);
        run(backup.arg(folder.path().join("data"))).await;
        let standby = Self::over(folder, Vec::new()).await;
        eventually("the standby is synchronous", || async {
            self.sql("SELECT sync_state FROM pg_stat_replication")
                .await
                .contains("sync")
        })
        .await;
        standby
    }

    /// Makes a standby a primary.
    pub(crate) async fn promote(&self) {
        run(command("pg_ctl").arg("promote").arg("-D").arg(self.data())).await;
    }

    /// Takes no connection from now on; those that are there stay.
    pub(crate) async fn shut_out(&self) {
        fs::write(
            self.data().join("pg_hba.conf"),
            "host all all 127.0.0.1/32 reject\n",
        )
        .unwrap();
        self.sql("SELECT pg_reload_conf()").await;
        eventually("nobody gets in any more", || async {
            let psql = command("psql")
                .args(["--host=127.0.0.1", "--username=postgres", "--command=SELECT 1"])
                .arg(format!("--port={}", self.port))
                .output()
                .await;
            !psql.unwrap().status.success()
        })
        .await;
    }

    /// Ends it and all of its processes at once, as a lost machine does.
    pub(crate) async fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        let pid = process.id().unwrap();
        let children = children(pid);
        process.start_kill().unwrap();
        for child in &children {
            // It may have gone by itself.
            let _ = Command::new("kill")
                .args(["-9", &child.to_string()])
                .output()
                .await;
        }
        process.wait().await.unwrap();
        eventually("its processes are gone", || async {
            children
                .iter()
                .all(|child| !Path::new(&format!("/proc/{child}")).exists())
        })
        .await;
    }

    /// PgBouncer before it, which gives each transaction another of two connections; it ends with what is given.
    pub(crate) async fn pooled(&self) -> (Child, PostgresConfig) {
        let (port, file) = (free_port(1), self.folder.path().join("pgbouncer.ini"));
        let ini = format!(
            "[databases]\npostgres = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = any\npool_mode = transaction\ndefault_pool_size = 2\n",
            self.port
        );
        fs::write(
            &file,
            ini.replace(
                "[databases]\npostgres = ",
                "[databases]\npostgres = user=postgres ",
            ),
        )
        .unwrap();
        let mut pgbouncer = unprivileged(Path::new("/usr/sbin/pgbouncer"));
        let child = pgbouncer
            .arg("-q")
            .arg(&file)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        eventually("PgBouncer is ready", || async {
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()
        })
        .await;
        let url = format!("postgres://postgres@127.0.0.1:{port}/postgres?sslmode=disable");
        let config = PostgresConfig {
            servers: url.parse().unwrap(),
            ..self.config()
        };
        (child, config)
    }

    /// Takes TLS from now on, with a certificate for `name`, and a user `portolan` who comes by TLS and password alone: how it is
    /// reached so.
    pub(crate) async fn guarded(&self, name: &str) -> PostgresConfig {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let owner = fs::metadata(self.data()).unwrap();
        for (file, content) in [
            ("server.crt", made.cert.pem()),
            ("server.key", made.signing_key.serialize_pem()),
            (
                "pg_hba.conf",
                "host all postgres 127.0.0.1/32 trust\nhostssl all portolan 127.0.0.1/32 scram-sha-256\n"
                    .to_owned(),
            ),
        ] {
            let file = self.data().join(file);
            fs::write(&file, content).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            chown(&file, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
        self.sql("CREATE USER portolan PASSWORD 'a pass/word'").await;
        self.sql("GRANT CREATE ON DATABASE postgres TO portolan").await;
        self.sql("ALTER SYSTEM SET ssl = on").await;
        self.sql("SELECT pg_reload_conf()").await;
        eventually("the server has TLS", || async {
            self.sql("SHOW ssl").await.trim() == "on"
        })
        .await;
        let authority = self.folder.path().join("ca.crt");
        fs::write(&authority, made.cert.pem()).unwrap();
        let url = format!(
            "postgres://portolan:a%20pass%2Fword@127.0.0.1:{}/postgres?sslmode=require",
            self.port
        );
        PostgresConfig {
            servers: url.parse().unwrap(),
            authority: Some(authority),
            ..self.config()
        }
    }

    /// What a statement gives.
    pub(crate) async fn sql(&self, statement: &str) -> String {
        run(command("psql")
            .args([
                "--host=127.0.0.1",
                "--username=postgres",
                "--no-align",
                "--tuples-only",
            ])
            .args([&format!("--port={}", self.port), "--command", statement]))
        .await
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// How it is reached.
    pub(crate) fn config(&self) -> PostgresConfig {
        let url = format!(
            "postgres://postgres@127.0.0.1:{}/postgres?sslmode=disable",
            self.port
        );
        PostgresConfig {
            servers: url.parse().unwrap(),
            authority: None,
            schema: "portolan".to_owned(),
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

/// The processes whose parent is `pid`.
fn children(pid: u32) -> Vec<i32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|process| process.file_name().to_str()?.parse::<i32>().ok())
        .filter(|process| {
            let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
            status.lines().any(|line| line == format!("PPid:\t{pid}"))
        })
        .collect()
}
