//! Every bound of the program, with its default, in one place.
//!
//! Nothing waits, queues, buffers or counts without one of these. `app` makes one `Limits` and hands it down; tests
//! lower what they want to reach. Deliberately absent: bounds that a protocol or a store sets (4 MiB of a manifest and
//! 1,000 names of a page in `oci`, 256 KiB of a frame in `mesh`, 100 operations of a transaction and the queues of the
//! drivers in `storage`), which live with the code that meets them.

use std::time::Duration;

use super::TimeWindow;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The bounds. Bytes, counts and durations say so in their names or types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    // --- Public listener ---
    /// Connections of the public listener; more wait in the kernel's backlog. An idle one costs about 10 KiB.
    pub public_connections: usize,
    /// Requests that the front has taken on at once, three quarters of them uploads at most. A client has at most as many as
    /// it leaves free, so one alone half. More wait. A permit lives as long as the bodies it admits.
    pub front_requests: usize,
    /// Requests that wait for one, or for the first bytes of their body; shared out like those. More are refused at once. Each
    /// holds its head and at most 16 KiB of its body.
    pub front_waiting: usize,
    /// How long a request waits for a permit before it is told to come again (429 or 503: docs/overload.md).
    pub front_patience: Duration,
    /// Bytes a second: what comes more slowly gives way when others wait, a permit or memory.
    pub slow_body_bytes: u64,
    /// Over which time that is measured; time when nobody waits for the body's next bytes doesn't count.
    pub slow_body_window: Duration,
    /// Bytes of a connection's read buffer and of its write buffer under TLS, at most: they grow with what arrives.
    pub public_buffer_bytes: usize,
    /// Of them, connections of one client address (of an IPv6 client, its /64); for more its idle ones go, the oldest first,
    /// and where none is idle they are closed at once. Half: so that one
    /// address alone can't keep all others out, yet a balancer in front can be the only client there is.
    pub public_connections_per_client: usize,
    /// Clients whose rate of requests is remembered for each limit of `http.ratelimit`: those of the last second. Further
    /// ones share what one may ask. About 100 bytes each.
    pub rated_clients: usize,
    /// Streams of one HTTP/2 connection of a client.
    pub public_streams_per_connection: u32,
    /// Bytes of a request's head, line and fields together; more is 431. Go's and nginx's clients stay below 8 KiB,
    /// bearer tokens can be large.
    pub request_head_bytes: usize,
    /// Header fields of a request.
    pub request_header_fields: usize,
    /// Time for a request's head to arrive (`http.readTimeout`).
    pub request_head_timeout: Duration,
    /// Time a connection may idle between two requests (`http.idleTimeout`): longer than balancers keep theirs (AWS's 60 s
    /// or as configured, Google's 600 s and not to be changed), or they send into a connection that is being closed.
    pub idle_timeout: Duration,
    /// Time for a TLS handshake, public and mesh.
    pub tls_handshake_timeout: Duration,
    /// Time without a byte of progress after which a transfer is aborted, in either direction (`http.writeTimeout`).
    pub no_progress_timeout: Duration,
    /// What is still read, and thrown away, of a body that was refused, so that its client sees the answer and not a
    /// reset when its connection is closed.
    pub linger_bytes: u64,
    /// And for how long.
    pub linger_time: Duration,
    /// Time for a handler that doesn't carry a body, from admission to the head of the answer.
    pub request_deadline: Duration,

    /// Time for which shared caches may keep content that everybody may read (`http.publicMaxAge`): until then it may be
    /// given to those who may not any more, and after it was deleted.
    pub public_max_age: Duration,

    // --- Logins ---
    /// Logins whose password waits to be compared with its bcrypt hash; more get 429. Comparing is done by a quarter of
    /// the processors.
    pub password_checks_waiting: usize,
    /// How long one of these waits before it gets 429, too.
    pub password_check_wait: Duration,
    /// Time for which a password that was right isn't compared again.
    pub password_remembered: Duration,
    /// Passwords that are remembered like this at once, as keyed hashes.
    pub passwords_remembered: usize,
    /// Connections to a directory, and questions to it at once; more wait as for a comparison of passwords.
    pub directory_connections: usize,
    /// Time for a directory to take a connection, and to answer one request.
    pub directory_request_timeout: Duration,
    /// Failed logins that wait for `http.auth.failDelay` at once; more get 429.
    pub failed_logins_delayed: usize,
    /// API keys of one user.
    pub api_keys_per_user: usize,
    /// From one write of when API keys were used to the next.
    pub key_uses_interval: Duration,
    /// API keys whose uses a member remembers between two writes.
    pub key_uses_counted: usize,
    /// Life of a token that the registry itself gives.
    pub token_life: Duration,
    /// Time for which a member signs tokens with one key. Every member knows it for twice as long.
    pub token_key_life: Duration,
    /// Time between two looks at the list of revoked keys: so long do their tokens live on at most, while the store answers.
    pub revocations_look_interval: Duration,
    /// Age from which on what was read of the list isn't believed any more.
    pub revocations_trusted: Duration,
    /// Entries that are read of the list of revoked keys, and of that of ended sessions. Where there are more in the one, tokens that were
    /// got by keys aren't good, where there are in the other, sessions.
    pub revocations: usize,
    /// Time for which a session goes on at other members at most after its owner has logged out.
    pub session_end_lag: Duration,
    /// Logins at identity providers that are finished at once; more get 429.
    pub logins_finishing: usize,
    /// Until an identity provider's answer begins, and once more until it has ended.
    pub provider_patience: Duration,
    /// Time between two questions to one after a failure, or because of a token that no known key has signed.
    pub provider_again_after: Duration,
    /// Time between two looks at whether its keys and addresses have changed.
    pub provider_refresh_interval: Duration,
    /// Age from which on what it published isn't believed any more, while it can't be asked.
    pub provider_trusted: Duration,
    /// Time between two looks at files with passwords, keys of tokens and policies.
    pub file_check_interval: Duration,

    // --- Search ---
    /// Time for which a search waits for a look at which repositories there are; then it says that it is partial.
    pub search_patience: Duration,
    /// Results of one search in one answer.
    pub search_page: usize,
    /// Tags of one repository that a search looks at.
    pub search_tags: usize,
    /// Images of one repository that it looks at: those that were pushed last.
    pub search_images: usize,
    /// Referrers of all manifests of one repository that it looks at.
    pub search_referrers: usize,
    /// Repositories that are looked through for a digest that no row leads to: a hundred take one request.
    pub search_walk: usize,
    /// Repositories that one user may star or bookmark.
    pub search_preferences: usize,
    /// Bytes of memory for what is known of images.
    pub search_memory_bytes: u64,
    /// Repositories of which a member remembers what they come to, some 500 bytes each.
    pub search_remembered: usize,

    // --- The page ---
    /// Connections of one member that watch the mesh at once.
    pub mesh_watchers: usize,

    // --- What a request may carry ---
    /// Bytes of a manifest's body kept inline in its row; larger ones are objects (a DynamoDB item has at most 400 KB).
    pub manifest_inline_bytes: usize,
    /// Bytes of memory for what was pulled lately: half for manifests, three eighths for blobs of up to 64 KiB, the rest for
    /// who holds which blob.
    pub remembered_bytes: u64,
    /// Indexes that are looked at to find one that needs a manifest which is to be deleted; where more list it, it stays.
    pub delete_indexes: usize,
    /// Objects that are remembered to have been seen, some 150 bytes each.
    pub objects_seen: usize,
    /// Time for which an object that was seen isn't looked at again when a client asks for a blob without its bytes.
    pub object_seen_time: Duration,
    /// Time for such a look; an object that the store doesn't tell of by then counts as there.
    pub object_look_time: Duration,

    // --- Mesh ---
    /// Connections of the mesh listener.
    pub mesh_connections: usize,
    /// Requests of other members that this one replays at once; more get `busy`. Apart from `front_requests`: with one
    /// pool two members can deadlock on each other.
    pub replay_requests: usize,
    /// Streams of one mesh connection: a listener's bound, and what a dialler keeps to.
    pub mesh_streams_per_connection: u32,
    /// Bytes of a request's or response's head on the mesh, its fields and the grants together.
    pub mesh_head_bytes: usize,
    /// Window of one stream, so what a stalled reader can hold in memory at each end.
    pub mesh_stream_window_bytes: u32,
    /// Window of a stream by which a client gets a blob from some byte on, without an end (`bytes=4194304-`): most of them leave
    /// after a piece, and what is on its way then was in vain.
    pub mesh_piece_window_bytes: u32,
    /// Window of one connection: at least the streams times their windows, or one stalled client stalls the link.
    pub mesh_connection_window_bytes: u32,
    /// Connections to one peer for bodies of blobs.
    pub mesh_bulk_connections_per_peer: usize,
    /// Bytes of read buffer under rustls, which by itself reads 4 KiB at a time.
    pub mesh_read_buffer_bytes: usize,
    /// Time to connect to a peer, TLS included.
    pub mesh_connect_timeout: Duration,
    /// Time for a peer's `accepted`, `not owner` or `busy`; then the front asks elsewhere.
    pub accept_timeout: Duration,
    /// Interval of HTTP/2 pings on a mesh connection.
    pub mesh_ping_interval: Duration,
    /// Time for a ping's answer; then the connection is dead.
    pub mesh_ping_timeout: Duration,
    /// Pause after a failed dial before the next one to that peer, doubled up to `mesh_redial_max`, with jitter.
    pub mesh_redial_min: Duration,
    /// The longest such pause.
    pub mesh_redial_max: Duration,
    /// Time for which the front holds a request while it looks for somebody to serve it: no common client
    /// honours Retry-After on 503.
    pub hold_time: Duration,
    /// Hints `not owner` that a front follows for one request.
    pub hints_followed: usize,
    /// Repositories whose holder a front remembers.
    pub holder_hints: usize,

    // --- Ownership ---
    /// Times that a change is validated and sent again after a refused transaction, before 503 "not applied" (R3): with
    /// pauses of up to half a second, enough for members that write one repository at once to get through.
    pub change_attempts: usize,

    /// How often a member renews its lease and reads the others'.
    pub lease_heartbeat: Duration,
    /// How long a lease lasts unrenewed; then its member is judged dead.
    pub lease_expiry: Duration,
    /// Time for the store to renew a lease, and to read them all.
    pub lease_timeout: Duration,
    /// Least time between two readings of the leases beside the regular ones.
    pub lease_look_spacing: Duration,
    /// When the lease of a member that is gone is removed.
    pub lease_retention: Duration,
    /// Leases that are looked at.
    pub lease_rows: usize,
    /// How often the configuration file is looked at for another list of members.
    pub members_look_interval: Duration,

    // --- Uploads ---
    /// Bytes of a part of a blob (`chunksize` of the S3 driver). S3 takes 10,000 parts, so the largest blob is 80 GiB.
    pub upload_part_bytes: usize,
    /// Parts of one upload on their way to the store at once; with the one being filled, memory of an upload is this
    /// and one more times `upload_part_bytes`.
    pub upload_parts_in_flight: usize,
    /// Bytes of memory for all bodies together that are on their way into the stores, uploads and manifests, as they come. A
    /// quarter is for the first 64 KiB of each, so that a small body always finds room.
    pub upload_memory_bytes: u64,
    /// How long a body waits for it before its request is told to come again.
    pub upload_memory_wait: Duration,
    /// So many bytes of a slow body, that wait for the rest of their part, lie in the store instead of in memory.
    pub upload_park_bytes: u64,
    /// Life of an upload session after its last 202.
    pub session_expiry: Duration,

    // --- S3 ---
    /// Time to connect to S3.
    pub s3_connect_timeout: Duration,
    /// Time for the answer to one attempt of a request, beside the time for its body.
    pub s3_answer_timeout: Duration,
    /// Time for one attempt to put an object together: for a large one, S3 may take its time.
    pub s3_complete_timeout: Duration,
    /// Bytes a second that the body of a request goes at least, on the average.
    pub s3_slowest_upload: u64,
    /// Attempts of a request, the first included, with jittered pauses that double from `s3_backoff_min` up to
    /// `s3_backoff_max`.
    pub s3_attempts: u32,
    /// The first such pause, at most.
    pub s3_backoff_min: Duration,
    /// The longest such pause.
    pub s3_backoff_max: Duration,
    /// Time for all attempts after the first.
    pub s3_retry_time: Duration,
    /// Time without a byte of an object that is being read, while somebody waits for it; then the rest is asked for again.
    pub s3_read_stall: Duration,
    /// Attempts in a row to go on reading an object that bring less than 256 KiB each.
    pub s3_read_attempts: u32,
    /// Connections to S3 that idle.
    pub s3_idle_connections: usize,
    /// And for how long.
    pub s3_idle_time: Duration,

    // --- Other registries (`extensions.sync`) ---
    /// Time to connect to one.
    pub upstream_connect_timeout: Duration,
    /// Time for its answer to begin, TLS included, and for a manifest or a token to come.
    pub upstream_answer_timeout: Duration,
    /// Time for it to say what a tag names while that is here, too; then what is here is served.
    pub upstream_look_time: Duration,
    /// Time without a byte of a blob; then the rest is asked for again.
    pub upstream_stall: Duration,
    /// Time for one blob (`syncTimeout`).
    pub upstream_blob_time: Duration,
    /// Repetitions of a request that failed (`maxRetries`), and of a blob that broke off without bringing a byte.
    pub upstream_retries: u32,
    /// Pause before the first of them (`retryDelay`), doubled for each further one up to `upstream_retry_delay_max`.
    pub upstream_retry_delay: Duration,
    /// See above (`maxRetryDelay`); a `Retry-After` beyond it isn't waited for.
    pub upstream_retry_delay_max: Duration,
    /// Requests at once to each (`reqConcurrent`).
    pub upstream_requests: usize,
    /// Connections to each that idle.
    pub upstream_idle_connections: usize,
    /// And for how long.
    pub upstream_idle_time: Duration,
    /// Time for an answer of a registry that a person moves images from or to, with what is sent to it: lines may be slow.
    pub visit_answer_timeout: Duration,
    /// How often a request to it, or what is left of a blob, is repeated.
    pub visit_retries: u32,
    /// Bytes of a blob that are sent to it at once, and held in memory.
    pub visit_chunk_bytes: usize,
    /// Time for which it isn't asked again for what it doesn't have.
    pub mirror_absent_time: Duration,
    /// Tags and digests of which that is remembered, or when they were last asked for.
    pub mirror_remembered: usize,
    /// Bytes of a blob that is being fetched that are put aside at once, to be read by who comes later. Three times as much of
    /// each is in memory at most.
    pub mirror_piece_bytes: usize,
    /// Bytes at the end of a blob that clients get only when its digest is right.
    pub mirror_withheld_bytes: u64,
    /// Blobs that a member fetches at once; more are refused.
    pub mirror_fetches: usize,
    /// Referrers of one manifest that come along with it.
    pub mirror_referrers: usize,

    // --- DynamoDB ---
    /// Time to connect, TLS included.
    pub dynamo_connect_timeout: Duration,
    /// Time for the answer to one attempt of a request, connecting included.
    pub dynamo_answer_timeout: Duration,
    /// Attempts of a request, the first included: reads, and writes that are known to have had no effect.
    pub dynamo_attempts: u32,
    /// Time within which those attempts begin.
    pub dynamo_retry_time: Duration,
    /// Requests on their way at once, so connections; more wait.
    pub dynamo_requests: usize,
    /// Time at the start for tables that are made to become usable.
    pub dynamo_create_timeout: Duration,

    // --- PostgreSQL ---
    /// Time to connect to one server, TLS and login included.
    pub postgres_connect_timeout: Duration,
    /// Time for the answer to one attempt of a request; above the 4 s for which the server waits for others' locks.
    pub postgres_answer_timeout: Duration,
    /// Attempts of a request, the first included: reads, and writes that are known to have had no effect.
    pub postgres_attempts: u32,
    /// Time within which those attempts begin.
    pub postgres_retry_time: Duration,
    /// Connections of one member; more requests wait.
    pub postgres_connections: usize,
    /// Life of a connection that nobody uses.
    pub postgres_idle_time: Duration,

    // --- Retention of our own traces ---
    /// Life of a deleted repository's row.
    pub tombstone_time: Duration,
    /// Age before a link that no manifest references goes (`storage.gcDelay`).
    pub unreferenced_grace: Duration,
    /// How long what was deleted can be brought back (`storage.history`); zero is not at all.
    pub history: Duration,
    /// How long it is told what became of tags and manifests (`storage.historyEvents`); `None` is without an end.
    pub history_events: Option<Duration>,
    /// How long events can be asked for at least (`/v2/_portolan/events`), and search and sinks go on from where they were.
    pub feed_kept: Duration,
    /// How long they are kept for sinks that haven't been told.
    pub feed_kept_longest: Duration,
    /// From look to look at what of that is over.
    pub trim_interval: Duration,
    /// Age of the object of a collected blob before it is deleted (`storage.trashDelay`).
    pub object_delay: Duration,
    /// How long a link lives by which a client reads a blob from the store itself: less than `object_delay` and `trash_time`.
    pub link_life: Duration,
    /// After the disk of `storage.cache` failed, how long nothing is put there.
    pub cache_pause: Duration,
    /// Age of trash before it is deleted: more than the longest request.
    pub trash_time: Duration,

    /// After which further time trash is deleted once more, for a write that was still on its way.
    pub trash_again: Duration,
    /// Between the two last looks of `fsck` at what seems wrong: longer than a change takes.
    pub fsck_pause: Duration,

    // --- Upkeep ---
    /// From round to round of the worker that looks at due-rows. A round reads the partitions that the member writes to, four
    /// of 256.
    pub upkeep_interval: Duration,
    /// How long it takes until a partition is read that no member seems to write to, all members together.
    pub upkeep_sweep: Duration,
    /// Due-rows of one partition in one round; where there are more, the next round comes at once.
    pub upkeep_rows: usize,
    /// Partitions that a member works on at the same time.
    pub upkeep_partitions_at_once: usize,
    /// Rows that one member looks at in a second.
    pub upkeep_rows_per_second: u32,
    /// How long changes of names are gathered before they are settled: history, search and events follow them.
    pub settle_pause: Duration,
    /// How often it is looked whether there are events to tell, all feeds in one request.
    pub events_look_interval: Duration,
    /// Time to connect to a webhook, TLS not included.
    pub events_connect_timeout: Duration,
    /// The first pause before an event is told again that wasn't taken; later ones double up to `events_pause_max`.
    pub events_pause_min: Duration,
    /// The longest such pause.
    pub events_pause_max: Duration,
    /// The age at which a change is given up whose events a sink doesn't take, once it has failed for `events_failing`.
    pub events_kept: Duration,
    /// For how long a sink has taken nothing before something is given up for its age.
    pub events_failing: Duration,
    /// How often an event is told in vain that the sink refuses for what it says.
    pub events_refusals: u32,
    /// Batches of each feed that one answer of `/v2/_portolan/events` has: of up to 49 changes each.
    pub events_page: usize,
    /// How often it is looked for changes that a member left when it died; when members come or go they are looked for at once.
    pub settle_interval: Duration,
    /// From round to round of the worker that collects links, blobs and their objects (`storage.gcInterval`).
    pub collection_interval: Duration,
    /// Rows that one member looks at in a second: each costs up to five requests to the metadata store.
    pub collection_rows_per_second: u32,
    /// When its rounds may begin (`storage.gcTimeWindow`); `None` is always.
    pub collection_window: Option<TimeWindow>,
    /// From one write of pulls to the next: of a repository, one transaction at most.
    pub pulls_interval: Duration,
    /// Manifests whose pulls a member counts between two writes.
    pub pulls_counted: usize,
    /// Plans of what retention would delete that are kept; of more the oldest end.
    pub plans: usize,
    /// How long one is kept.
    pub plan_life: Duration,
    /// How long one request carries a plan on, but for the repository that it is at.
    pub plan_step: Duration,
    /// By how much members' clocks may differ without a session, trash or tombstone going early.
    pub clock_margin: Duration,

    // --- The program ---
    /// How long a member that is about to end still accepts connections, for others and for balancers to see that it
    /// leaves: longer than two heartbeats. Part of `drain_time`.
    pub leave_notice: Duration,
    /// Time to finish what is in flight after SIGTERM; the unit's TimeoutStopSec is longer.
    pub drain_time: Duration,

    // --- Certificates ---
    /// What is left of a certificate's life when that is worth a warning.
    pub certificate_warning: Duration,
    /// From look to look at how long certificates will live.
    pub certificate_look_interval: Duration,
    /// After which the same warning is given again.
    pub certificate_warning_interval: Duration,

    // --- `portolan verify` ---
    /// Time for each thing that is looked at; all are looked at at once.
    pub verify_timeout: Duration,
    /// By how much this machine's clock may differ from a store's without a remark.
    pub verify_skew_warning: Duration,
    /// And before the store refuses requests: AWS does from 5 minutes (DynamoDB) and 15 minutes (S3) on.
    pub verify_skew_failure: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            public_connections: 16_384,
            public_connections_per_client: 8_192,
            rated_clients: 65_536,
            front_requests: 4_096,
            front_waiting: 32_768,
            front_patience: Duration::from_secs(15),
            slow_body_bytes: 16 * KIB as u64,
            slow_body_window: Duration::from_secs(5),
            public_buffer_bytes: 64 * KIB,
            public_streams_per_connection: 128,
            request_head_bytes: 64 * KIB,
            request_header_fields: 128,
            request_head_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(620),
            tls_handshake_timeout: Duration::from_secs(10),
            no_progress_timeout: Duration::from_secs(60),
            linger_bytes: 64 * 1024 * 1024,
            linger_time: Duration::from_secs(2),
            request_deadline: Duration::from_secs(60),
            public_max_age: Duration::from_secs(5 * 60),

            password_checks_waiting: 1_024,
            password_check_wait: Duration::from_secs(10),
            password_remembered: Duration::from_secs(60),
            passwords_remembered: 4_096,
            directory_connections: 8,
            directory_request_timeout: Duration::from_secs(3),
            failed_logins_delayed: 4_096,
            api_keys_per_user: 100,
            key_uses_interval: Duration::from_secs(60),
            key_uses_counted: 16 << 10,
            token_life: Duration::from_secs(5 * 60),
            token_key_life: HOUR,
            revocations_look_interval: Duration::from_secs(15),
            revocations_trusted: Duration::from_secs(50),
            revocations: 65_536,
            session_end_lag: Duration::from_secs(2),
            logins_finishing: 64,
            provider_patience: Duration::from_secs(5),
            provider_again_after: Duration::from_secs(60),
            provider_refresh_interval: Duration::from_secs(60),
            provider_trusted: 24 * HOUR,
            file_check_interval: Duration::from_secs(2),

            manifest_inline_bytes: 32 * KIB,
            remembered_bytes: 64 << 20,
            search_patience: Duration::from_secs(2),
            search_page: 100,
            search_tags: 10_000,
            search_images: 500,
            search_referrers: 1000,
            search_walk: 1000,
            search_preferences: 1000,
            search_memory_bytes: 32 << 20,
            search_remembered: 10_000,
            mesh_watchers: 32,
            delete_indexes: 1_000,
            objects_seen: 32 << 10,
            object_seen_time: Duration::from_secs(60),
            object_look_time: Duration::from_secs(5),

            mesh_connections: 1_024,
            replay_requests: 4_096,
            mesh_streams_per_connection: 128,
            mesh_head_bytes: 128 * KIB,
            mesh_stream_window_bytes: 1024 * 1024,
            mesh_piece_window_bytes: 128 * 1024,
            mesh_connection_window_bytes: 128 * 1024 * 1024,
            mesh_bulk_connections_per_peer: 4,
            mesh_read_buffer_bytes: 256 * KIB,
            mesh_connect_timeout: Duration::from_secs(3),
            accept_timeout: Duration::from_secs(5),
            mesh_ping_interval: Duration::from_secs(2),
            mesh_ping_timeout: Duration::from_secs(5),
            mesh_redial_min: Duration::from_millis(100),
            mesh_redial_max: Duration::from_secs(5),
            hold_time: Duration::from_secs(15),
            hints_followed: 1,
            holder_hints: 65_536,

            change_attempts: 16,
            lease_heartbeat: Duration::from_secs(2),
            lease_expiry: Duration::from_secs(10),
            lease_timeout: Duration::from_secs(2),
            lease_look_spacing: Duration::from_millis(200),
            lease_retention: HOUR,
            lease_rows: 1_000,
            members_look_interval: Duration::from_secs(5),

            upload_part_bytes: 8 * MIB,
            upload_parts_in_flight: 2,
            upload_memory_bytes: 1 << 30,
            upload_memory_wait: Duration::from_secs(15),
            upload_park_bytes: MIB as u64,
            session_expiry: DAY,

            s3_connect_timeout: Duration::from_secs(3),
            s3_answer_timeout: Duration::from_secs(10),
            s3_complete_timeout: Duration::from_secs(60),
            s3_slowest_upload: 512 * 1024,
            s3_attempts: 4,
            s3_backoff_min: Duration::from_millis(100),
            s3_backoff_max: Duration::from_secs(2),
            s3_retry_time: Duration::from_secs(20),
            s3_read_stall: Duration::from_secs(15),
            s3_read_attempts: 5,
            s3_idle_connections: 64,
            s3_idle_time: Duration::from_secs(20),

            upstream_connect_timeout: Duration::from_secs(5),
            upstream_answer_timeout: Duration::from_secs(15),
            upstream_look_time: Duration::from_secs(2),
            upstream_stall: Duration::from_secs(20),
            upstream_blob_time: 3 * HOUR,
            upstream_retries: 2,
            upstream_retry_delay: Duration::from_millis(500),
            upstream_retry_delay_max: Duration::from_secs(10),
            upstream_requests: 16,
            upstream_idle_connections: 16,
            upstream_idle_time: Duration::from_secs(30),
            visit_answer_timeout: Duration::from_secs(120),
            visit_retries: 4,
            visit_chunk_bytes: 8 * MIB,
            mirror_absent_time: Duration::from_secs(10),
            mirror_remembered: 65_536,
            mirror_piece_bytes: MIB,
            mirror_withheld_bytes: 256 * KIB as u64,
            mirror_fetches: 256,
            mirror_referrers: 100,

            dynamo_connect_timeout: Duration::from_secs(2),
            dynamo_answer_timeout: Duration::from_secs(5),
            dynamo_attempts: 8,
            dynamo_retry_time: Duration::from_secs(8),
            dynamo_requests: 512,
            dynamo_create_timeout: Duration::from_secs(90),

            postgres_connect_timeout: Duration::from_secs(2),
            postgres_answer_timeout: Duration::from_secs(5),
            postgres_attempts: 8,
            postgres_retry_time: Duration::from_secs(8),
            postgres_connections: 24,
            postgres_idle_time: Duration::from_secs(30),

            tombstone_time: 7 * DAY,
            unreferenced_grace: HOUR,
            history: 14 * DAY,
            history_events: None,
            feed_kept: 7 * DAY,
            feed_kept_longest: 30 * DAY,
            trim_interval: DAY,
            object_delay: 6 * HOUR,
            link_life: Duration::from_secs(20 * 60),
            cache_pause: Duration::from_secs(5 * 60),
            trash_time: 6 * HOUR,
            trash_again: DAY,
            fsck_pause: Duration::from_secs(20),

            upkeep_interval: Duration::from_secs(10 * 60),
            upkeep_sweep: DAY,
            upkeep_rows: 100,
            upkeep_partitions_at_once: 4,
            upkeep_rows_per_second: 1_000,
            settle_pause: Duration::from_millis(100),
            events_look_interval: Duration::from_secs(2),
            events_connect_timeout: Duration::from_secs(3),
            events_pause_min: Duration::from_secs(1),
            events_pause_max: Duration::from_secs(60),
            events_kept: DAY,
            events_failing: Duration::from_secs(5 * 60),
            events_refusals: 10,
            events_page: 4,
            settle_interval: HOUR * 2,
            collection_interval: HOUR,
            collection_rows_per_second: 250,
            collection_window: None,
            pulls_interval: Duration::from_secs(60),
            pulls_counted: 64 << 10,
            plans: 16,
            plan_life: 7 * DAY,
            plan_step: Duration::from_secs(3),
            clock_margin: Duration::from_secs(5 * 60),

            leave_notice: Duration::from_secs(5),
            drain_time: Duration::from_secs(30),

            certificate_warning: DAY * 14,
            certificate_look_interval: HOUR,
            certificate_warning_interval: DAY,

            verify_timeout: Duration::from_secs(10),
            verify_skew_warning: Duration::from_secs(30),
            verify_skew_failure: Duration::from_secs(5 * 60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_fit_together() {
        let l = Limits::default();
        let streams = u64::from(l.mesh_streams_per_connection) * u64::from(l.mesh_stream_window_bytes);
        assert!(
            streams <= u64::from(l.mesh_connection_window_bytes),
            "a stalled client stalls the link"
        );
        assert!(l.mesh_piece_window_bytes <= l.mesh_stream_window_bytes);
        assert!(
            l.request_head_bytes < l.mesh_head_bytes,
            "a head that the front takes fits on the mesh"
        );
        assert!(l.idle_timeout > Duration::from_secs(600) && l.idle_timeout > l.request_head_timeout);
        assert!(l.hold_time > l.accept_timeout * 2 && l.request_deadline > l.hold_time);
        assert!(
            l.upload_memory_bytes >= 64 * l.upload_part_bytes as u64,
            "a few slow uploads aren't in everyone's way"
        );
        assert!(
            l.upload_memory_wait < l.request_deadline && l.front_patience < l.request_deadline,
            "there is time to say so"
        );
        assert!(
            l.slow_body_window * 2 < l.front_patience.min(l.upload_memory_wait),
            "who is slow gives way before who waits gives up"
        );
        assert!(
            l.upload_memory_bytes / 4 >= (l.front_requests + l.replay_requests) as u64 * 32 * KIB as u64,
            "most requests at once find room for a small body"
        );
        assert!(l.public_connections_per_client <= l.public_connections / 2);
        assert!(l.upload_part_bytes >= 5 * MIB, "S3 refuses smaller parts");
        assert!(
            l.manifest_inline_bytes < 300 * KIB,
            "an item of DynamoDB has 400 KB"
        );
        assert!(l.dynamo_connect_timeout < l.dynamo_answer_timeout);
        assert!(
            (l.postgres_retry_time + l.postgres_answer_timeout) * 2 < l.request_deadline,
            "a write's outcome can be asked for within its request"
        );
        assert!(
            l.postgres_answer_timeout > Duration::from_secs(4),
            "the server's lock_timeout, by which it has answered"
        );
        assert!(
            (l.dynamo_retry_time + l.dynamo_answer_timeout) * 2 < l.request_deadline,
            "a write's outcome can be asked for within its request"
        );
        assert!(
            l.lease_expiry > 2 * (l.lease_heartbeat + l.lease_timeout),
            "a slow store isn't a dead member"
        );
        assert!(
            l.leave_notice > 2 * l.lease_heartbeat && l.drain_time > 2 * l.leave_notice,
            "the others see that a member leaves"
        );
        assert!(l.mesh_ping_interval + l.mesh_ping_timeout < l.lease_expiry);
        assert!(l.feed_kept > l.events_kept && l.feed_kept_longest > l.feed_kept);
        assert!(l.session_expiry > l.trash_time && l.tombstone_time > l.session_expiry);
    }
}
