//! The mesh: its members, which of them owns what, and what they do for each other, as it is at one moment. Who watches is sent
//! its parts anew again and again.
//!
//! The figures are for whoever the gate lets see the mesh; repositories are named to who may read them.

mod facts;
mod picture;

use maud::{Markup, html};

pub use self::facts::{Forward, Look, Member, MeshFacts, Owned, Spoken, TakeOver};
use super::{Shown, Ui, Visitor, layout::Place, links, words};
use crate::{clock, oci::RepoName};

/// Names that are shown of what a member owns.
const NAMES: usize = 12;
/// Requests in flight that are shown.
const FORWARDS: usize = 20;
/// Take-overs that are shown.
const TAKE_OVERS: usize = 20;
/// Colours that members have; the stylesheet has as many.
const COLOURS: usize = 8;

impl Ui {
    /// The whole page.
    pub(super) async fn mesh(&self, visitor: &Visitor) -> Shown {
        let facts = (self.look)().await;
        let content = html! {
            div.title {
                h1 { "The mesh" }
                button.end type="button" data-pause hidden { "Pause" }
                noscript { a.button.end href="/mesh" { "Look again" } }
            }
            div data-events="/mesh/live" { (parts(&facts, visitor)) }
        };
        self.page(visitor, Place::Mesh, "The mesh", &content)
    }

    /// What of it changes, as it is now.
    pub async fn mesh_now(&self, visitor: &Visitor) -> String {
        let facts = (self.look)().await;
        parts(&facts, visitor).into_string()
    }
}

/// The parts that are replaced one by one, each where it has changed.
fn parts(facts: &MeshFacts, visitor: &Visitor) -> Markup {
    html! {
        p.found #mesh-now data-part role="status" { (now(facts)) }
        div #mesh-placement data-part { (placement(facts)) }
        section aria-labelledby="members" {
            h2 #members { "Members" }
            ul.members #mesh-members data-part {
                @for (index, member) in facts.members.iter().enumerate() { (card(facts, member, index, visitor)) }
            }
        }
        section aria-labelledby="traffic" {
            h2 #traffic { "Between members" }
            div #mesh-traffic data-part { (traffic(facts)) }
        }
        div.sides {
            section aria-labelledby="flight" {
                h2 #flight { "Forwards in flight" }
                div #mesh-flight data-part { (in_flight(facts, visitor)) }
            }
            section aria-labelledby="taken" {
                h2 #taken { "Take-overs" }
                div #mesh-taken data-part { (taken(facts, visitor)) }
            }
        }
    }
}

/// What changes only when a member comes or goes: it is read out.
fn now(facts: &MeshFacts) -> Markup {
    let live = facts.members.iter().filter(|member| member.is_live).count();
    html! {
        (live) " of " (words::count(facts.members.len(), "member")) " live, as " (facts.me) " sees it."
        @if !facts.trouble.is_empty() { " " strong { (words::clipped_to(&facts.trouble, 300)) } }
    }
}

fn placement(facts: &MeshFacts) -> Markup {
    let all: u64 = facts.owned.iter().map(|owned| owned.repositories).sum();
    let bytes: f64 = facts.owned.iter().map(|owned| owned.bytes).sum();
    let spoken = facts.members.iter().filter_map(|member| member.spoken.as_ref());
    let waiting: f64 = spoken
        .map(|spoken| spoken.sum("portolan_collection_waiting_bytes", &[]))
        .sum();
    html! {
        div.sight {
            (picture::placement(facts))
            div {
                h2 { "Who owns what" }
                p.muted {
                    (repositories(all)) ", " (words::size(bytes as u64)) " of images"
                    @if waiting > 0.0 { ", " (words::size(waiting as u64)) " that nobody holds any more and that are to be deleted" }
                    ". Each repository has one owner, by its name; where a "
                    "member goes, the next in the repository’s ranking has its place. Arcs show how many each member has, bands how many "
                    "requests members have sent each other."
                    @if !facts.is_whole { " These aren’t all of them yet." }
                }
                ul.shares {
                    @for (index, (member, owned)) in facts.members.iter().zip(&facts.owned).enumerate() {
                        li {
                            span.dot.(colour(index)) {}
                            span.name { (member.name) }
                            span.number { (repositories(owned.repositories)) }
                            span.number { (words::size(owned.bytes as u64)) }
                        }
                    }
                }
            }
        }
    }
}

fn repositories(number: u64) -> String {
    match number {
        1 => "1 repository".to_owned(),
        number => format!("{number} repositories"),
    }
}

/// The class of a member's colour.
fn colour(index: usize) -> String {
    format!("m{}", index % COLOURS)
}

