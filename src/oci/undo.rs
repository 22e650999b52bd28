//! What is to be brought back.

use std::fmt;

use super::{Digest, Tag, Timestamp};

/// The parameters of `POST /v2/<name>/_portolan/restore`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undo {
    /// `tag=` and `at=`: the tag is to name what it named then.
    Tag {
        /// Which.
        tag: Tag,
        /// When.
        at: Timestamp,
    },
    /// `digest=`: the manifest, with the tags that it lost when it was deleted.
    Manifest(Digest),
    /// `at=`: all manifests and tags that were there then.
    Everything {
        /// When.
        at: Timestamp,
    },
    /// `run=`: what a run of retention deleted, by its id.
    Run(String),
}

/// For logs.
impl fmt::Display for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag { tag, at } => write!(f, "{tag} at {at}"),
            Self::Manifest(digest) => digest.fmt(f),
            Self::Everything { at } => write!(f, "all at {at}"),
            Self::Run(run) => write!(f, "run {run}"),
        }
    }
}
