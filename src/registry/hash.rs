//! A running digest whose state can be kept in a row and carried on by another member, another release, or another
//! library: it is FIPS 180-4's own state, not a library's.
//!
//! Deliberately absent: finding out which algorithm is meant, and when to hash ([`Hashing`] does the latter).

use bytes::Bytes;
use sha2::{
    Digest as _, Sha256, Sha512,
    digest::common::hazmat::{SerializableState, SerializedState},
};
use tokio::task::JoinHandle;

use super::{Result, row};
use crate::{
    oci::{Algorithm, Digest},
    storage::rows::{self, DigestAlgorithm},
};

/// A digest over the bytes so far.
#[derive(Clone, Debug)]
pub(super) enum Hasher {
    /// SHA-256.
    Sha256(Sha256),
    /// SHA-512.
    Sha512(Sha512),
}

impl Hasher {
    /// Over no bytes.
    pub(super) fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Sha512::new()),
        }
    }

    /// What it gives.
    pub(super) fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// Adds bytes.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// The digest.
    pub(super) fn digest(self) -> Result<Digest> {
        let algorithm = self.algorithm();
        let hash = match self {
            Self::Sha256(hasher) => hasher.finalize().to_vec(),
            Self::Sha512(hasher) => hasher.finalize().to_vec(),
        };
        Digest::from_bytes(algorithm, &hash).map_err(|error| row::corrupt("end a digest", error))
    }

    /// The state as a row holds it.
    pub(super) fn save(&self) -> rows::HashState {
        match self {
            Self::Sha256(hasher) => {
                let (words, blocks, rest) = take_apart::<4>(&hasher.serialize(), 8);
                state(DigestAlgorithm::Sha256, words, blocks * 64, rest)
            }
            Self::Sha512(hasher) => {
                let (words, blocks, rest) = take_apart::<8>(&hasher.serialize(), 16);
                state(DigestAlgorithm::Sha512, words, blocks * 128, rest)
            }
        }
    }

    /// Goes on from a saved state; one that isn't a state is corruption.
    pub(super) fn restore(state: &rows::HashState) -> Result<Self> {
        let restored = match state.algorithm() {
            DigestAlgorithm::Sha256 => put_together::<4, Sha256>(state, 8, 64).map(Self::Sha256),
            DigestAlgorithm::Sha512 => put_together::<8, Sha512>(state, 16, 128).map(Self::Sha512),
            DigestAlgorithm::Unspecified => None,
        };
        restored.ok_or_else(|| row::corrupt("restore a digest's state", "not a state"))
    }
}

fn state(algorithm: DigestAlgorithm, words: Vec<u64>, compressed: u64, rest: Vec<u8>) -> rows::HashState {
    rows::HashState {
        algorithm: algorithm.into(),
        words,
        compressed,
        rest: rest.into(),
    }
}

// What sha2 0.11 serialises: eight words of WORD bytes, the number of compressed blocks in `counter` bytes, how many
// bytes wait for a whole block in one byte, these bytes, and zeros up to the length of a block. Numbers are
// little-endian. The tests would notice if another version meant something else.

fn take_apart<const WORD: usize>(serialized: &[u8], counter: usize) -> (Vec<u64>, u64, Vec<u8>) {
    let (words, serialized) = serialized.split_at(8 * WORD);
    let (blocks, serialized) = serialized.split_at(counter);
    let (waiting, rest) = serialized.split_at(1);
    let rest = waiting
        .iter()
        .flat_map(|waiting| rest.iter().take(usize::from(*waiting)))
        .copied()
        .collect();
    (
        words.chunks_exact(WORD).map(little_endian).collect(),
        little_endian(blocks),
        rest,
    )
}

