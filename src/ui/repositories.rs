//! The repositories: all, or those that are searched for.

use maud::{Markup, html};
use serde_json::{Value, json};

use super::{
    Shown, Trouble, Ui, Visitor,
    document::{number, text},
    kinds,
    layout::{Place, pager, partial},
    links, words,
};
use crate::oci::{RepoName, Tag};

/// Repositories in one page.
const STEP: usize = 30;
/// Platforms that are shown of a repository.
const PLATFORMS: usize = 6;
/// What is offered to choose from: what images are mostly built for.
const SYSTEMS: [&str; 4] = ["linux", "windows", "darwin", "freebsd"];
const ARCHITECTURES: [&str; 8] = [
    "amd64", "arm64", "arm", "386", "ppc64le", "s390x", "riscv64", "wasm",
];

const QUERY: &str = "query($query: String!, $filter: Filter, $page: PageInput) {
  GlobalSearch(query: $query, filter: $filter, requestedPage: $page) {
    Page { TotalCount }
    Repos {
      Name LastUpdated Size StarCount Platforms { Os Arch }
      NewestImage { Tag MediaType IsSigned Description Title Manifests { ArtifactType } }
    }
    Images { RepoName Tag Digest MediaType Size PushTimestamp IsSigned Manifests { ArtifactType Platform { Os Arch } } }
  }
}";

/// Which repositories, in which order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// A part of the name; a name and the beginning of a tag, with a colon between them; a digest.
    pub query: String,
    /// For this operating system; empty is any.
    pub os: String,
    /// For this architecture; empty is any.
    pub arch: String,
    /// Only those that have a signed image.
    pub signed: bool,
    /// The order.
    pub order: Order,
    /// So many are passed over.
    pub offset: usize,
}

/// The order of repositories.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Best match first, where something is searched for; else by time.
    #[default]
    Best,
    /// Last pushed first.
    Updated,
    /// By name.
    Name,
    /// Most starred first.
    Stars,
    /// Most pulled first.
    Pulls,
}

impl Order {
    const ALL: [(Self, &str, &str); 5] = [
        (Self::Best, "", "Best match"),
        (Self::Updated, "updated", "Last pushed"),
        (Self::Name, "name", "Name"),
        (Self::Stars, "stars", "Stars"),
        (Self::Pulls, "pulls", "Pulls"),
    ];

    /// As the page's own links say it; what nobody says is the best match.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let known = Self::ALL.iter().find(|(_, name, _)| *name == text);
        known.map_or_else(Self::default, |(order, ..)| *order)
    }

    fn name(self) -> &'static str {
        let known = Self::ALL.iter().find(|(order, ..)| *order == self);
        known.map_or("", |(_, name, _)| name)
    }
}

impl Listing {
    /// Whether there is nothing to be found by but the whole.
    fn is_everything(&self) -> bool {
        self.query.is_empty() && self.os.is_empty() && self.arch.is_empty() && !self.signed
    }

    fn criterion(&self) -> &'static str {
        match self.order {
            Order::Best if self.query.is_empty() => "UPDATE_TIME",
            Order::Best => "RELEVANCE",
            Order::Updated => "UPDATE_TIME",
            Order::Name => "ALPHABETIC_ASC",
            // Of images there are no stars.
            Order::Stars if self.query.contains(':') => "RELEVANCE",
            Order::Stars => "STARS",
            Order::Pulls => "DOWNLOADS",
        }
    }

    fn at(&self, offset: usize) -> String {
        let offset = offset.to_string();
        let parameters = [
            ("q", self.query.as_str()),
            ("os", &self.os),
            ("arch", &self.arch),
            ("signed", if self.signed { "1" } else { "" }),
            ("sort", self.order.name()),
            ("offset", if offset == "0" { "" } else { &offset }),
        ];
        links::with("/", &parameters)
    }
}

impl Ui {
    pub(super) async fn repositories(&self, listing: &Listing, visitor: &Visitor) -> Result<Shown, Trouble> {
        let chosen = |text: &str| (!text.is_empty()).then(|| vec![text.to_owned()]);
        let variables = json!({
            "query": listing.query,
            "filter": {
                "Os": chosen(&listing.os), "Arch": chosen(&listing.arch),
                "HasToBeSigned": listing.signed.then_some(true),
            },
            "page": { "limit": STEP, "offset": listing.offset, "sortBy": listing.criterion() },
        });
        let found = visitor.ask.search(QUERY, variables).await?;
        let result = &found.data["GlobalSearch"];
        let total = usize::try_from(number(&result["Page"]["TotalCount"])).unwrap_or_default();
        let repositories = items(&result["Repos"]);
        let images = items(&result["Images"]);
        let shown = repositories.len() + images.len();
        let noun = match listing.query.contains(':') {
            true => words::count(total, "image"),
            false if total == 1 => "1 repository".to_owned(),
            false => format!("{total} repositories"),
        };
        let content = html! {
            h1.sr { "Repositories" }
            (search_form(listing))
            div #results {
                p.found role="status" { (noun) }
                (partial(found.is_partial))
                @if shown == 0 { (nothing(listing, visitor)) }
                ul.list {
                    @for repository in repositories { (repository_row(repository)) }
                    @for image in images { (image_row(image)) }
                }
                (pager(listing.offset, shown, total, |offset| listing.at(offset), STEP))
            }
        };
        let title = match listing.query.is_empty() {
            true => "Repositories".to_owned(),
            false => format!("{} · Search", words::clipped_to(&listing.query, 80)),
        };
        Ok(self.page(visitor, Place::Repositories, &title, &content))
    }
}

