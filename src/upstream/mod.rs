//! Other registries, asked as a client: manifests and blobs, in the types of our own.
//!
//! An [`Upstream`] is one registry at several addresses, the next of which is asked when one fails. It is asked within a
//! budget (so many requests at once, so many a second), tells what it has, and is repeated where that helps. What it says is
//! a stranger's word: everything is bounded in bytes and time, every digest is compared, it is sent its own login and nobody
//! else's, and it can't send us to a private network.
//!
//! Deliberately absent: what is mirrored, and what becomes of it.

mod ask;
mod budget;
mod credentials;
mod error;
mod lists;
mod login;
mod pace;
mod push;
mod site;
mod turns;

use std::{
    collections::BTreeSet,
    pin::Pin,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant as Clock},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, future, stream};
use http::{HeaderMap, Method, StatusCode, header};
use tokio::time::Instant;

use self::{
    ask::{Answer, Asked},
    credentials::Login,
    site::Site,
};
pub use self::{
    budget::{Budget, Budgets, Keeper, Keepers, Kept, Lent},
    credentials::{Credentials, CredentialsError},
    error::UpstreamError,
    lists::{Pages, Referrers, Referring},
    push::{Outgoing, Pushed},
    site::Purpose,
};
use crate::{
    clock,
    config::{Limits, Remote, UpstreamUrl},
    oci::{Algorithm, Digest, MAX_MANIFEST_BYTES, ManifestKind, MediaType, Reference, RepoName},
    outbound::{self, Outbound, Pool, Reach, Trust, TrustError},
    telemetry::Metrics,
};

/// One registry.
#[derive(Debug)]
pub struct Upstream {
    sites: Vec<Site>,
    outbound: Outbound,
    budget: Budget,
    /// It hasn't refused yet to take a blob in the request that begins its upload.
    takes_whole: AtomicBool,
    bounds: Bounds,
    metrics: Arc<Metrics>,
}

#[derive(Clone, Copy, Debug)]
struct Bounds {
    answer: Duration,
    stall: Duration,
    retries: u32,
    retry_delay: Duration,
    retry_delay_max: Duration,
}

/// A registry that a person names on the command line.
#[derive(Debug)]
pub struct Visit {
    /// Where it is.
    pub url: UpstreamUrl,
    /// User and password.
    pub login: Option<(String, String)>,
    /// Whom to believe that it is there.
    pub trust: Trust,
    /// What is done there.
    pub purpose: Purpose,
    /// Requests at once.
    pub at_once: usize,
}

/// What a registry says a reference names.
#[derive(Clone, Debug)]
pub struct Named {
    /// Its digest, where the registry says it.
    pub digest: Option<Digest>,
}

/// A manifest as it came. Its bytes have the digest.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// As it was sent.
    pub media_type: MediaType,
    /// Its digest: the one asked for, or SHA-256.
    pub digest: Digest,
    /// The document.
    pub bytes: Bytes,
}

/// A blob as it comes in. Nothing of it has been compared.
pub struct Incoming {
    /// Bytes of the whole blob.
    pub length: u64,
    /// Those from where it was asked for.
    pub pieces: Pin<Box<dyn Stream<Item = Result<Bytes, UpstreamError>> + Send>>,
}

impl Upstream {
    /// The registry that `registry` describes, for that purpose and within that budget, with the logins of `credentials` for its hosts.
    /// Nothing is asked yet.
    ///
    /// # Errors
    /// [`TrustError`]: its certificates can't be read.
    pub fn new(
        registry: &Remote,
        purpose: Purpose,
        credentials: &Credentials,
        budget: Budget,
        limits: &Limits,
        metrics: Arc<Metrics>,
    ) -> Result<Self, TrustError> {
        let trust = match (&registry.certificates, registry.verify_certificate) {
            (_, false) => Trust::Anyone,
            (Some(folder), true) => Trust::Directory(folder.clone()),
            (None, true) => Trust::Machine,
        };
        let hosts = registry.urls.iter().map(|url| url.host());
        let reach = Reach::public_and(hosts.chain(registry.realm_hosts.iter().map(String::as_str)));
        let pool = Pool {
            connect: limits.upstream.connect,
            idle: limits.upstream.idle,
            idle_connections: limits.upstream.idle_connections,
        };
        let site = |url| Site {
            purpose,
            ..Site::new(url, credentials.of(url), &registry.realm_hosts)
        };
        Ok(Self {
            sites: registry.urls.iter().map(site).collect(),
            outbound: Outbound::new(&trust, reach, &pool)?,
            budget,
            takes_whole: AtomicBool::new(true),
            bounds: Bounds {
                answer: match purpose {
                    Purpose::Pull => limits.upstream.answer,
                    // With what is sent for it.
                    Purpose::Push | Purpose::Replicate => limits.visits.answer,
                },
                stall: limits.upstream.stall,
                retries: registry.retries,
                retry_delay: registry.retry_delay,
                retry_delay_max: registry.retry_delay_max,
            },
            metrics,
        })
    }

