//! One connection: dialled, logged in, to a server that may be used and is the one that counts.

use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufStream},
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;

use super::{
    error::RedisError,
    ledger::{Beginning, Begun},
    protocol::{self, Answer},
    settings::{ASKED, Sound, Wanted, judge},
};
use crate::{
    config::{RedisConfig, RedisServers, RedisTls, ServerAddress},
    outbound::Trust,
    storage::Version,
};

/// The number of the schema that this release reads and writes.
pub(super) const SCHEMA: u64 = 1;

/// What is ever asked, once a connection has begun.
#[derive(Clone, Copy, Debug)]
pub(super) enum Script {
    Read,
    Range,
    Transact,
}

const BEGIN: &str = include_str!("begin.lua");
/// In the order of [`Script`].
const SCRIPTS: [&str; 3] = [
    include_str!("read.lua"),
    include_str!("range.lua"),
    include_str!("transact.lua"),
];

/// How to get there.
pub(super) struct Way {
    config: RedisConfig,
    tls: Option<Arc<ClientConfig>>,
    patience: Duration,
}

/// What a connection may be begun with.
pub(super) struct Terms {
    /// A keyspace is made where there is none.
    pub(super) makes: bool,
    /// The last term that is known.
    pub(super) known: u64,
}

/// A connection that has begun.
pub(super) struct Connection {
    line: Line,
    hashes: Vec<String>,
    pub(super) sound: Sound,
    /// When it began.
    pub(super) since: Instant,
}

/// A connection of which nothing is known.
struct Line(BufStream<Box<dyn Socket>>);

trait Socket: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Socket for T {}

impl Line {
    /// Sends commands at once, and reads as many answers.
    async fn ask(&mut self, commands: &[Vec<&[u8]>]) -> io::Result<Vec<Answer>> {
        let mut packed = Vec::new();
        for words in commands {
            protocol::write(&mut packed, words);
        }
        self.0.write_all(&packed).await?;
        self.0.flush().await?;
        let mut answers = Vec::with_capacity(commands.len());
        for _ in commands {
            answers.push(protocol::read(&mut self.0).await?);
        }
        Ok(answers)
    }
}

impl Connection {
    /// Asks for a script's answer. Where `waits`, so many replicas as are wanted must have everything written so far, or else the
    /// answer is followed by how many have it.
    pub(super) async fn call(
        &mut self,
        script: Script,
        keys: &[&[u8]],
        arguments: &[&[u8]],
        waits: Option<Duration>,
    ) -> io::Result<(Answer, u64)> {
        let hash = self.hashes.get(script as usize).map(String::as_bytes);
        let count = keys.len().to_string();
        let mut words: Vec<&[u8]> = vec![b"EVALSHA", hash.unwrap_or_default(), count.as_bytes()];
        words.extend(keys);
        words.push(self.sound.run.as_bytes());
        words.extend(arguments);
        let (replicas, longest);
        let mut commands = vec![words];
        if let Some(within) = waits {
            replicas = self.sound.replicas.to_string();
            longest = within.as_millis().to_string();
            commands.push(vec![b"WAIT", replicas.as_bytes(), longest.as_bytes()]);
        }
        let mut answers = self.line.ask(&commands).await?.into_iter();
        let answer = answers.next().unwrap_or(Answer::Nil);
        let have = answers.next().and_then(|answer| answer.number());
        Ok((answer, have.unwrap_or(0)))
    }
}

impl Way {
    /// As `config` has it; asks for nothing yet.
    pub(super) fn new(config: &RedisConfig, patience: Duration) -> Result<Self, RedisError> {
        let trust = match &config.tls {
            RedisTls::Off => None,
            RedisTls::On { authority: None } => Some(Trust::Machine),
            RedisTls::On {
                authority: Some(path),
            } => Some(Trust::Bundle(path.clone())),
        };
        let tls = trust.map(|trust| trust.tls()).transpose()?;
        Ok(Self {
            config: config.clone(),
            tls: tls.map(Arc::new),
            patience,
        })
    }

    pub(super) fn prefix(&self) -> &str {
        &self.config.prefix
    }

    /// A connection to the server that takes writes, and what it begins with; `None` where there is no keyspace and none is made.
    pub(super) async fn connect(
        &self,
        state: &str,
        terms: &Terms,
    ) -> Result<Option<(Connection, Begun, String)>, RedisError> {
        let (address, sentinels) = self.locate().await?;
        let server = address.to_string();
        let connecting = timeout(self.patience, self.begin(&address, sentinels, state, terms));
        match connecting.await {
            Ok(begun) => Ok(begun?.map(|(connection, begun)| (connection, begun, server))),
            Err(_) => Err(asking(&server, "no connection in time")),
        }
    }

