//! What the search tables remember: what happened to something, and what moved on a customer's account. It shows what the journal says and
//! decides nothing.

#![allow(unused_qualifications, reason = "the macro that describes parameters writes them")]

use crate::api::ask::{Params, Place, outpoint};
use crate::api::books::line_of;
use crate::api::customers::customer_of;
use crate::api::events::EventView;
use crate::api::pages::{ListParams, Page};
use crate::api::past;
use crate::api::problem::Problem;
use crate::api::view::{asset_of, money};
use crate::api::{Api, Reply, seen};
use crate::platform::CHAIN;
use axum::extract::State as Shared;
use florin_core::hex;
use florin_core::id::{AccountId, CommandId, HoldId, PlanId, WalletId};
use florin_core::ledger::{Account, Owner};
use florin_core::state::State;
use florin_store::projection::query::{self, TransferRecord};
use florin_store::projection::{self, Subject};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(show_history)).routes(routes!(list_transfers_of))
}

fn place_of(text: &str) -> Option<projection::Place> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    projection::Place::from_number(text.parse().ok().filter(|_| is_number)?)
}

/// What is asked about, by its name: a UUID, a hash, `txid:vout`, or a word and a number.
fn subject_of(text: &str) -> Option<Subject> {
    if let Some(id) = CommandId::parse(text) {
        return Some(Subject::Uuid(id.0));
    }
    if let Some(mut hash) = hex::decode(text).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok()) {
        // People write hashes from their last byte on.
        hash.reverse();
        return Some(Subject::Hash(hash));
    }
    if let Some(outpoint) = outpoint(CHAIN, text) {
        return Some(Subject::OutPoint(outpoint));
    }
    let (word, number) = text.split_once(':')?;
    let number: u64 = number.parse().ok().filter(|_| number.bytes().all(|byte| byte.is_ascii_digit()))?;
    match word {
        "account" => Some(Subject::Account(AccountId(number))),
        "hold" => Some(Subject::Hold(HoldId(number))),
        "plan" => Some(Subject::Plan(PlanId(number))),
        "wallet" => Some(Subject::Wallet(WalletId(u32::try_from(number).ok()?))),
        _ => None,
    }
}

/// Shows what happened to something, oldest first. It is named by its id: that of a customer, a withdrawal, a quote, a session or a
/// command; a transaction's or a block's hash; an output, `txid:vout`; or `plan:1`, `wallet:1`, `account:1`, `hold:1`. Of what never was
/// there is no event.
#[utoipa::path(get, path = "/api/v1/history/{id}", tag = "events", params(("id" = String, Path), ListParams),
    responses((status = 200, body = Page<EventView>), (status = "default", body = Problem)))]
async fn show_history(
    Shared(api): Shared<Arc<Api>>,
    Place(id): Place<String>,
    Params(params): Params<ListParams>,
) -> Reply<Page<EventView>> {
    let subject = subject_of(&id).ok_or_else(|| Problem::new("subject_invalid"))?;
    let span = params.span(place_of)?;
    let count = span.count();
    let records = past::search(&api, move |tables| tables.history(subject, span.after, count)).await?;
    let views = records.iter().map(|record| {
        let index = usize::try_from(record.place.position()).map_err(|_| Problem::new("event_unreadable"))?;
        let view = EventView::new(record.place.seq(), index, record.at, &record.event)?;
        Ok((record.place.to_number().to_string(), view))
    });
    let views: Vec<(String, EventView)> = views.collect::<Result<_, Problem>>()?;
    seen(Page::first(views.into_iter(), span.limit))
}

/// Which of a customer's accounts, and which part of it.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct TransferParams {
    /// The asset's code.
    asset: String,
    /// The `next` of the page before.
    after: Option<String>,
    /// How many at most: 1 to 500, 100 where absent.
    limit: Option<usize>,
}

/// A transfer into or out of a customer's account.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TransferView {
    /// Its row.
    seq: u64,
    /// When, in Unix milliseconds.
    time_ms: u64,
    /// `in` or `out`.
    direction: String,
    /// How much.
    amount: String,
    /// Why, such as `deposit_credited` or `withdrawal_fee`.
    reason: String,
    /// The other side: `customers`, `custody`, `plain`, or the house account's name.
    other: String,
}

impl TransferView {
    fn new(state: &State, account: &Account, record: &TransferRecord) -> TransferView {
        let is_in = record.credit == account.id;
        let other = if is_in { record.debit } else { record.credit };
        TransferView {
            seq: record.place.seq().0,
            time_ms: record.at.0,
            direction: if is_in { "in" } else { "out" }.to_owned(),
            amount: money(state, account.asset, record.amount),
            reason: record.reason.name(),
            other: state.ledger().account(other).map_or_else(String::new, |other| line_of(&other.owner)),
        }
    }
}

/// Lists what moved on a customer's account of an asset, the newest first. Sums of it are the customer's balance: what is held or
/// pending has not moved.
#[utoipa::path(get, path = "/api/v1/customers/{id}/transfers", tag = "customers",
    params(("id" = String, Path), TransferParams),
    responses((status = 200, body = Page<TransferView>), (status = "default", body = Problem)))]
async fn list_transfers_of(
    Shared(api): Shared<Arc<Api>>,
    Place(id): Place<String>,
    Params(TransferParams { asset, after, limit }): Params<TransferParams>,
) -> Reply<Page<TransferView>> {
    let span = ListParams { after, limit }.span(place_of)?;
    let account = api.read(|state| {
        let owner = Owner::Customer(customer_of(state, &id)?.id);
        Ok::<_, Problem>(state.ledger().account_of(&owner, asset_of(state, &asset)?.id).cloned())
    })?;
    // Whoever never had any of the asset has no account of it.
    let Some(account) = account else { return seen(Page { items: Vec::new(), next: None }) };
    let page = query::Page { before: span.after, count: span.count() };
    let records = past::search(&api, move |tables| tables.transfers(account.id, page)).await?;
    let named = |record: &TransferRecord| record.place.to_number().to_string();
    seen(api.read(|state| {
        let views = records.iter().map(|record| (named(record), TransferView::new(state, &account, record)));
        Page::first(views, span.limit)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_has_one_name_and_nonsense_has_none() {
        let uuid = "0190163d-8694-739b-aea5-966c26f8ad91";
        let hash = "ab".repeat(31) + "01";
        let named = [uuid, &hash, &format!("{hash}:7"), "plan:7", "wallet:7", "account:7", "hold:7"].map(subject_of);
        assert!(named.iter().all(Option::is_some), "{named:?}");
        assert!((1..named.len()).all(|index| !named[..index].contains(&named[index])), "{named:?}");
        let Some(Subject::Hash(bytes)) = named[1] else { panic!("{named:?}") };
        assert_eq!((bytes[0], bytes[31]), (1, 0xab));
        let wrong = ["", ":", "plan", "plan:", "plan:+1", "plan:-1", "deposit:1", "wallet:4294967296", &hash[2..]];
        assert_eq!(wrong.map(subject_of), [None; 9]);
    }
}
