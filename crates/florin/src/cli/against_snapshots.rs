//! The snapshots held against the journal: every one that is found, not only the one that would be loaded. They are read before the
//! journal, and judged as its rows come by.

use super::progress::Progress;
use super::verify::{Findings, Why, sentence};
use florin_core::id::{Digest, Seq};
use florin_core::journal::{Row, SnapshotHeader};
use florin_core::snapshot;
use florin_core::state::State;
use florin_core::wire::Bytes;
use florin_engine::audit::JournalReport;
use florin_engine::caught::caught;
use florin_store::fault::StoreFault;
use florin_store::snapshots::{self, SnapshotError};
use std::path::Path;

/// A snapshot whose chunks are whole.
struct Content {
    header: SnapshotHeader,
    /// The hash of the state that its chunks fold to.
    folded: Digest,
}

type Verdict = Result<String, (Why, String)>;

/// Why there is nothing to compare.
enum Unusable {
    /// The store's fault; whether it is the snapshot's, its kind says.
    Store(StoreFault),
    /// Written by a build that knew less; the next one written takes its place.
    Older(String),
    Differs(Why, String),
}

impl Unusable {
    fn tell(self, name: &str, findings: &mut Findings) {
        match self {
            // The next writer brings it up to date.
            Unusable::Store(fault @ (StoreFault::Older { .. } | StoreFault::Absent { .. })) => {
                findings.skips(name, format!("of another build: {}", sentence(&fault)));
            }
            Unusable::Older(what) => findings.skips(name, format!("of another build: {what}")),
            Unusable::Store(fault) => findings.unreadable(name, &fault, format!("unreadable: {}", sentence(&fault))),
            Unusable::Differs(why, detail) => findings.differs(name, why, detail),
        }
    }
}

/// One that was found.
struct Found {
    seq: Seq,
    content: Result<Content, Unusable>,
    verdict: Option<Verdict>,
}

/// All that were found.
pub(super) struct Snapshots {
    found: Vec<Found>,
    /// Why there are none to compare.
    none: Option<Result<String, Unusable>>,
}

impl Snapshots {
    /// Reads every snapshot in a folder. Whatever is wrong with them is said later.
    pub(super) fn read(folder: &Path, progress: &mut Progress) -> Snapshots {
        let path = folder.join(snapshots::FILE);
        let none = |none| Snapshots { found: Vec::new(), none: Some(none) };
        if !path.exists() {
            return none(Ok(format!("there is no {}", path.display())));
        }
        let opened = snapshots::Snapshots::open_reader(&path).and_then(|mut store| {
            // A platform that runs keeps new ones and removes old ones meanwhile.
            store.begin_view()?;
            let traces = store.traces()?;
            Ok((store, traces))
        });
        let (mut store, seqs) = match opened {
            Ok(opened) => opened,
            Err(fault) => return none(Err(Unusable::Store(fault))),
        };
        if seqs.is_empty() {
            return none(Ok("there is none yet".to_owned()));
        }
        let read = |seq: Seq| {
            progress.say(|| format!("snapshot {seq} is read"));
            Found { seq, content: content(&mut store, seq), verdict: None }
        };
        Snapshots { found: seqs.into_iter().map(read).collect(), none: None }
    }

    /// A row that is right, and the state after it.
    pub(super) fn meet(&mut self, row: &Row, state: &State) {
        for found in self.found.iter_mut().filter(|found| found.seq == row.seq) {
            if let Ok(content) = &found.content {
                found.verdict = Some(judge(content, row, state));
            }
        }
    }

