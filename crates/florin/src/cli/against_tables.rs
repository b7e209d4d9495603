//! The search tables held against the journal: its rows are folded once more, into tables of their own, and both are compared record by
//! record at the row on which the platform's tables stand.

use super::progress::Progress;
use super::verify::{Findings, Why, sentence};
use crate::config::{Config, StoreConfig};
use crate::platform::stores::maria_server;
use florin_core::id::{AccountId, Seq};
use florin_core::journal::{Journal, ReadError, RowError};
use florin_engine::audit::JournalReport;
use florin_engine::load::{FoldError, Place, READ_ROWS_MAX};
use florin_store::fault::StoreFault;
use florin_store::projection::compare::TableFault;
use florin_store::projection::{self, Projection, ProjectionError};

/// Accounts read at once.
const ACCOUNTS_PAGE: u32 = 1_000;

/// What all tables together are called.
const NAME: &str = "search tables";

/// Why the journal's rows could not be folded into tables.
#[derive(Debug, thiserror::Error)]
enum FoldFault {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Row(#[from] RowError),
    #[error(transparent)]
    Projection(#[from] ProjectionError),
}

impl From<StoreFault> for FoldFault {
    fn from(fault: StoreFault) -> Self {
        FoldFault::Projection(fault.into())
    }
}

/// Compares, and says of each table what was found.
pub(super) fn compare(
    config: &Config,
    journal: &mut dyn Journal,
    report: &JournalReport,
    findings: &mut Findings,
    progress: &mut Progress,
) {
    let mut tables = match open(config) {
        Ok(Some(tables)) => tables,
        Ok(None) => return findings.skips(NAME, "there are none yet"),
        Err(beside) => return beside.tell(findings),
    };
    let (mut expected, at) = match beside(&mut tables, journal, report, progress) {
        Ok(beside) => beside,
        Err(beside) => return beside.tell(findings),
    };
    let compared =
        tables.compare_with(&mut expected, |table, count| progress.say(|| format!("table {table}: record {count}")));
    match compared {
        Err(fault) => {
            findings.hinders(NAME, fault.code(), format!("the fold beside them is lost: {}", sentence(&fault)))
        }
        Ok(reports) => {
            for report in reports {
                let name = format!("table {}", report.table);
                match report.found {
                    Ok(count) => findings.agrees(name, format!("{count} records at row {}", at.seq)),
                    Err(TableFault::Unreadable(fault)) => {
                        let detail = format!("it can't be read: {}", sentence(&fault));
                        findings.unreadable(name, &fault, detail);
                    }
                    Err(fault) => findings.differs(name, Why::Fault(fault.code()), sentence(&fault)),
                }
            }
        }
    }
    compare_accounts(&mut expected, at, report, findings);
}

/// Why the tables could not be compared.
enum Beside {
    Incomparable(String),
    Differs(Why, String),
    /// They can't be read.
    Unreadable(StoreFault, String),
    /// What is needed beside them is not there.
    Hindered(&'static str, String),
    /// A row of the journal is wrong that came after it was judged.
    WrongRow(RowError),
}

impl Beside {
    fn tell(self, findings: &mut Findings) {
        match self {
            Beside::Incomparable(reason) => findings.skips(NAME, reason),
            Beside::Differs(why, detail) => findings.differs(NAME, why, detail),
            Beside::Unreadable(fault, detail) => findings.unreadable(NAME, &fault, detail),
            Beside::Hindered(code, detail) => findings.hinders(NAME, code, detail),
            Beside::WrongRow(error) => {
                let wrong = FoldError::Row(error);
                findings.skips(NAME, format!("row {} of the journal is wrong", wrong.seq()));
                findings.wrong_row(wrong);
            }
        }
    }
}

impl From<FoldFault> for Beside {
    fn from(fault: FoldFault) -> Self {
        let detail = format!("the journal's rows can't be folded for them: {}", sentence(&fault));
        match fault {
            FoldFault::Read(_) => Beside::Hindered("journal_unreadable_now", detail),
            FoldFault::Row(error) => Beside::WrongRow(error),
            // The tables of the fold are this command's own.
            FoldFault::Projection(ProjectionError::Store(fault)) => Beside::Hindered(fault.code(), detail),
            FoldFault::Projection(_) => Beside::Differs(Why::TablesUnfoldable, detail),
        }
    }
}

/// A fold of the journal up to the row on which the tables stand, and that row. From then on they stand still for this handle.
fn beside(
    tables: &mut Projection,
    journal: &mut dyn Journal,
    report: &JournalReport,
    progress: &mut Progress,
) -> Result<(Projection, Place), Beside> {
    // Most is folded before the tables are held still: as long as they are, the database keeps what others overwrite.
    let early = stands(tables, report)?;
    let mut fold = Fold::new()?;
    fold.go_on(journal, early.seq, progress)?;
    tables.begin_view().map_err(nowhere)?;
    let at = stands(tables, report)?;
    if at.seq < fold.at.seq {
        // Somebody has them made again just now.
        fold = Fold::new()?;
    }
    fold.go_on(journal, at.seq, progress)?;
    if fold.at.seq < at.seq {
        let detail = format!("they stand on row {}, past the journal's end at row {}", at.seq, fold.at.seq);
        return Err(Beside::Differs(Why::TablesPastEnd, detail));
    }
    if fold.at != at {
        let detail = format!("they stand on another row {} than the journal has", at.seq);
        return Err(Beside::Differs(Why::TablesOtherRow, detail));
    }
    Ok((fold.tables, at))
}

/// The row on which the tables stand.
fn stands(tables: &mut Projection, report: &JournalReport) -> Result<Place, Beside> {
    let (seq, hash) = tables.only_cursor().map_err(nowhere)?;
    match report.wrong_seq().filter(|wrong| *wrong <= seq) {
        Some(wrong) => {
            Err(Beside::Incomparable(format!("they stand on row {seq}, and row {wrong} of the journal is wrong")))
        }
        None => Ok(Place { seq, hash }),
    }
}

fn nowhere(fault: StoreFault) -> Beside {
    let detail = format!("nobody knows on which row they stand: {}", sentence(&fault));
    Beside::Unreadable(fault, detail)
}

fn open(config: &Config) -> Result<Option<Projection>, Beside> {
    let opened = match &config.store {
        StoreConfig::Sqlite => {
            let path = config.data().join(projection::FILE);
            if !path.exists() {
                return Ok(None);
            }
            Projection::open_sqlite_reader(&path)
        }
        StoreConfig::Mariadb { url_file, prefix, .. } => {
            let server = maria_server(config, url_file, prefix);
            let server = server.map_err(|failure| Beside::Hindered(failure.code(), failure.to_string()))?;
            Projection::open_maria_reader(&server)
        }
    };
    opened.map(Some).map_err(|fault| match fault {
        // A build that has not run yet, or tables that were taken away: the next start makes them.
        StoreFault::Older { .. } | StoreFault::Absent { .. } => {
            Beside::Incomparable(format!("not as this build makes them: {}", sentence(&fault)))
        }
        fault => {
            let detail = format!("they can't be opened: {}", sentence(&fault));
            Beside::Unreadable(fault, detail)
        }
    })
}

/// The journal's rows in tables of their own.
struct Fold {
    tables: Projection,
    at: Place,
}

impl Fold {
    fn new() -> Result<Fold, FoldFault> {
        Ok(Fold { tables: Projection::temporary()?, at: Place::START })
    }

    /// Takes in rows up to one, or to the journal's end.
    fn go_on(&mut self, journal: &mut dyn Journal, until: Seq, progress: &mut Progress) -> Result<(), FoldFault> {
        while self.at.seq < until {
            let left = usize::try_from(until.0 - self.at.seq.0).unwrap_or(READ_ROWS_MAX);
            let rows = journal.read(self.at.seq, left.min(READ_ROWS_MAX))?;
            if rows.is_empty() {
                break;
            }
            for row in &rows {
                let batch = row.open(self.at.seq, self.at.hash)?;
                self.tables.apply(row, &batch)?;
                self.at = Place { seq: row.seq, hash: row.hash };
            }
            progress.part("search tables: row", self.at.seq.0, until.0);
        }
        Ok(())
    }
}

/// Accounts' sums are folded twice: by the tables and by the rules. Both have to come to the same, where both stand on one row.
fn compare_accounts(tables: &mut Projection, at: Place, report: &JournalReport, findings: &mut Findings) {
    const NAME: &str = "accounts of search tables and ledger";
    let Some(state) = report.state.as_ref().filter(|_| report.head == at) else {
        let reason = format!("the tables stand on row {}, and the ledger on row {}", at.seq, report.head.seq);
        return findings.skips(NAME, reason);
    };
    let mut after: Option<AccountId> = None;
    let mut count = 0;
    loop {
        let page = match tables.accounts_after(after, ACCOUNTS_PAGE) {
            Ok(page) => page,
            Err(fault) => return findings.hinders(NAME, fault.code(), sentence(&fault)),
        };
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        count += page.len();
        if let Some(wrong) = page.iter().find(|account| state.ledger().account(account.id) != Some(account)) {
            return findings.differs(NAME, Why::AccountsDiffer, format!("account {}", wrong.id));
        }
    }
    match state.ledger().accounts().len() {
        expected if expected == count => findings.agrees(NAME, format!("{count} accounts at row {}", at.seq)),
        expected => findings.differs(NAME, Why::AccountsDiffer, format!("{count} accounts beside {expected}")),
    }
}
