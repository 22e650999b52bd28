use std::time::Duration;

use rustls::{
    CipherSuite, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::net::{CertificateFiles, ClientTls, IoSettings, Linger, ServerTls, test_certificates::Authority};

const SETTINGS: IoSettings = IoSettings {
    read_buffer: 256 * 1024,
    write_buffer: 256 * 1024,
    write_stall: Duration::from_secs(60),
    linger: Linger::NONE,
};

/// How a member dials and answers, and one's files to dial with otherwise.
struct Configs {
    authority: Authority,
    files: CertificateFiles,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Configs {
    fn new() -> Self {
        let authority = Authority::new();
        let server = ServerTls::load(authority.server(authority.issue("a", &["a"]))).unwrap();
        let files = authority.issue("b", &["b"]);
        let client = ClientTls::load(authority.client(files.clone())).unwrap();
        Self {
            client: client.config(),
            server: server.config(),
            authority,
            files,
        }
    }

    /// A client that knows one cipher suite alone.
    fn only(&self, suite: CipherSuite) -> Arc<ClientConfig> {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites.retain(|known| known.suite() == suite);
        let read = |file| CertificateDer::from_pem_file(file).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(read(self.authority.file())).unwrap();
        let key = PrivateKeyDer::from_pem_file(&self.files.key).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![read(self.files.certificate.clone())], key);
        Arc::new(config.unwrap())
    }
}

fn name() -> ServerName<'static> {
    "a".try_into().unwrap()
}

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (near, listener.accept().await.unwrap().0)
}

fn buffered(stream: TcpStream) -> Buffered {
    Buffered::new(Box::new(stream), SETTINGS)
}

async fn pair() -> (Sealed, Sealed) {
    let configs = Configs::new();
    let (near, far) = sockets().await;
    let connecting = Sealed::connect(configs.client, name(), buffered(near));
    let accepting = Sealed::accept(configs.server, buffered(far));
    let (near, far) = tokio::join!(connecting, accepting);
    (near.unwrap(), far.unwrap())
}

