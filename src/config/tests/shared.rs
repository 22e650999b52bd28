//! Storage and cluster: what members share, and how they know each other.

use super::*;

const TLS: &str = "tls: {cacert: ca.crt, cert: m.crt, key: m.key}";

fn clustered(storage: &str, cluster: &str) -> String {
    format!(
        "storage: {{{storage}}}\nhttp: {{port: 9000}}\ncluster:\n  hashKey: loremipsumdolors\n  {cluster}\n"
    )
}

const EMBEDDED: &str = "rootDirectory: /data";
const SHARED: &str = "storageDriver: {name: s3, bucket: reg, region: eu-1}, cacheDriver: {name: dynamodb, region: eu-1, cacheTablename: aaa, repoMetaTablename: bbb, imageMetaTablename: ccc, repoBlobsInfoTablename: ddd, userDataTablename: eee, apiKeyTablename: fff, versionTablename: ggg}";

#[test]
fn drivers_that_are_not_ours_are_refused_by_name_once() {
    refused(
        "storage:\n  storageDriver: {name: gcs, bucket: b, keyfile: k}\n",
        &["2 storage.storageDriver.name: Google Cloud Storage"],
    );
    refused(
        "storage:\n  storageDriver: {name: azure, accountname: b, bucket: k}\n",
        &["2 storage.storageDriver.name: Azure"],
    );
    refused(
        "storage:\n  rootDirectory: /d\n  storageDriver: {name: s4, bucket: b}\n",
        &["3 storage.storageDriver.name: expected one of s3, gcs, azure, got \"s4\""],
    );
    refused(
        "storage:\n  storageDriver: {bucket: b}\n",
        &["- storage.storageDriver.name: is required"],
    );
}

#[test]
fn half_a_shared_storage_is_refused() {
    let shared = SHARED.split(", cacheDriver").next().unwrap();
    refused(
        &format!("storage: {{{shared}}}"),
        &["- storage.rootDirectory: is required: without cacheDriver"],
    );
    let meta = SHARED.split("}, ").nth(1).unwrap();
    refused(
        &format!("storage: {{{meta}}}"),
        &["- storage.storageDriver: is required with cacheDriver"],
    );
    refused(
        &format!("storage: {{{SHARED}, remoteCache: false}}"),
        &["1 storage.remoteCache: contradicts cacheDriver"],
    );
}

#[test]
fn a_bucket_without_a_cache_driver_is_for_one_member_and_says_so() {
    let bucket = SHARED.split(", cacheDriver").next().unwrap();
    for more in ["", ", remoteCache: false", ", cacheDriver: {name: boltdb}"] {
        let config = yaml(&format!("storage: {{{EMBEDDED}, {bucket}{more}}}")).unwrap();
        assert!(
            matches!(&config.storage.meta, MetaStorage::Redb { root } if root == Path::new("/data")),
            "{more}"
        );
        assert!(matches!(&config.storage.blobs, BlobStorage::S3(bucket) if bucket.bucket == "reg"));
        let said = config
            .warnings
            .iter()
            .filter(|said| said.contains("/data (meta.redb)"));
        assert_eq!(said.count(), 1, "{:?}", config.warnings);
    }
    refused(
        &format!("storage: {{{EMBEDDED}, {bucket}, remoteCache: true}}"),
        &["- storage.cacheDriver: is required with remoteCache: true"],
    );
    let one = format!("{EMBEDDED}, {bucket}");
    assert!(yaml(&clustered(&one, &format!("members: [a:9000]\n  {TLS}"))).is_ok());
    refused(
        &clustered(&one, &format!("members: [a:9000, b:9000]\n  {TLS}")),
        &["3 cluster: 2 members share their storage, and what is in rootDirectory is one process's"],
    );
    refused(
        &clustered(&one, "tls: {cacert: a, cert: b, key: c, memberSan: m.x}"),
        &["3 cluster: members that come and go share their storage"],
    );
}

