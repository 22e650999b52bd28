//! What lies where in the metadata store: the only place that builds a [`Key`].
//!
//! | space | partition | sort | row |
//! |---|---|---|---|
//! | repositories | `_catalog` | repository | [`CatalogEntry`](super::rows::CatalogEntry) |
//! | repositories | repository | `.` | [`Repository`](super::rows::Repository) |
//! | repositories | repository | `t#<tag>` | [`Tag`](super::rows::Tag) |
//! | repositories | repository | `d#<digest>#<tag>` | [`Mark`](super::rows::Mark) |
//! | repositories | repository | `b#<digest>` | [`LinkedBlob`](super::rows::LinkedBlob) |
//! | repositories | repository | `h#<inverted time>` | [`NameChange`](super::rows::NameChange), settled |
//! | repositories | repository | `e#<tag>#<inverted time>` | [`TagEvent`](super::rows::TagEvent) |
//! | repositories | `_changes#<0..7>` | `<repository>#<time>` | [`NameChange`](super::rows::NameChange), not settled yet |
//! | repositories | `_feed#<0..7>` | `.` | [`FeedHead`](super::rows::FeedHead) |
//! | repositories | `_feed#<0..7>` | `<number>` | [`FeedBatch`](super::rows::FeedBatch) |
//! | repositories | `_days#<0..7>` | `<day>#<repository>` | [`Mark`](super::rows::Mark): something changed there |
//! | repositories | `_followers#<follower>` | `<0..7>` | [`FollowerPlace`](super::rows::FollowerPlace) |
//! | repositories | `_scrub` | `<by>#<0..7>` | [`ScrubPlace`](super::rows::ScrubPlace) |
//! | repositories | `_runs` | `<run>#<repository>` | [`RunPart`](super::rows::RunPart) |
//! | repositories | `_plans` | plan | [`Plan`](super::rows::Plan) |
//! | repositories | `_plan#<plan>` | `r#<repository>` | [`PlanPart`](super::rows::PlanPart) |
//! | repositories | `_plan#<plan>` | `i#<repository>#<attempt>#<number>` | [`PlanItems`](super::rows::PlanItems) |
//! | repositories | `_plan#<plan>` | `b#<digest>#<repository>` | [`PlanBlob`](super::rows::PlanBlob) |
//! | repositories | `_usage#<prefix>` | `<00..0f>` | [`Usage`](super::rows::Usage) |
//! | repositories | `_summaries` | repository | [`Summary`](super::rows::Summary) |
//! | repositories | `_stars` | repository | [`Stars`](super::rows::Stars) |
//! | repositories | `_visits#<upstream>` | `<repository>#<rule>` | [`Visit`](super::rows::Visit) |
//! | repositories | `_orders#<work>` | `.now`, `.retry` or repository | [`Order`](super::rows::Order) |
//! | manifests | repository | `m#<digest>` | [`Manifest`](super::rows::Manifest) |
//! | manifests | repository | `p#<digest>` | [`Pull`](super::rows::Pull) |
//! | manifests | repository | `.` | [`Downloads`](super::rows::Downloads) |
//! | manifests | `_pulls` | `.` | [`PullsSince`](super::rows::PullsSince) |
//! | manifests | `_pulled` | `<time>#<id>` | [`Pulled`](super::rows::Pulled) |
//! | manifests | repository | `r#<child>#<parent>` | [`Mark`](super::rows::Mark) |
//! | manifests | repository | `s#<subject>#<digest>` | [`Referrer`](super::rows::Referrer) |
//! | blobs | digest | `.` | [`Blob`](super::rows::Blob) |
//! | blobs | `_due#<00..ff>` | `<time>#<kind>#<key>` | [`Due`](super::rows::Due): sessions, trash, manifests, tombstones |
//! | blobs | `_collect#<00..ff>` | `<time>#<kind>#<key>` | [`Due`](super::rows::Due): links, digests, objects |
//! | links | digest | repository | [`Link`](super::rows::Link) |
//! | uploads | upload id | `.` | [`Session`](super::rows::Session) |
//! | uploads | upload id | `p#<first>#<attempt>` | [`Parts`](super::rows::Parts) |
//! | users | user | `k#<id>` | [`ApiKey`](super::rows::ApiKey) |
//! | users | user | `u#<id>` | [`ApiKeyUse`](super::rows::ApiKeyUse) |
//! | users | user | `p#<repository>` | [`Preference`](super::rows::Preference) |
//! | api-keys | SHA-256 of the key | `.` | [`ApiKey`](super::rows::ApiKey) |
//! | api-keys | `_users` | user | [`KeyRing`](super::rows::KeyRing) |
//! | api-keys | `_token_keys` | key's id | [`TokenKey`](super::rows::TokenKey) |
//! | api-keys | `_revoked` | `<end>#<id>` | [`Revocation`](super::rows::Revocation) of an API key |
//! | api-keys | `_ended_sessions` | `<end>#<id>` | [`Revocation`](super::rows::Revocation) of a session |
//! | members | `_members` | member | [`Lease`](super::rows::Lease) |
//!
//! `#` and `_catalog` can't occur in names, tags or digests, `_` not in hexadecimal, and a bare `.` can't be a repository, so keys never
//! collide. Digests contain a `:`, which sorts after `#`.

