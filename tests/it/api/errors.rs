//! Requests that are wrong in themselves, and what every answer carries.

use http::Method;

use super::{Outcome, Run, api_tests, manifests::config};
use crate::support::{
    client::{Ask as _, Request, octets},
    content::Manifest,
};

async fn a_name_outside_the_grammar_is_refused_everywhere(run: Run) -> Outcome {
    let digest = run.blob("blob", 10).digest;
    let longest = "x".repeat(256);
    for name in [
        "Upper", "a/B", "-a", "a-", "a//b", "a/../b", "..", ".", "a..b", "a___b", "_a", "a.", "a+b", "a%2Fb",
        "a%00b", "a%20b", "a@b", "a:b", "_catalog", "a/_b", &longest,
    ] {
        for (method, rest) in [
            (Method::GET, "tags/list".to_owned()),
            (Method::GET, "manifests/latest".to_owned()),
            (Method::PUT, "manifests/latest".to_owned()),
            (Method::DELETE, "manifests/latest".to_owned()),
            (Method::GET, format!("blobs/{digest}")),
            (Method::DELETE, format!("blobs/{digest}")),
            (Method::POST, "blobs/uploads/".to_owned()),
            (Method::POST, format!("blobs/uploads/?digest={digest}")),
            (Method::POST, format!("blobs/uploads/?mount={digest}")),
            (Method::PATCH, "blobs/uploads/some-id".to_owned()),
            (Method::PUT, format!("blobs/uploads/some-id?digest={digest}")),
            (Method::GET, format!("referrers/{digest}")),
        ] {
            let request = Request::new(method.clone(), format!("/v2/{name}/{rest}"));
            let request = if method == Method::GET {
                request
            } else {
                octets(request).body("{}")
            };
            run.ask(request).await?.error(400, "NAME_INVALID");
        }
        run.head(format!("/v2/{name}/manifests/latest"))
            .await?
            .expect(400)
            .with_body(b"");
    }
    Ok(())
}

async fn a_name_may_be_long_and_deep_and_look_like_an_endpoint(run: Run) -> Outcome {
    let prefix = run.prefix();
    let longest = format!("{prefix}{}", "x/".repeat(100));
    let longest = format!("{longest}{}", "y".repeat(255 - longest.len()));
    let odd = format!("{prefix}blobs/uploads/manifests/tags/list/blobs");
    for (kind, name) in [
        ("longest", longest),
        ("odd", odd),
        ("separators", format!("{prefix}a.b_c__d---e0")),
    ] {
        let name = run.named(name, kind);
        let config = config(&run, &name).await?;
        let manifest = Manifest::image(&config, &[]).build();
        run.push_manifest(&name, "list", &manifest).await?.expect(201);
        run.get(format!("/v2/{name}/manifests/list"))
            .await?
            .expect(200)
            .with_body(&manifest.bytes);
        run.get(format!("/v2/{name}/tags/list")).await?.expect(200);
        run.push_blob_in_chunks(&name, &run.blob("blob", 100), 40)
            .await?
            .expect(201);
    }
    Ok(())
}

async fn a_path_that_is_no_endpoint_is_not_found(run: Run) -> Outcome {
    let repository = run.repository("repo");
    for path in [
        "/".to_owned(),
        "/v1/".to_owned(),
        "/v2x".to_owned(),
        "/v2/_catalog/".to_owned(),
        format!("/v2/{repository}"),
        format!("/v2/{repository}/"),
        format!("/v2/{repository}/tags"),
        format!("/v2/{repository}/tags/"),
        format!("/v2/{repository}/manifests/"),
        format!("/v2/{repository}/blobs/"),
        format!("/v2/{repository}/referrers/"),
        format!("/V2/{repository}/tags/list"),
    ] {
        run.get(path.clone()).await?.expect(404);
        run.ask(octets(Request::put(path)).body("{}")).await?.expect(404);
    }
    Ok(())
}

