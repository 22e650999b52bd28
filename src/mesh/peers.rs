//! Connections to the other members.
//!
//! Each peer has four lanes: for blobs that are pulled, for pieces of them whose end nobody said, for blobs that are pushed, and
//! for everything else, so that small requests never queue behind large ones, and pulls find room however many pushes crawl. A lane is a few HTTP/2 connections, dialled when needed; a connection takes no more streams than its
//! window can hold, so one that nobody reads never stops the others. A peer that can't be dialled, or that doesn't
//! answer, is passed over at once for a while (a lane that waits for a dead member would make every client wait). After
//! that it is dialled in the background, and passed over until that leads somewhere.
//!
//! Deliberately absent: retries (the caller knows what may be sent again and to whom), and HTTP/2's default bounds on
//! reset streams: they protect against strangers, while here a thousand clients that go away in mid-pull would take
//! the connection with them.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use rustls::pki_types::ServerName;
use tokio::time::{Instant, timeout};

use super::{
    identity::Names,
    offering::Offering,
    settings,
    wire::{MAX_FRAME, Writer},
};
use crate::{
    config::{Limits, limits::MeshLimits},
    net::{Buffered, ClientTls, Drain, Io, IoSettings, Network, Sealed, Tcp, TrackedExecutor},
    ownership::{Incarnation, MemberView, View},
    placement::MemberId,
    telemetry::Metrics,
};

/// How long a peer that didn't answer is passed over.
const SUSPICION: Duration = Duration::from_secs(2);

/// How long a request waits for a connection to a peer that couldn't be dialled the last time: enough where the peer is
/// well again, and no burden where it isn't.
const RECOVERY: Duration = Duration::from_millis(250);

/// A connection that breaks sooner counts as a failed dial.
const SHORT_LIVED: Duration = Duration::from_secs(1);

const NO_MEMBER: &str = "it is no member of this mesh";

/// The body of a request to a peer.
pub(super) type RequestBody = Writer<Offering>;

/// Which connection a request takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Blobs that are pulled.
    Pulls,
    /// Blobs from some byte on, whose readers mostly leave after a piece: little of it is on its way at a time.
    Pieces,
    /// Blobs that are pushed: how long one takes is its client's doing, so they take no place from pulls.
    Pushes,
    /// Everything else.
    Control,
}

/// Why a request can't be sent to a peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unsent {
    /// All its connections carry as many streams as they may.
    #[error("all connections are full")]
    Full,
    /// It can't be reached.
    #[error("{0}")]
    Unreachable(String),
}

/// What is known of a peer, for diagnostics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PeerState {
    /// Connections that are up.
    pub(super) connections: u32,
    /// Why it couldn't be reached, unless it could since.
    pub(super) last_error: Option<String>,
}

/// The connections to all peers.
pub struct Peers {
    view: Arc<dyn View>,
    tls: ClientTls,
    metrics: Arc<Metrics>,
    limits: MeshLimits,
    io: IoSettings,
    drain: Drain,
    network: Arc<dyn Network>,
    peers: Mutex<HashMap<MemberId, Arc<Peer>>>,
}

struct Peer {
    id: MemberId,
    // Streams open towards it, for the metrics.
    streams: Gauge,
    pulls: Arc<Pool>,
    pieces: Arc<Pool>,
    pushes: Arc<Pool>,
    control: Arc<Pool>,
    connections: AtomicU32,
    health: Mutex<Health>,
    // The start of it that the connections lead to, where that is known.
    incarnation: Mutex<Option<Incarnation>>,
}

struct Pool {
    // What a stream may have on its way, unread.
    window: u32,
    connections: Mutex<Vec<Connection>>,
    // One dials at a time; the others wait and find the connection.
    dialling: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Clone)]
struct Connection {
    sender: SendRequest<RequestBody>,
    streams: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Health {
    last_error: Option<String>,
    failures: u32,
    // Not to be tried before.
    passed_over_until: Option<Instant>,
}

/// A place for one stream on a connection, taken until it is dropped.
pub(super) struct StreamSlot {
    pub(super) sender: SendRequest<RequestBody>,
    _place: Place,
}

struct Place {
    connection: Arc<AtomicUsize>,
    peer: Gauge,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connection.fetch_sub(1, Ordering::Relaxed);
        self.peer.dec();
    }
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peers")
            .field("peers", &self.peers.lock().keys())
            .finish_non_exhaustive()
    }
}

impl Peers {
    /// Dials nobody yet. The connections' tasks run on `drain`; once it begins they end with their last stream.
    #[must_use]
    pub fn new(
        view: Arc<dyn View>,
        tls: ClientTls,
        metrics: Arc<Metrics>,
        limits: &Limits,
        drain: Drain,
    ) -> Self {
        Self {
            view,
            tls,
            metrics,
            limits: limits.mesh,
            io: settings::io(limits),
            drain,
            network: Arc::new(Tcp),
            peers: Mutex::default(),
        }
    }

