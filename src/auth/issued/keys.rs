//! The keys that sign tokens and cookies of sessions. Each member makes its own, keeps the private half in memory and puts the public half into the
//! metadata store before it signs anything with it; every hour it makes another one.
//!
//! So nobody has to agree on a key, a member that comes knows all of them, and one that goes takes its key with it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use bytes::Bytes;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use parking_lot::Mutex;
use prost::Message as _;
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::{
    auth::AuthError,
    clock,
    config::Limits,
    storage::{Expect, MetaStore, Outcome, Row, Space, StoreError, StoreErrorKind, Version, keys, rows},
};

/// Until the store has taken a key.
const PUBLISH_WITHIN: Duration = Duration::from_secs(10);
/// Rows that are asked for at once.
const PAGE: usize = 100;
/// Other members' keys that are remembered at once.
const KNOWN: usize = 4_096;

pub(in crate::auth) struct SigningKeys {
    meta: Arc<dyn MetaStore>,
    /// The one that signs now.
    own: tokio::sync::Mutex<Option<Own>>,
    known: Mutex<HashMap<String, Known>>,
    /// Of a file, which every member has; then there are no others.
    fixed: Option<(String, EncodingKey, DecodingKey)>,
    /// How long a key signs.
    life: Duration,
    /// For how much longer it is known.
    known_for: Duration,
    /// By how much clocks may differ.
    margin: Duration,
}

struct Own {
    id: String,
    key: EncodingKey,
    signs_until_ms: u64,
}

#[derive(Clone)]
struct Known {
    key: DecodingKey,
    ends_ms: u64,
}

impl SigningKeys {
    /// What is signed lives for `longest` at most, or for as long as tokens do.
    pub(in crate::auth) fn new(meta: Arc<dyn MetaStore>, limits: &Limits, longest: Duration) -> Self {
        Self {
            meta,
            own: tokio::sync::Mutex::default(),
            known: Mutex::default(),
            fixed: None,
            life: limits.tokens.key_life,
            known_for: limits.tokens.key_life.max(longest),
            margin: limits.registry.clock_margin,
        }
    }

    /// The one key that is made from this secret.
    ///
    /// # Errors
    /// It can't be made, which doesn't happen.
    pub(in crate::auth) fn of_secret(
        meta: Arc<dyn MetaStore>,
        limits: &Limits,
        secret: &[u8],
    ) -> Result<Self, aws_lc_rs::error::Unspecified> {
        let seed = Sha256::new()
            .chain_update("portolan sessions\0")
            .chain_update(secret)
            .finalize();
        let (private, public) = pair(&seed)?;
        let id = format!(
            "file-{}",
            hex::encode(Sha256::digest(&public).get(..8).unwrap_or_default())
        );
        Ok(Self {
            fixed: Some((id, private, DecodingKey::from_ed_der(&public))),
            ..Self::new(meta, limits, Duration::ZERO)
        })
    }

    /// `claims`, signed, as something of this type.
    ///
    /// # Errors
    /// [`AuthError::Unavailable`] when the store doesn't take the key.
    pub(in crate::auth) async fn sign<T: Serialize + Sync>(
        &self,
        kind: &str,
        claims: &T,
    ) -> Result<String, AuthError> {
        let (id, key) = self.own().await.map_err(AuthError::Unavailable)?;
        let header = Header {
            typ: Some(kind.to_owned()),
            kid: Some(id),
            ..Header::new(Algorithm::EdDSA)
        };
        // It signs what it can serialise with a key that was made for it.
        jsonwebtoken::encode(&header, claims, &key).map_err(|_| AuthError::Denied)
    }

