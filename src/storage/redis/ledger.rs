//! What a member remembers of the server, so that what was lost is noticed.
//!
//! A server that was promoted or restored may lack what another one acknowledged. Each process that takes over a keyspace begins a
//! term there, with the number of writes that it had. Who knows that it was acknowledged a later one knows that this one is
//! lost; and who has seen a term is never again told anything by a server of an earlier one.

use std::collections::VecDeque;

/// How many of the last writes are remembered by the names of their rows.
const REMEMBERED: usize = 1_024;
/// How many of them are named.
const NAMED: usize = 20;

/// What a connection begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Begun {
    /// Drawn when the keyspace was made.
    pub(super) id: String,
    /// Which process this is the term of.
    pub(super) run: String,
    pub(super) term: u64,
    /// Writes so far.
    pub(super) written: u64,
    /// The last term that was known when this was asked.
    pub(super) asked: u64,
    /// How that one began.
    pub(super) known: Option<Beginning>,
    /// How the one after it began.
    pub(super) after: Option<Beginning>,
}

/// How a term began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Beginning {
    /// By which process.
    pub(super) run: String,
    /// With so many writes.
    pub(super) written: u64,
}

impl Beginning {
    /// Of what is stored: `<run> <writes>`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (run, written) = text.split_once(' ')?;
        Some(Self {
            run: run.to_owned(),
            written: written.parse().ok()?,
        })
    }
}

/// What is known, if anything is yet.
#[derive(Debug, Default)]
pub(super) struct Ledger(Option<Known>);

#[derive(Debug)]
struct Known {
    id: String,
    term: u64,
    run: String,
    /// The last write of this term that was acknowledged to this member.
    acknowledged: u64,
    /// The last of them, and what they were of.
    recent: VecDeque<(u64, String)>,
}

/// How what a connection begins with goes with what is known.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// It is the one that is known, or the first.
    Same,
    /// It took over, with everything that was acknowledged here.
    Whole,
    /// It took over, and lacks what was acknowledged.
    Lacking(Lost),
    /// Another one was taken note of meanwhile: to be asked again.
    Late,
    /// It is of a former term.
    Former {
        /// The one that is known.
        known: u64,
    },
    /// It isn't the keyspace that was there.
    Another,
}

/// What was lost of what was acknowledged to this member.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lost {
    /// So many writes, of this member and of others.
    pub(super) writes: u64,
    /// Rows that this member wrote with them, the last ones.
    pub(super) rows: Vec<String>,
}

impl Ledger {
    /// The last term that is known; 0 before the first.
    pub(super) fn term(&self) -> u64 {
        self.0.as_ref().map_or(0, |known| known.term)
    }

    /// Whether a keyspace was seen.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether answers of this process count.
    pub(super) fn is_of(&self, run: &str) -> bool {
        self.0.as_ref().is_some_and(|known| known.run == run)
    }

    /// Takes note of what a connection begins with; of a former server and of another keyspace it doesn't.
    pub(super) fn judge(&mut self, begun: &Begun) -> Judged {
        let Some(known) = &mut self.0 else {
            self.0 = Some(Known {
                id: begun.id.clone(),
                term: begun.term,
                run: begun.run.clone(),
                acknowledged: 0,
                recent: VecDeque::new(),
            });
            return Judged::Same;
        };
        if known.id != begun.id {
            return Judged::Another;
        }
        if begun.term < known.term {
            return Judged::Former { known: known.term };
        }
        if begun.run == known.run && begun.term == known.term {
            return Judged::Same;
        }
        if begun.asked != known.term {
            return Judged::Late;
        }
        // What it has of the writes that were acknowledged: those before the term after ours began, if it has ours at all.
        let has = match (&begun.known, &begun.after) {
            (Some(ours), after) if ours.run == known.run => {
                after.as_ref().map_or(begun.written, |after| after.written)
            }
            (Some(other), _) => other.written,
            (None, _) => 0,
        };
        let writes = known.acknowledged.saturating_sub(has);
        let lost = known.recent.iter().rev().take_while(|(number, _)| *number > has);
        let rows = lost.take(NAMED).map(|(_, of)| of.clone()).collect();
        known.term = begun.term;
        known.run.clone_from(&begun.run);
        known.acknowledged = known.acknowledged.min(has);
        known.recent.retain(|(number, _)| *number <= has);
        match writes {
            0 => Judged::Whole,
            writes => Judged::Lacking(Lost { writes, rows }),
        }
    }

