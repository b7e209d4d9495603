//! What decisions come to: the tables that requests are judged by. The chain of decisions is what the memory is; the tables only
//! save folding it at each request, and must never be believed beyond it.

use super::{Decision, MemoryError, Signature, number, unsigned};
use crate::protocol::{Fence, MemoryHead};
use bitcoin::hashes::{Hash, HashEngine, sha256};
use florin_core::id::Digest;
use florin_core::wire::Message;
use rusqlite::types::Value;
use rusqlite::{Connection, Transaction, params};

/// The tables. Numbers are 63 bits wide: the session refuses larger ones.
pub(super) const SCHEMA: &str = "
CREATE TABLE identity (one INTEGER PRIMARY KEY CHECK (one = 1), format INTEGER NOT NULL, memory BLOB NOT NULL, platform BLOB NOT NULL) STRICT;
CREATE TABLE decision (counter INTEGER PRIMARY KEY, record BLOB NOT NULL, hash BLOB NOT NULL) STRICT;
CREATE TABLE fence (one INTEGER PRIMARY KEY CHECK (one = 1), record BLOB NOT NULL) STRICT;
CREATE TABLE plan (plan INTEGER PRIMARY KEY, anchor_txid BLOB, anchor_vout INTEGER, receipt BLOB,
  CHECK ((receipt IS NULL) = (anchor_txid IS NOT NULL) AND (receipt IS NULL) = (anchor_vout IS NOT NULL))) STRICT;
CREATE TABLE version (plan INTEGER NOT NULL REFERENCES plan, version INTEGER NOT NULL, signed BLOB NOT NULL, PRIMARY KEY (plan, version)) STRICT;
CREATE TABLE outpoint (txid BLOB NOT NULL, vout INTEGER NOT NULL, plan INTEGER NOT NULL REFERENCES plan, PRIMARY KEY (txid, vout)) STRICT;
CREATE TABLE withdrawal (withdrawal BLOB PRIMARY KEY, plan INTEGER NOT NULL REFERENCES plan, script BLOB NOT NULL, amount BLOB NOT NULL) STRICT;
CREATE INDEX withdrawal_of_plan ON withdrawal (plan);
CREATE TABLE charge (counter INTEGER NOT NULL REFERENCES decision, wallet INTEGER NOT NULL, time INTEGER NOT NULL, plan INTEGER NOT NULL REFERENCES plan,
  script BLOB NOT NULL, amount INTEGER NOT NULL CHECK (amount > 0)) STRICT;
CREATE INDEX charge_of_time ON charge (wallet, time);
CREATE INDEX charge_of_plan ON charge (plan);
CREATE TABLE change (wallet INTEGER PRIMARY KEY, index_max INTEGER NOT NULL) STRICT;
";

/// The tables that decisions are folded into, and their columns; and what the database says of all tables itself: a trigger could
/// take rows away as they are written.
pub(super) const FOLDED: [(&str, &str); 8] = [
    ("sqlite_schema", "type, name, tbl_name, sql"),
    ("fence", "one, record"),
    ("plan", "plan, anchor_txid, anchor_vout, receipt"),
    ("version", "plan, version, signed"),
    ("outpoint", "txid, vout, plan"),
    ("withdrawal", "withdrawal, plan, script, amount"),
    ("charge", "counter, wallet, time, plan, script, amount"),
    ("change", "wallet, index_max"),
];

/// Memory that the fold takes before it goes to the disk, in KiB: some tens of thousands of decisions.
const FOLD_KIB: i64 = 64 * 1024;

/// Writes what a decision means into the tables; returns the fence it stands at.
pub(super) fn write(transaction: &Transaction<'_>, counter: u64, decision: &Decision) -> Result<Fence, MemoryError> {
    let fence = write_tables(transaction, counter, decision)?;
    transaction.execute(
        "INSERT INTO fence (one, record) VALUES (1, ?1) ON CONFLICT (one) DO UPDATE SET record = excluded.record",
        [fence.encode()],
    )?;
    Ok(fence)
}

fn write_tables(transaction: &Transaction<'_>, counter: u64, decision: &Decision) -> Result<Fence, MemoryError> {
    match decision {
        Decision::Seen(fence) => Ok(*fence),
        Decision::Void(void) => {
            transaction.execute(
                "INSERT INTO plan (plan, receipt) VALUES (?1, ?2)",
                params![number(void.receipt.plan.0)?, void.receipt.encode()],
            )?;
            Ok(void.fence)
        }
        Decision::Signature(signature) => {
            write_signature(transaction, counter, signature)?;
            Ok(signature.fence)
        }
    }
}

