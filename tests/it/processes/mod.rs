//! Three processes of `portolan serve` on SeaweedFS and dynoxide, killed, stopped, cut off and started again.
//!
//! `tests/faults.sh` starts the stores and the members, and does to the members what it is asked for; what is asked for,
//! and when, is decided here, by the clients that see what comes of it.
//!
//! The environment says where the members are (`PORTOLAN_TEST_MEMBERS` and `PORTOLAN_TEST_CA`, as in `api::external`), and a
//! folder with two pipes (`PORTOLAN_TEST_CONTROL`): what a line in `asked` says is done when a line in `done` begins with the
//! same number; the last line is `over`. Repositories are named by the run's seed, for the stores stay from test to test.

mod chaos;
mod mirrored;
mod owners;
mod real_client;
mod stopped;
mod survivors;
mod toxics;

use std::{
    env,
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use portolan::placement::{HashKey, MemberId};

use crate::{
    api::Names,
    support::{
        client::{Answer, Ask, Broken, Client, Http, Request},
        door::Door,
        eventually,
        mesh::{Counts, HASH_KEY, MEMBERS},
        metrics::Metrics,
    },
};

/// How long a client waits for an answer before it gives up, as people's clients do: longer than anybody is stopped or cut
/// off.
const GIVES_UP: Duration = Duration::from_secs(30);

fn told(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is not set: see tests/faults.sh"))
}

/// The members, and whoever does things to them. Clones are the same.
#[derive(Clone)]
struct Cluster {
    members: Vec<MemberId>,
    doors: Vec<Door>,
    control: Arc<Mutex<Control>>,
}

struct Control {
    asked: File,
    done: BufReader<File>,
    number: usize,
}

impl Cluster {
    fn find() -> Self {
        let authority = PathBuf::from(told("PORTOLAN_TEST_CA"));
        let members = told("PORTOLAN_TEST_MEMBERS");
        let doors: Vec<Door> = members
            .split(',')
            .map(|address| Door::secure(address.parse().unwrap(), &authority))
            .collect();
        assert_eq!(doors.len(), MEMBERS, "{members}");
        let control = PathBuf::from(told("PORTOLAN_TEST_CONTROL"));
        let control = Control {
            asked: File::options().write(true).open(control.join("asked")).unwrap(),
            done: BufReader::new(File::open(control.join("done")).unwrap()),
            number: 0,
        };
        Self {
            members: members.split(',').map(|member| member.parse().unwrap()).collect(),
            doors,
            control: Arc::new(Mutex::new(control)),
        }
    }

    fn names(&self) -> Names {
        Names::new(&self.members, HashKey::new(HASH_KEY))
    }

    fn client(&self, member: usize) -> Client {
        Client::new(self.doors[member].clone(), Http::One)
    }

    /// A client for each member.
    fn clients(&self) -> Vec<Client> {
        (0..MEMBERS).map(|member| self.client(member)).collect()
    }

    /// One that gives up, for each of `members`.
    fn patient(&self, members: impl IntoIterator<Item = usize>, http: Http) -> Vec<Patient> {
        members
            .into_iter()
            .map(|member| Patient(Client::new(self.doors[member].clone(), http)))
            .collect()
    }

    async fn counts(&self) -> Counts {
        Counts::ask(&self.clients(), &self.members).await
    }

    /// Has something done, and returns when it is done, with what is said of it: `kill N`, `terminate N` (not waited for),
    /// `ended N` (`yes` or `no`), `start N` (not waited for), `stop N`, `continue N`, `apart N N`, `together N N`,
    /// `storeless N`, `stored N`, `taint TOXIC`, `cure`.
    async fn have(&self, what: String) -> String {
        let control = self.control.clone();
        tokio::task::spawn_blocking(move || control.lock().have(&what))
            .await
            .unwrap()
    }

    /// Until a member says that it is ready.
    async fn ready(&self, member: usize) {
        let client = self.client(member);
        eventually("the member is ready", || async {
            let answer = client.ask(Request::get("/readyz")).await;
            answer.is_ok_and(|answer| answer.status == 200)
        })
        .await;
    }

    /// Until all are ready, and see that all others are.
    async fn well(&self) {
        for member in 0..MEMBERS {
            self.ready(member).await;
            self.sees(member, MEMBERS).await;
        }
    }

    /// Until a member sees so many members live.
    async fn sees(&self, member: usize, live: usize) {
        let client = self.client(member);
        eventually("the member sees the others as they are", || async {
            let metrics = Metrics::ask(&client).await;
            metrics.sum("portolan_members", &[("liveness", "live")]) == live as f64
        })
        .await;
    }
}

impl Control {
    fn have(&mut self, what: &str) -> String {
        self.number += 1;
        writeln!(self.asked, "{} {what}", self.number).unwrap();
        let mut done = String::new();
        self.done.read_line(&mut done).unwrap();
        let said = done.trim_end().strip_prefix(&self.number.to_string());
        said.unwrap_or_else(|| panic!("{what}: {done}")).trim().to_owned()
    }
}

/// A client that gives up after a while.
#[derive(Clone)]
struct Patient(Client);

impl Ask for Patient {
    async fn ask(&self, request: Request) -> Result<Answer, Broken> {
        let gave_up = || Broken(format!("{}: no answer in {GIVES_UP:?}: {request}", self.0.door));
        tokio::time::timeout(GIVES_UP, self.0.ask(request.clone()))
            .await
            .unwrap_or_else(|_| Err(gave_up()))
    }
}
