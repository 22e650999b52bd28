//! A repository: what it comes to, how it is pulled, and its tags.

use maud::{Markup, html};
use serde_json::{Value, json};

use super::{
    Shown, Trouble, Ui, Visitor,
    document::{number, text},
    kinds,
    layout::{Place, copy, digest, facts, pager, partial},
    links,
    repositories::{items, kind_of, platforms},
    words,
};
use crate::oci::{Reference, RepoName, Tag};

/// Tags in one page.
const STEP: usize = 50;

const QUERY: &str = "query($name: String!, $tags: String!, $page: PageInput) {
  ExpandedRepoInfo(repo: $name) {
    Summary { LastUpdated Size Vendors StarCount NewestImage { Tag MediaType Description Licenses Source Documentation
      Manifests { ArtifactType } } }
  }
  GlobalSearch(query: $tags, requestedPage: $page) {
    Page { TotalCount }
    Images { Tag Digest MediaType Size PushTimestamp PushedBy DownloadCount LastPullTimestamp IsSigned
      Manifests { ArtifactType Platform { Os Arch } } }
  }
}";

impl Ui {
    pub(super) async fn repository(
        &self,
        name: &RepoName,
        tag: &str,
        offset: usize,
        visitor: &Visitor,
    ) -> Result<Shown, Trouble> {
        let variables = json!({
            "name": name.as_str(),
            "tags": format!("{name}:{tag}"),
            "page": { "limit": STEP, "offset": offset, "sortBy": "UPDATE_TIME" },
        });
        let found = visitor.ask.search(QUERY, variables).await?;
        let summary = &found.data["ExpandedRepoInfo"]["Summary"];
        if summary.is_null() {
            return Err(Trouble::not_found(format!(
                "There is no repository {name}, or you may not read it."
            )));
        }
        let total =
            usize::try_from(number(&found.data["GlobalSearch"]["Page"]["TotalCount"])).unwrap_or_default();
        let images = items(&found.data["GlobalSearch"]["Images"]);
        let may_delete = visitor.deletable.includes(name);
        let path = links::repository(name);
        let at = |offset: usize| {
            let offset = offset.to_string();
            links::with(
                &path,
                &[("tag", tag), ("offset", if offset == "0" { "" } else { &offset })],
            )
        };
        let content = html! {
            (trail(name, None))
            h1.name { (name) }
            (summary_of(name, summary, total, tag, visitor))
            section aria-labelledby="tags" {
                div.heading {
                    h2 #tags { "Tags" }
                    form.filter method="get" action=(path) data-live="#results" {
                        label { span.sr { "Tags that begin with" }
                            input type="search" name="tag" value=(tag) placeholder="Tags that begin with …"
                                autocomplete="off" spellcheck="false" maxlength="128";
                        }
                        button type="submit" { "Find" }
                    }
                }
                div #results {
                    (partial(found.is_partial))
                    p.found role="status" { (words::count(total, "tag")) }
                    @if !images.is_empty() { (tags(name, images, may_delete)) }
                    (pager(offset, images.len(), total, at, STEP))
                }
            }
        };
        Ok(self.page(visitor, Place::Repositories, name.as_str(), &content))
    }
}

/// The way here.
pub(super) fn trail(name: &RepoName, reference: Option<&Reference>) -> Markup {
    html! {
        nav.trail aria-label="Breadcrumb" {
            ol {
                li { a href="/" { "Repositories" } }
                @if let Some(reference) = reference {
                    li { a href=(links::repository(name)) { (name) } }
                    li aria-current="page" {
                        @match reference {
                            Reference::Tag(tag) => (tag),
                            Reference::Digest(digest) => (words::short(digest.as_str())),
                        }
                    }
                } @else {
                    li aria-current="page" { (name) }
                }
            }
        }
    }
}

