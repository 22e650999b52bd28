//! Which documents are manifests, and what they refer to.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::oci::Algorithm;

mod fields;

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

fn digest(content: &str) -> Digest {
    Digest::of(Algorithm::Sha256, content.as_bytes())
}

fn entry(media_type: &str, content: &str) -> Value {
    json!({"mediaType": media_type, "digest": digest(content).as_str(), "size": content.len()})
}

fn an_image() -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": MediaType::IMAGE_MANIFEST,
        "config": entry(CONFIG, "config"),
        "layers": [entry(LAYER, "one"), entry(LAYER, "two")],
    })
}

fn an_index() -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": MediaType::IMAGE_INDEX,
        "manifests": [entry(MediaType::IMAGE_MANIFEST, "child"), entry(MediaType::IMAGE_INDEX, "nested")],
    })
}

/// The document with one field set, or removed by `null`.
fn with(mut document: Value, field: &str, value: Value) -> Value {
    let fields = document.as_object_mut().unwrap();
    if value.is_null() {
        fields.remove(field)
    } else {
        fields.insert(field.to_owned(), value)
    };
    document
}

fn parse(content_type: Option<&str>, document: &Value) -> Result<Manifest, ManifestError> {
    let content_type = content_type.map(|text| MediaType::parse(text).unwrap());
    Manifest::parse(content_type.as_ref(), document.to_string().as_bytes())
}

fn digests(descriptors: &[Descriptor]) -> Vec<Digest> {
    descriptors
        .iter()
        .map(|descriptor| descriptor.digest.clone())
        .collect()
}

#[test]
fn an_image_refers_to_its_config_and_layers() {
    let manifest = parse(
        Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8"),
        &an_image(),
    )
    .unwrap();
    assert_eq!(
        (manifest.kind, manifest.media_type.as_str()),
        (ManifestKind::Image, MediaType::IMAGE_MANIFEST)
    );
    assert_eq!(digests(&manifest.blobs), ["config", "one", "two"].map(digest));
    assert_eq!(
        (manifest.blobs[0].media_type.as_str(), manifest.blobs[0].size),
        (CONFIG, 6)
    );
    assert_eq!(
        (&*manifest.children, &*manifest.optional_blobs),
        (&[][..], &[][..])
    );
    assert_eq!(
        (manifest.subject, manifest.artifact_type.as_deref()),
        (None, Some(CONFIG))
    );
}

#[test]
fn an_index_refers_to_its_children() {
    let twice = [
        entry(MediaType::IMAGE_MANIFEST, "child"),
        entry(MediaType::IMAGE_MANIFEST, "child"),
    ];
    for document in [an_index(), with(an_index(), "annotations", json!({"a": "b"}))] {
        let manifest = parse(None, &document).unwrap();
        assert_eq!(manifest.kind, ManifestKind::Index);
        assert_eq!(digests(&manifest.children), ["child", "nested"].map(digest));
        assert_eq!((manifest.blobs, manifest.artifact_type), (vec![], None));
    }
    let manifest = parse(None, &with(an_index(), "manifests", json!(twice))).unwrap();
    assert_eq!(digests(&manifest.children), [digest("child")]);
}

#[test]
fn entries_of_an_index_that_are_no_manifests_are_blobs() {
    let cache = [
        entry(LAYER, "layer"),
        entry("application/vnd.buildkit.cacheconfig.v0", "cache"),
    ];
    let manifest = parse(None, &with(an_index(), "manifests", json!(cache))).unwrap();
    assert_eq!(digests(&manifest.blobs), ["layer", "cache"].map(digest));
    assert_eq!(manifest.children, []);
}

#[test]
fn a_digest_is_listed_once() {
    let layers = json!([entry(LAYER, "one"), entry(LAYER, "one"), entry(CONFIG, "config")]);
    let manifest = parse(None, &with(an_image(), "layers", layers)).unwrap();
    assert_eq!(digests(&manifest.blobs), ["config", "one"].map(digest));
}

#[test]
fn layers_that_may_be_fetched_elsewhere_are_optional() {
    let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    let nondistributable = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
    let mut with_urls = entry(LAYER, "urls");
    with_urls["urls"] = json!(["https://example.org/layer"]);
    let mut empty_urls = entry(LAYER, "no urls");
    empty_urls["urls"] = json!([]);
    let mut also_required = entry(LAYER, "one");
    also_required["urls"] = json!(["https://example.org/layer"]);
    let layers = json!([
        also_required,
        entry(foreign, "foreign"),
        entry(nondistributable, "nd"),
        with_urls,
        empty_urls,
        entry(LAYER, "one"),
    ]);
    let manifest = parse(None, &with(an_image(), "layers", layers)).unwrap();
    assert_eq!(digests(&manifest.blobs), ["config", "no urls", "one"].map(digest));
    assert_eq!(
        digests(&manifest.optional_blobs),
        ["foreign", "nd", "urls"].map(digest)
    );
}

