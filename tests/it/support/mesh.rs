//! A mesh of three members in this process, over real TCP and mutual TLS.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use portolan::{
    app::{App, DevCertificates, MemberSpec, MeshSpec, Running, StartError, Stores},
    auth::GateSpec,
    config::{
        CacheConfig, Collecting, Delivery, Extensions, Limits, MeshTls, PairSource, RateLimits, Redirects,
        Replicate, Retention, Sync,
    },
    net::Remaining,
    oci::RepoPattern,
    ownership::{Liveness, Membership, SharedSettings, View as _},
    placement::{HashKey, MemberId},
    registry::{Immutable, Quotas},
    storage::{MemoryBlobs, MemoryMeta},
};

use super::{
    PATIENCE,
    client::{Client, Http},
    eventually,
    metrics::Metrics,
    ports::{free_port, loopback},
};
use crate::api::Names;

/// How many members.
pub(crate) const MEMBERS: usize = 3;

/// The key of the sample configuration, too.
pub(crate) const HASH_KEY: [u8; 16] = *b"loremipsumdolors";

/// Another one, under which most repositories have other owners.
pub(crate) const OTHER_HASH_KEY: [u8; 16] = *b"sitametconsetetu";

/// Length of a part of a large blob, in most tests: some parts of an object shouldn't cost many bytes.
pub(crate) const PART: usize = 64 << 10;

/// What the members have counted of each other: `forwards[front][owner]`, `replays[owner][front]`.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) forwards: [[f64; MEMBERS]; MEMBERS],
    pub(crate) replays: [[f64; MEMBERS]; MEMBERS],
}

impl Counts {
    /// Those of `members`, each asked by its client.
    pub(crate) async fn ask(clients: &[Client], members: &[MemberId]) -> Self {
        let mut counts = Self::default();
        for (at, client) in clients.iter().enumerate() {
            let metrics = Metrics::ask(client).await;
            for (of, peer) in members.iter().enumerate() {
                let labels = [("peer", peer.as_str()), ("outcome", "answered")];
                counts.forwards[at][of] = metrics.sum("portolan_forwards_total", &labels);
                counts.replays[at][of] = metrics.sum("portolan_replays_total", &labels);
            }
        }
        counts
    }
}

/// A running mesh.
pub(crate) struct Mesh {
    running: Vec<Option<Running>>,
    pub(crate) members: Vec<MemberId>,
    doors: Vec<SocketAddr>,
    pub(crate) mesh_doors: Vec<SocketAddr>,
}

/// What a mesh is made of.
pub(crate) struct Plan {
    stores: Stores,
    hash_keys: [[u8; 16]; MEMBERS],
    links: Links,
    rate_limits: RateLimits,
    external_url: Option<String>,
    quotas: Quotas,
    immutable: Immutable,
    retention: Retention,
    verify_reads: bool,
    delivery: Delivery,
    sparse_indexes: Vec<RepoPattern>,
    sync: Option<Sync>,
    replicate: Option<Replicate>,
    limits: Limits,
    gate: GateSpec,
    extensions: Extensions,
}

/// Whether members reach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Links {
    Up,
    Cut,
}

impl Plan {
    /// Over stores in memory.
    pub(crate) fn new() -> Self {
        Self::over(memory())
    }

    /// Over these stores.
    pub(crate) fn over(stores: Stores) -> Self {
        let mut limits = Limits::default();
        limits.registry.part_size = PART as u64;
        limits.leases.heartbeat = Duration::from_millis(200);
        limits.ending.notice = Duration::from_millis(600);
        Self {
            stores,
            hash_keys: [HASH_KEY; MEMBERS],
            links: Links::Up,
            rate_limits: RateLimits::default(),
            external_url: None,
            quotas: Quotas::default(),
            immutable: Immutable::default(),
            retention: Retention::default(),
            verify_reads: false,
            delivery: Delivery::default(),
            sparse_indexes: Vec::new(),
            sync: None,
            replicate: None,
            limits,
            gate: GateSpec::default(),
            extensions: Extensions::default(),
        }
    }

    /// Member by member: those with another key believe in other owners.
    pub(crate) fn hash_keys(mut self, hash_keys: [[u8; 16]; MEMBERS]) -> Self {
        self.hash_keys = hash_keys;
        self
    }

    /// Parts of large blobs have `bytes`: stores that are services take no small ones.
    pub(crate) fn parts(mut self, bytes: usize) -> Self {
        self.limits.registry.part_size = bytes as u64;
        self
    }

    /// Who may log in and who may do what, on all members.
    pub(crate) fn gate(mut self, gate: GateSpec) -> Self {
        self.gate = gate;
        self
    }

