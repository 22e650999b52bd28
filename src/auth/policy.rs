//! Who may do what, by the configured policies: zot's meaning.
//!
//! Of the patterns that match a repository's name the longest counts, alone. There, all policies that name the user or
//! one of their groups count together, and `defaultPolicy` for everybody who has logged in, or `anonymousPolicy` for who
//! hasn't. `adminPolicy` adds to that, everywhere. A policy counts where all of its conditions hold of the request.

use std::{
    cell::OnceCell,
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    Audience,
    circumstances::{About, Circumstances, Fields, Question},
};
use crate::{
    admission::Visible,
    config::{
        AccessControl,
        access::{Condition, Policy as Allowed, Rule},
        expression::Binding,
    },
    oci::{Action, RepoName, Route},
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
    Rules(Box<Rules>),
}

/// What is configured.
#[derive(Debug)]
pub(super) struct Rules {
    access: AccessControl,
    complained: Mutex<Option<Instant>>,
    /// How often a condition was asked.
    #[cfg(test)]
    asked: std::sync::atomic::AtomicUsize,
    /// How often what they are asked with was put together.
    #[cfg(test)]
    bound: std::sync::atomic::AtomicUsize,
}

impl From<AccessControl> for Policy {
    fn from(access: AccessControl) -> Self {
        Self::Rules(Box::new(Rules {
            access,
            complained: Mutex::new(None),
            #[cfg(test)]
            asked: Default::default(),
            #[cfg(test)]
            bound: Default::default(),
        }))
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

/// Whether conditions hold for an action with one manifest, in one repository after another: what depends on no repository is found
/// out once.
struct Inquiry {
    action: Action,
    about: About,
    fields: OnceLock<Result<Fields, String>>,
    /// Of conditions that can't ask for the repository, by their texts.
    held: Mutex<HashMap<String, bool>>,
}

/// An inquiry in one repository; in `None` it is about all of them.
struct Place<'a> {
    inquiry: &'a Inquiry,
    repository: Option<&'a RepoName>,
    /// What conditions are asked with, once one is.
    bindings: OnceCell<[Binding; 1]>,
}

/// What is made of conditions.
enum Conditions<'a> {
    /// They are asked.
    Asked(Place<'a>),
    /// They may hold.
    MayHold,
    /// They may not.
    MayNot,
}

impl Inquiry {
    fn new(action: Action, about: About) -> Self {
        Self {
            action,
            about,
            fields: OnceLock::new(),
            held: Mutex::default(),
        }
    }

    fn of<'a>(&'a self, repository: Option<&'a RepoName>) -> Place<'a> {
        Place {
            inquiry: self,
            repository,
            bindings: OnceCell::new(),
        }
    }
}

/// One for each manifest that is asked for, or one about none.
fn inquiries(subject: &Subject, action: Action) -> Vec<Inquiry> {
    let circumstances = subject.circumstances.as_ref();
    let about = circumstances.map_or_else(|| vec![About::None], |these| these.about());
    about
        .into_iter()
        .map(|about| Inquiry::new(action, about))
        .collect()
}

impl Policy {
    /// The groups of a user.
    pub(super) fn groups(&self, user: &str) -> Vec<String> {
        match self {
            Self::Everybody | Self::Users => Vec::new(),
            Self::Rules(rules) => rules
                .access
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
            Self::Rules(rules) => rules.access.rules.iter().any(|rule| !rule.anonymous.is_empty()),
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
            Self::Rules(rules) => Some(&rules.access),
        };
        let policies = access.into_iter().flat_map(|access| {
            let policies = access.rules.iter().flat_map(|rule| &rule.policies);
            policies.chain(&access.admin)
        });
        policies.flat_map(|policy| &policy.conditions)
    }

    /// Whether `subject` may do `action` in `repository`: with each manifest that they ask for.
    pub(super) fn allows(&self, subject: &Subject, repository: &RepoName, action: Action) -> bool {
        self.allows_by(&inquiries(subject, action), subject, repository, action)
    }

    /// The same, in one repository after another.
    pub(super) fn places(
        self: &Arc<Self>,
        subject: &Subject,
        action: Action,
    ) -> impl Fn(&RepoName) -> bool + Send + Sync + 'static {
        let (policy, subject, inquiries) = (self.clone(), subject.clone(), inquiries(subject, action));
        move |repository| policy.allows_by(&inquiries, &subject, repository, action)
    }

