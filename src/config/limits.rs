//! The bounds that a configuration or a test changes, with their defaults, in one place.
//!
//! Nothing waits, queues, buffers or counts without a bound; those that nobody changes are constants beside the code that keeps to them. Each section is what a room is told of its bounds, as it is:
//! rooms have no copies and no defaults of their own. `config` reads over some of them, and `app` hands them down; tests lower what they want to
//! reach. Deliberately absent: bounds that a protocol or a store sets (4 MiB of a manifest and
//! 1,000 names of a page in `oci`, 256 KiB of a frame in `mesh`, 100 operations of a transaction and the queues of the
//! drivers in `storage`), which live with the code that meets them.

use std::time::Duration;

use super::TimeWindow;

#[cfg(test)]
mod tests;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

const fn minutes(n: u64) -> Duration {
    secs(60 * n)
}

const fn hours(n: u64) -> Duration {
    minutes(60 * n)
}

const fn days(n: u64) -> Duration {
    hours(24 * n)
}

/// Structures whose fields have their default beside them, unless it is that of their type.
macro_rules! bounds {
    (@) => { Default::default() };
    (@ $default:expr) => { $default };
    ($($(#[$about:meta])* pub struct $section:ident {
        $($(#[$doc:meta])* pub $bound:ident: $kind:ty $(= $default:expr)?,)*
    })*) => {$(
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $section {
            $($(#[$doc])* pub $bound: $kind,)*
        }

        impl Default for $section {
            fn default() -> Self {
                Self { $($bound: bounds!(@ $($default)?),)* }
            }
        }
    )*};
}

bounds! {
/// The bounds, by what they are of. Bytes, counts and durations say so in their names or types.
pub struct Limits {
    /// What connections of clients and of members have in common.
    pub net: NetLimits,
    /// Connections of clients.
    pub server: ServerLimits,
    /// Requests of clients.
    pub front: FrontLimits,
    /// Passwords that are found to be right, by a hash or by a directory.
    pub passwords: PasswordLimits,
    /// Directories (LDAP).
    pub directory: DirectoryLimits,
    /// Other things of logins.
    pub logins: LoginLimits,
    /// What the registry itself signs.
    pub tokens: TokenLimits,
    /// Identity providers.
    pub providers: ProviderLimits,
    /// Search.
    pub search: SearchLimits,
    /// What is pushed, pulled and deleted.
    pub registry: RegistryLimits,
    /// Between members.
    pub mesh: MeshLimits,
    /// Who is there.
    pub leases: LeaseLimits,
    /// S3.
    pub s3: S3Limits,
    /// DynamoDB.
    pub dynamo: DynamoLimits,
    /// PostgreSQL.
    pub postgres: PostgresLimits,
    /// Redis and Valkey.
    pub redis: RedisLimits,
    /// Other registries (`extensions.sync`).
    pub upstream: UpstreamLimits,
    /// What is fetched from them.
    pub mirror: MirrorLimits,
    /// Registries that a person moves images from or to.
    pub visits: VisitLimits,
    /// Reading all content (`extensions.scrub`, `portolan scrub`).
    pub scrub: ScrubLimits,
    /// Rounds of a worker that looks at due-rows.
    pub upkeep: RoundLimits,
    /// The same of the worker that collects: each row costs up to five requests to the metadata store.
    pub collection: RoundLimits = RoundLimits { interval: hours(1), rows_per_second: 250, ..RoundLimits::default() },
    /// Changes of names, before history, search and events see them.
    pub changes: ChangeLimits,
    /// Events.
    pub events: EventLimits,
    /// Repositories that another registry lacks changes of (`extensions.replicate`); the changes themselves are carried as events are.
    pub replication: ReplicationLimits,
    /// The end of a member.
    pub ending: EndingLimits,
    /// Certificates that end.
    pub certificates: CertificateLimits,
    /// `portolan verify`.
    pub verify: VerifyLimits,
}

/// What connections of clients and of members have in common.
pub struct NetLimits {
    /// Time for a TLS handshake, public and mesh.
    pub handshake: Duration = secs(10),
    /// Time without a byte of progress after which a transfer is aborted, in either direction (`http.writeTimeout`).
    pub stall: Duration = minutes(1),
    /// Bytes a second: what comes more slowly gives way when others wait, a permit or memory.
    pub slow_body: u64 = 16 * KIB as u64,
    /// Over which time that is measured; time when nobody waits for the body's next bytes doesn't count.
    pub slow_body_window: Duration = secs(5),
}

/// Connections of clients.
pub struct ServerLimits {
    /// Connections of the public listener; more wait in the kernel's backlog. An idle one costs about 10 KiB.
    pub connections: usize = 16_384,
    /// Of them, connections of one client address (of an IPv6 client, its /64); for more its idle ones go, the oldest first,
    /// and where none is idle they are closed at once. Half: so that one
    /// address alone can't keep all others out, yet a balancer in front can be the only client there is.
    pub connections_per_client: usize = 8_192,
    /// Bytes of a connection's read buffer and of its write buffer under TLS, at most: they grow with what arrives.
    pub buffer_bytes: usize = 64 * KIB,
    /// Streams of one HTTP/2 connection of a client.
    pub streams: u32 = 128,
    /// Window of one: what a slow handler lets a client send ahead.
    pub stream_window: u32 = 256 * 1024,
    /// Least time between two pings that find out whether an HTTP/2 client is still there.
    pub ping_interval: Duration = secs(30),
    /// Bytes of a request's head, line and fields together; more is 431. Go's and nginx's clients stay below 8 KiB,
    /// bearer tokens can be large.
    pub head_bytes: usize = 64 * KIB,
    /// Header fields of a request.
    pub head_fields: usize = 128,
    /// Time for a request's head to arrive (`http.readTimeout`).
    pub head_timeout: Duration = secs(30),
    /// Time a connection may idle between two requests (`http.idleTimeout`): longer than balancers keep theirs (AWS's 60 s
    /// or as configured, Google's 600 s and not to be changed), or they send into a connection that is being closed.
    pub idle_timeout: Duration = secs(620),
    /// How long a connection that was made just before the drain may take to ask for something: that is still answered.
    pub newcomer: Duration = secs(1),
    /// How long a client that is told that its idle connection ends has to end it itself.
    pub goodbye: Duration = millis(200),
    /// What is still read, and thrown away, of a body that was refused, so that its client sees the answer and not a
    /// reset when its connection is closed.
    pub linger_bytes: u64 = 64 * 1024 * 1024,
    /// And for how long.
    pub linger_time: Duration = secs(2),
}

/// Requests of clients.
pub struct FrontLimits {
    /// Requests that the front has taken on at once, three quarters of them uploads at most. A client has at most as many as
    /// it leaves free, so one alone half. More wait. A permit lives as long as the bodies it admits.
    pub requests: usize = 4_096,
    /// Requests that wait for one, or for the first bytes of their body; shared out like those. More are refused at once. Each
    /// holds its head and at most 16 KiB of its body.
    pub waiting: usize = 32_768,
    /// How long a request waits for a permit before it is told to come again (429 or 503: docs/overload.md).
    pub patience: Duration = secs(15),
    /// Time for a handler that doesn't carry a body, from admission to the head of the answer.
    pub deadline: Duration = minutes(1),
    /// The same for one that carries a body. What lies in the trash is kept for longer.
    pub transfer_deadline: Duration = hours(3),
    /// How long after the deadline the front still waits for whoever serves the request to say so itself.
    pub grace: Duration = secs(2),
    /// Clients whose rate of requests is remembered for each limit of `http.ratelimit`: those of the last second. Further
    /// ones share what one may ask. About 100 bytes each.
    pub rated_clients: usize = 65_536,
    /// Connections that watch the mesh at once.
    pub watchers: usize = 32,
    /// Time for which shared caches may keep content that everybody may read (`http.publicMaxAge`): until then it may be
    /// given to those who may not any more, and after it was deleted.
    pub public_max_age: Duration = minutes(5),
}

/// Passwords that are found to be right, by a hash or by a directory.
pub struct PasswordLimits {
    /// Logins whose password waits to be compared with its bcrypt hash; more get 429. Comparing is done by a quarter of
    /// the processors.
    pub waiting: usize = 1_024,
    /// How long one of these waits before it gets 429, too.
    pub patience: Duration = secs(10),
    /// Time for which a password that was right isn't compared again.
    pub life: Duration = minutes(1),
    /// Passwords that are remembered like this at once, as keyed hashes.
    pub entries: usize = 4_096,
}

/// Directories (LDAP).
pub struct DirectoryLimits {
    /// Connections to a directory, and questions to it at once; more wait as for a comparison of passwords.
    pub connections: usize = 8,
    /// Time for a directory to take a connection, and to answer one request.
    pub request: Duration = secs(3),
}

/// Other things of logins.
pub struct LoginLimits {
    /// Failed logins that wait for `http.auth.failDelay` at once; more get 429.
    pub delayed: usize = 4_096,
    /// API keys of one user.
    pub api_keys: usize = 100,
    /// From one write of when API keys were used to the next.
    pub key_uses_interval: Duration = minutes(1),
    /// API keys whose uses a member remembers between two writes.
    pub key_uses_counted: usize = 16 << 10,
    /// Logins at identity providers that are finished at once; more get 429.
    pub finishing: usize = 64,
    /// Time for which a session goes on at other members at most after its owner has logged out.
    pub session_end_lag: Duration = secs(2),
    /// Time between two looks at files with passwords, keys of tokens and policies.
    pub look_every: Duration = secs(2),
}

/// What the registry itself signs.
pub struct TokenLimits {
    /// Life of a token that the registry itself gives.
    pub life: Duration = minutes(5),
    /// Time for which a member signs tokens with one key. Every member knows it for twice as long.
    pub key_life: Duration = hours(1),
    /// Time between two looks at the list of revoked keys: so long do their tokens live on at most, while the store answers.
    pub revocations_every: Duration = secs(15),
    /// Age from which on what was read of the list isn't believed any more.
    pub revocations_trusted: Duration = secs(50),
    /// Entries that are read of the list of revoked keys, and of that of ended sessions. Where there are more in the one, tokens that were
    /// got by keys aren't good, where there are in the other, sessions.
    pub revocations: usize = 65_536,
}

/// Identity providers.
pub struct ProviderLimits {
    /// Until an identity provider's answer begins, and once more until it has ended.
    pub patience: Duration = secs(5),
    /// Time between two questions to one after a failure, or because of a token that no known key has signed.
    pub again_after: Duration = minutes(1),
    /// Time between two looks at whether its keys and addresses have changed.
    pub refresh: Duration = minutes(1),
    /// Age from which on what it published isn't believed any more, while it can't be asked.
    pub trusted: Duration = days(1),
}

/// Search.
pub struct SearchLimits {
    /// Time for which a search waits for a look at which repositories there are; then it says that it is partial.
    pub patience: Duration = secs(2),
    /// Results of one search in one answer.
    pub page: usize = 100,
    /// Tags of one repository that a search looks at.
    pub tags: usize = 10_000,
    /// Images of one repository that it looks at: those that were pushed last.
    pub images: usize = 500,
    /// Referrers of all manifests of one repository that it looks at; if there are more, as many again of those that it shows.
    pub referrers: usize = 1000,
    /// Repositories that are looked through for a digest that no row leads to: a hundred take one request.
    pub walk: usize = 1000,
    /// Repositories that one user may star or bookmark.
    pub preferences: usize = 1000,
    /// Bytes of memory for what is known of images.
    pub memory: u64 = 32 << 20,
}

/// What is pushed, pulled and deleted.
pub struct RegistryLimits {
    /// Bytes of a part of a blob (`chunksize` of the S3 driver). S3 takes 10,000 parts, so the largest blob is 80 GiB.
    pub part_size: u64 = 8 << 20,
    /// Parts of one upload on their way to the store at once; with the one being filled, memory of an upload is this
    /// and one more times `part_size`.
    pub parts_in_flight: usize = 2,
    /// Bytes of memory for all bodies together that are on their way into the stores, uploads and manifests, as they come. A
    /// quarter is for the first 64 KiB of each, so that a small body always finds room.
    pub body_memory: u64 = 1 << 30,
    /// Bytes of it that a body takes at a time.
    pub body_piece: u64 = 64 << 10,
    /// How long a body waits for it before its request is told to come again.
    pub body_patience: Duration = secs(15),
    /// So many bytes of a slow body, that wait for the rest of their part, lie in the store instead of in memory.
    pub park_bytes: u64 = MIB as u64,
    /// Life of an upload session after its last 202.
    pub session_ttl: Duration = days(1),
    /// Bytes of a manifest's body kept inline in its row; larger ones are objects (a DynamoDB item has at most 400 KB).
    pub inline_manifest: usize = 32 * KIB,
    /// Bytes of memory for what was pulled lately: half for manifests, three eighths for blobs of up to 64 KiB, the rest for
    /// who holds which blob.
    pub remembered: u64 = 64 << 20,
    /// Indexes that are looked at to find one that needs a manifest which is to be deleted; where more list it, it stays.
    pub indexes_looked_at: usize = 1_000,
    /// Names of a list that are looked at for one answer to who may see some of them; ten times as many until there is one.
    pub names_looked_at: usize = 100_000,
    /// Objects that are remembered to have been seen, some 150 bytes each.
    pub objects_seen: usize = 32 << 10,
    /// Time for which an object that was seen isn't looked at again when a client asks for a blob without its bytes.
    pub seen_for: Duration = minutes(1),
    /// Time for such a look; an object that the store doesn't tell of by then counts as there.
    pub look_within: Duration = secs(5),
    /// Times that a change is validated and sent again after a refused transaction, before 503 "not applied" (R3): with
    /// pauses of up to half a second, enough for members that write one repository at once to get through, be they slow.
    pub attempts: u32 = 32,
    /// Time for a transaction of an upload, which has no deadline of its own.
    pub commit_within: Duration = secs(15),
    /// Manifests whose pulls a member counts between two writes.
    pub pulls_counted: usize = 64 << 10,
    /// From one write of pulls to the next: of a repository, one transaction at most.
    pub pulls_interval: Duration = minutes(1),
    /// Age before a link that no manifest references goes (`storage.gcDelay`).
    pub link_grace: Duration = hours(1),
    /// How long what was deleted can be brought back (`storage.history`); zero is not at all.
    pub history: Duration = days(14),
    /// How long it is told what became of tags and manifests (`storage.historyEvents`); `None` is without an end.
    pub history_events: Option<Duration> = None,
    /// How long events can be asked for at least (`/v2/_portolan/events`), and search and sinks go on from where they were.
    pub feed_kept: Duration = days(7),
    /// How long they are kept for sinks that haven't been told.
    pub feed_kept_longest: Duration = days(30),
    /// Plans of what retention would delete that are kept; of more the oldest end.
    pub plans: usize = 16,
    /// How long one is kept.
    pub plan_life: Duration = days(7),
    /// How long one request carries a plan on, but for the repository that it is at.
    pub plan_step: Duration = secs(3),
    /// Time for a plan to read a repository, and likewise its history: less than a third of `front.deadline`. One that takes longer is
    /// named and left out, for those behind it are to be reached.
    pub plan_read: Duration = secs(15),
    /// Life of a deleted repository's row.
    pub tombstone: Duration = days(7),
    /// Age of the object of a collected blob before it is deleted (`storage.trashDelay`).
    pub object_delay: Duration = hours(6),
    /// How long a link lives by which a client reads a blob from the store itself: less than `object_delay` and `trash_delay`.
    pub link_life: Duration = minutes(20),
    /// After the disk of `storage.cache` failed, how long nothing is put there.
    pub cache_pause: Duration = minutes(5),
    /// Age of trash before it is deleted: more than the longest request.
    pub trash_delay: Duration = hours(6),
    /// After which further time trash is deleted once more, for a write that was still on its way.
    pub trash_again: Duration = days(1),
    /// Between the two last looks of `fsck` at what seems wrong: longer than a change takes.
    pub fsck_pause: Duration = secs(20),
    /// By how much members' clocks may differ without a session, trash or tombstone going early.
    pub clock_margin: Duration = minutes(5),
}

/// Between members.
pub struct MeshLimits {
    /// Time for the member that keeps the budget of a registry to say that it has heard that somebody wants a place in it.
    pub budget_heard: Duration = secs(1),
    /// Connections of the mesh listener.
    pub connections: usize = 1_024,
    /// Requests of other members that this one replays at once; more get `busy`. Apart from the front's: with one
    /// pool two members can deadlock on each other.
    pub replays: usize = 4_096,
    /// Streams of one mesh connection: a listener's bound, and what a dialler keeps to.
    pub streams: u32 = 128,
    /// Bytes of a request's or response's head on the mesh, its fields and the grants together.
    pub head_bytes: usize = 128 * KIB,
    /// Window of one stream, so what a stalled reader can hold in memory at each end.
    pub stream_window: u32 = 1024 * 1024,
    /// Window of a stream by which a client gets a blob from some byte on, without an end (`bytes=4194304-`): most of them leave
    /// after a piece, and what is on its way then was in vain.
    pub piece_window: u32 = 128 * 1024,
    /// Window of one connection: at least the streams times their windows, or one stalled client stalls the link.
    pub connection_window: u32 = 128 * 1024 * 1024,
    /// Connections to one peer for bodies of blobs.
    pub lane_connections: usize = 4,
    /// Bytes of read buffer under rustls, which by itself reads 4 KiB at a time.
    pub buffer_bytes: usize = 256 * KIB,
    /// Time to connect to a peer, TLS included.
    pub connect: Duration = secs(3),
    /// Time for a peer's `accepted`, `not owner` or `busy`; then the front asks elsewhere.
    pub accept: Duration = secs(5),
    /// Time for a request's head to arrive, once its stream is there.
    pub head_within: Duration = secs(10),
    /// Time for the local service to answer for the rest of a pull that broke off.
    pub resume_within: Duration = secs(30),
    /// Interval of HTTP/2 pings on a mesh connection.
    pub ping_every: Duration = secs(2),
    /// Time for a ping's answer; then the connection is dead.
    pub ping_timeout: Duration = secs(5),
    /// Pause after a failed dial before the next one to that peer, doubled up to `redial_max`, with jitter.
    pub redial_min: Duration = millis(100),
    /// The longest such pause.
    pub redial_max: Duration = secs(5),
    /// Time for which the front holds a request while it looks for somebody to serve it: no common client
    /// honours Retry-After on 503.
    pub hold: Duration = secs(15),
    /// Hints `not owner` that a front follows for one request.
    pub hints: usize = 1,
    /// Repositories whose holder a front remembers.
    pub holders: usize = 65_536,
}

/// Who is there.
pub struct LeaseLimits {
    /// How often a member renews its lease and reads the others'.
    pub heartbeat: Duration = secs(2),
    /// How long a lease lasts unrenewed; then its member is judged dead.
    pub expiry: Duration = secs(10),
    /// Time for the store to renew a lease, and to read them all.
    pub patience: Duration = secs(2),
    /// Least time between two readings of the leases beside the regular ones.
    pub look_spacing: Duration = millis(200),
    /// When the lease of a member that is gone is removed.
    pub retention: Duration = hours(1),
    /// Leases that are looked at.
    pub rows: usize = 1_000,
    /// How often the configuration file is looked at for another list of members.
    pub members_look_interval: Duration = secs(5),
}

/// S3.
pub struct S3Limits {
    /// Time to connect to S3.
    pub connect: Duration = secs(3),
    /// Time for the answer to one attempt of a request, beside the time for its body.
    pub answer: Duration = secs(10),
    /// Time for one attempt to put an object together: for a large one, S3 may take its time.
    pub complete: Duration = minutes(1),
    /// Bytes a second that the body of a request goes at least, on the average.
    pub slowest: u64 = 512 * 1024,
    /// Attempts of a request, the first included, with jittered pauses that double from `backoff_min` up to
    /// `backoff_max`.
    pub attempts: u32 = 4,
    /// The first such pause, at most.
    pub backoff_min: Duration = millis(100),
    /// The longest such pause.
    pub backoff_max: Duration = secs(2),
    /// Time for all attempts after the first.
    pub retries: Duration = secs(20),
    /// Time without a byte of an object that is being read, while somebody waits for it; then the rest is asked for again.
    pub read_stall: Duration = secs(15),
    /// Attempts in a row to go on reading an object that bring less than 256 KiB each.
    pub read_attempts: u32 = 5,
    /// Connections to S3 that idle.
    pub idle_connections: usize = 64,
    /// And for how long.
    pub idle: Duration = secs(20),
}

/// DynamoDB.
pub struct DynamoLimits {
    /// Time to connect, TLS included.
    pub connect: Duration = secs(2),
    /// Time for the answer to one attempt of a request, connecting included.
    pub answer: Duration = secs(5),
    /// Attempts of a request, the first included: reads, and writes that are known to have had no effect.
    pub attempts: u32 = 8,
    /// Time within which those attempts begin.
    pub retry_time: Duration = secs(8),
    /// Requests on their way at once, so connections; more wait.
    pub requests: usize = 512,
    /// Time at the start for tables that are made to become usable.
    pub create: Duration = secs(90),
}

/// PostgreSQL.
pub struct PostgresLimits {
    /// Time to connect to one server, TLS and login included.
    pub connect: Duration = secs(2),
    /// Time for the answer to one attempt of a request; above the 4 s for which the server waits for others' locks.
    pub answer: Duration = secs(5),
    /// Attempts of a request, the first included: reads, and writes that are known to have had no effect.
    pub attempts: u32 = 8,
    /// Time within which those attempts begin.
    pub retry_time: Duration = secs(8),
    /// Connections of one member; more requests wait.
    pub connections: usize = 24,
    /// Life of a connection that nobody uses.
    pub idle: Duration = secs(30),
}

/// Redis and Valkey.
pub struct RedisLimits {
    /// Time to ask one Sentinel, and to connect to the server, TLS, login and checks included.
    pub connect: Duration = secs(2),
    /// Time for the answer to one attempt of a request.
    pub answer: Duration = secs(5),
    /// Time within it for replicas to have a write.
    pub replicas: Duration = secs(3),
    /// Attempts of a request, the first included: reads, and writes that are known to have had no effect.
    pub attempts: u32 = 8,
    /// Time within which those attempts begin.
    pub retry_time: Duration = secs(8),
    /// Connections of one member; more requests wait.
    pub connections: usize = 24,
    /// Life of a connection, after which the next one looks at the server's settings again.
    pub life: Duration = secs(30),
}

/// Other registries (`extensions.sync`).
pub struct UpstreamLimits {
    /// Time to connect to one.
    pub connect: Duration = secs(5),
    /// Time for its answer to begin, TLS included, and for a manifest or a token to come.
    pub answer: Duration = secs(15),
    /// Time for it to say what a tag names while that is here, too; then what is here is served.
    pub look: Duration = secs(2),
    /// Time without a byte of a blob; then the rest is asked for again.
    pub stall: Duration = secs(20),
    /// Time for one blob (`syncTimeout`).
    pub blob_time: Duration = hours(3),
    /// Repetitions of a request that failed (`maxRetries`), and of a blob that broke off without bringing a byte.
    pub retries: u32 = 2,
    /// Pause before the first of them (`retryDelay`), doubled for each further one up to `retry_delay_max`.
    pub retry_delay: Duration = millis(500),
    /// See above (`maxRetryDelay`); a `Retry-After` beyond it isn't waited for.
    pub retry_delay_max: Duration = secs(10),
    /// Requests of a member at once to each (`reqConcurrent`).
    pub requests: usize = 16,
    /// Connections to each that idle.
    pub idle_connections: usize = 16,
    /// And for how long.
    pub idle: Duration = secs(30),
}

/// Registries that a person moves images from or to (`portolan import`, `portolan export`).
pub struct VisitLimits {
    /// Time for an answer, with what is sent for it: lines may be slow.
    pub answer: Duration = minutes(2),
    /// How often a request, or what is left of a blob, is repeated.
    pub retries: u32 = 4,
    /// Bytes of a blob that are sent at once, and held in memory.
    pub chunk: usize = 8 * MIB,
    /// Manifests that come along with an image because they refer to it, or to one that does. An image with more isn't exported.
    pub referrers: usize = 10_000,
    /// Indexes in indexes that are followed. What is deeper isn't moved.
    pub depth: usize = 16,
}

/// What is fetched from them.
pub struct MirrorLimits {
    /// Time for which it isn't asked again for what it doesn't have.
    pub absent: Duration = secs(10),
    /// Tags and digests of which that is remembered, or when they were last asked for.
    pub remembered: usize = 65_536,
    /// Bytes of a blob that is being fetched that are put aside at once, to be read by who comes later. Three times as much of
    /// each is in memory at most.
    pub piece: usize = MIB,
    /// Bytes at the end of a blob that clients get only when its digest is right.
    pub withheld: u64 = 256 * KIB as u64,
    /// Blobs that a member fetches at once; more are refused.
    pub fetches: usize = 256,
    /// Referrers of one manifest that come along with it.
    pub referrers: usize = 100,
    /// Time for which who asks for referrers waits for them to come; then those that are here are told, and the others go on coming.
    pub referrers_time: Duration = secs(10),
}

/// Rounds of a worker that looks at due-rows.
pub struct RoundLimits {
    /// From round to round of the worker that looks at due-rows. A round reads the partitions that the member writes to, four
    /// of 256.
    pub interval: Duration = minutes(15),
    /// How long it takes until a partition is read that no member seems to write to, all members together.
    pub sweep: Duration = days(1),
    /// Due-rows of one partition in one round; where there are more, the next round comes at once.
    pub rows: usize = 100,
    /// Partitions that a member works on at the same time.
    pub partitions_at_once: usize = 4,
    /// Rows that one member looks at in a second.
    pub rows_per_second: u32 = 1_000,
    /// When its rounds may begin (`storage.gcTimeWindow`); `None` is always.
    pub window: Option<TimeWindow> = None,
}

/// Reading all content, to see whether it has its digest (`extensions.scrub`, `portolan scrub`).
pub struct ScrubLimits {
    /// Bytes of content that one member reads in a second, and `portolan scrub` unless it is told otherwise. A row that is looked at
    /// counts as 32 KiB, so it is at most a thousand of them, too.
    pub bytes_per_second: u64 = 32 << 20,
    /// After which time it is written down how far it is, and so what is read once more by who goes on, but for one blob.
    pub stride: Duration = secs(30),
    /// How often a member looks whether something is to be read, and tries again what failed: one request. The first time it does so
    /// within a tenth of that.
    pub look_interval: Duration = hours(1),
}

/// Changes of names, before history, search and events see them.
pub struct ChangeLimits {
    /// How long changes of names are gathered before they are settled: history, search and events follow them.
    pub pause: Duration = millis(100),
    /// How often it is looked for changes that a member left when it died; when members come or go they are looked for at once.
    pub interval: Duration = hours(2),
    /// From look to look at what of histories and events is over.
    pub trim_interval: Duration = days(1),
    /// The same after some of that failed.
    pub trim_again: Duration = minutes(10),
}

/// Events.
pub struct EventLimits {
    /// How often it is looked whether there are events to tell, all feeds in one request.
    pub look_interval: Duration = secs(2),
    /// Time to connect to a webhook, TLS not included.
    pub connect: Duration = secs(3),
    /// The first pause before an event is told again that wasn't taken; later ones double up to `pause_max`.
    pub pause_min: Duration = secs(1),
    /// The longest such pause.
    pub pause_max: Duration = minutes(1),
    /// The age at which a change is given up whose events a sink doesn't take, once it has failed for `failing`.
    pub kept: Duration = days(1),
    /// For how long a sink has taken nothing before something is given up for its age.
    pub failing: Duration = minutes(5),
    /// How often an event is told in vain that the sink refuses for what it says.
    pub refusals: u32 = 10,
    /// Batches of each feed that one answer of `/v2/_portolan/events` has: of up to 49 changes each.
    pub page: usize = 4,
}

/// Repositories that another registry lacks changes of (`extensions.replicate`); the changes themselves are carried as events are.
pub struct ReplicationLimits {
    /// How often a member looks whether there are such: one request for each registry. Each that fails again waits twice as long.
    pub look_interval: Duration = minutes(1),
    /// The longest wait before such a repository is brought again.
    pub pause_max: Duration = hours(1),
    /// Blobs of one manifest that are sent at once, each of which holds [`VisitLimits::chunk`] bytes.
    pub blobs: usize = 4,
    /// Blobs of which it is known where the other registry has them, to be mounted from there; more are forgotten at once.
    pub held: usize = 10_000,
}

/// The end of a member.
pub struct EndingLimits {
    /// How long a member that is about to end still accepts connections, for others and for balancers to see that it
    /// leaves: longer than two heartbeats. Part of `drain`.
    pub notice: Duration = secs(5),
    /// Time to finish what is in flight after SIGTERM; the unit's TimeoutStopSec is longer.
    pub drain: Duration = secs(30),
}

/// Certificates that end.
pub struct CertificateLimits {
    /// What is left of a certificate's life when that is worth a warning.
    pub soon: Duration = days(14),
    /// From look to look at how long certificates will live.
    pub look_every: Duration = hours(1),
    /// After which the same warning is given again.
    pub warn_every: Duration = days(1),
}

/// `portolan verify`.
pub struct VerifyLimits {
    /// Time for each thing that is looked at; all are looked at at once.
    pub timeout: Duration = secs(10),
    /// By how much this machine's clock may differ from a store's without a remark.
    pub skew_warning: Duration = secs(30),
    /// And before the store refuses requests: AWS does from 5 minutes (DynamoDB) and 15 minutes (S3) on.
    pub skew_failure: Duration = minutes(5),
}
}
