//! One table of both: each way in which a start can be refused, and what `verify` says of it.

use std::{collections::BTreeSet, fs};

use bytes::Bytes;
use portolan::{
    app::{self, StartError},
    config::Config,
    storage::{BlobStore as _, ObjectKey, OpenError, Payload},
    telemetry::logs,
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_util::task::TaskTracker;

use super::{
    Trial,
    certificates::{GOOD, Made, trial},
    stores::put_on,
};
use crate::stores::{
    dynamo_config, dynamo_delete, dynamo_open, dynamo_server, s3_config, s3_open, s3_server,
};

/// The ways, by what a start ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Configuration,
    Log,
    Bind,
    Tls,
    Access,
    Mirror,
    Provider,
    Join,
    Identity,
    Resolve,
    Directory,
    InUse,
    Store,
    Bucket,
    Tables,
    Database,
    Redis,
    Sink,
    Replication,
    Cache,
}

/// Each that there is; a new one doesn't compile until it has its place here. `None` can't come of a configuration.
fn way(error: &StartError) -> Option<Way> {
    match error {
        StartError::Bind(_) => Some(Way::Bind),
        StartError::Tls(_) => Some(Way::Tls),
        StartError::Access(_) => Some(Way::Access),
        StartError::Mirror(_) => Some(Way::Mirror),
        StartError::Provider(_) => Some(Way::Provider),
        StartError::Join(_) => Some(Way::Join),
        StartError::Identity(_) => Some(Way::Identity),
        StartError::Resolve { .. } => Some(Way::Resolve),
        StartError::Storage(error) => Some(match error {
            OpenError::Directory { .. } => Way::Directory,
            OpenError::InUse { .. } => Way::InUse,
            OpenError::Store { .. } => Way::Store,
            OpenError::Bucket(_) => Way::Bucket,
            OpenError::Tables(_) => Way::Tables,
            OpenError::Database(_) => Way::Database,
            OpenError::Redis(_) => Way::Redis,
            // Of `fsck` alone.
            OpenError::NotThere { .. } => return None,
        }),
        StartError::Sink(_) => Some(Way::Sink),
        StartError::Replication(_) => Some(Way::Replication),
        StartError::Cache(_) => Some(Way::Cache),
        // Of `dev` alone, of the operating system, of what is compiled in, or refused with the configuration.
        StartError::Certificates(_)
        | StartError::Machine(_)
        | StartError::Reflection(_)
        | StartError::Name { .. }
        | StartError::NoMembers => None,
    }
}

/// What `verify` says without `--online`.
#[derive(Clone, Copy)]
enum Here {
    /// The configuration itself is refused.
    Refused,
    /// It is a fault anywhere.
    Fail,
    /// It is one on this machine.
    Lack,
}

/// What is wrong, and how it is told.
struct Row {
    name: &'static str,
    way: Way,
    here: Here,
    /// In one line of `verify --online`, and what the start says.
    words: &'static [&'static str],
    spoil: fn(&mut Trial),
}