    /// A registry that a person visits: it may be anywhere, and bodies may take their time on a slow line.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn visit(visit: Visit, limits: &Limits) -> Result<Self, TrustError> {
        let pool = Pool {
            connect: limits.upstream.connect,
            idle: limits.upstream.idle,
            idle_connections: visit.at_once,
        };
        let login = visit.login.map(|(user, password)| Login::new(&user, &password));
        let site = Site {
            purpose: visit.purpose,
            ..Site::new(&visit.url, login, &BTreeSet::new())
        };
        Ok(Self {
            sites: vec![site],
            outbound: Outbound::new(&visit.trust, Reach::Anywhere, &pool)?,
            budget: Budget::by(Kept::wide(visit.at_once)),
            takes_whole: AtomicBool::new(true),
            bounds: Bounds {
                answer: limits.visits.answer,
                stall: limits.upstream.stall,
                retries: limits.visits.retries,
                retry_delay: limits.upstream.retry_delay,
                retry_delay_max: limits.upstream.retry_delay_max,
            },
            metrics: Arc::new(Metrics::new()),
        })
    }

    /// What the reference names there.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub async fn look(
        &self,
        repository: &RepoName,
        reference: &Reference,
        until: Instant,
    ) -> Result<Named, UpstreamError> {
        let asked = Asked::manifest("look", Method::HEAD, repository, reference);
        let answer = self.ask(&asked, until).await?;
        Ok(Named {
            digest: digest_of(answer.response.headers())?,
        })
    }

    /// The manifest that the reference names there.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub async fn manifest(
        &self,
        repository: &RepoName,
        reference: &Reference,
        until: Instant,
    ) -> Result<Fetched, UpstreamError> {
        let asked = Asked::manifest("manifest", Method::GET, repository, reference);
        let mut left = self.bounds.retries;
        loop {
            let answer = self.ask(&asked, until).await?;
            match self.document(answer, reference).await {
                Err(UpstreamError::Outbound(error)) if left > 0 && !error.is_final() => left -= 1,
                document => return document,
            }
        }
    }

    async fn document(&self, answer: Answer, reference: &Reference) -> Result<Fetched, UpstreamError> {
        let (head, body) = answer.response.into_parts();
        let media_type = head.headers.get(header::CONTENT_TYPE);
        let media_type = media_type.and_then(|value| MediaType::parse(value.to_str().ok()?).ok());
        let media_type = media_type
            .filter(|media_type| media_type.manifest_kind().is_some())
            .ok_or(UpstreamError::Nonsense(
                "something that is no manifest by its Content-Type",
            ))?;
        let said = digest_of(&head.headers)?;
        let bytes = outbound::whole(body, MAX_MANIFEST_BYTES, self.bounds.answer).await?;
        self.metrics.upstream_read(bytes.len() as u64);
        let expected = match reference {
            Reference::Digest(digest) => Some(digest.clone()),
            Reference::Tag(_) => said,
        };
        let algorithm = expected.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
        let actual = Digest::of(algorithm, &bytes);
        match expected {
            Some(expected) if expected != actual => Err(UpstreamError::Digest { expected, actual }),
            Some(_) | None => Ok(Fetched {
                media_type,
                digest: actual,
                bytes,
            }),
        }
    }

    /// The length of a blob.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub async fn blob_length(
        &self,
        repository: &RepoName,
        digest: &Digest,
        until: Instant,
    ) -> Result<u64, UpstreamError> {
        let asked = Asked::blob("blob_look", Method::HEAD, repository, digest, 0);
        let answer = self.ask(&asked, until).await?;
        length_of(answer.response.headers())
    }

    /// The bytes of a blob from `from` on. It begins `until` then; how long the body takes is the caller's to bound.
    ///
    /// # Errors
    /// [`UpstreamError`], also among the bytes.
    pub async fn blob(
        &self,
        repository: &RepoName,
        digest: &Digest,
        from: u64,
        until: Instant,
    ) -> Result<Incoming, UpstreamError> {
        let asked = Asked::blob("blob", Method::GET, repository, digest, from);
        let Answer { response, place } = self.ask(&asked, until).await?;
        let (head, body) = response.into_parts();
        let (length, skipped) = match head.status {
            StatusCode::PARTIAL_CONTENT => (total_of(&head.headers, from)?, 0),
            // It takes no ranges.
            _ => (length_of(&head.headers)?, from),
        };
        let mut skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        let metrics = self.metrics.clone();
        let come = Box::pin(outbound::pieces(body, self.bounds.stall));
        let paced = stream::unfold((come, place), |(mut come, mut place)| async {
            let piece = come.next().await?;
            place.spend(piece.as_ref().map_or(0, Bytes::len)).await;
            Some((piece, (come, place)))
        });
        let pieces = paced.map(move |piece| {
            let mut piece = piece?;
            metrics.upstream_read(piece.len() as u64);
            let skip = skipped.min(piece.len());
            skipped -= skip;
            Ok(piece.split_off(skip))
        });
        let pieces = pieces.filter(|piece: &Result<Bytes, UpstreamError>| {
            future::ready(piece.as_ref().map_or(true, |piece| !piece.is_empty()))
        });
        Ok(Incoming {
            length,
            pieces: Box::pin(pieces),
        })
    }

    /// How long to wait before something is repeated for the `n`-th time, from 0: doubled each time, up to a bound.
    pub fn pause(&self, n: u32) -> Duration {
        let doubled = self.bounds.retry_delay.saturating_mul(2_u32.saturating_pow(n));
        let longest = doubled.min(self.bounds.retry_delay_max);
        longest / 2 + clock::part_of(longest / 2)
    }

    /// Counts a request of this kind.
    fn asked(&self, kind: &'static str, outcome: &'static str, began: Clock) {
        self.metrics.upstream(kind, outcome, began.elapsed());
    }
}

