//! TLS 1.3 between members, with each byte of a body moved once: rustls makes the connection and every key, and the records
//! of what follows are sealed from the pieces that are sent, and opened in the buffer that the socket filled (RFC 8446,
//! section 5).
//!
//! rustls's own stream reads 4 KiB at a time, copies each byte of a record four times on its way in and once on its way
//! out, and allocates twice a record. That was a fifth of what a forwarded pull cost, at its front a third. rustls has
//! [`kernel`](rustls::kernel) for those who do the records themselves; its contract is kept here: keys are replaced when the
//! peer asks and long before any cipher's limit, and a record that can't be opened ends the connection.
//!
//! Deliberately absent: clients (the public listener speaks TLS 1.2, too, and stays with rustls's stream), resumption, and
//! early data.

mod handshake;
mod records;

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use rustls::{
    ClientConfig, ServerConfig,
    pki_types::{CertificateDer, ServerName},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::{
    handshake::Keys,
    records::{Content, HEADER, Key, Record, Wrong},
};
use super::Buffered;

/// What is shorter is copied next to its neighbours, and leaves in one record with them. What is longer has records of its
/// own: so the head of a frame comes before its body, and who reads it makes room for all of that before any of it is there.
const SMALL: usize = 4 << 10;

/// Records sealed with one key. The smallest limit of any cipher is twice that (rustls's `confidentiality_limit`).
const RECORDS_A_KEY: u64 = 1 << 22;

/// Records in a row that hold nothing to read: empty ones, tickets, and new keys, each of which costs this side work.
const MOST_EMPTY: u32 = 32;

// The alert that ends a direction, and types of handshake messages (RFC 8446, sections 6 and 4).
const CLOSE_NOTIFY: u8 = 0;
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

/// A connection whose handshake is over.
pub struct Sealed {
    stream: Buffered,
    keys: Keys,
    opening: Key,
    sealing: Key,
    // What came with the handshake.
    early: Bytes,
    // Bytes at the front of the stream's buffer that were opened, and those of the same record after them.
    opened: usize,
    rest: usize,
    // Sealed, of which `sent` bytes were sent.
    outgoing: Vec<u8>,
    sent: usize,
    // A record that several small pieces make.
    gathered: Vec<u8>,
    owes_update: bool,
    records_a_key: u64,
    // Records since the last that held something to read.
    empty: u32,
    end: Option<End>,
    said_goodbye: bool,
    certificates: Option<Vec<CertificateDer<'static>>>,
    protocol: Option<Vec<u8>>,
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealed")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

/// Why nothing more is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The peer said that it was all.
    Said,
    /// It mustn't be taken for all.
    Failed,
}

/// What was at the front of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// A record. It may hold nothing to read.
    Whole,
    /// Not yet a whole record.
    Part,
}

impl Sealed {
    /// Dials over `stream` whoever has a certificate for `name`, or whatever else `config` asks for.
    ///
    /// # Errors
    /// The handshake failed; `config` has to let secrets out.
    pub async fn connect(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        stream: Buffered,
    ) -> io::Result<Self> {
        handshake::connect(config, name, stream).await
    }

