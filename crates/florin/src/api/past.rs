//! Lists and lookups over what stands and what is finished: records leave the state when nothing can change them any more, and live on in
//! the search tables. The state is asked first, and the tables only for what it does not hold; nothing is shown twice, or not at all
//! because the tables are a few rows behind.

use crate::api::problem::Problem;
use crate::api::view::Page;
use crate::api::{Api, CATCH_UP_MAX, LOOK_AGAIN};
use florin_core::id::Seq;
use florin_core::state::State;
use florin_store::fault::StoreFault;
use florin_store::projection::{Place, Projection};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::Instant;

/// A record of the search tables, as lists need it.
pub(crate) trait Record: Send + 'static {
    /// By what lists are ordered: it never changes while the record is the same.
    type Key: Ord + Clone + Send + 'static;
    /// What is shown of it.
    type View;

    fn key(&self) -> Self::Key;
    /// Where in the journal it came from.
    fn place(&self) -> Place;
    fn view(&self, state: &State) -> Self::View;
}

/// Which part of a list: before `before`, newest first, at most `limit`.
#[derive(Debug, Clone)]
pub(crate) struct Span<K> {
    pub(crate) before: Option<K>,
    pub(crate) limit: usize,
}

/// What one of the two sources gives: its first records of a span, newest first. Where there may be more, nothing is known of what comes
/// after the last.
struct Part<K, V> {
    items: Vec<(K, V)>,
    floor: Option<K>,
}

impl<K: Clone, V> Part<K, V> {
    fn new(items: Vec<(K, V)>, count: usize) -> Part<K, V> {
        let floor = items.last().filter(|_| items.len() >= count).map(|(key, _)| key.clone());
        Part { items, floor }
    }
}

/// A page from both parts, and after what the next one begins. What both have is shown as the state has it.
fn merge<K: Ord + Clone, V>(live: Part<K, V>, past: Part<K, V>, limit: usize) -> (Vec<V>, Option<K>) {
    let floor = live.floor.max(past.floor);
    let all: BTreeMap<K, V> = past.items.into_iter().chain(live.items).collect();
    let known = all.into_iter().rev().take_while(|(key, _)| floor.as_ref().is_none_or(|floor| key >= floor));
    let mut known: Vec<(K, V)> = known.collect();
    let is_cut = known.len() > limit;
    known.truncate(limit);
    let last = known.last().map(|(key, _)| key.clone());
    let next = if is_cut { last } else { floor };
    (known.into_iter().map(|(_, view)| view).collect(), next)
}

/// A page of a list that goes on from the state into the search tables. `live` gives as many records of the state as it is asked for,
/// newest first; `past` does the same with the tables.
pub(crate) async fn page<R: Record>(
    api: &Arc<Api>,
    span: Span<R::Key>,
    live: impl FnOnce(&State, &Span<R::Key>) -> Vec<(R::Key, R::View)>,
    past: impl FnOnce(&mut Projection, Option<R::Key>, u32) -> Result<Vec<R>, StoreFault> + Send + 'static,
    name: impl Fn(&R::Key) -> String,
) -> Result<Page<R::View>, Problem> {
    let limit = span.limit;
    // One more than is shown says whether there are more.
    let wanted = Span { limit: limit + 1, ..span };
    let (at, found) = api.read(|state| (state.counters().seq, live(state, &wanted)));
    let live = Part::new(found, wanted.limit);
    let count = u32::try_from(wanted.limit).unwrap_or(u32::MAX);
    let records = search(api, at, move |tables| past(tables, wanted.before, count)).await?;
    let floor = records.last().filter(|_| records.len() > limit).map(Record::key);
    // What came after the state was looked at belongs to a later look: the tables may be ahead of it.
    let known = records.iter().filter(|record| record.place().seq() <= at);
    let items = api.read(|state| known.map(|record| (record.key(), record.view(state))).collect());
    let (items, next) = merge(live, Part { items, floor }, limit);
    Ok(Page { items, next: next.as_ref().map(name) })
}

/// One record: as the state has it, or else as the search tables do.
pub(crate) async fn one<R: Record>(
    api: &Arc<Api>,
    live: impl FnOnce(&State) -> Option<R::View>,
    past: impl FnOnce(&mut Projection) -> Result<Option<R>, StoreFault> + Send + 'static,
) -> Result<Option<R::View>, Problem> {
    let (at, found) = api.read(|state| (state.counters().seq, live(state)));
    if found.is_some() {
        return Ok(found);
    }
    let record = search(api, at, past).await?;
    Ok(record.map(|record| api.read(|state| record.view(state))))
}

/// Asks the search tables when they have taken in all rows up to `at`, in which something may have left the state.
pub(crate) async fn search<T: Send + 'static>(
    api: &Arc<Api>,
    at: Seq,
    ask: impl FnOnce(&mut Projection) -> Result<T, StoreFault> + Send + 'static,
) -> Result<T, Problem> {
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
    use florin_store::conformance::Random;

    fn part(keys: impl Iterator<Item = u32>, before: Option<u32>, count: usize, word: &str) -> Part<u32, String> {
        let below = keys.filter(|key| before.is_none_or(|before| *key < before)).take(count);
        Part::new(below.map(|key| (key, format!("{word}{key}"))).collect(), count)
    }

    #[test]
    fn every_record_comes_once_and_in_order_though_records_move_between_pages() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let all: Vec<u32> = (0..60).rev().collect();
            let mut live: Vec<u32> = all.iter().copied().filter(|_| random.below(2) == 0).collect();
            let (mut found, mut before) = (Vec::new(), None);
            loop {
                let limit = 1 + random.below(7) as usize;
                // The tables hold everything, what is live too.
                let (state, tables) = (live.iter().copied(), all.iter().copied());
                let (state, tables) = (part(state, before, limit + 1, "live"), part(tables, before, limit + 1, "past"));
                let (page, next) = merge(state, tables, limit);
                assert!(page.len() <= limit, "seed {seed}");
                for view in &page {
                    let key: u32 = view[4..].parse().expect("a number");
                    assert_eq!(view.starts_with("live"), live.contains(&key), "seed {seed}: {view}");
                    found.push(key);
                }
                before = next;
                if before.is_none() {
                    break;
                }
                live.retain(|_| random.below(4) > 0);
            }
            assert_eq!(found, all, "seed {seed}");
        }
    }

    #[test]
    fn a_page_ends_where_one_source_may_know_more() {
        let known = |keys: &[u32], floor| Part { items: keys.iter().map(|key| (*key, *key)).collect(), floor };
        // Of the tables' records one was left out, and below 5 they were not asked.
        assert_eq!(merge(known(&[4, 2], None), known(&[9, 7], Some(5)), 3), (vec![9, 7], Some(5)));
        assert_eq!(merge(known(&[4, 2], None), known(&[], Some(5)), 3), (vec![], Some(5)));
        assert_eq!(merge(known(&[4, 2], None), known(&[], None), 3), (vec![4, 2], None));
        assert_eq!(merge(known(&[8, 4], None), known(&[9, 7], None), 3), (vec![9, 8, 7], Some(7)));
    }
}
