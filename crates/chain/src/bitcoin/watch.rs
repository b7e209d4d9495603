//! What a scan looks for: scripts that were issued and outpoints that are ours; it must never match by fingerprint alone.
//!
//! Both sets are open-addressing tables of keyed 64-bit fingerprints with a small bit filter in front, because almost
//! everything in a block is not ours and the filter stays in the cache when a table of millions does not. A fingerprint
//! only finds the candidate: the bytes are compared in full. The key is an argument, drawn once per process, so that nobody outside can craft scripts that
//! collide; the result of a scan does not depend on it.

use bitcoin::hashes::Hash;
use bitcoin::{OutPoint, Script, Txid};

/// The secret key of the fingerprints: fresh randomness of the caller.
#[derive(Clone, Copy)]
pub struct WatchKey([u64; 2]);

impl WatchKey {
    /// Makes a key of sixteen random bytes. They are stirred first, so that even a poor key gives good fingerprints;
    /// only a random one keeps strangers from crafting collisions.
    pub fn new(random: [u8; 16]) -> WatchKey {
        let (first, second) = random.split_at(8);
        let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        let first = stir(word(first));
        WatchKey([first, stir(first ^ word(second)) | 1])
    }

    /// A keyed fingerprint, never zero, since zero marks an empty slot.
    #[inline]
    fn fingerprint(self, bytes: &[u8]) -> u64 {
        let WatchKey([first, second]) = self;
        let mut state = first ^ (bytes.len() as u64).wrapping_mul(GOLDEN);
        let (pairs, tail) = bytes.as_chunks::<16>();
        for pair in pairs {
            state = fold_pair(state, second, pair);
        }
        if !tail.is_empty() {
            let mut last = [0u8; 16];
            last[..tail.len()].copy_from_slice(tail);
            state = fold_pair(state, second, &last);
        }
        fold(state ^ first, GOLDEN).max(1)
    }
}

/// Keys never show themselves.
impl std::fmt::Debug for WatchKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("WatchKey(..)")
    }
}

/// The fractional part of the golden ratio in 64 bits: an odd constant with no pattern.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Spreads every bit of a word over all others (the finaliser of SplitMix64).
fn stir(word: u64) -> u64 {
    let word = word.wrapping_add(GOLDEN);
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

/// Multiplies to 128 bits and folds both halves into one.
#[inline]
fn fold(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right);
    (product >> 64) as u64 ^ product as u64
}

/// The half of a fingerprint that the filter uses.
#[inline]
fn upper_half(fingerprint: u64) -> u32 {
    (fingerprint >> 32) as u32
}

/// Folds sixteen bytes into a state, each half against one of two secrets.
#[inline]
fn fold_pair(state: u64, second: u64, pair: &[u8; 16]) -> u64 {
    let both = u128::from_le_bytes(*pair);
    fold(state ^ both as u64, second ^ (both >> 64) as u64)
}

/// Fewest slots of a table.
const SLOTS_MIN: usize = 64;

/// Slots for each word of the filter: at most four fingerprints set eight of its 64 bits, so about one stranger in
/// fifty passes.
const SLOTS_PER_WORD: usize = 8;

/// A fingerprint, zero where the slot is empty, and the number that it stands for.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    fingerprint: u64,
    number: u32,
}

/// Fingerprints and the number each stands for, at most half full, with linear probing.
#[derive(Clone, Debug)]
struct Table {
    slots: Vec<Slot>,
    filter: Vec<u64>,
    count: usize,
    /// Removals since the filter was made; it still has their bits.
    removed: usize,
}

/// A fingerprint of many that a table has.
#[derive(Clone, Copy)]
struct Candidate {
    /// Which of the many.
    place: u32,
    /// What it stands for in the table, at least in the first slot that has it.
    number: u32,
}

impl Table {
    fn new(slots: usize) -> Table {
        Table { slots: vec![Slot::default(); slots], filter: vec![0; slots / SLOTS_PER_WORD], count: 0, removed: 0 }
    }

