//! Rows of the top level and of `storage`, its drivers included.

use super::row::{
    Key,
    Kind::{Any, Bool, Driver, Duration, Int, List, Map, Object, OneOf, Secret, Section, Text, Texts},
    Verdict::{Later, Mapped, NoEffect, Own, Refused, Same},
    key,
};

const NO_COPY: &str = "nothing is ever copied inside the bucket";

pub(super) const TOP: &[Key] = &[
    key(
        "distSpecVersion",
        Text,
        Mapped("the specification served is 1.1; another version is accepted with a warning"),
    ),
    key("storage", Object, Same),
    key("http", Object, Same),
    key("log", Object, Same),
    key("cluster", Section, Same),
    key("extensions", Object, Same),
    key("scheduler", Object, Same),
    key(
        "scheduler.numWorkers",
        Int,
        NoEffect("there is no scheduler to size; background work has its own bounds"),
    ),
];

pub(super) const STORAGE: &[Key] = &[
    key(
        "storage.rootDirectory",
        Text,
        Mapped(
            "required without cacheDriver, which then is there (`meta.redb`), and without storageDriver, which then is there, too (`blobs`); with both, optional: nothing has to be kept on a replica",
        ),
    ),
    key(
        "storage.dedupe",
        Bool,
        Mapped("content is always stored once per cluster, whatever this says"),
    ),
    key(
        "storage.remoteCache",
        Bool,
        Mapped(
            "`true`: metadata is in cacheDriver; `false`: in rootDirectory, for one member; without it, as cacheDriver says",
        ),
    ),
    key(
        "storage.redirectBlobURL",
        Bool,
        Mapped(
            "as in zot: a GET of a blob without Range is answered 307 with a link to the bucket that lives for 20 minutes; without storageDriver blobs are served as ever",
        ),
    ),
    key(
        "storage.redirectMinBytes",
        Int,
        Own("bytes of the smallest blob that is redirected; without it, every one but the empty one"),
    ),
    key(
        "storage.cache",
        Object,
        Own("a folder of this machine for blobs that are pulled again and again: see docs/stores.md"),
    ),
    key(
        "storage.cache.path",
        Text,
        Own("the folder, of this member alone; made where it isn't there"),
    ),
    key(
        "storage.cache.bytes",
        Int,
        Own(
            "bytes that it may take up, 16777216 (16 MiB) at least; a blob of more than a quarter isn't kept",
        ),
    ),
    key(
        "storage.commit",
        Bool,
        Mapped("always on: what was acknowledged survives power loss"),
    ),
    key("storage.gc", Bool, Same),
    key("storage.gcDelay", Duration, Same),
    key("storage.gcInterval", Duration, Same),
    key("storage.gcTimeWindow", Text, Same),
    key(
        "storage.trashDelay",
        Duration,
        Own(
            "how long the object of a blob that was collected is kept, for those who are still reading it; 6h without it",
        ),
    ),
    key(
        "storage.history",
        Duration,
        Own(
            "how long what was deleted or overwritten can be brought back, without counting against quotas; 336h without it, 0 is not at all",
        ),
    ),
    key(
        "storage.historyEvents",
        Duration,
        Own(
            "how long it is told what became of tags and manifests, by whom and when: at least storage.history; without an end if it isn't said",
        ),
    ),
    key(
        "storage.fastRestart",
        Bool,
        Mapped("always on: a start walks nothing"),
    ),
    key(
        "storage.maxRepos",
        Int,
        Later(
            "a bound on how many there are comes with a later release: leave it out or say 0; storage.quota bounds their bytes",
        ),
    ),
    key(
        "storage.quota",
        Map,
        Own("bytes of blobs that repositories may hold, by prefix: see Storage above"),
    ),
    key(
        "storage.quota.*",
        Int,
        Own("bytes, at least 1, for the repository of this name and all below it together"),
    ),
    key(
        "storage.immutableTags",
        Map,
        Own("rules, by name, which tags nobody moves or deletes: see Storage above"),
    ),
    key(
        "storage.immutableTags.*",
        Object,
        Own("a rule; refusals give its name"),
    ),
    key(
        "storage.immutableTags.*.repositories",
        Texts,
        Own("patterns of the repositories it is for, as in http.accessControl"),
    ),
    key(
        "storage.immutableTags.*.tags",
        Texts,
        Own("patterns of the tags that stay; * stands for any characters"),
    ),
    key(
        "storage.immutableTags.*.except",
        Texts,
        Own("patterns of tags that may move all the same"),
    ),
    key(
        "storage.verifyReads",
        Bool,
        Own(
            "hash every blob that is pulled whole, and break off before its end where it is wrong: see Storage above",
        ),
    ),
    key(
        "storage.sparseIndexes",
        Texts,
        Own(
            "patterns of repositories into which clients may push an index whose entries aren't there: see docs/mirror.md",
        ),
    ),
    key(
        "storage.subPaths",
        Any,
        Refused(
            "a cluster has one store for all repositories: leave it out, or run a second cluster for the other store",
        ),
    ),
    key("storage.retention", Object, Same),
    key("storage.retention.dryRun", Bool, Same),
    key("storage.retention.delay", Duration, Same),
    key("storage.retention.policies", List, Same),
    key("storage.retention.policies[].repositories", Texts, Same),
    key("storage.retention.policies[].deleteReferrers", Bool, Same),
    key("storage.retention.policies[].deleteUntagged", Bool, Same),
    key("storage.retention.policies[].keepTags", List, Same),
    key("storage.retention.policies[].keepTags[].patterns", Texts, Same),
    key(
        "storage.retention.policies[].keepTags[].mostRecentlyPushedCount",
        Int,
        Same,
    ),
    key(
        "storage.retention.policies[].keepTags[].mostRecentlyPulledCount",
        Int,
        Same,
    ),
    key(
        "storage.retention.policies[].keepTags[].pulledWithin",
        Duration,
        Same,
    ),
    key(
        "storage.retention.policies[].keepTags[].pushedWithin",
        Duration,
        Same,
    ),
    key("storage.retention.policies[].keepUntagged", Object, Same),
    key(
        "storage.retention.policies[].keepUntagged.mostRecentlyPushedCount",
        Int,
        Same,
    ),
    key(
        "storage.retention.policies[].keepUntagged.mostRecentlyPulledCount",
        Int,
        Same,
    ),
    key(
        "storage.retention.policies[].keepUntagged.pulledWithin",
        Duration,
        Same,
    ),
    key(
        "storage.retention.policies[].keepUntagged.pushedWithin",
        Duration,
        Same,
    ),
    key("storage.storageDriver", Driver(&["s3", "gcs", "azure"]), Same),
    key(
        "storage.storageDriver.name",
        Text,
        Mapped("`s3`; `gcs` and `azure` are refused"),
    ),
    key(
        "storage.cacheDriver",
        Driver(&["dynamodb", "postgres", "redis", "boltdb"]),
        Same,
    ),
    key(
        "storage.cacheDriver.name",
        Text,
        Mapped("`dynamodb`, `redis` or our own `postgres`; `boltdb` means `meta.redb` in rootDirectory"),
    ),
];

