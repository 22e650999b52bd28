//! Members that come and go: without a list, by certificate and lease, while clients push and pull.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use portolan::{
    app::{App, MemberSpec, MeshSpec, Running, StartError, Stores},
    config::{Limits, MeshTls, PairSource},
    ownership::{Liveness, Membership, SharedSettings, View as _},
    placement::HashKey,
};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tokio::task::JoinSet;

use crate::{
    stores,
    support::{
        PATIENCE,
        client::{Ask as _, Client, Http},
        content::{Blob, Manifest},
        eventually,
        mesh::memory,
        ports::{free_port, loopback},
    },
};

/// Clients that push and pull all the time.
const CLIENTS: usize = 4;

/// Most members that a test has.
const MOST: u8 = 10;

const HASH_KEY: &[u8; 16] = b"loremipsumdolors";

/// A mesh without a list of members.
struct Dynamic {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    stores: Stores,
    port: u16,
    mesh_port: u16,
}

impl Dynamic {
    fn new() -> Self {
        Self::over(memory())
    }

    /// Over these stores.
    fn over(stores: Stores) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).unwrap();
        std::fs::write(folder.path().join("ca.crt"), ca.pem()).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            folder,
            stores,
            port: free_port(MOST),
            mesh_port: free_port(MOST),
        }
    }

    fn door(&self, n: u8) -> SocketAddr {
        (loopback(n), self.port).into()
    }

    /// A new key and its certificate for `san`.
    fn issue(&self, stem: &str, san: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![san.to_owned()]).unwrap();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let file = |extension: &str| Path::new(self.folder.path()).join(format!("{stem}.{extension}"));
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(file("crt"), certificate.pem()).unwrap();
        std::fs::write(file("key"), key.serialize_pem()).unwrap();
        (file("crt"), file("key"))
    }

    /// What member `n` is, its hash key and bucket apart from that of nobody else.
    fn spec(&self, n: u8) -> MemberSpec {
        let (cert, key) = self.issue(&format!("member-{n}"), &format!("member-{n}.mesh.internal"));
        let listen = SocketAddr::new(loopback(n), self.mesh_port);
        let mut limits = Limits::default();
        limits.leases.heartbeat = Duration::from_millis(400);
        limits.ending.notice = Duration::from_millis(1200);
        MemberSpec {
            mesh: Some(MeshSpec {
                listen,
                address: listen.to_string(),
                membership: Membership::Dynamic {
                    san: "*.mesh.internal".to_owned(),
                },
                shared: settings(HASH_KEY, "registry"),
                hash_key: HashKey::new(*HASH_KEY),
                tls: MeshTls {
                    ca: self.folder.path().join("ca.crt"),
                    cert,
                    key,
                    pair: PairSource::Cluster,
                    operators: vec![],
                    administrators: vec![],
                    member_san: Some("*.mesh.internal".to_owned()),
                },
            }),
            limits,
            ..MemberSpec::alone(self.door(n).to_string().parse().unwrap(), self.door(n))
        }
    }

    async fn bind(&self, n: u8, settings: SharedSettings) -> Result<App, StartError> {
        let mut spec = self.spec(n);
        if let Some(mesh) = &mut spec.mesh {
            mesh.shared = settings;
        }
        App::bind(spec, self.stores.clone()).await
    }

    async fn start(&self, n: u8) -> Running {
        App::bind(self.spec(n), self.stores.clone())
            .await
            .unwrap()
            .serve()
            .await
    }
}

/// What members compare, as `serve` gives it.
fn settings(hash_key: &[u8; 16], bucket: &str) -> SharedSettings {
    SharedSettings::new()
        .with("cluster.hashKey", hash_key)
        .with("storage.storageDriver.bucket", bucket.as_bytes())
}

/// What a balancer would do: it asks members that are ready, and notices late when one isn't.
#[derive(Default)]
struct Balancer {
    doors: Mutex<Vec<SocketAddr>>,
    next: AtomicUsize,
}

