//! The scan against a naive twin on rust-bitcoin, on a real block, on seeded random blocks and on broken bytes; it must
//! never share code with what it checks.

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version as TxVersion;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, OutPoint, Script, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode,
    TxOut, Txid, Witness,
};
use florin_chain::bitcoin::scan::{BLOCK_SIZE_MAX, BlockScan, Receipt, ScanError, Spend, TxScan, scan_block, scan_tx};
use florin_chain::bitcoin::watch::{WatchKey, WatchedOutpoints, WatchedScripts};
use std::collections::{HashMap, HashSet};

/// Mainnet block 702861, from the crate `bitcoin-test-data`.
fn real_block() -> &'static [u8] {
    bitcoin_test_data::blocks::mainnet_702861()
}

/// What is watched, once for the scan and once for its twin.
struct Watched {
    scripts: WatchedScripts,
    outpoints: WatchedOutpoints,
    script_twin: HashMap<ScriptBuf, u64>,
    outpoint_twin: HashSet<OutPoint>,
}

impl Watched {
    fn new(random: [u8; 16]) -> Watched {
        let key = WatchKey::new(random);
        Watched {
            scripts: WatchedScripts::new(key),
            outpoints: WatchedOutpoints::new(key),
            script_twin: HashMap::new(),
            outpoint_twin: HashSet::new(),
        }
    }

    fn script(&mut self, script: &Script, handle: u64) {
        if self.scripts.insert(script, handle).is_none() {
            self.script_twin.insert(script.to_owned(), handle);
        }
    }

    fn outpoint(&mut self, outpoint: OutPoint) {
        self.outpoints.insert(outpoint);
        self.outpoint_twin.insert(outpoint);
    }

    /// The naive twin: everything is decoded, nothing is clever. `None` is any refusal.
    fn twin(&self, bytes: &[u8]) -> Option<BlockScan> {
        let block: Block = deserialize(bytes).ok()?;
        let (mut receipts, mut spends) = (Vec::new(), Vec::new());
        let mut ours = self.outpoint_twin.clone();
        let mut next_start = bytes.len() - block.txdata.iter().map(|tx| tx.total_size()).sum::<usize>();
        for (tx_index, tx) in block.txdata.iter().enumerate() {
            let tx_start = next_start as u32;
            next_start += tx.total_size();
            if tx.is_coinbase() != (tx_index == 0) {
                return None;
            }
            let (txid, tx_index) = (tx.compute_txid(), tx_index as u32);
            for (input_index, input) in tx.input.iter().enumerate() {
                if ours.contains(&input.previous_output) {
                    let (outpoint, input_index) = (input.previous_output, input_index as u32);
                    spends.push(Spend { outpoint, txid, input_index, tx_index, tx_start });
                }
            }
            for (vout, output) in tx.output.iter().enumerate() {
                if let Some(handle) = self.script_twin.get(&output.script_pubkey) {
                    let outpoint = OutPoint { txid, vout: vout as u32 };
                    ours.insert(outpoint);
                    receipts.push(Receipt {
                        outpoint,
                        amount_sat: output.value.to_sat(),
                        script_handle: *handle,
                        coinbase: tx_index == 0,
                        tx_index,
                    });
                }
            }
        }
        block.check_merkle_root().then_some(BlockScan {
            hash: block.block_hash(),
            previous: block.header.prev_blockhash,
            time_s: block.header.time,
            bits: block.header.bits,
            merkle_root: block.header.merkle_root,
            tx_count: block.txdata.len() as u32,
            receipts,
            spends,
        })
    }

    fn scan(&self, bytes: &[u8]) -> Result<BlockScan, ScanError> {
        scan_block(bytes, &self.scripts, &self.outpoints)
    }
}

/// Watches every `step`-th output script and spent outpoint of the real block, and as many strangers.
fn watched_in_real_block(step: usize) -> Watched {
    let block: Block = deserialize(real_block()).expect("a real block");
    let mut watched = Watched::new([3; 16]);
    let mut handle = 0;
    for output in block.txdata.iter().flat_map(|tx| &tx.output).step_by(step) {
        handle += 1;
        watched.script(&output.script_pubkey, handle);
        let mut stranger = output.script_pubkey.to_bytes();
        stranger.push(0x51);
        watched.script(Script::from_bytes(&stranger), handle + 1_000_000);
    }
    for input in block.txdata.iter().flat_map(|tx| &tx.input).step_by(step) {
        watched.outpoint(input.previous_output);
        watched.outpoint(OutPoint { txid: input.previous_output.txid, vout: input.previous_output.vout ^ 1_000 });
    }
    watched
}