/// `Docker-Content-Digest`; many leave it out.
fn digest_of(headers: &HeaderMap) -> Result<Option<Digest>, UpstreamError> {
    let Some(value) = headers.get("docker-content-digest") else {
        return Ok(None);
    };
    let digest = value.to_str().ok().and_then(|text| Digest::parse(text).ok());
    digest
        .map(Some)
        .ok_or(UpstreamError::Nonsense("a Docker-Content-Digest that is none"))
}

fn length_of(headers: &HeaderMap) -> Result<u64, UpstreamError> {
    let length = headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.trim().parse().ok());
    length.ok_or(UpstreamError::Nonsense("a blob without its length"))
}

/// The length of the whole, of a part that begins at `from` and reaches its end.
fn total_of(headers: &HeaderMap, from: u64) -> Result<u64, UpstreamError> {
    let range = headers
        .get(header::CONTENT_RANGE)
        .and_then(|value| value.to_str().ok());
    let parsed = range.and_then(|text| {
        let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        let total: u64 = total.parse().ok()?;
        (first == from && last.checked_add(1) == Some(total)).then_some(total)
    });
    parsed.ok_or(UpstreamError::Nonsense("another range than was asked for"))
}

/// The manifests that are asked for.
fn accept() -> String {
    let kinds = [
        ManifestKind::Index,
        ManifestKind::Image,
        ManifestKind::DockerList,
        ManifestKind::DockerManifest,
    ];
    kinds.map(ManifestKind::as_str).join(", ")
}
