//! Deposits as customers and operators see them, finished ones included. What counts is for the rules and the chain.

#![allow(unused_qualifications, reason = "the macro that describes parameters writes them")]

use crate::api::ask::{Params, Place, outpoint};
use crate::api::customers::customer_of;
use crate::api::pages::{ListParams, Page};
use crate::api::past;
use crate::api::problem::Problem;
use crate::api::view::DepositView;
use crate::api::{Api, Reply, seen};
use crate::platform::CHAIN;
use axum::extract::State as Shared;
use florin_core::id::{ChainId, LedgerTime};
use florin_core::state::State;
use florin_store::projection::query::{DepositKey, DepositRecord};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(list_deposits_of)).routes(routes!(list_deposits)).routes(routes!(show_deposit))
}

/// A deposit's place in lists, as `next` names it.
pub(crate) fn name(key: &DepositKey) -> String {
    let DepositKey { seen, outpoint } = key;
    format!("{}:{}:{}:{}", seen.0, outpoint.chain.0, outpoint.txid, outpoint.vout)
}

fn cursor(text: &str) -> Option<DepositKey> {
    let (seen, output) = text.split_once(':')?;
    let (chain, output) = output.split_once(':')?;
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let outpoint = outpoint(ChainId(chain.parse().ok().filter(|_| is_number(chain))?), output)?;
    Some(DepositKey { seen: LedgerTime(seen.parse().ok().filter(|_| is_number(seen))?), outpoint })
}

/// Lists a customer's deposits, finished ones included: those that were seen last come first.
#[utoipa::path(get, path = "/api/v1/customers/{id}/deposits", tag = "deposits",
    params(("id" = String, Path), ListParams),
    responses((status = 200, body = Page<DepositView>), (status = "default", body = Problem)))]
async fn list_deposits_of(
    Shared(api): Shared<Arc<Api>>,
    Place(id): Place<String>,
    Params(params): Params<ListParams>,
) -> Reply<Page<DepositView>> {
    let span = params.span(cursor)?;
    let owner = api.read(|state| customer_of(state, &id).map(|customer| customer.id))?;
    seen(past::page(&api, span, move |tables, before, count| tables.deposits(Some(owner), before, count)).await?)
}

/// Lists deposits, those to the house's inventory and finished ones included: those that were seen last come first.
#[utoipa::path(get, path = "/api/v1/deposits", tag = "deposits", params(ListParams),
    responses((status = 200, body = Page<DepositView>), (status = "default", body = Problem)))]
async fn list_deposits(Shared(api): Shared<Arc<Api>>, Params(params): Params<ListParams>) -> Reply<Page<DepositView>> {
    let span = params.span(cursor)?;
    seen(past::page(&api, span, |tables, before, count| tables.deposits(None, before, count)).await?)
}

/// Which deposit.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DepositParams {
    /// The chain's id; 1 where absent.
    chain: Option<u32>,
}

/// Shows a deposit by its transaction and output, `txid:vout`.
#[utoipa::path(get, path = "/api/v1/deposits/{id}", tag = "deposits", params(("id" = String, Path), DepositParams),
    responses((status = 200, body = DepositView), (status = "default", body = Problem)))]
async fn show_deposit(
    Shared(api): Shared<Arc<Api>>,
    Place(id): Place<String>,
    Params(params): Params<DepositParams>,
) -> Reply<DepositView> {
    let outpoint =
        outpoint(params.chain.map_or(CHAIN, ChainId), &id).ok_or_else(|| Problem::new("outpoint_invalid"))?;
    let live = |state: &State| state.deposits().get(&outpoint).map(|deposit| DepositView::new(state, deposit));
    let found = past::one::<DepositRecord>(&api, live, move |tables| tables.deposit(outpoint)).await?;
    seen(found.ok_or_else(|| Problem::new("deposit_unknown"))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use florin_core::custody::OutPoint;
    use florin_core::id::TxId;

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_nothing_else_is() {
        let outpoint = OutPoint { chain: ChainId(3), txid: TxId([7; 32]), vout: u32::MAX };
        let key = DepositKey { seen: LedgerTime(u64::MAX), outpoint };
        assert_eq!(cursor(&name(&key)), Some(key));
        let txid = "07".repeat(32);
        for wrong in [
            String::new(),
            txid.clone(),
            format!("1:{txid}:0"),
            format!("1:1:{txid}"),
            format!("1:1:{txid}:"),
            format!("+1:1:{txid}:0"),
            format!("1:+1:{txid}:0"),
            format!(":1:{txid}:0"),
            format!("1:1:{txid}:4294967296"),
            format!("18446744073709551616:1:{txid}:0"),
            format!("1:1:{}:0", "0g".repeat(32)),
        ] {
            assert_eq!(cursor(&wrong), None, "{wrong}");
        }
    }
}
