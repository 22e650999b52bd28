//! Whole files: the samples, what zot's users have, and one wrong file for each sort of fault.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use proptest::prelude::*;

use super::*;

mod access;
mod events;
mod immutable;
mod replicate;
mod scrub;
mod shared;
mod zot;

/// The sample cluster configuration that has to work as it stands, with our own names.
const CLUSTER: &str = include_str!("../../../deploy/cluster.json");

fn yaml(text: &str) -> Result<Config, ConfigErrors> {
    parse(Path::new("c.yaml"), text)
}

/// The faults of a wrong file as `line key: problem`.
fn faults(text: &str) -> Vec<String> {
    lines(&yaml(text).expect_err("faults"))
}

fn lines(errors: &ConfigErrors) -> Vec<String> {
    let line = |fault: &Fault| fault.line.map_or("-".to_owned(), |line| line.to_string());
    errors
        .faults
        .iter()
        .map(|fault| format!("{} {}: {}", line(fault), fault.key, fault.problem))
        .collect()
}

/// Asserts that a wrong file has exactly these faults, each recognised by how it begins.
#[track_caller]
fn refused(text: &str, expected: &[&str]) {
    let found = faults(text);
    let same = found.len() == expected.len()
        && found
            .iter()
            .zip(expected)
            .all(|(found, expected)| found.starts_with(expected));
    assert!(same, "expected {expected:#?}\nfound {found:#?}");
}

/// Asserts that a file that loads has a note that begins so.
#[track_caller]
fn noted(config: &Config, beginning: &str) {
    let notes = &config.warnings;
    assert!(
        notes.iter().any(|note| note.starts_with(beginning)),
        "{beginning}: {notes:#?}"
    );
}

#[test]
fn what_answers_say_of_the_registry_is_checked() {
    let http = |keys: &str| format!("storage: {{rootDirectory: /d}}\nhttp: {{{keys}}}\n");
    for (url, expected) in [
        ("https://registry.example.org", "https://registry.example.org"),
        ("http://10.0.0.7:5000/", "http://10.0.0.7:5000"),
        ("https://[2001:db8::1]:443", "https://[2001:db8::1]:443"),
    ] {
        let config = yaml(&http(&format!("externalUrl: '{url}'"))).unwrap();
        assert_eq!(config.external_url.as_deref(), Some(expected));
        let is_about_it = |warning: &String| warning.contains("externalUrl");
        assert!(!config.warnings.iter().any(is_about_it), "{:?}", config.warnings);
    }
    for url in [
        "registry.example.org",
        "registry:5000",
        "ftp://registry",
        "https://registry/path",
        "https://registry?x",
        "https://user@registry",
        "https://registry:0",
        "https://",
    ] {
        refused(
            &http(&format!("externalUrl: '{url}'")),
            &["2 http.externalUrl: expected https://host"],
        );
    }
    let age = |text: &str| {
        yaml(&http(&format!("publicMaxAge: {text}"))).map(|config| config.limits.front.public_max_age)
    };
    assert_eq!(age("1h").unwrap(), Duration::from_secs(3600));
    assert_eq!(age("0").unwrap(), Duration::ZERO);
    assert_eq!(
        yaml(&http("")).unwrap().limits.front.public_max_age,
        Duration::from_secs(300)
    );
    refused(
        &http("publicMaxAge: 8761h"),
        &["2 http.publicMaxAge: expected at most a year"],
    );
}

#[test]
fn every_sample_in_deploy_loads() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let mut loaded = 0;
    for entry in std::fs::read_dir(deploy).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json" || extension == "yaml")
        {
            let config = load(&path).unwrap_or_else(|errors| panic!("{errors}"));
            assert_eq!(config.source.as_deref(), Some(path.as_path()));
            loaded += 1;
        }
    }
    assert!(loaded >= 3, "{loaded} samples");
}

#[test]
fn the_unit_waits_longer_than_the_drain_takes() {
    let unit = include_str!("../../../deploy/portolan.service");
    let stop = unit
        .lines()
        .find_map(|line| line.strip_prefix("TimeoutStopSec="))
        .unwrap();
    let stop = duration::parse(stop).unwrap().unwrap();
    assert!(stop > Limits::default().ending.drain + Duration::from_secs(5));
}

