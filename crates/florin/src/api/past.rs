//! Lists and lookups over what stands and what is finished: records leave the state when nothing can change them any more, and live on in
//! the search tables. It never walks the state: a page costs what it shows, however much stands.
//!
//! The rule of lists: **the search tables say which records a page has, the state says how each of them stands.** The tables have every
//! record from its first row on, for ever, under a key that never changes; so whatever leaves the state between two pages, or while one is
//! made, is neither missed nor shown twice. They are asked once they have taken in the row on which the state stands, so that whoever was told
//! of a change sees it. Each record is then looked up in the state, and shown as the tables have it only where the state has it no more. What
//! the tables know before the state does, for they follow the journal on their own, is left for a later look.

use crate::api::pages::{Page, Span};
use crate::api::problem::Problem;
use crate::api::{Api, CATCH_UP_MAX, LOOK_AGAIN};
use florin_core::state::State;
use florin_store::fault::StoreFault;
use florin_store::projection::{Place, Projection};
use std::sync::Arc;
use tokio::time::Instant;

/// A record of the search tables, as lists need it.
pub(crate) trait Record: Send + 'static {
    /// What is shown of it.
    type View;

    /// Its place in lists, as `next` names it.
    fn name(&self) -> String;
    /// Where in the journal it began.
    fn place(&self) -> Place;
    /// As the state has it, or else as the tables do.
    fn view(&self, state: &State) -> Self::View;
}

fn shown<R: Record>(state: &State, records: &[R]) -> Vec<R::View> {
    let known = records.iter().filter(|record| record.place().seq() <= state.counters().seq);
    known.map(|record| record.view(state)).collect()
}

/// A page of a list. `ask` gives what follows upon a key, as many as are asked for.
pub(crate) async fn page<R: Record, K: Send + 'static>(
    api: &Arc<Api>,
    span: Span<K>,
    ask: impl FnOnce(&mut Projection, Option<K>, u32) -> Result<Vec<R>, StoreFault> + Send + 'static,
) -> Result<Page<R::View>, Problem> {
    let (limit, count) = (span.limit, span.count());
    let records = search(api, move |tables| ask(tables, span.after, count)).await?;
    let Page { items, next } = Page::cut(records, limit, R::name);
    Ok(Page { items: api.read(|state| shown(state, &items)), next })
}

/// One record: as the state has it, or else as the search tables do.
pub(crate) async fn one<R: Record>(
    api: &Arc<Api>,
    live: impl FnOnce(&State) -> Option<R::View>,
    ask: impl FnOnce(&mut Projection) -> Result<Option<R>, StoreFault> + Send + 'static,
) -> Result<Option<R::View>, Problem> {
    if let Some(found) = api.read(live) {
        return Ok(Some(found));
    }
    let record = search(api, ask).await?;
    Ok(api.read(|state| shown(state, record.as_slice()).pop()))
}

