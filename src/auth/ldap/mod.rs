//! Names and passwords of a directory (RFC 4511): it is searched for the name, and what is found binds by the password.
//!
//! Connections are kept, a few of them; each question is bounded, and so is how many wait. Who was right is remembered for as
//! long as with a file of passwords; what a name is, without its password, for as long: that is how a token and an API key end
//! with their user. A directory that can't be asked is asked again every second by one task, and meanwhile nobody waits for
//! it: whoever needs it is told at once, and every other way to log in goes on.
//!
//! Deliberately absent: following referrals, groups of groups, and changing anything.

mod session;
#[cfg(test)]
mod tests;

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use rustls::ClientConfig;
use serde::Deserialize;
use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::task::TaskTracker;

use self::session::{Account, Failure, Person, Session};
use super::{
    AuthError, FileFault,
    authenticator::{Authenticator, Evidence, Login, Verdict, Via, is_api_key},
    credentials::Credentials,
    jws,
    once::{self, Once},
    watched::Watched,
};
use crate::{
    causes,
    config::{
        Limits,
        access::{Ldap, LdapAccount, LdapAuthority, LdapSecurity, is_user_name},
        limits::DirectoryLimits,
    },
    outbound::Trust,
    storage::Version,
};

/// Time between two looks at a directory that couldn't be asked.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A directory.
pub(super) struct Directory {
    spec: Ldap,
    tls: Option<Arc<ClientConfig>>,
    account: AccountSource,
    limits: DirectoryLimits,
    /// How long a question waits for its turn.
    patience: Duration,
    /// Each ends within its bound, or with the connection that it drives.
    tasks: TaskTracker,
    idle: Mutex<Vec<Session>>,
    under_way: Arc<Semaphore>,
    /// Who was right, by name and password.
    proven: Once<Arc<Person>>,
    /// Who there is, by name.
    known: Once<Option<Arc<Person>>>,
    /// Why it can't be asked.
    trouble: Mutex<Option<String>>,
}

enum AccountSource {
    Fixed(Account),
    File(Watched<Account>),
}

/// What is asked.
#[derive(Clone, Copy)]
enum Question<'a> {
    /// Whether that is their password.
    Password(&'a str),
    /// Whether there is somebody of that name.
    Existence,
}

/// Why there is no person.
enum Unproven {
    /// Nobody of that name, or another password.
    Nobody,
    /// Nobody can tell.
    Unknown(AuthError),
}

impl From<once::Busy> for Unproven {
    fn from(_: once::Busy) -> Self {
        Self::Unknown(AuthError::Busy)
    }
}

impl Directory {
    /// Reads its files. Nothing is asked yet.
    ///
    /// # Errors
    /// [`FileFault`], naming the file that can't be used.
    pub(super) fn load(spec: Ldap, limits: &Limits) -> Result<Arc<Self>, FileFault> {
        let account = match &spec.account {
            LdapAccount::Anonymous => AccountSource::Fixed(Account::default()),
            LdapAccount::Named { dn, password } => AccountSource::Fixed(Account {
                dn: dn.clone(),
                password: password.expose().to_owned(),
            }),
            LdapAccount::File(file) => AccountSource::File(Watched::load(file, read_account)?),
        };
        Ok(Arc::new(Self {
            tls: tls(&spec)?,
            account,
            limits: limits.directory,
            patience: limits.passwords.patience,
            tasks: TaskTracker::new(),
            idle: Mutex::default(),
            under_way: Arc::new(Semaphore::new(limits.directory.connections)),
            proven: Once::new(limits.passwords),
            known: Once::new(limits.passwords),
            trouble: Mutex::default(),
            spec,
        }))
    }

    /// Why nobody can log in by it now.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }

    /// Finds out whether it can be asked, at the start and while it can't, for ever.
    pub(super) async fn follow(self: Arc<Self>) {
        let mut is_first = true;
        loop {
            if is_first || self.trouble().is_some() {
                let this = self.clone();
                let looked = self.apart(async move { this.look_at_all().await }).await;
                self.note(looked);
            }
            is_first = false;
            sleep(LOOK_AGAIN).await;
        }
    }

    /// How each of the servers is, for `portolan verify`.
    pub(super) async fn examine(&self) -> Vec<(String, Result<(), String>)> {
        let mut all = Vec::new();
        for server in &self.spec.servers {
            let looked = self.look_at(server).await;
            all.push((
                server.clone(),
                looked.map_err(|failure| failure.reason().to_owned()),
            ));
        }
        all
    }

