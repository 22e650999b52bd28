//! Events on NATS: a message for each, in structured mode, as zot publishes them.
//!
//! A publisher of NATS's text protocol, because what is asked for is that the *server* has an event before the place in the feed
//! moves on. Client libraries publish into a buffer whose flush tells that the socket took it, and know receipts only through a
//! second interface that fails where no stream is. Here a subject that JetStream keeps is published with a receipt, which comes
//! once the stream has stored the message; any other is followed by a `PING`, whose `PONG` comes once the server has taken it.
//! Each message has the event's id in `Nats-Msg-Id`, by which a stream drops repetitions.
//!
//! Deliberately absent: subscriptions but the one for receipts, clusters' gossip (any of the configured addresses will do).

mod connection;
mod login;
mod protocol;

use std::{io, sync::Arc, time::Duration};

use http::Uri;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

pub(super) use self::connection::Connection;
use self::{
    connection::{Greeting, Message, Socket},
    login::Login,
};
use super::{
    error::{NatsError, SinkError},
    event::CloudEvent,
};
use crate::{config::EventSink, outbound::Trust};

/// The port, where an address names none.
const PORT: u16 = 4222;

/// A NATS server, or several of one cluster.
#[derive(Debug)]
pub(super) struct Nats {
    addresses: Vec<Address>,
    subject: String,
    login: Login,
    tls: Arc<ClientConfig>,
    timeout: Duration,
}

#[derive(Clone, Debug)]
struct Address {
    host: String,
    port: u16,
    is_tls: bool,
}

impl Address {
    fn of(text: &str, wants_tls: bool) -> Option<Self> {
        let uri: Uri = text.trim().parse().ok()?;
        let host = uri.host()?;
        Some(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(PORT),
            is_tls: wants_tls || uri.scheme_str() == Some("tls"),
        })
    }
}

impl Nats {
    pub(super) fn new(config: &EventSink) -> Result<Self, SinkError> {
        let wants_tls = config.tls.authorities.is_some() || config.tls.shown.is_some();
        let addresses = config.address.split(',');
        Ok(Self {
            addresses: addresses
                .filter_map(|address| Address::of(address, wants_tls))
                .collect(),
            subject: config.channel.clone().unwrap_or_default(),
            login: Login::new(&config.login)?,
            tls: Arc::new(Trust::from(&config.tls).tls()?),
            timeout: config.timeout,
        })
    }

    /// Publishes an event. The connection of `line`, or a new one there, is good for the next after that unless it failed.
    pub(super) async fn tell(
        &self,
        line: &mut Option<Connection>,
        event: &CloudEvent,
    ) -> Result<(), NatsError> {
        let (within, was_idle) = (self.timeout, line.is_some());
        let publishing = async {
            // Whoever is dropped in the middle leaves no connection behind.
            let published = match line.take() {
                Some(connection) => self.publish(connection, event).await,
                None => self.publish(self.connect().await?, event).await,
            };
            *line = Some(match published {
                // Nobody reads an idle connection, nor answers when it is asked whether it lives, so it may have ended.
                Err(NatsError::Socket(_) | NatsError::Server(_)) if was_idle => {
                    self.publish(self.connect().await?, event).await?
                }
                published => published?,
            });
            Ok(())
        };
        timeout(within, publishing)
            .await
            .unwrap_or(Err(NatsError::Late(within)))
    }

    /// Gives the connection back, if it took the event.
    async fn publish(&self, mut connection: Connection, event: &CloudEvent) -> Result<Connection, NatsError> {
        let message = Message {
            subject: &self.subject,
            id: &event.id,
            document: self.document(&connection, event),
        };
        connection.publish(&message).await?;
        Ok(connection)
    }

    /// Without the manifest where the server takes no message as long as that.
    fn document(&self, connection: &Connection, event: &CloudEvent) -> Vec<u8> {
        let document = event.document().to_string().into_bytes();
        if document.len() <= connection.longest() {
            return document;
        }
        let mut event = event.clone();
        event.data.remove("manifest");
        event.document().to_string().into_bytes()
    }

