//! The decision: who asks, by the authenticators in their order, and what they may do.
//!
//! The order is: a token, of the registry's own or else of the configured service or of a workload's issuer (`Authorization:
//! Bearer`, the last as a password, too); an API key, then a password of the file, then one that a directory knows
//! (`Authorization: Basic`); without `Authorization` a session's cookie, then a client's certificate; nobody. Whoever knows who it is
//! ends the search. Evidence that proves nobody is refused, even where somebody without any would be let through.

mod assembly;

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use tokio::{
    sync::Semaphore,
    time::{MissedTickBehavior, interval, sleep},
};

pub use self::assembly::GateSpec;
use super::{
    ApiKeys, AuthError, Authenticator, Caller, Credentials, Decision, Evidence, KeyMaker, KeysOf, Login,
    MadeBy, Oversight, Refusal, Right, SessionCookie, Stay, Verdict, Via, Wanted,
    challenge::{self, Challenges, TokenFault, Told},
    circumstances::Circumstances,
    cookies::{self, Jar},
    issued::{Issuer, keys::SigningKeys, revoked::Revocations},
    ldap::Directory,
    oidc::{Misconfigured, People, Returned},
    policy::Policy,
    robot,
    watched::Watched,
    who::{Rights, Who},
    workload::Workloads,
};
use crate::{
    admission::{Grants, Identity, Visible},
    net::Drain,
    oci::{Action, Permission, Route},
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
            self.people.is_some() && !matches!(self.jar.get(headers, cookies::SESSION), cookies::Found::None);
        has_session || headers.contains_key(AUTHORIZATION)
    }

    /// Finds out whether a way to log in is configured so that it can't work; what can't be asked just now may be later.
    ///
    /// # Errors
    /// [`Misconfigured`].
    pub async fn check(&self) -> Result<(), Misconfigured> {
        match &self.people {
            Some(people) => people.check().await,
            None => Ok(()),
        }
    }

    /// Ways to log in that don't work just now, and why. All others do.
    pub fn troubles(&self) -> Vec<String> {
        let directory = self.directory.as_ref().and_then(|directory| directory.trouble());
        let directory = directory.map(|reason| format!("nobody can log in by http.auth.ldap: {reason}"));
        let providers = self.people.iter().flat_map(|people| people.troubles());
        let workloads = self.workloads.troubles();
        let workloads = workloads
            .map(|reason| format!("workloads may not be able to log in by http.auth.bearer.oidc: {reason}"));
        directory.into_iter().chain(providers).chain(workloads).collect()
    }

    /// Learns what was revoked at other members, and what those who are asked about logins say, until `drain` begins. Each of
    /// them has a task of its own: one that ends takes no other along.
    pub fn follow(self: &Arc<Self>, drain: &Drain) {
        if let Some(signed) = &self.signed {
            let Signed { keys, revoked, ended } = signed.clone();
            until(drain, "keys of tokens", async move { keys.sweep().await });
            until(drain, "revoked keys", async move { revoked.follow().await });
            until(drain, "ended sessions", async move { ended.follow().await });
        }
        if let Some(keys) = self.api_keys.clone() {
            let (interval, end) = (self.key_uses_interval, drain.token());
            drain.spawn(
                "uses of API keys",
                async move { keys.write_uses(interval, end).await },
            );
        }
        if let Some(directory) = self.directory.clone() {
            until(drain, "directory", async move { directory.follow().await });
        }
        let providers = self.people.iter().flat_map(|people| people.issuers());
        for provider in providers.chain(self.workloads.issuers()) {
            until(drain, "identity provider", async move { provider.follow().await });
        }
    }

    /// Where users' keys are; `None` when they make none.
    pub fn api_keys(&self) -> Option<&Arc<ApiKeys>> {
        self.api_keys.as_ref()
    }

    /// Reads files that have changed, every few seconds, until `drain` begins.
    pub async fn watch(self: Arc<Self>, drain: Drain) {
        let mut ticks = interval(self.look_every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = drain.begun() => return,
            }
            let gate = self.clone();
            let looked = tokio::task::spawn_blocking(move || gate.look()).await;
            if looked.is_err() {
                tracing::error!("reading changed files panicked");
            }
        }
    }

    /// Asks this one before all others.
    #[cfg(test)]
    pub(super) fn put_first(&mut self, authenticator: Box<dyn Authenticator>) {
        self.authenticators.insert(0, authenticator);
    }

    /// Reads files again that have changed. May block.
    pub(super) fn look(&self) {
        for authenticator in &self.authenticators {
            authenticator.look();
        }
        match &self.policy {
            PolicySource::Fixed(_) => {}
            PolicySource::File(file) => file.look(),
        }
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
    pub async fn decide(&self, caller: Caller<'_>, wanted: Wanted<'_>) -> Result<Decision, Refusal> {
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
                let decision = self.route(&policy, told, who, route);
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
                let who = Who::new(login, &policy, None);
                match who.sees_metrics(&policy) {
                    true => Ok(who.decision(Grants::none())),
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
            session: SessionCookie::None,
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
            session: self.jar.session(caller),
            certificates: caller.certificates,
        }
    }

    /// The decision about each route.
    fn route(
        &self,
        policy: &Arc<Policy>,
        told: Told<'_>,
        who: Who,
        route: &Route,
    ) -> Result<Decision, AuthError> {
        match route {
            Route::ApiVersion => {
                // This is where clients look how to log in. Where nobody gets a token, too, everybody is told to get one:
                // what needs none stays open to who comes without.
                let may_come_as_nobody =
                    policy.knows_anonymous() && (self.issuer.is_none() || who.has_shown_something());
                if !who.is_somebody() && !may_come_as_nobody {
                    return Err(unauthenticated(told, ""));
                }
                // Also to who needs no login here, since some client might have one for elsewhere.
                let mut decision = who.decision(Grants::none());
                decision.challenges = told.all("");
                Ok(decision)
            }
            Route::Catalog { .. } | Route::Run { .. } => {
                let scope = challenge::scope(route);
                if who.lacks_catalog() || (!who.is_somebody() && !policy.knows_anonymous()) {
                    return Err(refused(told, &who, &scope));
                }
                let mut grants = Grants::none();
                grants.show(who.visible(policy));
                Ok(who.decision(grants))
            }
            Route::ListTags { .. }
            | Route::GetManifest { .. }
            | Route::HeadManifest { .. }
            | Route::PutManifest { .. }
            | Route::DeleteManifest { .. }
            | Route::GetBlob { .. }
            | Route::HeadBlob { .. }
            | Route::DeleteBlob { .. }
            | Route::StartUpload { .. }
            | Route::PushBlob { .. }
            | Route::UploadStatus { .. }
            | Route::UploadChunk { .. }
            | Route::FinishUpload { .. }
            | Route::CancelUpload { .. }
            | Route::Referrers { .. }
            | Route::TagHistory { .. }
            | Route::ManifestAt { .. }
            | Route::Changes { .. }
            | Route::Restore { .. }
            | Route::MountBlob { from: Some(_), .. } => {
                repositories(policy, told, who, route, Visible::Nothing)
            }
            // It may come from any repository, so it is for who may read them all.
            Route::MountBlob { from: None, .. } => {
                let readable = who.readable(policy);
                repositories(policy, told, who, route, readable)
            }
        }
    }
}

