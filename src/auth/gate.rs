//! The decision: who asks, by the authenticators in their order, and what they may do.
//!
//! The order is: a token (`Authorization: Bearer`); an API key, then a password (`Authorization: Basic`); a client's
//! certificate (without `Authorization`); nobody. Whoever knows who it is ends the search. Evidence that proves nobody
//! is refused, even where somebody without any would be let through.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::HeaderValue;
use tokio::{
    sync::Semaphore,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    ApiKeys, Audience, AuthError, Authenticator, Caller, Credentials, Decision, Evidence, FileFault,
    KeyMaker, Login, MadeBy, Refusal, Scope, StoreTimes, Verdict, Via, Wanted,
    api_keys::KeyLogins,
    bearer::Tokens,
    certificate::Certificates,
    challenge::{self, Challenges, TokenFault},
    hashing::HashingLimits,
    htpasswd::Htpasswd,
    policy::{Policy, Subject},
    watched::Watched,
};
use crate::{
    admission::{Grants, Identity, Visible},
    config::{self, AccessControl, Config, Limits, Logins, access},
    net::Drain,
    oci::{Action, Effect, Permission, Route},
    storage::MetaStore,
};

/// What a gate is made of.
#[derive(Clone, Debug, Default)]
pub struct GateSpec {
    /// The ways to log in.
    pub logins: Logins,
    /// Who may do what.
    pub access: Option<AccessControl>,
    /// The configuration's file, whose `accessControl` is read again when it changes.
    pub source: Option<std::path::PathBuf>,
}

impl From<&Config> for GateSpec {
    fn from(config: &Config) -> Self {
        Self {
            logins: config.logins.clone(),
            access: config.access.clone(),
            source: config.source.clone(),
        }
    }
}

/// Whose API keys somebody wants to see or change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeysOf {
    /// Their own.
    Oneself,
    /// Others', which takes an administrator who may do this everywhere: to list them takes `read`, to revoke one `delete`.
    Others(Action),
}

/// Decides about requests. Shared by everything that asks.
pub struct Gate {
    authenticators: Vec<Box<dyn Authenticator>>,
    api_keys: Option<Arc<ApiKeys>>,
    challenges: Challenges,
    policy: PolicySource,
    fail_delay: Duration,
    delayed: Semaphore,
    look_every: Duration,
}

enum PolicySource {
    Fixed(Arc<Policy>),
    File(Watched<Policy>),
}

