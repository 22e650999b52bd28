//! The stylesheet, the script and the icon. They are parts of the program, so all members of one release have the same.

use std::sync::LazyLock;

use sha2::{Digest as _, Sha256};

/// A file of the page.
#[derive(Debug)]
pub struct Asset {
    /// Its path.
    pub path: &'static str,
    /// Its media type.
    pub media_type: &'static str,
    /// What is in it.
    pub content: &'static str,
    /// What tells it from that of another release.
    pub version: String,
}

impl Asset {
    fn new(path: &'static str, media_type: &'static str, content: &'static str) -> Self {
        let version = hex::encode(Sha256::digest(content));
        Self {
            path,
            media_type,
            content,
            version: version.chars().take(12).collect(),
        }
    }

    /// Where a page finds it, and no other release's.
    pub(super) fn link(&self) -> String {
        format!("{}?v={}", self.path, self.version)
    }
}

/// All of them: the stylesheet, the script, the icon.
pub static ASSETS: LazyLock<[Asset; 3]> = LazyLock::new(|| {
    [
        Asset::new(
            "/assets/ui.css",
            "text/css; charset=utf-8",
            include_str!("assets/ui.css"),
        ),
        Asset::new(
            "/assets/ui.js",
            "text/javascript; charset=utf-8",
            include_str!("assets/ui.js"),
        ),
        Asset::new(
            "/assets/icon.svg",
            "image/svg+xml",
            include_str!("assets/icon.svg"),
        ),
    ]
});