#[test]
fn the_sample_cluster_is_understood_key_by_key() {
    let config = parse(Path::new("cluster.json"), CLUSTER).unwrap();
    assert_eq!(config.listen.to_string(), "0.0.0.0:9000");
    assert_eq!(config.log.level, LogLevel::Debug);
    let (BlobStorage::S3(blobs), MetaStorage::Dynamo(meta)) = (&config.storage.blobs, &config.storage.meta)
    else {
        panic!("{:?}", config.storage)
    };
    assert_eq!(
        (blobs.bucket.as_str(), blobs.region.as_str()),
        ("portolan", "us-east-1")
    );
    assert_eq!(blobs.endpoint.as_deref(), Some("http://localhost:4566"));
    assert_eq!(blobs.prefix, "portolan");
    assert!(blobs.path_style && blobs.verify_certificate && !blobs.create_bucket);
    assert_eq!(meta.endpoint.as_deref(), Some("http://localhost:4566"));
    assert_eq!(meta.tables.uploads, format!("{}-uploads", meta.tables.version));
    assert_eq!(meta.tables.members, format!("{}-members", meta.tables.version));
    let cluster = config.cluster.as_ref().unwrap();
    let members: Vec<&str> = cluster
        .members
        .iter()
        .flatten()
        .map(|member| member.as_str())
        .collect();
    assert_eq!(members, ["portolan-1:9000", "portolan-2:9000", "portolan-3:9000"]);
    assert_eq!((cluster.mesh_port, cluster.tls.pair), (9443, PairSource::Public));
    assert_eq!(cluster.mesh_listen(&config.listen).to_string(), "0.0.0.0:9443");
    assert_eq!(cluster.tls.cert, config.public_tls.as_ref().unwrap().cert);
    assert!(
        config
            .warnings
            .iter()
            .any(|warning| warning.contains("clientAuth")),
        "{:?}",
        config.warnings
    );
}

#[test]
fn the_sample_without_aws_is_understood() {
    let sample = include_str!("../../../deploy/postgres.yaml");
    let config = parse(Path::new("postgres.yaml"), sample).unwrap();
    assert!(config.storage.is_shared() && config.cluster.is_some());
    let MetaStorage::Postgres(database) = &config.storage.meta else {
        panic!("{:?}", config.storage)
    };
    assert_eq!(database.servers.get_hosts().len(), 2);
}

#[test]
fn the_sample_on_redis_is_understood() {
    let sample = include_str!("../../../deploy/redis.yaml");
    let config = parse(Path::new("redis.yaml"), sample).unwrap();
    assert!(config.storage.is_shared() && config.cluster.is_some());
    assert!(
        matches!(config.storage.meta, MetaStorage::Redis(_)),
        "{:?}",
        config.storage
    );
}

#[test]
fn zots_own_sample_loads_as_it_stands() {
    let path = Path::new("seed.json");
    let names = [
        ("portolan-", "zot-server"),
        ("\"/portolan\"", "\"/zot\""),
        ("Portolan", "Zot"),
        ("deploy/tls", "test/data"),
    ];
    let text = names.iter().fold(CLUSTER.to_owned(), |text, (ours, theirs)| {
        text.replace(ours, theirs)
    });
    assert!(parse(path, &text).is_ok());
    let lower = text
        .replace("rootDirectory", "ROOTDIRECTORY")
        .replace("cacheTablename", "cachetablename");
    assert!(parse(path, &lower).is_ok(), "keys are known in any case");
}

#[test]
fn a_file_with_nothing_but_a_root_has_zots_defaults() {
    let config = yaml("storage: {rootDirectory: /data}").unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert!(matches!(&config.storage.meta, MetaStorage::Redb { root } if root == Path::new("/data")));
    assert!(!config.storage.is_shared());
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.log, Log::default());
    assert!(config.cluster.is_none() && config.public_tls.is_none());
    assert_eq!(config.warnings, Vec::<String>::new());
    assert_eq!(
        Config::single(PathBuf::from("d")).listen.to_string(),
        "127.0.0.1:5000"
    );
}

#[test]
fn all_faults_are_reported_at_once_in_the_order_of_the_file() {
    refused(
        "distSpecVersion: 1.1\nstorage:\n  dedup: true\n  gc: maybe\nhttp:\n  port: 70000\n  tls:\n    cert: a.crt\n  auth:\n    ldap: {address: x}\nlog: {level: loud}\nbananas: 1\n",
        &[
            "3 storage.dedup: unknown key: did you mean dedupe?",
            "4 storage.gc: expected true or false, got \"maybe\"",
            "6 http.port: expected a port from 0 to 65535, got 70000",
            "11 log.level: expected one of trace, debug",
            "12 bananas: unknown key",
            "- http.tls.key: is required",
            "- http.auth.ldap.baseDN: is required",
            "- http.auth.ldap.userAttribute: is required",
            "- storage.rootDirectory: is required",
        ],
    );
}

