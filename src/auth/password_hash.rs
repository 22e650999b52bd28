//! Hashes of passwords, as files of passwords hold them: bcrypt (`htpasswd -B`), SHA-256 and SHA-512 crypt
//! (`mkpasswd -m sha-512`, `openssl passwd -6`). The same that zot takes.
//!
//! Deliberately absent: MD5 and SHA-1, which `htpasswd` makes by default: who has the file has the passwords.

use sha_crypt::{PasswordHashRef, PasswordVerifier as _, ShaCrypt};

/// The most costly bcrypt hash that is taken: 2^16 rounds are some seconds of a processor.
const MAX_COST: u32 = 16;

/// The most costly SHA crypt hash that is taken, and the least costly that there is.
const MAX_ROUNDS: u32 = 5_000_000;
const MIN_ROUNDS: u32 = 1_000;

/// The longest password that is compared with a SHA crypt hash, in bytes: each costs time in every round. (Of a longer one
/// bcrypt reads the first 72.)
const MAX_SHA_CRYPT_PASSWORD: usize = 256;

/// Length of a bcrypt hash: `$2y$10$`, a salt of 22 characters, a hash of 31.
const BCRYPT_BYTES: usize = 60;

/// A hash that a password can be compared with. It has no `Debug`: nothing may write it anywhere.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PasswordHash {
    text: String,
    scheme: Scheme,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Scheme {
    Bcrypt,
    ShaCrypt,
}

impl PasswordHash {
    /// Reads a hash; what is wrong with it is said without it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let named = |scheme| Err(format!("its hash is {scheme}, bcrypt is taken: htpasswd -B"));
        let scheme = match text {
            "" => return Err("it has no hash".to_owned()),
            _ if text.starts_with("$apr1$") => return named("MD5 (apr1)"),
            _ if text.starts_with("$1$") => return named("MD5"),
            _ if text.starts_with("{SHA}") => return named("SHA-1"),
            _ if text.starts_with("$argon2") => return named("Argon2"),
            _ if text.starts_with("$5$") => {
                is_sha_crypt(text, 43)?;
                Scheme::ShaCrypt
            }
            _ if text.starts_with("$6$") => {
                is_sha_crypt(text, 86)?;
                Scheme::ShaCrypt
            }
            _ if text.starts_with("$2") => {
                is_bcrypt(text)?;
                Scheme::Bcrypt
            }
            _ => return named("of an unknown kind (crypt or none)"),
        };
        Ok(Self {
            text: text.to_owned(),
            scheme,
        })
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it was made of `password`. Slow, on purpose.
    pub(super) fn is_of(&self, password: &str) -> bool {
        match self.scheme {
            // What can't be compared is a password that bcrypt doesn't take.
            Scheme::Bcrypt => bcrypt::verify(password, &self.text).unwrap_or(false),
            Scheme::ShaCrypt => {
                let bytes = password.as_bytes();
                let compared = bytes.get(..MAX_SHA_CRYPT_PASSWORD).unwrap_or(bytes);
                let is_equal = ShaCrypt::default().verify_password(compared, &*self.text);
                is_equal.is_ok() && compared.len() == bytes.len()
            }
        }
    }

    /// One that takes as long to compare, and that is no password's.
    pub(super) fn decoy(&self) -> Self {
        // Beside scheme and cost it has salt and hash.
        let of_cost = match self.scheme {
            Scheme::Bcrypt => 2,
            Scheme::ShaCrypt if self.text.contains("$rounds=") => 2,
            Scheme::ShaCrypt => 1,
        };
        let mut dollars = 0;
        let blank = |c: char| {
            dollars += usize::from(c == '$');
            if dollars > of_cost && c != '$' { '.' } else { c }
        };
        Self {
            text: self.text.chars().map(blank).collect(),
            scheme: self.scheme,
        }
    }
}

fn is_bcrypt(text: &str) -> Result<(), String> {
    let parts: Result<bcrypt::HashParts, _> = text.parse();
    match parts {
        Ok(parts) if text.len() == BCRYPT_BYTES => match parts.get_cost() {
            4..=MAX_COST => Ok(()),
            cost => Err(format!("its cost is {cost}, expected 4 to {MAX_COST}")),
        },
        Ok(_) | Err(_) => Err("its bcrypt hash is malformed".to_owned()),
    }
}

