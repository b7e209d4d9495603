//! `florin ledger prune`: takes the oldest rows out of the journal, once they are in the archive, word for word. It deletes only
//! what [`permit`] releases, behind a snapshot that a fold of the whole journal came to.

use super::Common;
use super::ledger::{SEGMENT_ROWS, stretch, unreadable};
use super::progress::Progress;
use super::show::record;
use super::verify::{self, Judged, sentence};
use crate::config::Config;
use crate::failure::Failure;
use crate::platform::stores::{
    SNAPSHOTS_KEPT, open_journal_reader, open_kept_journal_reader, open_pruner, open_tables_reader,
};
use crate::platform::witnesses::SignerMemory;
use crate::platform::{BUILD, private_folder};
use crate::signing::shown::ShownFile;
use clap::Args;
use florin_core::id::Seq;
use florin_core::journal::Journal;
use florin_core::snapshot;
use florin_core::state::State;
use florin_engine::load::{Place, READ_ROWS_MAX};
use florin_engine::witness::Witness;
use florin_store::archive::{self, Archive, ArchiveError};
use florin_store::folder_lock::{FolderLock, FolderLockError};
use florin_store::retention::{Permit, PrefixError, PrefixRefusal, PrefixRequest, permit};
use florin_store::snapshots::{self, SnapshotError, Snapshots, VerifiedSnapshot};
use serde_json::json;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

/// Days whose rows are kept where nobody says.
const KEEP_DAYS: u64 = 30;
/// Rows that are kept where nobody says.
const KEEP_ROWS: u64 = 10_000;

/// Bytes of one file's payloads: whoever asks for one old row reads a whole file.
const FILE_BYTES_MAX: usize = 4 << 20;

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Keeps the rows of so many days before the last one.
    #[arg(long, value_name = "DAYS", default_value_t = KEEP_DAYS)]
    keep_days: u64,
    /// Keeps so many rows in any case.
    #[arg(long, value_name = "ROWS", default_value_t = KEEP_ROWS, value_parser = clap::value_parser!(u64).range(1..))]
    keep_rows: u64,
    /// Deletes up to this row, or nothing if that may not be; without it, all that may go.
    #[arg(long, value_name = "ROW", value_parser = clap::value_parser!(u64).range(1..))]
    through: Option<u64>,
    /// Says what would be done, and changes nothing.
    #[arg(long)]
    dry_run: bool,
}

/// A row beyond which nothing may go, and who says so.
struct Limit {
    holder: &'static str,
    last: Seq,
}

pub(super) fn prune(args: &PruneArgs, common: &Common, out: &mut dyn Write) -> Result<(), Failure> {
    let config = Config::read(&common.config)?;
    let mut kept = open_kept_journal_reader(&config)?;
    let mut progress = Progress::new();
    let (covering, head, state) = judge(&config, &mut progress)?;
    let first = first_of(kept.as_mut())?;
    let cursors = cursors(&config)?;
    let floor = floor(args, kept.as_mut(), first, head)?;
    let limit = limit(&cursors, floor);
    let through = args.through.map_or(limit.last, Seq);
    progress.wipe();
    let held_by = if through == limit.last { limit.holder } else { "--through" };
    let folder = config.archive();
    let count_from = |first: Seq| through.0.saturating_add(1).saturating_sub(first.0);
    let mut shown = json!({
        "deleted": 0, "first_row": first.0, "last_row": head.seq.0, "files": 0,
        "archive": folder.display().to_string(), "held_by": held_by,
    });
    if args.dry_run {
        shown["would_delete"] = json!(count_from(first));
    }
    if through < first {
        return record(out, common.json, &shown);
    }
    // Where the platform's own snapshots don't reach that far, the fold that was just made is one.
    let (snapshot, is_new) = match covering.filter(|snapshot| snapshot.header().seq >= through) {
        Some(snapshot) => (snapshot, false),
        None => (fresh(&state, head)?, true),
    };
    let pairs: Vec<(&str, Seq)> = cursors.iter().map(|limit| (limit.holder, limit.last)).collect();
    let request = PrefixRequest { through, snapshot: Some(&snapshot), cursors: &pairs, floor };
    let permit = permit(&request).map_err(refused)?;
    if !args.dry_run {
        private_folder(&folder)?;
        let _lock = lock(&folder, &config.platform.node)?;
        // Until now another one may have moved rows: what is still here is known only behind the lock.
        let first = first_of(kept.as_mut())?;
        if is_new {
            // Of the rows that the fold has met, all are durable once the store has told its head.
            kept.head().map_err(unreadable)?;
            keep(&config, &snapshot)?;
        }
        let files = if first <= through {
            let files = archive_rows(kept.as_mut(), &folder, (first, through), &mut progress)?;
            delete(&config, &permit, (first, through), &mut progress)?;
            files
        } else {
            0
        };
        shown["files"] = json!(files);
        shown["deleted"] = json!(count_from(first));
        shown["first_row"] = json!(first.0.max(through.0 + 1));
    }
    progress.wipe();
    record(out, common.json, &shown)
}

