//! The stores of one platform, opened together. Every reader has a handle of its own, so that none waits for another.

use super::private_folder;
use super::witnesses::SearchTables;
use crate::config::{ARCHIVE, Config, StoreConfig};
use crate::failure::Failure;
use crate::secret::{PrivateFault, read_private};
use florin_core::id::{Digest, Seq};
use florin_core::journal::{AppendError, Journal, ReadError, Row, SnapshotHeader};
use florin_core::wire::Bytes;
use florin_engine::ports::{self, Beat, BeatAnswer, Heartbeat, HeartbeatFault, SnapshotFault};
use florin_engine::witness::Witness;
use florin_store::archive::{Archive, WithArchive};
use florin_store::fault::StoreFault;
use florin_store::folder_lock::{FolderLock, FolderLockError};
use florin_store::heartbeat::{self, SqlHeartbeat};
use florin_store::maria::MariaServer;
use florin_store::maria::journal::MariaJournal;
use florin_store::people::People;
use florin_store::projection::{self, Projection};
use florin_store::site::{Pruner, Site};
use florin_store::snapshots::{self, VerifiedSnapshot};
use florin_store::sqlite::journal::{self as sqlite_journal, SqliteJournal};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// Snapshots kept: the newest, and one before it in case that one is damaged.
pub(crate) const SNAPSHOTS_KEPT: NonZeroUsize = NonZeroUsize::new(2).expect("two is not zero");

/// Everything that a platform keeps.
pub struct Stores {
    /// The journal, for appending.
    pub journal: Box<dyn Journal>,
    /// The journal, for whoever reads its past.
    pub history: Box<dyn Journal>,
    /// The journal, for readers of old events.
    pub past: Box<dyn Journal>,
    /// The journal, for single rows.
    pub lookup: Box<dyn Journal>,
    /// The journal, for the projector.
    pub feed: Box<dyn Journal>,
    /// The journal, for whoever asks the signer.
    pub shown: Box<dyn Journal>,
    /// The journal, for whoever looks for records that left the state.
    pub left: Box<dyn Journal>,
    /// What names rows of the journal from outside of it.
    pub witnesses: Vec<Box<dyn Witness>>,
    /// Snapshots.
    pub snapshots: Box<dyn ports::Snapshots>,
    /// The search tables, for the projector.
    pub projection: Projection,
    /// The search tables, for questions.
    pub search: Projection,
    /// The people.
    pub people: People,
    /// The leader's signs of life.
    pub heartbeat: Box<dyn Heartbeat>,
    /// Whether a failed append means that the storage can't be trusted any more.
    pub is_storage_failure: Box<dyn Fn(&AppendError) -> bool + Send>,
}

impl std::fmt::Debug for Stores {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Stores")
    }
}

fn cannot_open(what: &str, fault: StoreFault) -> Failure {
    let failure = Failure::new(fault.code(), format!("{what} can't be opened"));
    match fault {
        StoreFault::Busy(_) => failure.because(fault).hint("another process uses it; stop that one first"),
        fault => failure.because(fault),
    }
}

/// The server that a configuration names.
///
/// # Errors
/// `mariadb_url_exposed`, `mariadb_url_unreadable`, the store's codes.
pub(crate) fn maria_server(config: &Config, url_file: &Path, prefix: &str) -> Result<MariaServer, Failure> {
    let path = config.path(url_file);
    let url = read_private(&path).map_err(|fault| match fault {
        PrivateFault::Exposed { .. } => {
            Failure::new("mariadb_url_exposed", format!("others may read the password in {}", path.display()))
                .because(fault)
                .hint(format!("chmod 600 {}", path.display()))
        }
        PrivateFault::Unreadable(_) => {
            Failure::new("mariadb_url_unreadable", format!("{} can't be read", path.display()))
                .because(fault)
                .hint("store.url_file names a file with mysql://user:password@host:port")
        }
    })?;
    MariaServer::new(url.trim_end(), prefix).map_err(|fault| cannot_open("the database server", fault))
}

/// The journal of a configuration, for reading from its first row on, whether that is in the archive or not. Whatever runs
/// goes on undisturbed.
///
/// # Errors
/// As [`open_kept_journal_reader`].
pub(crate) fn open_journal_reader(config: &Config) -> Result<Box<dyn Journal>, Failure> {
    Ok(with_archive(open_kept_journal_reader(config)?, &config.archive()))
}

