//! Measures scanning and address derivation beside their peers in the same run; it must never compare unequal work.
//!
//! - Scan: mainnet block 702861 against a million watched scripts, ids and merkle root computed, beside rust-bitcoin
//!   doing the same with its decoder and a hash map. The time of the hashing alone is printed with it: the limit.
//! - Addresses: the script at successive indices, beside libsecp256k1's bare point tweak (taproot needs two of them).
//!
//! With the argument `scan` or `addresses` only that part runs. Each figure is the best of several rounds, alternating the two sides, so that a busy machine disturbs both alike.

#![allow(clippy::print_stdout, clippy::float_arithmetic)]

use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::hashes::{Hash, sha256};
use bitcoin::secp256k1::{All, Parity, PublicKey, Scalar, Secp256k1, SecretKey};
use bitcoin::{Block, OutPoint, Script, ScriptBuf};
use florin_chain::bitcoin::descriptor::Descriptor;
use florin_chain::bitcoin::keys::{AccountSecrets, AddressIndex, Branch, ScriptKind};
use florin_chain::bitcoin::network::Network;
use florin_chain::bitcoin::scan::scan_block;
use florin_chain::bitcoin::watch::{WatchKey, WatchedOutpoints, WatchedScripts};
use sha2::block_api::compress256;
use std::collections::{HashMap, HashSet};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Scripts that are watched.
const SCRIPTS: u64 = 1_000_000;
/// Outpoints that are watched.
const OUTPOINTS: u32 = 100_000;
/// Times each side runs; the best counts.
const ROUNDS: usize = 200;
/// Addresses or tweaks per round.
const ADDRESSES: u32 = 200;

