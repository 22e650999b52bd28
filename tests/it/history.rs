//! Is what happened to a tag explainable?
//!
//! Clients record when they asked for something, when they were answered, and what. A tag's history is explainable if
//! every operation can be put at one moment between its two, so that they make sense one after the other
//! (linearizability). An operation whose answer was lost, or said that it isn't known, may have happened at any moment
//! after it was asked for, once, or never.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;

/// What a tag names: the number of a manifest.
pub(crate) type Value = u32;

/// What was asked for, with what was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// The tag was moved to a manifest.
    Push(Value),
    /// The tag was deleted; it was there.
    Delete,
    /// The tag was to be deleted and wasn't there.
    DeleteNothing,
    /// A deletion whose answer isn't known.
    MayDelete,
    /// The tag was read.
    Read(Option<Value>),
}

/// An act with the time it took, on a clock that counts events.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    begun: u64,
    /// `None`: its outcome isn't known.
    ended: Option<u64>,
    act: Act,
}

impl Event {
    /// What was pushed, if that was acknowledged.
    pub(crate) fn acknowledged_push(&self) -> Option<Value> {
        match (self.ended, self.act) {
            (Some(_), Act::Push(value)) => Some(value),
            _ => None,
        }
    }
}

/// Records one tag's events.
#[derive(Debug, Default)]
pub(crate) struct History {
    events: Mutex<Vec<Event>>,
}

/// Counts events, so that "before" means the same for all clients.
#[derive(Debug, Default)]
pub(crate) struct Clock(AtomicU64);

impl Clock {
    pub(crate) fn tick(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

impl History {
    /// An act that was answered.
    pub(crate) fn answered(&self, begun: u64, clock: &Clock, act: Act) {
        self.events.lock().push(Event {
            begun,
            ended: Some(clock.tick()),
            act,
        });
    }

    /// An act that may have happened, or may yet.
    pub(crate) fn lost(&self, begun: u64, act: Act) {
        self.events.lock().push(Event {
            begun,
            ended: None,
            act,
        });
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.lock().clone()
    }

    /// The last things that happened, for people.
    pub(crate) fn tail(&self) -> String {
        let mut events = self.events();
        events.sort_by_key(|event| event.begun);
        let skipped = events.len().saturating_sub(60);
        events[skipped..]
            .iter()
            .map(|event| format!("{event:?}\n"))
            .collect()
    }
}

/// What a registry tells of a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// It was let name this.
    Created(Value),
    /// It named this, and was deleted.
    Deleted(Value),
}

/// Why what a registry tells of a tag, the oldest first, isn't what clients made it; `None` if it is. `now` is what the tag is
/// in the end. Each push was of a manifest of its own.
pub(crate) fn contradiction(events: &[Event], told: &[Told], now: Option<Value>) -> Option<String> {
    let of = |value: Value| events.iter().filter(move |event| event.act == Act::Push(value));
    let mut names = None;
    let mut latest_begun = 0;
    for one in told {
        match *one {
            Told::Created(value) => {
                if of(value).next().is_none() || names == Some(value) {
                    return Some(format!("nobody made {one:?}"));
                }
                // Whoever had his answer before another asked came first.
                let ended = of(value)
                    .map(|event| event.ended.unwrap_or(u64::MAX))
                    .max()
                    .unwrap_or(u64::MAX);
                if ended < latest_begun {
                    return Some(format!(
                        "{one:?} is told after what was begun when it was acknowledged"
                    ));
                }
                latest_begun = latest_begun.max(of(value).map(|event| event.begun).min().unwrap_or(0));
                names = Some(value);
            }
            Told::Deleted(value) if names == Some(value) => names = None,
            Told::Deleted(_) => return Some(format!("{one:?}, and it named {names:?}")),
        }
    }
    if names != now {
        return Some(format!(
            "it names {now:?}, and the last that is told is {names:?}"
        ));
    }
    let created = |value: Value| told.iter().filter(|told| **told == Told::Created(value)).count();
    for value in events.iter().filter_map(Event::acknowledged_push) {
        if created(value) == 0 {
            return Some(format!("the acknowledged push of {value} isn't told"));
        }
    }
    for told in told {
        if let Told::Created(value) = told
            && created(*value) > of(*value).count()
        {
            return Some(format!("the push of {value} is told twice"));
        }
    }
    let deleted = told
        .iter()
        .filter(|told| matches!(told, Told::Deleted(_)))
        .count();
    let acts = |act: Act| events.iter().filter(|event| event.act == act).count();
    let certainly = acts(Act::Delete);
    let is_so = (certainly..=certainly + acts(Act::MayDelete)).contains(&deleted);
    (!is_so).then(|| format!("{deleted} deletions are told where {certainly} were acknowledged"))
}

/// Whether the events make sense one after the other, beginning with a tag that isn't there.
pub(crate) fn is_explainable(events: &[Event]) -> bool {
    let mut events = events.to_vec();
    events.sort_by_key(|event| event.begun);
    let (answered, lost): (Vec<Event>, Vec<Event>) =
        events.into_iter().partition(|event| event.ended.is_some());
    let state = State {
        first: 0,
        done: vec![false; answered.len()],
        used: vec![false; lost.len()],
        now: None,
    };
    Search {
        answered,
        lost,
        visited: HashSet::new(),
    }
    .explains(state)
}

/// How far an explanation got.
#[derive(Clone, PartialEq, Eq, Hash)]
struct State {
    /// All answered events before this one are explained.
    first: usize,
    /// Which answered events are explained.
    done: Vec<bool>,
    /// Which lost ones it used.
    used: Vec<bool>,
    /// What the tag is now.
    now: Option<Value>,
}

struct Search {
    // Both in the order in which they began.
    answered: Vec<Event>,
    lost: Vec<Event>,
    // What led nowhere.
    visited: HashSet<State>,
}

impl Search {
    /// Whether the rest can be explained from `state` on.
    fn explains(&mut self, mut state: State) -> bool {
        // What changes nothing and fits can be explained at once.
        while let Some(at) = self.idle(&state) {
            self.take(&mut state, at, None);
        }
        if state.first == self.answered.len() {
            return true;
        }
        if !self.visited.insert(state.clone()) {
            return false;
        }
        let candidates: Vec<usize> = self.candidates(&state).collect();
        candidates.into_iter().any(|at| self.explains_next(&state, at))
    }

