//! Walking a whole space, for who looks after it.

use async_trait::async_trait;
use tokio_postgres::types::Type;

use super::{Parameter, PostgresMeta, column, corrupt, stored};
use crate::storage::{AllRows, Key, Space, StoreError, Walked, bounds};

const OPERATION: &str = "walk";

#[async_trait]
impl AllRows for PostgresMeta {
    async fn walk(&self, space: Space, after: Option<&Key>, limit: usize) -> Result<Walked, StoreError> {
        bounds::check_limit(limit)?;
        // No partition is empty: everything comes after two empty ones.
        let (partition, sort) = after.map_or(("", ""), |after| (&after.partition, &after.sort));
        let one_more = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
        let parameters: [Parameter<'_>; 5] = [
            (&space.as_str(), Type::TEXT),
            (&partition.as_bytes(), Type::BYTEA),
            (&sort.as_bytes(), Type::BYTEA),
            (&one_more, Type::INT8),
            (&(bounds::PAGE_BYTES as i64), Type::INT8),
        ];
        let found = self.read(OPERATION, &self.statements.walk, &parameters).await?;
        let text = |row, at| {
            let bytes: &[u8] = column(OPERATION, row, at)?;
            String::from_utf8(bytes.to_vec()).map_err(|_| corrupt(OPERATION, "a key that is no text"))
        };
        let (mut walked, mut size) = (Walked::default(), 0);
        for row in &found {
            let Some(row_found) = stored(OPERATION, row, 5)? else {
                continue;
            };
            if walked.rows.len() == limit {
                walked.more = true;
                break;
            }
            size += row_found.bytes.len();
            let key = Key {
                space,
                partition: text(row, 3)?,
                sort: text(row, 4)?,
            };
            walked.rows.push((key, row_found));
        }
        // Then the server left off.
        walked.more |= size >= bounds::PAGE_BYTES;
        Ok(walked)
    }
}
