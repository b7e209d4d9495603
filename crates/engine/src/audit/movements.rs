//! Every movement of customers' money and of the house's own, held against what the same entry says beside it. It is judged while a
//! whole journal is folded, because a state keeps sums and not how they came about. It derives and compares; it posts nothing.

use super::BookFault;
use super::sum::Sum;
use florin_core::amount::Amount;
use florin_core::asset::AssetKind;
use florin_core::broker::{Quote, Side};
use florin_core::custody::{
    Beneficiary, Coin, Deposit, DepositStatus, OutPoint, Plan, PlanStatus, Withdrawal, WithdrawalStatus,
};
use florin_core::event::{DepositMoved, Event, PlanMoved, WithdrawalMoved};
use florin_core::id::{AssetId, ChainId, Seq, TxId};
use florin_core::ledger::{Account, HouseAccount, Owner, Transfer, TransferReason};
use florin_core::state::State;
use std::collections::BTreeMap;

/// What one entry moved between two owners, and what its events say that it had to.
#[derive(Debug, Default)]
struct Flow {
    moved: Sum,
    said: Sum,
}

/// The movements of one entry that no sum of records judges: those from or to a customer, the bank, the inventory, fees, spread
/// and network fees.
///
/// Each has to be what another event of the entry stands for, to the unit. A bank receipt and a correction name no amount: beside
/// each stands one transfer of any. What has both sides in other accounts, such as a coin's way into clearing, is left to the
/// sums of the records.
#[derive(Debug, Default)]
pub(super) struct Movements {
    flows: BTreeMap<(AssetId, Owner, Owner), Flow>,
    /// Bank receipts whose transfer is still to come.
    receipts: u32,
    /// Corrections whose transfer is still to come.
    corrections: u32,
    faults: Vec<BookFault>,
}

/// Whether an event moves money or says that it has to be moved.
pub(super) fn concerns(state: &State, event: &Event) -> bool {
    let is_plain = |account| {
        let account: Option<&Account> = state.ledger().account(account);
        account.is_some_and(|account| matches!(account.owner, Owner::Plain(_)))
    };
    match event {
        Event::TransfersPosted(posted) => {
            !posted.transfers.iter().all(|transfer| is_plain(transfer.debit) && is_plain(transfer.credit))
        }
        Event::AccountOpened(account) => !is_empty(account),
        Event::HoldPosted(_)
        | Event::BankReceiptBooked(_)
        | Event::CorrectionBooked(_)
        | Event::DepositMoved(_)
        | Event::WithdrawalRequested(_)
        | Event::WithdrawalMoved(_)
        | Event::PlanMoved(_)
        | Event::QuoteEnded(_) => true,
        _ => false,
    }
}

fn is_empty(account: &Account) -> bool {
    let Account { debits_posted, credits_posted, debits_pending, credits_pending, .. } = account;
    [debits_posted, credits_posted, debits_pending, credits_pending].iter().all(|sum| sum.is_zero())
}

/// Whether no sum of records says what an owner's account has to hold.
fn is_free(owner: &Owner) -> bool {
    match owner {
        Owner::Customer(_) => true,
        Owner::Custody(_) | Owner::Plain(_) => false,
        Owner::House(house) => match house {
            HouseAccount::Bank
            | HouseAccount::Inventory
            | HouseAccount::Fees
            | HouseAccount::Spread
            | HouseAccount::NetworkFees
            | HouseAccount::Opening => true,
            HouseAccount::Clearing
            | HouseAccount::InFlight
            | HouseAccount::Suspense
            | HouseAccount::Receivables
            | HouseAccount::Shortfall => false,
        },
    }
}

fn owner(beneficiary: &Beneficiary) -> Owner {
    match beneficiary {
        Beneficiary::Customer(customer) => Owner::Customer(*customer),
        Beneficiary::House(_) => INVENTORY,
    }
}

const BANK: Owner = Owner::House(HouseAccount::Bank);
const CLEARING: Owner = Owner::House(HouseAccount::Clearing);
const FEES: Owner = Owner::House(HouseAccount::Fees);
const IN_FLIGHT: Owner = Owner::House(HouseAccount::InFlight);
const INVENTORY: Owner = Owner::House(HouseAccount::Inventory);
const NETWORK_FEES: Owner = Owner::House(HouseAccount::NetworkFees);
const SHORTFALL: Owner = Owner::House(HouseAccount::Shortfall);
const SPREAD: Owner = Owner::House(HouseAccount::Spread);

