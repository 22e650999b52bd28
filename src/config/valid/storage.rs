//! `storage`: which drivers hold content and metadata.

use std::{collections::BTreeMap, time::Duration};

use super::{delivery, postgres, redis, values};
use crate::{
    config::{
        check::Checked,
        fault::FaultKind,
        limits::Limits,
        model::{
            BlobStorage, Collecting, DynamoConfig, DynamoTables, MetaStorage, S3Config, S3Credentials,
            S3Encryption, Storage,
        },
        secret::Secret,
        time_window::TimeWindow,
    },
    oci::RepoPattern,
};

const MIB: u64 = 1024 * 1024;
/// What S3 takes as a part that isn't the last.
const PART_BYTES: std::ops::RangeInclusive<u64> = 5 * MIB..=5 * 1024 * MIB;
/// Above this, a transfer's few parts in flight are worth a remark.
const LARGE_PART_BYTES: u64 = 64 * MIB;

/// Pulls of large blobs by slow clients last so long.
const LONG_PULL: Duration = Duration::from_secs(3 * 60 * 60);

pub(super) fn storage(c: &mut Checked) -> Option<Storage> {
    remarks(c);
    if c.is_unserved("storage.storageDriver") || c.is_unserved("storage.cacheDriver") {
        // What the other one needs depends on a driver that nobody knows.
        s3(c);
        shared_meta(c);
        return None;
    }
    let embedded_meta = is_boltdb(c);
    match (
        c.has("storage.storageDriver"),
        c.has("storage.cacheDriver") && !embedded_meta,
    ) {
        (false, false) => {
            if embedded_meta {
                c.warn("storage.cacheDriver: the embedded store keeps metadata in storage.rootDirectory, whatever boltdb says");
            }
            let root = c.required(
                "storage.rootDirectory",
                "without storageDriver, everything is kept there",
            )?;
            Some(Storage::embedded(root.into()))
        }
        (true, true) => {
            let (blobs, meta) = (s3(c), shared_meta(c));
            Some(Storage {
                blobs: BlobStorage::S3(blobs?),
                meta: meta?,
            })
        }
        (true, false) => {
            let blobs = s3(c);
            if c.bool("storage.remoteCache") == Some(true) {
                let problem = "is required with remoteCache: true: set name: dynamodb, a region and the tables, or name: postgres or redis and a url";
                c.refuse(FaultKind::Missing, "storage.cacheDriver", problem);
            }
            let root = c.required(
                "storage.rootDirectory",
                "without cacheDriver, metadata is kept there, for one member; several need one (name: dynamodb, postgres or redis)",
            )?;
            c.warn(format!(
                "storage: metadata is in {root} (meta.redb), for this member alone; nothing in the bucket can be pulled without it, so keep it as safe as the bucket"
            ));
            Some(Storage {
                blobs: BlobStorage::S3(blobs?),
                meta: MetaStorage::Redb { root: root.into() },
            })
        }
        (false, true) => {
            shared_meta(c);
            let problem = "is required with cacheDriver: shared metadata needs shared content; set name: s3 and a bucket, or leave out cacheDriver for the embedded store";
            c.refuse(FaultKind::Missing, "storage.storageDriver", problem);
            None
        }
    }
}

/// `storage.sparseIndexes`.
pub(super) fn sparse_indexes(c: &mut Checked) -> Vec<RepoPattern> {
    const PATH: &str = "storage.sparseIndexes";
    let mut patterns = Vec::new();
    for (i, (text, line)) in c.texts(PATH).unwrap_or_default().into_iter().enumerate() {
        match RepoPattern::parse(&text) {
            Ok(pattern) => patterns.push(pattern),
            Err(error) => c.refuse_element(FaultKind::Value, PATH, i, line, format!("{text:?}: {error}")),
        }
    }
    patterns
}

/// `storage.gc`.
pub(super) fn collecting(c: &mut Checked) -> Collecting {
    match c.bool("storage.gc") {
        Some(false) => Collecting::Off,
        Some(true) | None => Collecting::On,
    }
}

