//! What a tag named before, and that it names it again.

use maud::{Markup, html};

use super::{
    Shown, Trouble, Ui, Visitor,
    document::text,
    layout::{Place, copy},
    links,
    repositories::items,
    repository::trail,
    words,
};
use crate::oci::{Digest, Reference, RepoName, Tag, paths};

/// Events of a tag that are shown.
const EVENTS: usize = 20;

/// What became of a tag.
pub(super) struct Past<'a> {
    name: &'a RepoName,
    tag: &'a Tag,
    /// The newest first.
    events: Vec<Event>,
}

struct Event {
    at: String,
    is_deletion: bool,
    digest: String,
}

/// Asks what became of a tag.
pub(super) async fn of<'a>(name: &'a RepoName, tag: &'a Tag, visitor: &Visitor) -> Result<Past<'a>, Trouble> {
    const AT: &str = "org.opencontainers.distribution.tag.timestamp";
    const WHAT: &str = "org.opencontainers.distribution.tag.event";
    let target = format!("{}?n={EVENTS}", paths::tag_history(name, tag));
    let index = visitor.ask.get(&target).await?.json();
    let event = |event: &serde_json::Value| Event {
        at: text(&event["annotations"][AT]).to_owned(),
        is_deletion: text(&event["annotations"][WHAT]) == "deleted",
        digest: text(&event["digest"]).to_owned(),
    };
    let events = items(&index["manifests"]).iter().map(event).collect();
    Ok(Past { name, tag, events })
}

impl Ui {
    /// A tag that is gone still has its history.
    pub(super) async fn gone(
        &self,
        name: &RepoName,
        reference: &Reference,
        visitor: &Visitor,
        trouble: Trouble,
    ) -> Result<Shown, Trouble> {
        let Reference::Tag(tag) = reference else {
            return Err(trouble);
        };
        let past = of(name, tag, visitor).await?;
        if past.events.is_empty() {
            return Err(Trouble::not_found(format!("There is no {name}:{tag}.")));
        }
        let content = html! {
            (trail(name, Some(reference)))
            h1.name { (tag) }
            p.note role="status" { "This tag is deleted. What it named is below." }
            (past.shown(visitor))
        };
        let title = links::named(name, reference);
        Ok(self.page(visitor, Place::Repositories, &title, &content))
    }

    /// Has a tag name again what it named at that time.
    pub(super) async fn restore(
        &self,
        name: &RepoName,
        tag: &Tag,
        at: &str,
        visitor: &Visitor,
    ) -> Result<Shown, Trouble> {
        let target = format!("/v2/{name}/_portolan/restore");
        let target = links::with(&target, &[("tag", tag.as_str()), ("at", at)]);
        visitor.ask.order(&target).await?;
        Ok(Shown::Elsewhere(links::tag(name, tag)))
    }
}

impl Past<'_> {
    /// Nothing, of a tag without a history.
    pub(super) fn shown(&self, visitor: &Visitor) -> Markup {
        html! {
            @if !self.events.is_empty() {
                section aria-labelledby="history" {
                    h2 #history { "What this tag named" }
                    ol.history {
                        @for (index, event) in self.events.iter().enumerate() { (self.event(index, event, visitor)) }
                    }
                    @if self.events.len() >= EVENTS { p.muted { "The last " (EVENTS) " changes are shown." } }
                }
            }
        }
    }

    fn event(&self, index: usize, event: &Event, visitor: &Visitor) -> Markup {
        html! {
            li.deletion[event.is_deletion] {
                div {
                    @if event.is_deletion { strong { "Deleted" } " when it named " }
                    @else if index == 0 { strong { "Names" } " " }
                    @else { "Named " }
                    @match Digest::parse(&event.digest) {
                        Ok(named) => {
                            a href=(links::digest(self.name, &named)) { code { (words::short(named.as_str())) } }
                            (copy(named.as_str(), "Copy digest"))
                        }
                        Err(_) => (words::clipped_to(&event.digest, 100)),
                    }
                }
                @if let Some(ago) = words::ago(&event.at) { div.muted { (ago) } }
                @if self.can_be_restored(event, visitor) {
                    form method="post" action=(links::restore(self.name, self.tag)) {
                        input type="hidden" name="at" value=(event.at);
                        button.quiet type="submit" { "Restore" span.sr { " " (words::short(&event.digest)) } }
                    }
                }
            }
        }
    }

    /// Whether the tag names something else now, and the visitor may change that.
    fn can_be_restored(&self, event: &Event, visitor: &Visitor) -> bool {
        let Some(now) = self.events.first() else {
            return false;
        };
        let is_there = !now.is_deletion && now.digest == event.digest;
        let may = visitor.updatable.includes(self.name)
            && (!now.is_deletion || visitor.deletable.includes(self.name));
        may && !is_there && !event.is_deletion
    }
}