    /// Whether the rest can be explained if the answered event `at` comes next, or next but for a lost one that it needs.
    /// A lost one that no answered event needs at once may as well never have happened.
    fn explains_next(&mut self, state: &State, at: usize) -> bool {
        if fits(self.answered[at].act, state.now).is_some() {
            let mut next = state.clone();
            self.take(&mut next, at, None);
            return self.explains(next);
        }
        let bound = self.earliest_end(state);
        (0..self.lost.len()).any(|lost| {
            let event = self.lost[lost];
            let between = fits(event.act, state.now).filter(|_| !state.used[lost] && event.begun < bound);
            let Some(between) = between.filter(|between| fits(self.answered[at].act, *between).is_some())
            else {
                return false;
            };
            let mut next = State {
                now: between,
                ..state.clone()
            };
            self.take(&mut next, at, Some(lost));
            self.explains(next)
        })
    }

    /// Explains the answered event `at`, which fits.
    fn take(&self, state: &mut State, at: usize, lost: Option<usize>) {
        state.now = fits(self.answered[at].act, state.now).expect("it fits");
        state.done[at] = true;
        while state.done.get(state.first) == Some(&true) {
            state.first += 1;
        }
        if let Some(lost) = lost {
            state.used[lost] = true;
        }
    }

    /// An answered event that fits and never changes anything. (A push of what is there already may be needed later, after a
    /// delete.)
    fn idle(&self, state: &State) -> Option<usize> {
        let never_changes = |act| matches!(act, Act::Read(_) | Act::DeleteNothing);
        self.candidates(state).find(|at| {
            let act = self.answered[*at].act;
            never_changes(act) && fits(act, state.now).is_some()
        })
    }

    /// Answered events that may come next: none that isn't explained ended before they began.
    fn candidates<'a>(&'a self, state: &'a State) -> impl Iterator<Item = usize> + 'a {
        let bound = self.earliest_end(state);
        (state.first..self.answered.len())
            .take_while(move |at| self.answered[*at].begun < bound)
            .filter(|at| !state.done[*at])
    }

