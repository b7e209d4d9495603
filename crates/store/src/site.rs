//! Where a platform's tables are, as its configuration says: one way to open each store, whichever database holds it.

use crate::fail_stop::FailStop;
use crate::fault::StoreFault;
use crate::heartbeat::{self, SqlHeartbeat};
use crate::maria::MariaServer;
use crate::maria::journal::MariaJournal;
use crate::people::{self, People};
use crate::projection::{self, Projection};
use crate::retention::{Permit, PrefixError};
use crate::signer_record::{self, SqlSignerRecord};
use crate::sqlite::journal::{self, SqliteJournal};
use florin_core::id::Seq;
use florin_core::journal::Journal;
use std::path::PathBuf;

/// Where the tables are. Snapshots are always in the node's own folder: [`crate::snapshots`].
#[derive(Debug, Clone)]
pub enum Site {
    /// In SQLite files in this folder, which exists.
    Folder(PathBuf),
    /// In databases on this MariaDB server.
    Server(MariaServer),
}

impl Site {
    /// The journal for its writer. A failure of the disk ends the process: see [`FailStop`].
    ///
    /// # Errors
    /// Where it can't be opened; so with every method here.
    pub fn journal(&self) -> Result<Box<dyn Journal>, StoreFault> {
        Ok(match self {
            Site::Folder(folder) => Box::new(FailStop(SqliteJournal::open(&folder.join(journal::FILE))?)),
            Site::Server(server) => Box::new(MariaJournal::open(server)?),
        })
    }

    /// The journal for a reader in the process of the writer, which has to have been opened before: it makes the tables, and on
    /// SQLite settles what a crash left.
    ///
    /// # Errors
    /// As [`Site::journal`].
    pub fn journal_reader(&self) -> Result<Box<dyn Journal>, StoreFault> {
        Ok(match self {
            Site::Folder(folder) => Box::new(FailStop(SqliteJournal::open_own_reader(&folder.join(journal::FILE))?)),
            Site::Server(server) => Box::new(MariaJournal::open_reader(server)?),
        })
    }

    /// The journal for whoever deletes its oldest rows.
    ///
    /// # Errors
    /// As [`Site::journal`].
    pub fn pruner(&self) -> Result<Pruner, StoreFault> {
        Ok(match self {
            Site::Folder(folder) => Pruner::Sqlite(SqliteJournal::open_pruner(&folder.join(journal::FILE))?),
            Site::Server(server) => Pruner::Maria(MariaJournal::open_pruner(server)?),
        })
    }

    /// The leader's signs of life.
    ///
    /// # Errors
    /// As [`Site::journal`].
    pub fn heartbeat(&self) -> Result<SqlHeartbeat, StoreFault> {
        match self {
            Site::Folder(folder) => SqlHeartbeat::open_sqlite(&folder.join(heartbeat::FILE)),
            Site::Server(server) => SqlHeartbeat::open_maria(server),
        }
    }

    /// What is known of the signer.
    ///
    /// # Errors
    /// As [`Site::journal`].
    pub fn signer_record(&self) -> Result<SqlSignerRecord, StoreFault> {
        match self {
            Site::Folder(folder) => SqlSignerRecord::open_sqlite(&folder.join(signer_record::FILE)),
            Site::Server(server) => SqlSignerRecord::open_maria(server),
        }
    }

    /// The search tables, for the projector.
    ///
    /// # Errors
    /// As [`Site::journal`].
    pub fn projection(&self) -> Result<Projection, StoreFault> {
        match self {
            Site::Folder(folder) => Projection::open_sqlite(&folder.join(projection::FILE)),
            Site::Server(server) => Projection::open_maria(server),
        }
    }

    /// The search tables, for queries beside the projector, which has opened them before.
    ///
    /// # Errors
    /// As [`Site::journal`].
    pub fn projection_reader(&self) -> Result<Projection, StoreFault> {
        match self {
            Site::Folder(folder) => Projection::open_sqlite_own_reader(&folder.join(projection::FILE)),
            Site::Server(server) => Projection::open_maria_reader(server),
        }
    }

    /// The people.
    ///
    /// # Errors
    /// As [`Site::journal`].
    pub fn people(&self) -> Result<People, StoreFault> {
        match self {
            Site::Folder(folder) => People::open_sqlite(&folder.join(people::FILE)),
            Site::Server(server) => People::open_maria(server),
        }
    }
}

/// A handle that deletes a journal's oldest rows, and does nothing else.
#[derive(Debug)]
pub enum Pruner {
    /// Of a SQLite file.
    Sqlite(SqliteJournal),
    /// On a MariaDB server.
    Maria(MariaJournal),
}

impl Pruner {
    /// Deletes what [`permit`](crate::retention::permit) has released. `progress` is called after each transaction with the
    /// last row that is gone.
    ///
    /// # Errors
    /// [`PrefixError`].
    pub fn delete_prefix(&mut self, permit: &Permit, progress: &mut dyn FnMut(Seq)) -> Result<(), PrefixError> {
        match self {
            Pruner::Sqlite(journal) => journal.delete_prefix(permit, progress),
            Pruner::Maria(journal) => journal.delete_prefix(permit, progress),
        }
    }
}
