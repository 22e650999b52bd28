//! What is counted. Every label has a bounded set of values: routes by name, members by name, statuses; never a
//! repository, a user or an address.

use std::time::Duration;

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::Histogram,
    },
    registry::{Registry, Unit},
};

use super::output::LINES;
use crate::placement::MemberId;

/// Handles of all metrics of one member. Cheap to share behind an `Arc`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    request_duration: Family<RouteLabels, Histogram, Latency>,
    request_bytes: Family<DirectionLabels, Counter>,
    /// Client requests this member works on now.
    pub requests_in_flight: Gauge,
    forwards: Family<ForwardLabels, Counter>,
    forward_duration: Family<PeerLabels, Histogram, Latency>,
    forward_bytes: Family<PeerDirectionLabels, Counter>,
    streams: Family<PeerLabels, Gauge>,
    replays: Family<ForwardLabels, Counter>,
    resumed_pulls: Counter,
    members: Family<LivenessLabels, Gauge>,
    lease_renewals: Family<OutcomeLabels, Counter>,
    lease_readings: Family<OutcomeLabels, Counter>,
    store_requests: Family<StoreLabels, Counter>,
    store_duration: Family<StoreLabels, Histogram, Latency>,
    store_read: Counter,
    cache_reads: Family<OutcomeLabels, Counter>,
    cache_failures: Family<CauseLabels, Counter>,
    cache_held: Gauge,
    cache_off: Gauge,
    upkeep_rows: Family<UpkeepLabels, Counter>,
    upkeep_overdue: Family<QueueLabels, Gauge>,
    upkeep_round: Family<QueueLabels, Gauge>,
    collection_waiting: Gauge,
    scrub_objects: Family<OutcomeLabels, Counter>,
    scrub_read: Counter,
    scrub_ends: Family<PartLabels, Gauge>,
    certificate_ends: Family<CertificateLabels, Gauge>,
    mirror: Family<MirrorLabels, Counter>,
    upstream_requests: Family<MirrorLabels, Counter>,
    upstream_duration: Family<UpstreamLabels, Histogram, Latency>,
    upstream_read: Counter,
    events: Family<EventLabels, Counter>,
    events_waiting: Family<SinkLabels, Gauge>,
    replicated: Family<ReplicationLabels, Counter>,
    replicated_bytes: Family<TargetLabels, Counter>,
    replication_waiting: Family<TargetLabels, Gauge>,
}

#[derive(Clone, Debug)]
struct Latency;

impl MetricConstructor<Histogram> for Latency {
    fn new_metric(&self) -> Histogram {
        Histogram::new([
            0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0,
        ])
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RouteLabels {
    route: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DirectionLabels {
    direction: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PeerLabels {
    peer: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PeerDirectionLabels {
    peer: String,
    direction: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ForwardLabels {
    peer: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StoreLabels {
    store: &'static str,
    operation: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CauseLabels {
    cause: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct QueueLabels {
    queue: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PartLabels {
    part: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct UpkeepLabels {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SinkLabels {
    sink: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TargetLabels {
    registry: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReplicationLabels {
    registry: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct EventLabels {
    sink: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct MirrorLabels {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct UpstreamLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CertificateLabels {
    certificate: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LivenessLabels {
    liveness: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

/// How a renewal of this member's lease, or a reading of all leases, went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseOutcome {
    /// As it should.
    Ok,
    /// The store failed, or didn't answer in time.
    Failed,
}

impl LeaseOutcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
        }
    }
}

/// What came of reading something to see whether it has its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScrubOutcome {
    /// It has.
    Whole,
    /// It isn't there, or isn't what was pushed.
    Damaged,
    /// It couldn't be read.
    Failed,
}

impl ScrubOutcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Damaged => "damaged",
            Self::Failed => "failed",
        }
    }
}

/// What became of telling a sink of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventOutcome {
    /// The sink took it.
    Told,
    /// It didn't, or didn't say so; it is told again.
    Failed,
    /// It isn't told again.
    GivenUp,
    /// Some were gone before they could be told, nobody knows how many.
    Missed,
}

impl EventOutcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Told => "told",
            Self::Failed => "failed",
            Self::GivenUp => "given_up",
            Self::Missed => "missed",
        }
    }
}

/// What became of carrying a change to another registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicationOutcome {
    /// It is there.
    Sent,
    /// It wasn't taken; it is carried again.
    Failed,
    /// It isn't carried any more: its repository is to be brought whole.
    Behind,
    /// A repository was brought whole.
    CaughtUp,
    /// A tag or manifest stays there, for it can't be deleted there.
    Undeletable,
    /// A manifest isn't taken there, for it isn't whole here.
    Incomplete,
}

impl ReplicationOutcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Behind => "behind",
            Self::CaughtUp => "caught_up",
            Self::Undeletable => "undeletable",
            Self::Incomplete => "incomplete",
        }
    }
}

/// Which way bytes went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client, or towards the owner.
    Upload,
    /// To the client, or from the owner.
    Download,
}

impl Direction {
    fn as_str(self) -> &'static str {
        match self {
            Self::Upload => "upload",
            Self::Download => "download",
        }
    }
}

/// How a request offered to a member went, seen from the front or from the member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardOutcome {
    /// Answered, whatever the status.
    Answered,
    /// The member named another holder.
    NotOwner,
    /// The member had no room.
    Busy,
    /// The member could not be reached, or the stream broke before `go`.
    Unreachable,
    /// The stream broke after `go`: nobody knows what became of the request.
    Unknown,
    /// The response's body broke off, or the request's did at the client.
    Broken,
    /// Whoever asked left before the end of the response: of a read, which is no failure.
    Left,
    /// The peer, its grants or its frames were refused.
    Refused,
}

