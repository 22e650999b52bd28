//! Who may do what, by the configured policies: zot's meaning.
//!
//! Of the patterns that match a repository's name the longest counts, alone. There, all policies that name the user or
//! one of their groups count together, and `defaultPolicy` for everybody who has logged in, or `anonymousPolicy` for who
//! hasn't. `adminPolicy` adds to that, everywhere.

use std::sync::Arc;

use super::Audience;
use crate::{
    admission::Visible,
    config::{
        AccessControl,
        access::{Policy as Allowed, Rule},
    },
    oci::{Action, RepoName, Route},
};

/// The policy in force.
#[derive(Debug)]
pub(super) enum Policy {
    /// Everybody may do everything: nobody can log in, and nothing else is said.
    Everybody,
    /// Who has logged in may do everything.
    Users,
    /// As configured.
    Rules(AccessControl),
}

/// Somebody, as policies know them; `None` is who hasn't logged in.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) user: Option<String>,
    pub(super) groups: Vec<String>,
}

impl Subject {
    pub(super) fn nobody() -> Self {
        Self {
            user: None,
            groups: Vec::new(),
        }
    }
}

impl Policy {
    /// The groups of a user.
    pub(super) fn groups(&self, user: &str) -> Vec<String> {
        match self {
            Self::Everybody | Self::Users => Vec::new(),
            Self::Rules(access) => access
                .groups
                .iter()
                .filter(|(_, users)| users.iter().any(|member| member == user))
                .map(|(group, _)| group.clone())
                .collect(),
        }
    }

    /// Whether somebody who hasn't logged in may do anything.
    pub(super) fn knows_anonymous(&self) -> bool {
        match self {
            Self::Everybody => true,
            Self::Users => false,
            Self::Rules(access) => access.rules.iter().any(|rule| !rule.anonymous.is_empty()),
        }
    }

    /// Whether `subject` may do `action` in `repository`.
    pub(super) fn allows(&self, subject: &Subject, repository: &RepoName, action: Action) -> bool {
        match self {
            Self::Everybody => true,
            Self::Users => subject.user.is_some(),
            Self::Rules(access) => {
                let rule = access.rules.iter().find(|rule| rule.pattern.matches(repository));
                rule.is_some_and(|rule| rule_allows(rule, subject, action))
                    || admin_allows(access, subject, action)
            }
        }
    }

    /// Whether `subject` may do `action` everywhere, as an administrator.
    pub(super) fn is_administrators(&self, subject: &Subject, action: Action) -> bool {
        match self {
            Self::Everybody | Self::Users => false,
            Self::Rules(access) => admin_allows(access, subject, action),
        }
    }

    /// What `subject` may read.
    pub(super) fn visible(self: &Arc<Self>, subject: &Subject) -> Visible {
        if self.shows_everything(subject) {
            return Visible::Everything;
        }
        if self.shows_nothing(subject) {
            return Visible::Nothing;
        }
        let (policy, subject) = (self.clone(), subject.clone());
        Visible::Those(Arc::new(move |repository| {
            policy.allows(&subject, repository, Action::Read)
        }))
    }

    /// Who may ask for `route` and gets the same answer: what a listing of all repositories holds depends on who asks.
    pub(super) fn audience(self: &Arc<Self>, route: &Route) -> Audience {
        let anybody = Subject::nobody();
        let is_open = match route.repository() {
            None => self.visible(&anybody).is_everything(),
            Some(_) => route.permissions().iter().all(|permission| {
                let may = |action| self.allows(&anybody, &permission.repository, action);
                !permission.need.refuses(may)
            }),
        };
        match is_open {
            true => Audience::Everybody,
            false => Audience::Some,
        }
    }

    /// Whether `subject` may read every repository there is or will be.
    fn shows_everything(&self, subject: &Subject) -> bool {
        match self {
            Self::Everybody => true,
            Self::Users => subject.user.is_some(),
            Self::Rules(access) => {
                // One pattern covers every name, so some rule counts for each; and each of them allows it.
                let covers = access.rules.iter().any(|rule| rule.pattern.is_everything());
                let all_allow = || {
                    access
                        .rules
                        .iter()
                        .all(|rule| rule_allows(rule, subject, Action::Read))
                };
                admin_allows(access, subject, Action::Read) || (covers && all_allow())
            }
        }
    }

    fn shows_nothing(&self, subject: &Subject) -> bool {
        match self {
            Self::Everybody => false,
            Self::Users => subject.user.is_none(),
            Self::Rules(access) => {
                let any_allows = access
                    .rules
                    .iter()
                    .any(|rule| rule_allows(rule, subject, Action::Read));
                !any_allows && !admin_allows(access, subject, Action::Read)
            }
        }
    }

    /// Whether `subject` may read `/metrics`.
    pub(super) fn shows_metrics(&self, subject: &Subject) -> bool {
        match self {
            Self::Everybody => true,
            Self::Users => subject.user.is_some(),
            Self::Rules(access) => {
                let named = |user| access.metrics.users.contains(user);
                access.metrics.anybody || subject.user.as_ref().is_some_and(named)
            }
        }
    }
}

fn rule_allows(rule: &Rule, subject: &Subject, action: Action) -> bool {
    if subject.user.is_none() {
        return rule.anonymous.contains(&action);
    }
    rule.default.contains(&action)
        || rule
            .policies
            .iter()
            .any(|policy| policy_allows(policy, subject, action))
}

