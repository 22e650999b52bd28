//! The database as a driver.

use std::sync::Arc;

use async_trait::async_trait;

use super::{DatabaseError, Pool, PostgresMeta, schema};
use crate::{
    causes::in_a_line,
    config::{Limits, PostgresConfig},
    storage::{
        AllRows,
        driver::{Look, MetaDriver, OpenError, OpenedMeta, Seen},
    },
};

const SUBJECT: &str = "database";

#[async_trait]
impl MetaDriver for &PostgresConfig {
    fn kind(&self) -> &'static str {
        SUBJECT
    }

    fn named(&self) -> String {
        let database = self.servers.get_dbname().unwrap_or_default();
        format!("PostgreSQL schema {} of the database {database}", self.schema)
    }

    fn identity(&self) -> Vec<(String, String)> {
        vec![("storage.cacheDriver.schema".to_owned(), self.schema.clone())]
    }

    async fn open(&self, limits: &Limits) -> Result<OpenedMeta, OpenError> {
        Ok(OpenedMeta {
            store: Arc::new(PostgresMeta::open(self, limits).await?),
            // What was acknowledged is there already.
            close: Box::pin(std::future::ready(())),
        })
    }

    async fn examine(&self, limits: &Limits) -> (Vec<Look>, Option<Arc<dyn AllRows>>) {
        match look_into(self, limits).await {
            Ok(Some(store)) => {
                let said = format!("{}: is there, and every right that is needed", self.named());
                (vec![Look::new(Seen::Good, SUBJECT, said)], Some(Arc::new(store)))
            }
            Ok(None) => {
                let said = format!(
                    "the schema {} isn't there yet: the first member that starts makes it",
                    self.schema
                );
                (vec![Look::new(Seen::Doubtful, SUBJECT, said)], None)
            }
            Err(error) => (vec![Look::new(Seen::Bad, SUBJECT, in_a_line(&error))], None),
        }
    }
}

/// The store, if its schema is there and everything may be done that ever is. Nothing is made.
async fn look_into(config: &PostgresConfig, limits: &Limits) -> Result<Option<PostgresMeta>, DatabaseError> {
    let pool = Pool::new(config, limits)?;
    schema::check_server(&pool).await?;
    if !schema::is_there(&pool, &config.schema).await? {
        return Ok(None);
    }
    let store = PostgresMeta::over(pool, &config.schema);
    match store.try_rights().await {
        Ok(()) => Ok(Some(store)),
        Err(source) => Err(DatabaseError::Rights {
            schema: config.schema.clone(),
            source,
        }),
    }
}
