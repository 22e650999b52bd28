//! Peers that don't keep to the protocol: nothing they send may pass for a whole request.

use std::time::Duration;

use http::StatusCode;
use http_body::Frame;
use http_body_util::StreamBody;
use tokio_stream::StreamExt as _;
use tonic::Code;

use super::{fake::*, harness::*};
use crate::{
    admission::{Body, BodyError, Served},
    mesh::{
        frames::{Asked, request_head},
        pb::{self, mesh_client::MeshClient, request::Kind},
    },
    ownership::Reachability,
};

type Requests = Vec<pb::Request>;

fn sent(kind: Kind) -> pb::Request {
    pb::Request { kind: Some(kind) }
}

fn piece(text: &'static str) -> pb::Request {
    sent(Kind::Data(text.into()))
}

fn finish(bytes: u64) -> pb::Request {
    sent(Kind::End(pb::End { bytes }))
}

/// The head of a push that member 1 forwards to member 2.
fn push_head(cluster: &Cluster) -> pb::RequestHead {
    let repository = cluster.repository(&[2]);
    let (asked, _) = Asked::split(push(&repository, crate::admission::empty()));
    request_head(&asked, &id(1), &id(2), Reachability::Unknown)
}

/// Sends `requests` to member 2 as member 1, and leaves the stream open or not. Gives the kinds of the answers, or the
/// status.
async fn exchange(
    cluster: &Cluster,
    requests: Requests,
    stays_open: bool,
) -> Result<Vec<&'static str>, tonic::Status> {
    use crate::mesh::frames::Kind as _;
    let channel = cluster.dial(2, &["127.0.0.1"]).await.unwrap();
    let stream = futures_util::stream::iter(requests);
    let rest = futures_util::stream::poll_fn(move |_| {
        if stays_open {
            std::task::Poll::Pending
        } else {
            std::task::Poll::Ready(None)
        }
    });
    let stream = futures_util::StreamExt::chain(stream, rest);
    let mut answers = MeshClient::new(channel).forward(stream).await?.into_inner();
    let mut kinds = vec![];
    while let Some(answer) = answers.message().await? {
        kinds.push(answer.kind());
    }
    Ok(kinds)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordinary_grpc_client_is_understood() {
    let cluster = cluster(2).await;
    let head = push_head(&cluster);
    let requests = vec![
        sent(Kind::Head(head)),
        piece("abc"),
        piece(""),
        piece("def"),
        finish(6),
    ];
    let kinds = exchange(&cluster, requests, false).await.unwrap();
    assert_eq!(kinds, ["accepted", "head", "data", "end"]);
    assert_eq!(cluster.at(2).toy.last().body.unwrap(), "abcdef");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_says_what_it_may_not_is_refused_before_anything_happens() {
    let cluster = cluster(2).await;
    let good = push_head(&cluster);
    let broken = |change: fn(&mut pb::RequestHead)| {
        let mut head = good.clone();
        change(&mut head);
        head
    };
    let header = |name: &str, value: &'static [u8]| pb::Header {
        name: name.to_owned(),
        value: value.into(),
    };
    let mut with_cookie = good.clone();
    with_cookie.headers.push(header("cookie", b"a=b"));
    let mut with_upper_case = good.clone();
    with_upper_case.headers.push(header("Accept", b"a"));
    let mut with_line_break = good.clone();
    with_line_break.headers.push(header("accept", b"a\r\nb: c"));
    for (head, code, what) in [
        (
            broken(|head| head.sender = id(2).to_string()),
            Code::PermissionDenied,
            "not 127.0.0.2:5000's",
        ),
        (
            broken(|head| head.sender = "127.0.0.1:5001".to_owned()),
            Code::PermissionDenied,
            "certificate",
        ),
        (
            broken(|head| head.sender = "nonsense".to_owned()),
            Code::InvalidArgument,
            "sender",
        ),
        (
            broken(|head| head.recipient = id(3).to_string()),
            Code::FailedPrecondition,
            "this is 127.0.0.2:5000",
        ),
        (
            broken(|head| head.grants.clear()),
            Code::PermissionDenied,
            "grants",
        ),
        (
            broken(|head| head.grants[0].repository = "other".to_owned()),
            Code::PermissionDenied,
            "grants",
        ),
        (
            broken(|head| head.grants[0].repository = "UPPER".to_owned()),
            Code::InvalidArgument,
            "grants",
        ),
        (
            broken(|head| head.grants[0].actions = vec![1]),
            Code::PermissionDenied,
            "grants",
        ),
        (
            broken(|head| head.grants[0].actions.push(0)),
            Code::InvalidArgument,
            "grants.actions",
        ),
        (
            broken(|head| head.grants[0].actions.push(77)),
            Code::InvalidArgument,
            "grants.actions",
        ),
        (
            broken(|head| head.protocol_min = 2),
            Code::FailedPrecondition,
            "versions 2 to 1",
        ),
        (
            broken(|head| (head.protocol_min, head.protocol_max) = (2, 3)),
            Code::FailedPrecondition,
            "versions 2 to 3",
        ),
        (
            broken(|head| head.method = "P OST".to_owned()),
            Code::InvalidArgument,
            "method",
        ),
        (
            broken(|head| head.target = "/v2/a".to_owned()),
            Code::InvalidArgument,
            "target",
        ),
        (
            broken(|head| head.target = "http://a/v2/".to_owned()),
            Code::InvalidArgument,
            "target",
        ),
        (
            broken(|head| head.scheme = "gopher".to_owned()),
            Code::InvalidArgument,
            "scheme",
        ),
        (
            broken(|head| head.identity = None),
            Code::InvalidArgument,
            "identity",
        ),
        (
            broken(|head| head.request_id = "a b".to_owned()),
            Code::InvalidArgument,
            "request_id",
        ),
        (
            broken(|head| head.client_address = "a\nb".to_owned()),
            Code::InvalidArgument,
            "client_address",
        ),
        (
            broken(|head| head.traceparent = "x\n".to_owned()),
            Code::InvalidArgument,
            "traceparent",
        ),
        (with_cookie, Code::InvalidArgument, "headers.name"),
        (with_upper_case, Code::InvalidArgument, "headers.name"),
        (with_line_break, Code::InvalidArgument, "headers.value"),
        (
            broken(|head| head.target = format!("/{}", "x".repeat(200_000))),
            Code::InvalidArgument,
            "larger",
        ),
    ] {
        let requests = vec![sent(Kind::Head(head)), piece("abc"), finish(3)];
        let status = exchange(&cluster, requests, false).await.expect_err(what);
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(what), "{status}, not {what}");
    }
    assert_eq!(cluster.at(2).toy.calls(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_out_of_order_are_refused() {
    let cluster = cluster(2).await;
    for requests in [
        vec![],
        vec![piece("abc")],
        vec![finish(0)],
        vec![pb::Request::default()],
    ] {
        let status = exchange(&cluster, requests, false).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    }
    let head = || sent(Kind::Head(push_head(&cluster)));
    // Nothing that could be a go: the local service isn't called.
    for requests in [
        vec![head()],
        vec![head(), head()],
        vec![head(), pb::Request::default()],
        vec![head(), finish(1)],
    ] {
        assert_eq!(exchange(&cluster, requests, false).await.unwrap(), ["accepted"]);
    }
    assert_eq!(cluster.at(2).toy.calls(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_cut_short_never_looks_like_a_shorter_one() {
    let cluster = cluster(2).await;
    let head = || sent(Kind::Head(push_head(&cluster)));
    let mut known = push_head(&cluster);
    known.headers.push(pb::Header {
        name: "content-length".to_owned(),
        value: "6".into(),
    });
    let known = || sent(Kind::Head(known.clone()));
    for (requests, fault) in [
        (
            vec![head(), piece("abc")],
            "the stream from member 127.0.0.1:5000 failed",
        ),
        (
            vec![head(), piece("abc"), finish(4)],
            "3 bytes came where 4 were announced",
        ),
        (vec![head(), piece("abc"), finish(2)], "3 bytes came"),
        (
            vec![head(), piece("abc"), pb::Request::default()],
            "a frame of an unknown kind",
        ),
        (vec![head(), piece("abc"), head()], "not head"),
        (
            vec![head(), piece("abc"), finish(3), piece("d")],
            "a frame after the last one",
        ),
        (vec![known(), piece("abcdef")], "the stream from member"),
        (
            vec![known(), piece("abc"), finish(3)],
            "3 bytes came where 6 were announced",
        ),
        (
            vec![known(), piece("abcdef"), piece("g"), finish(7)],
            "7 bytes came where 6 were announced",
        ),
    ] {
        let kinds = exchange(&cluster, requests, false).await.unwrap();
        assert_eq!(kinds, ["accepted", "head", "data", "end"]);
        let found = cluster.at(2).toy.last().body.expect_err(fault);
        assert!(found.contains(fault), "{found}, not {fault}");
    }
    let exact = vec![known(), piece("abc"), piece("def"), finish(6)];
    exchange(&cluster, exact, false).await.unwrap();
    assert_eq!(cluster.at(2).toy.last().body.unwrap(), "abcdef");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_front_that_stands_still_is_given_up() {
    let mut settings = settings();
    settings.net.stall = Duration::from_millis(300);
    let cluster = cluster_with(2, settings).await;
    let head = sent(Kind::Head(push_head(&cluster)));
    // Before go: nothing happened.
    let kinds = exchange(&cluster, vec![head.clone()], true).await.unwrap();
    assert_eq!(kinds, ["accepted"]);
    assert_eq!(cluster.at(2).toy.calls(), 0);
    // After it: the upload fails.
    exchange(&cluster, vec![head, piece("abc")], true).await.unwrap();
    assert_eq!(cluster.at(2).toy.last().body.unwrap_err(), "no progress for 0 s");
    assert_eq!(cluster.at(2).mesh.in_flight.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_upload_breaks_leaves_no_shorter_one() {
    let cluster = cluster(2).await;
    let repository = cluster.repository(&[2]);
    let pieces = tokio_stream::iter([Ok("abc".into()), Err(BodyError::Client("reset".into()))]);
    let slow = pieces.throttle(Duration::from_millis(200));
    let body = Body::new(StreamBody::new(slow.map(|piece| piece.map(Frame::data))));
    let response = call(cluster.at(1), push(&repository, body)).await;
    // Whatever the client would be told: it is gone, and the owner saw a failure.
    assert!(!response.status().is_success());
    assert!(cluster.at(2).toy.last().body.is_err());
    assert_eq!(cluster.at(1).toy.calls(), 0, "it isn't sent twice");
    eventually("nothing is in flight", || cluster.at(2).mesh.in_flight.len() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_answers_nonsense_is_passed_over() {
    let holder = || pb::NotOwner {
        holder: "nonsense".to_owned(),
    };
    for answers in [
        vec![],
        vec![Ok(pb::Response::default())],
        vec![data("abc")],
        vec![Err(tonic::Status::permission_denied("no"))],
        vec![frame(pb::response::Kind::NotOwner(holder()))],
        // Itself, someone who doesn't exist, the front: none of them leads anywhere.
        vec![frame(pb::response::Kind::NotOwner(pb::NotOwner {
            holder: id(2).to_string(),
        }))],
        vec![frame(pb::response::Kind::NotOwner(pb::NotOwner {
            holder: id(9).to_string(),
        }))],
        vec![frame(pb::response::Kind::NotOwner(pb::NotOwner {
            holder: id(1).to_string(),
        }))],
        vec![frame(pb::response::Kind::Busy(pb::Busy::default()))],
    ] {
        let mut settings = settings();
        settings.mesh.hold = Duration::from_millis(300);
        let (cluster, _fake) = Cluster::with_fake(
            move |_| Box::pin(futures_util::stream::iter(answers.clone())),
            settings,
        )
        .await;
        let repository = cluster.repository(&[2]);
        let response = call(
            cluster.at(1),
            put_manifest(&repository, pieces(vec![Ok("{}".into())])),
        )
        .await;
        assert_eq!(response.status(), StatusCode::CREATED);
        assert_eq!(response.extensions().get::<Served>().unwrap().forwarded_to, None);
        assert_eq!(cluster.at(1).toy.last().body.unwrap(), "{}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_head_that_cannot_be_is_not_passed_on() {
    for change in [
        |head: &mut pb::ResponseHead| head.status = 100,
        |head: &mut pb::ResponseHead| head.status = 70_000,
        |head: &mut pb::ResponseHead| {
            head.headers.push(pb::Header {
                name: "set-cookie".to_owned(),
                value: "a=b".into(),
            });
        },
        |head: &mut pb::ResponseHead| {
            head.blob = Some(pb::BlobSource {
                digest: "sha256:x".to_owned(),
                ..Default::default()
            });
        },
    ] {
        let mut head = pb::ResponseHead {
            status: 200,
            ..Default::default()
        };
        change(&mut head);
        let answers = vec![accepted(), frame(pb::response::Kind::Head(head)), end(0)];
        let (cluster, _fake) = Cluster::with_fake(
            move |_| Box::pin(futures_util::stream::iter(answers.clone())),
            settings(),
        )
        .await;
        let repository = cluster.repository(&[2]);
        let response = call(cluster.at(1), get(&repository)).await;
        assert_eq!(response.extensions().get::<Served>().unwrap().forwarded_to, None);
        assert_eq!(cluster.at(1).toy.calls(), 1);
    }
}