    /// What is offered beside the distribution API, by all members.
    pub(crate) fn extensions(mut self, extensions: Extensions) -> Self {
        self.extensions = extensions;
        self
    }

    /// No member reaches another one: each serves everything itself, all over one store.
    pub(crate) fn cut_off(mut self) -> Self {
        self.links = Links::Cut;
        self
    }

    /// With other bounds.
    pub(crate) fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.limits);
        self
    }

    /// With `http.ratelimit`.
    pub(crate) fn rate_limits(mut self, rate_limits: RateLimits) -> Self {
        self.rate_limits = rate_limits;
        self
    }

    /// With `http.externalUrl`, the same on all members.
    pub(crate) fn external_url(mut self, url: &str) -> Self {
        self.external_url = Some(url.to_owned());
        self
    }

    /// With `storage.immutableTags`.
    pub(crate) fn immutable(mut self, immutable: Immutable) -> Self {
        self.immutable = immutable;
        self
    }

    /// With `storage.retention`.
    pub(crate) fn retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// With `storage.quota`.
    pub(crate) fn quotas(mut self, quotas: Quotas) -> Self {
        self.quotas = quotas;
        self
    }

    /// With `storage.verifyReads`.
    pub(crate) fn verify_reads(mut self) -> Self {
        self.verify_reads = true;
        self
    }

    /// With `storage.redirectBlobURL`.
    pub(crate) fn redirects_from(mut self, bytes: u64) -> Self {
        self.delivery.redirects = Redirects::From { bytes };
        self
    }

    /// With `storage.cache`, each member's in a folder of its number.
    pub(crate) fn cache(mut self, folder: &Path) -> Self {
        self.delivery.cache = Some(CacheConfig {
            path: folder.to_owned(),
            bytes: 64 << 20,
        });
        self
    }

    /// With `storage.sparseIndexes`.
    pub(crate) fn sparse_indexes(mut self, patterns: Vec<RepoPattern>) -> Self {
        self.sparse_indexes = patterns;
        self
    }

    /// With `extensions.replicate`.
    pub(crate) fn replicate(mut self, replicate: Replicate) -> Self {
        self.replicate = Some(replicate);
        self
    }

    /// With `extensions.sync`.
    pub(crate) fn sync(mut self, sync: Sync) -> Self {
        self.sync = Some(sync);
        self
    }

    pub(crate) async fn start(self) -> Mesh {
        // RUST_LOG shows what members log.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_test_writer()
            .try_init();
        // Another process may take a port between the look and the bind.
        for _ in 0..10 {
            match self.bind().await {
                Ok(mesh) => return mesh,
                Err(StartError::Bind(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        panic!("no free ports");
    }

    async fn bind(&self) -> Result<Mesh, StartError> {
        let addresses: Vec<IpAddr> = (1..=MEMBERS).map(|n| loopback(n as u8)).collect();
        let (port, mesh_port) = (free_port(MEMBERS as u8), free_port(MEMBERS as u8));
        let doors: Vec<SocketAddr> = addresses.iter().map(|ip| (*ip, port).into()).collect();
        let mesh_doors: Vec<SocketAddr> = addresses.iter().map(|ip| (*ip, mesh_port).into()).collect();
        let members: Vec<MemberId> = doors
            .iter()
            .map(|door| door.to_string().parse().unwrap())
            .collect();
        let mut apps = Vec::new();
        for n in 0..MEMBERS {
            let address = |of: usize| match self.links {
                Links::Cut if of != n => format!("{}:1", loopback(of as u8 + 1)),
                Links::Up | Links::Cut => mesh_doors[of].to_string(),
            };
            let known = members.iter().cloned().enumerate();
            let known = known.map(|(of, member)| (member, address(of))).collect();
            let spec = MemberSpec {
                id: members[n].clone(),
                public: doors[n],
                public_tls: None,
                gate: self.gate.clone(),
                mesh: Some(MeshSpec {
                    listen: mesh_doors[n],
                    address: mesh_doors[n].to_string(),
                    membership: Membership::Listed(known),
                    // Whatever their keys: that members disagree is what some tests are about.
                    shared: SharedSettings::new(),
                    hash_key: HashKey::new(self.hash_keys[n]),
                    tls: tls(&certificates().members[n]),
                }),
                rate_limits: self.rate_limits.clone(),
                external_url: self.external_url.clone(),
                quotas: self.quotas.clone(),
                immutable: self.immutable.clone(),
                verify_reads: self.verify_reads,
                delivery: Delivery {
                    cache: self.delivery.cache.clone().map(|cache| CacheConfig {
                        path: cache.path.join(n.to_string()),
                        ..cache
                    }),
                    ..self.delivery.clone()
                },
                sparse_indexes: self.sparse_indexes.clone(),
                sync: self.sync.clone(),
                replicate: self.replicate.clone(),
                collecting: Collecting::On,
                extensions: self.extensions.clone(),
                retention: self.retention.clone(),
                limits: self.limits,
            };
            apps.push(App::bind(spec, self.stores.clone()).await?);
        }
        let mut running = Vec::new();
        for app in apps {
            running.push(app.serve().await);
        }
        for member in &running {
            see_each_other(member).await;
        }
        let running = running.into_iter().map(Some).collect();
        Ok(Mesh {
            running,
            members,
            doors,
            mesh_doors,
        })
    }
}

/// Waits until a member has seen the leases of all others.
async fn see_each_other(member: &Running) {
    let leases = member.leases().expect("it is a member of a mesh");
    eventually("all members are live", || async {
        leases.look().await;
        let members = leases.members();
        members.iter().all(|member| member.liveness == Liveness::Live)
    })
    .await;
}

/// Empty stores in memory.
pub(crate) fn memory() -> Stores {
    Stores {
        meta: Arc::new(MemoryMeta::default()),
        blobs: Arc::new(MemoryBlobs::new()),
    }
}

pub(crate) fn tls(pair: &portolan::app::Pair) -> MeshTls {
    MeshTls {
        ca: certificates().ca.clone(),
        cert: pair.cert.clone(),
        key: pair.key.clone(),
        pair: PairSource::Cluster,
        operators: vec!["operator".to_owned()],
        administrators: vec![],
        member_san: None,
    }
}

/// The certificates of all meshes of this process: their members are on the same addresses.
pub(crate) fn certificates() -> DevCertificates {
    static MINTED: Mutex<Option<DevCertificates>> = Mutex::new(None);
    let mut minted = MINTED.lock();
    minted
        .get_or_insert_with(|| {
            let addresses: Vec<IpAddr> = (1..=MEMBERS).map(|n| loopback(n as u8)).collect();
            DevCertificates::mint(&folder("tls"), &addresses).unwrap()
        })
        .clone()
}

/// A folder under `target/` for this process. Those of processes that have ended go.
fn folder(name: &str) -> PathBuf {
    let all = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for entry in std::fs::read_dir(all).into_iter().flatten().flatten() {
        let entry_name = entry.file_name();
        let pid = entry_name
            .to_str()
            .and_then(|entry| entry.strip_prefix(name)?.strip_prefix('-'));
        if pid.is_some_and(|pid| Path::new("/proc/self").exists() && !Path::new("/proc").join(pid).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    all.join(format!("{name}-{}", std::process::id()))
}

impl Mesh {
    /// Over stores in memory.
    pub(crate) async fn of_three() -> Self {
        Plan::new().start().await
    }

    pub(crate) fn door(&self, member: usize) -> SocketAddr {
        self.doors[member]
    }

    pub(crate) fn client(&self, member: usize) -> Client {
        Client::new(self.doors[member], Http::One)
    }

    /// A client for each member.
    pub(crate) fn clients(&self) -> Vec<Client> {
        (0..MEMBERS).map(|member| self.client(member)).collect()
    }

    pub(crate) fn names(&self) -> Names {
        Names::new(&self.members, HashKey::new(HASH_KEY))
    }

    pub(crate) async fn metrics(&self, member: usize) -> Metrics {
        Metrics::ask(&self.client(member)).await
    }

    pub(crate) async fn counts(&self) -> Counts {
        Counts::ask(&self.clients(), &self.members).await
    }

    /// Tells the others that a member is about to end; it serves everything still.
    pub(crate) async fn leave(&self, member: usize) {
        self.running[member].as_ref().expect("it runs").leave().await;
    }

    /// Ends one member in an orderly way, within `bound`; what is still in flight then is cut, and told.
    pub(crate) async fn end(&mut self, member: usize, bound: Duration) -> Vec<Remaining> {
        self.running[member].take().expect("it runs").drain(bound).await
    }

    /// Ends one member at once, without a word to the others; tells what was in flight.
    pub(crate) async fn crash(&mut self, member: usize) -> Vec<Remaining> {
        self.running[member].take().expect("it runs").cut().await
    }

    /// Ends all members that still run, and asserts that nothing had to be cut.
    pub(crate) async fn stop(mut self) {
        let running: Vec<Running> = self.running.iter_mut().filter_map(Option::take).collect();
        for member in &running {
            member.leave().await;
        }
        for member in running {
            let remaining = member.drain(PATIENCE).await;
            assert!(remaining.is_empty(), "cut at the end: {remaining:?}");
        }
    }
}
