//! The decision: who asks, by the authenticators in their order, and what they may do.
//!
//! The order is: a token, of the registry's own or else of the configured service or of a workload's issuer (`Authorization:
//! Bearer`, the last as a password, too); an API key, then a password of the file, then one that a directory knows
//! (`Authorization: Basic`); without `Authorization` a session's cookie, then a client's certificate; nobody. Whoever knows who it is
//! ends the search. Evidence that proves nobody is refused, even where somebody without any would be let through.

mod assembly;
mod routes;
mod upkeep;

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use tokio::{sync::Semaphore, time::sleep};

pub use self::assembly::GateSpec;
use super::{
    ApiKeys, AuthError, Authenticator, Caller, Credentials, Decision, Evidence, KeyMaker, KeysOf, Login,
    MadeBy, Origin, Oversight, Pages, Refusal, Right, Stay, Verdict, Via, Wanted,
    challenge::{self, Challenges, TokenFault, Told},
    circumstances::Circumstances,
    cookies::{self, Cookie, Jar},
    issued::{Issuer, keys::SigningKeys, revoked::Revocations},
    ldap::Directory,
    oidc::{People, Returned},
    pages,
    policy::Policy,
    robot,
    watched::Watched,
    who::{Rights, Who},
    workload::Workloads,
};
use crate::{
    admission::{Grants, Identity},
    oci::{Action, Route},
};

/// Decides about requests. Shared by everything that asks.
pub struct Gate {
    authenticators: Vec<Box<dyn Authenticator>>,
    api_keys: Option<Arc<ApiKeys>>,
    issuer: Option<Arc<Issuer>>,
    directory: Option<Arc<Directory>>,
    people: Option<Arc<People>>,
    /// What is signed here and what was revoked, where anything is.
    signed: Option<Signed>,
    jar: Jar,
    /// Where its own pages are.
    origin: Origin,
    workloads: Arc<Workloads>,
    challenges: Challenges,
    policy: PolicySource,
    fail_delay: Duration,
    delayed: Semaphore,
    look_every: Duration,
    key_uses_interval: Duration,
}

/// What tokens and sessions stand on.
#[derive(Clone)]
struct Signed {
    keys: Arc<SigningKeys>,
    /// API keys.
    revoked: Arc<Revocations>,
    /// Sessions.
    ended: Arc<Revocations>,
}

enum PolicySource {
    Fixed(Arc<Policy>),
    File(Watched<Policy>),
}

impl Gate {
    /// Who gives tokens of the registry's own; `None` when it gives none.
    pub fn issuer(&self) -> Option<&Arc<Issuer>> {
        self.issuer.as_ref()
    }

    /// Who logs in by a browser; `None` where nobody does.
    pub fn people(&self) -> Option<&Arc<People>> {
        self.people.as_ref()
    }

    /// Whether a request shows anything that could be somebody's, right or wrong, by which one could guess.
    pub fn is_shown_something(&self, headers: &HeaderMap) -> bool {
        let has_session =
            self.people.is_some() && !matches!(self.jar.get(headers, cookies::SESSION), Cookie::None);
        has_session || headers.contains_key(AUTHORIZATION)
    }

    /// Where users' keys are; `None` when they make none.
    pub fn api_keys(&self) -> Option<&Arc<ApiKeys>> {
        self.api_keys.as_ref()
    }

    /// Asks this one before all others.
    #[cfg(test)]
    pub(super) fn put_first(&mut self, authenticator: Box<dyn Authenticator>) {
        self.authenticators.insert(0, authenticator);
    }

    fn policy(&self) -> Arc<Policy> {
        match &self.policy {
            PolicySource::Fixed(policy) => policy.clone(),
            PolicySource::File(file) => file.current(),
        }
    }

