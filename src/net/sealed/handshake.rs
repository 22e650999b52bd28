//! The handshake, which is rustls's, and the keys that come of it.

use std::{io, sync::Arc};

use bytes::{Buf as _, BytesMut};
use rustls::{
    ClientConfig, CommonState, ConnectionTrafficSecrets, Error, ExtractedSecrets, ServerConfig,
    client::{ClientConnectionData, UnbufferedClientConnection},
    kernel::KernelConnection,
    pki_types::ServerName,
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{ConnectionState, EncodeError, EncodeTlsData, InsufficientSizeError, UnbufferedStatus},
};
use tokio::io::AsyncWriteExt as _;

use super::{RECORDS_A_KEY, Sealed, records::Key};
use crate::net::Buffered;

/// Bytes of a handshake's message that isn't whole yet, with the records around its pieces. Without buffers of its own rustls
/// bounds the message, at 64 KiB, but not how many records, perhaps empty, its pieces come in; who sends them may be anybody.
const MOST_UNFINISHED: usize = 128 << 10;

/// Where further keys come from.
pub(super) enum Keys {
    Dialler(KernelConnection<ClientConnectionData>),
    Answerer(KernelConnection<ServerConnectionData>),
}

impl Keys {
    pub(super) fn are_the_dialler_s(&self) -> bool {
        matches!(self, Self::Dialler(_))
    }

    /// The key after the one that what comes is opened with.
    pub(super) fn next_opening(&mut self) -> io::Result<Key> {
        Self::key(match self {
            Self::Dialler(connection) => connection.update_rx_secret(),
            Self::Answerer(connection) => connection.update_rx_secret(),
        })
    }

    /// The key after the one that what leaves is sealed with.
    pub(super) fn next_sealing(&mut self) -> io::Result<Key> {
        Self::key(match self {
            Self::Dialler(connection) => connection.update_tx_secret(),
            Self::Answerer(connection) => connection.update_tx_secret(),
        })
    }

    fn key(next: Result<(u64, ConnectionTrafficSecrets), Error>) -> io::Result<Key> {
        next.map_err(invalid).and_then(Key::new)
    }
}

/// Either side of a handshake.
trait Side {
    type Data;

    fn step<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;

    fn state(&self) -> &CommonState;

    fn keys(self) -> Result<(ExtractedSecrets, Keys), Error>;
}

impl Side for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn step<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn state(&self) -> &CommonState {
        self
    }

    fn keys(self) -> Result<(ExtractedSecrets, Keys), Error> {
        let (secrets, connection) = self.dangerous_into_kernel_connection()?;
        Ok((secrets, Keys::Dialler(connection)))
    }
}

impl Side for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn step<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn state(&self) -> &CommonState {
        self
    }

    fn keys(self) -> Result<(ExtractedSecrets, Keys), Error> {
        let (secrets, connection) = self.dangerous_into_kernel_connection()?;
        Ok((secrets, Keys::Answerer(connection)))
    }
}

pub(super) async fn connect(
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    stream: Buffered,
) -> io::Result<Sealed> {
    let side = UnbufferedClientConnection::new(config, name).map_err(invalid)?;
    shake_hands(side, stream).await
}

pub(super) async fn accept(config: Arc<ServerConfig>, stream: Buffered) -> io::Result<Sealed> {
    let side = UnbufferedServerConnection::new(config).map_err(invalid)?;
    shake_hands(side, stream).await
}

/// What is to be done before the next step.
enum Next {
    Step,
    Send,
    Receive,
    Fail(io::Error),
    Done,
}

async fn shake_hands(mut side: impl Side, mut stream: Buffered) -> io::Result<Sealed> {
    let (mut outgoing, mut early) = (Vec::new(), BytesMut::new());
    loop {
        let UnbufferedStatus { mut discard, state } = side.step(stream.buffer_mut());
        let next = match state {
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                encode(&mut data, &mut outgoing)?;
                Next::Step
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                Next::Send
            }
            Ok(ConnectionState::BlockedHandshake) => Next::Receive,
            // The answerer may send before it has seen the dialler's certificate.
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    let record = record.map_err(invalid)?;
                    early.extend_from_slice(record.payload);
                    discard += record.discard;
                }
                Next::Step
            }
            Ok(ConnectionState::WriteTraffic(_)) => Next::Done,
            Ok(_) => Next::Fail(io::ErrorKind::UnexpectedEof.into()),
            Err(error) => Next::Fail(invalid(error)),
        };
        stream.buffer_mut().advance(discard);
        match next {
            Next::Step => {}
            Next::Send => {
                stream.write_all(&outgoing).await?;
                stream.flush().await?;
                outgoing.clear();
            }
            Next::Receive => {
                if stream.buffer().len() > MOST_UNFINISHED {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "tls handshake too long",
                    ));
                }
                if std::future::poll_fn(|cx| stream.poll_fill(cx)).await? == 0 {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "tls handshake eof"));
                }
            }
            Next::Fail(error) => {
                // The alert that tells the peer.
                if let Ok(ConnectionState::EncodeTlsData(mut data)) = side.step(&mut []).state {
                    encode(&mut data, &mut outgoing)?;
                    stream.write_all(&outgoing).await?;
                }
                return Err(error);
            }
            Next::Done => break,
        }
    }
    let certificates = side.state().peer_certificates().map(<[_]>::to_vec);
    let protocol = side.state().alpn_protocol().map(<[u8]>::to_vec);
    let (ExtractedSecrets { tx, rx }, keys) = side.keys().map_err(invalid)?;
    Ok(Sealed {
        stream,
        keys,
        opening: Key::new(rx)?,
        sealing: Key::new(tx)?,
        early: early.freeze(),
        opened: 0,
        rest: 0,
        outgoing: Vec::new(),
        sent: 0,
        gathered: Vec::new(),
        owes_update: false,
        records_a_key: RECORDS_A_KEY,
        empty: 0,
        end: None,
        said_goodbye: false,
        certificates,
        protocol,
    })
}

/// Appends what is to be sent to `outgoing`.
fn encode<D>(data: &mut EncodeTlsData<'_, D>, outgoing: &mut Vec<u8>) -> io::Result<()> {
    let at = outgoing.len();
    loop {
        match data.encode(&mut outgoing[at..]) {
            Ok(count) => {
                outgoing.truncate(at + count);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
                outgoing.resize(at + required_size, 0);
            }
            Err(error @ EncodeError::AlreadyEncoded) => return Err(io::Error::other(error)),
        }
    }
}

fn invalid(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
