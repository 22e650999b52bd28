//! Walking a whole space, for who looks after it.

use async_trait::async_trait;

use super::{RedisMeta, member};
use crate::storage::{AllRows, Key, Space, StoreError, Walked};

#[async_trait]
impl AllRows for RedisMeta {
    async fn walk(&self, space: Space, after: Option<&Key>, limit: usize) -> Result<Walked, StoreError> {
        let first = match after {
            Some(after) => [b"(", &member(after)[..]].concat(),
            None => b"-".to_vec(),
        };
        let (rows, more) = self.piece("walk", space, [&first, b"+"], limit).await?;
        Ok(Walked { rows, more })
    }
}