mod subject;

pub use self::subject::Subject;
use super::{Key, Space, rows::DueKind};
use crate::{
    oci::{Digest, RepoName, Tag, UploadId},
    placement::MemberId,
};

/// Partition of the catalogue.
pub const CATALOG: &str = "_catalog";
/// Partition of the leases.
pub const MEMBERS: &str = "_members";
/// Sort key of a partition's own row.
const SELF: &str = ".";
/// Prefix of tags among a repository's rows.
pub const TAGS: &str = "t#";
/// How many partitions the due-rows of one [`Queue`] are spread over.
pub const DUE_PARTITIONS: u16 = 256;
/// How many of them a member writes to.
const HOMES: u16 = 4;

fn key(space: Space, partition: impl Into<String>, sort: impl Into<String>) -> Key {
    Key {
        space,
        partition: partition.into(),
        sort: sort.into(),
    }
}

/// The repository's own row.
pub fn repository(name: &RepoName) -> Key {
    key(Space::Repositories, name.as_str(), SELF)
}

/// The repository's entry in the catalogue.
pub fn catalog_entry(name: &RepoName) -> Key {
    key(Space::Repositories, CATALOG, name.as_str())
}

/// What a tag names.
pub fn tag(repository: &RepoName, tag: &Tag) -> Key {
    key(Space::Repositories, repository.as_str(), format!("{TAGS}{tag}"))
}

/// A tag by the digest it names.
pub fn tag_of(repository: &RepoName, digest: &Digest, tag: &Tag) -> Key {
    key(
        Space::Repositories,
        repository.as_str(),
        format!("{}{tag}", tags_of(digest)),
    )
}

/// Prefix of the tags that name a digest.
pub fn tags_of(digest: &Digest) -> String {
    format!("d#{digest}#")
}

/// Prefix of the reverses of links among a repository's rows.
pub const LINKED_BLOBS: &str = "b#";

/// The reverse of [`link`].
pub fn linked_blob(repository: &RepoName, digest: &Digest) -> Key {
    key(
        Space::Repositories,
        repository.as_str(),
        format!("{LINKED_BLOBS}{digest}"),
    )
}

/// Partition of the rows that count what the repositories below a prefix hold.
pub fn usage_partition(prefix: &RepoName) -> String {
    format!("_usage#{prefix}")
}

/// One of those rows.
pub fn usage(prefix: &RepoName, shard: u32) -> Key {
    key(
        Space::Repositories,
        usage_partition(prefix),
        format!("{shard:02x}"),
    )
}

/// Which of them has this sort key.
pub fn usage_shard(sort: &str) -> Option<u32> {
    u32::from_str_radix(sort, 16).ok()
}

/// How many partitions the changes of all repositories are spread over.
pub const CHANGE_PARTITIONS: u8 = 8;

/// Which of them a repository's are in. It never changes.
pub fn change_partition(repository: &RepoName) -> u8 {
    spread(repository.as_str(), u16::from(CHANGE_PARTITIONS)) as u8
}

/// The queue of changes that aren't settled, of the `n`-th partition.
pub fn unsettled_changes(n: u8) -> String {
    format!("_changes#{n}")
}

/// Prefix of one repository's changes among them.
pub fn unsettled_changes_of(repository: &RepoName) -> String {
    format!("{repository}#")
}

