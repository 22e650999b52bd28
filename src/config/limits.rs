//! Every bound of the program, with its default, in one place.
//!
//! Nothing waits, queues, buffers or counts without one of these. `app` makes one `Limits` and hands it down; tests
//! lower what they want to reach. Deliberately absent: bounds that a protocol or a store sets (100 operations of a
//! DynamoDB transaction, 5 MiB of a multipart part), which live with the code that meets them.

use std::time::Duration;

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
    /// Requests that the front has taken on at once; more get 429. A permit lives as long as the bodies it admits.
    pub front_requests: usize,
    /// Bytes of a connection's read buffer and of its write buffer under TLS, at most: they grow with what arrives.
    pub public_buffer_bytes: usize,
    /// Streams of one HTTP/2 connection of a client.
    pub public_streams_per_connection: u32,
    /// Bytes of a request's head, line and fields together; more is 431. Go's and nginx's clients stay below 8 KiB,
    /// bearer tokens can be large.
    pub request_head_bytes: usize,
    /// Header fields of a request.
    pub request_header_fields: usize,
    /// Time for a request's head to arrive (`http.readTimeout`).
    pub request_head_timeout: Duration,
    /// Time a connection may idle between two requests: longer than the idle time of common balancers (60 s), or they
    /// send into a connection that is being closed.
    pub keep_alive_timeout: Duration,
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

    // --- What a request may carry ---
    /// Bytes of a manifest; more is 413 (the specification asks for at least 4 MiB to be taken).
    pub manifest_bytes: usize,
    /// Nesting of a manifest's JSON. Real ones stay below 8.
    pub manifest_depth: usize,
    /// References of one manifest to blobs and manifests. An index of every platform has dozens.
    pub manifest_references: usize,
    /// Bytes of a manifest's body kept inline in its row; larger ones are objects (a DynamoDB item has at most 400 KB).
    pub manifest_inline_bytes: usize,
    /// Tags of one push (`?tag=`); more is 414.
    pub tags_per_push: usize,
    /// Entries of a page of tags, repositories or referrers, and the default where a client says none.
    pub page_size: usize,
    /// Bytes of a page of referrers (the specification's bound for an index is a manifest's).
    pub referrers_page_bytes: usize,

    // --- Mesh ---
    /// Connections of the mesh listener.
    pub mesh_connections: usize,
    /// Requests of other members that this one replays at once; more get `busy`. Apart from `front_requests`: with one
    /// pool two members can deadlock on each other.
    pub replay_requests: usize,
    /// Streams of one mesh connection: a listener's bound, and what a dialler keeps to.
    pub mesh_streams_per_connection: u32,
    /// Bytes of a frame's data, and of an HTTP/2 frame: 16 KiB frames cost half as much CPU again.
    pub frame_bytes: usize,
    /// Bytes of a request's or response's head on the mesh, its fields and the grants together.
    pub mesh_head_bytes: usize,
    /// Window of one stream, so what a stalled reader can hold in memory at each end.
    pub mesh_stream_window_bytes: u32,
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
    /// Interval of a member's heartbeat (design R7).
    pub heartbeat_interval: Duration,
    /// Time for which a member's row may stay unchanged, on the observer's own clock, before it is judged dead (R7).
    pub lease_time: Duration,
    /// Time for which a holder must not have changed before the first in the ranking takes over from a live one (R5).
    pub hold_down: Duration,
    /// Times that a change is validated again after a refused transaction, before 503 "not applied" (R3).
    pub change_attempts: usize,
    /// Changes waiting for one repository; more get 429 (R4: one is in flight).
    pub waiting_changes_per_repository: usize,

    // --- Uploads ---
    /// Bytes of a part of a blob (`chunksize` of the S3 driver). S3 takes 10,000 parts, so the largest blob is 80 GiB.
    pub upload_part_bytes: usize,
    /// Parts of one upload on their way to the store at once; with the one being filled, memory of an upload is this
    /// and one more times `upload_part_bytes`.
    pub upload_parts_in_flight: usize,
    /// Bytes in parts that all uploads of this member hold together; more wait for memory, that is: slow down.
    pub upload_buffer_bytes: usize,
    /// Part numbers that one request reserves at a time.
    pub upload_part_block: u32,
    /// Life of an upload session after its last 202.
    pub session_expiry: Duration,

    // --- Stores ---
    /// Requests to the blob store at once.
    pub blob_store_requests: usize,
    /// Requests to the metadata store at once.
    pub meta_store_requests: usize,
    /// Time for the first byte of a blob store's answer.
    pub blob_store_timeout: Duration,
    /// Time for a metadata store's answer; then the outcome of a write is unknown (R4).
    pub meta_store_timeout: Duration,
    /// Tries of one store request that may be repeated.
    pub store_attempts: usize,
    /// Transactions waiting for the embedded store's thread; more get 503.
    pub embedded_queue: usize,
    /// Bytes of the embedded store's page cache (redb's own default is 1 GiB).
    pub embedded_cache_bytes: usize,
    /// Bytes read ahead of a blob for one reader.
    pub blob_read_bytes: usize,

    // --- Memory caches ---
    /// Bytes of manifests by digest.
    pub manifest_cache_bytes: u64,
    /// Blob records (digest to object key and length).
    pub blob_record_cache_entries: u64,

    // --- Retention of our own traces ---
    /// Life of a deleted repository's row (design R1).
    pub tombstone_time: Duration,
    /// Age before an unreferenced link is looked at (`storage.gcDelay` will set it).
    pub unreferenced_grace: Duration,
    /// Age of trash before it is deleted: more than the longest request (design G4).
    pub trash_time: Duration,
    /// And once more after this, for a PutObject that came late.
    pub trash_second_look: Duration,

    // --- The program ---
    /// Time to finish what is in flight after SIGTERM; the unit's TimeoutStopSec is longer.
    pub drain_time: Duration,
    /// Repositories and peers that metrics tell apart by label; the rest share one.
    pub metric_label_values: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            public_connections: 16_384,
            front_requests: 4_096,
            public_buffer_bytes: 64 * KIB,
            public_streams_per_connection: 128,
            request_head_bytes: 64 * KIB,
            request_header_fields: 128,
            request_head_timeout: Duration::from_secs(30),
            keep_alive_timeout: Duration::from_secs(75),
            tls_handshake_timeout: Duration::from_secs(10),
            no_progress_timeout: Duration::from_secs(60),
            linger_bytes: 64 * 1024 * 1024,
            linger_time: Duration::from_secs(2),
            request_deadline: Duration::from_secs(60),

            manifest_bytes: 4 * MIB,
            manifest_depth: 64,
            manifest_references: 10_000,
            manifest_inline_bytes: 32 * KIB,
            tags_per_push: 30,
            page_size: 1_000,
            referrers_page_bytes: 4 * MIB,

            mesh_connections: 1_024,
            replay_requests: 4_096,
            mesh_streams_per_connection: 128,
            frame_bytes: 256 * KIB,
            mesh_head_bytes: 128 * KIB,
            mesh_stream_window_bytes: 1024 * 1024,
            mesh_connection_window_bytes: 128 * 1024 * 1024,
            mesh_bulk_connections_per_peer: 4,
            mesh_read_buffer_bytes: 256 * KIB,
            mesh_connect_timeout: Duration::from_secs(3),
            accept_timeout: Duration::from_secs(5),
            mesh_ping_interval: Duration::from_secs(5),
            mesh_ping_timeout: Duration::from_secs(5),
            mesh_redial_min: Duration::from_millis(100),
            mesh_redial_max: Duration::from_secs(5),
            hold_time: Duration::from_secs(15),
            hints_followed: 1,
            holder_hints: 65_536,

            heartbeat_interval: Duration::from_secs(2),
            lease_time: Duration::from_secs(10),
            hold_down: Duration::from_secs(30),
            change_attempts: 5,
            waiting_changes_per_repository: 1_024,

            upload_part_bytes: 8 * MIB,
            upload_parts_in_flight: 2,
            upload_buffer_bytes: 96 * MIB,
            upload_part_block: 16,
            session_expiry: DAY,

            blob_store_requests: 512,
            meta_store_requests: 512,
            blob_store_timeout: Duration::from_secs(15),
            meta_store_timeout: Duration::from_secs(5),
            store_attempts: 4,
            embedded_queue: 1_024,
            embedded_cache_bytes: 32 * MIB,
            blob_read_bytes: MIB,

            manifest_cache_bytes: 16 * 1024 * 1024,
            blob_record_cache_entries: 16_384,

            tombstone_time: 7 * DAY,
            unreferenced_grace: DAY,
            trash_time: 6 * HOUR,
            trash_second_look: DAY,

            drain_time: Duration::from_secs(30),
            metric_label_values: 64,
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
        assert!(l.frame_bytes <= l.mesh_stream_window_bytes as usize);
        assert!(
            l.request_head_bytes < l.mesh_head_bytes,
            "a head that the front takes fits on the mesh"
        );
        assert!(
            l.hold_time > l.lease_time,
            "a dead owner is noticed while its requests are held"
        );
        assert!(l.hold_time > l.accept_timeout * 2 && l.request_deadline > l.hold_time);
        assert!(l.lease_time >= l.heartbeat_interval * 4);
        assert!(l.upload_buffer_bytes >= l.upload_part_bytes * (l.upload_parts_in_flight + 1));
        assert!(l.upload_part_bytes >= 5 * MIB, "S3 refuses smaller parts");
        assert!(
            l.manifest_inline_bytes < 300 * KIB,
            "an item of DynamoDB has 400 KB"
        );
        assert!(l.session_expiry > l.trash_time && l.tombstone_time > l.session_expiry);
    }
}
