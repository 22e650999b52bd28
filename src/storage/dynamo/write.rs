//! Writing: conditions, transactions, and what their answers mean.
//!
//! A write is sent again only after an answer which says that it had no effect. What may have had one is
//! [`Outcome::Unknown`]; the caller reads the row that tells, and may repeat the transaction with the same version. That
//! repetition finds its own version where the first one had its effect, and is answered [`Outcome::Committed`]. DynamoDB
//! knows transactions of several items by their token, which is the version, for ten minutes: the first one isn't
//! applied after the second, however late it arrives.

use aws_sdk_dynamodb::{
    error::BuildError,
    operation::{
        delete_item::DeleteItemError, put_item::PutItemError, transact_write_items::TransactWriteItemsError,
    },
    types::{
        CancellationReason, ConditionCheck, Delete, Put, ReturnValuesOnConditionCheckFailure,
        TransactWriteItem,
    },
};

use super::{
    client::{Departure, Dynamo},
    fault::{Class, Fault, is_named},
    items::{self, Item, Place},
    read,
};
use crate::storage::{Effect, Expect, Outcome, Row, StoreError, StoreErrorKind, Version, memory::holds};

const OPERATION: &str = "transact";

/// No row of ours is in this partition.
pub(super) const NOWHERE: &str = "_verify";

/// One operation of a transaction and where it goes.
#[derive(Clone, Copy)]
pub(super) struct Write<'a> {
    /// Its number in the transaction as the caller knows it.
    pub(super) index: usize,
    pub(super) place: Place<'a>,
    pub(super) expect: Expect,
    pub(super) effect: &'a Effect,
}

/// How a write was answered.
enum Answer {
    Done,
    /// The expectation of the operation with this index doesn't hold; the item as it is.
    Refused(usize, Option<Item>),
}

/// Applies `writes`, all or none.
pub(super) async fn all(
    dynamo: &Dynamo,
    version: Version,
    writes: &[Write<'_>],
) -> Result<Outcome, StoreError> {
    match writes {
        [] => Ok(Outcome::Committed),
        [one] => match one.effect {
            Effect::Check => check(dynamo, one).await,
            Effect::Put(_) | Effect::Delete => {
                let answer = dynamo.write(|departure| send_one(dynamo, version, one, departure));
                outcome(version, answer.await)
            }
        },
        several => {
            let answer = dynamo.write(|departure| send_several(dynamo, version, several, departure));
            outcome(version, answer.await)
        }
    }
}

async fn check(dynamo: &Dynamo, write: &Write<'_>) -> Result<Outcome, StoreError> {
    let current = read::get(dynamo, write.place).await?;
    Ok(match holds(write.expect, current.as_ref()) {
        true => Outcome::Committed,
        false => Outcome::Refused {
            index: write.index,
            current,
        },
    })
}

fn outcome(version: Version, answer: Result<Answer, Fault>) -> Result<Outcome, StoreError> {
    let fault = match answer {
        Ok(Answer::Done) => return Ok(Outcome::Committed),
        Ok(Answer::Refused(index, item)) => {
            let current = item.map(|item| items::row(OPERATION, item)).transpose()?;
            return Ok(match &current {
                // No other transaction has our version: this one was sent before, and applied.
                Some(Row { version: found, .. }) if *found == version => Outcome::Committed,
                _ => Outcome::Refused { index, current },
            });
        }
        Err(fault) => fault,
    };
    match fault.class {
        Class::Unsure | Class::Garbled | Class::InProgress => {
            tracing::warn!(?fault, ?version, "nobody knows yet whether a write was applied");
            Ok(Outcome::Unknown)
        }
        Class::Unsent
        | Class::Throttled
        | Class::Conflict
        | Class::Denied
        | Class::Missing
        | Class::Exists
        | Class::Unsupported
        | Class::Misuse
        | Class::Refused => Err(fault.into_store_error(OPERATION)),
    }
}

/// Asks for a transaction in `table` that depends on what can't be, so that it never has an effect. A table that isn't
/// there yet says as much of the server as one that refuses it.
pub(super) async fn try_transaction(dynamo: &Dynamo, table: &str) -> Result<(), StoreError> {
    let put = Effect::Put("verify".into());
    let effects = [("a", &Effect::Check), ("b", &put), ("c", &Effect::Delete)];
    let expect = Expect::Version(Version::random());
    let write = |(index, (sort, effect))| Write {
        index,
        place: Place {
            table,
            partition: NOWHERE,
            sort,
        },
        expect,
        effect,
    };
    let writes: Vec<Write<'_>> = effects.into_iter().enumerate().map(write).collect();
    let version = Version::random();
    match dynamo
        .write(|departure| send_several(dynamo, version, &writes, departure))
        .await
    {
        Ok(Answer::Refused(..)) => Ok(()),
        Ok(Answer::Done) => Err(StoreError::with_source(
            StoreErrorKind::Unsupported,
            OPERATION,
            "a transaction was applied whose conditions don't hold",
        )),
        Err(fault) if fault.class == Class::Missing => Ok(()),
        Err(fault) => Err(fault.into_store_error(OPERATION)),
    }
}

async fn send_one(
    dynamo: &Dynamo,
    version: Version,
    write: &Write<'_>,
    departure: Departure,
) -> Result<Answer, Fault> {
    match write.effect {
        Effect::Put(bytes) => put(dynamo, write, write.place.item(version, bytes), departure).await,
        Effect::Delete => delete(dynamo, write, departure).await,
        Effect::Check => Err(Fault::new(Class::Misuse, "a check alone is a read")),
    }
}

async fn put(dynamo: &Dynamo, write: &Write<'_>, item: Item, departure: Departure) -> Result<Answer, Fault> {
    let (condition, values) = items::condition(write.expect);
    let request = dynamo
        .sdk()
        .put_item()
        .table_name(write.place.table)
        .set_item(Some(item))
        .set_condition_expression(condition)
        .set_expression_attribute_values(values)
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
    let Err(error) = request.customize().interceptor(departure.clone()).send().await else {
        return Ok(Answer::Done);
    };
    match error.as_service_error() {
        Some(PutItemError::ConditionalCheckFailedException(refused)) => {
            Ok(Answer::Refused(write.index, refused.item.clone()))
        }
        _ => Err(Fault::of(error, departure.left())),
    }
}

async fn delete(dynamo: &Dynamo, write: &Write<'_>, departure: Departure) -> Result<Answer, Fault> {
    let (condition, values) = items::condition(write.expect);
    let request = dynamo
        .sdk()
        .delete_item()
        .table_name(write.place.table)
        .set_key(Some(write.place.key()))
        .set_condition_expression(condition)
        .set_expression_attribute_values(values)
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
    let Err(error) = request.customize().interceptor(departure.clone()).send().await else {
        return Ok(Answer::Done);
    };
    match error.as_service_error() {
        Some(DeleteItemError::ConditionalCheckFailedException(refused)) => {
            Ok(Answer::Refused(write.index, refused.item.clone()))
        }
        _ => Err(Fault::of(error, departure.left())),
    }
}

async fn send_several(
    dynamo: &Dynamo,
    version: Version,
    writes: &[Write<'_>],
    departure: Departure,
) -> Result<Answer, Fault> {
    let items = writes
        .iter()
        .map(|write| transact_item(version, write))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Fault::new(Class::Misuse, error))?;
    let request = dynamo
        .sdk()
        .transact_write_items()
        .client_request_token(hex::encode(version.to_bytes()))
        .set_transact_items(Some(items));
    let Err(error) = request.customize().interceptor(departure.clone()).send().await else {
        return Ok(Answer::Done);
    };
    match error.as_service_error() {
        Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
            first_reason(writes, cancelled.cancellation_reasons())
        }
        _ => Err(Fault::of(error, departure.left())),
    }
}