    /// Dials on another network.
    #[must_use]
    pub fn over(mut self, network: Arc<dyn Network>) -> Self {
        self.network = network;
        self
    }

    /// Whether nothing is known against reaching `member`.
    #[must_use]
    pub fn reaches(&self, member: &MemberId) -> bool {
        member == self.view.me() || self.state(member).last_error.is_none()
    }

    /// What is known of `member`.
    pub(super) fn state(&self, member: &MemberId) -> PeerState {
        let Some(peer) = self.peers.lock().get(member).cloned() else {
            return PeerState::default();
        };
        let last_error = peer.health.lock().last_error.clone();
        PeerState {
            connections: peer.connections.load(Ordering::Relaxed),
            last_error,
        }
    }

    /// Finds out whether `member` can be reached now.
    pub(super) async fn probe(self: &Arc<Self>, member: &MemberId) -> bool {
        member == self.view.me()
            || !matches!(
                self.slot(member, Lane::Control).await,
                Err(Unsent::Unreachable(_))
            )
    }

    /// `member` accepted a request: it is well.
    pub(super) fn answered(&self, member: &MemberId) {
        let peer = self.peer(member);
        let mut health = peer.health.lock();
        if health.last_error.is_some() || health.failures > 0 {
            *health = Health::default();
        }
    }

    /// `member` didn't answer in time, or broke a stream.
    pub(super) fn suspect(&self, member: &MemberId, reason: &str) {
        let peer = self.peer(member);
        let mut health = peer.health.lock();
        health.last_error = Some(reason.to_owned());
        health.passed_over_until = Some(Instant::now() + SUSPICION);
    }

    fn peer(&self, member: &MemberId) -> Arc<Peer> {
        let mut peers = self.peers.lock();
        if let Some(peer) = peers.get(member) {
            return peer.clone();
        }
        let (window, piece_window) = (self.limits.stream_window, self.limits.piece_window);
        let peer = Arc::new(Peer {
            id: member.clone(),
            streams: self.metrics.streams(member),
            pulls: Arc::new(Pool::new(window)),
            pieces: Arc::new(Pool::new(piece_window)),
            pushes: Arc::new(Pool::new(window)),
            control: Arc::new(Pool::new(window)),
            connections: AtomicU32::new(0),
            health: Mutex::default(),
            incarnation: Mutex::default(),
        });
        // Members that are gone for good don't stay here.
        let members = self.view.members();
        peers.retain(|known, _| members.iter().any(|member| member.id == *known));
        peers.insert(member.clone(), peer.clone());
        peer
    }

    /// A place for a stream to `member`, on a connection that is up.
    pub(super) async fn slot(self: &Arc<Self>, member: &MemberId, lane: Lane) -> Result<StreamSlot, Unsent> {
        // A name may come from elsewhere than the list of members; one that isn't there takes no memory.
        let Some(known) = self.known(member) else {
            return Err(Unsent::Unreachable(NO_MEMBER.to_owned()));
        };
        let peer = self.peer(member);
        peer.is_now(known.lease.map(|lease| lease.incarnation));
        let pool = match lane {
            Lane::Pulls => &peer.pulls,
            Lane::Pieces => &peer.pieces,
            Lane::Pushes => &peer.pushes,
            Lane::Control => &peer.control,
        };
        peer.is_passed_over()?;
        if let Some(slot) = pool.pick(self.limits.streams, &peer.streams) {
            return Ok(slot);
        }
        if let Some(reason) = peer.is_down(pool) {
            self.dial_aside(&peer, pool).await;
            let slot = pool.pick(self.limits.streams, &peer.streams);
            return slot.ok_or(Unsent::Unreachable(reason));
        }
        let _dialling = pool.dialling.lock().await;
        if let Some(slot) = pool.pick(self.limits.streams, &peer.streams) {
            return Ok(slot);
        }
        if pool.connections.lock().len() >= self.limits.lane_connections {
            return Err(Unsent::Full);
        }
        // The one who dialled before may have failed.
        peer.is_passed_over()?;
        match self.try_to_dial(&peer, pool).await {
            Ok(connection) => Ok(connection.slot(&peer.streams)),
            Err(reason) => Err(Unsent::Unreachable(reason)),
        }
    }