#[test]
fn a_real_block_scans_like_the_naive_twin() {
    for step in [1, 2, 7, 97] {
        let watched = watched_in_real_block(step);
        let twin = watched.twin(real_block()).expect("a real block");
        assert!(!twin.receipts.is_empty() && !twin.spends.is_empty());
        assert_eq!(watched.scan(real_block()), Ok(twin));
    }
    let nothing = Watched::new([4; 16]).scan(real_block()).expect("a real block");
    assert_eq!((nothing.receipts.len(), nothing.spends.len()), (0, 0));
    assert_eq!(nothing.hash.to_string(), "000000000000000000000c835b2adcaedc20fdf6ee440009c249452c726dafae");
}

#[test]
fn every_transaction_of_a_real_block_scans_alone() {
    let watched = watched_in_real_block(3);
    let block: Block = deserialize(real_block()).expect("a real block");
    let whole = watched.scan(real_block()).expect("a real block");
    for (tx_index, tx) in block.txdata.iter().enumerate().skip(1) {
        let scan = scan_tx(&serialize(tx), &watched.scripts, &watched.outpoints).expect("a real transaction");
        let receipts = whole.receipts.iter().filter(|receipt| receipt.tx_index as usize == tx_index);
        let receipts = receipts.map(|receipt| Receipt { tx_index: 0, ..*receipt }).collect();
        let spends = whole.spends.iter().filter(|spend| spend.tx_index as usize == tx_index);
        // Outputs received in the same block are known to the block's scan only.
        let known = spends.filter(|spend| watched.outpoint_twin.contains(&spend.outpoint));
        let spends = known.map(|spend| Spend { tx_index: 0, tx_start: 0, ..*spend }).collect();
        assert_eq!(scan, TxScan { txid: tx.compute_txid(), receipts, spends });
    }
    let coinbase = serialize(&block.txdata[0]);
    let refusal = scan_tx(&coinbase, &watched.scripts, &watched.outpoints);
    assert_eq!(refusal, Err(ScanError::CoinbaseMisplaced { index: 0 }));
}

/// A small generator for the seeded runs: the state is the seed (xorshift64*).
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % limit
    }

    fn bytes(&mut self, size: u64) -> Vec<u8> {
        (0..size).map(|_| self.below(256) as u8).collect()
    }

    fn script(&mut self) -> ScriptBuf {
        let size = [0, 1, 22, 23, 25, 34, 300][self.below(7) as usize];
        // Few different bytes, so that scripts repeat and some are watched.
        ScriptBuf::from_bytes(vec![self.below(5) as u8; size])
    }

    fn transaction(&mut self, coinbase: bool, known: &[OutPoint]) -> Transaction {
        let inputs = if coinbase { 1 } else { 1 + self.below(4) };
        let segwit = self.below(2) == 0;
        let input = (0..inputs)
            .map(|place| {
                let fresh =
                    OutPoint { txid: Txid::from_byte_array([self.below(20) as u8; 32]), vout: self.below(3) as u32 };
                let previous_output = match self.below(3) {
                    _ if coinbase => OutPoint::null(),
                    0 if !known.is_empty() => known[self.below(known.len() as u64) as usize],
                    _ => fresh,
                };
                let items: Vec<Vec<u8>> = match segwit {
                    true => (0..self.below(4) + u64::from(place == 0))
                        .map(|_| vec![7; [0, 1, 72, 300][self.below(4) as usize]])
                        .collect(),
                    false => Vec::new(),
                };
                TxIn {
                    previous_output,
                    script_sig: self.script(),
                    sequence: Sequence(self.below(1 << 32) as u32),
                    witness: Witness::from_slice(&items),
                }
            })
            .collect();
        let outputs = 1 + self.below(5);
        let output = (0..outputs)
            .map(|_| TxOut { value: Amount::from_sat(self.below(1 << 40)), script_pubkey: self.script() })
            .collect();
        Transaction {
            version: TxVersion(self.below(3) as i32),
            lock_time: LockTime::from_consensus(self.below(1 << 32) as u32),
            input,
            output,
        }
    }

    fn block(&mut self) -> Block {
        let count = 1 + self.below(12);
        let mut txdata: Vec<Transaction> = Vec::new();
        let mut known = Vec::new();
        for place in 0..count {
            let tx = self.transaction(place == 0, &known);
            let txid = tx.compute_txid();
            known.extend((0..tx.output.len() as u32).map(|vout| OutPoint { txid, vout }));
            txdata.push(tx);
        }
        block_of(txdata)
    }
}

