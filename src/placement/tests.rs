//! What placement promises: the published vectors, and how little moves when members come and go.

use std::hash::Hasher as _;

use proptest::prelude::*;
use siphasher::sip::SipHasher24;

use super::*;

const KEY: &str = "loremipsumdolors";
const MEMBERS: [&str; 3] = ["127.0.0.1:5000", "127.0.0.2:5000", "127.0.0.3:5000"];

/// The hash alone, as two other implementations have it.
const HASHES: [(&str, u64); 8] = [
    ("a", 0x4656_4ad2_b2f1_bff4),
    ("library/alpine", 0xdb85_d8f7_f78a_762f),
    ("library/nginx", 0x0357_7f4e_2fd4_ef51),
    ("library/ubuntu", 0xd353_314d_9f16_0e95),
    ("org/team/app", 0x6fcf_fb70_32da_c7bf),
    ("busybox", 0xf02a_ee92_9b4d_38f0),
    ("my-org/my_repo.v2/sub__x", 0xeb5f_4773_9d78_f9b5),
    ("a/b/c/d/e/f/g/h/i/j", 0x8f6a_8dd3_6790_8931),
];

/// Scores by member, and the members' order. Computed by an independent implementation; published in ARCHITECTURE.md.
const PLACEMENTS: [(&str, [u64; 3], [usize; 3]); 8] = [
    (
        "a",
        [
            0x9a51_e0dd_2d66_ceb9,
            0xe4f2_79ff_f2cb_d7bc,
            0xd53b_3ffa_4426_379a,
        ],
        [1, 2, 0],
    ),
    (
        "library/alpine",
        [
            0xd3cc_c332_ddf7_5c26,
            0x4540_5cda_b54d_3431,
            0x6e47_089a_18f6_4043,
        ],
        [0, 2, 1],
    ),
    (
        "library/nginx",
        [
            0xfa3d_7662_ee46_a904,
            0x3420_07ce_cef1_d2ae,
            0xb5e3_5f05_b03a_49dd,
        ],
        [0, 2, 1],
    ),
    (
        "library/ubuntu",
        [
            0xb96f_48c9_e0eb_d61a,
            0x4ccd_d557_c04a_f332,
            0x6230_654f_7df5_83ee,
        ],
        [0, 2, 1],
    ),
    (
        "org/team/app",
        [
            0x4754_a5d4_d509_6af2,
            0xc752_9454_3903_905e,
            0x7c4d_bcd0_6698_97b6,
        ],
        [1, 2, 0],
    ),
    (
        "busybox",
        [
            0xaab7_79fb_abdc_0943,
            0x1979_125a_7ffc_599e,
            0x39ba_ea3a_5c34_8a85,
        ],
        [0, 2, 1],
    ),
    (
        "my-org/my_repo.v2/sub__x",
        [
            0xba86_265f_f8d9_2a65,
            0x19f9_92c0_8f63_e333,
            0x0c8d_fc80_7385_4084,
        ],
        [0, 1, 2],
    ),
    (
        "a/b/c/d/e/f/g/h/i/j",
        [
            0x305e_21a9_6c64_96f2,
            0x93d4_1a47_cd26_ac90,
            0xf9bd_e034_683a_e6ef,
        ],
        [2, 1, 0],
    ),
];

/// Scores of members named by an IPv6 address and by a DNS name.
const OTHER_MEMBERS: [&str; 2] = ["[2001:db8::1]:5000", "registry-4.example.org:443"];
const OTHER_PLACEMENTS: [(&str, [u64; 2]); 2] = [
    ("library/alpine", [0x5a2f_7d30_2d53_c2d0, 0x39c2_dafc_db64_10e6]),
    ("org/team/app", [0x04c1_c7c7_45bd_1ebf, 0x722a_639e_116e_81fb]),
];

fn key() -> HashKey {
    HashKey::parse(KEY).unwrap()
}

fn members(names: &[&str]) -> Vec<MemberId> {
    names.iter().map(|name| MemberId::parse(name).unwrap()).collect()
}

fn repository(name: &str) -> RepoName {
    RepoName::parse(name).unwrap()
}

fn ten_thousand_names() -> impl Iterator<Item = RepoName> {
    (0..10_000).map(|i| repository(&format!("team-{}/service-{i}", i % 37)))
}

