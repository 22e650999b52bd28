//! A Redis server in a folder of its own, for one test.

use std::{fs, path::PathBuf, process::Stdio};

use portolan::config::{Durability, RedisConfig, RedisServers, RedisTls, Secret, ServerAddress};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::support::{eventually, ports::free_port};

/// What a server must have to be taken.
pub(crate) const DURABLE: &[&str] = &["appendonly yes", "appendfsync always"];

/// A running server, killed when dropped.
pub(crate) struct Server {
    process: Option<Child>,
    folder: TempDir,
    port: u16,
    settings: Vec<String>,
    tls: bool,
}

/// One of Debian's programs.
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.kill_on_drop(true).stdin(Stdio::null());
    command
}

impl Server {
    /// An empty one that keeps what it acknowledges.
    pub(crate) async fn durable() -> Self {
        Self::start(DURABLE).await
    }

    /// An empty one with these lines of redis.conf.
    pub(crate) async fn start(settings: &[&str]) -> Self {
        let mut server = Self {
            process: None,
            folder: tempfile::tempdir().unwrap(),
            port: free_port(1),
            settings: settings.iter().map(ToString::to_string).collect(),
            tls: false,
        };
        server.run().await;
        server
    }

    /// One that follows this one, from now on.
    pub(crate) async fn replica(&self, settings: &[&str]) -> Self {
        let follows = format!("replicaof 127.0.0.1 {}", self.port);
        let replica = Self::start(&[settings, &[&*follows]].concat()).await;
        eventually("the replica follows", || async {
            replica
                .ask(&["INFO", "replication"])
                .await
                .contains("master_link_status:up")
        })
        .await;
        replica
    }

    /// Starts it, again after [`kill`](Self::kill).
    pub(crate) async fn run(&mut self) {
        let conf = self.folder.path().join("redis.conf");
        let port = match self.tls {
            true => format!("port 0\ntls-port {}", self.port),
            false => format!("port {}", self.port),
        };
        let settings = self.settings.join("\n");
        let dir = self.folder.path().display();
        fs::write(
            &conf,
            format!("bind 127.0.0.1\n{port}\ndir {dir}\nsave \"\"\nrepl-diskless-sync-delay 0\n{settings}\n"),
        )
        .unwrap();
        let log = fs::File::create(self.folder.path().join("log")).unwrap();
        let mut redis = command("redis-server");
        self.process = Some(
            redis
                .arg(&conf)
                .stdout(log)
                .spawn()
                .expect("Redis is missing: run `tests/run rust`, or install Debian's redis-server"),
        );
        eventually("the server is ready", || async {
            let said = self.ask(&["PING"]).await;
            said.contains("PONG") || said.contains("NOAUTH")
        })
        .await;
    }

    /// Ends it at once, as a lost machine does.
    pub(crate) async fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.start_kill().unwrap();
        process.wait().await.unwrap();
    }

    /// What a command is answered.
    pub(crate) async fn ask(&self, words: &[&str]) -> String {
        let mut cli = command("redis-cli");
        cli.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
        if self.tls {
            cli.arg("--tls").arg("--cacert").arg(self.authority());
        }
        let done = cli.args(words).output().await.unwrap();
        String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned()
    }

    /// Takes TLS alone from now on, with a certificate for `name`, and a user `portolan` who may do what docs/stores.md lists and has
    /// a password: how it is reached so.
    pub(crate) async fn guarded(mut self, name: &str) -> (Self, RedisConfig) {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let key = self.folder.path().join("server.key");
        fs::write(self.authority(), made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        self.tls = true;
        self.settings.extend([
            format!("tls-cert-file {}", self.authority().display()),
            format!("tls-key-file {}", key.display()),
            "tls-auth-clients no".to_owned(),
            format!("user portolan on >{PASSWORD} resetchannels {RIGHTS}"),
        ]);
        self.kill().await;
        self.run().await;
        let config = RedisConfig {
            user: Some("portolan".to_owned()),
            password: Some(Secret::new(PASSWORD)),
            tls: RedisTls::On {
                authority: Some(self.authority()),
            },
            ..self.config()
        };
        (self, config)
    }

    /// How it is reached.
    pub(crate) fn config(&self) -> RedisConfig {
        RedisConfig {
            servers: RedisServers::One(self.address()),
            user: None,
            password: None,
            tls: RedisTls::Off,
            database: 0,
            prefix: "portolan".to_owned(),
            client_name: "portolan".to_owned(),
            durability: Durability::Strict,
        }
    }

    pub(crate) fn address(&self) -> ServerAddress {
        ServerAddress {
            host: "127.0.0.1".to_owned(),
            port: self.port,
        }
    }

    fn authority(&self) -> PathBuf {
        self.folder.path().join("server.crt")
    }
}

const PASSWORD: &str = "a:pass/word";
/// As docs/stores.md has them.
pub(crate) const RIGHTS: &str = "~portolan:* -@all +select +info +config|get +client|setname +script|load +eval +evalsha +wait +time \
                                 +exists +hget +hmget +hset +hdel +hincrby +zadd +zrem +zrangebylex";

/// Sentinels that watch a server, killed when dropped.
pub(crate) struct Sentinels {
    _folders: Vec<TempDir>,
    _processes: Vec<Child>,
    addresses: Vec<ServerAddress>,
}

impl Sentinels {
    /// Three, of which two must agree that it is gone.
    pub(crate) async fn start(server: &Server) -> Self {
        let (mut folders, mut processes, mut addresses) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..3 {
            let (folder, port) = (tempfile::tempdir().unwrap(), free_port(1));
            let conf = folder.path().join("sentinel.conf");
            let settings = format!(
                "bind 127.0.0.1\nport {port}\ndir {}\nsentinel monitor registry 127.0.0.1 {} 2\n\
                 sentinel down-after-milliseconds registry 1000\nsentinel failover-timeout registry 5000\n",
                folder.path().display(),
                server.port,
            );
            fs::write(&conf, settings).unwrap();
            let mut sentinel = command("redis-server");
            let sentinel = sentinel.arg(&conf).arg("--sentinel").stdout(Stdio::null());
            processes.push(sentinel.spawn().unwrap());
            addresses.push(ServerAddress {
                host: "127.0.0.1".to_owned(),
                port,
            });
            folders.push(folder);
        }
        let sentinels = Self {
            _folders: folders,
            _processes: processes,
            addresses,
        };
        eventually("the Sentinels know each other and the replicas", || async {
            let mut all = true;
            for address in &sentinels.addresses {
                let mut cli = command("redis-cli");
                cli.args(["-p", &address.port.to_string(), "SENTINEL", "MASTER", "registry"]);
                let done = cli.output().await.unwrap();
                let said = String::from_utf8_lossy(&done.stdout).replace('\n', " ");
                all &= said.contains("num-other-sentinels 2") && !said.contains("num-slaves 0");
            }
            all
        })
        .await;
        sentinels
    }

    /// How what they watch is reached.
    pub(crate) fn config(&self, server: &Server) -> RedisConfig {
        RedisConfig {
            servers: RedisServers::Sentinels {
                addresses: self.addresses.clone(),
                master: "registry".to_owned(),
                user: None,
                password: None,
            },
            durability: Durability::Relaxed,
            ..server.config()
        }
    }
}
