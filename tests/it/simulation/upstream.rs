//! Another registry on the network of a simulation, which has good times and bad ones.
//!
//! It keeps account of the blobs that are being fetched from it: of one blob, a member never fetches two at once, and a mesh
//! that is well doesn't, either.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use portolan::{
    config::{Limits, Sync},
    net::Network as _,
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    network::{Host, Net, number},
    trace::Trace,
};
use crate::{
    mirror::{
        fake::{Body, blob_path, first_of, manifest_path, of_manifest, part, status, whole},
        sync_from,
    },
    support::content::{Blob, Manifest, Random},
};

/// Where it is.
pub(super) const UPSTREAM: Host = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 100));
const ADDRESS: SocketAddr = SocketAddr::new(UPSTREAM, 5000);

/// How long it takes at most until it has heard of a fetch's end.
const NEWS: Duration = Duration::from_secs(1);
/// The longest piece of a body that it sends at once, in bytes.
const PIECE: usize = 3000;

/// What the members' configuration says of it.
pub(super) fn sync() -> Sync {
    let more = "maxRetries: 2, maxRetryDelay: 5s, content: [{prefix: 'mirrored/**'}]";
    sync_from(&format!("http://{ADDRESS}"), more)
}

/// What members hold of it, and how long they wait for it: so little that it comes to that.
pub(super) fn hasten(limits: &mut Limits) {
    limits.mirror.piece = 4 << 10;
    limits.mirror.withheld = 2 << 10;
    limits.upstream.answer = Duration::from_secs(5);
    limits.upstream.stall = Duration::from_secs(5);
}

/// What becomes of every other request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Times {
    /// It is answered.
    Good,
    /// The answer begins late, or comes in pieces with long pauses.
    Slow,
    /// The answer breaks off.
    Cut,
    /// 429, with or without the time to wait.
    Limited,
    /// An error of the server.
    Failing,
    /// Other bytes, fewer, or more.
    Wrong,
    /// Nobody listens, and who was connected isn't any more.
    Down,
}

/// See the module. Clones are the same.
#[derive(Clone)]
pub(super) struct Upstream(Arc<Inner>);

struct Inner {
    net: Net,
    trace: Trace,
    times: watch::Sender<Times>,
    state: Mutex<State>,
}

struct State {
    random: Random,
    manifests: BTreeMap<String, Manifest>,
    blobs: BTreeMap<String, Blob>,
    asked: usize,
    fetches: BTreeMap<u64, Fetch>,
    next_fetch: u64,
    // When something last kept a member from telling that it had ended a fetch.
    disturbed: BTreeMap<Host, Instant>,
    /// Fetches of one blob by several members at once.
    shared_badly: Vec<String>,
    /// And by one.
    twice: Vec<String>,
}

/// A blob that is on its way to a member.
struct Fetch {
    member: Host,
    path: String,
    began: Instant,
}

impl Upstream {
    pub(super) fn new(net: Net, trace: Trace, seed: u64) -> Self {
        Self(Arc::new(Inner {
            net,
            trace,
            times: watch::Sender::new(Times::Good),
            state: Mutex::new(State {
                random: Random::seeded(seed),
                manifests: BTreeMap::new(),
                blobs: BTreeMap::new(),
                asked: 0,
                fetches: BTreeMap::new(),
                next_fetch: 0,
                disturbed: BTreeMap::new(),
                shared_badly: Vec::new(),
                twice: Vec::new(),
            }),
        }))
    }

    // --- What it has ---

    /// Has the manifest from now on, which the tag names.
    pub(super) fn name(&self, repository: &str, tag: &str, manifest: &Manifest) {
        let mut state = self.0.state.lock();
        for reference in [tag, &manifest.digest] {
            let path = manifest_path(repository, reference);
            state.manifests.insert(path, manifest.clone());
        }
    }

    pub(super) fn keep(&self, repository: &str, blob: &Blob) {
        let path = blob_path(repository, &blob.digest);
        self.0.state.lock().blobs.insert(path, blob.clone());
    }