/// A change that isn't settled, made at `at_ms` (since the Unix epoch).
pub fn unsettled_change(repository: &RepoName, at_ms: u64) -> Key {
    let sort = format!("{}{at_ms:016x}", unsettled_changes_of(repository));
    unsettled_change_listed(change_partition(repository), sort)
}

/// One of the `n`-th partition, by the sort key that it was listed with.
pub fn unsettled_change_listed(n: u8, sort: String) -> Key {
    key(Space::Repositories, unsettled_changes(n), sort)
}

/// Prefix of a repository's settled changes, the newest first.
pub const HISTORY: &str = "h#";

/// A settled change.
pub fn settled_change(repository: &RepoName, at_ms: u64) -> Key {
    key(
        Space::Repositories,
        repository.as_str(),
        format!("{HISTORY}{}", inverted(at_ms)),
    )
}

/// Prefix of the settled changes of one tag, the newest first.
pub fn tag_events(tag: &Tag) -> String {
    format!("e#{tag}#")
}

/// A settled change of one tag.
pub fn tag_event(repository: &RepoName, tag: &Tag, at_ms: u64) -> Key {
    key(
        Space::Repositories,
        repository.as_str(),
        format!("{}{}", tag_events(tag), inverted(at_ms)),
    )
}

/// Such that later times sort first.
fn inverted(at_ms: u64) -> String {
    format!("{:016x}", u64::MAX - at_ms)
}

/// The `n`-th feed of settled changes.
pub fn feed(n: u8) -> String {
    format!("_feed#{n}")
}

/// What fences it. It sorts before all batches.
pub fn feed_head(n: u8) -> Key {
    key(Space::Repositories, feed(n), SELF)
}

/// A batch of it.
pub fn feed_batch(n: u8, number: u64) -> Key {
    key(Space::Repositories, feed(n), format!("{number:016x}"))
}

/// The number in the sort key of a batch.
pub fn feed_number(sort: &str) -> Option<u64> {
    u64::from_str_radix(sort, 16).ok()
}

/// A settled change of one tag, by the sort key that it was listed with.
pub fn tag_event_listed(repository: &RepoName, sort: String) -> Key {
    key(Space::Repositories, repository.as_str(), sort)
}

/// On which days repositories of the `n`-th partition changed.
pub fn changed_days(n: u8) -> String {
    format!("_days#{n}")
}

/// That the repository changed on this day since the Unix epoch.
pub fn changed_day(n: u8, day: u64, repository: &RepoName) -> Key {
    changed_day_listed(n, format!("{day:08x}#{repository}"))
}

/// One of those rows, by the sort key that it was listed with.
pub fn changed_day_listed(n: u8, sort: String) -> Key {
    key(Space::Repositories, changed_days(n), sort)
}

/// The day and the repository in that.
pub fn changed_day_parts(sort: &str) -> Option<(u64, &str)> {
    let (day, name) = sort.split_once('#')?;
    Some((u64::from_str_radix(day, 16).ok()?, name))
}

/// How far a follower of this name has come in the `n`-th feed.
pub fn follower_place(follower: &str, n: u8) -> Key {
    key(
        Space::Repositories,
        format!("_followers#{follower}"),
        n.to_string(),
    )
}

/// Partition of what runs of retention deleted something from.
pub const RUNS: &str = "_runs";

/// That a run deletes something from the repository.
pub fn run_part(run: &str, repository: &RepoName) -> Key {
    run_part_listed(format!("{}{repository}", parts_of_run(run)))
}

/// One of those rows, by the sort key that it was listed with.
pub fn run_part_listed(sort: String) -> Key {
    key(Space::Repositories, RUNS, sort)
}

/// Prefix of those of one run.
pub fn parts_of_run(run: &str) -> String {
    format!("{run}#")
}

/// Partition of plans of what retention would delete.
pub const PLANS: &str = "_plans";

/// A plan.
pub fn plan(id: &str) -> Key {
    key(Space::Repositories, PLANS, id)
}

/// What belongs to a plan.
pub fn plan_partition(id: &str) -> String {
    format!("_plan#{id}")
}

/// Prefix of the repositories among that.
pub const PLAN_PARTS: &str = "r#";

/// A repository of a plan.
pub fn plan_part(id: &str, repository: &RepoName) -> Key {
    plan_listed(id, format!("{PLAN_PARTS}{repository}"))
}

