//! What members remember of a repository (rule R9), while others change it: links that come and go, a link that follows its
//! blob to another object, a manifest whose delete takes two transactions, the repository's end, and its return.
//!
//! The steps are those of `registry::remembered`. A store may show what a transaction did to one row before what it did to
//! another, until it says that the transaction was made; only a snapshot waits for all of it. What is there is numbered, so
//! that an answer can be compared with what was known when its request arrived: with every change that was acknowledged,
//! and with every answer that was given.

use super::checker::{self, Model, Steps};

/// The rule that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weakened {
    Nothing,
    /// G2: a link goes without replacing the repository's row.
    UnlinkLeavesRow,
    /// G5: a link follows to another object without replacing the row.
    HealLeavesRow,
    /// R2: of the transactions of a long delete only the last replaces the row.
    StepLeavesRow,
    /// R1: a row that comes back counts from one again.
    VersionsCount,
    /// That something isn't there is remembered, too.
    AbsenceRemembered,
    /// Where there is no row, that counts as its version.
    NoRowIsAVersion,
    /// What is remembered is read after the row, not with it.
    RowThenValue,
    /// What is remembered is read before the row.
    ValueThenRow,
    /// What isn't remembered is answered by a read that leaves the row alone: it may run ahead of a change that isn't
    /// acknowledged, and then what is remembered lags behind it. (Such are a HEAD's 404, and answers while transactions never
    /// leave the row alone.)
    BesideTheRow,
    /// A read of the row serves requests that arrive while it is on its way.
    ReadBegunBefore,
    /// What is remembered isn't compared with anything.
    Unchecked,
}

const LINK: usize = 0;
const TAG: usize = 1;
const MANIFEST: usize = 2;
const THINGS: usize = 3;
const READERS: usize = 2;

/// What somebody does to the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// An upload or a mount: nothing but the link is new.
    Link,
    Unlink,
    /// The link follows its record.
    Heal,
    /// The tag goes.
    DeleteTag,
    /// And then the manifest, the repository's last.
    DeleteManifest,
    EndTombstone,
    /// The first manifest, with its tag.
    Push,
}

/// A repository as it is in the beginning, and what becomes of it; readers come in between.
#[derive(Clone, Copy)]
struct History {
    /// Whether it has a row.
    row: bool,
    /// What is there.
    there: [bool; THINGS],
    changes: &'static [Change],
    /// What is asked for.
    asked: &'static [usize],
}

struct Remembering {
    history: History,
    /// Whether the readers are at one member.
    together: bool,
    weakened: Weakened,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    /// The version of the repository's row; 0 when there is none.
    row: u8,
    things: [Thing; THINGS],
    /// How many of the changes have begun.
    begun: usize,
    /// What isn't visible yet of the one under way.
    pending: Option<Pending>,
    /// The least number that an answer may have whose request arrives now.
    floor: [u8; THINGS],
    fresh: u8,
    memories: [[Option<Noted>; THINGS]; READERS],
    readers: [Reader; READERS],
    left: [u8; READERS],
    /// A read of the row under way at each member, which began then: for a rule that is left out.
    running: [Option<u8>; READERS],
    broken: Option<&'static str>,
}

/// What is there, as a read sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Thing {
    is_there: bool,
    /// Grows with every change.
    number: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Pending {
    row: Option<u8>,
    things: [Option<bool>; THINGS],
}

/// What a member remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Noted {
    row: u8,
    thing: Thing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Reader {
    Idle,
    /// It asks for this, and its answer may be no older.
    Arrived {
        of: usize,
        floor: u8,
    },
    /// It has found something remembered, and then read the row.
    Checked {
        of: usize,
        floor: u8,
        noted: Noted,
        row: u8,
    },
    /// For rules that are left out: one of two reads is made.
    HasRow {
        of: usize,
        floor: u8,
        row: u8,
    },
    HasValue {
        of: usize,
        floor: u8,
        thing: Thing,
    },
}

impl State {
    fn version(&mut self, weakened: Weakened) -> u8 {
        self.fresh += 1;
        match weakened {
            Weakened::VersionsCount => self.row + 1,
            _ => self.fresh,
        }
    }
}

impl Pending {
    fn is_visible(self) -> bool {
        self.row.is_none() && self.things == [None; THINGS]
    }
}

impl Remembering {
    fn memory(&self, reader: usize) -> usize {
        if self.together { 0 } else { reader }
    }

