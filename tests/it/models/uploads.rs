//! Requests of one upload session, on whichever members they run: `registry::uploads` over a blob store whose writes may
//! arrive late, and a metadata store that may not answer.
//!
//! A chunk is as long as a part. A request that is dropped (its client or its member is gone) simply never goes on; what
//! it had sent may still arrive. What isn't in it: digests of another algorithm, and expiry.

use super::checker::{self, Model, Steps};

/// The rule that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weakened {
    Nothing,
    /// What a request brought is acknowledged whether or not the session is the one it read.
    NoFence,
    /// Part numbers are taken without reserving them.
    NoReservation,
    /// The object is made of whatever parts are there, not of those that the session's rows name.
    PartsAreListed,
    /// The blob is published without comparing the session's version.
    PublishedUnfenced,
    /// The object is made before the session is fixed.
    NotFixedFirst,
    /// Numbers are given back while parts under them may still arrive.
    GivenBackEarly,
    /// The tail that was carried on from goes before the request is acknowledged.
    FormerTailGoesFirst,
    /// All tails lie under one key.
    OneTailKey,
    /// After an unknown outcome the tail goes.
    CleanedUpAfterUnknown,
    /// An end that comes again is acknowledged because the session ended, whatever it became.
    AnyEndCounts,
    /// Where unnamed parts keep an upload from being completed, those of requests that never went on are left alone.
    NothingIsOverwritten,
    /// They are overwritten where the later bytes count, whatever ETag is named.
    OverwrittenWhereLaterCounts,
}

/// What the store does about parts that aren't named (`storage::Unnamed`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unnamed {
    Vanish,
    /// They have to be overwritten. A part that was overwritten isn't what its former ETag names.
    Overwrite,
}

/// Chunks, as digits of a decimal number: 12 is chunk 1, then chunk 2.
type Content = u16;

/// What a request brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Request {
    /// The offset that its range begins at, in chunks; without one it goes on where the session stands.
    at: Option<u8>,
    chunks: &'static [Content],
    /// The content that its digest stands for, if it ends the session.
    ends: Option<Content>,
}

struct Uploads {
    requests: Vec<Request>,
    unnamed: Unnamed,
    weakened: Weakened,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    session: Session,
    /// Multipart uploads by who began them: the parts that are there, by number.
    uploads: Vec<Multipart>,
    /// Objects: who wrote them, and what they hold.
    objects: Vec<(Key, Content)>,
    /// Writes of parts on their way.
    sent: Vec<Sent>,
    /// Replacements of the session's row on their way, whose sender doesn't wait any more.
    late: Vec<(u8, Session)>,
    requests: Vec<Progress>,
    /// The blob that was published: its object, and the content that its digest stands for.
    published: Option<(Key, Content)>,
    /// How much may still go wrong: a body that breaks, an outcome that isn't known.
    faults: u8,
    /// A part came of a request that had lost the session.
    came_late: bool,
    broken: Option<&'static str>,
}

/// The session's row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Session {
    version: u8,
    state: Phase,
    /// What was acknowledged: the digest's state stands for this.
    hashed: Content,
    parts: Vec<Part>,
    tail: Option<(Key, Content)>,
    next_part: u8,
    /// The first number after the acknowledged parts.
    unnamed_part: u8,
    upload: Option<usize>,
    /// The content that it was published as.
    became: Option<Content>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Open,
    Finishing,
    Closed,
}

/// A part as the rows name it. Its ETag says who wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Part {
    number: u8,
    content: Content,
    etag: usize,
}

