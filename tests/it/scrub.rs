//! `extensions.scrub` and `portolan scrub`: everything is read, what is damaged is named, and nobody gets it whole until it is pushed
//! again.

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use bytes::Bytes;
use portolan::{
    app::Stores,
    config::{Extensions, Limits},
    oci::Digest,
    storage::{
        MetaStore, ObjectKey,
        keys::{self, CHANGE_PARTITIONS},
        rows,
    },
};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::Command,
    time::timeout,
};

use crate::support::{
    PATIENCE,
    client::{Ask as _, Request},
    content::{Blob, Manifest},
    embedded, eventually,
    mesh::{MEMBERS, Mesh, Plan, memory},
    metrics::Metrics,
};

/// Repositories, each with an image of one layer that no other has.
const REPOSITORIES: usize = 12;
/// Longer than what is hashed whenever it is read.
pub(crate) const LAYER: usize = 200_000;
/// The one with a flipped byte, and the one that is too short.
const FLIPPED: usize = 3;
const SHORT: usize = 7;

fn layers() -> Vec<Blob> {
    (0..REPOSITORIES)
        .map(|n| Blob::named(&format!("scrub {n}"), LAYER))
        .collect()
}

async fn push(mesh: &Mesh, config: &Blob, layers: &[Blob]) {
    let client = mesh.client(0);
    for (n, layer) in layers.iter().enumerate() {
        let repository = format!("scrub/{n}");
        for blob in [config, layer] {
            client.push_blob(&repository, blob).await.unwrap().expect(201);
        }
        let image = Manifest::image(config, &[layer]).build();
        let pushed = client.push_manifest(&repository, "v1", &image).await;
        pushed.unwrap().expect(201);
    }
}

pub(crate) async fn object(meta: &dyn MetaStore, blob: &Blob) -> ObjectKey {
    let key = keys::blob(&Digest::parse(&blob.digest).unwrap());
    let found = meta.get(&key).await.unwrap().unwrap();
    let record = rows::Blob::decode(found.bytes).unwrap();
    ObjectKey::parse(&record.object_key).unwrap()
}

/// Whether the whole body of the blob, or what should be, ever comes.
pub(crate) async fn comes_whole(mesh: &Mesh, member: usize, repository: &str, blob: &Blob) -> bool {
    let target = format!("/v2/{repository}/blobs/{}", blob.digest);
    match mesh.client(member).ask(Request::get(target)).await {
        Ok(answer) => answer.status == 200 && answer.body.len() == blob.len(),
        Err(_) => false,
    }
}

async fn counted(mesh: &Mesh, outcome: &str) -> f64 {
    let mut sum = 0.0;
    for member in 0..MEMBERS {
        let metrics: Metrics = mesh.metrics(member).await;
        sum += metrics.sum("portolan_scrub_objects_total", &[("outcome", outcome)]);
    }
    sum
}

/// Forgets how far members are, and waits until everything has been read once more.
async fn read_again(stores: &Stores) {
    let places = (0..CHANGE_PARTITIONS).map(|part| keys::scrub_place("members", part));
    let places: Vec<_> = places.collect();
    let began_ms = portolan::clock::now_ms();
    eventually("everything is read", || async {
        let found = stores.meta.get_many(&places).await.unwrap();
        let mut is_over = true;
        for (key, found) in places.iter().zip(found) {
            let place = found.map(|found| (rows::ScrubPlace::decode(found.bytes).unwrap(), found.version));
            match place {
                Some((place, _)) if place.began_ms >= began_ms => is_over &= place.ended_ms > 0,
                // One that members have replaced meanwhile isn't touched.
                Some((_, version)) => {
                    let op = key.clone().delete(portolan::storage::Expect::Version(version));
                    let outcome = stores
                        .meta
                        .transact(portolan::storage::Version::random(), &[op])
                        .await;
                    outcome.unwrap();
                    is_over = false;
                }
                None => is_over = false,
            }
        }
        is_over
    })
    .await;
}

