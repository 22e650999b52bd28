//! API keys: one's own, a new one, the end of one.

use http::StatusCode;
use maud::{Markup, html};
use serde_json::{Value, json};

use super::{
    Shown, Trouble, Ui, Visitor,
    document::text,
    layout::{Place, copy},
    links,
    repositories::items,
    words,
};

const KEYS: &str = "/zot/auth/apikey";

impl Ui {
    /// The keys, and the one that was made just now: it is shown once.
    pub(super) async fn keys(&self, visitor: &Visitor, made: Option<&Value>) -> Result<Shown, Trouble> {
        if visitor.user.is_none() && self.offers.api_keys {
            return Ok(Shown::LogIn);
        }
        let list = visitor.ask.get(KEYS).await?.json();
        let keys = items(&list["apiKeys"]);
        let content = html! {
            h1 { "API keys" }
            p.description {
                "A key is for machines: it stands in for your password, may do what you may, within its scopes, and makes no "
                "other keys."
            }
            @if let Some(made) = made { (fresh(made, visitor)) }
            @if keys.is_empty() { p.muted { "You have none." } } @else { (table(keys)) }
            (form())
        };
        Ok(self.page(visitor, Place::Keys, "API keys", &content))
    }

    pub(super) async fn make_key(
        &self,
        label: &str,
        scopes: &str,
        until: &str,
        visitor: &Visitor,
    ) -> Result<Shown, Trouble> {
        let scopes: Vec<&str> = scopes.split_whitespace().collect();
        let mut wish = json!({ "label": label, "scopes": scopes });
        if !until.is_empty() {
            let is_day = until.len() == 10 && until.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
            if !is_day {
                return Err(Trouble::new(
                    StatusCode::BAD_REQUEST,
                    "A day is expected, such as 2030-01-31.",
                ));
            }
            wish["expirationDate"] = json!(format!("{until}T23:59:59Z"));
        }
        let made = visitor.ask.post(KEYS, &wish).await?.json();
        self.keys(visitor, Some(&made)).await
    }

    pub(super) async fn revoke_key(&self, id: &str, visitor: &Visitor) -> Result<Shown, Trouble> {
        visitor.ask.delete(&links::with(KEYS, &[("id", id)])).await?;
        Ok(Shown::Elsewhere("/keys".to_owned()))
    }
}

fn fresh(made: &Value, visitor: &Visitor) -> Markup {
    let (key, user) = (text(&made["apiKey"]), visitor.user.as_deref().unwrap_or_default());
    html! {
        section.sheet.made role="status" {
            h2 { "The new key" }
            p { "Copy it now: it isn’t shown again." }
            div.command { code #made { (key) } (copy(key, "Copy key")) }
            p.muted { code { "crane auth login " (visitor.registry) " -u " (user) " -p …" } }
        }
    }
}

fn table(keys: &[Value]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Your keys" {
            table {
                thead { tr {
                    th scope="col" { "Label" }
                    th scope="col" { "Scopes" }
                    th scope="col" { "Made" }
                    th scope="col" { "Last used" }
                    th scope="col" { "Ends" }
                    th scope="col" { span.sr { "Revoke" } }
                } }
                tbody { @for key in keys { (row(key)) } }
            }
        }
    }
}

fn row(key: &Value) -> Markup {
    let label = match text(&key["label"]) {
        "" => "(no label)",
        label => label,
    };
    let scopes = items(&key["scopes"]);
    let end = text(&key["expirationDate"]);
    html! {
        tr {
            th scope="row" { (words::clipped_to(label, 100)) }
            td {
                @if scopes.is_empty() { "all that you may" }
                @for scope in scopes { div { code { (words::clipped_to(text(scope), 200)) } } }
            }
            td { @if let Some(ago) = words::ago(text(&key["createdAt"])) { (ago) } }
            td {
                @let used = text(&key["lastUsed"]);
                @if used.starts_with("0001-") { "never" }
                @else if let Some(ago) = words::ago(used) { (ago) }
            }
            td {
                @if key["isExpired"] == json!(true) { span.chip { "ended" } }
                @else if end.starts_with("0001-") { "never" }
                @else { time datetime=(end) { (end.get(..10).unwrap_or(end)) } }
            }
            td {
                form method="post" action="/keys" {
                    input type="hidden" name="revoke" value=(text(&key["uuid"]));
                    button.quiet type="submit" { "Revoke" span.sr { " " (words::clipped_to(label, 100)) } }
                }
            }
        }
    }
}

fn form() -> Markup {
    html! {
        section.sheet aria-labelledby="new" {
            h2 #new { "Make a key" }
            form.stack method="post" action="/keys" {
                label { span { "Label" } input name="label" required maxlength="100" autocomplete="off"; }
                label { span { "Scopes" }
                    input name="scopes" maxlength="2000" autocomplete="off" spellcheck="false"
                        placeholder="repository:team/**:read,create" aria-describedby="scopes-help";
                }
                p.muted #scopes-help { "One or more, with spaces between them. Without any the key may do all that you may." }
                label { span { "Last day" } input name="until" type="date"; }
                button.primary type="submit" { "Make the key" }
            }
        }
    }
}
