//! A listening socket and the loop that accepts on it.
//!
//! Bounded by [`ListenerSettings::connections`]: at the bound nothing is accepted until a connection ends, so that
//! clients wait in the kernel's queue instead of taking memory here, and the connection that has been idle longest is asked to
//! go. So is the oldest idle one of a client that has all it may have by itself; where none of its connections is idle, its
//! further ones are closed at once: they must not fill that queue for the others.
//!
//! Deliberately absent: what is spoken on a connection. The handler that [`Listener::serve`] is given serves it to its
//! end, closes it gracefully once the [`Drain`] begins, and gives it up after whatever idle time it likes.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt as _;
use rustls::{ProtocolVersion, ServerConfig, pki_types::CertificateDer};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{
    Accepting, Buffered, Drain, Io, IoSettings, Network, Received, Rest, Sealed, ServerTls, Stream, Tcp,
    clients::{Clients, Counted, client_network},
    idle::Idle,
};

/// Bounds of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerSettings {
    /// Most connections at a time.
    pub connections: usize,
    /// Most of them from one client ([`client_network`]).
    pub connections_per_client: usize,
    /// How long a TLS handshake may take.
    pub handshake: Duration,
    /// Of each connection.
    pub io: IoSettings,
}

/// A socket that listens, not yet accepting.
#[derive(Debug)]
pub struct Listener {
    // For logs: "public", "mesh".
    name: &'static str,
    socket: Box<dyn Accepting>,
    address: SocketAddr,
    tls: Option<ServerTls>,
    settings: ListenerSettings,
}

/// An address can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("can't listen on {address}: {fault}")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// What kind of fault, so that the caller can say what to do.
    pub fault: BindFault,
    /// What the operating system said.
    #[source]
    pub source: io::Error,
}

/// Why an address can't be listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindFault {
    /// Another socket listens there.
    InUse,
    /// It is no address of this machine.
    NotHere,
    /// This user may not use the port.
    Denied,
    /// Anything else.
    Other,
}

impl fmt::Display for BindFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InUse => "another process listens there",
            Self::NotHere => "it is no address of this machine",
            Self::Denied => "this user may not use that port",
            Self::Other => "the operating system refuses it",
        })
    }
}

/// A connection whose handshake is over.
#[derive(Debug)]
pub struct Connection {
    /// To speak on.
    pub io: Io,
    /// Who is at the other end.
    pub peer: PeerInfo,
    /// Its place among the listener's connections, given back when dropped. Keep it as long as the connection lives.
    pub slot: Slot,
    /// Counts what comes on it.
    pub received: Received,
}

/// A place among a listener's connections.
#[derive(Debug)]
pub struct Slot {
    _place: OwnedSemaphorePermit,
    counted: Counted,
    idle: Idle,
}

impl Slot {
    /// Says that the connection is idle: until what this gives is dropped, it may be asked to go to make room.
    #[must_use]
    pub fn rest(&self) -> Rest {
        self.idle.rest(self.counted.client())
    }
}

/// What is known of the other end of a connection.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// Its address.
    pub address: SocketAddr,
    /// The certificates it proved to hold, its own first.
    pub certificates: Option<Arc<[CertificateDer<'static>]>>,
    /// The version of TLS that it speaks; `None` is no TLS.
    pub tls: Option<ProtocolVersion>,
}

impl Listener {
    /// Listens on `address`; connections wait in the kernel until [`serve`](Self::serve) is called.
    ///
    /// # Errors
    /// [`BindError`] with the reason.
    pub async fn bind(
        name: &'static str,
        address: SocketAddr,
        tls: Option<ServerTls>,
        settings: ListenerSettings,
    ) -> Result<Self, BindError> {
        Self::bind_on(&Tcp, name, address, tls, settings).await
    }