const ROWS: &[Row] = &[
    Row {
        name: "a key that nobody knows",
        way: Way::Configuration,
        here: Here::Refused,
        words: &["http.bananas", "unknown key"],
        spoil: |trial| trial.config["http"]["bananas"] = 1.into(),
    },
    Row {
        name: "a secret whose file is missing",
        way: Way::Configuration,
        here: Here::Refused,
        words: &["cluster.hashKey", "can't be read"],
        spoil: |trial| trial.config["cluster"]["hashKey"] = json!({ "file": trial.path("none") }),
    },
    Row {
        name: "the folder of log.output is missing",
        way: Way::Log,
        here: Here::Lack,
        words: &["can't open the log file", "none/log"],
        spoil: |trial| trial.config["log"] = json!({ "output": trial.path("none/log") }),
    },
    Row {
        name: "log.audit is a folder",
        way: Way::Log,
        here: Here::Fail,
        words: &["can't open the log file", "audit"],
        spoil: |trial| {
            fs::create_dir(trial.path("audit")).unwrap();
            trial.config["log"] = json!({ "audit": trial.path("audit") });
        },
    },
    Row {
        name: "the logins of a registry that gets changes are missing",
        way: Way::Replication,
        here: Here::Lack,
        words: &["extensions.replicate.credentialsFile", "can't be read"],
        spoil: |trial| {
            trial.config["extensions"] = json!({ "replicate": {
                "credentialsFile": trial.path("none"),
                "registries": [{ "urls": ["https://registry.example.org"] }],
            } });
        },
    },
    Row {
        name: "the login of a sink of events is missing",
        way: Way::Sink,
        here: Here::Lack,
        words: &["none.creds", "NATS"],
        spoil: |trial| {
            trial.config["extensions"] = json!({ "events": { "sinks": [{
                "type": "nats", "address": "nats://127.0.0.1", "channel": "a",
                "credentials": { "file": trial.path("none.creds") },
            }] } });
        },
    },
    Row {
        name: "what a sink of events is trusted by is no certificate",
        way: Way::Sink,
        here: Here::Fail,
        words: &["ca.pem", "there is no certificate in it"],
        spoil: |trial| {
            fs::write(trial.path("ca.pem"), "none").unwrap();
            trial.config["extensions"] = json!({ "events": { "sinks": [{
                "type": "http", "address": "https://127.0.0.1",
                "tlsConfig": { "caCertFile": trial.path("ca.pem") },
            }] } });
        },
    },
    Row {
        name: "htpasswd is missing",
        way: Way::Access,
        here: Here::Lack,
        words: &["none.htpasswd", "can't be read"],
        spoil: |trial| {
            trial.config["http"]["auth"] = json!({ "htpasswd": { "path": trial.path("none.htpasswd") } });
        },
    },
    Row {
        name: "htpasswd is a folder",
        way: Way::Access,
        here: Here::Fail,
        words: &["bad.htpasswd", "can't be read"],
        spoil: |trial| {
            fs::create_dir(trial.path("bad.htpasswd")).unwrap();
            trial.config["http"]["auth"] = json!({ "htpasswd": { "path": trial.path("bad.htpasswd") } });
        },
    },
    Row {
        name: "bearer.cert is missing",
        way: Way::Access,
        here: Here::Lack,
        words: &["none.pem", "can't be read"],
        spoil: |trial| trial.config["http"]["auth"] = bearer(trial, "cert", "none.pem"),
    },
    Row {
        name: "bearer.jwks holds no keys",
        way: Way::Access,
        here: Here::Fail,
        words: &["bad.jwks", "can't be used"],
        spoil: |trial| {
            fs::write(trial.path("bad.jwks"), "{}").unwrap();
            trial.config["http"]["auth"] = bearer(trial, "jwks", "bad.jwks");
        },
    },
    Row {
        name: "the logins for other registries are missing",
        way: Way::Mirror,
        here: Here::Lack,
        words: &["extensions.sync.credentialsFile", "none.json", "can't be read"],
        spoil: |trial| trial.config["extensions"] = mirror(trial, "credentialsFile", "none.json"),
    },
    Row {
        name: "the logins for other registries aren't logins",
        way: Way::Mirror,
        here: Here::Fail,
        words: &["bad.json", "isn't of the form"],
        spoil: |trial| {
            fs::write(trial.path("bad.json"), "[]").unwrap();
            trial.config["extensions"] = mirror(trial, "credentialsFile", "bad.json");
        },
    },
    Row {
        name: "the certificates of another registry are none",
        way: Way::Mirror,
        here: Here::Fail,
        words: &["certDir", "ca.crt can't be used"],
        spoil: |trial| {
            fs::create_dir(trial.path("certs")).unwrap();
            fs::write(trial.path("certs/ca.crt"), "").unwrap();
            trial.config["extensions"] = mirror(trial, "certDir", "certs");
        },
    },
    Row {
        name: "the credentials for a provider are missing",
        way: Way::Access,
        here: Here::Lack,
        words: &["none.json", "can't be read"],
        spoil: |trial| {
            let file = json!(trial.path("none.json"));
            trial.config["http"]["auth"] = openid("http://127.0.0.1:1");
            let provider = &mut trial.config["http"]["auth"]["openid"]["providers"]["oidc"];
            provider["clientid"] = "".into();
            provider["credentialsFile"] = file;
        },
    },
    Row {
        name: "the key of sessions is too short",
        way: Way::Access,
        here: Here::Fail,
        words: &["bad.json", "at least 32 bytes"],
        spoil: |trial| {
            fs::write(trial.path("bad.json"), r#"{"hashKey": "short"}"#).unwrap();
            trial.config["http"]["auth"] = openid("http://127.0.0.1:1");
            trial.config["http"]["auth"]["sessionKeysFile"] = json!(trial.path("bad.json"));
        },
    },
    Row {
        name: "the certificate of http.tls is missing",
        way: Way::Tls,
        here: Here::Lack,
        words: &["none.crt", "can't be read"],
        spoil: |trial| {
            trial.config["http"]["tls"] =
                json!({ "cert": trial.path("none.crt"), "key": trial.path("m.key") });
        },
    },
    Row {
        name: "the authority of clients is no certificate",
        way: Way::Tls,
        here: Here::Fail,
        words: &["m.key", "no"],
        spoil: |trial| {
            trial.config["http"]["tls"] = json!({
                "cert": trial.path("m.crt"), "key": trial.path("m.key"), "cacert": trial.path("m.key"),
            });
        },
    },
    Row {
        name: "the mesh's key is another certificate's",
        way: Way::Tls,
        here: Here::Fail,
        words: &["m.crt", "m.key", "can't be used together"],
        spoil: |trial| {
            let key = rcgen::KeyPair::generate().unwrap();
            fs::write(trial.path("m.key"), key.serialize_pem()).unwrap();
        },
    },
    Row {
        name: "http.address is no address of this machine",
        way: Way::Bind,
        here: Here::Lack,
        words: &["192.0.2.1"],
        spoil: |trial| {
            // Documentation's, so nobody has it.
            trial.config["http"]["address"] = "192.0.2.1".into();
            let port = &trial.config["http"]["port"];
            trial.config["cluster"]["members"][0] = format!("192.0.2.1:{port}").into();
        },
    },
    Row {
        name: "http.address is a name that nobody knows",
        way: Way::Resolve,
        here: Here::Lack,
        words: &["resolve", "nobody.invalid"],
        spoil: |trial| {
            trial.config["http"]["address"] = "nobody.invalid".into();
            let port = &trial.config["http"]["port"];
            trial.config["cluster"]["members"][0] = format!("nobody.invalid:{port}").into();
        },
    },
    Row {
        name: "no entry of cluster.members is this machine",
        way: Way::Identity,
        here: Here::Lack,
        words: &["none of cluster.members", "192.0.2.1"],
        spoil: |trial| {
            let port = &trial.config["http"]["port"];
            trial.config["cluster"]["members"][0] = format!("192.0.2.1:{port}").into();
        },
    },
    Row {
        name: "rootDirectory is below a file",
        way: Way::Directory,
        here: Here::Fail,
        words: &["can't use the directory", "m.crt/data"],
        spoil: |trial| trial.config["storage"]["rootDirectory"] = json!(trial.path("m.crt/data")),
    },
    Row {
        name: "the folder of the cache is below a file",
        way: Way::Cache,
        here: Here::Fail,
        words: &["storage.cache.path", "m.crt/cache"],
        spoil: |trial| {
            trial.config["storage"]["cache"] = json!({ "path": trial.path("m.crt/cache"), "bytes": 16777216 })
        },
    },
    Row {
        name: "meta.redb is something else",
        way: Way::Store,
        here: Here::Fail,
        words: &["can't open the store", "meta.redb"],
        spoil: |trial| {
            fs::create_dir_all(trial.path("data")).unwrap();
            fs::write(
                trial.path("data/meta.redb"),
                "not a database, and long enough to be looked at",
            )
            .unwrap();
        },
    },
];

fn bearer(trial: &Trial, key: &str, file: &str) -> serde_json::Value {
    let mut bearer = json!({ "realm": "https://tokens.example.org/", "service": "registry" });
    bearer[key] = json!(trial.path(file));
    json!({ "bearer": bearer })
}

fn mirror(trial: &Trial, key: &str, file: &str) -> serde_json::Value {
    let mut sync = json!({ "registries": [{ "urls": ["https://registry.example.org"], "onDemand": true }] });
    match key {
        "certDir" => sync["registries"][0][key] = json!(trial.path(file)),
        key => sync[key] = json!(trial.path(file)),
    }
    json!({ "sync": sync })
}

/// How a start in this process ends, as `serve` would before it serves.
async fn refused(config: &Config) -> Option<(Way, String)> {
    for output in std::iter::once(&config.log.output).chain(&config.log.audit) {
        if let Err(error) = logs::examine(output) {
            return Some((Way::Log, portolan::causes::in_a_line(&error)));
        }
    }
    let error = app::bind(config, None).await.err()?;
    Some((
        way(&error).expect("a way that a configuration can cause"),
        portolan::causes::in_a_line(&error),
    ))
}

#[tokio::test]
async fn whatever_a_start_refuses_verify_finds() {
    for Row {
        name,
        way,
        here,
        words,
        spoil,
    } in ROWS
    {
        // Names that rows give it.
        let mut trial = trial(&Made {
            sans: &["127.0.0.1", "192.0.2.1", "nobody.invalid"],
            ..GOOD
        });
        assert!(start(&trial).await.is_none(), "{name}: it starts before");
        spoil(&mut trial);

        let (found, said) = start(&trial).await.unwrap_or_else(|| panic!("{name}: it starts"));
        assert_eq!(found, *way, "{name}: {said}");
        assert!(words.iter().all(|word| said.contains(word)), "{name}: {said}");

        let said = trial.verify().await;
        assert!(!said.good, "{name}: {}", said.text);
        let verdict = if let Here::Refused = here { "" } else { "FAIL" };
        said.has(verdict, words_of_a_finding(*way, words));
        let local = trial.verify_here().await;
        let text = &local.text;
        assert!(!text.starts_with("ok"), "{name}: {text}");
        let good = match here {
            Here::Refused => {
                local.has("", words);
                false
            }
            Here::Fail => {
                local.has("FAIL", words_of_a_finding(*way, words));
                false
            }
            Here::Lack => {
                local.has("lack", words_of_a_finding(*way, words));
                true
            }
        };
        assert_eq!(local.good, good, "{name}: {text}");
    }
}

/// Of addresses, `verify` has words of its own.
fn words_of_a_finding(way: Way, words: &'static [&'static str]) -> &'static [&'static str] {
    match way {
        Way::Bind => &["http.address", "192.0.2.1", "no address of this machine"],
        _ => words,
    }
}

