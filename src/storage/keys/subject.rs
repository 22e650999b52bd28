//! What a row is about, by its key: for who walks a whole space.

use super::{CATALOG, LINKED_BLOBS, MANIFESTS, REFERRERS, SELF, TAGS, usage_shard};
use crate::{
    oci::{Digest, RepoName, Tag, UploadId},
    storage::{Key, Space},
};

/// What a row is about. Rows that are of no use to who compares rows with each other have none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// That the repository is in the catalogue.
    Catalogued(RepoName),
    /// The repository's own row.
    Repository(RepoName),
    /// What a tag names.
    Tag(RepoName, Tag),
    /// That a digest is named by a tag.
    TagOf(RepoName, Digest, Tag),
    /// The reverse of a link.
    LinkedBlob(RepoName, Digest),
    /// What is counted below a prefix.
    Usage(RepoName, u32),
    /// A manifest.
    Manifest(RepoName, Digest),
    /// That a manifest, the latter, references what the former is of.
    Reference(RepoName, Digest, Digest),
    /// That a manifest, the latter, is about the former.
    Referrer(RepoName, Digest, Digest),
    /// The record of a blob.
    Blob(Digest),
    /// That the repository holds the blob.
    Link(RepoName, Digest),
    /// An upload.
    Session(UploadId),
}

impl Subject {
    /// Of the row at `key`.
    pub fn of(key: &Key) -> Option<Self> {
        let (partition, sort) = (key.partition.as_str(), key.sort.as_str());
        let repository = || RepoName::parse(partition).ok();
        let pair = |rest: &str| {
            let (first, second) = rest.split_once('#')?;
            Some((Digest::parse(first).ok()?, second.to_owned()))
        };
        let digests = |rest: &str| {
            let (first, second) = pair(rest)?;
            Some((first, Digest::parse(&second).ok()?))
        };
        Some(match key.space {
            Space::Repositories if partition == CATALOG => Self::Catalogued(RepoName::parse(sort).ok()?),
            Space::Repositories if sort == SELF => Self::Repository(repository()?),
            Space::Repositories => {
                if let Some(prefix) = partition.strip_prefix("_usage#") {
                    return Some(Self::Usage(RepoName::parse(prefix).ok()?, usage_shard(sort)?));
                }
                if let Some(tag) = sort.strip_prefix(TAGS) {
                    return Some(Self::Tag(repository()?, Tag::parse(tag).ok()?));
                }
                if let Some(digest) = sort.strip_prefix(LINKED_BLOBS) {
                    return Some(Self::LinkedBlob(repository()?, Digest::parse(digest).ok()?));
                }
                let (digest, tag) = pair(sort.strip_prefix("d#")?)?;
                Self::TagOf(repository()?, digest, Tag::parse(&tag).ok()?)
            }
            Space::Manifests => {
                if let Some(digest) = sort.strip_prefix(MANIFESTS) {
                    return Some(Self::Manifest(repository()?, Digest::parse(digest).ok()?));
                }
                if let Some(rest) = sort.strip_prefix(REFERRERS) {
                    let (subject, digest) = digests(rest)?;
                    return Some(Self::Referrer(repository()?, subject, digest));
                }
                let (child, parent) = digests(sort.strip_prefix("r#")?)?;
                Self::Reference(repository()?, child, parent)
            }
            Space::Blobs if sort == SELF => Self::Blob(Digest::parse(partition).ok()?),
            Space::Links => Self::Link(RepoName::parse(sort).ok()?, Digest::parse(partition).ok()?),
            Space::Uploads if sort == SELF => Self::Session(UploadId::parse(partition).ok()?),
            Space::Blobs | Space::Uploads | Space::Members | Space::Users | Space::ApiKeys => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::*, *};

    #[test]
    fn a_key_that_is_built_is_understood() {
        let (name, tag): (RepoName, Tag) = ("a/b".parse().unwrap(), "v1.0".parse().unwrap());
        let one = Digest::parse(&format!("sha256:{}", "1".repeat(64))).unwrap();
        let two = Digest::parse(&format!("sha512:{}", "2".repeat(128))).unwrap();
        let id = UploadId::random();
        let (name, tag, one, two) = (&name, &tag, &one, &two);
        let table = [
            (catalog_entry(name), Subject::Catalogued(name.clone())),
            (repository(name), Subject::Repository(name.clone())),
            (
                super::super::tag(name, tag),
                Subject::Tag(name.clone(), tag.clone()),
            ),
            (
                tag_of(name, one, tag),
                Subject::TagOf(name.clone(), one.clone(), tag.clone()),
            ),
            (
                linked_blob(name, two),
                Subject::LinkedBlob(name.clone(), two.clone()),
            ),
            (usage(name, 15), Subject::Usage(name.clone(), 15)),
            (manifest(name, one), Subject::Manifest(name.clone(), one.clone())),
            (
                reference(name, one, two),
                Subject::Reference(name.clone(), one.clone(), two.clone()),
            ),
            (
                referrer(name, two, one),
                Subject::Referrer(name.clone(), two.clone(), one.clone()),
            ),
            (blob(one), Subject::Blob(one.clone())),
            (link(one, name), Subject::Link(name.clone(), one.clone())),
            (session(&id), Subject::Session(id.clone())),
        ];
        for (key, subject) in table {
            assert_eq!(Subject::of(&key), Some(subject), "{key:?}");
        }
        for other in [
            settled_change(name, 1),
            feed_head(1),
            pull(name, one),
            stars(name),
        ] {
            assert_eq!(Subject::of(&other), None, "{other:?}");
        }
    }
}
