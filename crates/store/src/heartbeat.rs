//! A sign of life of the leader, outside the journal, so that followers notice soon when it is gone. It never decides who leads:
//! only the journal does. Nothing of it has to outlive a crash.

use crate::database::{Database, Schema};
use crate::fault::StoreFault;
use crate::maria::MariaServer;
use crate::record::{Cell, NUMBER_MAX};
use crate::sqlite::{self, Durability};
use florin_core::id::Epoch;
use std::path::Path;
use std::time::Duration;

/// The file's name within a platform's folder.
pub const FILE: &str = "heartbeat.sqlite3";

/// The most bytes of a node's name, and of where it is reached.
pub const TEXT_BYTES_MAX: usize = 255;

/// How long a server may take to answer here. Leaders and followers count in seconds; whoever has waited so long asks again.
const ANSWER_MAX: Duration = Duration::from_secs(2);

const SCHEMA: Schema = Schema {
    component: "heartbeat",
    steps: &["CREATE TABLE IF NOT EXISTS heartbeat (
            id NUMBER PRIMARY KEY, node NAMETEXT NOT NULL, url NAMETEXT NOT NULL, epoch NUMBER NOT NULL,
            beat NUMBER NOT NULL, is_last NUMBER NOT NULL
        ) TABLE_END;
        INSERT INTO heartbeat (id, node, url, epoch, beat, is_last)
        SELECT 1, '', '', 0, 0, 0 FROM (SELECT 1) AS one WHERE NOT EXISTS (SELECT 1 FROM heartbeat)"],
    page_bytes: 4_096,
};

/// A sign of life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat {
    /// The leader, as its configuration names it.
    pub node: String,
    /// Where callers reach it; empty where nobody has said.
    pub url: String,
    /// Its epoch; epochs are counted from 1.
    pub epoch: Epoch,
    /// Its number within the epoch. It carries no time: clocks of two machines differ, so a follower watches on its own clock
    /// how long this stays the same.
    pub number: u64,
    /// Whether the leader has given up the lead in good order.
    pub is_last: bool,
}

/// What became of a sign of life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BeatAnswer {
    /// It stands.
    Confirmed,
    /// Another one stands in its place.
    Superseded(Beat),
}

/// Signs of life in a table of either database.
#[derive(Debug)]
pub struct SqlHeartbeat {
    database: Database,
}

impl SqlHeartbeat {
    /// In a SQLite file of their own: the journal's file has one write lock, and that is the writer's. Its writes are not
    /// synced one by one.
    ///
    /// # Errors
    /// Where the file can't be opened.
    pub fn open_sqlite(path: &Path) -> Result<SqlHeartbeat, StoreFault> {
        let file = sqlite::open_writer(path, &SCHEMA, Durability::Lazy)?;
        // The file then has all its pages, and copying the log needs no room any more.
        sqlite::copy_log(&file)?;
        Ok(SqlHeartbeat { database: Database::Sqlite(file) })
    }

    /// In the journal's database on a MariaDB server, on a connection of their own that gives up soon.
    ///
    /// # Errors
    /// Where the server can't be reached.
    pub fn open_maria(server: &MariaServer) -> Result<SqlHeartbeat, StoreFault> {
        let mut connection = server.connect("journal", &SCHEMA)?;
        connection.hurry(ANSWER_MAX);
        Ok(SqlHeartbeat { database: Database::Maria(Box::new(connection)) })
    }

    /// Leaves one, unless a newer epoch's stands.
    ///
    /// # Errors
    /// Where the store does not answer: then the sign is not confirmed.
    pub fn beat(&mut self, beat: &Beat) -> Result<BeatAnswer, StoreFault> {
        self.put(beat, " AND epoch <= ?", vec![Cell::Number(beat.epoch.0)])?;
        Ok(match self.last()? {
            // One of this epoch or an older one is this leader's own, on its way when a connection was lost.
            Some(newer) if newer.epoch > beat.epoch => BeatAnswer::Superseded(newer),
            Some(_) => BeatAnswer::Confirmed,
            None => return Err(StoreFault::Malformed { table: "heartbeat", column: "epoch" }),
        })
    }

    /// Leaves one in place of exactly `seen`, or of nothing, whatever their epochs.
    ///
    /// # Errors
    /// As [`SqlHeartbeat::beat`].
    pub fn replace(&mut self, seen: Option<&Beat>, beat: &Beat) -> Result<BeatAnswer, StoreFault> {
        let (node, epoch, number) =
            seen.map_or((String::new(), 0, 0), |seen| (seen.node.clone(), seen.epoch.0, seen.number));
        let seen = vec![Cell::Text(node), Cell::Number(epoch), Cell::Number(number)];
        self.put(beat, " AND node = ? AND epoch = ? AND beat = ?", seen)?;
        Ok(match self.last()? {
            Some(other) if other != *beat => BeatAnswer::Superseded(other),
            Some(_) => BeatAnswer::Confirmed,
            None => return Err(StoreFault::Malformed { table: "heartbeat", column: "epoch" }),
        })
    }

    fn put(&mut self, beat: &Beat, condition: &'static str, seen: Vec<Cell>) -> Result<(), StoreFault> {
        let is_long = |text: &str| text.len() > TEXT_BYTES_MAX;
        if beat.epoch.0 > NUMBER_MAX || beat.number > NUMBER_MAX || is_long(&beat.node) || is_long(&beat.url) {
            return Err(StoreFault::OutOfRange { what: "a heartbeat" });
        }
        let sql = "UPDATE heartbeat SET node = ?, url = ?, epoch = ?, beat = ?, is_last = ? WHERE id = 1";
        let mut values = vec![
            Cell::Text(beat.node.clone()),
            Cell::Text(beat.url.clone()),
            Cell::Number(beat.epoch.0),
            Cell::Number(beat.number),
            Cell::Number(u64::from(beat.is_last)),
        ];
        values.extend(seen);
        let sql = format!("{sql}{condition}");
        match (self.database.execute(&sql, values.clone()), &self.database) {
            // A disk that is full takes no longer log. One that is copied into the file begins anew, over what it was: so a
            // leader on a full disk goes on to show that it lives, and to say what customers have.
            (Err(StoreFault::Full(_)), Database::Sqlite(file)) => {
                sqlite::copy_log(file)?;
                self.database.execute(&sql, values)?;
                Ok(())
            }
            (done, _) => done.map(drop),
        }
    }

    /// The last one; `None` before the first.
    ///
    /// # Errors
    /// Where the store does not answer.
    pub fn last(&mut self) -> Result<Option<Beat>, StoreFault> {
        let sql = "SELECT node, url, epoch, beat, is_last FROM heartbeat";
        let rows = self.database.query("heartbeat", sql, Vec::new())?;
        let Some(mut row) = rows.into_iter().next() else {
            return Err(StoreFault::Malformed { table: "heartbeat", column: "id" });
        };
        let beat = Beat {
            node: row.text("node")?,
            url: row.text("url")?,
            epoch: Epoch(row.number("epoch")?),
            number: row.number("beat")?,
            is_last: row.number("is_last")? != 0,
        };
        Ok(Some(beat).filter(|beat| beat.epoch.0 > 0))
    }
}
