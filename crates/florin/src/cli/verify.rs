//! `florin ledger verify`: the journal is judged first, then everything that was made from it is held against it, each by name. It
//! reads and judges; it changes nothing and repairs nothing.

use super::Common;
use super::against_chain::{self, Verdict};
use super::against_descriptors::{self, WrongAddress};
use super::against_segments;
use super::against_snapshots::Snapshots;
use super::against_tables;
use super::against_witnesses;
use super::checkpoint;
use super::progress::Progress;
use super::show::line;
use crate::api::code;
use crate::config::Config;
use crate::failure::Failure;
use crate::platform::stores::{open_journal_reader, open_kept_journal_reader};
use clap::Args;
use florin_core::id::Seq;
use florin_core::journal::Journal;
use florin_engine::audit::{BookFault, JournalReport, judge_journal};
use florin_engine::load::{FoldError, Loaded};
use florin_store::archive::{ENDING, list};
use florin_store::fault::StoreFault;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// A folder of checkpoints that the journal must agree with.
    #[arg(long, value_name = "FOLDER")]
    checkpoints: Option<PathBuf>,
    /// The signer's key, as 'florin ledger checkpoint' first showed it: 64 hexadecimal digits.
    #[arg(long, value_name = "HEX", requires = "checkpoints")]
    signer_key: Option<String>,
    /// A folder of exported segments: each must be whole, follow upon the one before, and hold the journal's rows. Without it,
    /// the archive is compared where there is one.
    #[arg(long, value_name = "FOLDER")]
    segments: Option<PathBuf>,
    /// Fails unless as many failure groups of nodes as the quorum needs could be compared with the chain, and agree.
    #[arg(long)]
    require_chain: bool,
}

/// Why something does not agree with the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    SnapshotPastEnd,
    SnapshotDiffers,
    SnapshotContradicts,
    TablesPastEnd,
    TablesOtherRow,
    TablesUnfoldable,
    AccountsDiffer,
    CoinMissing,
    CoinUnknown,
    CoinDiffers,
    SegmentUnreadable,
    SegmentGap,
    SegmentOtherRow,
    SegmentPastEnd,
    CheckpointDiffers,
    /// A fault with a code of its own.
    Fault(&'static str),
}

impl Why {
    pub(super) fn code(self) -> &'static str {
        match self {
            Why::SnapshotPastEnd => "snapshot_past_end",
            Why::SnapshotDiffers => "snapshot_differs",
            Why::SnapshotContradicts => "snapshot_contradicts_itself",
            Why::TablesPastEnd => "tables_past_end",
            Why::TablesOtherRow => "tables_other_row",
            Why::TablesUnfoldable => "tables_unfoldable",
            Why::AccountsDiffer => "tables_accounts_differ",
            Why::CoinMissing => "chain_coin_missing",
            Why::CoinUnknown => "chain_coin_unknown",
            Why::CoinDiffers => "chain_coin_differs",
            Why::SegmentUnreadable => "segment_unreadable",
            Why::SegmentGap => "segment_gap",
            Why::SegmentOtherRow => "segment_other_row",
            Why::SegmentPastEnd => "segment_past_end",
            Why::CheckpointDiffers => "checkpoint_differs",
            Why::Fault(code) => code,
        }
    }
}

impl Why {
    /// What comes first where this is found.
    fn way_out(self) -> &'static str {
        match self {
            Why::SnapshotPastEnd
            | Why::TablesPastEnd
            | Why::TablesOtherRow
            | Why::SegmentOtherRow
            | Why::SegmentPastEnd
            | Why::CheckpointDiffers => {
                "the journal may be an older copy, or one that was rewritten: see 'A journal that was set back' in operating.md"
            }
            Why::CoinMissing | Why::CoinUnknown | Why::CoinDiffers => {
                "halt signing first: 'florin halt'; then find out whether the journal or the node is right"
            }
            Why::SegmentUnreadable | Why::SegmentGap => {
                "name the right folder, or take the file from another copy: only rows that the journal still has can be exported again"
            }
            Why::SnapshotDiffers | Why::SnapshotContradicts | Why::AccountsDiffer => MADE_AGAIN,
            Why::TablesUnfoldable => code::way_out(self.code()).unwrap_or(MADE_AGAIN),
            Why::Fault(code) => code::way_out(code).unwrap_or("see its code in errors.md"),
        }
    }
}

/// The way out where a copy is wrong and the journal is known to be right.
const MADE_AGAIN: &str = "what was made from the journal can be removed while nothing runs, and is made again: see 'Checking' in operating.md";

