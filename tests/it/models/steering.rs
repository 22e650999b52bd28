//! Who makes a change (rule R5, `ownership::claim`), as two members and two clients with a stable view of each other see
//! it: a repository doesn't wander.
//!
//! What is bounded is how often a member decides to take it. A change that a former holder accepted while it still held
//! the repository is made in its name however late, and carries the repository back; that costs its successor a refusal.

use super::checker::{self, Model, Steps};

/// The rule that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weakened {
    Nothing,
    /// The member ranked first takes over whenever it likes.
    NoHoldDown,
    /// Whoever is asked takes over.
    AnyoneTakesOver,
    /// A member that isn't the holder refuses, and nobody ever takes over.
    NobodyTakesOver,
}

const CLIENTS: usize = 2;
/// The member that the ranking puts first.
const FIRST: usize = 0;
/// More decisions to take over than this within one hold-down are too many: one for each change that is on its way.
const MOST_TAKEN_OVER: u8 = CLIENTS as u8;

struct Steering(Weakened);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    holder: usize,
    /// Whether the holder hasn't changed for a hold-down.
    settled: bool,
    /// How often a member that doesn't hold it decided to take it over, since it last was.
    taken_over: u8,
    /// What each client's change has come to.
    clients: [Client; CLIENTS],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Client {
    Idle,
    /// Offered to a member, as a hint or the ranking says.
    Offered(usize),
    /// That member said `accepted`, and makes it in its own name however long that takes.
    Accepted(usize),
}

impl Steering {
    /// `Owners::claim` of a live and reachable holder's repository.
    fn is_mine(&self, member: usize, state: &State) -> bool {
        let may_take_over = match self.0 {
            Weakened::Nothing => member == FIRST && state.settled,
            Weakened::NoHoldDown => member == FIRST,
            Weakened::AnyoneTakesOver => true,
            Weakened::NobodyTakesOver => false,
        };
        state.holder == member || may_take_over
    }
}

impl Model for Steering {
    type State = State;

    fn start(&self) -> State {
        State {
            holder: 1,
            settled: false,
            taken_over: 0,
            clients: [Client::Idle; CLIENTS],
        }
    }

    fn next(&self, state: &State, steps: &mut Steps<State>) {
        if !state.settled {
            let settled = State {
                settled: true,
                taken_over: 0,
                ..state.clone()
            };
            // A change takes seconds, the hold-down half a minute: what was accepted before it is made by then.
            if !state
                .clients
                .iter()
                .any(|client| matches!(client, Client::Accepted(_)))
            {
                steps.push(("the hold-down passes", settled));
            }
        }
        for client in 0..CLIENTS {
            let with = |now: Client| {
                let mut next = state.clone();
                next.clients[client] = now;
                next
            };
            match state.clients[client] {
                Client::Idle => {
                    for member in 0..2 {
                        steps.push(("a change is offered", with(Client::Offered(member))));
                    }
                }
                Client::Offered(member) if self.is_mine(member, state) => {
                    let mut next = with(Client::Accepted(member));
                    next.taken_over += u8::from(member != state.holder);
                    steps.push(("it is accepted", next));
                }
                Client::Offered(_) => steps.push(("not owner", with(Client::Offered(state.holder)))),
                Client::Accepted(member) => {
                    let mut next = with(Client::Idle);
                    if next.holder != member {
                        (next.holder, next.settled) = (member, false);
                    }
                    steps.push(("it is made", next));
                }
            }
        }
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        (state.taken_over > MOST_TAKEN_OVER).then_some("the repository wanders")
    }

    fn stuck(&self, _: &State) -> Option<&'static str> {
        Some("nothing can happen any more")
    }
}

#[test]
fn a_repository_is_taken_from_a_live_holder_at_most_once_a_change_within_a_hold_down() {
    checker::holds("steering", [Steering(Weakened::Nothing)]);
}

#[test]
fn without_the_hold_down_it_wanders() {
    for weakened in [Weakened::NoHoldDown, Weakened::AnyoneTakesOver] {
        checker::breaks(&format!("steering, {weakened:?}"), [Steering(weakened)]);
    }
}

#[test]
fn the_first_in_the_ranking_gets_it_in_the_end() {
    let reached = |weakened| {
        struct Reaches(Steering);
        impl Model for Reaches {
            type State = State;
            fn start(&self) -> State {
                self.0.start()
            }
            fn next(&self, state: &State, steps: &mut Steps<State>) {
                self.0.next(state, steps);
            }
            fn broken(&self, state: &State) -> Option<&'static str> {
                (state.holder == FIRST).then_some("the first has it")
            }
            fn stuck(&self, _: &State) -> Option<&'static str> {
                None
            }
        }
        checker::explore(&Reaches(Steering(weakened)))
            .counter_example
            .is_some()
    };
    assert!(reached(Weakened::Nothing));
    assert!(!reached(Weakened::NobodyTakesOver));
}