    /// The word of the filter and the bits in it that a fingerprint sets. They come from its upper half, since the slot
    /// comes from the lower.
    #[inline]
    fn filter_bits(&self, upper_half: u32) -> (usize, u64) {
        let word = upper_half as usize & (self.filter.len() - 1);
        (word, 1 << (upper_half >> 20 & 63) | 1 << (upper_half >> 26))
    }

    /// Those of the fingerprints that are in the table, in their order.
    ///
    /// Table and filter are larger than the cache, so that most of the time is waiting for memory. The processor waits
    /// for as much at once as its window of instructions reaches: so each loop does one access and next to nothing else,
    /// and has no branch on what it finds.
    fn sift(&self, fingerprints: &[u64]) -> Vec<Candidate> {
        let word_mask = self.filter.len() - 1;
        let word = |fingerprint: &u64| self.filter[upper_half(*fingerprint) as usize & word_mask];
        let words: Vec<u64> = fingerprints.iter().map(word).collect();
        let mut places = vec![0u32; fingerprints.len()];
        let mut count = 0;
        for (place, (word, fingerprint)) in words.iter().zip(fingerprints).enumerate() {
            let (_, bits) = self.filter_bits(upper_half(*fingerprint));
            places[count] = place as u32;
            count += usize::from(word & bits == bits);
        }
        places.truncate(count);
        let home = |place: &u32| self.slots[fingerprints[*place as usize] as usize & self.mask()].fingerprint;
        let taken: Vec<bool> = places.iter().map(|place| home(place) != 0).collect();
        let taken = places.iter().zip(taken).filter_map(|(place, is_taken)| is_taken.then_some(*place));
        // Their slots, and mostly those after them, are in the cache by now.
        let candidate = |place: u32| {
            let slot = self.find(fingerprints[place as usize], |_| true)?;
            Some(Candidate { place, number: self.slots[slot].number })
        };
        taken.filter_map(candidate).collect()
    }

    fn mask(&self) -> usize {
        self.slots.len() - 1
    }

    /// The slot of the entry with this fingerprint that `matches` confirms.
    #[inline]
    fn find(&self, fingerprint: u64, matches: impl Fn(u32) -> bool) -> Option<usize> {
        let mut slot = fingerprint as usize & self.mask();
        loop {
            let Slot { fingerprint: here, number } = self.slots[slot];
            if here == 0 {
                return None;
            }
            if here == fingerprint && matches(number) {
                return Some(slot);
            }
            slot = (slot + 1) & self.mask();
        }
    }

    fn insert(&mut self, fingerprint: u64, number: u32) {
        if 2 * (self.count + 1) > self.slots.len() {
            self.rebuild(2 * self.slots.len());
        }
        self.place(fingerprint, number);
    }

    /// Makes the table anew with so many slots, and the filter with the bits of what is in it only.
    fn rebuild(&mut self, slots: usize) {
        let old = std::mem::replace(self, Table::new(slots));
        for Slot { fingerprint, number } in old.slots.into_iter().filter(|slot| slot.fingerprint != 0) {
            self.place(fingerprint, number);
        }
    }

    fn place(&mut self, fingerprint: u64, number: u32) {
        let mut slot = fingerprint as usize & self.mask();
        while self.slots[slot].fingerprint != 0 {
            slot = (slot + 1) & self.mask();
        }
        self.slots[slot] = Slot { fingerprint, number };
        let (word, bits) = self.filter_bits(upper_half(fingerprint));
        self.filter[word] |= bits;
        self.count += 1;
    }

    /// Empties a slot and closes the gap, so that every entry stays reachable from its home.
    fn remove(&mut self, slot: usize) {
        let mask = self.mask();
        let (mut gap, mut next) = (slot, (slot + 1) & mask);
        while self.slots[next].fingerprint != 0 {
            let home = self.slots[next].fingerprint as usize & mask;
            if next.wrapping_sub(home) & mask >= next.wrapping_sub(gap) & mask {
                self.slots[gap] = self.slots[next];
                gap = next;
            }
            next = (next + 1) & mask;
        }
        self.slots[gap].fingerprint = 0;
        self.count -= 1;
        self.removed += 1;
        if 2 * self.removed > self.slots.len() {
            self.rebuild(self.slots.len());
        }
    }
}

