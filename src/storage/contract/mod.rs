//! The contract of the two stores as tests that any driver runs: [`run_meta`] and [`run_blobs`]. A clause that doesn't
//! hold panics.
//!
//! Clauses keep to keys of their own, drawn at random: they can share a store, and a store can be used again.
//!
//! Public because the integration tests run it over the drivers that need a service. Absent on purpose: what only one
//! driver can do (open a file again, for example), which its own tests check.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a test suite: it panics where the contract is broken"
)]

pub mod blobs;
pub mod concurrency;
pub mod meta;
pub mod model;
mod names;
pub mod walks;

use std::sync::Arc;

use super::{AllObjects, AllRows, BlobStore, MetaStore};

/// Runs every clause of [`MetaStore`]. Wants a runtime of several threads: on one, less happens at once.
pub async fn run_meta(store: Arc<dyn MetaStore>) {
    let store = &store;
    meta::a_missing_row_is_none(store).await;
    meta::a_put_is_read_back_with_the_version_of_its_transaction(store).await;
    meta::absent_refuses_a_row_that_exists_and_shows_it(store).await;
    meta::a_version_refuses_any_other_row(store).await;
    meta::a_refused_transaction_changes_nothing(store).await;
    meta::a_refusal_names_the_lowest_index(store).await;
    meta::a_check_changes_nothing(store).await;
    meta::deleting_a_missing_row_is_no_error(store).await;
    meta::many_rows_come_in_the_order_of_their_keys(store).await;
    meta::spaces_and_partitions_are_apart(store).await;
    meta::a_range_is_in_byte_order(store).await;
    meta::a_range_honours_prefix_after_and_limit(store).await;
    meta::a_range_of_big_rows_reaches_the_end(store).await;
    meta::the_largest_transaction_is_applied(store).await;
    meta::what_breaks_the_bounds_is_misuse(store).await;
    for seed in 1..=4 {
        model::random_transactions_agree_with_a_model(store, seed, 150).await;
    }
    concurrency::a_read_after_an_acknowledged_transaction_sees_it(store).await;
    concurrency::concurrent_increments_lose_nothing(store).await;
    concurrency::concurrent_transfers_keep_the_sum(store).await;
    for seed in 1..=3 {
        concurrency::increments_survive_injected_faults(store, seed).await;
    }
}

/// Runs every clause of [`BlobStore`].
pub async fn run_blobs(store: Arc<dyn BlobStore>) {
    let store = &store;
    blobs::a_missing_object_has_no_head_and_no_bytes(store).await;
    blobs::an_object_reads_back_whole_and_in_ranges(store).await;
    blobs::an_object_may_be_empty(store).await;
    blobs::an_object_keeps_its_etag(store).await;
    blobs::a_put_may_be_repeated(store).await;
    blobs::a_range_beyond_the_end_is_an_error(store).await;
    blobs::delete_is_idempotent(store).await;
    blobs::many_are_deleted_and_no_others(store).await;
    blobs::an_object_is_made_of_the_named_parts_in_their_order(store).await;
    blobs::ranges_cross_the_borders_of_parts(store).await;
    blobs::nothing_is_visible_before_complete(store).await;
    blobs::a_part_may_have_the_least_length(store).await;
    blobs::a_part_that_was_not_named_is_never_in_the_object(store).await;
    blobs::a_part_that_was_overwritten_is_never_another_one(store).await;
    blobs::a_part_that_never_was_is_invalid(store).await;
    blobs::the_last_part_is_known(store).await;
    blobs::complete_may_be_repeated(store).await;
    blobs::abort_is_idempotent_and_final(store).await;
    blobs::a_late_part_is_in_no_object(store).await;
    blobs::parts_may_be_uploaded_at_once(store).await;
    blobs::a_reader_sees_nothing_or_all(store).await;
    blobs::sweep_deletes_all_under_a_prefix_but_what_is_kept(store).await;
    blobs::sweep_aborts_uploads_under_a_prefix_but_what_is_kept(store).await;
}

/// Runs every clause of [`AllRows`].
pub async fn run_walks(store: Arc<dyn AllRows>) {
    walks::a_walk_meets_every_row_of_a_space_once(&store).await;
}

/// Runs every clause of [`AllObjects`].
pub async fn run_lists(store: Arc<dyn AllObjects>) {
    walks::a_listing_has_every_object_once_in_the_order_of_keys(&store).await;
    walks::what_is_unfinished_is_listed_until_it_is_over(&store).await;
}