async fn start(trial: &Trial) -> Option<(Way, String)> {
    match trial.parsed() {
        Ok(config) => refused(&config).await,
        Err(errors) => Some((Way::Configuration, errors.to_string())),
    }
}

/// It is used without it, so a start isn't refused.
#[tokio::test]
async fn a_line_of_htpasswd_that_is_left_out_is_a_warning() {
    let mut trial = trial(&GOOD);
    fs::write(trial.path("users"), "ann:{SHA}x\n").unwrap();
    trial.config["http"]["auth"] = json!({ "htpasswd": { "path": trial.path("users") } });
    assert!(start(&trial).await.is_none());
    let said = trial.verify_here().await;
    said.is_good().has(
        "warn  http.auth.htpasswd.path",
        &["users is used without", "line 1", "ann"],
    );
}

fn openid(issuer: &str) -> serde_json::Value {
    json!({ "openid": { "providers": { "oidc": { "issuer": issuer, "clientid": "registry" } } } })
}

/// One that is down may come back: its own users wait, and nobody else.
#[tokio::test]
async fn a_provider_that_calls_itself_something_else_is_refused_and_one_that_is_down_is_not() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let issuer = format!("http://{}", listener.local_addr().unwrap());
    TaskTracker::new().spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let _ = socket.read(&mut [0; 4096]).await;
            let text = r#"{"issuer": "https://other.example", "jwks_uri": "https://other.example/jwks"}"#;
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                text.len()
            );
            let _ = socket.write_all(format!("{head}{text}").as_bytes()).await;
        }
    });
    let mut trial = trial(&GOOD);
    trial.config["http"]["auth"] = openid(&issuer);
    let (way, said) = start(&trial).await.unwrap();
    assert_eq!(way, Way::Provider);
    assert!(
        said.contains("https://other.example") && said.contains("providers.oidc"),
        "{said}"
    );
    trial.verify_here().await.is_good();
    let said = trial.verify().await;
    said.is_bad()
        .has("FAIL  login by oidc", &["https://other.example", "configure"]);

    trial.config["http"]["auth"] = openid("http://127.0.0.1:1");
    assert!(start(&trial).await.is_none());
    let said = trial.verify().await;
    said.is_bad()
        .has("FAIL  login by oidc", &["127.0.0.1:1", "can't be asked"]);
}