fn card(facts: &MeshFacts, member: &Member, index: usize, visitor: &Visitor) -> Markup {
    html! {
        li.card.gone[!member.is_live] {
            h3 {
                span.dot.(colour(index)) {}
                span.name { (member.name) }
                @match (member.is_live, member.spoken.is_some()) {
                    (true, true) => span.chip.good { "live" },
                    (true, false) => span.chip.bad { "silent" },
                    (false, _) => span.chip.bad { "gone" },
                }
                @if member.name == facts.me { span.chip { "this one" } }
            }
            p.muted {
                // That its lease is renewed is why it lives.
                @if !member.is_live || member.name == facts.me || member.unrenewed.is_none() { (sentence(&member.why)) " " }
                @if let Some(unrenewed) = member.unrenewed {
                    "Its lease was renewed " (format!("{:.0}", unrenewed.as_secs_f64())) " s ago."
                }
            }
            @if !member.trouble.is_empty() { p.note { (words::clipped_to(&sentence(&member.trouble), 300)) } }
            @if let Some(spoken) = &member.spoken { (numbers(facts, member, spoken)) }
            @if let Some(owned) = facts.owned.get(index) { (names(owned, visitor)) }
        }
    }
}

fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(char::to_uppercase);
    first
        .into_iter()
        .flatten()
        .chain(characters)
        .chain(['.'])
        .collect()
}

/// The first of a member's repositories that the visitor may read.
fn names(owned: &Owned, visitor: &Visitor) -> Markup {
    let readable = owned.first.iter().filter(|name| visitor.sees.includes(name));
    let shown: Vec<&RepoName> = readable.take(NAMES).collect();
    let rest = owned.repositories.saturating_sub(shown.len() as u64);
    html! {
        @if owned.repositories > 0 {
            p.owned {
                @for name in &shown { a href=(links::repository(name)) { (name) } " " }
                @if rest > 0 { span.muted { @if shown.is_empty() { (repositories(rest)) } @else { "and " (rest) " more" } } }
            }
        }
    }
}

fn numbers(facts: &MeshFacts, member: &Member, spoken: &Spoken) -> Markup {
    let per_second = |metric: &'static str| {
        let rate = facts.rate(member, |spoken| spoken.sum(metric, &[]));
        rate.map_or_else(|| "–".to_owned(), |rate| format!("{rate:.1}/s"))
    };
    let bytes = |direction: &'static str| {
        let of =
            |spoken: &Spoken| spoken.sum("portolan_request_body_bytes_total", &[("direction", direction)]);
        let rate = facts.rate(member, of).unwrap_or_default();
        format!(
            "{}, {}/s",
            words::size(of(spoken) as u64),
            words::size(rate as u64)
        )
    };
    let store = |name: &'static str| {
        let mean = facts.mean(member, name);
        let mean = mean.map_or_else(|| "–".to_owned(), |mean| format!("{:.1} ms", mean * 1e3));
        let rate = facts
            .rate(member, |spoken| spoken.store(name).requests)
            .unwrap_or_default();
        let failed = spoken.store(name).failed;
        html! {
            (mean) ", " (format!("{rate:.1}/s"))
            @if failed > 0.0 { " " span.chip.bad { (failed) " failed" } }
        }
    };
    let objects = [("kind", "object"), ("outcome", "later")];
    let collected = spoken.sum("portolan_upkeep_rows_total", &objects);
    let overdue = spoken.sum(
        "portolan_upkeep_oldest_overdue_seconds",
        &[("queue", "collection")],
    );
    let waiting = spoken.sum("portolan_collection_waiting_bytes", &[]);
    let fetches = spoken.sum("portolan_upstream_requests_total", &[]);
    let fetched = spoken.sum("portolan_upstream_read_bytes_total", &[]);
    let failed = fetches - spoken.sum("portolan_upstream_requests_total", &[("outcome", "ok")]);
    let resumed = spoken.sum("portolan_resumed_pulls_total", &[]);
    html! {
        dl.numbers {
            div { dt { "Requests" } dd { (per_second("portolan_requests_total")) } }
            div { dt { "In flight" } dd { (spoken.sum("portolan_requests_in_flight", &[])) } }
            div { dt { "From clients" } dd { (bytes("upload")) } }
            div { dt { "To clients" } dd { (bytes("download")) } }
            div { dt { "Metadata store" } dd { (store("meta")) } }
            div { dt { "Blob store" } dd { (store("blobs")) } }
            div { dt { "Objects collected" } dd { (collected) } }
            div { dt { "Collection" } dd { @if overdue >= 1.0 { (format!("{overdue:.0} s late")) } @else { "in time" } } }
            div { dt { "To be collected" } dd { (words::size(waiting as u64)) } }
            @if resumed > 0.0 { div { dt { "Pulls finished for others" } dd { (resumed) } } }
            @if fetches > 0.0 {
                div { dt { "Mirror" } dd {
                    (words::size(fetched as u64)) " in " (words::count(fetches as usize, "request"))
                    @if failed > 0.0 { " " span.chip { (failed) " not answered" } }
                } }
            }
        }
    }
}

