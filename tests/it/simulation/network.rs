//! A network in memory: who reaches whom, and how long bytes take, is decided by the simulation.
//!
//! It behaves like TCP: bytes arrive whole and in order, later when the way was cut meanwhile; a process that ends closes
//! its connections; one that is stopped is still connected to.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt, io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Buf as _, Bytes};
use http::Uri;
use parking_lot::Mutex;
use portolan::{
    net::{Accepting, Network, Stream},
    outbound::Connecting,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::mpsc,
    time::{Instant, Sleep, sleep},
};

use super::trace::Trace;
use crate::support::content::Random;

/// A machine.
pub(super) type Host = IpAddr;

/// Bytes on their way in one direction before the writer has to wait.
const ON_THE_WAY: usize = 256 << 10;

/// The network that all hosts of a simulation are on.
#[derive(Clone)]
pub(super) struct Net(Arc<Shared>);

struct Shared {
    trace: Trace,
    state: Mutex<State>,
}

struct State {
    random: Random,
    listening: BTreeMap<SocketAddr, mpsc::UnboundedSender<(End, SocketAddr)>>,
    // Both orders of each pair.
    cut: BTreeSet<(Host, Host)>,
    // Whoever waits for a way that is cut.
    waiting: Vec<Waker>,
    next_port: u16,
    connections: u64,
}

impl Net {
    pub(super) fn new(seed: u64, trace: Trace) -> Self {
        let state = State {
            random: Random::seeded(seed),
            listening: BTreeMap::new(),
            cut: BTreeSet::new(),
            waiting: Vec::new(),
            next_port: 30_000,
            connections: 0,
        };
        Self(Arc::new(Shared {
            trace,
            state: Mutex::new(state),
        }))
    }

    /// As `host` sees it.
    pub(super) fn of(&self, host: Host) -> Wires {
        Wires {
            net: self.clone(),
            host,
        }
    }

    /// Nothing passes between the two any more.
    pub(super) fn cut(&self, a: Host, b: Host) {
        self.0.state.lock().cut.extend([(a, b), (b, a)]);
    }

    /// Everything passes again.
    pub(super) fn heal(&self) {
        let mut state = self.0.state.lock();
        state.cut.clear();
        state.waiting.drain(..).for_each(Waker::wake);
    }

    /// Pending while the way is cut.
    pub(super) fn poll_way(&self, from: Host, to: Host, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.0.state.lock();
        if !state.cut.contains(&(from, to)) {
            return Poll::Ready(());
        }
        state.waiting.push(cx.waker().clone());
        Poll::Pending
    }

    /// How long bytes take now.
    pub(super) fn latency(&self) -> Duration {
        let mut state = self.0.state.lock();
        // Now and then a packet is lost and sent again.
        let micros = match state.random.below(100) {
            0 => 200_000 + state.random.below(100_000),
            1..5 => 2_000 + state.random.below(20_000),
            _ => 100 + state.random.below(900),
        };
        Duration::from_micros(micros)
    }
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Net")
    }
}

/// The network as one host sees it.
#[derive(Clone, Debug)]
pub(super) struct Wires {
    net: Net,
    host: Host,
}

impl Wires {
    pub(super) async fn connect(&self, to: SocketAddr) -> io::Result<End> {
        let (net, from) = (&self.net, self.host);
        std::future::poll_fn(|cx| net.poll_way(from, to.ip(), cx)).await;
        sleep(net.latency()).await;
        let (near, far) = net.connection(from, to.ip());
        let (listener, address) = {
            let mut state = net.0.state.lock();
            state.next_port = state.next_port.checked_add(1).unwrap_or(30_000);
            (state.listening.get(&to).cloned(), (from, state.next_port).into())
        };
        let refused = || io::Error::new(io::ErrorKind::ConnectionRefused, "nobody listens there");
        let listener = listener.ok_or_else(refused)?;
        listener.send((far, address)).map_err(|_| refused())?;
        std::future::poll_fn(|cx| net.poll_way(from, to.ip(), cx)).await;
        sleep(net.latency()).await;
        net.0.trace.note("connected", &[number(from), number(to.ip())]);
        Ok(near)
    }

    /// To a service that isn't ours.
    pub(super) fn outbound(self, to: &Uri) -> Connecting {
        let address = to
            .authority()
            .and_then(|authority| authority.as_str().parse().ok());
        Box::pin(async move {
            let address = address.ok_or(io::ErrorKind::AddrNotAvailable)?;
            let end = self.connect(address).await?;
            Ok(Box::new(end) as Box<_>)
        })
    }
}

/// A host as a number, for traces.
pub(super) fn number(host: Host) -> u64 {
    match host {
        IpAddr::V4(address) => u64::from(address.octets()[3]),
        IpAddr::V6(_) => 0,
    }
}

#[async_trait]
impl Network for Wires {
    async fn listen(&self, address: SocketAddr) -> io::Result<Box<dyn Accepting>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut state = self.net.0.state.lock();
        if state
            .listening
            .get(&address)
            .is_some_and(|sender| !sender.is_closed())
        {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        state.listening.insert(address, sender);
        Ok(Box::new(Listening {
            address,
            arrivals: tokio::sync::Mutex::new(receiver),
        }))
    }