    /// Says what became of each, oldest first; gives the newest that agrees.
    pub(super) fn settle(self, report: &JournalReport, findings: &mut Findings) -> Option<Seq> {
        let mut newest = None;
        match self.none {
            Some(Ok(reason)) => findings.skips("snapshots", reason),
            Some(Err(unusable)) => unusable.tell("snapshots", findings),
            None => {}
        }
        for Found { seq, content, verdict } in self.found.into_iter().rev() {
            let name = format!("snapshot {seq}");
            let verdict = match (content, verdict) {
                (Err(unusable), _) => {
                    unusable.tell(&name, findings);
                    continue;
                }
                (Ok(_), Some(verdict)) => verdict,
                (Ok(_), None) => match report.wrong_seq() {
                    Some(wrong) => {
                        findings.skips(&name, format!("row {wrong} of the journal is wrong"));
                        continue;
                    }
                    None if seq == Seq::START => Err((Why::SnapshotDiffers, "it stands on no row".to_owned())),
                    None => {
                        let end = report.head.seq;
                        Err((
                            Why::SnapshotPastEnd,
                            format!("it stands on row {seq}, past the journal's end at row {end}"),
                        ))
                    }
                },
            };
            match verdict {
                Ok(detail) => {
                    newest = newest.max(Some(seq));
                    findings.agrees(name, detail);
                }
                Err((why, detail)) => findings.differs(name, why, detail),
            }
        }
        newest
    }
}

fn content(store: &mut snapshots::Snapshots, seq: Seq) -> Result<Content, Unusable> {
    let loaded = match store.load(seq) {
        Ok(Some(loaded)) => loaded,
        Ok(None) => return Err(damaged("snapshot_chunk_count", "there are chunks without a header")),
        Err(SnapshotError::Store(fault)) => return Err(Unusable::Store(fault)),
        Err(error) => return Err(damaged(error.code(), &sentence(&error))),
    };
    let header = loaded.header().clone();
    Ok(Content { folded: fold(&header, loaded.chunks())?, header })
}

fn damaged(code: &'static str, what: &str) -> Unusable {
    Unusable::Differs(Why::Fault(code), format!("unreadable: {what}"))
}

/// The hash of the state that a snapshot's chunks fold to.
fn fold(header: &SnapshotHeader, chunks: &[Bytes]) -> Result<Digest, Unusable> {
    // What a snapshot says may break the state's rules; that is a finding and no end.
    match caught(|| snapshot::read(header, chunks)) {
        Ok(Ok(state)) => Ok(snapshot::hash(&state)),
        Ok(Err(error @ snapshot::SnapshotError::Older)) => Err(Unusable::Older(sentence(&error))),
        Ok(Err(error)) => Err(damaged(error.code(), &sentence(&error))),
        Err(what) => {
            let detail = format!("unreadable: what it says contradicts itself: {what}");
            Err(Unusable::Differs(Why::SnapshotContradicts, detail))
        }
    }
}

fn judge(content: &Content, row: &Row, state: &State) -> Verdict {
    let Content { header, folded } = content;
    let differs =
        |what: &str| Err((Why::SnapshotDiffers, format!("it has another {what} than the journal at row {}", row.seq)));
    if header.row_hash != row.hash {
        differs("row hash")
    } else if header.epoch != row.epoch {
        differs("epoch")
    } else if header.time != row.time {
        differs("time")
    } else if *folded != snapshot::hash(state) {
        differs("state")
    } else {
        Ok(format!("state at row {}", row.seq))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use florin_core::asset::{Asset, AssetKind};
    use florin_core::event::Event;
    use florin_core::id::AssetId;
    use florin_core::journal::{SnapshotChunk, state_hash};
    use florin_core::wire::Message;

    #[test]
    fn of_a_snapshot_that_contradicts_itself_it_is_told_which_rule_it_breaks() {
        let asset = Asset { id: AssetId(2), code: "EUR".to_owned(), decimals: 2, kind: AssetKind::Fiat, chain: None };
        let defined = Event::AssetDefined(asset);
        let chunks = [Bytes(SnapshotChunk { events: vec![defined.clone(), defined] }.encode())];
        let (header, _) = snapshot::write(&State::default(), Digest::ZERO, "test");
        let header = SnapshotHeader { state_hash: state_hash(chunks.iter()), chunk_count: 1, ..header };
        let Err(Unusable::Differs(why, detail)) = fold(&header, &chunks) else { panic!("it is read") };
        assert_eq!(why, Why::SnapshotContradicts);
        assert!(detail.ends_with("contradicts itself: an asset's definition never changes"), "{detail}");
    }
}
