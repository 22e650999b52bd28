//! Answers as tables for people, and as JSON.
//!
//! The JSON is that of Protocol Buffers, as `grpcurl -emit-defaults` prints it: a script reads either.

use std::{collections::BTreeMap, io::IsTerminal as _, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::mesh::pb;

/// What a member is to the one that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Live,
    Drained,
    Gone,
}

impl State {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Drained => "drained",
            Self::Gone => "gone",
        }
    }
}

pub(super) fn state(member: &pb::Member) -> State {
    let drained = member.lease.as_ref().is_some_and(|lease| lease.drained);
    match (member.live, drained) {
        (true, _) => State::Live,
        (false, true) => State::Drained,
        (false, false) => State::Gone,
    }
}

/// Whether what is printed has colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paint {
    Colours,
    Plain,
}

impl Paint {
    /// Colours on a terminal, unless `NO_COLOR` (no-color.org) is set to anything.
    pub(super) fn of_stdout() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        match std::io::stdout().is_terminal() && !refused {
            true => Self::Colours,
            false => Self::Plain,
        }
    }

    /// A state, or a line about it, in its colour (ECMA-48, SGR).
    pub(super) fn of(self, state: State, text: &str) -> String {
        let code = match state {
            State::Live => 32,
            State::Drained => 33,
            State::Gone => 31,
        };
        match self {
            Self::Colours => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            Self::Plain => text.to_owned(),
        }
    }
}

