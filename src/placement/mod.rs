//! Placement: which member owns a repository, as a pure function of the hash key, the members and the name.
//!
//! Rendezvous hashing: every member gets a score for the repository, and the highest wins. The next in the ranking are
//! the successors, so losing one of N members moves 1/N of the repositories and gaining one moves as many, all of them
//! to it. The function is published in ARCHITECTURE.md with the vectors that the tests here pin.
//!
//! Deliberately absent: which members are live, and who holds a repository now. Placement only says who should.

mod hash_key;
mod member;

use std::hash::Hasher as _;

use siphasher::sip::SipHasher24;

pub use self::{
    hash_key::{HashKey, HashKeyError},
    member::{MemberId, MemberIdError},
};
use crate::oci::RepoName;

/// A member and its score for one repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranked {
    /// Who.
    pub member: MemberId,
    /// How high.
    pub score: u64,
}

/// SipHash-2-4 over `member || 0x00 || repository`. No member's name holds a zero byte, so no two pairs hash the same
/// bytes.
#[must_use]
pub fn score(key: &HashKey, member: &MemberId, repository: &RepoName) -> u64 {
    score_of(key, member, repository.as_str())
}

fn score_of(key: &HashKey, member: &MemberId, name: &str) -> u64 {
    let mut hasher = SipHasher24::new_with_key(key.as_bytes());
    // `write`, never `Hash::hash`, which would append a byte of its own.
    hasher.write(member.as_str().as_bytes());
    hasher.write(&[0]);
    hasher.write(name.as_bytes());
    hasher.finish()
}

/// All members, the one that should own the repository first, its successors after it. Equal scores are ordered by the
/// members' names, so the ranking doesn't depend on the order in which the members are given.
#[must_use]
pub fn rank(key: &HashKey, members: &[MemberId], repository: &RepoName) -> Vec<Ranked> {
    let mut ranking: Vec<Ranked> = members
        .iter()
        .map(|member| Ranked {
            member: member.clone(),
            score: score(key, member, repository),
        })
        .collect();
    ranking.sort_by(|a, b| b.score.cmp(&a.score).then_with(|| a.member.cmp(&b.member)));
    ranking
}

/// The member ranked first for a name that needn't be a repository's: the shares of common work have names, too.
#[must_use]
pub fn first<'a>(key: &HashKey, members: &'a [MemberId], name: &str) -> Option<&'a MemberId> {
    members.iter().max_by(|a, b| {
        score_of(key, a, name)
            .cmp(&score_of(key, b, name))
            .then_with(|| b.cmp(a))
    })
}

#[cfg(test)]
mod tests;