/// Requests that `front` has sent on to `owner` since its start.
fn sent(front: &Member, owner: &Member) -> f64 {
    let answered = [("peer", owner.name.as_str()), ("outcome", "answered")];
    let spoken = front.spoken.as_ref();
    spoken.map_or(0.0, |spoken| spoken.sum("portolan_forwards_total", &answered))
}

fn traffic(facts: &MeshFacts) -> Markup {
    let pairs = facts.members.iter();
    let pairs = pairs.flat_map(|front| facts.members.iter().map(move |owner| (front, owner)));
    let pairs: Vec<_> = pairs.filter(|(front, owner)| sent(front, owner) > 0.0).collect();
    let forwards = |spoken: &Spoken, peer: &str| {
        spoken.sum(
            "portolan_forwards_total",
            &[("peer", peer), ("outcome", "answered")],
        )
    };
    let bytes = |front: &Member, peer: &str, direction: &str| {
        let of = |spoken: &Spoken| {
            let labels = [("peer", peer), ("direction", direction)];
            spoken.sum("portolan_forward_body_bytes_total", &labels)
        };
        let all = front.spoken.as_ref().map_or(0.0, of);
        let rate = facts.rate(front, of).unwrap_or_default();
        html! { td.number { (words::size(all as u64)) } td.number { (words::size(rate as u64)) "/s" } }
    };
    html! {
        @if pairs.is_empty() {
            p.muted { "No member has sent another one a request." }
        } @else {
            div.scroll tabindex="0" role="region" aria-label="Table of traffic" {
                table {
                    thead { tr {
                        th scope="col" { "Front" }
                        th scope="col" { "Owner" }
                        th.number scope="col" { "Requests" }
                        th.number scope="col" { "now" }
                        th.number scope="col" { "To the owner" }
                        th.number scope="col" { "now" }
                        th.number scope="col" { "From the owner" }
                        th.number scope="col" { "now" }
                    } }
                    tbody {
                        @for (front, owner) in pairs {
                            @let rate = facts.rate(front, |spoken| forwards(spoken, &owner.name)).unwrap_or_default();
                            tr {
                                th scope="row" { (front.name) }
                                td { (owner.name) }
                                td.number { (sent(front, owner)) }
                                td.number { (format!("{rate:.1}/s")) }
                                (bytes(front, &owner.name, "upload"))
                                (bytes(front, &owner.name, "download"))
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A repository's name, to who may read it.
fn named(repository: &RepoName, visitor: &Visitor) -> Markup {
    html! {
        @if visitor.sees.includes(repository) {
            a.name href=(links::repository(repository)) { (repository) }
        } @else { span.muted { "a repository" } }
    }
}

fn in_flight(facts: &MeshFacts, visitor: &Visitor) -> Markup {
    let spoken = facts
        .members
        .iter()
        .filter_map(|member| Some((member, member.spoken.as_ref()?)));
    let forwards =
        spoken.flat_map(|(member, spoken)| spoken.forwards.iter().map(move |forward| (member, forward)));
    // Its owner tells of each, too.
    let mut all: Vec<(&Member, &Forward)> = forwards.filter(|(_, forward)| forward.is_front).collect();
    all.sort_by_key(|(_, forward)| std::cmp::Reverse(forward.age));
    html! {
        @if all.is_empty() { p.muted { "None now." } }
        ul.events {
            @for (front, forward) in all.iter().take(FORWARDS) {
                li {
                    div { code { (forward.route) } " "
                        @if let Some(repository) = &forward.repository { (named(repository, visitor)) }
                    }
                    div.muted { (front.name) " → " (forward.peer) ", " (format!("{:.1}", forward.age.as_secs_f64())) " s" }
                }
            }
        }
        @if all.len() > FORWARDS { p.muted { "and " (all.len() - FORWARDS) " more" } }
    }
}

fn taken(facts: &MeshFacts, visitor: &Visitor) -> Markup {
    let spoken = facts.members.iter().filter_map(|member| member.spoken.as_ref());
    let mut all: Vec<&TakeOver> = spoken.flat_map(|spoken| &spoken.take_overs).collect();
    all.sort_by_key(|take_over| std::cmp::Reverse(take_over.at_ms));
    html! {
        @if all.is_empty() { p.muted { "None since the members’ start." } }
        ul.events {
            @for take_over in all.iter().take(TAKE_OVERS) {
                li {
                    div { (named(&take_over.repository, visitor)) }
                    div.muted { (take_over.from) " → " (take_over.by) ", " (words::past(clock::now_ms().saturating_sub(take_over.at_ms))) }
                }
            }
        }
        @if all.len() > TAKE_OVERS { p.muted { "The last " (TAKE_OVERS) " are shown." } }
    }
}
