//! `florin ledger verify`: the journal is judged first, then everything that was made from it is held against it, each by name. It
//! reads and judges; it changes nothing and repairs nothing.

use super::Common;
use super::against_chain::{self, Verdict};
use super::against_segments;
use super::against_snapshots::Snapshots;
use super::against_tables;
use super::checkpoint;
use super::progress::Progress;
use super::show::line;
use crate::config::Config;
use crate::failure::Failure;
use crate::platform::stores::open_journal_reader;
use clap::Args;
use florin_core::journal::Journal;
use florin_engine::audit::{BookFault, JournalReport, check_books, judge_journal};
use florin_engine::load::Loaded;
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
    /// A folder of exported segments: each must be whole, follow upon the one before, and hold the journal's rows.
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
    SegmentsMissing,
    SegmentUnreadable,
    SegmentGap,
    SegmentOtherRow,
    SegmentPastEnd,
    CheckpointsMissing,
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
            Why::SegmentsMissing => "segments_missing",
            Why::SegmentUnreadable => "segment_unreadable",
            Why::SegmentGap => "segment_gap",
            Why::SegmentOtherRow => "segment_other_row",
            Why::SegmentPastEnd => "segment_past_end",
            Why::CheckpointsMissing => "checkpoints_missing",
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
                "the journal may be an older copy, or one that was rewritten: remove nothing, and see 'A journal that was set back' in operating.md"
            }
            Why::CoinMissing | Why::CoinUnknown | Why::CoinDiffers => {
                "halt signing first: 'florin halt'; then find out whether the journal or the node is right"
            }
            Why::SegmentsMissing | Why::SegmentUnreadable | Why::SegmentGap | Why::CheckpointsMissing => {
                "name the right folder; segments can be exported again"
            }
            Why::SnapshotDiffers
            | Why::SnapshotContradicts
            | Why::TablesUnfoldable
            | Why::AccountsDiffer
            | Why::Fault(_) => {
                "what was made from the journal can be removed while nothing runs, and is made again: see 'Checking' in operating.md"
            }
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
    let mut findings = Findings::default();
    let mut snapshots = Snapshots::read(&config.data(), &mut progress);
    let mut report = judge(journal.as_mut(), &mut snapshots, &mut progress);
    let faults = report.state.as_ref().map(check_books).unwrap_or_default();
    progress.wipe();
    if !common.json {
        say_journal(out, &report, &faults)?;
    }
    snapshots.settle(&report, &mut findings);
    against_tables::compare(&config, journal.as_mut(), &report, &mut findings, &mut progress);
    if let Some(folder) = &args.checkpoints {
        checkpoint::compare(&config, journal.as_mut(), folder, key, &mut findings);
    }
    if let Some(folder) = &args.segments {
        against_segments::compare(journal.as_mut(), folder, &mut findings, &mut progress);
    }
    let journal_json = journal_json(&report, &faults);
    let groups = compare_chain(&config, journal.as_mut(), &mut report, &mut findings, &mut progress);
    progress.wipe();
    if common.json {
        line(out, &with_findings(journal_json, &findings).to_string())?;
    } else {
        say_findings(out, &findings)?;
    }
    conclude(report, &faults, &findings)?;
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
    for verdict in against_chain::compare(config, journal, Loaded { state, place: report.head }, progress) {
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

fn say_journal(out: &mut dyn Write, report: &JournalReport, faults: &[BookFault]) -> Result<(), Failure> {
    line(out, &format!("{} rows with {} events, linked and folded", report.rows, report.events))?;
    line(out, &format!("last right row: {} {}", report.head.seq, report.head.hash))?;
    match report.wrong_seq() {
        Some(seq) => line(out, &format!("first wrong row: {seq} ({})", reason(report)))?,
        None => line(out, "every row is right")?,
    }
    faults.iter().try_for_each(|fault| line(out, &format!("books: {fault}")))
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
    findings.not_compared.iter().try_for_each(|reason| line(out, &format!("not compared: {reason}")))
}

fn journal_json(report: &JournalReport, faults: &[BookFault]) -> Value {
    let wrong_code = report.wrong.as_ref().map(|wrong| wrong.code());
    let wrong_code = wrong_code.or(report.unreadable.as_ref().map(|_| "journal_unreadable_now"));
    json!({
        "rows": report.rows,
        "entries": report.entries,
        "events": report.events,
        "head": { "seq": report.head.seq.0, "hash": report.head.hash.to_string() },
        "state_hash": report.state_hash().map(|hash| hash.to_string()),
        "wrong_row": report.wrong_seq().map(|seq| seq.0),
        "wrong": wrong_code.map(|code| json!({ "code": code, "message": reason(report) })),
        "book_faults": faults.iter().map(|fault| json!({ "code": fault.code(), "message": fault.to_string() })).collect::<Vec<Value>>(),
    })
}

fn with_findings(mut shown: Value, findings: &Findings) -> Value {
    let compared = findings.compared.iter().map(|Compared { name, why, detail }| {
        json!({ "with": name, "agrees": why.is_none(), "code": why.map(Why::code), "detail": detail })
    });
    shown["compared"] = compared.collect();
    shown["not_compared"] = json!(findings.not_compared);
    shown
}

/// The failure that ends it, the journal's first.
fn conclude(report: JournalReport, faults: &[BookFault], findings: &Findings) -> Result<(), Failure> {
    let wrong_seq = report.wrong_seq();
    if let Some(wrong) = report.wrong {
        let sentence = format!("row {} is the first that is wrong", wrong.seq());
        return Err(Failure::new(wrong.code(), sentence).because(wrong));
    }
    if let (Some(fault), Some(seq)) = (report.unreadable, wrong_seq) {
        return Err(Failure::new("journal_unreadable_now", format!("row {seq} can't be read")).because(fault));
    }
    if let Some(fault) = faults.first() {
        return Err(Failure::new(fault.code(), format!("the books are wrong: {fault}")));
    }
    match findings.compared.iter().find_map(|one| one.why.map(|why| (one, why))) {
        Some((one, why)) => {
            let sentence = format!("{} and journal disagree: {}", one.name, one.detail);
            Err(Failure::new("ledger_disagrees", sentence).hint(why.way_out()))
        }
        None => Ok(()),
    }
}