    fn begin(&self, state: &State, steps: &mut Steps<State>) {
        let changes = self.history.changes;
        let Some(change) = changes.get(state.begun).filter(|_| state.pending.is_none()) else {
            return;
        };
        let mut next = state.clone();
        next.begun += 1;
        let mut pending = Pending {
            row: Some(next.version(self.weakened)),
            things: [None; THINGS],
        };
        let leaves_row = match change {
            Change::Link => true,
            Change::Unlink => self.weakened == Weakened::UnlinkLeavesRow,
            Change::Heal => self.weakened == Weakened::HealLeavesRow,
            Change::DeleteTag => self.weakened == Weakened::StepLeavesRow,
            Change::DeleteManifest | Change::EndTombstone | Change::Push => false,
        };
        if leaves_row {
            pending.row = None;
        }
        match change {
            Change::Link | Change::Heal => pending.things[LINK] = Some(true),
            Change::Unlink => pending.things[LINK] = Some(false),
            Change::DeleteTag => pending.things[TAG] = Some(false),
            Change::DeleteManifest => pending.things[MANIFEST] = Some(false),
            Change::EndTombstone => pending.row = Some(0),
            Change::Push => (pending.things[TAG], pending.things[MANIFEST]) = (Some(true), Some(true)),
        }
        next.pending = Some(pending);
        steps.push(("a transaction is decided", next));
    }

    /// A transaction becomes visible row by row, and is acknowledged when all of it is.
    fn apply(&self, state: &State, steps: &mut Steps<State>) {
        let Some(pending) = state.pending else { return };
        if let Some(row) = pending.row {
            let mut next = state.clone();
            next.row = row;
            next.pending = Some(Pending { row: None, ..pending });
            steps.push(("a transaction's row is visible", next));
        }
        for of in 0..THINGS {
            if let Some(is_there) = pending.things[of] {
                let (mut next, mut pending) = (state.clone(), pending);
                pending.things[of] = None;
                next.things[of] = Thing {
                    is_there,
                    number: state.things[of].number + 1,
                };
                next.pending = Some(pending);
                steps.push(("what a transaction changes is visible", next));
            }
        }
        if pending.is_visible() {
            let mut next = state.clone();
            next.pending = None;
            for (floor, thing) in next.floor.iter_mut().zip(state.things) {
                *floor = thing.number.max(*floor);
            }
            steps.push(("a transaction is acknowledged", next));
        }
    }

    fn read(&self, state: &State, at: usize, steps: &mut Steps<State>) {
        let memory = self.memory(at);
        let mut next = state.clone();
        match state.readers[at] {
            Reader::Idle if state.left[at] > 0 => {
                next.left[at] -= 1;
                for of in self.history.asked {
                    let mut next = next.clone();
                    next.readers[at] = Reader::Arrived {
                        of: *of,
                        floor: state.floor[*of],
                    };
                    steps.push(("a request arrives", next));
                }
                if self.weakened == Weakened::ReadBegunBefore && state.running[memory].is_none() {
                    let mut next = state.clone();
                    next.running[memory] = Some(state.row);
                    steps.push(("a read of the row is on its way", next));
                }
            }
            Reader::Idle => {}
            Reader::Arrived { of, floor } => match state.memories[memory][of] {
                Some(noted) if self.weakened == Weakened::Unchecked => {
                    self.answer(&mut next, at, of, floor, noted.thing);
                    steps.push(("what is remembered is answered", next));
                }
                Some(noted) => {
                    let row = state.running[memory].unwrap_or(state.row);
                    next.running[memory] = None;
                    next.readers[at] = Reader::Checked {
                        of,
                        floor,
                        noted,
                        row,
                    };
                    steps.push(("the row is read", next));
                }
                None => self.fetch(state, at, of, floor, steps),
            },
            Reader::Checked {
                of,
                floor,
                noted,
                row,
            } => {
                if noted.row == row {
                    self.answer(&mut next, at, of, floor, noted.thing);
                    steps.push(("what is remembered is answered", next));
                } else {
                    self.fetch(state, at, of, floor, steps);
                }
            }
            Reader::HasRow { of, floor, row } => {
                self.keep(&mut next, at, of, row, state.things[of]);
                self.answer(&mut next, at, of, floor, state.things[of]);
                steps.push(("a value is read after the row", next));
            }
            Reader::HasValue { of, floor, thing } => {
                self.keep(&mut next, at, of, state.row, thing);
                self.answer(&mut next, at, of, floor, thing);
                steps.push(("the row is read after a value", next));
            }
        }
    }

