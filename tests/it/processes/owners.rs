//! Two members that both believe that a repository is theirs.

use super::Cluster;
use crate::{
    ownership::{TAGS, push_at_once},
    support::content::run_seed,
};

/// Those two.
const PAIR: [usize; 2] = [0, 1];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "tests/faults.sh starts the members and runs it"]
async fn two_members_that_both_own_a_repository_lose_no_tag() {
    let cluster = Cluster::find();
    let [one, other] = PAIR;
    let seed = run_seed("two_members_that_both_own_a_repository_lose_no_tag");
    let repositories = PAIR.map(|owner| cluster.names().owned_by(owner, &format!("both-{seed}/n")));
    // Each finds the other gone, and takes over what it is asked to change. The third reaches both.
    cluster.have(format!("apart {one} {other}")).await;
    let before = cluster.counts().await;
    let refused = push_at_once(&cluster.clients(), &repositories.each_ref().map(String::as_str)).await;
    let after = cluster.counts().await;
    cluster.have(format!("together {one} {other}")).await;
    println!(
        "figures: {TAGS} tags pushed at once through all members while two of them don't reach each other: {} \
         acknowledged and there, {} failed",
        TAGS - refused.len(),
        refused.len()
    );
    assert_eq!(refused, [0; 0], "none fails");
    for (front, owner) in [(one, other), (other, one)] {
        assert_eq!(
            before.forwards[front][owner], after.forwards[front][owner],
            "what went to {front} for {owner} was done by itself"
        );
    }
}
