//! `florin ledger`: reads the journal where it lies and judges it. It needs no running platform, disturbs none, and repairs
//! nothing.

use super::Common;
use super::against_chain::{self, Verdict};
use super::checkpoint;
use super::show::{line, record};
use crate::config::{Config, StoreConfig};
use crate::failure::Failure;
use crate::platform::stores::{SnapshotStore, maria_server, open_journal_reader};
use clap::{Args, Subcommand};
use florin_core::id::{Digest, Seq};
use florin_core::journal::{AppendError, Journal, ReadError, Row, SnapshotHeader};
use florin_core::state::State;
use florin_engine::audit::{JournalReport, check_books, verify_journal};
use florin_engine::ports::Snapshots;
use florin_store::fault::StoreFault;
use florin_store::projection::{self, Projection};
use florin_store::{segment, snapshots};
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often progress is shown.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// Rows of a segment where nobody says.
const SEGMENT_ROWS: u64 = 10_000;
/// Bytes of a segment's payloads: a segment is made in memory.
const SEGMENT_BYTES_MAX: usize = 64 << 20;
/// Accounts read at once from the search tables.
const ACCOUNTS_PAGE: u32 = 1_000;
/// Rows read at once.
const READ_ROWS: usize = 64;

#[derive(Debug, Subcommand)]
pub(crate) enum LedgerCommand {
    /// Reads the whole journal: checks numbers, links and hashes, folds every row, holds the books against their rules, and
    /// compares with snapshot, search tables and what the nodes' chain holds. Names the first row that is wrong.
    Verify(VerifyArgs),
    /// Has the signer sign the journal's head, and writes the checkpoint into a folder.
    Checkpoint(checkpoint::CheckpointArgs),
    /// Shows the journal's last row.
    Head,
    /// Prints the journal's published schema (Protocol Buffers).
    Schema,
    /// Writes the journal as files that prove themselves, each linked to the one before.
    Export(ExportArgs),
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// A folder of checkpoints that the journal must agree with.
    #[arg(long, value_name = "FOLDER")]
    checkpoints: Option<PathBuf>,
    /// The signer's key, as 'florin ledger checkpoint' first showed it: 64 hexadecimal digits.
    #[arg(long, value_name = "HEX", requires = "checkpoints")]
    signer_key: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The folder to write into. Files that exist are left as they are, and end the export.
    folder: PathBuf,
    /// Begins after this row.
    #[arg(long, default_value_t = 0)]
    after: u64,
    /// Rows of one file.
    #[arg(long, default_value_t = SEGMENT_ROWS, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rows: u64,
}

pub(crate) fn run(command: LedgerCommand, common: &Common, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        LedgerCommand::Schema => line(out, florin_core::journal::schema().trim_end()),
        LedgerCommand::Head => head(common, out),
        LedgerCommand::Verify(args) => verify(&args, common, out),
        LedgerCommand::Checkpoint(args) => checkpoint::take(&args, common, out),
        LedgerCommand::Export(args) => export(&args, common, out),
    }
}

pub(super) fn unreadable(fault: ReadError) -> Failure {
    Failure::new("journal_unreadable_now", "the journal can't be read").because(fault)
}

fn head(common: &Common, out: &mut dyn Write) -> Result<(), Failure> {
    let mut journal = open_journal_reader(&Config::read(&common.config)?)?;
    let Some((seq, hash)) = journal.head().map_err(unreadable)? else {
        return record(out, common.json, &json!({ "seq": 0, "hash": Digest::ZERO.to_string() }));
    };
    let rows = journal.read(Seq(seq.0 - 1), 1).map_err(unreadable)?;
    let row = rows.first();
    let (epoch, time_ms) = (row.map(|row| row.epoch.0), row.map(|row| row.time.0));
    record(out, common.json, &json!({ "seq": seq.0, "hash": hash.to_string(), "epoch": epoch, "time_ms": time_ms }))
}

/// What was compared with the journal, and whether it agrees.
pub(super) struct Compared {
    pub(super) name: String,
    pub(super) agrees: bool,
    pub(super) detail: String,
}