#[test]
fn no_layers_and_no_children_are_fine_but_the_field_is_needed() {
    for empty in [json!([]), json!(null)] {
        let mut image = an_image();
        image["layers"] = empty.clone();
        assert_eq!(parse(None, &image).unwrap().blobs.len(), 1);
        let mut index = an_index();
        index["manifests"] = empty;
        assert_eq!(parse(None, &index).unwrap().children, []);
    }
    for (document, field) in [
        (an_image(), "config"),
        (an_image(), "layers"),
        (an_index(), "manifests"),
    ] {
        let error = parse(None, &with(document, field, Value::Null)).unwrap_err();
        assert!(
            matches!(error, ManifestError::Missing(missing) if missing == field),
            "{error}"
        );
    }
}

#[test]
fn docker_documents_are_read_alike() {
    let image = with(an_image(), "mediaType", json!(MediaType::DOCKER_MANIFEST));
    assert_eq!(parse(None, &image).unwrap().kind, ManifestKind::DockerManifest);
    let list = with(an_index(), "mediaType", json!(MediaType::DOCKER_MANIFEST_LIST));
    assert_eq!(parse(None, &list).unwrap().kind, ManifestKind::DockerList);
}

#[test]
fn subject_artifact_type_and_annotations_are_given() {
    let subject = entry(MediaType::IMAGE_MANIFEST, "subject");
    let image = with(
        with(an_image(), "subject", subject),
        "annotations",
        json!({"org.example.a": "b"}),
    );
    let manifest = parse(None, &image).unwrap();
    assert_eq!(
        manifest.subject.map(|subject| subject.digest),
        Some(digest("subject"))
    );
    assert_eq!(
        manifest.annotations,
        BTreeMap::from([("org.example.a".to_owned(), "b".to_owned())])
    );

    for (given, expected) in [("application/x.sbom", "application/x.sbom"), ("", CONFIG)] {
        let manifest = parse(None, &with(an_image(), "artifactType", json!(given))).unwrap();
        assert_eq!(manifest.artifact_type.as_deref(), Some(expected));
    }
    for (given, expected) in [("application/x.sbom", Some("application/x.sbom")), ("", None)] {
        let manifest = parse(None, &with(an_index(), "artifactType", json!(given))).unwrap();
        assert_eq!(manifest.artifact_type.as_deref(), expected);
    }
}

#[test]
fn the_kind_is_taken_from_the_request_then_the_document_then_its_fields() {
    let bare = |document| with(document, "mediaType", Value::Null);
    assert_eq!(
        parse(Some(MediaType::DOCKER_MANIFEST), &bare(an_image()))
            .unwrap()
            .kind,
        ManifestKind::DockerManifest
    );
    assert_eq!(parse(None, &bare(an_image())).unwrap().kind, ManifestKind::Image);
    assert_eq!(parse(None, &bare(an_index())).unwrap().kind, ManifestKind::Index);
    assert!(matches!(
        parse(None, &json!({"schemaVersion": 2})),
        Err(ManifestError::UnknownKind)
    ));
    assert!(matches!(
        parse(Some(MediaType::IMAGE_INDEX), &an_image()),
        Err(ManifestError::MediaTypeMismatch { .. })
    ));
}

#[test]
fn other_media_types_are_refused() {
    let schema1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    for content_type in ["application/json", "application/octet-stream", schema1] {
        let error = parse(Some(content_type), &an_image()).unwrap_err();
        assert!(matches!(error, ManifestError::UnsupportedMediaType(_)), "{error}");
    }
    let error = parse(None, &with(an_image(), "mediaType", json!(CONFIG))).unwrap_err();
    assert!(matches!(error, ManifestError::UnsupportedMediaType(_)), "{error}");
}

#[test]
fn a_document_of_two_kinds_is_refused() {
    let both = with(an_image(), "manifests", json!([]));
    assert!(matches!(
        parse(None, &both),
        Err(ManifestError::Unexpected("manifests"))
    ));
    let both = with(an_index(), "layers", json!([]));
    assert!(matches!(
        parse(None, &both),
        Err(ManifestError::Unexpected("layers"))
    ));
    let both = with(an_index(), "config", entry(CONFIG, "config"));
    assert!(matches!(
        parse(None, &both),
        Err(ManifestError::Unexpected("config"))
    ));
    let twice = format!(
        r#"{{"schemaVersion":2,"config":{0},"config":{0},"layers":[]}}"#,
        entry(CONFIG, "config")
    );
    let error = Manifest::parse(None, twice.as_bytes()).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("the document: the field 'config' is expected once"),
        "{error}"
    );
}