    /// Reads what isn't remembered, or no longer good.
    fn fetch(&self, state: &State, at: usize, of: usize, floor: u8, steps: &mut Steps<State>) {
        let (mut next, thing) = (state.clone(), state.things[of]);
        match self.weakened {
            Weakened::RowThenValue => {
                let row = state.row;
                next.readers[at] = Reader::HasRow { of, floor, row };
                steps.push(("the row is read first", next));
                return;
            }
            Weakened::ValueThenRow => {
                next.readers[at] = Reader::HasValue { of, floor, thing };
                steps.push(("a value is read first", next));
                return;
            }
            Weakened::BesideTheRow => {
                let mut next = state.clone();
                self.answer(&mut next, at, of, floor, thing);
                steps.push(("a value is read by itself", next));
            }
            _ => {}
        }
        // A snapshot waits for the transaction under way.
        if state.pending.is_none_or(Pending::is_visible) {
            self.keep(&mut next, at, of, state.row, thing);
            self.answer(&mut next, at, of, floor, thing);
            steps.push(("the row and a value are read at one moment", next));
        }
    }

    fn keep(&self, next: &mut State, at: usize, of: usize, row: u8, thing: Thing) {
        let is_known = row != 0 || self.weakened == Weakened::NoRowIsAVersion;
        let is_kept = thing.is_there || self.weakened == Weakened::AbsenceRemembered;
        next.memories[self.memory(at)][of] = (is_known && is_kept).then_some(Noted { row, thing });
    }

    fn answer(&self, next: &mut State, at: usize, of: usize, floor: u8, thing: Thing) {
        if thing.number < floor {
            next.broken = Some("an answer is older than what was known before it was asked for");
        }
        next.floor[of] = next.floor[of].max(thing.number);
        next.readers[at] = Reader::Idle;
    }
}

impl Model for Remembering {
    type State = State;

    fn start(&self) -> State {
        let History { row, there, .. } = self.history;
        State {
            row: u8::from(row),
            things: there.map(|is_there| Thing { is_there, number: 0 }),
            begun: 0,
            pending: None,
            floor: [0; THINGS],
            fresh: 1,
            memories: [[None; THINGS]; READERS],
            readers: [Reader::Idle; READERS],
            left: [2; READERS],
            running: [None; READERS],
            broken: None,
        }
    }

    fn next(&self, state: &State, steps: &mut Steps<State>) {
        self.begin(state, steps);
        self.apply(state, steps);
        for at in 0..READERS {
            self.read(state, at, steps);
        }
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        state.broken
    }

    fn stuck(&self, state: &State) -> Option<&'static str> {
        (state.left != [0; READERS] || state.readers != [Reader::Idle; READERS])
            .then_some("a request isn't answered")
    }
}

fn models(weakened: Weakened) -> impl Iterator<Item = Remembering> {
    use Change::*;
    let whole = History {
        row: true,
        there: [true; THINGS],
        changes: &[],
        asked: &[],
    };
    let histories = [
        // A link is added, goes, and is added by another upload.
        History {
            there: [false, true, true],
            changes: &[Link, Unlink, Link],
            asked: &[LINK],
            ..whole
        },
        History {
            changes: &[Heal, Unlink],
            asked: &[LINK],
            ..whole
        },
        History {
            changes: &[DeleteTag, DeleteManifest, Push],
            asked: &[TAG, MANIFEST],
            ..whole
        },
        // The end of a repository, and its return.
        History {
            changes: &[DeleteManifest, EndTombstone, Push],
            asked: &[MANIFEST],
            ..whole
        },
        // A link outlives its repository's row.
        History {
            there: [true, false, false],
            changes: &[EndTombstone, Unlink, EndTombstone, Link],
            asked: &[LINK],
            ..whole
        },
        // A blob is there before its repository has a row.
        History {
            row: false,
            there: [false; THINGS],
            changes: &[Link, Push, Unlink],
            asked: &[LINK],
        },
    ];
    histories.into_iter().flat_map(move |history| {
        [true, false].map(|together| Remembering {
            history,
            together,
            weakened,
        })
    })
}

#[test]
fn what_is_remembered_is_as_good_as_read() {
    checker::holds("remembered answers", models(Weakened::Nothing));
}

#[test]
fn each_rule_of_remembering_is_needed() {
    use Weakened::*;
    for weakened in [
        UnlinkLeavesRow,
        HealLeavesRow,
        StepLeavesRow,
        VersionsCount,
        AbsenceRemembered,
        NoRowIsAVersion,
        RowThenValue,
        ValueThenRow,
        BesideTheRow,
        ReadBegunBefore,
        Unchecked,
    ] {
        checker::breaks(&format!("remembered answers, {weakened:?}"), models(weakened));
    }
}
