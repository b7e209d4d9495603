//! The house's accounts and the open holds, held against the records that they stand for. It adds up records and compares; where
//! the state does not keep enough to know a sum, it asks for no more than what is sure.

use super::BookFault;
use super::archived::{Archived, Foreign, paid};
use super::sum::Sum;
use florin_core::amount::Amount;
use florin_core::custody::{Beneficiary, Deposit, DepositStatus, Withdrawal, WithdrawalStatus};
use florin_core::id::{AccountId, AssetId, ChainId, HoldId};
use florin_core::ledger::{Account, HouseAccount, Owner, Transfer};
use florin_core::state::{ChainState, State};
use std::collections::{BTreeMap, BTreeSet};

/// What the records of one asset say of the house's accounts.
#[derive(Debug, Clone, Copy, Default)]
struct Records {
    /// Deposits that are pending. Credit.
    clearing: Sum,
    /// Withdrawals whose money left the customer and not yet the wallets. Credit.
    in_flight: Sum,
    /// Coins that nobody we know is owed, and what was paid for us with the coins of others. Credit.
    suspense: Sum,
    /// Deposits that are missing, and what was taken by spends that no plan meant. Debit.
    shortfall: Sum,
    /// What customers owe of deposits that were reversed. Debit.
    receivables: Sum,
}

/// How much of a sum the records at hand make up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// All of it.
    Whole,
    /// At least this: other records of it may have left the state.
    Least,
}

/// Holds the house's accounts against the records, after every row and so between two tips as well: a block that is booked or
/// taken back in parts moves each coin and deposit together with its transfers.
///
/// What is in clearing, in flight and owed by customers is always known, because the records of it stay in the state until it is
/// nothing any more. Suspense and shortfall can outlive their records: a coin in suspense that was spent, a coin that was stolen,
/// and the withdrawals that the thief's transaction paid leave the state with their block. With `archived`, which is counted from
/// the journal's first row, both accounts are exact all the same. Without it they are exact while nothing has left a chain, or all of
/// it came back; otherwise they are only known to be no less than missing deposits and coins in suspense.
pub(super) fn check_house(state: &State, archived: Option<&Archived>, faults: &mut Vec<BookFault>) {
    let (records, gone) = records(state, archived);
    for (asset, records) in records {
        let rest = if archived.is_none() && gone.contains(&asset) { Known::Least } else { Known::Whole };
        let expected = [
            (HouseAccount::Clearing, records.clearing, Known::Whole),
            (HouseAccount::InFlight, records.in_flight, Known::Whole),
            (HouseAccount::Suspense, records.suspense, rest),
            (HouseAccount::Receivables, records.receivables, Known::Whole),
            (HouseAccount::Shortfall, records.shortfall, rest),
        ];
        for (house, expected, known) in expected {
            let account = state.ledger().account_of(&Owner::House(house), asset);
            let (debits, credits) =
                account.map_or_else(Default::default, |account| (account.debits_posted, account.credits_posted));
            let is_debit = matches!(house, HouseAccount::Receivables | HouseAccount::Shortfall);
            let (more, less) = if is_debit { (debits, credits) } else { (credits, debits) };
            let (more, least) = (Sum::from(more), Sum::from(less).plus(expected));
            let is_right = match known {
                Known::Whole => more == least,
                Known::Least => more >= least,
            };
            if is_right {
                continue;
            }
            faults.push(match expected.amount() {
                None => BookFault::Overflow { asset },
                Some(records) => BookFault::Records {
                    asset,
                    house,
                    debit: account.map_or(Amount::ZERO, Account::debit_balance),
                    credit: account.map_or(Amount::ZERO, Account::credit_balance),
                    records,
                },
            });
        }
    }
}