fn block_of(txdata: Vec<Transaction>) -> Block {
    let header = Header {
        version: Version::from_consensus(0x2000_0000),
        prev_blockhash: BlockHash::from_byte_array([9; 32]),
        merkle_root: TxMerkleNode::all_zeros(),
        time: 1_700_000_000,
        bits: CompactTarget::from_consensus(0x207f_ffff),
        nonce: 5,
    };
    let mut block = Block { header, txdata };
    block.header.merkle_root = block.compute_merkle_root().expect("there is a transaction");
    block
}

fn watched_for(seed: u64) -> Watched {
    let mut watched = Watched::new([seed as u8; 16]);
    let mut handle = seed;
    for size in [1, 22, 25, 34, 300] {
        for byte in [0, 3] {
            handle += 1;
            watched.script(Script::from_bytes(&vec![byte; size]), handle);
        }
    }
    watched.script(Script::from_bytes(&[]), 1);
    for byte in 0..10 {
        watched.outpoint(OutPoint { txid: Txid::from_byte_array([byte; 32]), vout: 1 });
    }
    watched
}

#[test]
fn random_blocks_scan_like_the_naive_twin() {
    let (mut receipts, mut spends, mut inside) = (0, 0, 0);
    for seed in 1..400u64 {
        println!("seed {seed}");
        let mut draw = Draw(seed);
        let watched = watched_for(seed);
        let block = draw.block();
        let bytes = serialize(&block);
        let twin = watched.twin(&bytes).expect("a sound block");
        receipts += twin.receipts.len();
        spends += twin.spends.len();
        inside += twin.spends.iter().filter(|spend| !watched.outpoint_twin.contains(&spend.outpoint)).count();
        assert_eq!(watched.scan(&bytes), Ok(twin));
    }
    assert!(receipts > 100 && spends > 100 && inside > 100, "{receipts} {spends} {inside}: every case must occur");
}

#[test]
fn changed_bytes_are_refused_or_mean_what_the_twin_says() {
    let (mut same, mut refused) = (0, 0);
    for seed in 1..60u64 {
        println!("seed {seed}");
        let mut draw = Draw(seed);
        let watched = watched_for(seed);
        let bytes = serialize(&draw.block());
        for _ in 0..200 {
            let mut changed = bytes.clone();
            for _ in 0..1 + draw.below(3) {
                let place = draw.below(changed.len() as u64) as usize;
                match draw.below(4) {
                    0 => changed[place] = draw.below(256) as u8,
                    1 => changed[place] ^= 1 << draw.below(8),
                    2 => drop(changed.splice(place..place, draw.bytes(2))),
                    _ => drop(changed.remove(place)),
                }
            }
            match watched.scan(&changed) {
                Ok(scan) => {
                    same += 1;
                    assert_eq!(Some(scan), watched.twin(&changed));
                }
                Err(_) => {
                    refused += 1;
                    assert_eq!(watched.twin(&changed), None);
                }
            }
        }
    }
    assert!(same > 100 && refused > 1_000, "{same} {refused}: both cases must occur");
}