#[test]
fn paths_of_faults_name_elements_and_quote_names() {
    refused(
        "storage: {rootDirectory: /d}\nhttp:\n  accessControl:\n    repositories:\n      team/**:\n        policies:\n        - {users: [a], actoins: [read]}\n",
        &[
            "3 http.accessControl: its policies are for users, and nobody can log in",
            "7 http.accessControl.repositories.\"team/**\".policies[0].actoins: unknown key: did you mean actions?",
        ],
    );
}

#[test]
fn what_is_switched_off_is_accepted_and_what_is_on_is_refused() {
    let off = "storage: {rootDirectory: /d, redirectBlobURL: false, maxRepos: 0, retention: {dryRun: false, policies: []}}\nhttp: {auth: {apikey: false, failDelay: 0}, ratelimit: {}}\nextensions:\n  search: {enable: false, cve: {updateInterval: 2h}}\n  ui: {enable: \"false\"}\n  scrub:\n  mgmt: {enable: true}\n  metrics: {enable: true, prometheus: {path: /metrics}}\n";
    yaml(off).unwrap();
    refused(
        "storage: {rootDirectory: /d}\nextensions:\n  search: {}\n  lint: {enable: true, madnatoryAnnotations: [x]}\n  sync:\n    registries: [{urls: [x], bananas: 1}]\n  events: {sinks: [{bananas: 1}]}\n  metrics: {prometheus: {path: /m}}\n",
        &[
            "4 extensions.lint: linting comes",
            "6 extensions.sync.registries[0].bananas: unknown key",
            "7 extensions.events.sinks[0].bananas: unknown key",
            "7 extensions.events.sinks[0].type: is required",
            "8 extensions.metrics.prometheus.path: expected one of /metrics",
        ],
    );
    for on in ["auth: {mtls: {}}", "auth: {apikey: true}"] {
        assert_eq!(
            faults(&format!("storage: {{rootDirectory: /d}}\nhttp: {{{on}}}")).len(),
            1,
            "{on}"
        );
    }
}

#[test]
fn keys_of_tokens_are_files() {
    refused(
        "storage: {rootDirectory: /d}\nhttp:\n  auth:\n    bearer: {realm: 'http://x/', service: s, jwks: 'https://x/.well-known/jwks.json'}\n",
        &["4 http.auth.bearer.jwks: expected a file, got a URL: keys aren't fetched; let a timer fetch"],
    );
}

#[test]
fn rate_limits_are_requests_a_second_of_all_methods_and_of_single_ones() {
    let with = |limits: &str| format!("storage: {{rootDirectory: /d}}\nhttp:\n  rateLimit:\n{limits}");
    let limits = |text: &str| yaml(&with(text)).unwrap().rate_limits;
    let some = limits("    rate: 500\n    methods: [{method: get, rate: 100}, {Rate: \"2\", method: PUT}]\n");
    assert_eq!(some.all.map(u32::from), Some(500));
    let methods: Vec<_> = some
        .methods
        .iter()
        .map(|(method, rate)| (method.as_str(), rate.get()))
        .collect();
    assert_eq!(methods, [("GET", 100), ("PUT", 2)]);
    assert_eq!(limits("    methods: []\n"), super::RateLimits::default());
    refused(
        &with(
            "    rate: 0\n    methods:\n    - {method: BREW, rate: 1}\n    - {rate: -1}\n    - {method: GET}\n    - {method: HEAD, rate: 1}\n    - {method: head, rate: 2}\n",
        ),
        &[
            "4 http.ratelimit.rate: expected requests a second, at least 1, got 0",
            "6 http.rateLimit.methods[0].method: expected one of GET, HEAD",
            "7 http.ratelimit.methods[1].method: is required",
            "7 http.ratelimit.methods[1].rate: expected requests a second, at least 1, got -1",
            "8 http.ratelimit.methods[2].rate: is required",
            "10 http.ratelimit.methods[4].method: HEAD has a rate already",
        ],
    );
}