/// The sums of every asset that has accounts or records, and the assets of which records may have left the state.
fn records(state: &State, archived: Option<&Archived>) -> (BTreeMap<AssetId, Records>, BTreeSet<AssetId>) {
    let house = state.ledger().accounts().iter().filter(|account| matches!(account.owner, Owner::House(_)));
    let mut of: BTreeMap<AssetId, Records> = house.map(|account| (account.asset, Records::default())).collect();
    let coin_of = |chain: ChainId| state.chains().get(&chain).map(|of_chain| of_chain.chain.coin);
    for deposit in state.deposits().values() {
        let Some(asset) = coin_of(deposit.outpoint.chain) else { continue };
        let records = of.entry(asset).or_default();
        match deposit.status {
            DepositStatus::Pending => records.clearing.add(deposit.amount),
            DepositStatus::Missing => records.shortfall.add(deposit.amount),
            DepositStatus::Reversed => records.receivables.add(deposit.amount.saturating_sub(deposit.debited)),
            DepositStatus::Seen | DepositStatus::Credited | DepositStatus::Replaced => {}
        }
    }
    let mut foreign = archived.map_or_else(BTreeMap::new, |archived| archived.foreign.clone());
    for coin in state.coins().values() {
        if let Some(asset) = coin_of(coin.outpoint.chain).filter(|_| coin.suspense) {
            of.entry(asset).or_default().suspense.add(coin.amount);
        }
        if let Some(spent) = coin.spent.as_ref().filter(|spent| spent.plan.is_none()) {
            foreign.entry((coin.outpoint.chain, spent.txid)).or_default().taken.add(coin.amount);
        }
    }
    for withdrawal in state.withdrawals().values() {
        if is_in_flight(withdrawal) {
            of.entry(withdrawal.asset).or_default().in_flight.add(withdrawal.amount);
        } else if let Some((payer, amount)) = paid(state, withdrawal) {
            foreign.entry(payer).or_default().paid.add(amount);
        }
    }
    for (&asset, &sum) in archived.into_iter().flat_map(|archived| &archived.suspense) {
        let records = of.entry(asset).or_default();
        records.suspense = records.suspense.plus(sum);
    }
    // Records leave just before the block that spent their coins. A chain's block of height 0 spends none: where that is kept, nothing
    // is gone.
    let is_whole = |of_chain: &ChainState| {
        of_chain.archived.count == 0 || of_chain.blocks.keys().next().is_none_or(|oldest| oldest.0 == 0)
    };
    let chains = state.chains().values().filter(|of_chain| !is_whole(of_chain));
    let gone: BTreeSet<AssetId> = chains.map(|of_chain| of_chain.chain.coin).collect();
    for ((chain, _), Foreign { taken, paid }) in foreign {
        // Of a transaction whose records have left in part nothing can be said, not even how it was booked.
        let asset = coin_of(chain).filter(|asset| archived.is_some() || !gone.contains(asset));
        let Some(asset) = asset else { continue };
        // What somebody took is short as far as it did not pay what we owed; what it paid beyond that is nobody's.
        let records = of.entry(asset).or_default();
        records.shortfall = records.shortfall.plus(taken.less(paid));
        records.suspense = records.suspense.plus(paid.less(taken));
    }
    (of, gone)
}

/// Whether a withdrawal's money is in flight. One that was planned before and waits for another plan has no hold any more.
fn is_in_flight(withdrawal: &Withdrawal) -> bool {
    match withdrawal.status {
        WithdrawalStatus::AwaitingApproval | WithdrawalStatus::Queued => withdrawal.hold.is_none(),
        WithdrawalStatus::Signing | WithdrawalStatus::Signed | WithdrawalStatus::Broadcast => true,
        WithdrawalStatus::Confirmed
        | WithdrawalStatus::Final
        | WithdrawalStatus::Cancelled
        | WithdrawalStatus::Refunded => false,
    }
}

