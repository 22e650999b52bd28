//! Connections: as many as there is room for, each for one request at a time, so that one that hangs holds up no other.
//!
//! A connection on which anything but a plain refusal happened isn't used again, and neither are those that were idle
//! meanwhile: the server may have gone, or may not be the one that takes writes any more.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout, timeout_at},
};

use super::{
    connection::{Connection, Script, Terms, Way, asking},
    error::RedisError,
    fault::{self, class},
    ledger::{Begun, Judged, Ledger, Lost},
    protocol::Answer,
};
use crate::{
    config::{Limits, RedisConfig, limits::RedisLimits},
    storage::{
        StoreError,
        fault::{Class, Fault},
        pause::Attempts,
    },
};

/// One request: a script, and what it is given.
pub(super) struct Call<'a> {
    pub(super) script: Script,
    pub(super) keys: Vec<&'a [u8]>,
    /// Those after the run id.
    pub(super) arguments: Vec<&'a [u8]>,
}

/// An answer, and who gives it.
pub(super) struct Reply {
    pub(super) answer: Answer,
    /// The process of the server.
    pub(super) run: String,
    /// Whether it is the one that takes writes only if replicas say so.
    pub(super) is_fenced: bool,
}

/// Sends requests.
pub(super) struct Pool {
    way: Way,
    state: String,
    makes: bool,
    room: Semaphore,
    idle: Mutex<Vec<Connection>>,
    ledger: Mutex<Ledger>,
    /// What was lost last, for people.
    lost: Mutex<Option<String>>,
    limits: RedisLimits,
}

impl Pool {
    /// To the server of `config`, which makes a keyspace there if it `makes` one. Asks for nothing yet.
    pub(super) fn new(config: &RedisConfig, limits: &Limits, makes: bool) -> Result<Self, RedisError> {
        Ok(Self {
            way: Way::new(config, limits.redis.connect)?,
            state: format!("{}:state", config.prefix),
            makes,
            room: Semaphore::new(limits.redis.connections),
            idle: Mutex::default(),
            ledger: Mutex::default(),
            lost: Mutex::default(),
            limits: limits.redis,
        })
    }

    /// Connects for the first time; `false` where there is no keyspace and none is made.
    pub(super) async fn open(&self) -> Result<bool, RedisError> {
        let mut attempts = Attempts::new(self.limits.attempts, self.limits.retry_time);
        loop {
            let error = match self.connect().await {
                Ok(Some(connection)) => {
                    self.give_back(connection);
                    return Ok(true);
                }
                Ok(None) => return Ok(false),
                Err(error) => error,
            };
            if class(&error) != Class::Unsent || !attempts.pause().await {
                return Err(error);
            }
        }
    }

    /// Asks for what changes nothing until it is answered, within bounds.
    pub(super) async fn read(&self, operation: &'static str, call: &Call<'_>) -> Result<Reply, StoreError> {
        let mut attempts = Attempts::new(self.limits.attempts, self.limits.retry_time);
        loop {
            let fault = match self.ask(attempts.deadline(), call).await {
                Ok(reply) => return Ok(reply),
                Err(fault) => fault,
            };
            let again = fault.class == Class::Unsure || fault.may_repeat();
            if !again || !attempts.pause().await {
                return Err(fault.into_store_error(operation));
            }
        }
    }

    /// Asks for a write until it is answered or may have had its effect, within bounds. `of` names its rows.
    pub(super) async fn write(
        &self,
        call: &Call<'_>,
        of: impl Fn() -> Option<String>,
    ) -> Result<Reply, Fault> {
        let mut attempts = Attempts::new(self.limits.attempts, self.limits.retry_time);
        loop {
            let fault = match self.write_once(attempts.deadline(), call, &of).await {
                Ok(reply) => return Ok(reply),
                Err(fault) => fault,
            };
            if !fault.may_repeat() || !attempts.pause().await {
                return Err(fault);
            }
        }
    }

    /// Asks for a write that means nothing, once: what was read before it waits. Gives the process that has acknowledged it.
    pub(super) async fn confirm(&self, operation: &'static str) -> Result<String, StoreError> {
        let call = Call {
            script: Script::Transact,
            keys: vec![self.state.as_bytes()],
            arguments: vec![b""],
        };
        let deadline = Instant::now() + self.limits.retry_time;
        match self.write_once(deadline, &call, &|| None).await {
            Ok(reply) => Ok(reply.run),
            Err(fault) => Err(fault.into_store_error(operation)),
        }
    }

    /// Uses no connection again that is idle: some may be to another server than others.
    pub(super) fn forget(&self) {
        self.idle.lock().clear();
    }

    /// How long a request waits for others' at most.
    pub(super) fn patience(&self) -> Duration {
        self.limits.retry_time
    }

    /// The key of what there is to know of the keyspace.
    pub(super) fn state(&self) -> &[u8] {
        self.state.as_bytes()
    }

    /// What was lost last.
    pub(super) fn lost(&self) -> Option<String> {
        self.lost.lock().clone()
    }

