//! What a server says of itself, and whether it keeps what it acknowledges.
//!
//! Checked with each connection: a server may have been started anew with other settings, or be another one.

use std::collections::BTreeMap;

use super::{error::RedisError, protocol::Answer};
use crate::config::Durability;

/// The oldest release that is tested. Before it, a server may refuse a script after its first write.
const OLDEST: u64 = 7;

/// The settings that are asked for.
pub(super) const ASKED: [&str; 4] = [
    "appendonly",
    "appendfsync",
    "no-appendfsync-on-rewrite",
    "min-replicas-to-write",
];
/// What the first three must be.
const KEPT: [(&str, &str); 3] = [
    ("appendonly", "yes"),
    ("appendfsync", "always"),
    ("no-appendfsync-on-rewrite", "no"),
];
const REPLICAS: &str = "min-replicas-to-write";
const OR_RELAXED: &str = ", or accept that by storage.cacheDriver.durability: relaxed";

/// A server that may be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sound {
    /// This process of it, as it calls itself.
    pub(super) run: String,
    /// So many replicas must have a write before it counts.
    pub(super) replicas: u64,
}

/// What is asked of it.
pub(super) struct Wanted<'a> {
    pub(super) server: &'a str,
    pub(super) durability: Durability,
    /// How many replicas it has by its Sentinels; `None` without.
    pub(super) sentinels: Option<u64>,
}

/// Judges a server by its answers to `INFO` and to `CONFIG GET` of [`ASKED`].
pub(super) fn judge(wanted: &Wanted<'_>, info: &str, config: &Answer) -> Result<Sound, RedisError> {
    let info: BTreeMap<&str, &str> = info.lines().filter_map(|line| line.split_once(':')).collect();
    let of = |name: &str| info.get(name).copied().unwrap_or_default().to_owned();
    let version = of("redis_version");
    let major = version.split('.').next().unwrap_or_default();
    // Valkey's word and Redis's.
    let mode = of("server_mode") + &of("redis_mode");
    if mode != "standalone" {
        return Err(RedisError::Mode { mode });
    }
    if major.parse::<u64>().is_ok_and(|major| major < OLDEST) {
        return Err(RedisError::Old { version });
    }
    if of("role") != "master" {
        let server = wanted.server.to_owned();
        return Err(RedisError::Replica { server });
    }
    let unsafe_setting = |setting, value: String, wanted: String, alternative| RedisError::Unsafe {
        setting,
        value,
        wanted,
        alternative,
    };
    // The rows of a space are one key: what is evicted is a table.
    let policy = of("maxmemory_policy");
    if policy != "noeviction" {
        let wanted = "noeviction".to_owned();
        return Err(unsafe_setting("maxmemory-policy", policy, wanted, ""));
    }
    let attached = of("connected_slaves").parse().unwrap_or(0);
    let replicas = match (settings(config), wanted.durability) {
        (Ok(settings), durability) => {
            let of = |name: &str| settings.get(name).cloned().unwrap_or_default();
            if durability == Durability::Strict
                && let Some((setting, good)) = KEPT.into_iter().find(|(setting, good)| of(setting) != *good)
            {
                return Err(unsafe_setting(setting, of(setting), good.to_owned(), OR_RELAXED));
            }
            of(REPLICAS).parse().unwrap_or(0)
        }
        (Err(said), Durability::Strict) => return Err(RedisError::Unknown { said }),
        (Err(_), Durability::Relaxed) => 0,
    };
    // More than half of all have what counts, so never do two servers take writes that count.
    let all = wanted.sentinels.unwrap_or(0).max(attached);
    let majority = all.div_ceil(2).max(1);
    let alternative = match (wanted.sentinels, wanted.durability) {
        (Some(_), _) => "",
        (None, Durability::Strict) if all > 0 => OR_RELAXED,
        (None, _) => {
            return Ok(Sound {
                run: of("run_id"),
                replicas,
            });
        }
    };
    if replicas < majority {
        let wanted = format!("{majority} or more, for {all} replicas");
        return Err(unsafe_setting(
            REPLICAS,
            replicas.to_string(),
            wanted,
            alternative,
        ));
    }
    Ok(Sound {
        run: of("run_id"),
        replicas,
    })
}