/// The oldest row that the journal itself has.
fn first_of(kept: &mut dyn Journal) -> Result<Seq, Failure> {
    let oldest = kept.read(Seq::START, 1).map_err(unreadable)?.first().map(|row| row.seq);
    oldest.ok_or_else(|| Failure::new("journal_empty", "an empty journal has no rows to delete"))
}

/// Judges journal, archive and snapshots as `florin ledger verify` does. Gives the newest snapshot that the fold came to as
/// well, the last row of the journal, and the state after it.
fn judge(config: &Config, progress: &mut Progress) -> Result<(Option<VerifiedSnapshot>, Place, State), Failure> {
    let mut journal = open_journal_reader(config)?;
    let Judged { mut report, wrong, findings, snapshot } = verify::judge_all(config, journal.as_mut(), progress);
    let (head, state) = (report.head, report.state.take());
    verify::conclude(report, &wrong, findings)?;
    let state = state.expect("a journal without a wrong row has a state");
    let Some(seq) = snapshot else { return Ok((None, head, state)) };
    let path = config.data().join(snapshots::FILE);
    let loaded = Snapshots::open_reader(&path).map_err(Into::into).and_then(|mut store| store.load(seq));
    loaded.map(|snapshot| (snapshot, head, state)).map_err(|error| unusable(&error))
}

fn unusable(error: &SnapshotError) -> Failure {
    Failure::new(error.code(), format!("the snapshots can't be read or written: {}", sentence(error)))
        .hint("nothing was deleted; do it again")
}

/// A snapshot of the state that the judged journal came to.
fn fresh(state: &State, head: Place) -> Result<VerifiedSnapshot, Failure> {
    let (header, chunks) = snapshot::write(state, head.hash, BUILD);
    VerifiedSnapshot::verify(header, chunks).map_err(|error| unusable(&error))
}

/// Makes it this machine's newest, and reads it back.
fn keep(config: &Config, snapshot: &VerifiedSnapshot) -> Result<(), Failure> {
    let path = config.data().join(snapshots::FILE);
    let kept = Snapshots::open(&path).map_err(SnapshotError::from).and_then(|mut store| {
        store.write(snapshot)?;
        store.retain(SNAPSHOTS_KEPT)?;
        store.load(snapshot.header().seq)
    });
    match kept {
        Ok(Some(read)) if read == *snapshot => Ok(()),
        Ok(_) => Err(refused(PrefixRefusal::NoSnapshot)),
        Err(error) => Err(unusable(&error)),
    }
}

/// Where everybody stands who reads the journal or names a row of it.
fn cursors(config: &Config) -> Result<Vec<Limit>, Failure> {
    let data = config.data();
    let (seq, _) =
        open_tables_reader(config)?.cursor().map_err(|fault| unknown("the search tables", fault.code(), &fault))?;
    let mut limits = vec![Limit { holder: "the search tables", last: seq }];
    for mut record in [ShownFile::by_platform(&data), ShownFile::by_checkpoint(&data)] {
        let newest = record.newest().map_err(|fault| unknown(record.name(), fault.code(), &fault))?;
        limits.extend(newest.map(|place| Limit { holder: record.name(), last: place.seq }));
    }
    // Of one that does not answer, the record tells what it was shown from here.
    let mut signer = SignerMemory::new(config.path(&config.signer.socket), config.platform_id());
    let newest = signer.newest().ok().flatten();
    limits.extend(newest.map(|place| Limit { holder: signer.name(), last: place.seq }));
    Ok(limits)
}

