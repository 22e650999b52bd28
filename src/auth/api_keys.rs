//! Keys that users make for themselves, to use as a password where their own should not be.
//!
//! A key is 128 random bits; the store has its SHA-256 alone, as the key of a row, so that looking one up is one strong
//! read, on any member, and a revoked key is refused everywhere at once. A second row under the user lists it, and a third,
//! the user's ring, is replaced with every change: so changes of one user's keys form one chain, and what bounds them is what
//! lists them. The rings list who has keys at all.
//!
//! A key whose maker had logged in by a password is refused while that name has no password any more, and one of a directory's user
//! while the directory doesn't have them; whoever comes by certificate or from an identity provider is in no such list, so their keys
//! end by their date or an administrator. The groups that a provider named when a key was made are the key's.
//!
//! A robot's keys are made by an administrator, who says its groups ([`robot`](super::robot)); nobody stands behind them who could be
//! gone. When a key was last used is written beside it ([`uses`]).

mod uses;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tokio::time::{Duration, Instant};

use self::uses::Uses;
use super::{
    AuthError, Authenticator, Credentials, Evidence, KeyUse, Login, MadeBy, Scope, ScopeError, Verdict, Via,
    authenticator::{API_KEY_PREFIX, is_api_key},
    standing::Standing,
};
use crate::{
    clock,
    config::{Limits, access::is_user_name},
    storage::{
        Expect, MAX_OPS, MetaStore, Op, Outcome, Row, Space, StoreError, StoreErrorKind, Version, keys,
        pause::Pause, rows,
    },
};

/// Most scopes of a key, and most bytes of its label.
const MAX_SCOPES: usize = 64;
const MAX_LABEL_BYTES: usize = 256;

/// For how long a change is tried again that others of the same user's keys get ahead of.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long members know that a key was revoked: longer than any token lives that it got.
pub(super) const REVOKED_FOR: Duration = Duration::from_secs(60 * 60);

/// Rows that are asked for at once.
const PAGE: usize = 100;

/// Operations that end a key.
const OPS_OF_AN_END: usize = 4;

/// Who makes a key: somebody who has logged in by something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyMaker {
    /// The user's name.
    pub user: String,
    /// How they have logged in.
    pub by: MadeBy,
    /// Groups that the way of logging in knew of.
    pub groups: Vec<String>,
}

/// A key, as its user sees it later: without the key itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Names it, in a form like a UUID's.
    pub id: String,
    /// What the user calls it.
    pub label: String,
    /// What it is for; empty is everything the user may do.
    pub scopes: Vec<String>,
    /// When it was made, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// When it ends; `None` is never.
    pub expires_ms: Option<u64>,
    /// When somebody logged in by it last, give or take a minute; `None` is not yet.
    pub used_ms: Option<u64>,
    /// Groups that it is in for itself: a robot's, or those that a provider named.
    pub groups: Vec<String>,
}

impl ApiKey {
    /// Whether it has ended.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        self.expires_ms.is_some_and(|end| end <= clock::now_ms())
    }
}

/// What a key is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewApiKey {
    /// What the user calls it, at most 256 bytes.
    pub label: String,
    /// At most 64 scopes.
    pub scopes: Vec<String>,
    /// When it ends, in milliseconds since the Unix epoch.
    pub expires_ms: Option<u64>,
}

