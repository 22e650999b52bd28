//! How a gate comes together: the ways to log in that are configured, in their order, and what they stand on.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Semaphore;

use super::{Gate, PolicySource, Signed};
use crate::{
    auth::{
        ApiKeys, Authenticator, FileFault, Origin,
        api_keys::KeyLogins,
        bearer::Tokens,
        certificate::Certificates,
        challenge::{Challenges, TokenService},
        cookies::Jar,
        htpasswd::Htpasswd,
        issued::{Issuer, Ways, keys::SigningKeys, revoked::Revocations},
        ldap::Directory,
        oidc::People,
        policy::Policy,
        session::{self, Sessions},
        standing::Standing,
        watched::Watched,
        workload::Workloads,
    },
    config::{self, AccessControl, Config, Limits, Logins, access, openid::OpenId},
    storage::{MetaStore, keys},
};

/// What a gate is made of.
#[derive(Clone, Debug, Default)]
pub struct GateSpec {
    /// The ways to log in.
    pub logins: Logins,
    /// Who may do what.
    pub access: Option<AccessControl>,
    /// The configuration's file, whose `accessControl` is read again when it changes.
    pub source: Option<PathBuf>,
    /// How clients reach the registry; where that can't be told it gives no tokens.
    pub origin: Origin,
}

impl From<&Config> for GateSpec {
    fn from(config: &Config) -> Self {
        Self {
            logins: config.logins.clone(),
            access: config.access.clone(),
            source: config.source.clone(),
            origin: Origin::Unknown,
        }
    }
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
            origin,
        } = spec;
        let api_keys = match logins.api_keys {
            access::ApiKeys::On => Some(Arc::new(ApiKeys::new(meta.clone(), limits))),
            access::ApiKeys::Off => None,
        };
        let policy = match source {
            Some(file) => PolicySource::File(policy_of(&file, access.is_some(), logins.exist())?),
            None => PolicySource::Fixed(Arc::new(policy(access, logins.exist()))),
        };
        let standing = Standing {
            passwords: match &logins.htpasswd {
                Some(file) => Some(Arc::new(Htpasswd::load(file, limits.passwords)?)),
                None => None,
            },
            directory: match &logins.ldap {
                Some(ldap) => Some(Directory::load(ldap.clone(), limits)?),
                None => None,
            },
        };
        let workloads = Workloads::load(&logins.workloads, limits)?;
        let tokens = token_service(&logins, origin.clone());
        let has_own = matches!(tokens, TokenService::Own(_));
        let signed = (has_own || logins.openid.is_some()).then(|| {
            let sessions = logins.openid.as_ref().map(|openid| &openid.sessions);
            let longest = sessions
                .filter(|sessions| sessions.keys.is_none())
                .map(|sessions| sessions.length + limits.registry.clock_margin)
                .unwrap_or_default();
            let list = |partition| Arc::new(Revocations::new(meta.clone(), partition, limits));
            Signed {
                keys: Arc::new(SigningKeys::new(meta.clone(), limits, longest)),
                revoked: list(keys::REVOKED_KEYS),
                ended: list(keys::ENDED_SESSIONS),
            }
        });
        let issuer = signed
            .as_ref()
            .filter(|_| has_own)
            .map(|Signed { keys, revoked, .. }| {
                let ways = Ways {
                    standing: standing.clone(),
                    issuers: logins.workloads.iter().map(|one| one.issuer.clone()).collect(),
                    certificates: logins.certificates.is_some(),
                    api_keys: api_keys.is_some(),
                };
                Arc::new(Issuer::new(ways, keys.clone(), revoked.clone(), limits))
            });
        let is_secure = logins
            .openid
            .as_ref()
            .is_some_and(|openid| openid.sessions.is_secure);
        let jar = Jar::new(&origin, is_secure);
        let opened = match (&logins.openid, &signed) {
            (Some(openid), Some(signed)) => {
                Some(openid_of(openid, signed, &jar, origin.clone(), &meta, limits)?)
            }
            _ => None,
        };
        let (sessions, people) = opened.unzip();
        Ok(Self {
            challenges: Challenges::new(&logins, tokens),
            fail_delay: logins.fail_delay,
            directory: standing.directory.clone(),
            authenticators: authenticators(
                logins,
                issuer.as_ref(),
                &workloads,
                api_keys.as_ref(),
                standing,
                sessions,
            )?,
            workloads,
            api_keys,
            issuer,
            people,
            signed,
            jar,
            origin,
            policy,
            delayed: Semaphore::new(limits.logins.delayed),
            look_every: limits.logins.look_every,
            key_uses_interval: limits.logins.key_uses_interval,
        })
    }
}

