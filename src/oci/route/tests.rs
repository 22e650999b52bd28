//! Every endpoint, every condition.

use http::Method;
use proptest::prelude::*;

use super::*;

fn digest() -> Digest {
    Digest::of(Algorithm::Sha256, b"content")
}

fn parse(line: &str) -> Result<Route, RouteError> {
    let (method, target) = line.split_once(' ').unwrap();
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    // `{d}` stands for a digest, `{u}` for an upload session.
    let fill = |text: &str| {
        text.replace("{d}", digest().as_str())
            .replace("{u}", &"0a".repeat(16))
    };
    Route::parse(&method.parse().unwrap(), &fill(path), query.map(fill).as_deref())
}

fn name(text: &str) -> RepoName {
    text.parse().unwrap()
}

fn upload() -> UploadId {
    "0a".repeat(16).parse().unwrap()
}

#[test]
fn every_endpoint_has_its_route() {
    let endpoints = [
        ("GET /v2/", "api_version", None),
        ("HEAD /v2", "api_version", None),
        ("GET /v2/_catalog", "catalog", None),
        ("GET /v2/a/b/tags/list", "tags_list", Some("a/b")),
        ("GET /v2/a/manifests/latest", "manifest_get", Some("a")),
        ("HEAD /v2/a/b/c/manifests/{d}", "manifest_head", Some("a/b/c")),
        ("PUT /v2/a/manifests/latest", "manifest_put", Some("a")),
        ("DELETE /v2/a/manifests/{d}", "manifest_delete", Some("a")),
        ("GET /v2/a/blobs/{d}", "blob_get", Some("a")),
        ("HEAD /v2/a/blobs/{d}", "blob_head", Some("a")),
        ("DELETE /v2/a/blobs/{d}", "blob_delete", Some("a")),
        ("POST /v2/a/blobs/uploads/", "upload_start", Some("a")),
        ("POST /v2/a/blobs/uploads", "upload_start", Some("a")),
        ("POST /v2/a/blobs/uploads/?digest={d}", "blob_push", Some("a")),
        (
            "POST /v2/a/blobs/uploads/?mount={d}&from=b",
            "blob_mount",
            Some("a"),
        ),
        ("GET /v2/a/blobs/uploads/{u}", "upload_status", Some("a")),
        ("PATCH /v2/a/blobs/uploads/{u}", "upload_chunk", Some("a")),
        (
            "PUT /v2/a/blobs/uploads/{u}?digest={d}",
            "upload_finish",
            Some("a"),
        ),
        ("DELETE /v2/a/blobs/uploads/{u}", "upload_cancel", Some("a")),
        ("GET /v2/a/referrers/{d}", "referrers", Some("a")),
    ];
    for (line, label, repository) in endpoints {
        let route = parse(line).unwrap();
        assert_eq!(route.name(), label, "{line}");
        assert_eq!(route.repository().map(RepoName::as_str), repository, "{line}");
        let safe = line.starts_with("GET ") || line.starts_with("HEAD ");
        assert_eq!(route.effect() == Effect::Safe, safe, "{line}");
    }
}

#[test]
fn the_words_of_the_api_are_fine_in_names() {
    for (line, repository) in [
        ("GET /v2/manifests/manifests/manifests", "manifests"),
        ("GET /v2/tags/list/tags/list", "tags/list"),
        ("GET /v2/a/blobs/uploads/manifests/x", "a/blobs/uploads"),
        ("GET /v2/a/blobs/blobs/{d}", "a/blobs"),
        ("POST /v2/blobs/blobs/uploads/", "blobs"),
        ("POST /v2/blobs/uploads/blobs/uploads/", "blobs/uploads"),
        ("PATCH /v2/uploads/blobs/uploads/{u}", "uploads"),
        ("GET /v2/v2/referrers/{d}", "v2"),
        ("GET /v2/a/referrers/tags/list", "a/referrers"),
    ] {
        assert_eq!(
            parse(line).unwrap().repository().map(RepoName::as_str),
            Some(repository),
            "{line}"
        );
    }
}