/// What of the bounds is said of the store.
pub(super) fn limits(c: &mut Checked, limits: &mut Limits) {
    const WINDOW: &str = "storage.gcTimeWindow";
    let set = |bound: &mut Duration, wanted: Option<Duration>| *bound = wanted.unwrap_or(*bound);
    let mut positive = |key| match c.duration(key)? {
        Some(duration) => Some(duration),
        None => {
            let problem = "expected a duration above 0, like 1h";
            c.refuse(FaultKind::Value, key, problem);
            None
        }
    };
    set(&mut limits.collection.interval, positive("storage.gcInterval"));
    set(&mut limits.registry.object_delay, positive("storage.trashDelay"));
    let events = positive("storage.historyEvents");
    limits.registry.history_events = events.or(limits.registry.history_events);
    limits.collection.window = c.text(WINDOW).and_then(|text| {
        let window = TimeWindow::parse(&text);
        if window.is_none() {
            let problem =
                format!("expected two different times of the day in UTC, like 02:00-05:00, got {text:?}");
            c.refuse(FaultKind::Value, WINDOW, problem);
        }
        window
    });
    if limits.registry.object_delay < LONG_PULL {
        c.warn("storage.trashDelay: a pull of a blob that takes longer than this breaks off if the blob is collected meanwhile");
    }
    let any = |key| c.duration(key).map(Option::unwrap_or_default);
    set(&mut limits.registry.link_grace, any("storage.gcDelay"));
    set(&mut limits.registry.history, any("storage.history"));
    let kept = limits.registry.history;
    if events.is_some_and(|events| events < kept) {
        let problem = format!(
            "expected at least storage.history ({} h): what can be brought back is told of",
            kept.as_secs().div_ceil(3600)
        );
        c.refuse(FaultKind::Contradiction, "storage.historyEvents", problem);
    }
    limits.registry.part_size = part_size(c).unwrap_or(limits.registry.part_size);
}

fn remarks(c: &mut Checked) {
    if c.bool("storage.dedupe") == Some(false) {
        c.warn("storage.dedupe: content is stored once per cluster all the same, without a cost in copying");
    }
    if c.bool("storage.commit") == Some(false) {
        c.warn("storage.commit: what is acknowledged is always on disk");
    }
    let remote = c.has("storage.cacheDriver") && !is_boltdb(c);
    match (c.bool("storage.remoteCache"), c.has("storage.storageDriver")) {
        (Some(false), true) if remote => {
            let problem = "contradicts cacheDriver: false keeps metadata in rootDirectory, for one member; leave out one of the two";
            c.refuse(FaultKind::Contradiction, "storage.remoteCache", problem);
        }
        (Some(true), false) => c.warn("storage.remoteCache: without storageDriver there is nothing remote"),
        (Some(_) | None, _) => {}
    }
}

/// zot's name for metadata on a machine's own disk.
fn is_boltdb(c: &mut Checked) -> bool {
    c.text("storage.cacheDriver.name")
        .is_some_and(|name| name.eq_ignore_ascii_case("boltdb"))
}

fn s3(c: &mut Checked) -> Option<S3Config> {
    if !c.text("storage.storageDriver.name")?.eq_ignore_ascii_case("s3") {
        return None;
    }
    let bucket = bucket(c);
    let (endpoint, region) = s3_place(c);
    let prefix = prefix(c);
    let credentials = credentials(c);
    let encryption = encryption(c);
    let user_agent = user_agent(c);
    let redirect_endpoint = delivery::redirect_endpoint(c);
    if c.bool("storage.storageDriver.v4auth") == Some(false) {
        let problem = "signature version 2 is not spoken: say true or leave it out";
        c.refuse(FaultKind::Unsupported, "storage.storageDriver.v4auth", problem);
    }
    aws_only(c);
    let flag = |path, default| c.bool(path).unwrap_or(default);
    Some(S3Config {
        bucket: bucket?,
        region: region?,
        path_style: flag("storage.storageDriver.forcepathstyle", endpoint.is_some()),
        endpoint,
        verify_certificate: !flag("storage.storageDriver.skipverify", false),
        prefix: prefix?,
        credentials,
        encryption,
        storage_class: c
            .text("storage.storageDriver.storageclass")
            .filter(|class| class != "NONE"),
        acl: c.text("storage.storageDriver.objectacl"),
        dual_stack: flag("storage.storageDriver.usedualstack", false),
        fips: flag("storage.storageDriver.usefipsendpoint", false),
        accelerate: flag("storage.storageDriver.accelerate", false),
        user_agent: user_agent?,
        create_bucket: flag("storage.storageDriver.createbucket", false),
        redirect_endpoint: redirect_endpoint?,
    })
}

fn bucket(c: &mut Checked) -> Option<String> {
    const PATH: &str = "storage.storageDriver.bucket";
    let bucket = c.required(PATH, "the bucket that all members share")?;
    let letters = bucket
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.' || b == b'_');
    if letters && (3..=63).contains(&bucket.len()) {
        return Some(bucket);
    }
    let problem = format!("expected 3 to 63 lower-case letters, digits, dots and hyphens, got {bucket:?}");
    c.refuse(FaultKind::Value, PATH, problem);
    None
}