const STORAGE_CLASSES: &[&str] = &[
    "NONE",
    "STANDARD",
    "REDUCED_REDUNDANCY",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "OUTPOSTS",
    "GLACIER_IR",
];
const ACLS: &[&str] = &[
    "private",
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
];

pub(super) const S3: &[Key] = &[
    key("storage.storageDriver.bucket", Text, Same).of("s3"),
    key("storage.storageDriver.region", Text, Mapped("required without regionendpoint; with it, us-east-1 unless given")).of("s3"),
    key("storage.storageDriver.regionendpoint", Text, Mapped("with or without a scheme; without one, `secure` decides")).of("s3"),
    key("storage.storageDriver.rootdirectory", Text, Mapped("the prefix of every key, used once (zot prefixes twice)")).of("s3"),
    key("storage.storageDriver.accesskey", Text, Mapped("with secretkey; without both, the AWS chain (environment, profile, web identity, instance)")).of("s3"),
    key("storage.storageDriver.secretkey", Secret, Same).of("s3"),
    key("storage.storageDriver.sessiontoken", Secret, Same).of("s3"),
    key("storage.storageDriver.forcepathstyle", Bool, Mapped("true when regionendpoint is given, unless said otherwise")).of("s3"),
    key("storage.storageDriver.secure", Bool, Mapped("true by default; the scheme of a regionendpoint that has none")).of("s3"),
    key("storage.storageDriver.skipverify", Bool, Same).of("s3"),
    key("storage.storageDriver.encrypt", Bool, Same).of("s3"),
    key("storage.storageDriver.keyid", Secret, Mapped("the KMS key; needs encrypt")).of("s3"),
    key("storage.storageDriver.chunksize", Int, Mapped("bytes of a part: 5 MiB to 5 GiB, 8 MiB by default (zot: 10 MiB); a transfer holds a few parts in memory")).of("s3"),
    key("storage.storageDriver.storageclass", OneOf(STORAGE_CLASSES), Same).of("s3"),
    key("storage.storageDriver.objectacl", OneOf(ACLS), Same).of("s3"),
    key("storage.storageDriver.usedualstack", Bool, Same).of("s3"),
    key("storage.storageDriver.usefipsendpoint", Bool, Same).of("s3"),
    key("storage.storageDriver.accelerate", Bool, Same).of("s3"),
    key("storage.storageDriver.useragent", Text, Mapped("added to our own")).of("s3"),
    key("storage.storageDriver.createbucket", Bool, Own("create the bucket when it is missing; false by default, a missing bucket refuses the start")).of("s3"),
    key("storage.storageDriver.v4auth", Bool, Mapped("true; signature version 2 (`false`) is refused")).of("s3"),
    key("storage.storageDriver.multipartcopychunksize", Int, NoEffect(NO_COPY)).of("s3"),
    key("storage.storageDriver.multipartcopymaxconcurrency", Int, NoEffect(NO_COPY)).of("s3"),
    key("storage.storageDriver.multipartcopythresholdsize", Int, NoEffect(NO_COPY)).of("s3"),
    key("storage.storageDriver.loglevel", Text, NoEffect("log.level decides for the whole program")).of("s3"),
    key(
        "storage.storageDriver.redirectendpoint",
        Text,
        Mapped(
            "as in zot: where clients reach the bucket, http(s)://host or http(s)://host:port, in links made by redirectBlobURL; without it, where members do",
        ),
    )
    .of("s3"),
];