    /// Who asks, and what they may do for what they want: the one place where everything that can be asked for gets its
    /// decision. What has none doesn't compile.
    ///
    /// # Errors
    /// [`Refusal`]: they may not, or nobody can tell.
    pub async fn decide(
        &self,
        caller: Caller<'_>,
        wanted: Wanted<'_>,
        taken_from: Pages,
    ) -> Result<Decision, Refusal> {
        // Before it is asked who they are: it would be who keeps the browser, who knows nothing of it.
        if taken_from == Pages::Own && pages::are_foreign(&self.origin, &caller) {
            return Err(AuthError::ForeignPage.into());
        }
        let told = self.challenges.told(&caller);
        match wanted {
            Wanted::Open => Ok(Decision::open()),
            Wanted::Route(route) => {
                let login = self
                    .login(&self.evidence(&caller), told, &challenge::scope(route))
                    .await?;
                let policy = self.policy();
                let who = Who::new(login, &policy, circumstances(&policy, &caller, Some(route)));
                let user = who.subject.user.clone();
                let (audience, times) = (policy.audience(route), who.times(&policy, route));
                let decision = self.of_route(&policy, told, who, route);
                decision
                    .map(|decision| Decision {
                        audience,
                        times,
                        ..decision
                    })
                    .map_err(|error| Refusal { user, error })
            }
            Wanted::Metrics => {
                let login = self.login(&self.evidence(&caller), told, "").await?;
                let policy = self.policy();
                let who = Who::new(login, &policy, circumstances(&policy, &caller, None));
                match who.sees_metrics(&policy) {
                    true => {
                        let mut grants = Grants::none();
                        grants.show(who.findable(&policy));
                        Ok(who.decision(grants))
                    }
                    false => Err(Refusal {
                        error: refused(told, &who, ""),
                        user: who.subject.user,
                    }),
                }
            }
            Wanted::Search => self.search(&caller, told, Oversight::None).await,
            Wanted::Mesh => self.search(&caller, told, Oversight::Mesh).await,
            Wanted::Everywhere(action) => self.everywhere(&caller, told, action).await,
            Wanted::Keys(of) => self.keys(&caller, told, of).await,
            Wanted::Token(shown) => self.token(&caller, told, shown).await,
            Wanted::Return(returned) => self.arrive(told, returned).await,
            Wanted::Leave => {
                let login = self.login(&self.evidence(&caller), told, "").await?;
                match login {
                    Some(Login {
                        user,
                        via: Via::Session(session),
                        ..
                    }) => Ok(Decision {
                        identity: Identity {
                            user: Some(user),
                            groups: Vec::new(),
                        },
                        right: Right::Leave(session),
                        ..Decision::open()
                    }),
                    Some(_) | None => Err(unauthenticated(told, "").into()),
                }
            }
        }
    }

    /// Who wants to do something in all repositories.
    async fn everywhere(
        &self,
        caller: &Caller<'_>,
        told: Told<'_>,
        action: Action,
    ) -> Result<Decision, Refusal> {
        let login = self.login(&self.evidence(caller), told, "").await?;
        let policy = self.policy();
        let who = Who::new(login, &policy, circumstances(&policy, caller, None));
        match who.may_everywhere(&policy, action) {
            true => Ok(who.decision(Grants::none())),
            false => Err(Refusal {
                error: refused(told, &who, ""),
                user: who.subject.user,
            }),
        }
    }

    /// Who wants to find what they may read, or to see the mesh.
    async fn search(
        &self,
        caller: &Caller<'_>,
        told: Told<'_>,
        needed: Oversight,
    ) -> Result<Decision, Refusal> {
        let login = self.login(&self.evidence(caller), told, "").await?;
        let stay = match login.as_ref().map(|login| &login.via) {
            Some(Via::Session(_)) => Stay::Session,
            Some(_) | None => Stay::Shown,
        };
        let policy = self.policy();
        let who = Who::new(login, &policy, circumstances(&policy, caller, None));
        let oversight = who.oversight(&policy);
        let is_let_in = match needed {
            Oversight::None => who.is_somebody() || policy.knows_anonymous(),
            Oversight::Mesh => oversight == Oversight::Mesh,
        };
        if !is_let_in {
            return Err(Refusal {
                error: refused(told, &who, ""),
                user: who.subject.user,
            });
        }
        let mut grants = Grants::none();
        grants.show(who.findable(&policy));
        Ok(Decision {
            right: Right::Search {
                deletable: who.deletable(&policy),
                updatable: who.updatable(&policy),
                oversight,
                stay,
            },
            ..who.decision(grants)
        })
    }

