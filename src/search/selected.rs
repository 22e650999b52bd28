//! What is asked of images, as far as it decides what is read.

use juniper::{DefaultScalarValue, Executor, LookAheadSelection};

use super::{Asking, found::Pulls, repositories::Newest};

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

/// How much of the newest image a list of repositories in `list` shows.
pub(super) fn newest_in(executor: &Executor<'_, '_, Asking>, list: &str) -> Newest {
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

/// Whether pulls are told of the images to which one of the paths leads.
pub(super) fn pulls_in(executor: &Executor<'_, '_, Asking>, paths: &[&[&str]]) -> Pulls {
    let is_told = |path: &&[&str]| has(&within(executor, path), &["DownloadCount", "LastPullTimestamp"]);
    match paths.iter().any(is_told) {
        true => Pulls::Told,
        false => Pulls::Untold,
    }
}