#[test]
fn other_paths_are_not_found() {
    for line in [
        "GET /",
        "GET /v1/",
        "GET /v2a",
        "GET /v2//",
        "GET v2/",
        "GET *",
        "GET /v2/a",
        "GET /v2/a/b",
        "GET /v2/_catalog/",
        "GET /v2/_oci/ext/discover",
        "GET /v2/tags/list",
        "GET /v2/manifests/x",
        "GET /v2/a/tags/lists",
        "GET /v2/a/tags/list/",
        "GET /v2/a/manifests/",
        "GET /v2/a/manifests",
        "GET /v2/a/blobs/",
        "GET /v2/a/referrers/",
        "GET /v2/a/manifests/x/y",
        "POST /v2/blobs/uploads/",
        "POST /v2/a/uploads/",
        "GET /v2/a/uploads/{u}",
        "GET /v2/a/blobs/uploads//",
        "GET /v2/a%2Fmanifests%2Fx",
    ] {
        assert_eq!(parse(line), Err(RouteError::NotFound), "{line}");
    }
}

#[test]
fn other_methods_are_told_which_fit() {
    for (line, allow) in [
        ("POST /v2/", "GET, HEAD"),
        ("HEAD /v2/_catalog", "GET"),
        ("DELETE /v2/a/tags/list", "GET"),
        ("POST /v2/a/manifests/x", "GET, HEAD, PUT, DELETE"),
        ("PUT /v2/a/blobs/{d}", "GET, HEAD, DELETE"),
        ("GET /v2/a/blobs/uploads/", "POST"),
        ("POST /v2/a/blobs/uploads/{u}", "GET, PATCH, PUT, DELETE"),
        ("HEAD /v2/a/referrers/{d}", "GET"),
    ] {
        assert_eq!(parse(line), Err(RouteError::MethodNotAllowed { allow }), "{line}");
    }
}

#[test]
fn each_malformed_part_is_its_own_condition() {
    use RouteError::{
        AlgorithmUnsupported, DigestInvalid, NameInvalid, PageInvalid, TagInvalid, UploadUnknown,
    };
    for (line, error) in [
        ("GET /v2/A/manifests/x", NameInvalid),
        ("GET /v2//manifests/x", NameInvalid),
        ("GET /v2/a//manifests/x", NameInvalid),
        ("GET /v2/a%2Fb/manifests/x", NameInvalid),
        ("GET /v2/_catalog/tags/list", NameInvalid),
        ("GET /v2/../manifests/x", NameInvalid),
        ("GET /v2/a/manifests/.INVALID_MANIFEST_NAME", TagInvalid),
        ("PUT /v2/a/manifests/x%2Fy", TagInvalid),
        ("PUT /v2/a/manifests/x%3Ay", AlgorithmUnsupported),
        ("GET /v2/a/blobs/sha256%3Abaddigest", DigestInvalid),
        ("GET /v2/%2E%2E/manifests/x", NameInvalid),
        ("PUT /v2/a/manifests/{d}?tag=ok&tag=-no", TagInvalid),
        ("PUT /v2/a/manifests/{d}?tag=", TagInvalid),
        ("PUT /v2/a/manifests/sha256:baddigeststring", DigestInvalid),
        ("GET /v2/a/blobs/latest", DigestInvalid),
        ("GET /v2/a/blobs/{d}0", DigestInvalid),
        ("GET /v2/a/blobs/sha384:00", AlgorithmUnsupported),
        ("GET /v2/a/referrers/x", DigestInvalid),
        ("POST /v2/a/blobs/uploads/?digest=", DigestInvalid),
        ("POST /v2/a/blobs/uploads/?digest=md5:00", AlgorithmUnsupported),
        (
            "POST /v2/a/blobs/uploads/?digest-algorithm=sha384",
            AlgorithmUnsupported,
        ),
        (
            "POST /v2/a/blobs/uploads/?digest-algorithm=",
            AlgorithmUnsupported,
        ),
        ("PUT /v2/a/blobs/uploads/{u}", DigestInvalid),
        ("PUT /v2/a/blobs/uploads/{u}?digest=%ff", DigestInvalid),
        ("PATCH /v2/a/blobs/uploads/x", UploadUnknown),
        ("PUT /v2/a/blobs/uploads/x", UploadUnknown),
        ("GET /v2/a/tags/list?n=-1", PageInvalid),
        ("GET /v2/_catalog?n=x", PageInvalid),
        ("GET /v2/a/referrers/{d}?n=", PageInvalid),
    ] {
        assert_eq!(parse(line), Err(error), "{line}");
    }
}