#[test]
fn a_database_is_named_by_its_url_and_spoken_to_over_tls() {
    use tokio_postgres::config::SslMode;
    let bucket = SHARED.split(", cacheDriver").next().unwrap();
    let with = |more: &str| format!("storage: {{{bucket}, cacheDriver: {{name: Postgres, {more}}}}}");
    let read = |more: &str| {
        let config = yaml(&with(more)).unwrap();
        assert!(config.storage.is_shared());
        assert!(!format!("{config:?}").contains("sesame"));
        match config.storage.meta {
            MetaStorage::Postgres(database) => (database, config.warnings),
            other => panic!("{other:?}"),
        }
    };
    let (database, _) =
        read("url: 'postgres://portolan@db-1:5433,db-2/registry', password: sesame, cacert: /ca.crt");
    assert_eq!(database.servers.get_hosts().len(), 2);
    assert_eq!(database.servers.get_password(), Some(&b"sesame"[..]));
    assert_eq!(database.servers.get_ssl_mode(), SslMode::Require);
    assert_eq!(database.authority.as_deref(), Some(Path::new("/ca.crt")));
    assert_eq!(database.schema, "portolan");
    for (url, mode) in [
        ("postgres://a:sesame@b/c?sslmode=verify-full", SslMode::Require),
        ("postgres://a@b/c?sslmode=prefer", SslMode::Require),
        ("host=/run/postgresql user=a dbname=c", SslMode::Disable),
    ] {
        let (database, warnings) = read(&format!("url: '{url}', schema: registry_2"));
        assert_eq!(
            (database.servers.get_ssl_mode(), warnings.len()),
            (mode, 1),
            "{url}"
        );
        assert_eq!(database.schema, "registry_2");
    }
    let (database, warnings) = read("url: 'postgres://a@b/c?sslmode=disable'");
    assert_eq!(database.servers.get_ssl_mode(), SslMode::Disable);
    assert!(
        warnings.iter().any(|said| said.contains("sslmode=disable")),
        "{warnings:?}"
    );
    for (more, fault) in [
        ("schema: s", "- storage.cacheDriver.url: is required"),
        (
            "url: 'postgres://a@b/c', schema: Registry",
            "1 storage.cacheDriver.schema: expected",
        ),
        (
            "url: 'postgres://a:sesame@b:x/c'",
            "1 storage.cacheDriver.url: expected postgres://",
        ),
        (
            "url: 'postgres://a@b'",
            "1 storage.cacheDriver.url: names no database",
        ),
        (
            "url: 'postgres://b/c'",
            "1 storage.cacheDriver.url: names no user",
        ),
        (
            "url: 'postgres://a:x@b/c', password: y",
            "1 storage.cacheDriver.password: is in url, too",
        ),
        (
            "url: 'postgres://a@b/c?sslmode=disable', cacert: d",
            "1 storage.cacheDriver.cacert: contradicts sslmode=disable",
        ),
    ] {
        refused(&with(more), &[fault]);
    }
}

