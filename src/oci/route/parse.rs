//! From method, path and query to a route, by hand.
//!
//! A name may have any depth, and components called `blobs`, `manifests` or `tags`: only the end of a path says what it
//! is, and the end is unambiguous. Nothing in a path needs percent-encoding, but some clients' libraries encode all the same:
//! a letter, digit, `-._~` or colon means itself either way. All else that is encoded, a slash first of all, stays as it is,
//! and a `%` is no character of any name.

use std::borrow::Cow;

use http::Method;

use super::{
    super::{DigestError, ReferenceError},
    MAX_TAGS_PER_PUT, Route, RouteError,
    query::Query,
};
use crate::oci::{
    Algorithm, Digest, HistoryQuery, Page, Reference, RepoName, Rounding, Tag, Timestamp, Undo, UploadId,
};

/// What comes before the name of a run.
const RUNS: &str = "/_portolan/runs/";

/// What the end of a path names.
enum Resource<'a> {
    Tags,
    Manifest(&'a str),
    Blob(&'a str),
    Uploads,
    Upload(&'a str),
    Referrers(&'a str),
    TagHistory(&'a str),
    Changes,
    Restore,
}

impl Route {
    /// Reads a request line. The query is what follows the `?`, without it.
    ///
    /// # Errors
    /// [`RouteError`], the first thing that is wrong: the path's shape, the name, the method, then the rest.
    pub fn parse(method: &Method, path: &str, query: Option<&str>) -> Result<Self, RouteError> {
        route(method, path, query)
    }
}

fn route(method: &Method, path: &str, query: Option<&str>) -> Result<Route, RouteError> {
    let query = Query(query.unwrap_or_default());
    let rest = decoded(path.strip_prefix("/v2").ok_or(RouteError::NotFound)?);
    match &*rest {
        "" | "/" => match *method {
            Method::GET | Method::HEAD => Ok(Route::ApiVersion),
            _ => Err(RouteError::MethodNotAllowed { allow: "GET, HEAD" }),
        },
        "/_catalog" => match *method {
            Method::GET => Ok(Route::Catalog { page: page(query)? }),
            _ => Err(RouteError::MethodNotAllowed { allow: "GET" }),
        },
        rest if rest.starts_with(RUNS) => match *method {
            Method::GET => Ok(Route::Run {
                run: run(&rest[RUNS.len()..])?,
                page: page(query)?,
            }),
            _ => Err(RouteError::MethodNotAllowed { allow: "GET" }),
        },
        rest => {
            let rest = rest.strip_prefix('/').ok_or(RouteError::NotFound)?;
            let (name, resource) = split(rest).ok_or(RouteError::NotFound)?;
            let repository = RepoName::parse(name).map_err(|_| RouteError::NameInvalid)?;
            in_repository(method, repository, resource, query)
        }
    }
}

/// The path with what needs no encoding decoded (RFC 3986, 6.2.2.2): unreserved characters, and the colon of a digest, which
/// is one that a segment may have as it is (3.3).
fn decoded(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let mut pieces = path.split('%');
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let code = piece
            .get(..2)
            .filter(|code| code.bytes().all(|b| b.is_ascii_hexdigit()));
        let byte = code.and_then(|code| u8::from_str_radix(code, 16).ok());
        match byte {
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) => {
                text.push(char::from(byte));
                text.push_str(&piece[2..]);
            }
            Some(_) | None => {
                text.push('%');
                text.push_str(piece);
            }
        }
    }
    Cow::Owned(text)
}

/// Splits `<name>/<resource>` at the place that the last two or three segments give away.
fn split(rest: &str) -> Option<(&str, Resource<'_>)> {
    let (head, last) = rest.rsplit_once('/')?;
    let (name, kind) = head.rsplit_once('/')?;
    match (kind, last) {
        ("tags", "list") => Some((name, Resource::Tags)),
        ("blobs", "uploads") => Some((name, Resource::Uploads)),
        ("uploads", "") => Some((name.strip_suffix("/blobs")?, Resource::Uploads)),
        (_, "") => None,
        ("uploads", id) => Some((name.strip_suffix("/blobs")?, Resource::Upload(id))),
        ("blobs", digest) => Some((name, Resource::Blob(digest))),
        ("manifests", reference) => Some((name, Resource::Manifest(reference))),
        ("referrers", digest) => Some((name, Resource::Referrers(digest))),
        ("_portolan", "history") => Some((name, Resource::Changes)),
        ("_portolan", "restore") => Some((name, Resource::Restore)),
        ("tag-history", tag) => Some((name.strip_suffix("/_oci")?, Resource::TagHistory(tag))),
        _ => None,
    }
}

fn in_repository(
    method: &Method,
    repository: RepoName,
    resource: Resource<'_>,
    query: Query<'_>,
) -> Result<Route, RouteError> {
    match resource {
        Resource::Tags => match *method {
            Method::GET => Ok(Route::ListTags {
                repository,
                page: page(query)?,
            }),
            _ => Err(RouteError::MethodNotAllowed { allow: "GET" }),
        },
        Resource::Manifest(text) => manifest(method, repository, text, query),
        Resource::Blob(text) => match *method {
            Method::GET => Ok(Route::GetBlob {
                repository,
                digest: digest(text)?,
            }),
            Method::HEAD => Ok(Route::HeadBlob {
                repository,
                digest: digest(text)?,
            }),
            Method::DELETE => Ok(Route::DeleteBlob {
                repository,
                digest: digest(text)?,
            }),
            _ => Err(RouteError::MethodNotAllowed {
                allow: "GET, HEAD, DELETE",
            }),
        },
        Resource::Uploads => match *method {
            Method::POST => post(repository, query),
            _ => Err(RouteError::MethodNotAllowed { allow: "POST" }),
        },
        Resource::Upload(text) => upload(method, repository, text, query),
        Resource::Referrers(text) => match *method {
            Method::GET => Ok(Route::Referrers {
                repository,
                subject: digest(text)?,
                artifact_types: artifact_types(query),
                page: page(query)?,
            }),
            _ => Err(RouteError::MethodNotAllowed { allow: "GET" }),
        },
        Resource::TagHistory(text) => match *method {
            Method::GET => Ok(Route::TagHistory {
                repository,
                tag: Tag::parse(text).map_err(|_| RouteError::TagInvalid)?,
                query: history(query)?,
            }),
            _ => Err(RouteError::MethodNotAllowed { allow: "GET" }),
        },
        Resource::Changes => match *method {
            Method::GET => {
                let HistoryQuery { limit, before, .. } = history(query)?;
                let tag = query.first("tag").map(|text| Tag::parse(&text)).transpose();
                Ok(Route::Changes {
                    repository,
                    tag: tag.map_err(|_| RouteError::TagInvalid)?,
                    limit,
                    before,
                })
            }
            _ => Err(RouteError::MethodNotAllowed { allow: "GET" }),
        },
        Resource::Restore => match *method {
            Method::POST => Ok(Route::Restore {
                repository,
                what: undo(query)?,
            }),
            _ => Err(RouteError::MethodNotAllowed { allow: "POST" }),
        },
    }
}

fn manifest(
    method: &Method,
    repository: RepoName,
    text: &str,
    query: Query<'_>,
) -> Result<Route, RouteError> {
    let reference = || {
        Reference::parse(text).map_err(|error| match error {
            ReferenceError::Tag(_) => RouteError::TagInvalid,
            ReferenceError::Digest(error) => digest_error(error),
        })
    };
    if matches!(*method, Method::GET | Method::HEAD)
        && let Some(at) = query.first("at")
        && let Reference::Tag(tag) = reference()?
    {
        return Ok(Route::ManifestAt {
            repository,
            tag,
            at: moment_of(&at)?,
        });
    }
    match *method {
        Method::GET => Ok(Route::GetManifest {
            repository,
            reference: reference()?,
        }),
        Method::HEAD => Ok(Route::HeadManifest {
            repository,
            reference: reference()?,
        }),
        Method::DELETE => Ok(Route::DeleteManifest {
            repository,
            reference: reference()?,
        }),
        Method::PUT => {
            let reference = reference()?;
            let tags = match reference {
                Reference::Digest(_) => tags(query)?,
                // The specification has `tag` only beside a digest. Ignored, it is missing from the answer's
                // `OCI-Tag`, which tells the client.
                Reference::Tag(_) => Vec::new(),
            };
            Ok(Route::PutManifest {
                repository,
                reference,
                tags,
            })
        }
        _ => Err(RouteError::MethodNotAllowed {
            allow: "GET, HEAD, PUT, DELETE",
        }),
    }
}

fn upload(method: &Method, repository: RepoName, text: &str, query: Query<'_>) -> Result<Route, RouteError> {
    let id = || UploadId::parse(text).map_err(|_| RouteError::UploadUnknown);
    match *method {
        Method::GET => Ok(Route::UploadStatus {
            repository,
            upload: id()?,
        }),
        Method::PATCH => Ok(Route::UploadChunk {
            repository,
            upload: id()?,
        }),
        Method::PUT => {
            let upload = id()?;
            let text = query.first("digest").ok_or(RouteError::DigestInvalid)?;
            Ok(Route::FinishUpload {
                repository,
                upload,
                digest: digest(&text)?,
            })
        }
        Method::DELETE => Ok(Route::CancelUpload {
            repository,
            upload: id()?,
        }),
        _ => Err(RouteError::MethodNotAllowed {
            allow: "GET, PATCH, PUT, DELETE",
        }),
    }
}

/// One endpoint, three requests: mount, push in one go, begin a session.
fn post(repository: RepoName, query: Query<'_>) -> Result<Route, RouteError> {
    let algorithm = match query.first("digest-algorithm") {
        Some(text) => Some(text.parse::<Algorithm>().map_err(digest_error)?),
        None => None,
    };
    if let Some(mount) = query.first("mount") {
        return Ok(mount_or_session(repository, &mount, query, algorithm));
    }
    match query.first("digest") {
        Some(text) => Ok(Route::PushBlob {
            repository,
            digest: digest(&text)?,
        }),
        None => Ok(Route::StartUpload {
            repository,
            algorithm,
        }),
    }
}

/// A mount that can't happen is a session, never an error: containerd gives up its push on any other answer. That holds
/// for a malformed source or digest too.
fn mount_or_session(
    repository: RepoName,
    mount: &str,
    query: Query<'_>,
    algorithm: Option<Algorithm>,
) -> Route {
    let Ok(digest) = Digest::parse(mount) else {
        return Route::StartUpload {
            repository,
            algorithm,
        };
    };
    match query.first("from").map(|text| RepoName::parse(&text)).transpose() {
        Ok(from) => Route::MountBlob {
            repository,
            digest,
            from,
        },
        Err(_) => Route::StartUpload {
            repository,
            algorithm: algorithm.or(Some(digest.algorithm())),
        },
    }
}

fn digest(text: &str) -> Result<Digest, RouteError> {
    Digest::parse(text).map_err(digest_error)
}

fn digest_error(error: DigestError) -> RouteError {
    match error {
        DigestError::Malformed => RouteError::DigestInvalid,
        DigestError::UnsupportedAlgorithm => RouteError::AlgorithmUnsupported,
    }
}

fn page(query: Query<'_>) -> Result<Page, RouteError> {
    Page::parse(query.first("n").as_deref(), query.first("last").as_deref())
        .map_err(|_| RouteError::PageInvalid)
}

/// Both moments are the first millisecond that isn't before them: of what happened then, none is before either.
fn history(query: Query<'_>) -> Result<HistoryQuery, RouteError> {
    let moment = |key| {
        let text = query.first(key);
        let moment = text.map(|text| Timestamp::parse(&text, Rounding::Up));
        moment.transpose().map_err(|_| RouteError::TimestampInvalid)
    };
    Ok(HistoryQuery {
        limit: page(query)?.limit,
        before: moment("before")?,
        since: moment("since")?,
        digest: query.first("digest").map(|text| digest(&text)).transpose()?,
    })
}

/// A moment at which something was so: what happened within its millisecond had happened.
fn moment_of(text: &str) -> Result<Timestamp, RouteError> {
    Timestamp::parse(text, Rounding::Down).map_err(|_| RouteError::TimestampInvalid)
}

/// What a run of retention is called.
fn run(text: &str) -> Result<String, RouteError> {
    const LONGEST: usize = 64;
    let is_one = (1..=LONGEST).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_one.then(|| text.to_owned()).ok_or(RouteError::UndoInvalid)
}

/// What to restore: exactly one thing.
fn undo(query: Query<'_>) -> Result<Undo, RouteError> {
    let at = query.first("at").map(|text| moment_of(&text)).transpose()?;
    match (query.first("tag"), query.first("digest"), query.first("run"), at) {
        (Some(tag), None, None, Some(at)) => Ok(Undo::Tag {
            tag: Tag::parse(&tag).map_err(|_| RouteError::TagInvalid)?,
            at,
        }),
        (None, Some(text), None, None) => Ok(Undo::Manifest(digest(&text)?)),
        (None, None, Some(text), None) => Ok(Undo::Run(run(&text)?)),
        (None, None, None, Some(at)) => Ok(Undo::Everything { at }),
        _ => Err(RouteError::UndoInvalid),
    }
}

fn tags(query: Query<'_>) -> Result<Vec<Tag>, RouteError> {
    let mut tags = Vec::new();
    for text in query.all("tag") {
        let tag = Tag::parse(&text).map_err(|_| RouteError::TagInvalid)?;
        if tags.contains(&tag) {
            continue;
        }
        if tags.len() == MAX_TAGS_PER_PUT {
            return Err(RouteError::TooManyTags);
        }
        tags.push(tag);
    }
    Ok(tags)
}

/// An empty `artifactType=` filters nothing.
fn artifact_types(query: Query<'_>) -> Vec<String> {
    let types = query.all("artifactType").map(std::borrow::Cow::into_owned);
    types.filter(|artifact_type| !artifact_type.is_empty()).collect()
}
