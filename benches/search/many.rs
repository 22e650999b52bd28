//! Many repositories, as rows: what pushes would have left behind, as far as search and pulls of manifests read it, and what
//! members find out about each, once. It is faster to write than pushed.

use std::{error::Error, ops::Range};

use bytes::Bytes;
use futures_util::{TryStreamExt as _, stream};
use prost::Message as _;
use serde_json::json;

use super::{
    oci::{Algorithm, Digest, RepoName, Tag},
    storage::{Expect, Key, MAX_OPS, MetaStore, Op, Outcome, Version, keys, rows},
};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Tags of each repository.
pub(crate) const TAGS: usize = 10;
/// Manifests that they name: each the same number of them.
pub(crate) const MANIFESTS: usize = 2;
/// The configuration of all of them, which lies in the blob store already.
pub(crate) const CONFIG: &[u8] =
    br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},"config":{}}"#;
/// Transactions on their way at once.
const AT_ONCE: usize = 8;

/// The `n`-th repository.
pub(crate) fn name(n: usize) -> Result<RepoName> {
    Ok(RepoName::parse(&format!("team-{:03}/service-{n:06}", n % 500))?)
}

/// Writes these of them. The configuration's record must be there.
pub(crate) async fn fill(meta: &dyn MetaStore, repositories: Range<usize>) -> Result<()> {
    let config = Digest::of(Algorithm::Sha256, CONFIG);
    let record = meta.get(&keys::blob(&config)).await?;
    let record = rows::Blob::decode(record.ok_or("the configuration wasn't pushed")?.bytes)?;
    let in_one = MAX_OPS / (4 + TAGS + MANIFESTS);
    let chunks = repositories.clone().step_by(in_one).map(Ok);
    let written = stream::iter(chunks).try_for_each_concurrent(AT_ONCE, |first| {
        let (record, repositories) = (&record, &repositories);
        async move {
            let version = Version::random();
            let some = first..repositories.end.min(first + in_one);
            let ops: Vec<Vec<Op>> = some.map(|n| rows_of(n, record, version)).collect::<Result<_>>()?;
            match meta.transact(version, &ops.concat()).await? {
                Outcome::Committed => Ok(()),
                other => Err(format!("{other:?}").into()),
            }
        }
    });
    written.await
}

/// The rows of the `n`-th repository, written under this version.
fn rows_of(n: usize, config: &rows::Blob, version: Version) -> Result<Vec<Op>> {
    let (name, config_digest) = (name(n)?, Digest::of(Algorithm::Sha256, CONFIG));
    let min_reader = rows::SCHEMA;
    // In no order.
    let pushed_ms = 1_700_000_000_000 + (n as u64 * 7919) % 100_003 * 60_000;
    let manifests: Vec<(Digest, Vec<u8>)> = (0..MANIFESTS).map(|m| manifest(n, m)).collect();
    let size = |of: &[u8]| of.len() as u64;
    let mut ops = vec![
        put(keys::catalog_entry(&name), &rows::CatalogEntry { min_reader }),
        put(
            keys::repository(&name),
            &rows::Repository {
                min_reader,
                holder: "127.0.0.1:5000".to_owned(),
                manifests: MANIFESTS as u64,
                changed_ms: pushed_ms,
                ..rows::Repository::default()
            },
        ),
        put(
            keys::link(&config_digest, &name),
            &rows::Link {
                min_reader,
                object_key: config.object_key.clone(),
                size: config.size,
                in_use: true,
                ..rows::Link::default()
            },
        ),
    ];
    for (digest, body) in &manifests {
        let row = rows::Manifest {
            min_reader,
            media_type: MANIFEST.to_owned(),
            size: size(body),
            pushed_ms,
            body: Some(rows::manifest::Body::Inline(body.clone().into())),
            ..rows::Manifest::default()
        };
        ops.push(put(keys::manifest(&name, digest), &row));
    }
    let mut newest = None;
    for t in 0..TAGS {
        let tag = Tag::parse(&format!("v1.{t}.{}", n % 50))?;
        let (digest, body) = &manifests[t % MANIFESTS];
        let row = rows::Tag {
            min_reader,
            digest: digest.to_string(),
            media_type: MANIFEST.to_owned(),
            size: size(body),
            pushed_ms: pushed_ms + t as u64,
            pushed_by: "ci".to_owned(),
        };
        ops.push(put(keys::tag(&name, &tag), &row));
        newest = Some((tag, row));
    }
    let (newest_tag, newest) = newest
        .map(|(tag, row)| (tag.to_string(), row))
        .unwrap_or_default();
    let found_out = rows::Summary {
        min_reader,
        version: Bytes::copy_from_slice(&version.to_bytes()),
        changed_ms: pushed_ms + TAGS as u64 - 1,
        size: manifests.iter().map(|(_, body)| size(body)).sum::<u64>()
            + config.size
            + MANIFESTS as u64 * LAYER,
        platforms: vec![rows::Platform {
            os: "linux".to_owned(),
            architecture: "amd64".to_owned(),
        }],
        vendors: vec![VENDOR.to_owned()],
        newest_tag,
        newest_digest: newest.digest,
        newest_signatures: Vec::new(),
        newest_pushed_ms: newest.pushed_ms,
        newest_pushed_by: newest.pushed_by,
    };
    ops.push(put(keys::summary(&name), &found_out));
    Ok(ops)
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const VENDOR: &str = "Example Works";
/// Bytes of a layer.
const LAYER: u64 = 31_415_926;

fn put(key: Key, row: &impl prost::Message) -> Op {
    key.put(Expect::Absent, row.encode_to_vec())
}

/// The `m`-th manifest of the `n`-th repository.
fn manifest(n: usize, m: usize) -> (Digest, Vec<u8>) {
    let layer = Digest::of(Algorithm::Sha256, format!("layer {n} {m}").as_bytes());
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": Digest::of(Algorithm::Sha256, CONFIG).to_string(),
            "size": CONFIG.len(),
        },
        "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": layer.to_string(), "size": LAYER }],
        "annotations": { "org.opencontainers.image.vendor": VENDOR, "org.opencontainers.image.title": format!("service {n}") },
    });
    let body = manifest.to_string().into_bytes();
    (Digest::of(Algorithm::Sha256, &body), body)
}
