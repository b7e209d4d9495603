//! `florin ledger`: reads the journal where it lies and judges it. It needs no running platform, disturbs none, and repairs
//! nothing.

use super::progress::Progress;
use super::show::{line, record};
use super::verify::{self, VerifyArgs};
use super::{Common, checkpoint, prune};
use crate::config::Config;
use crate::failure::Failure;
use crate::platform::stores::open_journal_reader;
use clap::{Args, Subcommand};
use florin_core::id::{Digest, Seq};
use florin_core::journal::{Journal, ReadError, Row};
use florin_store::archive;
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;

/// Rows of a segment where nobody says.
pub(super) const SEGMENT_ROWS: u64 = 10_000;
/// Bytes of a segment's payloads: a segment is made in memory.
const SEGMENT_BYTES_MAX: usize = 64 << 20;
/// Rows read at once.
const READ_ROWS: usize = 64;

#[derive(Debug, Subcommand)]
pub(crate) enum LedgerCommand {
    /// Reads the whole journal: checks numbers, links and hashes, folds every row, holds the books against their rules, and
    /// names the first row that is wrong. Then compares with every snapshot, every search table and what the nodes' chain
    /// holds, and names each that disagrees.
    Verify(VerifyArgs),
    /// Has the signer sign the journal's head, and writes the checkpoint into a folder.
    Checkpoint(checkpoint::CheckpointArgs),
    /// Shows the journal's last row.
    Head,
    /// Prints the journal's published schema (Protocol Buffers).
    Schema,
    /// Writes the journal as files that prove themselves, each linked to the one before.
    Export(ExportArgs),
    /// Moves the journal's oldest rows into the archive. Judges journal, archive and snapshots first, writes what the archive
    /// lacks, compares every row, and only then deletes; whatever runs goes on. The archive is read where old rows are asked
    /// for: keep it.
    Prune(prune::PruneArgs),
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
        LedgerCommand::Schema => schema(common, out),
        LedgerCommand::Head => head(common, out),
        LedgerCommand::Verify(args) => verify::verify(&args, common, out),
        LedgerCommand::Checkpoint(args) => checkpoint::take(&args, common, out),
        LedgerCommand::Export(args) => export(&args, common, out),
        LedgerCommand::Prune(args) => prune::prune(&args, common, out),
    }
}

pub(super) fn unreadable(fault: ReadError) -> Failure {
    Failure::new("journal_unreadable_now", "the journal can't be read").because(fault)
}

fn schema(common: &Common, out: &mut dyn Write) -> Result<(), Failure> {
    let text = florin_core::journal::schema();
    if common.json {
        return line(out, &json!({ "syntax": "proto3", "schema": text }).to_string());
    }
    line(out, text.trim_end())
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

fn export(args: &ExportArgs, common: &Common, out: &mut dyn Write) -> Result<(), Failure> {
    let mut journal = open_journal_reader(&Config::read(&common.config)?)?;
    let head = journal.head().map_err(unreadable)?.map_or(Seq::START, |(seq, _)| seq);
    if Seq(args.after) > head {
        let sentence = format!("row {} is past the journal's last, which is {head}", args.after);
        return Err(Failure::new("export_after_head", sentence).hint("see 'florin ledger head'"));
    }
    crate::platform::private_folder(&args.folder)?;
    let mut progress = Progress::new();
    let (mut at, mut files) = (Seq(args.after), 0u64);
    loop {
        let rows = stretch(journal.as_mut(), at, args.rows, SEGMENT_BYTES_MAX)?;
        let Some(last) = rows.last() else { break };
        archive::write(&args.folder, &rows)
            .map_err(|error| Failure::new(error.code(), "the export ends here").because(error))?;
        at = last.seq;
        files += 1;
        progress.part("row", at.0, head.0);
    }
    progress.wipe();
    record(out, common.json, &json!({ "files": files, "last_row": at.0, "folder": args.folder.display().to_string() }))
}

/// Rows after `after` for one file: bounded in number and bytes, and at least one where there is any.
pub(super) fn stretch(
    journal: &mut dyn Journal,
    after: Seq,
    rows_max: u64,
    bytes_max: usize,
) -> Result<Vec<Row>, Failure> {
    let mut rows: Vec<Row> = Vec::new();
    let mut bytes = 0;
    let mut at = after;
    while (rows.len() as u64) < rows_max && bytes < bytes_max {
        let left = usize::try_from(rows_max - rows.len() as u64).unwrap_or(READ_ROWS);
        let read = journal.read(at, left.min(READ_ROWS)).map_err(unreadable)?;
        let Some(last) = read.last() else { break };
        at = last.seq;
        bytes += read.iter().map(|row| row.payload.len()).sum::<usize>();
        rows.extend(read);
    }
    Ok(rows)
}
