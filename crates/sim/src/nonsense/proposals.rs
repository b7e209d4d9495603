//! Plans, signatures and voids that must be refused, as a broken planner or a lying signer could bring them.

use super::units;
use crate::setup::{BTC, CHAIN, WALLET, WALLET_RETIRED, WALLET_STILL};
use crate::world::World;
use florin_core::asset::HaltAction;
use florin_core::command::{Command, ProposePlan};
use florin_core::custody::{
    Beneficiary, BlockRef, Coin, OutPoint, Payment, Plan, PlanChange, PlanPayment, PlanStatus, PlanVersion, Withdrawal,
    WithdrawalStatus,
};
use florin_core::id::{BlockHash, PlanId, TxId, WalletId, WithdrawalId};
use florin_core::state::State;
use florin_core::wire::Bytes;

/// Confirmations after which a coin of somebody else may be spent, by the policy of every run.
const DEPTH: u32 = 5;

fn is_spendable(state: &State, coin: &Coin) -> bool {
    let depth = state.chains().get(&CHAIN).map_or(0, |chain| chain.confirmations(coin.at.height));
    coin.path.wallet == WALLET
        && coin.spent.is_none()
        && coin.reserved.is_none()
        && !coin.coinbase
        && depth >= DEPTH
        && !(coin.suspense && coin.beneficiary == Beneficiary::CHANGE)
}

fn is_planned_next(state: &State, withdrawal: &Withdrawal) -> bool {
    withdrawal.status == WithdrawalStatus::Queued
        && withdrawal.intent.wallet == WALLET
        && withdrawal.intent.expiry > state.counters().time
        && (withdrawal.hold.is_none()
            || state.customers().get(&withdrawal.customer).is_some_and(|customer| customer.freezes == 0))
}

/// A proposal that is right: a coin, a withdrawal it can pay, and the change.
fn right(state: &State, withdrawal: &Withdrawal) -> Option<ProposePlan> {
    let fee = 1_000;
    let enough = withdrawal.amount.units() + fee + 1_000;
    let is_enough = |coin: &&Coin| is_spendable(state, coin) && coin.amount.units() >= enough;
    let coin = state.coins().values().find(is_enough)?;
    let index = state.wallets().get(&WALLET)?.next_internal;
    let amount = units(coin.amount.units() - withdrawal.amount.units() - fee);
    // A script of nobody: the proposal is never accepted.
    let change = PlanChange { vout: 1, index, script: Bytes(vec![0x6a, 0x01, 0x02]), amount };
    let version = PlanVersion {
        unsigned: Bytes(vec![1]),
        fee: units(fee),
        change: Some(change),
        payments: vec![PlanPayment { withdrawal: withdrawal.id, vout: 0 }],
        signed: None,
        txid: None,
    };
    let (inputs, anchor) = (vec![coin.outpoint], coin.outpoint);
    Some(ProposePlan { wallet: WALLET, withdrawals: vec![withdrawal.id], inputs, anchor, version })
}

fn with(good: &ProposePlan, change: impl FnOnce(&mut ProposePlan)) -> Command {
    let mut proposal = good.clone();
    change(&mut proposal);
    Command::ProposePlan(proposal)
}

fn on_change(proposal: &mut ProposePlan, edit: impl FnOnce(&mut PlanChange)) {
    if let Some(change) = &mut proposal.version.change {
        edit(change);
    }
}

impl World {
    /// Plans that must not be accepted.
    pub(super) fn wrong_proposals(&mut self) -> Vec<Command> {
        self.state(|state| {
            let found = state.withdrawals().values().filter(|withdrawal| is_planned_next(state, withdrawal));
            match found.into_iter().find_map(|withdrawal| right(state, withdrawal)) {
                Some(good) => wrong_in_one_thing(state, &good),
                None => without_money(),
            }
        })
        .unwrap_or_default()
    }

