//! Somebody, with what bounds what they may do.

use std::sync::Arc;

use super::{
    Asked, Audience, Decision, Lacks, Login, Oversight, Right, Scope, StoreTimes, Via,
    circumstances::Circumstances,
    policy::{Policy, Subject},
};
use crate::{
    admission::{Grants, Identity, Visible},
    oci::{Action, Effect, RepoName, Route},
};

/// Somebody, with what bounds their rights.
#[derive(Clone)]
pub(super) struct Who {
    pub(super) subject: Subject,
    pub(super) rights: Rights,
    shown: Shown,
}

/// Whether somebody has shown anything.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    Nothing,
    /// A login, or a token for nobody.
    Something,
}

#[derive(Clone)]
pub(super) enum Rights {
    /// What the policies say.
    Policy {
        /// Within these, of a key; none is no bound.
        scopes: Vec<Scope>,
        /// And within what their token of ours was asked for, where they have one.
        asked: Option<Asked>,
    },
    /// What a token of somebody else's says.
    Token { grants: Grants, catalog: bool },
}

impl Who {
    pub(super) fn new(login: Option<Login>, policy: &Policy, circumstances: Option<Circumstances>) -> Self {
        let shown = match &login {
            None => Shown::Nothing,
            Some(_) => Shown::Something,
        };
        let (user, mut groups, via) = match login {
            None => (String::new(), Vec::new(), Via::Nobody),
            Some(Login { user, groups, via }) => (user, groups, via),
        };
        let within = |scopes, asked| Rights::Policy { scopes, asked };
        let (mut claims, mut lacking) = (None, Lacks::default());
        let rights = match via {
            Via::Workload { claims: said, .. } => {
                claims = said;
                within(Vec::new(), None)
            }
            Via::Nobody | Via::Password(_) | Via::Directory | Via::Certificate | Via::Session(_) => {
                within(Vec::new(), None)
            }
            Via::ApiKey(key) => within(key.scopes, None),
            Via::Issued {
                asked,
                scopes,
                claims: said,
                lacks,
            } => {
                (claims, lacking) = (said, lacks);
                within(scopes, Some(asked))
            }
            Via::Token { grants, catalog } => Rights::Token { grants, catalog },
        };
        let user = Some(user).filter(|user| !user.is_empty());
        groups.extend(user.iter().flat_map(|user| policy.groups(user)));
        Self {
            subject: Subject {
                user,
                groups,
                circumstances: circumstances.map(|these| Arc::new(these.with_claims(claims, lacking))),
            },
            rights,
            shown,
        }
    }

    pub(super) fn is_somebody(&self) -> bool {
        match self.rights {
            Rights::Token { .. } => true,
            Rights::Policy { .. } => self.subject.user.is_some(),
        }
    }

    /// Whether they have shown that they know how to get a token, if only one for nobody.
    pub(super) fn has_shown_something(&self) -> bool {
        self.shown == Shown::Something
    }

    /// Whether they may, with what they have shown.
    pub(super) fn may(&self, policy: &Policy, repository: &RepoName, action: Action) -> bool {
        self.may_where(repository, action, || {
            policy.allows(&self.subject, repository, action)
        })
    }

    /// The same, where `allows` says what the policies do.
    fn may_where(&self, repository: &RepoName, action: Action, allows: impl FnOnce() -> bool) -> bool {
        let is_asked_for = match &self.rights {
            Rights::Policy {
                asked: Some(asked), ..
            } => asked.grants.allows(repository, action),
            Rights::Policy { asked: None, .. } | Rights::Token { .. } => true,
        };
        is_asked_for && self.could_where(repository, action, allows)
    }

    /// Whether they might, with a token that was asked for more.
    pub(super) fn could(&self, policy: &Policy, repository: &RepoName, action: Action) -> bool {
        self.could_where(repository, action, || {
            policy.allows(&self.subject, repository, action)
        })
    }

    fn could_where(&self, repository: &RepoName, action: Action, allows: impl FnOnce() -> bool) -> bool {
        match &self.rights {
            Rights::Token { grants, .. } => grants.allows(repository, action),
            Rights::Policy { scopes, .. } => {
                let in_scope =
                    scopes.is_empty() || scopes.iter().any(|scope| scope.covers(repository, action));
                in_scope && allows()
            }
        }
    }

    /// What the condition says because of which they may not.
    pub(super) fn objection(
        &self,
        policy: &Policy,
        repository: &RepoName,
        action: Action,
    ) -> Option<Arc<str>> {
        match &self.rights {
            Rights::Token { .. } => None,
            Rights::Policy { .. } => policy.objection(&self.subject, repository, action),
        }
    }