#[test]
fn what_needs_no_encoding_means_the_same_encoded() {
    for (encoded, plain) in [
        ("GET /v2/a/blobs/{e}", "GET /v2/a/blobs/{d}"),
        ("HEAD /v2/a/manifests/{e}", "HEAD /v2/a/manifests/{d}"),
        ("GET /v2/a/referrers/{e}", "GET /v2/a/referrers/{d}"),
        (
            "GET /v2/%6dy%2Dorg/m%2ex/manifests/v1%2E0",
            "GET /v2/my-org/m.x/manifests/v1.0",
        ),
        ("GET /v2/a%5fb/%74ags/list", "GET /v2/a_b/tags/list"),
        (
            "PATCH /v2/a/blobs/uploads/0%61{r}",
            "PATCH /v2/a/blobs/uploads/{u}",
        ),
        ("GET /v2/%5Fcatalog", "GET /v2/_catalog"),
    ] {
        let escaped = digest().as_str().replace(':', "%3a");
        let encoded = encoded.replace("{e}", &escaped).replace("{r}", &"0a".repeat(15));
        let route = parse(&encoded);
        assert!(route.is_ok(), "{encoded}: {route:?}");
        assert_eq!(route, parse(plain), "{encoded}");
    }
    // All else stays as it is, once and for all: nothing is decoded twice.
    for line in [
        "GET /v2/a%2fb/tags/list",
        "GET /v2/a%252Db/tags/list",
        "GET /v2/a%00/tags/list",
        "GET /v2/a%/tags/list",
        "GET /v2/a%2/tags/list",
        "GET /v2/a%+2/tags/list",
        "GET /v2/a%é/tags/list",
        "GET /v2/%C3%A9/tags/list",
        "GET /v2/a%20/tags/list",
    ] {
        assert_eq!(parse(line), Err(RouteError::NameInvalid), "{line}");
    }
}

#[test]
fn pages_are_read_from_the_query() {
    let page = Page {
        limit: 5,
        last: Some("v1.0".into()),
    };
    assert_eq!(
        parse("GET /v2/a/tags/list?n=5&last=v1.0"),
        Ok(Route::ListTags {
            repository: name("a"),
            page: page.clone()
        })
    );
    let page = Page {
        last: Some("a/b".into()),
        ..page
    };
    assert_eq!(
        parse("GET /v2/_catalog?last=a%2Fb&n=5"),
        Ok(Route::Catalog { page })
    );
}

#[test]
fn tags_beside_a_digest_are_kept_once_in_order() {
    let Ok(Route::PutManifest { tags, .. }) = parse("PUT /v2/a/manifests/{d}?tag=b&tag=a&x=y&tag=b") else {
        panic!("a manifest push is expected");
    };
    assert_eq!(tags.iter().map(Tag::as_str).collect::<Vec<_>>(), ["b", "a"]);
}

#[test]
fn tags_beside_a_tag_are_ignored() {
    let expected = Route::PutManifest {
        repository: name("a"),
        reference: Tag::parse("x").unwrap().into(),
        tags: vec![],
    };
    assert_eq!(parse("PUT /v2/a/manifests/x?tag=y&tag=-no"), Ok(expected));
}

#[test]
fn thirty_different_tags_are_the_most() {
    let tags = |n: usize| {
        (0..n)
            .map(|i| format!("tag=t{i}&tag=t0"))
            .collect::<Vec<_>>()
            .join("&")
    };
    assert!(parse(&format!("PUT /v2/a/manifests/{{d}}?{}", tags(30))).is_ok());
    assert_eq!(
        parse(&format!("PUT /v2/a/manifests/{{d}}?{}", tags(31))),
        Err(RouteError::TooManyTags)
    );
}

#[test]
fn a_mount_that_can_not_happen_is_a_session() {
    let session = |algorithm| {
        Ok(Route::StartUpload {
            repository: name("a"),
            algorithm,
        })
    };
    assert_eq!(
        parse("POST /v2/a/blobs/uploads/?mount={d}&from=B"),
        session(Some(Algorithm::Sha256))
    );
    assert_eq!(
        parse("POST /v2/a/blobs/uploads/?mount={d}&from="),
        session(Some(Algorithm::Sha256))
    );
    assert_eq!(
        parse("POST /v2/a/blobs/uploads/?mount=sha256:x&from=b"),
        session(None)
    );
    assert_eq!(parse("POST /v2/a/blobs/uploads/?mount=md5:00"), session(None));
    let mount = |from| {
        Ok(Route::MountBlob {
            repository: name("a"),
            digest: digest(),
            from,
        })
    };
    assert_eq!(
        parse("POST /v2/a/blobs/uploads/?mount={d}&from=b%2Fc"),
        mount(Some(name("b/c")))
    );
    assert_eq!(parse("POST /v2/a/blobs/uploads/?mount={d}"), mount(None));
}