impl ForwardOutcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::NotOwner => "not_owner",
            Self::Busy => "busy",
            Self::Unreachable => "unreachable",
            Self::Unknown => "unknown",
            Self::Broken => "broken",
            Self::Left => "left",
            Self::Refused => "refused",
        }
    }
}

impl Metrics {
    /// Registers everything, at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("portolan");
        let metrics = Self {
            requests: Family::default(),
            request_duration: Family::new_with_constructor(Latency),
            request_bytes: Family::default(),
            requests_in_flight: Gauge::default(),
            forwards: Family::default(),
            forward_duration: Family::new_with_constructor(Latency),
            forward_bytes: Family::default(),
            streams: Family::default(),
            replays: Family::default(),
            resumed_pulls: Counter::default(),
            members: Family::default(),
            lease_renewals: Family::default(),
            lease_readings: Family::default(),
            store_requests: Family::default(),
            store_duration: Family::new_with_constructor(Latency),
            store_read: Counter::default(),
            cache_reads: Family::default(),
            cache_failures: Family::default(),
            cache_held: Gauge::default(),
            cache_off: Gauge::default(),
            upkeep_rows: Family::default(),
            upkeep_overdue: Family::default(),
            upkeep_round: Family::default(),
            collection_waiting: Gauge::default(),
            scrub_objects: Family::default(),
            scrub_read: Counter::default(),
            scrub_ends: Family::default(),
            certificate_ends: Family::default(),
            mirror: Family::default(),
            upstream_requests: Family::default(),
            upstream_duration: Family::new_with_constructor(Latency),
            upstream_read: Counter::default(),
            events: Family::default(),
            events_waiting: Family::default(),
            replicated: Family::default(),
            replicated_bytes: Family::default(),
            replication_waiting: Family::default(),
            registry: Registry::default(),
        };
        let m = &metrics;
        registry.register(
            "requests",
            "Requests of clients, by route and status",
            m.requests.clone(),
        );
        registry.register_with_unit(
            "request_duration",
            "Time until a client's response was complete",
            Unit::Seconds,
            m.request_duration.clone(),
        );
        registry.register_with_unit(
            "request_body",
            "Bytes of bodies exchanged with clients",
            Unit::Bytes,
            m.request_bytes.clone(),
        );
        registry.register(
            "requests_in_flight",
            "Requests of clients being worked on",
            m.requests_in_flight.clone(),
        );
        registry.register(
            "forwards",
            "Requests offered to another member, by outcome",
            m.forwards.clone(),
        );
        registry.register_with_unit(
            "forward_duration",
            "Time until a forwarded response's head arrived",
            Unit::Seconds,
            m.forward_duration.clone(),
        );
        registry.register_with_unit(
            "forward_body",
            "Bytes of bodies exchanged with another member as a front",
            Unit::Bytes,
            m.forward_bytes.clone(),
        );
        registry.register(
            "streams",
            "Forward streams open towards another member",
            m.streams.clone(),
        );
        registry.register(
            "replays",
            "Requests offered by another member, by outcome",
            m.replays.clone(),
        );
        registry.register(
            "resumed_pulls",
            "Pulls whose owner's stream broke and that the front finished itself",
            m.resumed_pulls.clone(),
        );
        registry.register(
            "members",
            "Members of the mesh as this one sees them, itself included, by liveness",
            m.members.clone(),
        );
        registry.register(
            "lease_renewals",
            "Renewals of this member's lease, by outcome",
            m.lease_renewals.clone(),
        );
        registry.register(
            "lease_readings",
            "Readings of all leases, by outcome",
            m.lease_readings.clone(),
        );
        registry.register(
            "store_requests",
            "Requests to the stores",
            m.store_requests.clone(),
        );
        registry.register_with_unit(
            "store_duration",
            "Time a request to a store took",
            Unit::Seconds,
            m.store_duration.clone(),
        );
        registry.register_with_unit(
            "store_read",
            "Bytes of objects read from the blob store",
            Unit::Bytes,
            m.store_read.clone(),
        );
        registry.register(
            "cache_reads",
            "Reads of blobs where there is a cache: hit, joined (one that was coming), miss",
            m.cache_reads.clone(),
        );
        registry.register_with_unit(
            "cache_held",
            "Bytes of the files in the cache",
            Unit::Bytes,
            m.cache_held.clone(),
        );
        registry.register(
            "cache_failures",
            "What went wrong with the cache, by cause: disk (nothing is put there for a while), content (a file or an object had other bytes than were written)",
            m.cache_failures.clone(),
        );
        registry.register(
            "cache_off",
            "1 while nothing is put into the cache because its disk failed",
            m.cache_off.clone(),
        );
        registry.register(
            "upkeep_rows",
            "Due-rows that were looked at, by kind and outcome",
            m.upkeep_rows.clone(),
        );
        registry.register_with_unit(
            "upkeep_oldest_overdue",
            "For how long the oldest row that the last round of a queue found had been due",
            Unit::Seconds,
            m.upkeep_overdue.clone(),
        );
        registry.register_with_unit(
            "upkeep_last_round_timestamp",
            "When the last round of a queue ended (Unix time)",
            Unit::Seconds,
            m.upkeep_round.clone(),
        );
        registry.register_with_unit(
            "collection_waiting",
            "Bytes of objects that no repository holds any more and that are to be deleted, as the last rounds of this member's share saw them",
            Unit::Bytes,
            m.collection_waiting.clone(),
        );
        registry.register(
            "scrub_objects",
            "Blobs and manifests that were read to see whether they have their digest, by outcome",
            m.scrub_objects.clone(),
        );
        registry.register_with_unit("scrub_read", "Bytes of them", Unit::Bytes, m.scrub_read.clone());
        registry.register_with_unit(
            "scrub_end_timestamp",
            "When a part of the repositories was read to its end the last time, since the Unix epoch, as this member knows",
            Unit::Seconds,
            m.scrub_ends.clone(),
        );
        registry.register(
            "log_lines_waiting",
            "Lines of this process's log and audit that can't be written for now",
            LINES.waiting.clone(),
        );
        registry.register(
            "log_lines_lost",
            "Lines of this process's log and audit that couldn't be written, and of which too many waited",
            LINES.lost.clone(),
        );
        registry.register_with_unit(
            "certificate_end_timestamp",
            "When the certificates of a file end, since the Unix epoch, by the key of the configuration that names it",
            Unit::Seconds,
            m.certificate_ends.clone(),
        );
        registry.register(
            "mirror_answers",
            "Requests for what is mirrored from other registries, by what was wanted and where it came from",
            m.mirror.clone(),
        );
        registry.register(
            "upstream_requests",
            "Requests to registries that are mirrored, by kind and outcome",
            m.upstream_requests.clone(),
        );
        registry.register_with_unit(
            "upstream_duration",
            "Time until their answers began",
            Unit::Seconds,
            m.upstream_duration.clone(),
        );
        registry.register_with_unit(
            "upstream_read",
            "Bytes of manifests and blobs read from registries that are mirrored",
            Unit::Bytes,
            m.upstream_read.clone(),
        );
        registry.register(
            "events",
            "Events that sinks were told of, by the sink's key in the configuration and outcome",
            m.events.clone(),
        );
        registry.register_with_unit(
            "events_oldest_waiting",
            "For how long the oldest event has been waiting that this member is to tell a sink",
            Unit::Seconds,
            m.events_waiting.clone(),
        );
        registry.register(
            "replicated_changes",
            "Changes carried to other registries, by the registry's key in the configuration and outcome",
            m.replicated.clone(),
        );
        registry.register_with_unit(
            "replicated",
            "Bytes of blobs sent to other registries, by the registry's key in the configuration",
            Unit::Bytes,
            m.replicated_bytes.clone(),
        );
        registry.register_with_unit(
            "replication_oldest_waiting",
            "For how long the oldest change has been waiting that this member is to carry to another registry",
            Unit::Seconds,
            m.replication_waiting.clone(),
        );
        Self { registry, ..metrics }
    }

    /// Somebody wanted a manifest or a blob that is mirrored: a hit, fetched, absent, or what else there is.
    pub fn mirror(&self, kind: &'static str, outcome: &'static str) {
        self.mirror.get_or_create(&MirrorLabels { kind, outcome }).inc();
    }

    /// Another registry was asked.
    pub fn upstream(&self, kind: &'static str, outcome: &'static str, took: Duration) {
        let labels = MirrorLabels { kind, outcome };
        self.upstream_requests.get_or_create(&labels).inc();
        self.upstream_duration
            .get_or_create(&UpstreamLabels { kind })
            .observe(took.as_secs_f64());
    }

    /// Bytes came from another registry.
    pub fn upstream_read(&self, bytes: u64) {
        self.upstream_read.inc_by(bytes);
    }

    /// A client's request was answered to the last byte, or broke off.
    pub fn request(&self, route: &'static str, status: u16, took: Duration) {
        self.requests
            .get_or_create(&RequestLabels { route, status })
            .inc();
        self.request_duration
            .get_or_create(&RouteLabels { route })
            .observe(took.as_secs_f64());
    }

    /// Bytes of a body were exchanged with a client.
    pub fn request_bytes(&self, direction: Direction, bytes: u64) {
        self.request_bytes
            .get_or_create(&DirectionLabels {
                direction: direction.as_str(),
            })
            .inc_by(bytes);
    }

    /// This member offered a request to `peer`.
    pub fn forward(&self, peer: &MemberId, outcome: ForwardOutcome) {
        let labels = ForwardLabels {
            peer: peer.as_str().to_owned(),
            outcome: outcome.as_str(),
        };
        self.forwards.get_or_create(&labels).inc();
    }

    /// `peer` answered with a head after that long.
    pub fn forward_took(&self, peer: &MemberId, took: Duration) {
        let labels = PeerLabels {
            peer: peer.as_str().to_owned(),
        };
        self.forward_duration
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }

    /// Bytes of a body were exchanged with `peer` as its front.
    pub fn forward_bytes(&self, peer: &MemberId, direction: Direction, bytes: u64) {
        let labels = PeerDirectionLabels {
            peer: peer.as_str().to_owned(),
            direction: direction.as_str(),
        };
        self.forward_bytes.get_or_create(&labels).inc_by(bytes);
    }

    /// The number of streams open towards `peer`.
    pub fn streams(&self, peer: &MemberId) -> Gauge {
        self.streams
            .get_or_create(&PeerLabels {
                peer: peer.as_str().to_owned(),
            })
            .clone()
    }

    /// `peer` offered a request to this member.
    pub fn replay(&self, peer: &MemberId, outcome: ForwardOutcome) {
        let labels = ForwardLabels {
            peer: peer.as_str().to_owned(),
            outcome: outcome.as_str(),
        };
        self.replays.get_or_create(&labels).inc();
    }

    /// A broken pull goes on.
    pub fn resumed_pull(&self) {
        self.resumed_pulls.inc();
    }

    /// So many members are live, and so many are not.
    pub fn members(&self, live: usize, gone: usize) {
        for (liveness, count) in [("live", live), ("gone", gone)] {
            let gauge = self.members.get_or_create(&LivenessLabels { liveness });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// This member's lease was renewed, or wasn't.
    pub fn lease_renewal(&self, outcome: LeaseOutcome) {
        let outcome = outcome.as_str();
        self.lease_renewals
            .get_or_create(&OutcomeLabels { outcome })
            .inc();
    }

    /// All leases were read, or weren't.
    pub fn lease_reading(&self, outcome: LeaseOutcome) {
        let outcome = outcome.as_str();
        self.lease_readings
            .get_or_create(&OutcomeLabels { outcome })
            .inc();
    }

    /// A request to a store ended.
    pub fn store(&self, store: &'static str, operation: &'static str, outcome: &'static str, took: Duration) {
        let labels = StoreLabels {
            store,
            operation,
            outcome,
        };
        self.store_requests.get_or_create(&labels).inc();
        self.store_duration
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }

    /// Bytes of an object came from the blob store.
    pub fn store_read(&self, bytes: u64) {
        self.store_read.inc_by(bytes);
    }

    /// A blob was read that may be in the cache: a hit, joined, a miss.
    pub fn cache_read(&self, outcome: &'static str) {
        self.cache_reads.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// Something went wrong with the cache: its disk, or content.
    pub fn cache_failure(&self, cause: &'static str) {
        self.cache_failures.get_or_create(&CauseLabels { cause }).inc();
    }

    /// The files in the cache have so many bytes.
    pub fn cache_held(&self, bytes: u64) {
        self.cache_held.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Whether nothing is put into the cache for now.
    pub fn cache_off(&self, is_off: bool) {
        self.cache_off.set(is_off.into());
    }

    /// A due-row was looked at.
    pub fn upkeep_row(&self, kind: &'static str, outcome: &'static str) {
        self.upkeep_rows
            .get_or_create(&UpkeepLabels { kind, outcome })
            .inc();
    }

    /// The oldest row that a round found had been due for this long; zero if none was.
    pub fn upkeep_overdue(&self, queue: &'static str, overdue: Duration) {
        self.upkeep_overdue
            .get_or_create(&QueueLabels { queue })
            .set(i64::try_from(overdue.as_secs()).unwrap_or(i64::MAX));
    }

    /// A round of a queue ended at `at_ms`, in milliseconds since the Unix epoch.
    pub fn upkeep_round(&self, queue: &'static str, at_ms: u64) {
        self.upkeep_round
            .get_or_create(&QueueLabels { queue })
            .set(i64::try_from(at_ms / 1000).unwrap_or(i64::MAX));
    }

    /// So many bytes are to be deleted.
    pub fn collection_waiting(&self, bytes: u64) {
        self.collection_waiting
            .set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// A blob or a manifest of so many bytes was read to see whether it has its digest.
    pub fn scrubbed(&self, outcome: ScrubOutcome, bytes: u64) {
        let outcome = outcome.as_str();
        self.scrub_objects.get_or_create(&OutcomeLabels { outcome }).inc();
        self.scrub_read.inc_by(bytes);
    }

    /// There may be such outcomes: from here on they are counted from zero.
    pub fn scrubs(&self) {
        for outcome in [ScrubOutcome::Whole, ScrubOutcome::Damaged, ScrubOutcome::Failed] {
            let outcome = outcome.as_str();
            let _ = self.scrub_objects.get_or_create(&OutcomeLabels { outcome });
        }
    }

    /// A part of the repositories was read to its end, so many seconds after the Unix epoch.
    pub fn scrub_ended(&self, part: u8, at_s: i64) {
        let part = u16::from(part);
        self.scrub_ends.get_or_create(&PartLabels { part }).set(at_s);
    }

    /// A sink was told of so many events, or wasn't.
    pub fn events(&self, sink: &str, outcome: EventOutcome, events: u64) {
        let labels = EventLabels {
            sink: sink.to_owned(),
            outcome: outcome.as_str(),
        };
        self.events.get_or_create(&labels).inc_by(events);
    }

    /// The oldest event that a sink is to be told of has been waiting for this long; zero if there is none.
    pub fn events_waiting(&self, sink: &str, waiting: Duration) {
        let sink = sink.to_owned();
        self.events_waiting
            .get_or_create(&SinkLabels { sink })
            .set(i64::try_from(waiting.as_secs()).unwrap_or(i64::MAX));
    }

    /// So many changes were carried to another registry, or weren't.
    pub fn replicated(&self, registry: &str, outcome: ReplicationOutcome, changes: u64) {
        let labels = ReplicationLabels {
            registry: registry.to_owned(),
            outcome: outcome.as_str(),
        };
        self.replicated.get_or_create(&labels).inc_by(changes);
    }

    /// So many bytes of blobs were read to be sent to another registry.
    pub fn replicated_bytes(&self, registry: &str, bytes: u64) {
        let registry = registry.to_owned();
        self.replicated_bytes
            .get_or_create(&TargetLabels { registry })
            .inc_by(bytes);
    }

    /// The oldest change that is to be carried to another registry has been waiting for this long; zero if there is none.
    pub fn replication_waiting(&self, registry: &str, waiting: Duration) {
        let registry = registry.to_owned();
        self.replication_waiting
            .get_or_create(&TargetLabels { registry })
            .set(i64::try_from(waiting.as_secs()).unwrap_or(i64::MAX));
    }

    /// The certificates of the file that `certificate`, a key of the configuration, names end at `until_s`, in seconds
    /// since the Unix epoch.
    pub fn certificate_ends(&self, certificate: &'static str, until_s: i64) {
        let labels = CertificateLabels { certificate };
        self.certificate_ends.get_or_create(&labels).set(until_s);
    }

    /// All of them in the OpenMetrics text format.
    pub fn render(&self) -> String {
        let mut out = String::new();
        // Writing to a String doesn't fail.
        let _ = text::encode(&mut out, &self.registry);
        out
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
