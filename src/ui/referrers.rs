//! What refers to a manifest, and what refers to that: signatures, SBOMs, attestations.

use std::collections::BTreeSet;

use maud::{Markup, html};
use serde_json::Value;

use super::{
    Trouble, Visitor,
    document::{number, text},
    kinds, links,
    repositories::items,
    words,
};
use crate::oci::{Digest, RepoName, paths};

/// Questions that one tree takes. Referrers may form a net of any size.
const QUESTIONS: usize = 24;
/// Levels of it.
const DEEP: usize = 4;
/// Referrers of one manifest that are shown.
const MANY: usize = 50;

/// What is attached to a manifest.
pub(super) struct Attached {
    roots: Vec<Node>,
    /// Tags by which cosign attached something before there were referrers.
    tags: Vec<String>,
    /// There is more than is shown.
    more: bool,
}

struct Node {
    digest: String,
    kind: String,
    size: u64,
    created: String,
    below: Vec<Node>,
}

impl Attached {
    /// Whether there is something by which it is signed, whoever signed it.
    pub(super) fn is_signed(&self) -> bool {
        let roots = self.roots.iter();
        roots
            .map(|node| kinds::of(&node.kind).name)
            .any(|name| name.starts_with("Signature"))
            || self.tags.iter().any(|tag| tag.ends_with(".sig"))
    }
}

/// Reads it, breadth first: what is near comes before what is far, and nothing twice.
pub(super) async fn tree(name: &RepoName, subject: &Digest, visitor: &Visitor) -> Result<Attached, Trouble> {
    let mut seen = BTreeSet::from([subject.to_string()]);
    let (mut roots, mut more) = below(name, subject, &mut seen, visitor).await?;
    let mut questions = 1;
    // The way to each node that is still to be asked about.
    let mut waiting: std::collections::VecDeque<Vec<usize>> = (0..roots.len()).map(|at| vec![at]).collect();
    while let Some(way) = waiting.pop_front() {
        if questions >= QUESTIONS {
            more = true;
            break;
        }
        let Some(node) = at(&mut roots, &way) else {
            continue;
        };
        let Ok(digest) = Digest::parse(&node.digest) else {
            continue;
        };
        questions += 1;
        let (found, is_more) = below(name, &digest, &mut seen, visitor).await?;
        more |= is_more;
        if way.len() + 1 < DEEP {
            waiting.extend((0..found.len()).map(|index| [way.as_slice(), &[index]].concat()));
        }
        node.below = found;
    }
    let tags = cosign_tags(name, subject, visitor).await?;
    Ok(Attached { roots, tags, more })
}

fn at<'a>(nodes: &'a mut [Node], way: &[usize]) -> Option<&'a mut Node> {
    let (first, rest) = way.split_first()?;
    let node = nodes.get_mut(*first)?;
    match rest.is_empty() {
        true => Some(node),
        false => at(&mut node.below, rest),
    }
}

async fn below(
    name: &RepoName,
    subject: &Digest,
    seen: &mut BTreeSet<String>,
    visitor: &Visitor,
) -> Result<(Vec<Node>, bool), Trouble> {
    let target = format!("{}?n={MANY}", paths::referrers(name, subject));
    let said = visitor.ask.get(&target).await?;
    let index = said.json();
    let found = items(&index["manifests"]);
    let more = found.len() > MANY || said.header(&http::header::LINK).is_some();
    let nodes = found.iter().take(MANY).map(node);
    Ok((
        nodes.filter(|node| seen.insert(node.digest.clone())).collect(),
        more,
    ))
}

fn node(found: &Value) -> Node {
    let kind = match text(&found["artifactType"]) {
        "" => text(&found["mediaType"]),
        kind => kind,
    };
    Node {
        digest: text(&found["digest"]).to_owned(),
        kind: kind.to_owned(),
        size: number(&found["size"]),
        created: text(&found["annotations"]["org.opencontainers.image.created"]).to_owned(),
        below: Vec::new(),
    }
}

/// `sha256-<hex>.sig`, `.att` and `.sbom`: they stand together in the order of tags.
async fn cosign_tags(name: &RepoName, subject: &Digest, visitor: &Visitor) -> Result<Vec<String>, Trouble> {
    let beginning = subject.as_str().replace(':', "-");
    let target = format!("{}?n=10&last={beginning}", paths::tags(name));
    let list = visitor.ask.get(&target).await?.json();
    let is_of_it = |tag: &&str| {
        tag.strip_prefix(&beginning)
            .is_some_and(|rest| rest.starts_with('.'))
    };
    let tags = items(&list["tags"]).iter().map(text).filter(is_of_it);
    Ok(tags.map(str::to_owned).collect())
}

pub(super) fn shown(name: &RepoName, attached: &Attached) -> Markup {
    html! {
        @if !attached.roots.is_empty() || !attached.tags.is_empty() {
            section aria-labelledby="referrers" {
                h2 #referrers { "Attached to it" }
                (branch(name, &attached.roots))
                @if !attached.tags.is_empty() {
                    ul.tree {
                        @for tag in &attached.tags { (by_tag(name, tag)) }
                    }
                }
                @if attached.more { p.muted { "There is more than is shown." } }
                p.muted { "What is attached is listed, not verified: verify signatures where you deploy." }
            }
        }
    }
}

fn branch(name: &RepoName, nodes: &[Node]) -> Markup {
    html! {
        @if !nodes.is_empty() {
            ul.tree {
                @for node in nodes {
                    li {
                        div.leaf {
                            @match Digest::parse(&node.digest) {
                                Ok(digest) => a href=(links::digest(name, &digest)) { (kinds::of(&node.kind).name) },
                                Err(_) => (kinds::of(&node.kind).name),
                            }
                            code { (words::clipped_to(&node.kind, 120)) }
                            span.muted { (words::size(node.size)) }
                            @if let Some(ago) = words::ago(&node.created) { span.muted { (ago) } }
                        }
                        (branch(name, &node.below))
                    }
                }
            }
        }
    }
}

fn by_tag(name: &RepoName, tag: &str) -> Markup {
    let kind = match tag.rsplit('.').next() {
        Some("sig") => "Signature (cosign)",
        Some("att") => "Attestation (cosign)",
        Some("sbom") => "SBOM (cosign)",
        Some(_) | None => "Artifact",
    };
    let link = crate::oci::Tag::parse(tag).ok().map(|tag| links::tag(name, &tag));
    html! {
        li { div.leaf {
            @match link { Some(link) => a href=(link) { (kind) }, None => (kind) }
            code { (words::clipped_to(tag, 140)) }
        } }
    }
}
