//! All tests of the API against three members that somebody else started, and the balancer in front of them.
//!
//! The environment says where they are: `PORTOLAN_TEST_MEMBERS`, three public addresses with commas, which are the
//! members' names; `PORTOLAN_TEST_BALANCER`, the address of what gives each request to the next of them;
//! `PORTOLAN_TEST_CA`, the file of the authority of all their certificates. The stores are empty of what tests push.

use std::{
    env,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
};

use futures_util::{FutureExt as _, StreamExt as _, stream};
use portolan::placement::{HashKey, MemberId};

use super::{
    Names, Test,
    harness::{Way, in_all_ways, ways},
};
use crate::support::{
    client::{Client, Http},
    door::Door,
    mesh::{Counts, HASH_KEY},
};

/// Tests that run at once: enough to keep the stores busy.
const AT_ONCE: usize = 4;
/// These list the catalogue, in which nobody else's repositories may come and go meanwhile, nor come after their own.
const ALONE: [&str; 2] = [
    "every_answer_names_its_request_and_says_what_took_time",
    "the_catalogue_lists_what_has_a_manifest_page_by_page",
];
/// More than the ways into the mesh.
const NUMBERS: usize = 10;

struct External {
    members: Vec<MemberId>,
    doors: Vec<Door>,
    balancer: Door,
    clients: Vec<Client>,
}

impl External {
    fn find() -> Self {
        let told =
            |name: &str| env::var(name).unwrap_or_else(|_| panic!("{name} is not set: see tests/shared.sh"));
        let authority = PathBuf::from(told("PORTOLAN_TEST_CA"));
        let door = |address: &str| door(address, &authority);
        let members = told("PORTOLAN_TEST_MEMBERS");
        let doors: Vec<Door> = members.split(',').map(door).collect();
        assert_eq!(doors.len(), 3, "{members}");
        Self {
            members: members.split(',').map(|member| member.parse().unwrap()).collect(),
            clients: doors
                .iter()
                .map(|door| Client::new(door.clone(), Http::One))
                .collect(),
            doors,
            balancer: door(&told("PORTOLAN_TEST_BALANCER")),
        }
    }

    fn names(&self) -> Names {
        Names::new(&self.members, HashKey::new(HASH_KEY))
    }

    async fn counts(&self) -> Counts {
        Counts::ask(&self.clients, &self.members).await
    }

    fn ways(&self, test: &Test) -> Vec<Way> {
        let mut ways = ways(test.home(), |member| self.doors[member].clone());
        ways.extend([Http::One, Http::Two].map(|http| Way {
            door: self.balancer.clone(),
            member: None,
            http,
        }));
        ways
    }
}

fn door(address: &str, authority: &Path) -> Door {
    let address: SocketAddr = address
        .parse()
        .unwrap_or_else(|_| panic!("no address: {address}"));
    Door::secure(address, authority)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "tests/shared.sh starts the members and runs it"]
async fn the_api_is_the_same_through_members_on_shared_stores_and_their_balancer() {
    let external = External::find();
    let names = external.names();
    let counts = || external.counts();
    let (alone, others): (Vec<_>, Vec<_>) = super::all().partition(|test| ALONE.contains(&test.name));
    assert_eq!(alone.len(), ALONE.len(), "all of them exist");
    let tests = others.len();
    let run = async |(index, test): (usize, &Test)| {
        let ways = external.ways(test);
        let run = in_all_ways(test, index * NUMBERS, ways, &names, &counts);
        match AssertUnwindSafe(run).catch_unwind().await {
            Ok(()) => println!("ok {}", test.name),
            Err(_) => return Some(test.name),
        }
        None
    };
    let mut failed: Vec<&str> = stream::iter(others.into_iter().enumerate())
        .map(run)
        .buffer_unordered(AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await;
    for (index, test) in alone.into_iter().enumerate() {
        failed.extend(run((tests + index, test)).await);
    }
    for name in &failed {
        println!("FAILED {name}");
    }
    assert!(failed.is_empty(), "{} failed: {failed:?}", failed.len());
}