/// What conditions may ask about, where there are any.
fn circumstances(policy: &Policy, caller: &Caller<'_>, route: Option<&Route>) -> Option<Circumstances> {
    policy.has_conditions().then(|| Circumstances::of(caller, route))
}

/// Goes on in the background until `drain` begins.
fn until(drain: &Drain, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
    let begun = drain.token();
    drain.spawn(name, async move {
        let _ = begun.run_until_cancelled(work).await;
    });
}

/// What may be done in the repositories that a route names.
fn repositories(
    policy: &Arc<Policy>,
    told: Told<'_>,
    who: Who,
    route: &Route,
    visible: Visible,
) -> Result<Decision, AuthError> {
    let mut grants = Grants::none();
    for Permission { repository, need } in route.permissions() {
        let may = |action: &Action| who.may(policy, &repository, *action);
        let allowed: Vec<Action> = need.actions().iter().copied().filter(may).collect();
        if need.refuses(|action| allowed.contains(&action)) {
            // Who has a token of ours and wouldn't be let through by a better one needn't get that.
            let is_lost = need.refuses(|action| who.could(policy, &repository, action));
            let error = match &who.rights {
                Rights::Policy { .. } if is_lost && who.is_somebody() => AuthError::Denied,
                Rights::Policy { .. } | Rights::Token { .. } => refused(told, &who, &challenge::scope(route)),
            };
            let mut objections = need
                .actions()
                .iter()
                .filter_map(|action| who.objection(policy, &repository, *action));
            return Err(match error {
                AuthError::Denied => objections.next().map_or(error, AuthError::Condition),
                error => error,
            });
        }
        grants.grant(repository, allowed);
    }
    grants.show(visible);
    Ok(who.decision(grants))
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
