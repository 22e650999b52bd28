//! Which member serves a request, and what the client gets when that fails.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, StatusCode, header};
use http_body_util::{BodyExt as _, StreamBody};
use tokio::time::Instant;
use tokio_stream::StreamExt as _;

use super::{fake::*, harness::*, toy::*};
use crate::{
    admission::{Body, BodyError, Failure, Served, Visible, empty, full},
    mesh::Forwarding,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_served_by_its_owner_wherever_it_arrives() {
    let cluster = cluster(3).await;
    let repository = cluster.repository(&[2]);
    cluster.at(2).toy.behaviour.lock().length = 3_000_000;

    let mut asked = get(&repository);
    let headers = asked.request.headers_mut();
    headers.insert(header::ACCEPT, "a/b".parse().unwrap());
    headers.append(header::ACCEPT, "c/d".parse().unwrap());
    headers.insert("x-odd", http::HeaderValue::from_bytes(b"\xff\xfe").unwrap());
    headers.insert("traceparent", "00-1-2-01".parse().unwrap());
    for name in ["authorization", "cookie", "proxy-authorization", "x-hop", "te"] {
        headers.insert(name, "secret".parse().unwrap());
    }
    headers.insert(header::CONNECTION, "close, X-Hop".parse().unwrap());
    asked.grants.show(Visible::Everything);
    let grants = asked.grants.clone();
    let response = call(cluster.at(1), asked).await;

    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[header::CONTENT_LENGTH], "3000000");
    let served = response.extensions().get::<Served>().unwrap();
    assert_eq!(served.forwarded_to, Some(id(2)));
    assert_eq!(
        (served.owner, served.store),
        (Duration::from_millis(3), Duration::from_millis(2))
    );
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(body == bytes(0, 2_999_999));

    let seen = cluster.at(2).toy.last();
    assert_eq!(seen.identity.user.as_deref(), Some("alice"));
    assert!(seen.grants.iter().eq(grants.iter()));
    assert!(seen.grants.visible().is_everything());
    assert_eq!(seen.request_id.as_str(), "request-1");
    assert_eq!(seen.headers.get_all(header::ACCEPT).iter().count(), 2);
    assert_eq!(seen.headers["x-odd"].as_bytes(), b"\xff\xfe");
    assert_eq!(seen.headers["traceparent"], "00-1-2-01");
    let mut names: Vec<_> = seen.headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["accept", "traceparent", "x-odd"]);
    assert_eq!(cluster.at(1).toy.calls(), 0);
    assert_eq!(
        cluster.counter(
            1,
            r#"portolan_forwards_total{peer="127.0.0.2:5000",outcome="answered"}"#
        ),
        1
    );
    eventually("the replay is counted", || {
        cluster.counter(
            2,
            r#"portolan_replays_total{peer="127.0.0.1:5000",outcome="answered"}"#,
        ) == 1
    })
    .await;
    eventually("nothing is in flight", || {
        cluster.at(1).mesh.in_flight.len() == 0 && cluster.at(2).mesh.in_flight.len() == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_no_owner_is_served_where_it_arrives() {
    let cluster = cluster(2).await;
    let api = request(Method::GET, "/v2/", empty());
    assert_eq!(cluster.at(1).mesh.place(&api.route), Forwarding::Local);
    call(cluster.at(1), api).await;
    assert_eq!(cluster.at(1).toy.calls(), 1);
    let mine = cluster.repository(&[1]);
    call(cluster.at(1), get(&mine)).await;
    call(cluster.at(1), put_manifest(&mine, full("{}".into()))).await;
    assert_eq!((cluster.at(1).toy.calls(), cluster.at(2).toy.calls()), (3, 0));

    let alone = super::harness::cluster(1).await;
    let anything = alone.repository(&[]);
    assert_eq!(
        alone.at(1).mesh.place(&put_manifest(&anything, empty()).route),
        Forwarding::Local
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_arrives_exact_whatever_its_length() {
    let cluster = cluster(2).await;
    let repository = cluster.repository(&[2]);
    for length in [0u64, 1, 5_000, 70_000, 262_144, 2_000_001] {
        let content = if length == 0 {
            Bytes::new()
        } else {
            bytes(0, length - 1)
        };
        let mut known = push(&repository, full(content.clone()));
        known
            .request
            .headers_mut()
            .insert(header::CONTENT_LENGTH, length.into());
        let unknown = pieces(
            content
                .chunks(70_000)
                .map(|piece| Ok(Bytes::copy_from_slice(piece)))
                .collect(),
        );
        for asked in [known, push(&repository, unknown)] {
            let response = call(cluster.at(1), asked).await;
            assert_eq!(response.status(), StatusCode::CREATED);
            let text = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(text, format!("{length} bytes"));
            assert!(cluster.at(2).toy.last().body.unwrap() == content);
        }
    }
    assert_eq!(cluster.at(1).toy.calls(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_response_keeps_the_length_of_the_body_it_doesnt_have() {
    let cluster = cluster(2).await;
    let repository = cluster.repository(&[2]);
    let target = format!("/v2/{repository}/blobs/{}", digest());
    let response = call(cluster.at(1), request(Method::HEAD, &target, empty())).await;
    assert_eq!(response.headers()[header::CONTENT_LENGTH], "1000");
    assert_eq!(
        cluster.at(1).mesh.in_flight.len(),
        0,
        "the stream was read to its end already"
    );
    assert!(
        response
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .is_empty()
    );
    assert_eq!(cluster.at(2).toy.last().method, Method::HEAD);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clients_body_is_not_touched_before_the_owner_accepts() {
    let is_accepted = Arc::new(AtomicBool::new(false));
    let accepting = is_accepted.clone();
    let (cluster, _fake) = Cluster::with_fake(
        move |mut requests| {
            let accepting = accepting.clone();
            Box::pin(async_stream(async move |answers| {
                requests.message().await.unwrap();
                tokio::time::sleep(Duration::from_millis(200)).await;
                accepting.store(true, Ordering::SeqCst);
                answers.send(accepted()).await.unwrap();
                while requests.message().await.unwrap().is_some() {}
                for answer in [head(Some(0)), end(0)] {
                    answers.send(answer).await.unwrap();
                }
            }))
        },
        settings(),
    )
    .await;
    let was_accepted = is_accepted.clone();
    let body = tokio_stream::once(()).map(move |()| {
        assert!(was_accepted.load(Ordering::SeqCst), "the body was read before");
        Ok::<_, BodyError>(http_body::Frame::data(Bytes::from_static(b"x")))
    });
    let repository = cluster.repository(&[2]);
    let response = call(cluster.at(1), push(&repository, Body::new(StreamBody::new(body)))).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(is_accepted.load(Ordering::SeqCst));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_down_is_passed_over_and_in_the_end_the_front_serves_itself() {
    let cluster = cluster(3).await;
    let repository = cluster.repository(&[2, 3, 1]);
    cluster.kill(2).await;
    let response = call(cluster.at(1), push(&repository, full("abc".into()))).await;
    assert_eq!(
        response.extensions().get::<Served>().unwrap().forwarded_to,
        Some(id(3))
    );
    assert_eq!(cluster.at(3).toy.last().body.unwrap(), "abc");
    assert!(!cluster.at(1).mesh.peers.reaches(&id(2)));
    assert!(cluster.at(1).mesh.peers.reaches(&id(3)));

    cluster.kill(3).await;
    for asked in [push(&repository, full("def".into())), get(&repository)] {
        let response = call(cluster.at(1), asked).await;
        assert_eq!(response.extensions().get::<Served>().unwrap().forwarded_to, None);
    }
    assert_eq!(cluster.at(1).toy.calls(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_named_holder_is_asked_and_remembered() {
    let cluster = cluster(3).await;
    let repository = cluster.repository(&[2, 3]);
    cluster.hold(&repository, 3).await;
    for _ in 0..2 {
        let response = call(cluster.at(1), put_manifest(&repository, full("{}".into()))).await;
        assert_eq!(
            response.extensions().get::<Served>().unwrap().forwarded_to,
            Some(id(3))
        );
    }
    assert_eq!(cluster.at(3).toy.calls(), 2);
    let refused = r#"portolan_forwards_total{peer="127.0.0.2:5000",outcome="not_owner"}"#;
    assert_eq!(
        cluster.counter(1, refused),
        1,
        "the second request went straight to the holder"
    );

    // The front itself is named as the holder.
    cluster.hold(&repository, 1).await;
    call(cluster.at(1), put_manifest(&repository, full("{}".into()))).await;
    assert_eq!(cluster.at(1).toy.calls(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_whose_holder_is_gone_is_taken_over() {
    let cluster = cluster(3).await;
    let repository = cluster.repository(&[2, 3, 1]);
    cluster.hold(&repository, 2).await;
    cluster.kill(2).await;
    let began = Instant::now();
    let response = call(cluster.at(1), delete(&repository)).await;
    assert_eq!(
        response.extensions().get::<Served>().unwrap().forwarded_to,
        Some(id(3))
    );
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_only_the_front_cant_reach_keeps_its_repository() {
    let cluster = cluster(3).await;
    let repository = cluster.repository(&[2, 3, 1]);
    cluster.hold(&repository, 2).await;
    cluster.at(1).mesh.peers.suspect(&id(2), "a test says so");
    let response = call(cluster.at(1), delete(&repository)).await;
    // 3 and 1 both defer to 2, which 3 reaches. Nobody is left, so the front serves it: right, if not in the right place.
    assert_eq!(response.extensions().get::<Served>().unwrap().forwarded_to, None);
    assert_eq!(cluster.at(3).toy.calls(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_owner_is_asked_again_until_the_hold_time_is_over() {
    let mut settings = settings();
    settings.mesh.replays = 0;
    settings.mesh.hold = Duration::from_secs(3);
    let busy = r#"portolan_forwards_total{peer="127.0.0.2:5000",outcome="busy"}"#;
    let cluster = cluster_with(2, settings).await;
    let repository = cluster.repository(&[2]);
    // A read doesn't wait: this member may serve it as well.
    call(cluster.at(1), get(&repository)).await;
    assert_eq!(cluster.counter(1, busy), 1);
    // A change waits for the holder.
    cluster.hold(&repository, 2).await;
    let response = call(cluster.at(1), delete(&repository)).await;
    assert_eq!(response.extensions().get::<Served>().unwrap().forwarded_to, None);
    assert_eq!(cluster.at(1).toy.calls(), 2);
    assert!(cluster.counter(1, busy) > 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_go_a_change_is_never_sent_twice_and_a_read_is() {
    let (cluster, fake) = Cluster::with_fake(
        |mut requests| {
            Box::pin(async_stream(async move |answers| {
                answers.send(accepted()).await.unwrap();
                while let Ok(Some(request)) = requests.message().await {
                    if matches!(request.kind, Some(crate::mesh::pb::request::Kind::End(_))) {
                        // And now it dies.
                        return;
                    }
                }
            }))
        },
        settings(),
    )
    .await;
    let repository = cluster.repository(&[2]);
    let response = call(cluster.at(1), push(&repository, full("abc".into()))).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        response.extensions().get::<Failure>(),
        Some(&Failure::OutcomeUnknown)
    );
    let response = call(cluster.at(1), delete(&repository)).await;
    assert_eq!(
        response.extensions().get::<Failure>(),
        Some(&Failure::OutcomeUnknown)
    );
    assert_eq!(cluster.at(1).toy.calls(), 0);

    let response = call(cluster.at(1), get(&repository)).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(cluster.at(1).toy.calls(), 1);
    drop(fake);
}

#[tokio::test(flavor = "multi_thread")]
async fn before_go_a_change_is_offered_elsewhere_with_its_body_untouched() {
    let (cluster, _fake) = Cluster::with_fake(|_| Box::pin(tokio_stream::empty()), settings()).await;
    let repository = cluster.repository(&[2]);
    let response = call(cluster.at(1), push(&repository, pieces(vec![Ok("abc".into())]))).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    assert_eq!(cluster.at(1).toy.last().body.unwrap(), "abc");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_doesnt_answer_is_passed_over_at_once_the_next_time() {
    let mut settings = settings();
    settings.mesh.accept = Duration::from_millis(300);
    let (cluster, _fake) = Cluster::with_fake(|_| Box::pin(tokio_stream::pending()), settings).await;
    let repository = cluster.repository(&[2]);
    for limit in [1000, 100] {
        let began = Instant::now();
        call(cluster.at(1), get(&repository)).await;
        assert!(
            began.elapsed() < Duration::from_millis(limit),
            "{:?}",
            began.elapsed()
        );
    }
    assert_eq!(cluster.at(1).toy.calls(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_nobody_waits_for_any_more_is_answered_with_a_failure() {
    let cluster = cluster(2).await;
    let repository = cluster.repository(&[2]);
    cluster.at(2).toy.behaviour.lock().is_mute = true;
    let mut asked = get(&repository);
    asked.deadline = Instant::now() + Duration::from_millis(300);
    let response = call(cluster.at(1), asked).await;
    assert_eq!(response.extensions().get::<Failure>(), Some(&Failure::HoldTimeUp));
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_lets_what_is_in_flight_finish_and_takes_nothing_new() {
    let cluster = cluster(2).await;
    let repository = cluster.repository(&[2]);
    cluster.at(2).toy.behaviour.lock().length = 8_000_000;
    let mut body = call(cluster.at(1), get(&repository)).await.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    let drain = cluster.at(2).drain.clone();
    let finished = tokio::task::spawn_blocking(move || {
        tokio::runtime::Handle::current().block_on(drain.finish(Duration::from_secs(10)))
    });
    eventually("the drain has begun", || cluster.at(2).drain.is_begun()).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    call(cluster.at(1), get(&repository)).await;
    assert_eq!(cluster.at(1).toy.calls(), 1, "the front serves it itself");
    let rest = body.collect().await.unwrap().to_bytes();
    assert_eq!(first.len() + rest.len(), 8_000_000);
    assert_eq!(finished.await.unwrap(), vec![]);
    assert_eq!(cluster.counter(1, "portolan_resumed_pulls_total"), 0);

    // The front's own connections don't hold it up either.
    assert_eq!(cluster.at(1).drain.finish(Duration::from_secs(10)).await, vec![]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_before_the_body_was_read_ends_the_upload() {
    struct Dropped(Arc<AtomicBool>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let cluster = cluster(2).await;
    let repository = cluster.repository(&[2]);
    cluster.at(2).toy.behaviour.lock().is_early = true;
    for _ in 0..5 {
        let is_dropped = Arc::new(AtomicBool::new(false));
        let guard = Dropped(is_dropped.clone());
        let endless = tokio_stream::StreamExt::map(tokio_stream::iter(0u64..), move |n| {
            let _guard = &guard;
            Ok::<_, BodyError>(http_body::Frame::data(bytes(n, n + 50_000)))
        });
        let response = call(
            cluster.at(1),
            push(&repository, Body::new(StreamBody::new(endless))),
        )
        .await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "no");
        eventually("the client's body is given back", || {
            is_dropped.load(Ordering::SeqCst)
        })
        .await;
    }
    assert_eq!(cluster.at(1).mesh.peers.state(&id(2)).connections, 1);
    assert_eq!(cluster.at(1).toy.calls(), 0);
}
