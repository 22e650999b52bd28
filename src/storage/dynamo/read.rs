//! Reading: always strongly consistent.

use std::collections::HashMap;

use aws_sdk_dynamodb::{
    operation::transact_get_items::TransactGetItemsError,
    types::{AttributeValue, Get, ItemResponse, KeysAndAttributes, TransactGetItem},
};

use super::{
    client::Dynamo,
    fault::{Class, Fault, is_named},
    items::{self, Item, PARTITION, Place, SORT},
};
use crate::storage::{Page, Row, StoreError};

pub(super) async fn get(dynamo: &Dynamo, place: Place<'_>) -> Result<Option<Row>, StoreError> {
    const OPERATION: &str = "get";
    let found = dynamo
        .repeat(async || {
            let request = dynamo
                .sdk()
                .get_item()
                .table_name(place.table)
                .set_key(Some(place.key()))
                .consistent_read(true);
            request.send().await.map_err(Fault::of_read)
        })
        .await
        .map_err(|fault| fault.into_store_error(OPERATION))?;
    found.item.map(|item| items::row(OPERATION, item)).transpose()
}

/// The rows at `places`, in their order.
pub(super) async fn get_many(dynamo: &Dynamo, places: &[Place<'_>]) -> Result<Vec<Option<Row>>, StoreError> {
    const OPERATION: &str = "get many";
    let mut wanted = HashMap::new();
    let mut asked: HashMap<String, Vec<Item>> = HashMap::new();
    for (n, place) in places.iter().enumerate() {
        wanted.insert((place.table, place.partition, place.sort), n);
        asked.entry(place.table.to_owned()).or_default().push(place.key());
    }
    let mut rows = vec![None; places.len()];
    while !asked.is_empty() {
        let batch = dynamo.repeat(|| batch(dynamo, &asked)).await;
        let batch = batch.map_err(|fault| fault.into_store_error(OPERATION))?;
        for (table, items) in batch.found {
            for item in items {
                let (partition, sort) = items::keys(OPERATION, &item)?;
                let n = wanted.get(&(table.as_str(), partition, sort)).copied();
                if let Some(row) = n.and_then(|n| rows.get_mut(n)) {
                    *row = Some(items::row(OPERATION, item)?);
                }
            }
        }
        asked = batch.left;
    }
    Ok(rows)
}

/// Part of the rows that were asked for.
struct Batch {
    /// By table.
    found: HashMap<String, Vec<Item>>,
    /// The keys that are still to be asked for, by table; fewer than before.
    left: HashMap<String, Vec<Item>>,
}

async fn batch(dynamo: &Dynamo, asked: &HashMap<String, Vec<Item>>) -> Result<Batch, Fault> {
    let mut request = dynamo.sdk().batch_get_item();
    for (table, keys) in asked {
        let keys = KeysAndAttributes::builder()
            .set_keys(Some(keys.clone()))
            .consistent_read(true)
            .build()
            .map_err(|error| Fault::new(Class::Misuse, error))?;
        request = request.request_items(table, keys);
    }
    let answer = request.send().await.map_err(Fault::of_read)?;
    let left: HashMap<String, Vec<Item>> = answer
        .unprocessed_keys
        .unwrap_or_default()
        .into_iter()
        .map(|(table, keys)| (table, keys.keys))
        .collect();
    let count = |keys: &HashMap<String, Vec<Item>>| keys.values().map(Vec::len).sum::<usize>();
    if count(&left) >= count(asked) {
        return Err(Fault::new(Class::Throttled, "none of the keys was processed"));
    }
    Ok(Batch {
        found: answer.responses.unwrap_or_default(),
        left,
    })
}

/// The rows at `places`, in their order, as they were at one moment.
pub(super) async fn snapshot(dynamo: &Dynamo, places: &[Place<'_>]) -> Result<Vec<Option<Row>>, StoreError> {
    const OPERATION: &str = "snapshot";
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let found = dynamo.repeat(|| together(dynamo, places)).await;
    let found = found.map_err(|fault| fault.into_store_error(OPERATION))?;
    let rows = found
        .into_iter()
        .map(|found| found.item.map(|item| items::row(OPERATION, item)).transpose());
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    match rows.len() == places.len() {
        true => Ok(rows),
        false => Err(items::corrupt(OPERATION, "an answer without all rows")),
    }
}

async fn together(dynamo: &Dynamo, places: &[Place<'_>]) -> Result<Vec<ItemResponse>, Fault> {
    let mut request = dynamo.sdk().transact_get_items();
    for place in places {
        let get = Get::builder().table_name(place.table).set_key(Some(place.key()));
        let get = get.build().map_err(|error| Fault::new(Class::Misuse, error))?;
        request = request.transact_items(TransactGetItem::builder().get(get).build());
    }
    match request.send().await {
        Ok(answer) => Ok(answer.responses.unwrap_or_default()),
        Err(error) => Err(match error.as_service_error() {
            Some(TransactGetItemsError::TransactionCanceledException(cancelled)) => {
                let mut reasons = cancelled.cancellation_reasons().iter();
                Fault::cancelled(reasons.find(|reason| is_named(reason)))
            }
            _ => Fault::of_read(error),
        }),
    }
}

/// What to read of a partition.
pub(super) struct Range<'a> {
    pub(super) table: &'a str,
    pub(super) partition: &'a str,
    pub(super) prefix: &'a str,
    pub(super) after: Option<&'a str>,
    /// 1 to `MAX_PAGE`.
    pub(super) limit: usize,
}

/// A piece of `range`, of at most a MiB.
pub(super) async fn page(dynamo: &Dynamo, range: Range<'_>) -> Result<Page, StoreError> {
    const OPERATION: &str = "range";
    let mut start = match range.after {
        // Every sort key with the prefix comes after it.
        None | Some("") => None,
        Some(after) if after < range.prefix => None,
        // A condition takes one clause on the sort key, and the prefix has it; what to begin after need not exist.
        Some(after) if after.starts_with(range.prefix) => Some(after.to_owned()),
        // Every sort key with the prefix comes before it.
        Some(_) => return Ok(Page::default()),
    };
    loop {
        let found = dynamo
            .repeat(async || query(dynamo, &range, start.as_deref()).await)
            .await
            .map_err(|fault| fault.into_store_error(OPERATION))?;
        let entries = found.items.into_iter().map(|item| items::entry(OPERATION, item));
        let entries = entries.collect::<Result<Vec<_>, _>>()?;
        start = match found.last {
            Some(AttributeValue::S(last)) if entries.is_empty() => Some(last),
            last => {
                let more = last.is_some();
                return Ok(Page { entries, more });
            }
        };
    }
}

struct Found {
    items: Vec<Item>,
    /// Sort key of the item at which it stopped, unless that was the end.
    last: Option<AttributeValue>,
}

async fn query(dynamo: &Dynamo, range: &Range<'_>, after: Option<&str>) -> Result<Found, Fault> {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let mut request = dynamo
        .sdk()
        .query()
        .table_name(range.table)
        .expression_attribute_values(":partition", text(range.partition))
        .limit(i32::try_from(range.limit).unwrap_or(i32::MAX))
        .consistent_read(true);
    request = if range.prefix.is_empty() {
        request.key_condition_expression(format!("{PARTITION} = :partition"))
    } else {
        request
            .key_condition_expression(format!(
                "{PARTITION} = :partition AND begins_with({SORT}, :prefix)"
            ))
            .expression_attribute_values(":prefix", text(range.prefix))
    };
    if let Some(sort) = after {
        let place = Place {
            table: range.table,
            partition: range.partition,
            sort,
        };
        request = request.set_exclusive_start_key(Some(place.key()));
    }
    let answer = request.send().await.map_err(Fault::of_read)?;
    Ok(Found {
        items: answer.items.unwrap_or_default(),
        last: answer.last_evaluated_key.and_then(|mut key| key.remove(SORT)),
    })
}