fn content(length: usize) -> Vec<u8> {
    (0..length as u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}

/// Sends `sent` from `near` to `far` in slices of all kinds, ends there, and says what arrived.
async fn carried<N, F>(near: &mut N, far: &mut F, sent: &[u8]) -> Vec<u8>
where
    N: AsyncWrite + Unpin,
    F: AsyncRead + Unpin,
{
    let sending = async {
        let mut rest = sent;
        let mut sizes = [1, 9, 300, 4095, 4096, 16_384, 16_385, 262_144, 700_000]
            .into_iter()
            .cycle();
        while !rest.is_empty() {
            let mut slices = Vec::new();
            let mut after = rest;
            for _ in 0..3 {
                let (slice, others) = after.split_at(sizes.next().unwrap_or(1).min(after.len()));
                slices.push(IoSlice::new(slice));
                after = others;
            }
            let count = near.write_vectored(&slices).await.unwrap();
            assert!(count > 0);
            rest = &rest[count..];
        }
        near.flush().await.unwrap();
        near.shutdown().await.unwrap();
    };
    let mut arrived = Vec::new();
    let (_, read) = tokio::join!(sending, far.read_to_end(&mut arrived));
    read.unwrap();
    arrived
}

#[tokio::test]
async fn what_is_sent_arrives_and_the_end_is_an_end() {
    let sent = content(5_000_000);
    let (mut near, mut far) = pair().await;
    assert_eq!(near.protocol(), Some(&b"h2"[..]));
    assert_eq!(far.protocol(), Some(&b"h2"[..]));
    assert!(near.peer_certificates().is_some() && far.peer_certificates().is_some());
    assert!(carried(&mut near, &mut far, &sent).await == sent);
    // The other direction goes on.
    assert!(carried(&mut far, &mut near, &sent).await == sent);
    // But for the goodbye.
    assert!(
        near.outgoing.capacity() + near.gathered.capacity() < 100,
        "what was sent is held"
    );
}

#[tokio::test]
async fn keys_are_replaced_long_before_a_limit() {
    let sent = content(3_000_000);
    let (mut near, mut far) = pair().await;
    (near.records_a_key, far.records_a_key) = (3, 3);
    assert!(carried(&mut near, &mut far, &sent).await == sent);
    assert!(carried(&mut far, &mut near, &sent).await == sent);
    assert!(near.sealing.records() < 40 && near.opening.records() < 40);
}

#[tokio::test]
async fn every_cipher_of_anothers_library_is_understood_and_its_new_keys_are() {
    let sent = content(2_000_000);
    let configs = Configs::new();
    for suite in [
        CipherSuite::TLS13_AES_128_GCM_SHA256,
        CipherSuite::TLS13_AES_256_GCM_SHA384,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    ] {
        let (near, far) = sockets().await;
        let connecting = TlsConnector::from(configs.only(suite)).connect(name(), near);
        let accepting = Sealed::accept(configs.server.clone(), buffered(far));
        let (near, far) = tokio::join!(connecting, accepting);
        let (mut near, mut far) = (near.unwrap(), far.unwrap());
        far.records_a_key = 5;
        near.get_mut().1.refresh_traffic_keys().unwrap();
        assert!(carried(&mut near, &mut far, &sent).await == sent, "{suite:?}");
        assert!(carried(&mut far, &mut near, &sent).await == sent, "{suite:?}");
    }
}

#[tokio::test]
async fn anothers_server_is_understood_with_what_it_sends_after_its_handshake() {
    let sent = content(2_000_000);
    let configs = Configs::new();
    let mut server = (*configs.server).clone();
    // Tickets, which are thrown away.
    server.send_tls13_tickets = 4;
    server.session_storage = rustls::server::ServerSessionMemoryCache::new(8);
    server.send_half_rtt_data = true;
    let (near, far) = sockets().await;
    let connecting = Sealed::connect(configs.client, name(), buffered(near));
    let accepting = TlsAcceptor::from(Arc::new(server)).accept_with(far, |connection| {
        use std::io::Write as _;
        connection.writer().write_all(b"early").unwrap();
    });
    let (near, far) = tokio::join!(connecting, accepting);
    let (mut near, mut far) = (near.unwrap(), far.unwrap());
    let mut early = [0; 5];
    near.read_exact(&mut early).await.unwrap();
    assert_eq!(&early, b"early");
    far.get_mut().1.refresh_traffic_keys().unwrap();
    assert!(carried(&mut far, &mut near, &sent).await == sent);
    assert!(carried(&mut near, &mut far, &sent).await == sent);
}

#[tokio::test]
async fn a_stream_that_is_cut_or_changed_fails_and_gives_nothing_of_what_was_changed() {
    let sent = content(40_000);
    type Change = fn(&mut Vec<u8>);
    let cuts: [(&str, Change, io::ErrorKind); 5] = [
        (
            "a byte is another",
            |wire| wire[100] ^= 1,
            io::ErrorKind::InvalidData,
        ),
        (
            "a record is left out",
            |wire| drop(wire.drain(..HEADER + records::MOST + 17)),
            io::ErrorKind::InvalidData,
        ),
        ("it isn't sealed", |wire| wire[0] = 22, io::ErrorKind::InvalidData),
        (
            "it is too long",
            |wire| wire[3] = 0xff,
            io::ErrorKind::InvalidData,
        ),
        (
            "it ends",
            |wire| wire.truncate(1000),
            io::ErrorKind::UnexpectedEof,
        ),
    ];
    for (what, change, kind) in cuts {
        let configs = Configs::new();
        let (near, far) = sockets().await;
        let connecting = Sealed::connect(configs.client, name(), buffered(near));
        let accepting = Sealed::accept(configs.server, buffered(far));
        let (near, far) = tokio::join!(connecting, accepting);
        let (mut near, mut far) = (near.unwrap(), far.unwrap());
        near.seal(&[IoSlice::new(&sent)]).unwrap();
        let mut wire = std::mem::take(&mut near.outgoing);
        change(&mut wire);
        near.stream.write_all(&wire).await.unwrap();
        near.stream.shutdown().await.unwrap();
        let mut arrived = Vec::new();
        let error = far.read_to_end(&mut arrived).await.unwrap_err();
        assert_eq!((error.kind(), arrived.len()), (kind, 0), "{what}: {error}");
        far.read_to_end(&mut arrived)
            .await
            .expect_err("a failure isn't an end");
    }
}

/// A record with `inside`: bytes, their type, and padding.
fn record(near: &mut Sealed, inside: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    let (last, others) = inside.split_last().unwrap();
    near.sealing.seal_as(&mut wire, *last, others).unwrap();
    wire
}

#[tokio::test]
async fn records_that_must_not_come_end_the_connection_with_their_alert() {
    let padded = |bytes: usize, zeros: usize| [vec![7; bytes], vec![23], vec![0; zeros]].concat();
    let update = [24, 0, 0, 1, 0, 22];
    let halved = [24, 0, 22];
    let before_another = [24, 0, 0, 1, 0, 24, 0, 0, 1, 0, 22];
    for (what, inside, alert) in [
        ("zeros alone", vec![0; 9], Some("alert 10")),
        ("a handshake of nothing", vec![22], Some("alert 10")),
        ("an alert of nothing", vec![21, 0, 0], Some("alert 10")),
        ("another type", vec![1, 20], Some("alert 10")),
        ("part of a message", halved.to_vec(), Some("alert 10")),
        (
            "a message after new keys",
            before_another.to_vec(),
            Some("alert 10"),
        ),
        ("a ticket of who dialled", vec![4, 0, 0, 0, 22], Some("alert 10")),
        (
            "padding beyond the bound",
            padded(3, records::MOST),
            Some("alert 22"),
        ),
        (
            "data beyond the bound",
            padded(records::MOST + 1, 0),
            Some("alert 22"),
        ),
        ("padding up to the bound", padded(3, records::MOST - 3), None),
        ("new keys", update.to_vec(), None),
    ] {
        let (mut near, mut far) = pair().await;
        let wire = record(&mut near, &inside);
        near.stream.write_all(&wire).await.unwrap();
        if inside == update {
            near.sealing = near.keys.next_sealing().unwrap();
        }
        near.write_all(b"after").await.unwrap();
        near.shutdown().await.unwrap();
        let mut arrived = Vec::new();
        match (far.read_to_end(&mut arrived).await, alert) {
            (Ok(_), None) => assert!(arrived.ends_with(b"after"), "{what}"),
            (Err(error), Some(alert)) => {
                assert!(
                    error.to_string().contains(alert) && arrived.is_empty(),
                    "{what}: {error}"
                );
                let told = near.read_u8().await.unwrap_err();
                assert!(told.to_string().ends_with(alert), "{what}: {told}");
            }
            (read, _) => panic!("{what}: {read:?}"),
        }
    }
}

#[tokio::test]
async fn who_asks_for_new_keys_without_end_is_refused() {
    for (kind, inside) in [("new keys", &[24, 0, 0, 1, 1, 22][..]), ("no data", &[23])] {
        for count in [MOST_EMPTY, MOST_EMPTY + 1] {
            let (mut near, mut far) = pair().await;
            for _ in 0..2 {
                for _ in 0..count {
                    let wire = record(&mut near, inside);
                    near.stream.write_all(&wire).await.unwrap();
                    if inside.len() > 1 {
                        near.sealing = near.keys.next_sealing().unwrap();
                    }
                }
                near.write_all(b"!").await.unwrap();
            }
            let read = far.read_exact(&mut [0; 2]).await;
            assert_eq!(read.is_ok(), count == MOST_EMPTY, "{kind}: {count}");
            if read.is_ok() {
                // One answer is enough for all of them.
                far.write_all(b"!").await.unwrap();
                assert_eq!(near.read_u8().await.unwrap(), b'!');
            }
        }
    }
}

#[tokio::test]
async fn a_handshake_in_crumbs_is_refused_before_it_takes_memory() {
    let configs = Configs::new();
    let (mut near, far) = sockets().await;
    // A ClientHello of 60 KiB, a byte a record.
    let mut crumbs = vec![22, 3, 1, 0, 4, 1, 0, 0xf0, 0];
    for _ in 0..50_000 {
        crumbs.extend_from_slice(&[22, 3, 1, 0, 1, 0]);
    }
    let sending = async move { near.write_all(&crumbs).await };
    let accepting = Sealed::accept(configs.server, buffered(far));
    let (_, accepted) = tokio::join!(sending, accepting);
    assert_eq!(accepted.unwrap_err().to_string(), "tls handshake too long");
}