    /// A write that counts is taken note of, so that it is known to be lost where it is.
    async fn write_once(
        &self,
        deadline: Instant,
        call: &Call<'_>,
        of: &impl Fn() -> Option<String>,
    ) -> Result<Reply, Fault> {
        let reply = self.ask(deadline, call).await?;
        if let Answer::List(words) = &reply.answer
            && let [Answer::Number(0), Answer::Number(number)] = words[..]
            && !self
                .ledger
                .lock()
                .acknowledge(&reply.run, number.unsigned_abs(), of)
        {
            return Err(Fault::new(
                Class::Unsure,
                "another server has taken over meanwhile",
            ));
        }
        Ok(reply)
    }

    async fn ask(&self, deadline: Instant, call: &Call<'_>) -> Result<Reply, Fault> {
        let room = timeout_at(deadline, self.room.acquire()).await;
        let Ok(Ok(_room)) = room else {
            let said = "too many requests are on their way to Redis";
            return Err(Fault::new(Class::Unsent, said));
        };
        let mut connection = self.take().await?;
        let fault = match self.call(&mut connection, call).await {
            Ok(answer) => {
                let reply = Reply {
                    answer,
                    run: connection.sound.run.clone(),
                    is_fenced: connection.sound.replicas > 0,
                };
                self.give_back(connection);
                return Ok(reply);
            }
            Err(fault) => fault,
        };
        match fault.class {
            Class::Unsent | Class::Busy | Class::Unsure | Class::Unsupported => self.forget(),
            Class::Contended | Class::Denied | Class::Full | Class::Corrupt | Class::Refused => {
                self.give_back(connection);
            }
        }
        Err(fault)
    }

    async fn call(&self, connection: &mut Connection, call: &Call<'_>) -> Result<Answer, Fault> {
        let needed = match call.script {
            Script::Transact => connection.sound.replicas,
            Script::Read | Script::Range => 0,
        };
        let waits = (needed > 0).then_some(self.limits.replicas);
        let calling = connection.call(call.script, &call.keys, &call.arguments, waits);
        let (answer, have) = match timeout(self.limits.answer, calling).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(error)) => return Err(Fault::new(Class::Unsure, error)),
            Err(_) => {
                let bound = self.limits.answer.as_secs();
                return Err(Fault::new(Class::Unsure, format!("no answer within {bound} s")));
            }
        };
        match answer {
            Answer::Refusal(said) => Err(fault::of_refusal(said)),
            answer if has_written(&answer) && have < needed => {
                let said = format!("{have} replicas have it, and {needed} must");
                Err(Fault::new(Class::Unsure, said))
            }
            _ if !self.ledger.lock().is_of(&connection.sound.run) => {
                let said = "another server has taken over meanwhile";
                let class = match call.script {
                    Script::Transact => Class::Unsure,
                    Script::Read | Script::Range => Class::Busy,
                };
                Err(Fault::new(class, said))
            }
            answer => Ok(answer),
        }
    }

    /// A connection that is idle and hasn't lived long enough, or a new one.
    async fn take(&self) -> Result<Connection, Fault> {
        let idle = {
            let mut idle = self.idle.lock();
            idle.retain(|idle| idle.since.elapsed() < self.limits.life);
            idle.pop()
        };
        if let Some(idle) = idle {
            return Ok(idle);
        }
        match self.connect().await {
            Ok(Some(connection)) => Ok(connection),
            Ok(None) => Err(fault::of_connecting(self.gone())),
            Err(error) => Err(fault::of_connecting(error)),
        }
    }

    fn give_back(&self, connection: Connection) {
        self.idle.lock().push(connection);
    }

    async fn connect(&self) -> Result<Option<Connection>, RedisError> {
        let terms = {
            let ledger = self.ledger.lock();
            Terms {
                makes: self.makes && ledger.is_empty(),
                known: ledger.term(),
            }
        };
        let Some((connection, begun, server)) = self.way.connect(&self.state, &terms).await? else {
            return match self.ledger.lock().is_empty() {
                true => Ok(None),
                false => Err(self.gone()),
            };
        };
        let judged = self.ledger.lock().judge(&begun);
        match judged {
            Judged::Same => Ok(Some(connection)),
            Judged::Whole => {
                tracing::warn!(
                    server,
                    term = begun.term,
                    "another process of Redis has taken over, with everything"
                );
                self.forget();
                Ok(Some(connection))
            }
            Judged::Lacking(lost) => {
                self.say_lost(&server, &begun, &lost);
                self.forget();
                Ok(Some(connection))
            }
            Judged::Late => Err(asking(&server, "another connection was begun meanwhile")),
            Judged::Former { known } => Err(RedisError::Former {
                server,
                term: begun.term,
                known,
            }),
            Judged::Another => Err(self.gone()),
        }
    }

    fn say_lost(&self, server: &str, begun: &Begun, lost: &Lost) {
        let Lost { writes, rows } = lost;
        tracing::error!(
            server,
            term = begun.term,
            writes,
            ?rows,
            "the Redis server that has taken over lacks writes that were acknowledged; rows names the last of this member"
        );
        *self.lost.lock() = Some(format!(
            "{server} lacks {writes} writes that were acknowledged before it took over"
        ));
    }

    fn gone(&self) -> RedisError {
        let prefix = self.way.prefix().to_owned();
        RedisError::Gone { prefix }
    }
}

/// Whether a transaction's answer says that it has written.
pub(super) fn has_written(answer: &Answer) -> bool {
    matches!(answer, Answer::List(words) if matches!(words[..], [Answer::Number(0), Answer::Number(_)]))
}
