//! How blobs get to those who pull them: `storage.redirectBlobURL` and what goes with it.

use std::time::Duration;

use super::values;
use crate::config::{
    check::Checked,
    fault::FaultKind,
    limits::Limits,
    model::{Delivery, Redirects},
};

const REDIRECT: &str = "storage.redirectBlobURL";
const MIN_BYTES: &str = "storage.redirectMinBytes";
const ENDPOINT: &str = "storage.storageDriver.redirectendpoint";

pub(super) fn delivery(c: &mut Checked, verify_reads: bool, trash_delay: Option<Duration>) -> Delivery {
    Delivery {
        redirects: redirects(c, verify_reads, trash_delay),
    }
}

fn redirects(c: &mut Checked, verify_reads: bool, trash_delay: Option<Duration>) -> Redirects {
    let bytes = min_bytes(c);
    if c.bool(REDIRECT) != Some(true) {
        for path in [MIN_BYTES, ENDPOINT] {
            if c.has(path) {
                c.warn(format!("{path}: counts only with {REDIRECT}: true"));
            }
        }
        return Redirects::Off;
    }
    if verify_reads {
        let problem = format!(
            "contradicts {REDIRECT}: what clients read from the bucket isn't hashed here; leave out one of the two"
        );
        c.refuse(FaultKind::Contradiction, "storage.verifyReads", problem);
    }
    let life = Limits::default().link_life;
    if trash_delay.is_some_and(|delay| delay <= life) {
        let problem = format!(
            "has to be longer than {}m with {REDIRECT}: for that long the links lead to an object that may be collected meanwhile",
            life.as_secs() / 60
        );
        c.refuse(FaultKind::Contradiction, "storage.trashDelay", problem);
    }
    if !c.has("storage.storageDriver") {
        c.warn(format!(
            "{REDIRECT}: without storageDriver there is nowhere to send clients to: blobs are served as ever"
        ));
    }
    Redirects::From { bytes }
}

fn min_bytes(c: &mut Checked) -> u64 {
    let wanted = c.int(MIN_BYTES).unwrap_or_default();
    u64::try_from(wanted).unwrap_or_else(|_| {
        let problem = format!("expected bytes, 0 or more, got {wanted}");
        c.refuse(FaultKind::Value, MIN_BYTES, problem);
        0
    })
}

/// Where clients reach the bucket, if it is said. `None` when that is no endpoint. A scheme goes without saying nowhere: it is
/// part of what clients are told, whatever the registry speaks itself.
pub(super) fn redirect_endpoint(c: &mut Checked) -> Option<Option<String>> {
    let Some(text) = c.text(ENDPOINT) else {
        return Some(None);
    };
    if !text.contains("://") {
        let problem = format!("expected http(s)://host or http(s)://host:port, got {text:?}");
        c.refuse(FaultKind::Value, ENDPOINT, problem);
        return None;
    }
    values::endpoint(c, ENDPOINT, &text, true).map(Some)
}
