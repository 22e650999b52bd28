//! What has to be pushed again so that what is wanted is there, and in which order.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::{
    super::{Registry, Result, row},
    Restore, Wanted,
};
use crate::{
    oci::Digest,
    storage::{MAX_OPS, keys, rows},
};

/// What restoring comes to.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// What to push, what it lists before it.
    pub(super) order: Vec<Digest>,
    /// Whether something of it was deleted.
    pub(super) has_deleted: bool,
    /// Blobs that come back, with their lengths.
    pub(super) shelved: BTreeMap<Digest, u64>,
    /// What isn't kept.
    pub(super) gone: BTreeSet<Digest>,
    /// There was no time to look at all that is wanted: this is some of it.
    pub(super) is_cut: bool,
}

/// Manifests that were looked at.
#[derive(Debug, Default)]
struct Seen {
    live: BTreeSet<Digest>,
    /// Deleted ones that can come back, and what they list.
    deleted: BTreeMap<Digest, Vec<Digest>>,
    gone: BTreeSet<Digest>,
    shelved: BTreeMap<Digest, u64>,
    is_cut: bool,
}

impl Registry {
    /// What has to be pushed for what is wanted. To look takes half of the time at most: a restore that is too large for one request
    /// does a part of it, and the next finds that done.
    pub(super) async fn work(&self, restore: &Restore<'_>, wanted: &Wanted) -> Result<Work> {
        let now = Instant::now();
        let until = now + restore.deadline.saturating_duration_since(now) / 2;
        let mut seen = Seen::default();
        // What the last ones list comes before the others: what was looked at when the time is over is whole.
        let mut rest: Vec<Digest> = wanted.0.keys().rev().cloned().collect();
        while !rest.is_empty() && !seen.is_cut {
            let mut some = BTreeSet::new();
            while some.len() < MAX_OPS
                && let Some(digest) = rest.pop()
            {
                if !seen.has(&digest) {
                    some.insert(digest);
                }
            }
            rest.extend(self.look_at(restore, &some, until, &mut seen).await?);
        }
        Ok(seen.ordered(wanted))
    }

    /// Gives what they list.
    async fn look_at(
        &self,
        restore: &Restore<'_>,
        some: &BTreeSet<Digest>,
        until: Instant,
        seen: &mut Seen,
    ) -> Result<Vec<Digest>> {
        let repository = restore.repository;
        let manifests: Vec<_> = some
            .iter()
            .map(|digest| keys::manifest(repository, digest))
            .collect();
        let (mut blobs, mut listed) = (BTreeSet::new(), Vec::new());
        for (digest, found) in some.iter().zip(self.get_all(&manifests).await?) {
            if Instant::now() > until {
                seen.is_cut = true;
                break;
            }
            let manifest = match self.kept_of(found.as_ref())? {
                Some(manifest) if manifest.deleted_ms == 0 => {
                    seen.live.insert(digest.clone());
                    continue;
                }
                Some(manifest) => match self.parsed(repository, digest, manifest).await {
                    Ok((manifest, _)) => Some(manifest),
                    Err(error) if restore.leaves(&error) => None,
                    Err(error) => return Err(error),
                },
                None => None,
            };
            let Some(manifest) = manifest else {
                seen.gone.insert(digest.clone());
                continue;
            };
            let needed = manifest.blobs.into_iter().chain(manifest.optional_blobs);
            blobs.extend(needed.map(|blob| blob.digest));
            let children: Vec<_> = manifest.children.into_iter().map(|child| child.digest).collect();
            listed.extend(children.iter().cloned());
            seen.deleted.insert(digest.clone(), children);
        }
        let links: Vec<_> = blobs.iter().map(|blob| keys::link(blob, repository)).collect();
        for (blob, found) in blobs.into_iter().zip(self.get_all(&links).await?) {
            let link: Option<rows::Link> = found.as_ref().map(row::read).transpose()?;
            if let Some(link) = link.filter(|link| link.shelved) {
                seen.shelved.insert(blob, link.size);
            }
        }
        Ok(listed)
    }
}

impl Seen {
    fn has(&self, digest: &Digest) -> bool {
        self.live.contains(digest) || self.deleted.contains_key(digest) || self.gone.contains(digest)
    }

    /// Without what lists something that wasn't looked at.
    fn ordered(self, wanted: &Wanted) -> Work {
        let mut work = Work {
            has_deleted: !self.deleted.is_empty(),
            is_cut: self.is_cut,
            ..Work::default()
        };
        let (mut met, mut whole) = (BTreeSet::new(), BTreeSet::new());
        // What a manifest lists is pushed before it: it is on top, and the manifest below it a second time.
        let mut stack: Vec<(&Digest, bool)> = wanted.0.keys().map(|digest| (digest, false)).collect();
        while let Some((digest, has_children)) = stack.pop() {
            if has_children {
                let listed = self.deleted.get(digest);
                if listed.is_some_and(|listed| listed.iter().all(|child| whole.contains(child))) {
                    whole.insert(digest);
                    work.order.push(digest.clone());
                }
                continue;
            }
            if !met.insert(digest) {
                continue;
            }
            match self.deleted.get(digest) {
                Some(children) => {
                    stack.push((digest, true));
                    stack.extend(children.iter().map(|child| (child, false)));
                }
                None if self.live.contains(digest) => {
                    whole.insert(digest);
                    if wanted.0.get(digest).is_some_and(|tags| !tags.is_empty()) {
                        work.order.push(digest.clone());
                    }
                }
                None if self.gone.contains(digest) => {
                    whole.insert(digest);
                    if wanted.0.contains_key(digest) {
                        work.gone.insert(digest.clone());
                    }
                }
                None => {}
            }
        }
        work.shelved = self.shelved;
        work
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{oci::Tag, registry::testing::sha256};

    #[test]
    fn what_was_looked_at_when_the_time_was_over_is_pushed_if_it_is_whole() {
        let digest = |text: &str| sha256(text.as_bytes());
        let deleted =
            |text: &str, lists: &[&str]| (digest(text), lists.iter().map(|text| digest(text)).collect());
        let seen = Seen {
            live: ["live", "moved"].map(digest).into(),
            deleted: BTreeMap::from([
                deleted("whole", &["child", "gone", "live"]),
                deleted("child", &[]),
                deleted("cut", &["child", "not seen"]),
                deleted("above", &["cut"]),
            ]),
            gone: ["gone"].map(digest).into(),
            shelved: BTreeMap::new(),
            is_cut: true,
        };
        let wanted = [
            "above", "whole", "child", "cut", "gone", "live", "moved", "not seen",
        ];
        let mut wanted = Wanted(wanted.map(|text| (digest(text), BTreeSet::new())).into());
        let moved: Tag = "t".parse().unwrap();
        wanted.0.entry(digest("moved")).or_default().insert(moved);
        let work = seen.ordered(&wanted);
        let place = |text: &str| work.order.iter().position(|one| *one == digest(text));
        assert_eq!(work.order.len(), 3, "{work:?}");
        assert!(
            place("moved").is_some() && place("child") < place("whole"),
            "{work:?}"
        );
        assert_eq!(work.gone, [digest("gone")].into());
        assert!(work.is_cut && work.has_deleted);
    }
}