fn main() {
    let part = std::env::args().nth(1);
    if part.as_deref() != Some("addresses") {
        scan();
    }
    if part.as_deref() != Some("scan") {
        addresses();
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let result = work();
    (start.elapsed(), result)
}

/// A million scripts of the four kinds' sizes, and a few of the block's own so that something is found.
fn watched_scripts(block: &Block) -> Vec<ScriptBuf> {
    let mut scripts: Vec<ScriptBuf> =
        block.txdata.iter().step_by(50).map(|tx| tx.output[0].script_pubkey.clone()).collect();
    let mut state = 0x1234_5678_9abc_def0u64;
    while (scripts.len() as u64) < SCRIPTS {
        let mut bytes = vec![0u8; [22, 23, 25, 34][scripts.len() % 4]];
        for chunk in bytes.chunks_mut(8) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let word = (state ^ state >> 29).to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        scripts.push(ScriptBuf::from_bytes(bytes));
    }
    scripts
}

fn scan() {
    let bytes = bitcoin_test_data::blocks::mainnet_702861();
    let block: Block = deserialize(bytes).expect("a real block");
    let key = WatchKey::new([7; 16]);
    let (mut ours, mut twin) = (WatchedScripts::new(key), HashMap::new());
    for (handle, script) in watched_scripts(&block).into_iter().enumerate() {
        ours.insert(&script, handle as u64);
        twin.entry(script).or_insert(handle as u64);
    }
    let (mut our_outpoints, mut twin_outpoints) = (WatchedOutpoints::new(key), HashSet::new());
    let spent = block.txdata.iter().skip(1).map(|tx| tx.input[0].previous_output);
    for outpoint in spent.step_by(50).chain((0..OUTPOINTS).map(|vout| OutPoint { vout, ..OutPoint::null() })) {
        our_outpoints.insert(outpoint);
        twin_outpoints.insert(outpoint);
    }
    let messages = padded_messages(&block);
    let (mut best_ours, mut best_theirs, mut best_hashes) = (Duration::MAX, Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        let (time, root) = timed(|| hashes_alone(black_box(&messages)));
        assert_eq!(root, block.header.merkle_root.to_byte_array(), "it is the same work");
        best_hashes = best_hashes.min(time);
        let (time, scan) = timed(|| scan_block(black_box(bytes), &ours, &our_outpoints).expect("a real block"));
        best_ours = best_ours.min(time);
        let (time, found) = timed(|| scan_with_library(black_box(bytes), &twin, &twin_outpoints));
        best_theirs = best_theirs.min(time);
        assert_eq!((scan.receipts.len(), scan.spends.len()), found, "both sides find the same");
    }
    println!(
        "scan block 702861, {SCRIPTS} scripts: florin {} us, rust-bitcoin {} us, ratio {:.2} (goal 3.00)",
        best_ours.as_micros(),
        best_theirs.as_micros(),
        best_theirs.as_secs_f64() / best_ours.as_secs_f64()
    );
    println!(
        "  of which SHA-256 alone {} us: no scan that hashes so can be better than ratio {:.2}",
        best_hashes.as_micros(),
        best_theirs.as_secs_f64() / best_hashes.as_secs_f64()
    );
}

/// The bytes that each id hashes, padded and in blocks: everything but the compressions is done before.
fn padded_messages(block: &Block) -> Vec<Vec<[u8; 64]>> {
    let padded = |tx: &bitcoin::Transaction| {
        let mut stripped = tx.clone();
        stripped.input.iter_mut().for_each(|input| input.witness.clear());
        let mut bytes = serialize(&stripped);
        let bits = 8 * bytes.len() as u64;
        bytes.push(0x80);
        bytes.resize((bytes.len() + 8).next_multiple_of(64) - 8, 0);
        bytes.extend(bits.to_be_bytes());
        bytes.as_chunks::<64>().0.to_vec()
    };
    block.txdata.iter().map(padded).collect()
}

/// The compressions of all ids and of the merkle tree, and nothing else that could be left out.
fn hashes_alone(messages: &[Vec<[u8; 64]>]) -> [u8; 32] {
    const START: [u32; 8] =
        [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];
    let hash = |blocks: &[[u8; 64]]| {
        let mut state = START;
        compress256(&mut state, blocks);
        let mut bytes = [0u8; 32];
        bytes.chunks_exact_mut(4).zip(state).for_each(|(chunk, word)| chunk.copy_from_slice(&word.to_be_bytes()));
        bytes
    };
    let twice = |blocks: &[[u8; 64]]| {
        let mut last = [0u8; 64];
        last[..32].copy_from_slice(&hash(blocks));
        (last[32], last[62]) = (0x80, 1);
        hash(&[last])
    };
    let mut hashes: Vec<[u8; 32]> = messages.iter().map(|message| twice(message)).collect();
    while hashes.len() > 1 {
        let pair = |pair: &[[u8; 32]]| {
            let mut blocks = [[0u8; 64]; 2];
            blocks[0][..32].copy_from_slice(&pair[0]);
            blocks[0][32..].copy_from_slice(pair.last().expect("one or two"));
            (blocks[1][0], blocks[1][62]) = (0x80, 2);
            twice(&blocks)
        };
        hashes = hashes.chunks(2).map(pair).collect();
    }
    hashes[0]
}

fn scan_with_library(bytes: &[u8], scripts: &HashMap<ScriptBuf, u64>, outpoints: &HashSet<OutPoint>) -> (usize, usize) {
    let block: Block = deserialize(bytes).expect("a real block");
    let (mut receipts, mut spends) = (Vec::new(), Vec::new());
    // Outputs received in the block may be spent in it: both sides report that.
    let mut fresh = HashSet::new();
    for (tx_index, tx) in block.txdata.iter().enumerate() {
        assert_eq!(tx.is_coinbase(), tx_index == 0);
        for (input_index, input) in tx.input.iter().enumerate() {
            let outpoint = input.previous_output;
            if outpoints.contains(&outpoint) || fresh.contains(&outpoint) {
                spends.push((outpoint, tx.compute_txid(), input_index, tx_index));
            }
        }
        for (vout, output) in tx.output.iter().enumerate() {
            if let Some(handle) = scripts.get::<Script>(&output.script_pubkey) {
                let outpoint = OutPoint { txid: tx.compute_txid(), vout: vout as u32 };
                fresh.insert(outpoint);
                receipts.push((outpoint, output.value, *handle, tx_index));
            }
        }
    }
    // This computes every transaction id.
    assert!(block.check_merkle_root());
    (receipts.len(), spends.len())
}

fn addresses() {
    let secp = Secp256k1::new();
    let key = PublicKey::from_secret_key(&secp, &SecretKey::from_slice(&[11; 32]).expect("a key"));
    let scalars = random_tweaks();
    for kind in ScriptKind::ALL {
        let secrets = AccountSecrets::derive(Network::Main, &[5; 32], kind, 0, &[1; 32]).expect("an account");
        let deriver =
            Descriptor::of_account(&secrets.public(&[1; 32]), Branch::External).expect("a descriptor").deriver();
        let tweaks = if kind == ScriptKind::Tr { 2 } else { 1 };
        let (mut best_ours, mut best_theirs) = (Duration::MAX, Duration::MAX);
        for _ in 0..ROUNDS {
            let (time, ()) = timed(|| {
                for index in 0..ADDRESSES {
                    let index = AddressIndex::new(index).expect("a small index");
                    black_box(deriver.script(index).expect("a key"));
                }
            });
            best_ours = best_ours.min(time);
            let (time, ()) = timed(|| bare_tweaks(&secp, &key, &scalars, tweaks));
            best_theirs = best_theirs.min(time);
        }
        let rate = |time: Duration| (f64::from(ADDRESSES) / time.as_secs_f64()) as u64;
        println!(
            "addresses {}: florin {}/s, {tweaks} bare tweak(s) {}/s, ratio {:.3} (goal 0.900)",
            kind.name(),
            rate(best_ours),
            rate(best_theirs),
            best_theirs.as_secs_f64() / best_ours.as_secs_f64()
        );
    }
}

/// Tweaks as random as real ones: similar numbers would flatter the peer, which then finds its tables in the cache.
fn random_tweaks() -> Vec<Scalar> {
    let tweak = |index: u32| Scalar::from_be_bytes(sha256::Hash::hash(&index.to_be_bytes()).to_byte_array());
    (0..ADDRESSES).map(|index| tweak(index).expect("below the order")).collect()
}

/// What any derivation needs at least: the point addition, and for taproot the second one on the lifted key.
fn bare_tweaks(secp: &Secp256k1<All>, key: &PublicKey, scalars: &[Scalar], count: u32) {
    for (scalar, second) in scalars.iter().zip(scalars.iter().rev()) {
        let mut point = key.add_exp_tweak(secp, scalar).expect("a point");
        if count == 2 {
            let even = PublicKey::from_x_only_public_key(point.x_only_public_key().0, Parity::Even);
            point = even.add_exp_tweak(secp, second).expect("a point");
        }
        black_box(point);
    }
}
