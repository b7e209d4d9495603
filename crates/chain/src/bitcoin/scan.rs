//! Finds what concerns us in the raw bytes of a block or transaction; it must never decode the rest, and never panic.
//!
//! The walk checks every length before it reads, hashes each transaction where it stands, recomputes the merkle root and
//! compares it with the header. Work and height are the header chain's business; scripts, signatures and the witness
//! commitment are not checked: a block counts only on a branch with the most work, confirmed by the node quorum.

use crate::bitcoin::hash::{double_sha256, double_sha256_around, double_sha256_pair};
use crate::bitcoin::header::HEADER_SIZE;
use crate::bitcoin::watch::{WatchedOutpoints, WatchedScripts, outpoint_from_bytes};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, CompactTarget, OutPoint, TxMerkleNode, Txid};

/// Most bytes of a block: its weight limit of 4,000,000 units is one unit per byte at least (BIP-141).
pub const BLOCK_SIZE_MAX: usize = 4_000_000;
/// All coins that can ever exist, in satoshi; no output may hold more (consensus).
pub const MONEY_MAX_SAT: u64 = 21_000_000 * 100_000_000;
/// Fewest bytes of an input: outpoint, empty script, sequence.
const INPUT_SIZE_MIN: usize = 41;
/// Fewest bytes of an output: amount, empty script.
const OUTPUT_SIZE_MIN: usize = 9;
/// Fewest bytes of a transaction: version, one input, one output, lock time.
const TX_SIZE_MIN: usize = 60;
/// The outpoint of a coinbase input: a hash of zeros and the highest index.
const COINBASE_OUTPOINT: [u8; 36] = {
    let mut bytes = [0; 36];
    let mut place = 32;
    while place < 36 {
        bytes[place] = 0xff;
        place += 1;
    }
    bytes
};

/// Why bytes were refused, most precise reason first. The place is a byte offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// More bytes than any block has.
    #[error("{size} bytes are more than any block has")]
    TooLarge {
        /// Bytes that were given.
        size: usize,
    },
    /// The bytes end in the middle of something.
    #[error("the bytes end too early, at {place}")]
    Truncated {
        /// Where more was needed.
        place: usize,
    },
    /// A length is written longer than needed, which the protocol forbids.
    #[error("the length at {place} is not in its shortest form")]
    LengthNotMinimal {
        /// Where the length stands.
        place: usize,
    },
    /// A count or length says more than the remaining bytes can hold.
    #[error("the count or length at {place} is larger than what follows")]
    LengthTooLarge {
        /// Where the count or length stands.
        place: usize,
    },
    /// A transaction has no inputs or no outputs.
    #[error("the transaction at {place} has no inputs or no outputs")]
    Empty {
        /// Where the transaction starts.
        place: usize,
    },
    /// The byte after the segwit marker is not 1.
    #[error("the transaction at {place} has an unknown flag")]
    FlagUnknown {
        /// Where the flag stands.
        place: usize,
    },
    /// A transaction is marked as segwit and has no witness at all.
    #[error("the transaction that ends at {place} has a superfluous witness")]
    WitnessSuperfluous {
        /// Where its witnesses end.
        place: usize,
    },
    /// An amount is above all coins that can exist.
    #[error("the amount at {place} is above all coins that can exist")]
    AmountOutOfRange {
        /// Where the amount stands.
        place: usize,
    },
    /// The first transaction is no coinbase, or another one is.
    #[error("transaction {index} is a coinbase in the wrong place, or is missing as one")]
    CoinbaseMisplaced {
        /// Position of the transaction in the block.
        index: u32,
    },
    /// Bytes follow the last transaction.
    #[error("bytes follow the end, at {place}")]
    Trailing {
        /// Where they start.
        place: usize,
    },
    /// Two neighbouring hashes in the merkle tree are equal: a duplicated transaction that leaves the root unchanged
    /// (CVE-2012-2459). The block is not judged by it: the same header may come with honest content.
    #[error("the merkle tree has a duplicate")]
    MerkleMutated,
    /// The transactions do not give the merkle root of the header.
    #[error("the transactions do not give the header's merkle root")]
    MerkleMismatch,
}