    /// The time by the server's clock.
    pub(super) async fn time(&self) -> Option<SystemTime> {
        let (address, _) = self.locate().await.ok()?;
        let asked = timeout(self.patience, async {
            let mut line = self.dial(&address).await?;
            let mut commands: Vec<Vec<&[u8]>> = self.login().into_iter().collect();
            commands.push(vec![b"TIME"]);
            line.ask(&commands).await
        });
        match asked.await.ok()?.ok()?.pop()? {
            Answer::List(time) => {
                let seconds = time.first()?.number()?;
                let micros = time.get(1)?.number()?;
                let since = Duration::from_secs(seconds) + Duration::from_micros(micros);
                SystemTime::UNIX_EPOCH.checked_add(since)
            }
            _ => None,
        }
    }

    /// The server that takes writes and, by its Sentinels, how many replicas it has.
    async fn locate(&self) -> Result<(ServerAddress, Option<u64>), RedisError> {
        match &self.config.servers {
            RedisServers::One(address) => Ok((address.clone(), None)),
            RedisServers::Sentinels { addresses, .. } => {
                let mut last = RedisError::Garbled { command: "SENTINEL" };
                for address in addresses {
                    match timeout(self.patience, self.ask_sentinel(address)).await {
                        Ok(Ok((found, replicas))) => return Ok((found, Some(replicas))),
                        Ok(Err(error)) => last = error,
                        Err(_) => last = asking(&address.to_string(), "no answer in time"),
                    }
                }
                Err(last)
            }
        }
    }

    async fn ask_sentinel(&self, address: &ServerAddress) -> Result<(ServerAddress, u64), RedisError> {
        let RedisServers::Sentinels {
            master,
            user,
            password,
            ..
        } = &self.config.servers
        else {
            return Err(RedisError::Garbled { command: "SENTINEL" });
        };
        let server = address.to_string();
        let mut line = self.dial(address).await.map_err(|error| asking(&server, error))?;
        let password = password.as_ref().map(|password| password.expose());
        let mut commands: Vec<_> = login(user.as_deref(), password).into_iter().collect();
        commands.push(vec![b"SENTINEL", b"MASTER", master.as_bytes()]);
        let answers = line
            .ask(&commands)
            .await
            .map_err(|error| asking(&server, error))?;
        let told = accepted(&server, "SENTINEL MASTER", answers)?.pop();
        let Some(Answer::List(words)) = told else {
            return Err(RedisError::Garbled { command: "SENTINEL" });
        };
        let of = |name: &str| {
            let at = words
                .iter()
                .position(|word| word.text().as_deref() == Some(name))?;
            words.get(at + 1)?.text()
        };
        match (of("ip"), of("port").and_then(|port| port.parse().ok())) {
            (Some(host), Some(port)) => {
                let replicas = of("num-slaves").and_then(|number| number.parse().ok());
                Ok((ServerAddress { host, port }, replicas.unwrap_or(0)))
            }
            _ => Err(RedisError::Garbled { command: "SENTINEL" }),
        }
    }

    async fn dial(&self, address: &ServerAddress) -> io::Result<Line> {
        let tcp = TcpStream::connect((address.host.as_str(), address.port)).await?;
        tcp.set_nodelay(true)?;
        let socket: Box<dyn Socket> = match &self.tls {
            None => Box::new(tcp),
            Some(tls) => {
                let name = ServerName::try_from(address.host.clone()).map_err(io::Error::other)?;
                Box::new(TlsConnector::from(tls.clone()).connect(name, tcp).await?)
            }
        };
        Ok(Line(BufStream::new(socket)))
    }

    fn login(&self) -> Option<Vec<&[u8]>> {
        let password = self.config.password.as_ref().map(|password| password.expose());
        login(self.config.user.as_deref(), password)
    }

