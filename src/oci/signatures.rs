//! What signs a manifest: artifact types by which signatures refer to it.

/// cosign's signatures, under its own type or as a bundle of Sigstore's.
pub const COSIGN: &str = "cosign";

/// The tool whose signature an artifact of this type is.
#[must_use]
pub fn signing_tool(artifact_type: &str) -> Option<&'static str> {
    match artifact_type {
        "application/vnd.dev.cosign.artifact.sig.v1+json" => Some(COSIGN),
        "application/vnd.cncf.notary.signature" => Some("notation"),
        _ if artifact_type.starts_with("application/vnd.dev.sigstore.bundle") => Some(COSIGN),
        _ => None,
    }
}
