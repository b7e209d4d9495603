//! The signer's durable memory: what it has seen, signed and given up. It must never forget, never be rolled back
//! unnoticed, and never be written in parts: all of a decision is one transaction, durable before anything leaves.
//!
//! Each decision is a row that names the hash of the row before it; the head of that chain goes out with every reply
//! ([`MemoryHead`]) and comes back with the next question, so that a memory that was restored from an older copy is told, also
//! once it was written on. The tables that requests are judged by are folded from the chain anew at each opening, and compared. One process at a time: the database is locked for as long as it is open.

mod file;
mod fold;

use crate::entropy::{EntropyError, random_bytes};
use crate::protocol::{Fence, Input, MemoryDoubt, MemoryHead, Signed, VoidReceipt};
use florin_core::amount::Amount;
use florin_core::id::{Digest, LedgerTime, PlanId, TxId, WalletId, WithdrawalId};
use florin_core::wire::{Bytes, Message, WireError};
use rusqlite::{Connection, OptionalExtension, params};
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// After so many decisions the log is copied into the file: a decision takes some tens of kilobytes of log, so that it stays
/// within a few megabytes, and a start has little to copy.
const CHECKPOINT_DECISIONS: u64 = 64;

/// The format this build reads and writes.
const FORMAT: i64 = 1;

florin_core::message! {
    /// One payment of a signed plan.
    #[derive(PartialOrd, Ord)]
    pub struct PaidWithdrawal {
        /// The withdrawal.
        1: withdrawal: WithdrawalId,
        /// The script paid.
        2: script: Bytes,
        /// The amount.
        3: amount: Amount,
    }
}

florin_core::message! {
    /// What counts against the automatic limits.
    #[derive(PartialOrd, Ord)]
    pub struct Charge {
        /// The destination; empty for fees.
        1: script: Bytes,
        /// In satoshi.
        2: amount: u64,
    }
}

florin_core::message! {
    /// The decision to sign.
    pub struct Signature {
        /// The highest place in the journal seen.
        1: fence: Fence,
        /// The wallet.
        2: wallet: WalletId,
        /// The plan's anchor.
        3: anchor: Input,
        /// Everything it spends.
        4: inputs: Vec<Input>,
        /// What it pays.
        5: payments: Vec<PaidWithdrawal>,
        /// What it adds to the counters, beyond what earlier versions of the plan did.
        6: charges: Vec<Charge>,
        /// The change's index.
        7: change_index: Option<u32>,
        /// When, by the signer's own clock, never before an earlier charge of the wallet.
        8: time: LedgerTime,
        /// The signed version.
        9: signed: Signed,
    }
}

florin_core::message! {
    /// The decision to give a plan up.
    pub struct Void {
        /// The highest place in the journal seen.
        1: fence: Fence,
        /// The receipt.
        2: receipt: VoidReceipt,
    }
}

florin_core::oneof! {
    /// A decision.
    pub enum Decision {
        /// A later place in the journal was seen.
        1: Seen(Fence),
        /// A version of a plan was signed.
        2: Signature(Signature),
        /// A plan was given up.
        3: Void(Void),
    }
}