    /// Plans for withdrawals that are frozen or have expired, and nobody has noticed yet.
    pub(super) fn proposals_of_the_moment(&mut self) -> Vec<Command> {
        self.state(|state| {
            let is_late = |withdrawal: &&Withdrawal| {
                withdrawal.status == WithdrawalStatus::Queued
                    && !is_planned_next(state, withdrawal)
                    && (withdrawal.intent.expiry < state.counters().time || withdrawal.hold.is_some())
            };
            let mut commands: Vec<Command> = Vec::new();
            for withdrawal in state.withdrawals().values().filter(is_late).take(3) {
                let proposal = right(state, withdrawal);
                let is_refused = |withdrawal: &Withdrawal| {
                    withdrawal.intent.expiry < state.counters().time
                        || state.customers().get(&withdrawal.customer).is_some_and(|customer| customer.freezes > 0)
                };
                commands.extend(proposal.filter(|_| is_refused(withdrawal)).map(Command::ProposePlan));
            }
            for plan in state.plans().values().filter(|plan| lacks_an_input(state, plan)) {
                commands.extend(wrong_proofs(state, plan));
            }
            commands
        })
        .unwrap_or_default()
    }

    /// What no honest signer says.
    pub(super) fn wrong_words_of_signers(&mut self) -> Vec<Command> {
        let unknown = PlanId(u64::MAX);
        let signed = |plan, version, bytes: &[u8]| Command::RecordSigned {
            plan,
            version,
            signed: Bytes(bytes.to_vec()),
            txid: TxId([1; 32]),
        };
        let see = |plan| Command::SeePlan { plan, txid: TxId([1; 32]) };
        let mut commands = vec![
            signed(unknown, 0, &[1]),
            see(unknown),
            Command::RecordVoid { plan: unknown, receipt: Bytes(vec![1]) },
        ];
        let of_state = self.state(|state| {
            let mut found = Vec::new();
            for plan in state.plans().values() {
                let is_signed = plan.versions.iter().any(|version| version.signed.is_some());
                found.extend([see(plan.id), signed(plan.id, 9, &[1])]);
                found.extend(wrong_proofs(state, plan));
                match plan.status {
                    PlanStatus::Signing if !is_signed => {
                        let receipt = Bytes::default();
                        found.extend([signed(plan.id, 0, &[]), Command::RecordVoid { plan: plan.id, receipt }]);
                    }
                    PlanStatus::Voided if !is_signed => found.push(signed(plan.id, 0, &[1])),
                    PlanStatus::Voided => {}
                    PlanStatus::Conflicted
                    | PlanStatus::Signing
                    | PlanStatus::Signed
                    | PlanStatus::Confirmed
                    | PlanStatus::Final => found.push(Command::RecordVoid { plan: plan.id, receipt: Bytes(vec![1]) }),
                }
                if plan.versions.first().is_some_and(|version| version.signed.is_some()) {
                    found.push(signed(plan.id, 0, &[9, 9, 9]));
                }
            }
            found
        });
        commands.extend(of_state.unwrap_or_default());
        commands
    }
}

/// Whether a plan that may still be paid spends a coin that is gone.
pub(crate) fn lacks_an_input(state: &State, plan: &Plan) -> bool {
    let is_open = matches!(plan.status, PlanStatus::Signing | PlanStatus::Signed);
    is_open && plan.inputs.iter().any(|input| !state.coins().contains_key(input))
}

/// Proofs that a plan can never confirm which prove nothing: of a coin that is not the plan's or is there, by a block that is
/// unknown or may still go.
pub(crate) fn wrong_proofs(state: &State, plan: &Plan) -> Vec<Command> {
    let Some(chain) = state.chains().get(&CHAIN) else { return Vec::new() };
    let Some(tip) = chain.tip().map(|tip| tip.at) else { return Vec::new() };
    let prove = |input, at| Command::ProveConflict { plan: plan.id, input, by: Payment { txid: TxId([1; 32]), at } };
    let foreign = OutPoint { chain: CHAIN, txid: TxId([1; 32]), vout: 7 };
    let unknown = BlockRef { hash: BlockHash([7; 32]), ..tip };
    let proofs = plan.inputs.iter().flat_map(|input| [prove(*input, tip), prove(*input, unknown)]);
    // The tip alone is never final by the policy of any run.
    proofs.chain([prove(foreign, tip)]).collect()
}

