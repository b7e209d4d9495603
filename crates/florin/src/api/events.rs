//! The feed of events: resumes at a row's number and waits for more. It shows durable rows only, each whole.

#![allow(unused_qualifications, reason = "the macro that describes parameters writes them")]

use crate::api::ask::Params;
use crate::api::problem::Problem;
use crate::api::{Api, CATCH_UP_MAX, Reply, event_json, seen};
use axum::extract::State as Shared;
use florin_core::event::Event;
use florin_core::id::{LedgerTime, Seq};
use florin_engine::read_model::FeedRow;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The most rows of one answer.
pub(crate) const ROWS_MAX: usize = 500;
const ROWS: usize = 100;
/// After this many events an answer ends with the row it is at: a row alone may have 4,096 times many.
const EVENTS_MAX: usize = 10_000;
/// The longest wait for the next row.
const WAIT_MAX_MS: u64 = 30_000;
/// How often it is looked whether there is a next row. Looking costs less than a microsecond.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(list_events))
}

/// Where to resume.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventParams {
    /// Rows after this one, which the journal has to have; 0 is the beginning.
    after: Option<u64>,
    /// How many rows at most: 1 to 500, 100 where absent.
    limit: Option<usize>,
    /// How many milliseconds to wait for a row where there is none yet: at most 30,000.
    wait_ms: Option<u64>,
}

/// Events, and where to resume.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventsView {
    /// The events, in order.
    items: Vec<EventView>,
    /// What `after` has to be for those that follow.
    next: u64,
}

/// One event.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventView {
    /// Its row.
    seq: u64,
    /// Its place in the row, from 0.
    index: usize,
    /// The row's ledger time, in Unix milliseconds.
    time_ms: u64,
    /// What happened, such as `deposit_moved`; the journal's schema lists all kinds.
    kind: String,
    /// The event's record, as the journal's schema describes it. Amounts are in smallest units.
    #[schema(value_type = Object)]
    data: serde_json::Value,
}

impl EventView {
    pub(crate) fn new(seq: Seq, index: usize, time: LedgerTime, event: &Event) -> Result<EventView, Problem> {
        let (kind, data) = event_json::schema().event(event).map_err(|_| Problem::new("event_unreadable"))?;
        Ok(EventView { seq: seq.0, index, time_ms: time.0, kind, data })
    }
}

/// Lists events in order. A reader that keeps `next` misses none and sees none twice.
#[utoipa::path(get, path = "/api/v1/events", tag = "events", params(EventParams),
    responses((status = 200, body = EventsView), (status = "default", body = Problem)))]
async fn list_events(Shared(api): Shared<Arc<Api>>, Params(params): Params<EventParams>) -> Reply<EventsView> {
    let refused = |text: &str| Err(Problem::new("query_invalid").detail(text));
    let (after, limit) = (Seq(params.after.unwrap_or(0)), params.limit.unwrap_or(ROWS));
    let wait_ms = params.wait_ms.unwrap_or(0);
    if !(1..=ROWS_MAX).contains(&limit) {
        return refused("'limit' is 1 to 500");
    }
    if wait_ms > WAIT_MAX_MS {
        return refused("'wait_ms' is at most 30,000");
    }
    reach(&api, after).await?;
    wait_for_row_after(&api, after, Duration::from_millis(wait_ms)).await;
    let rows = feed(&api, after, limit).await?;
    seen(show(after, &rows)?)
}

/// Sees that the journal has the row after which a reader goes on: one that is ahead of it was fed from a journal that is no more, or from
/// another one, and must not wait as if all were well.
///
/// # Errors
/// `after_beyond_journal`, `not_caught_up`.
async fn reach(api: &Api, after: Seq) -> Result<(), Problem> {
    let is_beyond = |at: Seq| {
        // A leader knows every row but the one that it is just appending, which another node may have told already.
        api.platform().is_current() && !api.platform().is_following() && after > at.next()
    };
    let end = Instant::now() + CATCH_UP_MAX;
    loop {
        let at = api.at();
        if after <= at {
            return Ok(());
        }
        if is_beyond(at) {
            return Err(Problem::new("after_beyond_journal").detail(format!("the journal ends with row {at}")));
        }
        if Instant::now() >= end || api.is_stopping() {
            return Err(
                Problem::new("not_caught_up").detail(format!("row {after} is not here yet, this node is at row {at}"))
            );
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Waits until there is a row after `after`, or the time is over.
async fn wait_for_row_after(api: &Api, after: Seq, wait: Duration) {
    let end = Instant::now() + wait;
    while api.at() <= after && Instant::now() < end && !api.is_stopping() {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn feed(api: &Arc<Api>, after: Seq, limit: usize) -> Result<Vec<FeedRow>, Problem> {
    if after >= api.at() {
        return Ok(Vec::new());
    }
    api.blocking(move |platform| platform.feed(after, limit)).await
}

fn show(after: Seq, rows: &[FeedRow]) -> Result<EventsView, Problem> {
    let mut view = EventsView { items: Vec::new(), next: after.0 };
    for row in rows {
        for (index, event) in row.events().enumerate() {
            view.items.push(EventView::new(row.seq, index, row.time, event)?);
        }
        view.next = row.seq.0;
        if view.items.len() >= EVENTS_MAX {
            break;
        }
    }
    Ok(view)
}