#[test]
fn truncated_and_random_bytes_are_refused() {
    for seed in 1..10u64 {
        println!("seed {seed}");
        let mut draw = Draw(seed);
        let watched = watched_for(seed);
        let bytes = serialize(&draw.block());
        for end in 0..bytes.len() {
            assert!(watched.scan(&bytes[..end]).is_err(), "{end}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(watched.scan(&longer), Err(ScanError::Trailing { place: bytes.len() }));
        for size in [0, 1, 79, 80, 81, 100, 1_000] {
            let noise = draw.bytes(size);
            assert!(watched.scan(&noise).is_err());
            assert!(scan_tx(&noise, &watched.scripts, &watched.outpoints).is_err());
        }
    }
    let watched = Watched::new([1; 16]);
    let large = vec![0; BLOCK_SIZE_MAX + 1];
    assert_eq!(watched.scan(&large), Err(ScanError::TooLarge { size: BLOCK_SIZE_MAX + 1 }));
}

fn plain(byte: u8) -> Transaction {
    let outpoint = OutPoint { txid: Txid::from_byte_array([byte; 32]), vout: 0 };
    let input = TxIn { previous_output: outpoint, ..TxIn::default() };
    let output = TxOut { value: Amount::from_sat(1_000), script_pubkey: ScriptBuf::from_bytes(vec![0x51; 22]) };
    Transaction { version: TxVersion::TWO, lock_time: LockTime::ZERO, input: vec![input], output: vec![output] }
}

fn coinbase() -> Transaction {
    let mut tx = plain(0);
    tx.input[0].previous_output = OutPoint::null();
    tx
}

#[test]
fn duplicated_transactions_that_keep_the_root_are_refused() {
    let mut watched = Watched::new([1; 16]);
    watched.script(Script::from_bytes(&[0x51; 22]), 7);
    let honest = block_of(vec![coinbase(), plain(1), plain(2)]);
    assert_eq!(watched.scan(&serialize(&honest)).expect("honest").receipts.len(), 3);
    let mut doubled = honest.clone();
    doubled.txdata.push(plain(2));
    assert!(doubled.check_merkle_root(), "the root does not show it");
    assert_eq!(watched.scan(&serialize(&doubled)), Err(ScanError::MerkleMutated));
    let honest = block_of(vec![coinbase(), plain(1), plain(2), plain(3), plain(4), plain(5)]);
    let mut doubled = honest.clone();
    doubled.txdata.extend([plain(4), plain(5)]);
    assert!(doubled.check_merkle_root(), "the root does not show it one level up");
    assert_eq!(watched.scan(&serialize(&doubled)), Err(ScanError::MerkleMutated));
    assert!(watched.scan(&serialize(&honest)).is_ok(), "the honest block with the same header is still good");
}

#[test]
fn each_refusal_has_its_bytes() {
    let watched = Watched::new([1; 16]);
    let scan = |block: &Block| watched.scan(&serialize(block)).err();
    let tx = |bytes: &[u8]| scan_tx(bytes, &watched.scripts, &watched.outpoints).err();
    let good = serialize(&plain(1));
    assert_eq!(tx(&good), None);
    assert_eq!(tx(&good[..good.len() - 1]), Some(ScanError::Truncated { place: good.len() - 1 }));
    let mut long_form = good.clone();
    long_form.splice(4..5, [0xfd, 1, 0]);
    assert_eq!(tx(&long_form), Some(ScanError::LengthNotMinimal { place: 4 }));
    let mut large = good.clone();
    large[4] = 0xfc;
    assert_eq!(tx(&large), Some(ScanError::LengthTooLarge { place: 4 }));
    let mut no_outputs = good.clone();
    no_outputs.splice(46..47 + 31, [0]);
    assert_eq!(tx(&no_outputs), Some(ScanError::Empty { place: 0 }));
    let mut flagged = good.clone();
    flagged.splice(4..4, [0, 2]);
    assert_eq!(tx(&flagged), Some(ScanError::FlagUnknown { place: 5 }));
    let mut superfluous = good.clone();
    superfluous.splice(4..4, [0, 1]);
    let end = superfluous.len() - 4;
    superfluous.insert(end, 0);
    assert_eq!(tx(&superfluous), Some(ScanError::WitnessSuperfluous { place: end + 1 }));
    let mut rich = plain(1);
    rich.output[0].value = Amount::from_sat(2_100_000_000_000_001);
    assert_eq!(tx(&serialize(&rich)), Some(ScanError::AmountOutOfRange { place: 47 }));
    assert_eq!(scan(&block_of(vec![plain(1)])), Some(ScanError::CoinbaseMisplaced { index: 0 }));
    assert_eq!(scan(&block_of(vec![coinbase(), coinbase()])), Some(ScanError::CoinbaseMisplaced { index: 1 }));
    let mut empty = serialize(&block_of(vec![coinbase()]));
    empty.truncate(80);
    empty.push(0);
    assert_eq!(watched.scan(&empty), Err(ScanError::CoinbaseMisplaced { index: 0 }));
    let mut other = block_of(vec![coinbase(), plain(1)]);
    other.txdata[1] = plain(2);
    assert_eq!(scan(&other), Some(ScanError::MerkleMismatch));
}