#[test]
fn quotas_are_bytes_by_names_of_repositories() {
    let with = |quota: &str| format!("storage:\n  rootDirectory: /d\n  quota:\n{quota}");
    let config = yaml(&with("    team: 1000\n    team/app: \"2000\"\n")).unwrap();
    let quotas: Vec<_> = config
        .quotas
        .iter()
        .map(|(prefix, bytes)| (prefix.as_str(), bytes.get()))
        .collect();
    assert_eq!(quotas, [("team", 1000), ("team/app", 2000)]);
    assert!(yaml(&with("    # none\n")).unwrap().quotas.is_empty());
    refused(
        &with(
            "    team/: 5\n    team/**: 5\n    a: 0\n    b: -1\n    c: 10GiB\n    d: [1]\n    e: 1\n    e: 2\n    _catalog: 0\n",
        ),
        &[
            "4 storage.quota.\"team/\": expected a repository's name, such as team or team/app, got \"team/\"",
            "5 storage.quota.\"team/**\": expected a repository's name",
            "6 storage.quota.\"a\": expected bytes, at least 1, got 0; leave it out for no limit",
            "7 storage.quota.\"b\": expected bytes, at least 1, got -1",
            "8 storage.quota.c: expected a whole number, got \"10GiB\"",
            "9 storage.quota.d: expected a whole number, got a list",
            "11 storage.quota.e: stands twice, first on line 10",
            "12 storage.quota.\"_catalog\": expected a repository's name",
            "12 storage.quota.\"_catalog\": expected bytes",
        ],
    );
}

#[test]
fn keys_without_effect_are_warnings_one_for_each_reason() {
    let config = yaml("distSpecVersion: 1.0.1\nstorage: {rootDirectory: /d, dedupe: false, gc: true, gcDelay: 1h, gcInterval: 24h}\nhttp: {writeTimeout: 0}\nscheduler: {numWorkers: 4}").unwrap();
    let all = config.warnings.join("\n");
    for part in [
        "1.0.1",
        "storage.dedupe",
        "scheduler.numWorkers",
        "http.writeTimeout",
    ] {
        assert!(all.contains(part), "{part} is missing in\n{all}");
    }
    assert_eq!(config.warnings.len(), 4, "{all}");
}

#[test]
fn values_are_read_as_leniently_as_zot_reads_them() {
    let config = yaml("storage: {rootDirectory: /d, dedupe: \"true\"}\nHTTP: {Port: \"0\", readTimeout: 10s, writeTimeout: 120000000000, idleTimeout: 1h, compat: docker2s2, address: '[::1]', tls: }\nlog: {level: WARN, output: /dev/stderr}").unwrap();
    assert_eq!(config.listen.to_string(), "[::1]:0");
    let (server, stall) = (config.limits.server, config.limits.net.stall);
    assert_eq!(server.head_timeout, Duration::from_secs(10));
    assert_eq!(stall, Duration::from_secs(120));
    assert_eq!(server.idle_timeout, Duration::from_secs(3600));
    assert_eq!(
        config.log,
        Log {
            level: LogLevel::Warn,
            output: LogOutput::Stderr,
            audit: None,
            audit_required: false,
        }
    );
    refused(
        "storage: {rootDirectory: /d}\nhttp: {port: 1.5, readTimeout: 60, compat: [docker2s1], address: 'h:80'}",
        &[
            "2 http.port: expected a port",
            "2 http.readTimeout: expected a duration such as \"90s\"",
            "2 http.address: expected an address or a host name, got \"h:80\"; the port belongs into http.port",
            "2 http.compat[0]: expected docker2s2",
        ],
    );
}

#[test]
fn a_key_that_stands_twice_is_refused() {
    refused(
        "storage: {rootDirectory: /d}\nhttp:\n  port: 1\n  Port: 2\n",
        &["4 http.Port: stands twice, first on line 3"],
    );
}

#[test]
fn an_unreadable_or_malformed_file_is_one_fault() {
    let errors = load(Path::new("/no/such/file.json")).unwrap_err();
    assert_eq!(errors.faults[0].kind, FaultKind::Unreadable);
    let errors = parse(Path::new("x.json"), "{\n\"a\": }").unwrap_err();
    assert_eq!(
        (errors.faults[0].kind, errors.faults[0].line),
        (FaultKind::Syntax, Some(2))
    );
    assert!(
        errors
            .to_string()
            .starts_with("x.json has a fault:\n  x.json:2: not JSON: "),
        "{errors}"
    );
    assert_eq!(
        parse(Path::new("x.json"), "[]").unwrap_err().faults[0].kind,
        FaultKind::Value
    );
    refused("", &["- storage.rootDirectory: is required"]);
}