/// Endpoint and region; a region goes without saying only where an endpoint says who is meant.
fn s3_place(c: &mut Checked) -> (Option<String>, Option<String>) {
    const ENDPOINT: &str = "storage.storageDriver.regionendpoint";
    let secure = c.bool("storage.storageDriver.secure");
    let skip_verify = c.bool("storage.storageDriver.skipverify") == Some(true);
    if skip_verify {
        c.warn("storage.storageDriver.skipverify: the store's certificate is not checked");
    }
    let Some(text) = c.text(ENDPOINT) else {
        if secure == Some(false) {
            let problem = "plain HTTP needs a regionendpoint: AWS is spoken to over TLS only";
            c.refuse(FaultKind::Contradiction, "storage.storageDriver.secure", problem);
        }
        return (
            None,
            c.required(
                "storage.storageDriver.region",
                "without a regionendpoint, it says where the bucket is",
            ),
        );
    };
    match (text.split_once("://"), secure) {
        (Some(("https", _)), Some(false)) => {
            c.warn("storage.storageDriver.secure: regionendpoint says https, and counts")
        }
        (Some(("http", _)), Some(true)) => {
            c.warn("storage.storageDriver.secure: regionendpoint says http, and counts")
        }
        _ => {}
    }
    let endpoint = values::endpoint(c, ENDPOINT, &text, secure.unwrap_or(true));
    let region = c
        .text("storage.storageDriver.region")
        .unwrap_or_else(|| "us-east-1".to_owned());
    (endpoint, Some(region))
}

fn prefix(c: &mut Checked) -> Option<String> {
    const PATH: &str = "storage.storageDriver.rootdirectory";
    let text = c.text(PATH).unwrap_or_default();
    let prefix = text.trim_matches('/');
    if prefix.len() > 256
        || prefix
            .split('/')
            .any(|part| matches!(part, "." | "..") || (part.is_empty() && !prefix.is_empty()))
    {
        c.refuse(
            FaultKind::Value,
            PATH,
            format!("expected a plain prefix of at most 256 bytes, such as /registry, got {text:?}"),
        );
        return None;
    }
    Some(prefix.to_owned())
}

fn credentials(c: &mut Checked) -> Option<S3Credentials> {
    const ACCESS: &str = "storage.storageDriver.accesskey";
    const SECRET: &str = "storage.storageDriver.secretkey";
    const TOKEN: &str = "storage.storageDriver.sessiontoken";
    let token = c.text(TOKEN).map(Secret::new);
    match (c.text(ACCESS), c.text(SECRET)) {
        (Some(access_key), Some(secret)) => Some(S3Credentials {
            access_key,
            secret_key: Secret::new(secret),
            session_token: token,
        }),
        (Some(_), None) => {
            c.required(SECRET, "accesskey and secretkey go together");
            None
        }
        (None, Some(_)) => {
            c.required(ACCESS, "accesskey and secretkey go together");
            None
        }
        (None, None) => {
            if token.is_some() {
                c.refuse(
                    FaultKind::Contradiction,
                    TOKEN,
                    "belongs to an accesskey and a secretkey: add them or leave it out",
                );
            }
            None
        }
    }
}

fn encryption(c: &mut Checked) -> Option<S3Encryption> {
    const KEY: &str = "storage.storageDriver.keyid";
    let key = c.text(KEY).map(Secret::new);
    match (c.bool("storage.storageDriver.encrypt").unwrap_or(false), key) {
        (true, Some(key)) => Some(S3Encryption::Kms(key)),
        (true, None) => Some(S3Encryption::Managed),
        (false, Some(_)) => {
            c.refuse(
                FaultKind::Contradiction,
                KEY,
                "needs encrypt: true; without it nothing would be encrypted",
            );
            None
        }
        (false, None) => None,
    }
}

/// Kinds of endpoints that only AWS has, each with a name of its own: they can't be had at one that is given.
fn aws_only(c: &mut Checked) {
    let of_its_own = c.has("storage.storageDriver.regionendpoint");
    for path in [
        "storage.storageDriver.usedualstack",
        "storage.storageDriver.usefipsendpoint",
        "storage.storageDriver.accelerate",
    ] {
        if of_its_own && c.bool(path) == Some(true) {
            let problem = "contradicts regionendpoint: such endpoints are AWS's; leave out one of the two";
            c.refuse(FaultKind::Contradiction, path, problem);
        }
    }
    const ACCELERATE: &str = "storage.storageDriver.accelerate";
    let path_style = c.bool("storage.storageDriver.forcepathstyle") == Some(true);
    if !of_its_own && path_style && c.bool(ACCELERATE) == Some(true) {
        let problem = "contradicts forcepathstyle: accelerated endpoints have the bucket in their names";
        c.refuse(FaultKind::Contradiction, ACCELERATE, problem);
    }
}