/// The scripts that were ever issued, each with the caller's handle. Scripts are never removed: old addresses are
/// watched for ever.
#[derive(Clone, Debug)]
pub struct WatchedScripts {
    key: WatchKey,
    table: Table,
    /// One entry after the other: handle, size and script. One access to memory finds all of it.
    entries: Vec<u8>,
}

/// Entries start at multiples of so many bytes, and are numbered by them.
const ENTRY_UNIT: usize = 8;

impl WatchedScripts {
    /// An empty set.
    pub fn new(key: WatchKey) -> WatchedScripts {
        WatchedScripts { key, table: Table::new(SLOTS_MIN), entries: Vec::new() }
    }

    /// Watches a script. A script that is watched already keeps its handle, which is returned.
    ///
    /// # Panics
    /// When all scripts together need more than 32 GiB, or one alone 4 GiB.
    pub fn insert(&mut self, script: &Script, handle: u64) -> Option<u64> {
        let bytes = script.as_bytes();
        let fingerprint = self.key.fingerprint(bytes);
        if let Some(known) = self.find(fingerprint, bytes) {
            return Some(known);
        }
        let number = u32::try_from(self.entries.len() / ENTRY_UNIT).expect("the scripts need less than 32 GiB");
        let size = u32::try_from(bytes.len()).expect("a script is smaller than 4 GiB");
        self.entries.extend_from_slice(&handle.to_le_bytes());
        self.entries.extend_from_slice(&size.to_le_bytes());
        self.entries.extend_from_slice(bytes);
        self.entries.resize(self.entries.len().next_multiple_of(ENTRY_UNIT), 0);
        self.table.insert(fingerprint, number);
        None
    }

    /// The handle of a script, `None` when it is not watched.
    pub fn get(&self, script: &[u8]) -> Option<u64> {
        self.find(self.key.fingerprint(script), script)
    }

    /// The keyed fingerprint of a script.
    #[inline]
    pub(crate) fn fingerprint(&self, script: &[u8]) -> u64 {
        self.key.fingerprint(script)
    }

    /// The handle and script of an entry.
    #[inline]
    fn entry(&self, number: u32) -> (u64, &[u8]) {
        let entry = &self.entries[number as usize * ENTRY_UNIT..];
        let (handle, rest) = entry.split_first_chunk().expect("an entry has a handle");
        let (size, rest) = rest.split_first_chunk().expect("an entry has a size");
        (u64::from_le_bytes(*handle), &rest[..u32::from_le_bytes(*size) as usize])
    }

    fn find(&self, fingerprint: u64, script: &[u8]) -> Option<u64> {
        let slot = self.table.find(fingerprint, |number| self.entry(number).1 == script)?;
        Some(self.entry(self.table.slots[slot].number).0)
    }

    /// The places of those that are watched, in their order, each with its handle, given the fingerprints of all and
    /// their bytes by place.
    pub(crate) fn find_all<'a>(&self, fingerprints: &[u64], script_at: impl Fn(u32) -> &'a [u8]) -> Vec<(u32, u64)> {
        let candidates = self.table.sift(fingerprints);
        // All handles first, for the sake of the cache: the scripts stand beside them.
        let handles: Vec<u64> = candidates.iter().map(|candidate| self.entry(candidate.number).0).collect();
        let confirmed = |(Candidate { place, number }, handle): (Candidate, u64)| {
            let script = script_at(place);
            if self.entry(number).1 == script { Some((place, handle)) } else { Some((place, self.get(script)?)) }
        };
        candidates.into_iter().zip(handles).filter_map(confirmed).collect()
    }

    /// Number of watched scripts.
    pub fn len(&self) -> usize {
        self.table.count
    }

    /// Whether no script is watched.
    pub fn is_empty(&self) -> bool {
        self.table.count == 0
    }
}

/// The unspent outputs whose spending is to be reported.
#[derive(Clone, Debug)]
pub struct WatchedOutpoints {
    key: WatchKey,
    table: Table,
    entries: Vec<OutPoint>,
    free: Vec<u32>,
}

