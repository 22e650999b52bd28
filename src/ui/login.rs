//! Every way to log in, and out.

use http::header::SET_COOKIE;
use maud::html;

use super::{
    Shown, Trouble, Ui, Visitor,
    document::text,
    layout::{Place, outward},
    links,
};

/// An identity provider that people log in at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// What it is called in paths.
    pub kind: &'static str,
    /// For people.
    pub name: String,
}

impl Ui {
    /// Whether people choose how to log in, rather than being asked for a password by their browser at once.
    #[must_use]
    pub fn has_choice(&self) -> bool {
        !self.offers.providers.is_empty()
    }

    /// The ways that there are.
    #[must_use]
    pub fn login(&self) -> String {
        let content = html! {
            section.sheet.entry {
                h1 { "Log in" }
                @for provider in &*self.offers.providers {
                    @let way = links::with("/zot/auth/login", &[("provider", provider.kind), ("callback_ui", "/")]);
                    a.button.primary href=(way) { "Log in with " (provider.name) }
                }
                @if self.offers.passwords {
                    a.button href="/login?by=password" { "Log in with a name and a password" }
                    p.muted { "Your browser asks for them, and keeps them until it is closed." }
                }
            }
        };
        self.document(None, Place::Elsewhere, "Log in", &content)
    }

    /// Ends the visitor's session.
    pub(super) async fn log_out(&self, visitor: &Visitor) -> Result<Shown, Trouble> {
        let said = visitor.ask.order("/zot/auth/logout").await?;
        let elsewhere = said.json();
        let elsewhere = text(&elsewhere["endSessionUrl"]);
        let content = html! {
            section.sheet.entry {
                h1 { "You are logged out" }
                @if !elsewhere.is_empty() { p { "At the provider you may still be logged in: " (outward(elsewhere)) } }
                a.button href="/login" { "Log in" }
            }
        };
        Ok(Shown::LoggedOut {
            cookies: said.headers.get_all(SET_COOKIE).iter().cloned().collect(),
            html: self.document(None, Place::Elsewhere, "Logged out", &content),
        })
    }
}
