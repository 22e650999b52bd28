//! Changes of one repository by two members for two clients: `registry::commit`, `registry::fence` and
//! `storage::Coalesced` over a store whose requests may be late, doubled, lost or unanswered, with members that crash.
//!
//! A paused member needs no step of its own: whatever is next may happen later than anything else. What isn't in it:
//! who should make a change (rule R5 steers; here any member may be given any request at any time).

use super::checker::{self, Model, Steps};

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    /// The tag names this request's manifest.
    Push,
    /// The tag names nothing; it has to be there.
    Delete,
    /// The same in two transactions, the first of which leaves the tag.
    DeleteInSteps,
    /// What the tag names.
    Read,
}

/// The rule that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weakened {
    Nothing,
    /// R2: the holder is compared instead of the version.
    HolderIsTheFence,
    /// R1: versions are counted.
    VersionsAreCounted,
    /// R1: the row of a deleted repository goes.
    NoTombstone,
    /// R2: the row is read when everything was validated.
    ValidatedFirst,
    /// R4: after an unknown outcome the change is made anew, under another version.
    UnknownIsMadeAnew,
    /// R4: a refusal of what was sent twice counts as "not applied".
    RefusedIsNotApplied,
    /// The fence of a retry: a front offers the change to another member though it has said `go`.
    RetryAfterGo,
    /// R6: a read joins one that has begun.
    JoinedReads,
    /// R2: a further step expects the row as it is then, not as the former one left it.
    StepsFollowAnybody,
}

/// How often a change is planned.
const ATTEMPTS: u8 = 2;
const MEMBERS: usize = 2;
const CLIENTS: usize = 2;

struct Ownership {
    /// What each client wants, one after the other. Requests are numbered through, from 1; a request's number is the
    /// value of what it pushes.
    clients: [Vec<Want>; CLIENTS],
    weakened: Weakened,
}

/// The repository's row and its only tag; `None` before the first manifest.
type Row = Option<Repository>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Repository {
    version: u8,
    holder: usize,
    // The request that pushed it; 0 when it isn't there.
    tag: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    row: Row,
    /// Transactions on their way.
    sent: Vec<Transaction>,
    members: [Member; MEMBERS],
    clients: [Client; CLIENTS],
    /// How often each request was applied, and what its client was told. The first is nobody's.
    requests: Vec<(u8, Told)>,
    /// How much may still go wrong: a crash, a transaction that is taken twice, an answer that doesn't come.
    faults: u8,
    broken: Option<&'static str>,
}