async fn a_method_that_does_not_fit_is_told_which_do(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let digest = run.blob("blob", 10).digest;
    for (path, allow, methods) in [
        (
            "/v2/".to_owned(),
            "GET, HEAD",
            vec![Method::PUT, Method::POST, Method::DELETE, Method::PATCH],
        ),
        (
            "/v2/_catalog".to_owned(),
            "GET",
            vec![Method::POST, Method::DELETE],
        ),
        (
            format!("/v2/{repository}/tags/list"),
            "GET",
            vec![Method::PUT, Method::DELETE],
        ),
        (
            format!("/v2/{repository}/manifests/v1"),
            "GET, HEAD, PUT, DELETE",
            vec![Method::POST, Method::PATCH],
        ),
        (
            format!("/v2/{repository}/blobs/{digest}"),
            "GET, HEAD, DELETE",
            vec![Method::PUT, Method::POST],
        ),
        (
            format!("/v2/{repository}/blobs/uploads/"),
            "POST",
            vec![Method::GET, Method::PUT, Method::DELETE],
        ),
        (
            format!("/v2/{repository}/blobs/uploads/1"),
            "GET, PATCH, PUT, DELETE",
            vec![Method::POST],
        ),
        (
            format!("/v2/{repository}/referrers/{digest}"),
            "GET",
            vec![Method::PUT, Method::DELETE],
        ),
    ] {
        for method in methods {
            run.ask(octets(Request::new(method, &path)).body("{}"))
                .await?
                .error(405, "UNSUPPORTED")
                .with("allow", allow);
        }
        let odd = Request::new(Method::from_bytes(b"BREW").unwrap(), &path);
        run.ask(odd).await?.error(405, "UNSUPPORTED");
    }
    Ok(())
}

/// Clients tell a registry by this from a proxy's page, or from the API's first version.
async fn every_answer_of_the_api_says_that_it_is_a_registry(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let digest = run.blob("blob", 10).digest;
    for (method, target, status) in [
        (Method::GET, "/v2/".to_owned(), 200),
        (Method::HEAD, "/v2".to_owned(), 200),
        (Method::GET, "/v2/nothing".to_owned(), 404),
        (Method::GET, "/v2/BAD/tags/list".to_owned(), 400),
        (Method::PUT, format!("/v2/{repository}/tags/list"), 405),
        (Method::GET, format!("/v2/{repository}/blobs/{digest}"), 404),
        (Method::HEAD, format!("/v2/{repository}/manifests/{digest}"), 404),
        (Method::POST, format!("/v2/{repository}/blobs/uploads/"), 202),
        (Method::DELETE, format!("/v2/{repository}/blobs/{digest}"), 404),
    ] {
        run.ask(Request::new(method, target))
            .await?
            .expect(status)
            .with("docker-distribution-api-version", "registry/2.0");
    }
    // What it lists depends on who else is at work.
    let catalogue = run.quietly().get("/v2/_catalog".to_owned()).await?;
    catalogue
        .expect(200)
        .with("docker-distribution-api-version", "registry/2.0");
    for target in ["/", "/nothing", "/livez", "/v20/"] {
        let answer = run.quietly().get(target.to_owned()).await?;
        answer.lacks("docker-distribution-api-version");
    }
    Ok(())
}

async fn every_answer_names_its_request_and_says_what_took_time(run: Run) -> Outcome {
    let repository = run.repository("repo");
    let digest = run.blob("blob", 10).digest;
    for target in [
        "/v2/".to_owned(),
        "/v2/_catalog?n=0".to_owned(),
        "/nothing".to_owned(),
        format!("/v2/{repository}/tags/list"),
        format!("/v2/{repository}/blobs/{digest}"),
        format!("/v2/{repository}/blobs/nonsense"),
        "/v2/BAD/tags/list".to_owned(),
    ] {
        let own = run.get(target.clone()).await?.must("x-request-id");
        assert!(own.len() >= 16, "{own}");
        let given = Request::get(&target).header("x-request-id", "the-clients.own_1");
        run.ask(given).await?.with("x-request-id", "the-clients.own_1");
        for bad in ["a,b", "with space", &"x".repeat(129)] {
            let answer = run.ask(Request::get(&target).header("x-request-id", bad)).await?;
            assert_ne!(answer.must("x-request-id"), bad);
        }
        let timing = run.get(target).await?.must("server-timing");
        for metric in timing.split(',') {
            let (name, duration) = metric
                .trim()
                .split_once(";dur=")
                .unwrap_or_else(|| panic!("{timing}"));
            assert!(["front", "hop", "owner", "store"].contains(&name), "{timing}");
            assert!(duration.parse::<f64>().is_ok(), "{timing}");
        }
    }
    Ok(())
}

api_tests![
    a_name_outside_the_grammar_is_refused_everywhere,
    a_name_may_be_long_and_deep_and_look_like_an_endpoint,
    a_path_that_is_no_endpoint_is_not_found,
    a_method_that_does_not_fit_is_told_which_do,
    every_answer_names_its_request_and_says_what_took_time,
    every_answer_of_the_api_says_that_it_is_a_registry,
];
