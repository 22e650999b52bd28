//! Walking a whole table, for who looks after it: the one place that scans.

use async_trait::async_trait;

use super::{DynamoMeta, fault::Fault, items};
use crate::storage::{AllRows, Key, Space, StoreError, Walked, bounds};

const OPERATION: &str = "walk";

#[async_trait]
impl AllRows for DynamoMeta {
    async fn walk(&self, space: Space, after: Option<&Key>, limit: usize) -> Result<Walked, StoreError> {
        bounds::check_limit(limit)?;
        let limit = i32::try_from(limit).unwrap_or(i32::MAX);
        let mut start = after.map(|after| self.place(after).key());
        loop {
            let found = self
                .dynamo
                .repeat(async || {
                    let scan = self.dynamo.sdk().scan().table_name(self.table(space));
                    let scan = scan.limit(limit).set_exclusive_start_key(start.clone());
                    scan.consistent_read(true).send().await.map_err(Fault::of_read)
                })
                .await
                .map_err(|fault| fault.into_store_error(OPERATION))?;
            let rows = found.items.unwrap_or_default().into_iter().map(|item| {
                let (partition, sort) = items::keys(OPERATION, &item)?;
                let key = Key {
                    space,
                    partition: partition.to_owned(),
                    sort: sort.to_owned(),
                };
                Ok((key, items::row(OPERATION, item)?))
            });
            let rows = rows.collect::<Result<Vec<_>, StoreError>>()?;
            start = found.last_evaluated_key.filter(|key| !key.is_empty());
            let more = start.is_some();
            if !rows.is_empty() || !more {
                return Ok(Walked { rows, more });
            }
        }
    }
}
