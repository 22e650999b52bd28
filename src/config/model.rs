//! What a valid configuration is. Nothing here can be wrong by itself; what only the machine can tell (a certificate
//! that isn't there, a bucket that doesn't answer) is for `verify` and the start.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::{NonZeroU32, NonZeroU64},
    path::PathBuf,
    time::Duration,
};

use http::Method;

use super::{
    access::{AccessControl, Logins},
    events::Events,
    immutable::ImmutableTags,
    limits::Limits,
    retention::Retention,
    secret::Secret,
    sync::{Replicate, Sync},
};
use crate::{
    oci::{RepoName, RepoPattern},
    placement::{HashKey, MemberId},
};

/// The whole configuration of one member.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it was read from; `None` without one.
    pub source: Option<PathBuf>,
    /// Where the public listener listens.
    pub listen: Listen,
    /// The certificate of the public listener, and the CA of its clients.
    pub public_tls: Option<TlsFiles>,
    /// How one logs in.
    pub logins: Logins,
    /// Who may do what; `None` is everything for who has logged in, or for everybody where nobody can.
    pub access: Option<AccessControl>,
    /// Where content and metadata are.
    pub storage: Storage,
    /// How many bytes of blobs the repositories below each prefix may hold.
    pub quotas: BTreeMap<RepoName, NonZeroU64>,
    /// Which tags nobody moves or deletes.
    pub immutable_tags: Vec<ImmutableTags>,
    /// Whether blobs of any length are hashed when they are read whole.
    pub verify_reads: bool,
    /// How blobs get to those who pull them.
    pub delivery: Delivery,
    /// Whether this member collects what no manifest references.
    pub collecting: Collecting,
    /// Every bound, those that keys set among them.
    pub limits: Limits,
    /// Which tags and manifests are kept.
    pub retention: Retention,
    /// Where clients may push an index whose entries aren't there.
    pub sparse_indexes: Vec<RepoPattern>,
    /// What is mirrored from elsewhere.
    pub sync: Option<Sync>,
    /// What is sent on to other registries; `None` is nothing.
    pub replicate: Option<Replicate>,
    /// How many requests a client may make.
    pub rate_limits: RateLimits,
    /// How clients see the registry, `scheme://host` and perhaps `:port`.
    pub external_url: Option<String>,
    /// What is offered beside the distribution API.
    pub extensions: Extensions,
    /// What is logged, and whereto.
    pub log: Log,
    /// The mesh; `None` is one member by itself.
    pub cluster: Option<Cluster>,
    /// Remarks on what was accepted; the start logs them, `verify` prints them.
    pub warnings: Vec<String>,
}

/// How blobs get to those who pull them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Delivery {
    /// Which of them clients are sent to the store for.
    pub redirects: Redirects,
    /// Where those are kept that are asked for again (`storage.cache`).
    pub cache: Option<CacheConfig>,
}

/// A folder of this machine for hot content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheConfig {
    /// The folder, of this member alone.
    pub path: PathBuf,
    /// Bytes that all files in it may have together.
    pub bytes: u64,
}

/// `storage.redirectBlobURL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Redirects {
    /// None: the registry answers with the bytes.
    #[default]
    Off,
    /// Those of at least `bytes` (`storage.redirectMinBytes`), but for the empty one.
    From {
        /// See above.
        bytes: u64,
    },
}

/// What is offered beside the distribution API (`extensions`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extensions {
    /// zot's search API.
    pub search: Searching,
    /// The page for people.
    pub ui: UserInterface,
    /// Origins whose pages may ask (`http.allowOrigin`); without any, all.
    pub origins: Vec<String>,
    /// Who is told of changes.
    pub events: Events,
    /// From the begin of one reading of all content to that of the next (`extensions.scrub`); `None` is never.
    pub scrub: Option<Duration>,
}

/// `extensions.search`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Searching {
    /// As long as it isn't asked for.
    #[default]
    Off,
    /// Offered.
    On,
}

/// `extensions.ui`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UserInterface {
    /// As long as it isn't asked for.
    #[default]
    Off,
    /// Shown.
    On,
}

/// `storage.gc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Collecting {
    /// As long as it isn't said otherwise.
    #[default]
    On,
    /// What is garbage stays until a member collects.
    Off,
}

impl Config {
    /// The configuration without a file: one member by itself on 127.0.0.1:5000, its store under `root`.
    #[must_use]
    pub fn single(root: PathBuf) -> Self {
        Self {
            source: None,
            listen: Listen {
                address: ListenAddress::Ip(Ipv4Addr::LOCALHOST.into()),
                port: 5000,
            },
            public_tls: None,
            logins: Logins::default(),
            access: None,
            storage: Storage::embedded(root),
            quotas: BTreeMap::new(),
            immutable_tags: Vec::new(),
            verify_reads: false,
            delivery: Delivery::default(),
            collecting: Collecting::default(),
            limits: Limits::default(),
            retention: Retention::default(),
            sparse_indexes: Vec::new(),
            sync: None,
            replicate: None,
            rate_limits: RateLimits::default(),
            external_url: None,
            extensions: Extensions::default(),
            log: Log::default(),
            cluster: None,
            warnings: Vec::new(),
        }
    }
}

