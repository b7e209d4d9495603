//! Connections to a MariaDB server, and the versions of our tables there. It never goes on within a transaction whose
//! connection was lost, and never runs where the server may forget what it has acknowledged.

pub mod journal;

use crate::database::{Dialect, Schema};
use crate::fault::StoreFault;
use crate::record::{Cell, Cells};
use mysql::prelude::Queryable;
use mysql::{Conn, Opts, OptsBuilder, Params, Value};
use std::time::Duration;

/// How long a connection attempt may take. Within one data centre it takes milliseconds.
const CONNECT_MS: u64 = 5_000;

/// How long an answer may take. Then the connection is given up, and what was asked may or may not have happened.
const ANSWER_MS: u64 = 30_000;

/// How long the server waits for another transaction's row lock, in seconds; less than [`ANSWER_MS`], so that we hear of it.
const LOCK_WAIT_S: u32 = 2;

/// Prepared statements that a connection keeps.
const STATEMENTS_MAX: usize = 128;

/// The server has to take a row of 1 MiB in one packet, and a batch of them from the search tables.
const PACKET_BYTES_MIN: u64 = 16 << 20;

/// Letters of a prefix; MariaDB's own limit is 64 for the whole name.
const PREFIX_MAX: usize = 32;

/// Errors that MariaDB's documentation says to answer by trying again: deadlock, lock wait, statement to be prepared anew.
const CONFLICTS: [u16; 3] = [1213, 1205, NEEDS_PREPARE];
const NEEDS_PREPARE: u16 = 1615;
/// Disk full, table full.
const FULL: [u16; 2] = [1021, 1114];
/// Too many connections, shutting down, node not ready for queries, interrupted, killed.
const UNREACHABLE: [u16; 6] = [1040, 1047, 1053, 1152, 1317, 1927];
/// There is no such database.
const UNKNOWN_DATABASE: u16 = 1049;
/// A key is there already.
const DUPLICATE: u16 = 1062;
/// A column that holds no null was to.
const NULL: u16 = 1048;

/// The number that is asked about, or null, which no key can be, where the server does not keep what it acknowledges: in the
/// place of a key it has the server refuse the row by itself, in the round trip of the row. For both settings are the server's
/// and no connection's, and can change under one that stands. A change in the instant between this and the commit of the same
/// statement is noticed by the next one.
///
/// In SQL, [`Settings::check`] says the same with words.
macro_rules! number_if_kept {
    ($number:literal) => {
        concat!(
            "IF(@@GLOBAL.innodb_flush_log_at_trx_commit = 1 AND (@@GLOBAL.log_bin = 0 OR @@GLOBAL.sync_binlog = 1), ",
            $number,
            ", NULL)"
        )
    };
}
pub(crate) use number_if_kept;

/// A server, and the prefix that our databases on it bear.
#[derive(Debug, Clone)]
pub struct MariaServer {
    opts: Opts,
    prefix: String,
}

