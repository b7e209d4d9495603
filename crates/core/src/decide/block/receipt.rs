//! Outputs that pay us: their coins, deposits and bookings, and how a block that is taken back undoes them. Never credits a
//! customer by itself; that is depth's work, except for what was credited before and comes back.

use super::{BlockRefusal, OUTPUT_AMOUNT_MAX, conflict, move_deposit, settle};
use crate::amount::Amount;
use crate::command::Receipt;
use crate::custody::{Beneficiary, Block, Coin, Deposit, DepositStatus, OutPoint};
use crate::decide::Draft;
use crate::event::{CoinChanged, DepositArchived, Event};
use crate::id::{AccountId, AssetId, ChainId, HoldId};
use crate::ledger::{HouseAccount, Owner, Transfer, TransferReason};
use crate::state::State;

impl Receipt {
    /// The output.
    pub(crate) fn outpoint(&self, chain: ChainId) -> OutPoint {
        OutPoint { chain, txid: self.txid, vout: self.vout }
    }
}

/// Checks what receipts of blocks and mempools have in common.
pub(in crate::decide) fn check_addresses(
    state: &State,
    chain: ChainId,
    receipts: &[Receipt],
) -> Result<(), BlockRefusal> {
    if receipts.iter().any(|receipt| !state.addresses.contains_key(&receipt.path)) {
        return Err(BlockRefusal::ReceiptAddressUnknown);
    }
    if receipts.iter().any(|receipt| state.wallets[&receipt.path.wallet].chain != chain) {
        return Err(BlockRefusal::ReceiptAddressForeign);
    }
    if receipts.iter().any(|receipt| receipt.amount > OUTPUT_AMOUNT_MAX) {
        return Err(BlockRefusal::ReceiptAmountTooLarge);
    }
    Ok(())
}

/// Whether a receipt says the same about its output as the deposit.
pub(in crate::decide) fn is_same(deposit: &Deposit, receipt: &Receipt) -> bool {
    deposit.amount == receipt.amount && deposit.path == receipt.path && deposit.coinbase == receipt.coinbase
}

/// Whom the coins of a receipt are for; `None` where they are change, unattributed, or nothing. What was announced before its
/// wallet was retired stays a deposit.
pub(in crate::decide) fn depositor(state: &State, chain: ChainId, receipt: &Receipt) -> Option<Beneficiary> {
    if let Some(deposit) = state.deposits.get(&receipt.outpoint(chain)).filter(|deposit| is_same(deposit, receipt)) {
        return Some(deposit.beneficiary.clone());
    }
    let beneficiary = &state.addresses[&receipt.path].beneficiary;
    let is_deposit = *beneficiary != Beneficiary::CHANGE
        && !state.wallets[&receipt.path.wallet].retired
        && !receipt.amount.is_zero();
    is_deposit.then(|| beneficiary.clone())
}

/// The accounts that a coin's bookings move between.
struct Accounts {
    custody: AccountId,
    clearing: AccountId,
    shortfall: AccountId,
}

fn house(draft: &mut Draft<'_>, account: HouseAccount, asset: AssetId) -> AccountId {
    draft.account(Owner::House(account), asset)
}

fn owner(beneficiary: &Beneficiary) -> Owner {
    match beneficiary {
        Beneficiary::Customer(customer) => Owner::Customer(*customer),
        Beneficiary::House(_) => Owner::House(HouseAccount::Inventory),
    }
}

/// Books a receipt of a block. `is_change` says that a plan of ours, confirmed in the same block, made it: then the coins
/// never left the wallet, and nothing is booked.
pub(super) fn book(draft: &mut Draft<'_>, block: &Block, receipt: &Receipt, is_change: bool) {
    let outpoint = receipt.outpoint(block.chain);
    let depositor = depositor(draft.state, block.chain, receipt);
    draft.emit(Event::CoinReceived(Coin {
        outpoint,
        amount: receipt.amount,
        path: receipt.path,
        beneficiary: draft.state.addresses[&receipt.path].beneficiary.clone(),
        coinbase: receipt.coinbase,
        at: block.at,
        // A plan may have reserved the output before a reorganisation took it away.
        reserved: draft.state.index.plan_of_input(&outpoint),
        spent: None,
        suspense: depositor.is_none() && !is_change,
    }));
    conflict::come_back(draft, outpoint);
    match depositor {
        Some(depositor) => book_deposit(draft, block, receipt, depositor),
        None if is_change => {}
        None => {
            let asset = draft.state.chains[&block.chain].chain.coin;
            let debit = draft.account(Owner::Custody(receipt.path.wallet), asset);
            let credit = house(draft, HouseAccount::Suspense, asset);
            draft.post([Transfer { debit, credit, amount: receipt.amount, reason: TransferReason::Unattributed }]);
        }
    }
}

