//! What a repository's images come to: found out from its tags and manifests. It holds for as long as its row keeps the version.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use super::images::{Image, Images};
use crate::{
    oci::{Algorithm, COSIGN, Digest, RepoName, Tag},
    registry::{Overview, Registry, RegistryError, Summary, Tagged},
    storage::rows,
};

/// Platforms and vendors of one repository that are kept.
const MAX_KINDS: usize = 64;
/// Bytes of a vendor's name that are kept.
const MAX_VENDOR: usize = 128;
/// Referrers of the newest image among which signatures are looked for.
const MAX_REFERRERS: usize = 10_000;

/// Bounds of what is looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Depth {
    /// Tags of a repository.
    pub(super) tags: usize,
    /// Images of it: those that were pushed last.
    pub(super) images: usize,
}

/// Finds out.
pub(super) struct Summaries {
    registry: Arc<Registry>,
    images: Arc<Images>,
    depth: Depth,
}

impl Summaries {
    pub(super) fn new(registry: Arc<Registry>, images: Arc<Images>, depth: Depth) -> Self {
        Self {
            registry,
            images,
            depth,
        }
    }

    /// Finds out. `None` if the repository isn't there.
    pub(super) async fn find_out(&self, name: &RepoName) -> Result<Option<Summary>, RegistryError> {
        let Some(overview) = self.registry.overview(name, self.depth.tags).await? else {
            return Ok(None);
        };
        let tags = latest(shown(&overview), self.depth.images);
        let wanted: Vec<_> = tags
            .iter()
            .map(|tag| (name.clone(), tag.digest.clone()))
            .collect();
        let images = self.images.load(&wanted).await?;
        let mut summary = summarise(&overview, &tags, &images);
        if let Ok(newest) = Digest::parse(&summary.newest_digest) {
            let signers = Signers::of(&overview);
            let mut tools = signers.of_tag(&newest);
            tools.extend(self.registry.signed_by(name, &newest, MAX_REFERRERS).await?);
            summary.newest_signatures = tools.into_iter().map(str::to_owned).collect();
        }
        Ok(Some(summary))
    }
}

/// The tags that are shown: those that name an image, not those that hold what belongs to another (`sha256-….sig`).
pub(super) fn shown(overview: &Overview) -> Vec<&Tagged> {
    overview
        .tags
        .iter()
        .filter(|tagged| attached_to(&tagged.tag).is_none())
        .collect()
}

/// Those of the tags that were pushed last, in their order.
pub(super) fn latest(mut tags: Vec<&Tagged>, most: usize) -> Vec<&Tagged> {
    if tags.len() > most {
        tags.sort_by(|a, b| b.pushed_ms.cmp(&a.pushed_ms).then_with(|| a.tag.cmp(&b.tag)));
        tags.truncate(most);
        tags.sort_by(|a, b| a.tag.cmp(&b.tag));
    }
    tags
}

