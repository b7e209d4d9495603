//! A sign of life of the leader, outside the journal, so that followers notice soon when it is gone. It never decides who leads:
//! only the journal does.

use crate::database::{Database, Schema};
use crate::fault::StoreFault;
use crate::maria::MariaServer;
use crate::record::{Cell, NUMBER_MAX};
use crate::sqlite::{self, Durability};
use florin_core::id::{Epoch, LedgerTime};
use std::path::Path;

/// The file's name within a platform's folder.
pub const FILE: &str = "heartbeat.sqlite3";

/// The most bytes of a node's name.
pub const NODE_BYTES_MAX: usize = 255;

const SCHEMA: Schema = Schema {
    component: "heartbeat",
    steps: &["CREATE TABLE IF NOT EXISTS heartbeat (
            id NUMBER PRIMARY KEY, node NAMETEXT NOT NULL, epoch NUMBER NOT NULL, at_ms NUMBER NOT NULL
        ) TABLE_END;
        INSERT INTO heartbeat (id, node, epoch, at_ms)
        SELECT 1, '', 0, 0 FROM (SELECT 1) AS one WHERE NOT EXISTS (SELECT 1 FROM heartbeat)"],
    page_bytes: 4_096,
};

/// A sign of life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat {
    /// The leader, as its configuration names it.
    pub node: String,
    /// Its epoch; epochs are counted from 1.
    pub epoch: Epoch,
    /// When, by the leader's own clock. Clocks of two machines differ: a follower watches on its own clock how long this
    /// stays the same.
    pub at: LedgerTime,
}

/// What became of a sign of life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BeatAnswer {
    /// It stands.
    Confirmed,
    /// A newer epoch's stands: the caller leads no more.
    Superseded(Beat),
}

/// Where signs of life are left and looked for.
pub trait Heartbeat: Send {
    /// Leaves one, unless a newer epoch's stands.
    ///
    /// # Errors
    /// Where the store does not answer: then the sign is not confirmed.
    fn beat(&mut self, beat: &Beat) -> Result<BeatAnswer, StoreFault>;

    /// The last one; `None` before the first.
    ///
    /// # Errors
    /// Where the store does not answer.
    fn last(&mut self) -> Result<Option<Beat>, StoreFault>;
}

/// Signs of life in a table of either database.
#[derive(Debug)]
pub struct SqlHeartbeat {
    database: Database,
}

impl SqlHeartbeat {
    /// In a SQLite file of their own: the journal's file has one write lock, and that is the writer's.
    ///
    /// # Errors
    /// Where the file can't be opened.
    pub fn open_sqlite(path: &Path) -> Result<SqlHeartbeat, StoreFault> {
        Ok(SqlHeartbeat { database: Database::Sqlite(sqlite::open_writer(path, &SCHEMA, Durability::Lazy)?) })
    }

    /// In the journal's database on a MariaDB server, on a connection of their own.
    ///
    /// # Errors
    /// Where the server can't be reached.
    pub fn open_maria(server: &MariaServer) -> Result<SqlHeartbeat, StoreFault> {
        Ok(SqlHeartbeat { database: Database::Maria(Box::new(server.connect("journal", &SCHEMA)?)) })
    }
}

impl Heartbeat for SqlHeartbeat {
    fn beat(&mut self, beat: &Beat) -> Result<BeatAnswer, StoreFault> {
        if beat.epoch.0 > NUMBER_MAX || beat.at.0 > NUMBER_MAX || beat.node.len() > NODE_BYTES_MAX {
            return Err(StoreFault::OutOfRange { what: "a heartbeat" });
        }
        let number = |number| Cell::Number(number);
        self.database.execute(
            "UPDATE heartbeat SET node = ?, epoch = ?, at_ms = ? WHERE id = 1 AND epoch <= ?",
            vec![Cell::Text(beat.node.clone()), number(beat.epoch.0), number(beat.at.0), number(beat.epoch.0)],
        )?;
        Ok(match self.last()? {
            Some(newer) if newer != *beat => BeatAnswer::Superseded(newer),
            _ => BeatAnswer::Confirmed,
        })
    }

    fn last(&mut self) -> Result<Option<Beat>, StoreFault> {
        let rows = self.database.query("heartbeat", "SELECT node, epoch, at_ms FROM heartbeat", Vec::new())?;
        let Some(mut row) = rows.into_iter().next() else {
            return Err(StoreFault::Malformed { table: "heartbeat", column: "id" });
        };
        let beat =
            Beat { node: row.text("node")?, epoch: Epoch(row.number("epoch")?), at: LedgerTime(row.number("at_ms")?) };
        Ok(Some(beat).filter(|beat| beat.epoch.0 > 0))
    }
}
