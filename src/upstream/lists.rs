//! Lists of another registry: its repositories, the tags of one, and what refers to a manifest; a page at a time.

use http::{HeaderMap, Uri, header};
use serde::Deserialize;
use tokio::time::Instant;

use super::{Upstream, UpstreamError, ask::Asked, site::Scope};
use crate::{
    oci::{Digest, MAX_MANIFEST_BYTES, Manifest, Reference, RepoName, Tag, signing_tool},
    outbound,
};

/// How many names are asked for at once; registries give fewer if they like.
const PAGE: usize = 1000;
/// Pages of a list; one of more has no end.
const PAGES: usize = 10_000;

/// A list, page after page. What this registry can't hold (names of another grammar) is left out.
pub struct Pages<'a, T> {
    upstream: &'a Upstream,
    kind: &'static str,
    scope: Scope<'a>,
    read: fn(&[u8]) -> Result<Vec<T>, UpstreamError>,
    /// Where it goes on, as the registry said: a path with a query, always on the registry itself.
    next: Option<String>,
    asked: usize,
    /// Where page 1, 2, 4, 8 ... was, the last of them: a list that comes there again goes round (R. P. Brent, 1980).
    mark: String,
}

/// Something that refers to a manifest.
#[derive(Debug)]
pub struct Referring {
    /// Its digest.
    pub digest: Digest,
    /// What the list says that it is.
    pub artifact_type: Option<String>,
}

impl Referring {
    /// Whether the list says that it is a signature.
    pub fn is_signature(&self) -> bool {
        self.artifact_type.as_deref().and_then(signing_tool).is_some()
    }
}

/// What refers to a manifest, page after page: by the API of referrers, else by the tag that the specification has where there is none.
pub struct Referrers<'a> {
    pages: Pages<'a, Referring>,
    repository: &'a RepoName,
    subject: &'a Digest,
}

#[derive(Deserialize)]
struct Repositories {
    repositories: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Tags {
    tags: Option<Vec<String>>,
}

impl Upstream {
    /// Names of its repositories, if it has a catalogue.
    pub fn repositories(&self) -> Pages<'_, RepoName> {
        let path = format!("/v2/_catalog?n={PAGE}");
        self.pages("catalog", Scope::Catalog, path, |page| {
            let page: Repositories = read(page)?;
            let names = page.repositories.unwrap_or_default();
            Ok(names
                .iter()
                .filter_map(|name| RepoName::parse(name).ok())
                .collect())
        })
    }

    /// Tags of a repository there.
    pub fn tags<'a>(&'a self, repository: &'a RepoName) -> Pages<'a, Tag> {
        let path = format!("/v2/{repository}/tags/list?n={PAGE}");
        self.pages("tags", Scope::Repository(repository), path, |page| {
            let page: Tags = read(page)?;
            let tags = page.tags.unwrap_or_default();
            Ok(tags.iter().filter_map(|tag| Tag::parse(tag).ok()).collect())
        })
    }

    /// The manifests that refer to `subject` there.
    pub fn referrers<'a>(&'a self, repository: &'a RepoName, subject: &'a Digest) -> Referrers<'a> {
        let path = format!("/v2/{repository}/referrers/{subject}");
        Referrers {
            pages: self.pages("referrers", Scope::Repository(repository), path, listed),
            repository,
            subject,
        }
    }

    fn pages<'a, T>(
        &'a self,
        kind: &'static str,
        scope: Scope<'a>,
        path: String,
        read: fn(&[u8]) -> Result<Vec<T>, UpstreamError>,
    ) -> Pages<'a, T> {
        Pages {
            upstream: self,
            kind,
            scope,
            read,
            next: Some(path),
            asked: 0,
            mark: String::new(),
        }
    }
}

