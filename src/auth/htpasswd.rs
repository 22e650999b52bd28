//! Names and bcrypt hashes in a file, as `htpasswd -B` writes it.
//!
//! Other hashes (`htpasswd` makes MD5 by default) are refused by name: a file that logs some of its users in would look
//! as if the others had forgotten their passwords.

use std::{collections::HashMap, path::Path};

use async_trait::async_trait;

use super::{
    AuthError, Authenticator, Credentials, Evidence, FileFault, Login, Verdict, Via,
    authenticator::is_user_name,
    hashing::{Hashing, HashingLimits},
    watched::Watched,
};

/// The most costly hash that is taken: 2^16 rounds are some seconds of a processor.
const MAX_COST: u32 = 16;

/// Length of a bcrypt hash: `$2y$10$`, a salt of 22 characters, a hash of 31.
const HASH_BYTES: usize = 60;

pub(super) struct Htpasswd {
    users: Watched<Users>,
    hashing: Hashing,
}

struct Users {
    hashes: HashMap<String, String>,
    /// A hash for names that aren't there, as costly as the costliest of those that are. It is no password's.
    decoy: String,
}

impl Htpasswd {
    pub(super) fn load(file: &Path, limits: HashingLimits) -> Result<Self, FileFault> {
        Ok(Self {
            users: Watched::load(file, users)?,
            hashing: Hashing::new(limits),
        })
    }
}

#[async_trait]
impl Authenticator for Htpasswd {
    async fn authenticate(&self, evidence: &Evidence<'_>) -> Result<Verdict, AuthError> {
        let Credentials::Basic { user, password } = &evidence.credentials else {
            return Ok(Verdict::NotMine);
        };
        let users = self.users.current();
        let known = users.hashes.get(user);
        let hash = known.unwrap_or(&users.decoy);
        let is_equal = self.hashing.is_equal(user, password, hash).await?;
        Ok(match is_equal && known.is_some() {
            true => Verdict::Known(Login {
                user: user.clone(),
                groups: Vec::new(),
                via: Via::Password,
            }),
            false => Verdict::Refused,
        })
    }

    fn look(&self) {
        self.users.look();
    }
}

fn users(content: &[u8]) -> Result<Users, String> {
    let text = std::str::from_utf8(content).map_err(|_| "it is no text in UTF-8".to_owned())?;
    let mut hashes = HashMap::new();
    let mut dearest = 10;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (user, hash) = line
            .split_once(':')
            .ok_or_else(|| format!("line {number} is not NAME:HASH"))?;
        if !is_user_name(user) {
            return Err(format!("line {number} has no name of 1 to 256 bytes"));
        }
        dearest = dearest.max(cost(hash).map_err(|problem| format!("line {number}, {user}: {problem}"))?);
        if hashes.insert(user.to_owned(), hash.to_owned()).is_some() {
            return Err(format!("line {number}: {user} stands twice"));
        }
    }
    let decoy = format!("$2y${dearest:02}${}", ".".repeat(53));
    Ok(Users { hashes, decoy })
}

/// The cost of a bcrypt hash.
fn cost(hash: &str) -> Result<u32, String> {
    let named = |scheme| Err(format!("its hash is {scheme}, only bcrypt is taken: htpasswd -B"));
    match hash {
        "" => return Err("it has no hash".to_owned()),
        _ if hash.starts_with("$apr1$") => return named("MD5 (apr1)"),
        _ if hash.starts_with("$1$") => return named("MD5"),
        _ if hash.starts_with("$5$") => return named("SHA-256 (crypt)"),
        _ if hash.starts_with("$6$") => return named("SHA-512 (crypt)"),
        _ if hash.starts_with("{SHA}") => return named("SHA-1"),
        _ if hash.starts_with("$argon2") => return named("Argon2"),
        _ if !hash.starts_with("$2") => return named("of an unknown kind (crypt or none)"),
        _ => {}
    }
    let parts: Result<bcrypt::HashParts, _> = hash.parse();
    match parts {
        Ok(parts) if hash.len() == HASH_BYTES => match parts.get_cost() {
            cost @ 4..=MAX_COST => Ok(cost),
            cost => Err(format!("its cost is {cost}, expected 4 to {MAX_COST}")),
        },
        Ok(_) | Err(_) => Err("its bcrypt hash is malformed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_bcrypt_hashes_is_read_and_others_are_refused_by_name() {
        let hash = bcrypt::hash("secret", 12).unwrap();
        let read =
            users(format!("# people\n\nann:{hash}\r\nbob:{}\n", hash.replace("$2b$", "$2y$")).as_bytes())
                .unwrap();
        assert_eq!(read.hashes.len(), 2);
        assert!(read.decoy.starts_with("$2y$12$"));
        assert_eq!(cost(&read.decoy), Ok(12), "it is compared like any other");
        assert!(matches!(
            bcrypt::verify("secret", &users(b"").unwrap().decoy),
            Ok(false)
        ));
        for (text, problem) in [
            ("ann", "line 1 is not NAME:HASH"),
            (":x", "line 1 has no name"),
            ("ann:", "line 1, ann: it has no hash"),
            (
                "ann:$apr1$a$b",
                "line 1, ann: its hash is MD5 (apr1), only bcrypt is taken: htpasswd -B",
            ),
            ("\nann:{SHA}x", "line 2, ann: its hash is SHA-1"),
            ("ann:$6$x", "line 1, ann: its hash is SHA-512"),
            ("ann:rl5", "line 1, ann: its hash is of an unknown kind"),
            ("ann:$2y$10$short", "line 1, ann: its bcrypt hash is malformed"),
            (
                &format!("ann:{hash}x"),
                "line 1, ann: its bcrypt hash is malformed",
            ),
            (
                &format!("ann:{}", hash.replace("$12$", "$31$")),
                "line 1, ann: its cost is 31",
            ),
            (&format!("ann:{hash}\nann:{hash}"), "line 2: ann stands twice"),
        ] {
            let found = users(text.as_bytes()).err().unwrap();
            assert!(found.starts_with(problem), "{found}");
            assert!(!found.contains(&hash[20..]), "{found}");
        }
    }
}
