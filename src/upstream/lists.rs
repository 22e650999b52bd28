//! Lists of another registry: its repositories, the tags of one, and what refers to a manifest; a page at a time.

use bytes::Bytes;
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

/// A part of a list. What this registry can't hold (names of another grammar) is left out.
#[derive(Debug)]
pub struct Listed<T> {
    /// What it lists.
    pub items: Vec<T>,
    /// Where it goes on.
    pub next: Option<Next>,
}

/// Where a list goes on, as the registry said: a path with a query, always on the registry itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Next(String);

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
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub async fn repositories(
        &self,
        from: Option<Next>,
        until: Instant,
    ) -> Result<Listed<RepoName>, UpstreamError> {
        let path = from.map_or_else(|| format!("/v2/_catalog?n={PAGE}"), |next| next.0);
        let (page, next) = self
            .page(Asked::list("catalog", Scope::Catalog, path), until)
            .await?;
        let page: Repositories = read(&page)?;
        let names = page.repositories.unwrap_or_default();
        Ok(Listed {
            items: names
                .iter()
                .filter_map(|name| RepoName::parse(name).ok())
                .collect(),
            next,
        })
    }

    /// Tags of a repository there.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub async fn tags(
        &self,
        repository: &RepoName,
        from: Option<Next>,
        until: Instant,
    ) -> Result<Listed<Tag>, UpstreamError> {
        let path = from.map_or_else(|| format!("/v2/{repository}/tags/list?n={PAGE}"), |next| next.0);
        let asked = Asked::list("tags", Scope::Repository(repository), path);
        let (page, next) = self.page(asked, until).await?;
        let page: Tags = read(&page)?;
        let tags = page.tags.unwrap_or_default();
        Ok(Listed {
            items: tags.iter().filter_map(|tag| Tag::parse(tag).ok()).collect(),
            next,
        })
    }

    /// Digests of the manifests that refer to `subject` there, of the first page: by the API of referrers, else by the tag that
    /// the specification has where there is none.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub async fn referrers(
        &self,
        repository: &RepoName,
        subject: &Digest,
        until: Instant,
    ) -> Result<Vec<Digest>, UpstreamError> {
        let path = format!("/v2/{repository}/referrers/{subject}");
        let asked = Asked::list("referrers", Scope::Repository(repository), path);
        let index = match self.page(asked, until).await {
            Ok((index, _)) => index,
            // Those that don't have it say so in several ways.
            Err(error) if error.is_unknown_to_it() => {
                let tag = subject.as_str().replacen(':', "-", 1);
                let tag = Tag::parse(&tag).map_err(|_| UpstreamError::NotFound)?;
                let tag = Reference::Tag(tag);
                match self.look(repository, &tag, until).await {
                    Ok(_) => self.manifest(repository, &tag, until).await?.bytes,
                    Err(UpstreamError::NotFound) => return Ok(Vec::new()),
                    Err(error) => return Err(error),
                }
            }
            Err(error) => return Err(error),
        };
        let index = Manifest::parse(None, &index)
            .map_err(|_| UpstreamError::Nonsense("a list of referrers that is no index"))?;
        Ok(index.children.into_iter().map(|child| child.digest).collect())
    }

    async fn page(&self, asked: Asked<'_>, until: Instant) -> Result<(Bytes, Option<Next>), UpstreamError> {
        let answer = self.ask(&asked, until).await?;
        let (head, body) = answer.response.into_parts();
        let next = next(&head.headers);
        let page = outbound::whole(body, MAX_MANIFEST_BYTES, self.bounds.answer).await?;
        Ok((page, next))
    }
}

fn read<'a, T: Deserialize<'a>>(page: &'a [u8]) -> Result<T, UpstreamError> {
    serde_json::from_slice(page).map_err(|_| UpstreamError::Nonsense("a list that is none"))
}

/// `Link: </v2/_catalog?last=x>; rel="next"` (RFC 8288). Its host, if it has one, isn't looked at: proxies put in others.
fn next(headers: &HeaderMap) -> Option<Next> {
    let link = headers.get(header::LINK)?.to_str().ok()?;
    let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    if !parameters.replace(['"', ' '], "").contains("rel=next") {
        return None;
    }
    let uri: Uri = target.parse().ok()?;
    let path = uri.path_and_query()?.as_str();
    path.starts_with("/v2/").then(|| Next(path.to_owned()))
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
            next(&headers).map(|next| next.0)
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