/// Why there is no such key.
#[derive(Debug, thiserror::Error)]
pub enum ApiKeyError {
    /// One of the scopes is none.
    #[error(transparent)]
    Scope(#[from] ScopeError),
    /// The label is too long, or there are too many scopes.
    #[error("a key has a label of at most {MAX_LABEL_BYTES} bytes and at most {MAX_SCOPES} scopes")]
    TooLarge,
    /// It would end before it begins.
    #[error("the key's end lies in the past")]
    Past,
    /// The user has as many as one may have.
    #[error("at most {0} keys a user: revoke one first")]
    TooMany(usize),
    /// That is no robot.
    #[error(
        "a robot's name is 1 to 64 of a-z, 0-9, '.', '_' and '-', and it is in at most 64 groups of 1 to 256 bytes"
    )]
    Robot,
    /// The user has no key of this id.
    #[error("there is no such key")]
    Unknown,
    /// Others changed this user's keys all the time.
    #[error("too many changes of this user's keys at once; this one was not applied, try again")]
    Contended,
    /// The store didn't say whether it is done.
    #[error("the outcome is unknown: list the keys before trying again")]
    OutcomeUnknown,
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

/// All keys.
pub struct ApiKeys {
    meta: Arc<dyn MetaStore>,
    per_user: usize,
    uses: Uses,
}

impl ApiKeys {
    /// Those in `meta`.
    pub fn new(meta: Arc<dyn MetaStore>, limits: &Limits) -> Self {
        Self {
            meta,
            per_user: limits.logins.api_keys,
            uses: Uses::new(limits.logins.key_uses_counted),
        }
    }

    /// Makes a key; the text is the key itself, which is never seen again.
    ///
    /// # Errors
    /// [`ApiKeyError`]; after [`ApiKeyError::OutcomeUnknown`] there may be a key that nobody has.
    pub async fn create(&self, maker: &KeyMaker, new: NewApiKey) -> Result<(ApiKey, String), ApiKeyError> {
        if new.label.len() > MAX_LABEL_BYTES || new.scopes.len() > MAX_SCOPES {
            return Err(ApiKeyError::TooLarge);
        }
        for scope in &new.scopes {
            Scope::parse(scope)?;
        }
        let created_ms = clock::now_ms();
        if new.expires_ms.is_some_and(|end| end <= created_ms) {
            return Err(ApiKeyError::Past);
        }
        let text = format!("{API_KEY_PREFIX}{}", hex::encode(Version::random().to_bytes()));
        let hash = hash(&text);
        let row = rows::ApiKey {
            min_reader: 1,
            user: maker.user.clone(),
            id: uuid(),
            label: new.label,
            scopes: new.scopes,
            created_ms,
            expires_ms: new.expires_ms.unwrap_or_default(),
            hash: hash.clone(),
            by_certificate: maker.by == MadeBy::Certificate,
            by_directory: maker.by == MadeBy::Directory,
            by_provider: maker.by == MadeBy::Provider,
            robot: maker.by == MadeBy::Robot,
            groups: maker.groups.clone(),
        };
        let bytes = row.encode_to_vec();
        self.change(&maker.user, |listed| {
            if listed.len() >= self.per_user {
                return Err(ApiKeyError::TooMany(self.per_user));
            }
            let ops = vec![
                keys::api_key(&hash).put(Expect::Absent, bytes.clone()),
                keys::users_api_key(&maker.user, &row.id).put(Expect::Absent, bytes.clone()),
            ];
            Ok((ops, listed.len() + 1))
        })
        .await?;
        Ok((seen(row, None), text))
    }