impl Balancer {
    fn pick(&self) -> SocketAddr {
        let doors = self.doors.lock();
        doors[self.next.fetch_add(1, Ordering::Relaxed) % doors.len()]
    }

    fn add(&self, door: SocketAddr) {
        self.doors.lock().push(door);
    }

    /// Ends a member, as SIGTERM does.
    async fn end(&self, door: SocketAddr, member: Running) {
        let draining = member.drain(PATIENCE);
        let noticing = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            self.doors.lock().retain(|known| *known != door);
        };
        let (remaining, ()) = tokio::join!(draining, noticing);
        assert!(remaining.is_empty(), "cut at the end: {remaining:?}");
    }
}

/// Pushes and pulls until told to stop; gives how many requests were made. Each must succeed, and each read must give what
/// was pushed last.
async fn work(client: usize, balancer: Arc<Balancer>, stop: Arc<AtomicBool>) -> usize {
    // One connection a member, kept open.
    let clients: Vec<(SocketAddr, Client)> = (1..=5)
        .map(|n| {
            let port = balancer.doors.lock()[0].port();
            let door = SocketAddr::new(loopback(n), port);
            (door, Client::new(door, Http::One))
        })
        .collect();
    let through = || {
        let door = balancer.pick();
        let client = clients.iter().find(|(known, _)| *known == door);
        &client.unwrap().1
    };
    let (mut requests, mut round) = (0, 0);
    let config = Blob::named(&format!("config {client}"), 2_000);
    while !stop.load(Ordering::Relaxed) {
        let repository = format!("load/client-{client}-{}", round % 7);
        let blob = Blob::named(&format!("{client} {round}"), 150_000);
        for content in [&config, &blob] {
            let pushed = through().push_blob(&repository, content).await;
            pushed.expect("a push is answered").expect(201);
        }
        let manifest = Manifest::image(&config, &[&blob]).build();
        let pushed = through().push_manifest(&repository, "latest", &manifest).await;
        pushed.expect("a push is answered").expect(201);
        for target in ["manifests/latest".to_owned(), format!("blobs/{}", blob.digest)] {
            let answer = through().get(format!("/v2/{repository}/{target}")).await;
            let answer = answer.expect("a pull is answered").expect(200);
            let expected = if target.starts_with("blobs") {
                &blob.bytes
            } else {
                &manifest.bytes
            };
            answer.with_body(expected);
        }
        (requests, round) = (requests + 5, round + 1);
    }
    requests
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_go_and_restart_under_load_without_a_failed_request() {
    let mesh = Dynamic::new();
    let balancer = Arc::new(Balancer::default());
    let mut running = Vec::new();
    for n in 1..=3 {
        running.push(mesh.start(n).await);
        balancer.add(mesh.door(n));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        clients.spawn(work(client, balancer.clone(), stop.clone()));
    }
    for n in 4..=5 {
        running.push(mesh.start(n).await);
        balancer.add(mesh.door(n));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    // A rolling restart.
    for n in 1..=5 {
        balancer.end(mesh.door(n), running.remove(0)).await;
        running.push(mesh.start(n).await);
        balancer.add(mesh.door(n));
    }
    // 1 and 2 stay.
    for n in 3..=5 {
        balancer.end(mesh.door(n), running.remove(2)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    stop.store(true, Ordering::Relaxed);
    let requests: usize = clients.join_all().await.into_iter().sum();
    println!(
        "{requests} requests while 3 members became 5, each was restarted, and 3 of 5 left: none failed"
    );
    assert!(requests > 0);
    let (first, second) = (running.remove(0), running.remove(0));
    first.leave().await;
    second.leave().await;
    assert!(first.drain(PATIENCE).await.is_empty() && second.drain(PATIENCE).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_has_just_joined_is_known_at_its_first_call() {
    let mesh = Dynamic::new();
    let first = mesh.start(1).await;
    let second = mesh.start(2).await;
    // Nobody but the second knows of the second yet, unless by its call.
    let door = Client::new(mesh.door(2), Http::One);
    for n in 0..8 {
        let repository = format!("joined/{n}");
        let blob = Blob::named(&repository, 1_000);
        door.push_blob(&repository, &blob).await.unwrap().expect(201);
    }
    let text = second.metrics().render();
    assert!(!text.contains(r#"outcome="refused""#), "{text}");
    assert!(text.contains(r#"outcome="answered""#), "{text}");
    eventually("the first sees the second", || async {
        let members = first.leases().unwrap().members();
        members.len() == 2 && members.iter().all(|member| member.liveness == Liveness::Live)
    })
    .await;
    first.leave().await;
    second.leave().await;
    assert!(first.drain(PATIENCE).await.is_empty() && second.drain(PATIENCE).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_with_another_hash_key_or_bucket_is_refused_by_name() {
    let mesh = Dynamic::new();
    let first = mesh.start(1).await;
    let others = [
        (settings(b"sitametconsetetu", "registry"), "cluster.hashKey"),
        (settings(HASH_KEY, "another"), "storage.storageDriver.bucket"),
    ];
    for (other, key) in others {
        let refused = mesh.bind(2, other).await.err().unwrap().to_string();
        assert!(
            refused.contains(&format!("member {}", mesh.door(1))) && refused.contains(key),
            "{refused}"
        );
    }
    assert!(first.drain(PATIENCE).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_members_started_at_once_on_no_tables_are_one_mesh() {
    let tables = stores::dynamo_config(&stores::dynamo_server());
    let blobs = memory().blobs;
    let mesh = Dynamic::over(memory());
    let start = async |n| {
        // Each makes the tables that it doesn't find.
        let meta = Arc::new(stores::dynamo_open(&tables).await);
        let stores = Stores {
            meta,
            blobs: blobs.clone(),
        };
        App::bind(mesh.spec(n), stores).await.unwrap().serve().await
    };
    let running = futures_util::future::join_all((1..=MOST).map(start)).await;
    for member in &running {
        eventually("everybody sees everybody", || async {
            let members = member.leases().unwrap().members();
            let live = members.iter().filter(|member| member.liveness == Liveness::Live);
            live.count() == usize::from(MOST)
        })
        .await;
    }
    for n in 1..=MOST {
        let blob = Blob::named(&format!("from {n}"), 1_000);
        let here = Client::new(mesh.door(n), Http::One);
        here.push_blob("ten/members", &blob).await.unwrap().expect(201);
        let there = Client::new(mesh.door(n % MOST + 1), Http::One);
        let answer = there.get(format!("/v2/ten/members/blobs/{}", blob.digest)).await;
        answer.unwrap().expect(200).with_body(&blob.bytes);
    }
    futures_util::future::join_all(running.into_iter().map(Running::cut)).await;
    stores::dynamo_delete(&tables).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_peers_names_dont_resolve_serves() {
    let mesh = Dynamic::new();
    let mut spec = mesh.spec(1);
    if let Some(door) = &mut spec.mesh {
        let nowhere = |n: u8| {
            let host = format!("member-{n}.nowhere.invalid");
            (format!("{host}:5000").parse().unwrap(), format!("{host}:9443"))
        };
        let me = (spec.id.clone(), door.address.clone());
        door.membership = Membership::Listed(vec![me, nowhere(2), nowhere(3)]);
    }
    let member = App::bind(spec, mesh.stores.clone()).await.unwrap().serve().await;
    member.ready().await.unwrap();
    let client = Client::new(mesh.door(1), Http::One);
    for n in 0..8 {
        let repository = format!("alone/{n}");
        let blob = Blob::named(&repository, 1_000);
        client.push_blob(&repository, &blob).await.unwrap().expect(201);
    }
    assert!(member.drain(PATIENCE).await.is_empty());
}