    /// Who comes back from an identity provider.
    async fn arrive(&self, told: Told<'_>, returned: &Returned) -> Result<Decision, Refusal> {
        let Some(people) = &self.people else {
            return Err(unauthenticated(told, "").into());
        };
        let arrived = match people.finish(returned).await {
            Ok(arrived) => arrived,
            Err(error) => {
                if matches!(&error, AuthError::Login(fault) if fault.is_the_clients()) {
                    self.delay().await?;
                }
                return Err(error.into());
            }
        };
        Ok(Decision {
            identity: Identity {
                user: Some(arrived.user.clone()),
                groups: arrived.groups.clone(),
            },
            right: Right::Arrive(Box::new(arrived)),
            ..Decision::open()
        })
    }

    /// Who wants to see or change API keys.
    async fn keys(&self, caller: &Caller<'_>, told: Told<'_>, of: KeysOf) -> Result<Decision, Refusal> {
        let login = self.login(&self.evidence(caller), told, "").await?;
        let login = login.filter(|login| !matches!(login.via, Via::Nobody));
        let Some(Login { user, groups, via }) = &login else {
            return Err(unauthenticated(told, "").into());
        };
        let maker = |by| KeyMaker {
            user: user.clone(),
            by,
            groups: groups.clone(),
        };
        let maker = match via {
            Via::Password(_) => Some(maker(MadeBy::Password)),
            Via::Directory => Some(maker(MadeBy::Directory)),
            Via::Certificate => Some(maker(MadeBy::Certificate)),
            Via::Session(_) => Some(maker(MadeBy::Provider)),
            // A key that could make keys would outlive its own end and its scopes.
            Via::Nobody | Via::Workload { .. } | Via::ApiKey(_) | Via::Issued { .. } | Via::Token { .. } => {
                None
            }
        };
        let policy = self.policy();
        let who = Who::new(login, &policy, circumstances(&policy, caller, None));
        let may = match of {
            KeysOf::Oneself => true,
            KeysOf::Others(action) => policy.is_administrators(&who.subject, action),
            KeysOf::Robots => Action::ALL
                .into_iter()
                .all(|action| policy.is_administrators(&who.subject, action)),
        };
        match maker.filter(|_| may) {
            Some(maker) => Ok(Decision {
                right: Right::Keys(maker),
                ..who.decision(Grants::none())
            }),
            None => Err(Refusal {
                user: who.subject.user,
                error: AuthError::Denied,
            }),
        }
    }

    /// Who shows these credentials, or else a certificate, or is nobody, and wants a token.
    async fn token(
        &self,
        caller: &Caller<'_>,
        told: Told<'_>,
        shown: &Credentials,
    ) -> Result<Decision, Refusal> {
        if self.issuer.is_none() {
            return Err(AuthError::Denied.into());
        }
        // A token for one of ours would have no end; one of a workload's has its own.
        if matches!(shown, Credentials::Bearer(token) if !self.workloads.have_issued(token)) {
            return Err(AuthError::Unauthenticated(told.passwords()).into());
        }
        let evidence = Evidence {
            credentials: shown.clone(),
            // A browser has no use for a token.
            session: Cookie::None,
            certificates: caller.certificates,
        };
        let login = self
            .login(&evidence, told, "")
            .await
            .map_err(|error| match error {
                AuthError::Unauthenticated(_) => AuthError::Unauthenticated(told.passwords()),
                error => error,
            })?;
        let login = login.map(|login| self.without_claims(login));
        let user = login.as_ref().map(|login| login.user.clone());
        Ok(Decision {
            identity: Identity {
                user: user.filter(|user| !user.is_empty()),
                groups: Vec::new(),
            },
            right: Right::Token(login),
            ..Decision::open()
        })
    }