/// Lines of columns that are as wide as what stands in them.
fn table(head: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let width = |n: usize| {
        let cells = rows.iter().filter_map(|row| row.get(n));
        let widest = cells.map(|cell| cell.chars().count()).max();
        widest.unwrap_or(0).max(head[n].chars().count())
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &[String]| {
        let cells = cells.iter().zip(&widths);
        let cells: Vec<String> = cells.map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    let head: Vec<String> = head.iter().map(|&cell| cell.to_owned()).collect();
    std::iter::once(line(&head))
        .chain(rows.iter().map(|row| line(row)))
        .collect()
}

pub(super) fn members(answer: &pb::MembersResponse, paint: Paint) -> String {
    let row = |member: &pb::Member| {
        vec![
            member.name.clone(),
            state(member).as_str().to_owned(),
            member.mesh_address.clone(),
            member.connections.to_string(),
            match &*member.last_error {
                "" => member.why.clone(),
                error => format!("{}; can't be reached: {error}", member.why),
            },
        ]
    };
    let rows: Vec<_> = answer.members.iter().map(row).collect();
    let lines = table(&["MEMBER", "STATE", "MESH", "CONNECTIONS", "WHY"], &rows);
    let mut text = String::new();
    for (n, line) in lines.iter().enumerate() {
        match n.checked_sub(1).and_then(|n| answer.members.get(n)) {
            Some(member) => text += &paint.of(state(member), line),
            None => text += line,
        }
        text.push('\n');
    }
    text += &format!("\nas {} saw them {} ago\n", answer.self_, ago(answer.view_age_ms));
    if !answer.trouble.is_empty() {
        text += &format!("trouble: {}\n", answer.trouble);
    }
    text
}

pub(super) fn place(answer: &pb::LocateResponse, paint: Paint) -> String {
    let owner = match &*answer.owner {
        "" => "nobody",
        owner => owner,
    };
    let mut text = format!("{} is served by {owner}: {}\n\n", answer.repository, answer.why);
    let rank = |(n, rank): (usize, &pb::Rank)| {
        vec![
            (n + 1).to_string(),
            rank.member.clone(),
            rank_state(rank).as_str().to_owned(),
            format!("{:016x}", rank.score),
            if rank.member == answer.holder {
                "holds it"
            } else {
                ""
            }
            .to_owned(),
        ]
    };
    let rows: Vec<_> = answer.ranking.iter().enumerate().map(rank).collect();
    let lines = table(&["RANK", "MEMBER", "STATE", "SCORE", ""], &rows);
    for (n, line) in lines.iter().enumerate() {
        match n.checked_sub(1).and_then(|n| answer.ranking.get(n)) {
            Some(rank) => text += &paint.of(rank_state(rank), line),
            None => text += line,
        }
        text.push('\n');
    }
    text
}

fn rank_state(rank: &pb::Rank) -> State {
    match rank.live {
        true => State::Live,
        false => State::Gone,
    }
}

/// Of each member.
pub(super) fn forwards(told: &BTreeMap<String, Vec<pb::ForwardInFlight>>) -> String {
    let row = |member: &String, forward: &pb::ForwardInFlight| {
        vec![
            ago(forward.age_ms),
            member.clone(),
            match forward.direction() {
                pb::Direction::Forwarded => "forwards to",
                pb::Direction::Replayed => "replays for",
                pb::Direction::Unspecified => "?",
            }
            .to_owned(),
            forward.peer.clone(),
            forward.method.clone(),
            forward.route.clone(),
            forward.repository.clone(),
            forward.request_id.clone(),
        ]
    };
    let rows: Vec<_> = told
        .iter()
        .flat_map(|(member, forwards)| forwards.iter().map(move |forward| row(member, forward)))
        .collect();
    if rows.is_empty() {
        return "nothing is on its way between members\n".to_owned();
    }
    let head = [
        "AGE",
        "MEMBER",
        "",
        "PEER",
        "METHOD",
        "ROUTE",
        "REPOSITORY",
        "REQUEST",
    ];
    table(&head, &rows).join("\n") + "\n"
}

/// Tenths of a second are enough.
fn ago(ms: u64) -> String {
    format!("{:.1} s", Duration::from_millis(ms).as_secs_f64())
}

pub(super) fn json_of_members(answer: &pb::MembersResponse) -> Value {
    let members = answer.members.iter().map(json_of_member);
    json!({
        "self": answer.self_,
        "members": members.collect::<Vec<_>>(),
        "viewAgeMs": answer.view_age_ms.to_string(),
        "trouble": answer.trouble,
    })
}

fn json_of_member(member: &pb::Member) -> Value {
    let lease = member.lease.as_ref().map(|lease| {
        json!({
            "incarnation": STANDARD.encode(&lease.incarnation),
            "unchangedMs": lease.unchanged_ms.to_string(),
            "left": lease.left,
            "protocolMin": lease.protocol_min,
            "protocolMax": lease.protocol_max,
            "differs": lease.differs,
            "publicKeyHash": STANDARD.encode(&lease.public_key_hash),
            "drained": lease.drained,
        })
    });
    json!({
        "name": member.name,
        "meshAddress": member.mesh_address,
        "live": member.live,
        "why": member.why,
        "connections": member.connections,
        "lastError": member.last_error,
        "lease": lease,
    })
}

pub(super) fn json_of_place(answer: &pb::LocateResponse) -> Value {
    let rank = |rank: &pb::Rank| json!({ "member": rank.member, "score": rank.score.to_string(), "live": rank.live });
    json!({
        "repository": answer.repository,
        "owner": answer.owner,
        "why": answer.why,
        "holder": answer.holder,
        "ranking": answer.ranking.iter().map(rank).collect::<Vec<_>>(),
    })
}

/// What each member answered, under its name.
pub(super) fn json_of_forwards(told: &BTreeMap<String, Vec<pb::ForwardInFlight>>) -> Value {
    let forward = |forward: &pb::ForwardInFlight| {
        json!({
            "requestId": forward.request_id,
            "method": forward.method,
            "route": forward.route,
            "repository": forward.repository,
            "peer": forward.peer,
            "direction": forward.direction().as_str_name(),
            "ageMs": forward.age_ms.to_string(),
        })
    };
    let of_one = |(member, forwards): (&String, &Vec<pb::ForwardInFlight>)| {
        let forwards: Vec<_> = forwards.iter().map(forward).collect();
        (member.clone(), json!({ "forwards": forwards }))
    };
    Value::Object(told.iter().map(of_one).collect())
}
