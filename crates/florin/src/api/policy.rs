//! How an asset is handled, and the way to change it. What may be changed to what, the ledger's rules say.

#![allow(unused_qualifications, reason = "the macro that describes parameters writes them")]

use crate::api::ask::{AmountText, Nothing, Object, Order, Params, Place};
use crate::api::problem::Problem;
use crate::api::view::{AssetView, asset_of};
use crate::api::{Api, Reply, seen};
use axum::extract::State as Shared;
use florin_core::asset::{AssetPolicy, DepthStep};
use florin_core::command::Command;
use florin_core::decide::WithdrawalRefusal;
use florin_core::state::State;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(show_asset)).routes(routes!(change_policy))
}

/// From which amount on a deposit waits for how many confirmations.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewDepth {
    /// From this amount on.
    amount_from: AmountText,
    /// So many.
    confirmations: u32,
}

/// What is to be changed; what is absent stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PolicyChange {
    /// All steps, growing, the first of them from 0 on.
    #[schema(value_type = Option<Vec<NewDepth>>)]
    depths: Option<Vec<Object<NewDepth>>>,
    /// Below this a deposit is shown and not credited.
    deposit_min: Option<AmountText>,
    /// The smallest withdrawal.
    withdrawal_min: Option<AmountText>,
    /// What a withdrawal costs the customer.
    withdrawal_fee: Option<AmountText>,
    /// Above this a withdrawal waits for operators' approvals. Not more than the signer's own limit of one payment.
    automatic_max: Option<AmountText>,
    /// Confirmations after which a withdrawal is final.
    final_confirmations: Option<u32>,
    /// For how many seconds a credited deposit that left the chain may stay away before it is debited.
    missing_s: Option<u64>,
    /// For how many seconds after its request a withdrawal may be signed.
    intent_s: Option<u64>,
    /// The most network fee that one transaction may pay.
    network_fee_max: Option<AmountText>,
    /// How many blocks are kept in memory to take them back at once, and never fewer than any depth above; 0 for the default.
    kept_blocks: Option<u32>,
}

/// Shows an asset and how it is handled.
#[utoipa::path(get, path = "/api/v1/assets/{code}", tag = "operations", params(("code" = String, Path)),
    responses((status = 200, body = AssetView), (status = "default", body = Problem)))]
async fn show_asset(
    Shared(api): Shared<Arc<Api>>,
    Place(code): Place<String>,
    Params(Nothing {}): Params<Nothing>,
) -> Reply<AssetView> {
    seen(api.read(|state| asset_of(state, &code).map(|asset| AssetView::new(state, asset)))?)
}

fn changed(state: &State, code: &str, change: &PolicyChange) -> Result<AssetPolicy, Problem> {
    let asset = asset_of(state, code)?;
    let mut policy = state.policies().get(&asset.id).cloned().ok_or_else(|| {
        let refusal = WithdrawalRefusal::PolicyMissing;
        Problem::titled(refusal.code(), refusal.to_string()).detail(format!("{} is on no chain", asset.code))
    })?;
    let amounts = [
        (&change.deposit_min, &mut policy.deposit_min),
        (&change.withdrawal_min, &mut policy.withdrawal_min),
        (&change.withdrawal_fee, &mut policy.withdrawal_fee),
        (&change.automatic_max, &mut policy.automatic_max),
        (&change.network_fee_max, &mut policy.network_fee_max),
    ];
    for (said, amount) in amounts {
        if let Some(said) = said {
            *amount = said.parse(asset.decimals)?;
        }
    }
    for (said, time_ms) in [(change.missing_s, &mut policy.missing_ms), (change.intent_s, &mut policy.intent_ms)] {
        if let Some(said) = said {
            *time_ms =
                said.checked_mul(1_000).ok_or_else(|| Problem::new("body_invalid").detail("too many seconds"))?;
        }
    }
    if let Some(depths) = &change.depths {
        let step = |Object(new): &Object<NewDepth>| {
            let amount_from = new.amount_from.parse(asset.decimals)?;
            Ok(DepthStep { amount_from, confirmations: new.confirmations })
        };
        policy.depths = depths.iter().map(step).collect::<Result<_, Problem>>()?;
    }
    policy.final_confirmations = change.final_confirmations.unwrap_or(policy.final_confirmations);
    if let Some(said) = change.kept_blocks {
        policy.kept_blocks = (said > 0).then_some(said);
    }
    Ok(policy)
}

/// Changes how an asset is handled from now on. Deposits that the new rules credit are credited within seconds.
#[utoipa::path(post, path = "/api/v1/assets/{code}/policy", tag = "operations", params(("code" = String, Path)),
    request_body = PolicyChange, responses((status = 200, body = AssetView), (status = "default", body = Problem)))]
async fn change_policy(
    Shared(api): Shared<Arc<Api>>,
    Place(code): Place<String>,
    order: Order<PolicyChange>,
) -> Reply<AssetView> {
    let policy = api.read(|state| changed(state, &code, &order.body))?;
    api.execute(order.origin, Command::SetAssetPolicy(policy)).await?;
    seen(api.read(|state| asset_of(state, &code).map(|asset| AssetView::new(state, asset)))?)
}