impl Referrers<'_> {
    /// The next page, as of [`Pages::next`].
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub async fn next(&mut self, until: Instant) -> Result<Option<Vec<Referring>>, UpstreamError> {
        match self.pages.next(until).await {
            // Those that don't have the API say so in several ways.
            Err(error) if self.pages.asked == 0 && error.is_unknown_to_it() => {
                let listed = self.by_tag(until).await?;
                self.pages.next = None;
                Ok(Some(listed))
            }
            page => page,
        }
    }

    /// Of so many pages as have `most` of them.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub async fn first(mut self, most: usize, until: Instant) -> Result<Vec<Referring>, UpstreamError> {
        let mut found = Vec::new();
        while found.len() < most
            && let Some(page) = self.next(until).await?
        {
            found.extend(page);
        }
        Ok(found)
    }

    async fn by_tag(&self, until: Instant) -> Result<Vec<Referring>, UpstreamError> {
        let tag = self.subject.as_str().replacen(':', "-", 1);
        let tag = Tag::parse(&tag).map_err(|_| UpstreamError::NotFound)?;
        let (upstream, tag) = (self.pages.upstream, Reference::Tag(tag));
        match upstream.look(self.repository, &tag, until).await {
            Ok(_) => listed(&upstream.manifest(self.repository, &tag, until).await?.bytes),
            Err(UpstreamError::NotFound) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

impl<T> Pages<'_, T> {
    /// The next page, if there is one; its answer begins `until` then. Where that fails, it is still the next one.
    ///
    /// # Errors
    /// [`UpstreamError`], also when the list leads back to where it has been.
    pub async fn next(&mut self, until: Instant) -> Result<Option<Vec<T>>, UpstreamError> {
        let Some(path) = self.next.clone() else {
            return Ok(None);
        };
        if path == self.mark {
            return Err(UpstreamError::Nonsense("a list that leads back to itself"));
        }
        if self.asked >= PAGES {
            return Err(UpstreamError::Nonsense("a list of more than 10000 pages"));
        }
        let asked = Asked::list(self.kind, self.scope, path.clone());
        let answer = self
            .upstream
            .ask(&asked, until)
            .await
            .map_err(|error| match error {
                // Not as a list that isn't there.
                UpstreamError::NotFound if self.asked > 0 => {
                    UpstreamError::Nonsense("a list that leads nowhere")
                }
                error => error,
            })?;
        let (head, body) = answer.response.into_parts();
        let page = outbound::whole(body, MAX_MANIFEST_BYTES, self.upstream.bounds.answer).await?;
        let read = (self.read)(&page)?;
        self.asked += 1;
        if self.asked.is_power_of_two() {
            self.mark = path;
        }
        self.next = next(&head.headers);
        Ok(Some(read))
    }
}

/// What an index of referrers lists.
fn listed(index: &[u8]) -> Result<Vec<Referring>, UpstreamError> {
    let parsed = Manifest::parse(None, index)
        .map_err(|_| UpstreamError::Nonsense("a list of referrers that is no index"))?;
    let mut types = parsed.children_types;
    let referring = parsed.children.into_iter().map(|child| Referring {
        artifact_type: types.remove(&child.digest),
        digest: child.digest,
    });
    Ok(referring.collect())
}

fn read<'a, T: Deserialize<'a>>(page: &'a [u8]) -> Result<T, UpstreamError> {
    serde_json::from_slice(page).map_err(|_| UpstreamError::Nonsense("a list that is none"))
}

/// `Link: </v2/_catalog?last=x>; rel="next"` (RFC 8288). Its host, if it has one, isn't looked at: proxies put in others.
fn next(headers: &HeaderMap) -> Option<String> {
    let link = headers.get(header::LINK)?.to_str().ok()?;
    let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    if !parameters.replace(['"', ' '], "").contains("rel=next") {
        return None;
    }
    let uri: Uri = target.parse().ok()?;
    let path = uri.path_and_query()?.as_str();
    path.starts_with("/v2/").then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::{
        super::{Purpose, Visit},
        *,
    };
    use crate::{
        config::{Limits, UpstreamUrl},
        oci::MediaType,
        outbound::Trust,
    };

    #[test]
    fn of_referrers_the_types_are_kept_that_a_list_has_and_an_empty_list_may_be_null() {
        let (typed, untyped) = ("0".repeat(64), "1".repeat(64));
        let list = |manifests: &str| format!(r#"{{"schemaVersion": 2, "manifests": {manifests}}}"#);
        let entry = |hex: &str, more: &str| {
            let kind = MediaType::IMAGE_MANIFEST;
            format!(r#"{{"mediaType": "{kind}", "digest": "sha256:{hex}", "size": 1{more}}}"#)
        };
        let (first, second) = (
            entry(&typed, r#", "artifactType": "a/b""#),
            entry(&untyped, r#", "artifactType": """#),
        );
        let found = listed(list(&format!("[{first}, {second}]")).as_bytes()).unwrap();
        let types: Vec<_> = found.iter().map(|one| one.artifact_type.as_deref()).collect();
        assert_eq!(types, [Some("a/b"), None]);
        for none in ["null", "[]"] {
            assert!(listed(list(none).as_bytes()).unwrap().is_empty(), "{none}");
        }
        assert!(listed(b"{}").is_err());
    }

    #[tokio::test]
    async fn a_list_of_too_many_pages_is_told_from_one_that_leads_back() {
        let visit = Visit {
            url: UpstreamUrl {
                scheme: "http",
                authority: "127.0.0.1:1".to_owned(),
            },
            login: None,
            trust: Trust::Machine,
            purpose: Purpose::Pull,
            at_once: 1,
        };
        let upstream = Upstream::visit(visit, &Limits::default()).unwrap();
        let told = async |mut pages: Pages<'_, RepoName>| match pages.next(Instant::now()).await {
            Err(UpstreamError::Nonsense(told)) => told,
            other => panic!("{other:?}"),
        };
        let many = Pages {
            asked: PAGES,
            ..upstream.repositories()
        };
        assert_eq!(told(many).await, format!("a list of more than {PAGES} pages"));
        let back = upstream.repositories();
        let back = Pages {
            mark: back.next.clone().unwrap(),
            ..back
        };
        assert_eq!(told(back).await, "a list that leads back to itself");
    }

    #[test]
    fn a_list_goes_on_at_the_registry_itself() {
        let next = |link: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::LINK, HeaderValue::from_str(link).unwrap());
            next(&headers)
        };
        let expected = Some("/v2/_catalog?last=a&n=2".to_owned());
        assert_eq!(next("</v2/_catalog?last=a&n=2>; rel=\"next\""), expected);
        assert_eq!(
            next("<https://elsewhere.example/v2/_catalog?last=a&n=2>;rel=next"),
            expected
        );
        for none in [
            "</v2/x>; rel=\"prev\"",
            "</v2/x>",
            "/v2/x; rel=next",
            "</admin>; rel=next",
            "",
        ] {
            assert_eq!(next(none), None, "{none}");
        }
    }
}
