//! Double SHA-256 over bytes that stay where they are; it must never copy more than the ends of what it hashes.
//!
//! The compression function uses the processor's SHA instructions where there are any.

use crate::bitcoin::derive::{SHA256_START, digest_bytes};
use sha2::block_api::compress256;

/// Bytes of a SHA-256 block.
const BLOCK_SIZE: usize = 64;

/// The end of a message: fewer than 64 bytes, four more, and the padding for a message of `total` bytes.
#[inline]
fn finish(mut state: [u32; 8], tail: &[u8], last: &[u8; 4], total: usize) -> [u8; 32] {
    let mut blocks = [[0u8; BLOCK_SIZE]; 2];
    let bytes = blocks.as_flattened_mut();
    let size = tail.len() + last.len();
    bytes[..tail.len()].copy_from_slice(tail);
    bytes[tail.len()..size].copy_from_slice(last);
    bytes[size] = 0x80;
    // The length takes the last eight bytes of a block.
    let count = if size < BLOCK_SIZE - 8 { 1 } else { 2 };
    blocks[count - 1][BLOCK_SIZE - 8..].copy_from_slice(&(8 * total as u64).to_be_bytes());
    compress256(&mut state, &blocks[..count]);
    digest_bytes(&state)
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

/// Double SHA-256 of `body` and then `last`: a transaction without witnesses.
#[inline]
pub(crate) fn double_sha256(body: &[u8], last: &[u8; 4]) -> [u8; 32] {
    let (blocks, tail) = body.as_chunks::<BLOCK_SIZE>();
    let mut state = SHA256_START;
    compress256(&mut state, blocks);
    hash_digest(&finish(state, tail, last, body.len() + 4))
}

/// Double SHA-256 of `first`, `body` and `last`: a transaction whose witnesses and marker are left out.
#[inline]
pub(crate) fn double_sha256_around(first: &[u8; 4], body: &[u8], last: &[u8; 4]) -> [u8; 32] {
    let Some((head, rest)) = body.split_first_chunk::<{ BLOCK_SIZE - 4 }>() else {
        let mut whole = [0u8; BLOCK_SIZE];
        whole[..4].copy_from_slice(first);
        whole[4..4 + body.len()].copy_from_slice(body);
        return double_sha256(&whole[..4 + body.len()], last);
    };
    let mut block = [0u8; BLOCK_SIZE];
    block[..4].copy_from_slice(first);
    block[4..].copy_from_slice(head);
    let mut state = SHA256_START;
    compress256(&mut state, &[block]);
    let (blocks, tail) = rest.as_chunks::<BLOCK_SIZE>();
    compress256(&mut state, blocks);
    hash_digest(&finish(state, tail, last, body.len() + 8))
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
    fn messages_of_every_length_hash_like_the_library() {
        let bytes: Vec<u8> = (0..400u32).map(|number| ((number * 31) >> 3) as u8).collect();
        for length in 8..bytes.len() {
            let message = &bytes[..length];
            let expected = sha256d::Hash::hash(message).to_byte_array();
            let (body, last) = message.split_last_chunk().expect("four bytes");
            assert_eq!(double_sha256(body, last), expected, "{length}");
            let (first, body) = body.split_first_chunk().expect("four bytes");
            assert_eq!(double_sha256_around(first, body, last), expected, "{length}");
        }
    }

    #[test]
    fn pairs_hash_like_the_library() {
        let pair = [[7; 32], [200; 32]];
        assert_eq!(double_sha256_pair(&pair), sha256d::Hash::hash(&pair.concat()).to_byte_array());
    }
}