fn write_signature(transaction: &Transaction<'_>, counter: u64, signature: &Signature) -> Result<(), MemoryError> {
    let plan = number(signature.signed.plan.0)?;
    transaction.execute(
        "INSERT INTO plan (plan, anchor_txid, anchor_vout) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
        params![plan, signature.anchor.txid.0, signature.anchor.vout],
    )?;
    transaction.execute(
        "INSERT INTO version (plan, version, signed) VALUES (?1, ?2, ?3)",
        params![plan, signature.signed.version, signature.signed.encode()],
    )?;
    for input in &signature.inputs {
        transaction.execute(
            "INSERT INTO outpoint (txid, vout, plan) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
            params![input.txid.0, input.vout, plan],
        )?;
    }
    for payment in &signature.payments {
        transaction.execute(
            "INSERT INTO withdrawal (withdrawal, plan, script, amount) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
            params![payment.withdrawal.0, plan, payment.script.0, payment.amount.units().to_be_bytes()],
        )?;
    }
    for charge in &signature.charges {
        transaction.execute(
            "INSERT INTO charge (counter, wallet, time, plan, script, amount) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                number(counter)?,
                signature.wallet.0,
                number(signature.time.0)?,
                plan,
                charge.script.0,
                number(charge.amount)?
            ],
        )?;
    }
    if let Some(index) = signature.change_index {
        transaction.execute(
            "INSERT INTO change (wallet, index_max) VALUES (?1, ?2)
             ON CONFLICT (wallet) DO UPDATE SET index_max = max(index_max, excluded.index_max)",
            params![signature.wallet.0, index],
        )?;
    }
    Ok(())
}

/// Walks the whole chain of decisions, folds it into fresh tables and holds the memory's own against them: a row that was changed,
/// cut out or put in is found before anything is signed. Limits that look unused, plans that look unsigned and coins that look
/// free are all rows that are missing.
pub(super) fn check(connection: &Connection, memory: [u8; 16]) -> Result<(MemoryHead, Option<Fence>), MemoryError> {
    let mut fresh = Connection::open("")?;
    fresh.pragma_update(None, "cache_size", -FOLD_KIB)?;
    // The decisions themselves stay where they are.
    fresh.pragma_update(None, "foreign_keys", "OFF")?;
    fresh.execute_batch("PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF")?;
    fresh.execute_batch(SCHEMA)?;
    let transaction = fresh.transaction()?;
    let (mut head, mut highest) = (MemoryHead { memory, counter: 0, hash: Digest::ZERO }, None);
    let mut statement = connection.prepare("SELECT counter, record, hash FROM decision ORDER BY counter")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (counter, record, hash) = (row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?, row.get::<_, [u8; 32]>(2)?);
        let next = head.counter + 1;
        if unsigned(counter)? != next || chain_hash(&head.hash, next, &record).0 != hash {
            return Err(MemoryError::Damaged("its chain of decisions is broken"));
        }
        highest = Some(write(&transaction, next, &Decision::decode(&record)?).map_err(contradiction)?);
        head = MemoryHead { counter: next, hash: Digest(hash), ..head };
    }
    transaction.commit()?;
    for (table, columns) in FOLDED {
        if !is_same(connection, &fresh, table, columns)? {
            return Err(MemoryError::TableDiffers { table });
        }
    }
    Ok((head, highest))
}

/// A decision that does not fit those before it was never made by a signer.
fn contradiction(error: MemoryError) -> MemoryError {
    match error {
        MemoryError::Database(fault) if fault.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) => {
            MemoryError::Damaged("its decisions contradict each other")
        }
        error => error,
    }
}

fn is_same(own: &Connection, fresh: &Connection, table: &str, columns: &str) -> Result<bool, MemoryError> {
    let sql = format!("SELECT {columns} FROM {table} ORDER BY {columns}");
    let (mut own, mut fresh) = (own.prepare(&sql)?, fresh.prepare(&sql)?);
    let width = own.column_count();
    let (mut own, mut fresh) = (own.query([])?, fresh.query([])?);
    loop {
        let (found, wanted) = (values(own.next()?, width)?, values(fresh.next()?, width)?);
        if found != wanted {
            return Ok(false);
        }
        if wanted.is_none() {
            return Ok(true);
        }
    }
}

fn values(row: Option<&rusqlite::Row<'_>>, width: usize) -> Result<Option<Vec<Value>>, MemoryError> {
    let Some(row) = row else { return Ok(None) };
    Ok(Some((0..width).map(|column| row.get(column)).collect::<Result<_, _>>()?))
}

pub(super) fn chain_hash(previous: &Digest, counter: u64, record: &[u8]) -> Digest {
    let mut engine = sha256::Hash::engine();
    engine.input(b"florin/signer-memory/1");
    engine.input(&previous.0);
    engine.input(&counter.to_be_bytes());
    engine.input(record);
    Digest(sha256::Hash::from_engine(engine).to_byte_array())
}
