//! Collection of one blob's content (rules G1 to G5): uploads and a mount that link it, a manifest that comes and goes, the
//! collector's unlinking and its looking for links, a deleted manifest that is kept and may be restored, the trash, readers, a write that arrives late, and objects that somebody takes
//! away, or that a look doesn't find, and pushes that heal them.
//!
//! The steps are those of `registry::links`, `blobs`, `collect`, `objects`, `manifests::collect` and `undo`. The times are steps that may happen whenever the
//! rules' assumptions allow: a day is longer than a write that is late, the trash waits longer than any reader, and a
//! client that was told that a blob is there uses it within the grace.

use super::checker::{self, Model, Steps};

/// The rule that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weakened {
    Nothing,
    /// G1: an upload that finds the record condemned makes its own object the content.
    RevivedWithOwnObject,
    /// G1: of two equal uploads the second leaves its object where it is.
    LoserLeavesObject,
    /// G1: a mount doesn't compare the record.
    MountIgnoresRecord,
    /// G2: a link goes without replacing the repository's row.
    UnlinkIsUnfenced,
    /// G2: what HEAD finds isn't kept for its client.
    NotRearmed,
    /// G2: HEAD answers by any link that is remembered, also one that may go.
    AnsweredByAnyLink,
    /// R9: HEAD answers by a link that is remembered, whatever the repository has become.
    AnsweredUnchecked,
    /// G2: a link is marked as in use whatever it has become since its manifests were looked for.
    MarkedRegardless,
    /// G2: a manifest whose references are collected lets its links be in use.
    StaysInUse,
    /// G2: a link goes though a manifest that can be brought back uses it.
    UnlinkedWhileKept,
    /// G2: a link is shelved without replacing the repository's row.
    ShelvedUnfenced,
    /// G2: a link that comes back from the shelf gets no due-row.
    UnshelvedForGood,
    /// G2: what only a deleted manifest uses that is kept isn't looked at.
    NeverShelved,
    /// G3: a record is condemned for a due-row that another collector has done with. (If this one dies then, nobody looks
    /// at the record again until its last link goes.)
    CondemnedUnasked,
    /// G3: the links are looked for before the record is condemned.
    LinksFirst,
    /// G3: that the record is condemned is enough; whose condemnation it is doesn't matter.
    StateIsEnough,
    /// G3: the record goes whatever it has become.
    RemovedRegardless,
    /// G4: the trash is emptied at once.
    TrashAtOnce,
    /// G4: the trash is emptied once.
    TrashOnce,
    /// G5: an upload links to the record's object without looking at it.
    NotHealed,
    /// G5: the object takes the place of another one, whichever the record names by then.
    HealedUnfenced,
    /// G5: nobody is told that links have to follow.
    NobodyFollows,
    /// G5: a reader that doesn't find its link's object doesn't ask the record.
    ReaderStops,
    /// G5: a link follows to what the record named, whatever it names by then.
    FollowsUnchecked,
    /// G5: the former object is trash before the links have followed.
    FormerGoesFirst,
}

const REPOSITORIES: usize = 3;
const UPLOADS: usize = 3;
const COLLECTORS: usize = 2;
const FOLLOWERS: usize = 2;

/// Which processes there are.
#[derive(Clone, Copy, Debug, Default)]
struct Cast {
    uploads: usize,
    late: bool,
    mounts: bool,
    unlinks: bool,
    /// A manifest is pushed, whose client asked for the blob before, or didn't.
    pushes: bool,
    heads: bool,
    /// Its member remembers the link.
    remembers: bool,
    /// In the beginning a manifest uses the blob; it is deleted.
    used: bool,
    /// Manifests that were deleted are kept, and one is restored.
    history: bool,
    reads: bool,
    collectors: usize,
    crashes: u8,
    /// How often an object is taken away, or a look doesn't find one that is there.
    losses: u8,
    /// Members that let links follow; one without a number.
    followers: usize,
    /// All uploads are to the first repository.
    together: bool,
}

