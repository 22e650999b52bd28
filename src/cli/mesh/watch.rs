//! `portolan mesh watch`: what changes, as one member sees it, and as the next one does when that one is gone.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    time::Duration,
};

use serde_json::json;
use tokio::time::sleep;

use super::{
    Result,
    dial::{Asked, Dialler},
    show::{self, Paint, State},
};
use crate::{causes, clock, mesh::pb, oci::Timestamp};

/// How often it is asked. Members look at each other's leases every two seconds.
const EVERY: Duration = Duration::from_millis(500);

/// One thing that happened to a member.
#[derive(Debug, PartialEq, Eq)]
struct Change {
    member: String,
    // Before, and since; `None` is no member.
    was: Option<State>,
    state: Option<State>,
    why: String,
}

/// Prints until it is interrupted.
pub(super) async fn watch(dialler: &Dialler, server: &str, json: bool, paint: Paint) -> Result<()> {
    let mut asked = dialler.dial(server).await?;
    let mut seen = asked.members().await?;
    let mut addresses = vec![server.to_owned()];
    let mut output = Output {
        to: std::io::stdout(),
        json,
        paint,
    };
    let mut told = output.say(&changes(None, &seen));
    // Whoever reads along may have seen enough.
    while told.is_ok() {
        sleep(EVERY).await;
        let now = match asked.members().await {
            Ok(now) => now,
            Err(error) => {
                told = output.note(&format!("{}; asking another member", causes::in_a_line(&error)));
                let (next, now) = another(dialler, &addresses).await;
                asked = next;
                now
            }
        };
        for member in &now.members {
            if !addresses.contains(&member.mesh_address) {
                addresses.push(member.mesh_address.clone());
            }
        }
        told = told.and_then(|()| output.say(&changes(Some(&seen), &now)));
        seen = now;
    }
    Ok(())
}

/// The first that answers.
async fn another(dialler: &Dialler, addresses: &[String]) -> (Asked, pb::MembersResponse) {
    loop {
        for address in addresses {
            if let Ok(mut asked) = dialler.dial(address).await
                && let Ok(seen) = asked.members().await
            {
                return (asked, seen);
            }
        }
        sleep(EVERY).await;
    }
}

/// What is other than before; at first, what there is.
fn changes(before: Option<&pb::MembersResponse>, now: &pb::MembersResponse) -> Vec<Change> {
    let before = before.map_or(&[][..], |before| &before.members);
    let by_name = |members: &[pb::Member]| -> BTreeMap<String, pb::Member> {
        members
            .iter()
            .map(|member| (member.name.clone(), member.clone()))
            .collect()
    };
    let (before, now) = (by_name(before), by_name(&now.members));
    let mut changes = Vec::new();
    for (name, member) in &now {
        let (was, state) = (before.get(name), show::state(member));
        let is_same_start = was.is_none_or(|was| start(was) == start(member));
        let was = was.map(show::state);
        let why = match (was == Some(state), is_same_start) {
            (true, true) => continue,
            (true, false) => "it was started anew".to_owned(),
            (false, _) => member.why.clone(),
        };
        changes.push(Change {
            member: name.clone(),
            was,
            state: Some(state),
            why,
        });
    }
    for (name, was) in before.iter().filter(|(name, _)| !now.contains_key(*name)) {
        changes.push(Change {
            member: name.clone(),
            was: Some(show::state(was)),
            state: None,
            why: "it is no member any more".to_owned(),
        });
    }
    changes
}

/// Which start of the member it is.
fn start(member: &pb::Member) -> Option<&[u8]> {
    member.lease.as_ref().map(|lease| &*lease.incarnation)
}

/// Where changes are told, a line each.
struct Output<W> {
    to: W,
    json: bool,
    paint: Paint,
}

impl<W: Write> Output<W> {
    fn say(&mut self, changes: &[Change]) -> io::Result<()> {
        for change in changes {
            let name = |state: Option<State>| state.map(State::as_str);
            let (at, was, state) = (now(), name(change.was), name(change.state));
            let (member, why) = (&change.member, &change.why);
            if self.json {
                let line = json!({ "at": at, "member": member, "was": was, "state": state, "why": why });
                writeln!(self.to, "{line}")?;
                continue;
            }
            let moved = match (was, state) {
                (Some(was), Some(state)) if was != state => format!("{was} -> {state}"),
                (_, Some(state)) => state.to_owned(),
                (_, None) => "no member".to_owned(),
            };
            let line = format!("{at}  {member}  {moved}: {why}");
            let line = self.paint.of(change.state.unwrap_or(State::Gone), &line);
            writeln!(self.to, "{line}")?;
        }
        self.to.flush()
    }

    /// What isn't about a member.
    fn note(&mut self, text: &str) -> io::Result<()> {
        match self.json {
            true => writeln!(self.to, "{}", json!({ "at": now(), "note": text })),
            false => writeln!(self.to, "{}  {text}", now()),
        }
    }
}

fn now() -> String {
    Timestamp::from_ms(clock::now_ms()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, live: bool, drained: bool, start: u8) -> pb::Member {
        pb::Member {
            name: name.to_owned(),
            live,
            why: "so it is".to_owned(),
            lease: Some(pb::Lease {
                incarnation: vec![start].into(),
                drained,
                ..pb::Lease::default()
            }),
            ..pb::Member::default()
        }
    }

    fn seen(members: Vec<pb::Member>) -> pb::MembersResponse {
        pb::MembersResponse {
            members,
            ..pb::MembersResponse::default()
        }
    }

    #[test]
    fn what_changes_is_told_and_nothing_else() {
        let told = |before: Option<&pb::MembersResponse>, now: &pb::MembersResponse| {
            let changes = changes(before, now).into_iter();
            let words = changes.map(|change| (change.member, change.was, change.state));
            words.collect::<Vec<_>>()
        };
        let change = |name: &str, was, state| (name.to_owned(), was, state);
        let first = seen(vec![member("a", true, false, 1), member("b", false, false, 1)]);
        let (live, gone, drained) = (Some(State::Live), Some(State::Gone), Some(State::Drained));
        assert_eq!(
            told(None, &first),
            [change("a", None, live), change("b", None, gone)]
        );
        assert_eq!(told(Some(&first), &first), []);
        let then = seen(vec![member("a", false, true, 1), member("c", true, false, 1)]);
        assert_eq!(
            told(Some(&first), &then),
            [
                change("a", live, drained),
                change("c", None, live),
                change("b", gone, None)
            ]
        );
        let restarted = seen(vec![member("a", false, true, 2), member("c", true, false, 1)]);
        assert_eq!(told(Some(&then), &restarted), [change("a", drained, drained)]);
    }
}
