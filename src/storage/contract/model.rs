//! Random transactions against a model.

use std::{collections::BTreeMap, sync::Arc};

use super::names::{fresh, key};
use crate::storage::{Effect, Expect, Key, MetaStore, Op, Outcome, Row, Space, Version, dice::Dice};

type Model = BTreeMap<Key, Row>;

/// Few enough rows that transactions meet often.
const SORTS: [&str; 6] = [".", "a", "a#b", "b", "t#1", "t#10"];
const SPACES: [Space; 2] = [Space::Repositories, Space::Blobs];

/// Makes `steps` random transactions and reads one after the other; a map must agree with every answer. `seed` repeats
/// a run.
pub async fn random_transactions_agree_with_a_model(store: &Arc<dyn MetaStore>, seed: u64, steps: usize) {
    let mut dice = Dice::new(seed);
    let partitions = [fresh("model"), fresh("model")];
    let mut model = Model::new();
    let mut past = vec![Version::random()];
    for step in 0..steps {
        let ops = transaction(&mut dice, &partitions, &model, &past);
        let version = Version::random();
        let expected = apply(&mut model, version, &ops);
        let outcome = store.transact(version, &ops).await.unwrap();
        assert_eq!(outcome, expected, "seed {seed}, step {step}: {ops:?}");
        past.push(version);

        let keys: Vec<Key> = ops.iter().map(|op| op.key.clone()).collect();
        let rows = store.get_many(&keys).await.unwrap();
        for (key, row) in keys.iter().zip(rows) {
            assert_eq!(row.as_ref(), model.get(key), "seed {seed}, step {step}: {key:?}");
        }
        let key = &keys[dice.index(keys.len())];
        assert_eq!(
            store.get(key).await.unwrap().as_ref(),
            model.get(key),
            "seed {seed}, step {step}"
        );
        check_range(store, &mut dice, &partitions, &model).await;
    }
}

fn transaction(dice: &mut Dice, partitions: &[String; 2], model: &Model, past: &[Version]) -> Vec<Op> {
    let mut ops: Vec<Op> = Vec::new();
    for _ in 0..=dice.index(5) {
        let key = key(
            SPACES[dice.index(SPACES.len())],
            &partitions[dice.index(2)],
            SORTS[dice.index(SORTS.len())],
        );
        if ops.iter().any(|op| op.key == key) {
            continue;
        }
        // Mostly what holds, or nothing would ever be written.
        let expect = match dice.below(8) {
            0 => Expect::Absent,
            1 => Expect::Version(past[dice.index(past.len())]),
            2 | 3 => Expect::Any,
            _ => Expect::unchanged(model.get(&key)),
        };
        let effect = match dice.below(5) {
            0 => Effect::Check,
            1 => Effect::Delete,
            _ => {
                let len = dice.index(200);
                Effect::Put(dice.bytes(len).into())
            }
        };
        ops.push(Op { key, expect, effect });
    }
    ops
}

fn apply(model: &mut Model, version: Version, ops: &[Op]) -> Outcome {
    for (index, op) in ops.iter().enumerate() {
        let current = model.get(&op.key).cloned();
        let holds = match op.expect {
            Expect::Any => true,
            Expect::Absent => current.is_none(),
            Expect::Version(version) => current.as_ref().map(|row| row.version) == Some(version),
        };
        if !holds {
            return Outcome::Refused { index, current };
        }
    }
    for op in ops {
        match &op.effect {
            Effect::Check => {}
            Effect::Delete => {
                model.remove(&op.key);
            }
            Effect::Put(bytes) => {
                let bytes = bytes.clone();
                model.insert(op.key.clone(), Row { bytes, version });
            }
        }
    }
    Outcome::Committed
}

async fn check_range(store: &Arc<dyn MetaStore>, dice: &mut Dice, partitions: &[String; 2], model: &Model) {
    let space = SPACES[dice.index(SPACES.len())];
    let partition = &partitions[dice.index(2)];
    let prefix = ["", "a", "t#1"][dice.index(3)];
    let after = [None, Some("."), Some("a"), Some("t#0")][dice.index(4)];
    let limit = 1 + dice.index(7);
    let expected: Vec<(&str, &Row)> = model
        .iter()
        .filter(|(key, _)| key.space == space && key.partition == *partition)
        .map(|(key, row)| (key.sort.as_str(), row))
        .filter(|(sort, _)| sort.starts_with(prefix) && after.is_none_or(|after| *sort > after))
        .collect();
    let page = store.range(space, partition, prefix, after, limit).await.unwrap();
    let found: Vec<(&str, &Row)> = page
        .entries
        .iter()
        .map(|entry| (entry.sort.as_str(), &entry.row))
        .collect();
    assert_eq!(found, expected[..limit.min(expected.len())]);
    assert!(
        page.more || found.len() == expected.len(),
        "the last page isn't the end"
    );
}
