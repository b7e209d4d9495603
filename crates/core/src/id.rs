//! Names of things: one newtype per idea, so that no two can be mixed up.

use crate::wire::{Kind, Reader, Schema, Value, WireError};
use std::fmt;

macro_rules! number_id {
    ($($(#[$meta:meta])* $name:ident($inner:ty);)*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);
        impl Value for $name {
            const KIND: Kind = <$inner as Value>::KIND;
            #[inline]
            fn write(&self, out: &mut Vec<u8>) { self.0.write(out); }
            #[inline]
            fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> { <$inner>::read(reader).map($name) }
            fn schema(schema: &mut Schema) -> String { <$inner as Value>::schema(schema) }
            fn note() -> String { <$inner as Value>::note() }
        }
        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result { self.0.fmt(out) }
        }
    )*};
}

number_id! {
    /// An asset of this platform, such as bitcoin on one network or the euro; its definition never changes.
    AssetId(u32);
    /// A blockchain network that is followed.
    ChainId(u32);
    /// A wallet: a set of descriptors; see [`crate::custody::Wallet`].
    WalletId(u32);
    /// An account's place in the ledger, counted from 0 without gaps.
    AccountId(u64);
    /// A pending transfer.
    HoldId(u64);
    /// A plan: one set of reserved inputs and all its versions.
    PlanId(u64);
    /// A row's number in the journal, from 1, without gaps.
    Seq(u64);
    /// A leadership, counted by its `EpochStarted`.
    Epoch(u64);
    /// A block's height, 0 for the genesis block.
    Height(u32);
}

impl Seq {
    /// The place before the first row.
    pub const START: Seq = Seq(0);
    /// The greatest number that a row can have: a column of SQLite holds signed 64 bits.
    pub const MAX: Seq = Seq(i64::MAX as u64);
    /// The row after this one. No row comes near the last number, but what is read from outside may name it.
    #[must_use]
    pub fn next(self) -> Seq {
        Seq(self.0.saturating_add(1))
    }
    /// Whether a row can have this number.
    pub fn is_of_row(self) -> bool {
        self > Seq::START && self <= Seq::MAX
    }
}

macro_rules! uuid_id {
    ($($(#[$meta:meta])* $name:ident;)*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);
        impl Value for $name {
            const KIND: Kind = Kind::Bytes;
            fn write(&self, out: &mut Vec<u8>) { self.0.write(out); }
            fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> { <[u8; 16]>::read(reader).map($name) }
            fn schema(schema: &mut Schema) -> String { <[u8; 16] as Value>::schema(schema) }
            fn note() -> String { <[u8; 16] as Value>::note() }
        }
        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                for (index, byte) in self.0.iter().enumerate() {
                    if matches!(index, 4 | 6 | 8 | 10) { out.write_str("-")?; }
                    write!(out, "{byte:02x}")?;
                }
                Ok(())
            }
        }
        impl $name {
            /// Reads the canonical lower-case form with hyphens, 36 characters.
            pub fn parse(text: &str) -> Option<Self> {
                let bytes = text.as_bytes();
                if bytes.len() != 36 { return None; }
                let mut id = [0u8; 16];
                let mut nibbles = 0usize;
                for (index, &byte) in bytes.iter().enumerate() {
                    if matches!(index, 8 | 13 | 18 | 23) {
                        if byte != b'-' { return None; }
                        continue;
                    }
                    let nibble = match byte { b'0'..=b'9' => byte - b'0', b'a'..=b'f' => byte - b'a' + 10, _ => return None };
                    id[nibbles / 2] = id[nibbles / 2] << 4 | nibble;
                    nibbles += 1;
                }
                Some($name(id))
            }
        }
    )*};
}

uuid_id! {
    /// A command, named by whoever sends it: a UUIDv7, whose first 48 bits are its Unix time in milliseconds.
    /// What a command creates (a quote, a withdrawal) bears the command's id.
    CommandId;
    /// A customer. Who that is stands in the people store alone.
    CustomerId;
    /// A bulk caller's session, a UUIDv7 whose time is when it began; see [`crate::command::Origin`].
    SessionId;
    /// A quote: the id of the command that asked for it.
    QuoteId;
    /// A withdrawal: the id of the command that asked for it.
    WithdrawalId;
}

macro_rules! timed_ids {
    ($($name:ident),*) => {$(
        impl $name {
            /// The Unix time in milliseconds that a UUIDv7 carries.
            pub fn unix_ms(self) -> u64 {
                self.0[..6].iter().fold(0, |value, &byte| value << 8 | u64::from(byte))
            }
            /// Whether version and variant bits are those of a UUIDv7 (RFC 9562, section 5.7).
            pub fn is_v7(self) -> bool {
                self.0[6] >> 4 == 7 && self.0[8] >> 6 == 0b10
            }
        }
    )*};
}

timed_ids!(CommandId, SessionId);

macro_rules! hash_id {
    ($($(#[$meta:meta])* $name:ident;)*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);
        impl Value for $name {
            const KIND: Kind = Kind::Bytes;
            fn write(&self, out: &mut Vec<u8>) { self.0.write(out); }
            fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> { <[u8; 32]>::read(reader).map($name) }
            fn schema(schema: &mut Schema) -> String { <[u8; 32] as Value>::schema(schema) }
            fn note() -> String { <[u8; 32] as Value>::note() }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result { write!(out, "{}({self})", stringify!($name)) }
        }
    )*};
}

hash_id! {
    /// A SHA-256 of ours: of a journal row, a request, a state.
    Digest;
    /// A block's hash, in the order of its bytes; shown reversed, as Bitcoin's tools do.
    BlockHash;
    /// A transaction's id, in the order of its bytes; shown reversed.
    TxId;
}

impl Digest {
    /// The hash before the first row.
    pub const ZERO: Digest = Digest([0; 32]);
}

impl fmt::Display for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}
impl fmt::Display for BlockHash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().rev().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}
impl fmt::Display for TxId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().rev().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

/// Ledger time: Unix milliseconds, never running backwards within a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LedgerTime(pub u64);

impl LedgerTime {
    /// This time and `ms` milliseconds, at the latest the end of time.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> LedgerTime {
        LedgerTime(self.0.saturating_add(ms))
    }
    /// Milliseconds from `earlier` to this time; 0 where it is later.
    pub fn since_ms(self, earlier: LedgerTime) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Value for LedgerTime {
    const KIND: Kind = Kind::Varint;
    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        u64::read(reader).map(LedgerTime)
    }
    fn schema(_: &mut Schema) -> String {
        "uint64".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_beyond_those_of_rows_are_known_and_counted_on_without_harm() {
        let named = [(0, false), (1, true), (i64::MAX as u64, true), (1 << 63, false), (u64::MAX, false)];
        for (number, is_of_row) in named {
            assert_eq!(Seq(number).is_of_row(), is_of_row, "{number}");
            assert!(Seq(number).next() >= Seq(number), "{number}");
        }
        assert_eq!(Seq::START.next(), Seq(1));
    }
}
