//! The byte stream everything runs on: TCP with a read buffer, alone or under TLS.
//!
//! rustls reads 4 KiB at a time; a buffer of 128 to 256 KiB between it and the socket saves a tenth of a forwarder's
//! CPU. But there may be ten thousand mostly idle connections, so the buffer exists only from the moment the socket
//! has something to read until that is used up, and it starts small and grows with what arrives.
//!
//! A reader that stops reading must not hold what it was promised for ever: a write that makes no progress for
//! [`IoSettings::write_stall`] fails the connection.
//!
//! Deliberately absent: a write buffer (rustls and HTTP both have one), and time-outs for reads (what a silence means
//! is known further up).

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};
use tokio_util::io::poll_read_buf;

use super::{Patience, Stream};

/// Size of the first read of a connection.
const SMALLEST_READ: usize = 16 * 1024;

/// Bounds of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoSettings {
    /// The read buffer under TLS grows up to this.
    pub read_buffer: usize,
    /// At most this much encrypted output waits for the socket, and a record more.
    pub write_buffer: usize,
    /// A write that makes no progress for this long fails.
    pub write_stall: Duration,
    /// What may still be read of a peer that is sending when its connection is closed.
    pub linger: Linger,
}

/// How long to go on reading, and throwing away, after this side has said all it wants. A socket that is closed with
/// unread bytes in it sends a reset, which makes the peer lose the answer that refused its body (RFC 9112, section 9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linger {
    /// At most this many bytes.
    pub bytes: u64,
    /// And for at most this long.
    pub time: Duration,
}

impl Linger {
    /// Not at all.
    pub const NONE: Self = Self {
        bytes: 0,
        time: Duration::ZERO,
    };
}

/// How much has come on a connection. Clones count the same one.
#[derive(Clone, Debug, Default)]
pub struct Received(Arc<AtomicU64>);

impl Received {
    /// Bytes so far, as they came from the socket.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// A network's stream with a read buffer that takes no memory while nothing arrives.
#[derive(Debug)]
pub struct Buffered {
    inner: Box<dyn Stream>,
    settings: IoSettings,
    buffer: BytesMut,
    next_read: usize,
    stall: Patience,
    received: Received,
    // Set when the write side is closed.
    lingering: Option<Lingering>,
}

/// The end of a connection.
#[derive(Debug)]
struct Lingering {
    left: u64,
    until: Pin<Box<Sleep>>,
}

impl Buffered {
    /// Wraps a connected stream.
    #[must_use]
    pub fn new(inner: Box<dyn Stream>, settings: IoSettings) -> Self {
        Self {
            inner,
            settings,
            buffer: BytesMut::new(),
            next_read: SMALLEST_READ.min(settings.read_buffer),
            stall: Patience::new(settings.write_stall),
            received: Received::default(),
            lingering: None,
        }
    }

    /// Counts what comes.
    #[must_use]
    pub fn received(&self) -> Received {
        self.received.clone()
    }

    /// Reads what the peer still sends, until it stops or a bound is reached. Who sends more waits with the rest of it,
    /// and has time to read the answer.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(Lingering { left, until }) = &mut self.lingering else {
            return Poll::Ready(());
        };
        let mut thrown_away = [0; 8 * 1024];
        while until.as_mut().poll(cx).is_pending() {
            if *left == 0 {
                return Poll::Pending;
            }
            let mut piece = ReadBuf::new(&mut thrown_away);
            match ready!(Pin::new(&mut self.inner).poll_read(cx, &mut piece)) {
                Ok(()) if !piece.filled().is_empty() => {
                    *left = left.saturating_sub(piece.filled().len() as u64)
                }
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(())
    }

    /// What was read and isn't used up.
    pub(super) fn buffer(&self) -> &[u8] {
        &self.buffer
    }

    /// As [`buffer`](Self::buffer), for who uses it up.
    pub(super) fn buffer_mut(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// How much encrypted output to keep.
    pub(super) fn write_buffer(&self) -> usize {
        self.settings.write_buffer
    }

    /// Reads to the end of the buffer what the socket has; nothing, when that is at its end.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.buffer.is_empty() {
            // The next read has all of the allocation.
            self.buffer.clear();
        }
        if self.buffer.capacity() == 0 {
            // Nothing is allocated for a socket that has nothing to read.
            ready!(self.inner.poll_read_ready(cx))?;
        }
        let wanted = self
            .next_read
            .saturating_sub(self.buffer.len())
            .max(SMALLEST_READ);
        self.buffer.reserve(wanted);
        match poll_read_buf(Pin::new(&mut self.inner), cx, &mut self.buffer) {
            Poll::Ready(Ok(read)) => {
                self.received.add(read);
                if read >= wanted {
                    self.next_read = (self.next_read * 4).min(self.settings.read_buffer);
                }
                Poll::Ready(Ok(read))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                if self.buffer.is_empty() {
                    self.buffer = BytesMut::new();
                }
                Poll::Pending
            }
        }
    }
}

