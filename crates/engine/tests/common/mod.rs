//! A journal in memory with faults on request, and a small book of rules: what the engine's tests run on. The core's own
//! rules are tested in the core.

#![allow(dead_code)] // Each test file uses its part.

use florin_core::command::{Command, Origin, Outcome, Request};
use florin_core::decide::{OriginRefusal, Refusal, Verdict};
use florin_core::event::{BankReceiptBooked, Customer, Event};
use florin_core::id::{CommandId, CustomerId, Digest, LedgerTime, Seq, WalletId};
use florin_core::journal::{AppendError, Journal, ReadError, Row, SnapshotHeader};
use florin_core::state::State;
use florin_core::wire::Bytes;
use florin_engine::lanes::Ask;
use florin_engine::ports::{SnapshotFault, Snapshots};
use florin_engine::scripts::{ScriptFault, Scripts};
use florin_engine::writer::{Appended, CoreRules, Rules, Writer, WriterConfig};
use std::sync::{Arc, Mutex};

/// A stream of pseudo-random numbers from a seed (xorshift64*).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    pub fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 16) % bound
    }
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// How an append fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    UnknownWritten,
    UnknownLost,
    /// It is under way still, and comes with [`Rows::arrive`].
    UnknownLate,
}

/// Rows in memory, and those that are under way. Clones are handles on the same rows.
#[derive(Debug, Clone, Default)]
pub struct Rows(pub Arc<Mutex<Vec<Row>>>, Arc<Mutex<Vec<Row>>>);

impl Rows {
    pub fn all(&self) -> Vec<Row> {
        self.0.lock().unwrap().clone()
    }
    /// The rows that are under way arrive, as far as they find a place by now. Nobody hears what became of them.
    pub fn arrive(&self, late: Vec<Row>) {
        late.iter().for_each(|row| drop(self.clone().append(row)));
    }
    /// Takes the rows that are under way, for [`Rows::arrive`].
    pub fn under_way(&self) -> Vec<Row> {
        std::mem::take(&mut *self.1.lock().unwrap())
    }
    pub fn append_with(&self, row: &Row, fault: Fault) -> Appended {
        match fault {
            Fault::UnknownLost => return Appended::Unknown,
            Fault::UnknownLate => {
                self.1.lock().unwrap().push(row.clone());
                return Appended::Unknown;
            }
            Fault::None | Fault::UnknownWritten => {}
        }
        match (self.clone().append(row), fault) {
            (_, Fault::UnknownWritten) => Appended::Unknown,
            (Ok(()), _) => Appended::Durable,
            (Err(AppendError::Fenced), _) => Appended::Fenced,
            (Err(AppendError::Unknown(_)), _) => Appended::Unknown,
        }
    }
}

impl Journal for Rows {
    fn append(&mut self, row: &Row) -> Result<(), AppendError> {
        let mut rows = self.0.lock().unwrap();
        assert_eq!(row.hash, row.computed_hash(), "the writer seals what it sends");
        if rows.iter().any(|stands| stands.seq == row.seq && stands.hash == row.hash) {
            return Ok(());
        }
        let (seq, hash) = rows.last().map_or((Seq::START, Digest::ZERO), |last| (last.seq, last.hash));
        if row.seq != seq.next() || row.previous != hash {
            return Err(AppendError::Fenced);
        }
        rows.push(row.clone());
        Ok(())
    }
    fn read(&mut self, after: Seq, count_max: usize) -> Result<Vec<Row>, ReadError> {
        let rows = self.0.lock().unwrap();
        Ok(rows.iter().filter(|row| row.seq > after).take(count_max).cloned().collect())
    }
    fn head(&mut self) -> Result<Option<(Seq, Digest)>, ReadError> {
        Ok(self.0.lock().unwrap().last().map(|row| (row.seq, row.hash)))
    }
}

/// A snapshot as it was put.
type Snapshot = (SnapshotHeader, Vec<Bytes>);

/// The newest snapshot, in memory.
#[derive(Debug, Clone, Default)]
pub struct Kept(pub Arc<Mutex<Option<Snapshot>>>);

