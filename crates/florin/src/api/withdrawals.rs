//! Withdrawals: asked for, approved, cancelled, followed. The address is decoded here; everything else is for the rules and the signer.

use crate::api::ask::{AmountText, Nothing, Order, Params, Place, hex};
use crate::api::customers::{customer_id, customer_of, wallet_for};
use crate::api::pages::{ListParams, Page};
use crate::api::past;
use crate::api::problem::Problem;
use crate::api::view::{WithdrawalView, asset_of};
use crate::api::wallets::wallet_to_pay;
use crate::api::{Api, Reply, created, seen};
use axum::extract::State as Shared;
use florin_chain::bitcoin::address::parse_address;
use florin_chain::bitcoin::plan::dust_sat;
use florin_core::amount::Amount;
use florin_core::asset::Asset;
use florin_core::command::{Command, Outcome};
use florin_core::custody::Approval;
use florin_core::id::{AssetId, WithdrawalId};
use florin_core::state::State;
use florin_core::wire::Bytes;
use florin_engine::scripts::network_of;
use florin_store::projection::query::WithdrawalRecord;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(request_withdrawal, list_withdrawals))
        .routes(routes!(list_withdrawals_of))
        .routes(routes!(show_withdrawal))
        .routes(routes!(approve_withdrawal))
        .routes(routes!(cancel_withdrawal))
}

/// A request for a withdrawal.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewWithdrawal {
    /// By whom.
    customer: String,
    /// The code of a coin.
    asset: String,
    /// What arrives; the fee comes on top.
    amount: AmountText,
    /// Where to.
    address: String,
    /// The wallet that pays; the newest hot one where absent.
    wallet: Option<u32>,
}

fn unknown() -> Problem {
    Problem::titled("withdrawal_unknown", "there is no such withdrawal".to_owned())
}

fn withdrawal_id(text: &str) -> Result<WithdrawalId, Problem> {
    WithdrawalId::parse(text).ok_or_else(unknown)
}

/// The output script of an address on the chain of an asset.
fn script_of(state: &State, asset: AssetId, address: &str) -> Result<Bytes, Problem> {
    let chain = state.assets().get(&asset).and_then(|asset| asset.chain).and_then(|chain| state.chains().get(&chain));
    let network = chain.and_then(|chain| network_of(chain.chain.genesis));
    let network = network.ok_or_else(|| Problem::new("asset_not_on_chain"))?;
    let script = parse_address(network, address).map_err(|error| Problem::titled(error.code(), error.to_string()))?;
    Ok(Bytes(script.into_bytes()))
}

/// Refuses what the policy allows and no node would relay: it would be held, and never be paid. The rules know no chain's scripts,
/// so this is judged where the address is read. What stays in the ledger may be as small as the policy says.
fn refuse_dust(state: &State, asset: &Asset, amount: Amount, script: &Bytes) -> Result<(), Problem> {
    let is_allowed = state.policies().get(&asset.id).is_some_and(|policy| amount >= policy.withdrawal_min);
    let least = Amount::new(u128::from(dust_sat(bitcoin::Script::from_bytes(&script.0))));
    if !is_allowed || amount >= least || state.scripts().contains_key(script) {
        return Ok(());
    }
    let (least, code) = (least.format(asset.decimals), &asset.code);
    Err(Problem::new("withdrawal_below_dust").detail(format!("nodes relay at least {least} {code} to this address")))
}

/// The view of a withdrawal, finished or not.
async fn view(api: &Arc<Api>, id: WithdrawalId) -> Result<WithdrawalView, Problem> {
    let live = |state: &State| state.withdrawals().get(&id).map(|found| WithdrawalView::new(state, found));
    past::one::<WithdrawalRecord>(api, live, move |tables| tables.withdrawal(id)).await?.ok_or_else(unknown)
}

/// Asks for a withdrawal. Its id is the command's.
#[utoipa::path(post, path = "/api/v1/withdrawals", tag = "withdrawals", request_body = NewWithdrawal,
    responses((status = 201, body = WithdrawalView), (status = "default", body = Problem)))]
async fn request_withdrawal(Shared(api): Shared<Arc<Api>>, order: Order<NewWithdrawal>) -> Reply<WithdrawalView> {
    let new = &order.body;
    let customer = customer_id(&new.customer)?;
    let command = api.read(|state| {
        let asset = asset_of(state, &new.asset)?;
        let amount = new.amount.parse(asset.decimals)?;
        let script = script_of(state, asset.id, &new.address)?;
        let chosen = asset.chain.filter(|_| new.wallet.is_none());
        let wallet = match chosen.and_then(|chain| wallet_to_pay(state, chain, amount)) {
            Some(wallet) => wallet,
            None => wallet_for(state, asset.id, new.wallet)?,
        };
        refuse_dust(state, asset, amount, &script)?;
        Ok::<_, Problem>(Command::RequestWithdrawal { customer, asset: asset.id, amount, script, wallet })
    })?;
    let outcome = api.execute(order.origin, command).await?;
    let Outcome::Withdrawal(id) = outcome else { return Err(Problem::new("internal")) };
    created(view(&api, id).await?)
}