/// An address to listen on and its port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// The address.
    pub address: ListenAddress,
    /// The port; 0 takes a free one.
    pub port: u16,
}

/// One address, all of them (`0.0.0.0`, `::`), or a name that stands for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// An address.
    Ip(IpAddr),
    /// A name, in lower case; resolved at the start.
    Name(String),
}

impl ListenAddress {}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            ListenAddress::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            ListenAddress::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// PEM files of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The CA that clients' certificates chain to.
    pub client_ca: Option<PathBuf>,
}

/// Where content and metadata are. `storage::open` opens them; what a driver is like, it says itself.
#[derive(Debug, Clone)]
pub struct Storage {
    /// Where content is.
    pub blobs: BlobStorage,
    /// Where metadata is.
    pub meta: MetaStorage,
}

/// The driver of the blob store.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "a process has one")]
pub enum BlobStorage {
    /// Files in a directory of this machine, for one process.
    Files {
        /// The directory, which is that of the metadata, too.
        root: PathBuf,
    },
    /// A bucket.
    S3(S3Config),
}

/// The driver of the metadata store.
#[derive(Debug, Clone)]
pub enum MetaStorage {
    /// A file in a directory of this machine, for one process.
    Redb {
        /// The directory.
        root: PathBuf,
    },
    /// Tables of DynamoDB.
    Dynamo(DynamoConfig),
    /// A schema of PostgreSQL.
    Postgres(PostgresConfig),
    /// Keys of Redis or Valkey.
    Redis(RedisConfig),
}

impl Storage {
    /// Everything in a directory of this machine, for one process.
    #[must_use]
    pub fn embedded(root: PathBuf) -> Self {
        Self {
            blobs: BlobStorage::Files { root: root.clone() },
            meta: MetaStorage::Redb { root },
        }
    }

    /// Whether several processes can have it at a time.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        match (&self.blobs, &self.meta) {
            (BlobStorage::Files { .. }, _) | (_, MetaStorage::Redb { .. }) => false,
            (
                BlobStorage::S3(_),
                MetaStorage::Dynamo(_) | MetaStorage::Postgres(_) | MetaStorage::Redis(_),
            ) => true,
        }
    }
}

/// An S3 bucket and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Config {
    /// The bucket.
    pub bucket: String,
    /// The region.
    pub region: String,
    /// The endpoint with its scheme, `http://host:port`, no slash at the end; `None` is AWS.
    pub endpoint: Option<String>,
    /// The bucket is in the path, not in the host name.
    pub path_style: bool,
    /// The server's certificate is checked.
    pub verify_certificate: bool,
    /// The prefix of every key, without slashes at its ends; may be empty.
    pub prefix: String,
    /// Fixed credentials; `None` is the AWS chain.
    pub credentials: Option<S3Credentials>,
    /// Server-side encryption.
    pub encryption: Option<S3Encryption>,
    /// The storage class of new objects.
    pub storage_class: Option<String>,
    /// The canned ACL of new objects.
    pub acl: Option<String>,
    /// Dual-stack endpoints of AWS.
    pub dual_stack: bool,
    /// FIPS endpoints of AWS.
    pub fips: bool,
    /// Transfer acceleration of AWS.
    pub accelerate: bool,
    /// Added to our user agent.
    pub user_agent: Option<String>,
    /// Create the bucket when it is missing.
    pub create_bucket: bool,
    /// The endpoint that clients reach it at, as `endpoint`; `None` is the same.
    pub redirect_endpoint: Option<String>,
}

/// Fixed credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Credentials {
    /// The access key's id.
    pub access_key: String,
    /// The secret.
    pub secret_key: Secret,
    /// The token of a session.
    pub session_token: Option<Secret>,
}

/// Server-side encryption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum S3Encryption {
    /// With keys that S3 manages (AES256).
    Managed,
    /// With this KMS key.
    Kms(Secret),
}

/// DynamoDB and our tables in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DynamoConfig {
    /// The region.
    pub region: String,
    /// The endpoint with its scheme; `None` is AWS.
    pub endpoint: Option<String>,
    /// The tables.
    pub tables: DynamoTables,
}

/// The names of our tables, all different.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DynamoTables {
    /// Blobs by digest and work by due time (`cacheTablename`).
    pub cache: String,
    /// Repositories and their tags.
    pub repo_meta: String,
    /// Manifests and referrers.
    pub image_meta: String,
    /// Which repository holds which blob.
    pub repo_blobs_info: String,
    /// Preferences and groups.
    pub user_data: String,
    /// API keys.
    pub api_key: String,
    /// The schema's number.
    pub version: String,
    /// Upload sessions.
    pub uploads: String,
    /// Leases of members.
    pub members: String,
}

