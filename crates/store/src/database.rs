//! One way to speak to both databases, for tables that hold the same in each: SQL both understand, cells, transactions.
//! The journals do not use it for appending: what an append may be told is too particular.

use crate::fault::StoreFault;
use crate::maria::MariaConnection;
use crate::record::{Cell, Cells};
use crate::sqlite::{SqliteFile, cells, to_sql};

/// Rows of one `INSERT`. SQLite takes 32,766 parameters, our widest table has some twenty columns.
const INSERT_ROWS_MAX: usize = 500;

/// A transaction that lost against another is tried again this often. Writers of these tables are few, so more means that
/// something else is wrong.
const CONFLICT_RETRIES_MAX: usize = 5;

/// Which words a database has for our column types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Maria,
}

/// A table definition's words, as they are written in [`Schema`], and what they become.
const WORDS: &[(&str, &str, &str)] = &[
    ("NUMBER", "INTEGER", "BIGINT UNSIGNED"),
    ("BYTES16", "BLOB", "BINARY(16)"),
    ("BYTES32", "BLOB", "BINARY(32)"),
    ("KEYBYTES", "BLOB", "VARBINARY(64)"),
    ("PAYLOAD", "BLOB", "MEDIUMBLOB"),
    ("NAMETEXT", "TEXT", "VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"),
    // On a server, emptying a table row by row may take longer than an answer may.
    ("EMPTY TABLE", "DELETE FROM", "TRUNCATE TABLE"),
    (") TABLE_END", ") STRICT", ") ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin"),
];

/// How a set of tables came to be, step by step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schema {
    /// Which tables.
    pub component: &'static str,
    /// The steps, oldest first: statements divided by semicolons, with type names that [`Dialect`] translates. Published
    /// steps never change, and each can be taken twice without harm, because MariaDB has no transaction around them.
    pub steps: &'static [&'static str],
    /// Bytes of a page of a new SQLite file.
    pub page_bytes: u32,
}

impl Schema {
    /// Judges the version of tables that a reader finds; 0 where there are none. It can't bring them up to date.
    pub(crate) fn check_readable(&self, found: u64) -> Result<(), StoreFault> {
        let (component, known) = (self.component, self.steps.len() as u32);
        match u32::try_from(found).unwrap_or(u32::MAX) {
            0 => Err(StoreFault::Absent { component }),
            found if found < known => Err(StoreFault::Older { component, found, known }),
            found if found > known => Err(StoreFault::Newer { component, found, known }),
            _ => Ok(()),
        }
    }
}

impl Dialect {
    /// The statements of one step.
    pub(crate) fn statements(self, step: &str) -> Vec<String> {
        let translate = |text: &str| {
            WORDS.iter().fold(text.to_owned(), |text, (word, sqlite, maria)| {
                text.replace(word, if self == Dialect::Sqlite { sqlite } else { maria })
            })
        };
        step.split(';').map(str::trim).filter(|text| !text.is_empty()).map(translate).collect()
    }
}

/// A connection to either database.
#[derive(Debug)]
pub(crate) enum Database {
    Sqlite(SqliteFile),
    Maria(Box<MariaConnection>),
}

impl Database {
    /// Runs one statement; says how many rows it changed.
    pub(crate) fn execute(&mut self, sql: &str, values: Vec<Cell>) -> Result<u64, StoreFault> {
        match self {
            Database::Sqlite(connection) => {
                Ok(connection.execute(sql, rusqlite::params_from_iter(values.iter().map(to_sql)))? as u64)
            }
            Database::Maria(connection) => connection.execute(sql, values),
        }
    }

    /// Runs a query; `table` names in faults where a bad value stands.
    pub(crate) fn query(
        &mut self,
        table: &'static str,
        sql: &str,
        values: Vec<Cell>,
    ) -> Result<Vec<Cells>, StoreFault> {
        match self {
            Database::Sqlite(connection) => {
                let mut statement = connection.prepare(sql)?;
                let width = statement.column_count();
                let mut found = statement.query(rusqlite::params_from_iter(values.iter().map(to_sql)))?;
                let mut rows = Vec::new();
                while let Some(row) = found.next()? {
                    rows.push(Cells::new(table, cells(row, width)?));
                }
                Ok(rows)
            }
            Database::Maria(connection) => connection.query(table, sql, values),
        }
    }

    /// `head` followed by as many `(?, …)` of `width` as there are values, in as few statements as the bounds allow.
    pub(crate) fn insert_many(&mut self, head: &str, width: usize, values: Vec<Cell>) -> Result<(), StoreFault> {
        let group = format!("({})", vec!["?"; width].join(", "));
        let mut values = values.into_iter().peekable();
        while values.peek().is_some() {
            let chunk: Vec<Cell> = values.by_ref().take(width * INSERT_ROWS_MAX).collect();
            let sql = format!("{head} VALUES {}", vec![group.as_str(); chunk.len() / width].join(", "));
            self.execute(&sql, chunk)?;
        }
        Ok(())
    }

    /// Does `work` in one transaction: all of it, or nothing. Conflicts with other transactions are tried again.
    pub(crate) fn atomically<T, E: From<StoreFault>>(
        &mut self,
        mut work: impl FnMut(&mut Database) -> Result<T, E>,
        conflict: impl Fn(&E) -> bool,
    ) -> Result<T, E> {
        let mut retries = 0;
        loop {
            match self.attempt(&mut work) {
                Err(error) if conflict(&error) && retries < CONFLICT_RETRIES_MAX => retries += 1,
                done => return done,
            }
        }
    }

    fn attempt<T, E: From<StoreFault>>(
        &mut self,
        work: &mut impl FnMut(&mut Database) -> Result<T, E>,
    ) -> Result<T, E> {
        self.begin()?;
        let done = work(self).and_then(|value| self.commit().map(|()| value).map_err(E::from));
        if done.is_err() {
            self.roll_back();
        }
        done
    }

    fn begin(&mut self) -> Result<(), StoreFault> {
        match self {
            Database::Sqlite(connection) => Ok(connection.execute_batch("BEGIN IMMEDIATE")?),
            Database::Maria(connection) => connection.begin(),
        }
    }

    /// From now on every query sees the tables as they are at one moment, whatever others write. It lasts as long as the
    /// connection.
    pub(crate) fn begin_view(&mut self) -> Result<(), StoreFault> {
        match self {
            // The moment is that of the first query.
            Database::Sqlite(connection) => Ok(connection.execute_batch("BEGIN DEFERRED")?),
            Database::Maria(connection) => connection.begin_view(),
        }
    }

    fn commit(&mut self) -> Result<(), StoreFault> {
        match self {
            Database::Sqlite(connection) => Ok(connection.execute_batch("COMMIT")?),
            Database::Maria(connection) => connection.commit(),
        }
    }

    // The fault that led here is what the caller hears; a transaction that can't be rolled back ends with its connection.
    fn roll_back(&mut self) {
        match self {
            Database::Sqlite(connection) if !connection.is_autocommit() => {
                if let Err(error) = connection.execute_batch("ROLLBACK") {
                    tracing::warn!(%error, "a transaction could not be rolled back");
                }
            }
            Database::Sqlite(_) => {}
            Database::Maria(connection) => connection.abandon(),
        }
    }
}

/// Whether a fault is a conflict that a repetition may resolve.
pub(crate) fn is_conflict(fault: &StoreFault) -> bool {
    matches!(fault, StoreFault::Conflict(_))
}