    /// Answers who dialled.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn accept(config: Arc<ServerConfig>, stream: Buffered) -> io::Result<Self> {
        handshake::accept(config, stream).await
    }

    /// The certificates the peer proved to hold, its own first.
    pub(super) fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.certificates.as_deref()
    }

    /// What was agreed on by ALPN.
    pub(super) fn protocol(&self) -> Option<&[u8]> {
        self.protocol.as_deref()
    }

    /// Opens the record at the front of the buffer, if it is whole.
    fn open(&mut self, cx: &mut Context<'_>) -> io::Result<Found> {
        let length = match records::length(self.stream.buffer()) {
            Ok(Some(length)) if self.stream.buffer().len() >= HEADER + length => length,
            Ok(_) => return Ok(Found::Part),
            Err(wrong) => return Err(self.fail(cx, wrong)),
        };
        let opened = self.opening.open(self.stream.buffer_mut(), length);
        let Record { content, bytes } = opened.map_err(|wrong| self.fail(cx, wrong))?;
        let holds_something = content == Content::Data && bytes > 0;
        self.empty = if holds_something { 0 } else { self.empty + 1 };
        if self.empty > MOST_EMPTY {
            return Err(self.fail(cx, Wrong::Type));
        }
        self.stream.buffer_mut().advance(HEADER);
        let after = length - bytes;
        match content {
            Content::Data => {
                (self.opened, self.rest) = (bytes, after);
                self.spend(0);
                Ok(Found::Whole)
            }
            Content::Alert => {
                let description = self.stream.buffer().get(1).copied();
                match (bytes, description) {
                    (2, Some(CLOSE_NOTIFY)) => {
                        self.end = Some(End::Said);
                        Ok(Found::Whole)
                    }
                    (_, description) => {
                        self.end = Some(End::Failed);
                        let number = description.unwrap_or_default();
                        let text = format!("the peer ended the connection with alert {number}");
                        Err(io::Error::new(io::ErrorKind::ConnectionAborted, text))
                    }
                }
            }
            Content::Handshake => {
                let mut messages = self.stream.buffer_mut().split_to(bytes).freeze();
                self.stream.buffer_mut().advance(after);
                while !messages.is_empty() {
                    if !self.take(&mut messages)? {
                        return Err(self.fail(cx, Wrong::Type));
                    }
                }
                Ok(Found::Whole)
            }
        }
    }

    /// Counts `count` of the opened bytes as read.
    fn spend(&mut self, count: usize) {
        self.opened -= count;
        self.stream.buffer_mut().advance(count);
        if self.opened == 0 {
            self.stream.buffer_mut().advance(std::mem::take(&mut self.rest));
        }
    }

    /// Takes the first of `messages` of the handshake's kind; false when it mustn't come now. One never spans records: there
    /// are none as long as that.
    fn take(&mut self, messages: &mut Bytes) -> io::Result<bool> {
        let [kind, high, middle, low, ..] = messages[..] else {
            return Ok(false);
        };
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        messages.advance(4);
        if messages.len() < length {
            return Ok(false);
        }
        let body = messages.split_to(length);
        match (kind, &body[..]) {
            // Nothing after it is sealed with the former key.
            (KEY_UPDATE, [wants @ (0 | 1)]) if messages.is_empty() => {
                self.opening = self.keys.next_opening()?;
                self.owes_update |= *wants == 1;
                Ok(true)
            }
            // Connections between members aren't resumed.
            (NEW_SESSION_TICKET, _) => Ok(self.keys.are_the_dialler_s()),
            _ => Ok(false),
        }
    }

    /// What went wrong, which the peer is told if that costs no waiting.
    fn fail(&mut self, cx: &mut Context<'_>, wrong: Wrong) -> io::Error {
        self.end = Some(End::Failed);
        let alert = wrong as u8;
        if self
            .sealing
            .seal(&mut self.outgoing, Content::Alert, &[2, alert])
            .is_ok()
        {
            let _ = self.poll_send(cx);
        }
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("the peer sent a record of TLS that it mustn't (alert {alert})"),
        )
    }

    /// Seals of `slices` what there is room for, and tells how much.
    fn seal(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.owes_update || self.sealing.records() >= self.records_a_key {
            self.owes_update = false;
            // That the peer needn't replace its key, too.
            self.sealing
                .seal(&mut self.outgoing, Content::Handshake, &[KEY_UPDATE, 0, 0, 1, 0])?;
            self.sealing = self.keys.next_sealing()?;
        }
        let mut taken = 0;
        for slice in slices {
            if slice.len() < SMALL {
                self.gathered.extend_from_slice(slice);
                taken += slice.len();
                if self.gathered.len() >= SMALL {
                    self.seal_gathered()?;
                }
                continue;
            }
            self.seal_gathered()?;
            for record in slice.chunks(records::MOST) {
                if self.outgoing.len() >= self.stream.write_buffer() {
                    return Ok(taken);
                }
                self.sealing.seal(&mut self.outgoing, Content::Data, record)?;
                taken += record.len();
            }
        }
        self.seal_gathered()?;
        Ok(taken)
    }

    fn seal_gathered(&mut self) -> io::Result<()> {
        if !self.gathered.is_empty() {
            self.sealing
                .seal(&mut self.outgoing, Content::Data, &self.gathered)?;
            self.gathered.clear();
        }
        Ok(())
    }

    /// Sends all that is sealed.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(waiting) = self
            .outgoing
            .get(self.sent..)
            .filter(|waiting| !waiting.is_empty())
        {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, waiting))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.sent += count,
            }
        }
        self.outgoing.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Sealed {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        destination: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            // Bytes of one record at most.
            if !this.early.is_empty() {
                let count = destination.remaining().min(this.early.len());
                destination.put_slice(&this.early.split_to(count));
                return Poll::Ready(Ok(()));
            }
            if this.opened > 0 {
                let count = destination.remaining().min(this.opened);
                destination.put_slice(&this.stream.buffer()[..count]);
                this.spend(count);
                return Poll::Ready(Ok(()));
            }
            match this.end {
                None => {}
                Some(End::Said) => return Poll::Ready(Ok(())),
                Some(End::Failed) => {
                    let failed = "the connection failed before";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, failed)));
                }
            }
            if this.open(cx)? == Found::Part && ready!(this.stream.poll_fill(cx))? == 0 {
                let cut = "the peer ended the connection without close_notify";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, cut)));
            }
        }
    }
}

impl AsyncWrite for Sealed {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // At most one write's worth waits here.
        ready!(this.poll_send(cx))?;
        let taken = this.seal(slices)?;
        match this.poll_send(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(taken)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        // Connections that do nothing hold nothing.
        (this.outgoing, this.gathered) = (Vec::new(), Vec::new());
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.said_goodbye {
            this.said_goodbye = true;
            this.sealing
                .seal(&mut this.outgoing, Content::Alert, &[1, CLOSE_NOTIFY])?;
        }
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
