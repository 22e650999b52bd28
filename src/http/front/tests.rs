use std::{sync::Arc, time::Duration};

use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use tower::{ServiceExt as _, service_fn};

use super::*;
use crate::{
    admission::{self, Admitted, Served},
    auth::{Gate, GateSpec},
    config::Limits,
    events::Naming,
    net::{Drain, Supply},
    ownership::Incarnation,
    registry::{Holder, Settings, Stores, changes::Feed},
    storage::{MemoryBlobs, MemoryMeta},
};

fn member(n: u8) -> MemberId {
    format!("127.0.0.{n}:5000").parse().unwrap()
}

struct Fixture {
    front: Front,
    drain: Drain,
    metrics: Arc<Metrics>,
}

/// A front whose mesh is `answer`, and that has little patience when it has no room.
fn fixture<F, R>(requests: usize, answer: F) -> Fixture
where
    F: Fn(Admitted) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    fixture_with(requests, Duration::from_millis(20), answer)
}

fn fixture_with<F, R>(requests: usize, patience: Duration, answer: F) -> Fixture
where
    F: Fn(Admitted) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    let metrics = Arc::new(Metrics::new());
    let drain = Drain::new();
    let stores = Stores {
        meta: Arc::new(MemoryMeta::new()),
        blobs: Arc::new(MemoryBlobs::new()),
    };
    let mut limits = Limits::default();
    limits.front.patience = patience;
    let permits = Shares::new(Supply::of(requests));
    let mesh = Service::new(service_fn(move |admitted| {
        let answer = answer(admitted);
        async move { Ok(answer.await) }
    }));
    let view = Arc::new(crate::ownership::StaticView::new(member(1), []));
    let gate = Gate::new(GateSpec::default(), stores.meta.clone(), &limits);
    let gate = Arc::new(gate.unwrap());
    let holder = Holder {
        member: member(1),
        incarnation: Incarnation::random(),
    };
    let registry = Arc::new(Registry::new(stores.clone(), holder, Settings::default()));
    let parts = FrontParts {
        me: member(1),
        probes: Probes::new(view, drain.clone(), permits.clone(), stores.clone(), gate.clone()),
        gate,
        metrics: metrics.clone(),
        permits,
        limits,
        rate_limits: RateLimits::default(),
        external_url: None,
        extensions: None,
        page: None,
        events: Pages::new(Feed::new(registry.clone()), Naming::default(), 4),
        retention: RetentionParts {
            registry,
            policies: Retention::default(),
            step: Duration::ZERO,
        },
        mirror: None,
        replication: None,
        mesh,
    };
    Fixture {
        front: front(parts),
        drain,
        metrics,
    }
}

fn request(method: Method, target: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(target)
        .header(header::HOST, "registry")
}

impl Fixture {
    async fn ask(&self, request: http::request::Builder) -> Response<Body> {
        self.send(request.body(admission::empty()).unwrap()).await
    }

    async fn send(&self, request: Request<Body>) -> Response<Body> {
        let arrival = Arrival {
            request,
            client: "192.0.2.7:1234".parse().unwrap(),
            certificates: None,
            tls: None,
        };
        match self.front.clone().oneshot(arrival).await {
            Ok(response) => response,
        }
    }

    fn counts(&self, line: &str) -> bool {
        let text = self.metrics.render();
        text.lines().any(|found| found == line)
    }
}

async fn ok(_: Admitted) -> Response<Body> {
    Response::new(admission::full("hello".into()))
}

