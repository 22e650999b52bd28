//! What an API key is for.

use crate::oci::{Action, RepoName, RepoPattern};

/// What a key may be used for: `repository:PATTERN:ACTIONS`, within what its user may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    text: String,
    pattern: RepoPattern,
    actions: Vec<Action>,
}

/// A text is no scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a scope is expected: repository:PATTERN:ACTIONS, with actions of read, create, update, delete, or * for all; \
     for example repository:team/**:read,create"
)]
pub struct ScopeError;

impl Scope {
    /// Reads a scope.
    ///
    /// # Errors
    /// [`ScopeError`], which says how one looks.
    pub fn parse(text: &str) -> Result<Self, ScopeError> {
        let rest = text.strip_prefix("repository:").ok_or(ScopeError)?;
        let (pattern, names) = rest.rsplit_once(':').ok_or(ScopeError)?;
        let pattern = RepoPattern::parse(pattern).map_err(|_| ScopeError)?;
        let action = |name: &str| Action::ALL.into_iter().find(|action| action.as_str() == name);
        let actions = match names {
            "*" => Action::ALL.to_vec(),
            names => names
                .split(',')
                .map(|name| action(name).ok_or(ScopeError))
                .collect::<Result<_, _>>()?,
        };
        Ok(Self {
            text: text.to_owned(),
            pattern,
            actions,
        })
    }

    /// As it was read.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it covers `action` in `repository`.
    #[must_use]
    pub fn covers(&self, repository: &RepoName, action: Action) -> bool {
        self.actions.contains(&action) && self.pattern.matches(repository)
    }
}

/// What may be done by a token with this action, in the words of docker's token protocol. What isn't understood allows nothing.
pub(super) fn granted(action: &str) -> &'static [Action] {
    match action {
        "pull" => &[Action::Read],
        "push" => &[Action::Create, Action::Update],
        "delete" => &[Action::Delete],
        "*" => &Action::ALL,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_covers_what_it_says() {
        let name = |text: &str| RepoName::parse(text).unwrap();
        let scope = Scope::parse("repository:team/**:read,create").unwrap();
        assert!(scope.covers(&name("team/a/b"), Action::Create));
        assert!(
            !scope.covers(&name("team/a"), Action::Delete) && !scope.covers(&name("other"), Action::Read)
        );
        assert!(
            Scope::parse("repository:**:*")
                .unwrap()
                .covers(&name("x"), Action::Delete)
        );
        for wrong in [
            "",
            "repository",
            "repository::read",
            "repository:a:",
            "repository:a:pull",
            "registry:a:read",
        ] {
            assert_eq!(Scope::parse(wrong), Err(ScopeError), "{wrong}");
        }
    }
}
