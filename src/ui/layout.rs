//! What all pages have in common.

use http::StatusCode;
use maud::{DOCTYPE, Markup, html};

use super::{ASSETS, Shown, Ui, Visitor, words};
use crate::auth::{Oversight, Stay};

/// Which of the pages that have a place in the menu.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Repositories,
    Mesh,
    Keys,
    Elsewhere,
}

impl Ui {
    pub(super) fn page(&self, visitor: &Visitor, place: Place, title: &str, content: &Markup) -> Shown {
        Shown::Html(
            StatusCode::OK,
            self.document(Some(visitor), place, title, content),
        )
    }

    /// The page that says why there is no other; nothing is known of a visitor who wasn't let in.
    #[must_use]
    pub fn trouble(&self, visitor: Option<&Visitor>, status: StatusCode, message: &str) -> String {
        let title = match status {
            StatusCode::UNAUTHORIZED => "Log in to see this",
            StatusCode::FORBIDDEN => "You may not do this",
            StatusCode::NOT_FOUND => "There is no such thing",
            StatusCode::TOO_MANY_REQUESTS => "Too many requests",
            status if status.is_server_error() => "The registry can’t answer now",
            _ => "That doesn’t work",
        };
        let content = html! {
            section.trouble {
                p.status { (status.as_u16()) }
                h1 { (title) }
                p { (message) }
                p {
                    a.button href="/" { "Repositories" }
                    @if status == StatusCode::UNAUTHORIZED && (self.offers.passwords || self.has_choice()) {
                        " " a.button.primary href="/login" { "Log in" }
                    }
                }
            }
        };
        self.document(visitor, Place::Elsewhere, title, &content)
    }

    pub(super) fn document(
        &self,
        visitor: Option<&Visitor>,
        place: Place,
        title: &str,
        content: &Markup,
    ) -> String {
        let user = visitor.and_then(|visitor| visitor.user.as_deref());
        let sees_mesh = visitor.is_some_and(|visitor| visitor.oversight == Oversight::Mesh);
        let [style, script, icon] = &*ASSETS;
        let at = |this: Place| (place == this).then_some("page");
        let document = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (title) " · Portolan" }
                    link rel="stylesheet" href=(style.link());
                    link rel="icon" type="image/svg+xml" href=(icon.link());
                    script src=(script.link()) defer {}
                }
                body {
                    a.skip href="#content" { "Skip to content" }
                    header.top {
                        div.inner {
                            a.brand href="/" {
                                img src=(icon.link()) alt="" width="26" height="26";
                                span { "Portolan" }
                            }
                            nav aria-label="Main" {
                                a href="/" aria-current=[at(Place::Repositories)] { "Repositories" }
                                @if sees_mesh {
                                    a href="/mesh" aria-current=[at(Place::Mesh)] { "Mesh" }
                                }
                                @if self.offers.api_keys && user.is_some() {
                                    a href="/keys" aria-current=[at(Place::Keys)] { "API keys" }
                                }
                            }
                            @match user {
                                Some(user) => div.who {
                                    span title=(user) { (words::clipped_to(user, 40)) }
                                    @if visitor.is_some_and(|visitor| visitor.stay == Stay::Session) {
                                        form method="post" action="/logout" { button.quiet type="submit" { "Log out" } }
                                    }
                                },
                                None => @if self.offers.passwords || self.has_choice() { a.who href="/login" { "Log in" } },
                            }
                        }
                    }
                    main #content tabindex="-1" { (content) }
                }
            }
        };
        document.into_string()
    }
}

/// A digest with a button that copies all of it. Without the script the button isn't there.
pub(super) fn digest(digest: &str) -> Markup {
    html! {
        span.digest {
            code title=(digest) { (words::short(digest)) }
            (copy(digest, "Copy digest"))
        }
    }
}

/// A button that copies a text.
pub(super) fn copy(text: &str, label: &str) -> Markup {
    html! {
        button.copy type="button" data-copy=(text) aria-label=(label) hidden { "Copy" }
    }
}

/// Names with their values.
pub(super) fn facts(rows: &[(String, Markup)]) -> Markup {
    html! {
        dl.facts {
            @for (name, value) in rows {
                div { dt { (words::clipped_to(name, 200)) } dd { (value) } }
            }
        }
    }
}

/// A link, if that is one that leads out by HTTP; else the text.
pub(super) fn outward(text: &str) -> Markup {
    let is_link = text.starts_with("https://") || text.starts_with("http://");
    html! {
        @if is_link && !text.contains(char::is_whitespace) {
            a href=(text) rel="noopener noreferrer nofollow" { (words::clipped(text)) }
        } @else {
            (words::clipped(text))
        }
    }
}

/// That an answer leaves something out.
pub(super) fn partial(is_partial: bool) -> Markup {
    html! {
        @if is_partial {
            p.note role="status" { "Not everything could be looked at: this may be incomplete." }
        }
    }
}

/// The way to the part before and the part after this one.
pub(super) fn pager(
    offset: usize,
    shown: usize,
    total: usize,
    link: impl Fn(usize) -> String,
    step: usize,
) -> Markup {
    html! {
        @if offset > 0 || offset + shown < total {
            nav.pager aria-label="Pages" {
                @if offset > 0 {
                    a.button rel="prev" href=(link(offset.saturating_sub(step))) { "Previous" }
                }
                span { (offset + 1) "–" (offset + shown) " of " (total) }
                @if offset + shown < total {
                    a.button rel="next" href=(link(offset + step)) { "Next" }
                }
            }
        }
    }
}