fn verify(args: &VerifyArgs, common: &Common, out: &mut dyn Write) -> Result<(), Failure> {
    let config = Config::read(&common.config)?;
    let mut journal = open_journal_reader(&config)?;
    let snapshot = newest_snapshot(&config)?;
    let mut progress = Progress::new(journal.as_mut());
    let report = verify_journal(journal.as_mut(), snapshot.as_ref(), |rows| progress.say(rows)).map_err(unreadable)?;
    progress.end();
    let mut compared: Vec<Compared> = Vec::new();
    compared.extend(snapshot.as_ref().and_then(|header| compare_snapshot(header, &report)));
    compared.extend(compare_tables(&config, journal.as_mut(), &report)?);
    if let Some(folder) = &args.checkpoints {
        compared.extend(checkpoint::compare(&config, journal.as_mut(), folder, args.signer_key.as_deref())?);
    }
    let mut not_compared = Vec::new();
    if let Some(state) = report.state.as_ref().filter(|_| report.wrong.is_none()) {
        for Verdict { node, agrees, detail } in against_chain::compare(&config, state) {
            match agrees {
                Some(agrees) => compared.push(Compared { name: format!("node {node}"), agrees, detail }),
                None => not_compared.push(format!("node {node}: {detail}")),
            }
        }
    }
    let faults = report.state.as_ref().map(check_books).unwrap_or_default();
    let shown = json!({
        "rows": report.rows,
        "entries": report.entries,
        "events": report.events,
        "head": { "seq": report.head.seq.0, "hash": report.head.hash.to_string() },
        "state_hash": report.state_hash().map(|hash| hash.to_string()),
        "wrong_row": report.wrong_seq().map(|seq| seq.0),
        "wrong": report.wrong.as_ref().map(|wrong| json!({ "code": wrong.code(), "message": wrong.to_string() })),
        "compared": compared.iter().map(|one| json!({ "with": one.name, "agrees": one.agrees, "detail": one.detail })).collect::<Vec<Value>>(),
        "not_compared": not_compared,
        "book_faults": faults.iter().map(|fault| json!({ "code": fault.code(), "message": fault.to_string() })).collect::<Vec<Value>>(),
    });
    if common.json {
        line(out, &shown.to_string())?;
    } else {
        say_report(out, &report, &compared)?;
        not_compared.iter().try_for_each(|reason| line(out, &format!("not compared: {reason}")))?;
        faults.iter().try_for_each(|fault| line(out, &format!("books: {fault}")))?;
    }
    if let Some(wrong) = report.wrong {
        let sentence = format!("row {} is the first that is wrong", wrong.seq());
        return Err(Failure::new(wrong.code(), sentence).because(wrong));
    }
    if let Some(fault) = faults.first() {
        return Err(Failure::new(fault.code(), format!("the books are wrong: {fault}")));
    }
    match compared.iter().find(|one| !one.agrees) {
        Some(one) => Err(Failure::new(
            "ledger_disagrees",
            format!("{} and journal disagree: {}", one.name, one.detail),
        )
        .hint(
            "snapshot and search tables can be removed and are made again; where a node disagrees, halt signing first",
        )),
        None => Ok(()),
    }
}

fn say_report(out: &mut dyn Write, report: &JournalReport, compared: &[Compared]) -> Result<(), Failure> {
    line(out, &format!("{} rows with {} events, linked and folded", report.rows, report.events))?;
    line(out, &format!("last right row: {} {}", report.head.seq, report.head.hash))?;
    for one in compared {
        let verdict = if one.agrees { "agrees" } else { "DISAGREES" };
        line(out, &format!("{}: {verdict} ({})", one.name, one.detail))?;
    }
    match &report.wrong {
        Some(wrong) => line(out, &format!("first wrong row: {}", wrong.seq())),
        None => line(out, "every row is right"),
    }
}

fn newest_snapshot(config: &Config) -> Result<Option<SnapshotHeader>, Failure> {
    if !config.data().join(snapshots::FILE).exists() {
        return Ok(None);
    }
    let found = SnapshotStore::open(&config.data())?.newest();
    let found = found.map_err(|fault| Failure::new("snapshot_unreadable", "no snapshot can be read").because(fault))?;
    Ok(found.map(|(header, _)| header))
}

fn compare_snapshot(header: &SnapshotHeader, report: &JournalReport) -> Option<Compared> {
    let detail = format!("state at row {}", header.seq);
    // A row that is wrong before the snapshot's is what is to be told then.
    let agrees = report.snapshot_matches?;
    Some(Compared { name: "snapshot".to_owned(), agrees, detail })
}

/// Every account's sums in the search tables, beside those of the fold up to the row on which the tables stand.
fn compare_tables(
    config: &Config,
    journal: &mut dyn Journal,
    report: &JournalReport,
) -> Result<Option<Compared>, Failure> {
    let failed = |fault: StoreFault| Failure::new(fault.code(), "the search tables can't be read").because(fault);
    let opened = match &config.store {
        StoreConfig::Sqlite => {
            let path = config.data().join(projection::FILE);
            if !path.exists() {
                return Ok(None);
            }
            Projection::open_sqlite_reader(&path)
        }
        StoreConfig::Mariadb { url_file, prefix } => Projection::open_maria(&maria_server(config, url_file, prefix)?),
    };
    let mut tables = opened.map_err(failed)?;
    let (seq, hash) = tables.cursor().map_err(failed)?;
    if seq == Seq::START || report.wrong.is_some() {
        return Ok(None);
    }
    let found = |agrees, detail| Ok(Some(Compared { name: "search tables".to_owned(), agrees, detail }));
    let rows = journal.read(Seq(seq.0 - 1), 1).map_err(unreadable)?;
    if rows.first().is_none_or(|row| row.seq != seq || row.hash != hash) {
        return found(false, format!("they stand on another row {seq} than the journal has"));
    }
    let folded = fold_up_to(journal, seq, report)?;
    let Some(state) = folded.as_ref().or(report.state.as_ref()) else { return Ok(None) };
    let mut after = None;
    let mut count = 0;
    loop {
        let accounts = tables.accounts_after(after, ACCOUNTS_PAGE).map_err(failed)?;
        let Some(last) = accounts.last() else { break };
        after = Some(last.id);
        count += accounts.len();
        if let Some(wrong) = accounts.iter().find(|account| state.ledger().account(account.id) != Some(account)) {
            return found(false, format!("account {} is not what the journal says up to row {seq}", wrong.id));
        }
    }
    let expected = state.ledger().accounts().len();
    if count != expected {
        return found(false, format!("they hold {count} accounts where the journal has {expected}"));
    }
    found(true, format!("{count} accounts at row {seq}"))
}