/// Tags and manifests of a repository that go: the `n`-th row of those that were written together.
pub fn plan_items(id: &str, repository: &RepoName, attempt: &str, n: u32) -> Key {
    plan_listed(id, format!("i#{repository}#{attempt}#{n:08x}"))
}

/// Prefix of the blobs of a plan.
pub const PLAN_BLOBS: &str = "b#";

/// A blob that the repository wouldn't need any more.
pub fn plan_blob(id: &str, digest: &Digest, repository: &RepoName) -> Key {
    plan_listed(id, format!("{PLAN_BLOBS}{digest}#{repository}"))
}

/// What the sort keys of a blob's rows come before, and those of all later digests after.
pub fn plan_blobs_after(digest: &Digest) -> String {
    format!("{PLAN_BLOBS}{digest}$")
}

/// The digest in the sort key of a plan's blob.
pub fn plan_blob_digest(sort: &str) -> Option<&str> {
    Some(sort.strip_prefix(PLAN_BLOBS)?.split_once('#')?.0)
}

/// The digest before such a place.
pub fn plan_blobs_reached(place: &str) -> Option<&str> {
    place.strip_prefix(PLAN_BLOBS)?.strip_suffix('$')
}

/// A row of a plan, by the sort key that it was listed with.
pub fn plan_listed(id: &str, sort: String) -> Key {
    key(Space::Repositories, plan_partition(id), sort)
}

/// How far those have come with reading everything whose places count `by` this name, in the `n`-th part.
pub fn scrub_place(by: &str, n: u8) -> Key {
    key(Space::Repositories, "_scrub", format!("{by}#{n}"))
}

/// Prefix of manifests among a repository's rows.
pub const MANIFESTS: &str = "m#";

/// Prefix of pulls among a repository's rows.
pub const PULLS: &str = "p#";

/// When a manifest was pulled.
pub fn pull(repository: &RepoName, digest: &Digest) -> Key {
    key(Space::Manifests, repository.as_str(), format!("{PULLS}{digest}"))
}

/// How often a repository's manifests were pulled.
pub fn downloads(repository: &RepoName) -> Key {
    key(Space::Manifests, repository.as_str(), SELF)
}

/// Partition of the rows that say which repositories were pulled.
pub const PULLED: &str = "_pulled";

/// Sort key before which rows in [`PULLED`] are from before `ms`, in milliseconds since the Unix epoch.
pub fn pulled_from(ms: u64) -> String {
    format!("{ms:013}")
}

/// Which repositories were pulled, as written then under this id.
pub fn pulled(ms: u64, id: &str) -> Key {
    pulled_listed(format!("{}#{id}", pulled_from(ms)))
}

/// The same, by the sort key that it was listed with.
pub fn pulled_listed(sort: String) -> Key {
    key(Space::Manifests, PULLED, sort)
}

/// Since when pulls are recorded.
pub fn pulls_since() -> Key {
    key(Space::Manifests, "_pulls", SELF)
}

/// A manifest.
pub fn manifest(repository: &RepoName, digest: &Digest) -> Key {
    key(
        Space::Manifests,
        repository.as_str(),
        format!("{MANIFESTS}{digest}"),
    )
}

/// That `parent` references `child`.
pub fn reference(repository: &RepoName, child: &Digest, parent: &Digest) -> Key {
    key(
        Space::Manifests,
        repository.as_str(),
        format!("{}{parent}", references_to(child)),
    )
}

/// Prefix of the manifests that reference `child`.
pub fn references_to(child: &Digest) -> String {
    format!("r#{child}#")
}

/// Prefix of a repository's referrers of whatever subject.
pub const REFERRERS: &str = "s#";

/// A referrer of `subject`.
pub fn referrer(repository: &RepoName, subject: &Digest, digest: &Digest) -> Key {
    key(
        Space::Manifests,
        repository.as_str(),
        format!("{}{digest}", referrers_of(subject)),
    )
}

/// Prefix of the referrers of `subject`.
pub fn referrers_of(subject: &Digest) -> String {
    format!("{REFERRERS}{subject}#")
}

/// The record of a blob.
pub fn blob(digest: &Digest) -> Key {
    key(Space::Blobs, digest.as_str(), SELF)
}

/// That `repository` holds the blob.
pub fn link(digest: &Digest, repository: &RepoName) -> Key {
    key(Space::Links, digest.as_str(), repository.as_str())
}