fn book_deposit(draft: &mut Draft<'_>, block: &Block, receipt: &Receipt, beneficiary: Beneficiary) {
    let outpoint = receipt.outpoint(block.chain);
    let mut known = draft.state.deposits.get(&outpoint).cloned();
    if let Some(deposit) = known.take_if(|deposit| !is_same(deposit, receipt) || deposit.beneficiary != beneficiary) {
        // A mempool's view was wrong about it, and nothing was credited on that: the block is right.
        deposit.hold.into_iter().for_each(|hold| draft.release(hold));
        draft.emit(Event::DepositArchived(DepositArchived { outpoint }));
    }
    match known {
        Some(deposit) if deposit.status == DepositStatus::Missing => return_missing(draft, block, deposit),
        Some(deposit) if deposit.status == DepositStatus::Reversed => return_reversed(draft, block, deposit),
        known => announce(draft, block, receipt, beneficiary, known),
    }
}

/// Debits custody, credits clearing, and announces the coins to whom they are for.
fn announce(draft: &mut Draft<'_>, block: &Block, receipt: &Receipt, beneficiary: Beneficiary, known: Option<Deposit>) {
    let amount = receipt.amount;
    let asset = draft.state.chains[&block.chain].chain.coin;
    let custody = draft.account(Owner::Custody(receipt.path.wallet), asset);
    let clearing = house(draft, HouseAccount::Clearing, asset);
    draft.post([Transfer { debit: custody, credit: clearing, amount, reason: TransferReason::CoinReceived }]);
    let open_hold = known.as_ref().and_then(|deposit| deposit.hold);
    let hold: HoldId = open_hold.unwrap_or_else(|| {
        let credit = draft.account(owner(&beneficiary), asset);
        draft.hold(clearing, credit, amount, TransferReason::DepositCredited)
    });
    let is_new = known.is_none();
    let mut deposit = known.unwrap_or_else(|| new_deposit(draft, block.chain, receipt, beneficiary));
    deposit.status = DepositStatus::Pending;
    deposit.at = Some(block.at);
    deposit.hold = Some(hold);
    deposit.missing_since = None;
    deposit.due = settle::due(draft.state, &deposit);
    if is_new { draft.emit(Event::DepositSeen(deposit)) } else { move_deposit(draft, &deposit) }
}

/// A deposit as a mempool shows it.
pub(in crate::decide) fn new_deposit(
    draft: &Draft<'_>,
    chain: ChainId,
    receipt: &Receipt,
    beneficiary: Beneficiary,
) -> Deposit {
    Deposit {
        outpoint: receipt.outpoint(chain),
        beneficiary,
        amount: receipt.amount,
        status: DepositStatus::Seen,
        at: None,
        hold: None,
        seen: draft.now,
        missing_since: None,
        debited: Amount::ZERO,
        coinbase: receipt.coinbase,
        path: receipt.path,
        due: None,
    }
}

fn accounts(draft: &mut Draft<'_>, deposit: &Deposit) -> (Accounts, AccountId) {
    let asset = draft.state.chains[&deposit.outpoint.chain].chain.coin;
    let custody = draft.account(Owner::Custody(deposit.path.wallet), asset);
    let clearing = house(draft, HouseAccount::Clearing, asset);
    let shortfall = house(draft, HouseAccount::Shortfall, asset);
    let beneficiary = draft.account(owner(&deposit.beneficiary), asset);
    (Accounts { custody, clearing, shortfall }, beneficiary)
}

/// A credited deposit that was missing is in a block again: no second credit, and the customer's funds are free.
fn return_missing(draft: &mut Draft<'_>, block: &Block, mut deposit: Deposit) {
    deposit.hold.take().into_iter().for_each(|hold| draft.release(hold));
    let (Accounts { custody: debit, shortfall: credit, .. }, _) = accounts(draft, &deposit);
    draft.post([Transfer { debit, credit, amount: deposit.amount, reason: TransferReason::CoinReceived }]);
    change_freezes(draft, &deposit.beneficiary, Freezes::Fewer);
    come_back(draft, block, deposit);
}

/// A reversed deposit is in a block again: exactly what the reversal took is given back.
fn return_reversed(draft: &mut Draft<'_>, block: &Block, mut deposit: Deposit) {
    let (Accounts { custody, shortfall, .. }, beneficiary) = accounts(draft, &deposit);
    let asset = draft.state.chains[&block.chain].chain.coin;
    let owed = deposit.amount.saturating_sub(deposit.debited);
    let reason = TransferReason::Reversal;
    let receivables = house(draft, HouseAccount::Receivables, asset);
    draft.post([
        Transfer { debit: shortfall, credit: beneficiary, amount: deposit.debited, reason },
        Transfer { debit: shortfall, credit: receivables, amount: owed, reason },
        Transfer { debit: custody, credit: shortfall, amount: deposit.amount, reason: TransferReason::CoinReceived },
    ]);
    if !owed.is_zero() {
        change_freezes(draft, &deposit.beneficiary, Freezes::Fewer);
    }
    deposit.debited = Amount::ZERO;
    come_back(draft, block, deposit);
}