fn policy_allows(policy: &Allowed, subject: &Subject, action: Action) -> bool {
    let is_named = subject
        .user
        .as_ref()
        .is_some_and(|user| policy.users.contains(user));
    let in_group = subject.groups.iter().any(|group| policy.groups.contains(group));
    policy.actions.contains(&action) && (is_named || in_group)
}

fn admin_allows(access: &AccessControl, subject: &Subject, action: Action) -> bool {
    access
        .admin
        .as_ref()
        .is_some_and(|admin| policy_allows(admin, subject, action))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::config;

    fn policy(access: &str) -> Arc<Policy> {
        let text = format!(
            "storage: {{rootDirectory: /d}}\nhttp:\n  auth: {{htpasswd: {{path: /x}}}}\n  accessControl: {access}\n"
        );
        let config = config::parse(Path::new("c.yaml"), &text).unwrap();
        Arc::new(Policy::Rules(config.access.unwrap()))
    }

    fn subject(policy: &Policy, user: &str) -> Subject {
        Subject {
            groups: policy.groups(user),
            user: Some(user.to_owned()).filter(|user| !user.is_empty()),
        }
    }

    /// The actions by their first letters.
    fn may(policy: &Policy, user: &str, repository: &str) -> String {
        let (subject, name) = (subject(policy, user), RepoName::parse(repository).unwrap());
        let allowed = Action::ALL
            .into_iter()
            .filter(|action| policy.allows(&subject, &name, *action));
        allowed
            .filter_map(|action| action.as_str().chars().next())
            .collect()
    }

    #[test]
    fn the_longest_pattern_counts_alone_and_admins_add_to_it() {
        let policy = policy(
            "{repositories: {
                '**': {defaultPolicy: [read], anonymousPolicy: [read]},
                'team/**': {policies: [{users: [ann], actions: [read, create, update]}, {groups: [ops], actions: [read, delete]}]},
                'team/alpha': {policies: [{users: [ann], actions: [create]}], defaultPolicy: [read]},
              }, adminPolicy: {users: [root], groups: [ops], actions: [read, create]},
              groups: {ops: {users: [bob, ann]}}}",
        );
        for (user, repository, expected) in [
            ("", "x", "r"),
            ("", "team/x", ""),
            ("", "team", ""),
            ("eve", "x", "r"),
            ("eve", "team/x", ""),
            ("eve", "team/alpha", "r"),
            ("ann", "team/x/y", "rcud"),
            ("ann", "team/alpha", "rc"),
            ("bob", "team/x", "rcd"),
            ("bob", "team/alpha", "rc"),
            ("root", "team/x", "rc"),
            ("root", "x", "rc"),
        ] {
            assert_eq!(
                may(&policy, user, repository),
                expected,
                "{user:?} in {repository}"
            );
        }
    }

    #[test]
    fn an_access_control_without_rules_denies_everything() {
        for access in [
            "{repositories: {}}",
            "{repositories: }",
            "{metrics: {users: [root]}}",
            "{groups: {}}",
        ] {
            let policy = policy(access);
            assert_eq!(may(&policy, "ann", "x"), "", "{access}");
            assert!(!policy.knows_anonymous());
            assert!(!policy.shows_metrics(&subject(&policy, "ann")));
        }
        let admins = policy("{adminPolicy: {users: [root], actions: [read]}}");
        assert_eq!(
            (may(&admins, "ann", "x"), may(&admins, "root", "x")),
            ("".to_owned(), "r".to_owned())
        );
    }

    #[test]
    fn metrics_have_a_policy_of_their_own() {
        let named = policy("{metrics: {users: [prometheus]}}");
        assert!(named.shows_metrics(&subject(&named, "prometheus")));
        assert!(!named.shows_metrics(&subject(&named, "ann")) && !named.shows_metrics(&subject(&named, "")));
        let open = policy("{metrics: {anonymousPolicy: [read]}}");
        assert!(open.shows_metrics(&subject(&open, "")) && open.shows_metrics(&subject(&open, "ann")));
    }

    proptest! {
        /// What is said to be all of it, or nothing, is.
        #[test]
        fn what_is_visible_is_what_may_be_read(
            rules in prop::collection::btree_map("\\*\\*|[ab]|[ab]/\\*\\*|\\*|[ab]/\\*", (any::<bool>(), any::<bool>()), 0..5),
            admin in any::<bool>(),
            user in "ann|eve|",
            name in "[ab]|[ab]/[ab]|[ab]/[ab]/[ab]",
        ) {
            let rules: Vec<String> = rules
                .iter()
                .map(|(pattern, (for_ann, for_all))| {
                    let ann = if *for_ann { "read" } else { "delete" };
                    let all = if *for_all { "[read]" } else { "[]" };
                    format!("'{pattern}': {{policies: [{{users: [ann], actions: [{ann}]}}], anonymousPolicy: {all}}}")
                })
                .collect();
            let admin = if admin { "{users: [ann], actions: [read]}" } else { "{actions: []}" };
            let policy = policy(&format!("{{repositories: {{{}}}, adminPolicy: {admin}}}", rules.join(", ")));
            let (subject, name) = (subject(&policy, &user), RepoName::parse(&name).unwrap());
            let may_read = policy.allows(&subject, &name, Action::Read);
            prop_assert_eq!(policy.visible(&subject).includes(&name), may_read);
        }
    }
}
