//! Deleting: first what would go, then that it goes.

use http::StatusCode;
use maud::{Markup, html};
use serde_json::json;

use super::{
    Shown, Trouble, Ui, Visitor,
    document::{number, text},
    layout::{Place, digest},
    links,
    repositories::items,
    repository::trail,
    words,
};
use crate::oci::{Reference, RepoName};

/// Tags of a manifest that are named.
const MANY: usize = 50;

const TAGS: &str = "query($digest: String!) {
  ImageListForDigest(id: $digest, requestedPage: { limit: 100 }) { Page { TotalCount } Results { RepoName Tag Digest } }
}";

impl Ui {
    pub(super) async fn ask_delete(
        &self,
        name: &RepoName,
        reference: &Reference,
        visitor: &Visitor,
    ) -> Result<Shown, Trouble> {
        let said = visitor
            .ask
            .head(&format!("/v2/{name}/manifests/{}", reference.as_str()))
            .await
            .map_err(|trouble| match trouble.status {
                // A HEAD has no reason.
                StatusCode::NOT_FOUND => Trouble::not_found("There is no such manifest."),
                _ => trouble,
            })?;
        let named = said.header(&http::HeaderName::from_static("docker-content-digest"));
        let named = named.unwrap_or_default().to_owned();
        let what = match reference {
            Reference::Tag(tag) => html! {
                p { "The tag " strong { (tag) } " goes from " strong { (name) } "." }
                p {
                    "The manifest that it names, " (digest(&named)) ", stays: it can be pulled by its digest, and by the other "
                    "tags that name it. Where nothing names it any more, what the registry keeps decides how long it stays."
                }
            },
            Reference::Digest(_) => self.manifest_goes(name, &named, visitor).await?,
        };
        let content = html! {
            (trail(name, Some(reference)))
            section.sheet {
                h1 { "Delete " (links::named(name, reference).rsplit('/').next().unwrap_or_default()) "?" }
                (what)
                @if self.offers.history.is_zero() {
                    p { "It can't be restored." }
                } @else {
                    p {
                        "It can be restored for " (words::lasting(self.offers.history))
                        @if matches!(reference, Reference::Tag(_)) { ", on this tag’s page or by " } @else { ", by " }
                        code { "portolan restore" } "."
                    }
                }
                form method="post" action=(links::delete(name, reference)) {
                    button.danger type="submit" { "Delete" }
                    " " a.button href=(links::image(name, reference)) { "Keep it" }
                }
            }
        };
        let title = format!("Delete {}", links::named(name, reference));
        Ok(self.page(visitor, Place::Repositories, &title, &content))
    }

    async fn manifest_goes(
        &self,
        name: &RepoName,
        named: &str,
        visitor: &Visitor,
    ) -> Result<Markup, Trouble> {
        let found = visitor.ask.search(TAGS, json!({ "digest": named })).await?;
        let list = &found.data["ImageListForDigest"];
        let tags: Vec<&str> = items(&list["Results"])
            .iter()
            .filter(|image| text(&image["RepoName"]) == name.as_str() && text(&image["Digest"]) == named)
            .map(|image| text(&image["Tag"]))
            .collect();
        let is_whole = !found.is_partial && number(&list["Page"]["TotalCount"]) <= 100;
        Ok(html! {
            p { "The manifest " (digest(named)) " goes from " strong { (name) } ", and with it every tag that names it." }
            @if tags.is_empty() && is_whole {
                p { "No tag names it." }
            } @else {
                ul.plain {
                    @for tag in tags.iter().take(MANY) { li { strong { (words::clipped_to(tag, 128)) } } }
                    @if tags.len() > MANY || !is_whole { li { "and perhaps more" } }
                }
            }
            p { "Layers that nothing else uses are collected later. Other repositories keep what they have." }
        })
    }

    pub(super) async fn delete(
        &self,
        name: &RepoName,
        reference: &Reference,
        visitor: &Visitor,
    ) -> Result<Shown, Trouble> {
        visitor
            .ask
            .delete(&format!("/v2/{name}/manifests/{}", reference.as_str()))
            .await?;
        // A deleted tag shows what it named; a deleted manifest nothing.
        Ok(Shown::Elsewhere(match reference {
            Reference::Tag(_) => links::image(name, reference),
            Reference::Digest(_) => links::repository(name),
        }))
    }
}
