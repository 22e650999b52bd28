//! Before a Redis server: ends a connection instead of giving an answer, after the request has had its effect.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use portolan::config::ServerAddress;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// A proxy that runs; it ends when dropped.
pub(super) struct Proxy {
    port: u16,
    counts: Arc<Counts>,
    _connections: JoinSet<()>,
}

#[derive(Default)]
struct Counts {
    /// One piece of answers in so many is lost; 0 is none.
    loses: AtomicUsize,
    pieces: AtomicUsize,
    lost: AtomicUsize,
}

impl Proxy {
    pub(super) async fn start(server: ServerAddress) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let counts = Arc::new(Counts::default());
        let mut connections = JoinSet::new();
        let told = counts.clone();
        connections.spawn(async move {
            let mut pairs = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let to = (server.host.clone(), server.port);
                pairs.spawn(carry(client, to, told.clone()));
            }
        });
        Self {
            port,
            counts,
            _connections: connections,
        }
    }

    pub(super) fn address(&self) -> ServerAddress {
        ServerAddress {
            host: "127.0.0.1".to_owned(),
            port: self.port,
        }
    }

    pub(super) fn lose_one_in(&self, pieces: usize) {
        self.counts.loses.store(pieces, Ordering::Relaxed);
    }

    pub(super) fn lost(&self) -> usize {
        self.counts.lost.load(Ordering::Relaxed)
    }
}

async fn carry(mut client: TcpStream, to: (String, u16), counts: Arc<Counts>) {
    let Ok(mut server) = TcpStream::connect(to).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let requests = copy(&mut from_client, &mut to_server);
    let answers = async {
        let mut piece = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from_server.read(&mut piece).await {
            let number = counts.pieces.fetch_add(1, Ordering::Relaxed);
            let loses = counts.loses.load(Ordering::Relaxed);
            if loses > 0 && number.is_multiple_of(loses) {
                counts.lost.fetch_add(1, Ordering::Relaxed);
                return;
            }
            if to_client.write_all(&piece[..length]).await.is_err() {
                return;
            }
        }
    };
    // Whichever ends, both do.
    tokio::select! {
        _ = requests => {}
        () = answers => {}
    }
}