    // --- How it is ---

    pub(super) fn be(&self, times: Times) {
        self.0.trace.note("upstream", &[times as u64]);
        self.0.times.send_replace(times);
    }

    /// Has good times and bad ones until `done`, and good ones then.
    pub(super) async fn reign(&self, done: &CancellationToken) {
        while !done.is_cancelled() {
            let (times, lasts) = {
                let random = &mut self.0.state.lock().random;
                let times = *random.pick(&[
                    Times::Good,
                    Times::Slow,
                    Times::Cut,
                    Times::Limited,
                    Times::Failing,
                    Times::Wrong,
                    Times::Down,
                ]);
                (times, Duration::from_millis(500 + random.below(15_000)))
            };
            self.be(times);
            let _ = done.run_until_cancelled(sleep(lasts)).await;
        }
        self.be(Times::Good);
    }

    /// What this member does may not have been heard of until now.
    pub(super) fn disturbed(&self, member: Host) {
        self.0.state.lock().disturbed.insert(member, Instant::now());
    }

    // --- What it was asked ---

    pub(super) fn asked(&self) -> usize {
        self.0.state.lock().asked
    }

    /// Fetches of one blob by several members at once since that was asked last.
    pub(super) fn shared_badly(&self) -> Vec<String> {
        std::mem::take(&mut self.0.state.lock().shared_badly)
    }

    /// Asserts that no member has fetched a blob twice at once, and that none fetches any now.
    pub(super) fn check(&self) {
        let state = self.0.state.lock();
        assert!(state.twice.is_empty(), "{:?}", state.twice);
        let running: Vec<_> = state.fetches.values().map(|fetch| &fetch.path).collect();
        assert!(running.is_empty(), "still fetched: {running:?}");
    }

    // --- Its work ---

    pub(super) async fn serve(self) {
        let listening = self.0.net.of(UPSTREAM).listen(ADDRESS).await.unwrap();
        let mut times = self.0.times.subscribe();
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                _ = times.changed() => {
                    if *times.borrow_and_update() == Times::Down {
                        connections.abort_all();
                    }
                }
                Some(_) = connections.join_next() => {}
                arrived = listening.accept() => {
                    let (stream, from) = arrived.unwrap();
                    if *times.borrow() == Times::Down {
                        continue;
                    }
                    let upstream = self.clone();
                    connections.spawn(async move {
                        let service = service_fn(|request| upstream.answer(from.ip(), request));
                        let connection = hyper::server::conn::http1::Builder::new();
                        let _ = connection.serve_connection(TokioIo::new(stream), service).await;
                    });
                }
            }
        }
    }

    async fn answer(&self, member: Host, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let path = request.uri().path().to_owned();
        let (mut seed, found) = {
            let mut state = self.0.state.lock();
            state.asked += 1;
            let found = match state.blobs.get(&path) {
                Some(blob) => Some(Found::Blob(blob.clone())),
                None => state.manifests.get(&path).cloned().map(Found::Manifest),
            };
            (Random::seeded(state.random.number()), found)
        };
        let random = &mut seed;
        self.0.trace.note("asked", &[number(member)]);
        let Some(found) = found else {
            return Ok(status(404));
        };
        let is_fetch = matches!(found, Found::Blob(_)) && request.method() == Method::GET;
        let running = is_fetch.then(|| self.begins(member, path));
        let times = match random.below(2) {
            0 => *self.0.times.borrow(),
            _ => Times::Good,
        };
        match times {
            Times::Slow => sleep(Duration::from_millis(random.below(8_000))).await,
            Times::Limited => return Ok(limited(random)),
            Times::Failing => return Ok(status(*random.pick(&[500, 502, 503]))),
            Times::Good | Times::Cut | Times::Wrong | Times::Down => {}
        }
        let first = first_of(range_of(&request));
        let (head, bytes) = found.response(first, times, random).into_parts();
        let bytes = bytes.collect().await.unwrap().to_bytes();
        let sent = Sent {
            left: bytes,
            pause: if times == Times::Slow {
                random.below(3_000)
            } else {
                0
            },
            breaks_after: (times == Times::Cut).then(|| random.below(20) as usize),
            _running: running,
        };
        Ok(Response::from_parts(head, sent.body()))
    }

    fn begins(&self, member: Host, path: String) -> Running {
        let mut state = self.0.state.lock();
        state.next_fetch += 1;
        let id = state.next_fetch;
        let began = Instant::now();
        state.fetches.insert(id, Fetch { member, path, began });
        Running(self.clone(), id)
    }

    fn ends(&self, id: u64) {
        let mut state = self.0.state.lock();
        let Some(ended) = state.fetches.remove(&id) else {
            return;
        };
        let disturbed = |member: Host| state.disturbed.get(&member).copied();
        let mut others = Vec::new();
        for other in state.fetches.values().filter(|other| other.path == ended.path) {
            let since = [
                Some(ended.began),
                Some(other.began),
                disturbed(ended.member),
                disturbed(other.member),
            ];
            let together = since
                .into_iter()
                .flatten()
                .max()
                .map_or(Duration::ZERO, |since| since.elapsed());
            if together > NEWS {
                others.push((other.member, together));
            }
        }
        for (other, together) in others {
            let told = format!("{}: {} and {other} for {together:?}", ended.path, ended.member);
            match other == ended.member {
                true => state.twice.push(told),
                false => state.shared_badly.push(told),
            }
        }
    }
}

