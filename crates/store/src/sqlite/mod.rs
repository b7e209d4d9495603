//! Opening SQLite files the one way that makes "durable" true, and their tables' versions. It never opens a file of another
//! program, or one that a newer build has written.

pub mod journal;

use crate::database::{Dialect, Schema};
use crate::fault::StoreFault;
use crate::record::Cell;
use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a connection waits for another one's lock. Writers hold it for one batch, so more means that something hangs.
const BUSY_MS: u64 = 5_000;

/// "FLRN": marks a file as ours, so that no other program's file is taken for an empty one of ours.
const APPLICATION_ID: i64 = 0x464c_524e;

/// When a commit may be reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// After the disk has said that it is written.
    Full,
    /// Before: a power cut may lose it. For what can be made again.
    Lazy,
}

/// A file that is open, and what becomes of its log when it is closed.
///
/// The last connection to close copies the log into the file and removes it. So does every connection of the writer's process;
/// one that only looks at what others left leaves it as it is.
#[derive(Debug)]
pub(crate) struct SqliteFile {
    connection: Connection,
    /// The log, where there was none before this connection, which leaves everything as it is. SQLite makes an empty one for
    /// whoever reads.
    made_log: Option<PathBuf>,
}

impl SqliteFile {
    fn new(connection: Connection) -> SqliteFile {
        SqliteFile { connection, made_log: None }
    }

    /// From before anything was read: a log that stands by then is somebody's, and stays.
    fn leaving_all_as_it_is(connection: Connection) -> Result<SqliteFile, StoreFault> {
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        // By the name that SQLite itself goes by, past links.
        let log = connection.path().map(|file| PathBuf::from(format!("{file}-wal")));
        Ok(SqliteFile { connection, made_log: log.filter(|log| !log.exists()) })
    }
}

impl std::ops::Deref for SqliteFile {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl Drop for SqliteFile {
    fn drop(&mut self) {
        // Where a writer came meanwhile and has left rows in it, it stays with them.
        let is_empty = |log: &PathBuf| std::fs::metadata(log).is_ok_and(|found| found.len() == 0);
        if self.made_log.as_ref().is_some_and(is_empty)
            && let Err(error) = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)
        {
            tracing::warn!(%error, "an empty log stays behind");
        }
    }
}

/// Opens or creates a file for writing.
pub(crate) fn open_writer(path: &Path, schema: &Schema, durability: Durability) -> Result<SqliteFile, StoreFault> {
    let mut connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(Duration::from_millis(BUSY_MS))?;
    // Takes effect only while the file is empty, so it comes before anything that writes.
    connection.pragma_update(None, "page_size", schema.page_bytes)?;
    let mode = run_to_end(&connection, "PRAGMA journal_mode = WAL", |row| row.get::<_, String>(0))?.unwrap_or_default();
    if mode != "wal" {
        return Err(StoreFault::Setting { setting: "journal_mode", found: mode, wanted: "wal" });
    }
    let synchronous = match durability {
        Durability::Full => 2,
        Durability::Lazy => 1,
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "fullfsync", true)?;
    connection.pragma_update(None, "checkpoint_fullfsync", true)?;
    harden(&connection)?;
    migrate(&mut connection, schema)?;
    if durability == Durability::Full {
        settle(&connection)?;
    }
    Ok(SqliteFile::new(connection))
}

/// Writes what a crashed process left in the log into the file, syncs it and begins the log anew. After a failed sync the
/// system may show pages as written that the disk does not hold; what follows upon them in the log would go with them.
pub(crate) fn settle(connection: &Connection) -> Result<(), StoreFault> {
    let busy = run_to_end(connection, "PRAGMA wal_checkpoint(TRUNCATE)", |row| row.get::<_, i64>(0))?;
    if busy == Some(0) { Ok(()) } else { Err(StoreFault::Busy("a reader keeps the log in use".into())) }
}

/// Copies of the log into the file what no reader holds back. Once all of it is copied, the next commit begins it anew, in its
/// own place.
pub(crate) fn copy_log(connection: &Connection) -> Result<(), StoreFault> {
    run_to_end(connection, "PRAGMA wal_checkpoint(PASSIVE)", |_| Ok(())).map(drop)
}

/// Opens an existing file for reading, from outside of its writer's process. File and log stay as they are, byte for byte, also
/// when it is closed again. The log's index (`-shm`), which is no content, is made anew where nobody else has the file open.
pub(crate) fn open_reader(path: &Path, schema: &Schema) -> Result<SqliteFile, StoreFault> {
    begin_reading(SqliteFile::leaving_all_as_it_is(open_existing(path)?)?, schema)
}