#[test]
fn a_session_may_announce_its_algorithm() {
    let session = |algorithm| {
        Ok(Route::StartUpload {
            repository: name("a"),
            algorithm,
        })
    };
    assert_eq!(parse("POST /v2/a/blobs/uploads/"), session(None));
    assert_eq!(
        parse("POST /v2/a/blobs/uploads/?digest-algorithm=sha512"),
        session(Some(Algorithm::Sha512))
    );
    assert_eq!(parse("POST /v2/a/blobs/uploads/?from=b"), session(None));
}

#[test]
fn escaped_digests_in_queries_are_read() {
    let query = format!("digest={}&_state=x", digest().as_str().replace(':', "%3A"));
    let path = format!("/v2/a/blobs/uploads/{}", upload());
    let route = Route::parse(&Method::PUT, &path, Some(&query));
    assert_eq!(
        route,
        Ok(Route::FinishUpload {
            repository: name("a"),
            upload: upload(),
            digest: digest()
        })
    );
}

#[test]
fn artifact_types_are_collected_escaped_or_not() {
    let Ok(Route::Referrers {
        artifact_types,
        subject,
        page,
        ..
    }) = parse(
        "GET /v2/a/referrers/{d}?artifactType=application%2Fa&artifactType=&artifactType=application/b+json",
    )
    else {
        panic!("referrers are expected");
    };
    assert_eq!(artifact_types, ["application/a", "application/b+json"]);
    assert_eq!((subject, page), (digest(), Page::default()));
}

#[test]
fn routes_need_what_they_do() {
    let needs = |line: &str| -> Vec<(String, Need)> {
        let permissions = parse(line).unwrap().permissions().into_iter();
        permissions
            .map(|permission| (permission.repository.to_string(), permission.need))
            .collect()
    };
    let on_a = |need| vec![("a".to_owned(), need)];
    assert_eq!(needs("GET /v2/"), []);
    assert_eq!(needs("GET /v2/_catalog"), []);
    for line in [
        "GET /v2/a/tags/list",
        "HEAD /v2/a/manifests/x",
        "GET /v2/a/blobs/{d}",
        "GET /v2/a/referrers/{d}",
    ] {
        assert_eq!(needs(line), on_a(Need::Required(Action::Read)), "{line}");
    }
    for line in [
        "POST /v2/a/blobs/uploads/",
        "POST /v2/a/blobs/uploads/?mount={d}",
        "GET /v2/a/blobs/uploads/{u}",
        "DELETE /v2/a/blobs/uploads/{u}",
    ] {
        assert_eq!(needs(line), on_a(Need::Required(Action::Create)), "{line}");
    }
    let and_read = |need| [on_a(need), on_a(Need::Optional(Action::Read))].concat();
    assert_eq!(
        needs("PUT /v2/a/manifests/x"),
        and_read(Need::AnyOf(&[Action::Create, Action::Update]))
    );
    assert_eq!(
        needs("DELETE /v2/a/manifests/x"),
        and_read(Need::Required(Action::Delete))
    );
    assert_eq!(
        needs("DELETE /v2/a/blobs/{d}"),
        on_a(Need::Required(Action::Delete))
    );
    let mut mount = on_a(Need::Required(Action::Create));
    mount.push(("b".to_owned(), Need::Optional(Action::Read)));
    assert_eq!(needs("POST /v2/a/blobs/uploads/?mount={d}&from=b"), mount);
}

proptest! {
    #[test]
    fn any_request_line_is_read_without_a_panic(
        method in "GET|HEAD|PUT|POST|PATCH|DELETE|OPTIONS",
        path in "(/v2)?(/(blobs|uploads|manifests|tags|list|referrers|_catalog|a|sha256:0|[%.]|)){0,7}|.{0,40}",
        query in proptest::option::of("((n|last|tag|digest|mount|from|digest-algorithm|%6e)=?[a-z0-9%:]{0,5}&?){0,5}|.{0,40}"),
    ) {
        let _ = Route::parse(&method.parse().unwrap(), &path, query.as_deref());
    }

    #[test]
    fn a_name_of_any_depth_is_found_again(
        text in "(blobs|uploads|manifests|tags|list|referrers|v2|[a-z0-9]{1,5})(/(blobs|uploads|manifests|tags|list|referrers|[a-z0-9]{1,5})){0,8}",
        end in r"tags/list|manifests/x|manifests/\{d\}|blobs/\{d\}|blobs/uploads/\{u\}|referrers/\{d\}",
    ) {
        let route = parse(&format!("GET /v2/{text}/{end}")).unwrap();
        prop_assert_eq!(route.repository().map(RepoName::as_str), Some(&*text));
    }
}