    /// When the first of the events that aren't explained ended.
    fn earliest_end(&self, state: &State) -> u64 {
        let mut bound = u64::MAX;
        for at in state.first..self.answered.len() {
            if self.answered[at].begun > bound {
                break;
            }
            if let (false, Some(ended)) = (state.done[at], self.answered[at].ended) {
                bound = bound.min(ended);
            }
        }
        bound
    }
}

/// What the tag is after an act, if it can happen when the tag is `now`.
fn fits(act: Act, now: Option<Value>) -> Option<Option<Value>> {
    match act {
        Act::Push(value) => Some(Some(value)),
        Act::Delete => now.map(|_| None),
        Act::DeleteNothing => now.is_none().then_some(None),
        Act::MayDelete => Some(None),
        Act::Read(value) => (value == now).then_some(now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(begun: u64, ended: u64, act: Act) -> Event {
        Event {
            begun,
            ended: Some(ended),
            act,
        }
    }

    fn lost(begun: u64, act: Act) -> Event {
        Event {
            begun,
            ended: None,
            act,
        }
    }

    #[test]
    fn what_happens_one_after_the_other_is_explainable() {
        assert!(is_explainable(&[
            event(0, 1, Act::Read(None)),
            event(2, 3, Act::Push(1)),
            event(4, 5, Act::Read(Some(1))),
            event(6, 7, Act::Push(2)),
            event(8, 9, Act::Read(Some(2))),
            event(10, 11, Act::Delete),
            event(12, 13, Act::Read(None)),
            event(14, 15, Act::DeleteNothing),
        ]));
    }

    #[test]
    fn what_happens_at_once_may_have_happened_in_any_order() {
        assert!(is_explainable(&[
            event(0, 10, Act::Push(1)),
            event(1, 9, Act::Push(2)),
            event(2, 3, Act::Read(Some(2))),
            event(4, 5, Act::Read(Some(1))),
            event(11, 12, Act::Read(Some(1))),
        ]));
        assert!(!is_explainable(&[
            event(0, 10, Act::Push(1)),
            event(1, 9, Act::Push(2)),
            event(2, 3, Act::Read(Some(2))),
            event(4, 5, Act::Read(Some(1))),
            event(6, 7, Act::Read(Some(2))),
        ]));
    }

    #[test]
    fn the_same_may_be_pushed_twice_with_a_delete_between() {
        let twice = [
            event(0, 10, Act::Push(1)),
            event(1, 2, Act::Push(1)),
            event(3, 4, Act::Delete),
        ];
        for (read, is_explainable_so) in [(Some(1), true), (None, true), (Some(2), false)] {
            let read = event(5, 6, Act::Read(read));
            assert_eq!(is_explainable(&[&twice[..], &[read]].concat()), is_explainable_so);
        }
        let gone = event(11, 12, Act::Read(None));
        assert!(
            is_explainable(&[&twice[..], &[gone]].concat()),
            "both came before the delete"
        );
        let seen = event(5, 6, Act::Read(Some(1)));
        assert!(!is_explainable(&[&twice[..], &[seen, gone]].concat()));
    }

    #[test]
    fn a_lost_change_is_found_out() {
        assert!(!is_explainable(&[
            event(0, 1, Act::Push(1)),
            event(2, 3, Act::Read(None))
        ]));
        assert!(!is_explainable(&[
            event(0, 1, Act::Push(1)),
            event(2, 3, Act::Push(2)),
            event(4, 5, Act::Read(Some(1))),
        ]));
        assert!(!is_explainable(&[
            event(0, 1, Act::Push(1)),
            event(2, 3, Act::Delete),
            event(4, 5, Act::Read(Some(1))),
        ]));
    }

    #[test]
    fn a_stale_read_is_found_out() {
        assert!(!is_explainable(&[
            event(0, 1, Act::Push(1)),
            event(2, 3, Act::Push(2)),
            event(4, 5, Act::Read(Some(2))),
            event(6, 7, Act::Read(Some(1))),
        ]));
        assert!(!is_explainable(&[
            event(0, 1, Act::Push(1)),
            event(2, 3, Act::DeleteNothing)
        ]));
        assert!(!is_explainable(&[
            event(0, 1, Act::Read(Some(1))),
            event(2, 3, Act::Push(1))
        ]));
    }

    #[test]
    fn an_unknown_outcome_happened_once_or_never() {
        let known = [event(2, 3, Act::Push(2)), event(4, 5, Act::Read(Some(2)))];
        let with = |more: &[Event]| is_explainable(&[&known[..], more].concat());
        assert!(with(&[lost(0, Act::Push(1))]));
        assert!(
            with(&[lost(0, Act::Push(1)), event(6, 7, Act::Read(Some(1)))]),
            "late"
        );
        assert!(
            with(&[lost(0, Act::MayDelete), event(6, 7, Act::Read(None))]),
            "late"
        );
        let twice = [
            lost(0, Act::Push(1)),
            event(6, 7, Act::Read(Some(1))),
            event(8, 9, Act::Push(3)),
            event(10, 11, Act::Read(Some(1))),
        ];
        assert!(!with(&twice));
        assert!(
            !with(&[lost(8, Act::Push(1)), event(6, 7, Act::Read(Some(1)))]),
            "before it was asked for"
        );
        let delete = [
            lost(0, Act::Push(1)),
            event(6, 7, Act::Delete),
            event(8, 9, Act::Delete),
        ];
        assert!(with(&delete), "the second deleted what came late");
    }

    #[test]
    fn long_histories_are_decided() {
        let mut events = Vec::new();
        for round in 0..200_u32 {
            let at = u64::from(round) * 20;
            for client in 0..6 {
                let value = round * 10 + client;
                let begun = at + u64::from(client);
                match round % 5 {
                    0 if client == 0 => events.push(lost(begun, Act::Push(value))),
                    1 if client == 0 => events.push(lost(begun, Act::MayDelete)),
                    _ => events.push(event(begun, at + 10 + u64::from(client), Act::Push(value))),
                }
            }
            events.push(event(at + 17, at + 18, Act::Read(Some(round * 10 + 3))));
        }
        assert!(is_explainable(&events));
        events.push(event(5000, 5001, Act::Read(Some(1))));
        assert!(!is_explainable(&events));
    }
}