pub(super) fn summarise(overview: &Overview, tags: &[&Tagged], images: &[Option<Image>]) -> Summary {
    let mut blobs: BTreeMap<Digest, u64> = BTreeMap::new();
    let (mut platforms, mut vendors) = (Vec::new(), Vec::new());
    let (mut seen_platforms, mut seen_vendors, mut seen) = (HashSet::new(), BTreeSet::new(), HashSet::new());
    let mut newest: Option<(&Tagged, &Image)> = None;
    for (tagged, image) in tags.iter().zip(images) {
        let Some(image) = image else { continue };
        let key = |tagged: &Tagged, image: &Image| (image.created(), tagged.pushed_ms);
        if newest.is_none_or(|(other, of)| key(other, of) < key(tagged, image)) {
            newest = Some((tagged, image));
        }
        if !seen.insert(&tagged.digest) {
            continue;
        }
        for (digest, size) in image.blobs() {
            if !blobs.contains_key(digest) {
                blobs.insert(digest.clone(), size);
            }
        }
        for (facts, build) in image.builds() {
            let platform = (build.os.as_str(), build.architecture.as_str());
            let is_one = platform != ("", "") && platforms.len() < MAX_KINDS;
            if is_one && seen_platforms.insert(platform) {
                platforms.push(rows::Platform {
                    os: build.os.clone(),
                    architecture: build.architecture.clone(),
                });
            }
            for vendor in [&image.facts.vendor, &facts.vendor].into_iter().flatten() {
                let is_one = vendors.len() < MAX_KINDS && vendor.len() <= MAX_VENDOR;
                if is_one && seen_vendors.insert(vendor.as_str()) {
                    vendors.push(vendor.clone());
                }
            }
        }
    }
    Summary {
        min_reader: 1,
        version: overview
            .version
            .map(|version| version.to_bytes().to_vec())
            .unwrap_or_default()
            .into(),
        changed_ms: tags
            .iter()
            .map(|tagged| tagged.pushed_ms)
            .max()
            .unwrap_or_default(),
        size: blobs.values().copied().fold(0, u64::saturating_add),
        platforms,
        vendors,
        newest_tag: newest
            .map(|(tagged, _)| tagged.tag.to_string())
            .unwrap_or_default(),
        newest_digest: newest
            .map(|(tagged, _)| tagged.digest.to_string())
            .unwrap_or_default(),
        newest_signatures: Vec::new(),
        newest_pushed_ms: newest.map(|(tagged, _)| tagged.pushed_ms).unwrap_or_default(),
        newest_pushed_by: newest
            .map(|(tagged, _)| tagged.pushed_by.clone())
            .unwrap_or_default(),
    }
}

/// Whether it says all that a summary says now: an older release may have found it out.
pub(super) fn is_complete(summary: &Summary) -> bool {
    summary.newest_tag.is_empty() || summary.newest_pushed_ms > 0
}

/// What a tag is attached to by its form, as clients did before there were referrers, and as what: `sha256-<hex>.sig` of
/// cosign (and `.att`, `.sbom`), `sha256-<hex>` of the referrers tag schema.
pub(super) fn attached_to(tag: &Tag) -> Option<(Digest, &str)> {
    let (name, kind) = tag.as_str().split_once('.').unwrap_or((tag.as_str(), ""));
    let (algorithm, hex) = name.split_once('-')?;
    let digest = Digest::parse(&format!("{algorithm}:{hex}")).ok()?;
    let is_known = [Algorithm::Sha256, Algorithm::Sha512].contains(&digest.algorithm());
    (is_known && matches!(kind, "" | "sig" | "att" | "sbom")).then_some((digest, kind))
}

/// What is signed by a tag of cosign's.
#[derive(Default)]
pub(super) struct Signers(HashSet<Digest>);

impl Signers {
    pub(super) fn of(overview: &Overview) -> Self {
        let signed = |tagged: &Tagged| match attached_to(&tagged.tag) {
            Some((digest, "sig")) => Some(digest),
            Some(_) | None => None,
        };
        Self(overview.tags.iter().filter_map(signed).collect())
    }

    pub(super) fn of_tag(&self, digest: &Digest) -> BTreeSet<&'static str> {
        self.0.contains(digest).then_some(COSIGN).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_that_belong_to_another_manifest_are_told_by_their_form() {
        let hex = "63a05deca15f232bf8b3d370671f328008176e59b3bceeedabfd53eeeecd8fd7";
        let of = |text: &str| {
            let tag = Tag::parse(text).unwrap();
            attached_to(&tag).map(|(digest, kind)| (digest.to_string(), kind.to_owned()))
        };
        let digest = format!("sha256:{hex}");
        for kind in ["sig", "att", "sbom"] {
            assert_eq!(
                of(&format!("sha256-{hex}.{kind}")),
                Some((digest.clone(), kind.to_owned()))
            );
        }
        assert_eq!(of(&format!("sha256-{hex}")), Some((digest, String::new())));
        for image in [
            "1.0",
            "latest",
            "sha256-1.sig",
            &format!("sha256-{hex}.tar"),
            "a-b",
        ] {
            assert_eq!(of(image), None, "{image}");
        }
    }
}
