//! How often images were pulled, and when, where that is asked.

use std::collections::HashMap;

use super::{Asking, SearchError, images::Image};
use crate::{
    oci::{Digest, RepoName},
    registry::Asked,
    storage::rows,
};

/// Manifests of one answer that are counted.
const MAX_COUNTED: usize = 5_000;

/// Of what it is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pulls {
    pub(super) of_images: bool,
    /// Of the platforms' manifests of an index, when they were asked for by themselves.
    pub(super) of_manifests: bool,
}

/// Pulls of an image and its manifests, by their digests.
pub(super) type Pulled = HashMap<Digest, rows::Pull>;

/// Pulls of manifests of several repositories.
pub(super) type PulledOf = HashMap<(RepoName, Digest), rows::Pull>;

impl Pulls {
    /// The manifests of an image that are to be counted.
    fn among(self, image: &Image) -> impl Iterator<Item = &Digest> {
        let itself = self.of_images.then_some(&image.facts.digest);
        let manifests = match self.of_manifests {
            true => image.manifests.as_slice(),
            false => &[],
        };
        itself
            .into_iter()
            .chain(manifests.iter().map(|facts| &facts.digest))
    }
}

impl Asking {
    /// Counts the manifests of repositories' newest images, too.
    pub(super) async fn count_manifests(
        &self,
        images: &mut HashMap<RepoName, (Image, Pulled)>,
    ) -> Result<(), SearchError> {
        let pulls = Pulls {
            of_images: false,
            of_manifests: true,
        };
        let those = images.iter().map(|(repository, (image, _))| (repository, image));
        let counted = self.counted(pulls, those).await?;
        for (repository, (image, known)) in images {
            known.extend(pulled(pulls, repository, image, &counted));
        }
        Ok(())
    }

    /// Pulls of the manifests of images that are to be counted.
    pub(super) async fn counted(
        &self,
        pulls: Pulls,
        those: impl Iterator<Item = (&RepoName, &Image)>,
    ) -> Result<PulledOf, SearchError> {
        let mut named: Vec<(RepoName, Digest)> = Vec::new();
        for (repository, image) in those {
            named.extend(
                pulls
                    .among(image)
                    .map(|digest| (repository.clone(), digest.clone())),
            );
        }
        if named.len() > MAX_COUNTED {
            self.leave_out();
            named.truncate(MAX_COUNTED);
        }
        let asked = Asked {
            pulls: &named,
            ..Asked::default()
        };
        let told = self.search.registry.told(asked).await?.pulls;
        let counted = named.into_iter().zip(told);
        Ok(counted.filter_map(|(named, pull)| Some((named, pull?))).collect())
    }
}

/// What was counted of an image.
pub(super) fn pulled(pulls: Pulls, repository: &RepoName, image: &Image, counted: &PulledOf) -> Pulled {
    let of = |digest: &Digest| {
        let pull = counted.get(&(repository.clone(), digest.clone()))?;
        Some((digest.clone(), *pull))
    };
    pulls.among(image).filter_map(of).collect()
}