impl DynamoTables {
    /// All of them, by the configuration key that names each.
    #[must_use]
    pub fn by_key(&self) -> [(&'static str, &str); 9] {
        [
            ("cacheTablename", &self.cache),
            ("repoMetaTablename", &self.repo_meta),
            ("imageMetaTablename", &self.image_meta),
            ("repoBlobsInfoTablename", &self.repo_blobs_info),
            ("userDataTablename", &self.user_data),
            ("apiKeyTablename", &self.api_key),
            ("versionTablename", &self.version),
            ("uploadsTablename", &self.uploads),
            ("membersTablename", &self.members),
        ]
    }
}

/// A database of PostgreSQL and our schema in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresConfig {
    /// The servers, of which one is the primary, the database, the user and how to log in. TLS is required or disabled.
    pub servers: tokio_postgres::Config,
    /// Certificates to trust; `None` is what this machine trusts.
    pub authority: Option<PathBuf>,
    /// The schema: a lower-case identifier that needs no quotes.
    pub schema: String,
}

/// A server of Redis or Valkey and our keys in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisConfig {
    /// Where it is.
    pub servers: RedisServers,
    /// Who logs in; `None` is the default user.
    pub user: Option<String>,
    /// With which password; `None` without.
    pub password: Option<Secret>,
    /// Whether it is spoken to over TLS, and its Sentinels, too.
    pub tls: RedisTls,
    /// The number of the database.
    pub database: u32,
    /// What every key begins with, before a colon.
    pub prefix: String,
    /// What connections are called.
    pub client_name: String,
    /// What it must promise.
    pub durability: Durability,
}

/// Where a Redis server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisServers {
    /// There.
    One(ServerAddress),
    /// Where the Sentinels say.
    Sentinels {
        /// Any of which may be asked; at least one.
        addresses: Vec<ServerAddress>,
        /// What they call it.
        master: String,
        /// Who logs in at them; `None` is the default user.
        user: Option<String>,
        /// With which password; `None` without.
        password: Option<Secret>,
    },
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAddress {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        match host.contains(':') {
            true => write!(f, "[{host}]:{port}"),
            false => write!(f, "{host}:{port}"),
        }
    }
}

/// TLS to a Redis server. Its certificate and its name are always verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisTls {
    /// None.
    Off,
    /// As the server must have it.
    On {
        /// Certificates to trust; `None` is what this machine trusts.
        authority: Option<PathBuf>,
    },
}

/// What a server must promise of what it acknowledges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Never to lose it.
    Strict,
    /// Nothing: somebody accepted that.
    Relaxed,
}

/// How many requests a second one client may make; none is as many as it likes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RateLimits {
    /// Of all methods together.
    pub all: Option<NonZeroU32>,
    /// Of single methods, each at most once.
    pub methods: Vec<(Method, NonZeroU32)>,
}

/// What is logged, and whereto.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Log {
    /// How much.
    pub level: LogLevel,
    /// Whereto.
    pub output: LogOutput,
    /// Whereto a line for every change goes; `None` is nowhere.
    pub audit: Option<LogOutput>,
    /// Whether a member isn't ready while that can't be written.
    pub audit_required: bool,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What failed here.
    Error,
    /// What deserves a look.
    Warn,
    /// A line a request.
    #[default]
    Info,
    /// What it takes to follow one request.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The name that filters of `tracing` know.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Whereto the log goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LogOutput {
    /// Standard output.
    #[default]
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, appended to.
    File(PathBuf),
}

/// The mesh as this member sees it.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// The members, no two of one host; `None` is dynamic membership, by leases and `tls.member_san`.
    pub members: Option<Vec<MemberId>>,
    /// The key of placement.
    pub hash_key: HashKey,
    /// The port of the mesh, the same on every member.
    pub mesh_port: u16,
    /// Where the mesh listens; `None` is the public listener's address.
    pub mesh_address: Option<ListenAddress>,
    /// Its certificates.
    pub tls: MeshTls,
}

impl Cluster {
    /// Where the mesh listener listens, beside the public one.
    #[must_use]
    pub fn mesh_listen(&self, public: &Listen) -> Listen {
        let address = self
            .mesh_address
            .clone()
            .unwrap_or_else(|| public.address.clone());
        Listen {
            address,
            port: self.mesh_port,
        }
    }
}

/// Certificates of the mesh, and who is who by them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshTls {
    /// The CA that members' and operators' certificates chain to.
    pub ca: PathBuf,
    /// This member's certificate chain, for both directions.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Whose pair that is.
    pub pair: PairSource,
    /// SANs of certificates that may read diagnostics, and nothing else.
    pub operators: Vec<String>,
    /// SANs of certificates that may do that, and drain members.
    pub administrators: Vec<String>,
    /// Without `members`: the SAN that makes a certificate a member's; `*.` in front stands for one label.
    pub member_san: Option<String>,
}

/// Where the mesh's certificate was configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PairSource {
    /// `cluster.tls.cert` and `.key`.
    Cluster,
    /// `http.tls`, for want of the former: it needs the clientAuth usage too.
    Public,
}
