//! Looking at the tables without making or changing any, for `portolan verify`.

use std::time::SystemTime;

use super::{
    DynamoMeta,
    client::Dynamo,
    tables::{self, ExaminedTable, TablesError},
    version,
    write::{self, NOWHERE},
};
use crate::{
    config::{DynamoConfig, Limits},
    storage::{Key, MetaStore as _, Space, StoreError, server_date::ServerDate},
};

impl DynamoMeta {
    /// Looks at each table of `config`. Nothing is made or written.
    pub async fn examine(config: &DynamoConfig, limits: &Limits) -> Vec<ExaminedTable> {
        let dynamo = Dynamo::new(config, limits).await;
        tables::examine(&dynamo, &config.tables).await
    }

    /// Opens the tables of `config`, which must be there, without making or writing anything.
    ///
    /// # Errors
    /// [`TablesError`]: this release may not use them.
    pub async fn look_into(config: &DynamoConfig, limits: &Limits) -> Result<Self, TablesError> {
        let dynamo = Dynamo::new(config, limits).await;
        version::examine(&dynamo, &config.tables.version).await?;
        Ok(Self {
            dynamo,
            tables: config.tables.clone(),
        })
    }

    /// Asks once for everything that is ever asked of the tables. Writes depend on what can't be, so none has an effect.
    ///
    /// # Errors
    /// The first request that failed, in DynamoDB's words.
    pub async fn try_rights(&self) -> Result<(), StoreError> {
        for space in Space::ALL {
            self.try_rights_in(space).await?;
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
        write::try_transaction(&self.dynamo, self.table(space)).await
    }

    /// Asks once for a transaction, whether or not there are tables. It has no effect.
    ///
    /// # Errors
    /// [`TablesError::Transactions`], when there are none or they aren't allowed.
    pub async fn try_transactions(config: &DynamoConfig, limits: &Limits) -> Result<(), TablesError> {
        let dynamo = Dynamo::new(config, limits).await;
        tables::have_transactions(&dynamo, &config.tables).await
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