fn summary_of(name: &RepoName, summary: &Value, total: usize, tag: &str, visitor: &Visitor) -> Markup {
    let newest = &summary["NewestImage"];
    let description = text(&newest["Description"]);
    let mut rows: Vec<(String, Markup)> = Vec::new();
    let mut say = |name: &str, value: Markup| rows.push((name.to_owned(), value));
    say("Size", html! { (words::size(number(&summary["Size"]))) });
    if tag.is_empty() {
        say("Tags", html! { (total) });
    }
    if let Some(ago) = words::ago(text(&summary["LastUpdated"])) {
        say("Last push", ago);
    }
    for (label, key) in [
        ("Licences", "Licenses"),
        ("Source", "Source"),
        ("Documentation", "Documentation"),
    ] {
        let value = text(&newest[key]);
        if !value.is_empty() {
            say(label, super::layout::outward(value));
        }
    }
    let newest_tag = Tag::parse(text(&newest["Tag"])).ok();
    html! {
        @if !description.is_empty() { p.description { (words::clipped(description)) } }
        (facts(&rows))
        @if let Some(newest_tag) = newest_tag {
            @let kind = kinds::of(kind_of(newest));
            (pull(name, &Reference::Tag(newest_tag), kind.tool, visitor))
        }
    }
}

/// How it is pulled, by the tools that people have.
pub(super) fn pull(name: &RepoName, reference: &Reference, tool: kinds::Tool, visitor: &Visitor) -> Markup {
    let commands = kinds::commands(tool, &visitor.registry, name, reference);
    html! {
        section.pull aria-label="How to pull" {
            @for (index, (tool, command)) in commands.iter().enumerate() {
                details name="pull" open[index == 0] {
                    summary { (tool) }
                    div.command { code { (command) } (copy(command, "Copy command")) }
                }
            }
        }
    }
}

fn tags(name: &RepoName, images: &[Value], may_delete: bool) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Table of tags" {
            table.tags {
                thead { tr {
                    th scope="col" { "Tag" }
                    th scope="col" { "Digest" }
                    th scope="col" { "What it is" }
                    th.number scope="col" { "Size" }
                    th scope="col" { "Pushed" }
                    th scope="col" { "Pulled" }
                    @if may_delete { th scope="col" { span.sr { "Delete" } } }
                } }
                tbody {
                    @for image in images { (tag_row(name, image, may_delete)) }
                }
            }
        }
    }
}

fn tag_row(name: &RepoName, image: &Value, may_delete: bool) -> Markup {
    let Ok(tag) = Tag::parse(text(&image["Tag"])) else {
        return html! {};
    };
    let platforms = platforms(image);
    let reference = Reference::Tag(tag.clone());
    html! {
        tr {
            th scope="row" {
                a href=(links::tag(name, &tag)) { (tag) }
                @if image["IsSigned"] == json!(true) { " " span.chip.good { "signed" } }
            }
            td { (digest(text(&image["Digest"]))) }
            td {
                @if platforms.is_empty() {
                    (kinds::of(kind_of(image)).name)
                } @else {
                    span.chips { @for platform in platforms.iter().take(8) { span.chip { (platform) } } }
                }
            }
            td.number { (words::size(number(&image["Size"]))) }
            td {
                @if let Some(ago) = words::ago(text(&image["PushTimestamp"])) { (ago) }
                @if !text(&image["PushedBy"]).is_empty() {
                    " by " (words::clipped_to(text(&image["PushedBy"]), 60))
                }
            }
            td {
                @let pulls = number(&image["DownloadCount"]);
                @if pulls > 0 {
                    @if pulls == 1 { "once" } @else { (pulls) " times" }
                    @if let Some(ago) = words::ago(text(&image["LastPullTimestamp"])) { ", last " (ago) }
                } @else { span.muted { "never" } }
            }
            @if may_delete {
                td { a.quiet href=(links::delete(name, &reference)) { "Delete" span.sr { " " (tag) } } }
            }
        }
    }
}