/// An upload session.
pub fn session(id: &UploadId) -> Key {
    key(Space::Uploads, id.as_str(), SELF)
}

/// Prefix of an upload's rows of parts.
pub const PARTS: &str = "p#";

/// The parts of one acknowledged PATCH, whose first part has the number `first`.
pub fn parts(id: &UploadId, first: u32, attempt: &str) -> Key {
    key(
        Space::Uploads,
        id.as_str(),
        format!("{PARTS}{first:05}#{attempt}"),
    )
}

/// An API key, by its hash in hex.
pub fn api_key(hash: &str) -> Key {
    key(Space::ApiKeys, hash, SELF)
}

/// Partition of the users who have API keys.
pub const KEY_RINGS: &str = "_users";

/// A user's ring of API keys.
pub fn key_ring(user: &str) -> Key {
    key(Space::ApiKeys, KEY_RINGS, user)
}

/// Partition of the keys that tokens are signed by.
pub const TOKEN_KEYS: &str = "_token_keys";

/// A key that tokens are signed by, by its id.
pub fn token_key(id: &str) -> Key {
    of_tokens(TOKEN_KEYS, id)
}

/// Partition of the API keys that were revoked lately.
pub const REVOKED_KEYS: &str = "_revoked";

/// Partition of the sessions that were ended before their time.
pub const ENDED_SESSIONS: &str = "_ended_sessions";

/// That what has this `id` was revoked, to be known until `ends_ms` (since the Unix epoch); in [`REVOKED_KEYS`] or
/// [`ENDED_SESSIONS`].
pub fn revocation(partition: &str, ends_ms: u64, id: &str) -> Key {
    of_tokens(partition, &format!("{}{id}", revoked_before(ends_ms)))
}

/// What the sort keys of revocations sort after that are known for longer than until `ends_ms`.
pub fn revoked_before(ends_ms: u64) -> String {
    format!("{ends_ms:016x}#")
}

/// The end and the id in the sort key of a revocation.
pub fn revocation_parts(sort: &str) -> Option<(u64, &str)> {
    let (end, id) = sort.split_once('#')?;
    Some((u64::from_str_radix(end, 16).ok()?, id))
}

/// A row of [`TOKEN_KEYS`], [`REVOKED_KEYS`] or [`ENDED_SESSIONS`], by the sort key that it was listed with.
pub fn of_tokens(partition: &str, sort: &str) -> Key {
    key(Space::ApiKeys, partition, sort)
}

/// Prefix of API keys among a user's rows.
pub const USERS_API_KEYS: &str = "k#";

/// An API key, by its user and its id.
pub fn users_api_key(user: &str, id: &str) -> Key {
    key(Space::Users, user, format!("{USERS_API_KEYS}{id}"))
}

/// When an API key was last used, by its user and its id.
pub fn api_key_use(user: &str, id: &str) -> Key {
    key(Space::Users, user, format!("u#{id}"))
}

/// Partition of what was found out about repositories.
pub const SUMMARIES: &str = "_summaries";

/// What was found out about a repository.
pub fn summary(repository: &RepoName) -> Key {
    key(Space::Repositories, SUMMARIES, repository.as_str())
}

/// Partition of the counts of stars.
pub const STARS: &str = "_stars";

/// How many users starred a repository.
pub fn stars(repository: &RepoName) -> Key {
    key(Space::Repositories, STARS, repository.as_str())
}

/// Partition of the visits to another registry.
pub fn visits(upstream: &str) -> String {
    format!("_visits#{upstream}")
}

/// The visit to a repository by a rule.
pub fn visit(upstream: &str, repository: &RepoName, rule: &str) -> Key {
    visit_listed(upstream, format!("{repository}#{rule}"))
}

/// One of those rows, by the sort key that it was listed with.
pub fn visit_listed(upstream: &str, sort: String) -> Key {
    key(Space::Repositories, visits(upstream), sort)
}

/// Partition of the orders for some work.
pub fn orders(work: &str) -> String {
    format!("_orders#{work}")
}

/// An order for some work.
pub fn order(work: &str, what: &str) -> Key {
    key(Space::Repositories, orders(work), what)
}

/// Prefix of preferences among a user's rows.
pub const PREFERENCES: &str = "p#";

/// What a user thinks of a repository.
pub fn preference(user: &str, repository: &RepoName) -> Key {
    key(Space::Users, user, format!("{PREFERENCES}{repository}"))
}

