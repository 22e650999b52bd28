//! The tables as a driver.

use std::{sync::Arc, time::SystemTime};

use async_trait::async_trait;

use super::{DynamoMeta, ExaminedTable, TableState, TablesError};
use crate::{
    causes::in_a_line,
    config::{DynamoConfig, Limits},
    storage::{
        AllRows,
        driver::{Look, MetaDriver, OpenError, OpenedMeta, Seen},
    },
};

const SUBJECT: &str = "tables";

#[async_trait]
impl MetaDriver for &DynamoConfig {
    fn kind(&self) -> &'static str {
        SUBJECT
    }

    fn named(&self) -> String {
        format!("DynamoDB tables {} and others", self.tables.repo_meta)
    }

    fn identity(&self) -> Vec<(String, String)> {
        let named = |(key, table): (&str, &str)| (format!("storage.cacheDriver.{key}"), table.to_owned());
        self.tables.by_key().map(named).into()
    }

    async fn open(&self, limits: &Limits) -> Result<OpenedMeta, OpenError> {
        Ok(OpenedMeta {
            store: Arc::new(DynamoMeta::open(self, limits).await?),
            // What was acknowledged is there already.
            close: Box::pin(std::future::ready(())),
        })
    }

    /// Each table by itself, and then what may be done with them.
    async fn examine(&self, limits: &Limits) -> (Vec<Look>, Option<Arc<dyn AllRows>>) {
        let tables = DynamoMeta::examine(self, limits).await;
        let bad = |subject: &str, said: String| Look::new(Seen::Bad, subject, said);
        // What keeps us from all of them is said once.
        if let Some(first) = tables.first()
            && tables
                .iter()
                .all(|table| matches!(table.state, Err(TablesError::Describe { .. })))
            && let Err(error) = &first.state
        {
            let said = format!("none can be looked at: {}", in_a_line(error));
            return (vec![bad(SUBJECT, said)], None);
        }
        let mut looks = Vec::new();
        let mut missing = Vec::new();
        let mut usable = 0;
        for ExaminedTable { key, table, state } in tables {
            let subject = format!("table {table}");
            match state {
                Ok(TableState::Usable) => usable += 1,
                Ok(TableState::Missing) => missing.push(table),
                Ok(TableState::Passing(status)) => {
                    let said = format!(
                        "is {} and can't be used now: wait until it is ACTIVE",
                        status.as_str()
                    );
                    looks.push(bad(&subject, said));
                }
                Err(error) => looks.push(bad(&subject, format!("{key}: {}", in_a_line(&error)))),
            }
        }
        if !missing.is_empty() {
            let said = format!(
                "{} aren't there yet: the first member that starts makes them, with dynamodb:CreateTable",
                missing.join(", ")
            );
            looks.push(Look::new(Seen::Doubtful, SUBJECT, said));
            // No table makes a server know transactions.
            if let Err(error) = DynamoMeta::try_transactions(self, limits).await {
                looks.push(bad(SUBJECT, in_a_line(&error)));
            }
        }
        // With some of them missing or foreign, the others' rights would be guesswork.
        if !looks.is_empty() {
            return (looks, None);
        }
        let (look, store) = look_into(self, limits, usable).await;
        (vec![look], store)
    }

    async fn server_time(&self, limits: &Limits) -> Option<SystemTime> {
        DynamoMeta::server_time(self, limits).await
    }
}

/// What is in them and may be done with them.
async fn look_into(config: &DynamoConfig, limits: &Limits, count: usize) -> (Look, Option<Arc<dyn AllRows>>) {
    let bad = |said: String| (Look::new(Seen::Bad, SUBJECT, said), None);
    let tables = match DynamoMeta::look_into(config, limits).await {
        Ok(tables) => tables,
        Err(error) => return bad(in_a_line(&error)),
    };
    match tables.try_rights().await {
        Ok(()) => {
            let said = format!("all {count} are there, and every right that is needed");
            (Look::new(Seen::Good, SUBJECT, said), Some(Arc::new(tables)))
        }
        Err(error) => bad(format!("{}: allow what docs/stores.md lists", in_a_line(&error))),
    }
}
