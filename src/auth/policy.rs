//! Who may do what, by the configured policies: zot's meaning.
//!
//! Of the patterns that match a repository's name the longest counts, alone. There, all policies that name the user or
//! one of their groups count together, and `defaultPolicy` for everybody who has logged in, or `anonymousPolicy` for who
//! hasn't. `adminPolicy` adds to that, everywhere. A policy counts where all of its conditions hold of the request.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    Audience,
    circumstances::{Circumstances, Question},
};
use crate::{
    admission::Visible,
    config::{
        AccessControl,
        access::{Condition, Policy as Allowed, Rule},
    },
    oci::{Action, Reference, RepoName, Route},
};

/// How often the log says that conditions can't be asked, at most.
const COMPLAINTS_APART: Duration = Duration::from_secs(60);

/// The policy in force.
#[derive(Debug)]
pub(super) enum Policy {
    /// Everybody may do everything: nobody can log in, and nothing else is said.
    Everybody,
    /// Who has logged in may do everything.
    Users,
    /// As configured.
    Rules(Rules),
}

/// What is configured.
#[derive(Debug)]
pub(super) struct Rules {
    access: AccessControl,
    complained: Mutex<Option<Instant>>,
}

impl From<AccessControl> for Rules {
    fn from(access: AccessControl) -> Self {
        Self {
            access,
            complained: Mutex::new(None),
        }
    }
}

/// Somebody, as policies know them; `None` is who hasn't logged in.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) user: Option<String>,
    pub(super) groups: Vec<String>,
    /// Of what they ask; `None` is somebody of whom no condition is asked, so that none holds.
    pub(super) circumstances: Option<Arc<Circumstances>>,
}

impl Subject {
    pub(super) fn nobody() -> Self {
        Self {
            user: None,
            groups: Vec::new(),
            circumstances: None,
        }
    }
}

/// What is made of conditions.
enum Conditions<'a> {
    /// They are asked, about this reference where the request names one.
    Asked(Option<&'a Reference>),
    /// They may hold.
    MayHold,
    /// They may not.
    MayNot,
}

impl Policy {
    /// The groups of a user.
    pub(super) fn groups(&self, user: &str) -> Vec<String> {
        match self {
            Self::Everybody | Self::Users => Vec::new(),
            Self::Rules(Rules { access, .. }) => access
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
            Self::Rules(Rules { access, .. }) => access.rules.iter().any(|rule| !rule.anonymous.is_empty()),
        }
    }

    /// Whether anything depends on conditions.
    pub(super) fn has_conditions(&self) -> bool {
        self.conditions().next().is_some()
    }

    /// Whether it may depend on what a workload's token says.
    pub(super) fn may_ask_claims(&self) -> bool {
        self.conditions().any(Condition::may_ask_claims)
    }

    fn conditions(&self) -> impl Iterator<Item = &Condition> {
        let access = match self {
            Self::Everybody | Self::Users => None,
            Self::Rules(Rules { access, .. }) => Some(access),
        };
        let policies = access.into_iter().flat_map(|access| {
            let policies = access.rules.iter().flat_map(|rule| &rule.policies);
            policies.chain(&access.admin)
        });
        policies.flat_map(|policy| &policy.conditions)
    }

    /// Whether `subject` may do `action` in `repository`: with each manifest that they ask for.
    pub(super) fn allows(&self, subject: &Subject, repository: &RepoName, action: Action) -> bool {
        match self {
            Self::Everybody => true,
            Self::Users => subject.user.is_some(),
            Self::Rules(rules) => {
                let allowed = |reference: Option<&Reference>| {
                    let asked = Conditions::Asked(reference);
                    let rule = rules.of(repository);
                    rule.is_some_and(|rule| rules.allow(rule, subject, action, Some(repository), &asked))
                        || rules.allow_admin(subject, action, Some(repository), &asked)
                };
                match &subject.circumstances {
                    None => allowed(None),
                    Some(circumstances) => circumstances.references().into_iter().all(allowed),
                }
            }
        }
    }

    /// What a condition says that stands against it, where `subject` may not do `action` in `repository` because of that alone.
    pub(super) fn objection(
        &self,
        subject: &Subject,
        repository: &RepoName,
        action: Action,
    ) -> Option<Arc<str>> {
        let (Self::Rules(rules), Some(circumstances)) = (self, &subject.circumstances) else {
            return None;
        };
        let policies = rules.of(repository).into_iter().flat_map(|rule| &rule.policies);
        let policies = policies.chain(&rules.access.admin);
        let references = circumstances.references();
        policies
            .filter(|policy| is_for(policy, subject, action))
            .flat_map(|policy| &policy.conditions)
            .find(|condition| {
                let holds = |reference: &Option<&Reference>| {
                    rules.holds(condition, subject, action, Some(repository), *reference)
                };
                !references.iter().all(holds)
            })
            .and_then(|condition| condition.message.clone())
    }

    /// Whether `subject` may do `action` everywhere, as an administrator.
    pub(super) fn is_administrators(&self, subject: &Subject, action: Action) -> bool {
        match self {
            Self::Everybody | Self::Users => false,
            Self::Rules(rules) => rules.allow_admin(subject, action, None, &Conditions::Asked(None)),
        }
    }

