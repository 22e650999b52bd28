//! Where connections come from: TCP, or whatever behaves like it.
//!
//! [`Tcp`] is what the program runs on. A simulation puts a network of its own in its place, in which it decides when
//! bytes arrive and who reaches whom; both pass `contract`.

use std::{
    fmt, io,
    net::SocketAddr,
    task::{Context, Poll},
};

use async_trait::async_trait;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};

/// A connection's byte stream, as TCP gives it: bytes arrive whole and in order, or the stream fails. Dropped, it ends for
/// the peer, too.
pub trait Stream: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin + 'static {
    /// Ready when a read would give something: bytes, the end, or an error.
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// An address that is listened on, until it is dropped.
#[async_trait]
pub trait Accepting: fmt::Debug + Send + Sync + 'static {
    /// Where it listens, with the port it was given if it asked for port 0.
    fn address(&self) -> io::Result<SocketAddr>;

    /// The next connection and where it comes from. Dropped before it is ready, no connection is lost.
    ///
    /// # Errors
    /// This connection failed, or the machine has no room for another one; listening goes on.
    async fn accept(&self) -> io::Result<(Box<dyn Stream>, SocketAddr)>;
}

/// Makes connections.
#[async_trait]
pub trait Network: fmt::Debug + Send + Sync + 'static {
    /// Listens on `address`; from now on diallers are let in, though nobody accepts them yet.
    ///
    /// # Errors
    /// Of the kinds that [`BindFault`](super::BindFault) tells apart.
    async fn listen(&self, address: SocketAddr) -> io::Result<Box<dyn Accepting>>;

    /// Connects to `host:port`. Takes as long as it takes: the caller bounds it.
    ///
    /// # Errors
    /// Nobody listens there, or it can't be reached.
    async fn dial(&self, address: &str) -> io::Result<Box<dyn Stream>>;
}

/// The machine's network.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tcp;

impl Stream for TcpStream {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_read_ready(self, cx)
    }
}

#[async_trait]
impl Accepting for TcpListener {
    fn address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }

    async fn accept(&self) -> io::Result<(Box<dyn Stream>, SocketAddr)> {
        let (stream, address) = Self::accept(self).await?;
        // Of a connection that is gone already this may fail; its first read says so.
        let _ = stream.set_nodelay(true);
        keep_little_unsent(&stream);
        Ok((Box::new(stream), address))
    }
}

/// Bytes that wait in the kernel, not yet sent, beyond which a socket takes no more.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 128 * 1024;

/// Lets what waits to be sent wait here, not in the kernel, which would take megabytes of it: they are in vain when the peer
/// leaves. What is on its way is as much as ever. Without it all works, too.
fn keep_little_unsent(stream: &TcpStream) {
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT);
    #[cfg(not(target_os = "linux"))]
    let _ = stream;
}

#[async_trait]
impl Network for Tcp {
    async fn listen(&self, address: SocketAddr) -> io::Result<Box<dyn Accepting>> {
        Ok(Box::new(TcpListener::bind(address).await?))
    }

    async fn dial(&self, address: &str) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}

/// What every network promises, for the tests of each.
#[allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "it fails by panicking"
)]
pub mod contract {
    use std::{io, net::SocketAddr};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::Network;

    /// Runs all of it; `address` is free on `network`, but for its port if that is 0.
    pub async fn run(network: &dyn Network, address: SocketAddr) {
        let listener = network.listen(address).await.unwrap();
        let address = listener.address().unwrap();
        let taken = network.listen(address).await.unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);

        // Who dials is let in before anybody accepts, and its bytes wait.
        let mut near = network.dial(&address.to_string()).await.unwrap();
        near.write_all(b"there").await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        let mut read = [0; 5];
        far.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"there");

        // One direction ends, the other goes on.
        near.shutdown().await.unwrap();
        assert_eq!(far.read(&mut read).await.unwrap(), 0);
        far.write_all(b"back!").await.unwrap();
        near.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"back!");

        // Dropped is ended, and nothing can be written to who is gone.
        drop(far);
        assert_eq!(near.read(&mut read).await.unwrap(), 0);

        let mut near = network.dial(&address.to_string()).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        drop(far);
        let broken = async {
            loop {
                if let Err(error) = near.write_all(&read).await {
                    return error;
                }
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        let broken = tokio::time::timeout(std::time::Duration::from_secs(10), broken);
        assert!(matches!(
            broken.await.unwrap().kind(),
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
        ));

        drop(listener);
        let refused = network.dial(&address.to_string()).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[cfg(test)]
    #[tokio::test]
    async fn tcp_keeps_the_contract() {
        run(&super::Tcp, "127.0.0.1:0".parse().unwrap()).await;
    }
}