/// `$5$rounds=5000$salt$hash`, with `rounds` only where they aren't 5000.
fn is_sha_crypt(text: &str, hash_characters: usize) -> Result<(), String> {
    let malformed = || "its SHA crypt hash is malformed".to_owned();
    let fields: Vec<&str> = text.split('$').skip(2).collect();
    let (rounds, hash) = match *fields.as_slice() {
        [_, hash] => (None, hash),
        [rounds, _, hash] => (Some(rounds.strip_prefix("rounds=").ok_or_else(malformed)?), hash),
        _ => return Err(malformed()),
    };
    if hash.len() != hash_characters || PasswordHashRef::new(text).is_err() {
        return Err(malformed());
    }
    match rounds.map(str::parse) {
        None | Some(Ok(MIN_ROUNDS..=MAX_ROUNDS)) => Ok(()),
        Some(_) => Err(format!(
            "its hash has other rounds than {MIN_ROUNDS} to {MAX_ROUNDS}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> PasswordHash {
        PasswordHash::parse(text).unwrap()
    }

    /// As `openssl passwd -5` and `-6` make them: examples of U. Drepper's specification of SHA crypt.
    /// The last two are Apache's: `htpasswd -nb5` and `-nb2 -r 10000`.
    const SHA_CRYPT: [(&str, &str); 8] = [
        (
            "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5",
            "Hello world!",
        ),
        (
            "$5$rounds=10000$saltstringsaltst$3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA",
            "Hello world!",
        ),
        (
            "$5$rounds=1400$anotherlongsalts$Rx.j8H.h8HjEDGomFU8bDkXm3XIUnzyxf12oP84Bnq1",
            "a very much longer text to encrypt.  This one even stretches over morethan one line.",
        ),
        (
            "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
            "Hello world!",
        ),
        (
            "$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v.",
            "Hello world!",
        ),
        (
            "$6$rounds=1400$anotherlongsalts$POfYwTEok97VWcjxIiSOjiykti.o/pQs.wPvMxQ6Fm7I6IoYN3CmLs66x9t0oSwbtEW7o7UmJEiDwGqd8p4ur1",
            "a very much longer text to encrypt.  This one even stretches over morethan one line.",
        ),
        (
            "$6$I9cjFUHDRt88F2sY$KbSUs7zGAmah2Xr2bYvU8Z9.7e1CJEtIZZ6AOXGdAWWq0G.zcXhW/4XLwg3io3pyTBQ9yFlNGjpEy1b8chRmc0",
            "secret",
        ),
        (
            "$5$rounds=10000$DC0rQ6UEtWGRkCdD$4q9vDhQbb2KGCvtsc3YOYdfplVAN1.VzYFqt8mP7f0C",
            "secret",
        ),
    ];

    #[test]
    fn each_kind_is_of_its_password_alone() {
        let (bcrypt, other) = (
            bcrypt::hash("secret", 4).unwrap(),
            bcrypt::hash("secret", 4).unwrap(),
        );
        let php = other.replace("$2b$", "$2y$");
        let all = SHA_CRYPT
            .into_iter()
            .chain([(&*bcrypt, "secret"), (&*php, "secret")]);
        for (text, password) in all {
            let hash = parse(text);
            assert!(hash.is_of(password), "{text}");
            assert!(!hash.is_of("") && !hash.is_of(&password[1..]), "{text}");
            assert!(!hash.is_of(&format!("{password} ")), "{text}");
        }
    }

    #[test]
    fn a_decoy_costs_the_same_and_is_of_no_password() {
        let bcrypt = bcrypt::hash("secret", 5).unwrap();
        for (text, password, cost) in [
            (&*bcrypt, "secret", "$2b$05$.........."),
            (SHA_CRYPT[0].0, SHA_CRYPT[0].1, "$5$..........$....."),
            (
                SHA_CRYPT[4].0,
                SHA_CRYPT[4].1,
                "$6$rounds=10000$................$.....",
            ),
        ] {
            let decoy = parse(text).decoy();
            assert!(decoy.text.starts_with(cost), "{}", decoy.text);
            assert_eq!(decoy.text.len(), text.len());
            assert!(!decoy.is_of(password) && !decoy.is_of(""));
            assert!(parse(&decoy.text) == decoy, "it is compared like any other");
        }
    }

    #[test]
    fn a_long_password_is_not_cut() {
        let long = "x".repeat(MAX_SHA_CRYPT_PASSWORD);
        // `openssl passwd -6 -salt 'rounds=1000$salt'` of it.
        let hash = parse(
            "$6$rounds=1000$salt$bTPhDFkwoWwIyHisL/ytaelkk8IDQvxSOiIkor.XUoZDFz7XSKYBt4C1PrTWt..mGFFGRPcEwLhz/OiNbIFBL0",
        );
        assert!(hash.is_of(&long));
        assert!(!hash.is_of(&format!("{long}x")) && !hash.is_of(&long[1..]));
    }

    #[test]
    fn others_are_refused_by_name_and_without_the_hash() {
        let hash = bcrypt::hash("secret", 4).unwrap();
        for (text, problem) in [
            ("", "it has no hash"),
            (
                "$apr1$a$b",
                "its hash is MD5 (apr1), bcrypt is taken: htpasswd -B",
            ),
            ("$1$a$b", "its hash is MD5"),
            ("{SHA}x", "its hash is SHA-1"),
            ("$argon2id$v=19$x", "its hash is Argon2"),
            ("rl5", "its hash is of an unknown kind"),
            ("!", "its hash is of an unknown kind"),
            ("$2y$10$short", "its bcrypt hash is malformed"),
            (&format!("{hash}x"), "its bcrypt hash is malformed"),
            (&hash.replace("$04$", "$31$"), "its cost is 31"),
            ("$6$x", "its SHA crypt hash is malformed"),
            ("$5$salt$short", "its SHA crypt hash is malformed"),
            (
                &SHA_CRYPT[0].0.replace("$5$", "$6$"),
                "its SHA crypt hash is malformed",
            ),
            (
                &SHA_CRYPT[0].0.replace("$5$", "$5$x=1$"),
                "its SHA crypt hash is malformed",
            ),
            (
                &SHA_CRYPT[0].0.replace("5B8v", "5B8!"),
                "its SHA crypt hash is malformed",
            ),
            (
                &SHA_CRYPT[1].0.replace("10000", "999"),
                "its hash has other rounds than 1000 to 5000000",
            ),
            (
                &SHA_CRYPT[1].0.replace("10000", "5000001"),
                "its hash has other rounds",
            ),
            (
                &SHA_CRYPT[1].0.replace("10000", "99999999999"),
                "its hash has other rounds",
            ),
        ] {
            let found = PasswordHash::parse(text).err().unwrap();
            assert!(found.starts_with(problem), "{text}: {found}");
            assert!(
                text.len() < 20 || !found.contains(&text[text.len() - 9..]),
                "{found}"
            );
        }
    }
}
