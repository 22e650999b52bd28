//! Tokens of workloads: a cluster, a CI or a cloud says who runs there, in JSON Web Tokens that it signs (OpenID Connect's), and
//! these are logins by themselves.
//!
//! Their keys are fetched from who issues them ([`Provider`]). What a token says becomes a user and groups by expressions of the
//! configuration. It may come as a bearer token or, for clients that know nothing else, as a password beside any name.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use cel::Value as CelValue;
use futures_util::future::join_all;
use serde_json::Value;

use super::{
    AuthError, FileFault,
    authenticator::{Authenticator, Evidence, Login, Verdict, Via},
    credentials::Credentials,
    jws,
    oidc::{Expected, Provider, TokenError},
};
use crate::{
    causes,
    config::{
        Limits,
        access::{ClaimMapping, Workload, is_user_name},
        expression::{Binding, value_of},
    },
    outbound::Trust,
};

/// Most values that a token says, those in lists and objects counted too: it bounds what expressions cost.
const MAX_VALUES: usize = 512;
/// Most groups that a token is mapped to.
const MAX_GROUPS: usize = 128;

/// All issuers whose tokens are logins.
pub(super) struct Workloads(Vec<Issuer>);

struct Issuer {
    provider: Arc<Provider>,
    audiences: Vec<String>,
    mapping: ClaimMapping,
}

impl Workloads {
    /// Reads certificates. Nobody is asked yet.
    ///
    /// # Errors
    /// [`FileFault`], naming the file that can't be used.
    pub(super) fn load(workloads: &[Workload], limits: &Limits) -> Result<Arc<Self>, FileFault> {
        let issuer = |workload: &Workload| {
            let trust = match &workload.authority {
                Some(file) => Trust::Bundle(file.clone()),
                None => Trust::Machine,
            };
            let provider = Provider::new(&workload.issuer, &trust, limits.providers);
            Ok(Issuer {
                provider: Arc::new(provider.map_err(|error| FileFault::Content {
                    file: workload.authority.clone().unwrap_or_default(),
                    problem: causes::in_a_line(&error),
                })?),
                audiences: workload.audiences.clone(),
                mapping: workload.mapping.clone(),
            })
        };
        Ok(Arc::new(Self(
            workloads.iter().map(issuer).collect::<Result<_, _>>()?,
        )))
    }

    /// All of them.
    pub(super) fn issuers(&self) -> impl Iterator<Item = Arc<Provider>> {
        self.0.iter().map(|issuer| issuer.provider.clone())
    }

    /// Which of them can't be asked, and why.
    pub(super) fn troubles(&self) -> impl Iterator<Item = String> {
        self.0.iter().filter_map(|issuer| {
            let trouble = issuer.provider.trouble()?;
            Some(format!("{}: {trouble}", issuer.provider.issuer()))
        })
    }

    /// How each of them is, for `portolan verify`.
    pub(super) async fn examine(&self) -> Vec<(String, Result<(), String>)> {
        let look = async |issuer: &Issuer| {
            let looked = issuer.provider.metadata().await;
            let looked = looked.map(drop).map_err(|error| causes::in_a_line(&error));
            (issuer.provider.issuer().to_owned(), looked)
        };
        join_all(self.0.iter().map(look)).await
    }

    /// Whether a token says that one of them has issued it; that isn't verified.
    pub(super) fn have_issued(&self, token: &str) -> bool {
        jws::issuer_of(token).is_some_and(|name| self.of(&name).next().is_some())
    }

    /// Those of this name: one a mapping.
    fn of(&self, name: &str) -> impl Iterator<Item = &Issuer> {
        self.0
            .iter()
            .filter(move |issuer| issuer.provider.issuer() == name)
    }

    async fn login(issuer: &Issuer, token: &str) -> Result<Option<Login>, AuthError> {
        let audiences: Vec<&str> = issuer.audiences.iter().map(String::as_str).collect();
        let expected = Expected {
            audiences: &audiences,
            claims: &[],
        };
        let claims: Value = match issuer.provider.verify(token, &expected).await {
            Ok(claims) => claims,
            Err(TokenError::Wrong) => return Ok(None),
            Err(TokenError::Unavailable(error)) => {
                tracing::debug!(error = causes::in_a_line(&error), "a token can't be checked");
                return Err(AuthError::Unreachable);
            }
        };
        let name = issuer.provider.issuer();
        match mapped(&issuer.mapping, &claims) {
            Ok((user, groups)) => Ok(Some(Login {
                user,
                groups,
                via: Via::Workload {
                    issuer: name.to_owned(),
                    // What is verified has an end, which may be written with a fraction.
                    expires_ms: (claims["exp"].as_f64().unwrap_or_default() * 1e3) as u64,
                    claims: Some(claims),
                },
            })),
            Err(problem) => {
                tracing::info!(issuer = name, problem, "a token is good and is nobody's login");
                Ok(None)
            }
        }
    }
}

#[async_trait]
impl Authenticator for Arc<Workloads> {
    async fn authenticate(&self, evidence: &Evidence<'_>) -> Result<Verdict, AuthError> {
        let token = match &evidence.credentials {
            Credentials::Bearer(token) => token,
            Credentials::Basic { password, .. } => password,
            Credentials::None | Credentials::Malformed => return Ok(Verdict::NotMine),
        };
        let Some(name) = jws::issuer_of(token) else {
            return Ok(Verdict::NotMine);
        };
        let mut verdict = Verdict::NotMine;
        for issuer in self.of(&name) {
            match Workloads::login(issuer, token).await? {
                Some(login) => return Ok(Verdict::Known(login)),
                None => verdict = Verdict::Refused,
            }
        }
        Ok(verdict)
    }
}

/// The user and groups that a token's claims are, if they are anybody.
fn mapped(mapping: &ClaimMapping, claims: &Value) -> Result<(String, Vec<String>), String> {
    if values(claims) > MAX_VALUES {
        return Err(format!("it says more than {MAX_VALUES} values"));
    }
    let claims = value_of(claims);
    let mut variables = HashMap::new();
    let bindings = |variables: &HashMap<String, CelValue>| -> Vec<Binding> {
        vec![
            ("claims", claims.clone()),
            ("vars", CelValue::from(variables.clone())),
        ]
    };
    for (name, expression) in &mapping.variables {
        let value = expression.value(&bindings(&variables));
        let value = value.map_err(|problem| format!("variable {name}: {problem}"))?;
        variables.insert(name.clone(), value);
    }
    let bindings = bindings(&variables);
    for (expression, message) in &mapping.validations {
        let holds = expression
            .holds(&bindings)
            .map_err(|problem| format!("{message}: {problem}"))?;
        if !holds {
            return Err(message.clone());
        }
    }
    let user = mapping
        .username
        .text(&bindings)
        .map_err(|problem| format!("username: {problem}"))?;
    if !is_user_name(&user) {
        return Err("username: it gives no user's name".to_owned());
    }
    let groups = match &mapping.groups {
        Some(groups) => groups
            .texts(&bindings)
            .map_err(|problem| format!("groups: {problem}"))?,
        None => Vec::new(),
    };
    match groups.len() > MAX_GROUPS {
        true => Err(format!("groups: it gives more than {MAX_GROUPS}")),
        false => Ok((user, groups)),
    }
}

fn values(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(values).sum(),
        Value::Object(members) => members.values().map(values).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}