    async fn dial(&self, address: &str) -> io::Result<Box<dyn Stream>> {
        let address = address.parse().map_err(io::Error::other)?;
        Ok(Box::new(self.connect(address).await?))
    }
}

#[derive(Debug)]
struct Listening {
    address: SocketAddr,
    arrivals: tokio::sync::Mutex<mpsc::UnboundedReceiver<(End, SocketAddr)>>,
}

#[async_trait]
impl Accepting for Listening {
    fn address(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    async fn accept(&self) -> io::Result<(Box<dyn Stream>, SocketAddr)> {
        let arrived = self.arrivals.lock().await.recv().await;
        let (end, address) = arrived.ok_or(io::ErrorKind::ConnectionAborted)?;
        Ok((Box::new(end), address))
    }
}

/// One end of a connection.
pub(super) struct End {
    incoming: Arc<Mutex<Direction>>,
    outgoing: Arc<Mutex<Direction>>,
}

/// Bytes from one end to the other.
struct Direction {
    net: Net,
    id: u64,
    from: Host,
    to: Host,
    on_the_way: VecDeque<Piece>,
    bytes: usize,
    // When the last of them arrives.
    last: Instant,
    arrival: Pin<Box<Sleep>>,
    has_ended: bool,
    // Nobody reads any more.
    is_closed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

struct Piece {
    arrives: Instant,
    // None is the end.
    bytes: Option<Bytes>,
}

impl Net {
    fn connection(&self, from: Host, to: Host) -> (End, End) {
        let id = {
            let mut state = self.0.state.lock();
            state.connections += 2;
            state.connections
        };
        let direction = |id, from, to| {
            Arc::new(Mutex::new(Direction {
                net: self.clone(),
                id,
                from,
                to,
                on_the_way: VecDeque::new(),
                bytes: 0,
                last: Instant::now(),
                arrival: Box::pin(sleep(Duration::ZERO)),
                has_ended: false,
                is_closed: false,
                reader: None,
                writer: None,
            }))
        };
        let (there, back) = (direction(id, from, to), direction(id + 1, to, from));
        let near = End {
            incoming: back.clone(),
            outgoing: there.clone(),
        };
        let far = End {
            incoming: there,
            outgoing: back,
        };
        (near, far)
    }
}

impl Direction {
    fn send(&mut self, bytes: Option<Bytes>) {
        let arrives = self.last.max(Instant::now() + self.net.latency());
        self.last = arrives;
        self.bytes += bytes.as_ref().map_or(0, Bytes::len);
        self.on_the_way.push_back(Piece { arrives, bytes });
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    fn end(&mut self) {
        if !std::mem::replace(&mut self.has_ended, true) {
            self.send(None);
        }
    }

    /// Whether the first piece is there.
    fn poll_arrived(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(piece) = self.on_the_way.front() else {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let arrives = piece.arrives;
        std::task::ready!(self.net.poll_way(self.from, self.to, cx));
        if arrives > Instant::now() {
            self.arrival.as_mut().reset(arrives);
            std::task::ready!(self.arrival.as_mut().poll(cx));
        }
        Poll::Ready(())
    }
}

impl AsyncRead for End {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        destination: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut direction = self.incoming.lock();
        std::task::ready!(direction.poll_arrived(cx));
        let Direction {
            on_the_way, bytes, ..
        } = &mut *direction;
        if let Some(Piece {
            bytes: Some(piece), ..
        }) = on_the_way.front_mut()
        {
            let count = piece.len().min(destination.remaining());
            destination.put_slice(&piece[..count]);
            piece.advance(count);
            *bytes -= count;
            if piece.is_empty() {
                on_the_way.pop_front();
                direction.net.0.trace.note("arrived", &[direction.id]);
            }
            if let Some(writer) = direction.writer.take() {
                writer.wake();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut direction = self.outgoing.lock();
        if direction.is_closed || direction.has_ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if direction.bytes > ON_THE_WAY {
            direction.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if !bytes.is_empty() {
            direction.send(Some(Bytes::copy_from_slice(bytes)));
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outgoing.lock().end();
        Poll::Ready(Ok(()))
    }
}

impl Stream for End {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.incoming.lock().poll_arrived(cx).map(Ok)
    }
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("End")
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.outgoing.lock().end();
        let mut incoming = self.incoming.lock();
        incoming.is_closed = true;
        if let Some(writer) = incoming.writer.take() {
            writer.wake();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn it_keeps_the_contract_of_a_network() {
    let net = Net::new(1, Trace::default());
    let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
    portolan::net::contract::run(&net.of(address.ip()), address).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_while_the_way_is_cut_arrives_when_it_is_healed() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let net = Net::new(1, Trace::default());
    let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let elsewhere: Host = "127.0.0.2".parse().unwrap();
    let listening = net.of(address.ip()).listen(address).await.unwrap();
    let mut near = net.of(elsewhere).connect(address).await.unwrap();
    let (mut far, _) = listening.accept().await.unwrap();
    net.cut(elsewhere, address.ip());
    near.write_all(b"late").await.unwrap();
    let waited = tokio::time::timeout(Duration::from_secs(100), far.read_u8()).await;
    assert!(waited.is_err(), "nothing passes");
    net.heal();
    assert_eq!(far.read_u8().await.unwrap(), b'l');
}
