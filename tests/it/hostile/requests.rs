//! Requests that are wrong in what they say.

use http::Method;

use super::{FRONT, OWNER, Reply, Target, say};
use crate::support::{
    client::{Ask as _, Request, chunk, finish, octets, with_digest},
    content::{Blob, IMAGE, INDEX, Manifest, sha256},
    mesh::PART,
    raw::Raw,
};

/// Spellings that are no tag, as they stand in a path.
const NO_TAGS: [&str; 5] = ["-a", ".a", "a%20b", "a@b", "%2e%2e"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_and_tags_outside_the_grammar() {
    let target = Target::start().await;
    let digest = &target.layer.digest;
    for name in [
        "Upper", "a//b", "-a", "a_", "a..b", "a%2Fb", "a%41", "_catalog", "über",
    ] {
        // http::Uri wants them escaped.
        let name = name.replace('ü', "%C3%BC");
        for (method, rest) in [
            (Method::GET, "tags/list".to_owned()),
            (Method::PUT, "manifests/v1".to_owned()),
            (Method::DELETE, format!("blobs/{digest}")),
            (Method::POST, format!("blobs/uploads/?digest={digest}")),
            (
                Method::POST,
                format!("blobs/uploads/?mount={digest}&from={}", target.repository),
            ),
        ] {
            let request = octets(Request::new(method.clone(), format!("/v2/{name}/{rest}")));
            let request = if method == Method::GET {
                request
            } else {
                request.body("{}")
            };
            target.refuses(request, 400, "NAME_INVALID").await;
        }
    }
    for tag in NO_TAGS {
        let path = format!("manifests/{tag}");
        // What can't be a tag names nothing; a push can be told.
        target
            .refuses(Request::get(target.path(&path)), 404, "MANIFEST_UNKNOWN")
            .await;
        target.refuses(Request::head(target.path(&path)), 404, "").await;
        target
            .refuses(Request::delete(target.path(&path)), 404, "MANIFEST_UNKNOWN")
            .await;
        let push = target.push(tag, IMAGE, target.image.bytes.clone());
        target.refuses(push, 400, "TAG_INVALID").await;
    }
    target.stays_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_long_names() {
    let target = Target::start().await;
    for name in ["x".repeat(256), "x/".repeat(200) + "x", "x".repeat(8000)] {
        target
            .refuses(Request::get(format!("/v2/{name}/tags/list")), 400, "NAME_INVALID")
            .await;
        let push = Request::put(format!("/v2/{name}/manifests/v1")).body("{}");
        target.refuses(push, 400, "NAME_INVALID").await;
    }
    for tag in ["t".repeat(129), "t".repeat(8000)] {
        let push = target.push(&tag, IMAGE, target.image.bytes.clone());
        target.refuses(push, 400, "TAG_INVALID").await;
    }
    let long = format!("sha256:{}", "a".repeat(5000));
    target
        .refuses(
            Request::get(target.path(&format!("blobs/{long}"))),
            400,
            "DIGEST_INVALID",
        )
        .await;
    let upload = target.path(&format!("blobs/uploads/{}", "u".repeat(5000)));
    target
        .refuses(
            octets(Request::patch(upload)).body("x"),
            404,
            "BLOB_UPLOAD_UNKNOWN",
        )
        .await;
    let tags: String = (0..40).map(|n| format!("tag=t{n}&")).collect();
    let push = target.push(
        &format!("{}?{tags}", sha256(&target.image.bytes)),
        IMAGE,
        target.image.bytes.clone(),
    );
    target.refuses(push, 414, "TAG_INVALID").await;
    target.stays_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn path_tricks() {
    let target = Target::start().await;
    let (repository, digest) = (&target.repository, &target.layer.digest);
    let name_invalid = || Reply::error(400, "NAME_INVALID");
    let digest_invalid = || Reply::error(400, "DIGEST_INVALID");
    let not_found = || Reply::error(404, "UNSUPPORTED");
    let no_upload = || Reply::error(404, "BLOB_UPLOAD_UNKNOWN");
    for (path, expected) in [
        (format!("/v2/../v2/{repository}/tags/list"), name_invalid()),
        (
            format!("/v2/{repository}/../{repository}/tags/list"),
            name_invalid(),
        ),
        (format!("/v2/{repository}/%2e%2e/tags/list"), name_invalid()),
        (format!("/v2/{repository}%2f..%2fx/tags/list"), name_invalid()),
        (format!("/v2/{repository}%00/tags/list"), name_invalid()),
        (format!("/v2//{repository}/tags/list"), name_invalid()),
        (
            format!("/v2/{repository}/tags/list/../../manifests/good"),
            name_invalid(),
        ),
        (format!("/v2/{repository}\\..\\x/tags/list"), name_invalid()),
        ("/v2/../../../../etc/passwd".to_owned(), not_found()),
        ("/../etc/passwd".to_owned(), not_found()),
        (
            format!("/v2/{repository}/blobs/../../../../etc/passwd"),
            not_found(),
        ),
        (
            format!("/v2/{repository}/blobs/..%2f..%2fmeta.redb"),
            digest_invalid(),
        ),
        (format!("/v2/{repository}/blobs/{digest}%00"), digest_invalid()),
        (format!("/v2/{repository}/blobs/{digest}/"), not_found()),
        (
            format!("/v2/{repository}/blobs/uploads/..%2f{digest}"),
            no_upload(),
        ),
        (
            format!("/v2/{repository}/manifests/..%2fgood"),
            Reply::error(404, "MANIFEST_UNKNOWN"),
        ),
        // A NUL isn't HTTP, so the head isn't one.
        (format!("/v2/{repository}\0/tags/list"), Reply::Status(400)),
    ] {
        for door in target.doors() {
            let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
            assert_eq!(say(door, request.as_bytes()).await.0, expected, "{path:?}");
        }
    }
    target.stays_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_or_malformed_digests() {
    let target = Target::start().await;
    let known = &target.layer.digest;
    let unknown = sha256(b"nobody has this");
    for digest in [
        "sha256:short".to_owned(),
        known.to_uppercase(),
        known.replace("sha256:", "md5:"),
        known.replace("sha256:", "sha512:"),
        known.replace(':', "-"),
        format!("{known}0"),
        format!("{known}%00"),
        "sha256:".to_owned(),
        ":".to_owned(),
    ] {
        target
            .refuses(
                Request::get(target.path(&format!("blobs/{digest}"))),
                400,
                "DIGEST_INVALID",
            )
            .await;
        target
            .refuses(
                Request::delete(target.path(&format!("blobs/{digest}"))),
                400,
                "DIGEST_INVALID",
            )
            .await;
        target
            .refuses(
                Request::get(target.path(&format!("referrers/{digest}"))),
                400,
                "DIGEST_INVALID",
            )
            .await;
        target
            .refuses(target.push_blob(&digest, "x"), 400, "DIGEST_INVALID")
            .await;
    }
    for (path, code) in [("blobs", "BLOB_UNKNOWN"), ("manifests", "MANIFEST_UNKNOWN")] {
        let path = target.path(&format!("{path}/{unknown}"));
        target.refuses(Request::get(&path), 404, code).await;
        target.refuses(Request::head(&path), 404, code).await;
        target.refuses(Request::delete(&path), 404, code).await;
    }
    target.stays_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn digest_mismatch() {
    let target = Target::start().await;
    for length in [0, 10, 3 * PART + 1] {
        let (content, other) = (Blob::named("content", length), sha256(b"something else"));
        target
            .refuses(
                target.push_blob(&other, content.bytes.clone()),
                400,
                "DIGEST_INVALID",
            )
            .await;
        for member in [FRONT, OWNER] {
            let client = target.mesh.client(member);
            let at = client
                .start(&target.repository)
                .await
                .unwrap()
                .expect(202)
                .location();
            let end = octets(Request::put(with_digest(&at, &other))).body(content.bytes.clone());
            client.ask(end).await.unwrap().error(400, "DIGEST_INVALID");
            // The session went with it.
            client.get(at).await.unwrap().error(404, "BLOB_UPLOAD_UNKNOWN");
        }
    }
    let push = target.push(&sha256(b"another manifest"), IMAGE, target.image.bytes.clone());
    target.refuses(push, 400, "DIGEST_INVALID").await;
    target.stays_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_out_of_order_or_beyond_the_end() {
    let target = Target::start().await;
    let blob = target.path(&format!("blobs/{}", target.layer.digest));
    for range in [
        "bytes=300000-",
        "bytes=300000-300001",
        "bytes=99999999999999999999-",
        "bytes=-0",
    ] {
        target
            .refuses(Request::get(&blob).header("range", range), 416, "UNSUPPORTED")
            .await;
    }
    for member in [FRONT, OWNER] {
        let client = target.mesh.client(member);
        // What isn't a range is as if it weren't there, or is refused; never another part of the blob.
        for range in [
            "bytes=5-2",
            "bytes=a-b",
            "bytes=--1",
            "bytes=1-2,6-5",
            "bytes=1-2;5-6",
            "lines=1-2",
        ] {
            let answer = client
                .ask(Request::get(&blob).header("range", range))
                .await
                .unwrap();
            match answer.status {
                200 => assert_eq!(answer.body, target.layer.bytes, "{range}"),
                _ => drop(answer.expect(416)),
            }
        }
        let at = client
            .start(&target.repository)
            .await
            .unwrap()
            .expect(202)
            .location();
        client
            .ask(chunk(&at, 0, "0123456789".into()))
            .await
            .unwrap()
            .expect(202);
        for first in [0, 5, 11, 1 << 40] {
            let again = client.ask(chunk(&at, first, "abc".into())).await.unwrap();
            again.error(416, "BLOB_UPLOAD_INVALID").with("range", "0-9");
        }
        for (range, body, code) in [
            ("12-10", "abc", "BLOB_UPLOAD_INVALID"),
            ("10-", "abc", "BLOB_UPLOAD_INVALID"),
            ("ten-twelve", "abc", "BLOB_UPLOAD_INVALID"),
            ("10-99", "abc", "SIZE_INVALID"),
            ("10-11", "abc", "SIZE_INVALID"),
        ] {
            let request = octets(Request::patch(&at))
                .header("content-range", range)
                .body(body);
            client.ask(request).await.unwrap().error(400, code);
        }
        client
            .get(at.clone())
            .await
            .unwrap()
            .expect(204)
            .with("range", "0-9");
        client.delete(at).await.unwrap().expect(204);
    }
    target.stays_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn truncated_bodies() {
    let target = Target::start().await;
    for (door, length) in target
        .doors()
        .into_iter()
        .flat_map(|door| [(door, 1000), (door, 5 * PART)])
    {
        let blob = Blob::named("truncated", length);
        let half = Blob::new(blob.bytes.slice(..length / 2));
        for digest in [&blob.digest, &half.digest] {
            let mut raw = Raw::open(door).await;
            let line = format!(
                "POST {} HTTP/1.1",
                target.path(&format!("blobs/uploads/?digest={digest}"))
            );
            raw.head(&[&line, &format!("content-length: {length}")]).await;
            raw.write(&half.bytes).await.unwrap();
            raw.shut_down().await;
            let answer = super::reply(&mut raw).await;
            assert!(
                [Reply::Closed, Reply::error(400, "BLOB_UPLOAD_INVALID")].contains(&answer),
                "{answer:?}"
            );
        }
        // A manifest cut short, at a place where what came is valid by itself.
        let mut raw = Raw::open(door).await;
        let line = format!("PUT {} HTTP/1.1", target.path("manifests/cut"));
        let length = target.image.bytes.len() + 10;
        raw.head(&[
            &line,
            &format!("content-type: {IMAGE}"),
            &format!("content-length: {length}"),
        ])
        .await;
        raw.write(&target.image.bytes).await.unwrap();
        raw.shut_down().await;
        let answer = super::reply(&mut raw).await;
        assert!(
            matches!(answer, Reply::Closed | Reply::Error(400, _)),
            "{answer:?}"
        );
    }
    target.stays_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_content_length() {
    let target = Target::start().await;
    let blob = Blob::named("length", 1000);
    let path = target.path(&format!("blobs/uploads/?digest={}", blob.digest));
    for door in target.doors() {
        for length in [
            "-1",
            "+1000",
            "1e3",
            "1000 1000",
            "1000, 1000",
            "0x10",
            "99999999999999999999999",
            "a",
        ] {
            let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
            let (answer, mut raw) = say(door, head.as_bytes()).await;
            assert_eq!(answer, Reply::Status(400), "{length:?}");
            raw.ends_cleanly().await;
        }
        // Less than what follows: the rest is no request.
        let mut bytes =
            format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 999\r\n\r\n").into_bytes();
        bytes.extend_from_slice(&blob.bytes);
        let (answer, mut raw) = say(door, &bytes).await;
        assert_eq!(answer, Reply::error(400, "DIGEST_INVALID"));
        raw.shut_down().await;
        assert!(!matches!(super::reply(&mut raw).await, Reply::Status(200..300)));
        // More than any disk: refused as soon as it is clear that it can't be.
        let head = format!(
            "PUT {} HTTP/1.1\r\nhost: a\r\ncontent-length: 18446744073709551615\r\n\r\n",
            target.path("manifests/huge")
        );
        let (answer, _raw) = say(door, head.as_bytes()).await;
        assert!(
            matches!(answer, Reply::Error(400 | 413, _) | Reply::Status(400 | 431)),
            "{answer:?}"
        );
    }
    target.stays_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn manifests_over_4_mib() {
    let target = Target::start().await;
    let mut bytes = target.image.bytes.to_vec();
    bytes.resize(4 << 20, b' ');
    let fits: bytes::Bytes = bytes.clone().into();
    bytes.push(b' ');
    let over: bytes::Bytes = bytes.into();
    target
        .refuses(target.push("over", IMAGE, over.clone()), 413, "MANIFEST_INVALID")
        .await;
    let pieces: Vec<_> = over.chunks(100_000).map(bytes::Bytes::copy_from_slice).collect();
    let unannounced = Request::put(target.path("manifests/over"))
        .header("content-type", IMAGE)
        .pieces(pieces);
    target.refuses(unannounced, 413, "MANIFEST_INVALID").await;
    for door in target.doors() {
        // Said to be too long, it isn't waited for.
        let head = format!(
            "PUT {} HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-type: {IMAGE}\r\ncontent-length: 4194305\r\n\r\n",
            target.path("manifests/over")
        );
        let (answer, mut raw) = say(door, head.as_bytes()).await;
        if answer == Reply::Status(100) {
            // Another member's: it is its owner that says so, when the first bytes come.
            raw.write(&over[..1000]).await.unwrap();
            assert_eq!(
                super::reply(&mut raw).await,
                Reply::error(413, "MANIFEST_INVALID")
            );
        } else {
            assert_eq!(answer, Reply::error(413, "MANIFEST_INVALID"));
        }
    }
    // One byte less is fine.
    let client = target.mesh.client(FRONT);
    let digest = sha256(&fits);
    client
        .ask(target.push(&digest, IMAGE, fits))
        .await
        .unwrap()
        .expect(201);
    client
        .delete(target.path(&format!("manifests/{digest}")))
        .await
        .unwrap()
        .expect(202);
    target.mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalid_or_deeply_nested_json() {
    let target = Target::start().await;
    let image = std::str::from_utf8(&target.image.bytes).unwrap();
    let nested = |open: &str, close: &str| format!("{}{}", open.repeat(500_000), close.repeat(500_000));
    let inside = |value: &str| format!("{},\"x\":{value}}}", image.trim_end().trim_end_matches('}'));
    for document in [
        String::new(),
        "null".to_owned(),
        "[]".to_owned(),
        "\"text\"".to_owned(),
        "{".to_owned(),
        image[..image.len() - 2].to_owned(),
        format!("{image}{image}"),
        format!("{image}\0"),
        nested("[", "]"),
        nested("{\"a\":", "}").replace(":}", ":1}"),
        inside(&nested("[", "]")),
        image.replace("\"schemaVersion\":2", "\"schemaVersion\":\"2\""),
        image.replace("\"schemaVersion\":2", "\"schemaVersion\":1"),
        image.replace("\"size\":", "\"size\":-"),
        image.replace("sha256:", "sha257:"),
    ] {
        assert_ne!(document, image, "the replacement has found its place");
        let request = target.push("bad", IMAGE, document);
        target.refuses(request, 400, "MANIFEST_INVALID").await;
    }
    target
        .refuses(
            target.push("bad", IMAGE, vec![0xff, 0xfe, b'{', b'}']),
            400,
            "MANIFEST_INVALID",
        )
        .await;
    target.stays_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_blobs() {
    let target = Target::start().await;
    let (there, missing) = (Blob::named("config", 100), Blob::named("missing", 100));
    for manifest in [
        Manifest::image(&there, &[&missing]),
        Manifest::image(&missing, &[&there]),
    ] {
        let manifest = manifest.build();
        let push = target.push("bad", &manifest.media_type, manifest.bytes.clone());
        target.refuses(push, 404, "MANIFEST_BLOB_UNKNOWN").await;
    }
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{{"mediaType":"{IMAGE}","digest":"{}","size":10}}]}}"#,
        missing.digest
    );
    target
        .refuses(target.push("bad", INDEX, index), 404, "MANIFEST_BLOB_UNKNOWN")
        .await;
    // A blob of another repository is not one of this.
    let elsewhere = target.mesh.names().owned_by(OWNER, "elsewhere");
    let push = Request::put(format!("/v2/{elsewhere}/manifests/stolen"))
        .header("content-type", IMAGE)
        .body(target.image.bytes.clone());
    target.refuses(push, 404, "MANIFEST_BLOB_UNKNOWN").await;
    target.stays_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_media_types() {
    let target = Target::start().await;
    for (media_type, status) in [
        ("text/html", 415),
        ("application/vnd.docker.distribution.manifest.v1+prettyjws", 415),
        ("application/vnd.example.manifest.v9+json", 415),
        ("not a type", 400),
        ("/", 400),
        (INDEX, 400),
    ] {
        let request = target.push("bad", media_type, target.image.bytes.clone());
        target.refuses(request, status, "MANIFEST_INVALID").await;
    }
    target.stays_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_of_others_are_not_found() {
    let target = Target::start().await;
    let elsewhere = target.mesh.names().owned_by(OWNER, "elsewhere");
    let client = target.mesh.client(OWNER);
    let at = client.start(&elsewhere).await.unwrap().expect(202).location();
    let id = at.rsplit('/').next().unwrap();
    let stolen = target.path(&format!("blobs/uploads/{id}"));
    target
        .refuses(Request::get(&stolen), 404, "BLOB_UPLOAD_UNKNOWN")
        .await;
    target
        .refuses(
            octets(Request::patch(&stolen)).body("x"),
            404,
            "BLOB_UPLOAD_UNKNOWN",
        )
        .await;
    target
        .refuses(finish(&stolen, &sha256(b"")), 404, "BLOB_UPLOAD_UNKNOWN")
        .await;
    target
        .refuses(Request::delete(&stolen), 404, "BLOB_UPLOAD_UNKNOWN")
        .await;
    client.delete(at).await.unwrap().expect(204);
    target.stays_unharmed().await;
}
