//! Two chunks at once on one upload session, through different members, over S3 and DynamoDB.

use portolan::config::Limits;

use super::{dynamo_config, dynamo_delete, dynamo_server, proxied::mesh_over, s3_config, s3_server};
use crate::{races::Race, support::thorough};

/// Lengths of a chunk: one object, and two parts.
const SMALL: usize = 3000;
const LARGE: usize = (5 << 20) + 1234;

#[derive(Clone, Copy, Debug)]
enum Chunks {
    Same,
    Different,
}

async fn rounds(test: &str, chunks: Chunks, length: usize) {
    let tables = dynamo_config(&dynamo_server());
    let mesh = mesh_over(&tables, &s3_config(&s3_server()), &Limits::default(), |plan| plan).await;
    let mut race = Race::on(mesh, test);
    if length == LARGE {
        race = race.sparing();
    }
    let rounds = if thorough() { 200 } else { 40 };
    for round in 0..rounds {
        match chunks {
            Chunks::Same => race.one_chunk_twice(round, length).await,
            Chunks::Different => race.two_chunks(round, length).await,
        }
    }
    println!("{rounds} rounds of chunks of {length} bytes: {chunks:?}");
    race.end().await;
    dynamo_delete(&tables).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_small_chunk_sent_twice_is_taken_once() {
    rounds("one_small_chunk_sent_twice_is_taken_once", Chunks::Same, SMALL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_small_chunks_one_is_taken() {
    rounds("of_two_small_chunks_one_is_taken", Chunks::Different, SMALL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_chunk_of_parts_sent_twice_is_taken_once() {
    rounds("one_chunk_of_parts_sent_twice_is_taken_once", Chunks::Same, LARGE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_chunks_of_parts_one_is_taken() {
    rounds("of_two_chunks_of_parts_one_is_taken", Chunks::Different, LARGE).await;
}