#[test]
fn redis_is_named_by_a_url_or_by_its_sentinels() {
    let bucket = SHARED.split(", cacheDriver").next().unwrap();
    let with = |more: &str| format!("storage: {{{bucket}, cacheDriver: {{name: redis, {more}}}}}");
    let read = |more: &str| {
        let config = yaml(&with(more)).unwrap();
        assert!(config.storage.is_shared());
        assert!(!format!("{config:?}").contains("sesame"));
        match config.storage.meta {
            MetaStorage::Redis(redis) => (redis, config.warnings),
            other => panic!("{other:?}"),
        }
    };
    let at = |host: &str, port| ServerAddress {
        host: host.to_owned(),
        port,
    };
    let (redis, warnings) = read(
        "url: 'rediss://portolan:ses%40me@db:6380/2', cacert: /ca.crt, keyprefix: 'zot:2', read_timeout: 3s",
    );
    assert_eq!(redis.servers, RedisServers::One(at("db", 6380)));
    assert_eq!((redis.user.as_deref(), redis.database), (Some("portolan"), 2));
    assert_eq!(redis.password.unwrap().expose(), "ses@me");
    assert_eq!(redis.prefix, "zot:2");
    let authority = Some("/ca.crt".into());
    assert_eq!(redis.tls, RedisTls::On { authority });
    assert_eq!(redis.durability, Durability::Strict);
    assert!(
        warnings.iter().any(|said| said.contains("read_timeout")),
        "{warnings:?}"
    );
    let (redis, warnings) = read("url: 'redis://[::1]', password: sesame, durability: relaxed");
    assert_eq!(redis.servers, RedisServers::One(at("::1", 6379)));
    assert_eq!((redis.prefix.as_str(), redis.tls), ("portolan", RedisTls::Off));
    for word in ["no TLS to Redis", "durability: relaxed: Redis may lose"] {
        assert!(warnings.iter().any(|said| said.contains(word)), "{warnings:?}");
    }
    let (redis, _) = read(
        "addr: [a, 'b:1'], master_name: registry, durability: relaxed, cacert: /ca.crt, sentinel_password: sesame",
    );
    match redis.servers {
        RedisServers::Sentinels {
            addresses, master, ..
        } => {
            assert_eq!(
                (addresses, master.as_str()),
                (vec![at("a", 26379), at("b", 1)], "registry")
            );
        }
        other => panic!("{other:?}"),
    }
    let (redis, _) = read("addr: ['a:6379']");
    assert_eq!(redis.servers, RedisServers::One(at("a", 6379)));
    for (more, fault) in [
        ("db: 1", "- storage.cacheDriver.url: is required"),
        (
            "url: 'redis://a', addr: [b]",
            "1 storage.cacheDriver.addr: contradicts url",
        ),
        (
            "url: 'redis://a?addr=b:1'",
            "1 storage.cacheDriver.url: names a Redis Cluster",
        ),
        (
            "url: 'redis://a?pool_size=3'",
            "1 storage.cacheDriver.url: expected redis://",
        ),
        (
            "url: 'unix:///run/redis'",
            "1 storage.cacheDriver.url: expected redis://",
        ),
        (
            "url: 'redis://a', master_name: m",
            "1 storage.cacheDriver.master_name: is of Sentinels",
        ),
        (
            "url: 'redis://a', cacert: c",
            "1 storage.cacheDriver.cacert: contradicts redis://",
        ),
        (
            "url: 'redis://a/1', db: 1",
            "1 storage.cacheDriver.db: is in url, too",
        ),
        ("url: 'redis://a', db: -1", "1 storage.cacheDriver.db: expected"),
        (
            "url: 'redis://a', username: b",
            "- storage.cacheDriver.password: is required",
        ),
        (
            "url: 'redis://a', keyprefix: '*'",
            "1 storage.cacheDriver.keyprefix: expected",
        ),
        (
            "addr: [a, b]",
            "1 storage.cacheDriver.addr: names a Redis Cluster",
        ),
        (
            "addr: ['a:b']",
            "1 storage.cacheDriver.addr[0]: expected host:port",
        ),
        (
            "addr: [a], master_name: m",
            "1 storage.cacheDriver.master_name: Sentinels may promote",
        ),
        (
            "url: 'redis://a', durability: some",
            "1 storage.cacheDriver.durability: expected one of",
        ),
    ] {
        refused(&with(more), &[fault]);
    }
}