const NOT_GCS: &str = "Google Cloud Storage is not supported: use its S3 interoperability (name: s3, regionendpoint: storage.googleapis.com, HMAC keys) at your own risk, or another S3 store";
const NOT_AZURE: &str = "Azure Blob Storage is not supported: use an S3 store";

pub(super) const GCS: &[Key] = &[
    key("storage.storageDriver.bucket", Text, Refused(NOT_GCS)).of("gcs"),
    key("storage.storageDriver.keyfile", Text, Refused(NOT_GCS)).of("gcs"),
    key("storage.storageDriver.credentials", Any, Refused(NOT_GCS)).of("gcs"),
    key("storage.storageDriver.rootdirectory", Text, Refused(NOT_GCS)).of("gcs"),
    key("storage.storageDriver.chunksize", Int, Refused(NOT_GCS)).of("gcs"),
    key("storage.storageDriver.maxconcurrency", Int, Refused(NOT_GCS)).of("gcs"),
    key("storage.storageDriver.useragent", Text, Refused(NOT_GCS)).of("gcs"),
];

pub(super) const AZURE: &[Key] = &[
    key("storage.storageDriver.accountname", Text, Refused(NOT_AZURE)).of("azure"),
    key("storage.storageDriver.accountkey", Secret, Refused(NOT_AZURE)).of("azure"),
    key("storage.storageDriver.container", Text, Refused(NOT_AZURE)).of("azure"),
    key("storage.storageDriver.credentials", Any, Refused(NOT_AZURE)).of("azure"),
    key("storage.storageDriver.realm", Text, Refused(NOT_AZURE)).of("azure"),
    key("storage.storageDriver.serviceurl", Text, Refused(NOT_AZURE)).of("azure"),
    key("storage.storageDriver.rootdirectory", Text, Refused(NOT_AZURE)).of("azure"),
    key("storage.storageDriver.max_retries", Int, Refused(NOT_AZURE)).of("azure"),
    key("storage.storageDriver.retry_delay", Duration, Refused(NOT_AZURE)).of("azure"),
    key(
        "storage.storageDriver.copy_status_poll_max_retry",
        Int,
        Refused(NOT_AZURE),
    )
    .of("azure"),
    key(
        "storage.storageDriver.copy_status_poll_delay",
        Duration,
        Refused(NOT_AZURE),
    )
    .of("azure"),
];

