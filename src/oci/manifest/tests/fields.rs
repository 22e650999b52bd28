//! What each field may hold, and how it is spelled.

use serde_json::{Value, json};

use super::{super::*, CONFIG, LAYER, an_image, an_index, digest, entry, parse, with};

/// The document with another value at `pointer` (RFC 6901).
fn set(mut document: Value, pointer: &str, value: Value) -> Value {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    match document.pointer_mut(parent).unwrap() {
        Value::Array(list) => list[name.parse::<usize>().unwrap()] = value,
        object => object[name] = value,
    }
    document
}

#[test]
fn what_is_null_or_empty_is_absent() {
    const IN_IMAGES: &[&str] = &[
        "/manifests",
        "/subject",
        "/annotations",
        "/artifactType",
        "/mediaType",
        "/config/urls",
        "/config/platform",
        "/layers/0/annotations",
        "/layers/1/data",
        "/layers/1/artifactType",
        "/unknown",
    ];
    const IN_INDEXES: &[&str] = &[
        "/config",
        "/layers",
        "/subject",
        "/annotations",
        "/artifactType",
        "/mediaType",
        "/manifests/0/platform",
        "/manifests/1/artifactType",
    ];
    for (document, fields) in [(an_image(), IN_IMAGES), (an_index(), IN_INDEXES)] {
        let plain = parse(None, &document).unwrap();
        let said = plain.media_type.as_str();
        for field in fields {
            let null = set(document.clone(), field, Value::Null);
            assert_eq!(parse(Some(said), &null).unwrap(), plain, "{field}");
            assert_eq!(parse(None, &null).unwrap(), plain, "{field}");
        }
        for field in ["/mediaType", "/artifactType"] {
            let empty = set(document.clone(), field, json!(""));
            assert_eq!(parse(Some(said), &empty).unwrap(), plain, "{field}");
            assert_eq!(parse(None, &empty).unwrap(), plain, "{field}");
        }
    }
    let platform = json!({
        "architecture": "amd64", "os": "linux", "os.version": null, "os.features": null, "variant": "",
    });
    let index = set(an_index(), "/manifests/0/platform", platform);
    assert_eq!(parse(None, &index).unwrap().children.len(), 2);
}

#[test]
fn what_is_required_is_not_null() {
    for (field, expected) in [
        (
            "/config",
            "the field 'config' is expected in this kind of manifest",
        ),
        ("/config/mediaType", "config.mediaType is expected"),
        ("/layers/1/digest", "layers[1].digest is expected"),
        ("/layers/0/size", "layers[0].size is expected"),
        (
            "/layers/0",
            "layers[0]: an object is expected, not null at line 1",
        ),
    ] {
        let document = set(an_image(), field, Value::Null);
        let error = parse(Some(MediaType::IMAGE_MANIFEST), &document).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
    }
    for field in ["/config/mediaType", "/layers/1/digest"] {
        let error = parse(None, &set(an_image(), field, json!(""))).unwrap_err();
        assert!(matches!(error, ManifestError::Incomplete(_)), "{error}");
    }
}

#[test]
fn fields_have_the_types_that_the_specification_gives_them() {
    let on = |field: &str, value: Value| json!({ "architecture": "amd64", "os": "linux", field: value });
    let whole = "a whole number from 0 to 9223372036854775807 is expected, not";
    for (field, value, expected) in [
        ("/schemaVersion", json!("2"), &*format!("{whole} a string")),
        ("/schemaVersion", json!(2.0), &*format!("{whole} 2.0")),
        ("/mediaType", json!(1), "a string is expected, not 1"),
        (
            "/artifactType",
            json!(["a/b"]),
            "a string is expected, not a list",
        ),
        ("/config", json!("x"), "an object is expected, not a string"),
        // serde would take it for a descriptor.
        (
            "/config",
            json!([CONFIG, digest("config").as_str(), 6]),
            "an object is expected, not a list",
        ),
        (
            "/layers/1",
            json!([LAYER, digest("two").as_str(), 3]),
            "an object is expected, not a list",
        ),
        ("/layers", json!({}), "a list is expected, not an object"),
        ("/layers", json!(""), "a list is expected, not a string"),
        ("/subject", json!(""), "an object is expected, not a string"),
        ("/subject", json!(true), "an object is expected, not true"),
        ("/annotations", json!([]), "an object is expected, not a list"),
        ("/annotations", json!({ "a": 1 }), "a string is expected, not 1"),
        (
            "/annotations",
            json!({ "a": null }),
            "a string is expected, not null",
        ),
        ("/layers/0/size", json!(-1), &*format!("{whole} -1")),
        ("/layers/0/size", json!("3"), &*format!("{whole} a string")),
        (
            "/layers/0/size",
            json!(1_u64 << 63),
            &*format!("{whole} 9223372036854775808"),
        ),
        (
            "/layers/0/digest",
            json!({}),
            "a string is expected, not an object",
        ),
        ("/layers/0/urls", json!("u"), "a list is expected, not a string"),
        ("/layers/0/urls", json!([1]), "a string is expected, not 1"),
        (
            "/layers/0/annotations",
            json!({ "a": [] }),
            "a string is expected, not a list",
        ),
        (
            "/config/data",
            json!({}),
            "base64 with padding is expected, not an object",
        ),
        (
            "/config/data",
            json!("e30"),
            "base64 with padding is expected, not another string",
        ),
        ("/config/artifactType", json!(7), "a string is expected, not 7"),
        (
            "/config/platform",
            json!("linux"),
            "an object is expected, not a string",
        ),
        (
            "/config/platform",
            on("os.features", json!("a")),
            "a list is expected, not a string",
        ),
        (
            "/config/platform",
            on("os.features", json!([null])),
            "a string is expected, not null",
        ),
        (
            "/config/platform",
            on("variant", json!(8)),
            "a string is expected, not 8",
        ),
    ] {
        let error = parse(None, &set(an_image(), field, value)).unwrap_err();
        assert!(matches!(error, ManifestError::Field(_)), "{error:?}");
        let said = error.to_string();
        let (at, fault) = said.split_once(": ").unwrap();
        let place = field[1..]
            .replace("/0", "[0]")
            .replace("/1", "[1]")
            .replace('/', ".");
        assert!(at.starts_with(&place), "{field}: {said}");
        assert!(fault.starts_with(expected), "{field}: {said}");
    }
}

