//! What the sums must be after every row: conservation, no overdraft, coins, and each of the house's accounts explained by the records it stands for.

use super::custody::plan_status;
use super::{Auditor, FOLLOWED, Owner, Plan, deposit_status, withdrawal_status};
use std::collections::{BTreeMap, BTreeSet};

/// The schema's numbers of the house's accounts.
mod house {
    pub const BANK: u64 = 1;
    pub const INVENTORY: u64 = 2;
    pub const CLEARING: u64 = 6;
    pub const IN_FLIGHT: u64 = 7;
    pub const SUSPENSE: u64 = 8;
    pub const RECEIVABLES: u64 = 9;
    pub const SHORTFALL: u64 = 10;
}

/// A sum of amounts that may exceed 128 bits, as high and low part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Wide(u64, u128);

impl Wide {
    fn add(&mut self, amount: u128) {
        let (low, carried) = self.1.overflowing_add(amount);
        *self = Wide(self.0 + u64::from(carried), low);
    }
}

impl Auditor {
    /// All of it.
    pub(super) fn check(&self) -> Result<(), String> {
        self.check_accounts()?;
        self.check_custody()?;
        self.check_house()?;
        self.check_holds()
    }

    /// Debits are credits in every asset; no account is on its wrong side.
    fn check_accounts(&self) -> Result<(), String> {
        let mut sums: BTreeMap<u64, (Wide, Wide)> = BTreeMap::new();
        for (id, account) in &self.accounts {
            let sum = sums.entry(account.asset).or_default();
            sum.0.add(account.debits);
            sum.1.add(account.credits);
            let is_covered = |have: u128, owe: u128, held: u128| owe.checked_add(held).is_some_and(|owe| owe <= have);
            let owes = is_covered(account.credits, account.debits, account.debits_held);
            let owns = is_covered(account.debits, account.credits, account.credits_held);
            let is_right = match account.owner {
                Owner::Customer(_) => owes,
                Owner::Custody(_) => owns,
                Owner::House(house::INVENTORY | house::IN_FLIGHT | house::SUSPENSE) => owes,
                Owner::House(house::BANK | house::RECEIVABLES | house::SHORTFALL) => owns,
                Owner::House(_) | Owner::Plain(_) => true,
            };
            if !is_right {
                return Err(format!("account {id} of {:?} is overdrawn", account.owner));
            }
        }
        match sums.iter().find(|(_, sum)| sum.0 != sum.1) {
            Some((asset, sum)) => Err(format!("asset {asset} has {:?} in debits and {:?} in credits", sum.0, sum.1)),
            None => Ok(()),
        }
    }

    /// What plans have paid back to each wallet whose own confirmation is taken back already: in the middle of a block that is taken
    /// back in parts there may be some.
    fn change_without_plans(&self) -> BTreeMap<u64, u128> {
        let is_paid = |plan: &&Plan| (plan_status::CONFIRMED..plan_status::VOIDED).contains(&plan.status);
        let paid: BTreeSet<[u8; 32]> = self.plans_and_left().filter(is_paid).filter_map(|plan| plan.paid).collect();
        let mut change = BTreeMap::new();
        for (_, coin) in self.coins.iter().filter(|(at, coin)| coin.is_change && !paid.contains(&at.0)) {
            *change.entry(coin.wallet).or_default() += coin.amount;
        }
        change
    }

    /// The unspent coins of each wallet are what its account says.
    fn check_custody(&self) -> Result<(), String> {
        let mut custody: BTreeMap<u64, u128> = BTreeMap::new();
        for account in self.accounts.values() {
            if let Owner::Custody(wallet) = account.owner {
                let balance = account.debits.checked_sub(account.credits).ok_or("custody is negative")?;
                *custody.entry(wallet).or_default() += balance;
            }
        }
        let mut held: BTreeMap<u64, u128> = BTreeMap::new();
        for coin in self.coins.values().filter(|coin| !coin.is_spent) {
            *held.entry(coin.wallet).or_default() += coin.amount;
        }
        let change = self.change_without_plans();
        if !self.is_between && !change.is_empty() {
            return Err("change of a plan is there, and the plan's confirmation is not".into());
        }
        for wallet in custody.keys().chain(held.keys()) {
            let of = |sums: &BTreeMap<u64, u128>| sums.get(wallet).copied().unwrap_or(0);
            let (books, coins) = (of(&custody), of(&held));
            if books + of(&change) != coins {
                return Err(format!("wallet {wallet} has {coins} in coins and {books} in the books"));
            }
        }
        Ok(())
    }

