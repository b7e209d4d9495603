//! What is known of the signer, beside the journal, where every node reads it: who it is, and the furthest that its memory was seen.
//! It never takes another signer, another memory or an earlier place for what stands; only a person replaces those.

use crate::database::{Database, Schema};
use crate::fault::StoreFault;
use crate::maria::MariaServer;
use crate::record::{Cell, NUMBER_MAX};
use crate::sqlite::{self, Durability};
use florin_core::id::Digest;
use std::path::Path;

/// The file's name within a platform's folder.
pub const FILE: &str = "signer.sqlite3";

const SCHEMA: Schema = Schema {
    component: "signer",
    steps: &["CREATE TABLE IF NOT EXISTS signer (
            id NUMBER PRIMARY KEY, is_known NUMBER NOT NULL, platform BYTES16 NOT NULL, public_key BYTES32 NOT NULL,
            memory BYTES16 NOT NULL, counter NUMBER NOT NULL, hash BYTES32 NOT NULL
        ) TABLE_END;
        INSERT INTO signer (id, is_known, platform, public_key, memory, counter, hash)
        SELECT 1, 0, x'00000000000000000000000000000000', x'0000000000000000000000000000000000000000000000000000000000000000',
            x'00000000000000000000000000000000', 0, x'0000000000000000000000000000000000000000000000000000000000000000'
        FROM (SELECT 1) AS one WHERE NOT EXISTS (SELECT 1 FROM signer)"],
    page_bytes: 4_096,
};

/// What is known of a signer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignerRecord {
    /// The platform that it serves.
    pub platform: [u8; 16],
    /// The public key of its void receipts and checkpoints.
    pub key: [u8; 32],
    /// Its memory's id.
    pub memory: [u8; 16],
    /// How many decisions the memory was seen to hold.
    pub counter: u64,
    /// The hash chain over them.
    pub hash: Digest,
}

/// The record in a table of either database.
#[derive(Debug)]
pub struct SqlSignerRecord {
    database: Database,
}

impl SqlSignerRecord {
    /// In a SQLite file of its own: the journal's file has one write lock, and that is the writer's. Command lines write here too.
    ///
    /// # Errors
    /// Where the file can't be opened.
    pub fn open_sqlite(path: &Path) -> Result<SqlSignerRecord, StoreFault> {
        Ok(SqlSignerRecord { database: Database::Sqlite(sqlite::open_writer(path, &SCHEMA, Durability::Full)?) })
    }

    /// In the journal's database on a MariaDB server.
    ///
    /// # Errors
    /// Where the server can't be reached.
    pub fn open_maria(server: &MariaServer) -> Result<SqlSignerRecord, StoreFault> {
        Ok(SqlSignerRecord { database: Database::Maria(Box::new(server.connect("journal", &SCHEMA)?)) })
    }

    /// What stands; `None` before the first.
    ///
    /// # Errors
    /// Where the store does not answer, or the row is not ours.
    pub fn last(&mut self) -> Result<Option<SignerRecord>, StoreFault> {
        let sql = "SELECT is_known, platform, public_key, memory, counter, hash FROM signer WHERE id = 1";
        let rows = self.database.query("signer", sql, Vec::new())?;
        let Some(mut row) = rows.into_iter().next() else {
            return Err(StoreFault::Malformed { table: "signer", column: "id" });
        };
        let is_known = row.number("is_known")? != 0;
        let record = SignerRecord {
            platform: row.fixed("platform")?,
            key: row.fixed("public_key")?,
            memory: row.fixed("memory")?,
            counter: row.number("counter")?,
            hash: Digest(row.fixed("hash")?),
        };
        Ok(Some(record).filter(|_| is_known))
    }

    /// Keeps a record where nothing stands, or an earlier place of the same memory of the same signer. Whatever stands then comes
    /// back, durable: this record, a later place, or what this one contradicts.
    ///
    /// # Errors
    /// [`StoreFault::OutOfRange`]; where the store does not answer: what stands is unknown then, and asking again is safe.
    pub fn keep(&mut self, record: &SignerRecord) -> Result<SignerRecord, StoreFault> {
        let condition = " AND (is_known = 0 OR (platform = ? AND public_key = ? AND memory = ? AND counter < ?))";
        let seen = vec![
            Cell::bytes(&record.platform),
            Cell::bytes(&record.key),
            Cell::bytes(&record.memory),
            Cell::Number(record.counter),
        ];
        self.put(record, condition, seen)?;
        self.last()?.ok_or(StoreFault::Malformed { table: "signer", column: "is_known" })
    }

    /// Puts a record in place of whatever stands: a person has decided.
    ///
    /// # Errors
    /// As [`SqlSignerRecord::keep`].
    pub fn replace(&mut self, record: &SignerRecord) -> Result<(), StoreFault> {
        self.put(record, "", Vec::new())
    }

    /// One statement, so that two writers can't both take the first place.
    fn put(&mut self, record: &SignerRecord, condition: &str, seen: Vec<Cell>) -> Result<(), StoreFault> {
        if record.counter > NUMBER_MAX {
            return Err(StoreFault::OutOfRange { what: "the number of a signer's decisions" });
        }
        let sql = "UPDATE signer SET is_known = 1, platform = ?, public_key = ?, memory = ?, counter = ?, hash = ? WHERE id = 1";
        let mut values = vec![
            Cell::bytes(&record.platform),
            Cell::bytes(&record.key),
            Cell::bytes(&record.memory),
            Cell::Number(record.counter),
            Cell::bytes(&record.hash.0),
        ];
        values.extend(seen);
        self.database.execute(&format!("{sql}{condition}"), values).map(drop)
    }
}
