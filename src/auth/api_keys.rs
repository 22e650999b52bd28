//! Keys that users make for themselves, to use as a password where their own should not be.
//!
//! A key is 128 random bits; the store has its SHA-256 alone, as the key of a row, so that looking one up is one strong
//! read, on any member, and a revoked key is refused everywhere at once. A second row under the user lists it.
//! Deliberately absent: when a key was last used, which would be a write for each request.

use std::sync::Arc;

use async_trait::async_trait;
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use super::{
    AuthError, Authenticator, Credentials, Evidence, Login, Verdict, Via, authenticator::is_user_name,
};
use crate::{
    clock,
    oci::{Action, RepoName, RepoPattern},
    storage::{Expect, MetaStore, Outcome, Row, Space, StoreError, StoreErrorKind, Version, keys, rows},
};

/// What every key begins with, as zot's do.
const PREFIX: &str = "zak_";

/// Most scopes of a key, and most bytes of its label.
const MAX_SCOPES: usize = 64;
const MAX_LABEL_BYTES: usize = 256;

/// What a key may be used for: `repository:PATTERN:ACTIONS`, within what its user may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    pattern: RepoPattern,
    actions: Vec<Action>,
}

/// A text is no scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a scope is expected: repository:PATTERN:ACTIONS, with actions of read, create, update, delete, or * for all; \
     for example repository:team/**:read,create"
)]
pub struct ScopeError;

impl Scope {
    /// Reads a scope.
    ///
    /// # Errors
    /// [`ScopeError`], which says how one looks.
    pub fn parse(text: &str) -> Result<Self, ScopeError> {
        let rest = text.strip_prefix("repository:").ok_or(ScopeError)?;
        let (pattern, names) = rest.rsplit_once(':').ok_or(ScopeError)?;
        let pattern = RepoPattern::parse(pattern).map_err(|_| ScopeError)?;
        let action = |name: &str| Action::ALL.into_iter().find(|action| action.as_str() == name);
        let actions = match names {
            "*" => Action::ALL.to_vec(),
            names => names
                .split(',')
                .map(|name| action(name).ok_or(ScopeError))
                .collect::<Result<_, _>>()?,
        };
        Ok(Self { pattern, actions })
    }

    /// Whether it covers `action` in `repository`.
    #[must_use]
    pub fn covers(&self, repository: &RepoName, action: Action) -> bool {
        self.actions.contains(&action) && self.pattern.matches(repository)
    }
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
    /// The user has no key of this id.
    #[error("there is no such key")]
    Unknown,
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
}

impl ApiKeys {
    /// Those in `meta`, at most `per_user` of one user.
    pub fn new(meta: Arc<dyn MetaStore>, per_user: usize) -> Self {
        Self { meta, per_user }
    }

    /// Makes a key of `user`'s; the text is the key itself, which is never seen again.
    ///
    /// # Errors
    /// [`ApiKeyError`]; after [`ApiKeyError::OutcomeUnknown`] there may be a key that nobody has.
    pub async fn create(&self, user: &str, new: NewApiKey) -> Result<(ApiKey, String), ApiKeyError> {
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
        if self.list(user).await?.len() >= self.per_user {
            return Err(ApiKeyError::TooMany(self.per_user));
        }
        let text = format!("{PREFIX}{}", hex::encode(Version::random().to_bytes()));
        let hash = hash(&text);
        let row = rows::ApiKey {
            min_reader: 1,
            user: user.to_owned(),
            id: uuid(),
            label: new.label,
            scopes: new.scopes,
            created_ms,
            expires_ms: new.expires_ms.unwrap_or_default(),
            hash: hash.clone(),
        };
        let (key, listed) = (keys::api_key(&hash), keys::users_api_key(user, &row.id));
        let bytes = row.encode_to_vec();
        let ops = [
            key.clone().put(Expect::Absent, bytes.clone()),
            listed.put(Expect::Absent, bytes),
        ];
        let version = Version::random();
        match self.meta.transact(version, &ops).await? {
            Outcome::Committed => {}
            Outcome::Unknown
                if self
                    .meta
                    .get(&key)
                    .await?
                    .is_some_and(|row| row.version == version) => {}
            // Refused: 128 random bits were drawn twice.
            Outcome::Unknown | Outcome::Refused { .. } => return Err(ApiKeyError::OutcomeUnknown),
        }
        Ok((seen(row), text))
    }

    /// The keys of `user`, in the order of their ids.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self, user: &str) -> Result<Vec<ApiKey>, StoreError> {
        // A race may have made one more than allowed.
        let limit = self.per_user + 1;
        let page = self
            .meta
            .range(Space::Users, user, keys::USERS_API_KEYS, None, limit)
            .await?;
        page.entries
            .iter()
            .map(|entry| read(&entry.row).map(seen))
            .collect()
    }

    /// Ends a key of `user`'s, on every member, from now on.
    ///
    /// # Errors
    /// [`ApiKeyError`]; after [`ApiKeyError::OutcomeUnknown`] it can be done again.
    pub async fn revoke(&self, user: &str, id: &str) -> Result<(), ApiKeyError> {
        let listed = keys::users_api_key(user, id);
        let found = self.meta.get(&listed).await?.ok_or(ApiKeyError::Unknown)?;
        let hash = read(&found)?.hash;
        let ops = [
            keys::api_key(&hash).delete(Expect::Any),
            listed.delete(Expect::Any),
        ];
        match self.meta.transact(Version::random(), &ops).await? {
            Outcome::Committed => Ok(()),
            Outcome::Unknown | Outcome::Refused { .. } => Err(ApiKeyError::OutcomeUnknown),
        }
    }

    /// Whose key `text` is.
    async fn login(&self, text: &str) -> Result<Option<Login>, StoreError> {
        let Some(row) = self.meta.get(&keys::api_key(&hash(text))).await? else {
            return Ok(None);
        };
        let row = read(&row)?;
        let scopes: Result<Vec<_>, _> = row.scopes.iter().map(|scope| Scope::parse(scope)).collect();
        let scopes = scopes.map_err(|error| corrupt("read an API key's scope", error))?;
        let user = row.user.clone();
        let key = seen(row);
        Ok((!key.is_expired()).then_some(Login {
            user,
            groups: Vec::new(),
            via: Via::ApiKey(scopes),
        }))
    }
}

#[async_trait]
impl Authenticator for Arc<ApiKeys> {
    /// The name beside the key has to be its user's: it is what logs and the client's own files say.
    async fn authenticate(&self, evidence: &Evidence<'_>) -> Result<Verdict, AuthError> {
        let Credentials::Basic { user, password } = &evidence.credentials else {
            return Ok(Verdict::NotMine);
        };
        if !password.starts_with(PREFIX) || !is_user_name(user) {
            return Ok(Verdict::NotMine);
        }
        let login = self.login(password).await.map_err(AuthError::Unavailable)?;
        Ok(match login {
            Some(login) if login.user == *user => Verdict::Known(login),
            Some(_) | None => Verdict::Refused,
        })
    }
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

fn seen(row: rows::ApiKey) -> ApiKey {
    ApiKey {
        id: row.id,
        label: row.label,
        scopes: row.scopes,
        created_ms: row.created_ms,
        expires_ms: Some(row.expires_ms).filter(|end| *end > 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryMeta;

    fn keys() -> ApiKeys {
        ApiKeys::new(Arc::new(MemoryMeta::default()), 2)
    }

    #[tokio::test]
    async fn a_key_is_its_users_until_it_is_revoked() {
        let keys = keys();
        let new = NewApiKey {
            label: "ci".to_owned(),
            scopes: vec!["repository:team/**:read,create".to_owned()],
            expires_ms: Some(clock::now_ms() + 60_000),
        };
        let (key, text) = keys.create("ann", new).await.unwrap();
        assert!(text.len() == 36 && text.starts_with("zak_"));
        assert_eq!(keys.list("ann").await.unwrap(), std::slice::from_ref(&key));
        assert_eq!(keys.list("bob").await.unwrap(), []);
        let login = keys.login(&text).await.unwrap().unwrap();
        assert_eq!(login.user, "ann");
        assert!(keys.login("zak_0").await.unwrap().is_none());

        assert!(matches!(
            keys.revoke("bob", &key.id).await,
            Err(ApiKeyError::Unknown)
        ));
        keys.revoke("ann", &key.id).await.unwrap();
        assert!(keys.login(&text).await.unwrap().is_none());
        assert!(matches!(
            keys.revoke("ann", &key.id).await,
            Err(ApiKeyError::Unknown)
        ));
        assert_eq!(keys.list("ann").await.unwrap(), []);
    }

    #[tokio::test]
    async fn what_no_key_can_be_is_refused() {
        let keys = keys();
        let create = async |new: NewApiKey| keys.create("ann", new).await.err();
        let scoped = NewApiKey {
            scopes: vec!["admin".to_owned()],
            ..NewApiKey::default()
        };
        assert!(matches!(create(scoped).await, Some(ApiKeyError::Scope(_))));
        let past = NewApiKey {
            expires_ms: Some(1),
            ..NewApiKey::default()
        };
        assert!(matches!(create(past).await, Some(ApiKeyError::Past)));
        let large = NewApiKey {
            label: "x".repeat(257),
            ..NewApiKey::default()
        };
        assert!(matches!(create(large).await, Some(ApiKeyError::TooLarge)));
        assert!(create(NewApiKey::default()).await.is_none());
        assert!(create(NewApiKey::default()).await.is_none());
        assert!(matches!(
            create(NewApiKey::default()).await,
            Some(ApiKeyError::TooMany(2))
        ));
    }

    #[test]
    fn a_scope_covers_what_it_says() {
        let name = |text: &str| RepoName::parse(text).unwrap();
        let scope = Scope::parse("repository:team/**:read,create").unwrap();
        assert!(scope.covers(&name("team/a/b"), Action::Create));
        assert!(
            !scope.covers(&name("team/a"), Action::Delete) && !scope.covers(&name("other"), Action::Read)
        );
        assert!(
            Scope::parse("repository:**:*")
                .unwrap()
                .covers(&name("x"), Action::Delete)
        );
        for wrong in [
            "",
            "repository",
            "repository::read",
            "repository:a:",
            "repository:a:pull",
            "registry:a:read",
        ] {
            assert_eq!(Scope::parse(wrong), Err(ScopeError), "{wrong}");
        }
    }
}