impl ScanError {
    /// The stable code of this refusal.
    pub fn code(&self) -> &'static str {
        match self {
            ScanError::TooLarge { .. } => "block_too_large",
            ScanError::Truncated { .. } => "block_truncated",
            ScanError::LengthNotMinimal { .. } => "block_length_not_minimal",
            ScanError::LengthTooLarge { .. } => "block_length_too_large",
            ScanError::Empty { .. } => "transaction_empty",
            ScanError::FlagUnknown { .. } => "transaction_flag_unknown",
            ScanError::WitnessSuperfluous { .. } => "transaction_witness_superfluous",
            ScanError::AmountOutOfRange { .. } => "transaction_amount_out_of_range",
            ScanError::CoinbaseMisplaced { .. } => "block_coinbase_misplaced",
            ScanError::Trailing { .. } => "block_trailing_bytes",
            ScanError::MerkleMutated => "block_merkle_mutated",
            ScanError::MerkleMismatch => "block_merkle_mismatch",
        }
    }
}

/// An output that pays a watched script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Receipt {
    /// The output.
    pub outpoint: OutPoint,
    /// Its amount in satoshi.
    pub amount_sat: u64,
    /// The handle that the script was watched with.
    pub script_handle: u64,
    /// Whether it is newly mined, so that it can be spent only after 100 more blocks.
    pub coinbase: bool,
    /// Position of its transaction in the block.
    pub tx_index: u32,
}

/// An input that spends a watched output, or one that was received in the same block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spend {
    /// The output that is spent.
    pub outpoint: OutPoint,
    /// The transaction that spends it.
    pub txid: Txid,
    /// Position of the input.
    pub input_index: u32,
    /// Position of the spending transaction in the block.
    pub tx_index: u32,
    /// Where the spending transaction starts in the bytes that were scanned, so that it alone need be decoded.
    pub tx_start: u32,
}

/// What a block says, and what of it concerns us. Receipts and spends are in the order of the block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockScan {
    /// The block's hash.
    pub hash: BlockHash,
    /// The hash of the block before.
    pub previous: BlockHash,
    /// The header's time in seconds since 1970; nothing about money may depend on it.
    pub time_s: u32,
    /// The header's target.
    pub bits: CompactTarget,
    /// The merkle root, of the header and recomputed.
    pub merkle_root: TxMerkleNode,
    /// Number of transactions.
    pub tx_count: u32,
    /// Outputs to watched scripts.
    pub receipts: Vec<Receipt>,
    /// Inputs that spend watched outputs.
    pub spends: Vec<Spend>,
}

/// What a single transaction says, for the mempool. `tx_index` is 0 and `coinbase` false throughout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxScan {
    /// The transaction's id.
    pub txid: Txid,
    /// Outputs to watched scripts.
    pub receipts: Vec<Receipt>,
    /// Inputs that spend watched outputs.
    pub spends: Vec<Spend>,
}

/// Scans a whole block as it is stored and sent, with its witnesses.
///
/// # Errors
/// [`ScanError`]: the first thing that is wrong in the order of the bytes, then the merkle root.
pub fn scan_block(
    bytes: &[u8],
    scripts: &WatchedScripts,
    outpoints: &WatchedOutpoints,
) -> Result<BlockScan, ScanError> {
    if bytes.len() > BLOCK_SIZE_MAX {
        return Err(ScanError::TooLarge { size: bytes.len() });
    }
    let mut walk = Walk { bytes, place: 0 };
    let header: [u8; HEADER_SIZE] = *walk.take_array()?;
    let tx_count = walk.count(TX_SIZE_MIN)?;
    if tx_count == 0 {
        return Err(ScanError::CoinbaseMisplaced { index: 0 });
    }
    let mut passed = Passed::new(scripts, outpoints, bytes.len());
    let mut txids = Vec::with_capacity(tx_count);
    let mut starts = Vec::with_capacity(tx_count);
    for index in 0..tx_count as u32 {
        starts.push(walk.place as u32);
        let (txid, coinbase) = passed.transaction(&mut walk, index)?;
        if coinbase != (index == 0) {
            return Err(ScanError::CoinbaseMisplaced { index });
        }
        txids.push(txid);
    }
    if walk.place != bytes.len() {
        return Err(ScanError::Trailing { place: walk.place });
    }
    let merkle_root: [u8; 32] = header[36..68].try_into().expect("32 bytes");
    if merkle_root_of(&txids)? != merkle_root {
        return Err(ScanError::MerkleMismatch);
    }
    let (receipts, spends) = passed.finds(bytes, (&txids, &starts), true);
    let (version_to_bits, nonce) = header.split_last_chunk().expect("a header has 80 bytes");
    let word = |place: usize| u32::from_le_bytes(header[place..place + 4].try_into().expect("4 bytes"));
    Ok(BlockScan {
        hash: BlockHash::from_byte_array(double_sha256(version_to_bits, nonce)),
        previous: BlockHash::from_byte_array(header[4..36].try_into().expect("32 bytes")),
        time_s: word(68),
        bits: CompactTarget::from_consensus(word(72)),
        merkle_root: TxMerkleNode::from_byte_array(merkle_root),
        tx_count: tx_count as u32,
        receipts,
        spends,
    })
}