    /// The groups of somebody, if the directory still has them.
    ///
    /// # Errors
    /// [`AuthError`]: it can't be asked.
    pub(super) async fn groups(self: &Arc<Self>, user: &str) -> Result<Option<Vec<String>>, AuthError> {
        let tag = self.known.tag(&[user]);
        let find = async {
            match self.ask(user, Question::Existence).await {
                Ok(person) => Ok(Some(person)),
                Err(Unproven::Nobody) => Ok(None),
                Err(Unproven::Unknown(error)) => Err(error),
            }
        };
        let person = self.known.get(tag, find).await?;
        // Who is only spelled like them is somebody else.
        let person = person.filter(|person| person.user == user);
        Ok(person.map(|person| person.groups.clone()))
    }

    /// The first server that can be asked; else why the last can't.
    async fn look_at_all(&self) -> Result<(), Failure> {
        let mut last = Ok(());
        for server in &self.spec.servers {
            last = self.look_at(server).await;
            if last.is_ok() {
                break;
            }
        }
        last
    }

    async fn look_at(&self, server: &str) -> Result<(), Failure> {
        let mut session = self.open(server).await?;
        session.begin(&self.account()).await?;
        session.look_at_base(&self.spec).await
    }

    async fn open(&self, server: &str) -> Result<Session, Failure> {
        Session::open(
            &self.spec,
            server,
            self.tls.as_ref(),
            self.limits.request,
            &self.tasks,
        )
        .await
    }

    fn account(&self) -> Account {
        match &self.account {
            AccountSource::Fixed(account) => account.clone(),
            AccountSource::File(file) => (*file.current()).clone(),
        }
    }

    /// Keeps in mind whether it can be asked, and says so once.
    fn note(&self, looked: Result<(), Failure>) {
        let mut trouble = self.trouble.lock();
        match looked {
            Ok(()) => {
                if trouble.take().is_some() {
                    tracing::info!("the directory can be asked again");
                }
            }
            Err(failure) => {
                let reason = failure.reason();
                if trouble.as_deref() != Some(reason) {
                    tracing::error!(reason, "nobody can log in by the directory");
                    *trouble = Some(reason.to_owned());
                }
            }
        }
    }

    /// In a task of its own: a client that goes away leaves no connection in the middle of something, and an answer that
    /// can't be read at all takes nothing else with it.
    async fn apart<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, Failure> {
        let worked = self.tasks.spawn(work).await;
        worked.unwrap_or_else(|_| {
            Err(Failure::Odd(
                "an answer of the directory can't be read".to_owned(),
            ))
        })
    }

    async fn ask(self: &Arc<Self>, user: &str, question: Question<'_>) -> Result<Arc<Person>, Unproven> {
        if self.trouble().is_some() {
            return Err(Unproven::Unknown(AuthError::Unreachable));
        }
        let turn = timeout(self.patience, self.under_way.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            return Err(Unproven::Unknown(AuthError::Busy));
        };
        let (this, user) = (self.clone(), user.to_owned());
        let password = match question {
            Question::Password(password) => Some(password.to_owned()),
            Question::Existence => None,
        };
        let answer = self.apart(async move {
            // Held to the end, also when the client that waited has gone.
            let _turn = turn;
            let answer = this.ask_any(&user, password.as_deref()).await;
            if let Err(failure @ (Failure::Lost(_) | Failure::Useless(_))) = &answer {
                this.note(Err(failure.clone()));
            }
            answer
        });
        match answer.await {
            Ok(Some(person)) => Ok(Arc::new(person)),
            Ok(None) => Err(Unproven::Nobody),
            Err(Failure::Odd(reason)) => {
                tracing::warn!(reason, "the directory didn't say who somebody is");
                Err(Unproven::Unknown(AuthError::Unreachable))
            }
            Err(Failure::Lost(_) | Failure::Useless(_)) => Err(Unproven::Unknown(AuthError::Unreachable)),
        }
    }

    /// By a connection that is there, else by a new one to the first server that can be asked.
    async fn ask_any(&self, user: &str, password: Option<&str>) -> Result<Option<Person>, Failure> {
        while let Some(mut session) = self.take() {
            match self.ask_by(&mut session, user, password).await {
                // It may have been gone for long.
                Err(Failure::Lost(_)) => {}
                answer => {
                    self.keep(session);
                    return answer;
                }
            }
        }
        let mut last = Failure::Lost("there is no server".to_owned());
        for server in &self.spec.servers {
            let mut session = match self.open(server).await {
                Ok(session) => session,
                Err(failure) => {
                    last = failure;
                    continue;
                }
            };
            match self.ask_by(&mut session, user, password).await {
                Err(failure @ (Failure::Lost(_) | Failure::Useless(_))) => last = failure,
                answer => {
                    self.keep(session);
                    return answer;
                }
            }
        }
        Err(last)
    }