/// As [`open_journal_reader`], but only the rows that the journal itself still keeps.
///
/// # Errors
/// `journal_missing`, the store's codes.
pub(crate) fn open_kept_journal_reader(config: &Config) -> Result<Box<dyn Journal>, Failure> {
    match &config.store {
        StoreConfig::Sqlite => {
            let path = sqlite_journal(config)?;
            let journal = SqliteJournal::open_reader(&path).map_err(|fault| cannot_read_journal(config, fault))?;
            Ok(Box::new(journal))
        }
        StoreConfig::Mariadb { url_file, prefix, .. } => {
            let server = maria_server(config, url_file, prefix)?;
            let journal = MariaJournal::open_reader(&server).map_err(|fault| cannot_read_journal(config, fault))?;
            Ok(Box::new(journal))
        }
    }
}

/// A journal that a reader can't open. Where there is none, nobody but 'florin serve' makes one: a name that is mistyped would
/// be taken for an empty platform.
fn cannot_read_journal(config: &Config, fault: StoreFault) -> Failure {
    if !matches!(fault, StoreFault::Absent { .. }) {
        return cannot_open("the journal", fault);
    }
    let place = match &config.store {
        StoreConfig::Sqlite => config.data().join(sqlite_journal::FILE).display().to_string(),
        StoreConfig::Mariadb { prefix, .. } => format!("{prefix}_journal, a database of the server"),
    };
    Failure::new("journal_missing", format!("there is no journal at {place}")).because(fault).hint(
        "'florin serve' makes one; where there should be one, see platform.data, or store.prefix and store.url_file",
    )
}

/// The file of the journal.
fn sqlite_journal(config: &Config) -> Result<PathBuf, Failure> {
    let path = config.data().join(sqlite_journal::FILE);
    if path.exists() {
        return Ok(path);
    }
    Err(cannot_read_journal(config, StoreFault::Absent { component: "journal" }))
}

/// The journal of a configuration, for deleting its oldest rows. Whatever runs goes on.
///
/// # Errors
/// `journal_missing`, the store's codes.
pub(crate) fn open_pruner(config: &Config) -> Result<Pruner, Failure> {
    let site = match &config.store {
        StoreConfig::Sqlite => sqlite_journal(config).map(|_| Site::Folder(config.data()))?,
        StoreConfig::Mariadb { url_file, prefix, .. } => Site::Server(maria_server(config, url_file, prefix)?),
    };
    site.pruner().map_err(|fault| cannot_read_journal(config, fault))
}

/// The search tables of a configuration, for reading.
///
/// # Errors
/// The store's codes.
pub(crate) fn open_tables_reader(config: &Config) -> Result<Projection, Failure> {
    let opened = match &config.store {
        StoreConfig::Sqlite => Projection::open_sqlite_reader(&config.data().join(projection::FILE)),
        StoreConfig::Mariadb { url_file, prefix, .. } => {
            Projection::open_maria_reader(&maria_server(config, url_file, prefix)?)
        }
    };
    opened.map_err(|fault| cannot_open("the search tables", fault))
}

fn with_archive(journal: Box<dyn Journal>, archive: &Path) -> Box<dyn Journal> {
    Box::new(WithArchive::new(journal, Archive::at(archive.to_path_buf())))
}

impl Stores {
    /// Opens what a configuration names, and makes what is missing.
    ///
    /// # Errors
    /// `folder_unwritable`, `mariadb_url_unreadable`, `data_folder_in_use`, `data_folder_unlockable`, the store's codes.
    pub fn open(config: &Config) -> Result<Stores, Failure> {
        let (data, node) = (config.data(), config.platform.node.as_str());
        private_folder(&data)?;
        refuse_exposed(&data)?;
        let site = match &config.store {
            StoreConfig::Sqlite => Site::Folder(data.clone()),
            // Databases on a server; snapshots, and what is known of the signer, stay in the folder of this machine.
            StoreConfig::Mariadb { url_file, prefix, .. } => Site::Server(maria_server(config, url_file, prefix)?),
        };
        Stores::open_at(&site, &data, &config.archive(), node)
    }

