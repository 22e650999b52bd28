//! Fuzz targets for what reads what others wrote: routes, ranges, manifests, configurations, the frames of
//! the mesh. One binary, so that it is linked once; PORTOLAN_FUZZ names the target. `tests/fuzz.sh` builds and runs it.
//!
//! A target feeds bytes to a parser and checks what must hold of whatever it accepts. A panic is a finding.

#![no_main]

use std::{path::Path, sync::LazyLock};

use http::Method;
use libfuzzer_sys::fuzz_target;
use portolan::{
    config, mesh,
    oci::{
        ByteRanges, ChunkRange, Digest, MAX_MANIFEST_BYTES, Manifest, MediaType, RepoName, ResolvedRange,
        Route,
    },
    placement::MemberId,
};

static TARGET: LazyLock<fn(&[u8])> =
    LazyLock::new(
        || match std::env::var("PORTOLAN_FUZZ").unwrap_or_default().as_str() {
            "route" => route,
            "range" => range,
            "manifest" => manifest,
            "configuration" => configuration,
            "mesh_frame" => mesh_frame,
            other => panic!("PORTOLAN_FUZZ names no target: {other:?}"),
        },
    );

fuzz_target!(|data: &[u8]| TARGET(data));

/// `METHOD PATH[?QUERY]`.
fn route(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (method, target) = text.split_once(' ').unwrap_or(("GET", text));
    let Ok(method) = Method::from_bytes(method.as_bytes()) else {
        return;
    };
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let Ok(route) = Route::parse(&method, path, query) else {
        return;
    };
    assert!(!route.name().is_empty());
    if let Some(name) = route.repository() {
        assert!(name.as_str().len() <= 255);
        assert_eq!(name.as_str().parse::<RepoName>().as_ref(), Ok(name));
        // It stands in the path as it is, or some of the path is encoded.
        assert!(path.contains(name.as_str()) || path.contains('%'), "{text:?}");
        // What names a repository needs a right on it.
        assert!(!route.permissions().is_empty(), "{text:?}");
    }
    // Whoever encodes what needs no encoding means the same.
    let encode = |c: char| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '.' | '_' | '~' | ':' => format!("%{:02X}", u32::from(c)),
        _ => c.to_string(),
    };
    let after = path.strip_prefix("/v2").expect("without it there is no route");
    if !after.contains('%') {
        let encoded = format!("/v2{}", after.chars().map(encode).collect::<String>());
        let again = Route::parse(&method, &encoded, query);
        assert_eq!(format!("{again:?}"), format!("{:?}", Ok::<_, ()>(route)));
    }
}

/// `SIZE RANGE`: of a blob, and of a chunk.
fn range(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (size, header) = text.split_once(' ').unwrap_or(("100", text));
    let size = size.parse().unwrap_or(u64::MAX);
    if let Ok(Some(ranges)) = ByteRanges::parse(header)
        && let Ok(parts) = ranges.resolve(size)
    {
        let in_bounds = |part: &ResolvedRange| part.first <= part.last && part.last < size;
        assert!(parts.iter().all(in_bounds), "{text:?}");
        assert!(
            parts.iter().map(|part| part.len()).sum::<u64>() <= size,
            "{text:?}"
        );
        let written = parts.iter().map(|part| format!("{}-{}", part.first, part.last));
        let written = written.collect::<Vec<_>>().join(",");
        let again = ByteRanges::parse(&format!("bytes={written}"));
        assert_eq!(
            again.map(|again| again.map(|again| again.resolve(size))),
            Ok(Some(Ok(parts)))
        );
    }
    if let Ok(range) = ChunkRange::parse(header) {
        assert!(range.first <= range.last);
        assert_eq!(
            ChunkRange::parse(&format!("{}-{}", range.first, range.last)),
            Ok(range)
        );
    }
}

/// A media type on the first line, perhaps empty, and the document after it.
fn manifest(data: &[u8]) {
    let line = data.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (line, document) = data.split_at(line);
    let media_type = std::str::from_utf8(line)
        .ok()
        .and_then(|text| MediaType::parse(text).ok());
    let document = document.strip_prefix(b"\n").unwrap_or(document);
    let Ok(manifest) = Manifest::parse(media_type.as_ref(), document) else {
        return;
    };
    assert!(document.len() <= MAX_MANIFEST_BYTES);
    let descriptors = manifest.blobs.iter().chain(&manifest.children);
    for descriptor in descriptors {
        assert_eq!(
            Digest::parse(descriptor.digest.as_str()).as_ref(),
            Ok(&descriptor.digest)
        );
    }
    // The same document is the same manifest, whether its type is said or found out.
    let said = manifest.kind.media_type();
    assert_eq!(
        Manifest::parse(Some(&said), document).ok().as_ref(),
        Some(&manifest)
    );
}

/// YAML or JSON, whichever it looks like. A configuration is valid, or at least one fault says why not.
fn configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Err(errors) = config::parse(Path::new("fuzz"), text) {
        assert!(!errors.faults.is_empty());
        assert!(!errors.to_string().is_empty());
    }
}

/// The size of the chunks it arrives in, then what a peer sends.
fn mesh_frame(data: &[u8]) {
    let Some((chunk, stream)) = data.split_first() else {
        return;
    };
    let peer = MemberId::parse("127.0.0.1:5000").expect("a name");
    mesh::fuzzing::requests(stream, usize::from(*chunk));
    mesh::fuzzing::responses(stream, usize::from(*chunk), &peer);
}
