//! Runs a test through every member, and compares.

use std::pin::Pin;

use portolan::oci::Route;

use super::{
    Outcome,
    compare::{Exchange, Transcript, difference},
    run::{Mode, Names, Run},
};
use crate::support::{
    client::Http,
    content::Random,
    mesh::{Mesh, Plan},
};

/// A test of the API.
pub(crate) struct Test {
    pub(crate) name: &'static str,
    pub(crate) run: fn(Run) -> Pin<Box<dyn Future<Output = Outcome> + Send>>,
}

impl Test {
    /// The member that owns the test's repositories: not always the first.
    pub(crate) fn home(&self) -> usize {
        Random::named(self.name).below(3) as usize
    }
}

/// Runs `test` through the owner of its repositories and through both others, over both versions of HTTP, and asserts
/// that all runs heard the same and that what had to be forwarded was.
pub(crate) async fn through_every_member(test: &Test) {
    let mesh = Mesh::of_three().await;
    let home = test.home();
    let (next, last) = ((home + 1) % 3, (home + 2) % 3);
    let ways = [
        (home, Http::One),
        (next, Http::One),
        (last, Http::One),
        (home, Http::Two),
        (next, Http::Two),
    ];
    let mut first: Option<Vec<String>> = None;
    for (number, (door, http)) in ways.into_iter().enumerate() {
        let names = mesh.names();
        let run = Run::new(
            test.name,
            number,
            mesh.door(door),
            http,
            names.clone(),
            home,
            Mode::Strict,
        );
        let before = mesh.counts().await;
        let ran = (test.run)(run.clone()).await;
        assert!(ran.is_ok(), "nothing fails here: {ran:?}");
        let exchanges = run.exchanges();
        let after = mesh.counts().await;
        for owner in (0..3).filter(|owner| *owner != door) {
            let needed = exchanges
                .iter()
                .filter(|exchange| owned_by(exchange, &names) == Some(owner))
                .count();
            let forwarded = after.forwards[door][owner] - before.forwards[door][owner];
            let replayed = after.replays[owner][door] - before.replays[owner][door];
            assert!(
                forwarded >= needed as f64 && replayed >= needed as f64,
                "member {door} forwarded {forwarded} requests to {owner}, which replayed {replayed} of {needed}"
            );
        }
        let ours = Transcript::write(&run.repositories(), &exchanges);
        match &first {
            None => first = Some(ours),
            Some(first) => {
                if let Some(difference) = difference(first, &ours) {
                    panic!(
                        "member {home} (the owner) and {door} ({http:?}) answer differently:\n{difference}"
                    );
                }
            }
        }
    }
    mesh.stop().await;
}

/// The member that has to serve an exchange, if it isn't any.
fn owned_by(exchange: &Exchange, names: &Names) -> Option<usize> {
    let (path, query) = match exchange.target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (&*exchange.target, None),
    };
    let route = Route::parse(&exchange.method, path, query).ok()?;
    Some(names.owner(route.repository()?))
}

/// All tests once, over the stores of one machine: files and redb.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_is_the_same_over_the_embedded_store() {
    let folder = tempfile::tempdir().unwrap();
    let embedded = portolan::app::Embedded::open(folder.path()).await.unwrap();
    let mesh = Plan::over(embedded.stores()).start().await;
    for (number, test) in super::all().enumerate() {
        let door = mesh.door((test.home() + number) % 3);
        let run = Run::new(
            test.name,
            number,
            door,
            Http::One,
            mesh.names(),
            test.home(),
            Mode::Strict,
        );
        let ran = (test.run)(run).await;
        assert!(ran.is_ok(), "nothing fails here: {ran:?}");
    }
    mesh.stop().await;
    embedded.close().await;
}
