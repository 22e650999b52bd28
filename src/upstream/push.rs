//! Pushing to another registry: blobs whole, in chunks, or mounted from another repository of it, and manifests. And deleting.
//!
//! Where an upload goes on is the registry's to say; its host isn't looked at, so that an upload goes on at the address that was given,
//! whatever proxies or an `externalUrl` put in.

use std::{io, sync::atomic::Ordering};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use tokio::time::{Instant, sleep};

use super::{
    Upstream, UpstreamError,
    ask::{Asked, Sent},
    error::Course,
};
use crate::oci::{Digest, MediaType, Reference, RepoName};

/// Where an upload goes on: a path with a query, always on the registry itself.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Upload(String);

/// A blob that is sent.
pub struct Outgoing<'a> {
    /// Its length in bytes.
    pub length: u64,
    /// Gives so many bytes from some byte on; fewer only at the end.
    pub read: &'a (dyn Fn(u64, usize) -> BoxFuture<'static, io::Result<Bytes>> + Send + Sync),
}

/// How a blob came to be in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It was sent.
    Sent,
    /// The registry had it in the other repository.
    Mounted,
}

impl Upstream {
    /// Puts a blob into a repository: from `mount`, another repository there, if the registry will; else it is sent, in chunks of
    /// `chunk` bytes. A chunk that fails is sent again from where the registry says that it has come.
    ///
    /// # Errors
    /// [`UpstreamError`]; each request is bounded, the whole isn't.
    pub async fn push_blob(
        &self,
        repository: &RepoName,
        digest: &Digest,
        mount: Option<&RepoName>,
        blob: &Outgoing<'_>,
        chunk: usize,
    ) -> Result<Pushed, UpstreamError> {
        let length = blob.length;
        let uploads = format!("/v2/{repository}/blobs/uploads/");
        let mut upload = match mount {
            Some(from) => {
                let path = format!("{uploads}?mount={digest}&from={from}");
                match self.begin(repository, path, Sent::nothing()).await? {
                    None => return Ok(Pushed::Mounted),
                    Some(upload) => upload,
                }
            }
            None if length <= chunk as u64 && self.takes_whole.load(Ordering::Relaxed) => {
                let bytes = blob.piece(0, chunk).await?;
                self.budget.spend(bytes.len()).await;
                let path = format!("{uploads}?digest={digest}");
                match self.begin(repository, path, Sent::octets(bytes)).await? {
                    None => return Ok(Pushed::Sent),
                    // It takes no blob at once: the next one isn't sent twice.
                    Some(upload) => {
                        self.takes_whole.store(false, Ordering::Relaxed);
                        upload
                    }
                }
            }
            None => match self.begin(repository, uploads, Sent::nothing()).await? {
                Some(upload) => upload,
                None => return Err(UpstreamError::Nonsense("a blob that nobody has sent yet")),
            },
        };
        let (mut at, mut left, mut furthest) = (0, self.bounds.retries, 0);
        while at < length {
            let bytes = blob.piece(at, chunk).await?;
            self.budget.spend(bytes.len()).await;
            let next = at + bytes.len() as u64;
            match self.append(repository, &upload, at, bytes).await {
                Ok(answered) => {
                    (upload, at) = (answered, next);
                    // A registry that says again and again that nothing has come isn't sent it for ever.
                    if at > furthest {
                        (furthest, left) = (at, self.bounds.retries);
                    }
                }
                Err(error) if left > 0 && is_to_be_repeated(&error) => {
                    sleep(self.pause(self.bounds.retries - left)).await;
                    left -= 1;
                    (upload, at) = self.offset(repository, &upload).await?;
                }
                Err(error) => return Err(error),
            }
        }
        self.end(repository, upload, digest).await?;
        Ok(Pushed::Sent)
    }

