//! An exhaustive search of small models, breadth first: the first counter-example it finds is one of the shortest.
//!
//! Our own, in these few lines, since the checker of that trade (stateright) comes with a web server of its own and
//! remembers states by 64-bit hashes; here every state is kept whole, so that "holds" means all of them.

use std::{
    collections::HashSet,
    fmt::{Debug, Write as _},
    hash::Hash,
    rc::Rc,
};

/// Something whose states can all be visited.
pub(super) trait Model {
    /// Everything there is at one moment.
    type State: Clone + Eq + Hash + Debug;

    /// Where it begins.
    fn start(&self) -> Self::State;

    /// All that can happen next, each with its name.
    fn next(&self, state: &Self::State, steps: &mut Steps<Self::State>);

    /// What must never be and is, if anything.
    fn broken(&self, state: &Self::State) -> Option<&'static str>;

    /// What is wrong with a state in which nothing can happen any more.
    fn stuck(&self, state: &Self::State) -> Option<&'static str>;
}

/// The next states of a state.
pub(super) type Steps<S> = Vec<(&'static str, S)>;

/// What a search found.
pub(super) struct Explored {
    /// How many states it visited.
    pub(super) states: usize,
    /// How one gets to the first state that is broken, if there is one.
    pub(super) counter_example: Option<CounterExample>,
}

/// A way into a state that must not be.
pub(super) struct CounterExample {
    /// What is wrong there.
    pub(super) broken: &'static str,
    /// What happened, with the states it led to, for people.
    pub(super) steps: String,
}

struct Visited<S> {
    state: Rc<S>,
    // The first is its own.
    parent: usize,
    step: &'static str,
}

/// No model here is larger; one that grows beyond is cut down, or a test takes too long.
const MOST_STATES: usize = 2_000_000;

/// Visits every state of `model`, up to the first broken one.
pub(super) fn explore<M: Model>(model: &M) -> Explored {
    let start = Rc::new(model.start());
    let mut known = HashSet::from([start.clone()]);
    let mut visited = vec![Visited {
        state: start,
        parent: 0,
        step: "start",
    }];
    let mut steps = Vec::new();
    let mut at = 0;
    while at < visited.len() {
        let state = visited[at].state.clone();
        steps.clear();
        model.next(&state, &mut steps);
        let stuck = || steps.is_empty().then(|| model.stuck(&state)).flatten();
        if let Some(broken) = model.broken(&state).or_else(stuck) {
            return Explored {
                states: visited.len(),
                counter_example: Some(CounterExample {
                    broken,
                    steps: way_to(&visited, at),
                }),
            };
        }
        for (step, next) in steps.drain(..) {
            if !known.contains(&next) {
                let state = Rc::new(next);
                known.insert(state.clone());
                visited.push(Visited {
                    state,
                    parent: at,
                    step,
                });
            }
        }
        assert!(visited.len() < MOST_STATES, "the model has too many states");
        at += 1;
    }
    Explored {
        states: visited.len(),
        counter_example: None,
    }
}

fn way_to<S: Debug>(visited: &[Visited<S>], end: usize) -> String {
    let mut way = vec![end];
    let mut at = end;
    while at != 0 {
        at = visited[at].parent;
        way.push(at);
    }
    let mut text = String::new();
    for at in way.into_iter().rev() {
        let Visited { step, state, .. } = &visited[at];
        let _ = writeln!(text, "{step}: {state:?}");
    }
    text
}

/// Asserts that nothing is broken in any state of any of `models`, and says how many states there are.
#[track_caller]
pub(super) fn holds<M: Model>(name: &str, models: impl IntoIterator<Item = M>) {
    let mut states = 0;
    for model in models {
        let explored = explore(&model);
        states += explored.states;
        if let Some(CounterExample { broken, steps }) = explored.counter_example {
            panic!("{name}: {broken}\n{steps}");
        }
    }
    println!("model of {name}: holds in {states} states");
}

/// Asserts that one of `models`, each of which has the same rule weakened, breaks.
#[track_caller]
pub(super) fn breaks<M: Model>(weakened: &str, models: impl IntoIterator<Item = M>) {
    let mut states = 0;
    for model in models {
        let explored = explore(&model);
        states += explored.states;
        if let Some(CounterExample { broken, steps }) = explored.counter_example {
            let length = steps.lines().count() - 1;
            println!("{weakened}: \"{broken}\" after {length} steps, found in {states} states");
            return;
        }
    }
    panic!(
        "{weakened}: nothing breaks in {states} states, so the rule isn't needed or the model doesn't see it"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts by ones and twos, up to ten.
    struct Count {
        forbidden: u32,
    }

    impl Model for Count {
        type State = u32;

        fn start(&self) -> u32 {
            0
        }

        fn next(&self, state: &u32, steps: &mut Steps<u32>) {
            if *state < 10 {
                steps.push(("one", state + 1));
                steps.push(("two", state + 2));
            }
        }

        fn broken(&self, state: &u32) -> Option<&'static str> {
            (*state == self.forbidden).then_some("forbidden")
        }

        fn stuck(&self, state: &u32) -> Option<&'static str> {
            (*state > 11).then_some("too far")
        }
    }

    #[test]
    fn every_state_is_visited_once_and_the_shortest_way_is_found() {
        let whole = explore(&Count { forbidden: 99 });
        assert_eq!((whole.states, whole.counter_example.is_none()), (12, true));
        let found = explore(&Count { forbidden: 4 }).counter_example.unwrap();
        assert_eq!(found.broken, "forbidden");
        assert_eq!(found.steps, "start: 0\ntwo: 2\ntwo: 4\n");
    }
}