impl Gate {
    /// Reads all files for the first time. Keys are in `meta`.
    ///
    /// # Errors
    /// [`FileFault`], naming the file that can't be used.
    pub fn new(spec: GateSpec, meta: Arc<dyn MetaStore>, limits: &Limits) -> Result<Self, FileFault> {
        let GateSpec {
            logins,
            access,
            source,
        } = spec;
        let api_keys = match logins.api_keys {
            access::ApiKeys::On => Some(Arc::new(ApiKeys::new(meta, limits.api_keys_per_user))),
            access::ApiKeys::Off => None,
        };
        let challenges = Challenges::new(&logins);
        let policy = match source {
            Some(file) => PolicySource::File(policy_of(&file, access.is_some(), logins.exist())?),
            None => PolicySource::Fixed(Arc::new(policy(access, logins.exist()))),
        };
        let fail_delay = logins.fail_delay;
        Ok(Self {
            authenticators: authenticators(logins, api_keys.as_ref(), limits)?,
            api_keys,
            challenges,
            policy,
            fail_delay,
            delayed: Semaphore::new(limits.failed_logins_delayed),
            look_every: limits.file_check_interval,
        })
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

    /// Who asks, and what they may do for what they want.
    ///
    /// # Errors
    /// [`Refusal`]: they may not, or nobody can tell.
    pub async fn decide(&self, caller: Caller<'_>, wanted: Wanted<'_>) -> Result<Decision, Refusal> {
        let scope = match wanted {
            Wanted::Route(route) => challenge::scope(route),
            Wanted::Metrics => String::new(),
        };
        let login = self.login(caller, &scope).await;
        let login = login.map_err(|error| Refusal { user: None, error })?;
        let policy = self.policy();
        let who = Who::new(login, &policy);
        let user = who.subject.user.clone();
        let decision = match wanted {
            Wanted::Route(route) => {
                let (audience, times) = (policy.audience(route), who.times(&policy, route));
                self.route(&policy, who, route).map(|decision| Decision {
                    audience,
                    times,
                    ..decision
                })
            }
            Wanted::Metrics if policy.shows_metrics(&who.subject) => Ok(who.decision(Grants::none())),
            Wanted::Metrics => Err(self.refused(&who, "")),
        };
        decision.map_err(|error| Refusal { user, error })
    }

    /// Who wants to see or change API keys.
    ///
    /// # Errors
    /// [`Refusal`]: they may not, or nobody can tell.
    pub async fn decide_keys(&self, caller: Caller<'_>, of: KeysOf) -> Result<KeyMaker, Refusal> {
        let login = self.login(caller, "").await;
        let login = login.map_err(|error| Refusal { user: None, error })?;
        let Some(Login { user, via, .. }) = &login else {
            let error = self.unauthenticated("");
            return Err(Refusal { user: None, error });
        };
        let maker = |by| KeyMaker {
            user: user.clone(),
            by,
        };
        let maker = match via {
            Via::Password => Some(maker(MadeBy::Password)),
            Via::Certificate => Some(maker(MadeBy::Certificate)),
            // A key that could make keys would outlive its own end and its scopes.
            Via::ApiKey(_) | Via::Token { .. } => None,
        };
        let policy = self.policy();
        let who = Who::new(login, &policy);
        let may = match of {
            KeysOf::Oneself => true,
            KeysOf::Others(action) => policy.is_administrators(&who.subject, action),
        };
        maker.filter(|_| may).ok_or(Refusal {
            user: who.subject.user,
            error: AuthError::Denied,
        })
    }

    /// Who it is; `None` is somebody who hasn't logged in, and could get a token for `scope`.
    async fn login(&self, caller: Caller<'_>, scope: &str) -> Result<Option<Login>, AuthError> {
        let evidence = Evidence {
            credentials: Credentials::of(caller.headers),
            certificates: caller.certificates,
        };
        // Where nobody can log in, what somebody shows has no meaning.
        if self.authenticators.is_empty() {
            return Ok(None);
        }
        let mut is_refused = evidence.credentials != Credentials::None;
        for authenticator in &self.authenticators {
            match authenticator.authenticate(&evidence).await? {
                Verdict::Known(login) => return Ok(Some(login)),
                Verdict::Refused => is_refused = true,
                Verdict::NotMine => {}
            }
        }
        if !is_refused {
            return Ok(None);
        }
        self.delay().await?;
        let of_token = match evidence.credentials {
            Credentials::Bearer(_) => self.challenges.bearer(scope, Some(TokenFault::Invalid)),
            Credentials::None | Credentials::Basic { .. } | Credentials::Malformed => None,
        };
        let challenges = match of_token {
            Some(challenge) => vec![challenge],
            None => self.challenges.all(scope),
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

    /// The one place where each route gets its decision. One that has none doesn't compile.
    fn route(&self, policy: &Arc<Policy>, who: Who, route: &Route) -> Result<Decision, AuthError> {
        match route {
            Route::ApiVersion => {
                if !who.is_somebody() && !policy.knows_anonymous() {
                    return Err(self.unauthenticated(""));
                }
                // Also to who needs no login here, since some client might have one for elsewhere.
                let mut decision = who.decision(Grants::none());
                decision.challenges = self.challenges.all("");
                Ok(decision)
            }
            Route::Catalog { .. } => {
                let scope = challenge::scope(route);
                let lacks_scope = matches!(who.rights, Rights::Token { catalog: false, .. });
                if lacks_scope || (!who.is_somebody() && !policy.knows_anonymous()) {
                    return Err(self.refused(&who, &scope));
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
            | Route::MountBlob { from: Some(_), .. } => {
                self.repositories(policy, who, route, Visible::Nothing)
            }
            // It may come from any repository, so it is for who may read them all.
            Route::MountBlob { from: None, .. } => {
                let visible = match who.rights {
                    Rights::Policy(_) => who.visible(policy),
                    // One that shows the catalogue's names gives none of their content.
                    Rights::Token { .. } => Visible::Nothing,
                };
                self.repositories(policy, who, route, visible)
            }
        }
    }

    /// What may be done in the repositories that a route names.
    fn repositories(
        &self,
        policy: &Arc<Policy>,
        who: Who,
        route: &Route,
        visible: Visible,
    ) -> Result<Decision, AuthError> {
        let mut grants = Grants::none();
        for Permission { repository, need } in route.permissions() {
            let may = |action: &Action| who.may(policy, &repository, *action);
            let allowed: Vec<Action> = need.actions().iter().copied().filter(may).collect();
            if need.refuses(|action| allowed.contains(&action)) {
                return Err(self.refused(&who, &challenge::scope(route)));
            }
            grants.grant(repository, allowed);
        }
        grants.show(visible);
        Ok(who.decision(grants))
    }

    /// Somebody may not: who hasn't logged in is asked to, who has a token to get a better one.
    fn refused(&self, who: &Who, scope: &str) -> AuthError {
        match &who.rights {
            Rights::Token { .. } => {
                let challenge = self.challenges.bearer(scope, Some(TokenFault::InsufficientScope));
                AuthError::Unauthenticated(challenge.into_iter().collect())
            }
            Rights::Policy(_) if who.is_somebody() => AuthError::Denied,
            Rights::Policy(_) => self.unauthenticated(scope),
        }
    }

    fn unauthenticated(&self, scope: &str) -> AuthError {
        let challenges: Vec<HeaderValue> = self.challenges.all(scope);
        match challenges.is_empty() {
            // There is no way to log in.
            true => AuthError::Denied,
            false => AuthError::Unauthenticated(challenges),
        }
    }
}

fn authenticators(
    logins: Logins,
    api_keys: Option<&Arc<ApiKeys>>,
    limits: &Limits,
) -> Result<Vec<Box<dyn Authenticator>>, FileFault> {
    let mut authenticators: Vec<Box<dyn Authenticator>> = Vec::new();
    if let Some(bearer) = &logins.bearer {
        authenticators.push(Box::new(Tokens::load(bearer)?));
    }
    let passwords = match &logins.htpasswd {
        Some(file) => Some(Arc::new(Htpasswd::load(file, HashingLimits::from(limits))?)),
        None => None,
    };
    if let Some(keys) = api_keys {
        authenticators.push(Box::new(KeyLogins {
            keys: keys.clone(),
            passwords: passwords.clone(),
        }));
    }
    if let Some(passwords) = passwords {
        authenticators.push(Box::new(passwords));
    }
    if let Some(names) = logins.certificates {
        authenticators.push(Box::new(Certificates(names)));
    }
    Ok(authenticators)
}

fn policy(access: Option<AccessControl>, can_log_in: bool) -> Policy {
    match (access, can_log_in) {
        (Some(access), _) => Policy::Rules(access),
        (None, true) => Policy::Users,
        (None, false) => Policy::Everybody,
    }
}

/// The policy of a configuration's file, as the file is at any time. The rest of it counts at the next start. Where there
/// were rules, at the start or since, a file without any isn't believed: it would open the registry.
fn policy_of(file: &Path, had_rules: bool, can_log_in: bool) -> Result<Watched<Policy>, FileFault> {
    let path = file.to_owned();
    let had_rules = AtomicBool::new(had_rules);
    Watched::load(file, move |content| {
        let text = std::str::from_utf8(content).map_err(|_| "it is no text in UTF-8".to_owned())?;
        let config = config::parse(&path, text).map_err(|faults| faults.to_string())?;
        had_rules.fetch_or(config.access.is_some(), Ordering::Relaxed);
        match config.access {
            None if had_rules.load(Ordering::Relaxed) => {
                Err("http.accessControl is gone or empty, which counts at the next start".to_owned())
            }
            access => Ok(policy(access, can_log_in)),
        }
    })
}

/// Somebody, with what bounds their rights.
struct Who {
    subject: Subject,
    rights: Rights,
}

enum Rights {
    /// What the policy says, within scopes where there are any.
    Policy(Option<Vec<Scope>>),
    /// What a token says.
    Token { grants: Grants, catalog: bool },
}

impl Who {
    fn new(login: Option<Login>, policy: &Policy) -> Self {
        let Some(Login {
            user,
            mut groups,
            via,
        }) = login
        else {
            return Self {
                subject: Subject {
                    user: None,
                    groups: Vec::new(),
                },
                rights: Rights::Policy(None),
            };
        };
        groups.extend(policy.groups(&user));
        Self {
            subject: Subject {
                user: Some(user).filter(|user| !user.is_empty()),
                groups,
            },
            rights: match via {
                Via::Password | Via::Certificate => Rights::Policy(None),
                Via::ApiKey(scopes) => Rights::Policy(Some(scopes)),
                Via::Token { grants, catalog } => Rights::Token { grants, catalog },
            },
        }
    }

    fn is_somebody(&self) -> bool {
        match self.rights {
            Rights::Token { .. } => true,
            Rights::Policy(_) => self.subject.user.is_some(),
        }
    }

    fn may(&self, policy: &Policy, repository: &crate::oci::RepoName, action: Action) -> bool {
        match &self.rights {
            Rights::Token { grants, .. } => grants.allows(repository, action),
            Rights::Policy(scopes) => {
                let in_scope = scopes.as_ref().is_none_or(|scopes| {
                    scopes.is_empty() || scopes.iter().any(|scope| scope.covers(repository, action))
                });
                in_scope && policy.allows(&self.subject, repository, action)
            }
        }
    }

    fn visible(&self, policy: &Arc<Policy>) -> Visible {
        match &self.rights {
            Rights::Token { catalog: true, .. } => Visible::Everything,
            Rights::Token { grants, .. } => {
                let grants = grants.clone();
                Visible::Those(Arc::new(move |repository| {
                    grants.allows(repository, Action::Read)
                }))
            }
            Rights::Policy(Some(scopes)) if !scopes.is_empty() => {
                let (scopes, visible) = (scopes.clone(), policy.visible(&self.subject));
                Visible::Those(Arc::new(move |repository| {
                    let in_scope = scopes.iter().any(|scope| scope.covers(repository, Action::Read));
                    in_scope && visible.includes(repository)
                }))
            }
            Rights::Policy(_) => policy.visible(&self.subject),
        }
    }

    /// An upload or a mount may meet a blob that is stored for another repository.
    fn times(&self, policy: &Arc<Policy>, route: &Route) -> StoreTimes {
        let reads_all = match &self.rights {
            Rights::Policy(_) => self.visible(policy).is_everything(),
            // One that shows the catalogue's names gives none of their content.
            Rights::Token { .. } => false,
        };
        match route.effect() {
            Effect::Unsafe if !reads_all => StoreTimes::Hidden,
            Effect::Unsafe | Effect::Safe => StoreTimes::Shown,
        }
    }

    fn decision(self, grants: Grants) -> Decision {
        Decision {
            identity: Identity {
                user: self.subject.user,
                groups: self.subject.groups,
            },
            grants,
            audience: Audience::Some,
            times: StoreTimes::Hidden,
            challenges: Vec::new(),
        }
    }
}