/// What a folder that was named does not have. That is no word against the journal: nothing is there that could contradict it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Segments,
    Checkpoints,
}

impl Missing {
    fn name(self) -> &'static str {
        match self {
            Missing::Segments => "segments",
            Missing::Checkpoints => "checkpoints",
        }
    }

    fn code(self) -> &'static str {
        match self {
            Missing::Segments => "segments_missing",
            Missing::Checkpoints => "checkpoints_missing",
        }
    }
}

/// What was compared with the journal, and why it does not agree where it does not.
#[derive(Debug)]
pub(super) struct Compared {
    pub(super) name: String,
    pub(super) why: Option<Why>,
    pub(super) detail: String,
}

/// All that was held against the journal.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) compared: Vec<Compared>,
    pub(super) not_compared: Vec<String>,
    /// What should have been compared and could not be: its name, the code of why, and why.
    hindered: Vec<(String, &'static str, String)>,
    /// A row that came after the journal was judged, and is wrong.
    late: Option<FoldError>,
}

impl Findings {
    pub(super) fn agrees(&mut self, name: impl Into<String>, detail: impl Into<String>) {
        self.compared.push(Compared { name: name.into(), why: None, detail: detail.into() });
    }

    pub(super) fn differs(&mut self, name: impl Into<String>, why: Why, detail: impl Into<String>) {
        self.compared.push(Compared { name: name.into(), why: Some(why), detail: detail.into() });
    }

    pub(super) fn skips(&mut self, name: &str, reason: impl std::fmt::Display) {
        self.not_compared.push(format!("{name}: {reason}"));
    }

    /// Something is there and could not be compared, for a reason that is not its own: nothing is said against it, and the
    /// command fails.
    pub(super) fn hinders(&mut self, name: &str, code: &'static str, reason: impl Into<String>) {
        let reason = reason.into();
        self.skips(name, &reason);
        self.hindered.push((name.to_owned(), code, reason));
    }

    /// A folder that was named has nothing of what it was named for, or can't be read.
    pub(super) fn misses(&mut self, what: Missing, reason: impl Into<String>) {
        self.hinders(what.name(), what.code(), reason);
    }

    /// What was to be compared can't be read. A fault that passes, such as a lost connection or a full disk, is no word
    /// against it.
    pub(super) fn unreadable(&mut self, name: impl Into<String>, fault: &StoreFault, detail: impl Into<String>) {
        let name = name.into();
        match fault {
            StoreFault::Full(_) | StoreFault::Busy(_) | StoreFault::Conflict(_) | StoreFault::Connection(_) => {
                self.hinders(&name, fault.code(), detail);
            }
            StoreFault::Storage(_)
            | StoreFault::Database(_)
            | StoreFault::Malformed { .. }
            | StoreFault::OutOfRange { .. }
            | StoreFault::Setting { .. }
            | StoreFault::Newer { .. }
            | StoreFault::Older { .. }
            | StoreFault::Absent { .. }
            | StoreFault::Configuration { .. } => self.differs(name, Why::Fault(fault.code()), detail),
        }
    }

    /// A row of the journal is wrong that was not there yet when the journal was judged.
    pub(super) fn wrong_row(&mut self, wrong: FoldError) {
        self.late.get_or_insert(wrong);
    }
}

