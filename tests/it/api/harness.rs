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
    door::Door,
    mesh::{Counts, Mesh, Plan},
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

/// A way in: a door of the mesh and how it is entered.
pub(super) struct Way {
    pub(super) door: Door,
    /// The member behind the door; `None` is whichever a balancer takes.
    pub(super) member: Option<usize>,
    pub(super) http: Http,
}

/// Through the owner of the test's repositories and through both others, over both versions of HTTP.
pub(super) fn ways(home: usize, door: impl Fn(usize) -> Door) -> Vec<Way> {
    let (next, last) = ((home + 1) % 3, (home + 2) % 3);
    let ways = [
        (home, Http::One),
        (next, Http::One),
        (last, Http::One),
        (home, Http::Two),
        (next, Http::Two),
    ];
    let way = |(member, http)| Way {
        door: door(member),
        member: Some(member),
        http,
    };
    ways.map(way).into()
}

/// Runs `test` in every way into a mesh of its own.
pub(crate) async fn through_every_member(test: &Test) {
    let mesh = Mesh::of_three().await;
    let ways = ways(test.home(), |member| mesh.door(member).into());
    let counts = || mesh.counts();
    in_all_ways(test, 0, ways, &mesh.names(), &counts).await;
    mesh.stop().await;
}

/// Runs `test` in all `ways`, numbered from `first` on, and asserts that all runs heard the same and that what had to be
/// forwarded was, as the members' `counts` say.
pub(super) async fn in_all_ways<F: Future<Output = Counts>>(
    test: &Test,
    first: usize,
    ways: Vec<Way>,
    names: &Names,
    counts: &impl Fn() -> F,
) {
    let home = test.home();
    let mut heard: Option<Vec<String>> = None;
    for (number, way) in ways.into_iter().enumerate() {
        let run = Run::new(
            test.name,
            first + number,
            way.door.clone(),
            way.http,
            names.clone(),
            home,
            Mode::Strict,
        );
        let before = counts().await;
        let ran = (test.run)(run.clone()).await;
        assert!(ran.is_ok(), "nothing fails here: {ran:?}");
        let mut exchanges = run.exchanges();
        if way.member.is_none() {
            exchanges.iter_mut().for_each(Exchange::without_cookie);
        }
        if let Some(member) = way.member {
            were_forwarded(&exchanges, names, member, &before, &counts().await);
        }
        let ours = Transcript::write(&run.repositories(), &exchanges);
        let Some(heard) = &heard else {
            heard = Some(ours);
            continue;
        };
        if let Some(difference) = difference(heard, &ours) {
            let (name, door, http) = (test.name, way.door, way.http);
            panic!(
                "{name}: member {home} (the owner) and {door:?} ({http:?}) answer differently:\n{difference}"
            );
        }
    }
}

/// Asserts that what came in at `front` and isn't its own was forwarded to the owners, and replayed there.
fn were_forwarded(exchanges: &[Exchange], names: &Names, front: usize, before: &Counts, after: &Counts) {
    for owner in (0..3).filter(|owner| *owner != front) {
        let needed = exchanges
            .iter()
            .filter(|exchange| owned_by(exchange, names) == Some(owner))
            .count();
        let forwarded = after.forwards[front][owner] - before.forwards[front][owner];
        let replayed = after.replays[owner][front] - before.replays[owner][front];
        assert!(
            forwarded >= needed as f64 && replayed >= needed as f64,
            "member {front} forwarded {forwarded} requests to {owner}, which replayed {replayed} of {needed}"
        );
    }
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
    let embedded = crate::support::embedded(folder.path()).await;
    over(Plan::over(embedded.stores())).await;
    embedded.close().await;
}

/// All tests once, each through another member than the one before.
pub(crate) async fn over(plan: Plan) {
    let mesh = plan.start().await;
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
        assert!(ran.is_ok(), "nothing fails here: {}: {ran:?}", test.name);
    }
    mesh.stop().await;
}