/// What cancelled a transaction: of several reasons the one of the first operation, for that a later condition doesn't
/// hold says nothing of an earlier one whose item was busy.
fn first_reason(writes: &[Write<'_>], reasons: &[CancellationReason]) -> Result<Answer, Fault> {
    let mut named = writes.iter().zip(reasons).filter(|(_, reason)| is_named(reason));
    match named.next() {
        Some((write, reason)) if reason.code() == Some("ConditionalCheckFailed") => {
            Ok(Answer::Refused(write.index, reason.item.clone()))
        }
        named => Err(Fault::cancelled(named.map(|(_, reason)| reason))),
    }
}

fn transact_item(version: Version, write: &Write<'_>) -> Result<TransactWriteItem, BuildError> {
    let (condition, values) = items::condition(write.expect);
    let (table, show) = (write.place.table, ReturnValuesOnConditionCheckFailure::AllOld);
    let item = TransactWriteItem::builder();
    Ok(match write.effect {
        Effect::Put(bytes) => item.put(
            Put::builder()
                .table_name(table)
                .set_item(Some(write.place.item(version, bytes)))
                .set_condition_expression(condition)
                .set_expression_attribute_values(values)
                .return_values_on_condition_check_failure(show)
                .build()?,
        ),
        Effect::Delete => item.delete(
            Delete::builder()
                .table_name(table)
                .set_key(Some(write.place.key()))
                .set_condition_expression(condition)
                .set_expression_attribute_values(values)
                .return_values_on_condition_check_failure(show)
                .build()?,
        ),
        Effect::Check => item.condition_check(
            ConditionCheck::builder()
                .table_name(table)
                .set_key(Some(write.place.key()))
                .set_condition_expression(condition)
                .set_expression_attribute_values(values)
                .return_values_on_condition_check_failure(show)
                .build()?,
        ),
    }
    .build())
}
