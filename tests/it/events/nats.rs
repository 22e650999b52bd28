//! A real nats-server that keeps what is published in a stream, and is killed.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use portolan::config::{Secret, SinkKind, SinkLogin};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream},
    net::TcpStream,
    process::{Child, Command},
};

use super::{sink, telling, told::Told, under_a_workload};
use crate::support::{eventually, ports::free_port};

const SUBJECT: &str = "registry.events";
const PASSWORD: &str = "opensesame";

/// A server that is started again and again with the same data.
struct NatsServer {
    port: u16,
    data: PathBuf,
    child: Option<Child>,
}

impl NatsServer {
    async fn start(folder: &Path) -> Self {
        let mut server = Self {
            port: free_port(1),
            data: folder.to_owned(),
            child: None,
        };
        server.run().await;
        server
    }

    async fn run(&mut self) {
        let child = Command::new("nats-server")
            .args(["--addr", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--user", "jane", "--pass", PASSWORD, "--jetstream", "--store_dir"])
            .arg(&self.data)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("nats-server is installed: tests/run installs it");
        self.child = Some(child);
        eventually("nats-server listens", || async {
            TcpStream::connect(("127.0.0.1", self.port)).await.is_ok()
        })
        .await;
    }

    /// As kill -9.
    async fn kill(&mut self) {
        self.child.take().unwrap().kill().await.unwrap();
    }

    /// Asks JetStream.
    async fn ask(&self, subject: &str, question: &Value) -> Value {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let (mut stream, mut line) = (BufStream::new(stream), String::new());
        stream.read_line(&mut line).await.unwrap();
        let login = json!({ "user": "jane", "pass": PASSWORD, "verbose": false, "headers": true });
        let question = question.to_string();
        let asked = format!(
            "CONNECT {login}\r\nSUB inbox 1\r\nPUB {subject} inbox {}\r\n{question}\r\n",
            question.len()
        );
        stream.write_all(asked.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        loop {
            line.clear();
            assert!(
                stream.read_line(&mut line).await.unwrap() > 0,
                "nats-server hung up"
            );
            assert!(!line.starts_with("-ERR"), "{line}");
            if line.starts_with("MSG ") {
                let length = line.trim().rsplit(' ').next().unwrap().parse().unwrap();
                let mut body = vec![0; length];
                stream.read_exact(&mut body).await.unwrap();
                return serde_json::from_slice(&body).unwrap();
            }
        }
    }

    /// All that the stream has.
    async fn told(&self) -> Vec<Told> {
        let mut told = Vec::new();
        for seq in 1.. {
            let found = self
                .ask("$JS.API.STREAM.MSG.GET.EVENTS", &json!({ "seq": seq }))
                .await;
            let Some(data) = found["message"]["data"].as_str() else {
                break;
            };
            let headers = STANDARD
                .decode(found["message"]["hdrs"].as_str().unwrap())
                .unwrap();
            let event = Told::of_document(&serde_json::from_slice(&STANDARD.decode(data).unwrap()).unwrap());
            let id = format!("Nats-Msg-Id: {}\r\n", event.id);
            assert!(String::from_utf8(headers).unwrap().contains(&id));
            told.push(event);
        }
        told
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_nats_has_everything_in_order_though_the_server_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let server = NatsServer::start(folder.path()).await;
    let stream = json!({ "name": "EVENTS", "subjects": [SUBJECT], "storage": "file", "num_replicas": 1 });
    let made = server.ask("$JS.API.STREAM.CREATE.EVENTS", &stream).await;
    assert!(made["error"].is_null(), "{made}");
    let address = format!("nats://127.0.0.1:{}", server.port);
    let mut nats = sink(SinkKind::Nats, address, Duration::from_secs(2));
    nats.login = SinkLogin::Password("jane".to_owned(), Secret::new(PASSWORD));
    let mesh = telling(vec![nats]).await;
    let server = tokio::sync::Mutex::new(server);
    let disturb = async {
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(600)).await;
            let mut server = server.lock().await;
            server.kill().await;
            tokio::time::sleep(Duration::from_millis(400)).await;
            server.run().await;
        }
    };
    under_a_workload(mesh, async || server.lock().await.told().await, disturb).await;
}