/// An object's key: of a tail or of a whole blob, and who drew it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Key {
    Tail(usize),
    Whole(usize),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Multipart {
    begun: bool,
    ended: bool,
    parts: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Sent {
    upload: usize,
    number: u8,
    content: Content,
    by: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Progress {
    step: Step,
    /// The session as it was read, and replaced since.
    session: Option<Session>,
    /// Chunks that wait for a part: first the session's tail, then those of the body.
    buffer: Vec<Content>,
    taken: usize,
    /// The digest's state.
    hashed: Content,
    parts: Vec<Part>,
    numbers: Vec<u8>,
    reserved_from: Option<u8>,
    reserved_to: u8,
    /// Where the parts end that others may have left and this request writes over.
    left_to: u8,
    former_tail: Option<Key>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Read,
    /// More of the body comes.
    Receive,
    /// All parts have to arrive.
    Settle,
    PutTail,
    Acknowledge,
    DiscardTail,
    /// The session is fixed: nobody else may end it.
    Fix,
    Complete,
    Publish,
    /// Numbers are given back once nothing is on its way.
    GiveBack,
    /// There is no such session to be ended: it may have become what this request is of, by another or by this one before.
    Again,
    Over,
}

/// How many numbers are reserved at once.
const BLOCK: u8 = 2;

fn length(content: Content) -> u8 {
    (1..).take_while(|n| 10_u16.pow(n - 1) <= content).count() as u8
}

fn joined(parts: impl IntoIterator<Item = Content>) -> Content {
    let join = |all: Content, part: Content| all * 10_u16.pow(length(part).into()) + part;
    parts.into_iter().fold(0, join)
}

impl Uploads {
    fn step(&self, state: &State, at: usize, steps: &mut Steps<State>) {
        let (request, progress) = (self.requests[at], &state.requests[at]);
        let mut next = state.clone();
        match progress.step {
            Step::Read => {
                let is_right = request.at.is_none_or(|at| at == length(state.session.hashed));
                let lost = self.lost(state, at);
                let mine = &mut next.requests[at];
                if state.session.state != Phase::Open || !is_right {
                    mine.step = lost;
                } else {
                    mine.hashed = state.session.hashed;
                    mine.former_tail = state.session.tail.map(|(key, _)| key);
                    mine.session = Some(state.session.clone());
                    mine.step = Step::Receive;
                }
                steps.push(("the session is read", next));
            }
            Step::Receive => self.receive(state, at, steps),
            Step::Settle => {
                // `Intake::settle`: the store has answered for each part.
                if !state.sent.iter().any(|sent| sent.by == at) {
                    next.requests[at].step = match request.ends {
                        None => Step::PutTail,
                        Some(content) if content != progress.hashed => Step::Over,
                        Some(_) if progress.session().upload.is_some() => Step::Fix,
                        Some(_) => Step::PutTail,
                    };
                    steps.push(("the parts are there", next));
                }
            }
            Step::PutTail => {
                if !progress.buffer.is_empty() {
                    let key = match (request.ends, self.weakened) {
                        (Some(_), _) => Key::Whole(at),
                        (None, Weakened::OneTailKey) => Key::Tail(0),
                        (None, _) => Key::Tail(at),
                    };
                    next.objects.retain(|(other, _)| *other != key);
                    next.objects.push((key, joined(progress.buffer.iter().copied())));
                    next.objects.sort_unstable();
                }
                if self.weakened == Weakened::FormerTailGoesFirst {
                    self.discard(&mut next, progress.former_tail);
                }
                next.requests[at].step = match request.ends {
                    None => Step::Acknowledge,
                    Some(_) => Step::Publish,
                };
                steps.push(("the tail is put", next));
            }
            Step::Acknowledge => self.acknowledge(state, at, steps),
            Step::DiscardTail => {
                self.discard(&mut next, progress.former_tail);
                next.requests[at].step = Step::Over;
                steps.push(("the former tail goes", next));
            }
            Step::Fix => {
                let fixed = Session {
                    state: Phase::Finishing,
                    ..progress.session().clone()
                };
                let is_skipped = self.weakened == Weakened::NotFixedFirst;
                if is_skipped || self.replace(&mut next, at, fixed, 3) {
                    next.requests[at].step = Step::Complete;
                } else {
                    next.requests[at].step = self.lost(state, at);
                }
                steps.push(("the session is fixed", next));
            }
            Step::Complete => self.complete(state, at, steps),
            Step::Publish => self.publish(state, at, steps),
            Step::GiveBack => {
                let arrived = !state.sent.iter().any(|sent| sent.by == at);
                if arrived || self.weakened == Weakened::GivenBackEarly {
                    let given_back = Session {
                        next_part: progress.reserved_from.unwrap_or(1),
                        ..progress.session().clone()
                    };
                    self.replace(&mut next, at, given_back, 4);
                    next.requests[at].step = Step::Over;
                    steps.push(("numbers are given back", next));
                }
            }
            Step::Again => self.again(state, at, steps),
            Step::Over => {}
        }
    }

    /// What comes after the session is found to be another than the one that was read (`finish`).
    fn lost(&self, state: &State, at: usize) -> Step {
        match (self.requests[at].ends, state.session.state) {
            (Some(_), Phase::Finishing | Phase::Closed) => Step::Again,
            (Some(_), Phase::Open) | (None, _) => Step::Over,
        }
    }

    /// `ended_as`: the session's row is read, and then the link, which came in the same transaction.
    fn again(&self, state: &State, at: usize, steps: &mut Steps<State>) {
        let mut next = state.clone();
        next.requests[at].step = Step::Over;
        let ends = self.requests[at].ends;
        match state.session.state {
            // It is waited for; who waits for too long gives up.
            Phase::Open | Phase::Finishing => {}
            Phase::Closed => {
                let is_same = state.session.became == ends || self.weakened == Weakened::AnyEndCounts;
                if is_same && state.published.map(|(_, content)| content) != ends {
                    next.broken = Some("an end is acknowledged of what wasn't published");
                }
            }
        }
        steps.push(("an end that comes again is answered", next));
    }

    /// The next chunk of the body, or its end, or that it breaks.
    fn receive(&self, state: &State, at: usize, steps: &mut Steps<State>) {
        let (request, progress) = (self.requests[at], &state.requests[at]);
        if state.faults > 0 && progress.taken > 0 {
            let mut broken = state.clone();
            broken.faults -= 1;
            // `Intake::abandon`.
            broken.requests[at].step = match progress.reserved_from {
                Some(_) if self.unnamed == Unnamed::Vanish => Step::GiveBack,
                Some(_) | None => Step::Over,
            };
            steps.push(("a body breaks", broken));
        }
        let mut next = state.clone();
        if progress.taken == request.chunks.len() {
            if request.ends.is_some() && progress.session().upload.is_some() {
                // `finish_large`: the tail, too, becomes a part.
                if !self.load_tail(&mut next, at) {
                    steps.push(("the tail is gone", next));
                    return;
                }
                if !next.requests[at].buffer.is_empty() && !self.send(&mut next, at) {
                    steps.push(("the session moved on", next));
                    return;
                }
            }
            next.requests[at].step =
                match (request.ends, request.chunks.is_empty(), progress.session().upload) {
                    (Some(content), true, None) if content == progress.hashed => Step::Publish,
                    (Some(_), true, None) => Step::Over,
                    _ => Step::Settle,
                };
            steps.push(("the body ends", next));
            return;
        }
        let chunk = request.chunks[progress.taken];
        if !self.load_tail(&mut next, at) {
            steps.push(("the tail is gone", next));
            return;
        }
        // `Intake::keep`: only now is it certain that there is more than one part.
        if !next.requests[at].buffer.is_empty() && !self.send(&mut next, at) {
            steps.push(("the session moved on", next));
            return;
        }
        let mine = &mut next.requests[at];
        mine.buffer.push(chunk);
        mine.hashed = joined([mine.hashed, chunk]);
        mine.taken += 1;
        if mine.session().upload.is_some() && !self.send(&mut next, at) {
            steps.push(("the session moved on", next));
            return;
        }
        steps.push(("a chunk comes", next));
    }

    /// `Intake::load_tail`. Gives whether it is there, if there should be one.
    fn load_tail(&self, state: &mut State, at: usize) -> bool {
        let mine = &state.requests[at];
        let Some((key, content)) = mine
            .session()
            .tail
            .filter(|_| mine.taken == 0 && mine.buffer.is_empty())
        else {
            return true;
        };
        let found = state
            .objects
            .iter()
            .find(|(other, _)| *other == key)
            .map(|(_, found)| *found);
        if let Some(found) = found {
            if found != content {
                state.broken = Some("a tail isn't what was acknowledged");
            }
            state.requests[at].buffer.push(found);
            return true;
        }
        // `loss_of`: who carried the upload on deletes the tail.
        if state.session.version == state.requests[at].session().version {
            state.broken = Some("an acknowledged tail is gone");
        }
        state.requests[at].step = self.lost(state, at);
        false
    }

    /// `Intake::send`, with `reserve`. Gives whether the session is still the one that was read.
    fn send(&self, state: &mut State, at: usize) -> bool {
        if state.requests[at].numbers.is_empty() {
            let mut row = state.requests[at].session().clone();
            let mine = &state.requests[at];
            let overwrites =
                self.unnamed == Unnamed::Overwrite && self.weakened != Weakened::NothingIsOverwritten;
            let (first, left_to) = match mine.reserved_from {
                Some(_) => (mine.reserved_to, mine.left_to),
                None if overwrites && row.unnamed_part < row.next_part => (row.unnamed_part, row.next_part),
                None => (row.next_part, 0),
            };
            row.next_part = row.next_part.max(first + BLOCK);
            row.upload = row.upload.or_else(|| {
                state.uploads[at].begun = true;
                Some(at)
            });
            let reserved = match self.weakened {
                Weakened::NoReservation if state.requests[at].session().upload.is_some() => true,
                _ => self.replace(state, at, row, 1),
            };
            if !reserved {
                state.requests[at].step = self.lost(state, at);
                return false;
            }
            let mine = &mut state.requests[at];
            mine.numbers = (first..first + BLOCK).collect();
            mine.reserved_from = mine.reserved_from.or(Some(first));
            (mine.reserved_to, mine.left_to) = (first + BLOCK, left_to);
        }
        let mine = &mut state.requests[at];
        let number = mine.numbers.remove(0);
        let content = joined(mine.buffer.drain(..));
        let upload = mine.session().upload.unwrap_or(at);
        mine.parts.push(Part {
            number,
            content,
            etag: at,
        });
        state.sent.push(Sent {
            upload,
            number,
            content,
            by: at,
        });
        state.sent.sort_unstable();
        true
    }

    /// `replace_session`. The version is drawn by each request for each of its steps.
    fn replace(&self, state: &mut State, at: usize, row: Session, step: u8) -> bool {
        let fits = state.session.version == state.requests[at].session().version;
        if fits {
            let row = Session {
                version: version(at, state.requests[at].session().version, step),
                ..row
            };
            state.session = row.clone();
            state.requests[at].session = Some(row);
        }
        fits
    }

    fn acknowledge(&self, state: &State, at: usize, steps: &mut Steps<State>) {
        let progress = &state.requests[at];
        let mut row = progress.session().clone();
        row.hashed = progress.hashed;
        row.tail = (!progress.buffer.is_empty()).then(|| {
            let key = match self.weakened {
                Weakened::OneTailKey => Key::Tail(0),
                _ => Key::Tail(at),
            };
            (key, joined(progress.buffer.iter().copied()))
        });
        if let Some(last) = progress.parts.last() {
            row.unnamed_part = last.number + 1;
            row.next_part = row.unnamed_part.max(progress.left_to);
        }
        row.parts.extend(progress.parts.iter().copied());
        let discards = progress.former_tail.is_some() && row.tail.map(|(key, _)| key) != progress.former_tail;
        let after = if discards { Step::DiscardTail } else { Step::Over };

        if state.faults > 0 {
            // It will be applied later, or never. Who doesn't know must not clean up.
            let mut unknown = state.clone();
            unknown.faults -= 1;
            let mut late = row.clone();
            late.version = version(at, progress.session().version, 2);
            unknown.late.push((progress.session().version, late));
            unknown.requests[at].step = Step::Over;
            if self.weakened == Weakened::CleanedUpAfterUnknown {
                self.discard(&mut unknown, Some(Key::Tail(at)));
            }
            steps.push(("no answer comes", unknown));
        }
        let mut next = state.clone();
        if self.weakened == Weakened::NoFence {
            row.version = version(at, progress.session().version, 2);
            next.session = row;
            next.requests[at].step = after;
        } else if self.replace(&mut next, at, row, 2) {
            next.requests[at].step = after;
        } else {
            self.discard(&mut next, Some(Key::Tail(at)));
            next.requests[at].step = Step::Over;
        }
        let (before, now) = (state.session.hashed, next.session.hashed);
        let was_added =
            before == now || joined([before, joined(self.requests[at].chunks.iter().copied())]) == now;
        if next.session.version != state.session.version && !was_added {
            next.broken = Some("what was acknowledged isn't what was there and what came");
        }
        steps.push((
            "the request is acknowledged, or finds that the session moved on",
            next,
        ));
    }

    fn complete(&self, state: &State, at: usize, steps: &mut Steps<State>) {
        let progress = &state.requests[at];
        let mut next = state.clone();
        let upload = progress.session().upload.unwrap_or(at);
        let there = &state.uploads[upload];
        let mut named = progress.session().parts.clone();
        named.extend(progress.parts.iter().copied());
        named.sort_unstable_by_key(|part| part.number);
        let is_whole = match self.weakened {
            Weakened::PartsAreListed => {
                named = there.parts.clone();
                true
            }
            Weakened::OverwrittenWhereLaterCounts => {
                let now = |part: &Part| {
                    there
                        .parts
                        .iter()
                        .find(|other| other.number == part.number)
                        .copied()
                };
                let later: Option<Vec<_>> = named.iter().map(now).collect();
                named = later.clone().unwrap_or(named);
                later.is_some()
            }
            _ => named.iter().all(|part| there.parts.contains(part)),
        };
        let last = named.last().map_or(0, |part| part.number);
        let is_named = |part: &Part| named.iter().any(|other| other.number == part.number);
        let is_refused = self.unnamed == Unnamed::Overwrite && !there.parts.iter().all(is_named);
        let can_be_saved = there.parts.iter().all(|part| part.number <= last) && !there.ended;
        if (is_refused || !is_whole) && can_be_saved && !state.came_late {
            next.broken = Some("an upload that all is there of can't be completed");
        }
        let is_whole = is_whole && !is_refused;
        if is_whole && !there.ended {
            next.uploads[upload].ended = true;
            let content = joined(named.iter().map(|part| part.content));
            next.objects.push((Key::Whole(upload), content));
            next.objects.sort_unstable();
            next.requests[at].step = Step::Publish;
        } else {
            next.requests[at].step = Step::Over;
        }
        steps.push(("the object is made of its parts", next));
    }

    /// `link_upload`: the session is closed and the blob appears in one transaction.
    fn publish(&self, state: &State, at: usize, steps: &mut Steps<State>) {
        let progress = &state.requests[at];
        let mut next = state.clone();
        let session = progress.session();
        let key = match (session.upload, session.tail) {
            (Some(upload), _) => Key::Whole(upload),
            (None, Some((tail, _))) if self.requests[at].chunks.is_empty() => tail,
            (None, _) => Key::Whole(at),
        };
        let closed = Session {
            state: Phase::Closed,
            became: Some(progress.hashed),
            ..session.clone()
        };
        let is_ours = self.replace(&mut next, at, closed, 5);
        if is_ours || self.weakened == Weakened::PublishedUnfenced {
            next.session.state = Phase::Closed;
            next.published = next.published.or(Some((key, progress.hashed)));
            next.requests[at].step = Step::Over;
        } else {
            next.requests[at].step = self.lost(state, at);
        }
        steps.push(("the blob is published, or the session moved on", next));
    }

    fn discard(&self, state: &mut State, key: Option<Key>) {
        state.objects.retain(|(other, _)| Some(*other) != key);
    }

    fn store(&self, state: &State, steps: &mut Steps<State>) {
        for (place, sent) in state.sent.iter().enumerate() {
            let mut next = state.clone();
            next.sent.remove(place);
            let holds = state.requests[sent.by].session.as_ref();
            next.came_late |= holds.is_none_or(|held| held.version != state.session.version);
            let upload = &mut next.uploads[sent.upload];
            if !upload.ended {
                upload.parts.retain(|part| part.number != sent.number);
                upload.parts.push(Part {
                    number: sent.number,
                    content: sent.content,
                    etag: sent.by,
                });
                upload.parts.sort_unstable_by_key(|part| part.number);
            }
            steps.push(("a part arrives", next));
        }
        for (place, (expected, row)) in state.late.iter().enumerate() {
            let mut next = state.clone();
            next.late.remove(place);
            if next.session.version == *expected {
                next.session = row.clone();
            }
            steps.push(("a late acknowledgement is tried", next));
        }
    }
}

impl Progress {
    fn new() -> Self {
        Self {
            step: Step::Read,
            session: None,
            buffer: Vec::new(),
            taken: 0,
            hashed: 0,
            parts: Vec::new(),
            numbers: Vec::new(),
            reserved_from: None,
            reserved_to: 0,
            left_to: 0,
            former_tail: None,
        }
    }

    /// Read at the request's first step.
    fn session(&self) -> &Session {
        self.session.as_ref().expect("the session is read first")
    }
}

/// A number that no other replacement has: who draws it, at which of its steps, and how often it did that step before.
fn version(by: usize, former: u8, step: u8) -> u8 {
    let drawn = 1 + by as u8 * 16 + step * 2;
    if former == drawn { drawn + 1 } else { drawn }
}

impl Model for Uploads {
    type State = State;

    fn start(&self) -> State {
        let count = self.requests.len();
        State {
            session: Session {
                version: 0,
                state: Phase::Open,
                hashed: 0,
                parts: Vec::new(),
                tail: None,
                next_part: 1,
                unnamed_part: 1,
                upload: None,
                became: None,
            },
            uploads: vec![Multipart::default(); count],
            objects: Vec::new(),
            sent: Vec::new(),
            late: Vec::new(),
            requests: vec![Progress::new(); count],
            published: None,
            faults: 1,
            came_late: false,
            broken: None,
        }
    }

    fn next(&self, state: &State, steps: &mut Steps<State>) {
        for at in 0..self.requests.len() {
            self.step(state, at, steps);
        }
        self.store(state, steps);
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        if let Some((key, content)) = state.published {
            let object = state.objects.iter().find(|(other, _)| *other == key);
            match object {
                None => return Some("a published blob has no object"),
                Some((_, held)) if *held != content => {
                    return Some("a published blob isn't what its digest says");
                }
                Some(_) => {}
            }
        }
        if state.session.state == Phase::Open {
            let upload = state.session.upload.map(|upload| &state.uploads[upload]);
            let is_there =
                |part: &Part| upload.is_some_and(|upload| !upload.ended && upload.parts.contains(part));
            // A request that was stopped may write over one: the ETag tells, and the upload can't be completed.
            let may_be_lost = self.unnamed == Unnamed::Overwrite && state.came_late;
            if !may_be_lost && !state.session.parts.iter().all(is_there) {
                return Some("an acknowledged part is gone");
            }
            if let Some((key, content)) = state.session.tail
                && !state.objects.contains(&(key, content))
            {
                return Some("an acknowledged tail is gone, or another one");
            }
            let held = state.session.parts.iter().map(|part| part.content);
            if joined(held.chain(state.session.tail.map(|(_, tail)| tail))) != state.session.hashed {
                return Some("what was acknowledged isn't what was hashed");
            }
        }
        state.broken
    }

    fn stuck(&self, _: &State) -> Option<&'static str> {
        None
    }
}

/// A chunk sent twice, two that differ, and the end; larger ones come last.
fn scripts() -> Vec<Vec<Request>> {
    let append = |at, chunks| Request {
        at,
        chunks,
        ends: None,
    };
    let finish = |chunks, content| Request {
        at: None,
        chunks,
        ends: Some(content),
    };
    vec![
        vec![append(Some(0), &[1]), append(Some(0), &[1]), finish(&[], 1)],
        vec![append(Some(0), &[1]), append(None, &[2]), finish(&[], 1)],
        vec![
            append(Some(0), &[1, 2]),
            append(Some(0), &[3, 4]),
            finish(&[5], 125),
        ],
        vec![append(Some(0), &[1, 2]), append(Some(2), &[3]), finish(&[], 12)],
        vec![append(Some(0), &[1, 2]), append(None, &[3]), finish(&[4], 1234)],
        vec![
            append(Some(0), &[1, 2]),
            append(None, &[3]),
            append(None, &[4]),
            finish(&[], 123),
        ],
        // The same end twice, and two that differ.
        vec![
            append(Some(0), &[1]),
            finish(&[], 1),
            finish(&[], 1),
            finish(&[2], 12),
        ],
        vec![append(Some(0), &[1, 2]), finish(&[3], 123), finish(&[3], 123)],
    ]
}

fn models(weakened: Weakened) -> impl Iterator<Item = Uploads> {
    let all = [Unnamed::Vanish, Unnamed::Overwrite];
    let all = all
        .into_iter()
        .flat_map(|unnamed| scripts().into_iter().map(move |script| (unnamed, script)));
    all.map(move |(unnamed, requests)| Uploads {
        requests,
        unnamed,
        weakened,
    })
}

#[test]
fn requests_of_one_session_never_mix_and_what_is_acknowledged_stays() {
    checker::holds("uploads", models(Weakened::Nothing));
}

#[test]
fn each_rule_of_uploads_is_needed() {
    use Weakened::*;
    for weakened in [
        NoFence,
        NoReservation,
        PartsAreListed,
        PublishedUnfenced,
        NotFixedFirst,
        GivenBackEarly,
        FormerTailGoesFirst,
        OneTailKey,
        CleanedUpAfterUnknown,
        AnyEndCounts,
        NothingIsOverwritten,
        OverwrittenWhereLaterCounts,
    ] {
        checker::breaks(&format!("uploads, {weakened:?}"), models(weakened));
    }
}
