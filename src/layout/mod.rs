//! OCI image layouts (image-spec 1.1, image-layout.md): in directories and in tar archives, read and written.
//!
//! [`Layout`] is one that is there, [`Growing`] one that is being written. Several repositories are several layouts below one
//! directory, as zot keeps them, or one layout whose names say the repository, too (`library/alpine:3`), as `export` writes it.
//!
//! Nothing that is read is trusted: documents are bounded and compared with their digests.
//!
//! Deliberately absent: registries, compressed archives, and the formats of before image layouts (`docker save` of old).

mod archive;
mod error;
mod index;
mod read;
mod write;

pub use self::{
    archive::pack,
    error::LayoutError,
    index::Entry,
    read::{Content, Layout, find},
    write::{Growing, Incoming},
};

/// The file that makes a directory a layout.
const MARK: &str = "oci-layout";

/// The list of what is in it.
const INDEX: &str = "index.json";

/// The folder with what isn't whole yet.
const UNFINISHED: &str = "unfinished";

/// What stands in [`MARK`].
const VERSION: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// The longest list that is read, in bytes: of some hundred thousand entries.
const MAX_INDEX_BYTES: u64 = 256 << 20;

/// Where the content of a digest lies.
fn path_of(digest: &crate::oci::Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}