/// Scans one transaction, with or without its witnesses.
///
/// # Errors
/// [`ScanError`]: the first thing that is wrong in the order of the bytes.
pub fn scan_tx(bytes: &[u8], scripts: &WatchedScripts, outpoints: &WatchedOutpoints) -> Result<TxScan, ScanError> {
    if bytes.len() > BLOCK_SIZE_MAX {
        return Err(ScanError::TooLarge { size: bytes.len() });
    }
    let mut walk = Walk { bytes, place: 0 };
    let mut passed = Passed::new(scripts, outpoints, bytes.len());
    let (txid, coinbase) = passed.transaction(&mut walk, 0)?;
    if coinbase {
        return Err(ScanError::CoinbaseMisplaced { index: 0 });
    }
    if walk.place != bytes.len() {
        return Err(ScanError::Trailing { place: walk.place });
    }
    let (receipts, spends) = passed.finds(bytes, (&[txid], &[0]), false);
    Ok(TxScan { txid: Txid::from_byte_array(txid), receipts, spends })
}

/// The merkle root of transaction ids, refusing the duplicates that would leave it unchanged.
fn merkle_root_of(txids: &[[u8; 32]]) -> Result<[u8; 32], ScanError> {
    let mut hashes = txids.to_vec();
    while hashes.len() > 1 {
        let (pairs, rest) = hashes.as_chunks::<2>();
        if pairs.iter().any(|pair| pair[0] == pair[1]) {
            return Err(ScanError::MerkleMutated);
        }
        let mut above: Vec<[u8; 32]> = Vec::with_capacity(pairs.len() + 1);
        above.extend(pairs.iter().map(double_sha256_pair));
        above.extend(rest.iter().map(|last| double_sha256_pair(&[*last, *last])));
        hashes = above;
    }
    Ok(hashes[0])
}

/// A place in the bytes that only moves forward, and never past the end.
struct Walk<'a> {
    bytes: &'a [u8],
    place: usize,
}

impl<'a> Walk<'a> {
    #[inline]
    fn take(&mut self, size: usize) -> Result<&'a [u8], ScanError> {
        let rest = &self.bytes[self.place..];
        let taken = rest.get(..size).ok_or(ScanError::Truncated { place: self.bytes.len() })?;
        self.place += size;
        Ok(taken)
    }

    #[inline]
    fn take_array<const SIZE: usize>(&mut self) -> Result<&'a [u8; SIZE], ScanError> {
        let taken = self.bytes[self.place..].first_chunk().ok_or(ScanError::Truncated { place: self.bytes.len() })?;
        self.place += SIZE;
        Ok(taken)
    }

    /// A length in the protocol's variable form.
    #[inline(always)]
    fn length(&mut self) -> Result<u64, ScanError> {
        let place = self.place;
        let [first] = *self.take_array()?;
        let (value, least) = match first {
            0xfd => (u64::from(u16::from_le_bytes(*self.take_array()?)), 0xfd),
            0xfe => (u64::from(u32::from_le_bytes(*self.take_array()?)), 0x1_0000),
            0xff => (u64::from_le_bytes(*self.take_array()?), 0x1_0000_0000),
            small => return Ok(u64::from(small)),
        };
        if value < least {
            return Err(ScanError::LengthNotMinimal { place });
        }
        Ok(value)
    }

    /// A count of things that need at least `size_min` bytes each, so that no count asks for more than there is.
    #[inline(always)]
    fn count(&mut self, size_min: usize) -> Result<usize, ScanError> {
        let place = self.place;
        let count = self.length()?;
        let room = (self.bytes.len() - self.place) / size_min;
        usize::try_from(count).ok().filter(|count| *count <= room).ok_or(ScanError::LengthTooLarge { place })
    }

    /// Bytes that are preceded by their length.
    #[inline(always)]
    fn take_sized(&mut self) -> Result<&'a [u8], ScanError> {
        let size = self.count(1)?;
        self.take(size)
    }

    /// An output: its amount and its script.
    #[inline(always)]
    fn output(&mut self) -> Result<(u64, &'a [u8]), ScanError> {
        Ok((u64::from_le_bytes(*self.take_array()?), self.take_sized()?))
    }
}