/// The state at a row before the last; `None` where the report's own state is the one at that row.
fn fold_up_to(journal: &mut dyn Journal, seq: Seq, report: &JournalReport) -> Result<Option<State>, Failure> {
    if report.head.seq == seq {
        return Ok(None);
    }
    let mut until = Until { journal, last: seq };
    Ok(verify_journal(&mut until, None, |_| {}).map_err(unreadable)?.state)
}

/// A journal that ends at a row.
struct Until<'a> {
    journal: &'a mut dyn Journal,
    last: Seq,
}

impl Journal for Until<'_> {
    fn append(&mut self, _: &Row) -> Result<(), AppendError> {
        Err(AppendError::Fenced)
    }

    fn read(&mut self, after: Seq, count_max: usize) -> Result<Vec<Row>, ReadError> {
        let left = usize::try_from(self.last.0.saturating_sub(after.0)).unwrap_or(count_max);
        if left == 0 { Ok(Vec::new()) } else { self.journal.read(after, left.min(count_max)) }
    }

    fn head(&mut self) -> Result<Option<(Seq, Digest)>, ReadError> {
        self.journal.head()
    }
}

/// Progress on a terminal; nothing anywhere else.
struct Progress {
    total: u64,
    shown: Option<Instant>,
    is_terminal: bool,
}

impl Progress {
    fn new(journal: &mut dyn Journal) -> Progress {
        let total = journal.head().ok().flatten().map_or(0, |(seq, _)| seq.0);
        Progress { total, shown: None, is_terminal: std::io::stderr().is_terminal() }
    }

    fn say(&mut self, rows: u64) {
        let is_due = self.shown.is_none_or(|shown| shown.elapsed() >= PROGRESS_EVERY);
        if self.is_terminal && is_due {
            self.shown = Some(Instant::now());
            let percent = (rows * 100).checked_div(self.total).unwrap_or(100).min(100);
            // Progress that can't be shown is no fault.
            drop(write!(std::io::stderr(), "\rrow {rows} of {} ({percent} %)", self.total));
        }
    }

    fn end(&self) {
        if self.is_terminal && self.shown.is_some() {
            drop(write!(std::io::stderr(), "\r{:60}\r", ""));
        }
    }
}

fn export(args: &ExportArgs, common: &Common, out: &mut dyn Write) -> Result<(), Failure> {
    let mut journal = open_journal_reader(&Config::read(&common.config)?)?;
    crate::platform::private_folder(&args.folder)?;
    let mut progress = Progress::new(journal.as_mut());
    let (mut at, mut files) = (Seq(args.after), 0u64);
    loop {
        let rows = stretch(journal.as_mut(), at, args.rows)?;
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { break };
        let bytes = segment::export_segment(&rows)
            .map_err(|fault| Failure::new(fault.code(), "these rows are no segment").because(fault))?;
        let path = args.folder.join(format!("journal-{:012}-{:012}.segment", first.seq.0, last.seq.0));
        write_new(&path, &bytes)?;
        at = last.seq;
        files += 1;
        progress.say(at.0);
    }
    progress.end();
    record(out, common.json, &json!({ "files": files, "last_row": at.0, "folder": args.folder.display().to_string() }))
}

/// Rows after `after` for one file: bounded in number and bytes, and at least one where there is any.
fn stretch(journal: &mut dyn Journal, after: Seq, rows_max: u64) -> Result<Vec<Row>, Failure> {
    let mut rows: Vec<Row> = Vec::new();
    let mut bytes = 0;
    let mut at = after;
    while (rows.len() as u64) < rows_max && bytes < SEGMENT_BYTES_MAX {
        let left = usize::try_from(rows_max - rows.len() as u64).unwrap_or(READ_ROWS);
        let read = journal.read(at, left.min(READ_ROWS)).map_err(unreadable)?;
        let Some(last) = read.last() else { break };
        at = last.seq;
        bytes += read.iter().map(|row| row.payload.len()).sum::<usize>();
        rows.extend(read);
    }
    Ok(rows)
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let refused = |fault: std::io::Error| match fault.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Failure::new("export_exists", format!("{} exists and is left as it is", path.display()))
        }
        _ => Failure::new("export_unwritable", format!("{} can't be written", path.display())).because(fault),
    };
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(path).map_err(refused)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(refused)
}