/// Why the memory can't be used. The signer stops then: it signs nothing that it could not remember.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// There already is a file; nothing was written.
    #[error("a signer's memory stands there already; it is never overwritten")]
    Exists,
    /// There is no file. A lost memory is never replaced by an empty one without a person.
    #[error("there is no signer's memory")]
    Missing,
    /// Another process has it open.
    #[error("another process has the signer's memory open")]
    Locked,
    /// It was written by another version.
    #[error("the memory's format is {found}; this build reads {FORMAT}")]
    FormatUnknown {
        /// The format found.
        found: i64,
    },
    /// It belongs to another platform.
    #[error("the memory belongs to another platform")]
    PlatformMismatch,
    /// Its content contradicts itself.
    #[error("the signer's memory is damaged: {0}")]
    Damaged(&'static str),
    /// A table that is judged by is not what the decisions come to: rows were deleted, changed or put in.
    #[error("the table {table} of the signer's memory is not what its decisions come to")]
    TableDiffers {
        /// Which.
        table: &'static str,
    },
    /// A record in it can't be read.
    #[error("a record in the signer's memory can't be read")]
    Record(#[from] WireError),
    /// An earlier write failed: whether it is durable is unknown until the memory is opened again.
    #[error("an earlier write failed; the signer must be started again")]
    Poisoned,
    /// The system's randomness failed.
    #[error("no randomness")]
    Entropy(#[from] EntropyError),
    /// The file system.
    #[error("the memory's file can't be made")]
    Io(#[source] std::io::Error),
    /// The database.
    #[error("the memory's database failed")]
    Database(#[from] rusqlite::Error),
}

impl MemoryError {
    /// The stable code of this fault.
    pub fn code(&self) -> &'static str {
        match self {
            MemoryError::Exists => "memory_exists",
            MemoryError::Missing => "memory_missing",
            MemoryError::Locked => "memory_locked",
            MemoryError::FormatUnknown { .. } => "memory_format_unknown",
            MemoryError::PlatformMismatch => "memory_platform_mismatch",
            MemoryError::Damaged(_) => "memory_damaged",
            MemoryError::TableDiffers { .. } => "memory_table_differs",
            MemoryError::Record(_) => "memory_record_unreadable",
            MemoryError::Poisoned => "memory_poisoned",
            MemoryError::Entropy(error) => error.code(),
            MemoryError::Io(_) => "memory_io",
            MemoryError::Database(_) => "memory_database",
        }
    }
}

/// What the memory knows of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanMemory {
    /// Given up.
    Voided(VoidReceipt),
    /// Signed at least once.
    Signed {
        /// Its anchor.
        anchor: Input,
    },
}

/// The open memory.
#[derive(Debug)]
pub struct Memory {
    connection: Connection,
    head: MemoryHead,
    highest: Option<Fence>,
    poisoned: bool,
}

impl Memory {
    /// Makes a new memory for `platform` at `path`.
    ///
    /// # Errors
    /// [`MemoryError::Exists`], then faults.
    pub fn create(path: &Path, platform: [u8; 16]) -> Result<Memory, MemoryError> {
        let memory = *random_bytes::<16>()?;
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        made.and_then(|file| file.sync_all()).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => MemoryError::Exists,
            _ => MemoryError::Io(error),
        })?;
        let connection = file::open(path)?;
        found(&connection, memory, platform)?;
        file::sync_folder(path)?;
        Memory::load(connection, platform)
    }

    /// A memory that lasts as long as the process, for simulations; `memory` is its id.
    ///
    /// # Errors
    /// Faults of the database.
    pub fn volatile(platform: [u8; 16], memory: [u8; 16]) -> Result<Memory, MemoryError> {
        let connection = Connection::open_in_memory()?;
        found(&connection, memory, platform)?;
        Memory::load(connection, platform)
    }

    /// The same memory on a disk that is full from now on, for tests: every decision fails half way. Its file says nothing of it.
    ///
    /// # Errors
    /// Faults of the database.
    pub fn on_full_disk(self) -> Result<Memory, MemoryError> {
        self.connection.execute_batch(
            "CREATE TEMP TRIGGER full BEFORE INSERT ON main.fence BEGIN SELECT raise(ABORT, 'the disk is full'); END",
        )?;
        Ok(self)
    }

    /// Opens the memory of `platform`; it is never made anew here.
    ///
    /// # Errors
    /// The variants of [`MemoryError`] from `Missing` to `Record`, then faults.
    pub fn open(path: &Path, platform: [u8; 16]) -> Result<Memory, MemoryError> {
        if !path.try_exists().map_err(MemoryError::Io)? {
            return Err(MemoryError::Missing);
        }
        let connection = file::open(path)?;
        // Indexes as well: what an index lacks, a sum over it lacks.
        let sound: String =
            connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(file::not_a_database)?;
        if sound != "ok" {
            return Err(MemoryError::Damaged("the database fails its own check"));
        }
        Memory::load(connection, platform)
    }

    fn load(connection: Connection, platform: [u8; 16]) -> Result<Memory, MemoryError> {
        let identity = connection.query_row("SELECT format, memory, platform FROM identity", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?, row.get::<_, Vec<u8>>(2)?))
        });
        let (format, memory, owner) = identity.map_err(|_| MemoryError::Damaged("it has no identity"))?;
        if format != FORMAT {
            return Err(MemoryError::FormatUnknown { found: format });
        }
        if owner != platform {
            return Err(MemoryError::PlatformMismatch);
        }
        let memory = <[u8; 16]>::try_from(memory).map_err(|_| MemoryError::Damaged("its id has a wrong length"))?;
        let (head, highest) = fold::check(&connection, memory)?;
        Ok(Memory { connection, head, highest, poisoned: false })
    }

    /// Copies the log into the file and closes it: the file alone is then the whole memory. A process that ends otherwise leaves the
    /// newest decisions in the log beside it.
    ///
    /// # Errors
    /// Faults of the database; the log then stays.
    pub fn close(self) -> Result<(), MemoryError> {
        self.check_sound()?;
        file::settle(&self.connection)?;
        Ok(self.connection.close().map_err(|(_, error)| error)?)
    }

    /// The head of the chain of decisions.
    pub fn head(&self) -> MemoryHead {
        self.head
    }

    /// Whether it still has all that it had at `known`: rows are linked by their hashes, so that the one row of that number
    /// vouches for all before it. The inner answer is what is doubtful.
    ///
    /// # Errors
    /// Faults.
    pub fn remembers(&self, known: &MemoryHead) -> Result<Result<(), MemoryDoubt>, MemoryError> {
        self.check_sound()?;
        if known.memory != self.head.memory {
            return Ok(Err(MemoryDoubt::Replaced));
        }
        if known.counter > self.head.counter {
            return Ok(Err(MemoryDoubt::Behind));
        }
        let mut statement = self.connection.prepare("SELECT hash FROM decision WHERE counter = ?1")?;
        let found = statement.query_row([number(known.counter)?], |row| row.get::<_, [u8; 32]>(0)).optional()?;
        let hash = found.map_or(Digest::ZERO, Digest);
        Ok(if hash == known.hash { Ok(()) } else { Err(MemoryDoubt::Conflict) })
    }

    /// The highest place in the journal seen.
    pub fn highest(&self) -> Option<Fence> {
        self.highest
    }

    /// What is known of a plan.
    ///
    /// # Errors
    /// Faults, as for all queries here.
    pub fn plan(&self, plan: PlanId) -> Result<Option<PlanMemory>, MemoryError> {
        self.check_sound()?;
        let mut statement =
            self.connection.prepare("SELECT anchor_txid, anchor_vout, receipt FROM plan WHERE plan = ?1")?;
        let row = statement.query_row([number(plan.0)?], |row| {
            Ok((row.get::<_, Option<Vec<u8>>>(0)?, row.get::<_, Option<u32>>(1)?, row.get::<_, Option<Vec<u8>>>(2)?))
        });
        match row.optional()? {
            None => Ok(None),
            Some((_, _, Some(receipt))) => Ok(Some(PlanMemory::Voided(VoidReceipt::decode(&receipt)?))),
            Some((Some(txid), Some(vout), None)) => {
                let txid =
                    <[u8; 32]>::try_from(txid).map_err(|_| MemoryError::Damaged("an anchor has a wrong length"))?;
                Ok(Some(PlanMemory::Signed { anchor: Input { txid: TxId(txid), vout } }))
            }
            Some(_) => Err(MemoryError::Damaged("a plan is neither signed nor voided")),
        }
    }

    /// The signed bytes of a version, if it was ever signed.
    ///
    /// # Errors
    /// Faults.
    pub fn signed(&self, plan: PlanId, version: u32) -> Result<Option<Signed>, MemoryError> {
        self.check_sound()?;
        let mut statement = self.connection.prepare("SELECT signed FROM version WHERE plan = ?1 AND version = ?2")?;
        let record =
            statement.query_row(params![number(plan.0)?, version], |row| row.get::<_, Vec<u8>>(0)).optional()?;
        Ok(record.map(|record| Signed::decode(&record)).transpose()?)
    }

    /// The highest signed version of a plan.
    ///
    /// # Errors
    /// Faults.
    pub fn newest_signed(&self, plan: PlanId) -> Result<Option<Signed>, MemoryError> {
        self.check_sound()?;
        let mut statement =
            self.connection.prepare("SELECT signed FROM version WHERE plan = ?1 ORDER BY version DESC LIMIT 1")?;
        let record = statement.query_row([number(plan.0)?], |row| row.get::<_, Vec<u8>>(0)).optional()?;
        Ok(record.map(|record| Signed::decode(&record)).transpose()?)
    }

    /// How many versions of a plan are signed.
    ///
    /// # Errors
    /// Faults.
    pub fn version_count(&self, plan: PlanId) -> Result<u64, MemoryError> {
        self.check_sound()?;
        self.count("SELECT count(*) FROM version WHERE plan = ?1", params![number(plan.0)?])
    }

    /// The plan that an outpoint belongs to.
    ///
    /// # Errors
    /// Faults.
    pub fn outpoint_plan(&self, input: &Input) -> Result<Option<PlanId>, MemoryError> {
        self.check_sound()?;
        let mut statement = self.connection.prepare("SELECT plan FROM outpoint WHERE txid = ?1 AND vout = ?2")?;
        let plan = statement.query_row(params![input.txid.0, input.vout], |row| row.get::<_, i64>(0)).optional()?;
        plan.map(|plan| Ok(PlanId(unsigned(plan)?))).transpose()
    }

    /// The plan that a withdrawal belongs to.
    ///
    /// # Errors
    /// Faults.
    pub fn withdrawal_plan(&self, withdrawal: WithdrawalId) -> Result<Option<PlanId>, MemoryError> {
        self.check_sound()?;
        let mut statement = self.connection.prepare("SELECT plan FROM withdrawal WHERE withdrawal = ?1")?;
        let plan = statement.query_row([withdrawal.0], |row| row.get::<_, i64>(0)).optional()?;
        plan.map(|plan| Ok(PlanId(unsigned(plan)?))).transpose()
    }

    /// What a signed plan pays, in order of withdrawal.
    ///
    /// # Errors
    /// Faults.
    pub fn payments(&self, plan: PlanId) -> Result<Vec<PaidWithdrawal>, MemoryError> {
        self.check_sound()?;
        let mut statement = self
            .connection
            .prepare("SELECT withdrawal, script, amount FROM withdrawal WHERE plan = ?1 ORDER BY withdrawal")?;
        let rows = statement.query_map([number(plan.0)?], |row| {
            Ok((row.get::<_, [u8; 16]>(0)?, row.get::<_, Vec<u8>>(1)?, row.get::<_, [u8; 16]>(2)?))
        })?;
        rows.map(|row| {
            let (withdrawal, script, amount) = row?;
            let amount = Amount::new(u128::from_be_bytes(amount));
            Ok(PaidWithdrawal { withdrawal: WithdrawalId(withdrawal), script: Bytes(script), amount })
        })
        .collect()
    }

    /// What a plan has been charged with so far, by destination.
    ///
    /// # Errors
    /// Faults.
    pub fn charged(&self, plan: PlanId) -> Result<Vec<Charge>, MemoryError> {
        self.check_sound()?;
        let mut statement = self
            .connection
            .prepare("SELECT script, sum(amount) FROM charge WHERE plan = ?1 GROUP BY script ORDER BY script")?;
        let rows =
            statement.query_map([number(plan.0)?], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, i64>(1)?)))?;
        rows.map(|row| {
            let (script, amount) = row?;
            Ok(Charge { script: Bytes(script), amount: unsigned(amount)? })
        })
        .collect()
    }

    /// What a wallet was charged with after `since`.
    ///
    /// # Errors
    /// Faults.
    pub fn charged_since(&self, wallet: WalletId, since: Option<LedgerTime>) -> Result<u64, MemoryError> {
        self.check_sound()?;
        self.count(
            "SELECT coalesce(sum(amount), 0) FROM charge WHERE wallet = ?1 AND time > ?2",
            params![wallet.0, bound(since)?],
        )
    }

    /// What a wallet was charged with after `since` for one destination.
    ///
    /// # Errors
    /// Faults.
    pub fn charged_to_since(
        &self,
        wallet: WalletId,
        script: &[u8],
        since: Option<LedgerTime>,
    ) -> Result<u64, MemoryError> {
        self.check_sound()?;
        self.count(
            "SELECT coalesce(sum(amount), 0) FROM charge WHERE wallet = ?1 AND time > ?2 AND script = ?3",
            params![wallet.0, bound(since)?, script],
        )
    }

    /// When a wallet was last charged.
    ///
    /// # Errors
    /// Faults.
    pub fn charge_time_max(&self, wallet: WalletId) -> Result<Option<LedgerTime>, MemoryError> {
        self.check_sound()?;
        let mut statement = self.connection.prepare("SELECT max(time) FROM charge WHERE wallet = ?1")?;
        let time = statement.query_row([wallet.0], |row| row.get::<_, Option<i64>>(0))?;
        time.map(|time| Ok(LedgerTime(unsigned(time)?))).transpose()
    }

    /// The highest change index signed for.
    ///
    /// # Errors
    /// Faults.
    pub fn change_index_max(&self, wallet: WalletId) -> Result<Option<u32>, MemoryError> {
        self.check_sound()?;
        let mut statement = self.connection.prepare("SELECT index_max FROM change WHERE wallet = ?1")?;
        Ok(statement.query_row([wallet.0], |row| row.get(0)).optional()?)
    }

    /// How many plans are signed, and how many voided.
    ///
    /// # Errors
    /// Faults.
    pub fn plan_counts(&self) -> Result<(u64, u64), MemoryError> {
        self.check_sound()?;
        let signed = self.count("SELECT count(*) FROM plan WHERE receipt IS NULL", params![])?;
        let voided = self.count("SELECT count(*) FROM plan WHERE receipt IS NOT NULL", params![])?;
        Ok((signed, voided))
    }

    /// Records a decision. When this returns, it is durable.
    ///
    /// # Errors
    /// Faults; the memory is then poisoned, since nobody knows what the disk holds.
    pub fn record(&mut self, decision: &Decision) -> Result<(), MemoryError> {
        self.check_sound()?;
        self.poisoned = true;
        let encoded = decision.encode();
        let counter = self.head.counter.checked_add(1).ok_or(MemoryError::Damaged("its counter is full"))?;
        let hash = fold::chain_hash(&self.head.hash, counter, &encoded);
        if counter.is_multiple_of(CHECKPOINT_DECISIONS) {
            file::settle(&self.connection)?;
        }
        let transaction = self.connection.transaction()?;
        transaction.execute(
            "INSERT INTO decision (counter, record, hash) VALUES (?1, ?2, ?3)",
            params![number(counter)?, encoded, hash.0],
        )?;
        let fence = fold::write(&transaction, counter, decision)?;
        transaction.commit()?;
        self.head = MemoryHead { counter, hash, ..self.head };
        self.highest = Some(fence);
        self.poisoned = false;
        Ok(())
    }

    fn check_sound(&self) -> Result<(), MemoryError> {
        if self.poisoned { Err(MemoryError::Poisoned) } else { Ok(()) }
    }

    fn count(&self, query: &str, parameters: &[&dyn rusqlite::ToSql]) -> Result<u64, MemoryError> {
        let value = self.connection.prepare(query)?.query_row(parameters, |row| row.get::<_, i64>(0))?;
        unsigned(value)
    }
}