/// What is damaged under a mesh that runs is found by its members between them, never comes whole, and is mended by a push.
pub(crate) async fn damage_is_found_and_mended(stores: Stores, part: usize) {
    let extensions = Extensions {
        scrub: Some(Duration::from_secs(24 * 60 * 60)),
        ..Extensions::default()
    };
    let hasten = |limits: &mut Limits| {
        limits.scrub.look_interval = Duration::from_millis(100);
        limits.scrub.stride = Duration::from_millis(100);
        limits.registry.seen_for = Duration::ZERO;
    };
    let plan = Plan::over(stores.clone()).parts(part).extensions(extensions);
    let mesh = plan.limits(hasten).start().await;
    let (config, layers) = (Blob::new("{}"), layers());
    push(&mesh, &config, &layers).await;
    read_again(&stores).await;
    assert_eq!(counted(&mesh, "damaged").await, 0.0);

    let mut flipped = layers[FLIPPED].bytes.to_vec();
    flipped[LAYER / 2] ^= 1;
    for (n, bytes) in [
        (FLIPPED, Bytes::from(flipped)),
        (SHORT, layers[SHORT].bytes.slice(..LAYER - 1)),
    ] {
        let key = object(&*stores.meta, &layers[n]).await;
        stores.blobs.put(&key, bytes.into()).await.unwrap();
    }
    read_again(&stores).await;
    assert!(counted(&mesh, "damaged").await >= 2.0);
    assert_eq!(counted(&mesh, "failed").await, 0.0);
    for member in 0..MEMBERS {
        for (n, layer) in layers.iter().enumerate() {
            let (name, is_damaged) = (format!("scrub/{n}"), n == FLIPPED || n == SHORT);
            assert_eq!(
                comes_whole(&mesh, member, &name, layer).await,
                !is_damaged,
                "{name} through {member}"
            );
            let target = format!("/v2/{name}/blobs/{}", layer.digest);
            let asked = mesh.client(member).head(target).await.unwrap();
            assert_eq!(
                asked.status,
                if is_damaged { 404 } else { 200 },
                "{name} through {member}"
            );
        }
    }
    for n in [FLIPPED, SHORT] {
        let name = format!("scrub/{n}");
        mesh.client(1)
            .push_blob(&name, &layers[n])
            .await
            .unwrap()
            .expect(201);
        for member in 0..MEMBERS {
            assert!(
                comes_whole(&mesh, member, &name, &layers[n]).await,
                "{name} through {member}"
            );
        }
    }
    let before = counted(&mesh, "damaged").await;
    read_again(&stores).await;
    assert_eq!(counted(&mesh, "damaged").await, before, "all is whole");
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_in_memory_is_found_by_the_members_and_mended() {
    damage_is_found_and_mended(memory(), 64 << 10).await;
}

/// `portolan scrub` over what one member keeps in a folder.
struct Alone {
    folder: tempfile::TempDir,
    config: Blob,
    layers: Vec<Blob>,
}

const ROOT: &str = "root";

impl Alone {
    async fn new(count: usize, length: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join(ROOT);
        let configuration = json!({
            "storage": {"rootDirectory": root},
            "http": {"address": "127.0.0.1", "port": 1},
        });
        std::fs::write(folder.path().join("config.json"), configuration.to_string()).unwrap();
        let layers = (0..count).map(|n| Blob::named(&format!("alone {n}"), length));
        // In the order in which they are read.
        let mut layers: Vec<_> = layers.collect();
        layers.sort_by(|a, b| a.digest.cmp(&b.digest));
        let alone = Self {
            folder,
            config: Blob::new("{}"),
            layers,
        };
        alone
            .with_mesh(async |mesh| {
                let image = alone.layers.iter().collect::<Vec<_>>();
                let image = Manifest::image(&alone.config, &image).build();
                for blob in alone.layers.iter().chain([&alone.config]) {
                    mesh.client(0)
                        .push_blob("team/app", blob)
                        .await
                        .unwrap()
                        .expect(201);
                }
                mesh.client(0)
                    .push_manifest("team/app", "v1", &image)
                    .await
                    .unwrap()
                    .expect(201);
            })
            .await;
        alone
    }

    /// Members that serve the folder for a while.
    async fn with_mesh(&self, work: impl AsyncFnOnce(&Mesh)) {
        let stores = embedded(&self.folder.path().join(ROOT)).await;
        let mesh = Plan::over(stores.stores()).start().await;
        work(&mesh).await;
        mesh.stop().await;
        stores.close().await;
    }

    /// The file that has the bytes of a blob.
    fn file(&self, blob: &Blob) -> PathBuf {
        let mut files = Vec::new();
        walk(&self.folder.path().join(ROOT), &mut files);
        let is_of = |file: &PathBuf| std::fs::read(file).is_ok_and(|bytes| bytes == blob.bytes);
        files.into_iter().find(is_of).expect("it is there")
    }

    /// Puts other bytes into that of a layer.
    fn change(&self, layer: usize, change: impl FnOnce(&mut Vec<u8>)) {
        let layer = &self.layers[layer];
        let mut bytes = layer.bytes.to_vec();
        change(&mut bytes);
        std::fs::write(self.file(layer), bytes).unwrap();
    }

    /// Makes it unreadable, also for root.
    fn obstruct(&self, blob: &Blob) {
        let file = self.file(blob);
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink(&file, &file).unwrap();
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("config.json")
    }

    async fn scrub(&self, arguments: &[&str]) -> (Option<i32>, Vec<Value>, String) {
        scrub(&self.config(), arguments).await
    }
}

fn command(config: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portolan"));
    command
        .args(["scrub", "--json"])
        .args(arguments)
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// The status of `portolan scrub`, its lines of JSON, and what it complained of.
pub(crate) async fn scrub(config: &Path, arguments: &[&str]) -> (Option<i32>, Vec<Value>, String) {
    let output = timeout(PATIENCE, command(config, arguments).output()).await;
    let Output {
        status,
        stdout,
        stderr,
    } = output.expect("it ends").unwrap();
    let stdout = String::from_utf8(stdout).unwrap();
    let lines = stdout.lines().map(|line| serde_json::from_str(line).unwrap());
    let lines: Vec<Value> = lines.collect();
    let complaints = String::from_utf8(stderr).unwrap();
    assert!(!lines.is_empty(), "{status} {complaints}");
    (status.code(), lines, complaints)
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => walk(&path, found),
            false => found.push(path),
        }
    }
}