/// Lists withdrawals, finished ones included, by id: those that were requested last come first.
#[utoipa::path(get, path = "/api/v1/withdrawals", tag = "withdrawals", params(ListParams),
    responses((status = 200, body = Page<WithdrawalView>), (status = "default", body = Problem)))]
async fn list_withdrawals(
    Shared(api): Shared<Arc<Api>>,
    Params(params): Params<ListParams>,
) -> Reply<Page<WithdrawalView>> {
    let span = params.span(WithdrawalId::parse)?;
    seen(past::page(&api, span, |tables, before, count| tables.withdrawals(None, before, count)).await?)
}

/// Lists a customer's withdrawals, finished ones included, by id: those that were requested last come first.
#[utoipa::path(get, path = "/api/v1/customers/{id}/withdrawals", tag = "withdrawals",
    params(("id" = String, Path), ListParams),
    responses((status = 200, body = Page<WithdrawalView>), (status = "default", body = Problem)))]
async fn list_withdrawals_of(
    Shared(api): Shared<Arc<Api>>,
    Place(id): Place<String>,
    Params(params): Params<ListParams>,
) -> Reply<Page<WithdrawalView>> {
    let span = params.span(WithdrawalId::parse)?;
    let owner = api.read(|state| customer_of(state, &id).map(|customer| customer.id))?;
    seen(past::page(&api, span, move |tables, before, count| tables.withdrawals(Some(owner), before, count)).await?)
}

/// Shows a withdrawal.
#[utoipa::path(get, path = "/api/v1/withdrawals/{id}", tag = "withdrawals", params(("id" = String, Path)),
    responses((status = 200, body = WithdrawalView), (status = "default", body = Problem)))]
async fn show_withdrawal(Shared(api): Shared<Arc<Api>>, Place(id): Place<String>) -> Reply<WithdrawalView> {
    seen(view(&api, withdrawal_id(&id)?).await?)
}

/// An operator's approval, made by `florin approve` on the operator's machine.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewApproval {
    /// The operator's Ed25519 public key: 64 hexadecimal digits.
    key: String,
    /// The signature over the intent's digest: 128 hexadecimal digits.
    signature: String,
    /// Whether the withdrawal has all approvals now that the signer's policy asks for. The signer judges by itself.
    complete: bool,
}

/// Adds an operator's approval. Its signature must be right; whether its key counts, the signer's policy says.
#[utoipa::path(post, path = "/api/v1/withdrawals/{id}/approvals", tag = "withdrawals", params(("id" = String, Path)),
    request_body = NewApproval,
    responses((status = 200, body = WithdrawalView), (status = "default", body = Problem)))]
async fn approve_withdrawal(
    Shared(api): Shared<Arc<Api>>,
    Place(id): Place<String>,
    order: Order<NewApproval>,
) -> Reply<WithdrawalView> {
    let withdrawal = withdrawal_id(&id)?;
    let approval = Approval { key: hex("key", &order.body.key)?, signature: hex("signature", &order.body.signature)? };
    let complete = order.body.complete;
    // A wrong one would be kept with the withdrawal: it counts for nothing, and the operator could not give another one. A
    // withdrawal that has left the state is for the rules to refuse.
    let is_wrong = api.read(|state| {
        let intent = state.withdrawals().get(&withdrawal).map(|found| &found.intent);
        intent.is_some_and(|intent| !florin_signer::approve::is_over(&approval, intent))
    });
    if is_wrong {
        return Err(Problem::new("approval_signature_invalid"));
    }
    api.execute(order.origin, Command::ApproveWithdrawal { withdrawal, approval, complete }).await?;
    seen(view(&api, withdrawal).await?)
}

/// Takes a withdrawal back, as long as its signing was not requested.
#[utoipa::path(post, path = "/api/v1/withdrawals/{id}/cancel", tag = "withdrawals", params(("id" = String, Path)),
    responses((status = 200, body = WithdrawalView), (status = "default", body = Problem)))]
async fn cancel_withdrawal(
    Shared(api): Shared<Arc<Api>>,
    Place(id): Place<String>,
    order: Order<Nothing>,
) -> Reply<WithdrawalView> {
    let withdrawal = withdrawal_id(&id)?;
    api.execute(order.origin, Command::CancelWithdrawal { withdrawal }).await?;
    seen(view(&api, withdrawal).await?)
}