    /// SQLite files in one folder.
    ///
    /// # Errors
    /// `data_folder_in_use`, `data_folder_unlockable`, the store's codes.
    pub fn open_sqlite(folder: &Path) -> Result<Stores, Failure> {
        Stores::open_at(&Site::Folder(folder.to_path_buf()), folder, &folder.join(ARCHIVE), "")
    }

    /// The folder's lock comes before everything, then the writers: opening them settles what a crash left, and makes what
    /// readers expect to find.
    fn open_at(site: &Site, folder: &Path, archive: &Path, node: &str) -> Result<Stores, Failure> {
        let lock = lock(folder, node)?;
        let journal = site.journal().map_err(|fault| cannot_open("the journal", fault))?;
        let reader = || match site.journal_reader() {
            Ok(journal) => Ok(with_archive(journal, archive)),
            Err(fault) => Err(cannot_open("the journal", fault)),
        };
        let projection = site.projection().map_err(|fault| cannot_open("the search tables", fault))?;
        let search = site.projection_reader().map_err(|fault| cannot_open("the search tables", fault))?;
        let tables = site.projection_reader().map_err(|fault| cannot_open("the search tables", fault))?;
        let heartbeat = site.heartbeat().map_err(|fault| {
            cannot_open("the store of signs of life", fault)
                .hint("nothing in it has to last: where it is damaged, remove heartbeat.sqlite3, which is made again")
        })?;
        Ok(Stores {
            journal: Box::new(Locked { journal: with_archive(journal, archive), _lock: lock }),
            heartbeat: Box::new(Signs(heartbeat)),
            history: reader()?,
            past: reader()?,
            lookup: reader()?,
            feed: reader()?,
            shown: reader()?,
            left: reader()?,
            witnesses: vec![Box::new(SearchTables(tables))],
            snapshots: Box::new(SnapshotStore::open(folder)?),
            projection,
            search,
            people: site.people().map_err(|fault| cannot_open("the store of people", fault))?,
            is_storage_failure: Box::new(is_fatal),
        })
    }
}

/// The people's names and the books are in it: nobody but its owner, and a group that the owner chose, may enter it.
fn refuse_exposed(data: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(data).map_or(0, |found| found.permissions().mode());
    if mode & 0o007 == 0 {
        return Ok(());
    }
    let data = data.display();
    Err(Failure::new(
        "data_folder_exposed",
        format!("everybody may enter the data folder {data} (mode {:03o})", mode & 0o777),
    )
    .hint(format!("chmod 700 {data}")))
}

/// Keeps a second process away from the files.
pub(crate) fn lock(folder: &Path, node: &str) -> Result<FolderLock, Failure> {
    FolderLock::take(folder, node).map_err(|error| match error {
        FolderLockError::InUse(_) => {
            Failure::new("data_folder_in_use", format!("another process has the data folder {}", folder.display()))
                .because(error)
                .hint("stop it first, or give this node a data folder of its own")
        }
        FolderLockError::Fault(_) => {
            Failure::new("data_folder_unlockable", format!("the data folder {} can't be locked", folder.display()))
                .because(error)
                .hint("it belongs on a local disk, in a folder that this user may write")
        }
    })
}

/// The journal's writer, and the lock that goes with it: whoever may still append holds the folder.
struct Locked {
    journal: Box<dyn Journal>,
    _lock: FolderLock,
}

impl Journal for Locked {
    fn append(&mut self, row: &Row) -> Result<(), AppendError> {
        self.journal.append(row)
    }
    fn read(&mut self, after: Seq, count_max: usize) -> Result<Vec<Row>, ReadError> {
        self.journal.read(after, count_max)
    }
    fn head(&mut self) -> Result<Option<(Seq, Digest)>, ReadError> {
        self.journal.head()
    }
}

/// The engine's port to signs of life.
#[derive(Debug)]
struct Signs(SqlHeartbeat);

fn stored(beat: &Beat) -> heartbeat::Beat {
    let (node, url) = (beat.node.clone(), beat.url.clone().unwrap_or_default());
    heartbeat::Beat { node, url, epoch: beat.epoch, number: beat.number, is_last: beat.is_last }
}