#[test]
fn other_schema_versions_are_refused() {
    for version in [json!(1), json!(3), Value::Null] {
        let error = parse(None, &with(an_image(), "schemaVersion", version)).unwrap_err();
        assert!(matches!(error, ManifestError::SchemaVersion), "{error}");
    }
}

#[test]
fn descriptors_are_checked_and_the_fault_is_located() {
    let cases = [
        ("digest", json!("sha256:bad"), "layers[1].digest: "),
        (
            "digest",
            json!(format!("sha384:{}", "0".repeat(96))),
            "layers[1].digest: ",
        ),
        ("mediaType", json!("nonsense"), "layers[1].mediaType: "),
        ("size", json!(1.5), "layers[1].size: "),
        ("size", Value::Null, "layers[1].size is expected"),
        ("digest", Value::Null, "layers[1].digest is expected"),
        ("mediaType", Value::Null, "layers[1].mediaType is expected"),
    ];
    for (field, value, message) in cases {
        let broken = with(entry(LAYER, "two"), field, value);
        let layers = json!([entry(LAYER, "one"), broken]);
        let error = parse(None, &with(an_image(), "layers", layers)).unwrap_err();
        assert!(error.to_string().starts_with(message), "{error}");
    }
}

#[test]
fn unknown_fields_are_left_alone() {
    let image = with(an_image(), "org.example", json!({"deep": [[[{"x": null}]]]}));
    assert!(parse(None, &image).is_ok());
}

#[test]
fn hostile_documents_are_errors() {
    let deep = "[".repeat(MAX_MANIFEST_BYTES);
    assert!(matches!(
        Manifest::parse(None, deep.as_bytes()),
        Err(ManifestError::TooDeep)
    ));
    let within = format!("{{\"x\":{}", &deep[..MAX_MANIFEST_BYTES - 5]);
    assert!(matches!(
        Manifest::parse(None, within.as_bytes()),
        Err(ManifestError::TooDeep)
    ));
    let long = format!("{deep}[");
    assert!(matches!(
        Manifest::parse(None, long.as_bytes()),
        Err(ManifestError::TooLarge)
    ));
    for text in ["", "{", "\u{feff}{}", "{\"a\"}", "{1:2}"] {
        let error = Manifest::parse(None, text.as_bytes());
        assert!(
            matches!(error, Err(ManifestError::Json(_))),
            "{text:?}: {error:?}"
        );
    }
    let trailing = format!("{} {{}}", an_image());
    let error = Manifest::parse(None, trailing.as_bytes());
    assert!(matches!(error, Err(ManifestError::Json(_))), "{error:?}");
    for (text, found) in [
        ("null", "null"),
        ("[]", "a list"),
        ("\"x\"", "a string"),
        ("7", "7"),
        ("false", "false"),
    ] {
        let error = Manifest::parse(None, text.as_bytes()).unwrap_err().to_string();
        let expected = format!("the document: an object is expected, not {found}");
        assert!(error.starts_with(&expected), "{error}");
    }
    assert!(matches!(
        Manifest::parse(None, b"{\"mediaType\":\"\xff\"}"),
        Err(ManifestError::Json(_))
    ));
}

#[test]
fn nesting_has_a_bound_also_where_nobody_looks() {
    let nested = |depth: usize| {
        let document = an_image().to_string();
        let lists = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        // Brackets in strings don't count, whatever stands before them.
        format!(
            "{},\"x\":{lists},\"y\":\"{}\\\"[[\"}}",
            &document[..document.len() - 1],
            "[".repeat(1000)
        )
    };
    let parsed = |depth| Manifest::parse(None, nested(depth).as_bytes());
    assert!(parsed(MAX_MANIFEST_DEPTH - 1).is_ok());
    for depth in [MAX_MANIFEST_DEPTH, 500_000] {
        assert!(matches!(parsed(depth), Err(ManifestError::TooDeep)), "{depth}");
    }
}

#[test]
fn the_largest_manifest_is_accepted() {
    let mut text = an_image().to_string();
    text.extend(std::iter::repeat_n(' ', MAX_MANIFEST_BYTES - text.len()));
    assert!(Manifest::parse(None, text.as_bytes()).is_ok());
    text.push(' ');
    assert!(matches!(
        Manifest::parse(None, text.as_bytes()),
        Err(ManifestError::TooLarge)
    ));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
        let _ = Manifest::parse(None, &bytes);
    }

    #[test]
    fn a_broken_manifest_is_read_without_a_panic(cut in 0..500_usize, at in 0..500_usize, byte: u8) {
        let mut bytes = an_image().to_string().into_bytes();
        let end = bytes.len() - 1;
        bytes[at.min(end)] = byte;
        bytes.truncate(cut);
        let _ = Manifest::parse(None, &bytes);
    }
}
