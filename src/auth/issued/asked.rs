//! What a token is asked for: scopes of docker's token protocol, `repository:NAME:ACTIONS` and `registry:catalog:*`.

use std::fmt;

use crate::{
    admission::Grants,
    auth::scope::granted,
    oci::{Action, RepoName},
};

/// Most scopes of a token, and most bytes of all of them: a token goes into a header.
const MAX_SCOPES: usize = 64;
const MAX_BYTES: usize = 8 * 1024;

/// More was asked for than goes into a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token has at most {MAX_SCOPES} scopes, of {MAX_BYTES} bytes in all")]
pub struct AskedError;

/// What somebody wants a token for: the most that it will be good for.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    scopes: Vec<String>,
    /// In repositories.
    pub(in crate::auth) grants: Grants,
    /// The list of all repositories.
    pub(in crate::auth) catalog: bool,
}

impl Asked {
    /// Reads the values of `scope`, each of one scope or of several with spaces between them. What isn't understood grants
    /// nothing, and is left out.
    ///
    /// # Errors
    /// [`AskedError`]: they are too many.
    pub fn parse<'a>(values: impl IntoIterator<Item = &'a str>) -> Result<Self, AskedError> {
        let mut asked = Self::default();
        let mut bytes = 0;
        for scope in values.into_iter().flat_map(|value| value.split(' ')) {
            if scope.is_empty() || asked.scopes.iter().any(|other| other == scope) {
                continue;
            }
            bytes += scope.len();
            if bytes > MAX_BYTES || asked.scopes.len() >= MAX_SCOPES {
                return Err(AskedError);
            }
            asked.add(scope);
        }
        Ok(asked)
    }

    /// Reads what a token says.
    pub(super) fn read(text: &str) -> Self {
        Self::parse([text]).unwrap_or_default()
    }

    fn add(&mut self, scope: &str) {
        let Some((kind, (name, actions))) = scope
            .split_once(':')
            .and_then(|(kind, rest)| Some((kind, rest.rsplit_once(':')?)))
        else {
            return;
        };
        match (kind, RepoName::parse(name)) {
            ("repository", Ok(repository)) => {
                let actions: Vec<Action> = actions.split(',').flat_map(granted).copied().collect();
                self.grants.grant(repository, actions);
            }
            ("registry", _) if name == "catalog" => {
                self.catalog |= actions.split(',').any(|action| action == "*");
            }
            _ => return,
        }
        self.scopes.push(scope.to_owned());
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.scopes.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_understood_of_scopes_is_kept_once() {
        let asked = Asked::parse([
            "repository:a/b:pull,push repository:c:delete",
            "registry:catalog:*",
            "repository:a/b:pull,push",
            "repository:NO:pull repository:d repository(plugin):e:pull user:me:* registry:other:* :",
        ])
        .unwrap();
        assert_eq!(
            asked.to_string(),
            "repository:a/b:pull,push repository:c:delete registry:catalog:*"
        );
        for (name, expected) in [("a/b", "rcu"), ("c", "d"), ("d", ""), ("e", "")] {
            let name = RepoName::parse(name).unwrap();
            let may = Action::ALL
                .into_iter()
                .filter(|action| asked.grants.allows(&name, *action));
            assert_eq!(
                may.filter_map(|action| action.as_str().chars().next())
                    .collect::<String>(),
                expected,
                "{name}"
            );
        }
        assert!(asked.catalog && !Asked::parse(["registry:catalog:pull"]).unwrap().catalog);
        let again = Asked::read(&asked.to_string());
        assert_eq!(again.to_string(), asked.to_string());
        assert_eq!(Asked::parse([]).unwrap().to_string(), "");
    }

    #[test]
    fn a_token_is_asked_for_so_much_and_no_more() {
        let scopes = |n: usize| {
            (0..n)
                .map(|n| format!("repository:r{n}:pull"))
                .collect::<Vec<_>>()
        };
        assert!(Asked::parse([&*scopes(MAX_SCOPES).join(" ")]).is_ok());
        assert!(Asked::parse([&*scopes(MAX_SCOPES + 1).join(" ")]).is_err());
        assert!(Asked::parse(["x".repeat(MAX_BYTES + 1).as_str()]).is_err());
    }
}