    async fn connect(&self) -> Result<Connection, NatsError> {
        let mut last = NatsError::Protocol("no address".to_owned());
        // One that doesn't answer, or stops in the middle, leaves time for the next.
        let share = self.timeout / (self.addresses.len() as u32 + 1);
        for address in &self.addresses {
            match timeout(share, self.connect_to(address)).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => last = error,
                Err(_) => last = NatsError::Late(share),
            }
        }
        Err(last)
    }

    async fn connect_to(&self, address: &Address) -> Result<Connection, NatsError> {
        let tcp = TcpStream::connect((address.host.as_str(), address.port)).await?;
        tcp.set_nodelay(true)?;
        let (tcp, info) = connection::greeted(tcp).await?;
        let is_tls = address.is_tls || info.tls_required;
        let socket: Box<dyn Socket> = match is_tls {
            false => Box::new(tcp),
            true => Box::new(self.secured(address, tcp).await?),
        };
        let greeting = Greeting {
            login: self.login.answer(info.nonce.as_deref())?,
            is_tls,
            info,
        };
        Connection::open(socket, greeting, &self.subject).await
    }

    async fn secured(&self, address: &Address, tcp: TcpStream) -> Result<impl Socket + use<>, NatsError> {
        let name = ServerName::try_from(address.host.clone()).map_err(io::Error::other)?;
        let connector = TlsConnector::from(self.tls.clone());
        Ok(connector.connect(name, tcp).await?)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;
    use tokio::{
        io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufStream},
        net::TcpListener,
        sync::mpsc,
        task::JoinSet,
    };

    use super::*;
    use crate::{
        config::{SinkKind, SinkLogin, SinkTls},
        oci::Timestamp,
    };

    fn nats(address: String) -> Nats {
        Nats::new(&EventSink {
            kind: SinkKind::Nats,
            address,
            channel: Some("events".to_owned()),
            timeout: Duration::from_secs(3),
            headers: Vec::new(),
            login: SinkLogin::None,
            tls: SinkTls::default(),
        })
        .unwrap()
    }

    fn event() -> CloudEvent {
        CloudEvent {
            id: "a@1.0".to_owned(),
            kind: "test".to_owned(),
            source: "test".to_owned(),
            time: Timestamp::from_ms(1),
            reason: None,
            data: Map::new(),
            manifest: None,
        }
    }

    /// A server that takes one event of each connection, and then ends it as nats-server does whose questions stay unanswered.
    async fn short_lived() -> (String, mpsc::UnboundedReceiver<()>, JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("nats://{}", listener.local_addr().unwrap());
        let (ended, ends) = mpsc::unbounded_channel();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (mut stream, mut has_event) = (BufStream::new(stream), false);
                stream.write_all(b"INFO {}\r\n").await.unwrap();
                stream.flush().await.unwrap();
                loop {
                    let mut line = String::new();
                    if stream.read_line(&mut line).await.unwrap() == 0 {
                        break;
                    }
                    has_event |= line.starts_with("PUB ");
                    if line == "PING\r\n" {
                        stream.write_all(b"PONG\r\n").await.unwrap();
                        stream.flush().await.unwrap();
                        if has_event {
                            break;
                        }
                    }
                }
                stream
                    .write_all(b"PING\r\n-ERR 'Stale Connection'\r\n")
                    .await
                    .unwrap();
                stream.shutdown().await.unwrap();
                drop(stream);
                let _ = ended.send(());
            }
        });
        (address, ends, serving)
    }

    #[tokio::test]
    async fn a_connection_that_ended_while_it_idled_is_made_anew_at_once() {
        let (address, mut ends, _serving) = short_lived().await;
        let (nats, mut line) = (nats(address), None);
        for _ in 0..3 {
            nats.tell(&mut line, &event()).await.unwrap();
            ends.recv().await.unwrap();
            assert!(line.is_some());
        }
    }

    #[tokio::test]
    async fn an_address_that_takes_connections_and_says_nothing_leaves_time_for_the_next() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, _ends, _serving) = short_lived().await;
        let nats = nats(format!("nats://{},{address}", silent.local_addr().unwrap()));
        nats.tell(&mut None, &event()).await.unwrap();
    }
}