#[test]
fn secrets_never_show_in_faults() {
    let text = "storage:\n  storageDriver: {name: s3, secretkey: [hunter2]}\ncluster: {hashKey: hunter2hunter2x}\nhttp: {auth: {ldap: {bindPassword: hunter2}}}\n";
    let errors = yaml(text).unwrap_err();
    assert!(!errors.to_string().contains("hunter2"), "{errors}");
}

proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(text in "[a-z:{}\\[\\]\", \\n*&!|>-]{0,200}") {
        let _ = parse(Path::new("x.yaml"), &text);
        let _ = parse(Path::new("x.json"), &text);
    }

    #[test]
    fn a_broken_sample_is_read_without_a_panic(at in 0..CLUSTER.len(), insert in "[\\PC]{0,3}", cut in 0..20usize) {
        let (head, tail) = CLUSTER.split_at(at);
        let text = format!("{head}{insert}{}", tail.get(cut..).unwrap_or_default());
        let _ = parse(Path::new("x.json"), &text);
        let _ = parse(Path::new("x.yaml"), &text);
    }
}

#[test]
fn when_blobs_are_collected_is_read_as_in_zot() {
    let config = yaml("storage: {rootDirectory: /d, gcDelay: 2h, gcInterval: 30m, gcTimeWindow: '22:00-06:00', trashDelay: 12h}").unwrap();
    let (registry, collection) = (config.limits.registry, config.limits.collection);
    assert_eq!(config.collecting, Collecting::On);
    assert_eq!(registry.link_grace, Duration::from_secs(7200));
    assert_eq!(collection.interval, Duration::from_secs(1800));
    assert_eq!(collection.window, TimeWindow::parse("22:00-06:00"));
    assert_eq!(registry.object_delay, Duration::from_secs(43_200));
    assert_eq!(config.warnings, Vec::<String>::new());

    let told = yaml("storage: {rootDirectory: /d, historyEvents: 8760h}")
        .unwrap()
        .limits
        .registry;
    assert_eq!(told.history_events, Some(Duration::from_secs(8760 * 3600)));
    let short = yaml("storage: {rootDirectory: /d, history: 0, historyEvents: 1h}")
        .unwrap()
        .limits
        .registry;
    assert_eq!(short.history_events, Some(Duration::from_secs(3600)));
    for (keys, hours) in [
        ("historyEvents: 24h", 336),
        ("history: 48h, historyEvents: 47h", 48),
    ] {
        let problem = format!(
            "1 storage.historyEvents: expected at least storage.history ({hours} h): what can be brought back is told of"
        );
        refused(&format!("storage: {{rootDirectory: /d, {keys}}}"), &[&problem]);
    }

    let off = yaml("storage: {rootDirectory: /d, gc: false, trashDelay: 1m}").unwrap();
    assert_eq!(off.collecting, Collecting::Off);
    assert_eq!(off.warnings.len(), 1, "{:?}", off.warnings);

    refused(
        "storage: {rootDirectory: /d, gcInterval: 0, trashDelay: 0, gcTimeWindow: at night}",
        &[
            "1 storage.gcInterval: expected a duration above 0, like 1h",
            "1 storage.trashDelay: expected a duration above 0, like 1h",
            "1 storage.gcTimeWindow: expected two different times of the day in UTC, like 02:00-05:00, got \"at night\"",
        ],
    );
}