/// What is added to the user agent, if anything is. `None` when it can't be sent.
fn user_agent(c: &mut Checked) -> Option<Option<String>> {
    const PATH: &str = "storage.storageDriver.useragent";
    let agent = c.text(PATH);
    let sound = |agent: &String| agent.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
    if agent.as_ref().is_none_or(sound) {
        return Some(agent);
    }
    c.refuse(
        FaultKind::Value,
        PATH,
        "expected visible ASCII characters and spaces",
    );
    None
}

/// `chunksize`.
fn part_size(c: &mut Checked) -> Option<u64> {
    const PATH: &str = "storage.storageDriver.chunksize";
    let wanted = c.int(PATH)?;
    match u64::try_from(wanted)
        .ok()
        .filter(|bytes| PART_BYTES.contains(bytes))
    {
        Some(bytes) => {
            if bytes > LARGE_PART_BYTES {
                c.warn(format!(
                    "{PATH}: each transfer holds a few parts of {} MiB in memory",
                    bytes / MIB
                ));
            }
            Some(bytes)
        }
        None => {
            c.refuse(
                FaultKind::Value,
                PATH,
                format!("expected 5242880 (5 MiB) to 5368709120 (5 GiB) bytes, got {wanted}"),
            );
            None
        }
    }
}

/// The `cacheDriver` that is named.
fn shared_meta(c: &mut Checked) -> Option<MetaStorage> {
    let name = c.text("storage.cacheDriver.name")?;
    match name.to_ascii_lowercase().as_str() {
        "dynamodb" => dynamo(c).map(MetaStorage::Dynamo),
        "postgres" => postgres::postgres(c).map(MetaStorage::Postgres),
        "redis" => redis::redis(c).map(MetaStorage::Redis),
        _ => None,
    }
}

fn dynamo(c: &mut Checked) -> Option<DynamoConfig> {
    const ENDPOINT: &str = "storage.cacheDriver.endpoint";
    let region = c.required("storage.cacheDriver.region", "it says where the tables are");
    let endpoint = c
        .text(ENDPOINT)
        .map(|text| values::endpoint(c, ENDPOINT, &text, true));
    let tables = tables(c);
    let endpoint = match endpoint {
        Some(read) => Some(read?),
        None => None,
    };
    Some(DynamoConfig {
        region: region?,
        endpoint,
        tables: tables?,
    })
}

fn tables(c: &mut Checked) -> Option<DynamoTables> {
    let mut table = |path| c.required(path, "each table has its name");
    let cache = table("storage.cacheDriver.cacheTablename");
    let repo_meta = table("storage.cacheDriver.repoMetaTablename");
    let image_meta = table("storage.cacheDriver.imageMetaTablename");
    let repo_blobs_info = table("storage.cacheDriver.repoBlobsInfoTablename");
    let user_data = table("storage.cacheDriver.userDataTablename");
    let api_key = table("storage.cacheDriver.apiKeyTablename");
    let version = table("storage.cacheDriver.versionTablename");
    let own = |path, suffix| {
        c.text(path)
            .or_else(|| version.as_ref().map(|version| format!("{version}-{suffix}")))
    };
    let uploads = own("storage.cacheDriver.uploadsTablename", "uploads");
    let members = own("storage.cacheDriver.membersTablename", "members");
    let tables = DynamoTables {
        cache: cache?,
        repo_meta: repo_meta?,
        image_meta: image_meta?,
        repo_blobs_info: repo_blobs_info?,
        user_data: user_data?,
        api_key: api_key?,
        version: version?,
        uploads: uploads?,
        members: members?,
    };
    let mut keys = BTreeMap::new();
    let mut sound = true;
    for (key, name) in tables.by_key() {
        let path = table_path(key);
        let letters = name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
        if !letters || !(3..=255).contains(&name.len()) {
            c.refuse(
                FaultKind::Value,
                path,
                format!("expected 3 to 255 letters, digits, dots, hyphens and underscores, got {name:?}"),
            );
            sound = false;
        }
        if let Some(other) = keys.insert(name, key) {
            c.refuse(
                FaultKind::Contradiction,
                path,
                format!("{name:?} is {other} already: each table has its own name"),
            );
            sound = false;
        }
    }
    sound.then(|| tables.clone())
}

/// The row of a table's key.
fn table_path(key: &str) -> &'static str {
    let row =
        crate::config::keys::children("storage.cacheDriver", Some("dynamodb")).find(|row| row.name() == key);
    row.map_or("storage.cacheDriver", |row| row.path)
}