    /// As [`bind`](Self::bind), on another network.
    ///
    /// # Errors
    /// [`BindError`] with the reason.
    pub async fn bind_on(
        network: &dyn Network,
        name: &'static str,
        address: SocketAddr,
        tls: Option<ServerTls>,
        settings: ListenerSettings,
    ) -> Result<Self, BindError> {
        let error = |source: io::Error| {
            let fault = match source.kind() {
                io::ErrorKind::AddrInUse => BindFault::InUse,
                io::ErrorKind::AddrNotAvailable => BindFault::NotHere,
                io::ErrorKind::PermissionDenied => BindFault::Denied,
                _ => BindFault::Other,
            };
            BindError {
                address,
                fault,
                source,
            }
        };
        let socket = network.listen(address).await.map_err(error)?;
        // Port 0 has become a real one.
        let address = socket.address().map_err(error)?;
        Ok(Self {
            name,
            socket,
            address,
            tls,
            settings,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts connections until `drain` begins, and runs `handler` on each, as a task of `drain`. Returns when
    /// nothing more is accepted; the connections go on.
    pub async fn serve<H, F>(self, drain: &Drain, handler: H)
    where
        H: Fn(Connection) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let slots = Arc::new(Semaphore::new(self.settings.connections));
        let clients = Clients::new(self.settings.connections_per_client);
        let idle = Idle::default();
        let token = drain.token();
        let run = |(stream, address, slot)| {
            let (tls, settings, name) = (self.tls.clone(), self.settings, self.name);
            let handler = handler.clone();
            drain.spawn(format!("{name} connection from {address}"), async move {
                match handshake(stream, address, tls, settings, slot).await {
                    Ok(connection) => handler(connection).await,
                    // Port scanners and health checks do this all day.
                    Err(error) => {
                        tracing::debug!(listener = name, peer = %address, %error, "a connection came to nothing");
                    }
                }
            });
        };
        // Ends with `None` when the drain begins.
        while let Some(Some(accepted)) = token
            .run_until_cancelled(self.accept(&slots, &clients, &idle))
            .await
        {
            run(accepted);
        }
        // Who waits in the kernel's queue has connected already: closing the socket would reset it.
        while let Some(Some(accepted)) = self.accept(&slots, &clients, &idle).now_or_never() {
            run(accepted);
        }
    }

    /// The next connection, once there is room for it; `None` only when the semaphore is closed, which it never is.
    async fn accept(
        &self,
        slots: &Arc<Semaphore>,
        clients: &Clients,
        idle: &Idle,
    ) -> Option<(Box<dyn Stream>, SocketAddr, Slot)> {
        if slots.available_permits() == 0 {
            let bound = self.settings.connections;
            tracing::warn!(
                listener = self.name,
                bound,
                "no room for another connection until one ends"
            );
            idle.make_room();
        }
        let permit = slots.clone().acquire_owned().await.ok()?;
        idle.has_room();
        loop {
            match self.socket.accept().await {
                Ok((stream, address)) => match join(clients, idle, address.ip()) {
                    Some(counted) => {
                        let slot = Slot {
                            _place: permit,
                            counted,
                            idle: idle.clone(),
                        };
                        return Some((stream, address, slot));
                    }
                    None => {
                        tracing::debug!(listener = self.name, peer = %address, "it has too many connections");
                    }
                },
                Err(error) if is_of_one_connection(&error) => {
                    tracing::debug!(listener = self.name, %error, "a connection went away before it was accepted");
                }
                // Out of file descriptors or memory: the connection stays in the queue, and so would the error.
                Err(error) => {
                    tracing::error!(listener = self.name, %error, "can't accept connections");
                    sleep(Duration::from_millis(500)).await;
                }
            }
        }
    }
}

/// A place among its client's connections, if need be that of an idle one, which is about to go.
fn join(clients: &Clients, idle: &Idle, address: IpAddr) -> Option<Counted> {
    let counted = clients.join(address);
    counted.or_else(|| {
        let is_going = idle.make_room_of(client_network(address));
        is_going.then(|| clients.join_beyond(address))
    })
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

/// Answers a client, or another member: those speak the versions whose records needn't be rustls's.
async fn accept(config: Arc<ServerConfig>, stream: Buffered, settings: IoSettings) -> io::Result<Io> {
    if config.enable_secret_extraction {
        return Sealed::accept(config, stream).await.map(Box::new).map(Io::Sealed);
    }
    let mut stream = TlsAcceptor::from(config).accept(stream).await?;
    stream.get_mut().1.set_buffer_limit(Some(settings.write_buffer));
    Ok(Io::Tls(Box::new(stream)))
}

async fn handshake(
    stream: Box<dyn Stream>,
    address: SocketAddr,
    tls: Option<ServerTls>,
    settings: ListenerSettings,
    slot: Slot,
) -> io::Result<Connection> {
    let stream = Buffered::new(stream, settings.io);
    let received = stream.received();
    let io = match tls {
        None => Io::Plain(stream),
        Some(tls) => {
            let too_long = |_| io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake took too long");
            let accept = accept(tls.config(), stream, settings.io);
            timeout(settings.handshake, accept).await.map_err(too_long)??
        }
    };
    let certificates = io.peer_certificates().map(Arc::from);
    let tls = io.tls_version();
    Ok(Connection {
        io,
        peer: PeerInfo {
            address,
            certificates,
            tls,
        },
        slot,
        received,
    })
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };
    use tokio_rustls::TlsConnector;

    use super::*;
    use crate::net::{ClientTls, Linger, test_certificates::Authority};

    const SETTINGS: ListenerSettings = ListenerSettings {
        connections: 2,
        connections_per_client: 2,
        handshake: Duration::from_millis(300),
        io: IoSettings {
            read_buffer: 64 * 1024,
            write_buffer: 64 * 1024,
            write_stall: Duration::from_secs(60),
            linger: Linger::NONE,
        },
    };

    async fn bind(tls: Option<ServerTls>) -> Listener {
        Listener::bind("test", "127.0.0.1:0".parse().unwrap(), tls, SETTINGS)
            .await
            .unwrap()
    }

    async fn echo(mut connection: Connection) {
        let mut byte = [0];
        while connection.io.read_exact(&mut byte).await.is_ok() {
            connection.io.write_all(&byte).await.unwrap();
            connection.io.flush().await.unwrap();
        }
    }

    #[tokio::test]
    async fn an_address_in_use_and_one_of_another_machine_are_told_apart() {
        let first = bind(None).await;
        let error = Listener::bind("test", first.address(), None, SETTINGS)
            .await
            .unwrap_err();
        assert_eq!(error.fault, BindFault::InUse);
        let elsewhere = "192.0.2.1:0".parse().unwrap();
        let error = Listener::bind("test", elsewhere, None, SETTINGS)
            .await
            .unwrap_err();
        assert_eq!(error.fault, BindFault::NotHere);
        assert_eq!(
            error.to_string(),
            "can't listen on 192.0.2.1:0: it is no address of this machine"
        );
    }

    #[tokio::test]
    async fn connections_beyond_the_bound_wait_for_one_to_end() {
        let listener = bind(None).await;
        let address = listener.address();
        let drain = Drain::new();
        let accepting = drain.clone();
        drain.spawn("accept", async move { listener.serve(&accepting, echo).await });

        let mut open = Vec::new();
        for _ in 0..3 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"x").await.unwrap();
            open.push(stream);
        }
        let mut third = open.pop().unwrap();
        for stream in &mut open {
            assert_eq!(stream.read_u8().await.unwrap(), b'x');
        }
        assert!(
            timeout(Duration::from_millis(50), third.read_u8()).await.is_err(),
            "there is no room"
        );
        open.pop();
        assert_eq!(third.read_u8().await.unwrap(), b'x');
        drop((open, third));
        assert_eq!(drain.finish(Duration::from_secs(5)).await, vec![]);
        assert!(
            TcpStream::connect(address).await.is_err(),
            "nothing listens any more"
        );
    }

