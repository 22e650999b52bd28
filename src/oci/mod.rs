//! The vocabulary of the OCI distribution API: names, digests, routes, manifests, ranges.
//!
//! Everything a client sends is parsed here once, at the edge, into types that cannot be wrong; past this module there
//! is no bare `String` for a name, a tag or a digest. All of it is pure: text in, value or condition out.
//!
//! Deliberately absent: I/O, HTTP statuses and headers (one table in `http` says what each condition becomes), access
//! decisions (a route only says what it needs), and any idea of the mesh. Of the `http` crate only `Method` is known.

mod action;
mod digest;
mod error_code;
mod history;
mod manifest;
mod media_type;
mod name;
mod page;
mod pattern;
mod precondition;
mod range;
mod reference;
mod route;
mod signatures;
mod tag_pattern;
mod text;
mod timestamp;
mod undo;
mod upload_id;

pub use action::{Action, Need, Permission};
pub use digest::{Algorithm, Digest, DigestError};
pub use error_code::ErrorCode;
pub use history::HistoryQuery;
pub use manifest::{Descriptor, MAX_MANIFEST_BYTES, MAX_MANIFEST_DEPTH, Manifest, ManifestError};
pub use media_type::{ManifestKind, MediaType, MediaTypeError};
pub use name::{NameError, RepoName, Tag, TagError};
pub use page::{MAX_PAGE, Page, PageError};
pub use pattern::{PatternError, RepoPattern};
pub use precondition::{EntityTag, EntityTagError, EntityTags, Preconditions};
pub use range::{ByteRanges, ChunkRange, MAX_RANGES, RangeError, ResolvedRange, Unsatisfiable, leaves_open};
pub use reference::{Reference, ReferenceError};
pub use route::{Effect, MAX_TAGS_PER_PUT, References, Route, RouteError, paths};
pub use signatures::{COSIGN, signing_tool};
pub use tag_pattern::{TagPattern, TagPatternError};
pub(crate) use text::text_newtype;
pub use timestamp::{Rounding, Timestamp, TimestampError};
pub use undo::Undo;
pub use upload_id::{UploadId, UploadIdError};