    /// Dials in the background, unless somebody does, and waits a moment for the connection.
    async fn dial_aside(self: &Arc<Self>, peer: &Arc<Peer>, pool: &Arc<Pool>) {
        let Ok(dialling) = pool.dialling.clone().try_lock_owned() else {
            return;
        };
        let (peers, drain) = (self.clone(), self.drain.clone());
        let (peer, pool) = (peer.clone(), pool.clone());
        let dialled = self.drain.spawn(format!("dialling {}", peer.id), async move {
            let _dialling = dialling;
            tokio::select! {
                biased;
                () = drain.begun() => {}
                _ = peers.try_to_dial(&peer, &pool) => {}
            }
        });
        let _ = timeout(RECOVERY, dialled).await;
    }

    /// Dials, and keeps in mind when that failed and why.
    async fn try_to_dial(&self, peer: &Arc<Peer>, pool: &Arc<Pool>) -> Result<Connection, String> {
        self.dial(peer, pool).await.map_err(|error| {
            let reason = error.to_string();
            tracing::warn!(peer = %peer.id, error = reason, "a member can't be reached");
            peer.failed(&reason, (self.limits.redial_min, self.limits.redial_max));
            reason
        })
    }

    async fn dial(&self, peer: &Arc<Peer>, pool: &Arc<Pool>) -> io::Result<Connection> {
        let too_long = |_| io::Error::new(io::ErrorKind::TimedOut, "dialling took too long");
        let io = timeout(self.limits.connect, self.connect(&peer.id))
            .await
            .map_err(too_long)??;
        let window = self.limits.connection_window;
        let (sender, connection) = http2::Builder::new(self.drain.executor())
            .timer(TokioTimer::new())
            .initial_stream_window_size(pool.window)
            .initial_connection_window_size(window)
            .initial_max_send_streams(self.limits.streams as usize)
            .max_frame_size(MAX_FRAME)
            .max_header_list_size(16 * 1024)
            .max_concurrent_reset_streams(4096)
            .max_local_error_reset_streams(None)
            .keep_alive_interval(self.limits.ping_every)
            .keep_alive_timeout(self.limits.ping_timeout)
            .keep_alive_while_idle(true)
            .handshake::<_, RequestBody>(TokioIo::new(io))
            .await
            .map_err(io::Error::other)?;
        let connection_handle = Connection {
            sender,
            streams: Arc::default(),
        };
        // In a drain nothing is kept: the connection ends with the stream it was dialled for.
        if !self.drain.is_begun() {
            pool.connections.lock().push(connection_handle.clone());
        }
        peer.connections.fetch_add(1, Ordering::Relaxed);
        peer.health.lock().last_error = None;
        let (began, redial) = (Instant::now(), (self.limits.redial_min, self.limits.redial_max));
        let (peer, pool, drain) = (peer.clone(), pool.clone(), self.drain.clone());
        self.drain
            .spawn(format!("mesh connection to {}", peer.id), async move {
                let mut connection = std::pin::pin!(connection);
                let ended = tokio::select! {
                    biased;
                    ended = connection.as_mut() => ended,
                    () = drain.begun() => {
                        pool.connections.lock().clear();
                        connection.await
                    }
                };
                pool.connections
                    .lock()
                    .retain(|connection| !connection.sender.is_closed());
                peer.connections.fetch_sub(1, Ordering::Relaxed);
                match ended {
                    Ok(()) => tracing::debug!(peer = %peer.id, "a connection to a member ended"),
                    Err(error) => {
                        let error = describe(&error);
                        tracing::info!(peer = %peer.id, error, "a connection to a member broke");
                        // A peer that refuses this member's certificate lets it in and hangs up at once.
                        if began.elapsed() < SHORT_LIVED {
                            peer.failed(&error, redial);
                        } else {
                            peer.health.lock().last_error = Some(error);
                        }
                    }
                }
            });
        Ok(connection_handle)
    }

    /// A connection to `member` for a service of tonic's. It ends with its last stream once nobody holds it; `begun` is told when the drain
    /// has begun.
    pub(super) async fn line(
        &self,
        member: &MemberId,
        begun: impl FnOnce() + Send + 'static,
    ) -> io::Result<SendRequest<tonic::body::Body>> {
        let too_long = |_| io::Error::new(io::ErrorKind::TimedOut, "dialling took too long");
        let io = timeout(self.limits.connect, self.connect(member))
            .await
            .map_err(too_long)??;
        let (sender, connection) = http2::Builder::new(self.drain.executor())
            .timer(TokioTimer::new())
            .keep_alive_interval(self.limits.ping_every)
            .keep_alive_timeout(self.limits.ping_timeout)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(io))
            .await
            .map_err(io::Error::other)?;
        let drain = self.drain.clone();
        self.drain.spawn(format!("a line to {member}"), async move {
            let mut connection = std::pin::pin!(connection);
            let ended = tokio::select! {
                biased;
                ended = connection.as_mut() => ended,
                () = drain.begun() => {
                    begun();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(error = describe(&error), "a line to a member broke");
            }
        });
        Ok(sender)
    }

