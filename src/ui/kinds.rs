//! What artifacts are called, and by which tools they are pulled.

use crate::oci::{Reference, RepoName};

/// What something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) tool: Tool,
}

/// What pulls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tool {
    /// Whatever runs containers.
    Containers,
    Helm,
    Oras,
}

/// Beginnings of media types, the first that fits counts. Of their projects' own documentation: OCI image-spec, Docker, Helm
/// ("Use OCI-based registries"), the CNCF's Wasm OCI layout and model specification, SPDX and CycloneDX (IANA), sigstore,
/// notary, in-toto, and the tools themselves.
const KINDS: &[(&str, &str, Tool)] = &[
    (
        "application/vnd.oci.image.config.",
        "Container image",
        Tool::Containers,
    ),
    (
        "application/vnd.docker.container.image.",
        "Container image",
        Tool::Containers,
    ),
    ("application/vnd.oci.image.index.", "Index", Tool::Containers),
    (
        "application/vnd.docker.distribution.manifest.list.",
        "Index",
        Tool::Containers,
    ),
    ("application/vnd.docker.plugin.", "Docker plugin", Tool::Oras),
    ("application/vnd.cncf.helm.", "Helm chart", Tool::Helm),
    ("application/vnd.wasm.", "WebAssembly module", Tool::Oras),
    ("application/wasm", "WebAssembly module", Tool::Oras),
    (
        "application/vnd.bytecodealliance.wasm.",
        "WebAssembly component",
        Tool::Oras,
    ),
    ("application/vnd.cncf.model.", "AI model", Tool::Oras),
    ("application/vnd.cnai.model.", "AI model", Tool::Oras),
    ("application/vnd.docker.ai.model.", "AI model", Tool::Oras),
    ("application/vnd.ollama.", "AI model (Ollama)", Tool::Oras),
    (
        "application/vnd.kitops.modelkit.",
        "AI model (KitOps)",
        Tool::Oras,
    ),
    ("application/spdx", "SBOM (SPDX)", Tool::Oras),
    ("text/spdx", "SBOM (SPDX)", Tool::Oras),
    ("application/vnd.cyclonedx", "SBOM (CycloneDX)", Tool::Oras),
    ("application/vnd.syft", "SBOM (Syft)", Tool::Oras),
    (
        "application/vnd.dev.cosign.artifact.sbom",
        "SBOM (cosign)",
        Tool::Oras,
    ),
    ("application/vnd.dev.cosign.", "Signature (cosign)", Tool::Oras),
    (
        "application/vnd.dev.sigstore.bundle",
        "Signature bundle (sigstore)",
        Tool::Oras,
    ),
    (
        "application/vnd.cncf.notary.signature",
        "Signature (Notation)",
        Tool::Oras,
    ),
    ("application/vnd.in-toto", "Attestation (in-toto)", Tool::Oras),
    ("application/vnd.dsse.envelope", "Attestation (DSSE)", Tool::Oras),
    ("application/sarif", "Scan report (SARIF)", Tool::Oras),
    (
        "application/vnd.security.trivy",
        "Scan report (Trivy)",
        Tool::Oras,
    ),
    (
        "application/vnd.aquasec.trivy.",
        "Vulnerability database (Trivy)",
        Tool::Oras,
    ),
    ("application/vnd.cncf.flux.", "Flux artifact", Tool::Oras),
    (
        "application/vnd.cncf.openpolicyagent.",
        "Policy bundle (OPA)",
        Tool::Oras,
    ),
    ("application/vnd.cncf.kyverno.", "Policy (Kyverno)", Tool::Oras),
    ("application/vnd.cncf.falco.", "Falco rules or plugin", Tool::Oras),
    (
        "application/vnd.opentofu.",
        "OpenTofu module or provider",
        Tool::Oras,
    ),
    (
        "application/vnd.buildkit.cacheconfig.",
        "Build cache (BuildKit)",
        Tool::Oras,
    ),
    (
        "application/vnd.devcontainers",
        "Dev container feature",
        Tool::Oras,
    ),
    ("application/vnd.sylabs.sif.", "Singularity image", Tool::Oras),
    ("application/vnd.homebrew.", "Homebrew bottle", Tool::Oras),
];

/// What something of this media type is: another artifact, where nobody here has heard of it.
pub(super) fn of(media_type: &str) -> Kind {
    let known = KINDS
        .iter()
        .find(|(beginning, ..)| media_type.starts_with(beginning));
    match known {
        Some((_, name, tool)) => Kind { name, tool: *tool },
        None => Kind {
            name: "Artifact",
            tool: Tool::Oras,
        },
    }
}

/// How it is pulled: names of tools, with the line.
pub(super) fn commands(
    tool: Tool,
    registry: &str,
    name: &RepoName,
    reference: &Reference,
) -> Vec<(&'static str, String)> {
    let named = format!("{registry}/{}", super::links::named(name, reference));
    match tool {
        Tool::Containers => vec![
            ("docker", format!("docker pull {named}")),
            ("podman", format!("podman pull {named}")),
            ("crane", format!("crane pull {named} image.tar")),
        ],
        Tool::Helm => vec![
            ("helm", helm(registry, name, reference, &named)),
            ("oras", format!("oras pull {named}")),
        ],
        Tool::Oras => vec![
            ("oras", format!("oras pull {named}")),
            ("crane", format!("crane manifest {named}")),
        ],
    }
}

/// helm names a chart's version apart, and writes `+` in it as `_` in the tag.
fn helm(registry: &str, name: &RepoName, reference: &Reference, named: &str) -> String {
    match reference {
        Reference::Tag(tag) => {
            let version = tag.as_str().replace('_', "+");
            format!("helm pull oci://{registry}/{name} --version {version}")
        }
        Reference::Digest(_) => format!("helm pull oci://{named}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifacts_are_called_what_they_are() {
        for (media_type, expected) in [
            ("application/vnd.oci.image.config.v1+json", "Container image"),
            ("application/vnd.cncf.helm.config.v1+json", "Helm chart"),
            ("application/vnd.wasm.config.v0+json", "WebAssembly module"),
            ("application/vnd.cncf.model.manifest.v1+json", "AI model"),
            ("application/spdx+json", "SBOM (SPDX)"),
            ("application/vnd.cyclonedx+json", "SBOM (CycloneDX)"),
            (
                "application/vnd.dev.cosign.artifact.sig.v1+json",
                "Signature (cosign)",
            ),
            ("application/vnd.cncf.notary.signature", "Signature (Notation)"),
            ("application/vnd.in-toto+json", "Attestation (in-toto)"),
            ("application/vnd.example.thing", "Artifact"),
            ("", "Artifact"),
        ] {
            assert_eq!(of(media_type).name, expected, "{media_type}");
        }
    }

    #[test]
    fn a_chart_is_pulled_by_its_version() {
        let name: RepoName = "charts/web".parse().unwrap();
        let tag = Reference::parse("1.2.3_build.4").unwrap();
        let commands = commands(Tool::Helm, "r.example", &name, &tag);
        assert_eq!(
            commands[0].1,
            "helm pull oci://r.example/charts/web --version 1.2.3+build.4"
        );
    }
}