impl WatchedOutpoints {
    /// An empty set.
    pub fn new(key: WatchKey) -> WatchedOutpoints {
        WatchedOutpoints { key, table: Table::new(SLOTS_MIN), entries: Vec::new(), free: Vec::new() }
    }

    /// Watches an outpoint; false when it was watched already.
    ///
    /// # Panics
    /// When 2^32 outpoints are watched, which would need more than 200 GiB.
    pub fn insert(&mut self, outpoint: OutPoint) -> bool {
        if self.contains(&outpoint) {
            return false;
        }
        let number = match self.free.pop() {
            Some(number) => {
                self.entries[number as usize] = outpoint;
                number
            }
            None => {
                self.entries.push(outpoint);
                u32::try_from(self.entries.len() - 1).expect("fewer than 2^32 outpoints fit into memory")
            }
        };
        self.table.insert(self.fingerprint(&outpoint_bytes(&outpoint)), number);
        true
    }

    /// Stops watching an outpoint; false when it was not watched.
    pub fn remove(&mut self, outpoint: &OutPoint) -> bool {
        let bytes = outpoint_bytes(outpoint);
        let Some(slot) = self.find(self.fingerprint(&bytes), &bytes) else { return false };
        self.free.push(self.table.slots[slot].number);
        self.table.remove(slot);
        true
    }

    /// Whether an outpoint is watched.
    pub fn contains(&self, outpoint: &OutPoint) -> bool {
        self.contains_bytes(&outpoint_bytes(outpoint))
    }

    /// The fingerprint of the 36 bytes of an outpoint as they stand in a transaction. Half of the hash is enough.
    #[inline]
    pub(crate) fn fingerprint(&self, bytes: &[u8; 36]) -> u64 {
        let WatchKey([first, second]) = self.key;
        let (half, index) = (bytes.first_chunk().expect("sixteen bytes"), bytes.last_chunk().expect("four bytes"));
        let state = fold_pair(first, second, half);
        fold(state ^ u64::from(u32::from_le_bytes(*index)), second).max(1)
    }

    /// [`WatchedOutpoints::contains`] for the bytes as they stand in a transaction.
    fn contains_bytes(&self, bytes: &[u8; 36]) -> bool {
        self.find(self.fingerprint(bytes), bytes).is_some()
    }

    /// The places of those that are watched, in their order, given the fingerprints of all and their bytes by place.
    pub(crate) fn find_all<'a>(&self, fingerprints: &[u64], bytes_at: impl Fn(u32) -> &'a [u8; 36]) -> Vec<u32> {
        let candidates = self.table.sift(fingerprints);
        // All entries first, for the sake of the cache.
        let entries: Vec<OutPoint> =
            candidates.iter().map(|candidate| self.entries[candidate.number as usize]).collect();
        let confirmed = |(candidate, entry): (Candidate, OutPoint)| {
            let bytes = bytes_at(candidate.place);
            (outpoint_bytes(&entry) == *bytes || self.contains_bytes(bytes)).then_some(candidate.place)
        };
        candidates.into_iter().zip(entries).filter_map(confirmed).collect()
    }

    fn find(&self, fingerprint: u64, bytes: &[u8; 36]) -> Option<usize> {
        let matches = |number: u32| outpoint_bytes(&self.entries[number as usize]) == *bytes;
        self.table.find(fingerprint, matches)
    }

    /// Number of watched outpoints.
    pub fn len(&self) -> usize {
        self.table.count
    }

    /// Whether no outpoint is watched.
    pub fn is_empty(&self) -> bool {
        self.table.count == 0
    }

    /// An empty set with the same key.
    pub(crate) fn empty_like(&self) -> WatchedOutpoints {
        WatchedOutpoints::new(self.key)
    }
}

/// An outpoint as it stands in a transaction: the hash, then the index in little-endian order.
pub(crate) fn outpoint_bytes(outpoint: &OutPoint) -> [u8; 36] {
    let mut bytes = [0; 36];
    bytes[..32].copy_from_slice(outpoint.txid.as_byte_array());
    bytes[32..].copy_from_slice(&outpoint.vout.to_le_bytes());
    bytes
}