/// Opens an existing file for reading in its writer's process: whichever of its connections is closed last settles the log.
pub(crate) fn open_own_reader(path: &Path, schema: &Schema) -> Result<SqliteFile, StoreFault> {
    begin_reading(SqliteFile::new(open_existing(path)?), schema)
}

fn open_existing(path: &Path) -> Result<Connection, StoreFault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Ok(Connection::open_with_flags(path, flags)?)
}

fn begin_reading(file: SqliteFile, schema: &Schema) -> Result<SqliteFile, StoreFault> {
    file.busy_timeout(Duration::from_millis(BUSY_MS))?;
    file.pragma_update(None, "query_only", true)?;
    harden(&file)?;
    schema.check_readable(u64::from(version(&file, schema)?))?;
    Ok(file)
}

/// Memory that temporary tables take before they go to the disk, in KiB.
const TEMPORARY_KIB: i64 = 64 * 1024;

/// Makes tables that are gone with the connection. SQLite keeps them in a file without a name when they outgrow its cache.
pub(crate) fn open_temporary(schema: &Schema) -> Result<SqliteFile, StoreFault> {
    let mut connection = Connection::open("")?;
    connection.pragma_update(None, "cache_size", -TEMPORARY_KIB)?;
    // Whoever loses them begins anew, so nothing of them has to survive.
    run_to_end(&connection, "PRAGMA journal_mode = MEMORY", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", 0)?;
    migrate(&mut connection, schema)?;
    Ok(SqliteFile::new(connection))
}

/// Runs a statement that answers with one row, beyond that row: a fault after it (of a switch's or a checkpoint's own
/// commit) is otherwise never heard of, and the connection goes on in a mode that it denies.
pub(crate) fn run_to_end<T>(
    connection: &Connection,
    sql: &str,
    read: impl Fn(&rusqlite::Row<'_>) -> Result<T, rusqlite::Error>,
) -> Result<Option<T>, StoreFault> {
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    let mut answer = None;
    while let Some(row) = rows.next()? {
        answer = Some(read(row)?);
    }
    Ok(answer)
}

fn harden(connection: &Connection) -> Result<(), StoreFault> {
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    Ok(())
}

fn version(connection: &Connection, schema: &Schema) -> Result<u32, StoreFault> {
    let id: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if (id != APPLICATION_ID && tables > 0) || !(0..=i64::from(u32::MAX)).contains(&version) {
        return Err(StoreFault::Configuration { what: "a file that is to hold Florin's tables" });
    }
    let found = version as u32;
    let known = schema.steps.len() as u32;
    if found > known { Err(StoreFault::Newer { component: schema.component, found, known }) } else { Ok(found) }
}

/// Takes the steps that the file has not seen, all or none.
fn migrate(connection: &mut Connection, schema: &Schema) -> Result<(), StoreFault> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let done = version(&transaction, schema)? as usize;
    if done < schema.steps.len() {
        for step in &schema.steps[done..] {
            for statement in Dialect::Sqlite.statements(step) {
                transaction.execute_batch(&statement)?;
            }
        }
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", schema.steps.len() as i64)?;
    }
    transaction.commit()?;
    Ok(())
}

/// A [`Cell`] as a value to bind.
pub(crate) fn to_sql(cell: &Cell) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(match cell {
        // No cell of ours is foreign; a column that must not be null refuses it.
        Cell::Null | Cell::Foreign => ValueRef::Null,
        // Numbers come from types or checks that keep them within 63 bits; a greater one shows as negative and is refused
        // when it is read.
        Cell::Number(number) => ValueRef::Integer(*number as i64),
        Cell::Bytes(bytes) => ValueRef::Blob(bytes),
        Cell::Text(text) => ValueRef::Text(text.as_bytes()),
    })
}

/// A value as a [`Cell`].
pub(crate) fn cell(value: ValueRef<'_>) -> Cell {
    match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(number) => u64::try_from(number).map_or(Cell::Foreign, Cell::Number),
        ValueRef::Real(_) => Cell::Foreign,
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Cell::Bytes(bytes.to_vec()),
    }
}

/// The first `count` values of a result's row.
pub(crate) fn cells(row: &rusqlite::Row<'_>, count: usize) -> Result<Vec<Cell>, StoreFault> {
    (0..count).map(|index| Ok(cell(row.get_ref(index)?))).collect()
}
