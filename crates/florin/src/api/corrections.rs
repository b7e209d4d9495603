//! Corrections by an operator. What may be corrected is for the rules; names of accounts become owners here, and no more.

use crate::api::ask::{AmountText, Order};
use crate::api::customers::customer_id;
use crate::api::problem::Problem;
use crate::api::view::{DoneView, asset_of, quoted};
use crate::api::{Api, Reply, created};
use axum::extract::State as Shared;
use florin_core::command::Command;
use florin_core::ledger::{HouseAccount, Owner};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(book_correction))
}

/// What was booked wrongly, and is put right by a new transfer.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Correction {
    /// The operator's reference, of a voucher or a case: unique for ever. No personal data: it stays in the journal.
    reference: String,
    /// The asset's code.
    asset: String,
    /// How much moves.
    amount: AmountText,
    /// Who gives: a customer's id, `inventory`, `fees` or `spread`.
    debit: String,
    /// Who gets: the same, or `bank` for money that is not at the bank.
    credit: String,
}

/// The owner that a word means. All accounts of the house have their names, so that the rules say which of them no correction
/// touches.
fn owner(text: &str) -> Result<Owner, Problem> {
    if let Some(account) = HouseAccount::ALL.iter().find(|account| account.name() == text) {
        return Ok(Owner::House(*account));
    }
    let expected = "and no account that is corrected: 'inventory', 'fees', 'spread' and, to be credited, 'bank'";
    let unknown = |_| {
        Problem::titled("customer_unknown", "there is no such customer".to_owned())
            .detail(format!("{}, {expected}", quoted(text)))
    };
    customer_id(text).map(Owner::Customer).map_err(unknown)
}

/// Books a correction: a transfer between accounts of customers and of the house. Nothing in the books is ever changed.
#[utoipa::path(post, path = "/api/v1/corrections", tag = "operations", request_body = Correction,
    responses((status = 201, body = DoneView), (status = "default", body = Problem)))]
async fn book_correction(Shared(api): Shared<Arc<Api>>, order: Order<Correction>) -> Reply<DoneView> {
    let Correction { reference, asset, amount, debit, credit } = &order.body;
    let (debit, credit) = (owner(debit)?, owner(credit)?);
    let (asset, amount) = api.read(|state| {
        let asset = asset_of(state, asset)?;
        Ok::<_, Problem>((asset.id, amount.parse(asset.decimals)?))
    })?;
    let reference = reference.clone();
    api.execute(order.origin, Command::BookCorrection { reference, asset, amount, debit, credit }).await?;
    created(DoneView { done: true })
}