fn owner(members: &[MemberId], name: &RepoName) -> MemberId {
    rank(&key(), members, name)[0].member.clone()
}

#[test]
fn the_hash_is_the_published_one() {
    for (input, hash) in HASHES {
        let mut hasher = SipHasher24::new_with_key(key().as_bytes());
        hasher.write(input.as_bytes());
        assert_eq!(hasher.finish(), hash, "{input}");
    }
}

#[test]
fn scores_and_rankings_are_the_published_ones() {
    let members = members(&MEMBERS);
    for (name, scores, order) in PLACEMENTS {
        let expected: Vec<Ranked> = order
            .iter()
            .map(|&i| Ranked {
                member: members[i].clone(),
                score: scores[i],
            })
            .collect();
        assert_eq!(rank(&key(), &members, &repository(name)), expected, "{name}");
    }
    for (name, scores) in OTHER_PLACEMENTS {
        for (member, expected) in OTHER_MEMBERS.iter().zip(scores) {
            assert_eq!(
                score(&key(), &MemberId::parse(member).unwrap(), &repository(name)),
                expected,
                "{name}"
            );
        }
    }
}

#[test]
fn a_fourth_member_takes_a_quarter_and_nothing_else_moves() {
    let four = members(&[
        "127.0.0.1:5000",
        "127.0.0.2:5000",
        "127.0.0.3:5000",
        "127.0.0.4:5000",
    ]);
    let mut moved = 0;
    for name in ten_thousand_names() {
        let (before, after) = (owner(&four[..3], &name), owner(&four, &name));
        if before != after {
            assert_eq!(after, four[3], "{name} moved to a member that was there before");
            moved += 1;
        }
    }
    println!("the fourth of four members takes over {moved} of 10000 repositories");
    assert!((2000..=3000).contains(&moved), "{moved} of 10000 moved");
}

#[test]
fn a_lost_member_leaves_what_it_owned_to_the_first_successor() {
    let three = members(&MEMBERS);
    for name in ten_thousand_names().take(1000) {
        let ranking = rank(&key(), &three, &name);
        let left: Vec<MemberId> = three
            .iter()
            .filter(|&m| *m != ranking[0].member)
            .cloned()
            .collect();
        assert_eq!(owner(&left, &name), ranking[1].member);
    }
}

#[test]
fn members_own_about_equal_shares() {
    let three = members(&MEMBERS);
    for member in &three {
        let owned = ten_thousand_names()
            .filter(|name| owner(&three, name) == *member)
            .count();
        assert!((3000..=3667).contains(&owned), "{member} owns {owned} of 10000");
    }
}

#[test]
fn another_key_is_another_placement() {
    let three = members(&MEMBERS);
    let other = HashKey::new([7; 16]);
    let same = ten_thousand_names()
        .filter(|n| rank(&other, &three, n)[0].member == owner(&three, n))
        .count();
    assert!((3000..=3667).contains(&same), "{same} of 10000 are placed alike");
}

#[test]
fn nobody_is_ranked_where_there_is_nobody() {
    assert_eq!(rank(&key(), &[], &repository("a")), []);
}

proptest! {
    #[test]
    fn the_order_of_members_does_not_matter(
        members in Just(members(&["a:1", "b:1", "c:1", "d:1", "e:1"])).prop_shuffle(),
        name in "[a-z0-9]{1,8}(/[a-z0-9]{1,8}){0,3}",
    ) {
        let mut sorted = members.clone();
        sorted.sort();
        let name = repository(&name);
        prop_assert_eq!(rank(&key(), &members, &name), rank(&key(), &sorted, &name));
    }
}

#[test]
fn who_is_first_for_a_name_is_first_in_the_ranking() {
    let key = HashKey::parse(KEY).unwrap();
    let members: Vec<MemberId> = MEMBERS.iter().map(|member| member.parse().unwrap()).collect();
    for (name, ..) in PLACEMENTS {
        let ranking = rank(&key, &members, &name.parse().unwrap());
        assert_eq!(first(&key, &members, name), Some(&ranking[0].member));
    }
    assert_eq!(first(&key, &[], "a"), None);
}
