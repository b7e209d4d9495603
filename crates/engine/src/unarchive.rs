//! Records that left the state, found again by folding the journal anew: its rows hold their ids alone. It reads and gathers; what
//! becomes of the records is the core's to decide, and it never gives any that do not lead to the head that was asked for.

use crate::caught::caught;
use crate::load::{FoldError, Place, READ_ROWS_MAX};
use crate::ports::{Past, PastFault};
use florin_core::custody::{Archived, ArchivedHead, BlockRef};
use florin_core::event::Event;
use florin_core::id::{ChainId, Digest, Seq};
use florin_core::journal::{Batch, Entry, Journal, Row, RowError};
use florin_core::state::State;
use florin_core::wire::Message;
use std::collections::VecDeque;

/// Rows after which it says how far it is.
const PROGRESS_ROWS: u64 = 100_000;

/// How much is held at once, and how long one question may take.
#[derive(Debug, Clone, Copy)]
pub struct PastLimits {
    /// Bytes of records, encoded, that are held. More than one [`florin_core::command::Command::Unarchive`] can put back.
    pub bytes_max: usize,
    /// Rows folded for one question; then it is to be asked again. Whoever asks has nodes to hear meanwhile.
    pub slice_rows: usize,
    /// Bytes of rows folded for one question.
    pub slice_bytes: usize,
}

impl Default for PastLimits {
    /// A hundred megabytes of records; slices of about half a second.
    fn default() -> PastLimits {
        PastLimits { bytes_max: 128 << 20, slice_rows: 4_096, slice_bytes: 16 << 20 }
    }
}

/// The records of a chain that left its state last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gathered {
    head: ArchivedHead,
    links: Vec<Digest>,
    records: Vec<Archived>,
    blocks: Vec<BlockRef>,
}

impl Gathered {
    /// What they lead to.
    pub fn head(&self) -> ArchivedHead {
        self.head
    }

    /// The records, in the order in which they left.
    pub fn records(&self) -> &[Archived] {
        &self.records
    }

    /// The link below the record at a place: what [`florin_core::command::Command::Unarchive`] names of records from there on.
    pub fn below(&self, from: usize) -> Digest {
        self.links.get(from).copied().unwrap_or(self.head.digest)
    }

    /// All blocks of the chain that left, the lowest first, also those whose records are not among these.
    pub fn blocks(&self) -> &[BlockRef] {
        &self.blocks
    }

    /// Whether records left before these.
    pub fn has_more_below(&self) -> bool {
        self.head.count > self.records.len() as u64
    }

    /// Leaves out the records that came back since. `false` where the state knows others: then these are good for nothing.
    pub fn follow(&mut self, head: ArchivedHead) -> bool {
        let gone = self.head.count.checked_sub(head.count).and_then(|gone| usize::try_from(gone).ok());
        let Some(kept) = gone.and_then(|gone| self.records.len().checked_sub(gone)) else { return false };
        if head.chain != self.head.chain || self.below(kept) != head.digest {
            return false;
        }
        let blocks = self.records[kept..].iter().filter(|record| matches!(record, Archived::Block(_))).count();
        self.blocks.truncate(self.blocks.len() - blocks);
        self.records.truncate(kept);
        self.links.truncate(kept);
        self.head = head;
        true
    }
}

/// The last records that left one chain of a state that is being folded, each with the link below it.
#[derive(Debug)]
struct Ring {
    chain: ChainId,
    records_max: usize,
    bytes_max: usize,
    records: VecDeque<(Digest, Archived, usize)>,
    bytes: usize,
    blocks: Vec<BlockRef>,
}

impl Ring {
    fn new(chain: ChainId, records_max: usize, bytes_max: usize) -> Ring {
        Ring { chain, records_max, bytes_max, records: VecDeque::new(), bytes: 0, blocks: Vec::new() }
    }

    fn head(&self, state: &State) -> ArchivedHead {
        let chain = state.chains().get(&self.chain);
        chain.map_or_else(|| ArchivedHead::empty(self.chain), |of_chain| of_chain.archived)
    }

