//! Deterministic content: random bytes from a seed, blobs, manifests.

use bytes::{Bytes, BytesMut};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256, Sha512};

pub(crate) const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A random generator (SplitMix64) whose numbers follow from its seed.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// Seeded with a text.
    pub(crate) fn named(name: &str) -> Self {
        let hash: [u8; 32] = Sha256::digest(name.as_bytes()).into();
        Self(u64::from_le_bytes(hash[..8].try_into().unwrap()))
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    /// One of `choices`.
    pub(crate) fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Bytes {
        let mut bytes = BytesMut::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.number().to_le_bytes());
        }
        bytes.truncate(length);
        bytes.freeze()
    }
}

/// The seed of a run: that of `PORTOLAN_SEED`, else a new one; printed, so that a failure can be replayed.
pub(crate) fn run_seed(test: &str) -> u64 {
    let seed = match std::env::var("PORTOLAN_SEED") {
        Ok(text) => text.parse().expect("PORTOLAN_SEED is a number"),
        Err(_) => {
            let mut bytes = [0; 8];
            getrandom::fill(&mut bytes).unwrap();
            u64::from_le_bytes(bytes) >> 1
        }
    };
    println!("{test}: PORTOLAN_SEED={seed}");
    seed
}

/// Content with its digest.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    pub(crate) bytes: Bytes,
    /// `sha256:...`
    pub(crate) digest: String,
}

impl Blob {
    pub(crate) fn new(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let digest = sha256(&bytes);
        Self { bytes, digest }
    }

    /// `length` random bytes that follow from `name`.
    pub(crate) fn named(name: &str, length: usize) -> Self {
        Self::new(Random::named(name).bytes(length))
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// `sha512:...`
    pub(crate) fn sha512(&self) -> String {
        sha512(&self.bytes)
    }

    /// A descriptor of this blob.
    pub(crate) fn descriptor(&self, media_type: &str) -> Value {
        json!({ "mediaType": media_type, "digest": self.digest, "size": self.len() })
    }
}

/// The digest `sha256:...` of `bytes`.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// The digest `sha512:...` of `bytes`.
pub(crate) fn sha512(bytes: &[u8]) -> String {
    format!("sha512:{}", hex::encode(Sha512::digest(bytes)))
}

/// A manifest of any kind, as it is pushed.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    pub(crate) media_type: String,
    pub(crate) bytes: Bytes,
    /// `sha256:...`
    pub(crate) digest: String,
}

impl Manifest {
    /// An OCI image.
    pub(crate) fn image(config: &Blob, layers: &[&Blob]) -> Draft {
        let layers: Vec<Value> = layers.iter().map(|layer| layer.descriptor(LAYER)).collect();
        Draft::new(IMAGE)
            .with("config", config.descriptor(CONFIG))
            .with("layers", Value::Array(layers))
    }

    /// A Docker image, schema 2.
    pub(crate) fn docker_image(config: &Blob, layers: &[&Blob]) -> Draft {
        let layer = "application/vnd.docker.image.rootfs.diff.tar.gzip";
        let layers: Vec<Value> = layers.iter().map(|blob| blob.descriptor(layer)).collect();
        Draft::new(DOCKER_MANIFEST)
            .with(
                "config",
                config.descriptor("application/vnd.docker.container.image.v1+json"),
            )
            .with("layers", Value::Array(layers))
    }

    /// An OCI index.
    pub(crate) fn index<'a>(children: impl IntoIterator<Item = &'a Manifest>) -> Draft {
        Self::list(INDEX, children)
    }

    /// A Docker manifest list.
    pub(crate) fn docker_list<'a>(children: impl IntoIterator<Item = &'a Manifest>) -> Draft {
        Self::list(DOCKER_LIST, children)
    }

    fn list<'a>(media_type: &str, children: impl IntoIterator<Item = &'a Manifest>) -> Draft {
        let children = children.into_iter().map(Manifest::descriptor).collect();
        Draft::new(media_type).with("manifests", Value::Array(children))
    }

    pub(crate) fn new(media_type: &str, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let digest = sha256(&bytes);
        Self {
            media_type: media_type.to_owned(),
            bytes,
            digest,
        }
    }

    pub(crate) fn sha512(&self) -> String {
        sha512(&self.bytes)
    }

    /// A descriptor of this manifest.
    pub(crate) fn descriptor(&self) -> Value {
        json!({ "mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len() })
    }
}

/// A manifest being written.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    media_type: String,
    fields: Map<String, Value>,
}

impl Draft {
    fn new(media_type: &str) -> Self {
        let draft = Self {
            media_type: media_type.to_owned(),
            fields: Map::new(),
        };
        draft.with("schemaVersion", 2).with("mediaType", media_type)
    }

    /// Sets a field.
    pub(crate) fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(field.to_owned(), value.into());
        self
    }

    /// Leaves a field out.
    pub(crate) fn without(mut self, field: &str) -> Self {
        self.fields.remove(field);
        self
    }

    pub(crate) fn subject(self, subject: &Manifest) -> Self {
        self.with("subject", subject.descriptor())
    }

    pub(crate) fn artifact_type(self, artifact_type: &str) -> Self {
        self.with("artifactType", artifact_type)
    }

    pub(crate) fn annotation(mut self, name: &str, value: &str) -> Self {
        let annotations = self.fields.entry("annotations").or_insert_with(|| json!({}));
        annotations[name] = value.into();
        self
    }

    pub(crate) fn build(&self) -> Manifest {
        Manifest::new(&self.media_type, serde_json::to_vec(&self.fields).unwrap())
    }

    /// The manifest with an annotation that makes it exactly `length` bytes long.
    pub(crate) fn build_with_length(&self, length: usize) -> Manifest {
        let bare = self.clone().annotation("filling", "").build().bytes.len();
        let filling = "x".repeat(length.checked_sub(bare).expect("a manifest isn't that short"));
        let manifest = self.clone().annotation("filling", &filling).build();
        assert_eq!(manifest.bytes.len(), length);
        manifest
    }
}

#[test]
fn content_follows_from_its_name() {
    assert_eq!(Blob::named("a", 1001).digest, Blob::named("a", 1001).digest);
    assert_ne!(Blob::named("a", 1001).digest, Blob::named("b", 1001).digest);
    assert_eq!(Blob::named("a", 1001).len(), 1001);
    assert_eq!(
        Blob::new("").digest,
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
}

#[test]
fn a_manifest_can_have_any_length() {
    let blob = Blob::new("{}");
    for length in [1000, 1001, 4 << 20] {
        assert_eq!(
            Manifest::image(&blob, &[]).build_with_length(length).bytes.len(),
            length
        );
    }
}
