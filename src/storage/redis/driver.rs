//! The server as a driver.

use std::{sync::Arc, time::SystemTime};

use async_trait::async_trait;

use super::{RedisMeta, connection::Way};
use crate::{
    causes::in_a_line,
    config::{Durability, Limits, RedisConfig},
    storage::{
        AllRows, MetaStore as _,
        driver::{Look, MetaDriver, OpenError, OpenedMeta, Seen},
    },
};

const SUBJECT: &str = "redis";

#[async_trait]
impl MetaDriver for &RedisConfig {
    fn kind(&self) -> &'static str {
        SUBJECT
    }

    fn named(&self) -> String {
        let durability = match self.durability {
            Durability::Strict => "",
            Durability::Relaxed => ", which may lose what was acknowledged (durability: relaxed)",
        };
        format!(
            "Redis keys {}:* of database {}{durability}",
            self.prefix, self.database
        )
    }

    fn identity(&self) -> Vec<(String, String)> {
        vec![
            ("storage.cacheDriver.keyprefix".to_owned(), self.prefix.clone()),
            ("storage.cacheDriver.db".to_owned(), self.database.to_string()),
        ]
    }

    async fn open(&self, limits: &Limits) -> Result<OpenedMeta, OpenError> {
        Ok(OpenedMeta {
            store: Arc::new(RedisMeta::open(self, limits).await?),
            // What was acknowledged is there already.
            close: Box::pin(std::future::ready(())),
        })
    }

    async fn examine(&self, limits: &Limits) -> (Vec<Look>, Option<Arc<dyn AllRows>>) {
        match RedisMeta::open_existing(self, limits).await {
            Ok(Some(store)) => match store.try_rights().await {
                Ok(()) => {
                    let said = format!("{}: are there, and every right that is needed", self.named());
                    let seen = match store.caveat() {
                        None => Seen::Good,
                        Some(_) => Seen::Doubtful,
                    };
                    (vec![Look::new(seen, SUBJECT, said)], Some(Arc::new(store)))
                }
                Err(error) => (vec![bad(&error)], None),
            },
            Ok(None) => {
                let said = format!(
                    "no keys {}:* are there yet: the first member that starts makes them",
                    self.prefix
                );
                (vec![Look::new(Seen::Doubtful, SUBJECT, said)], None)
            }
            Err(error) => (vec![bad(&error)], None),
        }
    }

    async fn server_time(&self, limits: &Limits) -> Option<SystemTime> {
        Way::new(self, limits.redis.connect).ok()?.time().await
    }
}

fn bad(error: &(dyn std::error::Error + 'static)) -> Look {
    Look::new(Seen::Bad, SUBJECT, in_a_line(error))
}