fn unknown(holder: &str, code: &'static str, fault: &dyn std::error::Error) -> Failure {
    Failure::new(code, format!("nobody knows which rows {holder} may still need: {}", sentence(fault)))
        .hint("nothing was deleted; see the code's way out in errors.md, and do it again")
}

/// The first row that has to stay by the rule of retention: of the last days, or of the last rows, whichever is older.
fn floor(args: &PruneArgs, kept: &mut dyn Journal, first: Seq, head: Place) -> Result<Seq, Failure> {
    let by_rows = Seq(head.seq.next().0.saturating_sub(args.keep_rows).max(1));
    let mut time_of = |seq: Seq| {
        let rows = kept.read(Seq(seq.0 - 1), 1).map_err(unreadable)?;
        Ok::<u64, Failure>(rows.first().map_or(0, |row| row.time.0))
    };
    let since = time_of(head.seq)?.saturating_sub(args.keep_days.saturating_mul(DAY_MS));
    // Ledger time never goes back, so the first row of the last days is found by halving.
    let (mut low, mut high) = (first.0, head.seq.0);
    while low < high {
        let middle = low + (high - low) / 2;
        if time_of(Seq(middle))? >= since {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Ok(by_rows.min(Seq(low)))
}

/// The narrowest of all limits.
fn limit(cursors: &[Limit], floor: Seq) -> Limit {
    let floor = Limit { holder: "the rule of retention", last: Seq(floor.0.saturating_sub(1)) };
    let cursors = cursors.iter().map(|limit| Limit { holder: limit.holder, last: limit.last });
    cursors.fold(floor, |least, limit| if limit.last < least.last { limit } else { least })
}

fn refused(refusal: PrefixRefusal) -> Failure {
    let sentence = match &refusal {
        PrefixRefusal::NoSnapshot => "there is no snapshot to start from without these rows".to_owned(),
        PrefixRefusal::SnapshotBehind { snapshot } => format!("the newest snapshot is of row {snapshot}"),
        PrefixRefusal::CursorBehind { reader, at } => format!("{reader} stands on row {at}"),
        PrefixRefusal::RetentionFloor { floor } => {
            format!("row {floor} and those after it stay by the rule of retention")
        }
        PrefixRefusal::ForeignSnapshot => "the snapshot is not of this journal".to_owned(),
    };
    Failure::new(refusal.code(), sentence).hint("without --through, all goes that may; nothing was deleted")
}

/// One at a time writes into the archive and deletes what is there.
fn lock(folder: &Path, node: &str) -> Result<FolderLock, Failure> {
    FolderLock::take(folder, node).map_err(|error| match error {
        FolderLockError::InUse(_) => Failure::new("archive_in_use", "another 'florin ledger prune' uses the archive")
            .because(error)
            .hint("nothing was done; wait until it is through"),
        FolderLockError::Fault(_) => {
            Failure::new("archive_unlockable", format!("the archive {} can't be locked", folder.display()))
                .because(error)
                .hint("nothing was done; see whose the folder is, and whether its file system has locks")
        }
    })
}

fn unarchived(error: ArchiveError) -> Failure {
    Failure::new(error.code(), "the archive can't be read or written")
        .because(error)
        .hint("nothing was deleted; take the file from another copy, or move it away: the journal still has its rows")
}

/// Has some rows in the archive, word for word and durably; says how many files it took.
fn archive_rows(
    kept: &mut dyn Journal,
    folder: &Path,
    (first, through): (Seq, Seq),
    progress: &mut Progress,
) -> Result<u64, Failure> {
    let files = fill(kept, &mut Archive::at(folder.to_path_buf()), (first, through), progress)?;
    let mut archive = Archive::at(folder.to_path_buf());
    compare(kept, &mut archive, (first, through), progress)?;
    archive.sync(first, through).map_err(unarchived)?;
    Ok(files)
}

/// Puts into the archive what it does not have yet of some rows; says how many files it took.
fn fill(
    kept: &mut dyn Journal,
    archive: &mut Archive,
    (first, through): (Seq, Seq),
    progress: &mut Progress,
) -> Result<u64, Failure> {
    let mut at = archive.end(Seq(first.0 - 1)).map_err(unarchived)?;
    let mut files = 0;
    while at < through {
        let rows = stretch(kept, at, SEGMENT_ROWS.min(through.0 - at.0), FILE_BYTES_MAX)?;
        let Some(last) = rows.last() else { break };
        archive::write(archive.folder(), &rows).map_err(unarchived)?;
        at = last.seq;
        files += 1;
        progress.part("archive: row", at.0, through.0);
    }
    Ok(files)
}

/// Reads rows from the archive's files, and holds each against the journal's.
fn compare(
    kept: &mut dyn Journal,
    archive: &mut Archive,
    (first, through): (Seq, Seq),
    progress: &mut Progress,
) -> Result<(), Failure> {
    let mut at = Seq(first.0 - 1);
    while at < through {
        let archived = archive.read(at, READ_ROWS_MAX).map_err(unarchived)?;
        let rows = kept.read(at, archived.len()).map_err(unreadable)?;
        let same = archived.iter().zip(&rows).take_while(|(archived, row)| archived == row).count();
        if same == 0 || same < archived.len().min(rows.len()) {
            let wrong = at.0 + same as u64 + 1;
            return Err(Failure::new(
                "segment_other_row",
                format!("row {wrong} is not in the archive as it is in the journal"),
            )
            .hint("nothing was deleted; is the folder another journal's? see platform.archive"));
        }
        at = Seq(at.0 + same as u64);
        progress.part("archive compared: row", at.0, through.0);
    }
    Ok(())
}

fn delete(
    config: &Config,
    permit: &Permit,
    (first, through): (Seq, Seq),
    progress: &mut Progress,
) -> Result<(), Failure> {
    let mut began = Instant::now();
    let mut said = |at: Seq| {
        progress.part("deleted: row", at.0 - first.0 + 1, through.0 - first.0 + 1);
        // The platform that writes meanwhile gets as much of the database's time as this.
        std::thread::sleep(began.elapsed());
        began = Instant::now();
    };
    open_pruner(config)?.delete_prefix(permit, &mut said).map_err(|error| match error {
        PrefixError::Refused(refusal) => refused(refusal),
        PrefixError::Store(fault) => Failure::new(fault.code(), "not all rows could be deleted")
            .because(fault)
            .hint("what is left is whole, and the archive has the rest; do it again to go on"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use florin_core::id::{Digest, Epoch, LedgerTime};
    use florin_core::journal::Row;
    use florin_store::memory::MemoryJournal;

    /// A journal with two rows on each of ten days, of which the first is day 0.
    fn ten_days() -> MemoryJournal {
        let mut journal = MemoryJournal::new();
        let mut previous = Digest::ZERO;
        for seq in 1..=20u64 {
            let row = Row::seal(Seq(seq), Epoch(1), LedgerTime((seq - 1) / 2 * DAY_MS), previous, vec![1]);
            journal.append(&row).expect("appended");
            previous = row.hash;
        }
        journal
    }

    #[test]
    fn the_rule_of_retention_keeps_days_and_rows_whichever_is_more() {
        let mut journal = ten_days();
        let head = Place { seq: Seq(20), hash: Digest::ZERO };
        let cases = [
            // Days, rows, and the first row that stays.
            (0, 1, 19),
            (1, 1, 17),
            (1, 4, 17),
            (1, 5, 16),
            (9, 1, 4),
            (30, 1, 4),
            (u64::MAX, 1, 4),
            (0, 20, 1),
            (0, u64::MAX, 1),
        ];
        for (keep_days, keep_rows, expected) in cases {
            let args = PruneArgs { keep_days, keep_rows, through: None, dry_run: false };
            let floor = floor(&args, &mut journal, Seq(4), head).expect("readable");
            assert_eq!(floor, Seq(expected), "{keep_days} days, {keep_rows} rows");
        }
    }

    #[test]
    fn the_narrowest_limit_holds_and_is_named() {
        let held = |limits: &[(&'static str, u64)], floor| {
            let limits: Vec<Limit> = limits.iter().map(|&(holder, last)| Limit { holder, last: Seq(last) }).collect();
            let limit = limit(&limits, Seq(floor));
            (limit.holder, limit.last.0)
        };
        assert_eq!(held(&[], 9), ("the rule of retention", 8));
        assert_eq!(held(&[("a", 8), ("b", 7)], 9), ("b", 7));
        assert_eq!(held(&[("a", 9)], 9), ("the rule of retention", 8));
        assert_eq!(held(&[("a", 0)], 1), ("the rule of retention", 0));
    }
}