/// A directory or an address that is in use may be in use by this very member.
#[tokio::test]
async fn what_a_running_member_holds_is_no_fault() {
    let trial = trial(&GOOD);
    let config = trial.parsed().unwrap();
    let running = app::bind(&config, None).await.unwrap();
    let (way, _) = refused(&config).await.unwrap();
    assert_eq!(way, Way::InUse);
    for said in [trial.verify().await, trial.verify_here().await] {
        said.is_good()
            .has(
                "warn  storage.rootDirectory",
                &["in use by process", "if it runs"],
            )
            .has("warn  http.address", &["in use"])
            .has("warn  mesh address", &["in use"]);
    }
    drop(running);
}

#[tokio::test]
async fn what_the_stores_and_other_members_refuse_is_found_online() {
    let (blobs, meta) = (s3_config(&s3_server()), dynamo_config(&dynamo_server()));
    s3_open(&blobs).await;
    dynamo_open(&meta).await;
    let mut trial = trial(&GOOD);
    put_on(&mut trial, &blobs, &meta);
    let port = trial.config["http"]["port"].clone();
    trial.config["cluster"]["members"] = json!([format!("127.0.0.1:{port}"), format!("127.0.0.2:{port}")]);
    let bound = app::bind(&trial.parsed().unwrap(), None).await.unwrap();
    let running = bound.app.serve().await;

    let of_all = "settings of all members";
    trial.config["http"]["address"] = "127.0.0.2".into();
    trial
        .verify()
        .await
        .has(&format!("ok    {of_all}"), &["no live member"]);
    trial.config["cluster"]["hashKey"] = "sitametconsetetu".into();
    let (way, said) = start(&trial).await.unwrap();
    assert_eq!(way, Way::Join, "{said}");
    let said = trial.verify().await;
    said.is_bad()
        .has(&format!("FAIL  {of_all}"), &["127.0.0.1", "cluster.hashKey"]);
    running.cut().await;

    let driver = trial.config["storage"]["storageDriver"].clone();
    trial.config["storage"]["storageDriver"]["bucket"] = "no-such-bucket-anywhere".into();
    trial.config["storage"]["storageDriver"]["createbucket"] = false.into();
    let (way, said) = start(&trial).await.unwrap();
    assert_eq!(way, Way::Bucket, "{said}");
    trial
        .verify()
        .await
        .is_bad()
        .has("FAIL  bucket", &["doesn't exist"]);

    trial.config["storage"]["storageDriver"] = driver;
    // Nobody listens there.
    trial.config["storage"]["cacheDriver"]["endpoint"] = "http://127.0.0.1:1".into();
    let (way, said) = start(&trial).await.unwrap();
    assert_eq!(way, Way::Tables, "{said}");
    trial
        .verify()
        .await
        .is_bad()
        .has("FAIL  tables", &["none can be looked at"]);

    trial.config["storage"]["cacheDriver"] =
        json!({ "name": "postgres", "url": "postgres://a@127.0.0.1:1/b?sslmode=disable" });
    let (way, said) = start(&trial).await.unwrap();
    assert_eq!(way, Way::Database, "{said}");
    trial
        .verify()
        .await
        .is_bad()
        .has("FAIL  database", &["can't be asked"]);

    trial.config["storage"]["cacheDriver"] = json!({ "name": "redis", "url": "redis://127.0.0.1:1" });
    let (way, said) = start(&trial).await.unwrap();
    assert_eq!(way, Way::Redis, "{said}");
    trial
        .verify()
        .await
        .is_bad()
        .has("FAIL  redis", &["127.0.0.1:1", "can't be asked"]);
    dynamo_delete(&meta).await;
}