/// A transaction, conditional on `expected`, that the change of `request` was planned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Transaction {
    version: u8,
    request: u8,
    by: usize,
    expected: u8,
    // What the tag was when the change was validated.
    seen: u8,
    // The first of two steps.
    is_first: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Member {
    /// Requests that wait for their turn.
    waiting: Vec<u8>,
    /// The one that has it.
    change: Option<Change>,
    /// The read on its way, and who waits for it and for the next.
    read: Option<Read>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Change {
    request: u8,
    attempt: u8,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    /// The first thing is to be read.
    Plan,
    /// The row is read; the tag comes next. (The other way round: the tag is read.)
    Validate(u8),
    /// The transaction was sent; whether an earlier sending may still be applied.
    Sent { transaction: Transaction, pending: bool },
    /// Its outcome isn't known: the row is asked.
    Ask(Transaction),
    /// The first step was committed. The next expects the version that it wrote, and reads nothing again.
    Further(Transaction),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Read {
    // What it found, once it has been at the store.
    found: Option<u8>,
    waiters: Vec<u8>,
    queued: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Client {
    /// How many of its requests were answered.
    answered: u8,
    /// Whether the next was sent.
    waits: bool,
    /// What a read that began when its request did may find, by bits.
    may_read: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Told {
    Nothing,
    Done,
    /// That it wasn't there.
    NotThere,
    NotApplied,
    Unknown,
}

impl Ownership {
    fn want(&self, request: u8) -> Want {
        let (client, at) = self.place(request);
        self.clients[client][at]
    }

    /// Whose request it is, and its how many-eth.
    fn place(&self, request: u8) -> (usize, usize) {
        let (first, at) = (self.clients[0].len(), usize::from(request) - 1);
        if at < first { (0, at) } else { (1, at - first) }
    }

    /// The next request of a client.
    fn next_request(&self, client: usize, state: &State) -> Option<u8> {
        let at = usize::from(state.clients[client].answered);
        let before = if client == 0 { 0 } else { self.clients[0].len() };
        (at < self.clients[client].len()).then_some((before + at + 1) as u8)
    }

    /// A number that no other transaction has, drawn anew for every attempt.
    fn version(&self, change: Change, expected: u8) -> u8 {
        match self.weakened {
            Weakened::VersionsAreCounted => expected + 1,
            _ => change.request * 8 + change.attempt + 1,
        }
    }

    fn tell(&self, state: &mut State, request: u8, told: Told) {
        let (applied, said) = &mut state.requests[usize::from(request)];
        *said = told;
        let fault = match (told, *applied) {
            (Told::Done, 0) => Some("a change was acknowledged that wasn't made"),
            (Told::NotApplied | Told::NotThere, 1..) => {
                Some("a change was made that the client was told wasn't")
            }
            _ => None,
        };
        state.broken = state.broken.or(fault);
        let (client, _) = self.place(request);
        state.clients[client].answered += 1;
        state.clients[client].waits = false;
        state.clients[client].may_read = 0;
    }

    /// A transaction comes to the store. Gives whether it is applied.
    fn land(&self, state: &mut State, transaction: Transaction) -> bool {
        let found = state.row.map_or(0, |row| row.version);
        let fits = match self.weakened {
            Weakened::HolderIsTheFence => state.row.is_none_or(|row| row.holder == transaction.by),
            _ => found == transaction.expected,
        };
        if !fits {
            return false;
        }
        let tag = state.row.map_or(0, |row| row.tag);
        let (applied, told) = &mut state.requests[usize::from(transaction.request)];
        *applied += u8::from(!transaction.is_first);
        let fault = if *applied > 1 {
            Some("a change was made twice")
        } else if *told == Told::NotApplied {
            Some("a change was made after the client was told that it wasn't")
        } else if found != transaction.expected {
            Some("a change didn't follow the one it was planned after")
        } else if tag != transaction.seen {
            Some("a change was validated against what wasn't so any more")
        } else {
            None
        };
        state.broken = state.broken.or(fault);
        let tag = match self.want(transaction.request) {
            _ if transaction.is_first => tag,
            Want::Push => transaction.request,
            Want::Delete | Want::DeleteInSteps | Want::Read => 0,
        };
        state.row = (tag != 0 || self.weakened != Weakened::NoTombstone).then_some(Repository {
            version: transaction.version,
            holder: transaction.by,
            tag,
        });
        for client in &mut state.clients {
            if client.waits {
                client.may_read |= 1 << tag;
            }
        }
        true
    }

    fn send(&self, state: &mut State, transaction: Transaction) {
        state.sent.push(transaction);
        state.sent.sort_unstable();
    }

    // What clients do.

    fn ask(&self, state: &State, steps: &mut Steps<State>) {
        for client in 0..CLIENTS {
            let Some(request) = self.next_request(client, state) else {
                continue;
            };
            if state.clients[client].waits {
                continue;
            }
            for member in 0..MEMBERS {
                let mut next = state.clone();
                next.clients[client].waits = true;
                let tag = next.row.map_or(0, |row| row.tag);
                next.clients[client].may_read = match self.want(request) {
                    Want::Read => 1 << tag,
                    Want::Push | Want::Delete | Want::DeleteInSteps => 0,
                };
                let at = &mut next.members[member];
                match self.want(request) {
                    Want::Read => self.join(at, request),
                    Want::Push | Want::Delete | Want::DeleteInSteps => at.waiting.push(request),
                }
                steps.push(("a client asks", next));
            }
        }
    }

    // What members do.

    /// `Coalesced::join`.
    fn join(&self, member: &mut Member, request: u8) {
        match &mut member.read {
            None => {
                member.read = Some(Read {
                    found: None,
                    waiters: vec![request],
                    queued: Vec::new(),
                });
            }
            Some(read) if self.weakened == Weakened::JoinedReads => read.waiters.push(request),
            Some(read) => read.queued.push(request),
        }
    }

    fn read(&self, state: &State, member: usize, steps: &mut Steps<State>) {
        let Some(read) = &state.members[member].read else {
            return;
        };
        let mut next = state.clone();
        match read.found {
            None => {
                let found = next.row.map_or(0, |row| row.tag);
                if let Some(read) = &mut next.members[member].read {
                    read.found = Some(found);
                }
                steps.push(("a read is at the store", next));
            }
            Some(found) => {
                for waiter in &read.waiters {
                    let (client, _) = self.place(*waiter);
                    if next.clients[client].may_read >> found & 1 == 0 {
                        next.broken = Some("a read found what wasn't there any more when it began");
                    }
                    self.tell(&mut next, *waiter, Told::Done);
                    // A read is never "made".
                    next.broken = next.broken.filter(|fault| !fault.contains("acknowledged"));
                }
                next.members[member].read = (!read.queued.is_empty()).then(|| Read {
                    found: None,
                    waiters: read.queued.clone(),
                    queued: Vec::new(),
                });
                steps.push(("a read is answered", next));
            }
        }
    }

    fn change(&self, state: &State, member: usize, steps: &mut Steps<State>) {
        let at = &state.members[member];
        let Some(change) = at.change else {
            // `Turns::take`.
            for (place, request) in at.waiting.iter().enumerate() {
                let mut next = state.clone();
                next.members[member].waiting.remove(place);
                next.members[member].change = Some(Change {
                    request: *request,
                    attempt: 0,
                    step: Step::Plan,
                });
                steps.push(("a change has its turn", next));
            }
            return;
        };
        let mut next = state.clone();
        match change.step {
            Step::Plan => {
                let seen = match self.weakened {
                    Weakened::ValidatedFirst => next.row.map_or(0, |row| row.tag),
                    _ => next.row.map_or(0, |row| row.version),
                };
                self.go_on(&mut next, member, change, Step::Validate(seen));
                steps.push(("the first thing is read", next));
            }
            Step::Validate(first) => {
                let (row, tag) = (
                    next.row.map_or(0, |row| row.version),
                    next.row.map_or(0, |row| row.tag),
                );
                let (expected, seen) = match self.weakened {
                    Weakened::ValidatedFirst => (row, first),
                    _ => (first, tag),
                };
                let want = self.want(change.request);
                if matches!(want, Want::Delete | Want::DeleteInSteps) && seen == 0 {
                    self.end(&mut next, member, change, Told::NotThere);
                } else {
                    let transaction = Transaction {
                        version: self.version(change, expected),
                        request: change.request,
                        by: member,
                        expected,
                        seen,
                        is_first: want == Want::DeleteInSteps,
                    };
                    self.send(&mut next, transaction);
                    let pending = false;
                    self.go_on(&mut next, member, change, Step::Sent { transaction, pending });
                }
                steps.push(("the second thing is read", next));
            }
            Step::Sent { transaction, .. } => {
                if next.faults > 0 {
                    next.faults -= 1;
                    self.go_on(&mut next, member, change, Step::Ask(transaction));
                    steps.push(("no answer comes", next));
                }
                let mut next = state.clone();
                self.end(&mut next, member, change, Told::Unknown);
                steps.push(("the deadline passes", next));
            }
            Step::Ask(transaction) => {
                let found = next.row.map_or(0, |row| row.version);
                if self.weakened == Weakened::UnknownIsMadeAnew {
                    self.try_again(&mut next, member, change);
                } else if found == transaction.version {
                    self.committed(&mut next, member, change, transaction);
                } else if found == transaction.expected {
                    self.send(&mut next, transaction);
                    let pending = true;
                    self.go_on(&mut next, member, change, Step::Sent { transaction, pending });
                } else {
                    self.end(&mut next, member, change, Told::Unknown);
                }
                steps.push(("the row is asked", next));
            }
            Step::Further(first) => {
                let transaction = Transaction {
                    version: match self.weakened {
                        Weakened::VersionsAreCounted => first.version + 1,
                        _ => first.version + 4,
                    },
                    expected: match self.weakened {
                        Weakened::StepsFollowAnybody => next.row.map_or(0, |row| row.version),
                        _ => first.version,
                    },
                    is_first: false,
                    ..first
                };
                self.send(&mut next, transaction);
                let pending = false;
                self.go_on(&mut next, member, change, Step::Sent { transaction, pending });
                steps.push(("the change goes on", next));
            }
        }
    }

    fn go_on(&self, state: &mut State, member: usize, change: Change, step: Step) {
        state.members[member].change = Some(Change { step, ..change });
    }

    fn end(&self, state: &mut State, member: usize, change: Change, told: Told) {
        state.members[member].change = None;
        self.tell(state, change.request, told);
    }

    /// The change was made, or its first step.
    fn committed(&self, state: &mut State, member: usize, change: Change, transaction: Transaction) {
        match transaction.is_first {
            true => self.go_on(state, member, change, Step::Further(transaction)),
            false => self.end(state, member, change, Told::Done),
        }
    }

    /// The change was refused.
    fn try_again(&self, state: &mut State, member: usize, change: Change) {
        if change.attempt + 1 == ATTEMPTS {
            return self.end(state, member, change, Told::NotApplied);
        }
        state.members[member].change = Some(Change {
            attempt: change.attempt + 1,
            step: Step::Plan,
            ..change
        });
    }

    /// The answer to `transaction` comes to whoever waits for it.
    fn answer(&self, state: &mut State, transaction: Transaction, applied: bool) {
        let Some(change) = state.members[transaction.by].change else {
            return;
        };
        let Step::Sent {
            transaction: sent,
            pending,
        } = change.step
        else {
            return;
        };
        if sent != transaction {
            return;
        }
        let is_ours = state.row.is_some_and(|row| row.version == transaction.version);
        if applied || is_ours {
            self.committed(state, transaction.by, change, transaction);
        } else if pending && self.weakened != Weakened::RefusedIsNotApplied {
            self.end(state, transaction.by, change, Told::Unknown);
        } else {
            self.try_again(state, transaction.by, change);
        }
    }

    // What the store does.

    fn store(&self, state: &State, steps: &mut Steps<State>) {
        for (place, transaction) in state.sent.iter().enumerate() {
            let mut landed = state.clone();
            landed.sent.remove(place);
            let applied = self.land(&mut landed, *transaction);
            let mut answered = landed.clone();
            self.answer(&mut answered, *transaction, applied);
            if landed.faults > 0 {
                let mut doubled = answered.clone();
                doubled.faults -= 1;
                self.send(&mut doubled, *transaction);
                steps.push(("the store takes a transaction, and will again", doubled));
            }
            if answered != landed {
                steps.push(("the store takes a transaction and answers", answered));
            }
            steps.push(("the store takes a transaction", landed));
        }
    }

    fn crash(&self, state: &State, member: usize, steps: &mut Steps<State>) {
        let at = &state.members[member];
        if state.faults == 0 || *at == Member::default() {
            return;
        }
        let mut next = state.clone();
        next.faults -= 1;
        let Member {
            waiting,
            change,
            read,
        } = std::mem::take(&mut next.members[member]);
        let at_work = change.map(|change| change.request);
        for request in waiting.into_iter().chain(at_work) {
            match self.weakened {
                Weakened::RetryAfterGo => next.members[1 - member].waiting.push(request),
                _ => self.tell(&mut next, request, Told::Unknown),
            }
        }
        for request in read
            .into_iter()
            .flat_map(|read| [read.waiters, read.queued].concat())
        {
            self.tell(&mut next, request, Told::Unknown);
        }
        steps.push(("a member crashes and is back", next));
    }
}

impl Model for Ownership {
    type State = State;

    fn start(&self) -> State {
        let requests = self.clients.iter().map(Vec::len).sum::<usize>() + 1;
        State {
            row: None,
            sent: Vec::new(),
            members: Default::default(),
            clients: Default::default(),
            requests: vec![(0, Told::Nothing); requests],
            faults: 2,
            broken: None,
        }
    }

    fn next(&self, state: &State, steps: &mut Steps<State>) {
        self.ask(state, steps);
        for member in 0..MEMBERS {
            self.read(state, member, steps);
            self.change(state, member, steps);
            self.crash(state, member, steps);
        }
        self.store(state, steps);
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        state.broken
    }

    fn stuck(&self, state: &State) -> Option<&'static str> {
        let all_told = (0..CLIENTS).all(|client| self.next_request(client, state).is_none());
        (!all_told).then_some("a client is never answered")
    }
}

/// Who wants what, from small to large.
fn scripts() -> [[Vec<Want>; CLIENTS]; 4] {
    use Want::{Delete, DeleteInSteps, Push, Read};
    [
        [vec![Read], vec![Push, Read]],
        [vec![Push], vec![Push, Delete]],
        [vec![Push], vec![Push, DeleteInSteps]],
        [vec![Push, Push], vec![Push]],
    ]
}

fn models(weakened: Weakened) -> impl Iterator<Item = Ownership> {
    scripts()
        .into_iter()
        .map(move |clients| Ownership { clients, weakened })
}

#[test]
fn changes_of_a_repository_form_one_chain_and_none_is_made_twice() {
    checker::holds("ownership", models(Weakened::Nothing));
}

#[test]
fn each_rule_of_ownership_is_needed() {
    use Weakened::*;
    for weakened in [
        HolderIsTheFence,
        VersionsAreCounted,
        NoTombstone,
        ValidatedFirst,
        UnknownIsMadeAnew,
        RefusedIsNotApplied,
        RetryAfterGo,
        JoinedReads,
        StepsFollowAnybody,
    ] {
        checker::breaks(&format!("ownership, {weakened:?}"), models(weakened));
    }
}