/// Without a withdrawal that waits: what is refused before one is looked at.
fn without_money() -> Vec<Command> {
    let nothing = OutPoint { chain: CHAIN, txid: TxId([1; 32]), vout: 0 };
    let version = PlanVersion {
        unsigned: Bytes(vec![1]),
        fee: units(1_000),
        change: None,
        payments: Vec::new(),
        signed: None,
        txid: None,
    };
    let good = ProposePlan {
        wallet: WALLET,
        withdrawals: vec![WithdrawalId([0xdd; 16])],
        inputs: vec![nothing],
        anchor: nothing,
        version,
    };
    vec![
        with(&good, |proposal| proposal.wallet = WalletId(77)),
        with(&good, |proposal| proposal.wallet = WALLET_STILL),
        with(&good, |proposal| proposal.withdrawals.clear()),
        with(&good, |proposal| proposal.inputs.clear()),
        with(&good, |proposal| proposal.version.unsigned.0.clear()),
        with(&good, |proposal| proposal.version.txid = Some(TxId([1; 32]))),
        with(&good, |_| {}),
    ]
}

fn wrong_in_one_thing(state: &State, good: &ProposePlan) -> Vec<Command> {
    let coin = |wanted: &dyn Fn(&Coin) -> bool| {
        let mut coins = state.coins().values();
        coins.find(|coin| wanted(coin)).map(|coin| coin.outpoint)
    };
    let depth = |coin: &Coin| state.chains().get(&CHAIN).map_or(0, |chain| chain.confirmations(coin.at.height));
    let is_ours = |coin: &Coin| coin.path.wallet == WALLET;
    let is_free = |coin: &Coin| is_ours(coin) && coin.spent.is_none() && coin.reserved.is_none();
    let unusable = [
        coin(&|coin| coin.path.wallet == WALLET_RETIRED),
        coin(&|coin| is_ours(coin) && coin.spent.is_some()),
        coin(&|coin| is_ours(coin) && coin.spent.is_none() && coin.reserved.is_some()),
        coin(&|coin| is_free(coin) && coin.coinbase && depth(coin) < 100),
        coin(&|coin| is_free(coin) && !coin.coinbase && depth(coin) < DEPTH && coin.beneficiary != Beneficiary::CHANGE),
    ];
    let busy = state.withdrawals().values().find(|withdrawal| withdrawal.status != WithdrawalStatus::Queued);
    let unknown = OutPoint { chain: CHAIN, txid: TxId([1; 32]), vout: 7 };
    let issued = state.scripts().keys().next().cloned().unwrap_or_default();
    let mut commands = vec![
        with(good, |proposal| proposal.wallet = WALLET_RETIRED),
        with(good, |proposal| proposal.withdrawals.push(proposal.withdrawals[0])),
        with(good, |proposal| proposal.inputs.push(unknown)),
        with(good, |proposal| proposal.inputs.push(proposal.inputs[0])),
        with(good, |proposal| proposal.anchor = unknown),
        with(good, |proposal| proposal.version.payments.clear()),
        with(good, |proposal| on_change(proposal, |change| change.amount = units(0))),
        with(good, |proposal| on_change(proposal, |change| change.index += 1)),
        with(good, |proposal| on_change(proposal, |change| change.script.0.clear())),
        with(good, |proposal| on_change(proposal, |change| change.script = issued)),
        with(good, |proposal| proposal.version.fee = units(1_000_000)),
        with(good, |proposal| proposal.version.fee = units(1_001)),
    ];
    commands.extend(busy.map(|busy| with(good, |proposal| proposal.withdrawals = vec![busy.id])));
    for input in unusable.into_iter().flatten() {
        commands.push(with(good, |proposal| proposal.inputs = vec![input]));
    }
    if state.is_halted(BTC, HaltAction::Sign) {
        commands.push(Command::ProposePlan(good.clone()));
    }
    commands
}
