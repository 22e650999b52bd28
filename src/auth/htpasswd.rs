//! Names and hashes of passwords in a file, as `htpasswd -B` writes it.
//!
//! A line that can't be used is left out, with a warning that names it: what else the same edit changed, a user who was
//! removed above all, counts. Of a name given twice the last line counts, as in zot and as appending to the file suggests;
//! where that one can't be used, nobody logs in by that name.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Arc,
};

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};

use super::{
    AuthError, Authenticator, Credentials, Evidence, FileFault, Login, Verdict, Via, hashing::Hashing,
    password_hash::PasswordHash, stamp::Stamp, watched::Watched,
};
use crate::config::{access::is_user_name, limits::PasswordLimits};

/// Warnings about one state of the file that are logged.
const MAX_WARNINGS: usize = 20;

/// What is compared where the file has no hash.
const DEFAULT_DECOY: &str = "$2y$10$.....................................................";

pub(super) struct Htpasswd {
    users: Watched<Users>,
    hashing: Hashing,
}

/// What was read.
struct Users {
    hashes: HashMap<String, PasswordHash>,
    decoys: Decoys,
}

/// Hashes for names that aren't there. Each such name has one that costs what some user's costs, the same on every member as
/// long as the file stays as it is, and each cost as often as among the users: so the time that a refusal takes says nothing
/// about the name, also where hashes of several costs are in use.
struct Decoys {
    /// What decides which name has which: known to who has read the file.
    secret: [u8; 32],
    /// Each with how many users have a hash of its kind.
    kinds: Vec<(PasswordHash, u64)>,
}

impl Htpasswd {
    pub(super) fn load(file: &Path, limits: PasswordLimits) -> Result<Self, FileFault> {
        let named = file.display().to_string();
        let make = move |content: &[u8]| {
            let (users, problems) = read(content);
            for problem in problems.iter().take(MAX_WARNINGS) {
                tracing::warn!(
                    file = named,
                    problem,
                    "a line of the file of passwords is left out"
                );
            }
            if let Some(more) = problems.len().checked_sub(MAX_WARNINGS + 1) {
                tracing::warn!(file = named, lines = more + 1, "and further lines of it");
            }
            Ok(users)
        };
        Ok(Self {
            users: Watched::load(file, make)?,
            hashing: Hashing::new(limits),
        })
    }

    /// The lines that are left out of a file.
    ///
    /// # Errors
    /// [`FileFault`]: the file can't be used at all.
    pub(super) fn left_out(file: &Path) -> Result<Vec<String>, FileFault> {
        Watched::load(file, |content| Ok(read(content).1)).map(|lines| lines.current().to_vec())
    }

    /// How often a password was compared.
    #[cfg(test)]
    pub(super) fn comparisons(&self) -> usize {
        self.hashing
            .comparisons
            .load(std::sync::atomic::Ordering::Relaxed)
    }

    /// The stamp of this user's hash: `None` where nobody could log in by the name, for it stands with no hash in the file as
    /// it was last read.
    pub(super) fn stamp(&self, user: &str) -> Option<Stamp> {
        self.users.current().hashes.get(user).map(Stamp::of)
    }
}

#[async_trait]
impl Authenticator for Arc<Htpasswd> {
    async fn authenticate(&self, evidence: &Evidence<'_>) -> Result<Verdict, AuthError> {
        let Credentials::Basic { user, password } = &evidence.credentials else {
            return Ok(Verdict::NotMine);
        };
        let users = self.users.current();
        let known = users.hashes.get(user);
        let hash = known.unwrap_or_else(|| users.decoys.of(user));
        let is_equal = self.hashing.is_equal(user, password, hash).await?;
        Ok(match known.filter(|_| is_equal) {
            Some(hash) => Verdict::Known(Login {
                user: user.clone(),
                groups: Vec::new(),
                via: Via::Password(Stamp::of(hash)),
            }),
            None => Verdict::Refused,
        })
    }

    fn look(&self) {
        self.users.look();
    }
}

impl Decoys {
    fn new<'a>(hashes: impl Iterator<Item = &'a PasswordHash>, content: &[u8]) -> Self {
        let mut kinds = BTreeMap::new();
        for hash in hashes {
            *kinds.entry(hash.decoy()).or_default() += 1;
        }
        if kinds.is_empty() {
            kinds.extend(PasswordHash::parse(DEFAULT_DECOY).map(|decoy| (decoy, 1)));
        }
        Self {
            secret: Sha256::digest(content).into(),
            kinds: kinds.into_iter().collect(),
        }
    }

    /// The one that belongs to a name.
    fn of(&self, name: &str) -> &PasswordHash {
        let digest = Sha256::new()
            .chain_update(self.secret)
            .chain_update(name)
            .finalize();
        let drawn = digest
            .iter()
            .take(8)
            .fold(0, |drawn, byte| (drawn << 8) | u64::from(*byte));
        let users: u64 = self.kinds.iter().map(|(_, users)| users).sum();
        let mut left = drawn % users.max(1);
        let found = self
            .kinds
            .iter()
            .find(|(_, users)| match left.checked_sub(*users) {
                Some(rest) => {
                    left = rest;
                    false
                }
                None => true,
            });
        &found.unwrap_or(&self.kinds[0]).0
    }
}