    /// The keys of `user`, in the order of their ids.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self, user: &str) -> Result<Vec<ApiKey>, StoreError> {
        let rows = self.rows(user).await?;
        let uses: Vec<_> = rows.iter().map(|row| keys::api_key_use(user, &row.id)).collect();
        let mut found = Vec::new();
        for some in uses.chunks(PAGE) {
            found.extend(self.meta.get_many(some).await?);
        }
        let listed = rows.into_iter().zip(found).map(|(row, used)| {
            let used_ms = used.as_ref().map(uses::read).transpose()?;
            Ok(seen(row, used_ms))
        });
        listed.collect()
    }

    /// Users who have keys, in byte order, from `after` on: at most `limit`, and whether there may be more.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn holders(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<String>, bool), StoreError> {
        let page = self
            .meta
            .range(Space::ApiKeys, keys::KEY_RINGS, "", after, limit)
            .await?;
        let users = page.entries.into_iter().map(|entry| entry.sort).collect();
        Ok((users, page.more))
    }

    /// Ends a key of `user`'s, on every member, from now on; its tokens when they have seen it in the list of what was revoked.
    ///
    /// # Errors
    /// [`ApiKeyError`]; after [`ApiKeyError::OutcomeUnknown`] it can be done again.
    pub async fn revoke(&self, user: &str, id: &str) -> Result<(), ApiKeyError> {
        self.change(user, |listed| {
            let found = listed.iter().find(|row| row.id == id);
            let ops = ends(found.ok_or(ApiKeyError::Unknown)?);
            Ok((ops.to_vec(), listed.len() - 1))
        })
        .await
    }

    /// Ends all keys that `user` has, some at a time, in the same way.
    ///
    /// # Errors
    /// [`ApiKeyError`]; some may have ended then, and it can be done again. [`ApiKeyError::Unknown`]: there is none.
    pub async fn revoke_all(&self, user: &str) -> Result<(), ApiKeyError> {
        // Beside them stands the ring.
        let some = (MAX_OPS - 1) / OPS_OF_AN_END;
        loop {
            let left = AtomicUsize::new(0);
            self.change(user, |listed| {
                if listed.is_empty() {
                    return Err(ApiKeyError::Unknown);
                }
                let after = listed.len().saturating_sub(some);
                left.store(after, Ordering::Relaxed);
                Ok((listed.iter().take(some).flat_map(ends).collect(), after))
            })
            .await?;
            if left.into_inner() == 0 {
                return Ok(());
            }
        }
    }

    /// Changes the keys of `user`: `plan` makes of those there are what is to be done, and how many there are then. It is
    /// asked again when another change got ahead.
    async fn change(
        &self,
        user: &str,
        plan: impl Fn(&[rows::ApiKey]) -> Result<(Vec<Op>, usize), ApiKeyError>,
    ) -> Result<(), ApiKeyError> {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = Pause::new();
        let ring_key = keys::key_ring(user);
        while Instant::now() < deadline {
            // Before the list: then the list is of this ring, or the ring isn't there any more.
            let ring = self.meta.get(&ring_key).await?;
            let (mut ops, left) = plan(&self.rows(user).await?)?;
            let expect = Expect::unchanged(ring.as_ref());
            let row = rows::KeyRing {
                min_reader: 1,
                keys: u32::try_from(left).unwrap_or(u32::MAX),
            };
            ops.push(match left {
                0 => ring_key.clone().delete(expect),
                _ => ring_key.clone().put(expect, row.encode_to_vec()),
            });
            let version = Version::random();
            match self.meta.transact(version, &ops).await? {
                Outcome::Committed => return Ok(()),
                Outcome::Unknown => {
                    let now = self.meta.get(&ring_key).await?;
                    return match now.is_some_and(|row| row.version == version) {
                        true => Ok(()),
                        false => Err(ApiKeyError::OutcomeUnknown),
                    };
                }
                Outcome::Refused { .. } => pause.wait(deadline).await,
            }
        }
        Err(ApiKeyError::Contended)
    }

    async fn rows(&self, user: &str) -> Result<Vec<rows::ApiKey>, StoreError> {
        let mut found = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self
                .meta
                .range(Space::Users, user, keys::USERS_API_KEYS, after.as_deref(), PAGE)
                .await?;
            for entry in &page.entries {
                found.push(read(&entry.row)?);
            }
            after = page.entries.into_iter().last().map(|entry| entry.sort);
            if !page.more || after.is_none() {
                return Ok(found);
            }
        }
    }

    /// Whose key `text` is.
    async fn login(&self, text: &str) -> Result<Option<(String, KeyUse)>, StoreError> {
        let Some(row) = self.meta.get(&keys::api_key(&hash(text))).await? else {
            return Ok(None);
        };
        let row = read(&row)?;
        // One that isn't understood covers nothing, and the others count. None at all would be no bound.
        let understood = row.scopes.iter().filter_map(|scope| Scope::parse(scope).ok());
        let scopes: Vec<Scope> = understood.collect();
        if scopes.is_empty() && !row.scopes.is_empty() {
            return Ok(None);
        }
        let by = match (row.by_certificate, row.by_directory, row.by_provider) {
            (true, _, _) => MadeBy::Certificate,
            (false, true, _) => MadeBy::Directory,
            (false, false, true) => MadeBy::Provider,
            (false, false, false) if row.robot => MadeBy::Robot,
            (false, false, false) => MadeBy::Password,
        };
        let user = row.user.clone();
        let key = seen(row, None);
        if key.is_expired() {
            return Ok(None);
        }
        let key = KeyUse {
            id: key.id,
            scopes,
            expires_ms: key.expires_ms,
            by,
            groups: key.groups,
        };
        Ok(Some((user, key)))
    }
}