    /// Folds an event, and keeps what it takes out of the state. Gives the head after it.
    fn fold(&mut self, state: &mut State, event: &Event) -> ArchivedHead {
        let (before, leaving) = (self.head(state), leaving(state, event));
        state.apply(event);
        let after = self.head(state);
        if after.count > before.count {
            self.push(before.digest, leaving.expect("what left the state was in it"));
        } else if after.count < before.count
            && let Event::Unarchived(back) = event
        {
            back.records.iter().for_each(|record| self.pop(record));
        }
        after
    }

    fn push(&mut self, below: Digest, record: Archived) {
        if let Archived::Block(block) = &record {
            self.blocks.push(block.at);
        }
        let bytes = record.encode().len();
        self.bytes += bytes;
        self.records.push_back((below, record, bytes));
        while self.records.len() > 1 && (self.records.len() > self.records_max || self.bytes > self.bytes_max) {
            self.bytes -= self.records.pop_front().map_or(0, |(_, _, bytes)| bytes);
        }
    }

    /// One that came back. Those before the first one that is kept are gone.
    fn pop(&mut self, record: &Archived) {
        self.bytes -= self.records.pop_back().map_or(0, |(_, _, bytes)| bytes);
        if matches!(record, Archived::Block(_)) {
            self.blocks.pop();
        }
    }

    /// Whether so much of it is empty that another fold, up to its beginning, is worth its time. It fills from the journal's start:
    /// what it lacks came back once, and these left after that.
    fn is_wanting(&self) -> bool {
        self.records.len() < self.records_max.div_ceil(2) && self.bytes < self.bytes_max / 2
    }
}

/// The record that an event takes out of a state, if it is of a kind that comes back.
fn leaving(state: &State, event: &Event) -> Option<Archived> {
    match event {
        Event::CoinRemoved(it) => state.coins().get(&it.outpoint).cloned().map(Archived::Coin),
        Event::DepositArchived(it) => state.deposits().get(&it.outpoint).cloned().map(Archived::Deposit),
        Event::WithdrawalArchived(it) => state.withdrawals().get(&it.withdrawal).cloned().map(Archived::Withdrawal),
        Event::PlanArchived(it) => state.plans().get(&it.plan).cloned().map(Archived::Plan),
        Event::BlockArchived(it) => {
            let (_, block) = state.chains().get(&it.chain)?.blocks.first_key_value()?;
            Some(Archived::Block(block.clone()))
        }
        _ => None,
    }
}

/// A fold of the journal from its first row up to a head.
struct Fold {
    target: ArchivedHead,
    state: State,
    place: Place,
    ring: Ring,
}

impl Fold {
    fn up_to(target: ArchivedHead, records_max: usize, bytes_max: usize) -> Fold {
        Fold {
            target,
            state: State::default(),
            place: Place::START,
            ring: Ring::new(target.chain, records_max, bytes_max),
        }
    }

    /// Folds a row as [`State::apply_row`] does, up to the event that leads to the target. Whether one does.
    fn row(&mut self, row: &Row) -> Result<bool, FoldError> {
        let batch = row.open(self.place.seq, self.place.hash)?;
        let reached = caught(|| self.batch(row, &batch));
        let reached = reached.map_err(|what| FoldError::Contradiction { seq: row.seq, what })?;
        self.place = Place { seq: row.seq, hash: row.hash };
        Ok(reached)
    }

    fn batch(&mut self, row: &Row, batch: &Batch) -> bool {
        self.state.begin_row(row.seq, row.time);
        for Entry { command, request, events, outcome } in &batch.entries {
            for event in events {
                if self.ring.fold(&mut self.state, event) == self.target {
                    return true;
                }
            }
            let (command, request, outcome) = (*command, *request, outcome.clone());
            self.state.apply_entry(&Entry { command, request, events: Vec::new(), outcome });
        }
        false
    }
}

/// A question that is being answered.
struct Reading {
    asked: (ArchivedHead, usize),
    fold: Fold,
    /// What an earlier fold has gathered above this one's target.
    above: VecDeque<(Digest, Archived, usize)>,
    /// All blocks, of the first fold.
    blocks: Option<Vec<BlockRef>>,
}

/// [`Past`] by folding a journal, from its first row on.
pub struct JournalPast {
    journal: Box<dyn Journal>,
    limits: PastLimits,
    reading: Option<Reading>,
}