    /// Whether nothing is to be kept any more.
    pub(super) fn is_ending(&self) -> bool {
        self.drain.is_begun()
    }

    fn known(&self, member: &MemberId) -> Option<MemberView> {
        let members = self.view.members();
        members.iter().find(|known| known.id == *member).cloned()
    }

    /// What the tasks of connections run on.
    pub(super) fn executor(&self) -> TrackedExecutor {
        self.drain.executor()
    }

    /// A new connection to `member`, which has proven to be it.
    pub(super) async fn connect(&self, member: &MemberId) -> io::Result<Io> {
        let known = self.known(member).ok_or_else(|| io::Error::other(NO_MEMBER))?;
        let stream = self.network.dial(&known.mesh_address).await?;
        let stream = Buffered::new(stream, self.io);
        // Where members are listed, TLS checks that the certificate is for this name, wherever the name led.
        let name = ServerName::try_from(member.host().to_owned()).map_err(io::Error::other)?;
        let stream = Sealed::connect(self.tls.config(), name, stream).await?;
        let io = Io::Sealed(Box::new(stream));
        let names = Names::of(io.peer_certificates());
        if !self.is_proven(&names, member) {
            // It may have a new certificate.
            self.view.look().await;
            if !self.is_proven(&names, member) {
                return Err(io::Error::other(format!(
                    "the certificate there is not {member}'s"
                )));
            }
        }
        Ok(io)
    }

    fn is_proven(&self, names: &Names, member: &MemberId) -> bool {
        let known = self.known(member);
        known.is_some_and(|known| names.prove(&known, &self.view.proof()))
    }
}

impl Peer {
    /// Connections to a former start lead nowhere, or to a process that isn't the member any more; and what went wrong
    /// with it says nothing of the new one.
    fn is_now(&self, incarnation: Option<Incarnation>) {
        let mut known = self.incarnation.lock();
        if *known == incarnation {
            return;
        }
        if known.is_some() {
            for pool in [&self.pulls, &self.pieces, &self.pushes, &self.control] {
                pool.connections.lock().clear();
            }
            *self.health.lock() = Health::default();
        }
        *known = incarnation;
    }

    fn is_passed_over(&self) -> Result<(), Unsent> {
        let health = self.health.lock();
        match health.passed_over_until {
            Some(until) if until > Instant::now() => {
                Err(Unsent::Unreachable(health.last_error.clone().unwrap_or_default()))
            }
            _ => Ok(()),
        }
    }

    /// Why it couldn't be dialled the last time, if it couldn't and nothing came since.
    fn is_down(&self, pool: &Pool) -> Option<String> {
        if !pool.connections.lock().is_empty() {
            return None;
        }
        let health = self.health.lock();
        (health.failures > 0).then(|| health.last_error.clone().unwrap_or_default())
    }

    fn failed(&self, reason: &str, (first, longest): (Duration, Duration)) {
        let mut health = self.health.lock();
        health.last_error = Some(reason.to_owned());
        let pause = first.saturating_mul(1 << health.failures.min(16)).min(longest);
        health.failures = health.failures.saturating_add(1);
        health.passed_over_until = Some(Instant::now() + jittered(pause));
    }
}

impl Pool {
    fn new(window: u32) -> Self {
        Self {
            window,
            connections: Mutex::default(),
            dialling: Arc::default(),
        }
    }

    /// A place on the connection that carries the fewest streams, if one has room.
    fn pick(&self, most: u32, peer: &Gauge) -> Option<StreamSlot> {
        let mut connections = self.connections.lock();
        connections.retain(|connection| !connection.sender.is_closed());
        let freest = connections
            .iter()
            .min_by_key(|connection| connection.streams.load(Ordering::Relaxed))?;
        (freest.streams.load(Ordering::Relaxed) < most as usize).then(|| freest.clone().slot(peer))
    }
}

impl Connection {
    fn slot(self, peer: &Gauge) -> StreamSlot {
        self.streams.fetch_add(1, Ordering::Relaxed);
        peer.inc();
        StreamSlot {
            sender: self.sender,
            _place: Place {
                connection: self.streams,
                peer: peer.clone(),
            },
        }
    }
}

/// `pause`, more or less: so that members which failed together don't come back together.
pub(super) fn jittered(pause: Duration) -> Duration {
    let mut random = [0; 1];
    // Without random numbers there is no jitter.
    let _ = crate::entropy::fill(&mut random);
    pause.mul_f64(0.5 + f64::from(random[0]) / 256.0)
}

/// An error with its causes.
pub(super) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Some errors print their causes themselves.
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}
