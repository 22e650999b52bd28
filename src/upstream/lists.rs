//! Lists of another registry: its repositories, the tags of one, and what refers to a manifest; a page at a time.

use std::collections::BTreeMap;

use http::{HeaderMap, Uri, header};
use serde::Deserialize;
use tokio::time::Instant;

use super::{Upstream, UpstreamError, ask::Asked, site::Scope};
use crate::{
    oci::{Digest, MAX_MANIFEST_BYTES, Manifest, Reference, RepoName, Tag},
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

/// What of an index of referrers isn't in [`Manifest`].
#[derive(Deserialize)]
struct Entries {
    #[serde(default)]
    manifests: Vec<ListedType>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListedType {
    digest: String,
    artifact_type: Option<String>,
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

    /// The manifests that refer to `subject` there, of so many pages as have `most` of them: by the API of referrers,
    /// else by the tag that the specification has where there is none.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub async fn referrers(
        &self,
        repository: &RepoName,
        subject: &Digest,
        most: usize,
        until: Instant,
    ) -> Result<Vec<Referring>, UpstreamError> {
        let path = format!("/v2/{repository}/referrers/{subject}");
        let mut pages = self.pages("referrers", Scope::Repository(repository), path, listed);
        let mut found = match pages.next(until).await {
            Ok(first) => first.unwrap_or_default(),
            // Those that don't have it say so in several ways.
            Err(error) if error.is_unknown_to_it() => {
                let tag = subject.as_str().replacen(':', "-", 1);
                let tag = Tag::parse(&tag).map_err(|_| UpstreamError::NotFound)?;
                let tag = Reference::Tag(tag);
                return match self.look(repository, &tag, until).await {
                    Ok(_) => listed(&self.manifest(repository, &tag, until).await?.bytes),
                    Err(UpstreamError::NotFound) => Ok(Vec::new()),
                    Err(error) => Err(error),
                };
            }
            Err(error) => return Err(error),
        };
        while found.len() < most
            && let Some(page) = pages.next(until).await?
        {
            found.extend(page);
        }
        Ok(found)
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

impl<T> Pages<'_, T> {
    /// The next page, if there is one; its answer begins `until` then.
    ///
    /// # Errors
    /// [`UpstreamError`], also when the list leads back to where it has been.
    pub async fn next(&mut self, until: Instant) -> Result<Option<Vec<T>>, UpstreamError> {
        let Some(path) = self.next.take() else {
            return Ok(None);
        };
        if path == self.mark || self.asked >= PAGES {
            return Err(UpstreamError::Nonsense("a list that leads back to itself"));
        }
        self.asked += 1;
        if self.asked.is_power_of_two() {
            self.mark.clone_from(&path);
        }
        let asked = Asked::list(self.kind, self.scope, path);
        let answer = self.upstream.ask(&asked, until).await?;
        let (head, body) = answer.response.into_parts();
        let page = outbound::whole(body, MAX_MANIFEST_BYTES, self.upstream.bounds.answer).await?;
        self.next = next(&head.headers);
        (self.read)(&page).map(Some)
    }
}

/// What an index of referrers lists.
fn listed(index: &[u8]) -> Result<Vec<Referring>, UpstreamError> {
    let parsed = Manifest::parse(None, index)
        .map_err(|_| UpstreamError::Nonsense("a list of referrers that is no index"))?;
    let Entries { manifests } = read(index)?;
    let types = manifests
        .into_iter()
        .filter_map(|entry| Some((entry.digest, entry.artifact_type?)));
    let mut types: BTreeMap<String, String> = types.collect();
    let referring = parsed.children.into_iter().map(|child| Referring {
        artifact_type: types.remove(child.digest.as_str()),
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

    use super::*;

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