impl std::fmt::Debug for JournalPast {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "JournalPast({:?} at row {})", self.limits, self.row())
    }
}

impl JournalPast {
    /// Reads a journal whose rows begin with the first one, wherever they are kept by now.
    pub fn new(journal: Box<dyn Journal>, limits: PastLimits) -> JournalPast {
        JournalPast { journal, limits, reading: None }
    }

    /// Folds the next rows; whether that led to the target.
    fn slice(&mut self) -> Result<bool, PastFault> {
        let Some(reading) = &mut self.reading else { return Ok(false) };
        let fold = &mut reading.fold;
        let (mut rows_left, mut bytes_left) = (self.limits.slice_rows.max(1), self.limits.slice_bytes.max(1));
        while rows_left > 0 && bytes_left > 0 {
            let rows = self.journal.read(fold.place.seq, READ_ROWS_MAX.min(rows_left)).map_err(PastFault::Read)?;
            if rows.is_empty() {
                return Err(PastFault::NotFound);
            }
            for row in &rows {
                if fold.row(row).map_err(fault)? {
                    return Ok(true);
                }
                (rows_left, bytes_left) = (rows_left - 1, bytes_left.saturating_sub(row.payload.len()));
                if row.seq.0.is_multiple_of(PROGRESS_ROWS) {
                    tracing::info!(row = row.seq.0, "the journal is read for records that left the state");
                }
            }
        }
        Ok(false)
    }

    /// What the fold that came to its end gathered; `None` where another one has to go on below that.
    fn gathered(&mut self) -> Option<Result<Gathered, PastFault>> {
        let Reading { asked: (head, records_max), fold, above, blocks } = self.reading.take()?;
        let Fold { target, ring, .. } = fold;
        let is_wanting = ring.is_wanting();
        let Ring { mut records, blocks: found, .. } = ring;
        let blocks = blocks.unwrap_or(found);
        let below = ArchivedHead {
            count: target.count - records.len() as u64,
            digest: records.front().map_or(target.digest, |(below, _, _)| *below),
            ..target
        };
        records.extend(above);
        if is_wanting && below.count > 0 {
            let fold = Fold::up_to(below, records_max, self.limits.bytes_max);
            self.reading = Some(Reading { asked: (head, records_max), fold, above: records, blocks: Some(blocks) });
            return None;
        }
        let (links, records): (Vec<Digest>, Vec<Archived>) =
            records.into_iter().map(|(below, record, _)| (below, record)).unzip();
        let is_right = head.without(below.digest, &records) == Some(below);
        Some(is_right.then_some(Gathered { head, links, records, blocks }).ok_or(PastFault::NotFound))
    }
}

/// Rows that are missing at the beginning were moved elsewhere.
fn fault(error: FoldError) -> PastFault {
    match error {
        FoldError::Row(RowError::Gap { expected, found }) if expected == Seq::START.next() => {
            PastFault::Missing { first: found }
        }
        error => PastFault::Fold(error),
    }
}

impl Past for JournalPast {
    fn last_archived(&mut self, head: &ArchivedHead, records_max: usize) -> Result<Option<Gathered>, PastFault> {
        if head.count == 0 {
            return Err(PastFault::NotFound);
        }
        let asked = (*head, records_max.max(1));
        if self.reading.as_ref().is_none_or(|reading| reading.asked != asked) {
            tracing::info!(records = head.count, "the journal is read from its start for records that left the state");
            let fold = Fold::up_to(*head, asked.1, self.limits.bytes_max);
            self.reading = Some(Reading { asked, fold, above: VecDeque::new(), blocks: None });
        }
        match self.slice() {
            Ok(true) => self.gathered().transpose(),
            Ok(false) => Ok(None),
            // The store may answer soon; everything else begins anew.
            Err(fault @ PastFault::Read(_)) => Err(fault),
            Err(fault) => {
                self.reading = None;
                Err(fault)
            }
        }
    }

    fn row(&self) -> Seq {
        self.reading.as_ref().map_or(Seq::START, |reading| reading.fold.place.seq)
    }

    fn leave(&mut self) {
        self.reading = None;
    }
}
