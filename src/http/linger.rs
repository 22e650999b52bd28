//! Closing a connection without taking back the last answer.
//!
//! A server that answers before it has read all of a request has to close an HTTP/1 connection, and a socket that is
//! closed with bytes unread resets it: a client that is still writing (Go's, Python's) then sees a broken pipe instead
//! of the answer. So this side says that it has ended, then reads on for a while, up to a bound, and after that lets the
//! client wait with its bytes, until the client closes, too, or the time is up.
//!
//! No body is touched for it: a client that waits for `100 Continue` isn't told to go on.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// See the module.
pub(super) struct Lingering<I> {
    io: I,
    bytes: u64,
    time: Duration,
    // From the end of the writing half to the end of it all.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<I> Lingering<I> {
    /// Reads at most `bytes` of what a client still sends, and gives it `time` to close.
    pub(super) fn new(io: I, bytes: u64, time: Duration) -> Self {
        Self {
            io,
            bytes,
            time,
            timer: None,
        }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let timer = match &mut this.timer {
            Some(timer) => timer,
            None => {
                ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
                this.timer.insert(Box::pin(sleep(this.time)))
            }
        };
        if timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut scratch = [0; 8 * 1024];
        while this.bytes > 0 {
            let mut unwanted = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut this.io).poll_read(cx, &mut unwanted)) {
                Ok(()) if !unwanted.filled().is_empty() => {
                    this.bytes = this.bytes.saturating_sub(unwanted.filled().len() as u64);
                }
                // It has closed, or gone.
                Ok(()) | Err(_) => return Poll::Ready(Ok(())),
            }
        }
        Poll::Pending
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Lingering<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        destination: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, destination)
    }
}
