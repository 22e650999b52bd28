//! What is asked of images, as far as it decides what is read.

use juniper::{DefaultScalarValue, Executor, LookAheadSelection};

use super::{
    Asking,
    counted::Pulls,
    repositories::{Newest, Shown},
};

type Selected<'a> = LookAheadSelection<'a, DefaultScalarValue>;

/// What is selected where this path of fields leads. A field may be there several times, and be called otherwise in the answer:
/// what any of them selects is.
fn within<'a>(executor: &'a Executor<'_, '_, Asking>, path: &[&str]) -> Vec<Selected<'a>> {
    let asked: Vec<_> = executor.look_ahead().children().iter().copied().collect();
    path.iter().fold(asked, |selected, name| below(&selected, name))
}

fn below<'a>(selected: &[Selected<'a>], name: &str) -> Vec<Selected<'a>> {
    let named = selected
        .iter()
        .filter(|field| field.field_original_name() == name);
    let below = named.map(|field| field.children().iter().copied().collect::<Vec<_>>());
    below.flatten().collect()
}

fn has(selected: &[Selected<'_>], names: &[&str]) -> bool {
    selected
        .iter()
        .any(|field| names.contains(&field.field_original_name()))
}

fn newest_in(executor: &Executor<'_, '_, Asking>, list: &str) -> Newest {
    let image = within(executor, &[list, "NewestImage"]);
    let manifests = below(&image, "Manifests");
    let known = [
        "RepoName",
        "Tag",
        "Digest",
        "IsSigned",
        "SignatureInfo",
        "Vulnerabilities",
        "__typename",
    ];
    if has(&image, &["Referrers"]) || has(&manifests, &["Referrers", "IsSigned", "SignatureInfo"]) {
        return Newest::Attached;
    }
    match image
        .iter()
        .all(|field| known.contains(&field.field_original_name()))
    {
        true => Newest::Named,
        false => Newest::Shown,
    }
}

/// Of which of the images to which the paths lead it is told how often they were pulled.
pub(super) fn pulls_in(executor: &Executor<'_, '_, Asking>, paths: &[&[&str]]) -> Pulls {
    let selected: Vec<_> = paths.iter().flat_map(|path| within(executor, path)).collect();
    Pulls {
        of_images: has(&selected, &["DownloadCount", "LastPullTimestamp"]),
        of_manifests: has(&below(&selected, "Manifests"), &["DownloadCount"]),
    }
}

/// How much of the repositories in `list` is shown.
pub(super) fn shown_in(executor: &Executor<'_, '_, Asking>, list: &str) -> Shown {
    Shown {
        newest: newest_in(executor, list),
        pulls: pulls_in(executor, &[&[list, "NewestImage"]]),
        has_downloads: has(&within(executor, &[list]), &["DownloadCount"]),
    }
}