/// A fault with all that caused it, in one line.
pub(super) fn sentence(fault: &dyn std::error::Error) -> String {
    let mut text = fault.to_string();
    let mut source = fault.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

pub(super) fn verify(args: &VerifyArgs, common: &Common, out: &mut dyn Write) -> Result<(), Failure> {
    let config = Config::read(&common.config)?;
    let key = args.signer_key.as_deref().map(checkpoint::parse_key).transpose()?;
    let mut journal = open_journal_reader(&config)?;
    let mut progress = Progress::new();
    let Judged { mut report, wrong, mut findings, .. } = judge_all(&config, journal.as_mut(), &mut progress);
    progress.wipe();
    if !common.json {
        say_journal(out, &report, &wrong)?;
    }
    against_tables::compare(&config, journal.as_mut(), &report, &mut findings, &mut progress);
    if let Some(folder) = &args.checkpoints {
        checkpoint::compare(&config, journal.as_mut(), folder, key, &mut findings);
    }
    let archive = Some(config.archive()).filter(|folder| list(folder, ENDING).is_ok_and(|files| !files.is_empty()));
    if let Some(folder) = args.segments.clone().or(archive) {
        // Against the rows that the journal itself keeps: with those of the archive, files would be held against themselves.
        let mut kept = open_kept_journal_reader(&config)?;
        against_segments::compare(kept.as_mut(), &folder, &mut findings, &mut progress);
    }
    let journal_json = journal_json(&report, &wrong);
    let groups = compare_chain(&config, journal.as_mut(), &mut report, &mut findings, &mut progress);
    progress.wipe();
    if common.json {
        line(out, &with_findings(journal_json, &findings).to_string())?;
    } else {
        say_findings(out, &findings)?;
    }
    conclude(report, &wrong, findings)?;
    if args.require_chain && groups < config.bitcoin.quorum {
        let sentence = format!(
            "{groups} of the {} failure groups that the quorum needs could be compared with the chain",
            config.bitcoin.quorum
        );
        return Err(Failure::new("chain_not_compared", sentence)
            .hint("see why above; start the nodes, and let them and the platform reach the same block"));
    }
    Ok(())
}

/// What the journal was found to be, and what always is held against it.
pub(super) struct Judged {
    pub(super) report: JournalReport,
    pub(super) wrong: Wrong,
    pub(super) findings: Findings,
    /// The newest snapshot that agrees.
    pub(super) snapshot: Option<Seq>,
}

/// What whole and well-linked rows say that can't be.
pub(super) struct Wrong {
    books: Vec<BookFault>,
    addresses: Vec<WrongAddress>,
}

/// Judges the journal, the snapshots and who names rows of it.
pub(super) fn judge_all(config: &Config, journal: &mut dyn Journal, progress: &mut Progress) -> Judged {
    let mut findings = Findings::default();
    let mut snapshots = Snapshots::read(&config.data(), progress);
    let report = judge(journal, &mut snapshots, progress);
    let addresses = against_descriptors::compare(journal, &report, &mut findings, progress);
    let wrong = Wrong { books: report.check_books(), addresses };
    against_witnesses::compare(config, journal, &report, &mut findings);
    let snapshot = snapshots.settle(&report, &mut findings);
    Judged { report, wrong, findings, snapshot }
}

fn judge(journal: &mut dyn Journal, snapshots: &mut Snapshots, progress: &mut Progress) -> JournalReport {
    let total = journal.head().ok().flatten().map_or(0, |(seq, _)| seq.0);
    judge_journal(journal, |row, state| snapshots.meet(row, state), |rows| progress.part("journal: row", rows, total))
}

/// Asks the nodes; says how many failure groups agree.
fn compare_chain(
    config: &Config,
    journal: &mut dyn Journal,
    report: &mut JournalReport,
    findings: &mut Findings,
    progress: &mut Progress,
) -> usize {
    if let Some(seq) = report.wrong_seq() {
        findings.skips("chain", format!("row {seq} of the journal is wrong"));
        return 0;
    }
    // The comparison goes on in the journal where nodes are ahead of what was read of it.
    let Some(state) = report.state.take() else { return 0 };
    let mut groups = BTreeSet::new();
    let (verdicts, late) = against_chain::compare(config, journal, Loaded { state, place: report.head }, progress);
    if let Some(wrong) = late {
        findings.wrong_row(wrong);
    }
    for verdict in verdicts {
        let Verdict { node, group, found } = verdict;
        let name = format!("node {node}");
        match found {
            Ok(Ok(detail)) => {
                groups.insert(group);
                findings.agrees(name, detail);
            }
            Ok(Err((why, detail))) => findings.differs(name, why, detail),
            Err(reason) => findings.skips(&name, reason),
        }
    }
    groups.len()
}

fn say_journal(out: &mut dyn Write, report: &JournalReport, wrong: &Wrong) -> Result<(), Failure> {
    line(out, &format!("{} rows with {} events, linked and folded", report.rows, report.events))?;
    line(out, &format!("last right row: {} {}", report.head.seq, report.head.hash))?;
    match report.wrong_seq() {
        Some(seq) => line(out, &format!("first wrong row: {seq} ({})", reason(report)))?,
        None if wrong.books.is_empty() && wrong.addresses.is_empty() => line(out, "every row is right")?,
        None => line(out, "every row is whole and in its place, and what they say can't be:")?,
    }
    wrong.books.iter().try_for_each(|fault| line(out, &format!("books: {fault}")))?;
    wrong.addresses.iter().try_for_each(|address| line(out, &format!("addresses: {}", address.sentence())))
}

fn reason(report: &JournalReport) -> String {
    match (&report.wrong, &report.unreadable) {
        (Some(wrong), _) => sentence(wrong),
        (None, Some(fault)) => sentence(fault),
        (None, None) => String::new(),
    }
}

fn say_findings(out: &mut dyn Write, findings: &Findings) -> Result<(), Failure> {
    for Compared { name, why, detail } in &findings.compared {
        let verdict = if why.is_none() { "agrees" } else { "DISAGREES" };
        line(out, &format!("{name}: {verdict} ({detail})"))?;
    }
    findings.not_compared.iter().try_for_each(|reason| line(out, &format!("not compared: {reason}")))?;
    match &findings.late {
        Some(wrong) => {
            let seq = wrong.seq();
            line(out, &format!("first wrong row: {seq}, which came after the others were judged ({})", sentence(wrong)))
        }
        None => Ok(()),
    }
}

fn journal_json(report: &JournalReport, wrong: &Wrong) -> Value {
    let wrong_code = report.wrong.as_ref().map(|wrong| wrong.code());
    let wrong_code = wrong_code.or(report.unreadable.as_ref().map(|_| "journal_unreadable_now"));
    let books = wrong.books.iter().map(|fault| json!({ "code": fault.code(), "message": fault.to_string() }));
    let addresses = wrong.addresses.iter().map(|address| {
        let code = address.fault.code();
        json!({ "code": code, "row": address.row.map(|row| row.0), "message": address.sentence() })
    });
    json!({
        "rows": report.rows,
        "entries": report.entries,
        "events": report.events,
        "head": { "seq": report.head.seq.0, "hash": report.head.hash.to_string() },
        "state_hash": report.state_hash().map(|hash| hash.to_string()),
        "wrong_row": report.wrong_seq().map(|seq| seq.0),
        "wrong": wrong_code.map(|code| json!({ "code": code, "message": reason(report) })),
        "book_faults": books.collect::<Vec<Value>>(),
        "address_faults": addresses.collect::<Vec<Value>>(),
    })
}

fn with_findings(mut shown: Value, findings: &Findings) -> Value {
    let compared = findings.compared.iter().map(|Compared { name, why, detail }| {
        json!({ "with": name, "agrees": why.is_none(), "code": why.map(Why::code), "detail": detail })
    });
    shown["compared"] = compared.collect();
    shown["not_compared"] = json!(findings.not_compared);
    if let Some(wrong) = &findings.late
        && shown["wrong_row"].is_null()
    {
        shown["wrong_row"] = json!(wrong.seq().0);
        shown["wrong"] = json!({ "code": wrong.code(), "message": sentence(wrong) });
    }
    shown
}

/// The failure that ends it, the journal's first.
pub(super) fn conclude(report: JournalReport, wrong: &Wrong, findings: Findings) -> Result<(), Failure> {
    let wrong_seq = report.wrong_seq();
    // A late row is behind one that can't be read, and is none where an earlier one is wrong.
    let late = findings.late.filter(|_| report.unreadable.is_none());
    if let Some(wrong) = report.wrong.or(late) {
        let sentence = format!("row {} is the first that is wrong", wrong.seq());
        return Err(Failure::new(wrong.code(), sentence).because(wrong));
    }
    if let (Some(fault), Some(seq)) = (report.unreadable, wrong_seq) {
        return Err(Failure::new("journal_unreadable_now", format!("row {seq} can't be read")).because(fault));
    }
    if let Some(fault) = wrong.books.first() {
        return Err(Failure::new(fault.code(), format!("the books are wrong: {fault}")));
    }
    if let Some(address) = wrong.addresses.first() {
        return Err(Failure::new(address.fault.code(), format!("an address is wrong: {}", address.sentence())));
    }
    if let Some((Compared { name, detail, .. }, why)) =
        findings.compared.iter().find_map(|one| one.why.map(|why| (one, why)))
    {
        // A copy that differs may be the only sign of a journal that was set back.
        return Err(Failure::new("ledger_disagrees", format!("{name} and journal disagree: {detail}"))
            .hint(format!("remove nothing before it is known why: {}", why.way_out())));
    }
    match findings.hindered.first() {
        Some((name, code, reason)) => {
            Err(Failure::new("ledger_not_compared", format!("{name} could not be compared: {reason}"))
                .hint(code::way_out(code).unwrap_or("see its code in errors.md, and do it again")))
        }
        None => Ok(()),
    }
}
