//! Double SHA-256 over bytes that stay where they are; it must never copy more than the ends of what it hashes.
//!
//! The compression function uses the processor's SHA instructions where there are any.

use crate::bitcoin::derive::{SHA256_START, digest_bytes};
use sha2::block_api::compress256;

/// Bytes of a SHA-256 block.
const BLOCK_SIZE: usize = 64;

/// SHA-256 of the concatenation of up to three pieces, of which the middle one may be long.
struct Pieces {
    state: [u32; 8],
    buffer: [u8; BLOCK_SIZE],
    filled: usize,
    total: u64,
}

impl Pieces {
    fn new() -> Pieces {
        Pieces { state: SHA256_START, buffer: [0; BLOCK_SIZE], filled: 0, total: 0 }
    }

    fn add(&mut self, mut bytes: &[u8]) {
        self.total += bytes.len() as u64;
        if self.filled > 0 {
            let (head, rest) = bytes.split_at(bytes.len().min(BLOCK_SIZE - self.filled));
            self.buffer[self.filled..self.filled + head.len()].copy_from_slice(head);
            self.filled += head.len();
            bytes = rest;
            if self.filled < BLOCK_SIZE {
                return;
            }
            compress256(&mut self.state, &[self.buffer]);
            self.filled = 0;
        }
        let (blocks, tail) = bytes.as_chunks::<BLOCK_SIZE>();
        if !blocks.is_empty() {
            compress256(&mut self.state, blocks);
        }
        self.buffer[..tail.len()].copy_from_slice(tail);
        self.filled = tail.len();
    }

    fn finish(mut self) -> [u8; 32] {
        let bits = self.total * 8;
        let mut last = [[0u8; BLOCK_SIZE]; 2];
        last[0][..self.filled].copy_from_slice(&self.buffer[..self.filled]);
        last[0][self.filled] = 0x80;
        let count = if self.filled < 56 { 1 } else { 2 };
        last[count - 1][56..].copy_from_slice(&bits.to_be_bytes());
        compress256(&mut self.state, &last[..count]);
        digest_bytes(&self.state)
    }
}

/// SHA-256 of a digest: one compression.
fn hash_digest(digest: &[u8; 32]) -> [u8; 32] {
    let mut block = [0u8; BLOCK_SIZE];
    block[..32].copy_from_slice(digest);
    block[32] = 0x80;
    block[62] = 1;
    let mut state = SHA256_START;
    compress256(&mut state, &[block]);
    digest_bytes(&state)
}

/// Double SHA-256 of the concatenation of these pieces.
pub(crate) fn double_sha256(pieces: &[&[u8]]) -> [u8; 32] {
    let mut hash = Pieces::new();
    for piece in pieces {
        hash.add(piece);
    }
    hash_digest(&hash.finish())
}

/// Double SHA-256 of exactly 64 bytes: an inner node of a merkle tree.
pub(crate) fn double_sha256_pair(pair: &[[u8; 32]; 2]) -> [u8; 32] {
    let mut blocks = [[0u8; BLOCK_SIZE]; 2];
    blocks[0][..32].copy_from_slice(&pair[0]);
    blocks[0][32..].copy_from_slice(&pair[1]);
    blocks[1][0] = 0x80;
    blocks[1][62] = 2;
    let mut state = SHA256_START;
    compress256(&mut state, &blocks);
    hash_digest(&digest_bytes(&state))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::hashes::{Hash, sha256d};

    #[test]
    fn pieces_of_every_length_hash_like_the_library() {
        let bytes: Vec<u8> = (0..400u32).map(|number| (number * 31 >> 3) as u8).collect();
        for length in 0..bytes.len() {
            let expected = sha256d::Hash::hash(&bytes[..length]).to_byte_array();
            for first in [0, 1, 4, 63, 64, 65, 130] {
                let first = first.min(length);
                let second = (first + 130).min(length);
                let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..length]];
                assert_eq!(double_sha256(&pieces), expected, "{length} {first}");
            }
        }
    }

    #[test]
    fn pairs_hash_like_the_library() {
        let pair = [[7; 32], [200; 32]];
        assert_eq!(double_sha256_pair(&pair), sha256d::Hash::hash(&pair.concat()).to_byte_array());
    }
}
