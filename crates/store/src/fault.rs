//! What may go wrong below a store, in one closed list. It never hides a fault, and never guesses whether a write went through.

use florin_core::journal::{AppendError, ReadError};

/// What a driver said.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A fault of a store. Refusals are not faults and have types of their own.
#[derive(Debug, thiserror::Error)]
pub enum StoreFault {
    /// The disk or the file failed: a write, a sync, a read, a checksum. What is on the disk is not known any more, so the
    /// process has to end; the next one reads the file again from the start. A failed sync is never tried again, because
    /// an operating system may report it once and call the lost pages clean afterwards.
    #[error("the storage failed")]
    Storage(#[source] Cause),
    /// No space is left. Nothing was written; it may work again later.
    #[error("no space is left for the database")]
    Full(#[source] Cause),
    /// Another connection holds a lock for longer than we wait.
    #[error("the database is locked")]
    Busy(#[source] Cause),
    /// Two transactions stood in each other's way, and this one was taken back.
    #[error("the transaction was taken back in favour of another")]
    Conflict(#[source] Cause),
    /// The server can't be reached, or went away while we waited for its answer.
    #[error("the connection to the database is lost")]
    Connection(#[source] Cause),
    /// The database said no to what we asked, for a reason that is not in this list.
    #[error("the database refused")]
    Database(#[source] Cause),
    /// A table holds a value that we would not have written.
    #[error("column {column} of table {table} holds what was never written by us")]
    Malformed {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
    },
    /// A number does not fit the column that is to hold it.
    #[error("{what} is beyond what a column holds")]
    OutOfRange {
        /// The number.
        what: &'static str,
    },
    /// The database runs with a setting under which "durable" would be a lie, or a row would not fit.
    #[error("the database runs with {setting} = {found}; it has to be {wanted}")]
    Setting {
        /// The setting's name.
        setting: &'static str,
        /// Its value.
        found: String,
        /// What is needed.
        wanted: &'static str,
    },
    /// The tables were made by a newer build.
    #[error("the tables of {component} have version {found}; this build knows {known}")]
    Newer {
        /// Which tables.
        component: &'static str,
        /// Their version.
        found: u32,
        /// The newest version that this build knows.
        known: u32,
    },
    /// The tables were made by an older build, and whoever asks is not to change them.
    #[error("the tables of {component} have version {found}; a writer of this build brings them to {known}")]
    Older {
        /// Which tables.
        component: &'static str,
        /// Their version.
        found: u32,
        /// The version that this build reads.
        known: u32,
    },
    /// There are no tables, and whoever asks is not to make them.
    #[error("there are no tables of {component}")]
    Absent {
        /// Which tables.
        component: &'static str,
    },
    /// A name or an address of a database is not of the form that is allowed.
    #[error("{what} is not of the form that is allowed")]
    Configuration {
        /// What.
        what: &'static str,
    },
}

impl StoreFault {
    /// The stable code of this fault.
    pub fn code(&self) -> &'static str {
        match self {
            StoreFault::Storage(_) => "store_storage_failed",
            StoreFault::Full(_) => "store_full",
            StoreFault::Busy(_) => "store_busy",
            StoreFault::Conflict(_) => "store_conflict",
            StoreFault::Connection(_) => "store_connection_lost",
            StoreFault::Database(_) => "store_refused",
            StoreFault::Malformed { .. } => "store_malformed",
            StoreFault::OutOfRange { .. } => "store_out_of_range",
            StoreFault::Setting { .. } => "store_setting",
            StoreFault::Newer { .. } => "store_newer_schema",
            StoreFault::Older { .. } => "store_older_schema",
            StoreFault::Absent { .. } => "store_absent",
            StoreFault::Configuration { .. } => "store_configuration",
        }
    }

    /// Whether the process has to end, because only a new one can learn what is on the disk.
    pub fn is_fatal(&self) -> bool {
        matches!(self, StoreFault::Storage(_))
    }

    /// The fault within an append's error, where one of our stores said it.
    pub fn of_append(error: &AppendError) -> Option<&StoreFault> {
        match error {
            AppendError::Fenced => None,
            AppendError::Unknown(cause) => cause.downcast_ref(),
        }
    }

    /// The fault within a read's error, where one of our stores said it.
    pub fn of_read(error: &ReadError) -> Option<&StoreFault> {
        error.0.downcast_ref()
    }
}

impl From<StoreFault> for AppendError {
    fn from(fault: StoreFault) -> Self {
        AppendError::Unknown(Box::new(fault))
    }
}

impl From<StoreFault> for ReadError {
    fn from(fault: StoreFault) -> Self {
        ReadError(Box::new(fault))
    }
}

impl From<rusqlite::Error> for StoreFault {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        let Some(code) = error.sqlite_error_code() else { return StoreFault::Database(error.into()) };
        match code {
            ErrorCode::SystemIoFailure
            | ErrorCode::DatabaseCorrupt
            | ErrorCode::NotADatabase
            | ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::FileLockingProtocolFailed => StoreFault::Storage(error.into()),
            ErrorCode::DiskFull => StoreFault::Full(error.into()),
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => StoreFault::Busy(error.into()),
            _ => StoreFault::Database(error.into()),
        }
    }
}