#[test]
fn registries_that_are_mirrored_are_read_with_their_rules() {
    let text = r#"
storage: {rootDirectory: /d, sparseIndexes: ["mirror/**"]}
extensions:
  sync:
    credentialsFile: /etc/logins.json
    downloadDir: /tmp
    registries:
      - urls: ["https://docker.io/", "http://Mirror.Example:5000"]
        onDemand: true
        manifestCheckInterval: 5m
        certDir: /etc/certs
        maxRetries: "5"
        retryDelay: 1s
        maxRetryDelay: 8s
        syncTimeout: 1h
        reqConcurrent: 4
        reqPerSec: 0.5
        bytesPerSec: 1000
        rangesBeforeVerified: true
        syncLegacyCosignTags: false
        onlySigned: true
        preserveDigest: true
        disableHTTP2: true
        maxIdleConnsPerHost: 3
        pollInterval: 6h
        platforms: [linux/amd64]
        realmHosts: [Login.Example]
        content:
          - {prefix: /library/**, destination: /hub, stripPrefix: true, tags: {regex: "^v", excludeRegex: rc, semver: true}}
          - {prefix: "a/b*/c"}
"#;
    let config = yaml(text).unwrap();
    let sync = config.sync.unwrap();
    assert_eq!(sync.credentials.as_deref(), Some(Path::new("/etc/logins.json")));
    let [registry] = &sync.registries[..] else {
        panic!("{sync:?}")
    };
    let urls: Vec<_> = registry.remote.urls.iter().map(ToString::to_string).collect();
    assert_eq!(
        urls,
        ["https://registry-1.docker.io", "http://mirror.example:5000"]
    );
    let seconds = |n| std::time::Duration::from_secs(n);
    assert_eq!(registry.check_interval, Some(seconds(300)));
    assert_eq!(registry.poll_interval, Some(seconds(6 * 3600)));
    assert_eq!(registry.remote.bytes_per_second.map(u64::from), Some(1000));
    assert!(registry.ranges_before_verified && registry.on_demand);
    assert!(registry.platforms[0].is("linux", "amd64", ""));
    assert_eq!(
        (registry.remote.retries, registry.remote.concurrent),
        (5, Some(4))
    );
    assert_eq!(
        (registry.remote.retry_delay, registry.remote.retry_delay_max),
        (seconds(1), seconds(8))
    );
    assert_eq!(
        (registry.timeout, registry.remote.spacing),
        (seconds(3600), Some(seconds(2)))
    );
    assert!(
        registry.remote.realm_hosts.contains("login.example")
            && !registry.cosign_tags
            && registry.only_signed
    );
    let rules: Vec<_> = registry
        .content
        .iter()
        .map(|rule| (rule.base.as_str(), rule.destination.as_str()))
        .collect();
    assert_eq!(rules, [("library", "hub"), ("a", "")]);
    let tags = &registry.content[0].tags;
    assert!(
        registry.content[0].strip_prefix && tags.semver && tags.regex.is_some() && tags.exclude.is_some()
    );
    assert_eq!(config.warnings.len(), 2, "{:?}", config.warnings);
    assert!(yaml("storage: {rootDirectory: /d}\nextensions: {sync: {enable: false, registries: [{urls: [x], onDemand: true}]}}").unwrap().sync.is_none());
    refused(
        r#"
storage: {rootDirectory: /d, sparseIndexes: ["A"]}
extensions:
  sync:
    registries:
      - {onDemand: true}
      - urls: ["https://u:p@x/", "https://x/path"]
        onDemand: true
        platforms: [arm64]
        onlySigned: perhaps
        tlsVerify: false
        certDir: /c
        reqConcurrent: 0
        reqPerSec: -1
        realmHosts: ["https://x"]
        credentialHelper: ecr
        content: [{}, {prefix: A}, {prefix: a, destination: "A", tags: {regex: "("}}]
"#,
        &[
            "2 storage.sparseIndexes[0]: \"A\": no repository's name",
            "6 extensions.sync.registries[0].urls: is required",
            "7 extensions.sync.registries[1].urls: expected http(s)://host or http(s)://host:port, got something with an @",
            "7 extensions.sync.registries[1].urls: expected http(s)://host or http(s)://host:port, got \"https://x/path\"",
            "9 extensions.sync.registries[1].platforms: expected platforms",
            "10 extensions.sync.registries[1].onlySigned: expected true or false",
            "12 extensions.sync.registries[1].certDir: with tlsVerify: false",
            "13 extensions.sync.registries[1].reqConcurrent: expected 1 to 10000, got 0",
            "14 extensions.sync.registries[1].reqPerSec: expected requests a second, more than 0, got -1",
            "15 extensions.sync.registries[1].realmHosts: expected hosts",
            "16 extensions.sync.registries[1].credentialHelper: no credential helper",
            "17 extensions.sync.registries[1].content[0].prefix: is required",
            "17 extensions.sync.registries[1].content[1].prefix: \"A\"",
            "17 extensions.sync.registries[1].content[2].destination: expected the beginning",
            "17 extensions.sync.registries[1].content[2].tags.regex: isn't a regular expression",
        ],
    );
}