    /// What something of this type says, if a member signed it and it isn't over: `None` where it is none.
    ///
    /// # Errors
    /// The store that has the key fails.
    pub(in crate::auth) async fn read<T: DeserializeOwned>(
        &self,
        kind: &str,
        text: &str,
        leeway_seconds: u64,
    ) -> Result<Option<T>, StoreError> {
        let Ok(header) = jsonwebtoken::decode_header(text) else {
            return Ok(None);
        };
        let is_ours = header.alg == Algorithm::EdDSA && header.typ.as_deref() == Some(kind);
        let (Some(id), true, None) = (&header.kid, is_ours, &header.crit) else {
            return Ok(None);
        };
        let Some(key) = self.find(id).await? else {
            return Ok(None);
        };
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_required_spec_claims(&["exp"]);
        validation.leeway = leeway_seconds;
        let read = jsonwebtoken::decode::<T>(text, &key, &validation);
        Ok(read.ok().map(|read| read.claims))
    }

    /// The key to sign with, by its id. Every member knows it.
    pub(super) async fn own(&self) -> Result<(String, EncodingKey), StoreError> {
        if let Some((id, key, _)) = &self.fixed {
            return Ok((id.clone(), key.clone()));
        }
        let made = timeout(PUBLISH_WITHIN, async {
            let mut own = self.own.lock().await;
            let now_ms = clock::now_ms();
            match &*own {
                Some(own) if now_ms < own.signs_until_ms => Ok((own.id.clone(), own.key.clone())),
                Some(_) | None => {
                    let new = self.publish(now_ms).await?;
                    let made = (new.id.clone(), new.key.clone());
                    *own = Some(new);
                    Ok(made)
                }
            }
        });
        made.await
            .unwrap_or_else(|_| Err(StoreError::new(StoreErrorKind::Unavailable, PUBLISH)))
    }

    async fn publish(&self, now_ms: u64) -> Result<Own, StoreError> {
        let (key, public) = new_pair().map_err(|_| StoreError::new(StoreErrorKind::Unavailable, PUBLISH))?;
        let life = millis(self.life);
        let own = Own {
            id: hex::encode(Version::random().to_bytes()),
            key,
            signs_until_ms: now_ms + life,
        };
        let row = rows::TokenKey {
            min_reader: 1,
            public_key: public.into(),
            ends_ms: now_ms + life + millis(self.known_for),
        };
        let version = Version::random();
        let at = keys::token_key(&own.id);
        let put = at.clone().put(Expect::Absent, row.encode_to_vec());
        let is_there = match self.meta.transact(version, &[put]).await? {
            Outcome::Committed => true,
            Outcome::Unknown => {
                let found = self.meta.get(&at).await?;
                found.is_some_and(|row| row.version == version)
            }
            Outcome::Refused { .. } => false,
        };
        match is_there {
            true => Ok(own),
            false => Err(StoreError::new(StoreErrorKind::Unavailable, PUBLISH)),
        }
    }

