//! Looking at the tables without making or changing any, for `portolan verify`.

use std::time::SystemTime;

use super::{
    DynamoMeta, TablesError,
    client::Dynamo,
    tables::{self, TableState},
};
use crate::{
    config::{DynamoConfig, Limits},
    storage::{
        Effect, Expect, Key, MetaStore as _, Op, Outcome, Space, StoreError, StoreErrorKind, Version,
        server_date::ServerDate,
    },
};

/// No row of ours is in this partition.
const NOWHERE: &str = "_verify";

/// One table, as it was found.
#[derive(Debug)]
pub struct ExaminedTable {
    /// The configuration's key that names it.
    pub key: &'static str,
    /// Its name.
    pub table: String,
    /// What there is.
    pub state: Result<TableState, TablesError>,
}

impl DynamoMeta {
    /// Looks at each table of `config`. Nothing is made or written.
    pub async fn examine(config: &DynamoConfig, limits: &Limits) -> Vec<ExaminedTable> {
        let dynamo = Dynamo::new(config, limits).await;
        tables::examine(&dynamo, &config.tables).await
    }

    /// Asks once for everything that is ever asked of the tables, which must be there. Writes depend on what can't be,
    /// so none has an effect.
    ///
    /// # Errors
    /// The first request that failed, in DynamoDB's words.
    pub async fn try_rights(config: &DynamoConfig, limits: &Limits) -> Result<(), StoreError> {
        let store = Self {
            dynamo: Dynamo::new(config, limits).await,
            tables: config.tables.clone(),
        };
        for space in Space::ALL {
            store.try_rights_in(space).await?;
        }
        Ok(())
    }

    async fn try_rights_in(&self, space: Space) -> Result<(), StoreError> {
        let key = |sort: &str| Key {
            space,
            partition: NOWHERE.to_owned(),
            sort: sort.to_owned(),
        };
        self.get(&key("a")).await?;
        self.get_many(&[key("a"), key("b")]).await?;
        self.range(space, NOWHERE, "", None, 1).await?;
        let never = Expect::Version(Version::random());
        let op = |sort: &str, effect| Op {
            key: key(sort),
            expect: never,
            effect,
        };
        let ops = [
            op("a", Effect::Check),
            op("b", Effect::Put("verify".into())),
            op("c", Effect::Delete),
        ];
        match self.transact(Version::random(), &ops).await? {
            Outcome::Refused { .. } => Ok(()),
            Outcome::Committed => Err(StoreError::new(StoreErrorKind::Corrupt, "refuse a transaction")),
            Outcome::Unknown => Err(StoreError::new(StoreErrorKind::Unavailable, "transact")),
        }
    }

    /// The time by the server of the tables; `None` when nothing answers, or without a date.
    pub async fn server_time(config: &DynamoConfig, limits: &Limits) -> Option<SystemTime> {
        let dynamo = Dynamo::new(config, limits).await;
        let date = ServerDate::default();
        let request = dynamo.sdk().describe_table().table_name(&config.tables.version);
        // Any answer will do, a refusal too.
        let _ = request.customize().interceptor(date.clone()).send().await;
        date.seen()
    }
}