/// Asks the search tables when they have taken in the row on which the state stands now.
pub(crate) async fn search<T: Send + 'static>(
    api: &Arc<Api>,
    ask: impl FnOnce(&mut Projection) -> Result<T, StoreFault> + Send + 'static,
) -> Result<T, Problem> {
    let at = api.read(|state| state.counters().seq);
    let end = Instant::now() + CATCH_UP_MAX;
    if api.platform().projected() < at {
        api.platform().hasten_projector();
    }
    while api.platform().projected() < at {
        if api.is_stopping() {
            return Err(Problem::new("stopping"));
        }
        if Instant::now() >= end {
            let stand = api.platform().projected();
            return Err(Problem::new("search_tables_behind")
                .detail(format!("the search tables are at row {stand}, and this answer needs row {at}")));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    api.blocking(move |platform| platform.search(ask)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::view::WithdrawalView;
    use florin_core::amount::Amount;
    use florin_core::custody::{Intent, Withdrawal, WithdrawalStatus};
    use florin_core::event::{Event, WithdrawalArchived, WithdrawalMoved};
    use florin_core::id::*;
    use florin_core::journal::{Batch, Entry, Row};
    use florin_core::wire::{Bytes, Message};
    use florin_store::conformance::Random;
    use florin_store::projection::query::WithdrawalRecord;
    use std::collections::BTreeMap;

    fn withdrawal(id: WithdrawalId, customer: CustomerId) -> Withdrawal {
        let (amount, script) = (Amount::new(1_000), Bytes(vec![0, 20]));
        let intent = Intent {
            platform: [1; 16],
            wallet: WalletId(1),
            genesis: BlockHash([2; 32]),
            asset: AssetId(1),
            script: script.clone(),
            amount,
            fee_max: Amount::new(50),
            expiry: LedgerTime(9),
            withdrawal: id,
        };
        let (asset, fee, status) = (AssetId(1), Amount::new(10), WithdrawalStatus::Queued);
        let (hold, approvals, plan, requested, paid) = (None, Vec::new(), None, LedgerTime(7), None);
        Withdrawal { id, customer, asset, amount, fee, script, status, hold, intent, approvals, plan, requested, paid }
    }

    /// A journal with its two readers.
    struct Readers {
        rows: Vec<(Row, Batch)>,
        state: State,
        tables: Projection,
        /// Whose withdrawals there are.
        asked: BTreeMap<WithdrawalId, CustomerId>,
    }

    impl Readers {
        fn new() -> Readers {
            let tables = Projection::temporary().expect("there is room");
            Readers { rows: Vec::new(), state: State::default(), tables, asked: BTreeMap::new() }
        }

        fn append(&mut self, events: Vec<Event>) {
            let (seq, previous) = self.rows.last().map_or((Seq::START, Digest::ZERO), |(row, _)| (row.seq, row.hash));
            let batch = Batch { entries: vec![Entry { command: None, request: None, events, outcome: None }] };
            self.rows.push((Row::seal(seq.next(), Epoch(0), LedgerTime(1), previous, batch.encode()), batch));
        }

        fn ask(&mut self, id: WithdrawalId, customer: CustomerId) {
            if self.asked.insert(id, customer).is_none() {
                self.append(vec![Event::WithdrawalRequested(withdrawal(id, customer))]);
            }
        }

        /// Takes a step with one that stands in the journal: it ends, or it leaves.
        fn go_on(&mut self, random: &mut Random) {
            let mut ahead = self.state.clone();
            self.rows[ahead.counters().seq.0 as usize..].iter().for_each(|(row, batch)| ahead.apply_row(row, batch));
            let standing: Vec<&Withdrawal> = ahead.withdrawals().values().collect();
            let Some(found) = standing.get(random.below(standing.len().max(1) as u64) as usize) else { return };
            let (withdrawal, status) = (found.id, WithdrawalStatus::Cancelled);
            self.append(vec![match found.status {
                WithdrawalStatus::Cancelled => Event::WithdrawalArchived(WithdrawalArchived { withdrawal }),
                _ => Event::WithdrawalMoved(WithdrawalMoved { withdrawal, status, hold: None, plan: None, paid: None }),
            }]);
        }

        fn fold_state(&mut self, count: usize) {
            let from = self.state.counters().seq.0 as usize;
            self.rows[from..].iter().take(count).for_each(|(row, batch)| self.state.apply_row(row, batch));
        }

        /// At least up to `at`, and some rows beyond it.
        fn fold_tables(&mut self, at: Seq, more: usize) {
            let until = (at.0 as usize + more).min(self.rows.len());
            for (row, batch) in &self.rows[..until] {
                self.tables.apply(row, batch).expect("the row fits");
            }
        }
    }

    fn name(view: &WithdrawalView) -> WithdrawalId {
        WithdrawalId::parse(&view.id).expect("an id")
    }

    #[test]
    fn every_record_comes_once_and_in_order_though_records_finish_between_and_under_pages() {
        for seed in 0..60 {
            let (mut random, mut all) = (Random::new(seed), Readers::new());
            let customers = [CustomerId([1; 16]), CustomerId([2; 16])];
            for _ in 0..30 {
                let number = random.below(250) as u8;
                all.ask(WithdrawalId([number; 16]), customers[usize::from(number % 2)]);
                (0..random.below(2)).for_each(|_| all.go_on(&mut random));
            }
            all.fold_state(usize::MAX);
            let before = all.asked.clone();
            let owner = [None, Some(customers[0]), Some(customers[1])][random.below(3) as usize];
            let limit = 1 + random.below(5) as usize;
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                // As a page is made: the tables are asked for what the state knew, and both may be further by then.
                let at = all.state.counters().seq;
                (0..random.below(6)).for_each(|_| all.go_on(&mut random));
                all.ask(WithdrawalId([251 + random.below(4) as u8; 16]), customers[0]);
                all.fold_tables(at, random.below(8) as usize);
                let span = Span { after, limit };
                let records = all.tables.withdrawals(owner, span.after, span.count()).expect("answers");
                let Page { items, next } = Page::cut(records, limit, WithdrawalRecord::name);
                all.fold_state(random.below(8) as usize);
                for view in shown(&all.state, &items) {
                    let is_standing = all.state.withdrawals().contains_key(&name(&view));
                    assert_eq!(view.wallet.is_some(), is_standing, "seed {seed}: as the state has it while it does");
                    found.push(view);
                }
                let Some(next) = next else { break };
                after = WithdrawalId::parse(&next);
            }
            let is_of = |id: &&WithdrawalId| owner.is_none_or(|owner| before[*id] == owner);
            let expected: Vec<WithdrawalId> = before.keys().filter(is_of).copied().rev().collect();
            let found: Vec<WithdrawalId> = found.iter().map(name).filter(|id| before.contains_key(id)).collect();
            assert_eq!(found, expected, "seed {seed}");
        }
    }

    #[test]
    fn what_the_tables_know_before_the_state_does_is_left_for_later() {
        let mut both = Readers::new();
        let ids = [WithdrawalId([1; 16]), WithdrawalId([2; 16])];
        ids.iter().for_each(|id| both.ask(*id, CustomerId([7; 16])));
        both.fold_state(1);
        both.fold_tables(Seq(2), 0);
        let records = both.tables.withdrawals(None, None, 9).expect("answers");
        let ids_shown = |state: &State| shown(state, &records).iter().map(name).collect::<Vec<_>>();
        assert_eq!(ids_shown(&both.state), [ids[0]]);
        both.fold_state(1);
        assert_eq!(ids_shown(&both.state), [ids[1], ids[0]]);
    }
}