/// A record that names a hold.
#[derive(Clone, Copy)]
enum Holder<'a> {
    Withdrawal(&'a Withdrawal),
    Deposit(&'a Deposit, AssetId),
}

/// Each open hold is one withdrawal's that waits for its plan, or one deposit's that is announced or missing, of the right amount
/// between the right accounts; and no record names another one.
pub(super) fn check_hold_records(state: &State, faults: &mut Vec<BookFault>) {
    let withdrawals = state.withdrawals().values();
    let withdrawals = withdrawals.filter_map(|withdrawal| Some((withdrawal.hold?, Holder::Withdrawal(withdrawal))));
    let deposits = state.deposits().values().filter_map(|deposit| {
        let of_chain = state.chains().get(&deposit.outpoint.chain)?;
        Some((deposit.hold?, Holder::Deposit(deposit, of_chain.chain.coin)))
    });
    let mut named: Vec<(HoldId, Holder<'_>)> = withdrawals.chain(deposits).collect();
    named.sort_by_key(|(hold, _)| *hold);
    let mut named = named.into_iter().peekable();
    for (&id, hold) in state.ledger().holds() {
        // What is named and is no hold.
        while let Some((hold, holder)) = named.next_if(|(named, _)| *named < id) {
            faults.push(BookFault::Hold { hold, asset: Some(holder.asset()) });
        }
        let holder = named.next_if(|(named, _)| *named == id).map(|(_, holder)| holder);
        let is_right = holder.is_some_and(|holder| holder.has(state, &hold.transfer));
        let mut is_shared = false;
        while named.next_if(|(named, _)| *named == id).is_some() {
            is_shared = true;
        }
        if !is_right || is_shared {
            let of_hold = || state.ledger().account(hold.transfer.debit).map(|account| account.asset);
            let asset = holder.map(Holder::asset).or_else(of_hold);
            faults.push(BookFault::Hold { hold: id, asset });
        }
    }
    faults.extend(named.map(|(hold, holder)| BookFault::Hold { hold, asset: Some(holder.asset()) }));
}

impl Holder<'_> {
    fn asset(self) -> AssetId {
        match self {
            Holder::Withdrawal(withdrawal) => withdrawal.asset,
            Holder::Deposit(_, asset) => asset,
        }
    }

    /// Whether a hold is as the record wants it.
    fn has(self, state: &State, transfer: &Transfer) -> bool {
        let Some(sides) = sides(state, transfer) else { return false };
        let amount = transfer.amount;
        sides.is_of(self.asset())
            && match self {
                Holder::Withdrawal(withdrawal) => {
                    matches!(withdrawal.status, WithdrawalStatus::AwaitingApproval | WithdrawalStatus::Queued)
                        && withdrawal.amount.checked_add(withdrawal.fee) == Some(amount)
                        && sides.are(&Owner::Customer(withdrawal.customer), HouseAccount::InFlight)
                }
                Holder::Deposit(deposit, _) => is_of_deposit(deposit, &sides, amount),
            }
    }
}

fn is_of_deposit(deposit: &Deposit, sides: &Sides<'_>, amount: Amount) -> bool {
    let owner = match &deposit.beneficiary {
        Beneficiary::Customer(customer) => Owner::Customer(*customer),
        Beneficiary::House(_) => Owner::House(HouseAccount::Inventory),
    };
    match deposit.status {
        DepositStatus::Seen | DepositStatus::Pending => {
            amount == deposit.amount && *sides.debit == Owner::House(HouseAccount::Clearing) && *sides.credit == owner
        }
        // As much as the customer still had is frozen.
        DepositStatus::Missing => amount <= deposit.amount && sides.are(&owner, HouseAccount::Shortfall),
        DepositStatus::Credited | DepositStatus::Reversed | DepositStatus::Replaced => false,
    }
}

/// Whose money a hold reserves, and for whom.
struct Sides<'a> {
    debit: &'a Owner,
    credit: &'a Owner,
    assets: [AssetId; 2],
}

impl Sides<'_> {
    fn is_of(&self, asset: AssetId) -> bool {
        self.assets == [asset; 2]
    }

    fn are(&self, debit: &Owner, credit: HouseAccount) -> bool {
        self.debit == debit && *self.credit == Owner::House(credit)
    }
}

fn sides<'a>(state: &'a State, transfer: &Transfer) -> Option<Sides<'a>> {
    let account = |id: AccountId| state.ledger().account(id);
    let (debit, credit) = (account(transfer.debit)?, account(transfer.credit)?);
    let assets = [debit.asset, credit.asset];
    Some(Sides { debit: &debit.owner, credit: &credit.owner, assets })
}