fn found(connection: &Connection, memory: [u8; 16], platform: [u8; 16]) -> Result<(), MemoryError> {
    let transaction = connection.unchecked_transaction()?;
    transaction.execute_batch(fold::SCHEMA)?;
    transaction.execute(
        "INSERT INTO identity (one, format, memory, platform) VALUES (1, ?1, ?2, ?3)",
        params![FORMAT, memory, platform],
    )?;
    transaction.commit()?;
    Ok(())
}

fn number(value: u64) -> Result<i64, MemoryError> {
    i64::try_from(value).map_err(|_| MemoryError::Damaged("a number exceeds 63 bits"))
}

fn unsigned(value: i64) -> Result<u64, MemoryError> {
    u64::try_from(value).map_err(|_| MemoryError::Damaged("a number is negative"))
}

/// Times after this count; before the first window is full, all do, also time 0.
fn bound(since: Option<LedgerTime>) -> Result<i64, MemoryError> {
    since.map_or(Ok(-1), |since| number(since.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::SigningKey;
    use florin_core::id::{Epoch, Seq};

    const PLATFORM: [u8; 16] = [7; 16];

    fn fence(seq: u64) -> Fence {
        Fence { platform: PLATFORM, epoch: Epoch(1), seq: Seq(seq), head: Digest([1; 32]), time: LedgerTime(seq) }
    }

    fn void(plan: u64) -> Decision {
        let receipt = VoidReceipt::sign(PLATFORM, PlanId(plan), &SigningKey::from_bytes(&[3; 32]));
        Decision::Void(Void { fence: fence(plan), receipt })
    }

    fn signature(plan: u64, time: u64, amount: u64) -> Signature {
        let input = Input { txid: TxId([plan as u8; 32]), vout: 0 };
        let payment = PaidWithdrawal {
            withdrawal: WithdrawalId([plan as u8; 16]),
            script: Bytes(vec![1]),
            amount: Amount::new(u128::from(amount)),
        };
        let signed = Signed {
            plan: PlanId(plan),
            version: 0,
            transaction: Bytes(vec![9; 3]),
            txid: TxId([4; 32]),
            fee: Amount::new(1),
        };
        Signature {
            fence: fence(plan),
            wallet: WalletId(1),
            anchor: input,
            inputs: vec![input],
            payments: vec![payment],
            charges: vec![Charge { script: Bytes(vec![1]), amount }],
            change_index: Some(plan as u32),
            time: LedgerTime(time),
            signed,
        }
    }

    fn code<T>(result: Result<T, MemoryError>) -> &'static str {
        result.err().map_or("ok", |error| error.code())
    }

    #[test]
    fn what_is_recorded_is_there_after_reopening() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("memory");
        let mut memory = Memory::create(&path, PLATFORM).expect("a memory");
        memory.record(&void(1)).expect("recorded");
        let decision = signature(2, 50, 600);
        memory.record(&Decision::Signature(decision.clone())).expect("recorded");
        let head = memory.head();
        drop(memory);
        let memory = Memory::open(&path, PLATFORM).expect("opened");
        assert_eq!((memory.head(), memory.highest()), (head, Some(decision.fence)));
        assert!(
            matches!(memory.plan(PlanId(1)).expect("read"), Some(PlanMemory::Voided(receipt)) if receipt.plan == PlanId(1))
        );
        assert_eq!(memory.plan(PlanId(2)).expect("read"), Some(PlanMemory::Signed { anchor: decision.anchor }));
        assert_eq!(memory.plan(PlanId(3)).expect("read"), None);
        assert_eq!(memory.signed(PlanId(2), 0).expect("read"), Some(decision.signed));
        assert_eq!(memory.signed(PlanId(2), 1).expect("read"), None);
        assert_eq!(memory.version_count(PlanId(2)).expect("read"), 1);
        assert_eq!(memory.outpoint_plan(&decision.anchor).expect("read"), Some(PlanId(2)));
        assert_eq!(memory.withdrawal_plan(WithdrawalId([2; 16])).expect("read"), Some(PlanId(2)));
        assert_eq!(memory.payments(PlanId(2)).expect("read"), decision.payments);
        assert_eq!(memory.charged(PlanId(2)).expect("read"), decision.charges);
        assert_eq!(memory.change_index_max(WalletId(1)).expect("read"), Some(2));
        assert_eq!(memory.plan_counts().expect("read"), (1, 1));
    }

    #[test]
    fn a_memory_that_was_closed_is_one_file_and_one_that_was_not_has_its_log_beside_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, copy) = (folder.path().join("memory"), folder.path().join("copy"));
        let mut memory = Memory::create(&path, PLATFORM).expect("a memory");
        for plan in 1..=3 {
            memory.record(&void(plan)).expect("recorded");
        }
        let alone = |memory: &Path| {
            std::fs::copy(memory, &copy).expect("copied");
            Memory::open(&copy, PLATFORM).map(|memory| memory.head().counter).ok()
        };
        assert_eq!(alone(&path), None, "a process that dies leaves everything since its start in the log");
        let head = memory.head();
        memory.close().expect("settled");
        assert_eq!(alone(&path), Some(3));
        assert_eq!(Memory::open(&path, PLATFORM).map(|memory| memory.head()).expect("opened"), head);
        let log = std::fs::metadata(folder.path().join("memory-wal")).map_or(0, |log| log.len());
        assert_eq!(log, 0);
    }

    #[test]
    fn windows_leave_out_what_lies_at_their_start() {
        let mut memory = Memory::volatile(PLATFORM, [1; 16]).expect("a memory");
        for (plan, time) in [(1, 0), (2, 10), (3, 20)] {
            memory.record(&Decision::Signature(signature(plan, time, 100))).expect("recorded");
        }
        let since = |time| memory.charged_since(WalletId(1), time).expect("read");
        assert_eq!((since(None), since(Some(LedgerTime(0))), since(Some(LedgerTime(10)))), (300, 200, 100));
        let to = |script: &[u8]| memory.charged_to_since(WalletId(1), script, None).expect("read");
        assert_eq!((to(&[1]), to(&[2])), (300, 0));
        assert_eq!(memory.charged_since(WalletId(2), None).expect("read"), 0);
        assert_eq!(memory.charge_time_max(WalletId(1)).expect("read"), Some(LedgerTime(20)));
        assert_eq!(memory.charge_time_max(WalletId(2)).expect("read"), None);
    }

    #[test]
    fn a_memory_is_neither_made_by_opening_nor_overwritten_nor_shared() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("memory");
        assert_eq!(code(Memory::open(&path, PLATFORM)), "memory_missing");
        let memory = Memory::create(&path, PLATFORM).expect("a memory");
        assert_eq!(code(Memory::create(&path, PLATFORM)), "memory_exists");
        assert_eq!(code(Memory::open(&path, PLATFORM)), "memory_locked");
        drop(memory);
        assert_eq!(code(Memory::open(&path, [8; 16])), "memory_platform_mismatch");
        assert_eq!(code(Memory::open(&path, PLATFORM)), "ok");
        let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().expect("a file").permissions());
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_changed_cut_or_foreign_file_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let changed = |name: &str, statement: &str| {
            let path = folder.path().join(name);
            let mut memory = Memory::create(&path, PLATFORM).expect("a memory");
            for plan in 1..=3 {
                memory.record(&void(plan)).expect("recorded");
            }
            drop(memory);
            Connection::open(&path).and_then(|connection| connection.execute_batch(statement)).expect("changed");
            code(Memory::open(&path, PLATFORM))
        };
        assert_eq!(changed("same", ""), "ok");
        assert_eq!(changed("cut", "DELETE FROM decision WHERE counter = 2"), "memory_damaged");
        assert_eq!(changed("edit", "UPDATE decision SET record = x'00' WHERE counter = 1"), "memory_damaged");
        assert_eq!(changed("anonymous", "DELETE FROM identity"), "memory_damaged");
        assert_eq!(changed("future", "UPDATE identity SET format = 2"), "memory_format_unknown");
        assert_eq!(changed("fence", "UPDATE fence SET record = x'00'"), "memory_table_differs");
        let path = folder.path().join("text");
        std::fs::write(&path, [b'x'; 5000]).expect("written");
        assert_eq!(code(Memory::open(&path, PLATFORM)), "memory_damaged");
    }

    #[test]
    fn tables_that_are_not_what_the_decisions_come_to_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut number = 0;
        let mut changed = |statement: &str| {
            number += 1;
            let path = folder.path().join(format!("memory-{number}"));
            let mut memory = Memory::create(&path, PLATFORM).expect("a memory");
            memory.record(&void(1)).expect("recorded");
            memory.record(&Decision::Signature(signature(2, 50, 600))).expect("recorded");
            memory.record(&Decision::Signature(signature(3, 60, 700))).expect("recorded");
            let head = memory.head();
            drop(memory);
            let file = Connection::open(&path).expect("it opens");
            file.execute_batch(&format!("PRAGMA foreign_keys = OFF; {statement}")).expect(statement);
            drop(file);
            match Memory::open(&path, PLATFORM) {
                Ok(memory) => {
                    assert_eq!(memory.head(), head);
                    "nothing"
                }
                Err(MemoryError::TableDiffers { table }) => table,
                Err(error) => panic!("{statement}: {error}"),
            }
        };
        assert_eq!(changed("SELECT 1"), "nothing");
        for (table, _) in fold::FOLDED.iter().skip(1) {
            assert_eq!(changed(&format!("DELETE FROM {table}")), *table, "emptied");
        }
        let cases = [
            ("fence", "UPDATE fence SET record = x'00'"),
            ("plan", "DELETE FROM plan WHERE plan = 1"),
            ("plan", "UPDATE plan SET anchor_vout = 7 WHERE plan = 2"),
            ("plan", "UPDATE plan SET receipt = x'00' WHERE plan = 1"),
            ("plan", "INSERT INTO plan (plan, receipt) VALUES (9, x'00')"),
            ("version", "UPDATE version SET signed = x'00' WHERE plan = 3"),
            ("version", "UPDATE version SET version = 1 WHERE plan = 3"),
            ("outpoint", "UPDATE outpoint SET vout = 1 WHERE plan = 3"),
            ("outpoint", "UPDATE outpoint SET plan = 2"),
            ("withdrawal", "UPDATE withdrawal SET plan = 2"),
            ("withdrawal", "UPDATE withdrawal SET script = x'05' WHERE plan = 2"),
            ("charge", "UPDATE charge SET amount = 1 WHERE plan = 3"),
            ("charge", "UPDATE charge SET time = 0"),
            ("charge", "DELETE FROM charge WHERE plan = 2"),
            ("charge", "INSERT INTO charge SELECT * FROM charge WHERE plan = 2"),
            ("charge", "UPDATE charge SET wallet = 2"),
            ("change", "UPDATE change SET index_max = 20000"),
            ("sqlite_schema", "CREATE TRIGGER forget AFTER INSERT ON charge BEGIN DELETE FROM charge; END"),
            ("sqlite_schema", "DROP INDEX charge_of_time"),
        ];
        for (table, statement) in cases {
            assert_eq!(changed(statement), table, "{statement}");
        }
    }

    #[test]
    fn a_chain_that_no_signer_made_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let chained = |name: &str, records: &[Vec<u8>]| {
            let path = folder.path().join(name);
            let memory = Memory::create(&path, PLATFORM).expect("a memory");
            let mut hash = memory.head().hash;
            drop(memory);
            let file = Connection::open(&path).expect("it opens");
            for (counter, record) in (1..).zip(records) {
                hash = fold::chain_hash(&hash, counter, record);
                let row = params![number(counter).expect("small"), record, hash.0];
                file.execute("INSERT INTO decision (counter, record, hash) VALUES (?1, ?2, ?3)", row).expect("written");
            }
            drop(file);
            code(Memory::open(&path, PLATFORM))
        };
        let signed = Decision::Signature(signature(1, 1, 1)).encode();
        assert_eq!(chained("none", &[]), "ok");
        assert_eq!(chained("nonsense", &[vec![0]]), "memory_record_unreadable");
        assert_eq!(chained("twice", &[void(1).encode(), void(1).encode()]), "memory_damaged");
        assert_eq!(chained("again", &[signed.clone(), signed.clone()]), "memory_damaged");
        assert_eq!(chained("alone", &[signed]), "memory_table_differs", "its tables are empty");
    }

    #[test]
    fn after_a_failed_write_nothing_is_believed() {
        let mut memory = Memory::volatile(PLATFORM, [1; 16]).expect("a memory");
        memory.record(&void(1)).expect("recorded");
        let head = memory.head();
        assert_eq!(code(memory.record(&void(1))), "memory_database", "a plan has one row");
        assert_eq!(memory.head(), head);
        assert_eq!(code(memory.plan(PlanId(1))), "memory_poisoned");
        assert_eq!(code(memory.record(&void(2))), "memory_poisoned");
    }
}
