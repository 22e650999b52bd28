//! `storage.quota`.

use std::{collections::BTreeMap, num::NonZeroU64};

use super::values;
use crate::{
    config::{check::Checked, fault::FaultKind, tree::Node},
    oci::RepoName,
};

const QUOTA: &str = "storage.quota";

pub(super) fn quotas(c: &mut Checked) -> BTreeMap<RepoName, NonZeroU64> {
    let entries = c.entries(QUOTA);
    let quotas = entries.iter().filter_map(|(prefix, node)| quota(c, prefix, node));
    quotas.collect()
}

fn quota(c: &mut Checked, prefix: &str, node: &Node) -> Option<(RepoName, NonZeroU64)> {
    let path = format!("{QUOTA}.{prefix:?}");
    let mut refuse = |problem| c.refuse_at(FaultKind::Value, &path, node.line, problem);
    let name = RepoName::parse(prefix).map_err(|_| {
        refuse(format!(
            "expected a repository's name, such as team or team/app, got {prefix:?}: it stands for the repository and \
             all below it, without patterns and without a slash at its end"
        ));
    });
    let wanted = values::int(node)?;
    let bytes = u64::try_from(wanted).ok().and_then(NonZeroU64::new);
    if bytes.is_none() {
        refuse(format!(
            "expected bytes, at least 1, got {wanted}; leave it out for no limit"
        ));
    }
    Some((name.ok()?, bytes?))
}