/// Logging in by API keys.
pub(super) struct KeyLogins {
    pub(super) keys: Arc<ApiKeys>,
    /// Whose keys are good.
    pub(super) standing: Standing,
}

#[async_trait]
impl Authenticator for KeyLogins {
    /// The name beside the key has to be its user's: it is what logs and the client's own files say.
    async fn authenticate(&self, evidence: &Evidence<'_>) -> Result<Verdict, AuthError> {
        let Credentials::Basic { user, password } = &evidence.credentials else {
            return Ok(Verdict::NotMine);
        };
        if !is_api_key(password) || !is_user_name(user) {
            return Ok(Verdict::NotMine);
        }
        let found = self.keys.login(password).await.map_err(AuthError::Unavailable)?;
        let Some((maker, key)) = found.filter(|(maker, _)| maker == user) else {
            return Ok(Verdict::Refused);
        };
        let groups = self.standing.of(&maker, key.by, key.groups.clone()).await?;
        Ok(match groups {
            Some(groups) => {
                self.keys.uses.add(&maker, &key.id);
                Verdict::Known(Login {
                    user: maker,
                    groups,
                    via: Via::ApiKey(key),
                })
            }
            None => Verdict::Refused,
        })
    }
}

/// What ends a key: that its tokens have ended is to be known for longer than they live.
fn ends(row: &rows::ApiKey) -> [Op; OPS_OF_AN_END] {
    let known_until = clock::now_ms() + u64::try_from(REVOKED_FOR.as_millis()).unwrap_or_default();
    [
        keys::api_key(&row.hash).delete(Expect::Any),
        keys::users_api_key(&row.user, &row.id).delete(Expect::Any),
        keys::api_key_use(&row.user, &row.id).delete(Expect::Any),
        keys::revocation(keys::REVOKED_KEYS, known_until, &row.id)
            .put(Expect::Any, rows::Revocation { min_reader: 1 }.encode_to_vec()),
    ]
}

fn hash(key: &str) -> String {
    hex::encode(Sha256::digest(key))
}

fn uuid() -> String {
    let hex = hex::encode(Version::random().to_bytes());
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!(
        "{}-{}-{}-{}-{}",
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32)
    )
}

fn read(row: &Row) -> Result<rows::ApiKey, StoreError> {
    rows::ApiKey::decode(row.bytes.clone()).map_err(|error| corrupt("read an API key", error))
}

fn corrupt(
    operation: &'static str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> StoreError {
    StoreError::with_source(StoreErrorKind::Corrupt, operation, source)
}

fn seen(row: rows::ApiKey, used_ms: Option<u64>) -> ApiKey {
    ApiKey {
        id: row.id,
        label: row.label,
        scopes: row.scopes,
        created_ms: row.created_ms,
        expires_ms: Some(row.expires_ms).filter(|end| *end > 0),
        used_ms,
        groups: row.groups,
    }
}

#[cfg(test)]
mod tests;