    async fn ask_by(
        &self,
        session: &mut Session,
        user: &str,
        password: Option<&str>,
    ) -> Result<Option<Person>, Failure> {
        session.begin(&self.account()).await?;
        let found = session.find(&self.spec, user).await?;
        let Some(password) = password else {
            return Ok(found);
        };
        // A name that isn't there takes as many requests.
        let dn = match &found {
            Some(person) => person.dn.clone(),
            None => format!(
                "cn={},{}",
                hex::encode(Version::random().to_bytes()),
                self.spec.base
            ),
        };
        let is_right = session.proves(&dn, password).await?;
        Ok(found.filter(|_| is_right))
    }

    fn take(&self) -> Option<Session> {
        self.idle.lock().pop()
    }

    fn keep(&self, session: Session) {
        let mut idle = self.idle.lock();
        if idle.len() < self.limits.connections {
            idle.push(session);
        }
    }
}

#[async_trait]
impl Authenticator for Arc<Directory> {
    async fn authenticate(&self, evidence: &Evidence<'_>) -> Result<Verdict, AuthError> {
        let Credentials::Basic { user, password } = &evidence.credentials else {
            return Ok(Verdict::NotMine);
        };
        // An empty one would bind as nobody, and be answered with success (RFC 4513, 5.1.2). Keys and tokens are nothing that a
        // directory is to learn.
        let is_none = password.is_empty() || is_api_key(password) || jws::issuer_of(password).is_some();
        if is_none || !is_user_name(user) {
            return Ok(Verdict::Refused);
        }
        let tag = self.proven.tag(&[user, password]);
        match self
            .proven
            .get(tag, self.ask(user, Question::Password(password)))
            .await
        {
            Ok(person) if is_user_name(&person.user) => Ok(Verdict::Known(Login {
                user: person.user.clone(),
                groups: person.groups.clone(),
                via: Via::Directory,
            })),
            Ok(_) | Err(Unproven::Nobody) => Ok(Verdict::Refused),
            Err(Unproven::Unknown(error)) => Err(error),
        }
    }

    fn look(&self) {
        match &self.account {
            AccountSource::Fixed(_) => {}
            AccountSource::File(file) => file.look(),
        }
    }
}

/// What zot's file has.
#[derive(Deserialize)]
struct AccountFile {
    #[serde(rename = "bindDN")]
    dn: String,
    #[serde(rename = "bindPassword")]
    password: String,
}

/// Why a file with an account can't be used.
pub(super) fn account_fault(file: &Path) -> Option<FileFault> {
    Watched::load(file, read_account).err()
}

fn read_account(content: &[u8]) -> Result<Account, String> {
    const EXPECTED: &str = "expected JSON with bindDN and bindPassword, neither empty";
    // What serde would say of it may hold the password.
    let read = serde_json::from_slice::<AccountFile>(content).map_err(|_| EXPECTED.to_owned())?;
    match read.dn.is_empty() || read.password.is_empty() {
        true => Err(EXPECTED.to_owned()),
        false => Ok(Account {
            dn: read.dn,
            password: read.password,
        }),
    }
}

/// How to talk to its servers; `None` is in the clear.
///
/// # Errors
/// [`FileFault`]: the certificates of authorities can't be used.
pub(super) fn tls(spec: &Ldap) -> Result<Option<Arc<ClientConfig>>, FileFault> {
    let trust = match (&spec.security, &spec.authority) {
        (LdapSecurity::Plain, _) => return Ok(None),
        (_, LdapAuthority::Machine) => Trust::Machine,
        (_, LdapAuthority::File(file)) => Trust::Bundle(file.clone()),
        (_, LdapAuthority::Unverified) => Trust::Anyone,
    };
    match trust.tls() {
        Ok(config) => Ok(Some(Arc::new(config))),
        Err(error) => Err(FileFault::Content {
            file: match &spec.authority {
                LdapAuthority::File(file) => file.clone(),
                LdapAuthority::Machine | LdapAuthority::Unverified => Path::new("").to_owned(),
            },
            problem: causes::in_a_line(&error),
        }),
    }
}
