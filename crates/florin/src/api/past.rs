//! Lists and lookups over what stands and what is finished: records leave the state when nothing can change them any more, and live on in
//! the search tables. It never walks the state: a page costs what it shows, however much stands.
//!
//! The rule of lists: **the search tables say which records a page has, the state says how each of them stands.** The tables have every
//! record from its first row on, for ever, under a key that never changes; so whatever leaves the state between two pages, or while one is
//! made, is neither missed nor shown twice. They are asked once they have taken in the row on which the state stands, so that whoever was told
//! of a change sees it, and for what began up to that row: they follow the journal on their own and may be further, and what the state can't
//! know yet must not take the place of what it does, or a page would be short. Each record is then looked up in the state, and shown as the
//! tables have it only where the state has it no more.

use crate::api::pages::{Page, Span};
use crate::api::problem::Problem;
use crate::api::{Api, CATCH_UP_MAX, LOOK_AGAIN};
use florin_core::id::Seq;
use florin_core::state::State;
use florin_store::fault::StoreFault;
use florin_store::projection::{Extent, Place, Projection};
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

/// A page of what the state knows when it is asked for; it never knows less later.
fn cut<T, K>(
    tables: &mut Projection,
    (span, known): (Span<K>, Seq),
    ask: impl FnOnce(&mut Projection, Option<K>, Extent) -> Result<Vec<T>, StoreFault>,
    name: impl Fn(&T) -> String,
) -> Result<Page<T>, StoreFault> {
    let extent = Extent { count: span.count(), until: known };
    Ok(Page::cut(ask(tables, span.after, extent)?, span.limit, name))
}

/// A page of a list as the search tables have it. `ask` gives what follows upon a key, as much as is asked for.
pub(crate) async fn keys<T: Send + 'static, K: Send + 'static>(
    api: &Arc<Api>,
    span: Span<K>,
    ask: impl FnOnce(&mut Projection, Option<K>, Extent) -> Result<Vec<T>, StoreFault> + Send + 'static,
    name: impl Fn(&T) -> String + Send + 'static,
) -> Result<Page<T>, Problem> {
    let known = api.read(|state| state.counters().seq);
    search(api, move |tables| cut(tables, (span, known), ask, name)).await
}

/// A page of a list of records.
pub(crate) async fn page<R: Record, K: Send + 'static>(
    api: &Arc<Api>,
    span: Span<K>,
    ask: impl FnOnce(&mut Projection, Option<K>, Extent) -> Result<Vec<R>, StoreFault> + Send + 'static,
) -> Result<Page<R::View>, Problem> {
    let Page { items, next } = keys(api, span, ask, R::name).await?;
    Ok(Page { items: api.read(|state| items.iter().map(|record| record.view(state)).collect()), next })
}

/// One record: as the state has it, or else as the search tables do. What the state does not know yet is not there.
pub(crate) async fn one<R: Record>(
    api: &Arc<Api>,
    live: impl FnOnce(&State) -> Option<R::View>,
    ask: impl FnOnce(&mut Projection) -> Result<Option<R>, StoreFault> + Send + 'static,
) -> Result<Option<R::View>, Problem> {
    if let Some(found) = api.read(live) {
        return Ok(Some(found));
    }
    let record = search(api, ask).await?;
    Ok(api.read(|state| record.filter(|record| record.place().seq() <= state.counters().seq).map(|it| it.view(state))))
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
        /// Whose withdrawals there are, and from which row on.
        asked: BTreeMap<WithdrawalId, (CustomerId, Seq)>,
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
            if !self.asked.contains_key(&id) {
                self.append(vec![Event::WithdrawalRequested(withdrawal(id, customer))]);
                self.asked.insert(id, (customer, Seq(self.rows.len() as u64)));
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

        fn page(&mut self, of: Option<CustomerId>, span: Span<WithdrawalId>, known: Seq) -> Page<WithdrawalRecord> {
            let ask = |tables: &mut Projection, after, extent| tables.withdrawals(of, after, extent);
            cut(&mut self.tables, (span, known), ask, WithdrawalRecord::name).expect("answers")
        }
    }

    #[test]
    fn every_page_is_full_and_in_order_though_records_begin_and_finish_between_and_under_pages() {
        for seed in 0..60 {
            let (mut random, mut all) = (Random::new(seed), Readers::new());
            let customers = [CustomerId([1; 16]), CustomerId([2; 16])];
            for _ in 0..30 {
                let number = random.below(250) as u8;
                all.ask(WithdrawalId([number; 16]), customers[usize::from(number % 2)]);
                (0..random.below(2)).for_each(|_| all.go_on(&mut random));
            }
            all.fold_state(usize::MAX);
            let owner = [None, Some(customers[0]), Some(customers[1])][random.below(3) as usize];
            let limit = 1 + random.below(5) as usize;
            let mut after = None;
            loop {
                // As a page is made: the tables are asked for what the state knew, and both may be further by then.
                let at = all.state.counters().seq;
                (0..random.below(6)).for_each(|_| all.go_on(&mut random));
                all.ask(WithdrawalId([251 + random.below(4) as u8; 16]), customers[0]);
                all.fold_tables(at, random.below(8) as usize);
                let page = all.page(owner, Span { after, limit }, at);
                all.fold_state(random.below(8) as usize);
                for record in &page.items {
                    let is_standing = all.state.withdrawals().contains_key(&record.id);
                    let view = record.view(&all.state);
                    assert_eq!(view.wallet.is_some(), is_standing, "seed {seed}: as the state has it while it does");
                }
                let is_known =
                    |(_, (of, row)): &(_, &(CustomerId, Seq))| *row <= at && owner.is_none_or(|it| *of == it);
                let follows = |id: &&WithdrawalId| after.is_none_or(|after| **id < after);
                let known: Vec<&WithdrawalId> =
                    all.asked.iter().rev().filter(is_known).map(|(id, _)| id).filter(follows).collect();
                let expected = &known[..known.len().min(limit)];
                assert_eq!(page.items.iter().map(|record| &record.id).collect::<Vec<_>>(), expected, "seed {seed}");
                assert_eq!(page.next.is_some(), known.len() > limit, "seed {seed}");
                let Some(next) = page.next else { break };
                after = WithdrawalId::parse(&next);
            }
        }
    }

    #[test]
    fn what_the_tables_know_before_the_state_does_takes_nobodys_place() {
        let mut both = Readers::new();
        let ids = [WithdrawalId([1; 16]), WithdrawalId([2; 16])];
        ids.iter().for_each(|id| both.ask(*id, CustomerId([7; 16])));
        both.fold_state(1);
        both.fold_tables(Seq(2), 0);
        let mut newest = || {
            let at = both.state.counters().seq;
            let page = both.page(None, Span { after: None, limit: 1 }, at);
            both.fold_state(1);
            (page.items.iter().map(|record| record.id).collect::<Vec<_>>(), page.next)
        };
        assert_eq!(newest(), (vec![ids[0]], None));
        assert_eq!(newest(), (vec![ids[1]], Some(ids[1].to_string())));
    }
}
