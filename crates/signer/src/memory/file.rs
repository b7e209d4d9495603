//! The memory's SQLite file, opened the one way that makes "recorded" true. It never goes on from what a failed sync may have left
//! in the system's cache alone, and knows nothing of decisions.

use super::MemoryError;
use rusqlite::Connection;
use std::path::Path;

/// Opens the file, and makes tables nowhere. Whatever it shows is durable.
pub(super) fn open(path: &Path) -> Result<Connection, MemoryError> {
    let connection = Connection::open(path).map_err(locked)?;
    // Whoever holds the lock holds it for as long as it runs: waiting is of no use.
    connection.busy_timeout(std::time::Duration::ZERO).map_err(locked)?;
    // Exclusive: a second signer over one memory would count the limits twice.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE").map_err(locked)?;
    let mode = run_to_end(&connection, "PRAGMA journal_mode = WAL", |row| row.get::<_, String>(0)).map_err(locked)?;
    if mode.is_none_or(|mode| mode != "wal") {
        return Err(MemoryError::Damaged("the database can't use a write-ahead log here"));
    }
    connection.pragma_update(None, "synchronous", "FULL").map_err(locked)?;
    connection.pragma_update(None, "fullfsync", true).map_err(locked)?;
    connection.pragma_update(None, "checkpoint_fullfsync", true).map_err(locked)?;
    // Checkpoints are ours: one made by a commit's hook hides its own failure.
    connection.pragma_update(None, "wal_autocheckpoint", 0).map_err(locked)?;
    connection.pragma_update(None, "foreign_keys", "ON").map_err(locked)?;
    // Takes the lock now and not at the first decision.
    connection.execute_batch("BEGIN EXCLUSIVE; COMMIT").map_err(locked)?;
    settle(&connection)?;
    Ok(connection)
}

/// Copies the log into the file, syncs that and begins the log anew: what a crashed process left there, too. After a failed
/// sync the system may show pages as written that the disk does not hold; what follows upon them in the log would be
/// forgotten with them.
pub(super) fn settle(connection: &Connection) -> Result<(), MemoryError> {
    let busy = run_to_end(connection, "PRAGMA wal_checkpoint(TRUNCATE)", |row| row.get::<_, i64>(0)).map_err(locked)?;
    if busy == Some(0) { Ok(()) } else { Err(MemoryError::Locked) }
}

/// Runs a statement that answers with one row, beyond that row: a fault of the switch's or the checkpoint's own commit is
/// otherwise never heard of.
fn run_to_end<T>(
    connection: &Connection,
    sql: &str,
    read: impl Fn(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Option<T>> {
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    let mut answer = None;
    while let Some(row) = rows.next()? {
        answer = Some(read(row)?);
    }
    Ok(answer)
}

fn locked(error: rusqlite::Error) -> MemoryError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => MemoryError::Locked,
        _ => not_a_database(error),
    }
}

pub(super) fn not_a_database(error: rusqlite::Error) -> MemoryError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase) => MemoryError::Damaged("this is not a database"),
        Some(rusqlite::ErrorCode::DatabaseCorrupt) => MemoryError::Damaged("the database fails its own check"),
        _ => MemoryError::Database(error),
    }
}

/// Makes the name of a new file durable.
pub(super) fn sync_folder(path: &Path) -> Result<(), MemoryError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(MemoryError::Io)
}
