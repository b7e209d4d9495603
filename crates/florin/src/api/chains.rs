//! Chains as we see them: journalled blocks, and the transactions that pay us or that we sent.

#![allow(unused_qualifications, reason = "the macro that describes parameters writes them")]

use crate::api::ask::{Nothing, Params, Place};
use crate::api::customers::PAGE_MAX;
use crate::api::problem::Problem;
use crate::api::view::{self, BlockView, ChainBlockView, Page, money, outpoint_text};
use crate::api::wallets::unknown_chain;
use crate::api::{Api, Reply, seen};
use axum::extract::State as Shared;
use florin_core::amount::Amount;
use florin_core::custody::{Deposit, Plan, PlanVersion};
use florin_core::id::{ChainId, Height};
use florin_core::state::{ChainState, State};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(list_chains)).routes(routes!(list_blocks)).routes(routes!(list_transactions))
}

/// A chain.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChainView {
    /// Its id.
    id: u32,
    /// Its name.
    name: String,
    /// `bitcoin` or `evm`.
    family: String,
    /// The hash of its first block.
    genesis: String,
    /// The code of its coin.
    coin: String,
    /// The last journalled block.
    tip: Option<BlockView>,
}

/// Lists the chains that are followed.
#[utoipa::path(get, path = "/api/v1/chains", tag = "chains",
    responses((status = 200, body = Page<ChainView>), (status = "default", body = Problem)))]
async fn list_chains(Shared(api): Shared<Arc<Api>>, Params(Nothing {}): Params<Nothing>) -> Reply<Page<ChainView>> {
    let items = api.read(|state| state.chains().values().map(|chain| chain_view(state, chain)).collect());
    seen(Page { items, next: None })
}

fn chain_view(state: &State, chain: &ChainState) -> ChainView {
    let coin = state.assets().get(&chain.chain.coin).map_or_else(String::new, |asset| asset.code.clone());
    ChainView {
        id: chain.chain.id.0,
        name: chain.chain.name.clone(),
        family: chain.chain.family.name(),
        genesis: chain.chain.genesis.to_string(),
        coin,
        tip: chain.tip().map(|tip| BlockView { height: tip.at.height.0, hash: tip.at.hash.to_string() }),
    }
}

/// Which blocks.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct BlockParams {
    /// Only blocks below this height.
    below: Option<u32>,
    /// How many at most: 1 to 500, 100 where absent.
    limit: Option<usize>,
}

/// Lists journalled blocks that may still be taken back, the tip first.
#[utoipa::path(get, path = "/api/v1/chains/{id}/blocks", tag = "chains", params(("id" = u32, Path), BlockParams),
    responses((status = 200, body = Page<ChainBlockView>), (status = "default", body = Problem)))]
async fn list_blocks(
    Shared(api): Shared<Arc<Api>>,
    Place(id): Place<u32>,
    Params(params): Params<BlockParams>,
) -> Reply<Page<ChainBlockView>> {
    let limit = params.limit.unwrap_or(100);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Problem::new("query_invalid").detail(format!("'limit' is 1 to {PAGE_MAX}")));
    }
    let below = params.below.map(Height);
    let blocks = api.read(|state| view::blocks(state, ChainId(id), below, limit + 1));
    let blocks = blocks.ok_or_else(|| unknown_chain(id))?;
    seen(Page::cut(blocks, limit, |block| block.height.to_string()))
}

/// A transaction that pays us, or that we sent.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TransactionView {
    /// Its id.
    txid: String,
    /// `deposit` or `payment`.
    kind: String,
    /// Where it stands: a deposit's or a plan's status.
    status: String,
    /// What it pays us, or others.
    amount: String,
    /// The network fee, of a payment.
    fee: Option<String>,
    /// Its block.
    block: Option<BlockView>,
    /// Confirmations now.
    confirmations: u32,
    /// The deposit's id, or the ids of the withdrawals paid.
    concerns: Vec<String>,
}

/// Lists transactions as we see them: deposits first, then the versions of our payments.
#[utoipa::path(get, path = "/api/v1/chains/{id}/transactions", tag = "chains", params(("id" = u32, Path)),
    responses((status = 200, body = Page<TransactionView>), (status = "default", body = Problem)))]
async fn list_transactions(
    Shared(api): Shared<Arc<Api>>,
    Place(id): Place<u32>,
    Params(Nothing {}): Params<Nothing>,
) -> Reply<Page<TransactionView>> {
    let items = api.read(|state| {
        let chain = state.chains().get(&ChainId(id)).ok_or_else(|| unknown_chain(id))?;
        let here = |deposit: &&Deposit| deposit.outpoint.chain == chain.chain.id;
        let deposits = state.deposits().values().filter(here).map(|deposit| deposit_transaction(state, chain, deposit));
        let ours =
            |plan: &&Plan| state.wallets().get(&plan.wallet).is_some_and(|wallet| wallet.chain == chain.chain.id);
        let payments = state.plans().values().filter(ours).flat_map(|plan| payment_transactions(state, chain, plan));
        Ok::<_, Problem>(deposits.chain(payments).collect())
    })?;
    seen(Page { items, next: None })
}

fn deposit_transaction(state: &State, chain: &ChainState, deposit: &Deposit) -> TransactionView {
    TransactionView {
        txid: deposit.outpoint.txid.to_string(),
        kind: "deposit".to_owned(),
        status: deposit.status.name(),
        amount: money(state, chain.chain.coin, deposit.amount),
        fee: None,
        block: deposit.at.map(|at| BlockView { height: at.height.0, hash: at.hash.to_string() }),
        confirmations: deposit.at.map_or(0, |at| chain.confirmations(at.height)),
        concerns: vec![outpoint_text(&deposit.outpoint)],
    }
}

fn payment_transactions<'a>(
    state: &'a State,
    chain: &'a ChainState,
    plan: &'a Plan,
) -> impl Iterator<Item = TransactionView> + 'a {
    let coin = chain.chain.coin;
    let signed = plan.versions.iter().filter_map(|version| version.txid.map(|txid| (version, txid)));
    signed.map(move |(version, txid)| {
        let paid = plan.paid.as_ref().filter(|paid| paid.txid == txid);
        TransactionView {
            txid: txid.to_string(),
            kind: "payment".to_owned(),
            status: plan.status.name(),
            amount: money(state, coin, paid_by(state, version)),
            fee: Some(money(state, coin, version.fee)),
            block: paid.map(|paid| BlockView { height: paid.at.height.0, hash: paid.at.hash.to_string() }),
            confirmations: paid.map_or(0, |paid| chain.confirmations(paid.at.height)),
            concerns: version.payments.iter().map(|payment| payment.withdrawal.to_string()).collect(),
        }
    })
}

/// What a version pays to withdrawals that are not archived.
pub(crate) fn paid_by(state: &State, version: &PlanVersion) -> Amount {
    let withdrawals = version.payments.iter().filter_map(|payment| state.withdrawals().get(&payment.withdrawal));
    withdrawals.map(|withdrawal| withdrawal.amount).sum()
}
