//! Bodies of responses: complete, or the client's connection is aborted.

use std::time::Duration;

use bytes::Bytes;
use http::{StatusCode, header};
use http_body_util::BodyExt as _;
use tokio::time::Instant;

use super::{fake::*, harness::*, toy::*};
use crate::{admission::BodyError, mesh::pb};

const RESUMED: &str = "portolan_resumed_pulls_total";

/// What a client gets when the owner answers a request that isn't a pull of a blob with `answers`.
async fn tags(answers: Vec<Result<pb::Response, tonic::Status>>) -> Result<Bytes, BodyError> {
    let (cluster, _fake) = Cluster::with_fake(
        move |mut requests| {
            let answers = answers.clone();
            Box::pin(async_stream(async move |sender| {
                while requests.message().await.unwrap().is_some() {}
                for answer in answers {
                    sender.send(answer).await.unwrap();
                }
            }))
        },
        settings(),
    )
    .await;
    let target = format!("/v2/{}/tags/list", cluster.repository(&[2]));
    let response = call(
        cluster.at(1),
        request(http::Method::GET, &target, crate::admission::empty()),
    )
    .await;
    assert_eq!(cluster.at(1).toy.calls(), 0, "it wasn't served by the front");
    response
        .into_body()
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_ends_with_end_and_the_right_count_or_it_failed() {
    let abort = frame(pb::response::Kind::Abort(pb::Abort {
        reason: "the disk burns".to_owned(),
        is_final: false,
    }));
    let unknown = Ok(pb::Response::default());
    let good = tags(vec![
        accepted(),
        head(None),
        data("abc"),
        data(""),
        data("def"),
        end(6),
    ])
    .await;
    assert_eq!(good.unwrap(), "abcdef");
    assert_eq!(
        tags(vec![accepted(), head(Some(3)), data("abc"), end(3)])
            .await
            .unwrap(),
        "abc"
    );
    assert_eq!(tags(vec![accepted(), head(Some(0)), end(0)]).await.unwrap(), "");

    for (answers, reason) in [
        (vec![head(None), data("abc")], "not the end of the stream"),
        (vec![head(Some(3)), data("abc")], "not the end of the stream"),
        (vec![head(None), data("abc"), end(4)], "3 bytes of 4"),
        (vec![head(None), data("abc"), end(2)], "the end says 2"),
        (vec![head(Some(4)), data("abc"), end(3)], "3 bytes of 4"),
        (
            vec![head(Some(2)), data("abc"), end(3)],
            "more bytes than announced",
        ),
        (vec![head(None), data("abc"), abort], "aborted: the disk burns"),
        (
            vec![head(None), data("abc"), unknown],
            "a frame of an unknown kind",
        ),
        (vec![head(None), data("abc"), accepted()], "not accepted"),
        (
            vec![head(None), data("abc"), Err(tonic::Status::internal("no"))],
            "not the end of the stream",
        ),
        (
            vec![head(None), data(vec![0; 300_000]), end(300_000)],
            "is larger than",
        ),
    ] {
        let mut script = vec![accepted()];
        script.extend(answers);
        let Err(BodyError::Peer { peer, reason: found }) = tags(script).await else {
            panic!("{reason}: it didn't fail");
        };
        assert_eq!(peer, id(2));
        assert!(found.contains(reason), "{found}, not {reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_whose_owner_breaks_off_is_finished_exactly() {
    let cluster = cluster(2).await;
    let repository = cluster.repository(&[2]);
    let length = 1_234_567;
    for n in 1..=2 {
        cluster.at(n).toy.behaviour.lock().length = length;
    }
    let mut resumed = 0;
    for fail_after in [0, 100_000, 300_000, length] {
        cluster.at(2).toy.behaviour.lock().fail_after = Some(fail_after);
        let response = call(cluster.at(1), get(&repository)).await;
        assert_eq!(response.status(), StatusCode::OK);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(body == bytes(0, length - 1), "{fail_after}");
        resumed += 1;
        assert_eq!(cluster.counter(1, RESUMED), resumed);
        let seen = cluster.at(1).toy.last();
        let first = seen.headers[header::RANGE].to_str().unwrap().to_owned();
        assert!(first.ends_with(&format!("-{}", length - 1)), "{first}");
    }
    // A range, too.
    cluster.at(2).toy.behaviour.lock().fail_after = Some(200_000);
    let mut asked = get(&repository);
    asked
        .request
        .headers_mut()
        .insert(header::RANGE, "bytes=1000-900999".parse().unwrap());
    let response = call(cluster.at(1), asked).await;
    assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT);
    assert!(response.into_body().collect().await.unwrap().to_bytes() == bytes(1000, 900_999));
    let broken = r#"portolan_forwards_total{peer="127.0.0.2:5000",outcome="broken"}"#;
    assert_eq!(
        (cluster.counter(1, RESUMED), cluster.counter(1, broken)),
        (resumed + 1, resumed + 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn several_parts_whose_owner_breaks_off_are_finished_exactly_or_not_at_all() {
    let cluster = cluster(2).await;
    let repository = cluster.repository(&[2]);
    let length = 1_234_567;
    let asked = || {
        let mut asked = get(&repository);
        let headers = asked.request.headers_mut();
        headers.insert(header::RANGE, "bytes=5-,0-1".parse().unwrap());
        headers.insert(header::IF_RANGE, "\"x\"".parse().unwrap());
        asked
    };
    let reset = || {
        for n in 1..=2 {
            *cluster.at(n).toy.behaviour.lock() = Behaviour {
                length,
                ..Behaviour::default()
            };
        }
    };
    for fail_after in [0, 100_000, 300_000, length] {
        reset();
        cluster.at(2).toy.behaviour.lock().fail_after = Some(fail_after);
        let response = call(cluster.at(1), asked()).await;
        assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(body == bytes(0, length - 1), "{fail_after}");
        let seen = cluster.at(1).toy.last();
        assert_eq!(seen.headers[header::RANGE], "bytes=5-,0-1");
        assert!(!seen.headers.contains_key(header::IF_RANGE));
    }
    assert_eq!(cluster.counter(1, RESUMED), 4);
    for change in [
        |toy: &mut Behaviour| toy.lies = true,
        |toy: &mut Behaviour| toy.length += 1,
        |toy: &mut Behaviour| toy.cuts_otherwise = true,
    ] {
        reset();
        cluster.at(2).toy.behaviour.lock().fail_after = Some(400_000);
        change(&mut cluster.at(1).toy.behaviour.lock());
        let response = call(cluster.at(1), asked()).await;
        assert!(response.into_body().collect().await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_whose_owner_is_killed_is_finished_exactly() {
    let cluster = cluster(2).await;
    let repository = cluster.repository(&[2]);
    let length = 20_000_000;
    for n in 1..=2 {
        cluster.at(n).toy.behaviour.lock().length = length;
    }
    let mut body = call(cluster.at(1), get(&repository)).await.into_body();
    let mut received = body.frame().await.unwrap().unwrap().into_data().unwrap().to_vec();
    cluster.kill(2).await;
    received.extend(body.collect().await.unwrap().to_bytes());
    assert!(received == bytes(0, length - 1));
    assert_eq!(cluster.counter(1, RESUMED), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_is_not_finished_with_other_bytes() {
    let cluster = cluster(2).await;
    let repository = cluster.repository(&[2]);
    for change in [
        |toy: &mut Behaviour| toy.lies = true,
        |toy: &mut Behaviour| toy.length += 1,
        // It fails a second time: one attempt is all there is.
        |toy: &mut Behaviour| toy.fail_after = Some(100_000),
    ] {
        for n in 1..=2 {
            let mut toy = cluster.at(n).toy.behaviour.lock();
            *toy = Behaviour {
                length: 800_000,
                ..Behaviour::default()
            };
        }
        cluster.at(2).toy.behaviour.lock().fail_after = Some(400_000);
        change(&mut cluster.at(1).toy.behaviour.lock());
        let response = call(cluster.at(1), get(&repository)).await;
        assert!(response.into_body().collect().await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_stands_still_is_finished_by_the_front() {
    let mut settings = settings();
    settings.net.stall = Duration::from_millis(300);
    let cluster = cluster_with(2, settings).await;
    let repository = cluster.repository(&[2]);
    for n in 1..=2 {
        cluster.at(n).toy.behaviour.lock().length = 2_000_000;
    }
    cluster.at(2).toy.behaviour.lock().hang_after = Some(1_000_000);
    let body = call(cluster.at(1), get(&repository))
        .await
        .into_body()
        .collect()
        .await;
    assert!(body.unwrap().to_bytes() == bytes(0, 1_999_999));
    assert_eq!(cluster.counter(1, RESUMED), 1);
    eventually("the owner gave the stream up", || {
        *cluster.at(2).toy.ended.lock() == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_ends_the_owners_work() {
    let cluster = cluster(2).await;
    let repository = cluster.repository(&[2]);
    cluster.at(2).toy.behaviour.lock().length = 1 << 40;
    let mut body = call(cluster.at(1), get(&repository)).await.into_body();
    body.frame().await.unwrap().unwrap();
    assert_eq!(
        (
            cluster.at(1).mesh.in_flight.len(),
            cluster.at(2).mesh.in_flight.len()
        ),
        (1, 1)
    );
    drop(body);
    eventually("the owner's body is dropped", || {
        *cluster.at(2).toy.ended.lock() == 1
    })
    .await;
    eventually("nothing is in flight", || {
        cluster.at(1).mesh.in_flight.len() == 0 && cluster.at(2).mesh.in_flight.len() == 0
    })
    .await;

    // Before the head, too.
    cluster.at(2).toy.behaviour.lock().is_mute = true;
    let calls = cluster.at(2).toy.calls();
    let abandoned = tokio::time::timeout(Duration::from_millis(200), call(cluster.at(1), get(&repository)));
    assert!(abandoned.await.is_err());
    assert_eq!(cluster.at(2).toy.calls(), calls + 1);
    eventually("the replay ended", || cluster.at(2).mesh.in_flight.len() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_takes_nothing_is_given_up_by_the_owner() {
    let mut settings = settings();
    settings.net.stall = Duration::from_millis(500);
    let cluster = cluster_with(2, settings).await;
    let repository = cluster.repository(&[2]);
    for n in 1..=2 {
        cluster.at(n).toy.behaviour.lock().length = 30_000_000;
    }
    let mut body = call(cluster.at(1), get(&repository)).await.into_body();
    let mut received = body.frame().await.unwrap().unwrap().into_data().unwrap().to_vec();
    eventually("the owner gave it up", || *cluster.at(2).toy.ended.lock() == 1).await;
    let produced = *cluster.at(2).toy.produced.lock();
    assert!(
        produced < 6_000_000,
        "{produced} bytes were produced for a reader that took one piece"
    );
    // If the client reads on after all, it gets the rest.
    received.extend(body.collect().await.unwrap().to_bytes());
    assert!(received == bytes(0, 29_999_999));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_slows_the_owner_and_costs_bounded_memory() {
    let cluster = cluster(2).await;
    let repository = cluster.repository(&[2]);
    cluster.at(2).toy.behaviour.lock().length = 1 << 30;
    let mut body = call(cluster.at(1), get(&repository)).await.into_body();
    let mut read = 0;
    for _ in 0..10 {
        read += body.frame().await.unwrap().unwrap().into_data().unwrap().len() as u64;
        tokio::time::sleep(Duration::from_millis(30)).await;
        let ahead = *cluster.at(2).toy.produced.lock() - read;
        // A window, what gathers on both sides of a channel, HTTP/2's buffer, the socket's.
        assert!(ahead < 8 << 20, "{ahead} bytes ahead of the reader");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_streams_do_not_stall_the_others() {
    let mut settings = settings();
    settings.mesh.streams = 16;
    settings.mesh.stream_window = 256 * 1024;
    settings.mesh.connection_window = 16 * 256 * 1024;
    settings.mesh.lane_connections = 1;
    let cluster = cluster_with(2, settings).await;
    let repository = cluster.repository(&[2]);
    cluster.at(2).toy.behaviour.lock().length = 5_000_000;
    let mut stalled = vec![];
    for _ in 0..15 {
        let mut body = call(cluster.at(1), get(&repository)).await.into_body();
        body.frame().await.unwrap().unwrap();
        stalled.push(body);
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let began = Instant::now();
    let body = call(cluster.at(1), get(&repository))
        .await
        .into_body()
        .collect()
        .await
        .unwrap()
        .to_bytes();
    assert!(body == bytes(0, 4_999_999));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(cluster.at(1).toy.calls(), 0);
    // The bound is reached: the next one is served by the front at once, nobody waits for a stream.
    let sixteenth = call(cluster.at(1), get(&repository)).await;
    let _seventeenth = call(cluster.at(1), get(&repository)).await;
    assert_eq!(cluster.at(1).toy.calls(), 1);
    drop(sixteenth);
    for body in stalled {
        body.collect().await.unwrap();
    }
}