    /// The same, which a token is given for: what a workload's token says is in it only where conditions may ask for that.
    fn without_claims(&self, mut login: Login) -> Login {
        match &mut login.via {
            Via::Workload { claims, .. } if !self.policy().may_ask_claims() => *claims = None,
            _ => {}
        }
        login
    }

    /// Who it is; `None` is somebody who has shown nothing, and could get a token for `scope`.
    async fn login(
        &self,
        evidence: &Evidence<'_>,
        told: Told<'_>,
        scope: &str,
    ) -> Result<Option<Login>, AuthError> {
        // Where nobody can log in, what somebody shows has no meaning.
        if self.authenticators.is_empty() {
            return Ok(None);
        }
        let mut is_refused = evidence.credentials != Credentials::None;
        for authenticator in &self.authenticators {
            match authenticator.authenticate(evidence).await? {
                Verdict::Known(login) if robot::may_be_called(&login.user, &login.via) => {
                    return Ok(Some(login));
                }
                Verdict::Known(login) => {
                    tracing::warn!(user = login.user, "somebody has a robot's name, and is refused");
                    is_refused = true;
                    break;
                }
                Verdict::Refused => is_refused = true,
                Verdict::NotMine => {}
            }
        }
        if !is_refused {
            return Ok(None);
        }
        self.delay().await?;
        let of_token = match evidence.credentials {
            Credentials::Bearer(_) => told.bearer(scope, Some(TokenFault::Invalid)),
            Credentials::None | Credentials::Basic { .. } | Credentials::Malformed => None,
        };
        let challenges = match of_token {
            Some(challenge) => vec![challenge],
            None => told.all(scope),
        };
        Err(AuthError::Unauthenticated(challenges))
    }

    /// Makes guessing slow. Not more wait at a time than there is room for, or waiting would cost us more than them.
    async fn delay(&self) -> Result<(), AuthError> {
        if !self.fail_delay.is_zero() {
            let _place = self.delayed.try_acquire().map_err(|_| AuthError::Busy)?;
            sleep(self.fail_delay).await;
        }
        Ok(())
    }

    fn evidence<'a>(&self, caller: &Caller<'a>) -> Evidence<'a> {
        Evidence {
            credentials: Credentials::of(caller.headers),
            session: self.jar.session(caller.headers),
            certificates: caller.certificates,
        }
    }
}

/// What conditions may ask about, where there are any.
fn circumstances(policy: &Policy, caller: &Caller<'_>, route: Option<&Route>) -> Option<Circumstances> {
    policy.has_conditions().then(|| Circumstances::of(caller, route))
}

/// Somebody may not: who hasn't logged in is asked to, who has a token to get a better one.
fn refused(told: Told<'_>, who: &Who, scope: &str) -> AuthError {
    let has_token = match &who.rights {
        Rights::Token { .. } => true,
        Rights::Policy { asked, .. } => asked.is_some() && !scope.is_empty(),
    };
    match (has_token, who.is_somebody()) {
        (true, _) => {
            let challenge = told.bearer(scope, Some(TokenFault::InsufficientScope));
            AuthError::Unauthenticated(challenge.into_iter().collect())
        }
        (false, true) => AuthError::Denied,
        (false, false) => unauthenticated(told, scope),
    }
}

fn unauthenticated(told: Told<'_>, scope: &str) -> AuthError {
    let challenges: Vec<HeaderValue> = told.all(scope);
    match challenges.is_empty() {
        // There is no way to log in.
        true => AuthError::Denied,
        false => AuthError::Unauthenticated(challenges),
    }
}