fn come_back(draft: &mut Draft<'_>, block: &Block, mut deposit: Deposit) {
    deposit.status = DepositStatus::Credited;
    deposit.at = Some(block.at);
    deposit.missing_since = None;
    move_deposit(draft, &deposit);
}

/// Takes a coin back that arrived in a block which is taken back itself.
pub(super) fn undo(draft: &mut Draft<'_>, outpoint: OutPoint) {
    let coin = draft.state.coins[&outpoint].clone();
    let deposit = draft.state.deposits.get(&outpoint).filter(|deposit| deposit.at == Some(coin.at)).cloned();
    match deposit {
        Some(deposit) if deposit.status == DepositStatus::Credited => lose_credited(draft, deposit),
        Some(deposit) => lose_pending(draft, deposit),
        None if coin.suspense => {
            let asset = draft.state.chains[&outpoint.chain].chain.coin;
            let debit = house(draft, HouseAccount::Suspense, asset);
            let credit = draft.account(Owner::Custody(coin.path.wallet), asset);
            draft.post([Transfer { debit, credit, amount: coin.amount, reason: TransferReason::CoinLost }]);
        }
        None => {}
    }
    draft.emit(Event::CoinRemoved(CoinChanged { outpoint }));
}

/// The announcement stands: the transaction goes back to the mempool, and its return is no surprise.
fn lose_pending(draft: &mut Draft<'_>, mut deposit: Deposit) {
    let (Accounts { custody: credit, clearing: debit, .. }, _) = accounts(draft, &deposit);
    draft.post([Transfer { debit, credit, amount: deposit.amount, reason: TransferReason::CoinLost }]);
    deposit.status = DepositStatus::Seen;
    deposit.at = None;
    deposit.due = None;
    move_deposit(draft, &deposit);
}

/// The house bears the loss for now, and as much as the customer still has is frozen.
fn lose_credited(draft: &mut Draft<'_>, mut deposit: Deposit) {
    let asset = draft.state.chains[&deposit.outpoint.chain].chain.coin;
    let (Accounts { custody, shortfall, .. }, beneficiary) = accounts(draft, &deposit);
    let amount = deposit.amount;
    draft.post([Transfer { debit: shortfall, credit: custody, amount, reason: TransferReason::CoinLost }]);
    let frozen = draft.available(&owner(&deposit.beneficiary), asset).min(amount);
    deposit.hold =
        (!frozen.is_zero()).then(|| draft.hold(beneficiary, shortfall, frozen, TransferReason::DepositReversed));
    change_freezes(draft, &deposit.beneficiary, Freezes::More);
    deposit.status = DepositStatus::Missing;
    deposit.at = None;
    deposit.due = None;
    deposit.missing_since = Some(draft.now);
    move_deposit(draft, &deposit);
    if settle::is_final_depth(draft.state, &deposit) {
        draft.halt_for_reorganisation(asset);
    }
}

/// Debits a deposit that stayed away for too long, as far as funds reach; the rest the customer owes. The shortfall of the
/// coins is made good by both together. While something is owed the customer stays frozen.
pub(in crate::decide) fn reverse(draft: &mut Draft<'_>, mut deposit: Deposit) {
    let asset = draft.state.chains[&deposit.outpoint.chain].chain.coin;
    let (Accounts { shortfall: credit, .. }, beneficiary) = accounts(draft, &deposit);
    let mut debited = Amount::ZERO;
    if let Some(hold) = deposit.hold.take() {
        debited = draft.state.ledger.holds()[&hold].transfer.amount;
        draft.post_hold(hold, debited);
    }
    let rest = deposit.amount.saturating_sub(debited);
    let more = draft.available(&owner(&deposit.beneficiary), asset).min(rest);
    let owed = rest.saturating_sub(more);
    let receivables = house(draft, HouseAccount::Receivables, asset);
    let reason = TransferReason::DepositReversed;
    draft.post([
        Transfer { debit: beneficiary, credit, amount: more, reason },
        Transfer { debit: receivables, credit, amount: owed, reason },
    ]);
    if owed.is_zero() {
        change_freezes(draft, &deposit.beneficiary, Freezes::Fewer);
    }
    deposit.debited = deposit.amount.saturating_sub(owed);
    deposit.status = DepositStatus::Reversed;
    deposit.missing_since = None;
    move_deposit(draft, &deposit);
}

#[derive(Clone, Copy)]
enum Freezes {
    More,
    Fewer,
}

fn change_freezes(draft: &mut Draft<'_>, beneficiary: &Beneficiary, change: Freezes) {
    let Beneficiary::Customer(id) = beneficiary else { return };
    let mut customer = draft.state.customers[id].clone();
    customer.freezes = match change {
        Freezes::More => customer.freezes.checked_add(1),
        Freezes::Fewer => customer.freezes.checked_sub(1),
    }
    .expect("every freeze is one deposit's, and ends once");
    draft.emit(Event::CustomerSet(customer));
}