fn put_together<const WORD: usize, H: SerializableState>(
    state: &rows::HashState,
    counter: usize,
    block: usize,
) -> Option<H> {
    let fits = |word: &u64| WORD == 8 || u32::try_from(*word).is_ok();
    if state.words.len() != 8 || !state.words.iter().all(fits) || state.rest.len() >= block {
        return None;
    }
    let block_length = block as u64;
    if !state.compressed.is_multiple_of(block_length) {
        return None;
    }
    let mut serialized = Vec::new();
    for word in &state.words {
        serialized.extend_from_slice(&word.to_le_bytes()[..WORD]);
    }
    serialized.extend_from_slice(&u128::from(state.compressed / block_length).to_le_bytes()[..counter]);
    serialized.push(u8::try_from(state.rest.len()).ok()?);
    serialized.extend_from_slice(&state.rest);
    serialized.resize(8 * WORD + counter + block, 0);
    let serialized = SerializedState::<H>::try_from(serialized.as_slice()).ok()?;
    H::deserialize(&serialized).ok()
}

/// The number whose little-endian bytes these are; what lies beyond 64 bits is zero in any real state.
fn little_endian(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .take(8)
        .rev()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Hashes beside the I/O: in batches on a thread that may block, one after the other, while more is received.
#[derive(Debug)]
pub(super) struct Hashing {
    // None only while the batch at work has it.
    hasher: Option<Hasher>,
    at_work: Option<JoinHandle<Hasher>>,
    waiting: Vec<Bytes>,
    waiting_bytes: usize,
}

impl Hashing {
    /// Bytes that are hashed in one go.
    const BATCH: usize = 1 << 20;
    /// So few aren't worth another thread.
    const FEW: usize = 64 << 10;

    /// Goes on with `hasher`.
    pub(super) fn new(hasher: Hasher) -> Self {
        Self {
            hasher: Some(hasher),
            at_work: None,
            waiting: Vec::new(),
            waiting_bytes: 0,
        }
    }

    /// Adds bytes. Waits only when a whole batch waits behind the one that is hashed.
    pub(super) async fn update(&mut self, bytes: Bytes) -> Result<()> {
        self.waiting_bytes += bytes.len();
        self.waiting.push(bytes);
        match self.waiting_bytes >= Self::BATCH {
            true => self.hash_waiting().await,
            false => Ok(()),
        }
    }

    /// Begins to hash what waits, so that it needn't be kept.
    pub(super) async fn hash_waiting(&mut self) -> Result<()> {
        let mut hasher = self.settled().await?;
        let batch = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        self.at_work = Some(tokio::task::spawn_blocking(move || {
            batch.iter().for_each(|bytes| hasher.update(bytes));
            hasher
        }));
        Ok(())
    }

    /// The state over all bytes that were added.
    pub(super) async fn finish(mut self) -> Result<Hasher> {
        let mut hasher = self.settled().await?;
        let batch = self.waiting;
        if self.waiting_bytes > Self::FEW {
            let rest = tokio::task::spawn_blocking(move || {
                batch.iter().for_each(|bytes| hasher.update(bytes));
                hasher
            });
            return rest.await.map_err(|error| row::corrupt("hash", error));
        }
        batch.iter().for_each(|bytes| hasher.update(bytes));
        Ok(hasher)
    }

    /// The state once the batch at work is done.
    async fn settled(&mut self) -> Result<Hasher> {
        let settled = match self.at_work.take() {
            Some(at_work) => Some(at_work.await.map_err(|error| row::corrupt("hash", error))?),
            None => self.hasher.take(),
        };
        settled.ok_or_else(|| row::corrupt("hash", "a former batch failed"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hashed(algorithm: Algorithm, bytes: &[u8]) -> Hasher {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher
    }

    #[test]
    fn the_words_of_an_empty_state_are_the_standards() {
        let state = Hasher::new(Algorithm::Sha256).save();
        let initial = [
            0x6a09_e667,
            0xbb67_ae85,
            0x3c6e_f372,
            0xa54f_f53a,
            0x510e_527f,
            0x9b05_688c,
            0x1f83_d9ab,
            0x5be0_cd19,
        ];
        assert_eq!(state.words, initial);
        assert_eq!((state.compressed, state.rest.len()), (0, 0));
        let state = Hasher::new(Algorithm::Sha512).save();
        assert_eq!(state.words.first(), Some(&0x6a09_e667_f3bc_c908));
        assert_eq!(state.words.last(), Some(&0x5be0_cd19_137e_2179));
    }

    #[test]
    fn the_words_after_a_padded_message_are_its_digest() {
        // "abc", padded by hand as the standard says: then the chaining values are the digest.
        let mut block = b"abc\x80".to_vec();
        block.resize(63, 0);
        block.push(24);
        let state = hashed(Algorithm::Sha256, &block).save();
        let words: String = state.words.iter().map(|word| format!("{word:08x}")).collect();
        assert_eq!(
            words,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!((state.compressed, state.rest.len()), (64, 0));

        let mut block = b"abc\x80".to_vec();
        block.resize(127, 0);
        block.push(24);
        block.extend_from_slice(b"rest");
        let state = hashed(Algorithm::Sha512, &block).save();
        let words: String = state.words.iter().map(|word| format!("{word:016x}")).collect();
        assert_eq!(
            words,
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
             2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
        );
        assert_eq!((state.compressed, &state.rest[..]), (128, b"rest".as_slice()));
    }

    #[test]
    fn a_state_that_is_none_is_corruption() {
        let whole = hashed(Algorithm::Sha256, &[7; 100]).save();
        let broken = [
            rows::HashState {
                words: vec![0; 7],
                ..whole.clone()
            },
            rows::HashState {
                words: vec![u64::MAX; 8],
                ..whole.clone()
            },
            rows::HashState {
                rest: vec![0; 64].into(),
                ..whole.clone()
            },
            rows::HashState {
                compressed: 63,
                ..whole.clone()
            },
            rows::HashState {
                algorithm: 0,
                ..whole.clone()
            },
            rows::HashState {
                algorithm: 9,
                ..whole.clone()
            },
        ];
        assert!(Hasher::restore(&whole).is_ok());
        assert!(broken.iter().all(|state| Hasher::restore(state).is_err()));
    }

    #[tokio::test]
    async fn batches_give_the_same_digest() {
        let content: Vec<u8> = (0..5_000_000_u32).map(|n| (n % 251) as u8).collect();
        for length in [
            0,
            1,
            Hashing::FEW,
            Hashing::FEW + 1,
            Hashing::BATCH,
            content.len(),
        ] {
            let mut hashing = Hashing::new(Hasher::new(Algorithm::Sha256));
            for chunk in content[..length].chunks(300_001) {
                hashing.update(Bytes::copy_from_slice(chunk)).await.unwrap();
            }
            let digest = hashing.finish().await.unwrap().digest().unwrap();
            assert_eq!(digest, Digest::of(Algorithm::Sha256, &content[..length]));
        }
    }

    proptest! {
        #[test]
        fn saving_and_restoring_anywhere_changes_nothing(
            content in proptest::collection::vec(any::<u8>(), 0..2000),
            cuts in proptest::collection::vec(0..2000_usize, 0..6),
            wide: bool,
        ) {
            let algorithm = if wide { Algorithm::Sha512 } else { Algorithm::Sha256 };
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(content.len())).collect();
            cuts.sort_unstable();
            cuts.push(content.len());
            let (mut hasher, mut done) = (Hasher::new(algorithm), 0);
            for cut in cuts {
                hasher.update(&content[done..cut]);
                done = cut;
                let saved = hasher.save();
                prop_assert_eq!(saved.compressed + saved.rest.len() as u64, done as u64);
                hasher = Hasher::restore(&saved).unwrap();
            }
            prop_assert_eq!(hasher.digest().unwrap(), Digest::of(algorithm, &content));
        }
    }
}