    #[tokio::test]
    async fn who_has_all_its_connections_is_closed_and_gets_them_back() {
        let settings = ListenerSettings {
            connections: 3,
            ..SETTINGS
        };
        let listener = Listener::bind("test", "127.0.0.1:0".parse().unwrap(), None, settings)
            .await
            .unwrap();
        let address = listener.address();
        let drain = Drain::new();
        let accepting = drain.clone();
        drain.spawn("accept", async move { listener.serve(&accepting, echo).await });
        let open = async || {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let echoed = async {
                stream.write_all(b"x").await?;
                stream.read_u8().await
            };
            echoed.await.map(|_| stream)
        };
        let (first, second) = (open().await.unwrap(), open().await.unwrap());
        assert!(open().await.is_err(), "a third one of the same client");
        drop(first);
        let regained = async {
            while open().await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(5), regained).await.unwrap();
        drop(second);
        assert_eq!(drain.finish(Duration::from_secs(5)).await, vec![]);
    }

    #[tokio::test]
    async fn who_has_all_its_connections_loses_the_oldest_idle_one_instead() {
        let settings = ListenerSettings {
            connections: 9,
            ..SETTINGS
        };
        let listener = Listener::bind("test", "127.0.0.1:0".parse().unwrap(), None, settings)
            .await
            .unwrap();
        let address = listener.address();
        let drain = Drain::new();
        let accepting = drain.clone();
        // Idle after its first byte.
        let serve = async |mut connection: Connection| {
            let byte = connection.io.read_u8().await.unwrap();
            connection.io.write_all(&[byte]).await.unwrap();
            connection.io.flush().await.unwrap();
            let rest = connection.slot.rest();
            tokio::select! {
                () = rest.is_over() => {}
                _ = connection.io.read_u8() => {}
            }
        };
        drain.spawn("accept", async move { listener.serve(&accepting, serve).await });
        let mut open = Vec::new();
        for _ in 0..5 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"x").await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), b'x');
            open.push(stream);
        }
        let mut left = open.split_off(3);
        for mut gone in open {
            let closed = timeout(Duration::from_secs(5), gone.read_u8()).await.unwrap();
            assert!(closed.is_err());
        }
        for stays in &mut left {
            let silent = timeout(Duration::from_millis(50), stays.read_u8()).await;
            assert!(silent.is_err(), "it is still open");
        }
        drop(left);
        assert_eq!(drain.finish(Duration::from_secs(5)).await, vec![]);
    }

    #[tokio::test]
    async fn the_peers_certificate_is_known_and_without_one_there_is_no_connection() {
        let authority = Authority::new();
        let tls = ServerTls::load(authority.server(authority.issue("a", &["127.0.0.1"]))).unwrap();
        let listener = bind(Some(tls)).await;
        let address = listener.address();
        let drain = Drain::new();
        let accepting = drain.clone();
        drain.spawn("accept", async move {
            listener
                .serve(&accepting, async |connection: Connection| {
                    assert_eq!(
                        connection.peer.certificates.as_ref().map(|chain| chain.len()),
                        Some(1)
                    );
                    assert_eq!(connection.io.protocol(), Some(&b"h2"[..]));
                    echo(connection).await;
                })
                .await;
        });
        let name = || "127.0.0.1".try_into().unwrap();

        let config = ClientTls::load(authority.client(authority.issue("b", &["b"])))
            .unwrap()
            .config();
        let stream = TcpStream::connect(address).await.unwrap();
        let mut stream = TlsConnector::from(config.clone())
            .connect(name(), stream)
            .await
            .unwrap();
        stream.write_all(b"x").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'x');

        let stranger = Authority::new();
        let files = stranger.issue("c", &["b"]);
        let spec = crate::net::ClientSpec {
            authority: authority.file(),
            ..stranger.client(files)
        };
        let config = ClientTls::load(spec).unwrap().config();
        let stream = TcpStream::connect(address).await.unwrap();
        // With TLS 1.3 the dialler sees the refusal on its first read.
        if let Ok(mut stream) = TlsConnector::from(config).connect(name(), stream).await {
            assert!(stream.read_u8().await.is_err());
        }

        // One that says nothing is given up.
        let mut silent = TcpStream::connect(address).await.unwrap();
        assert_eq!(silent.read(&mut [0; 16]).await.unwrap(), 0);
    }
}
