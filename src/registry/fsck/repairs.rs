//! Repairs know what they don't know, and what others remember.

use super::{
    super::testing::*,
    tests::{ONCE, Planted, REPAIR, fsck, here},
    *,
};
use crate::{
    registry::row,
    storage::{Expect, MetaStore as _, rows, rows::DueKind},
};

/// The rows that count for the prefix.
async fn counted(planted: &Planted) -> Vec<(String, bytes::Bytes)> {
    let partition = keys::usage_partition(&repo("a"));
    let page = planted
        .world
        .meta
        .range(Space::Repositories, &partition, "", None, 100);
    let entries = page.await.unwrap().entries.into_iter();
    entries.map(|entry| (entry.sort, entry.row.bytes)).collect()
}

#[tokio::test]
async fn while_a_link_cannot_be_read_no_sum_is_repaired() {
    let planted = Planted::new().await;
    let key = keys::link(&planted.unused, &here());
    planted.write(key.put(Expect::Any, vec![0xff; 9])).await;
    let before = counted(&planted).await;
    let report = fsck(&planted.world, REPAIR).await;
    assert_eq!(counted(&planted).await, before);
    let fates = |kind| {
        let faults = report.faults.iter().filter(move |fault| fault.kind == kind);
        faults.map(|fault| fault.fate).collect::<Vec<_>>()
    };
    assert_eq!(fates(FaultKind::RowUnreadable), [Fate::Unrepairable]);
    assert_eq!(fates(FaultKind::QuotaCount), [Fate::Unrepairable]);
}

#[tokio::test]
async fn a_sum_that_cannot_be_read_is_told_of_like_any_row() {
    let planted = Planted::new().await;
    let link: rows::Link = planted.row(&keys::link(&planted.unused, &here())).await;
    let key = keys::usage(&repo("a"), link.counted_shard);
    planted.write(key.put(Expect::Any, vec![0xff; 9])).await;
    let report = fsck(&planted.world, REPAIR).await;
    assert_eq!(report.found, [(FaultKind::RowUnreadable, 1)].into(), "{report}");
}

#[tokio::test]
async fn a_link_that_nobody_uses_after_all_is_nothing_that_anybody_remembers() {
    let planted = Planted::new().await;
    let key = keys::link(&planted.unused, &here());
    let link: rows::Link = planted.row(&key).await;
    let used = rows::Link { in_use: true, ..link };
    planted
        .write(key.clone().put(Expect::Any, row::bytes(&used)))
        .await;
    planted.lose_due(DueKind::Link, planted.unused.as_str()).await;
    // It is remembered as one that stays.
    let member = planted.world.member(1);
    member.blob(&here(), &planted.unused).await.unwrap();
    let remembered = member.remembered_to_rely_on(&here(), &planted.unused).await;
    assert!(remembered.unwrap().is_some());

    let report = fsck(&planted.world, REPAIR).await;
    assert_eq!(report.found, [(FaultKind::Uncollected, 1)].into(), "{report}");
    let link: rows::Link = planted.row(&key).await;
    assert!(!link.in_use);
    let remembered = member.remembered_to_rely_on(&here(), &planted.unused).await;
    assert!(remembered.unwrap().is_none(), "it may go in a while");
    assert_eq!(fsck(&planted.world, ONCE).await.left, 0);
}
