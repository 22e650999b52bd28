//! A connection on which messages are published one after the other.

use std::io;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{
    super::error::NatsError,
    protocol::{Said, ServerInfo, take},
};

/// What a connection is made on.
pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// The most that a server says first.
const MAX_GREETING: usize = 64 << 10;
/// The name of one's own subscription.
const SUBSCRIPTION: u32 = 1;
/// JetStream isn't on, for the server or for the account.
const NO_JETSTREAM: [u64; 2] = [10_039, 10_076];

/// What is known before one logs in.
pub(super) struct Greeting {
    /// Members of `CONNECT`.
    pub(super) login: Value,
    pub(super) is_tls: bool,
    pub(super) info: ServerInfo,
}

/// Something to publish.
pub(super) struct Message<'a> {
    pub(super) subject: &'a str,
    pub(super) id: &'a str,
    pub(super) document: Vec<u8>,
}

/// How one learns that a message is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receipts {
    /// A stream keeps the subject and says so of each message.
    Stream,
    /// The server has taken it, and passed it to whoever is subscribed.
    Server,
}

/// See above. One that failed, or was left in the middle, isn't used again.
pub(in crate::events) struct Connection {
    socket: Box<dyn Socket>,
    read: Vec<u8>,
    info: ServerInfo,
    /// What subjects of receipts begin with.
    inbox: String,
    asked: u64,
    receipts: Receipts,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

/// What the server says before anything else, in the clear.
pub(super) async fn greeted<S: Socket>(mut socket: S) -> Result<(S, ServerInfo), NatsError> {
    let mut read = Vec::new();
    // Byte by byte: what comes after it may be TLS's.
    while !read.ends_with(b"\r\n") {
        if read.len() > MAX_GREETING {
            return Err(NatsError::Protocol("a greeting without an end".to_owned()));
        }
        read.push(socket.read_u8().await?);
    }
    match take(&mut read)? {
        Some(Said::Info(info)) => Ok((socket, described(&info)?)),
        Some(Said::Error(error)) => Err(NatsError::Server(error)),
        _ => Err(NatsError::Protocol("no INFO".to_owned())),
    }
}

fn described(info: &[u8]) -> Result<ServerInfo, NatsError> {
    serde_json::from_slice(info).map_err(|error| NatsError::Protocol(error.to_string()))
}

impl Connection {
    /// Logs in, and finds out how messages on `subject` are receipted.
    pub(super) async fn open(
        socket: Box<dyn Socket>,
        greeting: Greeting,
        subject: &str,
    ) -> Result<Self, NatsError> {
        let Greeting { login, is_tls, info } = greeting;
        let mut inbox = [0; 12];
        crate::entropy::fill(&mut inbox).map_err(io::Error::other)?;
        let mut connection = Self {
            socket,
            read: Vec::new(),
            info,
            inbox: format!("_INBOX.{}", hex::encode(inbox)),
            asked: 0,
            receipts: Receipts::Server,
        };
        let mut connect = json!({
            "verbose": false,
            "pedantic": false,
            "lang": "rust",
            "version": env!("CARGO_PKG_VERSION"),
            "name": "portolan",
            "protocol": 1,
            "headers": connection.info.headers,
            "no_responders": connection.info.headers,
            "tls_required": is_tls,
        });
        if let (Value::Object(all), Value::Object(login)) = (&mut connect, login) {
            all.extend(login);
        }
        let inbox = format!("{}.*", connection.inbox);
        connection
            .send(format!("CONNECT {connect}\r\nSUB {inbox} {SUBSCRIPTION}\r\nPING\r\n").as_bytes())
            .await?;
        connection.pong().await?;
        if connection.info.jetstream && connection.is_kept(subject).await? {
            connection.receipts = Receipts::Stream;
        }
        Ok(connection)
    }

    /// The longest message that the server takes.
    pub(super) fn longest(&self) -> usize {
        match self.info.max_payload {
            0 => usize::MAX,
            // Headers count.
            longest => longest.saturating_sub(1024),
        }
    }

