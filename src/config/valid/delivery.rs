//! How blobs get to those who pull them: `storage.redirectBlobURL` and what goes with it, `storage.cache`.

use super::values;
use crate::config::{
    check::Checked,
    fault::FaultKind,
    limits::RegistryLimits,
    model::{CacheConfig, Delivery, Redirects},
};

const REDIRECT: &str = "storage.redirectBlobURL";
const MIN_BYTES: &str = "storage.redirectMinBytes";
const ENDPOINT: &str = "storage.storageDriver.redirectendpoint";

/// Below this next to nothing fits.
const LEAST_CACHE: u64 = 16 << 20;

pub(super) fn delivery(c: &mut Checked, verify_reads: bool, limits: &RegistryLimits) -> Delivery {
    Delivery {
        redirects: redirects(c, verify_reads, limits),
        cache: cache(c),
    }
}

fn redirects(c: &mut Checked, verify_reads: bool, limits: &RegistryLimits) -> Redirects {
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
    let life = limits.link_life;
    if limits.object_delay <= life {
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

fn cache(c: &mut Checked) -> Option<CacheConfig> {
    const PATH: &str = "storage.cache.path";
    const BYTES: &str = "storage.cache.bytes";
    if !c.has("storage.cache") {
        return None;
    }
    let path = c.required(
        PATH,
        "it says where blobs are kept, in a folder of this member alone",
    );
    let bytes = match c.int(BYTES) {
        None => {
            let problem = format!("is required: it says how many bytes {PATH} may take up");
            c.refuse(FaultKind::Missing, BYTES, problem);
            None
        }
        Some(wanted) => {
            let bytes = u64::try_from(wanted).ok().filter(|bytes| *bytes >= LEAST_CACHE);
            if bytes.is_none() {
                let problem = format!("expected {LEAST_CACHE} (16 MiB) bytes or more, got {wanted}");
                c.refuse(FaultKind::Value, BYTES, problem);
            }
            bytes
        }
    };
    if path.is_some() && path == c.text("storage.rootDirectory") {
        let problem = "is storage.rootDirectory: it needs a folder of its own";
        c.refuse(FaultKind::Contradiction, PATH, problem);
    }
    if !c.has("storage.storageDriver") {
        c.warn("storage.cache: without storageDriver blobs are on this machine's disk already, and this is a second copy");
    }
    Some(CacheConfig {
        path: path?.into(),
        bytes: bytes?,
    })
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