pub(super) fn items(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

fn search_form(listing: &Listing) -> Markup {
    let choice = |name: &str, label: &str, any: &str, values: &[&str], chosen: &str| {
        html! {
            label { span { (label) }
                select name=(name) {
                    option value="" { (any) }
                    @for value in values {
                        option value=(value) selected[*value == chosen] { (value) }
                    }
                    @if !chosen.is_empty() && !values.contains(&chosen) {
                        option value=(chosen) selected { (chosen) }
                    }
                }
            }
        }
    };
    html! {
        search {
            form.search method="get" action="/" data-live="#results" {
                label.query {
                    span.sr { "Search" }
                    input type="search" name="q" value=(listing.query) autocomplete="off" spellcheck="false"
                        placeholder="Name, name:tag or digest" maxlength="300";
                }
                (choice("os", "System", "Any", &SYSTEMS, &listing.os))
                (choice("arch", "Architecture", "Any", &ARCHITECTURES, &listing.arch))
                label { span { "Order" }
                    select name="sort" {
                        @for (order, name, label) in Order::ALL {
                            option value=(name) selected[order == listing.order] { (label) }
                        }
                    }
                }
                label.check {
                    input type="checkbox" name="signed" value="1" checked[listing.signed];
                    span { "Signed" }
                }
                button.primary type="submit" { "Search" }
            }
        }
    }
}

fn nothing(listing: &Listing, visitor: &Visitor) -> Markup {
    html! {
        div.empty {
            @if !listing.is_everything() {
                h2 { "Nothing fits" }
                p { "No repository that you may read is found by this." }
                p { a.button href="/" { "Show all" } }
            } @else {
                h2 { "Nothing here yet" }
                p { "There is no repository that you may read. Push one:" }
                pre.command tabindex="0" aria-label="Commands" {
                    "docker tag alpine:3 " (visitor.registry) "/library/alpine:3\n"
                    "docker push " (visitor.registry) "/library/alpine:3"
                }
            }
        }
    }
}

fn repository_row(repository: &Value) -> Markup {
    let name = text(&repository["Name"]);
    let newest = &repository["NewestImage"];
    let described = [text(&newest["Description"]), text(&newest["Title"])];
    let described = described.into_iter().find(|text| !text.is_empty());
    let platforms = items(&repository["Platforms"]).iter().map(platform);
    let platforms: Vec<String> = platforms.filter(|platform| !platform.is_empty()).collect();
    let Ok(name) = RepoName::parse(name) else {
        return html! {};
    };
    html! {
        li.row {
            div.lead {
                h2 { a href=(links::repository(&name)) { (name) } }
                @if let Some(described) = described { p { (words::clipped_to(described, 200)) } }
                p.chips {
                    @if newest["IsSigned"] == json!(true) { span.chip.good { "signed" } }
                    @if platforms.is_empty() { span.chip.kind { (kinds::of(kind_of(newest)).name) } }
                    @for platform in platforms.iter().take(PLATFORMS) { span.chip { (platform) } }
                    @if platforms.len() > PLATFORMS { span.chip { "+" (platforms.len() - PLATFORMS) } }
                }
            }
            div.side {
                @if !text(&newest["Tag"]).is_empty() { span { code { (words::clipped_to(text(&newest["Tag"]), 40)) } } }
                span { (words::size(number(&repository["Size"]))) }
                @if let Some(ago) = words::ago(text(&repository["LastUpdated"])) { span { (ago) } }
                @let stars = number(&repository["StarCount"]);
                @if stars > 0 { span { "★ " (stars) } }
            }
        }
    }
}

fn image_row(image: &Value) -> Markup {
    let name = RepoName::parse(text(&image["RepoName"]));
    let tag = Tag::parse(text(&image["Tag"]));
    let (Ok(name), Ok(tag)) = (name, tag) else {
        return html! {};
    };
    html! {
        li.row {
            div.lead {
                h2 { a href=(links::tag(&name, &tag)) { (name) ":" (tag) } }
                p { code { (words::short(text(&image["Digest"]))) } }
                p.chips {
                    @if image["IsSigned"] == json!(true) { span.chip.good { "signed" } }
                    @for platform in platforms(image).iter().take(PLATFORMS) { span.chip { (platform) } }
                }
            }
            div.side {
                span { (words::size(number(&image["Size"]))) }
                @if let Some(ago) = words::ago(text(&image["PushTimestamp"])) { span { (ago) } }
            }
        }
    }
}

/// The media type that says what an image in a list is.
pub(super) fn kind_of(image: &Value) -> &str {
    let first = &image["Manifests"][0];
    match text(&first["ArtifactType"]) {
        "" => text(&image["MediaType"]),
        artifact => artifact,
    }
}

/// What an image runs on, each platform once.
pub(super) fn platforms(image: &Value) -> Vec<String> {
    let mut platforms: Vec<String> = Vec::new();
    for manifest in items(&image["Manifests"]) {
        let platform = platform(&manifest["Platform"]);
        if !platform.is_empty() && !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    platforms
}

/// `linux/amd64`; nothing of what has none, as artifacts and attestations.
fn platform(platform: &Value) -> String {
    let (os, arch) = (text(&platform["Os"]), text(&platform["Arch"]));
    match (os, arch) {
        ("", "") | ("unknown", _) => String::new(),
        (one, "") | ("", one) => words::clipped_to(one, 40),
        (os, arch) => words::clipped_to(&format!("{os}/{arch}"), 40),
    }
}
