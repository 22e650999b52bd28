//! What a request wants to do to a repository.
//!
//! Deliberately absent: who may do it. The front compares needs with policy, the owner compares them with the grants it
//! was handed.

use super::RepoName;

/// Something that one may be allowed to do in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Pull, list, look.
    Read,
    /// Push what is new.
    Create,
    /// Let a tag that exists name something else.
    Update,
    /// Delete tags, manifests and blobs.
    Delete,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Read, Self::Create, Self::Update, Self::Delete];

    /// The action's name, as a policy writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// Which actions must have been granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// This one, or the request is refused.
    Required(Action),
    /// One of these, or the request is refused. Which of them is only known inside the owner's transaction.
    AnyOf(&'static [Action]),
    /// This one, or the request is served in a lesser way: it is never refused for it.
    Optional(Action),
}

impl Need {
    /// The actions that count for this need. Exactly these are worth asking policy for, and passing on as grants.
    #[must_use]
    pub fn actions(&self) -> &[Action] {
        match self {
            Self::Required(action) | Self::Optional(action) => std::slice::from_ref(action),
            Self::AnyOf(actions) => actions,
        }
    }

    /// Whether a request with this need must be refused, given what is granted.
    #[must_use]
    pub fn refuses(&self, granted: impl Fn(Action) -> bool) -> bool {
        match self {
            Self::Required(_) | Self::AnyOf(_) => !self.actions().iter().copied().any(granted),
            Self::Optional(_) => false,
        }
    }
}

/// What a route needs on one repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// Where.
    pub repository: RepoName,
    /// What.
    pub need: Need,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_optional_need_never_refuses() {
        let either = Need::AnyOf(&[Action::Create, Action::Update]);
        assert!(!either.refuses(|action| action == Action::Update));
        assert!(either.refuses(|action| action == Action::Read));
        assert!(Need::Required(Action::Read).refuses(|_| false));
        assert!(!Need::Required(Action::Read).refuses(|action| action == Action::Read));
        assert!(!Need::Optional(Action::Read).refuses(|_| false));
    }
}