    /// Whether their token wasn't asked for the catalogue.
    pub(super) fn lacks_catalog(&self) -> bool {
        match &self.rights {
            Rights::Policy { asked, .. } => asked.as_ref().is_some_and(|asked| !asked.catalog),
            Rights::Token { catalog, .. } => !catalog,
        }
    }

    /// What of the catalogue they see.
    pub(super) fn visible(&self, policy: &Arc<Policy>) -> Visible {
        match &self.rights {
            Rights::Token { catalog: true, .. } => Visible::Everything,
            Rights::Token { grants, .. } => {
                let grants = grants.clone();
                Visible::Those(Arc::new(move |repository| {
                    grants.allows(repository, Action::Read)
                }))
            }
            Rights::Policy { scopes, .. } if scopes.is_empty() => policy.visible(&self.subject),
            Rights::Policy { scopes, .. } => {
                let (scopes, visible) = (scopes.clone(), policy.visible(&self.subject));
                Visible::Those(Arc::new(move |repository| {
                    let in_scope = scopes.iter().any(|scope| scope.covers(repository, Action::Read));
                    in_scope && visible.includes(repository)
                }))
            }
        }
    }

    /// Whose content they may read: a token that shows the catalogue's names gives none of it.
    pub(super) fn readable(&self, policy: &Arc<Policy>) -> Visible {
        match &self.rights {
            Rights::Policy { asked: None, .. } => self.visible(policy),
            Rights::Policy { asked: Some(_), .. } | Rights::Token { .. } => Visible::Nothing,
        }
    }

    /// What a search may tell them of: names and content both, so no more than they could pull with what they have shown.
    pub(super) fn findable(&self, policy: &Arc<Policy>) -> Visible {
        match &self.rights {
            Rights::Policy { asked: None, .. } => self.visible(policy),
            Rights::Policy { asked: Some(_), .. } | Rights::Token { .. } => self.those(policy, Action::Read),
        }
    }

    /// What of it they may delete.
    pub(super) fn deletable(&self, policy: &Arc<Policy>) -> Visible {
        self.those(policy, Action::Delete)
    }

    /// Where they may move tags.
    pub(super) fn updatable(&self, policy: &Arc<Policy>) -> Visible {
        self.those(policy, Action::Update)
    }

    /// Where they may do something.
    fn those(&self, policy: &Arc<Policy>, action: Action) -> Visible {
        let (who, places) = (self.clone(), policy.places(&self.subject, action));
        Visible::Those(Arc::new(move |repository| {
            who.may_where(repository, action, || places(repository))
        }))
    }

    /// Whether they see the mesh: who may read its metrics, and administrators who read everything. An administrator's key with
    /// scopes, and a token, are for content.
    pub(super) fn oversight(&self, policy: &Policy) -> Oversight {
        let is_narrowed = match &self.rights {
            Rights::Policy { scopes, asked } => !scopes.is_empty() || asked.is_some(),
            Rights::Token { .. } => true,
        };
        let is_administrator = !is_narrowed && policy.is_administrators(&self.subject, Action::Read);
        match is_administrator || self.sees_metrics(policy) {
            true => Oversight::Mesh,
            false => Oversight::None,
        }
    }

    /// Whether they may read `/metrics`. No token of ours can be asked for that, so one says no more than nothing does.
    pub(super) fn sees_metrics(&self, policy: &Policy) -> bool {
        match &self.rights {
            Rights::Policy { asked: Some(_), .. } => policy.shows_metrics(&Subject::nobody()),
            Rights::Policy { asked: None, .. } | Rights::Token { .. } => policy.shows_metrics(&self.subject),
        }
    }

    /// Whether they may do this in every repository, whatever it is called. What was made for less, a key with scopes or a token, isn't
    /// for that.
    pub(super) fn may_everywhere(&self, policy: &Policy, action: Action) -> bool {
        match &self.rights {
            Rights::Policy { scopes, asked: None } if scopes.is_empty() => {
                policy.allows_everywhere(&self.subject, action)
            }
            Rights::Policy { .. } | Rights::Token { .. } => false,
        }
    }

    /// An upload or a mount may meet a blob that is stored for another repository.
    pub(super) fn times(&self, policy: &Arc<Policy>, route: &Route) -> StoreTimes {
        match route.effect() {
            Effect::Unsafe if !self.readable(policy).is_everything() => StoreTimes::Hidden,
            Effect::Unsafe | Effect::Safe => StoreTimes::Shown,
        }
    }

    pub(super) fn decision(self, grants: Grants) -> Decision {
        Decision {
            identity: Identity {
                user: self.subject.user,
                groups: self.subject.groups,
            },
            grants,
            audience: Audience::Some,
            times: StoreTimes::Hidden,
            challenges: Vec::new(),
            right: Right::None,
        }
    }
}