/// What is said of a layer.
fn damaged(layer: &Blob, damage: &str) -> Value {
    json!({"digest": layer.digest, "damage": damage, "repositories": ["team/app"], "tags": ["v1"]})
}

const BYTES: &str = "has other bytes than were written";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_names_what_is_damaged_in_a_folder_and_a_push_mends_it() {
    let alone = Alone::new(4, LAYER).await;
    let (status, lines, _) = alone.scrub(&["--rate", "0"]).await;
    let whole = json!({"repositories": 1, "read": 6, "damaged": 0, "unread": 0, "over": true,
        "bytes": lines[0]["bytes"]});
    assert_eq!((status, lines.as_slice()), (Some(0), &[whole][..]));
    alone.change(0, |bytes| bytes[LAYER / 2] ^= 1);
    alone.change(2, |bytes| bytes.truncate(LAYER - 1));
    for _ in 0..2 {
        let (status, lines, _) = alone.scrub(&["--rate", "0"]).await;
        let expected = [
            damaged(&alone.layers[0], BYTES),
            damaged(&alone.layers[2], "has another length than was written"),
        ];
        assert_eq!((status, &lines[..2]), (Some(1), &expected[..]));
        assert_eq!(
            (&lines[2]["damaged"], &lines[2]["over"]),
            (&json!(2), &json!(true))
        );
    }
    // A folder has no ETags, so what has another byte is known by what was noted.
    alone
        .with_mesh(async |mesh| {
            for (n, layer) in alone.layers.iter().enumerate() {
                for member in 0..MEMBERS {
                    let came = comes_whole(mesh, member, "team/app", layer).await;
                    assert_eq!(came, n % 2 == 1, "layer {n} through {member}");
                }
                let asked = mesh
                    .client(1)
                    .head(format!("/v2/team/app/blobs/{}", layer.digest))
                    .await;
                assert_eq!(
                    asked.unwrap().status,
                    if n % 2 == 1 { 200 } else { 404 },
                    "layer {n}"
                );
                mesh.client(2)
                    .push_blob("team/app", layer)
                    .await
                    .unwrap()
                    .expect(201);
                assert!(comes_whole(mesh, 0, "team/app", layer).await);
            }
        })
        .await;
    let (status, lines, _) = alone.scrub(&["--rate", "0"]).await;
    assert_eq!((status, lines.len()), (Some(0), 1), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_read_is_named_and_passed_over_and_many_in_a_row_end_the_run() {
    let alone = Alone::new(6, LAYER).await;
    alone.obstruct(&alone.layers[1]);
    alone.obstruct(&alone.layers[4]);
    let (status, lines, complaints) = alone.scrub(&["--rate", "0"]).await;
    let sums = ["read", "damaged", "unread", "over"].map(|name| &lines[0][name]);
    assert_eq!(
        (status, sums),
        (Some(1), [&json!(6), &json!(0), &json!(2), &json!(true)])
    );
    for layer in [1, 4] {
        let named = format!(
            "{} (team/app) can't be read and is passed over",
            alone.layers[layer].digest
        );
        assert!(complaints.contains(&named), "{complaints}");
    }
    for layer in [0, 2, 3, 5] {
        alone.obstruct(&alone.layers[layer]);
    }
    alone.obstruct(&alone.config);
    // The store, it seems: two are passed over, and the third is where the next run begins.
    for (read, unread, is_over) in [(0, 2, false), (0, 4, false), (0, 6, false), (1, 7, true)] {
        let (status, lines, complaints) = alone.scrub(&["--rate", "0"]).await;
        let sums = [
            ("read", json!(read)),
            ("unread", json!(unread)),
            ("over", json!(is_over)),
        ];
        for (name, expected) in sums {
            assert_eq!(lines[0][name], expected, "{name} {lines:?}");
        }
        let goes_on = complaints.contains("the next run goes on from there");
        assert_eq!((status, goes_on), (Some(1), !is_over), "{complaints}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_interrupted_is_gone_on_with_and_what_it_found_is_named_again() {
    // At 1 MiB a second most of it is left when the first is told.
    let alone = Alone::new(30, 1 << 20).await;
    alone.change(0, |bytes| bytes[7] ^= 1);
    let mut child = command(&alone.config(), &["--rate", "1"]).spawn().unwrap();
    let pid = child.id().unwrap().to_string();
    let (stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let mut lines = BufReader::new(stdout).lines();
    let first = timeout(PATIENCE, lines.next_line())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(&first).unwrap(),
        damaged(&alone.layers[0], BYTES)
    );
    let killed = Command::new("kill").args(["-INT", &pid]).status().await.unwrap();
    assert!(killed.success());
    let sums = timeout(PATIENCE, lines.next_line())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    let sums: Value = serde_json::from_str(&sums).unwrap();
    let status = timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
    let mut said = String::new();
    stderr.read_to_string(&mut said).await.unwrap();
    assert_eq!(
        (status.code(), &sums["over"], &sums["damaged"]),
        (Some(1), &json!(false), &json!(1))
    );
    assert!(said.contains("the next run goes on from there"), "{said}");
    let before = sums["read"].as_u64().unwrap();
    assert!((1..32).contains(&before), "{before}");

    let (status, lines, _) = alone.scrub(&["--rate", "0"]).await;
    assert_eq!((status, &lines[0]), (Some(1), &damaged(&alone.layers[0], BYTES)));
    let [_, sums] = lines.as_slice() else {
        panic!("{lines:?}");
    };
    // Those of both runs: what the first one had read isn't read again.
    assert_eq!(
        (&sums["read"], &sums["damaged"], &sums["over"]),
        (&json!(32), &json!(1), &json!(true))
    );
}