impl Movements {
    /// Notes an event that is about to be folded into `state`.
    pub(super) fn note(&mut self, state: &State, event: &Event) {
        match event {
            Event::AccountOpened(account) if !is_empty(account) => {
                self.faults.push(BookFault::Opened { account: account.id, asset: account.asset });
            }
            Event::TransfersPosted(posted) => posted.transfers.iter().for_each(|it| self.moved(state, it)),
            Event::HoldPosted(posted) => {
                if let Some(hold) = state.ledger().holds().get(&posted.hold) {
                    self.moved(state, &Transfer { amount: posted.amount, ..hold.transfer });
                }
            }
            Event::BankReceiptBooked(_) => self.receipts += 1,
            Event::CorrectionBooked(_) => self.corrections += 1,
            Event::DepositMoved(moved) => {
                if let Some(deposit) = state.deposits().get(&moved.outpoint) {
                    self.deposit_moves(state, deposit, moved);
                }
            }
            Event::WithdrawalRequested(withdrawal) => self.is_requested(state, withdrawal),
            Event::WithdrawalMoved(moved) => {
                if let Some(withdrawal) = state.withdrawals().get(&moved.withdrawal) {
                    self.withdrawal_moves(withdrawal, moved);
                }
            }
            Event::PlanMoved(moved) => {
                if let Some(plan) = state.plans().get(&moved.plan) {
                    self.plan_moves(state, plan, moved);
                }
            }
            Event::QuoteEnded(ended) if ended.accepted => {
                if let Some(quote) = state.quotes().get(&ended.quote) {
                    self.is_exchanged(quote);
                }
            }
            _ => {}
        }
    }

    /// What is wrong with the entry that ends here.
    pub(super) fn end(self, row: Seq) -> impl Iterator<Item = BookFault> {
        let wrong = self.flows.into_iter().filter(|(_, flow)| flow.moved != flow.said);
        let faults = wrong.map(move |((asset, debit, credit), flow)| {
            let [moved, said] = [flow.moved, flow.said].map(|sum| sum.amount().unwrap_or(Amount::MAX));
            BookFault::Movement { row, asset, debit, credit, moved, said }
        });
        self.faults.into_iter().chain(faults)
    }

    fn moved(&mut self, state: &State, transfer: &Transfer) {
        let account = |id| state.ledger().account(id);
        let (Some(debit), Some(credit)) = (account(transfer.debit), account(transfer.credit)) else { return };
        let is_judged = is_free(&debit.owner) || is_free(&credit.owner);
        if !is_judged || self.is_booked(state, debit, credit, transfer.reason) {
            return;
        }
        let key = (debit.asset, debit.owner.clone(), credit.owner.clone());
        self.flows.entry(key).or_default().moved.add(transfer.amount);
    }

    /// Whether it is the transfer of the bank receipt or the correction that was booked just before. Coins arrive in blocks, and
    /// never at a bank.
    fn is_booked(&mut self, state: &State, debit: &Account, credit: &Account, reason: TransferReason) -> bool {
        let is_fiat = || state.assets().get(&debit.asset).is_some_and(|asset| asset.kind == AssetKind::Fiat);
        let is_payee = |owner: &Owner| matches!(owner, Owner::Customer(_)) || *owner == INVENTORY;
        let is_open = |owner: &Owner| is_payee(owner) || *owner == FEES || *owner == SPREAD;
        let (debit, credit) = (&debit.owner, &credit.owner);
        let (due, fits) = match reason {
            TransferReason::BankReceipt => (&mut self.receipts, *debit == BANK && is_payee(credit) && is_fiat()),
            TransferReason::Correction => {
                (&mut self.corrections, is_open(debit) && (is_open(credit) || *credit == BANK && is_fiat()))
            }
            _ => return false,
        };
        let is_due = fits && *due > 0;
        *due -= u32::from(is_due);
        is_due
    }

    fn says(&mut self, asset: AssetId, debit: Owner, credit: Owner, amount: Amount) {
        if !amount.is_zero() {
            self.flows.entry((asset, debit, credit)).or_default().said.add(amount);
        }
    }

    fn deposit_moves(&mut self, state: &State, deposit: &Deposit, moved: &DepositMoved) {
        let Some(asset) = coin_of(state, deposit.outpoint.chain) else { return };
        let owner = owner(&deposit.beneficiary);
        match (deposit.status, moved.status) {
            (DepositStatus::Pending, DepositStatus::Credited) => self.says(asset, CLEARING, owner, deposit.amount),
            (DepositStatus::Missing, DepositStatus::Reversed) => self.says(asset, owner, SHORTFALL, moved.debited),
            (DepositStatus::Reversed, DepositStatus::Credited) => self.says(asset, SHORTFALL, owner, deposit.debited),
            _ => {}
        }
    }

    /// One that goes to an address of ours is settled at once.
    fn is_requested(&mut self, state: &State, withdrawal: &Withdrawal) {
        let path = state.scripts().get(&withdrawal.script);
        let address = path.and_then(|path| state.addresses().get(path));
        if let Some(address) = address.filter(|_| withdrawal.status == WithdrawalStatus::Final) {
            let customer = Owner::Customer(withdrawal.customer);
            self.says(withdrawal.asset, customer, owner(&address.beneficiary), withdrawal.amount);
        }
    }

