//! Chains as we see them: journalled blocks, and the transactions that pay us or that we sent.

#![allow(unused_qualifications, reason = "the macro that describes parameters writes them")]

use crate::api::ask::{Nothing, Params, Place, outpoint};
use crate::api::pages::{ListParams, Page, number};
use crate::api::problem::Problem;
use crate::api::view::{self, BlockView, ChainBlockView, money, outpoint_text};
use crate::api::wallets::unknown_chain;
use crate::api::{Api, Reply, seen};
use axum::extract::State as Shared;
use florin_core::amount::Amount;
use florin_core::custody::{Deposit, OutPoint, Plan, PlanVersion};
use florin_core::id::{ChainId, Height, PlanId};
use florin_core::state::{ChainState, State};
use serde::{Deserialize, Serialize};
use std::ops::{Bound, RangeBounds};
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
    let limit = ListParams { after: None, limit: params.limit }.limit()?;
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

/// A transaction's place in the list: deposits come first, then the versions of our payments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Spot {
    Deposit(OutPoint),
    Payment(PlanId, usize),
}

impl Spot {
    /// As `next` names it.
    fn name(&self) -> String {
        match self {
            Spot::Deposit(outpoint) => format!("deposit:{}", outpoint_text(outpoint)),
            Spot::Payment(plan, version) => format!("payment:{}:{version}", plan.0),
        }
    }

    fn read(chain: ChainId, text: &str) -> Option<Spot> {
        match text.split_once(':')? {
            ("deposit", output) => Some(Spot::Deposit(outpoint(chain, output)?)),
            ("payment", rest) => {
                let (plan, version) = rest.split_once(':')?;
                let is_number = plan.bytes().all(|byte| byte.is_ascii_digit());
                let plan = PlanId(plan.parse().ok().filter(|_| is_number)?);
                Some(Spot::Payment(plan, usize::try_from(number(version)?).ok()?))
            }
            _ => None,
        }
    }
}

/// Lists transactions as we see them: deposits first, then the versions of our payments. Those that left with their blocks are found by
/// their deposits and withdrawals.
#[utoipa::path(get, path = "/api/v1/chains/{id}/transactions", tag = "chains", params(("id" = u32, Path), ListParams),
    responses((status = 200, body = Page<TransactionView>), (status = "default", body = Problem)))]
async fn list_transactions(
    Shared(api): Shared<Arc<Api>>,
    Place(id): Place<u32>,
    Params(params): Params<ListParams>,
) -> Reply<Page<TransactionView>> {
    let (limit, start) = (params.limit()?, params.start(|text| Spot::read(ChainId(id), text))?);
    seen(api.read(|state| {
        let chain = state.chains().get(&ChainId(id)).ok_or_else(|| unknown_chain(id))?;
        Ok::<_, Problem>(Page::first(transactions(state, chain, start), limit))
    })?)
}

fn transactions<'a>(
    state: &'a State,
    chain: &'a ChainState,
    start: Bound<Spot>,
) -> impl Iterator<Item = (String, TransactionView)> + 'a {
    let (outpoints, plans) = match start {
        Bound::Excluded(Spot::Deposit(outpoint)) => (Some(Bound::Excluded(outpoint)), Bound::Unbounded),
        // More versions of this very plan may follow.
        Bound::Excluded(Spot::Payment(plan, _)) => (None, Bound::Included(plan)),
        Bound::Included(_) | Bound::Unbounded => (Some(Bound::Unbounded), Bound::Unbounded),
    };
    let deposits = outpoints.into_iter().flat_map(|from| state.deposits().range((from, Bound::Unbounded)));
    let here = deposits.filter(|(outpoint, _)| outpoint.chain == chain.chain.id);
    let deposits =
        here.map(|(outpoint, deposit)| (Spot::Deposit(*outpoint), deposit_transaction(state, chain, deposit)));
    let ours = |plan: &&Plan| state.wallets().get(&plan.wallet).is_some_and(|wallet| wallet.chain == chain.chain.id);
    let plans = state.plans().range((plans, Bound::Unbounded)).map(|(_, plan)| plan).filter(ours);
    let payments = plans.flat_map(|plan| payment_transactions(state, chain, plan));
    let rest = deposits.chain(payments).filter(move |(spot, _)| (start, Bound::Unbounded).contains(spot));
    rest.map(|(spot, view)| (spot.name(), view))
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
) -> impl Iterator<Item = (Spot, TransactionView)> + 'a {
    let coin = chain.chain.coin;
    let versions = plan.versions.iter().enumerate();
    let signed = versions.filter_map(|(number, version)| version.txid.map(|txid| (number, version, txid)));
    signed.map(move |(number, version, txid)| {
        let paid = plan.paid.as_ref().filter(|paid| paid.txid == txid);
        let view = TransactionView {
            txid: txid.to_string(),
            kind: "payment".to_owned(),
            status: plan.status.name(),
            amount: money(state, coin, paid_by(state, version)),
            fee: Some(money(state, coin, version.fee)),
            block: paid.map(|paid| BlockView { height: paid.at.height.0, hash: paid.at.hash.to_string() }),
            confirmations: paid.map_or(0, |paid| chain.confirmations(paid.at.height)),
            concerns: version.payments.iter().map(|payment| payment.withdrawal.to_string()).collect(),
        };
        (Spot::Payment(plan.id, number), view)
    })
}

/// What a version pays to withdrawals that are not archived.
pub(crate) fn paid_by(state: &State, version: &PlanVersion) -> Amount {
    let withdrawals = version.payments.iter().filter_map(|payment| state.withdrawals().get(&payment.withdrawal));
    withdrawals.map(|withdrawal| withdrawal.amount).sum()
}