impl AsyncRead for Buffered {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        destination: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.buffer.is_empty() {
            if destination.remaining() >= this.next_read {
                let before = destination.filled().len();
                ready!(Pin::new(&mut this.inner).poll_read(cx, destination))?;
                this.received.add(destination.filled().len() - before);
                return Poll::Ready(Ok(()));
            }
            if ready!(this.poll_fill(cx))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        let count = destination.remaining().min(this.buffer.len());
        destination.put_slice(&this.buffer[..count]);
        this.buffer.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Buffered {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_write(cx, bytes);
        watch(&mut this.stall, cx, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_write_vectored(cx, slices);
        watch(&mut this.stall, cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.lingering.is_none() {
            ready!(Pin::new(&mut this.inner).poll_shutdown(cx))?;
            let Linger { bytes, time } = this.settings.linger;
            this.lingering = Some(Lingering {
                left: bytes,
                until: Box::pin(sleep(time)),
            });
        }
        this.poll_linger(cx).map(Ok)
    }
}

/// Fails a write that waits too long.
fn watch(
    patience: &mut Patience,
    cx: &mut Context<'_>,
    polled: Poll<io::Result<usize>>,
) -> Poll<io::Result<usize>> {
    if polled.is_ready() {
        patience.progressed();
        return polled;
    }
    ready!(patience.poll_over(cx));
    let seconds = patience.duration().as_secs();
    Poll::Ready(Err(io::Error::new(
        io::ErrorKind::TimedOut,
        format!("the peer took nothing for {seconds} s"),
    )))
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    const SETTINGS: IoSettings = IoSettings {
        read_buffer: 256 * 1024,
        write_buffer: 256 * 1024,
        write_stall: Duration::from_secs(60),
        linger: Linger {
            bytes: 64 * 1024 * 1024,
            time: Duration::from_secs(2),
        },
    };

    async fn pair(settings: IoSettings) -> (TcpStream, Buffered) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        (near, Buffered::new(Box::new(far), settings))
    }

    #[tokio::test]
    async fn the_buffer_grows_with_what_arrives_and_is_released_when_idle() {
        let (mut near, mut far) = pair(SETTINGS).await;
        let sent: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
        let expected = sent.clone();
        let writer = async move {
            near.write_all(&sent).await.unwrap();
            near
        };
        let reader = async {
            let mut received = Vec::new();
            let mut piece = [0; 4096];
            while received.len() < expected.len() {
                let count = far.read(&mut piece).await.unwrap();
                received.extend_from_slice(&piece[..count]);
            }
            received
        };
        let (near, received) = tokio::join!(writer, reader);
        assert!(received == expected);
        assert!(far.next_read > SMALLEST_READ);
        let waiting = tokio::time::timeout(Duration::from_millis(20), far.read_u8()).await;
        assert!(waiting.is_err(), "nothing more comes");
        assert_eq!(far.buffer.capacity(), 0);
        drop(near);
        assert_eq!(far.read(&mut [0; 16]).await.unwrap(), 0, "the end is seen");
    }

    #[tokio::test]
    async fn a_peer_that_is_still_sending_gets_the_answer_and_no_reset() {
        let (mut near, mut far) = pair(SETTINGS).await;
        let body = vec![7; 8 * 1024 * 1024];
        let client = async move {
            near.write_all(&body).await.unwrap();
            let mut answer = Vec::new();
            near.read_to_end(&mut answer).await.unwrap();
            answer
        };
        let server = async move {
            far.write_all(b"no").await.unwrap();
            far.shutdown().await.unwrap();
        };
        assert_eq!(tokio::join!(client, server).0, b"no");
    }

    #[tokio::test]
    async fn lingering_ends() {
        let linger = Linger {
            bytes: 64 * 1024,
            time: Duration::from_millis(50),
        };
        let settings = IoSettings { linger, ..SETTINGS };
        let (_silent, mut far) = pair(settings).await;
        far.shutdown().await.unwrap();
        let (mut flood, mut far) = pair(settings).await;
        let flooding = async move { while flood.write_all(&[0; 65536]).await.is_ok() {} };
        let closing = async move { far.shutdown().await };
        tokio::join!(flooding, closing).1.unwrap();
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_fails_the_write() {
        let settings = IoSettings {
            write_stall: Duration::from_millis(100),
            ..SETTINGS
        };
        let (_near, mut far) = pair(settings).await;
        let error = loop {
            if let Err(error) = far.write_all(&[0; 65536]).await {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