    /// The key of this id, whichever member's it is: `None` if there is none, or it has ended. Asks the store for those that
    /// aren't known yet.
    async fn find(&self, id: &str) -> Result<Option<DecodingKey>, StoreError> {
        if let Some((own, _, key)) = &self.fixed {
            return Ok((own == id).then(|| key.clone()));
        }
        let now_ms = clock::now_ms();
        let is_good = |known: &Known| now_ms < known.ends_ms;
        if let Some(known) = self.known.lock().get(id).cloned() {
            return Ok(Some(known).filter(is_good).map(|known| known.key));
        }
        // What can't be an id isn't asked for.
        if id.len() != 32 || !id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok(None);
        }
        let Some(row) = self.meta.get(&keys::token_key(id)).await? else {
            return Ok(None);
        };
        let row = read(&row)?;
        // A newer release's, whose tokens may say what isn't understood here.
        if row.min_reader > rows::SCHEMA || row.public_key.len() != 32 {
            return Ok(None);
        }
        let known = Known {
            key: DecodingKey::from_ed_der(&row.public_key),
            ends_ms: row.ends_ms,
        };
        self.remember(id, &known, now_ms);
        Ok(Some(known).filter(is_good).map(|known| known.key))
    }

    fn remember(&self, id: &str, new: &Known, now_ms: u64) {
        let mut known = self.known.lock();
        if known.len() >= KNOWN {
            known.retain(|_, known| now_ms < known.ends_ms);
        }
        if known.len() >= KNOWN {
            let first = known.iter().min_by_key(|(_, known)| known.ends_ms);
            let first = first.map(|(id, _)| id.clone()).unwrap_or_default();
            known.remove(&first);
        }
        known.insert(id.to_owned(), new.clone());
    }

    /// Takes keys and revocations away that have ended, every now and then, for ever.
    pub(in crate::auth) async fn sweep(&self) {
        let mut ticks = interval(self.life);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.sweep_once().await {
                tracing::warn!(%error, "keys of tokens that have ended stay for now");
            }
        }
    }

    pub(super) async fn sweep_once(&self) -> Result<(), StoreError> {
        let over_ms = clock::now_ms().saturating_sub(millis(self.margin));
        self.sweep_partition(keys::TOKEN_KEYS, |_, bytes| {
            let row = rows::TokenKey::decode(bytes.clone());
            row.is_ok_and(|row| row.min_reader <= rows::SCHEMA && row.ends_ms < over_ms)
        })
        .await?;
        for revoked in [keys::REVOKED_KEYS, keys::ENDED_SESSIONS] {
            self.sweep_partition(revoked, |sort, _| {
                keys::revocation_parts(sort).is_some_and(|(ends_ms, _)| ends_ms < over_ms)
            })
            .await?;
        }
        Ok(())
    }

    async fn sweep_partition(
        &self,
        partition: &str,
        has_ended: impl Fn(&str, &Bytes) -> bool + Send + Sync,
    ) -> Result<(), StoreError> {
        let mut after: Option<String> = None;
        loop {
            let page = self
                .meta
                .range(Space::ApiKeys, partition, "", after.as_deref(), PAGE)
                .await?;
            let ended = page
                .entries
                .iter()
                .filter(|entry| has_ended(&entry.sort, &entry.row.bytes));
            let ops: Vec<_> = ended
                .map(|entry| keys::of_tokens(partition, &entry.sort).delete(Expect::Any))
                .collect();
            if !ops.is_empty() {
                // What stays goes the next time.
                self.meta.transact(Version::random(), &ops).await?;
            }
            after = page.entries.into_iter().last().map(|entry| entry.sort);
            if !page.more || after.is_none() {
                return Ok(());
            }
        }
    }
}

const PUBLISH: &str = "publish a key of tokens";

/// A private key for tokens, and the public one: 32 bytes.
fn new_pair() -> Result<(EncodingKey, Vec<u8>), aws_lc_rs::error::Unspecified> {
    let halves = [0, 1].map(|_| Version::random().to_bytes());
    pair(halves.as_flattened())
}

fn pair(seed: &[u8]) -> Result<(EncodingKey, Vec<u8>), aws_lc_rs::error::Unspecified> {
    let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| aws_lc_rs::error::Unspecified)?;
    let private = pair.to_pkcs8()?;
    let public = pair.public_key().as_ref().to_vec();
    Ok((EncodingKey::from_ed_der(private.as_ref()), public))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn read(row: &Row) -> Result<rows::TokenKey, StoreError> {
    rows::TokenKey::decode(row.bytes.clone())
        .map_err(|error| StoreError::with_source(StoreErrorKind::Corrupt, "read a key of tokens", error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryMeta;

    #[test]
    fn a_key_that_was_just_used_is_known_however_many_there_were() {
        let keys = SigningKeys::new(Arc::new(MemoryMeta::new()), &Limits::default(), Duration::ZERO);
        let key = |n: usize| Known {
            key: DecodingKey::from_ed_der(&[0; 32]),
            ends_ms: 1_000 + n as u64,
        };
        for n in 0..KNOWN + 10 {
            keys.remember(&n.to_string(), &key(n), 0);
            assert!(keys.known.lock().contains_key(&n.to_string()), "{n}");
        }
        assert_eq!(keys.known.lock().len(), KNOWN);
        assert!(!keys.known.lock().contains_key("9"), "what ends first has gone");
        assert!(keys.known.lock().contains_key("10"));
    }
}