    /// The same, where nothing says who is an administrator: then whoever may do anything may do this.
    pub(super) fn allows_everywhere(&self, subject: &Subject, action: Action) -> bool {
        match self {
            Self::Everybody => true,
            Self::Users => subject.user.is_some(),
            Self::Rules(_) => self.is_administrators(subject, action),
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

    /// Whether `subject` may read every repository there is or will be, whatever conditions say.
    fn shows_everything(&self, subject: &Subject) -> bool {
        match self {
            Self::Everybody => true,
            Self::Users => subject.user.is_some(),
            Self::Rules(rules) => {
                // One pattern covers every name, so some rule counts for each; and each of them allows it.
                let access = &rules.access;
                let covers = access.rules.iter().any(|rule| rule.pattern.is_everything());
                let all_allow = || {
                    let mut all = access.rules.iter();
                    all.all(|rule| rules.allow(rule, subject, Action::Read, None, &Conditions::MayNot))
                };
                rules.allow_admin(subject, Action::Read, None, &Conditions::MayNot) || (covers && all_allow())
            }
        }
    }

    fn shows_nothing(&self, subject: &Subject) -> bool {
        match self {
            Self::Everybody => false,
            Self::Users => subject.user.is_none(),
            Self::Rules(rules) => {
                let mut all = rules.access.rules.iter();
                let any_allows =
                    all.any(|rule| rules.allow(rule, subject, Action::Read, None, &Conditions::MayHold));
                !any_allows && !rules.allow_admin(subject, Action::Read, None, &Conditions::MayHold)
            }
        }
    }

    /// Whether `subject` may read `/metrics`.
    pub(super) fn shows_metrics(&self, subject: &Subject) -> bool {
        match self {
            Self::Everybody => true,
            Self::Users => subject.user.is_some(),
            Self::Rules(Rules { access, .. }) => {
                let named = |user| access.metrics.users.contains(user);
                access.metrics.anybody || subject.user.as_ref().is_some_and(named)
            }
        }
    }
}

impl Rules {
    /// What counts for a repository.
    fn of(&self, repository: &RepoName) -> Option<&Rule> {
        self.access
            .rules
            .iter()
            .find(|rule| rule.pattern.matches(repository))
    }

    fn allow(
        &self,
        rule: &Rule,
        subject: &Subject,
        action: Action,
        repository: Option<&RepoName>,
        conditions: &Conditions<'_>,
    ) -> bool {
        if subject.user.is_none() {
            return rule.anonymous.contains(&action);
        }
        let mut policies = rule.policies.iter();
        rule.default.contains(&action)
            || policies.any(|policy| self.counts(policy, subject, action, repository, conditions))
    }

    fn allow_admin(
        &self,
        subject: &Subject,
        action: Action,
        repository: Option<&RepoName>,
        conditions: &Conditions<'_>,
    ) -> bool {
        let admin = self.access.admin.as_ref();
        admin.is_some_and(|admin| self.counts(admin, subject, action, repository, conditions))
    }

    fn counts(
        &self,
        policy: &Allowed,
        subject: &Subject,
        action: Action,
        repository: Option<&RepoName>,
        conditions: &Conditions<'_>,
    ) -> bool {
        is_for(policy, subject, action)
            && match conditions {
                Conditions::MayHold => true,
                Conditions::MayNot => policy.conditions.is_empty(),
                // What is about all repositories isn't granted by what holds of some.
                Conditions::Asked(_)
                    if repository.is_none() && policy.conditions.iter().any(Condition::may_ask_content) =>
                {
                    false
                }
                Conditions::Asked(reference) => {
                    let mut all = policy.conditions.iter();
                    all.all(|condition| self.holds(condition, subject, action, repository, *reference))
                }
            }
    }

    /// Whether a condition holds; one that can't be asked doesn't.
    fn holds(
        &self,
        condition: &Condition,
        subject: &Subject,
        action: Action,
        repository: Option<&RepoName>,
        reference: Option<&Reference>,
    ) -> bool {
        let Some(circumstances) = &subject.circumstances else {
            return false;
        };
        let admin = self.access.admin.as_ref();
        let bindings = circumstances.bindings(&Question {
            action,
            repository,
            reference,
            user: subject.user.as_deref().unwrap_or_default(),
            groups: &subject.groups,
            is_admin: admin.is_some_and(|admin| is_named(admin, subject)),
        });
        let held = bindings.and_then(|bindings| condition.expression.holds(&bindings));
        held.unwrap_or_else(|problem| {
            self.complain(condition, &problem);
            false
        })
    }

    fn complain(&self, condition: &Condition, problem: &str) {
        let mut complained = self.complained.lock();
        if complained.is_none_or(|when| when.elapsed() >= COMPLAINTS_APART) {
            *complained = Some(Instant::now());
            tracing::warn!(
                expression = condition.expression.as_str(),
                problem,
                "a condition of a policy can't be asked, so it doesn't hold; others may have the same fault, and are told of in a minute"
            );
        }
    }
}

/// Whether a policy is about somebody and what they want to do, whatever its conditions say.
fn is_for(policy: &Allowed, subject: &Subject, action: Action) -> bool {
    policy.actions.contains(&action) && is_named(policy, subject)
}

fn is_named(policy: &Allowed, subject: &Subject) -> bool {
    let by_name = subject
        .user
        .as_ref()
        .is_some_and(|user| policy.users.contains(user));
    by_name || subject.groups.iter().any(|group| policy.groups.contains(group))
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
        Arc::new(Policy::Rules(config.access.unwrap().into()))
    }

    fn subject(policy: &Policy, user: &str) -> Subject {
        Subject {
            groups: policy.groups(user),
            circumstances: None,
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
