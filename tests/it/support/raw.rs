//! HTTP/1.1 by hand, for what a real client's library hides: bodies held back or never finished, `100 Continue`, and
//! when a connection is closed.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpSocket,
    time::timeout,
};

use super::{
    PATIENCE,
    client::Http,
    door::{Door, Wire},
};

/// A connection on which the test writes and reads what it likes.
pub(crate) struct Raw {
    stream: Wire,
    host: String,
    // Read and not yet taken.
    buffer: Vec<u8>,
}

/// The head of an answer.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(header, _)| header.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

impl Raw {
    pub(crate) async fn open(door: impl Into<Door>) -> Self {
        let door = door.into();
        Self {
            stream: door.connect(Http::One).await.unwrap(),
            host: door.to_string(),
            buffer: Vec::new(),
        }
    }

    /// A connection whose kernel takes little ahead of what the test reads.
    pub(crate) async fn narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(32 * 1024).unwrap();
        Self {
            stream: Wire::Plain(socket.connect(address).await.unwrap()),
            host: address.to_string(),
            buffer: Vec::new(),
        }
    }

    /// Writes a request's head: its first line and headers, without the blank line.
    pub(crate) async fn head(&mut self, lines: &[&str]) {
        let head = format!("{}\r\nhost: {}\r\n\r\n", lines.join("\r\n"), self.host);
        self.write(head.as_bytes()).await.unwrap();
    }

    /// Writes bytes; an error means that the other end closed.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        timeout(PATIENCE, self.stream.write_all(bytes))
            .await
            .expect("the other end takes bytes or closes")
    }

    /// Half of what a client does when it goes away politely: no more bytes will come.
    pub(crate) async fn shut_down(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Reads more; `false` at the end.
    async fn fill(&mut self) -> std::io::Result<bool> {
        let read = self.stream.read_buf(&mut self.buffer);
        Ok(timeout(PATIENCE, read)
            .await
            .expect("the other end says something or closes")?
            > 0)
    }

    /// Reads the head of an answer. `None`: the connection was closed or reset instead.
    pub(crate) async fn answer(&mut self) -> Option<Head> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = String::from_utf8(self.buffer[..end].to_vec()).unwrap();
                self.buffer.drain(..end + 4);
                let mut lines = head.split("\r\n");
                let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
                let headers = lines.filter_map(|line| {
                    let (name, value) = line.split_once(':')?;
                    Some((name.trim().to_owned(), value.trim().to_owned()))
                });
                return Some(Head {
                    status,
                    headers: headers.collect(),
                });
            }
            if !self.fill().await.unwrap_or(false) {
                return None;
            }
        }
    }

    /// Reads a body of known length; shorter if the connection ends before.
    pub(crate) async fn body(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length && self.fill().await.unwrap_or(false) {}
        self.buffer.drain(..length.min(self.buffer.len())).collect()
    }

    /// Reads until the connection ends, and says whether it ended cleanly.
    pub(crate) async fn ends_cleanly(&mut self) -> bool {
        loop {
            match self.fill().await {
                Ok(true) => {}
                Ok(false) => return true,
                Err(_) => return false,
            }
        }
    }

    /// Whether anything can be read within a moment.
    pub(crate) async fn is_silent(&mut self, moment: std::time::Duration) -> bool {
        self.buffer.is_empty()
            && timeout(moment, self.stream.read_buf(&mut self.buffer))
                .await
                .is_err()
    }
}