/// Who gives tokens: the service that is configured, else the registry itself, where there is anybody to log in and it can
/// say where to.
fn token_service(logins: &Logins, origin: Origin) -> TokenService {
    match (&logins.bearer, logins.tokens, origin) {
        (Some(bearer), _, _) => TokenService::External(bearer.clone()),
        (None, _, Origin::Unknown) | (None, access::OwnTokens::Off, _) => TokenService::None,
        (None, access::OwnTokens::On, origin) if logins.exist() => TokenService::Own(origin),
        (None, access::OwnTokens::On, _) => TokenService::None,
    }
}

/// Who logs in by a browser, and what comes of it.
fn openid_of(
    config: &OpenId,
    signed: &Signed,
    jar: &Jar,
    origin: Origin,
    meta: &Arc<dyn MetaStore>,
    limits: &Limits,
) -> Result<(Arc<Sessions>, Arc<People>), FileFault> {
    let keys = match &config.sessions.keys {
        Some(file) => {
            let secret = session::keys_of_file(file)?;
            let keys = SigningKeys::of_secret(meta.clone(), limits, &secret);
            Arc::new(keys.map_err(|_| FileFault::Content {
                file: file.clone(),
                problem: "no key can be made of it".to_owned(),
            })?)
        }
        None => signed.keys.clone(),
    };
    let sessions = Arc::new(Sessions {
        keys: keys.clone(),
        ended: signed.ended.clone(),
        meta: meta.clone(),
        jar: jar.clone(),
        length: config.sessions.length,
        lag: limits.logins.session_end_lag,
        providers: config.providers.iter().map(|provider| provider.kind).collect(),
    });
    let people = People::new(config, keys, sessions.clone(), origin, limits)?;
    Ok((sessions, Arc::new(people)))
}

fn authenticators(
    logins: Logins,
    issuer: Option<&Arc<Issuer>>,
    workloads: &Arc<Workloads>,
    api_keys: Option<&Arc<ApiKeys>>,
    standing: Standing,
    sessions: Option<Arc<Sessions>>,
) -> Result<Vec<Box<dyn Authenticator>>, FileFault> {
    let mut authenticators: Vec<Box<dyn Authenticator>> = Vec::new();
    if let Some(issuer) = issuer {
        authenticators.push(Box::new(issuer.clone()));
    }
    if let Some(bearer) = &logins.bearer {
        authenticators.push(Box::new(Tokens::load(bearer)?));
    }
    if !logins.workloads.is_empty() {
        authenticators.push(Box::new(workloads.clone()));
    }
    if let Some(keys) = api_keys {
        authenticators.push(Box::new(KeyLogins {
            keys: keys.clone(),
            standing: standing.clone(),
        }));
    }
    if let Some(passwords) = standing.passwords {
        authenticators.push(Box::new(passwords));
    }
    if let Some(directory) = standing.directory {
        authenticators.push(Box::new(directory));
    }
    if let Some(sessions) = sessions {
        authenticators.push(Box::new(sessions));
    }
    if let Some(names) = logins.certificates {
        authenticators.push(Box::new(Certificates(names)));
    }
    Ok(authenticators)
}

fn policy(access: Option<AccessControl>, can_log_in: bool) -> Policy {
    match (access, can_log_in) {
        (Some(access), _) => access.into(),
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
