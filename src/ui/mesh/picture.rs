//! The placement as a picture: a ring of arcs, one for each member that owns something, as long as its share; bands between them for
//! what they send each other. Colours are classes: the stylesheet has them, for the light and the dark.

use std::f64::consts::TAU;

use maud::{Markup, html};

use super::{MeshFacts, colour, sent};
use crate::ui::words;

const RADIUS: f64 = 150.0;
const CENTRE: f64 = 200.0;
/// Between two arcs, in radians.
const GAP: f64 = 0.06;

struct Arc {
    begin: f64,
    end: f64,
}

impl Arc {
    fn middle(&self) -> f64 {
        f64::midpoint(self.begin, self.end)
    }
}

fn point(angle: f64, radius: f64) -> (f64, f64) {
    (CENTRE + radius * angle.sin(), CENTRE - radius * angle.cos())
}

/// Where each member's arc lies; a live member that owns nothing has a short one, a member that is gone none.
fn arcs(facts: &MeshFacts) -> Vec<Option<Arc>> {
    let all: u64 = facts.owned.iter().map(|owned| owned.repositories).sum();
    let pairs = facts.members.iter().zip(&facts.owned);
    let weights: Vec<f64> = pairs
        .map(|(member, owned)| match member.is_live {
            true => (owned.repositories as f64).max(all as f64 * 0.02).max(0.1),
            false => 0.0,
        })
        .collect();
    let there = weights.iter().filter(|weight| **weight > 0.0).count();
    let sum: f64 = weights.iter().sum();
    let gap = if there > 1 {
        GAP.min(TAU / 4.0 / there as f64)
    } else {
        0.0
    };
    let room = TAU - gap * there as f64;
    let mut at = 0.0;
    let arcs = weights.iter().map(|weight| {
        (*weight > 0.0).then(|| {
            let begin = at;
            let end = begin + room * weight / sum;
            at = end + gap;
            Arc { begin, end }
        })
    });
    arcs.collect()
}

fn arc_path(arc: &Arc) -> String {
    // A whole circle is no arc: SVG draws nothing where both ends are the same.
    let end = arc.end.min(arc.begin + TAU - 0.001);
    let (x, y) = point(arc.begin, RADIUS);
    let (to_x, to_y) = point(end, RADIUS);
    let is_large = u8::from(end - arc.begin > TAU / 2.0);
    format!("M{x:.1} {y:.1}A{RADIUS} {RADIUS} 0 {is_large} 1 {to_x:.1} {to_y:.1}")
}

/// From the first part of the front's arc to the last part of the owner's, so that both directions are seen.
fn band_path(front: &Arc, owner: &Arc) -> String {
    let inner = RADIUS - 16.0;
    let aside = |arc: &Arc, part: f64| arc.begin + (arc.end - arc.begin) * part;
    let (x, y) = point(aside(front, 0.35), inner);
    let (to_x, to_y) = point(aside(owner, 0.65), inner);
    format!("M{x:.1} {y:.1}Q{CENTRE} {CENTRE} {to_x:.1} {to_y:.1}")
}

pub(super) fn placement(facts: &MeshFacts) -> Markup {
    let arcs = arcs(facts);
    let members = || facts.members.iter().zip(&arcs).enumerate();
    let pairs = facts.members.iter();
    let pairs = pairs.flat_map(|front| facts.members.iter().map(move |owner| sent(front, owner)));
    let most = pairs.fold(1.0, f64::max);
    let live = words::count(arcs.iter().flatten().count(), "live member");
    html! {
        svg.placement viewBox="0 0 400 400" role="img" aria-label={ "The placement on " (live) } {
            @for (from, (front, begin)) in members() {
                @for (to, (owner, end)) in members() {
                    @if let (Some(begin), Some(end)) = (begin, end) {
                        @let requests = sent(front, owner);
                        @if from != to && requests > 0.0 {
                            @let width = 1.5 + 12.5 * (requests / most).sqrt();
                            path.band.(colour(from)) d=(band_path(begin, end)) stroke-width=(format!("{width:.1}")) {
                                title { (front.name) " has sent " (owner.name) " " (requests) " requests" }
                            }
                        }
                    }
                }
            }
            @for ((index, (member, arc)), owned) in members().zip(&facts.owned) {
                @if let Some(arc) = arc {
                    path.arc.(colour(index)) d=(arc_path(arc)) { title { (member.name) " owns " (owned.repositories) } }
                    @let (x, y) = point(arc.middle(), RADIUS + 27.0);
                    text.figure x=(format!("{x:.1}")) y=(format!("{:.1}", y + 5.0)) text-anchor="middle" { (owned.repositories) }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::{Member, Owned};

    /// Of each member whether it lives, and how many repositories it has.
    fn facts(members: &[(bool, u64)]) -> MeshFacts {
        let member = |(n, (is_live, _)): (usize, &(bool, u64))| Member {
            name: format!("m{n}:1"),
            is_live: *is_live,
            ..Member::default()
        };
        let owned = |(_, repositories): &(bool, u64)| Owned {
            repositories: *repositories,
            ..Owned::default()
        };
        MeshFacts {
            members: members.iter().enumerate().map(member).collect(),
            owned: members.iter().map(owned).collect(),
            ..MeshFacts::default()
        }
    }

    #[test]
    fn arcs_are_as_long_as_shares_and_fill_the_ring() {
        let arcs = arcs(&facts(&[(true, 60), (true, 30), (true, 0), (false, 0)]));
        let long = |n: usize| arcs[n].as_ref().map(|arc| arc.end - arc.begin);
        let (first, second, third) = (long(0).unwrap(), long(1).unwrap(), long(2).unwrap());
        assert!((first / second - 2.0).abs() < 1e-9 && third > 0.0 && third < 0.2);
        assert!((first + second + third + 3.0 * GAP - TAU).abs() < 1e-9);
        assert_eq!(long(3), None);
    }

    #[test]
    fn nobody_and_one_are_drawn_as_well() {
        let alone = placement(&facts(&[(true, 0)])).into_string();
        assert!(
            alone.contains("class=\"arc m0\"") && !alone.contains("NaN"),
            "{alone}"
        );
        let gone = placement(&facts(&[(false, 0)])).into_string();
        assert!(
            !gone.contains("<path") && gone.contains("on 0 live members"),
            "{gone}"
        );
    }
}