#[test]
fn a_fault_is_located() {
    let platform = json!({ "os.features": ["a", 1] });
    for (field, value, expected) in [
        ("/annotations", json!({ "a.b": 1 }), "annotations[\"a.b\"]: "),
        (
            "/annotations",
            json!({ ("x".repeat(1000)): 1 }),
            &*format!("annotations[\"{}\"]: ", "x".repeat(64)),
        ),
        ("/layers/1/urls", json!(["u", {}]), "layers[1].urls[1]: "),
        ("/config/platform", platform, "config.platform.os.features[1]: "),
    ] {
        let error = parse(None, &set(an_image(), field, value))
            .unwrap_err()
            .to_string();
        assert!(error.starts_with(expected), "{error}");
        let (_, column) = error.rsplit_once(" at line 1 column ").unwrap();
        assert!(column.parse::<usize>().unwrap() > 1);
    }
}

#[test]
fn embedded_data_is_base64_as_clients_decode_it() {
    let with_data = |data: &str| set(an_image(), "/config/data", json!(data));
    for data in ["", "e30=", "e3\n0=", "e3\r\n0=", "e31="] {
        parse(None, &with_data(data)).unwrap();
    }
    for data in ["e30", "e3 0=", "e30=e30=", "=", "e-0="] {
        assert!(parse(None, &with_data(data)).is_err(), "{data:?}");
    }
}

#[test]
fn fields_in_another_spelling_are_refused_where_a_client_reads_them() {
    let long_s = "layer\u{17f}";
    for (at, spelled, name) in [
        ("", "SchemaVersion", "schemaVersion"),
        ("", "MEDIATYPE", "mediaType"),
        ("", "artifacttype", "artifactType"),
        ("", "Config", "config"),
        ("", "Layers", "layers"),
        ("", long_s, "layers"),
        ("", "Manifests", "manifests"),
        ("", "Subject", "subject"),
        ("", "Annotations", "annotations"),
        ("/config", "Digest", "digest"),
        ("/layers/0", "Size", "size"),
        ("/layers/0", "MediaType", "mediaType"),
        ("/layers/1", "URLs", "urls"),
        ("/layers/1", "Data", "data"),
        ("/config/platform", "OS.Features", "os.features"),
    ] {
        let document = set(an_image(), "/config/platform", json!({ "os": "linux" }));
        let error = parse(None, &set(document, &format!("{at}/{spelled}"), json!([]))).unwrap_err();
        assert!(matches!(error, ManifestError::Field(_)), "{error:?}");
        let expected = format!("the field '{name}' is expected in this spelling, not as '{spelled}'");
        assert!(error.to_string().contains(&expected), "{error}");
    }
    // Also beside the right one, whichever comes first.
    let image = an_image().to_string();
    for both in [
        image.replacen('{', "{\"Layers\":[],", 1),
        format!("{},\"Layers\":[]}}", &image[..image.len() - 1]),
    ] {
        let error = Manifest::parse(None, both.as_bytes()).unwrap_err();
        assert!(matches!(error, ManifestError::Field(_)), "{error:?}");
    }
    // Where nobody reads it, it is anybody's.
    let mut elsewhere = with(an_image(), "x-vendor", json!({ "Layers": [], "SIZE": 1 }));
    elsewhere["annotations"] = json!({ "Layers": "x", "Digest": "y" });
    elsewhere["layers"][0]["x-vendor"] = json!({ "Digest": {} });
    elsewhere["layers"][0]["Layers"] = json!(1);
    elsewhere["Size"] = json!("of the whole");
    parse(None, &elsewhere).unwrap();
}

#[test]
fn entries_of_an_index_are_read_alike() {
    let child = entry(MediaType::IMAGE_MANIFEST, "child");
    for (field, value) in [
        ("Digest", json!("x")),
        ("size", json!("7")),
        ("platform", json!([])),
    ] {
        let index = with(
            an_index(),
            "manifests",
            json!([with(child.clone(), field, value)]),
        );
        let error = parse(None, &index).unwrap_err().to_string();
        assert!(error.starts_with("manifests[0]"), "{error}");
    }
}
