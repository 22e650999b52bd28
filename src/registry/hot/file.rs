//! A blob as a file: its bytes, and then a checksum (CRC-32) of each block of them.
//!
//! The digest is compared once, when the blob comes. From then on each block is compared with its checksum before any of it is given
//! out: so a disk that rots, and a file that a crash left with holes in it, is noticed, and nothing has to be synced.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

use bytes::{Bytes, BytesMut};

/// Bytes of a block: as many as a message between members has at most.
pub(super) const BLOCK: u64 = 256 << 10;

const SUM: usize = size_of::<u32>();

/// Blocks of a blob of `size` bytes.
pub(super) fn blocks(size: u64) -> u64 {
    size.div_ceil(BLOCK)
}

/// Bytes of its file.
pub(super) fn length(size: u64) -> u64 {
    size + blocks(size) * SUM as u64
}

/// Bytes of block `n` of it.
pub(super) fn block_length(size: u64, n: u64) -> usize {
    let left = size.saturating_sub(n * BLOCK);
    usize::try_from(left.min(BLOCK)).unwrap_or(0)
}

/// The checksum of a block, as the file has it.
pub(super) fn sum(block: &[u8]) -> [u8; SUM] {
    crc32fast::hash(block).to_le_bytes()
}

/// Block `n` as it lies there.
pub(super) fn read(file: &File, size: u64, n: u64) -> io::Result<Bytes> {
    let mut block = BytesMut::zeroed(block_length(size, n));
    file.read_exact_at(&mut block, n * BLOCK)?;
    Ok(block.freeze())
}

/// A file that is complete.
#[derive(Debug)]
pub(super) struct Whole {
    file: File,
    size: u64,
    sums: Vec<u8>,
}

impl Whole {
    /// Opens that of a blob of `size` bytes.
    pub(super) fn open(path: &Path, size: u64) -> io::Result<Self> {
        let file = File::open(path)?;
        if file.metadata()?.len() != length(size) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it has another length",
            ));
        }
        let sums = usize::try_from(blocks(size)).unwrap_or(usize::MAX);
        let mut sums = vec![0; sums.saturating_mul(SUM)];
        file.read_exact_at(&mut sums, size)?;
        Ok(Self { file, size, sums })
    }

    /// Block `n`, which is as it was written.
    pub(super) fn block(&self, n: u64) -> io::Result<Bytes> {
        let block = read(&self.file, self.size, n)?;
        let expected = usize::try_from(n)
            .ok()
            .and_then(|n| self.sums.chunks_exact(SUM).nth(n));
        match expected == Some(sum(&block).as_slice()) {
            true => Ok(block),
            false => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a block of it has other bytes than were written",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_that_is_not_as_it_was_written_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blob");
        for size in [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK] {
            let content: Vec<u8> = (0..size).map(|at| (at * 7 % 251) as u8).collect();
            let blocks: Vec<&[u8]> = content.chunks(BLOCK as usize).collect();
            assert_eq!(super::blocks(size), blocks.len() as u64);
            let sums: Vec<u8> = blocks.iter().flat_map(|block| sum(block)).collect();
            let whole = [content.as_slice(), &sums].concat();
            assert_eq!(length(size), whole.len() as u64);
            fs::write(&path, &whole).unwrap();
            let opened = Whole::open(&path, size).unwrap();
            for (n, block) in blocks.iter().enumerate() {
                assert_eq!(opened.block(n as u64).unwrap(), block);
            }
            for wrong in [size - 1, size + 1, size + BLOCK] {
                assert!(Whole::open(&path, wrong).is_err(), "{wrong}");
            }
            let last = blocks.len() as u64 - 1;
            for at in [size - 1, whole.len() as u64 - 1] {
                let mut rotten = whole.clone();
                rotten[at as usize] ^= 1;
                fs::write(&path, &rotten).unwrap();
                let error = Whole::open(&path, size).unwrap().block(last).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            }
            // As after a crash: the length is there, the bytes aren't.
            fs::write(&path, vec![0; whole.len()]).unwrap();
            assert!(Whole::open(&path, size).unwrap().block(0).is_err());
        }
    }
}
