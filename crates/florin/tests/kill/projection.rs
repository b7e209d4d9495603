//! A second projection, folded by the test from the journal alone: whatever was killed, the platform's own must be the same
//! at the same row. Nothing here writes where the platform writes.

use crate::site::{Books, Site};
use florin_core::id::{Digest, Seq};
use florin_core::journal::{Journal, Row};
use florin_engine::load::READ_ROWS_MAX;
use florin_store::archive::WithArchive;
use florin_store::projection::query::{DepositKey, DepositRecord, Extent};
use florin_store::projection::{self, Projection};
use florin_store::site::Site as StoreSite;
use florin_store::sqlite::journal;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// How often a look at a server's tables is repeated where a dying process's last transaction came in between.
const LOOKS_MAX: u32 = 20;

/// Records of one page.
const PAGE: u32 = 1_000;

/// How much is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Sums and the records as they stand.
    Standing,
    /// Every record of every table.
    Everything,
}

/// The test's own projection.
pub struct Twin {
    _folder: TempDir,
    tables: Projection,
    at: Seq,
    hash: Digest,
    /// Rows compared so far.
    pub compared: u64,
}

impl Twin {
    pub fn new() -> Twin {
        let folder = tempfile::tempdir().expect("a folder");
        let tables = Projection::open_sqlite(&folder.path().join(projection::FILE)).expect("tables");
        Twin { _folder: folder, tables, at: Seq::START, hash: Digest::ZERO, compared: 0 }
    }

    /// Compares the tables with the journal. No process of the platform may run.
    pub fn compare(&mut self, site: &Site, depth: Depth) {
        let copy = tempfile::tempdir().expect("a folder");
        let stores = quiet_stores(site, copy.path());
        let journal = stores.journal_reader().expect("the journal opens");
        let mut journal = WithArchive::new(journal, site.archive());
        let mut tables = stores.projection_reader().expect("the tables open");
        for _ in 0..LOOKS_MAX {
            let (at, hash) = tables.cursor().expect("a cursor");
            assert!(at >= self.at, "the tables went back from row {} to row {at}", self.at);
            self.fold_to(&mut journal, at);
            assert_eq!(self.hash, hash, "row {at} of the tables is the journal's");
            let wrong = match depth {
                Depth::Standing => difference(&dump(&mut tables), &dump(&mut self.tables)),
                Depth::Everything => {
                    let reports = tables.compare_with(&mut self.tables, |_, _| {}).expect("the test's tables are read");
                    let wrong = reports.into_iter().find_map(|report| Some((report.table, report.found.err()?)));
                    wrong.map(|(table, fault)| format!("{table}: {fault}"))
                }
            };
            if tables.cursor().expect("a cursor") != (at, hash) {
                continue;
            }
            assert_eq!(wrong, None, "the tables at row {at}");
            self.compared += 1;
            return;
        }
        panic!("the tables change while nobody runs");
    }

    fn fold_to(&mut self, journal: &mut dyn Journal, to: Seq) {
        while self.at < to {
            let rows = journal.read(self.at, READ_ROWS_MAX).expect("the journal is read");
            assert!(!rows.is_empty(), "the tables are at row {to}, and the journal ends at row {}", self.at);
            for row in rows.into_iter().take_while(|row| row.seq <= to) {
                self.fold(&row);
            }
        }
    }

    fn fold(&mut self, row: &Row) {
        let batch = row.open(self.at, self.hash).expect("the journal is whole");
        self.tables.apply(row, &batch).expect("the row is taken in");
        (self.at, self.hash) = (row.seq, row.hash);
    }
}

/// The first line in which two dumps differ.
fn difference(found: &[String], expected: &[String]) -> Option<String> {
    let count = found.len().max(expected.len());
    let line = (0..count).find(|&line| found.get(line) != expected.get(line))?;
    Some(format!("found {:?}, expected {:?}", found.get(line), expected.get(line)))
}

/// The stores as a killed process left them. Files are copied first: opening them would put in order what the next start
/// has to find as it is.
fn quiet_stores(site: &Site, copy: &Path) -> StoreSite {
    if let Books::Maria { .. } = site.books {
        return site.stores();
    }
    for name in [journal::FILE, projection::FILE] {
        for name in [name.to_owned(), format!("{name}-wal")] {
            let from = site.data("one").join(&name);
            if from.exists() {
                fs::copy(&from, copy.join(&name)).expect("copied");
            }
        }
    }
    StoreSite::Folder(copy.to_owned())
}

fn pages<T, K>(mut read: impl FnMut(Option<K>) -> Vec<T>, key: impl Fn(&T) -> K) -> Vec<T> {
    let mut all: Vec<T> = Vec::new();
    loop {
        let page = read(all.last().map(&key));
        let is_last = page.is_empty();
        all.extend(page);
        if is_last {
            return all;
        }
    }
}

/// Sums and the records as they stand, a line for each.
fn dump(tables: &mut Projection) -> Vec<String> {
    let accounts = pages(|after| tables.accounts_after(after, PAGE).expect("accounts"), |account| account.id);
    let key = |record: &DepositRecord| DepositKey { seen: record.seen, outpoint: record.outpoint };
    let deposits = pages(|before| tables.deposits(None, before, Extent::of_all(PAGE)).expect("deposits"), key);
    let withdrawals = pages(
        |before| tables.withdrawals(None, before, Extent::of_all(PAGE)).expect("withdrawals"),
        |record| record.id,
    );
    let accounts = accounts.iter().map(|account| format!("{account:?}"));
    let deposits = deposits.iter().map(|record| format!("{record:?}"));
    accounts.chain(deposits).chain(withdrawals.iter().map(|record| format!("{record:?}"))).collect()
}
