//! One run of a test: a way into a mesh, repositories and content of its own, and a record of what was said.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use portolan::{
    oci::RepoName,
    placement::{HashKey, MemberId, rank},
};

use super::compare::Exchange;
use crate::support::{
    client::{Answer, Ask, Broken, Client, Http, Request},
    content::Blob,
    door::Door,
};

/// Whether requests may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Nothing fails: an answer that doesn't come fails the test.
    Strict,
    /// The stores fail, so requests may be answered 429, 503 or 507, or not. Such a GET or HEAD is repeated; any other
    /// ends the attempt.
    Faulty,
}

/// How often a GET or HEAD is repeated in [`Mode::Faulty`].
const REPEATS: usize = 50;

/// Chooses repositories by their owners.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    members: Vec<MemberId>,
    hash_key: HashKey,
}

impl Names {
    pub(crate) fn new(members: &[MemberId], hash_key: HashKey) -> Self {
        Self {
            members: members.to_vec(),
            hash_key,
        }
    }

    /// The member, by its number, that is ranked first for `repository`.
    pub(crate) fn owner(&self, repository: &RepoName) -> usize {
        let first = &rank(&self.hash_key, &self.members, repository)[0].member;
        self.members.iter().position(|member| member == first).unwrap()
    }

    /// The first of `prefix-000`, `prefix-001`, ... that `member` owns.
    pub(crate) fn owned_by(&self, member: usize, prefix: &str) -> String {
        let owned = (0..1000)
            .map(|n| format!("{prefix}-{n:03}"))
            .find(|name| self.owner(&name.parse().unwrap()) == member);
        owned.unwrap_or_else(|| panic!("member {member} owns none of a thousand repositories"))
    }
}

/// One run of a test. Clones are the same run.
#[derive(Clone)]
pub(crate) struct Run {
    test: &'static str,
    // Of runs of one test in one mesh.
    number: usize,
    client: Client,
    names: Names,
    // The member that owns the repositories of this run, but those `elsewhere`.
    home: usize,
    mode: Mode,
    exchanges: Arc<Mutex<Vec<Exchange>>>,
    // The repositories of this run, with their kinds.
    repositories: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Run {
    pub(crate) fn new(
        test: &'static str,
        number: usize,
        door: impl Into<Door>,
        http: Http,
        names: Names,
        home: usize,
        mode: Mode,
    ) -> Self {
        Self {
            test,
            number,
            client: Client::new(door, http),
            names,
            home,
            mode,
            exchanges: Arc::default(),
            repositories: Arc::new(Mutex::new(BTreeMap::from([(run_name(number), "run".to_owned())]))),
        }
    }

    /// Beginning of the names of this run's repositories; sorts after those of earlier runs.
    pub(crate) fn prefix(&self) -> String {
        format!("{}/", run_name(self.number))
    }

    /// A repository of this run. Its owner is the same for all runs of a test.
    pub(crate) fn repository(&self, kind: &str) -> String {
        self.owned_by(self.home, kind)
    }

    /// A repository of this run with another owner.
    pub(crate) fn elsewhere(&self, kind: &str) -> String {
        self.owned_by((self.home + 1) % self.names.members.len(), kind)
    }

    fn owned_by(&self, member: usize, kind: &str) -> String {
        let name = self.names.owned_by(member, &format!("{}{kind}", self.prefix()));
        self.named(name, kind)
    }

    /// Any other name that begins as this run's do.
    pub(crate) fn named(&self, name: String, kind: &str) -> String {
        self.repositories.lock().insert(name.clone(), kind.to_owned());
        name
    }

    /// A blob that no other run has.
    pub(crate) fn blob(&self, label: &str, length: usize) -> Blob {
        Blob::named(&format!("{} {} {label}", self.test, self.number), length)
    }

    /// A blob that the other runs of this test have, too.
    pub(crate) fn shared_blob(&self, label: &str, length: usize) -> Blob {
        Blob::named(&format!("{} {label}", self.test), length)
    }

    /// The address this run goes in by.
    pub(crate) fn door(&self) -> Door {
        self.client.door.clone()
    }

    /// Whether what concerns this run's repositories is forwarded.
    pub(crate) fn is_forwarded(&self) -> bool {
        self.names.members[self.home].as_str() != self.client.door.to_string()
    }

    /// Whether this run talks to a member itself: a balancer's connections are its own business.
    pub(crate) fn is_at_a_member(&self) -> bool {
        let door = self.client.door.to_string();
        self.names.members.iter().any(|member| member.as_str() == door)
    }

    /// The same way in, without a record.
    pub(crate) fn quietly(&self) -> Self {
        Self {
            exchanges: Arc::default(),
            ..self.clone()
        }
    }

    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    pub(super) fn exchanges(&self) -> Vec<Exchange> {
        self.exchanges.lock().clone()
    }

    pub(super) fn repositories(&self) -> BTreeMap<String, String> {
        self.repositories.lock().clone()
    }

    async fn ask_faulty(&self, request: Request) -> Result<Answer, Broken> {
        let repeats = if request.method.is_safe() { REPEATS } else { 0 };
        for _ in 0..repeats {
            match self.client.ask(request.clone()).await {
                Ok(answer) if !answer.is_unavailable() => return Ok(answer),
                Ok(_) | Err(_) => {}
            }
        }
        let answer = self.client.ask(request).await?;
        if answer.is_unavailable() {
            Err(Broken(answer.to_string()))
        } else {
            Ok(answer)
        }
    }
}

fn run_name(number: usize) -> String {
    format!("r{number:04}")
}

impl Ask for Run {
    async fn ask(&self, request: Request) -> Result<Answer, Broken> {
        match self.mode {
            Mode::Faulty => self.ask_faulty(request).await,
            Mode::Strict => {
                let answer = self
                    .client
                    .ask(request.clone())
                    .await
                    .unwrap_or_else(|broken| panic!("{broken}"));
                self.exchanges.lock().push(Exchange::new(&request, &answer));
                Ok(answer)
            }
        }
    }
}