struct Collection {
    cast: Cast,
    weakened: Weakened,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    record: Option<Record>,
    links: [Option<Link>; REPOSITORIES],
    /// The version of the first repository's row, and whether a manifest there refers to the blob.
    row: u8,
    manifest: Manifest,
    /// How often it may be deleted yet.
    deletes: u8,
    /// Objects that are there, and that are yet to arrive, by the upload that writes them.
    objects: [bool; UPLOADS],
    late: [bool; UPLOADS],
    /// Those that somebody took away.
    taken: [bool; UPLOADS],
    /// Those whose links are to follow the record, by a due-row.
    former: [bool; UPLOADS],
    losses: u8,
    followers: [Follower; FOLLOWERS],
    trash: [Trash; UPLOADS],
    /// The version of the due-row that says to look at the digest; 0 when there is none.
    due: u8,
    /// The next version that is drawn.
    fresh: u8,
    crashes: u8,
    uploads: [Upload; UPLOADS],
    mount: Mount,
    unlink: Unlink,
    /// Due-rows of the first repository's link.
    link_dues: u8,
    push: Push,
    restore: Restore,
    /// The link as a member remembers it, with the version of the first repository's row.
    remembered: Option<(u8, Link)>,
    read: Read,
    collectors: [Collector; COLLECTORS],
    broken: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Record {
    is_live: bool,
    object: usize,
    version: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Link {
    object: usize,
    version: u8,
    // Its grace is over.
    is_old: bool,
    // A live manifest was seen to use it.
    in_use: bool,
    // It is there for a manifest only that can be brought back.
    shelved: bool,
}

/// The one manifest that refers to the blob, in the first repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Manifest {
    None,
    Live,
    /// Its references are there.
    Deleted,
    /// Likewise, and its link was let go: it is kept for who restores it.
    Kept,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Trash {
    Not,
    First,
    Second,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Upload {
    Put,
    Publish(Option<Record>),
    /// It has looked at the record's object.
    Link {
        record: Record,
        is_whole: bool,
        /// Whether it really was there.
        was_there: bool,
    },
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Mount {
    Look,
    Link(Record),
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Unlink {
    Row,
    Link {
        row: u8,
    },
    Manifests {
        row: u8,
        link: Link,
        record: Option<Record>,
    },
    Mark {
        link: Link,
    },
    Commit {
        row: u8,
        link: Link,
        record: Option<Record>,
    },
    Shelve {
        row: u8,
        link: Link,
    },
    Over,
}

/// A client that asks for the blob (unless it knows), and pushes a manifest with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Push {
    Head,
    Row,
    Link { row: u8 },
    Commit { row: u8 },
    Over,
}

/// Somebody who brings the deleted manifest back (`Registry::restore`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Restore {
    Look,
    Unshelve,
    Row,
    Link { row: u8 },
    Commit { row: u8 },
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Read {
    Link,
    Object(usize),
    /// That wasn't there.
    Record(usize),
    Over,
}

/// The worker that lets links follow the record (`Registry::relink`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Follower {
    Idle,
    Find {
        former: usize,
    },
    Commit {
        former: usize,
        repository: usize,
        link: Link,
        record: Option<Record>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Collector {
    Idle,
    Record { due: u8 },
    Condemn { due: u8, record: Record },
    Links { due: u8, record: Record },
    Decide { due: u8, record: Record, linked: bool },
}

impl State {
    fn version(&mut self) -> u8 {
        self.fresh += 1;
        assert!(self.fresh < 30, "something goes round for ever");
        self.fresh
    }

    /// A link that names another object stays: it follows by its due-row.
    fn link(&mut self, repository: usize, object: usize) {
        let former = self.links[repository];
        if former.is_some_and(|link| link.object != object && !link.shelved) {
            return;
        }
        let version = self.version();
        let named = former.map_or(object, |link| link.object);
        self.links[repository] = Some(Link {
            object: named,
            version,
            is_old: false,
            in_use: false,
            shelved: false,
        });
    }

    /// The first repository's link, as everybody sees it who doesn't collect.
    fn present(&self) -> Option<Link> {
        self.links[0].filter(|link| !link.shelved)
    }

    /// A due-row of the link goes.
    fn unlinked(&mut self) {
        self.unlink = Unlink::Over;
        self.link_dues -= 1;
    }

    fn throw_away(&mut self, object: usize) {
        self.trash[object] = Trash::First;
    }

    /// The due-row goes, unless it was written anew.
    fn done(&mut self, due: u8) {
        if self.due == due {
            self.due = 0;
        }
    }
}

impl Collection {
    fn upload(&self, state: &State, at: usize, steps: &mut Steps<State>) {
        let mut next = state.clone();
        match state.uploads[at] {
            Upload::Put => {
                if self.cast.late {
                    // The put isn't answered: the session is given up, and what may come of it is trash.
                    let mut late = state.clone();
                    late.late[at] = true;
                    late.throw_away(at);
                    late.uploads[at] = Upload::Over;
                    steps.push(("an upload gives up waiting for its object", late));
                }
                next.objects[at] = true;
                next.uploads[at] = Upload::Publish(None);
                steps.push(("an object is put", next));
            }
            Upload::Publish(seen) if seen != state.record => {
                next.uploads[at] = Upload::Publish(state.record);
                steps.push(("an upload finds the record", next));
            }
            Upload::Publish(None) => {
                let version = next.version();
                self.publish(&mut next, at, at, version);
                steps.push(("an upload is published", next));
            }
            Upload::Publish(Some(record)) => {
                let was_there = state.objects[record.object];
                let looked = |is_whole| Upload::Link {
                    record,
                    is_whole,
                    was_there,
                };
                if was_there && state.losses > 0 {
                    let mut next = state.clone();
                    next.losses -= 1;
                    next.uploads[at] = looked(false);
                    steps.push(("an upload doesn't see an object that is there", next));
                }
                next.uploads[at] = looked(was_there || self.weakened == Weakened::NotHealed);
                steps.push(("an upload looks at the record's object", next));
            }
            Upload::Link {
                record,
                is_whole,
                was_there,
            } => {
                let is_fenced = is_whole || self.weakened != Weakened::HealedUnfenced;
                if state.record != Some(record) && is_fenced {
                    next.uploads[at] = Upload::Publish(state.record);
                    steps.push(("an upload finds another record", next));
                    return;
                }
                let is_own =
                    !is_whole || (!record.is_live && self.weakened == Weakened::RevivedWithOwnObject);
                if !is_whole && self.weakened != Weakened::NobodyFollows {
                    next.former[record.object] = true;
                }
                let object = if is_own { at } else { record.object };
                if !is_own && !was_there && !state.objects[object] {
                    next.broken = Some("what was pushed again is still lost");
                }
                let version = match record.is_live && !is_own {
                    true => record.version,
                    false => next.version(),
                };
                self.publish(&mut next, at, object, version);
                steps.push(("an upload is published", next));
            }
            Upload::Over => {}
        }
    }

    /// The transaction that ends an upload.
    fn publish(&self, next: &mut State, at: usize, object: usize, version: u8) {
        next.record = Some(Record {
            is_live: true,
            object,
            version,
        });
        let repository = if self.cast.together { 0 } else { at };
        next.link(repository, object);
        if repository == 0 {
            next.link_dues += 1;
        }
        if object != at && self.weakened != Weakened::LoserLeavesObject {
            next.throw_away(at);
        }
        next.uploads[at] = Upload::Over;
    }

    /// Links to an object that was lost follow the record, then that object is trash.
    fn follow(&self, state: &State, at: usize, steps: &mut Steps<State>) {
        let mut next = state.clone();
        match state.followers[at] {
            Follower::Idle => {
                for former in (0..UPLOADS).filter(|former| state.former[*former]) {
                    let mut next = state.clone();
                    next.followers[at] = Follower::Find { former };
                    steps.push(("a follower finds work", next));
                }
            }
            Follower::Find { former } => {
                let mut links = state.links.iter().enumerate();
                let found = links.find_map(|(repository, link)| {
                    link.filter(|link| link.object == former)
                        .map(|link| (repository, link))
                });
                match found.filter(|_| self.weakened != Weakened::FormerGoesFirst) {
                    Some((repository, link)) => {
                        next.followers[at] = Follower::Commit {
                            former,
                            repository,
                            link,
                            record: state.record,
                        };
                        steps.push(("a follower reads a link and the record", next));
                    }
                    None => {
                        next.former[former] = false;
                        next.throw_away(former);
                        next.followers[at] = Follower::Idle;
                        steps.push(("no link names the former object", next));
                    }
                }
            }
            Follower::Commit {
                former,
                repository,
                link,
                record,
            } => {
                let is_that = state.record == record || self.weakened == Weakened::FollowsUnchecked;
                if state.links[repository] == Some(link)
                    && is_that
                    && let Some(record) = record
                {
                    let version = next.version();
                    if repository == 0 {
                        next.row = version;
                    }
                    next.links[repository] = Some(Link {
                        object: record.object,
                        version,
                        ..link
                    });
                }
                next.followers[at] = Follower::Find { former };
                steps.push(("a link follows, or finds another record", next));
            }
        }
    }

    fn mount(&self, state: &State, steps: &mut Steps<State>) {
        let mut next = state.clone();
        match state.mount {
            Mount::Look => {
                next.mount = match (state.present(), state.record) {
                    (Some(_), Some(record)) => Mount::Link(record),
                    _ => Mount::Over,
                };
                steps.push(("a mount looks", next));
            }
            Mount::Link(record) => {
                if self.weakened == Weakened::MountIgnoresRecord {
                    next.link(2, record.object);
                } else if state.record == Some(record) {
                    if !record.is_live {
                        let version = next.version();
                        next.record = Some(Record {
                            is_live: true,
                            version,
                            ..record
                        });
                    }
                    next.link(2, record.object);
                } else {
                    next.mount = Mount::Look;
                    steps.push(("a mount looks again", next));
                    return;
                }
                next.mount = Mount::Over;
                steps.push(("a blob is mounted", next));
            }
            Mount::Over => {}
        }
    }

    /// The sweep of a link that no manifest uses (`blobs::Unlink`, and the grace).
    fn unlink(&self, state: &State, steps: &mut Steps<State>) {
        let mut next = state.clone();
        match state.unlink {
            Unlink::Row => {
                next.unlink = Unlink::Link { row: state.row };
                steps.push(("an unlink reads the row", next));
            }
            Unlink::Link { row } => match state.links[0] {
                Some(link) if (link.is_old || link.shelved) && !link.in_use => {
                    let record = state.record;
                    next.unlink = Unlink::Manifests { row, link, record };
                    steps.push(("an unlink finds the grace over", next));
                }
                // Its due-row moves.
                Some(link) if !link.in_use => {}
                Some(_) | None => {
                    next.unlinked();
                    steps.push(("an unlink finds nothing to do", next));
                }
            },
            Unlink::Manifests { row, link, record } => {
                let is_seen_to = match state.manifest {
                    Manifest::Live | Manifest::Kept => link.shelved,
                    // Whoever collects it writes a due-row.
                    Manifest::Deleted => !self.cast.history || link.shelved,
                    Manifest::None => false,
                };
                next.unlink = match state.manifest {
                    _ if is_seen_to => {
                        next.unlinked();
                        Unlink::Over
                    }
                    Manifest::Live => Unlink::Mark { link },
                    Manifest::Deleted | Manifest::Kept if self.weakened == Weakened::UnlinkedWhileKept => {
                        Unlink::Commit { row, link, record }
                    }
                    Manifest::Deleted | Manifest::Kept => Unlink::Shelve { row, link },
                    Manifest::None => Unlink::Commit { row, link, record },
                };
                steps.push(("an unlink looks for manifests", next));
            }
            Unlink::Mark { link } => {
                let is_that = state.links[0] == Some(link) || self.weakened == Weakened::MarkedRegardless;
                match state.links[0] {
                    Some(now) if is_that => {
                        let version = next.version();
                        next.links[0] = Some(Link {
                            in_use: true,
                            version,
                            ..now
                        });
                        next.unlinked();
                    }
                    // The due-row stays for another round.
                    Some(_) | None => next.unlink = Unlink::Row,
                }
                steps.push(("a link is marked as in use", next));
            }
            Unlink::Commit { row, link, record } => {
                let is_fenced = self.weakened != Weakened::UnlinkIsUnfenced;
                let is_same = state.links[0] == Some(link) && state.record == record;
                if is_same && (state.row == row || !is_fenced) {
                    let version = next.version();
                    if is_fenced {
                        next.row = version;
                    }
                    next.links[0] = None;
                    next.due = version;
                    // A client's DELETE leaves the record to the due-row.
                    let mut deleted = next.clone();
                    deleted.unlinked();
                    steps.push(("a client deletes the link", deleted));
                    next.record = record.map(|record| match record.is_live {
                        true => Record {
                            is_live: false,
                            version,
                            ..record
                        },
                        false => record,
                    });
                    next.unlinked();
                    steps.push(("a link goes, and the record is condemned", next));
                } else {
                    next.unlink = Unlink::Row;
                    steps.push(("an unlink is refused", next));
                }
            }
            Unlink::Shelve { row, link } => {
                let is_fenced = self.weakened != Weakened::ShelvedUnfenced;
                if state.links[0] == Some(link) && (state.row == row || !is_fenced) {
                    let version = next.version();
                    if is_fenced {
                        next.row = version;
                    }
                    next.links[0] = Some(Link {
                        version,
                        shelved: true,
                        ..link
                    });
                    next.unlinked();
                    steps.push(("a link is shelved", next));
                } else {
                    next.unlink = Unlink::Row;
                    steps.push(("a link isn't shelved", next));
                }
            }
            Unlink::Over if state.link_dues > 0 && self.cast.unlinks => {
                next.unlink = Unlink::Row;
                steps.push(("an unlink finds work", next));
            }
            Unlink::Over => {}
        }
    }

    /// The end of the manifest: deleted, and after a grace its references are collected.
    fn remove(&self, state: &State, steps: &mut Steps<State>) {
        if !self.cast.used {
            return;
        }
        let mut next = state.clone();
        match state.manifest {
            Manifest::Live if state.deletes > 0 => {
                next.deletes -= 1;
                next.row = next.version();
                next.manifest = Manifest::Deleted;
                steps.push(("the manifest is deleted", next));
            }
            Manifest::Deleted if self.cast.history => {
                next.row = next.version();
                next.manifest = Manifest::Kept;
                if let Some(link) = state.present()
                    && self.weakened != Weakened::NeverShelved
                {
                    next.link(0, link.object);
                    next.link_dues += 1;
                }
                steps.push(("the manifest's link is let go", next));
            }
            Manifest::Deleted | Manifest::Kept => {
                next.row = next.version();
                next.manifest = Manifest::None;
                if let Some(link) = state.links[0] {
                    if self.weakened != Weakened::StaysInUse && !link.shelved {
                        next.link(0, link.object);
                    }
                    next.link_dues += 1;
                }
                steps.push(("the manifest's references are collected", next));
            }
            Manifest::Live | Manifest::None => {}
        }
    }

    fn push(&self, state: &State, steps: &mut Steps<State>) {
        let mut next = state.clone();
        match state.push {
            Push::Head => {
                self.head_remembered(state, steps);
                if let Some(link) = state.present() {
                    if self.weakened != Weakened::NotRearmed && link.is_old && !link.in_use {
                        next.link(0, link.object);
                    }
                    next.push = Push::Row;
                    steps.push(("HEAD says that the blob is there", next));
                }
            }
            Push::Row => {
                next.push = Push::Link { row: state.row };
                steps.push(("a push reads the row", next));
            }
            Push::Link { row } => {
                next.push = match state.present() {
                    Some(_) => Push::Commit { row },
                    None => Push::Over,
                };
                if state.present().is_none() && self.cast.heads {
                    next.broken = Some("a blob that HEAD found isn't there for the manifest");
                }
                steps.push(("a push looks for the blob", next));
            }
            Push::Commit { row } if row == state.row => {
                next.row = next.version();
                next.manifest = Manifest::Live;
                next.push = Push::Over;
                steps.push(("a manifest is there", next));
            }
            Push::Commit { .. } => {
                next.push = Push::Row;
                steps.push(("a push is refused", next));
            }
            Push::Over => {}
        }
    }

    /// The deleted manifest comes back: its link first, as if the blob had been pushed, then a push.
    fn restore(&self, state: &State, steps: &mut Steps<State>) {
        let mut next = state.clone();
        match state.restore {
            Restore::Look if matches!(state.manifest, Manifest::Deleted | Manifest::Kept) => {
                next.restore = Restore::Unshelve;
                steps.push(("somebody finds the deleted manifest", next));
            }
            Restore::Unshelve => {
                if let Some(link) = state.links[0].filter(|link| link.shelved) {
                    next.link(0, link.object);
                    if self.weakened != Weakened::UnshelvedForGood {
                        next.link_dues += 1;
                    }
                }
                next.restore = Restore::Row;
                steps.push(("the link is off the shelf", next));
            }
            Restore::Row => {
                next.restore = Restore::Link { row: state.row };
                steps.push(("a restore reads the row", next));
            }
            Restore::Link { row } => {
                next.restore = match state.present() {
                    Some(_) => Restore::Commit { row },
                    None => Restore::Over,
                };
                steps.push(("a restore looks for the blob", next));
            }
            Restore::Commit { row } if row == state.row => {
                next.row = next.version();
                next.manifest = Manifest::Live;
                next.restore = Restore::Over;
                steps.push(("the manifest is back", next));
            }
            Restore::Commit { .. } => {
                next.restore = Restore::Row;
                steps.push(("a restore is refused", next));
            }
            Restore::Look | Restore::Over => {}
        }
        if !matches!(state.restore, Restore::Look | Restore::Over) && state.crashes > 0 {
            let mut crashed = state.clone();
            crashed.crashes -= 1;
            crashed.restore = Restore::Over;
            steps.push(("a restore crashes", crashed));
        }
    }

    /// A HEAD by what is remembered (rule R9): it writes nothing, so the link must be one that stays.
    fn head_remembered(&self, state: &State, steps: &mut Steps<State>) {
        if !self.cast.remembers {
            return;
        }
        if let Some(link) = state.present() {
            let mut next = state.clone();
            next.remembered = Some((state.row, link));
            steps.push(("a member remembers the link", next));
        }
        let Some((row, link)) = state.remembered else {
            return;
        };
        let stays = link.in_use || !link.is_old || self.weakened == Weakened::AnsweredByAnyLink;
        if (row == state.row || self.weakened == Weakened::AnsweredUnchecked) && stays {
            let mut next = state.clone();
            next.push = Push::Row;
            steps.push(("HEAD says by what is remembered that the blob is there", next));
        }
    }

    fn read(&self, state: &State, steps: &mut Steps<State>) {
        let mut next = state.clone();
        match (state.read, state.present()) {
            (Read::Link, Some(link)) => {
                next.read = Read::Object(link.object);
                steps.push(("a pull finds the link", next));
            }
            (Read::Object(object), _) if state.objects[object] => {
                next.read = Read::Over;
                steps.push(("a pull reads the object", next));
            }
            (Read::Object(object), _) => {
                if !state.taken[object] {
                    next.broken = Some("a pull that found the link doesn't find the object");
                }
                next.read = Read::Record(object);
                if self.weakened == Weakened::ReaderStops {
                    next.read = Read::Over;
                    if state.record.is_some_and(|record| state.objects[record.object]) {
                        next.broken = Some("a pull doesn't find what was pushed again");
                    }
                }
                steps.push(("a pull doesn't find the object", next));
            }
            (Read::Record(object), _) => {
                let other = state.record.filter(|record| record.object != object);
                next.read = other.map_or(Read::Over, |record| Read::Object(record.object));
                steps.push(("a pull asks the record", next));
            }
            (Read::Link, None) | (Read::Over, _) => {}
        }
    }

    fn collect(&self, state: &State, at: usize, steps: &mut Steps<State>) {
        let mut next = state.clone();
        let now = &mut next.collectors[at];
        let step = match state.collectors[at] {
            Collector::Idle if state.due == 0 => return,
            Collector::Idle => {
                *now = Collector::Record { due: state.due };
                "a collector finds work"
            }
            Collector::Record { due } => {
                match state.record {
                    None => {
                        *now = Collector::Idle;
                        next.done(due);
                    }
                    Some(record) if record.is_live && self.weakened != Weakened::LinksFirst => {
                        *now = Collector::Condemn { due, record };
                    }
                    // One that was condemned before, perhaps by a collector that died, goes on from here.
                    Some(record) => *now = Collector::Links { due, record },
                }
                "a collector reads the record"
            }
            Collector::Condemn { due, record } => {
                let is_asked_for = state.due == due || self.weakened == Weakened::CondemnedUnasked;
                if state.record == Some(record) && is_asked_for {
                    let version = next.version();
                    let condemned = Record {
                        is_live: false,
                        version,
                        ..record
                    };
                    next.record = Some(condemned);
                    next.collectors[at] = Collector::Links {
                        due,
                        record: condemned,
                    };
                } else {
                    *now = Collector::Idle;
                }
                "the record is condemned"
            }
            Collector::Links { due, record } => {
                let linked = state.links.iter().any(Option::is_some);
                *now = Collector::Decide { due, record, linked };
                "a collector looks for links"
            }
            Collector::Decide { due, record, linked } => {
                *now = Collector::Idle;
                self.decide(&mut next, due, record, linked);
                "a collector decides"
            }
        };
        if state.crashes > 0 && state.collectors[at] != Collector::Idle {
            let mut crashed = state.clone();
            crashed.crashes -= 1;
            crashed.collectors[at] = Collector::Idle;
            steps.push(("a collector crashes", crashed));
        }
        steps.push((step, next));
    }

    fn decide(&self, state: &mut State, due: u8, record: Record, linked: bool) {
        let is_that = match self.weakened {
            Weakened::StateIsEnough => state.record.is_some_and(|now| !now.is_live),
            Weakened::RemovedRegardless => state.record.is_some(),
            _ => state.record == Some(record),
        };
        match (is_that, linked) {
            (true, true) => {
                let version = state.version();
                state.record = Some(Record {
                    is_live: true,
                    version,
                    ..record
                });
                state.done(due);
            }
            (true, false) => {
                state.record = None;
                state.throw_away(record.object);
                state.done(due);
            }
            // Someone came first; the due-row stays until somebody has seen to it.
            (false, _) => {}
        }
    }

    fn time(&self, state: &State, steps: &mut Steps<State>) {
        let pushes = matches!(state.push, Push::Row | Push::Link { .. } | Push::Commit { .. });
        if self.cast.unlinks && !(pushes && self.cast.heads) {
            let links = state.present();
            if let Some(link) = links.filter(|link| !link.is_old) {
                let mut next = state.clone();
                next.links[0] = Some(Link { is_old: true, ..link });
                // It was armed no later.
                next.remembered = state
                    .remembered
                    .map(|(row, link)| (row, Link { is_old: true, ..link }));
                steps.push(("the grace passes", next));
            }
        }
        for object in 0..UPLOADS {
            let is_named = state.record.is_some_and(|record| record.object == object);
            if state.losses > 0 && state.objects[object] && is_named {
                let mut next = state.clone();
                next.losses -= 1;
                (next.objects[object], next.taken[object]) = (false, true);
                steps.push(("somebody takes an object away", next));
            }
            if state.late[object] {
                let mut next = state.clone();
                (next.late[object], next.objects[object]) = (false, true);
                steps.push(("an object arrives late", next));
            }
            let mut next = state.clone();
            next.objects[object] = false;
            let is_read = state.read == Read::Object(object) && self.weakened != Weakened::TrashAtOnce;
            match state.trash[object] {
                Trash::First if !is_read => {
                    next.trash[object] = match self.weakened {
                        Weakened::TrashOnce => Trash::Not,
                        _ => Trash::Second,
                    };
                    steps.push(("the trash is emptied", next));
                }
                Trash::Second if !state.late[object] => {
                    next.trash[object] = Trash::Not;
                    steps.push(("the trash is emptied again, a day later", next));
                }
                Trash::First | Trash::Second | Trash::Not => {}
            }
        }
    }
}

impl Model for Collection {
    type State = State;

    fn start(&self) -> State {
        let Cast {
            mounts,
            pushes,
            heads,
            reads,
            uploads,
            crashes,
            losses,
            ..
        } = self.cast;
        let mut state = State {
            record: None,
            links: [None; REPOSITORIES],
            row: 0,
            manifest: Manifest::None,
            deletes: 0,
            objects: [false; UPLOADS],
            late: [false; UPLOADS],
            taken: [false; UPLOADS],
            former: [false; UPLOADS],
            losses,
            followers: [Follower::Idle; FOLLOWERS],
            trash: [Trash::Not; UPLOADS],
            due: 0,
            fresh: 0,
            crashes,
            uploads: [Upload::Over; UPLOADS],
            mount: if mounts { Mount::Look } else { Mount::Over },
            unlink: Unlink::Over,
            link_dues: 0,
            push: match (pushes, heads) {
                (true, true) => Push::Head,
                (true, false) => Push::Row,
                (false, _) => Push::Over,
            },
            restore: if self.cast.history {
                Restore::Look
            } else {
                Restore::Over
            },
            remembered: None,
            read: if reads { Read::Link } else { Read::Over },
            collectors: [Collector::Idle; COLLECTORS],
            broken: None,
        };
        // The blob that a manifest uses in the beginning is the first upload's.
        let first = usize::from(self.cast.used);
        state.uploads[first..first + uploads].fill(Upload::Put);
        if self.cast.used {
            state.objects[0] = true;
            state.link(0, 0);
            let version = state.version();
            state.record = Some(Record {
                is_live: true,
                object: 0,
                version,
            });
            state.links[0] = state.links[0].map(|link| Link { in_use: true, ..link });
            state.manifest = Manifest::Live;
            state.deletes = if self.cast.history { 1 } else { 2 };
        }
        state
    }

    fn next(&self, state: &State, steps: &mut Steps<State>) {
        for at in 0..UPLOADS {
            self.upload(state, at, steps);
        }
        self.mount(state, steps);
        self.unlink(state, steps);
        self.remove(state, steps);
        self.push(state, steps);
        self.restore(state, steps);
        self.read(state, steps);
        for at in 0..self.cast.followers.max(1) {
            self.follow(state, at, steps);
        }
        for at in 0..self.cast.collectors {
            self.collect(state, at, steps);
        }
        self.time(state, steps);
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        for link in state.links.iter().flatten() {
            match state.record {
                None => return Some("a link has no record"),
                Some(record) if record.object != link.object && !state.former[link.object] => {
                    return Some("a link's object isn't the record's, and nobody sees to it");
                }
                Some(_) if !state.objects[link.object] && !state.taken[link.object] => {
                    return Some("a link has no object");
                }
                Some(_) => {}
            }
        }
        if state
            .record
            .is_some_and(|record| state.trash[record.object] != Trash::Not)
        {
            return Some("a record's object is in the trash");
        }
        if state.manifest == Manifest::Live && state.present().is_none() {
            return Some("a manifest's blob is gone");
        }
        let is_kept = self.cast.history && matches!(state.manifest, Manifest::Deleted | Manifest::Kept);
        if is_kept && state.links[0].is_none() {
            return Some("the blob of a manifest that can be brought back is gone");
        }
        // It is looked at until it is shelved.
        let is_seen_to = state.link_dues > 0 || state.unlink != Unlink::Over;
        if state.manifest == Manifest::Kept && state.present().is_some() && !is_seen_to {
            return Some("what only a deleted manifest uses counts for good");
        }
        state.broken
    }

    fn stuck(&self, state: &State) -> Option<&'static str> {
        let linked = state.links.iter().any(Option::is_some);
        for object in 0..UPLOADS {
            let is_named = state.record.is_some_and(|record| record.object == object);
            if state.objects[object] && !is_named {
                return Some("an object that nothing names stays");
            }
        }
        for link in state.links.iter().flatten() {
            if state.record.is_none_or(|record| record.object != link.object) {
                return Some("a link stays at an object that was lost");
            }
        }
        if self.cast.unlinks && state.manifest == Manifest::None && state.links[0].is_some() {
            return Some("a link that no manifest uses stays");
        }
        match state.record {
            Some(record) if !record.is_live => Some("a record stays condemned"),

            Some(_) if !linked => Some("content that nothing links stays"),
            Some(_) | None => None,
        }
    }
}

fn casts() -> [Cast; 17] {
    let one = Cast {
        uploads: 1,
        unlinks: true,
        collectors: 1,
        ..Cast::default()
    };
    [
        Cast { late: true, ..one },
        Cast {
            reads: true,
            mounts: true,
            ..one
        },
        Cast { pushes: true, ..one },
        Cast {
            pushes: true,
            heads: true,
            crashes: 1,
            ..one
        },
        Cast {
            uploads: 0,
            used: true,
            ..one
        },
        Cast {
            uploads: 0,
            used: true,
            pushes: true,
            heads: true,
            ..one
        },
        Cast {
            uploads: 0,
            used: true,
            pushes: true,
            heads: true,
            remembers: true,
            ..one
        },
        Cast {
            uploads: 2,
            collectors: 2,
            ..one
        },
        Cast {
            uploads: 2,
            mounts: true,
            collectors: 2,
            crashes: 1,
            ..one
        },
        Cast {
            uploads: 2,
            losses: 1,
            reads: true,
            mounts: true,
            ..Cast::default()
        },
        Cast {
            uploads: 3,
            losses: 2,
            reads: true,
            together: true,
            ..Cast::default()
        },
        Cast {
            uploads: 3,
            losses: 2,
            followers: 2,
            ..Cast::default()
        },
        Cast {
            uploads: 3,
            losses: 2,
            ..one
        },
        Cast {
            uploads: 0,
            used: true,
            history: true,
            reads: true,
            crashes: 1,
            ..one
        },
        Cast {
            uploads: 0,
            used: true,
            history: true,
            mounts: true,
            ..one
        },
        Cast {
            uploads: 0,
            used: true,
            history: true,
            pushes: true,
            heads: true,
            remembers: true,
            ..one
        },
        // The blob is pushed again, whatever uses it.
        Cast {
            used: true,
            pushes: true,
            heads: true,
            remembers: true,
            together: true,
            ..one
        },
    ]
}

fn models(weakened: Weakened) -> impl Iterator<Item = Collection> {
    casts().into_iter().map(move |cast| Collection { cast, weakened })
}

#[test]
fn what_is_linked_is_whole_and_what_is_not_goes() {
    checker::holds("collection", models(Weakened::Nothing));
}

#[test]
fn each_rule_of_collection_is_needed() {
    use Weakened::*;
    for weakened in [
        RevivedWithOwnObject,
        LoserLeavesObject,
        MountIgnoresRecord,
        UnlinkIsUnfenced,
        NotRearmed,
        AnsweredByAnyLink,
        AnsweredUnchecked,
        MarkedRegardless,
        StaysInUse,
        UnlinkedWhileKept,
        ShelvedUnfenced,
        UnshelvedForGood,
        NeverShelved,
        CondemnedUnasked,
        LinksFirst,
        StateIsEnough,
        RemovedRegardless,
        TrashAtOnce,
        TrashOnce,
        NotHealed,
        HealedUnfenced,
        NobodyFollows,
        ReaderStops,
        FollowsUnchecked,
        FormerGoesFirst,
    ] {
        checker::breaks(&format!("collection, {weakened:?}"), models(weakened));
    }
}
