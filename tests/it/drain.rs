//! How the program ends, and that two don't share their data.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use parking_lot::Mutex;
use tokio::{net::TcpStream, sync::mpsc, task::JoinSet};

use crate::support::{
    client::{Ask as _, Client, Request, octets},
    content::Blob,
    eventually,
    process::Dev,
};

/// A push whose body comes piece by piece, as it is sent.
fn push(repository: &str, blob: &Blob) -> (mpsc::Sender<Bytes>, Request) {
    let (sender, receiver) = mpsc::channel(1);
    let receiver = Arc::new(Mutex::new(Some(receiver)));
    let target = format!("/v2/{repository}/blobs/uploads/?digest={}", blob.digest);
    let request = octets(Request::post(target))
        .header("content-length", blob.len().to_string())
        .stream(move || {
            let pieces =
                tokio_stream::wrappers::ReceiverStream::new(receiver.lock().take().expect("sent once"));
            StreamBody::new(futures_util::StreamExt::map(pieces, |piece| {
                Ok(Frame::data(piece))
            }))
            .boxed_unsync()
        });
    (sender, request)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_flight_at_sigterm_is_finished() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Dev::new(folder.path()).start().await;
    let repository = process.names().owned_by(1, "drained");
    // More than fits into the buffers between here and there.
    let pulled = Blob::named("pulled", 64 << 20);
    let pushed = [Blob::named("pushed a", 3 << 20), Blob::named("pushed b", 3 << 20)];
    process
        .client(1)
        .push_blob(&repository, &pulled)
        .await
        .unwrap()
        .expect(201);

    // A pull and a push through the owner, and through another member.
    let mut pulls = Vec::new();
    let mut senders = Vec::new();
    let mut pushes = JoinSet::new();
    for (door, blob) in [1, 0].into_iter().zip(&pushed) {
        let request = Request::get(format!("/v2/{repository}/blobs/{}", pulled.digest));
        let mut body = process.client(door).open(&request).await.unwrap().into_body();
        body.frame().await.unwrap().unwrap();
        pulls.push((door, request, body));
        let (sender, request) = push(&repository, blob);
        let client = process.client(door);
        pushes.spawn(async move { client.ask(request).await });
        sender.send(blob.bytes.slice(..1000)).await.unwrap();
        sender.send(blob.bytes.slice(1000..2000)).await.unwrap();
        senders.push((sender, blob));
    }
    let idle = TcpStream::connect(process.doors[2]).await.unwrap();

    process.terminate().await;
    for door in process.doors.clone() {
        eventually("the member isn't ready any more", || async move {
            match Client::new(door, crate::support::client::Http::One)
                .ask(Request::get("/readyz"))
                .await
            {
                Ok(answer) => answer.status == 503,
                Err(_) => true,
            }
        })
        .await;
        eventually("no new connection is taken", || async move {
            TcpStream::connect(door).await.is_err()
        })
        .await;
    }
    assert!(
        process.is_running(),
        "it waits for what is in flight:\n{}",
        process.said()
    );

    for (sender, blob) in senders {
        // Slowly, so that it isn't over before the rest.
        for piece in blob.bytes.slice(2000..).chunks(1 << 20) {
            sender.send(blob.bytes.slice_ref(piece)).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    while let Some(answer) = pushes.join_next().await {
        answer.unwrap().unwrap().expect(201);
    }
    for (door, _, body) in pulls {
        // The first frame was read before.
        let rest = body
            .collect()
            .await
            .unwrap_or_else(|error| panic!("through member {door}: {error}"))
            .to_bytes();
        assert!(pulled.bytes.ends_with(&rest), "through member {door}");
        assert!(rest.len() > 60 << 20);
    }
    let status = process.ended().await;
    assert_eq!(status.code(), Some(0), "{}", process.said());
    drop(idle);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_mesh_ends_at_sigterm_and_keeps_its_data() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::new(folder.path());
    let blob = Blob::named("kept", 100_000);
    let mut process = dev.start().await;
    process
        .client(0)
        .push_blob("kept", &blob)
        .await
        .unwrap()
        .expect(201);
    process.terminate().await;
    assert_eq!(process.ended().await.code(), Some(0), "{}", process.said());

    let process = dev.start().await;
    let target = format!("/v2/kept/blobs/{}", blob.digest);
    process
        .client(2)
        .get(target)
        .await
        .unwrap()
        .expect(200)
        .with_body(&blob.bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_is_told_who_has_the_data() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::new(folder.path());
    let process = dev.start().await;
    let second = Dev {
        data: dev.data.clone(),
        ..Dev::new(folder.path())
    };
    let output = second.output().await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(said.contains(&process.pid().to_string()), "{said}");
    assert!(said.contains(&*dev.data.to_string_lossy()), "{said}");
    // And the first doesn't mind.
    process.client(0).get("/v2/".into()).await.unwrap().expect(200);
}