#[tokio::test]
async fn tables_that_hold_nothing_beside_a_bucket_that_does_are_said() {
    let (blobs, meta) = (s3_config(&s3_server()), dynamo_config(&dynamo_server()));
    let store = s3_open(&blobs).await;
    dynamo_open(&meta).await;
    let mut trial = trial(&GOOD);
    put_on(&mut trial, &blobs, &meta);
    let key = ObjectKey::parse("uploads/one/1").unwrap();
    assert!(!trial.verify().await.is_good().text.contains("bucket and tables"));
    store
        .put(&key, Payload::from(Bytes::from_static(b"content")))
        .await
        .unwrap();
    let said = trial.verify().await;
    said.is_good().has(
        "warn  bucket and tables",
        &["hold nothing", &blobs.bucket, &meta.tables.repo_meta],
    );
    store.delete(&key).await.unwrap();
    dynamo_delete(&meta).await;
}

/// The table above and the tests of stores have every way.
#[test]
fn every_way_has_a_row() {
    let mut seen: BTreeSet<Way> = ROWS.iter().map(|row| row.way).collect();
    // In tests of their own: they need a running member, or stores.
    seen.extend([
        Way::InUse,
        Way::Join,
        Way::Bucket,
        Way::Tables,
        Way::Database,
        Way::Redis,
    ]);
    let all = [
        Way::Configuration,
        Way::Log,
        Way::Bind,
        Way::Tls,
        Way::Access,
        Way::Mirror,
        Way::Join,
        Way::Identity,
        Way::Resolve,
        Way::Directory,
        Way::InUse,
        Way::Store,
        Way::Bucket,
        Way::Tables,
        Way::Database,
        Way::Redis,
        Way::Sink,
        Way::Replication,
        Way::Cache,
    ];
    assert_eq!(seen, BTreeSet::from(all));
}
