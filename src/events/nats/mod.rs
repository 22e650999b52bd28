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
        let within = self.timeout;
        let publishing = async {
            // Whoever is dropped in the middle leaves no connection behind.
            let mut connection = match line.take() {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            let message = Message {
                subject: &self.subject,
                id: &event.id,
                document: self.document(&connection, event),
            };
            connection.publish(&message).await?;
            *line = Some(connection);
            Ok(())
        };
        timeout(within, publishing)
            .await
            .unwrap_or(Err(NatsError::Late(within)))
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
        for address in &self.addresses {
            match self.connect_to(address).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn connect_to(&self, address: &Address) -> Result<Connection, NatsError> {
        // One that doesn't answer leaves time for the next.
        let share = self.timeout / (self.addresses.len() as u32 + 1);
        let connecting = TcpStream::connect((address.host.as_str(), address.port));
        let tcp = timeout(share, connecting)
            .await
            .map_err(|_| NatsError::Late(share))??;
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