/// The reverse of [`outpoint_bytes`].
pub(crate) fn outpoint_from_bytes(bytes: &[u8; 36]) -> OutPoint {
    let (hash, index) = bytes.split_at(32);
    OutPoint {
        txid: Txid::from_byte_array(hash.try_into().expect("32 bytes")),
        vout: u32::from_le_bytes(index.try_into().expect("4 bytes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    /// A small generator for the seeded runs: the state is the seed (xorshift64*).
    struct Draw(u64);

    impl Draw {
        fn below(&mut self, limit: u64) -> u64 {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % limit
        }
    }

    #[test]
    fn scripts_are_found_byte_for_byte_like_in_a_map() {
        for seed in 1..20u64 {
            println!("seed {seed}");
            let mut draw = Draw(seed);
            let mut random = [0; 16];
            random[0] = seed as u8;
            let mut ours = WatchedScripts::new(WatchKey::new(random));
            let mut twin: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
            for handle in 0..500 {
                let size = draw.below(40) as usize;
                let script: Vec<u8> = (0..size).map(|_| draw.below(3) as u8).collect();
                let known = twin.get(&script).copied();
                assert_eq!(ours.insert(Script::from_bytes(&script), handle), known);
                twin.entry(script).or_insert(handle);
            }
            assert_eq!(ours.len(), twin.len());
            for (script, handle) in &twin {
                assert_eq!(ours.get(script), Some(*handle));
                let mut other = script.clone();
                other.push(0);
                assert_eq!(ours.get(&other), twin.get(&other).copied());
            }
        }
    }

    #[test]
    fn outpoints_come_and_go_like_in_a_set() {
        for seed in 1..20u64 {
            println!("seed {seed}");
            let mut draw = Draw(seed);
            let mut ours = WatchedOutpoints::new(WatchKey::new([seed as u8; 16]));
            let mut twin = BTreeSet::new();
            for _ in 0..3_000 {
                let outpoint =
                    OutPoint { txid: Txid::from_byte_array([draw.below(10) as u8; 32]), vout: draw.below(10) as u32 };
                if draw.below(2) == 0 {
                    assert_eq!(ours.insert(outpoint), twin.insert(outpoint));
                } else {
                    assert_eq!(ours.remove(&outpoint), twin.remove(&outpoint));
                }
                assert_eq!(ours.len(), twin.len());
                assert_eq!(ours.is_empty(), twin.is_empty());
            }
            for hash in 0..10 {
                for vout in 0..10 {
                    let outpoint = OutPoint { txid: Txid::from_byte_array([hash; 32]), vout };
                    assert_eq!(ours.contains(&outpoint), twin.contains(&outpoint));
                    assert_eq!(outpoint_from_bytes(&outpoint_bytes(&outpoint)), outpoint);
                }
            }
        }
    }

    #[test]
    fn fingerprints_spread_evenly_even_with_a_poor_key() {
        for random in [[0; 16], [7; 16], [255; 16]] {
            let mut scripts = WatchedScripts::new(WatchKey::new(random));
            for number in 0..50_000u64 {
                let mut script = vec![0u8; 22];
                script[14..].copy_from_slice(&number.to_be_bytes());
                scripts.insert(Script::from_bytes(&script), number);
            }
            let table = &scripts.table;
            let distance = |(place, slot): (usize, &Slot)| place.wrapping_sub(slot.fingerprint as usize) & table.mask();
            let taken = table.slots.iter().enumerate().filter(|(_, slot)| slot.fingerprint != 0);
            let total: usize = taken.map(distance).sum();
            // A random function gives about 0.4 at this load; a poor one gives hundreds.
            assert!(total < 50_000, "{total} steps for 50,000 scripts");
        }
    }

    #[test]
    fn the_key_changes_fingerprints_and_stays_hidden() {
        let (one, two) = (WatchKey::new([1; 16]), WatchKey::new([2; 16]));
        assert_ne!(one.fingerprint(b"script"), two.fingerprint(b"script"));
        assert_eq!(format!("{one:?}"), "WatchKey(..)");
    }
}