#[test]
fn s3_is_validated_in_full() {
    let with = |more: &str| {
        format!(
            "storage: {{{}}}",
            SHARED.replace("bucket: reg", &format!("bucket: reg, {more}"))
        )
    };
    let config = yaml(&with("accesskey: AK, secretkey: SK, encrypt: true, keyid: arn, chunksize: 16777216, storageclass: standard_ia, secure: true, rootdirectory: /a/b/, createbucket: true")).unwrap();
    let BlobStorage::S3(blobs) = &config.storage.blobs else {
        panic!()
    };
    assert_eq!(
        (
            blobs.prefix.as_str(),
            config.limits.registry.part_size,
            blobs.endpoint.as_deref(),
            blobs.path_style
        ),
        ("a/b", 16 << 20, None, false)
    );
    assert_eq!(blobs.encryption, Some(S3Encryption::Kms(Secret::new("arn"))));
    assert_eq!(
        (blobs.storage_class.as_deref(), blobs.create_bucket),
        (Some("STANDARD_IA"), true)
    );
    let debug = format!("{config:?}");
    assert!(!debug.contains("\"SK\"") && !debug.contains("\"arn\""), "{debug}");
    for (more, fault) in [
        ("accesskey: AK", "- storage.storageDriver.secretkey: is required"),
        (
            "sessiontoken: T",
            "1 storage.storageDriver.sessiontoken: belongs to",
        ),
        ("keyid: K", "1 storage.storageDriver.keyid: needs encrypt"),
        (
            "chunksize: 1024",
            "1 storage.storageDriver.chunksize: expected 5242880",
        ),
        (
            "secure: false",
            "1 storage.storageDriver.secure: plain HTTP needs",
        ),
        (
            "regionendpoint: 'ftp://x'",
            "1 storage.storageDriver.regionendpoint: expected host:port",
        ),
        (
            "rootdirectory: /a/../b",
            "1 storage.storageDriver.rootdirectory: expected a plain prefix",
        ),
        (
            "v4auth: false",
            "1 storage.storageDriver.v4auth: signature version 2",
        ),
        (
            "storageclass: TAPE",
            "1 storage.storageDriver.storageclass: expected one of NONE",
        ),
        (
            "regionendpoint: 'host:1', usedualstack: true",
            "1 storage.storageDriver.usedualstack: contradicts regionendpoint",
        ),
        (
            "accelerate: true, forcepathstyle: true",
            "1 storage.storageDriver.accelerate: contradicts forcepathstyle",
        ),
        (
            "useragent: 'café'",
            "1 storage.storageDriver.useragent: expected visible",
        ),
        (
            "secretkey: 5, accesskey: A",
            "1 storage.storageDriver.secretkey: expected a string, or an object with file or env, got a number; put it in quotes",
        ),
    ] {
        refused(&with(more), &[fault]);
    }
}

#[test]
fn dynamodb_tables_are_named_and_different() {
    refused(
        &format!(
            "storage: {{{}}}",
            SHARED.replace("cacheTablename: aaa, ", "").replace("ggg", "g g")
        ),
        &["- storage.cacheDriver.cacheTablename: is required"],
    );
    refused(
        &format!(
            "storage: {{{}}}",
            SHARED.replace("bbb", "aaa").replace("ggg", "g g")
        ),
        &[
            "1 storage.cacheDriver.repoMetaTablename: \"aaa\" is cacheTablename already",
            "1 storage.cacheDriver.versionTablename: expected 3 to 255",
            "- storage.cacheDriver.uploadsTablename: expected",
            "- storage.cacheDriver.membersTablename: expected",
        ],
    );
}

#[test]
fn a_cluster_without_a_way_to_tell_members_is_refused() {
    refused(
        &clustered(SHARED, TLS),
        &["- cluster.members: neither this nor cluster.tls.memberSan is given: any certificate"],
    );
    refused(
        &clustered(SHARED, "members: [a:9000, b:9000]"),
        &[
            "- cluster.tls.cacert: is required: the mesh speaks mutual TLS only",
            "- cluster.tls.cert: is required",
        ],
    );
    refused(
        &clustered(SHARED, "members: []\n  tls: {cacert: a, cert: b, key: c}"),
        &["5 cluster.members: is empty"],
    );
    let dynamic = yaml(&clustered(
        SHARED,
        "tls: {cacert: a, cert: b, key: c, memberSan: '*.Reg.internal', operators: [op]}",
    ))
    .unwrap();
    let cluster = dynamic.cluster.unwrap();
    assert_eq!(
        (cluster.members.is_none(), cluster.tls.member_san.as_deref()),
        (true, Some("*.reg.internal"))
    );
    for san in ["'*.internal'", "'*'", "'a b'", "'a.*.b'"] {
        assert_eq!(
            faults(&clustered(
                SHARED,
                &format!("tls: {{cacert: a, cert: b, key: c, memberSan: {san}}}")
            ))
            .len(),
            1,
            "{san}"
        );
    }
}

