//! The page that people look at with a browser: templates, one stylesheet, one script.
//!
//! It knows nothing that its visitor couldn't ask for: whatever it shows comes of questions to the registry that go the
//! way of everybody's requests, with what the visitor showed of themselves ([`ask`]). So it can't show or change more than
//! `curl` could, and each question is decided about, bounded, counted and audited like any other. What is the page's own is
//! only which buttons it draws, and the picture of the mesh ([`mesh`]), for those whom the gate lets see it.
//!
//! Every page is whole as it is sent; the script only makes some of it faster to use. Whatever others wrote (names,
//! annotations, configurations) is text to the templates, and of each there is a bound that is shown.
//!
//! Absent on purpose: HTTP's side of it (paths, the policy of the answers, which origin may send a form), which
//! `http::front::surface` has; rendering what others wrote as markup; and state.

pub mod ask;
mod assets;
mod delete;
mod document;
mod history;
mod image;
mod keys;
mod kinds;
mod layout;
mod links;
mod login;
mod mesh;
mod referrers;
mod repositories;
mod repository;
#[cfg(test)]
mod tests;
mod words;

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, StatusCode};

pub use self::{
    ask::{Ask, Inside, Trouble},
    assets::{ASSETS, Asset},
    login::Provider,
    mesh::{Forward, Look, Member, MeshFacts, Owned, Spoken, TakeOver},
    repositories::{Listing, Order},
};
use crate::{
    admission::Visible,
    auth::{Oversight, Stay},
    oci::{Reference, RepoName, Tag},
};

/// What is offered, as far as the page shows ways to it.
#[derive(Clone, Debug, Default)]
pub struct Offers {
    /// One can log in by a name and a password.
    pub passwords: bool,
    /// One can log in there.
    pub providers: Arc<[Provider]>,
    /// Users make keys for themselves.
    pub api_keys: bool,
    /// How long what is deleted can be brought back; zero is not at all.
    pub history: Duration,
}

/// Who looks.
#[derive(Clone)]
pub struct Visitor {
    /// Their name; `None` is anybody.
    pub user: Option<String>,
    /// What they may read, of what isn't asked for as they would.
    pub sees: Visible,
    /// Where they may delete, for the buttons: whether they may is decided when they do.
    pub deletable: Visible,
    /// Where they may move tags, likewise.
    pub updatable: Visible,
    /// Whether they see the mesh.
    pub oversight: Oversight,
    /// Whether they can log out.
    pub stay: Stay,
    /// How they call the registry: what stands before a name in a command.
    pub registry: String,
    /// Asks the registry as they would.
    pub ask: Ask,
}

/// What is to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Page {
    /// The repositories that there are, or that are searched for.
    Repositories(Listing),
    /// A repository, and its tags that begin with this, from this one on.
    Repository {
        /// Its name.
        name: RepoName,
        /// The beginning of the tags that are shown.
        tag: String,
        /// So many are passed over.
        offset: usize,
    },
    /// What a tag or digest names.
    Image {
        /// The repository.
        name: RepoName,
        /// The tag or digest.
        reference: Reference,
    },
    /// What would go, before it does.
    AskDelete {
        /// The repository.
        name: RepoName,
        /// The tag or digest.
        reference: Reference,
    },
    /// The members, and what they do.
    Mesh,
    /// The visitor's API keys.
    Keys,
    /// To log in by a name and a password.
    Login,
}

/// What a visitor changes by a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A tag or manifest goes.
    Delete {
        /// The repository.
        name: RepoName,
        /// The tag or digest.
        reference: Reference,
    },
    /// A tag names again what it named at that time.
    Restore {
        /// The repository.
        name: RepoName,
        /// The tag.
        tag: Tag,
        /// In RFC 3339.
        at: String,
    },
    /// Their session ends.
    LogOut,
    /// A new API key.
    MakeKey {
        /// What it is called.
        label: String,
        /// Its scopes, separated by white space; none is all that the user may.
        scopes: String,
        /// The day after which it ends, `2030-01-31`; empty is never.
        until: String,
    },
    /// An API key ends.
    RevokeKey {
        /// Which.
        id: String,
    },
}

/// What a page answers.
#[derive(Debug)]
pub enum Shown {
    /// A document.
    Html(StatusCode, String),
    /// It is elsewhere: a path of the page.
    Elsewhere(String),
    /// Who asks is to log in.
    LogIn,
    /// A session has ended.
    LoggedOut {
        /// What takes its cookies away.
        cookies: Vec<HeaderValue>,
        /// The document.
        html: String,
    },
}

/// The page.
#[derive(Clone)]
pub struct Ui {
    offers: Offers,
    look: Look,
}

impl Ui {
    /// With ways to what is offered, and a look at the mesh.
    #[must_use]
    pub fn new(offers: Offers, look: Look) -> Self {
        Self { offers, look }
    }

    /// Shows a page.
    pub async fn show(&self, page: &Page, visitor: &Visitor) -> Shown {
        let shown = match page {
            Page::Repositories(listing) => self.repositories(listing, visitor).await,
            Page::Repository { name, tag, offset } => self.repository(name, tag, *offset, visitor).await,
            Page::Image { name, reference } => self.image(name, reference, visitor).await,
            Page::AskDelete { name, reference } => self.ask_delete(name, reference, visitor).await,
            Page::Mesh => Ok(self.mesh(visitor).await),
            Page::Keys => self.keys(visitor, None).await,
            Page::Login => Ok(match visitor.user {
                Some(_) => Shown::Elsewhere("/".to_owned()),
                None => Shown::LogIn,
            }),
        };
        self.or_trouble(shown, visitor)
    }

    /// Changes something, and shows what came of it.
    pub async fn change(&self, change: &Change, visitor: &Visitor) -> Shown {
        let shown = match change {
            Change::Delete { name, reference } => self.delete(name, reference, visitor).await,
            Change::Restore { name, tag, at } => self.restore(name, tag, at, visitor).await,
            Change::LogOut => self.log_out(visitor).await,
            Change::MakeKey { label, scopes, until } => self.make_key(label, scopes, until, visitor).await,
            Change::RevokeKey { id } => self.revoke_key(id, visitor).await,
        };
        self.or_trouble(shown, visitor)
    }

    fn or_trouble(&self, shown: Result<Shown, Trouble>, visitor: &Visitor) -> Shown {
        match shown {
            Ok(shown) => shown,
            Err(trouble) if trouble.status == StatusCode::UNAUTHORIZED => Shown::LogIn,
            Err(trouble) => Shown::Html(
                trouble.status,
                self.trouble(Some(visitor), trouble.status, &trouble.message),
            ),
        }
    }
}