    fn allows_by(
        &self,
        inquiries: &[Inquiry],
        subject: &Subject,
        repository: &RepoName,
        action: Action,
    ) -> bool {
        match self {
            Self::Everybody => true,
            Self::Users => subject.user.is_some(),
            Self::Rules(rules) => {
                let rule = rules.of(repository);
                inquiries.iter().all(|inquiry| {
                    let asked = Conditions::Asked(inquiry.of(Some(repository)));
                    rule.is_some_and(|rule| rules.allow(rule, subject, action, &asked))
                        || rules.allow_admin(subject, action, &asked)
                })
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
        let (Self::Rules(rules), Some(_)) = (self, &subject.circumstances) else {
            return None;
        };
        let policies = rules.of(repository).into_iter().flat_map(|rule| &rule.policies);
        let policies = policies.chain(&rules.access.admin);
        let inquiries = inquiries(subject, action);
        let inquiries = inquiries.iter().map(|inquiry| inquiry.of(Some(repository)));
        let places: Vec<Place<'_>> = inquiries.collect();
        policies
            .filter(|policy| is_for(policy, subject, action))
            .flat_map(|policy| &policy.conditions)
            .find(|condition| !places.iter().all(|place| rules.holds(condition, subject, place)))
            .and_then(|condition| condition.message.clone())
    }

    /// Whether `subject` may do `action` everywhere, as an administrator.
    pub(super) fn is_administrators(&self, subject: &Subject, action: Action) -> bool {
        match self {
            Self::Everybody | Self::Users => false,
            Self::Rules(rules) => {
                let inquiry = Inquiry::new(action, About::None);
                rules.allow_admin(subject, action, &Conditions::Asked(inquiry.of(None)))
            }
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
        Visible::Those(Arc::new(self.places(subject, Action::Read)))
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
                    all.all(|rule| rules.allow(rule, subject, Action::Read, &Conditions::MayNot))
                };
                rules.allow_admin(subject, Action::Read, &Conditions::MayNot) || (covers && all_allow())
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
                    all.any(|rule| rules.allow(rule, subject, Action::Read, &Conditions::MayHold));
                !any_allows && !rules.allow_admin(subject, Action::Read, &Conditions::MayHold)
            }
        }
    }

    /// Whether `subject` may read `/metrics`.
    pub(super) fn shows_metrics(&self, subject: &Subject) -> bool {
        match self {
            Self::Everybody => true,
            Self::Users => subject.user.is_some(),
            Self::Rules(rules) => {
                let metrics = &rules.access.metrics;
                let named = |user| metrics.users.contains(user);
                metrics.anybody || subject.user.as_ref().is_some_and(named)
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

    fn allow(&self, rule: &Rule, subject: &Subject, action: Action, conditions: &Conditions<'_>) -> bool {
        if subject.user.is_none() {
            return rule.anonymous.contains(&action);
        }
        let mut policies = rule.policies.iter();
        rule.default.contains(&action)
            || policies.any(|policy| self.counts(policy, subject, action, conditions))
    }

    fn allow_admin(&self, subject: &Subject, action: Action, conditions: &Conditions<'_>) -> bool {
        let admin = self.access.admin.as_ref();
        admin.is_some_and(|admin| self.counts(admin, subject, action, conditions))
    }

    fn counts(
        &self,
        policy: &Allowed,
        subject: &Subject,
        action: Action,
        conditions: &Conditions<'_>,
    ) -> bool {
        is_for(policy, subject, action)
            && match conditions {
                Conditions::MayHold => true,
                Conditions::MayNot => policy.conditions.is_empty(),
                Conditions::Asked(place) => {
                    let mut all = policy.conditions.iter();
                    all.all(|condition| self.holds(condition, subject, place))
                }
            }
    }

    /// Whether a condition holds; one that can't be asked doesn't.
    fn holds(&self, condition: &Condition, subject: &Subject, place: &Place<'_>) -> bool {
        let inquiry = place.inquiry;
        let is_untold = match inquiry.about {
            About::Untold => condition.may_ask_manifest(),
            // What is about all repositories isn't granted by what holds of some.
            About::None | About::This(_) if place.repository.is_none() => {
                condition.may_ask_repository() || condition.may_ask_manifest()
            }
            About::None | About::This(_) => false,
        };
        if is_untold {
            return false;
        }
        if condition.may_ask_repository() {
            return self.ask(condition, subject, place);
        }
        let text = condition.expression.as_str();
        let known = inquiry.held.lock().get(text).copied();
        known.unwrap_or_else(|| {
            let holds = self.ask(condition, subject, place);
            inquiry.held.lock().insert(text.to_owned(), holds);
            holds
        })
    }

    fn ask(&self, condition: &Condition, subject: &Subject, place: &Place<'_>) -> bool {
        let inquiry = place.inquiry;
        let Some(circumstances) = &subject.circumstances else {
            return false;
        };
        let fields = inquiry.fields.get_or_init(|| {
            let admin = self.access.admin.as_ref();
            circumstances.fields(&Question {
                action: inquiry.action,
                about: &inquiry.about,
                user: subject.user.as_deref().unwrap_or_default(),
                groups: &subject.groups,
                is_admin: admin.is_some_and(|admin| is_named(admin, subject)),
            })
        });
        let held = match (fields, circumstances.lacks_for(condition)) {
            (Err(problem), _) => Err(problem.clone()),
            (Ok(_), Some(what)) => Err(format!("a token of ours doesn't say all {what}")),
            (Ok(fields), None) => {
                #[cfg(test)]
                self.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let bindings = place.bindings.get_or_init(|| {
                    #[cfg(test)]
                    self.bound.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    fields.of(place.repository)
                });
                condition.expression.holds(bindings)
            }
        };
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
mod tests;
