//! What left the platform's state and could come back, found by folding the journal with the platform's own fold: what a hostile
//! watcher would put back has to be nearly true. It judges nothing.

use crate::setup::CHAIN;
use florin_core::custody::{Archived, ArchivedHead};
use florin_core::event::Event;
use florin_core::journal::{Batch, Entry, Row};
use florin_core::state::State;
use florin_engine::load::Place;

/// The archived records of [`CHAIN`].
#[derive(Debug)]
pub struct Archive {
    state: State,
    place: Place,
    /// Each with what was known of those before it.
    records: Vec<(ArchivedHead, Archived)>,
}

impl Default for Archive {
    fn default() -> Archive {
        Archive { state: State::default(), place: Place::START, records: Vec::new() }
    }
}

fn head(state: &State) -> ArchivedHead {
    state.chains().get(&CHAIN).map_or(ArchivedHead::empty(CHAIN), |chain| chain.archived)
}

/// The record that an event takes out of the state.
fn leaving(state: &State, event: &Event) -> Option<Archived> {
    match event {
        Event::BlockArchived(block) => {
            let blocks = &state.chains().get(&block.chain)?.blocks;
            blocks.get(&block.at.height).cloned().map(Archived::Block)
        }
        Event::DepositArchived(deposit) => state.deposits().get(&deposit.outpoint).cloned().map(Archived::Deposit),
        Event::CoinRemoved(coin) => state.coins().get(&coin.outpoint).cloned().map(Archived::Coin),
        Event::WithdrawalArchived(withdrawal) => {
            state.withdrawals().get(&withdrawal.withdrawal).cloned().map(Archived::Withdrawal)
        }
        Event::PlanArchived(plan) => state.plans().get(&plan.plan).cloned().map(Archived::Plan),
        _ => None,
    }
}

impl Archive {
    /// The records that are archived now, in the order in which they left, each with what was known of those before it.
    pub fn records(&self) -> &[(ArchivedHead, Archived)] {
        &self.records
    }

    /// Reads the rows that it has not read yet.
    ///
    /// # Errors
    /// Where one can't be read, or takes out another record than its place in the chain of records says.
    pub fn read(&mut self, rows: &[Row]) -> Result<(), String> {
        for row in rows.get(self.place.seq.0 as usize..).unwrap_or_default() {
            let opened = row.open(self.place.seq, self.place.hash);
            self.fold(row, opened.map_err(|fault| format!("row {}: {fault}", row.seq))?)?;
            self.place = Place { seq: row.seq, hash: row.hash };
        }
        Ok(())
    }

    fn fold(&mut self, row: &Row, batch: Batch) -> Result<(), String> {
        self.state.begin_row(row.seq, row.time);
        for Entry { command, request, events, outcome } in batch.entries {
            for event in &events {
                let (record, before) = (leaving(&self.state, event), head(&self.state));
                self.state.apply(event);
                let after = head(&self.state);
                if after.count > before.count {
                    let record = record.filter(|record| before.with(record) == after);
                    self.records.push((before, record.ok_or("something else was archived than what left")?));
                }
                self.records.truncate(after.count as usize);
            }
            self.state.apply_entry(&Entry { command, request, events: Vec::new(), outcome });
        }
        Ok(())
    }
}