#[test]
fn members_are_named_once_and_one_of_them_can_be_this_one() {
    refused(
        &clustered(
            SHARED,
            &format!(
                "members:\n    - a:9000\n    - a:9001\n    - nope\n    - '[::1]:9000'\n    - 'A:9000'\n  {TLS}"
            ),
        ),
        &[
            "7 cluster.members[1]: a:9001 and a:9000 have one host",
            "8 cluster.members[2]: expected host:port, got \"nope\"",
            "10 cluster.members[4]: a:9000 and a:9000 have one host",
        ],
    );
    refused(
        &clustered(SHARED, &format!("members: [a:1, b:1]\n  {TLS}")),
        &["2 http.port: is 9000, and no entry"],
    );
    refused(
        &clustered(SHARED, &format!("members: [a:9000]\n  {TLS}")).replace("9000}", "0}"),
        &["2 http.port: 0 takes any port"],
    );
    let capitals = yaml(&clustered(
        SHARED,
        &format!("members: [Zot-1:9000, b:9000]\n  {TLS}"),
    ))
    .unwrap();
    assert_eq!(
        capitals.cluster.unwrap().members.unwrap()[0].as_str(),
        "zot-1:9000"
    );
}

#[test]
fn members_that_share_no_store_are_refused() {
    yaml(&clustered(EMBEDDED, &format!("members: [a:9000]\n  {TLS}"))).unwrap();
    refused(
        &clustered(EMBEDDED, &format!("members: [a:9000, b:9000]\n  {TLS}")),
        &["3 cluster: 2 members share their storage"],
    );
    refused(
        &clustered(EMBEDDED, "tls: {cacert: a, cert: b, key: c, memberSan: m.x}"),
        &["3 cluster: members that come and go"],
    );
    let alone = yaml(&format!("storage: {{{SHARED}}}")).unwrap();
    noted(&alone, "cluster: without it");
}

#[test]
fn the_rest_of_a_cluster_is_checked() {
    let with = |more: &str, tls: &str| {
        clustered(
            SHARED,
            &format!("members: [a:9000, b:9000]\n  {more}\n  tls: {{cacert: a, cert: b, key: c{tls}}}"),
        )
    };
    refused(
        &with("meshPort: 9000", ""),
        &["6 cluster.meshPort: the public port and the mesh port are both 9000"],
    );
    refused(
        &with("meshPort: 0", ""),
        &["6 cluster.meshPort: 0 takes any port"],
    );
    yaml(&with("meshPort: 9000\n  meshAddress: 10.0.0.1", "")).unwrap();
    refused(
        &with("meshAddress: 10.0.0.1:5", ""),
        &[
            "6 cluster.meshAddress: expected an address or a host name, got \"10.0.0.1:5\"; the port belongs into cluster.meshPort",
        ],
    );
    refused(
        &with("", ", operators: [op, B, '*.x']"),
        &[
            "7 cluster.tls.operators[2]: expected one SAN",
            "7 cluster.tls.operators[1]: \"B\" is a member's name (b:9000)",
        ],
    );
    refused(
        &with("", ", operators: [op], administrators: [admin, A, '']"),
        &[
            "7 cluster.tls.administrators[2]: expected one SAN",
            "7 cluster.tls.administrators[1]: \"A\" is a member's name (a:9000)",
        ],
    );
    refused(
        &with("", "").replace("key: c", ""),
        &["- cluster.tls.key: is required: cluster.tls.cert and cluster.tls.key go together"],
    );
    refused(
        &with("", "").replace("loremipsumdolors", "short"),
        &["4 cluster.hashKey: expected exactly 16 bytes, got 5"],
    );
    let warned = yaml(&with("", ", memberSan: m.x")).unwrap();
    noted(&warned, "cluster.tls.memberSan: has no effect");
}