    async fn begin(
        &self,
        address: &ServerAddress,
        sentinels: Option<u64>,
        state: &str,
        terms: &Terms,
    ) -> Result<Option<(Connection, Begun)>, RedisError> {
        let server = address.to_string();
        let lost = |error: io::Error| asking(&server, error);
        let mut line = self.dial(address).await.map_err(lost)?;
        let database = self.config.database.to_string();
        let mut commands: Vec<Vec<&[u8]>> = self.login().into_iter().collect();
        if self.config.database > 0 {
            commands.push(vec![b"SELECT", database.as_bytes()]);
        }
        commands.push(vec![b"INFO"]);
        commands.extend(SCRIPTS.map(|script| vec![&b"SCRIPT"[..], b"LOAD", script.as_bytes()]));
        // What may be refused.
        commands.push(
            [&b"CONFIG"[..], b"GET"]
                .into_iter()
                .chain(ASKED.map(str::as_bytes))
                .collect(),
        );
        commands.push(vec![b"CLIENT", b"SETNAME", self.config.client_name.as_bytes()]);
        let mut answers = line.ask(&commands).await.map_err(lost)?;
        let may_fail = answers.split_off(answers.len().saturating_sub(2));
        let told = accepted(&server, "SELECT, INFO or SCRIPT LOAD", answers)?;
        let (info, hashes) = match told.iter().rev().collect::<Vec<_>>()[..] {
            [transact, range, read, info, ..] => (info.text(), [read, range, transact]),
            _ => return Err(RedisError::Garbled { command: "INFO" }),
        };
        let wanted = Wanted {
            server: &server,
            durability: self.config.durability,
            sentinels,
        };
        let config = may_fail.first().unwrap_or(&Answer::Nil);
        let sound = judge(&wanted, &info.unwrap_or_default(), config)?;
        let hashes = hashes.into_iter().filter_map(Answer::text).collect();
        let Some(begun) = self.take(&mut line, &server, &sound, state, terms).await? else {
            return Ok(None);
        };
        let connection = Connection {
            line,
            hashes,
            sound,
            since: Instant::now(),
        };
        Ok(Some((connection, begun)))
    }

    /// Takes the keyspace over for this process of the server, unless it is its own.
    async fn take(
        &self,
        line: &mut Line,
        server: &str,
        sound: &Sound,
        state: &str,
        terms: &Terms,
    ) -> Result<Option<Begun>, RedisError> {
        let history = format!("{}:terms", self.config.prefix);
        let (ours, known) = (SCHEMA.to_string(), terms.known.to_string());
        let id = hex::encode(Version::random().to_bytes());
        let makes: &[u8] = if terms.makes { b"make" } else { b"" };
        let command: Vec<&[u8]> = vec![
            b"EVAL",
            BEGIN.as_bytes(),
            b"2",
            state.as_bytes(),
            history.as_bytes(),
            sound.run.as_bytes(),
            ours.as_bytes(),
            id.as_bytes(),
            makes,
            known.as_bytes(),
        ];
        let answers = line
            .ask(&[command])
            .await
            .map_err(|error| asking(server, error))?;
        let told = accepted(server, "EVAL", answers)?.pop();
        let Some(Answer::List(words)) = told else {
            return Err(RedisError::Garbled { command: "EVAL" });
        };
        let number = |at: usize| words.get(at).and_then(Answer::number);
        let text = |at: usize| words.get(at).and_then(Answer::text);
        let beginning = |at: usize| text(at).and_then(|text| Beginning::parse(&text));
        match (text(0), number(1), number(2), number(3), number(4)) {
            _ if words.is_empty() => Ok(None),
            (Some(id), Some(_), Some(_), Some(term), Some(written)) => Ok(Some(Begun {
                id,
                run: sound.run.clone(),
                asked: terms.known,
                term,
                written,
                known: beginning(5),
                after: beginning(6),
            })),
            (Some(_), Some(number), Some(oldest), ..) if oldest > SCHEMA => Err(RedisError::Newer {
                prefix: self.config.prefix.clone(),
                number,
                oldest,
                ours: SCHEMA,
            }),
            _ => Err(RedisError::Garbled { command: "EVAL" }),
        }
    }
}

fn login<'a>(user: Option<&'a str>, password: Option<&'a str>) -> Option<Vec<&'a [u8]>> {
    let mut words: Vec<&[u8]> = vec![b"AUTH"];
    words.extend(user.map(str::as_bytes));
    words.push(password?.as_bytes());
    Some(words)
}

/// The answers, if none of them is a refusal.
fn accepted(server: &str, command: &'static str, answers: Vec<Answer>) -> Result<Vec<Answer>, RedisError> {
    for answer in &answers {
        if let Answer::Refusal(said) = answer {
            return Err(RedisError::Refused {
                server: server.to_owned(),
                command,
                said: said.clone(),
            });
        }
    }
    Ok(answers)
}

pub(super) fn asking(
    server: &str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> RedisError {
    RedisError::Asking {
        server: server.to_owned(),
        source: source.into(),
    }
}