/// A fetch in the account of them.
struct Running(Upstream, u64);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.ends(self.1);
    }
}

enum Found {
    Blob(Blob),
    Manifest(Manifest),
}

impl Found {
    fn response(self, first: usize, times: Times, random: &mut Random) -> Response<Body> {
        let is_wrong = times == Times::Wrong;
        match self {
            Self::Blob(blob) => {
                let bytes = if is_wrong {
                    changed(&blob.bytes, random)
                } else {
                    blob.bytes
                };
                let first = first.min(bytes.len());
                part(first, bytes.len(), whole(bytes.slice(first..)))
            }
            Self::Manifest(mut manifest) => {
                if is_wrong {
                    manifest.bytes = changed(&manifest.bytes, random);
                }
                of_manifest(&manifest)
            }
        }
    }
}

/// With another byte, without the last ones, or with more.
fn changed(bytes: &Bytes, random: &mut Random) -> Bytes {
    let mut bytes = bytes.to_vec();
    match random.below(3) {
        0 => {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1;
        }
        1 => bytes.truncate(bytes.len() / 2),
        _ => bytes.extend_from_slice(b"more"),
    }
    bytes.into()
}

fn limited(random: &mut Random) -> Response<Body> {
    let mut response = status(429);
    if let wait @ 1.. = random.below(20) {
        response.headers_mut().insert(header::RETRY_AFTER, wait.into());
    }
    response
}

fn range_of(request: &Request<Incoming>) -> Option<&str> {
    request.headers().get(header::RANGE)?.to_str().ok()
}

/// What is sent of a body.
struct Sent {
    left: Bytes,
    /// Before each piece, in milliseconds.
    pause: u64,
    /// So many pieces.
    breaks_after: Option<usize>,
    _running: Option<Running>,
}

impl Sent {
    fn body(self) -> Body {
        let pieces = stream::unfold(self, |mut sent| async move {
            if sent.left.is_empty() {
                return None;
            }
            sleep(Duration::from_millis(sent.pause)).await;
            if let Some(left) = &mut sent.breaks_after {
                let Some(next) = left.checked_sub(1) else {
                    sent.left.clear();
                    return Some((Err(std::io::Error::other("broken off")), sent));
                };
                *left = next;
            }
            let piece = sent.left.split_to(PIECE.min(sent.left.len()));
            Some((Ok(Frame::data(piece)), sent))
        });
        StreamBody::new(pieces).boxed_unsync()
    }
}
