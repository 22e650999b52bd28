//! The operator's command line: what `portolan mesh` tells of a mesh, and what it does to it.

use std::process::Stdio;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use portolan::app::Pair;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::support::{
    PATIENCE,
    client::{Ask as _, Request, octets},
    command::{refused, well},
    content::{Blob, Manifest},
    eventually,
    mesh::{MEMBERS, Mesh, certificates},
    process::Dev,
};

/// `portolan mesh`, at the mesh port of a member, as the holder of a certificate.
fn command(server: &str, pair: &Pair, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portolan"));
    command
        .arg("mesh")
        .args(arguments)
        .args(["--server", server])
        .arg("--cacert")
        .arg(certificates().ca)
        .arg("--cert")
        .arg(&pair.cert)
        .arg("--key")
        .arg(&pair.key)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// What it prints when all goes well.
async fn told(command: Command) -> String {
    well(command).await.0
}

async fn json(command: Command) -> Value {
    serde_json::from_str(&told(command).await).unwrap()
}

/// Pushes an image through a member, another one by each.
async fn push(mesh: &Mesh, through: usize, repository: &str) {
    let config = Blob::named(&format!("{repository} {through}"), 100);
    let client = mesh.client(through);
    let pushed = client.push_blob(repository, &config).await.unwrap();
    pushed.expect(201);
    let manifest = Manifest::image(&config, &[]).build();
    let pushed = client.push_manifest(repository, "v1", &manifest).await.unwrap();
    pushed.expect(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_and_places_are_told_to_people_and_to_programs() {
    let mesh = Mesh::of_three().await;
    let operator = certificates().operator;
    for asked in 0..MEMBERS {
        let server = mesh.mesh_doors[asked].to_string();
        let table = told(command(&server, &operator, &["members"])).await;
        let answer = json(command(&server, &operator, &["members", "--json"])).await;
        assert_eq!(answer["self"], mesh.members[asked].as_str());
        for (n, member) in mesh.members.iter().enumerate() {
            let line = table.lines().find(|line| line.starts_with(member.as_str()));
            let words: Vec<&str> = line.unwrap().split_whitespace().collect();
            assert_eq!(words[1..3], ["live", &mesh.mesh_doors[n].to_string()], "{table}");
            let told = answer["members"].as_array().unwrap();
            let told = told.iter().find(|told| told["name"] == member.as_str()).unwrap();
            assert_eq!(
                (&told["live"], &told["lease"]["drained"]),
                (&true.into(), &false.into())
            );
        }
        assert!(!table.contains('\u{1b}'), "no colours but on a terminal");

        let repository = mesh.names().owned_by(1, "told");
        let owner = mesh.members[1].as_str();
        let table = told(command(&server, &operator, &["locate", &repository])).await;
        assert!(
            table.starts_with(&format!("{repository} is served by {owner}: ")),
            "{table}"
        );
        let answer = json(command(&server, &operator, &["locate", &repository, "--json"])).await;
        assert_eq!((&answer["owner"], &answer["holder"]), (&owner.into(), &"".into()));
        assert_eq!(answer["ranking"][0]["member"], owner);
        assert!(
            answer["ranking"][0]["score"]
                .as_str()
                .unwrap()
                .parse::<u64>()
                .is_ok()
        );

        let answer = json(command(&server, &operator, &["forwards", "--json"])).await;
        let names: Vec<&String> = answer.as_object().unwrap().keys().collect();
        let mut members: Vec<&str> = mesh.members.iter().map(|member| member.as_str()).collect();
        members.sort_unstable();
        assert_eq!(names, members);
    }
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_on_its_way_is_told_by_both_ends() {
    let mesh = Mesh::of_three().await;
    let operator = certificates().operator;
    let repository = mesh.names().owned_by(2, "slow");
    let started = Request::post(format!("/v2/{repository}/blobs/uploads/"));
    let location = mesh.client(0).ask(started).await.unwrap().expect(202).location();
    // A body of which only the beginning comes.
    let request = octets(Request::patch(location)).stream(|| {
        let beginning = Ok(Frame::data(Bytes::from_static(b"a beginning")));
        StreamBody::new(stream::iter([beginning]).chain(stream::pending())).boxed_unsync()
    });
    let client = mesh.client(0);
    let slow = client.ask(request);
    let watched = async {
        let server = mesh.mesh_doors[1].to_string();
        eventually("both ends tell of the upload", || async {
            let told = json(command(&server, &operator, &["forwards", "--json"])).await;
            let at = |member: usize, direction: &str, peer: usize| {
                let forwards = told[mesh.members[member].as_str()]["forwards"]
                    .as_array()
                    .unwrap();
                forwards.iter().any(|forward| {
                    forward["repository"] == *repository
                        && forward["direction"] == direction
                        && forward["peer"] == mesh.members[peer].as_str()
                })
            };
            at(0, "DIRECTION_FORWARDED", 2) && at(2, "DIRECTION_REPLAYED", 0)
        })
        .await;
        let table = told(command(&server, &operator, &["forwards"])).await;
        assert!(
            table.contains("forwards to") && table.contains("replays for"),
            "{table}"
        );
    };
    tokio::select! {
        ended = slow => panic!("the upload has ended: {ended:?}"),
        () = watched => {}
    }
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_member_owns_nothing_says_so_and_goes_on_answering() {
    let mesh = Mesh::of_three().await;
    let (operator, administrator) = (certificates().operator, &certificates().members[1]);
    let (server, drained) = (mesh.mesh_doors[0].to_string(), mesh.members[2].to_string());
    let repository = mesh.names().owned_by(2, "drained");
    push(&mesh, 0, &repository).await;

    let denied = refused(command(&server, &operator, &["drain", &drained])).await;
    assert!(denied.contains("cluster.tls.administrators"), "{denied}");
    let stranger = refused(command(&server, administrator, &["drain", "10.0.0.1:5000"])).await;
    assert!(
        stranger.contains("10.0.0.1:5000 is no member") && stranger.contains(&drained),
        "{stranger}"
    );
    mesh.client(2)
        .ask(Request::get("/readyz"))
        .await
        .unwrap()
        .expect(200);

    let said = told(command(&server, administrator, &["drain", &drained])).await;
    assert_eq!(said, format!("{drained} is drained\n"));
    let answer = mesh
        .client(2)
        .ask(Request::get("/readyz"))
        .await
        .unwrap()
        .expect(503);
    assert!(String::from_utf8_lossy(&answer.body).contains("drained"));
    mesh.client(2)
        .ask(Request::get("/livez"))
        .await
        .unwrap()
        .expect(200);
    // All know already, and nobody is asked to serve it but the others, whoever is asked.
    for asked in 0..MEMBERS {
        let server = mesh.mesh_doors[asked].to_string();
        let answer = json(command(&server, &operator, &["locate", &repository, "--json"])).await;
        assert_ne!(answer["owner"], *drained);
        let table = told(command(&server, &operator, &["members"])).await;
        let line = table.lines().find(|line| line.starts_with(&drained)).unwrap();
        assert!(line.contains(" drained "), "{table}");
    }
    let before = mesh.counts().await;
    for through in 0..MEMBERS {
        let image = mesh
            .client(through)
            .get(format!("/v2/{repository}/manifests/v1"))
            .await;
        image.unwrap().expect(200);
        push(&mesh, through, &repository).await;
        push(
            &mesh,
            through,
            &mesh.names().owned_by(2, &format!("new-{through}")),
        )
        .await;
    }
    let after = mesh.counts().await;
    assert_eq!(after.replays[2], before.replays[2], "nobody sends it anything");
    assert_ne!(after.forwards[2], before.forwards[2], "it is a front");
    let answer = json(command(&server, &operator, &["locate", &repository, "--json"])).await;
    assert_ne!(answer["holder"], *drained);

    // Again is the same; the last one that serves isn't drained.
    told(command(&server, administrator, &["drain", &drained])).await;
    let second = mesh.members[1].as_str();
    told(command(&server, administrator, &["drain", second])).await;
    let last = refused(command(
        &server,
        administrator,
        &["drain", mesh.members[0].as_str()],
    ))
    .await;
    assert!(last.contains("no other member is live"), "{last}");
    mesh.client(0)
        .ask(Request::get("/readyz"))
        .await
        .unwrap()
        .expect(200);

    // Asked of the drained one itself.
    let itself = mesh.mesh_doors[2].to_string();
    let answer = json(command(&itself, administrator, &["undrain", &drained, "--json"])).await;
    assert_eq!(answer, serde_json::json!({ "member": drained, "state": "live" }));
    told(command(&server, administrator, &["undrain", second])).await;
    for member in 0..MEMBERS {
        mesh.client(member)
            .ask(Request::get("/readyz"))
            .await
            .unwrap()
            .expect(200);
    }
    let fresh = mesh.names().owned_by(2, "back");
    let answer = json(command(&server, &operator, &["locate", &fresh, "--json"])).await;
    assert_eq!(answer["owner"], *drained);
    mesh.stop().await;
}

/// A `portolan mesh watch --json` that runs.
struct Watch {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watch {
    fn start(server: &str) -> Self {
        let mut command = command(server, &certificates().operator, &["watch", "--json"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { _child: child, lines }
    }

    /// Reads on until it tells this.
    async fn tells(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) {
        let reading = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                if is_it(&serde_json::from_str(&line).unwrap()) {
                    return true;
                }
            }
            false
        };
        let told = tokio::time::timeout(PATIENCE, reading).await;
        assert_eq!(told, Ok(true), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_watches_sees_members_drained_and_die_even_the_one_that_is_asked() {
    let mut mesh = Mesh::of_three().await;
    let names: Vec<String> = mesh.members.iter().map(ToString::to_string).collect();
    let becomes = |member: usize, state: &'static str| {
        let name = names[member].clone();
        move |told: &Value| told["member"] == *name && told["state"] == state
    };
    let mut watch = Watch::start(&mesh.mesh_doors[0].to_string());
    for member in 0..MEMBERS {
        watch.tells("who is there", becomes(member, "live")).await;
    }
    let administrator = &certificates().members[1];
    for (order, state) in [("drain", "drained"), ("undrain", "live")] {
        let server = mesh.mesh_doors[1].to_string();
        told(command(&server, administrator, &[order, &names[2]])).await;
        watch.tells(order, becomes(2, state)).await;
    }
    // Nobody says so for it: that takes as long as a lease.
    mesh.crash(0).await;
    watch
        .tells("another is asked", |told| told["note"].is_string())
        .await;
    watch.tells("the crash", becomes(0, "gone")).await;
    mesh.end(2, PATIENCE).await;
    watch.tells("the end", becomes(2, "gone")).await;
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_ask_or_asks_nobody_is_told_why() {
    let mesh = Mesh::of_three().await;
    let operator = certificates().operator;
    let nobody = refused(command("127.0.0.1:1", &operator, &["members"])).await;
    assert!(nobody.contains("127.0.0.1:1 can't be reached: "), "{nobody}");
    let missing = Pair {
        cert: "no/such.crt".into(),
        ..operator.clone()
    };
    let server = mesh.mesh_doors[0].to_string();
    let missing = refused(command(&server, &missing, &["members"])).await;
    assert!(missing.contains("no/such.crt can't be read"), "{missing}");
    // A certificate that is checked by another name than that of its address.
    let named = refused(command(
        &server,
        &operator,
        &["members", "--member-san", "*.mesh.internal"],
    ))
    .await;
    assert!(
        named.contains("its certificate doesn't name *.mesh.internal"),
        "{named}"
    );
    let odd = refused(command(&server, &operator, &["locate", "Not/A/Name"])).await;
    assert!(odd.contains("Not/A/Name"), "{odd}");
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_ends_a_drain_and_dev_says_how_it_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::new(folder.path());
    let mut process = dev.start().await;
    process.says("portolan mesh members").await;
    let said = process.said();
    let line = |command: &str| {
        let start = format!("portolan mesh {command}");
        let line = said
            .lines()
            .find(|line| line.trim_start().starts_with(&start))
            .unwrap();
        let mut words = line.split_whitespace();
        words.next();
        let mut command = Command::new(env!("CARGO_BIN_EXE_portolan"));
        command.args(words).current_dir(folder.path());
        command
    };
    let members = told(line("members")).await;
    assert_eq!(members.matches(" live ").count(), 3, "{members}");
    told(line("locate")).await;
    told(line("drain")).await;
    process
        .client(2)
        .ask(Request::get("/readyz"))
        .await
        .unwrap()
        .expect(503);
    assert!(process.is_running());
    process.terminate().await;
    assert!(process.ended().await.success());
    let process = dev.start().await;
    process
        .client(2)
        .ask(Request::get("/readyz"))
        .await
        .unwrap()
        .expect(200);
    process.kill().await;
}

#[tokio::test]
async fn shells_get_their_completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portolan"));
        command.args(["completions", shell]);
        let script = told(command).await;
        for word in ["portolan", "undrain", "member-san"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_no_further_harms_no_command() {
    let mesh = Mesh::of_three().await;
    push(&mesh, 0, "unheard").await;
    let server = mesh.mesh_doors[0].to_string();
    let portolan = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portolan"));
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        command
    };
    let door = format!("http://{}", mesh.door(0));
    for mut command in [
        command(&server, &certificates().operator, &["members"]),
        command(&server, &certificates().operator, &["forwards", "--json"]),
        portolan(&["history", "unheard", "--json", "--server", &door]),
        portolan(&["completions", "bash"]),
    ] {
        let (nobody, said) = std::io::pipe().unwrap();
        drop(nobody);
        command.stdout(said).stderr(Stdio::piped());
        let ended = command.spawn().unwrap().wait_with_output();
        let output = tokio::time::timeout(PATIENCE, ended)
            .await
            .expect("it ends")
            .unwrap();
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), &*complaint), (Some(0), ""), "{command:?}");
    }
    mesh.stop().await;
}