/// Names and values by turns; what the server says where it doesn't tell.
fn settings(config: &Answer) -> Result<BTreeMap<String, String>, String> {
    match config {
        Answer::List(words) => {
            let words: Vec<String> = words.iter().filter_map(Answer::text).collect();
            let (pairs, _) = words.as_chunks::<2>();
            let pairs = pairs.iter().map(|[name, value]| (name.clone(), value.clone()));
            match pairs.collect::<BTreeMap<_, _>>() {
                pairs if pairs.len() < ASKED.len() => Err("it tells only some settings".to_owned()),
                pairs => Ok(pairs),
            }
        }
        Answer::Refusal(said) => Err(said.clone()),
        Answer::Nil | Answer::Number(_) | Answer::Text(_) => Err("another answer".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const INFO: &str = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nrun_id:abc\r\nrole:master\r\n\
                        connected_slaves:0\r\nmaxmemory_policy:noeviction\r\n";

    fn config(values: [&'static str; 4]) -> Answer {
        let words = ASKED
            .into_iter()
            .zip(values)
            .flat_map(|(name, value)| [name, value]);
        Answer::List(
            words
                .map(|word| Answer::Text(Bytes::from_static(word.as_bytes())))
                .collect(),
        )
    }

    fn judged(
        info: &str,
        config: &Answer,
        durability: Durability,
        sentinels: Option<u64>,
    ) -> Result<u64, String> {
        let wanted = Wanted {
            server: "db:6379",
            durability,
            sentinels,
        };
        let sound = judge(&wanted, info, config).map_err(|error| error.to_string())?;
        assert_eq!(sound.run, "abc");
        Ok(sound.replicas)
    }

    #[test]
    fn a_server_is_judged_by_what_it_says() {
        use Durability::{Relaxed, Strict};
        const GOOD: [&str; 4] = ["yes", "always", "no", "0"];
        let with = |at: usize, value: &'static str| {
            let mut values = GOOD;
            values[at] = value;
            config(values)
        };
        let good = config(GOOD);
        let info = |from: &str, to: &str| INFO.replace(from, to);
        let following = |n: u64| info("slaves:0", &format!("slaves:{n}"));
        let forbidden = Answer::Refusal("NOPERM no".to_owned());
        assert_eq!(judged(INFO, &good, Strict, None), Ok(0));
        let valkey = info("redis_mode", "server_mode");
        assert_eq!(judged(&valkey, &good, Strict, None), Ok(0));
        assert_eq!(judged(INFO, &with(1, "everysec"), Relaxed, None), Ok(0));
        assert_eq!(judged(INFO, &forbidden, Relaxed, None), Ok(0));
        assert_eq!(judged(&following(2), &with(3, "1"), Strict, None), Ok(1));
        assert_eq!(judged(&following(2), &with(3, "1"), Relaxed, Some(2)), Ok(1));
        for (info, config, durability, sentinels, word) in [
            (
                INFO.to_owned(),
                &with(0, "no"),
                Strict,
                None,
                "appendonly is no, ",
            ),
            (
                INFO.to_owned(),
                &with(1, "everysec"),
                Strict,
                None,
                "set it to always, or accept",
            ),
            (
                INFO.to_owned(),
                &with(2, "yes"),
                Strict,
                None,
                "no-appendfsync-on-rewrite is yes",
            ),
            (INFO.to_owned(), &forbidden, Strict, None, "NOPERM no"),
            (following(1), &good, Strict, None, "min-replicas-to-write is 0"),
            (
                following(3),
                &with(3, "1"),
                Strict,
                None,
                "2 or more, for 3 replicas, or accept",
            ),
            (following(0), &good, Relaxed, Some(2), "1 or more, for 2 replicas"),
            (
                info("noeviction", "allkeys-lru"),
                &good,
                Relaxed,
                None,
                "maxmemory-policy is allkeys-lru",
            ),
            (
                info("master", "slave"),
                &good,
                Relaxed,
                None,
                "db:6379 is a replica",
            ),
            (
                info("standalone", "cluster"),
                &good,
                Relaxed,
                None,
                "cluster mode",
            ),
            (info("7.0.15", "6.2.14"), &good, Relaxed, None, "Redis 6.2.14"),
        ] {
            let said = judged(&info, config, durability, sentinels).unwrap_err();
            assert!(said.contains(word), "{said}");
        }
    }
}
