//! Plans: which transactions pay withdrawals, how each stands, and the operator's word that one can never confirm. Never says that a plan is lost because it is not seen:
//! what is missing may return.

#![allow(unused_qualifications, reason = "the macro that describes parameters writes them")]

use crate::api::ask::{Order, Params, Place, choice, hex, outpoint};
use crate::api::chains::paid_by;
use crate::api::pages::{ListParams, Page};
use crate::api::problem::Problem;
use crate::api::view::{BlockView, money, outpoint_text};
use crate::api::{Api, Reply, seen};
use crate::platform::CHAIN;
use axum::extract::State as Shared;
use florin_core::command::Command;
use florin_core::custody::{BlockRef, OutPoint, Payment, Plan, PlanStatus, PlanVersion, WithdrawalStatus};
use florin_core::id::{BlockHash, Height, PlanId, TxId};
use florin_core::state::State;
use florin_engine::workers::lookout::Missing;
use serde::{Deserialize, Serialize};
use std::ops::Bound;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(list_plans)).routes(routes!(show_plan)).routes(routes!(prove_conflict))
}

/// Where a plan stands, as it is shown: core's word, and whether nodes have its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Plan(PlanStatus),
    Broadcast,
}

impl Standing {
    const ALL: [Standing; 7] = [
        Standing::Plan(PlanStatus::Signing),
        Standing::Plan(PlanStatus::Signed),
        Standing::Broadcast,
        Standing::Plan(PlanStatus::Confirmed),
        Standing::Plan(PlanStatus::Final),
        Standing::Plan(PlanStatus::Voided),
        Standing::Plan(PlanStatus::Conflicted),
    ];

    fn of(state: &State, plan: &Plan) -> Standing {
        let is_seen = |id| {
            let withdrawal = state.withdrawals().get(id);
            withdrawal.is_some_and(|withdrawal| withdrawal.status == WithdrawalStatus::Broadcast)
        };
        let mut paid = newest(plan).payments.iter().map(|payment| &payment.withdrawal);
        match plan.status {
            PlanStatus::Signed if paid.any(is_seen) => Standing::Broadcast,
            status => Standing::Plan(status),
        }
    }

    fn name(self) -> String {
        match self {
            Standing::Plan(status) => status.name(),
            Standing::Broadcast => WithdrawalStatus::Broadcast.name(),
        }
    }
}

/// A plan.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlanView {
    /// Its id.
    id: u64,
    /// The wallet that pays.
    wallet: u32,
    /// The asset's code.
    asset: String,
    /// `signing`, `signed`, `broadcast`, `confirmed`, `final`, `voided` or `conflicted`.
    status: String,
    /// What it pays; absent once a withdrawal of it is archived.
    amount: Option<String>,
    /// Its network fee.
    fee: String,
    /// What it spends, all of it or nothing.
    inputs: Vec<PlanInputView>,
    /// Ids of the withdrawals that it pays.
    withdrawals: Vec<String>,
    /// Ids of its signed transactions, the newest last.
    signed_txids: Vec<String>,
    /// The transaction that paid it; of a conflicted plan the one that made it impossible.
    txid: Option<String>,
    /// That transaction's block.
    block: Option<BlockView>,
    /// Confirmations now.
    confirmations: u32,
    /// What it waits for, in a sentence; where it may never confirm, what can be done.
    waits_for: Option<String>,
}

/// An input of a plan.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlanInputView {
    /// Transaction and output: `txid:vout`.
    id: String,
    /// What it holds; absent while it is not in the books.
    amount: Option<String>,
    /// Whether it is in the books, spent or not.
    present: bool,
}

fn newest(plan: &Plan) -> &PlanVersion {
    plan.versions.last().expect("a plan has at least one version")
}

fn view(state: &State, plan: &Plan) -> PlanView {
    let chain = &state.chains()[&plan.anchor.chain];
    let coin = chain.chain.coin;
    let version = newest(plan);
    let input = |input: &OutPoint| {
        let held = state.coins().get(input);
        let amount = held.map(|held| money(state, coin, held.amount));
        PlanInputView { id: outpoint_text(input), present: amount.is_some(), amount }
    };
    let is_whole = version.payments.iter().all(|payment| state.withdrawals().contains_key(&payment.withdrawal));
    let paid = plan.paid.as_ref();
    PlanView {
        id: plan.id.0,
        wallet: plan.wallet.0,
        asset: state.assets().get(&coin).map_or_else(String::new, |asset| asset.code.clone()),
        status: Standing::of(state, plan).name(),
        amount: is_whole.then(|| money(state, coin, paid_by(state, version))),
        fee: money(state, coin, version.fee),
        inputs: plan.inputs.iter().map(input).collect(),
        withdrawals: version.payments.iter().map(|payment| payment.withdrawal.to_string()).collect(),
        signed_txids: plan.versions.iter().filter_map(|version| version.txid).map(|txid| txid.to_string()).collect(),
        txid: paid.map(|paid| paid.txid.to_string()),
        block: paid.map(|paid| BlockView { height: paid.at.height.0, hash: paid.at.hash.to_string() }),
        confirmations: paid.map_or(0, |paid| chain.confirmations(paid.at.height)),
        waits_for: waits_for(state, plan),
    }
}