/// A row of an upload's parts, by the sort key that it was listed with.
pub fn parts_listed(id: &UploadId, sort: String) -> Key {
    key(Space::Uploads, id.as_str(), sort)
}

/// A member's lease.
pub fn lease(member: &MemberId) -> Key {
    key(Space::Members, MEMBERS, member.as_str())
}

/// The partitions of each [`Queue`] to which one member writes. It reads them itself as long as it lives, so that whoever has
/// nothing to do needn't read the others' to find that out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Homes {
    first: u16,
}

impl Homes {
    /// Of this member, at each of its starts.
    pub fn of(member: &MemberId) -> Self {
        Self {
            first: spread(member.as_str(), DUE_PARTITIONS),
        }
    }

    /// Their numbers.
    pub fn partitions(self) -> impl Iterator<Item = u16> {
        (0..HOMES).map(move |n| self.nth(n))
    }

    fn nth(self, n: u16) -> u16 {
        (self.first + n * (DUE_PARTITIONS / HOMES)) % DUE_PARTITIONS
    }
}

/// A number below `among`. FNV-1a: any spread will do, it only has to stay the same.
fn spread(text: &str, among: u16) -> u16 {
    let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    (hash % u32::from(among)) as u16
}

/// Work to look at when `due_ms` (since the Unix epoch) has come, in one of the writer's `homes`.
pub fn due(homes: Homes, due_ms: u64, kind: DueKind, subject: &str) -> Key {
    key(
        Space::Blobs,
        Queue::of(kind).partition(homes.nth(spread(subject, HOMES))),
        format!("{due_ms:016x}#{}#{subject}", due_kind(kind)),
    )
}

/// How the kind of a due-row is written in its key.
pub fn due_kind(kind: DueKind) -> &'static str {
    match kind {
        DueKind::Unspecified => "unspecified",
        DueKind::Session => "session",
        DueKind::Link => "link",
        DueKind::Digest => "digest",
        DueKind::Trash => "trash",
        DueKind::Tombstone => "tombstone",
        DueKind::ManifestBody => "manifest-body",
        DueKind::Manifest => "manifest",
        DueKind::Relink => "relink",
        DueKind::Object => "object",
    }
}

/// A row of a queue's `n`-th partition, by the sort key that it was listed with.
pub fn due_listed(queue: Queue, n: u16, sort: String) -> Key {
    key(Space::Blobs, queue.partition(n), sort)
}

/// The time and the subject in the sort key of a due-row.
pub fn due_parts(sort: &str) -> Option<(u64, &str)> {
    let (time, rest) = sort.split_once('#')?;
    let (_, subject) = rest.split_once('#')?;
    Some((u64::from_str_radix(time, 16).ok()?, subject))
}

/// The kind and the subject in the sort key of a due-row.
pub fn due_about(sort: &str) -> Option<(&'static str, &str)> {
    let (_, rest) = sort.split_once('#')?;
    let (kind, subject) = rest.split_once('#')?;
    let kinds = (0..).map_while(|n| DueKind::try_from(n).ok());
    let kind = kinds.map(due_kind).find(|name| *name == kind)?;
    Some((kind, subject))
}

/// The due-rows that one worker looks at. What is collected has partitions of its own: there is a row of a link for every
/// blob that was pushed, and who looks for anything else shouldn't have to read past them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Queue {
    /// Sessions, trash, manifests, tombstones.
    Upkeep,
    /// Links, digests, objects.
    Collection,
}

impl Queue {
    /// In which a due-row of this kind is.
    pub fn of(kind: DueKind) -> Self {
        match kind {
            DueKind::Link | DueKind::Digest | DueKind::Object => Self::Collection,
            DueKind::Unspecified
            | DueKind::Session
            | DueKind::Trash
            | DueKind::Tombstone
            | DueKind::ManifestBody
            | DueKind::Manifest
            | DueKind::Relink => Self::Upkeep,
        }
    }

    /// What it is called in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Upkeep => "upkeep",
            Self::Collection => "collection",
        }
    }

    /// Name of the `n`-th partition, of [`DUE_PARTITIONS`].
    pub fn partition(self, n: u16) -> String {
        let queue = match self {
            Self::Upkeep => "_due",
            Self::Collection => "_collect",
        };
        format!("{queue}#{n:02x}")
    }
}