    /// Takes note of a write that this process has acknowledged; `false` if it isn't the one any more whose answers count.
    pub(super) fn acknowledge(
        &mut self,
        run: &str,
        number: u64,
        of: impl FnOnce() -> Option<String>,
    ) -> bool {
        let Some(known) = self.0.as_mut().filter(|known| known.run == run) else {
            return false;
        };
        known.acknowledged = known.acknowledged.max(number);
        if let Some(of) = of() {
            if known.recent.len() == REMEMBERED {
                known.recent.pop_front();
            }
            known.recent.push_back((number, of));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(
        run: &str,
        term: u64,
        written: u64,
        known: Option<(&str, u64)>,
        after: Option<(&str, u64)>,
    ) -> Begun {
        let beginning = |(run, written): (&str, u64)| Beginning {
            run: run.to_owned(),
            written,
        };
        Begun {
            id: "one".to_owned(),
            run: run.to_owned(),
            asked: 3,
            term,
            written,
            known: known.map(beginning),
            after: after.map(beginning),
        }
    }

    fn at_ten() -> Ledger {
        let mut ledger = Ledger::default();
        assert_eq!(
            ledger.judge(&begun("a", 3, 8, None, Some(("a", 5)))),
            Judged::Same
        );
        for number in [9, 10] {
            assert!(ledger.acknowledge("a", number, || Some(format!("row {number}"))));
        }
        ledger
    }

    #[test]
    fn a_server_that_took_over_with_everything_is_whole() {
        let mut ledger = at_ten();
        let next = begun("b", 4, 12, Some(("a", 5)), Some(("b", 10)));
        let late = Begun {
            asked: 2,
            ..next.clone()
        };
        assert_eq!(ledger.judge(&late), Judged::Late);
        assert_eq!(ledger.judge(&next), Judged::Whole);
        assert_eq!(ledger.judge(&next), Judged::Same);
        assert!(
            !ledger.acknowledge("a", 11, || None),
            "the former one acknowledges nothing any more"
        );
    }

    #[test]
    fn what_it_lacks_is_counted_and_named() {
        let rows = |rows: &[&str]| rows.iter().map(ToString::to_string).collect::<Vec<_>>();
        for (next, writes, named) in [
            // Of the same history, with others' writes since.
            (
                begun("b", 4, 40, Some(("a", 5)), Some(("b", 9))),
                1,
                rows(&["row 10"]),
            ),
            // Two terms later.
            (
                begun("c", 5, 40, Some(("a", 5)), Some(("b", 8))),
                2,
                rows(&["row 10", "row 9"]),
            ),
            // Another one began the same term.
            (
                begun("b", 3, 40, Some(("b", 6)), None),
                4,
                rows(&["row 10", "row 9"]),
            ),
            // It has never heard of it.
            (begun("b", 4, 40, None, None), 10, rows(&["row 10", "row 9"])),
        ] {
            let lost = Lost { writes, rows: named };
            assert_eq!(at_ten().judge(&next), Judged::Lacking(lost), "{next:?}");
        }
    }

    #[test]
    fn a_former_server_and_another_keyspace_change_nothing() {
        let mut ledger = at_ten();
        assert_eq!(
            ledger.judge(&begun("z", 2, 90, None, None)),
            Judged::Former { known: 3 }
        );
        let other = Begun {
            id: "two".to_owned(),
            ..begun("a", 9, 0, None, None)
        };
        assert_eq!(ledger.judge(&other), Judged::Another);
        assert!(ledger.is_of("a") && ledger.term() == 3);
    }
}