/// The users of a file, and what is wrong with which of its lines.
fn read(content: &[u8]) -> (Users, Vec<String>) {
    let mut problems = Vec::new();
    let mut last: HashMap<&str, (usize, Option<PasswordHash>)> = HashMap::new();
    for (number, line) in (1..).zip(content.split(|byte| *byte == b'\n')) {
        let (user, hash) = match named(line) {
            Ok(None) => continue,
            Ok(Some(line)) => line,
            Err(problem) => {
                problems.push(format!("line {number} {problem}"));
                continue;
            }
        };
        let hash = PasswordHash::parse(hash)
            .map_err(|problem| problems.push(format!("line {number}, {user}: {problem}")))
            .ok();
        if let Some((former, _)) = last.insert(user, (number, hash)) {
            problems.push(format!(
                "line {former}, {user}: the name stands in line {number} again, which counts"
            ));
        }
    }
    let hashes: HashMap<String, PasswordHash> = last
        .into_iter()
        .filter_map(|(user, (_, hash))| Some((user.to_owned(), hash?)))
        .collect();
    let decoys = Decoys::new(hashes.values(), content);
    (Users { hashes, decoys }, problems)
}

/// Name and hash of a line; `None` is a remark or nothing.
fn named(line: &[u8]) -> Result<Option<(&str, &str)>, &'static str> {
    let line = std::str::from_utf8(line).map_err(|_| "is no text in UTF-8")?;
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (user, hash) = line.split_once(':').ok_or("is not NAME:HASH")?;
    match is_user_name(user) {
        true => Ok(Some((user, hash))),
        false => Err("has no name of 1 to 256 bytes without control characters"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hash of "secret" in SHA-512 crypt with 1000 rounds.
    const SHA512: &str = "$6$rounds=1000$salt$HNxBeBnDfSfUrTj6KiLnmd7tGCvHEmcExh8kl/S0cZ5WrCciNZgfhbpkeFQ4JfkHX.8vPq45lY0iINnCx1Lkm.";

    fn bcrypt(cost: u32) -> String {
        bcrypt::hash("secret", cost).unwrap()
    }

    fn names(users: &Users) -> Vec<&str> {
        let mut names: Vec<&str> = users.hashes.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_line_that_cant_be_used_is_left_out_and_named_and_the_others_count() {
        let hash = bcrypt(4);
        let mut text = format!(
            "# people\n\nann:{hash}\r\n  bob:{}  \nbroken\n:{hash}\nmd5:$apr1$a$b\nnone:\nsha:{SHA512}\n",
            hash.replace("$2b$", "$2y$")
        )
        .into_bytes();
        text.extend(b"\xff\xfe:x\n");
        text.extend(format!("carol:{hash}").as_bytes());
        let (users, problems) = read(&text);
        assert_eq!(names(&users), ["ann", "bob", "carol", "sha"]);
        assert_eq!(
            problems,
            [
                "line 5 is not NAME:HASH",
                "line 6 has no name of 1 to 256 bytes without control characters",
                "line 7, md5: its hash is MD5 (apr1), bcrypt is taken: htpasswd -B",
                "line 8, none: it has no hash",
                "line 10 is no text in UTF-8",
            ]
        );
        assert!(problems.iter().all(|problem| !problem.contains(&hash[20..])));
    }

    #[test]
    fn of_a_name_given_twice_the_last_line_counts_whether_or_not_it_can_be_used() {
        let (old, new) = (bcrypt(4), bcrypt(4));
        let text = format!("ann:{old}\nbob:{old}\nann:{new}\nbob:!\n");
        let (users, problems) = read(text.as_bytes());
        assert_eq!(names(&users), ["ann"], "nobody logs in as bob");
        assert_eq!(users.hashes["ann"].as_str(), new);
        assert_eq!(
            problems,
            [
                "line 1, ann: the name stands in line 3 again, which counts",
                "line 4, bob: its hash is of an unknown kind (crypt or none), bcrypt is taken: htpasswd -B",
                "line 2, bob: the name stands in line 4 again, which counts",
            ]
        );
    }

    /// How often each cost is met among names that aren't in the file.
    fn costs(text: &str) -> BTreeMap<String, u64> {
        let (users, _) = read(text.as_bytes());
        let mut costs = BTreeMap::new();
        for n in 0..1000 {
            let decoy = users.decoys.of(&format!("nobody-{n}"));
            assert!(decoy == users.decoys.of(&format!("nobody-{n}")));
            *costs.entry(decoy.as_str()[..7].to_owned()).or_default() += 1;
        }
        costs
    }

    #[test]
    fn an_unknown_name_costs_what_the_files_names_cost() {
        let cheap = bcrypt(4);
        assert_eq!(
            costs(&format!("ann:{cheap}\n")),
            BTreeMap::from([("$2b$04$".to_owned(), 1000)])
        );
        assert_eq!(costs(""), BTreeMap::from([("$2y$10$".to_owned(), 1000)]));
        assert_eq!(costs("ann:!\n"), costs(""));
        let sha = costs(&format!("ann:{SHA512}\nbob:{SHA512}\nann:{SHA512}\n"));
        assert_eq!(sha, BTreeMap::from([("$6$roun".to_owned(), 1000)]));
        // Three of four users have the dearer one.
        let dear = bcrypt(5);
        let mixed = costs(&format!("ann:{cheap}\nbob:{dear}\ncarol:{dear}\ndave:{dear}\n"));
        assert!((150..350).contains(&mixed["$2b$04$"]), "{mixed:?}");
        assert_eq!(mixed["$2b$04$"] + mixed["$2b$05$"], 1000);
    }
}