fn seen(beat: heartbeat::Beat) -> Beat {
    let heartbeat::Beat { node, url, epoch, number, is_last } = beat;
    Beat { node, url: Some(url).filter(|url| !url.is_empty()), epoch, number, is_last }
}

fn answered(answer: Result<heartbeat::BeatAnswer, StoreFault>) -> Result<BeatAnswer, HeartbeatFault> {
    match answer {
        Ok(heartbeat::BeatAnswer::Confirmed) => Ok(BeatAnswer::Confirmed),
        Ok(heartbeat::BeatAnswer::Superseded(other)) => Ok(BeatAnswer::Superseded(seen(other))),
        Err(fault) => Err(silent(fault)),
    }
}

fn silent(fault: StoreFault) -> HeartbeatFault {
    HeartbeatFault { code: fault.code(), cause: fault.into() }
}

impl Heartbeat for Signs {
    fn beat(&mut self, beat: &Beat) -> Result<BeatAnswer, HeartbeatFault> {
        answered(self.0.beat(&stored(beat)))
    }
    fn replace(&mut self, seen: Option<&Beat>, beat: &Beat) -> Result<BeatAnswer, HeartbeatFault> {
        answered(self.0.replace(seen.map(stored).as_ref(), &stored(beat)))
    }
    fn last(&mut self) -> Result<Option<Beat>, HeartbeatFault> {
        self.0.last().map(|beat| beat.map(seen)).map_err(silent)
    }
}

fn is_fatal(error: &AppendError) -> bool {
    StoreFault::of_append(error).is_some_and(StoreFault::is_fatal)
}

/// The engine's port to snapshots, on this machine's disk.
#[derive(Debug)]
pub(crate) struct SnapshotStore {
    snapshots: snapshots::Snapshots,
}

impl SnapshotStore {
    /// Opens or makes the file in `folder`.
    ///
    /// # Errors
    /// The store's codes.
    pub(crate) fn open(folder: &Path) -> Result<SnapshotStore, Failure> {
        let snapshots = snapshots::Snapshots::open(&folder.join(snapshots::FILE));
        Ok(SnapshotStore { snapshots: snapshots.map_err(|fault| cannot_open("the store of snapshots", fault))? })
    }
}

impl ports::Snapshots for SnapshotStore {
    fn newest(&mut self) -> Result<Option<(SnapshotHeader, Vec<Bytes>)>, SnapshotFault> {
        let seqs = self.snapshots.list().map_err(|fault| SnapshotFault(fault.into()))?;
        let mut damaged = None;
        // A damaged one only costs time: an older one, or the journal, has the same state.
        for seq in seqs {
            match self.snapshots.load(seq) {
                Ok(Some(found)) => return Ok(Some((found.header().clone(), found.chunks().to_vec()))),
                Ok(None) => {}
                Err(error) => damaged = Some(error),
            }
        }
        damaged.map_or(Ok(None), |error| Err(SnapshotFault(error.into())))
    }

    fn put(&mut self, header: &SnapshotHeader, chunks: &[Bytes]) -> Result<(), SnapshotFault> {
        let snapshot = VerifiedSnapshot::verify(header.clone(), chunks.to_vec());
        let snapshot = snapshot.map_err(|error| SnapshotFault(error.into()))?;
        self.snapshots.write(&snapshot).map_err(|fault| SnapshotFault(fault.into()))?;
        self.snapshots.retain(SNAPSHOTS_KEPT).map_err(|fault| SnapshotFault(fault.into()))
    }
}

/// Looks single rows up, and keeps the last one in mind.
pub(super) struct Head {
    journal: Box<dyn Journal>,
    last: Option<(Seq, Digest)>,
}

impl Head {
    pub(super) fn new(journal: Box<dyn Journal>) -> Head {
        Head { journal, last: None }
    }

    /// The hash of a row; `None` where the journal does not answer or has no such row.
    pub(super) fn hash(&mut self, seq: Seq) -> Option<Digest> {
        if seq == Seq::START {
            return Some(Digest::ZERO);
        }
        if let Some((last, hash)) = self.last
            && last == seq
        {
            return Some(hash);
        }
        let rows = self.journal.read(Seq(seq.0 - 1), 1).ok()?;
        let row = rows.first().filter(|row| row.seq == seq)?;
        self.last = Some((seq, row.hash));
        Some(row.hash)
    }
}
