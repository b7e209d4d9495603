//! A second projection, folded by the test from the journal alone: whatever was killed, the platform's own must be the same
//! at the same row. Nothing here writes where the platform writes.

use crate::site::{Books, Site};
use florin_core::id::{AccountId, ChainId, CustomerId, Digest, PlanId, Seq};
use florin_core::journal::{Journal, Row};
use florin_engine::load::READ_ROWS_MAX;
use florin_store::projection::query::{Page, Subject};
use florin_store::projection::{self, Place, Projection};
use florin_store::site::Site as StoreSite;
use florin_store::sqlite::journal;
use std::collections::BTreeSet;
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
    /// Every transfer and the history of everything as well.
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
        let mut journal = stores.journal_reader().expect("the journal opens");
        let mut tables = stores.projection_reader().expect("the tables open");
        for _ in 0..LOOKS_MAX {
            let (at, hash) = tables.cursor().expect("a cursor");
            assert!(at >= self.at, "the tables went back from row {} to row {at}", self.at);
            let found = dump(&mut tables, depth);
            if tables.cursor().expect("a cursor") != (at, hash) {
                continue;
            }
            self.fold_to(journal.as_mut(), at);
            assert_eq!(self.hash, hash, "row {at} of the tables is the journal's");
            let expected = dump(&mut self.tables, depth);
            assert_same(&found, &expected, at);
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

#[track_caller]
fn assert_same(found: &[String], expected: &[String], at: Seq) {
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found, expected, "the tables at row {at}");
    }
    assert_eq!(found.len(), expected.len(), "records in the tables at row {at}");
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

fn pages<T>(mut read: impl FnMut(Page) -> Vec<T>, place: impl Fn(&T) -> Place) -> Vec<T> {
    let mut all: Vec<T> = Vec::new();
    loop {
        let page = read(Page { before: all.last().map(&place), count: PAGE });
        let is_last = page.is_empty();
        all.extend(page);
        if is_last {
            return all;
        }
    }
}

/// Everything in the tables, a line for each record.
fn dump(tables: &mut Projection, depth: Depth) -> Vec<String> {
    let mut lines = Vec::new();
    let mut accounts = Vec::new();
    let mut after: Option<AccountId> = None;
    loop {
        let page = tables.accounts_after(after, PAGE).expect("accounts");
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        accounts.extend(page);
    }
    lines.extend(accounts.iter().map(|account| format!("{account:?}")));
    let deposits = pages(|page| tables.deposits(None, None, page).expect("deposits"), |record| record.place);
    let withdrawals = pages(|page| tables.withdrawals(None, None, page).expect("withdrawals"), |record| record.place);
    let blocks = pages(|page| tables.blocks(ChainId(1), page).expect("blocks"), |record| record.place);
    lines.extend(deposits.iter().map(|record| format!("{record:?}")));
    lines.extend(withdrawals.iter().map(|record| format!("{record:?}")));
    lines.extend(blocks.iter().map(|record| format!("{record:?}")));
    for plan in (1..).map(PlanId) {
        let Some(record) = tables.plan(plan).expect("plans") else { break };
        lines.push(format!("{record:?}"));
    }
    if depth == Depth::Standing {
        return lines;
    }
    let mut subjects: Vec<Subject> = Vec::new();
    for account in &accounts {
        subjects.push(Subject::Account(account.id));
        let transfers = pages(|page| tables.transfers(account.id, page).expect("transfers"), |record| record.place);
        lines.extend(transfers.iter().map(|record| format!("{record:?}")));
    }
    subjects.extend(withdrawals.iter().map(|record| Subject::Uuid(record.id.0)));
    subjects.extend(deposits.iter().map(|record| Subject::OutPoint(record.outpoint)));
    let customers: BTreeSet<CustomerId> = withdrawals.iter().map(|record| record.customer).collect();
    for customer in customers {
        subjects.push(Subject::Uuid(customer.0));
        let quotes = pages(|page| tables.quotes(customer, page).expect("quotes"), |record| record.place);
        lines.extend(quotes.iter().map(|record| format!("{record:?}")));
    }
    for subject in subjects {
        let mut after = None;
        loop {
            let page = tables.history(subject, after, PAGE).expect("history");
            let Some(last) = page.last() else { break };
            after = Some(last.place);
            lines.extend(page.iter().map(|record| format!("{record:?}")));
        }
    }
    lines
}