impl MariaServer {
    /// `url` is `mysql://user:password@host:port`; the databases are `PREFIX_journal`, `PREFIX_projection`, `PREFIX_people`.
    /// Nothing is connected yet.
    ///
    /// # Errors
    /// [`StoreFault::Configuration`] for an address that can't be read, or a prefix that is not 1 to 32 of `a-z0-9_`.
    pub fn new(url: &str, prefix: &str) -> Result<MariaServer, StoreFault> {
        let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if prefix.is_empty() || prefix.len() > PREFIX_MAX || !prefix.bytes().all(letter) {
            return Err(StoreFault::Configuration { what: "the prefix of the databases' names" });
        }
        // The driver's error would repeat the address, and with it the password.
        let opts =
            Opts::from_url(url).map_err(|_| StoreFault::Configuration { what: "the database server's address" })?;
        let timeout = |ms| Some(Duration::from_millis(ms));
        let session = format!(
            "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', autocommit = 1, \
             innodb_lock_wait_timeout = {LOCK_WAIT_S}, time_zone = '+00:00', max_statement_time = {}",
            ANSWER_MS / 1000
        );
        let opts = OptsBuilder::from_opts(opts)
            .db_name(None::<String>)
            .prefer_socket(false)
            .tcp_nodelay(true)
            .tcp_connect_timeout(timeout(CONNECT_MS))
            .read_timeout(timeout(ANSWER_MS + 1_000))
            .write_timeout(timeout(ANSWER_MS))
            .stmt_cache_size(STATEMENTS_MAX)
            // With the weaker level a look at the predecessor takes no lock, and each statement sees what is committed.
            .init(vec![session, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED".to_owned()]);
        Ok(MariaServer { opts: opts.into(), prefix: prefix.to_owned() })
    }

    /// Connects to `PREFIX_component`'s database, which is made where it is missing, and brings its tables up to date.
    pub(crate) fn connect(&self, area: &'static str, schema: &Schema) -> Result<MariaConnection, StoreFault> {
        let database = format!("{}_{area}", self.prefix);
        let conn = Some(make(&self.opts, &database)?);
        let mut connection = MariaConnection { opts: self.opts.clone(), database, conn, within: false, writes: true };
        connection.check_settings()?;
        connection.migrate(schema)?;
        Ok(connection)
    }

    /// As [`MariaServer::connect`], for reading alone: makes nothing, and refuses tables that this build's writer has not made.
    pub(crate) fn connect_reader(&self, area: &'static str, schema: &Schema) -> Result<MariaConnection, StoreFault> {
        let database = format!("{}_{area}", self.prefix);
        let mut conn = Conn::new(self.opts.clone())?;
        match conn.query_drop(format!("USE `{database}`")) {
            Err(mysql::Error::MySqlError(error)) if error.code == UNKNOWN_DATABASE => {
                return Err(StoreFault::Absent { component: schema.component });
            }
            used => used?,
        }
        let conn = Some(conn);
        let mut connection = MariaConnection { opts: self.opts.clone(), database, conn, within: false, writes: false };
        let found = if connection.has_versions()? { connection.version(schema)? } else { 0 };
        schema.check_readable(found)?;
        Ok(connection)
    }

    /// As [`MariaServer::connect_reader`], for who writes into tables that exist.
    pub(crate) fn connect_existing(&self, area: &'static str, schema: &Schema) -> Result<MariaConnection, StoreFault> {
        let mut connection = self.connect_reader(area, schema)?;
        connection.writes = true;
        connection.check_settings()?;
        Ok(connection)
    }
}

/// A connection that is made when it is needed, and again after it was lost.
pub(crate) struct MariaConnection {
    opts: Opts,
    database: String,
    conn: Option<Conn>,
    /// Whether a transaction has begun that is neither committed nor abandoned.
    within: bool,
    /// Whether the server has to keep what is written here.
    writes: bool,
}

impl std::fmt::Debug for MariaConnection {
    // The options hold the password.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("MariaConnection").field("database", &self.database).finish_non_exhaustive()
    }
}

/// Connects to a database, which is made where it is missing.
fn make(opts: &Opts, database: &str) -> Result<Conn, mysql::Error> {
    let mut conn = Conn::new(opts.clone())?;
    if conn.query_drop(format!("USE `{database}`")).is_err() {
        conn.query_drop(format!(
            "CREATE DATABASE IF NOT EXISTS `{database}` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        ))?;
        conn.query_drop(format!("USE `{database}`"))?;
    }
    Ok(conn)
}

/// Connects again. A database that is gone meanwhile stays gone: an empty one would not be what was lost.
fn open(opts: &Opts, database: &str) -> Result<Conn, mysql::Error> {
    let mut conn = Conn::new(opts.clone())?;
    conn.query_drop(format!("USE `{database}`"))?;
    Ok(conn)
}

impl MariaConnection {
    /// Waits for an answer no longer than this from now on. What was given up may be done by the server all the same.
    pub(crate) fn hurry(&mut self, answer: Duration) {
        let opts = OptsBuilder::from_opts(self.opts.clone());
        let opts = opts.tcp_connect_timeout(Some(answer)).read_timeout(Some(answer)).write_timeout(Some(answer));
        self.opts = opts.into();
        self.conn = None;
    }

    fn with<T>(&mut self, work: impl FnOnce(&mut Conn) -> Result<T, mysql::Error>) -> Result<T, StoreFault> {
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None if self.within => return Err(StoreFault::Connection("it was lost within a transaction".into())),
            None => {
                let mut conn = open(&self.opts, &self.database)?;
                // The server may be another one by now, or have been started with other settings.
                if self.writes {
                    Settings::of(&mut conn)?.check()?;
                }
                conn
            }
        };
        let done = work(&mut conn);
        let keep = match &done {
            Ok(_) => true,
            // The driver would use its old preparation for ever.
            Err(mysql::Error::MySqlError(error)) => error.code != NEEDS_PREPARE && !UNREACHABLE.contains(&error.code),
            Err(_) => false,
        };
        if keep {
            self.conn = Some(conn);
        }
        Ok(done?)
    }

    /// Runs one statement; says how many rows it changed.
    pub(crate) fn execute(&mut self, sql: &str, values: Vec<Cell>) -> Result<u64, StoreFault> {
        let params = params(values)?;
        self.with(|conn| {
            conn.exec_drop(sql, params)?;
            Ok(conn.affected_rows())
        })
    }

    /// As [`MariaConnection::execute`], for an insert whose key is [`number_if_kept`]; `None` if it meets a row with that key.
    /// Nothing is inserted where the server would not keep it.
    pub(crate) fn insert_kept(&mut self, sql: &str, values: Vec<Cell>) -> Result<Option<u64>, StoreFault> {
        let params = params(values)?;
        let inserted = self.with(|conn| match conn.exec_drop(sql, params) {
            Ok(()) => Ok(Some(Some(conn.affected_rows()))),
            Err(mysql::Error::MySqlError(error)) if error.code == DUPLICATE => Ok(Some(None)),
            Err(mysql::Error::MySqlError(error)) if error.code == NULL => Ok(None),
            Err(error) => Err(error),
        })?;
        if let Some(inserted) = inserted {
            return Ok(inserted);
        }
        self.check_settings()?;
        Err(StoreFault::Conflict("the server's settings were wrong for a moment".into()))
    }

    pub(crate) fn query(
        &mut self,
        table: &'static str,
        sql: &str,
        values: Vec<Cell>,
    ) -> Result<Vec<Cells>, StoreFault> {
        let params = params(values)?;
        let rows: Vec<mysql::Row> = self.with(|conn| conn.exec(sql, params))?;
        let cells = |row: mysql::Row| row.unwrap_raw().into_iter().map(|value| value.map_or(Cell::Foreign, cell));
        Ok(rows.into_iter().map(|row| Cells::new(table, cells(row).collect())).collect())
    }

    pub(crate) fn begin(&mut self) -> Result<(), StoreFault> {
        self.abandon();
        self.with(|conn| conn.query_drop("START TRANSACTION"))?;
        self.within = true;
        Ok(())
    }

    /// Begins a transaction that reads all tables as they are now.
    pub(crate) fn begin_view(&mut self) -> Result<(), StoreFault> {
        self.abandon();
        self.with(|conn| {
            conn.query_drop("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")?;
            conn.query_drop("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        })?;
        self.within = true;
        Ok(())
    }

    pub(crate) fn commit(&mut self) -> Result<(), StoreFault> {
        let done = self.with(|conn| conn.query_drop("COMMIT"));
        self.within = false;
        if done.is_err() {
            self.conn = None;
        }
        done
    }

    /// Ends a transaction that shall not be. Where the server can't be told, it notices that the connection is gone.
    pub(crate) fn abandon(&mut self) {
        if self.within && self.with(|conn| conn.query_drop("ROLLBACK")).is_err() {
            self.conn = None;
        }
        self.within = false;
    }

    fn check_settings(&mut self) -> Result<(), StoreFault> {
        self.with(Settings::of)?.check()
    }

    /// Takes the steps that the database has not seen. Two connections that start at once take turns.
    fn migrate(&mut self, schema: &Schema) -> Result<(), StoreFault> {
        let lock = Cell::Text(format!("{}.schema", self.database));
        let locked = self.query("florin_schema", "SELECT GET_LOCK(?, 30)", vec![lock.clone()])?;
        if locked.into_iter().next().map(|mut row| row.number("lock")).transpose()? != Some(1) {
            return Err(StoreFault::Busy("another connection keeps the schema's lock".into()));
        }
        let done = self.migrate_locked(schema);
        self.query("florin_schema", "SELECT RELEASE_LOCK(?)", vec![lock])?;
        done
    }

    /// Whether anybody has ever made tables of ours in the database.
    fn has_versions(&mut self) -> Result<bool, StoreFault> {
        let sql =
            "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = ? AND table_name = 'florin_schema'";
        let found = self.query("florin_schema", sql, vec![Cell::Text(self.database.clone())])?;
        Ok(found.into_iter().next().map(|mut row| row.number("count")).transpose()?.is_some_and(|count| count > 0))
    }

    /// How many steps the database has seen.
    fn version(&mut self, schema: &Schema) -> Result<u64, StoreFault> {
        let sql = "SELECT version FROM florin_schema WHERE component = ?";
        let found = self.query("florin_schema", sql, vec![Cell::Text(schema.component.to_owned())])?;
        found.into_iter().next().map_or(Ok(0), |mut row| row.number("version"))
    }

    fn migrate_locked(&mut self, schema: &Schema) -> Result<(), StoreFault> {
        let table = "CREATE TABLE IF NOT EXISTS florin_schema (component VARCHAR(64) PRIMARY KEY, version BIGINT UNSIGNED NOT NULL) ENGINE=InnoDB";
        self.with(|conn| conn.query_drop(table))?;
        let component = || Cell::Text(schema.component.to_owned());
        let found = self.version(schema)?;
        let known = schema.steps.len() as u64;
        if found > known {
            let found = u32::try_from(found).unwrap_or(u32::MAX);
            return Err(StoreFault::Newer { component: schema.component, found, known: known as u32 });
        }
        for (index, step) in schema.steps.iter().enumerate().skip(found as usize) {
            for statement in Dialect::Maria.statements(step) {
                self.with(|conn| conn.query_drop(statement))?;
            }
            let version = Cell::Number(index as u64 + 1);
            self.execute("REPLACE INTO florin_schema (component, version) VALUES (?, ?)", vec![component(), version])?;
        }
        Ok(())
    }
}

/// What a server says of settings that decide whether it keeps what it acknowledges.
struct Settings {
    flush: String,
    binary_log: String,
    sync_binary_log: String,
    packet: String,
}

impl Settings {
    fn of(conn: &mut Conn) -> Result<Settings, mysql::Error> {
        let names = ["@@innodb_flush_log_at_trx_commit", "@@log_bin + 0", "@@sync_binlog", "@@max_allowed_packet"];
        let texts = names.map(|name| format!("COALESCE(CAST({name} AS CHAR), '')"));
        let found: Option<(String, String, String, String)> =
            conn.query_first(format!("SELECT {}", texts.join(", ")))?;
        let (flush, binary_log, sync_binary_log, packet) = found.unwrap_or_default();
        Ok(Settings { flush, binary_log, sync_binary_log, packet })
    }

    fn check(self) -> Result<(), StoreFault> {
        // 3 promises more and has kept less: from 10.2 until MDEV-26138 it did not flush at a commit.
        if self.flush != "1" {
            return Err(StoreFault::Setting {
                setting: "innodb_flush_log_at_trx_commit",
                found: self.flush,
                wanted: "1: a commit has to be on the disk before it is acknowledged",
            });
        }
        // With a binary log InnoDB leaves the last flush out, because it decides by that log after a crash what was committed
        // (MariaDB's documentation, "Binary Log Group Commit and InnoDB Flushing Performance").
        if self.binary_log != "0" && self.sync_binary_log != "1" {
            return Err(StoreFault::Setting {
                setting: "sync_binlog",
                found: self.sync_binary_log,
                wanted: "1, where there is a binary log: after a crash it says what was committed",
            });
        }
        if self.packet.parse::<u64>().is_ok_and(|bytes| bytes >= PACKET_BYTES_MIN) {
            return Ok(());
        }
        Err(StoreFault::Setting { setting: "max_allowed_packet", found: self.packet, wanted: "16M or more" })
    }
}

fn params(values: Vec<Cell>) -> Result<Params, StoreFault> {
    if values.is_empty() {
        return Ok(Params::Empty);
    }
    let value = |cell| match cell {
        Cell::Null => Ok(Value::NULL),
        Cell::Number(number) => Ok(Value::UInt(number)),
        Cell::Bytes(bytes) => Ok(Value::Bytes(bytes)),
        Cell::Text(text) => Ok(Value::Bytes(text.into_bytes())),
        Cell::Foreign => Err(StoreFault::OutOfRange { what: "a value of no kind of ours" }),
    };
    Ok(Params::Positional(values.into_iter().map(value).collect::<Result<_, _>>()?))
}

fn cell(value: Value) -> Cell {
    match value {
        Value::NULL => Cell::Null,
        Value::Bytes(bytes) => Cell::Bytes(bytes),
        Value::Int(number) => u64::try_from(number).map_or(Cell::Foreign, Cell::Number),
        Value::UInt(number) => Cell::Number(number),
        Value::Float(_) | Value::Double(_) | Value::Date(..) | Value::Time(..) => Cell::Foreign,
    }
}

impl From<mysql::Error> for StoreFault {
    fn from(error: mysql::Error) -> Self {
        match &error {
            mysql::Error::MySqlError(server) => match server.code {
                code if CONFLICTS.contains(&code) => StoreFault::Conflict(error.into()),
                code if FULL.contains(&code) => StoreFault::Full(error.into()),
                code if UNREACHABLE.contains(&code) => StoreFault::Connection(error.into()),
                _ => StoreFault::Database(error.into()),
            },
            mysql::Error::IoError(_) | mysql::Error::CodecError(_) | mysql::Error::DriverError(_) => {
                StoreFault::Connection(error.into())
            }
            mysql::Error::UrlError(_) | mysql::Error::FromValueError(_) | mysql::Error::FromRowError(_) => {
                StoreFault::Database(error.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(flush: &str, binary_log: &str, sync_binary_log: &str, packet: &str) -> Option<&'static str> {
        let [flush, binary_log, sync_binary_log, packet] =
            [flush, binary_log, sync_binary_log, packet].map(str::to_owned);
        match (Settings { flush, binary_log, sync_binary_log, packet }).check() {
            Ok(()) => None,
            Err(StoreFault::Setting { setting, .. }) => Some(setting),
            Err(fault) => panic!("{fault:?}"),
        }
    }

    #[test]
    fn a_server_that_may_forget_what_it_acknowledged_is_refused() {
        assert_eq!(refused("1", "0", "0", "16777216"), None);
        assert_eq!(refused("1", "1", "1", "67108864"), None);
        for flush in ["0", "2", "3", ""] {
            assert_eq!(refused(flush, "0", "0", "16777216"), Some("innodb_flush_log_at_trx_commit"), "{flush}");
        }
        for sync in ["0", "2", "1000", ""] {
            assert_eq!(refused("1", "1", sync, "16777216"), Some("sync_binlog"), "{sync}");
        }
        for packet in ["16777215", "", "16M"] {
            assert_eq!(refused("1", "0", "0", packet), Some("max_allowed_packet"), "{packet}");
        }
    }
}