fn waits_for(state: &State, plan: &Plan) -> Option<String> {
    match plan.status {
        PlanStatus::Signing | PlanStatus::Signed => Some(match Missing::of(state, plan) {
            Some(missing) => missing.to_string(),
            None if plan.status == PlanStatus::Signing => "the signer".to_owned(),
            None => "a block".to_owned(),
        }),
        PlanStatus::Confirmed => {
            let chain = &state.chains()[&plan.anchor.chain];
            let needed = state.policies().get(&chain.chain.coin).map_or(0, |policy| policy.final_confirmations);
            let confirmations = plan.paid.as_ref().map_or(0, |paid| chain.confirmations(paid.at.height));
            Some(format!("{} more blocks", needed.saturating_sub(confirmations)))
        }
        PlanStatus::Final | PlanStatus::Voided | PlanStatus::Conflicted => None,
    }
}

/// Which plans.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PlanParams {
    /// Only those that stand so: `signing`, `signed`, `broadcast`, `confirmed`, `final`, `voided` or `conflicted`.
    status: Option<String>,
    /// The `next` of the page before.
    after: Option<String>,
    /// How many at most: 1 to 500, 100 where absent.
    limit: Option<usize>,
}

/// Lists plans in order of id, the oldest first. Those that ended long ago have left.
#[utoipa::path(get, path = "/api/v1/plans", tag = "withdrawals", params(PlanParams),
    responses((status = 200, body = Page<PlanView>), (status = "default", body = Problem)))]
async fn list_plans(Shared(api): Shared<Arc<Api>>, Params(params): Params<PlanParams>) -> Reply<Page<PlanView>> {
    let PlanParams { status, after, limit } = params;
    let list = ListParams { after, limit };
    let limit = list.limit()?;
    let status = status.map(|word| choice("status", &word, &Standing::ALL, Standing::name)).transpose()?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let start = list.start(|text| text.parse().ok().filter(|_| digits(text)).map(PlanId))?;
    let views: Vec<PlanView> = api.read(|state| {
        let plans = state.plans().range((start, Bound::Unbounded)).map(|(_, plan)| plan);
        let wanted = plans.filter(|plan| status.is_none_or(|status| Standing::of(state, plan) == status));
        wanted.take(limit + 1).map(|plan| view(state, plan)).collect()
    });
    seen(Page::cut(views, limit, |plan| plan.id.to_string()))
}

fn shown(api: &Api, id: PlanId) -> Result<PlanView, Problem> {
    let found = api.read(|state| state.plans().get(&id).map(|plan| view(state, plan)));
    found.ok_or_else(|| Problem::titled("plan_unknown", "there is no such plan".to_owned()))
}

/// Shows a plan.
#[utoipa::path(get, path = "/api/v1/plans/{id}", tag = "withdrawals", params(("id" = u64, Path)),
    responses((status = 200, body = PlanView), (status = "default", body = Problem)))]
async fn show_plan(Shared(api): Shared<Arc<Api>>, Place(id): Place<u64>) -> Reply<PlanView> {
    seen(shown(&api, PlanId(id))?)
}

/// An operator's word that a plan's input can never be had.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Conflict {
    /// The plan's input that is gone: `txid:vout`.
    input: String,
    /// The transaction that spent what the one that made this input had spent: 64 hexadecimal digits.
    txid: String,
    /// The height of that transaction's block, which has to be final.
    block_height: u32,
    /// The block's hash: 64 hexadecimal digits.
    block_hash: String,
}

/// A hash as people write it: its bytes from the last to the first.
fn written_hash(what: &str, text: &str) -> Result<[u8; 32], Problem> {
    let mut bytes: [u8; 32] = hex(what, text)?;
    bytes.reverse();
    Ok(bytes)
}

/// Ends a plan that can never confirm, on an operator's word; its withdrawals are refunded, or final where another transaction has paid them. Checked is that the input is gone and that the block is final. That the
/// transaction is in the block, and takes that input's place, only the operator knows: where it does not, what is refunded now may still be paid.
#[utoipa::path(post, path = "/api/v1/plans/{id}/conflict", tag = "withdrawals", params(("id" = u64, Path)),
    request_body = Conflict,
    responses((status = 200, body = PlanView), (status = "default", body = Problem)))]
async fn prove_conflict(
    Shared(api): Shared<Arc<Api>>,
    Place(id): Place<u64>,
    order: Order<Conflict>,
) -> Reply<PlanView> {
    let plan = PlanId(id);
    let said = &order.body;
    // Of a plan that has left only the answer to this very request is known, whatever its chain was.
    let chain = api.read(|state| state.plans().get(&plan).map_or(CHAIN, |plan| plan.anchor.chain));
    let input = outpoint(chain, &said.input).ok_or_else(|| Problem::new("outpoint_invalid"))?;
    let txid = TxId(written_hash("txid", &said.txid)?);
    let hash = BlockHash(written_hash("block_hash", &said.block_hash)?);
    let by = Payment { txid, at: BlockRef { height: Height(said.block_height), hash } };
    api.execute(order.origin, Command::ProveConflict { plan, input, by }).await?;
    seen(shown(&api, plan)?)
}