async fn text(response: Response<Body>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn every_response_names_its_request_and_says_where_the_time_went() {
    let front = fixture(1, ok);
    for (given, kept) in [
        (Some("abc-1"), true),
        (Some("a,b"), false),
        (Some(""), false),
        (None, false),
    ] {
        for target in ["/v2/", "/nowhere", "/livez", "/v2/a/manifests/x"] {
            let mut request = request(Method::GET, target);
            if let Some(id) = given {
                request = request.header("x-request-id", id);
            }
            let response = front.ask(request).await;
            let id = response.headers()["x-request-id"].to_str().unwrap();
            assert!(!id.is_empty());
            assert_eq!(Some(id) == given, kept, "{target}");
            let timing = response.headers()["server-timing"].to_str().unwrap();
            let names: Vec<_> = timing
                .split(", ")
                .map(|part| part.split(';').next().unwrap())
                .collect();
            assert_eq!(names, ["front", "hop", "owner", "store"]);
        }
    }
}

#[tokio::test]
async fn the_hop_is_what_the_mesh_took_beyond_the_owner() {
    async fn answer(forwarded_to: Option<MemberId>) -> Response<Body> {
        tokio::time::sleep(Duration::from_millis(30)).await;
        let mut response = Response::new(admission::empty());
        let owner = Duration::from_millis(10);
        response.extensions_mut().insert(Served {
            forwarded_to,
            owner,
            store: owner,
            upstream: Duration::ZERO,
        });
        response
    }
    let timing = |response: Response<Body>| -> Vec<f64> {
        let timing = response.headers()["server-timing"].to_str().unwrap().to_owned();
        timing
            .split(", ")
            .map(|part| part.rsplit('=').next().unwrap().parse().unwrap())
            .collect()
    };
    let local = timing(
        fixture(1, |_| answer(None))
            .ask(request(Method::GET, "/v2/"))
            .await,
    );
    assert_eq!((local[1], local[2], local[3]), (0.0, 10.0, 10.0));
    let forwarding = fixture(1, |_| answer(Some(member(2))));
    let forwarded = timing(forwarding.ask(request(Method::GET, "/v2/")).await);
    assert!(forwarded[1] >= 19.0 && forwarded[0] < 19.0, "{forwarded:?}");
}

#[tokio::test]
async fn what_is_no_route_is_refused_in_the_words_of_the_specification() {
    let front = fixture(1, ok);
    for (method, target, status, code) in [
        (Method::GET, "/", 404, "UNSUPPORTED"),
        (Method::GET, "/v2/A/tags/list", 400, "NAME_INVALID"),
        (Method::POST, "/v2/a/tags/list", 405, "UNSUPPORTED"),
        (Method::GET, "/v2/a/manifests/.x", 404, "MANIFEST_UNKNOWN"),
        (Method::PUT, "/v2/a/manifests/.x", 400, "TAG_INVALID"),
        (Method::GET, "/v2/a/blobs/sha256:x", 400, "DIGEST_INVALID"),
        (Method::GET, "/v2/a/tags/list?n=x", 400, "UNSUPPORTED"),
    ] {
        let response = front.ask(request(method, target)).await;
        assert_eq!(response.status(), status, "{target}");
        let is_405 = response.status() == StatusCode::METHOD_NOT_ALLOWED;
        assert_eq!(response.headers().contains_key(header::ALLOW), is_405);
        let body: serde_json::Value = serde_json::from_str(&text(response).await).unwrap();
        assert_eq!(body["errors"][0]["code"], code, "{target}");
    }
}

#[tokio::test]
async fn credentials_end_at_the_front_and_a_decision_goes_on() {
    let front = fixture(1, |admitted: Admitted| async move {
        let headers = admitted.request.headers();
        assert!(!headers.contains_key("authorization") && !headers.contains_key("cookie"));
        assert_eq!(headers["accept"], "x/y");
        assert!(admitted.is_covered());
        Response::new(admission::empty())
    });
    let request = request(Method::GET, "/v2/a/tags/list")
        .header("authorization", "Basic c2VjcmV0")
        .header("cookie", "a=b")
        .header("accept", "x/y");
    assert_eq!(front.ask(request).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_permit_lives_as_long_as_the_body() {
    let front = fixture(1, ok);
    let first = front.ask(request(Method::GET, "/v2/")).await;
    let refused = front.ask(request(Method::GET, "/v2/")).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(text(refused).await.contains("TOOMANYREQUESTS"));
    assert_eq!(
        front.ask(request(Method::GET, "/livez")).await.status(),
        StatusCode::OK
    );
    drop(first);
    assert_eq!(
        front.ask(request(Method::GET, "/v2/")).await.status(),
        StatusCode::OK
    );
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever() {
    let front = fixture(1, |_| std::future::pending());
    let late = front.ask(request(Method::GET, "/v2/a/tags/list")).await;
    assert_eq!(late.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(!text(late).await.contains("outcome"));
    let unknown = front
        .ask(request(Method::DELETE, "/v2/a/manifests/x").header("x-request-id", "me"))
        .await;
    assert_eq!(unknown.status(), StatusCode::SERVICE_UNAVAILABLE);
    let body = text(unknown).await;
    assert!(
        body.contains("outcome of this change is unknown") && body.contains("\"requestId\":\"me\""),
        "{body}"
    );
}

#[tokio::test]
async fn a_response_to_head_has_a_length_and_no_body() {
    let front = fixture(1, ok);
    let response = front.ask(request(Method::HEAD, "/v2/a/manifests/x")).await;
    assert_eq!(response.headers()[header::CONTENT_LENGTH], "5");
    assert_eq!(text(response).await, "");
}

#[tokio::test]
async fn an_empty_body_from_another_member_is_read_to_its_end() {
    let ended = Arc::new(Mutex::new(false));
    let seen = ended.clone();
    let front = fixture(1, move |_| {
        let ended = ended.clone();
        async move {
            let end = futures_util::stream::once(async move {
                tokio::task::yield_now().await;
                *ended.lock() = true;
                Ok(http_body::Frame::data(bytes::Bytes::new()))
            });
            let mut response = Response::new(http_body_util::StreamBody::new(end).boxed_unsync());
            response.headers_mut().insert(header::CONTENT_LENGTH, 0.into());
            response
        }
    });
    let response = front.ask(request(Method::DELETE, "/v2/a/manifests/x")).await;
    assert!(*seen.lock());
    assert!(http_body::Body::is_end_stream(response.body()));
    assert!(front.counts("portolan_requests_in_flight 0"));
}

#[tokio::test]
async fn a_panic_is_one_requests_failure() {
    let front = fixture(1, |_| async { panic!("on purpose") });
    for _ in 0..2 {
        let response = front.ask(request(Method::GET, "/v2/")).await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!text(response).await.contains("on purpose"));
    }
}

#[tokio::test]
async fn a_request_is_counted_when_its_body_has_ended() {
    let front = fixture(2, ok);
    let response = front.ask(request(Method::GET, "/v2/")).await;
    assert!(front.counts("portolan_requests_in_flight 1"));
    assert_eq!(text(response).await, "hello");
    assert!(front.counts("portolan_requests_in_flight 0"));
    assert!(front.counts("portolan_requests_total{route=\"api_version\",status=\"200\"} 1"));
    assert!(
        front.counts("portolan_request_body_bytes_total{direction=\"download\"} 5"),
        "{}",
        front.metrics.render()
    );
}

#[tokio::test]
async fn who_drains_is_alive_and_not_ready() {
    let front = fixture(1, ok);
    assert_eq!(
        front.ask(request(Method::GET, "/readyz")).await.status(),
        StatusCode::OK
    );
    front.drain.begin();
    let response = front.ask(request(Method::GET, "/readyz")).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(text(response).await, "not ready: shutting down\n");
    assert_eq!(
        front.ask(request(Method::GET, "/livez")).await.status(),
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_request_waits_for_room_before_it_is_refused() {
    let front = fixture_with(1, Duration::from_secs(20), ok);
    let first = front.ask(request(Method::GET, "/v2/")).await;
    let second = front.ask(request(Method::GET, "/v2/"));
    tokio::pin!(second);
    let waits = tokio::time::timeout(Duration::from_millis(100), second.as_mut()).await;
    assert!(waits.is_err());
    drop(first);
    assert_eq!(second.await.status(), StatusCode::OK);
}

#[tokio::test]
async fn who_finds_no_room_is_told_what_has_it_try_again() {
    let front = fixture(1, ok);
    let held = front.ask(request(Method::GET, "/v2/")).await;
    let session = format!("/v2/a/blobs/uploads/{}", crate::oci::UploadId::random());
    let (docker, skopeo) = (
        "docker/27.0.3 go/go1.21.11 git-commit/662f78c UpstreamClient(Docker-Client)",
        "skopeo/1.9.3",
    );
    let (crane, other) = ("crane/0.22.1 go-containerregistry/0.22.1", "containerd/2.4.2");
    for (method, target, asked) in [
        (Method::GET, "/v2/", 429),
        (Method::GET, "/v2/a/manifests/x", 429),
        (Method::HEAD, "/v2/a/manifests/x", 429),
        (Method::POST, "/v2/a/blobs/uploads/", 429),
        (Method::PATCH, &session, 503),
        (Method::PUT, "/v2/a/manifests/x", 503),
        (Method::DELETE, "/v2/a/manifests/x", 503),
    ] {
        for (agent, expected) in [(skopeo, asked), (other, asked), (docker, 503), (crane, 503)] {
            let refused = front
                .ask(request(method.clone(), target).header("user-agent", agent))
                .await;
            assert_eq!(refused.status(), expected, "{method} {target} {agent}");
            assert_eq!(refused.headers()["retry-after"], "1");
            assert!(
                !refused.headers().contains_key("portolan-outcome"),
                "nothing was done"
            );
            let code = if expected == 429 {
                "TOOMANYREQUESTS"
            } else {
                "UNAVAILABLE"
            };
            let text = text(refused).await;
            assert!(method == Method::HEAD || text.contains(code), "{text}");
        }
    }
    let response = front.ask(request(Method::GET, "/readyz")).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        text(response).await,
        "not ready: full: 1 requests are under way\n"
    );
    drop(held);
    assert_eq!(
        front.ask(request(Method::GET, "/readyz")).await.status(),
        StatusCode::OK
    );
}

#[tokio::test]
async fn another_members_refusal_for_want_of_room_is_told_in_the_clients_way() {
    async fn full(_: Admitted) -> Response<Body> {
        let mut response = Response::new(admission::empty());
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        response
    }
    let front = fixture(9, full);
    for (agent, status) in [("skopeo/1.9.3", 429), ("docker/20.10.24 go/go1.19.8", 503)] {
        let post = request(Method::POST, "/v2/a/blobs/uploads/").header("user-agent", agent);
        assert_eq!(front.ask(post).await.status(), status);
    }
}

/// A body of `length` bytes that begins with `begin` and then says nothing.
fn stuck(begin: &'static [u8], length: u64) -> Request<Body> {
    struct Stuck(Option<&'static [u8]>, u64);
    impl http_body::Body for Stuck {
        type Data = bytes::Bytes;
        type Error = crate::admission::BodyError;
        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
            match self.0.take().filter(|begin| !begin.is_empty()) {
                Some(begin) => std::task::Poll::Ready(Some(Ok(http_body::Frame::data(begin.into())))),
                None => std::task::Poll::Pending,
            }
        }
        fn size_hint(&self) -> http_body::SizeHint {
            http_body::SizeHint::with_exact(self.1)
        }
    }
    request(Method::POST, "/v2/a/blobs/uploads/")
        .body(Stuck(Some(begin), length).boxed_unsync())
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_has_sent_nothing_of_its_body_takes_no_permit_and_what_is_small_none_until_it_is_there() {
    async fn take(admitted: Admitted) -> Response<Body> {
        let _ = admitted.request.into_body().collect().await;
        Response::new(admission::empty())
    }
    for (begin, length, taken) in [
        (&b""[..], 1024, 0),
        (b"", 10 << 30, 0),
        (b"x", 1024, 0),
        (b"x", 10 << 30, 6),
    ] {
        let front = fixture(16, take);
        let stuck = (0..100).map(|_| front.send(stuck(begin, length)));
        let mut stuck = Box::pin(futures_util::future::join_all(stuck));
        let over = tokio::time::timeout(Duration::from_secs(1), stuck.as_mut()).await;
        assert!(over.is_err());
        let free = (0..16).map(|_| async {
            let response = front.ask(request(Method::GET, "/v2/")).await;
            (response.status() == StatusCode::OK).then_some(response)
        });
        // One client has at most what it leaves free: half.
        let answered = futures_util::future::join_all(free).await;
        assert_eq!(
            answered.iter().flatten().count(),
            8 - taken,
            "{begin:?} of {length}"
        );
    }
}
