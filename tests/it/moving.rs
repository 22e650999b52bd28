//! Images in and out: `portolan import` and `portolan export`, against layouts and meshes.

mod strange;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
};

use bytes::Bytes;
use portolan::{
    layout::{Entry, Growing, Layout},
    oci::{Digest, MediaType},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};

use crate::support::{
    client::{Ask as _, Request},
    command::{refused, well},
    content::{Blob, Manifest},
    gate,
    mesh::{Mesh, Plan},
};

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portolan"));
    command
        .args(arguments)
        .env_remove("PORTOLAN_USER")
        .env_remove("PORTOLAN_PASSWORD")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

fn put(layout: &Growing, digest: &str, bytes: &Bytes) {
    let digest = Digest::parse(digest).unwrap();
    if !layout.has(&digest) {
        let mut incoming = layout.begin(&digest).unwrap();
        incoming.write(bytes).unwrap();
        incoming.finish().unwrap();
    }
}

/// Writes manifests under names, and blobs.
fn layout(folder: &Path, named: &[(Option<&str>, &Manifest)], others: &[&Manifest], blobs: &[&Blob]) {
    let layout = Growing::open(folder).unwrap();
    for blob in blobs {
        put(&layout, &blob.digest, &blob.bytes);
    }
    for manifest in named
        .iter()
        .map(|(_, manifest)| *manifest)
        .chain(others.iter().copied())
    {
        put(&layout, &manifest.digest, &manifest.bytes);
    }
    for (name, manifest) in named {
        layout.enter(&Entry {
            media_type: Some(MediaType::parse(&manifest.media_type).unwrap()),
            digest: Digest::parse(&manifest.digest).unwrap(),
            size: manifest.bytes.len() as u64,
            name: name.map(str::to_owned),
        });
    }
    layout.finish().unwrap();
}

/// A registry's worth: two repositories that share a large layer, an image of two platforms, a Docker image, a signature.
struct Content {
    config: Blob,
    large: Blob,
    small: Blob,
    images: BTreeMap<String, Manifest>,
    children: Vec<Manifest>,
    signature: Manifest,
}

impl Content {
    fn new() -> Self {
        let config = Blob::new("{}");
        // Of several chunks.
        let (large, small) = (Blob::named("large", 20 << 20), Blob::named("small", 3_000));
        let image = Manifest::image(&config, &[&large, &small]).build();
        let children: Vec<Manifest> = (0..2)
            .map(|n| {
                let image = Manifest::image(&config, &[&small]);
                image.annotation("n", &n.to_string()).build()
            })
            .collect();
        let index = Manifest::index(&children).build();
        let docker = Manifest::docker_image(&config, &[&large]).build();
        let signature = Manifest::image(&config, &[&small]).subject(&image);
        let signature = signature
            .artifact_type("application/vnd.example.signature")
            .build();
        let images = [
            ("team/app:v1", image.clone()),
            ("team/app:latest", image),
            ("team/app:both", index),
            ("other:docker", docker),
        ];
        Self {
            config,
            large,
            small,
            images: images
                .into_iter()
                .map(|(name, image)| (name.to_owned(), image))
                .collect(),
            children,
            signature,
        }
    }

    fn write(&self, folder: &Path) {
        let signature = format!("team/app@{}", self.signature.digest);
        let mut named: Vec<_> = self
            .images
            .iter()
            .map(|(name, image)| (Some(&**name), image))
            .collect();
        named.push((Some(&signature), &self.signature));
        let children: Vec<&Manifest> = self.children.iter().collect();
        layout(
            folder,
            &named,
            &children,
            &[&self.config, &self.large, &self.small],
        );
    }