/// Where an output or input stands.
#[derive(Clone, Copy)]
struct Seen {
    /// Where it starts.
    start: u32,
    tx_index: u32,
    /// Its position in the transaction.
    index: u32,
}

/// Outputs or inputs that were passed, to be looked up when all are known.
struct Row {
    fingerprints: Vec<u64>,
    seen: Vec<Seen>,
}

impl Row {
    fn with_capacity(room: usize) -> Row {
        Row { fingerprints: Vec::with_capacity(room), seen: Vec::with_capacity(room) }
    }

    #[inline]
    fn push(&mut self, fingerprint: u64, seen: Seen) {
        self.fingerprints.push(fingerprint);
        self.seen.push(seen);
    }
}

/// What was passed on the walk. Lookups wait for its end: done together, the processor overlaps their waits for memory,
/// which would otherwise be most of the time.
struct Passed<'a> {
    scripts: &'a WatchedScripts,
    outpoints: &'a WatchedOutpoints,
    outputs: Row,
    inputs: Row,
}

impl<'a> Passed<'a> {
    fn new(scripts: &'a WatchedScripts, outpoints: &'a WatchedOutpoints, size: usize) -> Passed<'a> {
        // A guess that is rarely exceeded: an input or output for every 128 bytes.
        let room = size / 128 + 8;
        Passed { scripts, outpoints, outputs: Row::with_capacity(room), inputs: Row::with_capacity(room) }
    }

    /// Walks one transaction and returns its id and whether it is a coinbase.
    fn transaction(&mut self, walk: &mut Walk<'_>, tx_index: u32) -> Result<([u8; 32], bool), ScanError> {
        let start = walk.place;
        let version: &[u8; 4] = walk.take_array()?;
        let segwit = walk.bytes.get(walk.place) == Some(&0);
        if segwit {
            let [_, flag]: [u8; 2] = *walk.take_array()?;
            if flag != 1 {
                return Err(ScanError::FlagUnknown { place: walk.place - 1 });
            }
        }
        let body_start = walk.place;
        let (input_count, coinbase) = self.inputs(walk, start, tx_index)?;
        self.outputs(walk, start, tx_index)?;
        let body = &walk.bytes[body_start..walk.place];
        if segwit {
            skip_witnesses(walk, input_count)?;
        }
        let lock_time: &[u8; 4] = walk.take_array()?;
        let txid = if segwit {
            double_sha256_around(version, body, lock_time)
        } else {
            double_sha256(&walk.bytes[start..walk.place - 4], lock_time)
        };
        Ok((txid, coinbase))
    }

    fn inputs(&mut self, walk: &mut Walk<'_>, start: usize, tx_index: u32) -> Result<(usize, bool), ScanError> {
        let count = walk.count(INPUT_SIZE_MIN)?;
        if count == 0 {
            return Err(ScanError::Empty { place: start });
        }
        let mut null_outpoint = false;
        for index in 0..count as u32 {
            let start = walk.place as u32;
            let outpoint: &[u8; 36] = walk.take_array()?;
            null_outpoint |= outpoint[35] == 0xff && outpoint == &COINBASE_OUTPOINT;
            self.inputs.push(self.outpoints.fingerprint(outpoint), Seen { start, tx_index, index });
            walk.take_sized()?;
            walk.take_array::<4>()?;
        }
        Ok((count, null_outpoint && count == 1))
    }

    fn outputs(&mut self, walk: &mut Walk<'_>, start: usize, tx_index: u32) -> Result<(), ScanError> {
        let count = walk.count(OUTPUT_SIZE_MIN)?;
        if count == 0 {
            return Err(ScanError::Empty { place: start });
        }
        for index in 0..count as u32 {
            let start = walk.place;
            let (amount_sat, script) = walk.output()?;
            if amount_sat > MONEY_MAX_SAT {
                return Err(ScanError::AmountOutOfRange { place: start });
            }
            self.outputs.push(self.scripts.fingerprint(script), Seen { start: start as u32, tx_index, index });
        }
        Ok(())
    }

    /// Looks up everything that was passed, in transactions with these ids that start at these places.
    fn finds(
        &self,
        bytes: &[u8],
        (txids, starts): (&[[u8; 32]], &[u32]),
        coinbase: bool,
    ) -> (Vec<Receipt>, Vec<Spend>) {
        let txid = |seen: &Seen| Txid::from_byte_array(txids[seen.tx_index as usize]);
        let output = |place: u32| {
            let mut walk = Walk { bytes, place: self.outputs.seen[place as usize].start as usize };
            walk.output().expect("the walk passed this output")
        };
        let receipt = |(place, script_handle): (u32, u64)| {
            let seen = self.outputs.seen[place as usize];
            let outpoint = OutPoint { txid: txid(&seen), vout: seen.index };
            let coinbase = coinbase && seen.tx_index == 0;
            Receipt { outpoint, amount_sat: output(place).0, script_handle, coinbase, tx_index: seen.tx_index }
        };
        let paid = self.scripts.find_all(&self.outputs.fingerprints, |place| output(place).1);
        let receipts: Vec<Receipt> = paid.into_iter().map(receipt).collect();
        let outpoint = |place: u32| {
            let start = self.inputs.seen[place as usize].start as usize;
            bytes[start..].first_chunk().expect("the walk passed this input")
        };
        let mut spent = self.outpoints.find_all(&self.inputs.fingerprints, outpoint);
        if !receipts.is_empty() {
            // Outputs received in this block may be spent in it.
            let mut fresh = self.outpoints.empty_like();
            for receipt in &receipts {
                fresh.insert(receipt.outpoint);
            }
            spent.extend(fresh.find_all(&self.inputs.fingerprints, outpoint));
            spent.sort_unstable();
            spent.dedup();
        }
        let spend = |place: u32| {
            let seen = self.inputs.seen[place as usize];
            let spent = outpoint_from_bytes(outpoint(place));
            let (tx_index, tx_start) = (seen.tx_index, starts[seen.tx_index as usize]);
            Spend { outpoint: spent, txid: txid(&seen), input_index: seen.index, tx_index, tx_start }
        };
        (receipts, spent.into_iter().map(spend).collect())
    }
}