const FORMER_TABLES: &str = "zot's tables of former releases, which today's ignores, too";

pub(super) const DYNAMODB: &[Key] = &[
    key("storage.cacheDriver.region", Text, Same).of("dynamodb"),
    key("storage.cacheDriver.endpoint", Text, Same).of("dynamodb"),
    key(
        "storage.cacheDriver.cacheTablename",
        Text,
        Mapped("blobs by digest, and work by due time; our own schema"),
    )
    .of("dynamodb"),
    key(
        "storage.cacheDriver.repoMetaTablename",
        Text,
        Mapped("repositories and their tags; our own schema"),
    )
    .of("dynamodb"),
    key(
        "storage.cacheDriver.imageMetaTablename",
        Text,
        Mapped("manifests and referrers; our own schema"),
    )
    .of("dynamodb"),
    key(
        "storage.cacheDriver.manifestDataTablename",
        Text,
        NoEffect(FORMER_TABLES),
    )
    .of("dynamodb"),
    key(
        "storage.cacheDriver.indexDataTablename",
        Text,
        NoEffect(FORMER_TABLES),
    )
    .of("dynamodb"),
    key(
        "storage.cacheDriver.artifactDataTablename",
        Text,
        NoEffect(FORMER_TABLES),
    )
    .of("dynamodb"),
    key(
        "storage.cacheDriver.repoBlobsInfoTablename",
        Text,
        Mapped("which repository holds which blob; our own schema"),
    )
    .of("dynamodb"),
    key(
        "storage.cacheDriver.userDataTablename",
        Text,
        Mapped("preferences and groups; our own schema"),
    )
    .of("dynamodb"),
    key(
        "storage.cacheDriver.apiKeyTablename",
        Text,
        Mapped("API keys; our own schema"),
    )
    .of("dynamodb"),
    key(
        "storage.cacheDriver.versionTablename",
        Text,
        Mapped("the schema's number; our own schema"),
    )
    .of("dynamodb"),
    key(
        "storage.cacheDriver.uploadsTablename",
        Text,
        Own("upload sessions; `<versionTablename>-uploads` by default"),
    )
    .of("dynamodb"),
    key(
        "storage.cacheDriver.membersTablename",
        Text,
        Own("leases of members; `<versionTablename>-members` by default"),
    )
    .of("dynamodb"),
];

pub(super) const POSTGRES: &[Key] = &[
    key(
        "storage.cacheDriver.url",
        Secret,
        Own(
            "`postgres://user:password@host:5432,other:5432/database`, or libpq's `host=... user=...`; the primary is found among several hosts; TLS, with the server's name verified, unless it says sslmode=disable",
        ),
    )
    .of("postgres"),
    key(
        "storage.cacheDriver.password",
        Secret,
        Own("the password, where url has none"),
    )
    .of("postgres"),
    key(
        "storage.cacheDriver.cacert",
        Text,
        Own("PEM file of certificates to trust in place of the machine's"),
    )
    .of("postgres"),
    key(
        "storage.cacheDriver.schema",
        Text,
        Own("the schema, `portolan` by default; made by the first member that starts"),
    )
    .of("postgres"),
];

const BOUNDS: &str = "the bounds are our own";
const PRIMARY: &str = "only the server that takes writes answers: another may not have what was acknowledged";