    /// Every image is there, below a prefix, by any member.
    async fn is_at(&self, mesh: &Mesh, prefix: &str) {
        let client = mesh.client(1);
        for (name, image) in &self.images {
            let (repository, tag) = name.split_once(':').unwrap();
            let served = Request::get(format!("/v2/{prefix}{repository}/manifests/{tag}"));
            let served = served.header("accept", image.media_type.clone());
            client
                .ask(served)
                .await
                .unwrap()
                .expect(200)
                .with_body(&image.bytes);
        }
        for repository in ["team/app", "other"] {
            let blob = Request::get(format!("/v2/{prefix}{repository}/blobs/{}", self.large.digest));
            client
                .ask(blob)
                .await
                .unwrap()
                .expect(200)
                .with_body(&self.large.bytes);
        }
        let image = &self.images["team/app:v1"];
        let referrers = Request::get(format!("/v2/{prefix}team/app/referrers/{}", image.digest));
        let referrers = client.ask(referrers).await.unwrap().expect(200).json();
        let digests: Vec<&Value> = referrers["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| &one["digest"])
            .collect();
        assert_eq!(digests, [&json!(self.signature.digest)]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_goes_out_and_in_again_with_equal_digests_and_nothing_is_sent_twice() {
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    let content = Content::new();
    content.write(Path::new(&at("first")));
    let mesh = Mesh::of_three().await;
    let (first, second) = (mesh.door(0).to_string(), mesh.door(2).to_string());

    let (told, summary) = well(command(&["import", &at("first"), &first])).await;
    assert_eq!(
        told.lines().filter(|line| line.ends_with("  pushed")).count(),
        5,
        "{told}"
    );
    content.is_at(&mesh, "").await;
    // The large layer went once, though two repositories have it: the other one mounts it.
    assert!(summary.contains(", 20.0 MiB sent, "), "{summary}");
    let (told, summary) = well(command(&["import", &at("first"), &second])).await;
    assert_eq!(
        told.lines()
            .filter(|line| line.ends_with("  there already"))
            .count(),
        5,
        "{told}"
    );
    assert!(summary.contains(", 0 B sent, "), "{summary}");

    // Out as a directory and as an archive, and in from each, through others.
    for (n, to) in [at("second"), at("second.tar")].iter().enumerate() {
        let (_, summary) = well(command(&["export", &second, to])).await;
        assert!(summary.contains(", 20.0 MiB fetched, "), "{summary}");
        let prefix = format!("from-{n}/");
        well(command(&["import", to, &format!("{first}/{prefix}")])).await;
        content.is_at(&mesh, &prefix).await;
    }
    let names: Vec<PathBuf> = std::fs::read_dir(scratch.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(names.len(), 3, "{names:?}");

    // What is there is not fetched again, and what is there of the rest neither.
    let whole = Digest::parse(&content.large.digest).unwrap();
    let (path, half) = (format!("blobs/sha256/{}", whole.hex()), content.large.len() / 2);
    std::fs::remove_file(Path::new(&at("second")).join(path)).unwrap();
    for image in ["team/app:v1", "other:docker"] {
        let digest = Digest::parse(&content.images[image].digest).unwrap();
        std::fs::remove_file(Path::new(&at("second")).join(format!("blobs/sha256/{}", digest.hex())))
            .unwrap();
    }
    let growing = Growing::open(Path::new(&at("second"))).unwrap();
    growing
        .begin(&whole)
        .unwrap()
        .write(&content.large.bytes[..half])
        .unwrap();
    let (_, summary) = well(command(&["export", &first, &at("second")])).await;
    assert!(summary.contains(", 10.0 MiB fetched, "), "{summary}");
    let again = Layout::open(Path::new(&at("second"))).unwrap();
    let read = again
        .content(&whole)
        .unwrap()
        .unwrap()
        .read(0, usize::MAX)
        .unwrap();
    assert!(read == content.large.bytes);
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_repository_goes_out_under_its_tags_and_in_under_another_name() {
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    let content = Content::new();
    content.write(Path::new(&at("all")));
    let mesh = Mesh::of_three().await;
    let door = mesh.door(0).to_string();
    well(command(&["import", &at("all"), &door])).await;

    let names = |path: &str| {
        let entries = Layout::open(Path::new(path)).unwrap().entries().unwrap();
        let names = entries
            .into_iter()
            .map(|entry| entry.name.unwrap_or_else(|| "-".to_owned()));
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    };
    for (what, to, expected) in [
        ("team/app", "one", &["-", "both", "latest", "v1"][..]),
        ("team/app:both", "tag", &["both"]),
        ("o*", "pattern", &["other:docker"]),
    ] {
        well(command(&["export", &format!("{door}/{what}"), &at(to)])).await;
        assert_eq!(names(&at(to)), expected, "{what}");
    }
    // A name of a tag alone says no repository.
    let nowhere = refused(command(&["import", &at("one"), &door])).await;
    assert!(nowhere.contains("HOST/REPOSITORY"), "{nowhere}");
    well(command(&["import", &at("one"), &format!("{door}/renamed/app")])).await;
    let tags = mesh
        .client(2)
        .ask(Request::get("/v2/renamed/app/tags/list"))
        .await
        .unwrap();
    assert_eq!(tags.expect(200).json()["tags"], json!(["both", "latest", "v1"]));
    // Layouts below a directory, as zot keeps them.
    well(command(&["import", &at(""), &format!("{door}/zot")])).await;
    let tags = mesh
        .client(2)
        .ask(Request::get("/v2/zot/tag/tags/list"))
        .await
        .unwrap();
    assert_eq!(tags.expect(200).json()["tags"], json!(["both"]));
    well(command(&["import", &at("pattern"), &format!("{door}/named:too")])).await;
    let named = mesh.client(1).ask(Request::get("/v2/named/manifests/too")).await;
    named
        .unwrap()
        .expect(200)
        .with_body(&content.images["other:docker"].bytes);
    let several = refused(command(&["import", &at("one"), &format!("{door}/named:too")])).await;
    assert!(
        several.contains("a tag is for one image, and there are 4"),
        "{several}"
    );
    let nothing = refused(command(&["export", &format!("{door}/no/such"), &at("none")])).await;
    assert!(nothing.contains("doesn't have it"), "{nothing}");
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_is_killed_goes_on_where_it_was() {
    let scratch = tempfile::tempdir().unwrap();
    let config = Blob::new("{}");
    let layers: Vec<Blob> = (0..40)
        .map(|n| Blob::named(&format!("layer {n}"), 200_000))
        .collect();
    let images: Vec<Manifest> = layers
        .iter()
        .map(|layer| Manifest::image(&config, &[layer]).build())
        .collect();
    let tags: Vec<String> = (0..images.len()).map(|n| format!("v{n}")).collect();
    let named: Vec<_> = tags.iter().map(String::as_str).map(Some).zip(&images).collect();
    let blobs: Vec<&Blob> = layers.iter().chain([&config]).collect();
    layout(scratch.path(), &named, &[], &blobs);
    let mesh = Mesh::of_three().await;
    let (from, to) = (
        scratch.path().to_str().unwrap(),
        format!("{}/killed", mesh.door(1)),
    );
    let mut first = command(&["import", from, &to, "--jobs", "2"]);
    let mut child = first.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut done = Vec::new();
    while done.len() < 5 {
        let line = lines.next_line().await.unwrap().expect("it goes on");
        done.push(line.strip_suffix("  pushed").unwrap().to_owned());
    }
    child.kill().await.unwrap();
    let (told, _) = well(command(&["import", from, &to])).await;
    for image in &done {
        assert!(
            told.contains(&format!("{image}  there already\n")),
            "{image}: {told}"
        );
    }
    for (tag, image) in tags.iter().zip(&images) {
        let served = mesh
            .client(0)
            .ask(Request::get(format!("/v2/killed/manifests/{tag}")))
            .await;
        served.unwrap().expect(200).with_body(&image.bytes);
    }
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_named_and_keeps_nothing_else_back() {
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    let (config, layer) = (Blob::new("{}"), Blob::named("layer", 1_000));
    let good = Manifest::image(&config, &[]).build();
    let (broken, lacking) = (
        Manifest::image(&config, &[&layer]).build(),
        Manifest::image(&config, &[&Blob::named("absent", 10)]).build(),
    );
    layout(
        Path::new(&at("layout")),
        &[
            (Some("broken"), &broken),
            (Some("good"), &good),
            (Some("lacking"), &lacking),
        ],
        &[],
        &[&config, &layer],
    );
    let hex = layer.digest.strip_prefix("sha256:").unwrap();
    std::fs::write(
        Path::new(&at("layout")).join("blobs/sha256").join(hex),
        [7; 1_000],
    )
    .unwrap();
    let mesh = Mesh::of_three().await;
    let to = format!("{}/a", mesh.door(0));
    let said = refused(command(&["import", &at("layout"), &to])).await;
    assert!(
        said.contains("a:broken@") && said.contains("(400 Bad Request)"),
        "{said}"
    );
    assert!(
        said.contains("a:lacking@") && said.contains("isn't in the layout"),
        "{said}"
    );
    assert!(said.contains("2 of 3 images are not imported"), "{said}");
    mesh.client(2)
        .ask(Request::get("/v2/a/manifests/good"))
        .await
        .unwrap()
        .expect(200);
    for (arguments, why) in [
        (
            &["import", &at("absent"), &to][..],
            "absent can't be read or written: ",
        ),
        (
            &["import", scratch.path().to_str().unwrap(), "ftp://a"],
            "http or https",
        ),
        (
            &["export", &to, scratch.path().to_str().unwrap()],
            "there is something else in it",
        ),
        (&["export", "127.0.0.1:1", &at("out")], "no answer"),
    ] {
        let said = refused(command(arguments)).await;
        assert!(said.contains(why), "{arguments:?}: {said}");
    }
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_moves_images_logs_in() {
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    let htpasswd = at("htpasswd");
    std::fs::write(
        &htpasswd,
        format!("alice:{}\n", bcrypt::hash("secret", 4).unwrap()),
    )
    .unwrap();
    let gate = gate(&format!(
        "{{auth: {{htpasswd: {{path: {htpasswd}}}}}, accessControl: {{repositories: {{'**': {{policies: [{{users: [alice], \
         actions: [read, create, update]}}]}}}}}}}}"
    ));
    let mesh = Plan::new().gate(gate).start().await;
    let image = Manifest::image(&Blob::new("{}"), &[]).build();
    layout(
        Path::new(&at("layout")),
        &[(Some("v1"), &image)],
        &[],
        &[&Blob::new("{}")],
    );
    let to = format!("{}/a", mesh.door(0));
    let denied = refused(command(&["import", &at("layout"), &to])).await;
    assert!(denied.contains("--user"), "{denied}");
    let without = refused(command(&["import", &at("layout"), &to, "--user", "alice"])).await;
    assert!(without.contains("PORTOLAN_PASSWORD"), "{without}");
    for arguments in [["import", &at("layout"), &to], ["export", &to, &at("out")]] {
        let mut command = command(&arguments);
        command
            .args(["--user", "alice"])
            .env("PORTOLAN_PASSWORD", "secret");
        well(command).await;
    }
    assert_eq!(
        Layout::open(Path::new(&at("out")))
            .unwrap()
            .entries()
            .unwrap()
            .len(),
        1
    );
    mesh.stop().await;
}