    /// Puts a manifest under a tag or its digest.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub async fn push_manifest(
        &self,
        repository: &RepoName,
        reference: &Reference,
        media_type: &MediaType,
        bytes: Bytes,
    ) -> Result<(), UpstreamError> {
        let sent = Sent {
            content_type: HeaderValue::try_from(media_type.as_str()).ok(),
            ..Sent::octets(bytes)
        };
        let path = format!("/v2/{repository}/manifests/{reference}");
        let asked = Asked::sent("push_manifest", Method::PUT, repository, path, sent);
        self.ask(&asked, self.soon()).await.map(drop)
    }

    /// Takes a tag away, or a manifest with its tags. What isn't there is gone already.
    ///
    /// # Errors
    /// [`UpstreamError`]; many registries have no way to do that, and answer 400 or 405.
    pub async fn delete(&self, repository: &RepoName, reference: &Reference) -> Result<(), UpstreamError> {
        let path = format!("/v2/{repository}/manifests/{reference}");
        let asked = Asked::sent(
            "delete_manifest",
            Method::DELETE,
            repository,
            path,
            Sent::nothing(),
        );
        match self.ask(&asked, self.soon()).await {
            Ok(_) => Ok(()),
            Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The upload that was begun; `None` where nothing is left to be sent.
    async fn begin(
        &self,
        repository: &RepoName,
        path: String,
        sent: Sent,
    ) -> Result<Option<Upload>, UpstreamError> {
        let asked = Asked::sent("push_blob", Method::POST, repository, path, sent);
        let answer = self.ask(&asked, self.soon()).await?.response;
        match answer.status() {
            StatusCode::CREATED => Ok(None),
            _ => location(answer.headers()).map(Some),
        }
    }

    async fn append(
        &self,
        repository: &RepoName,
        upload: &Upload,
        at: u64,
        bytes: Bytes,
    ) -> Result<Upload, UpstreamError> {
        let last = at + (bytes.len() as u64).saturating_sub(1);
        let sent = Sent {
            range: HeaderValue::try_from(format!("{at}-{last}")).ok(),
            is_once: true,
            ..Sent::octets(bytes)
        };
        let asked = Asked::sent("push_blob", Method::PATCH, repository, upload.0.clone(), sent);
        location(self.ask(&asked, self.soon()).await?.response.headers())
    }

    /// How far an upload has come.
    async fn offset(&self, repository: &RepoName, upload: &Upload) -> Result<(Upload, u64), UpstreamError> {
        let path = upload.0.clone();
        let asked = Asked::sent("push_blob", Method::GET, repository, path, Sent::nothing());
        let answer = self.ask(&asked, self.soon()).await?.response;
        let range = answer
            .headers()
            .get(header::RANGE)
            .and_then(|value| value.to_str().ok());
        let last = range.and_then(|range| range.rsplit_once('-')?.1.trim().parse::<u64>().ok());
        // `0-0` is said of nothing and of one byte; then one byte is sent again, or refused and asked for once more.
        let at = last.map_or(0, |last| if last == 0 { 0 } else { last + 1 });
        let upload = location(answer.headers()).unwrap_or_else(|_| upload.clone());
        Ok((upload, at))
    }

    async fn end(&self, repository: &RepoName, upload: Upload, digest: &Digest) -> Result<(), UpstreamError> {
        let joint = if upload.0.contains('?') { '&' } else { '?' };
        let path = format!("{}{joint}digest={digest}", upload.0);
        let asked = Asked::sent("push_blob", Method::PUT, repository, path, Sent::nothing());
        self.ask(&asked, self.soon()).await.map(drop)
    }

    /// Until when one request and its repetitions may take.
    fn soon(&self) -> Instant {
        Instant::now() + self.bounds.answer * (self.bounds.retries + 1)
    }
}

impl Outgoing<'_> {
    async fn piece(&self, at: u64, most: usize) -> Result<Bytes, UpstreamError> {
        (self.read)(at, most).await.map_err(UpstreamError::Source)
    }
}

fn is_to_be_repeated(error: &UpstreamError) -> bool {
    // It had come further than was known.
    let is_elsewhere = error.status() == Some(StatusCode::RANGE_NOT_SATISFIABLE);
    is_elsewhere || error.course() == Course::Again
}

fn location(headers: &HeaderMap) -> Result<Upload, UpstreamError> {
    let nowhere = || UpstreamError::Nonsense("no place where an upload goes on");
    let location = headers
        .get(header::LOCATION)
        .and_then(|value| value.to_str().ok());
    let uri: Uri = location.ok_or_else(nowhere)?.parse().map_err(|_| nowhere())?;
    let path = uri.path_and_query().ok_or_else(nowhere)?.as_str();
    match path.starts_with("/v2/") {
        true => Ok(Upload(path.to_owned())),
        false => Err(nowhere()),
    }
}