impl Snapshots for Kept {
    fn newest(&mut self) -> Result<Option<(SnapshotHeader, Vec<Bytes>)>, SnapshotFault> {
        Ok(self.0.lock().unwrap().clone())
    }
    fn put(&mut self, header: &SnapshotHeader, chunks: &[Bytes]) -> Result<(), SnapshotFault> {
        *self.0.lock().unwrap() = Some((header.clone(), chunks.to_vec()));
        Ok(())
    }
}

/// A customer whose opening panics after half of its work.
pub const POISONED: CustomerId = CustomerId([0xee; 16]);
/// Deriving an address of this wallet panics.
pub const POISONED_WALLET: WalletId = WalletId(0xee);
/// A bank reference that starts with this makes a row too large.
pub const GIANT: &str = "giant";

/// Opening a customer twice is refused; a bank reference weighs as much as it says; some commands panic.
pub struct Toy;

impl Rules for Toy {
    fn decide(&mut self, state: &mut State, request: &Request, now: LedgerTime) -> Result<Verdict, Refusal> {
        if let Origin::Request { id, request } = &request.origin
            && let Some(known) = state.remembered().get(id)
        {
            let same = known.request == *request;
            return if same {
                Ok(Verdict::Repeated(known.outcome.clone()))
            } else {
                Err(OriginRefusal::Mismatch.into())
            };
        }
        let event = match &request.command {
            Command::OpenCustomer(id) => {
                if state.customers().contains_key(id) {
                    return Err(OriginRefusal::SequenceDone.into());
                }
                Event::CustomerSet(Customer { id: *id, opened: now, freezes: 0 })
            }
            Command::BookBankReceipt { reference, .. } => {
                let reference = if reference.starts_with(GIANT) { "x".repeat(1 << 21) } else { reference.clone() };
                Event::BankReceiptBooked(BankReceiptBooked { reference })
            }
            Command::Tick => return Ok(Verdict::Decided { events: vec![], outcome: Outcome::Done(false) }),
            other => panic!("no toy rule for {other:?}"),
        };
        state.apply(&event);
        assert!(!matches!(&request.command, Command::OpenCustomer(id) if *id == POISONED), "poisoned");
        Ok(Verdict::Decided { events: vec![event], outcome: Outcome::Done(true) })
    }

    fn complete(&mut self, scripts: &mut Scripts, state: &State, ask: Ask) -> Result<Request, ScriptFault> {
        assert!(!matches!(&ask, Ask::NextAddress { wallet: POISONED_WALLET, .. }), "poisoned keys");
        CoreRules.complete(scripts, state, ask)
    }
}

pub fn config(node: &str) -> WriterConfig {
    WriterConfig { node: node.to_owned(), build: "test".to_owned(), config: Digest([7; 32]), platform_if_new: [9; 16] }
}

pub fn writer(node: &str) -> Writer {
    Writer::new(config(node), Box::new(Toy))
}

/// A command id that carries `number` in its last bytes.
pub fn command_id(number: u64) -> CommandId {
    let mut id = [0u8; 16];
    id[6] = 0x70;
    id[8..].copy_from_slice(&number.to_be_bytes());
    id[8] = 0x80;
    CommandId(id)
}

pub fn customer(number: u64) -> CustomerId {
    let mut id = [0u8; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    CustomerId(id)
}

pub fn open(number: u64, whose: CustomerId) -> Ask {
    let mut hash = [0u8; 32];
    hash[..16].copy_from_slice(&whose.0);
    let origin = Origin::Request { id: command_id(number), request: Digest(hash) };
    Ask::Request(Request { origin, command: Command::OpenCustomer(whose) })
}

pub fn poisoned_address(origin: Origin) -> Ask {
    use florin_core::custody::{Beneficiary, Branch};
    Ask::NextAddress { origin, wallet: POISONED_WALLET, branch: Branch::External, beneficiary: Beneficiary::INVENTORY }
}

pub fn receipt(number: u64, reference: String) -> Ask {
    use florin_core::amount::Amount;
    use florin_core::custody::Beneficiary;
    use florin_core::id::AssetId;
    let origin = Origin::Request { id: command_id(number), request: Digest([1; 32]) };
    let (asset, amount, beneficiary) = (AssetId(1), Amount::new(1), Beneficiary::INVENTORY);
    Ask::Request(Request { origin, command: Command::BookBankReceipt { reference, asset, amount, beneficiary } })
}