pub(super) const REDIS: &[Key] = &[
    key(
        "storage.cacheDriver.url",
        Secret,
        Mapped("`redis://user:password@host:6379/0`, `rediss://` with TLS; the server's name is verified. `?addr=` is Cluster, which is refused"),
    )
    .of("redis"),
    key(
        "storage.cacheDriver.addr",
        Texts,
        Mapped("in place of url: one server, or with master_name its Sentinels; several without are Cluster, which is refused"),
    )
    .of("redis"),
    key("storage.cacheDriver.master_name", Text, Mapped("what Sentinels call the server; needs durability: relaxed")).of("redis"),
    key("storage.cacheDriver.keyprefix", Text, Mapped("what our keys begin with; `portolan` by default (zot: `zot`), none of zot's names is used")).of("redis"),
    key("storage.cacheDriver.db", Int, Same).of("redis"),
    key("storage.cacheDriver.username", Text, Same).of("redis"),
    key("storage.cacheDriver.password", Secret, Mapped("the password, where url has none")).of("redis"),
    key("storage.cacheDriver.sentinel_username", Text, Same).of("redis"),
    key("storage.cacheDriver.sentinel_password", Secret, Same).of("redis"),
    key("storage.cacheDriver.client_name", Text, Mapped("`portolan` by default")).of("redis"),
    key(
        "storage.cacheDriver.cacert",
        Text,
        Own("PEM file of certificates to trust in place of the machine's; with addr, TLS is spoken where it is given"),
    )
    .of("redis"),
    key(
        "storage.cacheDriver.durability",
        OneOf(&["strict", "relaxed"]),
        Own("`strict` by default: a server that may lose what it has acknowledged is refused; `relaxed` takes it, and says so at each start and in `/readyz`"),
    )
    .of("redis"),
    key("storage.cacheDriver.protocol", Int, NoEffect("version 2 of the protocol is spoken, which all servers know")).of("redis"),
    key("storage.cacheDriver.max_retries", Int, NoEffect(BOUNDS)).of("redis"),
    key("storage.cacheDriver.min_retry_backoff", Duration, NoEffect(BOUNDS)).of("redis"),
    key("storage.cacheDriver.max_retry_backoff", Duration, NoEffect(BOUNDS)).of("redis"),
    key("storage.cacheDriver.dial_timeout", Duration, NoEffect(BOUNDS)).of("redis"),
    key("storage.cacheDriver.read_timeout", Duration, NoEffect(BOUNDS)).of("redis"),
    key("storage.cacheDriver.write_timeout", Duration, NoEffect(BOUNDS)).of("redis"),
    key("storage.cacheDriver.context_timeout_enabled", Bool, NoEffect(BOUNDS)).of("redis"),
    key("storage.cacheDriver.pool_fifo", Bool, NoEffect(BOUNDS)).of("redis"),
    key("storage.cacheDriver.pool_size", Int, NoEffect(BOUNDS)).of("redis"),
    key("storage.cacheDriver.pool_timeout", Duration, NoEffect(BOUNDS)).of("redis"),
    key("storage.cacheDriver.min_idle_conns", Int, NoEffect(BOUNDS)).of("redis"),
    key("storage.cacheDriver.max_idle_conns", Int, NoEffect(BOUNDS)).of("redis"),
    key("storage.cacheDriver.max_active_conns", Int, NoEffect(BOUNDS)).of("redis"),
    key("storage.cacheDriver.conn_max_idle_time", Duration, NoEffect(BOUNDS)).of("redis"),
    key("storage.cacheDriver.conn_max_lifetime", Duration, NoEffect(BOUNDS)).of("redis"),
    key("storage.cacheDriver.max_redirects", Int, NoEffect("there are none: Cluster is refused")).of("redis"),
    key("storage.cacheDriver.read_only", Bool, NoEffect(PRIMARY)).of("redis"),
    key("storage.cacheDriver.route_by_latency", Bool, NoEffect(PRIMARY)).of("redis"),
    key("storage.cacheDriver.route_randomly", Bool, NoEffect(PRIMARY)).of("redis"),
    key("storage.cacheDriver.disable_identity", Bool, NoEffect("nothing is said of the library")).of("redis"),
    key("storage.cacheDriver.identity_suffix", Text, NoEffect("nothing is said of the library")).of("redis"),
    key("storage.cacheDriver.unstable_resp3", Bool, NoEffect("version 2 of the protocol is spoken, which all servers know")).of("redis"),
];