fn skip_witnesses(walk: &mut Walk<'_>, input_count: usize) -> Result<(), ScanError> {
    let mut item_count = 0;
    for _ in 0..input_count {
        let items = walk.count(1)?;
        for _ in 0..items {
            walk.take_sized()?;
        }
        item_count += items;
    }
    if item_count == 0 {
        return Err(ScanError::WitnessSuperfluous { place: walk.place });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bitcoin::watch::outpoint_bytes;

    #[test]
    fn the_null_outpoint_is_the_librarys() {
        assert_eq!(COINBASE_OUTPOINT, outpoint_bytes(&OutPoint::null()));
    }

    #[test]
    fn lengths_are_minimal_and_fit() {
        let length = |bytes: &[u8]| Walk { bytes, place: 0 }.length();
        assert_eq!(length(&[0xfc]), Ok(0xfc));
        assert_eq!(length(&[0xfd, 0xfd, 0]), Ok(0xfd));
        assert_eq!(length(&[0xfd, 0xfc, 0]), Err(ScanError::LengthNotMinimal { place: 0 }));
        assert_eq!(length(&[0xfe, 0, 0, 1, 0]), Ok(0x1_0000));
        assert_eq!(length(&[0xfe, 0xff, 0xff, 0, 0]), Err(ScanError::LengthNotMinimal { place: 0 }));
        assert_eq!(length(&[0xff, 0, 0, 0, 0, 1, 0, 0, 0]), Ok(0x1_0000_0000));
        assert_eq!(length(&[0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]), Err(ScanError::LengthNotMinimal { place: 0 }));
        assert_eq!(length(&[0xfd, 1]), Err(ScanError::Truncated { place: 2 }));
        let count = |bytes: &[u8]| Walk { bytes, place: 0 }.count(41);
        assert_eq!(count(&[1; 42]), Ok(1));
        assert_eq!(count(&[1; 41]), Err(ScanError::LengthTooLarge { place: 0 }));
        assert_eq!(count(&[0xff; 9]), Err(ScanError::LengthTooLarge { place: 0 }));
    }
}
