//! Connections: as many as there is room for, each for one request at a time, so that one that hangs holds up no other.
//!
//! A connection on which anything but a plain refusal happened isn't used again, and neither are those that were idle
//! meanwhile: the server may have gone, or may not be the primary any more.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;
use tokio::{
    sync::Semaphore,
    task::AbortHandle,
    time::{Instant, timeout, timeout_at},
};
use tokio_postgres::{AsyncMessage, Client, Row as SqlRow, config::TargetSessionAttrs, error::Severity};
use tokio_util::task::TaskTracker;

use super::{Parameter, error::DatabaseError, fault, tls::Tls};
use crate::{
    config::{Limits, PostgresConfig, limits::PostgresLimits},
    storage::{
        StoreError,
        fault::{Class, Fault},
        pause::Attempts,
    },
};

/// Sends requests.
pub(super) struct Pool {
    servers: tokio_postgres::Config,
    tls: Tls,
    room: Semaphore,
    idle: Mutex<Vec<Connection>>,
    tasks: TaskTracker,
    limits: PostgresLimits,
}

/// A connection and what reads from it.
struct Connection {
    client: Client,
    /// The server has warned of something since this was last unset.
    has_warned: Arc<AtomicBool>,
    reader: AbortHandle,
    used: Instant,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Pool {
    /// To the servers of `config`. Asks for nothing yet.
    pub(super) fn new(config: &PostgresConfig, limits: &Limits) -> Result<Self, DatabaseError> {
        let mut servers = config.servers.clone();
        servers
            .application_name("portolan")
            .connect_timeout(limits.postgres.connect)
            .tcp_user_timeout(limits.postgres.answer)
            .keepalives_idle(limits.postgres.idle)
            .target_session_attrs(TargetSessionAttrs::ReadWrite);
        Ok(Self {
            servers,
            tls: Tls::new(config.authority.as_deref())?,
            room: Semaphore::new(limits.postgres.connections),
            idle: Mutex::default(),
            tasks: TaskTracker::new(),
            limits: limits.postgres,
        })
    }

    /// Asks what changes nothing until it is answered by what passes `check`, within bounds.
    pub(super) async fn read(
        &self,
        operation: &'static str,
        statement: &str,
        parameters: &[Parameter<'_>],
        check: fn(&[SqlRow]) -> Result<(), Fault>,
    ) -> Result<Vec<SqlRow>, StoreError> {
        let mut attempts = Attempts::new(self.limits.attempts, self.limits.retry_time);
        loop {
            let answer = self.ask(attempts.deadline(), statement, parameters).await;
            let fault = match answer.and_then(|rows| check(&rows).map(|()| rows)) {
                Ok(rows) => return Ok(rows),
                Err(fault) => fault,
            };
            let again = fault.class == Class::Unsure || self.may_repeat(&fault);
            if !again || !attempts.pause().await {
                return Err(fault.into_store_error(operation));
            }
        }
    }

    /// Asks for a write until it is answered or may have had its effect, within bounds.
    pub(super) async fn write<T>(
        &self,
        statement: &str,
        parameters: &[Parameter<'_>],
        answer: fn(&[SqlRow]) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let mut attempts = Attempts::new(self.limits.attempts, self.limits.retry_time);
        loop {
            let fault = match self.ask(attempts.deadline(), statement, parameters).await {
                Ok(rows) => return answer(&rows),
                Err(fault) => fault,
            };
            if !self.may_repeat(&fault) || !attempts.pause().await {
                return Err(fault);
            }
        }
    }

    /// Asks for a write that means nothing, once: what was read before it waits. Gives the server that acknowledges it.
    pub(super) async fn confirm(
        &self,
        operation: &'static str,
        statement: &str,
    ) -> Result<String, StoreError> {
        let deadline = Instant::now() + self.limits.retry_time;
        match self.ask(deadline, statement, &[]).await {
            Ok(rows) => match rows.first().map(|row| row.try_get(0)) {
                Some(Ok(server)) => Ok(server),
                Some(Err(error)) => Err(Fault::new(Class::Corrupt, error).into_store_error(operation)),
                None => Err(Fault::new(Class::Corrupt, "no row for a write").into_store_error(operation)),
            },
            Err(fault) => Err(fault.into_store_error(operation)),
        }
    }

    /// Uses no connection again that is idle: some may be to another server than others.
    pub(super) fn forget(&self) {
        self.idle.lock().clear();
    }

    /// Runs several statements as one transaction.
    pub(super) async fn batch(&self, statements: &str) -> Result<(), Fault> {
        let connection = self.take().await?;
        let ran = timeout(
            self.limits.retry_time,
            connection.client.batch_execute(statements),
        );
        match ran.await {
            Ok(ran) => ran.map_err(fault::of),
            Err(_) => Err(Fault::new(Class::Unsure, "no answer in time")),
        }
    }

    /// How long a request waits for others' at most.
    pub(super) fn patience(&self) -> std::time::Duration {
        self.limits.retry_time
    }

    fn may_repeat(&self, fault: &Fault) -> bool {
        // Perhaps another server is the primary now.
        if matches!(fault.class, Class::Busy | Class::Unsent) {
            self.forget();
        }
        fault.may_repeat()
    }

    async fn ask(
        &self,
        deadline: Instant,
        statement: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<SqlRow>, Fault> {
        let room = timeout_at(deadline, self.room.acquire()).await;
        let Ok(Ok(_room)) = room else {
            let said = "too many requests are on their way to PostgreSQL";
            return Err(Fault::new(Class::Unsent, said));
        };
        let connection = self.take().await?;
        connection.has_warned.store(false, Ordering::Release);
        let answered = timeout(
            self.limits.answer,
            connection.client.query_typed(statement, parameters),
        );
        let fault = match answered.await {
            // Where the wait for a synchronous standby is cancelled, the commit is reported as done, with a warning.
            Ok(Ok(_)) if connection.has_warned.load(Ordering::Acquire) => Fault::new(
                Class::Unsure,
                "the server warned of something instead of waiting for its standbys",
            ),
            Ok(Ok(rows)) => {
                self.give_back(connection);
                return Ok(rows);
            }
            Ok(Err(error)) => fault::of(error),
            Err(_) => {
                let bound = self.limits.answer.as_secs();
                Fault::new(Class::Unsure, format!("no answer within {bound} s"))
            }
        };
        match fault.class {
            Class::Unsent | Class::Busy | Class::Unsure | Class::Corrupt => self.forget(),
            Class::Contended | Class::Denied | Class::Full | Class::Unsupported | Class::Refused => {
                self.give_back(connection);
            }
        }
        Err(fault)
    }

    /// A connection that was idle and is still there, or a new one.
    async fn take(&self) -> Result<Connection, Fault> {
        loop {
            let Some(idle) = self.idle.lock().pop() else {
                return self.connect().await;
            };
            if !idle.client.is_closed() && idle.used.elapsed() < self.limits.idle {
                return Ok(idle);
            }
        }
    }

    /// The last is used first, so those before it end that nobody has needed for long.
    fn give_back(&self, mut connection: Connection) {
        connection.used = Instant::now();
        let mut idle = self.idle.lock();
        idle.retain(|idle| idle.used.elapsed() < self.limits.idle);
        idle.push(connection);
    }

    async fn connect(&self) -> Result<Connection, Fault> {
        let servers = self.servers.get_hosts().len().max(1);
        let bound = self.limits.connect * u32::try_from(servers).unwrap_or(u32::MAX);
        let connecting = timeout(bound, self.servers.connect(self.tls.clone()));
        let (client, mut connection) = match connecting.await {
            Ok(connected) => connected.map_err(fault::of_connecting)?,
            Err(_) => return Err(Fault::new(Class::Unsent, "no connection in time")),
        };
        let has_warned = Arc::new(AtomicBool::new(false));
        let warned = has_warned.clone();
        let reader = self.tasks.spawn(async move {
            // Its end, and what it ends with, is told to the request that waits, or to `is_closed`.
            while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notice(notice) = message
                    && notice.parsed_severity() == Some(Severity::Warning)
                {
                    tracing::warn!(%notice, "PostgreSQL warns");
                    warned.store(true, Ordering::Release);
                }
            }
        });
        Ok(Connection {
            client,
            has_warned,
            reader: reader.abort_handle(),
            used: Instant::now(),
        })
    }
}