    fn withdrawal_moves(&mut self, withdrawal: &Withdrawal, moved: &WithdrawalMoved) {
        let Withdrawal { asset, amount, fee, .. } = *withdrawal;
        let customer = || Owner::Customer(withdrawal.customer);
        match moved.status {
            // Planned for the first time. Planned again, its money is in flight and its fee is taken.
            WithdrawalStatus::Signing if withdrawal.hold.is_some() => {
                self.says(asset, customer(), IN_FLIGHT, amount);
                self.says(asset, customer(), IN_FLIGHT, fee);
                self.says(asset, IN_FLIGHT, FEES, fee);
            }
            WithdrawalStatus::Refunded if withdrawal.status != WithdrawalStatus::Refunded => {
                self.says(asset, IN_FLIGHT, customer(), amount);
                self.says(asset, FEES, customer(), fee);
            }
            _ => {}
        }
    }

    fn plan_moves(&mut self, state: &State, plan: &Plan, moved: &PlanMoved) {
        use PlanStatus::{Confirmed, Conflicted, Final, Signed, Signing};
        let Some(asset) = coin_of(state, plan.anchor.chain) else { return };
        let custody = Owner::Custody(plan.wallet);
        match (plan.status, moved.status) {
            (Signing | Signed, Confirmed) => {
                if let Some(fee) = moved.paid.as_ref().and_then(|paid| network_fee(state, plan, paid.txid)) {
                    self.says(asset, NETWORK_FEES, custody, fee);
                }
            }
            (Confirmed | Final, Signing | Signed) => {
                if let Some(fee) = plan.paid.as_ref().and_then(|paid| network_fee(state, plan, paid.txid)) {
                    self.says(asset, custody, NETWORK_FEES, fee);
                }
            }
            (_, Conflicted) if is_possible(state, plan) => {
                self.faults.push(BookFault::Conflict { plan: plan.id, asset });
            }
            _ => {}
        }
    }

    /// Value, margin and base of a quote.
    fn is_exchanged(&mut self, quote: &Quote) {
        let customer = || Owner::Customer(quote.customer);
        let (base, asset) = (quote.pair.base, quote.pair.quote);
        match quote.side {
            Side::Buy => {
                self.says(asset, customer(), INVENTORY, quote.quote.saturating_sub(quote.spread));
                self.says(asset, customer(), SPREAD, quote.spread);
                self.says(base, INVENTORY, customer(), quote.base);
            }
            Side::Sell => {
                self.says(base, customer(), INVENTORY, quote.base);
                self.says(asset, INVENTORY, customer(), quote.quote);
                self.says(asset, INVENTORY, SPREAD, quote.spread);
            }
        }
    }
}

fn coin_of(state: &State, chain: ChainId) -> Option<AssetId> {
    state.chains().get(&chain).map(|of_chain| of_chain.chain.coin)
}

/// What a plan's transaction left to the network: its inputs less what it pays and its change.
fn network_fee(state: &State, plan: &Plan, txid: TxId) -> Option<Amount> {
    let add = |sum: Amount, amount: Option<Amount>| sum.checked_add(amount?);
    let inputs = plan.inputs.iter().map(|input| state.coins().get(input).map(|coin| coin.amount));
    let inputs = inputs.into_iter().try_fold(Amount::ZERO, add)?;
    let payments = &plan.versions.first()?.payments;
    let amount = |withdrawal| state.withdrawals().get(withdrawal).map(|withdrawal| withdrawal.amount);
    let paid = payments.iter().map(|payment| amount(&payment.withdrawal)).try_fold(Amount::ZERO, add)?;
    let chain = plan.anchor.chain;
    let outputs = OutPoint { chain, txid, vout: 0 }..=OutPoint { chain, txid, vout: u32::MAX };
    let is_change = |coin: &&Coin| coin.beneficiary == Beneficiary::CHANGE && !coin.suspense;
    let change = state.coins().range(outputs).map(|(_, coin)| coin).filter(is_change);
    let change = change.map(|coin| Some(coin.amount)).try_fold(Amount::ZERO, add)?;
    inputs.checked_sub(paid)?.checked_sub(change)
}

/// Whether nothing that the journal knows keeps a plan from being paid: all its inputs are there, and nobody else spent one.
fn is_possible(state: &State, plan: &Plan) -> bool {
    plan.inputs.iter().all(|input| {
        let coin = state.coins().get(input);
        coin.is_some_and(|coin| coin.spent.as_ref().is_none_or(|spent| spent.plan == Some(plan.id)))
    })
}