#[test]
fn clients_are_sent_to_the_bucket_only_where_that_can_be_right() {
    const ON: &str = "redirectBlobURL: true";
    let read = |more: &str| yaml(&format!("storage: {{{SHARED}, {more}}}")).unwrap();
    assert_eq!(read("redirectBlobURL: false").delivery.redirects, Redirects::Off);
    assert_eq!(read("redirectMinBytes: 0").delivery.redirects, Redirects::Off);
    let said = |config: &Config| -> Vec<String> {
        let ours = config
            .warnings
            .iter()
            .filter(|said| said.starts_with("storage.redirect"));
        ours.cloned().collect()
    };
    let config = read(ON);
    assert_eq!(config.delivery.redirects, Redirects::From { bytes: 0 });
    assert!(said(&config).is_empty(), "{:?}", config.warnings);
    let some = read("redirectBlobURL: 'true', redirectMinBytes: '65536', trashDelay: 4h");
    assert_eq!(some.delivery.redirects, Redirects::From { bytes: 65_536 });
    // A file system gives nothing out by itself, as in zot.
    let alone = yaml(&format!("storage: {{{EMBEDDED}, {ON}}}")).unwrap();
    assert!(
        matches!(&said(&alone)[..], [note] if note.starts_with("storage.redirectBlobURL: without storageDriver")),
        "{:?}",
        alone.warnings
    );
    let idle = said(&read("redirectMinBytes: 10"));
    assert_eq!(
        idle,
        ["storage.redirectMinBytes: counts only with storage.redirectBlobURL: true"]
    );
    refused(
        &format!(
            "storage:\n  {EMBEDDED}\n  {ON}\n  redirectMinBytes: -1\n  trashDelay: 20m\n  verifyReads: true\n"
        ),
        &[
            "4 storage.redirectMinBytes: expected bytes, 0 or more, got -1",
            "5 storage.trashDelay: has to be longer than 20m with storage.redirectBlobURL",
            "6 storage.verifyReads: contradicts storage.redirectBlobURL",
        ],
    );
    let at = |endpoint: &str| {
        SHARED.replacen(
            "region: eu-1",
            &format!("region: eu-1, redirectendpoint: '{endpoint}'"),
            1,
        )
    };
    let config = yaml(&format!(
        "storage: {{{}, {ON}}}",
        at("https://cdn.example.com:8443/")
    ))
    .unwrap();
    assert!(
        matches!(&config.storage.blobs, BlobStorage::S3(bucket) if bucket.redirect_endpoint.as_deref() == Some("https://cdn.example.com:8443"))
    );
    for wrong in [
        "cdn.example.com",
        "https://cdn.example.com/bucket",
        "https://cdn.example.com?a=b",
        "ftp://a",
    ] {
        refused(
            &format!("storage: {{{}, {ON}}}", at(wrong)),
            &["1 storage.storageDriver.redirectendpoint: expected "],
        );
    }
}

#[test]
fn a_cache_has_a_folder_of_its_own_and_a_bound() {
    let read = |more: &str| yaml(&format!("storage: {{{SHARED}, {more}}}"));
    let config = read("cache: {path: /var/cache/portolan, bytes: 107374182400}").unwrap();
    let cache = config.delivery.cache.unwrap();
    assert_eq!(
        (cache.path.as_path(), cache.bytes),
        (Path::new("/var/cache/portolan"), 107_374_182_400)
    );
    assert_eq!(read("cache: {}").unwrap().delivery.cache, None);
    let alone = yaml(&format!(
        "storage: {{{EMBEDDED}, cache: {{path: /c, bytes: 16777216}}}}"
    ))
    .unwrap();
    noted(&alone, "storage.cache: without storageDriver");
    refused(
        "storage:\n  rootDirectory: /d\n  cache:\n    bytes: 1000\n",
        &[
            "4 storage.cache.bytes: expected 16777216 (16 MiB) bytes or more, got 1000",
            "- storage.cache.path: is required",
        ],
    );
    refused(
        "storage:\n  rootDirectory: /d\n  cache:\n    path: /d\n",
        &[
            "4 storage.cache.path: is storage.rootDirectory",
            "- storage.cache.bytes: is required",
        ],
    );
}