    /// Debits and credits of one of the house's accounts, of the followed chain's coin.
    fn house(&self, number: u64) -> (u128, u128) {
        let coin = self.coins_of_chains.get(&FOLLOWED).copied();
        let is_it = |owner: &Owner, asset| *owner == Owner::House(number) && Some(asset) == coin;
        let account = self.accounts.values().find(|account| is_it(&account.owner, account.asset));
        account.map_or((0, 0), |account| (account.debits, account.credits))
    }

    /// What is in clearing, in flight, in suspense, short and owed is exactly what the records say.
    fn check_house(&self) -> Result<(), String> {
        let deposits = |status| {
            let of_it = self.deposits.values().filter(move |deposit| deposit.status == status);
            of_it.map(|deposit| deposit.amount).sum::<u128>()
        };
        let owed = self.deposits.values().filter(|deposit| deposit.status == deposit_status::REVERSED);
        let owed: u128 = owed.map(|deposit| deposit.amount.saturating_sub(deposit.debited)).sum();
        // What somebody took of us is short as far as it did not pay what we owed; what it paid beyond that is nobody's.
        let foreign = self.foreign_sums();
        let taken: u128 = foreign.values().map(|(taken, paid)| taken.saturating_sub(*paid)).sum();
        let given: u128 = foreign.values().map(|(taken, paid)| paid.saturating_sub(*taken)).sum();
        let odd: u128 = self.coins_and_left().filter(|coin| coin.is_suspense).map(|coin| coin.amount).sum();
        let in_flight: u128 = self
            .withdrawals
            .values()
            .filter(|withdrawal| withdrawal.is_in_flight())
            .map(|withdrawal| withdrawal.amount)
            .sum();
        let expected = [
            (house::CLEARING, "clearing", deposits(deposit_status::PENDING), true),
            (house::IN_FLIGHT, "in flight", in_flight, true),
            (house::SUSPENSE, "in suspense", odd + given, true),
            (house::SHORTFALL, "short", deposits(deposit_status::MISSING) + taken, false),
            (house::RECEIVABLES, "owed by customers", owed, false),
        ];
        for (number, name, amount, is_credit) in expected {
            let (debits, credits) = self.house(number);
            let (more, less) = if is_credit { (credits, debits) } else { (debits, credits) };
            if less.checked_add(amount) != Some(more) {
                return Err(format!("{amount} is {name} by the records, and {more} less {less} by the books"));
            }
        }
        Ok(())
    }

    /// Every hold is one withdrawal's that waits, or one deposit's that is announced or frozen, and of its amount.
    fn check_holds(&self) -> Result<(), String> {
        let mut used = 0;
        for withdrawal in self.withdrawals.values() {
            let Some(hold) = withdrawal.hold else { continue };
            used += 1;
            let held = self.holds.get(&hold).ok_or("a withdrawal's hold is not open")?.amount;
            let waits = withdrawal.status <= withdrawal_status::QUEUED;
            if !waits || held != withdrawal.amount + withdrawal.fee {
                return Err(format!(
                    "a hold of {held} is for a withdrawal of {} in {}",
                    withdrawal.amount, withdrawal.status
                ));
            }
        }
        for deposit in self.deposits.values() {
            let Some(hold) = deposit.hold else { continue };
            used += 1;
            let held = self.holds.get(&hold).ok_or("a deposit's hold is not open")?.amount;
            let is_right = match deposit.status {
                deposit_status::SEEN | deposit_status::PENDING => held == deposit.amount,
                deposit_status::MISSING => held <= deposit.amount,
                _ => false,
            };
            if !is_right {
                return Err(format!("a hold of {held} is for a deposit of {} in {}", deposit.amount, deposit.status));
            }
        }
        if used == self.holds.len() {
            Ok(())
        } else {
            Err(format!("{} holds are open, and {used} are somebody's", self.holds.len()))
        }
    }
}