    /// Publishes, and waits for the receipt.
    pub(super) async fn publish(&mut self, message: &Message<'_>) -> Result<(), NatsError> {
        match self.receipts {
            Receipts::Server => {
                let mut sent = self.published(message, None);
                sent.extend_from_slice(b"PING\r\n");
                self.send(&sent).await?;
                self.pong().await
            }
            Receipts::Stream => {
                let inbox = self.next_inbox();
                let sent = self.published(message, Some(&inbox));
                self.send(&sent).await?;
                let receipt = self.reply(&inbox).await?;
                let receipt = receipt.ok_or_else(|| NatsError::Stream("no stream answers".to_owned()))?;
                match (&receipt["error"], &receipt["stream"]) {
                    (Value::Null, Value::String(_)) => Ok(()),
                    (error, _) => Err(NatsError::Stream(error["description"].to_string())),
                }
            }
        }
    }

    fn published(&self, message: &Message<'_>, reply: Option<&str>) -> Vec<u8> {
        let (subject, document) = (message.subject, &message.document);
        let reply = reply.map(|reply| format!(" {reply}")).unwrap_or_default();
        let mut sent = match self.info.headers {
            false => format!("PUB {subject}{reply} {}\r\n", document.len()),
            true => {
                let headers = format!(
                    "NATS/1.0\r\nContent-Type: application/cloudevents+json\r\nNats-Msg-Id: {}\r\n\r\n",
                    message.id
                );
                let whole = headers.len() + document.len();
                format!("HPUB {subject}{reply} {} {whole}\r\n{headers}", headers.len())
            }
        }
        .into_bytes();
        sent.extend_from_slice(document);
        sent.extend_from_slice(b"\r\n");
        sent
    }

    /// Whether a stream keeps what is published there. Who may not ask gets no receipts.
    async fn is_kept(&mut self, subject: &str) -> Result<bool, NatsError> {
        let inbox = self.next_inbox();
        let question = json!({ "subject": subject }).to_string();
        let asked = format!(
            "PUB $JS.API.STREAM.NAMES {inbox} {}\r\n{question}\r\n",
            question.len()
        );
        self.send(asked.as_bytes()).await?;
        let answer = match self.reply(&inbox).await {
            Ok(Some(answer)) => answer,
            Ok(None) => return Ok(false),
            Err(NatsError::Server(error))
                if error.to_ascii_lowercase().starts_with("permissions violation") =>
            {
                tracing::warn!(
                    subject,
                    error,
                    "whether a stream of NATS keeps events can't be asked"
                );
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        match (&answer["error"], &answer["streams"]) {
            (Value::Null, Value::Array(streams)) => Ok(!streams.is_empty()),
            (Value::Null, _) => Ok(false),
            (error, _)
                if error["err_code"]
                    .as_u64()
                    .is_some_and(|code| NO_JETSTREAM.contains(&code)) =>
            {
                Ok(false)
            }
            (error, _) => Err(NatsError::Stream(error["description"].to_string())),
        }
    }

    fn next_inbox(&mut self) -> String {
        self.asked += 1;
        format!("{}.{}", self.inbox, self.asked)
    }

    /// The answer that comes to `inbox`; `None` when nobody answers.
    async fn reply(&mut self, inbox: &str) -> Result<Option<Value>, NatsError> {
        loop {
            if let Said::Message {
                subject,
                has_no_responder,
                body,
            } = self.said().await?
                && subject == inbox
            {
                let answer =
                    || serde_json::from_slice(&body).map_err(|error| NatsError::Protocol(error.to_string()));
                return if has_no_responder {
                    Ok(None)
                } else {
                    answer().map(Some)
                };
            }
        }
    }

    async fn pong(&mut self) -> Result<(), NatsError> {
        while self.said().await? != Said::Pong {}
        Ok(())
    }

    /// The next thing that the server says, unless it needs no more than an answer.
    async fn said(&mut self) -> Result<Said, NatsError> {
        loop {
            match take(&mut self.read)? {
                Some(Said::Ping) => self.send(b"PONG\r\n").await?,
                Some(Said::Error(error)) => return Err(NatsError::Server(error)),
                Some(Said::Info(info)) => self.info = described(&info)?,
                Some(Said::Ok) => {}
                Some(said) => return Ok(said),
                None => {
                    if self.socket.read_buf(&mut self.read).await? == 0 {
                        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                    }
                }
            }
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), NatsError> {
        self.socket.write_all(bytes).await?;
        Ok(self.socket.flush().await?)
    }
}
